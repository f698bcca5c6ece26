/* The programs and statements of well-known texts about concurrent.futures, as tests of the thread
 * pool. Times are scaled down: what took a second there takes a UNIT here. */
#include "test.h"

#include "tasks.h"

#define UNIT (40 * CF_MILLISECOND)

static cf_future *submit_int(cf_executor *executor, cf_task_fn *fn, int n) {
    return cf_executor_submit(executor, fn, &n, sizeof n);
}

/* ---------------------------------------------------------------- loiter: map with 3 workers */

enum { LOITERERS = 5 };

typedef struct timeline {
    int64_t origin;
    _Atomic(int64_t) started[LOITERERS], ended[LOITERERS];
} timeline;

typedef struct loiterer {
    timeline *times;
    int n;
} loiterer;

static int task_loiter(cf_task *task, void *arg) {
    const loiterer *l = arg;
    atomic_store(&l->times->started[l->n], now() - l->times->origin);
    sleep_for(l->n * UNIT);
    atomic_store(&l->times->ended[l->n], now() - l->times->origin);
    return return_int(task, l->n * 10);
}

static int64_t started(timeline *times, int n) {
    return atomic_load(&times->started[n]);
}

static int64_t ended(timeline *times, int n) {
    return atomic_load(&times->ended[n]);
}

/* How many of the first `count` had ended when n started. */
static int ended_before(timeline *times, int n, int count) {
    int result = 0;
    for (int i = 0; i < count; i++) {
        result += ended(times, i) <= started(times, n);
    }
    return result;
}

/* Checks what holds on the slowest machine too: order, and that nothing is early. */
static void loiter(timeline *times) {
    static const int64_t due[LOITERERS] = {0, 1, 2, 3, 5};
    loiterer items[LOITERERS];
    cf_executor *executor = pool(3);
    times->origin = now();
    for (int n = 0; n < LOITERERS; n++) {
        items[n] = (loiterer){times, n};
    }
    cf_map_iter *results =
        cf_executor_map(executor, task_loiter, items, LOITERERS, sizeof items[0], NULL);
    CHECK_EQ(ended(times, 4), 0); /* map did not wait */
    for (int n = 0; n < LOITERERS; n++) {
        const int *result = cf_map_next(results, NULL);
        const int64_t at = now() - times->origin;
        CHECK(result != NULL);
        CHECK_EQ(*result, n * 10);
        CHECK(ended(times, n) <= at);
        CHECK(ended(times, n) >= due[n] * UNIT);
    }
    cf_map_close(results);
    cf_executor_close(executor);
    CHECK(ended_before(times, 3, 3) >= 1);
    CHECK(ended_before(times, 4, 4) >= 2);
    CHECK(ended(times, 4) < limit(5));
}

/* t = 0: 0, 1, 2 start; 0 ends and 3 starts. t = 1: 1 ends and 4 starts. 2 ends at 2, 3 at 3, 4 at
 * 5; the results come in the order of the calls. A loaded machine may disturb one run or two. */
TEST(loiter_follows_its_timeline) {
    bool followed = false;
    for (int run = 0; run < 5 && !followed; run++) {
        timeline times = {0};
        loiter(&times);
        followed = started(&times, 2) <= ended(&times, 1) &&
                   started(&times, 3) >= ended(&times, 0) &&
                   started(&times, 3) <= ended(&times, 1) &&
                   started(&times, 4) >= ended(&times, 1) &&
                   started(&times, 4) <= ended(&times, 2) && ended(&times, 2) <= ended(&times, 3) &&
                   ended(&times, 3) <= ended(&times, 4);
    }
    CHECK(followed);
}

/* ---------------------------------------------------------------- the head of the line */

enum { HEAD_AND_OTHERS = 4 };

/* int: the first one ends after all the others have. */
static int task_first_is_last(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    UNTIL(n > 0 || stats_of(cf_task_executor(task)).finished == HEAD_AND_OTHERS - 1);
    return return_int(task, n);
}

static gate others_are_delivered = GATE_INIT;

/* int: the first one ends when somebody says so. */
static int task_first_waits(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n == 0) {
        gate_await(&others_are_delivered);
    }
    return return_int(task, n);
}

