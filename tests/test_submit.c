/* Submitting: arguments and who frees them, refusals, many at once, deadlines, what a task sees. */
#include "tasks.h"

/* ---------------------------------------------------------------- arguments */

/* Python's keyword arguments: a struct with one member an argument. */
typedef struct power {
    int base, exponent;
} power;

static int raise_to(cf_task *task, void *arg) {
    const power *p = arg;
    int product = 1;
    for (int i = 0; i < p->exponent; i++) {
        product *= p->base;
    }
    return return_int(task, product);
}

static int length_of(cf_task *task, void *arg) {
    CHECK_EQ(cf_task_arg_size(task), strlen(arg) + 1);
    return return_int(task, (int)strlen(arg));
}

static int address_of(cf_task *task, void *arg) {
    CHECK_EQ(cf_task_arg_size(task), 0);
    return cf_task_return(task, &arg, sizeof arg);
}

TEST(a_submitted_value_comes_back) {
    cf_executor *ex = pool(2);
    cf_future *f = cf_executor_submit(ex, task_square, CF_VALUE(int, 7));
    CHECK_EQ(int_of(f), 49);
    cf_future_release(f);
    f = cf_executor_submit(ex, raise_to, CF_VALUE(power, .exponent = 5, .base = 2));
    CHECK_EQ(int_of(f), 32);
    cf_future_release(f);
    f = cf_executor_submit(ex, length_of, CF_STRING("thirty-three bytes and some more of them"));
    CHECK_EQ(int_of(f), 40);
    cf_future_release(f);
    cf_executor_close(ex);
}

TEST(without_a_size_the_pointer_itself_is_passed) {
    cf_executor *ex = pool(1);
    int here = 0;
    cf_future *f = cf_executor_submit(ex, address_of, CF_POINTER(&here));
    CHECK_STATUS(outcome(f), CF_OK);
    CHECK(*(void *const *)cf_future_result(f, 0, NULL) == &here);
    cf_future_release(f);
    f = cf_executor_submit(ex, address_of, CF_NO_ARG);
    CHECK_STATUS(outcome(f), CF_OK);
    CHECK(*(void *const *)cf_future_result(f, 0, NULL) == NULL);
    cf_future_release(f);
    cf_executor_close(ex);
}

static int check_bytes(cf_task *task, void *arg) {
    const unsigned char *bytes = arg;
    const size_t size = cf_task_arg_size(task);
    CHECK_EQ((uintptr_t)arg % _Alignof(max_align_t), 0);
    for (size_t i = 0; i < size; i++) {
        CHECK_EQ(bytes[i], (unsigned char)(i * 11 + size));
    }
    return cf_task_return(task, &size, sizeof size);
}

/* The caller's bytes are overwritten before the first task can start. */
TEST(an_argument_of_any_size_is_copied_and_aligned) {
    const size_t sizes[] = {1, 2, 7, 8, 16, 31, 32, 33, 63, 64, 65, 1000, 4096, 1 << 20};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    cf_future *futures[COUNT];
    unsigned char *bytes = malloc(1 << 20);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t k = 0; k < sizes[i]; k++) {
            bytes[k] = (unsigned char)(k * 11 + sizes[i]);
        }
        futures[i] = cf_executor_submit(ex, check_bytes, bytes, sizes[i]);
    }
    memset(bytes, 0, 1 << 20);
    gate_open(&g);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_STATUS(outcome(futures[i]), CF_OK);
        CHECK_EQ(*(const size_t *)cf_future_result(futures[i], 0, NULL), sizes[i]);
    }
    free(bytes);
    cf_executor_close(ex);
    release_all(futures, COUNT);
}

/* The inline buffer may serve the argument first and the result then. */
static int return_own_argument(cf_task *task, void *arg) {
    return cf_task_return(task, arg, cf_task_arg_size(task));
}

static int buffer_own_argument(cf_task *task, void *arg) {
    const size_t size = cf_task_arg_size(task);
    const unsigned char first = *(const unsigned char *)arg;
    unsigned char *room = cf_task_result_buffer(task, size);
    CHECK(room != NULL);
    CHECK_EQ(*(const unsigned char *)arg, first);
    memmove(room, arg, size);
    return 0;
}

TEST(a_task_may_return_its_own_argument) {
    const size_t sizes[] = {1, 4, 31, 32, 33, 500};
    cf_task_fn *const functions[] = {return_own_argument, buffer_own_argument};
    unsigned char bytes[500];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i + 1);
    }
    cf_executor *ex = pool(1);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t k = 0; k < 2; k++) {
            cf_future *f = cf_executor_submit(ex, functions[k], bytes, sizes[i]);
            CHECK_STATUS(outcome(f), CF_OK);
            CHECK_EQ(cf_future_result_size(f), sizes[i]);
            CHECK(memcmp(cf_future_result(f, 0, NULL), bytes, sizes[i]) == 0);
            cf_future_release(f);
        }
    }
    cf_executor_close(ex);
}

static int change_argument_after_return(cf_task *task, void *arg) {
    int *n = arg;
    const int kept = *n;
    const int code = return_int(task, *n);
    *n = 99;
    CHECK_EQ(kept, 5);
    return code;
}

TEST(a_result_is_a_copy_also_of_the_argument) {
    cf_executor *ex = pool(1);
    cf_future *f = cf_executor_submit(ex, change_argument_after_return, CF_VALUE(int, 5));
    CHECK_EQ(int_of(f), 5);
    cf_future_release(f);
    cf_executor_close(ex);
}

static void count_result(cf_future *f, void *user) {
    CHECK_EQ(int_of(f), 49);
    atomic_fetch_add((atomic_int *)user, 1);
}

