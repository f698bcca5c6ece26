/* cf_as_completed_fd: readable exactly while cf_as_completed_next would not block. Linked with the
 * POSIX backend only, which alone has it. */
#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#include "test.h"

#include "tasks.h"

static cf_as_completed_iter *iterate(cf_future *const *futures, size_t count, cf_duration timeout) {
    cf_as_completed_iter *iter = cf_as_completed(futures, count, timeout);
    CHECK(iter != NULL);
    return iter;
}

static bool readable_within(cf_as_completed_iter *iter, int64_t timeout) {
    struct pollfd p = {.fd = cf_as_completed_fd(iter), .events = POLLIN};
    CHECK(p.fd >= 0);
    const int count = poll(&p, 1, (int)(timeout / CF_MILLISECOND));
    CHECK(count >= 0);
    CHECK((p.revents & (POLLNVAL | POLLERR)) == 0);
    return count == 1 && (p.revents & POLLIN) != 0;
}

static bool readable(cf_as_completed_iter *iter) {
    return readable_within(iter, 0);
}

static void next_is(cf_as_completed_iter *iter, cf_future *future, size_t index) {
    size_t at = SIZE_MAX;
    cf_status status = CF_SYSTEM;
    CHECK(cf_as_completed_next(iter, &at, &status) == future);
    CHECK_STATUS(status, CF_OK);
    CHECK_EQ(at, index);
}

static void next_says(cf_as_completed_iter *iter, cf_status expected) {
    cf_status status = CF_OK;
    CHECK(cf_as_completed_next(iter, NULL, &status) == NULL);
    CHECK_STATUS(status, expected);
}

TEST(readable_exactly_while_something_is_ready) {
    cf_future *futures[3] = {promise(), promise(), promise()};
    cf_as_completed_iter *iter = iterate(futures, 3, CF_FOREVER);
    CHECK(!readable(iter));
    set_int(futures[1], 1);
    CHECK(readable(iter));
    CHECK(readable(iter));
    next_is(iter, futures[1], 1);
    CHECK(!readable(iter));
    set_int(futures[2], 2);
    set_int(futures[0], 0);
    CHECK(readable(iter));
    next_is(iter, futures[2], 2);
    CHECK(readable(iter));
    next_is(iter, futures[0], 0);
    CHECK(readable(iter)); /* the end */
    next_says(iter, CF_END);
    CHECK(readable(iter));
    cf_as_completed_close(iter);
    release_all(futures, 3);
}

TEST(readable_from_the_start_if_some_are_done) {
    cf_future *futures[2] = {promise(), promise()};
    set_int(futures[0], 0);
    cf_as_completed_iter *iter = iterate(futures, 2, CF_FOREVER);
    CHECK(readable(iter));
    next_is(iter, futures[0], 0);
    CHECK(!readable(iter));
    cf_as_completed_close(iter);
    release_all(futures, 2);
}

TEST(asked_for_late_it_knows_what_has_ended) {
    cf_future *futures[3] = {promise(), promise(), promise()};
    cf_as_completed_iter *iter = iterate(futures, 3, CF_FOREVER);
    set_int(futures[0], 0);
    set_int(futures[1], 1);
    next_is(iter, futures[0], 0);
    CHECK(readable(iter));
    next_is(iter, futures[1], 1);
    CHECK(!readable(iter));
    set_int(futures[2], 2);
    CHECK(readable(iter));
    next_is(iter, futures[2], 2);
    CHECK(readable(iter));
    cf_as_completed_close(iter);
    release_all(futures, 3);
}

TEST(an_empty_iterator_is_readable) {
    cf_future *none = NULL;
    cf_as_completed_iter *iter = iterate(&none, 1, CF_FOREVER);
    CHECK(readable(iter));
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
}

TEST(readable_at_the_deadline_and_not_before) {
    cf_future *futures[2] = {promise(), promise()};
    const int64_t start = now();
    cf_as_completed_iter *iter = iterate(futures, 2, 50 * CF_MILLISECOND);
    CHECK(readable_within(iter, limit(5)));
    CHECK(now() - start >= 50 * CF_MILLISECOND);
    next_says(iter, CF_TIMEOUT);
    CHECK(readable(iter)); /* the next call would not block either */
    set_int(futures[1], 1);
    CHECK(readable(iter));
    next_is(iter, futures[1], 1);
    CHECK(readable(iter));
    next_says(iter, CF_TIMEOUT);
    cf_as_completed_close(iter);
    release_all(futures, 2);
}

/* In 2^31 and in 2^32 seconds: where a time_t of 32 bits begins anew. */
TEST(a_deadline_of_centuries_is_not_now) {
    for (int bits = 31; bits <= 33; bits++) {
        cf_future *future = promise();
        cf_as_completed_iter *iter = iterate(&future, 1, ((int64_t)1 << bits) * CF_SECOND);
        CHECK(!readable_within(iter, 5 * CF_MILLISECOND));
        set_int(future, 1);
        CHECK(readable(iter));
        next_is(iter, future, 0);
        cf_as_completed_close(iter);
        cf_future_release(future);
    }
}

