/* A live pool with a worker that means harm: its tasks get hold of the worker's own desk and
 * channel and write there what no worker writes, while other workers do ordinary work. The host is
 * unharmed, every future ends, the pool stays usable, and nothing is left behind.
 *
 *     CF_TEST_FRAMES=100000 build/test/posix/test_process_hostile    the long form
 *
 * This file has an implementation of its own in it, so that a task can reach cf__child. Linux only:
 * elsewhere descriptors of shared memory cannot be made to order. */
#ifndef CFUTURES_POSIX
#define CFUTURES_POSIX
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "seam.h"
#define CFUTURES_STATIC
#define CFUTURES_IMPLEMENTATION
#define CFUTURES_MALLOC test_malloc
#define CFUTURES_FREE   test_free
static void pass_point(int id);
#define CFUTURES_TEST_POINT(id) pass_point(id)
#include "cfutures.h"

#include "test.h"

#include "process.h"

#ifdef __linux__

#include <sys/stat.h>

#include "rights.h"

static void (*_Atomic point_hook)(int id);

static void pass_point(int id) {
    void (*const hook)(int) = atomic_load(&point_hook);
    if (hook != NULL) {
        hook(id);
    }
}

/* ---------------------------------------------------------------- what a hostile task can do */

static cf__slot *own_slot(void) {
    for (size_t i = 0; i < CF__SLOTS; i++) {
        if (cf__load_relaxed(&cf__child.desk->slots[i].word) == CF__SLOT_TAKEN) {
            return &cf__child.desk->slots[i];
        }
    }
    _exit(99);
}

static int memory(size_t size) {
    const int fd = (int)syscall(SYS_memfd_create, "hostile", 3UL /* CLOEXEC, ALLOW_SEALING */);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0) {
        _exit(98);
    }
    return fd;
}

static void seal(int fd) {
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
}

/* As many descriptors as wanted. The host may be gone, or have had enough of us. */
static void throw_at_host(unsigned char byte, const int *fds, size_t count) {
    if (send_rights(cf__child.channel, byte, fds, count, MSG_NOSIGNAL) < 0) {
        _exit(97);
    }
}

static void lend(unsigned char number, size_t size) {
    const int fd = memory(size);
    seal(fd);
    throw_at_host(number, &fd, 1);
    close(fd);
}

static void say(cf__slot *slot, int status, size_t size) {
    cf__outcome_write(&slot->outcome, status, 0, size);
}

static void end_slot(cf__slot *slot) {
    cf__store_seq_cst(&slot->word, CF__SLOT_ENDED);
    cf__child_ring();
}

/* ---------------------------------------------------------------- mutated frames */

static uint64_t dice;

static size_t roll(size_t sides) {
    return (size_t)(test_random(&dice) % sides);
}

static size_t odd_size(void) {
    static const size_t sizes[] = {
        0,   1,   15,  16,   17,    32,    33,      448,          449,           880,
        896, 897, 912, 4096, 65536, 65537, 1 << 20, SIZE_MAX / 2, SIZE_MAX - 15, SIZE_MAX};
    return sizes[roll(sizeof sizes / sizeof *sizes)];
}

static int odd_status(void) {
    static const int statuses[] = {CF_OK,        CF_OK,        CF_TASK_FAILED, CF_TASK_TIMEOUT,
                                   CF_NO_MEMORY, CF_CANCELLED, CF_WORKER_LOST, CF_END,
                                   300,          INT_MIN};
    return statuses[roll(sizeof statuses / sizeof *statuses)];
}

static void odd_records(cf__slot *slot) {
    for (size_t at = 0; at + sizeof(cf__outcome) <= CF__SLOT_ROOM; at += sizeof(cf__outcome)) {
        cf__outcome_write((cf__outcome *)(void *)(slot->bytes + at), odd_status(), 1,
                          roll(3) == 0 ? odd_size() : roll(64));
    }
}

