/* cf_wait: when it returns, what it counts and flags, and that it disturbs nothing. */
#include "test.h"

#include "tasks.h"

static const cf_return_when every_when[] = {CF_ALL_COMPLETED, CF_FIRST_COMPLETED,
                                            CF_FIRST_EXCEPTION};
enum { WHENS = sizeof every_when / sizeof every_when[0] };

static void fill_promises(cf_future **futures, size_t count) {
    for (size_t i = 0; i < count; i++) {
        futures[i] = promise();
    }
}

/* A thread that waits, so that the test can end the futures meanwhile. */
typedef struct waiter {
    cf_future **futures;
    size_t count;
    cf_return_when when;
    size_t result;
    bool *done;
    gate *start;
    atomic_bool returned;
    pthread_t thread;
} waiter;

static void *waiter_run(void *arg) {
    waiter *w = arg;
    if (w->start != NULL) {
        gate_arrive(w->start);
        gate_await(w->start);
    }
    w->result = cf_wait(w->futures, w->count, w->when, CF_FOREVER, w->done);
    atomic_store(&w->returned, true);
    return NULL;
}

static void waiter_start(waiter *w) {
    spawn(&w->thread, waiter_run, w);
}

/* ---------------------------------------------------------------- nothing to wait for */

TEST(no_futures_return_at_once) {
    for (size_t i = 0; i < WHENS; i++) {
        CHECK_EQ(cf_wait(NULL, 0, every_when[i], CF_FOREVER, NULL), 0);
    }
}

TEST(null_entries_alone_return_at_once) {
    cf_future *futures[3] = {NULL, NULL, NULL};
    for (size_t i = 0; i < WHENS; i++) {
        CHECK_EQ(cf_wait(futures, 3, every_when[i], CF_FOREVER, NULL), 0);
    }
}

static int task_waits_for_gaps(cf_task *task, void *arg) {
    cf_future *futures[4] = {NULL, NULL, NULL, NULL};
    (void)arg;
    futures[1] = cf_executor_submit(cf_task_executor(task), task_square, CF_VALUE(int, 3));
    const size_t done = cf_wait(futures, 4, CF_ALL_COMPLETED, CF_FOREVER, NULL);
    cf_future_release(futures[1]);
    return return_int(task, (int)done);
}

TEST(null_entries_are_no_futures_in_a_task_either) {
    cf_executor *executor = pool(1);
    cf_future *future = cf_executor_submit(executor, task_waits_for_gaps, CF_NO_ARG);
    CHECK_EQ(int_of(future), 1);
    cf_future_release(future);
    cf_executor_close(executor);
}

TEST(a_bad_when_returns_zero_at_once) {
    cf_future *futures[2] = {promise(), promise()};
    set_int(futures[0], 1);
    CHECK_EQ(cf_wait(futures, 2, (cf_return_when)3, CF_FOREVER, NULL), 0);
    CHECK_EQ(cf_wait(futures, 1, (cf_return_when)99, CF_FOREVER, NULL), 0);
    CHECK_EQ(cf_wait(futures, 2, (cf_return_when)-1, 0, NULL), 0);
    CHECK_EQ(cf_future_state(futures[1]), CF_STATE_PENDING);
    release_all(futures, 2);
}

/* ---------------------------------------------------------------- all completed */

TEST(all_completed_returns_when_the_last_ends) {
    cf_future *futures[4];
    bool done[4] = {false};
    fill_promises(futures, 4);
    waiter w = {.futures = futures, .count = 4, .when = CF_ALL_COMPLETED, .done = done};
    waiter_start(&w);
    for (size_t i = 0; i < 4; i++) {
        CHECK(!atomic_load(&w.returned));
        set_int(futures[i], (int)i);
    }
    join(w.thread);
    CHECK_EQ(w.result, 4);
    for (size_t i = 0; i < 4; i++) {
        CHECK(done[i]);
    }
    release_all(futures, 4);
}

