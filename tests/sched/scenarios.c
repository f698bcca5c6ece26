/* Small programs for the controlled scheduler: two to five threads, a few tasks, and what must hold
 * whatever the schedule. The library under them is the real one; see hooks.h for what it stands on.
 *
 * With HEADER defined, that file instead of cfutures.h: check_sched.sh plants bugs in copies. */
#include "hooks.h"

#undef pthread_create
#define pthread_create(thread, attributes, fn, arg) create_or_refuse(thread, attributes, fn, arg)

static unsigned threads_left; /* one more than the system still grants; 0: any number */

static unsigned refusals;     /* so many threads, and then any number is granted */

/* A refusal takes its time, as it does where memory is short. */
static int create_or_refuse(unsigned long *thread, const void *attributes, ctl_thread_fn *fn,
                            void *arg) {
    if (threads_left == 1 || refusals > 0) {
        refusals -= refusals > 0;
        for (unsigned i = ctl_random(400); i > 0; i--) {
            ctl_yield();
        }
        return EAGAIN;
    }
    threads_left -= threads_left > 0;
    return ctl_thread_create(thread, attributes, fn, arg);
}

static void at_point(int id);
#define CFUTURES_TEST_POINT(id) at_point(id)
#define CFUTURES_IMPLEMENTATION
#ifdef HEADER
#include HEADER
#else
#include "../../cfutures.h"
#endif
static cf__runner *selves[CTL_THREADS];
static cf__visit *visits[CTL_THREADS];
static cf__runner **ctl_self(void) {
    return &selves[ctl_now];
}

static cf__visit **ctl_visits(void) {
    return &visits[ctl_now];
}

/* In whatever scenario: whoever spins for a task has room in its deque for the one that it is
 * handed. */
static void at_point(int id) {
    if (id == CF__POINT_SPUN) {
        cf__worker *const worker = cf__self->worker;
        CHECK(ctl_peek(&worker->bottom) == ctl_peek(&worker->top));
    }
}

/* ---- what tasks, free functions and callbacks leave behind ---- */

#define JOBS 8

typedef struct job {
    unsigned ran, freed, called;
    cf_future *future;
    cf_status status;
    cf_executor *executor;
    struct job *other;
} job;

static job jobs[JOBS];
static cf_executor *pool, *second_pool;

static int value_of(const job *j) {
    return 100 + (int)(j - jobs);
}

static int run_job(cf_task *task, void *arg) {
    job *const j = arg;
    const int value = value_of(j);
    CHECK(j->ran == 0 && j->freed == 0);
    j->ran++;
    ctl_yield();
    return cf_task_return(task, &value, sizeof value);
}

static void free_job(void *arg) {
    job *const j = arg;
    CHECK(j->freed == 0);
    CHECK(j->future == NULL || !cf_future_done(j->future));
    j->freed++;
}

static void on_done(cf_future *future, void *user) {
    job *const j = user;
    CHECK(cf_future_done(future));
    j->called++;
}

static cf_executor *make_pool(size_t workers) {
    const cf_pool_options options = {.max_workers = workers};
    memset(jobs, 0, sizeof jobs);
    cf_executor *const made = cf_thread_pool_new(&options, NULL);
    CHECK(made != NULL);
    return made;
}

static cf_future *submit(job *j, cf_task_fn *fn) {
    const cf_submit_options options = {free_job, 0};
    j->future = NULL;
    cf_future *const future = cf_executor_submit_with(pool, fn, j, 0, &options);
    CHECK(future != NULL);
    return future;
}

static void expect_result(cf_future *future, const job *j) {
    cf_status status;
    const int *const value = cf_future_result(future, CF_FOREVER, &status);
    CHECK(status == CF_OK);
    CHECK(*value == value_of(j));
    CHECK(j->ran == 1 && j->freed == 1);
}

/* It ran, or it was cancelled or refused: never both, never neither. */
static void expect_end(cf_future *future, const job *j, cf_status without) {
    const cf_status status = cf_future_wait(future, CF_FOREVER);
    CHECK(status == (j->ran == 1 ? CF_OK : without));
    CHECK(j->freed == 1);
}

/* ---- one pool, its workers, and whoever submits ---- */

static void submit_result_close(void) {
    pool = make_pool(1 + ctl_random(2));
    cf_future *const a = submit(&jobs[0], run_job);
    cf_future *const b = submit(&jobs[1], run_job);
    expect_result(a, &jobs[0]);
    expect_result(b, &jobs[1]);
    cf_future_release(a);
    cf_executor_close(pool);
    cf_future_release(b);
}

/* The worker may be looking for work, lying down, or asleep when the next task comes. */
static void submit_to_a_parking_worker(void) {
    pool = make_pool(1 + ctl_random(2));
    for (int i = 0; i < 3; i++) {
        cf_future *const future = submit(&jobs[i], run_job);
        expect_result(future, &jobs[i]);
        cf_future_release(future);
    }
    cf_executor_close(pool);
}

static void *submit_two(void *arg) {
    job *const j = arg;
    cf_future *const a = submit(&j[0], run_job), *const b = submit(&j[1], run_job);
    expect_result(a, &j[0]);
    expect_result(b, &j[1]);
    cf_future_release(a);
    cf_future_release(b);
    return NULL;
}

static void two_submitters(void) {
    pool = make_pool(2);
    const int other = ctl_spawn(submit_two, &jobs[2]);
    (void)submit_two(&jobs[0]);
    ctl_join(other);
    cf_executor_close(pool);
}

/* A worker that is being started counts as free; if it can not be, a sleeper has to do its work. */
static cf_future *opened;
static unsigned begun;

/* The second worker's needs a task. */
static int begin_when_opened(void *arg) {
    (void)arg;
    if (++begun == 2) {
        CHECK(cf_future_wait(opened, CF_FOREVER) == CF_OK);
    }
    return 0;
}

static int open_it(cf_task *task, void *arg) {
    (void)task;
    ((job *)arg)->ran++;
    CHECK(cf_future_set_result(opened, NULL, 0) == CF_OK);
    return 0;
}

/* It is for the first one to run, even if that sleeps. */
static void task_needed_by_an_initializer(void) {
    const cf_pool_options options = {.max_workers = 2, .initializer = begin_when_opened};
    memset(jobs, 0, sizeof jobs);
    begun = 0;
    opened = cf_future_new();
    pool = cf_thread_pool_new(&options, NULL);
    cf_future *const first = submit(&jobs[0], run_job);
    expect_result(first, &jobs[0]);
    cf_future *const two[2] = {submit(&jobs[1], run_job), submit(&jobs[2], run_job)};
    expect_result(two[0], &jobs[1]);
    expect_result(two[1], &jobs[2]);
    cf_future *const last = submit(&jobs[3], open_it);
    expect_end(last, &jobs[3], CF_OK);
    cf_future_release(first);
    cf_future_release(two[0]);
    cf_future_release(two[1]);
    cf_future_release(last);
    cf_executor_close(pool);
    cf_future_release(opened);
}

static void second_thread_refused(void) {
    threads_left = 2;
    pool = make_pool(2);
    cf_future *const first = submit(&jobs[0], run_job);
    expect_result(first, &jobs[0]);
    const int other = ctl_spawn(submit_two, &jobs[2]);
    for (unsigned i = ctl_random(400); i > 0; i--) {
        ctl_yield();
    }
    cf_future *const last = submit(&jobs[1], run_job);
    expect_result(last, &jobs[1]);
    ctl_join(other);
    cf_executor_close(pool);
    cf_future_release(first);
    cf_future_release(last);
    threads_left = 0;
}

/* Two tasks that need each other, each in a worker of its own, end only if both are woken. */
static int meet(cf_task *task, void *arg) {
    job *const j = arg;
    (void)task;
    j->ran++;
    (void)cf_future_set_result(j->other->future, NULL, 0);
    CHECK(cf_future_wait(j->future, CF_FOREVER) == CF_OK);
    return 0;
}

static void start_two_workers(void) {
    cf_future *submitted[2];
    for (int i = 0; i < 2; i++) {
        jobs[i + 6].future = cf_future_new();
        jobs[i + 6].other = &jobs[7 - i];
    }
    for (int i = 0; i < 2; i++) {
        submitted[i] = cf_executor_submit(pool, meet, &jobs[i + 6], 0);
    }
    for (int i = 0; i < 2; i++) {
        CHECK(cf_future_wait(submitted[i], CF_FOREVER) == CF_OK);
        cf_future_release(submitted[i]);
    }
    cf_future_release(jobs[6].future);
    cf_future_release(jobs[7].future);
}

static cf_future *called_back;

static int leave_a_child(cf_task *task, void *arg) {
    job *const j = arg;
    CHECK(cf_future_wait(called_back, CF_FOREVER) == CF_OK);
    cf_future *const child = submit(&j[1], open_it);
    if (cf_future_wait(child, 0) == CF_SHUTDOWN) {
        CHECK(cf_future_set_result(opened, NULL, 0) == CF_OK);
    }
    cf_future_release(child);
    return run_job(task, arg);
}

