/* Tasks wait in queues, or ahead of time at workers: wherever that is, one that has not begun can be
 * cancelled, waits for no other task while a worker is idle, begins in the order of submission, and
 * runs elsewhere when its worker dies. Each runs once, and its argument is freed once. */
#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#include "test.h"

#include "process.h"

/* ---------------------------------------------------------------- the book */

enum { MOST = 20000 };

/* Written by the tasks. */
typedef struct book {
    atomic_int begun[MOST]; /* how often each task was */
    atomic_int order[MOST]; /* the how manieth it was to begin, from 1 */
    atomic_int pids[MOST];
    _Atomic int64_t times[MOST]; /* when it began */
    atomic_int sequence;
    atomic_int workers;          /* that have ended, and how many tasks each had: */
    atomic_int had[MOST];
} book;

static book *pages;
static int ids[MOST];
static atomic_int freed[MOST];

/* Before the first pool of a test. */
static void open_book(void) {
    void *memory =
        mmap(NULL, sizeof *pages, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    pages = memory;
    for (int i = 0; i < MOST; i++) {
        ids[i] = i;
    }
    share();
}

static int begun(int id) {
    return atomic_load(&pages->begun[id]);
}

static int tasks_here; /* in this worker */

static int begin(const void *arg) {
    const int id = *(const int *)arg;
    tasks_here++;
    atomic_store(&pages->order[id], atomic_fetch_add(&pages->sequence, 1) + 1);
    atomic_store(&pages->pids[id], (int)getpid());
    atomic_store(&pages->times[id], now());
    atomic_fetch_add(&pages->begun[id], 1);
    return id;
}

static int task_short(cf_task *task, void *arg) {
    return return_int(task, begin(arg));
}

static int task_long(cf_task *task, void *arg) {
    const int id = begin(arg);
    UNTIL(atomic_load(&sh->open) != 0);
    return return_int(task, id);
}

static int task_for_ever(cf_task *task, void *arg) {
    begin(arg);
    return task_hang(task, NULL);
}

static void note_freed(void *arg) {
    atomic_fetch_add(&freed[*(const int *)arg], 1);
}

static cf_future *submit_id_within(cf_executor *executor, cf_task_fn *fn, int id,
                                   cf_duration timeout) {
    return cf_executor_submit_with(
        executor, fn, &ids[id], 0,
        &(cf_submit_options){.free_arg = note_freed, .timeout = timeout});
}

static cf_future *submit_id(cf_executor *executor, cf_task_fn *fn, int id) {
    return submit_id_within(executor, fn, id, 0);
}

static void submit_ids(cf_executor *executor, cf_task_fn *fn, int first, int count,
                       cf_future **futures) {
    for (int i = 0; i < count; i++) {
        futures[i] = submit_id(executor, fn, first + i);
    }
}

/* Takes it. */
static void check_ran(cf_future *future, int id) {
    CHECK_EQ(take_int(future), id);
    CHECK_EQ(begun(id), 1);
    CHECK_EQ(atomic_load(&freed[id]), 1);
}

static void check_all_ran(cf_future **futures, int first, int count) {
    for (int i = 0; i < count; i++) {
        check_ran(futures[i], first + i);
    }
}

static void check_never_ran(cf_future *future, int id, cf_status status) {
    CHECK_STATUS(take_outcome(future), status);
    CHECK_EQ(begun(id), 0);
    CHECK_EQ(atomic_load(&freed[id]), 1);
}

static void check_all_cancelled(cf_future **futures, int first, int count) {
    for (int i = 0; i < count; i++) {
        check_never_ran(futures[i], first + i, CF_CANCELLED);
    }
}

/* Whatever a pool learns from many short tasks, it has learnt. */
static void teach(cf_executor *executor) {
    enum { LESSONS = 2000 };
    static cf_future *futures[LESSONS];
    for (int i = 0; i < LESSONS; i++) {
        futures[i] = submit_none(executor, task_nothing);
    }
    CHECK_EQ(cf_wait(futures, LESSONS, CF_ALL_COMPLETED, limit(8), NULL), LESSONS);
    release_all(futures, LESSONS);
}

static cf_executor *taught_with(cf_pool_options options) {
    open_book();
    cf_executor *executor = processes_with(&options);
    teach(executor);
    return executor;
}

static cf_executor *taught(size_t workers) {
    return taught_with((cf_pool_options){.max_workers = workers});
}

/* Long tasks first, first + 1, ..., in as many workers. */
static void occupy_all(cf_executor *executor, int count, int first, cf_future **futures) {
    submit_ids(executor, task_long, first, count, futures);
    for (int i = 0; i < count; i++) {
        UNTIL(begun(first + i) == 1);
    }
}

/* ---------------------------------------------------------------- nobody waits for a long task */

/* `longs` long tasks among 200 that are submitted at once, so that some stand behind a long one. */
static void among_short_ones(size_t workers, int longs, bool many) {
    enum { COUNT = 200 };
    cf_future *futures[COUNT];
    cf_executor *executor = taught(workers);
    for (int i = 0; i < COUNT; i++) {
        const bool is_long = i % 20 == 10 && i / 20 < longs;
        futures[i] = submit_id(executor, is_long ? task_long : task_short, i);
        if (!many && is_long) {
            UNTIL(begun(i) == 1);
        }
    }
    const int64_t start = now();
    for (int i = 0; i < COUNT; i++) {
        const bool is_long = i % 20 == 10 && i / 20 < longs;
        if (!is_long) {
            check_ran(futures[i], i);
        }
    }
    CHECK(now() - start < limit(2));
    for (int i = 10; i < 10 + 20 * longs; i += 20) {
        CHECK_STATUS(cf_future_wait(futures[i], 0), CF_TIMEOUT);
    }
    open_shared();
    for (int i = 10; i < 10 + 20 * longs; i += 20) {
        check_ran(futures[i], i);
    }
    shut(executor);
}

TEST(short_tasks_overtake_a_long_one) {
    among_short_ones(2, 1, true);
}

TEST(short_tasks_overtake_several_long_ones) {
    among_short_ones(4, 3, true);
}

TEST(short_tasks_that_come_later_do_not_wait_for_a_long_one) {
    among_short_ones(3, 2, false);
}

TEST(short_tasks_do_not_wait_for_a_worker_that_is_stopped) {
    enum { COUNT = 60 };
    cf_future *futures[COUNT], *first;
    cf_executor *executor = taught(2);
    occupy_all(executor, 1, COUNT, &first);
    const pid_t stopped = (pid_t)atomic_load(&pages->pids[COUNT]);
    CHECK_EQ(kill(stopped, SIGSTOP), 0);
    submit_ids(executor, task_short, 0, COUNT, futures);
    check_all_ran(futures, 0, COUNT);
    open_shared();
    CHECK_EQ(kill(stopped, SIGCONT), 0);
    check_ran(first, COUNT);
    shut(executor);
}

/* Both are up and idle; the first one, which would get the next task, is stopped. */
static pid_t stop_the_first_of_two(cf_executor *executor) {
    cf_future *futures[2];
    occupy_processes(executor, 2, futures);
    open_shared();
    CHECK(take_int(futures[0]) != take_int(futures[1]));
    const pid_t first = pid_of_a_worker(executor);
    CHECK_EQ(kill(first, SIGSTOP), 0);
    return first;
}

/* Is it used again, now that it goes on? Then two tasks can stand in two workers. */
static void use_again(cf_executor *executor, pid_t worker) {
    cf_future *futures[2];
    CHECK_EQ(kill(worker, SIGCONT), 0);
    atomic_store(&sh->open, 0);
    occupy_processes(executor, 2, futures);
    open_shared();
    const int first = take_int(futures[0]), second = take_int(futures[1]);
    CHECK(first != second);
    CHECK(first == worker || second == worker);
}

TEST(a_task_does_not_wait_for_an_idle_worker_that_is_stopped) {
    cf_executor *executor = processes(2);
    const pid_t stopped = stop_the_first_of_two(executor);
    for (int i = 0; i < 3; i++) {
        CHECK(pid_of_a_worker(executor) != stopped);
    }
    use_again(executor, stopped);
    shut(executor);
}

TEST(a_worker_that_was_found_stopped_gets_nothing_until_it_goes_on) {
    cf_executor *executor = processes(2);
    const pid_t stopped = stop_the_first_of_two(executor);
    CHECK(pid_of_a_worker(executor) != stopped); /* that is how it is found out; */
    CHECK(pid_of_a_worker(executor) != stopped); /* now the manager looks at it once more, */
    sleep_for(20 * CF_MILLISECOND);              /* and has a moment to be wrong in */
    cf_future *future = submit_none(executor, task_pid);
    CHECK_EQ(kill(stopped, SIGCONT), 0);
    CHECK(take_int(future) != stopped);
    use_again(executor, stopped);
    shut(executor);
}

TEST(a_big_argument_does_not_wait_for_an_idle_worker_that_is_stopped) {
    static unsigned char bytes[100000];
    cf_executor *executor = processes(2);
    fill(bytes, sizeof bytes, 3);
    const pid_t stopped = stop_the_first_of_two(executor);
    cf_future *future = cf_executor_submit(executor, task_echo, bytes, sizeof bytes);
    CHECK_STATUS(outcome(future), CF_OK);
    CHECK_EQ(memcmp(cf_future_result(future, 0, NULL), bytes, sizeof bytes), 0);
    cf_future_release(future);
    use_again(executor, stopped);
    shut(executor);
}

static int task_adds_the_ends(cf_task *task, void *arg) {
    const unsigned char *bytes = arg;
    return return_int(task, bytes[0] + bytes[cf_task_arg_size(task) - 1]);
}

/* Bigger than what is kept. */
TEST(a_huge_argument_does_not_wait_for_an_idle_worker_that_is_stopped) {
    const size_t size = (size_t)130 << 20;
    if (is_watched()) {
        SKIP("too much memory to be watched");
    }
    unsigned char *bytes = calloc(1, size);
    CHECK(bytes != NULL);
    bytes[0] = bytes[size - 1] = 7;
    cf_executor *executor = processes(2);
    const pid_t stopped = stop_the_first_of_two(executor);
    cf_future *future = cf_executor_submit(executor, task_adds_the_ends, bytes, size);
    free(bytes);
    CHECK_EQ(take_int(future), 14);
    use_again(executor, stopped);
    shut(executor);
}

TEST(an_array_does_not_wait_for_an_idle_worker_that_is_stopped) {
    enum { COUNT = 40 };
    int items[COUNT], results[COUNT];
    cf_executor *executor = processes(2);
    const pid_t stopped = stop_the_first_of_two(executor);
    for (int i = 0; i < COUNT; i++) {
        items[i] = i;
    }
    CHECK_STATUS(cf_executor_map_array(executor, task_square, items, sizeof *items, results,
                                       sizeof *results, COUNT, NULL, NULL),
                 CF_OK);
    CHECK_EQ(results[COUNT - 1], (COUNT - 1) * (COUNT - 1));
    use_again(executor, stopped);
    shut(executor);
}

TEST(for_a_worker_that_is_stopped_another_one_is_started) {
    cf_executor *executor = processes(2);
    const pid_t stopped = pid_of_a_worker(executor);
    CHECK_EQ(stats_of(executor).workers, 1);
    CHECK_EQ(kill(stopped, SIGSTOP), 0);
    CHECK(pid_of_a_worker(executor) != stopped);
    use_again(executor, stopped);
    shut(executor);
}

TEST(when_all_workers_are_stopped_the_first_that_goes_on_takes_the_task) {
    for (int first = 0; first < 2; first++) {
        cf_executor *executor = processes(2);
        pid_t workers[2] = {stop_the_first_of_two(executor), 0};
        workers[1] = pid_of_a_worker(executor); /* it came there in the end */
        CHECK_EQ(kill(workers[1], SIGSTOP), 0);
        cf_future *future = submit_none(executor, task_pid);
        CHECK_STATUS(cf_future_wait(future, 250 * CF_MILLISECOND), CF_TIMEOUT);
        CHECK_EQ(kill(workers[first], SIGCONT), 0);
        CHECK_EQ(take_int(future), workers[first]);
        CHECK_EQ(kill(workers[1 - first], SIGCONT), 0);
        shut(executor);
        atomic_store(&sh->open, 0);
    }
}

TEST(what_stands_behind_a_long_task_runs_when_another_worker_is_free_again) {
    enum { COUNT = 40 };
    cf_future *futures[COUNT], *longs[2];
    cf_executor *executor = taught(2);
    occupy_all(executor, 2, COUNT, longs);
    submit_ids(executor, task_short, 0, COUNT, futures);
    CHECK_EQ(kill((pid_t)atomic_load(&pages->pids[COUNT]), SIGKILL), 0);
    check_all_ran(futures, 0, COUNT);
    CHECK_STATUS(take_outcome(longs[0]), CF_WORKER_LOST);
    CHECK_STATUS(cf_future_wait(longs[1], 0), CF_TIMEOUT);
    open_shared();
    check_ran(longs[1], COUNT + 1);
    shut(executor);
}

static int task_nap(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    sleep_for(CF_MILLISECOND);
    return 0;
}

/* Each a millisecond, and always so many of them that the queue is never empty. */
static void stream_until_done(cf_executor *executor, cf_future *const *awaited, size_t count) {
    enum { STREAM = 64 };
    cf_future *stream[STREAM];
    const int64_t end = now() + limit(TEST_GATE_LIMIT_S);
    for (int i = 0; i < STREAM; i++) {
        stream[i] = submit_none(executor, task_nap);
    }
    for (int i = 0; cf_wait(awaited, count, CF_ALL_COMPLETED, 0, NULL) < count; i++) {
        CHECK(now() < end);
        CHECK_STATUS(take_outcome(stream[i % STREAM]), CF_OK);
        stream[i % STREAM] = submit_none(executor, task_nap);
    }
    for (int i = 0; i < STREAM; i++) {
        CHECK_STATUS(take_outcome(stream[i]), CF_OK);
    }
}

TEST(what_stands_behind_a_long_task_takes_its_turn_elsewhere) {
    enum { COUNT = 40 };
    cf_future *futures[COUNT], *stays;
    cf_executor *executor = taught(2);
    occupy_processes(executor, 1, &stays);
    submit_ids(executor, task_short, 0, COUNT, futures);
    stream_until_done(executor, futures, COUNT);
    CHECK_STATUS(cf_future_wait(stays, 0), CF_TIMEOUT);
    check_all_ran(futures, 0, COUNT);
    open_shared();
    CHECK_STATUS(take_outcome(stays), CF_OK);
    shut(executor);
}

TEST(short_tasks_do_not_wait_for_a_task_that_runs_out_of_time) {
    enum { COUNT = 40 };
    cf_future *futures[COUNT];
    cf_executor *executor = taught(2);
    cf_future *slow = submit_id_within(executor, task_for_ever, COUNT, limit(7));
    UNTIL(begun(COUNT) == 1);
    submit_ids(executor, task_short, 0, COUNT, futures);
    check_all_ran(futures, 0, COUNT);
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGKILL), CF_OK);
    CHECK_STATUS(take_outcome(slow), CF_WORKER_LOST);
    shut(executor);
}

