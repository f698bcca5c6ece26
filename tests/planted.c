/* Bugs planted in tasks, on threads of a pool, where a tool is most likely to overlook them. Each
 * lane of run.sh that watches for a kind of error runs its bugs here, one by name, and fails if it
 * reports nothing. Never part of a normal run. */
#include "test.h"

static atomic_uint started;
static int counter;
static void *volatile lost;

/* Both tasks are on different threads before either counts; relaxed, so that nothing orders them. */
static int count_without_lock(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    atomic_fetch_add_explicit(&started, 1, memory_order_relaxed);
    while (atomic_load_explicit(&started, memory_order_relaxed) < 2) {
        test_pause();
    }
    for (int i = 0; i < 1000; i++) {
        counter++;
    }
    return 0;
}

static int lose_memory(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    lost = malloc(100);
    lost = NULL;
    return 0;
}

static int read_freed_memory(cf_task *task, void *arg) {
    (void)arg;
    int *const number = calloc(4, sizeof *number);
    const volatile int *volatile stale = number;
    CHECK(number != NULL);
    free(number);
    const int seen = stale[1];
    return cf_task_return(task, &seen, sizeof seen);
}

static int overflow_an_int(cf_task *task, void *arg) {
    (void)arg;
    volatile int number = INT_MAX;
    number = number + 1;
    const int seen = number;
    return cf_task_return(task, &seen, sizeof seen);
}

static int branch_on_uninitialised_memory(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    int *volatile number = malloc(sizeof *number);
    CHECK(number != NULL);
    const int code = *number == 42 ? 1 : 0;
    free(number);
    return code;
}

static int write_through_null(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    volatile int *volatile nowhere = NULL;
    *nowhere = 1;
    return 0;
}

static int never_return(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    while (atomic_load(&started) < UINT_MAX) {
        test_pause();
    }
    return 0;
}

static void run_twice(cf_task_fn *fn) {
    const cf_pool_options options = {.max_workers = 2};
    cf_executor *pool = cf_thread_pool_new(&options, NULL);
    CHECK(pool != NULL);
    cf_future *a = cf_executor_submit(pool, fn, CF_NO_ARG);
    cf_future *b = cf_executor_submit(pool, fn, CF_NO_ARG);
    cf_future_wait(a, CF_FOREVER);
    cf_future_wait(b, CF_FOREVER);
    cf_future_release(a);
    cf_future_release(b);
    cf_executor_close(pool);
}

TEST(race) {
    run_twice(count_without_lock);
    CHECK(counter > 0);
}

TEST(leak) {
    run_twice(lose_memory);
    CHECK(lost == NULL);
}

TEST(use_after_free) {
    run_twice(read_freed_memory);
}

TEST(overflow) {
    run_twice(overflow_an_int);
}

TEST(uninitialised) {
    run_twice(branch_on_uninitialised_memory);
}

#ifdef CFUTURES_POSIX
/* The report is all that it leaves: the worker's own exit status is its host's affair. */
TEST(worker) {
    cf_executor *pool = cf_process_pool_new(&(cf_pool_options){.max_workers = 1}, NULL);
    CHECK(pool != NULL);
    cf_future *future = cf_executor_submit(pool, branch_on_uninitialised_memory, CF_NO_ARG);
    cf_future_wait(future, CF_FOREVER);
    cf_future_release(future);
    cf_executor_close(pool);
    fprintf(stderr, "what the worker did is for its watcher to say\n");
    _exit(1);
}
#define RUN_WORKER RUN(worker)
#else
#define RUN_WORKER
#endif

TEST(crash) {
    run_twice(write_through_null);
}

TEST(hang) {
    run_twice(never_return);
}

/* The child is in a group of its own, and no signal but SIGKILL ends it before its time. */
TEST(stray) {
    if (fork() == 0) {
        setpgid(0, 0);
        signal(SIGTERM, SIG_IGN);
        alarm(60);
        while (pause() == -1) {
        }
    }
    run_twice(never_return);
}

TEST_MAIN(
    RUN(race)
    RUN(leak)
    RUN(use_after_free)
    RUN(overflow)
    RUN(uninitialised)
    RUN_WORKER
    RUN(crash)
    RUN_WITHIN(2, hang)
    RUN_WITHIN(60, stray)
)
