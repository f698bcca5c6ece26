/* Bad input: a status as documented, nothing lost, nothing hung. */
#include "test.h"

#include "tasks.h"

/* ---------------------------------------------------------------- NULL */

static void freed_once(void *ptr) {
    atomic_fetch_add((atomic_int *)ptr, 1);
}

TEST(a_null_executor_answers_where_results_are_read) {
    const int n = 1;
    int result = 0;
    atomic_int freed = 0;
    const cf_submit_options options = {.free_arg = freed_once};
    cf_future *futures[4] = {NULL, NULL, NULL, NULL};
    futures[0] = cf_executor_submit(NULL, task_square, &n, sizeof n);
    futures[1] = cf_executor_submit_with(NULL, task_nothing, &freed, 0, &options);
    CHECK_STATUS(cf_executor_submit_many(NULL, task_square, &n, 1, sizeof n, &futures[2]),
                 CF_INVALID);
    futures[3] = cf_executor_submit(NULL, NULL, CF_NO_ARG);
    for (size_t i = 0; i < 4; i++) {
        CHECK(futures[i] != NULL);
        CHECK(cf_future_done(futures[i]));
        CHECK_STATUS(cf_future_wait(futures[i], CF_FOREVER), CF_INVALID);
        CHECK(!cf_future_cancel(futures[i]));
    }
    CHECK_EQ(atomic_load(&freed), 1);
    release_all(futures, 4);
    cf_map_iter *iter = cf_executor_map(NULL, task_square, &n, 1, sizeof n, NULL);
    cf_status status = CF_OK;
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_INVALID);
    cf_map_close(iter);
    CHECK_STATUS(cf_executor_map_array(NULL, task_square, &n, sizeof n, &result, sizeof result, 1,
                                       NULL, NULL),
                 CF_INVALID);
    CHECK_STATUS(cf_executor_shutdown(NULL, CF_FOREVER, CF_RUN_PENDING), CF_INVALID);
    cf_executor_close(NULL);
}

TEST(stats_of_a_null_executor_are_zero) {
    cf_stats stats;
    memset(&stats, 0xff, sizeof stats);
    cf_executor_stats(NULL, &stats);
    CHECK_EQ(stats.workers + stats.idle + stats.queued + stats.running, 0);
    CHECK_EQ(stats.submitted + stats.finished + stats.cancelled + stats.failed, 0);
}

TEST(a_null_function_is_refused) {
    cf_executor *executors[2] = {pool(1), inline_executor()};
    const int items[2] = {1, 2};
    for (size_t i = 0; i < 2; i++) {
        cf_future *futures[3];
        futures[0] = cf_executor_submit(executors[i], NULL, CF_NO_ARG);
        CHECK_STATUS(cf_executor_submit_many(executors[i], NULL, items, 2, sizeof items[0],
                                             &futures[1]),
                     CF_INVALID);
        for (size_t k = 0; k < 3; k++) {
            CHECK_STATUS(cf_future_wait(futures[k], 0), CF_INVALID);
        }
        release_all(futures, 3);
        CHECK_EQ(stats_of(executors[i]).submitted, 0);
        cf_executor_close(executors[i]);
    }
}

TEST(every_last_status_may_be_null) {
    cf_executor *executor = cf_thread_pool_new(NULL, NULL);
    CHECK(executor != NULL);
    cf_executor *here = cf_inline_executor_new(NULL);
    CHECK(here != NULL);
    const int n = 5;
    cf_future *future = cf_executor_submit(executor, task_square, &n, sizeof n);
    CHECK(cf_future_result(future, CF_FOREVER, NULL) != NULL);
    cf_map_iter *iter = cf_executor_map(here, task_square, &n, 1, sizeof n, NULL);
    CHECK(cf_map_next(iter, NULL) != NULL);
    CHECK(cf_map_next(iter, NULL) == NULL);
    cf_map_close(iter);
    cf_future_release(future);
    cf_executor_close(executor);
    cf_executor_close(here);
    CHECK(cf_thread_pool_new(&(cf_pool_options){.max_tasks_per_child = 1}, NULL) == NULL);
}

