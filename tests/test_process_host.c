/* The process pool and the program around it: what it inherits, what it must leave alone, what is
 * left when the host dies. */
#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#include "test.h"

#include "process.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

/* ---------------------------------------------------------------- signals, stdio, errno */

static int task_signals(cf_task *task, void *arg) {
    int report = 0;
    sigset_t mask;
    struct sigaction action;
    (void)arg;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    static const int signals[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,
                                  SIGUSR2, SIGPIPE, SIGALRM, SIGCHLD, SIGSEGV};
    for (int i = 0; i < (int)(sizeof signals / sizeof *signals); i++) {
        sigaction(signals[i], NULL, &action);
        const bool expected = action.sa_handler == (signals[i] == SIGINT ? SIG_IGN : SIG_DFL);
        report |= (sigismember(&mask, signals[i]) != 0 || !expected) << i;
    }
    return return_int(task, report);
}

static atomic_int handled;

static void handle(int signal) {
    (void)signal;
    atomic_fetch_add(&handled, 1);
}

static void set_handler(int signal, void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    CHECK_EQ(sigaction(signal, &action, NULL), 0);
}

TEST(signals_of_a_worker_are_default_and_unblocked_but_sigint_is_ignored) {
    sigset_t all;
    set_handler(SIGUSR1, handle);
    set_handler(SIGUSR2, SIG_IGN);
    set_handler(SIGPIPE, SIG_IGN);
    set_handler(SIGCHLD, handle);
    sigfillset(&all);
    sigdelset(&all, SIGALRM);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .max_tasks_per_child = 1});
    CHECK_EQ(take_int(submit_none(executor, task_signals)), 0);
    CHECK_EQ(take_int(submit_none(executor, task_signals)), 0);
    shut(executor);
}

TEST(an_interrupt_from_the_terminal_reaches_the_host_only) {
    cf_executor *executor = processes(2);
    cf_future *stay;
    set_handler(SIGINT, handle);
    occupy_processes(executor, 1, &stay);
    CHECK_EQ(kill(0, SIGINT), 0); /* the whole process group, as the terminal does */
    UNTIL(atomic_load(&handled) == 1);
    open_shared();
    CHECK_STATUS(take_outcome(stay), CF_OK);
    still_works(executor);
    shut(executor);
}

TEST(the_signals_of_the_host_are_left_alone) {
    sigset_t before, after;
    struct sigaction actions[2];
    memset(&before, 0, sizeof before); /* the C library writes to a part of it only */
    memset(&after, 0, sizeof after);
    set_handler(SIGCHLD, handle);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    cf_executor *executor = processes(2);
    still_works(executor);
    CHECK_STATUS(take_outcome(submit_int(executor, task_die, 2)), CF_WORKER_LOST);
    set_handler(SIGUSR1, handle);
    const int so_far = atomic_load(&handled);
    CHECK_EQ(kill(getpid(), SIGUSR1), 0); /* to whichever thread takes it: this one */
    CHECK(atomic_load(&handled) > so_far);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    CHECK_EQ(memcmp(&before, &after, sizeof before), 0);
    sigaction(SIGCHLD, NULL, &actions[0]);
    sigaction(SIGPIPE, NULL, &actions[1]);
    CHECK(actions[0].sa_handler == handle);
    CHECK(actions[1].sa_handler == SIG_DFL);
    shut(executor);
}

TEST(errno_is_kept) {
    static const int items[4] = {1, 2, 3, 4};
    int results[4];
    errno = 4242;
    cf_executor *executor = processes(2);
    CHECK_EQ(errno, 4242);
    cf_future *future = submit_int(executor, task_square, 3);
    CHECK_EQ(errno, 4242);
    CHECK_STATUS(cf_future_wait(future, limit(8)), CF_OK);
    CHECK_EQ(errno, 4242);
    cf_executor_map_array(executor, task_square, items, sizeof *items, results, sizeof *results, 4,
                          NULL, NULL);
    CHECK_EQ(errno, 4242);
    cf_future_release(future);
    (void)cf_executor_kill_workers(executor, SIGKILL);
    CHECK_EQ(errno, 4242);
    cf_executor_close(executor);
    CHECK_EQ(errno, 4242);
}

static int task_reads_stdin(cf_task *task, void *arg) {
    char byte;
    (void)arg;
    const ssize_t count = read(STDIN_FILENO, &byte, 1);
    return return_int(task, (int)count);
}

TEST(stdin_of_a_worker_is_at_its_end) {
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    const int kept = dup(STDIN_FILENO);
    CHECK(dup2(ends[0], STDIN_FILENO) == STDIN_FILENO);
    CHECK_EQ(write(ends[1], "abc", 3), 3);
    cf_executor *executor = processes(1);
    CHECK_EQ(take_int(submit_none(executor, task_reads_stdin)), 0);
    shut(executor);
    char text[4] = "";
    CHECK_EQ(read(STDIN_FILENO, text, 3), 3); /* nobody took it from the host */
    CHECK_STR(text, "abc");
    if (kept >= 0) {
        dup2(kept, STDIN_FILENO);
        close(kept);
    } else {
        close(STDIN_FILENO);
    }
    close(ends[0]);
    close(ends[1]);
}

static int task_prints(cf_task *task, void *arg) {
    (void)task;
    printf("task %d;", *(const int *)arg);
    fprintf(stderr, "%s", "");
    return 0;
}

