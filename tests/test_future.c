/* Futures and promises: states, ends, callbacks, texts, and what a task returns. */
#include "tasks.h"

enum { THREADS = 4, RACES = 3000, ROUNDS = 300 };

static bool is_aligned(const void *ptr) {
    return (uintptr_t)ptr % _Alignof(max_align_t) == 0;
}

/* The promise in each of its ends: 0 a result, 1 an error, 2 cancelled. */
enum { WITH_RESULT, WITH_ERROR, WITH_CANCEL, ENDS };

static void end_promise(cf_future *f, int end) {
    if (end == WITH_RESULT) {
        CHECK_STATUS(cf_future_set_result(f, "four", 4), CF_OK);
    } else if (end == WITH_ERROR) {
        CHECK_STATUS(cf_future_set_error(f, 22, "no such thing"), CF_OK);
    } else {
        CHECK(cf_future_cancel(f));
    }
}

static const cf_status end_status[ENDS] = {CF_OK, CF_TASK_FAILED, CF_CANCELLED};
static const cf_state end_state[ENDS] = {CF_STATE_FINISHED, CF_STATE_FINISHED, CF_STATE_CANCELLED};

/* ---------------------------------------------------------------- version and texts */

TEST(the_version_is_the_macros_string) {
    CHECK_STR(cf_version(), CFUTURES_VERSION_STRING);
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", CFUTURES_VERSION_MAJOR, CFUTURES_VERSION_MINOR,
             CFUTURES_VERSION_PATCH);
    CHECK_STR(cf_version(), text);
}

