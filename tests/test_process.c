/* The process pool seen through its interface: submit, results, options, shutdown, wait, map. What
 * dies is in test_process_crash.c, what surrounds the pool in test_process_host.c. */
#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#include "test.h"

#include "process.h"

#include <stddef.h>

/* ---------------------------------------------------------------- submit */

TEST(a_task_runs_in_another_process) {
    cf_executor *executor = processes(1);
    const pid_t worker = pid_of_a_worker(executor);
    CHECK(worker > 0);
    CHECK(worker != getpid());
    CHECK_EQ(take_int(submit_int(executor, task_square, 7)), 49);
    shut(executor);
    CHECK(!is_alive(worker));
}

typedef struct several {
    int base, exponent, modulus;
} several;

static int task_power(cf_task *task, void *arg) {
    const several *a = arg;
    int result = 1;
    for (int i = 0; i < a->exponent; i++) {
        result = result * a->base % a->modulus;
    }
    return return_int(task, result);
}

TEST(several_arguments_travel_as_a_struct) {
    cf_executor *executor = processes(2);
    cf_future *first = cf_executor_submit(executor, task_power, CF_VALUE(several, 323, 1235, 1000));
    cf_future *second = cf_executor_submit(executor, task_power, CF_VALUE(several, 2, 10, 1000));
    CHECK_EQ(take_int(first), 507);
    CHECK_EQ(take_int(second), 24);
    shut(executor);
}

static int task_alignment(cf_task *task, void *arg) {
    return return_int(task, (uintptr_t)arg % _Alignof(max_align_t) == 0 ? 1 : 0);
}

TEST(arguments_and_results_are_aligned_for_any_type) {
    static const size_t sizes[] = {1, 3, 8, 31, 32, 33, 63, 64, 65, 4096, 100001};
    unsigned char *data = calloc(1, 100001);
    cf_executor *executor = processes(1);
    CHECK(data != NULL);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        CHECK_EQ(take_int(cf_executor_submit(executor, task_alignment, data, sizes[i])), 1);
        cf_future *echo = cf_executor_submit(executor, task_echo, data, sizes[i]);
        const void *result = cf_future_result(echo, limit(8), NULL);
        CHECK(result != NULL);
        CHECK_EQ((uintptr_t)result % _Alignof(max_align_t), 0);
        cf_future_release(echo);
    }
    shut(executor);
    free(data);
}

static void echo_of(cf_executor *executor, size_t size, uint64_t seed) {
    unsigned char *data = malloc(size);
    cf_status status = CF_SYSTEM;
    CHECK(data != NULL);
    fill(data, size, seed);
    cf_future *future = cf_executor_submit(executor, task_echo, data, size);
    const unsigned char kept = data[size - 1];
    data[size - 1] ^= 0xff; /* the task has its own copy */
    const void *result = cf_future_result(future, limit(9), &status);
    CHECK_STATUS(status, CF_OK);
    CHECK_EQ(cf_future_result_size(future), size);
    data[size - 1] = kept;
    CHECK(memcmp(data, result, size) == 0);
    cf_future_release(future);
    free(data);
}

TEST(bytes_of_every_size_arrive_unchanged) {
    static const size_t sizes[] = {1,    2,    31,   32,   33,    47,    48,     49,      63,
                                   64,   65,   95,   96,   97,    127,   128,    129,     255,
                                   256,  257,  511,  512,  513,   1023,  1024,   1025,    2047,
                                   2048, 2049, 4095, 4096, 4097,  8191,  8192,   8193,    16383,
                                   16384, 16385, 65535, 65536, 65537, 131072, 262145, 1 << 20};
    cf_executor *executor = processes(2);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        echo_of(executor, sizes[i], i);
        echo_of(executor, sizes[i], i + 1000);
    }
    shut(executor);
}

TEST(64_MiB_travel_both_ways) {
    const size_t mappings = shared_mappings();
    cf_executor *executor = processes(1);
    echo_of(executor, (size_t)64 << 20, 1);
    echo_of(executor, (size_t)64 << 20, 2);
    still_works(executor);
    shut(executor);
    CHECK(shared_mappings() <= mappings + 1); /* the memory of the tests */
}

TEST(big_arguments_in_flight_do_not_block_each_other) {
    enum { COUNT = 24, SIZE = 3 << 20 };
    cf_future *futures[COUNT];
    unsigned char *data = malloc(SIZE);
    cf_executor *executor = processes(2);
    CHECK(data != NULL);
    for (size_t i = 0; i < COUNT; i++) {
        fill(data, SIZE, i);
        futures[i] = cf_executor_submit(executor, task_echo, data, SIZE);
    }
    CHECK_EQ(cf_wait(futures, COUNT, CF_ALL_COMPLETED, limit(9), NULL), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        fill(data, SIZE, i);
        const void *result = cf_future_result(futures[i], 0, NULL);
        CHECK(result != NULL && memcmp(result, data, SIZE) == 0);
    }
    release_all(futures, COUNT);
    free(data);
    shut(executor);
}

static int task_no_result(cf_task *task, void *arg) {
    (void)arg;
    return cf_task_arg_size(task) == 0 ? 0 : 1;
}

static int task_empty_result(cf_task *task, void *arg) {
    (void)arg;
    return cf_task_return(task, NULL, 0);
}

TEST(no_argument_and_no_result) {
    cf_executor *executor = processes(1);
    cf_task_fn *const functions[] = {task_no_result, task_empty_result};
    for (size_t i = 0; i < 2; i++) {
        cf_status status = CF_SYSTEM;
        cf_future *future = submit_none(executor, functions[i]);
        CHECK(cf_future_result(future, limit(8), &status) != NULL);
        CHECK_STATUS(status, CF_OK);
        CHECK_EQ(cf_future_result_size(future), 0);
        CHECK_EQ(cf_future_error_code(future), 0);
        CHECK_STR(cf_future_error_message(future), "");
        cf_future_release(future);
    }
    shut(executor);
}

/* Before the pool a pointer is valid in workers; what is written later stays here. */
static int before_and_after;

static int task_read(cf_task *task, void *arg) {
    int *number = arg;
    const int seen = *number;
    *number = -1;
    return return_int(task, seen);
}

TEST(workers_see_memory_as_it_was_when_the_pool_was_made) {
    int *number = malloc(sizeof *number);
    CHECK(number != NULL);
    volatile int *const stored = number; /* a compiler may leave out what nobody here reads */
    before_and_after = *stored = 41;
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .max_tasks_per_child = 1});
    before_and_after = *stored = 42;
    CHECK_EQ(take_int(cf_executor_submit(executor, task_read, CF_POINTER(number))), 41);
    CHECK_EQ(take_int(cf_executor_submit(executor, task_read, CF_POINTER(number))), 41);
    CHECK_EQ(take_int(cf_executor_submit(executor, task_read, CF_POINTER(&before_and_after))), 41);
    CHECK_EQ(*number, 42);
    CHECK_EQ(before_and_after, 42);
    shut(executor);
    free(number);
}

static atomic_int freed_args;

static void free_counted(void *ptr) {
    free(ptr);
    atomic_fetch_add(&freed_args, 1);
}

TEST(free_arg_runs_here_and_once_before_the_future_is_done) {
    cf_executor *executor = processes(1);
    cf_future *stay, *futures[20];
    occupy_processes(executor, 1, &stay);
    for (int i = 0; i < 20; i++) {
        futures[i] = cf_executor_submit_with(executor, task_nothing, malloc(16), 0,
                                             &(cf_submit_options){.free_arg = free_counted});
    }
    for (int i = 0; i < 10; i++) {
        CHECK(cf_future_cancel(futures[i]));
        CHECK_EQ(atomic_load(&freed_args), i + 1);
    }
    open_shared();
    for (int i = 10; i < 20; i++) {
        CHECK_STATUS(outcome(futures[i]), CF_OK);
        CHECK(atomic_load(&freed_args) >= i + 1);
    }
    CHECK_EQ(atomic_load(&freed_args), 20);
    release_all(futures, 20);
    cf_future_release(stay);
    shut(executor);
    CHECK_STATUS(take_outcome(cf_executor_submit_with(
                     NULL, task_nothing, malloc(16), 0,
                     &(cf_submit_options){.free_arg = free_counted})),
                 CF_INVALID);
    CHECK_EQ(atomic_load(&freed_args), 21);
}

TEST(bad_submissions_say_why) {
    cf_executor *executor = processes(1);
    const int value = 1;
    CHECK_STATUS(take_outcome(cf_executor_submit(executor, NULL, CF_NO_ARG)), CF_INVALID);
    CHECK_STATUS(take_outcome(cf_executor_submit_with(
                     executor, task_square, &value, sizeof value,
                     &(cf_submit_options){.free_arg = free_counted})),
                 CF_INVALID);
    CHECK_STATUS(cf_executor_submit_many(executor, task_square, &value, 1, sizeof value, NULL),
                 CF_INVALID);
    CHECK_EQ(atomic_load(&freed_args), 0);
    still_works(executor);
    shut(executor);
}

TEST(submit_many_is_submit_for_each) {
    enum { COUNT = 100 };
    int items[COUNT];
    cf_future *futures[COUNT];
    cf_executor *executor = processes(2);
    for (int i = 0; i < COUNT; i++) {
        items[i] = i;
    }
    CHECK_STATUS(
        cf_executor_submit_many(executor, task_square, items, COUNT, sizeof *items, futures),
        CF_OK);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(take_int(futures[i]), i * i);
    }
    shut(executor);
}

static int task_order(cf_task *task, void *arg) {
    (void)task;
    const int at = atomic_fetch_add(&sh->count, 1);
    atomic_store(&sh->marks[at], *(const int *)arg);
    return 0;
}

TEST(tasks_start_in_the_order_of_submission) {
    enum { COUNT = 200 };
    cf_future *futures[COUNT];
    cf_executor *executor = processes(1);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_int(executor, task_order, i);
    }
    shut(executor);
    for (int i = 0; i < COUNT; i++) {
        CHECK_STATUS(take_outcome(futures[i]), CF_OK);
        CHECK_EQ(atomic_load(&sh->marks[i]), i);
    }
}

TEST(ten_thousand_small_tasks) {
    enum { COUNT = 10000 };
    cf_future **futures = calloc(COUNT, sizeof *futures);
    cf_executor *executor = processes(2);
    CHECK(futures != NULL);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_int(executor, task_square, i);
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(take_int(futures[i]), i * i);
    }
    free(futures);
    shut(executor);
}

typedef struct submitter {
    cf_executor *executor;
    int base;
} submitter;

static void *submit_a_thousand(void *arg) {
    const submitter *s = arg;
    cf_future *futures[50];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 50; i++) {
            futures[i] = submit_int(s->executor, task_square, s->base + i);
        }
        for (int i = 0; i < 50; i++) {
            CHECK_EQ(take_int(futures[i]), (s->base + i) * (s->base + i));
        }
    }
    return NULL;
}

TEST(several_threads_submit_at_once) {
    cf_executor *executor = processes(3);
    submitter s[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        s[i] = (submitter){executor, i * 100};
        spawn(&threads[i], submit_a_thousand, &s[i]);
    }
    for (int i = 0; i < 4; i++) {
        join(threads[i]);
    }
    CHECK_EQ(stats_of(executor).finished, 4000);
    shut(executor);
}

/* ---------------------------------------------------------------- results and errors */

