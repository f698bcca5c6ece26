/* Kernels and containers that lack a system call: what has another way works, what has none is
 * refused with CF_SYSTEM or CF_BROKEN, and nothing hangs. */
#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#include "test.h"

#include "process.h"
#include "refuse.h"

/* What must work although the call is refused. */
typedef struct need {
    const refusal *refusal;
    int error;
    bool threads, processes, descriptors;
} need;

static bool is_ok(cf_status status, bool must) {
    CHECK(status == CF_OK || (!must && status == CF_SYSTEM));
    return status == CF_OK;
}

static void try_threads(bool must) {
    cf_status status = CF_OK;
    cf_executor *ex = cf_thread_pool_new(&(cf_pool_options){.max_workers = 2}, &status);
    if (!is_ok(status, must)) {
        return;
    }
    cf_future *f = submit_int(ex, task_square, 5);
    if (is_ok(outcome(f), must)) {
        CHECK_EQ(int_of(f), 25);
    }
    cf_future_release(f);
    f = promise();
    CHECK_STATUS(cf_future_wait(f, 20 * CF_MILLISECOND), CF_TIMEOUT);
    cf_future_release(f);
    shut(ex);
}

static void try_processes(bool must) {
    cf_status status = CF_OK;
    share();
    cf_executor *ex = cf_process_pool_new(&(cf_pool_options){.max_workers = 2}, &status);
    CHECK_EQ(ex != NULL, status == CF_OK);
    if (!is_ok(status, must)) {
        return;
    }
    const cf_status died = take_outcome(submit_int(ex, task_die, 2));
    if (!must && died == CF_BROKEN) { /* no worker could be started */
        cf_executor_close(ex);
        return;
    }
    CHECK_STATUS(died, CF_WORKER_LOST);
    const size_t big = (size_t)1 << 20;
    unsigned char *bytes = malloc(big);
    CHECK(bytes != NULL);
    fill(bytes, big, 7);
    cf_future *f = cf_executor_submit(ex, task_echo, bytes, big);
    if (is_ok(outcome(f), must)) {
        CHECK(memcmp(cf_future_result(f, 0, NULL), bytes, big) == 0);
    }
    cf_future_release(f);
    free(bytes);
    still_works(ex);
    shut(ex);
}

static void try_descriptors(bool must) {
    cf_future *f = promise();
    cf_as_completed_iter *iter = cf_as_completed(&f, 1, CF_FOREVER);
    CHECK(iter != NULL);
    const int fd = cf_as_completed_fd(iter);
    CHECK(fd >= 0 || !must);
    set_int(f, 3);
    if (fd >= 0) {
        struct pollfd ready = {fd, POLLIN, 0};
        CHECK_EQ(poll(&ready, 1, (int)(limit(TEST_GATE_LIMIT_S) / 1000000)), 1);
    }
    CHECK(cf_as_completed_next(iter, NULL, NULL) == f);
    cf_as_completed_close(iter);
    cf_future_release(f);
}

static void try_all(void *arg) {
    const need *n = arg;
    CHECK(refuse(n->refusal, n->error));
    try_threads(n->threads);
    try_processes(n->processes);
    try_descriptors(n->descriptors);
}

static void try_filter(void *arg) {
    if (!refuse(arg, ENOSYS)) {
        _exit(TEST_EXIT_SKIPPED);
    }
}

/* False: this system takes no filter, or what watches us could not live with one. */
static bool can_refuse(void) {
    const refusal *any = refusal_of(0);
    return any != NULL && !is_watched() && in_child(try_filter, (void *)(uintptr_t)any) == 0;
}

static bool is_any(const char *name, const char *names) {
    return strstr(names, name) != NULL;
}

static void each_refused(int error) {
    const refusal *r = NULL;
    for (size_t i = 0; (r = refusal_of(i)) != NULL; i++) {
        if (r->error != 0) {
            continue;
        }
        /* The libc needs clone3 for threads, unless it is told that there is no such call. */
        const bool threads = error == ENOSYS || !is_any(r->name, "clone3");
        const bool processes = threads && !is_any(r->name, "memfd_create signalfd4 timerfd_create");
        need n = {r, error, threads, processes, !is_any(r->name, "timerfd_create")};
        const int status = in_child(try_all, &n);
        if (status != 0) {
            fprintf(stderr, "%s refused with %s: wait status %d\n", r->name, strerror(error),
                    status);
        }
        CHECK_EQ(status, 0);
    }
}

TEST(a_kernel_without_one_of_the_calls_will_do_or_is_refused) {
    if (!can_refuse()) {
        SKIP("no filter for system calls here");
    }
    each_refused(ENOSYS);
}

TEST(a_container_that_forbids_one_of_the_calls_will_do_or_is_refused) {
    if (!can_refuse()) {
        SKIP("no filter for system calls here");
    }
    each_refused(EPERM);
}

TEST(memory_is_shared_whatever_the_kernel_says_of_executable_memory) {
    if (!can_refuse()) {
        SKIP("no filter for system calls here");
    }
    const refusal *r = NULL;
    for (size_t i = 0; (r = refusal_of(i)) != NULL; i++) {
        if (r->error != 0) {
            need n = {r, r->error, true, true, true};
            CHECK_EQ(in_child(try_all, &n), 0);
        }
    }
}

TEST_MAIN(
    RUN_WITHIN(30, a_kernel_without_one_of_the_calls_will_do_or_is_refused)
    RUN_WITHIN(30, a_container_that_forbids_one_of_the_calls_will_do_or_is_refused)
    RUN(memory_is_shared_whatever_the_kernel_says_of_executable_memory)
)