/* ---------------------------------------------------------------- cancel */

static void cancel_a_thousand(size_t workers, int stride) {
    enum { COUNT = 1000 };
    static cf_future *futures[COUNT];
    cf_future *longs[4];
    cf_executor *executor = taught(workers);
    occupy_all(executor, (int)workers, COUNT, longs);
    submit_ids(executor, task_short, 0, COUNT, futures);
    for (int i = 0, at = 0; i < COUNT; i++, at = (at + stride) % COUNT) {
        CHECK_EQ(cf_future_state(futures[at]), CF_STATE_PENDING);
        CHECK(cf_future_cancel(futures[at]));
        CHECK_EQ(cf_future_state(futures[at]), CF_STATE_CANCELLED);
        CHECK_EQ(atomic_load(&freed[at]), 1);
    }
    CHECK_EQ(stats_of(executor).queued, 0);
    open_shared();
    check_all_ran(longs, COUNT, (int)workers);
    still_works(executor);
    CHECK_EQ(stats_of(executor).cancelled, COUNT);
    shut(executor);
    check_all_cancelled(futures, 0, COUNT);
}

TEST(a_thousand_queued_tasks_can_be_cancelled) {
    cancel_a_thousand(2, 1);
}

TEST(a_thousand_queued_tasks_can_be_cancelled_last_first) {
    cancel_a_thousand(1, 999);
}

