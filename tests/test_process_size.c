/* Arguments and results of the process pool, byte by byte around every size at which they may begin to
 * travel in another way, by each way to return them, and up to gigabytes.
 *
 *     CF_TEST_LONG=1 build/test/posix/test_process_size      3 GiB, where that much memory is free
 */
#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#include "test.h"

#include "process.h"

/* ---------------------------------------------------------------- ways to return */

typedef enum way { RETURN, BUFFER, OWNED, WAYS } way;

typedef struct order {
    size_t size; /* of the result */
    way way;
    unsigned char first; /* byte; each next one is one more */
} order;

static void *pattern(void *memory, size_t size, unsigned char first) {
    unsigned char *bytes = memory;
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (unsigned char)(first + i);
    }
    return memory;
}

static bool has_pattern(const void *memory, size_t size, unsigned char first) {
    const unsigned char *bytes = memory;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != (unsigned char)(first + i)) {
            return false;
        }
    }
    return true;
}

static int task_make(cf_task *task, void *arg) {
    const order o = *(const order *)arg;
    if (o.way == BUFFER) {
        void *buffer = cf_task_result_buffer(task, o.size);
        return buffer != NULL ? (pattern(buffer, o.size, o.first), 0) : 1;
    }
    void *memory = malloc(o.size + 1);
    if (memory == NULL) {
        return 2;
    }
    pattern(memory, o.size, o.first);
    if (o.way == OWNED) {
        return cf_task_return_owned(task, memory, o.size, free);
    }
    const int status = cf_task_return(task, memory, o.size);
    memset(memory, 0, o.size); /* it was copied */
    free(memory);
    return status;
}

static void make_one(cf_executor *executor, size_t size, way w) {
    const order o = {size, w, (unsigned char)(size * 7 + (size_t)w)};
    cf_status status = CF_SYSTEM;
    cf_future *future = cf_executor_submit(executor, task_make, &o, sizeof o);
    const void *result = cf_future_result(future, limit(8), &status);
    CHECK_STATUS(status, CF_OK);
    CHECK_EQ(cf_future_result_size(future), size);
    CHECK(result != NULL && (uintptr_t)result % _Alignof(max_align_t) == 0);
    CHECK(has_pattern(result, size, o.first));
    cf_future_release(future);
}

/* Says whether its argument is what it should be: its first byte is that of the pattern. */
static int task_read(cf_task *task, void *arg) {
    const size_t size = cf_task_arg_size(task);
    const unsigned char *bytes = arg;
    if ((uintptr_t)arg % _Alignof(max_align_t) != 0 || !has_pattern(arg, size, bytes[0])) {
        return 1;
    }
    return cf_task_return(task, &size, sizeof size);
}

static void read_one(cf_executor *executor, unsigned char *memory, size_t size) {
    cf_status status = CF_SYSTEM;
    pattern(memory, size, (unsigned char)size);
    cf_future *future = cf_executor_submit(executor, task_read, memory, size);
    memset(memory, 0, size); /* it was copied */
    const size_t *seen = cf_future_result(future, limit(8), &status);
    CHECK_STATUS(status, CF_OK);
    CHECK_EQ(*seen, size);
    cf_future_release(future);
}

/* ---------------------------------------------------------------- sizes */

enum { PAGE = 4096, MIB = 1 << 20 };

/* All up to 1100 bytes, then those around powers of two. */
static size_t next_size(size_t size) {
    if (size < 1100) {
        return size + 1;
    }
    size_t power = 1;
    while (power <= size) {
        power *= 2;
    }
    if (size + 1 < power - 1) {
        return size + 1 <= power / 2 + 1 ? size + 1 : power - 1;
    }
    return size + 1;
}

TEST(arguments_of_every_size) {
    unsigned char *memory = malloc(4 * MIB);
    CHECK(memory != NULL);
    cf_executor *executor = processes(2);
    int count = 0;
    for (size_t size = 1; size <= 2 * MIB + 1; size = next_size(size), count++) {
        read_one(executor, memory, size);
    }
    CHECK(count > 1120);
    shut(executor);
    free(memory);
}

static void results_of_every_size(way w) {
    cf_executor *executor = processes(2);
    for (size_t size = 0; size <= 2 * MIB + 1; size = next_size(size)) {
        make_one(executor, size, w);
    }
    shut(executor);
}

TEST(results_of_every_size_by_cf_task_return) {
    results_of_every_size(RETURN);
}

TEST(results_of_every_size_by_cf_task_result_buffer) {
    results_of_every_size(BUFFER);
}

TEST(results_of_every_size_by_cf_task_return_owned) {
    results_of_every_size(OWNED);
}

/* What one task leaves behind is not to be seen by the next. */
TEST(sizes_in_any_order_disturb_nobody) {
    static const size_t sizes[] = {MIB,  0,    895,      896,  897,     PAGE - 1, PAGE, PAGE + 1,
                                   1,    65535, 3 * MIB, 65536, 65537, 100,      MIB + 1};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    unsigned char *memory = malloc(4 * MIB);
    CHECK(memory != NULL);
    uint64_t random = 4711;
    cf_executor *executor = processes(2);
    for (int round = 0; round < 150; round++) {
        const size_t size = sizes[test_random(&random) % COUNT];
        if (test_random(&random) % 2 == 0) {
            make_one(executor, size, (way)(test_random(&random) % WAYS));
        } else {
            read_one(executor, memory, size + 1);
        }
    }
    shut(executor);
    free(memory);
}

