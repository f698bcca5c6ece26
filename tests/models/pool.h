/* A pool made by hand: no thread of its own, the model's threads are its workers. */
#ifndef CF_TEST_MODEL_POOL_H
#define CF_TEST_MODEL_POOL_H

#include "model.h"

#define WORKERS 2
#define ROOM 4 /* in the ring */

static cf_executor pool;
static cf__worker crew[WORKERS];
static cf__worker *crew_list[WORKERS];
static cf_future *pool_ring[ROOM];

/* Nobody has anything to do, and all that may be started have been. */
static inline void pool_setup(size_t workers, size_t cpus)
{
    model_clear(&pool, sizeof pool);
    model_clear(crew, sizeof crew);
    pool.workers = crew_list;
    pool.max_workers = pool.started = pool.alive = workers;
    pool.cpus = cpus;
    pool.ring = pool_ring;
    pool.capacity = ROOM;
    pool.heap.whole = &pool;
    pool.heap.options = &pool.options;
    cf__store_relaxed(&pool.crew, workers);
    cf__store_relaxed(&pool.awake, workers);
    for (size_t i = 0; i < workers; i++) {
        crew_list[i] = &crew[i];
        crew[i].executor = &pool;
        crew[i].index = i;
        crew[i].runner.worker = &crew[i];
        crew[i].runner.heap = &pool.heap;
        crew[i].runner.stack_room = SIZE_MAX;
        cf__store_relaxed(&crew[i].state, CF__FREE);
    }
}

/* A task nobody has begun, with so many references. */
static inline void task_setup(cf_future *task, cf_task_fn *fn, void *arg, size_t refs)
{
    model_clear(task, sizeof *task);
    cf__future_init(task);
    task->home = &pool.heap;
    task->cell.call.fn = fn;
    task->cell.data = arg;
    cf__store_relaxed(&task->refs, refs * CF__REF);
}

#endif