TEST(a_thousand_queued_tasks_can_be_cancelled_in_any_order) {
    cancel_a_thousand(4, 387);
}

/* Holes in the middle, over and over: what is left runs once, in order. */
TEST(cancelled_tasks_leave_no_gap_in_the_order) {
    enum { COUNT = 50, ROUNDS = 30 };
    cf_executor *executor = taught(1);
    for (int round = 0; round < ROUNDS; round++) {
        cf_future *futures[COUNT], *first;
        const int base = round * (COUNT + 1);
        atomic_store(&sh->open, 0);
        occupy_all(executor, 1, base + COUNT, &first);
        submit_ids(executor, task_short, base, COUNT, futures);
        for (int i = 0; i < COUNT; i++) {
            CHECK((i * 7 + round) % 3 != 0 || cf_future_cancel(futures[i]));
        }
        open_shared();
        int last = atomic_load(&pages->order[base + COUNT]);
        for (int i = 0; i < COUNT; i++) {
            if ((i * 7 + round) % 3 == 0) {
                check_never_ran(futures[i], base + i, CF_CANCELLED);
                continue;
            }
            check_ran(futures[i], base + i);
            CHECK_EQ(atomic_load(&pages->order[base + i]), last + 1);
            last++;
        }
        check_ran(first, base + COUNT);
    }
    shut(executor);
}

typedef struct canceller {
    cf_future **futures;
    int from, step, count;
    bool *cancelled;
} canceller;

