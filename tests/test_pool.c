/* The thread pool and the inline executor: workers, their begin and end, the queue, shutdown. */
#ifdef __linux__
#define _GNU_SOURCE 1 /* pthread_getattr_np */
#endif
#include "tasks.h"

#include <sys/resource.h>

static bool is_backend(const char *name) {
    return strncmp(test_backend(), name, strlen(name)) == 0;
}

static void submit_all(cf_executor *ex, cf_task_fn *fn, void *arg, cf_future **futures, size_t n) {
    for (size_t i = 0; i < n; i++) {
        futures[i] = cf_executor_submit(ex, fn, arg, 0);
    }
}

static void await_all(cf_future **futures, size_t n) {
    for (size_t i = 0; i < n; i++) {
        CHECK_STATUS(outcome(futures[i]), CF_OK);
    }
}

static int open_the_gate(cf_task *task, void *arg) {
    (void)task;
    gate_open(arg);
    return 0;
}

/* ---------------------------------------------------------------- workers */

TEST(a_new_pool_has_no_worker_yet) {
    const size_t threads = thread_count();
    cf_executor *ex = pool(4);
    CHECK_EQ(stats_of(ex).workers, 0);
    CHECK_EQ(thread_count(), threads);
    cf_executor_close(ex);
}

TEST(an_idle_worker_is_reused) {
    const size_t threads = thread_count();
    cf_executor *ex = pool(8);
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 2000, start); i++) {
        cf_future *f = cf_executor_submit(ex, task_square, &i, sizeof i);
        CHECK_EQ(stats_of(ex).workers, 1);
        CHECK_EQ(int_of(f), (int)((unsigned)i * (unsigned)i));
        CHECK_EQ(stats_of(ex).idle, 1);
        cf_future_release(f);
    }
    if (threads != 0) {
        CHECK_EQ(thread_count(), threads + 1);
    }
    cf_executor_close(ex);
}

TEST(an_idle_worker_is_reused_by_whoever_saw_the_result_without_waiting) {
    cf_executor *ex = pool(8);
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 300, start); i++) {
        cf_future *f = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
        UNTIL(cf_future_done(f));
        cf_future_release(f);
    }
    CHECK_EQ(stats_of(ex).workers, 1);
    cf_executor_close(ex);
}

TEST(several_idle_workers_are_reused) {
    cf_executor *ex = pool(8);
    gate g = GATE_INIT;
    occupy(ex, 3, &g);
    gate_open(&g);
    UNTIL(stats_of(ex).idle == 3);
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 500, start); i++) {
        cf_future *f[3];
        submit_all(ex, task_nothing, NULL, f, 3);
        await_all(f, 3);
        release_all(f, 3);
        CHECK_EQ(stats_of(ex).workers, 3);
        CHECK_EQ(stats_of(ex).idle, 3);
    }
    cf_executor_close(ex);
}

TEST(a_worker_is_started_when_none_is_idle_and_only_then) {
    cf_executor *ex = pool(3);
    for (size_t round = 0; round < 3; round++) {
        gate g = GATE_INIT;
        cf_future *f[3];
        for (size_t i = 0; i < 3; i++) {
            f[i] = cf_executor_submit(ex, task_block, CF_POINTER(&g));
            CHECK_EQ(stats_of(ex).workers, round == 0 ? i + 1 : 3);
        }
        gate_await_arrivals(&g, 3);
        gate_open(&g);
        await_all(f, 3);
        CHECK_EQ(stats_of(ex).idle, 3);
        release_all(f, 3);
    }
    cf_executor_close(ex);
}

TEST(a_saturated_pool_has_exactly_max_workers) {
    enum { MAX = 4, TASKS = 15 * MAX };
    const size_t threads = thread_count();
    cf_executor *ex = pool(MAX);
    gate g = GATE_INIT;
    cf_future *f[TASKS];
    submit_all(ex, task_block, &g, f, TASKS);
    gate_await_arrivals(&g, MAX);
    CHECK_EQ(stats_of(ex).workers, MAX);
    CHECK_EQ(stats_of(ex).running, MAX);
    CHECK_EQ(stats_of(ex).queued, TASKS - MAX);
    CHECK_EQ(stats_of(ex).idle, 0);
    if (threads != 0) {
        CHECK_EQ(thread_count(), threads + MAX);
    }
    CHECK_EQ(gate_arrivals(&g), MAX);
    gate_open(&g);
    await_all(f, TASKS);
    CHECK_EQ(stats_of(ex).workers, MAX);
    cf_executor_close(ex);
    release_all(f, TASKS);
}

TEST(many_at_once_start_as_many_workers_as_they_need) {
    for (size_t count = 1; count <= 6; count++) {
        cf_executor *ex = pool(4);
        gate g = GATE_INIT;
        cf_future *f[6];
        CHECK_STATUS(cf_executor_submit_many(ex, task_block, &g, count, 0, f), CF_OK);
        CHECK_EQ(stats_of(ex).workers, count < 4 ? count : 4);
        gate_await_arrivals(&g, count < 4 ? count : 4);
        gate_open(&g);
        await_all(f, count);
        cf_executor_close(ex);
        release_all(f, count);
    }
}

static int await_child(cf_task *task, void *arg) {
    gate *g = arg;
    cf_executor *ex = cf_task_executor(task);
    fire(ex, open_the_gate, g);
    gate_await(g); /* not a wait that the library knows: only another worker can end it */
    CHECK_EQ(stats_of(ex).workers, 2);
    return 0;
}

TEST(a_tasks_child_gets_a_worker_of_its_own) {
    cf_executor *ex = pool(2);
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 300, start); i++) {
        gate g = GATE_INIT;
        cf_future *f = cf_executor_submit(ex, await_child, CF_POINTER(&g));
        CHECK_STATUS(outcome(f), CF_OK);
        cf_future_release(f);
        UNTIL(stats_of(ex).idle == 2);
    }
    cf_executor_close(ex);
}

TEST(cancels_that_come_too_late_cost_no_worker) {
    cf_executor *ex = pool(2);
    gate g = GATE_INIT;
    cf_future *f[2];
    f[0] = cf_executor_submit(ex, task_block, CF_POINTER(&g));
    gate_await_arrivals(&g, 1);
    for (int i = 0; i < 10; i++) {
        CHECK(!cf_future_cancel(f[0]));
    }
    f[1] = cf_executor_submit(ex, task_block, CF_POINTER(&g));
    gate_await_arrivals(&g, 2);
    gate_open(&g);
    await_all(f, 2);
    cf_executor_close(ex);
    release_all(f, 2);
}

TEST(the_default_is_cpus_plus_4_but_32_at_most) {
    const size_t cpus = cf_cpu_count();
    const size_t expected = cpus + 4 < 32 ? cpus + 4 : 32;
    for (int how = 0; how < 2; how++) {
        cf_status status = CF_SYSTEM;
        cf_executor *ex = cf_thread_pool_new(how == 0 ? NULL : &(cf_pool_options){0}, &status);
        CHECK_STATUS(status, CF_OK);
        gate g = GATE_INIT;
        cf_future *f[40];
        submit_all(ex, task_block, &g, f, 40);
        gate_await_arrivals(&g, expected);
        CHECK_EQ(stats_of(ex).workers, expected);
        CHECK_EQ(stats_of(ex).queued, 40 - expected);
        gate_open(&g);
        cf_executor_close(ex);
        release_all(f, 40);
    }
}

TEST(a_pool_with_absurdly_many_workers_works_or_is_refused) {
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 8};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        cf_status status = CF_OK;
        cf_executor *ex = cf_thread_pool_new(&(cf_pool_options){.max_workers = sizes[i]}, &status);
        if (ex == NULL) {
            CHECK(status == CF_INVALID || status == CF_NO_MEMORY);
            continue;
        }
        CHECK_STATUS(status, CF_OK);
        cf_future *f = cf_executor_submit(ex, task_square, CF_VALUE(int, 7));
        CHECK_EQ(int_of(f), 49);
        cf_future_release(f);
        cf_executor_close(ex);
    }
}

static int thread_name(cf_task *task, void *arg) {
    (void)arg;
    char name[64] = "";
    FILE *file = fopen("/proc/thread-self/comm", "r");
    if (file != NULL) {
        CHECK(fgets(name, sizeof name, file) != NULL);
        name[strcspn(name, "\n")] = '\0';
        fclose(file);
    }
    return cf_task_return(task, name, sizeof name);
}

static void check_name(const char *prefix, const char *expected) {
    const cf_pool_options options = {.max_workers = 1, .name = prefix};
    cf_executor *ex = pool_with(&options);
    cf_future *f = cf_executor_submit(ex, thread_name, CF_NO_ARG);
    CHECK_STATUS(outcome(f), CF_OK);
    CHECK_STR(cf_future_result(f, 0, NULL), expected);
    cf_future_release(f);
    cf_executor_close(ex);
}

TEST(a_worker_bears_the_pools_name_and_its_number) {
    if (access("/proc/thread-self/comm", R_OK) != 0) {
        SKIP("threads have no names here");
    }
    check_name("swim", "swim_0");
    check_name("100%d", "100%d_0");
    check_name(NULL, "cf_0");
}

TEST(of_a_long_name_the_number_is_kept) {
    if (access("/proc/thread-self/comm", R_OK) != 0) {
        SKIP("threads have no names here");
    }
    check_name("a_name_of_more_than_fifteen_bytes", "a_name_of_mor_0");
}

TEST(the_options_are_copied) {
    char name[8] = "mine";
    cf_pool_options options = {.max_workers = 2,
                               .name = name,
                               .queue_limit = 1,
                               .on_full = CF_FULL_REJECT};
    cf_executor *ex = pool_with(&options);
    memset(name, '#', sizeof name - 1);
    memset(&options, 0x55, sizeof options);
    gate g = GATE_INIT;
    cf_future *f[4];
    submit_all(ex, task_block, &g, f, 4);
    CHECK_STATUS(cf_future_wait(f[3], 0), CF_QUEUE_FULL);
    CHECK_EQ(stats_of(ex).workers, 2);
    gate_open(&g);
    await_all(f, 3);
    if (access("/proc/thread-self/comm", R_OK) == 0) {
        cf_future *named = cf_executor_submit(ex, thread_name, CF_NO_ARG);
        CHECK_STATUS(outcome(named), CF_OK);
        CHECK(strncmp(cf_future_result(named, 0, NULL), "mine_", 5) == 0);
        cf_future_release(named);
    }
    cf_executor_close(ex);
    release_all(f, 4);
}

static int mask_of_signals(cf_task *task, void *arg) {
    (void)arg;
    sigset_t mask;
    sigemptyset(&mask);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    const int blocked = sigismember(&mask, SIGINT) == 1 && sigismember(&mask, SIGTERM) == 1 &&
                        sigismember(&mask, SIGUSR1) == 1 && sigismember(&mask, SIGCHLD) == 1;
    return return_int(task, blocked);
}

TEST(workers_leave_signals_to_the_host_and_the_host_keeps_its_mask) {
    if (!is_backend("posix")) {
        SKIP("no signal masks here");
    }
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    cf_executor *ex = pool(1);
    cf_future *f = cf_executor_submit(ex, mask_of_signals, CF_NO_ARG);
    CHECK_EQ(int_of(f), 1);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    CHECK_EQ(sigismember(&before, SIGINT), sigismember(&after, SIGINT));
    CHECK_EQ(sigismember(&before, SIGUSR1), sigismember(&after, SIGUSR1));
    cf_future_release(f);
    cf_executor_close(ex);
}

/* Sixteen kilobytes a call; the sum keeps the compiler from folding the frames. */
static int use_stack(int depth) {
    volatile char frame[16384];
    for (size_t i = 0; i < sizeof frame; i += 512) {
        frame[i] = (char)depth;
    }
    return depth == 0 ? frame[0] : use_stack(depth - 1) + frame[512];
}

static int use_much_stack(cf_task *task, void *arg) {
    const size_t size = *(const size_t *)arg;
#if defined(__linux__) && !defined(TEST_TSAN) /* which makes stacks larger */
    pthread_attr_t attributes;
    size_t actual = 0;
    CHECK_EQ(pthread_getattr_np(pthread_self(), &attributes), 0);
    CHECK_EQ(pthread_attr_getstacksize(&attributes, &actual), 0);
    CHECK_EQ(pthread_attr_destroy(&attributes), 0);
    CHECK(actual >= size - (64 << 10)); /* some count the guard in */
    CHECK(actual <= size + (1 << 20));
#endif
    return return_int(task, use_stack((int)(size / 16384 / 2)));
}

TEST(workers_have_the_stack_that_was_asked_for) {
    const size_t sizes[] = {2 << 20, 24 << 20};
    for (size_t i = 0; i < 2; i++) {
        const cf_pool_options options = {.max_workers = 1, .stack_size = sizes[i]};
        cf_status status = CF_OK;
        cf_executor *ex = cf_thread_pool_new(&options, &status);
        if (ex == NULL) {
            CHECK_STATUS(status, CF_INVALID);
            CHECK(is_backend("c11"));
            continue;
        }
        cf_future *f = cf_executor_submit(ex, use_much_stack, &sizes[i], sizeof sizes[i]);
        CHECK_STATUS(outcome(f), CF_OK);
        cf_future_release(f);
        cf_executor_close(ex);
    }
}

