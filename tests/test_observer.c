/* Observers of thread pools: which hook is called when, how often, with what; and that it may call
 * back. */
#include "test.h"

#include "observer.h"

static cf_executor *observed(size_t workers) {
    return pool_with(&(cf_pool_options){.max_workers = workers, .observer = recorder()});
}

/* ---------------------------------------------------------------- once each, and in order */

TEST(a_task_is_submitted_started_and_finished) {
    cf_executor *executor = observed(1);
    cf_future *future = cf_executor_submit(executor, task_square, CF_VALUE(int, 7));
    CHECK_EQ(int_of(future), 49);
    cf_executor_close(executor);
    const char *seen = story();
    CHECK(strcmp(seen, "s<r+>") == 0 || strcmp(seen, "<sr+>") == 0);
    check_record(false);
    for (cf_event_kind kind = CF_EVENT_SUBMITTED; kind <= CF_EVENT_FINISHED; kind++) {
        const cf_event *event = nth_told(kind, 0);
        CHECK(event->task == future);
        CHECK(event->executor == executor);
        CHECK(event->fn == task_square);
        CHECK_EQ(event->items, 1);
        CHECK_EQ(event->pid, 0);
    }
    cf_future_release(future);
}

static void submit_some(cf_executor *executor, int count) {
    for (int i = 0; i < count; i++)
        cf_future_release(
            cf_executor_submit(executor, i % 3 == 0 ? task_fail : task_square, CF_VALUE(int, i)));
}

static void *submit_from_a_thread(void *executor) {
    submit_some(executor, 300);
    return NULL;
}

TEST(many_tasks_from_many_threads_are_told_once_each_and_in_order) {
    cf_executor *executor = observed(4);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) spawn(&threads[i], submit_from_a_thread, executor);
    submit_some(executor, 300);
    for (int i = 0; i < 3; i++) join(threads[i]);
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_SUBMITTED, CF_OK), 1200);
    CHECK_EQ(count_told(CF_EVENT_STARTED, CF_OK), 1200);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_OK), 800);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_TASK_FAILED), 400);
}

TEST(submit_many_tells_of_each) {
    enum { COUNT = 200 };
    int items[COUNT] = {0};
    cf_future *futures[COUNT];
    cf_executor *executor = observed(2);
    CHECK_STATUS(cf_executor_submit_many(executor, task_square, items, COUNT, sizeof *items,
                                         futures), CF_OK);
    release_all(futures, COUNT);
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_SUBMITTED, CF_OK), COUNT);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_OK), COUNT);
}

TEST(finished_was_told_before_the_future_is_seen_done) {
    check_finished_before_done(
        pool_with(&(cf_pool_options){.max_workers = 1, .observer = &of_finished}), 2000);
}

/* ---------------------------------------------------------------- with what */

TEST(submitted_knows_the_argument) {
    cf_executor *executor = observed(1);
    static int mine = 5;
    gate g = GATE_INIT;
    occupy(executor, 1, &g); /* so that the copies below wait */
    cf_future *copied = cf_executor_submit(executor, task_square, CF_VALUE(int, 3));
    cf_future *pointed = cf_executor_submit(executor, task_square, CF_POINTER(&mine));
    const cf_event *event = nth_told(CF_EVENT_SUBMITTED, 1);
    CHECK_EQ(event->arg_size, sizeof(int));
    CHECK_EQ(*(const int *)event->arg, 3);
    event = nth_told(CF_EVENT_SUBMITTED, 2);
    CHECK_EQ(event->arg_size, 0);
    CHECK(event->arg == &mine);
    gate_open(&g);
    cf_executor_close(executor);
    CHECK(nth_told(CF_EVENT_STARTED, 1)->arg == NULL);
    CHECK(nth_told(CF_EVENT_FINISHED, 1)->arg == NULL);
    cf_future_release(copied);
    cf_future_release(pointed);
}

TEST(a_failure_has_its_code_and_its_message) {
    check_failure(observed(1));
}

