/* One worker that finds nothing to do and lies down, while somebody submits, waits, and then closes
 * the pool. Calls cf__worker_loop (cf__worker_search, cf__worker_rest, cf__worker_sleep),
 * cf_executor_submit (cf__submit_fast, cf__announce, cf__balance_unlock), cf__close_door. */
#include "pool.h"

static cf_future task;
static unsigned ran;

static int run(cf_task *self, void *arg)
{
    (void)self;
    ++*(unsigned *)arg;
    return 0;
}

static void setup(void)
{
    pool_setup(1, 1);
    ran = 0;
    model_clear(&task, sizeof task);
    task.home = &pool.heap;
    pool.heap.free = &task;
}

static void worker(void)
{
    cf__self = &crew[0].runner;
    cf_future *found;
    while ((found = cf__worker_search(&crew[0])) == NULL) (void)cf__worker_rest(&crew[0]);
    CHECK(found == &task && found->cell.data == &ran);
}

static void submitter(void) { CHECK(cf_executor_submit(&pool, run, &ran, 0) == &task); }

static void teardown(void) { CHECK(pool.asleep == NULL && pool.waking == 0); }

MODEL(setup, teardown, {.fn = worker}, {.fn = submitter})