TEST(an_absurd_stack_size_is_an_error_and_no_hang) {
    const size_t sizes[] = {1, SIZE_MAX, SIZE_MAX / 2};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const cf_pool_options options = {.max_workers = 1, .stack_size = sizes[i]};
        cf_status status = CF_OK;
        cf_executor *ex = cf_thread_pool_new(&options, &status);
        if (ex == NULL) {
            CHECK_STATUS(status, CF_INVALID);
            continue;
        }
        cf_future *f = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
        const cf_status ended = outcome(f);
        CHECK(ended == CF_SYSTEM || (i == 0 && ended == CF_OK));
        CHECK_EQ(stats_of(ex).queued, 0);
        cf_future_release(f);
        cf_executor_close(ex);
    }
}

TEST(options_of_process_pools_are_refused) {
    const cf_pool_options wrong[] = {
        {.start_method = CF_START_SPAWN},
        {.max_tasks_per_child = 1},
        {.break_on_crash = true},
        {.kill_grace = 1},
        {.kill_grace = -1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cf_status status = CF_OK;
        CHECK(cf_thread_pool_new(&wrong[i], &status) == NULL);
        CHECK_STATUS(status, CF_INVALID);
        CHECK(cf_thread_pool_new(&wrong[i], NULL) == NULL);
    }
}

TEST(an_unknown_policy_is_refused) {
    const int policies[] = {-1, CF_FULL_CALLER_RUNS + 1, 99};
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        const cf_pool_options options = {.queue_limit = 1, .on_full = (cf_on_full)policies[i]};
        cf_status status = CF_OK;
        CHECK(cf_thread_pool_new(&options, &status) == NULL);
        CHECK_STATUS(status, CF_INVALID);
    }
}

TEST(a_pool_needs_no_place_for_its_status) {
    cf_executor *ex = cf_thread_pool_new(NULL, NULL);
    CHECK(ex != NULL);
    cf_executor_close(ex);
    ex = cf_inline_executor_new(NULL);
    CHECK(ex != NULL);
    cf_executor_close(ex);
}

TEST(without_memory_there_is_no_executor) {
    if (!test_alloc_hooked()) {
        SKIP("the allocator is not hooked");
    }
    cf_status status = CF_OK;
    test_alloc_fail(1, true);
    CHECK(cf_thread_pool_new(NULL, &status) == NULL);
    CHECK_STATUS(status, CF_NO_MEMORY);
    status = CF_OK;
    CHECK(cf_inline_executor_new(&status) == NULL);
    CHECK_STATUS(status, CF_NO_MEMORY);
    test_alloc_recover();
}

/* No synchronization but an observation: whoever spins for work shows up here. */
TEST(an_idle_pool_uses_no_cpu) {
    cf_executor *ex = pool(3);
    gate g = GATE_INIT;
    cf_future *f[3];
    submit_all(ex, task_block, &g, f, 3);
    gate_await_arrivals(&g, 3);
    gate_open(&g);
    await_all(f, 3);
    sleep_for(20 * CF_MILLISECOND);
    const cf_duration before = cpu_time();
    sleep_for(150 * CF_MILLISECOND);
    CHECK(cpu_time() - before < 30 * CF_MILLISECOND);
    cf_executor_close(ex);
    release_all(f, 3);
}

/* ---------------------------------------------------------------- initializer, finalizer */

typedef struct life {
    atomic_int initialized, finalized, ran;
    int fail_from; /* the initializer's nth call and later ones fail; 0: none */
    gate *in_initializer;
    cf_executor *executor;
} life;

static _Thread_local int initialized_here;

static int begin_life(void *arg) {
    life *l = arg;
    const int n = atomic_fetch_add(&l->initialized, 1) + 1;
    CHECK_EQ(initialized_here, 0);
    initialized_here = n;
    if (l->in_initializer != NULL) {
        gate_arrive(l->in_initializer);
        gate_await(l->in_initializer);
    }
    return l->fail_from != 0 && n >= l->fail_from ? 13 : 0;
}

static void end_life(void *arg) {
    life *l = arg;
    CHECK(initialized_here > 0);
    initialized_here = -1;
    atomic_fetch_add(&l->finalized, 1);
}

static int live(cf_task *task, void *arg) {
    life *l = arg;
    CHECK(initialized_here > 0);
    atomic_fetch_add(&l->ran, 1);
    return return_int(task, initialized_here);
}

static cf_executor *living_pool(size_t workers, life *l) {
    return pool_with(&(cf_pool_options){
        .max_workers = workers, .initializer = begin_life, .finalizer = end_life, .worker_arg = l});
}

TEST(each_worker_is_initialized_before_its_tasks_and_finalized_after) {
    life l = {0};
    cf_executor *ex = living_pool(3, &l);
    CHECK_EQ(atomic_load(&l.initialized), 0);
    gate g = GATE_INIT;
    cf_future *f[3];
    submit_all(ex, task_block, &g, f, 3);
    gate_await_arrivals(&g, 3);
    CHECK_EQ(atomic_load(&l.initialized), 3);
    gate_open(&g);
    await_all(f, 3);
    release_all(f, 3);
    for (int i = 0; i < 50; i++) {
        fire(ex, live, &l);
    }
    CHECK_EQ(atomic_load(&l.finalized), 0);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK_EQ(atomic_load(&l.ran), 50);
    CHECK_EQ(atomic_load(&l.initialized), 3);
    CHECK_EQ(atomic_load(&l.finalized), 3);
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&l.finalized), 3);
}

TEST(a_pool_that_never_ran_initializes_nothing) {
    life l = {0};
    cf_executor_close(living_pool(3, &l));
    CHECK_EQ(atomic_load(&l.initialized), 0);
    CHECK_EQ(atomic_load(&l.finalized), 0);
}

static int no_argument(void *arg) {
    return arg == NULL ? 0 : 1;
}

TEST(without_worker_arg_the_initializer_gets_null) {
    cf_executor *ex = pool_with(&(cf_pool_options){.initializer = no_argument});
    cf_future *f = cf_executor_submit(ex, task_square, CF_VALUE(int, 3));
    CHECK_EQ(int_of(f), 9);
    cf_future_release(f);
    cf_executor_close(ex);
}

static void check_broken(cf_executor *ex) {
    cf_future *f = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK_STATUS(cf_future_wait(f, 0), CF_BROKEN);
    CHECK(!cf_future_cancel(f));
    CHECK(cf_future_error_message(f) != NULL);
    cf_future_release(f);
    const int items[2] = {1, 2};
    cf_future *many[2];
    CHECK_STATUS(cf_executor_submit_many(ex, task_square, items, 2, sizeof(int), many), CF_BROKEN);
    CHECK_STATUS(cf_future_wait(many[0], 0), CF_BROKEN);
    CHECK_STATUS(cf_future_wait(many[1], 0), CF_BROKEN);
    release_all(many, 2);
}

TEST(a_failing_initializer_breaks_the_pool) {
    gate g = GATE_INIT;
    life l = {.fail_from = 1, .in_initializer = &g};
    cf_executor *ex = living_pool(2, &l);
    cf_future *f[10];
    submit_all(ex, live, &l, f, 10);
    gate_await_arrivals(&g, 1);
    gate_open(&g);
    for (int i = 0; i < 10; i++) {
        CHECK_STATUS(outcome(f[i]), CF_BROKEN);
        CHECK_EQ(cf_future_state(f[i]), CF_STATE_FINISHED);
    }
    check_broken(ex);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    check_broken(ex); /* broken comes before shut down */
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&l.ran), 0);
    CHECK_EQ(atomic_load(&l.finalized), 0);
    release_all(f, 10);
}

TEST(a_pool_that_breaks_lets_running_tasks_end) {
    life l = {.fail_from = 2};
    cf_executor *ex = living_pool(2, &l);
    gate g = GATE_INIT;
    cf_future *running = cf_executor_submit(ex, task_block, CF_POINTER(&g));
    gate_await_arrivals(&g, 1);
    cf_future *f[5];
    submit_all(ex, live, &l, f, 5); /* starts the second worker, whose initializer fails */
    for (int i = 0; i < 5; i++) {
        CHECK_STATUS(outcome(f[i]), CF_BROKEN);
    }
    CHECK_EQ(cf_future_state(running), CF_STATE_RUNNING);
    check_broken(ex);
    gate_open(&g);
    CHECK_STATUS(outcome(running), CF_OK);
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&l.ran), 0);
    CHECK_EQ(atomic_load(&l.finalized), 1);
    cf_future_release(running);
    release_all(f, 5);
}

static void *submit_blocked(void *arg) {
    return cf_executor_submit(arg, task_nothing, CF_NO_ARG);
}

TEST(a_pool_that_breaks_wakes_blocked_submitters) {
    gate g = GATE_INIT;
    life l = {.fail_from = 1, .in_initializer = &g};
    cf_executor *ex = pool_with(&(cf_pool_options){
        .max_workers = 1, .initializer = begin_life, .worker_arg = &l, .queue_limit = 1});
    cf_future *first = cf_executor_submit(ex, live, CF_POINTER(&l));
    gate_await_arrivals(&g, 1);
    cf_future *queued = cf_executor_submit(ex, live, CF_POINTER(&l));
    pthread_t thread;
    spawn(&thread, submit_blocked, ex);
    sleep_for(10 * CF_MILLISECOND); /* most likely blocked by now; right either way */
    gate_open(&g);
    void *third = NULL;
    pthread_join(thread, &third);
    CHECK_STATUS(outcome(first), CF_BROKEN);
    CHECK_STATUS(outcome(queued), CF_BROKEN);
    CHECK_STATUS(outcome(third), CF_BROKEN);
    cf_executor_close(ex);
    cf_future_release(first);
    cf_future_release(queued);
    cf_future_release(third);
}

static int submit_from_initializer(void *arg) {
    life *l = arg;
    if (atomic_fetch_add(&l->initialized, 1) == 0) {
        fire(l->executor, task_count, &l->ran);
        cf_stats stats;
        cf_executor_stats(l->executor, &stats);
    }
    return 0;
}

TEST(no_lock_is_held_while_an_initializer_runs) {
    life l = {0};
    cf_executor *ex = pool_with(&(cf_pool_options){.max_workers = 1,
                                                   .initializer = submit_from_initializer,
                                                   .worker_arg = &l});
    l.executor = ex;
    fire(ex, task_count, &l.ran);
    UNTIL(atomic_load(&l.ran) == 2);
    cf_executor_close(ex);
}

static void submit_from_finalizer(void *arg) {
    life *l = arg;
    cf_future *f = cf_executor_submit(l->executor, task_count, CF_POINTER(&l->ran));
    CHECK_STATUS(cf_future_wait(f, 0), CF_SHUTDOWN);
    cf_future_release(f);
    atomic_fetch_add(&l->finalized, 1);
}

TEST(no_lock_is_held_while_a_finalizer_runs) {
    life l = {0};
    cf_executor *ex = pool_with(
        &(cf_pool_options){.max_workers = 1, .finalizer = submit_from_finalizer, .worker_arg = &l});
    l.executor = ex;
    fire(ex, task_count, &l.ran);
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&l.ran), 1);
    CHECK_EQ(atomic_load(&l.finalized), 1);
}

/* ---------------------------------------------------------------- the bounded queue */

static cf_executor *bounded_pool(size_t workers, size_t queue_limit, cf_on_full on_full) {
    return pool_with(
        &(cf_pool_options){.max_workers = workers, .queue_limit = queue_limit, .on_full = on_full});
}

TEST(a_full_queue_rejects) {
    cf_executor *ex = bounded_pool(2, 3, CF_FULL_REJECT);
    gate g = GATE_INIT;
    cf_future *f[8];
    submit_all(ex, task_block, &g, f, 8);
    for (int i = 0; i < 5; i++) {
        CHECK_STATUS(cf_future_wait(f[i], 0), CF_TIMEOUT);
    }
    for (int i = 5; i < 8; i++) {
        CHECK_STATUS(cf_future_wait(f[i], 0), CF_QUEUE_FULL);
        CHECK(!cf_future_cancel(f[i]));
    }
    gate_open(&g);
    await_all(f, 5);
    cf_future *later = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK_STATUS(outcome(later), CF_OK);
    cf_future_release(later);
    cf_executor_close(ex);
    release_all(f, 8);
}

TEST(the_limit_does_not_count_what_an_idle_worker_takes) {
    cf_executor *ex = bounded_pool(1, 1, CF_FULL_REJECT);
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 500, start); i++) {
        cf_future *a = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
        cf_future *b = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
        CHECK_STATUS(outcome(a), CF_OK);
        CHECK_STATUS(outcome(b), CF_OK);
        cf_future_release(a);
        cf_future_release(b);
    }
    cf_executor_close(ex);
}