/* What arrives until nobody can write any more, or until `enough` bytes. */
static size_t read_output(int fd, char *text, size_t size, size_t enough) {
    size_t length = 0;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (length < enough && poll(&p, 1, (int)(limit(8) / CF_MILLISECOND)) == 1) {
        const ssize_t count = read(fd, text + length, size - 1 - length);
        if (count <= 0) {
            break;
        }
        length += (size_t)count;
    }
    text[length] = '\0';
    return length;
}

TEST(output_of_a_task_is_flushed_after_it_and_that_of_the_host_is_not_repeated) {
    int ends[2];
    char text[256];
    fflush(stdout);
    CHECK_EQ(pipe(ends), 0);
    const int kept = dup(STDOUT_FILENO);
    CHECK(kept >= 0 && dup2(ends[1], STDOUT_FILENO) == STDOUT_FILENO);
    close(ends[1]);
    printf("host;"); /* still in the buffer when the pool forks */
    cf_executor *executor = processes(2);
    fflush(stdout);
    CHECK_EQ(read_output(ends[0], text, sizeof text, 5), 5);
    CHECK_STR(text, "host;");
    for (int i = 0; i < 3; i++) {
        CHECK_STATUS(take_outcome(submit_int(executor, task_prints, i)), CF_OK);
        CHECK_EQ(read_output(ends[0], text, sizeof text, 7), 7);
        snprintf(text + 100, 100, "task %d;", i);
        CHECK_STR(text, text + 100);
    }
    shut(executor);
    fflush(stdout);
    CHECK(dup2(kept, STDOUT_FILENO) == STDOUT_FILENO); /* the last writer: the end of file */
    close(kept);
    CHECK_EQ(read_output(ends[0], text, sizeof text, sizeof text - 1), 0);
    close(ends[0]);
}

/* ---------------------------------------------------------------- descriptors */

static void with_descriptors_closed(void *arg) {
    (void)arg;
    close(0);
    close(1);
    close(2);
    cf_executor *executor = processes(2);
    int bad = 0;
    for (int i = 0; i < 6; i++) {
        cf_future *future = submit_int(executor, task_prints, i);
        bad += outcome(future) != CF_OK;
        cf_future_release(future);
    }
    for (int fd = 0; fd < 3; fd++) {
        bad += fcntl(fd, F_GETFD) != -1; /* nothing of the library's own there */
    }
    bad += take_outcome(submit_int(executor, task_die, 2)) != CF_WORKER_LOST;
    bad += take_outcome(submit_none(executor, task_reads_stdin)) != CF_OK;
    char *data = calloc(1, 1 << 20);
    bad += take_outcome(cf_executor_submit(executor, task_echo, data, 1 << 20)) != CF_OK;
    free(data);
    bad += cf_executor_shutdown(executor, limit(5), CF_RUN_PENDING) != CF_OK;
    cf_executor_close(executor);
    _exit(bad == 0 ? 0 : 10 + bad);
}

TEST(descriptors_0_to_2_may_be_closed) {
    CHECK_EQ(in_child(with_descriptors_closed, NULL), 0);
}

TEST(descriptors_of_the_library_are_closed_on_exec) {
    bool before[1024];
    for (int fd = 0; fd < 1024; fd++) {
        before[fd] = fcntl(fd, F_GETFD) != -1;
    }
    cf_executor *executor = processes(2);
    still_works(executor);
    for (int fd = 0; fd < 1024; fd++) {
        const int flags = fcntl(fd, F_GETFD);
        CHECK(flags == -1 || before[fd] || (flags & FD_CLOEXEC) != 0);
    }
    shut(executor);
}

typedef struct few {
    rlim_t most;
    size_t workers;
} few;

static void with_few_descriptors(void *arg) {
    const few *f = arg;
    const struct rlimit most = {f->most, f->most};
    cf_status status = CF_OK;
    cf_future *futures[16];
    share();
    if (setrlimit(RLIMIT_NOFILE, &most) != 0) {
        _exit(TEST_EXIT_SKIPPED); /* something else keeps descriptors above it */
    }
    cf_executor *executor =
        cf_process_pool_new(&(cf_pool_options){.max_workers = f->workers}, &status);
    if (executor == NULL) {
        CHECK(status == CF_SYSTEM || status == CF_NO_MEMORY);
        _exit(42);
    }
    char *data = calloc(1, 100000);
    CHECK(data != NULL);
    int well = 0;
    for (int i = 0; i < 16; i++) {
        futures[i] = cf_executor_submit(executor, task_echo, data, i % 2 == 0 ? 10 : 100000);
    }
    for (int i = 0; i < 16; i++) {
        status = take_outcome(futures[i]);
        CHECK(status == CF_OK || status == CF_SYSTEM || status == CF_BROKEN ||
              status == CF_NO_MEMORY);
        well += status == CF_OK;
    }
    CHECK_STATUS(cf_executor_shutdown(executor, limit(8), CF_RUN_PENDING), CF_OK);
    cf_executor_close(executor);
    free(data);
    _exit(well == 16 ? 0 : 43);
}

TEST(with_twenty_descriptors_a_pool_works) {
    few f = {20, 2};
    const int status = in_child(with_few_descriptors, &f);
    if (WIFEXITED(status) && WEXITSTATUS(status) == TEST_EXIT_SKIPPED) {
        SKIP("something else keeps descriptors above the limit");
    }
    CHECK_EQ(status, 0);
}