static void await_opened(cf_future *future, void *user) {
    (void)future;
    (void)user;
    CHECK(cf_future_wait(opened, CF_FOREVER) == CF_OK);
}

/* Of two workers one must not leave while the other may still put back what it has in hand. */
static void callback_needs_the_task_in_hand(void) {
    pool = make_pool(2);
    start_two_workers();
    memset(jobs, 0, sizeof jobs);
    opened = cf_future_new();
    called_back = cf_future_new();
    cf_future *const first = submit(&jobs[0], leave_a_child);
    CHECK(cf_future_add_done_callback(first, await_opened, NULL) == CF_OK);
    CHECK(cf_future_set_result(called_back, NULL, 0) == CF_OK);
    for (unsigned i = ctl_random(200); i > 0; i--) {
        ctl_yield();
    }
    cf_executor_close(pool);
    expect_end(first, &jobs[0], CF_OK);
    CHECK(jobs[1].freed == 1);
    cf_future_release(first);
    cf_future_release(opened);
    cf_future_release(called_back);
}

static void free_when_opened(void *result) {
    (void)result;
    CHECK(cf_future_wait(opened, CF_FOREVER) == CF_OK);
}

static int own_result(cf_task *task, void *arg) {
    ((job *)arg)->ran++;
    cf_task_return_owned(task, arg, sizeof(job), free_when_opened);
    return 0;
}

/* The first waits for the second, gives it away, and waits for the third. */
static int claim_and_give_away(cf_task *task, void *arg) {
    job *const j = arg;
    CHECK(cf_future_wait(called_back, CF_FOREVER) == CF_OK);
    CHECK(cf_future_wait(j[1].future, CF_FOREVER) == CF_OK);
    CHECK(cf_future_set_result(j[3].future, NULL, 0) == CF_OK);
    cf_future_release(j[1].future);
    CHECK(cf_future_wait(opened, CF_FOREVER) == CF_OK);
    return run_job(task, arg);
}

/* Whoever takes out what was claimed may have to wait for the task behind it. */
static void tombstone_hides_nothing(void) {
    pool = make_pool(3);
    opened = cf_future_new();
    called_back = cf_future_new();
    cf_future *const first = submit(&jobs[0], claim_and_give_away);
    start_two_workers();
    jobs[1].future = cf_executor_submit(pool, own_result, &jobs[1], 0);
    jobs[3].future = cf_future_new();
    CHECK(cf_future_set_result(called_back, NULL, 0) == CF_OK);
    CHECK(cf_future_wait(jobs[3].future, CF_FOREVER) == CF_OK);
    cf_future *const last = submit(&jobs[2], open_it);
    expect_end(last, &jobs[2], CF_OK);
    expect_result(first, &jobs[0]);
    cf_executor_close(pool);
    cf_future_release(first);
    cf_future_release(last);
    cf_future_release(jobs[3].future);
    cf_future_release(opened);
    cf_future_release(called_back);
}

static void two_tasks_meet(void) {
    pool = make_pool(2);
    for (unsigned rounds = 1 + ctl_random(2); rounds > 0; rounds--) {
        start_two_workers();
    }
    cf_executor_close(pool);
}

enum { MEETERS = 3, FIRST_MEETER = 3 };

static int meet_all(cf_task *task, void *arg) {
    job *const j = arg;
    (void)task;
    j->ran++;
    (void)cf_future_set_result(j->future, NULL, 0);
    for (int i = FIRST_MEETER; i < FIRST_MEETER + MEETERS; i++) {
        CHECK(cf_future_wait(jobs[i].future, CF_FOREVER) == CF_OK);
    }
    return 0;
}

static void *submit_a_meeter(void *arg) {
    job *const j = arg;
    cf_future *const future = cf_executor_submit(pool, meet_all, j, 0);
    CHECK(cf_future_wait(future, CF_FOREVER) == CF_OK);
    cf_future_release(future);
    return NULL;
}

/* As many tasks as workers, which all need each other, after some that leave workers spinning,
 * lying down or asleep: none may be left to a worker that has another one in hand. */
static void all_workers_meet(void) {
    pool = make_pool(MEETERS);
    for (int i = FIRST_MEETER; i < FIRST_MEETER + MEETERS; i++) {
        jobs[i].future = cf_future_new();
    }
    for (unsigned i = ctl_random(FIRST_MEETER + 1); i > 0; i--) {
        cf_future *const future = submit(&jobs[i - 1], run_job);
        if (ctl_random(2) == 0) {
            expect_result(future, &jobs[i - 1]);
        }
        cf_future_release(future);
    }
    const int other = ctl_spawn(submit_a_meeter, &jobs[FIRST_MEETER + 2]);
    cf_future *const first = cf_executor_submit(pool, meet_all, &jobs[FIRST_MEETER], 0);
    (void)submit_a_meeter(&jobs[FIRST_MEETER + 1]);
    CHECK(cf_future_wait(first, CF_FOREVER) == CF_OK);
    cf_future_release(first);
    ctl_join(other);
    for (int i = FIRST_MEETER; i < FIRST_MEETER + MEETERS; i++) {
        CHECK(jobs[i].ran == 1);
        cf_future_release(jobs[i].future);
    }
    cf_executor_close(pool);
}

static int run_pointed(cf_task *task, void *arg) {
    job *const *const j = arg;
    return run_job(task, *j);
}

static void submit_many_then_close(void) {
    cf_future *futures[3];
    job *const wanted[3] = {&jobs[0], &jobs[1], &jobs[2]};
    pool = make_pool(2);
    CHECK(cf_executor_submit_many(pool, run_pointed, wanted, 3, sizeof *wanted, futures) == CF_OK);
    cf_executor_close(pool);
    for (int i = 0; i < 3; i++) {
        CHECK(cf_future_wait(futures[i], 0) == CF_OK && jobs[i].ran == 1);
        cf_future_release(futures[i]);
    }
}

static void *ask_stats(void *arg) {
    (void)arg;
    for (int i = 0; i < 3; i++) {
        cf_stats stats;
        cf_executor_stats(pool, &stats);
        CHECK(stats.finished + stats.cancelled <= stats.submitted);
        CHECK(stats.submitted <= 3 && stats.running <= 2);
        ctl_yield();
    }
    return NULL;
}

static void stats_always_add_up(void) {
    pool = make_pool(2);
    const int asker = ctl_spawn(ask_stats, NULL);
    for (int i = 0; i < 3; i++) {
        cf_future_release(submit(&jobs[i], run_job));
    }
    ctl_join(asker);
    CHECK(cf_executor_shutdown(pool, CF_FOREVER, CF_RUN_PENDING) == CF_OK);
    cf_stats stats;
    cf_executor_stats(pool, &stats);
    CHECK(stats.finished == 3 && stats.workers == 0 && stats.queued == 0 && stats.running == 0);
    cf_executor_close(pool);
}

/* ---- cancel, wait, callbacks, references ---- */

static void *cancel_it(void *arg) {
    job *const j = arg;
    const bool cancelled = cf_future_cancel(j->future);
    if (cancelled) {
        CHECK(cf_future_done(j->future) && j->freed == 1 && j->ran == 0);
    } else {
        const cf_state state = cf_future_state(j->future);
        CHECK(state == CF_STATE_RUNNING || (state == CF_STATE_FINISHED && j->ran == 1));
    }
    return NULL;
}

static void *wait_for_it(void *arg) {
    job *const j = arg;
    expect_end(j->future, j, CF_CANCELLED);
    return NULL;
}

/* free_job must not look for its own future here: it is known before it is submitted to others. */
static void free_quietly(void *arg) {
    job *const j = arg;
    CHECK(j->freed == 0);
    for (int i = 0; i < 4; i++) { /* it may take its time */
        ctl_yield();
    }
    j->freed++;
}

static void submit_known(job *j, cf_task_fn *fn) {
    const cf_submit_options options = {free_quietly, 0};
    j->future = cf_executor_submit_with(pool, fn, j, 0, &options);
}

static void cancel_against_start_and_wait(void) {
    pool = make_pool(1);
    submit_known(&jobs[0], run_job);
    submit_known(&jobs[1], run_job);
    const int canceller = ctl_spawn(cancel_it, &jobs[1]);
    const int waiter = ctl_spawn(wait_for_it, &jobs[1]);
    (void)cancel_it(&jobs[1]);
    expect_end(jobs[0].future, &jobs[0], CF_OK);
    ctl_join(canceller);
    ctl_join(waiter);
    cf_future_release(jobs[0].future);
    cf_future_release(jobs[1].future);
    cf_executor_close(pool);
}

static void *add_callbacks(void *arg) {
    job *const j = arg;
    CHECK(cf_future_add_done_callback(j->future, on_done, j) == CF_OK);
    CHECK(cf_future_add_done_callback(j->future, on_done, j) == CF_OK);
    return NULL;
}

