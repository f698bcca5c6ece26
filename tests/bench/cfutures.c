/*
 * cc -O2 -I. tests/bench/cfutures.c -o cfutures -lpthread
 *
 * The workloads of bench.h on cfutures.h, written as a user of the public interface would.
 */
#include "bench.h"

#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

static cf_executor *new_pool(int workers) {
    const cf_pool_options options = {.max_workers = (size_t)workers};
    cf_executor *pool = cf_thread_pool_new(&options, NULL);
    bench_check(pool != NULL, "cf_thread_pool_new");
    return pool;
}

static long take_long(cf_future *future) {
    const long *result = cf_future_result(future, CF_FOREVER, NULL);
    bench_check(result != NULL, "cf_future_result");
    const long value = *result;
    cf_future_release(future);
    return value;
}

static int empty(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    return 0;
}

static int identity(cf_task *task, void *arg) {
    return cf_task_return(task, arg, sizeof(long));
}

/* ---------------------------------------------------------------- T1, T1f, T6 */

static void fire(cf_executor *pool, long n) {
    for (long i = 0; i < n; i++) {
        cf_future_release(cf_executor_submit(pool, empty, CF_NO_ARG));
    }
}

static void take_in_order(cf_executor *pool, long n) {
    cf_future **futures = bench_alloc(n, sizeof *futures);
    long sum = 0;
    for (long i = 0; i < n; i++) {
        futures[i] = cf_executor_submit(pool, identity, CF_VALUE(long, i));
    }
    for (long i = 0; i < n; i++) {
        sum += take_long(futures[i]);
    }
    bench_check(sum == bench_sum_below(n), "sum of the results");
    free(futures);
}

/* The library's own wait for everything fired is the end of Python's `with` block. It ends the
 * workers too, some 0.1 ms for all tasks together, so the warm-up has to wait by its futures. */
static void t1(bench *b) {
    cf_executor *pool = new_pool(b->workers);
    take_in_order(pool, b->n);
    bench_start(b);
    fire(pool, b->n);
    cf_executor_shutdown(pool, CF_FOREVER, CF_RUN_PENDING);
    bench_stop(b);
    cf_executor_close(pool);
}

static void t1f(bench *b) {
    cf_executor *pool = new_pool(b->workers);
    take_in_order(pool, b->n);
    bench_start(b);
    take_in_order(pool, b->n);
    bench_stop(b);
    cf_executor_close(pool);
}

typedef struct producer {
    cf_executor *pool;
    long n;
} producer;

static void *produce(void *arg) {
    const producer *p = arg;
    take_in_order(p->pool, p->n);
    return NULL;
}

static void t6(bench *b) {
    const int count = bench_producers(b);
    producer p = {new_pool(b->workers), b->n / count};
    bench_in_threads(count, produce, &p);
    bench_start(b);
    bench_in_threads(count, produce, &p);
    bench_stop(b);
    cf_executor_close(p.pool);
}

/* ---------------------------------------------------------------- T2 */

static uint64_t round_trips(cf_executor *pool, long n, uint64_t pause) {
    uint64_t total = 0;
    for (long i = 0; i < n; i++) {
        bench_spin(pause);
        const uint64_t start = bench_now();
        bench_check(take_long(cf_executor_submit(pool, identity, CF_VALUE(long, i))) == i, "T2");
        total += bench_now() - start;
    }
    return total;
}

static void t2_after(bench *b, uint64_t pause) {
    cf_executor *pool = new_pool(b->workers);
    round_trips(pool, b->n / 10, pause);
    bench_start(b);
    bench_stop_with(b, round_trips(pool, b->n, pause));
    cf_executor_close(pool);
}

static void t2(bench *b) {
    t2_after(b, 0);
}
static void t2c(bench *b) {
    t2_after(b, BENCH_PAUSE);
}

/* ---------------------------------------------------------------- T3 */

static int fib_task(cf_task *task, void *arg);

static long fib(cf_executor *pool, long n) {
    if (n < 2) {
        return n;
    }
    cf_future *child = cf_executor_submit(pool, fib_task, CF_VALUE(long, n - 1));
    const long called = fib(pool, n - 2);
    return take_long(child) + called;
}

static int fib_task(cf_task *task, void *arg) {
    const long value = fib(cf_task_executor(task), *(const long *)arg);
    return cf_task_return(task, &value, sizeof value);
}

static void t3(bench *b) {
    cf_executor *pool = new_pool(b->workers);
    take_long(cf_executor_submit(pool, fib_task, CF_VALUE(long, b->n - 5)));
    bench_start(b);
    const long value = take_long(cf_executor_submit(pool, fib_task, CF_VALUE(long, b->n)));
    bench_stop_for(b, bench_fib_calls(b->n));
    bench_check(value == bench_fib(b->n), "fib");
    cf_executor_close(pool);
}

/* ---------------------------------------------------------------- T4 */

static int square_plus_one(cf_task *task, void *arg) {
    const double result = bench_item(*(const double *)arg);
    return cf_task_return(task, &result, sizeof result);
}

