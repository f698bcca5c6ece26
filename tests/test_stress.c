/* Random operations from several threads on one to three pools, drawn from a seed: submit in every
 * form, cancel, wait, cf_wait, as_completed, map, callbacks, release, shutdown. Whatever happens,
 *
 *     every future ends exactly once, and each callback is called once;
 *     what did not run was cancelled or refused, what ran ran once;
 *     each free_arg and each free function of a result ran once;
 *     results are those of the arguments;
 *     the pool has finished or cancelled all that it accepted.
 *
 * The seed that the runner prints is also that of the operations: `test_stress 12345` repeats them
 * (the threads interleave anew). CF_TEST_OPS=1000000 makes each test so many operations long. */
#include "test.h"

#include "tasks.h"

enum { POOLS_MAX = 3, ACTORS = 3, SLOTS = 32, SHELF = 16, FILLER_MAX = 160, BATCH = 8 };
enum { OPS_DEFAULT = 40000, FAIL_CODE = 17 };

/* What is known of one submission. */
typedef struct record {
    int n;
    cf_status status;         /* W: the first callback; R: after all pools are closed */
    bool has_free_arg, is_promise;
    atomic_int runs, freed, ends;
    atomic_int callbacks_added, callbacks_called;
} record;

typedef struct driver {
    cf_executor *pools[POOLS_MAX];
    size_t pool_count, shutdown_at; /* operations after which an actor shuts a pool down; 0: none */
    bool bounded;
    record *records;
    size_t capacity;
    atomic_size_t used, owned_made, owned_freed;
    pthread_mutex_t shelf_lock;
    cf_future *shelf[SHELF]; /* futures that several actors use; under shelf_lock */
} driver;

typedef struct slot {
    cf_future *future;
    record *record;
} slot;

typedef struct actor {
    driver *d;
    uint64_t random;
    size_t ops;
    slot slots[SLOTS];
    pthread_t thread;
} actor;

static driver *current; /* the driver of the running test: free functions get no other argument */

static size_t pick(actor *a, size_t count) {
    return (size_t)(test_random(&a->random) % count);
}

static cf_executor *any_pool(actor *a) {
    return a->d->pools[pick(a, a->d->pool_count)];
}

static record *new_record(actor *a) {
    const size_t index = atomic_fetch_add(&a->d->used, 1);
    CHECK(index < a->d->capacity);
    record *r = &a->d->records[index];
    r->n = (int)pick(a, 1000);
    return r;
}

/* ---------------------------------------------------------------- tasks */

typedef enum kind { PLAIN, BUFFER, OWNED, FAILING, NESTED, ACROSS, KINDS } kind;

typedef struct payload {
    record *record;
    driver *d;
    kind kind;
    int n;
    unsigned char filler[FILLER_MAX];
} payload;

static size_t result_size_of(int n) {
    return sizeof n + (size_t)n % 80;
}

static void fill_result(unsigned char *bytes, int n) {
    const int square = n * n;
    memset(bytes, n & 0xff, result_size_of(n));
    memcpy(bytes, &square, sizeof square);
}

static void check_result(const void *result, size_t size, int n) {
    unsigned char expected[sizeof(int) + 80];
    CHECK(result != NULL);
    CHECK_EQ(size, result_size_of(n));
    fill_result(expected, n);
    CHECK(memcmp(result, expected, size) == 0);
}

static void free_owned(void *ptr) {
    atomic_fetch_add(&current->owned_freed, 1);
    free(ptr);
}

static int return_result(cf_task *task, kind how, driver *d, int n) {
    unsigned char bytes[sizeof n + 80];
    if (how == BUFFER) {
        unsigned char *buffer = cf_task_result_buffer(task, result_size_of(n));
        CHECK(buffer != NULL);
        fill_result(buffer, n);
        return 0;
    }
    if (how == OWNED) {
        unsigned char *owned = malloc(result_size_of(n));
        CHECK(owned != NULL);
        atomic_fetch_add(&d->owned_made, 1);
        fill_result(owned, n);
        return cf_task_return_owned(task, owned, result_size_of(n), free_owned);
    }
    fill_result(bytes, n);
    return cf_task_return(task, bytes, result_size_of(n));
}