#define STATUS(name) \
    { name, #name }
static const struct {
    cf_status status;
    const char *name;
} statuses[] = {
    STATUS(CF_OK),          STATUS(CF_END),         STATUS(CF_TIMEOUT),
    STATUS(CF_CANCELLED),   STATUS(CF_TASK_FAILED), STATUS(CF_TASK_TIMEOUT),
    STATUS(CF_WORKER_LOST), STATUS(CF_BROKEN),      STATUS(CF_SHUTDOWN),
    STATUS(CF_QUEUE_FULL),  STATUS(CF_DEADLOCK),    STATUS(CF_INVALID_STATE),
    STATUS(CF_INVALID),     STATUS(CF_NO_MEMORY),   STATUS(CF_SYSTEM),
    STATUS(CF_FORKED),
};
enum { STATUSES = sizeof statuses / sizeof statuses[0] };

TEST(every_status_has_its_name) {
    CHECK_EQ(STATUSES, CF_END - CF_FORKED + 1);
    for (size_t i = 0; i < STATUSES; i++) {
        CHECK_STR(cf_status_name(statuses[i].status), statuses[i].name);
        CHECK(cf_status_name(statuses[i].status) == cf_status_name(statuses[i].status));
    }
}

TEST(every_status_has_a_sentence_of_its_own) {
    for (size_t i = 0; i < STATUSES; i++) {
        const char *text = cf_strerror(statuses[i].status);
        CHECK(text != NULL);
        CHECK(strlen(text) > 3);
        CHECK(text == cf_strerror(statuses[i].status));
        for (size_t k = 0; k < i; k++) {
            CHECK(strcmp(text, cf_strerror(statuses[k].status)) != 0);
        }
    }
}

TEST(a_number_that_is_no_status_has_texts_too) {
    const int numbers[] = {2, 99, -15, -1000, INT_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        CHECK(cf_status_name((cf_status)numbers[i]) != NULL);
        CHECK(cf_strerror((cf_status)numbers[i]) != NULL);
    }
}

static void check_repr(const cf_future *f, const char *state) {
    char expected[128], text[128];
    snprintf(expected, sizeof expected, "<Future at 0x%" PRIxPTR " state=%s>", (uintptr_t)f, state);
    CHECK_EQ(cf_future_repr(f, text, sizeof text), strlen(expected));
    CHECK_STR(text, expected);
}

TEST(repr_of_each_state_is_pythons) {
    cf_future *f = promise();
    check_repr(f, "pending");
    CHECK(cf_future_set_running_or_notify_cancel(f));
    check_repr(f, "running");
    end_promise(f, WITH_RESULT);
    check_repr(f, "finished returned 4 bytes");
    cf_future_release(f);

    f = promise();
    end_promise(f, WITH_CANCEL);
    check_repr(f, "cancelled");
    cf_future_release(f);

    f = promise();
    end_promise(f, WITH_ERROR);
    check_repr(f, "finished raised CF_TASK_FAILED 22");
    cf_future_release(f);

    f = promise();
    CHECK_STATUS(cf_future_set_result(f, NULL, 0), CF_OK);
    check_repr(f, "finished returned 0 bytes");
    cf_future_release(f);
}

TEST(repr_prints_the_code_of_a_refusal_too) {
    cf_future *f = cf_executor_submit(NULL, task_block, CF_NO_ARG);
    check_repr(f, "finished raised CF_INVALID 0");
    cf_future_release(f);
}

TEST(repr_has_the_contract_of_snprintf) {
    cf_future *f = promise();
    char whole[128];
    const int length = cf_future_repr(f, whole, sizeof whole);
    CHECK_EQ(length, strlen(whole));
    CHECK_EQ(cf_future_repr(f, NULL, 0), length);
    for (size_t size = 1; size < (size_t)length + 2; size++) {
        char cut[128];
        memset(cut, '#', sizeof cut);
        CHECK_EQ(cf_future_repr(f, cut, size), length);
        const size_t kept = size <= (size_t)length ? size - 1 : (size_t)length;
        CHECK_EQ(strlen(cut), kept);
        CHECK(strncmp(cut, whole, kept) == 0);
        CHECK_EQ(cut[kept + 1], '#');
    }
    cf_future_release(f);
}

/* ---------------------------------------------------------------- states of a promise */

TEST(a_new_promise_is_pending) {
    cf_future *f = promise();
    CHECK_EQ(cf_future_state(f), CF_STATE_PENDING);
    CHECK(!cf_future_cancelled(f));
    CHECK(!cf_future_running(f));
    CHECK(!cf_future_done(f));
    CHECK_EQ(cf_future_result_size(f), 0);
    CHECK_EQ(cf_future_error_code(f), 0);
    CHECK_STR(cf_future_error_message(f), "");
    CHECK_STATUS(cf_future_wait(f, 0), CF_TIMEOUT);
    cf_status status = CF_OK;
    CHECK(cf_future_result(f, 0, &status) == NULL);
    CHECK_STATUS(status, CF_TIMEOUT);
    cf_future_release(f);
}

TEST(a_running_promise_can_no_longer_be_cancelled) {
    cf_future *f = promise();
    CHECK(cf_future_set_running_or_notify_cancel(f));
    CHECK_EQ(cf_future_state(f), CF_STATE_RUNNING);
    CHECK(cf_future_running(f));
    CHECK(!cf_future_done(f));
    CHECK(!cf_future_cancel(f));
    CHECK_EQ(cf_future_state(f), CF_STATE_RUNNING);
    CHECK_STATUS(cf_future_wait(f, 0), CF_TIMEOUT);
    end_promise(f, WITH_RESULT);
    CHECK(!cf_future_running(f));
    CHECK(cf_future_done(f));
    cf_future_release(f);
}

TEST(set_running_is_true_for_a_pending_promise_only) {
    cf_future *f = promise();
    CHECK(cf_future_set_running_or_notify_cancel(f));
    CHECK(!cf_future_set_running_or_notify_cancel(f));
    cf_future_release(f);
    for (int end = 0; end < ENDS; end++) {
        f = promise();
        end_promise(f, end);
        CHECK(!cf_future_set_running_or_notify_cancel(f));
        CHECK_EQ(cf_future_state(f), end_state[end]);
        cf_future_release(f);
    }
}

TEST(each_end_answers_every_question) {
    for (int end = 0; end < ENDS; end++) {
        for (int ran = 0; ran < 2; ran++) {
            cf_future *f = promise();
            if (ran != 0 && end != WITH_CANCEL) {
                CHECK(cf_future_set_running_or_notify_cancel(f));
            }
            end_promise(f, end);
            CHECK_EQ(cf_future_state(f), end_state[end]);
            CHECK(cf_future_done(f));
            CHECK(!cf_future_running(f));
            CHECK_EQ(cf_future_cancelled(f), end == WITH_CANCEL);
            CHECK_STATUS(cf_future_wait(f, 0), end_status[end]);
            CHECK_STATUS(cf_future_wait(f, CF_FOREVER), end_status[end]);
            cf_status status = CF_END;
            CHECK_EQ(cf_future_result(f, CF_FOREVER, &status) != NULL, end == WITH_RESULT);
            CHECK_STATUS(status, end_status[end]);
            CHECK_EQ(cf_future_result_size(f), end == WITH_RESULT ? 4 : 0);
            CHECK_EQ(cf_future_error_code(f), end == WITH_ERROR ? 22 : 0);
            if (end != WITH_CANCEL) {
                CHECK_STR(cf_future_error_message(f), end == WITH_ERROR ? "no such thing" : "");
            }
            CHECK(cf_future_error_message(f) != NULL);
            cf_future_release(f);
        }
    }
}

TEST(a_future_is_set_once_and_keeps_its_first_end) {
    for (int first = 0; first < ENDS; first++) {
        cf_future *f = promise();
        end_promise(f, first);
        CHECK_STATUS(cf_future_set_result(f, "other", 6), CF_INVALID_STATE);
        CHECK_STATUS(cf_future_set_error(f, 5, "other"), CF_INVALID_STATE);
        CHECK_EQ(cf_future_cancel(f), first == WITH_CANCEL);
        CHECK_STATUS(cf_future_wait(f, 0), end_status[first]);
        if (first == WITH_RESULT) {
            CHECK(memcmp(cf_future_result(f, 0, NULL), "four", 4) == 0);
            CHECK_EQ(cf_future_result_size(f), 4);
        }
        if (first == WITH_ERROR) {
            CHECK_EQ(cf_future_error_code(f), 22);
            CHECK_STR(cf_future_error_message(f), "no such thing");
        }
        cf_future_release(f);
    }
}

TEST(cancel_of_a_cancelled_future_is_true_again) {
    cf_future *f = promise();
    CHECK(cf_future_cancel(f));
    CHECK(cf_future_cancel(f));
    CHECK(cf_future_cancelled(f));
    cf_future_release(f);
}

TEST(an_error_code_of_0_becomes_1) {
    cf_future *f = promise();
    CHECK_STATUS(cf_future_set_error(f, 0, "nothing in particular"), CF_OK);
    CHECK_STATUS(cf_future_wait(f, 0), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(f), 1);
    CHECK_STR(cf_future_error_message(f), "nothing in particular");
    cf_future_release(f);
}

TEST(an_error_needs_no_message_and_may_be_negative) {
    cf_future *f = promise();
    CHECK_STATUS(cf_future_set_error(f, -7, NULL), CF_OK);
    CHECK_STATUS(cf_future_wait(f, 0), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(f), -7);
    CHECK(cf_future_error_message(f) != NULL);
    cf_future_release(f);
}

TEST(a_promise_keeps_a_copy_of_its_message) {
    char text[300];
    memset(text, 'm', sizeof text);
    text[255] = '\0';
    cf_future *f = promise();
    CHECK_STATUS(cf_future_set_error(f, 3, text), CF_OK);
    memset(text, 'x', 255);
    const char *message = cf_future_error_message(f);
    CHECK_EQ(strlen(message), 255);
    CHECK_EQ(strspn(message, "m"), 255);
    cf_future_release(f);
}

TEST(a_result_of_any_size_is_copied_and_aligned) {
    const size_t sizes[] = {0, 1, 2, 8, 31, 32, 33, 64, 255, 4096, 100000, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const size_t size = sizes[i];
        unsigned char *data = malloc(size + 1);
        CHECK(data != NULL);
        for (size_t k = 0; k < size; k++) {
            data[k] = (unsigned char)(k * 7 + size);
        }
        cf_future *f = promise();
        CHECK_STATUS(cf_future_set_result(f, data, size), CF_OK);
        memset(data, 0, size);
        cf_status status = CF_END;
        const unsigned char *result = cf_future_result(f, 0, &status);
        CHECK_STATUS(status, CF_OK);
        CHECK(result != NULL);
        CHECK(result != data);
        CHECK(is_aligned(result));
        CHECK_EQ(cf_future_result_size(f), size);
        for (size_t k = 0; k < size; k++) {
            CHECK_EQ(result[k], (unsigned char)(k * 7 + size));
        }
        free(data);
        cf_future_release(f);
    }
}

TEST(no_result_is_a_result_that_is_not_null) {
    cf_future *f = promise();
    CHECK_STATUS(cf_future_set_result(f, NULL, 0), CF_OK);
    cf_status status = CF_END;
    CHECK(cf_future_result(f, 0, &status) != NULL);
    CHECK_STATUS(status, CF_OK);
    CHECK_EQ(cf_future_result_size(f), 0);
    CHECK(cf_future_result(f, CF_FOREVER, NULL) != NULL);
    cf_future_release(f);
}

TEST(the_result_stays_where_it_is) {
    cf_future *f = promise();
    end_promise(f, WITH_RESULT);
    const void *first = cf_future_result(f, 0, NULL);
    CHECK(first == cf_future_result(f, CF_FOREVER, NULL));
    CHECK(cf_future_retain(f) == f);
    cf_future_release(f);
    CHECK(first == cf_future_result(f, 0, NULL));
    CHECK(memcmp(first, "four", 4) == 0);
    cf_future_release(f);
}

TEST(null_is_a_future_that_is_over) {
    cf_status status = CF_OK;
    CHECK_STATUS(cf_future_wait(NULL, 0), CF_INVALID);
    CHECK_STATUS(cf_future_wait(NULL, CF_FOREVER), CF_INVALID);
    CHECK(cf_future_result(NULL, CF_FOREVER, &status) == NULL);
    CHECK_STATUS(status, CF_INVALID);
    CHECK(cf_future_result(NULL, 0, NULL) == NULL);
    CHECK(cf_future_result(NULL, CF_FOREVER, NULL) == NULL);
    CHECK_EQ(cf_future_state(NULL), CF_STATE_FINISHED);
    CHECK(cf_future_done(NULL));
    CHECK(!cf_future_running(NULL));
    CHECK(!cf_future_cancelled(NULL));
    CHECK(!cf_future_cancel(NULL));
    CHECK(cf_future_error_message(NULL) != NULL);
    cf_future_release(NULL);
}

TEST(no_memory_gives_no_promise) {
    if (!test_alloc_hooked()) {
        SKIP("the allocator is not hooked");
    }
    test_alloc_fail(1, true);
    CHECK(cf_future_new() == NULL);
    test_alloc_recover();
    cf_future *f = promise();
    cf_future_release(f);
}

TEST(a_promise_without_memory_for_its_result_stays_as_it_was) {
    if (!test_alloc_hooked()) {
        SKIP("the allocator is not hooked");
    }
    char big[4096] = "big";
    cf_future *f = promise();
    test_alloc_fail(1, true);
    const cf_status refused = cf_future_set_result(f, big, sizeof big);
    test_alloc_recover();
    CHECK_STATUS(refused, CF_NO_MEMORY);
    CHECK(!cf_future_done(f));
    CHECK_STATUS(cf_future_set_result(f, big, sizeof big), CF_OK);
    CHECK_STR(cf_future_result(f, 0, NULL), "big");
    cf_future_release(f);
}

/* ---------------------------------------------------------------- waiting */

typedef struct setter {
    cf_future *future;
    gate go;
    int end;
} setter;

static void *set_at_the_gate(void *arg) {
    setter *s = arg;
    gate_await(&s->go);
    end_promise(s->future, s->end);
    return NULL;
}

TEST(a_wait_that_runs_out_disturbs_nothing) {
    cf_future *f = promise();
    const cf_duration pause = 20 * CF_MILLISECOND;
    const int64_t start = now();
    CHECK_STATUS(cf_future_wait(f, pause), CF_TIMEOUT);
    CHECK(now() - start >= pause);
    CHECK(now() - start < limit(5));
    cf_status status = CF_OK;
    const int64_t again = now();
    CHECK(cf_future_result(f, pause, &status) == NULL);
    CHECK_STATUS(status, CF_TIMEOUT);
    CHECK(now() - again >= pause);
    CHECK_EQ(cf_future_state(f), CF_STATE_PENDING);
    end_promise(f, WITH_RESULT);
    CHECK_STATUS(cf_future_wait(f, pause), CF_OK);
    cf_future_release(f);
}

TEST(a_finite_wait_ends_with_the_event) {
    for (int end = 0; end < ENDS; end++) {
        setter s = {promise(), GATE_INIT, end};
        pthread_t thread;
        spawn(&thread, set_at_the_gate, &s);
        gate_open(&s.go);
        const int64_t start = now();
        CHECK_STATUS(cf_future_wait(s.future, 3600 * CF_SECOND), end_status[end]);
        CHECK(now() - start < limit(5));
        join(thread);
        cf_future_release(s.future);
    }
}

TEST(absurd_timeouts_neither_overflow_nor_expire) {
    const cf_duration absurd[] = {INT64_MAX, INT64_MAX - 1, INT64_MIN,
                                  -2,        CF_FOREVER,    INT64_MAX / 2};
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
        setter s = {promise(), GATE_INIT, WITH_RESULT};
        pthread_t thread;
        spawn(&thread, set_at_the_gate, &s);
        gate_open(&s.go);
        CHECK_STATUS(cf_future_wait(s.future, absurd[i]), CF_OK);
        join(thread);
        cf_future_release(s.future);
    }
}