static void odd_descriptor(void) {
    const int fd = memory(roll(4) == 0 ? 1 : 4096 * (1 + roll(32)));
    const int fds[3] = {fd, cf__child.channel, fd};
    if (roll(4) != 0) {
        seal(fd);
    }
    throw_at_host((unsigned char)roll(CF__MAPPINGS + 4), fds, roll(4) == 0 ? 2 + roll(2) : 1);
    if (roll(2) == 0) {
        (void)ftruncate(fd, (off_t)roll(5000));
        seal(fd);
    }
    close(fd);
}

static void odd_word(void) {
    cf__desk *const desk = cf__child.desk;
    const uintptr_t value = roll(5);
    switch (roll(6)) {
    case 0:
        cf__store_relaxed(&desk->up, value);
        break;
    case 1:
        cf__store_relaxed(&desk->bell, value);
        break;
    case 2:
        cf__store_relaxed(&desk->loans[roll(CF__LOANS)], value);
        break;
    case 3:
        cf__store_relaxed(&desk->asleep, value);
        break;
    case 4:
        cf__store_relaxed(&desk->slots[roll(CF__SLOTS)].stop, value);
        break;
    default:
        cf__store_relaxed(&desk->slots[roll(CF__SLOTS)].word, value);
        break;
    }
}

/* An outcome as it could be, then one to three things wrong with it. */
static void send_frame(void) {
    cf__slot *const slot = &cf__child.desk->slots[roll(4) == 0 ? roll(CF__SLOTS) : roll(4)];
    cf__store_relaxed(&slot->place, 0);
    cf__store_relaxed(&slot->progress, slot->job.items);
    say(slot, CF_OK, roll(64));
    for (size_t n = 1 + roll(3); n > 0; n--) {
        switch (roll(8)) {
        case 0:
            cf__store_relaxed(&slot->outcome.extent, odd_size());
            break;
        case 1:
            say(slot, odd_status(), odd_size());
            break;
        case 2:
            cf__store_relaxed(&slot->place, roll(CF__MAPPINGS + 4));
            break;
        case 3:
            cf__store_relaxed(&slot->place, odd_size());
            break;
        case 4:
            cf__store_relaxed(&slot->progress, odd_size());
            break;
        case 5:
            odd_records(slot);
            break;
        case 6:
            odd_descriptor();
            break;
        default:
            odd_word();
            break;
        }
    }
    end_slot(slot);
    atomic_fetch_add(&sh->count, 1);
}

typedef struct attack {
    uint64_t seed;
    int frames;
} attack;

/* In the end it dies in one way or another: a worker out of step is of no use to anybody. Its
 * future has mostly ended long before, by the first frame that made sense. */
static int task_attack(cf_task *task, void *arg) {
    const attack *const a = arg;
    (void)task;
    atomic_store(&sh->marks[cf__child.index], (int)getpid());
    dice = a->seed;
    for (int i = 0; i < a->frames; i++) {
        send_frame();
        if (roll(4) == 0) {
            sched_yield(); /* and the host looks */
        }
    }
    if (roll(3) == 0) {
        raise(SIGKILL);
    } else if (roll(2) == 0) {
        (void)shutdown(cf__child.channel, SHUT_RDWR);
    }
    _exit(96);
}

static bool has_attacked(size_t worker) {
    return atomic_load(&sh->marks[worker]) != 0;
}

/* As long as an attacker lives, what it says of other tasks that it was given is as good as an
 * honest worker's word. One lane has one worker at a time, so the last one is all there may be. */
static void await_the_end_of_attacks(size_t workers) {
    for (size_t i = 0; i < workers; i++) {
        const pid_t attacker = (pid_t)atomic_load(&sh->marks[i]);
        UNTIL(attacker == 0 || !is_alive(attacker));
    }
}

/* ---------------------------------------------------------------- ordinary work */

typedef struct answer {
    int n, square;
} answer;

static int task_answer(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    const answer a = {n, n * n};
    return cf_task_return(task, &a, sizeof a);
}