TEST(null_iterators_answer) {
    cf_status status = CF_OK;
    size_t index = 0;
    CHECK(cf_as_completed_next(NULL, &index, &status) == NULL);
    CHECK_STATUS(status, CF_INVALID);
    CHECK_STATUS(cf_as_completed_add(NULL, NULL), CF_INVALID);
    CHECK_EQ(cf_as_completed_remaining(NULL), 0);
    cf_as_completed_close(NULL);
    CHECK(cf_map_next(NULL, &status) == NULL);
    CHECK_STATUS(status, CF_INVALID);
    cf_map_close(NULL);
}

TEST(submit_many_without_slots_is_refused) {
    cf_executor *executor = pool(1);
    const int n = 1;
    CHECK_STATUS(cf_executor_submit_many(executor, task_square, &n, 1, sizeof n, NULL),
                 CF_INVALID);
    CHECK_EQ(stats_of(executor).submitted, 0);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- options */

TEST(zero_workers_are_the_default) {
    cf_executor *executor = pool(0);
    const int n = 3;
    cf_future *future = cf_executor_submit(executor, task_square, &n, sizeof n);
    CHECK_EQ(int_of(future), 9);
    CHECK_EQ(stats_of(executor).workers, 1); /* on demand */
    cf_future_release(future);
    cf_executor_close(executor);
}

static void is_refused(const cf_pool_options *options) {
    cf_status status = CF_OK;
    CHECK(cf_thread_pool_new(options, &status) == NULL);
    CHECK_STATUS(status, CF_INVALID);
}

TEST(options_that_a_thread_pool_does_not_know_are_refused) {
    is_refused(&(cf_pool_options){.start_method = CF_START_SPAWN});
    is_refused(&(cf_pool_options){.max_tasks_per_child = 1});
    is_refused(&(cf_pool_options){.break_on_crash = true});
    is_refused(&(cf_pool_options){.kill_grace = CF_SECOND});
    is_refused(&(cf_pool_options){.kill_grace = -1});
    is_refused(&(cf_pool_options){.max_workers = 2, .kill_grace = 1});
}

TEST(values_that_no_option_has_are_refused) {
    is_refused(&(cf_pool_options){.on_full = (cf_on_full)3});
    is_refused(&(cf_pool_options){.on_full = (cf_on_full)99, .queue_limit = 1});
    is_refused(&(cf_pool_options){.start_method = (cf_start_method)2});
}

TEST(a_shutdown_mode_that_does_not_exist_is_refused) {
    cf_executor *executor = pool(1);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, (cf_shutdown_mode)2), CF_INVALID);
    cf_future *future = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    CHECK_STATUS(outcome(future), CF_OK);
    cf_future_release(future);
    cf_executor_close(executor);
}

TEST(absurdly_many_workers_are_refused_or_started_on_demand) {
    const size_t counts[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 64, (size_t)1 << 31};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        cf_status status = CF_OK;
        const cf_pool_options options = {.max_workers = counts[i]};
        cf_executor *executor = cf_thread_pool_new(&options, &status);
        if (executor == NULL) {
            CHECK(status == CF_INVALID || status == CF_NO_MEMORY);
            continue;
        }
        CHECK_STATUS(status, CF_OK);
        const int n = 3;
        cf_future *future = cf_executor_submit(executor, task_square, &n, sizeof n);
        CHECK_EQ(int_of(future), 9);
        cf_future_release(future);
        cf_executor_close(executor);
    }
}

