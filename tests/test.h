/* A small test harness for C11 and POSIX. Include it first; it includes cfutures.h.
 *
 *     #include "test.h"
 *
 *     TEST(a_promise_is_pending_until_it_is_set) {
 *         cf_future *f = cf_future_new();
 *         CHECK(f != NULL);
 *         CHECK_EQ(cf_future_state(f), CF_STATE_PENDING);
 *         CHECK_STATUS(cf_future_wait(f, 0), CF_TIMEOUT);
 *         cf_future_release(f);
 *     }
 *
 *     TEST_MAIN(
 *         RUN(a_promise_is_pending_until_it_is_set)
 *         RUN_WITHIN(30, a_test_with_a_limit_of_30_seconds)
 *         RUN_SEEDS(50, 30, a_test_that_is_run_once_for_each_of_50_seeds)
 *     )
 *
 * With a #define TEST_AT_ONCE 4 above the #include, so many tests run at a time: for those that
 * mostly wait, and measure no time themselves.
 *
 * A test that is not listed is an unused function, so the compiler names it. Each test runs in a
 * process of its own, in random order. A failed check ends it, from whichever thread; so do a
 * crash, a hang (10 s), a thread, descriptor, child process or block of memory left behind.
 *
 *     test_x                     all tests; the seed of the order is printed
 *     test_x 12345               the same with that seed (or CF_TEST_SEED=12345)
 *     test_x some_test other     only these
 *     CF_TEST_SEEDS=1000         RUN_SEEDS with so many seeds, from the given one on
 *     CF_TEST_SECONDS=60         RUN_SEEDS for so long
 *     CF_TEST_NOFORK=1           in this process, without a time limit: for debuggers
 *     CF_TEST_SCALE=20           all limits times 20: valgrind, sanitizers, qemu
 *     CF_TEST_VERBOSE=1          a line for each test, with its time
 *     CF_TEST_LEAVE_OUT="a b"    all but these, which count as skipped
 *
 * In a test:
 *     CHECK(cond)                CHECK_EQ(a, b): integers, enums, bools
 *     CHECK_STR(a, b)            CHECK_STATUS(a, b): prints the names
 *     SKIP("why")                returns from the test, which has neither passed nor failed
 *     now()                      nanoseconds, monotonic
 *     limit(seconds)             that many seconds times CF_TEST_SCALE, in nanoseconds: for upper
 *                                bounds; lower bounds are exact and never scaled
 *     gate g = GATE_INIT;        a latch that does not use the library:
 *       gate_open(&g)              opens it for ever
 *       gate_await(&g)             until it is open; a failed check after 8 s, so no hang
 *       gate_arrive(&g)            one more arrival
 *       gate_await_arrivals(&g, n) until n have arrived
 *       gate_is_open(&g), gate_arrivals(&g)
 *     UNTIL(cond)                yields until cond holds; a failed check after 8 s. For conditions
 *                                that nobody can announce, such as a count in cf_executor_stats
 *     for (int i = 0; is_time_for(i, most, start); i++)     `most` rounds of something that races, but
 *                                no more than fit into half a second from start = now()
 *     thread_count()             threads of this process; 0 where the system does not tell
 *     in_child(function, arg)    forks, runs function(arg) there, returns 0 if it returned (and no
 *                                check failed), else the wait status, -1 for a hang
 *     spawn(&t, function, arg), join(t)   threads that are no workers
 * seam.h: test_backend(), and the counted, failing allocator.
 */
#ifndef CF_TEST_H
#define CF_TEST_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif
#ifndef _DARWIN_C_SOURCE
#define _DARWIN_C_SOURCE 1
#endif

#include "cfutures.h"

#include "seam.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_LSAN 1
#endif
#if __has_feature(thread_sanitizer)
#define TEST_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TEST_LSAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#endif
#ifdef TEST_LSAN
#include <sanitizer/lsan_interface.h>
#endif

#ifndef TEST_AT_ONCE
#define TEST_AT_ONCE 1
#endif

/* ---------------------------------------------------------------- time */

