/* Random operations from several threads on one to three executors, drawn from a seed: submit in
 * every form, cancel, wait, cf_wait, as_completed, its descriptor, map in every form, callbacks
 * that call the library, promises that tasks keep, circles of waiting tasks, deadlines, full queues,
 * shutdowns from inside and outside, executors closed by their own workers. Whatever happens,
 *
 *     every future ends exactly once, and each callback is called once, in order of addition;
 *     what did not run was cancelled or refused, what ran ran once;
 *     each free_arg and each free function of a result ran once;
 *     results are those of the arguments;
 *     no wait that runs out ends early, none hangs, and errno stays as it was;
 *     a failure that nobody looked at is reported once;
 *     the pool has finished or cancelled all that it accepted, and when a shutdown has returned
 *     nothing of it is running.
 *
 * The seed that the runner prints is also that of the operations: `test_stress 12345` repeats them
 * (the threads interleave anew). CF_TEST_OPS=1000000 makes each test so many operations long. In
 * any_seed the seed also draws the executors, and holds threads up where races could open; it is
 * run for many seeds, and says how to repeat the one that fails. */
#include "test.h"

#include "tasks.h"

#include <sys/mman.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

enum { POOLS_MAX = 3, ACTORS = 3, SLOTS = 32, SHELF = 16, FILLER_MAX = 160, BATCH = 8 };
enum { OPS_DEFAULT = 40000, OPS_OF_A_SEED = 1500, FAIL_CODE = 17, RING_MAX = 4 };

typedef enum sort { THREADS, INLINE, PROCESSES } sort;

/* What is known of one submission. */
typedef struct record {
    int n;
    cf_status status;         /* W: the first callback; R: after all pools are closed */
    bool has_free_arg, is_promise, is_fired, may_time_out;
    atomic_int runs, freed, ends, unread;
    atomic_int callbacks_added, callbacks_called;
    int last_called; /* ordinal of the callback that was called last, by whoever ended the future */
} record;

/* One executor, and what of it is running. */
typedef struct place {
    cf_executor *executor;
    sort sort;
    bool may_close; /* an actor may shut it down, or a task */
    atomic_int active; /* tasks and callbacks */
} place;

typedef struct driver {
    place places[POOLS_MAX];
    size_t place_count;
    size_t shutdown_at; /* operations after which an actor shuts a pool down; 0: none */
    bool bounded, brief_pools, by_helgrind;
    record *records;
    size_t capacity;
    atomic_size_t used, owned_made, owned_freed, deeds_made, deeds_done;
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

/* The driver of the running test: free functions get no other argument. Shared with the workers of
 * process pools, as the records are. */
static driver *current;

static size_t pick(actor *a, size_t count) {
    return (size_t)(test_random(&a->random) % count);
}

static place *any_place(actor *a) {
    return &a->d->places[pick(a, a->d->place_count)];
}

static cf_executor *any_pool(actor *a) {
    return any_place(a)->executor;
}

static record *new_record(actor *a) {
    const size_t index = atomic_fetch_add(&a->d->used, 1);
    CHECK(index < a->d->capacity);
    record *r = &a->d->records[index];
    r->n = (int)pick(a, 1000);
    return r;
}

static void *shared(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

/* ---------------------------------------------------------------- tasks */

typedef enum kind {
    PLAIN,
    BUFFER,
    OWNED,
    FAILING,
    NESTED,
    ACROSS,
    MAPPING,
    SWEEPING,
    STOPPING, /* until it is asked to stop */
    CLOSING,  /* shuts its executor down */
    KINDS
} kind;

typedef struct payload {
    record *record;
    place *place;
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

static int return_result(cf_task *task, kind how, int n) {
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
        atomic_fetch_add(&current->owned_made, 1);
        fill_result(owned, n);
        return cf_task_return_owned(task, owned, result_size_of(n), free_owned);
    }
    fill_result(bytes, n);
    return cf_task_return(task, bytes, result_size_of(n));
}

static bool leaf_fails(int n) {
    return n % 16 == 15;
}

/* A child, or an item of a map: int n. */
static int task_leaf(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (leaf_fails(n)) {
        return cf_task_fail(task, FAIL_CODE, "leaf %d", n);
    }
    return return_result(task, n % 2 == 0 ? PLAIN : OWNED, n);
}

static bool refuses(cf_status status) {
    return status == CF_SHUTDOWN || status == CF_QUEUE_FULL || status == CF_CANCELLED ||
           status == CF_DEADLOCK;
}

/* Waits for a child in its own pool or in another one. */
static int run_child(cf_executor *executor, int n) {
    cf_future *child = cf_executor_submit(executor, task_leaf, &n, sizeof n);
    const cf_status status = cf_future_wait(child, CF_FOREVER);
    if (status == CF_OK) {
        check_result(cf_future_result(child, 0, NULL), cf_future_result_size(child), n);
    } else {
        CHECK(refuses(status) || (status == CF_TASK_FAILED && leaf_fails(n)));
    }
    cf_future_release(child);
    return status == CF_OK ? 0 : FAIL_CODE;
}

enum { ITEMS = 12, ROOM = sizeof(int) + 80 };

static void map_children(cf_executor *executor, int n) {
    int items[ITEMS / 2];
    for (int i = 0; i < ITEMS / 2; i++) {
        items[i] = n + i;
    }
    const cf_map_options options = {.chunksize = (size_t)n % 3, .unordered = n % 2 == 0};
    cf_map_iter *iter =
        cf_executor_map(executor, task_leaf, items, ITEMS / 2, sizeof *items, &options);
    CHECK(iter != NULL);
    for (int left = n % (ITEMS / 2 + 2); left > 0; left--) {
        cf_status status = CF_SYSTEM;
        const void *result = cf_map_next(iter, &status);
        if (status == CF_OK) {
            check_result(result, cf_map_result_size(iter), items[cf_map_index(iter)]);
        } else {
            CHECK(refuses(status) || status == CF_END || status == CF_TASK_FAILED);
        }
    }
    cf_map_close(iter);
}

static void sweep_children(cf_executor *executor, int n) {
    int items[ITEMS];
    unsigned char results[ITEMS][ROOM];
    for (int i = 0; i < ITEMS; i++) {
        items[i] = (n + i) % 60 * 16;
    }
    const cf_status status = cf_executor_map_array(executor, task_leaf, items, sizeof *items,
                                                   results, ROOM, ITEMS, NULL, NULL);
    CHECK(status == CF_OK || refuses(status));
    for (int i = 0; i < ITEMS && status == CF_OK; i++) {
        check_result(results[i], result_size_of(items[i]), items[i]);
    }
}

/* From inside: the mode is applied, and it does not wait for itself. */
static void close_from_inside(cf_executor *executor, int n) {
    const cf_shutdown_mode mode = n % 2 == 0 ? CF_RUN_PENDING : CF_CANCEL_PENDING;
    CHECK_STATUS(cf_executor_shutdown(executor, 0, mode), CF_TIMEOUT);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, mode), CF_DEADLOCK);
}

