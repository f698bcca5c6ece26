/* The lock: three threads, one inside at a time, nobody left asleep. Calls cf__lock, cf__lock_slow,
 * cf__unlock. */
#include "model.h"

static cf__word door;
static unsigned inside;

static void setup(void) { inside = 0; }

static void visitor(void)
{
    cf__lock(&door);
    inside++;
    cf__unlock(&door);
}

static void teardown(void)
{
    CHECK(inside == 3);
    CHECK(cf__load_relaxed(&door) == 0);
}

MODEL(setup, teardown, {.fn = visitor}, {.fn = visitor}, {.fn = visitor})
