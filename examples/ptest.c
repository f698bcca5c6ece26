/* cc -std=c11 -O2 -I. examples/ptest.c -o ptest -pthread */

/*
 * A test runner to keep: each test has a worker process to itself, several run at a time, and one
 * that crashes, hangs, leaks or eats all memory hurts nobody else. Write your tests in place of
 * those below, or into a file of their own: cc -DTESTS='"my_tests.c"' ... It prints TAP as they
 * end; `LC_ALL=C sort` to compare. In Python, one dead worker breaks the ProcessPoolExecutor.
 */
#define CFUTURES_POSIX
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static const char usage[] =
    "usage: ptest [options]\n"
    "\n"
    "Runs the tests that were compiled into it, and shows what those printed that failed.\n"
    "\n"
    "  -j, --workers N   so many at a time, 1 to 1000 (one for each processor)\n"
    "  -t, --timeout S   seconds that one may take (5)\n"
    "  -m, --memory MB   that one may use, and write into a file (1024)\n"
    "  -k, --keep TEXT   only those with this in their names\n"
    "  -h, --help        this text\n"
    "\n"
    "Exit status: 0 if all passed, 1 if one failed, 2 for a wrong command line.\n";

/* ------------------------------------------------------------------ tests
 *
 * A test ends well by returning; CHECK ends it where something does not hold. It may also have to
 * end otherwise: as a future with another status, by a signal, or with an exit status (+ 256). */

struct test {
    const char *name;
    void (*function)(void);
    int ending; /* CF_OK, CF_TASK_FAILED, CF_TASK_TIMEOUT, SIGSEGV, 256 + 77, ... */
    size_t slot;
};

#define TEST(function, ending) \
    { #function, function, ending, 0 }
#define CHECK(condition) check(condition, __FILE__, __LINE__, #condition)

static void check(bool holds, const char *file, int line, const char *condition) {
    if (!holds) {
        fprintf(stderr, "%s:%d: CHECK(%s)\n", file, line, condition);
        exit(EXIT_FAILURE);
    }
}

#ifdef TESTS
#include TESTS
#else
static void numbers_add_up(void) {
    CHECK(1 + 1 == 2);
}

static void waiting_for_ever_ends(void) {
    (void)signal(SIGTERM, SIG_IGN);
    while (pause() < 0) {
    }
}

static void no_child_may_be_left(void) {
    if (fork() == 0) {
        waiting_for_ever_ends();
    }
}

static struct test tests[] = {
    TEST(numbers_add_up, CF_OK),
    TEST(abort, SIGABRT),
    TEST(waiting_for_ever_ends, CF_TASK_TIMEOUT),
    TEST(no_child_may_be_left, CF_TASK_FAILED),
};
#endif

/* ------------------------------------------------------------------ in a worker process */

struct slot {
    int output;           /* the file for all that a running test prints */
    volatile pid_t group; /* of it and of all that it has started; 0: of nothing */
};

static struct slot *slots; /* in shared memory, one for each worker */
static double workers, timeout = 5, megabytes = 1024;

static int set_limits(void *arg) {
    const rlim_t bytes = (rlim_t)megabytes << 20;
    const struct rlimit some = {bytes, bytes}, none = {0, 0};
    (void)arg;
    return setrlimit(RLIMIT_CORE, &none) != 0 || setrlimit(RLIMIT_FSIZE, &some) != 0 ||
           setrlimit(RLIMIT_AS, &some) != 0;
}

static int run_test(cf_task *task, void *arg) {
    const struct test *test = arg;
    struct slot *slot = &slots[test->slot];
    slot->group = setpgid(0, 0) == 0 ? getpid() : 0;
    if (slot->group == 0 || dup2(slot->output, 1) < 0 || dup2(slot->output, 2) < 0) {
        return cf_task_fail(task, 1, "no process group, or no output");
    }
    test->function();
    (void)fflush(NULL);
    (void)setpgid(0, getpgid(getppid())); /* who is in the group now has been left behind */
    slot->group = 0;
    return kill(-getpid(), SIGKILL) == 0 ? cf_task_fail(task, 1, "left a process behind") : 0;
}

/* ------------------------------------------------------------------ in the runner */

static const char *pattern = "";
static size_t test_count, started, ended, passed;
static cf_executor *pool;
static cf_as_completed_iter *done;

static void start_test(size_t slot) {
    const cf_submit_options options = {.timeout = (cf_duration)(timeout * (double)CF_SECOND)};
    if (started < test_count) {
        tests[started].slot = slot;
        (void)cf_as_completed_add(done, cf_executor_submit_with(pool, run_test, &tests[started++],
                                                                sizeof *tests, &options));
    }
}

static void print_output(int file) {
    char text[4097]; /* the end of it */
    const off_t size = lseek(file, 0, SEEK_END);
    const ssize_t length = pread(file, text, sizeof text - 1, size > 4096 ? size - 4096 : 0);
    text[length > 0 ? length : 0] = '\0';
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        printf("# %s\n", line);
    }
}