static void callbacks_while_it_settles(void) {
    pool = make_pool(1);
    submit_known(&jobs[0], run_job);
    const int other = ctl_spawn(add_callbacks, &jobs[0]);
    (void)add_callbacks(&jobs[0]);
    if (ctl_random(2) == 1) {
        (void)cancel_it(&jobs[0]);
    }
    ctl_join(other);
    cf_executor_close(pool);
    CHECK(jobs[0].called == 4 && jobs[0].freed == 1);
    cf_future_release(jobs[0].future);
}

static unsigned order[JOBS], ordered;

static void note_order(cf_future *future, void *user) {
    (void)future;
    order[ordered++] = (unsigned)((job *)user - jobs);
}

static void callbacks_in_order(void) {
    pool = make_pool(1);
    ordered = 0;
    cf_future *const promise = cf_future_new();
    submit_known(&jobs[0], run_job);
    for (unsigned i = 0; i < 3; i++) {
        (void)cf_future_add_done_callback(promise, note_order, &jobs[i]);
    }
    (void)cf_future_set_result(promise, NULL, 0);
    CHECK(ordered == 3 && order[0] == 0 && order[1] == 1 && order[2] == 2);
    cf_future_release(promise);
    cf_future_release(jobs[0].future);
    cf_executor_close(pool);
}

static void release_at_done(cf_future *future, void *user) {
    on_done(future, user);
    cf_future_release(future);
}

/* Whoever sees it done may release it: the settling thread must not touch it any more. */
static void release_against_settle(void) {
    pool = make_pool(1);
    for (int i = 0; i < 2; i++) {
        cf_future *const future = submit(&jobs[i], run_job);
        if (ctl_random(2) == 1) {
            (void)cf_future_add_done_callback(future, release_at_done, &jobs[i]);
        } else {
            cf_future_release(future);
        }
    }
    cf_future *const last = submit(&jobs[2], run_job);
    while (!cf_future_done(last)) {
        CHECK(cf_future_wait(last, CF_SECOND) != CF_CANCELLED);
    }
    cf_future_release(last);
    cf_executor_close(pool);
    CHECK(jobs[0].ran == 1 && jobs[1].ran == 1);
}

static void *release_it(void *arg) {
    cf_future_release(arg);
    return NULL;
}

/* The last of three holders ends a promise that nobody kept: by a cancel that its callback sees. */
static void last_reference_of_a_promise(void) {
    memset(jobs, 0, sizeof jobs);
    cf_future *const promise = cf_future_new();
    (void)cf_future_add_done_callback(promise, on_done, &jobs[0]);
    const int a = ctl_spawn(release_it, cf_future_retain(promise));
    const int b = ctl_spawn(release_it, cf_future_retain(promise));
    cf_future_release(promise);
    ctl_join(a);
    ctl_join(b);
    CHECK(jobs[0].called == 1);
}

static void *set_at_once(void *arg) {
    job *const j = arg;
    const int value = value_of(j);
    j->status = cf_future_set_result(j->other->future, &value, sizeof value);
    return NULL;
}

static void *set_it(void *arg) {
    for (int i = 0; i < 4; i++) { /* so that others wait for it */
        ctl_yield();
    }
    return set_at_once(arg);
}

static void *wait_for_promise(void *arg) {
    job *const j = arg;
    j->status = cf_future_wait(j->other->future, CF_FOREVER);
    return NULL;
}

static void promise_set_against_cancel(void) {
    memset(jobs, 0, sizeof jobs);
    cf_future *const promise = jobs[0].future = cf_future_new();
    int threads[3];
    for (int i = 1; i < 4; i++) {
        jobs[i].other = &jobs[0];
    }
    threads[0] = ctl_spawn(set_it, &jobs[1]);
    threads[1] = ctl_spawn(set_it, &jobs[2]);
    threads[2] = ctl_spawn(wait_for_promise, &jobs[3]);
    const bool cancelled = cf_future_cancel(promise);
    for (int i = 0; i < 3; i++) {
        ctl_join(threads[i]);
    }
    CHECK((jobs[1].status == CF_OK) + (jobs[2].status == CF_OK) + cancelled == 1);
    CHECK(jobs[3].status == (cancelled ? CF_CANCELLED : CF_OK));
    CHECK(cf_future_wait(promise, 0) == jobs[3].status);
    cf_future_release(promise);
}

/* ---- several futures ---- */

static void make_promises(int count) {
    memset(jobs, 0, sizeof jobs);
    for (int i = 0; i < count; i++) {
        jobs[i].future = cf_future_new();
        jobs[i].other = &jobs[i];
    }
}

static void wait_for_several(void) {
    cf_future *futures[3];
    bool done[3];
    int setters[3];
    make_promises(3);
    for (int i = 0; i < 3; i++) {
        futures[i] = jobs[i].future;
        setters[i] = ctl_spawn(set_it, &jobs[i]);
    }
    const bool all = ctl_random(2) == 1;
    const cf_return_when when = all ? CF_ALL_COMPLETED : CF_FIRST_COMPLETED;
    const size_t count = cf_wait(futures, 3, when, CF_FOREVER, done);
    CHECK(count >= (all ? 3u : 1u));
    CHECK((size_t)done[0] + done[1] + done[2] == count);
    for (int i = 0; i < 3; i++) {
        CHECK(!done[i] || cf_future_done(futures[i]));
        ctl_join(setters[i]);
        cf_future_release(futures[i]);
    }
}

static void as_completed_delivers_each(void) {
    cf_future *futures[3];
    int setters[3];
    unsigned seen = 0;
    make_promises(3);
    for (int i = 0; i < 3; i++) {
        futures[i] = jobs[i].future;
        setters[i] = ctl_spawn(set_it, &jobs[i]);
    }
    const size_t first = ctl_random(2) + 1;
    cf_as_completed_iter *const iter = cf_as_completed(futures, first, CF_FOREVER);
    for (size_t i = first; i < 3; i++) {
        CHECK(cf_as_completed_add(iter, futures[i]) == CF_OK);
    }
    cf_status status;
    size_t index;
    for (cf_future *f; (f = cf_as_completed_next(iter, &index, &status)) != NULL;) {
        CHECK(f == futures[index] && cf_future_done(f) && (seen >> index & 1) == 0);
        seen |= 1u << index;
    }
    CHECK(status == CF_END && seen == 7);
    cf_as_completed_close(iter);
    for (int i = 0; i < 3; i++) {
        ctl_join(setters[i]);
        cf_future_release(futures[i]);
    }
}

/* Two look at the same futures, each of which stands there twice, while these end. Few futures and
 * many are told apart in different ways. */
enum { FEW_PLACES = 6, MANY_PLACES = 20 };

static void *count_distinct(void *arg) {
    cf_future *const *const futures = arg;
    unsigned seen = 0;
    size_t index;
    const size_t count = ctl_random(3) == 0 ? FEW_PLACES : MANY_PLACES;
    cf_as_completed_iter *const iter = cf_as_completed(futures, count, CF_FOREVER);
    for (cf_future *f; (f = cf_as_completed_next(iter, &index, NULL)) != NULL;) {
        CHECK(index < 3 && f == futures[index] && (seen >> index & 1) == 0);
        seen |= 1u << index;
    }
    CHECK(seen == 7 && cf_as_completed_remaining(iter) == 0);
    cf_as_completed_close(iter);
    return NULL;
}

static void as_completed_meets_duplicates(void) {
    cf_future *futures[MANY_PLACES] = {NULL};
    int setters[2];
    make_promises(3);
    for (int i = 0; i < 3; i++) {
        futures[i] = futures[3 + i] = jobs[i].future;
        if (i > 0) {
            setters[i - 1] = ctl_spawn(set_at_once, &jobs[i]);
        }
    }
    (void)set_at_once(&jobs[0]);
    const int other = ctl_spawn(count_distinct, futures);
    (void)count_distinct(futures);
    ctl_join(other);
    for (int i = 0; i < 3; i++) {
        if (i > 0) {
            ctl_join(setters[i - 1]);
        }
        cf_future_release(futures[i]);
    }
}

/* The iterator goes while nodes of it are on their way. */
static void as_completed_closes_early(void) {
    cf_future *futures[3];
    int setters[3];
    make_promises(3);
    for (int i = 0; i < 3; i++) {
        futures[i] = jobs[i].future;
        setters[i] = ctl_spawn(set_it, &jobs[i]);
    }
    cf_as_completed_iter *const iter = cf_as_completed(futures, 3, CF_FOREVER);
    for (unsigned taken = ctl_random(3); taken > 0; taken--) {
        CHECK(cf_as_completed_next(iter, NULL, NULL) != NULL);
    }
    cf_as_completed_close(iter);
    for (int i = 0; i < 3; i++) {
        ctl_join(setters[i]);
        cf_future_release(futures[i]);
    }
}

/* Two that wait for the same future by a group each, one of which leaves. */
static void *wait_with_others(void *arg) {
    job *const j = arg;
    cf_future *const futures[2] = {jobs[0].future, jobs[1].future};
    (void)j;
    CHECK(cf_wait(futures, 2, CF_FIRST_COMPLETED, CF_FOREVER, NULL) >= 1);
    return NULL;
}

