/* What the tests of the process pool share: memory and gates that workers see, tasks that stay,
 * tasks that die, and a look at processes. Include after test.h. */
#ifndef CF_TEST_PROCESS_H
#define CF_TEST_PROCESS_H

#include "tasks.h"

#include <sys/mman.h>
#include <sys/resource.h>

/* ---------------------------------------------------------------- memory that workers share */

enum { SHARED_SLOTS = 1024 };

typedef struct shared {
    atomic_int slots;              /* taken of pids                                  */
    atomic_int arrivals;           /* tasks that have called arrive                  */
    atomic_int open;               /* non-zero lets task_stay go                     */
    atomic_int count, other;       /* of the test's own                              */
    atomic_int pids[SHARED_SLOTS]; /* of the arrivals                                */
    atomic_int marks[SHARED_SLOTS];
} shared;

static shared *sh; /* made with the first pool of a test, so that each worker has it */

static inline void share(void) {
    if (sh == NULL) {
        void *memory = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                            -1, 0);
        CHECK(memory != MAP_FAILED);
        sh = memory;
    }
}

static inline cf_executor *processes_with(const cf_pool_options *options) {
    cf_status status = CF_SYSTEM;
    share();
    cf_executor *executor = cf_process_pool_new(options, &status);
    CHECK_STATUS(status, CF_OK);
    CHECK(executor != NULL);
    return executor;
}

static inline cf_executor *processes(size_t workers) {
    return processes_with(&(cf_pool_options){.max_workers = workers});
}

static inline void open_shared(void) {
    atomic_store(&sh->open, 1);
}

static inline void arrive(void) {
    const int slot = atomic_fetch_add(&sh->slots, 1);
    if (slot < SHARED_SLOTS) {
        atomic_store(&sh->pids[slot], (int)getpid());
    }
    atomic_fetch_add(&sh->arrivals, 1);
}

static inline void await_arrivals(int count) {
    UNTIL(atomic_load(&sh->arrivals) >= count);
}

static inline pid_t arrived_pid(int slot) {
    const pid_t pid = (pid_t)atomic_load(&sh->pids[slot]);
    CHECK(pid > 0);
    return pid;
}

/* The zygote was killed: outside Linux that ends no worker before its task has ended. */
static inline void end_orphans(void) {
#ifndef __linux__
    for (int i = 0; i < atomic_load(&sh->slots); i++) {
        kill(arrived_pid(i), SIGKILL);
    }
#endif
}

/* ---------------------------------------------------------------- tasks */

static inline int task_pid(cf_task *task, void *arg) {
    (void)arg;
    return return_int(task, (int)getpid());
}

/* Arrives, and stays until open_shared. */
static inline int task_stay(cf_task *task, void *arg) {
    (void)arg;
    arrive();
    UNTIL(atomic_load(&sh->open) != 0);
    return return_int(task, (int)getpid());
}

/* Arrives, and stays until it is asked to stop. */
static inline int task_obey(cf_task *task, void *arg) {
    (void)arg;
    arrive();
    UNTIL(cf_task_stop_requested(task));
    return return_int(task, (int)getpid());
}

/* Arrives, and never ends by itself. */
static inline int task_hang(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    arrive();
    while (pause() == -1) {
    }
    return 0;
}

static inline int task_echo(cf_task *task, void *arg) {
    return cf_task_return(task, arg, cf_task_arg_size(task));
}

/* The ways for a worker to die; what cf_future_error_code then says. */
typedef struct death {
    const char *name; /* as in the message */
    int signal;       /* 0: exit */
    int code;
} death;

enum { DEATHS = 5 };

static inline const death *death_of(int which) {
    static const death all[DEATHS] = {{"SIGSEGV", SIGSEGV, SIGSEGV},
                                      {"SIGABRT", SIGABRT, SIGABRT},
                                      {"SIGKILL", SIGKILL, SIGKILL},
                                      {"0", 0, 256},
                                      {"7", 0, 256 + 7}};
    return &all[which];
}

static inline void die(int which) {
    const struct rlimit none = {0, 0};
    const death *d = death_of(which);
    setrlimit(RLIMIT_CORE, &none);
    if (d->signal == 0) {
        _exit(d->code - 256);
    }
    raise(d->signal);
}

/* int: one of the deaths */
static inline int task_die(cf_task *task, void *arg) {
    (void)task;
    arrive();
    die(*(const int *)arg);
    return 0;
}

/* ---------------------------------------------------------------- shorthands */

