/* The process pool when workers die: each death hurts one task, ends it with a status that says
 * why, and leaves a pool that works, no process and no descriptor behind. */
#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#include "test.h"

#include "process.h"

#include <setjmp.h>
#include <stddef.h>
#include <sys/time.h>

/* ---------------------------------------------------------------- the five deaths */

static bool says_number(const char *message, long number) {
    char digits[24];
    const size_t length = (size_t)snprintf(digits, sizeof digits, "%ld", number);
    for (const char *at = strstr(message, digits); at != NULL; at = strstr(at + 1, digits)) {
        const bool begins = at == message || at[-1] < '0' || at[-1] > '9';
        if (begins && (at[length] < '0' || at[length] > '9')) {
            return true;
        }
    }
    return false;
}

static void check_lost(cf_future *future, const death *d, pid_t worker) {
    CHECK_STATUS(outcome(future), CF_WORKER_LOST);
    CHECK_EQ(cf_future_error_code(future), d->code);
    CHECK_EQ(cf_future_state(future), CF_STATE_FINISHED);
    const char *message = cf_future_error_message(future);
    CHECK(says_number(message, (long)worker));
    CHECK(says_number(message, d->signal != 0 ? d->signal : d->code - 256));
    CHECK(strstr(message, d->name) != NULL);
    CHECK(cf_future_result(future, 0, NULL) == NULL);
    CHECK_EQ(cf_future_result_size(future), 0);
}

TEST(a_task_whose_worker_dies_is_lost_and_says_why) {
    cf_executor *executor = processes(1);
    for (int which = 0; which < DEATHS; which++) {
        char repr[128], expected[64];
        cf_future *future = submit_int(executor, task_die, which);
        CHECK_STATUS(outcome(future), CF_WORKER_LOST);
        check_lost(future, death_of(which), arrived_pid(which));
        snprintf(expected, sizeof expected, "state=finished raised CF_WORKER_LOST %d>",
                 death_of(which)->code);
        cf_future_repr(future, repr, sizeof repr);
        CHECK(strstr(repr, expected) != NULL);
        UNTIL(is_gone(arrived_pid(which)));
        cf_future_release(future);
        still_works(executor);
    }
    const cf_stats stats = stats_of(executor);
    CHECK_EQ(stats.lost, DEATHS);
    CHECK_EQ(stats.restarts, DEATHS);
    CHECK_EQ(stats.finished, 2 * DEATHS);
    shut(executor);
}

TEST(nobody_else_notices) {
    enum { OTHERS = 3, QUEUED = 20 };
    for (int which = 0; which < DEATHS; which++) {
        cf_future *others[OTHERS], *queued[QUEUED];
        cf_executor *executor = processes(OTHERS + 1);
        atomic_store(&sh->open, 0);
        atomic_store(&sh->slots, 0);
        atomic_store(&sh->arrivals, 0);
        occupy_processes(executor, OTHERS, others);
        cf_future *victim = submit_int(executor, task_die, which);
        for (int i = 0; i < QUEUED; i++) {
            queued[i] = submit_int(executor, task_square, i);
        }
        CHECK_STATUS(outcome(victim), CF_WORKER_LOST);
        check_lost(victim, death_of(which), arrived_pid(OTHERS));
        for (int i = 0; i < QUEUED; i++) {
            CHECK_EQ(take_int(queued[i]), i * i);
        }
        for (int i = 0; i < OTHERS; i++) {
            CHECK(is_alive(arrived_pid(i)));
            CHECK_STATUS(cf_future_wait(others[i], 0), CF_TIMEOUT);
        }
        open_shared();
        for (int i = 0; i < OTHERS; i++) {
            CHECK(take_int(others[i]) > 0);
        }
        cf_future_release(victim);
        CHECK_EQ(stats_of(executor).lost, 1);
        shut(executor);
    }
}

TEST(a_worker_that_is_killed_while_busy_is_lost) {
    cf_executor *executor = processes(2);
    for (int i = 0; i < 10; i++) {
        cf_future *victim = submit_none(executor, task_hang);
        await_arrivals(i + 1);
        CHECK_EQ(kill(arrived_pid(i), SIGKILL), 0);
        check_lost(victim, death_of(2), arrived_pid(i));
        cf_future_release(victim);
        still_works(executor);
    }
    shut(executor);
}

/* A pool may replace an idle worker at once, or when it is needed. */
static void await_death(cf_executor *executor, uint64_t restarts) {
    UNTIL(stats_of(executor).workers == 0 || stats_of(executor).restarts > restarts);
}

TEST(a_worker_that_dies_while_idle_hurts_nobody) {
    cf_executor *executor = processes(1);
    for (int i = 0; i < 10; i++) {
        const uint64_t restarts = stats_of(executor).restarts;
        const pid_t worker = pid_of_a_worker(executor);
        CHECK_EQ(kill(worker, i % 2 == 0 ? SIGKILL : SIGTERM), 0);
        await_death(executor, restarts);
        CHECK(pid_of_a_worker(executor) != worker);
    }
    CHECK_EQ(stats_of(executor).lost, 0);
    CHECK_EQ(stats_of(executor).restarts, 10);
    shut(executor);
}

TEST(a_submit_that_races_with_the_death_of_an_idle_worker_ends) {
    cf_executor *executor = processes(1);
    int ran = 0;
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(kill(pid_of_a_worker(executor), SIGKILL), 0);
        cf_future *future = submit_none(executor, task_pid);
        const cf_status status = outcome(future);
        CHECK(status == CF_OK || status == CF_WORKER_LOST);
        ran += status == CF_OK;
        cf_future_release(future);
        still_works(executor);
    }
    CHECK(ran > 0);
    shut(executor);
}

static gate manager_calls = GATE_INIT, manager_goes_on = GATE_INIT;

static void hold_up_the_manager(cf_future *future, void *user) {
    (void)future;
    (void)user;
    gate_arrive(&manager_calls);
    gate_await(&manager_goes_on);
}

TEST(a_big_task_for_a_worker_that_is_dead_can_be_cancelled) {
    static char big[100000];
    cf_executor *executor = processes(1);
    const pid_t worker = pid_of_a_worker(executor);
    cf_future *held = submit_none(executor, task_stay);
    CHECK_STATUS(cf_future_add_done_callback(held, hold_up_the_manager, NULL), CF_OK);
    open_shared();
    CHECK_STATUS(take_outcome(held), CF_OK);
    gate_await_arrivals(&manager_calls, 1); /* it will not notice the death */
    CHECK_EQ(kill(worker, SIGKILL), 0);
    UNTIL(is_gone(worker));
    cf_future *future = cf_executor_submit(executor, task_echo, big, sizeof big);
    CHECK_EQ(cf_future_state(future), CF_STATE_PENDING);
    CHECK(cf_future_cancel(future));
    CHECK_STATUS(take_outcome(future), CF_CANCELLED);
    gate_open(&manager_goes_on);
    still_works(executor);
    shut(executor);
}

/* ---------------------------------------------------------------- deaths while starting */

typedef struct start {
    int which, attempts; /* how the first workers die, and how many of them */
} start;

static start starting;

