/* A storm: workers, and their replacements while they start, are killed at random, by SIGKILL, by
 * SIGTERM, by SIGKILL after a SIGSTOP, while several threads submit, map, cancel and let tasks run
 * out of time. Each future ends once, only what was hit is lost, no task runs twice, nothing is left.
 *
 *     CF_TEST_STORMS=100 CF_TEST_SCALE=10 build/test/posix/test_process_storm
 *
 * is the long form: each storm a hundred times. CF_TEST_KILLS=1000: so many kills in each. */
#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#include "test.h"

#include "process.h"

#ifdef __linux__
#include <sys/prctl.h>
#endif

/* ---------------------------------------------------------------- what is counted */

enum { MOST_TASKS = 1 << 20, MOST_WORKERS = 1 << 14, WORKERS = 4, MOST_BYTES = 50000 };

typedef struct tally {
    atomic_int workers; /* started; their pids: */
    atomic_int pids[MOST_WORKERS];
    atomic_uchar begun[MOST_TASKS]; /* how often each task was */
} tally;

static tally *workers_tally; /* shared with the workers */

typedef enum end { UNSEEN, WELL, LOST, CANCELLED, OUT_OF_TIME } end;

typedef struct storm {
    cf_executor *executor;
    int kills;
    atomic_bool over;
    atomic_int killed, tasks; /* so far */
    atomic_int ends[OUT_OF_TIME + 1];
    unsigned char *seen;           /* an `end` for each task */
    atomic_uchar *calls;           /* of the callbacks of each task */
} storm;

static int number_of(const char *variable, int otherwise) {
    const char *text = getenv(variable);
    const long number = text != NULL ? strtol(text, NULL, 10) : 0;
    return number > 0 && number < INT_MAX ? (int)number : otherwise;
}

static uint64_t seed_of(int number) {
    const int64_t t = now();
    return ((uint64_t)t + (uint64_t)number * 7919) * 2654435761U | 1;
}

static int below(uint64_t *random, int limit) {
    return (int)(test_random(random) % (uint64_t)limit);
}

/* ---------------------------------------------------------------- the workers */

typedef struct job {
    int id, micros, size; /* of the result */
    unsigned char padding[4000];
} job;

enum { SMALL_JOB = offsetof(job, padding) };

static int start_worker(void *arg) {
    (void)arg;
    const int number = atomic_fetch_add(&workers_tally->workers, 1);
    CHECK(number < MOST_WORKERS);
    atomic_store(&workers_tally->pids[number], (int)getpid());
    if (number % 3 == 0) {
        sleep_for(300 * CF_MICROSECOND); /* there is something to hit */
    }
    return 0;
}

static unsigned char byte_of(int id, int at) {
    return (unsigned char)(id * 31 + at * 7);
}

static int task_job(cf_task *task, void *arg) {
    const job *j = arg;
    atomic_fetch_add(&workers_tally->begun[j->id], 1);
    if (j->micros > 0) {
        sleep_for(j->micros * CF_MICROSECOND);
    }
    unsigned char *result = cf_task_result_buffer(task, (size_t)j->size);
    if (result == NULL) {
        return cf_task_fail(task, 1, "no room");
    }
    for (int i = 0; i < j->size; i++) {
        result[i] = byte_of(j->id, i);
    }
    return 0;
}

static int task_overruns(cf_task *task, void *arg) {
    const job *j = arg;
    atomic_fetch_add(&workers_tally->begun[j->id], 1);
    UNTIL(cf_task_stop_requested(task));
    while (pause() == -1) {
    }
    return 0;
}

static job new_job(storm *s, uint64_t *random) {
    const int id = atomic_fetch_add(&s->tasks, 1);
    CHECK(id < MOST_TASKS);
    return (job){.id = id,
                 .micros = id % 5 == 0 ? below(random, 800) : 0,
                 .size = id % 16 == 0 ? below(random, MOST_BYTES) : 4 + id % 40};
}

static void check_result(const void *result, size_t size, const job *j) {
    const unsigned char *bytes = result;
    CHECK_EQ(size, j->size);
    for (int i = 0; i < j->size; i++) {
        if (bytes[i] != byte_of(j->id, i)) {
            CHECK_EQ(bytes[i], byte_of(j->id, i));
        }
    }
}