/* All at once, and all results kept, each with its own memory. */
TEST(results_that_are_kept_stay_as_they_are) {
    enum { COUNT = 60 };
    cf_future *futures[COUNT];
    order orders[COUNT];
    cf_executor *executor = processes(2);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++) {
            orders[i] = (order){(size_t)i * 3001, (way)(i % WAYS), (unsigned char)(i + round)};
            futures[i] = cf_executor_submit(executor, task_make, &orders[i], sizeof *orders);
        }
        for (int i = COUNT; i-- > 0;) {
            CHECK_STATUS(outcome(futures[i]), CF_OK);
        }
        for (int i = 0; i < COUNT; i++) {
            CHECK_EQ(cf_future_result_size(futures[i]), orders[i].size);
            CHECK(has_pattern(cf_future_result(futures[i], 0, NULL), orders[i].size,
                              orders[i].first));
        }
        release_all(futures, COUNT);
    }
    shut(executor);
}

/* The worker that made them is gone, and then the pool. */
TEST(results_outlive_their_worker_and_their_pool) {
    enum { COUNT = 12 };
    cf_future *futures[COUNT];
    const size_t mappings = shared_mappings();
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 2, .max_tasks_per_child = 1});
    for (int i = 0; i < COUNT; i++) {
        const order o = {(size_t)(i + 1) * 50000, (way)(i % WAYS), (unsigned char)i};
        futures[i] = cf_executor_submit(executor, task_make, &o, sizeof o);
    }
    shut(executor);
    for (int i = 0; i < COUNT; i++) {
        CHECK_STATUS(cf_future_wait(futures[i], 0), CF_OK);
        CHECK(has_pattern(cf_future_result(futures[i], 0, NULL), (size_t)(i + 1) * 50000,
                          (unsigned char)i));
    }
    release_all(futures, COUNT);
    CHECK(shared_mappings() <= mappings + 1); /* the memory of the tests */
}

/* ---------------------------------------------------------------- gigabytes */

/* One byte a MiB, and the last one: all bytes would take too long. */
static void mark(unsigned char *bytes, size_t size) {
    for (size_t i = 0; i < size; i += MIB) {
        bytes[i] = (unsigned char)(i / MIB * 5 + 1);
    }
    bytes[size - 1] = 0xee;
}

static bool is_marked(const unsigned char *bytes, size_t size) {
    for (size_t i = 0; i < size - 1; i += MIB) {
        if (bytes[i] != (unsigned char)(i / MIB * 5 + 1)) {
            return false;
        }
    }
    return bytes[size - 1] == 0xee;
}