/* A child, or an item of a map: int n. */
static int task_leaf(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n % 16 == 15) {
        return cf_task_fail(task, FAIL_CODE, "leaf %d", n);
    }
    return return_result(task, n % 2 == 0 ? PLAIN : OWNED, current, n);
}

/* Waits for a child in its own pool or in another one. */
static int run_child(cf_executor *executor, int n) {
    cf_future *child = cf_executor_submit(executor, task_leaf, &n, sizeof n);
    const cf_status status = cf_future_wait(child, CF_FOREVER);
    if (status == CF_OK) {
        check_result(cf_future_result(child, 0, NULL), cf_future_result_size(child), n);
    }
    cf_future_release(child);
    return status == CF_OK ? 0 : FAIL_CODE;
}

static int task_any(cf_task *task, void *arg) {
    const payload *p = arg;
    const int n = p->n;
    atomic_fetch_add(&p->record->runs, 1);
    const size_t size = cf_task_arg_size(task);
    for (size_t i = offsetof(payload, filler); i < size; i++) {
        CHECK_EQ(((const unsigned char *)arg)[i], n & 0xff);
    }
    if (p->kind == FAILING) {
        return cf_task_fail(task, FAIL_CODE, "task %d", n);
    }
    if (p->kind == NESTED || p->kind == ACROSS) {
        cf_executor *there = p->kind == NESTED || p->d->bounded
                                 ? cf_task_executor(task)
                                 : p->d->pools[(size_t)n % p->d->pool_count];
        const int failed = run_child(there, n);
        if (failed != 0) {
            return failed;
        }
    }
    return return_result(task, p->kind, p->d, n);
}

/* ---------------------------------------------------------------- callbacks */

static void check_end(cf_future *future, record *r) {
    const cf_status status = cf_future_wait(future, 0);
    CHECK(cf_future_done(future));
    if (status == CF_OK) {
        check_result(cf_future_result(future, 0, NULL), cf_future_result_size(future), r->n);
    } else {
        CHECK(cf_future_result(future, 0, NULL) == NULL);
    }
    if (status == CF_TASK_FAILED) {
        CHECK_EQ(cf_future_error_code(future), FAIL_CODE);
    }
    if (r->has_free_arg) {
        CHECK_EQ(atomic_load(&r->freed), 1); /* before it can be seen done */
    }
}

static void note_end(cf_future *future, void *user) {
    record *r = user;
    check_end(future, r);
    r->status = cf_future_wait(future, 0);
    CHECK_EQ(atomic_fetch_add(&r->ends, 1), 0);
}

static void note_call(cf_future *future, void *user) {
    record *r = user;
    CHECK(cf_future_done(future));
    atomic_fetch_add(&r->callbacks_called, 1);
}

/* ---------------------------------------------------------------- operations */

static void free_payload(void *ptr) {
    payload *p = ptr;
    atomic_fetch_add(&p->record->freed, 1);
    free(p);
}

static payload draw_payload(actor *a, record *r) {
    payload p = {r, a->d, (kind)pick(a, KINDS), r->n, {0}};
    memset(p.filler, r->n & 0xff, sizeof p.filler);
    return p;
}

static cf_future *submit_any(actor *a, record *r) {
    const payload p = draw_payload(a, r);
    const size_t size = offsetof(payload, filler) + pick(a, FILLER_MAX);
    const size_t form = pick(a, 4);
    if (form == 0) {
        return cf_executor_submit(any_pool(a), task_any, &p, size);
    }
    if (form == 1) {
        const cf_submit_options options = {.timeout = (cf_duration)pick(a, 3) * CF_MICROSECOND};
        return cf_executor_submit_with(any_pool(a), task_any, &p, size, &options);
    }
    payload *owned = malloc(sizeof *owned);
    CHECK(owned != NULL);
    *owned = p;
    r->has_free_arg = true;
    const cf_submit_options options = {.free_arg = free_payload};
    return cf_executor_submit_with(any_pool(a), task_any, owned, 0, &options);
}

static void put(actor *a, cf_future *future, record *r) {
    slot *s = &a->slots[pick(a, SLOTS)];
    CHECK(future != NULL);
    CHECK_STATUS(cf_future_add_done_callback(future, note_end, r), CF_OK);
    if (s->record != NULL && s->record->is_promise) {
        (void)cf_future_cancel(s->future);
    }
    cf_future_release(s->future);
    *s = (slot){future, r};
}