static int task_buffer(cf_task *task, void *arg) {
    const size_t size = *(const size_t *)arg;
    unsigned char *buffer = cf_task_result_buffer(task, size);
    if (buffer == NULL) {
        return cf_task_fail(task, 5, "no buffer");
    }
    fill(buffer, size, size);
    return 0;
}

TEST(a_result_buffer_is_the_result) {
    static const size_t sizes[] = {0, 1, 32, 33, 4095, 4096, 4097, 1 << 20, 5 << 20};
    unsigned char *expected = malloc(5 << 20);
    cf_executor *executor = processes(1);
    CHECK(expected != NULL);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        cf_future *future =
            cf_executor_submit(executor, task_buffer, &sizes[i], sizeof sizes[i]);
        const void *result = cf_future_result(future, limit(8), NULL);
        CHECK(result != NULL);
        CHECK_EQ(cf_future_result_size(future), sizes[i]);
        fill(expected, sizes[i], sizes[i]);
        CHECK(memcmp(result, expected, sizes[i]) == 0);
        cf_future_release(future);
    }
    free(expected);
    shut(executor);
}

static void free_in_the_worker(void *ptr) {
    free(ptr);
    atomic_fetch_add(&sh->count, 1);
    atomic_store(&sh->other, (int)getpid());
}

static int task_owned(cf_task *task, void *arg) {
    const size_t size = *(const size_t *)arg;
    unsigned char *data = malloc(size);
    CHECK(data != NULL);
    fill(data, size, size);
    return cf_task_return_owned(task, data, size, free_in_the_worker);
}

TEST(an_owned_result_is_sent_and_freed_in_the_worker) {
    static const size_t sizes[] = {1, 40, 5000, 3 << 20};
    unsigned char *expected = malloc(3 << 20);
    cf_executor *executor = processes(1);
    CHECK(expected != NULL);
    const pid_t worker = pid_of_a_worker(executor);
    for (int i = 0; i < 4; i++) {
        cf_future *future = cf_executor_submit(executor, task_owned, &sizes[i], sizeof sizes[i]);
        const void *result = cf_future_result(future, limit(8), NULL);
        CHECK(result != NULL);
        CHECK_EQ(cf_future_result_size(future), sizes[i]);
        UNTIL(atomic_load(&sh->count) == i + 1);
        CHECK_EQ(atomic_load(&sh->other), worker);
        fill(expected, sizes[i], sizes[i]);
        CHECK(memcmp(result, expected, sizes[i]) == 0);
        cf_future_release(future);
    }
    CHECK_EQ(atomic_load(&sh->count), 4);
    free(expected);
    shut(executor);
}

static int task_returns_twice(cf_task *task, void *arg) {
    (void)arg;
    CHECK_EQ(return_int(task, 1), 0);
    char *big = malloc(100000);
    CHECK(big != NULL);
    memset(big, 1, 100000);
    CHECK_EQ(cf_task_return(task, big, 100000), 0);
    CHECK_EQ(cf_task_return_owned(task, big, 100000, free_in_the_worker), 0);
    return return_int(task, 2);
}

TEST(the_last_of_two_results_counts) {
    cf_executor *executor = processes(1);
    CHECK_EQ(take_int(submit_none(executor, task_returns_twice)), 2);
    UNTIL(atomic_load(&sh->count) == 1);
    shut(executor);
    CHECK_EQ(atomic_load(&sh->count), 1);
}

static int task_result_then_error(cf_task *task, void *arg) {
    (void)return_int(task, 1);
    return *(const int *)arg;
}

TEST(a_non_zero_return_discards_the_result) {
    static const int codes[] = {1, -1, 42, 255, 256, INT_MAX, INT_MIN, CF_TIMEOUT, CF_WORKER_LOST};
    cf_executor *executor = processes(1);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        cf_status status = CF_OK;
        cf_future *future = submit_int(executor, task_result_then_error, codes[i]);
        CHECK(cf_future_result(future, limit(8), &status) == NULL);
        CHECK_STATUS(status, CF_TASK_FAILED);
        CHECK_EQ(cf_future_error_code(future), codes[i]);
        CHECK(cf_future_error_message(future) != NULL);
        CHECK_EQ(cf_future_result_size(future), 0);
        CHECK_EQ(cf_future_state(future), CF_STATE_FINISHED);
        cf_future_release(future);
    }
    still_works(executor);
    shut(executor);
}

TEST(an_error_travels_with_its_words) {
    cf_executor *executor = processes(1);
    char repr[128];
    cf_future *future = submit_int(executor, task_fail, 22);
    CHECK_STATUS(outcome(future), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(future), 22);
    CHECK_STR(cf_future_error_message(future), "failed with 22");
    cf_future_repr(future, repr, sizeof repr);
    CHECK(strstr(repr, "state=finished raised CF_TASK_FAILED 22>") != NULL);
    cf_future_release(future);
    future = submit_int(executor, task_fail, 0);
    CHECK_STATUS(outcome(future), CF_TASK_FAILED);
    CHECK_EQ(cf_future_error_code(future), 1);
    cf_future_release(future);
    shut(executor);
}

static int task_long_message(cf_task *task, void *arg) {
    const int length = *(const int *)arg;
    char *text = malloc((size_t)length + 1);
    CHECK(text != NULL);
    memset(text, 'x', (size_t)length);
    text[length] = '\0';
    text[0] = 'a';
    const int code = cf_task_fail(task, 9, "%s", text);
    free(text);
    return code;
}

TEST(a_long_message_is_kept_up_to_255_bytes_at_least) {
    static const int lengths[] = {1, 63, 64, 200, 254, 255, 256, 1000, 100000};
    cf_executor *executor = processes(1);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        cf_future *future = submit_int(executor, task_long_message, lengths[i]);
        CHECK_STATUS(outcome(future), CF_TASK_FAILED);
        CHECK_EQ(cf_future_error_code(future), 9);
        const char *message = cf_future_error_message(future);
        const size_t length = strlen(message);
        CHECK(length <= (size_t)lengths[i]);
        CHECK(length == (size_t)lengths[i] || length >= 255);
        CHECK_EQ(message[0], 'a');
        CHECK_EQ(strspn(message + 1, "x"), length - 1);
        cf_future_release(future);
    }
    shut(executor);
}

static int task_sees_itself(cf_task *task, void *arg) {
    (void)arg;
    CHECK(cf_task_executor(task) == NULL);
    CHECK(!cf_task_stop_requested(task));
    CHECK_EQ(cf_task_arg_size(task), 3);
    return return_int(task, (int)cf_task_worker(task));
}

TEST(a_task_sees_its_worker_and_no_executor) {
    cf_executor *executor = processes(1);
    CHECK_EQ(take_int(cf_executor_submit(executor, task_sees_itself, "ab", 3)), 0);
    shut(executor);
}

static int task_worker_index(cf_task *task, void *arg) {
    (void)arg;
    arrive();
    UNTIL(atomic_load(&sh->open) != 0);
    return return_int(task, (int)cf_task_worker(task));
}

TEST(workers_at_work_have_different_indices) {
    enum { COUNT = 5 };
    cf_executor *executor = processes(COUNT);
    cf_future *futures[COUNT];
    bool seen[COUNT] = {false};
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_none(executor, task_worker_index);
    }
    await_arrivals(COUNT);
    open_shared();
    for (int i = 0; i < COUNT; i++) {
        const int index = take_int(futures[i]);
        CHECK(index >= 0 && index < COUNT);
        CHECK(!seen[index]);
        seen[index] = true;
    }
    shut(executor);
}

static int task_name(cf_task *task, void *arg) {
    char name[32] = "";
    (void)arg;
    FILE *file = fopen("/proc/self/comm", "r");
    if (file == NULL) {
        return cf_task_fail(task, 2, "no /proc");
    }
    const bool read = fgets(name, sizeof name, file) != NULL;
    fclose(file);
    name[strcspn(name, "\n")] = '\0';
    return read ? cf_task_return(task, name, strlen(name) + 1) : 1;
}

TEST(a_worker_is_called_by_the_name_of_the_pool) {
    cf_executor *named = processes_with(&(cf_pool_options){.max_workers = 1, .name = "parse"});
    cf_executor *unnamed = processes(1);
    cf_future *futures[2] = {submit_none(named, task_name), submit_none(unnamed, task_name)};
    if (outcome(futures[0]) == CF_OK) {
        CHECK_STR(cf_future_result(futures[0], 0, NULL), "parse_0");
        CHECK_STATUS(outcome(futures[1]), CF_OK);
        CHECK_STR(cf_future_result(futures[1], 0, NULL), "cf_0");
    }
    release_all(futures, 2);
    shut(named);
    shut(unnamed);
    if (!has_proc()) {
        SKIP("there is no /proc here");
    }
}

/* ---------------------------------------------------------------- states and cancel */

TEST(what_has_not_started_is_pending_and_can_be_cancelled) {
    enum { WORKERS = 2, COUNT = 8 };
    cf_executor *executor = processes(WORKERS);
    cf_future *futures[WORKERS + COUNT];
    occupy_processes(executor, WORKERS, futures);
    for (int i = 0; i < COUNT; i++) {
        futures[WORKERS + i] = submit_none(executor, task_stay);
    }
    for (int i = 0; i < WORKERS; i++) {
        UNTIL(cf_future_state(futures[i]) == CF_STATE_RUNNING);
        CHECK(cf_future_running(futures[i]));
        CHECK(!cf_future_cancel(futures[i]));
    }
    for (int i = WORKERS; i < WORKERS + COUNT; i++) {
        CHECK_EQ(cf_future_state(futures[i]), CF_STATE_PENDING);
        CHECK(cf_future_cancel(futures[i]));
        CHECK_EQ(cf_future_state(futures[i]), CF_STATE_CANCELLED);
        CHECK(cf_future_done(futures[i]));
        CHECK_STATUS(cf_future_wait(futures[i], 0), CF_CANCELLED);
        CHECK(cf_future_cancel(futures[i]));
    }
    open_shared();
    for (int i = 0; i < WORKERS; i++) {
        CHECK_STATUS(outcome(futures[i]), CF_OK);
        CHECK(!cf_future_cancel(futures[i]));
    }
    still_works(executor);
    shut(executor);
    CHECK_EQ(atomic_load(&sh->arrivals), WORKERS); /* no cancelled one ran */
    release_all(futures, WORKERS + COUNT);
}

static int task_marks(cf_task *task, void *arg) {
    (void)task;
    atomic_fetch_add(&sh->marks[*(const int *)arg], 1);
    return 0;
}

TEST(a_cancel_that_races_with_the_start_tells_the_truth) {
    enum { COUNT = 600 };
    cf_future *futures[COUNT];
    bool cancelled[COUNT] = {false};
    cf_executor *executor = processes(2);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_int(executor, task_marks, i);
        if (i % 3 == 1) {
            cancelled[i] = cf_future_cancel(futures[i]);
        }
    }
    for (int i = 2; i < COUNT; i += 3) {
        cancelled[i] = cf_future_cancel(futures[i]);
    }
    shut(executor);
    for (int i = 0; i < COUNT; i++) {
        const cf_status status = take_outcome(futures[i]);
        CHECK(status == CF_OK || status == CF_CANCELLED);
        CHECK_EQ(atomic_load(&sh->marks[i]), status == CF_OK ? 1 : 0);
        CHECK_EQ(cancelled[i], status == CF_CANCELLED);
    }
}

