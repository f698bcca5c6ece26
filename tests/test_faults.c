/* Executors on a system that refuses: each call that can fail does so, the first one, the second
 * one, ... until a whole scenario needs fewer; once, and from there on. Each time everything ends
 * with a documented status, no thread, descriptor or block of memory is left, nothing hangs, and
 * after the recovery the same executor works. (test_process_faults.c: the same for processes.)
 *
 * The linker puts the functions below between the library and the system:
 * link: -Wl,--wrap=pthread_create,--wrap=thrd_create,--wrap=syscall,--wrap=clock_gettime
 * link: -Wl,--wrap=pthread_mutex_init,--wrap=pthread_cond_init,--wrap=mtx_init,--wrap=cnd_init
 * link: -Wl,--wrap=pthread_condattr_init,--wrap=pthread_condattr_setclock,--wrap=pthread_atfork
 * link: -Wl,--wrap=pthread_attr_init,--wrap=pthread_attr_setstacksize,--wrap=timerfd_create
 * link: -Wl,--wrap=fopen,--wrap=fcntl
 *
 *     test_faults memory_is_refused          all scenarios; CF_TEST_VERBOSE=1 lists the calls
 *     CF_TEST_FAULT="map once 17" test_faults memory_is_refused      only that one
 *     CF_TEST_SEEDS=1000 test_faults two_calls_are_refused           pairs drawn from seeds */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* syscall */
#endif
#include <time.h>
/* For the tests' own clock, which goes on. */
int __real_clock_gettime(clockid_t clock, struct timespec *time);
#define clock_gettime __real_clock_gettime
#include "test.h"
#undef clock_gettime

#include "tasks.h"

#include <stdarg.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#if !defined(__STDC_NO_THREADS__)
#include <threads.h>
#endif

/* ---------------------------------------------------------------- the plan */

typedef enum call {
    NONE,
    MEMORY,
    THREAD,
    LOCK, /* mutexes and condition variables of the backend without futexes */
    ATTRIBUTES,
    AT_FORK,
    TIMER,
    DUPLICATE,
    FILES,
    INTERRUPTED, /* a wait, by a signal */
    CHANGED,     /* a wait, since the word has changed */
    CLOCK,
    CALLS
} call;

static const char *const call_names[CALLS] = {
    "nothing",        "memory",    "threads",     "locks and conditions", "thread attributes",
    "fork handlers",  "timers",    "duplicates",  "files",                "waits (EINTR)",
    "waits (EAGAIN)", "the clock"};

/* Two, since the soak refuses pairs. The allocator has a plan of its own, see seam.h. */
typedef struct fault {
    atomic_int kind, first, onward;
    atomic_int calls, failures;
} fault;

static fault faults[2];

static bool strikes(fault *f, call kind) {
    if (atomic_load(&f->kind) != (int)kind) {
        return false;
    }
    const int past = atomic_fetch_add(&f->calls, 1) + 1 - atomic_load(&f->first);
    if (past < 0 || (past > 0 && atomic_load(&f->onward) == 0)) {
        return false;
    }
    atomic_fetch_add(&f->failures, 1);
    return true;
}

static bool is_refused(call kind) {
    const bool first = strikes(&faults[0], kind);
    return strikes(&faults[1], kind) || first;
}

/* ---------------------------------------------------------------- the calls */

#define WRAP(kind, result, name, parameters, arguments, refusal)                                   \
    result __real_##name parameters;                                                               \
    result __wrap_##name parameters;                                                               \
    result __wrap_##name parameters {                                                              \
        return is_refused(kind) ? (refusal) : __real_##name arguments;                             \
    }

WRAP(THREAD, int, pthread_create,
     (pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *arg),
     (thread, attributes, function, arg), EAGAIN)
WRAP(LOCK, int, pthread_mutex_init, (pthread_mutex_t *m, const pthread_mutexattr_t *a), (m, a),
     ENOMEM)
WRAP(LOCK, int, pthread_cond_init, (pthread_cond_t *c, const pthread_condattr_t *a), (c, a), ENOMEM)
WRAP(LOCK, int, pthread_condattr_init, (pthread_condattr_t *a), (a), ENOMEM)
WRAP(LOCK, int, pthread_condattr_setclock, (pthread_condattr_t *a, clockid_t clock), (a, clock),
     EINVAL)
WRAP(ATTRIBUTES, int, pthread_attr_init, (pthread_attr_t *a), (a), ENOMEM)
WRAP(ATTRIBUTES, int, pthread_attr_setstacksize, (pthread_attr_t *a, size_t size), (a, size),
     EINVAL)
WRAP(AT_FORK, int, pthread_atfork, (void (*before)(void), void (*after)(void), void (*child)(void)),
     (before, after, child), ENOMEM)
WRAP(TIMER, int, timerfd_create, (int clock, int flags), (clock, flags), (errno = EMFILE, -1))
WRAP(FILES, FILE *, fopen, (const char *path, const char *mode), (path, mode),
     (errno = EMFILE, NULL))
