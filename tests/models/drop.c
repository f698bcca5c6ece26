/* A task whose only owner lets it go at once, while a worker runs it: whoever comes last recycles
 * it, once. Calls cf__worker_run (cf__settle), cf_future_release (DROPPED). */
#include "task.h"

static void setup(void) { one_task(1); }

static void owner(void) { cf_future_release(&task); }

static void teardown(void)
{
    CHECK(ran == 1);
    CHECK(recycled == 1);
}

MODEL(setup, teardown, {.fn = worker}, {.fn = owner})