static int initialise_or_die(void *arg) {
    const start *s = arg;
    arrive();
    if (atomic_fetch_add(&sh->count, 1) < s->attempts) {
        die(s->which);
    }
    return 0;
}

TEST(a_worker_that_dies_while_starting_is_started_again) {
    for (int which = 0; which < DEATHS; which++) {
        starting = (start){which, 1};
        cf_executor *executor = processes_with(&(cf_pool_options){
            .max_workers = 1, .initializer = initialise_or_die, .worker_arg = &starting});
        atomic_store(&sh->count, 0);
        still_works(executor);
        CHECK_EQ(atomic_load(&sh->count), 2);
        CHECK_EQ(stats_of(executor).lost, 0);
        shut(executor);
    }
}

TEST(workers_that_always_die_while_starting_break_the_pool) {
    for (int which = 1; which < DEATHS; which += 2) { /* by signal, by exit */
        cf_future *futures[5];
        starting = (start){which, INT_MAX};
        cf_executor *executor = processes_with(&(cf_pool_options){
            .max_workers = 2, .initializer = initialise_or_die, .worker_arg = &starting});
        for (int i = 0; i < 5; i++) {
            futures[i] = submit_none(executor, task_nothing);
        }
        for (int i = 0; i < 5; i++) {
            CHECK_STATUS(outcome(futures[i]), CF_BROKEN);
            CHECK(cf_future_error_message(futures[i])[0] != '\0');
        }
        CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_BROKEN);
        CHECK(atomic_load(&sh->count) < 100); /* a limit, and no storm */
        release_all(futures, 5);
        shut(executor);
    }
}

static int initialise_and_stay(void *arg) {
    (void)arg;
    arrive();
    UNTIL(atomic_load(&sh->open) != 0);
    return 0;
}

TEST(a_worker_that_is_killed_while_starting_is_started_again) {
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .initializer = initialise_and_stay});
    cf_future *future = submit_none(executor, task_pid);
    await_arrivals(1);
    CHECK_EQ(kill(arrived_pid(0), SIGKILL), 0);
    await_arrivals(2);
    CHECK_EQ(cf_future_state(future), CF_STATE_PENDING);
    open_shared();
    CHECK_EQ(take_int(future), arrived_pid(1));
    CHECK_EQ(stats_of(executor).lost, 0);
    shut(executor);
}

TEST(what_waits_for_a_starting_worker_can_be_cancelled) {
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .initializer = initialise_and_stay});
    cf_future *future = submit_none(executor, task_pid);
    await_arrivals(1);
    CHECK_EQ(cf_future_state(future), CF_STATE_PENDING);
    CHECK(cf_future_cancel(future));
    CHECK_STATUS(take_outcome(future), CF_CANCELLED);
    open_shared();
    still_works(executor);
    shut(executor);
}

TEST(a_pool_that_is_starting_can_be_killed) {
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 2, .initializer = initialise_and_stay});
    cf_future *futures[2] = {submit_none(executor, task_pid), submit_none(executor, task_pid)};
    await_arrivals(1);
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGKILL), CF_OK);
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(take_outcome(futures[i]), CF_CANCELLED); /* they never ran */
    }
    shut(executor);
    int arrived = 0;
    for (int slot = 0; slot < 2; slot++) {
        const pid_t pid = (pid_t)atomic_load(&sh->pids[slot]);
        CHECK(pid == 0 || !is_alive(pid)); /* 0: it was killed before it could write that */
        arrived += pid > 0;
    }
    CHECK(arrived > 0);
}

/* ---------------------------------------------------------------- break_on_crash */

TEST(with_break_on_crash_one_death_breaks_the_pool) {
    enum { PENDING = 4 };
    for (int which = 0; which < DEATHS; which++) {
        cf_future *running, *pending[PENDING];
        cf_executor *executor =
            processes_with(&(cf_pool_options){.max_workers = 2, .break_on_crash = true});
        atomic_store(&sh->slots, 0);
        occupy_processes(executor, 1, &running);
        cf_future *victim = submit_int(executor, task_die, which);
        for (int i = 0; i < PENDING; i++) {
            pending[i] = submit_none(executor, task_hang);
        }
        CHECK_STATUS(outcome(victim), CF_WORKER_LOST);
        check_lost(victim, death_of(which), arrived_pid(1));
        CHECK_STATUS(outcome(running), CF_BROKEN);
        for (int i = 0; i < PENDING; i++) {
            CHECK_STATUS(outcome(pending[i]), CF_BROKEN);
        }
        CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_BROKEN);
        shut(executor);
        CHECK(!is_alive(arrived_pid(0)));
        cf_future_release(running);
        cf_future_release(victim);
        release_all(pending, PENDING);
    }
}

TEST(with_break_on_crash_the_death_of_an_idle_worker_breaks_the_pool) {
    cf_future *running;
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 2, .break_on_crash = true});
    const pid_t idle = pid_of_a_worker(executor);
    running = submit_none(executor, task_stay); /* takes the idle one, hence another is needed */
    await_arrivals(1);
    cf_future *second = submit_none(executor, task_pid);
    const pid_t other = (pid_t)take_int(second);
    CHECK(other != idle);
    CHECK_EQ(kill(other, SIGKILL), 0);
    CHECK_STATUS(outcome(running), CF_BROKEN);
    CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_BROKEN);
    cf_future_release(running);
    shut(executor);
}

TEST(a_worker_that_leaves_after_its_tasks_breaks_nothing) {
    cf_executor *executor = processes_with(&(cf_pool_options){
        .max_workers = 1, .max_tasks_per_child = 1, .break_on_crash = true});
    for (int i = 0; i < 5; i++) {
        still_works(executor);
    }
    shut(executor);
}

/* ---------------------------------------------------------------- big data */

TEST(a_crash_with_much_data_queued_does_not_block) { /* test_crash_big_data */
    enum { COUNT = 12, SIZE = 10 << 16 };
    unsigned char *data = calloc(1, SIZE);
    cf_future *futures[COUNT];
    cf_executor *executor = processes(2);
    CHECK(data != NULL);
    for (int i = 0; i < COUNT; i++) {
        memcpy(data, &(int){2}, sizeof(int));
        futures[i] =
            cf_executor_submit(executor, i % 3 == 0 ? task_die : task_echo, data, SIZE);
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK_STATUS(take_outcome(futures[i]), i % 3 == 0 ? CF_WORKER_LOST : CF_OK);
    }
    free(data);
    still_works(executor);
    shut(executor);
}

/* The sizes and the moment of the death, for tasks that are killed while results travel. */
typedef struct timed_death {
    uint32_t size, after_us;
} timed_death;

static int task_timed_death(cf_task *task, void *arg) {
    const timed_death *t = arg;
    unsigned char *buffer = cf_task_result_buffer(task, t->size);
    CHECK(buffer != NULL);
    fill(buffer, t->size, t->size);
    const struct itimerval when = {.it_value = {0, 1 + (suseconds_t)t->after_us}};
    CHECK_EQ(setitimer(ITIMER_REAL, &when, NULL), 0); /* before or after the return */
    return 0;
}