TEST(the_times_are_those_of_the_function) {
    gate g = GATE_INIT;
    cf_executor *executor = observed(1);
    occupy(executor, 1, &g);
    const int64_t before = now();
    fire(executor, task_nothing, NULL);
    sleep_for(20 * CF_MILLISECOND);
    gate_open(&g);
    close_and_check(executor);
    const cf_event *first = nth_told(CF_EVENT_FINISHED, 0);
    const cf_event *second = nth_told(CF_EVENT_SUBMITTED, 1);
    CHECK(first->time - nth_told(CF_EVENT_STARTED, 0)->time >= 20 * CF_MILLISECOND);
    CHECK(nth_told(CF_EVENT_STARTED, 1)->time - second->time >= 20 * CF_MILLISECOND);
    if (strstr(test_backend(), "generic") == NULL) CHECK(second->time >= before); /* one clock */
}

TEST(a_worker_has_its_number) {
    gate g = GATE_INIT;
    cf_executor *executor = observed(3);
    occupy(executor, 3, &g);
    gate_open(&g);
    close_and_check(executor);
    bool seen[3] = {false};
    for (size_t i = 0; i < 3; i++) seen[nth_told(CF_EVENT_STARTED, i)->worker] = true;
    CHECK(seen[0] && seen[1] && seen[2]);
    CHECK_EQ(count_told(CF_EVENT_WORKER_STARTED, CF_OK), 3);
    CHECK_EQ(count_told(CF_EVENT_WORKER_ENDED, CF_OK), 3);
}

/* ---------------------------------------------------------------- what never runs */

TEST(a_cancelled_task_is_finished_without_a_start) {
    gate g = GATE_INIT;
    cf_executor *executor = observed(1);
    occupy(executor, 1, &g);
    cf_future *future = cf_executor_submit(executor, task_square, CF_VALUE(int, 1));
    CHECK(cf_future_cancel(future));
    CHECK(cf_future_cancel(future));
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_CANCELLED), 1);
    gate_open(&g);
    cf_executor_close(executor);
    cf_future_release(future);
    check_record(false);
    CHECK_EQ(count_told(CF_EVENT_STARTED, CF_OK), 1);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_CANCELLED), 1);
}

TEST(a_shutdown_that_cancels_tells_of_each) {
    gate g = GATE_INIT;
    cf_executor *executor = observed(1);
    occupy(executor, 1, &g);
    for (int i = 0; i < 50; i++) fire(executor, task_nothing, NULL);
    CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_CANCELLED), 50);
    gate_open(&g);
    close_and_check(executor);
}

TEST(a_task_of_a_pool_that_is_shut_down_is_submitted_and_refused) {
    cf_executor *executor = observed(1);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    fire(executor, task_nothing, NULL);
    cf_future *futures[2];
    const int items[2] = {1, 2};
    CHECK_STATUS(cf_executor_submit_many(executor, task_square, items, 2, sizeof(int), futures),
                 CF_SHUTDOWN);
    release_all(futures, 2);
    cf_executor_close(executor);
    CHECK_STR(story(), "s-ss--");
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_SHUTDOWN), 3);
    check_record(false);
}

TEST(a_task_that_a_full_queue_refuses_is_submitted_and_refused) {
    gate g = GATE_INIT;
    cf_executor *executor = pool_with(&(cf_pool_options){
        .max_workers = 1, .queue_limit = 1, .on_full = CF_FULL_REJECT, .observer = recorder()});
    occupy(executor, 1, &g);
    fire(executor, task_nothing, NULL);
    fire(executor, task_nothing, NULL);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_QUEUE_FULL), 1);
    gate_open(&g);
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_SUBMITTED, CF_OK), 3);
    CHECK_EQ(count_told(CF_EVENT_STARTED, CF_OK), 2);
}

TEST(a_broken_pool_tells_of_its_tasks_and_of_no_worker) {
    check_broken(pool_with(&(cf_pool_options){
        .max_workers = 2, .initializer = initializer_fails, .observer = recorder()}));
}

TEST(what_is_wrong_from_the_start_is_not_told) {
    cf_executor *executor = observed(1);
    cf_future_release(cf_executor_submit(executor, NULL, CF_NO_ARG));
    cf_future_release(cf_executor_submit(executor, task_square, NULL, 4));
    CHECK(cf_executor_map(executor, NULL, NULL, 0, 0, NULL) == NULL);
    cf_executor_close(executor);
    CHECK_STR(story(), "");
}

static int task_until_stop(cf_task *task, void *arg) {
    (void)arg;
    UNTIL(cf_task_stop_requested(task));
    return 0;
}

