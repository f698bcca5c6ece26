/* cf_as_completed: order, indexes, deadlines, additions, early ends. Its descriptor: test_fd.c. */
#include "test.h"

#include "tasks.h"

static void fill_promises(cf_future **futures, size_t count) {
    for (size_t i = 0; i < count; i++) {
        futures[i] = promise();
    }
}

static cf_as_completed_iter *iterate(cf_future *const *futures, size_t count, cf_duration timeout) {
    cf_as_completed_iter *iter = cf_as_completed(futures, count, timeout);
    CHECK(iter != NULL);
    return iter;
}

/* The next one must be futures[index]. */
static void next_is(cf_as_completed_iter *iter, cf_future *future, size_t index) {
    size_t at = SIZE_MAX;
    cf_status status = CF_SYSTEM;
    cf_future *next = cf_as_completed_next(iter, &at, &status);
    CHECK_STATUS(status, CF_OK);
    CHECK(next == future);
    CHECK_EQ(at, index);
}

/* There is no next one. */
static void next_says(cf_as_completed_iter *iter, cf_status expected) {
    size_t at = 0;
    cf_status status = CF_OK;
    CHECK(cf_as_completed_next(iter, &at, &status) == NULL);
    CHECK_STATUS(status, expected);
}

/* ---------------------------------------------------------------- order */

TEST(no_futures_end_at_once) {
    cf_as_completed_iter *iter = iterate(NULL, 0, CF_FOREVER);
    CHECK_EQ(cf_as_completed_remaining(iter), 0);
    next_says(iter, CF_END);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
}

TEST(futures_come_in_the_order_in_which_they_end) {
    enum { COUNT = 8 };
    static const size_t order[COUNT] = {3, 0, 7, 1, 6, 2, 5, 4};
    cf_future *futures[COUNT];
    fill_promises(futures, COUNT);
    cf_as_completed_iter *iter = iterate(futures, COUNT, CF_FOREVER);
    for (size_t i = 0; i < COUNT; i++) {
        set_int(futures[order[i]], (int)i);
    }
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_EQ(cf_as_completed_remaining(iter), COUNT - i);
        next_is(iter, futures[order[i]], order[i]);
    }
    CHECK_EQ(cf_as_completed_remaining(iter), 0);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, COUNT);
}

TEST(those_already_done_come_first) {
    cf_future *futures[4];
    fill_promises(futures, 4);
    set_int(futures[3], 3);
    cf_as_completed_iter *iter = iterate(futures, 4, CF_FOREVER);
    set_int(futures[0], 0);
    set_int(futures[2], 2);
    next_is(iter, futures[3], 3);
    next_is(iter, futures[0], 0);
    next_is(iter, futures[2], 2);
    set_int(futures[1], 1);
    next_is(iter, futures[1], 1);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, 4);
}

TEST(results_errors_refusals_and_cancelled_are_all_delivered) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    const int n = 4;
    occupy(executor, 1, &g);
    cf_future *futures[4] = {
        cf_executor_submit(executor, task_square, &n, sizeof n),
        cf_executor_submit(executor, task_fail, &n, sizeof n),
        cf_executor_submit(executor, task_nothing, CF_NO_ARG),
        cf_executor_submit(NULL, task_nothing, CF_NO_ARG),
    };
    cf_as_completed_iter *iter = iterate(futures, 4, CF_FOREVER);
    next_is(iter, futures[3], 3);
    CHECK(cf_future_cancel(futures[2]));
    next_is(iter, futures[2], 2);
    gate_open(&g);
    next_is(iter, futures[0], 0);
    next_is(iter, futures[1], 1);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    CHECK_STATUS(cf_future_wait(futures[1], 0), CF_TASK_FAILED);
    CHECK_STATUS(cf_future_wait(futures[2], 0), CF_CANCELLED);
    release_all(futures, 4);
    cf_executor_close(executor);
}

TEST(a_cancel_before_the_call_is_delivered) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    occupy(executor, 1, &g);
    cf_future *future = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    CHECK(cf_future_cancel(future));
    cf_as_completed_iter *iter = iterate(&future, 1, CF_FOREVER);
    next_is(iter, future, 0);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    cf_future_release(future);
    gate_open(&g);
    cf_executor_close(executor);
}

TEST(a_delivered_future_answers_without_blocking) {
    enum { COUNT = 40 };
    cf_executor *executor = pool(4);
    cf_future *futures[COUNT];
    bool seen[COUNT] = {false};
    for (int i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_square, &i, sizeof i);
    }
    cf_as_completed_iter *iter = iterate(futures, COUNT, CF_FOREVER);
    for (size_t i = 0; i < COUNT; i++) {
        size_t at = 0;
        cf_status status = CF_SYSTEM;
        cf_future *next = cf_as_completed_next(iter, &at, &status);
        CHECK_STATUS(status, CF_OK);
        CHECK(next == futures[at] && !seen[at]);
        seen[at] = true;
        CHECK(cf_future_done(next));
        const int *value = cf_future_result(next, 0, &status);
        CHECK_STATUS(status, CF_OK);
        CHECK_EQ(*value, at * at);
    }
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, COUNT);
    cf_executor_close(executor);
}

TEST(futures_of_different_executors_and_promises_mix) {
    cf_executor *first = pool(1);
    cf_executor *second = pool(1);
    cf_executor *here = inline_executor();
    gate a = GATE_INIT;
    gate b = GATE_INIT;
    cf_future *futures[4] = {
        cf_executor_submit(first, task_block, &a, 0), cf_executor_submit(second, task_block, &b, 0),
        cf_executor_submit(here, task_nothing, CF_NO_ARG), promise()};
    cf_as_completed_iter *iter = iterate(futures, 4, CF_FOREVER);
    next_is(iter, futures[2], 2);
    gate_open(&b);
    next_is(iter, futures[1], 1);
    set_int(futures[3], 1);
    next_is(iter, futures[3], 3);
    gate_open(&a);
    next_is(iter, futures[0], 0);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, 4);
    cf_executor_close(first);
    cf_executor_close(second);
    cf_executor_close(here);
}