TEST(with_too_few_descriptors_there_is_a_status) {
    for (int most = 3; most < 24; most++) {
        few f = {(rlim_t)most, 8};
        const int status = in_child(with_few_descriptors, &f);
        CHECK(status >= 0 && WIFEXITED(status));
        if (WEXITSTATUS(status) == TEST_EXIT_SKIPPED) {
            SKIP("something else keeps descriptors above the limit");
        }
        CHECK(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 42 || WEXITSTATUS(status) == 43);
    }
}

/* ---------------------------------------------------------------- children of the host */

static void use_pool(void) {
    cf_executor *executor = processes(2);
    for (int i = 0; i < 3; i++) {
        still_works(executor);
        CHECK_STATUS(take_outcome(submit_int(executor, task_die, i)), CF_WORKER_LOST);
    }
    CHECK_STATUS(take_outcome(submit_timed(executor, task_hang, 5 * CF_MILLISECOND)),
                 CF_TASK_TIMEOUT);
    still_works(executor);
    shut(executor);
}

TEST(a_host_that_ignores_sigchld) {
    set_handler(SIGCHLD, SIG_IGN);
    use_pool();
}

typedef struct reaper {
    atomic_bool stop;
    atomic_int own; /* pid of the host's own child */
    atomic_int own_status;
} reaper;

static void *reap_all(void *arg) {
    reaper *r = arg;
    while (!atomic_load(&r->stop)) {
        int status = 0;
        const pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid > 0 && pid == (pid_t)atomic_load(&r->own)) {
            atomic_store(&r->own_status, status);
        } else if (pid <= 0) {
            test_pause();
        }
    }
    return NULL;
}

TEST(a_host_that_reaps_whatever_child_it_has) {
    reaper r = {false, 0, -1};
    pthread_t thread;
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    const pid_t own = fork();
    if (own == 0) {
        char byte;
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 0 ? 33 : 1);
    }
    close(ends[0]);
    atomic_store(&r.own, (int)own);
    spawn(&thread, reap_all, &r);
    for (int i = 0; i < 3; i++) {
        use_pool();
    }
    close(ends[1]);
    UNTIL(atomic_load(&r.own_status) != -1);
    CHECK_EQ(WEXITSTATUS(atomic_load(&r.own_status)), 33);
    atomic_store(&r.stop, true);
    join(thread);
}

TEST(the_children_of_the_host_are_its_own) {
    pid_t children[5];
    for (int i = 0; i < 5; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            _exit(20 + i);
        }
    }
    use_pool();
    for (int i = 0; i < 5; i++) {
        int status = 0;
        CHECK_EQ(waitpid(children[i], &status, 0), children[i]);
        CHECK_EQ(WEXITSTATUS(status), 20 + i);
    }
}

#ifdef PR_SET_CHILD_SUBREAPER
TEST(no_process_is_left_to_whoever_reaps_orphans) {
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) {
        SKIP("the system has no subreapers");
    }
    use_pool();
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    cf_executor *executor = processes(2);
    const int before = atomic_load(&sh->arrivals);
    cf_future *future = submit_none(executor, task_hang);
    await_arrivals(before + 1);
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGKILL), CF_OK);
    CHECK_STATUS(take_outcome(future), CF_WORKER_LOST);
    shut(executor);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}
#else
TEST(no_process_is_left_to_whoever_reaps_orphans) {
    SKIP("the system has no subreapers");
}
#endif

/* ---------------------------------------------------------------- when the host dies */

typedef enum doing { IDLE, BUSY, SPINNING, STOPPED, DEAF, STARTING, KINDS } doing;

static int task_spins(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    arrive();
    while (atomic_load(&sh->open) == 0) {
    }
    return 0;
}

static int task_stops(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    arrive();
    raise(SIGSTOP);
    return 0;
}

static int task_deaf(cf_task *task, void *arg) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    return task_hang(task, arg);
}

static int task_arrives(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    arrive();
    return 0;
}

static int initialise_for_ever(void *arg) {
    (void)arg;
    arrive();
    while (pause() == -1) {
    }
    return 0;
}

/* Makes a pool with two workers in that state, and is killed. */
static void be_a_host(void *arg) {
    static cf_task_fn *const tasks[KINDS] = {task_arrives, task_hang, task_spins,
                                             task_stops,   task_deaf, task_nothing};
    const doing what = *(const doing *)arg;
    cf_executor *executor = processes_with(&(cf_pool_options){
        .max_workers = 2, .initializer = what == STARTING ? initialise_for_ever : NULL});
    cf_future *futures[2];
    futures[0] = submit_none(executor, tasks[what]);
    futures[1] = submit_none(executor, tasks[what]);
    await_arrivals(2);
    if (what == IDLE) {
        CHECK_EQ(cf_wait(futures, 2, CF_ALL_COMPLETED, limit(8), NULL), 2);
    }
    atomic_store(&sh->other, 1);
    for (;;) {
        pause();
    }
}

