/* The one translation unit of the tests with the implementation in it, compiled once for each
 * backend. The header comes first and without a feature macro, as in a user's file. */
#ifdef CFUTURES_MALLOC
#include "seam.h" /* where its allocator is declared */
#define ALLOC_HOOKED true
#else
#define ALLOC_HOOKED false
#endif
#ifdef CFUTURES_HELGRIND
/* Helgrind takes atomics for plain accesses: it is told which words are atomic, and which releases
 * feed which acquires; then it checks everything else by these orders. */
#include <valgrind/helgrind.h>
#define CFUTURES_TEST_ATOMIC(word) VALGRIND_HG_DISABLE_CHECKING((word), sizeof *(word))
#define CFUTURES_TEST_RELEASE(word) ANNOTATE_HAPPENS_BEFORE(word)
#define CFUTURES_TEST_ACQUIRE(word) ANNOTATE_HAPPENS_AFTER(word)
#endif
#ifdef CFUTURES_MEMCHECK
/* Memcheck does not see what another process writes to shared memory. */
#include <valgrind/memcheck.h>
#define CFUTURES_TEST_RECEIVED(data, size) VALGRIND_MAKE_MEM_DEFINED((data), (size))
#endif
static void pass_point(int id);
#define CFUTURES_TEST_POINT(id) pass_point(id)
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include "seam.h"

#include <stdatomic.h>
#include <stdlib.h>

#if defined(CFUTURES_POSIX)
#define BACKEND_THREADS "posix"
#elif defined(CFUTURES_PTHREADS)
#define BACKEND_THREADS "pthreads"
#else
#define BACKEND_THREADS "c11"
#endif
#if defined(CFUTURES_NO_FUTEX)
#define BACKEND_PARKING " generic"
#else
#define BACKEND_PARKING ""
#endif

const char *test_backend(void) {
    return BACKEND_THREADS BACKEND_PARKING;
}

/* ---------------------------------------------------------------- points */

typedef void point_hook(int id);
static point_hook *_Atomic hook;
static atomic_uint schedule; /* the seed; 0: threads run as they like */
static atomic_bool wraps;

void test_point_hook(point_hook *wanted) {
    atomic_store(&hook, wanted);
}

void test_perturb(unsigned seed) {
    atomic_store(&schedule, seed);
}

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U;
    x = (x ^ x >> 27) * 0x94d049bb133111ebU;
    return x ^ x >> 31;
}

/* For as long as this thread is held up others run. Relaxed throughout: what perturbs the threads
 * must not order them, lest it hide a race. */
static void hold_up(unsigned how, unsigned long amount) {
    cf__word nobody = 0;
    if (how < 4) {
#ifdef CF__PTHREADS
        (void)sched_yield();
#else
        thrd_yield();
#endif
    } else if (how < 7) {
        for (unsigned long i = 0; i < amount % 256; i++) {
            cf__pause();
        }
    } else {
        (void)cf__park(&nobody, 0, cf__deadline((cf_duration)(amount % 200) * CF_MICROSECOND));
    }
}

/* The seed says for each point whether, how often and how; when, each thread draws for itself. */
static void perturb(unsigned seed, int id) {
    static atomic_uint threads;
    static _Thread_local uint64_t random;
    if (random == 0) {
        random = mix(seed + ((uint64_t)atomic_fetch_add_explicit(&threads, 1,
                                                                 memory_order_relaxed)
                             << 32)) | 1;
    }
    const uint64_t plan = mix(((uint64_t)seed << 32) + (uint64_t)id);
    const unsigned how = plan >> 8 & 7;
    const uint64_t one_of = (uint64_t)1 << (how == 7 ? 6 + plan % 4 : plan % 8);
    random = mix(random + 0x9e3779b97f4a7c15U);
    if ((plan >> 16) % 3 != 0 && random % one_of == 0) {
        hold_up(how, (unsigned long)(random >> 32));
    }
}

/* A worker that has taken nothing yet: first bottom, so that thieves see an empty deque. */
static void wrap_worker(void) {
    cf__worker *const worker = cf__self->worker;
    const uintptr_t start = 0 - (uintptr_t)100;
    cf__store_relaxed(&worker->bottom, start);
    cf__store_seq_cst(&worker->top, start);
    worker->batch_end = start;
    worker->ticks = start;
}

void test_wrap(struct cf_executor *executor) {
    const uintptr_t start = 0 - (uintptr_t)100, place = start * CF__STEP;
    (void)cf__lock_both(executor);
    cf__store_relaxed(&executor->head, place);
    executor->heap.head_seen = place;
    cf__store_relaxed(&executor->left, 0 - (uintptr_t)1);
    cf__store_relaxed(&executor->space, 0 - (uintptr_t)3);
    /* as if so many had been handed out, and were all back */
    cf__store_relaxed(&executor->heap.handed, start / 2 + 1);
    cf__store_relaxed(&executor->heap.freed, start / 2 * 2);
    cf__unlock_both(executor, place);
    atomic_store(&wraps, true);
}

const int test_point_lose = CF__POINT_LOSE, test_point_load = CF__POINT_LOAD;

static void pass_point(int id) {
    point_hook *const now = atomic_load_explicit(&hook, memory_order_acquire);
    const unsigned seed = atomic_load_explicit(&schedule, memory_order_relaxed);
    if (now != NULL) {
        now(id);
    }
    if (seed != 0) {
        perturb(seed, id);
    }
    if (id == CF__POINT_BEGIN && atomic_load_explicit(&wraps, memory_order_relaxed)) {
        wrap_worker();
    }
}

/* ---------------------------------------------------------------- POSIX or not */

struct cf_executor *test_process_pool(const struct cf_pool_options *options) {
#ifdef CFUTURES_POSIX
    return cf_process_pool_new(options, NULL);
#else
    (void)options;
    return NULL;
#endif
}

int test_iter_fd(struct cf_as_completed_iter *iter) {
#ifdef CFUTURES_POSIX
    return cf_as_completed_fd(iter);
#else
    (void)iter;
    return -1;
#endif
}

/* ---------------------------------------------------------------- memory */

static atomic_size_t live;
static atomic_size_t total;
static atomic_size_t failures;
static atomic_size_t fail_from; /* 0: never; else the value of `total` that fails first */
static atomic_size_t fail_to;

void *test_malloc(size_t size) {
    const size_t call = atomic_fetch_add(&total, 1) + 1;
    const size_t from = atomic_load(&fail_from);
    if (from != 0 && call >= from && call <= atomic_load(&fail_to)) {
        atomic_fetch_add(&failures, 1);
        return NULL;
    }
    void *ptr = malloc(size);
    if (ptr != NULL) {
        atomic_fetch_add(&live, 1);
    }
    return ptr;
}

void test_free(void *ptr) {
    if (ptr != NULL) {
        atomic_fetch_sub(&live, 1);
    }
    free(ptr);
}

bool test_alloc_hooked(void) {
    return ALLOC_HOOKED;
}

size_t test_alloc_live(void) {
    return atomic_load(&live);
}

size_t test_alloc_total(void) {
    return atomic_load(&total);
}

void test_alloc_fail(size_t nth, bool onward) {
    const size_t from = atomic_load(&total) + nth;
    atomic_store(&fail_to, onward ? (size_t)-1 : from);
    atomic_store(&fail_from, from);
}

void test_alloc_recover(void) {
    atomic_store(&fail_from, 0);
}

size_t test_alloc_failures(void) {
    return atomic_load(&failures);
}