TEST(a_cancelled_task_leaves_room_in_the_queue) {
    cf_executor *ex = bounded_pool(1, 2, CF_FULL_REJECT);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    cf_future *f[4];
    submit_all(ex, task_nothing, NULL, f, 3);
    CHECK_STATUS(cf_future_wait(f[2], 0), CF_QUEUE_FULL);
    CHECK(cf_future_cancel(f[0]));
    CHECK_EQ(stats_of(ex).queued, 1);
    f[3] = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK_STATUS(cf_future_wait(f[3], 0), CF_TIMEOUT);
    gate_open(&g);
    CHECK_STATUS(outcome(f[1]), CF_OK);
    CHECK_STATUS(outcome(f[3]), CF_OK);
    cf_executor_close(ex);
    release_all(f, 4);
}

typedef struct submitter {
    cf_executor *executor;
    gate *about;
    gate submitted;
    cf_future *future;
} submitter;

static void *submit_and_tell(void *arg) {
    submitter *s = arg;
    gate_arrive(s->about);
    s->future = cf_executor_submit(s->executor, task_square, CF_VALUE(int, 7));
    gate_open(&s->submitted);
    return NULL;
}

enum { SUBMITTERS = 4 };

static void start_submitters(cf_executor *ex, submitter *s, pthread_t *threads, gate *about) {
    for (int i = 0; i < SUBMITTERS; i++) {
        s[i] = (submitter){ex, about, GATE_INIT, NULL};
        spawn(&threads[i], submit_and_tell, &s[i]);
    }
    gate_await_arrivals(about, SUBMITTERS);
    sleep_for(10 * CF_MILLISECOND); /* long enough for a submit that does not block to return */
    for (int i = 0; i < SUBMITTERS; i++) {
        CHECK(!gate_is_open(&s[i].submitted));
    }
}

TEST(a_full_queue_blocks_its_submitters_until_there_is_room) {
    cf_executor *ex = bounded_pool(1, 1, CF_FULL_BLOCK);
    gate g = GATE_INIT;
    gate about = GATE_INIT;
    occupy(ex, 1, &g);
    cf_future *queued = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    submitter s[SUBMITTERS];
    pthread_t threads[SUBMITTERS];
    start_submitters(ex, s, threads, &about);
    gate_open(&g);
    for (int i = 0; i < SUBMITTERS; i++) {
        join(threads[i]);
        CHECK_EQ(int_of(s[i].future), 49);
        cf_future_release(s[i].future);
    }
    CHECK_STATUS(outcome(queued), CF_OK);
    cf_future_release(queued);
    cf_executor_close(ex);
}

TEST(a_cancel_lets_one_blocked_submitter_in) {
    cf_executor *ex = bounded_pool(1, 1, CF_FULL_BLOCK);
    gate g = GATE_INIT;
    gate about = GATE_INIT;
    occupy(ex, 1, &g);
    cf_future *queued = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    submitter s = {ex, &about, GATE_INIT, NULL};
    pthread_t thread;
    spawn(&thread, submit_and_tell, &s);
    gate_await_arrivals(&about, 1);
    sleep_for(10 * CF_MILLISECOND); /* most likely blocked by now; right either way */
    CHECK(cf_future_cancel(queued));
    gate_await(&s.submitted);
    CHECK_EQ(cf_future_state(s.future), CF_STATE_PENDING);
    gate_open(&g);
    join(thread);
    CHECK_EQ(int_of(s.future), 49);
    cf_executor_close(ex);
    cf_future_release(queued);
    cf_future_release(s.future);
}

TEST(shutdown_wakes_blocked_submitters) {
    const cf_shutdown_mode modes[] = {CF_RUN_PENDING, CF_CANCEL_PENDING};
    for (int m = 0; m < 2; m++) {
        cf_executor *ex = bounded_pool(1, 1, CF_FULL_BLOCK);
        gate g = GATE_INIT;
        gate about = GATE_INIT;
        occupy(ex, 1, &g);
        cf_future *queued = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
        submitter s[SUBMITTERS];
        pthread_t threads[SUBMITTERS];
        start_submitters(ex, s, threads, &about);
        CHECK_STATUS(cf_executor_shutdown(ex, 0, modes[m]), CF_TIMEOUT);
        for (int i = 0; i < SUBMITTERS; i++) {
            join(threads[i]);
            CHECK_STATUS(cf_future_wait(s[i].future, 0), CF_SHUTDOWN);
            CHECK(!cf_future_cancel(s[i].future));
            cf_future_release(s[i].future);
        }
        gate_open(&g);
        CHECK_STATUS(outcome(queued), m == 0 ? CF_OK : CF_CANCELLED);
        cf_future_release(queued);
        cf_executor_close(ex);
    }
}

static void open_gate(cf_future *f, void *user) {
    CHECK(cf_future_done(f));
    gate_open(user);
}

typedef struct who {
    size_t worker;
    pthread_t thread;
} who;

static int who_runs(cf_task *task, void *arg) {
    (void)arg;
    const who w = {cf_task_worker(task), pthread_self()};
    return cf_task_return(task, &w, sizeof w);
}

TEST(a_full_queue_makes_the_caller_run_the_task) {
    cf_executor *ex = bounded_pool(2, 1, CF_FULL_CALLER_RUNS);
    gate g = GATE_INIT;
    occupy(ex, 2, &g);
    cf_future *queued = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK_EQ(cf_future_state(queued), CF_STATE_PENDING);
    cf_future *f = cf_executor_submit(ex, who_runs, CF_NO_ARG);
    CHECK_EQ(cf_future_state(f), CF_STATE_FINISHED);
    const who *w = cf_future_result(f, 0, NULL);
    CHECK(w != NULL);
    CHECK_EQ(w->worker, 2);
    CHECK(pthread_equal(w->thread, pthread_self()));
    CHECK_EQ(cf_future_state(queued), CF_STATE_PENDING);
    gate_open(&g);
    CHECK_STATUS(outcome(queued), CF_OK);
    cf_executor_close(ex);
    cf_future_release(queued);
    cf_future_release(f);
}

TEST(of_many_the_caller_runs_those_that_do_not_fit) {
    cf_executor *ex = bounded_pool(1, 2, CF_FULL_CALLER_RUNS);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    cf_future *f[6];
    CHECK_STATUS(cf_executor_submit_many(ex, who_runs, NULL, 6, 0, f), CF_OK);
    int pending = 0;
    for (int i = 0; i < 6; i++) {
        pending += cf_future_state(f[i]) == CF_STATE_PENDING;
    }
    CHECK_EQ(pending, 2);
    gate_open(&g);
    await_all(f, 6);
    int by_caller = 0;
    for (int i = 0; i < 6; i++) {
        const who *w = cf_future_result(f[i], 0, NULL);
        by_caller += pthread_equal(w->thread, pthread_self()) != 0;
    }
    CHECK_EQ(by_caller, 4);
    cf_executor_close(ex);
    release_all(f, 6);
}

/* In a worker: fills the own queue, then submits once more. */
static int overfill(cf_task *task, void *arg) {
    cf_executor *ex = cf_task_executor(task);
    (void)arg;
    cf_future *queued = cf_executor_submit(ex, who_runs, CF_NO_ARG);
    CHECK_EQ(cf_future_state(queued), CF_STATE_PENDING);
    cf_future *here = cf_executor_submit(ex, who_runs, CF_NO_ARG);
    CHECK_EQ(cf_future_state(here), CF_STATE_FINISHED);
    const who *w = cf_future_result(here, 0, NULL);
    CHECK(w != NULL);
    CHECK(pthread_equal(w->thread, pthread_self()));
    CHECK_EQ(w->worker, cf_task_worker(task));
    cf_future_release(here);
    cf_future_release(queued);
    return 0;
}

TEST(a_worker_that_overfills_its_own_queue_runs_the_task_at_once) {
    const cf_on_full policies[] = {CF_FULL_BLOCK, CF_FULL_CALLER_RUNS};
    for (int i = 0; i < 2; i++) {
        cf_executor *ex = bounded_pool(1, 1, policies[i]);
        cf_future *f = cf_executor_submit(ex, overfill, CF_NO_ARG);
        CHECK_STATUS(outcome(f), CF_OK);
        cf_future_release(f);
        cf_executor_close(ex);
    }
}

static void overfill_in_callback(cf_future *f, void *user) {
    cf_executor *ex = user;
    CHECK(cf_future_done(f));
    fire(ex, task_nothing, NULL);
    cf_future *here = cf_executor_submit(ex, who_runs, CF_NO_ARG);
    CHECK_EQ(cf_future_state(here), CF_STATE_FINISHED);
    const who *w = cf_future_result(here, 0, NULL);
    CHECK(w != NULL);
    CHECK(pthread_equal(w->thread, pthread_self()));
    cf_future_release(here);
}

TEST(a_callback_that_overfills_its_workers_queue_runs_the_task_at_once) {
    cf_executor *ex = bounded_pool(1, 1, CF_FULL_BLOCK);
    gate g = GATE_INIT;
    gate called = GATE_INIT;
    cf_future *f = cf_executor_submit(ex, task_block, CF_POINTER(&g));
    CHECK_STATUS(cf_future_add_done_callback(f, overfill_in_callback, ex), CF_OK);
    CHECK_STATUS(cf_future_add_done_callback(f, open_gate, &called), CF_OK);
    gate_open(&g);
    gate_await(&called);
    cf_executor_close(ex);
    cf_future_release(f);
}

static int submit_elsewhere(cf_task *task, void *arg) {
    submitter *s = arg;
    CHECK(cf_task_executor(task) != s->executor);
    submit_and_tell(s);
    return 0;
}

TEST(a_worker_waits_for_room_in_another_pools_queue) {
    cf_executor *ex = pool(1);
    cf_executor *other = bounded_pool(1, 1, CF_FULL_BLOCK);
    gate g = GATE_INIT;
    gate about = GATE_INIT;
    occupy(other, 1, &g);
    fire(other, task_nothing, NULL);
    submitter s = {other, &about, GATE_INIT, NULL};
    cf_future *f = cf_executor_submit(ex, submit_elsewhere, CF_POINTER(&s));
    gate_await_arrivals(&about, 1);
    sleep_for(10 * CF_MILLISECOND); /* most likely blocked by now; right either way */
    gate_open(&g);
    CHECK_STATUS(outcome(f), CF_OK);
    CHECK_EQ(int_of(s.future), 49);
    cf_executor_close(ex);
    cf_executor_close(other);
    cf_future_release(s.future);
    cf_future_release(f);
}

/* ---------------------------------------------------------------- order of start */

typedef struct sequence {
    atomic_int next;
    int started[1000];
} sequence;

typedef struct member {
    sequence *sequence;
    int number;
} member;

static int join_sequence(cf_task *task, void *arg) {
    const member *m = arg;
    (void)task;
    m->sequence->started[atomic_fetch_add(&m->sequence->next, 1)] = m->number;
    return 0;
}

TEST(tasks_start_in_the_order_of_submission) {
    enum { COUNT = 1000, MANY = 50 };
    static sequence seq;
    member members[COUNT];
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    for (int i = 0; i < COUNT; i++) {
        members[i] = (member){&seq, i};
    }
    for (int i = 0; i < COUNT;) {
        if (i % 100 == 0) {
            cf_future *f[MANY];
            CHECK_STATUS(cf_executor_submit_many(ex, join_sequence, &members[i], MANY,
                                                 sizeof members[0], f),
                         CF_OK);
            release_all(f, MANY);
            i += MANY;
        } else {
            cf_future_release(
                cf_executor_submit(ex, join_sequence, &members[i], sizeof members[0]));
            i++;
        }
    }
    gate_open(&g);
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&seq.next), COUNT);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(seq.started[i], i);
    }
}

static void wait_for_nothing(cf_future *f, void *user) {
    CHECK_STATUS(cf_future_wait(f, CF_FOREVER), CF_OK);
    atomic_fetch_add((atomic_int *)user, 1);
}

TEST(the_order_survives_callbacks) {
    enum { COUNT = 1000 };
    static sequence seq;
    atomic_int called = 0;
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    for (int i = 0; i < COUNT; i++) {
        cf_future *f = cf_executor_submit(ex, join_sequence, CF_VALUE(member, &seq, i));
        if (i % 7 < 3) {
            CHECK_STATUS(cf_future_add_done_callback(f, wait_for_nothing, &called), CF_OK);
        }
        cf_future_release(f);
    }
    gate_open(&g);
    cf_executor_close(ex);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(seq.started[i], i);
    }
}

TEST(the_order_survives_cancels_in_the_middle) {
    enum { COUNT = 60 };
    static sequence seq;
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    cf_future *f[COUNT];
    for (int i = 0; i < COUNT; i++) {
        f[i] = cf_executor_submit(ex, join_sequence, CF_VALUE(member, &seq, i));
    }
    for (int i = 0; i < COUNT; i += 3) {
        CHECK(cf_future_cancel(f[i]));
    }
    gate_open(&g);
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&seq.next), COUNT - COUNT / 3);
    for (int i = 0; i + 1 < COUNT - COUNT / 3; i++) {
        CHECK(seq.started[i] < seq.started[i + 1]);
    }
    release_all(f, COUNT);
}