static void t4(bench *b) {
    const cf_map_options options = {.chunksize = (size_t)bench_chunk(b)};
    cf_executor *pool = new_pool(b->workers);
    double *in = bench_doubles(b->n), *out = bench_doubles(b->n);
    for (int pass = 0; pass < 2; pass++) {
        bench_start(b);
        const cf_status status = cf_executor_map_array(pool, square_plus_one, in, sizeof *in, out,
                                                       sizeof *out, (size_t)b->n, &options, NULL);
        bench_check(status == CF_OK, cf_status_name(status));
    }
    bench_stop(b);
    bench_check_items(in, out, b->n);
    cf_executor_close(pool);
    free(in);
    free(out);
}

/* ---------------------------------------------------------------- T5 */

static void take_as_completed(cf_executor *pool, long n) {
    cf_future **futures = bench_alloc(n, sizeof *futures);
    long sum = 0;
    for (long i = 0; i < n; i++) {
        futures[i] = cf_executor_submit(pool, identity, CF_VALUE(long, i));
    }
    cf_as_completed_iter *iter = cf_as_completed(futures, (size_t)n, CF_FOREVER);
    for (cf_future *f; (f = cf_as_completed_next(iter, NULL, NULL)) != NULL;) {
        sum += take_long(f);
    }
    cf_as_completed_close(iter);
    bench_check(sum == bench_sum_below(n), "sum of the results");
    free(futures);
}

static void t5(bench *b) {
    cf_executor *pool = new_pool(b->workers);
    take_as_completed(pool, b->n);
    bench_start(b);
    take_as_completed(pool, b->n);
    bench_stop(b);
    cf_executor_close(pool);
}

/* ---------------------------------------------------------------- T7 */

static int work(cf_task *task, void *arg) {
    const uint64_t result = bench_work((uint64_t) * (const long *)arg);
    return cf_task_return(task, &result, sizeof result);
}

static int nap(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    bench_sleep(BENCH_SLEEP);
    return 0;
}

static void run_all(cf_executor *pool, cf_task_fn *fn, long n) {
    cf_future **futures = bench_alloc(n, sizeof *futures);
    for (long i = 0; i < n; i++) {
        futures[i] = cf_executor_submit(pool, fn, CF_VALUE(long, i));
    }
    cf_wait(futures, (size_t)n, CF_ALL_COMPLETED, CF_FOREVER, NULL);
    for (long i = 0; i < n; i++) {
        bench_check(cf_future_wait(futures[i], 0) == CF_OK, "task");
        cf_future_release(futures[i]);
    }
    free(futures);
}

static void t7(bench *b) {
    cf_executor *pool = new_pool(b->workers);
    run_all(pool, work, b->n / 10);
    bench_start(b);
    run_all(pool, work, b->n);
    bench_stop_work(b);
    cf_executor_close(pool);
}

static void t7s(bench *b) {
    bench_start(b);
    cf_executor *pool = new_pool(b->workers);
    run_all(pool, nap, b->n);
    bench_stop_sleep(b);
    cf_executor_close(pool);
}

/* ---------------------------------------------------------------- T8 */

typedef struct payload {
    char bytes[32];
} payload;

static int pass_gate(cf_task *task, void *gate) {
    (void)task;
    bench_gate_enter(gate);
    return 0;
}

static void t8m(bench *b) {
    cf_executor *pool = new_pool(b->workers);
    cf_future **futures = bench_alloc(b->n, sizeof *futures);
    bench_gate gate;
    bench_gate_init(&gate);
    for (int i = 0; i < b->workers; i++) {
        cf_future_release(cf_executor_submit(pool, pass_gate, CF_POINTER(&gate)));
    }
    bench_gate_await(&gate, b->workers);
    const long before = bench_resident();
    for (long i = 0; i < b->n; i++) {
        futures[i] = cf_executor_submit(pool, empty, CF_VALUE(payload, {0}));
    }
    bench_print_bytes(b, before);
    bench_gate_open(&gate);
    cf_executor_close(pool);
    for (long i = 0; i < b->n; i++) {
        cf_future_release(futures[i]);
    }
    free(futures);
}

static void t8c(bench *b) {
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        cf_executor *pool = new_pool(b->workers);
        take_long(cf_executor_submit(pool, identity, CF_VALUE(long, i)));
        cf_executor_close(pool);
    }
    bench_stop(b);
}

static void t8i(bench *b) {
    cf_executor *pool = new_pool(b->workers);
    take_in_order(pool, b->n);
    bench_print_idle(b);
    cf_executor_close(pool);
}

int main(int argc, char **argv) {
    static const bench_entry entries[] = {
        {"T1", t1},   {"T1f", t1f}, {"T2", t2},   {"T2c", t2c}, {"T3", t3}, {"T4", t4},
        {"T4c1", t4}, {"T5", t5},   {"T6p2", t6}, {"T6p4", t6}, {"T7", t7}, {"T7s", t7s},
        {"T8m", t8m}, {"T8c", t8c}, {"T8i", t8i}, {NULL, NULL},
    };
    return bench_main("cfutures", argc, argv, entries);
}