enum { TEST_LIMIT_S = 10, TEST_GATE_LIMIT_S = 8, TEST_EXIT_FAILED = 1, TEST_EXIT_SKIPPED = 77 };

static inline int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t limit(int seconds) {
    const char *scale = getenv("CF_TEST_SCALE");
    const long factor = scale != NULL ? strtol(scale, NULL, 10) : 1;
    return (int64_t)seconds * 1000000000 * (factor > 0 ? factor : 1);
}

static inline bool is_time_for(int round, int most, int64_t start) {
    return round < most && (round < 3 || now() - start < 500000000);
}

/* ---------------------------------------------------------------- checks */

/* Not exit: other threads still run, and atexit functions under them would only add noise. */
static inline void test_fail(void) {
    fflush(stdout);
    fflush(stderr);
    _exit(TEST_EXIT_FAILED);
}

static inline void test_check(bool holds, const char *file, int line, const char *text) {
    if (!holds) {
        fprintf(stderr, "%s:%d: CHECK(%s)\n", file, line, text);
        test_fail();
    }
}

static inline void test_check_eq(intmax_t a, intmax_t b, const char *file, int line,
                                 const char *text) {
    if (a != b) {
        fprintf(stderr, "%s:%d: CHECK_EQ(%s): %" PRIdMAX " and %" PRIdMAX "\n", file, line, text, a,
                b);
        test_fail();
    }
}

static inline void test_check_str(const char *a, const char *b, const char *file, int line,
                                  const char *text) {
    if (a == NULL || b == NULL || strcmp(a, b) != 0) {
        fprintf(stderr, "%s:%d: CHECK_STR(%s): \"%s\" and \"%s\"\n", file, line, text,
                a != NULL ? a : "(NULL)", b != NULL ? b : "(NULL)");
        test_fail();
    }
}

static inline void test_check_status(cf_status a, cf_status b, const char *file, int line,
                                     const char *text) {
    if (a != b) {
        fprintf(stderr, "%s:%d: CHECK_STATUS(%s): %s (%d) and %s (%d)\n", file, line, text,
                cf_status_name(a), (int)a, cf_status_name(b), (int)b);
        test_fail();
    }
}

#define CHECK(...) test_check((__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__)
#define CHECK_EQ(a, b) test_check_eq((intmax_t)(a), (intmax_t)(b), __FILE__, __LINE__, #a ", " #b)
#define CHECK_STR(a, b) test_check_str((a), (b), __FILE__, __LINE__, #a ", " #b)
#define CHECK_STATUS(a, b) test_check_status((a), (b), __FILE__, __LINE__, #a ", " #b)
#define SKIP(why)                                                                                  \
    do {                                                                                           \
        test_skip(why);                                                                            \
        return;                                                                                    \
    } while (0)

#define UNTIL(cond)                                                                                \
    do {                                                                                           \
        for (const int64_t until_ = now() + limit(TEST_GATE_LIMIT_S); !(cond);) {                  \
            test_check(now() < until_, __FILE__, __LINE__, "UNTIL " #cond);                        \
            test_pause();                                                                          \
        }                                                                                          \
    } while (0)

static bool test_was_skipped;

static inline void test_skip(const char *why) {
    fprintf(stderr, "skipped: %s\n", why);
    test_was_skipped = true;
}

/* A poll of what cannot be waited for; never the means to order two threads. */
static inline void test_pause(void) {
    const struct timespec t = {0, 200000};
    nanosleep(&t, NULL);
}

/* ---------------------------------------------------------------- gates, threads, processes */

typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    size_t arrivals;
} gate;
#define GATE_INIT {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0}