/* ---------------------------------------------------------------- how tasks end */

static void note_end(storm *s, int id, end what) {
    CHECK_EQ(s->seen[id], UNSEEN);
    s->seen[id] = (unsigned char)what;
    atomic_fetch_add(&s->ends[what], 1);
}

static void check_killed(int code, const char *message) {
    CHECK(code == SIGKILL || code == SIGTERM);
    CHECK(strstr(message, "was killed by signal") != NULL);
}

/* Takes the future. */
static void end_job(storm *s, cf_future *future, const job *j, bool cancelled, bool overran) {
    const cf_status status = outcome(future);
    switch (status) {
    case CF_OK:
        check_result(cf_future_result(future, 0, NULL), cf_future_result_size(future), j);
        note_end(s, j->id, WELL);
        break;
    case CF_WORKER_LOST:
        check_killed(cf_future_error_code(future), cf_future_error_message(future));
        note_end(s, j->id, LOST);
        break;
    case CF_CANCELLED: note_end(s, j->id, CANCELLED); break;
    case CF_TASK_TIMEOUT: note_end(s, j->id, OUT_OF_TIME); break;
    default: CHECK_STATUS(status, CF_OK);
    }
    CHECK_EQ(status == CF_CANCELLED, cancelled);
    CHECK(status != CF_TASK_TIMEOUT || overran);
    cf_future_release(future);
}

static void count_call(cf_future *future, void *user) {
    CHECK(cf_future_done(future));
    atomic_fetch_add((atomic_uchar *)user, 1);
}

static void call_back(storm *s, cf_future *future, int id) {
    CHECK_STATUS(cf_future_add_done_callback(future, count_call, &s->calls[id]), CF_OK);
}

/* ---------------------------------------------------------------- the load */

enum { BATCH = 24 };

/* One by one, small and big; some are cancelled, some run out of time. */
static void load_by_submit(storm *s, uint64_t *random) {
    cf_future *futures[BATCH];
    job jobs[BATCH];
    bool cancelled[BATCH] = {false}, overruns[BATCH] = {false};
    for (int i = 0; i < BATCH; i++) {
        jobs[i] = new_job(s, random);
        overruns[i] = below(random, BATCH) == 0;
        futures[i] = cf_executor_submit_with(
            s->executor, overruns[i] ? task_overruns : task_job, &jobs[i],
            i % 4 == 0 ? sizeof(job) : (size_t)SMALL_JOB,
            &(cf_submit_options){.timeout = overruns[i] ? 2 * CF_MILLISECOND : 0});
        call_back(s, futures[i], jobs[i].id);
    }
    for (int i = 0; i < BATCH / 4; i++) {
        const int at = below(random, BATCH);
        cancelled[at] = cf_future_cancel(futures[at]) || cancelled[at];
    }
    for (int i = 0; i < BATCH; i++) {
        end_job(s, futures[i], &jobs[i], cancelled[i], overruns[i]);
    }
}

/* All at once, delivered as they end. */
static void load_by_submit_many(storm *s, uint64_t *random) {
    cf_future *futures[BATCH];
    static _Thread_local job jobs[BATCH];
    size_t index = 0, delivered = 0;
    cf_status status = CF_SYSTEM;
    for (int i = 0; i < BATCH; i++) {
        jobs[i] = new_job(s, random);
    }
    CHECK_STATUS(
        cf_executor_submit_many(s->executor, task_job, jobs, BATCH, sizeof *jobs, futures), CF_OK);
    cf_as_completed_iter *iter = cf_as_completed(futures, BATCH, limit(TEST_GATE_LIMIT_S));
    while (cf_as_completed_next(iter, &index, &status) != NULL) {
        call_back(s, futures[index], jobs[index].id);
        end_job(s, futures[index], &jobs[index], false, false);
        delivered++;
    }
    CHECK_STATUS(status, CF_END);
    CHECK_EQ(delivered, BATCH);
    cf_as_completed_close(iter);
}