static void *cancel_some(void *arg) {
    const canceller *c = arg;
    for (int i = c->from; i < c->count; i += c->step) {
        c->cancelled[i] = cf_future_cancel(c->futures[i]);
    }
    return NULL;
}

/* Against the workers, from two threads. */
TEST(a_cancel_is_true_if_and_only_if_the_task_never_runs) {
    enum { COUNT = 6000, BATCH = 300 };
    static cf_future *futures[COUNT];
    static bool cancelled[COUNT];
    int well = 0;
    cf_executor *executor = taught(2);
    for (int base = 0; base < COUNT; base += BATCH) {
        pthread_t threads[2];
        canceller c[2];
        submit_ids(executor, task_short, base, BATCH, futures + base);
        for (int i = 0; i < 2; i++) {
            c[i] = (canceller){futures + base, i, 3, BATCH, cancelled + base};
            spawn(&threads[i], cancel_some, &c[i]);
        }
        for (int i = 0; i < 2; i++) {
            join(threads[i]);
        }
    }
    for (int i = 0; i < COUNT; i++) {
        const cf_status status = outcome(futures[i]);
        CHECK_EQ(status, cancelled[i] ? CF_CANCELLED : CF_OK);
        well += status == CF_OK;
    }
    shut(executor);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(begun(i), cancelled[i] ? 0 : 1);
        CHECK_EQ(atomic_load(&freed[i]), 1);
    }
    CHECK(well >= COUNT / 3);
    release_all(futures, COUNT);
}

TEST(the_wish_to_stop_a_task_is_not_for_those_behind_it) {
    enum { COUNT = 40 };
    cf_executor *executor = taught(1);
    for (int round = 0; round < 10; round++) {
        cf_future *futures[COUNT];
        cf_future *first = submit_none(executor, task_obey);
        await_arrivals(round + 1);
        submit_ids(executor, task_short, round * COUNT, COUNT, futures);
        CHECK(!cf_future_cancel(first));
        CHECK(take_int(first) > 0);
        check_all_ran(futures, round * COUNT, COUNT);
    }
    shut(executor);
}

/* ---------------------------------------------------------------- states */

TEST(only_what_has_begun_is_running) {
    enum { WORKERS = 2, COUNT = 300 };
    cf_future *futures[COUNT], *longs[WORKERS];
    cf_executor *executor = taught(WORKERS);
    occupy_all(executor, WORKERS, COUNT, longs);
    submit_ids(executor, task_short, 0, COUNT, futures);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(cf_future_state(futures[i]), CF_STATE_PENDING);
        CHECK(!cf_future_running(futures[i]));
    }
    for (int i = 0; i < WORKERS; i++) {
        CHECK_EQ(cf_future_state(longs[i]), CF_STATE_RUNNING);
    }
    const cf_stats stats = stats_of(executor);
    CHECK_EQ(stats.running, WORKERS);
    CHECK_EQ(stats.queued, COUNT);
    CHECK_EQ(stats.idle, 0);
    open_shared();
    check_all_ran(futures, 0, COUNT);
    check_all_ran(longs, COUNT, WORKERS);
    shut(executor);
}

TEST(what_is_seen_running_begins) {
    enum { COUNT = 400 };
    cf_executor *executor = taught(2);
    for (int i = 0; i < COUNT; i++) {
        cf_future *future = submit_id(executor, task_short, i);
        while (cf_future_state(future) == CF_STATE_PENDING) {
        }
        UNTIL(begun(i) == 1);
        check_ran(future, i);
    }
    shut(executor);
}

static void stop_worker(pid_t worker) {
    CHECK_EQ(kill(worker, SIGSTOP), 0);
    UNTIL(look_at(worker).state == 'T');
}

/* It goes on, and has looked at what is there. */
static void continue_worker(pid_t worker) {
    CHECK_EQ(kill(worker, SIGCONT), 0);
    UNTIL(look_at(worker).state == 'S');
}

/* The worker cannot begin; so the tasks have not, whatever the pool has done with them. */
static void at_a_stopped_worker(size_t size, cf_duration pause) {
    enum { COUNT = 3 };
    cf_future *futures[COUNT];
    cf_executor *executor = taught(1);
    int *arg = calloc(1, size);
    CHECK(arg != NULL);
    const pid_t worker = pid_of_a_worker(executor);
    stop_worker(worker);
    for (int i = 0; i < COUNT; i++) {
        arg[0] = i;
        futures[i] = cf_executor_submit(executor, task_short, arg, size);
    }
    sleep_for(pause); /* for the pool to do what it likes */
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(cf_future_state(futures[i]), CF_STATE_PENDING);
    }
    for (int i = COUNT; i-- > 0;) {
        CHECK(cf_future_cancel(futures[i]));
        CHECK(cf_future_cancel(futures[i]));
    }
    continue_worker(worker);
    still_works(executor);
    shut(executor);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(begun(i), 0);
    }
    release_all(futures, COUNT);
    free(arg);
}

TEST(what_a_stopped_worker_has_not_begun_can_be_cancelled) {
    if (!has_proc()) {
        SKIP("there is no /proc here");
    }
    at_a_stopped_worker(8, 0);
    at_a_stopped_worker(8, 20 * CF_MILLISECOND);
}

TEST(big_arguments_at_a_stopped_worker_do_not_count_as_begun) {
    if (!has_proc()) {
        SKIP("there is no /proc here");
    }
    at_a_stopped_worker(1 << 20, 50 * CF_MILLISECOND);
}

/* The copy of 64 MiB takes longer than the call of cancel. */
static cf_future *submit_to_stopped(cf_executor *executor, pid_t worker, void *arg) {
    stop_worker(worker);
    return cf_executor_submit(executor, task_short, arg, (size_t)64 << 20);
}