static inline void gate_open(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static inline void gate_arrive(gate *g) {
    pthread_mutex_lock(&g->lock);
    g->arrivals++;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static inline bool gate_is_open(gate *g) {
    pthread_mutex_lock(&g->lock);
    const bool open = g->open;
    pthread_mutex_unlock(&g->lock);
    return open;
}

static inline size_t gate_arrivals(gate *g) {
    pthread_mutex_lock(&g->lock);
    const size_t arrivals = g->arrivals;
    pthread_mutex_unlock(&g->lock);
    return arrivals;
}

/* In slices of the wall clock, measured on the monotonic one: neither a clock change nor a wake-up
 * that the libc loses (glibc before 2.41 can) makes it wait too long. */
static inline void test_gate_wait(gate *g, bool for_open, size_t arrivals, const char *file,
                                  int line) {
    const int64_t deadline = now() + limit(TEST_GATE_LIMIT_S);
    pthread_mutex_lock(&g->lock);
    while (for_open ? !g->open : g->arrivals < arrivals) {
        struct timespec slice;
        clock_gettime(CLOCK_REALTIME, &slice);
        slice.tv_nsec += 100000000;
        slice.tv_sec += slice.tv_nsec / 1000000000;
        slice.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&g->changed, &g->lock, &slice);
        test_check(now() < deadline, file, line, for_open ? "gate opens" : "all arrive");
    }
    pthread_mutex_unlock(&g->lock);
}
#define gate_await(g) test_gate_wait((g), true, 0, __FILE__, __LINE__)
#define gate_await_arrivals(g, n) test_gate_wait((g), false, (n), __FILE__, __LINE__)

static inline void test_spawn(pthread_t *thread, void *(*function)(void *), void *arg,
                              const char *file, int line) {
    test_check(pthread_create(thread, NULL, function, arg) == 0, file, line, "thread started");
}
#define spawn(thread, function, arg) test_spawn((thread), (function), (arg), __FILE__, __LINE__)

static inline void join(pthread_t thread) {
    pthread_join(thread, NULL);
}

static inline size_t thread_count(void) {
    DIR *dir = opendir("/proc/self/task");
    if (dir == NULL) {
        return 0;
    }
    size_t count = 0;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count;
}

static inline size_t descriptor_count(void) {
    size_t count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) != -1;
    }
    return count;
}

/* Waits for the child and kills its process group at the deadline. *status as by waitpid; false for
 * a hang. The pipe tells the end at once; a descendant that keeps it open only makes it coarser. */
static inline bool test_reap(pid_t child, int pipe_end, int64_t deadline, int *status) {
    struct pollfd ended = {pipe_end, POLLIN, 0};
    bool hung_up = false;
    while (waitpid(child, status, WNOHANG) != child) {
        if (now() >= deadline) {
            kill(-child, SIGKILL);
            kill(child, SIGKILL);
            waitpid(child, status, 0);
            return false;
        }
        if (hung_up) {
            test_pause();
        } else {
            hung_up = poll(&ended, 1, 20) > 0;
        }
    }
    return true;
}

/* The group of the test that runs, for a runner that is told to end; 0: none. Its helpers end
 * theirs themselves. */
static volatile sig_atomic_t test_group, test_helpers[TEST_AT_ONCE];

static inline void test_end_all(int signal_number) {
    for (int i = 0; i < TEST_AT_ONCE; i++) {
        if (test_helpers[i] != 0) {
            kill((pid_t)test_helpers[i], SIGTERM);
        }
    }
    if (test_group != 0) {
        kill(-(pid_t)test_group, SIGKILL);
    }
    _exit(128 + signal_number);
}

/* fork with a pipe whose other end closes with the child. 0 in the child, leader of a new group,
 * which the alarm ends should the runner be killed meanwhile. */
static inline pid_t test_fork(int *pipe_end, int64_t time_limit) {
    int ends[2];
    fflush(stdout);
    fflush(stderr);
    if (pipe(ends) != 0) {
        return -1;
    }
    const pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        alarm((unsigned)(time_limit / 1000000000) + 10);
        close(ends[0]);
        return 0;
    }
    if (child > 0) {
        setpgid(child, child);
    }
    close(ends[1]);
    *pipe_end = ends[0];
    return child;
}

