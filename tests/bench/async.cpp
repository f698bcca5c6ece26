/*
 * c++ -O2 -std=c++17 tests/bench/async.cpp -o async -lpthread
 *
 * std::async(std::launch::async): in libstdc++ a thread for each task and no pool, so the number
 * of tasks at a time is what a user would have to limit: 8 for each worker here.
 */
#include "bench.h"
#include <algorithm>
#include <deque>
#include <future>

template <class Fn> static void in_window(long n, int window, Fn fn) {
    std::deque<std::future<long>> futures;
    long sum = 0;
    for (long i = 0; i < n; i++) {
        if (futures.size() == static_cast<std::size_t>(window)) {
            sum += futures.front().get();
            futures.pop_front();
        }
        futures.push_back(std::async(std::launch::async, fn, i));
    }
    for (auto &future : futures) {
        sum += future.get();
    }
    bench_check(sum == bench_sum_below(n), "sum of the results");
}

static void t1f(bench *b) {
    bench_start(b);
    in_window(b->n, 8 * b->workers, [](long i) { return i; });
    bench_stop(b);
}

template <unsigned Pause> static void t2(bench *b) {
    uint64_t total = 0;
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        bench_spin(Pause);
        const auto start = bench_now();
        bench_check(std::async(std::launch::async, [i] { return i; }).get() == i, "T2");
        total += bench_now() - start;
    }
    bench_stop_with(b, total);
}

static void t4(bench *b) {
    const long chunk = bench_chunk(b);
    double *in = bench_doubles(b->n), *out = bench_doubles(b->n);
    bench_start(b);
    in_window((b->n + chunk - 1) / chunk, b->workers, [=](long slice) {
        const long end = std::min(b->n, (slice + 1) * chunk);
        for (long i = slice * chunk; i < end; i++) {
            out[i] = bench_item(in[i]);
        }
        return slice;
    });
    bench_stop(b);
    bench_check_items(in, out, b->n);
    free(in);
    free(out);
}

static void t7(bench *b) {
    bench_start(b);
    in_window(b->n, b->workers,
              [](long i) { return bench_work(static_cast<uint64_t>(i) + 1) ? i : 0; });
    bench_stop_work(b);
}

static void t7s(bench *b) {
    bench_start(b);
    in_window(b->n, b->workers, [](long i) {
        bench_sleep(BENCH_SLEEP);
        return i;
    });
    bench_stop_sleep(b);
}

int main(int argc, char **argv) {
    static const bench_entry entries[] = {
        {"T1f", t1f}, {"T2", t2<0>}, {"T2c", t2<BENCH_PAUSE>}, {"T4", t4},
        {"T7", t7},   {"T7s", t7s},  {nullptr, nullptr},
    };
    return bench_main("async", argc, argv, entries);
}
