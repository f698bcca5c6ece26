/* Puts the controlled scheduler under cfutures.h: include this, then the header with its
 * implementation. All system headers come first, so that the names below are the library's alone.
 *
 * CONTROL_GENERIC: parks on mutexes and condition variables instead of the futex. */
#ifndef CF_TEST_HOOKS_H
#define CF_TEST_HOOKS_H

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "control.h"

#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_fetch_or_explicit
#undef atomic_compare_exchange_strong_explicit
#define atomic_load_explicit(word, order) ctl_load(word)
#define atomic_store_explicit(word, value, order) ctl_store(word, value, order)
#define atomic_exchange_explicit(word, value, order) ctl_rmw(word, CTL_EXCHANGE, value)
#define atomic_fetch_add_explicit(word, value, order) ctl_rmw(word, CTL_ADD, value)
#define atomic_fetch_or_explicit(word, value, order) ctl_rmw(word, CTL_OR, value)
#define atomic_compare_exchange_strong_explicit(word, expected, desired, order, failed) \
    ctl_cas(word, expected, desired)
#define __builtin_ia32_pause() ctl_pause() /* elsewhere a pause goes unseen, which costs time */

#define CFUTURES_PTHREADS 1
#ifdef CONTROL_GENERIC
#define CFUTURES_NO_FUTEX 1
#endif
#define CFUTURES_MALLOC(size) ctl_malloc(size)
#define CFUTURES_FREE(memory) ctl_free(memory)
#define CF__TEST_FUTURE(future, in_use) ctl_recycled(future, 4 * sizeof(void *), in_use)

#define syscall ctl_syscall
#define clock_gettime(clock, now) ctl_clock_gettime((int)(clock), now)
#define fopen(path, mode) ((void)(path), (FILE *)NULL) /* no quota */
#define prctl(...) ((void)0)
#define pthread_sigmask(how, set, old) ((void)(how), (void)(set), (void)(old), 0)
#define sched_yield() (ctl_pause(), 0)
#define pthread_create(thread, attributes, fn, arg) ctl_thread_create(thread, attributes, fn, arg)
#define pthread_join(thread, result) ctl_thread_join(thread, result)
#define pthread_detach(thread) ctl_thread_detach(thread)

#define pthread_mutex_t ctl_mutex
#define pthread_cond_t ctl_condition
#define pthread_mutex_init(mutex, attributes) ((mutex)->owner = 0)
#define pthread_mutex_lock(mutex) ctl_mutex_lock(mutex)
#define pthread_mutex_unlock(mutex) ctl_mutex_unlock(mutex)
#define pthread_cond_init(condition, attributes) ((void)(attributes), (condition)->address = 0)
#define pthread_cond_wait(condition, mutex) ctl_condition_wait(condition, mutex, NULL)
#define pthread_cond_timedwait(condition, mutex, until) ctl_condition_wait(condition, mutex, until)
#define pthread_cond_broadcast(condition) ctl_condition_broadcast(condition)

/* Two variables of the library belong to a thread. Here each is a place in an array, which a
 * function names: where the header declares the variable, it now declares that function. On a
 * third, which this would not cover, the compiler warns that the attribute makes no sense. */
#define _Thread_local __attribute__((nothrow))
#define cf__self (*ctl_self())
#define cf__visits (*ctl_visits())
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#ifdef __clang__
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wdeprecated-non-prototype"
#endif

#endif