TEST(all_completed_counts_results_errors_and_cancelled) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    const int code = 7;
    occupy(executor, 1, &g);
    cf_future *futures[3] = {
        cf_executor_submit(executor, task_square, &code, sizeof code),
        cf_executor_submit(executor, task_fail, &code, sizeof code),
        cf_executor_submit(executor, task_nothing, CF_NO_ARG),
    };
    CHECK(cf_future_cancel(futures[2]));
    gate_open(&g);
    bool done[3] = {false};
    CHECK_EQ(cf_wait(futures, 3, CF_ALL_COMPLETED, CF_FOREVER, done), 3);
    CHECK(done[0] && done[1] && done[2]);
    CHECK_STATUS(cf_future_wait(futures[0], 0), CF_OK);
    CHECK_STATUS(cf_future_wait(futures[1], 0), CF_TASK_FAILED);
    CHECK_STATUS(cf_future_wait(futures[2], 0), CF_CANCELLED);
    release_all(futures, 3);
    cf_executor_close(executor);
}

TEST(flags_are_written_for_every_entry) {
    cf_future *futures[3] = {promise(), promise(), promise()};
    bool done[3] = {true, false, true};
    set_int(futures[1], 1);
    CHECK_EQ(cf_wait(futures, 3, CF_ALL_COMPLETED, 0, done), 1);
    CHECK(!done[0] && done[1] && !done[2]);
    release_all(futures, 3);
}

/* ---------------------------------------------------------------- first completed */

TEST(first_completed_returns_with_the_first) {
    cf_future *futures[3];
    bool done[3] = {false};
    fill_promises(futures, 3);
    waiter w = {.futures = futures, .count = 3, .when = CF_FIRST_COMPLETED, .done = done};
    waiter_start(&w);
    set_int(futures[1], 1);
    join(w.thread);
    CHECK_EQ(w.result, 1);
    CHECK(!done[0] && done[1] && !done[2]);
    release_all(futures, 3);
}

TEST(first_completed_returns_at_once_if_some_are_done) {
    cf_future *futures[4];
    bool done[4] = {false};
    fill_promises(futures, 4);
    set_int(futures[0], 1);
    CHECK_STATUS(cf_future_set_error(futures[3], 5, "five"), CF_OK);
    CHECK_EQ(cf_wait(futures, 4, CF_FIRST_COMPLETED, CF_FOREVER, done), 2);
    CHECK(done[0] && !done[1] && !done[2] && done[3]);
    release_all(futures, 4);
}

TEST(first_completed_counts_a_cancelled_future_as_done) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    occupy(executor, 1, &g);
    cf_future *futures[2] = {cf_executor_submit(executor, task_nothing, CF_NO_ARG),
                             cf_executor_submit(executor, task_nothing, CF_NO_ARG)};
    bool done[2] = {false};
    CHECK(cf_future_cancel(futures[1]));
    CHECK_EQ(cf_wait(futures, 2, CF_FIRST_COMPLETED, CF_FOREVER, done), 1);
    CHECK(!done[0] && done[1]);
    gate_open(&g);
    release_all(futures, 2);
    cf_executor_close(executor);
}

TEST(a_cancel_wakes_the_waiters_at_once) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    gate start = GATE_INIT;
    occupy(executor, 1, &g);
    cf_future *futures[2] = {cf_executor_submit(executor, task_nothing, CF_NO_ARG),
                             cf_executor_submit(executor, task_nothing, CF_NO_ARG)};
    waiter w[2] = {
        {.futures = futures, .count = 2, .when = CF_FIRST_COMPLETED, .start = &start},
        {.futures = futures, .count = 2, .when = CF_ALL_COMPLETED, .start = &start},
    };
    waiter_start(&w[0]);
    waiter_start(&w[1]);
    gate_await_arrivals(&start, 2);
    gate_open(&start);
    CHECK(cf_future_cancel(futures[0]));
    join(w[0].thread);
    CHECK_EQ(w[0].result, 1);
    CHECK(cf_future_cancel(futures[1]));
    join(w[1].thread);
    CHECK_EQ(w[1].result, 2);
    gate_open(&g);
    release_all(futures, 2);
    cf_executor_close(executor);
}

TEST(a_shutdown_that_cancels_wakes_the_waiters) {
    enum { COUNT = 20 };
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    cf_future *futures[COUNT];
    occupy(executor, 1, &g);
    for (size_t i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    }
    waiter w = {.futures = futures, .count = COUNT, .when = CF_ALL_COMPLETED};
    waiter_start(&w);
    CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
    join(w.thread);
    CHECK_EQ(w.result, COUNT);
    gate_open(&g);
    cf_executor_close(executor);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_STATUS(cf_future_wait(futures[i], 0), CF_CANCELLED);
    }
    release_all(futures, COUNT);
}

/* ---------------------------------------------------------------- first exception */