/* ---------------------------------------------------------------- duplicates and NULL */

TEST(null_entries_are_skipped_and_keep_the_indexes) {
    cf_future *futures[5] = {NULL, promise(), NULL, promise(), NULL};
    set_int(futures[3], 3);
    cf_as_completed_iter *iter = iterate(futures, 5, CF_FOREVER);
    CHECK_EQ(cf_as_completed_remaining(iter), 2);
    next_is(iter, futures[3], 3);
    set_int(futures[1], 1);
    next_is(iter, futures[1], 1);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, 5);
}

TEST(null_entries_alone_end_at_once) {
    cf_future *futures[2] = {NULL, NULL};
    cf_as_completed_iter *iter = iterate(futures, 2, CF_FOREVER);
    CHECK_EQ(cf_as_completed_remaining(iter), 0);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
}

TEST(duplicates_come_once_with_the_first_index) {
    cf_future *a = promise();
    cf_future *b = promise();
    cf_future *futures[6] = {NULL, b, a, b, a, a};
    set_int(a, 1);
    cf_as_completed_iter *iter = iterate(futures, 6, CF_FOREVER);
    CHECK_EQ(cf_as_completed_remaining(iter), 2);
    next_is(iter, a, 2);
    CHECK_EQ(cf_as_completed_remaining(iter), 1);
    set_int(b, 2);
    next_is(iter, b, 1);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    cf_future_release(a);
    cf_future_release(b);
}

/* When the call that runs passes this point for that time, these end. */
enum { SIFT = 83, SET_ADD = 36 }; /* CF__POINT_SIFT, CF__POINT_SET_ADD */
enum { GAP = 20 }; /* of NULL; so many are told apart in another way */
typedef struct moment {
    int point, countdown;
    unsigned ends; /* a bit for each of the futures */
    cf_future **futures;
} moment;

static moment the_moment;

static void end_at_the_moment(int point) {
    if (point != the_moment.point || --the_moment.countdown != 0) {
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        if ((the_moment.ends >> i & 1) != 0) {
            set_int(the_moment.futures[i], 1);
        }
    }
}

/* Delivers what is done, then ends the rest: each of the two comes once, with its first index. */
static void come_once(cf_future **places, size_t count, cf_future **futures) {
    size_t first[2] = {SIZE_MAX, SIZE_MAX}, left = 0, at;
    cf_as_completed_iter *iter = iterate(places, count, CF_FOREVER);
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = count; k-- > 0;) {
            first[i] = places[k] == futures[i] ? k : first[i];
        }
        left += first[i] != SIZE_MAX;
    }
    for (int round = 0; round < 2; round++) {
        for (cf_future *next; (next = cf_as_completed_try_next(iter, &at, NULL)) != NULL; left--) {
            CHECK_EQ(cf_as_completed_remaining(iter), left - 1);
            const size_t which = next == futures[1];
            CHECK(next == futures[which] && cf_future_done(next));
            CHECK_EQ(at, first[which]);
            first[which] = SIZE_MAX;
        }
        for (size_t i = 0; i < 2; i++) {
            CHECK(first[i] == SIZE_MAX || !cf_future_done(futures[i]));
            (void)cf_future_cancel(futures[i]);
        }
    }
    CHECK_EQ(left, 0);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
}

/* All arrays of five out of NULL and two futures; both, one or none done before; and at each moment
 * of the call one of them, or both. */
static void end_at_all_moments(size_t gap) {
    enum { PLACES = 5, ARRAYS = 243 };
    test_point_hook(end_at_the_moment);
    for (unsigned array = 0; array < ARRAYS; array++) {
        for (unsigned when = 0; when < 4u * 3 * 2 * PLACES; when++) {
            cf_future *futures[2] = {promise(), promise()};
            cf_future *const choice[3] = {NULL, futures[0], futures[1]};
            cf_future *places[PLACES + GAP] = {NULL};
            unsigned rest = array;
            for (size_t i = 0; i < PLACES; i++, rest /= 3) {
                places[i + (i > 1 ? gap : 0)] = choice[rest % 3];
            }
            const unsigned before = when % 4, ends = when / 4 % 3 + 1;
            the_moment.countdown = 0;
            for (size_t i = 0; i < 2; i++) {
                if ((before >> i & 1) != 0) {
                    set_int(futures[i], 1);
                }
            }
            the_moment = (moment){when / 12 % 2 == 0 ? SIFT : SET_ADD, (int)(when / 24) + 1,
                                  ends & ~before, futures};
            come_once(places, PLACES + gap, futures);
            the_moment.countdown = 0;
            release_all(futures, 2);
        }
    }
    test_point_hook(NULL);
}

TEST(each_of_few_comes_once_whenever_it_ends) {
    end_at_all_moments(0);
}

TEST(each_of_many_comes_once_whenever_it_ends) {
    end_at_all_moments(GAP);
}

TEST(index_and_status_may_be_null) {
    cf_future *futures[2] = {promise(), promise()};
    set_int(futures[0], 1);
    cf_as_completed_iter *iter = iterate(futures, 2, 0);
    CHECK(cf_as_completed_next(iter, NULL, NULL) == futures[0]);
    CHECK(cf_as_completed_next(iter, NULL, NULL) == NULL);
    cf_as_completed_close(iter);
    release_all(futures, 2);
}

