/* Statuses that the comments of the interface promise, and that no other test meets: `make coverage`
 * says which those are. The linker puts the functions below between the library and the system:
 * link: -Wl,--wrap=thrd_create,--wrap=pthread_create
 */
#include "test.h"

#include "tasks.h"

#include <threads.h>

static atomic_bool refuses_threads;

int __real_thrd_create(thrd_t *thread, thrd_start_t function, void *arg);
int __wrap_thrd_create(thrd_t *thread, thrd_start_t function, void *arg);
int __wrap_thrd_create(thrd_t *thread, thrd_start_t function, void *arg) {
    return atomic_load(&refuses_threads) ? thrd_error : __real_thrd_create(thread, function, arg);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *arg) {
    return atomic_load(&refuses_threads) ? EAGAIN
                                         : __real_pthread_create(thread, attributes, function, arg);
}

/* ---------------------------------------------------------------- no thread to go on */

typedef enum how { BY_RESULT, BY_ITERATOR, BY_MAP } how;

typedef struct level {
    int levels; /* below this one */
    how way;
} level;

static int task_deep(cf_task *task, void *arg);

static cf_status deeper(cf_executor *ex, const level *next) {
    cf_status status = CF_OK;
    if (next->way == BY_MAP) {
        cf_map_iter *iter = cf_executor_map(ex, task_deep, next, 1, sizeof *next, NULL);
        (void)cf_map_next(iter, &status);
        const int code = cf_map_error_code(iter);
        cf_map_close(iter);
        return status == CF_TASK_FAILED ? (cf_status)-code : status;
    }
    cf_future *f = cf_executor_submit(ex, task_deep, next, sizeof *next);
    if (next->way == BY_ITERATOR) {
        cf_as_completed_iter *iter = cf_as_completed(&f, 1, CF_FOREVER);
        (void)cf_as_completed_next(iter, NULL, &status);
        cf_as_completed_close(iter);
    }
    if (status == CF_OK) {
        (void)cf_future_result(f, CF_FOREVER, &status);
    }
    const int code = cf_future_error_code(f);
    cf_future_release(f);
    return status == CF_TASK_FAILED ? (cf_status)-code : status;
}

static int task_deep(cf_task *task, void *arg) {
    const level *here = arg;
    const level next = {here->levels - 1, here->way};
    return here->levels == 0 ? 0 : (int)-deeper(cf_task_executor(task), &next);
}

/* More levels than a stack is trusted with, and no other to be had. */
static void go_deep(how way) {
    const level top = {700, way};
    cf_executor *ex = pool(1);
    fire(ex, task_nothing, NULL);
    UNTIL(stats_of(ex).finished == 1);
    atomic_store(&refuses_threads, true);
    cf_future *f = cf_executor_submit(ex, task_deep, &top, sizeof top);
    CHECK_STATUS(outcome(f), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(f), -CF_SYSTEM);
    atomic_store(&refuses_threads, false);
    cf_future_release(f);
    cf_executor_close(ex);
}

TEST(a_result_many_tasks_deep_needs_a_thread) {
    go_deep(BY_RESULT);
}

TEST(an_iterator_many_tasks_deep_needs_a_thread) {
    go_deep(BY_ITERATOR);
}

TEST(a_map_many_tasks_deep_needs_a_thread) {
    go_deep(BY_MAP);
}

TEST(a_map_array_over_a_pool_without_threads_says_so) {
    const int items[2] = {1, 2};
    size_t failed = 9;
    cf_executor *ex = pool(2);
    atomic_store(&refuses_threads, true);
    CHECK_STATUS(cf_executor_map_array(ex, task_square, items, sizeof items[0], NULL, 0, 2, NULL,
                                       &failed),
                 CF_SYSTEM);
    CHECK_EQ(failed, 0);
    atomic_store(&refuses_threads, false);
    cf_executor_close(ex);
}

/* ---------------------------------------------------------------- no memory */

TEST(an_error_without_memory_for_its_message_changes_nothing) {
    if (!test_alloc_hooked()) {
        SKIP("this backend has its own allocator");
    }
    cf_future *f = promise();
    test_alloc_fail(1, true);
    CHECK_STATUS(cf_future_set_error(f, 1, "much longer than what fits into a future itself"),
                 CF_NO_MEMORY);
    test_alloc_recover();
    CHECK_EQ(cf_future_state(f), CF_STATE_PENDING);
    set_int(f, 1);
    cf_future_release(f);
}