WRAP(CLOCK, int, clock_gettime, (clockid_t clock, struct timespec *time), (clock, time),
     (errno = EINVAL, -1))

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...) {
    va_list list;
    va_start(list, command);
    const long arg = va_arg(list, long);
    va_end(list);
    if (command == F_DUPFD_CLOEXEC && is_refused(DUPLICATE)) {
        errno = EMFILE;
        return -1;
    }
    return __real_fcntl(fd, command, arg);
}

#if !defined(__STDC_NO_THREADS__)
WRAP(THREAD, int, thrd_create, (thrd_t *thread, thrd_start_t function, void *arg),
     (thread, function, arg), thrd_nomem)
WRAP(LOCK, int, mtx_init, (mtx_t *m, int type), (m, type), thrd_error)
WRAP(LOCK, int, cnd_init, (cnd_t *c), (c), thrd_nomem)
#endif

#ifdef __linux__
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    long args[6] = {0, 0, 0, 0, 0, 0};
    const int count = number == SYS_futex ? 6 : number == SYS_sched_getaffinity ? 3 : 2;
    va_list list;
    va_start(list, number);
    for (int i = 0; i < count; i++) {
        args[i] = va_arg(list, long);
    }
    va_end(list);
    enum { WAIT_UNTIL = 9 };
    if (number == SYS_futex && (args[1] & 127) == WAIT_UNTIL) {
        const bool interrupted = is_refused(INTERRUPTED), changed = is_refused(CHANGED);
        if (interrupted || changed) {
            errno = interrupted ? EINTR : EAGAIN;
            return -1;
        }
    }
    if (number == SYS_clock_gettime && is_refused(CLOCK)) {
        errno = EINVAL;
        return -1;
    }
    return __real_syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}
#endif

/* ---------------------------------------------------------------- what may happen */

static bool harmless; /* of what is refused now no task may notice anything */
static bool well;     /* nothing has been noticed */

/* CF_SYSTEM: no thread. A timeout: the clock stood still. */
static void ends(cf_status status) {
    well = well && status == CF_OK;
    CHECK(status == CF_OK || (!harmless && (status == CF_NO_MEMORY || status == CF_SYSTEM)));
}

static void ends_with_int(cf_future *future, int expected) {
    const cf_status status = cf_future_wait(future, CF_FOREVER);
    ends(status);
    if (status == CF_OK) {
        CHECK_EQ(*(const int *)cf_future_result(future, 0, NULL), expected);
    } else {
        CHECK(cf_future_result(future, 0, NULL) == NULL);
        CHECK(cf_future_error_message(future)[0] != '\0');
    }
    cf_future_release(future);
}

static cf_executor *open_pool(const cf_pool_options *options) {
    cf_status status = CF_INVALID;
    cf_executor *executor = cf_thread_pool_new(options, &status);
    CHECK((executor != NULL) == (status == CF_OK));
    ends(status);
    return executor;
}

static void recover(void) {
    test_alloc_recover();
    atomic_store(&faults[0].kind, NONE);
    atomic_store(&faults[1].kind, NONE);
}

/* The executor that has met the fault works as if nothing had happened. Whoever starts a scenario
 * with it ends it here. */
