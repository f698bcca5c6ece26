/*
 * bench_pool.h -- the workloads of bench.h for a C pool that has no futures of its own.
 *
 * On top of it lies what a C user writes then: a future with a mutex and a condition variable, a
 * malloc each, and a list under a mutex as the queue of completions.
 */
#ifndef BENCH_POOL_H
#define BENCH_POOL_H

#include "bench.h"

typedef void pool_fn(void *arg);

typedef struct pool_ops {
    void *(*create)(int workers);
    void (*submit)(void *pool, pool_fn *fn, void *arg);
    void (*wait_all)(void *pool); /* NULL: a latch */
    void (*destroy)(void *pool);
} pool_ops;

static pool_ops ops; /* set by pool_main */

/* ---------------------------------------------------------------- future */

typedef struct pool_future {
    pthread_mutex_t mutex; /* is_done, value */
    pthread_cond_t cond;
    bool is_done;
    uint64_t value; /* first the argument, then the result */
    uint64_t (*fn)(uint64_t);
} pool_future;

static void future_run(void *arg) {
    pool_future *future = arg;
    const uint64_t result = future->fn(future->value);
    pthread_mutex_lock(&future->mutex);
    future->value = result;
    future->is_done = true;
    pthread_cond_signal(&future->cond);
    pthread_mutex_unlock(&future->mutex);
}

static pool_future *future_submit(void *pool, uint64_t (*fn)(uint64_t), uint64_t arg) {
    pool_future *future = malloc(sizeof *future);
    bench_check(future != NULL, "malloc");
    pthread_mutex_init(&future->mutex, NULL);
    pthread_cond_init(&future->cond, NULL);
    future->is_done = false;
    future->value = arg;
    future->fn = fn;
    ops.submit(pool, future_run, future);
    return future;
}

static uint64_t future_take(pool_future *future) {
    pthread_mutex_lock(&future->mutex);
    while (!future->is_done) {
        pthread_cond_wait(&future->cond, &future->mutex);
    }
    const uint64_t value = future->value;
    pthread_mutex_unlock(&future->mutex);
    pthread_mutex_destroy(&future->mutex);
    pthread_cond_destroy(&future->cond);
    free(future);
    return value;
}

/* ---------------------------------------------------------------- workloads */

static uint64_t identity(uint64_t x) {
    return x;
}

static uint64_t nap(uint64_t x) {
    bench_sleep(BENCH_SLEEP);
    return x;
}

static void empty(void *arg) {
    (void)arg;
}
static void count_down(void *latch) {
    bench_latch_down(latch);
}
static void pass_gate(void *gate) {
    bench_gate_enter(gate);
}

static void fire(void *pool, long n) {
    if (ops.wait_all) {
        for (long i = 0; i < n; i++) {
            ops.submit(pool, empty, NULL);
        }
        ops.wait_all(pool);
        return;
    }
    bench_latch latch;
    bench_latch_init(&latch, n);
    for (long i = 0; i < n; i++) {
        ops.submit(pool, count_down, &latch);
    }
    bench_latch_wait(&latch);
}

static uint64_t run_all(void *pool, uint64_t (*fn)(uint64_t), long n) {
    pool_future **futures = bench_alloc(n, sizeof(pool_future *));
    uint64_t sum = 0;
    for (long i = 0; i < n; i++) {
        futures[i] = future_submit(pool, fn, (uint64_t)i);
    }
    for (long i = 0; i < n; i++) {
        sum += future_take(futures[i]);
    }
    free(futures);
    return sum;
}

static void take_in_order(void *pool, long n) {
    const uint64_t sum = run_all(pool, identity, n);
    bench_check(sum == (uint64_t)bench_sum_below(n), "sum of the results");
}

static void t1(bench *b) {
    void *pool = ops.create(b->workers);
    fire(pool, b->n);
    bench_start(b);
    fire(pool, b->n);
    bench_stop(b);
    ops.destroy(pool);
}

static void t1f(bench *b) {
    void *pool = ops.create(b->workers);
    take_in_order(pool, b->n);
    bench_start(b);
    take_in_order(pool, b->n);
    bench_stop(b);
    ops.destroy(pool);
}

static uint64_t round_trips(void *pool, long n, uint64_t pause) {
    uint64_t total = 0;
    for (long i = 0; i < n; i++) {
        bench_spin(pause);
        const uint64_t start = bench_now();
        bench_check(future_take(future_submit(pool, identity, (uint64_t)i)) == (uint64_t)i, "T2");
        total += bench_now() - start;
    }
    return total;
}

static void t2(bench *b) {
    const uint64_t pause = strcmp(b->workload, "T2c") ? 0 : BENCH_PAUSE;
    void *pool = ops.create(b->workers);
    round_trips(pool, b->n / 10, pause);
    bench_start(b);
    bench_stop_with(b, round_trips(pool, b->n, pause));
    ops.destroy(pool);
}

typedef struct slice {
    const double *in;
    double *out;
    long count;
    bench_latch *latch;
} slice;

static void map_slice(void *arg) {
    const slice *s = arg;
    for (long i = 0; i < s->count; i++) {
        s->out[i] = bench_item(s->in[i]);
    }
    bench_latch_down(s->latch);
}