static void op_submit(actor *a) {
    record *r = new_record(a);
    put(a, submit_any(a, r), r);
}

static void op_submit_many(actor *a) {
    payload payloads[BATCH];
    cf_future *futures[BATCH];
    for (size_t i = 0; i < BATCH; i++) {
        payloads[i] = draw_payload(a, new_record(a));
    }
    (void)cf_executor_submit_many(any_pool(a), task_any, payloads, BATCH, sizeof payloads[0],
                                  futures);
    for (size_t i = 0; i < BATCH; i++) {
        put(a, futures[i], payloads[i].record);
    }
}

static void op_promise(actor *a) {
    record *r = new_record(a);
    r->is_promise = true;
    put(a, promise(), r);
}

/* Promises are ended by the actor that made them, so that it can wait for ever. */
static void settle(actor *a, slot *s) {
    if (s->record == NULL || !s->record->is_promise || cf_future_done(s->future)) {
        return;
    }
    unsigned char bytes[sizeof(int) + 80];
    switch (pick(a, 3)) {
    case 0:
        CHECK(cf_future_cancel(s->future));
        return;
    case 1:
        CHECK(cf_future_set_running_or_notify_cancel(s->future));
        CHECK_STATUS(cf_future_set_error(s->future, FAIL_CODE, "broken promise"), CF_OK);
        return;
    default:
        fill_result(bytes, s->record->n);
        CHECK_STATUS(cf_future_set_result(s->future, bytes, result_size_of(s->record->n)), CF_OK);
    }
}

static void op_cancel(actor *a) {
    const slot *s = &a->slots[pick(a, SLOTS)];
    if (s->future == NULL) {
        return;
    }
    const bool cancelled = cf_future_cancel(s->future);
    CHECK(!cancelled || cf_future_cancelled(s->future));
    if (cancelled && s->record->has_free_arg) {
        CHECK_EQ(atomic_load(&s->record->freed), 1);
    }
}

/* A random timeout; for ever only if the promises among the slots have been settled. */
static cf_duration draw_timeout(actor *a, slot *slots, size_t count) {
    const size_t choice = pick(a, 3);
    if (choice < 2) {
        return choice == 0 ? 0 : (cf_duration)pick(a, 100) * CF_MICROSECOND;
    }
    for (size_t i = 0; i < count; i++) {
        settle(a, &slots[i]);
    }
    return CF_FOREVER;
}

static void op_result(actor *a) {
    slot *s = &a->slots[pick(a, SLOTS)];
    if (s->future == NULL) {
        return;
    }
    const cf_duration timeout = draw_timeout(a, s, 1);
    cf_status status = CF_SYSTEM;
    const void *result = cf_future_result(s->future, timeout, &status);
    CHECK((result != NULL) == (status == CF_OK));
    CHECK(status != CF_TIMEOUT || timeout >= 0);
    if (status != CF_TIMEOUT) {
        check_end(s->future, s->record);
    }
}

/* Some neighbouring slots, with holes and now and then a duplicate. */
static size_t draw_futures(actor *a, cf_future **futures, slot **first) {
    const size_t count = 1 + pick(a, BATCH - 1);
    *first = &a->slots[pick(a, SLOTS - BATCH)];
    for (size_t i = 0; i < count; i++) {
        futures[i] = (*first)[i].future;
    }
    if (pick(a, 4) == 0) {
        futures[count - 1] = futures[0];
    }
    return count;
}

static void op_wait(actor *a) {
    cf_future *futures[BATCH];
    bool done[BATCH];
    slot *first;
    const size_t count = draw_futures(a, futures, &first);
    const cf_duration timeout = draw_timeout(a, first, count);
    const cf_return_when when = (cf_return_when)pick(a, 3);
    const size_t ended = cf_wait(futures, count, when, timeout, done);
    size_t flags = 0, distinct = 0;
    for (size_t i = 0; i < count; i++) {
        const bool duplicate = i > 0 && i == count - 1 && futures[i] == futures[0];
        if (futures[i] == NULL || duplicate) {
            continue;
        }
        distinct++;
        flags += done[i];
        CHECK(!done[i] || cf_future_done(futures[i]));
    }
    CHECK_EQ(ended, flags);
    CHECK(timeout >= 0 || when != CF_ALL_COMPLETED || ended == distinct);
    CHECK(timeout >= 0 || distinct == 0 || ended > 0);
}