static void load_by_map(storm *s, uint64_t *random) {
    static _Thread_local job jobs[BATCH];
    cf_status status = CF_SYSTEM;
    for (int i = 0; i < BATCH; i++) {
        jobs[i] = new_job(s, random);
        atomic_store(&s->calls[jobs[i].id], 1); /* an item has no callback */
    }
    cf_map_iter *iter = cf_executor_map(
        s->executor, task_job, jobs, BATCH, sizeof *jobs,
        &(cf_map_options){.chunksize = 1 + (size_t)below(random, 8),
                          .unordered = below(random, 2) == 0,
                          .timeout = limit(TEST_GATE_LIMIT_S)});
    for (int i = 0; i < BATCH; i++) {
        const void *result = cf_map_next(iter, &status);
        const job *j = &jobs[cf_map_index(iter)];
        if (result != NULL) {
            check_result(result, cf_map_result_size(iter), j);
            note_end(s, j->id, WELL);
        } else {
            CHECK_STATUS(status, CF_WORKER_LOST);
            check_killed(cf_map_error_code(iter), cf_map_error_message(iter));
            note_end(s, j->id, LOST);
        }
    }
    CHECK(cf_map_next(iter, &status) == NULL);
    CHECK_STATUS(status, CF_END);
    cf_map_close(iter);
}

static void load_by_map_array(storm *s, uint64_t *random) {
    enum { SIZE = 44 };
    static _Thread_local job jobs[BATCH];
    unsigned char results[BATCH][SIZE];
    size_t failed = BATCH;
    for (int i = 0; i < BATCH; i++) {
        jobs[i] = new_job(s, random);
        jobs[i].size = SIZE;
        atomic_store(&s->calls[jobs[i].id], 1);
    }
    const cf_status status =
        cf_executor_map_array(s->executor, task_job, jobs, sizeof *jobs, results, SIZE, BATCH,
                              NULL, &failed);
    CHECK(status == CF_OK || (status == CF_WORKER_LOST && failed < BATCH));
    for (size_t i = 0; i < BATCH; i++) {
        static const unsigned char zeros[SIZE];
        const bool is_lost = memcmp(results[i], zeros, SIZE) == 0;
        CHECK(!is_lost || i >= failed);
        CHECK(is_lost || i != failed);
        if (!is_lost) {
            check_result(results[i], SIZE, &jobs[i]);
        }
        note_end(s, jobs[i].id, is_lost ? LOST : WELL);
    }
}

static void *load(void *arg) {
    static void (*const loads[])(storm *, uint64_t *) = {load_by_submit, load_by_submit_many,
                                                         load_by_map, load_by_map_array};
    static atomic_int threads;
    storm *s = arg;
    uint64_t random = seed_of(atomic_fetch_add(&threads, 1));
    while (!atomic_load(&s->over)) {
        loads[below(&random, 4)](s, &random);
    }
    return NULL;
}

/* ---------------------------------------------------------------- the killer */

static bool is_worker(pid_t pid) {
    return is_alive(pid) && is_descendant(pid, getpid());
}

/* One of the youngest, which are starting or working; 0: none lives. */
static pid_t pick_worker(uint64_t *random) {
    const int started = atomic_load(&workers_tally->workers);
    const int skipped = below(random, WORKERS);
    for (int i = 0; i < 4 * WORKERS; i++) {
        const int at = started - 1 - (i + skipped) % (4 * WORKERS);
        const pid_t pid = at >= 0 ? (pid_t)atomic_load(&workers_tally->pids[at]) : 0;
        if (pid > 0 && is_worker(pid)) {
            return pid;
        }
    }
    return 0;
}

static bool kill_somehow(pid_t pid, uint64_t *random) {
    const int way = below(random, 8);
    if (way == 0) {
        return kill(pid, SIGTERM) == 0;
    }
    if (way == 1 && kill(pid, SIGSTOP) == 0) {
        sleep_for(below(random, 3000) * CF_MICROSECOND);
    }
    return kill(pid, SIGKILL) == 0;
}

static void *kill_at_random(void *arg) {
    storm *s = arg;
    uint64_t random = seed_of(1000);
    while (atomic_load(&s->killed) < s->kills) {
        const pid_t pid = pick_worker(&random);
        if (pid > 0 && kill_somehow(pid, &random)) {
            atomic_fetch_add(&s->killed, 1);
        }
        sleep_for(below(&random, 7000) * CF_MICROSECOND);
    }
    atomic_store(&s->over, true);
    return NULL;
}