TEST(the_first_result_of_a_map_blocks_the_others) {
    enum { COUNT = HEAD_AND_OTHERS };
    const int items[COUNT] = {0, 1, 2, 3};
    cf_executor *executor = pool(COUNT);
    cf_map_iter *iter =
        cf_executor_map(executor, task_first_is_last, items, COUNT, sizeof items[0], NULL);
    CHECK(cf_map_next(iter, NULL) != NULL);
    CHECK_EQ(stats_of(executor).finished, COUNT); /* the others have been there for long */
    for (int n = 1; n < COUNT; n++) {
        CHECK(cf_map_next(iter, NULL) != NULL);
        CHECK_EQ(cf_map_index(iter), n);
    }
    cf_map_close(iter);
    cf_executor_close(executor);
}

TEST(as_completed_delivers_the_others_first) {
    enum { COUNT = HEAD_AND_OTHERS };
    cf_executor *executor = pool(COUNT);
    cf_future *futures[COUNT];
    for (int n = 0; n < COUNT; n++) {
        futures[n] = submit_int(executor, task_first_waits, n);
    }
    cf_as_completed_iter *iter = cf_as_completed(futures, COUNT, CF_FOREVER);
    for (int n = 1; n < COUNT; n++) {
        const cf_future *next = cf_as_completed_next(iter, NULL, NULL);
        CHECK(next != NULL && next != futures[0]);
    }
    CHECK(!cf_future_done(futures[0]));
    gate_open(&others_are_delivered);
    CHECK(cf_as_completed_next(iter, NULL, NULL) == futures[0]);
    cf_as_completed_close(iter);
    release_all(futures, COUNT);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- a failure at 50 of 100 */

static int task_fetch(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    return n == 50 ? cf_task_fail(task, 0, "there is no page %d", n) : return_int(task, n + 1);
}

TEST(a_map_with_a_failure_at_50_goes_on_or_stops_there) {
    enum { COUNT = 100 };
    int items[COUNT];
    cf_executor *executor = pool(4);
    for (int n = 0; n < COUNT; n++) {
        items[n] = n;
    }
    for (int stop = 0; stop < 2; stop++) {
        const cf_map_options options = {.stop_on_error = stop != 0};
        cf_map_iter *iter =
            cf_executor_map(executor, task_fetch, items, COUNT, sizeof items[0], &options);
        for (int n = 0; n < (stop ? 51 : COUNT); n++) {
            cf_status status = CF_SYSTEM;
            const int *result = cf_map_next(iter, &status);
            CHECK_EQ(cf_map_index(iter), n);
            CHECK_STATUS(status, n == 50 ? CF_TASK_FAILED : CF_OK);
            CHECK(n == 50 ? result == NULL : *result == n + 1);
            CHECK_EQ(cf_map_error_code(iter), n == 50);
            CHECK_STR(cf_map_error_message(iter), n == 50 ? "there is no page 50" : "");
        }
        cf_status status = CF_OK;
        CHECK(cf_map_next(iter, &status) == NULL);
        CHECK_STATUS(status, CF_END);
        cf_map_close(iter);
    }
    cf_executor_close(executor);
}

TEST(as_completed_with_a_failure_at_50_processes_all) {
    enum { COUNT = 100 };
    cf_executor *executor = pool(5);
    cf_future *futures[COUNT];
    int pages = 0, failures = 0;
    for (int n = 0; n < COUNT; n++) {
        futures[n] = submit_int(executor, task_fetch, n);
    }
    cf_as_completed_iter *iter = cf_as_completed(futures, COUNT, CF_FOREVER);
    size_t index = 0;
    for (cf_future *next; (next = cf_as_completed_next(iter, &index, NULL)) != NULL;) {
        cf_status status = CF_SYSTEM;
        const int *page = cf_future_result(next, 0, &status);
        if (page == NULL) {
            CHECK_STATUS(status, CF_TASK_FAILED);
            CHECK_EQ(index, 50);
            failures++;
        } else {
            CHECK_EQ(*page, index + 1);
            pages++;
        }
    }
    CHECK_EQ(pages, 99);
    CHECK_EQ(failures, 1);
    cf_as_completed_close(iter);
    release_all(futures, COUNT);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- map without iteration */

typedef struct printer {
    atomic_int *bits;
    int n;
} printer;

static int task_print(cf_task *task, void *arg) {
    const printer *p = arg;
    (void)task;
    sleep_for(UNIT / 4);
    atomic_fetch_or(p->bits, 1 << p->n);
    return 0;
}

TEST(a_map_that_nobody_reads_runs_all_before_the_close_returns) {
    enum { COUNT = 10 };
    atomic_int bits = 0;
    printer items[COUNT];
    for (int n = 0; n < COUNT; n++) {
        items[n] = (printer){&bits, n};
    }
    cf_executor *executor = pool(3);
    const int64_t start = now();
    cf_map_iter *unread =
        cf_executor_map(executor, task_print, items, COUNT, sizeof items[0], NULL);
    cf_executor_close(executor);
    CHECK(now() - start >= UNIT); /* four rounds of a quarter */
    CHECK_EQ(atomic_load(&bits), 0x3ff);
    cf_map_close(unread);
}

/* ---------------------------------------------------------------- shutdown */

TEST(shutdown_waits_or_returns_at_once_and_ends_submission) {
    cf_executor *executor = pool(2);
    gate g = GATE_INIT;
    atomic_int ran = 0;
    occupy(executor, 2, &g);
    cf_future *pending = cf_executor_submit(executor, task_count, &ran, 0);
    CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_RUN_PENDING), CF_TIMEOUT);
    cf_future *refused = cf_executor_submit(executor, task_count, &ran, 0);
    CHECK(cf_future_done(refused));
    CHECK_STATUS(cf_future_wait(refused, 0), CF_SHUTDOWN);
    const int item = 1;
    cf_status status = CF_OK;
    cf_map_iter *iter = cf_executor_map(executor, task_square, &item, 1, sizeof item, NULL);
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_SHUTDOWN);
    cf_map_close(iter);
    CHECK_EQ(cf_future_state(pending), CF_STATE_PENDING);
    gate_open(&g);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK_STATUS(cf_future_wait(pending, 0), CF_OK);
    CHECK_EQ(atomic_load(&ran), 1);
    CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_RUN_PENDING), CF_OK);
    cf_future_release(pending);
    cf_future_release(refused);
    cf_executor_close(executor);
}

