/*
 * cc -O2 -I. tests/bench/cfutures.c -o cfutures -lpthread
 * cc -O2 -I. -DCFUTURES_POSIX tests/bench/cfutures.c -o cfutures-posix -lpthread
 *
 * The workloads of bench.h on cfutures.h, written as a user of the public interface would. The
 * first has those of threads, on the backend that the header chooses by itself; the second has
 * those of processes too, and all of them on POSIX threads.
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

/* ---------------------------------------------------------------- processes */

#ifdef CFUTURES_POSIX
#include <signal.h>
#include <sys/types.h>

static cf_executor *new_process_pool(int workers) {
    const cf_pool_options options = {.max_workers = (size_t)workers};
    cf_executor *pool = cf_process_pool_new(&options, NULL);
    bench_check(pool != NULL, "cf_process_pool_new");
    return pool;
}

static int echo_message(cf_task *task, void *arg) {
    return cf_task_return(task, arg, cf_task_arg_size(task));
}

/* Writes where the caller will read. */
static int echo_block(cf_task *task, void *arg) {
    const size_t size = cf_task_arg_size(task);
    void *result = cf_task_result_buffer(task, size);
    if (!result) {
        return 1;
    }
    memcpy(result, arg, size);
    return 0;
}

static void take_echo(cf_future *future, const bench_block *block) {
    const void *result = cf_future_result(future, CF_FOREVER, NULL);
    bench_check(result && cf_future_result_size(future) == block->size, "cf_future_result");
    bench_check_block(block, result);
    cf_future_release(future);
}

static cf_future *send_block(cf_executor *pool, const bench_block *block) {
    cf_task_fn *const fn = block->size > BENCH_MESSAGE ? echo_block : echo_message;
    return cf_executor_submit(pool, fn, block->bytes, block->size);
}

static void check_echo(cf_executor *pool, const bench_block *block) {
    cf_future *future = send_block(pool, block);
    const void *result = cf_future_result(future, CF_FOREVER, NULL);
    bench_check(result && !memcmp(result, block->bytes, block->size), "echo");
    cf_future_release(future);
}

static uint64_t echoes(cf_executor *pool, bench_block *block, long n, uint64_t pause) {
    uint64_t total = 0;
    for (long i = 0; i < n; i++) {
        bench_mark(block);
        bench_spin(pause);
        const uint64_t start = bench_now();
        take_echo(send_block(pool, block), block);
        total += bench_now() - start;
    }
    return total;
}

static void p1(bench *b) {
    const uint64_t pause = bench_pause(b);
    cf_executor *pool = new_process_pool(b->workers);
    bench_block block = bench_new_block(b);
    check_echo(pool, &block);
    echoes(pool, &block, b->n / 10, pause);
    bench_start(b);
    bench_stop_with(b, echoes(pool, &block, b->n, pause));
    cf_executor_close(pool);
    free(block.bytes);
}

static long *new_items(long n) {
    long *items = bench_alloc(n, sizeof *items);
    for (long i = 0; i < n; i++) {
        items[i] = i;
    }
    return items;
}

static void submit_many(cf_executor *pool, cf_future **futures, long n) {
    long *items = new_items(n);
    const cf_status status =
        cf_executor_submit_many(pool, identity, items, (size_t)n, sizeof *items, futures);
    bench_check(status == CF_OK, cf_status_name(status));
    free(items);
}

static void take_many(cf_executor *pool, long n) {
    cf_future **futures = bench_alloc(n, sizeof *futures);
    long sum = 0;
    submit_many(pool, futures, n);
    for (long i = 0; i < n; i++) {
        sum += take_long(futures[i]);
    }
    bench_check(sum == bench_sum_below(n), "sum of the results");
    free(futures);
}

static void take_map(cf_executor *pool, long n) {
    const cf_map_options options = {.chunksize = BENCH_CHUNK};
    long *items = new_items(n), sum = 0;
    cf_map_iter *iter = cf_executor_map(pool, identity, items, (size_t)n, sizeof *items, &options);
    for (const long *result; (result = cf_map_next(iter, NULL)) != NULL;) {
        sum += *result;
    }
    cf_map_close(iter);
    bench_check(sum == bench_sum_below(n), "sum of the results");
    free(items);
}

static void p2_by(bench *b, void (*run)(cf_executor *pool, long n)) {
    cf_executor *pool = new_process_pool(b->workers);
    run(pool, b->n / 10);
    bench_start(b);
    run(pool, b->n);
    bench_stop(b);
    cf_executor_close(pool);
}

static void p2(bench *b) {
    p2_by(b, take_in_order);
}
static void p2m(bench *b) {
    p2_by(b, take_many);
}
static void p2c(bench *b) {
    p2_by(b, take_map);
}

static void p4(bench *b) {
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        cf_executor *pool = new_process_pool(b->workers);
        bench_check(take_long(cf_executor_submit(pool, identity, CF_VALUE(long, i))) == i, "P4");
        cf_executor_close(pool);
    }
    bench_stop(b);
}

static int own_pid(cf_task *task, void *arg) {
    const pid_t pid = getpid();
    (void)arg;
    return cf_task_return(task, &pid, sizeof pid);
}

/* The worker that is told to die may still take the task along: that costs one future. */
static pid_t next_pid(cf_executor *pool) {
    for (;;) {
        cf_status status;
        cf_future *future = cf_executor_submit(pool, own_pid, CF_NO_ARG);
        const pid_t *result = cf_future_result(future, CF_FOREVER, &status);
        const pid_t pid = result ? *result : 0;
        cf_future_release(future);
        bench_check(result || status == CF_WORKER_LOST, cf_status_name(status));
        if (result) {
            return pid;
        }
    }
}

static void p5(bench *b) {
    cf_executor *pool = new_process_pool(1);
    pid_t worker = next_pid(pool);
    uint64_t total = 0;
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        const pid_t victim = worker;
        bench_sleep(BENCH_REST);
        const uint64_t start = bench_now();
        kill(victim, SIGKILL);
        worker = next_pid(pool);
        total += bench_now() - start;
        bench_check(worker != victim, "another worker");
    }
    bench_stop_with(b, total);
    cf_executor_close(pool);
}
#endif

int main(int argc, char **argv) {
    static const bench_entry entries[] = {
        {"T1", t1},   {"T1f", t1f}, {"T2", t2},   {"T2c", t2c}, {"T3", t3},
        {"T4", t4},   {"T4c1", t4}, {"T5", t5},   {"T6p2", t6}, {"T6p4", t6},
        {"T7", t7},   {"T7s", t7s}, {"T8m", t8m}, {"T8c", t8c}, {"T8i", t8i},
#ifdef CFUTURES_POSIX
        {"P1", p1},   {"P1c", p1},  {"P2", p2},   {"P2m", p2m}, {"P2c", p2c},
        {"P3m", p1},  {"P3g", p1},  {"P4", p4},   {"P5", p5},
#endif
        {NULL, NULL},
    };
    return bench_main("cfutures", argc, argv, entries);
}