typedef struct waiter {
    cf_future *future;
    gate *ready;
    cf_status status;
    const void *result;
} waiter;

static void *wait_for_it(void *arg) {
    waiter *w = arg;
    gate_arrive(w->ready);
    w->result = cf_future_result(w->future, CF_FOREVER, &w->status);
    cf_future_release(w->future);
    return NULL;
}

TEST(every_waiting_thread_is_told_of_each_end) {
    for (int end = 0; end < ENDS; end++) {
        cf_future *f = promise();
        gate ready = GATE_INIT;
        waiter waiters[THREADS];
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++) {
            waiters[i] = (waiter){cf_future_retain(f), &ready, CF_END, NULL};
            spawn(&threads[i], wait_for_it, &waiters[i]);
        }
        gate_await_arrivals(&ready, THREADS);
        end_promise(f, end);
        for (int i = 0; i < THREADS; i++) {
            join(threads[i]);
            CHECK_STATUS(waiters[i].status, end_status[end]);
            CHECK_EQ(waiters[i].result != NULL, end == WITH_RESULT);
        }
        cf_future_release(f);
    }
}

TEST(the_last_reference_may_go_while_the_setter_is_on_its_way_out) {
    gate ready = GATE_INIT;
    const int64_t start = now();
    for (int i = 0; is_time_for(i, ROUNDS, start); i++) {
        cf_future *f = promise();
        waiter w = {cf_future_retain(f), &ready, CF_END, NULL};
        pthread_t thread;
        spawn(&thread, wait_for_it, &w);
        if (i % 2 == 0) {
            gate_await_arrivals(&ready, (size_t)i + 1);
        }
        CHECK_STATUS(cf_future_set_result(f, &i, sizeof i), CF_OK);
        cf_future_release(f);
        join(thread);
        CHECK_STATUS(w.status, CF_OK);
    }
}

/* ---------------------------------------------------------------- races on one promise */

/* Two threads do something to each of many promises, at the same moment as nearly as can be. */
typedef struct racer {
    cf_future **futures;
    atomic_int *arrived; /* at this promise, one for each */
    atomic_int *end;     /* at this promise both stop */
    bool keeps_time;
    int how;
    atomic_int *calls;
    bool won[RACES];
} racer;
enum { ADDING = ENDS }; /* a further way: a callback */

static void count_call(cf_future *f, void *user) {
    CHECK(cf_future_done(f));
    atomic_fetch_add((atomic_int *)user, 1);
}

static bool try_to_end(cf_future *f, int how, atomic_int *calls) {
    if (how == ADDING) {
        return cf_future_add_done_callback(f, count_call, calls) == CF_OK;
    }
    if (how == WITH_RESULT) {
        return cf_future_set_result(f, &how, sizeof how) == CF_OK;
    }
    if (how == WITH_ERROR) {
        return cf_future_set_error(f, 22, "raced") == CF_OK;
    }
    return cf_future_cancel(f);
}

static void *race_to_end(void *arg) {
    racer *r = arg;
    const int64_t start = now();
    for (int i = 0; i < RACES; i++) {
        if (r->keeps_time && now() - start > 50 * CF_MILLISECOND) {
            atomic_store(r->end, i);
        }
        atomic_fetch_add(&r->arrived[i], 1);
        for (int spins = 0; atomic_load(&r->arrived[i]) < 2; spins++) {
            if (spins > 1000) {
                sched_yield();
            }
        }
        if (i >= atomic_load(r->end)) {
            break;
        }
        r->won[i] = try_to_end(r->futures[i], r->how, &r->calls[i]);
    }
    return NULL;
}

