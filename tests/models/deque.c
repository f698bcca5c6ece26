/* The deque of a worker: the owner pushes and pops, two thieves steal; each task goes to one of
 * them. Calls cf__deque_push, cf__deque_pop, cf__deque_steal. */
#include "model.h"

#define TASKS 3

static cf__worker worker;
static cf_future tasks[TASKS];
static unsigned taken[TASKS];

static void setup(void)
{
    model_clear(&worker, sizeof worker);
    model_clear(tasks, sizeof tasks);
    model_clear(taken, sizeof taken);
}

static bool take(const cf_future *task)
{
    if (task == NULL) return false;
    CHECK(task->cell.code == 1); /* what the owner wrote comes with it */
    taken[task - tasks]++;       /* not atomic: to take it twice is a race */
    return true;
}

static void push(size_t i)
{
    tasks[i].cell.code = 1;
    CHECK(cf__deque_push(&worker, &tasks[i]));
}

static void owner(void)
{
    push(0);
    push(1);
    (void)take(cf__deque_pop(&worker));
    push(2);
    (void)take(cf__deque_pop(&worker));
}

static void thief(void) { (void)take(cf__deque_steal(&worker)); }

static void teardown(void)
{
    while (take(cf__deque_pop(&worker))) {}
    for (size_t i = 0; i < TASKS; i++) CHECK(taken[i] == 1);
    CHECK(cf__deque_length(&worker) == 0);
}

MODEL(setup, teardown, {.fn = owner}, {.fn = thief}, {.fn = thief})
