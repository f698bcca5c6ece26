/* Puts the code of cfutures.h itself into a model: a few threads that call its inner functions on a
 * state made by hand, as small as can be. Compiled as it is, a model is a program that repeats the
 * whole many times with real threads and the system's futex. Compiled with -DGENMC it is the input
 * of GenMC, which explores every execution that C11's memory model allows (as RC11 has it): it
 * reports data races, accesses to memory that was freed, failed checks, and waits that never end.
 *
 * In a model: setup, up to THREADS thread functions, teardown, and MODEL(setup, teardown, ...).
 * Everything starts as zero in each round; what models share in a round is static.
 *
 * For GenMC tests/check_models.sh makes a copy of the header in which nobody spins more than once
 * before he sleeps, since each look at a word makes more executions. */
#ifndef CF_TEST_MODEL_H
#define CF_TEST_MODEL_H

#include <stddef.h>

#define THREADS 4
#define CFUTURES_STATIC 1
#define CFUTURES_IMPLEMENTATION 1

typedef void model_fn(void);

typedef struct model_thread {
    model_fn *fn;
    size_t    index;
} model_thread;

#ifdef GENMC

#include <assert.h>
#include <errno.h>
#include <genmc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>

/* GenMC brings headers of its own, with less in them. Nothing of this is called in a model. */
int snprintf(char *, size_t, const char *, ...);
int vsnprintf(char *, size_t, const char *, __builtin_va_list);
int fscanf(FILE *, const char *, ...);
char *fgets(char *, int, FILE *);
#define thrd_detach(thread) ((void)(thread), 0)
#define pthread_atfork(prepare, parent, child) ((void)(child), 0)
#define pthread_attr_init(attributes) ((void)(attributes), 1)
#define pthread_attr_destroy(attributes) ((void)(attributes), 0)
#define pthread_attr_getstacksize(attributes, size) ((void)(attributes), (void)(size), 1)
#define prctl(...) ((void)0)
#undef errno
#define errno model_errno
static _Thread_local int model_errno;

/* It knows no copies of memory but those whose type it sees. All that a model copies are words, and
 * all that it clears is clear: there is one round. */
static inline void *model_copy(void *to, const void *from, size_t size)
{
    for (size_t i = 0; i < size / sizeof(uintptr_t); i++)
        ((uintptr_t *)to)[i] = ((const uintptr_t *)from)[i];
    return to;
}

#define memcpy(to, from, size) model_copy(to, from, size)
#define memmove(to, from, size) model_copy(to, from, size)
#define memset(to, value, size) ((void)(to))

/* What the copy of the header lacks: the clock, on which each look finds that a second has passed;
 * memory; parking; the lock, for which GenMC's own mutex stands in models of something else;
 * threads, which are the model's. */
#define cf__now() (++model_time * CF_SECOND)
#define cf__alloc_lines(size) aligned_alloc(64, size)
#define cf__free_lines(memory) free(memory)
#define cf__park(word, seen, deadline) model_park(word, seen)
#define cf__unpark(word, count) model_unpark(word, count)
#define cf__start_workers(executor) model_start(executor)
static _Thread_local int64_t model_time;
static bool model_park(void *word, uintptr_t seen);
static void model_unpark(const void *word, long count);
#define MODEL_LOCK(word) pthread_mutex_lock((pthread_mutex_t *)(word))
#define MODEL_UNLOCK(word) pthread_mutex_unlock((pthread_mutex_t *)(word))
#define __builtin_ia32_pause() ((void)0)
#define syscall(...) 0L

#include "cfutures.h"

#define CHECK(condition) assert(condition)

/* ---- the futex: a sleeper can only be awoken by a wake-up, and only by one that comes after it
 * has lain down. To wait for the word itself would hide a forgotten wake-up. The lock is the one in
 * the kernel. ---- */

static pthread_mutex_t model_kernel;
static _Thread_local size_t model_self; /* which thread */
static void *model_bed[THREADS]; /* on which word it sleeps. W, R: the kernel's lock */
static cf__word model_awake[THREADS];