/* ---------------------------------------------------------------- shutdown */

TEST(shutdown_runs_what_is_pending) {
    cf_executor *ex = pool(5);
    cf_future *f[50];
    for (int i = 0; i < 50; i++) {
        f[i] = cf_executor_submit(ex, task_square, &i, sizeof i);
    }
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(*(const int *)cf_future_result(f[i], 0, NULL), i * i);
    }
    cf_executor_close(ex);
    release_all(f, 50);
}

TEST(after_shutdown_the_threads_are_gone) {
    const size_t threads = thread_count();
    cf_executor *ex = pool(5);
    gate g = GATE_INIT;
    occupy(ex, 5, &g);
    gate_open(&g);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    UNTIL(thread_count() == threads);
    cf_executor_close(ex);
}

TEST(shutdown_may_cancel_what_is_pending) {
    enum { RUNNING = 2, PENDING = 48 };
    cf_executor *ex = pool(RUNNING);
    gate g = GATE_INIT;
    atomic_int ran = 0;
    cf_future *running[RUNNING];
    cf_future *pending[PENDING];
    submit_all(ex, task_block, &g, running, RUNNING);
    gate_await_arrivals(&g, RUNNING);
    submit_all(ex, task_count, &ran, pending, PENDING);
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
    for (int i = 0; i < PENDING; i++) {
        CHECK(cf_future_cancelled(pending[i]));
        CHECK_STATUS(cf_future_wait(pending[i], 0), CF_CANCELLED);
    }
    CHECK_EQ(stats_of(ex).cancelled, PENDING);
    CHECK_EQ(stats_of(ex).queued, 0);
    gate_open(&g);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_CANCEL_PENDING), CF_OK);
    await_all(running, RUNNING);
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&ran), 0);
    release_all(running, RUNNING);
    release_all(pending, PENDING);
}

TEST(a_second_shutdown_may_cancel_what_the_first_left_pending) {
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    cf_future *f = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_RUN_PENDING), CF_TIMEOUT);
    CHECK_EQ(cf_future_state(f), CF_STATE_PENDING);
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
    CHECK_EQ(cf_future_state(f), CF_STATE_CANCELLED);
    gate_open(&g);
    cf_executor_close(ex);
    cf_future_release(f);
}

TEST(shutdown_without_waiting_returns_at_once_and_the_work_is_done) {
    cf_executor *ex = pool(2);
    gate g = GATE_INIT;
    cf_future *f[20];
    submit_all(ex, task_block, &g, f, 20);
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_RUN_PENDING), CF_TIMEOUT);
    cf_future *late = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK_STATUS(cf_future_wait(late, 0), CF_SHUTDOWN);
    gate_open(&g);
    await_all(f, 20);
    cf_executor_close(ex);
    cf_future_release(late);
    release_all(f, 20);
}

TEST(a_shutdown_that_runs_out_may_be_asked_again) {
    const cf_duration pause = 20 * CF_MILLISECOND;
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    for (int i = 0; i < 2; i++) {
        const int64_t start = now();
        CHECK_STATUS(cf_executor_shutdown(ex, pause, CF_RUN_PENDING), CF_TIMEOUT);
        CHECK(now() - start >= pause);
        CHECK(now() - start < limit(5));
    }
    gate_open(&g);
    CHECK_STATUS(cf_executor_shutdown(ex, limit(8), CF_RUN_PENDING), CF_OK);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_CANCEL_PENDING), CF_OK);
    cf_executor_close(ex);
}

TEST(absurd_timeouts_of_shutdown_neither_overflow_nor_expire) {
    const cf_duration absurd[] = {INT64_MAX, INT64_MAX - 1, INT64_MIN, -2};
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
        cf_executor *ex = pool(1);
        fire(ex, task_nothing, NULL);
        CHECK_STATUS(cf_executor_shutdown(ex, absurd[i], CF_RUN_PENDING), CF_OK);
        cf_executor_close(ex);
    }
}

typedef struct waiter {
    cf_future *future;
    gate *ready;
    cf_status status;
} waiter;

static void *wait_for_it(void *arg) {
    waiter *w = arg;
    gate_arrive(w->ready);
    w->status = cf_future_wait(w->future, CF_FOREVER);
    return NULL;
}

TEST(a_cancelling_shutdown_wakes_those_that_wait) {
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    gate ready = GATE_INIT;
    occupy(ex, 1, &g);
    waiter w[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        w[i] = (waiter){cf_executor_submit(ex, task_nothing, CF_NO_ARG), &ready, CF_END};
        spawn(&threads[i], wait_for_it, &w[i]);
    }
    gate_await_arrivals(&ready, 4);
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
    for (int i = 0; i < 4; i++) {
        join(threads[i]);
        CHECK_STATUS(w[i].status, CF_CANCELLED);
        cf_future_release(w[i].future);
    }
    gate_open(&g);
    cf_executor_close(ex);
}

TEST(shutdown_of_an_unused_pool_is_immediate) {
    cf_executor *ex = pool(3);
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_RUN_PENDING), CF_OK);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_CANCEL_PENDING), CF_OK);
    cf_executor_close(ex);
}

TEST(null_is_no_executor_to_shut_down_but_may_be_closed) {
    CHECK_STATUS(cf_executor_shutdown(NULL, 0, CF_RUN_PENDING), CF_INVALID);
    CHECK_STATUS(cf_executor_shutdown(NULL, CF_FOREVER, CF_RUN_PENDING), CF_INVALID);
    cf_executor_close(NULL);
}

TEST(a_task_cancelled_at_once_does_not_hold_up_shutdown) {
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 200, start); i++) {
        cf_executor *ex = pool(1);
        cf_future *f = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
        const bool cancelled = cf_future_cancel(f);
        CHECK_STATUS(cf_executor_shutdown(ex, limit(8), CF_RUN_PENDING), CF_OK);
        CHECK_STATUS(cf_future_wait(f, 0), cancelled ? CF_CANCELLED : CF_OK);
        cf_executor_close(ex);
        cf_future_release(f);
    }
}

TEST(a_submit_that_races_with_a_worker_going_idle_is_not_lost) {
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 100, start); i++) {
        cf_executor *ex = pool(2);
        for (int k = 0; k < 5; k++) {
            cf_future *a = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
            cf_future *b = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
            CHECK_STATUS(outcome(b), CF_OK);
            CHECK_STATUS(outcome(a), CF_OK);
            cf_future_release(a);
            cf_future_release(b);
        }
        cf_executor_close(ex);
    }
}

typedef struct closer {
    cf_executor *executor;
    cf_duration timeout;
    cf_shutdown_mode mode;
    cf_status status;
    gate *start;
} closer;

static void *shut_down(void *arg) {
    closer *c = arg;
    gate_await(c->start);
    c->status = cf_executor_shutdown(c->executor, c->timeout, c->mode);
    return NULL;
}

TEST(several_threads_may_shut_down_at_once) {
    const int64_t begin = now();
    for (int round = 0; is_time_for(round, 50, begin); round++) {
        cf_executor *ex = pool(2);
        gate start = GATE_INIT;
        cf_future *f[10];
        submit_all(ex, task_nothing, NULL, f, 10);
        closer c[4];
        pthread_t threads[4];
        for (int i = 0; i < 4; i++) {
            const cf_shutdown_mode mode = i == 3 ? CF_CANCEL_PENDING : CF_RUN_PENDING;
            c[i] = (closer){ex, i % 2 == 0 ? CF_FOREVER : limit(8), mode, CF_SYSTEM, &start};
            spawn(&threads[i], shut_down, &c[i]);
        }
        gate_open(&start);
        for (int i = 0; i < 4; i++) {
            join(threads[i]);
            CHECK_STATUS(c[i].status, CF_OK);
        }
        for (int i = 0; i < 10; i++) {
            const cf_status status = cf_future_wait(f[i], 0);
            CHECK(status == CF_OK || status == CF_CANCELLED);
        }
        cf_executor_close(ex);
        release_all(f, 10);
    }
}

static void *submit_until_shutdown(void *arg) {
    submitter *s = arg;
    for (bool refused = false; !refused;) {
        cf_future *f = cf_executor_submit(s->executor, task_nothing, CF_NO_ARG);
        const cf_status status = outcome(f);
        CHECK(status == CF_OK || status == CF_SHUTDOWN || status == CF_CANCELLED);
        refused = status == CF_SHUTDOWN;
        cf_future_release(f);
        gate_arrive(s->about);
    }
    return NULL;
}

static void race_with_submitters(cf_executor *ex, cf_shutdown_mode mode) {
    gate about = GATE_INIT;
    submitter s[SUBMITTERS];
    pthread_t threads[SUBMITTERS];
    for (int i = 0; i < SUBMITTERS; i++) {
        s[i] = (submitter){ex, &about, GATE_INIT, NULL};
        spawn(&threads[i], submit_until_shutdown, &s[i]);
    }
    gate_await_arrivals(&about, 20);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, mode), CF_OK);
    for (int i = 0; i < SUBMITTERS; i++) {
        join(threads[i]);
    }
    cf_executor_close(ex);
}

TEST(shutdown_may_race_with_submitters) {
    const int64_t start = now();
    for (int round = 0; is_time_for(round, 40, start); round++) {
        race_with_submitters(pool(2), round % 2 == 0 ? CF_RUN_PENDING : CF_CANCEL_PENDING);
    }
}

TEST(shutdown_may_race_with_submitters_to_a_full_queue) {
    const int64_t start = now();
    for (int round = 0; is_time_for(round, 100, start); round++) {
        race_with_submitters(bounded_pool(1, 1, CF_FULL_BLOCK),
                             round % 2 == 0 ? CF_RUN_PENDING : CF_CANCEL_PENDING);
    }
}

typedef struct self_shutdown {
    gate queued;
    cf_duration timeout;
    cf_shutdown_mode mode;
} self_shutdown;

static int shut_down_own_pool(cf_task *task, void *arg) {
    self_shutdown *s = arg;
    gate_await(&s->queued);
    const cf_status status = cf_executor_shutdown(cf_task_executor(task), s->timeout, s->mode);
    CHECK_STATUS(status, s->timeout == 0 ? CF_TIMEOUT : CF_DEADLOCK);
    cf_future *f = cf_executor_submit(cf_task_executor(task), task_nothing, CF_NO_ARG);
    CHECK_STATUS(cf_future_wait(f, 0), CF_SHUTDOWN);
    cf_future_release(f);
    return 0;
}

TEST(shutdown_by_an_own_worker_applies_the_mode_and_does_not_wait) {
    const cf_duration timeouts[] = {0, CF_MILLISECOND, CF_FOREVER};
    for (int i = 0; i < 6; i++) {
        self_shutdown s = {GATE_INIT, timeouts[i / 2],
                           i % 2 == 0 ? CF_RUN_PENDING : CF_CANCEL_PENDING};
        cf_executor *ex = pool(1);
        cf_future *f = cf_executor_submit(ex, shut_down_own_pool, CF_POINTER(&s));
        cf_future *pending = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
        gate_open(&s.queued);
        CHECK_STATUS(outcome(f), CF_OK);
        CHECK_STATUS(outcome(pending), s.mode == CF_RUN_PENDING ? CF_OK : CF_CANCELLED);
        CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
        cf_executor_close(ex);
        cf_future_release(f);
        cf_future_release(pending);
    }
}

static int close_own_pool(cf_task *task, void *arg) {
    (void)arg;
    cf_executor_close(cf_task_executor(task));
    return return_int(task, 11);
}

/* The harness sees to it that the threads leave and that the memory is freed. */
TEST(close_by_an_own_worker_returns_and_the_last_worker_frees_the_pool) {
    static gate gates[3] = {GATE_INIT, GATE_INIT, GATE_INIT};
    for (size_t i = 0; i < 3; i++) {
        cf_executor *ex = pool(i + 1);
        occupy(ex, i, &gates[i]);
        cf_future *f = cf_executor_submit(ex, close_own_pool, CF_NO_ARG);
        CHECK_EQ(int_of(f), 11);
        gate_open(&gates[i]);
        cf_future_release(f);
    }
}

static void close_in_callback(cf_future *f, void *user) {
    CHECK(cf_future_done(f));
    cf_executor_close(user);
}

TEST(close_by_a_callback_returns_wherever_it_runs) {
    static gate gates[2] = {GATE_INIT, GATE_INIT};
    cf_executor *ex = pool(1);
    cf_future *f = cf_executor_submit(ex, task_block, CF_POINTER(&gates[0]));
    CHECK_STATUS(cf_future_add_done_callback(f, close_in_callback, ex), CF_OK);
    gate_open(&gates[0]);
    CHECK_STATUS(outcome(f), CF_OK);
    cf_future_release(f);

    ex = pool(1);
    occupy(ex, 1, &gates[1]);
    f = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK_STATUS(cf_future_add_done_callback(f, close_in_callback, ex), CF_OK);
    CHECK(cf_future_cancel(f));
    CHECK_STATUS(cf_future_wait(f, 0), CF_CANCELLED);
    cf_future_release(f);
    gate_open(&gates[1]);
}

