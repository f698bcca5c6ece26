/* CF_START_SPAWN: workers are the same executable, started again, and inherit nothing. */
#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* RTLD_DEFAULT */
#endif
#include "test.h"

#include "process.h"

#include <dlfcn.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

static cf_executor *spawning_with(cf_pool_options options) {
    options.start_method = CF_START_SPAWN;
    return processes_with(&options);
}

static cf_executor *spawning(size_t workers) {
    return spawning_with((cf_pool_options){.max_workers = workers});
}

static int static_number = 1;

static int task_static_number(cf_task *task, void *arg) {
    (void)arg;
    return return_int(task, static_number);
}

TEST(a_static_function_runs_in_a_fresh_process) {
    cf_executor *executor = spawning(1);
    const pid_t worker = pid_of_a_worker(executor);
    CHECK(worker != getpid());
    static_number = 2; /* in the host alone, even if it was before the start of the worker */
    CHECK_EQ(take_int(submit_int(executor, task_square, 11)), 121);
    CHECK_EQ(take_int(submit_none(executor, task_static_number)), 1);
    CHECK_EQ(pid_of_a_worker(executor), worker);
    shut(executor);
    CHECK(!is_alive(worker));
}

TEST(memory_of_the_host_before_the_pool_is_not_there) {
    static_number = 3;
    cf_executor *executor = spawning(1);
    CHECK_EQ(take_int(submit_none(executor, task_static_number)), 1);
    shut(executor);
}

static int task_own_pointer(cf_task *task, void *arg) {
    const uintptr_t value = (uintptr_t)arg;
    return cf_task_return(task, &value, sizeof value);
}

TEST(a_pointer_is_an_integer) {
    static const uintptr_t values[] = {0, 1, 4711, UINTPTR_MAX};
    cf_executor *executor = spawning(1);
    for (size_t i = 0; i < 4; i++) {
        /* Never dereferenced: the cast only carries the number. */
        const void *pointer = (const void *)(values[i]);
        cf_future *future = cf_executor_submit(executor, task_own_pointer, pointer, 0);
        const uintptr_t *result = cf_future_result(future, limit(8), NULL);
        CHECK(result != NULL);
        CHECK(*result == values[i]);
        cf_future_release(future);
    }
    shut(executor);
}

static int initialised_with;

static int initialise(void *arg) {
    initialised_with = (int)(intptr_t)arg;
    return initialised_with == 13 ? 1 : 0;
}

static int task_initialised_with(cf_task *task, void *arg) {
    (void)arg;
    return return_int(task, initialised_with);
}

TEST(the_initializer_runs_in_each_worker) {
    cf_executor *executor = spawning_with((cf_pool_options){.max_workers = 1,
                                                            .max_tasks_per_child = 1,
                                                            .initializer = initialise,
                                                            .worker_arg = (void *)(intptr_t)12});
    CHECK_EQ(take_int(submit_none(executor, task_initialised_with)), 12);
    CHECK_EQ(take_int(submit_none(executor, task_initialised_with)), 12);
    CHECK_EQ(initialised_with, 0);
    shut(executor);
    executor = spawning_with((cf_pool_options){
        .max_workers = 1, .initializer = initialise, .worker_arg = (void *)(intptr_t)13});
    CHECK_STATUS(take_outcome(submit_none(executor, task_pid)), CF_BROKEN);
    shut(executor);
}

TEST(a_function_outside_the_executable_is_refused) {
    void *symbol = dlsym(RTLD_DEFAULT, "insque"); /* in the C library */
    cf_task_fn *function = NULL;
    if (symbol == NULL) {
        SKIP("the program is linked statically");
    }
    memcpy(&function, &symbol, sizeof function);
    cf_executor *executor = spawning(1);
    CHECK_STATUS(take_outcome(cf_executor_submit(executor, function, CF_NO_ARG)), CF_INVALID);
    still_works(executor);
    shut(executor);
}