TEST(a_stack_size_is_used_or_refused_but_not_ignored) {
    const cf_pool_options options = {.max_workers = 1, .stack_size = (size_t)1 << 20};
    if (strncmp(test_backend(), "posix", 5) != 0 && strncmp(test_backend(), "pthreads", 8) != 0) {
        is_refused(&options);
        return;
    }
    cf_executor *executor = pool_with(&options);
    const int n = 3;
    cf_future *future = cf_executor_submit(executor, task_square, &n, sizeof n);
    CHECK_EQ(int_of(future), 9);
    cf_future_release(future);
    cf_executor_close(executor);
}

/* Whether the pool or the submit finds it: a status, and no crash. */
TEST(an_absurd_stack_size_is_a_status) {
    const size_t sizes[] = {1, SIZE_MAX, SIZE_MAX / 2};
    for (size_t i = 0; i < 3; i++) {
        cf_status status = CF_OK;
        const cf_pool_options options = {.max_workers = 1, .stack_size = sizes[i]};
        cf_executor *executor = cf_thread_pool_new(&options, &status);
        if (executor == NULL) {
            CHECK(status == CF_INVALID || status == CF_SYSTEM || status == CF_NO_MEMORY);
            continue;
        }
        cf_future *future = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
        status = outcome(future);
        CHECK(status == CF_OK || status == CF_SYSTEM);
        cf_future_release(future);
        cf_executor_close(executor);
    }
}

TEST(free_arg_with_a_copied_argument_is_refused_and_not_called) {
    cf_executor *executor = pool(1);
    atomic_int freed = 0;
    const cf_submit_options options = {.free_arg = freed_once};
    cf_future *future =
        cf_executor_submit_with(executor, task_nothing, &freed, sizeof freed, &options);
    CHECK_STATUS(cf_future_wait(future, 0), CF_INVALID);
    cf_future_release(future);
    cf_executor_close(executor);
    CHECK_EQ(atomic_load(&freed), 0);
}

