/* cc -std=c11 -O2 -I. examples/pow.c -o pow -pthread */

/*
 * Calls with several arguments in worker processes: a task has one argument, so they travel in a
 * struct, or as an array whose length the task knows. Main goes on meanwhile. In Python:
 *
 *     with ProcessPoolExecutor(max_workers=2) as pool:
 *         first = pool.submit(pow, 323, 1235, 1000000007)
 *         second = pool.submit(pow, 2, 100, 1000000007)
 *         largest = pool.submit(max, 1, 2, 3)
 *         print("main goes on")
 *         print(first.result(), second.result(), largest.result())
 */
#define CFUTURES_POSIX
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { CALLS = 3 };

struct power {
    uint64_t base, exponent;
    uint32_t modulus; /* not 0; 32 bits, so that no product overflows */
};

static int power(cf_task *task, void *arg) {
    const struct power *a = arg;
    uint64_t result = 1 % a->modulus;
    uint64_t square = a->base % a->modulus;
    for (uint64_t exponent = a->exponent; exponent > 0; exponent /= 2) {
        if (exponent % 2 == 1) {
            result = result * square % a->modulus;
        }
        square = square * square % a->modulus;
    }
    return cf_task_return(task, &result, sizeof result);
}

static int largest(cf_task *task, void *arg) {
    const uint64_t *numbers = arg;
    const size_t count = cf_task_arg_size(task) / sizeof *numbers;
    if (count == 0) {
        return cf_task_fail(task, 1, "the largest of no numbers");
    }
    uint64_t result = numbers[0];
    for (size_t i = 1; i < count; i++) {
        result = numbers[i] > result ? numbers[i] : result;
    }
    return cf_task_return(task, &result, sizeof result);
}

/* Prints the result and gives the future back; false: there is none, for the reason printed. */
static bool show(const char *call, cf_future *future) {
    cf_status status;
    const uint64_t *result = cf_future_result(future, CF_FOREVER, &status);
    if (result != NULL) {
        printf("%s = %" PRIu64 "\n", call, *result);
    } else {
        const char *message = cf_future_error_message(future);
        fprintf(stderr, "pow: %s: %s\n", call, message[0] != '\0' ? message : cf_strerror(status));
    }
    cf_future_release(future);
    return result != NULL;
}

int main(void) {
    static const uint64_t numbers[] = {1, 2, 3};
    static const char *const calls[CALLS] = {"pow(323, 1235, 1000000007)",
                                             "pow(2, 100, 1000000007)", "max(1, 2, 3)"};
    cf_future *futures[CALLS];
    bool complete = true;

    const cf_pool_options options = {.max_workers = 2};
    cf_executor *pool = cf_process_pool_new(&options, NULL); /* NULL surfaces with the results */
    futures[0] = cf_executor_submit(pool, power, CF_VALUE(struct power, 323, 1235, 1000000007));
    futures[1] = cf_executor_submit(pool, power, CF_VALUE(struct power, 2, 100, 1000000007));
    futures[2] = cf_executor_submit(pool, largest, numbers, sizeof numbers);
    printf("main goes on\n");
    for (int i = 0; i < CALLS; i++) {
        complete = show(calls[i], futures[i]) && complete;
    }
    cf_executor_close(pool);
    return complete && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Expected output:
main goes on
pow(323, 1235, 1000000007) = 412738484
pow(2, 100, 1000000007) = 976371285
max(1, 2, 3) = 3
*/