/* Under valgrind one thread runs at a time, so it lets the others. */
static void await_stop(cf_task *task) {
    while (!cf_task_stop_requested(task)) {
        sched_yield();
    }
}

static int do_its_own(cf_task *task, const payload *p) {
    cf_executor *own = cf_task_executor(task);
    place *there = &current->places[(size_t)p->n % current->place_count];
    switch (p->kind) {
    case NESTED: return own != NULL ? run_child(own, p->n) : 0;
    case ACROSS: return own != NULL ? run_child(there->executor, p->n) : 0;
    case MAPPING:
        if (own != NULL) {
            map_children(own, p->n);
        }
        return 0;
    case SWEEPING:
        if (own != NULL) {
            sweep_children(own, p->n);
        }
        return 0;
    case STOPPING:
        if (p->record->may_time_out) {
            await_stop(task);
        }
        return 0;
    case CLOSING:
        if (own != NULL && p->place != NULL && p->place->may_close) {
            close_from_inside(own, p->n);
        }
        return 0;
    default: return 0;
    }
}

static int task_any(cf_task *task, void *arg) {
    const payload *p = arg;
    const int n = p->n;
    atomic_fetch_add(&p->record->runs, 1);
    if (p->place != NULL) {
        atomic_fetch_add(&p->place->active, 1);
    }
    const size_t size = cf_task_arg_size(task);
    for (size_t i = offsetof(payload, filler); i < size; i++) {
        CHECK_EQ(((const unsigned char *)arg)[i], n & 0xff);
    }
    const int failed = p->kind == FAILING ? cf_task_fail(task, FAIL_CODE, "task %d", n)
                                          : do_its_own(task, p);
    if (p->place != NULL) {
        atomic_fetch_sub(&p->place->active, 1);
    }
    return failed != 0 ? failed : return_result(task, p->kind, n);
}

/* ---------------------------------------------------------------- callbacks */

static _Thread_local bool adding; /* the callback is called by who adds it */

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

typedef struct call {
    record *record;
    int ordinal; /* among those of its future */
} call;

/* In order of addition, one after the other: so last_called needs no lock. One that is added when
 * the future is done may be called before older ones. */
static void note_call(cf_future *future, void *user) {
    call *c = user;
    CHECK(cf_future_done(future));
    if (!adding) {
        CHECK(c->ordinal > c->record->last_called);
        c->record->last_called = c->ordinal;
    }
    atomic_fetch_add(&c->record->callbacks_called, 1);
    free(c);
}

/* What a callback does to the library. */
typedef enum act_kind { SUBMIT, WAIT, LET_GO, ADD, CANCEL_IT, DEEDS } act_kind;

typedef struct deed {
    act_kind what;
    place *place; /* where its children run */
    cf_future *other;
    int n;
} deed;

static void note_deed(cf_future *future, void *user) {
    CHECK(cf_future_done(future));
    CHECK(user == current);
    atomic_fetch_add(&current->deeds_done, 1);
}

static void do_deed(cf_future *future, void *user) {
    deed *what = user;
    cf_future *child = NULL;
    switch (what->what) {
    case SUBMIT:
    case WAIT:
        child = cf_executor_submit(what->place->executor, task_leaf, &what->n, sizeof what->n);
        if (what->what == WAIT) {
            (void)cf_future_wait(child, what->n % 2 == 0 ? CF_FOREVER : CF_MILLISECOND);
        }
        cf_future_release(child);
        break;
    case ADD:
        atomic_fetch_add(&current->deeds_made, 1);
        CHECK_STATUS(cf_future_add_done_callback(future, note_deed, current), CF_OK);
        break;
    case CANCEL_IT: (void)cf_future_cancel(what->other); break;
    default: break;
    }
    cf_future_release(what->other);
    free(what);
    atomic_fetch_add(&current->deeds_done, 1);
}