/* Whatever descends from the host at its death must be gone a second later. */
static void kill_host(pid_t host) {
    pid_t pids[64];
    size_t count = 0, outlived = 0;
    UNTIL(atomic_load(&sh->other) != 0);
    const size_t all = descendants(pids, 64);
    for (size_t i = 0; i < all; i++) {
        if (pids[i] != host) {
            pids[count++] = pids[i];
        }
    }
    CHECK(!has_proc() || count >= 1);
    CHECK_EQ(kill(host, SIGKILL), 0);
    CHECK_EQ(waitpid(host, NULL, 0), host);
    const int64_t deadline = now() + limit(1);
    for (size_t i = 0; i < count; i++) {
        while (is_alive(pids[i]) && now() < deadline) {
            test_pause();
        }
        if (is_alive(pids[i])) {
            kill(pids[i], SIGKILL);
            outlived++;
        }
    }
    CHECK_EQ(outlived, 0);
    for (int i = 0; i < 2 && i < atomic_load(&sh->arrivals); i++) {
        CHECK(!is_alive(arrived_pid(i)));
    }
}

static void kill_host_while(doing what) {
    share();
    const pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        be_a_host(&what);
    }
    kill_host(host);
}

TEST(a_killed_host_leaves_no_idle_worker) {
    kill_host_while(IDLE);
}

TEST(a_killed_host_leaves_no_busy_worker) {
    kill_host_while(BUSY);
}

TEST(a_killed_host_leaves_no_spinning_worker) {
    kill_host_while(SPINNING);
}

TEST(a_killed_host_leaves_no_stopped_worker) {
    kill_host_while(STOPPED);
}

TEST(a_killed_host_leaves_no_worker_that_blocks_all_signals) {
    kill_host_while(DEAF);
}

TEST(a_killed_host_leaves_no_starting_worker) {
    kill_host_while(STARTING);
}

static void be_a_host_that_exits(void *arg) {
    cf_executor *executor = processes(2);
    (void)arg;
    cf_future_release(submit_none(executor, task_hang));
    cf_future_release(submit_none(executor, task_stops));
    await_arrivals(2);
    exit(0); /* without a shutdown */
}

TEST(a_host_that_exits_without_a_shutdown_leaves_no_process) {
    share();
    CHECK_EQ(in_child(be_a_host_that_exits, NULL), 0);
    const int64_t deadline = now() + limit(1);
    for (int i = 0; i < 2; i++) {
        while (is_alive(arrived_pid(i)) && now() < deadline) {
            test_pause();
        }
        CHECK(!is_alive(arrived_pid(i)));
    }
}

TEST(a_killed_host_leaves_none_of_two_pools) {
    share();
    const pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        cf_executor *first = processes(1);
        CHECK(pid_of_a_worker(first) > 0);
        cf_executor *second = processes(1); /* inherits the ends of the first */
        cf_executor *third = processes(1);
        cf_future_release(submit_none(second, task_hang));
        cf_future_release(submit_none(third, task_stops));
        await_arrivals(2);
        cf_future_release(submit_none(first, task_hang));
        await_arrivals(3);
        atomic_store(&sh->other, 1);
        for (;;) {
            pause();
        }
    }
    kill_host(host);
}

static atomic_int before_fork, after_fork;
static pid_t meeting; /* the process whose forks do */

/* Both have made their sockets, and neither has forked. */
static void meet_before_the_fork(void) {
    if (meeting == getpid()) {
        atomic_fetch_add(&before_fork, 1);
        UNTIL(atomic_load(&before_fork) >= 2);
    }
}

/* Both have forked, and neither has done more. */
static void meet_after_the_fork(void) {
    if (meeting == getpid()) {
        atomic_fetch_add(&after_fork, 1);
        UNTIL(atomic_load(&after_fork) >= 2);
    }
}

static void *make_a_pool(void *executor) {
    *(cf_executor **)executor = processes(1);
    return NULL;
}

TEST(a_killed_host_leaves_none_of_two_pools_that_are_made_at_once) {
    share();
    const pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        pthread_t threads[2];
        cf_executor *executors[2];
        (void)pid_of_a_worker(processes(1)); /* the library's own handlers of fork are there */
        CHECK_EQ(pthread_atfork(meet_before_the_fork, meet_after_the_fork, NULL), 0);
        meeting = getpid();
        for (int i = 0; i < 2; i++) {
            spawn(&threads[i], make_a_pool, &executors[i]);
        }
        for (int i = 0; i < 2; i++) {
            join(threads[i]);
            (void)pid_of_a_worker(executors[i]);
        }
        atomic_store(&sh->other, 1);
        for (;;) {
            pause();
        }
    }
    kill_host(host);
}

static int sockets(void) {
    int count = 0;
    for (int fd = 0; fd < 256; fd++) {
        struct stat about;
        count += fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode);
    }
    return count;
}

static void count_sockets(void *expected) {
    CHECK_EQ(sockets(), *(const int *)expected);
}

typedef struct heritage {
    cf_executor *executor;
    int sockets; /* before it was made */
} heritage;

static void make_a_pool_and_close_that_of_the_parent(void *arg) {
    heritage *from = arg;
    cf_executor *own = processes(1);
    still_works(own);
    cf_executor_close(from->executor);
    CHECK_EQ(in_child(count_sockets, &from->sockets), 0);
    still_works(own);
    shut(own);
}

TEST(a_child_has_no_socket_of_its_parents_pool_although_that_closed_an_older_one) {
    heritage from = {NULL, sockets()};
#ifdef TEST_TSAN
    SKIP("gcc's ThreadSanitizer knows no child of a fork that starts threads");
#endif
    from.executor = processes(1);
    still_works(from.executor);
    CHECK_EQ(in_child(make_a_pool_and_close_that_of_the_parent, &from), 0);
    shut(from.executor);
}