TEST(a_null_iterator_says_invalid) {
    next_says(NULL, CF_INVALID);
    cf_future *future = promise();
    CHECK_STATUS(cf_as_completed_add(NULL, future), CF_INVALID);
    CHECK_EQ(cf_as_completed_remaining(NULL), 0);
    cf_as_completed_close(NULL);
    cf_future_release(future);
}

/* ---------------------------------------------------------------- deadlines */

TEST(zero_polls) {
    cf_future *futures[3] = {promise(), promise(), promise()};
    set_int(futures[1], 1);
    cf_as_completed_iter *iter = iterate(futures, 3, 0);
    next_is(iter, futures[1], 1);
    next_says(iter, CF_TIMEOUT);
    next_says(iter, CF_TIMEOUT);
    CHECK_EQ(cf_as_completed_remaining(iter), 2);
    set_int(futures[2], 2);
    next_is(iter, futures[2], 2);
    next_says(iter, CF_TIMEOUT);
    set_int(futures[0], 0);
    next_is(iter, futures[0], 0);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, 3);
}

TEST(a_timeout_comes_after_what_is_ready) {
    cf_future *futures[4];
    fill_promises(futures, 4);
    set_int(futures[0], 0);
    const int64_t start = now();
    cf_as_completed_iter *iter = iterate(futures, 4, 30 * CF_MILLISECOND);
    set_int(futures[2], 2);
    next_is(iter, futures[0], 0);
    next_is(iter, futures[2], 2);
    next_says(iter, CF_TIMEOUT);
    CHECK(now() - start >= 30 * CF_MILLISECOND);
    CHECK(now() - start < limit(5));
    CHECK_EQ(cf_as_completed_remaining(iter), 2);
    CHECK_EQ(cf_future_state(futures[1]), CF_STATE_PENDING);
    cf_as_completed_close(iter);
    release_all(futures, 4);
}

/* 300 ms, so that a deadline counted from the first next, as in Python, is told apart. */
TEST(the_deadline_runs_from_the_call) {
    cf_future *future = promise();
    cf_as_completed_iter *iter = iterate(&future, 1, 300 * CF_MILLISECOND);
    sleep_for(310 * CF_MILLISECOND);
    const int64_t start = now();
    next_says(iter, CF_TIMEOUT);
    CHECK(now() - start < 290 * CF_MILLISECOND);
    cf_as_completed_close(iter);
    cf_future_release(future);
}

TEST(what_has_ended_is_delivered_after_the_deadline) {
    cf_future *futures[3] = {promise(), promise(), promise()};
    cf_as_completed_iter *iter = iterate(futures, 3, CF_MILLISECOND);
    set_int(futures[1], 1);
    sleep_for(2 * CF_MILLISECOND);
    set_int(futures[0], 0);
    next_is(iter, futures[1], 1);
    next_is(iter, futures[0], 0);
    next_says(iter, CF_TIMEOUT);
    CHECK(cf_future_cancel(futures[2]));
    next_is(iter, futures[2], 2);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, 3);
}

TEST(the_deadline_is_of_the_whole_and_not_of_an_item) {
    enum { COUNT = 6 };
    cf_future *futures[COUNT];
    fill_promises(futures, COUNT);
    const int64_t start = now();
    cf_as_completed_iter *iter = iterate(futures, COUNT, 300 * CF_MILLISECOND);
    for (size_t i = 0; i + 1 < COUNT; i++) {
        sleep_for(50 * CF_MILLISECOND);
        set_int(futures[i], 1);
        next_is(iter, futures[i], i);
    }
    const int64_t last = now();
    next_says(iter, CF_TIMEOUT);
    CHECK(now() - start >= 300 * CF_MILLISECOND);
    CHECK(now() - last < 290 * CF_MILLISECOND);
    cf_as_completed_close(iter);
    release_all(futures, COUNT);
}

static void *set_after_a_while(void *arg) {
    sleep_for(20 * CF_MILLISECOND);
    set_int(arg, 1);
    return NULL;
}

TEST(endless_and_absurdly_long_timeouts_wait) {
    const cf_duration timeouts[] = {CF_FOREVER, -7, INT64_MIN, INT64_MAX, INT64_MAX - 1};
    for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
        cf_future *future = promise();
        pthread_t setter;
        cf_as_completed_iter *iter = iterate(&future, 1, timeouts[i]);
        spawn(&setter, set_after_a_while, future);
        next_is(iter, future, 0);
        next_says(iter, CF_END);
        join(setter);
        cf_as_completed_close(iter);
        cf_future_release(future);
    }
}

TEST(a_timeout_cancels_nothing) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    const int n = 3;
    cf_future *futures[2] = {cf_executor_submit(executor, task_block, &g, 0),
                             cf_executor_submit(executor, task_square, &n, sizeof n)};
    gate_await_arrivals(&g, 1);
    cf_as_completed_iter *iter = iterate(futures, 2, CF_MILLISECOND);
    next_says(iter, CF_TIMEOUT);
    CHECK_EQ(cf_future_state(futures[0]), CF_STATE_RUNNING);
    CHECK_EQ(cf_future_state(futures[1]), CF_STATE_PENDING);
    cf_as_completed_close(iter);
    gate_open(&g);
    CHECK_EQ(int_of(futures[1]), 9);
    release_all(futures, 2);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- add */

TEST(a_done_future_that_is_added_comes_after_those_that_ended_before_it) {
    cf_future *futures[3] = {promise(), promise(), promise()};
    cf_as_completed_iter *iter = iterate(futures, 2, CF_FOREVER);
    set_int(futures[1], 1);
    set_int(futures[2], 2);
    CHECK_STATUS(cf_as_completed_add(iter, futures[2]), CF_OK);
    set_int(futures[0], 0);
    next_is(iter, futures[1], 1);
    next_is(iter, futures[2], 2);
    next_is(iter, futures[0], 0);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, 3);
}