/* Who won at promise i, as a bit for each racer. */
static void race(int how, int other, void (*check)(cf_future *f, int how, int other, int won)) {
    static cf_future *futures[RACES];
    static atomic_int arrived[RACES], calls[RACES];
    static racer racers[2];
    pthread_t threads[2];
    atomic_int end = RACES;
    for (int i = 0; i < RACES; i++) {
        futures[i] = promise();
        atomic_store(&arrived[i], 0);
        atomic_store(&calls[i], 0);
        CHECK_STATUS(cf_future_add_done_callback(futures[i], count_call, &calls[i]), CF_OK);
    }
    for (int i = 0; i < 2; i++) {
        racers[i] = (racer){futures, arrived, &end, i == 0, i == 0 ? how : other, calls, {false}};
        spawn(&threads[i], race_to_end, &racers[i]);
    }
    join(threads[0]);
    join(threads[1]);
    for (int i = 0; i < RACES; i++) {
        if (i < atomic_load(&end)) {
            check(futures[i], how, other, (racers[0].won[i] ? 1 : 0) | (racers[1].won[i] ? 2 : 0));
            CHECK_EQ(atomic_load(&calls[i]), how == ADDING ? 2 : 1);
        }
        cf_future_release(futures[i]);
    }
}

static void check_one_won(cf_future *f, int how, int other, int won) {
    CHECK(won == 1 || won == 2);
    const int winner = won == 1 ? how : other;
    CHECK_STATUS(cf_future_wait(f, 0), end_status[winner]);
    if (winner == WITH_RESULT) {
        CHECK_EQ(*(const int *)cf_future_result(f, 0, NULL), WITH_RESULT);
    }
    CHECK_EQ(cf_future_error_code(f), winner == WITH_ERROR ? 22 : 0);
}

TEST(of_two_that_race_to_end_a_promise_one_wins) {
    for (int how = 0; how < ENDS; how++) {
        for (int other = 0; other <= how; other++) {
            if (how != WITH_CANCEL || other != WITH_CANCEL) {
                race(how, other, check_one_won);
            }
        }
    }
}

static void check_both_cancelled(cf_future *f, int how, int other, int won) {
    CHECK_EQ(how, other);
    CHECK_EQ(won, 3);
    CHECK(cf_future_cancelled(f));
}

TEST(two_that_race_to_cancel_are_both_told_yes) {
    race(WITH_CANCEL, WITH_CANCEL, check_both_cancelled);
}

static void check_ended_and_added(cf_future *f, int how, int other, int won) {
    CHECK_EQ(how, ADDING);
    CHECK_EQ(won, 3);
    CHECK_STATUS(cf_future_wait(f, 0), end_status[other]);
}

TEST(a_callback_that_is_added_as_the_future_ends_is_called_once) {
    for (int end = 0; end < ENDS; end++) {
        race(ADDING, end, check_ended_and_added);
    }
}

/* ---------------------------------------------------------------- callbacks */

/* What the callbacks saw, in their order. One thread at a time: no lock. */
typedef struct journal {
    int length;
    int entries[64];
    cf_status status[64];
    pthread_t thread;
} journal;

typedef struct note {
    journal *journal;
    int number;
} note;

static void write_note(cf_future *f, void *user) {
    const note *n = user;
    journal *j = n->journal;
    CHECK(j->length < 64);
    j->entries[j->length] = n->number;
    j->status[j->length] = cf_future_wait(f, CF_FOREVER);
    j->thread = pthread_self();
    j->length++;
}

TEST(a_callback_is_told_of_each_end_once) {
    for (int end = 0; end < ENDS; end++) {
        journal j = {0};
        note n = {&j, 1};
        cf_future *f = promise();
        CHECK_STATUS(cf_future_add_done_callback(f, write_note, &n), CF_OK);
        CHECK_EQ(j.length, 0);
        end_promise(f, end);
        CHECK_EQ(j.length, 1);
        CHECK_STATUS(j.status[0], end_status[end]);
        cf_future_set_result(f, NULL, 0);
        cf_future_cancel(f);
        CHECK_EQ(j.length, 1);
        cf_future_release(f);
        CHECK_EQ(j.length, 1);
    }
}

TEST(a_callback_on_a_future_that_is_done_runs_here_and_now) {
    for (int end = 0; end < ENDS; end++) {
        journal j = {0};
        note n = {&j, 1};
        cf_future *f = promise();
        end_promise(f, end);
        CHECK_STATUS(cf_future_add_done_callback(f, write_note, &n), CF_OK);
        CHECK_EQ(j.length, 1);
        CHECK_STATUS(j.status[0], end_status[end]);
        CHECK(pthread_equal(j.thread, pthread_self()));
        cf_future_release(f);
    }
}

TEST(callbacks_run_in_the_order_of_their_addition) {
    journal j = {0};
    note notes[40];
    cf_future *f = promise();
    for (int i = 0; i < 40; i++) {
        notes[i] = (note){&j, i};
        CHECK_STATUS(cf_future_add_done_callback(f, write_note, &notes[i]), CF_OK);
    }
    end_promise(f, WITH_RESULT);
    CHECK_EQ(j.length, 40);
    for (int i = 0; i < 40; i++) {
        CHECK_EQ(j.entries[i], i);
    }
    cf_future_release(f);
}

TEST(a_callback_added_twice_runs_twice) {
    journal j = {0};
    note n = {&j, 5};
    cf_future *f = promise();
    CHECK_STATUS(cf_future_add_done_callback(f, write_note, &n), CF_OK);
    CHECK_STATUS(cf_future_add_done_callback(f, write_note, &n), CF_OK);
    end_promise(f, WITH_ERROR);
    CHECK_EQ(j.length, 2);
    cf_future_release(f);
}

static void *end_and_name_the_thread(void *arg) {
    setter *s = arg;
    end_promise(s->future, s->end);
    return NULL;
}

TEST(a_callback_runs_in_the_thread_that_ends_the_future) {
    for (int end = 0; end < ENDS; end++) {
        journal j = {0};
        note n = {&j, 1};
        setter s = {promise(), GATE_INIT, end};
        CHECK_STATUS(cf_future_add_done_callback(s.future, write_note, &n), CF_OK);
        pthread_t thread;
        spawn(&thread, end_and_name_the_thread, &s);
        const pthread_t ended_by = thread;
        join(thread);
        CHECK_EQ(j.length, 1);
        CHECK(pthread_equal(j.thread, ended_by));
        cf_future_release(s.future);
    }
}

static void add_another(cf_future *f, void *user) {
    note *notes = user;
    write_note(f, &notes[0]);
    CHECK_STATUS(cf_future_add_done_callback(f, write_note, &notes[1]), CF_OK);
    CHECK_EQ(notes[0].journal->length, 2);
}

TEST(a_callback_added_by_a_callback_runs_at_once) {
    journal j = {0};
    note notes[3] = {{&j, 1}, {&j, 10}, {&j, 2}};
    cf_future *f = promise();
    CHECK_STATUS(cf_future_add_done_callback(f, add_another, notes), CF_OK);
    CHECK_STATUS(cf_future_add_done_callback(f, write_note, &notes[2]), CF_OK);
    end_promise(f, WITH_RESULT);
    CHECK_EQ(j.length, 3);
    CHECK_EQ(j.entries[0], 1);
    CHECK_EQ(j.entries[1], 10);
    CHECK_EQ(j.entries[2], 2);
    cf_future_release(f);
}