TEST(a_child_of_the_host_that_outlives_it_keeps_no_worker_alive) {
    share();
    const pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        cf_executor *executor = processes(2);
        (void)pid_of_a_worker(executor);
        cf_future_release(submit_none(executor, task_hang));
        await_arrivals(1);
        const pid_t child = fork(); /* with a copy of every descriptor */
        if (child == 0) {
            while (atomic_load(&sh->open) == 0) {
                test_pause();
            }
            _exit(0);
        }
        atomic_store(&sh->count, (int)child);
        atomic_store(&sh->other, 1);
        for (;;) {
            pause();
        }
    }
    UNTIL(atomic_load(&sh->other) != 0);
    CHECK_EQ(kill(host, SIGKILL), 0);
    CHECK_EQ(waitpid(host, NULL, 0), host);
    const int64_t deadline = now() + limit(1);
    while (is_alive(arrived_pid(0)) && now() < deadline) {
        test_pause();
    }
    const bool alive = is_alive(arrived_pid(0));
    open_shared();
    UNTIL(!is_alive((pid_t)atomic_load(&sh->count)));
    CHECK(!alive);
}

/* The parent of a worker that has arrived. */
static pid_t zygote_of(pid_t worker) {
    const pid_t zygote = look_at(worker).parent;
    CHECK(zygote > 1);
    return zygote;
}

static void await_deaths(const pid_t *pids, int count) {
    const int64_t deadline = now() + limit(1);
    for (int i = 0; i < count; i++) {
        while (is_alive(pids[i]) && now() < deadline) {
            test_pause();
        }
    }
    for (int i = 0; i < count; i++) {
        CHECK(!is_alive(pids[i]));
    }
}

/* With the zygote, which would have killed them. The system lets it go on when the host, as if started
 * by a shell, leaves no one in its process group; wherever that is not so, the test does. */
static void kill_host_with_stopped_zygote(doing what) {
    share();
    const pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        setpgid(0, 0);
        be_a_host(&what);
    }
    UNTIL(atomic_load(&sh->other) != 0);
    const pid_t pids[3] = {zygote_of(arrived_pid(0)), arrived_pid(0), arrived_pid(1)};
    CHECK_EQ(kill(pids[0], SIGSTOP), 0);
    UNTIL(look_at(pids[0]).state == 'T');
    CHECK_EQ(kill(host, SIGKILL), 0);
    CHECK_EQ(waitpid(host, NULL, 0), host);
    if (what == IDLE) {
        await_deaths(pids + 1, 2); /* they need no zygote for that */
    }
    if (look_at(pids[0]).state == 'T') {
        kill(pids[0], SIGCONT);
    }
    await_deaths(pids, 3);
}

TEST(a_killed_host_leaves_no_process_although_its_zygote_is_stopped) {
    if (!has_proc()) {
        SKIP("there is no /proc here");
    }
    kill_host_with_stopped_zygote(IDLE);
}

TEST(a_killed_host_leaves_no_busy_worker_although_its_zygote_is_stopped) {
    if (!has_proc()) {
        SKIP("there is no /proc here");
    }
    kill_host_with_stopped_zygote(BUSY);
}

/* A worker is a host itself. */
static int task_has_a_pool(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    cf_executor *own = processes(1);
    cf_future_release(submit_none(own, task_hang));
    while (pause() == -1) {
    }
    return 0;
}

TEST(a_killed_host_leaves_no_worker_of_its_workers) {
    share();
    const pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        cf_executor *executor = processes(2);
        cf_future_release(submit_none(executor, task_has_a_pool));
        cf_future_release(submit_none(executor, task_has_a_pool));
        await_arrivals(2);
        atomic_store(&sh->other, 1);
        for (;;) {
            pause();
        }
    }
    kill_host(host);
}

/* The grandchild is the task's own; but what it holds must not keep the pool. */
static int task_leaves_a_child(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    if (fork() == 0) {
        atomic_store(&sh->count, (int)getpid());
        while (atomic_load(&sh->open) == 0) {
            test_pause();
        }
        _exit(0);
    }
    arrive();
    return 0;
}

TEST(a_killed_host_leaves_no_worker_although_a_child_of_a_task_holds_its_descriptors) {
    share();
    const pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        cf_executor *executor = processes(1);
        CHECK_STATUS(take_outcome(submit_none(executor, task_leaves_a_child)), CF_OK);
        UNTIL(atomic_load(&sh->count) != 0);
        atomic_store(&sh->other, 1);
        for (;;) {
            pause();
        }
    }
    UNTIL(atomic_load(&sh->other) != 0);
    const pid_t pids[2] = {arrived_pid(0), has_proc() ? look_at(arrived_pid(0)).parent : 0};
    CHECK_EQ(kill(host, SIGKILL), 0);
    CHECK_EQ(waitpid(host, NULL, 0), host);
    await_deaths(pids, pids[1] > 1 ? 2 : 1);
    open_shared();
    UNTIL(!is_alive((pid_t)atomic_load(&sh->count)));
}