enum { FRAMES_QUICK = 10000, BATCH = 24, BIG = 100000 };

typedef struct tally {
    int ended, right;
} tally;

/* Whatever a worker made of it, it ends. */
static void take_answer(cf_future *future, int n, tally *t) {
    CHECK(outcome(future) != CF_TIMEOUT);
    const answer *const a = cf_future_result(future, 0, NULL);
    t->ended++;
    t->right +=
        a != NULL && cf_future_result_size(future) == sizeof *a && a->n == n && a->square == n * n;
    cf_future_release(future);
}

static void read_all(cf_future *future) {
    const unsigned char *const bytes = cf_future_result(future, 0, NULL);
    const size_t size = cf_future_result_size(future);
    unsigned sum = 0;
    for (size_t i = 0; bytes != NULL && i < size; i++) {
        sum += bytes[i];
    }
    CHECK(sum <= size * 255);
    CHECK(strlen(cf_future_error_message(future)) <= CF__SLOT_ROOM);
}

static void map_some(cf_executor *executor, tally *t) {
    int items[40];
    for (int i = 0; i < 40; i++) {
        items[i] = i;
    }
    const cf_map_options options = {.chunksize = 10, .timeout = limit(TEST_GATE_LIMIT_S)};
    cf_map_iter *iter = cf_executor_map(executor, task_answer, items, 40, sizeof *items, &options);
    cf_status status = CF_OK;
    int ended = 0;
    CHECK(iter != NULL);
    for (const answer *a = cf_map_next(iter, &status); status != CF_END;
         a = cf_map_next(iter, &status)) {
        CHECK(status != CF_TIMEOUT);
        ended++;
        t->right += a != NULL && cf_map_result_size(iter) == sizeof *a && a->square == a->n * a->n;
    }
    CHECK_EQ(ended, 40);
    t->ended += ended;
    cf_map_close(iter);
}

/* One attack, and what goes on beside it. */
static void round_of_work(cf_executor *executor, uint64_t seed, int frames, tally *t) {
    static unsigned char big[BIG];
    cf_future *futures[BATCH];
    const attack a = {seed, frames};
    cf_future *hostile = cf_executor_submit(executor, task_attack, &a, sizeof a);
    for (int i = 0; i < BATCH; i++) {
        futures[i] = submit_int(executor, task_answer, i);
    }
    cf_future *echo = cf_executor_submit(executor, task_echo, big, sizeof big);
    map_some(executor, t);
    for (int i = 0; i < BATCH; i++) {
        take_answer(futures[i], i, t);
    }
    CHECK(outcome(echo) != CF_TIMEOUT);
    read_all(echo);
    cf_future_release(echo);
    CHECK(outcome(hostile) != CF_TIMEOUT);
    read_all(hostile);
    cf_future_release(hostile);
}

static int frames_wanted(void) {
    const char *const text = getenv("CF_TEST_FRAMES");
    const long frames = text != NULL ? strtol(text, NULL, 10) : FRAMES_QUICK;
    return frames > 0 && frames < 100000000 ? (int)frames : FRAMES_QUICK;
}

TEST(mutated_frames_do_no_harm) {
    enum { WORKERS = 3 };
    cf_executor *executor = processes(WORKERS);
    tally t = {0, 0};
    const int wanted = frames_wanted();
    const int64_t start = now();
    const bool is_long = wanted > FRAMES_QUICK;
    still_works(executor);
    for (uint64_t round = 1; atomic_load(&sh->count) < wanted; round++) {
        if (!is_long && now() - start > limit(2)) {
            break;
        }
        alarm((unsigned)(limit(30) / 1000000000)); /* a hang ends it, as long as it may take */
        round_of_work(executor, round * 2654435761U + 88172645463325252U, 1 << round % 9, &t);
    }
    CHECK(t.right > t.ended / 2);
    await_the_end_of_attacks(WORKERS);
    still_works(executor);
    const cf_stats stats = stats_of(executor);
    CHECK_EQ(stats.submitted, stats.finished + stats.cancelled);
    shut(executor);
    if (is_long) {
        printf("%d frames, %d of %d other results right, %d workers replaced\n",
               atomic_load(&sh->count), t.right, t.ended, (int)stats.restarts);
    }
}

