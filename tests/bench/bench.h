/*
 * bench.h -- what the benchmark programs share: arguments, clocks, latch, one line of output.
 *
 *   PROGRAM WORKLOAD WORKERS N
 *
 * runs one workload once, after a warm-up, and prints "peer workload value cpu=...": nanoseconds
 * a task unless said, and the CPU time behind them. Exit status 3: this peer has no such
 * workload; 4: it computed something wrong. The submitting thread is no worker, unless the peer
 * knows no other way.
 *
 *   T1    N empty tasks fired, then wait for all: the peer's own wait, or a latch
 *   T1f   N tasks with a future each, every result taken in order
 *   T2    submit one, block for its result, again
 *   T2c   the same after a pause of 200 us, in which workers park; the pause is not counted
 *   T3    fib(N), one child spawned and one called, waited for in the task; per call
 *   T4    ordered map over N doubles in sensible chunks; per item
 *   T4c1  the same with a task an item
 *   T5    N tasks taken in the order in which they end
 *   T6pK  T1f from K producers at once, N in all
 *   T7    N tasks of bench_work; prints eff=, the share of the ideal speed-up, as well
 *   T7s   N sleeps of 100 ms on N workers, creation of the pool included; ns above 100 ms
 *   T8m   N futures outstanding while the workers are held; bytes a future
 *   T8c   create a pool, run one task, destroy it
 *   T8i   CPU ns in a second, 100 ms after the last of N tasks
 *
 *   P1    process pool: round trip of 16 bytes each way, one at a time
 *   P1c   the same after a pause of 200 us
 *   P2    N tasks of a long each way, a submit each, all at once, every result taken in order;
 *         c-pool holds 16 a worker in flight, in any order, and c-fork one a worker
 *   P2m   the same handed over in one call: submit_many, or map in chunks of 1
 *   P2c   the same by map in chunks of 1000
 *   P3m   1 MiB there and 1 MiB back, and a byte of each page looked at;  P3g: 64 MiB
 *   P4    create W processes, one task, close
 *   P5    SIGKILL of the only worker, at rest for 20 ms, to the next result
 *
 * The CPU time of P1 to P5 is that of the host alone.
 */
#ifndef BENCH_H
#define BENCH_H

#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1 /* clock_gettime, getrusage under -std=c11; a default elsewhere */
#endif

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__GNUC__)
#define BENCH_API      static inline __attribute__((unused))
#define BENCH_NOINLINE __attribute__((noinline, unused))
#else
#define BENCH_API static inline
#define BENCH_NOINLINE
#endif

#define BENCH_PAUSE           200000u    /* T2c, P1c */
#define BENCH_SLEEP           100000000u /* T7s */
#define BENCH_REST            20000000u  /* P5 */
#define BENCH_CHUNKS_A_WORKER 8          /* T4, for peers that leave the chunks to their user */
#define BENCH_CHUNK           1000       /* P2c */
#define BENCH_MESSAGE         16         /* P1, bytes */
#define BENCH_PAGE            4096       /* the smallest there is */

typedef struct bench {
    const char *peer, *workload;
    int workers;
    long n;
    double work_ns; /* T7: one bench_work, measured before there are threads */
    uint64_t started, cpu_started;
} bench;

typedef struct bench_entry {
    const char *workload;
    void (*run)(bench *b);
} bench_entry;

/* ---------------------------------------------------------------- clocks */

BENCH_API uint64_t bench_clock(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

BENCH_API uint64_t bench_now(void) {
    return bench_clock(CLOCK_MONOTONIC);
}
BENCH_API uint64_t bench_cpu(void) {
    return bench_clock(CLOCK_PROCESS_CPUTIME_ID);
}

BENCH_API void bench_sleep(uint64_t ns) {
    struct timespec t;
    t.tv_sec = (time_t)(ns / 1000000000u);
    t.tv_nsec = (long)(ns % 1000000000u);
    nanosleep(&t, NULL);
}

/* Passes the time without giving up the CPU, so that only the workers park. */
BENCH_API void bench_spin(uint64_t ns) {
    const uint64_t end = bench_now() + ns;
    while (bench_now() < end) {
    }
}

/* ---------------------------------------------------------------- output */

BENCH_API void bench_check(bool ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "wrong result: %s\n", what);
        exit(4);
    }
}

BENCH_API void bench_print(const bench *b, double value, double cpu) {
    printf("%s %s %.2f cpu=%.1f\n", b->peer, b->workload, value, cpu);
}

BENCH_API void bench_start(bench *b) {
    b->cpu_started = bench_cpu();
    b->started = bench_now();
}

/* Prints what passed since bench_start, divided by count. */
BENCH_API void bench_stop_for(const bench *b, long count) {
    const double ns = (double)(bench_now() - b->started);
    const double cpu = (double)(bench_cpu() - b->cpu_started);
    bench_print(b, ns / (double)count, cpu / (double)count);
}