static void end_test(const struct test *test, cf_future *future) {
    struct slot *slot = &slots[test->slot];
    int ending = (int)cf_future_wait(future, 0);
    ending = ending == CF_WORKER_LOST ? cf_future_error_code(future) : ending;
    (void)(slot->group > 0 && kill(-slot->group, SIGKILL)); /* what it has started may live */
    slot->group = 0;
    ended++;
    fputs(isatty(STDERR_FILENO) ? "\r\033[K" : "", stderr);
    if (ending == test->ending) {
        printf("ok - %s\n", test->name);
        passed++;
    } else {
        printf("not ok - %s: %s\n", test->name,
               ending == CF_OK ? "it ended well" : cf_future_error_message(future));
        print_output(slot->output);
    }
    if (isatty(STDERR_FILENO) && ended < test_count) {
        fprintf(stderr, "[%-20.*s] %zu/%zu tests, %zu failed", (int)(ended * 20 / test_count),
                "####################", ended, test_count, ended - passed);
    }
    (void)(ftruncate(slot->output, 0) + lseek(slot->output, 0, SEEK_SET));
    cf_future_release(future);
    start_test(test->slot);
}

static void on_signal(int number) {
    for (size_t i = 0; i < (size_t)workers; i++) {
        (void)(slots[i].group > 0 && kill(-slots[i].group, SIGKILL));
    }
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static bool parse_command(int argc, char **argv) {
    static const struct option long_options[] = {{"workers", required_argument, NULL, 'j'},
                                                 {"timeout", required_argument, NULL, 't'},
                                                 {"memory", required_argument, NULL, 'm'},
                                                 {"keep", required_argument, NULL, 'k'},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {NULL, 0, NULL, 0}};
    workers = (double)cf_cpu_count();
    for (int option; (option = getopt_long(argc, argv, "j:t:m:k:h", long_options, NULL)) != -1;) {
        if (option == 'h') {
            exit(fputs(usage, stdout) < 0 || fflush(stdout) != 0);
        }
        double *number = option == 'j' ? &workers : option == 't' ? &timeout : &megabytes;
        if (option == 'k') {
            pattern = optarg;
        } else if (option == '?' || sscanf(optarg, "%lf%c", number, &(char){0}) != 1) {
            return false;
        }
    }
    return optind == argc && workers >= 1 && workers <= 1000 && timeout > 0 && timeout <= 1e6 &&
           megabytes >= 1 && megabytes <= 1e9;
}

int main(int argc, char **argv) {
    if (!parse_command(argc, argv)) {
        fputs("ptest: see ptest --help\n", stderr);
        return 2;
    }
    (void)setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    cf_pool_options options = {.initializer = set_limits, .max_tasks_per_child = 1};
    options.max_workers = (size_t)workers;
    slots = mmap(NULL, (size_t)workers * sizeof *slots, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; slots != MAP_FAILED && i < (size_t)workers; i++) {
        FILE *file = tmpfile();
        slots[i].output = file != NULL ? fileno(file) : -1;
    }
    pool = slots != MAP_FAILED ? cf_process_pool_new(&options, NULL) : NULL;
    done = cf_as_completed(NULL, 0, CF_FOREVER);
    if (pool == NULL || done == NULL) {
        perror("ptest");
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (strstr(tests[i].name, pattern) != NULL) {
            tests[test_count++] = tests[i];
        }
    }
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    printf("1..%zu\n", test_count);
    for (size_t i = 0; i < (size_t)workers; i++) {
        start_test(i);
    }
    cf_future *future;
    for (size_t i; (future = cf_as_completed_next(done, &i, NULL)) != NULL;) {
        end_test(&tests[i], future);
    }
    cf_as_completed_close(done);
    cf_executor_close(pool);
    printf("%zu passed, %zu failed\n", passed, test_count - passed);
    return passed == test_count && !ferror(stdout) && fflush(stdout) == 0 ? 0 : EXIT_FAILURE;
}

/* Expected output:
1..4
ok - abort
ok - no_child_may_be_left
ok - numbers_add_up
ok - waiting_for_ever_ends
4 passed, 0 failed
*/
