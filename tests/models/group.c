/* Two futures that somebody watches in one set: he takes the first that arrives, then closes the
 * set, whatever is still on its way, and nobody touches it or its nodes any more. Calls cf__set_add
 * (cf__attach), cf__settle (cf__group_deliver), cf__set_next (cf__set_collect, cf__park_until),
 * cf__set_close (cf__detach). */
#include "model.h"

static cf_future futures[2];
static cf__set set;
static cf__member members[2];

static void setup(void)
{
    model_clear(futures, sizeof futures);
    model_clear(members, sizeof members);
    for (size_t i = 0; i < 2; i++) {
        cf__future_init(&futures[i]);
        cf__store_relaxed(&futures[i].word, CF__RUNNING);
    }
}

static void finish(cf_future *future)
{
    future->cell.code = 1;
    cf__complete(future);
}

static void first(void) { finish(&futures[0]); }
static void second(void) { finish(&futures[1]); }

static void watcher(void)
{
    cf__set_init(&set);
    for (size_t i = 0; i < 2; i++) cf__set_add(&set, &members[i], &futures[i], i);
    cf_status status;
    const cf__member *const member = cf__set_next(&set, CF__NEVER, &status);
    CHECK(status == CF_OK && member->waiter.future->cell.code == 1);
    cf__set_close(&set);
    model_bury(&set.group.ready);
    for (size_t i = 0; i < 2; i++) members[i].waiter.next = NULL;
}

static void teardown(void)
{
    for (size_t i = 0; i < 2; i++) CHECK(cf__load_relaxed(&futures[i].word) == CF__DONE);
}

MODEL(setup, teardown, {.fn = first}, {.fn = second}, {.fn = watcher})
