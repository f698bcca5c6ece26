/* The process pool under the limits of the system, of the host and of its workers: what does not fit
 * has a status, the host lives, and what fits works. */
#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#include "test.h"

#include "process.h"

#include <sys/resource.h>

enum { MIB = 1 << 20 };

static void set_limit(int resource, rlim_t most) {
    const struct rlimit limit_of = {most, most};
    CHECK_EQ(setrlimit(resource, &limit_of), 0);
}

static bool is_refusal(cf_status status) {
    return status == CF_SYSTEM || status == CF_NO_MEMORY || status == CF_BROKEN;
}

/* ---------------------------------------------------------------- memory of a worker */

static int initialise_with_little_memory(void *arg) {
    (void)arg;
    set_limit(RLIMIT_AS, (rlim_t)128 * MIB);
    return 0;
}

static int task_big_result(cf_task *task, void *arg) {
    const size_t size = *(const size_t *)arg;
    unsigned char *result = cf_task_result_buffer(task, size);
    if (result == NULL) {
        return cf_task_fail(task, 5, "no room for %zu bytes", size);
    }
    result[0] = 1;
    result[size - 1] = 2;
    return 0;
}

static int task_big_memory(cf_task *task, void *arg) {
    char *volatile memory = malloc(*(const size_t *)arg);
    const int got = memory != NULL;
    free(memory);
    return return_int(task, got);
}

static cf_future *submit_size(cf_executor *executor, cf_task_fn *fn, size_t size) {
    return cf_executor_submit(executor, fn, &size, sizeof size);
}

TEST(a_worker_with_little_memory_refuses_what_does_not_fit) {
    if (is_watched()) {
        SKIP("whoever watches needs the room");
    }
    cf_executor *executor = processes_with(
        &(cf_pool_options){.max_workers = 1, .initializer = initialise_with_little_memory});
    const pid_t worker = pid_of_a_worker(executor);
    CHECK_EQ(take_int(submit_size(executor, task_big_memory, (size_t)256 * MIB)), 0);
    cf_future *future = submit_size(executor, task_big_result, (size_t)256 * MIB);
    const cf_status status = outcome(future);
    CHECK(status == CF_TASK_FAILED || status == CF_NO_MEMORY);
    cf_future_release(future);
    CHECK_STATUS(take_outcome(submit_size(executor, task_big_result, MIB)), CF_OK);
    CHECK_EQ(pid_of_a_worker(executor), worker);
    shut(executor);
}

TEST(an_argument_that_does_not_fit_into_the_worker_has_a_status) {
    enum { SIZE = 200 * MIB };
    if (is_watched()) {
        SKIP("whoever watches needs the room");
    }
    cf_executor *executor = processes_with(
        &(cf_pool_options){.max_workers = 1, .initializer = initialise_with_little_memory});
    still_works(executor);
    char *big = calloc(1, SIZE); /* now, lest the worker has it too */
    CHECK(big != NULL);
    for (int i = 0; i < 3; i++) {
        const cf_status status =
            take_outcome(cf_executor_submit(executor, task_nothing, big, SIZE));
        CHECK(status == CF_NO_MEMORY || status == CF_SYSTEM || status == CF_WORKER_LOST);
        CHECK_STATUS(take_outcome(cf_executor_submit(executor, task_nothing, big, MIB)), CF_OK);
    }
    free(big);
    shut(executor);
}

/* ---------------------------------------------------------------- size of files */

static int initialise_with_small_files(void *arg) {
    (void)arg;
    set_limit(RLIMIT_FSIZE, 65536);
    return 0;
}

static int initialise_with_small_files_and_no_signal(void *arg) {
    signal(SIGXFSZ, SIG_IGN);
    return initialise_with_small_files(arg);
}

/* Shared memory is a file to the system, which answers one that is too big by SIGXFSZ. */
static void with_small_files(cf_initializer_fn *initializer) {
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .initializer = initializer});
    for (int i = 0; i < 3; i++) {
        cf_future *future = submit_size(executor, task_big_result, 4 * MIB);
        const cf_status status = outcome(future);
        CHECK(status == CF_OK || status == CF_TASK_FAILED || status == CF_NO_MEMORY ||
              status == CF_WORKER_LOST);
        CHECK(status != CF_WORKER_LOST || cf_future_error_code(future) == SIGXFSZ);
        CHECK(status != CF_WORKER_LOST || initializer == initialise_with_small_files);
        cf_future_release(future);
        still_works(executor);
    }
    shut(executor);
}

TEST(a_worker_with_small_files_harms_itself_only) {
    with_small_files(initialise_with_small_files);
    with_small_files(initialise_with_small_files_and_no_signal);
}

/* In a child: the status is 0 if all was well, 42 if something was refused. */
static void host_with_small_files(void *arg) {
    enum { COUNT = 12, SIZE = 4 * MIB };
    cf_future *futures[COUNT];
    bool refused = false;
    (void)arg;
    char *big = calloc(1, SIZE);
    CHECK(big != NULL);
    cf_executor *executor = processes(2);
    still_works(executor);
    set_limit(RLIMIT_FSIZE, 65536);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_nothing, big, i % 2 == 0 ? SIZE : 10);
    }
    for (int i = 0; i < COUNT; i++) {
        const cf_status status = take_outcome(futures[i]);
        CHECK(status == CF_OK || (i % 2 == 0 && is_refusal(status)));
        refused = refused || status != CF_OK;
    }
    still_works(executor);
    shut(executor);
    _exit(refused ? 42 : 0);
}