TEST(submit_with_null_options_is_submit) {
    cf_executor *executor = pool(1);
    const int n = 4;
    cf_future *future = cf_executor_submit_with(executor, task_square, &n, sizeof n, NULL);
    CHECK_EQ(int_of(future), 16);
    cf_future_release(future);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- absurd sizes */

TEST(a_count_times_size_that_overflows_is_refused) {
    cf_executor *executors[2] = {pool(1), inline_executor()};
    const int item = 1;
    int result = 0;
    const size_t counts[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 4 + 1};
    for (size_t e = 0; e < 2; e++) {
        for (size_t i = 0; i < 3; i++) {
            cf_future *untouched = NULL;
            CHECK_STATUS(cf_executor_submit_many(executors[e], task_square, &item, counts[i],
                                                 sizeof item, &untouched),
                         CF_INVALID);
            CHECK(untouched == NULL);
            cf_map_iter *iter =
                cf_executor_map(executors[e], task_square, &item, counts[i], sizeof item, NULL);
            cf_status status = CF_OK;
            CHECK(cf_map_next(iter, &status) == NULL);
            CHECK_STATUS(status, CF_INVALID);
            cf_map_close(iter);
            CHECK_STATUS(cf_executor_map_array(executors[e], task_square, &item, sizeof item,
                                               &result, sizeof result, counts[i], NULL, NULL),
                         CF_INVALID);
        }
        CHECK_EQ(stats_of(executors[e]).submitted, 0);
        cf_executor_close(executors[e]);
    }
}

/* Here the slots do exist, and each gets a future. */
TEST(items_whose_size_overflows_fill_every_slot_with_a_refusal) {
    cf_executor *executors[2] = {pool(1), inline_executor()};
    const int item = 1;
    for (size_t e = 0; e < 2; e++) {
        cf_future *futures[3] = {NULL, NULL, NULL};
        CHECK_STATUS(cf_executor_submit_many(executors[e], task_square, &item, 3, SIZE_MAX / 2,
                                             futures),
                     CF_INVALID);
        for (size_t i = 0; i < 3; i++) {
            CHECK_STATUS(cf_future_wait(futures[i], 0), CF_INVALID);
        }
        release_all(futures, 3);
        cf_executor_close(executors[e]);
    }
}

/* The futures of the call could not even be counted in bytes. */
TEST(as_completed_over_a_count_that_overflows_is_refused) {
    cf_future *future = promise();
    cf_as_completed_iter *iter = cf_as_completed(&future, SIZE_MAX / 2, CF_FOREVER);
    cf_status status = CF_OK;
    CHECK(iter == NULL);
    CHECK(cf_as_completed_next(iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_INVALID);
    cf_future_release(future);
}

TEST(an_argument_of_absurd_size_is_refused) {
    cf_executor *executors[2] = {pool(1), inline_executor()};
    const int n = 1;
    for (size_t i = 0; i < 2; i++) {
        for (size_t less = 0; less < 130; less++) {
            cf_future *future =
                cf_executor_submit(executors[i], task_square, &n, SIZE_MAX - less);
            const cf_status status = cf_future_wait(future, 0);
            CHECK(status == CF_NO_MEMORY || status == CF_INVALID);
            cf_future_release(future);
        }
        CHECK_EQ(stats_of(executors[i]).submitted, 0);
        cf_executor_close(executors[i]);
    }
}

static int task_return_absurdly(cf_task *task, void *arg) {
    const size_t size = *(const size_t *)arg;
    CHECK(cf_task_return(task, arg, size) != 0);
    return 0;
}

static int task_buffer_absurdly(cf_task *task, void *arg) {
    const size_t size = *(const size_t *)arg;
    return cf_task_result_buffer(task, size) == NULL ? 7 : 0;
}

TEST(a_result_of_absurd_size_fails_the_task) {
    cf_executor *executors[2] = {pool(1), inline_executor()};
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 40, SIZE_MAX - 200};
    for (size_t e = 0; e < 2; e++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            cf_future *returned = cf_executor_submit(executors[e], task_return_absurdly,
                                                     &sizes[i], sizeof sizes[i]);
            CHECK_STATUS(outcome(returned), CF_NO_MEMORY);
            cf_future_release(returned);
            cf_future *buffer = cf_executor_submit(executors[e], task_buffer_absurdly, &sizes[i],
                                                   sizeof sizes[i]);
            const cf_status status = outcome(buffer);
            CHECK(status == CF_TASK_FAILED || status == CF_NO_MEMORY);
            cf_future_release(buffer);
        }
        cf_executor_close(executors[e]);
    }
}

TEST(a_promise_refuses_a_result_of_absurd_size_and_stays_pending) {
    cf_future *future = promise();
    const int n = 1;
    CHECK_STATUS(cf_future_set_result(future, &n, SIZE_MAX - 64), CF_NO_MEMORY);
    CHECK_EQ(cf_future_state(future), CF_STATE_PENDING);
    set_int(future, 5);
    CHECK_EQ(int_of(future), 5);
    cf_future_release(future);
}

TEST(a_message_longer_than_anyone_reads_is_cut) {
    enum { LENGTH = 5000 };
    char *text = malloc(LENGTH + 1);
    CHECK(text != NULL);
    memset(text, 'x', LENGTH);
    text[LENGTH] = '\0';
    cf_future *future = promise();
    CHECK_STATUS(cf_future_set_error(future, 3, text), CF_OK);
    const char *message = cf_future_error_message(future);
    CHECK(strlen(message) >= 255 && strlen(message) <= LENGTH);
    CHECK_EQ(strspn(message, "x"), strlen(message));
    cf_future_release(future);
    free(text);
}

/* ---------------------------------------------------------------- futures set twice */

typedef enum end { RESULT, ERROR, CANCEL, ENDS } end;

static void end_by(cf_future *future, end how) {
    switch (how) {
    case RESULT:
        set_int(future, 1);
        return;
    case ERROR:
        CHECK_STATUS(cf_future_set_error(future, 2, "two"), CF_OK);
        return;
    default:
        CHECK(cf_future_cancel(future));
    }
}