/* ---------------------------------------------------------------- operations */

static void free_payload(void *ptr) {
    payload *p = ptr;
    atomic_fetch_add(&p->record->freed, 1);
    free(p);
}

/* In a process pool each deadline costs a worker, and nobody stops without one. */
static payload draw_payload(actor *a, record *r, place *where) {
    payload p = {r, where, (kind)pick(a, KINDS), r->n, {0}};
    memset(p.filler, r->n & 0xff, sizeof p.filler);
    if (p.kind >= MAPPING && pick(a, 4) != 0) {
        p.kind = PLAIN;
    }
    return p;
}

static cf_duration draw_task_timeout(actor *a, record *r, place *where) {
    const size_t rarity = where->sort == PROCESSES ? 60 : 3;
    const cf_duration timeout =
        pick(a, rarity) == 0 ? (cf_duration)(1 + pick(a, 30)) * CF_MICROSECOND : 0;
    r->may_time_out = timeout > 0;
    return timeout;
}

static cf_future *submit_any(actor *a, record *r) {
    place *where = any_place(a);
    const payload p = draw_payload(a, r, where);
    const size_t size = offsetof(payload, filler) + pick(a, FILLER_MAX);
    const size_t form = pick(a, 4);
    if (form == 0) {
        return cf_executor_submit(where->executor, task_any, &p, size);
    }
    if (form == 1) {
        const cf_submit_options options = {.timeout = draw_task_timeout(a, r, where)};
        return cf_executor_submit_with(where->executor, task_any, &p, size, &options);
    }
    if (where->sort == PROCESSES) { /* pointers that are younger than the pool mean nothing there */
        return cf_executor_submit_with(where->executor, task_any, &p, sizeof p, NULL);
    }
    payload *owned = malloc(sizeof *owned);
    CHECK(owned != NULL);
    *owned = p;
    r->has_free_arg = true;
    const cf_submit_options options = {.free_arg = free_payload};
    return cf_executor_submit_with(where->executor, task_any, owned, 0, &options);
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
    place *where = any_place(a);
    const size_t count = 1 + pick(a, BATCH);
    memset(payloads, 0, sizeof payloads);
    for (size_t i = 0; i < count; i++) {
        payloads[i] = draw_payload(a, new_record(a), where);
    }
    const cf_status status = cf_executor_submit_many(where->executor, task_any, payloads, count,
                                                     sizeof payloads[0], futures);
    CHECK(status == CF_OK || refuses(status));
    for (size_t i = 0; i < count; i++) {
        put(a, futures[i], payloads[i].record);
    }
}

/* A failure that nobody looks at. */
static void op_fire(actor *a) {
    place *where = any_place(a);
    if (where->sort == INLINE) {
        return; /* it has nobody to tell */
    }
    record *r = new_record(a);
    payload p = draw_payload(a, r, where);
    p.kind = FAILING;
    p.n = (int)(r - a->d->records);
    r->is_fired = true;
    memset(p.filler, p.n & 0xff, sizeof p.filler);
    cf_future_release(cf_executor_submit(where->executor, task_any, &p, sizeof p));
}

static void note_unread(cf_future *future, void *user) {
    int n = -1;
    const bool is_task = cf_future_wait(future, 0) == CF_TASK_FAILED &&
                         sscanf(cf_future_error_message(future), "task %d", &n) == 1;
    CHECK(user == current);
    if (is_task) {
        CHECK(current->records[n].is_fired);
        CHECK_EQ(atomic_fetch_add(&current->records[n].unread, 1), 0);
    }
}

static void op_misuse(actor *a) {
    const slot *s = &a->slots[pick(a, SLOTS)];
    cf_executor *executor = any_pool(a);
    cf_future *refused = cf_executor_submit(executor, NULL, NULL, 0);
    CHECK_STATUS(cf_future_wait(refused, 0), CF_INVALID);
    CHECK(!cf_future_cancel(refused));
    cf_future_release(refused);
    CHECK(cf_executor_map(executor, NULL, NULL, 1, 0, NULL) == NULL);
    CHECK_STATUS(cf_executor_submit_many(executor, task_any, NULL, 1, 1, NULL), CF_INVALID);
    if (s->future != NULL && !s->record->is_promise) {
        CHECK_STATUS(cf_future_set_result(s->future, "", 1), CF_INVALID_STATE);
        CHECK(!cf_future_set_running_or_notify_cancel(s->future));
    }
}

/* ---- promises ---- */

static void op_promise(actor *a) {
    record *r = new_record(a);
    r->is_promise = true;
    put(a, promise(), r);
}

static void keep(cf_future *future, int n, size_t way) {
    unsigned char bytes[sizeof(int) + 80];
    switch (way) {
    case 0:
        CHECK(cf_future_cancel(future));
        return;
    case 1:
        CHECK(cf_future_set_running_or_notify_cancel(future));
        CHECK_STATUS(cf_future_set_error(future, FAIL_CODE, "broken promise"), CF_OK);
        return;
    default:
        fill_result(bytes, n);
        CHECK_STATUS(cf_future_set_result(future, bytes, result_size_of(n)), CF_OK);
    }
}

