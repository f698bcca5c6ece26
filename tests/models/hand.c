/* The only worker spins for work, then stops and lies down, while a task comes: it gets it, by hand
 * or out of the ring. Calls cf_executor_submit (cf__hand, cf__announce, cf__balance_unlock),
 * cf__worker_receive, cf__worker_search, cf__worker_rest, cf__worker_sleep. */
#include "pool.h"

static cf_future task;

static int run(cf_task *self, void *arg)
{
    (void)self, (void)arg;
    return 0;
}

static void setup(void)
{
    pool_setup(1, 2);
    cf__store_relaxed(&pool.spinner, CF__SPINS);
    cf__store_relaxed(&pool.spinning, (uintptr_t)&crew[0]);
    model_clear(&task, sizeof task);
    task.home = &pool.heap;
    pool.heap.free = &task;
}

static void spinner(void)
{
    cf__self = &crew[0].runner;
    cf_future *found = cf__worker_receive(&crew[0]);
    while (found == NULL && (found = cf__worker_search(&crew[0])) == NULL)
        (void)cf__worker_rest(&crew[0]);
    CHECK(found == &task && found->cell.data == &pool);
}

static void submitter(void) { CHECK(cf_executor_submit(&pool, run, &pool, 0) == &task); }

static void teardown(void)
{
    CHECK(cf__load_relaxed(&crew[0].state) == CF__BUSY);
    CHECK(pool.asleep == NULL && pool.waking == 0 && cf__pending(&pool) == 0);
}

MODEL(setup, teardown, {.fn = spinner}, {.fn = submitter})