TEST(a_future_that_is_added_gets_the_next_index) {
    cf_future *futures[2] = {promise(), NULL};
    cf_as_completed_iter *iter = iterate(futures, 2, CF_FOREVER);
    cf_future *third = promise();
    cf_future *fourth = promise();
    CHECK_STATUS(cf_as_completed_add(iter, third), CF_OK);
    CHECK_STATUS(cf_as_completed_add(iter, fourth), CF_OK);
    CHECK_EQ(cf_as_completed_remaining(iter), 3);
    set_int(fourth, 4);
    next_is(iter, fourth, 3);
    set_int(futures[0], 1);
    next_is(iter, futures[0], 0);
    set_int(third, 3);
    next_is(iter, third, 2);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    cf_future_release(futures[0]);
    cf_future_release(third);
    cf_future_release(fourth);
}

TEST(null_and_duplicates_that_are_added_use_up_an_index) {
    cf_future *a = promise();
    cf_future *b = promise();
    cf_as_completed_iter *iter = iterate(&a, 1, CF_FOREVER);
    CHECK_STATUS(cf_as_completed_add(iter, NULL), CF_OK);
    CHECK_STATUS(cf_as_completed_add(iter, a), CF_OK);
    CHECK_EQ(cf_as_completed_remaining(iter), 1);
    CHECK_STATUS(cf_as_completed_add(iter, b), CF_OK);
    CHECK_STATUS(cf_as_completed_add(iter, b), CF_OK);
    CHECK_EQ(cf_as_completed_remaining(iter), 2);
    set_int(b, 2);
    next_is(iter, b, 3);
    set_int(a, 1);
    next_is(iter, a, 0);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    cf_future_release(a);
    cf_future_release(b);
}

TEST(a_done_future_that_is_added_is_delivered) {
    cf_as_completed_iter *iter = iterate(NULL, 0, CF_FOREVER);
    cf_future *future = promise();
    set_int(future, 1);
    CHECK_STATUS(cf_as_completed_add(iter, future), CF_OK);
    next_is(iter, future, 0);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    cf_future_release(future);
}

TEST(add_after_the_end_revives) {
    cf_future *futures[5];
    fill_promises(futures, 5);
    cf_as_completed_iter *iter = iterate(futures, 1, CF_FOREVER);
    set_int(futures[0], 0);
    next_is(iter, futures[0], 0);
    for (size_t i = 1; i < 5; i++) {
        next_says(iter, CF_END);
        CHECK_STATUS(cf_as_completed_add(iter, futures[i]), CF_OK);
        CHECK_EQ(cf_as_completed_remaining(iter), 1);
        set_int(futures[i], (int)i);
        next_is(iter, futures[i], i);
    }
    next_says(iter, CF_END);
    CHECK_STATUS(cf_as_completed_add(iter, NULL), CF_OK);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, 5);
}

TEST(add_after_the_deadline_does_not_extend_it) {
    cf_future *futures[2] = {promise(), promise()};
    cf_as_completed_iter *iter = iterate(futures, 1, CF_MILLISECOND);
    next_says(iter, CF_TIMEOUT);
    CHECK_STATUS(cf_as_completed_add(iter, futures[1]), CF_OK);
    next_says(iter, CF_TIMEOUT);
    CHECK_EQ(cf_as_completed_remaining(iter), 2);
    set_int(futures[1], 1);
    next_is(iter, futures[1], 1);
    next_says(iter, CF_TIMEOUT);
    cf_as_completed_close(iter);
    release_all(futures, 2);
}

/* A crawler: each result adds work. */
TEST(futures_may_be_added_while_iterating) {
    enum { LEVELS = 9, TOTAL = (1 << LEVELS) - 1 };
    cf_executor *executor = pool(3);
    cf_future **futures = calloc(TOTAL, sizeof *futures);
    CHECK(futures != NULL);
    const int one = 1;
    size_t count = 1, seen = 0;
    futures[0] = cf_executor_submit(executor, task_square, &one, sizeof one);
    cf_as_completed_iter *iter = iterate(futures, 1, CF_FOREVER);
    for (;;) {
        size_t at = 0;
        cf_status status = CF_SYSTEM;
        const cf_future *next = cf_as_completed_next(iter, &at, &status);
        if (next == NULL) {
            CHECK_STATUS(status, CF_END);
            break;
        }
        CHECK(next == futures[at]);
        seen++;
        for (int i = 0; i < 2 && count < TOTAL; i++) {
            futures[count] = cf_executor_submit(executor, task_square, &one, sizeof one);
            CHECK_STATUS(cf_as_completed_add(iter, futures[count]), CF_OK);
            count++;
        }
    }
    CHECK_EQ(seen, TOTAL);
    cf_as_completed_close(iter);
    release_all(futures, TOTAL);
    free(futures);
    cf_executor_close(executor);
}

/* A future that was delivered and released leaves its address to another, which is no duplicate. */
TEST(a_new_future_at_the_address_of_a_delivered_one_is_delivered) {
    enum { COUNT = 300 };
    cf_executor *executor = pool(2);
    const int n = 2;
    cf_as_completed_iter *iter = iterate(NULL, 0, CF_FOREVER);
    for (size_t i = 0; i < COUNT; i++) {
        cf_future *future =
            i % 2 == 0 ? cf_executor_submit(executor, task_square, &n, sizeof n) : promise();
        CHECK_STATUS(cf_as_completed_add(iter, future), CF_OK);
        if (i % 2 != 0) {
            set_int(future, 1);
        }
        next_is(iter, future, i);
        cf_future_release(future);
    }
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    cf_executor_close(executor);
}

