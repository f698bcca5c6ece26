/* Waiting inside tasks and callbacks: the awaited task is run, and what could never end says so. */
#include "test.h"

#include "tasks.h"

/* Waits without a limit, inside a task: a hang is what the tests look for. */
static int take_int(cf_future *future) {
    cf_status status = CF_SYSTEM;
    const int *value = cf_future_result(future, CF_FOREVER, &status);
    CHECK_STATUS(status, CF_OK);
    const int taken = *value;
    cf_future_release(future);
    return taken;
}

static cf_future *submit_int(cf_executor *executor, cf_task_fn *fn, int n) {
    return cf_executor_submit(executor, fn, &n, sizeof n);
}

/* Runs one task to its end and closes the pool. */
static int run_int(cf_executor *executor, cf_task_fn *fn, int n) {
    cf_future *future = submit_int(executor, fn, n);
    const int result = int_of(future);
    cf_future_release(future);
    cf_executor_close(executor);
    return result;
}

static void run(cf_executor *executor, cf_task_fn *fn, void *arg) {
    cf_future *future = cf_executor_submit(executor, fn, arg, 0);
    CHECK_STATUS(outcome(future), CF_OK);
    cf_future_release(future);
    cf_executor_close(executor);
}

/* A future that its own task knows. */
typedef struct self {
    cf_future *future;
    gate known;
} self;
#define SELF_INIT {NULL, GATE_INIT}

static void run_knowing_itself(cf_executor *executor, cf_task_fn *fn) {
    self me = SELF_INIT;
    me.future = cf_executor_submit(executor, fn, &me, 0);
    gate_open(&me.known);
    CHECK_STATUS(outcome(me.future), CF_OK);
    cf_future_release(me.future);
    cf_executor_close(executor);
}

static cf_future *own_future(void *arg) {
    self *me = arg;
    gate_await(&me->known);
    return me->future;
}

/* ---------------------------------------------------------------- the awaited task is run */

static int task_eight(cf_task *task, void *arg) {
    (void)arg;
    return return_int(task, 8);
}

static int task_nested_submit(cf_task *task, void *arg) {
    (void)arg;
    CHECK(cf_task_executor(task) != NULL);
    return return_int(task, take_int(submit_int(cf_task_executor(task), task_eight, 0)));
}

TEST(nested_submit_returns_with_one_worker_as_with_ten) {
    CHECK_EQ(run_int(pool(1), task_nested_submit, 0), 8);
    CHECK_EQ(run_int(pool(10), task_nested_submit, 0), 8);
    CHECK_EQ(run_int(inline_executor(), task_nested_submit, 0), 8);
}

static int task_fib(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n < 2) {
        return return_int(task, n);
    }
    cf_future *first = submit_int(cf_task_executor(task), task_fib, n - 1);
    cf_future *second = submit_int(cf_task_executor(task), task_fib, n - 2);
    const int b = take_int(second);
    return return_int(task, take_int(first) + b);
}

TEST(fib_by_a_task_a_call) {
    for (size_t workers = 1; workers <= 4; workers *= 2) {
        CHECK_EQ(run_int(pool(workers), task_fib, 16), 987);
    }
}

typedef struct range {
    int *base;
    size_t count;
} range;

static size_t partition(int *base, size_t count) {
    const int pivot = base[(count - 1) / 2];
    size_t low = 0, high = count - 1;
    for (;; low++, high--) {
        while (base[low] < pivot) {
            low++;
        }
        while (base[high] > pivot) {
            high--;
        }
        if (low >= high) {
            return high + 1;
        }
        const int kept = base[low];
        base[low] = base[high];
        base[high] = kept;
    }
}

static int task_sort(cf_task *task, void *arg) {
    const range *r = arg;
    if (r->count < 2) {
        return 0;
    }
    const size_t split = partition(r->base, r->count);
    const range halves[2] = {{r->base, split}, {r->base + split, r->count - split}};
    cf_future *futures[2];
    CHECK_STATUS(cf_executor_submit_many(cf_task_executor(task), task_sort, halves, 2,
                                         sizeof halves[0], futures),
                 CF_OK);
    CHECK_EQ(cf_wait(futures, 2, CF_ALL_COMPLETED, CF_FOREVER, NULL), 2);
    release_all(futures, 2);
    return 0;
}

TEST(quicksort_by_nested_tasks) {
    enum { COUNT = 2000 };
    int numbers[COUNT];
    for (size_t workers = 1; workers <= 4; workers *= 2) {
        uint64_t state = 88172645463325252U;
        for (size_t i = 0; i < COUNT; i++) {
            numbers[i] = (int)(test_random(&state) % 1000);
        }
        cf_executor *executor = pool(workers);
        const range all = {numbers, COUNT};
        cf_future *future = cf_executor_submit(executor, task_sort, &all, sizeof all);
        CHECK_STATUS(outcome(future), CF_OK);
        cf_future_release(future);
        cf_executor_close(executor);
        for (size_t i = 1; i < COUNT; i++) {
            CHECK(numbers[i - 1] <= numbers[i]);
        }
    }
}

typedef struct place {
    pthread_t thread;
    size_t worker;
} place;

static int task_place(cf_task *task, void *arg) {
    (void)arg;
    const place here = {pthread_self(), cf_task_worker(task)};
    return cf_task_return(task, &here, sizeof here);
}

static int task_same_place(cf_task *task, void *arg) {
    (void)arg;
    cf_future *child = cf_executor_submit(cf_task_executor(task), task_place, CF_NO_ARG);
    const place *there = cf_future_result(child, CF_FOREVER, NULL);
    CHECK(there != NULL);
    CHECK(pthread_equal(there->thread, pthread_self()));
    CHECK_EQ(there->worker, cf_task_worker(task));
    cf_future_release(child);
    return 0;
}

TEST(the_awaited_task_runs_on_the_stack_of_the_waiter) {
    run(pool(1), task_same_place, NULL);
    cf_executor *executor = pool(3);
    gate g = GATE_INIT;
    occupy(executor, 2, &g);
    cf_future *future = cf_executor_submit(executor, task_same_place, CF_NO_ARG);
    CHECK_STATUS(outcome(future), CF_OK);
    cf_future_release(future);
    gate_open(&g);
    cf_executor_close(executor);
}

static int task_slow(cf_task *task, void *arg) {
    (void)arg;
    sleep_for(10 * CF_MILLISECOND);
    return return_int(task, 1);
}

static int task_slower(cf_task *task, void *arg) {
    (void)arg;
    sleep_for(limit(60) / 1000);
    return return_int(task, 1);
}

/* One worker, so nobody else could have run the children. */
static int task_wait_too_short(cf_task *task, void *arg) {
    const cf_duration timeout = limit(40) / 1000; /* time enough to begin */
    cf_executor *executor = cf_task_executor(task);
    cf_future *children[4];
    (void)arg;
    for (size_t i = 0; i < 4; i++) {
        children[i] = cf_executor_submit(executor, task_slower, CF_NO_ARG);
    }
    CHECK_STATUS(cf_future_wait(children[3], timeout), CF_OK);
    CHECK(cf_future_result(children[1], timeout, NULL) != NULL);
    CHECK_EQ(cf_wait(&children[2], 1, CF_ALL_COMPLETED, timeout, NULL), 1);
    cf_as_completed_iter *iter = cf_as_completed(children, 1, timeout);
    CHECK(cf_as_completed_next(iter, NULL, NULL) == children[0]);
    cf_as_completed_close(iter);
    release_all(children, 4);
    return 0;
}

TEST(the_awaited_task_may_outlast_a_finite_timeout) {
    run(pool(1), task_wait_too_short, NULL);
}