TEST(a_host_with_small_files_is_not_killed) {
    for (int i = 0; i < 5; i++) {
        const int status = in_child(host_with_small_files, NULL);
        CHECK(status == 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 42));
    }
}

/* ---------------------------------------------------------------- descriptors of a worker */

static int task_takes_all_descriptors(cf_task *task, void *arg) {
    int count = 0;
    (void)arg;
    while (open("/dev/null", O_RDONLY) >= 0) {
        count++;
    }
    return return_int(task, count);
}

static void still_small(cf_executor *executor) {
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(take_int(submit_int(executor, task_square, i)), i * i);
    }
}

TEST(a_worker_without_descriptors_refuses_what_needs_one) {
    enum { SIZE = 4 * MIB };
    char *big = calloc(1, SIZE);
    CHECK(big != NULL);
    for (int warm = 0; warm < 2; warm++) {
        cf_executor *executor = processes(1);
        if (warm != 0) { /* the mappings are there already */
            CHECK_STATUS(take_outcome(cf_executor_submit(executor, task_echo, big, SIZE)), CF_OK);
        }
        CHECK(take_int(submit_none(executor, task_takes_all_descriptors)) >= 0);
        cf_status status = take_outcome(cf_executor_submit(executor, task_nothing, big, SIZE));
        CHECK(status == CF_OK || is_refusal(status) || status == CF_WORKER_LOST);
        still_small(executor);
        (void)take_int(submit_none(executor, task_takes_all_descriptors));
        status = take_outcome(submit_size(executor, task_big_result, SIZE));
        CHECK(status == CF_OK || status == CF_TASK_FAILED || is_refusal(status) ||
              status == CF_WORKER_LOST);
        still_small(executor);
        shut(executor);
    }
    free(big);
}

/* ---------------------------------------------------------------- descriptors of the host */

/* The least limit that no open descriptor is above, and then so many are free. */
static rlim_t just_enough(rlim_t more) {
    rlim_t most = 0;
    for (int fd = 0; fd < 1024; fd++) {
        most = fcntl(fd, F_GETFD) != -1 ? (rlim_t)fd + 1 : most;
    }
    return most + more;
}

/* The pool lives; then the host has none left, or few (-1: not even those that it has count); then
 * it has again. */
static void host_without_descriptors(void *arg) {
    enum { COUNT = 16, SIZE = MIB };
    struct rlimit old, none;
    cf_future *futures[COUNT];
    const int few = *(const int *)arg;
    char *big = calloc(1, SIZE);
    CHECK(big != NULL);
    cf_executor *executor = processes_with(
        &(cf_pool_options){.max_workers = 3, .max_tasks_per_child = 4});
    still_works(executor);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = few < 0 ? 0 : just_enough((rlim_t)few);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_echo, big, i % 4 == 0 ? SIZE : 8);
    }
    for (int i = 0; i < COUNT; i++) {
        const cf_status status = take_outcome(futures[i]);
        CHECK(status == CF_OK || is_refusal(status));
    }
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    const cf_status status = take_outcome(submit_int(executor, task_square, 2));
    CHECK(status == CF_OK || status == CF_BROKEN);
    CHECK_STATUS(take_outcome(cf_executor_submit(executor, task_echo, big, SIZE)), status);
    CHECK_STATUS(cf_executor_shutdown(executor, limit(6), CF_RUN_PENDING), CF_OK);
    cf_executor_close(executor);
    free(big);
}

TEST(a_host_that_runs_out_of_descriptors_gets_statuses) {
    if (is_watched()) {
        SKIP("valgrind closes what is above the limit, and says that it is open");
    }
    for (int few = -1; few <= 6; few++) {
        CHECK_EQ(in_child(host_without_descriptors, &few), 0);
    }
}

typedef struct item {
    int number;
    size_t size;
} item;

/* item: as many bytes, all of them the number. */
static int task_fills(cf_task *task, void *arg) {
    const item *wanted = arg;
    UNTIL(atomic_load(&sh->open) != 0);
    unsigned char *bytes = cf_task_result_buffer(task, wanted->size);
    if (bytes == NULL) {
        return 1;
    }
    memset(bytes, wanted->number, wanted->size);
    return 0;
}