TEST(a_result_is_whole_or_its_worker_lost) {
    static const uint32_t sizes[] = {8, 3000, 100000, 1 << 20};
    unsigned char *expected = malloc(1 << 20);
    cf_executor *executor = processes(1);
    uint64_t random = 88172645463325252U;
    CHECK(expected != NULL);
    for (int i = 0; i < 160; i++) {
        const timed_death t = {sizes[i % 4], (uint32_t)(test_random(&random) % 300)};
        cf_status status = CF_SYSTEM;
        cf_future *future = cf_executor_submit(executor, task_timed_death, &t, sizeof t);
        const void *result = cf_future_result(future, limit(8), &status);
        CHECK_EQ(result != NULL, status == CF_OK);
        if (result != NULL) {
            CHECK_EQ(cf_future_result_size(future), t.size);
            fill(expected, t.size, t.size);
            CHECK(memcmp(result, expected, t.size) == 0);
        } else {
            CHECK_STATUS(status, CF_WORKER_LOST);
            CHECK_EQ(cf_future_error_code(future), SIGALRM);
        }
        cf_future_release(future);
    }
    free(expected);
    shut(executor);
}

static int task_returns_and_dies(cf_task *task, void *arg) {
    CHECK_EQ(return_int(task, 1), 0);
    die(*(const int *)arg);
    return 0;
}

TEST(a_result_counts_only_when_the_task_has_returned) {
    cf_executor *executor = processes(1);
    for (int which = 0; which < DEATHS; which++) {
        CHECK_STATUS(take_outcome(submit_int(executor, task_returns_and_dies, which)),
                     CF_WORKER_LOST);
    }
    shut(executor);
}

static int task_exits(cf_task *task, void *arg) {
    (void)task;
    exit(*(const int *)arg);
}

static void mark_exit(void) {
    atomic_fetch_add(&sh->other, 1);
}

TEST(a_task_that_calls_exit_is_lost_with_the_exit_status) {
    cf_executor *executor = processes(1);
    cf_future *future = submit_int(executor, task_exits, 99);
    CHECK_STATUS(outcome(future), CF_WORKER_LOST);
    CHECK_EQ(cf_future_error_code(future), 256 + 99);
    CHECK(says_number(cf_future_error_message(future), 99));
    cf_future_release(future);
    shut(executor);
}

TEST(workers_end_without_the_exit_functions_of_the_host) {
    share();
    CHECK_EQ(atexit(mark_exit), 0);
    cf_executor *executor = processes(2);
    still_works(executor);
    CHECK_STATUS(take_outcome(submit_int(executor, task_die, 3)), CF_WORKER_LOST);
    shut(executor);
    CHECK_EQ(atomic_load(&sh->other), 0);
}

/* ---------------------------------------------------------------- workers that misbehave */

static int task_closes_descriptors(cf_task *task, void *arg) {
    (void)arg;
    for (int fd = 3; fd < 1024; fd++) {
        close(fd);
    }
    return return_int(task, 1);
}

TEST(a_worker_that_closes_all_descriptors_harms_itself_only) {
    cf_executor *executor = processes(2);
    for (int i = 0; i < 5; i++) {
        cf_future *other = submit_int(executor, task_square, 4);
        cf_future *future = submit_none(executor, task_closes_descriptors);
        const cf_status status = take_outcome(future);
        CHECK(status == CF_WORKER_LOST || status == CF_OK);
        (void)take_outcome(other); /* it may have met the dying worker */
    }
    UNTIL(take_outcome(submit_int(executor, task_square, 4)) == CF_OK);
    still_works(executor);
    shut(executor);
}

static int task_babbles(cf_task *task, void *arg) {
    uint64_t random = 88172645463325252U + (uint64_t) * (const int *)arg;
    unsigned char noise[512];
    (void)task;
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < sizeof noise; i++) {
            noise[i] = (unsigned char)test_random(&random);
        }
        for (int fd = 3; fd < 64; fd++) {
            const int flags = fcntl(fd, F_GETFL);
            if (flags != -1) {
                fcntl(fd, F_SETFL, flags | O_NONBLOCK);
                const ssize_t written = write(fd, noise, 1 + (size_t)(test_random(&random) % 512));
                (void)written;
            }
        }
    }
    _exit(3);
}

TEST(a_worker_that_writes_noise_into_every_descriptor_does_not_harm_the_host) {
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL); /* of the test's own pipes; not of the library's */
    cf_executor *executor = processes(2);
    for (int i = 0; i < 40; i++) {
        const cf_status status = take_outcome(submit_int(executor, task_babbles, i));
        CHECK(status == CF_WORKER_LOST || status == CF_OK || status == CF_TASK_FAILED ||
              status == CF_BROKEN || status == CF_NO_MEMORY);
        if (status == CF_BROKEN) {
            cf_executor_close(executor);
            executor = processes(2);
        }
    }
    cf_executor_close(executor);
    executor = processes(1);
    still_works(executor);
    shut(executor);
}

static int task_leaves_a_grandchild(cf_task *task, void *arg) {
    (void)task;
    const pid_t child = fork();
    if (child == 0) {
        arrive(); /* and holds a copy of every descriptor */
        while (atomic_load(&sh->open) == 0) {
            test_pause();
        }
        _exit(0);
    }
    CHECK(child > 0);
    UNTIL(atomic_load(&sh->arrivals) > 0);
    if (*(const int *)arg < DEATHS) {
        die(*(const int *)arg);
    }
    return 0;
}

TEST(a_grandchild_that_holds_the_channel_hides_no_death) {
    cf_executor *executor = processes(1);
    cf_future *future = submit_int(executor, task_leaves_a_grandchild, 2);
    CHECK_STATUS(outcome(future), CF_WORKER_LOST);
    CHECK_EQ(cf_future_error_code(future), SIGKILL);
    cf_future_release(future);
    still_works(executor);
    shut(executor); /* although the grandchild lives */
    open_shared();
    UNTIL(!is_alive(arrived_pid(0)));
}

TEST(a_grandchild_does_not_keep_the_pool_from_closing) {
    cf_executor *executor = processes(1);
    CHECK_STATUS(take_outcome(submit_int(executor, task_leaves_a_grandchild, DEATHS)), CF_OK);
    shut(executor);
    open_shared();
    UNTIL(!is_alive(arrived_pid(0)));
}

/* A jump to nowhere: the buffer was never set. */
static jmp_buf nowhere;

static int task_jumps(cf_task *task, void *arg) {
    const struct rlimit none = {0, 0};
    (void)task;
    (void)arg;
    setrlimit(RLIMIT_CORE, &none);
    memset(&nowhere, 0x5a, sizeof nowhere);
    longjmp(nowhere, 1);
}

/* The main thread of the worker ends, and with it the process. */
static int task_ends_its_thread(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    pthread_exit(NULL);
}

static void *pause_for_ever(void *arg) {
    while (pause() == -1) {
    }
    return arg;
}

/* Here another thread keeps the process. */
static int task_leaves_a_thread(cf_task *task, void *arg) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, pause_for_ever, NULL), 0);
    return task_ends_its_thread(task, arg);
}

static int task_becomes_another_program(cf_task *task, void *arg) {
    const char *const seconds = *(const int *)arg != 0 ? "1000" : "0";
    (void)task;
    arrive();
    execlp("sleep", "sleep", seconds, (char *)NULL);
    _exit(9);
}