/* Ten tasks of 10 ms: the deadline ends the claiming, though not the task that runs. */
static int task_wait_for_many_too_short(cf_task *task, void *arg) {
    enum { COUNT = 10 };
    cf_executor *executor = cf_task_executor(task);
    cf_future *children[COUNT];
    (void)arg;
    for (size_t i = 0; i < COUNT; i++) {
        children[i] = cf_executor_submit(executor, task_slow, CF_NO_ARG);
    }
    const size_t ended = cf_wait(children, COUNT, CF_ALL_COMPLETED, 15 * CF_MILLISECOND, NULL);
    CHECK(ended < COUNT); /* on a slow machine none */
    cf_as_completed_iter *iter = cf_as_completed(children, COUNT, CF_MILLISECOND);
    sleep_for(2 * CF_MILLISECOND);
    cf_status status = CF_OK;
    for (size_t i = 0; i < ended; i++) {
        CHECK(cf_as_completed_next(iter, NULL, NULL) != NULL);
    }
    CHECK(cf_as_completed_next(iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_TIMEOUT);
    cf_as_completed_close(iter);
    release_all(children, COUNT);
    return 0;
}

TEST(a_deadline_that_has_passed_runs_no_further_task) {
    run(pool(1), task_wait_for_many_too_short, NULL);
}

static int task_map_too_short(cf_task *task, void *arg) {
    enum { COUNT = 10 };
    int items[COUNT] = {0};
    (void)arg;
    const cf_map_options options = {.timeout = 15 * CF_MILLISECOND};
    cf_map_iter *iter = cf_executor_map(cf_task_executor(task), task_slow, items, COUNT,
                                        sizeof items[0], &options);
    cf_status status = CF_OK;
    size_t delivered = 0;
    while (cf_map_next(iter, &status) != NULL) {
        delivered++;
    }
    CHECK_STATUS(status, CF_TIMEOUT);
    CHECK(delivered < COUNT); /* on a slow machine none */
    cf_map_close(iter);
    return 0;
}

TEST(a_map_in_a_task_ends_at_its_deadline) {
    run(pool(1), task_map_too_short, NULL);
}

static int task_map_array_too_short(cf_task *task, void *arg) {
    enum { COUNT = 10 };
    int items[COUNT] = {0}, results[COUNT];
    size_t failed = COUNT;
    (void)arg;
    const cf_map_options options = {.timeout = 15 * CF_MILLISECOND};
    CHECK_STATUS(cf_executor_map_array(cf_task_executor(task), task_slow, items, sizeof items[0],
                                       results, sizeof results[0], COUNT, &options, &failed),
                 CF_TIMEOUT);
    CHECK(failed < COUNT && results[COUNT - 1] == 0);
    return 0;
}

TEST(a_map_array_in_a_task_ends_at_its_deadline) {
    run(pool(1), task_map_array_too_short, NULL);
}

static int task_poll(cf_task *task, void *arg) {
    atomic_int *ran = arg;
    cf_future *child = cf_executor_submit(cf_task_executor(task), task_count, ran, 0);
    cf_status status = CF_OK;
    CHECK_STATUS(cf_future_wait(child, 0), CF_TIMEOUT);
    CHECK(cf_future_result(child, 0, &status) == NULL);
    CHECK_STATUS(status, CF_TIMEOUT);
    CHECK_EQ(cf_wait(&child, 1, CF_ALL_COMPLETED, 0, NULL), 0);
    cf_as_completed_iter *iter = cf_as_completed(&child, 1, 0);
    CHECK(cf_as_completed_next(iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_TIMEOUT);
    cf_as_completed_close(iter);
    CHECK_EQ(cf_future_state(child), CF_STATE_PENDING);
    CHECK_EQ(atomic_load(ran), 0);
    cf_future_release(child);
    return 0;
}

TEST(a_poll_runs_nothing) {
    atomic_int ran = 0;
    run(pool(1), task_poll, &ran);
    CHECK_EQ(atomic_load(&ran), 1);
}

TEST(a_thread_that_is_no_worker_runs_nothing) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    atomic_int ran = 0;
    occupy(executor, 1, &g);
    cf_future *future = cf_executor_submit(executor, task_count, &ran, 0);
    CHECK_STATUS(cf_future_wait(future, 10 * CF_MILLISECOND), CF_TIMEOUT);
    CHECK_EQ(cf_wait(&future, 1, CF_ALL_COMPLETED, 10 * CF_MILLISECOND, NULL), 0);
    CHECK_EQ(atomic_load(&ran), 0);
    CHECK_EQ(cf_future_state(future), CF_STATE_PENDING);
    gate_open(&g);
    CHECK_STATUS(outcome(future), CF_OK);
    cf_future_release(future);
    cf_executor_close(executor);
}

static int task_wait_elsewhere(cf_task *task, void *arg) {
    (void)task;
    cf_future *future = cf_executor_submit(arg, task_place, CF_NO_ARG);
    const place *there = cf_future_result(future, CF_FOREVER, NULL);
    CHECK(there != NULL);
    CHECK(!pthread_equal(there->thread, pthread_self()));
    cf_future_release(future);
    return 0;
}

TEST(a_task_of_another_pool_is_run_by_that_pool) {
    cf_executor *other = pool(1);
    run(pool(1), task_wait_elsewhere, other);
    cf_executor_close(other);
}

static int task_fail_five(cf_task *task, void *arg) {
    (void)arg;
    return cf_task_fail(task, 5, "five");
}

static int task_children_that_end_badly(cf_task *task, void *arg) {
    cf_executor *executor = cf_task_executor(task);
    cf_future *failing = cf_executor_submit(executor, task_fail_five, CF_NO_ARG);
    cf_future *cancelled = cf_executor_submit(executor, task_count, arg, 0);
    CHECK_STATUS(cf_future_wait(failing, CF_FOREVER), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(failing), 5);
    CHECK_STR(cf_future_error_message(failing), "five");
    CHECK(cf_future_cancel(cancelled));
    CHECK_STATUS(cf_future_wait(cancelled, CF_FOREVER), CF_CANCELLED);
    cf_future_release(failing);
    cf_future_release(cancelled);
    return 0;
}

TEST(the_outcome_of_a_child_is_what_it_was) {
    atomic_int ran = 0;
    run(pool(1), task_children_that_end_badly, &ran);
    CHECK_EQ(atomic_load(&ran), 0);
}

static int task_await_shared(cf_task *task, void *arg) {
    cf_future *shared = own_future(arg);
    (void)task;
    CHECK_STATUS(cf_future_wait(shared, CF_FOREVER), CF_OK);
    return 0;
}

TEST(many_tasks_may_wait_for_the_same_pending_one) {
    enum { WAITERS = 10 };
    for (size_t workers = 1; workers <= 4; workers++) {
        cf_executor *executor = pool(workers);
        self shared = SELF_INIT;
        atomic_int ran = 0;
        cf_future *waiters[WAITERS];
        for (size_t i = 0; i < WAITERS; i++) {
            waiters[i] = cf_executor_submit(executor, task_await_shared, &shared, 0);
        }
        shared.future = cf_executor_submit(executor, task_count, &ran, 0);
        gate_open(&shared.known);
        for (size_t i = 0; i < WAITERS; i++) {
            CHECK_STATUS(outcome(waiters[i]), CF_OK);
        }
        CHECK_EQ(atomic_load(&ran), 1);
        release_all(waiters, WAITERS);
        cf_future_release(shared.future);
        cf_executor_close(executor);
    }
}

/* ---------------------------------------------------------------- the other waits in tasks */

enum { CHILDREN = 100 };

static void submit_children(cf_executor *executor, cf_future **children) {
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = submit_int(executor, task_square, i);
    }
}

static int task_wait_for_children(cf_task *task, void *arg) {
    cf_future *children[CHILDREN];
    bool done[CHILDREN] = {false};
    (void)arg;
    submit_children(cf_task_executor(task), children);
    CHECK(cf_wait(children, CHILDREN, CF_FIRST_COMPLETED, CF_FOREVER, NULL) >= 1);
    CHECK_EQ(cf_wait(children, CHILDREN, CF_FIRST_EXCEPTION, CF_FOREVER, NULL), CHILDREN);
    CHECK_EQ(cf_wait(children, CHILDREN, CF_ALL_COMPLETED, CF_FOREVER, done), CHILDREN);
    for (int i = 0; i < CHILDREN; i++) {
        CHECK(done[i]);
        CHECK_EQ(take_int(children[i]), i * i);
    }
    return 0;
}

static int task_iterate_over_children(cf_task *task, void *arg) {
    cf_future *children[CHILDREN];
    (void)arg;
    submit_children(cf_task_executor(task), children);
    cf_as_completed_iter *iter = cf_as_completed(children, CHILDREN, CF_FOREVER);
    for (size_t i = 0; i < CHILDREN; i++) {
        size_t index = 0;
        cf_status status = CF_SYSTEM;
        cf_future *child = cf_as_completed_next(iter, &index, &status);
        CHECK_STATUS(status, CF_OK);
        CHECK_EQ(take_int(child), index * index);
    }
    cf_status status = CF_OK;
    CHECK(cf_as_completed_next(iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_END);
    cf_as_completed_close(iter);
    return 0;
}

static int task_map_children(cf_task *task, void *arg) {
    const cf_map_options shapes[] = {
        {.chunksize = 0},  {.chunksize = 7},
        {.buffersize = 3}, {.buffersize = 10, .chunksize = 4, .unordered = true},
        {.unordered = true}};
    int items[CHILDREN], results[CHILDREN];
    (void)arg;
    for (int i = 0; i < CHILDREN; i++) {
        items[i] = i;
    }
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        cf_map_iter *iter = cf_executor_map(cf_task_executor(task), task_square, items, CHILDREN,
                                            sizeof items[0], &shapes[s]);
        for (size_t i = 0; i < CHILDREN; i++) {
            cf_status status = CF_SYSTEM;
            const int *result = cf_map_next(iter, &status);
            CHECK_STATUS(status, CF_OK);
            CHECK_EQ(*result, cf_map_index(iter) * cf_map_index(iter));
        }
        CHECK(cf_map_next(iter, NULL) == NULL);
        cf_map_close(iter);
        memset(results, 0, sizeof results);
        CHECK_STATUS(cf_executor_map_array(cf_task_executor(task), task_square, items,
                                           sizeof items[0], results, sizeof results[0], CHILDREN,
                                           &shapes[s], NULL),
                     CF_OK);
        CHECK_EQ(results[CHILDREN - 1], (CHILDREN - 1) * (CHILDREN - 1));
    }
    return 0;
}

static void run_crowded(cf_task_fn *fn) {
    enum { PARENTS = 6 };
    for (size_t workers = 1; workers <= 4; workers++) {
        cf_executor *executor = pool(workers);
        cf_future *parents[PARENTS];
        for (size_t i = 0; i < PARENTS; i++) {
            parents[i] = cf_executor_submit(executor, fn, CF_NO_ARG);
        }
        for (size_t i = 0; i < PARENTS; i++) {
            CHECK_STATUS(outcome(parents[i]), CF_OK);
        }
        release_all(parents, PARENTS);
        cf_executor_close(executor);
    }
}

TEST(tasks_wait_for_their_children) {
    run_crowded(task_wait_for_children);
}

TEST(tasks_iterate_over_their_children) {
    run_crowded(task_iterate_over_children);
}

TEST(tasks_map_in_their_own_pool) {
    run_crowded(task_map_children);
}

static int task_map_of_maps(cf_task *task, void *arg) {
    const int depth = *(const int *)arg;
    if (depth == 0) {
        return return_int(task, 1);
    }
    const int items[3] = {depth - 1, depth - 1, depth - 1};
    int results[3];
    CHECK_STATUS(cf_executor_map_array(cf_task_executor(task), task_map_of_maps, items,
                                       sizeof items[0], results, sizeof results[0], 3, NULL, NULL),
                 CF_OK);
    int sum = 0;
    cf_map_iter *iter = cf_executor_map(cf_task_executor(task), task_map_of_maps, items, 1,
                                        sizeof items[0], NULL);
    const int *again = cf_map_next(iter, NULL);
    CHECK(again != NULL);
    CHECK_EQ(*again, results[0]);
    cf_map_close(iter);
    for (size_t i = 0; i < 3; i++) {
        sum += results[i];
    }
    return return_int(task, sum);
}

TEST(maps_nest) {
    for (size_t workers = 1; workers <= 4; workers *= 2) {
        CHECK_EQ(run_int(pool(workers), task_map_of_maps, 4), 81);
    }
}

/* A task that the inline executor runs on a worker waits as that worker. */
static int task_wait_in_inline(cf_task *task, void *arg) {
    (void)task;
    return return_int(task, take_int(submit_int(arg, task_square, 3)));
}

static int task_inline_inside(cf_task *task, void *arg) {
    cf_executor *here = inline_executor();
    (void)arg;
    cf_future *future =
        cf_executor_submit(here, task_wait_in_inline, cf_task_executor(task), 0);
    CHECK_EQ(take_int(future), 9);
    cf_executor_close(here);
    return 0;
}

TEST(an_inline_task_on_a_worker_waits_as_that_worker) {
    run(pool(1), task_inline_inside, NULL);
}

/* ---------------------------------------------------------------- depth */

