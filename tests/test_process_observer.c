/* Observers of process pools: all of it is told in the host, by the times of the worker, also where
 * workers die. */
#include "test.h"

#include "observer.h"
#include "process.h"

static cf_executor *observed(size_t workers) {
    return processes_with(&(cf_pool_options){.max_workers = workers, .observer = recorder()});
}

/* ---------------------------------------------------------------- once each, and in order */

TEST(a_task_is_submitted_started_and_finished) {
    cf_executor *executor = observed(1);
    cf_future *future = cf_executor_submit(executor, task_pid, CF_NO_ARG);
    const int pid = int_of(future);
    close_and_check(executor);
    CHECK_STR(story(), "s<r+>");
    for (cf_event_kind kind = CF_EVENT_SUBMITTED; kind <= CF_EVENT_FINISHED; kind++) {
        const cf_event *event = nth_told(kind, 0);
        CHECK(event->task == future);
        CHECK(event->fn == task_pid);
        CHECK_EQ(event->items, 1);
        CHECK_EQ(event->pid, kind == CF_EVENT_SUBMITTED ? 0 : pid);
    }
    CHECK_EQ(nth_told(CF_EVENT_WORKER_STARTED, 0)->pid, pid);
    CHECK_EQ(nth_told(CF_EVENT_WORKER_ENDED, 0)->pid, pid);
    CHECK_STATUS(nth_told(CF_EVENT_WORKER_ENDED, 0)->status, CF_OK);
    cf_future_release(future);
}

static void *submit_from_a_thread(void *executor) {
    for (int i = 0; i < 200; i++)
        cf_future_release(
            cf_executor_submit(executor, i % 4 == 0 ? task_fail : task_square, CF_VALUE(int, i)));
    return NULL;
}

TEST(many_tasks_from_many_threads_are_told_once_each_and_in_order) {
    cf_executor *executor = observed(3);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) spawn(&threads[i], submit_from_a_thread, executor);
    int items[100] = {0};
    cf_future *futures[100];
    CHECK_STATUS(cf_executor_submit_many(executor, task_square, items, 100, sizeof *items,
                                         futures), CF_OK);
    for (int i = 0; i < 100; i++) CHECK_EQ(int_of(futures[i]), 0);
    release_all(futures, 100);
    for (int i = 0; i < 3; i++) join(threads[i]);
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_SUBMITTED, CF_OK), 700);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_OK), 550);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_TASK_FAILED), 150);
}

TEST(finished_was_told_before_the_future_is_seen_done) {
    check_finished_before_done(
        processes_with(&(cf_pool_options){.max_workers = 1, .observer = &of_finished}), 500);
}

/* ---------------------------------------------------------------- a close in between */

static gate second_is_told = GATE_INIT, pool_is_closed = GATE_INIT;

static void hold_up_the_second(const cf_event *event, void *count) {
    (void)event;
    if (atomic_fetch_add((atomic_int *)count, 1) == 1) {
        gate_arrive(&second_is_told);
        gate_await(&pool_is_closed);
    }
}

static void *take_the_items(void *iter) {
    cf_status status = CF_SYSTEM;
    CHECK(cf_map_next(iter, &status) != NULL); /* submits the next one */
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_SHUTDOWN);
    return NULL;
}

TEST(a_map_that_submits_while_its_pool_is_closed_is_refused) {
    atomic_int submitted = 0;
    const int items[2] = {1, 2};
    pthread_t thread;
    const cf_observer observer = {.submitted = hold_up_the_second, .user = &submitted};
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .observer = &observer});
    cf_map_iter *iter = cf_executor_map(executor, task_square, items, 2, sizeof *items,
                                        &(cf_map_options){.buffersize = 1});
    spawn(&thread, take_the_items, iter);
    gate_await_arrivals(&second_is_told, 1);
    cf_executor_close(executor);
    gate_open(&pool_is_closed);
    join(thread);
    cf_map_close(iter);
}

/* ---------------------------------------------------------------- with what */

static int task_times(cf_task *task, void *arg) {
    (void)arg;
    int64_t times[2] = {now(), 0};
    sleep_for(CF_MILLISECOND);
    times[1] = now();
    return cf_task_return(task, times, sizeof times);
}

TEST(the_worker_has_measured_the_times) {
    cf_executor *executor = observed(1);
    cf_future *future = cf_executor_submit(executor, task_times, CF_NO_ARG);
    CHECK_STATUS(outcome(future), CF_OK);
    const int64_t *times = cf_future_result(future, 0, NULL);
    const int64_t before = nth_told(CF_EVENT_SUBMITTED, 0)->time;
    close_and_check(executor);
    const int64_t started = nth_told(CF_EVENT_STARTED, 0)->time;
    const int64_t finished = nth_told(CF_EVENT_FINISHED, 0)->time;
    CHECK(before <= started && started <= times[0]);
    CHECK(times[1] <= finished && finished <= now());
    CHECK(finished < record.all[record.count - 1].heard);
    cf_future_release(future);
}

