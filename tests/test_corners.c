/* What no other test happens to reach: rare forms of a call, moments that have to be arranged.
 * `make coverage` says which those are. */
#include "test.h"

#include "tasks.h"

#include <sys/resource.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

/* ---------------------------------------------------------------- rare forms of a call */

static void never_called(cf_future *future, void *user) {
    (void)future;
    (void)user;
    CHECK(false);
}

TEST(a_null_future_answers_every_question) {
    char text[96];
    CHECK(cf_future_retain(NULL) == NULL);
    CHECK_EQ(cf_future_error_code(NULL), 0);
    CHECK_EQ(cf_future_result_size(NULL), 0);
    CHECK_STR(cf_future_error_message(NULL), cf_strerror(CF_INVALID));
    CHECK(cf_future_repr(NULL, text, sizeof text) > 0);
    CHECK(strstr(text, "state=finished raised CF_INVALID 0>") != NULL);
    CHECK(!cf_future_set_running_or_notify_cancel(NULL));
    CHECK_STATUS(cf_future_set_result(NULL, "", 1), CF_INVALID);
    CHECK_STATUS(cf_future_set_error(NULL, 1, "nobody hears"), CF_INVALID);
    CHECK_STATUS(cf_future_add_done_callback(NULL, never_called, NULL), CF_INVALID);
}

TEST(a_promise_refuses_what_is_not_there) {
    cf_future *f = promise();
    CHECK_STATUS(cf_future_add_done_callback(f, NULL, NULL), CF_INVALID);
    CHECK_STATUS(cf_future_set_result(f, NULL, 1), CF_INVALID);
    CHECK_EQ(cf_future_state(f), CF_STATE_PENDING);
    CHECK_EQ(cf_future_error_code(f), 0);
    CHECK_STATUS(cf_future_set_error(f, 7, NULL), CF_OK);
    CHECK_EQ(cf_future_error_code(f), 7);
    CHECK_EQ(cf_future_result_size(f), 0);
    cf_future_release(f);
}

TEST(a_big_result_for_a_promise_that_has_ended_is_not_kept) {
    const char big[1000] = {0};
    cf_future *f = promise();
    set_int(f, 3);
    const size_t live = test_alloc_live();
    CHECK_STATUS(cf_future_set_result(f, big, sizeof big), CF_INVALID_STATE);
    CHECK_EQ(test_alloc_live(), live);
    CHECK_EQ(int_of(f), 3);
    cf_future_release(f);
}

typedef struct setter {
    cf_future *future;
    const void *data;
    size_t size;
} setter;

static void *set_it(void *arg) {
    const setter *s = arg;
    CHECK_STATUS(cf_future_set_result(s->future, s->data, s->size), CF_OK);
    return NULL;
}

/* The copy takes long, so that the moment can be met. */
TEST(a_promise_whose_result_is_being_copied_is_running) {
    setter s = {promise(), NULL, (size_t)64 << 20};
    void *data = malloc(s.size);
    CHECK(data != NULL);
    memset(data, 1, s.size);
    s.data = data;
    pthread_t thread;
    spawn(&thread, set_it, &s);
    cf_state state = cf_future_state(s.future);
    while (state == CF_STATE_PENDING) {
        state = cf_future_state(s.future);
    }
    CHECK(state == CF_STATE_RUNNING || state == CF_STATE_FINISHED);
    CHECK(state == CF_STATE_FINISHED || !cf_future_cancelled(s.future));
    join(thread);
    CHECK_EQ(cf_future_state(s.future), CF_STATE_FINISHED);
    CHECK_EQ(cf_future_result_size(s.future), s.size);
    cf_future_release(s.future);
    free(data);
}