static void op_as_completed(actor *a) {
    cf_future *futures[BATCH];
    slot *first;
    const size_t count = draw_futures(a, futures, &first);
    const cf_duration timeout = draw_timeout(a, first, count);
    cf_as_completed_iter *iter = cf_as_completed(futures, count, timeout);
    CHECK(iter != NULL);
    const size_t most = pick(a, 2 * BATCH);
    const bool adds = pick(a, 3) == 0;
    size_t remaining = cf_as_completed_remaining(iter);
    for (size_t i = 0; i < most; i++) {
        size_t index = SIZE_MAX;
        cf_status status = CF_SYSTEM;
        cf_future *next = cf_as_completed_next(iter, &index, &status);
        if (next == NULL) {
            CHECK(status == CF_END ? remaining == 0 : status == CF_TIMEOUT && timeout >= 0);
            break;
        }
        CHECK_EQ(cf_as_completed_remaining(iter), --remaining);
        CHECK(cf_future_done(next));
        CHECK(index >= count || futures[index] == next);
        if (adds && i == 0) {
            slot *added = &a->slots[SLOTS - 1];
            settle(a, added);
            CHECK_STATUS(cf_as_completed_add(iter, added->future), CF_OK);
            remaining = cf_as_completed_remaining(iter);
        }
    }
    cf_as_completed_close(iter);
}

static void op_callback(actor *a) {
    const slot *s = &a->slots[pick(a, SLOTS)];
    if (s->future != NULL) {
        atomic_fetch_add(&s->record->callbacks_added, 1);
        CHECK_STATUS(cf_future_add_done_callback(s->future, note_call, s->record), CF_OK);
    }
}

static void op_release(actor *a) {
    slot *s = &a->slots[pick(a, SLOTS)];
    settle(a, s);
    cf_future_release(s->future);
    *s = (slot){NULL, NULL};
}

static cf_map_options draw_map_options(actor *a) {
    return (cf_map_options){.chunksize = pick(a, 5),
                            .buffersize = pick(a, 6),
                            .unordered = pick(a, 2) == 0,
                            .stop_on_error = pick(a, 4) == 0,
                            .timeout = pick(a, 4) == 0 ? 50 * CF_MICROSECOND : 0};
}

static bool refuses(cf_status status) {
    return status == CF_SHUTDOWN || status == CF_QUEUE_FULL || status == CF_CANCELLED;
}

static void op_map(actor *a) {
    enum { COUNT = 12 };
    int items[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        items[i] = (int)pick(a, 1000);
    }
    const cf_map_options options = draw_map_options(a);
    cf_map_iter *iter =
        cf_executor_map(any_pool(a), task_leaf, items, COUNT, sizeof items[0], &options);
    CHECK(iter != NULL);
    const size_t most = pick(a, COUNT + 3);
    bool seen[COUNT] = {false};
    for (size_t i = 0; i < most; i++) {
        cf_status status = CF_SYSTEM;
        const void *result = cf_map_next(iter, &status);
        if (status == CF_END) {
            CHECK(i == COUNT || options.stop_on_error || options.timeout != 0);
            break;
        }
        if (status == CF_TIMEOUT) {
            CHECK(options.timeout != 0);
            continue;
        }
        const size_t index = cf_map_index(iter);
        CHECK(index < COUNT && !seen[index] && (options.unordered || index == i));
        seen[index] = true;
        if (status == CF_OK) {
            check_result(result, cf_map_result_size(iter), items[index]);
        } else {
            CHECK(refuses(status) || (status == CF_TASK_FAILED && items[index] % 16 == 15));
        }
    }
    cf_map_close(iter);
}