TEST(an_argument_on_its_way_does_not_count_as_begun) {
    cf_executor *executor = taught(1);
    int *arg = calloc(1, (size_t)64 << 20);
    CHECK(arg != NULL && has_proc());
    const pid_t worker = pid_of_a_worker(executor);
    cf_future *future = submit_to_stopped(executor, worker, arg);
    CHECK_EQ(cf_future_state(future), CF_STATE_PENDING);
    CHECK(cf_future_cancel(future));
    CHECK_EQ(kill(worker, SIGCONT), 0);
    CHECK_STATUS(take_outcome(future), CF_CANCELLED);
    shut(executor);
    CHECK_EQ(begun(0), 0);
    free(arg);
}

TEST(a_second_cancel_while_the_argument_is_on_its_way_loses_nothing) {
    cf_executor *executor = taught(1);
    int *arg = calloc(1, (size_t)64 << 20);
    CHECK(arg != NULL && has_proc());
    const pid_t worker = pid_of_a_worker(executor);
    cf_future *future = submit_to_stopped(executor, worker, arg);
    bool cancelled = false;
    for (const int64_t start = now(); !cancelled && now() - start < 300 * CF_MILLISECOND;) {
        cancelled = cf_future_cancel(future);
    }
    CHECK_EQ(kill(worker, SIGCONT), 0);
    CHECK_STATUS(take_outcome(future), cancelled ? CF_CANCELLED : CF_OK);
    CHECK_EQ(begun(0), cancelled ? 0 : 1);
    CHECK_EQ(stats_of(executor).queued, 0);
    still_works(executor);
    shut(executor);
    free(arg);
}

/* ---------------------------------------------------------------- order */

TEST(one_worker_begins_its_tasks_in_order) {
    enum { COUNT = 3000 };
    static cf_future *futures[COUNT];
    cf_executor *executor = taught(1);
    submit_ids(executor, task_short, 0, COUNT, futures);
    check_all_ran(futures, 0, COUNT);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(atomic_load(&pages->order[i]), i + 1);
    }
    shut(executor);
}

TEST(big_and_small_arguments_keep_their_order) {
    enum { COUNT = 120, BIG = 200000 };
    cf_future *futures[COUNT];
    cf_executor *executor = taught(1);
    int *arg = calloc(1, BIG);
    CHECK(arg != NULL);
    for (int i = 0; i < COUNT; i++) {
        arg[0] = i;
        futures[i] =
            cf_executor_submit(executor, task_short, arg, i % 3 == 0 ? BIG : i % 3 == 1 ? 4 : 900);
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(take_int(futures[i]), i);
        CHECK_EQ(atomic_load(&pages->order[i]), i + 1);
    }
    free(arg);
    shut(executor);
}

/* The worker is killed again and again: what it had not begun goes back to where it was. */
TEST(the_order_outlives_the_worker) {
    enum { COUNT = 1500, STEP = 50 };
    static cf_future *futures[COUNT];
    cf_executor *executor = taught(1);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_id(executor, i % STEP == STEP - 1 ? task_long : task_short, i);
    }
    for (int i = STEP - 1; i < COUNT; i += STEP) {
        UNTIL(begun(i) == 1);
        CHECK_EQ(kill((pid_t)atomic_load(&pages->pids[i]), SIGKILL), 0);
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK_STATUS(outcome(futures[i]), i % STEP == STEP - 1 ? CF_WORKER_LOST : CF_OK);
        CHECK_EQ(begun(i), 1);
        CHECK_EQ(atomic_load(&pages->order[i]), i + 1);
        CHECK_EQ(atomic_load(&freed[i]), 1);
    }
    release_all(futures, COUNT);
    shut(executor);
}

/* What lay at the worker comes before what did not, again and again. */
TEST(what_a_worker_had_not_begun_stays_first) {
    enum { COUNT = 40, ROUNDS = 10 };
    if (!has_proc()) {
        SKIP("there is no /proc here");
    }
    cf_executor *executor = taught(1);
    for (int round = 0; round < ROUNDS; round++) {
        cf_future *futures[COUNT];
        const int base = round * COUNT;
        const pid_t worker = pid_of_a_worker(executor);
        stop_worker(worker);
        submit_ids(executor, task_short, base, COUNT, futures);
        CHECK_EQ(kill(worker, SIGKILL), 0);
        check_all_ran(futures, base, COUNT);
        for (int i = 0; i < COUNT; i++) {
            CHECK_EQ(atomic_load(&pages->order[base + i]), base + i + 1);
        }
    }
    CHECK_EQ(stats_of(executor).lost, 0);
    shut(executor);
}

/* ---------------------------------------------------------------- deaths */

static void kill_with_many_behind(size_t workers) {
    enum { COUNT = 150, ROUNDS = 12 };
    cf_executor *executor = taught(workers);
    for (int round = 0; round < ROUNDS; round++) {
        cf_future *futures[COUNT], *longs[3];
        const int base = round * (COUNT + 3);
        atomic_store(&sh->open, 0);
        occupy_all(executor, (int)workers, base + COUNT, longs);
        submit_ids(executor, task_short, base, COUNT, futures);
        for (size_t i = 0; i < workers; i++) {
            CHECK_EQ(kill((pid_t)atomic_load(&pages->pids[base + COUNT + (int)i]), SIGKILL), 0);
        }
        check_all_ran(futures, base, COUNT);
        for (size_t i = 0; i < workers; i++) {
            CHECK_STATUS(take_outcome(longs[i]), CF_WORKER_LOST);
        }
    }
    CHECK_EQ(stats_of(executor).lost, ROUNDS * workers);
    shut(executor);
}

TEST(what_has_not_begun_outlives_its_worker) {
    kill_with_many_behind(1);
}

TEST(what_has_not_begun_outlives_all_workers) {
    kill_with_many_behind(3);
}

static int task_dies(cf_task *task, void *arg) {
    const int id = begin(arg);
    (void)task;
    die(id % DEATHS);
    return 0;
}

