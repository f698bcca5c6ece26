/* A recorder of what an observer is told, and the rules that each record has to keep. Include after
 * test.h. */
#ifndef CF_TEST_OBSERVER_H
#define CF_TEST_OBSERVER_H

#include "tasks.h"

enum { TOLD_MOST = 20000, TOLD_OPEN = 2000, TOLD_WORKERS = 64 };

typedef struct told {
    cf_event event; /* its message is the copy below */
    char message[96];
    int64_t heard;
} told;

static struct record {
    pthread_mutex_t lock;
    size_t count;
    told all[TOLD_MOST];
    pid_t host;
} record = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline void on_event(const cf_event *event, void *user) {
    CHECK(user == &record);
    CHECK_EQ(getpid(), record.host);
    CHECK(event->executor != NULL && event->message != NULL);
    pthread_mutex_lock(&record.lock);
    CHECK(record.count < TOLD_MOST);
    told *entry = &record.all[record.count++];
    entry->event = *event;
    snprintf(entry->message, sizeof entry->message, "%s", event->message);
    entry->event.message = entry->message;
    entry->heard = now();
    pthread_mutex_unlock(&record.lock);
}

static inline const cf_observer *recorder(void) {
    static const cf_observer all = {on_event, on_event, on_event, on_event, on_event, &record};
    record.host = getpid();
    return &all;
}

/* How many of that kind, with that status. */
static inline size_t count_told(cf_event_kind kind, cf_status status) {
    size_t count = 0;
    pthread_mutex_lock(&record.lock);
    for (size_t i = 0; i < record.count; i++) {
        const cf_event *event = &record.all[i].event;
        count += event->kind == kind && event->status == status;
    }
    pthread_mutex_unlock(&record.lock);
    return count;
}

/* The n-th of that kind, from 0. */
static inline const cf_event *nth_told(cf_event_kind kind, size_t n) {
    for (size_t i = 0; i < record.count; i++)
        if (record.all[i].event.kind == kind && n-- == 0) return &record.all[i].event;
    test_check(false, __FILE__, __LINE__, "there are as many events of that kind");
    return NULL;
}

/* The sum of `items` over all events of that kind. */
static inline size_t items_told(cf_event_kind kind) {
    size_t items = 0;
    for (size_t i = 0; i < record.count; i++)
        if (record.all[i].event.kind == kind) items += record.all[i].event.items;
    return items;
}

/* The tasks that have begun and not ended, by their identity. */
typedef struct life {
    const void *task;
    cf_event_kind last;
    cf_duration time;
    cf_task_fn *fn;
    size_t worker;
} life;

static inline life *life_of(life *lives, size_t *count, const cf_event *event) {
    for (size_t i = 0; i < *count; i++)
        if (lives[i].task == event->task) return &lives[i];
    CHECK_EQ(event->kind, CF_EVENT_SUBMITTED);
    CHECK(*count < TOLD_OPEN);
    lives[*count] = (life){event->task, CF_EVENT_FINISHED, 0, event->fn, SIZE_MAX};
    return &lives[(*count)++];
}

static inline void check_step(life *lives, size_t *count, const cf_event *event,
                              const bool *workers) {
    life *known = life_of(lives, count, event);
    CHECK(event->fn != NULL);
    CHECK(event->fn == known->fn);
    CHECK(event->time >= known->time);
    switch (event->kind) {
    case CF_EVENT_SUBMITTED:
        CHECK_EQ(known->last, CF_EVENT_FINISHED);
        CHECK_STATUS(event->status, CF_OK);
        CHECK(event->worker == SIZE_MAX);
        break;
    case CF_EVENT_STARTED:
        CHECK_EQ(known->last, CF_EVENT_SUBMITTED);
        CHECK_STATUS(event->status, CF_OK);
        CHECK(event->worker < TOLD_WORKERS);
        CHECK(workers == NULL || workers[event->worker]);
        known->worker = event->worker;
        break;
    default:
        CHECK_EQ(event->kind, CF_EVENT_FINISHED);
        CHECK(known->last != CF_EVENT_FINISHED);
        CHECK(event->worker == known->worker);
        CHECK(known->last == CF_EVENT_STARTED || (event->status != CF_OK && event->items == 0));
        CHECK((event->status == CF_OK) == (event->message[0] == '\0') ||
              event->status == CF_CANCELLED);
    }
    known->last = event->kind;
    known->time = event->time;
    if (event->kind == CF_EVENT_FINISHED) *known = lives[--*count];
}

/* After the close: every task was told once and in order, on a worker that was there; every worker
 * has ended. callers: some tasks ran in whoever submitted them. */
