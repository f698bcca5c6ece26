/* What no other test of the process section happens to reach: calls of the system that answer
 * rarely so, moments that have to be arranged. `make coverage` says which those are.
 *
 * The linker puts the functions below between the library and the system:
 * link: -Wl,--wrap=malloc,--wrap=waitpid,--wrap=syscall,--wrap=fcntl,--wrap=ftruncate,--wrap=poll
 * link: -Wl,--wrap=sendmsg,--wrap=recvmsg,--wrap=getppid,--wrap=getrlimit,--wrap=clock_gettime
 * link: -Wl,--wrap=madvise,--wrap=fork,--wrap=shm_open
 */
#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* syscall, memfd_create */
#endif
#include "test.h"

#include "process.h"
#include "rights.h"

#include <stdarg.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

/* ---------------------------------------------------------------- tricks */

typedef enum trick {
    SEND_FAILS,     /* a worker's, with `error` */
    HIDE_RIGHTS,    /* a worker receives a descriptor as something else, */
    HIDE_LEVEL,     /* or of another level */
    LOSE_RIGHTS,    /* the zygote receives no descriptor */
    NO_LIMIT_KNOWN, /* getrlimit fails in the host */
    NO_MEMORY,      /* to share, in a worker */
    LATE_CLOCK,     /* three seconds later, in a worker */
    WAIT_EINTR,     /* in the zygote */
    STRANGE_PARENT, /* once forked, a worker sees another parent */
    NO_FORK,        /* in the zygote */
    NO_DUP,         /* in the host; the one before the last is refused */
    FALSE_REPORT,   /* the host hears of a lane that is not there */
    OLD_REPORT,     /* the host hears of a process that is no more */
    SLEEP_IS_OVER,  /* the manager's second of patience */
    TRICKS
} trick;

/* Shared by all processes of the pool. */
typedef struct tricks {
    atomic_int left[TRICKS]; /* how often it is still played */
    atomic_int played[TRICKS];
    atomic_int error, advised;
    _Atomic(pid_t) host;
} tricks;

static tricks *bag;

static void open_bag(void) {
    void *memory =
        mmap(NULL, sizeof *bag, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    bag = memory;
    bag->host = getpid();
}

static void close_bag(void) {
    CHECK_EQ(munmap(bag, sizeof *bag), 0);
    bag = NULL;
}

static bool plays(trick which) {
    if (bag == NULL || atomic_load(&bag->left[which]) <= 0) {
        return false;
    }
    atomic_fetch_sub(&bag->left[which], 1);
    atomic_fetch_add(&bag->played[which], 1);
    return true;
}

static void prepare(trick which, int times) {
    atomic_store(&bag->left[which], times);
}

static bool was_played(trick which) {
    return atomic_load(&bag->played[which]) > 0;
}

typedef enum role { HOST, ZYGOTE, WORKER } role;

pid_t __real_getppid(void);
static role role_here(void) {
    return bag == NULL || getpid() == bag->host ? HOST
           : __real_getppid() == bag->host      ? ZYGOTE
                                                : WORKER;
}

static bool plays_in(role where, trick which) {
    return bag != NULL && atomic_load(&bag->left[which]) > 0 && role_here() == where &&
           plays(which);
}

/* Called once by the host's next allocation of that size, by its next ftruncate. */
typedef void hook(void);
static struct {
    size_t size;
    hook *_Atomic in_malloc;
    atomic_bool refuses;
    hook *_Atomic in_truncate;
} hooks;

/* ---------------------------------------------------------------- the calls */

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    hook *meanwhile = hooks.in_malloc;
    if (meanwhile == NULL || size != hooks.size ||
        !atomic_compare_exchange_strong(&hooks.in_malloc, &meanwhile, (hook *)0)) {
        return __real_malloc(size);
    }
    const bool refuses = hooks.refuses;
    meanwhile();
    return refuses ? NULL : __real_malloc(size);
}

int __real_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size) {
    hook *meanwhile = atomic_exchange(&hooks.in_truncate, (hook *)0);
    if (meanwhile != NULL) {
        meanwhile();
    }
    return __real_ftruncate(fd, size);
}

pid_t __wrap_getppid(void);
pid_t __wrap_getppid(void) {
    return plays_in(WORKER, STRANGE_PARENT) ? 1 : __real_getppid();
}

pid_t __real_fork(void);
pid_t __wrap_fork(void);
pid_t __wrap_fork(void) {
    if (plays_in(ZYGOTE, NO_FORK)) {
        errno = EAGAIN;
        return -1;
    }
    return __real_fork();
}

pid_t __real_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options) {
    if (pid > 0 && bag != NULL && role_here() != HOST && plays(WAIT_EINTR)) {
        errno = EINTR;
        return -1;
    }
    return __real_waitpid(pid, status, options);
}

#ifdef __linux__
#define RESOURCE __rlimit_resource_t
#ifndef __GLIBC__
#undef RESOURCE
#define RESOURCE int
#endif
#else
#define RESOURCE int
#endif
int __real_getrlimit(RESOURCE resource, struct rlimit *limits);
int __wrap_getrlimit(RESOURCE resource, struct rlimit *limits);
/* Clang's ThreadSanitizer calls it before it can watch anything. */
#if defined __clang__ && __has_attribute(disable_sanitizer_instrumentation)
__attribute__((disable_sanitizer_instrumentation))
#endif
int __wrap_getrlimit(RESOURCE resource, struct rlimit *limits) {
    return bag != NULL && plays_in(HOST, NO_LIMIT_KNOWN) ? -1 : __real_getrlimit(resource, limits);
}

int __real_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t) {
    const int result = __real_clock_gettime(clock, t);
    if (plays_in(WORKER, LATE_CLOCK)) {
        t->tv_sec += 3;
    }
    return result;
}

int __real_madvise(void *at, size_t size, int advice);
int __wrap_madvise(void *at, size_t size, int advice);
int __wrap_madvise(void *at, size_t size, int advice) {
    if (bag != NULL) {
        atomic_fetch_add(&bag->advised, 1);
    }
    return __real_madvise(at, size, advice);
}

/* The manager's long patience ends when the test says so. */
int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout) {
    if (bag == NULL || timeout < 500 || role_here() != HOST) {
        return __real_poll(fds, count, timeout);
    }
    const int64_t end = now() + timeout * (int64_t)1000000;
    int ready;
    do {
        ready = __real_poll(fds, count, 2);
    } while (ready == 0 && now() < end && !plays(SLEEP_IS_OVER));
    return ready;
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...) {
    va_list list;
    va_start(list, command);
    const long arg = va_arg(list, long);
    va_end(list);
    if (command == F_DUPFD_CLOEXEC && plays(NO_DUP) && atomic_load(&bag->left[NO_DUP]) == 0) {
        errno = EMFILE;
        return -1;
    }
    return __real_fcntl(fd, command, arg);
}