static void release_it(cf_future *f, void *user) {
    atomic_fetch_add((atomic_int *)user, 1);
    cf_future_release(f);
}

TEST(a_callback_may_release_the_future) {
    for (int end = 0; end < ENDS; end++) {
        atomic_int calls = 0;
        cf_future *f = promise();
        cf_future_retain(f); /* for the callback */
        CHECK_STATUS(cf_future_add_done_callback(f, release_it, &calls), CF_OK);
        CHECK_STATUS(cf_future_add_done_callback(f, count_call, &calls), CF_OK);
        end_promise(f, end);
        CHECK_EQ(atomic_load(&calls), 2);
        cf_future_release(f);
    }
}

static int return_seven(cf_task *task, void *arg) {
    (void)arg;
    const int seven = 7;
    return cf_task_return(task, &seven, sizeof seven);
}

TEST(a_callback_may_drop_the_only_reference_to_a_pools_future) {
    cf_executor *ex = pool(2);
    atomic_int calls = 0;
    for (int i = 0; i < ROUNDS; i++) {
        cf_future *f = cf_executor_submit(ex, return_seven, CF_NO_ARG);
        CHECK_STATUS(cf_future_add_done_callback(f, release_it, &calls), CF_OK);
    }
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&calls), ROUNDS);
}

typedef struct chain {
    cf_executor *executor;
    cf_future *to_cancel;
    cf_future *submitted;
    gate done;
} chain;

static void submit_and_cancel(cf_future *f, void *user) {
    chain *c = user;
    CHECK_STATUS(cf_future_wait(f, 0), CF_OK);
    CHECK(cf_future_cancel(c->to_cancel));
    c->submitted = cf_executor_submit(c->executor, return_seven, CF_NO_ARG);
    gate_open(&c->done);
}

TEST(a_callback_may_submit_and_cancel) {
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    chain c = {ex, NULL, NULL, GATE_INIT};
    cf_future *first = cf_executor_submit(ex, task_block, CF_POINTER(&g));
    c.to_cancel = cf_executor_submit(ex, return_seven, CF_NO_ARG);
    CHECK_STATUS(cf_future_add_done_callback(first, submit_and_cancel, &c), CF_OK);
    gate_open(&g);
    gate_await(&c.done);
    CHECK_STATUS(cf_future_wait(c.submitted, CF_FOREVER), CF_OK);
    CHECK_STATUS(cf_future_wait(c.to_cancel, 0), CF_CANCELLED);
    cf_executor_close(ex);
    cf_future_release(first);
    cf_future_release(c.to_cancel);
    cf_future_release(c.submitted);
}

typedef struct stranger {
    cf_future *future;
    cf_executor *executor;
    atomic_int *calls;
} stranger;

static void *use_everything(void *arg) {
    stranger *s = arg;
    CHECK(cf_future_done(s->future));
    CHECK_STATUS(cf_future_wait(s->future, CF_FOREVER), CF_OK);
    CHECK_STATUS(cf_future_add_done_callback(s->future, count_call, s->calls), CF_OK);
    CHECK(!cf_future_cancel(s->future));
    cf_stats stats;
    cf_executor_stats(s->executor, &stats);
    cf_future *f = cf_executor_submit(s->executor, return_seven, CF_NO_ARG);
    CHECK_STATUS(cf_future_wait(f, CF_FOREVER), CF_OK);
    cf_future_release(f);
    return NULL;
}

static void let_a_stranger_in(cf_future *f, void *user) {
    stranger *s = user;
    CHECK(f == s->future);
    pthread_t thread;
    spawn(&thread, use_everything, s);
    join(thread);
    atomic_fetch_add(s->calls, 1);
}

TEST(no_lock_is_held_while_a_callback_runs) {
    cf_executor *ex = pool(2);
    atomic_int calls = 0;
    stranger s = {promise(), ex, &calls};
    CHECK_STATUS(cf_future_add_done_callback(s.future, let_a_stranger_in, &s), CF_OK);
    end_promise(s.future, WITH_RESULT);
    CHECK_EQ(atomic_load(&calls), 2);
    cf_future_release(s.future);

    gate g = GATE_INIT;
    s.future = cf_executor_submit(ex, task_block, CF_POINTER(&g));
    CHECK_STATUS(cf_future_add_done_callback(s.future, let_a_stranger_in, &s), CF_OK);
    gate_open(&g);
    UNTIL(atomic_load(&calls) == 4);
    cf_executor_close(ex);
    cf_future_release(s.future);
}

static void *add_callbacks(void *arg) {
    stranger *s = arg;
    for (int i = 0; i < 50; i++) {
        CHECK_STATUS(cf_future_add_done_callback(s->future, count_call, s->calls), CF_OK);
    }
    return NULL;
}

TEST(callbacks_added_while_the_future_ends_run_exactly_once) {
    const int64_t start = now();
    for (int round = 0; is_time_for(round, ROUNDS / 3, start); round++) {
        atomic_int calls = 0;
        stranger s = {promise(), NULL, &calls};
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++) {
            spawn(&threads[i], add_callbacks, &s);
        }
        end_promise(s.future, round % ENDS);
        for (int i = 0; i < THREADS; i++) {
            join(threads[i]);
        }
        CHECK_EQ(atomic_load(&calls), THREADS * 50);
        cf_future_release(s.future);
    }
}

TEST(a_promise_that_is_dropped_unset_ends_cancelled_for_its_callbacks) {
    for (int ran = 0; ran < 2; ran++) {
        journal j = {0};
        note notes[2] = {{&j, 1}, {&j, 2}};
        cf_future *f = promise();
        if (ran != 0) {
            CHECK(cf_future_set_running_or_notify_cancel(f));
        }
        CHECK_STATUS(cf_future_add_done_callback(f, write_note, &notes[0]), CF_OK);
        CHECK_STATUS(cf_future_add_done_callback(f, write_note, &notes[1]), CF_OK);
        cf_future_release(f);
        CHECK_EQ(j.length, 2);
        CHECK_EQ(j.entries[0], 1);
        CHECK_STATUS(j.status[0], CF_CANCELLED);
        CHECK_STATUS(j.status[1], CF_CANCELLED);
    }
}

static void set_next(cf_future *f, void *user) {
    cf_future **next = user;
    CHECK(cf_future_done(f));
    CHECK_STATUS(cf_future_set_result(*next, NULL, 0), CF_OK);
}

TEST(callbacks_may_end_further_promises_in_a_chain) {
    enum { LENGTH = 500 };
    cf_future *links[LENGTH];
    for (int i = 0; i < LENGTH; i++) {
        links[i] = promise();
    }
    for (int i = 0; i + 1 < LENGTH; i++) {
        CHECK_STATUS(cf_future_add_done_callback(links[i], set_next, &links[i + 1]), CF_OK);
    }
    end_promise(links[0], WITH_RESULT);
    for (int i = 0; i < LENGTH; i++) {
        CHECK_STATUS(cf_future_wait(links[i], 0), CF_OK);
        cf_future_release(links[i]);
    }
}