static int task_becomes_a_daemon(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    if (fork() == 0) {
        setsid();
        arrive();
        while (atomic_load(&sh->open) == 0) {
            test_pause();
        }
        _exit(0);
    }
    UNTIL(atomic_load(&sh->arrivals) > 0);
    _exit(4);
}

static int use_stack(int pages) {
    volatile char page[4096];
    page[0] = (char)pages;
    return pages == 0 ? 0 : use_stack(pages - 1) + page[0];
}

static int task_overflows_its_stack(cf_task *task, void *arg) {
    const struct rlimit small = {1 << 20, 1 << 20}, none = {0, 0};
    (void)arg;
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_STACK, &small);
    return return_int(task, use_stack(1 << 20));
}

static void check_lost_with(cf_executor *executor, cf_future *future, int code) {
    CHECK_STATUS(outcome(future), CF_WORKER_LOST);
    CHECK(code == 0 || cf_future_error_code(future) == code);
    CHECK(cf_future_error_message(future)[0] != '\0');
    cf_future_release(future);
    still_works(executor);
}

TEST(a_jump_to_nowhere_loses_one_task) {
    cf_executor *executor = processes(1);
    check_lost_with(executor, submit_none(executor, task_jumps), 0);
    shut(executor);
}

TEST(a_stack_that_overflows_loses_one_task) {
    if (is_watched()) {
        SKIP("whoever watches has stacks of its own");
    }
    cf_executor *executor = processes(1);
    check_lost_with(executor, submit_none(executor, task_overflows_its_stack), SIGSEGV);
    shut(executor);
}

TEST(a_task_that_ends_the_thread_of_its_worker_is_lost) {
    if (is_watched()) {
        SKIP("whoever watches has a thread of its own, or something to say");
    }
    cf_executor *executor = processes(1);
    check_lost_with(executor, submit_none(executor, task_ends_its_thread), 256);
    shut(executor);
}

/* Nothing tells that the worker is of no use any more, but the time that passes. */
TEST(a_worker_of_which_only_another_thread_is_left_ends_at_the_deadline) {
    cf_executor *executor = processes(1);
    cf_future *future = submit_timed(executor, task_leaves_a_thread, 50 * CF_MILLISECOND);
    CHECK_STATUS(take_outcome(future), CF_TASK_TIMEOUT);
    still_works(executor);
    shut(executor);
}

/* exec closes the channel. */
TEST(a_task_that_becomes_another_program_is_lost) {
    cf_executor *executor = processes(1);
    check_lost_with(executor, submit_int(executor, task_becomes_another_program, 0), 0);
    check_lost_with(executor, submit_int(executor, task_becomes_another_program, 1), 0);
    CHECK(!is_alive(arrived_pid(0)) && !is_alive(arrived_pid(1)));
    shut(executor);
}

TEST(a_task_that_becomes_a_daemon_is_lost_and_the_daemon_keeps_nobody) {
    cf_executor *executor = processes(1);
    check_lost_with(executor, submit_none(executor, task_becomes_a_daemon), 256 + 4);
    shut(executor);
    CHECK(is_alive(arrived_pid(0))); /* it is the task's own */
    open_shared();
    UNTIL(!is_alive(arrived_pid(0)));
}

/* ---------------------------------------------------------------- the zygote, harmed */

static int task_kills_its_parent(cf_task *task, void *arg) {
    kill(getppid(), *(const int *)arg);
    return task_hang(task, NULL);
}

TEST(a_task_that_kills_the_zygote_breaks_the_pool) {
    cf_future *stay, *pending[20];
    cf_executor *executor = processes(2);
    occupy_processes(executor, 1, &stay);
    cf_future *killer = submit_int(executor, task_kills_its_parent, SIGKILL);
    for (int i = 0; i < 20; i++) {
        pending[i] = submit_none(executor, task_hang);
    }
    const cf_status killed = outcome(killer), stayed = outcome(stay);
    CHECK(killed == CF_WORKER_LOST || killed == CF_BROKEN);
    CHECK(stayed == CF_WORKER_LOST || stayed == CF_BROKEN);
    for (int i = 0; i < 20; i++) {
        CHECK_STATUS(outcome(pending[i]), CF_BROKEN);
    }
    CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_BROKEN);
    end_orphans();
    for (int i = 0; i < atomic_load(&sh->slots); i++) {
        UNTIL(!is_alive(arrived_pid(i)));
    }
    cf_future_release(killer);
    cf_future_release(stay);
    release_all(pending, 20);
    shut(executor);
}

/* What a terminal or a service manager sends to all processes of a group. */
/* Its number is free from then on: a close that waited for it might wait for a stranger. */
TEST(a_zygote_that_died_is_reaped_before_the_pool_is_closed) {
    cf_executor *executor = processes(1);
    const pid_t worker = pid_of_a_worker(executor);
    if (!has_proc()) {
        shut(executor);
        SKIP("there is no /proc here");
    }
    const pid_t zygote = look_at(worker).parent;
    CHECK_EQ(kill(zygote, SIGKILL), 0);
    UNTIL(is_gone(zygote));
    CHECK_STATUS(take_outcome(submit_none(executor, task_pid)), CF_BROKEN);
    shut(executor);
}

TEST(signals_that_are_not_meant_for_the_zygote_do_not_harm_it) {
    static const int signals[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE};
    cf_executor *executor = processes(1);
    const pid_t worker = pid_of_a_worker(executor);
    if (!has_proc()) {
        shut(executor);
        SKIP("there is no /proc here");
    }
    const pid_t zygote = look_at(worker).parent;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        CHECK_EQ(kill(zygote, signals[i]), 0);
        CHECK_EQ(pid_of_a_worker(executor), worker);
    }
    CHECK_EQ(kill(worker, SIGKILL), 0);
    UNTIL(take_outcome(submit_none(executor, task_nothing)) == CF_OK);
    shut(executor);
}

TEST(a_zygote_that_is_stopped_holds_up_starts_and_ends_only) {
    cf_executor *executor = processes(2);
    const pid_t worker = pid_of_a_worker(executor);
    if (!has_proc()) {
        shut(executor);
        SKIP("there is no /proc here");
    }
    const pid_t zygote = look_at(worker).parent;
    CHECK_EQ(kill(zygote, SIGSTOP), 0);
    UNTIL(look_at(zygote).state == 'T');
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(pid_of_a_worker(executor), worker);
    }
    cf_future *futures[2] = {submit_none(executor, task_stay), submit_none(executor, task_stay)};
    await_arrivals(1);
    CHECK(cf_future_cancel(futures[1])); /* it waits for the second worker */
    open_shared();
    CHECK_EQ(take_int(futures[0]), worker);
    CHECK_STATUS(cf_executor_shutdown(executor, 50 * CF_MILLISECOND, CF_RUN_PENDING), CF_TIMEOUT);
    CHECK_EQ(kill(zygote, SIGCONT), 0);
    cf_future_release(futures[1]);
    shut(executor);
}

/* ---------------------------------------------------------------- task deadlines */

static int task_hang_without_sigterm(cf_task *task, void *arg) {
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGTERM, &ignore, NULL);
    return task_hang(task, arg);
}

static int task_spin(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    arrive();
    while (atomic_load(&sh->open) == 0) {
    }
    return 0;
}