TEST(a_future_may_be_dropped_at_once_and_the_task_still_runs) {
    enum { TASKS = 500 };
    cf_executor *ex = pool(2);
    atomic_int ran = 0;
    atomic_int called = 0;
    for (int i = 0; i < TASKS; i++) {
        fire(ex, task_count, &ran);
        cf_future *f = cf_executor_submit(ex, task_square, CF_VALUE(int, 7));
        CHECK_STATUS(cf_future_add_done_callback(f, count_result, &called), CF_OK);
        cf_future_release(f);
    }
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&ran), TASKS);
    CHECK_EQ(atomic_load(&called), TASKS);
}

/* ---------------------------------------------------------------- refusals */

static void count_done(cf_future *f, void *user) {
    CHECK(cf_future_done(f));
    atomic_fetch_add((atomic_int *)user, 1);
}

/* That a future was refused for that reason, by every question that can be asked. Releases it. */
static void check_refused(cf_future *f, cf_status why) {
    CHECK(f != NULL);
    CHECK_EQ(cf_future_state(f), CF_STATE_FINISHED);
    CHECK(cf_future_done(f));
    CHECK(!cf_future_cancelled(f));
    CHECK(!cf_future_running(f));
    CHECK(!cf_future_cancel(f));
    CHECK_STATUS(cf_future_wait(f, CF_FOREVER), why);
    cf_status status = CF_OK;
    CHECK(cf_future_result(f, CF_FOREVER, &status) == NULL);
    CHECK_STATUS(status, why);
    CHECK_EQ(cf_future_result_size(f), 0);
    CHECK_EQ(cf_future_error_code(f), 0);
    CHECK(strlen(cf_future_error_message(f)) > 3);
    CHECK_STATUS(cf_future_set_result(f, NULL, 0), CF_INVALID_STATE);
    CHECK_STATUS(cf_future_set_error(f, 1, NULL), CF_INVALID_STATE);
    CHECK(!cf_future_set_running_or_notify_cancel(f));
    char expected[64], text[128];
    snprintf(expected, sizeof expected, " state=finished raised %s 0>", cf_status_name(why));
    cf_future_repr(f, text, sizeof text);
    CHECK(strstr(text, expected) != NULL);
    atomic_int called = 0;
    CHECK_STATUS(cf_future_add_done_callback(f, count_done, &called), CF_OK);
    CHECK_EQ(atomic_load(&called), 1);
    CHECK(cf_future_retain(f) == f);
    cf_future_release(f);
    cf_future_release(f);
}

TEST(without_an_executor_or_a_function_submit_is_invalid) {
    cf_executor *ex = pool(1);
    check_refused(cf_executor_submit(NULL, task_nothing, CF_NO_ARG), CF_INVALID);
    check_refused(cf_executor_submit(NULL, task_square, CF_VALUE(int, 1)), CF_INVALID);
    check_refused(cf_executor_submit(ex, NULL, CF_NO_ARG), CF_INVALID);
    check_refused(cf_executor_submit_with(NULL, task_nothing, CF_NO_ARG, NULL), CF_INVALID);
    cf_executor_close(ex);
}

TEST(a_size_that_overflows_is_refused) {
    cf_executor *ex = pool(1);
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 64};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        cf_future *f = cf_executor_submit(ex, task_nothing, "", sizes[i]);
        CHECK(f != NULL);
        const cf_status status = cf_future_wait(f, 0);
        CHECK(status == CF_INVALID || status == CF_NO_MEMORY);
        check_refused(f, status);
    }
    cf_executor_close(ex);
}

TEST(submit_after_shutdown_is_refused) {
    cf_executor *ex = pool(1);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    check_refused(cf_executor_submit(ex, task_nothing, CF_NO_ARG), CF_SHUTDOWN);
    check_refused(cf_executor_submit(ex, task_square, CF_VALUE(int, 2)), CF_SHUTDOWN);
    cf_executor_close(ex);
}

static int submit_from_within(cf_task *task, void *arg) {
    gate *g = arg;
    gate_arrive(g);
    gate_await(g);
    cf_future *f = cf_executor_submit(cf_task_executor(task), task_nothing, CF_NO_ARG);
    check_refused(f, CF_SHUTDOWN);
    return 0;
}

TEST(submit_by_a_task_after_shutdown_is_refused_too) {
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    cf_future *f = cf_executor_submit(ex, submit_from_within, CF_POINTER(&g));
    gate_await_arrivals(&g, 1);
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_RUN_PENDING), CF_TIMEOUT);
    gate_open(&g);
    CHECK_STATUS(outcome(f), CF_OK);
    cf_executor_close(ex);
    cf_future_release(f);
}

TEST(without_memory_submit_answers_with_a_future_that_says_so) {
    if (!test_alloc_hooked()) {
        SKIP("the allocator is not hooked");
    }
    char big[5000] = {0};
    cf_executor *ex = pool(1);
    test_alloc_fail(1, true);
    cf_future *f = NULL;
    for (int i = 0; i < 1000; i++) { /* until recycled objects are used up */
        f = cf_executor_submit(ex, task_nothing, big, sizeof big);
        if (cf_future_wait(f, 0) == CF_NO_MEMORY) {
            break;
        }
        cf_future_release(f);
    }
    cf_future *g = cf_executor_submit(ex, task_nothing, big, sizeof big);
    test_alloc_recover();
    check_refused(g, CF_NO_MEMORY);
    check_refused(f, CF_NO_MEMORY);
    f = cf_executor_submit(ex, task_square, CF_VALUE(int, 7));
    CHECK_EQ(int_of(f), 49);
    cf_future_release(f);
    cf_executor_close(ex);
}

/* ---------------------------------------------------------------- free_arg */

typedef struct argument {
    atomic_int freed;
    int code; /* what the task returns */
} argument;

static void count_free(void *ptr) {
    atomic_fetch_add(&((argument *)ptr)->freed, 1);
}