TEST(a_callback_without_memory_is_refused_and_never_called) {
    if (!test_alloc_hooked()) {
        SKIP("the allocator is not hooked");
    }
    atomic_int calls = 0;
    int accepted = 0;
    int refused = 0;
    cf_future *f = promise();
    test_alloc_fail(1, true);
    for (int i = 0; i < 20; i++) {
        const cf_status status = cf_future_add_done_callback(f, count_call, &calls);
        CHECK(status == CF_OK || status == CF_NO_MEMORY);
        accepted += status == CF_OK;
        refused += status == CF_NO_MEMORY;
    }
    test_alloc_recover();
    CHECK(refused > 0);
    end_promise(f, WITH_RESULT);
    CHECK_EQ(atomic_load(&calls), accepted);
    cf_future_release(f);
}

/* ---------------------------------------------------------------- the futures of a pool */

TEST(the_future_of_an_executor_cannot_be_set) {
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    cf_future *running = cf_executor_submit(ex, task_block, CF_POINTER(&g));
    cf_future *pending = cf_executor_submit(ex, return_seven, CF_NO_ARG);
    cf_future *both[] = {running, pending};
    gate_await_arrivals(&g, 1);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 2; i++) {
            CHECK_STATUS(cf_future_set_result(both[i], "x", 1), CF_INVALID_STATE);
            CHECK_STATUS(cf_future_set_error(both[i], 1, "x"), CF_INVALID_STATE);
            CHECK(!cf_future_set_running_or_notify_cancel(both[i]));
        }
        CHECK_EQ(cf_future_state(pending), round == 0 ? CF_STATE_PENDING : CF_STATE_FINISHED);
        gate_open(&g);
        CHECK_STATUS(cf_future_wait(pending, CF_FOREVER), CF_OK);
    }
    CHECK_EQ(*(const int *)cf_future_result(pending, 0, NULL), 7);
    cf_executor_close(ex);
    cf_future_release(running);
    cf_future_release(pending);
}

TEST(the_states_of_a_pools_future_are_honest) {
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    cf_future *first = cf_executor_submit(ex, task_block, CF_POINTER(&g));
    cf_future *second = cf_executor_submit(ex, return_seven, CF_NO_ARG);
    gate_await_arrivals(&g, 1);
    CHECK_EQ(cf_future_state(first), CF_STATE_RUNNING);
    CHECK(cf_future_running(first));
    check_repr(first, "running");
    CHECK_EQ(cf_future_state(second), CF_STATE_PENDING);
    check_repr(second, "pending");
    gate_open(&g);
    CHECK_STATUS(cf_future_wait(second, CF_FOREVER), CF_OK);
    CHECK_STATUS(cf_future_wait(first, 0), CF_OK);
    check_repr(first, "finished returned 0 bytes");
    check_repr(second, "finished returned 4 bytes");
    cf_executor_close(ex);
    cf_future_release(first);
    cf_future_release(second);
}

static void note_thread(cf_future *f, void *user) {
    CHECK(cf_future_done(f));
    *(pthread_t *)user = pthread_self();
}

static int name_thread(cf_task *task, void *arg) {
    gate_await((gate *)arg);
    const pthread_t self = pthread_self();
    return cf_task_return(task, &self, sizeof self);
}

TEST(a_pools_callback_runs_on_the_worker) {
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    pthread_t called_by = pthread_self();
    cf_future *f = cf_executor_submit(ex, name_thread, CF_POINTER(&g));
    CHECK_STATUS(cf_future_add_done_callback(f, note_thread, &called_by), CF_OK);
    gate_open(&g);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK(pthread_equal(called_by, *(const pthread_t *)cf_future_result(f, 0, NULL)));
    CHECK(!pthread_equal(called_by, pthread_self()));
    cf_executor_close(ex);
    cf_future_release(f);
}

/* ---------------------------------------------------------------- what a task returns */

typedef struct order {
    size_t size;
    /* 0 return, 1 buffer, 2 owned, 3 return twice, 4 buffer then return, 5 return then owned */
    int how;
    int code;
    void *owned;
} order;
enum { HOWS = 6 };

static atomic_int frees;

static void count_free(void *ptr) {
    atomic_fetch_add(&frees, 1);
    free(ptr);
}

static void fill(unsigned char *data, size_t size) {
    for (size_t i = 0; i < size; i++) {
        data[i] = (unsigned char)(i * 13 + size);
    }
}

static int deliver_owned(cf_task *task, order *o, unsigned char *data) {
    o->owned = data;
    CHECK_EQ(cf_task_return_owned(task, data, o->size, count_free), 0);
    return o->code;
}

static int deliver(cf_task *task, void *arg) {
    order *o = arg;
    unsigned char *data = malloc(o->size + 1);
    CHECK(data != NULL);
    fill(data, o->size);
    if (o->how == 3 || o->how == 5) {
        const char other[40] = "the first answer, which does not count";
        CHECK_EQ(cf_task_return(task, other, sizeof other), 0);
    }
    if (o->how == 2 || o->how == 5) {
        return deliver_owned(task, o, data);
    }
    if (o->how == 1 || o->how == 4) {
        unsigned char *room = cf_task_result_buffer(task, o->how == 1 ? o->size : 77);
        CHECK(room != NULL);
        CHECK(is_aligned(room));
        fill(room, o->how == 1 ? o->size : 77);
    }
    if (o->how != 1) {
        CHECK_EQ(cf_task_return(task, data, o->size), 0);
    }
    free(data);
    return o->code;
}

TEST(a_task_returns_any_size_in_any_way_and_the_last_one_counts) {
    const size_t sizes[] = {0, 1, 8, 31, 32, 33, 48, 64, 65, 1000, 1 << 18};
    cf_executor *ex = pool(2);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int how = 0; how < HOWS; how++) {
            if (sizes[i] == 0 && how == 1) {
                continue;
            }
            order o = {sizes[i], how, 0, NULL};
            cf_future *f = cf_executor_submit(ex, deliver, CF_POINTER(&o));
            cf_status status = CF_END;
            const unsigned char *result = cf_future_result(f, CF_FOREVER, &status);
            CHECK_STATUS(status, CF_OK);
            CHECK(result != NULL);
            CHECK(is_aligned(result));
            CHECK_EQ(cf_future_result_size(f), o.size);
            for (size_t k = 0; k < o.size; k++) {
                CHECK_EQ(result[k], (unsigned char)(k * 13 + o.size));
            }
            CHECK(o.owned == NULL || o.size == 0 || result == o.owned);
            cf_future_release(f);
        }
    }
    cf_executor_close(ex);
}

TEST(owned_memory_is_freed_when_the_last_reference_goes_and_once) {
    for (int how = 2; how <= 5; how += 3) {
        atomic_store(&frees, 0);
        cf_executor *ex = pool(1);
        order o = {100, how, 0, NULL};
        cf_future *f = cf_executor_submit(ex, deliver, CF_POINTER(&o));
        CHECK_STATUS(cf_future_wait(f, CF_FOREVER), CF_OK);
        cf_future *kept = cf_future_retain(f);
        cf_future_release(f);
        cf_executor_close(ex);
        CHECK_EQ(atomic_load(&frees), 0);
        CHECK(cf_future_result(kept, 0, NULL) == o.owned);
        cf_future_release(kept);
        CHECK_EQ(atomic_load(&frees), 1);
    }
}

