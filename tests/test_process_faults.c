/* The process pool on a system that refuses: every call that can fail does so, in the host, in the
 * zygote and in the workers, the first one, the second one, ... until a whole scenario needs fewer.
 * Each time all ends with a status, nothing is left behind, the pool works or says that it is
 * broken, and the next pool works.
 *
 * The linker puts the functions below between the library and the system:
 * link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=fork,--wrap=execv,--wrap=waitpid,--wrap=syscall
 * link: -Wl,--wrap=socketpair,--wrap=socket,--wrap=pipe,--wrap=open,--wrap=dup2,--wrap=fcntl
 * link: -Wl,--wrap=mmap,--wrap=mprotect,--wrap=ftruncate,--wrap=fstat,--wrap=poll,--wrap=read
 * link: -Wl,--wrap=sendmsg,--wrap=recvmsg,--wrap=pthread_create,--wrap=pthread_atfork
 * link: -Wl,--wrap=timerfd_create,--wrap=signalfd
 * link: -Wl,--wrap=shm_open,--wrap=pthread_cond_wait,--wrap=pthread_cond_timedwait
 *
 * CF_TEST_LONG=1 refuses each single call, in one way more; else the later ones are thinned out.
 * CF_TEST_SEEDS=1000 test_process_faults two_calls_are_refused: pairs of calls, drawn from seeds. */
#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* syscall */
#endif
#define TEST_AT_ONCE 4
#include "test.h"

#include "process.h"

#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#ifdef __linux__
#include <sys/prctl.h>
#include <sys/syscall.h>
#define MEMORY_CALL "memfd_create"
#define WAIT_CALL "futex"
#else
#define MEMORY_CALL "shm_open"
#define WAIT_CALL "pthread_cond_wait"
#endif

/* ---------------------------------------------------------------- the plan */

typedef enum call {
    NONE,
    MEMORY, /* malloc, calloc; what is tested below calls neither itself */
    FORK,
    EXEC,
    WAIT,
    SOCKETS, /* and pipes */
    OPEN,
    DUP,
    DUP_HIGH,
    MAP,
    PROTECT,
    MEMFD, /* shared memory: what Linux and the others have for it */
    TRUNCATE,
    SEAL,
    STAT,
    POLL,
    READ,
    SEND,
    SEND_FD, /* with a descriptor */
    RECEIVE,
    RECEIVE_SHORT, /* one byte at a time */
    THREAD,
    AT_FORK,
    FUTEX_WAIT,
    TIMER,
    SIGNAL_FD
} call;

typedef enum how { ONCE, ONWARD, TO_THE_END, EVERY_OTHER, HOWS } how;

static const char *const how_names[HOWS] = {"once", "from there on", "and never again",
                                            "and every other one"};

/* Shared by all processes of the pool. */
typedef struct plan {
    atomic_int refused; /* which call */
    atomic_int first;   /* of these calls: the number of the first that fails */
    atomic_int how, error;
    atomic_int calls, failures;
    atomic_int also, also_at, also_error, also_calls; /* a second call, refused once */
    atomic_int crashes; /* processes that died by a signal which only a bug raises */
} plan;

static plan *faults;

static bool is_refused_also(call kind) {
    if (atomic_load(&faults->also) != (int)kind ||
        atomic_fetch_add(&faults->also_calls, 1) + 1 != atomic_load(&faults->also_at)) {
        return false;
    }
    atomic_fetch_add(&faults->failures, 1);
    errno = atomic_load(&faults->also_error);
    return true;
}

static bool is_refused(call kind) {
    if (faults != NULL && is_refused_also(kind)) {
        return true;
    }
    if (faults == NULL || atomic_load(&faults->refused) != (int)kind) {
        return false;
    }
    const int past = atomic_fetch_add(&faults->calls, 1) + 1 - atomic_load(&faults->first);
    const how way = (how)atomic_load(&faults->how);
    if (past < 0 || (way == ONCE && past > 0) || (way == EVERY_OTHER && past % 2 != 0)) {
        return false;
    }
    atomic_fetch_add(&faults->failures, 1);
    errno = atomic_load(&faults->error);
    return true;
}

static bool is_bug(int status) {
    const int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    return number == SIGSEGV || number == SIGBUS || number == SIGABRT || number == SIGFPE ||
           number == SIGILL || number == SIGPIPE;
}

/* ---------------------------------------------------------------- the calls */

#define WRAP(kind, result, name, parameters, arguments, refusal)                                   \
    result __real_##name parameters;                                                               \
    result __wrap_##name parameters;                                                               \
    result __wrap_##name parameters {                                                              \
        return is_refused(kind) ? (refusal) : __real_##name arguments;                             \
    }