/* Many deaths among many tasks: each is told of its own, with the right pid and signal. */
TEST(each_death_is_told_to_its_own_task) {
    enum { COUNT = 600 };
    static cf_future *futures[COUNT];
    cf_executor *executor = taught(3);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_id(executor, i % 7 == 3 ? task_dies : task_short, i);
    }
    for (int i = 0; i < COUNT; i++) {
        char words[32];
        if (i % 7 != 3) {
            check_ran(futures[i], i);
            continue;
        }
        CHECK_STATUS(outcome(futures[i]), CF_WORKER_LOST);
        CHECK_EQ(cf_future_error_code(futures[i]), death_of(i % DEATHS)->code);
        snprintf(words, sizeof words, "worker %d ", atomic_load(&pages->pids[i]));
        CHECK(strstr(cf_future_error_message(futures[i]), words) != NULL);
        CHECK_EQ(begun(i), 1);
        CHECK_EQ(atomic_load(&freed[i]), 1);
        cf_future_release(futures[i]);
    }
    shut(executor);
}

TEST(with_break_on_crash_all_that_had_not_ended_is_broken) {
    enum { COUNT = 200, DONE = 50 };
    cf_future *done[DONE], *futures[COUNT], *running;
    cf_executor *executor =
        taught_with((cf_pool_options){.max_workers = 2, .break_on_crash = true});
    submit_ids(executor, task_short, COUNT + 2, DONE, done);
    CHECK_EQ(cf_wait(done, DONE, CF_ALL_COMPLETED, limit(8), NULL), DONE);
    occupy_all(executor, 1, COUNT, &running);
    cf_future *victim = submit_id(executor, task_for_ever, COUNT + 1);
    UNTIL(begun(COUNT + 1) == 1);
    submit_ids(executor, task_short, 0, COUNT, futures);
    CHECK_EQ(kill((pid_t)atomic_load(&pages->pids[COUNT + 1]), SIGTERM), 0);
    for (int i = 0; i < COUNT; i++) {
        check_never_ran(futures[i], i, CF_BROKEN);
    }
    CHECK_STATUS(outcome(victim), CF_WORKER_LOST);
    CHECK_EQ(cf_future_error_code(victim), SIGTERM);
    CHECK_STATUS(take_outcome(running), CF_BROKEN);
    check_all_ran(done, COUNT + 2, DONE);
    cf_future_release(victim);
    shut(executor);
    CHECK_EQ(atomic_load(&freed[COUNT]) + atomic_load(&freed[COUNT + 1]), 2);
}

static void kill_all_with_many_behind(int signal_number) {
    enum { COUNT = 200, WORKERS = 2 };
    cf_future *futures[COUNT], *running[WORKERS];
    cf_executor *executor = taught(WORKERS);
    occupy_all(executor, WORKERS, COUNT, running);
    submit_ids(executor, task_short, 0, COUNT, futures);
    CHECK_STATUS(cf_executor_kill_workers(executor, signal_number), CF_OK);
    check_all_cancelled(futures, 0, COUNT);
    for (int i = 0; i < WORKERS; i++) {
        CHECK_STATUS(outcome(running[i]), CF_WORKER_LOST);
        CHECK_EQ(cf_future_error_code(running[i]), signal_number);
        cf_future_release(running[i]);
        CHECK_EQ(atomic_load(&freed[COUNT + i]), 1);
    }
    shut(executor);
}

TEST(kill_workers_cancels_all_that_has_not_begun) {
    kill_all_with_many_behind(SIGKILL);
}

TEST(terminated_workers_begin_nothing_more) {
    kill_all_with_many_behind(SIGTERM);
}

static int initialise_once(void *arg) {
    (void)arg;
    return atomic_fetch_add(&sh->count, 1) == 0 ? 0 : 1;
}

TEST(an_initializer_that_fails_in_a_replacement_breaks_all_that_waits) {
    enum { COUNT = 100 };
    cf_future *futures[COUNT], *running;
    cf_executor *executor =
        taught_with((cf_pool_options){.max_workers = 1, .initializer = initialise_once});
    occupy_all(executor, 1, COUNT, &running);
    submit_ids(executor, task_short, 0, COUNT, futures);
    CHECK_EQ(kill((pid_t)atomic_load(&pages->pids[COUNT]), SIGKILL), 0);
    for (int i = 0; i < COUNT; i++) {
        check_never_ran(futures[i], i, CF_BROKEN);
    }
    CHECK_STATUS(take_outcome(running), CF_WORKER_LOST);
    shut(executor);
}

/* ---------------------------------------------------------------- deadlines */

/* All together take longer than each one may. */
static int task_some_time(cf_task *task, void *arg) {
    const int id = begin(arg);
    sleep_for(12 * CF_MILLISECOND);
    return return_int(task, id);
}

TEST(time_in_the_queue_is_no_time_of_the_task) {
    enum { COUNT = 60 };
    const int64_t start = now();
    cf_future *futures[COUNT];
    cf_executor *executor = taught(1);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_id_within(executor, task_some_time, i, limit(1) / 2);
    }
    check_all_ran(futures, 0, COUNT);
    CHECK(now() - start > 60 * 12 * CF_MILLISECOND);
    shut(executor);
}

static pid_t receiver;
static pthread_t submitter;
static bool receiver_lives;

static void take_long_to_copy(int id) {
    if (id == test_point_load && pthread_equal(pthread_self(), submitter) != 0) {
        sleep_for(60 * CF_MILLISECOND); /* in which the deadline passes, and would be noticed */
        receiver_lives = is_alive(receiver);
    }
}

TEST(time_to_copy_the_argument_is_no_time_of_the_task) {
    static unsigned char big[1 << 20];
    cf_executor *executor = processes(1);
    const cf_submit_options options = {.timeout = 5 * CF_MILLISECOND};
    receiver = pid_of_a_worker(executor);
    submitter = pthread_self();
    test_point_hook(take_long_to_copy);
    cf_future *future =
        cf_executor_submit_with(executor, task_nothing, big, sizeof big, &options);
    test_point_hook(NULL);
    CHECK(receiver_lives);
    const cf_status status = take_outcome(future);
    CHECK(status == CF_OK || status == CF_TASK_TIMEOUT); /* it may be held up by others */
    shut(executor);
}

static void note_time(cf_future *future, void *user) {
    (void)future;
    atomic_store((_Atomic int64_t *)user, now());
}

