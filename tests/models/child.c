/* A worker inside a long task submits another to its own deque, while the other worker finds
 * nothing to do and lies down: that one must get it. Calls cf_executor_submit (cf__submit_child,
 * cf__deque_push, cf__balance_unlock), cf__worker_search (cf__deque_steal), cf__worker_rest
 * (cf__looks_busy, cf__set_hungry), cf__worker_sleep. */
#include "pool.h"

static cf_future task;
static unsigned ran;

static int run(cf_task *self, void *arg)
{
    (void)self, (void)arg;
    return 0;
}

static void setup(void)
{
    pool_setup(2, 1);
    cf__store_relaxed(&crew[0].state, CF__BUSY);
    model_clear(&task, sizeof task);
    task.home = &pool.heap;
    crew[0].runner.spare = &task;
    crew[0].runner.spares = 1;
}

static void parent(void)
{
    cf__self = &crew[0].runner;
    CHECK(cf_executor_submit(&pool, run, &ran, 0) == &task);
}

static void worker(void)
{
    cf__self = &crew[1].runner;
    cf_future *found;
    while ((found = cf__worker_search(&crew[1])) == NULL) (void)cf__worker_rest(&crew[1]);
    CHECK(found == &task && found->cell.data == &ran);
}

static void teardown(void) { CHECK(pool.asleep == NULL && pool.waking == 0); }

MODEL(setup, teardown, {.fn = parent}, {.fn = worker})