WRAP(MEMORY, void *, malloc, (size_t size), (size), NULL)
WRAP(MEMORY, void *, calloc, (size_t count, size_t size), (count, size), NULL)
WRAP(FORK, pid_t, fork, (void), (), -1)
WRAP(EXEC, int, execv, (const char *path, char *const arguments[]), (path, arguments), -1)
WRAP(SOCKETS, int, socketpair, (int domain, int type, int protocol, int *fds),
     (domain, type, protocol, fds), -1)
WRAP(SOCKETS, int, socket, (int domain, int type, int protocol), (domain, type, protocol), -1)
WRAP(SOCKETS, int, pipe, (int *fds), (fds), -1)
WRAP(DUP, int, dup2, (int from, int to), (from, to), -1)
WRAP(MAP, void *, mmap, (void *at, size_t size, int protection, int flags, int fd, off_t offset),
     (at, size, protection, flags, fd, offset), MAP_FAILED)
WRAP(PROTECT, int, mprotect, (void *at, size_t size, int protection), (at, size, protection), -1)
WRAP(TRUNCATE, int, ftruncate, (int fd, off_t size), (fd, size), -1)
WRAP(STAT, int, fstat, (int fd, struct stat *about), (fd, about), -1)
WRAP(POLL, int, poll, (struct pollfd *fds, nfds_t count, int timeout), (fds, count, timeout), -1)
WRAP(READ, ssize_t, read, (int fd, void *data, size_t size), (fd, data, size), -1)
WRAP(message->msg_controllen > 0 ? SEND_FD : SEND, ssize_t, sendmsg,
     (int fd, const struct msghdr *message, int flags), (fd, message, flags), -1)
WRAP(THREAD, int, pthread_create,
     (pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *arg),
     (thread, attributes, function, arg), EAGAIN)
#ifdef __linux__
WRAP(TIMER, int, timerfd_create, (int clock, int flags), (clock, flags), -1)
WRAP(SIGNAL_FD, int, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags), -1)
#else
WRAP(MEMFD, int, shm_open, (const char *name, int flags, mode_t mode), (name, flags, mode), -1)
/* No signal interrupts them, but they may return without a reason. */
WRAP(FUTEX_WAIT, int, pthread_cond_wait, (pthread_cond_t *condition, pthread_mutex_t *mutex),
     (condition, mutex), 0)
WRAP(FUTEX_WAIT, int, pthread_cond_timedwait,
     (pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until),
     (condition, mutex, until), 0)
#endif
WRAP(AT_FORK, int, pthread_atfork, (void (*before)(void), void (*after)(void), void (*child)(void)),
     (before, after, child), ENOMEM)

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags) {
    if (is_refused(RECEIVE)) {
        return -1;
    }
    if (message->msg_iovlen == 1 && message->msg_iov[0].iov_len > 1 && is_refused(RECEIVE_SHORT)) {
        message->msg_iov[0].iov_len = 1;
    }
    return __real_recvmsg(fd, message, flags);
}

/* With WNOHANG nothing interrupts it. */
pid_t __real_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options) {
    int end = 0;
    if ((options & WNOHANG) == 0 && is_refused(WAIT)) {
        return -1;
    }
    const pid_t reaped = __real_waitpid(pid, &end, options);
    if (reaped > 0 && faults != NULL && is_bug(end)) {
        atomic_fetch_add(&faults->crashes, 1);
    }
    if (reaped > 0 && status != NULL) {
        *status = end;
    }
    return reaped;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    return is_refused(OPEN) ? -1 : __real_open(path, flags, 0600);
}

enum { ADD_SEALS = 1033 }; /* F_ADD_SEALS of Linux, which has its name for few */

static call call_of_fcntl(int command) {
    return command == F_DUPFD_CLOEXEC ? DUP_HIGH : command == ADD_SEALS ? SEAL : NONE;
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...) {
    const call kind = call_of_fcntl(command);
    va_list list;
    va_start(list, command);
    const long arg = va_arg(list, long);
    va_end(list);
    return kind != NONE && is_refused(kind) ? -1 : __real_fcntl(fd, command, arg);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
#ifdef __linux__
static call call_of_syscall(long number, long operation) {
    enum { WAIT_SINCE = 0, WAIT_UNTIL = 9 }; /* of futex */
    const long what = operation & 127;
    const bool waits = number == SYS_futex && (what == WAIT_SINCE || what == WAIT_UNTIL);
    return number == SYS_memfd_create ? MEMFD : waits ? FUTEX_WAIT : NONE;
}

long __wrap_syscall(long number, ...) {
    long args[6] = {0, 0, 0, 0, 0, 0};
    const int count = number == SYS_futex ? 6 : number == SYS_sched_getaffinity ? 3 : 2;
    va_list list;
    va_start(list, number);
    for (int i = 0; i < count; i++) {
        args[i] = va_arg(list, long);
    }
    va_end(list);
    const call kind = call_of_syscall(number, args[1]);
    if (kind != NONE && is_refused(kind)) {
        return -1;
    }
    return __real_syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}
#endif

/* A process that starts anew finds the plan at this descriptor, see main. */
enum { PLAN_FD = 900 };

static void map_plan(int fd) {
    void *memory = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE,
                        fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED);
    faults = memory;
}