TEST(a_big_argument_and_a_big_result_are_told_like_small_ones) {
    enum { SIZE = 3000000 };
    static char big[SIZE];
    cf_executor *executor = observed(2);
    for (int i = 0; i < 4; i++) {
        cf_future *future = cf_executor_submit(executor, task_echo, big, SIZE);
        CHECK_STATUS(outcome(future), CF_OK);
        CHECK_EQ(cf_future_result_size(future), SIZE);
        cf_future_release(future);
    }
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_OK), 4);
    CHECK_EQ(nth_told(CF_EVENT_SUBMITTED, 0)->arg_size, SIZE);
}

TEST(a_failure_has_its_code_and_its_message) {
    check_failure(observed(1));
}

/* ---------------------------------------------------------------- what never runs */

TEST(what_is_cancelled_or_refused_is_finished_without_a_start) {
    cf_executor *executor = processes_with(&(cf_pool_options){
        .max_workers = 1, .queue_limit = 2, .on_full = CF_FULL_REJECT, .observer = recorder()});
    fire(executor, task_stay, NULL);
    await_arrivals(1);
    cf_future *cancelled = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    fire(executor, task_nothing, NULL);
    fire(executor, task_nothing, NULL); /* one too many */
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_QUEUE_FULL), 1);
    CHECK(cf_future_cancel(cancelled));
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_CANCELLED), 1);
    open_shared();
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    fire(executor, task_nothing, NULL);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_SHUTDOWN), 1);
    cf_future_release(cancelled);
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_STARTED, CF_OK), 2);
}

TEST(a_broken_pool_tells_of_its_tasks_and_of_no_worker) {
    check_broken(processes_with(&(cf_pool_options){
        .max_workers = 1, .initializer = initializer_fails, .observer = recorder()}));
}

/* ---------------------------------------------------------------- death */

static int task_dies(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    raise(SIGKILL);
    return 0;
}

TEST(a_task_whose_worker_dies_is_lost_and_so_is_the_worker) {
    cf_executor *executor = observed(1);
    cf_future *future = cf_executor_submit(executor, task_dies, CF_NO_ARG);
    CHECK_STATUS(outcome(future), CF_WORKER_LOST);
    cf_future_release(future);
    future = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    CHECK_STATUS(outcome(future), CF_OK);
    cf_future_release(future);
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_WORKER_STARTED, CF_OK), 2);
    const cf_event *lost[2] = {nth_told(CF_EVENT_FINISHED, 0), nth_told(CF_EVENT_WORKER_ENDED, 0)};
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(lost[i]->status, CF_WORKER_LOST);
        CHECK_EQ(lost[i]->code, SIGKILL);
        CHECK(strstr(lost[i]->message, "was killed by signal 9 (SIGKILL)") != NULL);
        CHECK_EQ(lost[i]->pid, nth_told(CF_EVENT_WORKER_STARTED, 0)->pid);
    }
    CHECK_STATUS(nth_told(CF_EVENT_WORKER_ENDED, 1)->status, CF_OK);
}

static int task_exits(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    _exit(0);
}

TEST(a_worker_that_exits_in_a_task_is_lost_too) {
    cf_executor *executor = observed(1);
    fire(executor, task_exits, NULL);
    close_and_check(executor);
    CHECK_STATUS(nth_told(CF_EVENT_FINISHED, 0)->status, CF_WORKER_LOST);
    CHECK_STATUS(nth_told(CF_EVENT_WORKER_ENDED, 0)->status, CF_WORKER_LOST);
    CHECK_EQ(nth_told(CF_EVENT_WORKER_ENDED, 0)->code, 256);
}

TEST(a_task_that_takes_too_long_is_timed_out) {
    const cf_submit_options options = {.timeout = 20 * CF_MILLISECOND};
    cf_executor *executor = observed(1);
    cf_future_release(cf_executor_submit_with(executor, task_hang, CF_NO_ARG, &options));
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_TASK_TIMEOUT), 1);
    CHECK_EQ(count_told(CF_EVENT_WORKER_ENDED, CF_WORKER_LOST), 1);
    CHECK(nth_told(CF_EVENT_FINISHED, 0)->time - nth_told(CF_EVENT_STARTED, 0)->time >=
          20 * CF_MILLISECOND);
}

