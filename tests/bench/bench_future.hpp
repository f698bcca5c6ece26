/*
 * bench_future.hpp -- the workloads of bench.h for a C++ pool whose submit returns a std::future.
 *
 * The peer gives a class with a constructor from the number of workers, submit(f), which returns
 * a std::future, and post(f), which returns nothing.
 */
#ifndef BENCH_FUTURE_HPP
#define BENCH_FUTURE_HPP

#include "bench.h"
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

template <class Pool> void fire(Pool &pool, long n) {
    bench_latch latch;
    bench_latch_init(&latch, n);
    for (long i = 0; i < n; i++) {
        pool.post([&latch] { bench_latch_down(&latch); });
    }
    bench_latch_wait(&latch);
}

template <class Pool> void take_in_order(Pool &pool, long n) {
    std::vector<std::future<long>> futures;
    long sum = 0;
    futures.reserve(static_cast<std::size_t>(n));
    for (long i = 0; i < n; i++) {
        futures.push_back(pool.submit([i] { return i; }));
    }
    for (auto &future : futures) {
        sum += future.get();
    }
    bench_check(sum == bench_sum_below(n), "sum of the results");
}

/* n tasks fn(i), all waited for. */
template <class Pool, class Fn> void run_all(Pool &pool, long n, Fn fn) {
    std::vector<std::future<void>> futures;
    futures.reserve(static_cast<std::size_t>(n));
    for (long i = 0; i < n; i++) {
        futures.push_back(pool.submit([fn, i] { fn(i); }));
    }
    for (auto &future : futures) {
        future.get();
    }
}

template <class Pool> void t1(bench *b) {
    Pool pool(b->workers);
    fire(pool, b->n);
    bench_start(b);
    fire(pool, b->n);
    bench_stop(b);
}

template <class Pool> void t1f(bench *b) {
    Pool pool(b->workers);
    take_in_order(pool, b->n);
    bench_start(b);
    take_in_order(pool, b->n);
    bench_stop(b);
}

template <class Pool> std::uint64_t round_trips(Pool &pool, long n, std::uint64_t pause) {
    std::uint64_t total = 0;
    for (long i = 0; i < n; i++) {
        bench_spin(pause);
        const auto start = bench_now();
        bench_check(pool.submit([i] { return i; }).get() == i, "T2");
        total += bench_now() - start;
    }
    return total;
}

template <class Pool, unsigned Pause> void t2(bench *b) {
    Pool pool(b->workers);
    round_trips(pool, b->n / 10, Pause);
    bench_start(b);
    bench_stop_with(b, round_trips(pool, b->n, Pause));
}

template <class Pool> void map(Pool &pool, const double *in, double *out, long n, long chunk) {
    run_all(pool, (n + chunk - 1) / chunk, [=](long slice) {
        const long end = std::min(n, (slice + 1) * chunk);
        for (long i = slice * chunk; i < end; i++) {
            out[i] = bench_item(in[i]);
        }
    });
}

template <class Pool> void t4(bench *b) {
    Pool pool(b->workers);
    double *in = bench_doubles(b->n), *out = bench_doubles(b->n);
    map(pool, in, out, b->n, bench_chunk(b));
    bench_start(b);
    map(pool, in, out, b->n, bench_chunk(b));
    bench_stop(b);
    bench_check_items(in, out, b->n);
    free(in);
    free(out);
}

/* The queue of completions that a user writes. */
class completions {
    std::mutex mutex;
    std::condition_variable cond;
    std::deque<long> values;

  public:
    void put(long value) {
        const std::lock_guard<std::mutex> lock(mutex);
        values.push_back(value);
        cond.notify_one();
    }
    long take() {
        std::unique_lock<std::mutex> lock(mutex);
        cond.wait(lock, [this] { return !values.empty(); });
        const long value = values.front();
        values.pop_front();
        return value;
    }
};

template <class Pool> void take_as_completed(Pool &pool, long n) {
    completions queue;
    long sum = 0;
    for (long i = 0; i < n; i++) {
        pool.post([i, &queue] { queue.put(i); });
    }
    for (long i = 0; i < n; i++) {
        sum += queue.take();
    }
    bench_check(sum == bench_sum_below(n), "sum of the results");
}

template <class Pool> void t5(bench *b) {
    Pool pool(b->workers);
    take_as_completed(pool, b->n);
    bench_start(b);
    take_as_completed(pool, b->n);
    bench_stop(b);
}

template <class Pool> void produce(Pool &pool, int producers, long n) {
    std::vector<std::thread> threads;
    for (int i = 0; i < producers; i++) {
        threads.emplace_back([&pool, n] { take_in_order(pool, n); });
    }
    for (auto &thread : threads) {
        thread.join();
    }
}

template <class Pool> void t6(bench *b) {
    const int producers = bench_producers(b);
    Pool pool(b->workers);
    produce(pool, producers, b->n / producers);
    bench_start(b);
    produce(pool, producers, b->n / producers);
    bench_stop(b);
}

template <class Pool> void t7(bench *b) {
    std::vector<std::uint64_t> results(static_cast<std::size_t>(b->n));
    auto *result = results.data();
    const auto work = [result](long i) { result[i] = bench_work(static_cast<std::uint64_t>(i)); };
    Pool pool(b->workers);
    run_all(pool, b->n / 10, work);
    bench_start(b);
    run_all(pool, b->n, work);
    bench_stop_work(b);
}

template <class Pool> void t7s(bench *b) {
    bench_start(b);
    Pool pool(b->workers);
    run_all(pool, b->n, [](long) { bench_sleep(BENCH_SLEEP); });
    bench_stop_sleep(b);
}

template <class Pool> void t8m(bench *b) {
    bench_gate gate;
    bench_gate_init(&gate);
    std::vector<std::future<long>> futures(static_cast<std::size_t>(b->n));
    Pool pool(b->workers);
    for (int i = 0; i < b->workers; i++) {
        pool.post([&gate] { bench_gate_enter(&gate); });
    }
    bench_gate_await(&gate, b->workers);
    const long before = bench_resident();
    for (long i = 0; i < b->n; i++) {
        futures[static_cast<std::size_t>(i)] = pool.submit([i] { return i; });
    }
    bench_print_bytes(b, before);
    bench_gate_open(&gate);
    for (auto &future : futures) {
        future.get();
    }
}

template <class Pool> void t8c(bench *b) {
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        Pool pool(b->workers);
        take_in_order(pool, 1);
    }
    bench_stop(b);
}

template <class Pool> void t8i(bench *b) {
    Pool pool(b->workers);
    fire(pool, b->n);
    bench_print_idle(b);
}

template <class Pool> int future_main(const char *peer, int argc, char **argv) {
    static const bench_entry entries[] = {
        {"T1", t1<Pool>},   {"T1f", t1f<Pool>}, {"T2", t2<Pool, 0>}, {"T2c", t2<Pool, BENCH_PAUSE>},
        {"T4", t4<Pool>},   {"T4c1", t4<Pool>}, {"T5", t5<Pool>},    {"T6p2", t6<Pool>},
        {"T6p4", t6<Pool>}, {"T7", t7<Pool>},   {"T7s", t7s<Pool>},  {"T8m", t8m<Pool>},
        {"T8c", t8c<Pool>}, {"T8i", t8i<Pool>}, {nullptr, nullptr},
    };
    return bench_main(peer, argc, argv, entries);
}

#endif