static void plan_faults(void) {
    int fd = -1;
#ifdef __linux__
    const int made = (int)syscall(SYS_memfd_create, "plan", 0UL);
    CHECK(made >= 0 && ftruncate(made, (off_t)sizeof *faults) == 0);
    fd = dup2(made, PLAN_FD);
    CHECK_EQ(fd, PLAN_FD);
    close(made);
#endif
    map_plan(fd);
}

static void forget_faults(void) {
    munmap(faults, sizeof *faults);
    faults = NULL;
    close(PLAN_FD);
}

static void refuse(call kind, int first, how way, int error) {
    atomic_store(&faults->calls, 0);
    atomic_store(&faults->failures, 0);
    atomic_store(&faults->first, first);
    atomic_store(&faults->how, (int)way);
    atomic_store(&faults->error, error);
    atomic_store(&faults->refused, (int)kind);
}

static void refuse_also(call kind, int first, int error) {
    atomic_store(&faults->also_calls, 0);
    atomic_store(&faults->also_at, first);
    atomic_store(&faults->also_error, error);
    atomic_store(&faults->also, (int)kind);
}

static void refuse_nothing(void) {
    atomic_store(&faults->refused, NONE);
    atomic_store(&faults->also, NONE);
}

/* ---------------------------------------------------------------- the scenario */

enum { BIG = 1 << 20, ITEMS = 6, WAIT_S = 6, LONG_S = 600 };

static const int items[ITEMS] = {0, 1, 2, 3, 4, 5};
static unsigned char big[BIG];

typedef struct scenario {
    const char *name; /* of the call */
    call kind;
    int error;
    how way;
    int first;
    cf_start_method start_method;
    bool closed;     /* standard input is, so that descriptors land there */
    bool harmless;   /* no task may notice */
    bool only_memory; /* CF_NO_MEMORY is all that may happen to one */
    bool well;       /* nothing has happened */
    call also;       /* NONE, or a second call that is refused, */
    int also_error, also_first;
} scenario;

static bool is_expected(const scenario *s, cf_status status) {
    switch (status) {
    case CF_OK: return true;
    case CF_NO_MEMORY: return !s->harmless;
    case CF_SYSTEM:
    case CF_BROKEN:
    case CF_WORKER_LOST: return !s->harmless && !s->only_memory;
    default: return false;
    }
}

static void check_end(scenario *s, cf_status status, cf_future *future, const char *what) {
    s->well = s->well && status == CF_OK;
    if (!is_expected(s, status)) {
        fprintf(stderr, "%s: %s: %s\n", what, cf_status_name(status),
                future != NULL ? cf_future_error_message(future) : "");
        CHECK(is_expected(s, status));
    }
    if (status == CF_WORKER_LOST && future != NULL) { /* it left, or had to */
        const int code = cf_future_error_code(future);
        CHECK(code >= 256 || code == SIGKILL);
    }
}

static void check_bytes(scenario *s, cf_future *future, const void *expected, size_t size,
                        const char *what) {
    const cf_status status = cf_future_wait(future, limit(WAIT_S));
    if (status == CF_OK) {
        CHECK_EQ(cf_future_result_size(future), size);
        CHECK(memcmp(cf_future_result(future, 0, NULL), expected, size) == 0);
    }
    check_end(s, status, future, what);
    cf_future_release(future);
}

static void check_int(scenario *s, cf_future *future, int expected, const char *what) {
    check_bytes(s, future, &expected, sizeof expected, what);
}

static void echo_some(scenario *s, cf_executor *executor) {
    for (int i = 0; i < 4; i++) {
        const size_t size = i % 2 == 0 ? 8 : BIG;
        check_bytes(s, cf_executor_submit(executor, task_echo, big, size), big, size, "echo");
    }
}

