/*
 * cc -O2 -fopenmp tests/bench/gomp.c -o gomp
 *
 * libgomp tasks: a team of W threads of which the submitter is one, as OpenMP knows no producer
 * outside. No futures: a task fills its place of an array. With many tasks queued, libgomp runs
 * a new one at once, so T1 is in part plain calls.
 */
#include "bench.h"
#include <omp.h>

static BENCH_NOINLINE void empty(void) {
    __asm__ volatile("");
}

static void fire(long n) {
    for (long i = 0; i < n; i++) {
#pragma omp task
        empty();
    }
#pragma omp taskwait
}

static void fill(long n) {
    long *results = bench_alloc(n, sizeof *results), sum = 0;
    for (long i = 0; i < n; i++) {
#pragma omp task firstprivate(i, results)
        results[i] = i;
    }
#pragma omp taskwait
    for (long i = 0; i < n; i++) {
        sum += results[i];
    }
    bench_check(sum == bench_sum_below(n), "sum of the results");
    free(results);
}

static void t1(bench *b) {
    void (*const run)(long) = strcmp(b->workload, "T1") ? fill : fire;
#pragma omp parallel num_threads(b->workers)
#pragma omp single
    {
        run(b->n);
        bench_start(b);
        run(b->n);
        bench_stop(b);
    }
}

static uint64_t round_trips(long n, uint64_t pause) {
    uint64_t total = 0;
    for (long i = 0; i < n; i++) {
        long value = -1;
        bench_spin(pause);
        const uint64_t start = bench_now();
#pragma omp task shared(value) firstprivate(i)
        value = i;
#pragma omp taskwait
        total += bench_now() - start;
        bench_check(value == i, "T2");
    }
    return total;
}

static void t2(bench *b) {
    const uint64_t pause = strcmp(b->workload, "T2c") ? 0 : BENCH_PAUSE;
#pragma omp parallel num_threads(b->workers)
#pragma omp single
    {
        round_trips(b->n / 10, pause);
        bench_start(b);
        bench_stop_with(b, round_trips(b->n, pause));
    }
}

static long fib(long n) {
    if (n < 2) {
        return n;
    }
    long spawned;
#pragma omp task shared(spawned) firstprivate(n)
    spawned = fib(n - 1);
    const long called = fib(n - 2);
#pragma omp taskwait
    return spawned + called;
}

static void t3(bench *b) {
    long value = 0;
#pragma omp parallel num_threads(b->workers)
#pragma omp single
    {
        fib(b->n - 5);
        bench_start(b);
        value = fib(b->n);
        bench_stop_for(b, bench_fib_calls(b->n));
    }
    bench_check(value == bench_fib(b->n), "fib");
}

static void map(const bench *b, const double *in, double *out) {
#pragma omp parallel for schedule(static) num_threads(b->workers)
    for (long i = 0; i < b->n; i++) {
        out[i] = bench_item(in[i]);
    }
}

static void map_one_by_one(const bench *b, const double *in, double *out) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(b->workers)
    for (long i = 0; i < b->n; i++) {
        out[i] = bench_item(in[i]);
    }
}

static void t4(bench *b) {
    double *in = bench_doubles(b->n), *out = bench_doubles(b->n);
    for (int pass = 0; pass < 2; pass++) {
        bench_start(b);
        if (strcmp(b->workload, "T4c1")) {
            map(b, in, out);
        } else {
            map_one_by_one(b, in, out);
        }
    }
    bench_stop(b);
    bench_check_items(in, out, b->n);
    free(in);
    free(out);
}

static void burn(uint64_t *results, long n) {
    for (long i = 0; i < n; i++) {
#pragma omp task firstprivate(i, results)
        results[i] = bench_work((uint64_t)i);
    }
#pragma omp taskwait
}

static void t7(bench *b) {
    uint64_t *results = bench_alloc(b->n, sizeof *results);
#pragma omp parallel num_threads(b->workers)
#pragma omp single
    {
        burn(results, b->n / 10);
        bench_start(b);
        burn(results, b->n);
        bench_stop_work(b);
    }
    free(results);
}

static void t7s(bench *b) {
    bench_start(b);
#pragma omp parallel num_threads(b->workers)
#pragma omp single
    for (long i = 0; i < b->n; i++) {
#pragma omp task
        bench_sleep(BENCH_SLEEP);
    }
    bench_stop_sleep(b);
}

static void t8i(bench *b) {
#pragma omp parallel num_threads(b->workers)
#pragma omp single
    fire(b->n);
    bench_print_idle(b);
}

int main(int argc, char **argv) {
    static const bench_entry entries[] = {
        {"T1", t1},   {"T1f", t1}, {"T2", t2},   {"T2c", t2},  {"T3", t3},   {"T4", t4},
        {"T4c1", t4}, {"T7", t7},  {"T7s", t7s}, {"T8i", t8i}, {NULL, NULL},
    };
    omp_set_dynamic(0);
    return bench_main("gomp", argc, argv, entries);
}