static void close_pool(cf_executor *executor) {
    recover();
    if (executor == NULL) {
        return;
    }
    for (int i = 0; i < 4; i++) {
        cf_future *future = cf_executor_submit(executor, task_square, &i, sizeof i);
        CHECK_EQ(int_of(future), i * i);
        cf_future_release(future);
    }
    const cf_stats stats = stats_of(executor);
    CHECK_EQ(stats.queued, 0);
    CHECK_EQ(stats.submitted, stats.finished + stats.cancelled);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- scenarios */

enum { COUNT = 8, LONG = 100 };

static const int numbers[COUNT] = {0, 1, 2, 3, 4, 5, 6, 7};

static atomic_int freed;

static void count_free(void *ptr) {
    CHECK(ptr == &freed);
    atomic_fetch_add(&freed, 1);
}

static int task_text(cf_task *task, void *arg) {
    char text[LONG];
    CHECK_EQ(cf_task_arg_size(task), LONG);
    memcpy(text, arg, LONG);
    return cf_task_return(task, text, LONG); /* whatever it says, the future will say it */
}

static int task_explains(cf_task *task, void *arg) {
    (void)arg;
    return cf_task_fail(task, 3, "%099d", 7);
}

static void submit_each_form(void) {
    char text[LONG] = "some text";
    cf_executor *executor = open_pool(&(cf_pool_options){.max_workers = 2});
    cf_future *futures[COUNT];
    atomic_store(&freed, 0);
    cf_future *with = cf_executor_submit_with(executor, task_nothing, &freed, 0,
                                              &(cf_submit_options){.free_arg = count_free});
    cf_future *big = cf_executor_submit(executor, task_text, text, sizeof text);
    cf_future *failing = cf_executor_submit(executor, task_explains, CF_NO_ARG);
    if (executor != NULL) {
        const cf_status many = cf_executor_submit_many(executor, task_square, numbers, COUNT,
                                                       sizeof *numbers, futures);
        ends(many);
        for (int i = 0; i < COUNT; i++) {
            ends_with_int(futures[i], i * i);
        }
        const cf_status status = cf_future_wait(big, CF_FOREVER);
        ends(status);
        CHECK(status != CF_OK || memcmp(cf_future_result(big, 0, NULL), text, sizeof text) == 0);
        const cf_status failed = cf_future_wait(failing, CF_FOREVER);
        ends(failed == CF_TASK_FAILED ? CF_OK : failed);
        ends(cf_future_wait(with, CF_FOREVER));
        const char *message = cf_future_error_message(failing);
        well = well && strlen(message) == 99;
        CHECK(!harmless || strlen(message) == 99);
    }
    cf_future_release(with);
    cf_future_release(big);
    cf_future_release(failing);
    CHECK_EQ(atomic_load(&freed), 1);
    close_pool(executor);
}

static int task_nested(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    const int less = n - 1;
    if (n == 0) {
        return return_int(task, 0);
    }
    cf_future *child = cf_executor_submit(cf_task_executor(task), task_nested, &less, sizeof less);
    cf_status status = CF_SYSTEM;
    const int *sum = cf_future_result(child, CF_FOREVER, &status);
    ends(status);
    const int result = sum != NULL ? *sum + n : 0;
    cf_future_release(child);
    return status == CF_OK ? return_int(task, result) : cf_task_fail(task, status, "no child");
}

/* int n: as deep. A task tells what its child had met. */
static void nest_in(cf_task_fn *fn, int n) {
    cf_executor *executor = open_pool(&(cf_pool_options){.max_workers = 1});
    cf_future *future = cf_executor_submit(executor, fn, &n, sizeof n);
    cf_status status = executor != NULL ? cf_future_wait(future, CF_FOREVER) : CF_NO_MEMORY;
    if (status == CF_TASK_FAILED) {
        status = (cf_status)cf_future_error_code(future);
    }
    ends(status);
    cf_future_release(future);
    close_pool(executor);
}

static void nest(void) {
    nest_in(task_nested, 3);
}

static int task_deep(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    const int less = n - 1;
    if (n == 0) {
        return 0;
    }
    cf_future *child = cf_executor_submit(cf_task_executor(task), task_deep, &less, sizeof less);
    const cf_status status = cf_future_wait(child, CF_FOREVER);
    const int code = cf_future_error_code(child);
    cf_future_release(child);
    return status == CF_OK ? 0 : code != 0 ? code : status;
}

/* So deep that other threads go on. */
static void nest_deeply(void) {
    nest_in(task_deep, 1100);
}

static void count_call(cf_future *future, void *user) {
    CHECK(cf_future_done(future));
    atomic_fetch_add((atomic_int *)user, 1);
}

static void call_back(void) {
    cf_executor *executor = open_pool(&(cf_pool_options){.max_workers = 1});
    gate g = GATE_INIT;
    atomic_int calls = 0;
    int added = 0;
    cf_future *future = cf_executor_submit(executor, task_block, &g, 0);
    for (int i = 0; i < 3 && executor != NULL; i++) {
        const cf_status status = cf_future_add_done_callback(future, count_call, &calls);
        ends(status);
        added += status == CF_OK;
    }
    gate_open(&g);
    ends(executor != NULL ? cf_future_wait(future, CF_FOREVER) : CF_NO_MEMORY);
    if (executor != NULL) {
        UNTIL(atomic_load(&calls) == added);
    }
    cf_future_release(future);
    close_pool(executor);
}

static bool next_number(void *item, void *user) {
    int *next = user;
    if (*next == COUNT) {
        return false;
    }
    memcpy(item, next, sizeof *next);
    (*next)++;
    return true;
}

static void map_with(const cf_map_options *wanted) {
    cf_map_options options = *wanted;
    cf_executor *executor = open_pool(&(cf_pool_options){.max_workers = 2});
    int next = 0, seen = 0;
    options.user = &next;
    cf_map_iter *iter = cf_executor_map(executor, task_square,
                                        options.next_item != NULL ? NULL : numbers, COUNT,
                                        sizeof *numbers, &options);
    CHECK(!harmless || iter != NULL);
    well = well && iter != NULL;
    for (cf_status status = CF_OK; iter != NULL; seen++) {
        const int *result = cf_map_next(iter, &status);
        if (status == CF_END) {
            break;
        }
        ends(status);
        if (result != NULL) {
            const int n = (int)cf_map_index(iter);
            CHECK_EQ(*result, n * n);
        }
        CHECK(seen <= COUNT);
    }
    CHECK(!well || seen == COUNT);
    cf_status status = CF_OK;
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, iter != NULL ? CF_END : CF_INVALID);
    cf_map_close(iter);
    close_pool(executor);
}

static void map(void) {
    map_with(&(cf_map_options){0});
}