TEST(a_promise_that_has_ended_cannot_be_set_again) {
    for (end how = RESULT; how < ENDS; how++) {
        for (int running = 0; running < (how == CANCEL ? 1 : 2); running++) {
            cf_future *future = promise();
            const int n = 9;
            CHECK(running == 0 || cf_future_set_running_or_notify_cancel(future));
            end_by(future, how);
            CHECK_STATUS(cf_future_set_result(future, &n, sizeof n), CF_INVALID_STATE);
            CHECK_STATUS(cf_future_set_error(future, 9, "nine"), CF_INVALID_STATE);
            CHECK(!cf_future_set_running_or_notify_cancel(future));
            CHECK_EQ(cf_future_cancel(future), how == CANCEL);
            CHECK_STATUS(cf_future_wait(future, 0), how == RESULT  ? CF_OK
                                                    : how == ERROR ? CF_TASK_FAILED
                                                                   : CF_CANCELLED);
            CHECK_EQ(cf_future_error_code(future), how == ERROR ? 2 : 0);
            cf_future_release(future);
        }
    }
}

TEST(a_running_promise_cannot_be_started_or_cancelled) {
    cf_future *future = promise();
    CHECK(cf_future_set_running_or_notify_cancel(future));
    CHECK(!cf_future_set_running_or_notify_cancel(future));
    CHECK(!cf_future_cancel(future));
    CHECK_EQ(cf_future_state(future), CF_STATE_RUNNING);
    set_int(future, 1);
    cf_future_release(future);
}

static void *set_in_a_thread(void *arg) {
    const int n = 1;
    const cf_status status = cf_future_set_result(arg, &n, sizeof n);
    CHECK(status == CF_OK || status == CF_INVALID_STATE);
    return status == CF_OK ? arg : NULL;
}

TEST(of_two_threads_that_set_a_promise_one_wins) {
    for (int round = 0; round < 300; round++) {
        cf_future *future = promise();
        pthread_t thread;
        void *won_there = NULL;
        spawn(&thread, set_in_a_thread, future);
        const bool won_here = cf_future_set_error(future, 5, "five") == CF_OK;
        pthread_join(thread, &won_there);
        CHECK(won_here != (won_there != NULL));
        CHECK_STATUS(cf_future_wait(future, 0), won_here ? CF_TASK_FAILED : CF_OK);
        cf_future_release(future);
    }
}

TEST(an_executors_future_cannot_be_set) {
    cf_executor *executors[2] = {pool(1), inline_executor()};
    const int n = 3;
    for (size_t i = 0; i < 2; i++) {
        cf_future *futures[2] = {cf_executor_submit(executors[i], task_square, &n, sizeof n),
                                 cf_executor_submit(executors[i], NULL, CF_NO_ARG)};
        for (size_t k = 0; k < 2; k++) {
            CHECK_STATUS(cf_future_set_result(futures[k], &n, sizeof n), CF_INVALID_STATE);
            CHECK_STATUS(cf_future_set_error(futures[k], 1, NULL), CF_INVALID_STATE);
            CHECK(!cf_future_set_running_or_notify_cancel(futures[k]));
        }
        CHECK_EQ(int_of(futures[0]), 9);
        CHECK_STATUS(cf_future_wait(futures[1], 0), CF_INVALID);
        release_all(futures, 2);
        cf_executor_close(executors[i]);
    }
}

/* ---------------------------------------------------------------- callbacks that do things */

typedef struct deed {
    cf_executor *executor;
    cf_future *other, *submitted;
    atomic_int calls;
    gate done;
} deed;

static void count_call(cf_future *future, void *user) {
    deed *d = user;
    CHECK(cf_future_done(future));
    atomic_fetch_add(&d->calls, 1);
}