/* Promises are ended by the actor that made them, so that it can wait for ever. */
static void settle(actor *a, slot *s) {
    if (s->record == NULL || !s->record->is_promise || cf_future_done(s->future)) {
        return;
    }
    keep(s->future, s->record->n, pick(a, 3));
}

/* Or by a task, or, if that never runs, by the function that frees its argument. */
typedef struct vow {
    cf_future *promise;
    int n;
} vow;

static int task_keeps(cf_task *task, void *arg) {
    const vow *v = arg;
    (void)task;
    keep(v->promise, v->n, (size_t)v->n % 3);
    return 0;
}

static void free_vow(void *ptr) {
    vow *v = ptr;
    (void)cf_future_cancel(v->promise);
    cf_future_release(v->promise);
    free(v);
}

static void op_vow(actor *a) {
    place *where = any_place(a);
    vow *v = malloc(sizeof *v);
    CHECK(v != NULL && where->executor != NULL);
    *v = (vow){promise(), (int)pick(a, 1000)};
    cf_future *kept = cf_future_retain(v->promise);
    const int n = v->n;
    const cf_submit_options options = {.free_arg = free_vow};
    if (where->sort == PROCESSES) {
        free_vow(v);
    } else {
        cf_future_release(
            cf_executor_submit_with(where->executor, task_keeps, v, 0, &options));
    }
    cf_future_wait(kept, CF_FOREVER);
    CHECK(cf_future_cancelled(kept) || cf_future_result_size(kept) == result_size_of(n) ||
          cf_future_error_code(kept) == FAIL_CODE);
    cf_future_release(kept);
}

/* ---- circles ---- */

/* Each of some tasks waits for the next, the last for the first. A process could not; instead there
 * is a refused one. */
typedef struct ring {
    _Atomic(cf_future *) members[RING_MAX];
    size_t count;
    cf_duration timeout;
    atomic_int waited, denied, owners;
} ring;

typedef struct link {
    ring *ring;
    size_t index;
} link_arg;

static void ring_release(ring *r) {
    if (atomic_fetch_sub(&r->owners, 1) == 1) {
        free(r);
    }
}

/* Where the next one is not known soon, since it is not submitted as long as this one runs, it
 * gives up. */
static int task_in_ring(cf_task *task, void *arg) {
    const link_arg *l = arg;
    ring *r = l->ring;
    cf_future *next = NULL;
    (void)task;
    for (int i = 0; i < 300 && next == NULL; i++) {
        next = atomic_load(&r->members[(l->index + 1) % r->count]);
        sched_yield();
    }
    if (next == NULL) {
        return 0;
    }
    const cf_status status = cf_future_wait(next, r->timeout);
    atomic_fetch_add(&r->waited, 1);
    atomic_fetch_add(&r->denied, status == CF_DEADLOCK);
    CHECK(status == CF_OK || refuses(status) || status == CF_INVALID ||
          (status == CF_TIMEOUT && r->timeout >= 0));
    return 0;
}

static void free_link(void *ptr) {
    link_arg *l = ptr;
    ring_release(l->ring);
    free(l);
}

static void op_ring(actor *a) {
    cf_future *futures[RING_MAX];
    if (a->d->by_helgrind) {
        return; /* to which an atomic pointer is a race */
    }
    ring *r = calloc(1, sizeof *r);
    CHECK(r != NULL);
    r->count = 1 + pick(a, RING_MAX);
    r->timeout = pick(a, 3) == 0 ? (cf_duration)pick(a, 300) * CF_MICROSECOND : CF_FOREVER;
    atomic_store(&r->owners, (int)r->count + 1);
    for (size_t i = 0; i < r->count; i++) {
        place *where = any_place(a);
        link_arg *l = malloc(sizeof *l);
        CHECK(l != NULL);
        *l = (link_arg){r, i};
        const cf_submit_options options = {.free_arg = free_link};
        futures[i] = where->sort == PROCESSES
                         ? cf_executor_submit(NULL, task_in_ring, NULL, 0)
                         : cf_executor_submit_with(where->executor, task_in_ring, l, 0, &options);
        if (where->sort == PROCESSES) {
            free_link(l);
        }
        atomic_store(&r->members[i], futures[i]);
    }
    bool whole = r->timeout == CF_FOREVER;
    for (size_t i = 0; i < r->count; i++) {
        const cf_status status = cf_future_wait(futures[i], CF_FOREVER);
        CHECK(status == CF_OK || refuses(status) || status == CF_INVALID);
        whole = whole && status == CF_OK;
    }
    if (whole && atomic_load(&r->waited) == (int)r->count) {
        CHECK(atomic_load(&r->denied) >= 1);
    }
    release_all(futures, r->count);
    ring_release(r);
}

/* ---- waiting ---- */

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
    const int64_t start = now();
    errno = EDOM;
    const void *result = cf_future_result(s->future, timeout, &status);
    CHECK_EQ(errno, EDOM);
    CHECK((result != NULL) == (status == CF_OK));
    CHECK(status != CF_TIMEOUT || (timeout >= 0 && now() - start >= timeout));
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
    const int64_t start = now();
    errno = EDOM;
    const size_t ended = cf_wait(futures, count, when, timeout, done);
    CHECK_EQ(errno, EDOM);
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
    CHECK(ended > 0 || distinct == 0 || now() - start >= timeout);
}