static void groups_share_a_future(void) {
    make_promises(2);
    const int a = ctl_spawn(wait_with_others, NULL);
    const int b = ctl_spawn(wait_with_others, NULL);
    const int c = ctl_spawn(set_it, &jobs[1]);
    (void)set_it(&jobs[0]);
    ctl_join(a);
    ctl_join(b);
    ctl_join(c);
    cf_future_release(jobs[0].future);
    cf_future_release(jobs[1].future);
}

/* ---- deadlines ---- */

static void deadline_against_event(void) {
    make_promises(1);
    cf_future *const promise = jobs[0].future;
    const int setter = ctl_spawn(set_it, &jobs[0]);
    const int64_t from = ctl_clock();
    const cf_status status = cf_future_wait(promise, CF_MILLISECOND);
    if (status == CF_TIMEOUT) {
        CHECK(ctl_clock() >= from + CF_MILLISECOND);
    } else {
        CHECK(status == CF_OK && cf_future_done(promise));
    }
    cf_status why;
    cf_as_completed_iter *const iter = cf_as_completed(&promise, 1, CF_MILLISECOND);
    const int64_t then = ctl_clock();
    if (cf_as_completed_next(iter, NULL, &why) == NULL) {
        CHECK(why == CF_TIMEOUT && ctl_clock() >= then + CF_MILLISECOND / 2);
    }
    cf_as_completed_close(iter);
    ctl_join(setter);
    CHECK(cf_future_wait(promise, 0) == CF_OK);
    cf_future_release(promise);
}

static void shutdown_with_a_deadline(void) {
    pool = make_pool(1);
    submit_known(&jobs[0], run_job);
    const int64_t from = ctl_clock();
    const cf_status status = cf_executor_shutdown(pool, CF_MILLISECOND, CF_RUN_PENDING);
    CHECK(status == CF_OK || (status == CF_TIMEOUT && ctl_clock() >= from + CF_MILLISECOND));
    CHECK(cf_future_wait(jobs[0].future, CF_FOREVER) == CF_OK);
    cf_executor_close(pool);
    cf_future_release(jobs[0].future);
}

/* ---- waiting inside tasks ---- */

/* Submits the next job and waits for it: on its own stack, or on another worker. */
static int run_parent(cf_task *task, void *arg) {
    job *const j = arg;
    j->ran++;
    cf_future *const child = submit(&j[1], run_job);
    expect_result(child, &j[1]);
    cf_future_release(child);
    const int value = value_of(j);
    return cf_task_return(task, &value, sizeof value);
}

static void nested_wait_claims(void) {
    pool = make_pool(1 + ctl_random(2));
    cf_future *const parent = submit(&jobs[0], run_parent);
    expect_result(parent, &jobs[0]);
    cf_future_release(parent);
    cf_executor_close(pool);
}

/* Three children in the worker's deque: it works at one end, a thief at the other. */
static int run_family(cf_task *task, void *arg) {
    job *const j = arg;
    cf_future *children[3];
    (void)task;
    j->ran++;
    for (int i = 0; i < 3; i++) {
        children[i] = submit(&j[i + 1], run_job);
    }
    for (int i = 2; i >= 0; i--) {
        expect_result(children[i], &j[i + 1]);
        cf_future_release(children[i]);
    }
    return 0;
}

static void deque_owner_against_thief(void) {
    pool = make_pool(2);
    cf_future *const family = submit(&jobs[0], run_family);
    CHECK(cf_future_wait(family, CF_FOREVER) == CF_OK);
    cf_future_release(family);
    cf_executor_close(pool);
}

/* The same, but nobody waits: thieves and owner empty the deque. */
static int run_and_forget(cf_task *task, void *arg) {
    job *const j = arg;
    (void)task;
    j->ran++;
    for (int i = 1; i < 4; i++) {
        cf_future_release(submit(&j[i], run_job));
    }
    return 0;
}

static void deque_emptied_by_two(void) {
    pool = make_pool(2);
    cf_future *const parent = submit(&jobs[0], run_and_forget);
    CHECK(cf_future_wait(parent, CF_FOREVER) == CF_OK);
    cf_future_release(parent);
    cf_executor_close(pool);
    for (int i = 0; i < 4; i++) {
        CHECK(jobs[i].ran == 1 && jobs[i].freed == 1);
    }
}

/* The deque by itself: its owner, and two thieves, who may come one after the other while the owner
 * stands still. */
static cf__worker *owner;
static cf_future entries[4];
static unsigned taken[4];

static void take(const cf_future *future) {
    if (future != NULL) {
        taken[future - entries]++;
    }
}

static void *steal_one(void *arg) {
    (void)arg;
    take(cf__deque_steal(owner));
    return NULL;
}

static void deque_gives_each_once(void) {
    int thieves[2];
    owner = cf__alloc_lines(sizeof *owner);
    memset(owner, 0, sizeof *owner);
    memset(taken, 0, sizeof taken);
    const unsigned count = 2 + ctl_random(2);
    for (unsigned i = 0; i < count; i++) {
        CHECK(cf__deque_push(owner, &entries[i]));
    }
    for (int i = 0; i < 2; i++) {
        thieves[i] = ctl_spawn(steal_one, NULL);
    }
    take(cf__deque_pop(owner));
    CHECK(cf__deque_push(owner, &entries[count]));
    take(cf__deque_pop(owner));
    take(cf__deque_pop(owner));
    for (int i = 0; i < 2; i++) {
        ctl_join(thieves[i]);
    }
    for (cf_future *left; (left = cf__deque_pop(owner)) != NULL;) {
        take(left);
    }
    for (unsigned i = 0; i <= count; i++) {
        CHECK(taken[i] == 1);
    }
    cf__free_lines(owner);
}

/* What a task submits may need another worker, who may be lying down just now. */
static int run_setter(cf_task *task, void *arg) {
    job *const j = arg;
    (void)task;
    j->ran++;
    CHECK(cf_future_set_result(j->future, NULL, 0) == CF_OK);
    return 0;
}

static int run_and_need_another(cf_task *task, void *arg) {
    job *const j = arg;
    (void)task;
    for (int round = 1; round < 5; round++) { /* the other is about to rest when the next comes */
        j[round].future = cf_future_new();
        cf_future *const child = cf_executor_submit(pool, run_setter, &j[round], 0);
        for (int i = 0; i < 8; i++) { /* what is in the store buffer may stay there */
            ctl_yield();
        }
        cf_future_release(child);
        CHECK(cf_future_wait(j[round].future, CF_FOREVER) == CF_OK);
        cf_future_release(j[round].future);
    }
    return 0;
}

/* Whose turn it is to look at the ring first, though it has a child in its deque. */
static int parent_at_its_tick(cf_task *task, void *arg) {
    job *const j = arg;
    cf_executor *const executor = cf_task_executor(task);
    j->other->future = cf_executor_submit(executor, run_job, j->other, 0);
    executor->workers[cf_task_worker(task)]->ticks = CF__BATCH - 1;
    return run_job(task, j);
}

static void spinner_has_an_empty_deque(void) {
    pool = make_pool(2);
    cf_future *futures[4];
    jobs[1].other = &jobs[4];
    for (int i = 0; i < 4; i++) {
        futures[i] = cf_executor_submit(pool, i == 1 ? parent_at_its_tick : run_job, &jobs[i], 0);
        for (unsigned steps = i < 2 ? ctl_random(100) : 0; steps > 0; steps--) {
            ctl_yield();
        }
    }
    for (int i = 0; i < 4; i++) {
        CHECK(cf_future_wait(futures[i], CF_FOREVER) == CF_OK);
        cf_future_release(futures[i]);
    }
    CHECK(cf_future_wait(jobs[4].future, CF_FOREVER) == CF_OK);
    cf_future_release(jobs[4].future);
    cf_executor_close(pool);
}

static void child_needs_another_worker(void) {
    pool = make_pool(2);
    start_two_workers();
    cf_future *const parent = cf_executor_submit(pool, run_and_need_another, &jobs[0], 0);
    CHECK(cf_future_wait(parent, CF_FOREVER) == CF_OK);
    cf_future_release(parent);
    cf_executor_close(pool);
}

/* A worker that runs a task for another executor stays the worker that it is for its own. */
static int run_inside_other(cf_task *task, void *arg) {
    job *const j = arg;
    CHECK(cf_task_worker(task) == 0); /* a caller: behind the last of no workers */
    cf_future *const child = submit(&j[1], run_job);
    expect_result(child, &j[1]);
    cf_future_release(child);
    j->ran++;
    return 0;
}

static int run_through_inline(cf_task *task, void *arg) {
    job *const j = arg;
    const size_t worker = cf_task_worker(task);
    j->ran++;
    cf_future *const inside = cf_executor_submit(second_pool, run_inside_other, &j[1], 0);
    CHECK(cf_future_wait(inside, CF_FOREVER) == CF_OK);
    CHECK(cf_task_worker(task) == worker && worker < 2);
    cf_future_release(inside);
    return 0;
}

