/* Fuzz target: what the processes of a pool tell each other, and what host, worker and zygote make
 * of it. Everything runs in one process and one thread, so that an input always does the same.
 *
 *     clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -DFUZZ_LIBFUZZER -I. \
 *         tests/fuzz_desk.c -o build/fuzz_desk -pthread
 *     build/fuzz_desk -max_len=1024 build/corpus tests/corpus
 *
 *     cc -std=c11 -g -O1 -I. tests/fuzz_desk.c -o build/fuzz_desk -pthread
 *     build/fuzz_desk [-seconds=5] [-runs=1000] [-seed=1] [file or directory]...
 *
 * The first form is led by coverage; the second one mutates blindly what it is given. FUZZ_PLANT=1,
 * 2 or 3 in the environment takes a check away, which either form has to notice.
 *
 * The first bytes of an input say who is tried. The rest is read from both ends: from the front
 * what happens when the tried side waits, from the back what happens between two steps of it, at
 * its accesses to shared memory and at its system calls.
 *
 *     host     a true executor with its manager; the input plays its user, its zygote (which obeys)
 *              and its workers (which do whatever they like)
 *     worker   a true worker; the input plays its host, which keeps to the protocol, and its tasks
 *     zygote   the input is what comes through its channel
 *
 * In the end every future is done, was called back and had its argument freed exactly once, and no
 * block, descriptor or mapping is left. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rights.h"

/* ---------------------------------------------------------------- the state of one run */

enum { FZ_MOST = 4096, FZ_MAPPINGS = 512, FZ_LANES = 3, FZ_USERS = 40, FZ_MAPS = 3 };
enum { FZ_HOST, FZ_WORKER, FZ_ZYGOTE };
enum { FZ_NO_PLANT, FZ_PLANT_SEAL, FZ_PLANT_SIZE, FZ_PLANT_LEAK };
enum { FZ_FLOOD_NOTICED = 100000 };   /* messages of a worker, heard in one go */
enum { FZ_BUSTLE_NOTICED = 2000000 }; /* atomic accesses without a sleep */

typedef struct fz_block {
    alignas(max_align_t) struct fz_block *next;
    struct fz_block **link;
} fz_block;

static struct {
    const uint8_t *front, *back;
    int mode, plant;
    bool between;  /* in a hook: the bytes come from the back, and no further hook acts */
    bool hooked;   /* hooks act, */
    bool playing;  /* but not on what the played sides do */
    unsigned skip; /* hooks until the next one acts */
    int64_t now;
    int parks, bustle;
    int fail_block, fail_map, fail_send; /* the nth from now fails; 0: none */
    int trap;                            /* shrinks once the host has seen its size; -1: none */
    int flood, heard;                    /* endless messages on that channel; -1: none */
    int closes;
    int pair[2], zygote;        /* the last socketpair; the zygote's end */
    size_t shared, shared_size; /* where hooks act: the desks */
    size_t mapped;
    struct {
        void *base;
        size_t size;
    } mappings[FZ_MAPPINGS];
    fz_block *blocks;
    void *(*manager)(void *);
    void *manager_arg;
    jmp_buf exit;
    int exit_code;
} fz;

static void fz_fail(const char *what) {
    fprintf(stderr, "FUZZ: %s\n", what);
    abort();
}

static void fz_require(bool holds, const char *what) {
    if (!holds) {
        fz_fail(what);
    }
}

static bool fz_more(void) {
    return fz.front < fz.back;
}

static unsigned fz_take(void) {
    if (!fz_more()) {
        return 0;
    }
    return fz.between ? *--fz.back : *fz.front++;
}

static unsigned fz_pick(unsigned count) {
    return fz_take() % count;
}

/* Sizes at which something changes, and sizes that nobody can mean. */
static size_t fz_size(void) {
    static const size_t sizes[] = {
        0,     1,     8,     15,     16,      17,              31,           32,
        33,    100,   447,   448,    449,     880,             895,          896,
        897,   912,   4095,  4096,
        65535, 65536, 65537, 200000, 1 << 20, (size_t)1 << 31, SIZE_MAX / 4, SIZE_MAX / 2,
        SIZE_MAX - 15, SIZE_MAX - 1, SIZE_MAX, (size_t)PTRDIFF_MAX};
    return sizes[fz_pick(sizeof sizes / sizeof *sizes)];
}

static size_t fz_small(void) {
    static const size_t sizes[] = {0, 1, 4, 16, 31, 32, 33, 100, 440, 448, 449, 895, 896};
    return sizes[fz_pick(sizeof sizes / sizeof *sizes)];
}

static size_t fz_big(void) {
    static const size_t sizes[] = {897, 4096, 65535, 65536, 65537, 131073, 200000};
    return sizes[fz_pick(sizeof sizes / sizeof *sizes)];
}

/* ---------------------------------------------------------------- what the implementation calls */

static void fz_act_between(void);
static void fz_go_on(void);
static void fz_play_host(void);
static int fz_play(void);

/* Between two steps of the tried side. */
static void fz_hook(void) {
    if (!fz.hooked || fz.playing || fz.between || !fz_more()) {
        return;
    }
    if (fz.skip > 0) {
        fz.skip--;
        return;
    }
    const int saved = errno;
    fz.between = true;
    fz.skip = fz_take();
    fz_act_between();
    fz.between = false;
    errno = saved;
}

static void fz_atomic(const volatile void *word) {
    fz.heard = 0;
    fz_require(++fz.bustle < FZ_BUSTLE_NOTICED, "it never sleeps any more");
    if ((size_t)word - fz.shared < fz.shared_size) {
        fz_hook();
    }
}

static bool fz_fails(int *countdown) {
    return *countdown > 0 && --*countdown == 0;
}

static void *fz_malloc(size_t size) {
    if (fz_fails(&fz.fail_block) || size > 64 << 20) {
        return NULL;
    }
    fz_block *const block = malloc(sizeof *block + size);
    fz_require(block != NULL, "this machine has too little memory");
    block->next = fz.blocks;
    block->link = &fz.blocks;
    if (block->next != NULL) {
        block->next->link = &block->next;
    }
    fz.blocks = block;
    return block + 1;
}

static void fz_free(void *memory) {
    fz_block *const block = (fz_block *)memory - 1;
    *block->link = block->next;
    if (block->next != NULL) {
        block->next->link = block->link;
    }
    free(block);
}

static void *fz_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    fz_hook();
    if (fz_fails(&fz.fail_map)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void *const base = mmap(at, size, protection, flags, fd, offset);
    if (base != MAP_FAILED) {
        fz_require(fz.mapped < FZ_MAPPINGS, "mappings pile up");
        fz.mappings[fz.mapped].base = base;
        fz.mappings[fz.mapped++].size = size;
    }
    return base;
}

static int fz_munmap(void *base, size_t size) {
    size_t i = 0;
    while (i < fz.mapped && (fz.mappings[i].base != base || fz.mappings[i].size != size)) {
        i++;
    }
    fz_require(i < fz.mapped, "unmapped what is not mapped");
    fz.mappings[i] = fz.mappings[--fz.mapped];
    return munmap(base, size);
}

static int fz_mprotect(void *base, size_t size, int protection) {
    (void)base;
    (void)size;
    (void)protection;
    return 0;
}

static int fz_clock(clockid_t clock, struct timespec *time) {
    (void)clock;
    fz.now += 1000;
    *time = (struct timespec){(time_t)(fz.now / 1000000000), (long)(fz.now % 1000000000)};
    return 0;
}

static int fz_socketpair(int family, int type, int protocol, int *ends) {
    const int result = socketpair(family, type, protocol, ends);
    fz.pair[0] = ends[0];
    fz.pair[1] = ends[1];
    return result;
}

