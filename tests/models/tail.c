/* The lock in the low bits of the ring's tail: three submitters append, each moves the tail with
 * his unlock, and nobody is left asleep. Calls cf__heap_lock, cf__lock_slow,
 * cf__heap_unlock. */
#include "model.h"

static cf__heap heap;
static unsigned ring[3];

static void setup(void)
{
    model_clear(&heap, sizeof heap);
    model_clear(ring, sizeof ring);
}

static void submitter(void)
{
    const uintptr_t tail = cf__heap_lock(&heap);
    CHECK(tail % CF__STEP == 0);
    ring[tail / CF__STEP]++;
    heap.submitted++;
    cf__heap_unlock(&heap, tail + CF__STEP);
}

static void teardown(void)
{
    CHECK(cf__load_relaxed(&heap.tail) == 3 * CF__STEP && heap.submitted == 3);
    for (size_t i = 0; i < 3; i++) CHECK(ring[i] == 1);
}

MODEL(setup, teardown, {.fn = submitter}, {.fn = submitter}, {.fn = submitter})
