/* One worker was handed a task and takes it, the other sleeps, and a second task comes that the
 * first will wait for: the one that takes the first stays busy, so the other must have been woken.
 * Calls cf_executor_submit (cf__announce, cf__free_workers, cf__balance_unlock),
 * cf__worker_receive. */
#include "pool.h"

static cf_future tasks[2];

static int run(cf_task *self, void *arg)
{
    (void)self, (void)arg;
    return 0;
}

static void setup(void)
{
    pool_setup(2, 2);
    cf__lie_down_locked(&pool, &crew[1]);
    cf__store_relaxed(&pool.spinner, (uintptr_t)&tasks[0]);
    cf__store_relaxed(&pool.spinning, (uintptr_t)&crew[0]);
    model_clear(tasks, sizeof tasks);
    task_setup(&tasks[0], run, NULL, 1);
    tasks[1].home = &pool.heap;
    pool.heap.free = &tasks[1];
}

static void spinner(void)
{
    cf__self = &crew[0].runner;
    CHECK(cf__worker_receive(&crew[0]) == &tasks[0]);
}

static void submitter(void) { CHECK(cf_executor_submit(&pool, run, NULL, 0) == &tasks[1]); }

static void teardown(void)
{
    CHECK(cf__load_relaxed(&crew[0].state) == CF__BUSY);
    CHECK(cf__load_relaxed(&crew[1].state) == CF__FREE && pool.waking == 1);
    CHECK(cf__pending(&pool) == 1);
}

MODEL(setup, teardown, {.fn = spinner}, {.fn = submitter})