TEST(a_failed_task_has_no_result_and_frees_what_it_owned) {
    for (int how = 0; how < HOWS; how++) {
        atomic_store(&frees, 0);
        cf_executor *ex = pool(1);
        order o = {200, how, 9, NULL};
        cf_future *f = cf_executor_submit(ex, deliver, CF_POINTER(&o));
        cf_status status = CF_OK;
        CHECK(cf_future_result(f, CF_FOREVER, &status) == NULL);
        CHECK_STATUS(status, CF_TASK_FAILED);
        CHECK_EQ(cf_future_result_size(f), 0);
        CHECK_EQ(cf_future_error_code(f), 9);
        cf_future_release(f);
        cf_executor_close(ex);
        CHECK_EQ(atomic_load(&frees), o.owned != NULL ? 1 : 0);
    }
}

static int own_twice(cf_task *task, void *arg) {
    const int then = *(const int *)arg;
    CHECK_EQ(cf_task_return_owned(task, malloc(64), 64, count_free), 0);
    if (then == 0) {
        CHECK_EQ(cf_task_return_owned(task, malloc(65), 65, count_free), 0);
    } else if (then == 1) {
        CHECK_EQ(cf_task_return(task, "short", 6), 0);
    } else {
        char *room = cf_task_result_buffer(task, 6);
        CHECK(room != NULL);
        memcpy(room, "short", 6);
    }
    return 0;
}

TEST(owned_memory_that_is_replaced_is_freed_once) {
    for (int then = 0; then < 3; then++) {
        atomic_store(&frees, 0);
        cf_executor *ex = pool(1);
        cf_future *f = cf_executor_submit(ex, own_twice, &then, sizeof then);
        CHECK_STATUS(cf_future_wait(f, CF_FOREVER), CF_OK);
        CHECK_EQ(cf_future_result_size(f), then == 0 ? 65 : 6);
        CHECK(then == 0 || strcmp(cf_future_result(f, 0, NULL), "short") == 0);
        cf_executor_close(ex);
        cf_future_release(f);
        CHECK_EQ(atomic_load(&frees), then == 0 ? 2 : 1);
    }
}

static int fail_with(cf_task *task, void *arg) {
    const int code = *(const int *)arg;
    const int returned = cf_task_fail(task, code, "%s number %d", "error", code);
    CHECK_EQ(returned, code != 0 ? code : 1);
    return returned;
}

TEST(a_task_fails_with_its_code_and_its_message) {
    const int codes[] = {1, 22, -1, INT_MAX, INT_MIN, 0};
    cf_executor *ex = pool(1);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        cf_future *f = cf_executor_submit(ex, fail_with, &codes[i], sizeof codes[i]);
        CHECK_STATUS(cf_future_wait(f, CF_FOREVER), CF_TASK_FAILED);
        CHECK_EQ(cf_future_state(f), CF_STATE_FINISHED);
        CHECK_EQ(cf_future_error_code(f), codes[i] != 0 ? codes[i] : 1);
        char text[64];
        snprintf(text, sizeof text, "error number %d", codes[i]);
        CHECK_STR(cf_future_error_message(f), text);
        cf_future_release(f);
    }
    cf_executor_close(ex);
}

static int return_code(cf_task *task, void *arg) {
    (void)task;
    return *(const int *)arg;
}

TEST(a_bare_non_zero_return_is_an_error_too) {
    cf_executor *ex = pool(1);
    cf_future *f = cf_executor_submit(ex, return_code, CF_VALUE(int, -3));
    CHECK_STATUS(cf_future_wait(f, CF_FOREVER), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(f), -3);
    CHECK(strlen(cf_future_error_message(f)) > 3);
    check_repr(f, "finished raised CF_TASK_FAILED -3");
    cf_future_release(f);
    cf_executor_close(ex);
}

static int fail_long(cf_task *task, void *arg) {
    const size_t length = *(const size_t *)arg;
    char text[2001];
    for (size_t i = 0; i < length; i++) {
        text[i] = (char)('a' + i % 26);
    }
    text[length] = '\0';
    return cf_task_fail(task, 4, "%s", text);
}

TEST(a_message_is_kept_to_255_bytes_at_least_and_then_cut) {
    const size_t lengths[] = {0, 1, 30, 31, 32, 33, 100, 254, 255, 256, 257, 2000};
    cf_executor *ex = pool(1);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        cf_future *f = cf_executor_submit(ex, fail_long, &lengths[i], sizeof lengths[i]);
        CHECK_STATUS(cf_future_wait(f, CF_FOREVER), CF_TASK_FAILED);
        const char *message = cf_future_error_message(f);
        const size_t kept = strlen(message);
        CHECK(kept <= lengths[i]);
        CHECK(kept >= (lengths[i] < 255 ? lengths[i] : 255));
        for (size_t k = 0; k < kept; k++) {
            CHECK_EQ(message[k], 'a' + (int)(k % 26));
        }
        cf_future_release(f);
    }
    cf_executor_close(ex);
}

static int fail_then_return(cf_task *task, void *arg) {
    const int code = *(const int *)arg;
    (void)cf_task_fail(task, 5, "said before");
    if (code == 0) {
        return cf_task_return(task, "fine", 5);
    }
    return code;
}

TEST(the_return_value_decides_and_not_the_message) {
    cf_executor *ex = pool(1);
    cf_future *f = cf_executor_submit(ex, fail_then_return, CF_VALUE(int, 0));
    CHECK_STATUS(cf_future_wait(f, CF_FOREVER), CF_OK);
    CHECK_STR(cf_future_result(f, 0, NULL), "fine");
    CHECK_EQ(cf_future_error_code(f), 0);
    CHECK_STR(cf_future_error_message(f), "");
    cf_future_release(f);
    f = cf_executor_submit(ex, fail_then_return, CF_VALUE(int, 6));
    CHECK_STATUS(cf_future_wait(f, CF_FOREVER), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(f), 6);
    CHECK_STR(cf_future_error_message(f), "said before");
    cf_future_release(f);
    cf_executor_close(ex);
}

static int fail_twice(cf_task *task, void *arg) {
    (void)arg;
    (void)cf_task_fail(task, 3, "first, with %d words", 4);
    return cf_task_fail(task, 4, "second");
}

TEST(of_two_messages_the_last_counts) {
    cf_executor *ex = pool(1);
    cf_future *f = cf_executor_submit(ex, fail_twice, CF_NO_ARG);
    CHECK_STATUS(outcome(f), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(f), 4);
    CHECK_STR(cf_future_error_message(f), "second");
    cf_future_release(f);
    cf_executor_close(ex);
}

TEST(the_message_of_a_future_that_runs_is_empty) {
    cf_executor *ex = pool(1);
    gate g = GATE_INIT;
    cf_future *f = cf_executor_submit(ex, task_block, CF_POINTER(&g));
    gate_await_arrivals(&g, 1);
    CHECK_STR(cf_future_error_message(f), "");
    CHECK_EQ(cf_future_error_code(f), 0);
    CHECK_EQ(cf_future_result_size(f), 0);
    gate_open(&g);
    CHECK_STATUS(cf_future_wait(f, CF_FOREVER), CF_OK);
    CHECK_STR(cf_future_error_message(f), "");
    cf_future_release(f);
    cf_executor_close(ex);
}