static void do_everything(cf_future *future, void *user) {
    deed *d = user;
    const int n = 6;
    CHECK(cf_future_done(future));
    d->submitted = cf_executor_submit(d->executor, task_square, &n, sizeof n);
    CHECK(cf_future_cancel(d->other));
    CHECK_STATUS(cf_future_add_done_callback(d->other, count_call, d), CF_OK);
    CHECK_STATUS(cf_future_add_done_callback(future, count_call, d), CF_OK);
    CHECK_EQ(atomic_load(&d->calls), 2);
    CHECK(!cf_future_cancel(future));
    cf_future_release(d->other);
    cf_future_release(future); /* the last reference but the library's own */
    gate_arrive(&d->done);
}

TEST(a_callback_may_submit_cancel_add_and_release) {
    for (int round = 0; round < 50; round++) {
        cf_executor *executor = pool(1);
        deed d = {.executor = executor, .other = promise(), .done = GATE_INIT};
        gate g = GATE_INIT;
        cf_future *future = cf_executor_submit(executor, task_block, &g, 0);
        CHECK_STATUS(cf_future_add_done_callback(future, do_everything, &d), CF_OK);
        gate_open(&g);
        gate_await_arrivals(&d.done, 1);
        CHECK_EQ(int_of(d.submitted), 36);
        cf_future_release(d.submitted);
        cf_executor_close(executor);
    }
}

TEST(a_callback_added_to_a_done_future_may_do_the_same) {
    cf_executor *executor = pool(1);
    deed d = {.executor = executor, .other = promise(), .done = GATE_INIT};
    cf_future *future = promise();
    set_int(future, 1);
    CHECK_STATUS(cf_future_add_done_callback(future, do_everything, &d), CF_OK);
    CHECK_EQ(gate_arrivals(&d.done), 1);
    CHECK_EQ(int_of(d.submitted), 36);
    cf_future_release(d.submitted);
    cf_executor_close(executor);
}

TEST(a_callback_run_by_cancel_may_do_the_same) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    deed d = {.executor = executor, .other = promise(), .done = GATE_INIT};
    occupy(executor, 1, &g);
    cf_future *future = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    CHECK_STATUS(cf_future_add_done_callback(future, count_call, &d), CF_OK);
    CHECK(cf_future_cancel(future));
    CHECK_EQ(atomic_load(&d.calls), 1);
    gate_open(&g);
    cf_future_release(future);
    cf_future_release(d.other);
    cf_executor_close(executor);
}

typedef struct siblings {
    cf_future *futures[10];
    atomic_int calls;
} siblings;

static void cancel_all(cf_future *future, void *user) {
    siblings *s = user;
    CHECK(cf_future_cancelled(future));
    atomic_fetch_add(&s->calls, 1);
    for (size_t i = 0; i < 10; i++) {
        CHECK(cf_future_cancel(s->futures[i]));
    }
}

/* Each cancels all others from within the cancel of one. */
TEST(callbacks_may_cancel_in_a_cascade) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    siblings s = {.calls = 0};
    occupy(executor, 1, &g);
    for (size_t i = 0; i < 10; i++) {
        s.futures[i] = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
        CHECK_STATUS(cf_future_add_done_callback(s.futures[i], cancel_all, &s), CF_OK);
    }
    CHECK(cf_future_cancel(s.futures[4]));
    CHECK_EQ(atomic_load(&s.calls), 10);
    gate_open(&g);
    release_all(s.futures, 10);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- an initializer that fails */

static int fail_to_start(void *arg) {
    atomic_fetch_add((atomic_int *)arg, 1);
    return 3;
}

static void never_called(void *arg) {
    CHECK(arg == NULL);
    CHECK(false);
}