static void workers_run_for_another_executor(void) {
    pool = make_pool(2);
    second_pool = cf_inline_executor_new(NULL);
    cf_future *const a = submit(&jobs[0], run_through_inline);
    cf_future *const b = submit(&jobs[3], run_through_inline);
    CHECK(cf_future_wait(a, CF_FOREVER) == CF_OK && cf_future_wait(b, CF_FOREVER) == CF_OK);
    CHECK(jobs[2].ran == 1 && jobs[5].ran == 1);
    cf_future_release(a);
    cf_future_release(b);
    cf_executor_close(pool);
    cf_executor_close(second_pool);
}

/* More frames than half of a small stack has room for. */
static int run_deep(cf_task *task, void *arg) {
    job *const j = arg;
    volatile char room[20000];
    room[0] = 1;
    room[sizeof room - 1] = room[0];
    j->ran++;
    if (j - jobs < 3) {
        cf_future *const child = submit(&j[1], run_deep);
        CHECK(cf_future_wait(child, CF_FOREVER) == CF_OK);
        cf_future_release(child);
    }
    const int value = value_of(j) + room[sizeof room - 1] - room[0];
    return cf_task_return(task, &value, sizeof value);
}

static void stand_in_runs_the_deepest(void) {
    const cf_pool_options options = {.max_workers = 1, .stack_size = 65536};
    memset(jobs, 0, sizeof jobs);
    pool = cf_thread_pool_new(&options, NULL);
    cf_future *const root = submit(&jobs[0], run_deep);
    expect_result(root, &jobs[0]);
    CHECK(jobs[3].ran == 1);
    cf_future_release(root);
    cf_executor_close(pool);
}

/* Waits for another task, once that is known; says how the wait ended. */
static int wait_for_other(cf_task *task, void *arg) {
    job *const j = arg;
    (void)task;
    j->ran++;
    CHECK(cf_future_wait(j->future, CF_FOREVER) == CF_OK); /* the gate: both are submitted */
    j->status = cf_future_wait(j->other->other->future, CF_FOREVER);
    return 0;
}

/* jobs[i].other is where the future of task i stands. */
static void expect_one_deadlock(cf_executor *first, cf_executor *second) {
    jobs[0].future = cf_future_new();
    jobs[1].future = cf_future_retain(jobs[0].future);
    jobs[2].future = cf_executor_submit(first, wait_for_other, &jobs[0], 0);
    jobs[3].future = cf_executor_submit(second, wait_for_other, &jobs[1], 0);
    jobs[0].other = &jobs[4];
    jobs[4].other = &jobs[3];
    jobs[1].other = &jobs[5];
    jobs[5].other = &jobs[2];
    (void)cf_future_set_result(jobs[0].future, NULL, 0);
    CHECK(cf_future_wait(jobs[2].future, CF_FOREVER) == CF_OK);
    CHECK(cf_future_wait(jobs[3].future, CF_FOREVER) == CF_OK);
    CHECK((jobs[0].status == CF_DEADLOCK) + (jobs[1].status == CF_DEADLOCK) == 1);
    CHECK(jobs[0].status == CF_OK || jobs[1].status == CF_OK);
    for (int i = 0; i < 4; i++) {
        cf_future_release(jobs[i].future);
    }
}

static void cycle_of_two_tasks(void) {
    pool = make_pool(2);
    expect_one_deadlock(pool, pool);
    cf_executor_close(pool);
}

static void cycle_across_executors(void) {
    pool = make_pool(1);
    second_pool = make_pool(1);
    expect_one_deadlock(pool, second_pool);
    cf_executor_close(pool);
    cf_executor_close(second_pool);
}

/* The cycle is closed while somebody else still is about to start the last worker of it. */
static int wait_behind_it(cf_task *task, void *arg) {
    job *const j = arg;
    (void)task;
    CHECK(cf_future_wait(j[3].future, CF_FOREVER) == CF_OK); /* the other has begun */
    cf_future *const behind = cf_executor_submit(second_pool, run_job, &j[1], 0);
    j->status = cf_future_wait(behind, CF_FOREVER);
    cf_future_release(behind);
    return 0;
}

static int begin_and_wait(cf_task *task, void *arg) {
    job *const j = arg;
    (void)task;
    (void)cf_future_set_result(j[3].future, NULL, 0);
    j[2].status = cf_future_wait(j[4].future, CF_FOREVER);
    return 0;
}

static void cycle_while_a_worker_starts(void) {
    pool = make_pool(1);
    second_pool = make_pool(1);
    jobs[3].future = cf_future_new();
    jobs[4].future = cf_executor_submit(pool, wait_behind_it, &jobs[0], 0);
    jobs[5].future = cf_executor_submit(second_pool, begin_and_wait, &jobs[0], 0);
    CHECK(cf_future_wait(jobs[4].future, CF_FOREVER) == CF_OK);
    CHECK(cf_future_wait(jobs[5].future, CF_FOREVER) == CF_OK);
    CHECK((jobs[0].status == CF_DEADLOCK) + (jobs[2].status == CF_DEADLOCK) == 1);
    cf_executor_close(pool);
    cf_executor_close(second_pool);
    CHECK(jobs[1].ran == 1);
    for (int i = 3; i < 6; i++) {
        cf_future_release(jobs[i].future);
    }
}

/* A chain that ends in a task which runs is no cycle. */
static int run_slowly(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    for (int i = 0; i < 3; i++) {
        ctl_yield();
    }
    return 0;
}

static void chain_is_no_cycle(void) {
    pool = make_pool(2);
    second_pool = make_pool(1);
    jobs[0].future = cf_future_new();
    jobs[2].future = cf_executor_submit(second_pool, run_slowly, NULL, 0);
    jobs[0].other = &jobs[4];
    jobs[4].other = &jobs[2];
    jobs[1].future = cf_future_retain(jobs[0].future);
    jobs[1].other = &jobs[5];
    jobs[3].future = cf_executor_submit(pool, wait_for_other, &jobs[0], 0);
    jobs[5].other = &jobs[3];
    jobs[6].future = cf_executor_submit(pool, wait_for_other, &jobs[1], 0);
    (void)cf_future_set_result(jobs[0].future, NULL, 0);
    CHECK(cf_future_wait(jobs[6].future, CF_FOREVER) == CF_OK);
    CHECK(jobs[0].status == CF_OK && jobs[1].status == CF_OK);
    for (int i = 0; i < 4; i++) {
        cf_future_release(jobs[i].future);
    }
    cf_future_release(jobs[6].future);
    cf_executor_close(pool);
    cf_executor_close(second_pool);
}

/* ---- bounded queues, shutdown ---- */

static cf_executor *make_bounded(cf_on_full on_full) {
    const cf_pool_options options = {.max_workers = 1, .queue_limit = 1, .on_full = on_full};
    memset(jobs, 0, sizeof jobs);
    return cf_thread_pool_new(&options, NULL);
}

static void *submit_to_full(void *arg) {
    job *const j = arg;
    for (int i = 0; i < 2; i++) {
        submit_known(&j[i], run_job);
    }
    for (int i = 0; i < 2; i++) {
        expect_end(j[i].future, &j[i], CF_SHUTDOWN);
        cf_future_release(j[i].future);
    }
    return NULL;
}

static void full_queue_blocks(void) {
    pool = make_bounded(CF_FULL_BLOCK);
    const int other = ctl_spawn(submit_to_full, &jobs[2]);
    (void)submit_to_full(&jobs[0]);
    ctl_join(other);
    for (int i = 0; i < 4; i++) {
        CHECK(jobs[i].ran == 1);
    }
    cf_executor_close(pool);
}

static void *shut_down(void *arg) {
    const cf_shutdown_mode *const mode = arg;
    CHECK(cf_executor_shutdown(pool, CF_FOREVER, *mode) == CF_OK);
    return NULL;
}

static cf_shutdown_mode run_pending = CF_RUN_PENDING, cancel_pending = CF_CANCEL_PENDING;

static void shutdown_while_submitters_block(void) {
    pool = make_bounded(CF_FULL_BLOCK);
    const int a = ctl_spawn(submit_to_full, &jobs[0]);
    const int b = ctl_spawn(submit_to_full, &jobs[2]);
    ctl_yield();
    (void)shut_down(&run_pending);
    ctl_join(a);
    ctl_join(b);
    cf_executor_close(pool);
}

/* The task that runs waits for the blocked submitter, whom only the shutdown lets go. */
static void *submit_and_open(void *arg) {
    job *const j = arg;
    submit_known(&j[0], run_job);
    submit_known(&j[1], run_job);
    (void)cf_future_set_result(j[2].future, NULL, 0);
    for (int i = 0; i < 2; i++) {
        expect_end(j[i].future, &j[i], CF_SHUTDOWN);
        cf_future_release(j[i].future);
    }
    return NULL;
}

static int wait_for_gate(cf_task *task, void *arg) {
    job *const j = arg;
    (void)task;
    CHECK(cf_future_wait(j->future, CF_FOREVER) == CF_OK);
    return 0;
}