static int shut_down_from_within(cf_task *task, void *arg) {
    (void)arg;
    cf_executor *ex = cf_task_executor(task);
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_RUN_PENDING), CF_TIMEOUT);
    return return_int(task, cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING));
}

TEST(shutdown_by_a_task_in_its_callers_thread_does_not_hang) {
    cf_executor *ex = inline_executor();
    cf_future *f = cf_executor_submit(ex, shut_down_from_within, CF_NO_ARG);
    CHECK_STATUS((cf_status)int_of(f), CF_DEADLOCK);
    cf_future_release(f);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    cf_executor_close(ex);

    ex = bounded_pool(1, 1, CF_FULL_CALLER_RUNS);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    fire(ex, task_nothing, NULL);
    f = cf_executor_submit(ex, shut_down_from_within, CF_NO_ARG);
    CHECK_STATUS((cf_status)int_of(f), CF_DEADLOCK);
    gate_open(&g);
    cf_executor_close(ex);
    cf_future_release(f);
}

static int close_another_pool(cf_task *task, void *arg) {
    (void)task;
    cf_executor_close(arg);
    return 0;
}

TEST(a_worker_may_close_another_pool) {
    cf_executor *ex = pool(1);
    cf_executor *other = pool(2);
    atomic_int ran = 0;
    for (int i = 0; i < 20; i++) {
        fire(other, task_count, &ran);
    }
    cf_future *f = cf_executor_submit(ex, close_another_pool, CF_POINTER(other));
    CHECK_STATUS(outcome(f), CF_OK);
    CHECK_EQ(atomic_load(&ran), 20);
    cf_future_release(f);
    cf_executor_close(ex);
}

typedef struct slow_end {
    atomic_int callbacks, frees;
} slow_end;

static void slow_callback(cf_future *f, void *user) {
    CHECK(cf_future_done(f));
    sleep_for(5 * CF_MILLISECOND);
    atomic_fetch_add(&((slow_end *)user)->callbacks, 1);
}

static void slow_free(void *ptr) {
    sleep_for(5 * CF_MILLISECOND);
    atomic_fetch_add(&((slow_end *)ptr)->frees, 1);
}

static gate begins = GATE_INIT, may_begin = GATE_INIT, in_cancel = GATE_INIT, go_on = GATE_INIT;

static void hold_worker_and_canceller(int id) {
    enum { WORKER_BEGINS = 47, ABOUT_TO_CANCEL = 29 };
    if (id == WORKER_BEGINS) {
        gate_arrive(&begins);
        gate_await(&may_begin);
    } else if (id == ABOUT_TO_CANCEL) {
        gate_arrive(&in_cancel);
        gate_await(&go_on);
    }
}

static void *cancel_in_vain(void *arg) {
    CHECK(!cf_future_cancel(arg));
    return NULL;
}

/* A task that starts just before it is cancelled must not be taken for one that waits no more: then
 * nobody would be started for the next one. */
TEST(a_task_submitted_during_a_late_cancel_gets_a_worker) {
    cf_executor *executor = pool(2);
    gate g = GATE_INIT;
    pthread_t canceller;
    test_point_hook(hold_worker_and_canceller);
    cf_future *running = cf_executor_submit(executor, task_block, &g, 0);
    gate_await_arrivals(&begins, 1);
    spawn(&canceller, cancel_in_vain, running);
    gate_await_arrivals(&in_cancel, 1); /* pending, as it thinks */
    gate_open(&may_begin);
    gate_await_arrivals(&g, 1);
    cf_future *other = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    gate_open(&go_on);
    join(canceller);
    CHECK_STATUS(outcome(other), CF_OK);
    test_point_hook(NULL);
    gate_open(&g);
    CHECK_STATUS(outcome(running), CF_OK);
    cf_future_release(running);
    cf_future_release(other);
    cf_executor_close(executor);
}

static gate queued = GATE_INIT, look_for_workers = GATE_INIT;

static void hold_the_submitter(int id) {
    enum { QUEUED_THE_TASK = 5 };
    if (id == QUEUED_THE_TASK) {
        gate_arrive(&queued);
        gate_await(&look_for_workers);
    }
}

static void *submit_one(void *arg) {
    atomic_int ran = 0;
    cf_future *future = cf_executor_submit(arg, task_count, &ran, 0);
    CHECK_STATUS(cf_future_wait(future, limit(1)), CF_OK);
    CHECK_EQ(atomic_load(&ran), 1);
    cf_future_release(future);
    return NULL;
}

/* Nobody is there to run it, and nobody may be started any more but by the shutdown. */
TEST(a_shutdown_during_the_first_submit_runs_the_task) {
    cf_executor *executor = pool(2);
    pthread_t other;
    test_point_hook(hold_the_submitter);
    spawn(&other, submit_one, executor);
    gate_await_arrivals(&queued, 1);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK_EQ(stats_of(executor).finished, 1);
    gate_open(&look_for_workers);
    join(other);
    test_point_hook(NULL);
    cf_executor_close(executor);
}

static gate has_spun = GATE_INIT, may_receive = GATE_INIT;
static gate sees_work = GATE_INIT, may_search = GATE_INIT;

static void hold_the_one_that_spins(int id) {
    enum { SEES_WORK = 42, HAS_SPUN = 43 };
    if (id == HAS_SPUN) {
        gate_arrive(&has_spun);
        gate_await(&may_receive);
    } else if (id == SEES_WORK) {
        gate_arrive(&sees_work);
        gate_await(&may_search);
    }
}

typedef struct parent {
    gate here, may_submit, has_submitted, may_end;
} parent;

static int task_leaves_a_child_to_others(cf_task *task, void *arg) {
    parent *p = arg;
    gate_arrive(&p->here);
    gate_await(&p->may_submit);
    cf_future *child = cf_executor_submit(cf_task_executor(task), task_nothing, CF_NO_ARG);
    gate_arrive(&p->has_submitted);
    gate_await(&p->may_end);
    CHECK_STATUS(cf_future_wait(child, 0), CF_OK);
    cf_future_release(child);
    return 0;
}

/* It takes what is older first, and has nothing until then. */
TEST(a_worker_that_puts_back_what_it_was_handed_is_idle) {
    if (cf_cpu_count() < 2) {
        SKIP("nobody spins on one CPU");
    }
    cf_executor *executor = pool(2);
    gate g = GATE_INIT;
    parent p = {GATE_INIT, GATE_INIT, GATE_INIT, GATE_INIT};
    cf_future *family = cf_executor_submit(executor, task_leaves_a_child_to_others, &p, 0);
    gate_await_arrivals(&p.here, 1);
    occupy(executor, 1, &g);
    test_point_hook(hold_the_one_that_spins);
    gate_open(&g);
    gate_await_arrivals(&has_spun, 1);
    gate_open(&p.may_submit);
    gate_await_arrivals(&p.has_submitted, 1);
    cf_future *handed = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    gate_open(&may_receive);
    gate_await_arrivals(&sees_work, 1);
    CHECK_EQ(stats_of(executor).idle, 1);
    gate_open(&may_search);
    CHECK_STATUS(outcome(handed), CF_OK);
    test_point_hook(NULL);
    gate_open(&p.may_end);
    CHECK_STATUS(outcome(family), CF_OK);
    cf_future_release(handed);
    cf_future_release(family);
    cf_executor_close(executor);
}

static gate one_in_hand = GATE_INIT, let_it_end = GATE_INIT;

static void hold_what_is_withdrawn(int id) {
    enum { OUT_OF_THE_QUEUE = 52 };
    if (id == OUT_OF_THE_QUEUE) {
        gate_arrive(&one_in_hand);
        gate_await(&let_it_end);
    }
}

static void *cancel_the_rest(void *arg) {
    (void)cf_executor_shutdown(arg, 0, CF_CANCEL_PENDING);
    return NULL;
}

TEST(a_shutdown_waits_for_what_another_is_cancelling) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    pthread_t other;
    occupy(executor, 1, &g);
    cf_future *pending = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    test_point_hook(hold_what_is_withdrawn);
    spawn(&other, cancel_the_rest, executor);
    gate_await_arrivals(&one_in_hand, 1);
    gate_open(&g);
    CHECK_STATUS(cf_executor_shutdown(executor, 50 * CF_MILLISECOND, CF_RUN_PENDING), CF_TIMEOUT);
    gate_open(&let_it_end);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK_STATUS(cf_future_wait(pending, 0), CF_CANCELLED);
    CHECK_EQ(stats_of(executor).queued, 0);
    test_point_hook(NULL);
    join(other);
    cf_future_release(pending);
    cf_executor_close(executor);
}

TEST(when_shutdown_has_returned_nothing_of_the_pool_runs) {
    slow_end s = {0};
    const cf_submit_options options = {.free_arg = slow_free};
    cf_executor *ex = pool(2);
    for (int i = 0; i < 4; i++) {
        cf_future *f = cf_executor_submit_with(ex, task_nothing, CF_POINTER(&s), &options);
        CHECK_STATUS(cf_future_add_done_callback(f, slow_callback, &s), CF_OK);
        cf_future_release(f);
    }
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK_EQ(atomic_load(&s.callbacks), 4);
    CHECK_EQ(atomic_load(&s.frees), 4);
    cf_executor_close(ex);
}

TEST(a_burst_of_tasks_runs_and_its_memory_comes_back) {
    enum { BURST = 50000 };
    cf_executor *ex = pool(2);
    gate g = GATE_INIT;
    atomic_int ran = 0;
    for (int round = 0; round < 2; round++) {
        gate again = GATE_INIT;
        occupy(ex, 2, round == 0 ? &g : &again);
        for (int i = 0; i < BURST; i++) {
            fire(ex, task_count, &ran);
        }
        gate_open(round == 0 ? &g : &again);
        UNTIL(stats_of(ex).idle == 2 && stats_of(ex).queued == 0);
        CHECK_EQ(atomic_load(&ran), (round + 1) * BURST);
    }
    cf_executor_close(ex);
}

TEST(cancelled_tasks_do_not_pile_up) {
    if (!test_alloc_hooked()) {
        SKIP("the allocator is not hooked");
    }
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    size_t blocks = 0;
    for (int i = 0; i < 50000; i++) {
        cf_future *f = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
        CHECK(cf_future_cancel(f));
        cf_future_release(f);
        if (i == 1000) {
            blocks = test_alloc_live();
        }
    }
    CHECK(test_alloc_live() <= blocks + 20);
    gate_open(&g);
    cf_executor_close(ex);
}

TEST(futures_outlive_their_executor) {
    cf_executor *ex = pool(2);
    gate g = GATE_INIT;
    cf_future *ran = cf_executor_submit(ex, task_square, CF_VALUE(int, 7));
    cf_future *failed = cf_executor_submit(ex, task_fail, CF_VALUE(int, 22));
    occupy(ex, 2, &g);
    cf_future *cancelled = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
    gate_open(&g);
    cf_executor_close(ex);
    CHECK_EQ(int_of(ran), 49);
    CHECK_STATUS(cf_future_wait(failed, CF_FOREVER), CF_TASK_FAILED);
    CHECK_STR(cf_future_error_message(failed), "failed with 22");
    CHECK_STATUS(cf_future_wait(cancelled, CF_FOREVER), CF_CANCELLED);
    CHECK(!cf_future_cancel(ran));
    CHECK_STATUS(cf_future_set_result(ran, NULL, 0), CF_INVALID_STATE);
    char text[128];
    CHECK(cf_future_repr(failed, text, sizeof text) > 0);
    cf_future *all[] = {ran, failed, cancelled};
    CHECK_EQ(cf_wait(all, 3, CF_ALL_COMPLETED, 0, NULL), 3);
    cf_future_retain(ran);
    cf_future_release(ran);
    release_all(all, 3);
}

/* ---------------------------------------------------------------- stats */

TEST(stats_count_what_happened) {
    cf_executor *ex = pool_with(
        &(cf_pool_options){.max_workers = 1, .queue_limit = 5, .on_full = CF_FULL_REJECT});
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    cf_future *f[5];
    f[0] = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    f[1] = cf_executor_submit(ex, task_fail, CF_VALUE(int, 3));
    f[2] = cf_executor_submit(ex, task_fail, CF_VALUE(int, 4));
    f[3] = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    f[4] = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    fire(ex, task_nothing, NULL); /* refused, so not counted */
    cf_stats s = stats_of(ex);
    CHECK_EQ(s.submitted, 6);
    CHECK_EQ(s.queued, 5);
    CHECK_EQ(s.running, 1);
    CHECK_EQ(s.workers, 1);
    CHECK_EQ(s.idle, 0);
    CHECK_EQ(s.finished + s.failed + s.cancelled + s.lost + s.restarts, 0);
    CHECK(cf_future_cancel(f[4]));
    CHECK_EQ(stats_of(ex).cancelled, 1);
    CHECK_EQ(stats_of(ex).queued, 4);
    gate_open(&g);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    fire(ex, task_nothing, NULL);
    s = stats_of(ex);
    CHECK_EQ(s.workers + s.idle + s.queued + s.running, 0);
    CHECK_EQ(s.submitted, 6);
    CHECK_EQ(s.finished, 5);
    CHECK_EQ(s.failed, 2);
    CHECK_EQ(s.cancelled, 1);
    CHECK_EQ(s.lost + s.restarts, 0);
    cf_executor_close(ex);
    release_all(f, 5);
}