static void map_some(scenario *s, cf_executor *executor) {
    cf_status status = CF_OK;
    cf_map_iter *iter =
        cf_executor_map(executor, task_square, items, ITEMS, sizeof *items,
                        &(cf_map_options){.chunksize = 2, .timeout = limit(WAIT_S)});
    for (int i = 0; i < ITEMS && iter != NULL; i++) {
        const int *result = cf_map_next(iter, &status);
        CHECK_EQ(result != NULL, status == CF_OK);
        CHECK(result == NULL || *result == i * i);
        check_end(s, status, NULL, "map");
    }
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, iter != NULL ? CF_END : CF_INVALID);
    check_end(s, iter != NULL ? CF_OK : CF_NO_MEMORY, NULL, "map");
    cf_map_close(iter);
}

static void map_array_some(scenario *s, cf_executor *executor) {
    int results[ITEMS];
    const cf_status status =
        cf_executor_map_array(executor, task_square, items, sizeof *items, results,
                              sizeof *results, ITEMS, NULL, NULL);
    for (int i = 0; i < ITEMS && status == CF_OK; i++) {
        CHECK_EQ(results[i], i * i);
    }
    check_end(s, status, NULL, "map_array");
}

static void deliver_some(scenario *s, cf_executor *executor) {
    cf_future *futures[ITEMS];
    cf_status status = CF_OK;
    size_t index = 0, delivered = 0;
    (void)cf_executor_submit_many(executor, task_square, items, ITEMS, sizeof *items, futures);
    cf_as_completed_iter *iter = cf_as_completed(futures, ITEMS, limit(WAIT_S));
    while (cf_as_completed_next(iter, &index, &status) != NULL) {
        CHECK(cf_future_done(futures[index]));
        delivered++;
    }
    CHECK(iter == NULL ? status == CF_INVALID : status == CF_END && delivered == ITEMS);
    check_end(s, iter != NULL ? CF_OK : CF_NO_MEMORY, NULL, "as_completed");
    cf_as_completed_close(iter);
    for (int i = 0; i < ITEMS; i++) {
        check_int(s, futures[i], i * i, "submit_many");
    }
}

static void cancel_some(scenario *s, cf_executor *executor) {
    cf_future *futures[ITEMS];
    for (int i = 0; i < ITEMS; i++) {
        futures[i] = submit_int(executor, task_square, i);
    }
    for (int i = ITEMS; i-- > 0;) {
        if (cf_future_cancel(futures[i])) {
            CHECK_STATUS(take_outcome(futures[i]), CF_CANCELLED);
        } else {
            check_int(s, futures[i], i * i, "cancel");
        }
    }
}

static int task_pauses(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    while (pause() == -1) {
    }
    return 0;
}

static void overrun(scenario *s, cf_executor *executor) {
    cf_future *future = submit_timed(executor, task_pauses, CF_MILLISECOND);
    const cf_status status = cf_future_wait(future, limit(WAIT_S));
    CHECK(status != CF_OK);
    check_end(s, status == CF_TASK_TIMEOUT ? CF_OK : status, future, "timeout");
    cf_future_release(future);
}

/* All that needs something: workers, replacements, small and big bytes, chunks, kills. */
static void work(scenario *s, cf_executor *executor) {
    echo_some(s, executor);
    map_some(s, executor);
    deliver_some(s, executor);
    overrun(s, executor);
    map_array_some(s, executor);
    cancel_some(s, executor);
    echo_some(s, executor);
}

/* ---------------------------------------------------------------- a round */

static cf_executor *pool_of(const scenario *s, cf_status *status) {
    const cf_pool_options options = {
        .max_workers = 2, .max_tasks_per_child = 8, .start_method = s->start_method};
    return cf_process_pool_new(&options, status);
}

/* Whoever loses its parent becomes a child of this process. */
static void adopt_orphans(void) {
#ifdef PR_SET_CHILD_SUBREAPER
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
#endif
}

static bool has_no_child(void) {
    return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD;
}

/* The pool that met the fault works again, or is broken and says so each time. */
static void check_consistent(cf_executor *executor) {
    const cf_status status = take_outcome(submit_int(executor, task_square, 3));
    CHECK(status == CF_OK || status == CF_BROKEN);
    for (int i = 0; i < 4; i++) {
        CHECK_STATUS(take_outcome(submit_int(executor, task_square, i)), status);
        CHECK_STATUS(take_outcome(cf_executor_submit(executor, task_echo, big, BIG)), status);
    }
}

static void check_next_pool(const scenario *s) {
    scenario next = *s;
    cf_executor *executor = pool_of(s, NULL);
    next.harmless = true;
    echo_some(&next, executor);
    shut(executor);
}

enum { UNTOUCHED = 42 };

