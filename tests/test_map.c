/* cf_executor_map and cf_executor_map_array. */
#include "test.h"

#include "tasks.h"

/* An item that can do everything: count, block, fail. */
typedef struct job {
    int n;           /* result n * n; negative: fails with -n */
    gate *g;         /* blocks there                          */
    atomic_int *ran; /* counts its starts there               */
} job;

static int task_job(cf_task *task, void *arg) {
    const job *j = arg;
    CHECK_EQ(cf_task_arg_size(task), sizeof *j);
    if (j->ran != NULL) {
        atomic_fetch_add(j->ran, 1);
    }
    if (j->g != NULL) {
        gate_arrive(j->g);
        gate_await(j->g);
    }
    if (j->n < 0) {
        return cf_task_fail(task, -j->n, "item %d is bad", -j->n);
    }
    return return_int(task, j->n * j->n);
}

static void fill_jobs(job *jobs, int count, atomic_int *ran) {
    for (int i = 0; i < count; i++) {
        jobs[i] = (job){.n = i, .ran = ran};
    }
}

static void fill_ints(int *items, int count) {
    for (int i = 0; i < count; i++) {
        items[i] = i;
    }
}

/* A generator of 0, 1, 2, ... up to `end` (negative: without end). */
typedef struct source {
    int next, end;
    bool ended;
    pthread_t consumer;
} source;

static source source_to(int end) {
    return (source){.end = end, .consumer = pthread_self()};
}

static bool next_number(void *item, void *user) {
    source *s = user;
    CHECK(pthread_equal(s->consumer, pthread_self()));
    CHECK(!s->ended);
    if (s->next == s->end) {
        s->ended = true;
        return false;
    }
    *(int *)item = s->next++;
    return true;
}

static cf_map_iter *map(cf_executor *executor, cf_task_fn *fn, const void *items, size_t count,
                        size_t item_size, const cf_map_options *options) {
    cf_map_iter *iter = cf_executor_map(executor, fn, items, count, item_size, options);
    CHECK(iter != NULL);
    return iter;
}

static void next_is(cf_map_iter *iter, size_t index, int value) {
    cf_status status = CF_SYSTEM;
    const int *result = cf_map_next(iter, &status);
    CHECK_STATUS(status, CF_OK);
    CHECK(result != NULL);
    CHECK_EQ(cf_map_index(iter), index);
    CHECK_EQ(cf_map_result_size(iter), sizeof *result);
    CHECK_EQ(*result, value);
    CHECK_EQ(cf_map_error_code(iter), 0);
    CHECK_STR(cf_map_error_message(iter), "");
}

static void next_fails(cf_map_iter *iter, size_t index, cf_status expected) {
    cf_status status = CF_OK;
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, expected);
    CHECK_EQ(cf_map_index(iter), index);
    CHECK(cf_map_error_message(iter) != NULL && cf_map_error_message(iter)[0] != '\0');
    CHECK_EQ(cf_map_result_size(iter), 0);
}

static void next_says(cf_map_iter *iter, cf_status expected) {
    cf_status status = CF_OK;
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, expected);
}

static void ends(cf_map_iter *iter) {
    next_says(iter, CF_END);
    next_says(iter, CF_END);
    cf_map_close(iter);
}

/* ---------------------------------------------------------------- order and results */

static const cf_map_options shapes[] = {
    {.chunksize = 0},
    {.chunksize = 1, .buffersize = 1},
    {.chunksize = 3},
    {.chunksize = 7, .buffersize = 5},
    {.chunksize = 2, .buffersize = 7},
    {.chunksize = 20},
    {.chunksize = 100},
    {.buffersize = 3},
    {.buffersize = 19},
    {.buffersize = 20},
    {.buffersize = 21},
    {.chunksize = SIZE_MAX, .buffersize = 4},
    {.chunksize = 4, .buffersize = SIZE_MAX},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

TEST(results_come_in_the_order_of_the_items) {
    enum { COUNT = 20 };
    int items[COUNT];
    fill_ints(items, COUNT);
    for (size_t workers = 1; workers <= 3; workers++) {
        cf_executor *executor = pool(workers);
        for (size_t s = 0; s < SHAPES; s++) {
            cf_map_iter *iter =
                map(executor, task_square, items, COUNT, sizeof items[0], &shapes[s]);
            for (int i = 0; i < COUNT; i++) {
                next_is(iter, (size_t)i, i * i);
            }
            ends(iter);
        }
        cf_executor_close(executor);
    }
}

/* Maps numbers up to `end` (-1: they have none), at most `count` of them (0: all), which must be
 * `expected` ones, without a call of the generator too much. */
static void generates(int end, size_t count, int expected) {
    cf_executor *executor = pool(2);
    for (size_t s = 0; s < SHAPES; s++) {
        source numbers = source_to(end);
        cf_map_options options = shapes[s];
        options.next_item = next_number;
        options.user = &numbers;
        cf_map_iter *iter = map(executor, task_square, NULL, count, sizeof(int), &options);
        for (int i = 0; i < expected; i++) {
            next_is(iter, (size_t)i, i * i);
        }
        ends(iter);
        CHECK_EQ(numbers.next, expected);
        CHECK_EQ(numbers.ended, end == expected);
    }
    cf_executor_close(executor);
}

TEST(a_generator_gives_the_same_as_an_array) {
    generates(20, 0, 20);
}

TEST(the_count_limits_a_generator) {
    generates(-1, 13, 13);
}

TEST(a_generator_may_end_before_its_limit) {
    generates(5, 13, 5);
}

TEST(unordered_delivers_each_item_once) {
    enum { COUNT = 20 };
    int items[COUNT];
    fill_ints(items, COUNT);
    cf_executor *executor = pool(3);
    for (size_t s = 0; s < 2 * SHAPES; s++) {
        source numbers = source_to(COUNT);
        cf_map_options options = shapes[s / 2];
        bool seen[COUNT] = {false};
        options.unordered = true;
        options.next_item = s % 2 == 0 ? next_number : NULL;
        options.user = &numbers;
        const int *array = s % 2 == 0 ? NULL : items;
        cf_map_iter *iter = map(executor, task_square, array, COUNT, sizeof items[0], &options);
        for (size_t i = 0; i < COUNT; i++) {
            const int *result = cf_map_next(iter, NULL);
            CHECK(result != NULL);
            const size_t index = cf_map_index(iter);
            CHECK(index < COUNT && !seen[index]);
            CHECK_EQ(*result, index * index);
            seen[index] = true;
        }
        ends(iter);
    }
    cf_executor_close(executor);
}

TEST(the_inline_executor_maps_too) {
    enum { COUNT = 10 };
    int items[COUNT];
    fill_ints(items, COUNT);
    cf_executor *executor = inline_executor();
    for (size_t s = 0; s < SHAPES; s++) {
        cf_map_iter *iter = map(executor, task_square, items, COUNT, sizeof items[0], &shapes[s]);
        for (int i = 0; i < COUNT; i++) {
            next_is(iter, (size_t)i, i * i);
        }
        ends(iter);
    }
    cf_executor_close(executor);
}

TEST(no_items_end_at_once) {
    cf_executor *executor = pool(1);
    const int item = 1;
    source numbers = source_to(0);
    const cf_map_options generator = {.next_item = next_number, .user = &numbers};
    ends(map(executor, task_square, &item, 0, sizeof item, NULL));
    ends(map(executor, task_square, NULL, 0, sizeof item, NULL));
    ends(map(executor, task_square, NULL, 0, 0, NULL));
    ends(map(executor, task_square, NULL, 0, sizeof item, &generator));
    CHECK_EQ(stats_of(executor).submitted, 0);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    ends(map(executor, task_square, &item, 0, sizeof item, NULL));
    cf_executor_close(executor);
}

TEST(the_items_are_copied) {
    enum { COUNT = 10 };
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    int items[COUNT];
    occupy(executor, 1, &g);
    for (size_t chunksize = 1; chunksize <= 4; chunksize += 3) {
        for (size_t buffersize = 0; buffersize <= 4; buffersize += 4) {
            fill_ints(items, COUNT);
            cf_map_iter *iter =
                map(executor, task_square, items, COUNT, sizeof items[0],
                    &(cf_map_options){.chunksize = chunksize, .buffersize = buffersize});
            memset(items, 0x5a, sizeof items);
            gate_open(&g);
            for (int i = 0; i < COUNT; i++) {
                next_is(iter, (size_t)i, i * i);
            }
            ends(iter);
        }
    }
    cf_executor_close(executor);
}

TEST(map_runs_everything_without_being_iterated) {
    enum { COUNT = 20 };
    atomic_int ran = 0;
    job jobs[COUNT];
    fill_jobs(jobs, COUNT, &ran);
    cf_executor *executor = pool(2);
    cf_map_iter *iter = map(executor, task_job, jobs, COUNT, sizeof jobs[0], NULL);
    cf_executor_close(executor);
    CHECK_EQ(atomic_load(&ran), COUNT);
    cf_map_close(iter);
}

TEST(an_iterator_may_outlive_its_executor) {
    enum { COUNT = 20 };
    int items[COUNT];
    fill_ints(items, COUNT);
    for (size_t chunksize = 1; chunksize <= 8; chunksize += 7) {
        cf_executor *executor = pool(2);
        cf_map_iter *iter = map(executor, task_square, items, COUNT, sizeof items[0],
                                &(cf_map_options){.chunksize = chunksize});
        next_is(iter, 0, 0);
        cf_executor_close(executor);
        for (int i = 1; i < COUNT; i++) {
            next_is(iter, (size_t)i, i * i);
        }
        ends(iter);
    }
}

TEST(map_returns_before_its_tasks_end) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    const job jobs[2] = {{.n = 1, .g = &g}, {.n = 2}};
    cf_map_iter *iter = map(executor, task_job, jobs, 2, sizeof jobs[0], NULL);
    gate_open(&g);
    next_is(iter, 0, 1);
    next_is(iter, 1, 4);
    ends(iter);
    cf_executor_close(executor);
}