#ifdef __linux__
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    long args[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) {
        args[i] = va_arg(list, long);
    }
    va_end(list);
    if (number == SYS_memfd_create && plays_in(WORKER, NO_MEMORY)) {
        errno = ENOMEM;
        return -1;
    }
    return __real_syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}
#else
int __real_shm_open(const char *name, int flags, mode_t mode);
int __wrap_shm_open(const char *name, int flags, mode_t mode);
int __wrap_shm_open(const char *name, int flags, mode_t mode) {
    if (plays_in(WORKER, NO_MEMORY)) {
        errno = ENOMEM;
        return -1;
    }
    return __real_shm_open(name, flags, mode);
}
#endif

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags) {
    if (plays_in(WORKER, SEND_FAILS)) {
        errno = atomic_load(&bag->error);
        return -1;
    }
    return __real_sendmsg(fd, message, flags);
}

/* What a zygote reports; the layout of cf__report. */
typedef struct report {
    uint32_t lane, generation;
    int32_t pid, status;
} report;

static void hide(struct msghdr *message, bool level) {
    struct cmsghdr *const control = CMSG_FIRSTHDR(message);
    if (control == NULL) {
        return;
    }
    int fd;
    memcpy(&fd, CMSG_DATA(control), sizeof fd);
    close(fd);
    if (level) {
        control->cmsg_level = SOL_SOCKET + 1;
    } else {
        control->cmsg_type = SCM_RIGHTS + 1;
    }
}

/* Only what carries a descriptor is worth a trick. */
static bool plays_on(const struct msghdr *message, role where, trick which) {
    return bag != NULL && message->msg_controllen > 0 && plays_in(where, which);
}

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags) {
    const bool reports = message->msg_iov[0].iov_len == sizeof(report);
    if (reports && role_here() == HOST && (plays(FALSE_REPORT) || plays(OLD_REPORT))) {
        const report r = {was_played(OLD_REPORT) ? 0 : 999, 0, 1, 0};
        memcpy(message->msg_iov[0].iov_base, &r, sizeof r);
        message->msg_controllen = 0;
        return sizeof r;
    }
    const ssize_t got = __real_recvmsg(fd, message, flags);
    if (got <= 0) {
        return got;
    }
    if (plays_on(message, WORKER, HIDE_RIGHTS)) {
        hide(message, false);
    } else if (plays_on(message, WORKER, HIDE_LEVEL)) {
        hide(message, true);
    } else if (plays_on(message, ZYGOTE, LOSE_RIGHTS)) {
        hide(message, false);
    }
    return got;
}

/* ---------------------------------------------------------------- messages */

TEST(a_worker_whose_channel_is_gone_leaves_and_its_result_counts) {
    static const int errors[] = {EPIPE, ECONNRESET, ENOTCONN, EBADF, ENOTSOCK};
    open_bag();
    cf_executor *ex = processes(1);
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        const pid_t worker = pid_of_a_worker(ex);
        atomic_store(&bag->error, errors[i]);
        atomic_store(&bag->played[SEND_FAILS], 0);
        prepare(SEND_FAILS, 1);
        while (!was_played(SEND_FAILS)) { /* while somebody looks at the desk it does not ring */
            cf_future *f = submit_none(ex, task_pid);
            UNTIL(cf_future_done(f));
            CHECK_EQ(take_int(f), worker);
        }
        UNTIL(!is_alive(worker));
    }
    still_works(ex);
    shut(ex);
    close_bag();
}

static void receive_badly(trick which) {
    static char big[5000];
    open_bag();
    cf_executor *ex = processes(1);
    still_works(ex);
    prepare(which, 1);
    cf_future *f = cf_executor_submit(ex, task_echo, big, sizeof big);
    CHECK_STATUS(take_outcome(f), CF_NO_MEMORY);
    CHECK(was_played(which));
    f = cf_executor_submit(ex, task_echo, big, sizeof big);
    CHECK_STATUS(take_outcome(f), CF_OK);
    shut(ex);
    close_bag();
}

TEST(what_is_no_descriptor_is_not_taken_for_one) {
    receive_badly(HIDE_RIGHTS);
}

TEST(what_is_of_another_level_is_no_descriptor_either) {
    receive_badly(HIDE_LEVEL);
}

TEST(a_start_without_its_channel_is_tried_again) {
    open_bag();
    cf_executor *ex = processes(1);
    prepare(LOSE_RIGHTS, 1);
    still_works(ex);
    CHECK(was_played(LOSE_RIGHTS));
    shut(ex);
    close_bag();
}

TEST(a_worker_that_was_forked_by_a_dying_zygote_leaves) {
    open_bag();
    cf_executor *ex = processes(1);
    prepare(STRANGE_PARENT, 1);
    still_works(ex);
    CHECK(was_played(STRANGE_PARENT));
    shut(ex);
    close_bag();
}

TEST(reports_of_no_worker_are_ignored) {
    open_bag();
    cf_executor *ex = processes(2);
    still_works(ex);
    prepare(FALSE_REPORT, 1);
    still_works(ex);
    UNTIL(was_played(FALSE_REPORT) || take_int(submit_int(ex, task_square, 2)) != 4);
    prepare(OLD_REPORT, 1);
    UNTIL(was_played(OLD_REPORT) || take_int(submit_int(ex, task_square, 2)) != 4);
    still_works(ex);
    CHECK_EQ(stats_of(ex).restarts, 0);
    shut(ex);
    close_bag();
}

static int send_memory(int channel, int fd, unsigned char number) {
    return send_rights(channel, number, &fd, 1, 0) == 1 ? 0 : errno;
}

/* int count: shows the host so much memory that it never speaks of. */
static int task_shows_memory(cf_task *task, void *arg) {
#ifdef __linux__
    int channel = -1, kind = 0;
    socklen_t size = sizeof kind;
    (void)task;
    for (int fd = 0; fd < 64 && channel < 0; fd++) {
        channel = getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size) == 0 ? fd : -1;
    }
    for (int i = 0; i < *(const int *)arg; i++) {
        const int fd = (int)syscall(SYS_memfd_create, "corner", 2U);
        const bool sealed = fd >= 0 && ftruncate(fd, 4096) == 0 && fcntl(fd, 1033, 7) == 0;
        const int error = sealed ? send_memory(channel, fd, 16) : ENOMEM;
        close(fd);
        if (error != 0) {
            return error;
        }
    }
    return 0;
#else
    (void)task;
    (void)arg;
    return 0;
#endif
}

TEST(memory_that_a_worker_shows_and_never_speaks_of_is_limited) {
    open_bag();
    cf_executor *ex = processes(1);
    still_works(ex);
    const size_t before = shared_mappings();
    CHECK_STATUS(take_outcome(submit_int(ex, task_shows_memory, 100)), CF_OK);
    still_works(ex);
    CHECK(shared_mappings() <= before + 64);
    shut(ex);
    close_bag();
}