TEST(a_delivery_does_not_hide_the_deadline) {
    cf_future *futures[2] = {promise(), promise()};
    const int64_t start = now();
    cf_as_completed_iter *iter = iterate(futures, 2, 50 * CF_MILLISECOND);
    set_int(futures[0], 0);
    CHECK(readable(iter));
    next_is(iter, futures[0], 0);
    CHECK(readable_within(iter, limit(5)));
    CHECK(now() - start >= 50 * CF_MILLISECOND);
    next_says(iter, CF_TIMEOUT);
    cf_as_completed_close(iter);
    release_all(futures, 2);
}

TEST(a_poll_is_readable_at_once) {
    cf_future *future = promise();
    cf_as_completed_iter *iter = iterate(&future, 1, 0);
    CHECK(readable(iter));
    next_says(iter, CF_TIMEOUT);
    CHECK(readable(iter));
    cf_as_completed_close(iter);
    cf_future_release(future);
}

TEST(an_addition_after_the_end_makes_it_wait_again) {
    cf_future *futures[2] = {promise(), promise()};
    cf_as_completed_iter *iter = iterate(NULL, 0, CF_FOREVER);
    CHECK(readable(iter));
    CHECK_STATUS(cf_as_completed_add(iter, futures[0]), CF_OK);
    CHECK(!readable(iter));
    set_int(futures[0], 0);
    CHECK(readable(iter));
    next_is(iter, futures[0], 0);
    next_says(iter, CF_END);
    set_int(futures[1], 1);
    CHECK_STATUS(cf_as_completed_add(iter, futures[1]), CF_OK);
    CHECK(readable(iter));
    next_is(iter, futures[1], 1);
    CHECK(readable(iter));
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, 2);
}

TEST(it_is_one_descriptor_and_closed_on_exec) {
    cf_future *future = promise();
    cf_as_completed_iter *iter = iterate(&future, 1, CF_FOREVER);
    const int fd = cf_as_completed_fd(iter);
    CHECK(fd >= 0);
    CHECK_EQ(cf_as_completed_fd(iter), fd);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(cf_as_completed_remaining(iter) == 1);
    cf_as_completed_close(iter);
    CHECK(fcntl(fd, F_GETFD) == -1);
    cf_future_release(future);
}

TEST(a_null_iterator_has_none) {
    CHECK(cf_as_completed_fd(NULL) < 0);
}

TEST(a_cancel_makes_it_readable) {
    cf_future *future = promise();
    cf_as_completed_iter *iter = iterate(&future, 1, CF_FOREVER);
    CHECK(!readable(iter));
    CHECK(cf_future_cancel(future));
    CHECK(readable(iter));
    next_is(iter, future, 0);
    cf_as_completed_close(iter);
    cf_future_release(future);
}

static void close_under_an_iterator(void *arg) {
    cf_future *f = promise();
    cf_as_completed_iter *iter = iterate(&f, 1, CF_FOREVER);
    (void)arg;
    CHECK_EQ(close(cf_as_completed_fd(iter)), 0);
    set_int(f, 1);
    next_is(iter, f, 0);
    cf_as_completed_close(iter);
    cf_future_release(f);
}

TEST(a_host_that_closes_the_descriptor_gets_no_signal) {
    CHECK_EQ(in_child(close_under_an_iterator, NULL), 0);
}

static void *close_after_a_while(void *arg) {
    sleep_for(10 * CF_MILLISECOND);
    gate_open(arg);
    return NULL;
}

TEST(an_end_wakes_a_poll_that_sleeps) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    pthread_t opener;
    cf_future *future = cf_executor_submit(executor, task_block, &g, 0);
    gate_await_arrivals(&g, 1);
    cf_as_completed_iter *iter = iterate(&future, 1, CF_FOREVER);
    CHECK(!readable(iter));
    spawn(&opener, close_after_a_while, &g);
    CHECK(readable_within(iter, limit(5)));
    next_is(iter, future, 0);
    join(opener);
    cf_as_completed_close(iter);
    cf_future_release(future);
    cf_executor_close(executor);
}

/* An event loop: poll, then exactly one next. A lost wake-up is a poll that ends without an event;
 * a false one is a next that blocks, which the limit of the test ends. */