TEST(a_running_task_sees_the_wish_to_stop) {
    cf_executor *executor = processes(1);
    cf_future *future = submit_none(executor, task_obey);
    await_arrivals(1);
    CHECK(!cf_future_cancel(future));
    CHECK(take_int(future) > 0);
    shut(executor);
}

static int task_not_asked(cf_task *task, void *arg) {
    (void)arg;
    return return_int(task, cf_task_stop_requested(task) ? 1 : 0);
}

TEST(the_wish_to_stop_is_for_one_task_only) {
    cf_executor *executor = processes(1);
    for (int i = 0; i < 20; i++) {
        cf_future *future = submit_none(executor, task_obey);
        await_arrivals(i + 1);
        CHECK(!cf_future_cancel(future));
        cf_future *next = submit_none(executor, task_not_asked);
        CHECK(take_int(future) > 0);
        CHECK_EQ(take_int(next), 0);
    }
    shut(executor);
}

TEST(a_wait_that_times_out_disturbs_nothing) {
    cf_executor *executor = processes(1);
    cf_future *future = submit_none(executor, task_stay);
    const int64_t start = now();
    CHECK_STATUS(cf_future_wait(future, 20 * CF_MILLISECOND), CF_TIMEOUT);
    CHECK(now() - start >= 20 * CF_MILLISECOND);
    CHECK_STATUS(cf_future_wait(future, 0), CF_TIMEOUT);
    await_arrivals(1);
    open_shared();
    CHECK(take_int(future) > 0);
    shut(executor);
}

TEST(an_executors_future_cannot_be_set) {
    cf_executor *executor = processes(1);
    cf_future *future = submit_none(executor, task_stay);
    CHECK_STATUS(cf_future_set_result(future, "x", 2), CF_INVALID_STATE);
    CHECK_STATUS(cf_future_set_error(future, 1, "x"), CF_INVALID_STATE);
    CHECK(!cf_future_set_running_or_notify_cancel(future));
    await_arrivals(1);
    open_shared();
    CHECK(take_int(future) > 0);
    shut(executor);
}

/* ---------------------------------------------------------------- callbacks */

typedef struct calls {
    atomic_int count;
    int order[8];
    cf_executor *executor;
    cf_future *other;
    cf_status status[4];
    bool on_submitter;
    pthread_t submitter;
    gate done;
} calls;
#define CALLS_INIT {.done = GATE_INIT}

static void called_first(cf_future *future, void *user) {
    calls *c = user;
    CHECK(cf_future_done(future));
    c->order[atomic_fetch_add(&c->count, 1)] = 1;
}

static void called_second(cf_future *future, void *user) {
    calls *c = user;
    CHECK(cf_future_done(future));
    c->order[atomic_fetch_add(&c->count, 1)] = 2;
    gate_open(&c->done);
}

TEST(callbacks_run_here_in_order_of_addition) {
    calls c = CALLS_INIT;
    cf_executor *executor = processes(1);
    cf_future *future = submit_none(executor, task_stay);
    CHECK_STATUS(cf_future_add_done_callback(future, called_first, &c), CF_OK);
    CHECK_STATUS(cf_future_add_done_callback(future, called_second, &c), CF_OK);
    await_arrivals(1);
    CHECK_EQ(atomic_load(&c.count), 0);
    open_shared();
    gate_await(&c.done);
    CHECK_EQ(atomic_load(&c.count), 2);
    CHECK_EQ(c.order[0], 1);
    CHECK_EQ(c.order[1], 2);
    CHECK_STATUS(cf_future_add_done_callback(future, called_first, &c), CF_OK);
    CHECK_EQ(atomic_load(&c.count), 3);
    cf_future_release(future);
    shut(executor);
}

static void submits_again(cf_future *future, void *user) {
    calls *c = user;
    (void)future;
    c->other = submit_int(c->executor, task_square, 5);
    gate_open(&c->done);
}

TEST(a_callback_may_submit) {
    calls c = CALLS_INIT;
    cf_executor *executor = c.executor = processes(1);
    cf_future *future = submit_none(executor, task_stay);
    CHECK_STATUS(cf_future_add_done_callback(future, submits_again, &c), CF_OK);
    open_shared();
    gate_await(&c.done);
    CHECK_EQ(take_int(c.other), 25);
    cf_future_release(future);
    shut(executor);
}

static void waits_for_its_pool(cf_future *future, void *user) {
    calls *c = user;
    bool done = true;
    (void)future;
    c->status[0] = cf_future_wait(c->other, 0);
    c->status[1] = cf_future_wait(c->other, CF_FOREVER);
    (void)cf_future_result(c->other, CF_FOREVER, &c->status[2]);
    CHECK_EQ(cf_wait(&c->other, 1, CF_ALL_COMPLETED, CF_FOREVER, &done), 0);
    CHECK(!done);
    gate_open(&c->done);
}

TEST(a_callback_that_waits_for_its_pool_is_a_deadlock_and_says_so) {
    calls c = CALLS_INIT;
    cf_executor *executor = processes(2);
    c.other = submit_none(executor, task_obey);
    await_arrivals(1);
    cf_future *future = submit_none(executor, task_stay);
    await_arrivals(2);
    CHECK_STATUS(cf_future_add_done_callback(future, waits_for_its_pool, &c), CF_OK);
    open_shared();
    gate_await(&c.done);
    CHECK_STATUS(c.status[0], CF_TIMEOUT);
    CHECK_STATUS(c.status[1], CF_DEADLOCK);
    CHECK_STATUS(c.status[2], CF_DEADLOCK);
    CHECK_STATUS(outcome(future), CF_OK);
    CHECK(!cf_future_cancel(c.other));
    CHECK(take_int(c.other) > 0);
    cf_future_release(future);
    still_works(executor);
    shut(executor);
}

static void submits_to_a_full_queue(cf_future *future, void *user) {
    calls *c = user;
    (void)future;
    for (int i = 0; i < 2; i++) {
        cf_future *refused = submit_none(c->executor, task_nothing);
        c->status[i] = cf_future_wait(refused, 0);
        cf_future_release(refused);
    }
    gate_open(&c->done);
}

TEST(a_callback_that_submits_to_its_full_queue_is_refused) {
    calls c = CALLS_INIT;
    cf_future *stay[2], *queued[2];
    cf_executor *executor = c.executor =
        processes_with(&(cf_pool_options){.max_workers = 2, .queue_limit = 1});
    occupy_processes(executor, 1, stay);
    cf_future *future = submit_none(executor, task_obey);
    await_arrivals(2);
    queued[0] = submit_none(executor, task_stay); /* takes the worker that is freed below */
    CHECK_STATUS(cf_future_add_done_callback(future, submits_to_a_full_queue, &c), CF_OK);
    CHECK(!cf_future_cancel(future));
    gate_await(&c.done);
    /* The queue is full only while nobody has taken queued[0]: both answers are right. */
    CHECK(c.status[0] == CF_QUEUE_FULL || c.status[0] == CF_TIMEOUT);
    CHECK(c.status[1] == CF_QUEUE_FULL);
    open_shared();
    cf_future_release(future);
    cf_future_release(stay[0]);
    cf_future_release(queued[0]);
    shut(executor);
}

static void shuts_its_pool(cf_future *future, void *user) {
    calls *c = user;
    (void)future;
    c->status[0] = cf_executor_shutdown(c->executor, 0, CF_RUN_PENDING);
    c->status[1] = cf_executor_shutdown(c->executor, CF_FOREVER, CF_RUN_PENDING);
    gate_open(&c->done);
}

TEST(a_callback_that_shuts_its_pool_down_does_not_wait_for_itself) {
    calls c = CALLS_INIT;
    cf_executor *executor = c.executor = processes(1);
    cf_future *future = submit_none(executor, task_stay);
    CHECK_STATUS(cf_future_add_done_callback(future, shuts_its_pool, &c), CF_OK);
    open_shared();
    gate_await(&c.done);
    CHECK_STATUS(c.status[0], CF_TIMEOUT);
    CHECK_STATUS(c.status[1], CF_DEADLOCK);
    CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_SHUTDOWN);
    cf_future_release(future);
    shut(executor);
}

static void closes_its_pool(cf_future *future, void *user) {
    calls *c = user;
    (void)future;
    cf_executor_close(c->executor);
    gate_open(&c->done);
}

TEST(a_callback_may_close_its_pool) {
    calls c = CALLS_INIT;
    cf_executor *executor = c.executor = processes(1);
    cf_future *future = submit_none(executor, task_stay);
    CHECK_STATUS(cf_future_add_done_callback(future, closes_its_pool, &c), CF_OK);
    await_arrivals(1);
    const pid_t worker = arrived_pid(0);
    open_shared();
    gate_await(&c.done);
    CHECK_STATUS(take_outcome(future), CF_OK);
    UNTIL(is_gone(worker));
}

static void count_unread(cf_future *future, void *user) {
    calls *c = user;
    atomic_fetch_add(&c->count, 1);
    c->status[0] = cf_future_wait(future, 0);
}

TEST(an_error_that_nobody_reads_is_reported) {
    calls c = CALLS_INIT;
    cf_executor *executor = processes_with(
        &(cf_pool_options){.max_workers = 1, .on_unread_error = count_unread, .user = &c});
    cf_future_release(submit_int(executor, task_fail, 3));
    cf_future_release(submit_int(executor, task_square, 3));
    cf_future *read = submit_int(executor, task_fail, 3);
    CHECK_STATUS(outcome(read), CF_TASK_FAILED);
    cf_future_release(read);
    cf_future_release(submit_int(executor, task_die, 2));
    shut(executor);
    CHECK_EQ(atomic_load(&c.count), 2);
    CHECK_STATUS(c.status[0], CF_WORKER_LOST);
}

/* ---------------------------------------------------------------- options */

TEST(options_out_of_range_are_refused) {
    static const cf_pool_options bad[] = {
        {.max_workers = SIZE_MAX},
        {.on_full = CF_FULL_CALLER_RUNS, .queue_limit = 1},
        {.on_full = (cf_on_full)77, .queue_limit = 1},
        {.start_method = (cf_start_method)77},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cf_status status = CF_OK;
        CHECK(cf_process_pool_new(&bad[i], &status) == NULL);
        CHECK_STATUS(status, CF_INVALID);
        CHECK(cf_process_pool_new(&bad[i], NULL) == NULL);
    }
}

TEST(spawn_without_its_first_statement_in_main_is_refused) {
    cf_status status = CF_OK;
    CHECK(cf_process_pool_new(&(cf_pool_options){.start_method = CF_START_SPAWN}, &status) == NULL);
    CHECK_STATUS(status, CF_INVALID);
}

TEST(options_are_copied_and_null_is_all_defaults) {
    char name[8] = "first";
    cf_pool_options options = {.max_workers = 1, .name = name};
    cf_executor *executor = processes_with(&options);
    memset(&options, 0x7f, sizeof options);
    memcpy(name, "second", 7);
    still_works(executor);
    cf_future *future = submit_none(executor, task_name);
    if (outcome(future) == CF_OK) {
        CHECK_STR(cf_future_result(future, 0, NULL), "first_0");
    }
    cf_future_release(future);
    shut(executor);
    executor = processes_with(NULL);
    still_works(executor);
    shut(executor);
    executor = processes_with(&(cf_pool_options){.max_workers = 1, .stack_size = 1 << 20});
    still_works(executor); /* unused, and no error */
    shut(executor);
}