/* Which worker has had the task last. */
static size_t worker_of(cf_future *future, const cf_executor *executor) {
    const cf__lane *const lane = (const cf__lane *)cf__load_relaxed(&future->runner);
    CHECK(lane >= executor->hub->lanes && lane < executor->hub->lanes_end);
    return (size_t)(lane - executor->hub->lanes);
}

/* One attack among many tasks; how many of these were run by others than the attacker. */
static int attack_once(cf_executor *executor, size_t workers, uint64_t seed) {
    cf_future *stays[8], *futures[BATCH];
    const attack a = {seed, 64};
    int honest = 0;
    atomic_store(&sh->open, 0);
    occupy_processes(executor, (int)workers, stays);
    cf_future *hostile = cf_executor_submit(executor, task_attack, &a, sizeof a);
    for (int i = 0; i < BATCH; i++) {
        futures[i] = submit_int(executor, task_square, i);
    }
    open_shared();
    for (int i = 0; i < BATCH; i++) {
        (void)outcome(futures[i]);
        if (!has_attacked(worker_of(futures[i], executor))) {
            CHECK_EQ(int_of(futures[i]), i * i);
            honest++;
        }
    }
    (void)take_outcome(hostile);
    release_all(futures, BATCH);
    release_all(stays, workers);
    return honest;
}

/* Tasks of the other workers, and of those that come after it. */
TEST(a_worker_harms_its_own_tasks_only) {
    enum { WORKERS = 3 };
    const int64_t start = now();
    int honest = 0;
    for (int round = 0; is_time_for(round, 10, start); round++) {
        cf_executor *executor = processes(WORKERS);
        for (size_t i = 0; i < WORKERS; i++) {
            atomic_store(&sh->marks[i], 0);
        }
        honest += attack_once(executor, WORKERS, (uint64_t)round * 2654435761U + 1);
        await_the_end_of_attacks(WORKERS);
        for (int i = 0; i < BATCH; i++) {
            still_works(executor);
        }
        shut(executor);
    }
    CHECK(honest > 0);
}

/* ---------------------------------------------------------------- one harm each */

static int task_two_descriptors(cf_task *task, void *arg) {
    const int fds[3] = {cf__child.channel, cf__child.channel, cf__child.channel};
    (void)task;
    (void)arg;
    for (size_t i = 0; i < 60; i++) {
        throw_at_host((unsigned char)i, fds, 2 + i % 2);
    }
    return 0;
}

TEST(surplus_descriptors_do_not_pile_up) {
    cf_executor *executor = processes(1);
    still_works(executor);
    const size_t before = descriptor_count();
    CHECK_STATUS(take_outcome(submit_none(executor, task_two_descriptors)), CF_OK);
    still_works(executor);
    UNTIL(descriptor_count() <= before);
    shut(executor);
}

static int task_talk(cf_task *task, void *arg) {
    static char much[65536];
    (void)task;
    (void)arg;
    arrive();
    while (send(cf__child.channel, much, sizeof much, MSG_NOSIGNAL) > 0) {
    }
    _exit(95);
}

/* It talks faster than anybody can listen, and is killed for its time limit. */
TEST(a_worker_that_talks_without_end_stops_nobody) {
    cf_executor *executor = processes(2);
    cf_future *talker = submit_timed(executor, task_talk, 300 * CF_MILLISECOND);
    await_arrivals(1);
    for (int i = 0; i < 20; i++) {
        still_works(executor);
    }
    const cf_status status = take_outcome(talker);
    CHECK(status == CF_TASK_TIMEOUT || status == CF_WORKER_LOST);
    still_works(executor);
    shut(executor);
}