TEST(an_initializer_that_fails_breaks_the_pool) {
    enum { COUNT = 20 };
    for (size_t workers = 1; workers <= 3; workers++) {
        atomic_int starts = 0, freed = 0, ran = 0;
        const cf_submit_options options = {.free_arg = freed_once};
        cf_future *futures[COUNT];
        cf_executor *executor = pool_with(&(cf_pool_options){.max_workers = workers,
                                                             .initializer = fail_to_start,
                                                             .finalizer = never_called,
                                                             .worker_arg = &starts});
        for (size_t i = 0; i < COUNT; i += 2) {
            futures[i] = cf_executor_submit(executor, task_count, &ran, 0);
            futures[i + 1] = cf_executor_submit_with(executor, task_nothing, &freed, 0, &options);
        }
        for (size_t i = 0; i < COUNT; i++) {
            CHECK_STATUS(outcome(futures[i]), CF_BROKEN);
            CHECK(strlen(cf_future_error_message(futures[i])) > 0);
        }
        cf_future *late = cf_executor_submit(executor, task_count, &ran, 0);
        CHECK_STATUS(cf_future_wait(late, 0), CF_BROKEN);
        CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
        cf_future *later = cf_executor_submit(executor, task_count, &ran, 0);
        CHECK_STATUS(cf_future_wait(later, 0), CF_BROKEN); /* before CF_SHUTDOWN */
        cf_executor_close(executor);
        CHECK(atomic_load(&starts) >= 1 && (size_t)atomic_load(&starts) <= workers);
        CHECK_EQ(atomic_load(&freed), COUNT / 2);
        CHECK_EQ(atomic_load(&ran), 0);
        release_all(futures, COUNT);
        cf_future_release(late);
        cf_future_release(later);
    }
}

/* ---------------------------------------------------------------- submit after shutdown */

TEST(everything_after_shutdown_is_refused_and_nothing_leaks) {
    cf_executor *executors[2] = {pool(1), inline_executor()};
    const int items[3] = {1, 2, 3};
    for (size_t e = 0; e < 2; e++) {
        atomic_int freed = 0;
        int results[3] = {0};
        const cf_submit_options options = {.free_arg = freed_once};
        cf_future *futures[5];
        CHECK_STATUS(cf_executor_shutdown(executors[e], CF_FOREVER, CF_RUN_PENDING), CF_OK);
        futures[0] = cf_executor_submit(executors[e], task_square, &items[0], sizeof items[0]);
        futures[1] = cf_executor_submit_with(executors[e], task_nothing, &freed, 0, &options);
        CHECK_STATUS(cf_executor_submit_many(executors[e], task_square, items, 3, sizeof items[0],
                                             &futures[2]),
                     CF_SHUTDOWN);
        for (size_t i = 0; i < 5; i++) {
            CHECK_STATUS(cf_future_wait(futures[i], 0), CF_SHUTDOWN);
            CHECK_EQ(cf_future_state(futures[i]), CF_STATE_FINISHED);
            CHECK(!cf_future_cancel(futures[i]));
        }
        CHECK_EQ(atomic_load(&freed), 1);
        CHECK_STATUS(cf_executor_map_array(executors[e], task_square, items, sizeof items[0],
                                           results, sizeof results[0], 3, NULL, NULL),
                     CF_SHUTDOWN);
        CHECK_EQ(stats_of(executors[e]).submitted, 0);
        release_all(futures, 5);
        cf_executor_close(executors[e]);
    }
}

/* ---------------------------------------------------------------- close from a worker */

static int task_close_and_return(cf_task *task, void *arg) {
    gate_await(arg);
    cf_executor_close(cf_task_executor(task));
    return return_int(task, 7);
}

TEST(a_worker_may_close_its_pool_and_return_a_result) {
    for (size_t workers = 1; workers <= 3; workers++) {
        gate g = GATE_INIT;
        atomic_int ran = 0;
        cf_executor *executor = pool(workers);
        cf_future *future = cf_executor_submit(executor, task_close_and_return, &g, 0);
        cf_future *pending[10];
        for (size_t i = 0; i < 10; i++) {
            pending[i] = cf_executor_submit(executor, task_count, &ran, 0);
        }
        gate_open(&g);
        CHECK_EQ(int_of(future), 7);
        for (size_t i = 0; i < 10; i++) {
            CHECK_STATUS(outcome(pending[i]), CF_OK);
        }
        CHECK_EQ(atomic_load(&ran), 10);
        release_all(pending, 10);
        cf_future_release(future);
    }
}