TEST(the_default_is_a_worker_a_cpu) {
    cf_executor *executor = processes(0);
    const int cpus = (int)cf_cpu_count();
    const int count = cpus < 64 ? cpus + 1 : 0;
    cf_future *futures[65] = {NULL};
    if (count == 0) {
        shut(executor);
        SKIP("too many CPUs");
    }
    for (int i = 0; i < count; i++) {
        futures[i] = submit_none(executor, task_stay);
    }
    await_arrivals(cpus);
    CHECK_EQ(cf_future_state(futures[cpus]), CF_STATE_PENDING);
    CHECK_EQ(stats_of(executor).workers, cpus);
    open_shared();
    shut(executor);
    release_all(futures, (size_t)count);
}

TEST(workers_start_on_demand_up_to_the_limit) {
    enum { WORKERS = 3, COUNT = 45 };
    cf_future *futures[COUNT];
    cf_executor *executor = processes(WORKERS);
    CHECK_EQ(stats_of(executor).workers, 0);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_none(executor, task_stay);
        CHECK_EQ(stats_of(executor).workers, i < WORKERS ? i + 1 : WORKERS);
    }
    await_arrivals(WORKERS);
    const cf_stats stats = stats_of(executor);
    CHECK_EQ(stats.workers, WORKERS);
    CHECK_EQ(stats.idle, 0);
    CHECK_EQ(stats.submitted, COUNT);
    open_shared();
    shut(executor);
    release_all(futures, COUNT);
    CHECK_EQ(atomic_load(&sh->arrivals), COUNT);
    for (int i = 0; i < WORKERS; i++) {
        CHECK(!is_alive(arrived_pid(i)));
    }
}

TEST(an_idle_worker_is_used_again) {
    cf_executor *executor = processes(4);
    const pid_t first = pid_of_a_worker(executor);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(pid_of_a_worker(executor), first);
        const cf_stats stats = stats_of(executor);
        CHECK_EQ(stats.workers, 1);
        CHECK_EQ(stats.idle, 1);
    }
    shut(executor);
}

TEST(idle_workers_are_used_before_a_new_one_starts) {
    cf_future *futures[2];
    cf_executor *executor = processes(4);
    occupy_processes(executor, 2, futures);
    open_shared();
    CHECK(take_int(futures[0]) != take_int(futures[1]));
    for (int i = 0; i < 10; i++) {
        (void)pid_of_a_worker(executor);
        CHECK_EQ(stats_of(executor).workers, 2);
    }
    shut(executor);
}

static int initialise(void *arg) {
    shared *s = arg;
    const int number = atomic_fetch_add(&s->count, 1);
    atomic_store(&s->marks[number], (int)getpid());
    return 0;
}

static void finalise(void *arg) {
    shared *s = arg;
    atomic_fetch_add(&s->other, 1);
}

static int task_was_initialised(cf_task *task, void *arg) {
    (void)arg;
    arrive();
    UNTIL(atomic_load(&sh->open) != 0);
    for (int i = 0; i < atomic_load(&sh->count); i++) {
        if (atomic_load(&sh->marks[i]) == (int)getpid()) {
            return return_int(task, 1);
        }
    }
    return return_int(task, 0);
}

TEST(every_worker_is_initialised_before_its_first_task_and_finalised_at_its_end) {
    enum { WORKERS = 3 };
    cf_future *futures[WORKERS];
    share();
    cf_executor *executor = processes_with(&(cf_pool_options){.max_workers = WORKERS,
                                                              .initializer = initialise,
                                                              .finalizer = finalise,
                                                              .worker_arg = sh});
    for (int i = 0; i < WORKERS; i++) {
        futures[i] = submit_none(executor, task_was_initialised);
    }
    await_arrivals(WORKERS);
    CHECK_EQ(atomic_load(&sh->count), WORKERS);
    CHECK_EQ(atomic_load(&sh->other), 0);
    open_shared();
    for (int i = 0; i < WORKERS; i++) {
        CHECK_EQ(take_int(futures[i]), 1);
    }
    shut(executor);
    CHECK_EQ(atomic_load(&sh->count), WORKERS);
    CHECK_EQ(atomic_load(&sh->other), WORKERS);
}

static int initialise_badly(void *arg) {
    shared *s = arg;
    atomic_fetch_add(&s->count, 1);
    return 5;
}

TEST(an_initializer_that_fails_breaks_the_pool) {
    enum { COUNT = 6 };
    cf_future *futures[COUNT];
    share();
    cf_executor *executor = processes_with(&(cf_pool_options){.max_workers = 2,
                                                              .initializer = initialise_badly,
                                                              .finalizer = finalise,
                                                              .worker_arg = sh});
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_none(executor, task_stay);
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK_STATUS(outcome(futures[i]), CF_BROKEN);
        CHECK(cf_future_error_message(futures[i])[0] != '\0');
    }
    CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_BROKEN);
    release_all(futures, COUNT);
    CHECK_STATUS(cf_executor_shutdown(executor, limit(8), CF_RUN_PENDING), CF_OK);
    CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_BROKEN);
    cf_executor_close(executor);
    CHECK(atomic_load(&sh->count) >= 1);
    CHECK_EQ(atomic_load(&sh->other), 0);
    CHECK_EQ(atomic_load(&sh->arrivals), 0);
}

static int initialise_the_first_only(void *arg) {
    shared *s = arg;
    return atomic_fetch_add(&s->count, 1) == 0 ? 0 : 1;
}

TEST(a_later_initializer_that_fails_breaks_the_pool_too) {
    cf_future *first, *second;
    share();
    cf_executor *executor = processes_with(&(cf_pool_options){
        .max_workers = 2, .initializer = initialise_the_first_only, .worker_arg = sh});
    occupy_processes(executor, 1, &first);
    second = submit_none(executor, task_stay);
    CHECK_STATUS(outcome(second), CF_BROKEN);
    CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_BROKEN);
    open_shared();
    const cf_status status = outcome(first); /* a result that is complete wins */
    CHECK(status == CF_OK || status == CF_BROKEN);
    cf_future_release(first);
    cf_future_release(second);
    shut(executor);
}

TEST(a_worker_leaves_after_max_tasks_per_child) {
    share();
    cf_executor *executor = processes_with(&(cf_pool_options){
        .max_workers = 1, .max_tasks_per_child = 3, .finalizer = finalise, .worker_arg = sh});
    pid_t last = 0;
    for (int worker = 0; worker < 4; worker++) {
        const pid_t pid = pid_of_a_worker(executor);
        CHECK(pid != last);
        CHECK_EQ(pid_of_a_worker(executor), pid);
        CHECK_EQ(pid_of_a_worker(executor), pid);
        last = pid;
    }
    still_works(executor);
    CHECK_EQ(stats_of(executor).restarts, 4);
    shut(executor);
    CHECK_EQ(atomic_load(&sh->other), 5);
}

static void run_with_limits(size_t workers, size_t most, int tasks) {
    cf_future *futures[64];
    cf_executor *executor = processes_with(
        &(cf_pool_options){.max_workers = workers, .max_tasks_per_child = most});
    for (int i = 0; i < tasks; i++) {
        futures[i] = submit_int(executor, task_square, i);
    }
    for (int i = 0; i < tasks; i++) {
        CHECK_EQ(take_int(futures[i]), i * i);
    }
    shut(executor);
}

TEST(tasks_that_wait_for_a_replacement_all_run) { /* gh-115634 */
    run_with_limits(1, 2, 6);
    run_with_limits(2, 2, 8);
    run_with_limits(3, 1, 64);
    run_with_limits(4, 7, 5); /* the end before the limit */
}

TEST(a_shutdown_that_does_not_wait_still_replaces_workers) { /* gh-119592, gh-152967 */
    for (int round = 0; round < 10; round++) {
        cf_future *futures[12];
        cf_executor *executor =
            processes_with(&(cf_pool_options){.max_workers = 2, .max_tasks_per_child = 2});
        for (int i = 0; i < 12; i++) {
            futures[i] = submit_int(executor, task_square, i);
        }
        CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_RUN_PENDING), CF_TIMEOUT);
        if (round % 2 == 0) {
            cf_executor_close(executor);
        }
        for (int i = 0; i < 12; i++) {
            CHECK_EQ(take_int(futures[i]), i * i);
        }
        if (round % 2 == 1) {
            cf_executor_close(executor);
        }
    }
}

/* ---------------------------------------------------------------- the bounded queue */

TEST(a_full_queue_refuses) {
    cf_future *futures[4];
    cf_executor *executor = processes_with(
        &(cf_pool_options){.max_workers = 1, .queue_limit = 2, .on_full = CF_FULL_REJECT});
    occupy_processes(executor, 1, futures);
    futures[1] = submit_none(executor, task_stay);
    futures[2] = submit_none(executor, task_stay);
    CHECK_EQ(stats_of(executor).queued, 2);
    futures[3] = submit_none(executor, task_stay);
    CHECK_STATUS(cf_future_wait(futures[3], 0), CF_QUEUE_FULL);
    CHECK(!cf_future_cancel(futures[3]));
    CHECK(cf_future_cancel(futures[2]));
    cf_future *instead = submit_none(executor, task_stay);
    CHECK_STATUS(cf_future_wait(instead, 0), CF_TIMEOUT);
    open_shared();
    CHECK_STATUS(take_outcome(instead), CF_OK);
    shut(executor);
    CHECK_STATUS(outcome(futures[0]), CF_OK);
    CHECK_STATUS(outcome(futures[1]), CF_OK);
    CHECK_STATUS(outcome(futures[2]), CF_CANCELLED);
    release_all(futures, 4);
}

typedef struct blocked {
    cf_executor *executor;
    cf_status status;
    gate done;
} blocked;

static void *submit_and_wait(void *arg) {
    blocked *b = arg;
    cf_future *future = submit_none(b->executor, task_nothing);
    b->status = outcome(future);
    cf_future_release(future);
    gate_open(&b->done);
    return NULL;
}

TEST(a_full_queue_blocks_until_there_is_room) {
    cf_future *futures[2];
    pthread_t thread;
    blocked b = {.status = CF_SYSTEM, .done = GATE_INIT};
    cf_executor *executor = b.executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .queue_limit = 1});
    occupy_processes(executor, 1, futures);
    futures[1] = submit_none(executor, task_stay);
    spawn(&thread, submit_and_wait, &b);
    CHECK(!gate_is_open(&b.done));
    open_shared();
    gate_await(&b.done);
    join(thread);
    CHECK_STATUS(b.status, CF_OK);
    release_all(futures, 2);
    shut(executor);
}

TEST(a_blocked_submitter_is_told_of_the_shutdown) {
    cf_future *futures[2];
    pthread_t thread;
    blocked b = {.status = CF_SYSTEM, .done = GATE_INIT};
    cf_executor *executor = b.executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .queue_limit = 1});
    occupy_processes(executor, 1, futures);
    futures[1] = submit_none(executor, task_stay);
    spawn(&thread, submit_and_wait, &b);
    sleep_for(5 * CF_MILLISECOND); /* so that it is likely to stand there; both orders are right */
    CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_RUN_PENDING), CF_TIMEOUT);
    gate_await(&b.done);
    join(thread);
    CHECK_STATUS(b.status, CF_SHUTDOWN);
    open_shared();
    release_all(futures, 2);
    shut(executor);
}

TEST(a_thousand_tasks_pass_through_a_queue_of_two) {
    cf_future *futures[1000];
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 2, .queue_limit = 2});
    for (int i = 0; i < 1000; i++) {
        futures[i] = submit_int(executor, task_square, i);
    }
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(take_int(futures[i]), i * i);
    }
    shut(executor);
}