TEST(an_iterator_without_memory_for_one_more_is_as_it_was) {
    if (!test_alloc_hooked()) {
        SKIP("this backend has its own allocator");
    }
    enum { MANY = 200 };
    cf_future *futures[MANY];
    cf_as_completed_iter *iter = cf_as_completed(NULL, 0, CF_FOREVER);
    size_t added = 0;
    for (int i = 0; i < MANY; i++) {
        futures[i] = promise();
        test_alloc_fail(1, true);
        const cf_status status = cf_as_completed_add(iter, futures[i]);
        test_alloc_fail(2, false); /* of the two things it needs, the other one */
        const cf_status second =
            status == CF_NO_MEMORY ? cf_as_completed_add(iter, futures[i]) : CF_OK;
        test_alloc_recover();
        CHECK(status == CF_OK || status == CF_NO_MEMORY);
        CHECK(second == CF_OK || second == CF_NO_MEMORY);
        if (status != CF_OK && second != CF_OK) {
            CHECK_EQ(cf_as_completed_remaining(iter), added);
            CHECK_STATUS(cf_as_completed_add(iter, futures[i]), CF_OK);
        }
        CHECK_EQ(cf_as_completed_remaining(iter), ++added);
    }
    cf_as_completed_close(iter);
    release_all(futures, MANY);
}

/* Each allocation is refused in turn: of the iterator, its members and its table. */
TEST(an_iterator_over_some_that_are_done_needs_memory_three_times) {
    if (!test_alloc_hooked()) {
        SKIP("this backend has its own allocator");
    }
    cf_future *futures[4] = {promise(), promise(), promise(), promise()};
    cf_future *const places[5] = {futures[0], futures[1], futures[0], NULL, futures[2]};
    set_int(futures[0], 0);
    set_int(futures[2], 2);
    cf_as_completed_iter *iter = NULL;
    for (size_t nth = 1; nth <= 4; nth++) {
        const size_t live = test_alloc_live();
        test_alloc_fail(nth, false);
        iter = cf_as_completed(places, 5, CF_FOREVER);
        test_alloc_recover();
        CHECK((iter != NULL) == (nth == 4));
        CHECK(iter != NULL || test_alloc_live() == live);
    }
    CHECK_EQ(cf_as_completed_remaining(iter), 3);
    cf_as_completed_close(iter);
    release_all(futures, 4);
}

/* The first addition of one that is done makes the others known to the table. */
TEST(an_addition_that_cannot_look_for_duplicates_is_refused) {
    if (!test_alloc_hooked()) {
        SKIP("this backend has its own allocator");
    }
    enum { MANY = 100 };
    cf_future *futures[MANY];
    for (int i = 0; i < MANY; i++) {
        futures[i] = promise();
        set_int(futures[i], i);
    }
    cf_as_completed_iter *iter = cf_as_completed(futures, MANY, CF_FOREVER);
    CHECK(cf_as_completed_next(iter, NULL, NULL) == futures[0]);
    for (size_t nth = 1; nth <= 2; nth++) {
        test_alloc_fail(nth, true);
        CHECK_STATUS(cf_as_completed_add(iter, futures[0]), CF_NO_MEMORY);
        test_alloc_recover();
        CHECK_EQ(cf_as_completed_remaining(iter), MANY - 1);
    }
    for (size_t i = 0; i < MANY; i++) {
        CHECK_STATUS(cf_as_completed_add(iter, futures[i]), CF_OK);
        CHECK_EQ(cf_as_completed_remaining(iter), MANY);
    }
    for (size_t i = 1; i <= MANY; i++) {
        size_t at = 0;
        CHECK(cf_as_completed_next(iter, &at, NULL) == futures[i % MANY]);
        CHECK_EQ(at, i);
    }
    CHECK_EQ(cf_as_completed_remaining(iter), 0);
    cf_as_completed_close(iter);
    release_all(futures, MANY);
}