TEST(an_event_loop_loses_no_event) {
    enum { COUNT = 2000 };
    cf_executor *executor = pool(4);
    cf_future **futures = calloc(COUNT, sizeof *futures);
    CHECK(futures != NULL);
    cf_as_completed_iter *iter = iterate(NULL, 0, CF_FOREVER);
    size_t count = 0, seen = 0;
    while (seen < COUNT) {
        for (int i = 0; i < 3 && count < COUNT; i++) {
            futures[count] = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
            CHECK_STATUS(cf_as_completed_add(iter, futures[count]), CF_OK);
            count++;
        }
        CHECK(readable_within(iter, limit(TEST_GATE_LIMIT_S)));
        CHECK(cf_as_completed_next(iter, NULL, NULL) != NULL);
        seen++;
    }
    CHECK(readable(iter));
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, COUNT);
    free(futures);
    cf_executor_close(executor);
}

TEST(several_iterators_have_their_own) {
    cf_future *futures[2] = {promise(), promise()};
    cf_as_completed_iter *both = iterate(futures, 2, CF_FOREVER);
    cf_as_completed_iter *second = iterate(futures + 1, 1, CF_FOREVER);
    CHECK(cf_as_completed_fd(both) != cf_as_completed_fd(second));
    set_int(futures[0], 0);
    CHECK(readable(both));
    CHECK(!readable(second));
    set_int(futures[1], 1);
    CHECK(readable(second));
    cf_as_completed_close(both);
    next_is(second, futures[1], 0);
    cf_as_completed_close(second);
    release_all(futures, 2);
}

/* A loop that lives on: it watches the descriptor while something is under way, takes all that is
 * ready, and so neither spins between two rounds nor loses a future. */
TEST(a_loop_that_takes_what_is_ready_does_not_spin) {
    enum { ROUNDS = 100, COUNT = 10 };
    cf_executor *executor = pool(2);
    cf_as_completed_iter *iter = iterate(NULL, 0, CF_FOREVER);
    for (int round = 0; round < ROUNDS; round++) {
        cf_future *futures[COUNT];
        size_t events = 0;
        for (size_t i = 0; i < COUNT; i++) {
            futures[i] = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
            CHECK_STATUS(cf_as_completed_add(iter, futures[i]), CF_OK);
        }
        for (size_t left = COUNT; left > 0; left = cf_as_completed_remaining(iter)) {
            CHECK(readable_within(iter, limit(TEST_GATE_LIMIT_S)));
            CHECK(cf_as_completed_try_next(iter, NULL, NULL) != NULL);
            while (cf_as_completed_try_next(iter, NULL, NULL) != NULL) {
            }
            events++;
        }
        CHECK(events <= COUNT);
        release_all(futures, COUNT);
    }
    cf_as_completed_close(iter);
    cf_executor_close(executor);
}

TEST(readable_while_some_that_ended_before_the_call_are_to_come) {
    cf_future *futures[3] = {promise(), promise(), promise()};
    set_int(futures[0], 0);
    set_int(futures[2], 2);
    cf_as_completed_iter *iter = iterate(futures, 3, CF_FOREVER);
    CHECK(readable(iter));
    next_is(iter, futures[0], 0);
    CHECK(readable(iter));
    CHECK_STATUS(cf_as_completed_add(iter, futures[2]), CF_OK);
    CHECK(readable(iter));
    CHECK(cf_as_completed_try_next(iter, NULL, NULL) == futures[2]);
    CHECK(!readable(iter));
    CHECK_STATUS(cf_as_completed_add(iter, futures[2]), CF_OK);
    CHECK(readable(iter));
    next_is(iter, futures[2], 4);
    CHECK(!readable(iter));
    set_int(futures[1], 1);
    CHECK(readable(iter));
    next_is(iter, futures[1], 1);
    CHECK(readable(iter)); /* the end */
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, 3);
}

TEST(nothing_is_readable_once_all_that_was_ready_is_taken) {
    cf_future *futures[3] = {promise(), promise(), promise()};
    cf_as_completed_iter *iter = iterate(futures, 3, CF_FOREVER);
    CHECK(!readable(iter));
    CHECK(cf_as_completed_try_next(iter, NULL, NULL) == NULL);
    set_int(futures[0], 0);
    set_int(futures[1], 1);
    CHECK(readable(iter));
    CHECK(cf_as_completed_try_next(iter, NULL, NULL) == futures[0]);
    CHECK(readable(iter));
    CHECK(cf_as_completed_try_next(iter, NULL, NULL) == futures[1]);
    CHECK(!readable(iter));
    cf_as_completed_close(iter);
    release_all(futures, 3);
}

/* ---------------------------------------------------------------- fork */

static void take_what_is_there(void *arg) {
    cf_as_completed_iter *iter = arg;
    CHECK(cf_as_completed_next(iter, NULL, NULL) != NULL);
    next_says(iter, CF_FORKED);
    cf_as_completed_close(iter);
}