/* The host's only fork makes the zygote, whose end of the newest socketpair is played here. */
static pid_t fz_fork(void) {
    if (fz.mode != FZ_HOST) {
        return (pid_t)fz_pick(4) * 1000 - 1;
    }
    fz.zygote = fcntl(fz.pair[1], F_DUPFD_CLOEXEC, 3);
    return 4711;
}

static pid_t fz_waitpid(pid_t pid, int *status, int options) {
    if (pid > 0) {
        return pid;
    }
    if (options == 0) { /* the zygote ends, and waits for all that it has killed */
        errno = ECHILD;
        return -1;
    }
    *status = (int)fz_take();
    return (pid_t)fz_pick(4) * 1000 - 1;
}

static int fz_kill(pid_t pid, int number) {
    (void)number;
    fz_require(pid > 0 && pid % 1000 == 999, "a signal for a stranger");
    return 0;
}

static int fz_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                     void *arg) {
    (void)attributes;
    memset(thread, 0, sizeof *thread);
    fz.manager = start;
    fz.manager_arg = arg;
    return 0;
}

static int fz_join(pthread_t thread, void **result) {
    (void)thread;
    (void)result;
    return 0;
}

static _Noreturn void fz_exit(int code) {
    fz.exit_code = code;
    longjmp(fz.exit, 1);
}

static int fz_poll(struct pollfd *fds, nfds_t count, int timeout) {
    if (fz.mode == FZ_HOST && !fz_play()) {
        fz_fail("the pool never ends");
    }
    fz.bustle = 0;
    const int ready = poll(fds, count, 0);
    if (ready != 0 || timeout >= 0) {
        fz.now += ready == 0 ? (int64_t)timeout * 1000000 : 0;
        return ready;
    }
    errno = EINTR;
    return -1;
}

static ssize_t fz_recvmsg(int fd, struct msghdr *message, int flags) {
    if (fz.mode == FZ_WORKER) {
        fz_play_host();
    }
    if (fd == fz.flood && (flags & MSG_DONTWAIT) != 0) {
        fz_require(++fz.heard < FZ_FLOOD_NOTICED,
                   "a worker that talks without end is heard without end");
        *(char *)message->msg_iov->iov_base = 99;
        message->msg_controllen = 0;
        return 1;
    }
    fz_hook();
    return recvmsg(fd, message, flags);
}

static ssize_t fz_sendmsg(int fd, const struct msghdr *message, int flags) {
    fz_hook();
    if ((flags & MSG_DONTWAIT) != 0 && fz_fails(&fz.fail_send)) {
        errno = EAGAIN;
        return -1;
    }
    return sendmsg(fd, message, flags);
}

static int fz_fstat(int fd, struct stat *about) {
    fz_hook();
    const int result = fstat(fd, about);
    if (fz.plant == FZ_PLANT_SIZE) {
        about->st_size *= 2; /* as if no size were compared with it */
    }
    if (fz.trap >= 0) {
        (void)ftruncate(fz.trap, 0);
        (void)fcntl(fz.trap, F_ADD_SEALS, F_SEAL_SHRINK);
        fz.trap = -1;
    }
    fz_hook();
    return result;
}

static int fz_fcntl(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    const int argument = va_arg(arguments, int);
    va_end(arguments);
    if (command == F_GET_SEALS && fz.plant == FZ_PLANT_SEAL) {
        return F_SEAL_SHRINK; /* as if nobody asked for it */
    }
    const int result = fcntl(fd, command, argument);
    if (command == F_GET_SEALS) {
        fz_hook();
    }
    return result;
}