/* ---------------------------------------------------------------- stats and shutdown */

TEST(the_counts_add_up) {
    cf_executor *executor = processes(1);
    for (int i = 0; i < 3; i++) {
        (void)take_int(submit_int(executor, task_square, i));
    }
    CHECK_STATUS(take_outcome(submit_int(executor, task_fail, 1)), CF_TASK_FAILED);
    CHECK_STATUS(take_outcome(submit_int(executor, task_die, 2)), CF_WORKER_LOST);
    cf_future *stay, *pending;
    const int before = atomic_load(&sh->arrivals);
    stay = submit_none(executor, task_stay);
    await_arrivals(before + 1);
    pending = submit_none(executor, task_stay);
    cf_stats stats = stats_of(executor);
    CHECK_EQ(stats.workers, 1);
    CHECK_EQ(stats.idle, 0);
    CHECK_EQ(stats.queued, 1);
    CHECK_EQ(stats.running, 1);
    CHECK(cf_future_cancel(pending));
    open_shared();
    CHECK_STATUS(outcome(stay), CF_OK);
    CHECK_STATUS(cf_executor_shutdown(executor, limit(8), CF_RUN_PENDING), CF_OK);
    CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_SHUTDOWN);
    stats = stats_of(executor);
    CHECK_EQ(stats.workers, 0);
    CHECK_EQ(stats.idle, 0);
    CHECK_EQ(stats.queued, 0);
    CHECK_EQ(stats.running, 0);
    CHECK_EQ(stats.submitted, 7);
    CHECK_EQ(stats.finished, 6);
    CHECK_EQ(stats.cancelled, 1);
    CHECK_EQ(stats.lost, 1);
    CHECK(stats.failed == 1 || stats.failed == 2); /* is what was lost a failure? */
    CHECK_EQ(stats.restarts, 1);
    cf_future_release(stay);
    cf_future_release(pending);
    cf_executor_close(executor);
}

TEST(a_pool_that_never_worked_closes) {
    cf_executor *executor = processes(3);
    CHECK_STATUS(cf_executor_shutdown(executor, limit(8), CF_RUN_PENDING), CF_OK);
    CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_CANCEL_PENDING), CF_OK);
    cf_executor_close(executor);
    cf_executor_close(processes(1));
    cf_executor_close(NULL);
}

TEST(fifty_results_can_be_read_after_the_shutdown) { /* issue 12364 */
    cf_future *futures[50];
    cf_executor *executor = processes(3);
    for (int i = 0; i < 50; i++) {
        futures[i] = submit_int(executor, task_square, i);
    }
    shut(executor);
    for (int i = 0; i < 50; i++) {
        CHECK_STATUS(cf_future_wait(futures[i], 0), CF_OK);
        CHECK_EQ(take_int(futures[i]), i * i);
    }
}

TEST(a_shutdown_may_cancel_what_is_pending) {
    cf_future *futures[50];
    cf_executor *executor = processes(2);
    occupy_processes(executor, 2, futures);
    for (int i = 2; i < 50; i++) {
        futures[i] = submit_none(executor, task_stay);
    }
    CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
    for (int i = 2; i < 50; i++) {
        CHECK_STATUS(cf_future_wait(futures[i], 0), CF_CANCELLED);
    }
    open_shared();
    shut(executor);
    for (int i = 0; i < 2; i++) {
        CHECK_STATUS(cf_future_wait(futures[i], 0), CF_OK);
    }
    release_all(futures, 50);
    CHECK_EQ(atomic_load(&sh->arrivals), 2);
}

TEST(a_cancel_just_before_the_shutdown_does_not_hang) { /* gh-94440 */
    for (int i = 0; i < 20; i++) {
        cf_executor *executor = processes(1);
        cf_future *future = submit_none(executor, task_nothing);
        const bool cancelled = cf_future_cancel(future);
        CHECK_STATUS(cf_executor_shutdown(executor, limit(5), CF_RUN_PENDING), CF_OK);
        CHECK_STATUS(take_outcome(future), cancelled ? CF_CANCELLED : CF_OK);
        cf_executor_close(executor);
    }
}

TEST(a_shutdown_without_waiting_lets_the_work_be_done) {
    cf_future *futures[10];
    cf_executor *executor = processes(2);
    for (int i = 0; i < 10; i++) {
        futures[i] = submit_none(executor, task_stay);
    }
    CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_RUN_PENDING), CF_TIMEOUT);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_MILLISECOND, CF_RUN_PENDING), CF_TIMEOUT);
    CHECK_STATUS(take_outcome(submit_none(executor, task_nothing)), CF_SHUTDOWN);
    open_shared();
    CHECK_STATUS(cf_executor_shutdown(executor, limit(8), CF_RUN_PENDING), CF_OK);
    for (int i = 0; i < 10; i++) {
        CHECK_STATUS(cf_future_wait(futures[i], 0), CF_OK);
    }
    release_all(futures, 10);
    cf_executor_close(executor);
}

TEST(no_worker_is_alive_once_the_pool_has_closed) {
    cf_future *futures[4];
    cf_executor *executor = processes(4);
    occupy_processes(executor, 4, futures);
    open_shared();
    cf_executor_close(executor);
    for (int i = 0; i < 4; i++) {
        CHECK(!is_alive(arrived_pid(i)));
        UNTIL(is_gone(arrived_pid(i)));
    }
    release_all(futures, 4);
}

static void *shut_from_elsewhere(void *arg) {
    CHECK_STATUS(cf_executor_shutdown(arg, limit(8), CF_RUN_PENDING), CF_OK);
    return NULL;
}

TEST(several_threads_may_shut_a_pool_down) {
    pthread_t threads[4];
    cf_future *stay;
    cf_executor *executor = processes(2);
    occupy_processes(executor, 1, &stay);
    for (int i = 0; i < 4; i++) {
        spawn(&threads[i], shut_from_elsewhere, executor);
    }
    open_shared();
    for (int i = 0; i < 4; i++) {
        join(threads[i]);
    }
    cf_executor_close(executor);
    CHECK_STATUS(take_outcome(stay), CF_OK);
}

TEST(a_hundred_pools_come_and_go) {
    const size_t mappings = shared_mappings();
    for (int i = 0; i < 100; i++) {
        cf_executor *executor = processes(1 + (size_t)i % 3);
        cf_future *future = submit_int(executor, task_square, i);
        if (i % 2 == 0) {
            CHECK_EQ(int_of(future), i * i);
        }
        cf_executor_close(executor);
        CHECK_EQ(take_int(future), i * i); /* a future may outlive its pool */
    }
    CHECK(shared_mappings() <= mappings + 1);
}

/* ---------------------------------------------------------------- wait, as_completed: all kinds */

static void next_is(cf_as_completed_iter *iter, cf_future *future, size_t index) {
    size_t at = SIZE_MAX;
    cf_status status = CF_SYSTEM;
    CHECK(cf_as_completed_next(iter, &at, &status) == future);
    CHECK_STATUS(status, CF_OK);
    CHECK_EQ(at, index);
}

typedef struct mixture {
    cf_executor *threads, *processes;
    cf_future *futures[4]; /* thread, process, promise, process */
    gate gate;
} mixture;
#define MIXTURE_INIT {.gate = GATE_INIT}

static void mix(mixture *m) {
    m->processes = processes(2);
    m->threads = pool(1);
    m->futures[0] = cf_executor_submit(m->threads, task_block, &m->gate, 0);
    m->futures[1] = submit_none(m->processes, task_stay);
    m->futures[2] = promise();
    m->futures[3] = submit_none(m->processes, task_obey);
    gate_await_arrivals(&m->gate, 1);
    await_arrivals(2);
}

static void unmix(mixture *m) {
    gate_open(&m->gate);
    open_shared();
    (void)cf_future_cancel(m->futures[3]);
    cf_executor_close(m->threads);
    shut(m->processes);
    release_all(m->futures, 4);
}

TEST(futures_of_all_kinds_are_delivered_as_they_end) {
    mixture m = MIXTURE_INIT;
    cf_status status = CF_SYSTEM;
    mix(&m);
    cf_as_completed_iter *iter = cf_as_completed(m.futures, 4, limit(8));
    CHECK_EQ(cf_as_completed_remaining(iter), 4);
    CHECK(!cf_future_cancel(m.futures[3]));
    next_is(iter, m.futures[3], 3);
    set_int(m.futures[2], 1);
    next_is(iter, m.futures[2], 2);
    open_shared();
    next_is(iter, m.futures[1], 1);
    gate_open(&m.gate);
    next_is(iter, m.futures[0], 0);
    CHECK(cf_as_completed_next(iter, NULL, &status) == NULL);
    CHECK_STATUS(status, CF_END);
    cf_as_completed_close(iter);
    unmix(&m);
}

TEST(wait_takes_futures_of_all_kinds) {
    mixture m = MIXTURE_INIT;
    bool done[4] = {true, true, true, true};
    mix(&m);
    CHECK_EQ(cf_wait(m.futures, 4, CF_ALL_COMPLETED, CF_MILLISECOND, done), 0);
    CHECK(!done[0] && !done[1] && !done[2] && !done[3]);
    open_shared();
    CHECK_EQ(cf_wait(m.futures, 4, CF_FIRST_COMPLETED, limit(8), done), 1);
    CHECK(!done[0] && done[1] && !done[2] && !done[3]);
    CHECK_STATUS(cf_future_set_error(m.futures[2], 3, "three"), CF_OK);
    CHECK_EQ(cf_wait(m.futures, 4, CF_FIRST_EXCEPTION, limit(8), done), 2);
    gate_open(&m.gate);
    CHECK(!cf_future_cancel(m.futures[3]));
    CHECK_EQ(cf_wait(m.futures, 4, CF_ALL_COMPLETED, limit(8), done), 4);
    CHECK(done[0] && done[1] && done[2] && done[3]);
    unmix(&m);
}

TEST(wait_for_the_first_exception_sees_a_dead_worker) {
    mixture m = MIXTURE_INIT;
    bool done[4];
    mix(&m);
    open_shared();
    CHECK_STATUS(outcome(m.futures[1]), CF_OK);
    cf_future *victim = submit_int(m.processes, task_die, 0);
    cf_future *futures[3] = {m.futures[0], victim, m.futures[2]};
    CHECK_EQ(cf_wait(futures, 3, CF_FIRST_EXCEPTION, limit(8), done), 1);
    CHECK(done[1]);
    cf_future_release(victim);
    unmix(&m);
}

TEST(a_descriptor_tells_an_event_loop_of_process_futures) {
    cf_executor *executor = processes(1);
    cf_future *future = submit_none(executor, task_stay);
    cf_as_completed_iter *iter = cf_as_completed(&future, 1, CF_FOREVER);
    struct pollfd p = {.fd = cf_as_completed_fd(iter), .events = POLLIN};
    CHECK(p.fd >= 0);
    await_arrivals(1);
    CHECK_EQ(poll(&p, 1, 0), 0);
    open_shared();
    CHECK_EQ(poll(&p, 1, (int)(limit(8) / CF_MILLISECOND)), 1);
    next_is(iter, future, 0);
    cf_as_completed_close(iter);
    cf_future_release(future);
    shut(executor);
}