/* int n: n bytes of value n, in one of four ways. */
static int task_bytes(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    unsigned char bytes[64];
    memset(bytes, n, sizeof bytes);
    if (n % 4 == 0) {
        return cf_task_return(task, bytes, (size_t)n);
    }
    if (n % 4 == 1) {
        void *buffer = cf_task_result_buffer(task, (size_t)n);
        CHECK(buffer != NULL);
        memset(buffer, n, (size_t)n);
        return 0;
    }
    if (n % 4 == 2) {
        void *owned = malloc((size_t)n);
        CHECK(owned != NULL);
        memset(owned, n, (size_t)n);
        return cf_task_return_owned(task, owned, (size_t)n, free);
    }
    CHECK_EQ(cf_task_return(task, bytes, sizeof bytes), 0);
    return cf_task_return(task, bytes, (size_t)n);
}

TEST(each_result_has_its_own_size) {
    enum { COUNT = 60 };
    int items[COUNT];
    fill_ints(items, COUNT);
    cf_executor *executor = pool(2);
    for (size_t s = 0; s < SHAPES; s++) {
        cf_map_iter *iter = map(executor, task_bytes, items, COUNT, sizeof items[0], &shapes[s]);
        for (int i = 0; i < COUNT; i++) {
            const unsigned char *bytes = cf_map_next(iter, NULL);
            CHECK(bytes != NULL);
            CHECK_EQ((uintptr_t)bytes % _Alignof(max_align_t), 0);
            CHECK_EQ(cf_map_result_size(iter), i);
            for (int k = 0; k < i; k++) {
                CHECK_EQ(bytes[k], i);
            }
        }
        ends(iter);
    }
    cf_executor_close(executor);
}

TEST(a_task_without_a_result_is_delivered) {
    cf_executor *executor = pool(1);
    const int items[3] = {1, 2, 3};
    cf_map_iter *iter = map(executor, task_nothing, items, 3, sizeof items[0], NULL);
    for (size_t i = 0; i < 3; i++) {
        cf_status status = CF_SYSTEM;
        CHECK(cf_map_next(iter, &status) != NULL);
        CHECK_STATUS(status, CF_OK);
        CHECK_EQ(cf_map_index(iter), i);
        CHECK_EQ(cf_map_result_size(iter), 0);
    }
    ends(iter);
    cf_executor_close(executor);
}

TEST(a_result_is_valid_until_the_next_call) {
    enum { COUNT = 8 };
    int items[COUNT];
    fill_ints(items, COUNT);
    for (size_t chunksize = 1; chunksize <= 3; chunksize++) {
        cf_executor *executor = pool(2);
        cf_map_iter *iter = map(executor, task_square, items, COUNT, sizeof items[0],
                                &(cf_map_options){.chunksize = chunksize});
        CHECK(cf_map_next(iter, NULL) != NULL);
        const int *second = cf_map_next(iter, NULL);
        CHECK(second != NULL);
        cf_executor_close(executor);
        CHECK_EQ(*second, 1);
        CHECK_EQ(cf_map_index(iter), 1);
        CHECK_EQ(cf_map_result_size(iter), sizeof *second);
        cf_map_close(iter);
    }
}

static atomic_int freed;

static void count_free(void *ptr) {
    atomic_fetch_add(&freed, 1);
    free(ptr);
}

static int task_owned(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    int *owned = malloc(sizeof *owned);
    CHECK(owned != NULL);
    *owned = n * n;
    return cf_task_return_owned(task, owned, sizeof *owned, count_free);
}

TEST(a_delivered_result_is_freed_by_the_next_call) {
    enum { COUNT = 10 };
    int items[COUNT];
    fill_ints(items, COUNT);
    cf_executor *executor = pool(2);
    for (size_t chunksize = 1; chunksize <= 4; chunksize++) {
        atomic_store(&freed, 0);
        cf_map_iter *iter = map(executor, task_owned, items, COUNT, sizeof items[0],
                                &(cf_map_options){.chunksize = chunksize});
        for (int i = 0; i < COUNT; i++) {
            next_is(iter, (size_t)i, i * i);
            CHECK_EQ(atomic_load(&freed), i);
        }
        ends(iter);
        CHECK_EQ(atomic_load(&freed), COUNT);
    }
    cf_executor_close(executor);
}

TEST(owned_results_are_freed_once_also_undelivered_and_in_chunks) {
    enum { COUNT = 10 };
    int items[COUNT];
    fill_ints(items, COUNT);
    for (size_t chunksize = 1; chunksize <= 4; chunksize++) {
        for (int delivered = 0; delivered <= COUNT; delivered += 5) {
            atomic_store(&freed, 0);
            cf_executor *executor = pool(2);
            cf_map_iter *iter = map(executor, task_owned, items, COUNT, sizeof items[0],
                                    &(cf_map_options){.chunksize = chunksize});
            for (int i = 0; i < delivered; i++) {
                next_is(iter, (size_t)i, i * i);
            }
            cf_executor_close(executor);
            cf_map_close(iter);
            CHECK_EQ(atomic_load(&freed), COUNT);
        }
    }
}

static int task_address(cf_task *task, void *arg) {
    CHECK_EQ(cf_task_arg_size(task), 0);
    atomic_fetch_add((atomic_int *)arg, 1);
    return cf_task_return(task, &arg, sizeof arg);
}

TEST(item_size_zero_gives_every_task_the_pointer) {
    cf_executor *executor = pool(2);
    for (size_t chunksize = 1; chunksize <= 4; chunksize += 3) {
        atomic_int count = 0;
        cf_map_iter *iter = map(executor, task_address, &count, 10, 0,
                                &(cf_map_options){.chunksize = chunksize});
        for (size_t i = 0; i < 10; i++) {
            void *const *address = cf_map_next(iter, NULL);
            CHECK(address != NULL && *address == &count);
        }
        ends(iter);
        CHECK_EQ(atomic_load(&count), 10);
    }
    cf_executor_close(executor);
}

TEST(a_chunk_is_one_task) {
    enum { COUNT = 20 };
    int items[COUNT];
    fill_ints(items, COUNT);
    const size_t tasks[] = {20, 20, 10, 7, 5, 4, 4, 3, 3, 3, 2};
    for (size_t chunksize = 0; chunksize < sizeof tasks / sizeof tasks[0]; chunksize++) {
        cf_executor *executor = pool(2);
        cf_map_iter *iter = map(executor, task_square, items, COUNT, sizeof items[0],
                                &(cf_map_options){.chunksize = chunksize});
        CHECK_EQ(stats_of(executor).submitted, tasks[chunksize]);
        for (int i = 0; i < COUNT; i++) {
            next_is(iter, (size_t)i, i * i);
        }
        ends(iter);
        CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
        CHECK_EQ(stats_of(executor).finished, tasks[chunksize]);
        cf_executor_close(executor);
    }
}

TEST(a_hundred_thousand_items_take_linear_time) {
    enum { COUNT = 100000 };
    int *items = malloc(COUNT * sizeof *items);
    CHECK(items != NULL);
    for (int i = 0; i < COUNT; i++) {
        items[i] = i % 1000;
    }
    cf_executor *executor = pool(2);
    for (size_t s = 0; s < 4; s++) {
        const cf_map_options options = {.chunksize = s % 2 == 0 ? 1 : 1000, .unordered = s >= 2};
        const int64_t start = cpu_time();
        cf_map_iter *iter = map(executor, task_square, items, COUNT, sizeof *items, &options);
        for (size_t i = 0; i < COUNT; i++) {
            const int *result = cf_map_next(iter, NULL);
            CHECK(result != NULL);
            const int n = items[cf_map_index(iter)];
            CHECK_EQ(*result, n * n);
        }
        ends(iter);
        CHECK(cpu_time() - start < limit(5));
    }
    cf_executor_close(executor);
    free(items);
}

static void *map_in_a_thread(void *arg) {
    enum { COUNT = 200 };
    int items[COUNT];
    fill_ints(items, COUNT);
    cf_map_iter *iter = map(arg, task_square, items, COUNT, sizeof items[0],
                            &(cf_map_options){.buffersize = 10, .chunksize = 3});
    for (int i = 0; i < COUNT; i++) {
        next_is(iter, (size_t)i, i * i);
    }
    ends(iter);
    return NULL;
}

TEST(threads_may_map_over_one_pool_at_once) {
    enum { THREADS = 4 };
    cf_executor *executor = pool(2);
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        spawn(&threads[i], map_in_a_thread, executor);
    }
    for (size_t i = 0; i < THREADS; i++) {
        join(threads[i]);
    }
    cf_executor_close(executor);
}

static void *consume_and_close(void *arg) {
    for (int i = 1; i < 10; i++) {
        next_is(arg, (size_t)i, i * i);
    }
    ends(arg);
    return NULL;
}

TEST(an_iterator_may_change_its_thread) {
    int items[10];
    fill_ints(items, 10);
    cf_executor *executor = pool(2);
    for (size_t s = 0; s < SHAPES; s++) {
        pthread_t thread;
        cf_map_iter *iter = map(executor, task_square, items, 10, sizeof items[0], &shapes[s]);
        next_is(iter, 0, 0);
        spawn(&thread, consume_and_close, iter);
        join(thread);
    }
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- head of the line */

TEST(a_slow_first_item_blocks_the_ordered_ones) {
    enum { COUNT = 5 };
    cf_executor *executor = pool(2);
    gate g = GATE_INIT;
    job jobs[COUNT];
    fill_jobs(jobs, COUNT, NULL);
    jobs[0].g = &g;
    const cf_map_options options = {.timeout = 30 * CF_MILLISECOND};
    cf_map_iter *iter = map(executor, task_job, jobs, COUNT, sizeof jobs[0], &options);
    UNTIL(stats_of(executor).finished == COUNT - 1);
    next_says(iter, CF_TIMEOUT);
    gate_open(&g);
    ends(iter);
    iter = map(executor, task_job, jobs, COUNT, sizeof jobs[0], NULL);
    for (int i = 0; i < COUNT; i++) {
        next_is(iter, (size_t)i, i * i);
    }
    ends(iter);
    cf_executor_close(executor);
}

TEST(a_slow_first_item_does_not_block_unordered_ones) {
    enum { COUNT = 5 };
    cf_executor *executor = pool(2);
    gate g = GATE_INIT;
    job jobs[COUNT];
    fill_jobs(jobs, COUNT, NULL);
    jobs[0].g = &g;
    cf_map_iter *iter = map(executor, task_job, jobs, COUNT, sizeof jobs[0],
                            &(cf_map_options){.unordered = true});
    gate_await_arrivals(&g, 1);
    for (int i = 1; i < COUNT; i++) {
        next_is(iter, (size_t)i, i * i); /* one free worker: they end in order */
    }
    gate_open(&g);
    next_is(iter, 0, 0);
    ends(iter);
    cf_executor_close(executor);
}

static gate blocked_at_zero = GATE_INIT;

static int task_block_at_zero(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n == 0) {
        gate_await(&blocked_at_zero);
    }
    return return_int(task, n * n);
}

