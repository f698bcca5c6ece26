/* One task of a pool, which a worker runs, and its two owners: one waits for it and releases it,
 * the other releases it only. What it returned comes with its end; it is recycled once, by whoever
 * comes last, and nobody touches it afterwards. Calls cf__worker_run (cf__move, cf__execute, cf__settle),
 * cf_future_result (cf__park_until, cf__park_on), cf_future_release (cf__future_recycle). */
#define CF__TEST_FUTURE(future, in_use) recycle(future)
typedef struct cf_future cf_future;
static void recycle(cf_future *future);

#include "pool.h"

static cf_future task;
static unsigned ran, recycled;

static void recycle(cf_future *future)
{
    recycled++;
    model_bury(&future->word);
    model_bury(&future->refs);
}

static int run(cf_task *self, void *arg)
{
    const uintptr_t result[] = {42, 0, 0, 0};
    ++*(unsigned *)arg;
    return cf_task_return(self, result, sizeof result);
}

static void setup(void)
{
    pool_setup(1, 1);
    task_setup(&task, run, &ran, 2);
    ran = recycled = 0;
}

static void worker(void)
{
    cf__self = &crew[0].runner;
    (void)cf__worker_run(&crew[0], &task);
}

static void holder(void) { cf_future_release(&task); }

static void waiter(void)
{
    cf_status status;
    const uintptr_t *const result = cf_future_result(&task, CF_FOREVER, &status);
    CHECK(status == CF_OK && *result == 42);
    cf_future_release(&task);
}

static void teardown(void)
{
    CHECK(ran == 1);
    CHECK(recycled == 1);
}

MODEL(setup, teardown, {.fn = worker}, {.fn = holder}, {.fn = waiter})