static void shutdown_frees_a_submitter(void) {
    pool = make_bounded(CF_FULL_BLOCK);
    jobs[2].future = cf_future_new();
    cf_future *const blocker = cf_executor_submit(pool, wait_for_gate, &jobs[2], 0);
    const int submitter = ctl_spawn(submit_and_open, &jobs[0]);
    ctl_yield();
    (void)shut_down(&run_pending);
    ctl_join(submitter);
    CHECK(cf_future_wait(blocker, 0) == CF_OK);
    cf_future_release(blocker);
    cf_executor_close(pool);
    cf_future_release(jobs[2].future);
}

/* The submitter that waits for room goes on when a queued task is cancelled. */
static void cancel_makes_room(void) {
    pool = make_bounded(CF_FULL_BLOCK);
    cf_future *const gate = cf_future_new();
    jobs[6].future = gate;
    jobs[6].other = &jobs[6];
    jobs[7].other = &jobs[6];
    jobs[5].future = gate;
    jobs[5].other = &jobs[4];
    jobs[4].other = &jobs[6];
    cf_future *const blocker = cf_executor_submit(pool, wait_for_other, &jobs[5], 0);
    submit_known(&jobs[0], run_job); /* the one that may wait */
    const int canceller = ctl_spawn(cancel_it, &jobs[0]);
    submit_known(&jobs[1], run_job); /* blocks until that is cancelled */
    (void)cf_future_set_result(gate, NULL, 0);
    expect_end(jobs[1].future, &jobs[1], CF_OK);
    ctl_join(canceller);
    expect_end(jobs[0].future, &jobs[0], CF_CANCELLED);
    cf_future_release(jobs[0].future);
    cf_future_release(jobs[1].future);
    cf_future_release(blocker);
    cf_executor_close(pool);
    cf_future_release(gate);
}

/* The same when the task that waits in the queue is claimed by one that waits for it. */
static int claim_then_wait(cf_task *task, void *arg) {
    job *const j = arg;
    (void)task;
    CHECK(cf_future_wait(j[3].future, CF_FOREVER) == CF_OK); /* the gate: the next is queued */
    CHECK(cf_future_wait(j[1].future, CF_FOREVER) == CF_OK);
    CHECK(cf_future_wait(j[4].future, CF_FOREVER) == CF_OK); /* until one more was submitted */
    return 0;
}

static void claim_makes_room(void) {
    pool = make_bounded(CF_FULL_BLOCK);
    jobs[3].future = cf_future_new();
    jobs[4].future = cf_future_new();
    cf_future *const outer = cf_executor_submit(pool, claim_then_wait, &jobs[0], 0);
    submit_known(&jobs[1], run_job);
    (void)cf_future_set_result(jobs[3].future, NULL, 0);
    submit_known(&jobs[2], run_job);
    (void)cf_future_set_result(jobs[4].future, NULL, 0);
    CHECK(cf_future_wait(outer, CF_FOREVER) == CF_OK);
    cf_executor_close(pool);
    CHECK(jobs[1].ran == 1 && jobs[2].ran == 1);
    cf_future_release(outer);
    for (int i = 1; i < 5; i++) {
        cf_future_release(jobs[i].future);
    }
}

/* A cancel that comes too late must not hide another task from whoever wakes the workers. */
static void *cancel_late(void *arg) {
    job *const j = arg;
    (void)cf_future_cancel(j->future);
    return NULL;
}

static void late_cancel_hides_nothing(void) {
    pool = make_pool(2);
    start_two_workers();
    jobs[2].future = cf_future_new();
    jobs[0].future = cf_executor_submit(pool, wait_for_gate, &jobs[2], 0);
    const int canceller = ctl_spawn(cancel_late, &jobs[0]);
    submit_known(&jobs[1], run_job);
    expect_end(jobs[1].future, &jobs[1], CF_OK); /* by the second worker: the first is held */
    (void)cf_future_set_result(jobs[2].future, NULL, 0);
    ctl_join(canceller);
    cf_executor_close(pool);
    for (int i = 0; i < 3; i++) {
        cf_future_release(jobs[i].future);
    }
}

static int overfill_deep(cf_task *task, void *arg) {
    job *const j = arg;
    volatile char room[20000];
    room[0] = 1;
    room[sizeof room - 1] = room[0];
    j->ran++;
    if (j - jobs < 4) {
        cf_future *const child = submit(&j[1], overfill_deep);
        expect_end(child, &j[1], CF_SYSTEM);
        cf_future_release(child);
    }
    const int value = value_of(j) + room[sizeof room - 1] - room[0];
    return cf_task_return(task, &value, sizeof value);
}

static int fill_then_overfill(cf_task *task, void *arg) {
    jobs[5].future = submit(&jobs[5], run_job);
    return overfill_deep(task, arg);
}

/* Each runs in the submit of the one before, until the stack is full. */
static void deep_submits_to_a_full_queue(void) {
    const cf_pool_options options = {.max_workers = 1, .queue_limit = 1, .stack_size = 65536};
    const bool refused = ctl_random(2) == 0;
    memset(jobs, 0, sizeof jobs);
    threads_left = refused ? 2 : 0;
    pool = cf_thread_pool_new(&options, NULL);
    cf_future *const root = submit(&jobs[0], fill_then_overfill);
    expect_result(root, &jobs[0]);
    cf_future *const queued = jobs[5].future;
    jobs[5].future = NULL;
    expect_result(queued, &jobs[5]);
    CHECK(jobs[4].ran == (refused ? 0 : 1));
    cf_future_release(root);
    cf_future_release(queued);
    cf_executor_close(pool);
    threads_left = 0;
}

static void callers_run_what_does_not_fit(void) {
    pool = make_bounded(CF_FULL_CALLER_RUNS);
    const int other = ctl_spawn(submit_to_full, &jobs[2]);
    (void)submit_to_full(&jobs[0]);
    ctl_join(other);
    cf_executor_close(pool);
}

static void shutdown_by_two_threads(void) {
    pool = make_pool(1 + ctl_random(2));
    for (int i = 0; i < 3; i++) {
        submit_known(&jobs[i], run_job);
    }
    const int other = ctl_spawn(shut_down, &cancel_pending);
    (void)shut_down(&run_pending);
    for (int i = 0; i < 3; i++) {
        CHECK(cf_future_done(jobs[i].future));
        expect_end(jobs[i].future, &jobs[i], CF_CANCELLED);
        cf_future_release(jobs[i].future);
    }
    ctl_join(other);
    cf_executor_close(pool);
}

static void *submit_late(void *arg) {
    job *const j = arg;
    submit_known(j, run_job);
    expect_end(j->future, j, CF_SHUTDOWN);
    cf_future_release(j->future);
    return NULL;
}

static void submit_against_shutdown(void) {
    pool = make_pool(1);
    const int a = ctl_spawn(submit_late, &jobs[0]);
    const int b = ctl_spawn(submit_late, &jobs[1]);
    (void)shut_down(&run_pending);
    ctl_join(a);
    ctl_join(b);
    cf_executor_close(pool);
}

static int close_own_pool(cf_task *task, void *arg) {
    job *const j = arg;
    j->ran++;
    cf_executor_close(cf_task_executor(task));
    return 0;
}

static void closed_by_its_own_worker(void) {
    pool = make_pool(2);
    cf_future *const other = submit(&jobs[1], run_job);
    cf_future *const closer = submit(&jobs[0], close_own_pool);
    CHECK(cf_future_wait(closer, CF_FOREVER) == CF_OK);
    expect_result(other, &jobs[1]);
    cf_future_release(closer);
    cf_future_release(other);
}

static int refuse_to_work(void *arg) {
    (void)arg;
    ctl_yield();
    return 1;
}

static void *submit_to_broken(void *arg) {
    job *const j = arg;
    submit_known(j, run_job);
    CHECK(cf_future_wait(j->future, CF_FOREVER) == CF_BROKEN);
    CHECK(j->ran == 0 && j->freed == 1);
    cf_future_release(j->future);
    return NULL;
}

static void initializer_breaks_the_pool(void) {
    const cf_pool_options options = {.max_workers = 2, .initializer = refuse_to_work};
    memset(jobs, 0, sizeof jobs);
    pool = cf_thread_pool_new(&options, NULL);
    const int other = ctl_spawn(submit_to_broken, &jobs[1]);
    (void)submit_to_broken(&jobs[0]);
    ctl_join(other);
    cf_executor_close(pool);
}

/* ---- map ---- */

static int square(cf_task *task, void *arg) {
    const int *const item = arg, result = *item * *item;
    jobs[*item].ran++;
    ctl_yield();
    return cf_task_return(task, &result, sizeof result);
}

static const int items[] = {0, 1, 2, 3};

