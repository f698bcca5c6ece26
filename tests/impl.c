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

typedef void point_hook(int id);
static point_hook *_Atomic hook;

void test_point_hook(point_hook *wanted) {
    atomic_store(&hook, wanted);
}

static void pass_point(int id) {
    point_hook *const now = atomic_load_explicit(&hook, memory_order_acquire);
    if (now != NULL) {
        now(id);
    }
}

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
