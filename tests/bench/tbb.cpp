/*
 * c++ -O2 -std=c++17 tests/bench/tbb.cpp -o tbb -ltbb -lpthread
 *
 * oneTBB as its manual advises: task_group, in whose wait the caller works too, and parallel_for.
 * It has no future, so in T1f and T6 each task fills its place of an array. T5 and T8m need the
 * tasks on workers alone: there task_arena::enqueue, with a packaged_task where a future is asked.
 */
#include "bench_future.hpp"
#include <tbb/blocked_range.h>
#include <tbb/concurrent_queue.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

/* An arena whose slots are the workers and the callers that wait inside. */
static void in_arena(const bench *b, const std::function<void()> &fn) {
    tbb::task_arena arena(b->workers + 1, 1);
    arena.execute(fn);
}

static void fire_group(long n) {
    tbb::task_group group;
    for (long i = 0; i < n; i++) {
        group.run([] {});
    }
    group.wait();
}

static void fill_group(long n) {
    std::vector<long> results(static_cast<std::size_t>(n));
    auto *result = results.data();
    tbb::task_group group;
    long sum = 0;
    for (long i = 0; i < n; i++) {
        group.run([result, i] { result[i] = i; });
    }
    group.wait();
    for (const long value : results) {
        sum += value;
    }
    bench_check(sum == bench_sum_below(n), "sum of the results");
}

static void fire_and_fill(bench *b) {
    const auto run = strcmp(b->workload, "T1") ? fill_group : fire_group;
    in_arena(b, [=] {
        run(b->n);
        bench_start(b);
        run(b->n);
        bench_stop(b);
    });
}

template <unsigned Pause> static std::uint64_t group_trips(long n) {
    std::uint64_t total = 0;
    for (long i = 0; i < n; i++) {
        long value = -1;
        bench_spin(Pause);
        const auto start = bench_now();
        tbb::task_group group;
        group.run([&value, i] { value = i; });
        group.wait();
        total += bench_now() - start;
        bench_check(value == i, "T2");
    }
    return total;
}

template <unsigned Pause> static void group_t2(bench *b) {
    in_arena(b, [b] {
        group_trips<Pause>(b->n / 10);
        bench_start(b);
        bench_stop_with(b, group_trips<Pause>(b->n));
    });
}

static long fib(long n) {
    if (n < 2) {
        return n;
    }
    long spawned;
    tbb::task_group group;
    group.run([&spawned, n] { spawned = fib(n - 1); });
    const long called = fib(n - 2);
    group.wait();
    return spawned + called;
}

static void t3(bench *b) {
    in_arena(b, [b] {
        fib(b->n - 5);
        bench_start(b);
        const long value = fib(b->n);
        bench_stop_for(b, bench_fib_calls(b->n));
        bench_check(value == bench_fib(b->n), "fib");
    });
}

static void range_t4(bench *b) {
    const bool one_by_one = !strcmp(b->workload, "T4c1");
    double *in = bench_doubles(b->n), *out = bench_doubles(b->n);
    const auto body = [=](const tbb::blocked_range<long> &range) {
        for (long i = range.begin(); i < range.end(); i++) {
            out[i] = bench_item(in[i]);
        }
    };
    in_arena(b, [=] {
        for (int pass = 0; pass < 2; pass++) {
            bench_start(b);
            if (one_by_one) {
                tbb::parallel_for(tbb::blocked_range<long>(0, b->n, 1), body,
                                  tbb::simple_partitioner());
            } else {
                tbb::parallel_for(tbb::blocked_range<long>(0, b->n), body);
            }
        }
        bench_stop(b);
    });
    bench_check_items(in, out, b->n);
    free(in);
    free(out);
}

static void queue_t5(bench *b) {
    tbb::task_arena arena(b->workers, 0);
    for (int pass = 0; pass < 2; pass++) {
        tbb::concurrent_bounded_queue<long> queue;
        long sum = 0, value;
        bench_start(b);
        for (long i = 0; i < b->n; i++) {
            arena.enqueue([i, &queue] { queue.push(i); });
        }
        for (long i = 0; i < b->n; i++) {
            queue.pop(value);
            sum += value;
        }
        bench_check(sum == bench_sum_below(b->n), "sum of the results");
    }
    bench_stop(b);
}

static void producers_t6(bench *b) {
    const int producers = bench_producers(b);
    tbb::task_arena arena(b->workers + producers, static_cast<unsigned>(producers));
    for (int pass = 0; pass < 2; pass++) {
        std::vector<std::thread> threads;
        bench_start(b);
        for (int i = 0; i < producers; i++) {
            threads.emplace_back(
                [=, &arena] { arena.execute([=] { fill_group(b->n / producers); }); });
        }
        for (auto &thread : threads) {
            thread.join();
        }
    }
    bench_stop(b);
}

template <class Fn> static void group_run_all(long n, Fn fn) {
    tbb::task_group group;
    for (long i = 0; i < n; i++) {
        group.run([fn, i] { fn(i); });
    }
    group.wait();
}

static void group_t7(bench *b) {
    std::vector<std::uint64_t> results(static_cast<std::size_t>(b->n));
    auto *result = results.data();
    const auto work = [result](long i) { result[i] = bench_work(static_cast<std::uint64_t>(i)); };
    in_arena(b, [=] {
        group_run_all(b->n / 10, work);
        bench_start(b);
        group_run_all(b->n, work);
        bench_stop_work(b);
    });
}

static void group_t7s(bench *b) {
    bench_start(b);
    in_arena(b, [b] { group_run_all(b->n, [](long) { bench_sleep(BENCH_SLEEP); }); });
    bench_stop_sleep(b);
}

/* Tasks on workers alone. */
class enqueue_pool {
    tbb::task_arena arena;

  public:
    explicit enqueue_pool(int workers) : arena(workers, 0) {}

    template <class Fn> void post(Fn fn) { arena.enqueue(std::move(fn)); }

    template <class Fn> auto submit(Fn fn) {
        auto task = std::make_shared<std::packaged_task<decltype(fn())()>>(std::move(fn));
        arena.enqueue([task] { (*task)(); });
        return task->get_future();
    }
};

static void group_t8c(bench *b) {
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        in_arena(b, [] { fire_group(1); });
    }
    bench_stop(b);
}

static void group_t8i(bench *b) {
    in_arena(b, [b] { fire_group(b->n); });
    bench_print_idle(b);
}

int main(int argc, char **argv) {
    static const bench_entry entries[] = {
        {"T1", fire_and_fill},
        {"T1f", fire_and_fill},
        {"T2", group_t2<0>},
        {"T2c", group_t2<BENCH_PAUSE>},
        {"T3", t3},
        {"T4", range_t4},
        {"T4c1", range_t4},
        {"T5", queue_t5},
        {"T6p2", producers_t6},
        {"T6p4", producers_t6},
        {"T7", group_t7},
        {"T7s", group_t7s},
        {"T8m", t8m<enqueue_pool>},
        {"T8c", group_t8c},
        {"T8i", group_t8i},
        {nullptr, nullptr},
    };
    /* One arena of W workers beside the caller, on any number of CPUs. */
    const std::size_t most = argc > 2 ? static_cast<std::size_t>(atoi(argv[2])) + 4 : 1;
    tbb::global_control threads(tbb::global_control::max_allowed_parallelism, most);
    return bench_main("tbb", argc, argv, entries);
}