static int freed(argument *a) {
    return atomic_load(&a->freed);
}

static int use_argument(cf_task *task, void *arg) {
    argument *a = arg;
    (void)task;
    CHECK_EQ(freed(a), 0);
    return a->code;
}

static const cf_submit_options freeing = {.free_arg = count_free};

typedef struct watch {
    argument *argument;
    gate called;
} watch;

static void see_it_freed(cf_future *f, void *user) {
    watch *w = user;
    CHECK(cf_future_done(f));
    CHECK_EQ(freed(w->argument), 1);
    gate_open(&w->called);
}

TEST(free_arg_has_run_before_the_future_is_seen_done) {
    static argument arguments[300];
    static watch watches[300];
    cf_executor *ex = pool(2);
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 300, start); i++) {
        argument *const a = &arguments[i];
        watch *const w = &watches[i];
        a->code = i % 2;
        *w = (watch){a, GATE_INIT};
        cf_future *f = cf_executor_submit_with(ex, use_argument, CF_POINTER(a), &freeing);
        CHECK_STATUS(cf_future_add_done_callback(f, see_it_freed, w), CF_OK);
        if (i % 3 == 0) {
            UNTIL(cf_future_done(f));
        } else if (i % 3 == 1) {
            UNTIL(cf_future_state(f) == CF_STATE_FINISHED);
        } else {
            CHECK_STATUS(outcome(f), i % 2 == 0 ? CF_OK : CF_TASK_FAILED);
        }
        CHECK_EQ(freed(a), 1);
        gate_await(&w->called);
        cf_future_release(f);
        CHECK_EQ(freed(a), 1);
    }
    cf_executor_close(ex);
}

TEST(free_arg_has_run_when_cancel_returns) {
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    argument a = {0, 0};
    cf_future *f = cf_executor_submit_with(ex, use_argument, CF_POINTER(&a), &freeing);
    CHECK_EQ(freed(&a), 0);
    CHECK(cf_future_cancel(f));
    CHECK_EQ(freed(&a), 1);
    CHECK(cf_future_cancel(f));
    gate_open(&g);
    cf_executor_close(ex);
    CHECK_STATUS(cf_future_wait(f, 0), CF_CANCELLED);
    cf_future_release(f);
    CHECK_EQ(freed(&a), 1);
}

TEST(free_arg_has_run_when_shutdown_cancels) {
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    argument a[5] = {{0, 0}};
    cf_future *f[5];
    for (int i = 0; i < 5; i++) {
        f[i] = cf_executor_submit_with(ex, use_argument, CF_POINTER(&a[i]), &freeing);
    }
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
    for (int i = 0; i < 5; i++) {
        CHECK_STATUS(outcome(f[i]), CF_CANCELLED);
        CHECK_EQ(freed(&a[i]), 1);
    }
    gate_open(&g);
    cf_executor_close(ex);
    release_all(f, 5);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(freed(&a[i]), 1);
    }
}

/* Submits with free_arg, expects that refusal, and that the argument is free by then. */
static void check_freed_by_refusal(cf_executor *ex, cf_task_fn *fn, cf_status why) {
    argument a = {0, 0};
    cf_future *f = cf_executor_submit_with(ex, fn, CF_POINTER(&a), &freeing);
    CHECK_EQ(freed(&a), 1);
    check_refused(f, why);
    CHECK_EQ(freed(&a), 1);
}

static int fail_to_start(void *arg) {
    (void)arg;
    return 1;
}

TEST(free_arg_runs_once_on_every_refusal) {
    check_freed_by_refusal(NULL, use_argument, CF_INVALID);

    gate g = GATE_INIT;
    cf_executor *ex = pool_with(
        &(cf_pool_options){.max_workers = 1, .queue_limit = 1, .on_full = CF_FULL_REJECT});
    check_freed_by_refusal(ex, NULL, CF_INVALID);
    occupy(ex, 1, &g);
    fire(ex, task_nothing, NULL);
    check_freed_by_refusal(ex, use_argument, CF_QUEUE_FULL);
    gate_open(&g);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    check_freed_by_refusal(ex, use_argument, CF_SHUTDOWN);
    cf_executor_close(ex);

    ex = pool_with(&(cf_pool_options){.max_workers = 1, .initializer = fail_to_start});
    argument a = {0, 0};
    cf_future *f = cf_executor_submit_with(ex, use_argument, CF_POINTER(&a), &freeing);
    CHECK_STATUS(outcome(f), CF_BROKEN);
    CHECK_EQ(freed(&a), 1);
    cf_future_release(f);
    check_freed_by_refusal(ex, use_argument, CF_BROKEN);
    cf_executor_close(ex);
    CHECK_EQ(freed(&a), 1);

    ex = inline_executor();
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    check_freed_by_refusal(ex, use_argument, CF_SHUTDOWN);
    cf_executor_close(ex);
}

TEST(free_arg_runs_once_without_memory) {
    if (!test_alloc_hooked()) {
        SKIP("the allocator is not hooked");
    }
    enum { TRIES = 200 };
    static argument a[TRIES];
    cf_future *f[TRIES];
    int refused = 0;
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    test_alloc_fail(1, true);
    for (int i = 0; i < TRIES; i++) {
        f[i] = cf_executor_submit_with(ex, use_argument, CF_POINTER(&a[i]), &freeing);
        const bool is_refused = cf_future_wait(f[i], 0) == CF_NO_MEMORY;
        CHECK_EQ(freed(&a[i]), is_refused);
        refused += is_refused;
    }
    test_alloc_recover();
    CHECK(refused > 0);
    gate_open(&g);
    cf_executor_close(ex);
    release_all(f, TRIES);
    for (int i = 0; i < TRIES; i++) {
        CHECK_EQ(freed(&a[i]), 1);
    }
}

