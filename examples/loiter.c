/* cc -std=c11 -O2 -I. examples/loiter.c -o loiter -pthread */

/*
 * Five tasks, three workers: map returns at once, results come in the order of the calls, and the
 * fourth task starts when a worker is free. `loiter 100` makes a second last 100 ms. In Python:
 *
 *     executor = ThreadPoolExecutor(max_workers=3)
 *     results = executor.map(loiter, range(5))
 *     for i, result in enumerate(results): display(f"result {i}: {result}")
 */
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__GNUC__)
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))
#else
#define PRINTF_LIKE(text, first)
#endif

enum { TASKS = 5, WORKERS = 3 };

/* Written before the pool exists, only read afterwards. */
static cf_duration second = CF_SECOND;
static cf_duration start_time;

static cf_duration wall_clock(void) {
    struct timespec now = {0};
    (void)timespec_get(&now, TIME_UTC);
    return (cf_duration)now.tv_sec * CF_SECOND + (cf_duration)now.tv_nsec;
}

/* One printf for each line, so that lines of different threads never mix. */
PRINTF_LIKE(2, 3)
static void display(int tabs, const char *format, ...) {
    char text[80];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const long long elapsed = (wall_clock() - start_time + second / 2) / second;
    printf("[%lld] %.*s%s\n", elapsed, tabs, "\t\t\t\t\t", text);
}

/* Sleeping with nothing but this library: a promise that nobody keeps. */
static bool sleep_for(cf_duration duration) {
    cf_future *never = cf_future_new();
    const bool slept = cf_future_wait(never, duration) == CF_TIMEOUT;
    cf_future_release(never);
    return slept;
}

static int loiter(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    display(n, "loiter(%d): doing nothing for %ds...", n, n);
    if (!sleep_for(n * second)) {
        return cf_task_fail(task, 1, "loiter(%d) found no memory to sleep on", n);
    }
    display(n, "loiter(%d): done.", n);
    return cf_task_return(task, &(int){n * 10}, sizeof(int));
}

/* False: a task failed, or the map could not be started. */
static bool show_results(cf_map_iter *results) {
    cf_status status;
    for (int i = 0; i < TASKS; i++) {
        const int *result = cf_map_next(results, &status);
        if (result == NULL) {
            fprintf(stderr, "loiter: result %d: %s\n", i,
                    status == CF_TASK_FAILED ? cf_map_error_message(results) : cf_strerror(status));
            return false;
        }
        display(0, "result %d: %d", i, *result);
    }
    return true;
}

int main(int argc, char **argv) {
    static const int numbers[TASKS] = {0, 1, 2, 3, 4};
    if (argc > 1) {
        char *end;
        const long milliseconds = strtol(argv[1], &end, 10);
        if (argc > 2 || *end != '\0' || milliseconds < 1 || milliseconds > 60000) {
            fprintf(stderr, "usage: loiter [milliseconds that one second lasts, 1 to 60000]\n");
            return 2;
        }
        second = milliseconds * CF_MILLISECOND;
    }
    (void)setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    start_time = wall_clock();

    display(0, "Script starting.");
    const cf_pool_options options = {.max_workers = WORKERS};
    cf_executor *executor = cf_thread_pool_new(&options, NULL);
    cf_map_iter *results = cf_executor_map(executor, loiter, numbers, TASKS, sizeof *numbers, NULL);
    display(0, "results: an iterator, nothing has been waited for");
    display(0, "Waiting for individual results:");
    const bool complete = show_results(results);
    cf_map_close(results);
    cf_executor_close(executor);
    return complete && fflush(stdout) == 0 && !ferror(stdout) ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Lines of the same second may come in any order: `LC_ALL=C sort` both sides to compare. */

/* Expected output:
[0] Script starting.
[0] loiter(0): doing nothing for 0s...
[0] loiter(0): done.
[0] 	loiter(1): doing nothing for 1s...
[0] 		loiter(2): doing nothing for 2s...
[0] 			loiter(3): doing nothing for 3s...
[0] results: an iterator, nothing has been waited for
[0] Waiting for individual results:
[0] result 0: 0
[1] 	loiter(1): done.
[1] 				loiter(4): doing nothing for 4s...
[1] result 1: 10
[2] 		loiter(2): done.
[2] result 2: 20
[3] 			loiter(3): done.
[3] result 3: 30
[5] 				loiter(4): done.
[5] result 4: 40
*/
