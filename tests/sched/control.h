/* A controlled scheduler: the threads of a test are coroutines of one thread, of which one runs at
 * a time, and which one that is decides a seed. Every atomic access, lock, park and unpark of the
 * library comes here (see hooks.h), and each is a place where another thread may go on. So a seed
 * is a schedule, and runs again whenever it is asked for.
 *
 * What is modelled: threads; the futex's contract, or mutexes and condition variables; wake-ups
 * without a reason; a clock that stands still unless it is read, a wait ends by its deadline, or a
 * spinning thread pauses; store buffers; memory that is never read or written after it was freed,
 * stacks included. What is not: reads that are older than memory (beyond one's own buffer, loads
 * see what is there), fork, signals, data races on plain memory (that is ThreadSanitizer's). */
#ifndef CF_TEST_CONTROL_H
#define CF_TEST_CONTROL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- what a scenario may call ---- */

typedef void *ctl_thread_fn(void *arg);

int ctl_spawn(ctl_thread_fn *fn, void *arg); /* its index */
void ctl_join(int thread);
void ctl_yield(void);               /* a place where others may go on */
void ctl_publish(void);             /* what this thread has stored is seen by all */
unsigned ctl_random(unsigned below); /* the scenario's own choices are the seed's as well */
int64_t ctl_clock(void);            /* nanoseconds; reading it takes no time */
size_t ctl_live(void);              /* blocks not freed yet */
uintptr_t ctl_peek(atomic_uintptr_t *word); /* what it holds, without a step */

/* Ends the schedule as a failure, and with it this process. */
_Noreturn void ctl_fail(const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    ;

#define CHECK(condition) \
    ((condition) ? (void)0 : ctl_fail("line %d: %s does not hold", __LINE__, #condition))

/* A future is in nobody's hands until it is handed out again. */
void ctl_recycled(const void *memory, size_t size, bool in_use);

typedef struct ctl_scenario {
    const char *name;
    void (*run)(void);
} ctl_scenario;

/* `settled` is called after each schedule, when all threads have ended. */
int ctl_main(int argc, char **argv, const ctl_scenario *scenarios, void (*settled)(void));

extern int ctl_now; /* the thread that runs */
#define CTL_THREADS 12

/* ---- what the hooks call ---- */

typedef enum ctl_change { CTL_EXCHANGE, CTL_ADD, CTL_OR } ctl_change;

uintptr_t ctl_load(atomic_uintptr_t *word);
void ctl_store(atomic_uintptr_t *word, uintptr_t value, memory_order order);
uintptr_t ctl_rmw(atomic_uintptr_t *word, ctl_change change, uintptr_t value);
bool ctl_cas(atomic_uintptr_t *word, uintptr_t *expected, uintptr_t desired);
void ctl_pause(void);
void *ctl_malloc(size_t size);
void ctl_free(void *memory);

long ctl_syscall(long number, ...);
struct timespec;
int ctl_clock_gettime(int clock, struct timespec *now);
int ctl_thread_create(unsigned long *thread, const void *attributes, ctl_thread_fn *fn, void *arg);
int ctl_thread_join(unsigned long thread, void **result);
int ctl_thread_detach(unsigned long thread);

typedef struct ctl_mutex {
    int owner; /* 0: free; else the thread's index plus one */
} ctl_mutex;
typedef struct ctl_condition {
    char address;
} ctl_condition;

int ctl_mutex_lock(ctl_mutex *mutex);
int ctl_mutex_unlock(ctl_mutex *mutex);
int ctl_condition_wait(ctl_condition *condition, ctl_mutex *mutex, const struct timespec *until);
int ctl_condition_broadcast(ctl_condition *condition);

#endif