BENCH_API void bench_stop(const bench *b) {
    bench_stop_for(b, b->n);
}

/* For workloads that add up their own time and leave pauses out. */
BENCH_API void bench_stop_with(const bench *b, uint64_t ns) {
    const double cpu = (double)(bench_cpu() - b->cpu_started);
    bench_print(b, (double)ns / (double)b->n, cpu / (double)b->n);
}

BENCH_API void bench_stop_sleep(const bench *b) {
    const double ns = (double)(bench_now() - b->started);
    bench_print(b, ns - (double)BENCH_SLEEP, (double)(bench_cpu() - b->cpu_started));
}

BENCH_API void bench_stop_work(const bench *b) {
    const double ns = (double)(bench_now() - b->started) / (double)b->n;
    const double cpu = (double)(bench_cpu() - b->cpu_started) / (double)b->n;
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    const long at_once = cpus < b->workers ? cpus : b->workers;
    printf("%s %s %.2f cpu=%.1f eff=%.4f\n", b->peer, b->workload, ns, cpu,
           b->work_ns / (double)at_once / ns);
}

BENCH_API void bench_print_idle(const bench *b) {
    uint64_t cpu;
    bench_sleep(100000000u);
    cpu = bench_cpu();
    bench_sleep(200000000u);
    cpu = 5 * (bench_cpu() - cpu);
    bench_print(b, (double)cpu, (double)cpu);
}