static inline int in_child(void (*function)(void *), void *arg) {
    const int64_t time_limit = limit(TEST_GATE_LIMIT_S);
    int pipe_end = -1;
    const pid_t child = test_fork(&pipe_end, time_limit);
    if (child == 0) {
        function(arg);
        _exit(0);
    }
    int status = -1;
    if (child > 0 && !test_reap(child, pipe_end, now() + time_limit, &status)) {
        status = -1;
    }
    close(pipe_end);
    return status;
}

/* ---------------------------------------------------------------- the runner */

typedef struct test_case {
    const char *name;
    void (*function)(void);
    int limit_s;
    int seeds; /* 0: run once */
} test_case;

typedef struct test_world {
    size_t threads, descriptors, blocks;
} test_world;

static inline void *test_no_work(void *arg) {
    return arg;
}

static inline test_world test_look(void) {
#ifdef TEST_TSAN
    /* Its background thread starts with the first thread of a process. */
    pthread_t warm;
    if (pthread_create(&warm, NULL, test_no_work, NULL) == 0) {
        pthread_join(warm, NULL);
    }
#endif
    return (test_world){thread_count(), descriptor_count(), test_alloc_live()};
}

/* A joined thread may stand in /proc for a moment longer, hence the wait. */
static inline bool test_left_nothing(const test_world *before, const char *name) {
    const int64_t deadline = now() + limit(2);
    while (thread_count() > before->threads && now() < deadline) {
        test_pause();
    }
    bool clean = true;
    const size_t threads = thread_count();
    if (threads != before->threads) {
        fprintf(stderr, "%s: %zu threads before, %zu after\n", name, before->threads, threads);
        clean = false;
    }
    const size_t descriptors = descriptor_count();
    if (descriptors != before->descriptors) {
        fprintf(stderr, "%s: %zu descriptors before, %zu after\n", name, before->descriptors,
                descriptors);
        clean = false;
    }
    if (test_alloc_live() != before->blocks) {
        fprintf(stderr, "%s: %zu blocks before, %zu after\n", name, before->blocks,
                test_alloc_live());
        clean = false;
    }
    if (waitpid(-1, NULL, WNOHANG) != -1) {
        fprintf(stderr, "%s: left a child process\n", name);
        clean = false;
    }
#ifdef TEST_LSAN
    if (__lsan_do_recoverable_leak_check() != 0) {
        fprintf(stderr, "%s: leaked memory\n", name);
        clean = false;
    }
#endif
    return clean;
}

static inline int test_run_here(const test_case *test) {
    const test_world before = test_look();
    test_was_skipped = false;
    test->function();
    if (!test_left_nothing(&before, test->name)) {
        return TEST_EXIT_FAILED;
    }
    return test_was_skipped ? TEST_EXIT_SKIPPED : EXIT_SUCCESS;
}

static inline int test_run_forked(const test_case *test) {
    const int64_t time_limit = limit(test->limit_s);
    int pipe_end = -1;
    const pid_t child = test_fork(&pipe_end, time_limit);
    if (child == 0) {
        exit(test_run_here(test)); /* so that coverage data and sanitizer reports are written */
    }
    if (child < 0) {
        perror("fork");
        return TEST_EXIT_FAILED;
    }
    test_group = child;
    int status = 0;
    const bool ended = test_reap(child, pipe_end, now() + time_limit, &status);
    test_group = 0;
    close(pipe_end);
    kill(-child, SIGKILL); /* what it left in its group */
    if (!ended) {
        fprintf(stderr, "HANG %s\n", test->name);
        return TEST_EXIT_FAILED;
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "CRASH %s: signal %d\n", test->name, WTERMSIG(status));
        return TEST_EXIT_FAILED;
    }
    return WEXITSTATUS(status);
}

static inline uint64_t test_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline int test_number_of(const char *variable, int otherwise) {
    const char *text = getenv(variable);
    const long number = text != NULL ? strtol(text, NULL, 10) : 0;
    return number > 0 && number < INT_MAX ? (int)number : otherwise;
}

static inline int test_run(const test_case *test) {
    return getenv("CF_TEST_NOFORK") == NULL ? test_run_forked(test) : test_run_here(test);
}

