/*
 * cc -O2 tests/bench/limits.c -o limits -lpthread        limits system|shared WORKLOAD WORKERS N
 *
 * What the machine itself takes, for comparison: each workload with nothing of a pool in it.
 * system (peer limits): by the usual calls.
 *
 *   T1f       malloc and free of 64 bytes, N blocks alive
 *   T2        two threads that spin hand a cache line over and back
 *   T2c       futex: a parked thread is woken and its answer seen by one that spins
 *   T4 T7 T7s threads made for the purpose, each with its share from the start
 *   T8c       W threads created and joined
 *   P1 P1c    two processes send 16 bytes over a socketpair and back
 *   P3m P3g   memcpy there and back
 *   P4 P5     fork and wait: W processes, one process
 *
 * shared (peer limits-shm): two processes and what they share.
 *
 *   P1        both spin
 *   P1c       futex: the other one is woken, its answer seen by one that spins
 *   P3m P3g   both spin; a copy there, the answer another one, which is read where it lies
 */
#include "bench.h"
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>

enum { MAX_THREADS = 64 };

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

/* ---------------------------------------------------------------- two sides */

/* Each side writes its own line only: asked counts up, answered follows. */
typedef struct table {
    _Alignas(128) atomic_int asked;
    _Alignas(128) atomic_int answered;
    _Alignas(128) int rounds; /* frozen, as all below */
    bool is_parked;
    int scope; /* of the futex: 0, or FUTEX_PRIVATE_FLAG between threads */
    char *in, *out;
    size_t size; /* bytes that the answering side copies from in to out */
} table;

static void spin_until(const atomic_int *word, int value) {
    for (unsigned spins = 1; atomic_load_explicit(word, memory_order_acquire) != value; spins++) {
        if (spins % 4096 == 0) {
            sched_yield(); /* with a single CPU the other side needs it */
        }
    }
}

static void park_until(atomic_int *word, int value, int scope) {
    while (atomic_load_explicit(word, memory_order_acquire) != value) {
        syscall(SYS_futex, word, FUTEX_WAIT | scope, value - 1, NULL, NULL, 0);
    }
}

static void *answer(void *arg) {
    table *t = arg;
    for (int i = 1; i <= t->rounds; i++) {
        if (t->is_parked) {
            park_until(&t->asked, i, t->scope);
        } else {
            spin_until(&t->asked, i);
        }
        if (t->size) {
            memcpy(t->out, t->in, t->size);
        }
        atomic_store_explicit(&t->answered, i, memory_order_release);
    }
    return NULL;
}

static void ask(table *t, int i) {
    atomic_store_explicit(&t->asked, i, memory_order_release);
    if (t->is_parked) {
        syscall(SYS_futex, &t->asked, FUTEX_WAKE | t->scope, 1, NULL, NULL, 0);
    }
    spin_until(&t->answered, i);
}

static void t2(bench *b) {
    table t = {.rounds = (int)b->n, .scope = FUTEX_PRIVATE_FLAG};
    uint64_t total = 0;
    pthread_t other;
    t.is_parked = !strcmp(b->workload, "T2c");
    bench_check(!pthread_create(&other, NULL, answer, &t), "pthread_create");
    bench_sleep(1000000);
    bench_start(b);
    for (int i = 1; i <= t.rounds; i++) {
        bench_spin(t.is_parked ? BENCH_PAUSE : 0);
        const uint64_t start = bench_now();
        ask(&t, i);
        total += bench_now() - start;
    }
    bench_stop_with(b, total);
    pthread_join(other, NULL);
}

static void *map_shared(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bench_check(memory != MAP_FAILED, "mmap");
    return memory;
}

static table *new_shared_table(const bench *b, size_t size, int rounds) {
    table *t = map_shared(sizeof *t);
    t->rounds = rounds;
    t->is_parked = !strcmp(b->workload, "P1c");
    t->in = map_shared(size);
    t->out = map_shared(size);
    t->size = size;
    return t;
}

static uint64_t shared_trip(table *t, bench_block *block, int i, uint64_t pause) {
    bench_mark(block);
    bench_spin(pause);
    const uint64_t start = bench_now();
    memcpy(t->in, block->bytes, block->size);
    ask(t, i);
    bench_check_block(block, t->out);
    return bench_now() - start;
}