static void map_in_a_window(void) {
    pool = make_pool(1 + ctl_random(2));
    const bool unordered = ctl_random(2) == 1;
    const unsigned wanted = ctl_random(5);
    const cf_map_options options = {.buffersize = 2, .unordered = unordered};
    cf_map_iter *const iter = cf_executor_map(pool, square, items, 4, sizeof *items, &options);
    for (unsigned i = 0; i < wanted; i++) {
        cf_status status;
        const int *const result = cf_map_next(iter, &status);
        const size_t index = cf_map_index(iter);
        CHECK(status == CF_OK && (unordered || index == i));
        CHECK(*result == items[index] * items[index]);
    }
    if (wanted == 4) {
        cf_status status;
        CHECK(cf_map_next(iter, &status) == NULL && status == CF_END);
    }
    const bool late = ctl_random(2) == 1;
    if (!late) {
        cf_map_close(iter);
    }
    cf_executor_close(pool);
    if (late) {
        cf_map_close(iter);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(jobs[i].ran <= 1);
    }
}

static void map_array_fills_all(void) {
    int results[4] = {-1, -1, -1, -1};
    pool = make_pool(2);
    CHECK(cf_executor_map_array(pool, square, items, sizeof *items, results, sizeof *results, 4,
                                NULL, NULL) == CF_OK);
    for (int i = 0; i < 4; i++) {
        CHECK(results[i] == items[i] * items[i] && jobs[i].ran == 1);
    }
    cf_executor_close(pool);
}

static int map_inside(cf_task *task, void *arg) {
    int results[4] = {-1, -1, -1, -1};
    (void)arg;
    CHECK(cf_executor_map_array(cf_task_executor(task), square, items, sizeof *items, results,
                                sizeof *results, 4, NULL, NULL) == CF_OK);
    for (int i = 0; i < 4; i++) {
        CHECK(results[i] == items[i] * items[i] && jobs[i].ran == 1);
    }
    return 0;
}

static void map_array_inside_a_task(void) {
    pool = make_pool(2);
    cf_future *const future = cf_executor_submit(pool, map_inside, NULL, 0);
    CHECK(cf_future_wait(future, CF_FOREVER) == CF_OK);
    cf_future_release(future);
    cf_executor_close(pool);
}

/* An item waits for the task that maps it: one of the two waits has to end with CF_DEADLOCK. */
static int wait_for_the_mapper(cf_task *task, void *arg) {
    const int *const item = arg;
    cf_status status = CF_OK;
    if (*item == 1) {
        status = cf_future_wait(jobs[0].future, CF_FOREVER);
        CHECK(status == CF_DEADLOCK);
        jobs[1].ran++;
    }
    return cf_task_return(task, item, sizeof *item);
}

static int map_what_waits(cf_task *task, void *arg) {
    int results[4];
    (void)arg;
    CHECK(cf_future_wait(jobs[2].future, CF_FOREVER) == CF_OK); /* the gate: it is known */
    (void)cf_executor_map_array(cf_task_executor(task), wait_for_the_mapper, items, sizeof *items,
                                results, sizeof *results, 4, NULL, NULL);
    CHECK(jobs[1].ran == 1);
    return 0;
}

static unsigned items_begun, items_ended;

static int count_item(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    items_begun++;
    ctl_yield();
    items_ended++;
    return 0;
}

static bool next_of_three(void *item, void *user) {
    memset(item, 0, sizeof(int));
    return ++*(unsigned *)user <= 3;
}

static void *submit_one(void *arg) {
    job *const j = arg;
    cf_future *const future = submit(j, run_job);
    expect_end(future, j, CF_SYSTEM);
    cf_future_release(future);
    return NULL;
}

/* The first worker is refused to one of two threads and granted to the other: that one runs the
 * chunk, or it is refused as a whole. */
static void map_without_a_worker(void) {
    unsigned pulled = 0, delivered = 0;
    const cf_map_options options = {.chunksize = 3, .next_item = next_of_three, .user = &pulled};
    pool = make_pool(1);
    refusals = 1;
    items_begun = items_ended = 0;
    const int other = ctl_spawn(submit_one, &jobs[0]);
    cf_map_iter *const iter = cf_executor_map(pool, count_item, NULL, 0, sizeof(int), &options);
    cf_status status = CF_OK;
    while (status == CF_OK) {
        (void)cf_map_next(iter, &status);
        delivered += status == CF_OK;
    }
    CHECK(status == (delivered == 0 ? CF_SYSTEM : CF_END));
    cf_map_close(iter);
    ctl_join(other);
    cf_executor_close(pool);
    CHECK(delivered == items_ended && items_begun == items_ended);
    CHECK(delivered == 0 || delivered == 3);
    refusals = 0;
}

static void chunk_of_a_mapper_without_a_worker(void) {
    for (int rounds = 0; rounds < 3; rounds++) {
        map_without_a_worker();
    }
}

static void map_item_waits_for_the_mapper(void) {
    pool = make_pool(2);
    jobs[2].future = cf_future_new();
    jobs[0].future = cf_executor_submit(pool, map_what_waits, NULL, 0);
    (void)cf_future_set_result(jobs[2].future, NULL, 0);
    CHECK(cf_future_wait(jobs[0].future, CF_FOREVER) == CF_OK);
    cf_executor_close(pool);
    cf_future_release(jobs[0].future);
    cf_future_release(jobs[2].future);
}

/* A deadline of a task: it runs to its end, and its result counts only if it was in time. */
static int run_until_late(cf_task *task, void *arg) {
    job *const j = arg;
    j->ran++;
    for (int i = 0; i < 4 && !cf_task_stop_requested(task); i++) {
        CHECK(cf_future_wait(j->future, CF_MILLISECOND) == CF_TIMEOUT);
    }
    return 0;
}

static void task_deadline_and_cancel(void) {
    const cf_submit_options options = {NULL, 2 * CF_MILLISECOND};
    pool = make_pool(1);
    jobs[0].future = cf_future_new();
    jobs[1].future = cf_executor_submit_with(pool, run_until_late, &jobs[0], 0, &options);
    const int canceller = ctl_spawn(cancel_late, &jobs[1]);
    const cf_status status = cf_future_wait(jobs[1].future, CF_FOREVER);
    CHECK(jobs[0].ran == (status != CF_CANCELLED));
    CHECK(status == CF_OK || status == CF_TASK_TIMEOUT || status == CF_CANCELLED);
    ctl_join(canceller);
    cf_executor_close(pool);
    cf_future_release(jobs[0].future);
    cf_future_release(jobs[1].future);
}

/* ---- anything at once: three threads, the tasks, the callbacks and the items of maps do what the
 * seed says, on two pools. Nobody waits for a promise without a deadline, since who would keep it
 * may be waiting, too; whatever else is waited for, the library has to end the wait. ---- */

#define MOST 14

typedef struct known {
    cf_future *future; /* a reference that lasts to the end */
    bool is_promise;
    unsigned ran, freed, added, called;
} known;

static known all[MOST];
static size_t all_count;
static unsigned acts_left;
static cf_executor *pools[2];

static void free_known(void *arg) {
    known *const k = arg;
    CHECK(k->freed == 0);
    k->freed++;
}

static void do_anything(void);

static void count_call(cf_future *future, void *user) {
    known *const k = user;
    CHECK(cf_future_done(future));
    k->called++;
    if (ctl_random(4) == 0) {
        do_anything();
    }
}

static int run_anything(cf_task *task, void *arg) {
    known *const k = arg;
    (void)task;
    CHECK(k->ran == 0 && k->freed == 0);
    k->ran++;
    for (unsigned acts = ctl_random(3); acts > 0; acts--) {
        do_anything();
    }
    return 0;
}

static void submit_anything(bool is_promise) {
    const cf_submit_options options = {free_known, 0};
    if (all_count == MOST) {
        return;
    }
    known *const k = &all[all_count++];
    memset(k, 0, sizeof *k);
    k->is_promise = is_promise;
    cf_future *const future =
        is_promise ? cf_future_new()
                   : cf_executor_submit_with(pools[ctl_random(2)], run_anything, k, 0, &options);
    ctl_publish(); /* as by a lock: others take it from here */
    k->future = future;
}

/* One that has been submitted; NULL: none has. */
static known *any_known(void) {
    known *const k = all_count > 0 ? &all[ctl_random((unsigned)all_count)] : NULL;
    return k != NULL && k->future != NULL ? k : NULL;
}

static cf_duration any_timeout(bool finite) {
    static const cf_duration timeouts[] = {0, CF_MILLISECOND, CF_FOREVER};
    return timeouts[ctl_random(finite ? 2 : 3)];
}

static void wait_for_any(const known *k) {
    const cf_duration timeout = any_timeout(k->is_promise);
    const cf_status status = cf_future_wait(k->future, timeout);
    CHECK(status != CF_TIMEOUT || timeout != CF_FOREVER);
    CHECK(status != CF_OK || k->is_promise || k->ran == 1);
    CHECK(status != CF_CANCELLED || k->ran == 0);
}