/* ---------------------------------------------------------------- a storm */

static void check_each_task(storm *s) {
    for (int id = 0; id < atomic_load(&s->tasks); id++) {
        const int begun = atomic_load(&workers_tally->begun[id]);
        CHECK(s->seen[id] != UNSEEN);
        CHECK(begun <= 1);
        CHECK(s->seen[id] != WELL || begun == 1);
        CHECK(s->seen[id] != CANCELLED || begun == 0);
        CHECK_EQ(atomic_load(&s->calls[id]), 1);
    }
}

static void check_counts(const cf_stats *stats, storm *s) {
    CHECK_EQ(stats->workers + stats->idle + stats->queued + stats->running, 0);
    CHECK_EQ(stats->submitted, stats->finished + stats->cancelled);
    CHECK_EQ(stats->cancelled, atomic_load(&s->ends[CANCELLED]));
    CHECK(atomic_load(&s->ends[LOST]) <= atomic_load(&s->killed));
}

/* Orphans, were there any, would be children of this process. */
static void adopt_orphans(void) {
#ifdef PR_SET_CHILD_SUBREAPER
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
#endif
}

static void begin_storm(storm *s, const cf_pool_options *options) {
    void *memory = mmap(NULL, sizeof *workers_tally, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    workers_tally = memory;
    memset(s, 0, sizeof *s);
    s->kills = number_of("CF_TEST_KILLS", 340);
    s->seen = calloc(MOST_TASKS, 1);
    s->calls = calloc(MOST_TASKS, sizeof *s->calls);
    CHECK(s->seen != NULL && s->calls != NULL);
    s->executor = processes_with(options);
}

static void end_storm(storm *s) {
    cf_stats stats;
    still_works(s->executor);
    CHECK_STATUS(cf_executor_shutdown(s->executor, limit(TEST_GATE_LIMIT_S), CF_RUN_PENDING),
                 CF_OK);
    stats = stats_of(s->executor);
    cf_executor_close(s->executor);
    check_each_task(s);
    check_counts(&stats, s);
    free(s->seen);
    free(s->calls);
    munmap(workers_tally, sizeof *workers_tally);
    fprintf(stderr, "%d kills, %" PRIu64 " restarts: %d tasks well, %d lost, %d cancelled, %d timed out\n",
            atomic_load(&s->killed), stats.restarts, atomic_load(&s->ends[WELL]),
            atomic_load(&s->ends[LOST]), atomic_load(&s->ends[CANCELLED]),
            atomic_load(&s->ends[OUT_OF_TIME]));
}

static void storms_over(cf_pool_options options) {
    enum { LOADS = 3 };
    static storm s;
    const size_t mappings = shared_mappings();
    options.max_workers = WORKERS;
    options.initializer = start_worker;
    adopt_orphans();
    share();
    for (int i = 0; i < number_of("CF_TEST_STORMS", 1); i++) {
        pthread_t killer, loads[LOADS];
        const size_t descriptors = descriptor_count();
        begin_storm(&s, &options);
        spawn(&killer, kill_at_random, &s);
        for (int k = 0; k < LOADS; k++) {
            spawn(&loads[k], load, &s);
        }
        for (int k = 0; k < LOADS; k++) {
            join(loads[k]);
        }
        join(killer);
        end_storm(&s);
        CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
        CHECK_EQ(descriptor_count(), descriptors);
        CHECK(shared_mappings() <= mappings + 1); /* that of share */
    }
}

TEST(a_storm_over_a_plain_pool) {
    storms_over((cf_pool_options){0});
}

TEST(a_storm_over_workers_that_leave_by_themselves) {
    storms_over((cf_pool_options){.max_tasks_per_child = 7});
}

TEST(a_storm_over_a_full_queue) {
    storms_over((cf_pool_options){.queue_limit = 10});
}

TEST_MAIN(
    RUN_WITHIN(60, a_storm_over_a_plain_pool)
    RUN_WITHIN(60, a_storm_over_workers_that_leave_by_themselves)
    RUN_WITHIN(60, a_storm_over_a_full_queue)
)