/* Memory in use now, not at the peak; 0 where the system does not tell. */
BENCH_API long bench_resident(void) {
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file) {
        if (fscanf(file, "%ld %ld", &size, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    return resident * sysconf(_SC_PAGESIZE);
}

BENCH_API void bench_print_bytes(const bench *b, long before) {
    bench_print(b, (double)(bench_resident() - before) / (double)b->n, 0);
}

/* ---------------------------------------------------------------- work */

/* T7: about 45 us on a machine of 2023. */
static BENCH_NOINLINE uint64_t bench_work(uint64_t x) {
    for (int i = 0; i < 13000; i++) {
        x ^= x >> 30;
        x *= UINT64_C(0xbf58476d1ce4e5b9);
        x ^= x >> 27;
        x *= UINT64_C(0x94d049bb133111eb);
        x ^= x >> 31;
    }
    return x;
}

/* The best of 20 rounds of 20, in ns. */
BENCH_API double bench_work_time(void) {
    uint64_t best = UINT64_MAX, x = 1;
    for (int round = 0; round < 20; round++) {
        const uint64_t start = bench_now();
        for (int i = 0; i < 20; i++) {
            x = bench_work(x);
        }
        const uint64_t ns = bench_now() - start;
        best = ns < best ? ns : best;
    }
    bench_check(x != 0, "bench_work"); /* a bijection that keeps 0 apart; and x is used */
    return (double)best / 20;
}

static BENCH_NOINLINE double bench_item(double x) {
    return x * x + 1.0;
}

BENCH_API long bench_fib(long n) {
    return n < 2 ? n : bench_fib(n - 1) + bench_fib(n - 2);
}
BENCH_API long bench_fib_calls(long n) {
    return 2 * bench_fib(n + 1) - 1;
}
BENCH_API long bench_sum_below(long n) {
    return n * (n - 1) / 2;
}
BENCH_API int bench_producers(const bench *b) {
    return b->workload[3] - '0';
} /* T6pK */

/* Items of a task: one in T4c1, the usual handful of tasks a worker in T4. */
BENCH_API long bench_chunk(const bench *b) {
    return strcmp(b->workload, "T4c1") ? b->n / (b->workers * BENCH_CHUNKS_A_WORKER) + 1 : 1;
}

/* Memory that has been touched: what a page fault costs is not what is measured. */
BENCH_API void *bench_alloc(long count, size_t size) {
    const size_t bytes = (size_t)count * size;
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory) {
        abort();
    }
    return memset(memory, 1, bytes);
}

BENCH_API double *bench_doubles(long n) {
    double *items = (double *)bench_alloc(n, sizeof *items);
    for (long i = 0; i < n; i++) {
        items[i] = (double)i;
    }
    return items;
}

BENCH_API void bench_check_items(const double *in, const double *out, long n) {
    for (long i = 0; i < n; i++) {
        const double error = out[i] - (in[i] * in[i] + 1.0);
        bench_check(error <= 0 && error >= 0, "map");
    }
}

/* ---------------------------------------------------------------- blocks */

BENCH_API uint64_t bench_pause(const bench *b) {
    return strcmp(b->workload, "P1c") ? 0 : BENCH_PAUSE;
}

/* What P1 and P3 send and get back. */
typedef struct bench_block {
    char *bytes;
    size_t size;
    char mark; /* of this trip */
} bench_block;

BENCH_API bench_block bench_new_block(const bench *b) {
    bench_block block = {NULL, BENCH_MESSAGE, 1};
    if (!strncmp(b->workload, "P3", 2)) {
        block.size = (size_t)(b->workload[2] == 'm' ? 1 : 64) << 20;
    }
    block.bytes = (char *)bench_alloc(1, block.size);
    return block;
}

/* Makes it differ from the block of the trip before. */
BENCH_API void bench_mark(bench_block *block) {
    block->mark = (char)(block->mark % 100 + 1);
    for (size_t i = 0; i < block->size; i += BENCH_PAGE) {
        block->bytes[i] = block->mark;
    }
}

/* Looks at each page: one that is not mapped yet has not come back yet. */
BENCH_API void bench_check_block(const bench_block *block, const char *bytes) {
    bool is_same = bytes[block->size - 1] == block->bytes[block->size - 1];
    for (size_t i = 0; i < block->size; i += BENCH_PAGE) {
        is_same &= bytes[i] == block->mark;
    }
    bench_check(is_same, "echo");
}

/* ---------------------------------------------------------------- latch, gate */

typedef struct bench_latch {
    long left; /* atomic */
    bool is_open;
    pthread_mutex_t mutex; /* is_open; the waiter may free the latch once it has held it */
    pthread_cond_t cond;
} bench_latch;

BENCH_API void bench_latch_init(bench_latch *latch, long count) {
    latch->left = count;
    latch->is_open = false;
    pthread_mutex_init(&latch->mutex, NULL);
    pthread_cond_init(&latch->cond, NULL);
}

BENCH_API void bench_latch_down(bench_latch *latch) {
    if (__atomic_sub_fetch(&latch->left, 1, __ATOMIC_ACQ_REL)) {
        return;
    }
    pthread_mutex_lock(&latch->mutex);
    latch->is_open = true;
    pthread_cond_signal(&latch->cond);
    pthread_mutex_unlock(&latch->mutex);
}

BENCH_API void bench_latch_wait(bench_latch *latch) {
    pthread_mutex_lock(&latch->mutex);
    while (!latch->is_open) {
        pthread_cond_wait(&latch->cond, &latch->mutex);
    }
    pthread_mutex_unlock(&latch->mutex);
    pthread_cond_destroy(&latch->cond);
    pthread_mutex_destroy(&latch->mutex);
}

/* Holds the workers, so that what is submitted meanwhile stays outstanding. */
typedef struct bench_gate {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool is_open;
    int inside;
} bench_gate;

BENCH_API void bench_gate_init(bench_gate *gate) {
    pthread_mutex_init(&gate->mutex, NULL);
    pthread_cond_init(&gate->cond, NULL);
    gate->is_open = false;
    gate->inside = 0;
}

BENCH_API void bench_gate_enter(bench_gate *gate) {
    pthread_mutex_lock(&gate->mutex);
    gate->inside++;
    pthread_cond_broadcast(&gate->cond);
    while (!gate->is_open) {
        pthread_cond_wait(&gate->cond, &gate->mutex);
    }
    pthread_mutex_unlock(&gate->mutex);
}

BENCH_API void bench_gate_await(bench_gate *gate, int count) {
    pthread_mutex_lock(&gate->mutex);
    while (gate->inside < count) {
        pthread_cond_wait(&gate->cond, &gate->mutex);
    }
    pthread_mutex_unlock(&gate->mutex);
}

BENCH_API void bench_gate_open(bench_gate *gate) {
    pthread_mutex_lock(&gate->mutex);
    gate->is_open = true;
    pthread_cond_broadcast(&gate->cond);
    pthread_mutex_unlock(&gate->mutex);
}

/* ---------------------------------------------------------------- main */

/* Runs fn(arg) in count threads and waits for them: the producers of T6. */
BENCH_API void bench_in_threads(int count, void *(*fn)(void *), void *arg) {
    pthread_t threads[9];
    for (int i = 0; i < count; i++) {
        bench_check(pthread_create(&threads[i], NULL, fn, arg) == 0, "pthread_create");
    }
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
}

BENCH_API int bench_main(const char *peer, int argc, char **argv, const bench_entry *entries) {
    bench b;
    memset(&b, 0, sizeof b);
    if (argc != 4) {
        fprintf(stderr, "usage: %s WORKLOAD WORKERS N\n", argv[0]);
        return 2;
    }
    b.peer = peer;
    b.workload = argv[1];
    b.workers = atoi(argv[2]);
    b.n = atol(argv[3]);
    for (; entries->workload; entries++) {
        if (!strcmp(entries->workload, b.workload)) {
            b.work_ns = strcmp(b.workload, "T7") ? 0 : bench_work_time();
            entries->run(&b);
            return 0;
        }
    }
    return 3;
}

#endif