static void wait_without_memory(void *arg) {
    cf_future *const futures[3] = {NULL, arg, NULL};
    bool done[3] = {true, true, true};
    test_alloc_fail(1, true);
    CHECK_EQ(cf_wait(futures, 3, CF_FIRST_COMPLETED, 20 * CF_MILLISECOND, done), 0);
    test_alloc_recover();
    CHECK(!done[0] && !done[1] && !done[2]);
}

TEST(a_wait_without_memory_looks_again_and_again) {
    if (!test_alloc_hooked()) {
        SKIP("this backend has its own allocator");
    }
    cf_future *f = promise();
    const int64_t start = now();
    wait_without_memory(f);
    CHECK(now() - start >= 20000000);
    cf_future_release(f);
    gate g = GATE_INIT;
    cf_executor *ex = pool(1);
    occupy(ex, 1, &g);
    f = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK_EQ(in_child(wait_without_memory, f), 0); /* it says CF_FORKED, and ends the wait */
    gate_open(&g);
    cf_future_release(f);
    cf_executor_close(ex);
}

TEST(progress_of_a_map_that_memory_has_ended) {
    if (!test_alloc_hooked()) {
        SKIP("this backend has its own allocator");
    }
    const int items[3] = {1, 2, 3};
    cf_status status = CF_OK;
    size_t total = 9;
    cf_executor *ex = pool(1);
    cf_map_iter *iter = cf_executor_map(ex, task_square, items, 3, sizeof items[0],
                                        &(cf_map_options){.buffersize = 1});
    cf_future *f = cf_executor_submit(ex, task_nothing, CF_NO_ARG);
    CHECK_STATUS(outcome(f), CF_OK); /* the item has ended too */
    test_alloc_fail(1, true);
    CHECK(cf_map_next(iter, &status) != NULL);
    test_alloc_recover();
    CHECK_EQ(cf_map_progress(iter, &total), 1);
    CHECK_EQ(total, 1);
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_NO_MEMORY);
    cf_map_close(iter);
    cf_future_release(f);
    cf_executor_close(ex);
}

/* ---------------------------------------------------------------- in a child of a fork */

typedef struct inherited {
    cf_executor *executor;
    cf_as_completed_iter *iter;
} inherited;