/* ---------------------------------------------------------------- memory */

TEST(an_argument_that_no_memory_can_hold_is_refused) {
    cf_executor *ex = processes(1);
    const char here = 0;
    still_works(ex);
    const size_t sizes[] = {PTRDIFF_MAX, (size_t)PTRDIFF_MAX - 4096, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        cf_future *f = cf_executor_submit(ex, task_echo, &here, sizes[i]);
        CHECK_STATUS(take_outcome(f), CF_NO_MEMORY);
    }
    still_works(ex);
    shut(ex);
}

/* size_t: asks for so much, and does not mind. */
static int task_wants(cf_task *task, void *arg) {
    const size_t size = *(const size_t *)arg;
    return cf_task_result_buffer(task, size) == NULL ? 0 : 1;
}

TEST(a_result_that_no_memory_can_hold_fails) {
    cf_executor *ex = processes(1);
    const size_t sizes[] = {PTRDIFF_MAX, SIZE_MAX, (size_t)1 << 60};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        cf_future *f = cf_executor_submit(ex, task_wants, &sizes[i], sizeof sizes[i]);
        CHECK_STATUS(take_outcome(f), CF_NO_MEMORY);
    }
    still_works(ex);
    shut(ex);
}

/* size_t: says that its result is so long; nobody reads that far. */
static int task_boasts(cf_task *task, void *arg) {
    static char byte;
    return cf_task_return_owned(task, &byte, *(const size_t *)arg, NULL);
}

TEST(an_item_whose_result_no_memory_can_hold_fails_alone) {
    const size_t sizes[6] = {1, SIZE_MAX, SIZE_MAX / 4, SIZE_MAX / 8, 1, (size_t)1 << 59};
    const cf_map_options options = {.chunksize = 6};
    cf_executor *ex = processes(1);
    cf_map_iter *iter = cf_executor_map(ex, task_boasts, sizes, 6, sizeof sizes[0], &options);
    for (int i = 0; i < 6; i++) {
        cf_status status = CF_SYSTEM;
        CHECK_EQ(cf_map_next(iter, &status) != NULL, sizes[i] == 1);
        CHECK_STATUS(status, sizes[i] == 1 ? CF_OK : CF_NO_MEMORY);
    }
    cf_map_close(iter);
    shut(ex);
}

static int task_hands_over(cf_task *task, void *arg) {
    (void)arg;
    char *bytes = malloc(10000);
    CHECK(bytes != NULL);
    memset(bytes, 7, 10000);
    return cf_task_return_owned(task, bytes, 10000, free);
}

TEST(a_big_result_that_cannot_be_shared_fails) {
    open_bag();
    cf_executor *ex = processes(1);
    prepare(NO_MEMORY, 1);
    CHECK_STATUS(take_outcome(submit_none(ex, task_hands_over)), CF_NO_MEMORY);
    CHECK(was_played(NO_MEMORY));
    CHECK_STATUS(take_outcome(submit_none(ex, task_hands_over)), CF_OK);
    shut(ex);
    close_bag();
}

TEST(items_that_find_no_room_for_their_outcome_fail) {
    enum { ITEMS = 100 };
    int items[ITEMS];
    const cf_map_options options = {.chunksize = ITEMS};
    for (int i = 0; i < ITEMS; i++) {
        items[i] = i;
    }
    open_bag();
    cf_executor *ex = processes(1);
    prepare(NO_MEMORY, 1000);
    cf_map_iter *iter = cf_executor_map(ex, task_square, items, ITEMS, sizeof items[0], &options);
    int well = 0, failed = 0;
    for (int i = 0; i < ITEMS; i++) {
        cf_status status = CF_SYSTEM;
        const int *result = cf_map_next(iter, &status);
        CHECK(result != NULL ? *result == i * i : status == CF_NO_MEMORY);
        CHECK(result == NULL || failed == 0);
        well += result != NULL;
        failed += result == NULL;
    }
    CHECK(well > 0 && failed > 0);
    cf_map_close(iter);
    prepare(NO_MEMORY, 0);
    still_works(ex);
    shut(ex);
    close_bag();
}

TEST(a_limit_of_file_sizes_that_is_wide_enough_does_no_harm) {
    static char big[100000];
    const struct rlimit wide = {(rlim_t)1 << 30, (rlim_t)1 << 30};
    open_bag();
    cf_executor *ex = processes(1);
    still_works(ex);
    prepare(NO_LIMIT_KNOWN, 1);
    CHECK_STATUS(take_outcome(cf_executor_submit(ex, task_echo, big, 50000)), CF_OK);
    CHECK(was_played(NO_LIMIT_KNOWN));
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &wide), 0);
    CHECK_STATUS(take_outcome(cf_executor_submit(ex, task_echo, big, sizeof big)), CF_OK);
    shut(ex);
    close_bag();
}

TEST(of_two_places_for_arguments_the_bigger_one_is_taken) {
    static char small[2000], large[300000];
    open_bag();
    cf_executor *ex = processes(1);
    cf_future *futures[3];
    occupy_processes(ex, 1, futures);
    futures[1] = cf_executor_submit(ex, task_echo, small, sizeof small);
    futures[2] = cf_executor_submit(ex, task_stay, large, sizeof large);
    open_shared();
    for (int i = 0; i < 3; i++) {
        CHECK_STATUS(take_outcome(futures[i]), CF_OK);
    }
    for (int i = 0; i < 3; i++) {
        cf_future *f = cf_executor_submit(ex, task_echo, large, sizeof large);
        CHECK_STATUS(outcome(f), CF_OK);
        CHECK_EQ(cf_future_result_size(f), sizeof large);
        cf_future_release(f);
    }
    shut(ex);
    close_bag();
}

static void do_nothing(void) {
}

TEST(an_argument_as_big_as_the_place_of_the_last_one_goes_there) {
    static char bytes[1 << 16]; /* as places are: a power of two */
    cf_executor *ex = processes(1);
    still_works(ex);
    for (int i = 0; i < 3; i++) {
        hooks.in_truncate = do_nothing;
        CHECK_STATUS(take_outcome(cf_executor_submit(ex, task_echo, bytes, sizeof bytes)), CF_OK);
        CHECK_EQ(atomic_exchange(&hooks.in_truncate, (hook *)0) == NULL, i == 0);
    }
    shut(ex);
}

