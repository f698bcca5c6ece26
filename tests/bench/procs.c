/*
 * cc -O2 tests/bench/procs.c -o procs        procs pool|fork WORKLOAD WORKERS N
 *
 * Processes by hand. pool (peer c-pool): forked workers, a socketpair each, messages with their
 * length in front, poll for what has come, 16 messages ahead for each worker; one at a time goes to
 * the first worker. fork (peer c-fork): a process for each task, its result through a pipe.
 */
#include "bench.h"
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { MAX_WORKERS = 64, AHEAD = 16 };

typedef struct child {
    pid_t pid;
    int fd;
} child;

static bool read_all(int fd, void *data, size_t size) {
    for (char *p = data; size;) {
        const ssize_t got = read(fd, p, size);
        if (got <= 0) {
            return false;
        }
        p += got;
        size -= (size_t)got;
    }
    return true;
}

static bool write_all(int fd, const void *data, size_t size) {
    for (const char *p = data; size;) {
        const ssize_t put = write(fd, p, size);
        if (put <= 0) {
            return false;
        }
        p += put;
        size -= (size_t)put;
    }
    return true;
}

/* ---------------------------------------------------------------- pool */

/* One system call where it fits: the other side is woken once. */
static bool put(int fd, const void *data, size_t size) {
    struct iovec parts[2] = {{&size, sizeof size}, {(void *)(uintptr_t)data, size}};
    const ssize_t sent = writev(fd, parts, 2);
    const size_t rest = sizeof size + size - (size_t)sent;
    return sent >= (ssize_t)sizeof size && write_all(fd, (const char *)data + size - rest, rest);
}

/* Into room for the message: all of them have a size that both sides know. */
static bool get(int fd, void *data, size_t room) {
    size_t size;
    return read_all(fd, &size, sizeof size) && size <= room && read_all(fd, data, size);
}

static void serve(int fd) {
    char *data = NULL;
    size_t room = 0, size;
    while (read_all(fd, &size, sizeof size)) {
        if (size > room) {
            free(data);
            data = malloc(size);
            room = size;
        }
        if (!data || !read_all(fd, data, size) || !put(fd, data, size)) {
            break;
        }
    }
    _exit(0);
}

static child start_worker(void) {
    int sockets[2];
    bench_check(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0, "socketpair");
    const child c = {fork(), sockets[0]};
    if (c.pid == 0) {
        close(sockets[0]);
        serve(sockets[1]);
    }
    bench_check(c.pid > 0, "fork");
    close(sockets[1]);
    return c;
}

static void start_workers(child *workers, int count) {
    bench_check(count <= MAX_WORKERS, "workers");
    for (int i = 0; i < count; i++) {
        workers[i] = start_worker();
    }
}

/* One after another, and the latest first: an older worker's socket is open in the younger ones. */
static void stop_workers(const child *workers, int count) {
    for (int i = count - 1; i >= 0; i--) {
        close(workers[i].fd);
        waitpid(workers[i].pid, NULL, 0);
    }
}

static uint64_t echoes(child c, bench_block *block, char *out, long n, uint64_t pause) {
    uint64_t total = 0;
    for (long i = 0; i < n; i++) {
        bench_mark(block);
        bench_spin(pause);
        const uint64_t start = bench_now();
        bench_check(put(c.fd, block->bytes, block->size) && get(c.fd, out, block->size), "echo");
        bench_check_block(block, out);
        total += bench_now() - start;
    }
    return total;
}

static void pool_echo(bench *b) {
    const uint64_t pause = bench_pause(b);
    bench_block block = bench_new_block(b);
    char *out = bench_alloc(1, block.size);
    child workers[MAX_WORKERS];
    start_workers(workers, b->workers);
    echoes(workers[0], &block, out, b->n / 10 + 1, pause);
    bench_start(b);
    bench_stop_with(b, echoes(workers[0], &block, out, b->n, pause));
    bench_check(!memcmp(block.bytes, out, block.size), "echo");
    stop_workers(workers, b->workers);
    free(block.bytes);
    free(out);
}

static long get_sum(int fd, long *values, long chunk) {
    long sum = 0;
    bench_check(get(fd, values, (size_t)chunk * sizeof *values), "get");
    for (long i = 0; i < chunk; i++) {
        sum += values[i];
    }
    return sum;
}

static void put_next(int fd, long *values, long chunk, long first) {
    for (long i = 0; i < chunk; i++) {
        values[i] = first + i;
    }
    bench_check(put(fd, values, (size_t)chunk * sizeof *values), "put");
}

/* Takes what has come from any worker; gives how many messages that was. */
static long collect(const child *workers, int count, long chunk, long *sum) {
    struct pollfd ready[MAX_WORKERS];
    long values[BENCH_CHUNK], taken = 0;
    for (int i = 0; i < count; i++) {
        ready[i] = (struct pollfd){workers[i].fd, POLLIN, 0};
    }
    bench_check(poll(ready, (nfds_t)count, -1) > 0, "poll");
    for (int i = 0; i < count; i++) {
        if (ready[i].revents & POLLIN) {
            *sum += get_sum(workers[i].fd, values, chunk);
            taken++;
        }
    }
    return taken;
}