/* Once for each seed from the first on, which the test finds in CF_TEST_SEED. */
static inline int test_run_seeds(const char *program, const test_case *test, unsigned long first) {
    const int seconds = test_number_of("CF_TEST_SECONDS", 0);
    const int count = seconds > 0 ? INT_MAX : test_number_of("CF_TEST_SEEDS", test->seeds);
    const int64_t start = now();
    int code = 0, run = 0;
    for (; run < count && (code == 0 || code == TEST_EXIT_SKIPPED); run++) {
        char seed[24];
        snprintf(seed, sizeof seed, "%lu", first + (unsigned long)run);
        setenv("CF_TEST_SEED", seed, 1);
        code = test_run(test);
        if (code != 0 && code != TEST_EXIT_SKIPPED) {
            printf("again: CF_TEST_SEEDS=1 %s %s %s\nFAILED %s with another seed, seed %s\n",
                   program, test->name, seed, test->name, seed);
        }
        if (seconds > 0 && now() - start > (int64_t)seconds * 1000000000) {
            run++;
            break;
        }
    }
    char again[24];
    snprintf(again, sizeof again, "%lu", first);
    setenv("CF_TEST_SEED", again, 1);
    const int64_t taken = (now() - start) / 1000000;
    printf("%s: %d seeds from %lu in %d.%03d s\n", test->name, run, first, (int)(taken / 1000),
           (int)(taken % 1000));
    return code;
}