TEST(close_blocks_until_all_is_done) {
    enum { COUNT = 6 };
    cf_executor *executor = pool(2);
    cf_future *futures[COUNT];
    atomic_int bits = 0;
    const int64_t start = now();
    for (int n = 0; n < COUNT; n++) {
        const printer p = {&bits, n};
        futures[n] = cf_executor_submit(executor, task_print, &p, sizeof p);
    }
    cf_executor_close(executor);
    CHECK(now() - start >= 3 * (UNIT / 4));
    CHECK_EQ(atomic_load(&bits), 0x3f);
    for (int n = 0; n < COUNT; n++) {
        CHECK_EQ(cf_future_state(futures[n]), CF_STATE_FINISHED);
    }
    release_all(futures, COUNT);
}

/* ---------------------------------------------------------------- names of the threads */

static int task_thread_name(cf_task *task, void *arg) {
    char name[64] = "";
    (void)arg;
    FILE *file = fopen("/proc/thread-self/comm", "r");
    if (file == NULL || fgets(name, sizeof name, file) == NULL) {
        name[0] = '\0';
    }
    if (file != NULL) {
        fclose(file);
    }
    name[strcspn(name, "\n")] = '\0';
    return cf_task_return(task, name, strlen(name) + 1);
}

static void name_is(const cf_pool_options *options, const char *expected) {
    cf_executor *executor = pool_with(options);
    cf_future *future = cf_executor_submit(executor, task_thread_name, CF_NO_ARG);
    const char *name = cf_future_result(future, CF_FOREVER, NULL);
    CHECK_STR(name, expected);
    cf_future_release(future);
    cf_executor_close(executor);
}

TEST(a_task_sees_the_name_of_its_thread) {
    if (strncmp(test_backend(), "posix", 5) != 0 || access("/proc/thread-self/comm", R_OK) != 0) {
        SKIP("only the POSIX backend names threads, and only Linux tells");
    }
    name_is(&(cf_pool_options){.name = "fetch"}, "fetch_0");
    name_is(NULL, "cf_0");
    name_is(&(cf_pool_options){.name = "a-name-too-long-for-linux"}, "a-name-too-lo_0");
}

/* ---------------------------------------------------------------- results and callbacks */

TEST(a_result_that_is_late_is_there_later) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    const int n = 9;
    occupy(executor, 1, &g);
    cf_future *future = cf_executor_submit(executor, task_square, &n, sizeof n);
    cf_status status = CF_OK;
    const int64_t start = now();
    CHECK(cf_future_result(future, UNIT / 4, &status) == NULL);
    CHECK_STATUS(status, CF_TIMEOUT);
    CHECK(now() - start >= UNIT / 4);
    CHECK_EQ(cf_future_state(future), CF_STATE_PENDING);
    gate_open(&g);
    CHECK_EQ(int_of(future), 81);
    cf_future_release(future);
    cf_executor_close(executor);
}

typedef struct call {
    cf_future *future;
    gate made;
} call;