TEST(an_addition_meets_what_is_still_to_come) {
    cf_future *futures[4] = {promise(), promise(), promise(), promise()};
    cf_future *places[6] = {futures[0], futures[1], futures[0], NULL, futures[2], futures[1]};
    set_int(futures[0], 0);
    set_int(futures[2], 2);
    cf_as_completed_iter *iter = iterate(places, 6, CF_FOREVER);
    CHECK_EQ(cf_as_completed_remaining(iter), 3);
    CHECK_STATUS(cf_as_completed_add(iter, futures[3]), CF_OK); /* 6: none is looked for */
    CHECK_STATUS(cf_as_completed_add(iter, futures[0]), CF_OK); /* 7: it is still to come */
    CHECK_EQ(cf_as_completed_remaining(iter), 4);
    next_is(iter, futures[0], 0);
    CHECK_STATUS(cf_as_completed_add(iter, futures[0]), CF_OK); /* 8: it came, so it is new */
    CHECK_STATUS(cf_as_completed_add(iter, futures[2]), CF_OK); /* 9: still to come */
    CHECK_EQ(cf_as_completed_remaining(iter), 4);
    set_int(futures[1], 1);
    CHECK_STATUS(cf_as_completed_add(iter, futures[1]), CF_OK); /* 10: likewise */
    CHECK_EQ(cf_as_completed_remaining(iter), 4);
    next_is(iter, futures[2], 4);
    next_is(iter, futures[0], 8);
    next_is(iter, futures[1], 1);
    set_int(futures[3], 3);
    next_is(iter, futures[3], 6);
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, 4);
}

/* What an iterator should hold: an index for each of the futures, or none. */
enum { KINDS = 12, NONE = -1 };
typedef struct inventory {
    cf_future *futures[KINDS];
    int index[KINDS];
    size_t count;
} inventory;

static void hold(inventory *h, size_t kind, int index) {
    if (h->index[kind] == NONE) {
        h->index[kind] = index;
        h->count++;
    }
}

/* It comes, and is released; another one takes its place now and then, perhaps at its address. */
static void take_one(inventory *h, cf_as_completed_iter *iter, uint64_t *random) {
    size_t at = SIZE_MAX, ready = 0;
    cf_status status = CF_SYSTEM;
    const cf_future *next = cf_as_completed_try_next(iter, &at, &status);
    for (size_t i = 0; i < KINDS; i++) {
        ready += h->index[i] != NONE && cf_future_done(h->futures[i]);
        if (next != NULL && h->futures[i] == next) {
            CHECK(cf_future_done(next) && h->index[i] != NONE);
            CHECK_EQ(at, h->index[i]);
            h->index[i] = NONE;
            h->count--;
            if (test_random(random) % 2 == 0) {
                cf_future_release(h->futures[i]);
                h->futures[i] = promise();
            }
            return;
        }
    }
    CHECK(next == NULL && ready == 0);
    CHECK_STATUS(status, h->count > 0 ? CF_TIMEOUT : CF_END);
}

/* Arrays of any futures, done or not, then additions, ends and deliveries in any order. */
static void live_through(uint64_t *random) {
    enum { MOST = 32, STEPS = 60 };
    const int count = (int)(test_random(random) % (MOST + 1));
    inventory h = {.count = 0};
    cf_future *places[MOST];
    for (size_t i = 0; i < KINDS; i++) {
        h.futures[i] = promise();
        h.index[i] = NONE;
        if (test_random(random) % 2 == 0) {
            set_int(h.futures[i], 1);
        }
    }
    for (int i = 0; i < count; i++) {
        const size_t kind = test_random(random) % (KINDS + 1);
        places[i] = kind < KINDS ? h.futures[kind] : NULL;
        if (kind < KINDS) {
            hold(&h, kind, i);
        }
    }
    cf_as_completed_iter *iter = iterate(places, (size_t)count, CF_FOREVER);
    for (int i = 0, index = count; i < STEPS; i++) {
        const size_t kind = test_random(random) % KINDS;
        const uint64_t step = test_random(random) % 8;
        if (step < 2) {
            CHECK_STATUS(cf_as_completed_add(iter, h.futures[kind]), CF_OK);
            hold(&h, kind, index++);
        } else if (step < 4) {
            (void)cf_future_cancel(h.futures[kind]);
        } else {
            take_one(&h, iter, random);
        }
        CHECK_EQ(cf_as_completed_remaining(iter), h.count);
    }
    cf_as_completed_close(iter);
    release_all(h.futures, KINDS);
}

TEST(whatever_is_added_when_each_comes_once) {
    uint64_t random = 2718281828u;
    for (int i = 0; i < 1000; i++) {
        live_through(&random);
    }
}

/* ---------------------------------------------------------------- lifetimes */

TEST(a_delivered_future_may_be_released_before_the_close) {
    enum { COUNT = 50 };
    cf_executor *executor = pool(2);
    cf_future *futures[COUNT];
    for (int i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_square, &i, sizeof i);
    }
    cf_as_completed_iter *iter = iterate(futures, COUNT, CF_FOREVER);
    for (size_t i = 0; i < COUNT; i++) {
        cf_future *next = cf_as_completed_next(iter, NULL, NULL);
        CHECK(next != NULL);
        cf_future_release(next);
    }
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    cf_executor_close(executor);
}

TEST(the_array_may_die_after_the_call) {
    cf_future *a = promise();
    cf_future **array = malloc(sizeof(cf_future *));
    CHECK(array != NULL);
    *array = a;
    cf_as_completed_iter *iter = iterate(array, 1, CF_FOREVER);
    memset(array, 0x5a, sizeof *array);
    free(array);
    set_int(a, 1);
    next_is(iter, a, 0);
    cf_as_completed_close(iter);
    cf_future_release(a);
}

