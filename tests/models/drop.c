/* A task whose only owner lets it go at once, while a worker runs it: whoever comes last recycles
 * it, once. Calls cf__worker_run (cf__settle), cf_future_release (DROPPED). */
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
    task_setup(&task, run, &ran, 1);
    ran = recycled = 0;
}

static void worker(void)
{
    cf__self = &crew[0].runner;
    (void)cf__worker_run(&crew[0], &task);
}

static void owner(void) { cf_future_release(&task); }

static void teardown(void)
{
    CHECK(ran == 1);
    CHECK(recycled == 1);
}

MODEL(setup, teardown, {.fn = worker}, {.fn = owner})