static void map_in_chunks_unordered(void) {
    map_with(&(cf_map_options){.chunksize = 3, .unordered = true});
}

static void map_in_a_window(void) {
    map_with(&(cf_map_options){.buffersize = 2});
}

static void map_a_generator(void) {
    map_with(&(cf_map_options){.buffersize = 3, .chunksize = 2, .next_item = next_number});
}

static void map_and_close(void) {
    cf_executor *executor = open_pool(&(cf_pool_options){.max_workers = 1});
    cf_map_iter *iter = cf_executor_map(executor, task_square, numbers, COUNT, sizeof *numbers,
                                        &(cf_map_options){.buffersize = 4});
    cf_status status = CF_OK;
    (void)cf_map_next(iter, &status);
    ends(iter != NULL ? status : CF_NO_MEMORY);
    cf_map_close(iter);
    close_pool(executor);
}

typedef struct wide {
    int n;
    char padding[LONG];
} wide;

static void map_array(void) {
    cf_executor *executor = open_pool(&(cf_pool_options){.max_workers = 2});
    wide items[COUNT];
    int results[COUNT];
    size_t failed = COUNT;
    memset(items, 0, sizeof items);
    for (int i = 0; i < COUNT; i++) {
        items[i].n = i;
    }
    if (executor != NULL) {
        const cf_status status =
            cf_executor_map_array(executor, task_square, items, sizeof items[0], results,
                                  sizeof results[0], COUNT, NULL, &failed);
        ends(status);
        for (int i = 0; i < COUNT && status == CF_OK; i++) {
            CHECK_EQ(results[i], i * i);
        }
    }
    close_pool(executor);
}

/* Also adds one, and asks for the descriptor where there is one. */
static void deliver(void) {
    cf_executor *executor = open_pool(&(cf_pool_options){.max_workers = 2});
    cf_future *futures[COUNT + 1];
    size_t delivered = 0, expected = COUNT;
    for (int i = 0; i <= COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_square, &i, sizeof i);
    }
    cf_as_completed_iter *iter = cf_as_completed(futures, COUNT, CF_FOREVER);
    if (iter != NULL) {
        const cf_status status = cf_as_completed_add(iter, futures[COUNT]);
        ends(status);
        struct pollfd readable = {test_iter_fd(iter), POLLIN, 0};
        if (readable.fd >= 0) {
            CHECK_EQ(poll(&readable, 1, (int)(limit(TEST_GATE_LIMIT_S) / 1000000)), 1);
        }
        cf_status why = CF_OK;
        while (cf_as_completed_next(iter, NULL, &why) != NULL) {
            delivered++;
        }
        CHECK_STATUS(why, CF_END);
        expected += status == CF_OK;
    }
    CHECK(!harmless || iter != NULL);
    well = well && iter != NULL && delivered == expected;
    CHECK(iter == NULL || executor == NULL || delivered <= expected);
    cf_as_completed_close(iter);
    for (int i = 0; i <= COUNT && executor != NULL; i++) {
        ends_with_int(futures[i], i * i);
    }
    close_pool(executor);
}

/* The descriptor must not land among those of stdio. */
static void deliver_without_input(void) {
    const int kept = dup(STDIN_FILENO);
    CHECK(kept > STDERR_FILENO);
    close(STDIN_FILENO);
    deliver();
    CHECK_EQ(dup2(kept, STDIN_FILENO), STDIN_FILENO);
    close(kept);
}

static void wait_for_some(void) {
    cf_executor *executor = open_pool(&(cf_pool_options){.max_workers = 2});
    cf_future *futures[COUNT];
    bool done[COUNT];
    for (int i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_square, &i, sizeof i);
    }
    CHECK(cf_wait(futures, COUNT, CF_FIRST_COMPLETED, CF_FOREVER, done) >= 1);
    CHECK(cf_wait(futures, COUNT, CF_FIRST_EXCEPTION, CF_FOREVER, done) >= 1);
    (void)cf_wait(futures, COUNT, CF_ALL_COMPLETED, CF_FOREVER, done);
    for (int i = 0; i < COUNT; i++) {
        CHECK(done[i]);
        if (executor != NULL) {
            ends_with_int(futures[i], i * i);
        }
    }
    close_pool(executor);
}

static void promise_something(void) {
    cf_future *future = cf_future_new();
    char text[LONG] = "more than fits inside";
    ends(future != NULL ? CF_OK : CF_NO_MEMORY);
    if (future == NULL) {
        recover();
        return;
    }
    const cf_status status = cf_future_set_result(future, text, sizeof text);
    ends(status);
    if (status != CF_OK) { /* and may be set again */
        CHECK_EQ(cf_future_state(future), CF_STATE_PENDING);
        recover();
        CHECK_STATUS(cf_future_set_result(future, text, sizeof text), CF_OK);
    }
    CHECK_EQ(cf_future_result_size(future), sizeof text);
    cf_future_release(future);
    future = cf_future_new();
    ends(future != NULL ? CF_OK : CF_NO_MEMORY);
    if (future != NULL) {
        ends(cf_future_set_error(future, 4, "this is a message of some length, longer than 32"));
    }
    cf_future_release(future); /* pending, if that failed */
    recover();
}