/* Works as fast as it can, with pools that come and go. */
static void be_a_busy_host(void) {
    for (;;) {
        cf_future *futures[8];
        cf_executor *executor =
            processes_with(&(cf_pool_options){.max_workers = 3, .max_tasks_per_child = 2});
        for (int i = 0; i < 8; i++) {
            futures[i] = submit_none(executor, i == 5 ? task_hang : task_arrives);
        }
        cf_future_wait(futures[0], limit(8));
        atomic_store(&sh->other, 1);
        for (int i = 0; i < 5; i++) {
            cf_future_wait(futures[i], limit(8));
        }
        cf_executor_kill_workers(executor, SIGKILL);
        release_all(futures, 8);
        cf_executor_close(executor);
    }
}

#ifdef PR_SET_CHILD_SUBREAPER
/* Orphans become children of this process, so that none can hide. */
TEST(a_host_that_is_killed_at_any_moment_leaves_nothing) {
    uint64_t random = (uint64_t)now() | 1;
    const int64_t start = now();
    share();
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    for (int round = 0; round < 100 && now() - start < limit(2); round++) {
        atomic_store(&sh->other, 0);
        const pid_t host = fork();
        CHECK(host >= 0);
        if (host == 0) {
            be_a_busy_host();
        }
        UNTIL(atomic_load(&sh->other) != 0);
        sleep_for((cf_duration)(test_random(&random) % 20000) * CF_MICROSECOND);
        CHECK_EQ(kill(host, SIGKILL), 0);
        const int64_t deadline = now() + limit(1);
        pid_t reaped;
        while ((reaped = waitpid(-1, NULL, WNOHANG)) != -1) {
            CHECK(now() < deadline);
            if (reaped == 0) {
                test_pause();
            }
        }
    }
}
#else
TEST(a_host_that_is_killed_at_any_moment_leaves_nothing) {
    SKIP("the system has no subreapers");
}
#endif

#ifdef SYS_fork
/* By the system call alone, so that no handler closes anything: as a library with a fork of its own. */
TEST(a_child_with_all_descriptors_of_the_pool_does_not_keep_it_from_closing) {
    cf_executor *executor = processes(2);
    still_works(executor);
    const pid_t child = (pid_t)syscall(SYS_fork);
    if (child == 0) {
        for (;;) {
            pause();
        }
    }
    CHECK(child > 0);
    still_works(executor);
    CHECK_STATUS(take_outcome(submit_int(executor, task_die, 2)), CF_WORKER_LOST);
    still_works(executor);
    shut(executor);
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
}
#else
TEST(a_child_with_all_descriptors_of_the_pool_does_not_keep_it_from_closing) {
    SKIP("the system has no such call");
}
#endif

/* ---------------------------------------------------------------- a host that closes everything */

static bool open_before[256];

static void look_at_descriptors(void) {
    for (int fd = 0; fd < 256; fd++) {
        open_before[fd] = fcntl(fd, F_GETFD) != -1;
    }
}

static void close_all_others(void) {
    for (int fd = 0; fd < 256; fd++) {
        if (!open_before[fd]) {
            close(fd);
        }
    }
}

static void check_ended(cf_future *future) {
    const cf_status status = take_outcome(future);
    CHECK(status == CF_BROKEN || status == CF_WORKER_LOST || status == CF_OK ||
          status == CF_CANCELLED);
}

/* What is open then has numbers that were the pool's. */
static void check_strangers(const int *fds, int count) {
    for (int i = 0; i < count; i++) {
        char byte = 'x';
        CHECK_EQ(pread(fds[i], &byte, 1, 0), 0); /* there, and as empty as they were */
    }
}

/* As a daemon does when it starts, but too late. */
static void close_under_a_pool(void *arg) {
    const int busy = ((const int *)arg)[0], strangers = ((const int *)arg)[1];
    const int times = ((const int *)arg)[2];
    int fds[16];
    cf_future *futures[4];
    look_at_descriptors();
    cf_executor *executor = processes(2);
    const pid_t worker = pid_of_a_worker(executor);
    const pid_t zygote = look_at(worker).parent;
    for (int i = 0; i < busy; i++) {
        futures[i] = submit_none(executor, task_hang);
    }
    await_arrivals(busy < 2 ? busy : 2);
    sleep_for(10 * CF_MILLISECOND); /* the manager sleeps too; without it another way is tested */
    close_all_others();
    for (int i = 0; i < strangers; i++) {
        char name[] = "/tmp/cfutures-XXXXXX";
        fds[i] = mkstemp(name);
        CHECK(fds[i] >= 0);
        unlink(name);
    }
    cf_future *after = submit_int(executor, task_square, 3);
    if (busy == 0) {
        check_ended(after);
        check_ended(submit_int(executor, task_square, 3));
    } else {
        (void)cf_executor_kill_workers(executor, SIGKILL);
        check_ended(after);
    }
    for (int i = 0; i < busy; i++) {
        check_ended(futures[i]);
    }
    for (int i = 1; i < times; i++) {
        sleep_for(150 * CF_MILLISECOND); /* it looks after what was submitted, then sleeps again */
        close_all_others();
    }
    CHECK_STATUS(cf_executor_shutdown(executor, limit(TEST_GATE_LIMIT_S), CF_RUN_PENDING), CF_OK);
    cf_executor_close(executor);
    check_strangers(fds, strangers);
    end_orphans();
    UNTIL(is_gone(zygote) && !is_alive(worker));
    _exit(0);
}