TEST(a_thousand_are_delivered_once_each) {
    enum { COUNT = 1000 };
    cf_future *futures[COUNT];
    bool seen[COUNT] = {false};
    cf_executor *executor = processes(2);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_int(executor, task_square, i);
    }
    cf_as_completed_iter *iter = cf_as_completed(futures, COUNT, limit(8));
    for (int i = 0; i < COUNT; i++) {
        size_t index = SIZE_MAX;
        cf_future *future = cf_as_completed_next(iter, &index, NULL);
        CHECK(future != NULL && index < COUNT && !seen[index]);
        seen[index] = true;
        CHECK_EQ(*(const int *)cf_future_result(future, 0, NULL), (int)(index * index));
        cf_future_release(future); /* allowed before the iterator is closed */
    }
    CHECK(cf_as_completed_next(iter, NULL, NULL) == NULL);
    cf_as_completed_close(iter);
    shut(executor);
}

typedef struct waits {
    cf_executor *processes;
    int result;
} waits;

static int task_asks_processes(cf_task *task, void *arg) {
    waits *w = arg;
    (void)task;
    w->result = take_int(submit_int(w->processes, task_square, 9));
    return 0;
}

TEST(a_thread_task_may_wait_for_a_process_task) {
    waits w = {processes(1), 0};
    cf_executor *threads = pool(1);
    CHECK_STATUS(take_outcome(cf_executor_submit(threads, task_asks_processes, &w, 0)), CF_OK);
    CHECK_EQ(w.result, 81);
    cf_executor_close(threads);
    shut(w.processes);
}

static int task_makes_a_pool(cf_task *task, void *arg) {
    (void)arg;
    (void)task;
    cf_executor *executor = processes(2);
    still_works(executor);
    shut(executor);
    return 0;
}

TEST(a_thread_task_may_make_a_process_pool) {
    share();
    cf_executor *threads = pool(3);
    cf_future *futures[6];
    for (int i = 0; i < 6; i++) {
        futures[i] = submit_none(threads, task_makes_a_pool);
    }
    for (int i = 0; i < 6; i++) {
        CHECK_STATUS(take_outcome(futures[i]), CF_OK);
    }
    cf_executor_close(threads);
}

static int task_makes_threads(cf_task *task, void *arg) {
    (void)arg;
    cf_executor *threads = pool(2);
    cf_future *future = submit_int(threads, task_square, 6);
    const int result = take_int(future);
    cf_executor_close(threads);
    return return_int(task, result);
}

TEST(a_process_task_may_make_a_pool_of_its_own) {
    cf_executor *executor = processes(1);
    CHECK_EQ(take_int(submit_none(executor, task_makes_threads)), 36);
    CHECK_EQ(take_int(submit_none(executor, task_makes_threads)), 36);
    CHECK_STATUS(take_outcome(submit_none(executor, task_makes_a_pool)), CF_OK);
    shut(executor);
}

enum { INNER = 60000, OUTER = 70000 };

/* A pool in a pool, with an argument and a result that have mappings of their own. */
static int task_echoes_in_a_pool(cf_task *task, void *arg) {
    static unsigned char bytes[INNER];
    (void)arg;
    fill(bytes, sizeof bytes, 2);
    cf_executor *inner = processes(1);
    cf_future *future = cf_executor_submit(inner, task_echo, bytes, sizeof bytes);
    const bool whole = outcome(future) == CF_OK && cf_future_result_size(future) == sizeof bytes &&
                       memcmp(cf_future_result(future, 0, NULL), bytes, sizeof bytes) == 0;
    cf_future_release(future);
    cf_executor_close(inner);
    return return_int(task, whole);
}

TEST(big_payloads_of_a_pool_in_a_worker_are_not_those_of_the_worker) {
    static unsigned char bytes[OUTER];
    fill(bytes, sizeof bytes, 1);
    cf_executor *executor = processes(1);
    cf_future *kept = cf_executor_submit(executor, task_echo, bytes, sizeof bytes);
    CHECK_STATUS(outcome(kept), CF_OK);
    CHECK_EQ(take_int(submit_none(executor, task_echoes_in_a_pool)), 1);
    CHECK_EQ(memcmp(cf_future_result(kept, 0, NULL), bytes, sizeof bytes), 0);
    cf_future_release(kept);
    shut(executor);
}

/* ---------------------------------------------------------------- map */

static int task_cube_or_fail(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n % 10 == 3) {
        return cf_task_fail(task, n, "no cube of %d", n);
    }
    return return_int(task, n * n * n);
}

/* Items 0 to count - 1, of which 3, 13, 23... fail. */
static void map_cubes(cf_executor *executor, int count, const cf_map_options *options) {
    int items[64] = {0};
    cf_status status = CF_SYSTEM;
    for (int i = 0; i < count; i++) {
        items[i] = i;
    }
    cf_map_iter *iter = cf_executor_map(executor, task_cube_or_fail, items, (size_t)count,
                                        sizeof *items, options);
    memset(items, 0xff, sizeof items); /* they were copied */
    for (int i = 0; i < count; i++) {
        const int *result = cf_map_next(iter, &status);
        CHECK_EQ(cf_map_index(iter), i);
        if (i % 10 == 3) {
            CHECK(result == NULL);
            CHECK_STATUS(status, CF_TASK_FAILED);
            CHECK_EQ(cf_map_error_code(iter), i);
            char text[32];
            snprintf(text, sizeof text, "no cube of %d", i);
            CHECK_STR(cf_map_error_message(iter), text);
        } else {
            CHECK_STATUS(status, CF_OK);
            CHECK(result != NULL);
            CHECK_EQ(cf_map_result_size(iter), sizeof *result);
            CHECK_EQ((uintptr_t)result % _Alignof(max_align_t), 0);
            CHECK_EQ(*result, i * i * i);
        }
    }
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_END);
    cf_map_close(iter);
}

TEST(map_is_in_order_with_any_chunksize) {
    cf_executor *executor = processes(2);
    map_cubes(executor, 30, NULL);
    for (size_t chunksize = 1; chunksize <= 65; chunksize += 4) {
        map_cubes(executor, 64, &(cf_map_options){.chunksize = chunksize});
        map_cubes(executor, 31, &(cf_map_options){.chunksize = chunksize, .buffersize = 7});
    }
    map_cubes(executor, 30, &(cf_map_options){.chunksize = 30});
    map_cubes(executor, 30, &(cf_map_options){.chunksize = 1000});
    map_cubes(executor, 0, &(cf_map_options){.chunksize = 3});
    shut(executor);
}

TEST(a_chunk_is_one_task) {
    int items[20] = {0};
    cf_executor *executor = processes(1);
    cf_map_iter *iter = cf_executor_map(executor, task_square, items, 20, sizeof *items,
                                        &(cf_map_options){.chunksize = 5});
    for (int i = 0; i < 20; i++) {
        CHECK(cf_map_next(iter, NULL) != NULL);
    }
    cf_map_close(iter);
    shut(executor);
    executor = processes(1);
    iter = cf_executor_map(executor, task_square, items, 20, sizeof *items,
                           &(cf_map_options){.chunksize = 5});
    CHECK_STATUS(cf_executor_shutdown(executor, limit(8), CF_RUN_PENDING), CF_OK);
    CHECK_EQ(stats_of(executor).submitted, 4);
    CHECK_EQ(stats_of(executor).finished, 4);
    cf_executor_close(executor);
    for (int i = 0; i < 20; i++) { /* an iterator may outlive its pool */
        CHECK(cf_map_next(iter, NULL) != NULL);
    }
    CHECK(cf_map_next(iter, NULL) == NULL);
    cf_map_close(iter);
}

TEST(map_runs_all_items_although_nobody_asks) {
    int items[10];
    for (int i = 0; i < 10; i++) {
        items[i] = i;
    }
    cf_executor *executor = processes(3);
    cf_map_iter *iter =
        cf_executor_map(executor, task_marks, items, 10, sizeof *items, NULL);
    CHECK_STATUS(cf_executor_shutdown(executor, limit(8), CF_RUN_PENDING), CF_OK);
    cf_map_close(iter);
    cf_executor_close(executor);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(atomic_load(&sh->marks[i]), 1);
    }
}

TEST(map_in_the_order_of_the_ends) {
    int items[40];
    bool seen[40] = {false};
    for (int i = 0; i < 40; i++) {
        items[i] = i;
    }
    cf_executor *executor = processes(2);
    for (size_t chunksize = 1; chunksize <= 9; chunksize += 4) {
        cf_map_iter *iter =
            cf_executor_map(executor, task_cube_or_fail, items, 40, sizeof *items,
                            &(cf_map_options){.unordered = true, .chunksize = chunksize});
        memset(seen, 0, sizeof seen);
        for (int i = 0; i < 40; i++) {
            cf_status status = CF_SYSTEM;
            const int *result = cf_map_next(iter, &status);
            const size_t at = cf_map_index(iter);
            CHECK(at < 40 && !seen[at]);
            seen[at] = true;
            CHECK_EQ(result == NULL, at % 10 == 3);
            CHECK_STATUS(status, at % 10 == 3 ? CF_TASK_FAILED : CF_OK);
        }
        CHECK(cf_map_next(iter, NULL) == NULL);
        cf_map_close(iter);
    }
    shut(executor);
}

TEST(map_may_stop_at_the_first_error) {
    int items[30];
    for (int i = 0; i < 30; i++) {
        items[i] = i;
    }
    cf_executor *executor = processes(2);
    cf_status status = CF_SYSTEM;
    cf_map_iter *iter = cf_executor_map(executor, task_cube_or_fail, items, 30, sizeof *items,
                                        &(cf_map_options){.stop_on_error = true});
    for (int i = 0; i < 3; i++) {
        CHECK(cf_map_next(iter, NULL) != NULL);
    }
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_TASK_FAILED);
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_END);
    cf_map_close(iter);
    still_works(executor);
    shut(executor);
}

static int task_stay_at_3(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n == 3) {
        arrive();
        UNTIL(atomic_load(&sh->open) != 0);
    }
    return return_int(task, n);
}

TEST(map_times_out_after_what_is_ready) {
    static const int items[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    cf_executor *executor = processes(2);
    cf_status status = CF_SYSTEM;
    still_works(executor);
    cf_map_iter *iter = cf_executor_map(executor, task_stay_at_3, items, 10, sizeof *items,
                                        &(cf_map_options){.timeout = 300 * CF_MILLISECOND});
    const int64_t start = now();
    for (int i = 0; i < 3; i++) {
        const int *result = cf_map_next(iter, &status);
        CHECK_STATUS(status, CF_OK);
        CHECK_EQ(*result, i);
    }
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_TIMEOUT);
    CHECK(now() - start >= 200 * CF_MILLISECOND);
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_END);
    cf_map_close(iter);
    open_shared();
    still_works(executor);
    shut(executor);
}

static bool next_number(void *item, void *user) {
    int *number = user;
    memcpy(item, number, sizeof *number);
    return (*number)++ < 25;
}

TEST(map_over_a_generator) {
    cf_executor *executor = processes(2);
    for (size_t chunksize = 1; chunksize <= 4; chunksize++) {
        int number = 0, delivered = 0;
        cf_map_iter *iter = cf_executor_map(
            executor, task_square, NULL, 0, sizeof number,
            &(cf_map_options){.next_item = next_number,
                              .user = &number,
                              .buffersize = 4,
                              .chunksize = chunksize});
        CHECK(number <= 5);
        for (const int *result; (result = cf_map_next(iter, NULL)) != NULL; delivered++) {
            CHECK_EQ(*result, delivered * delivered);
        }
        CHECK_EQ(delivered, 25);
        cf_map_close(iter);
    }
    shut(executor);
}