static int task_chain(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n == 0) {
        CHECK(thread_count() < 400); /* not a thread a level */
        return return_int(task, 0);
    }
    return return_int(task, take_int(submit_int(cf_task_executor(task), task_chain, n - 1)) + 1);
}

TEST(two_thousand_levels_with_one_worker) {
    CHECK_EQ(run_int(pool(1), task_chain, 2000), 2000);
}

TEST(two_thousand_levels_with_four_workers) {
    CHECK_EQ(run_int(pool(4), task_chain, 2000), 2000);
}

/* More than one stack could hold, whatever its size. */
TEST(twenty_thousand_levels_with_one_worker) {
    CHECK_EQ(run_int(pool(1), task_chain, 20000), 20000);
}

TEST(twenty_thousand_levels_on_a_small_stack) {
    if (strncmp(test_backend(), "c11", 3) == 0) {
        SKIP("C11 threads have no stack size");
    }
    cf_executor *executor =
        pool_with(&(cf_pool_options){.max_workers = 1, .stack_size = (size_t)2 << 20});
    CHECK_EQ(run_int(executor, task_chain, 20000), 20000);
}

TEST(several_deep_chains_at_once) {
    enum { CHAINS = 4 };
    cf_executor *executor = pool(2);
    cf_future *chains[CHAINS];
    for (int i = 0; i < CHAINS; i++) {
        chains[i] = submit_int(executor, task_chain, 1000 + i);
    }
    for (int i = 0; i < CHAINS; i++) {
        CHECK_EQ(int_of(chains[i]), 1000 + i);
    }
    release_all(chains, CHAINS);
    cf_executor_close(executor);
}

static int task_chain_by_wait(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n == 0) {
        return return_int(task, 0);
    }
    cf_future *next = submit_int(cf_task_executor(task), task_chain_by_wait, n - 1);
    if (n % 2 == 0) {
        CHECK_EQ(cf_wait(&next, 1, CF_ALL_COMPLETED, CF_FOREVER, NULL), 1);
    } else {
        cf_as_completed_iter *iter = cf_as_completed(&next, 1, CF_FOREVER);
        CHECK(cf_as_completed_next(iter, NULL, NULL) == next);
        cf_as_completed_close(iter);
    }
    return return_int(task, take_int(next) + 1);
}

TEST(two_thousand_levels_by_wait_and_as_completed) {
    CHECK_EQ(run_int(pool(1), task_chain_by_wait, 2000), 2000);
}

static int task_chain_by_map(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    const int below = n - 1;
    int result = -1;
    if (n == 0) {
        return return_int(task, 0);
    }
    if (n % 2 == 0) {
        CHECK_STATUS(cf_executor_map_array(cf_task_executor(task), task_chain_by_map, &below,
                                           sizeof below, &result, sizeof result, 1, NULL, NULL),
                     CF_OK);
        return return_int(task, result + 1);
    }
    cf_map_iter *iter =
        cf_executor_map(cf_task_executor(task), task_chain_by_map, &below, 1, sizeof below, NULL);
    const int *next = cf_map_next(iter, NULL);
    CHECK(next != NULL);
    result = *next;
    cf_map_close(iter);
    return return_int(task, result + 1);
}

TEST(two_thousand_levels_by_map) {
    CHECK_EQ(run_int(pool(1), task_chain_by_map, 2000), 2000);
}

typedef struct bottom {
    int n;
    self *top;
} bottom;

static int task_chain_to_the_top(cf_task *task, void *arg) {
    const bottom *b = arg;
    if (b->n == 0) {
        CHECK_STATUS(cf_future_wait(own_future(b->top), CF_FOREVER), CF_DEADLOCK);
        return return_int(task, 0);
    }
    const bottom below = {b->n - 1, b->top};
    cf_future *next =
        cf_executor_submit(cf_task_executor(task), task_chain_to_the_top, &below, sizeof below);
    return return_int(task, take_int(next) + 1);
}

TEST(the_bottom_of_a_deep_chain_may_not_wait_for_its_top) {
    for (int depth = 1; depth <= 1600; depth += 533) {
        cf_executor *executor = pool(1);
        self top = SELF_INIT;
        const bottom all = {depth, &top};
        top.future = cf_executor_submit(executor, task_chain_to_the_top, &all, sizeof all);
        gate_open(&top.known);
        CHECK_EQ(int_of(top.future), depth);
        cf_future_release(top.future);
        cf_executor_close(executor);
    }
}

typedef struct passed_on {
    cf_future *of_the_other; /* submitted to the pool that gets the iterator */
    cf_as_completed_iter *iter;
    gate here;
} passed_on;

static int take_own_and_pass_on(cf_task *task, void *arg) {
    passed_on *p = arg;
    cf_future *own = cf_executor_submit(cf_task_executor(task), task_nothing, CF_NO_ARG);
    p->iter = cf_as_completed((cf_future *[]){p->of_the_other, own}, 2, CF_FOREVER);
    CHECK(cf_as_completed_next(p->iter, NULL, NULL) == own);
    cf_future_release(own);
    gate_open(&p->here);
    return 0;
}

static int take_what_is_left(cf_task *task, void *arg) {
    passed_on *p = arg;
    (void)task;
    gate_await(&p->here);
    cf_status status = CF_SYSTEM;
    const cf_future *left = cf_as_completed_next(p->iter, NULL, &status);
    CHECK_STATUS(status, CF_OK);
    CHECK(left == p->of_the_other);
    cf_as_completed_close(p->iter);
    return 0;
}

TEST(an_iterator_that_changes_pools_runs_the_new_ones_tasks) {
    cf_executor *first = pool(1), *second = pool(1);
    passed_on p = {NULL, NULL, GATE_INIT};
    cf_future *taker = cf_executor_submit(second, take_what_is_left, &p, 0);
    p.of_the_other = cf_executor_submit(second, task_nothing, CF_NO_ARG);
    cf_future *giver = cf_executor_submit(first, take_own_and_pass_on, &p, 0);
    CHECK_STATUS(outcome(giver), CF_OK);
    CHECK_STATUS(outcome(taker), CF_OK);
    release_all((cf_future *[]){giver, taker, p.of_the_other}, 3);
    cf_executor_close(first);
    cf_executor_close(second);
}

typedef struct descent {
    cf_executor *pool, *surface;
    cf_status status;
    int depth;
} descent;

static int shut_down_the_surface(cf_task *task, void *arg) {
    descent *d = arg;
    if (d->depth-- == 0) {
        d->status = cf_executor_shutdown(d->surface, limit(1), CF_RUN_PENDING);
        return 0;
    }
    cf_future *f = cf_executor_submit(d->pool, shut_down_the_surface, d, 0);
    (void)task;
    const cf_status status = outcome(f);
    cf_future_release(f);
    return status != CF_OK;
}

static int submit_to_the_surface(cf_task *task, void *arg) {
    descent *d = arg;
    (void)task;
    fire(d->surface, shut_down_the_surface, d);
    return 0;
}

/* Down there another thread goes on, but it is still the task of the inline executor that waits. */
TEST(the_bottom_of_a_deep_chain_is_inside_of_what_its_top_is_in) {
    descent d = {pool(1), inline_executor(), CF_SYSTEM, 1000};
    cf_future *f = cf_executor_submit(d.pool, submit_to_the_surface, &d, 0);
    CHECK_STATUS(outcome(f), CF_OK);
    CHECK_STATUS(d.status, CF_DEADLOCK);
    cf_future_release(f);
    cf_executor_close(d.pool);
    cf_executor_close(d.surface);
}

/* ---------------------------------------------------------------- cycles */

enum { KNOT_MAX = 8, KNOT_CODE = 35 };

/* Members that each wait for the next one, the last for the first. */
typedef struct knot {
    cf_future *futures[KNOT_MAX];
    size_t count;
    gate start;
    bool together; /* all of them run before the first waits */
    atomic_int deadlocks;
    cf_status seen[KNOT_MAX];
} knot;
#define KNOT_INIT(n, all_run) {.count = (n), .start = GATE_INIT, .together = (all_run)}

typedef struct member {
    knot *knot;
    size_t index;
} member;

static int task_member(cf_task *task, void *arg) {
    const member *m = arg;
    knot *k = m->knot;
    (void)task;
    gate_arrive(&k->start);
    gate_await(&k->start);
    const cf_status status = cf_future_wait(k->futures[(m->index + 1) % k->count], CF_FOREVER);
    k->seen[m->index] = status;
    if (status != CF_DEADLOCK) {
        return 0;
    }
    atomic_fetch_add(&k->deadlocks, 1);
    return KNOT_CODE;
}

/* Member i runs in executors[i % executor_count]. Waits until all have ended. */
static void tie(knot *k, cf_executor *const *executors, size_t executor_count) {
    for (size_t i = 0; i < k->count; i++) {
        const member m = {k, i};
        k->futures[i] =
            cf_executor_submit(executors[i % executor_count], task_member, &m, sizeof m);
    }
    if (k->together) {
        gate_await_arrivals(&k->start, k->count);
    }
    gate_open(&k->start);
    for (size_t i = 0; i < k->count; i++) {
        const cf_status status = outcome(k->futures[i]);
        CHECK_STATUS(status, k->seen[i] == CF_DEADLOCK ? CF_TASK_FAILED : CF_OK);
    }
}

/* One was told; the one before it saw that one fail, all others saw a success. */
static void one_was_told(knot *k) {
    CHECK_EQ(atomic_load(&k->deadlocks), 1);
    for (size_t i = 0; i < k->count; i++) {
        if (k->seen[i] == CF_DEADLOCK) {
            continue;
        }
        const bool before = k->seen[(i + 1) % k->count] == CF_DEADLOCK;
        CHECK_STATUS(k->seen[i], before ? CF_TASK_FAILED : CF_OK);
    }
}

TEST(a_mutual_wait_is_told_to_the_one_that_closes_it) {
    for (int round = 0; round < 100; round++) {
        cf_executor *executor = pool(2);
        knot k = KNOT_INIT(2, true);
        tie(&k, &executor, 1);
        one_was_told(&k);
        release_all(k.futures, k.count);
        CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
        cf_executor_close(executor);
    }
}

TEST(longer_cycles_in_one_pool) {
    for (size_t count = 1; count <= KNOT_MAX; count++) {
        cf_executor *executor = pool(count);
        for (int round = 0; round < 20; round++) {
            knot k = KNOT_INIT(count, true);
            tie(&k, &executor, 1);
            one_was_told(&k);
            release_all(k.futures, k.count);
        }
        cf_executor_close(executor);
    }
}