TEST(an_error_travels) {
    cf_executor *executor = spawning(1);
    cf_future *future = submit_int(executor, task_fail, 5);
    CHECK_STATUS(outcome(future), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(future), 5);
    CHECK_STR(cf_future_error_message(future), "failed with 5");
    cf_future_release(future);
    shut(executor);
}

static int task_raise(cf_task *task, void *arg) {
    (void)task;
    die(*(const int *)arg);
    return 0;
}

TEST(a_death_hurts_one_task) {
    cf_executor *executor = spawning(2);
    for (int which = 0; which < DEATHS; which++) {
        cf_future *future = submit_int(executor, task_raise, which);
        CHECK_STATUS(outcome(future), CF_WORKER_LOST);
        CHECK_EQ(cf_future_error_code(future), death_of(which)->code);
        cf_future_release(future);
        still_works(executor);
    }
    shut(executor);
}

static int task_pause(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    while (pause() == -1) {
    }
    return 0;
}

TEST(a_deadline_and_kill_workers) {
    cf_executor *executor = spawning(2);
    CHECK_STATUS(take_outcome(submit_timed(executor, task_pause, 30 * CF_MILLISECOND)),
                 CF_TASK_TIMEOUT);
    cf_future *future = submit_none(executor, task_pause);
    UNTIL(cf_future_running(future));
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGKILL), CF_OK);
    CHECK_STATUS(take_outcome(future), CF_WORKER_LOST);
    shut(executor);
}

TEST(bytes_of_any_size) {
    static const size_t sizes[] = {1, 33, 4095, 4096, 4097, 70000, 8 << 20};
    unsigned char *data = malloc(8 << 20);
    cf_executor *executor = spawning(2);
    CHECK(data != NULL);
    fill(data, 8 << 20, 5);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        cf_future *future = cf_executor_submit(executor, task_echo, data, sizes[i]);
        const void *result = cf_future_result(future, limit(8), NULL);
        CHECK(result != NULL && cf_future_result_size(future) == sizes[i]);
        CHECK(memcmp(result, data, sizes[i]) == 0);
        cf_future_release(future);
    }
    free(data);
    shut(executor);
}

TEST(map_with_chunks) {
    int items[50], results[50];
    cf_executor *executor = spawning(2);
    for (int i = 0; i < 50; i++) {
        items[i] = i;
    }
    CHECK_STATUS(cf_executor_map_array(executor, task_square, items, sizeof *items, results,
                                       sizeof *results, 50, &(cf_map_options){.chunksize = 7},
                                       NULL),
                 CF_OK);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(results[i], i * i);
    }
    shut(executor);
}

TEST(a_worker_leaves_after_max_tasks_per_child) {
    cf_executor *executor =
        spawning_with((cf_pool_options){.max_workers = 1, .max_tasks_per_child = 2});
    const pid_t first = pid_of_a_worker(executor);
    CHECK_EQ(pid_of_a_worker(executor), first);
    CHECK(pid_of_a_worker(executor) != first);
    shut(executor);
}

static void *idle_thread(void *arg) {
    gate_await(arg);
    return NULL;
}

TEST(a_host_with_threads_may_spawn) {
    gate g = GATE_INIT;
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        spawn(&threads[i], idle_thread, &g);
    }
    for (int i = 0; i < 3; i++) {
        cf_executor *executor = spawning(2);
        still_works(executor);
        shut(executor);
    }
    gate_open(&g);
    for (int i = 0; i < 3; i++) {
        join(threads[i]);
    }
}

static int task_descriptors(cf_task *task, void *arg) {
    (void)arg;
    int count = 0;
    for (int fd = 3; fd < 256; fd++) {
        count += fcntl(fd, F_GETFD) != -1 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0;
    }
    return return_int(task, count);
}

static void *hold_stdout(void *arg) {
    gate *g = arg;
    flockfile(stdout);
    printf("host;");
    gate_arrive(g);
    gate_await(g);
    funlockfile(stdout);
    return NULL;
}