TEST(free_arg_with_a_copied_argument_is_invalid_and_not_called) {
    cf_executor *ex = pool(1);
    argument a = {0, 0};
    check_refused(cf_executor_submit_with(ex, use_argument, &a, sizeof a, &freeing), CF_INVALID);
    CHECK_EQ(freed(&a), 0);
    cf_executor_close(ex);
    CHECK_EQ(freed(&a), 0);
}

TEST(submit_with_defaults_is_submit) {
    cf_executor *ex = pool(1);
    const cf_submit_options none = {0};
    cf_future *a = cf_executor_submit_with(ex, task_square, CF_VALUE(int, 3), NULL);
    cf_future *b = cf_executor_submit_with(ex, task_square, CF_VALUE(int, 4), &none);
    CHECK_EQ(int_of(a), 9);
    CHECK_EQ(int_of(b), 16);
    cf_executor_close(ex);
    cf_future_release(a);
    cf_future_release(b);
}

typedef struct nested {
    cf_executor *executor;
    cf_future *to_cancel;
    cf_future *submitted;
    atomic_int freed;
} nested;

static void free_with_calls(void *ptr) {
    nested *n = ptr;
    cf_stats stats;
    cf_executor_stats(n->executor, &stats);
    if (n->to_cancel != NULL) {
        CHECK(cf_future_cancel(n->to_cancel));
    }
    n->submitted = cf_executor_submit(n->executor, task_square, CF_VALUE(int, 5));
    atomic_fetch_add(&n->freed, 1);
}

TEST(no_lock_is_held_while_free_arg_runs) {
    const cf_submit_options options = {.free_arg = free_with_calls};
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    nested runs = {ex, NULL, NULL, 0};
    nested cancelled = {ex, NULL, NULL, 0};
    cf_future *a = cf_executor_submit_with(ex, task_nothing, CF_POINTER(&runs), &options);
    cf_future *b = cf_executor_submit_with(ex, task_nothing, CF_POINTER(&cancelled), &options);
    cancelled.to_cancel = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK(cf_future_cancel(b));
    CHECK_EQ(atomic_load(&cancelled.freed), 1);
    gate_open(&g);
    CHECK_STATUS(outcome(a), CF_OK);
    CHECK_EQ(atomic_load(&runs.freed), 1);
    CHECK_EQ(int_of(runs.submitted), 25);
    CHECK_EQ(int_of(cancelled.submitted), 25);
    cf_executor_close(ex);
    cf_future *all[] = {a, b, cancelled.to_cancel, runs.submitted, cancelled.submitted};
    release_all(all, 5);
}

/* ---------------------------------------------------------------- many at once */

TEST(many_are_submitted_with_one_call) {
    enum { COUNT = 1000 };
    int items[COUNT];
    cf_future *futures[COUNT];
    for (int i = 0; i < COUNT; i++) {
        items[i] = i;
    }
    cf_executor *ex = pool(3);
    CHECK_STATUS(cf_executor_submit_many(ex, task_square, items, COUNT, sizeof items[0], futures),
                 CF_OK);
    memset(items, 0xff, sizeof items);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(int_of(futures[i]), i * i);
    }
    cf_executor_close(ex);
    release_all(futures, COUNT);
}

TEST(many_items_are_copied_before_the_call_returns) {
    enum { COUNT = 20, SIZE = 100 };
    unsigned char items[COUNT][SIZE];
    cf_future *futures[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t k = 0; k < SIZE; k++) {
            items[i][k] = (unsigned char)(k * 11 + SIZE);
        }
    }
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    CHECK_STATUS(cf_executor_submit_many(ex, check_bytes, items, COUNT, SIZE, futures), CF_OK);
    memset(items, 0, sizeof items);
    gate_open(&g);
    for (int i = 0; i < COUNT; i++) {
        CHECK_STATUS(outcome(futures[i]), CF_OK);
    }
    cf_executor_close(ex);
    release_all(futures, COUNT);
}

TEST(none_of_many_is_no_error) {
    cf_executor *ex = pool(1);
    cf_future *none[1] = {NULL};
    CHECK_STATUS(cf_executor_submit_many(ex, task_square, NULL, 0, sizeof(int), none), CF_OK);
    CHECK(none[0] == NULL);
    CHECK_EQ(stats_of(ex).submitted, 0);
    cf_executor_close(ex);
}

TEST(many_without_a_size_are_given_the_items_themselves) {
    cf_executor *ex = pool(2);
    atomic_int count = 0;
    cf_future *futures[10];
    CHECK_STATUS(cf_executor_submit_many(ex, task_count, &count, 10, 0, futures), CF_OK);
    for (int i = 0; i < 10; i++) {
        CHECK_STATUS(outcome(futures[i]), CF_OK);
    }
    CHECK_EQ(atomic_load(&count), 10);
    cf_executor_close(ex);
    release_all(futures, 10);
}

TEST(many_without_room_for_futures_are_invalid_and_none_runs) {
    cf_executor *ex = pool(1);
    atomic_int count = 0;
    CHECK_STATUS(cf_executor_submit_many(ex, task_count, &count, 10, 0, NULL), CF_INVALID);
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&count), 0);
}

TEST(many_refused_fill_every_slot) {
    const int items[3] = {1, 2, 3};
    cf_future *futures[3];
    cf_executor *ex = pool(1);
    CHECK_STATUS(cf_executor_submit_many(NULL, task_square, items, 3, sizeof(int), futures),
                 CF_INVALID);
    for (int i = 0; i < 3; i++) {
        check_refused(futures[i], CF_INVALID);
    }
    CHECK_STATUS(cf_executor_submit_many(ex, NULL, items, 3, sizeof(int), futures), CF_INVALID);
    for (int i = 0; i < 3; i++) {
        check_refused(futures[i], CF_INVALID);
    }
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK_STATUS(cf_executor_submit_many(ex, task_square, items, 3, sizeof(int), futures),
                 CF_SHUTDOWN);
    for (int i = 0; i < 3; i++) {
        check_refused(futures[i], CF_SHUTDOWN);
    }
    cf_executor_close(ex);
}