TEST(cycles_among_pending_tasks_with_fewer_workers) {
    for (size_t count = 1; count <= KNOT_MAX; count++) {
        for (size_t workers = 1; workers <= 3; workers++) {
            cf_executor *executor = pool(workers);
            for (int round = 0; round < 10; round++) {
                knot k = KNOT_INIT(count, false);
                tie(&k, &executor, 1);
                one_was_told(&k);
                release_all(k.futures, k.count);
            }
            cf_executor_close(executor);
        }
    }
}

TEST(cycles_across_executors) {
    for (size_t count = 2; count <= 4; count++) {
        cf_executor *executors[4] = {pool(1), pool(1), pool(1), pool(1)};
        for (int round = 0; round < 30; round++) {
            knot k = KNOT_INIT(count, true);
            tie(&k, executors, count);
            one_was_told(&k);
            release_all(k.futures, k.count);
        }
        for (size_t i = 0; i < 4; i++) {
            cf_executor_close(executors[i]);
        }
    }
}

/* Two pools of one worker, four members: 0 waits for 1, which waits for 2, which no worker can
 * start. Who is told, and how often, depends on the order. */
TEST(a_cycle_closed_through_pending_tasks_of_full_pools) {
    for (size_t count = 3; count <= KNOT_MAX; count++) {
        cf_executor *executors[2] = {pool(1), pool(1)};
        for (int round = 0; round < 30; round++) {
            knot k = KNOT_INIT(count, false);
            tie(&k, executors, 2);
            CHECK(atomic_load(&k.deadlocks) >= 1);
            release_all(k.futures, k.count);
        }
        cf_executor_close(executors[0]);
        cf_executor_close(executors[1]);
    }
}

typedef struct full {
    cf_executor *second;
    cf_future *first_task, *pending;
    gate start;
    atomic_int deadlocks;
} full;

/* The future is looked up once the gate is open. */
static void await_one(full *f, cf_future *const *future) {
    gate_arrive(&f->start);
    gate_await(&f->start);
    const cf_status status = cf_future_wait(*future, CF_FOREVER);
    atomic_fetch_add(&f->deadlocks, status == CF_DEADLOCK);
    CHECK(status == CF_OK || status == CF_DEADLOCK);
}

static int task_await_pending(cf_task *task, void *arg) {
    full *f = arg;
    (void)task;
    await_one(f, &f->pending);
    return 0;
}

static int task_await_first(cf_task *task, void *arg) {
    full *f = arg;
    (void)task;
    await_one(f, &f->first_task);
    return 0;
}

/* All workers of the second pool wait for a task that waits for a pending one of the second. */
TEST(a_pool_whose_workers_all_wait_for_the_waiter_is_a_deadlock) {
    for (size_t workers = 1; workers <= 3; workers++) {
        for (int round = 0; round < 30; round++) {
            full f = {.start = GATE_INIT};
            cf_executor *first = pool(1);
            cf_executor *second = pool(workers);
            f.first_task = cf_executor_submit(first, task_await_pending, &f, 0);
            for (size_t i = 0; i < workers; i++) {
                fire(second, task_await_first, &f);
            }
            gate_await_arrivals(&f.start, workers + 1);
            f.pending = cf_executor_submit(second, task_nothing, CF_NO_ARG);
            gate_open(&f.start);
            CHECK_STATUS(outcome(f.first_task), CF_OK);
            CHECK_STATUS(outcome(f.pending), CF_OK);
            CHECK_STATUS(cf_executor_shutdown(second, CF_FOREVER, CF_RUN_PENDING), CF_OK);
            CHECK_EQ(atomic_load(&f.deadlocks), 1);
            cf_future_release(f.first_task);
            cf_future_release(f.pending);
            cf_executor_close(first);
            cf_executor_close(second);
        }
    }
}

/* One of them does something else, so the pending task will be run. */
TEST(a_pool_with_a_worker_that_works_is_no_deadlock) {
    for (int round = 0; round < 50; round++) {
        full f = {.start = GATE_INIT};
        gate g = GATE_INIT;
        cf_executor *first = pool(1);
        cf_executor *second = pool(2);
        f.first_task = cf_executor_submit(first, task_await_pending, &f, 0);
        fire(second, task_await_first, &f);
        occupy(second, 1, &g);
        gate_await_arrivals(&f.start, 2);
        f.pending = cf_executor_submit(second, task_nothing, CF_NO_ARG);
        gate_open(&f.start);
        CHECK_STATUS(cf_future_wait(f.first_task, 100 * CF_MICROSECOND), CF_TIMEOUT);
        gate_open(&g);
        CHECK_STATUS(outcome(f.first_task), CF_OK);
        cf_executor_close(second); /* now nobody waits for the futures any more */
        cf_executor_close(first);
        CHECK_EQ(atomic_load(&f.deadlocks), 0);
        cf_future_release(f.first_task);
        cf_future_release(f.pending);
    }
}

typedef struct both {
    cf_executor *second;
    cf_future *elsewhere, *here;
    gate start, running;
} both;

static int task_await_the_child(cf_task *task, void *arg) {
    both *b = arg;
    (void)task;
    gate_arrive(&b->running);
    gate_await(&b->start);
    CHECK_STATUS(cf_future_wait(b->here, CF_FOREVER), CF_OK);
    return 0;
}

/* One worker: it waits for a task elsewhere, which waits for its child, which it also waits for. */
static int task_await_both(cf_task *task, void *arg) {
    both *b = arg;
    b->elsewhere = cf_executor_submit(b->second, task_await_the_child, b, 0);
    b->here = cf_executor_submit(cf_task_executor(task), task_nothing, CF_NO_ARG);
    gate_await_arrivals(&b->running, 1);
    gate_open(&b->start);
    sleep_for(CF_MILLISECOND); /* most often the other one is waiting by now */
    cf_future *const futures[2] = {b->elsewhere, b->here};
    CHECK_EQ(cf_wait(futures, 2, CF_ALL_COMPLETED, CF_FOREVER, NULL), 2);
    cf_future_release(b->elsewhere);
    cf_future_release(b->here);
    return 0;
}

TEST(a_wait_for_all_runs_its_pending_ones_before_it_blocks) {
    for (int round = 0; round < 20; round++) {
        cf_executor *second = pool(1);
        both b = {.second = second, .start = GATE_INIT, .running = GATE_INIT};
        run(pool(1), task_await_both, &b);
        cf_executor_close(second);
    }
}

/* ---------------------------------------------------------------- waiting for oneself */