/* Readable as soon as the next one would come at once. */
static void poll_descriptor(cf_as_completed_iter *iter) {
    struct pollfd readable = {test_iter_fd(iter), POLLIN, 0};
    if (readable.fd < 0) {
        return;
    }
    const int most = (int)(limit(TEST_GATE_LIMIT_S) / 1000000);
    CHECK_EQ(poll(&readable, 1, most), 1); /* in time, or at the deadline */
}

static void op_as_completed(actor *a) {
    cf_future *futures[BATCH];
    slot *first;
    const size_t count = draw_futures(a, futures, &first);
    const cf_duration timeout = draw_timeout(a, first, count);
    cf_as_completed_iter *iter = cf_as_completed(futures, count, timeout);
    CHECK(iter != NULL);
    const size_t most = pick(a, 2 * BATCH);
    const bool adds = pick(a, 3) == 0, polls = pick(a, 4) == 0;
    size_t remaining = cf_as_completed_remaining(iter);
    for (size_t i = 0; i < most; i++) {
        size_t index = SIZE_MAX;
        cf_status status = CF_SYSTEM;
        if (polls) {
            poll_descriptor(iter);
        }
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

static void add(cf_future *future, cf_callback_fn *callback, void *user) {
    adding = true;
    CHECK_STATUS(cf_future_add_done_callback(future, callback, user), CF_OK);
    adding = false;
}

static void op_callback(actor *a) {
    const slot *s = &a->slots[pick(a, SLOTS)];
    if (s->future == NULL) {
        return;
    }
    call *c = malloc(sizeof *c);
    CHECK(c != NULL);
    *c = (call){s->record, atomic_fetch_add(&s->record->callbacks_added, 1) + 1};
    add(s->future, note_call, c);
}

static void op_deed(actor *a) {
    const slot *s = &a->slots[pick(a, SLOTS)], *other = &a->slots[pick(a, SLOTS)];
    if (s->future == NULL || s->record->is_promise ||
        (other->record != NULL && other->record->is_promise)) {
        return;
    }
    deed *what = malloc(sizeof *what);
    CHECK(what != NULL);
    what->what = (act_kind)pick(a, DEEDS);
    what->place = any_place(a);
    what->other = other->future != NULL ? cf_future_retain(other->future) : NULL;
    what->n = (int)pick(a, 1000);
    atomic_fetch_add(&a->d->deeds_made, 1);
    CHECK_STATUS(cf_future_add_done_callback(s->future, do_deed, what), CF_OK);
}

static void op_release(actor *a) {
    slot *s = &a->slots[pick(a, SLOTS)];
    settle(a, s);
    cf_future_release(s->future);
    *s = (slot){NULL, NULL};
}

/* ---- maps ---- */

static cf_map_options draw_map_options(actor *a) {
    return (cf_map_options){.chunksize = pick(a, 5),
                            .buffersize = pick(a, 6),
                            .unordered = pick(a, 2) == 0,
                            .stop_on_error = pick(a, 4) == 0,
                            .timeout = pick(a, 4) == 0 ? 50 * CF_MICROSECOND : 0};
}

typedef struct source {
    const int *items;
    size_t next, count;
} source;

static bool next_of_source(void *item, void *user) {
    source *s = user;
    if (s->next == s->count) {
        return false;
    }
    memcpy(item, &s->items[s->next++], sizeof *s->items);
    return true;
}

static void op_map(actor *a) {
    int items[ITEMS];
    for (size_t i = 0; i < ITEMS; i++) {
        items[i] = (int)pick(a, 1000);
    }
    cf_map_options options = draw_map_options(a);
    source from = {items, 0, ITEMS};
    const bool generated = pick(a, 3) == 0;
    if (generated) {
        options.next_item = next_of_source;
        options.user = &from;
    }
    cf_map_iter *iter = cf_executor_map(any_pool(a), task_leaf, generated ? NULL : items,
                                        generated ? pick(a, 2) * ITEMS : ITEMS, sizeof items[0],
                                        &options);
    CHECK(iter != NULL);
    const size_t most = pick(a, ITEMS + 3);
    bool seen[ITEMS] = {false}, refused = false;
    for (size_t i = 0; i < most; i++) {
        cf_status status = CF_SYSTEM;
        const void *result = cf_map_next(iter, &status);
        if (status == CF_END) {
            CHECK(i == ITEMS || options.stop_on_error || options.timeout != 0 || refused);
            break;
        }
        if (status == CF_TIMEOUT) {
            CHECK(options.timeout != 0);
            continue;
        }
        const size_t index = cf_map_index(iter);
        CHECK(index < ITEMS && !seen[index] && (options.unordered || index == i));
        seen[index] = true;
        if (status == CF_OK) {
            check_result(result, cf_map_result_size(iter), items[index]);
        } else {
            CHECK(refuses(status) || (status == CF_TASK_FAILED && leaf_fails(items[index])));
            refused = refused || (generated && refuses(status));
        }
    }
    cf_map_close(iter);
}

static void op_map_array(actor *a) {
    int items[ITEMS];
    unsigned char results[ITEMS][ROOM];
    for (size_t i = 0; i < ITEMS; i++) {
        items[i] = (int)pick(a, 15) * 16; /* none of them fails */
    }
    const cf_map_options options = draw_map_options(a);
    size_t failed = ITEMS;
    const cf_status status = cf_executor_map_array(any_pool(a), task_leaf, items, sizeof items[0],
                                                   results, ROOM, ITEMS, &options, &failed);
    if (status == CF_OK) {
        for (size_t i = 0; i < ITEMS; i++) {
            check_result(results[i], result_size_of(items[i]), items[i]);
        }
    } else {
        CHECK(refuses(status) || (status == CF_TIMEOUT && options.timeout != 0));
    }
}

/* ---- executors ---- */

static int task_closes(cf_task *task, void *arg) {
    (void)arg;
    cf_executor_close(cf_task_executor(task));
    return 0;
}

/* One of its own, closed from outside, or by a task while others may submit, or by both. */
static void op_brief_pool(actor *a) {
    cf_future *futures[BATCH], *closer = NULL;
    payload payloads[BATCH];
    if (!a->d->brief_pools) {
        return;
    }
    cf_executor *executor = pool(1 + pick(a, 3));
    if (pick(a, 2) == 0) {
        test_wrap(executor);
    }
    for (size_t i = 0; i < BATCH; i++) {
        record *r = new_record(a);
        payloads[i] = draw_payload(a, r, NULL);
        if (payloads[i].kind == ACROSS) {
            payloads[i].kind = NESTED;
        }
        futures[i] = cf_executor_submit(executor, task_any, &payloads[i], sizeof payloads[i]);
        CHECK_STATUS(cf_future_add_done_callback(futures[i], note_end, r), CF_OK);
    }
    if (pick(a, 2) == 0) {
        closer = cf_executor_submit(executor, task_closes, NULL, 0);
    } else if (pick(a, 2) == 0) {
        (void)cf_executor_shutdown(executor, (cf_duration)pick(a, 50) * CF_MICROSECOND,
                                   CF_CANCEL_PENDING);
    }
    if (closer == NULL) {
        cf_executor_close(executor);
    }
    for (size_t i = 0; i < BATCH; i++) {
        CHECK(closer != NULL || cf_future_done(futures[i]));
        (void)cf_future_wait(futures[i], CF_FOREVER);
        UNTIL(atomic_load(&payloads[i].record->ends) == 1); /* nobody waits for its callbacks */
    }
    CHECK(closer == NULL || cf_future_wait(closer, CF_FOREVER) == CF_OK);
    cf_future_release(closer);
    release_all(futures, BATCH);
}

/* When it has returned CF_OK, nothing of the executor runs any more. */
static void shut_down(actor *a, place *where) {
    const cf_shutdown_mode mode = pick(a, 2) == 0 ? CF_RUN_PENDING : CF_CANCEL_PENDING;
    const bool patient = pick(a, 3) == 0;
    const cf_status status = cf_executor_shutdown(
        where->executor, patient ? CF_FOREVER : (cf_duration)pick(a, 200) * CF_MICROSECOND, mode);
    CHECK(status == CF_OK || (!patient && status == CF_TIMEOUT));
    if (status == CF_OK && where->sort != INLINE) {
        CHECK_EQ(atomic_load(&where->active), 0);
        const cf_stats stats = stats_of(where->executor);
        CHECK_EQ(stats.workers + stats.idle, 0);
        CHECK_EQ(stats.queued, 0);
        CHECK_EQ(stats.running, 0);
    }
}

static void op_shutdown(actor *a) {
    place *where = any_place(a);
    if (where->may_close && pick(a, 10) == 0) {
        shut_down(a, where);
    }
}

/* ---- what others left, and a look ---- */

/* Changes one's own future for one that another actor has left. */
static void op_shelf(actor *a) {
    driver *d = a->d;
    slot *s = &a->slots[pick(a, SLOTS)];
    cf_future **place_of = &d->shelf[pick(a, SHELF)];
    pthread_mutex_lock(&d->shelf_lock);
    cf_future *found = *place_of != NULL ? cf_future_retain(*place_of) : NULL, *left = NULL;
    if (s->future != NULL && !s->record->is_promise) {
        left = *place_of;
        *place_of = cf_future_retain(s->future);
    }
    pthread_mutex_unlock(&d->shelf_lock);
    cf_future_release(left);
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
    errno = EDOM;
    const cf_stats stats = stats_of(any_pool(a));
    CHECK_EQ(errno, EDOM);
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
        op_submit, op_submit, op_submit,   op_submit, op_submit_many, op_promise,
        op_cancel, op_result, op_wait,     op_look,   op_release,     op_as_completed,
        op_map,    op_shelf,  op_shelf,    op_deed,   op_map_array,   op_callback,
        op_vow,    op_ring,   op_shutdown, op_fire,   op_misuse,      op_brief_pool};
    actor *a = arg;
    for (size_t i = 1; i <= a->ops; i++) {
        operations[pick(a, sizeof operations / sizeof operations[0])](a);
        if (i == a->d->shutdown_at) {
            shut_down(a, any_place(a));
        }
    }
    for (size_t i = 0; i < SLOTS; i++) {
        settle(a, &a->slots[i]);
        cf_future_release(a->slots[i].future);
    }
    return NULL;
}

/* A task that a deadline ended may have run or not, where it takes its worker along. */
static void verify_record(const record *r, bool by_processes) {
    const bool ran = r->status == CF_OK || r->status == CF_TASK_FAILED ||
                     r->status == CF_TASK_TIMEOUT;
    const int runs = atomic_load(&r->runs);
    CHECK_EQ(atomic_load(&r->freed), r->has_free_arg ? 1 : 0);
    CHECK_EQ(atomic_load(&r->callbacks_called), atomic_load(&r->callbacks_added));
    CHECK_EQ(atomic_load(&r->unread), r->is_fired ? runs : 0);
    if (r->is_fired) {
        CHECK(runs <= 1);
        return;
    }
    CHECK_EQ(atomic_load(&r->ends), 1);
    CHECK(ran || refuses(r->status));
    CHECK(r->status != CF_TASK_TIMEOUT || r->may_time_out);
    CHECK(runs == (ran && !r->is_promise) ||
          (by_processes && r->status == CF_TASK_TIMEOUT && runs == 0));
}

/* All pools are shut down before one is closed: their tasks submit to each other. */
static void close_pools(driver *d) {
    for (size_t i = 0; i < d->place_count; i++) {
        CHECK_STATUS(cf_executor_shutdown(d->places[i].executor, CF_FOREVER, CF_RUN_PENDING),
                     CF_OK);
        CHECK(atomic_load(&d->places[i].active) == 0 || d->places[i].sort == PROCESSES);
    }
    for (size_t i = 0; i < d->place_count; i++) {
        const cf_stats stats = stats_of(d->places[i].executor);
        CHECK_EQ(stats.submitted, stats.finished + stats.cancelled);
        CHECK_EQ(stats.workers + stats.idle + stats.queued + stats.running, 0);
        cf_executor_close(d->places[i].executor);
    }
}

/* In process pools a deadline may end a task before it has counted itself out. */
static void verify_that_none_runs(const driver *d) {
    int ended_at_once = 0;
    for (size_t i = 0; i < atomic_load(&d->used); i++) {
        const record *r = &d->records[i];
        ended_at_once += r->status == CF_TASK_TIMEOUT && atomic_load(&r->runs) > 0;
    }
    for (size_t i = 0; i < d->place_count; i++) {
        CHECK(atomic_load(&d->places[i].active) <=
              (d->places[i].sort == PROCESSES ? ended_at_once : 0));
    }
}

static unsigned long seed_of_the_run(void) {
    return strtoul(getenv("CF_TEST_SEED"), NULL, 10);
}

static size_t operations_wanted(int otherwise) {
    return (size_t)test_number_of("CF_TEST_OPS", otherwise);
}

static bool lane_is(const char *name) {
    const char *lane = getenv("CF_TEST_LANE");
    return lane != NULL && strcmp(lane, name) == 0;
}

static driver *new_driver(void) {
    driver *d = shared(sizeof *d);
    pthread_mutex_init(&d->shelf_lock, NULL);
    d->by_helgrind = lane_is("helgrind");
    current = d;
    return d;
}

static void open_place(cf_executor *executor, sort what) {
    CHECK(executor != NULL);
    current->places[current->place_count].executor = executor;
    current->places[current->place_count++].sort = what;
}

/* Before the executors are made, so that the workers of processes find the records. */
static void make_records(driver *d, size_t ops) {
    d->capacity = ops * ACTORS * BATCH;
    d->records = shared(d->capacity * sizeof *d->records);
}

static void drive(driver *d, size_t ops) {
    actor actors[ACTORS];
    const uint64_t seed = seed_of_the_run();
    bool by_processes = false;
    for (size_t i = 0; i < d->place_count; i++) {
        by_processes = by_processes || d->places[i].sort == PROCESSES;
    }
    for (size_t i = 0; i < ACTORS; i++) {
        actors[i] = (actor){.d = d, .ops = ops};
        actors[i].random = (seed + 1) * 2654435761U * (i + 1) + 88172645463325252U;
        spawn(&actors[i].thread, act, &actors[i]);
    }
    for (size_t i = 0; i < ACTORS; i++) {
        join(actors[i].thread);
    }
    close_pools(d);
    verify_that_none_runs(d);
    release_all(d->shelf, SHELF);
    const size_t used = atomic_load(&d->used);
    for (size_t i = 0; i < used; i++) {
        verify_record(&d->records[i], by_processes);
    }
    CHECK_EQ(atomic_load(&d->deeds_made), atomic_load(&d->deeds_done));
    if (!by_processes) { /* a deadline may come between the two */
        /* A pool that one of its own tasks has closed lets go of its last future when it likes. */
        UNTIL(atomic_load(&d->owned_made) == atomic_load(&d->owned_freed));
    }
    pthread_mutex_destroy(&d->shelf_lock);
    munmap(d->records, d->capacity * sizeof *d->records);
    munmap(d, sizeof *d);
}

static void drive_pools(const cf_pool_options *options, size_t count, size_t shutdown_at) {
    driver *d = new_driver();
    const size_t ops = operations_wanted(OPS_DEFAULT) / ACTORS;
    make_records(d, ops);
    for (size_t i = 0; i < count; i++) {
        cf_pool_options own = options[i];
        own.on_unread_error = note_unread;
        own.user = d;
        d->bounded = d->bounded || own.queue_limit > 0;
        open_place(pool_with(&own), THREADS);
    }
    d->shutdown_at = shutdown_at;
    drive(d, ops);
}

TEST(one_pool_of_two_workers) {
    drive_pools(&(cf_pool_options){.max_workers = 2}, 1, 0);
}

TEST(three_pools) {
    const cf_pool_options options[POOLS_MAX] = {
        {.max_workers = 1}, {.max_workers = 2}, {.max_workers = 4}};
    drive_pools(options, POOLS_MAX, 0);
}

TEST(bounded_pools) {
    const cf_pool_options options[POOLS_MAX] = {
        {.max_workers = 2, .queue_limit = 3, .on_full = CF_FULL_BLOCK},
        {.max_workers = 1, .queue_limit = 2, .on_full = CF_FULL_REJECT},
        {.max_workers = 2, .queue_limit = 1, .on_full = CF_FULL_CALLER_RUNS},
    };
    drive_pools(options, POOLS_MAX, 0);
}

TEST(pools_that_are_shut_down_meanwhile) {
    const cf_pool_options options[2] = {{.max_workers = 1}, {.max_workers = 3}};
    drive_pools(options, 2, operations_wanted(OPS_DEFAULT) / ACTORS / 2);
}

TEST(bounded_pools_that_are_shut_down_meanwhile) {
    const cf_pool_options options[2] = {{.max_workers = 2, .queue_limit = 2},
                                        {.max_workers = 2, .queue_limit = 2}};
    drive_pools(options, 2, operations_wanted(OPS_DEFAULT) / ACTORS / 2);
}

/* ---------------------------------------------------------------- all drawn from the seed */

static void open_threads(actor *a) {
    const cf_pool_options options = {
        .max_workers = 1 + pick(a, 4),
        .queue_limit = pick(a, 3) == 0 ? 1 + pick(a, 6) : 0,
        .on_full = (cf_on_full)pick(a, 3),
        .on_unread_error = note_unread,
        .user = current,
    };
    cf_executor *executor = pool_with(&options);
    current->bounded = current->bounded || options.queue_limit > 0;
    if (pick(a, 3) == 0) {
        test_wrap(executor);
    }
    open_place(executor, THREADS);
}

/* False: there are none here, or valgrind would lose sight of them. */
static bool open_processes(actor *a) {
    const cf_pool_options options = {
        .max_workers = 1 + pick(a, 2),
        .queue_limit = pick(a, 3) == 0 ? 1 + pick(a, 6) : 0,
        .on_full = (cf_on_full)pick(a, 2),
        .max_tasks_per_child = pick(a, 3) == 0 ? 1 + pick(a, 20) : 0,
        .on_unread_error = note_unread,
        .user = current,
    };
    cf_executor *executor = current->by_helgrind ? NULL : test_process_pool(&options);
    if (executor != NULL) {
        open_place(executor, PROCESSES);
    }
    return executor != NULL;
}

TEST(any_seed) {
    driver *d = new_driver();
    actor drawing = {.d = d, .random = (seed_of_the_run() + 1) * 0x9e3779b97f4a7c15U | 1};
    (void)pick(&drawing, 2);
    size_t ops = operations_wanted(OPS_OF_A_SEED) / ACTORS;
    make_records(d, ops);
    d->brief_pools = pick(&drawing, 2) == 0;
    const size_t count = 1 + pick(&drawing, POOLS_MAX);
    const bool processes = pick(&drawing, 8) == 0, closes = pick(&drawing, 4) == 0;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 && processes && open_processes(&drawing)) {
            ops /= 4;
        } else if (i > 0 && pick(&drawing, 5) == 0) {
            open_place(inline_executor(), INLINE);
        } else {
            open_threads(&drawing);
        }
        d->places[i].may_close = closes;
    }
    d->brief_pools = d->brief_pools && !d->by_helgrind;
    test_perturb((unsigned)seed_of_the_run() + 1);
    drive(d, ops);
    test_perturb(0);
}

/* CF_TEST_OPS also stretches the limit of time. */
enum { LIMIT_S = 60, SEEDS = 40, SEEDS_WATCHED = 200 };

static int limit_s(void) {
    return LIMIT_S + (int)(operations_wanted(OPS_DEFAULT) / 1000);
}

static int seeds(void) {
    const bool watched = lane_is("tsan") || lane_is("asan");
    return lane_is("memcheck") || lane_is("helgrind") ? 3 : watched ? SEEDS_WATCHED : SEEDS;
}

int main(int argc, char **argv) {
    test_case tests[] = {
        RUN_WITHIN(limit_s(), one_pool_of_two_workers)
        RUN_WITHIN(limit_s(), three_pools)
        RUN_WITHIN(limit_s(), bounded_pools)
        RUN_WITHIN(limit_s(), pools_that_are_shut_down_meanwhile)
        RUN_WITHIN(limit_s(), bounded_pools_that_are_shut_down_meanwhile)
        RUN_SEEDS(seeds(), 10, any_seed)
    };
    char seed[24];
    snprintf(seed, sizeof seed, "%lu", test_seed(argc, argv));
    setenv("CF_TEST_SEED", seed, 1);
    return test_run_all(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