TEST(many_whose_size_overflows_are_refused) {
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX / 2 + 1, SIZE_MAX / 3 + 1};
    cf_executor *ex = pool(1);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        cf_future *futures[4] = {NULL};
        const cf_status status =
            cf_executor_submit_many(ex, task_nothing, "", 4, sizes[i], futures);
        CHECK(status == CF_INVALID || status == CF_NO_MEMORY);
        for (int k = 0; k < 4; k++) {
            check_refused(futures[k], status);
        }
    }
    cf_executor_close(ex);
}

TEST(of_many_those_that_fit_a_bounded_queue_run) {
    cf_executor *ex = pool_with(
        &(cf_pool_options){.max_workers = 1, .queue_limit = 2, .on_full = CF_FULL_REJECT});
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    const int items[5] = {1, 2, 3, 4, 5};
    cf_future *futures[5];
    CHECK_STATUS(cf_executor_submit_many(ex, task_square, items, 5, sizeof(int), futures),
                 CF_QUEUE_FULL);
    for (int i = 2; i < 5; i++) {
        check_refused(futures[i], CF_QUEUE_FULL);
    }
    gate_open(&g);
    CHECK_EQ(int_of(futures[0]), 1);
    CHECK_EQ(int_of(futures[1]), 4);
    cf_executor_close(ex);
    release_all(futures, 2);
}

TEST(many_pass_through_a_small_blocking_queue) {
    enum { COUNT = 500 };
    cf_executor *ex = pool_with(&(cf_pool_options){.max_workers = 2, .queue_limit = 2});
    atomic_int count = 0;
    cf_future *futures[COUNT];
    CHECK_STATUS(cf_executor_submit_many(ex, task_count, &count, COUNT, 0, futures), CF_OK);
    for (int i = 0; i < COUNT; i++) {
        CHECK_STATUS(outcome(futures[i]), CF_OK);
    }
    CHECK_EQ(atomic_load(&count), COUNT);
    cf_executor_close(ex);
    release_all(futures, COUNT);
}

TEST(many_without_memory_fail_one_by_one) {
    if (!test_alloc_hooked()) {
        SKIP("the allocator is not hooked");
    }
    enum { COUNT = 30, SIZE = 1000 };
    static unsigned char items[COUNT][SIZE];
    for (size_t n = 1; n < 40; n++) {
        cf_executor *ex = pool(1);
        cf_future *futures[COUNT] = {NULL};
        test_alloc_fail(n, true);
        const cf_status status =
            cf_executor_submit_many(ex, task_nothing, items, COUNT, SIZE, futures);
        test_alloc_recover();
        bool any_refused = false;
        for (int i = 0; i < COUNT; i++) {
            CHECK(futures[i] != NULL);
            const cf_status one = outcome(futures[i]);
            CHECK(one == CF_OK || one == CF_NO_MEMORY || one == CF_SYSTEM);
            any_refused = any_refused || one != CF_OK;
        }
        CHECK_EQ(status != CF_OK, any_refused);
        cf_executor_close(ex);
        release_all(futures, COUNT);
    }
}

/* ---------------------------------------------------------------- the task's own deadline */

typedef struct overdue {
    int code;     /* what the task returns after its deadline */
    bool returns; /* with a result */
    gate *at_deadline;
    gate *go;
} overdue;

static void free_now(void *ptr) {
    free(ptr);
}

static int outstay(cf_task *task, void *arg) {
    const overdue *o = arg;
    UNTIL(cf_task_stop_requested(task));
    if (o->at_deadline != NULL) {
        gate_open(o->at_deadline);
        gate_await(o->go);
    }
    if (o->returns) {
        CHECK_EQ(cf_task_return_owned(task, malloc(10), 10, free_now), 0);
    }
    return o->code != 0 ? cf_task_fail(task, o->code, "too late") : 0;
}

TEST(a_task_past_its_deadline_ends_with_task_timeout_whatever_it_returns) {
    const cf_submit_options options = {.timeout = 10 * CF_MILLISECOND};
    cf_executor *ex = pool(1);
    for (int i = 0; i < 4; i++) {
        const overdue o = {i % 2 == 0 ? 0 : 7, i < 2, NULL, NULL};
        const int64_t start = now();
        cf_future *f = cf_executor_submit_with(ex, outstay, &o, sizeof o, &options);
        CHECK_STATUS(outcome(f), CF_TASK_TIMEOUT);
        CHECK(now() - start >= options.timeout);
        cf_status status = CF_OK;
        CHECK(cf_future_result(f, 0, &status) == NULL);
        CHECK_STATUS(status, CF_TASK_TIMEOUT);
        CHECK_EQ(cf_future_state(f), CF_STATE_FINISHED);
        CHECK_EQ(cf_future_result_size(f), 0);
        CHECK_EQ(cf_future_error_code(f), 0);
        CHECK(strlen(cf_future_error_message(f)) > 3);
        char text[128];
        cf_future_repr(f, text, sizeof text);
        CHECK(strstr(text, "state=finished raised CF_TASK_TIMEOUT 0>") != NULL);
        cf_future_release(f);
    }
    cf_executor_close(ex);
}