static bool model_park(void *word, uintptr_t seen)
{
    pthread_mutex_lock(&model_kernel);
    const bool sleeps = (uint32_t)cf__load_relaxed(word) == (uint32_t)seen;
    if (sleeps) {
        model_bed[model_self] = word;
        cf__store_relaxed(&model_awake[model_self], 0);
    }
    pthread_mutex_unlock(&model_kernel);
    if (!sleeps) return true;
    __VERIFIER_loop_begin();
    for (bool awake = false; !awake;) { /* a wait that liveness depends on, and the only one */
        __VERIFIER_spin_start();
        awake = cf__load_relaxed(&model_awake[model_self]) != 0;
        __VERIFIER_spin_end(awake);
    }
    return true;
}

static void model_unpark(const void *word, long count)
{
    pthread_mutex_lock(&model_kernel);
    for (size_t i = 0; i < THREADS; i++) {
        if (count > 0 && model_bed[i] == word) {
            model_bed[i] = NULL;
            count--;
            cf__store_relaxed(&model_awake[i], 1);
        }
    }
    pthread_mutex_unlock(&model_kernel);
}

static inline bool model_start(cf_executor *executor)
{
    CHECK(executor == NULL && "all workers are there");
    return false;
}

/* From here on nobody may look at the word: what is not atomic is in a race with that. */
static inline void model_bury(cf__word *word) { *(uintptr_t *)word = 0; }

static inline void model_clear(void *object, size_t size) { (void)object, (void)size; }

static void *model_main(void *arg)
{
    const model_thread *const thread = arg;
    model_self = thread->index;
    thread->fn();
    return NULL;
}

static inline int model_run(model_fn *setup, model_fn *teardown, model_thread *threads,
                            size_t count)
{
    pthread_t handles[THREADS];
    setup();
    for (size_t i = 0; i < count; i++) {
        threads[i].index = i;
        pthread_create(&handles[i], NULL, model_main, &threads[i]);
    }
    for (size_t i = 0; i < count; i++) pthread_join(handles[i], NULL);
    teardown();
    return 0;
}

#else

#include "cfutures.h"

#include <pthread.h>
#include <sched.h>

#define CHECK(condition) ((condition) ? (void)0 : model_fail(#condition, __LINE__))

static void model_fail(const char *condition, int line)
{
    fprintf(stderr, "line %d: not so: %s\n", line, condition);
    exit(1);
}

static inline void model_bury(cf__word *word) { cf__store_relaxed(word, ~(uintptr_t)0); }

static inline void model_clear(void *object, size_t size) { memset(object, 0, size); }

static cf__word model_ready;

static inline void *model_main(void *arg)
{
    const model_thread *const thread = arg;
    (void)cf__fetch_add(&model_ready, 0 - (uintptr_t)1);
    while (cf__load_acquire(&model_ready) != 0) (void)sched_yield();
    thread->fn();
    return NULL;
}

static inline void model_round(model_thread *threads, size_t count)
{
    pthread_t handles[THREADS];
    cf__store_relaxed(&model_ready, count);
    for (size_t i = 0; i < count; i++)
        CHECK(pthread_create(&handles[i], NULL, model_main, &threads[i]) == 0);
    for (size_t i = 0; i < count; i++) (void)pthread_join(handles[i], NULL);
}

static inline int model_run(model_fn *setup, model_fn *teardown, model_thread *threads,
                            size_t count)
{
    const char *const given = getenv("ROUNDS");
    for (long left = given != NULL ? strtol(given, NULL, 10) : 1000; left > 0; left--) {
        setup();
        model_round(threads, count);
        teardown();
    }
    return 0;
}

#endif

#define MODEL(setup, teardown, ...) \
    int main(void) \
    { \
        static model_thread threads[] = {__VA_ARGS__}; \
        return model_run(setup, teardown, threads, sizeof threads / sizeof *threads); \
    }

#endif