TEST(first_exception_returns_with_the_first_failure) {
    cf_future *futures[3];
    bool done[3] = {false};
    fill_promises(futures, 3);
    waiter w = {.futures = futures, .count = 3, .when = CF_FIRST_EXCEPTION, .done = done};
    waiter_start(&w);
    set_int(futures[0], 1);
    CHECK(!atomic_load(&w.returned));
    CHECK_STATUS(cf_future_set_error(futures[2], 5, "five"), CF_OK);
    join(w.thread);
    CHECK_EQ(w.result, 2);
    CHECK(done[0] && !done[1] && done[2]);
    release_all(futures, 3);
}

TEST(first_exception_is_not_met_by_a_success) {
    cf_future *futures[2] = {promise(), promise()};
    set_int(futures[0], 1);
    const int64_t start = now();
    CHECK_EQ(cf_wait(futures, 2, CF_FIRST_EXCEPTION, 20 * CF_MILLISECOND, NULL), 1);
    CHECK(now() - start >= 20 * CF_MILLISECOND);
    release_all(futures, 2);
}

TEST(first_exception_is_not_met_by_a_cancel) {
    cf_future *futures[2] = {promise(), promise()};
    CHECK(cf_future_cancel(futures[0]));
    bool done[2] = {false};
    const int64_t start = now();
    CHECK_EQ(cf_wait(futures, 2, CF_FIRST_EXCEPTION, 20 * CF_MILLISECOND, done), 1);
    CHECK(now() - start >= 20 * CF_MILLISECOND);
    CHECK(done[0] && !done[1]);
    release_all(futures, 2);
}

TEST(first_exception_is_not_met_by_a_cancel_that_comes_later) {
    cf_future *futures[2] = {promise(), promise()};
    waiter w = {.futures = futures, .count = 2, .when = CF_FIRST_EXCEPTION};
    waiter_start(&w);
    CHECK(cf_future_cancel(futures[0]));
    CHECK(!atomic_load(&w.returned));
    set_int(futures[1], 1);
    join(w.thread);
    CHECK_EQ(w.result, 2);
    release_all(futures, 2);
}

TEST(first_exception_returns_at_once_if_one_has_failed) {
    cf_future *futures[3];
    fill_promises(futures, 3);
    CHECK_STATUS(cf_future_set_error(futures[1], 5, NULL), CF_OK);
    CHECK_EQ(cf_wait(futures, 3, CF_FIRST_EXCEPTION, CF_FOREVER, NULL), 1);
    release_all(futures, 3);
}

TEST(first_exception_without_a_failure_waits_for_all) {
    cf_future *futures[3];
    fill_promises(futures, 3);
    waiter w = {.futures = futures, .count = 3, .when = CF_FIRST_EXCEPTION};
    waiter_start(&w);
    for (int i = 0; i < 3; i++) {
        CHECK(!atomic_load(&w.returned));
        set_int(futures[i], i);
    }
    join(w.thread);
    CHECK_EQ(w.result, 3);
    release_all(futures, 3);
}

TEST(first_exception_is_met_by_a_failing_task) {
    cf_executor *executor = pool(2);
    gate g = GATE_INIT;
    const int code = 3;
    cf_future *futures[2] = {cf_executor_submit(executor, task_block, &g, 0),
                             cf_executor_submit(executor, task_fail, &code, sizeof code)};
    bool done[2] = {false};
    CHECK_EQ(cf_wait(futures, 2, CF_FIRST_EXCEPTION, CF_FOREVER, done), 1);
    CHECK(!done[0] && done[1]);
    gate_open(&g);
    release_all(futures, 2);
    cf_executor_close(executor);
}