TEST(a_task_past_its_deadline_is_running_until_it_returns) {
    const cf_submit_options options = {.timeout = 10 * CF_MILLISECOND};
    cf_executor *ex = pool(1);
    gate at_deadline = GATE_INIT;
    gate go = GATE_INIT;
    const overdue o = {0, false, &at_deadline, &go};
    cf_future *f = cf_executor_submit_with(ex, outstay, &o, sizeof o, &options);
    gate_await(&at_deadline);
    CHECK_EQ(cf_future_state(f), CF_STATE_RUNNING);
    CHECK_STATUS(cf_future_wait(f, 0), CF_TIMEOUT);
    CHECK(!cf_future_cancel(f));
    gate_open(&go);
    CHECK_STATUS(outcome(f), CF_TASK_TIMEOUT);
    cf_future_release(f);
    cf_executor_close(ex);
}

static int sleep_past(cf_task *task, void *arg) {
    sleep_for(*(const cf_duration *)arg);
    return return_int(task, 1);
}

TEST(a_task_that_never_asks_is_judged_when_it_returns) {
    const cf_submit_options options = {.timeout = 5 * CF_MILLISECOND};
    const cf_duration nap = 20 * CF_MILLISECOND;
    cf_executor *ex = pool(1);
    cf_future *f = cf_executor_submit_with(ex, sleep_past, &nap, sizeof nap, &options);
    CHECK_STATUS(outcome(f), CF_TASK_TIMEOUT);
    cf_future_release(f);
    cf_executor_close(ex);
}

/* The wait in the queue alone would use the deadline up; start and end are close together. */
TEST(the_deadline_counts_from_the_start_and_not_from_submit) {
    const cf_submit_options options = {.timeout = limit(1) / 5};
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    cf_future *f = cf_executor_submit_with(ex, task_square, CF_VALUE(int, 4), &options);
    sleep_for(options.timeout + 1);
    gate_open(&g);
    CHECK_EQ(int_of(f), 16);
    cf_executor_close(ex);
    cf_future_release(f);
}

TEST(a_deadline_that_is_far_or_none_changes_nothing) {
    const cf_duration timeouts[] = {0, -1, CF_FOREVER, INT64_MIN, INT64_MAX, 3600 * CF_SECOND};
    cf_executor *ex = pool(1);
    for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
        const cf_submit_options options = {.timeout = timeouts[i]};
        cf_future *f = cf_executor_submit_with(ex, task_square, CF_VALUE(int, 6), &options);
        CHECK_EQ(int_of(f), 36);
        cf_future_release(f);
    }
    cf_executor_close(ex);
}

TEST(one_tasks_deadline_is_not_anothers) {
    const cf_submit_options options = {.timeout = 10 * CF_MILLISECOND};
    cf_executor *ex = pool(1);
    const overdue o = {0, false, NULL, NULL};
    cf_future *late = cf_executor_submit_with(ex, outstay, &o, sizeof o, &options);
    cf_future *next = cf_executor_submit(ex, task_square, CF_VALUE(int, 9));
    CHECK_STATUS(outcome(late), CF_TASK_TIMEOUT);
    CHECK_EQ(int_of(next), 81);
    cf_executor_close(ex);
    cf_future_release(late);
    cf_future_release(next);
}

TEST(free_arg_runs_once_past_a_deadline) {
    const cf_submit_options options = {.free_arg = count_free, .timeout = 1};
    cf_executor *ex = pool(1);
    argument a = {0, 0};
    cf_future *f = cf_executor_submit_with(ex, use_argument, CF_POINTER(&a), &options);
    const cf_status status = outcome(f);
    CHECK(status == CF_TASK_TIMEOUT || status == CF_OK);
    CHECK_EQ(freed(&a), 1);
    cf_executor_close(ex);
    cf_future_release(f);
    CHECK_EQ(freed(&a), 1);
}

/* ---------------------------------------------------------------- what a task sees */

typedef struct place {
    cf_executor *executor;
    gate *gate;
    atomic_uint *seen; /* a bit for each worker */
} place;

static int look_around(cf_task *task, void *arg) {
    const place *p = arg;
    CHECK(cf_task_executor(task) == p->executor);
    CHECK_EQ(cf_task_arg_size(task), sizeof *p);
    CHECK(!cf_task_stop_requested(task));
    const size_t worker = cf_task_worker(task);
    CHECK(worker < 4);
    const unsigned before = atomic_fetch_or(p->seen, 1U << worker);
    CHECK_EQ(before & (1U << worker), 0);
    gate_arrive(p->gate);
    gate_await(p->gate);
    CHECK_EQ(cf_task_worker(task), worker);
    return 0;
}

TEST(workers_that_run_at_once_have_different_indices) {
    enum { WORKERS = 4 };
    cf_executor *ex = pool(WORKERS);
    gate g = GATE_INIT;
    atomic_uint seen = 0;
    const place p = {ex, &g, &seen};
    cf_future *f[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        f[i] = cf_executor_submit(ex, look_around, &p, sizeof p);
    }
    gate_await_arrivals(&g, WORKERS);
    CHECK_EQ(atomic_load(&seen), (1U << WORKERS) - 1);
    gate_open(&g);
    for (int i = 0; i < WORKERS; i++) {
        CHECK_STATUS(outcome(f[i]), CF_OK);
    }
    cf_executor_close(ex);
    release_all(f, WORKERS);
}

static int see_the_request(cf_task *task, void *arg) {
    gate *g = arg;
    CHECK(!cf_task_stop_requested(task));
    gate_arrive(g);
    gate_await(g);
    CHECK(cf_task_stop_requested(task));
    return return_int(task, 3);
}

TEST(cancel_of_a_running_task_is_refused_and_the_task_is_told) {
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    cf_future *f = cf_executor_submit(ex, see_the_request, CF_POINTER(&g));
    gate_await_arrivals(&g, 1);
    CHECK(!cf_future_cancel(f));
    CHECK_EQ(cf_future_state(f), CF_STATE_RUNNING);
    gate_open(&g);
    CHECK_EQ(int_of(f), 3);
    CHECK(!cf_future_cancel(f));
    CHECK(!cf_future_cancelled(f));
    cf_executor_close(ex);
    cf_future_release(f);
}