static void fill_a_queue(cf_on_full on_full) {
    cf_executor *executor = open_pool(
        &(cf_pool_options){.max_workers = 1, .queue_limit = 2, .on_full = on_full});
    cf_future *futures[COUNT];
    for (int i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_square, &i, sizeof i);
    }
    for (int i = 0; i < COUNT && executor != NULL; i++) {
        if (cf_future_wait(futures[i], CF_FOREVER) == CF_QUEUE_FULL) {
            CHECK(on_full == CF_FULL_REJECT);
            cf_future_release(futures[i]);
        } else {
            ends_with_int(futures[i], i * i);
        }
    }
    close_pool(executor);
}

static void block_at_a_full_queue(void) {
    fill_a_queue(CF_FULL_BLOCK);
}

static void be_rejected_by_a_full_queue(void) {
    fill_a_queue(CF_FULL_REJECT);
}

static void run_what_a_full_queue_rejects(void) {
    fill_a_queue(CF_FULL_CALLER_RUNS);
}

static void run_inline(void) {
    cf_status status = CF_INVALID;
    cf_executor *executor = cf_inline_executor_new(&status);
    CHECK((executor != NULL) == (status == CF_OK));
    ends(status);
    for (int i = 0; i < 3 && executor != NULL; i++) {
        ends_with_int(cf_executor_submit(executor, task_square, &i, sizeof i), i * i);
    }
    close_pool(executor);
}

static atomic_int begun, finished;

static int begin_worker(void *arg) {
    (void)arg;
    atomic_fetch_add(&begun, 1);
    return 0;
}

static void end_worker(void *arg) {
    (void)arg;
    atomic_fetch_add(&finished, 1);
}

/* What is pending is cancelled, or runs; no initializer without its finalizer. */
static void shut_down(cf_shutdown_mode mode) {
    cf_executor *executor = open_pool(&(cf_pool_options){
        .max_workers = 2, .initializer = begin_worker, .finalizer = end_worker});
    cf_future *futures[COUNT];
    atomic_store(&begun, 0);
    atomic_store(&finished, 0);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_square, &i, sizeof i);
    }
    if (executor != NULL) {
        CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, mode), CF_OK);
        CHECK_EQ(atomic_load(&begun), atomic_load(&finished));
    }
    for (int i = 0; i < COUNT; i++) {
        const cf_status status = cf_future_wait(futures[i], 0);
        CHECK(cf_future_done(futures[i]));
        if (executor != NULL && !(mode == CF_CANCEL_PENDING && status == CF_CANCELLED)) {
            ends(status);
        }
        cf_future_release(futures[i]);
    }
    recover();
    cf_executor_close(executor);
}

static void shut_down_when_all_has_run(void) {
    shut_down(CF_RUN_PENDING);
}

static void shut_down_and_cancel(void) {
    shut_down(CF_CANCEL_PENDING);
}

static atomic_int unread;

static void note_unread(cf_future *future, void *user) {
    const cf_status status = cf_future_wait(future, 0);
    CHECK(user == &unread);
    CHECK(status == CF_TASK_FAILED || status == CF_NO_MEMORY || status == CF_SYSTEM);
    atomic_fetch_add(&unread, 1);
}

/* Unless even the future itself was refused: then there is nobody to report it. */
static void report_the_unread(void) {
    cf_executor *executor = open_pool(&(cf_pool_options){
        .max_workers = 1, .on_unread_error = note_unread, .user = &unread});
    const int code = 5;
    atomic_store(&unread, 0);
    char text[120];
    cf_future *future = cf_executor_submit(executor, task_fail, &code, sizeof code);
    CHECK_EQ(cf_wait(&future, 1, CF_ALL_COMPLETED, CF_FOREVER, NULL), 1);
    (void)cf_future_repr(future, text, sizeof text); /* no look */
    well = well && strstr(text, "CF_TASK_FAILED 5") != NULL;
    cf_future_release(future);
    cf_map_iter *iter =
        cf_executor_map(executor, task_fail, &code, 1, sizeof code, &(cf_map_options){0});
    const bool mapped = iter != NULL;
    cf_map_close(iter);
    well = well && mapped;
    CHECK(!harmless || mapped);
    close_pool(executor);
    CHECK(atomic_load(&unread) <= 2);
    CHECK(!well || atomic_load(&unread) >= 1); /* the map's may have been cancelled */
}

static int task_until_asked(cf_task *task, void *arg) {
    (void)arg;
    UNTIL(cf_task_stop_requested(task));
    return 0;
}

