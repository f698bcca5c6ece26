/* One task of a pool: a worker may start it, somebody cancels it, waits for it and releases it. It
 * runs or is cancelled, never both; it is recycled once, by its owner or by the worker that finds
 * the tombstone, and nobody touches it afterwards. Calls cf__worker_run (cf__move, cf__execute,
 * cf__settle), cf_future_cancel (cf__claim_entry, cf__end_unrun, cf__await_cancelled),
 * cf_future_result (cf__park_until, cf__park_on), cf_future_release (cf__future_recycle). */
#define CF__TEST_FUTURE(future, in_use) recycle(future)
typedef struct cf_future cf_future;
static void recycle(cf_future *future);

#include "pool.h"

static cf_future task;
static unsigned ran, cancelled, recycled;

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
    task_setup(&task, run, &ran, 1);
    ran = cancelled = recycled = 0;
}

static void worker(void)
{
    cf__self = &crew[0].runner;
    (void)cf__worker_run(&crew[0], &task);
}

static void owner(void)
{
    cf_status status;
    const bool done = cf_future_cancel(&task);
    const uintptr_t *const result = cf_future_result(&task, CF_FOREVER, &status);
    CHECK(status == (done ? CF_CANCELLED : CF_OK));
    CHECK(done ? result == NULL : *result == 42);
    cancelled += done;
    cf_future_release(&task);
}

static void teardown(void)
{
    CHECK(ran + cancelled == 1);
    CHECK(recycled == 1);
    CHECK(cf__load_relaxed(&pool.dead) == 0);
}

MODEL(setup, teardown, {.fn = worker}, {.fn = owner})