static inline bool test_is_number(const char *text) {
    return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

static inline unsigned long test_seed(int argc, char **argv) {
    const char *text = getenv("CF_TEST_SEED");
    for (int i = 1; i < argc; i++) {
        text = test_is_number(argv[i]) ? argv[i] : text;
    }
    const int64_t t = now();
    return text != NULL ? strtoul(text, NULL, 10)
                        : (unsigned long)(((uint64_t)t ^ (uint64_t)getpid() << 20) % 1000000);
}

/* No name given selects all. */
static inline bool test_is_selected(const char *name, int argc, char **argv) {
    bool any_name = false;
    for (int i = 1; i < argc; i++) {
        if (!test_is_number(argv[i])) {
            any_name = true;
            if (strcmp(argv[i], name) == 0) {
                return true;
            }
        }
    }
    return !any_name;
}

/* Named as a whole word of CF_TEST_LEAVE_OUT. */
static inline bool test_is_left_out(const char *name) {
    const char *names = getenv("CF_TEST_LEAVE_OUT");
    const size_t length = strlen(name);
    while (names != NULL && *names != '\0') {
        names += strspn(names, " \n");
        const size_t word = strcspn(names, " \n");
        if (word == length && strncmp(names, name, length) == 0) {
            return true;
        }
        names += word;
    }
    return false;
}

static inline bool test_names_exist(int argc, char **argv, const test_case *tests, size_t count) {
    for (int i = 1; i < argc; i++) {
        bool found = test_is_number(argv[i]);
        for (size_t k = 0; k < count && !found; k++) {
            found = strcmp(argv[i], tests[k].name) == 0;
        }
        if (!found) {
            fprintf(stderr, "no test is called %s\n", argv[i]);
            return false;
        }
    }
    return true;
}

static inline void test_shuffle(test_case *tests, size_t count, unsigned long seed) {
    uint64_t state = (uint64_t)seed * 2654435761U + 88172645463325252U;
    for (size_t i = count; i > 1; i--) {
        const size_t k = (size_t)(test_random(&state) % i);
        const test_case kept = tests[i - 1];
        tests[i - 1] = tests[k];
        tests[k] = kept;
    }
}

/* What the runner and its helpers share: each takes the next test when it has ended one. */
typedef struct test_tally {
    atomic_size_t next, passed, failed, skipped;
} test_tally;

static inline void test_run_next(const char *program, const test_case *test, unsigned long seed,
                                 test_tally *tally) {
    const int64_t start = now();
    const int code = test_is_left_out(test->name) ? TEST_EXIT_SKIPPED
                     : test->seeds > 0            ? test_run_seeds(program, test, seed)
                                                  : test_run(test);
    const char *word = code == 0 ? "ok" : code == TEST_EXIT_SKIPPED ? "SKIP" : "FAILED";
    if (getenv("CF_TEST_VERBOSE") != NULL || (code != 0 && code != TEST_EXIT_SKIPPED)) {
        printf("%s %s (%d ms, exit status %d)\n", word, test->name,
               (int)((now() - start) / 1000000), code);
    }
    atomic_fetch_add(code == 0                   ? &tally->passed
                     : code == TEST_EXIT_SKIPPED ? &tally->skipped
                                                 : &tally->failed,
                     1);
}

/* Until none is left, or the runner has ended. */
static inline void test_run_share(int argc, char **argv, const test_case *tests, size_t count,
                                  unsigned long seed, test_tally *tally, pid_t runner) {
    while (getpid() == runner || getppid() == runner) {
        const size_t i = atomic_fetch_add(&tally->next, 1);
        if (i >= count) {
            return;
        }
        if (test_is_selected(tests[i].name, argc, argv)) {
            test_run_next(argv[0], &tests[i], seed, tally);
        }
    }
}

/* 0 in the helper. */
static inline pid_t test_fork_helper(void) {
    fflush(stdout);
    fflush(stderr);
    const pid_t helper = fork();
    for (int i = 0; helper == 0 && i < TEST_AT_ONCE; i++) {
        test_helpers[i] = 0; /* the runner's */
    }
    return helper;
}

/* A helper that dies has failed. */
static inline void test_join_helpers(test_tally *tally) {
    for (int i = 0; i < TEST_AT_ONCE; i++) {
        int status = 0;
        if (test_helpers[i] != 0) {
            waitpid((pid_t)test_helpers[i], &status, 0);
            test_helpers[i] = 0;
            atomic_fetch_add(&tally->failed, status != 0);
        }
    }
}

static inline test_tally *test_new_tally(void) {
    void *memory = mmap(NULL, sizeof(test_tally), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static inline int test_run_all(int argc, char **argv, test_case *tests, size_t count) {
    if (!test_names_exist(argc, argv, tests, count)) {
        return EXIT_FAILURE;
    }
    const unsigned long seed = test_seed(argc, argv);
    const pid_t runner = getpid();
    const bool forks = getenv("CF_TEST_NOFORK") == NULL;
    const int helpers = forks ? TEST_AT_ONCE - 1 : 0;
    test_tally *tally = test_new_tally();
    signal(SIGINT, test_end_all);
    signal(SIGTERM, test_end_all);
    printf("%s (%s), seed %lu\n", argv[0], test_backend(), seed);
    test_shuffle(tests, count, seed);
    for (int i = 0; i < helpers; i++) {
        const pid_t helper = test_fork_helper();
        if (helper == 0) {
            test_run_share(argc, argv, tests, count, seed, tally, runner);
            fflush(stdout);
            _exit(0);
        }
        test_helpers[i] = helper > 0 ? helper : 0;
    }
    test_run_share(argc, argv, tests, count, seed, tally, runner);
    test_join_helpers(tally);
    const size_t skipped = atomic_load(&tally->skipped), failed = atomic_load(&tally->failed);
    if (skipped != 0) {
        printf("%zu skipped\n", skipped);
    }
    printf("%zu passed, %zu failed\n", atomic_load(&tally->passed), failed);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#define TEST(name) static void test_case_##name(void)
#define RUN(name) {#name, test_case_##name, TEST_LIMIT_S, 0},
#define RUN_WITHIN(seconds, name) {#name, test_case_##name, (seconds), 0},
#define RUN_SEEDS(count, seconds, name) {#name, test_case_##name, (seconds), (count)},
#define TEST_MAIN(...)                                                                             \
    int main(int argc, char **argv) {                                                              \
        test_case tests[] = {__VA_ARGS__};                                                         \
        return test_run_all(argc, argv, tests, sizeof tests / sizeof tests[0]);                    \
    }

#endif