static int task_end_all(cf_task *task, void *arg) {
    const int64_t until = now() + 200000000;
    (void)task;
    (void)arg;
    while (now() < until) {
        for (size_t i = 0; i < CF__SLOTS; i++) {
            say(&cf__child.desk->slots[i], CF_OK, 0);
            cf__store_relaxed(&cf__child.desk->slots[i].word, CF__SLOT_ENDED);
        }
    }
    _exit(94);
}

/* It says so as soon as it can, while the host still copies the argument. */
TEST(what_has_not_been_handed_over_cannot_end) {
    static unsigned char big[BIG];
    cf_executor *executor = processes(1);
    cf_future *hostile = submit_none(executor, task_end_all);
    for (const int64_t until = now() + 200000000; now() < until;) {
        cf_future *future = cf_executor_submit(executor, task_echo, big, sizeof big);
        CHECK(outcome(future) != CF_TIMEOUT);
        read_all(future);
        cf_future_release(future);
    }
    take_outcome(hostile);
    still_works(executor);
    shut(executor);
}

static int task_seal_late(cf_task *task, void *arg) {
    const int fd = memory(1 << 20);
    cf__slot *const slot = own_slot();
    const int spins = *(const int *)arg;
    (void)task;
    throw_at_host(0, &fd, 1);
    cf__store_relaxed(&slot->place, 1);
    say(slot, CF_OK, 1 << 20);
    end_slot(slot);
    for (volatile int i = 0; i < spins; i++) {
    }
    (void)ftruncate(fd, 0);
    seal(fd);
    _exit(93);
}

/* Between two looks of the host, which must not believe the first one. */
TEST(memory_that_shrinks_before_it_is_sealed_is_refused) {
    cf_executor *executor = processes(1);
    const int64_t start = now();
    still_works(executor);
    for (int round = 0; is_time_for(round, 2000, start); round++) {
        cf_future *future = submit_int(executor, task_seal_late, round * 97 % 3000);
        CHECK(outcome(future) != CF_TIMEOUT);
        read_all(future);
        cf_future_release(future);
    }
    still_works(executor);
    shut(executor);
}

static int task_unsealed(cf_task *task, void *arg) {
    const int fd = memory(1 << 20);
    cf__slot *const slot = own_slot();
    (void)task;
    (void)arg;
    throw_at_host(0, &fd, 1);
    cf__store_relaxed(&slot->place, 1);
    say(slot, CF_OK, 1 << 20);
    end_slot(slot);
    _exit(92);
}

TEST(memory_that_may_shrink_is_refused) {
    cf_executor *executor = processes(1);
    CHECK_STATUS(take_outcome(submit_none(executor, task_unsealed)), CF_NO_MEMORY);
    still_works(executor);
    shut(executor);
}

/* int: the number of the mapping, which is of 100 TiB */
static int task_lend_everything(cf_task *task, void *arg) {
    const int number = *(const int *)arg;
    cf__slot *const slot = own_slot();
    const int kept = CF__LOANS + (int)(slot - cf__child.desk->slots);
    (void)task;
    lend((unsigned char)(number < CF__LOANS ? number : kept), (size_t)100 << 40);
    cf__store_relaxed(&slot->place, (uintptr_t)(number < CF__LOANS ? number : kept) + 1);
    say(slot, CF_OK, 8);
    end_slot(slot);
    _exit(89);
}

TEST(no_mapping_takes_the_whole_address_space) {
    cf_executor *executor = processes(1);
    CHECK_STATUS(take_outcome(submit_int(executor, task_lend_everything, 0)), CF_NO_MEMORY);
    CHECK_STATUS(take_outcome(submit_int(executor, task_lend_everything, 99)), CF_NO_MEMORY);
    still_works(executor);
    shut(executor);
}

