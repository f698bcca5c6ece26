/* One worker spins for work and is about to stop, the other sleeps, and two tasks come that need a
 * worker each, since the first waits for the second: the one that spun gets one of them, whichever
 * and however, and the other must have been woken. Calls cf_executor_submit (cf__hand, cf__announce,
 * cf__free_workers, cf__balance_unlock), cf__worker_receive, cf__worker_search, cf__worker_rest. */
#include "pool.h"

static cf_future tasks[2];
static unsigned taken[2];

static int run(cf_task *self, void *arg)
{
    (void)self, (void)arg;
    return 0;
}

static void setup(void)
{
    pool_setup(2, 2);
    cf__lie_down_locked(&pool, &crew[1]);
    cf__store_relaxed(&pool.spinner, CF__SPINS);
    cf__store_relaxed(&pool.spinning, (uintptr_t)&crew[0]);
    model_clear(tasks, sizeof tasks);
    model_clear(taken, sizeof taken);
    for (size_t i = 0; i < 2; i++) tasks[i].home = &pool.heap;
    tasks[0].cell.data = &tasks[1];
    pool.heap.free = &tasks[0];
}

static void spinner(void)
{
    cf__self = &crew[0].runner;
    cf_future *found = cf__worker_receive(&crew[0]);
    while (found == NULL && (found = cf__worker_search(&crew[0])) == NULL)
        (void)cf__worker_rest(&crew[0]);
    CHECK(found->cell.data == &taken[found - tasks]);
    taken[found - tasks]++;
}

static void submitter(void)
{
    for (size_t i = 0; i < 2; i++)
        CHECK(cf_executor_submit(&pool, run, &taken[i], 0) == &tasks[i]);
}

static void teardown(void)
{
    CHECK(taken[0] + taken[1] == 1);
    CHECK(cf__load_relaxed(&crew[0].state) == CF__BUSY);
    CHECK(cf__load_relaxed(&crew[1].state) == CF__FREE && pool.waking == 1);
    CHECK(cf__pending(&pool) == 1);
}

MODEL(setup, teardown, {.fn = spinner}, {.fn = submitter})
