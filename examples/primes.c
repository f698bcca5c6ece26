/* cc -std=c11 -O2 -I. examples/primes.c -o primes -pthread */

/*
 * Which of these numbers are prime? The example of Python's documentation: work for processors
 * alone, so the more workers, the sooner it ends. A table compares one worker with several, up to
 * the number of processors, or up to N: `primes N`. In Python:
 *
 *     with ProcessPoolExecutor() as pool:
 *         for number, prime in zip(PRIMES, pool.map(is_prime, PRIMES)):
 *             print("%d is prime: %s" % (number, prime))
 */
#define CFUTURES_POSIX
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const uint64_t numbers[] = {112272535095293, 112582705942171, 112272535095293,
                                   115280095190773, 115797848077099, 1099726899285419};

enum {
    NUMBERS = sizeof numbers / sizeof *numbers,
    ROUNDS = 4, /* of the numbers in each row of the table, so that many workers have work */
    MOST = 256
};

static int is_prime(cf_task *task, void *arg) {
    const uint64_t n = *(const uint64_t *)arg;
    bool prime = n == 2 || (n > 2 && n % 2 == 1);
    for (uint64_t divisor = 3; prime && divisor <= n / divisor; divisor += 2) {
        prime = n % divisor != 0;
    }
    return cf_task_return(task, &prime, sizeof prime);
}

static bool failed(cf_status status, const char *message) {
    fprintf(stderr, "primes: %s\n", message[0] != '\0' ? message : cf_strerror(status));
    return false;
}

static bool print_primes(void) {
    cf_status status = CF_OK;
    cf_executor *pool = cf_process_pool_new(NULL, NULL); /* NULL surfaces where results are read */
    cf_map_iter *results = cf_executor_map(pool, is_prime, numbers, NUMBERS, sizeof *numbers, NULL);
    for (size_t i = 0; i < NUMBERS && status == CF_OK; i++) {
        const bool *prime = cf_map_next(results, &status);
        if (prime != NULL) {
            printf("%" PRIu64 " is prime: %s\n", numbers[i], *prime ? "true" : "false");
        }
    }
    const bool complete = status == CF_OK || failed(status, cf_map_error_message(results));
    cf_map_close(results);
    cf_executor_close(pool);
    return complete;
}

static double now(void) {
    struct timespec time = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Seconds for all rounds, with the start and the end of the pool; negative: it failed. */
static double measure(size_t workers) {
    static uint64_t items[ROUNDS * NUMBERS];
    static bool primes[ROUNDS * NUMBERS];
    const cf_pool_options options = {.max_workers = workers};
    for (size_t i = 0; i < ROUNDS * NUMBERS; i++) {
        items[i] = numbers[i % NUMBERS];
    }
    const double begin = now();
    cf_executor *pool = cf_process_pool_new(&options, NULL);
    const cf_status status = cf_executor_map_array(pool, is_prime, items, sizeof *items, primes,
                                                   sizeof *primes, ROUNDS * NUMBERS, NULL, NULL);
    cf_executor_close(pool);
    const double end = now();
    if (status != CF_OK) {
        (void)failed(status, "");
        return -1;
    }
    return end - begin;
}

/* 1, 2, 4, ... and at last `most` workers. */
static bool print_table(size_t most) {
    double alone = 0;
    printf("\nworkers    time  speed-up\n");
    for (size_t workers = 1, last = 0; last < most; last = workers, workers *= 2) {
        workers = workers < most ? workers : most;
        const double seconds = measure(workers);
        if (seconds < 0) {
            return false;
        }
        alone = workers == 1 ? seconds : alone;
        printf("%7zu%7.2fs%9.1fx\n", workers, seconds, seconds > 0 ? alone / seconds : 0.0);
        (void)fflush(stdout);
    }
    return true;
}

int main(int argc, char **argv) {
    size_t most = cf_cpu_count() < MOST ? cf_cpu_count() : MOST;
    if (argc > 1) {
        char *end;
        const long number = strtol(argv[1], &end, 10);
        if (argc > 2 || *end != '\0' || number < 1 || number > MOST) {
            fprintf(stderr, "usage: primes [workers at most, 1 to %d]\n", (int)MOST);
            return 2;
        }
        most = (size_t)number;
    }
    const bool complete = print_primes() && print_table(most);
    return complete && fflush(stdout) == 0 && !ferror(stdout) ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Expected output with two processors, every time and speed-up written as T:
112272535095293 is prime: true
112582705942171 is prime: true
112272535095293 is prime: true
115280095190773 is prime: true
115797848077099 is prime: true
1099726899285419 is prime: false

workers    time  speed-up
      1      Ts        Tx
      2      Ts        Tx
*/