TEST(a_task_that_takes_too_long_is_timed_out) {
    const cf_submit_options options = {.timeout = CF_MILLISECOND};
    cf_executor *executor = observed(1);
    cf_future_release(
        cf_executor_submit_with(executor, task_until_stop, CF_NO_ARG, &options));
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_TASK_TIMEOUT), 1);
}

/* ---------------------------------------------------------------- who else runs tasks */

/* int depth: submits the next one and waits for it. */
static int task_nested(cf_task *task, void *arg) {
    const int depth = *(const int *)arg;
    if (depth == 0) return return_int(task, 0);
    cf_future *child =
        cf_executor_submit(cf_task_executor(task), task_nested, CF_VALUE(int, depth - 1));
    const int sum = int_of(child) + 1;
    cf_future_release(child);
    return return_int(task, sum);
}

TEST(a_task_that_a_waiting_task_runs_is_told_like_any_other) {
    cf_executor *executor = observed(1);
    cf_future *future = cf_executor_submit(executor, task_nested, CF_VALUE(int, 3));
    CHECK_EQ(int_of(future), 3);
    cf_future_release(future);
    close_and_check(executor);
    const char *seen = story();
    CHECK(strcmp(seen, "s<rsrsrsr++++>") == 0 || strcmp(seen, "<srsrsrsr++++>") == 0);
}

TEST(so_is_one_that_a_stand_in_runs) {
    enum { DEPTH = 600 }; /* more than one stack takes */
    cf_executor *executor = observed(1);
    cf_future *future = cf_executor_submit(executor, task_nested, CF_VALUE(int, DEPTH));
    CHECK_EQ(int_of(future), DEPTH);
    cf_future_release(future);
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_OK), DEPTH + 1);
}

TEST(a_caller_that_runs_the_task_has_the_number_max_workers) {
    gate g = GATE_INIT;
    cf_executor *executor = pool_with(&(cf_pool_options){
        .max_workers = 1, .queue_limit = 1, .on_full = CF_FULL_CALLER_RUNS,
        .observer = recorder()});
    occupy(executor, 1, &g);
    fire(executor, task_nothing, NULL);
    cf_future *here = cf_executor_submit(executor, task_square, CF_VALUE(int, 2));
    CHECK(cf_future_done(here));
    const cf_event *event = nth_told(CF_EVENT_FINISHED, 0);
    CHECK(event->task == here);
    CHECK_EQ(event->worker, 1);
    gate_open(&g);
    cf_executor_close(executor);
    cf_future_release(here);
    check_record(true);
}

static int task_submits_to_its_full_pool(cf_task *task, void *arg) {
    (void)arg;
    for (int i = 0; i < 3; i++) fire(cf_task_executor(task), task_nothing, NULL);
    return 0;
}

TEST(so_is_what_a_worker_runs_since_its_own_queue_is_full) {
    cf_executor *executor = pool_with(&(cf_pool_options){
        .max_workers = 1, .queue_limit = 1, .observer = recorder()});
    cf_future *future = cf_executor_submit(executor, task_submits_to_its_full_pool, CF_NO_ARG);
    CHECK_STATUS(outcome(future), CF_OK);
    cf_future_release(future);
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_OK), 4);
}

/* ---------------------------------------------------------------- maps */

/* int n -> n * n, but 5 fails with 50 and so does 6 with 60. */
static int task_picky(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n == 5 || n == 6) return cf_task_fail(task, 10 * n, "no %d, please", n);
    return return_int(task, n * n);
}

static const int ten[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};

TEST(a_chunk_is_one_task_with_its_items) {
    const cf_map_options options = {.chunksize = 4};
    cf_executor *executor = observed(1);
    cf_map_iter *iter = cf_executor_map(executor, task_picky, ten, 10, sizeof *ten, &options);
    cf_status status = CF_OK;
    while (status != CF_END) (void)cf_map_next(iter, &status);
    cf_map_close(iter);
    close_and_check(executor);
    const size_t items[3] = {4, 4, 2};
    for (size_t i = 0; i < 3; i++) {
        CHECK_EQ(nth_told(CF_EVENT_SUBMITTED, i)->items, items[i]);
        CHECK_EQ(nth_told(CF_EVENT_STARTED, i)->items, items[i]);
        CHECK_EQ(nth_told(CF_EVENT_FINISHED, i)->items, items[i]);
        CHECK(nth_told(CF_EVENT_FINISHED, i)->fn == task_picky);
    }
    const cf_event *event = nth_told(CF_EVENT_FINISHED, 1);
    CHECK_STATUS(event->status, CF_TASK_FAILED);
    CHECK_EQ(event->code, 50);
    CHECK_STR(event->message, "no 5, please");
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_OK), 2);
}