static int task_stop(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    sigset_t term; /* waits as it does for a process that is stopped, even if it comes just before */
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    arrive();
    raise(SIGSTOP);
    return 0;
}

static void check_timed_out(cf_executor *executor, cf_task_fn *fn, int arrival) {
    const cf_duration timeout = limit(6) / 100;
    const int64_t begin = now();
    cf_future *future = submit_timed(executor, fn, timeout);
    CHECK_STATUS(outcome(future), CF_TASK_TIMEOUT);
    CHECK(now() - begin >= timeout);
    CHECK(!is_alive(arrived_pid(arrival)));
    CHECK_EQ(cf_future_error_code(future), 0);
    CHECK(cf_future_error_message(future)[0] != '\0');
    cf_future_release(future);
}

TEST(a_task_that_runs_too_long_is_killed) {
    cf_task_fn *const functions[] = {task_hang, task_spin, task_hang_without_sigterm, task_stop};
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .kill_grace = 30 * CF_MILLISECOND});
    for (int i = 0; i < 4; i++) {
        check_timed_out(executor, functions[i], i);
        still_works(executor);
    }
    CHECK_EQ(stats_of(executor).restarts, 4);
    shut(executor);
}

TEST(a_deadline_hurts_no_other_task) {
    cf_future *stay;
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 2, .kill_grace = 10 * CF_MILLISECOND});
    occupy_processes(executor, 1, &stay);
    for (int i = 0; i < 5; i++) {
        check_timed_out(executor, i % 2 == 0 ? task_hang : task_hang_without_sigterm, i + 1);
    }
    CHECK_STATUS(cf_future_wait(stay, 0), CF_TIMEOUT);
    open_shared();
    CHECK_EQ(take_int(stay), arrived_pid(0));
    shut(executor);
}

TEST(a_deadline_counts_from_the_start_of_the_task) {
    cf_future *stay, *queued;
    cf_executor *executor = processes(1);
    occupy_processes(executor, 1, &stay);
    queued = submit_timed(executor, task_pid, 50 * CF_MILLISECOND);
    sleep_for(100 * CF_MILLISECOND); /* what is measured, no means of order */
    CHECK_EQ(cf_future_state(queued), CF_STATE_PENDING);
    open_shared();
    CHECK(take_int(queued) > 0);
    CHECK(take_int(stay) > 0);
    shut(executor);
}

static int task_takes_seconds(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    sleep_for(5 * CF_SECOND / 2);
    return 0;
}

TEST(a_deadline_counts_from_a_start_that_was_seconds_late) {
    if (getenv("CF_TEST_LONG") == NULL) {
        SKIP("it takes 6 seconds: CF_TEST_LONG=1");
    }
    cf_executor *executor = processes(1);
    const pid_t worker = pid_of_a_worker(executor);
    CHECK_EQ(kill(worker, SIGSTOP), 0);
    cf_future *future = submit_timed(executor, task_takes_seconds, 3 * CF_SECOND);
    sleep_for(3 * CF_SECOND - 50 * CF_MILLISECOND);
    CHECK_EQ(kill(worker, SIGCONT), 0);
    CHECK_STATUS(take_outcome(future), CF_OK);
    shut(executor);
}

TEST(a_deadline_that_is_kept_changes_nothing) {
    cf_executor *executor = processes(1);
    const pid_t worker = pid_of_a_worker(executor);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(take_int(submit_timed(executor, task_pid, limit(8))), worker);
        CHECK_EQ(take_int(submit_timed(executor, task_pid, -1)), worker);
        CHECK_EQ(take_int(submit_timed(executor, task_pid, INT64_MAX)), worker);
    }
    shut(executor);
}

static int task_about_a_millisecond(cf_task *task, void *arg) {
    const struct timespec t = {0, *(const int *)arg};
    nanosleep(&t, NULL);
    return return_int(task, (int)getpid());
}

TEST(a_deadline_in_an_hour_leaves_the_manager_asleep) {
    const cf_submit_options options = {.timeout = 3600 * CF_SECOND};
    cf_executor *executor = processes(1);
    cf_future *future = cf_executor_submit_with(executor, task_stay, NULL, 0, &options);
    await_arrivals(1);
    sleep_for(20 * CF_MILLISECOND); /* it goes to sleep, with the deadline in mind */
    open_shared();
    CHECK_STATUS(take_outcome(future), CF_OK);
    shut(executor);
}

TEST(a_deadline_that_races_with_the_result_kills_no_later_task) {
    uint64_t late = 0;
    cf_executor *executor = processes(1);
    for (int i = 0; i < 100; i++) {
        const int length = 500000 + i * 10000;
        cf_future *future =
            cf_executor_submit_with(executor, task_about_a_millisecond, &length, sizeof length,
                                    &(cf_submit_options){.timeout = CF_MILLISECOND});
        cf_future *next = submit_none(executor, task_pid);
        const cf_status status = take_outcome(future);
        CHECK(status == CF_OK || status == CF_TASK_TIMEOUT);
        CHECK_STATUS(take_outcome(next), CF_OK);
        late += status == CF_TASK_TIMEOUT;
    }
    CHECK_EQ(stats_of(executor).failed, late); /* the signal may hit a worker that has just ended it */
    shut(executor);
}

static int task_sees_its_deadline(cf_task *task, void *arg) {
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    (void)arg;
    sigaction(SIGTERM, &ignore, NULL);
    arrive();
    UNTIL(cf_task_stop_requested(task));
    atomic_store(&sh->count, 1);
    return task_hang(task, NULL);
}

TEST(a_task_sees_that_its_deadline_has_passed) {
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .kill_grace = CF_SECOND});
    CHECK_STATUS(take_outcome(submit_timed(executor, task_sees_its_deadline, CF_MILLISECOND)),
                 CF_TASK_TIMEOUT);
    CHECK_EQ(atomic_load(&sh->count), 1);
    shut(executor);
}

TEST(without_a_limit_of_grace_sigterm_is_all) {
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .kill_grace = -1});
    check_timed_out(executor, task_hang, 0);
    cf_future *deaf = submit_timed(executor, task_hang_without_sigterm, CF_MILLISECOND);
    await_arrivals(2);
    CHECK_STATUS(cf_future_wait(deaf, 100 * CF_MILLISECOND), CF_TIMEOUT);
    CHECK(is_alive(arrived_pid(1)));
    CHECK_EQ(kill(arrived_pid(1), SIGKILL), 0);
    CHECK_STATUS(outcome(deaf), CF_TASK_TIMEOUT);
    cf_future_release(deaf);
    still_works(executor);
    shut(executor);
}

TEST(many_deadlines_at_once) {
    enum { COUNT = 12 };
    cf_future *futures[COUNT];
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 4, .kill_grace = 10 * CF_MILLISECOND});
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_timed(executor, i % 3 == 0 ? task_hang_without_sigterm : task_hang,
                                  (5 + i % 4) * CF_MILLISECOND);
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK_STATUS(take_outcome(futures[i]), CF_TASK_TIMEOUT);
    }
    still_works(executor);
    shut(executor);
}