TEST(a_slow_first_item_does_not_block_an_unordered_generator) {
    cf_executor *executor = pool(2);
    source numbers = source_to(-1);
    const cf_map_options options = {
        .buffersize = 3, .unordered = true, .next_item = next_number, .user = &numbers};
    cf_map_iter *iter = map(executor, task_block_at_zero, NULL, 50, sizeof(int), &options);
    for (int i = 1; i < 50; i++) {
        next_is(iter, (size_t)i, i * i);
    }
    gate_open(&blocked_at_zero);
    next_is(iter, 0, 0);
    ends(iter);
    CHECK_EQ(numbers.next, 50);
    cf_executor_close(executor);
}

/* What was submitted is delivered; what the generator gives later is refused, and touches nothing freed. */
TEST(a_generator_that_outlives_its_executor_ends_with_a_refusal) {
    cf_executor *executor = pool(1);
    source numbers = source_to(-1);
    const cf_map_options options = {.buffersize = 2, .next_item = next_number, .user = &numbers};
    cf_map_iter *iter = map(executor, task_square, NULL, 50, sizeof(int), &options);
    next_is(iter, 0, 0);
    cf_executor_close(executor);
    next_is(iter, 1, 1);
    next_is(iter, 2, 4);
    cf_status status = CF_OK;
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_SHUTDOWN);
    ends(iter);
}

/* ---------------------------------------------------------------- errors of items */

TEST(a_failing_item_fails_alone) {
    enum { COUNT = 20 };
    job jobs[COUNT];
    fill_jobs(jobs, COUNT, NULL);
    jobs[0].n = -41;
    jobs[7].n = -42;
    jobs[8].n = -43;
    jobs[19].n = -44;
    cf_executor *executor = pool(2);
    for (size_t s = 0; s < SHAPES; s++) {
        cf_map_iter *iter = map(executor, task_job, jobs, COUNT, sizeof jobs[0], &shapes[s]);
        for (int i = 0; i < COUNT; i++) {
            if (jobs[i].n >= 0) {
                next_is(iter, (size_t)i, i * i);
                continue;
            }
            char message[40];
            snprintf(message, sizeof message, "item %d is bad", -jobs[i].n);
            next_fails(iter, (size_t)i, CF_TASK_FAILED);
            CHECK_EQ(cf_map_error_code(iter), -jobs[i].n);
            CHECK_STR(cf_map_error_message(iter), message);
        }
        ends(iter);
    }
    cf_executor_close(executor);
}

static int task_return_and_fail(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    CHECK_EQ(return_int(task, n), 0);
    return n % 2;
}

TEST(a_failure_discards_the_result_also_in_a_chunk) {
    enum { COUNT = 10 };
    int items[COUNT];
    fill_ints(items, COUNT);
    cf_executor *executor = pool(2);
    for (size_t s = 0; s < SHAPES; s++) {
        cf_map_iter *iter =
            map(executor, task_return_and_fail, items, COUNT, sizeof items[0], &shapes[s]);
        for (int i = 0; i < COUNT; i++) {
            if (i % 2 == 0) {
                next_is(iter, (size_t)i, i);
            } else {
                next_fails(iter, (size_t)i, CF_TASK_FAILED);
                CHECK_EQ(cf_map_error_code(iter), 1);
            }
        }
        ends(iter);
    }
    cf_executor_close(executor);
}

TEST(unordered_failures_carry_their_index) {
    enum { COUNT = 20 };
    job jobs[COUNT];
    fill_jobs(jobs, COUNT, NULL);
    jobs[4].n = -4;
    jobs[5].n = -5;
    cf_executor *executor = pool(3);
    for (size_t chunksize = 1; chunksize <= 6; chunksize += 5) {
        cf_map_iter *iter =
            map(executor, task_job, jobs, COUNT, sizeof jobs[0],
                &(cf_map_options){.unordered = true, .chunksize = chunksize});
        size_t failures = 0;
        for (size_t i = 0; i < COUNT; i++) {
            cf_status status = CF_SYSTEM;
            const int *result = cf_map_next(iter, &status);
            const size_t index = cf_map_index(iter);
            if (result == NULL) {
                CHECK_STATUS(status, CF_TASK_FAILED);
                CHECK(index == 4 || index == 5);
                CHECK_EQ(cf_map_error_code(iter), index);
                failures++;
            } else {
                CHECK_EQ(*result, index * index);
            }
        }
        CHECK_EQ(failures, 2);
        ends(iter);
    }
    cf_executor_close(executor);
}

/* One worker: when item 5 has failed, item 6 may start before the consumer hears of it; it stands
 * at the gate until the iteration has ended, so that the others are seen to be cancelled. */
TEST(stop_on_error_ends_the_iteration_and_cancels_the_rest) {
    enum { COUNT = 20 };
    for (int unordered = 0; unordered < 2; unordered++) {
        cf_executor *executor = pool(1);
        gate g = GATE_INIT;
        atomic_int ran = 0;
        job jobs[COUNT];
        fill_jobs(jobs, COUNT, &ran);
        jobs[5].n = -5;
        jobs[6].g = &g;
        cf_map_iter *iter =
            map(executor, task_job, jobs, COUNT, sizeof jobs[0],
                &(cf_map_options){.stop_on_error = true, .unordered = unordered != 0});
        for (int i = 0; i < 5; i++) {
            next_is(iter, (size_t)i, i * i);
        }
        next_fails(iter, 5, CF_TASK_FAILED);
        CHECK_EQ(cf_map_error_code(iter), 5);
        next_says(iter, CF_END);
        gate_open(&g);
        cf_executor_close(executor);
        CHECK(atomic_load(&ran) <= 7);
        ends(iter);
    }
}

TEST(stop_on_error_ends_within_a_chunk) {
    enum { COUNT = 12 };
    cf_executor *executor = pool(1);
    job jobs[COUNT];
    fill_jobs(jobs, COUNT, NULL);
    jobs[5].n = -5;
    cf_map_iter *iter = map(executor, task_job, jobs, COUNT, sizeof jobs[0],
                            &(cf_map_options){.stop_on_error = true, .chunksize = 4});
    for (int i = 0; i < 5; i++) {
        next_is(iter, (size_t)i, i * i);
    }
    next_fails(iter, 5, CF_TASK_FAILED);
    ends(iter);
    cf_executor_close(executor);
}

static int task_fail_at_three(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    return n == 3 ? cf_task_fail(task, 3, "three") : return_int(task, n * n);
}

TEST(stop_on_error_pulls_no_further_items) {
    cf_executor *executor = pool(2);
    source numbers = source_to(-1);
    const cf_map_options options = {
        .buffersize = 2, .stop_on_error = true, .next_item = next_number, .user = &numbers};
    cf_map_iter *iter = map(executor, task_fail_at_three, NULL, 0, sizeof(int), &options);
    for (int i = 0; i < 3; i++) {
        next_is(iter, (size_t)i, i * i);
    }
    next_fails(iter, 3, CF_TASK_FAILED);
    CHECK_STR(cf_map_error_message(iter), "three");
    const int pulled = numbers.next;
    CHECK(pulled <= 6);
    ends(iter);
    CHECK_EQ(numbers.next, pulled);
    cf_executor_close(executor);
}

static void count_unread(cf_future *future, void *user) {
    CHECK_STATUS(cf_future_wait(future, 0), CF_TASK_FAILED);
    atomic_fetch_add((atomic_int *)user, 1);
}

TEST(undelivered_errors_are_reported_one_by_one) {
    enum { COUNT = 10 };
    for (size_t chunksize = 1; chunksize <= 4; chunksize++) {
        for (int delivered = 0; delivered <= COUNT; delivered += 5) {
            atomic_int unread = 0;
            job jobs[COUNT];
            cf_executor *executor = pool_with(&(cf_pool_options){
                .max_workers = 1, .on_unread_error = count_unread, .user = &unread});
            for (int i = 0; i < COUNT; i++) {
                jobs[i] = (job){.n = -1 - i};
            }
            cf_map_iter *iter = map(executor, task_job, jobs, COUNT, sizeof jobs[0],
                                    &(cf_map_options){.chunksize = chunksize});
            for (int i = 0; i < delivered; i++) {
                next_fails(iter, (size_t)i, CF_TASK_FAILED);
            }
            CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
            cf_map_close(iter);
            cf_executor_close(executor);
            CHECK_EQ(atomic_load(&unread), COUNT - delivered);
        }
    }
}

typedef struct kept {
    cf_future *futures[8];
    size_t count;
} kept;

static void keep_unread(cf_future *future, void *user) {
    kept *k = user;
    k->futures[k->count++] = cf_future_retain(future);
}

/* Half of the messages do not fit into a future. */
static int task_explain(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    return cf_task_fail(task, n, "%*d", n % 2 == 1 ? 200 : 3, n);
}