/* In a process of its own. */
static void round_of(scenario *s) {
    cf_status status = CF_OK;
    plan_faults();
    adopt_orphans();
    if (s->closed) {
        close(0);
    }
    const test_world before = test_look();
    const size_t mappings = shared_mappings();
    s->well = true;
    refuse(s->kind, s->first, s->way, s->error);
    refuse_also(s->also, s->also_first, s->also_error);
    cf_executor *executor = pool_of(s, &status);
    CHECK_EQ(executor != NULL, status == CF_OK);
    check_end(s, status, NULL, "new");
    if (executor != NULL) {
        work(s, executor);
        if (s->way != TO_THE_END && atomic_load(&faults->failures) > 0) {
            refuse_nothing();
            check_consistent(executor);
        }
        CHECK_STATUS(cf_executor_shutdown(executor, limit(WAIT_S), CF_RUN_PENDING), CF_OK);
        cf_executor_close(executor);
    }
    refuse_nothing();
    const bool untouched = atomic_load(&faults->failures) == 0;
    CHECK(s->well || !untouched);
    UNTIL(has_no_child());
    CHECK_EQ(atomic_load(&faults->crashes), 0);
    CHECK(test_left_nothing(&before, s->name));
    CHECK(shared_mappings() <= mappings);
    check_next_pool(s);
    _exit(untouched ? UNTOUCHED : 0);
}

/* ---------------------------------------------------------------- each call in turn */

enum { AT_ONCE = 12 };

typedef struct attempt {
    scenario s;
    pid_t child;
    int pipe_end, status;
} attempt;

static void begin_round(const scenario *s, attempt *a) {
    a->s = *s;
    a->child = test_fork(&a->pipe_end, limit(3 * WAIT_S));
    if (a->child == 0) {
        round_of(&a->s);
    }
    CHECK(a->child > 0);
}

static bool is_untouched(const attempt *a) {
    return WIFEXITED(a->status) && WEXITSTATUS(a->status) == UNTOUCHED;
}

/* Nothing survives it, whatever it was doing. */
static bool end_round(attempt *a, int64_t deadline) {
    const scenario *s = &a->s;
    const bool ended = test_reap(a->child, a->pipe_end, deadline, &a->status);
    kill(-a->child, SIGKILL);
    close(a->pipe_end);
    if (ended && (a->status == 0 || is_untouched(a))) {
        return true;
    }
    fprintf(stderr, "%s: errno %d at call %d, %s; also call %d, number %d: wait status %d\n",
            s->name, s->error, s->first, how_names[s->way], (int)s->also, s->also_first,
            a->status);
    return false;
}

static void end_rounds(attempt *attempts, int count) {
    const int64_t deadline = now() + limit(3 * WAIT_S);
    bool good = true;
    for (int i = 0; i < count; i++) {
        good = end_round(&attempts[i], deadline) && good;
    }
    CHECK(good);
}

static bool is_long(void) {
    return getenv("CF_TEST_LONG") != NULL;
}

/* Every number, in the long form. */
static int next_number(int number) {
    return number + 1 + (is_long() ? 0 : number / 3);
}

/* The rounds in which a call is refused in one way. */
typedef struct series {
    scenario next;
    int rounds; /* that met the fault */
    int calls;  /* as many were fewer; 0: not known yet */
} series;

static void note_round(series *all, int ways, const attempt *a) {
    for (int i = 0; i < ways; i++) {
        series *one = &all[i];
        if (one->next.way == a->s.way) {
            one->calls = is_untouched(a) && one->calls == 0 ? a->s.first : one->calls;
            one->rounds += !is_untouched(a);
        }
    }
}

/* Several rounds at once, of all ways: some do little but wait. False when there are no more. */
static bool refuse_some(series *all, int ways) {
    attempt attempts[AT_ONCE];
    int begun = 0;
    for (int i = 0; i < AT_ONCE; i++) {
        series *one = &all[i % ways];
        if (one->calls == 0) {
            begin_round(&one->next, &attempts[begun++]);
            one->next.first = next_number(one->next.first);
        }
    }
    end_rounds(attempts, begun);
    for (int i = 0; i < begun; i++) {
        note_round(all, ways, &attempts[i]);
    }
    return begun > 0;
}

static void refuse_each(scenario s, const how *ways, int count) {
    series all[HOWS];
    CHECK(count <= HOWS);
    share();
    fill(big, BIG, 1);
    s.first = 1;
    for (int i = 0; i < count; i++) {
        s.way = ways[i];
        all[i] = (series){s, 0, 0};
    }
    while (refuse_some(all, count)) {
    }
    for (int i = 0; i < count; i++) {
        fprintf(stderr, "%s: errno %d, %s: %d rounds, fewer than %d calls\n", s.name, s.error,
                how_names[ways[i]], all[i].rounds, all[i].calls);
        CHECK(all[i].rounds > 0);
    }
}