TEST(what_waits_at_the_desk_of_a_dead_worker_is_started_once) {
    cf_executor *executor = observed(1);
    fire(executor, task_stay, NULL);
    await_arrivals(1);
    for (int i = 0; i < 20; i++) fire(executor, task_nothing, NULL);
    CHECK_EQ(kill(arrived_pid(0), SIGKILL), 0);
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_STARTED, CF_OK), 21);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_WORKER_LOST), 1);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_OK), 20);
}

/* int n -> n; but the worker dies of 3. */
static int task_dies_of_3(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n == 3) raise(SIGKILL);
    return return_int(task, n);
}

TEST(what_is_left_of_a_chunk_whose_worker_dies_is_submitted_anew) {
    const int items[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    const cf_map_options options = {.chunksize = 8};
    cf_executor *executor = observed(1);
    cf_map_iter *iter = cf_executor_map(executor, task_dies_of_3, items, 8, sizeof *items,
                                        &options);
    for (int i = 0; i < 8; i++) {
        cf_status status;
        (void)cf_map_next(iter, &status);
        CHECK_STATUS(status, i == 3 ? CF_WORKER_LOST : CF_OK);
    }
    cf_map_close(iter);
    close_and_check(executor);
    CHECK_STR(story(), "s<r-s><r+>");
    CHECK(nth_told(CF_EVENT_SUBMITTED, 0)->task == nth_told(CF_EVENT_SUBMITTED, 1)->task);
    CHECK(nth_told(CF_EVENT_SUBMITTED, 1)->fn == task_dies_of_3);
    CHECK_EQ(nth_told(CF_EVENT_STARTED, 0)->items, 8);
    CHECK_EQ(nth_told(CF_EVENT_FINISHED, 0)->items, 4);
    CHECK_STATUS(nth_told(CF_EVENT_FINISHED, 0)->status, CF_WORKER_LOST);
    CHECK_EQ(nth_told(CF_EVENT_SUBMITTED, 1)->items, 4);
    CHECK_EQ(nth_told(CF_EVENT_FINISHED, 1)->items, 4);
    CHECK_STATUS(nth_told(CF_EVENT_FINISHED, 1)->status, CF_OK);
}

TEST(killed_workers_are_told_and_what_waited_is_cancelled) {
    cf_executor *executor = observed(2);
    const int items[6] = {0};
    const cf_map_options options = {.chunksize = 3};
    cf_map_iter *iter =
        cf_executor_map(executor, task_hang, items, 6, sizeof *items, &options);
    await_arrivals(2);
    for (int i = 0; i < 5; i++) fire(executor, task_nothing, NULL);
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGKILL), CF_OK);
    cf_map_close(iter);
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_WORKER_LOST), 2);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_CANCELLED), 5 + 2); /* and the rest of each chunk */
    CHECK_EQ(count_told(CF_EVENT_WORKER_ENDED, CF_WORKER_LOST), 2);
}

TEST(break_on_crash_tells_how_each_ends) {
    cf_executor *executor = processes_with(&(cf_pool_options){
        .max_workers = 2, .break_on_crash = true, .observer = recorder()});
    fire(executor, task_stay, NULL);
    fire(executor, task_stay, NULL);
    await_arrivals(2);
    for (int i = 0; i < 5; i++) fire(executor, task_nothing, NULL);
    CHECK_EQ(kill(arrived_pid(0), SIGKILL), 0);
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_WORKER_LOST), 1);
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_BROKEN), 6);
    CHECK_EQ(count_told(CF_EVENT_STARTED, CF_OK), 2);
}

TEST(a_worker_that_has_done_its_tasks_ends_well) {
    cf_executor *executor = processes_with(&(cf_pool_options){
        .max_workers = 1, .max_tasks_per_child = 2, .observer = recorder()});
    for (int i = 0; i < 6; i++) {
        cf_future *future = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
        CHECK_STATUS(outcome(future), CF_OK);
        cf_future_release(future);
    }
    close_and_check(executor);
    CHECK_EQ(count_told(CF_EVENT_WORKER_ENDED, CF_OK), 3);
}

/* ---------------------------------------------------------------- maps */

TEST(chunks_add_up_to_the_items) {
    enum { COUNT = 1000 };
    static int items[COUNT], results[COUNT];
    cf_executor *executor = observed(2);
    CHECK_STATUS(cf_executor_map_array(executor, task_square, items, sizeof *items, results,
                                       sizeof *results, COUNT, NULL, NULL), CF_OK);
    close_and_check(executor);
    CHECK_EQ(items_told(CF_EVENT_SUBMITTED), COUNT);
    CHECK_EQ(items_told(CF_EVENT_STARTED), COUNT);
    CHECK_EQ(items_told(CF_EVENT_FINISHED), COUNT);
}

/* ---------------------------------------------------------------- what hooks may do */