/* A chunk of `COUNT` items; the host may have no descriptor left for the results. */
static void map_items(cf_executor *executor, int first, size_t size, bool none_left) {
    enum { COUNT = 8 };
    item items[COUNT];
    struct rlimit old, none;
    cf_status status = CF_SYSTEM;
    for (int i = 0; i < COUNT; i++) {
        items[i] = (item){first + i, size};
    }
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    cf_map_iter *iter = cf_executor_map(executor, task_fills, items, COUNT, sizeof *items,
                                        &(cf_map_options){.chunksize = COUNT});
    none = old;
    none.rlim_cur = none_left ? 0 : old.rlim_cur;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    open_shared();
    for (int i = 0; i < COUNT; i++) {
        const unsigned char *result = cf_map_next(iter, &status);
        CHECK_STATUS(status, none_left ? CF_NO_MEMORY : CF_OK);
        CHECK(none_left || result[0] == first + i);
        CHECK_EQ(cf_map_result_size(iter), none_left ? 0 : size);
    }
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    cf_map_close(iter);
    atomic_store(&sh->open, 0);
}

TEST(results_that_find_no_descriptor_are_not_those_of_an_older_chunk) {
    if (is_watched()) {
        SKIP("valgrind closes what is above the limit, and says that it is open");
    }
    cf_executor *executor = processes(1);
    map_items(executor, 1, 8000, false);
    map_items(executor, 101, 20000, true);
    map_items(executor, 201, 20000, false);
    shut(executor);
}

/* ---------------------------------------------------------------- processes */

/* Becomes a user that has no other process; false: only root can. */
static bool become_nobody(void) {
    const uid_t nobody = 2000000 + (uid_t)getpid();
    return geteuid() == 0 && setgid((gid_t)nobody) == 0 && setuid(nobody) == 0;
}

enum { NOT_ROOT = 44 };

/* In a child: with room for so many processes and threads, this one included. */
static void host_with_few_processes(void *arg) {
    enum { COUNT = 30 };
    cf_future *futures[COUNT];
    cf_status status = CF_OK;
    const rlim_t most = *(const rlim_t *)arg;
    share();
    if (!become_nobody()) {
        _exit(NOT_ROOT);
    }
    set_limit(RLIMIT_NPROC, most);
    cf_executor *executor = cf_process_pool_new(&(cf_pool_options){.max_workers = 4}, &status);
    if (executor == NULL) {
        CHECK_STATUS(status, CF_SYSTEM);
        CHECK(most < 3); /* the manager, the zygote */
        _exit(42);
    }
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_int(executor, task_square, i);
    }
    int broken = 0;
    for (int i = 0; i < COUNT; i++) {
        status = outcome(futures[i]);
        CHECK_STATUS(status, most < 4 ? CF_BROKEN : CF_OK);
        broken += status != CF_OK;
    }
    release_all(futures, COUNT);
    if (broken == 0) {
        CHECK_STATUS(take_outcome(submit_int(executor, task_die, 2)), CF_WORKER_LOST);
        still_works(executor);
    }
    shut(executor);
    _exit(broken == 0 ? 0 : 43);
}

TEST(with_room_for_few_processes_there_are_fewer_workers) {
    if (is_watched()) {
        SKIP("whoever watches has a thread of its own");
    }
    for (rlim_t most = 1; most <= 9; most++) {
        const int status = in_child(host_with_few_processes, &most);
        CHECK(status >= 0 && WIFEXITED(status));
        if (WEXITSTATUS(status) == NOT_ROOT) {
            SKIP("only root can become a user without processes");
        }
        CHECK_EQ(WEXITSTATUS(status), most < 3 ? 42 : most < 4 ? 43 : 0);
    }
}

/* ---------------------------------------------------------------- time */

static int initialise_with_little_time(void *arg) {
    const struct rlimit limit_of = {1, 1};
    (void)arg;
    CHECK_EQ(setrlimit(RLIMIT_CPU, &limit_of), 0);
    return 0;
}

static int task_burns(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    while (atomic_load(&sh->open) == 0) {
    }
    return 0;
}

/* A limit of the system in place of a timeout, as the initializer of a fragile parser might set. */
TEST(a_worker_that_burns_too_much_time_is_lost) {
    cf_executor *executor = processes_with(
        &(cf_pool_options){.max_workers = 1, .initializer = initialise_with_little_time});
    cf_future *future = submit_none(executor, task_burns);
    /* A second of CPU time may be many of the clock's. */
    CHECK_STATUS(cf_future_wait(future, 3 * limit(TEST_GATE_LIMIT_S)), CF_WORKER_LOST);
    CHECK(cf_future_error_code(future) == SIGKILL || cf_future_error_code(future) == SIGXCPU);
    cf_future_release(future);
    still_works(executor);
    shut(executor);
}

TEST_MAIN(
    RUN(a_worker_with_little_memory_refuses_what_does_not_fit)
    RUN_WITHIN(20, an_argument_that_does_not_fit_into_the_worker_has_a_status)
    RUN(a_worker_with_small_files_harms_itself_only)
    RUN_WITHIN(30, a_host_with_small_files_is_not_killed)
    RUN(a_worker_without_descriptors_refuses_what_needs_one)
    RUN_WITHIN(20, a_host_that_runs_out_of_descriptors_gets_statuses)
    RUN(results_that_find_no_descriptor_are_not_those_of_an_older_chunk)
    RUN_WITHIN(60, with_room_for_few_processes_there_are_fewer_workers)
    RUN_WITHIN(40, a_worker_that_burns_too_much_time_is_lost)
)
