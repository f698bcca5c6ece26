/* One task of a pool: a worker may start it, somebody cancels it, waits for it and releases it. It
 * runs or is cancelled, never both; it is recycled once, by its owner or by the worker that finds
 * the tombstone, and nobody touches it afterwards. Calls cf__worker_run (cf__move, cf__execute,
 * cf__settle), cf_future_cancel (cf__claim_entry, cf__end_unrun, cf__await_cancelled),
 * cf_future_result (cf__park_until, cf__park_on), cf_future_release (cf__future_recycle). */
#include "task.h"

static unsigned cancelled;

static void setup(void)
{
    one_task(1);
    cancelled = 0;
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