TEST(hooks_are_called_under_no_lock) {
    cf_executor *executor = processes_with(
        &(cf_pool_options){.max_workers = 2, .observer = user_of_the_pool(30)});
    run_twenty(executor);
    cf_executor_close(executor);
    CHECK_EQ(count_told(CF_EVENT_SUBMITTED, CF_OK), 50);
}

static atomic_int answer = 1;

static void hook_waits(const cf_event *event, void *user) {
    (void)user;
    if (event->kind != CF_EVENT_FINISHED || atomic_load(&answer) != 1) return;
    cf_future *future = cf_executor_submit(event->executor, task_nothing, CF_NO_ARG);
    atomic_store(&answer, (int)cf_future_wait(future, CF_FOREVER));
    cf_future_release(future);
}

TEST(a_hook_that_waits_for_its_own_pool_gets_an_answer) {
    const cf_observer observer = {.finished = hook_waits};
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 2, .observer = &observer});
    cf_future *future = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    CHECK_STATUS(outcome(future), CF_OK);
    cf_future_release(future);
    CHECK_STATUS((cf_status)atomic_load(&answer), CF_DEADLOCK);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- progress */

/* int n: from 1000 on it stays until open_shared. */
static int task_stays_from_1000(cf_task *task, void *arg) {
    return *(const int *)arg < 1000 ? task_square(task, arg) : task_stay(task, arg);
}

TEST(progress_counts_the_items_of_a_chunk_in_a_worker) {
    const int items[10] = {1, 2, 3, 1000, 5, 6, 7, 8, 9, 10};
    size_t total = 0;
    cf_executor *executor = processes(1);
    cf_map_iter *iter = cf_executor_map(executor, task_stays_from_1000, items, 10, sizeof *items,
                                        &(cf_map_options){.chunksize = 5});
    await_arrivals(1);
    CHECK_EQ(cf_map_progress(iter, &total), 3);
    CHECK_EQ(total, 10);
    open_shared();
    UNTIL(cf_map_progress(iter, NULL) == 10);
    for (size_t i = 0; i < 10; i++) {
        CHECK(cf_map_next(iter, NULL) != NULL);
        CHECK_EQ(cf_map_progress(iter, NULL), 10);
    }
    cf_map_close(iter);
    cf_executor_close(executor);
}

TEST(progress_never_goes_back_when_a_worker_dies_in_a_chunk) {
    int items[40];
    for (int i = 0; i < 40; i++) items[i] = i % 10 == 3 ? 3 : 7;
    cf_executor *executor = processes(2);
    cf_map_iter *iter = cf_executor_map(executor, task_dies_of_3, items, 40, sizeof *items,
                                        &(cf_map_options){.chunksize = 20, .unordered = true});
    size_t last = 0;
    for (size_t ended; last < 40; last = ended) {
        ended = cf_map_progress(iter, NULL);
        CHECK(ended >= last && ended <= 40);
        if (ended == last) test_pause();
    }
    for (size_t i = 0; i < 40; i++) (void)cf_map_next(iter, NULL);
    CHECK_EQ(cf_map_progress(iter, NULL), 40);
    cf_map_close(iter);
    cf_executor_close(executor);
}

TEST_MAIN(
    RUN(a_task_is_submitted_started_and_finished)
    RUN(many_tasks_from_many_threads_are_told_once_each_and_in_order)
    RUN(finished_was_told_before_the_future_is_seen_done)
    RUN(a_map_that_submits_while_its_pool_is_closed_is_refused)
    RUN(the_worker_has_measured_the_times)
    RUN(a_big_argument_and_a_big_result_are_told_like_small_ones)
    RUN(a_failure_has_its_code_and_its_message)
    RUN(what_is_cancelled_or_refused_is_finished_without_a_start)
    RUN(a_broken_pool_tells_of_its_tasks_and_of_no_worker)
    RUN(a_task_whose_worker_dies_is_lost_and_so_is_the_worker)
    RUN(a_worker_that_exits_in_a_task_is_lost_too)
    RUN(a_task_that_takes_too_long_is_timed_out)
    RUN(what_waits_at_the_desk_of_a_dead_worker_is_started_once)
    RUN(what_is_left_of_a_chunk_whose_worker_dies_is_submitted_anew)
    RUN(killed_workers_are_told_and_what_waited_is_cancelled)
    RUN(break_on_crash_tells_how_each_ends)
    RUN(a_worker_that_has_done_its_tasks_ends_well)
    RUN(chunks_add_up_to_the_items)
    RUN(hooks_are_called_under_no_lock)
    RUN(a_hook_that_waits_for_its_own_pool_gets_an_answer)
    RUN(progress_counts_the_items_of_a_chunk_in_a_worker)
    RUN(progress_never_goes_back_when_a_worker_dies_in_a_chunk)
)