TEST(a_task_that_was_killed_at_its_deadline_has_failed_and_is_not_lost) {
    cf_executor *executor = processes(1);
    check_timed_out(executor, task_hang, 0);
    CHECK_STATUS(take_outcome(submit_int(executor, task_die, 2)), CF_WORKER_LOST);
    const cf_stats stats = stats_of(executor);
    CHECK_EQ(stats.finished, 2);
    CHECK_EQ(stats.failed, 2);
    CHECK_EQ(stats.lost, 1);
    shut(executor);
}

TEST(with_break_on_crash_a_deadline_is_no_crash) {
    cf_executor *executor = processes_with(&(cf_pool_options){
        .max_workers = 1, .break_on_crash = true, .kill_grace = 10 * CF_MILLISECOND});
    check_timed_out(executor, task_hang, 0);
    still_works(executor);
    shut(executor);
}

/* ---------------------------------------------------------------- kill_workers */

TEST(kill_workers_takes_two_signals_and_process_pools_only) {
    cf_executor *threads = pool(1), *here = inline_executor(), *executor = processes(1);
    still_works(executor);
    CHECK_STATUS(cf_executor_kill_workers(NULL, SIGKILL), CF_INVALID);
    CHECK_STATUS(cf_executor_kill_workers(threads, SIGKILL), CF_INVALID);
    CHECK_STATUS(cf_executor_kill_workers(here, SIGTERM), CF_INVALID);
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGINT), CF_INVALID);
    CHECK_STATUS(cf_executor_kill_workers(executor, 0), CF_INVALID);
    still_works(executor);
    still_works(threads);
    cf_executor_close(threads);
    cf_executor_close(here);
    shut(executor);
}

static void kill_all_by(int signal, cf_task_fn *fn, int expected) {
    cf_future *running[2], *pending[6];
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 2, .kill_grace = limit(3) / 100});
    atomic_store(&sh->slots, 0);
    const int before = atomic_load(&sh->arrivals);
    for (int i = 0; i < 2; i++) {
        running[i] = submit_none(executor, fn);
    }
    await_arrivals(before + 2);
    for (int i = 0; i < 6; i++) {
        pending[i] = submit_none(executor, task_stay);
    }
    CHECK_STATUS(cf_executor_kill_workers(executor, signal), CF_OK);
    for (int i = 0; i < 6; i++) {
        CHECK_STATUS(cf_future_wait(pending[i], 0), CF_CANCELLED);
    }
    CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_SHUTDOWN);
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(outcome(running[i]), CF_WORKER_LOST);
        CHECK_EQ(cf_future_error_code(running[i]), expected);
    }
    CHECK_STATUS(cf_executor_kill_workers(executor, signal), CF_OK);
    shut(executor);
    CHECK(!is_alive(arrived_pid(0)) && !is_alive(arrived_pid(1)));
    CHECK_EQ(atomic_load(&sh->arrivals), before + 2);
    release_all(running, 2);
    release_all(pending, 6);
}

TEST(kill_workers_ends_running_and_pending_tasks) {
    kill_all_by(SIGKILL, task_hang, SIGKILL);
    kill_all_by(SIGTERM, task_hang, SIGTERM);
    kill_all_by(SIGTERM, task_hang_without_sigterm, SIGKILL);
    kill_all_by(SIGKILL, task_stop, SIGKILL);
    kill_all_by(SIGTERM, task_stop, SIGKILL);
}

TEST(kill_workers_does_not_wait) {
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .kill_grace = 300 * CF_MILLISECOND});
    cf_future *deaf = submit_none(executor, task_hang_without_sigterm);
    await_arrivals(1);
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGTERM), CF_OK);
    CHECK_STATUS(cf_future_wait(deaf, 0), CF_TIMEOUT);
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGKILL), CF_OK); /* harder, and at once */
    CHECK_STATUS(take_outcome(deaf), CF_WORKER_LOST);
    shut(executor);
}

TEST(kill_workers_before_any_worker_has_started) {
    cf_executor *executor = processes(2);
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGTERM), CF_OK);
    CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_SHUTDOWN);
    shut(executor);
}

TEST(kill_workers_that_are_idle_dead_or_gone) {
    cf_executor *executor = processes(2);
    still_works(executor);
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGTERM), CF_OK);
    shut(executor);
    executor = processes(1);
    CHECK_EQ(kill(pid_of_a_worker(executor), SIGKILL), 0);
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGKILL), CF_OK);
    shut(executor);
    executor = processes(1);
    still_works(executor);
    CHECK_STATUS(cf_executor_shutdown(executor, limit(8), CF_RUN_PENDING), CF_OK);
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGKILL), CF_OK);
    cf_executor_close(executor);
}

TEST(a_complete_result_wins_over_kill_workers) {
    cf_executor *executor = processes(1);
    cf_future *future = submit_int(executor, task_square, 5);
    CHECK_EQ(int_of(future), 25);
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGKILL), CF_OK);
    CHECK_EQ(take_int(future), 25);
    shut(executor);
}

TEST(kill_workers_while_workers_are_being_replaced) {
    for (int round = 0; round < 30; round++) {
        cf_future *futures[20];
        cf_executor *executor =
            processes_with(&(cf_pool_options){.max_workers = 2, .max_tasks_per_child = 1});
        for (int i = 0; i < 20; i++) {
            futures[i] = submit_int(executor, task_square, i);
        }
        (void)cf_future_wait(futures[round % 5], limit(8));
        CHECK_STATUS(cf_executor_kill_workers(executor, round % 2 == 0 ? SIGKILL : SIGTERM), CF_OK);
        for (int i = 0; i < 20; i++) {
            const cf_status status = take_outcome(futures[i]);
            CHECK(status == CF_OK || status == CF_CANCELLED || status == CF_WORKER_LOST);
        }
        shut(executor);
    }
}

/* ---------------------------------------------------------------- deaths around the shutdown */

TEST(a_crash_after_a_shutdown_that_does_not_wait) { /* test_shutdown_deadlock, gh-132969 */
    for (int round = 0; round < 20; round++) {
        cf_future *futures[6];
        cf_executor *executor = processes(2);
        for (int i = 0; i < 6; i++) {
            futures[i] = submit_int(executor, i % 2 == 0 ? task_die : task_square, round % DEATHS);
        }
        const cf_shutdown_mode mode = round % 2 == 0 ? CF_RUN_PENDING : CF_CANCEL_PENDING;
        (void)cf_executor_shutdown(executor, 0, mode);
        for (int i = 0; i < 6; i++) {
            const cf_status status = take_outcome(futures[i]);
            CHECK(status == (i % 2 == 0 ? CF_WORKER_LOST : CF_OK) ||
                  (status == CF_CANCELLED && mode == CF_CANCEL_PENDING));
        }
        shut(executor);
    }
}

TEST(a_worker_that_is_killed_during_the_shutdown) {
    cf_future *stay[3];
    cf_executor *executor = processes(3);
    occupy_processes(executor, 3, stay);
    CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_RUN_PENDING), CF_TIMEOUT);
    CHECK_EQ(kill(arrived_pid(1), SIGKILL), 0);
    open_shared();
    shut(executor);
    int lost = 0;
    for (int i = 0; i < 3; i++) {
        const cf_status status = cf_future_wait(stay[i], 0);
        CHECK(status == CF_OK || status == CF_WORKER_LOST);
        lost += status == CF_WORKER_LOST;
    }
    CHECK(lost <= 1);
    release_all(stay, 3);
}

