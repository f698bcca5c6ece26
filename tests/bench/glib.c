/*
 * cc -O2 tests/bench/glib.c -o glib $(pkg-config --cflags --libs glib-2.0) -lpthread
 *
 * GLib's GThreadPool with exclusive threads.
 */
#include "bench_pool.h"
#include <glib.h>

typedef struct job {
    pool_fn *fn;
    void *arg;
} job;

static void run(gpointer data, gpointer user) {
    const job j = *(const job *)data;
    (void)user;
    g_free(data);
    j.fn(j.arg);
}

static void *create(int workers) {
    return g_thread_pool_new(run, NULL, workers, TRUE, NULL);
}
static void destroy(void *pool) {
    g_thread_pool_free(pool, FALSE, TRUE);
}

static void submit(void *pool, pool_fn *fn, void *arg) {
    job *j = g_new(job, 1);
    *j = (job){fn, arg};
    g_thread_pool_push(pool, j, NULL);
}

int main(int argc, char **argv) {
    return pool_main("glib", (pool_ops){create, submit, NULL, destroy}, argc, argv);
}