static void spoil_job(cf__job *job, int how) {
    const cf__job sane = *job;
    switch (how) {
    case 0:
        job->arg_size = CF__SLOT_ROOM + 1;
        break;
    case 1:
        job->arg_size = SIZE_MAX;
        break;
    case 2:
        job->tray = 1;
        job->version = 77;
        break;
    case 3:
        job->tray = SIZE_MAX;
        job->arg_size = SIZE_MAX;
        job->version = 1;
        break;
    case 4:
        job->items = SIZE_MAX / 16;
        job->stride = 16;
        break;
    case 5:
        job->items = 1;
        job->item_size = SIZE_MAX;
        break;
    default:
        job->items = 3;
        job->stride = 16;
        job->arg_size = CF__SLOT_ROOM / 2 + 16;
        break;
    }
    CHECK(memcmp(&sane, job, sizeof sane) != 0);
}

/* What the worker is told to do cannot be: the host's memory went wild, or a task of its own. */
static void spoil(cf__slot *slot, int how) {
    if (how == 0) {
        slot->arg_size = CF__SLOT_ROOM + 1;
        return;
    }
    slot->job = cf__child_job(slot);
    slot->fn = CF__BY_JOB;
    spoil_job(&slot->job, how - 1);
}

TEST(a_worker_that_is_told_nonsense_leaves) {
    enum { WAYS = 8 };
    cf_executor *executor = processes(1);
    for (int how = 0; how < WAYS; how++) {
        const pid_t worker = pid_of_a_worker(executor);
        CHECK_EQ(kill(worker, SIGSTOP), 0);
        UNTIL(look_at(worker).state == 'T');
        cf_future *future = submit_int(executor, task_square, 3);
        cf__lane *const lane = &executor->hub->lanes[0];
        spoil(&lane->desk->slots[lane->head % CF__SLOTS], how);
        CHECK_EQ(kill(worker, SIGCONT), 0);
        CHECK_STATUS(outcome(future), CF_WORKER_LOST);
        CHECK(cf_future_error_code(future) >= 256); /* it left, and did not crash */
        cf_future_release(future);
        still_works(executor);
    }
    shut(executor);
}

static int task_too_long(cf_task *task, void *arg) {
    cf__slot *const slot = own_slot();
    (void)task;
    (void)arg;
    lend(0, 65536);
    cf__store_relaxed(&slot->place, 1);
    say(slot, CF_OK, 65537);
    end_slot(slot);
    return task_stay(task, arg);
}

TEST(who_claims_more_than_was_lent_is_killed) {
    cf_executor *executor = processes(1);
    const uint64_t restarts = stats_of(executor).restarts;
    CHECK_STATUS(take_outcome(submit_none(executor, task_too_long)), CF_WORKER_LOST);
    still_works(executor);
    CHECK_EQ(stats_of(executor).restarts, restarts + 1);
    shut(executor);
}

static int task_take_back(cf_task *task, void *arg) {
    cf__slot *const slot = own_slot();
    arrive();
    while (!cf_task_stop_requested(task)) {
    }
    cf__store_seq_cst(&slot->word, CF__SLOT_READY);
    return task_stay(task, arg);
}

/* A task that was cancelled in vain is there again: as if it had not started. */
TEST(what_was_taken_cannot_become_untaken) {
    cf_executor *executor = processes(1);
    cf_future *future = submit_none(executor, task_take_back);
    await_arrivals(1);
    CHECK(!cf_future_cancel(future));
    await_arrivals(2);
    (void)cf_future_cancel(future);
    CHECK_STATUS(cf_executor_kill_workers(executor, SIGKILL), CF_OK);
    const cf_status status = take_outcome(future);
    CHECK(status == CF_WORKER_LOST || status == CF_CANCELLED);
    shut(executor);
}

/* int: the first item of the chunk attacks, the others would be ordinary. Its records are in a
 * loan, which it replaces, and of whose place it changes its mind, while the host reads them. */
