/* One task of a pool, which a worker runs, and its two owners: one waits for it and releases it,
 * the other releases it only. What it returned comes with its end; it is recycled once, by whoever
 * comes last, and nobody touches it afterwards. Calls cf__worker_run (cf__move, cf__execute,
 * cf__settle), cf_future_result (cf__park_until, cf__park_on), cf_future_release
 * (cf__future_recycle). */
#include "task.h"

static void setup(void) { one_task(2); }

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
