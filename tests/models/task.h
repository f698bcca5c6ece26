/* A task of a pool made by hand, which the first of its workers runs: how often it has run, and how
 * often it was recycled. Once that has happened nobody may look at it. */
#ifndef CF_TEST_MODEL_TASK_H
#define CF_TEST_MODEL_TASK_H

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

static inline void one_task(size_t refs)
{
    pool_setup(1, 1);
    task_setup(&task, run, &ran, refs);
    ran = recycled = 0;
}

static void worker(void)
{
    cf__self = &crew[0].runner;
    (void)cf__worker_run(&crew[0], &task);
}

#endif