static int task_swap(cf_task *task, void *arg) {
    enum { RECORDS = 200, RECORD = 16016 };
    if (*(const int *)arg != 0) {
        return 0;
    }
    (void)task;
    cf__slot *const slot = own_slot();
    const int fd = memory((size_t)RECORDS * RECORD);
    char *const base =
        mmap(NULL, (size_t)RECORDS * RECORD, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        _exit(91);
    }
    for (size_t i = 0; i < RECORDS; i++) {
        cf__outcome_write((cf__outcome *)(void *)(base + i * RECORD), CF_OK, 0,
                          RECORD - cf__padded(sizeof(cf__outcome)));
    }
    seal(fd);
    throw_at_host(0, &fd, 1);
    cf__store_relaxed(&slot->place, 1);
    cf__store_relaxed(&slot->progress, RECORDS);
    say(slot, CF_OK, 0);
    end_slot(slot);
    for (size_t i = 0; i < 2000; i++) {
        cf__store_relaxed(&slot->place, i % 2 != 0 ? 100 : 1);
        if (i % 100 == 0) {
            lend(0, 4096);
        }
    }
    _exit(90);
}

TEST(records_stay_where_the_host_reads_them) {
    enum { ITEMS = 200 };
    int items[ITEMS];
    cf_executor *executor = processes(2);
    const int64_t start = now();
    for (int i = 0; i < ITEMS; i++) {
        items[i] = i;
    }
    for (int round = 0; is_time_for(round, 200, start); round++) {
        const cf_map_options options = {.chunksize = ITEMS, .timeout = limit(TEST_GATE_LIMIT_S)};
        cf_map_iter *iter =
            cf_executor_map(executor, task_swap, items, ITEMS, sizeof *items, &options);
        cf_status status = CF_OK;
        int ended = 0;
        still_works(executor);
        for (cf_map_next(iter, &status); status != CF_END; cf_map_next(iter, &status)) {
            CHECK(status != CF_TIMEOUT);
            ended++;
        }
        CHECK_EQ(ended, ITEMS);
        cf_map_close(iter);
    }
    still_works(executor);
    shut(executor);
}

/* Tries to shrink each mapping that it shares with the host: how many tries succeeded. */
static int task_shrink(cf_task *task, void *arg) {
    char line[512], name[128];
    int shrunk = 0, tried = 0;
    FILE *const maps = fopen("/proc/self/maps", "r");
    (void)arg;
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        char range[64] = "", permissions[8] = "";
        if (sscanf(line, "%63s %7s", range, permissions) != 2 || permissions[3] != 's' ||
            strstr(line, "cfutures") == NULL) {
            continue;
        }
        snprintf(name, sizeof name, "/proc/self/map_files/%s", range);
        const int fd = open(name, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            tried++;
            shrunk += ftruncate(fd, 0) == 0;
            close(fd);
        }
    }
    if (maps != NULL) {
        fclose(maps);
    }
    return tried == 0 ? cf_task_fail(task, 1, "nothing to try") : return_int(task, shrunk);
}

TEST(nothing_that_the_host_reads_can_be_shrunk) {
    static unsigned char big[BIG];
    cf_executor *executor = processes(1);
    cf_future *future = cf_executor_submit(executor, task_shrink, big, sizeof big);
    const cf_status status = outcome(future);
    const int shrunk = status == CF_OK ? take_int(future) : 0;
    if (status != CF_OK) {
        cf_future_release(future);
    }
    shut(executor);
    if (status != CF_OK) {
        SKIP("/proc/self/map_files is not to be had");
    }
    CHECK_EQ(shrunk, 0);
}

/* Rings when it is told to, as if its ring had been held up. */
static int task_ring(cf_task *task, void *arg) {
    arrive();
    UNTIL(atomic_load(&sh->other) != 0);
    CHECK_EQ(cf__exchange(&cf__child.desk->bell, 1), 0);
    CHECK_EQ(send(cf__child.channel, "", 1, MSG_NOSIGNAL), 1);
    arrive();
    return task_stay(task, arg);
}

/* A caller that takes the message away may not look at the bell again: who rings next is to be
 * heard nevertheless. */