TEST(the_future_of_an_unread_item_may_be_kept) {
    enum { COUNT = 8 };
    const int items[COUNT] = {1, 2, 3, 4, 5, 6, 7, 8};
    for (int refused = 0; refused < 2; refused++) {
        kept k = {.count = 0};
        cf_executor *executor = pool_with(&(cf_pool_options){
            .max_workers = 1, .on_unread_error = keep_unread, .user = &k});
        if (refused == 1) {
            CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
        }
        cf_map_iter *iter = map(executor, task_explain, items, COUNT, sizeof items[0],
                                &(cf_map_options){.chunksize = 4});
        CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
        cf_map_close(iter);
        cf_executor_close(executor);
        CHECK_EQ(k.count, COUNT);
        for (size_t i = 0; i < COUNT; i++) {
            CHECK_STATUS(outcome(k.futures[i]), refused == 1 ? CF_SHUTDOWN : CF_TASK_FAILED);
            CHECK_EQ(cf_future_error_code(k.futures[i]), refused == 1 ? 0 : items[i]);
            if (refused == 0) {
                CHECK_EQ(atoi(cf_future_error_message(k.futures[i])), items[i]);
            }
            cf_future_release(k.futures[i]);
        }
    }
}

static void count_refused(cf_future *future, void *user) {
    CHECK_STATUS(cf_future_wait(future, 0), CF_SHUTDOWN);
    atomic_fetch_add((atomic_int *)user, 1);
}

TEST(undelivered_refusals_are_reported_one_by_one) {
    enum { COUNT = 6 };
    int items[COUNT];
    fill_ints(items, COUNT);
    for (size_t chunksize = 1; chunksize <= 4; chunksize++) {
        for (int delivered = 0; delivered <= COUNT; delivered++) {
            atomic_int unread = 0;
            cf_executor *executor =
                pool_with(&(cf_pool_options){.on_unread_error = count_refused, .user = &unread});
            CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
            cf_map_iter *iter = map(executor, task_square, items, COUNT, sizeof items[0],
                                    &(cf_map_options){.chunksize = chunksize});
            for (int i = 0; i < delivered; i++) {
                next_fails(iter, (size_t)i, CF_SHUTDOWN);
            }
            cf_map_close(iter);
            cf_executor_close(executor);
            CHECK_EQ(atomic_load(&unread), COUNT - delivered);
        }
    }
}

TEST(cancelled_items_are_never_reported_as_unread) {
    cf_executor *blocked;
    atomic_int unread = 0;
    gate g = GATE_INIT;
    const job jobs[5] = {{.n = -1}, {.n = -2}, {.n = -3}, {.n = -4}, {.n = -5}};
    blocked = pool_with(&(cf_pool_options){
        .max_workers = 1, .on_unread_error = count_unread, .user = &unread});
    occupy(blocked, 1, &g);
    cf_map_close(map(blocked, task_job, jobs, 5, sizeof jobs[0], NULL));
    gate_open(&g);
    cf_executor_close(blocked);
    CHECK_EQ(atomic_load(&unread), 0);
}

static int task_block_and_fail(cf_task *task, void *arg) {
    return task_block(task, *(gate **)arg) + cf_task_fail(task, 1, "it failed");
}

TEST(errors_of_items_that_run_when_the_map_is_closed_are_reported) {
    atomic_int unread = 0;
    gate g = GATE_INIT, *const item = &g;
    cf_executor *executor = pool_with(&(cf_pool_options){
        .max_workers = 1, .on_unread_error = count_unread, .user = &unread});
    cf_map_iter *iter = map(executor, task_block_and_fail, &item, 1, sizeof item, NULL);
    gate_await_arrivals(&g, 1);
    cf_map_close(iter);
    gate_open(&g);
    cf_executor_close(executor);
    CHECK_EQ(atomic_load(&unread), 1);
}

/* ---------------------------------------------------------------- the deadline */

TEST(a_timeout_ends_the_iteration_and_cancels_the_rest) {
    enum { COUNT = 10 };
    for (int unordered = 0; unordered < 2; unordered++) {
        cf_executor *executor = pool(1);
        gate g = GATE_INIT;
        atomic_int ran = 0;
        job jobs[COUNT];
        fill_jobs(jobs, COUNT, &ran);
        jobs[1].g = &g;
        const cf_map_options options = {.timeout = 30 * CF_MILLISECOND,
                                        .unordered = unordered != 0};
        const int64_t start = now();
        cf_map_iter *iter = map(executor, task_job, jobs, COUNT, sizeof jobs[0], &options);
        gate_await_arrivals(&g, 1);
        next_is(iter, 0, 0);
        next_says(iter, CF_TIMEOUT);
        CHECK(now() - start >= 30 * CF_MILLISECOND);
        CHECK(now() - start < limit(5));
        next_says(iter, CF_END);
        gate_open(&g);
        cf_executor_close(executor);
        CHECK_EQ(atomic_load(&ran), 2);
        ends(iter);
    }
}

TEST(what_is_ready_is_delivered_after_the_deadline) {
    enum { COUNT = 10 };
    int items[COUNT];
    fill_ints(items, COUNT);
    for (size_t chunksize = 1; chunksize <= 4; chunksize += 3) {
        cf_executor *executor = pool(2);
        const cf_map_options options = {.timeout = 5 * CF_MILLISECOND, .chunksize = chunksize};
        cf_map_iter *iter = map(executor, task_square, items, COUNT, sizeof items[0], &options);
        CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
        sleep_for(6 * CF_MILLISECOND);
        for (int i = 0; i < COUNT; i++) {
            next_is(iter, (size_t)i, i * i);
        }
        ends(iter);
        cf_executor_close(executor);
    }
}

TEST(an_unordered_map_delivers_all_that_is_ready_before_the_timeout) {
    enum { COUNT = 4 };
    cf_executor *executor = pool(2);
    gate g = GATE_INIT;
    atomic_int ran = 0;
    job jobs[COUNT];
    fill_jobs(jobs, COUNT, &ran);
    jobs[0].g = &g;
    const cf_map_options options = {.timeout = 5 * CF_MILLISECOND, .unordered = true};
    cf_map_iter *iter = map(executor, task_job, jobs, COUNT, sizeof jobs[0], &options);
    UNTIL(stats_of(executor).finished == COUNT - 1);
    sleep_for(6 * CF_MILLISECOND);
    for (int i = 1; i < COUNT; i++) {
        next_is(iter, (size_t)i, i * i);
    }
    next_says(iter, CF_TIMEOUT);
    gate_open(&g);
    ends(iter);
    cf_executor_close(executor);
}

TEST(the_deadline_runs_from_the_call) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    const job blocked = {.g = &g};
    const cf_map_options options = {.timeout = 300 * CF_MILLISECOND};
    cf_map_iter *iter = map(executor, task_job, &blocked, 1, sizeof blocked, &options);
    sleep_for(310 * CF_MILLISECOND);
    const int64_t start = now();
    next_says(iter, CF_TIMEOUT);
    CHECK(now() - start < 290 * CF_MILLISECOND);
    gate_open(&g);
    ends(iter);
    cf_executor_close(executor);
}

static void *open_after_a_while(void *arg) {
    sleep_for(15 * CF_MILLISECOND);
    gate_open(arg);
    return NULL;
}

TEST(a_timeout_of_zero_or_less_or_of_ages_is_none) {
    const cf_duration timeouts[] = {0, CF_FOREVER, -5, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
        cf_executor *executor = pool(1);
        gate g = GATE_INIT;
        pthread_t opener;
        const job blocked = {.n = 3, .g = &g};
        const cf_map_options options = {.timeout = timeouts[i]};
        cf_map_iter *iter = map(executor, task_job, &blocked, 1, sizeof blocked, &options);
        spawn(&opener, open_after_a_while, &g);
        next_is(iter, 0, 9);
        ends(iter);
        join(opener);
        cf_executor_close(executor);
    }
}