static int task_wait_for_itself(cf_task *task, void *arg) {
    cf_future *me = own_future(arg);
    cf_status status = CF_OK;
    bool done = true;
    (void)task;
    CHECK_STATUS(cf_future_wait(me, CF_FOREVER), CF_DEADLOCK);
    CHECK(cf_future_result(me, CF_FOREVER, &status) == NULL);
    CHECK_STATUS(status, CF_DEADLOCK);
    CHECK_EQ(cf_wait(&me, 1, CF_ALL_COMPLETED, CF_FOREVER, &done), 0);
    CHECK(!done);
    cf_as_completed_iter *iter = cf_as_completed(&me, 1, CF_FOREVER);
    CHECK(cf_as_completed_next(iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_DEADLOCK);
    CHECK_EQ(cf_as_completed_remaining(iter), 1);
    cf_as_completed_close(iter);
    CHECK_EQ(cf_future_state(me), CF_STATE_RUNNING);
    return 0;
}

TEST(a_task_that_waits_for_itself_is_told) {
    run_knowing_itself(pool(1), task_wait_for_itself);
    run_knowing_itself(pool(4), task_wait_for_itself);
}

static int task_wait_for_itself_with_limits(cf_task *task, void *arg) {
    cf_future *me = own_future(arg);
    cf_status status = CF_OK;
    (void)task;
    CHECK_STATUS(cf_future_wait(me, 0), CF_TIMEOUT);
    const int64_t start = now();
    CHECK_STATUS(cf_future_wait(me, 10 * CF_MILLISECOND), CF_TIMEOUT);
    CHECK(now() - start >= 10 * CF_MILLISECOND);
    CHECK_EQ(cf_wait(&me, 1, CF_ALL_COMPLETED, 10 * CF_MILLISECOND, NULL), 0);
    cf_as_completed_iter *iter = cf_as_completed(&me, 1, 10 * CF_MILLISECOND);
    CHECK(cf_as_completed_next(iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_TIMEOUT);
    cf_as_completed_close(iter);
    return 0;
}

TEST(a_task_that_waits_for_itself_with_a_limit_times_out) {
    run_knowing_itself(pool(1), task_wait_for_itself_with_limits);
}

static int task_wait_for_itself_and_others(cf_task *task, void *arg) {
    cf_future *me = own_future(arg);
    cf_future *futures[3] = {me, submit_int(cf_task_executor(task), task_square, 3), promise()};
    cf_status status = CF_SYSTEM;
    bool done[3] = {true, true, true};
    set_int(futures[2], 1);
    CHECK(cf_wait(futures, 3, CF_FIRST_COMPLETED, CF_FOREVER, NULL) >= 1);
    const size_t count = cf_wait(futures, 3, CF_ALL_COMPLETED, CF_FOREVER, done);
    CHECK(count == 1 || count == 2);
    CHECK(!done[0] && done[1] == (count == 2) && done[2]);
    cf_as_completed_iter *iter = cf_as_completed(futures, 3, CF_FOREVER);
    for (size_t i = 0; i < 2; i++) {
        const cf_future *next = cf_as_completed_next(iter, NULL, &status);
        CHECK_STATUS(status, CF_OK);
        CHECK(next == futures[1] || next == futures[2]);
    }
    CHECK(cf_as_completed_next(iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_DEADLOCK);
    CHECK_EQ(cf_as_completed_remaining(iter), 1);
    cf_as_completed_close(iter);
    CHECK_EQ(take_int(futures[1]), 9);
    cf_future_release(futures[2]);
    return 0;
}

TEST(the_others_are_delivered_before_the_deadlock) {
    run_knowing_itself(pool(1), task_wait_for_itself_and_others);
    run_knowing_itself(pool(2), task_wait_for_itself_and_others);
}

static int task_item_waits_for_the_map(cf_task *task, void *arg) {
    self *const *outer = arg;
    (void)task;
    return cf_future_wait(own_future(*outer), CF_FOREVER) == CF_DEADLOCK ? KNOT_CODE : 0;
}

static int task_map_in_a_cycle(cf_task *task, void *arg) {
    self *me = arg;
    self *const items[3] = {me, me, me};
    cf_map_iter *iter = cf_executor_map(cf_task_executor(task), task_item_waits_for_the_map, items,
                                        3, sizeof items[0], NULL);
    for (size_t i = 0; i < 3; i++) {
        cf_status status = CF_OK;
        CHECK(cf_map_next(iter, &status) == NULL);
        CHECK_STATUS(status, CF_TASK_FAILED);
        CHECK_EQ(cf_map_error_code(iter), KNOT_CODE);
    }
    cf_map_close(iter);
    return 0;
}

TEST(an_item_that_waits_for_the_mapping_task_is_told) {
    run_knowing_itself(pool(1), task_map_in_a_cycle);
}

static int task_inline_waits_for_outer(cf_task *task, void *arg) {
    (void)task;
    CHECK_STATUS(cf_future_wait(own_future(arg), CF_FOREVER), CF_DEADLOCK);
    return 0;
}

static int task_outer_of_inline(cf_task *task, void *arg) {
    cf_executor *here = inline_executor();
    (void)task;
    cf_future *future = cf_executor_submit(here, task_inline_waits_for_outer, arg, 0);
    CHECK_STATUS(cf_future_wait(future, CF_FOREVER), CF_OK);
    cf_future_release(future);
    cf_executor_close(here);
    return 0;
}

TEST(an_inline_task_that_waits_for_the_task_beneath_is_told) {
    run_knowing_itself(pool(1), task_outer_of_inline);
}

/* ---------------------------------------------------------------- what is no deadlock */

typedef struct pair {
    cf_future *futures[3];
    gate start;
    cf_status seen[3];
} pair;

static int task_impatient(cf_task *task, void *arg) {
    pair *p = arg;
    (void)task;
    gate_arrive(&p->start);
    gate_await(&p->start);
    p->seen[1] = cf_future_wait(p->futures[0], 10 * CF_MILLISECOND);
    return 0;
}

static int task_patient(cf_task *task, void *arg) {
    pair *p = arg;
    (void)task;
    gate_arrive(&p->start);
    gate_await(&p->start);
    p->seen[0] = cf_future_wait(p->futures[1], CF_FOREVER);
    return 0;
}

TEST(a_finite_timeout_breaks_a_cycle_by_itself) {
    for (size_t workers = 1; workers <= 2; workers++) {
        for (int round = 0; round < 20; round++) {
            cf_executor *executor = pool(workers);
            pair p = {.start = GATE_INIT};
            p.futures[0] = cf_executor_submit(executor, task_patient, &p, 0);
            p.futures[1] = cf_executor_submit(executor, task_impatient, &p, 0);
            gate_await_arrivals(&p.start, workers);
            gate_open(&p.start);
            CHECK_STATUS(outcome(p.futures[0]), CF_OK);
            CHECK_STATUS(outcome(p.futures[1]), CF_OK);
            CHECK_STATUS(p.seen[0], CF_OK);
            CHECK_STATUS(p.seen[1], CF_TIMEOUT);
            release_all(p.futures, 2);
            cf_executor_close(executor);
        }
    }
}

static int task_await_promise(cf_task *task, void *arg) {
    (void)task;
    CHECK_STATUS(cf_future_wait(arg, CF_FOREVER), CF_OK);
    return 0;
}

TEST(a_promise_is_never_part_of_a_cycle) {
    cf_executor *executor = pool(2);
    cf_future *answer = promise();
    cf_future *futures[4];
    for (size_t i = 0; i < 4; i++) {
        futures[i] = cf_executor_submit(executor, task_await_promise, answer, 0);
    }
    CHECK_EQ(cf_wait(futures, 4, CF_FIRST_COMPLETED, 10 * CF_MILLISECOND, NULL), 0);
    set_int(answer, 1);
    for (size_t i = 0; i < 4; i++) {
        CHECK_STATUS(outcome(futures[i]), CF_OK);
    }
    release_all(futures, 4);
    cf_future_release(answer);
    cf_executor_close(executor);
}

/* 0 waits for the first of 1 and a promise, 1 waits for 0: the promise may still come. */
static int task_wait_for_either(cf_task *task, void *arg) {
    pair *p = arg;
    (void)task;
    gate_arrive(&p->start);
    gate_await(&p->start);
    CHECK(cf_wait(p->futures + 1, 2, CF_FIRST_COMPLETED, CF_FOREVER, NULL) >= 1);
    return 0;
}

static int task_wait_for_zero(cf_task *task, void *arg) {
    pair *p = arg;
    (void)task;
    gate_arrive(&p->start);
    gate_await(&p->start);
    CHECK_STATUS(cf_future_wait(p->futures[0], CF_FOREVER), CF_OK);
    return 0;
}

TEST(a_wait_for_either_is_no_deadlock_while_one_may_come) {
    for (int round = 0; round < 50; round++) {
        cf_executor *executor = pool(2);
        pair p = {.start = GATE_INIT};
        p.futures[0] = cf_executor_submit(executor, task_wait_for_either, &p, 0);
        p.futures[1] = cf_executor_submit(executor, task_wait_for_zero, &p, 0);
        p.futures[2] = promise();
        gate_await_arrivals(&p.start, 2);
        gate_open(&p.start);
        CHECK_STATUS(cf_future_wait(p.futures[0], 200 * CF_MICROSECOND), CF_TIMEOUT);
        set_int(p.futures[2], 1);
        CHECK_STATUS(outcome(p.futures[0]), CF_OK);
        CHECK_STATUS(outcome(p.futures[1]), CF_OK);
        release_all(p.futures, 3);
        cf_executor_close(executor);
    }
}

/* 1 waits for 0 when 2 has ended, which was enough for 0, whether it has woken or not. */
static int task_wait_for_two_then_zero(cf_task *task, void *arg) {
    pair *p = arg;
    (void)task;
    gate_arrive(&p->start);
    gate_await(&p->start);
    CHECK_STATUS(cf_future_wait(p->futures[2], CF_FOREVER), CF_OK);
    CHECK_STATUS(cf_future_wait(p->futures[0], CF_FOREVER), CF_OK);
    return 0;
}

TEST(a_waiter_whose_event_has_come_is_not_stuck) {
    cf_executor *executor = pool(3);
    for (int round = 0; round < 300; round++) {
        pair p = {.start = GATE_INIT};
        p.futures[0] = cf_executor_submit(executor, task_wait_for_either, &p, 0);
        p.futures[1] = cf_executor_submit(executor, task_wait_for_two_then_zero, &p, 0);
        p.futures[2] = cf_executor_submit(executor, task_block, &p.start, 0);
        gate_await_arrivals(&p.start, 3);
        gate_open(&p.start);
        CHECK_STATUS(outcome(p.futures[1]), CF_OK);
        CHECK_STATUS(outcome(p.futures[0]), CF_OK);
        CHECK_STATUS(outcome(p.futures[2]), CF_OK);
        release_all(p.futures, 3);
    }
    cf_executor_close(executor);
}

static void wait_for_zero_in_callback(cf_future *future, void *user) {
    pair *p = user;
    CHECK(cf_future_done(future));
    p->seen[2] = cf_future_wait(p->futures[0], CF_FOREVER);
    gate_arrive(&p->start);
}

/* 0 waits for 1, whose callback waits for 0: by then 1 has ended, so 0 is on its way. */
TEST(a_callback_may_wait_for_those_who_waited_for_its_future) {
    static pair pairs[300];
    cf_executor *executor = pool(2);
    for (int round = 0; round < 300; round++) {
        pair *const p = &pairs[round]; /* the callback may still be leaving its gate */
        *p = (pair){.start = GATE_INIT};
        gate g = GATE_INIT;
        p->futures[1] = cf_executor_submit(executor, task_block, &g, 0);
        gate_await_arrivals(&g, 1);
        p->futures[0] = cf_executor_submit(executor, task_await_promise, p->futures[1], 0);
        CHECK_STATUS(
            cf_future_add_done_callback(p->futures[1], wait_for_zero_in_callback, p), CF_OK);
        UNTIL(cf_future_state(p->futures[0]) != CF_STATE_PENDING);
        gate_open(&g);
        gate_await_arrivals(&p->start, 1);
        CHECK_STATUS(p->seen[2], CF_OK);
        release_all(p->futures, 2);
    }
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- callbacks */

typedef struct hook {
    cf_executor *executor;
    self *me;
    int result;
    cf_status status;
    pthread_t thread;
    gate called;
} hook;

static void wait_for_a_new_task(cf_future *future, void *user) {
    hook *h = user;
    CHECK(cf_future_done(future));
    h->thread = pthread_self();
    h->result = take_int(submit_int(h->executor, task_square, 4));
    gate_arrive(&h->called);
}

TEST(a_callback_on_a_worker_runs_what_it_waits_for) {
    cf_executor *executor = pool(1);
    hook h = {.executor = executor, .called = GATE_INIT};
    gate g = GATE_INIT;
    cf_future *future = cf_executor_submit(executor, task_block, &g, 0);
    CHECK_STATUS(cf_future_add_done_callback(future, wait_for_a_new_task, &h), CF_OK);
    gate_open(&g);
    gate_await_arrivals(&h.called, 1);
    CHECK_EQ(h.result, 16);
    CHECK(!pthread_equal(h.thread, pthread_self()));
    cf_future_release(future);
    cf_executor_close(executor);
}

static void wait_for_me(cf_future *future, void *user) {
    hook *h = user;
    CHECK(cf_future_done(future));
    h->status = cf_future_wait(own_future(h->me), CF_FOREVER);
    gate_arrive(&h->called);
}

TEST(a_callback_may_wait_for_its_own_future) {
    cf_executor *executor = pool(1);
    self me = SELF_INIT;
    hook h = {.me = &me, .status = CF_SYSTEM, .called = GATE_INIT};
    gate g = GATE_INIT;
    me.future = cf_executor_submit(executor, task_block, &g, 0);
    CHECK_STATUS(cf_future_add_done_callback(me.future, wait_for_me, &h), CF_OK);
    gate_open(&me.known);
    gate_open(&g);
    gate_await_arrivals(&h.called, 1);
    CHECK_STATUS(h.status, CF_OK);
    cf_future_release(me.future);
    cf_executor_close(executor);
}

/* The child runs on the stack of the task, so does its callback, which waits for the task. */
static int task_with_a_callback_that_waits_for_it(cf_task *task, void *arg) {
    hook h = {.me = arg, .status = CF_SYSTEM, .called = GATE_INIT};
    cf_future *child = submit_int(cf_task_executor(task), task_square, 2);
    CHECK_STATUS(cf_future_add_done_callback(child, wait_for_me, &h), CF_OK);
    CHECK_EQ(take_int(child), 4);
    gate_await_arrivals(&h.called, 1);
    CHECK_STATUS(h.status, CF_DEADLOCK);
    return 0;
}

TEST(a_callback_that_waits_for_the_task_beneath_it_is_told) {
    run_knowing_itself(pool(1), task_with_a_callback_that_waits_for_it);
}

static int task_that_cancels(cf_task *task, void *arg) {
    hook h = {.me = arg, .status = CF_SYSTEM, .called = GATE_INIT};
    cf_future *child = submit_int(cf_task_executor(task), task_square, 2);
    CHECK_STATUS(cf_future_add_done_callback(child, wait_for_me, &h), CF_OK);
    CHECK(cf_future_cancel(child));
    gate_await_arrivals(&h.called, 1);
    CHECK_STATUS(h.status, CF_DEADLOCK);
    cf_future_release(child);
    return 0;
}

TEST(a_callback_of_a_cancelled_future_that_waits_for_the_canceller_is_told) {
    run_knowing_itself(pool(1), task_that_cancels);
}

static void wait_for_first(cf_future *future, void *user) {
    (void)future;
    (void)task_await_first(NULL, user);
}

/* The only worker of the second pool is in a callback that waits for the first pool's task. */
TEST(a_cycle_through_a_callback_and_a_full_pool_is_told) {
    for (int round = 0; round < 50; round++) {
        full f = {.start = GATE_INIT};
        gate g = GATE_INIT;
        cf_executor *first = pool(1);
        cf_executor *second = pool(1);
        f.first_task = cf_executor_submit(first, task_await_pending, &f, 0);
        cf_future *called = cf_executor_submit(second, task_block, &g, 0);
        CHECK_STATUS(cf_future_add_done_callback(called, wait_for_first, &f), CF_OK);
        gate_await_arrivals(&g, 1);
        gate_open(&g);
        gate_await_arrivals(&f.start, 2);
        f.pending = cf_executor_submit(second, task_nothing, CF_NO_ARG);
        gate_open(&f.start);
        CHECK_STATUS(outcome(f.first_task), CF_OK);
        CHECK_STATUS(outcome(f.pending), CF_OK);
        CHECK_STATUS(cf_executor_shutdown(second, CF_FOREVER, CF_RUN_PENDING), CF_OK);
        CHECK_EQ(atomic_load(&f.deadlocks), 1);
        cf_future_release(called);
        cf_future_release(f.first_task);
        cf_future_release(f.pending);
        cf_executor_close(first);
        cf_executor_close(second);
    }
}

/* ---------------------------------------------------------------- shutdown, close by a worker */

typedef struct leave {
    cf_executor *executor;
    cf_shutdown_mode mode;
    cf_future *pending[4];
    gate ready;
} leave;

static int task_shut_down(cf_task *task, void *arg) {
    leave *l = arg;
    cf_executor *executor = cf_task_executor(task);
    gate_await(&l->ready);
    CHECK_STATUS(cf_executor_shutdown(executor, 0, l->mode), CF_TIMEOUT);
    CHECK_STATUS(cf_executor_shutdown(executor, 5 * CF_MILLISECOND, l->mode), CF_DEADLOCK);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, l->mode), CF_DEADLOCK);
    cf_future *refused = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    CHECK_STATUS(cf_future_wait(refused, 0), CF_SHUTDOWN);
    cf_future_release(refused);
    return 0;
}

static void shut_down_from_inside(cf_shutdown_mode mode, cf_status of_the_pending) {
    leave l = {.mode = mode, .ready = GATE_INIT};
    cf_executor *executor = pool(1);
    cf_future *future = cf_executor_submit(executor, task_shut_down, &l, 0);
    for (size_t i = 0; i < 4; i++) {
        l.pending[i] = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    }
    gate_open(&l.ready);
    CHECK_STATUS(outcome(future), CF_OK);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    for (size_t i = 0; i < 4; i++) {
        CHECK_STATUS(cf_future_wait(l.pending[i], 0), of_the_pending);
    }
    release_all(l.pending, 4);
    cf_future_release(future);
    cf_executor_close(executor);
}

TEST(a_worker_that_shuts_its_pool_down_is_told) {
    shut_down_from_inside(CF_RUN_PENDING, CF_OK);
    shut_down_from_inside(CF_CANCEL_PENDING, CF_CANCELLED);
}

static void shut_down_in_callback(cf_future *future, void *user) {
    hook *h = user;
    (void)future;
    h->status = cf_executor_shutdown(h->executor, CF_FOREVER, CF_RUN_PENDING);
    gate_arrive(&h->called);
}

TEST(a_callback_on_a_worker_that_shuts_the_pool_down_is_told) {
    cf_executor *executor = pool(2);
    hook h = {.executor = executor, .called = GATE_INIT};
    gate g = GATE_INIT;
    cf_future *future = cf_executor_submit(executor, task_block, &g, 0);
    CHECK_STATUS(cf_future_add_done_callback(future, shut_down_in_callback, &h), CF_OK);
    gate_open(&g);
    gate_await_arrivals(&h.called, 1);
    CHECK_STATUS(h.status, CF_DEADLOCK);
    cf_future_release(future);
    cf_executor_close(executor);
}

static int task_shut_down_inline(cf_task *task, void *arg) {
    (void)task;
    CHECK_STATUS(cf_executor_shutdown(arg, CF_FOREVER, CF_RUN_PENDING), CF_DEADLOCK);
    return 0;
}

static int task_inline_shuts_down(cf_task *task, void *arg) {
    cf_executor *here = inline_executor();
    (void)arg;
    cf_future *future =
        cf_executor_submit(here, task_shut_down_inline, cf_task_executor(task), 0);
    CHECK_STATUS(cf_future_wait(future, 0), CF_OK);
    cf_future_release(future);
    cf_executor_close(here);
    return 0;
}

TEST(an_inline_task_on_a_worker_that_shuts_its_pool_down_is_told) {
    run(pool(1), task_inline_shuts_down, NULL);
}

static int task_close(cf_task *task, void *arg) {
    leave *l = arg;
    gate_await(&l->ready);
    cf_executor_close(cf_task_executor(task));
    return 0;
}

/* Nobody may touch the executor after that; the harness sees threads and memory go. */
TEST(a_worker_may_close_its_pool) {
    for (size_t workers = 1; workers <= 3; workers++) {
        for (int round = 0; round < 10; round++) {
            leave l = {.ready = GATE_INIT};
            cf_executor *executor = pool(workers);
            cf_future *future = cf_executor_submit(executor, task_close, &l, 0);
            for (size_t i = 0; i < 4; i++) {
                l.pending[i] = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
            }
            gate_open(&l.ready);
            CHECK_STATUS(outcome(future), CF_OK);
            for (size_t i = 0; i < 4; i++) {
                CHECK_STATUS(outcome(l.pending[i]), CF_OK);
            }
            release_all(l.pending, 4);
            cf_future_release(future);
        }
    }
}

static int task_nested_close(cf_task *task, void *arg) {
    leave l = {.ready = GATE_INIT};
    (void)arg;
    gate_open(&l.ready);
    cf_future *child = cf_executor_submit(cf_task_executor(task), task_close, &l, 0);
    CHECK_STATUS(cf_future_wait(child, CF_FOREVER), CF_OK);
    cf_future_release(child);
    return 0;
}

TEST(a_nested_task_may_close_the_pool) {
    cf_executor *executor = pool(1);
    cf_future *future = cf_executor_submit(executor, task_nested_close, CF_NO_ARG);
    CHECK_STATUS(outcome(future), CF_OK);
    cf_future_release(future);
}

static void close_in_callback(cf_future *future, void *user) {
    hook *h = user;
    (void)future;
    cf_executor_close(h->executor);
    gate_arrive(&h->called);
}

TEST(a_callback_on_a_worker_may_close_the_pool) {
    cf_executor *executor = pool(2);
    hook h = {.executor = executor, .called = GATE_INIT};
    gate g = GATE_INIT;
    cf_future *future = cf_executor_submit(executor, task_block, &g, 0);
    CHECK_STATUS(cf_future_add_done_callback(future, close_in_callback, &h), CF_OK);
    gate_open(&g);
    gate_await_arrivals(&h.called, 1);
    CHECK_STATUS(outcome(future), CF_OK);
    cf_future_release(future);
}

/* ---------------------------------------------------------------- a full queue */

static int task_overfill(cf_task *task, void *arg) {
    enum { COUNT = 10 };
    cf_executor *executor = cf_task_executor(task);
    cf_future *children[COUNT];
    (void)arg;
    for (int i = 0; i < COUNT; i++) {
        children[i] = submit_int(executor, task_square, i);
        CHECK(cf_future_done(children[i]) == (i >= 2));
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(take_int(children[i]), i * i);
    }
    return 0;
}

TEST(a_worker_that_submits_to_its_own_full_queue_runs_the_task_at_once) {
    run(pool_with(&(cf_pool_options){.max_workers = 1, .queue_limit = 2}), task_overfill, NULL);
}

static int task_overfill_recursively(cf_task *task, void *arg) {
    const int depth = *(const int *)arg;
    cf_future *children[3];
    int sum = 1;
    for (size_t i = 0; i < 3 && depth > 0; i++) {
        children[i] = submit_int(cf_task_executor(task), task_overfill_recursively, depth - 1);
    }
    for (size_t i = 0; i < 3 && depth > 0; i++) {
        sum += take_int(children[i]);
    }
    return return_int(task, sum);
}

TEST(recursion_in_a_bounded_pool_ends) {
    for (size_t workers = 1; workers <= 4; workers++) {
        for (size_t room = 1; room <= 3; room++) {
            cf_executor *executor =
                pool_with(&(cf_pool_options){.max_workers = workers, .queue_limit = room});
            CHECK_EQ(run_int(executor, task_overfill_recursively, 5), 364);
        }
    }
}

typedef struct spree {
    cf_executor *executor;
    atomic_int left;
    gate filled;
} spree;

/* With the queue full, each runs in the submit of the one before. */
static int task_spree(cf_task *task, void *arg) {
    spree *s = arg;
    (void)task;
    gate_await(&s->filled);
    if (atomic_fetch_sub(&s->left, 1) > 1) {
        cf_future_release(cf_executor_submit(s->executor, task_spree, s, 0));
    }
    return 0;
}

/* More than one stack could hold, whatever its size. */
static void spree_in(cf_on_full on_full, bool by_a_caller) {
    spree s = {.left = 20000, .filled = GATE_INIT};
    gate busy = GATE_INIT;
    s.executor = pool_with(
        &(cf_pool_options){.max_workers = 1, .queue_limit = 1, .on_full = on_full});
    cf_future *first =
        cf_executor_submit(s.executor, by_a_caller ? task_block : task_spree,
                           by_a_caller ? (void *)&busy : (void *)&s, 0);
    cf_future *queued = cf_executor_submit(s.executor, task_nothing, CF_NO_ARG);
    UNTIL(stats_of(s.executor).running == 1);
    gate_open(&s.filled);
    if (by_a_caller) {
        cf_future_release(cf_executor_submit(s.executor, task_spree, &s, 0));
        CHECK_EQ(atomic_load(&s.left), 0);
    }
    gate_open(&busy);
    CHECK_STATUS(outcome(first), CF_OK);
    CHECK_STATUS(outcome(queued), CF_OK);
    CHECK_EQ(atomic_load(&s.left), 0);
    cf_future_release(first);
    cf_future_release(queued);
    cf_executor_close(s.executor);
}

TEST(twenty_thousand_submits_upon_each_other_to_a_full_queue) {
    spree_in(CF_FULL_BLOCK, false);
    spree_in(CF_FULL_CALLER_RUNS, false);
    spree_in(CF_FULL_CALLER_RUNS, true);
}

static int task_many_by_one_call(cf_task *task, void *arg) {
    enum { COUNT = 20 };
    int items[COUNT];
    cf_future *children[COUNT];
    (void)arg;
    for (int i = 0; i < COUNT; i++) {
        items[i] = i;
    }
    CHECK_STATUS(cf_executor_submit_many(cf_task_executor(task), task_square, items, COUNT,
                                         sizeof items[0], children),
                 CF_OK);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(take_int(children[i]), i * i);
    }
    return 0;
}

TEST(submit_many_by_a_worker_to_its_full_pool_ends) {
    run(pool_with(&(cf_pool_options){.max_workers = 1, .queue_limit = 2}), task_many_by_one_call,
        NULL);
    run(pool_with(&(cf_pool_options){.max_workers = 2, .queue_limit = 1}), task_map_children,
        NULL);
}

/* ---------------------------------------------------------------- pools that end each other */

typedef struct rivals {
    cf_executor *pools[2];
    cf_future *first;
    gate start;
    cf_status told[2];
} rivals;

typedef struct rival {
    rivals *rivals;
    size_t index;
} rival;

static int task_shut_down_the_other(cf_task *task, void *arg) {
    const rival *r = arg;
    (void)task;
    gate_arrive(&r->rivals->start);
    gate_await(&r->rivals->start);
    r->rivals->told[r->index] =
        cf_executor_shutdown(r->rivals->pools[1 - r->index], CF_FOREVER, CF_RUN_PENDING);
    return 0;
}

TEST(tasks_that_shut_down_each_others_pools_end) {
    for (int round = 0; round < 50; round++) {
        rivals duel = {.pools = {pool(1), pool(1)}, .start = GATE_INIT};
        cf_future *futures[2];
        for (size_t i = 0; i < 2; i++) {
            const rival r = {&duel, i};
            futures[i] =
                cf_executor_submit(duel.pools[i], task_shut_down_the_other, &r, sizeof r);
        }
        gate_await_arrivals(&duel.start, 2);
        gate_open(&duel.start);
        for (size_t i = 0; i < 2; i++) {
            CHECK_STATUS(outcome(futures[i]), CF_OK);
        }
        CHECK((duel.told[0] == CF_DEADLOCK) != (duel.told[1] == CF_DEADLOCK));
        CHECK(duel.told[0] == CF_OK || duel.told[1] == CF_OK);
        release_all(futures, 2);
        cf_executor_close(duel.pools[0]);
        cf_executor_close(duel.pools[1]);
    }
}

static int task_wait_for_the_first(cf_task *task, void *arg) {
    rivals *r = arg;
    (void)task;
    gate_arrive(&r->start);
    gate_await(&r->start);
    r->told[1] = cf_future_wait(r->first, CF_FOREVER);
    return 0;
}

TEST(shutting_down_a_pool_that_waits_for_the_caller_is_told) {
    for (int round = 0; round < 50; round++) {
        rivals duel = {.pools = {pool(1), pool(1)}, .start = GATE_INIT};
        const rival r = {&duel, 0};
        duel.first =
            cf_executor_submit(duel.pools[0], task_shut_down_the_other, &r, sizeof r);
        cf_future *second =
            cf_executor_submit(duel.pools[1], task_wait_for_the_first, &duel, 0);
        gate_await_arrivals(&duel.start, 2);
        gate_open(&duel.start);
        CHECK_STATUS(outcome(duel.first), CF_OK);
        CHECK_STATUS(outcome(second), CF_OK);
        CHECK((duel.told[0] == CF_DEADLOCK) != (duel.told[1] == CF_DEADLOCK));
        CHECK(duel.told[0] == CF_OK || duel.told[1] == CF_OK);
        cf_executor_close(duel.pools[0]);
        cf_executor_close(duel.pools[1]);
        cf_future_release(duel.first);
        cf_future_release(second);
    }
}

static int task_close_the_other(cf_task *task, void *arg) {
    rivals *r = arg;
    (void)task;
    gate_arrive(&r->start);
    gate_await(&r->start);
    cf_executor_close(r->pools[1]);
    return 0;
}

/* Whoever is told: the close returns, and the pool goes with its last worker. */
TEST(closing_a_pool_that_waits_for_the_caller_returns) {
    for (int round = 0; round < 50; round++) {
        rivals duel = {.pools = {pool(1), pool(1)}, .start = GATE_INIT};
        duel.first = cf_executor_submit(duel.pools[0], task_close_the_other, &duel, 0);
        cf_future *second =
            cf_executor_submit(duel.pools[1], task_wait_for_the_first, &duel, 0);
        gate_await_arrivals(&duel.start, 2);
        gate_open(&duel.start);
        CHECK_STATUS(outcome(duel.first), CF_OK);
        CHECK_STATUS(outcome(second), CF_OK);
        CHECK(duel.told[1] == CF_OK || duel.told[1] == CF_DEADLOCK);
        cf_executor_close(duel.pools[0]);
        cf_future_release(duel.first);
        cf_future_release(second);
    }
}

static int task_submit_to_the_other(cf_task *task, void *arg) {
    rivals *r = arg;
    (void)task;
    gate_arrive(&r->start);
    gate_await(&r->start);
    cf_future *future = cf_executor_submit(r->pools[1], task_nothing, CF_NO_ARG);
    r->told[0] = cf_future_done(future) ? cf_future_wait(future, 0) : CF_OK;
    cf_future_release(future);
    return 0;
}

/* The only worker of the second pool, whose queue is full, waits for the submitter. */
TEST(a_submit_to_a_full_pool_that_waits_for_the_submitter_is_told) {
    for (int round = 0; round < 50; round++) {
        const cf_pool_options options = {.max_workers = 1, .queue_limit = 1};
        rivals duel = {.pools = {pool(1), pool_with(&options)}, .start = GATE_INIT};
        duel.first = cf_executor_submit(duel.pools[0], task_submit_to_the_other, &duel, 0);
        cf_future *second =
            cf_executor_submit(duel.pools[1], task_wait_for_the_first, &duel, 0);
        gate_await_arrivals(&duel.start, 2);
        fire(duel.pools[1], task_nothing, NULL);
        gate_open(&duel.start);
        CHECK_STATUS(outcome(duel.first), CF_OK);
        CHECK_STATUS(outcome(second), CF_OK);
        CHECK((duel.told[0] == CF_DEADLOCK) != (duel.told[1] == CF_DEADLOCK));
        CHECK(duel.told[0] == CF_OK || duel.told[1] == CF_OK);
        cf_executor_close(duel.pools[1]);
        cf_executor_close(duel.pools[0]);
        cf_future_release(duel.first);
        cf_future_release(second);
    }
}

/* ---------------------------------------------------------------- what a worker holds */

typedef struct stay {
    gate inside, left;
} stay;

static void block_in_callback(cf_future *future, void *user) {
    stay *s = user;
    CHECK(cf_future_done(future));
    gate_arrive(&s->inside);
    gate_await(&s->inside);
    gate_arrive(&s->left);
}

TEST(a_callback_that_blocks_holds_up_nobody) {
    enum { COUNT = 5 };
    static stay stays[200];
    cf_executor *executor = pool(2);
    for (int round = 0; round < 200; round++) {
        gate begin = GATE_INIT;
        stay *const s = &stays[round]; /* the callback may still be leaving its gate */
        *s = (stay){GATE_INIT, GATE_INIT};
        cf_future *futures[COUNT];
        cf_future *called = cf_executor_submit(executor, task_block, &begin, 0);
        CHECK_STATUS(cf_future_add_done_callback(called, block_in_callback, s), CF_OK);
        for (size_t i = 0; i < 2; i++) {
            futures[i] = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
        }
        gate_open(&begin);
        CHECK_STATUS(outcome(called), CF_OK);
        for (size_t i = 2; i < COUNT; i++) {
            futures[i] = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
        }
        for (size_t i = 0; i < COUNT; i++) {
            CHECK_STATUS(outcome(futures[i]), CF_OK);
        }
        gate_await_arrivals(&s->inside, 1);
        gate_open(&s->inside);
        gate_await_arrivals(&s->left, 1);
        release_all(futures, COUNT);
        cf_future_release(called);
    }
    cf_executor_close(executor);
}

typedef struct crowd {
    gate all;
    size_t blocker; /* waits until all others have run */
    size_t count;
} crowd;

typedef struct one_of_many {
    crowd *crowd;
    size_t index;
} one_of_many;

static int task_one_of_many(cf_task *task, void *arg) {
    const one_of_many *o = arg;
    (void)task;
    if (o->index == o->crowd->blocker) {
        gate_await_arrivals(&o->crowd->all, o->crowd->count - 1);
    } else {
        gate_arrive(&o->crowd->all);
    }
    return 0;
}

TEST(a_task_that_blocks_holds_up_no_other) {
    enum { COUNT = 400 };
    cf_executor *executor = pool(2);
    for (size_t blocker = 0; blocker < COUNT; blocker += 7) {
        crowd c = {.all = GATE_INIT, .blocker = blocker, .count = COUNT};
        cf_future *futures[COUNT];
        for (size_t i = 0; i < COUNT; i++) {
            const one_of_many o = {&c, i};
            futures[i] = cf_executor_submit(executor, task_one_of_many, &o, sizeof o);
        }
        CHECK_EQ(cf_wait(futures, COUNT, CF_ALL_COMPLETED, CF_FOREVER, NULL), COUNT);
        release_all(futures, COUNT);
    }
    cf_executor_close(executor);
}

static int task_parent_that_blocks(cf_task *task, void *arg) {
    enum { COUNT = 20 };
    gate children = GATE_INIT;
    cf_future *futures[COUNT];
    (void)arg;
    gate_open(&children);
    for (size_t i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(cf_task_executor(task), task_block, &children, 0);
    }
    gate_await_arrivals(&children, COUNT); /* not a wait that the library could help */
    CHECK_EQ(cf_wait(futures, COUNT, CF_ALL_COMPLETED, CF_FOREVER, NULL), COUNT);
    release_all(futures, COUNT);
    return 0;
}

TEST(the_children_of_a_task_that_blocks_are_run_by_others) {
    for (size_t workers = 2; workers <= 4; workers++) {
        cf_executor *executor = pool(workers);
        for (int round = 0; round < 60; round++) {
            cf_future *future =
                cf_executor_submit(executor, task_parent_that_blocks, CF_NO_ARG);
            CHECK_STATUS(outcome(future), CF_OK);
            cf_future_release(future);
        }
        cf_executor_close(executor);
    }
}

/* ---------------------------------------------------------------- random graphs */

enum { NODES = 12, EDGES = 2, LEAF = 3 };

typedef struct graph {
    cf_future *futures[NODES];
    size_t edges[NODES][EDGES];
    size_t style[NODES];
    gate start;
    atomic_int deadlocks;
} graph;

typedef struct node {
    graph *graph;
    size_t index;
} node;

static void note_deadlock(graph *g, cf_status status) {
    CHECK(status == CF_OK || status == CF_DEADLOCK);
    atomic_fetch_add(&g->deadlocks, status == CF_DEADLOCK);
}

static int task_node(cf_task *task, void *arg) {
    const node *n = arg;
    graph *g = n->graph;
    cf_future *waited[EDGES];
    cf_status status = CF_OK;
    (void)task;
    gate_await(&g->start);
    if (g->style[n->index] == LEAF) {
        return 0;
    }
    for (size_t i = 0; i < EDGES; i++) {
        waited[i] = g->futures[g->edges[n->index][i]];
    }
    if (g->style[n->index] == 0) {
        for (size_t i = 0; i < EDGES; i++) {
            note_deadlock(g, cf_future_wait(waited[i], CF_FOREVER));
        }
    } else if (g->style[n->index] == 1) {
        const size_t distinct = waited[0] == waited[1] ? 1 : 2;
        const size_t count = cf_wait(waited, EDGES, CF_ALL_COMPLETED, CF_FOREVER, NULL);
        note_deadlock(g, count == distinct ? CF_OK : CF_DEADLOCK);
    } else {
        cf_as_completed_iter *iter = cf_as_completed(waited, EDGES, CF_FOREVER);
        while (cf_as_completed_next(iter, NULL, &status) != NULL) {
        }
        note_deadlock(g, status == CF_END ? CF_OK : status);
        cf_as_completed_close(iter);
    }
    return 0;
}

/* Checks that all nodes end; returns how many waits were told of a deadlock. */
static int run_graph(graph *g, cf_executor *const *executors, size_t count) {
    for (size_t i = 0; i < NODES; i++) {
        const node n = {g, i};
        g->futures[i] = cf_executor_submit(executors[i % count], task_node, &n, sizeof n);
    }
    gate_open(&g->start);
    for (size_t i = 0; i < NODES; i++) {
        CHECK_STATUS(outcome(g->futures[i]), CF_OK);
    }
    release_all(g->futures, NODES);
    return atomic_load(&g->deadlocks);
}

TEST(any_graph_of_waits_ends) {
    uint64_t state = 88172645463325252U;
    for (size_t round = 0; round < 200; round++) {
        cf_executor *executors[2] = {pool(round % 3 + 1), pool(round / 3 % 3 + 1)};
        graph g = {.start = GATE_INIT};
        for (size_t i = 0; i < NODES; i++) {
            g.style[i] = (size_t)(test_random(&state) % 3);
            for (size_t k = 0; k < EDGES; k++) {
                g.edges[i][k] = (size_t)(test_random(&state) % NODES);
            }
        }
        (void)run_graph(&g, executors, round % 2 + 1);
        cf_executor_close(executors[0]);
        cf_executor_close(executors[1]);
    }
}

/* Each node waits for lower ones only; within one pool there is then no deadlock to be told. */
TEST(a_graph_without_a_cycle_in_one_pool_has_no_deadlock) {
    uint64_t state = 362436069362436069U;
    for (size_t round = 0; round < 200; round++) {
        cf_executor *executor = pool(round % 4 + 1);
        graph g = {.start = GATE_INIT};
        const bool upwards = round % 2 == 0;
        for (size_t i = 0; i < NODES; i++) {
            const size_t rank = upwards ? NODES - 1 - i : i;
            g.style[rank] = i == 0 ? LEAF : (size_t)(test_random(&state) % 3);
            for (size_t k = 0; k < EDGES; k++) {
                const size_t other = i == 0 ? 0 : (size_t)(test_random(&state) % i);
                g.edges[rank][k] = upwards ? NODES - 1 - other : other;
            }
        }
        CHECK_EQ(run_graph(&g, &executor, 1), 0);
        cf_executor_close(executor);
    }
}

TEST_MAIN(
    RUN(nested_submit_returns_with_one_worker_as_with_ten)
    RUN(fib_by_a_task_a_call)
    RUN(quicksort_by_nested_tasks)
    RUN(the_awaited_task_runs_on_the_stack_of_the_waiter)
    RUN(the_awaited_task_may_outlast_a_finite_timeout)
    RUN(a_deadline_that_has_passed_runs_no_further_task)
    RUN(a_map_in_a_task_ends_at_its_deadline)
    RUN(a_map_array_in_a_task_ends_at_its_deadline)
    RUN(a_poll_runs_nothing)
    RUN(a_thread_that_is_no_worker_runs_nothing)
    RUN(a_task_of_another_pool_is_run_by_that_pool)
    RUN(the_outcome_of_a_child_is_what_it_was)
    RUN(many_tasks_may_wait_for_the_same_pending_one)
    RUN(tasks_wait_for_their_children)
    RUN(tasks_iterate_over_their_children)
    RUN(tasks_map_in_their_own_pool)
    RUN(maps_nest)
    RUN(an_inline_task_on_a_worker_waits_as_that_worker)
    RUN(two_thousand_levels_with_one_worker)
    RUN(two_thousand_levels_with_four_workers)
    RUN(twenty_thousand_levels_with_one_worker)
    RUN(twenty_thousand_levels_on_a_small_stack)
    RUN(several_deep_chains_at_once)
    RUN(two_thousand_levels_by_wait_and_as_completed)
    RUN(two_thousand_levels_by_map)
    RUN(the_bottom_of_a_deep_chain_may_not_wait_for_its_top)
    RUN(an_iterator_that_changes_pools_runs_the_new_ones_tasks)
    RUN(the_bottom_of_a_deep_chain_is_inside_of_what_its_top_is_in)
    RUN(a_mutual_wait_is_told_to_the_one_that_closes_it)
    RUN(longer_cycles_in_one_pool)
    RUN(cycles_among_pending_tasks_with_fewer_workers)
    RUN(cycles_across_executors)
    RUN(a_cycle_closed_through_pending_tasks_of_full_pools)
    RUN(a_pool_whose_workers_all_wait_for_the_waiter_is_a_deadlock)
    RUN(a_pool_with_a_worker_that_works_is_no_deadlock)
    RUN(a_wait_for_all_runs_its_pending_ones_before_it_blocks)
    RUN(a_task_that_waits_for_itself_is_told)
    RUN(a_task_that_waits_for_itself_with_a_limit_times_out)
    RUN(the_others_are_delivered_before_the_deadlock)
    RUN(an_item_that_waits_for_the_mapping_task_is_told)
    RUN(an_inline_task_that_waits_for_the_task_beneath_is_told)
    RUN(a_finite_timeout_breaks_a_cycle_by_itself)
    RUN(a_promise_is_never_part_of_a_cycle)
    RUN(a_wait_for_either_is_no_deadlock_while_one_may_come)
    RUN(a_waiter_whose_event_has_come_is_not_stuck)
    RUN(a_callback_may_wait_for_those_who_waited_for_its_future)
    RUN(a_callback_on_a_worker_runs_what_it_waits_for)
    RUN(a_callback_may_wait_for_its_own_future)
    RUN(a_callback_that_waits_for_the_task_beneath_it_is_told)
    RUN(a_callback_of_a_cancelled_future_that_waits_for_the_canceller_is_told)
    RUN(a_cycle_through_a_callback_and_a_full_pool_is_told)
    RUN(a_worker_that_shuts_its_pool_down_is_told)
    RUN(a_callback_on_a_worker_that_shuts_the_pool_down_is_told)
    RUN(an_inline_task_on_a_worker_that_shuts_its_pool_down_is_told)
    RUN(a_worker_may_close_its_pool)
    RUN(a_nested_task_may_close_the_pool)
    RUN(a_callback_on_a_worker_may_close_the_pool)
    RUN(a_worker_that_submits_to_its_own_full_queue_runs_the_task_at_once)
    RUN(recursion_in_a_bounded_pool_ends)
    RUN(twenty_thousand_submits_upon_each_other_to_a_full_queue)
    RUN(submit_many_by_a_worker_to_its_full_pool_ends)
    RUN(tasks_that_shut_down_each_others_pools_end)
    RUN(shutting_down_a_pool_that_waits_for_the_caller_is_told)
    RUN(closing_a_pool_that_waits_for_the_caller_returns)
    RUN(a_submit_to_a_full_pool_that_waits_for_the_submitter_is_told)
    RUN(a_callback_that_blocks_holds_up_nobody)
    RUN(a_task_that_blocks_holds_up_no_other)
    RUN(the_children_of_a_task_that_blocks_are_run_by_others)
    RUN(any_graph_of_waits_ends)
    RUN(a_graph_without_a_cycle_in_one_pool_has_no_deadlock)
)