TEST(a_child_leaves_the_descriptor_of_its_parent_alone) {
    cf_future *futures[2] = {promise(), promise()};
    cf_as_completed_iter *iter = iterate(futures, 2, CF_FOREVER);
    CHECK(!readable(iter));
    set_int(futures[0], 1);
    CHECK_EQ(in_child(take_what_is_there, iter), 0);
    CHECK(readable(iter));
    next_is(iter, futures[0], 0);
    CHECK(!readable(iter));
    cf_as_completed_close(iter);
    release_all(futures, 2);
}

static gate on_its_way = GATE_INIT;

static void hold_before_delivery(int id) {
    enum { SETTLED = 11 };
    if (id == SETTLED) {
        gate_arrive(&on_its_way);
        gate_await(&on_its_way);
    }
}

static void *set_it(void *arg) {
    set_int(arg, 1);
    return NULL;
}

static void close_it(void *arg) {
    cf_as_completed_close(arg);
}

/* Whoever settled the future is not in the child, so nobody would ever deliver it there. */
static void set_in_a_child(void *arg) {
    set_int(arg, 2);
    CHECK_EQ(int_of(arg), 2);
}

TEST(a_child_that_ends_its_copy_of_a_promise_is_not_heard_by_the_parent) {
    cf_future *future = promise();
    cf_as_completed_iter *iter = iterate(&future, 1, CF_FOREVER);
    CHECK(!readable(iter));
    CHECK_EQ(in_child(set_in_a_child, future), 0);
    CHECK(!readable(iter));
    set_int(future, 3);
    CHECK(readable(iter));
    next_is(iter, future, 0);
    cf_as_completed_close(iter);
    cf_future_release(future);
}

TEST(a_child_closes_an_iterator_to_which_a_future_was_on_its_way) {
    cf_future *future = promise();
    cf_as_completed_iter *iter = iterate(&future, 1, CF_FOREVER);
    CHECK(!readable(iter));
    test_point_hook(hold_before_delivery);
    pthread_t thread;
    spawn(&thread, set_it, future);
    gate_await_arrivals(&on_its_way, 1);
    CHECK_EQ(in_child(close_it, iter), 0);
    gate_open(&on_its_way);
    join(thread);
    test_point_hook(NULL);
    next_is(iter, future, 0);
    cf_as_completed_close(iter);
    cf_future_release(future);
}

static gate in_the_lock = GATE_INIT;

static void hold_in_the_lock(int id) {
    enum { SIGNAL = 13 };
    if (id == SIGNAL) {
        gate_arrive(&in_the_lock);
        gate_await(&in_the_lock);
    }
}

static void set_another(void *arg) {
    test_point_hook(NULL);
    set_int(arg, 1);
}

TEST(a_child_sets_a_promise_while_its_parent_signals_another_one) {
    cf_future *futures[2] = {promise(), promise()};
    cf_as_completed_iter *iter = iterate(futures, 2, CF_FOREVER);
    CHECK(!readable(iter));
    test_point_hook(hold_in_the_lock);
    pthread_t thread;
    spawn(&thread, set_it, futures[0]);
    gate_await_arrivals(&in_the_lock, 1);
    CHECK_EQ(in_child(set_another, futures[1]), 0);
    gate_open(&in_the_lock);
    join(thread);
    test_point_hook(NULL);
    next_is(iter, futures[0], 0);
    CHECK(!readable(iter));
    cf_as_completed_close(iter);
    release_all(futures, 2);
}

TEST_MAIN(
    RUN(readable_exactly_while_something_is_ready)
    RUN(readable_from_the_start_if_some_are_done)
    RUN(asked_for_late_it_knows_what_has_ended)
    RUN(an_empty_iterator_is_readable)
    RUN(readable_at_the_deadline_and_not_before)
    RUN(a_deadline_of_centuries_is_not_now)
    RUN(a_delivery_does_not_hide_the_deadline)
    RUN(a_poll_is_readable_at_once)
    RUN(an_addition_after_the_end_makes_it_wait_again)
    RUN(it_is_one_descriptor_and_closed_on_exec)
    RUN(a_null_iterator_has_none)
    RUN(a_cancel_makes_it_readable)
    RUN(a_host_that_closes_the_descriptor_gets_no_signal)
    RUN(an_end_wakes_a_poll_that_sleeps)
    RUN(an_event_loop_loses_no_event)
    RUN(several_iterators_have_their_own)
    RUN(a_loop_that_takes_what_is_ready_does_not_spin)
    RUN(a_child_leaves_the_descriptor_of_its_parent_alone)
    RUN(a_child_that_ends_its_copy_of_a_promise_is_not_heard_by_the_parent)
    RUN(a_child_closes_an_iterator_to_which_a_future_was_on_its_way)
    RUN(a_child_sets_a_promise_while_its_parent_signals_another_one)
    RUN(readable_while_some_that_ended_before_the_call_are_to_come)
    RUN(nothing_is_readable_once_all_that_was_ready_is_taken)
)
