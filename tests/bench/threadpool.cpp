/*
 * c++ -O2 -std=c++17 tests/bench/threadpool.cpp -o threadpool -lpthread
 *
 * thread_pool::ThreadPool (Debian: libthread-pool-dev): a queue for each worker, std::future.
 */
#include "bench_future.hpp"
#include <thread_pool/thread_pool.hpp>

class debian_pool {
    thread_pool::ThreadPool pool;

  public:
    explicit debian_pool(int workers) : pool(static_cast<std::size_t>(workers)) {}

    template <class Fn> auto submit(Fn fn) { return pool.Submit(std::move(fn)); }
    template <class Fn> void post(Fn fn) { pool.Submit(std::move(fn)); }
};

int main(int argc, char **argv) {
    return future_main<debian_pool>("threadpool", argc, argv);
}