TEST(a_timeout_ends_an_endless_generator) {
    cf_executor *executor = pool(2);
    source numbers = source_to(-1);
    const cf_map_options options = {.timeout = 20 * CF_MILLISECOND,
                                    .buffersize = 4,
                                    .next_item = next_number,
                                    .user = &numbers};
    cf_map_iter *iter = map(executor, task_block_at_zero, NULL, 0, sizeof(int), &options);
    next_says(iter, CF_TIMEOUT);
    const int pulled = numbers.next;
    CHECK_EQ(pulled, 4);
    gate_open(&blocked_at_zero);
    ends(iter);
    CHECK_EQ(numbers.next, pulled);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- the buffer */

TEST(the_buffer_bounds_what_is_pulled) {
    for (size_t chunksize = 1; chunksize <= 9; chunksize += 4) {
        for (int buffersize = 1; buffersize <= 9; buffersize += 4) {
            cf_executor *executor = pool(2);
            source numbers = source_to(-1);
            const cf_map_options options = {.buffersize = (size_t)buffersize,
                                            .chunksize = chunksize,
                                            .next_item = next_number,
                                            .user = &numbers};
            cf_map_iter *iter = map(executor, task_square, NULL, 0, sizeof(int), &options);
            CHECK(numbers.next <= buffersize);
            CHECK(chunksize > 1 || numbers.next == buffersize);
            for (int i = 0; i < 30; i++) {
                next_is(iter, (size_t)i, i * i);
                CHECK(numbers.next <= i + 1 + buffersize);
                CHECK(chunksize > 1 || numbers.next == i + 1 + buffersize);
            }
            cf_map_close(iter);
            cf_executor_close(executor);
        }
    }
}

TEST(the_buffer_bounds_what_runs_ahead) {
    enum { COUNT = 60, AHEAD = 3 };
    cf_executor *executor = pool(4);
    atomic_int ran = 0;
    job jobs[COUNT];
    fill_jobs(jobs, COUNT, &ran);
    for (int unordered = 0; unordered < 2; unordered++) {
        atomic_store(&ran, 0);
        const cf_map_options options = {.buffersize = AHEAD, .unordered = unordered != 0};
        cf_map_iter *iter = map(executor, task_job, jobs, COUNT, sizeof jobs[0], &options);
        for (int i = 0; i < COUNT; i++) {
            CHECK(atomic_load(&ran) <= i + AHEAD);
            CHECK(cf_map_next(iter, NULL) != NULL);
        }
        ends(iter);
    }
    cf_executor_close(executor);
}

TEST(all_at_once_without_a_buffer) {
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    source numbers = source_to(25);
    occupy(executor, 1, &g);
    const cf_map_options options = {.next_item = next_number, .user = &numbers};
    cf_map_iter *iter = map(executor, task_square, NULL, 0, sizeof(int), &options);
    CHECK(numbers.ended);
    CHECK_EQ(stats_of(executor).submitted, 26);
    gate_open(&g);
    for (int i = 0; i < 25; i++) {
        next_is(iter, (size_t)i, i * i);
    }
    ends(iter);
    cf_executor_close(executor);
}

TEST(a_chunk_is_cut_to_the_buffer) {
    enum { COUNT = 12 };
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    int items[COUNT];
    fill_ints(items, COUNT);
    occupy(executor, 1, &g);
    const cf_map_options options = {.chunksize = 100, .buffersize = 4};
    cf_map_iter *iter = map(executor, task_square, items, COUNT, sizeof items[0], &options);
    CHECK_EQ(stats_of(executor).submitted, 2); /* the blocker and a chunk of four */
    gate_open(&g);
    for (int i = 0; i < COUNT; i++) {
        next_is(iter, (size_t)i, i * i);
    }
    ends(iter);
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- close */

TEST(close_cancels_what_has_not_started) {
    enum { COUNT = 10 };
    for (int delivered = 0; delivered < 3; delivered++) {
        cf_executor *executor = pool(1);
        gate g = GATE_INIT;
        atomic_int ran = 0;
        job jobs[COUNT];
        fill_jobs(jobs, COUNT, &ran);
        jobs[delivered].g = &g;
        cf_map_iter *iter = map(executor, task_job, jobs, COUNT, sizeof jobs[0], NULL);
        for (int i = 0; i < delivered; i++) {
            next_is(iter, (size_t)i, i * i);
        }
        gate_await_arrivals(&g, 1);
        cf_map_close(iter);
        gate_open(&g);
        CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
        CHECK_EQ(atomic_load(&ran), delivered + 1);
        const cf_stats stats = stats_of(executor);
        CHECK_EQ(stats.cancelled, COUNT - delivered - 1);
        CHECK_EQ(stats.finished, delivered + 1);
        cf_executor_close(executor);
    }
}

TEST(close_cancels_whole_chunks) {
    enum { COUNT = 20, CHUNK = 5 };
    cf_executor *executor = pool(1);
    gate g = GATE_INIT;
    atomic_int ran = 0;
    job jobs[COUNT];
    fill_jobs(jobs, COUNT, &ran);
    jobs[0].g = &g;
    cf_map_iter *iter = map(executor, task_job, jobs, COUNT, sizeof jobs[0],
                            &(cf_map_options){.chunksize = CHUNK});
    gate_await_arrivals(&g, 1);
    cf_map_close(iter);
    gate_open(&g);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK(atomic_load(&ran) >= 1 && atomic_load(&ran) <= CHUNK);
    CHECK_EQ(stats_of(executor).cancelled, COUNT / CHUNK - 1);
    cf_executor_close(executor);
}

TEST(close_races_with_the_workers) {
    enum { COUNT = 12 };
    cf_executor *executor = pool(2);
    for (size_t round = 0; round < 300; round++) {
        atomic_store(&freed, 0);
        int items[COUNT];
        fill_ints(items, COUNT);
        const cf_map_options options = {.chunksize = round % 4,
                                        .buffersize = round % 5 * 2,
                                        .unordered = round % 3 == 0};
        cf_map_iter *iter = map(executor, task_owned, items, COUNT, sizeof items[0], &options);
        for (size_t i = 0; i < round % COUNT; i++) {
            CHECK(cf_map_next(iter, NULL) != NULL);
        }
        cf_map_close(iter);
    }
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    const cf_stats stats = stats_of(executor);
    CHECK_EQ(stats.submitted, stats.finished + stats.cancelled);
    cf_executor_close(executor);
}

TEST(null_iterators_are_legal) {
    next_says(NULL, CF_INVALID);
    CHECK(cf_map_next(NULL, NULL) == NULL);
    CHECK(cf_map_error_message(NULL) != NULL);
    CHECK_EQ(cf_map_error_code(NULL), 0);
    CHECK_EQ(cf_map_result_size(NULL), 0);
    CHECK_EQ(cf_map_index(NULL), 0);
    cf_map_close(NULL);
}

/* ---------------------------------------------------------------- refusals */

static void is_refused(cf_executor *executor, cf_task_fn *fn, const void *items, size_t count,
                       size_t item_size) {
    cf_map_iter *iter = cf_executor_map(executor, fn, items, count, item_size, NULL);
    CHECK(iter == NULL);
    next_says(iter, CF_INVALID);
    cf_map_close(iter);
}

TEST(bad_arguments_give_null_which_says_invalid) {
    cf_executor *executor = pool(1);
    const int item = 1;
    is_refused(NULL, task_square, &item, 1, sizeof item);
    is_refused(executor, NULL, &item, 1, sizeof item);
    is_refused(executor, task_square, NULL, 1, sizeof item);
    is_refused(executor, task_square, &item, SIZE_MAX, sizeof item);
    is_refused(executor, task_square, &item, SIZE_MAX / 2 + 1, 2);
    is_refused(executor, task_square, &item, 3, SIZE_MAX / 2);
    cf_executor_close(executor);
}

static bool never_called(void *item, void *user) {
    (void)item, (void)user;
    CHECK(false);
    return false;
}

TEST(a_generator_of_items_larger_than_memory_is_not_called) {
    cf_executor *executor = pool(1);
    const cf_map_options options = {.next_item = never_called};
    for (size_t less = 0; less < 64; less += 3) {
        CHECK(cf_executor_map(executor, task_square, NULL, 1, SIZE_MAX - less, &options) == NULL);
    }
    cf_executor_close(executor);
}

TEST(items_are_an_array_or_come_from_a_generator_but_not_both) {
    cf_executor *executor = pool(1);
    const int item = 1;
    const cf_map_options options = {.next_item = never_called};
    CHECK(cf_executor_map(executor, task_square, &item, 1, sizeof item, &options) == NULL);
    cf_executor_close(executor);
}

TEST(after_a_shutdown_each_item_of_an_array_is_an_error) {
    cf_executor *executor = pool(1);
    const int items[5] = {1, 2, 3, 4, 5};
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    for (size_t chunksize = 1; chunksize <= 3; chunksize += 2) {
        for (size_t buffersize = 0; buffersize <= 2; buffersize += 2) {
            const cf_map_options options = {.chunksize = chunksize, .buffersize = buffersize};
            cf_map_iter *iter = map(executor, task_square, items, 5, sizeof items[0], &options);
            for (size_t i = 0; i < 5; i++) {
                next_fails(iter, i, CF_SHUTDOWN);
            }
            ends(iter);
        }
    }
    cf_executor_close(executor);
}

TEST(after_a_shutdown_a_generator_is_one_error) {
    cf_executor *executor = pool(1);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    for (size_t buffersize = 0; buffersize <= 4; buffersize += 2) {
        for (size_t chunksize = 1; chunksize <= 3; chunksize++) {
            source numbers = source_to(10);
            const cf_map_options options = {.buffersize = buffersize,
                                            .chunksize = chunksize,
                                            .next_item = next_number,
                                            .user = &numbers};
            cf_map_iter *iter = map(executor, task_square, NULL, 0, sizeof(int), &options);
            next_fails(iter, 0, CF_SHUTDOWN);
            ends(iter);
        }
    }
    cf_executor_close(executor);
}

TEST(a_shutdown_during_a_generator_is_one_error_and_no_silent_end) {
    cf_executor *executor = pool(1);
    source numbers = source_to(-1);
    const cf_map_options options = {.buffersize = 3, .next_item = next_number, .user = &numbers};
    cf_map_iter *iter = map(executor, task_square, NULL, 0, sizeof(int), &options);
    next_is(iter, 0, 0);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    const int submitted = (int)stats_of(executor).submitted;
    CHECK(submitted >= 3);
    for (int i = 1; i < submitted; i++) {
        next_is(iter, (size_t)i, i * i);
    }
    next_fails(iter, (size_t)submitted, CF_SHUTDOWN);
    ends(iter);
    cf_executor_close(executor);
}

TEST(a_shutdown_that_cancels_makes_each_pending_item_an_error) {
    enum { COUNT = 6 };
    for (size_t chunksize = 1; chunksize <= 2; chunksize++) {
        cf_executor *executor = pool(1);
        gate g = GATE_INIT;
        int items[COUNT];
        fill_ints(items, COUNT);
        occupy(executor, 1, &g);
        cf_map_iter *iter = map(executor, task_square, items, COUNT, sizeof items[0],
                                &(cf_map_options){.chunksize = chunksize});
        CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
        for (size_t i = 0; i < COUNT; i++) {
            next_fails(iter, i, CF_CANCELLED);
        }
        ends(iter);
        gate_open(&g);
        cf_executor_close(executor);
    }
}

static int fail_to_start(void *arg) {
    (void)arg;
    return 1;
}

TEST(a_broken_pool_makes_each_item_an_error) {
    cf_executor *executor =
        pool_with(&(cf_pool_options){.max_workers = 1, .initializer = fail_to_start});
    const int items[4] = {1, 2, 3, 4};
    for (size_t chunksize = 1; chunksize <= 3; chunksize += 2) {
        cf_map_iter *iter = map(executor, task_square, items, 4, sizeof items[0],
                                &(cf_map_options){.chunksize = chunksize});
        for (size_t i = 0; i < 4; i++) {
            next_fails(iter, i, CF_BROKEN);
        }
        ends(iter);
    }
    cf_executor_close(executor);
}

TEST(a_full_queue_refuses_single_items) {
    enum { COUNT = 10, ROOM = 3 };
    cf_executor *executor = pool_with(&(cf_pool_options){
        .max_workers = 1, .queue_limit = ROOM, .on_full = CF_FULL_REJECT});
    gate g = GATE_INIT;
    int items[COUNT];
    fill_ints(items, COUNT);
    occupy(executor, 1, &g);
    cf_map_iter *iter = map(executor, task_square, items, COUNT, sizeof items[0], NULL);
    gate_open(&g);
    for (int i = 0; i < ROOM; i++) {
        next_is(iter, (size_t)i, i * i);
    }
    for (size_t i = ROOM; i < COUNT; i++) {
        next_fails(iter, i, CF_QUEUE_FULL);
    }
    ends(iter);
    cf_executor_close(executor);
}

TEST(map_works_through_a_bounded_queue) {
    enum { COUNT = 50 };
    const cf_on_full policies[] = {CF_FULL_BLOCK, CF_FULL_CALLER_RUNS};
    int items[COUNT];
    fill_ints(items, COUNT);
    for (size_t p = 0; p < 2; p++) {
        cf_executor *executor = pool_with(&(cf_pool_options){
            .max_workers = 2, .queue_limit = 2, .on_full = policies[p]});
        for (size_t s = 0; s < SHAPES; s++) {
            cf_map_iter *iter =
                map(executor, task_square, items, COUNT, sizeof items[0], &shapes[s]);
            for (int i = 0; i < COUNT; i++) {
                next_is(iter, (size_t)i, i * i);
            }
            ends(iter);
        }
        cf_executor_close(executor);
    }
}

/* ---------------------------------------------------------------- map_array */

TEST(map_array_fills_the_results) {
    enum { COUNT = 100 };
    int items[COUNT];
    fill_ints(items, COUNT);
    for (size_t workers = 1; workers <= 3; workers++) {
        cf_executor *executor = pool(workers);
        for (size_t s = 0; s < 2 * SHAPES; s++) {
            int results[COUNT];
            cf_map_options options = shapes[s / 2];
            options.unordered = s % 2 == 1;
            memset(results, 0xff, sizeof results);
            CHECK_STATUS(cf_executor_map_array(executor, task_square, items, sizeof items[0],
                                               results, sizeof results[0], COUNT, &options, NULL),
                         CF_OK);
            for (int i = 0; i < COUNT; i++) {
                CHECK_EQ(results[i], i * i);
            }
        }
        cf_executor_close(executor);
    }
}

TEST(map_array_without_options_and_inline) {
    cf_executor *executors[2] = {pool(2), inline_executor()};
    const int items[3] = {2, 3, 4};
    for (size_t i = 0; i < 2; i++) {
        int results[3] = {0};
        size_t failed = 77;
        CHECK_STATUS(cf_executor_map_array(executors[i], task_square, items, sizeof items[0],
                                           results, sizeof results[0], 3, NULL, &failed),
                     CF_OK);
        CHECK(results[0] == 4 && results[1] == 9 && results[2] == 16);
        cf_executor_close(executors[i]);
    }
}

/* 20 numbers for 20, 30 or 7 results. */
TEST(map_array_takes_a_generator) {
    const int counts[] = {20, 30, 7};
    cf_executor *executor = pool(2);
    for (size_t s = 0; s < 3 * SHAPES; s++) {
        const int count = counts[s % 3];
        int results[30];
        source numbers = source_to(count == 30 ? 20 : -1);
        cf_map_options options = shapes[s / 3];
        options.next_item = next_number;
        options.user = &numbers;
        memset(results, 0xff, sizeof results);
        CHECK_STATUS(cf_executor_map_array(executor, task_square, NULL, sizeof(int), results,
                                           sizeof results[0], (size_t)count, &options, NULL),
                     CF_OK);
        for (int i = 0; i < count; i++) {
            CHECK_EQ(results[i], i < 20 ? i * i : 0);
        }
        CHECK_EQ(numbers.next, count < 20 ? count : 20);
    }
    cf_executor_close(executor);
}

TEST(map_array_pads_short_results_with_zeros) {
    enum { COUNT = 12, ROOM = 15 };
    const int items[COUNT] = {0, 14, 1, 13, 2, 12, 4, 10, 5, 9, 6, 8};
    cf_executor *executor = pool(2);
    for (size_t s = 0; s < SHAPES; s++) {
        unsigned char results[COUNT][ROOM];
        memset(results, 0xff, sizeof results);
        CHECK_STATUS(cf_executor_map_array(executor, task_bytes, items, sizeof items[0], results,
                                           ROOM, COUNT, &shapes[s], NULL),
                     CF_OK);
        for (int i = 0; i < COUNT; i++) {
            for (int k = 0; k < ROOM; k++) {
                CHECK_EQ(results[i][k], k < items[i] ? items[i] : 0);
            }
        }
    }
    cf_executor_close(executor);
}

/* int n: first n bytes of ones, then four bytes of twos. */
static int task_return_twice(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    unsigned char bytes[64];
    memset(bytes, 1, sizeof bytes);
    (void)cf_task_return(task, bytes, (size_t)n);
    memset(bytes, 2, sizeof bytes);
    return cf_task_return(task, bytes, 4);
}

TEST(map_array_takes_the_last_of_two_results) {
    enum { COUNT = 6, ROOM = 8 };
    const int items[COUNT] = {0, 2, 4, 6, 8, 64};
    cf_executor *executor = pool(2);
    unsigned char results[COUNT][ROOM];
    memset(results, 0xff, sizeof results);
    CHECK_STATUS(cf_executor_map_array(executor, task_return_twice, items, sizeof items[0],
                                       results, ROOM, COUNT, NULL, NULL),
                 CF_OK);
    for (int i = 0; i < COUNT; i++) {
        for (int k = 0; k < ROOM; k++) {
            CHECK_EQ(results[i][k], k < 4 ? 2 : 0);
        }
    }
    cf_executor_close(executor);
}

TEST(map_array_fails_an_item_whose_result_is_too_long) {
    enum { COUNT = 10, ROOM = 8 };
    const int items[COUNT] = {1, 2, 4, 16, 8, 32, 6, 14, 0, 5};
    cf_executor *executor = pool(2);
    for (size_t s = 0; s < SHAPES; s++) {
        unsigned char results[COUNT][ROOM];
        size_t failed = 77;
        memset(results, 0xff, sizeof results);
        CHECK_STATUS(cf_executor_map_array(executor, task_bytes, items, sizeof items[0], results,
                                           ROOM, COUNT, &shapes[s], &failed),
                     CF_INVALID);
        CHECK_EQ(failed, 3);
        for (int i = 0; i < COUNT; i++) {
            const int n = items[i] > ROOM ? 0 : items[i];
            for (int k = 0; k < ROOM; k++) {
                CHECK_EQ(results[i][k], k < n ? n : 0);
            }
        }
    }
    cf_executor_close(executor);
}

TEST(map_array_reports_the_lowest_failing_index) {
    enum { COUNT = 20 };
    job jobs[COUNT];
    fill_jobs(jobs, COUNT, NULL);
    jobs[17].n = -17;
    jobs[6].n = -6;
    jobs[9].n = -9;
    cf_executor *executor = pool(3);
    for (size_t s = 0; s < SHAPES; s++) {
        int results[COUNT];
        size_t failed = 77;
        memset(results, 0xff, sizeof results);
        CHECK_STATUS(cf_executor_map_array(executor, task_job, jobs, sizeof jobs[0], results,
                                           sizeof results[0], COUNT, &shapes[s], &failed),
                     CF_TASK_FAILED);
        CHECK_EQ(failed, 6);
        for (int i = 0; i < COUNT; i++) {
            CHECK_EQ(results[i], jobs[i].n < 0 ? 0 : i * i);
        }
    }
    cf_executor_close(executor);
}

static gate higher_failed = GATE_INIT;

/* 2 fails after 7 has. */
static int task_fail_in_turn(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    if (n == 2) {
        gate_await(&higher_failed);
        return 2;
    }
    if (n == 7) {
        gate_open(&higher_failed);
        return 7;
    }
    return return_int(task, n);
}

TEST(map_array_reports_the_lowest_index_and_not_the_first_in_time) {
    enum { COUNT = 10 };
    int items[COUNT], results[COUNT];
    size_t failed = 77;
    fill_ints(items, COUNT);
    cf_executor *executor = pool(2);
    CHECK_STATUS(cf_executor_map_array(executor, task_fail_in_turn, items, sizeof items[0],
                                       results, sizeof results[0], COUNT, NULL, &failed),
                 CF_TASK_FAILED);
    CHECK_EQ(failed, 2);
    cf_executor_close(executor);
}

TEST(map_array_zeroes_what_a_failed_item_returned) {
    enum { COUNT = 10 };
    int items[COUNT];
    fill_ints(items, COUNT);
    cf_executor *executor = pool(2);
    for (size_t s = 0; s < SHAPES; s++) {
        int results[COUNT];
        size_t failed = 77;
        memset(results, 0xff, sizeof results);
        CHECK_STATUS(cf_executor_map_array(executor, task_return_and_fail, items, sizeof items[0],
                                           results, sizeof results[0], COUNT, &shapes[s], &failed),
                     CF_TASK_FAILED);
        CHECK_EQ(failed, 1);
        for (int i = 0; i < COUNT; i++) {
            CHECK_EQ(results[i], i % 2 == 0 ? i : 0);
        }
    }
    cf_executor_close(executor);
}

typedef struct step {
    int n;
    atomic_int *ran;
} step;

/* All but the first items take a while, so that a map that went on would be seen. */
static int task_step(cf_task *task, void *arg) {
    const step *s = arg;
    atomic_fetch_add(s->ran, 1);
    if (s->n == 3) {
        return 3;
    }
    if (s->n > 3) {
        sleep_for(2 * CF_MILLISECOND);
    }
    return return_int(task, s->n * s->n);
}

TEST(map_array_stops_on_error) {
    enum { COUNT = 1000 };
    step items[COUNT];
    int results[COUNT];
    cf_executor *executor = pool(1);
    for (size_t buffersize = 0; buffersize <= 10; buffersize += 10) {
        atomic_int ran = 0;
        size_t failed = 77;
        for (int i = 0; i < COUNT; i++) {
            items[i] = (step){i, &ran};
        }
        const cf_map_options options = {.stop_on_error = true, .buffersize = buffersize};
        CHECK_STATUS(cf_executor_map_array(executor, task_step, items, sizeof items[0], results,
                                           sizeof results[0], COUNT, &options, &failed),
                     CF_TASK_FAILED);
        CHECK_EQ(failed, 3);
        CHECK_EQ(results[2], 4);
        CHECK_EQ(results[3], 0);
        CHECK(atomic_load(&ran) < COUNT / 2);
    }
    cf_executor_close(executor);
}

typedef struct slow {
    atomic_int *running;
    bool owned;
} slow;

/* Runs for 60 ms or until told to stop, and returns in one of two ways. */
static int task_slow(cf_task *task, void *arg) {
    const slow *s = arg;
    const int value = 0x5a5a5a5a;
    atomic_fetch_add(s->running, 1);
    sleep_for(60 * CF_MILLISECOND);
    int *buffer = s->owned ? NULL : cf_task_result_buffer(task, sizeof value);
    if (buffer != NULL) {
        *buffer = value;
    }
    return buffer != NULL ? 0 : cf_task_return(task, &value, sizeof value);
}

TEST(map_array_leaves_no_writer_behind_after_a_timeout) {
    enum { COUNT = 6 };
    for (size_t s = 0; s < 8; s++) {
        cf_executor *executor = pool(2);
        atomic_int running = 0;
        int results[COUNT];
        slow items[COUNT];
        for (size_t i = 0; i < COUNT; i++) {
            items[i] = (slow){&running, i % 2 == 0};
        }
        const cf_map_options options = {.timeout = 20 * CF_MILLISECOND,
                                        .chunksize = s % 2 == 0 ? 1 : 2,
                                        .buffersize = s / 2 % 2 == 0 ? 0 : 3,
                                        .unordered = s / 4 == 0};
        CHECK_STATUS(cf_executor_map_array(executor, task_slow, items, sizeof items[0], results,
                                           sizeof results[0], COUNT, &options, NULL),
                     CF_TIMEOUT);
        for (size_t i = 0; i < COUNT; i++) {
            results[i] = 42;
        }
        cf_executor_close(executor);
        for (size_t i = 0; i < COUNT; i++) {
            CHECK_EQ(results[i], 42);
        }
    }
}

/* int n: 20 ms, then n + 1. */
static int task_slow_successor(cf_task *task, void *arg) {
    sleep_for(20 * CF_MILLISECOND);
    return return_int(task, *(const int *)arg + 1);
}

/* Also when all that is left belongs to a chunk that has begun. */
TEST(map_array_that_stops_within_a_chunk_says_timeout) {
    enum { COUNT = 6 };
    const int items[COUNT] = {0, 1, 2, 3, 4, 5};
    for (size_t workers = 1; workers <= 2; workers++) {
        int results[COUNT];
        size_t failed = COUNT;
        cf_executor *executor = pool(workers);
        const cf_map_options options = {.timeout = 30 * CF_MILLISECOND,
                                        .chunksize = COUNT / workers};
        memset(results, 0xff, sizeof results);
        const cf_status status =
            cf_executor_map_array(executor, task_slow_successor, items, sizeof items[0], results,
                                  sizeof results[0], COUNT, &options, &failed);
        cf_executor_close(executor);
        CHECK_STATUS(status, failed < COUNT ? CF_TIMEOUT : CF_OK); /* OK: on a very slow machine */
        for (int i = 0; i < COUNT; i++) {
            CHECK(results[i] == i + 1 || results[i] == 0);
            CHECK((size_t)i > failed || (results[i] == 0) == ((size_t)i == failed));
        }
    }
}

TEST(map_array_frees_owned_results) {
    enum { COUNT = 20 };
    int items[COUNT];
    fill_ints(items, COUNT);
    cf_executor *executor = pool(2);
    for (size_t s = 0; s < SHAPES; s++) {
        int results[COUNT];
        atomic_store(&freed, 0);
        CHECK_STATUS(cf_executor_map_array(executor, task_owned, items, sizeof items[0], results,
                                           sizeof results[0], COUNT, &shapes[s], NULL),
                     CF_OK);
        CHECK_EQ(results[COUNT - 1], (COUNT - 1) * (COUNT - 1));
        CHECK_EQ(atomic_load(&freed), COUNT);
    }
    cf_executor_close(executor);
}

TEST(map_array_of_nothing_and_without_results) {
    cf_executor *executor = pool(2);
    atomic_int count = 0;
    int result = 5;
    CHECK_STATUS(cf_executor_map_array(executor, task_square, NULL, sizeof(int), NULL, sizeof(int),
                                       0, NULL, NULL),
                 CF_OK);
    CHECK_STATUS(cf_executor_map_array(executor, task_square, NULL, sizeof(int), &result,
                                       sizeof(int), 0, NULL, NULL),
                 CF_OK);
    CHECK_EQ(result, 5);
    CHECK_STATUS(cf_executor_map_array(executor, task_count, &count, 0, NULL, 0, 30, NULL, NULL),
                 CF_OK);
    CHECK_EQ(atomic_load(&count), 30);
    cf_executor_close(executor);
}

TEST(map_array_refuses_bad_arguments) {
    cf_executor *executor = pool(1);
    const int items[2] = {1, 2};
    int results[2] = {0};
    CHECK_STATUS(cf_executor_map_array(NULL, task_square, items, sizeof items[0], results,
                                       sizeof results[0], 2, NULL, NULL),
                 CF_INVALID);
    CHECK_STATUS(cf_executor_map_array(executor, NULL, items, sizeof items[0], results,
                                       sizeof results[0], 2, NULL, NULL),
                 CF_INVALID);
    CHECK_STATUS(cf_executor_map_array(executor, task_square, NULL, sizeof items[0], results,
                                       sizeof results[0], 2, NULL, NULL),
                 CF_INVALID);
    CHECK_STATUS(cf_executor_map_array(executor, task_square, items, sizeof items[0], NULL,
                                       sizeof results[0], 2, NULL, NULL),
                 CF_INVALID);
    CHECK_STATUS(cf_executor_map_array(executor, task_square, items, sizeof items[0], results,
                                       sizeof results[0], SIZE_MAX / 2, NULL, NULL),
                 CF_INVALID);
    CHECK_STATUS(cf_executor_map_array(executor, task_square, items, 0, results, SIZE_MAX / 2, 3,
                                       NULL, NULL),
                 CF_INVALID);
    CHECK_EQ(stats_of(executor).submitted, 0);
    cf_executor_close(executor);
}

TEST(map_array_after_a_shutdown_says_so) {
    cf_executor *executor = pool(1);
    const int items[2] = {1, 2};
    int results[2] = {7, 7};
    size_t failed = 77;
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK_STATUS(cf_executor_map_array(executor, task_square, items, sizeof items[0], results,
                                       sizeof results[0], 2, NULL, &failed),
                 CF_SHUTDOWN);
    CHECK_EQ(failed, 0);
    CHECK(results[0] == 0 && results[1] == 0);
    cf_executor_close(executor);
}

TEST(map_array_allocates_nothing_per_item) {
    if (!test_alloc_hooked()) {
        SKIP("no counted allocator");
    }
    enum { COUNT = 10000 };
    static int items[COUNT], results[COUNT];
    for (int i = 0; i < COUNT; i++) {
        items[i] = i % 1000;
    }
    cf_executor *executor = pool(2);
    for (size_t chunksize = 0; chunksize <= 100; chunksize += 50) {
        const size_t before = test_alloc_total();
        CHECK_STATUS(cf_executor_map_array(executor, task_square, items, sizeof items[0], results,
                                           sizeof results[0], COUNT,
                                           &(cf_map_options){.chunksize = chunksize}, NULL),
                     CF_OK);
        CHECK(test_alloc_total() - before < COUNT / 20);
        CHECK_EQ(results[999], 999 * 999);
    }
    cf_executor_close(executor);
}

/* ---------------------------------------------------------------- progress */

/* Arrives at the gate and waits there, for items of 1000 and more. */
static gate progress_gate = GATE_INIT;

static int task_slow_from_1000(cf_task *task, void *arg) {
    return *(const int *)arg < 1000 ? task_square(task, arg) : task_block(task, &progress_gate);
}

TEST(progress_counts_what_has_ended_and_not_what_was_delivered) {
    const int items[6] = {1000, 1, 2, 3, 4, 5};
    size_t total = 99;
    cf_executor *executor = pool(2);
    cf_map_iter *iter =
        cf_executor_map(executor, task_slow_from_1000, items, 6, sizeof *items, NULL);
    UNTIL(cf_map_progress(iter, &total) == 5);
    CHECK_EQ(total, 6);
    gate_open(&progress_gate);
    for (size_t i = 0; i < 6; i++) {
        CHECK(cf_map_next(iter, NULL) != NULL);
        CHECK_EQ(cf_map_progress(iter, NULL), 6);
    }
    CHECK(cf_map_next(iter, NULL) == NULL);
    CHECK_EQ(cf_map_progress(iter, &total), 6);
    CHECK_EQ(total, 6);
    cf_map_close(iter);
    cf_executor_close(executor);
}

TEST(progress_counts_the_items_of_a_chunk_that_is_running) {
    const int items[10] = {1, 2, 3, 1000, 5, 6, 7, 8, 9, 10};
    cf_executor *executor = pool(1);
    cf_map_iter *iter = cf_executor_map(executor, task_slow_from_1000, items, 10, sizeof *items,
                                        &(cf_map_options){.chunksize = 10});
    gate_await_arrivals(&progress_gate, 1);
    size_t total = 0;
    CHECK_EQ(cf_map_progress(iter, &total), 3);
    CHECK_EQ(total, 10);
    gate_open(&progress_gate);
    for (size_t i = 0; i < 10; i++) {
        CHECK(cf_map_next(iter, NULL) != NULL);
        CHECK_EQ(cf_map_progress(iter, NULL), 10);
    }
    cf_map_close(iter);
    cf_executor_close(executor);
}

static bool pull_below_20(void *item, void *user) {
    int *next = user;
    if (*next == 20) return false;
    memcpy(item, next, sizeof *next);
    ++*next;
    return true;
}

TEST(the_total_of_a_generator_is_known_when_it_has_ended) {
    for (int unordered = 0; unordered < 2; unordered++) {
        for (size_t chunksize = 1; chunksize <= 3; chunksize++) {
            int next = 0;
            cf_executor *executor = pool(2);
            cf_map_iter *iter = cf_executor_map(
                executor, task_square, NULL, 0, sizeof(int),
                &(cf_map_options){.next_item = pull_below_20, .user = &next, .buffersize = 6,
                                  .chunksize = chunksize, .unordered = unordered != 0});
            size_t total, last = 0;
            for (size_t delivered = 0; delivered < 20; delivered++) {
                const size_t ended = cf_map_progress(iter, &total);
                CHECK(total == 0 || (total == 20 && next == 20));
                CHECK(ended >= last && ended >= delivered && ended <= delivered + 6);
                last = ended;
                CHECK(cf_map_next(iter, NULL) != NULL);
            }
            CHECK_EQ(cf_map_progress(iter, &total), 20);
            CHECK_EQ(total, 20);
            cf_map_close(iter);
            cf_executor_close(executor);
        }
    }
}

TEST(progress_of_a_long_map_is_complete_whatever_the_order_and_costs_little) {
    enum { COUNT = 100000 };
    static int items[COUNT];
    cf_executor *executor = pool(3);
    for (int unordered = 0; unordered < 2; unordered++) {
        cf_map_iter *iter =
            cf_executor_map(executor, task_square, items, COUNT, sizeof *items,
                            &(cf_map_options){.chunksize = 2, .unordered = unordered != 0});
        size_t total, last = 0;
        for (size_t i = 0; i < COUNT; i++) {
            CHECK(cf_map_next(iter, NULL) != NULL);
            const size_t ended = cf_map_progress(iter, &total);
            CHECK(ended > i && ended >= last && ended <= COUNT);
            last = ended;
        }
        CHECK_EQ(last, COUNT);
        CHECK_EQ(total, COUNT);
        cf_map_close(iter);
    }
    cf_executor_close(executor);
}

TEST(what_is_cancelled_or_refused_counts_as_ended) {
    const int items[4] = {1000, 1, 2, 3};
    size_t total;
    cf_executor *executor = pool(1);
    cf_map_iter *iter =
        cf_executor_map(executor, task_slow_from_1000, items, 4, sizeof *items, NULL);
    gate_await_arrivals(&progress_gate, 1);
    CHECK_STATUS(cf_executor_shutdown(executor, 0, CF_CANCEL_PENDING), CF_TIMEOUT);
    CHECK_EQ(cf_map_progress(iter, &total), 3);
    gate_open(&progress_gate);
    CHECK_STATUS(cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), CF_OK);
    CHECK_EQ(cf_map_progress(iter, &total), 4);
    CHECK_EQ(total, 4);
    cf_map_close(iter);
    iter = cf_executor_map(executor, task_square, items, 4, sizeof *items, NULL);
    CHECK_EQ(cf_map_progress(iter, &total), 4);
    int next = 0;
    cf_map_iter *pulled = cf_executor_map(
        executor, task_square, NULL, 0, sizeof(int),
        &(cf_map_options){.next_item = pull_below_20, .user = &next, .chunksize = 3});
    CHECK_EQ(cf_map_progress(pulled, &total), 1);
    CHECK_EQ(total, 1);
    cf_executor_close(executor);
    CHECK_EQ(cf_map_progress(iter, &total), 4);
    cf_map_close(iter);
    cf_map_close(pulled);
}

TEST(progress_of_nothing_is_0_of_0) {
    size_t total = 7;
    CHECK_EQ(cf_map_progress(NULL, &total), 0);
    CHECK_EQ(total, 0);
    cf_executor *executor = inline_executor();
    cf_map_iter *iter = cf_executor_map(executor, task_square, NULL, 0, sizeof(int), NULL);
    CHECK_EQ(cf_map_progress(iter, NULL), 0);
    CHECK_EQ(cf_map_progress(iter, &total), 0);
    CHECK_EQ(total, 0);
    cf_map_close(iter);
    cf_executor_close(executor);
}

static atomic_int steals;

/* Whoever is about to take a unit lets the others go first. */
static void yield_at_units(int id) {
    enum { BEFORE_A_UNIT = 61, STOLEN = 62 };
    if (id == BEFORE_A_UNIT) {
        sched_yield();
    }
    atomic_fetch_add(&steals, id == STOLEN);
}

/* Else workers could pass the last unit round without ever running it. */
TEST(what_a_worker_of_map_array_steals_it_runs) {
    enum { COUNT = 64, ROUNDS = 50 };
    int items[COUNT], results[COUNT];
    cf_executor *executor = pool(4);
    fill_ints(items, COUNT);
    test_point_hook(yield_at_units);
    for (int round = 0; round < ROUNDS; round++) {
        CHECK_STATUS(cf_executor_map_array(executor, task_square, items, sizeof items[0], results,
                                           sizeof results[0], COUNT, NULL, NULL),
                     CF_OK);
    }
    test_point_hook(NULL);
    CHECK(atomic_load(&steals) <= ROUNDS * COUNT);
    cf_executor_close(executor);
}

TEST_MAIN(
    RUN(results_come_in_the_order_of_the_items)
    RUN(a_generator_gives_the_same_as_an_array)
    RUN(unordered_delivers_each_item_once)
    RUN(the_inline_executor_maps_too)
    RUN(no_items_end_at_once)
    RUN(the_items_are_copied)
    RUN(map_runs_everything_without_being_iterated)
    RUN(an_iterator_may_outlive_its_executor)
    RUN(map_returns_before_its_tasks_end)
    RUN(each_result_has_its_own_size)
    RUN(a_task_without_a_result_is_delivered)
    RUN(a_result_is_valid_until_the_next_call)
    RUN(a_delivered_result_is_freed_by_the_next_call)
    RUN(owned_results_are_freed_once_also_undelivered_and_in_chunks)
    RUN(item_size_zero_gives_every_task_the_pointer)
    RUN(a_chunk_is_one_task)
    RUN_WITHIN(60, a_hundred_thousand_items_take_linear_time)
    RUN(threads_may_map_over_one_pool_at_once)
    RUN(an_iterator_may_change_its_thread)
    RUN(a_slow_first_item_blocks_the_ordered_ones)
    RUN(a_slow_first_item_does_not_block_unordered_ones)
    RUN(a_slow_first_item_does_not_block_an_unordered_generator)
    RUN(a_generator_that_outlives_its_executor_ends_with_a_refusal)
    RUN(a_failing_item_fails_alone)
    RUN(a_failure_discards_the_result_also_in_a_chunk)
    RUN(unordered_failures_carry_their_index)
    RUN(stop_on_error_ends_the_iteration_and_cancels_the_rest)
    RUN(stop_on_error_ends_within_a_chunk)
    RUN(stop_on_error_pulls_no_further_items)
    RUN(undelivered_errors_are_reported_one_by_one)
    RUN(the_future_of_an_unread_item_may_be_kept)
    RUN(undelivered_refusals_are_reported_one_by_one)
    RUN(cancelled_items_are_never_reported_as_unread)
    RUN(errors_of_items_that_run_when_the_map_is_closed_are_reported)
    RUN(a_timeout_ends_the_iteration_and_cancels_the_rest)
    RUN(what_is_ready_is_delivered_after_the_deadline)
    RUN(an_unordered_map_delivers_all_that_is_ready_before_the_timeout)
    RUN(the_deadline_runs_from_the_call)
    RUN(a_timeout_of_zero_or_less_or_of_ages_is_none)
    RUN(a_timeout_ends_an_endless_generator)
    RUN(the_buffer_bounds_what_is_pulled)
    RUN(the_buffer_bounds_what_runs_ahead)
    RUN(all_at_once_without_a_buffer)
    RUN(a_chunk_is_cut_to_the_buffer)
    RUN(the_count_limits_a_generator)
    RUN(a_generator_may_end_before_its_limit)
    RUN(close_cancels_what_has_not_started)
    RUN(close_cancels_whole_chunks)
    RUN(close_races_with_the_workers)
    RUN(null_iterators_are_legal)
    RUN(bad_arguments_give_null_which_says_invalid)
    RUN(a_generator_of_items_larger_than_memory_is_not_called)
    RUN(items_are_an_array_or_come_from_a_generator_but_not_both)
    RUN(after_a_shutdown_each_item_of_an_array_is_an_error)
    RUN(after_a_shutdown_a_generator_is_one_error)
    RUN(a_shutdown_during_a_generator_is_one_error_and_no_silent_end)
    RUN(a_shutdown_that_cancels_makes_each_pending_item_an_error)
    RUN(a_broken_pool_makes_each_item_an_error)
    RUN(a_full_queue_refuses_single_items)
    RUN(map_works_through_a_bounded_queue)
    RUN(map_array_fills_the_results)
    RUN(map_array_without_options_and_inline)
    RUN(map_array_takes_a_generator)
    RUN(map_array_pads_short_results_with_zeros)
    RUN(map_array_takes_the_last_of_two_results)
    RUN(map_array_fails_an_item_whose_result_is_too_long)
    RUN(map_array_reports_the_lowest_failing_index)
    RUN(map_array_reports_the_lowest_index_and_not_the_first_in_time)
    RUN(map_array_zeroes_what_a_failed_item_returned)
    RUN(map_array_stops_on_error)
    RUN(map_array_leaves_no_writer_behind_after_a_timeout)
    RUN(map_array_that_stops_within_a_chunk_says_timeout)
    RUN(map_array_frees_owned_results)
    RUN(map_array_of_nothing_and_without_results)
    RUN(map_array_refuses_bad_arguments)
    RUN(map_array_after_a_shutdown_says_so)
    RUN(map_array_allocates_nothing_per_item)
    RUN(progress_counts_what_has_ended_and_not_what_was_delivered)
    RUN(progress_counts_the_items_of_a_chunk_that_is_running)
    RUN(the_total_of_a_generator_is_known_when_it_has_ended)
    RUN(progress_of_a_long_map_is_complete_whatever_the_order_and_costs_little)
    RUN(what_is_cancelled_or_refused_counts_as_ended)
    RUN(progress_of_nothing_is_0_of_0)
    RUN(what_a_worker_of_map_array_steals_it_runs)
)