static int return_big_without_memory(cf_task *task, void *arg) {
    const int then = *(const int *)arg;
    char big[5000] = {0};
    test_alloc_fail(1, true);
    const int refused = cf_task_return(task, big, sizeof big);
    test_alloc_recover();
    CHECK(refused != 0);
    return then < 0 ? refused : then;
}

TEST(a_result_without_memory_fails_the_future_whatever_is_returned_then) {
    if (!test_alloc_hooked()) {
        SKIP("the allocator is not hooked");
    }
    const int then[] = {-1, 0, 5};
    cf_executor *ex = pool(1);
    for (size_t i = 0; i < sizeof then / sizeof then[0]; i++) {
        cf_future *f = cf_executor_submit(ex, return_big_without_memory, &then[i], sizeof then[i]);
        CHECK_STATUS(cf_future_wait(f, CF_FOREVER), CF_NO_MEMORY);
        cf_status status = CF_OK;
        CHECK(cf_future_result(f, 0, &status) == NULL);
        CHECK_STATUS(status, CF_NO_MEMORY);
        CHECK_EQ(cf_future_state(f), CF_STATE_FINISHED);
        cf_future_release(f);
    }
    cf_executor_close(ex);
}

static int use_little_without_memory(cf_task *task, void *arg) {
    const int how = *(const int *)arg;
    char small[32] = "thirty-two bytes need no memory";
    void *owned = how == 1 ? malloc(5000) : NULL;
    test_alloc_fail(1, true);
    int code = 0;
    if (how == 0) {
        code = cf_task_return(task, small, sizeof small);
    } else if (how == 1) {
        code = cf_task_return_owned(task, owned, 5000, count_free);
    } else if (how == 2) {
        code = cf_task_fail(task, 8, "an error of %d bytes or more", 20);
    } else {
        CHECK(cf_task_result_buffer(task, 5000) == NULL);
        code = 3;
    }
    test_alloc_recover();
    return code;
}

TEST(without_memory_small_results_and_errors_still_arrive) {
    if (!test_alloc_hooked()) {
        SKIP("the allocator is not hooked");
    }
    cf_executor *ex = pool(1);
    cf_future *f[4];
    atomic_store(&frees, 0);
    for (int how = 0; how < 4; how++) {
        f[how] = cf_executor_submit(ex, use_little_without_memory, &how, sizeof how);
        (void)cf_future_wait(f[how], CF_FOREVER);
    }
    CHECK_STATUS(cf_future_wait(f[0], 0), CF_OK);
    CHECK_STR(cf_future_result(f[0], 0, NULL), "thirty-two bytes need no memory");
    CHECK(cf_future_wait(f[1], 0) == CF_OK || cf_future_wait(f[1], 0) == CF_NO_MEMORY);
    CHECK_STATUS(cf_future_wait(f[2], 0), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(f[2]), 8);
    CHECK(cf_future_error_message(f[2]) != NULL);
    CHECK(cf_future_wait(f[3], 0) == CF_TASK_FAILED || cf_future_wait(f[3], 0) == CF_NO_MEMORY);
    for (int how = 0; how < 4; how++) {
        cf_future_release(f[how]);
    }
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&frees), 1);
}

TEST_MAIN(
    RUN(the_version_is_the_macros_string)
    RUN(every_status_has_its_name)
    RUN(every_status_has_a_sentence_of_its_own)
    RUN(a_number_that_is_no_status_has_texts_too)
    RUN(repr_of_each_state_is_pythons)
    RUN(repr_prints_the_code_of_a_refusal_too)
    RUN(repr_has_the_contract_of_snprintf)
    RUN(a_new_promise_is_pending)
    RUN(a_running_promise_can_no_longer_be_cancelled)
    RUN(set_running_is_true_for_a_pending_promise_only)
    RUN(each_end_answers_every_question)
    RUN(a_future_is_set_once_and_keeps_its_first_end)
    RUN(cancel_of_a_cancelled_future_is_true_again)
    RUN(an_error_code_of_0_becomes_1)
    RUN(an_error_needs_no_message_and_may_be_negative)
    RUN(a_promise_keeps_a_copy_of_its_message)
    RUN(a_result_of_any_size_is_copied_and_aligned)
    RUN(no_result_is_a_result_that_is_not_null)
    RUN(the_result_stays_where_it_is)
    RUN(null_is_a_future_that_is_over)
    RUN(no_memory_gives_no_promise)
    RUN(a_promise_without_memory_for_its_result_stays_as_it_was)
    RUN(a_wait_that_runs_out_disturbs_nothing)
    RUN(a_finite_wait_ends_with_the_event)
    RUN(absurd_timeouts_neither_overflow_nor_expire)
    RUN(every_waiting_thread_is_told_of_each_end)
    RUN(the_last_reference_may_go_while_the_setter_is_on_its_way_out)
    RUN(of_two_that_race_to_end_a_promise_one_wins)
    RUN(two_that_race_to_cancel_are_both_told_yes)
    RUN(a_callback_that_is_added_as_the_future_ends_is_called_once)
    RUN(a_callback_is_told_of_each_end_once)
    RUN(a_callback_on_a_future_that_is_done_runs_here_and_now)
    RUN(callbacks_run_in_the_order_of_their_addition)
    RUN(a_callback_added_twice_runs_twice)
    RUN(a_callback_runs_in_the_thread_that_ends_the_future)
    RUN(a_callback_added_by_a_callback_runs_at_once)
    RUN(a_callback_may_release_the_future)
    RUN(a_callback_may_drop_the_only_reference_to_a_pools_future)
    RUN(a_callback_may_submit_and_cancel)
    RUN(no_lock_is_held_while_a_callback_runs)
    RUN(callbacks_added_while_the_future_ends_run_exactly_once)
    RUN(a_promise_that_is_dropped_unset_ends_cancelled_for_its_callbacks)
    RUN(callbacks_may_end_further_promises_in_a_chain)
    RUN(a_callback_without_memory_is_refused_and_never_called)
    RUN(the_future_of_an_executor_cannot_be_set)
    RUN(the_states_of_a_pools_future_are_honest)
    RUN(a_pools_callback_runs_on_the_worker)
    RUN(a_task_returns_any_size_in_any_way_and_the_last_one_counts)
    RUN(owned_memory_is_freed_when_the_last_reference_goes_and_once)
    RUN(a_failed_task_has_no_result_and_frees_what_it_owned)
    RUN(owned_memory_that_is_replaced_is_freed_once)
    RUN(a_task_fails_with_its_code_and_its_message)
    RUN(a_bare_non_zero_return_is_an_error_too)
    RUN(a_message_is_kept_to_255_bytes_at_least_and_then_cut)
    RUN(the_return_value_decides_and_not_the_message)
    RUN(of_two_messages_the_last_counts)
    RUN(the_message_of_a_future_that_runs_is_empty)
    RUN(a_result_without_memory_fails_the_future_whatever_is_returned_then)
    RUN(without_memory_small_results_and_errors_still_arrive)
)