TEST(after_a_quiet_second_the_pages_of_big_payloads_are_given_back) {
#ifdef MADV_REMOVE
    enum { BIG = 4 << 20 };
    char *big = calloc(1, BIG);
    CHECK(big != NULL);
    open_bag();
    cf_executor *ex = processes(2);
    cf_future *f = cf_executor_submit(ex, task_echo, big, BIG);
    CHECK_STATUS(outcome(f), CF_OK);
    prepare(SLEEP_IS_OVER, 1);
    UNTIL(atomic_load(&bag->advised) > 0);
    (void)stats_of(ex); /* asks for the lock under which the manager does that: now it has */
    const char *result = cf_future_result(f, 0, NULL);
    CHECK(result != NULL && memcmp(result, big, BIG) == 0); /* held, so it stays */
    cf_future_release(f);
    still_works(ex);
    f = cf_executor_submit(ex, task_echo, big, BIG);
    CHECK_STATUS(take_outcome(f), CF_OK);
    cf_future *stays; /* a worker that has something to do keeps its pages */
    occupy_processes(ex, 1, &stays);
    prepare(SLEEP_IS_OVER, 1);
    UNTIL(atomic_load(&bag->left[SLEEP_IS_OVER]) == 0);
    open_shared();
    CHECK_STATUS(take_outcome(stays), CF_OK);
    const int advised = atomic_load(&bag->advised);
    prepare(SLEEP_IS_OVER, 1);
    UNTIL(atomic_load(&bag->advised) >= advised + 2); /* argument and result */
    prepare(SLEEP_IS_OVER, 0);
    CHECK_STATUS(take_outcome(cf_executor_submit(ex, task_echo, big, BIG)), CF_OK);
    shut(ex);
    close_bag();
    free(big);
#else
    SKIP("no MADV_REMOVE here");
#endif
}

TEST(after_a_quiet_second_the_memory_of_a_burst_is_given_back) {
    if (!test_alloc_hooked()) {
        SKIP("no view of the library's memory in this lane");
    }
    cf_executor *ex = processes(1);
    memory_of_a_burst_goes_back(ex, 1500 * CF_MILLISECOND);
    shut(ex);
}

/* ---------------------------------------------------------------- a moment of the host */

static struct {
    cf_executor *executor;
    cf_future *first, *futures[200];
    size_t count;
    cf_state state;
    bool cancelled;
    atomic_bool cancelling;
    void *(*cancels)(void *arg);
    gate ended;
} world;

static void submit_many_more(void) {
    int items[200] = {0};
    world.count = 200;
    CHECK_STATUS(cf_executor_submit_many(world.executor, task_square, items, 200, sizeof items[0],
                                         world.futures),
                 CF_OK);
}

TEST(the_queue_may_grow_while_it_grows) {
    world.executor = processes(1);
    hooks.size = 64 * sizeof(void *);
    hooks.in_malloc = submit_many_more;
    CHECK_EQ(take_int(submit_int(world.executor, task_square, 3)), 9);
    CHECK(hooks.in_malloc == NULL);
    for (size_t i = 0; i < world.count; i++) {
        CHECK_EQ(take_int(world.futures[i]), 0);
    }
    shut(world.executor);
}

static void shut_down_meanwhile(void) {
    (void)cf_executor_shutdown(world.executor, 0, CF_RUN_PENDING);
}

TEST(a_pool_that_is_shut_down_while_its_queue_grows_refuses) {
    world.executor = processes(1);
    hooks.size = 64 * sizeof(void *);
    hooks.in_malloc = shut_down_meanwhile;
    CHECK_STATUS(take_outcome(submit_int(world.executor, task_square, 3)), CF_SHUTDOWN);
    shut(world.executor);
}

static void cancel_meanwhile(void) {
    world.cancelled = cf_future_cancel(world.first);
}

/* A worker that is stopped holds a task that it has not begun, whose argument is lent; it dies. The
 * manager has to keep the argument, and meanwhile the task is cancelled. */
static void die_with_a_lent_argument(bool refused) {
    static char big[5000];
    world.executor = processes(1);
    const pid_t worker = pid_of_a_worker(world.executor);
    CHECK_EQ(kill(worker, SIGSTOP), 0);
    UNTIL(look_at(worker).state == 'T');
    world.first = cf_executor_submit(world.executor, task_echo, big, sizeof big);
    CHECK_EQ(cf_future_state(world.first), CF_STATE_PENDING);
    hooks.size = sizeof big;
    hooks.refuses = refused;
    hooks.in_malloc = cancel_meanwhile;
    CHECK_EQ(kill(worker, SIGKILL), 0);
    CHECK_STATUS(take_outcome(world.first), CF_CANCELLED);
    CHECK(hooks.in_malloc == NULL);
    hooks.refuses = false;
    still_works(world.executor);
    shut(world.executor);
}

TEST(a_task_may_be_cancelled_while_its_argument_is_rescued) {
    if (!has_proc()) {
        SKIP("no /proc here");
    }
    die_with_a_lent_argument(false);
    CHECK(world.cancelled);
}

TEST(a_task_whose_argument_is_lost_may_be_cancelled_first) {
    if (!has_proc()) {
        SKIP("no /proc here");
    }
    die_with_a_lent_argument(true);
}

static void kill_meanwhile(void) {
    CHECK_STATUS(cf_executor_kill_workers(world.executor, SIGKILL), CF_OK);
}

TEST(a_pool_may_be_killed_while_an_argument_is_copied) {
    static char big[5000];
    world.executor = processes(1);
    still_works(world.executor);
    hooks.in_truncate = kill_meanwhile;
    cf_future *f = cf_executor_submit_with(world.executor, task_echo, big, sizeof big,
                                           &(cf_submit_options){.timeout = limit(8)});
    CHECK(hooks.in_truncate == NULL);
    const cf_status status = take_outcome(f);
    CHECK(status == CF_CANCELLED || status == CF_WORKER_LOST || status == CF_OK); /* complete */
    shut(world.executor);
}

static void look_meanwhile(void) {
    world.state = cf_future_state(world.first);
}

TEST(a_task_that_waits_in_front_of_a_big_one_is_pending) {
    static char big[5000];
    world.executor = processes(1);
    cf_future *stays, *f;
    occupy_processes(world.executor, 1, &stays);
    world.first = stays;
    hooks.in_truncate = look_meanwhile;
    f = cf_executor_submit(world.executor, task_echo, big, sizeof big);
    UNTIL(hooks.in_truncate == NULL);
    open_shared();
    CHECK_STATUS(take_outcome(stays), CF_OK);
    CHECK_STATUS(take_outcome(f), CF_OK);
    CHECK_EQ(world.state, CF_STATE_RUNNING);
    shut(world.executor);
}

/* ---------------------------------------------------------------- ends */

/* int signal: raises it, with no core file. */
static int task_raise(cf_task *task, void *arg) {
    const struct rlimit none = {0, 0};
    (void)task;
    setrlimit(RLIMIT_CORE, &none);
    raise(*(const int *)arg);
    return 0;
}