TEST(an_iterator_and_a_wait_over_nothing_end_at_once) {
    cf_status status = CF_OK;
    bool done = true;
    cf_as_completed_iter *iter = cf_as_completed(NULL, 0, CF_FOREVER);
    CHECK(iter != NULL);
    CHECK(cf_as_completed_next(iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_END);
    cf_as_completed_close(iter);
    cf_future *const none[1] = {NULL};
    CHECK(cf_as_completed(NULL, 1, CF_FOREVER) == NULL);
    CHECK_EQ(cf_wait(none, 0, CF_ALL_COMPLETED, CF_FOREVER, &done), 0);
    CHECK(done); /* of no entry, so it is not written */
}

TEST(options_out_of_range_are_refused) {
    const cf_pool_options bad[] = {
        {.queue_limit = (size_t)PTRDIFF_MAX + 1},
        {.max_workers = SIZE_MAX},
        {.on_full = (cf_on_full)3},
        {.on_full = (cf_on_full)-1},
        {.stack_size = SIZE_MAX},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cf_status status = CF_OK;
        CHECK(cf_thread_pool_new(&bad[i], &status) == NULL);
        CHECK_STATUS(status, CF_INVALID);
        CHECK(cf_thread_pool_new(&bad[i], NULL) == NULL);
    }
}

TEST(who_does_not_ask_for_a_status_gets_none) {
    const int items[1] = {3};
    cf_executor *ex = cf_inline_executor_new(NULL);
    CHECK(ex != NULL);
    cf_executor_close(ex);
    CHECK(cf_as_completed_next(NULL, NULL, NULL) == NULL);
    CHECK(cf_as_completed_try_next(NULL, NULL, NULL) == NULL);
    CHECK(cf_map_next(NULL, NULL) == NULL);
    ex = cf_thread_pool_new(NULL, NULL);
    cf_map_iter *iter = cf_executor_map(ex, task_square, items, 1, sizeof items[0], NULL);
    const int *square = cf_map_next(iter, NULL);
    CHECK(square != NULL && *square == 9);
    CHECK(cf_map_next(iter, NULL) == NULL);
    cf_map_close(iter);
    cf_executor_close(ex);
}

TEST(stats_go_nowhere_without_a_place) {
    cf_executor *ex = pool(1);
    cf_executor_stats(ex, NULL);
    cf_executor_stats(NULL, NULL);
    cf_executor_close(ex);
}

/* ---------------------------------------------------------------- what a task says of its result */

static atomic_int frees;

static void count_free(void *ptr) {
    atomic_fetch_add(&frees, 1);
    free(ptr);
}

static int task_hands_over_twice(cf_task *task, void *arg) {
    (void)arg;
    char *text = malloc(6);
    CHECK(text != NULL);
    memcpy(text, "twice", 6);
    CHECK_EQ(cf_task_return_owned(task, text, 6, count_free), 0);
    CHECK_EQ(cf_task_return_owned(task, text, 6, count_free), 0);
    CHECK_EQ(atomic_load(&frees), 0);
    return 0;
}

TEST(the_same_memory_may_be_handed_over_again) {
    cf_executor *ex = inline_executor();
    cf_future *f = cf_executor_submit(ex, task_hands_over_twice, CF_NO_ARG);
    CHECK_STR(cf_future_result(f, 0, NULL), "twice");
    cf_future_release(f);
    CHECK_EQ(atomic_load(&frees), 1);
    cf_executor_close(ex);
}

/* It does not look at what cf_task_return says. */
static int task_says_too_much(cf_task *task, void *arg) {
    (void)cf_task_return(task, arg, cf_task_arg_size(task));
    return 0;
}

TEST(a_result_that_is_too_long_fails_whatever_the_task_returns) {
    const char items[2][100] = {"a", "b"};
    char results[2][8];
    size_t failed = 9;
    memset(results, 0xff, sizeof results);
    cf_executor *ex = pool(2);
    CHECK_STATUS(cf_executor_map_array(ex, task_says_too_much, items, sizeof items[0], results,
                                       sizeof results[0], 2, NULL, &failed),
                 CF_INVALID);
    CHECK_EQ(failed, 0);
    for (size_t i = 0; i < sizeof results; i++) {
        CHECK_EQ((&results[0][0])[i], 0);
    }
    cf_executor_close(ex);
}

static int task_first_byte(cf_task *task, void *arg) {
    CHECK_EQ(cf_task_arg_size(task), 1000);
    CHECK_EQ((uintptr_t)arg % _Alignof(max_align_t), 0);
    return cf_task_return(task, arg, 1);
}

TEST(items_of_any_size_are_copied_for_their_tasks) {
    static char items[50][1000];
    char results[50];
    for (int i = 0; i < 50; i++) {
        items[i][0] = (char)i;
    }
    cf_executor *ex = pool(3);
    CHECK_STATUS(cf_executor_map_array(ex, task_first_byte, items, sizeof items[0], results, 1, 50,
                                       NULL, NULL),
                 CF_OK);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(results[i], i);
    }
    cf_executor_close(ex);
}

static bool next_three(void *item, void *user) {
    int *count = user;
    *(int *)item = *count;
    return (*count)++ < 3;
}

TEST(a_generator_feeds_an_array_without_results) {
    int count = 0;
    const cf_map_options options = {.next_item = next_three, .user = &count};
    cf_executor *ex = pool(2);
    CHECK_STATUS(cf_executor_map_array(ex, task_nothing, NULL, sizeof(int), NULL, 0, 10, &options,
                                       NULL),
                 CF_OK);
    CHECK_EQ(count, 4);
    cf_executor_close(ex);
}

TEST(a_chunk_that_no_memory_could_hold_is_refused) {
    int count = 0;
    cf_status status = CF_OK;
    const cf_map_options options = {
        .next_item = next_three, .user = &count, .chunksize = SIZE_MAX / 2};
    cf_executor *ex = pool(1);
    cf_map_iter *iter = cf_executor_map(ex, task_square, NULL, 0, sizeof(int), &options);
    CHECK(iter == NULL);
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_INVALID);
    CHECK_EQ(count, 0);
    cf_executor_close(ex);
}