/* Behind each of them stand others, which are not touched by its end. */
TEST(each_deadline_counts_from_the_start_of_its_own_task) {
    enum { COUNT = 24, EACH = 4 };
    const cf_duration timeout = 15 * CF_MILLISECOND;
    static _Atomic int64_t ended[COUNT];
    cf_future *slow[COUNT], *others[COUNT * EACH];
    cf_executor *executor = taught(2);
    for (int i = 0; i < COUNT; i++) {
        slow[i] = submit_id_within(executor, task_for_ever, i, timeout);
        CHECK_STATUS(cf_future_add_done_callback(slow[i], note_time, &ended[i]), CF_OK);
        submit_ids(executor, task_short, COUNT + i * EACH, EACH, &others[i * EACH]);
    }
    check_all_ran(others, COUNT, COUNT * EACH);
    for (int i = 0; i < COUNT; i++) {
        CHECK_STATUS(take_outcome(slow[i]), CF_TASK_TIMEOUT);
        CHECK_EQ(begun(i), 1);
        CHECK_EQ(atomic_load(&freed[i]), 1);
    }
    shut(executor); /* the callbacks have run */
    for (int i = 0; i < COUNT; i++) {
        /* A little earlier than the function the clock of the task may begin. */
        const int64_t took = atomic_load(&ended[i]) - atomic_load(&pages->times[i]);
        CHECK(took > timeout - 5 * CF_MILLISECOND);
        CHECK(took < limit(2));
    }
}

/* ---------------------------------------------------------------- limits */

static void note_how_many(void *arg) {
    (void)arg;
    atomic_store(&pages->had[atomic_fetch_add(&pages->workers, 1)], tasks_here);
}

/* Every worker but the last ones has had exactly `most`. */
static void check_shares(int most, int total, int last_ones) {
    int sum = 0, fewer = 0;
    for (int i = 0; i < atomic_load(&pages->workers); i++) {
        const int had = atomic_load(&pages->had[i]);
        CHECK(had <= most);
        sum += had;
        fewer += had < most;
    }
    CHECK_EQ(sum, total);
    CHECK(fewer <= last_ones);
}

static cf_executor *leaving_after(size_t workers, size_t most) {
    open_book();
    return processes_with(&(cf_pool_options){
        .max_workers = workers, .max_tasks_per_child = most, .finalizer = note_how_many});
}

static void share_among(size_t workers, size_t most) {
    enum { COUNT = 300 };
    cf_future *futures[COUNT];
    cf_executor *executor = leaving_after(workers, most);
    submit_ids(executor, task_short, 0, COUNT, futures);
    check_all_ran(futures, 0, COUNT);
    shut(executor);
    check_shares((int)most, COUNT, (int)workers);
}

TEST(max_tasks_per_child_is_exact_under_load) {
    share_among(3, 5);
}

TEST(max_tasks_per_child_may_be_one) {
    share_among(2, 1);
}

TEST(max_tasks_per_child_may_be_more_than_any_desk_holds) {
    share_among(2, 37);
}

/* What was cancelled, or handed to a worker that died, was no task of the worker. */
TEST(only_what_begins_counts_for_max_tasks_per_child) {
    enum { COUNT = 400, MOST_EACH = 10 };
    cf_future *futures[COUNT], *first;
    int ran = 0;
    cf_executor *executor = leaving_after(1, MOST_EACH);
    occupy_all(executor, 1, COUNT, &first);
    submit_ids(executor, task_short, 0, COUNT, futures);
    for (int i = 0; i < COUNT; i += 2) {
        CHECK(cf_future_cancel(futures[i]));
    }
    open_shared();
    for (int i = 0; i < COUNT; i++) {
        CHECK_STATUS(take_outcome(futures[i]), i % 2 == 0 ? CF_CANCELLED : CF_OK);
        ran += begun(i);
    }
    check_ran(first, COUNT);
    CHECK_EQ(ran, COUNT / 2);
    shut(executor);
    check_shares(MOST_EACH, COUNT / 2 + 1, 1);
}

/* Taken back from a worker that could not begin it. */
TEST(what_is_taken_back_does_not_count_for_max_tasks_per_child) {
    enum { ROUNDS = 20, MOST_EACH = 5 };
    if (!has_proc()) {
        SKIP("there is no /proc here");
    }
    cf_executor *executor = leaving_after(1, MOST_EACH);
    check_ran(submit_id(executor, task_short, 0), 0);
    const pid_t worker = (pid_t)atomic_load(&pages->pids[0]);
    for (int i = 0; i < ROUNDS; i++) {
        stop_worker(worker);
        cf_future *future = submit_id(executor, task_short, MOST_EACH + i);
        CHECK(cf_future_cancel(future));
        continue_worker(worker);
        check_never_ran(future, MOST_EACH + i, CF_CANCELLED);
    }
    for (int i = 1; i < MOST_EACH; i++) {
        check_ran(submit_id(executor, task_short, i), i);
        CHECK_EQ(atomic_load(&pages->pids[i]), worker);
    }
    CHECK(pid_of_a_worker(executor) != worker);
    shut(executor);
}

TEST(a_queue_that_is_full_is_full_after_much_work_too) {
    enum { WORKERS = 2, LIMIT = 5 };
    cf_future *futures[LIMIT], *longs[WORKERS];
    open_book();
    cf_executor *executor = processes_with(&(cf_pool_options){
        .max_workers = WORKERS, .queue_limit = LIMIT, .on_full = CF_FULL_REJECT});
    for (int i = 0; i < 300; i++) {
        still_works(executor);
    }
    occupy_all(executor, WORKERS, LIMIT, longs);
    for (int round = 0; round < 3; round++) {
        submit_ids(executor, task_short, 0, LIMIT, futures);
        CHECK_STATUS(take_outcome(submit_id(executor, task_short, LIMIT + 4)), CF_QUEUE_FULL);
        for (int i = 0; i < LIMIT; i++) {
            CHECK_STATUS(cf_future_wait(futures[i], 0), CF_TIMEOUT);
            CHECK(cf_future_cancel(futures[i]));
            cf_future_release(futures[i]);
        }
    }
    open_shared();
    check_all_ran(longs, LIMIT, WORKERS);
    shut(executor);
}