TEST(first_exception_is_met_by_a_refused_submission) {
    cf_executor *executor = pool(1);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    cf_future *futures[2] = {promise(), cf_executor_submit(executor, task_nothing, CF_NO_ARG)};
    bool done[2] = {false};
    CHECK_EQ(cf_wait(futures, 2, CF_FIRST_EXCEPTION, CF_FOREVER, done), 1);
    CHECK(!done[0] && done[1]);
    release_all(futures, 2);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- duplicates, NULL, mixtures */

TEST(duplicates_count_once_and_are_all_flagged) {
    cf_future *a = promise();
    cf_future *b = promise();
    cf_future *futures[5] = {a, b, a, a, b};
    bool done[5] = {false};
    set_int(a, 1);
    for (size_t i = 0; i < WHENS; i++) {
        memset(done, 0, sizeof done);
        CHECK_EQ(cf_wait(futures, 5, every_when[i], 0, done), 1);
        CHECK(done[0] && !done[1] && done[2] && done[3] && !done[4]);
    }
    set_int(b, 2);
    CHECK_EQ(cf_wait(futures, 5, CF_ALL_COMPLETED, CF_FOREVER, done), 2);
    for (size_t i = 0; i < 5; i++) {
        CHECK(done[i]);
    }
    cf_future_release(a);
    cf_future_release(b);
}

TEST(duplicates_that_end_during_the_wait_count_once) {
    cf_future *a = promise();
    cf_future *b = promise();
    cf_future *futures[5] = {a, a, b, a, b};
    bool done[5] = {false};
    waiter w = {.futures = futures, .count = 5, .when = CF_ALL_COMPLETED, .done = done};
    waiter_start(&w);
    set_int(a, 1);
    CHECK(!atomic_load(&w.returned));
    set_int(b, 2);
    join(w.thread);
    CHECK_EQ(w.result, 2);
    for (size_t i = 0; i < 5; i++) {
        CHECK(done[i]);
    }
    cf_future_release(a);
    cf_future_release(b);
}

TEST(null_entries_are_skipped) {
    cf_future *futures[5] = {NULL, promise(), NULL, promise(), NULL};
    bool done[5] = {false};
    set_int(futures[1], 1);
    CHECK_EQ(cf_wait(futures, 5, CF_FIRST_COMPLETED, CF_FOREVER, done), 1);
    CHECK(done[1] && !done[3]);
    set_int(futures[3], 1);
    CHECK_EQ(cf_wait(futures, 5, CF_ALL_COMPLETED, CF_FOREVER, done), 2);
    CHECK(done[1] && done[3]);
    release_all(futures, 5);
}

TEST(a_null_entry_does_not_complete_anything) {
    cf_future *futures[2] = {NULL, promise()};
    const int64_t start = now();
    CHECK_EQ(cf_wait(futures, 2, CF_FIRST_COMPLETED, 20 * CF_MILLISECOND, NULL), 0);
    CHECK(now() - start >= 20 * CF_MILLISECOND);
    release_all(futures, 2);
}

TEST(futures_of_different_executors_and_promises_mix) {
    cf_executor *first = pool(1);
    cf_executor *second = pool(2);
    cf_executor *here = inline_executor();
    gate g = GATE_INIT;
    const int n = 6;
    cf_future *futures[6] = {
        cf_executor_submit(first, task_block, &g, 0),
        cf_executor_submit(second, task_square, &n, sizeof n),
        cf_executor_submit(here, task_square, &n, sizeof n),
        promise(),
        cf_executor_submit(second, task_fail, &n, sizeof n),
        cf_executor_submit(NULL, task_square, &n, sizeof n),
    };
    bool done[6] = {false};
    CHECK(cf_wait(futures, 6, CF_FIRST_COMPLETED, CF_FOREVER, done) >= 2);
    CHECK(!done[0] && done[2] && !done[3] && done[5]);
    waiter w = {.futures = futures, .count = 6, .when = CF_ALL_COMPLETED, .done = done};
    waiter_start(&w);
    gate_open(&g);
    set_int(futures[3], 1);
    join(w.thread);
    CHECK_EQ(w.result, 6);
    CHECK_EQ(int_of(futures[1]), 36);
    CHECK_STATUS(cf_future_wait(futures[4], 0), CF_TASK_FAILED);
    CHECK_STATUS(cf_future_wait(futures[5], 0), CF_INVALID);
    release_all(futures, 6);
    cf_executor_close(first);
    cf_executor_close(second);
    cf_executor_close(here);
}

TEST(futures_may_outlive_their_executor) {
    enum { COUNT = 10 };
    cf_executor *executor = pool(2);
    cf_future *futures[COUNT];
    for (int i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_square, &i, sizeof i);
    }
    cf_executor_close(executor);
    CHECK_EQ(cf_wait(futures, COUNT, CF_ALL_COMPLETED, 0, NULL), COUNT);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(int_of(futures[i]), i * i);
    }
    release_all(futures, COUNT);
}

/* ---------------------------------------------------------------- timeouts */