TEST(who_takes_a_wake_up_away_has_heard_it) {
    cf_executor *executor = processes(1);
    cf_future *future = submit_none(executor, task_ring);
    await_arrivals(1);
    cf__lane *const lane = &executor->hub->lanes[0];
    cf__hub_lock(executor->hub);
    atomic_store(&sh->other, 1);
    await_arrivals(2);
    cf__lane_listen(lane);
    const uintptr_t bell = cf__load_relaxed(&lane->desk->bell);
    cf__hub_unlock(executor->hub);
    CHECK_EQ(bell, 0);
    open_shared();
    CHECK_STATUS(take_outcome(future), CF_OK);
    shut(executor);
}

static int task_hang_up(cf_task *task, void *arg) {
    arrive();
    UNTIL(atomic_load(&sh->other) != 0);
    CHECK_EQ(shutdown(cf__child.channel, SHUT_RDWR), 0);
    return task_hang(task, arg);
}

static cf_executor *watched;

/* The manager has looked at its lanes, and is about to sleep. */
static void see_it_hang_up(int id) {
    if (id != CF__POINT_NAP) {
        return;
    }
    atomic_store(&point_hook, NULL);
    atomic_store(&sh->other, 1);
    await_arrivals(2);
    cf__hub_lock(watched->hub);
    cf__lane_listen(&watched->hub->lanes[0]); /* as a caller does that takes a big result */
    CHECK(watched->hub->lanes[0].silent);
    cf__hub_unlock(watched->hub);
}

TEST(who_hangs_up_is_replaced_whoever_saw_it) {
    watched = processes(1);
    cf_future *future = submit_none(watched, task_hang_up);
    await_arrivals(1);
    atomic_store(&point_hook, see_it_hang_up);
    cf__hub_lock(watched->hub);
    cf__hub_wake(watched->hub);
    cf__hub_unlock(watched->hub);
    CHECK_STATUS(take_outcome(future), CF_WORKER_LOST);
    still_works(watched);
    shut(watched);
}

static int hostile_initializer(void *arg) {
    (void)arg;
    if (atomic_fetch_add(&sh->other, 1) == 0) {
        cf__store_seq_cst(&cf__child.desk->up, 3);
        cf__child_ring();
        for (;;) {
            pause();
        }
    }
    return 0;
}

/* A worker that says neither yes nor no while it starts is replaced. */
TEST(a_start_that_ends_in_nonsense_is_tried_again) {
    share();
    cf_executor *executor =
        processes_with(&(cf_pool_options){.max_workers = 1, .initializer = hostile_initializer});
    still_works(executor);
    CHECK(atomic_load(&sh->other) > 1);
    shut(executor);
}

/* ---------------------------------------------------------------- */

TEST_MAIN(
    RUN_WITHIN(7200, mutated_frames_do_no_harm)
    RUN(a_worker_harms_its_own_tasks_only)
    RUN(surplus_descriptors_do_not_pile_up)
    RUN(a_worker_that_talks_without_end_stops_nobody)
    RUN(what_has_not_been_handed_over_cannot_end)
    RUN(memory_that_shrinks_before_it_is_sealed_is_refused)
    RUN(memory_that_may_shrink_is_refused)
    RUN(who_claims_more_than_was_lent_is_killed)
    RUN(no_mapping_takes_the_whole_address_space)
    RUN(a_worker_that_is_told_nonsense_leaves)
    RUN(what_was_taken_cannot_become_untaken)
    RUN(records_stay_where_the_host_reads_them)
    RUN(nothing_that_the_host_reads_can_be_shrunk)
    RUN(who_takes_a_wake_up_away_has_heard_it)
    RUN(who_hangs_up_is_replaced_whoever_saw_it)
    RUN(a_start_that_ends_in_nonsense_is_tried_again)
)

#else

TEST(there_are_no_descriptors_of_memory_here) {
    SKIP("Linux only");
}

TEST_MAIN(RUN(there_are_no_descriptors_of_memory_here))

#endif