TEST(submitted_knows_the_first_item_of_a_chunk) {
    const cf_map_options options = {.chunksize = 4};
    gate g = GATE_INIT;
    cf_executor *executor = observed(1);
    occupy(executor, 1, &g);
    cf_map_iter *iter = cf_executor_map(executor, task_picky, ten, 10, sizeof *ten, &options);
    for (size_t i = 0; i < 3; i++) {
        const cf_event *event = nth_told(CF_EVENT_SUBMITTED, i + 1);
        CHECK_EQ(event->arg_size, sizeof *ten);
        CHECK_EQ(*(const int *)event->arg, ten[4 * i]);
    }
    gate_open(&g);
    cf_executor_close(executor);
    cf_map_close(iter);
    check_record(false);
}

/* struct stay: the first item arrives and waits; the others need not run. */
static int task_first_stays(cf_task *task, void *arg) {
    return task_block(task, *(void **)arg);
}

TEST(a_chunk_that_is_stopped_has_run_so_many_items) {
    const cf_map_options options = {.chunksize = 3};
    gate g = GATE_INIT;
    gate *const items[3] = {&g, &g, &g};
    cf_executor *executor = observed(1);
    cf_map_iter *iter =
        cf_executor_map(executor, task_first_stays, items, 3, sizeof *items, &options);
    gate_await_arrivals(&g, 1);
    cf_map_close(iter);
    gate_open(&g);
    close_and_check(executor);
    const cf_event *event = nth_told(CF_EVENT_FINISHED, 0);
    CHECK_STATUS(event->status, CF_CANCELLED);
    CHECK_EQ(event->items, 1);
}

TEST(a_chunk_whose_iterator_is_closed_is_told_soundly) {
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 300, start); i++) {
        const cf_map_options options = {.chunksize = 2};
        cf_executor *executor = observed(2);
        cf_map_close(cf_executor_map(executor, task_picky, ten, 10, sizeof *ten, &options));
        cf_executor_close(executor);
        check_record(false);
        CHECK_EQ(items_told(CF_EVENT_SUBMITTED), 10);
        record.count = 0;
    }
}

TEST(the_shares_of_map_array_add_up) {
    enum { COUNT = 1000 };
    static int items[COUNT], results[COUNT];
    cf_executor *executor = observed(3);
    for (int i = 0; i < COUNT; i++) items[i] = i % 100;
    size_t failed = COUNT;
    CHECK_STATUS(cf_executor_map_array(executor, task_picky, items, sizeof *items, results,
                                       sizeof *results, COUNT, NULL, &failed), CF_TASK_FAILED);
    CHECK_EQ(failed, 5);
    close_and_check(executor);
    CHECK_EQ(items_told(CF_EVENT_SUBMITTED), 0);
    CHECK_EQ(items_told(CF_EVENT_FINISHED), COUNT);
    for (size_t i = 0; i < count_told(CF_EVENT_SUBMITTED, CF_OK); i++) {
        CHECK(nth_told(CF_EVENT_SUBMITTED, i)->fn == task_picky);
        CHECK(nth_told(CF_EVENT_SUBMITTED, i)->arg == NULL);
    }
    CHECK(count_told(CF_EVENT_FINISHED, CF_TASK_FAILED) >= 1);
}

/* ---------------------------------------------------------------- what hooks may do */

TEST(hooks_are_called_under_no_lock) {
    for (size_t limit_of_queue = 0; limit_of_queue < 2; limit_of_queue++) {
        cf_executor *executor = pool_with(
            &(cf_pool_options){.max_workers = 2, .queue_limit = 10000 * limit_of_queue,
                               .observer = user_of_the_pool(60)});
        run_twenty(executor);
        const int squares[2] = {3, 4};
        int results[2];
        CHECK_STATUS(cf_executor_map_array(executor, task_square, squares, sizeof(int), results,
                                           sizeof(int), 2, NULL, NULL), CF_OK);
        cf_executor_close(executor);
    }
    CHECK(atomic_load(&submits_left) <= 0);
    CHECK_EQ(count_told(CF_EVENT_SUBMITTED, CF_OK), 2 * (20 + 60 + 2));
}