static scenario refusal(const char *name, call kind, int error) {
    return (scenario){.name = name, .kind = kind, .error = error};
}

/* ONWARD: to the end, but for the end itself. */
static void refuse_in_every_way(scenario s) {
    refuse_each(s, (const how[]){ONCE, TO_THE_END, ONWARD}, is_long() ? 3 : 2);
}

static void interrupt_in_every_way(const char *name, call kind) {
    scenario s = refusal(name, kind, EINTR);
    s.harmless = true;
    refuse_each(s, (const how[]){ONCE, EVERY_OTHER}, 2);
}

/* ---------------------------------------------------------------- what is refused */

TEST(memory_is_refused) {
    scenario s = refusal("malloc", MEMORY, ENOMEM);
    s.only_memory = true;
    refuse_in_every_way(s);
}

TEST(forks_are_refused) {
    refuse_in_every_way(refusal("fork", FORK, EAGAIN));
}

TEST(sockets_are_refused) {
    refuse_in_every_way(refusal("socketpair", SOCKETS, EMFILE));
}

TEST(mappings_are_refused) {
    refuse_in_every_way(refusal("mmap", MAP, ENOMEM));
}

TEST(protection_is_refused) {
    refuse_in_every_way(refusal("mprotect", PROTECT, ENOMEM));
}

TEST(shared_memory_is_refused) {
    refuse_in_every_way(refusal(MEMORY_CALL, MEMFD, EMFILE));
}

TEST(room_in_shared_memory_is_refused) {
    refuse_in_every_way(refusal("ftruncate", TRUNCATE, ENOSPC));
}

TEST(seals_are_refused) {
#ifdef __linux__
    refuse_in_every_way(refusal("F_ADD_SEALS", SEAL, EPERM));
#else
    SKIP("only Linux has seals");
#endif
}

TEST(a_look_at_shared_memory_is_refused) {
    refuse_in_every_way(refusal("fstat", STAT, EOVERFLOW));
}

TEST(descriptors_above_2_are_refused) {
    scenario s = refusal("F_DUPFD_CLOEXEC", DUP_HIGH, EMFILE);
    s.closed = true;
    refuse_in_every_way(s);
}

TEST(the_null_device_is_refused) {
    refuse_in_every_way(refusal("open", OPEN, EMFILE));
}

TEST(duplicates_are_refused) {
    refuse_in_every_way(refusal("dup2", DUP, EMFILE));
}

TEST(messages_are_refused) {
    refuse_in_every_way(refusal("sendmsg", SEND, ENOBUFS));
}

TEST(messages_with_a_descriptor_are_refused) {
    refuse_in_every_way(refusal("sendmsg of a descriptor", SEND_FD, ETOOMANYREFS));
}

TEST(receiving_is_refused) {
    refuse_in_every_way(refusal("recvmsg", RECEIVE, ENOMEM));
}

TEST(polls_are_refused) {
    refuse_in_every_way(refusal("poll", POLL, ENOMEM));
}

TEST(reads_are_refused) {
    refuse_in_every_way(refusal("read", READ, EIO));
}

TEST(timers_are_refused) {
#ifdef __linux__
    refuse_in_every_way(refusal("timerfd_create", TIMER, EMFILE));
#else
    SKIP("only Linux has such descriptors");
#endif
}

TEST(signal_descriptors_are_refused) {
#ifdef __linux__
    refuse_in_every_way(refusal("signalfd", SIGNAL_FD, ENFILE));
#else
    SKIP("only Linux has such descriptors");
#endif
}

TEST(threads_are_refused) {
    refuse_in_every_way(refusal("pthread_create", THREAD, EAGAIN));
}

TEST(fork_handlers_are_refused) {
    refuse_in_every_way(refusal("pthread_atfork", AT_FORK, ENOMEM));
}

/* ---------------------------------------------------------------- what is refused to spawn */

static void refuse_to_spawn(scenario s) {
#ifdef __linux__
    s.start_method = CF_START_SPAWN;
    refuse_in_every_way(s);
#else
    (void)s;
    SKIP("new processes do not find the plan");
#endif
}

TEST(spawn_is_refused_the_executable) {
    refuse_to_spawn(refusal("spawn: execv", EXEC, ENOENT));
}

TEST(spawn_is_refused_forks) {
    refuse_to_spawn(refusal("spawn: fork", FORK, EAGAIN));
}

TEST(spawn_is_refused_memory) {
    refuse_to_spawn(refusal("spawn: malloc", MEMORY, ENOMEM));
}

TEST(spawn_is_refused_mappings) {
    refuse_to_spawn(refusal("spawn: mmap", MAP, ENOMEM));
}