static inline void check_record(bool callers) {
    static life lives[TOLD_OPEN];
    bool workers[TOLD_WORKERS] = {false};
    size_t open = 0;
    for (size_t i = 0; i < record.count; i++) {
        const cf_event *event = &record.all[i].event;
        CHECK(event->time <= record.all[i].heard);
        if (event->kind < CF_EVENT_WORKER_STARTED) {
            check_step(lives, &open, event, callers ? NULL : workers);
            continue;
        }
        CHECK(event->task == NULL && event->fn == NULL);
        CHECK(event->worker < TOLD_WORKERS);
        CHECK_EQ(workers[event->worker], event->kind == CF_EVENT_WORKER_ENDED);
        workers[event->worker] = event->kind == CF_EVENT_WORKER_STARTED;
    }
    CHECK_EQ(open, 0);
    for (size_t i = 0; i < TOLD_WORKERS; i++) CHECK(!workers[i]);
}

/* What was told of tasks, in letters: s, r (runs), + ended well, - not; < > a worker. */
static inline const char *story(void) {
    static char text[TOLD_MOST + 1];
    size_t at = 0;
    for (size_t i = 0; i < record.count; i++) {
        const cf_event *event = &record.all[i].event;
        char letter = "sr+<>"[event->kind];
        if (event->kind == CF_EVENT_FINISHED && event->status != CF_OK) letter = '-';
        text[at++] = letter;
    }
    text[at] = '\0';
    return text;
}

/* ---------------------------------------------------------------- pools of either kind must do it */

static inline void close_and_check(cf_executor *executor) {
    cf_executor_close(executor);
    check_record(false);
}

static inline int initializer_fails(void *arg) {
    (void)arg;
    return 1;
}

/* A pool whose initializer fails: it has told of this task, which has failed, and of no worker. */
static inline void check_broken(cf_executor *executor) {
    cf_future *future = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
    CHECK_STATUS(outcome(future), CF_BROKEN);
    cf_future_release(future);
    close_and_check(executor);
    CHECK_STR(story(), "s-");
    CHECK_EQ(count_told(CF_EVENT_FINISHED, CF_BROKEN), 1);
}

static inline void check_failure(cf_executor *executor) {
    cf_future_release(cf_executor_submit(executor, task_fail, CF_VALUE(int, 42)));
    close_and_check(executor);
    const cf_event *event = nth_told(CF_EVENT_FINISHED, 0);
    CHECK_STATUS(event->status, CF_TASK_FAILED);
    CHECK_EQ(event->code, 42);
    CHECK_STR(event->message, "failed with 42");
    CHECK_EQ(event->items, 1);
}

static _Atomic(const void *) last_finished;

static inline void on_finished(const cf_event *event, void *user) {
    (void)user;
    atomic_store(&last_finished, event->task);
}

static const cf_observer of_finished = {.finished = on_finished};

/* Tasks of a pool with that observer, as many as there is time for. */
static inline void check_finished_before_done(cf_executor *executor, int most) {
    const int64_t start = now();
    for (int i = 0; is_time_for(i, most, start); i++) {
        cf_future *future = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
        UNTIL(cf_future_done(future));
        CHECK(atomic_load(&last_finished) == future);
        cf_future_release(future);
    }
    cf_executor_close(executor);
}

/* A hook that submits so many tasks, and cancels every other one, before it records its event. */
static atomic_int submits_left;

static inline void hook_uses_the_pool(const cf_event *event, void *user) {
    cf_stats stats;
    cf_executor_stats(event->executor, &stats);
    CHECK(event->kind >= CF_EVENT_WORKER_STARTED || stats.submitted + stats.queued < 1000);
    if (event->kind != CF_EVENT_WORKER_ENDED && atomic_fetch_sub(&submits_left, 1) > 0) {
        cf_future *future = cf_executor_submit(event->executor, task_nothing, CF_NO_ARG);
        if (atomic_load(&submits_left) % 2 == 0) (void)cf_future_cancel(future);
        cf_future_release(future);
    }
    on_event(event, user);
}

static inline const cf_observer *user_of_the_pool(int submits) {
    static const cf_observer all = {hook_uses_the_pool, hook_uses_the_pool, hook_uses_the_pool,
                                    hook_uses_the_pool, hook_uses_the_pool, &record};
    (void)recorder();
    atomic_store(&submits_left, submits);
    return &all;
}

static inline void run_twenty(cf_executor *executor) {
    for (int i = 0; i < 20; i++) {
        cf_future *future = cf_executor_submit(executor, task_nothing, CF_NO_ARG);
        CHECK_STATUS(outcome(future), CF_OK);
        cf_future_release(future);
    }
}

#endif