static void map(void *pool, const double *in, double *out, long n, long chunk) {
    const long count = (n + chunk - 1) / chunk;
    slice *slices = bench_alloc(count, sizeof *slices);
    bench_latch latch;
    bench_latch_init(&latch, count);
    for (long i = 0, from = 0; i < count; i++, from += chunk) {
        slices[i] = (slice){in + from, out + from, n - from < chunk ? n - from : chunk, &latch};
        ops.submit(pool, map_slice, &slices[i]);
    }
    bench_latch_wait(&latch);
    free(slices);
}

static void t4(bench *b) {
    void *pool = ops.create(b->workers);
    double *in = bench_doubles(b->n), *out = bench_doubles(b->n);
    map(pool, in, out, b->n, bench_chunk(b));
    bench_start(b);
    map(pool, in, out, b->n, bench_chunk(b));
    bench_stop(b);
    bench_check_items(in, out, b->n);
    ops.destroy(pool);
    free(in);
    free(out);
}

typedef struct completions {
    pthread_mutex_t mutex; /* first, last */
    pthread_cond_t cond;
    struct completion *first, **last;
} completions;

typedef struct completion {
    struct completion *next;
    completions *queue;
    long value;
} completion;

static void complete(void *arg) {
    completion *c = arg;
    completions *queue = c->queue;
    c->next = NULL;
    pthread_mutex_lock(&queue->mutex);
    *queue->last = c;
    queue->last = &c->next;
    pthread_cond_signal(&queue->cond);
    pthread_mutex_unlock(&queue->mutex);
}

static long next_completed(completions *queue) {
    pthread_mutex_lock(&queue->mutex);
    while (!queue->first) {
        pthread_cond_wait(&queue->cond, &queue->mutex);
    }
    completion *c = queue->first;
    queue->first = c->next;
    if (!queue->first) {
        queue->last = &queue->first;
    }
    pthread_mutex_unlock(&queue->mutex);
    const long value = c->value;
    free(c);
    return value;
}

static void take_as_completed(void *pool, long n) {
    completions queue = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, &queue.first};
    long sum = 0;
    for (long i = 0; i < n; i++) {
        completion *c = malloc(sizeof *c);
        bench_check(c != NULL, "malloc");
        *c = (completion){NULL, &queue, i};
        ops.submit(pool, complete, c);
    }
    for (long i = 0; i < n; i++) {
        sum += next_completed(&queue);
    }
    bench_check(sum == bench_sum_below(n), "sum of the results");
    pthread_mutex_destroy(&queue.mutex);
    pthread_cond_destroy(&queue.cond);
}

static void t5(bench *b) {
    void *pool = ops.create(b->workers);
    take_as_completed(pool, b->n);
    bench_start(b);
    take_as_completed(pool, b->n);
    bench_stop(b);
    ops.destroy(pool);
}

typedef struct producer {
    void *pool;
    long n;
} producer;

static void *produce(void *arg) {
    const producer *p = arg;
    take_in_order(p->pool, p->n);
    return NULL;
}

static void t6(bench *b) {
    const int count = bench_producers(b);
    producer p = {ops.create(b->workers), b->n / count};
    bench_in_threads(count, produce, &p);
    bench_start(b);
    bench_in_threads(count, produce, &p);
    bench_stop(b);
    ops.destroy(p.pool);
}

static void t7(bench *b) {
    void *pool = ops.create(b->workers);
    run_all(pool, bench_work, b->n / 10);
    bench_start(b);
    run_all(pool, bench_work, b->n);
    bench_stop_work(b);
    ops.destroy(pool);
}

static void t7s(bench *b) {
    bench_start(b);
    void *pool = ops.create(b->workers);
    run_all(pool, nap, b->n);
    bench_stop_sleep(b);
    ops.destroy(pool);
}

static void t8m(bench *b) {
    void *pool = ops.create(b->workers);
    pool_future **futures = bench_alloc(b->n, sizeof(pool_future *));
    bench_gate gate;
    bench_gate_init(&gate);
    for (int i = 0; i < b->workers; i++) {
        ops.submit(pool, pass_gate, &gate);
    }
    bench_gate_await(&gate, b->workers);
    const long before = bench_resident();
    for (long i = 0; i < b->n; i++) {
        futures[i] = future_submit(pool, identity, (uint64_t)i);
    }
    bench_print_bytes(b, before);
    bench_gate_open(&gate);
    for (long i = 0; i < b->n; i++) {
        future_take(futures[i]);
    }
    ops.destroy(pool);
    free(futures);
}

static void t8c(bench *b) {
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        void *pool = ops.create(b->workers);
        take_in_order(pool, 1);
        ops.destroy(pool);
    }
    bench_stop(b);
}

static void t8i(bench *b) {
    void *pool = ops.create(b->workers);
    fire(pool, b->n);
    bench_print_idle(b);
    ops.destroy(pool);
}

static int pool_main(const char *peer, pool_ops peer_ops, int argc, char **argv) {
    static const bench_entry entries[] = {
        {"T1", t1},   {"T1f", t1f}, {"T2", t2},   {"T2c", t2},  {"T4", t4},
        {"T4c1", t4}, {"T5", t5},   {"T6p2", t6}, {"T6p4", t6}, {"T7", t7},
        {"T7s", t7s}, {"T8m", t8m}, {"T8c", t8c}, {"T8i", t8i}, {NULL, NULL},
    };
    ops = peer_ops;
    return bench_main(peer, argc, argv, entries);
}

#endif