static void op_map_array(actor *a) {
    enum { COUNT = 12, ROOM = sizeof(int) + 80 };
    int items[COUNT];
    unsigned char results[COUNT][ROOM];
    for (size_t i = 0; i < COUNT; i++) {
        items[i] = (int)pick(a, 15) * 16; /* none of them fails */
    }
    const cf_map_options options = draw_map_options(a);
    size_t failed = COUNT;
    const cf_status status = cf_executor_map_array(any_pool(a), task_leaf, items, sizeof items[0],
                                                   results, ROOM, COUNT, &options, &failed);
    if (status == CF_OK) {
        for (size_t i = 0; i < COUNT; i++) {
            check_result(results[i], result_size_of(items[i]), items[i]);
        }
    } else {
        CHECK(refuses(status) || (status == CF_TIMEOUT && options.timeout != 0));
    }
}

/* Changes one's own future for one that another actor has left. */
static void op_shelf(actor *a) {
    driver *d = a->d;
    slot *s = &a->slots[pick(a, SLOTS)];
    cf_future **place = &d->shelf[pick(a, SHELF)];
    pthread_mutex_lock(&d->shelf_lock);
    cf_future *found = *place != NULL ? cf_future_retain(*place) : NULL;
    if (s->future != NULL && !s->record->is_promise) {
        cf_future_release(*place);
        *place = cf_future_retain(s->future);
    }
    pthread_mutex_unlock(&d->shelf_lock);
    if (found == NULL) {
        return;
    }
    if (pick(a, 3) == 0) {
        (void)cf_future_cancel(found);
    }
    (void)cf_future_wait(found, pick(a, 2) == 0 ? 0 : CF_FOREVER);
    cf_future_release(found);
}

static void op_look(actor *a) {
    const slot *s = &a->slots[pick(a, SLOTS)];
    const cf_stats stats = stats_of(any_pool(a));
    CHECK(stats.submitted >= stats.finished + stats.cancelled);
    CHECK(stats.finished >= stats.failed);
    if (s->future != NULL) {
        char text[120];
        CHECK(cf_future_repr(s->future, text, sizeof text) > 0);
        CHECK(strncmp(text, "<Future at ", 11) == 0);
        CHECK(cf_future_error_message(s->future) != NULL);
    }
}

/* ---------------------------------------------------------------- the run */

static void *act(void *arg) {
    static void (*const operations[])(actor *) = {
        op_submit, op_submit, op_submit,       op_submit,   op_submit_many, op_promise,
        op_cancel, op_result, op_wait,         op_callback, op_release,     op_as_completed,
        op_map,    op_look,   op_map_array,    op_shelf,    op_shelf};
    actor *a = arg;
    for (size_t i = 1; i <= a->ops; i++) {
        operations[pick(a, sizeof operations / sizeof operations[0])](a);
        if (i == a->d->shutdown_at) {
            const cf_shutdown_mode mode = pick(a, 2) == 0 ? CF_RUN_PENDING : CF_CANCEL_PENDING;
            (void)cf_executor_shutdown(any_pool(a), (cf_duration)pick(a, 200) * CF_MICROSECOND,
                                       mode);
        }
    }
    for (size_t i = 0; i < SLOTS; i++) {
        settle(a, &a->slots[i]);
        cf_future_release(a->slots[i].future);
    }
    return NULL;
}

static void verify_record(const record *r) {
    const bool ran = r->status == CF_OK || r->status == CF_TASK_FAILED ||
                     r->status == CF_TASK_TIMEOUT;
    CHECK_EQ(atomic_load(&r->ends), 1);
    CHECK(ran || refuses(r->status));
    CHECK_EQ(atomic_load(&r->runs), ran && !r->is_promise ? 1 : 0);
    CHECK_EQ(atomic_load(&r->freed), r->has_free_arg ? 1 : 0);
    CHECK_EQ(atomic_load(&r->callbacks_called), atomic_load(&r->callbacks_added));
}

/* All pools are shut down before one is closed: their tasks submit to each other. */
static void close_pools(driver *d) {
    for (size_t i = 0; i < d->pool_count; i++) {
        CHECK_STATUS(cf_executor_shutdown(d->pools[i], CF_FOREVER, CF_RUN_PENDING), CF_OK);
    }
    for (size_t i = 0; i < d->pool_count; i++) {
        const cf_stats stats = stats_of(d->pools[i]);
        CHECK_EQ(stats.submitted, stats.finished + stats.cancelled);
        CHECK_EQ(stats.workers + stats.idle + stats.queued + stats.running, 0);
        cf_executor_close(d->pools[i]);
    }
}