TEST(each_signal_that_ends_a_worker_has_its_name) {
    static const struct {
        int signal;
        const char *name;
    } ends[] = {{SIGSEGV, "SIGSEGV"}, {SIGABRT, "SIGABRT"}, {SIGBUS, "SIGBUS"},
                {SIGFPE, "SIGFPE"},   {SIGILL, "SIGILL"},   {SIGKILL, "SIGKILL"},
                {SIGTERM, "SIGTERM"}, {SIGTRAP, "SIGTRAP"}, {SIGSYS, "SIGSYS"},
                {SIGPIPE, "SIGPIPE"}, {SIGALRM, "SIGALRM"}, {SIGHUP, "SIGHUP"},
                {SIGQUIT, "SIGQUIT"}, {SIGXCPU, "SIGXCPU"}, {SIGXFSZ, "SIGXFSZ"},
                {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"}, {SIGVTALRM, "a signal"}};
    if (is_watched()) {
        SKIP("who watches would report them");
    }
    cf_executor *ex = processes(1);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        cf_future *f = submit_int(ex, task_raise, ends[i].signal);
        CHECK_STATUS(outcome(f), CF_WORKER_LOST);
        CHECK_EQ(cf_future_error_code(f), ends[i].signal);
        char wanted[64];
        snprintf(wanted, sizeof wanted, "by signal %d (%s)", ends[i].signal, ends[i].name);
        CHECK(strstr(cf_future_error_message(f), wanted) != NULL);
        cf_future_release(f);
    }
    shut(ex);
}

static void leave_a_pool_behind(void *arg) {
    (void)arg;
    cf_executor *ex = processes(1);
    cf_future *f;
    bag->host = getpid();
    occupy_processes(ex, 1, &f);
    prepare(WAIT_EINTR, 1);
}

TEST(a_zygote_that_is_interrupted_still_ends_all_workers) {
    open_bag();
    share();
    CHECK_EQ(in_child(leave_a_pool_behind, NULL), 0);
    const pid_t worker = arrived_pid(0);
    UNTIL(!is_alive(worker));
    CHECK(was_played(WAIT_EINTR));
    close_bag();
}

TEST(a_second_worker_that_never_starts_breaks_nothing_while_the_first_is_up) {
    open_bag();
    cf_executor *ex = processes(2);
    cf_future *stays, *second;
    occupy_processes(ex, 1, &stays);
    prepare(NO_FORK, 10000);
    second = submit_none(ex, task_pid);
    UNTIL(atomic_load(&bag->played[NO_FORK]) >= 9); /* more than a hundred strikes */
    CHECK(!cf_future_done(second));
    prepare(NO_FORK, 0);
    open_shared();
    CHECK_STATUS(take_outcome(stays), CF_OK);
    CHECK_STATUS(take_outcome(second), CF_OK);
    shut(ex);
    close_bag();
}

/* ---------------------------------------------------------------- stdio and clock of a worker */

static void *hold_stdout(void *arg) {
    flockfile(stdout);
    gate_open(arg);
    for (;;) {
        pause();
    }
    return NULL;
}

static gate stdout_is_held = GATE_INIT;

static int task_leaves_a_thread_with_stdout(cf_task *task, void *arg) {
    pthread_t thread;
    (void)task;
    (void)arg;
    spawn(&thread, hold_stdout, &stdout_is_held);
    gate_await(&stdout_is_held);
    return 0;
}

TEST(a_thread_of_a_task_that_holds_stdout_holds_up_no_task) {
    if (is_watched()) {
        SKIP("not every sanitizer lets a worker start threads");
    }
    cf_executor *ex = processes(1);
    CHECK_STATUS(take_outcome(submit_none(ex, task_leaves_a_thread_with_stdout)), CF_OK);
    still_works(ex);
    shut(ex);
}

TEST(a_task_that_begins_seconds_late_has_its_time) {
    open_bag();
    cf_executor *ex = processes(1);
    still_works(ex);
    prepare(LATE_CLOCK, 1000000);
    cf_future *f = submit_timed(ex, task_pid, limit(20));
    CHECK_STATUS(take_outcome(f), CF_OK);
    CHECK(was_played(LATE_CLOCK));
    prepare(LATE_CLOCK, 0);
    shut(ex);
    close_bag();
}

/* ---------------------------------------------------------------- the host's other parts */

static void close_streams_and_make_a_pool(void *arg) {
    cf_status status = CF_OK;
    bag->host = getpid();
    for (int fd = 0; fd < 3; fd++) {
        close(fd);
    }
    prepare(NO_DUP, *(const int *)arg);
    if (cf_process_pool_new(NULL, &status) != NULL || status != CF_SYSTEM ||
        fcntl(0, F_GETFD) != -1 || fcntl(1, F_GETFD) != -1 || fcntl(2, F_GETFD) != -1) {
        _exit(2);
    }
}

TEST(descriptors_that_cannot_be_moved_above_the_streams_are_closed) {
    open_bag();
    for (int nth = 1; nth <= 3; nth++) { /* the manager's own, and two ends of a channel */
        CHECK_EQ(in_child(close_streams_and_make_a_pool, &nth), 0);
    }
    close_bag();
}

static void release_a_big_result(void *arg) {
    cf_future_release(arg);
}

TEST(a_child_of_a_fork_may_release_a_big_result) {
    static char big[5000];
    cf_executor *ex = processes(1);
    cf_future *f = cf_executor_submit(ex, task_echo, big, sizeof big);
    CHECK_STATUS(outcome(f), CF_OK);
    CHECK_EQ(in_child(release_a_big_result, f), 0);
    CHECK(cf_future_result(f, 0, NULL) != NULL);
    cf_future_release(f);
    shut(ex);
}

typedef struct inherited {
    cf_executor *executor;
    cf_future *future;
} inherited;

static void release_and_close(void *arg) {
    const inherited *both = arg;
    cf_future_release(both->future);
    cf_executor_close(both->executor);
}

static void close_and_release(void *arg) {
    const inherited *both = arg;
    cf_executor_close(both->executor);
    cf_future_release(both->future);
}

TEST(a_child_of_a_fork_may_release_a_big_result_and_close_the_pool) {
    static char big[5000];
    cf_executor *ex = processes(1);
    inherited both = {ex, cf_executor_submit(ex, task_echo, big, sizeof big)};
    CHECK_STATUS(outcome(both.future), CF_OK);
    CHECK_EQ(in_child(release_and_close, &both), 0);
    CHECK_EQ(in_child(close_and_release, &both), 0);
    cf_future_release(both.future);
    shut(ex);
}

static void look_at_what_was_inherited(void *arg) {
    cf_future *const f = arg;
    cf_status status = CF_OK;
    CHECK_EQ(cf_future_state(f), CF_STATE_PENDING);
    cf_as_completed_iter *iter = cf_as_completed(&f, 1, CF_FOREVER);
    struct pollfd ready = {cf_as_completed_fd(iter), POLLIN, 0};
    CHECK_EQ(poll(&ready, 1, 0), 1); /* next would not block: it says so */
    CHECK(cf_as_completed_next(iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_FORKED);
    CHECK_EQ(poll(&ready, 1, 0), 1);
    cf_as_completed_close(iter);
}

TEST(a_child_of_a_fork_sees_what_cannot_end_there) {
    cf_executor *ex = processes(1);
    cf_future *stays, *f;
    occupy_processes(ex, 1, &stays);
    f = submit_none(ex, task_pid);
    CHECK_EQ(in_child(look_at_what_was_inherited, f), 0);
    open_shared();
    CHECK_STATUS(take_outcome(stays), CF_OK);
    CHECK_STATUS(take_outcome(f), CF_OK);
    shut(ex);
}

static int task_waits_for(cf_task *task, void *arg) {
    (void)task;
    return (int)-cf_future_wait(arg, CF_FOREVER);
}

TEST(a_thread_waits_for_a_process_that_cannot_be_cancelled_any_more) {
    cf_executor *ex = processes(1), *threads = pool(1);
    cf_future *stays;
    occupy_processes(ex, 1, &stays);
    CHECK(!cf_future_cancel(stays));
    CHECK_EQ(cf_future_state(stays), CF_STATE_RUNNING);
    cf_future *waits = cf_executor_submit(threads, task_waits_for, CF_POINTER(stays));
    UNTIL(cf_future_running(waits));
    open_shared();
    CHECK_STATUS(take_outcome(waits), CF_OK);
    CHECK_STATUS(take_outcome(stays), CF_OK);
    cf_executor_close(threads);
    shut(ex);
}

static void use_up_descriptors(void) {
    while (dup(0) >= 0) {
    }
}

static void ask_for_one_descriptor_more(void *arg) {
    const struct rlimit few = {64, 64};
    cf_as_completed_iter *iter = arg;
    setrlimit(RLIMIT_NOFILE, &few);
    use_up_descriptors();
    CHECK_EQ(cf_as_completed_fd(iter), -1);
    CHECK_EQ(cf_as_completed_fd(iter), -1);
    close(0); /* standard input's, for nobody else */
    CHECK_EQ(cf_as_completed_fd(iter), -1);
    close(40);
#ifndef __linux__ /* a pipe has two, and half of one is none */
    CHECK_EQ(cf_as_completed_fd(iter), -1);
    close(41);
#endif
    CHECK(cf_as_completed_fd(iter) > 2);
    cf_as_completed_close(iter);
}

TEST(an_iterator_without_a_descriptor_says_so) {
    cf_future *f = promise();
    cf_as_completed_iter *iter = cf_as_completed(&f, 1, CF_FOREVER);
    CHECK_EQ(in_child(ask_for_one_descriptor_more, iter), 0);
    cf_as_completed_close(iter);
    cf_future_release(f);
}

TEST(a_pool_of_processes_on_one_cpu_spins_for_nobody) {
    if (!stay_on_one_cpu()) {
        SKIP("no affinity here");
    }
    cf_executor *ex = processes(2);
    for (int i = 0; i < 50; i++) {
        still_works(ex);
    }
    shut(ex);
}

/* Longer than a task, so that the next one has ended already: the manager never comes to rest. */
static void call_back_slowly(cf_future *future, void *user) {
    const int64_t until = now() + 150000;
    (void)future;
    while (now() < until) {
    }
    atomic_fetch_add((atomic_int *)user, 1);
}

static int task_takes_a_moment(cf_task *task, void *arg) {
    const int64_t until = now() + 50000;
    (void)task;
    (void)arg;
    while (now() < until) {
    }
    return 0;
}

TEST(a_flood_of_callbacks_keeps_the_manager_from_nothing) {
    enum { FLOOD = 3000 };
    static cf_future *futures[FLOOD];
    atomic_int called = 0;
    cf_executor *ex = processes(2);
    for (int i = 0; i < FLOOD; i++) {
        futures[i] = submit_none(ex, task_takes_a_moment);
        CHECK_STATUS(cf_future_add_done_callback(futures[i], call_back_slowly, &called), CF_OK);
    }
    /* A deadline in the middle of it is kept. */
    CHECK_STATUS(take_outcome(submit_timed(ex, task_hang, 20 * CF_MILLISECOND)), CF_TASK_TIMEOUT);
    release_all(futures, FLOOD);
    shut(ex);
    CHECK_EQ(atomic_load(&called), FLOOD);
}

/* ---------------------------------------------------------------- map_array */

static int task_fails_on_three(cf_task *task, void *arg) {
    arrive();
    return *(const int *)arg == 3 ? cf_task_fail(task, 3, "three") : return_int(task, 1);
}

typedef struct callback_map {
    cf_executor *executor;
    cf_status status;
    gate called;
} callback_map;

static void map_in_a_callback(cf_future *future, void *user) {
    callback_map *m = user;
    const int items[2] = {1, 2};
    (void)future;
    m->status = cf_executor_map_array(m->executor, task_square, items, sizeof items[0], NULL, 0, 2,
                                      NULL, NULL);
    gate_open(&m->called);
}

TEST(a_map_over_processes_may_end_early) {
    const int items[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    int results[8];
    size_t failed = 9;
    const cf_map_options stops = {.stop_on_error = true, .chunksize = 1};
    const cf_map_options hurries = {.timeout = 20 * CF_MILLISECOND};
    cf_executor *ex = processes(1);
    CHECK_STATUS(cf_executor_map_array(ex, task_fails_on_three, items, sizeof items[0], results,
                                       sizeof results[0], 8, &stops, &failed),
                 CF_TASK_FAILED);
    CHECK_EQ(failed, 2);
    CHECK_EQ(results[1], 1);
    CHECK_EQ(results[7], 0);
    CHECK_STATUS(cf_executor_map_array(ex, task_fails_on_three, items, sizeof items[0], NULL, 0, 1,
                                       NULL, NULL),
                 CF_INVALID);
    CHECK_STATUS(cf_executor_map_array(ex, task_obey, items, sizeof items[0], NULL, 0, 2, &hurries,
                                       &failed),
                 CF_TIMEOUT);
    CHECK_EQ(failed, 0);
    callback_map m = {.executor = ex, .called = GATE_INIT};
    cf_future *f = submit_none(ex, task_pid);
    CHECK_STATUS(cf_future_add_done_callback(f, map_in_a_callback, &m), CF_OK);
    gate_await(&m.called);
    CHECK(m.status == CF_DEADLOCK || m.status == CF_INVALID);
    cf_future_release(f);
    shut(ex);
}

TEST(progress_of_a_map_over_processes_counts_items) {
    const int items[6] = {1, 2, 3, 4, 5, 6};
    size_t total = 0;
    cf_executor *ex = processes(1);
    still_works(ex);
    cf_map_iter *iter = cf_executor_map(ex, task_stay, items, 6, sizeof items[0],
                                        &(cf_map_options){.chunksize = 3});
    await_arrivals(1);
    CHECK_EQ(cf_map_progress(iter, &total), 0);
    CHECK_EQ(total, 6);
    open_shared();
    UNTIL(cf_map_progress(iter, NULL) == 6);
    for (int i = 0; i < 6; i++) {
        CHECK(cf_map_next(iter, NULL) != NULL);
    }
    cf_map_close(iter);
    shut(ex);
}

/* int: the third one stays, the others do not. */
static int task_stays_at_three(cf_task *task, void *arg) {
    return *(const int *)arg == 3 ? task_stay(task, arg) : task_echo(task, arg);
}

TEST(progress_of_a_running_chunk_is_told_by_its_worker) {
    const int items[6] = {1, 2, 3, 4, 5, 6};
    cf_executor *ex = processes(1);
    still_works(ex);
    cf_map_iter *iter = cf_executor_map(ex, task_stays_at_three, items, 6, sizeof items[0],
                                        &(cf_map_options){.chunksize = 6});
    await_arrivals(1);
    UNTIL(cf_map_progress(iter, NULL) == 2);
    open_shared();
    UNTIL(cf_map_progress(iter, NULL) == 6);
    cf_map_close(iter);
    shut(ex);
}

static void ask_for_progress(void *arg) {
    CHECK_EQ(cf_map_progress(arg, NULL), 0);
}

static cf_map_iter *mapped;
static size_t progress_meanwhile;

static void look_at_the_progress(void) {
    progress_meanwhile = cf_map_progress(mapped, NULL);
}

TEST(progress_may_be_asked_for_at_any_moment) {
    static char items[2][5000];
    cf_executor *ex = processes(1);
    cf_future *stays;
    still_works(ex);
    occupy_processes(ex, 1, &stays);
    hooks.size = SIZE_MAX; /* none */
    mapped = cf_executor_map(ex, task_echo, items, 2, sizeof items[0],
                             &(cf_map_options){.chunksize = 2});
    CHECK_EQ(in_child(ask_for_progress, mapped), 0);
    progress_meanwhile = 9;
    cf_map_iter *other = cf_executor_map(ex, task_echo, items, 2, sizeof items[0], NULL);
    hooks.in_truncate = look_at_the_progress; /* when the manager copies the items */
    open_shared();
    CHECK(cf_map_next(other, NULL) != NULL);
    atomic_store(&hooks.in_truncate, (hook *)0);
    CHECK(progress_meanwhile <= 9);
    cf_map_close(other);
    UNTIL(cf_map_progress(mapped, NULL) == 2);
    cf_map_close(mapped);
    CHECK_STATUS(take_outcome(stays), CF_OK);
    shut(ex);
}

/* int: dies at three. */
static int task_dies_at_three(cf_task *task, void *arg) {
    if (*(const int *)arg == 3) {
        _exit(3);
    }
    return task_echo(task, arg);
}

static atomic_int told;

static void count_event(const cf_event *event, void *user) {
    (void)event;
    (void)user;
    atomic_fetch_add(&told, 1);
}

static cf_executor *observed(bool break_on_crash) {
    static const cf_observer observer = {.submitted = count_event, .finished = count_event};
    return processes_with(&(cf_pool_options){.max_workers = 1,
                                             .observer = &observer,
                                             .break_on_crash = break_on_crash});
}

static void lose_an_item(bool break_on_crash, size_t count, cf_status then) {
    const int items[4] = {1, 2, 3, 4};
    cf_executor *ex = observed(break_on_crash);
    cf_map_iter *iter = cf_executor_map(ex, task_dies_at_three, items, count, sizeof items[0],
                                        &(cf_map_options){.chunksize = count});
    for (size_t i = 0; i < count; i++) {
        cf_status status = CF_SYSTEM;
        (void)cf_map_next(iter, &status);
        CHECK_STATUS(status, i < 2 ? CF_OK : i == 2 ? CF_WORKER_LOST : then);
    }
    cf_map_close(iter);
    shut(ex);
}

TEST(an_observed_chunk_may_lose_any_of_its_items) {
    lose_an_item(false, 3, CF_OK);
    lose_an_item(false, 4, CF_OK);
    lose_an_item(true, 3, CF_OK);
    lose_an_item(true, 4, CF_BROKEN);
    CHECK(atomic_load(&told) >= 8);
}

TEST(an_observer_is_told_of_an_argument_that_no_memory_can_hold) {
    const char here = 0;
    cf_executor *ex = observed(false);
    still_works(ex);
    const int before = atomic_load(&told);
    CHECK_STATUS(take_outcome(cf_executor_submit(ex, task_echo, &here, PTRDIFF_MAX)),
                 CF_NO_MEMORY);
    still_works(ex);
    shut(ex);
    CHECK_EQ((atomic_load(&told) - before) % 2, 0); /* submitted and finished, or neither */
}

static void copy_meanwhile(void) {
    /* Another thread cancels; this one copies the argument on, and takes its time. */
    pthread_t thread;
    spawn(&thread, world.cancels, NULL);
    UNTIL(atomic_load(&world.cancelling));
    sleep_for(20 * CF_MILLISECOND);
    pthread_detach(thread);
}

static void *cancel_the_first(void *arg) {
    (void)arg;
    atomic_store(&world.cancelling, true);
    world.cancelled = cf_future_cancel(world.first);
    gate_open(&world.ended);
    return NULL;
}

/* The sleep makes it likely that the cancel waits for the copy; it is right either way. */
TEST(a_cancel_waits_for_whoever_copies_an_argument) {
    static char big[5000];
    world.ended = (gate)GATE_INIT;
    world.cancels = cancel_the_first;
    world.executor = processes(1);
    cf_future *f;
    occupy_processes(world.executor, 1, &world.first);
    hooks.in_truncate = copy_meanwhile;
    f = cf_executor_submit(world.executor, task_echo, big, sizeof big);
    gate_await(&world.ended);
    CHECK(!world.cancelled);
    open_shared();
    CHECK_STATUS(take_outcome(world.first), CF_OK);
    CHECK_STATUS(take_outcome(f), CF_OK);
    shut(world.executor);
}

/* ---------------------------------------------------------------- options, and main */

TEST(options_that_no_pool_of_processes_can_have_are_refused) {
    const cf_pool_options bad[] = {
        {.max_workers = SIZE_MAX},
        {.queue_limit = (size_t)PTRDIFF_MAX + 1},
        {.on_full = CF_FULL_CALLER_RUNS},
        {.on_full = (cf_on_full)-1},
        {.start_method = (cf_start_method)2},
#ifdef __linux__
        {.start_method = CF_START_SPAWN, .initializer = (cf_initializer_fn *)(uintptr_t)16},
        {.start_method = CF_START_SPAWN, .finalizer = (cf_finalizer_fn *)(uintptr_t)16},
#endif
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cf_status status = CF_OK;
        CHECK(cf_process_pool_new(&bad[i], &status) == NULL);
        CHECK_STATUS(status, CF_INVALID);
        CHECK(cf_process_pool_new(&bad[i], NULL) == NULL);
    }
}

TEST(a_map_of_a_function_that_a_fresh_program_does_not_have_is_refused) {
#ifdef __linux__
    const int items[2] = {1, 2};
    cf_status status = CF_OK;
    cf_executor *ex = processes_with(
        &(cf_pool_options){.max_workers = 1, .start_method = CF_START_SPAWN});
    cf_map_iter *iter = cf_executor_map(ex, (cf_task_fn *)(uintptr_t)16, items, 2, sizeof items[0],
                                        NULL);
    for (int i = 0; i < 2; i++) {
        CHECK(cf_map_next(iter, &status) == NULL);
        CHECK_STATUS(status, CF_INVALID);
    }
    cf_map_close(iter);
    shut(ex);
#else
    SKIP("Linux only");
#endif
}

typedef struct command {
    const char *arguments[4];
    size_t memory; /* 0: none */
} command;

static void run_program(void *arg) {
    command *c = arg;
    char numbers[32];
    int ends[2];
    if (c->memory > 0) {
#ifdef __linux__
        const int fd = (int)syscall(SYS_memfd_create, "corner", 2U);
        if (fd < 0 || ftruncate(fd, (off_t)c->memory) != 0 || fcntl(fd, 1033, 7) != 0 ||
            socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
            _exit(1);
        }
        snprintf(numbers, sizeof numbers, "%d:%d", ends[0], fd);
        c->arguments[2] = numbers;
#endif
    }
    setenv("CF_TEST_AS_PROGRAM", "1", 1);
    execv("/proc/self/exe", (char *const *)(uintptr_t)c->arguments);
    _exit(1);
}

static int exit_status_of(command c) {
    const int status = in_child(run_program, &c);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(a_program_that_is_not_started_by_a_pool_goes_on_or_ends) {
    if (!has_proc()) {
        SKIP("no /proc here");
    }
    enum { GOES_ON = 99, ENDS = 127 };
    CHECK_EQ(exit_status_of((command){{"p", NULL}, 0}), GOES_ON);
    CHECK_EQ(exit_status_of((command){{"p", "some", "words", NULL}, 0}), GOES_ON);
    CHECK_EQ(exit_status_of((command){{"p", "--cfutures-zygote", "words", NULL}, 0}), ENDS);
    CHECK_EQ(exit_status_of((command){{"p", "--cfutures-zygote", "900:901", NULL}, 0}), ENDS);
#ifdef __linux__
    CHECK_EQ(exit_status_of((command){{"p", "--cfutures-zygote", "", NULL}, 4096}), ENDS);
    CHECK_EQ(exit_status_of((command){{"p", "--cfutures-zygote", "", NULL}, 1 << 20}), ENDS);
#endif
}

int main(int argc, char **argv) {
    cf_process_main(argc, argv);
    if (getenv("CF_TEST_AS_PROGRAM") != NULL) {
        return 99;
    }
    test_case tests[] = {
        RUN(a_worker_whose_channel_is_gone_leaves_and_its_result_counts)
        RUN(what_is_no_descriptor_is_not_taken_for_one)
        RUN(what_is_of_another_level_is_no_descriptor_either)
        RUN(a_start_without_its_channel_is_tried_again)
        RUN(a_worker_that_was_forked_by_a_dying_zygote_leaves)
        RUN(reports_of_no_worker_are_ignored)
        RUN(memory_that_a_worker_shows_and_never_speaks_of_is_limited)
        RUN(an_argument_that_no_memory_can_hold_is_refused)
        RUN(a_result_that_no_memory_can_hold_fails)
        RUN(an_item_whose_result_no_memory_can_hold_fails_alone)
        RUN(a_big_result_that_cannot_be_shared_fails)
        RUN(items_that_find_no_room_for_their_outcome_fail)
        RUN(a_limit_of_file_sizes_that_is_wide_enough_does_no_harm)
        RUN(of_two_places_for_arguments_the_bigger_one_is_taken)
        RUN(an_argument_as_big_as_the_place_of_the_last_one_goes_there)
        RUN(after_a_quiet_second_the_pages_of_big_payloads_are_given_back)
        RUN(after_a_quiet_second_the_memory_of_a_burst_is_given_back)
        RUN(the_queue_may_grow_while_it_grows)
        RUN(a_pool_that_is_shut_down_while_its_queue_grows_refuses)
        RUN(a_task_may_be_cancelled_while_its_argument_is_rescued)
        RUN(a_task_whose_argument_is_lost_may_be_cancelled_first)
        RUN(a_pool_may_be_killed_while_an_argument_is_copied)
        RUN(a_task_that_waits_in_front_of_a_big_one_is_pending)
        RUN(each_signal_that_ends_a_worker_has_its_name)
        RUN(a_zygote_that_is_interrupted_still_ends_all_workers)
        RUN(a_second_worker_that_never_starts_breaks_nothing_while_the_first_is_up)
        RUN(a_thread_of_a_task_that_holds_stdout_holds_up_no_task)
        RUN(a_task_that_begins_seconds_late_has_its_time)
        RUN(descriptors_that_cannot_be_moved_above_the_streams_are_closed)
        RUN(a_child_of_a_fork_may_release_a_big_result)
        RUN(a_child_of_a_fork_may_release_a_big_result_and_close_the_pool)
        RUN(a_child_of_a_fork_sees_what_cannot_end_there)
        RUN(a_thread_waits_for_a_process_that_cannot_be_cancelled_any_more)
        RUN(an_iterator_without_a_descriptor_says_so)
        RUN(a_pool_of_processes_on_one_cpu_spins_for_nobody)
        RUN(a_flood_of_callbacks_keeps_the_manager_from_nothing)
        RUN(a_map_over_processes_may_end_early)
        RUN(progress_of_a_map_over_processes_counts_items)
        RUN(progress_of_a_running_chunk_is_told_by_its_worker)
        RUN(progress_may_be_asked_for_at_any_moment)
        RUN(an_observed_chunk_may_lose_any_of_its_items)
        RUN(an_observer_is_told_of_an_argument_that_no_memory_can_hold)
        RUN(a_cancel_waits_for_whoever_copies_an_argument)
        RUN(options_that_no_pool_of_processes_can_have_are_refused)
        RUN(a_map_of_a_function_that_a_fresh_program_does_not_have_is_refused)
        RUN(a_program_that_is_not_started_by_a_pool_goes_on_or_ends)
    };
    return test_run_all(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