TEST(closing_a_map_cancels_what_has_not_started) {
    static const int items[20] = {3};
    cf_executor *executor = processes(1);
    cf_map_iter *iter =
        cf_executor_map(executor, task_stay_at_3, items, 20, sizeof *items, NULL);
    await_arrivals(1);
    cf_map_close(iter);
    CHECK_EQ(stats_of(executor).cancelled, 19);
    open_shared();
    still_works(executor);
    shut(executor);
    CHECK_EQ(atomic_load(&sh->arrivals), 1);
}

TEST(a_map_after_the_shutdown_has_an_error_for_each_item) {
    static const int items[3] = {1, 2, 3};
    cf_executor *executor = processes(1);
    cf_status status = CF_OK;
    CHECK_STATUS(cf_executor_shutdown(executor, limit(8), CF_RUN_PENDING), CF_OK);
    cf_map_iter *iter = cf_executor_map(executor, task_square, items, 3, sizeof *items,
                                        &(cf_map_options){.chunksize = 2});
    for (int i = 0; i < 3; i++) {
        CHECK(cf_map_next(iter, &status) == NULL);
        CHECK_STATUS(status, CF_SHUTDOWN);
    }
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_END);
    cf_map_close(iter);
    cf_executor_close(executor);
}

static int task_item_size_0(cf_task *task, void *arg) {
    return return_int(task, *(const int *)arg);
}

TEST(items_of_size_0_are_the_pointer) {
    static const int number = 17;
    cf_executor *executor = processes(1);
    cf_map_iter *iter = cf_executor_map(executor, task_item_size_0, &number, 5, 0, NULL);
    for (int i = 0; i < 5; i++) {
        const int *result = cf_map_next(iter, NULL);
        CHECK(result != NULL);
        CHECK_EQ(*result, 17);
    }
    CHECK(cf_map_next(iter, NULL) == NULL);
    cf_map_close(iter);
    shut(executor);
}

static int task_long_result(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    unsigned char *buffer = cf_task_result_buffer(task, (size_t)n);
    CHECK(buffer != NULL || n == 0);
    fill(buffer, (size_t)n, (uint64_t)n);
    return 0;
}

TEST(results_of_a_chunk_have_any_size) {
    static const int sizes[12] = {0, 1, 31, 33, 100, 4095, 4097, 70000, 1 << 20, 3, 0, 17};
    unsigned char *expected = malloc(1 << 20);
    cf_executor *executor = processes(2);
    CHECK(expected != NULL);
    for (size_t chunksize = 1; chunksize <= 12; chunksize += 3) {
        cf_map_iter *iter = cf_executor_map(executor, task_long_result, sizes, 12, sizeof *sizes,
                                            &(cf_map_options){.chunksize = chunksize});
        for (int i = 0; i < 12; i++) {
            const void *result = cf_map_next(iter, NULL);
            CHECK(result != NULL);
            CHECK_EQ(cf_map_result_size(iter), sizes[i]);
            fill(expected, (size_t)sizes[i], (uint64_t)sizes[i]);
            CHECK(memcmp(result, expected, (size_t)sizes[i]) == 0);
        }
        cf_map_close(iter);
    }
    free(expected);
    shut(executor);
}

TEST(map_array_fills_the_results_in_place) {
    enum { COUNT = 1000 };
    static int items[COUNT], results[COUNT];
    cf_executor *executor = processes(2);
    for (int i = 0; i < COUNT; i++) {
        items[i] = i % 1000 / 10 * 10; /* none that fails */
    }
    for (size_t chunksize = 0; chunksize <= 1001; chunksize += 77) {
        size_t failed = 12345;
        memset(results, 0xff, sizeof results);
        CHECK_STATUS(cf_executor_map_array(executor, task_cube_or_fail, items, sizeof *items,
                                           results, sizeof *results, COUNT,
                                           &(cf_map_options){.chunksize = chunksize}, &failed),
                     CF_OK);
        for (int i = 0; i < COUNT; i++) {
            CHECK_EQ(results[i], items[i] * items[i] * items[i]);
        }
    }
    shut(executor);
}

TEST(map_array_names_the_first_item_that_fails) {
    static const int items[8] = {1, 2, 4, 13, 5, 3, 6, 7};
    int results[8];
    cf_executor *executor = processes(2);
    for (size_t chunksize = 1; chunksize <= 8; chunksize++) {
        size_t failed = SIZE_MAX;
        memset(results, 0xff, sizeof results);
        CHECK_STATUS(cf_executor_map_array(executor, task_cube_or_fail, items, sizeof *items,
                                           results, sizeof *results, 8,
                                           &(cf_map_options){.chunksize = chunksize}, &failed),
                     CF_TASK_FAILED);
        CHECK_EQ(failed, 3);
        for (int i = 0; i < 8; i++) {
            CHECK_EQ(results[i], i == 3 || i == 5 ? 0 : items[i] * items[i] * items[i]);
        }
    }
    shut(executor);
}

static int task_letters(cf_task *task, void *arg) {
    static const char letters[] = "abcdefghij";
    return cf_task_return(task, letters, (size_t)*(const int *)arg);
}

TEST(map_array_pads_short_results_and_refuses_long_ones) {
    static const int sizes[4] = {4, 2, 0, 5};
    char results[4][4];
    size_t failed = SIZE_MAX;
    cf_executor *executor = processes(1);
    for (size_t chunksize = 1; chunksize <= 4; chunksize++) {
        memset(results, 'z', sizeof results);
        CHECK_STATUS(cf_executor_map_array(executor, task_letters, sizes, sizeof *sizes, results,
                                           sizeof *results, 4,
                                           &(cf_map_options){.chunksize = chunksize}, &failed),
                     CF_INVALID);
        CHECK_EQ(failed, 3);
        CHECK(memcmp(results, "abcdab\0\0\0\0\0\0\0\0\0\0", 16) == 0);
    }
    shut(executor);
}

/* ---------------------------------------------------------------- CF_FORKED */

typedef struct inherited {
    cf_executor *executor;
    cf_future *running, *pending, *done;
    pid_t worker;
} inherited;

static void in_a_child_of_the_host(void *arg) {
    const inherited *in = arg;
    static const int items[2] = {1, 2};
    cf_status status = CF_OK;
    CHECK_STATUS(take_outcome(submit_none(in->executor, task_nothing)), CF_FORKED);
    CHECK_STATUS(cf_future_wait(in->running, CF_FOREVER), CF_FORKED);
    CHECK(cf_future_result(in->pending, CF_FOREVER, &status) == NULL);
    CHECK_STATUS(status, CF_FORKED);
    CHECK(!cf_future_cancel(in->pending));
    CHECK_STATUS(cf_future_wait(in->done, 0), CF_OK);
    CHECK_STATUS(cf_executor_shutdown(in->executor, CF_FOREVER, CF_CANCEL_PENDING), CF_FORKED);
    CHECK_STATUS(cf_executor_kill_workers(in->executor, SIGKILL), CF_FORKED);
    cf_map_iter *iter = cf_executor_map(in->executor, task_square, items, 2, sizeof *items, NULL);
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_FORKED);
    cf_map_close(iter);
    CHECK_EQ(cf_wait(&in->pending, 1, CF_ALL_COMPLETED, CF_FOREVER, NULL), 0);
    cf_executor_close(in->executor);
    cf_executor *own = processes(1);
    still_works(own);
    shut(own);
    CHECK(is_alive(in->worker));
}

typedef struct pair {
    cf_executor *executor;
    cf_future *small, *big;
    gate done;
} pair;

/* The second argument does not fit the desk, and nobody but the manager, which runs this, moves it. */
static void submit_two_and_cancel(cf_future *future, void *user) {
    static const unsigned char bytes[1 << 20];
    pair *p = user;
    CHECK(cf_future_done(future));
    p->small = submit_none(p->executor, task_nothing);
    p->big = cf_executor_submit(p->executor, task_nothing, bytes, sizeof bytes);
    CHECK(cf_future_cancel(p->big));
    gate_open(&p->done);
}

TEST(a_callback_cancels_what_the_manager_has_to_load) {
    pair p = {processes(1), NULL, NULL, GATE_INIT};
    cf_future *stay;
    occupy_processes(p.executor, 1, &stay);
    CHECK_STATUS(cf_future_add_done_callback(stay, submit_two_and_cancel, &p), CF_OK);
    open_shared();
    CHECK_STATUS(outcome(stay), CF_OK);
    gate_await(&p.done);
    CHECK_STATUS(take_outcome(p.small), CF_OK);
    CHECK_STATUS(take_outcome(p.big), CF_CANCELLED);
    cf_future_release(stay);
    shut(p.executor);
}

static _Thread_local bool is_a_caller;

/* Who waits has collected the outcome: time enough for the manager to end, if it may. */
static void hold_up_the_caller(int id) {
    enum { WITH_CALLBACKS_IN_HAND = 71 };
    if (id == WITH_CALLBACKS_IN_HAND && is_a_caller) {
        sleep_for(50 * CF_MILLISECOND);
    }
}

static void *wait_as_a_caller(void *future) {
    is_a_caller = true;
    CHECK_STATUS(outcome(future), CF_OK);
    return NULL;
}

static void count_the_call(cf_future *future, void *count) {
    (void)future;
    atomic_fetch_add((atomic_int *)count, 1);
}

TEST(a_callback_that_a_waiting_caller_brings_is_called_although_the_pool_closes) {
    test_point_hook(hold_up_the_caller);
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 20, start); i++) {
        atomic_int called = 0;
        pthread_t caller;
        cf_executor *executor = processes(1);
        still_works(executor);
        cf_future *future = submit_none(executor, task_nothing);
        CHECK_STATUS(cf_future_add_done_callback(future, count_the_call, &called), CF_OK);
        spawn(&caller, wait_as_a_caller, future);
        shut(executor);
        CHECK_EQ(atomic_load(&called), 1);
        join(caller);
        cf_future_release(future);
    }
    test_point_hook(NULL);
}

/* The worker has ended the task before it learns that nobody looks at its desk. */
static void hold_up_the_submitter(int id) {
    enum { TASK_IS_READY = 67 };
    if (id == TASK_IS_READY) {
        sleep_for(CF_MILLISECOND);
    }
}

static void arrive_at_the_gate(cf_future *future, void *called) {
    CHECK(cf_future_done(future));
    gate_arrive(called);
}

/* One worker: nothing else would make the manager look. */
TEST(what_nobody_waits_for_ends_after_something_that_somebody_waited_for) {
    gate called = GATE_INIT;
    cf_executor *executor = processes(1);
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 400, start); i++) {
        still_works(executor);
        test_point_hook(i % 2 != 0 ? hold_up_the_submitter : NULL);
        cf_future *future = submit_none(executor, task_nothing);
        test_point_hook(NULL);
        CHECK_STATUS(cf_future_add_done_callback(future, arrive_at_the_gate, &called), CF_OK);
        gate_await_arrivals(&called, (size_t)i + 1);
        cf_future_release(future);
    }
    shut(executor);
}

static int task_soon(cf_task *task, void *arg) {
    (void)task;
    (void)arg;
    sleep_for(CF_MILLISECOND);
    return 0;
}