TEST(spawn_is_refused_shared_memory) {
    refuse_to_spawn(refusal("spawn: " MEMORY_CALL, MEMFD, EMFILE));
    refuse_to_spawn(refusal("spawn: fstat", STAT, EOVERFLOW));
}

/* ---------------------------------------------------------------- two at a time */

static scenario draw_pair(uint64_t *random) {
    static const struct {
        const char *name;
        call kind;
        int error, most;
    } calls[] = {
        {"malloc", MEMORY, ENOMEM, 40},
        {"fork", FORK, EAGAIN, 4},
        {"socketpair", SOCKETS, EMFILE, 6},
        {"mmap", MAP, ENOMEM, 12},
        {"mprotect", PROTECT, ENOMEM, 4},
        {MEMORY_CALL, MEMFD, EMFILE, 8},
        {"ftruncate", TRUNCATE, ENOSPC, 8},
        {"fstat", STAT, EOVERFLOW, 8},
        {"sendmsg", SEND, ENOBUFS, 20},
        {"sendmsg of a descriptor", SEND_FD, ETOOMANYREFS, 8},
        {"recvmsg", RECEIVE, ENOMEM, 20},
        {"poll", POLL, ENOMEM, 20},
        {"read", READ, EIO, 20},
        {"pthread_create", THREAD, EAGAIN, 2},
        {"poll", POLL, EINTR, 20},
        {"recvmsg", RECEIVE, EINTR, 20},
        {"short recvmsg", RECEIVE_SHORT, EINTR, 20},
        {"timerfd_create", TIMER, EMFILE, 2},
        {"signalfd", SIGNAL_FD, ENFILE, 2},
    };
    enum { CALLS = sizeof calls / sizeof *calls };
    const size_t a = test_random(random) % CALLS, b = test_random(random) % CALLS;
    scenario s = refusal(calls[a].name, calls[a].kind, calls[a].error);
    s.first = 1 + (int)(test_random(random) % (uint64_t)calls[a].most);
    s.way = test_random(random) % 2 == 0 ? ONCE : s.error == EINTR ? EVERY_OTHER : ONWARD;
    s.also = calls[b].kind;
    s.also_error = calls[b].error;
    s.also_first = 1 + (int)(test_random(random) % (uint64_t)calls[b].most);
    return s;
}

TEST(two_calls_are_refused) {
    attempt attempts[AT_ONCE];
    uint64_t random = (strtoul(getenv("CF_TEST_SEED"), NULL, 10) + 1) * 0x9e3779b97f4a7c15U | 1;
    share();
    fill(big, BIG, 1);
    for (int i = 0; i < AT_ONCE; i++) {
        const scenario s = draw_pair(&random);
        begin_round(&s, &attempts[i]);
    }
    end_rounds(attempts, AT_ONCE);
}

/* ---------------------------------------------------------------- what is interrupted */

TEST(polls_are_interrupted) {
    interrupt_in_every_way("poll", POLL);
}

TEST(sends_are_interrupted) {
    interrupt_in_every_way("sendmsg", SEND);
    interrupt_in_every_way("sendmsg of a descriptor", SEND_FD);
}

TEST(receives_are_interrupted) {
    interrupt_in_every_way("recvmsg", RECEIVE);
}

TEST(receives_are_short) {
    interrupt_in_every_way("short recvmsg", RECEIVE_SHORT);
}

TEST(waits_are_interrupted) {
    interrupt_in_every_way("waitpid", WAIT);
    interrupt_in_every_way(WAIT_CALL, FUTEX_WAIT);
}

TEST(files_are_interrupted) {
    interrupt_in_every_way("open", OPEN);
    interrupt_in_every_way("dup2", DUP);
    interrupt_in_every_way("read", READ);
}

/* ---------------------------------------------------------------- workers that cannot start */

static void refuse_forks(how way) {
    refuse(FORK, 1, way, EAGAIN);
}

TEST(one_fork_that_fails_is_tried_again) {
    share();
    plan_faults();
    cf_executor *executor = processes(1);
    refuse_forks(ONCE);
    still_works(executor);
    CHECK_EQ(atomic_load(&faults->failures), 1);
    shut(executor);
    forget_faults();
}

TEST(a_pool_that_can_start_no_worker_is_broken) {
    share();
    plan_faults();
    cf_executor *executor = processes(2);
    refuse_forks(ONWARD);
    CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_BROKEN);
    CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_BROKEN);
    refuse_nothing();
    shut(executor);
    forget_faults();
}

