/*
 * cc -O2 tests/bench/libuv.c -o libuv -luv -lpthread
 *
 * libuv's uv_queue_work: one pool for the process, a uv_work_t as the handle of each task, and
 * completions delivered by the loop in the order in which tasks end, so T1, T1f and T5 are the
 * same thing. A loop belongs to one thread: in T6 each producer has its own over the shared pool.
 */
#include "bench.h"
#include <uv.h>

static void count(uv_work_t *work, int status) {
    bench_check(status == 0, "uv status");
    ++*(long *)work->loop->data;
}

static void empty(uv_work_t *work) {
    (void)work;
}
static void burn(uv_work_t *work) {
    work->data = (void *)(uintptr_t)bench_work((uintptr_t)work);
}
static void pass_gate(uv_work_t *work) {
    bench_gate_enter(work->data);
}

static void nap(uv_work_t *work) {
    (void)work;
    bench_sleep(BENCH_SLEEP);
}

/* The pool takes its size from the environment, at the first task of the process. */
static void set_workers(int workers) {
    char text[16];
    snprintf(text, sizeof text, "%d", workers);
    setenv("UV_THREADPOOL_SIZE", text, 1);
}

static void run(uv_loop_t *loop, uv_work_cb fn, uv_work_t *works, long n) {
    long done = 0;
    loop->data = &done;
    for (long i = 0; i < n; i++) {
        uv_queue_work(loop, &works[i], fn, count);
    }
    uv_run(loop, UV_RUN_DEFAULT);
    bench_check(done == n, "completions");
}

static void run_all(uv_loop_t *loop, uv_work_cb fn, long n) {
    uv_work_t *works = malloc(sizeof *works * (size_t)n);
    bench_check(works != NULL, "malloc");
    run(loop, fn, works, n);
    free(works);
}

static void t1(bench *b) {
    set_workers(b->workers);
    run_all(uv_default_loop(), empty, b->n);
    bench_start(b);
    run_all(uv_default_loop(), empty, b->n);
    bench_stop(b);
}

static uint64_t round_trips(long n, uint64_t pause) {
    uint64_t total = 0;
    uv_work_t work;
    for (long i = 0; i < n; i++) {
        bench_spin(pause);
        const uint64_t start = bench_now();
        run(uv_default_loop(), empty, &work, 1);
        total += bench_now() - start;
    }
    return total;
}

static void t2(bench *b) {
    const uint64_t pause = strcmp(b->workload, "T2c") ? 0 : BENCH_PAUSE;
    set_workers(b->workers);
    round_trips(b->n / 10, pause);
    bench_start(b);
    bench_stop_with(b, round_trips(b->n, pause));
}

typedef struct slice {
    const double *in;
    double *out;
    long count;
} slice;

static void map_slice(uv_work_t *work) {
    const slice *s = work->data;
    for (long i = 0; i < s->count; i++) {
        s->out[i] = bench_item(s->in[i]);
    }
}

static void map(const double *in, double *out, long n, long chunk) {
    const long pieces = (n + chunk - 1) / chunk;
    slice *slices = malloc(sizeof *slices * (size_t)pieces);
    uv_work_t *works = malloc(sizeof *works * (size_t)pieces);
    bench_check(slices && works, "malloc");
    for (long i = 0, from = 0; i < pieces; i++, from += chunk) {
        slices[i] = (slice){in + from, out + from, n - from < chunk ? n - from : chunk};
        works[i].data = &slices[i];
    }
    run(uv_default_loop(), map_slice, works, pieces);
    free(works);
    free(slices);
}

static void t4(bench *b) {
    double *in = bench_doubles(b->n), *out = bench_doubles(b->n);
    set_workers(b->workers);
    map(in, out, b->n, bench_chunk(b));
    bench_start(b);
    map(in, out, b->n, bench_chunk(b));
    bench_stop(b);
    bench_check_items(in, out, b->n);
    free(in);
    free(out);
}

static void *produce(void *arg) {
    uv_loop_t loop;
    uv_loop_init(&loop);
    run_all(&loop, empty, *(const long *)arg);
    uv_loop_close(&loop);
    return NULL;
}

static void t6(bench *b) {
    const int producers = bench_producers(b);
    long n = b->n / producers;
    set_workers(b->workers);
    bench_in_threads(producers, produce, &n);
    bench_start(b);
    bench_in_threads(producers, produce, &n);
    bench_stop(b);
}

static void t7(bench *b) {
    set_workers(b->workers);
    run_all(uv_default_loop(), burn, b->n / 10);
    bench_start(b);
    run_all(uv_default_loop(), burn, b->n);
    bench_stop_work(b);
}

static void t7s(bench *b) {
    set_workers(b->workers);
    bench_start(b);
    run_all(uv_default_loop(), nap, b->n);
    bench_stop_sleep(b);
}

static void t8m(bench *b) {
    uv_work_t *works = malloc(sizeof *works * (size_t)b->n);
    uv_work_t *held = bench_alloc(b->workers, sizeof *held);
    bench_gate gate;
    long done = 0;
    bench_check(works != NULL, "malloc");
    bench_gate_init(&gate);
    set_workers(b->workers);
    uv_default_loop()->data = &done;
    for (int i = 0; i < b->workers; i++) {
        held[i].data = &gate;
        uv_queue_work(uv_default_loop(), &held[i], pass_gate, count);
    }
    bench_gate_await(&gate, b->workers);
    const long before = bench_resident();
    for (long i = 0; i < b->n; i++) {
        uv_queue_work(uv_default_loop(), &works[i], empty, count);
    }
    bench_print_bytes(b, before);
    bench_gate_open(&gate);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    free(held);
    free(works);
}

static void t8i(bench *b) {
    set_workers(b->workers);
    run_all(uv_default_loop(), empty, b->n);
    bench_print_idle(b);
}

int main(int argc, char **argv) {
    static const bench_entry entries[] = {
        {"T1", t1},   {"T1f", t1},  {"T2", t2},   {"T2c", t2},  {"T4", t4},
        {"T4c1", t4}, {"T5", t1},   {"T6p2", t6}, {"T6p4", t6}, {"T7", t7},
        {"T7s", t7s}, {"T8m", t8m}, {"T8i", t8i}, {NULL, NULL},
    };
    return bench_main("libuv", argc, argv, entries);
}