static int wait_for_stop(cf_task *task, void *arg) {
    (void)arg;
    UNTIL(cf_task_stop_requested(task));
    return 0;
}

TEST(a_chunk_counts_as_one_task) {
    const int items[10] = {0};
    cf_executor *ex = pool(1);
    const cf_map_options options = {.chunksize = 4};
    cf_map_iter *iter = cf_executor_map(ex, task_square, items, 10, sizeof items[0], &options);
    cf_status status = CF_OK;
    while (cf_map_next(iter, &status) != NULL) {
    }
    CHECK_STATUS(status, CF_END);
    cf_map_close(iter);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK_EQ(stats_of(ex).submitted, 3);
    CHECK_EQ(stats_of(ex).finished, 3);
    cf_executor_close(ex);
}

TEST(a_task_past_its_deadline_counts_as_failed) {
    const cf_submit_options options = {.timeout = CF_MILLISECOND};
    cf_executor *ex = pool(1);
    cf_future_release(cf_executor_submit_with(ex, wait_for_stop, CF_NO_ARG, &options));
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK_EQ(stats_of(ex).finished, 1);
    CHECK_EQ(stats_of(ex).failed, 1);
    cf_executor_close(ex);
}

static int submit_ten(cf_task *task, void *arg) {
    cf_executor *ex = cf_task_executor(task);
    (void)arg;
    for (int i = 0; i < 10; i++) {
        fire(ex, task_nothing, NULL);
    }
    CHECK_EQ(stats_of(ex).submitted, 11);
    CHECK_EQ(stats_of(ex).queued, 10);
    CHECK_EQ(stats_of(ex).running, 1);
    CHECK_EQ(stats_of(ex).idle, 0);
    return 0;
}

TEST(what_a_task_submits_counts_too) {
    cf_executor *ex = pool(1);
    cf_future *f = cf_executor_submit(ex, submit_ten, CF_NO_ARG);
    CHECK_STATUS(outcome(f), CF_OK);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK_EQ(stats_of(ex).submitted, 11);
    CHECK_EQ(stats_of(ex).finished, 11);
    cf_executor_close(ex);
    cf_future_release(f);
}

static int running_now(cf_task *task, void *arg) {
    (void)arg;
    return return_int(task, (int)stats_of(cf_task_executor(task)).running);
}

TEST(a_task_run_by_its_caller_counts_too) {
    cf_executor *ex = bounded_pool(1, 1, CF_FULL_CALLER_RUNS);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    fire(ex, task_nothing, NULL);
    cf_future *f = cf_executor_submit(ex, running_now, CF_NO_ARG);
    CHECK_EQ(int_of(f), 2);
    CHECK_EQ(stats_of(ex).submitted, 3);
    CHECK_EQ(stats_of(ex).running, 1);
    CHECK_EQ(stats_of(ex).queued, 1);
    gate_open(&g);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK_EQ(stats_of(ex).finished, 3);
    cf_executor_close(ex);
    cf_future_release(f);
}

static void *watch_stats(void *arg) {
    submitter *s = arg;
    while (!gate_is_open(&s->submitted)) {
        const cf_stats stats = stats_of(s->executor);
        CHECK(stats.workers <= 2);
        CHECK(stats.idle <= stats.workers);
        CHECK(stats.failed <= stats.finished);
        CHECK(stats.finished <= stats.submitted);
    }
    return NULL;
}

TEST(stats_make_sense_at_any_moment) {
    cf_executor *ex = pool(2);
    submitter s = {ex, NULL, GATE_INIT, NULL};
    pthread_t thread;
    spawn(&thread, watch_stats, &s);
    for (int i = 0; i < 3000; i++) {
        cf_future *f = cf_executor_submit(ex, i % 2 == 0 ? task_fail : task_square, &i, sizeof i);
        if (i % 5 == 0) {
            (void)outcome(f);
        }
        cf_future_release(f);
    }
    gate_open(&s.submitted);
    join(thread);
    cf_executor_close(ex);
}

/* ---------------------------------------------------------------- cpu count */

TEST(there_is_a_cpu) {
    CHECK(cf_cpu_count() >= 1);
    CHECK_EQ(cf_cpu_count(), cf_cpu_count());
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    CHECK(online < 1 || cf_cpu_count() <= (size_t)online);
}

TEST(the_cpu_count_obeys_the_affinity_mask) {
    if (!stay_on_one_cpu()) {
        SKIP("no affinity here");
    }
    CHECK_EQ(cf_cpu_count(), 1);
}

/* ---------------------------------------------------------------- inline executor */

TEST(the_inline_executor_runs_the_task_in_submit) {
    const size_t threads = thread_count();
    cf_executor *ex = inline_executor();
    cf_future *f = cf_executor_submit(ex, who_runs, CF_NO_ARG);
    CHECK_EQ(cf_future_state(f), CF_STATE_FINISHED);
    const who *w = cf_future_result(f, 0, NULL);
    CHECK(w != NULL);
    CHECK(pthread_equal(w->thread, pthread_self()));
    CHECK_EQ(thread_count(), threads);
    cf_future_release(f);
    f = cf_executor_submit(ex, task_fail, CF_VALUE(int, 5));
    CHECK_STATUS(cf_future_wait(f, 0), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(f), 5);
    cf_future_release(f);
    const int items[3] = {1, 2, 3};
    cf_future *many[3];
    CHECK_STATUS(cf_executor_submit_many(ex, task_square, items, 3, sizeof(int), many), CF_OK);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(*(const int *)cf_future_result(many[i], 0, NULL), (i + 1) * (i + 1));
    }
    release_all(many, 3);
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_RUN_PENDING), CF_OK);
    CHECK_EQ(stats_of(ex).submitted, 5);
    CHECK_EQ(stats_of(ex).finished, 5);
    CHECK_EQ(stats_of(ex).failed, 1);
    cf_executor_close(ex);
}

static int submit_inline(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n == 0) {
        return return_int(task, 0);
    }
    CHECK(!cf_task_stop_requested(task));
    cf_future *f = cf_executor_submit(cf_task_executor(task), submit_inline, CF_VALUE(int, n - 1));
    const int sum = int_of(f) + n;
    cf_future_release(f);
    return return_int(task, sum);
}

TEST(inline_tasks_may_submit_to_their_executor) {
    cf_executor *ex = inline_executor();
    cf_future *f = cf_executor_submit(ex, submit_inline, CF_VALUE(int, 20));
    CHECK_EQ(int_of(f), 210);
    cf_future_release(f);
    cf_executor_close(ex);
}

TEST(an_inline_task_has_a_deadline_too) {
    const cf_submit_options options = {.timeout = 5 * CF_MILLISECOND};
    cf_executor *ex = inline_executor();
    cf_future *f = cf_executor_submit_with(ex, wait_for_stop, CF_NO_ARG, &options);
    CHECK_STATUS(cf_future_wait(f, 0), CF_TASK_TIMEOUT);
    cf_future_release(f);
    cf_executor_close(ex);
}

TEST(a_shut_inline_executor_refuses) {
    cf_executor *ex = inline_executor();
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_CANCEL_PENDING), CF_OK);
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_RUN_PENDING), CF_OK);
    cf_future *f = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK_STATUS(cf_future_wait(f, 0), CF_SHUTDOWN);
    cf_future_release(f);
    cf_executor_close(ex);
}

static void *use_inline(void *arg) {
    for (int i = 0; i < 500; i++) {
        cf_future *f = cf_executor_submit(arg, task_square, &i, sizeof i);
        CHECK_EQ(int_of(f), i * i);
        cf_future_release(f);
    }
    return NULL;
}

TEST(several_threads_may_use_one_inline_executor) {
    cf_executor *ex = inline_executor();
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        spawn(&threads[i], use_inline, ex);
    }
    for (int i = 0; i < 3; i++) {
        join(threads[i]);
    }
    CHECK_EQ(stats_of(ex).finished, 1500);
    cf_executor_close(ex);
}

/* ---------------------------------------------------------------- errors that nobody reads */

typedef struct unread {
    atomic_int calls;
    int last_code;
    cf_status last_status;
    cf_executor *executor;
} unread;

static void note_unread(cf_future *f, void *user) {
    unread *u = user;
    CHECK(cf_future_done(f));
    u->last_status = cf_future_wait(f, 0);
    u->last_code = cf_future_error_code(f);
    CHECK(cf_future_error_message(f) != NULL);
    atomic_fetch_add(&u->calls, 1);
}

static cf_executor *noting_pool(unread *u) {
    return pool_with(
        &(cf_pool_options){.max_workers = 1, .on_unread_error = note_unread, .user = u});
}

TEST(a_failed_future_dropped_unread_is_reported_once) {
    unread u = {0};
    cf_executor *ex = noting_pool(&u);
    cf_future *f = cf_executor_submit(ex, task_fail, CF_VALUE(int, 22));
    cf_future_retain(f);
    UNTIL(cf_future_done(f));
    cf_future_release(f);
    CHECK_EQ(atomic_load(&u.calls), 0);
    cf_future_release(f);
    UNTIL(atomic_load(&u.calls) == 1);
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&u.calls), 1);
    CHECK_EQ(u.last_code, 22);
    CHECK_STATUS(u.last_status, CF_TASK_FAILED);
}

TEST(a_failed_future_dropped_before_it_ended_is_reported) {
    unread u = {0};
    cf_executor *ex = noting_pool(&u);
    for (int i = 0; i < 10; i++) {
        cf_future_release(cf_executor_submit(ex, task_fail, CF_VALUE(int, 7)));
    }
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&u.calls), 10);
}

enum { READ_WAIT, READ_RESULT, READ_CODE, READ_MESSAGE, READS };

static void read_error(cf_future *f, int how) {
    if (how == READ_WAIT) {
        CHECK_STATUS(cf_future_wait(f, 0), CF_TASK_FAILED);
    } else if (how == READ_RESULT) {
        CHECK(cf_future_result(f, 0, NULL) == NULL);
    } else if (how == READ_CODE) {
        CHECK_EQ(cf_future_error_code(f), 22);
    } else {
        CHECK_STR(cf_future_error_message(f), "failed with 22");
    }
}

TEST(an_error_that_was_looked_at_is_not_reported) {
    unread u = {0};
    cf_executor *ex = noting_pool(&u);
    for (int how = 0; how < READS; how++) {
        cf_future *f = cf_executor_submit(ex, task_fail, CF_VALUE(int, 22));
        UNTIL(cf_future_done(f));
        read_error(f, how);
        cf_future_release(f);
    }
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&u.calls), 0);
}

TEST(to_ask_for_the_state_is_not_to_look_at_the_error) {
    unread u = {0};
    cf_executor *ex = noting_pool(&u);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    cf_future *f = cf_executor_submit(ex, task_fail, CF_VALUE(int, 22));
    CHECK_STATUS(cf_future_wait(f, 0), CF_TIMEOUT);
    CHECK(cf_future_result(f, 0, NULL) == NULL);
    CHECK_EQ(cf_future_error_code(f), 0);
    CHECK_STR(cf_future_error_message(f), "");
    gate_open(&g);
    bool done = false;
    CHECK_EQ(cf_wait(&f, 1, CF_ALL_COMPLETED, CF_FOREVER, &done), 1);
    CHECK(done);
    cf_as_completed_iter *iter = cf_as_completed(&f, 1, CF_FOREVER);
    CHECK(cf_as_completed_next(iter, NULL, NULL) == f);
    cf_as_completed_close(iter);
    char text[128];
    cf_future_repr(f, text, sizeof text);
    CHECK_EQ(cf_future_state(f), CF_STATE_FINISHED);
    CHECK(!cf_future_cancelled(f));
    CHECK_EQ(cf_future_result_size(f), 0);
    cf_future_release(f);
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&u.calls), 1);
}

TEST(success_and_cancel_are_never_reported) {
    unread u = {0};
    cf_executor *ex = noting_pool(&u);
    gate g = GATE_INIT;
    occupy(ex, 1, &g);
    fire(ex, task_nothing, NULL);
    cf_future *f = cf_executor_submit(ex, task_fail, CF_VALUE(int, 1));
    CHECK(cf_future_cancel(f));
    cf_future_release(f);
    cf_future_release(cf_executor_submit(ex, task_fail, CF_VALUE(int, 1)));
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
    gate_open(&g);
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&u.calls), 0);
}