static void gather_some(void) {
    cf_future *futures[3];
    bool finite = false;
    for (int i = 0; i < 3; i++) {
        const known *const k = any_known();
        futures[i] = k != NULL ? k->future : NULL;
        finite = finite || (k != NULL && k->is_promise);
    }
    const cf_duration timeout = any_timeout(finite);
    if (ctl_random(2) == 0) {
        (void)cf_wait(futures, 3, (cf_return_when)ctl_random(3), timeout, NULL);
        return;
    }
    cf_as_completed_iter *const iter = cf_as_completed(futures, 3, timeout);
    for (unsigned wanted = ctl_random(4); wanted > 0; wanted--) {
        const cf_future *const next = cf_as_completed_next(iter, NULL, NULL);
        CHECK(next == NULL || cf_future_done(next));
    }
    cf_as_completed_close(iter);
}

static int map_anything(cf_task *task, void *arg) {
    const int *const item = arg;
    if (ctl_random(3) == 0) {
        do_anything();
    }
    return cf_task_return(task, item, sizeof *item);
}

static void map_some(void) {
    const int three[3] = {1, 2, 3};
    cf_executor *const executor = pools[ctl_random(2)];
    if (ctl_random(2) == 0) {
        int results[3];
        const cf_status status = cf_executor_map_array(executor, map_anything, three, sizeof *three,
                                                       results, sizeof *results, 3, NULL, NULL);
        CHECK(status != CF_OK || (results[0] == 1 && results[1] == 2 && results[2] == 3));
        return;
    }
    const cf_map_options options = {.buffersize = ctl_random(3), .unordered = ctl_random(2) == 1};
    cf_map_iter *const iter =
        cf_executor_map(executor, map_anything, three, 3, sizeof *three, &options);
    for (unsigned wanted = ctl_random(5); wanted > 0; wanted--) {
        const int *const result = cf_map_next(iter, NULL);
        CHECK(result == NULL || *result == three[cf_map_index(iter)]);
    }
    cf_map_close(iter);
}

static void touch_any(known *k) {
    switch (ctl_random(4)) {
    case 0:
        if (cf_future_cancel(k->future)) {
            CHECK(k->ran == 0 && (k->is_promise || k->freed == 1));
        }
        break;
    case 1:
        k->added++;
        CHECK(cf_future_add_done_callback(k->future, count_call, k) == CF_OK);
        break;
    case 2:
        if (k->is_promise) {
            (void)cf_future_set_result(k->future, NULL, 0);
        }
        break;
    default: wait_for_any(k);
    }
}

static void do_anything(void) {
    known *const k = any_known();
    if (acts_left == 0) {
        return;
    }
    acts_left--;
    switch (ctl_random(8)) {
    case 0:
    case 1:
    case 2:
        if (k != NULL) {
            touch_any(k);
        }
        break;
    case 3: gather_some(); break;
    case 4: map_some(); break;
    case 5: submit_anything(ctl_random(3) == 0); break;
    default: submit_anything(false);
    }
}

static void *act(void *arg) {
    (void)arg;
    for (unsigned acts = 2 + ctl_random(3); acts > 0; acts--) {
        do_anything();
    }
    if (ctl_random(8) == 0) {
        (void)cf_executor_shutdown(pools[ctl_random(2)], 0, (cf_shutdown_mode)ctl_random(2));
    }
    return NULL;
}

static void expect_known_ended(const known *k) {
    const cf_status status = cf_future_wait(k->future, 0);
    if (k->is_promise) {
        return;
    }
    CHECK(status == CF_OK || status == CF_CANCELLED || status == CF_SHUTDOWN ||
          status == CF_QUEUE_FULL || status == CF_DEADLOCK);
    CHECK(k->ran == (status == CF_OK));
    CHECK(k->freed == 1);
}

static void look_on(const cf_event *event, void *user) {
    unsigned *const told = user;
    told[event->kind]++;
    ctl_yield();
}

static cf_executor *make_any_pool(unsigned *told) {
    static const cf_on_full rules[] = {CF_FULL_BLOCK, CF_FULL_REJECT, CF_FULL_CALLER_RUNS};
    const cf_observer observer = {look_on, look_on, look_on, look_on, look_on, told};
    const cf_pool_options options = {.max_workers = 1 + ctl_random(2),
                                     .queue_limit = ctl_random(3) == 0 ? 1 : 0,
                                     .on_full = rules[ctl_random(3)],
                                     .observer = ctl_random(4) == 0 ? &observer : NULL};
    cf_executor *const made = cf_thread_pool_new(&options, NULL);
    CHECK(made != NULL);
    return made;
}

static void anything_goes(void) {
    unsigned told[2][8] = {{0}};
    memset(all, 0, sizeof all);
    all_count = 0;
    acts_left = 25;
    pools[0] = make_any_pool(told[0]);
    pools[1] = make_any_pool(told[1]);
    const int a = ctl_spawn(act, NULL), b = ctl_spawn(act, NULL);
    (void)act(NULL);
    ctl_join(a);
    ctl_join(b);
    for (int i = 0; i < 2; i++) { /* tasks of one may still submit to the other */
        CHECK(cf_executor_shutdown(pools[i], CF_FOREVER, CF_RUN_PENDING) == CF_OK);
    }
    cf_executor_close(pools[0]);
    cf_executor_close(pools[1]);
    for (int i = 0; i < 2; i++) {
        CHECK(told[i][CF_EVENT_WORKER_STARTED] == told[i][CF_EVENT_WORKER_ENDED]);
        CHECK(told[i][CF_EVENT_STARTED] <= told[i][CF_EVENT_SUBMITTED]);
        CHECK(told[i][CF_EVENT_FINISHED] == told[i][CF_EVENT_SUBMITTED]);
    }
    acts_left = 0; /* for callbacks of promises that nobody kept */
    for (size_t i = 0; i < all_count; i++) {
        expect_known_ended(&all[i]);
        cf_future_release(all[i].future); /* a promise that nobody kept is cancelled by this */
        CHECK(all[i].called == all[i].added);
    }
}

/* ---- after each schedule ---- */

static void expect_all_settled(void) {
    CHECK(cf__waiting == NULL);
    CHECK(ctl_peek(&cf__graph_lock) == 0 && ctl_peek(&cf__count_lock) == 0);
    for (int i = 0; i < CTL_THREADS; i++) {
        CHECK(selves[i] == NULL && visits[i] == NULL);
    }
}

#define SCENARIO(name) {#name, name}
static const ctl_scenario scenarios[] = {
    SCENARIO(submit_result_close),
    SCENARIO(submit_to_a_parking_worker),
    SCENARIO(two_submitters),
    SCENARIO(second_thread_refused),
    SCENARIO(task_needed_by_an_initializer),
    SCENARIO(two_tasks_meet),
    SCENARIO(all_workers_meet),
    SCENARIO(callback_needs_the_task_in_hand),
    SCENARIO(tombstone_hides_nothing),
    SCENARIO(submit_many_then_close),
    SCENARIO(stats_always_add_up),
    SCENARIO(cancel_against_start_and_wait),
    SCENARIO(callbacks_while_it_settles),
    SCENARIO(callbacks_in_order),
    SCENARIO(release_against_settle),
    SCENARIO(last_reference_of_a_promise),
    SCENARIO(promise_set_against_cancel),
    SCENARIO(wait_for_several),
    SCENARIO(as_completed_delivers_each),
    SCENARIO(as_completed_meets_duplicates),
    SCENARIO(as_completed_closes_early),
    SCENARIO(groups_share_a_future),
    SCENARIO(deadline_against_event),
    SCENARIO(shutdown_with_a_deadline),
    SCENARIO(nested_wait_claims),
    SCENARIO(deque_gives_each_once),
    SCENARIO(deque_owner_against_thief),
    SCENARIO(deque_emptied_by_two),
    SCENARIO(spinner_has_an_empty_deque),
    SCENARIO(child_needs_another_worker),
    SCENARIO(workers_run_for_another_executor),
    SCENARIO(stand_in_runs_the_deepest),
    SCENARIO(cycle_of_two_tasks),
    SCENARIO(cycle_across_executors),
    SCENARIO(cycle_while_a_worker_starts),
    SCENARIO(chain_is_no_cycle),
    SCENARIO(full_queue_blocks),
    SCENARIO(shutdown_while_submitters_block),
    SCENARIO(shutdown_frees_a_submitter),
    SCENARIO(cancel_makes_room),
    SCENARIO(claim_makes_room),
    SCENARIO(late_cancel_hides_nothing),
    SCENARIO(deep_submits_to_a_full_queue),
    SCENARIO(callers_run_what_does_not_fit),
    SCENARIO(shutdown_by_two_threads),
    SCENARIO(submit_against_shutdown),
    SCENARIO(closed_by_its_own_worker),
    SCENARIO(initializer_breaks_the_pool),
    SCENARIO(map_in_a_window),
    SCENARIO(map_array_fills_all),
    SCENARIO(map_array_inside_a_task),
    SCENARIO(chunk_of_a_mapper_without_a_worker),
    SCENARIO(map_item_waits_for_the_mapper),
    SCENARIO(task_deadline_and_cancel),
    SCENARIO(anything_goes),
    {NULL, NULL},
};

int main(int argc, char **argv) {
    return ctl_main(argc, argv, scenarios, expect_all_settled);
}