static void *map_memory(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

static int task_see_marks(cf_task *task, void *arg) {
    const size_t size = cf_task_arg_size(task);
    return is_marked(arg, size) ? cf_task_return(task, &size, sizeof size) : 1;
}

static int task_mark_buffer(cf_task *task, void *arg) {
    const size_t size = *(const size_t *)arg;
    unsigned char *buffer = cf_task_result_buffer(task, size);
    if (buffer == NULL) {
        return 1;
    }
    mark(buffer, size);
    return 0;
}

static int task_return_marks(cf_task *task, void *arg) {
    const size_t size = *(const size_t *)arg;
    unsigned char *memory = map_memory(size);
    if (memory == NULL) {
        return 1;
    }
    mark(memory, size);
    const int status = cf_task_return(task, memory, size);
    munmap(memory, size);
    return status;
}

static void give_much(cf_executor *executor, size_t size) {
    cf_status status = CF_SYSTEM;
    unsigned char *memory = map_memory(size);
    CHECK(memory != NULL);
    mark(memory, size);
    cf_future *future = cf_executor_submit(executor, task_see_marks, memory, size);
    munmap(memory, size);
    const size_t *seen = cf_future_result(future, limit(60), &status);
    CHECK_STATUS(status, CF_OK);
    CHECK_EQ(*seen, size);
    cf_future_release(future);
}

static void take_much(cf_executor *executor, cf_task_fn *fn, size_t size) {
    cf_status status = CF_SYSTEM;
    cf_future *future = cf_executor_submit(executor, fn, &size, sizeof size);
    const void *result = cf_future_result(future, limit(60), &status);
    CHECK_STATUS(status, CF_OK);
    CHECK_EQ(cf_future_result_size(future), size);
    CHECK(is_marked(result, size));
    cf_future_release(future);
}

static void carry(size_t size) {
    const size_t mappings = shared_mappings();
    cf_executor *executor = processes(1);
    give_much(executor, size);
    take_much(executor, task_mark_buffer, size);
    take_much(executor, task_return_marks, size);
    still_works(executor);
    shut(executor);
    CHECK(shared_mappings() <= mappings + 1);
}

TEST(64_MiB_each_way) {
    carry((size_t)64 * MIB);
}

/* Bigger than what is kept for the next time. */
TEST(200_MiB_each_way) {
    carry((size_t)200 * MIB + 1);
}

/* size_t: so many bytes, of which it writes the first and the last one. */
static int task_wide(cf_task *task, void *arg) {
    const size_t size = *(const size_t *)arg;
    unsigned char *const bytes = cf_task_result_buffer(task, size);
    if (bytes == NULL) {
        return 1;
    }
    bytes[0] = 1;
    bytes[size - 1] = 2;
    return 0;
}

/* They are put together in one mapping, which is replaced by a bigger one; neither is kept. */
TEST(results_of_a_chunk_may_outgrow_200_MiB) {
    static const size_t sizes[] = {(size_t)65 * MIB, (size_t)72 * MIB, (size_t)130 * MIB};
    if (is_watched()) {
        SKIP("whoever watches needs the room");
    }
    cf_executor *executor = processes(1);
    cf_map_iter *iter = cf_executor_map(executor, task_wide, sizes, 3, sizeof *sizes,
                                        &(cf_map_options){.chunksize = 3});
    for (size_t i = 0; i < 3; i++) {
        cf_status status;
        const unsigned char *bytes = cf_map_next(iter, &status);
        CHECK_STATUS(status, CF_OK);
        CHECK_EQ(cf_map_result_size(iter), sizes[i]);
        CHECK_EQ(bytes[0], 1);
        CHECK_EQ(bytes[sizes[i] - 1], 2);
    }
    cf_map_close(iter);
    carry((size_t)150 * MIB); /* and the next one is not taken for one of these */
    shut(executor);
}

/* int: 200000 bytes for a 1. A chunk then has room for as many bytes for each later item. */
static int task_boasts(cf_task *task, void *arg) {
    static const char bytes[200000];
    return cf_task_return(task, bytes, *(const int *)arg == 1 ? sizeof bytes : 1);
}

static int task_mappings(cf_task *task, void *arg) {
    (void)arg;
    return return_int(task, (int)shared_mappings());
}

static void map_boasts(cf_executor *executor, int first) {
    enum { ITEMS = 1000 };
    int items[ITEMS] = {first};
    cf_status status = CF_SYSTEM;
    cf_map_iter *iter = cf_executor_map(executor, task_boasts, items, ITEMS, sizeof *items,
                                        &(cf_map_options){.chunksize = ITEMS});
    for (int i = 0; i < ITEMS; i++) {
        CHECK(cf_map_next(iter, &status) != NULL);
        CHECK_EQ(cf_map_result_size(iter), i == 0 && first == 1 ? 200000 : 1);
    }
    cf_map_close(iter);
}

TEST(a_worker_keeps_no_room_for_a_chunk_beyond_128_MiB) {
    if (is_watched() || !has_proc()) {
        SKIP("whoever watches needs the room, and /proc shows what is mapped");
    }
    cf_executor *executor = processes(1);
    map_boasts(executor, 0); /* what is kept: the places of the items, of their results, */
    CHECK_STATUS(take_outcome(submit_int(executor, task_boasts, 1)), CF_OK); /* of one boast */
    const int mappings = take_int(submit_none(executor, task_mappings));
    map_boasts(executor, 1);
    CHECK_EQ(take_int(submit_none(executor, task_mappings)), mappings);
    shut(executor);
}

static size_t free_memory(void) {
    char line[128];
    unsigned long kib = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file != NULL && kib == 0 && fgets(line, sizeof line, file) != NULL) {
        (void)sscanf(line, "MemAvailable: %lu", &kib);
    }
    if (file != NULL) {
        fclose(file);
    }
    return (size_t)kib * 1024;
}

TEST(3_GiB_each_way) {
    if (getenv("CF_TEST_LONG") == NULL) {
        SKIP("it takes long: CF_TEST_LONG=1");
    }
#if SIZE_MAX > UINT32_MAX
    const size_t size = (size_t)3072 * MIB + 5;
    if (free_memory() < 4 * size) {
        SKIP("12 GiB are not free here");
    }
    carry(size);
#else
    SKIP("the address space is too small");
#endif
}

TEST_MAIN(
    RUN_WITHIN(30, arguments_of_every_size)
    RUN_WITHIN(30, results_of_every_size_by_cf_task_return)
    RUN_WITHIN(30, results_of_every_size_by_cf_task_result_buffer)
    RUN_WITHIN(30, results_of_every_size_by_cf_task_return_owned)
    RUN(sizes_in_any_order_disturb_nobody)
    RUN(results_that_are_kept_stay_as_they_are)
    RUN(results_outlive_their_worker_and_their_pool)
    RUN_WITHIN(60, 64_MiB_each_way)
    RUN_WITHIN(60, 200_MiB_each_way)
    RUN_WITHIN(60, results_of_a_chunk_may_outgrow_200_MiB)
    RUN(a_worker_keeps_no_room_for_a_chunk_beyond_128_MiB)
    RUN_WITHIN(300, 3_GiB_each_way)
)