TEST(a_host_that_closes_the_descriptors_of_a_pool_gets_statuses) {
    static int ways[][3] = {{0, 0, 1}, {2, 0, 1}, {0, 12, 1}, {2, 12, 1}, {1, 3, 1}, {0, 0, 2},
                            {2, 0, 2}};
    if (!has_proc()) {
        SKIP("there is no /proc here");
    }
#ifdef TEST_TSAN
    SKIP("to close what another thread uses is the race that it is");
#endif
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        CHECK_EQ(in_child(close_under_a_pool, ways[i]), 0);
    }
}

static void close_under_a_broken_pool(void *arg) {
    (void)arg;
    look_at_descriptors();
    cf_executor *executor = processes(1);
    const pid_t zygote = look_at(pid_of_a_worker(executor)).parent;
    CHECK_EQ(kill(zygote, SIGKILL), 0);
    UNTIL(take_outcome(submit_none(executor, task_nothing)) == CF_BROKEN);
    sleep_for(10 * CF_MILLISECOND); /* the manager sleeps, and no zygote can wake it */
    close_all_others();
    CHECK_STATUS(cf_executor_shutdown(executor, limit(TEST_GATE_LIMIT_S), CF_RUN_PENDING), CF_OK);
    cf_executor_close(executor);
    _exit(0);
}

TEST(a_host_that_closes_the_descriptors_of_a_broken_pool_can_shut_it_down) {
    if (!has_proc()) {
        SKIP("there is no /proc here");
    }
#ifdef TEST_TSAN
    SKIP("to close what another thread uses is the race that it is");
#endif
    CHECK_EQ(in_child(close_under_a_broken_pool, NULL), 0);
}

/* ---------------------------------------------------------------- names that are taken */

#ifndef __linux__
TEST(names_that_a_killed_process_has_left_are_in_nobodys_way) {
    char name[48];
    for (int i = 0; i < 8; i++) { /* as a process of this number would have left them */
        snprintf(name, sizeof name, "/cf%ld-%d", (long)getpid(), i);
        const int fd = shm_open(name, O_RDWR | O_CREAT, 0600);
        CHECK(fd >= 0);
        close(fd);
    }
    static char big[1 << 20]; /* goes by shared memory */
    cf_executor *executor = processes(1);
    cf_future *future = cf_executor_submit(executor, task_echo, big, sizeof big);
    CHECK_STATUS(take_outcome(future), CF_OK);
    shut(executor);
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "/cf%ld-%d", (long)getpid(), i);
        CHECK_EQ(shm_unlink(name), 0);
    }
}

/* Of the descriptors one is free, which is below 3. */
static void share_memory_without_descriptors(void *arg) {
    static char big[1 << 20];
    const struct rlimit few = {64, 64};
    char name[48];
    (void)arg;
    cf_executor *executor = processes(1);
    still_works(executor);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (dup(2) >= 0) {
    }
    close(0);
    cf_future *future = cf_executor_submit(executor, task_echo, big, sizeof big);
    CHECK_STATUS(take_outcome(future), CF_SYSTEM);
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "/cf%ld-%d", (long)getpid(), i);
        CHECK(shm_unlink(name) != 0);
    }
    shut(executor);
}

TEST(memory_that_cannot_be_had_leaves_no_name) {
    CHECK_EQ(in_child(share_memory_without_descriptors, NULL), 0);
}
#else
TEST(names_that_a_killed_process_has_left_are_in_nobodys_way) {
    SKIP("shared memory has no names here");
}

TEST(memory_that_cannot_be_had_leaves_no_name) {
    SKIP("shared memory has no names here");
}
#endif

/* ---------------------------------------------------------------- a host full of threads */

static atomic_bool stop_noise;

static void *allocate(void *arg) {
    (void)arg;
    while (!atomic_load(&stop_noise)) {
        void *volatile blocks[16];
        for (size_t i = 0; i < 16; i++) {
            blocks[i] = malloc(100 + 1000 * i);
        }
        for (size_t i = 0; i < 16; i++) {
            free(blocks[i]);
        }
    }
    return NULL;
}

static int task_allocates(cf_task *task, void *arg) {
    void *volatile block = malloc(100000);
    (void)arg;
    CHECK(block != NULL);
    free(block);
    printf("%s", "");
    return return_int(task, 1);
}

TEST(threads_that_allocate_while_pools_are_made) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        spawn(&threads[i], allocate, NULL);
    }
    for (int i = 0; i < 15; i++) {
        cf_executor *executor = processes(1);
        CHECK_EQ(take_int(submit_none(executor, task_allocates)), 1);
        shut(executor);
    }
    atomic_store(&stop_noise, true);
    for (int i = 0; i < 3; i++) {
        join(threads[i]);
    }
}

static void *hold_stdout(void *arg) {
    gate *g = arg;
    flockfile(stdout);
    gate_arrive(g);
    gate_await(g);
    funlockfile(stdout);
    return NULL;
}

static void with_stdout_held(cf_task_fn *fn, int expected) {
    gate g = GATE_INIT;
    pthread_t thread;
    spawn(&thread, hold_stdout, &g);
    gate_await_arrivals(&g, 1);
    cf_executor *executor = processes(2);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(take_int(submit_int(executor, fn, 3)), expected);
    }
    shut(executor);
    gate_open(&g);
    join(thread);
}