/* The pool does not wait for that thread in order to write what is in the buffer. */
TEST(a_thread_that_prints_holds_no_pool_up) {
    int ends[2];
    char text[32] = "";
    gate g = GATE_INIT;
    pthread_t thread;
    fflush(stdout);
    CHECK_EQ(pipe(ends), 0);
    const int kept = dup(STDOUT_FILENO);
    CHECK(kept >= 0 && dup2(ends[1], STDOUT_FILENO) == STDOUT_FILENO);
    close(ends[1]);
    spawn(&thread, hold_stdout, &g);
    gate_await_arrivals(&g, 1);
    cf_executor *executor = spawning(1);
    CHECK_EQ(take_int(submit_int(executor, task_square, 5)), 25);
    shut(executor);
    gate_open(&g);
    join(thread);
    fflush(stdout);
    CHECK(dup2(kept, STDOUT_FILENO) == STDOUT_FILENO); /* the last writer: the end of file */
    close(kept);
    CHECK_EQ(read(ends[0], text, sizeof text - 1), 5);
    CHECK_STR(text, "host;");
    CHECK_EQ(read(ends[0], text, sizeof text - 1), 0);
    close(ends[0]);
}

TEST(what_is_closed_on_exec_is_closed_and_the_channel_is_not_passed_on) {
    cf_executor *fork_pool = processes(1);
    still_works(fork_pool);
    int before = 0; /* what the program that runs the tests has left open */
    for (int fd = 3; fd < 256; fd++) {
        before += fcntl(fd, F_GETFD) != -1 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0;
    }
    cf_executor *executor = spawning(1);
    CHECK(take_int(submit_none(executor, task_descriptors)) <= before);
    shut(executor);
    shut(fork_pool);
}

static int task_pauses(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    while (pause() == -1) {
    }
    return 0;
}

/* One worker is idle, one busy, and the host says so by a byte. */
static void be_a_host(int ready) {
    cf_executor *executor = spawning(2);
    cf_future *busy = submit_none(executor, task_pauses);
    UNTIL(cf_future_running(busy));
    CHECK(pid_of_a_worker(executor) > 0);
    CHECK_EQ(write(ready, "", 1), 1);
    for (;;) {
        pause();
    }
}

#ifdef PR_SET_CHILD_SUBREAPER
TEST(a_killed_host_leaves_no_process) {
    int ready[2];
    char byte;
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0); /* orphans come here */
    CHECK_EQ(pipe(ready), 0);
    const pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        be_a_host(ready[1]);
    }
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    CHECK_EQ(kill(host, SIGKILL), 0);
    const int64_t deadline = now() + limit(1);
    for (pid_t reaped; (reaped = waitpid(-1, NULL, WNOHANG)) != -1;) {
        CHECK(now() < deadline);
        if (reaped == 0) {
            test_pause();
        }
    }
    close(ready[0]);
    close(ready[1]);
}
#else
TEST(a_killed_host_leaves_no_process) {
    SKIP("the system has no subreapers");
}
#endif

int main(int argc, char **argv) {
    cf_process_main(argc, argv);
    test_case tests[] = {
        RUN(a_static_function_runs_in_a_fresh_process)
        RUN(memory_of_the_host_before_the_pool_is_not_there)
        RUN(a_pointer_is_an_integer)
        RUN(the_initializer_runs_in_each_worker)
        RUN(a_function_outside_the_executable_is_refused)
        RUN(an_error_travels)
        RUN(a_death_hurts_one_task)
        RUN(a_deadline_and_kill_workers)
        RUN(bytes_of_any_size)
        RUN(map_with_chunks)
        RUN(a_worker_leaves_after_max_tasks_per_child)
        RUN(a_host_with_threads_may_spawn)
        RUN(a_thread_that_prints_holds_no_pool_up)
        RUN(what_is_closed_on_exec_is_closed_and_the_channel_is_not_passed_on)
        RUN(a_killed_host_leaves_no_process)
    };
    return test_run_all(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