static atomic_int waits_left = 1;
static atomic_int answer;

static void hook_waits(const cf_event *event, void *user) {
    (void)user;
    if (event->kind != CF_EVENT_STARTED || atomic_fetch_sub(&waits_left, 1) <= 0) return;
    cf_future *future = cf_executor_submit(event->executor, task_square, CF_VALUE(int, 4));
    atomic_store(&answer, int_of(future));
    cf_future_release(future);
}

TEST(a_hook_on_a_worker_may_wait_for_another_task) {
    const cf_observer observer = {.started = hook_waits};
    cf_executor *executor =
        pool_with(&(cf_pool_options){.max_workers = 1, .observer = &observer});
    cf_future *future = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    CHECK_STATUS(outcome(future), CF_OK);
    cf_future_release(future);
    cf_executor_close(executor);
    CHECK_EQ(atomic_load(&answer), 16);
}

TEST(every_hook_may_be_missing) {
    for (int which = 0; which <= 5; which++) {
        cf_observer observer = {.user = &record};
        cf_event_fn **const hooks[] = {&observer.submitted, &observer.started, &observer.finished,
                                       &observer.worker_started, &observer.worker_ended};
        if (which < 5) *hooks[which] = recorder()->submitted;
        cf_executor *executor =
            pool_with(&(cf_pool_options){.max_workers = 1, .observer = &observer});
        record.count = 0;
        fire(executor, task_nothing, NULL);
        cf_executor_close(executor);
        CHECK_EQ(record.count, which < 5);
        if (which < 5) CHECK_EQ(record.all[0].event.kind, which);
    }
}

TEST(the_observer_is_copied) {
    cf_observer observer = *recorder();
    cf_pool_options options = {.max_workers = 1, .observer = &observer};
    cf_executor *executor = pool_with(&options);
    memset(&observer, 0, sizeof observer);
    memset(&options, 0, sizeof options);
    fire(executor, task_nothing, NULL);
    cf_executor_close(executor);
    CHECK_EQ(record.count, 5);
    check_record(false);
}

static int task_closes(cf_task *task, void *arg) {
    (void)arg;
    cf_executor_close(cf_task_executor(task));
    return 0;
}

TEST(a_pool_that_its_own_worker_closes_tells_all) {
    cf_executor *executor = observed(1);
    fire(executor, task_closes, NULL);
    UNTIL(count_told(CF_EVENT_WORKER_ENDED, CF_OK) == 1);
    check_record(false);
}

TEST_MAIN(
    RUN(a_task_is_submitted_started_and_finished)
    RUN(many_tasks_from_many_threads_are_told_once_each_and_in_order)
    RUN(submit_many_tells_of_each)
    RUN(finished_was_told_before_the_future_is_seen_done)
    RUN(submitted_knows_the_argument)
    RUN(a_failure_has_its_code_and_its_message)
    RUN(the_times_are_those_of_the_function)
    RUN(a_worker_has_its_number)
    RUN(a_cancelled_task_is_finished_without_a_start)
    RUN(a_shutdown_that_cancels_tells_of_each)
    RUN(a_task_of_a_pool_that_is_shut_down_is_submitted_and_refused)
    RUN(a_task_that_a_full_queue_refuses_is_submitted_and_refused)
    RUN(a_broken_pool_tells_of_its_tasks_and_of_no_worker)
    RUN(what_is_wrong_from_the_start_is_not_told)
    RUN(a_task_that_takes_too_long_is_timed_out)
    RUN(a_task_that_a_waiting_task_runs_is_told_like_any_other)
    RUN(so_is_one_that_a_stand_in_runs)
    RUN(a_caller_that_runs_the_task_has_the_number_max_workers)
    RUN(so_is_what_a_worker_runs_since_its_own_queue_is_full)
    RUN(a_chunk_is_one_task_with_its_items)
    RUN(submitted_knows_the_first_item_of_a_chunk)
    RUN(a_chunk_that_is_stopped_has_run_so_many_items)
    RUN(a_chunk_whose_iterator_is_closed_is_told_soundly)
    RUN(the_shares_of_map_array_add_up)
    RUN(hooks_are_called_under_no_lock)
    RUN(a_hook_on_a_worker_may_wait_for_another_task)
    RUN(every_hook_may_be_missing)
    RUN(the_observer_is_copied)
    RUN(a_pool_that_its_own_worker_closes_tells_all)
)