TEST(a_timeout_returns_what_is_done) {
    cf_future *futures[3] = {promise(), promise(), promise()};
    bool done[3] = {false};
    set_int(futures[2], 1);
    const int64_t start = now();
    CHECK_EQ(cf_wait(futures, 3, CF_ALL_COMPLETED, 30 * CF_MILLISECOND, done), 1);
    const int64_t elapsed = now() - start;
    CHECK(elapsed >= 30 * CF_MILLISECOND);
    CHECK(elapsed < limit(5));
    CHECK(!done[0] && !done[1] && done[2]);
    release_all(futures, 3);
}

/* Not each of them may take the time that it takes to look and to fall asleep. */
TEST(a_timeout_is_kept_however_many_futures_there_are) {
    enum { COUNT = 30000 };
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    occupy(executor, 1, &g);
    cf_future **futures = malloc(COUNT * sizeof *futures);
    CHECK(futures != NULL);
    CHECK_STATUS(cf_executor_submit_many(executor, task_nothing, NULL, COUNT, 0, futures), CF_OK);
    const int64_t start = now();
    CHECK_EQ(cf_wait(futures, COUNT, CF_ALL_COMPLETED, 10 * CF_MILLISECOND, NULL), 0);
    CHECK(now() - start < limit(1));
    gate_open(&g);
    CHECK_EQ(cf_wait(futures, COUNT, CF_ALL_COMPLETED, CF_FOREVER, NULL), COUNT);
    release_all(futures, COUNT);
    free(futures);
    cf_executor_close(executor);
}

TEST(zero_polls) {
    cf_future *futures[2] = {promise(), promise()};
    for (size_t i = 0; i < WHENS; i++) {
        CHECK_EQ(cf_wait(futures, 2, every_when[i], 0, NULL), 0);
    }
    set_int(futures[0], 1);
    for (size_t i = 0; i < WHENS; i++) {
        CHECK_EQ(cf_wait(futures, 2, every_when[i], 0, NULL), 1);
    }
    release_all(futures, 2);
}

static void *set_after_a_while(void *arg) {
    sleep_for(20 * CF_MILLISECOND);
    set_int(arg, 1);
    return NULL;
}

static void waits_until_it_is_set(cf_duration timeout) {
    cf_future *future = promise();
    pthread_t setter;
    spawn(&setter, set_after_a_while, future);
    CHECK_EQ(cf_wait(&future, 1, CF_ALL_COMPLETED, timeout, NULL), 1);
    join(setter);
    cf_future_release(future);
}

TEST(any_negative_timeout_waits_for_ever) {
    const cf_duration endless[] = {-1, -2, -CF_SECOND, INT64_MIN};
    for (size_t i = 0; i < sizeof endless / sizeof endless[0]; i++) {
        waits_until_it_is_set(endless[i]);
    }
}

TEST(the_longest_timeout_does_not_overflow) {
    const cf_duration long_ones[] = {INT64_MAX, INT64_MAX - 1, INT64_MAX / 2};
    for (size_t i = 0; i < sizeof long_ones / sizeof long_ones[0]; i++) {
        waits_until_it_is_set(long_ones[i]);
    }
}

TEST(a_timeout_disturbs_nothing) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    const int n = 5;
    cf_future *futures[3] = {cf_executor_submit(executor, task_block, &g, 0),
                             cf_executor_submit(executor, task_square, &n, sizeof n), promise()};
    gate_await_arrivals(&g, 1);
    for (int i = 0; i < 1000; i++) {
        const cf_duration timeout = i % 4 == 0 ? 10 * CF_MICROSECOND : 0;
        CHECK_EQ(cf_wait(futures, 3, every_when[i % WHENS], timeout, NULL), 0);
    }
    CHECK_EQ(cf_future_state(futures[0]), CF_STATE_RUNNING);
    CHECK_EQ(cf_future_state(futures[1]), CF_STATE_PENDING);
    CHECK_EQ(cf_future_state(futures[2]), CF_STATE_PENDING);
    gate_open(&g);
    set_int(futures[2], 8);
    CHECK_EQ(cf_wait(futures, 3, CF_ALL_COMPLETED, CF_FOREVER, NULL), 3);
    CHECK_EQ(int_of(futures[1]), 25);
    CHECK_EQ(int_of(futures[2]), 8);
    release_all(futures, 3);
    cf_executor_close(executor);
}

