/* Tasks and shorthands that several tests share. Include after test.h. */
#ifndef CF_TEST_TASKS_H
#define CF_TEST_TASKS_H

#include "test.h"

#ifdef __linux__
#include <sys/syscall.h>
#endif

/* ---------------------------------------------------------------- tasks */

static inline int task_nothing(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    return 0;
}

static inline int return_int(cf_task *task, int value) {
    return cf_task_return(task, &value, sizeof value);
}

/* int n -> int n * n */
static inline int task_square(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    return return_int(task, n * n);
}

/* int code: fails with it, and says so. */
static inline int task_fail(cf_task *task, void *arg) {
    const int code = *(const int *)arg;
    return cf_task_fail(task, code, "failed with %d", code);
}

/* gate *: arrives, then blocks until the gate is open. */
static inline int task_block(cf_task *task, void *arg) {
    gate *g = arg;
    (void)task;
    gate_arrive(g);
    gate_await(g);
    return 0;
}

/* atomic_int *: counts one more. */
static inline int task_count(cf_task *task, void *arg) {
    atomic_int *count = arg;
    (void)task;
    atomic_fetch_add(count, 1);
    return 0;
}

/* ---------------------------------------------------------------- shorthands */

static inline void sleep_for(cf_duration duration) {
    struct timespec left = {(time_t)(duration / CF_SECOND), (long)(duration % CF_SECOND)};
    while (nanosleep(&left, &left) != 0) {
    }
}

/* What all threads of this process used: unlike now(), it tells slow code from a busy machine. */
static inline int64_t cpu_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline cf_executor *pool_with(const cf_pool_options *options) {
    cf_status status = CF_SYSTEM;
    cf_executor *executor = cf_thread_pool_new(options, &status);
    CHECK_STATUS(status, CF_OK);
    CHECK(executor != NULL);
    return executor;
}

static inline cf_executor *pool(size_t workers) {
    return pool_with(&(cf_pool_options){.max_workers = workers});
}

static inline cf_executor *inline_executor(void) {
    cf_status status = CF_SYSTEM;
    cf_executor *executor = cf_inline_executor_new(&status);
    CHECK_STATUS(status, CF_OK);
    CHECK(executor != NULL);
    return executor;
}

static inline cf_stats stats_of(cf_executor *executor) {
    cf_stats stats;
    cf_executor_stats(executor, &stats);
    return stats;
}

static inline cf_future *promise(void) {
    cf_future *future = cf_future_new();
    CHECK(future != NULL);
    return future;
}

static inline void set_int(cf_future *future, int value) {
    CHECK_STATUS(cf_future_set_result(future, &value, sizeof value), CF_OK);
}

/* Submits and forgets. */
static inline void fire(cf_executor *executor, cf_task_fn *fn, void *arg) {
    cf_future_release(cf_executor_submit(executor, fn, arg, 0));
}

/* Occupies `workers` workers; returns when they stand at the gate. */
static inline void occupy(cf_executor *executor, size_t workers, gate *g) {
    for (size_t i = 0; i < workers; i++) {
        fire(executor, task_block, g);
    }
    gate_await_arrivals(g, workers);
}

/* The int that a future holds, for which a test waits until a hang is certain. */
static inline int int_of(cf_future *future) {
    cf_status status = CF_SYSTEM;
    const int *value = cf_future_result(future, limit(TEST_GATE_LIMIT_S), &status);
    CHECK_STATUS(status, CF_OK);
    CHECK(value != NULL);
    CHECK_EQ(cf_future_result_size(future), sizeof *value);
    return *value;
}

static inline void release_all(cf_future **futures, size_t count) {
    for (size_t i = 0; i < count; i++) {
        cf_future_release(futures[i]);
    }
}

/* The memory of a burst of tasks goes back while the pool lives, whether its futures are released
 * at once or `long_after` its end. The lane must have a view of the library's memory. */
static inline void memory_of_a_burst_goes_back(cf_executor *executor, cf_duration long_after) {
    enum { BURST = 40000 };
    static cf_future *futures[BURST];
    for (int round = 0; round < 2; round++) {
        CHECK_STATUS(cf_executor_submit_many(executor, task_nothing, NULL, BURST, 0, futures),
                     CF_OK);
        (void)cf_wait(futures, BURST, CF_ALL_COMPLETED, CF_FOREVER, NULL);
        const size_t most = test_alloc_live();
        if (round == 1) {
            sleep_for(long_after);
        }
        release_all(futures, BURST);
        UNTIL(test_alloc_live() < most - 80); /* 118 blocks, of which 32 may stay */
    }
}

/* Like cf_future_wait without a limit, but a hang is a failed check. */
static inline cf_status outcome(cf_future *future) {
    const cf_status status = cf_future_wait(future, limit(TEST_GATE_LIMIT_S));
    CHECK(status != CF_TIMEOUT);
    return status;
}

/* On the first of those that this thread, and what it starts from now on, may use. False: they
 * cannot be chosen here. */
static inline bool stay_on_one_cpu(void) {
#ifdef SYS_sched_setaffinity
    unsigned long mask[128] = {0};
    const long got = syscall(SYS_sched_getaffinity, 0L, sizeof mask, mask);
    for (size_t i = 0, seen = 0; got > 0 && i < sizeof mask / sizeof mask[0]; i++) {
        mask[i] = seen != 0 ? 0 : mask[i] & (~mask[i] + 1);
        seen |= mask[i] != 0;
    }
    return got > 0 && syscall(SYS_sched_setaffinity, 0L, sizeof mask, mask) == 0;
#else
    return false;
#endif
}

#endif