TEST(what_nobody_waits_for_ends_although_somebody_waited_for_something_before_it) {
    gate called = GATE_INIT;
    cf_executor *executor = processes(1);
    const int64_t start = now();
    for (int i = 0; is_time_for(i, 100, start); i++) {
        still_works(executor);
        cf_future *first = submit_none(executor, task_nothing);
        cf_future *second = submit_none(executor, task_soon);
        CHECK_STATUS(cf_future_add_done_callback(second, arrive_at_the_gate, &called), CF_OK);
        CHECK_STATUS(take_outcome(first), CF_OK);
        gate_await_arrivals(&called, (size_t)i + 1);
        cf_future_release(second);
    }
    shut(executor);
}

static cf_future *stays;

static void wait_for_what_stays(void *status) {
    *(cf_status *)status = cf_future_wait(stays, CF_FOREVER);
}

TEST(a_free_arg_that_waits_for_its_pool_is_a_deadlock_and_says_so) {
    cf_executor *executor = processes(2);
    occupy_processes(executor, 1, &stays);
    for (int i = 0; i < 50; i++) {
        cf_status status = CF_OK;
        still_works(executor); /* so the worker is awake, and this thread is there when it ends */
        cf_future *future = cf_executor_submit_with(
            executor, task_nothing, &status, 0,
            &(cf_submit_options){.free_arg = wait_for_what_stays});
        CHECK_STATUS(take_outcome(future), CF_OK);
        CHECK_STATUS(status, CF_DEADLOCK);
    }
    open_shared();
    CHECK_STATUS(take_outcome(stays), CF_OK);
    shut(executor);
}

static gate manager_lies_down = GATE_INIT, shut_down = GATE_INIT;

static void ignore_the_future(cf_future *future, void *user) {
    CHECK(cf_future_done(future));
    CHECK(user == NULL);
}

static void hold_the_manager(int id) {
    enum { BEFORE_ITS_SLEEP = 7 };
    if (id == BEFORE_ITS_SLEEP) {
        gate_arrive(&manager_lies_down);
        gate_await(&shut_down);
    }
}

TEST(a_shutdown_just_before_the_manager_sleeps_ends) {
    cf_executor *executor = processes(1);
    still_works(executor);
    test_point_hook(hold_the_manager);
    cf_future *future = submit_none(executor, task_nothing);
    cf_future_add_done_callback(future, ignore_the_future, NULL); /* the manager's to call */
    gate_await_arrivals(&manager_lies_down, 1);
    CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_RUN_PENDING), CF_TIMEOUT);
    gate_open(&shut_down);
    test_point_hook(NULL);
    cf_future_release(future);
    shut(executor);
}

TEST(a_child_of_the_host_cannot_use_the_pool_nor_harm_it) {
    inherited in;
#ifdef TEST_TSAN
    SKIP("the sanitizer starts no thread in the child of a program that has some");
#endif
    in.executor = processes(1);
    in.done = submit_none(in.executor, task_nothing);
    CHECK_STATUS(outcome(in.done), CF_OK);
    in.worker = pid_of_a_worker(in.executor);
    occupy_processes(in.executor, 1, &in.running);
    in.pending = submit_int(in.executor, task_square, 3);
    CHECK_EQ(in_child(in_a_child_of_the_host, &in), 0);
    CHECK_EQ(cf_future_state(in.pending), CF_STATE_PENDING);
    open_shared();
    CHECK_EQ(take_int(in.pending), 9);
    CHECK_EQ(take_int(in.running), in.worker);
    CHECK_EQ(pid_of_a_worker(in.executor), in.worker);
    cf_future_release(in.done);
    shut(in.executor);
}

typedef struct foreign {
    cf_executor *executor;
    cf_future *pending;
} foreign;

static int task_uses_what_is_not_its_own(cf_task *task, void *arg) {
    const foreign *f = arg;
    CHECK_STATUS(take_outcome(submit_none(f->executor, task_nothing)), CF_FORKED);
    CHECK_STATUS(cf_executor_shutdown(f->executor, CF_FOREVER, CF_RUN_PENDING), CF_FORKED);
    if (f->pending != NULL) {
        CHECK_STATUS(cf_future_wait(f->pending, CF_FOREVER), CF_FORKED);
        CHECK(!cf_future_cancel(f->pending));
    }
    return return_int(task, 1);
}

TEST(a_worker_cannot_use_the_executors_of_the_host) {
    gate g = GATE_INIT;
    cf_executor *threads = pool(1);
    cf_future *running = cf_executor_submit(threads, task_block, &g, 0);
    gate_await_arrivals(&g, 1);
    cf_future *pending = submit_none(threads, task_nothing);
    cf_executor *earlier = processes(1);
    cf_executor *executor = processes(1);
    const foreign cases[3] = {{threads, pending}, {earlier, NULL}, {executor, NULL}};
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(take_int(cf_executor_submit(executor, task_uses_what_is_not_its_own, &cases[i],
                                             sizeof cases[i])),
                 1);
    }
    gate_open(&g);
    CHECK_STATUS(take_outcome(pending), CF_OK);
    CHECK_STATUS(take_outcome(running), CF_OK);
    still_works(earlier);
    still_works(executor);
    shut(earlier);
    shut(executor);
    cf_executor_close(threads);
}

TEST(two_pools_do_not_disturb_each_other) {
    cf_future *stay[2];
    cf_executor *first = processes(2);
    still_works(first);
    cf_executor *second = processes(2);
    occupy_processes(second, 2, stay);
    CHECK_EQ(take_int(submit_int(first, task_square, 3)), 9);
    shut(first); /* although the second holds copies of what it inherited */
    open_shared();
    CHECK(take_int(stay[0]) != take_int(stay[1]));
    still_works(second);
    shut(second);
}

TEST_MAIN(
    RUN(a_task_runs_in_another_process)
    RUN(several_arguments_travel_as_a_struct)
    RUN(arguments_and_results_are_aligned_for_any_type)
    RUN(bytes_of_every_size_arrive_unchanged)
    RUN_WITHIN(30, 64_MiB_travel_both_ways)
    RUN_WITHIN(30, big_arguments_in_flight_do_not_block_each_other)
    RUN(no_argument_and_no_result)
    RUN(workers_see_memory_as_it_was_when_the_pool_was_made)
    RUN(free_arg_runs_here_and_once_before_the_future_is_done)
    RUN(bad_submissions_say_why)
    RUN(submit_many_is_submit_for_each)
    RUN(tasks_start_in_the_order_of_submission)
    RUN(ten_thousand_small_tasks)
    RUN(several_threads_submit_at_once)
    RUN(a_result_buffer_is_the_result)
    RUN(an_owned_result_is_sent_and_freed_in_the_worker)
    RUN(the_last_of_two_results_counts)
    RUN(a_non_zero_return_discards_the_result)
    RUN(an_error_travels_with_its_words)
    RUN(a_long_message_is_kept_up_to_255_bytes_at_least)
    RUN(a_task_sees_its_worker_and_no_executor)
    RUN(workers_at_work_have_different_indices)
    RUN(a_worker_is_called_by_the_name_of_the_pool)
    RUN(what_has_not_started_is_pending_and_can_be_cancelled)
    RUN(a_cancel_that_races_with_the_start_tells_the_truth)
    RUN(a_running_task_sees_the_wish_to_stop)
    RUN(the_wish_to_stop_is_for_one_task_only)
    RUN(a_wait_that_times_out_disturbs_nothing)
    RUN(an_executors_future_cannot_be_set)
    RUN(callbacks_run_here_in_order_of_addition)
    RUN(a_callback_may_submit)
    RUN(a_callback_that_waits_for_its_pool_is_a_deadlock_and_says_so)
    RUN(a_callback_that_submits_to_its_full_queue_is_refused)
    RUN(a_callback_that_shuts_its_pool_down_does_not_wait_for_itself)
    RUN(a_callback_may_close_its_pool)
    RUN(an_error_that_nobody_reads_is_reported)
    RUN(options_out_of_range_are_refused)
    RUN(spawn_without_its_first_statement_in_main_is_refused)
    RUN(options_are_copied_and_null_is_all_defaults)
    RUN(the_default_is_a_worker_a_cpu)
    RUN(workers_start_on_demand_up_to_the_limit)
    RUN(an_idle_worker_is_used_again)
    RUN(idle_workers_are_used_before_a_new_one_starts)
    RUN(every_worker_is_initialised_before_its_first_task_and_finalised_at_its_end)
    RUN(an_initializer_that_fails_breaks_the_pool)
    RUN(a_later_initializer_that_fails_breaks_the_pool_too)
    RUN(a_worker_leaves_after_max_tasks_per_child)
    RUN(tasks_that_wait_for_a_replacement_all_run)
    RUN(a_shutdown_that_does_not_wait_still_replaces_workers)
    RUN(a_full_queue_refuses)
    RUN(a_full_queue_blocks_until_there_is_room)
    RUN(a_blocked_submitter_is_told_of_the_shutdown)
    RUN(a_thousand_tasks_pass_through_a_queue_of_two)
    RUN(the_counts_add_up)
    RUN(a_pool_that_never_worked_closes)
    RUN(fifty_results_can_be_read_after_the_shutdown)
    RUN(a_shutdown_may_cancel_what_is_pending)
    RUN(a_cancel_just_before_the_shutdown_does_not_hang)
    RUN(a_shutdown_without_waiting_lets_the_work_be_done)
    RUN(no_worker_is_alive_once_the_pool_has_closed)
    RUN(several_threads_may_shut_a_pool_down)
    RUN(a_hundred_pools_come_and_go)
    RUN(futures_of_all_kinds_are_delivered_as_they_end)
    RUN(wait_takes_futures_of_all_kinds)
    RUN(wait_for_the_first_exception_sees_a_dead_worker)
    RUN(a_descriptor_tells_an_event_loop_of_process_futures)
    RUN(a_thousand_are_delivered_once_each)
    RUN(a_thread_task_may_wait_for_a_process_task)
    RUN(a_thread_task_may_make_a_process_pool)
    RUN(a_process_task_may_make_a_pool_of_its_own)
    RUN(big_payloads_of_a_pool_in_a_worker_are_not_those_of_the_worker)
    RUN(map_is_in_order_with_any_chunksize)
    RUN(a_chunk_is_one_task)
    RUN(map_runs_all_items_although_nobody_asks)
    RUN(map_in_the_order_of_the_ends)
    RUN(map_may_stop_at_the_first_error)
    RUN(map_times_out_after_what_is_ready)
    RUN(map_over_a_generator)
    RUN(closing_a_map_cancels_what_has_not_started)
    RUN(a_map_after_the_shutdown_has_an_error_for_each_item)
    RUN(items_of_size_0_are_the_pointer)
    RUN(results_of_a_chunk_have_any_size)
    RUN(map_array_fills_the_results_in_place)
    RUN(map_array_names_the_first_item_that_fails)
    RUN(map_array_pads_short_results_and_refuses_long_ones)
    RUN(a_callback_cancels_what_the_manager_has_to_load)
    RUN(a_shutdown_just_before_the_manager_sleeps_ends)
    RUN(a_callback_that_a_waiting_caller_brings_is_called_although_the_pool_closes)
    RUN(what_nobody_waits_for_ends_after_something_that_somebody_waited_for)
    RUN(what_nobody_waits_for_ends_although_somebody_waited_for_something_before_it)
    RUN(a_free_arg_that_waits_for_its_pool_is_a_deadlock_and_says_so)
    RUN(a_child_of_the_host_cannot_use_the_pool_nor_harm_it)
    RUN(a_worker_cannot_use_the_executors_of_the_host)
    RUN(two_pools_do_not_disturb_each_other)
)