TEST(waits_that_ran_out_leave_no_memory_on_a_future) {
    if (!test_alloc_hooked()) {
        SKIP("no counted allocator");
    }
    cf_future *futures[8];
    fill_promises(futures, 8);
    CHECK_EQ(cf_wait(futures, 8, CF_ALL_COMPLETED, CF_MICROSECOND, NULL), 0);
    const size_t before = test_alloc_live();
    for (int i = 0; i < 200; i++) {
        CHECK_EQ(cf_wait(futures, 8, CF_ALL_COMPLETED, CF_MICROSECOND, NULL), 0);
    }
    CHECK_EQ(test_alloc_live(), before);
    release_all(futures, 8);
}

/* ---------------------------------------------------------------- many at once */

TEST(pending_calls_race) {
    enum { COUNT = 100, ROUNDS = 20 };
    cf_executor *executor = pool(COUNT);
    for (int round = 0; round < ROUNDS; round++) {
        gate g = GATE_INIT;
        cf_future *futures[COUNT];
        bool done[COUNT] = {false};
        for (size_t i = 0; i < COUNT; i++) {
            futures[i] = cf_executor_submit(executor, task_block, &g, 0);
        }
        gate_await_arrivals(&g, COUNT);
        waiter w = {.futures = futures, .count = COUNT, .when = CF_ALL_COMPLETED, .done = done};
        waiter_start(&w);
        gate_open(&g);
        join(w.thread);
        CHECK_EQ(w.result, COUNT);
        for (size_t i = 0; i < COUNT; i++) {
            CHECK(done[i]);
        }
        release_all(futures, COUNT);
    }
    cf_executor_close(executor);
}

TEST(many_threads_may_wait_for_the_same_futures) {
    enum { COUNT = 50, WAITERS = 8 };
    cf_executor *executor = pool(2);
    gate g = GATE_INIT;
    gate start = GATE_INIT;
    cf_future *futures[COUNT];
    bool done[WAITERS][COUNT] = {{false}};
    waiter waiters[WAITERS];
    occupy(executor, 2, &g);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_square, &i, sizeof i);
    }
    for (size_t i = 0; i < WAITERS; i++) {
        waiters[i] = (waiter){.futures = futures, .count = COUNT, .when = every_when[i % WHENS],
                              .done = done[i], .start = &start};
        waiter_start(&waiters[i]);
    }
    gate_await_arrivals(&start, WAITERS);
    gate_open(&start);
    gate_open(&g);
    for (size_t i = 0; i < WAITERS; i++) {
        join(waiters[i].thread);
        size_t flagged = 0;
        for (size_t k = 0; k < COUNT; k++) {
            flagged += done[i][k];
        }
        CHECK_EQ(flagged, waiters[i].result);
        CHECK(waiters[i].when == CF_FIRST_COMPLETED ? flagged >= 1 : flagged == COUNT);
    }
    release_all(futures, COUNT);
    cf_executor_close(executor);
}

static void *set_both(void *arg) {
    cf_future **futures = arg;
    set_int(futures[0], 1);
    CHECK_STATUS(cf_future_set_error(futures[1], 2, "two"), CF_OK);
    return NULL;
}

/* The set, the start of the wait and its end by timeout meet at every possible moment. */
TEST(a_wait_that_races_with_the_end_loses_nothing) {
    for (int i = 0; i < 500; i++) {
        cf_future *futures[2] = {promise(), promise()};
        bool done[2] = {false};
        pthread_t setter;
        spawn(&setter, set_both, futures);
        const cf_duration timeout = (i % 50) * CF_MICROSECOND;
        const size_t count = cf_wait(futures, 2, every_when[i % WHENS], timeout, done);
        CHECK_EQ(count, (size_t)done[0] + (size_t)done[1]);
        CHECK_EQ(cf_wait(futures, 2, CF_FIRST_EXCEPTION, CF_FOREVER, done), 2);
        CHECK(done[0] && done[1]);
        join(setter);
        release_all(futures, 2);
    }
}

/* The waiter may free all at once: nobody touches a future after its last waiter was told. */
TEST(futures_may_be_released_as_soon_as_wait_returns) {
    cf_executor *executor = pool(4);
    for (int round = 0; round < 300; round++) {
        cf_future *futures[8];
        for (int i = 0; i < 8; i++) {
            futures[i] = cf_executor_submit(executor, task_square, &i, sizeof i);
        }
        CHECK_EQ(cf_wait(futures, 8, CF_ALL_COMPLETED, CF_FOREVER, NULL), 8);
        release_all(futures, 8);
    }
    cf_executor_close(executor);
}

