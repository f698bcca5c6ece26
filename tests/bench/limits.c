/*
 * cc -O2 tests/bench/limits.c -o limits -lpthread
 *
 * What the machine itself takes, for comparison: each workload with nothing of a pool in it.
 *
 *   T1f       malloc and free of 64 bytes, N blocks alive
 *   T2        two threads that spin hand a cache line over and back
 *   T2c       futex: a parked thread is woken and its answer seen by one that spins
 *   T4 T7 T7s threads made for the purpose, each with its share from the start
 *   T8c       W threads created and joined
 *   P1 P1c    two processes send 16 bytes over a socketpair and back
 *   P3m P3g   memcpy there and back
 *   P4 P5     fork and wait: W processes, one process
 */
#include "bench.h"
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>

enum { MAX_THREADS = 64, MESSAGE = 16 };

/* ---------------------------------------------------------------- malloc */

static void allocate(void **blocks, long n) {
    for (long i = 0; i < n; i++) {
        blocks[i] = malloc(64);
        bench_check(blocks[i] != NULL, "malloc");
        *(long *)blocks[i] = i;
    }
    for (long i = 0; i < n; i++) {
        free(blocks[i]);
    }
}

static void t1f(bench *b) {
    void **blocks = bench_alloc(b->n, sizeof *blocks);
    allocate(blocks, b->n);
    bench_start(b);
    allocate(blocks, b->n);
    bench_stop(b);
    free(blocks);
}

/* ---------------------------------------------------------------- two threads */

/* Each side writes its own line only: asked counts up, answered follows. */
typedef struct table {
    _Alignas(128) atomic_int asked;
    _Alignas(128) atomic_int answered;
    int rounds;
} table;

static void spin_until(const atomic_int *word, int value) {
    for (unsigned spins = 1; atomic_load_explicit(word, memory_order_acquire) != value; spins++) {
        if (spins % 4096 == 0) {
            sched_yield(); /* with a single CPU the other side needs it */
        }
    }
}

static void *answer_spinning(void *arg) {
    table *t = arg;
    for (int i = 1; i <= t->rounds; i++) {
        spin_until(&t->asked, i);
        atomic_store_explicit(&t->answered, i, memory_order_release);
    }
    return NULL;
}

static void *answer_parked(void *arg) {
    table *t = arg;
    for (int i = 1; i <= t->rounds; i++) {
        while (atomic_load_explicit(&t->asked, memory_order_acquire) != i) {
            syscall(SYS_futex, &t->asked, FUTEX_WAIT_PRIVATE, i - 1, NULL, NULL, 0);
        }
        atomic_store_explicit(&t->answered, i, memory_order_release);
    }
    return NULL;
}

