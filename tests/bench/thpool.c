/*
 * cc -O2 -I/usr/include/cthreadpool tests/bench/thpool.c -o thpool \
 *     /usr/share/cthreadpool/thpool.c -lpthread
 *
 * C-Thread-Pool (Debian: cthreadpool-dev), which has a wait for all of its own.
 */
#include "bench_pool.h"
#include <thpool.h>

static void *create(int workers) {
    return thpool_init(workers);
}
static void submit(void *pool, pool_fn *fn, void *arg) {
    thpool_add_work(pool, fn, arg);
}
static void wait_all(void *pool) {
    thpool_wait(pool);
}
static void destroy(void *pool) {
    thpool_destroy(pool);
}

int main(int argc, char **argv) {
    return pool_main("thpool", (pool_ops){create, submit, wait_all, destroy}, argc, argv);
}
