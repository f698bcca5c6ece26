/*
 * c++ -O2 -std=c++17 tests/bench/boost.cpp -o boost -lpthread
 *
 * Boost.Asio's thread_pool, with std::packaged_task as the future.
 */
#include "bench_future.hpp"
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

class asio_pool {
    boost::asio::thread_pool pool;

  public:
    explicit asio_pool(int workers) : pool(static_cast<std::size_t>(workers)) {}
    ~asio_pool() { pool.join(); }

    template <class Fn> void post(Fn fn) { boost::asio::post(pool, std::move(fn)); }

    template <class Fn> auto submit(Fn fn) {
        std::packaged_task<decltype(fn())()> task(std::move(fn));
        auto future = task.get_future();
        boost::asio::post(pool, std::move(task));
        return future;
    }
};

int main(int argc, char **argv) {
    return future_main<asio_pool>("boost", argc, argv);
}