static void t2(bench *b) {
    const bool is_parked = !strcmp(b->workload, "T2c");
    table t = {0, 0, (int)b->n};
    uint64_t total = 0;
    pthread_t other;
    bench_check(!pthread_create(&other, NULL, is_parked ? answer_parked : answer_spinning, &t),
                "pthread_create");
    bench_sleep(1000000);
    bench_start(b);
    for (int i = 1; i <= t.rounds; i++) {
        bench_spin(is_parked ? BENCH_PAUSE : 0);
        const uint64_t start = bench_now();
        atomic_store_explicit(&t.asked, i, memory_order_release);
        if (is_parked) {
            syscall(SYS_futex, &t.asked, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        }
        spin_until(&t.answered, i);
        total += bench_now() - start;
    }
    bench_stop_with(b, total);
    pthread_join(other, NULL);
}

/* ---------------------------------------------------------------- shares */

typedef struct share {
    const double *in;
    double *out;
    long count;
    uint64_t result;
} share;

static void *map_share(void *arg) {
    const share *s = arg;
    for (long i = 0; i < s->count; i++) {
        s->out[i] = bench_item(s->in[i]);
    }
    return NULL;
}

static void *burn_share(void *arg) {
    share *s = arg;
    for (long i = 0; i < s->count; i++) {
        s->result = bench_work(s->result + 1);
    }
    return NULL;
}

static void *nap(void *arg) {
    bench_sleep(BENCH_SLEEP);
    return arg;
}

static void in_shares(const bench *b, void *(*fn)(void *), const double *in, double *out) {
    const long chunk = (b->n + b->workers - 1) / b->workers;
    share shares[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    bench_check(b->workers <= MAX_THREADS, "workers");
    for (long i = 0, from = 0; i < b->workers; i++, from += chunk) {
        shares[i] = (share){in ? in + from : NULL, out ? out + from : NULL,
                            b->n - from < chunk ? b->n - from : chunk, 0};
        bench_check(!pthread_create(&threads[i], NULL, fn, &shares[i]), "pthread_create");
    }
    for (int i = 0; i < b->workers; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void t4(bench *b) {
    double *in = bench_doubles(b->n), *out = bench_doubles(b->n);
    bench_start(b);
    in_shares(b, map_share, in, out);
    bench_stop(b);
    bench_check_items(in, out, b->n);
    free(in);
    free(out);
}

static void t7(bench *b) {
    bench_start(b);
    in_shares(b, burn_share, NULL, NULL);
    bench_stop_work(b);
}

static void t7s(bench *b) {
    bench_start(b);
    in_shares(b, nap, NULL, NULL);
    bench_stop_sleep(b);
}

static void *nothing(void *arg) {
    return arg;
}

static void t8c(bench *b) {
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        in_shares(b, nothing, NULL, NULL);
    }
    bench_stop(b);
}

/* ---------------------------------------------------------------- processes */

static void p1(bench *b) {
    const bool is_parked = !strcmp(b->workload, "P1c");
    char message[MESSAGE] = "ping";
    int sockets[2];
    uint64_t total = 0;
    bench_check(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0, "socketpair");
    const pid_t pid = fork();
    if (pid == 0) {
        close(sockets[0]);
        while (read(sockets[1], message, MESSAGE) == MESSAGE &&
               write(sockets[1], message, MESSAGE) == MESSAGE) {
        }
        _exit(0);
    }
    close(sockets[1]);
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        bench_spin(is_parked ? BENCH_PAUSE : 0);
        const uint64_t start = bench_now();
        bench_check(write(sockets[0], message, MESSAGE) == MESSAGE, "write");
        bench_check(read(sockets[0], message, MESSAGE) == MESSAGE, "read");
        total += bench_now() - start;
    }
    bench_stop_with(b, total);
    close(sockets[0]);
    waitpid(pid, NULL, 0);
}

static void p3(bench *b) {
    const long size = strcmp(b->workload, "P3g") ? 1L << 20 : 64L << 20;
    char *here = bench_alloc(size, 1), *there = bench_alloc(size, 1);
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        here[0] = (char)i;
        memcpy(there, here, (size_t)size);
        there[1] = (char)i;
        memcpy(here, there, (size_t)size);
    }
    bench_stop(b);
    bench_check(here[0] == here[1], "memcpy");
    free(here);
    free(there);
}

static void p4(bench *b) {
    const int count = strcmp(b->workload, "P5") ? b->workers : 1;
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        for (int k = 0; k < count; k++) {
            if (fork() == 0) {
                _exit(0);
            }
        }
        for (int k = 0; k < count; k++) {
            wait(NULL);
        }
    }
    bench_stop(b);
}

int main(int argc, char **argv) {
    static const bench_entry entries[] = {
        {"T1f", t1f}, {"T2", t2},  {"T2c", t2}, {"T4", t4},  {"T7", t7}, {"T7s", t7s}, {"T8c", t8c},
        {"P1", p1},   {"P1c", p1}, {"P3m", p3}, {"P3g", p3}, {"P4", p4}, {"P5", p4},   {NULL, NULL},
    };
    return bench_main("limits", argc, argv, entries);
}