static void note_call(cf_future *future, void *user) {
    call *c = user;
    CHECK(cf_future_done(future));
    c->future = future;
    gate_arrive(&c->made);
}

TEST(a_callback_gets_the_future_and_done_does_not_block) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    call c = {.made = GATE_INIT};
    cf_future *future = cf_executor_submit(executor, task_block, &g, 0);
    CHECK(!cf_future_done(future));
    CHECK_STATUS(cf_future_add_done_callback(future, note_call, &c), CF_OK);
    gate_open(&g);
    gate_await_arrivals(&c.made, 1);
    CHECK(c.future == future);
    CHECK(cf_future_done(future));
    CHECK_STATUS(cf_future_add_done_callback(future, note_call, &c), CF_OK);
    CHECK_EQ(gate_arrivals(&c.made), 2);
    cf_future_release(future);
    cf_executor_close(executor);
}

TEST(a_future_from_as_completed_never_blocks) {
    enum { COUNT = 20 };
    cf_executor *executor = pool(3);
    cf_future *futures[COUNT];
    for (int n = 0; n < COUNT; n++) {
        futures[n] = submit_int(executor, n % 5 == 0 ? task_fail : task_square, n + 1);
    }
    cf_as_completed_iter *iter = cf_as_completed(futures, COUNT, CF_FOREVER);
    size_t index = 0;
    for (cf_future *next; (next = cf_as_completed_next(iter, &index, NULL)) != NULL;) {
        cf_status status = CF_TIMEOUT;
        const int *value = cf_future_result(next, 0, &status);
        CHECK_STATUS(status, index % 5 == 0 ? CF_TASK_FAILED : CF_OK);
        CHECK(index % 5 == 0 ? value == NULL : *value == (int)((index + 1) * (index + 1)));
    }
    CHECK_EQ(cf_as_completed_remaining(iter), 0);
    cf_as_completed_close(iter);
    release_all(futures, COUNT);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- mixtures and counts */

static int task_greet(cf_task *task, void *arg) {
    char text[64];
    const int length = snprintf(text, sizeof text, "hello, %s", (const char *)arg);
    return cf_task_return(task, text, (size_t)length + 1);
}

typedef struct ratio {
    double a, b;
} ratio;

static int task_divide(cf_task *task, void *arg) {
    const ratio *r = arg;
    const double q = r->a / r->b;
    return cf_task_return(task, &q, sizeof q);
}

TEST(functions_and_arguments_of_different_kinds_mix) {
    cf_executor *first = pool(2);
    cf_executor *second = pool(2);
    gate g = GATE_INIT;
    occupy(second, 2, &g);
    cf_future *futures[5] = {
        cf_executor_submit(first, task_square, CF_VALUE(int, 7)),
        cf_executor_submit(first, task_greet, CF_STRING("world")),
        cf_executor_submit(second, task_divide, CF_VALUE(ratio, 1, 4)),
        cf_executor_submit(second, task_nothing, CF_NO_ARG),
        cf_executor_submit(first, task_nothing, CF_POINTER(&g)),
    };
    CHECK(cf_future_cancel(futures[3]));
    gate_open(&g);
    cf_as_completed_iter *iter = cf_as_completed(futures, 5, CF_FOREVER);
    for (size_t i = 0; i < 5; i++) {
        CHECK(cf_as_completed_next(iter, NULL, NULL) != NULL);
    }
    cf_as_completed_close(iter);
    CHECK_EQ(int_of(futures[0]), 49);
    CHECK_STR(cf_future_result(futures[1], 0, NULL), "hello, world");
    const double *quotient = cf_future_result(futures[2], 0, NULL);
    CHECK(quotient != NULL && *quotient * 4 > 0.99 && *quotient * 4 < 1.01);
    CHECK(cf_future_cancelled(futures[3]));
    CHECK_EQ(cf_future_result_size(futures[4]), 0);
    release_all(futures, 5);
    cf_executor_close(first);
    cf_executor_close(second);
}

enum { HTTP_NOT_FOUND = 404, CONNECTION_REFUSED = 111 };

static int task_download(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    switch (n % 4) {
    case 1:
        return cf_task_fail(task, HTTP_NOT_FOUND, "not found");
    case 2:
        return cf_task_fail(task, CONNECTION_REFUSED, "connection refused");
    default:
        return return_int(task, n);
    }
}

TEST(errors_are_counted_by_kind_and_lose_no_other_item) {
    enum { COUNT = 20 };
    cf_executor *executor = pool(4);
    cf_future *futures[COUNT];
    int ok = 0, not_found = 0, refused = 0;
    for (int n = 0; n < COUNT; n++) {
        futures[n] = submit_int(executor, task_download, n);
    }
    cf_as_completed_iter *iter = cf_as_completed(futures, COUNT, CF_FOREVER);
    for (cf_future *next; (next = cf_as_completed_next(iter, NULL, NULL)) != NULL;) {
        ok += cf_future_wait(next, 0) == CF_OK;
        not_found += cf_future_error_code(next) == HTTP_NOT_FOUND;
        refused += cf_future_error_code(next) == CONNECTION_REFUSED;
    }
    CHECK(ok == 10 && not_found == 5 && refused == 5);
    cf_as_completed_close(iter);
    release_all(futures, COUNT);
    cf_executor_close(executor);
}

TEST(the_default_number_of_workers) {
    enum { COUNT = 40 };
    cf_executor *executor = pool_with(NULL);
    const size_t expected = cf_cpu_count() + 4 < 32 ? cf_cpu_count() + 4 : 32;
    gate g = GATE_INIT;
    for (size_t i = 0; i < COUNT; i++) {
        fire(executor, task_block, &g);
    }
    gate_await_arrivals(&g, expected);
    const cf_stats stats = stats_of(executor);
    CHECK_EQ(stats.workers, expected);
    CHECK_EQ(stats.running, expected);
    CHECK_EQ(stats.queued, COUNT - expected);
    CHECK_EQ(gate_arrivals(&g), expected);
    gate_open(&g);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- map or submit, whose states */

TEST(map_is_ordered_and_as_completed_is_not) {
    enum { COUNT = 3 };
    cf_executor *executor = pool(COUNT);
    gate gates[COUNT] = {GATE_INIT, GATE_INIT, GATE_INIT};
    cf_future *futures[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_block, &gates[i], 0);
    }
    cf_as_completed_iter *iter = cf_as_completed(futures, COUNT, CF_FOREVER);
    for (size_t i = COUNT; i > 0; i--) {
        gate_open(&gates[i - 1]);
        CHECK(cf_as_completed_next(iter, NULL, NULL) == futures[i - 1]);
    }
    cf_as_completed_close(iter);
    release_all(futures, COUNT);
    const int items[COUNT] = {1, 2, 3};
    cf_map_iter *squares =
        cf_executor_map(executor, task_square, items, COUNT, sizeof items[0], NULL);
    for (int n = 1; n <= COUNT; n++) {
        const int *square = cf_map_next(squares, NULL);
        CHECK(square != NULL && *square == n * n);
    }
    cf_map_close(squares);
    cf_executor_close(executor);
}

TEST(the_state_of_an_executors_future_is_not_the_users) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    const int n = 3;
    occupy(executor, 1, &g);
    cf_future *future = cf_executor_submit(executor, task_square, &n, sizeof n);
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(cf_future_set_result(future, &n, sizeof n), CF_INVALID_STATE);
        CHECK_STATUS(cf_future_set_error(future, 1, "no"), CF_INVALID_STATE);
        CHECK(!cf_future_set_running_or_notify_cancel(future));
        CHECK_EQ(cf_future_state(future), i == 0 ? CF_STATE_PENDING : CF_STATE_FINISHED);
        gate_open(&g);
        CHECK_EQ(int_of(future), 9);
    }
    cf_future_release(future);
    cf_executor_close(executor);
}

TEST_MAIN(
    RUN(loiter_follows_its_timeline)
    RUN(the_first_result_of_a_map_blocks_the_others)
    RUN(as_completed_delivers_the_others_first)
    RUN(a_map_with_a_failure_at_50_goes_on_or_stops_there)
    RUN(as_completed_with_a_failure_at_50_processes_all)
    RUN(a_map_that_nobody_reads_runs_all_before_the_close_returns)
    RUN(shutdown_waits_or_returns_at_once_and_ends_submission)
    RUN(close_blocks_until_all_is_done)
    RUN(a_task_sees_the_name_of_its_thread)
    RUN(a_result_that_is_late_is_there_later)
    RUN(a_callback_gets_the_future_and_done_does_not_block)
    RUN(a_future_from_as_completed_never_blocks)
    RUN(functions_and_arguments_of_different_kinds_mix)
    RUN(errors_are_counted_by_kind_and_lose_no_other_item)
    RUN(the_default_number_of_workers)
    RUN(map_is_ordered_and_as_completed_is_not)
    RUN(the_state_of_an_executors_future_is_not_the_users)
)