static int see_no_request(cf_task *task, void *arg) {
    (void)arg;
    CHECK(!cf_task_stop_requested(task));
    return 0;
}

TEST(a_stop_request_does_not_reach_the_next_task) {
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    cf_future *f = cf_executor_submit(ex, see_the_request, CF_POINTER(&g));
    gate_await_arrivals(&g, 1);
    cf_future *next = cf_executor_submit(ex, see_no_request, CF_NO_ARG);
    CHECK(!cf_future_cancel(f));
    gate_open(&g);
    CHECK_STATUS(outcome(next), CF_OK);
    cf_future_release(f);
    cf_future_release(next);
    next = cf_executor_submit(ex, see_no_request, CF_NO_ARG);
    CHECK_STATUS(outcome(next), CF_OK);
    cf_future_release(next);
    cf_executor_close(ex);
}

/* Plain memory on purpose: submit and the end of a task order it, and a race detector can tell. */
typedef struct plain {
    int written_before, written_inside;
} plain;

static int write_plainly(cf_task *task, void *arg) {
    plain *p = arg;
    (void)task;
    p->written_inside = p->written_before + 1;
    return 0;
}

TEST(memory_written_before_submit_and_inside_is_seen_after) {
    cf_executor *ex = pool(2);
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 300, start); i++) {
        plain p = {i, 0};
        cf_future *f = cf_executor_submit(ex, write_plainly, CF_POINTER(&p));
        if (i % 2 == 0) {
            CHECK_STATUS(outcome(f), CF_OK);
        } else {
            UNTIL(cf_future_done(f));
        }
        CHECK_EQ(p.written_inside, i + 1);
        cf_future_release(f);
    }
    cf_executor_close(ex);
}

/* ---------------------------------------------------------------- from many threads */

typedef struct producer {
    cf_executor *executor;
    atomic_int *ran;
    atomic_int *cancelled;
    gate *start;
} producer;

enum { PRODUCERS = 4, EACH = 500 };

static void *produce(void *arg) {
    producer *p = arg;
    gate_await(p->start);
    for (int i = 0; i < EACH; i++) {
        fire(p->executor, task_count, p->ran);
    }
    return NULL;
}

TEST(tasks_of_several_submitters_all_run_once) {
    cf_executor *ex = pool(2);
    gate start = GATE_INIT;
    atomic_int ran = 0;
    producer p = {ex, &ran, NULL, &start};
    pthread_t threads[PRODUCERS];
    for (int i = 0; i < PRODUCERS; i++) {
        spawn(&threads[i], produce, &p);
    }
    gate_open(&start);
    for (int i = 0; i < PRODUCERS; i++) {
        join(threads[i]);
    }
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&ran), PRODUCERS * EACH);
}

static int submit_more(cf_task *task, void *arg) {
    for (int i = 0; i < 100; i++) {
        fire(cf_task_executor(task), task_count, arg);
    }
    return 0;
}

TEST(what_tasks_submit_runs_too) {
    cf_executor *ex = pool(2);
    atomic_int ran = 0;
    cf_future *f[20];
    for (int i = 0; i < 20; i++) {
        f[i] = cf_executor_submit(ex, submit_more, CF_POINTER(&ran));
    }
    for (int i = 0; i < 20; i++) {
        CHECK_STATUS(outcome(f[i]), CF_OK);
    }
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&ran), 20 * 100);
    release_all(f, 20);
}

typedef struct fate {
    atomic_int ran, freed, called;
    cf_future *future;
} fate;

static int run_fate(cf_task *task, void *arg) {
    (void)task;
    atomic_fetch_add(&((fate *)arg)->ran, 1);
    return 0;
}

static void free_fate(void *ptr) {
    atomic_fetch_add(&((fate *)ptr)->freed, 1);
}

static void call_fate(cf_future *f, void *user) {
    CHECK(cf_future_done(f));
    atomic_fetch_add(&((fate *)user)->called, 1);
}

enum { FATES = 3000 };

typedef struct canceller {
    fate *fates;
    gate go;
    bool won[FATES];
} canceller;

static void *cancel_all(void *arg) {
    canceller *c = arg;
    gate_await(&c->go);
    for (int i = FATES - 1; i >= 0; i--) {
        c->won[i] = cf_future_cancel(c->fates[i].future);
    }
    return NULL;
}

TEST(of_cancel_and_run_exactly_one_happens) {
    static fate fates[FATES];
    static canceller c = {fates, GATE_INIT, {false}};
    const cf_submit_options options = {.free_arg = free_fate};
    cf_executor *ex = pool(2);
    gate g = GATE_INIT;
    occupy(ex, 2, &g);
    for (int i = 0; i < FATES; i++) {
        fate *const it = &fates[i];
        it->future = cf_executor_submit_with(ex, run_fate, CF_POINTER(it), &options);
        CHECK_STATUS(cf_future_add_done_callback(it->future, call_fate, it), CF_OK);
    }
    pthread_t thread;
    spawn(&thread, cancel_all, &c);
    gate_open(&g);
    gate_open(&c.go);
    join(thread);
    cf_executor_close(ex);
    for (int i = 0; i < FATES; i++) {
        CHECK_EQ(atomic_load(&fates[i].ran), c.won[i] ? 0 : 1);
        CHECK_EQ(atomic_load(&fates[i].freed), 1);
        CHECK_EQ(atomic_load(&fates[i].called), 1);
        CHECK_STATUS(cf_future_wait(fates[i].future, 0), c.won[i] ? CF_CANCELLED : CF_OK);
        cf_future_release(fates[i].future);
    }
}

/* ---------------------------------------------------------------- every allocation fails once */