TEST(all_workers_killed_at_once_again_and_again) {
    enum { WORKERS = 5 };
    cf_executor *executor = processes(WORKERS);
    for (int round = 0; round < 10; round++) {
        cf_future *futures[WORKERS];
        atomic_store(&sh->slots, 0);
        const int before = atomic_load(&sh->arrivals);
        for (int i = 0; i < WORKERS; i++) {
            futures[i] = submit_none(executor, task_hang);
        }
        await_arrivals(before + WORKERS);
        for (int i = 0; i < WORKERS; i++) {
            CHECK_EQ(kill(arrived_pid(i), SIGKILL), 0);
        }
        for (int i = 0; i < WORKERS; i++) {
            CHECK_STATUS(take_outcome(futures[i]), CF_WORKER_LOST);
        }
    }
    still_works(executor);
    shut(executor);
}

TEST(when_every_process_of_the_pool_dies_the_futures_end) {
    for (int round = 0; round < 5; round++) {
        pid_t pids[32];
        cf_future *stay[2], *pending[4];
        cf_executor *executor = processes(2);
        atomic_store(&sh->open, 0);
        occupy_processes(executor, 2, stay);
        for (int i = 0; i < 4; i++) {
            pending[i] = submit_int(executor, task_square, i);
        }
        const size_t count = descendants(pids, 32);
        for (size_t i = 0; i < count; i++) {
            kill(pids[(i + (size_t)round) % count], SIGKILL);
        }
        for (int i = 0; i < 2; i++) {
            const cf_status status = has_proc() ? outcome(stay[i]) : CF_BROKEN;
            CHECK(status == CF_WORKER_LOST || status == CF_BROKEN);
        }
        for (int i = 0; i < 4; i++) {
            const cf_status status = has_proc() ? outcome(pending[i]) : CF_BROKEN;
            CHECK(status == CF_OK || status == CF_BROKEN || status == CF_WORKER_LOST);
        }
        open_shared();
        cf_future *later = submit_none(executor, task_nothing);
        const cf_status status = take_outcome(later);
        CHECK(status == CF_OK || status == CF_BROKEN);
        release_all(stay, 2);
        release_all(pending, 4);
        shut(executor);
    }
}

/* ---------------------------------------------------------------- map */

static int task_square_or_die(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    atomic_fetch_add(&sh->marks[n], 1);
    if (n == 2) {
        die(atomic_load(&sh->other));
    }
    return return_int(task, n * n);
}

TEST(a_death_inside_a_chunk_loses_the_item_that_ran) {
    static const int items[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    cf_executor *executor = processes(2);
    int round = 0;
    for (size_t chunksize = 1; chunksize <= 10; chunksize++, round++) {
        cf_status status = CF_OK;
        atomic_store(&sh->other, round % DEATHS);
        cf_map_iter *iter = cf_executor_map(executor, task_square_or_die, items, 10, sizeof *items,
                                            &(cf_map_options){.chunksize = chunksize});
        for (int i = 0; i < 10; i++) {
            const int *result = cf_map_next(iter, &status);
            CHECK_EQ(cf_map_index(iter), i);
            if (i == 2) {
                CHECK(result == NULL);
                CHECK_STATUS(status, CF_WORKER_LOST);
                CHECK_EQ(cf_map_error_code(iter), death_of(round % DEATHS)->code);
                CHECK(cf_map_error_message(iter)[0] != '\0');
            } else {
                CHECK_STATUS(status, CF_OK);
                CHECK_EQ(*result, i * i);
            }
        }
        CHECK(cf_map_next(iter, &status) == NULL);
        CHECK_STATUS(status, CF_END);
        cf_map_close(iter);
        CHECK_EQ(atomic_load(&sh->marks[2]), round + 1);
    }
    for (int i = 0; i < 10; i++) { /* no item ran twice */
        CHECK_EQ(atomic_load(&sh->marks[i]), round);
    }
    shut(executor);
}

TEST(a_death_inside_map_array_loses_the_item_that_ran) {
    static const int items[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    cf_executor *executor = processes(2);
    for (size_t chunksize = 0; chunksize <= 10; chunksize += 2) {
        int results[10];
        size_t failed = SIZE_MAX;
        atomic_store(&sh->other, 2);
        memset(results, 0xff, sizeof results);
        CHECK_STATUS(cf_executor_map_array(executor, task_square_or_die, items, sizeof *items,
                                           results, sizeof *results, 10,
                                           &(cf_map_options){.chunksize = chunksize}, &failed),
                     CF_WORKER_LOST);
        CHECK_EQ(failed, 2);
        for (int i = 0; i < 10; i++) {
            CHECK_EQ(results[i], i == 2 ? 0 : i * i);
        }
    }
    shut(executor);
}

static int task_die_by_item(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n % 4 != 0) {
        die(n % DEATHS);
    }
    return return_int(task, n);
}

TEST(many_deaths_inside_one_chunk) {
    static const int items[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    cf_executor *executor = processes(1);
    cf_map_iter *iter = cf_executor_map(executor, task_die_by_item, items, 16, sizeof *items,
                                        &(cf_map_options){.chunksize = 16});
    for (int i = 0; i < 16; i++) {
        cf_status status = CF_SYSTEM;
        const int *result = cf_map_next(iter, &status);
        CHECK_STATUS(status, i % 4 == 0 ? CF_OK : CF_WORKER_LOST);
        CHECK_EQ(result != NULL, i % 4 == 0);
    }
    cf_map_close(iter);
    const cf_stats stats = stats_of(executor);
    CHECK_EQ(stats.lost, 1); /* a chunk is one task */
    CHECK_EQ(stats.failed, 1);
    CHECK_EQ(stats.finished, 1);
    shut(executor);
}

static cf_executor *refilled;
static cf_future *late;

/* Between the look at what is left of a chunk, and its return to the queue. */
static void submit_meanwhile(int id) {
    if (id == test_point_lose && late == NULL) {
        late = submit_int(refilled, task_square, 4);
    }
}

/* Its place in the queue is not given away meanwhile: 64 tasks fit without more memory. */
TEST(the_rest_of_a_chunk_pushes_nobody_out_of_the_queue) {
    enum { COUNT = 63 };
    static const int items[4] = {1, 0, 0, 0}; /* the first one dies */
    cf_future *futures[COUNT];
    refilled = processes(1);
    test_point_hook(submit_meanwhile);
    const pid_t worker = pid_of_a_worker(refilled);
    CHECK_EQ(kill(worker, SIGSTOP), 0);
    cf_map_iter *iter = cf_executor_map(refilled, task_die_by_item, items, 4, sizeof *items,
                                        &(cf_map_options){.chunksize = 4});
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_int(refilled, task_square, i);
    }
    CHECK_EQ(kill(worker, SIGCONT), 0);
    for (int i = 0; i < 4; i++) {
        cf_status status = CF_SYSTEM;
        CHECK_EQ(cf_map_next(iter, &status) != NULL, i > 0);
        CHECK_STATUS(status, i > 0 ? CF_OK : CF_WORKER_LOST);
    }
    cf_map_close(iter);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(take_int(futures[i]), i * i);
    }
    CHECK_EQ(take_int(late), 16);
    test_point_hook(NULL);
    shut(refilled);
}