static void shared_echo(bench *b) {
    const uint64_t pause = bench_pause(b);
    const int warm_up = (int)b->n / 10 + 1;
    bench_block block = bench_new_block(b);
    table *t = new_shared_table(b, block.size, warm_up + (int)b->n);
    uint64_t total = 0;
    const pid_t pid = fork();
    if (pid == 0) {
        answer(t);
        _exit(0);
    }
    bench_check(pid > 0, "fork");
    for (int i = 1; i <= t->rounds; i++) {
        if (i == warm_up + 1) {
            bench_start(b);
            total = 0;
        }
        total += shared_trip(t, &block, i, pause);
    }
    bench_stop_with(b, total);
    waitpid(pid, NULL, 0);
    free(block.bytes);
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

static pid_t fork_echo(int sockets[2]) {
    char message[BENCH_MESSAGE];
    bench_check(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0, "socketpair");
    const pid_t pid = fork();
    if (pid == 0) {
        close(sockets[0]);
        while (read(sockets[1], message, sizeof message) == BENCH_MESSAGE &&
               write(sockets[1], message, sizeof message) == BENCH_MESSAGE) {
        }
        _exit(0);
    }
    bench_check(pid > 0, "fork");
    close(sockets[1]);
    return pid;
}

static uint64_t socket_trips(int fd, bench_block *block, long n, uint64_t pause) {
    char reply[BENCH_MESSAGE];
    uint64_t total = 0;
    for (long i = 0; i < n; i++) {
        bench_mark(block);
        bench_spin(pause);
        const uint64_t start = bench_now();
        bench_check(write(fd, block->bytes, BENCH_MESSAGE) == BENCH_MESSAGE, "write");
        bench_check(read(fd, reply, BENCH_MESSAGE) == BENCH_MESSAGE, "read");
        bench_check_block(block, reply);
        total += bench_now() - start;
    }
    return total;
}

static void p1(bench *b) {
    const uint64_t pause = bench_pause(b);
    bench_block block = bench_new_block(b);
    int sockets[2];
    const pid_t pid = fork_echo(sockets);
    socket_trips(sockets[0], &block, b->n / 10 + 1, pause);
    bench_start(b);
    bench_stop_with(b, socket_trips(sockets[0], &block, b->n, pause));
    close(sockets[0]);
    waitpid(pid, NULL, 0);
    free(block.bytes);
}

static uint64_t copies(bench_block *block, char *there, char *back, long n) {
    uint64_t total = 0;
    for (long i = 0; i < n; i++) {
        bench_mark(block);
        const uint64_t start = bench_now();
        memcpy(there, block->bytes, block->size);
        memcpy(back, there, block->size);
        bench_check_block(block, back);
        total += bench_now() - start;
    }
    return total;
}

static void p3(bench *b) {
    bench_block block = bench_new_block(b);
    char *there = bench_alloc(1, block.size), *back = bench_alloc(1, block.size);
    copies(&block, there, back, b->n / 10 + 1);
    bench_start(b);
    bench_stop_with(b, copies(&block, there, back, b->n));
    free(block.bytes);
    free(there);
    free(back);
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
    static const bench_entry system_calls[] = {
        {"T1f", t1f}, {"T2", t2},  {"T2c", t2}, {"T4", t4},  {"T7", t7}, {"T7s", t7s}, {"T8c", t8c},
        {"P1", p1},   {"P1c", p1}, {"P3m", p3}, {"P3g", p3}, {"P4", p4}, {"P5", p4},   {NULL, NULL},
    };
    static const bench_entry shared_memory[] = {
        {"P1", shared_echo},  {"P1c", shared_echo}, {"P3m", shared_echo},
        {"P3g", shared_echo}, {NULL, NULL},
    };
    if (argc < 2) {
        fprintf(stderr, "usage: %s system|shared WORKLOAD WORKERS N\n", argv[0]);
        return 2;
    }
    const bool is_shared = !strcmp(argv[1], "shared");
    return bench_main(is_shared ? "limits-shm" : "limits", argc - 1, argv + 1,
                      is_shared ? shared_memory : system_calls);
}