TEST(close_with_futures_outstanding_disturbs_them_not) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    const int n = 5;
    cf_future *futures[3] = {cf_executor_submit(executor, task_block, &g, 0),
                             cf_executor_submit(executor, task_square, &n, sizeof n), promise()};
    gate_await_arrivals(&g, 1);
    cf_as_completed_close(iterate(futures, 3, CF_FOREVER));
    cf_as_completed_iter *iter = iterate(futures, 3, CF_FOREVER);
    set_int(futures[2], 1);
    next_is(iter, futures[2], 2);
    cf_as_completed_close(iter);
    gate_open(&g);
    CHECK_STATUS(outcome(futures[0]), CF_OK);
    CHECK_EQ(int_of(futures[1]), 25);
    release_all(futures, 3);
    cf_executor_close(executor);
}

/* The ends and the close meet at every possible moment. */
TEST(close_races_with_the_ends) {
    enum { COUNT = 16, ROUNDS = 300 };
    cf_executor *executor = pool(2);
    for (size_t round = 0; round < ROUNDS; round++) {
        cf_future *futures[COUNT];
        for (int i = 0; i < COUNT; i++) {
            futures[i] = cf_executor_submit(executor, task_square, &i, sizeof i);
        }
        cf_as_completed_iter *iter = iterate(futures, COUNT, CF_FOREVER);
        for (size_t i = 0; i < round % (COUNT + 1); i++) {
            CHECK(cf_as_completed_next(iter, NULL, NULL) != NULL);
        }
        cf_as_completed_close(iter);
        release_all(futures, COUNT);
    }
    cf_executor_close(executor);
}

TEST(several_iterators_may_share_their_futures) {
    enum { COUNT = 20, ITERS = 5 };
    cf_future *futures[COUNT];
    cf_as_completed_iter *iters[ITERS];
    fill_promises(futures, COUNT);
    for (size_t i = 0; i < ITERS; i++) {
        iters[i] = iterate(futures, COUNT, CF_FOREVER);
    }
    for (size_t i = 0; i < COUNT; i++) {
        set_int(futures[COUNT - 1 - i], 1);
    }
    for (size_t i = 0; i < ITERS; i++) {
        for (size_t k = 0; k < COUNT; k++) {
            next_is(iters[i], futures[COUNT - 1 - k], COUNT - 1 - k);
        }
        next_says(iters[i], CF_END);
        cf_as_completed_close(iters[i]);
    }
    release_all(futures, COUNT);
}

typedef struct consumer {
    cf_future **futures;
    size_t count, seen;
    gate *start;
} consumer;

static void *consume(void *arg) {
    consumer *c = arg;
    cf_as_completed_iter *iter = iterate(c->futures, c->count, CF_FOREVER);
    while (cf_as_completed_next(iter, NULL, NULL) != NULL) {
        c->seen++;
    }
    cf_as_completed_close(iter);
    return NULL;
}

TEST(threads_may_iterate_over_the_same_futures_at_once) {
    enum { COUNT = 200, THREADS = 4 };
    cf_executor *executor = pool(2);
    gate g = GATE_INIT;
    cf_future *futures[COUNT];
    consumer consumers[THREADS];
    pthread_t threads[THREADS];
    occupy(executor, 2, &g);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_square, &i, sizeof i);
    }
    for (size_t i = 0; i < THREADS; i++) {
        consumers[i] = (consumer){futures, COUNT, 0, NULL};
        spawn(&threads[i], consume, &consumers[i]);
    }
    gate_open(&g);
    for (size_t i = 0; i < THREADS; i++) {
        join(threads[i]);
        CHECK_EQ(consumers[i].seen, COUNT);
    }
    release_all(futures, COUNT);
    cf_executor_close(executor);
}

static void *consume_often(void *arg) {
    enum { ROUNDS = 100 };
    consumer *c = arg;
    gate_await(c->start);
    for (int i = 0; i < ROUNDS; i++) {
        const size_t before = c->seen;
        CHECK_EQ(cf_wait(c->futures, c->count, CF_FIRST_COMPLETED, CF_FOREVER, NULL), c->count / 2);
        (void)consume(c);
        CHECK_EQ(c->seen - before, c->count / 2);
    }
    return NULL;
}

/* Each finds the duplicates by what it leaves in the futures, which others overwrite. */
TEST(threads_may_iterate_over_the_same_ended_futures_at_once) {
    enum { COUNT = 500, THREADS = 4 };
    cf_future *futures[2 * COUNT];
    gate start = GATE_INIT;
    consumer consumers[THREADS];
    pthread_t threads[THREADS];
    fill_promises(futures, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        set_int(futures[i], 1);
        futures[COUNT + i] = futures[i];
    }
    for (size_t i = 0; i < THREADS; i++) {
        consumers[i] = (consumer){futures, 2 * COUNT, 0, &start};
        spawn(&threads[i], consume_often, &consumers[i]);
    }
    gate_open(&start);
    for (size_t i = 0; i < THREADS; i++) {
        join(threads[i]);
    }
    release_all(futures, COUNT);
}

typedef struct ender {
    cf_future **futures;
    size_t count;
    gate start;
} ender;

static void *end_in_order(void *arg) {
    ender *e = arg;
    gate_await(&e->start);
    for (size_t i = 0; i < e->count; i++) {
        set_int(e->futures[i], 1);
    }
    return NULL;
}

TEST(duplicates_that_end_during_the_call_come_once) {
    enum { COUNT = 500, ROUNDS = 40 };
    for (int round = 0; round < ROUNDS; round++) {
        cf_future *futures[2 * COUNT];
        size_t at, left = COUNT;
        fill_promises(futures, COUNT);
        for (size_t i = 0; i < COUNT; i++) {
            futures[COUNT + i] = futures[i];
        }
        ender e = {futures, COUNT, GATE_INIT};
        pthread_t thread;
        spawn(&thread, end_in_order, &e);
        gate_open(&e.start);
        cf_as_completed_iter *iter = iterate(futures, 2 * COUNT, CF_FOREVER);
        for (cf_future *next; (next = cf_as_completed_next(iter, &at, NULL)) != NULL;) {
            CHECK(at < COUNT && next == futures[at]);
            CHECK_EQ(cf_as_completed_remaining(iter), --left);
        }
        CHECK_EQ(left, 0);
        cf_as_completed_close(iter);
        join(thread);
        release_all(futures, COUNT);
    }
}