static inline cf_future *submit_int(cf_executor *executor, cf_task_fn *fn, int value) {
    return cf_executor_submit(executor, fn, &value, sizeof value);
}

static inline cf_future *submit_none(cf_executor *executor, cf_task_fn *fn) {
    return cf_executor_submit(executor, fn, CF_NO_ARG);
}

static inline cf_future *submit_timed(cf_executor *executor, cf_task_fn *fn, cf_duration timeout) {
    return cf_executor_submit_with(executor, fn, CF_NO_ARG,
                                   &(cf_submit_options){.timeout = timeout});
}

static inline int take_int(cf_future *future) {
    const int value = int_of(future);
    cf_future_release(future);
    return value;
}

static inline cf_status take_outcome(cf_future *future) {
    const cf_status status = outcome(future);
    cf_future_release(future);
    return status;
}

static inline pid_t pid_of_a_worker(cf_executor *executor) {
    return (pid_t)take_int(submit_none(executor, task_pid));
}

/* The pool starts a worker and runs a task: the proof that it lives. */
static inline void still_works(cf_executor *executor) {
    CHECK_EQ(take_int(submit_int(executor, task_square, 12)), 144);
}

/* `count` tasks stand in their workers; the caller releases the futures. */
static inline void occupy_processes(cf_executor *executor, int count, cf_future **futures) {
    const int before = atomic_load(&sh->arrivals);
    for (int i = 0; i < count; i++) {
        futures[i] = submit_none(executor, task_stay);
    }
    await_arrivals(before + count);
}

static inline void shut(cf_executor *executor) {
    CHECK_STATUS(cf_executor_shutdown(executor, limit(TEST_GATE_LIMIT_S), CF_RUN_PENDING), CF_OK);
    cf_executor_close(executor);
}

static inline void fill(unsigned char *bytes, size_t size, uint64_t seed) {
    uint64_t state = seed * 2654435761U + 88172645463325252U;
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (unsigned char)(i % 64 == 0 ? test_random(&state) : (uint64_t)bytes[i - 1] + 1);
    }
}

/* A sanitizer or valgrind looks, which has stacks and threads of its own and needs much memory. */
static inline bool is_watched(void) {
#if defined(TEST_LSAN) || defined(TEST_TSAN)
    return true;
#else
    const char *lane = getenv("CF_TEST_LANE");
    return lane != NULL && strcmp(lane, "children") == 0;
#endif
}

/* ---------------------------------------------------------------- a look at processes */

typedef struct process_look {
    char state; /* as in ps; 0: there is none */
    pid_t parent;
} process_look;

static inline process_look look_at(pid_t pid) {
    char path[64], text[512] = "";
    process_look look = {0, 0};
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return look;
    }
    const ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    const char *after = size > 0 ? strrchr(text, ')') : NULL;
    long parent = 0;
    if (after != NULL && sscanf(after + 1, " %c %ld", &look.state, &parent) == 2) {
        look.parent = (pid_t)parent;
    }
    return look;
}

static inline bool has_proc(void) {
    return look_at(getpid()).state != 0;
}

static inline bool is_gone(pid_t pid) {
    return has_proc() ? look_at(pid).state == 0 : kill(pid, 0) != 0;
}

/* A zombie runs no code any more. */
static inline bool is_alive(pid_t pid) {
    const char state = look_at(pid).state;
    return has_proc() ? state != 0 && state != 'Z' && state != 'X' : kill(pid, 0) == 0;
}

static inline bool is_descendant(pid_t pid, pid_t ancestor) {
    for (int depth = 0; depth < 8 && pid > 1; depth++) {
        pid = look_at(pid).parent;
        if (pid == ancestor) {
            return true;
        }
    }
    return false;
}

/* All living descendants of this process, at most `limit`. */
static inline size_t descendants(pid_t *pids, size_t most) {
    size_t count = 0;
    DIR *dir = opendir("/proc");
    if (dir == NULL) {
        return 0;
    }
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        const pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 1 && count < most && is_alive(pid) && is_descendant(pid, getpid())) {
            pids[count++] = pid;
        }
    }
    closedir(dir);
    return count;
}

/* Mappings that are shared with other processes. */
static inline size_t shared_mappings(void) {
    char line[512];
    size_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        char permissions[8] = "";
        count += sscanf(line, "%*s %7s", permissions) == 1 && permissions[3] == 's';
    }
    if (maps != NULL) {
        fclose(maps);
    }
    return count;
}

#endif