TEST(a_refusal_is_an_error_too) {
    unread u = {0};
    cf_executor *ex = noting_pool(&u);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    fire(ex, task_nothing, NULL);
    CHECK_EQ(atomic_load(&u.calls), 1);
    CHECK_STATUS(u.last_status, CF_SHUTDOWN);
    CHECK_EQ(u.last_code, 0);
    cf_future *f = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK_STATUS(cf_future_wait(f, 0), CF_SHUTDOWN);
    cf_future_release(f);
    CHECK_EQ(atomic_load(&u.calls), 1);
    cf_executor_close(ex);
}

TEST(the_undelivered_errors_of_a_map_are_reported_one_by_one) {
    unread u = {0};
    cf_executor *ex = noting_pool(&u);
    const int items[5] = {1, 2, 3, 4, 5};
    cf_map_iter *iter = cf_executor_map(ex, task_fail, items, 5, sizeof(int), NULL);
    cf_status status = CF_OK;
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_TASK_FAILED);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    cf_map_close(iter);
    CHECK_EQ(atomic_load(&u.calls), 4);
    cf_executor_close(ex);
}

static void submit_when_unread(cf_future *f, void *user) {
    unread *u = user;
    CHECK(cf_future_done(f));
    cf_stats stats;
    cf_executor_stats(u->executor, &stats);
    if (atomic_fetch_add(&u->calls, 1) == 0) {
        cf_future *again = cf_executor_submit(u->executor, task_fail, CF_VALUE(int, 2));
        cf_future_release(again);
    }
}

TEST(no_lock_is_held_while_an_unread_error_is_reported) {
    unread u = {0};
    cf_executor *ex = pool_with(
        &(cf_pool_options){.max_workers = 1, .on_unread_error = submit_when_unread, .user = &u});
    u.executor = ex;
    cf_future_release(cf_executor_submit(ex, task_fail, CF_VALUE(int, 1)));
    UNTIL(atomic_load(&u.calls) == 2);
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&u.calls), 2);
}

typedef struct dropping {
    gate dropped, in_user_code;
    bool fails;
} dropping;

static void block_in_user_code(void *user) {
    dropping *d = user;
    gate_arrive(&d->in_user_code);
    gate_await(&d->in_user_code);
}

static void block_when_unread(cf_future *f, void *user) {
    CHECK(cf_future_done(f));
    block_in_user_code(user);
}

static int end_once_dropped(cf_task *task, void *arg) {
    dropping *d = arg;
    gate_await(&d->dropped);
    return d->fails ? 1 : cf_task_return_owned(task, d, sizeof *d, block_in_user_code);
}

/* The worker that ends a task which nobody holds any more calls the hook, or frees the result: what
 * is submitted meanwhile is for another. */
TEST(a_worker_is_not_free_while_user_code_hears_of_a_dropped_future) {
    for (int fails = 0; fails < 2; fails++) {
        dropping d = {GATE_INIT, GATE_INIT, fails};
        cf_executor *ex = pool_with(&(cf_pool_options){
            .max_workers = 2, .on_unread_error = block_when_unread, .user = &d});
        fire(ex, end_once_dropped, &d);
        gate_open(&d.dropped);
        gate_await_arrivals(&d.in_user_code, 1);
        cf_future *f = cf_executor_submit(ex, task_square, CF_VALUE(int, 3));
        CHECK_EQ(int_of(f), 9);
        cf_future_release(f);
        gate_open(&d.in_user_code);
        cf_executor_close(ex);
    }
}

/* ---------------------------------------------------------------- fork */

static void count_free(void *ptr) {
    atomic_fetch_add((atomic_int *)ptr, 1);
}

typedef struct inherited {
    cf_executor *executor;
    cf_future *ended, *running, *pending;
    cf_as_completed_iter *iter; /* of all three */
} inherited;

/* Once what ended before the fork is delivered, nothing more can come. */
static void use_inherited_iterator(void *arg) {
    const inherited *i = arg;
    cf_status status = CF_OK;
    CHECK_EQ(cf_as_completed_remaining(i->iter), 3);
    CHECK(cf_as_completed_next(i->iter, NULL, &status) == i->ended);
    CHECK(cf_as_completed_next(i->iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_FORKED);
    CHECK_STATUS(cf_as_completed_add(i->iter, i->ended), CF_OK);
    CHECK(cf_as_completed_next(i->iter, NULL, &status) == i->ended);
    CHECK(cf_as_completed_next(i->iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_FORKED);
    cf_as_completed_close(i->iter);
}

static void use_inherited_pool(void *arg) {
    const inherited *i = arg;
    cf_future *f = cf_executor_submit(i->executor, task_nothing, CF_NO_ARG);
    CHECK_STATUS(cf_future_wait(f, CF_FOREVER), CF_FORKED);
    CHECK(!cf_future_cancel(f));
    cf_future_release(f);
    const int items[2] = {1, 2};
    cf_future *many[2] = {NULL, NULL};
    CHECK_STATUS(cf_executor_submit_many(i->executor, task_square, items, 2, sizeof(int), many),
                 CF_FORKED);
    CHECK_STATUS(cf_future_wait(many[0], 0), CF_FORKED);
    CHECK_STATUS(cf_future_wait(many[1], 0), CF_FORKED);
    release_all(many, 2);
    atomic_int freed = 0;
    const cf_submit_options options = {.free_arg = count_free};
    f = cf_executor_submit_with(i->executor, task_count, CF_POINTER(&freed), &options);
    CHECK_STATUS(cf_future_wait(f, 0), CF_FORKED);
    CHECK_EQ(atomic_load(&freed), 1);
    cf_future_release(f);
    cf_future *unfinished[] = {i->running, i->pending};
    for (int k = 0; k < 2; k++) {
        cf_status status = CF_OK;
        CHECK_STATUS(cf_future_wait(unfinished[k], CF_FOREVER), CF_FORKED);
        CHECK(cf_future_result(unfinished[k], CF_FOREVER, &status) == NULL);
        CHECK_STATUS(status, CF_FORKED);
        CHECK(!cf_future_cancel(unfinished[k]));
    }
    CHECK_EQ(cf_wait(unfinished, 2, CF_ALL_COMPLETED, CF_FOREVER, NULL), 0);
    cf_future *all[] = {i->ended, i->running, i->ended, i->pending, i->ended};
    cf_as_completed_iter *iter = cf_as_completed(all, 5, CF_FOREVER);
    cf_status status = CF_OK;
    CHECK_EQ(cf_as_completed_remaining(iter), 3);
    CHECK(cf_as_completed_next(iter, NULL, &status) == i->ended);
    CHECK(cf_as_completed_next(iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_FORKED);
    cf_as_completed_close(iter);
    CHECK_STATUS(cf_future_wait(i->ended, CF_FOREVER), CF_OK);
    CHECK_EQ(*(const int *)cf_future_result(i->ended, 0, NULL), 49);
    CHECK_STATUS(cf_executor_shutdown(i->executor, CF_FOREVER, CF_RUN_PENDING), CF_FORKED);
    cf_executor_close(i->executor);
}

static void close_inherited_pool(void *arg) {
    const inherited *i = arg;
    cf_executor_close(i->executor);
    cf_future_release(i->ended);
    cf_future_release(i->running);
    cf_future_release(i->pending);
}

TEST(in_a_forked_child_an_inherited_pool_is_dead_and_says_so) {
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    inherited i = {ex, NULL, NULL, NULL, NULL};
    i.ended = cf_executor_submit(ex, task_square, CF_VALUE(int, 7));
    CHECK_EQ(int_of(i.ended), 49);
    i.running = cf_executor_submit(ex, task_block, CF_POINTER(&g));
    i.pending = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    gate_await_arrivals(&g, 1);
    i.iter = cf_as_completed((cf_future *[]){i.running, i.ended, i.pending}, 3, CF_FOREVER);
    CHECK_EQ(in_child(use_inherited_iterator, &i), 0);
    CHECK_EQ(in_child(use_inherited_pool, &i), 0);
    CHECK_EQ(in_child(close_inherited_pool, &i), 0);
    gate_open(&g);
    CHECK_STATUS(outcome(i.pending), CF_OK);
    for (size_t left = 3; left-- > 0;) {
        CHECK(cf_as_completed_next(i.iter, NULL, NULL) != NULL);
        CHECK_EQ(cf_as_completed_remaining(i.iter), left);
    }
    cf_as_completed_close(i.iter);
    cf_executor_close(ex);
    cf_future_release(i.ended);
    cf_future_release(i.running);
    cf_future_release(i.pending);
}

#ifndef TEST_TSAN
static void use_new_pool(void *arg) {
    cf_executor_close(arg);
    cf_executor *ex = pool(2);
    cf_future *f = cf_executor_submit(ex, task_square, CF_VALUE(int, 7));
    CHECK_EQ(int_of(f), 49);
    cf_future_release(f);
    cf_executor_close(ex);
}
#endif

TEST(a_forked_child_may_make_pools_of_its_own) {
#ifdef TEST_TSAN
    SKIP("a race detector allows no threads after such a fork");
#else
    cf_executor *ex = pool(2);
    gate g = GATE_INIT;
    occupy(ex, 2, &g);
    CHECK_EQ(in_child(use_new_pool, ex), 0);
    gate_open(&g);
    cf_executor_close(ex);
#endif
}

/* Waits for all it submits: what a thread allocates as the child is forked is lost in there. */
static void *hammer(void *arg) {
    submitter *s = arg;
    while (!gate_is_open(&s->submitted)) {
        cf_future *f[2];
        submit_all(s->executor, task_nothing, NULL, f, 2);
        cf_future_cancel(f[1]);
        (void)cf_future_wait(f[0], CF_FOREVER);
        (void)cf_future_wait(f[1], CF_FOREVER);
        release_all(f, 2);
    }
    return NULL;
}

static void submit_and_close(void *arg) {
    cf_future *f = cf_executor_submit(arg, task_square, CF_VALUE(int, 1));
    CHECK_STATUS(cf_future_wait(f, CF_FOREVER), CF_FORKED);
    cf_future_release(f);
    cf_executor_close(arg);
}

/* Whatever lock another thread holds at the moment of the fork, the child must not wait for it. */
TEST(a_fork_in_the_midst_of_other_threads_calls_does_not_hang_the_child) {
    cf_executor *ex = pool(2);
    submitter s = {ex, NULL, GATE_INIT, NULL};
    pthread_t threads[2];
    fire(ex, task_nothing, NULL);
    spawn(&threads[0], hammer, &s);
    spawn(&threads[1], hammer, &s);
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 30, start); i++) {
        CHECK_EQ(in_child(submit_and_close, ex), 0);
    }
    gate_open(&s.submitted);
    join(threads[0]);
    join(threads[1]);
    cf_executor_close(ex);
}

static void nothing_in_child(void *arg) {
    CHECK(arg == NULL);
}

static int fork_in_task(cf_task *task, void *arg) {
    return return_int(task, in_child(nothing_in_child, arg));
}

TEST(a_task_may_fork) {
    cf_executor *ex = pool(2);
    cf_future *f = cf_executor_submit(ex, fork_in_task, CF_NO_ARG);
    CHECK_EQ(int_of(f), 0);
    cf_future_release(f);
    cf_executor_close(ex);
}

/* ---------------------------------------------------------------- threads that do not start */

/* The limit of threads does not bind root. Before the first thread: setuid stops them all. */
static void become_nobody(void) {
    if (geteuid() == 0 && setuid(65534) != 0) {
        _exit(TEST_EXIT_SKIPPED);
    }
}

/* No further thread can be started from here on; skips the test where that cannot be arranged. */
static void forbid_threads(void) {
    struct rlimit none;
    pthread_t thread;
    if (getrlimit(RLIMIT_NPROC, &none) != 0) {
        _exit(TEST_EXIT_SKIPPED);
    }
    none.rlim_cur = 0;
    if (setrlimit(RLIMIT_NPROC, &none) != 0 ||
        pthread_create(&thread, NULL, test_no_work, NULL) == 0) {
        _exit(TEST_EXIT_SKIPPED);
    }
}

static void allow_threads(void) {
    struct rlimit all;
    CHECK_EQ(getrlimit(RLIMIT_NPROC, &all), 0);
    all.rlim_cur = all.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NPROC, &all), 0);
}