/* Who parks lets the others go on. */
static long fz_syscall(long number, ...) {
    va_list arguments;
    long a[6];
    va_start(arguments, number);
    for (size_t i = 0; i < 6; i++) {
        a[i] = va_arg(arguments, long);
    }
    va_end(arguments);
    if (number == SYS_futex && (a[1] & 127) == 0 /* FUTEX_WAIT */) {
        fz_go_on();
        return 0;
    }
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static int fz_close(int fd) {
    return fz.plant == FZ_PLANT_LEAK && ++fz.closes % 8 == 0 ? 0 : close(fd);
}

#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#define CFUTURES_STATIC
#define CFUTURES_IMPLEMENTATION
#define CFUTURES_MALLOC                                fz_malloc
#define CFUTURES_FREE                                  fz_free
#define CFUTURES_TEST_ATOMIC(word)                     fz_atomic(word)
#define CFUTURES_TEST_RELEASE(word)                    ((void)0)
#define CFUTURES_TEST_ACQUIRE(word)                    ((void)0)
#define CFUTURES_TEST_RECEIVED(data, size)             fz_hook()
#define mmap(a, s, p, fl, fd, o)                       fz_mmap(a, s, p, fl, fd, o)
#define munmap(base, size)                             fz_munmap(base, size)
#define mprotect(base, size, protection)               fz_mprotect(base, size, protection)
#define clock_gettime(clock, time)                     fz_clock(clock, time)
#define socketpair(family, type, protocol, ends)       fz_socketpair(family, type, protocol, ends)
#define fork()                                         fz_fork()
#define waitpid(pid, status, options)                  fz_waitpid(pid, status, options)
#define kill(pid, number)                              fz_kill(pid, number)
#define pthread_create(thread, attributes, start, arg) fz_thread(thread, attributes, start, arg)
#define pthread_join(thread, result)                   fz_join(thread, result)
#define _exit(code)                                    fz_exit(code)
#define poll(fds, count, timeout)                      fz_poll(fds, count, timeout)
#define recvmsg(fd, message, flags)                    fz_recvmsg(fd, message, flags)
#define sendmsg(fd, message, flags)                    fz_sendmsg(fd, message, flags)
#define fstat(fd, about)                               fz_fstat(fd, about)
#define fcntl(...)                                     fz_fcntl(__VA_ARGS__, 0)
#define close(fd)                                      fz_close(fd)
#define syscall(...) fz_syscall(__VA_ARGS__, 0L, 0L, 0L, 0L, 0L, 0L)
#include "cfutures.h"
#undef mmap
#undef munmap
#undef mprotect
#undef clock_gettime
#undef socketpair
#undef fork
#undef waitpid
#undef kill
#undef pthread_create
#undef pthread_join
#undef _exit
#undef poll
#undef recvmsg
#undef sendmsg
#undef fstat
#undef fcntl
#undef close
#undef syscall

/* ---------------------------------------------------------------- messages and memory */

static unsigned char fz_bytes[256 * 1024]; /* arguments, items, results */

static volatile unsigned fz_sink;

static void fz_read(const void *data, size_t size) {
    const unsigned char *const bytes = data;
    unsigned sum = 0;
    for (size_t i = 0; i < size && i < sizeof fz_bytes; i++) {
        sum += bytes[i];
    }
    if (size > 0) {
        sum += bytes[size - 1];
    }
    fz_sink = sum;
}

static int fz_memory(size_t size) {
    const int fd = (int)syscall(SYS_memfd_create, "fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    fz_require(fd >= 0, "this machine has no memfd");
    if (size > (size_t)1 << 40 || ftruncate(fd, (off_t)size) != 0) {
        fz_require(ftruncate(fd, 4096) == 0, "this machine has too little memory");
    }
    return fd;
}

static void fz_send(int channel, unsigned char byte, const int *fds, size_t count) {
    (void)send_rights(channel, byte, fds, count, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The bytes of one message, -1 for none; a descriptor or -1. */
static ssize_t fz_receive(int channel, void *data, size_t size, int *fd) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {data, size};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    const ssize_t got = recvmsg(channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    *fd = -1;
    if (got > 0 && message.msg_controllen >= CMSG_LEN(sizeof *fd)) {
        memcpy(fd, CMSG_DATA(&control.header), sizeof *fd);
    }
    return got;
}

static void fz_shut(int *fd) {
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

/* ---------------------------------------------------------------- host: the played workers */

typedef struct fz_proc {
    int channel; /* -1: none */
    bool live;
    uint32_t generation;
    size_t next; /* slot, where it is honest */
    int memory;  /* the descriptor that it sent last; -1: none */
} fz_proc;

typedef struct fz_user {
    cf_future *future;
    int calls, frees;
    bool called_back, freed;
} fz_user;

static struct {
    cf_executor *pool;
    cf__hub *hub;
    fz_proc procs[FZ_LANES];
    fz_user users[FZ_USERS];
    size_t used;
    cf_map_iter *maps[FZ_MAPS];
    size_t map_left[FZ_MAPS];
    bool starts_up, lingers; /* workers come up by themselves; their shared memory outlives them */
    bool ends_well;
    int rounds; /* of the end */
} host;

/* A hostile hub would be another test: the lanes are the host's own. */
static cf__lane *fz_lane(size_t *index) {
    *index = fz_pick((unsigned)host.hub->count);
    return &host.hub->lanes[*index];
}

static cf__slot *fz_slot(const cf__lane *lane) {
    const unsigned which = fz_take();
    const size_t from = (which & 64) != 0 ? lane->tail : lane->head;
    return &lane->desk->slots[(from + (which & 128 ? which % CF__SLOTS : which % 3)) % CF__SLOTS];
}

static void fz_report(size_t lane, int pid, int status) {
    const cf__report report = {(uint32_t)lane, host.procs[lane].generation, pid, status};
    if (fz.zygote >= 0) {
        (void)send(fz.zygote, &report, sizeof report, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

static void fz_die(size_t lane, int status) {
    fz_proc *const proc = &host.procs[lane];
    proc->live = false;
    if (!host.lingers) {
        fz_shut(&proc->channel);
    }
    fz_report(lane, 1000 + (int)lane, status);
}

static void fz_start(size_t lane, uint32_t generation, int channel) {
    fz_proc *const proc = &host.procs[lane];
    fz_shut(&proc->channel);
    *proc = (fz_proc){channel, true, generation, 0, proc->memory};
    if (host.starts_up) {
        cf__store_relaxed(&host.hub->lanes[lane].desk->up, CF__DESK_UP);
    }
}

/* The zygote, which is honest, obeys. */
static void fz_obey(void) {
    cf__order order;
    int fd = -1;
    fz.playing = true;
    while (fz.zygote >= 0 && fz_receive(fz.zygote, &order, sizeof order, &fd) == sizeof order) {
        fz_require(order.lane < host.hub->count, "an order for a lane that is not");
        if (order.kind == CF__ORDER_START) {
            fz_require(fd >= 0, "a worker without a channel");
            fz_start(order.lane, order.generation, fd);
        } else if (host.procs[order.lane].generation == order.generation) {
            fz_die(order.lane, order.signal);
        }
    }
    fz.playing = false;
}

static int fz_status(void) {
    static const int all[] = {
        CF_OK,        CF_OK,      CF_OK,        CF_TASK_FAILED, CF_TASK_TIMEOUT,
        CF_NO_MEMORY, CF_INVALID, CF_CANCELLED, CF_WORKER_LOST, CF_END,
        127,          -128,       256,          INT_MIN};
    return all[fz_pick(sizeof all / sizeof *all)];
}

/* Records of a chunk, as far as there is room. */
static void fz_records(char *at, size_t room, size_t items) {
    for (size_t i = 0; i < items && i < 64; i++) {
        const size_t head = cf__padded(sizeof(cf__outcome));
        int status = CF_OK;
        size_t size = i % 5;
        const unsigned what = fz_take();
        if (what >= 128) {
            status = fz_status();
            size = what >= 240 ? fz_size() : fz_small();
        }
        if (room < head) {
            return;
        }
        cf__outcome_write((cf__outcome *)(void *)at, status, (int)what, size);
        const size_t step = size < room ? head + cf__padded(size) : room;
        if (step >= room) {
            return;
        }
        at += step;
        room -= step;
    }
}

/* A descriptor for the host, and for later use. */
static int fz_lend(size_t lane, size_t size, size_t items) {
    fz_proc *const proc = &host.procs[lane];
    fz.trap = fz.trap == proc->memory ? -1 : fz.trap;
    fz_shut(&proc->memory);
    proc->memory = fz_memory(size);
    if (items > 0 && size > 0 && size <= 1 << 20) {
        char *const base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, proc->memory, 0);
        fz_require(base != MAP_FAILED, "this machine has too little memory");
        fz_records(base, size, items);
        munmap(base, size);
    }
    return proc->memory;
}

static void fz_lend_sealed(size_t lane, unsigned char number, size_t size, size_t items) {
    const int fd = fz_lend(lane, size, items);
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW);
    fz_send(host.procs[lane].channel, number, &fd, 1);
}

/* One or more descriptors of all kinds. */
static void fz_throw(size_t lane) {
    static const int seals[] = {F_SEAL_SHRINK, 0, F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_WRITE,
                                F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL};
    const int channel = host.procs[lane].channel;
    const unsigned char number = (unsigned char)fz_pick(CF__LOANS + 4);
    int fds[3] = {-1, -1, -1}, ends[2] = {-1, -1};
    const unsigned kind = fz_pick(8);
    const int memory = fz_lend(lane, fz_size(), kind);
    (void)fcntl(memory, F_ADD_SEALS, seals[fz_pick(5)]);
    fds[0] = fds[1] = fds[2] = memory;
    if (kind == 6 && pipe2(ends, O_CLOEXEC) == 0) {
        fds[0] = ends[0];
    } else if (kind == 7) {
        fds[0] = ends[0] = open("/dev/zero", O_RDWR | O_CLOEXEC);
    } else if (kind == 5) {
        fds[0] = channel;
    }
    fz_send(channel, number, fds, kind < 3 ? 1 + kind : 1);
    fz_shut(&ends[0]);
    fz_shut(&ends[1]);
}

/* What it sent last changes: shrunk, then sealed, so that it looks as if it never could. */
static void fz_spoil(size_t lane) {
    const int memory = host.procs[lane].memory;
    if (memory >= 0) {
        (void)ftruncate(memory, (off_t)fz_small());
        (void)fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK);
    }
}

/* Of what the host has written there last. */
static size_t fz_items(const cf__slot *slot) {
    return slot->fn == CF__BY_JOB ? slot->job.items : 0;
}

/* The next task ends as tasks end. */
static void fz_finish(size_t index, cf__lane *lane) {
    fz_proc *const proc = &host.procs[index];
    cf__slot *slot = &lane->desk->slots[proc->next % CF__SLOTS];
    if (cf__load_relaxed(&slot->word) != CF__SLOT_READY) {
        proc->next = lane->head;
        slot = &lane->desk->slots[proc->next % CF__SLOTS];
    }
    proc->next++;
    const unsigned kind = fz_pick(8);
    const unsigned char number = (unsigned char)fz_pick(CF__LOANS + 2);
    const size_t items = fz_items(slot);
    const bool chunk = items > 0, lent = kind >= 4 && kind < 7;
    cf__store_relaxed(&slot->word, CF__SLOT_TAKEN);
    cf__outcome_write(&slot->outcome, kind == 3 ? CF_TASK_FAILED : CF_OK, (int)kind,
                      lent ? fz_big() : fz_small());
    cf__store_relaxed(&slot->place, lent ? number + 1u : 0);
    cf__store_relaxed(&slot->progress, kind == 7 ? items / 2 : items);
    if (lent) {
        fz_lend_sealed(index, number, kind == 6 ? 65536 : fz_big(), items);
    } else if (chunk) {
        const size_t first = slot->job.tray == 0 ? cf__padded(slot->job.arg_size) : 0;
        const bool fits = first < CF__SLOT_ROOM;
        fz_records((char *)slot->bytes + (fits ? first : 0), fits ? CF__SLOT_ROOM - first : 0,
                   items);
    }
    cf__store_relaxed(&slot->word, CF__SLOT_ENDED);
}

/* The next task lies in memory that shrinks when the host has seen how big it is. */
static void fz_set_trap(size_t index, const cf__lane *lane) {
    cf__slot *const slot = &lane->desk->slots[lane->head % CF__SLOTS];
    const int fd = fz_lend(index, 65536, 0);
    fz_send(host.procs[index].channel, 0, &fd, 1);
    fz.trap = fd;
    cf__outcome_write(&slot->outcome, CF_OK, 0, 65536);
    cf__store_relaxed(&slot->place, 1);
    cf__store_relaxed(&slot->word, CF__SLOT_ENDED);
}

static void fz_scribble_slot(cf__slot *slot) {
    static const uintptr_t words[] = {CF__SLOT_READY, CF__SLOT_TAKEN, CF__SLOT_ENDED,
                                      CF__SLOT_ENDED, CF__SLOT_FREE,  4,
                                      UINTPTR_MAX};
    switch (fz_pick(8)) {
    case 0:
        cf__store_relaxed(&slot->word, words[fz_pick(7)]);
        break;
    case 1:
        cf__store_relaxed(&slot->word, CF__SLOT_ENDED);
        break;
    case 2:
        cf__store_relaxed(&slot->place, fz_pick(2) != 0 ? fz_pick(CF__LOANS + 4) : fz_size());
        break;
    case 3:
        cf__store_relaxed(&slot->progress, fz_size());
        break;
    case 4:
        cf__store_relaxed(&slot->outcome.extent, fz_size());
        break;
    case 5:
        cf__store_relaxed(&slot->outcome.code, (uintptr_t)fz_status());
        break;
    case 6:
        slot->fn = slot->arg_size = fz_size();
        slot->job.items = slot->job.arg_size = slot->job.tray = slot->arg_size;
        break;
    default:
        fz_records((char *)slot->bytes, sizeof slot->bytes, fz_pick(32));
        break;
    }
}

/* The oldest task is taken; one that was taken is given back, which nobody can do. */
static void fz_waver(const cf__lane *lane) {
    cf__slot *const slot = &lane->desk->slots[lane->head % CF__SLOTS];
    const bool ready = cf__load_relaxed(&slot->word) == CF__SLOT_READY;
    cf__store_relaxed(&slot->word, ready ? CF__SLOT_TAKEN : CF__SLOT_READY);
}

static void fz_scribble_desk(cf__desk *desk) {
    const uintptr_t value = fz_pick(4);
    switch (fz_pick(6)) {
    case 0:
        cf__store_relaxed(&desk->up, value);
        break;
    case 1:
        cf__store_relaxed(&desk->bell, value);
        break;
    case 2:
        cf__store_relaxed(&desk->asleep, value);
        break;
    case 3:
        cf__store_relaxed(&desk->leave, value);
        break;
    case 4:
        cf__store_relaxed(&desk->loans[fz_pick(CF__LOANS)], value);
        break;
    default:
        for (size_t i = 0; i < CF__SLOTS; i++) {
            cf__store_relaxed(&desk->slots[i].word, value);
        }
    }
}

/* A worker does something; its kind is the caller's to say. */
static void fz_some_worker_acts(unsigned kind) {
    size_t index;
    cf__lane *const lane = fz_lane(&index);
    fz_proc *const proc = &host.procs[index];
    const bool there = proc->live || (host.lingers && proc->channel >= 0);
    char bytes[16];
    int fd = -1;
    if (!there) {
        return;
    }
    switch (kind) {
    case 0:
    case 1:
        fz_finish(index, lane);
        break;
    case 2:
    case 3:
        fz_scribble_slot(fz_slot(lane));
        break;
    case 4:
        fz_scribble_desk(lane->desk);
        break;
    case 5:
        fz_throw(index);
        break;
    case 6:
        fz_lend_sealed(index, (unsigned char)fz_pick(CF__LOANS + 2), fz_big(), fz_pick(32));
        break;
    case 7:
        fz_spoil(index);
        break;
    case 13:
        fz_set_trap(index, lane);
        break;
    case 12:
    case 14:
        fz_waver(lane);
        break;
    case 8:
        fz_send(proc->channel, (unsigned char)fz_take(), NULL, 0);
        break;
    case 9:
        fz.flood = fz_pick(4) == 0 ? lane->channel : -1;
        break;
    case 10:
        (void)fz_receive(proc->channel, bytes, sizeof bytes, &fd);
        fz_shut(&fd);
        break;
    case 11:
        (void)shutdown(proc->channel, fz_pick(2) != 0 ? SHUT_WR : SHUT_RDWR);
        break;
    default:
        if (proc->live) {
            fz_die(index, (int)fz_take());
        }
    }
}

static void fz_worker_acts(unsigned kind) {
    fz.playing = true;
    fz_some_worker_acts(kind);
    fz.playing = false;
}

/* ---------------------------------------------------------------- host: the played user */

static int fz_no_task(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    fz_fail("a task ran in the host");
    return 0;
}

static void fz_on_done(cf_future *future, void *user) {
    fz_user *const at = user;
    fz_require(cf_future_done(future), "called back, and not done");
    at->calls++;
}

static void fz_on_free(void *arg) {
    fz_user *const at = arg;
    at->frees++;
}

static void fz_on_unread(cf_future *future, void *user) {
    (void)user;
    fz_read(cf_future_error_message(future), strlen(cf_future_error_message(future)));
}

static void fz_submit(void) {
    if (host.used == FZ_USERS) {
        return;
    }
    fz_user *const user = &host.users[host.used++];
    const unsigned kind = fz_pick(8);
    cf_submit_options options = {NULL, 0};
    size_t size = kind < 3 ? fz_small() : kind < 6 ? fz_big() : 0;
    const void *arg = fz_bytes;
    if ((kind & 1) != 0) {
        options.timeout = fz_pick(4) == 0 ? CF_MICROSECOND : CF_SECOND;
    }
    if (size == 0) {
        arg = user;
        user->freed = true;
        options.free_arg = fz_on_free;
    }
    user->future = cf_executor_submit_with(host.pool, fz_no_task, arg, size, &options);
    if (fz_pick(4) != 0) {
        user->called_back = cf_future_add_done_callback(user->future, fz_on_done, user) == CF_OK;
    }
}

static void fz_submit_many(void) {
    cf_future *futures[8];
    const size_t count = 1 + fz_pick(8);
    if (host.used + count > FZ_USERS) {
        return;
    }
    (void)cf_executor_submit_many(host.pool, fz_no_task, fz_bytes, count, fz_small(), futures);
    for (size_t i = 0; i < count; i++) {
        host.users[host.used++].future = futures[i];
    }
}

static void fz_look_at(cf_future *future) {
    char text[128];
    (void)cf_future_repr(future, text, sizeof text);
    if (!cf_future_done(future)) {
        (void)cf_future_state(future);
        return;
    }
    cf_status status;
    const void *const result = cf_future_result(future, 0, &status);
    fz_require((result != NULL) == (status == CF_OK) && status != CF_TIMEOUT,
               "done, and not ended");
    if (result != NULL) {
        fz_read(result, cf_future_result_size(future));
    }
    (void)cf_future_error_code(future);
    fz_read(cf_future_error_message(future), strlen(cf_future_error_message(future)));
}

static void fz_map(void) {
    static const size_t item_sizes[] = {0, 1, 16, 40, 440, 900, 3000};
    const size_t which = fz_pick(FZ_MAPS), item_size = item_sizes[fz_pick(7)],
                 count = 1 + fz_pick(40);
    cf_map_options options;
    memset(&options, 0, sizeof options);
    options.chunksize = 1 + fz_pick(24);
    const unsigned traits = fz_take();
    options.buffersize = (traits & 1) != 0 ? 8 : 0;
    options.unordered = (traits & 2) != 0;
    options.stop_on_error = (traits & 4) != 0;
    if (host.maps[which] != NULL) {
        return;
    }
    host.maps[which] = cf_executor_map(host.pool, fz_no_task, fz_bytes, count, item_size, &options);
    host.map_left[which] = count;
}

/* Only where it does not block: the played world stands still meanwhile. */
static bool fz_map_is_ready(const cf_map_iter *iter) {
    const cf__chunk *const current = iter->current;
    const cf__chunk *const next = (const cf__chunk *)iter->set.members;
    cf_stats stats;
    if ((current != NULL && current->delivered < current->count) || next == NULL || iter->ended) {
        return true;
    }
    cf_executor_stats(host.pool, &stats);
    return stats.queued + stats.running == 0 ||
           (!iter->options.unordered && cf_future_done(next->future));
}

/* False: it has ended. */
static bool fz_map_next(size_t which) {
    cf_map_iter *const iter = host.maps[which];
    cf_status status;
    const void *const result = cf_map_next(iter, &status);
    if (status == CF_END) {
        return false;
    }
    fz_require(status != CF_TIMEOUT, "an item without an end");
    if (host.map_left[which] > 0) {
        host.map_left[which]--;
    } else {
        fz_require(status == CF_NO_MEMORY, "an item too many");
    }
    if (result != NULL) {
        fz_read(result, cf_map_result_size(iter));
    }
    fz_read(cf_map_error_message(iter), strlen(cf_map_error_message(iter)));
    (void)cf_map_error_code(iter);
    return true;
}

static void fz_map_acts(void) {
    const size_t which = fz_pick(FZ_MAPS);
    if (host.maps[which] == NULL) {
        fz_map();
    } else if (fz_pick(8) == 0) {
        cf_map_close(host.maps[which]);
        host.maps[which] = NULL;
    } else if (fz_map_is_ready(host.maps[which])) {
        (void)fz_map_next(which);
    }
}

static bool fz_any_loading(void) {
    bool any = false;
    for (size_t i = 0; i < host.hub->count; i++) {
        any = any || host.hub->lanes[i].loading;
    }
    return any;
}

static void fz_user_acts(unsigned kind) {
    fz_user *const user = &host.users[host.used > 0 ? fz_pick((unsigned)host.used) : 0];
    cf_stats stats;
    switch (kind) {
    case 0:
        fz_submit();
        break;
    case 1:
        fz_submit_many();
        break;
    case 2:
    case 3:
        fz_map_acts();
        break;
    case 4:
        (void)cf__hub_pump(host.hub);
        break;
    case 5:
    case 6:
        if (user->future != NULL && !(fz.between && fz_any_loading())) { /* else by a frame below */
            (void)cf_future_cancel(user->future);
        }
        break;
    case 7:
        if (user->future != NULL) {
            fz_look_at(user->future);
        }
        break;
    case 8:
        cf_executor_stats(host.pool, &stats);
        fz_require(stats.idle <= stats.workers && stats.workers <= host.hub->count,
                   "stats that cannot be");
        break;
    default:
        if (user->future != NULL && !user->called_back && !user->freed) {
            cf_future_release(user->future);
            user->future = NULL;
        }
    }
}

static void fz_world_acts(unsigned kind) {
    static const int64_t naps[] = {1000, 1000000, 20000000, 1100000000, 70000000000};
    size_t index;
    switch (kind) {
    case 0:
        fz.now += naps[fz_pick(5)];
        break;
    case 1:
        fz.fail_block = 1 + (int)fz_pick(4);
        break;
    case 2:
        fz.fail_map = 1 + (int)fz_pick(2);
        break;
    case 3:
        fz.fail_send = 1 + (int)fz_pick(2);
        break;
    case 4:
        (void)fz_lane(&index);
        fz_report(index, 0, EAGAIN);
        host.procs[index].live = false;
        break;
    case 5:
        if (fz_pick(8) == 0) {
            fz_shut(&fz.zygote);
        }
        break;
    default:
        if (fz_pick(8) == 0) {
            (void)cf_executor_shutdown(host.pool, 0,
                                       fz_pick(2) != 0 ? CF_CANCEL_PENDING : CF_RUN_PENDING);
        }
    }
}

/* As another thread than the manager would. */
static void fz_elsewhere(void (*act)(unsigned kind), unsigned kind) {
    cf__runner *const self = cf__self;
    cf__visit *const visits = cf__visits;
    cf__self = NULL;
    cf__visits = NULL;
    act(kind);
    cf__self = self;
    cf__visits = visits;
}

static bool fz_is_locked(cf__word *lock) {
    return atomic_load_explicit(lock, memory_order_relaxed) != 0;
}

/* A thread sleeps: the manager does what it would. */
static void fz_go_on(void) {
    enum { FOR_EVER = 1000 };
    fz_require(fz.mode == FZ_HOST && ++fz.parks < FOR_EVER && !fz_is_locked(&host.pool->lock) &&
                   !fz_is_locked(&cf__hubs_lock),
               "a sleep without an end");
    cf__runner *const self = cf__self;
    cf__self = &host.hub->runner;
    (void)cf__hub_pump(host.hub);
    cf__self = self;
}

static void fz_act_between_in_host(void) {
    const unsigned kind = fz_take();
    if (kind % 4 == 3 && !fz_is_locked(&host.pool->lock) && !fz_is_locked(&cf__hubs_lock)) {
        fz_elsewhere(fz_user_acts, 4 + kind / 4 % 5);
    } else {
        fz_worker_acts(kind / 4 % 9);
    }
}

/* ---------------------------------------------------------------- host: the whole run */

static void fz_act(void) {
    const unsigned kind = fz_take();
    switch (kind % 8) {
    case 0:
    case 1:
        fz_elsewhere(fz_user_acts, kind / 8 % 10);
        break;
    case 2:
        fz_elsewhere(fz_user_acts, kind / 8 % 4);
        break;
    case 3:
    case 4:
    case 5:
        fz_worker_acts(kind / 8 % 16);
        break;
    case 6:
        fz_worker_acts(kind / 8 % 4);
        break;
    default:
        fz_elsewhere(fz_world_acts, kind / 8 % 7);
        break;
    }
}

static void fz_shut_down(unsigned killing) {
    if (killing != 0) {
        (void)cf_executor_kill_workers(host.pool, SIGKILL);
    } else {
        (void)cf_executor_shutdown(host.pool, 0, CF_RUN_PENDING);
    }
}

/* Nobody is hostile any more: what is on a desk ends, who is told to leave leaves. The input is
 * used up, so that no hook acts. */
static void fz_all_are_honest(void) {
    for (size_t i = 0; i < host.hub->count; i++) {
        cf__lane *const lane = &host.hub->lanes[i];
        cf__desk *const desk = lane->desk;
        if (!host.procs[i].live) {
            continue;
        }
        cf__store_relaxed(&desk->up, CF__DESK_UP);
        for (size_t at = lane->head; at != lane->tail; at++) {
            cf__slot *const slot = &desk->slots[at % CF__SLOTS];
            if (cf__load_relaxed(&slot->word) == CF__SLOT_READY) {
                cf__store_relaxed(&slot->word, CF__SLOT_ENDED);
                cf__outcome_write(&slot->outcome, CF_OK, 0, 0);
            }
        }
        if (cf__load_relaxed(&desk->leave) != 0 && lane->head == lane->tail) {
            fz_die(i, 0);
        }
    }
}

/* The manager sleeps: the world goes on. False: it should have ended long ago. */
static int fz_play(void) {
    enum { HONEST = 100, KILLED = 400 };
    fz_obey();
    if (fz_more()) {
        fz_act();
        fz_obey();
        return true;
    }
    if (host.rounds == 0) {
        fz.flood = -1;
        fz.fail_block = fz.fail_map = fz.fail_send = 0;
        fz_elsewhere(fz_shut_down, !host.ends_well);
    } else if (host.rounds == HONEST) {
        fz_elsewhere(fz_shut_down, 1);
    }
    if (host.ends_well && host.rounds < HONEST) {
        fz_all_are_honest();
    }
    fz_obey();
    return ++host.rounds < KILLED;
}

static cf_executor *fz_pool(void) {
    cf_pool_options options;
    memset(&options, 0, sizeof options);
    const unsigned a = fz_take(), b = fz_take();
    options.max_workers = 1 + a % FZ_LANES;
    options.queue_limit = (a & 16) != 0 ? 3 : 0;
    options.on_full = CF_FULL_REJECT;
    options.max_tasks_per_child = (a & 32) != 0 ? 3 : 0;
    options.break_on_crash = (a & 64) != 0;
    options.kill_grace = (a & 128) != 0 ? CF_MICROSECOND : 0;
    options.on_unread_error = (b & 1) != 0 ? fz_on_unread : NULL;
    host.starts_up = (b & 14) != 0;
    host.lingers = (b & 16) != 0;
    host.ends_well = (b & 32) != 0;
    fz.skip = b >> 6;
    return cf_process_pool_new(&options, NULL);
}

static void fz_users_end(void) {
    for (size_t i = 0; i < host.used; i++) {
        fz_user *const user = &host.users[i];
        if (user->future == NULL) {
            continue;
        }
        fz_require(cf_future_done(user->future), "a future that never ends");
        fz_look_at(user->future);
        fz_require(!user->called_back || user->calls == 1, "not called back once");
        fz_require(!user->freed || user->frees == 1, "an argument not freed once");
        cf_future_release(user->future);
    }
    for (size_t i = 0; i < FZ_MAPS; i++) {
        while (host.maps[i] != NULL && fz_map_next(i)) {
        }
        cf_map_close(host.maps[i]);
    }
}

static void fz_run_host(void) {
    memset(&host, 0, sizeof host);
    for (size_t i = 0; i < FZ_LANES; i++) {
        host.procs[i].channel = host.procs[i].memory = -1;
    }
    host.pool = fz_pool();
    const bool early = fz_pick(2) != 0;
    fz_require(host.pool != NULL, "no pool");
    host.hub = host.pool->hub;
    fz.shared = (size_t)host.hub->share;
    fz.shared_size = cf__share_size(host.hub->count);
    fz.hooked = true;
    (void)fz.manager(fz.manager_arg);
    fz.hooked = false;
    if (early) {
        cf_executor_close(host.pool);
    }
    fz_users_end();
    if (!early) {
        cf_executor_close(host.pool);
    }
    for (size_t i = 0; i < FZ_LANES; i++) {
        fz_shut(&host.procs[i].channel);
        fz_shut(&host.procs[i].memory);
    }
    fz_shut(&fz.zygote);
}

/* ---------------------------------------------------------------- worker */

static struct {
    cf__share *share;
    cf__desk *desk;
    int channel; /* the host's end; -1: closed */
    size_t next, oldest;
    size_t tray_sizes[CF__TRAYS];
    uintptr_t versions[CF__TRAYS];
    bool leaving;
} worker;

static int fz_initialize(void *arg) {
    (void)arg;
    return fz_pick(8) == 7;
}

static void fz_finalize(void *arg) {
    (void)arg;
}

static int fz_task(cf_task *task, void *arg) {
    const unsigned kind = fz_take();
    void *room;
    fz_read(arg, cf_task_arg_size(task));
    switch (kind % 8) {
    case 0:
        return cf_task_return(task, fz_bytes, fz_small());
    case 1:
        return cf_task_return(task, fz_bytes, fz_big());
    case 2:
        return cf_task_fail(task, (int)kind, "%.*s", (int)fz_small(),
                            "no, for there are many reasons");
    case 3:
        (void)cf_task_return(task, fz_bytes, fz_big());
        return cf_task_return(task, fz_bytes, kind / 8 % 2 != 0 ? fz_big() : fz_small());
    case 4:
        room = cf_task_result_buffer(task, kind / 8 % 2 != 0 ? fz_big() : fz_small());
        return room != NULL ? 0 : 1;
    case 5:
        room = fz_malloc(100);
        return cf_task_return_owned(task, room, room != NULL ? 100 : 0,
                                    room != NULL ? fz_free : NULL);
    case 6:
        return cf_task_stop_requested(task);
    default:
        (void)cf_task_result_buffer(task, fz_big());
        return (int)kind / 8;
    }
}

static void fz_publish(cf__slot *slot) {
    worker.next++;
    cf__store_relaxed(&slot->word, CF__SLOT_READY);
    if (cf__exchange(&worker.desk->asleep, 0) != 0) {
        fz_send(worker.channel, CF__WAKE_UP, NULL, 0);
    }
}

/* A free slot, as the host would fill it; NULL: none is free. */
static cf__slot *fz_fresh(void) {
    cf__slot *const slot = &worker.desk->slots[worker.next % CF__SLOTS];
    if (worker.leaving || worker.channel < 0 || worker.next - worker.oldest >= CF__SLOTS) {
        return NULL;
    }
    cf__store_relaxed(&slot->stop, 0);
    cf__store_relaxed(&slot->progress, 0);
    cf__store_relaxed(&slot->place, 0);
    cf__outcome_write(&slot->outcome, CF_WORKER_LOST, 0, 0);
    slot->fn = CF__BY_JOB;
    slot->job = (cf__job){.fn = cf__function_out((uintptr_t)&fz_task),
                          .pointer = (uintptr_t)fz_bytes,
                          .timeout = fz_pick(8) == 7 ? 1000 : 0};
    return slot;
}

/* The argument in a tray, which may have to be sent first, and again if it is too small. */
static void fz_mapped(cf__slot *slot, size_t size) {
    const size_t number = fz_pick(CF__TRAYS);
    if (worker.tray_sizes[number] < size) {
        int fd = fz_memory(cf__memory_size(size));
        (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW);
        worker.tray_sizes[number] = cf__memory_size(size);
        worker.versions[number]++;
        fz_send(worker.channel, (unsigned char)number, &fd, 1);
        fz_shut(&fd);
    }
    slot->job.tray = 1 + number;
    slot->job.version = worker.versions[number];
    slot->job.arg_size = size;
}

/* Somebody wrote where he should not have: the worker has to notice, or to be unharmed. */
static void fz_spoil_job(cf__job *job, unsigned how) {
    uintptr_t *const words[] = {&job->arg_size, &job->tray, &job->version, &job->items,
                                &job->item_size, &job->stride};
    *words[how % 6] = fz_size();
    if (how % 2 != 0) {
        *words[how % 5] = fz_small();
    }
    if (job->stride == 0) {
        job->items %= 64; /* of nothing there may be any number */
    }
}

static void fz_give(unsigned kind, bool spoilt) {
    cf__slot *const slot = fz_fresh();
    if (slot == NULL) {
        return;
    }
    if (kind == 0) {
        slot->fn = slot->job.fn;
        slot->arg_size = spoilt ? fz_size() : fz_small();
        memcpy(slot->bytes, &slot->job.pointer, sizeof slot->job.pointer);
    } else if (kind == 1) {
        slot->job.arg_size = fz_small();
    } else if (kind == 2) {
        if (worker.next != worker.oldest) {
            return; /* a tray serves one task at a time */
        }
        fz_mapped(slot, fz_big());
    } else if (kind == 3) {
        slot->job.items = 1 + fz_pick(40);
        slot->job.item_size = fz_small();
        slot->job.stride = (slot->job.item_size + 15) / 16 * 16;
        const size_t all = slot->job.items * slot->job.stride;
        if (all > CF__SLOT_ROOM / 2 && worker.next == worker.oldest) {
            fz_mapped(slot, all);
        } else if (all > CF__SLOT_ROOM / 2) {
            return;
        } else {
            slot->job.arg_size = all;
        }
    }
    if (spoilt) {
        fz_spoil_job(&slot->job, fz_take());
    }
    fz_publish(slot);
}

/* What the worker wrote must be right: a wrong record is a bug of ours here. */
static void fz_collect(void) {
    cf__slot *const slot = &worker.desk->slots[worker.oldest % CF__SLOTS];
    if (worker.oldest == worker.next || cf__load_relaxed(&slot->word) != CF__SLOT_ENDED) {
        return;
    }
    const uintptr_t place = cf__load_relaxed(&slot->place);
    const cf__end end = cf__outcome_read(&slot->outcome);
    fz_require(end.status != CF_WORKER_LOST, "a status that no worker says");
    fz_require(place <= CF__MAPPINGS && (place > 0 || end.size <= CF__SLOT_ROOM),
               "an outcome nowhere");
    fz_require(cf__load_relaxed(&slot->progress) <= fz_items(slot), "more records than items");
    if (place > 0 && place <= CF__LOANS) {
        fz_require(cf__load_relaxed(&worker.desk->loans[place - 1]) != 0,
                   "an outcome in what is not lent");
        cf__store_relaxed(&worker.desk->loans[place - 1], 0);
    }
    cf__store_relaxed(&slot->word, CF__SLOT_FREE);
    worker.oldest++;
}

static void fz_some_host_acts(unsigned kind) {
    switch (kind % 12) {
    case 0:
    case 1:
    case 2:
    case 3:
        fz_give(kind % 12, kind >= 240);
        break;
    case 4:
    case 5:
    case 6:
        fz_collect();
        break;
    case 7:
        fz_send(worker.channel, (unsigned char)fz_take(), NULL, 0);
        break;
    case 8:
        cf__store_relaxed(&worker.desk->slots[fz_pick(CF__SLOTS)].stop, CF__STOP);
        break;
    case 9:
        fz.fail_block = 1 + (int)fz_pick(3);
        break;
    case 10:
        fz.fail_map = 1;
        break;
    default:
        if (fz_pick(8) == 0) {
            worker.leaving = true;
            cf__store_relaxed(&worker.desk->leave, 1);
            fz_send(worker.channel, CF__WAKE_UP, NULL, 0);
        }
    }
}

static void fz_host_acts(unsigned kind) {
    fz.playing = true;
    fz_some_host_acts(kind);
    fz.playing = false;
}

/* The worker sleeps, until there is something to read. */
static void fz_play_host(void) {
    struct pollfd ready = {cf__child.channel, POLLIN, 0};
    while (poll(&ready, 1, 0) == 0) {
        char byte;
        if (!fz_more()) {
            fz_shut(&worker.channel);
            return;
        }
        while (recv(worker.channel, &byte, 1, MSG_DONTWAIT) > 0) {
        } /* loans come, and are not kept */
        fz_host_acts(fz_take());
    }
}

static void fz_child_clean(void) {
    for (int i = 0; i < CF__LOANS + CF__ONCE; i++) {
        cf__child_unloan(i);
    }
    for (size_t i = 0; i < CF__TRAYS; i++) {
        cf__tray_drop(&cf__child.trays[i]);
    }
    fz_shut(&cf__child.channel);
    memset(&cf__child, 0, sizeof cf__child);
}

static void fz_run_worker(void) {
    const size_t size = cf__share_size(1);
    int ends[2];
    void *const base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fz_require(base != MAP_FAILED && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0,
               "this machine has too little memory");
    memset(&worker, 0, sizeof worker);
    worker.share = base;
    worker.desk = cf__desk_at(worker.share, 0);
    worker.channel = ends[0];
    worker.share->lanes = 1;
    if (fz_pick(2) != 0) {
        worker.share->initializer = cf__function_out((uintptr_t)&fz_initialize);
        worker.share->finalizer = cf__function_out((uintptr_t)&fz_finalize);
    }
    fz.shared = (size_t)base;
    fz.shared_size = size;
    fz.hooked = true;
    if (setjmp(fz.exit) == 0) {
        cf__child_main(worker.share, 0, ends[1]);
        fz_fail("a worker that returns");
    }
    fz.hooked = false;
    fz_require(fz.blocks == NULL || worker.channel < 0,
               "a worker that leaves has freed everything");
    while (fz.blocks != NULL) {
        fz_free(fz.blocks + 1);
    }
    fz_child_clean();
    fz_shut(&worker.channel);
    munmap(base, size);
}

static void fz_act_between(void) {
    if (fz.mode == FZ_HOST) {
        fz_act_between_in_host();
    } else if (fz.mode == FZ_WORKER && worker.channel >= 0) {
        fz_host_acts(fz_take());
    }
}

/* ---------------------------------------------------------------- zygote */

static void fz_run_zygote(void) {
    static cf__share share;
    static cf__kid kids[FZ_LANES];
    int ends[2], tick[2];
    memset(&share, 0, sizeof share);
    memset(kids, 0, sizeof kids);
    share.lanes = FZ_LANES;
    fz_require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0 &&
                   pipe2(tick, O_CLOEXEC | O_NONBLOCK) == 0,
               "this machine has too few descriptors");
    cf__zygote zygote = {&share, kids, ends[1], tick[0]};
    while (fz_more()) {
        if (fz_pick(4) == 0) {
            cf__zygote_reap(&zygote);
            continue;
        }
        cf__order order;
        unsigned char *const bytes = (unsigned char *)&order;
        memset(&order, 0, sizeof order);
        order.kind = (int32_t)fz_pick(4);
        order.signal = (int32_t)fz_take();
        order.lane = fz_pick(FZ_LANES + 1);
        order.generation = fz_pick(3);
        if (order.lane == FZ_LANES) {
            order.lane = (uint32_t)fz_size();
        }
        const size_t cut = fz_pick(sizeof order);
        fz_send(ends[0], bytes[0], &tick[1],
                order.kind == CF__ORDER_START && order.lane < FZ_LANES);
        (void)send(ends[0], bytes + 1, cut, MSG_NOSIGNAL);
        (void)send(ends[0], bytes + 1 + cut, sizeof order - 1 - cut, MSG_NOSIGNAL);
        cf__zygote_obey(&zygote);
        while (recv(ends[0], bytes, sizeof order, MSG_DONTWAIT) > 0) {
        }
    }
    close(ends[0]);
    if (setjmp(fz.exit) == 0) {
        cf__zygote_obey(&zygote);
        fz_fail("a zygote that outlives its host");
    }
    close(ends[1]);
    close(tick[0]);
    close(tick[1]);
}

/* ---------------------------------------------------------------- one input */

/* The check that is taken away. */
static int fz_planted(void) {
    const char *const plant = getenv("FUZZ_PLANT");
    return plant != NULL ? plant[0] - '0' : FZ_NO_PLANT;
}

static size_t fz_descriptors(void) {
    size_t count = 0;
    for (int fd = 3; fd < 128; fd++) {
        count += fcntl(fd, F_GETFD) != -1;
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4 || size > FZ_MOST) {
        return 0;
    }
    const size_t descriptors = fz_descriptors();
    memset(&fz, 0, sizeof fz);
    fz.front = data;
    fz.back = data + size;
    fz.now = 1000000000;
    fz.zygote = fz.flood = fz.trap = -1;
    fz.plant = fz_planted();
    const unsigned who = fz_pick(8);
    fz.mode = who < 5 ? FZ_HOST : who < 7 ? FZ_WORKER : FZ_ZYGOTE;
    if (fz.mode == FZ_HOST) {
        fz_run_host();
    } else if (fz.mode == FZ_WORKER) {
        fz_run_worker();
    } else {
        fz_run_zygote();
    }
    fz_require(fz.blocks == NULL, "memory is left");
    fz_require(fz.mapped == 0, "a mapping is left");
    fz_require(fz_descriptors() == descriptors, "a descriptor is left");
    return 0;
}

/* ---------------------------------------------------------------- without libFuzzer */

#ifndef FUZZ_LIBFUZZER

enum { FZ_CORPUS = 256 };

typedef struct fz_input {
    uint8_t bytes[FZ_MOST];
    size_t size;
} fz_input;

static fz_input *fz_corpus[FZ_CORPUS];
static size_t fz_corpus_size;
static fz_input fz_current; /* what runs */

/* Async-signal-safe: the input that ends badly, for `xxd -r -p`. */
static void fz_dump(void) {
    static const char digits[] = "0123456789abcdef";
    char text[2 * FZ_MOST + 1];
    size_t at = 0;
    for (size_t i = 0; i < fz_current.size; i++) {
        text[at++] = digits[fz_current.bytes[i] / 16];
        text[at++] = digits[fz_current.bytes[i] % 16];
    }
    text[at++] = '\n';
    if (write(2, "FUZZ: the input in hexadecimal:\n", 32) < 0 || write(2, text, at) < 0) {
        return;
    }
}

static void fz_on_signal(int number) {
    fz_dump();
    signal(number, SIG_DFL);
    raise(number);
}

static void fz_try(void) {
    enum { PATIENCE_S = 10 };
    alarm(PATIENCE_S);
    (void)LLVMFuzzerTestOneInput(fz_current.bytes, fz_current.size);
    alarm(0);
}

static void fz_load_file(const char *path) {
    FILE *const file = fopen(path, "rb");
    if (file == NULL || fz_corpus_size == FZ_CORPUS) {
        fprintf(stderr, "FUZZ: cannot take %s\n", path);
        exit(2);
    }
    fz_input *const input = malloc(sizeof *input);
    fz_require(input != NULL, "this machine has too little memory");
    input->size = fread(input->bytes, 1, sizeof input->bytes, file);
    fclose(file);
    fz_corpus[fz_corpus_size++] = input;
}

static int fz_is_visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

/* A file, or all files of a directory, in order. */
static void fz_load(const char *path) {
    struct dirent **names;
    const int count = scandir(path, &names, fz_is_visible, alphasort);
    if (count < 0) {
        fz_load_file(path);
        return;
    }
    for (int i = 0; i < count; i++) {
        char name[1024];
        snprintf(name, sizeof name, "%s/%s", path, names[i]->d_name);
        fz_load_file(name);
        free(names[i]);
    }
    free(names);
}

static uint64_t fz_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void fz_mutate_once(uint64_t *state) {
    uint8_t *const bytes = fz_current.bytes;
    size_t *const size = &fz_current.size;
    const size_t at = fz_random(state) % *size, most = 1 + fz_random(state) % 16;
    const fz_input *const other =
        fz_corpus_size > 0 ? fz_corpus[fz_random(state) % fz_corpus_size] : &fz_current;
    switch (fz_random(state) % 6) {
    case 0:
        bytes[at] = (uint8_t)fz_random(state);
        break;
    case 1:
        bytes[at] = (uint8_t)(bytes[at] + fz_random(state) % 16 - 8);
        break;
    case 2:
        if (*size < 1024) {
            memmove(bytes + at + 1, bytes + at, *size - at);
            bytes[at] = (uint8_t)fz_random(state);
            ++*size;
        }
        break;
    case 3:
        if (*size > most + 4 && at + most <= *size) {
            memmove(bytes + at, bytes + at + most, *size - at - most);
            *size -= most;
        }
        break;
    case 4:
        for (size_t i = 0; i < most && at + i < *size; i++) {
            bytes[at + i] = (uint8_t)fz_random(state);
        }
        break;
    default: /* a piece of another one, from where it stands there */
        for (size_t i = at; i < *size && i < other->size && i < at + 4 * most; i++) {
            bytes[i] = other->bytes[i];
        }
    }
}

static void fz_mutate(uint64_t *state) {
    if (fz_corpus_size > 0 && fz_random(state) % 8 != 0) {
        fz_current = *fz_corpus[fz_random(state) % fz_corpus_size];
    } else {
        fz_current.size = 16 + fz_random(state) % 240;
        for (size_t i = 0; i < fz_current.size; i++) {
            fz_current.bytes[i] = (uint8_t)fz_random(state);
        }
    }
    for (uint64_t n = fz_random(state) % 8; n > 0 && fz_current.size > 0; n--) {
        fz_mutate_once(state);
    }
}

static void fz_run_corpus(void) {
    for (size_t i = 0; i < fz_corpus_size; i++) {
        fz_current = *fz_corpus[i];
        fz_try();
    }
}

static double fz_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Until one of the two is used up; returns how many ran. */
static unsigned long fz_run_mutations(uint64_t seed, double seconds, unsigned long runs) {
    const double end = fz_seconds() + seconds;
    uint64_t state = seed * 2654435761U + 88172645463325252U;
    unsigned long count = 0;
    while (count < runs && fz_seconds() < end) {
        fz_mutate(&state);
        fz_try();
        count++;
    }
    return count;
}

static void fz_watch(void) {
    static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGALRM, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        signal(numbers[i], fz_on_signal);
    }
}

#ifndef FUZZ_NO_MAIN
int main(int argc, char **argv) {
    double seconds = 5;
    unsigned long runs = ULONG_MAX;
    uint64_t seed = 1;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-seconds=", 9) == 0) {
            seconds = strtod(argv[i] + 9, NULL);
        } else if (strncmp(argv[i], "-runs=", 6) == 0) {
            runs = strtoul(argv[i] + 6, NULL, 10);
        } else if (strncmp(argv[i], "-seed=", 6) == 0) {
            seed = strtoul(argv[i] + 6, NULL, 10);
        } else {
            fz_load(argv[i]);
        }
    }
    fz_watch();
    fz_run_corpus();
    const unsigned long count = fz_run_mutations(seed, seconds, runs);
    printf("%zu inputs of the corpus and %lu mutated ones, seed %lu\n", fz_corpus_size, count,
           (unsigned long)seed);
    return 0;
}
#endif
#endif