static void pool_many(bench *b) {
    const long chunk = strcmp(b->workload, "P2c") ? 1 : BENCH_CHUNK;
    const long messages = b->n / chunk, window = (chunk > 1 ? 1 : AHEAD) * b->workers;
    long values[BENCH_CHUNK], sent = 0, done = 0, sum = 0;
    child workers[MAX_WORKERS];
    start_workers(workers, b->workers);
    bench_start(b);
    while (done < messages) {
        for (; sent < messages && sent - done < window; sent++) {
            put_next(workers[sent % b->workers].fd, values, chunk, sent * chunk);
        }
        done += collect(workers, b->workers, chunk, &sum);
    }
    bench_stop_for(b, messages * chunk);
    bench_check(sum == bench_sum_below(messages * chunk), "sum of the results");
    stop_workers(workers, b->workers);
}

static void echo_once(child c) {
    long value = 1;
    bench_check(put(c.fd, &value, sizeof value) && get(c.fd, &value, sizeof value), "echo");
}

static void pool_create(bench *b) {
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        child workers[MAX_WORKERS];
        start_workers(workers, b->workers);
        echo_once(workers[0]);
        stop_workers(workers, b->workers);
    }
    bench_stop(b);
}

static void pool_kill(bench *b) {
    child worker = start_worker();
    uint64_t total = 0;
    char byte;
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        echo_once(worker);
        bench_sleep(BENCH_REST);
        const uint64_t start = bench_now();
        kill(worker.pid, SIGKILL);
        bench_check(read(worker.fd, &byte, 1) == 0, "end of file");
        stop_workers(&worker, 1);
        worker = start_worker();
        echo_once(worker);
        total += bench_now() - start;
    }
    bench_stop_with(b, total);
    stop_workers(&worker, 1);
}

/* ---------------------------------------------------------------- fork */

static child fork_task(const void *data, size_t size) {
    int ends[2];
    bench_check(pipe(ends) == 0, "pipe");
    const child c = {fork(), ends[0]};
    if (c.pid == 0) {
        _exit(write_all(ends[1], data, size) ? 0 : 1);
    }
    bench_check(c.pid > 0, "fork");
    close(ends[1]);
    return c;
}

static void take_result(child c, void *data, size_t size) {
    bench_check(read_all(c.fd, data, size), "result");
    close(c.fd);
    waitpid(c.pid, NULL, 0);
}

static void fork_echo(bench *b) {
    const uint64_t pause = bench_pause(b);
    bench_block block = bench_new_block(b);
    char *out = bench_alloc(1, block.size);
    uint64_t total = 0;
    bench_start(b);
    for (long i = 0; i < b->n; i++) {
        bench_mark(&block);
        bench_spin(pause);
        const uint64_t start = bench_now();
        take_result(fork_task(block.bytes, block.size), out, block.size);
        bench_check_block(&block, out);
        total += bench_now() - start;
    }
    bench_stop_with(b, total);
    bench_check(!memcmp(block.bytes, out, block.size), "echo");
    free(block.bytes);
    free(out);
}

static void fork_many(bench *b) {
    child tasks[MAX_WORKERS];
    long value, sum = 0;
    bench_start(b);
    for (long i = 0; i < b->n + b->workers; i++) {
        child *const slot = &tasks[i % b->workers];
        if (i >= b->workers) {
            take_result(*slot, &value, sizeof value);
            sum += value;
        }
        if (i < b->n) {
            *slot = fork_task(&i, sizeof i);
        }
    }
    bench_stop(b);
    bench_check(sum == bench_sum_below(b->n), "sum of the results");
}

int main(int argc, char **argv) {
    static const bench_entry pool[] = {
        {"P1", pool_echo},   {"P1c", pool_echo}, {"P2", pool_many},
        {"P2c", pool_many},  {"P3m", pool_echo}, {"P3g", pool_echo},
        {"P4", pool_create}, {"P5", pool_kill},  {NULL, NULL},
    };
    static const bench_entry by_fork[] = {
        {"P1", fork_echo},  {"P1c", fork_echo}, {"P2", fork_many},
        {"P3m", fork_echo}, {"P3g", fork_echo}, {NULL, NULL},
    };
    if (argc < 2) {
        fprintf(stderr, "usage: %s pool|fork WORKLOAD WORKERS N\n", argv[0]);
        return 2;
    }
    const bool is_pool = !strcmp(argv[1], "pool");
    return bench_main(is_pool ? "c-pool" : "c-fork", argc - 1, argv + 1, is_pool ? pool : by_fork);
}