/* test_failed_worker_replacement_breaks_pool */
TEST(a_replacement_that_cannot_start_breaks_the_pool) {
    share();
    plan_faults();
    cf_executor *executor = processes(1);
    still_works(executor);
    refuse_forks(ONWARD);
    CHECK_STATUS(take_outcome(submit_int(executor, task_die, 2)), CF_WORKER_LOST);
    CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_BROKEN);
    refuse_nothing();
    shut(executor);
    forget_faults();
}

/* Else the worker would have had its two, but would never leave. */
TEST(a_task_that_could_not_be_handed_over_counts_for_no_worker) {
    share();
    plan_faults();
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .max_tasks_per_child = 2});
    const pid_t worker = pid_of_a_worker(executor);
    refuse(MEMFD, 1, ONCE, EMFILE);
    const cf_status status = take_outcome(cf_executor_submit(executor, task_echo, big, BIG));
    CHECK(status == CF_SYSTEM || status == CF_NO_MEMORY);
    CHECK_EQ(pid_of_a_worker(executor), worker);
    CHECK(pid_of_a_worker(executor) != worker);
    shut(executor);
    forget_faults();
}

TEST(with_one_worker_and_no_second_the_tasks_still_run) {
    cf_future *futures[5];
    share();
    plan_faults();
    cf_executor *executor = processes(3);
    const pid_t worker = pid_of_a_worker(executor);
    refuse_forks(ONWARD);
    for (int i = 0; i < 5; i++) {
        futures[i] = submit_none(executor, task_pid);
    }
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(take_int(futures[i]), worker);
    }
    refuse_nothing();
    shut(executor);
    forget_faults();
}

/* Processes that start anew come here too, with the plan, and never return. */
int main(int argc, char **argv) {
    if (getenv("CF_TEST_PLAN") != NULL && fcntl(PLAN_FD, F_GETFD) != -1) {
        map_plan(PLAN_FD);
    }
    cf_process_main(argc, argv);
    setenv("CF_TEST_PLAN", "1", 1);
    test_case tests[] = {
        RUN_WITHIN(LONG_S, memory_is_refused)
        RUN_WITHIN(LONG_S, forks_are_refused)
        RUN_WITHIN(LONG_S, sockets_are_refused)
        RUN_WITHIN(LONG_S, mappings_are_refused)
        RUN_WITHIN(LONG_S, protection_is_refused)
        RUN_WITHIN(LONG_S, shared_memory_is_refused)
        RUN_WITHIN(LONG_S, room_in_shared_memory_is_refused)
        RUN_WITHIN(LONG_S, seals_are_refused)
        RUN_WITHIN(LONG_S, a_look_at_shared_memory_is_refused)
        RUN_WITHIN(LONG_S, descriptors_above_2_are_refused)
        RUN_WITHIN(LONG_S, the_null_device_is_refused)
        RUN_WITHIN(LONG_S, duplicates_are_refused)
        RUN_WITHIN(LONG_S, messages_are_refused)
        RUN_WITHIN(LONG_S, messages_with_a_descriptor_are_refused)
        RUN_WITHIN(LONG_S, receiving_is_refused)
        RUN_WITHIN(LONG_S, polls_are_refused)
        RUN_WITHIN(LONG_S, reads_are_refused)
        RUN_WITHIN(LONG_S, timers_are_refused)
        RUN_WITHIN(LONG_S, signal_descriptors_are_refused)
        RUN_WITHIN(LONG_S, threads_are_refused)
        RUN_WITHIN(LONG_S, fork_handlers_are_refused)
        RUN_WITHIN(LONG_S, spawn_is_refused_the_executable)
        RUN_WITHIN(LONG_S, spawn_is_refused_forks)
        RUN_WITHIN(LONG_S, spawn_is_refused_memory)
        RUN_WITHIN(LONG_S, spawn_is_refused_mappings)
        RUN_WITHIN(LONG_S, spawn_is_refused_shared_memory)
        RUN_SEEDS(2, LONG_S, two_calls_are_refused)
        RUN_WITHIN(LONG_S, polls_are_interrupted)
        RUN_WITHIN(LONG_S, sends_are_interrupted)
        RUN_WITHIN(LONG_S, receives_are_interrupted)
        RUN_WITHIN(LONG_S, receives_are_short)
        RUN_WITHIN(LONG_S, waits_are_interrupted)
        RUN_WITHIN(LONG_S, files_are_interrupted)
        RUN(one_fork_that_fails_is_tried_again)
        RUN(a_pool_that_can_start_no_worker_is_broken)
        RUN(a_replacement_that_cannot_start_breaks_the_pool)
        RUN(a_task_that_could_not_be_handed_over_counts_for_no_worker)
        RUN(with_one_worker_and_no_second_the_tasks_still_run)
    };
    return test_run_all(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