static bool is_expected_without_memory(cf_status status) {
    return status == CF_OK || status == CF_NO_MEMORY || status == CF_SYSTEM;
}

/* A little of everything that allocates: what succeeds is right, what does not says why. */
static void use_everything(void) {
    enum { MANY = 3 };
    const int items[MANY] = {1, 2, 3};
    char big[200] = "a string that is too long for any buffer inside a future, at least today";
    argument a = {0, 0};
    cf_status status = CF_OK;
    cf_executor *ex = cf_thread_pool_new(&(cf_pool_options){.max_workers = 2}, &status);
    CHECK(is_expected_without_memory(status));
    CHECK_EQ(ex != NULL, status == CF_OK);
    if (ex == NULL) {
        return;
    }
    cf_future *f[MANY + 3];
    status = cf_executor_submit_many(ex, task_square, items, MANY, sizeof items[0], f);
    CHECK(is_expected_without_memory(status));
    f[MANY] = cf_executor_submit(ex, return_own_argument, big, sizeof big);
    f[MANY + 1] = cf_executor_submit_with(ex, use_argument, CF_POINTER(&a), &freeing);
    f[MANY + 2] = cf_executor_submit(ex, task_fail, CF_VALUE(int, 5));
    atomic_int called = 0;
    const cf_status added = cf_future_add_done_callback(f[MANY], count_done, &called);
    CHECK(added == CF_OK || added == CF_NO_MEMORY);
    for (int i = 0; i < MANY + 2; i++) {
        CHECK(is_expected_without_memory(outcome(f[i])));
    }
    if (cf_future_wait(f[MANY], 0) == CF_OK) {
        CHECK_STR(cf_future_result(f[MANY], 0, NULL), big);
    }
    const cf_status failed = outcome(f[MANY + 2]);
    CHECK(failed == CF_TASK_FAILED || is_expected_without_memory(failed));
    cf_executor_close(ex);
    CHECK_EQ(freed(&a), 1);
    CHECK_EQ(atomic_load(&called), added == CF_OK);
    release_all(f, MANY + 3);
}

static size_t sweep(bool onward) {
    size_t n = 1;
    for (bool failed = true; failed; n++) {
        const size_t blocks = test_alloc_live();
        const size_t failures = test_alloc_failures();
        test_alloc_fail(n, onward);
        use_everything();
        test_alloc_recover();
        failed = test_alloc_failures() != failures;
        CHECK_EQ(test_alloc_live(), blocks);
        CHECK(n < 1000);
    }
    return n;
}

TEST(every_single_allocation_may_fail) {
    if (!test_alloc_hooked()) {
        SKIP("the allocator is not hooked");
    }
    CHECK(sweep(false) > 3);
}

TEST(memory_may_run_out_at_every_allocation) {
    if (!test_alloc_hooked()) {
        SKIP("the allocator is not hooked");
    }
    CHECK(sweep(true) > 3);
}

TEST_MAIN(
    RUN(a_submitted_value_comes_back)
    RUN(without_a_size_the_pointer_itself_is_passed)
    RUN(an_argument_of_any_size_is_copied_and_aligned)
    RUN(a_task_may_return_its_own_argument)
    RUN(a_result_is_a_copy_also_of_the_argument)
    RUN(a_future_may_be_dropped_at_once_and_the_task_still_runs)
    RUN(without_an_executor_or_a_function_submit_is_invalid)
    RUN(a_size_that_overflows_is_refused)
    RUN(submit_after_shutdown_is_refused)
    RUN(submit_by_a_task_after_shutdown_is_refused_too)
    RUN(without_memory_submit_answers_with_a_future_that_says_so)
    RUN(free_arg_has_run_before_the_future_is_seen_done)
    RUN(free_arg_has_run_when_cancel_returns)
    RUN(free_arg_has_run_when_shutdown_cancels)
    RUN(free_arg_runs_once_on_every_refusal)
    RUN(free_arg_runs_once_without_memory)
    RUN(free_arg_with_a_copied_argument_is_invalid_and_not_called)
    RUN(submit_with_defaults_is_submit)
    RUN(no_lock_is_held_while_free_arg_runs)
    RUN(many_are_submitted_with_one_call)
    RUN(many_items_are_copied_before_the_call_returns)
    RUN(none_of_many_is_no_error)
    RUN(many_without_a_size_are_given_the_items_themselves)
    RUN(many_without_room_for_futures_are_invalid_and_none_runs)
    RUN(many_refused_fill_every_slot)
    RUN(many_whose_size_overflows_are_refused)
    RUN(of_many_those_that_fit_a_bounded_queue_run)
    RUN(many_pass_through_a_small_blocking_queue)
    RUN(many_without_memory_fail_one_by_one)
    RUN(a_task_past_its_deadline_ends_with_task_timeout_whatever_it_returns)
    RUN(a_task_past_its_deadline_is_running_until_it_returns)
    RUN(a_task_that_never_asks_is_judged_when_it_returns)
    RUN(the_deadline_counts_from_the_start_and_not_from_submit)
    RUN(a_deadline_that_is_far_or_none_changes_nothing)
    RUN(one_tasks_deadline_is_not_anothers)
    RUN(free_arg_runs_once_past_a_deadline)
    RUN(workers_that_run_at_once_have_different_indices)
    RUN(cancel_of_a_running_task_is_refused_and_the_task_is_told)
    RUN(a_stop_request_does_not_reach_the_next_task)
    RUN(memory_written_before_submit_and_inside_is_seen_after)
    RUN(tasks_of_several_submitters_all_run_once)
    RUN(what_tasks_submit_runs_too)
    RUN(of_cancel_and_run_exactly_one_happens)
    RUN(every_single_allocation_may_fail)
    RUN(memory_may_run_out_at_every_allocation)
)