TEST(a_shutdown_that_cancels_is_seen_by_the_iterator) {
    enum { COUNT = 10 };
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    cf_future *futures[COUNT];
    occupy(executor, 1, &g);
    for (size_t i = 0; i < COUNT; i++) {
        futures[i] = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    }
    cf_as_completed_iter *iter = iterate(futures, COUNT, CF_FOREVER);
    CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(cf_future_cancelled(cf_as_completed_next(iter, NULL, NULL)));
    }
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    release_all(futures, COUNT);
    gate_open(&g);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- size */

static void iterate_over_many(cf_executor *executor, cf_future **futures, size_t count) {
    for (size_t i = 0; i < count; i++) {
        futures[i] = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    }
    cf_as_completed_iter *iter = iterate(futures, count, CF_FOREVER);
    for (size_t i = 0; i < count; i++) {
        size_t at = 0;
        cf_future *next = cf_as_completed_next(iter, &at, NULL);
        CHECK(next != NULL && next == futures[at]);
        cf_future_release(next);
    }
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
}

/* A quadratic iteration would take minutes; that the memory is back is the harness's check. */
TEST(a_hundred_thousand_futures_take_linear_time) {
    enum { COUNT = 100000 };
    cf_executor *executor = pool(2);
    cf_future **futures = calloc(COUNT, sizeof *futures);
    CHECK(futures != NULL);
    const int64_t start = cpu_time();
    iterate_over_many(executor, futures, COUNT);
    CHECK(cpu_time() - start < limit(5));
    free(futures);
    cf_executor_close(executor);
}

TEST(a_hundred_thousand_additions_take_linear_time) {
    enum { COUNT = 100000 };
    cf_future **futures = calloc(COUNT, sizeof *futures);
    CHECK(futures != NULL);
    fill_promises(futures, COUNT);
    const int64_t start = cpu_time();
    cf_as_completed_iter *iter = iterate(NULL, 0, CF_FOREVER);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_STATUS(cf_as_completed_add(iter, futures[i]), CF_OK);
    }
    CHECK_EQ(cf_as_completed_remaining(iter), COUNT);
    for (size_t i = COUNT; i > 0; i--) {
        set_int(futures[i - 1], 1);
    }
    for (size_t i = COUNT; i > 0; i--) {
        next_is(iter, futures[i - 1], i - 1);
    }
    next_says(iter, CF_END);
    cf_as_completed_close(iter);
    CHECK(cpu_time() - start < limit(5));
    release_all(futures, COUNT);
    free(futures);
}

TEST(those_that_are_done_need_no_memory_of_their_own) {
    if (!test_alloc_hooked()) {
        SKIP("no counted allocator");
    }
    enum { COUNT = 1000 };
    cf_future *futures[COUNT];
    fill_promises(futures, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        set_int(futures[i], 1);
    }
    const size_t before = test_alloc_total();
    cf_as_completed_iter *iter = iterate(futures, COUNT, CF_FOREVER);
    for (size_t i = 0; i < COUNT; i++) {
        next_is(iter, futures[i], i);
    }
    CHECK_EQ(test_alloc_total(), before + 1);
    CHECK_EQ(cf_wait(futures, COUNT, CF_FIRST_COMPLETED, CF_FOREVER, NULL), COUNT);
    CHECK_EQ(test_alloc_total(), before + 1);
    cf_as_completed_close(iter);
    release_all(futures, COUNT);
}

/* A long-lived iterator, as a server would use it, does not grow with what it has delivered. */
TEST(an_iterator_does_not_grow_for_ever) {
    if (!test_alloc_hooked()) {
        SKIP("no counted allocator");
    }
    cf_as_completed_iter *iter = iterate(NULL, 0, CF_FOREVER);
    size_t live = 0;
    for (size_t i = 0; i < 2000; i++) {
        cf_future *future = promise();
        CHECK_STATUS(cf_as_completed_add(iter, future), CF_OK);
        set_int(future, 1);
        next_is(iter, future, i);
        cf_future_release(future);
        if (i == 999) {
            live = test_alloc_live();
        }
    }
    CHECK(test_alloc_live() <= live + 100);
    cf_as_completed_close(iter);
}

/* Each is released before the next is made, and may get its address; some come twice. */
TEST(places_that_are_used_again_hold_each_future_once) {
    enum { WINDOW = 7, ROUNDS = 20000 };
    cf_future *window[WINDOW] = {NULL};
    cf_as_completed_iter *iter = iterate(NULL, 0, CF_FOREVER);
    size_t added = 0;
    uint64_t random = 12345;
    for (size_t i = 0; i < ROUNDS; i++) {
        cf_future **place = &window[test_random(&random) % WINDOW];
        if (*place == NULL) {
            *place = promise();
            CHECK_STATUS(cf_as_completed_add(iter, *place), CF_OK);
            added++;
        } else if (test_random(&random) % 3 == 0) {
            CHECK_STATUS(cf_as_completed_add(iter, *place), CF_OK); /* again: it uses up an index */
            added++;
        } else {
            size_t index = 0;
            set_int(*place, 1);
            CHECK(cf_as_completed_next(iter, &index, NULL) == *place);
            CHECK(index < added);
            cf_future_release(*place);
            *place = NULL;
        }
        size_t held = 0;
        for (int k = 0; k < WINDOW; k++) {
            held += window[k] != NULL;
        }
        CHECK_EQ(cf_as_completed_remaining(iter), held);
    }
    cf_as_completed_close(iter);
    for (int k = 0; k < WINDOW; k++) {
        cf_future_release(window[k]);
    }
}