static void submit_without_threads(void *arg) {
    (void)arg;
    become_nobody();
    const size_t blocks = test_alloc_live();
    cf_executor *ex = pool(3);
    forbid_threads();
    const cf_submit_options options = {.free_arg = count_free};
    atomic_int count = 0;
    cf_future *f = cf_executor_submit_with(ex, task_count, CF_POINTER(&count), &options);
    CHECK_STATUS(cf_future_wait(f, 0), CF_SYSTEM);
    CHECK_EQ(atomic_load(&count), 1); /* freed, not run */
    CHECK(!cf_future_cancel(f));
    cf_future_release(f);
    const int items[3] = {1, 2, 3};
    cf_future *many[3];
    CHECK_STATUS(cf_executor_submit_many(ex, task_square, items, 3, sizeof(int), many), CF_SYSTEM);
    for (int i = 0; i < 3; i++) {
        CHECK_STATUS(cf_future_wait(many[i], 0), CF_SYSTEM);
    }
    release_all(many, 3);
    CHECK_EQ(stats_of(ex).workers, 0);
    CHECK_EQ(stats_of(ex).queued, 0);
    CHECK_EQ(stats_of(ex).submitted, 0);
    allow_threads();
    f = cf_executor_submit(ex, task_square, CF_VALUE(int, 7));
    CHECK_EQ(int_of(f), 49);
    cf_future_release(f);
    cf_executor_close(ex);
    CHECK_EQ(test_alloc_live(), blocks);
}

/* In a child, since the change of user cannot be undone. */
static bool ran_in_child(void (*function)(void *)) {
    const int status = in_child(function, NULL);
    if (WIFEXITED(status) && WEXITSTATUS(status) == TEST_EXIT_SKIPPED) {
        return false;
    }
    CHECK_EQ(status, 0);
    return true;
}

TEST(a_pool_that_can_start_no_thread_says_so_and_keeps_nothing_queued) {
    if (!ran_in_child(submit_without_threads)) {
        SKIP("threads cannot be forbidden here");
    }
}

static void submit_with_one_thread(void *arg) {
    (void)arg;
    become_nobody();
    cf_executor *ex = pool(3);
    cf_future *f = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK_STATUS(outcome(f), CF_OK);
    cf_future_release(f);
    forbid_threads();
    gate g = GATE_INIT;
    cf_future *many[10];
    submit_all(ex, task_block, &g, many, 10);
    gate_await_arrivals(&g, 1);
    CHECK_EQ(stats_of(ex).workers, 1);
    CHECK_EQ(stats_of(ex).queued, 9);
    gate_open(&g);
    await_all(many, 10);
    cf_executor_close(ex);
    release_all(many, 10);
}

TEST(a_pool_that_cannot_grow_goes_on_with_fewer_workers) {
    if (!ran_in_child(submit_with_one_thread)) {
        SKIP("threads cannot be forbidden here");
    }
}

/* ---------------------------------------------------------------- the host is left alone */

static void check_errno_kept(cf_executor *ex, cf_future *p) {
    enum { SENTINEL = 1234 };
    errno = SENTINEL;
    cf_future *f = cf_executor_submit(ex, task_square, CF_VALUE(int, 2));
    CHECK_EQ(errno, SENTINEL);
    (void)cf_future_wait(f, CF_FOREVER);
    CHECK_EQ(errno, SENTINEL);
    (void)cf_future_wait(p, 5 * CF_MILLISECOND);
    CHECK_EQ(errno, SENTINEL);
    (void)cf_wait(&p, 1, CF_ALL_COMPLETED, 5 * CF_MILLISECOND, NULL);
    CHECK_EQ(errno, SENTINEL);
    cf_future_release(f);
    CHECK_EQ(errno, SENTINEL);
    (void)cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING);
    CHECK_EQ(errno, SENTINEL);
    f = cf_executor_submit(ex, task_square, CF_VALUE(int, 2));
    CHECK_EQ(errno, SENTINEL);
    cf_future_release(f);
    cf_executor_close(ex);
    CHECK_EQ(errno, SENTINEL);
}

TEST(errno_stays_as_it_was) {
    cf_future *p = promise();
    errno = 77;
    cf_executor *ex = cf_thread_pool_new(NULL, NULL);
    CHECK_EQ(errno, 77);
    (void)cf_cpu_count();
    CHECK_EQ(errno, 77);
    check_errno_kept(ex, p);
    cf_future_release(p);
}

/* ---------------------------------------------------------------- thousands of pools */

/* Bytes in memory; 0: the system does not tell, or what watches keeps memory of its own. */
static size_t resident(void) {
    long pages = 0;
#if !defined(TEST_LSAN) && !defined(TEST_TSAN)
    const char *lane = getenv("CF_TEST_LANE");
    const bool watched =
        lane != NULL && (strcmp(lane, "memcheck") == 0 || strcmp(lane, "helgrind") == 0);
    FILE *file = watched ? NULL : fopen("/proc/self/statm", "r");
    if (file != NULL) {
        if (fscanf(file, "%*d %ld", &pages) != 1) {
            pages = 0;
        }
        fclose(file);
    }
#endif
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void live_and_die(const cf_pool_options *options, bool in_processes) {
    enum { COUNT = 20 };
    cf_future *futures[COUNT];
    cf_executor *executor = in_processes ? test_process_pool(options) : pool_with(options);
    CHECK(executor != NULL);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_square, &i, sizeof i);
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(int_of(futures[i]), i * i);
        cf_future_release(futures[i]);
    }
    cf_executor_close(executor);
}

/* CF_TEST_CYCLES=10000 is the long form. */
static void cycles(bool in_processes, int count) {
    const cf_pool_options options = {.max_workers = 2};
    const int warm_up = count / 4 + 1;
    const size_t threads = thread_count();
    size_t before = resident();
    size_t descriptors = 0;
    count = test_number_of("CF_TEST_CYCLES", count);
    for (int i = 0; i < warm_up + count; i++) {
        if (i == warm_up) {
            before = resident();
            descriptors = descriptor_count();
        }
        live_and_die(&options, in_processes);
    }
    CHECK_EQ(descriptor_count(), descriptors);
    UNTIL(thread_count() <= threads);
    const size_t after = resident();
    if (before != 0 && after > before) {
        fprintf(stderr, "%d cycles: %zu bytes more\n", count, after - before);
        CHECK(after - before < 65536);
    }
}

TEST(thousands_of_pools_leave_no_memory_behind) {
    cycles(false, 400);
}

TEST(many_process_pools_leave_no_memory_behind) {
    const char *lane = getenv("CF_TEST_LANE");
    if (lane != NULL && strcmp(lane, "helgrind") == 0) {
        SKIP("helgrind does not know memory of other processes");
    }
    if (strncmp(test_backend(), "posix", 5) != 0) {
        SKIP("process pools need POSIX");
    }
    cycles(true, 20);
}

TEST_MAIN(
    RUN(a_new_pool_has_no_worker_yet)
    RUN(an_idle_worker_is_reused)
    RUN(an_idle_worker_is_reused_by_whoever_saw_the_result_without_waiting)
    RUN(several_idle_workers_are_reused)
    RUN(a_worker_is_started_when_none_is_idle_and_only_then)
    RUN(a_saturated_pool_has_exactly_max_workers)
    RUN(many_at_once_start_as_many_workers_as_they_need)
    RUN(a_tasks_child_gets_a_worker_of_its_own)
    RUN(cancels_that_come_too_late_cost_no_worker)
    RUN(the_default_is_cpus_plus_4_but_32_at_most)
    RUN(a_pool_with_absurdly_many_workers_works_or_is_refused)
    RUN(a_worker_bears_the_pools_name_and_its_number)
    RUN(of_a_long_name_the_number_is_kept)
    RUN(the_options_are_copied)
    RUN(workers_leave_signals_to_the_host_and_the_host_keeps_its_mask)
    RUN(workers_have_the_stack_that_was_asked_for)
    RUN(an_absurd_stack_size_is_an_error_and_no_hang)
    RUN(options_of_process_pools_are_refused)
    RUN(an_unknown_policy_is_refused)
    RUN(a_pool_needs_no_place_for_its_status)
    RUN(without_memory_there_is_no_executor)
    RUN(an_idle_pool_uses_no_cpu)
    RUN(each_worker_is_initialized_before_its_tasks_and_finalized_after)
    RUN(a_pool_that_never_ran_initializes_nothing)
    RUN(without_worker_arg_the_initializer_gets_null)
    RUN(a_failing_initializer_breaks_the_pool)
    RUN(a_pool_that_breaks_lets_running_tasks_end)
    RUN(a_pool_that_breaks_wakes_blocked_submitters)
    RUN(no_lock_is_held_while_an_initializer_runs)
    RUN(no_lock_is_held_while_a_finalizer_runs)
    RUN(a_full_queue_rejects)
    RUN(the_limit_does_not_count_what_an_idle_worker_takes)
    RUN(a_cancelled_task_leaves_room_in_the_queue)
    RUN(a_full_queue_blocks_its_submitters_until_there_is_room)
    RUN(a_cancel_lets_one_blocked_submitter_in)
    RUN(shutdown_wakes_blocked_submitters)
    RUN(a_full_queue_makes_the_caller_run_the_task)
    RUN(of_many_the_caller_runs_those_that_do_not_fit)
    RUN(a_worker_that_overfills_its_own_queue_runs_the_task_at_once)
    RUN(a_callback_that_overfills_its_workers_queue_runs_the_task_at_once)
    RUN(a_worker_waits_for_room_in_another_pools_queue)
    RUN(tasks_start_in_the_order_of_submission)
    RUN(the_order_survives_callbacks)
    RUN(the_order_survives_cancels_in_the_middle)
    RUN(shutdown_runs_what_is_pending)
    RUN(after_shutdown_the_threads_are_gone)
    RUN(shutdown_may_cancel_what_is_pending)
    RUN(a_second_shutdown_may_cancel_what_the_first_left_pending)
    RUN(shutdown_without_waiting_returns_at_once_and_the_work_is_done)
    RUN(a_shutdown_that_runs_out_may_be_asked_again)
    RUN(absurd_timeouts_of_shutdown_neither_overflow_nor_expire)
    RUN(a_cancelling_shutdown_wakes_those_that_wait)
    RUN(shutdown_of_an_unused_pool_is_immediate)
    RUN(null_is_no_executor_to_shut_down_but_may_be_closed)
    RUN(a_task_cancelled_at_once_does_not_hold_up_shutdown)
    RUN(a_submit_that_races_with_a_worker_going_idle_is_not_lost)
    RUN(several_threads_may_shut_down_at_once)
    RUN(shutdown_may_race_with_submitters)
    RUN(shutdown_may_race_with_submitters_to_a_full_queue)
    RUN(shutdown_by_an_own_worker_applies_the_mode_and_does_not_wait)
    RUN(close_by_an_own_worker_returns_and_the_last_worker_frees_the_pool)
    RUN(close_by_a_callback_returns_wherever_it_runs)
    RUN(shutdown_by_a_task_in_its_callers_thread_does_not_hang)
    RUN(a_worker_may_close_another_pool)
    RUN(a_task_submitted_during_a_late_cancel_gets_a_worker)
    RUN(a_shutdown_during_the_first_submit_runs_the_task)
    RUN(a_worker_that_puts_back_what_it_was_handed_is_idle)
    RUN(a_shutdown_waits_for_what_another_is_cancelling)
    RUN(when_shutdown_has_returned_nothing_of_the_pool_runs)
    RUN(a_burst_of_tasks_runs_and_its_memory_comes_back)
    RUN(cancelled_tasks_do_not_pile_up)
    RUN(futures_outlive_their_executor)
    RUN(stats_count_what_happened)
    RUN(a_chunk_counts_as_one_task)
    RUN(a_task_past_its_deadline_counts_as_failed)
    RUN(what_a_task_submits_counts_too)
    RUN(a_task_run_by_its_caller_counts_too)
    RUN(stats_make_sense_at_any_moment)
    RUN(there_is_a_cpu)
    RUN(the_cpu_count_obeys_the_affinity_mask)
    RUN(the_inline_executor_runs_the_task_in_submit)
    RUN(inline_tasks_may_submit_to_their_executor)
    RUN(an_inline_task_has_a_deadline_too)
    RUN(a_shut_inline_executor_refuses)
    RUN(several_threads_may_use_one_inline_executor)
    RUN(a_failed_future_dropped_unread_is_reported_once)
    RUN(a_failed_future_dropped_before_it_ended_is_reported)
    RUN(an_error_that_was_looked_at_is_not_reported)
    RUN(to_ask_for_the_state_is_not_to_look_at_the_error)
    RUN(success_and_cancel_are_never_reported)
    RUN(a_refusal_is_an_error_too)
    RUN(the_undelivered_errors_of_a_map_are_reported_one_by_one)
    RUN(no_lock_is_held_while_an_unread_error_is_reported)
    RUN(a_worker_is_not_free_while_user_code_hears_of_a_dropped_future)
    RUN(in_a_forked_child_an_inherited_pool_is_dead_and_says_so)
    RUN(a_forked_child_may_make_pools_of_its_own)
    RUN(a_fork_in_the_midst_of_other_threads_calls_does_not_hang_the_child)
    RUN(a_task_may_fork)
    RUN(a_pool_that_can_start_no_thread_says_so_and_keeps_nothing_queued)
    RUN(a_pool_that_cannot_grow_goes_on_with_fewer_workers)
    RUN(errno_stays_as_it_was)
    RUN_WITHIN(600, thousands_of_pools_leave_no_memory_behind)
    RUN_WITHIN(600, many_process_pools_leave_no_memory_behind)
)