static size_t operations_wanted(void) {
    const char *text = getenv("CF_TEST_OPS");
    const size_t wanted = text != NULL ? strtoul(text, NULL, 10) : OPS_DEFAULT;
    return wanted > ACTORS ? wanted : ACTORS;
}

static void drive(driver *d) {
    actor actors[ACTORS];
    const size_t ops = operations_wanted() / ACTORS;
    const uint64_t seed = strtoul(getenv("CF_TEST_SEED"), NULL, 10);
    d->capacity = ops * ACTORS * BATCH;
    d->records = calloc(d->capacity, sizeof *d->records);
    CHECK(d->records != NULL);
    pthread_mutex_init(&d->shelf_lock, NULL);
    current = d;
    for (size_t i = 0; i < ACTORS; i++) {
        actors[i] = (actor){.d = d, .ops = ops};
        actors[i].random = (seed + 1) * 2654435761U * (i + 1) + 88172645463325252U;
        spawn(&actors[i].thread, act, &actors[i]);
    }
    for (size_t i = 0; i < ACTORS; i++) {
        join(actors[i].thread);
    }
    close_pools(d);
    release_all(d->shelf, SHELF);
    const size_t used = atomic_load(&d->used);
    for (size_t i = 0; i < used; i++) {
        verify_record(&d->records[i]);
    }
    CHECK(used > 0);
    CHECK_EQ(atomic_load(&d->owned_made), atomic_load(&d->owned_freed));
    pthread_mutex_destroy(&d->shelf_lock);
    free(d->records);
}

TEST(one_pool_of_two_workers) {
    driver d = {.pools = {pool(2)}, .pool_count = 1};
    drive(&d);
}

TEST(three_pools) {
    driver d = {.pools = {pool(1), pool(2), pool(4)}, .pool_count = 3};
    drive(&d);
}

TEST(a_pool_of_one_worker_and_the_inline_executor) {
    driver d = {.pools = {pool(1), inline_executor()}, .pool_count = 2};
    drive(&d);
}

TEST(bounded_pools) {
    const cf_pool_options options[POOLS_MAX] = {
        {.max_workers = 2, .queue_limit = 3, .on_full = CF_FULL_BLOCK},
        {.max_workers = 1, .queue_limit = 2, .on_full = CF_FULL_REJECT},
        {.max_workers = 2, .queue_limit = 1, .on_full = CF_FULL_CALLER_RUNS},
    };
    driver d = {.pool_count = POOLS_MAX, .bounded = true};
    for (size_t i = 0; i < POOLS_MAX; i++) {
        d.pools[i] = pool_with(&options[i]);
    }
    drive(&d);
}

TEST(pools_that_are_shut_down_meanwhile) {
    driver d = {.pools = {pool(1), pool(3)}, .pool_count = 2};
    d.shutdown_at = operations_wanted() / ACTORS / 2;
    drive(&d);
}

TEST(bounded_pools_that_are_shut_down_meanwhile) {
    const cf_pool_options options = {.max_workers = 2, .queue_limit = 2};
    driver d = {.pools = {pool_with(&options), pool_with(&options)},
                .pool_count = 2,
                .bounded = true};
    d.shutdown_at = operations_wanted() / ACTORS / 2;
    drive(&d);
}

/* CF_TEST_OPS also stretches the limit of time. */
enum { LIMIT_S = 60 };

static int limit_s(void) {
    return LIMIT_S + (int)(operations_wanted() / 1000);
}

int main(int argc, char **argv) {
    test_case tests[] = {
        RUN_WITHIN(limit_s(), one_pool_of_two_workers)
        RUN_WITHIN(limit_s(), three_pools)
        RUN_WITHIN(limit_s(), a_pool_of_one_worker_and_the_inline_executor)
        RUN_WITHIN(limit_s(), bounded_pools)
        RUN_WITHIN(limit_s(), pools_that_are_shut_down_meanwhile)
        RUN_WITHIN(limit_s(), bounded_pools_that_are_shut_down_meanwhile)
    };
    char seed[24];
    snprintf(seed, sizeof seed, "%lu", test_seed(argc, argv));
    setenv("CF_TEST_SEED", seed, 1);
    return test_run_all(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