static void use_in_the_child(void *arg) {
    const inherited *i = arg;
    const int items[2] = {1, 2};
    cf_status status = CF_OK;
    CHECK(cf_as_completed_try_next(i->iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_FORKED);
    CHECK_STATUS(cf_executor_map_array(i->executor, task_square, items, sizeof items[0], NULL, 0, 2,
                                       NULL, NULL),
                 CF_FORKED);
}

TEST(what_belongs_to_the_parent_says_so_without_waiting) {
    gate g = GATE_INIT;
    inherited i = {.executor = pool(1)};
    occupy(i.executor, 1, &g);
    cf_future *f = cf_executor_submit(i.executor, task_nothing, CF_NO_ARG);
    i.iter = cf_as_completed(&f, 1, CF_FOREVER);
    CHECK_EQ(in_child(use_in_the_child, &i), 0);
    gate_open(&g);
    cf_as_completed_close(i.iter);
    cf_future_release(f);
    cf_executor_close(i.executor);
}

/* ---------------------------------------------------------------- circles */

static struct circle {
    cf_executor *full; /* one worker, which waits for the task; one task waits in its queue */
    cf_future *task;
    gate ready, waiting;
} circle = {.ready = GATE_INIT, .waiting = GATE_INIT};

static int task_waits_for_the_task(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    gate_await(&circle.ready);
    return (int)-cf_future_wait(circle.task, CF_FOREVER);
}

/* Whoever waits first lets the other go on. */
static void tell_who_waits(int id) {
    if (id == 31) { /* CF__POINT_WAIT */
        gate_open(&circle.waiting);
    }
}

static int task_submits_to_the_full(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    cf_future *futures[2];
    gate_await(&circle.waiting);
    cf_future *f = cf_executor_submit_with(circle.full, task_nothing, NULL, 0,
                                           &(cf_submit_options){.timeout = CF_SECOND});
    CHECK_STATUS(cf_future_wait(f, 0), CF_DEADLOCK);
    CHECK_STATUS(cf_executor_submit_many(circle.full, task_nothing, NULL, 2, 0, futures),
                 CF_DEADLOCK);
    cf_future_release(f);
    release_all(futures, 2);
    return 0;
}

TEST(room_that_only_the_submitter_could_make_is_not_waited_for) {
    test_point_hook(tell_who_waits);
    circle.full = pool_with(&(cf_pool_options){.max_workers = 1, .queue_limit = 1});
    fire(circle.full, task_waits_for_the_task, NULL);
    fire(circle.full, task_nothing, NULL);
    cf_executor *ex = pool(1);
    circle.task = cf_executor_submit(ex, task_submits_to_the_full, CF_NO_ARG);
    gate_open(&circle.ready);
    CHECK_STATUS(outcome(circle.task), CF_OK);
    test_point_hook(NULL);
    cf_executor_close(ex);
    cf_executor_close(circle.full);
    cf_future_release(circle.task);
}

static struct starved {
    cf_executor *starved, *other;
    cf_future *pending;
} starved;

static int task_waits_for_the_pending(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    return (int)-cf_future_wait(starved.pending, CF_FOREVER);
}

static int task_waits_for_who_waits(cf_task *task, void *arg) {
    (void)arg;
    atomic_store(&refuses_threads, true);
    starved.pending = cf_executor_submit(cf_task_executor(task), task_nothing, CF_NO_ARG);
    cf_future *f = cf_executor_submit(starved.other, task_waits_for_the_pending, CF_NO_ARG);
    const cf_status status = cf_future_wait(f, CF_FOREVER);
    const int code = cf_future_error_code(f);
    cf_future_release(f);
    return status == CF_DEADLOCK || code == -CF_DEADLOCK ? 0 : 1;
}

TEST(a_pool_that_could_start_no_second_worker_may_be_part_of_a_circle) {
    starved.starved = pool(2);
    starved.other = pool(1);
    fire(starved.other, task_nothing, NULL);
    fire(starved.starved, task_nothing, NULL);
    UNTIL(stats_of(starved.other).finished == 1 && stats_of(starved.starved).finished == 1);
    cf_future *f = cf_executor_submit(starved.starved, task_waits_for_who_waits, CF_NO_ARG);
    CHECK_STATUS(outcome(f), CF_OK);
    atomic_store(&refuses_threads, false);
    cf_executor_close(starved.starved);
    cf_executor_close(starved.other);
    cf_future_release(starved.pending);
    cf_future_release(f);
}

static int task_maps_over_who_waits(cf_task *task, void *arg) {
    const int item = 1;
    cf_status status = CF_OK;
    (void)task;
    (void)arg;
    cf_map_iter *iter =
        cf_executor_map(circle.full, task_waits_for_the_task, &item, 1, sizeof item, NULL);
    gate_await(&circle.waiting);
    CHECK(cf_map_next(iter, &status) == NULL);
    cf_map_close(iter);
    return (int)-status;
}

TEST(a_map_over_what_waits_for_it_is_told) {
    test_point_hook(tell_who_waits);
    circle.full = pool(1);
    cf_executor *ex = pool(1);
    circle.task = cf_executor_submit(ex, task_maps_over_who_waits, CF_NO_ARG);
    gate_open(&circle.ready);
    CHECK_STATUS(outcome(circle.task), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(circle.task), -CF_DEADLOCK);
    test_point_hook(NULL);
    cf_executor_close(ex);
    cf_executor_close(circle.full);
    cf_future_release(circle.task);
}

TEST_MAIN(
    RUN(a_result_many_tasks_deep_needs_a_thread)
    RUN(an_iterator_many_tasks_deep_needs_a_thread)
    RUN(a_map_many_tasks_deep_needs_a_thread)
    RUN(a_map_array_over_a_pool_without_threads_says_so)
    RUN(an_error_without_memory_for_its_message_changes_nothing)
    RUN(an_iterator_without_memory_for_one_more_is_as_it_was)
    RUN(an_iterator_over_some_that_are_done_needs_memory_three_times)
    RUN(an_addition_that_cannot_look_for_duplicates_is_refused)
    RUN(a_wait_without_memory_looks_again_and_again)
    RUN(progress_of_a_map_that_memory_has_ended)
    RUN(a_pool_that_could_start_no_second_worker_may_be_part_of_a_circle)
    RUN(what_belongs_to_the_parent_says_so_without_waiting)
    RUN(room_that_only_the_submitter_could_make_is_not_waited_for)
    RUN(a_map_over_what_waits_for_it_is_told)
)