static int task_write(cf_task *task, void *arg) {
    (void)task;
    *(int *)arg += 1;
    return 0;
}

TEST(what_a_task_wrote_is_seen_by_the_waiter) {
    enum { COUNT = 64, ROUNDS = 20 };
    cf_executor *executor = pool(4);
    int plain[COUNT] = {0};
    cf_future *futures[COUNT];
    for (int round = 1; round <= ROUNDS; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            futures[i] = cf_executor_submit(executor, task_write, &plain[i], 0);
        }
        CHECK_EQ(cf_wait(futures, COUNT, CF_ALL_COMPLETED, CF_FOREVER, NULL), COUNT);
        for (size_t i = 0; i < COUNT; i++) {
            CHECK_EQ(plain[i], round);
        }
        release_all(futures, COUNT);
    }
    cf_executor_close(executor);
}

/* A quadratic wait would take minutes here. */
TEST(a_wait_over_many_futures_is_linear) {
    enum { COUNT = 100000 };
    cf_future **futures = malloc(2 * COUNT * sizeof *futures);
    bool *done = malloc(2 * COUNT * sizeof *done);
    CHECK(futures != NULL && done != NULL);
    fill_promises(futures, COUNT);
    memcpy(futures + COUNT, futures, COUNT * sizeof *futures);
    const int64_t start = cpu_time();
    CHECK_EQ(cf_wait(futures, 2 * COUNT, CF_ALL_COMPLETED, CF_MICROSECOND, done), 0);
    for (int i = 0; i < COUNT; i++) {
        set_int(futures[i], i);
    }
    CHECK_EQ(cf_wait(futures, 2 * COUNT, CF_ALL_COMPLETED, CF_FOREVER, done), COUNT);
    CHECK(cpu_time() - start < limit(5));
    for (size_t i = 0; i < 2 * COUNT; i++) {
        CHECK(done[i]);
    }
    release_all(futures, COUNT);
    free(futures);
    free(done);
}

TEST_MAIN(
    RUN(no_futures_return_at_once)
    RUN(null_entries_alone_return_at_once)
    RUN(null_entries_are_no_futures_in_a_task_either)
    RUN(a_bad_when_returns_zero_at_once)
    RUN(all_completed_returns_when_the_last_ends)
    RUN(all_completed_counts_results_errors_and_cancelled)
    RUN(flags_are_written_for_every_entry)
    RUN(first_completed_returns_with_the_first)
    RUN(first_completed_returns_at_once_if_some_are_done)
    RUN(first_completed_counts_a_cancelled_future_as_done)
    RUN(a_cancel_wakes_the_waiters_at_once)
    RUN(a_shutdown_that_cancels_wakes_the_waiters)
    RUN(first_exception_returns_with_the_first_failure)
    RUN(first_exception_is_not_met_by_a_success)
    RUN(first_exception_is_not_met_by_a_cancel)
    RUN(first_exception_is_not_met_by_a_cancel_that_comes_later)
    RUN(first_exception_returns_at_once_if_one_has_failed)
    RUN(first_exception_without_a_failure_waits_for_all)
    RUN(first_exception_is_met_by_a_failing_task)
    RUN(first_exception_is_met_by_a_refused_submission)
    RUN(duplicates_count_once_and_are_all_flagged)
    RUN(duplicates_that_end_during_the_wait_count_once)
    RUN(null_entries_are_skipped)
    RUN(a_null_entry_does_not_complete_anything)
    RUN(futures_of_different_executors_and_promises_mix)
    RUN(futures_may_outlive_their_executor)
    RUN(a_timeout_returns_what_is_done)
    RUN(a_timeout_is_kept_however_many_futures_there_are)
    RUN(zero_polls)
    RUN(any_negative_timeout_waits_for_ever)
    RUN(the_longest_timeout_does_not_overflow)
    RUN(a_timeout_disturbs_nothing)
    RUN(waits_that_ran_out_leave_no_memory_on_a_future)
    RUN(pending_calls_race)
    RUN(many_threads_may_wait_for_the_same_futures)
    RUN(a_wait_that_races_with_the_end_loses_nothing)
    RUN(futures_may_be_released_as_soon_as_wait_returns)
    RUN(what_a_task_wrote_is_seen_by_the_waiter)
    RUN_WITHIN(60, a_wait_over_many_futures_is_linear)
)