/* ---------------------------------------------------------------- without waiting */

/* Nothing is ready: for this reason. */
static void nothing_ready(cf_as_completed_iter *iter, cf_status expected) {
    size_t at = 42;
    cf_status status = CF_OK;
    CHECK(cf_as_completed_try_next(iter, &at, &status) == NULL);
    CHECK_STATUS(status, expected);
    CHECK_EQ(at, 42);
    CHECK(cf_as_completed_try_next(iter, NULL, NULL) == NULL);
}

TEST(try_next_takes_what_is_ready_and_never_waits) {
    cf_future *futures[3];
    fill_promises(futures, 3);
    cf_as_completed_iter *iter = iterate(futures, 3, CF_FOREVER);
    nothing_ready(iter, CF_TIMEOUT);
    set_int(futures[2], 2);
    set_int(futures[0], 0);
    size_t at = SIZE_MAX;
    cf_status status = CF_SYSTEM;
    CHECK(cf_as_completed_try_next(iter, &at, &status) == futures[2]);
    CHECK_STATUS(status, CF_OK);
    CHECK_EQ(at, 2);
    CHECK(cf_as_completed_try_next(iter, NULL, NULL) == futures[0]);
    nothing_ready(iter, CF_TIMEOUT);
    CHECK_EQ(cf_as_completed_remaining(iter), 1);
    set_int(futures[1], 1);
    next_is(iter, futures[1], 1);
    nothing_ready(iter, CF_END);
    CHECK_STATUS(cf_as_completed_add(iter, futures[1]), CF_OK);
    CHECK(cf_as_completed_try_next(iter, &at, NULL) == futures[1]);
    CHECK_EQ(at, 3);
    cf_as_completed_close(iter);
    release_all(futures, 3);
    nothing_ready(NULL, CF_INVALID);
}

static int try_in_a_task(cf_task *task, void *arg) {
    cf_future *pending = cf_executor_submit(cf_task_executor(task), task_nothing, CF_NO_ARG);
    cf_as_completed_iter *iter = iterate(&pending, 1, CF_FOREVER);
    (void)arg;
    nothing_ready(iter, CF_TIMEOUT);
    CHECK(!cf_future_done(pending));
    next_is(iter, pending, 0); /* which runs it here */
    cf_as_completed_close(iter);
    cf_future_release(pending);
    return 0;
}

TEST(try_next_in_a_task_runs_no_other) {
    cf_executor *executor = pool(1);
    cf_future *future = cf_executor_submit(executor, try_in_a_task, CF_NO_ARG);
    CHECK_STATUS(cf_future_wait(future, CF_FOREVER), CF_OK);
    cf_future_release(future);
    cf_executor_close(executor);
}

TEST_MAIN(
    RUN(no_futures_end_at_once)
    RUN(futures_come_in_the_order_in_which_they_end)
    RUN(those_already_done_come_first)
    RUN(results_errors_refusals_and_cancelled_are_all_delivered)
    RUN(a_cancel_before_the_call_is_delivered)
    RUN(a_delivered_future_answers_without_blocking)
    RUN(futures_of_different_executors_and_promises_mix)
    RUN(null_entries_are_skipped_and_keep_the_indexes)
    RUN(null_entries_alone_end_at_once)
    RUN(duplicates_come_once_with_the_first_index)
    RUN(each_of_few_comes_once_whenever_it_ends)
    RUN(each_of_many_comes_once_whenever_it_ends)
    RUN(index_and_status_may_be_null)
    RUN(a_null_iterator_says_invalid)
    RUN(zero_polls)
    RUN(a_timeout_comes_after_what_is_ready)
    RUN(the_deadline_runs_from_the_call)
    RUN(what_has_ended_is_delivered_after_the_deadline)
    RUN(the_deadline_is_of_the_whole_and_not_of_an_item)
    RUN(endless_and_absurdly_long_timeouts_wait)
    RUN(a_timeout_cancels_nothing)
    RUN(a_done_future_that_is_added_comes_after_those_that_ended_before_it)
    RUN(a_future_that_is_added_gets_the_next_index)
    RUN(null_and_duplicates_that_are_added_use_up_an_index)
    RUN(a_done_future_that_is_added_is_delivered)
    RUN(add_after_the_end_revives)
    RUN(add_after_the_deadline_does_not_extend_it)
    RUN(futures_may_be_added_while_iterating)
    RUN(a_new_future_at_the_address_of_a_delivered_one_is_delivered)
    RUN(an_addition_meets_what_is_still_to_come)
    RUN(whatever_is_added_when_each_comes_once)
    RUN(a_delivered_future_may_be_released_before_the_close)
    RUN(the_array_may_die_after_the_call)
    RUN(close_with_futures_outstanding_disturbs_them_not)
    RUN(close_races_with_the_ends)
    RUN(several_iterators_may_share_their_futures)
    RUN(threads_may_iterate_over_the_same_futures_at_once)
    RUN(threads_may_iterate_over_the_same_ended_futures_at_once)
    RUN(duplicates_that_end_during_the_call_come_once)
    RUN(a_shutdown_that_cancels_is_seen_by_the_iterator)
    RUN_WITHIN(60, a_hundred_thousand_futures_take_linear_time)
    RUN_WITHIN(60, a_hundred_thousand_additions_take_linear_time)
    RUN(those_that_are_done_need_no_memory_of_their_own)
    RUN(an_iterator_does_not_grow_for_ever)
    RUN(places_that_are_used_again_hold_each_future_once)
    RUN(try_next_takes_what_is_ready_and_never_waits)
    RUN(try_next_in_a_task_runs_no_other)
)