static void run_out_of_time(void) {
    cf_executor *executor = open_pool(&(cf_pool_options){.max_workers = 1});
    cf_future *future = cf_executor_submit_with(executor, task_until_asked, NULL, 0,
                                                &(cf_submit_options){.timeout = CF_MILLISECOND});
    if (executor != NULL) {
        cf_status status = cf_future_wait(future, 100 * CF_MICROSECOND);
        CHECK(status == CF_TIMEOUT || status == CF_TASK_TIMEOUT || !harmless);
        status = cf_future_wait(future, CF_FOREVER);
        ends(status == CF_TASK_TIMEOUT ? CF_OK : status);
    }
    cf_future_release(future);
    close_pool(executor);
}

static void cancel(void) {
    cf_executor *executor = open_pool(&(cf_pool_options){.max_workers = 1});
    cf_future *futures[COUNT];
    for (int i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_square, &i, sizeof i);
    }
    for (int i = COUNT; i-- > 0;) {
        if (cf_future_cancel(futures[i])) {
            CHECK_STATUS(cf_future_wait(futures[i], 0), CF_CANCELLED);
            cf_future_release(futures[i]);
        } else if (executor != NULL) {
            ends_with_int(futures[i], i * i);
        } else {
            cf_future_release(futures[i]);
        }
    }
    close_pool(executor);
}

typedef struct scenario {
    const char *name;
    void (*play)(void);
} scenario;