TEST(a_thread_that_holds_stdout_while_the_pool_is_made) {
    with_stdout_held(task_square, 9);
}

TEST(a_task_prints_although_a_thread_held_stdout_while_the_pool_was_made) {
#ifdef __GLIBC__
    with_stdout_held(task_allocates, 1);
#else
    SKIP("this C library may leave it locked in the child of a fork");
#endif
}

TEST(signals_interrupt_nothing) {
    const struct itimerval storm = {{0, 500}, {0, 500}}, none = {{0, 0}, {0, 0}};
    cf_future *futures[400];
    set_handler(SIGALRM, handle); /* without SA_RESTART */
    CHECK_EQ(setitimer(ITIMER_REAL, &storm, NULL), 0);
    char *data = calloc(1, 300000);
    CHECK(data != NULL);
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 2, .max_tasks_per_child = 50});
    for (int i = 0; i < 400; i++) {
        futures[i] = cf_executor_submit(executor, task_echo, data, i % 8 == 0 ? 300000 : 8);
    }
    for (int i = 0; i < 400; i++) {
        CHECK_STATUS(take_outcome(futures[i]), CF_OK);
    }
    shut(executor);
    CHECK_EQ(setitimer(ITIMER_REAL, &none, NULL), 0);
    CHECK(atomic_load(&handled) > 0);
    free(data);
}

static int task_cpu_time(cf_task *task, void *arg) {
    const int64_t used = cpu_time();
    (void)arg;
    return cf_task_return(task, &used, sizeof used);
}

static int64_t take_cpu_time(cf_executor *executor) {
    cf_future *future = submit_none(executor, task_cpu_time);
    const int64_t *used = cf_future_result(future, limit(8), NULL);
    CHECK(used != NULL);
    const int64_t taken = *used;
    cf_future_release(future);
    return taken;
}

TEST(an_idle_pool_uses_no_processor) {
    cf_executor *executor = processes(1);
    still_works(executor);
    const int64_t worker = take_cpu_time(executor);
    const int64_t here = cpu_time();
    sleep_for(500 * CF_MILLISECOND); /* what is measured */
    CHECK(cpu_time() - here < limit(1) / 50);
    CHECK(take_cpu_time(executor) - worker < limit(1) / 50);
    shut(executor);
}

TEST_MAIN(
    RUN(signals_of_a_worker_are_default_and_unblocked_but_sigint_is_ignored)
    RUN(an_interrupt_from_the_terminal_reaches_the_host_only)
    RUN(the_signals_of_the_host_are_left_alone)
    RUN(errno_is_kept)
    RUN(stdin_of_a_worker_is_at_its_end)
    RUN(output_of_a_task_is_flushed_after_it_and_that_of_the_host_is_not_repeated)
    RUN(descriptors_0_to_2_may_be_closed)
    RUN(descriptors_of_the_library_are_closed_on_exec)
    RUN(with_twenty_descriptors_a_pool_works)
    RUN_WITHIN(30, with_too_few_descriptors_there_is_a_status)
    RUN(a_host_that_ignores_sigchld)
    RUN(a_host_that_reaps_whatever_child_it_has)
    RUN(the_children_of_the_host_are_its_own)
    RUN(no_process_is_left_to_whoever_reaps_orphans)
    RUN(a_killed_host_leaves_no_idle_worker)
    RUN(a_killed_host_leaves_no_busy_worker)
    RUN(a_killed_host_leaves_no_spinning_worker)
    RUN(a_killed_host_leaves_no_stopped_worker)
    RUN(a_killed_host_leaves_no_worker_that_blocks_all_signals)
    RUN(a_killed_host_leaves_no_starting_worker)
    RUN(a_host_that_exits_without_a_shutdown_leaves_no_process)
    RUN(a_killed_host_leaves_none_of_two_pools)
    RUN(a_killed_host_leaves_none_of_two_pools_that_are_made_at_once)
    RUN(a_child_has_no_socket_of_its_parents_pool_although_that_closed_an_older_one)
    RUN(a_child_of_the_host_that_outlives_it_keeps_no_worker_alive)
    RUN(a_killed_host_leaves_no_process_although_its_zygote_is_stopped)
    RUN(a_killed_host_leaves_no_busy_worker_although_its_zygote_is_stopped)
    RUN(a_killed_host_leaves_no_worker_of_its_workers)
    RUN(a_killed_host_leaves_no_worker_although_a_child_of_a_task_holds_its_descriptors)
    RUN_WITHIN(20, a_host_that_is_killed_at_any_moment_leaves_nothing)
    RUN(a_child_with_all_descriptors_of_the_pool_does_not_keep_it_from_closing)
    RUN(a_host_that_closes_the_descriptors_of_a_pool_gets_statuses)
    RUN(a_host_that_closes_the_descriptors_of_a_broken_pool_can_shut_it_down)
    RUN(names_that_a_killed_process_has_left_are_in_nobodys_way)
    RUN(memory_that_cannot_be_had_leaves_no_name)
    RUN(threads_that_allocate_while_pools_are_made)
    RUN(a_thread_that_holds_stdout_while_the_pool_is_made)
    RUN(a_task_prints_although_a_thread_held_stdout_while_the_pool_was_made)
    RUN(signals_interrupt_nothing)
    RUN(an_idle_pool_uses_no_processor)
)