/* ---------------------------------------------------------------- shutdown */

TEST(a_shutdown_that_cancels_leaves_only_what_runs) {
    enum { COUNT = 3000, WORKERS = 2 };
    static cf_future *futures[COUNT];
    int cancelled = 0;
    cf_executor *executor = taught(WORKERS);
    submit_ids(executor, task_short, 0, COUNT, futures);
    (void)cf_executor_shutdown(executor, 0, CF_CANCEL_PENDING);
    int late = 0; /* an idle worker may be about to begin one */
    for (int i = 0; i < COUNT; i++) {
        late += !cf_future_done(futures[i]) && begun(i) == 0;
    }
    CHECK(late <= WORKERS);
    shut(executor);
    for (int i = 0; i < COUNT; i++) {
        const cf_status status = take_outcome(futures[i]);
        CHECK(status == CF_OK || status == CF_CANCELLED);
        CHECK_EQ(begun(i), status == CF_OK ? 1 : 0);
        CHECK_EQ(atomic_load(&freed[i]), 1);
        cancelled += status == CF_CANCELLED;
    }
    fprintf(stderr, "%d of %d cancelled\n", cancelled, COUNT);
}

TEST(a_shutdown_that_cancels_spares_what_stays) {
    enum { COUNT = 1000, WORKERS = 2 };
    static cf_future *futures[COUNT];
    cf_future *longs[WORKERS];
    cf_executor *executor = taught(WORKERS);
    occupy_all(executor, WORKERS, COUNT, longs);
    submit_ids(executor, task_short, 0, COUNT, futures);
    CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
    check_all_cancelled(futures, 0, COUNT);
    for (int i = 0; i < WORKERS; i++) {
        CHECK_EQ(cf_future_state(longs[i]), CF_STATE_RUNNING);
    }
    open_shared();
    check_all_ran(longs, COUNT, WORKERS);
    shut(executor);
}

TEST(a_shutdown_that_runs_all_runs_all) {
    enum { COUNT = 2000 };
    static cf_future *futures[COUNT];
    cf_executor *executor = taught(2);
    submit_ids(executor, task_short, 0, COUNT, futures);
    CHECK_STATUS(cf_executor_shutdown(executor, limit(8), CF_RUN_PENDING), CF_OK);
    check_all_ran(futures, 0, COUNT);
    cf_executor_close(executor);
}

TEST_MAIN(
    RUN(short_tasks_overtake_a_long_one)
    RUN(short_tasks_overtake_several_long_ones)
    RUN(short_tasks_that_come_later_do_not_wait_for_a_long_one)
    RUN(short_tasks_do_not_wait_for_a_worker_that_is_stopped)
    RUN(a_task_does_not_wait_for_an_idle_worker_that_is_stopped)
    RUN(a_worker_that_was_found_stopped_gets_nothing_until_it_goes_on)
    RUN(a_big_argument_does_not_wait_for_an_idle_worker_that_is_stopped)
    RUN(a_huge_argument_does_not_wait_for_an_idle_worker_that_is_stopped)
    RUN(an_array_does_not_wait_for_an_idle_worker_that_is_stopped)
    RUN(for_a_worker_that_is_stopped_another_one_is_started)
    RUN(when_all_workers_are_stopped_the_first_that_goes_on_takes_the_task)
    RUN(what_stands_behind_a_long_task_runs_when_another_worker_is_free_again)
    RUN(what_stands_behind_a_long_task_takes_its_turn_elsewhere)
    RUN(short_tasks_do_not_wait_for_a_task_that_runs_out_of_time)
    RUN(a_thousand_queued_tasks_can_be_cancelled)
    RUN(a_thousand_queued_tasks_can_be_cancelled_last_first)
    RUN(a_thousand_queued_tasks_can_be_cancelled_in_any_order)
    RUN(cancelled_tasks_leave_no_gap_in_the_order)
    RUN(a_cancel_is_true_if_and_only_if_the_task_never_runs)
    RUN(the_wish_to_stop_a_task_is_not_for_those_behind_it)
    RUN(only_what_has_begun_is_running)
    RUN(what_is_seen_running_begins)
    RUN(what_a_stopped_worker_has_not_begun_can_be_cancelled)
    RUN(big_arguments_at_a_stopped_worker_do_not_count_as_begun)
    RUN(an_argument_on_its_way_does_not_count_as_begun)
    RUN(a_second_cancel_while_the_argument_is_on_its_way_loses_nothing)
    RUN(one_worker_begins_its_tasks_in_order)
    RUN(big_and_small_arguments_keep_their_order)
    RUN(the_order_outlives_the_worker)
    RUN(what_a_worker_had_not_begun_stays_first)
    RUN(what_has_not_begun_outlives_its_worker)
    RUN(what_has_not_begun_outlives_all_workers)
    RUN(each_death_is_told_to_its_own_task)
    RUN(with_break_on_crash_all_that_had_not_ended_is_broken)
    RUN(kill_workers_cancels_all_that_has_not_begun)
    RUN(terminated_workers_begin_nothing_more)
    RUN(an_initializer_that_fails_in_a_replacement_breaks_all_that_waits)
    RUN(time_in_the_queue_is_no_time_of_the_task)
    RUN(time_to_copy_the_argument_is_no_time_of_the_task)
    RUN(each_deadline_counts_from_the_start_of_its_own_task)
    RUN(max_tasks_per_child_is_exact_under_load)
    RUN(max_tasks_per_child_may_be_one)
    RUN(max_tasks_per_child_may_be_more_than_any_desk_holds)
    RUN(only_what_begins_counts_for_max_tasks_per_child)
    RUN(what_is_taken_back_does_not_count_for_max_tasks_per_child)
    RUN(a_queue_that_is_full_is_full_after_much_work_too)
    RUN(a_shutdown_that_cancels_leaves_only_what_runs)
    RUN(a_shutdown_that_cancels_spares_what_stays)
    RUN(a_shutdown_that_runs_all_runs_all)
)