/* More orders to the zygote than fit into its channel: it is stopped, so that none is read. */
TEST(more_orders_than_the_zygote_can_be_sent) {
    enum { WORKERS = 300 };
    static cf_future *futures[WORKERS];
    if (!has_proc() || is_watched()) {
        SKIP("too many processes, or none to look at");
    }
    cf_executor *executor = processes(WORKERS);
    const pid_t zygote = look_at(pid_of_a_worker(executor)).parent;
    CHECK_EQ(kill(zygote, SIGSTOP), 0);
    UNTIL(look_at(zygote).state == 'T');
    for (int i = 0; i < WORKERS; i++) {
        futures[i] = submit_none(executor, task_hang);
    }
    CHECK_STATUS(cf_future_wait(futures[WORKERS - 1], 20 * CF_MILLISECOND), CF_TIMEOUT);
    CHECK_EQ(kill(zygote, SIGCONT), 0);
    await_arrivals(WORKERS);
    CHECK_EQ(kill(zygote, SIGSTOP), 0);
    UNTIL(look_at(zygote).state == 'T');
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGKILL), CF_OK);
    CHECK_EQ(kill(zygote, SIGCONT), 0);
    for (int i = 0; i < WORKERS; i++) {
        CHECK_STATUS(take_outcome(futures[i]), CF_WORKER_LOST);
    }
    shut(executor);
}

TEST(sigterm_goes_to_more_workers_than_the_zygote_can_be_told_of_at_once) {
    enum { WORKERS = 300 };
    static cf_future *futures[WORKERS];
    if (!has_proc() || is_watched()) {
        SKIP("too many processes, or none to look at");
    }
    cf_executor *executor = processes_with(
        &(cf_pool_options){.max_workers = WORKERS, .kill_grace = limit(TEST_GATE_LIMIT_S)});
    for (int i = 0; i < WORKERS; i++) {
        futures[i] = submit_none(executor, task_hang);
    }
    await_arrivals(WORKERS);
    const pid_t zygote = look_at(arrived_pid(0)).parent;
    CHECK_EQ(kill(zygote, SIGSTOP), 0);
    UNTIL(look_at(zygote).state == 'T');
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGTERM), CF_OK);
    CHECK_EQ(kill(zygote, SIGCONT), 0);
    for (int i = 0; i < WORKERS; i++) {
        CHECK_STATUS(outcome(futures[i]), CF_WORKER_LOST);
        CHECK_EQ(cf_future_error_code(futures[i]), SIGTERM);
        cf_future_release(futures[i]);
    }
    shut(executor);
}

TEST_MAIN(
    RUN(a_task_whose_worker_dies_is_lost_and_says_why)
    RUN(nobody_else_notices)
    RUN(a_worker_that_is_killed_while_busy_is_lost)
    RUN(a_worker_that_dies_while_idle_hurts_nobody)
    RUN(a_submit_that_races_with_the_death_of_an_idle_worker_ends)
    RUN(a_big_task_for_a_worker_that_is_dead_can_be_cancelled)
    RUN(a_worker_that_dies_while_starting_is_started_again)
    RUN(workers_that_always_die_while_starting_break_the_pool)
    RUN(a_worker_that_is_killed_while_starting_is_started_again)
    RUN(what_waits_for_a_starting_worker_can_be_cancelled)
    RUN(a_pool_that_is_starting_can_be_killed)
    RUN(with_break_on_crash_one_death_breaks_the_pool)
    RUN(with_break_on_crash_the_death_of_an_idle_worker_breaks_the_pool)
    RUN(a_worker_that_leaves_after_its_tasks_breaks_nothing)
    RUN(a_crash_with_much_data_queued_does_not_block)
    RUN(a_result_is_whole_or_its_worker_lost)
    RUN(a_result_counts_only_when_the_task_has_returned)
    RUN(a_task_that_calls_exit_is_lost_with_the_exit_status)
    RUN(workers_end_without_the_exit_functions_of_the_host)
    RUN(a_worker_that_closes_all_descriptors_harms_itself_only)
    RUN(a_worker_that_writes_noise_into_every_descriptor_does_not_harm_the_host)
    RUN(a_grandchild_that_holds_the_channel_hides_no_death)
    RUN(a_grandchild_does_not_keep_the_pool_from_closing)
    RUN(a_jump_to_nowhere_loses_one_task)
    RUN(a_stack_that_overflows_loses_one_task)
    RUN(a_task_that_ends_the_thread_of_its_worker_is_lost)
    RUN(a_worker_of_which_only_another_thread_is_left_ends_at_the_deadline)
    RUN(a_task_that_becomes_another_program_is_lost)
    RUN(a_task_that_becomes_a_daemon_is_lost_and_the_daemon_keeps_nobody)
    RUN(a_task_that_kills_the_zygote_breaks_the_pool)
    RUN(signals_that_are_not_meant_for_the_zygote_do_not_harm_it)
    RUN(a_zygote_that_died_is_reaped_before_the_pool_is_closed)
    RUN(a_zygote_that_is_stopped_holds_up_starts_and_ends_only)
    RUN(a_task_that_runs_too_long_is_killed)
    RUN(a_deadline_hurts_no_other_task)
    RUN(a_deadline_counts_from_the_start_of_the_task)
    RUN(a_deadline_counts_from_a_start_that_was_seconds_late)
    RUN(a_deadline_that_is_kept_changes_nothing)
    RUN(a_deadline_in_an_hour_leaves_the_manager_asleep)
    RUN(a_deadline_that_races_with_the_result_kills_no_later_task)
    RUN(a_task_sees_that_its_deadline_has_passed)
    RUN(without_a_limit_of_grace_sigterm_is_all)
    RUN(many_deadlines_at_once)
    RUN(a_task_that_was_killed_at_its_deadline_has_failed_and_is_not_lost)
    RUN(with_break_on_crash_a_deadline_is_no_crash)
    RUN(kill_workers_takes_two_signals_and_process_pools_only)
    RUN(kill_workers_ends_running_and_pending_tasks)
    RUN(kill_workers_does_not_wait)
    RUN(kill_workers_before_any_worker_has_started)
    RUN(kill_workers_that_are_idle_dead_or_gone)
    RUN(a_complete_result_wins_over_kill_workers)
    RUN(kill_workers_while_workers_are_being_replaced)
    RUN(a_crash_after_a_shutdown_that_does_not_wait)
    RUN(a_worker_that_is_killed_during_the_shutdown)
    RUN(all_workers_killed_at_once_again_and_again)
    RUN(when_every_process_of_the_pool_dies_the_futures_end)
    RUN(a_death_inside_a_chunk_loses_the_item_that_ran)
    RUN(a_death_inside_map_array_loses_the_item_that_ran)
    RUN(many_deaths_inside_one_chunk)
    RUN(the_rest_of_a_chunk_pushes_nobody_out_of_the_queue)
    RUN_WITHIN(60, more_orders_than_the_zygote_can_be_sent)
    RUN(sigterm_goes_to_more_workers_than_the_zygote_can_be_told_of_at_once)
)