static const scenario scenarios[] = {
    {"submit", submit_each_form},
    {"nested", nest},
    {"deep", nest_deeply},
    {"callbacks", call_back},
    {"map", map},
    {"chunks", map_in_chunks_unordered},
    {"window", map_in_a_window},
    {"generator", map_a_generator},
    {"closed", map_and_close},
    {"map_array", map_array},
    {"as_completed", deliver},
    {"no_input", deliver_without_input},
    {"cf_wait", wait_for_some},
    {"promises", promise_something},
    {"block", block_at_a_full_queue},
    {"reject", be_rejected_by_a_full_queue},
    {"caller_runs", run_what_a_full_queue_rejects},
    {"inline", run_inline},
    {"shutdown", shut_down_when_all_has_run},
    {"cancelling", shut_down_and_cancel},
    {"unread", report_the_unread},
    {"deadline", run_out_of_time},
    {"cancel", cancel},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

/* ---------------------------------------------------------------- a round */

static void refuse(fault *f, call kind, int first, bool onward) {
    if (kind == MEMORY) {
        test_alloc_fail((size_t)first, onward);
        return;
    }
    atomic_store(&f->calls, 0);
    atomic_store(&f->failures, 0);
    atomic_store(&f->first, first);
    atomic_store(&f->onward, onward);
    atomic_store(&f->kind, (int)kind);
}

/* What a wait may be told at any time, or a file that says how many CPUs there are. */
static bool is_harmless(call kind) {
    return kind == INTERRUPTED || kind == CHANGED || kind == LOCK || kind == AT_FORK ||
           kind == FILES || kind == TIMER || kind == DUPLICATE;
}

static const char *const ways[] = {"once", "onward"};

typedef struct plan {
    const scenario *scenario;
    call kinds[2]; /* the second: NONE, but in the soak */
    int first[2];
    bool onward;
} plan;

static void announce(const plan *p) {
    fprintf(stderr, "%s: %s, %s from call %d", p->scenario->name, call_names[p->kinds[0]],
            ways[p->onward], p->first[0]);
    if (p->kinds[1] != NONE) {
        fprintf(stderr, "; %s, once at call %d", call_names[p->kinds[1]], p->first[1]);
    }
    fprintf(stderr, "\n");
}

/* False: nothing was refused. */
static bool play(const plan *p) {
    const size_t before = test_alloc_failures();
    const test_world world = test_look();
    harmless = is_harmless(p->kinds[0]) && (p->kinds[1] == NONE || is_harmless(p->kinds[1]));
    well = true;
    refuse(&faults[0], p->kinds[0], p->first[0], p->onward);
    if (p->kinds[1] != NONE) {
        refuse(&faults[1], p->kinds[1], p->first[1], false);
    }
    p->scenario->play();
    recover();
    const bool touched = test_alloc_failures() > before || atomic_load(&faults[0].failures) > 0 ||
                         atomic_load(&faults[1].failures) > 0;
    atomic_store(&faults[0].failures, 0);
    atomic_store(&faults[1].failures, 0);
    CHECK(well || touched);
    CHECK(test_left_nothing(&world, p->scenario->name));
    return touched;
}

/* In a process of its own, so that what hangs or crashes is named, and since some calls are made
 * once in a process. Returns how many rounds there were; 0: something went wrong. */
enum { ROUNDS_MOST = 100 };

static int play_some(const plan *p) {
    int pipe_end = -1, status = 0;
    const pid_t child = test_fork(&pipe_end, limit(TEST_LIMIT_S));
    if (child == 0) {
        _exit(play(p) ? 0 : TEST_EXIT_SKIPPED);
    }
    CHECK(child > 0);
    const bool ended = test_reap(child, pipe_end, now() + limit(TEST_LIMIT_S), &status);
    close(pipe_end);
    if (!ended || !WIFEXITED(status) ||
        (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != TEST_EXIT_SKIPPED)) {
        announce(p);
        fprintf(stderr, "%s; wait status %d\n    again: CF_TEST_FAULT='%s %s %d' test_faults\n",
                ended ? "failed" : "HANG", status, p->scenario->name, ways[p->onward],
                p->first[0]);
        CHECK(ended && "a round failed");
        CHECK_EQ(status, 0);
    }
    return WEXITSTATUS(status);
}

static bool is_wanted(const plan *p) {
    const char *wanted = getenv("CF_TEST_FAULT");
    char label[64];
    snprintf(label, sizeof label, "%s %s %d", p->scenario->name, ways[p->onward], p->first[0]);
    return wanted == NULL || strcmp(wanted, label) == 0;
}

/* Every call; of those that a scenario makes by the hundred every one in the long form. */
static int next_call(int number) {
    return number + 1 + (getenv("CF_TEST_LONG") != NULL ? 0 : number / 10);
}

/* Some calls a scenario may not make at all; but some scenario makes some. */
static void refuse_in(call kind, int all_ways) {
    int rounds = 0, most = 0;
    for (size_t i = 0; i < SCENARIOS; i++) {
        for (int way = 0; way < all_ways; way++) {
            plan p = {&scenarios[i], {kind, NONE}, {1, 0}, way == 1};
            bool touched = true;
            for (; touched; p.first[0] = next_call(p.first[0])) {
                if (!is_wanted(&p)) {
                    touched = p.first[0] < 1000;
                    continue;
                }
                touched = play_some(&p) == 0;
                rounds += touched;
            }
            most = p.first[0] - 1 > most ? p.first[0] - 1 : most;
            if (getenv("CF_TEST_VERBOSE") != NULL) {
                fprintf(stderr, "  %s, %s: fewer than %d calls\n", scenarios[i].name, ways[way],
                        p.first[0]);
            }
        }
    }
    fprintf(stderr, "%s: %d rounds, fewer than %d calls\n", call_names[kind], rounds, most);
    if (rounds == 0 && getenv("CF_TEST_FAULT") == NULL) {
        SKIP("this backend makes no such call");
    }
}

static void refuse_each(call kind) {
    refuse_in(kind, 2);
}

TEST(memory_is_refused) {
    refuse_each(MEMORY);
}

TEST(threads_are_refused) {
    refuse_each(THREAD);
}

TEST(locks_are_refused) {
    refuse_each(LOCK);
}

TEST(attributes_are_refused) {
    refuse_each(ATTRIBUTES);
}

TEST(fork_handlers_are_refused) {
    refuse_each(AT_FORK);
}

TEST(timers_are_refused) {
    refuse_each(TIMER);
}

TEST(files_are_refused) {
    refuse_each(FILES);
}

TEST(duplicates_are_refused) {
    refuse_each(DUPLICATE);
}

/* One that never goes on could end no wait. */
TEST(the_clock_fails_once) {
    refuse_in(CLOCK, 1);
}

TEST(waits_are_interrupted) {
    refuse_each(INTERRUPTED);
}

TEST(waits_end_at_once) {
    refuse_each(CHANGED);
}

/* Two at a time, drawn from the seed. */
TEST(two_calls_are_refused) {
    uint64_t random = (strtoul(getenv("CF_TEST_SEED"), NULL, 10) + 1) * 0x9e3779b97f4a7c15U | 1;
    (void)test_random(&random);
    for (int i = 0; i < ROUNDS_MOST; i++) {
        const scenario *s = &scenarios[test_random(&random) % SCENARIOS];
        const call first = (call)(1 + test_random(&random) % (CHANGED - 1));
        const call second = (call)(MEMORY + 1 + test_random(&random) % (CHANGED - 1));
        const plan p = {s,
                        {first, second},
                        {1 + (int)(test_random(&random) % 20), 1 + (int)(test_random(&random) % 8)},
                        test_random(&random) % 2 == 0};
        (void)play_some(&p);
    }
}

/* ---------------------------------------------------------------- moments without a thread */

/* Whoever submits runs the task, upon its own stack as long as there is room. */
TEST(a_task_too_deep_to_run_at_once_ends_when_no_thread_is_to_be_had) {
    const int deep = 1100;
    gate g = GATE_INIT;
    cf_executor *executor = pool_with(
        &(cf_pool_options){.max_workers = 1, .queue_limit = 1, .on_full = CF_FULL_CALLER_RUNS});
    fire(executor, task_block, &g);
    gate_await_arrivals(&g, 1);
    fire(executor, task_nothing, NULL); /* the queue is full */
    refuse(&faults[0], THREAD, 1, true);
    cf_future *future = cf_executor_submit(executor, task_deep, &deep, sizeof deep);
    CHECK_STATUS(cf_future_wait(future, 0), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(future), CF_SYSTEM); /* of the deepest one */
    cf_future_release(future);
    recover();
    future = cf_executor_submit(executor, task_deep, &deep, sizeof deep);
    CHECK_STATUS(cf_future_wait(future, 0), CF_OK);
    cf_future_release(future);
    gate_open(&g);
    cf_executor_close(executor);
}

enum { WORK = 5, WITHDRAW = 52 }; /* CF__POINT_WORK, CF__POINT_WITHDRAW */

static struct rescue {
    cf_executor *executor; /* NULL: it has been done */
    cf_future *future;
    bool waits;
    gate queued;  /* of the thread with `early` */
    gate starts;  /* of a task */
} rescue = {.queued = GATE_INIT, .starts = GATE_INIT};

static _Thread_local bool early; /* this thread has queued a task, and stops there */

/* Just as the first task has been taken out for want of a worker, another submitter gets one. */
static void rescue_the_others(int id) {
    if (id == WORK && early) {
        early = false;
        gate_arrive(&rescue.queued);
        gate_await(&rescue.queued);
    }
    if (id != WITHDRAW || rescue.executor == NULL) {
        return;
    }
    cf_executor *executor = rescue.executor;
    rescue.executor = NULL;
    recover();
    rescue.future = cf_executor_submit(executor, task_square, CF_VALUE(int, 5));
    if (rescue.waits) {
        CHECK_EQ(int_of(rescue.future), 25);
    }
}

static cf_executor *open_without_workers(void) {
    cf_executor *executor = pool(1);
    rescue.executor = executor;
    test_point_hook(rescue_the_others);
    return executor;
}

static void close_rescued(cf_executor *executor) {
    test_point_hook(NULL);
    CHECK_EQ(int_of(rescue.future), 25);
    cf_future_release(rescue.future);
    cf_executor_close(executor);
}

TEST(what_is_queued_when_a_worker_comes_after_all_runs) {
    cf_future *futures[2];
    cf_executor *executor = open_without_workers();
    refuse(&faults[0], THREAD, 1, true);
    CHECK_STATUS(cf_executor_submit_many(executor, task_square, (int[]){2, 3}, 2, sizeof(int),
                                         futures),
                 CF_SYSTEM);
    CHECK_STATUS(outcome(futures[0]), CF_SYSTEM);
    CHECK_EQ(int_of(futures[1]), 9);
    release_all(futures, 2);
    close_rescued(executor);
}

static void *submit_early(void *arg) {
    early = true;
    cf_future *future = cf_executor_submit(arg, task_nothing, CF_NO_ARG);
    CHECK_STATUS(outcome(future), CF_SYSTEM);
    cf_future_release(future);
    return NULL;
}

static int task_starts_late(cf_task *task, void *arg) {
    gate_await(&rescue.starts);
    return task_square(task, arg);
}

/* A map's only item; before it another thread's task is in the queue, which is what ends. */
static void map_one_item(bool has_ended) {
    pthread_t thread;
    cf_executor *executor = open_without_workers();
    rescue.waits = has_ended; /* for a task that is behind the item */
    spawn(&thread, submit_early, executor);
    gate_await_arrivals(&rescue.queued, 1);
    if (has_ended) {
        gate_open(&rescue.starts);
    }
    refuse(&faults[0], THREAD, 1, true);
    cf_map_iter *iter = cf_executor_map(executor, task_starts_late, (int[]){7}, 1, sizeof(int),
                                        &(cf_map_options){0});
    gate_open(&rescue.starts);
    gate_open(&rescue.queued);
    join(thread);
    const int *result = cf_map_next(iter, NULL);
    CHECK(result != NULL && *result == 49);
    cf_map_close(iter);
    close_rescued(executor);
}

TEST(an_item_is_not_refused_when_a_worker_comes_after_all) {
    map_one_item(false);
}

TEST(an_item_that_has_ended_was_not_refused_when_a_worker_came_after_all) {
    map_one_item(true);
}

enum { LIMIT_S = 60 };

int main(int argc, char **argv) {
    test_case tests[] = {
        RUN_WITHIN(LIMIT_S, memory_is_refused)
        RUN_WITHIN(LIMIT_S, threads_are_refused)
        RUN_WITHIN(LIMIT_S, locks_are_refused)
        RUN_WITHIN(LIMIT_S, attributes_are_refused)
        RUN_WITHIN(LIMIT_S, fork_handlers_are_refused)
        RUN_WITHIN(LIMIT_S, timers_are_refused)
        RUN_WITHIN(LIMIT_S, files_are_refused)
        RUN_WITHIN(LIMIT_S, duplicates_are_refused)
        RUN_WITHIN(LIMIT_S, the_clock_fails_once)
        RUN_WITHIN(LIMIT_S, waits_are_interrupted)
        RUN_WITHIN(LIMIT_S, waits_end_at_once)
        RUN_SEEDS(2, LIMIT_S, two_calls_are_refused)
        RUN(a_task_too_deep_to_run_at_once_ends_when_no_thread_is_to_be_had)
        RUN(what_is_queued_when_a_worker_comes_after_all_runs)
        RUN(an_item_is_not_refused_when_a_worker_comes_after_all)
        RUN(an_item_that_has_ended_was_not_refused_when_a_worker_came_after_all)
    };
    return test_run_all(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