TEST(what_a_map_says_of_an_item_that_was_refused) {
    const int items[2] = {1, 2};
    cf_status status = CF_OK;
    cf_executor *ex = pool(1);
    CHECK_STATUS(cf_executor_shutdown(ex, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    cf_map_iter *iter = cf_executor_map(ex, task_square, items, 2, sizeof items[0], NULL);
    CHECK_STR(cf_map_error_message(iter), "");
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_SHUTDOWN);
    CHECK_STR(cf_map_error_message(iter), cf_strerror(CF_SHUTDOWN));
    CHECK_EQ(cf_map_error_code(iter), 0);
    cf_map_close(iter);
    cf_executor_close(ex);
}

/* ---------------------------------------------------------------- how far a map is */

static size_t progress_of(cf_map_iter *iter, size_t expected_total) {
    size_t total = 4711;
    const size_t items = cf_map_progress(iter, &total);
    CHECK_EQ(total, expected_total);
    CHECK(cf_map_progress(iter, NULL) >= items); /* never fewer than the last time */
    return items;
}

TEST(the_progress_of_no_map_is_none) {
    CHECK_EQ(progress_of(NULL, 0), 0);
}

static gate *doors; /* one for each item */

/* size_t: waits at that door. */
static int task_behind_a_door(cf_task *task, void *arg) {
    gate_await(&doors[*(const size_t *)arg]);
    return cf_task_return(task, arg, sizeof(size_t));
}

enum { DOORS = 6 };

static cf_map_iter *map_behind_doors(cf_executor *ex, const cf_map_options *options) {
    static gate all[DOORS];
    size_t items[DOORS];
    for (size_t i = 0; i < DOORS; i++) {
        all[i] = (gate)GATE_INIT;
        items[i] = i;
    }
    doors = all;
    return cf_executor_map(ex, task_behind_a_door, items, DOORS, sizeof items[0], options);
}

TEST(progress_counts_items_that_have_ended_and_no_others) {
    cf_executor *ex = pool(1);
    cf_map_iter *iter = map_behind_doors(ex, &(cf_map_options){.chunksize = 2});
    CHECK_EQ(progress_of(iter, DOORS), 0);
    gate_open(&doors[0]);
    UNTIL(progress_of(iter, DOORS) == 1); /* of a chunk that is running */
    gate_open(&doors[1]);
    gate_open(&doors[2]);
    UNTIL(progress_of(iter, DOORS) == 3);
    CHECK(cf_map_next(iter, NULL) != NULL);
    CHECK_EQ(progress_of(iter, DOORS), 3); /* delivered or not */
    for (int i = 3; i < DOORS; i++) {
        gate_open(&doors[i]);
    }
    UNTIL(progress_of(iter, DOORS) == DOORS);
    for (size_t i = 1; i < DOORS; i++) {
        CHECK(cf_map_next(iter, NULL) != NULL);
        CHECK_EQ(progress_of(iter, DOORS), DOORS);
    }
    CHECK(cf_map_next(iter, NULL) == NULL);
    CHECK_EQ(progress_of(iter, DOORS), DOORS);
    cf_map_close(iter);
    cf_executor_close(ex);
}

TEST(progress_of_an_unordered_map_knows_what_ends_first) {
    cf_executor *ex = pool(DOORS);
    cf_map_iter *iter = map_behind_doors(ex, &(cf_map_options){.unordered = true});
    gate_open(&doors[4]);
    const size_t *first = cf_map_next(iter, NULL);
    CHECK(first != NULL && *first == 4);
    UNTIL(progress_of(iter, DOORS) == 1);
    gate_open(&doors[5]);
    gate_open(&doors[0]);
    UNTIL(progress_of(iter, DOORS) == 3);
    for (int i = 1; i < 4; i++) {
        gate_open(&doors[i]);
    }
    while (cf_map_next(iter, NULL) != NULL) {
    }
    CHECK_EQ(progress_of(iter, DOORS), DOORS);
    cf_map_close(iter);
    cf_executor_close(ex);
}

TEST(the_total_of_a_generator_is_known_at_its_end) {
    int count = 0;
    const cf_map_options options = {.next_item = next_three, .user = &count, .buffersize = 1};
    cf_executor *ex = pool(1);
    cf_map_iter *iter = cf_executor_map(ex, task_square, NULL, 0, sizeof(int), &options);
    CHECK_EQ(progress_of(iter, 0) <= 1, true);
    CHECK(cf_map_next(iter, NULL) != NULL);
    CHECK(cf_map_next(iter, NULL) != NULL);
    CHECK(cf_map_next(iter, NULL) != NULL);
    CHECK_EQ(progress_of(iter, 3), 3);
    CHECK(cf_map_next(iter, NULL) == NULL);
    CHECK_EQ(progress_of(iter, 3), 3);
    cf_map_close(iter);
    cf_executor_close(ex);
}

TEST(progress_looks_at_some_hundred_running_tasks_and_goes_on_from_there) {
    enum { MANY = 1000 };
    static size_t items[MANY];
    static gate first = GATE_INIT;
    cf_executor *ex = pool(1);
    doors = &first;
    cf_map_iter *iter =
        cf_executor_map(ex, task_behind_a_door, items, MANY, sizeof items[0], NULL);
    CHECK_EQ(progress_of(iter, MANY), 0);
    gate_open(&first);
    UNTIL(progress_of(iter, MANY) == MANY);
    cf_map_close(iter);
    cf_executor_close(ex);
}

TEST(a_cancelled_map_has_all_the_progress_there_will_be) {
    cf_executor *ex = pool(1);
    cf_map_iter *iter = map_behind_doors(ex, NULL);
    UNTIL(stats_of(ex).running == 1);
    CHECK_STATUS(cf_executor_shutdown(ex, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
    CHECK_EQ(progress_of(iter, DOORS), DOORS - 1);
    gate_open(&doors[0]);
    UNTIL(progress_of(iter, DOORS) == DOORS);
    cf_map_close(iter);
    cf_executor_close(ex);
}

/* ---------------------------------------------------------------- map_array, when time is up */

typedef struct slow_row {
    gate *entered;
    int wait_ms; /* before it ends; negative: fails after that many */
} slow_row;

/* The slower the machine is, the longer a millisecond. */
static cf_duration slow_ms(int count) {
    return count * (limit(1) / 1000);
}

static int task_row(cf_task *task, void *arg) {
    const slow_row *row = arg;
    gate_arrive(row->entered);
    sleep_for(slow_ms(row->wait_ms < 0 ? -row->wait_ms : row->wait_ms));
    (void)task;
    return row->wait_ms < 0 ? 5 : 0;
}

/* One worker takes the items in order: the second one outlasts the deadline. */
static cf_status map_rows(int first, int second, size_t *failed) {
    gate g = GATE_INIT;
    const slow_row rows[3] = {{&g, first}, {&g, second}, {&g, 0}};
    const cf_map_options options = {.timeout = slow_ms(60)};
    cf_executor *ex = pool(1);
    const cf_status status =
        cf_executor_map_array(ex, task_row, rows, sizeof rows[0], NULL, 0, 3, &options, failed);
    CHECK_EQ(gate_arrivals(&g), 2);
    cf_executor_close(ex);
    return status;
}

TEST(the_lowest_index_that_failed_is_told_with_its_own_status) {
    size_t failed = 9;
    CHECK_STATUS(map_rows(-1, 100, &failed), CF_TASK_FAILED);
    CHECK_EQ(failed, 0);
    CHECK_STATUS(map_rows(1, -100, &failed), CF_TASK_FAILED);
    CHECK_EQ(failed, 1);
    CHECK_STATUS(map_rows(1, 100, &failed), CF_TIMEOUT);
    CHECK_EQ(failed, 2);
}

/* Two workers: what the first leaves out comes before what fails in the second's half. */
TEST(an_item_that_was_left_out_before_one_that_failed_is_told) {
    gate g = GATE_INIT;
    const slow_row rows[4] = {{&g, 150}, {&g, 0}, {&g, -1}, {&g, 150}};
    const cf_map_options options = {.timeout = slow_ms(60)};
    size_t failed = 9;
    cf_executor *ex = pool(2);
    CHECK_STATUS(cf_executor_map_array(ex, task_row, rows, sizeof rows[0], NULL, 0, 4, &options,
                                       &failed),
                 CF_TIMEOUT);
    CHECK_EQ(failed, 1);
    cf_executor_close(ex);
}

/* It has second thoughts. */
static int task_fails_and_returns(cf_task *task, void *arg) {
    CHECK_EQ(cf_task_return(task, arg, sizeof(int)), 0);
    CHECK_EQ(cf_task_fail(task, 3, "not so bad"), 3);
    return 0;
}

TEST(a_message_of_an_item_that_ends_well_is_dropped) {
    const int items[3] = {1, 2, 3};
    int results[3] = {0, 0, 0};
    cf_executor *ex = pool(1);
    CHECK_STATUS(cf_executor_map_array(ex, task_fails_and_returns, items, sizeof items[0], results,
                                       sizeof results[0], 3, NULL, NULL),
                 CF_OK);
    CHECK_EQ(results[2], 3);
    cf_executor_close(ex);
}

TEST(a_generator_of_more_items_than_memory_is_refused) {
    int count = 0;
    const cf_map_options options = {.next_item = next_three, .user = &count};
    cf_executor *ex = pool(1);
    CHECK_STATUS(cf_executor_map_array(ex, task_nothing, NULL, sizeof(int), NULL, 0, SIZE_MAX / 2,
                                       &options, NULL),
                 CF_NO_MEMORY);
    CHECK_EQ(count, 0);
    cf_executor_close(ex);
}

typedef struct pair_of_items {
    atomic_int entered;
    atomic_int stopped;
} pair_of_items;

static pair_of_items items_seen;

/* The first one in waits to be stopped, the second fails once both are there. */
static int task_stops_the_other(cf_task *task, void *arg) {
    (void)arg;
    if (atomic_fetch_add(&items_seen.entered, 1) == 0) {
        CHECK(!cf_task_stop_requested(task));
        UNTIL(cf_task_stop_requested(task));
        atomic_fetch_add(&items_seen.stopped, 1);
        return 0;
    }
    UNTIL(atomic_load(&items_seen.entered) >= 2);
    return 1;
}

TEST(an_item_that_fails_asks_the_others_to_stop) {
    const int items[2] = {0, 0};
    const cf_map_options options = {.stop_on_error = true};
    cf_executor *ex = pool(2);
    CHECK_STATUS(cf_executor_map_array(ex, task_stops_the_other, items, sizeof items[0], NULL, 0, 2,
                                       &options, NULL),
                 CF_TASK_FAILED);
    CHECK_EQ(atomic_load(&items_seen.stopped), 1);
    cf_executor_close(ex);
}

static int task_outlasts(cf_task *task, void *arg) {
    (void)arg;
    CHECK(!cf_task_stop_requested(task));
    UNTIL(cf_task_stop_requested(task));
    return 0;
}

TEST(a_chunk_is_told_when_its_map_is_closed) {
    const int items[2] = {0, 0};
    const cf_map_options options = {.chunksize = 2};
    cf_executor *ex = pool(1);
    cf_map_iter *iter = cf_executor_map(ex, task_outlasts, items, 2, sizeof items[0], &options);
    UNTIL(stats_of(ex).running == 1);
    cf_map_close(iter);
    cf_executor_close(ex);
}

/* ---------------------------------------------------------------- cancel, seen from free_arg */

typedef struct cancelled_arg {
    cf_future *future;
    gate there;
    bool again, cancelled;
    cf_state state;
} cancelled_arg;

static void look_while_freed(void *arg) {
    cancelled_arg *c = arg;
    gate_await(&c->there);
    c->state = cf_future_state(c->future);
    c->again = cf_future_cancel(c->future);
    c->cancelled = cf_future_cancelled(c->future);
}

TEST(a_cancel_from_the_free_function_of_a_cancelled_task_is_true) {
    gate g = GATE_INIT;
    cancelled_arg c = {.there = GATE_INIT};
    cf_executor *ex = pool(1);
    occupy(ex, 1, &g);
    c.future = cf_executor_submit_with(ex, task_nothing, &c, 0,
                                       &(cf_submit_options){.free_arg = look_while_freed});
    gate_open(&c.there);
    CHECK(cf_future_cancel(c.future));
    CHECK_EQ(c.state, CF_STATE_PENDING); /* not yet done, for anybody */
    CHECK(c.again);
    CHECK(!c.cancelled);
    cf_future_release(c.future);
    gate_open(&g);
    cf_executor_close(ex);
}

/* ---------------------------------------------------------------- moments of another thread */

static struct moment {
    atomic_int id; /* of the test point; 0: none */
    gate passed;
    cf_future *cancels;
    bool cancelled;
} moment = {.passed = GATE_INIT};

/* Once, whoever comes first. */
static void at_moment(int id) {
    int wanted = id;
    if (!atomic_compare_exchange_strong(&moment.id, &wanted, 0)) {
        return;
    }
    if (moment.cancels != NULL) {
        moment.cancelled = cf_future_cancel(moment.cancels);
    }
    gate_open(&moment.passed);
}

static void await_moment(int id, cf_future *cancels) {
    moment.cancels = cancels;
    atomic_store(&moment.id, id);
    test_point_hook(at_moment);
}

enum { PARKING = 1, POPPING = 3 }; /* CF__POINT_PARK, CF__POINT_POP */

/* All threads but this one sleep in the kernel. */
static bool others_sleep(void) {
#ifdef __linux__
    bool asleep = true;
    const long self = syscall(SYS_gettid);
    DIR *dir = opendir("/proc/self/task");
    CHECK(dir != NULL);
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char path[300], text[128] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", entry->d_name);
        FILE *file = entry->d_name[0] != '.' ? fopen(path, "r") : NULL;
        if (file == NULL) {
            continue;
        }
        const bool known = fgets(text, sizeof text, file) != NULL;
        fclose(file);
        const char *state = known ? strrchr(text, ')') : NULL;
        asleep = asleep && (state == NULL || state[2] == 'S' ||
                            strtol(entry->d_name, NULL, 10) == self);
    }
    closedir(dir);
    return asleep;
#else
    return true;
#endif
}

/* A worker finds its child at hand, and cancelled when it has taken it out. */
static int task_waits_for_a_cancelled_child(cf_task *task, void *arg) {
    (void)arg;
    cf_future *child = cf_executor_submit(cf_task_executor(task), task_nothing, CF_NO_ARG);
    await_moment(POPPING, child);
    const cf_status status = cf_future_wait(child, CF_FOREVER);
    test_point_hook(NULL);
    cf_future_release(child);
    return status == CF_CANCELLED && moment.cancelled ? 0 : 1;
}

TEST(a_child_may_be_cancelled_while_its_parent_takes_it_out) {
    cf_executor *ex = pool(1);
    cf_future *f = cf_executor_submit(ex, task_waits_for_a_cancelled_child, CF_NO_ARG);
    CHECK_STATUS(outcome(f), CF_OK);
    cf_future_release(f);
    CHECK_EQ(stats_of(ex).queued, 0);
    cf_executor_close(ex);
}

static cf_future *taken_meanwhile;
static cf_executor *trimmed;

static gate about_to_trim = GATE_INIT, used_again = GATE_INIT;

static void let_another_take_one(int id) {
    int wanted = 20; /* CF__POINT_TRIM */
    if (id == wanted && atomic_compare_exchange_strong(&moment.id, &wanted, 0)) {
        gate_open(&about_to_trim);
        gate_await(&used_again);
    }
}

static int take_one(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    gate_await(&about_to_trim);
    taken_meanwhile = cf_executor_submit(trimmed, task_nothing, CF_NO_ARG);
    gate_open(&used_again);
    return 0;
}

/* A burst of futures comes back, before or after its pool has been quiet for long; just as its
 * memory is about to be freed one is taken again. */
static void use_again(bool late) {
    enum { BURST = 20000 };
    static cf_future *futures[BURST];
    cf_executor *other = pool(1);
    trimmed = pool(1);
    cf_future *taker = cf_executor_submit(other, take_one, CF_NO_ARG);
    CHECK_STATUS(cf_executor_submit_many(trimmed, task_nothing, NULL, BURST, 0, futures), CF_OK);
    UNTIL(stats_of(trimmed).finished == BURST);
    atomic_store(&moment.id, 20);
    test_point_hook(let_another_take_one);
    if (late) {
        sleep_for(300 * CF_MILLISECOND); /* then the last release trims, or the worker: either will do */
    }
    release_all(futures, BURST);
    CHECK_STATUS(outcome(taker), CF_OK);
    test_point_hook(NULL);
    CHECK_STATUS(outcome(taken_meanwhile), CF_OK);
    cf_future_release(taken_meanwhile);
    cf_future_release(taker);
    cf_executor_close(trimmed);
    cf_executor_close(other);
}

TEST(memory_that_is_used_again_is_not_given_back) {
    use_again(false);
}

TEST(memory_that_is_used_again_after_a_long_pause_is_not_given_back) {
    use_again(true);
}

TEST(memory_of_a_burst_goes_back_while_the_pool_lives) {
    if (!test_alloc_hooked()) {
        SKIP("no view of the library's memory in this lane");
    }
    cf_executor *ex = pool(2);
    memory_of_a_burst_goes_back(ex, 300 * CF_MILLISECOND);
    cf_executor_close(ex);
}

/* The queue itself stayed small, so there is nothing of it to give back. */
TEST(memory_of_many_small_bursts_goes_back_while_the_pool_lives) {
    enum { BURST = 100, BURSTS = 200 };
    static cf_future *futures[BURSTS * BURST];
    if (!test_alloc_hooked()) {
        SKIP("no view of the library's memory in this lane");
    }
    cf_executor *ex = pool(1);
    for (int i = 0; i < BURSTS; i++) {
        cf_future **burst = futures + i * BURST;
        CHECK_STATUS(cf_executor_submit_many(ex, task_nothing, NULL, BURST, 0, burst), CF_OK);
        CHECK_EQ(cf_wait(burst, BURST, CF_ALL_COMPLETED, CF_FOREVER, NULL), BURST);
    }
    const size_t most = test_alloc_live();
    release_all(futures, BURSTS * BURST);
    UNTIL(test_alloc_live() < most - 20); /* 59 blocks, of which 32 may stay */
    cf_executor_close(ex);
}

typedef enum way_to_wait { BY_FUTURE, BY_SET, BY_SHUTDOWN, BY_STAND_IN } way_to_wait;

static struct circle {
    gate ready;
    way_to_wait way;
    cf_future *mapping; /* the task that maps */
    cf_executor *other; /* BY_SHUTDOWN: its task waits for the one that maps */
    size_t mapper;
    atomic_int entered;
} circle = {.ready = GATE_INIT};

static int task_waits_for_the_mapping_one(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    atomic_fetch_add(&circle.entered, 1);
    return (int)-cf_future_wait(circle.mapping, CF_FOREVER);
}

/* Levels below it waits for the mapping task; deep enough for another thread to go on. */
static int task_waits_deep_down(cf_task *task, void *arg) {
    const int level = *(const int *)arg;
    if (level == 0) {
        return task_waits_for_the_mapping_one(task, NULL);
    }
    cf_future *f = cf_executor_submit(cf_task_executor(task), task_waits_deep_down,
                                      CF_VALUE(int, level - 1));
    const cf_status status = cf_future_wait(f, CF_FOREVER);
    const int code = status == CF_TASK_FAILED ? cf_future_error_code(f) : (int)-status;
    cf_future_release(f);
    return code;
}

static int wait_in_a_circle(cf_task *task) {
    cf_status status = CF_OK;
    const int deep = 700; /* CF__DEPTH is 512 */
    switch (circle.way) {
    case BY_FUTURE: return task_waits_for_the_mapping_one(task, NULL);
    case BY_STAND_IN: return task_waits_deep_down(task, (void *)(uintptr_t)&deep);
    case BY_SHUTDOWN:
        atomic_fetch_add(&circle.entered, 1);
        return (int)-cf_executor_shutdown(circle.other, CF_FOREVER, CF_RUN_PENDING);
    default: break;
    }
    cf_as_completed_iter *iter = cf_as_completed(&circle.mapping, 1, CF_FOREVER);
    atomic_fetch_add(&circle.entered, 1);
    (void)cf_as_completed_next(iter, NULL, &status);
    cf_as_completed_close(iter);
    return (int)-status;
}

/* The item that another worker runs waits for the task that maps; the other item lets that happen
 * first, so that it is the mapping task that closes the circle. */
static int task_item_of_a_circle(cf_task *task, void *arg) {
    (void)arg;
    if (cf_task_worker(task) != circle.mapper) {
        return wait_in_a_circle(task);
    }
    UNTIL(atomic_load(&circle.entered) == (circle.way == BY_SHUTDOWN ? 2 : 1));
    UNTIL(others_sleep());
    return 0;
}

static int task_maps(cf_task *task, void *arg) {
    const int items[2] = {0, 1};
    size_t failed = 9;
    (void)arg;
    circle.mapper = cf_task_worker(task);
    gate_await(&circle.ready);
    if (circle.way == BY_SHUTDOWN) {
        fire(circle.other, task_waits_for_the_mapping_one, NULL);
        UNTIL(atomic_load(&circle.entered) == 1);
    }
    return (int)-cf_executor_map_array(cf_task_executor(task), task_item_of_a_circle, items,
                                       sizeof items[0], NULL, 0, 2, NULL, &failed);
}

/* Whoever is told, nobody hangs. */
static void map_in_a_circle(way_to_wait way) {
    circle.way = way;
    circle.other = pool(1);
    cf_executor *ex = pool(2);
    circle.mapping = cf_executor_submit(ex, task_maps, CF_NO_ARG);
    gate_open(&circle.ready);
    CHECK_STATUS(outcome(circle.mapping), CF_TASK_FAILED);
    const int code = cf_future_error_code(circle.mapping);
    CHECK(code == -CF_TASK_FAILED || code == -CF_DEADLOCK);
    cf_executor_close(ex);
    cf_executor_close(circle.other);
    cf_future_release(circle.mapping);
}

TEST(an_item_that_waits_for_its_map_gives_up_when_the_map_waits_for_it) {
    map_in_a_circle(BY_FUTURE);
}

TEST(an_item_that_waits_for_its_map_and_others_gives_up_too) {
    map_in_a_circle(BY_SET);
}

TEST(an_item_that_shuts_down_a_pool_which_waits_for_its_map_gives_up_too) {
    map_in_a_circle(BY_SHUTDOWN);
}

TEST(an_item_that_waits_for_its_map_deep_down_gives_up_too) {
    map_in_a_circle(BY_STAND_IN);
}

static void shut_down_before_the_look(int id) {
    int wanted = 5; /* CF__POINT_WORK: the task is queued, no worker was looked for */
    if (id == wanted && atomic_compare_exchange_strong(&moment.id, &wanted, 0)) {
        (void)cf_executor_shutdown(trimmed, 0, CF_RUN_PENDING);
        gate_open(&moment.passed);
    }
}

TEST(a_first_task_runs_though_the_pool_is_shut_down_before_it_has_a_worker) {
    trimmed = pool(1);
    atomic_store(&moment.id, 5);
    test_point_hook(shut_down_before_the_look);
    cf_future *f = cf_executor_submit(trimmed, task_nothing, CF_NO_ARG);
    test_point_hook(NULL);
    CHECK(gate_is_open(&moment.passed));
    CHECK_STATUS(outcome(f), CF_OK);
    cf_future_release(f);
    cf_executor_close(trimmed);
}

/* ---------------------------------------------------------------- the last reference */

static cf_future *kept;

static void keep(cf_future *future, void *user) {
    (void)user;
    kept = cf_future_retain(future);
}

TEST(a_callback_may_keep_a_promise_that_was_dropped) {
    cf_future *f = promise();
    CHECK_STATUS(cf_future_add_done_callback(f, keep, NULL), CF_OK);
    cf_future_release(f);
    CHECK(kept == f);
    CHECK_STATUS(cf_future_wait(kept, 0), CF_CANCELLED);
    cf_future_release(kept);
}

TEST(who_hears_of_an_unread_error_may_keep_the_future) {
    cf_executor *ex = pool_with(&(cf_pool_options){.max_workers = 1, .on_unread_error = keep});
    cf_future_release(cf_executor_submit(ex, task_fail, CF_VALUE(int, 7)));
    cf_executor_close(ex);
    CHECK(kept != NULL);
    CHECK_EQ(cf_future_error_code(kept), 7);
    cf_future_release(kept);
}

/* ---------------------------------------------------------------- two executors */

typedef struct other_executor {
    cf_executor *executor;
    gate entered;
    cf_status status;
} other_executor;

static int task_shuts_the_other_down(cf_task *task, void *arg) {
    other_executor *o = arg;
    (void)task;
    o->status = cf_executor_shutdown(o->executor, CF_FOREVER, CF_RUN_PENDING);
    return 0;
}

TEST(a_task_inside_one_executor_may_wait_for_the_end_of_another) {
    cf_executor *ex = inline_executor();
    other_executor o = {.executor = pool(1)};
    fire(o.executor, task_nothing, NULL);
    fire(ex, task_shuts_the_other_down, &o);
    CHECK_STATUS(o.status, CF_OK);
    cf_executor_close(o.executor);
    cf_executor_close(ex);
}

/* Stays in an inline executor until that has been shut down. */
static int task_stays_until_the_shutdown(cf_task *task, void *arg) {
    other_executor *o = arg;
    gate_open(&o->entered);
    for (bool refused = false; !refused;) {
        cf_future *f = cf_executor_submit(cf_task_executor(task), task_nothing, CF_NO_ARG);
        refused = cf_future_wait(f, 0) == CF_SHUTDOWN;
        cf_future_release(f);
        test_pause();
    }
    return 0;
}

static void *visit(void *arg) {
    other_executor *o = arg;
    fire(o->executor, task_stays_until_the_shutdown, o);
    return NULL;
}

TEST(a_task_may_wait_for_the_end_of_an_executor_without_threads) {
    other_executor o = {.executor = inline_executor(), .entered = GATE_INIT};
    pthread_t thread;
    spawn(&thread, visit, &o);
    gate_await(&o.entered);
    cf_executor *ex = pool(1);
    fire(ex, task_shuts_the_other_down, &o);
    cf_executor_close(ex);
    CHECK_STATUS(o.status, CF_OK);
    join(thread);
    cf_executor_close(o.executor);
}

/* ---------------------------------------------------------------- after a fork of the program */

static struct inherited {
    cf_executor *executor;
    cf_future *done, *pending, *promise;
    cf_as_completed_iter *iter;
} inherited;

static void use_what_was_inherited(void *arg) {
    (void)arg;
    cf_status status = CF_OK;
    CHECK_EQ(stats_of(inherited.executor).submitted, 0);
    CHECK(cf_as_completed_next(inherited.iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_FORKED);
    cf_future_release(inherited.done);
    CHECK(!cf_future_cancel(inherited.pending));
}

TEST(a_child_of_a_fork_gives_back_what_it_inherited_from_a_pool_at_rest) {
    inherited.executor = pool(1);
    inherited.promise = promise();
    inherited.done = cf_executor_submit(inherited.executor, task_nothing, CF_NO_ARG);
    CHECK_STATUS(outcome(inherited.done), CF_OK);
    inherited.iter = cf_as_completed(&inherited.promise, 1, CF_FOREVER);
    UNTIL(stats_of(inherited.executor).idle == 1 && others_sleep());
    inherited.pending = promise();
    CHECK(cf_future_set_running_or_notify_cancel(inherited.pending));
    CHECK_EQ(in_child(use_what_was_inherited, NULL), 0);
    cf_as_completed_close(inherited.iter);
    cf_future_release(inherited.promise);
    cf_future_release(inherited.pending);
    cf_future_release(inherited.done);
    cf_executor_close(inherited.executor);
}

enum { INHERITED = 20000 };
static cf_future *burst[INHERITED];

static void release_an_inherited_burst(void *arg) {
    const size_t live = test_alloc_live();
    release_all(arg, INHERITED);
    CHECK_EQ(test_alloc_live(), live);
}

/* Its parent's pool has been quiet for long, so there the same releases give the memory back. In
 * the child the heap's lock may be held for ever. */
TEST(a_child_of_a_fork_does_not_ask_for_the_memory_of_an_inherited_burst) {
    if (!test_alloc_hooked()) {
        SKIP("no view of the library's memory in this lane");
    }
    cf_executor *ex = pool(1);
    CHECK_STATUS(cf_executor_submit_many(ex, task_nothing, NULL, INHERITED, 0, burst), CF_OK);
    CHECK_EQ(cf_wait(burst, INHERITED, CF_ALL_COMPLETED, CF_FOREVER, NULL), INHERITED);
    const size_t most = test_alloc_live();
    UNTIL(test_alloc_live() < most); /* the ring, by the worker that lies down for long */
    CHECK_EQ(in_child(release_an_inherited_burst, burst), 0);
    release_all(burst, INHERITED);
    UNTIL(test_alloc_live() < most - 20); /* 59 blocks, of which 32 may stay */
    cf_executor_close(ex);
}

static gate in_the_list = GATE_INIT;

static void hold_in_the_list(int id) {
    enum { DETACH = 2 };
    if (id == DETACH) {
        gate_arrive(&in_the_list);
        gate_await(&in_the_list);
    }
}

static void *close_iterator(void *arg) {
    cf_as_completed_close(arg);
    return NULL;
}

/* bool leaves: the first use of the promise is to leave its list, not to enter it. */
static void watch_and_set(void *arg) {
    const bool leaves = *(const bool *)arg;
    test_point_hook(NULL);
    if (leaves) {
        cf_as_completed_close(inherited.iter);
    }
    cf_as_completed_iter *iter = cf_as_completed(&inherited.promise, 1, CF_FOREVER);
    set_int(inherited.promise, 7);
    CHECK(cf_as_completed_next(iter, NULL, NULL) == inherited.promise);
    cf_as_completed_close(iter);
    if (!leaves) {
        CHECK(cf_as_completed_next(inherited.iter, NULL, NULL) == inherited.promise);
        cf_as_completed_close(inherited.iter);
    }
}

TEST(a_child_uses_a_promise_that_another_thread_of_its_parent_was_about_to_leave) {
    inherited.promise = promise();
    inherited.iter = cf_as_completed(&inherited.promise, 1, CF_FOREVER);
    static cf_as_completed_iter *other; /* so that the child, which has no such thread, has it too */
    other = cf_as_completed(&inherited.promise, 1, CF_FOREVER);
    test_point_hook(hold_in_the_list);
    pthread_t thread;
    spawn(&thread, close_iterator, other);
    gate_await_arrivals(&in_the_list, 1);
    CHECK_EQ(in_child(watch_and_set, &(bool){true}), 0);
    CHECK_EQ(in_child(watch_and_set, &(bool){false}), 0);
    gate_open(&in_the_list);
    join(thread);
    test_point_hook(NULL);
    set_int(inherited.promise, 8);
    cf_as_completed_close(inherited.iter);
    cf_future_release(inherited.promise);
}

/* ---------------------------------------------------------------- a machine with one CPU */

static int fibonacci(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n < 2) {
        return return_int(task, n);
    }
    cf_executor *ex = cf_task_executor(task);
    cf_future *f = cf_executor_submit(ex, fibonacci, CF_VALUE(int, n - 1));
    cf_future *g = cf_executor_submit(ex, fibonacci, CF_VALUE(int, n - 2));
    const int sum = int_of(f) + int_of(g);
    cf_future_release(f);
    cf_future_release(g);
    return return_int(task, sum);
}

TEST(a_pool_on_one_cpu_spins_for_nobody) {
    if (!stay_on_one_cpu()) {
        SKIP("no affinity here");
    }
    CHECK_EQ(cf_cpu_count(), 1);
    atomic_int count = 0;
    cf_executor *ex = pool(3);
    for (int i = 0; i < 500; i++) {
        fire(ex, task_count, &count);
    }
    cf_future *f = cf_executor_submit(ex, fibonacci, CF_VALUE(int, 10));
    CHECK_EQ(int_of(f), 55);
    cf_future_release(f);
    cf_executor_close(ex);
    CHECK_EQ(atomic_load(&count), 500);
}

TEST_MAIN(
    RUN(a_null_future_answers_every_question)
    RUN(a_promise_refuses_what_is_not_there)
    RUN(a_big_result_for_a_promise_that_has_ended_is_not_kept)
    RUN(a_promise_whose_result_is_being_copied_is_running)
    RUN(an_iterator_and_a_wait_over_nothing_end_at_once)
    RUN(options_out_of_range_are_refused)
    RUN(who_does_not_ask_for_a_status_gets_none)
    RUN(stats_go_nowhere_without_a_place)
    RUN(the_same_memory_may_be_handed_over_again)
    RUN(a_result_that_is_too_long_fails_whatever_the_task_returns)
    RUN(items_of_any_size_are_copied_for_their_tasks)
    RUN(a_generator_feeds_an_array_without_results)
    RUN(a_chunk_that_no_memory_could_hold_is_refused)
    RUN(what_a_map_says_of_an_item_that_was_refused)
    RUN(the_progress_of_no_map_is_none)
    RUN(progress_counts_items_that_have_ended_and_no_others)
    RUN(progress_of_an_unordered_map_knows_what_ends_first)
    RUN(the_total_of_a_generator_is_known_at_its_end)
    RUN(progress_looks_at_some_hundred_running_tasks_and_goes_on_from_there)
    RUN(a_cancelled_map_has_all_the_progress_there_will_be)
    RUN(the_lowest_index_that_failed_is_told_with_its_own_status)
    RUN(an_item_that_was_left_out_before_one_that_failed_is_told)
    RUN(a_message_of_an_item_that_ends_well_is_dropped)
    RUN(a_generator_of_more_items_than_memory_is_refused)
    RUN(a_first_task_runs_though_the_pool_is_shut_down_before_it_has_a_worker)
    RUN(a_callback_may_keep_a_promise_that_was_dropped)
    RUN(who_hears_of_an_unread_error_may_keep_the_future)
    RUN(an_item_that_fails_asks_the_others_to_stop)
    RUN(a_chunk_is_told_when_its_map_is_closed)
    RUN(a_cancel_from_the_free_function_of_a_cancelled_task_is_true)
    RUN(a_child_may_be_cancelled_while_its_parent_takes_it_out)
    RUN(memory_that_is_used_again_is_not_given_back)
    RUN(memory_that_is_used_again_after_a_long_pause_is_not_given_back)
    RUN(memory_of_a_burst_goes_back_while_the_pool_lives)
    RUN(memory_of_many_small_bursts_goes_back_while_the_pool_lives)
    RUN(an_item_that_waits_for_its_map_gives_up_when_the_map_waits_for_it)
    RUN(an_item_that_waits_for_its_map_and_others_gives_up_too)
    RUN(an_item_that_shuts_down_a_pool_which_waits_for_its_map_gives_up_too)
    RUN(an_item_that_waits_for_its_map_deep_down_gives_up_too)
    RUN(a_task_inside_one_executor_may_wait_for_the_end_of_another)
    RUN(a_task_may_wait_for_the_end_of_an_executor_without_threads)
    RUN(a_child_of_a_fork_gives_back_what_it_inherited_from_a_pool_at_rest)
    RUN(a_child_of_a_fork_does_not_ask_for_the_memory_of_an_inherited_burst)
    RUN(a_child_uses_a_promise_that_another_thread_of_its_parent_was_about_to_leave)
    RUN(a_pool_on_one_cpu_spins_for_nobody)
)