static int task_nap(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    sleep_for(5 * CF_MILLISECOND);
    return 0;
}

static void close_executor(cf_future *future, void *user) {
    deed *d = user;
    CHECK(cf_future_done(future));
    cf_executor_close(d->executor);
    gate_arrive(&d->done);
}

/* The canceller is inside the executor when the callback closes it. */
TEST(a_callback_run_by_cancel_may_close_the_pool) {
    for (int round = 0; round < 10; round++) {
        cf_executor *executor = pool(1);
        deed d = {.executor = executor, .done = GATE_INIT};
        fire(executor, task_nap, NULL);
        cf_future *future = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
        CHECK_STATUS(cf_future_add_done_callback(future, close_executor, &d), CF_OK);
        (void)cf_future_cancel(future);
        CHECK(cf_future_done(future));
        gate_await_arrivals(&d.done, 1);
        cf_future_release(future);
    }
}

static int task_close_own_inline(cf_task *task, void *arg) {
    (void)arg;
    cf_executor_close(cf_task_executor(task));
    return return_int(task, 7);
}

TEST(an_inline_task_may_close_its_executor) {
    cf_executor *executor = inline_executor();
    cf_future *future = cf_executor_submit(executor, task_close_own_inline, CF_NO_ARG);
    CHECK_EQ(int_of(future), 7);
    cf_future_release(future);
}

TEST_MAIN(
    RUN(a_null_executor_answers_where_results_are_read)
    RUN(stats_of_a_null_executor_are_zero)
    RUN(a_null_function_is_refused)
    RUN(every_last_status_may_be_null)
    RUN(null_iterators_answer)
    RUN(submit_many_without_slots_is_refused)
    RUN(zero_workers_are_the_default)
    RUN(options_that_a_thread_pool_does_not_know_are_refused)
    RUN(values_that_no_option_has_are_refused)
    RUN(a_shutdown_mode_that_does_not_exist_is_refused)
    RUN(absurdly_many_workers_are_refused_or_started_on_demand)
    RUN(a_stack_size_is_used_or_refused_but_not_ignored)
    RUN(an_absurd_stack_size_is_a_status)
    RUN(free_arg_with_a_copied_argument_is_refused_and_not_called)
    RUN(submit_with_null_options_is_submit)
    RUN(a_count_times_size_that_overflows_is_refused)
    RUN(items_whose_size_overflows_fill_every_slot_with_a_refusal)
    RUN(as_completed_over_a_count_that_overflows_is_refused)
    RUN(an_argument_of_absurd_size_is_refused)
    RUN(a_result_of_absurd_size_fails_the_task)
    RUN(a_promise_refuses_a_result_of_absurd_size_and_stays_pending)
    RUN(a_message_longer_than_anyone_reads_is_cut)
    RUN(a_promise_that_has_ended_cannot_be_set_again)
    RUN(a_running_promise_cannot_be_started_or_cancelled)
    RUN(of_two_threads_that_set_a_promise_one_wins)
    RUN(an_executors_future_cannot_be_set)
    RUN(a_callback_may_submit_cancel_add_and_release)
    RUN(a_callback_added_to_a_done_future_may_do_the_same)
    RUN(a_callback_run_by_cancel_may_do_the_same)
    RUN(callbacks_may_cancel_in_a_cascade)
    RUN(an_initializer_that_fails_breaks_the_pool)
    RUN(everything_after_shutdown_is_refused_and_nothing_leaks)
    RUN(a_worker_may_close_its_pool_and_return_a_result)
    RUN(a_callback_run_by_cancel_may_close_the_pool)
    RUN(an_inline_task_may_close_its_executor)
)
