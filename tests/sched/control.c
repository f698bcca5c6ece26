/* See control.h. The command line:
 *
 *     [-n SCHEDULES] [-t SECONDS] [-s SEED] [scenario...]    from that seed on, each
 *     -x PREEMPTIONS [-n ...] [-t ...] [scenario...]    all schedules with at most so many
 *     -r SEED scenario                                  one of them, with its trace
 *     -x PREEMPTIONS -r NUMBER scenario                 the same
 *
 * Each scenario has a process of its own, which ends with its first failure. */
#include "control.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK ((size_t)256 << 10)
#define ARENA ((size_t)8 << 20)
#define GRANULE 16
#define BUFFERED 8     /* stores that a buffer holds */
#define STALE 300      /* steps after which a store must be seen */
#define STEPS 30000    /* a schedule that is longer has no end */
#define PATH 4096      /* choices in one schedule of an exhaustive search */
#define FREED_KEPT 16  /* blocks that may be handed out again */

typedef enum state { UNUSED, READY, ASLEEP, ENDED } state;
typedef enum cause { FUTEX, MUTEX, CONDITION, JOIN } cause;
typedef enum end { WOKEN, TIMED_OUT, FOR_NOTHING } end;

typedef struct pending {
    atomic_uintptr_t *word;
    uintptr_t value;
    unsigned since;
    bool releases;
} pending;

typedef struct thread {
    state state;
    cause reason;
    end outcome;
    const void *on;
    int64_t deadline; /* INT64_MAX: none */
    int64_t priority;
    ctl_thread_fn *fn;
    void *arg;
    uintptr_t frame; /* while it does not run: all below is dead */
    pending buffer[BUFFERED];
    unsigned buffered;
    const void *place;
    bool made;
    ucontext_t start;
    jmp_buf at;
} thread;

typedef struct event {
    unsigned char thread;
    const char *what;
    const volatile void *address;
    uintptr_t old, value;
    const void *place;
} event;

/* How a seed schedules. */
typedef struct plan {
    enum { FIRST, UNIFORM, STICKY, PRIORITIES, SEARCH } strategy;
    unsigned depth;     /* of PRIORITIES: points where the running thread falls behind, plus one */
    unsigned change[4]; /* at these steps */
    unsigned spurious;  /* wake-ups without a reason, in 1024 steps */
    unsigned hurry;     /* deadlines that pass early, in 1024 steps */
    unsigned flush;     /* a store leaves its buffer, in 256 steps; 256: there are no buffers */
    bool reorders;      /* relaxed stores may overtake others */
    bool reuses;        /* freed memory is handed out again */
    unsigned cpus;
    int64_t tick;       /* how long it takes to read the clock */
} plan;

static thread threads[CTL_THREADS];
int ctl_now;
static int thread_count;
static jmp_buf driver;
static plan how;
static uint64_t random_state;
static unsigned steps, usual_steps;
static int64_t clock_now;

static char *arena, *stacks;
static size_t arena_used, live;
static unsigned char shadow[ARENA / GRANULE]; /* 0: never used */
enum { LIVE = 1, FREED, RECYCLED };
static struct { char *memory; size_t size; } freed[FREED_KEPT];
static unsigned freed_count;

static event events[STEPS + 64];
static unsigned event_count;

static const char *program, *running_scenario;
static uint64_t running_seed;
static int preemptions = -1; /* of an exhaustive search; -1: seeds */
static bool replaying;

/* ---- choices ---- */

static uint64_t next_random(void) {
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static struct { unsigned char choice, choices; } path[PATH];
static unsigned path_length, path_at;
static int preemptions_left;

/* One of so many: by the path that is being explored, and for the first time the first. */
static unsigned search(unsigned choices) {
    if (path_at == PATH) {
        ctl_fail("more than %d choices", PATH);
    }
    if (path_at == path_length) {
        path[path_length].choice = 0;
        path[path_length++].choices = (unsigned char)choices;
    }
    return path[path_at++].choice;
}

/* To the next path. False: that was the last. */
static bool search_on(void) {
    while (path_length > 0 && path[path_length - 1].choice + 1 == path[path_length - 1].choices) {
        path_length--;
    }
    if (path_length == 0) {
        return false;
    }
    path[path_length - 1].choice++;
    return true;
}

unsigned ctl_random(unsigned below) {
    if (how.strategy == FIRST) {
        return 0;
    }
    return how.strategy == SEARCH ? search(below) : (unsigned)(next_random() % below);
}

static bool happens(unsigned chance, unsigned of) {
    return chance > 0 && next_random() % of < chance;
}

static void plan_pct(unsigned depth) {
    how.strategy = PRIORITIES;
    how.depth = depth;
    for (unsigned i = 0; i + 1 < depth; i++) {
        how.change[i] = (unsigned)(next_random() % (usual_steps + usual_steps / 4 + 1));
    }
}

static void plan_by_seed(uint64_t seed) {
    static const unsigned flushes[] = {256, 128, 16, 1};
    memset(&how, 0, sizeof how);
    random_state = seed * 0xd1342543de82ef95u;
    switch (next_random() % 4) {
    case 0: how.strategy = UNIFORM; break;
    case 1: how.strategy = STICKY; break;
    case 2: plan_pct(2); break;
    default: plan_pct(3);
    }
    how.spurious = next_random() % 2 == 0 ? 50 : 0;
    how.hurry = next_random() % 2 == 0 ? 20 : 2;
    how.flush = flushes[next_random() % 4];
    how.reorders = next_random() % 2 == 0;
    how.reuses = next_random() % 2 == 0;
    how.cpus = next_random() % 4 == 0 ? 2 : 1;
    how.tick = next_random() % 2 == 0 ? 20 : 3000;
}

static void plan_first(void) {
    memset(&how, 0, sizeof how);
    random_state = 1;
    how.flush = 256;
    how.cpus = 1;
    how.tick = 20;
}

/* Stores stay in their buffers for as long as they can: with few preemptions that shows more. */
static void plan_search(void) {
    plan_first();
    how.strategy = SEARCH;
    how.flush = 0;
    path_at = 0;
    preemptions_left = preemptions;
}

/* ---- the trace ---- */

static void record(const char *what, const volatile void *address, uintptr_t old, uintptr_t value,
                   const void *place) {
    if (event_count < sizeof events / sizeof *events) {
        events[event_count++] =
            (event){(unsigned char)ctl_now, what, address, old, value, place};
    }
}

/* The operations themselves, which are nobody's place. */
static bool is_operation(const char *function) {
    static const char *const names[] = {"ctl_", "cf__load_", "cf__store_", "cf__exchange",
                                        "cf__fetch_", "cf__cas", "cf__bump"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strncmp(function, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* "function (file:line)" of an address in the code, where the system's addr2line is at hand. */
static const char *name_of(const void *place) {
    static struct { const void *place; char name[112]; } known[512];
    static size_t count;
    for (size_t i = 0; i < count; i++) {
        if (known[i].place == place) {
            return known[i].name;
        }
    }
    if (count == sizeof known / sizeof *known) {
        return "?";
    }
    char command[600], function[200], line[400];
    known[count].place = place;
    (void)snprintf(known[count].name, sizeof known->name, "%p", place);
    (void)snprintf(command, sizeof command, "addr2line -f -i -e '%s' %p 2>/dev/null", program,
                   (const void *)((const char *)place - 1));
    FILE *const answer = popen(command, "r");
    while (answer != NULL && fscanf(answer, "%199s %399[^\n]", function, line) == 2) {
        if (is_operation(function)) {
            continue;
        }
        const char *const file = strrchr(line, '/');
        (void)snprintf(known[count].name, sizeof known->name, "%.60s (%.40s)", function,
                       file != NULL ? file + 1 : line);
        break;
    }
    if (answer != NULL) {
        (void)pclose(answer);
    }
    return known[count++].name;
}

/* Where in memory, in a form that is the same in each run. */
static const char *label(const volatile void *address) {
    static char text[40];
    const uintptr_t at = (uintptr_t)address;
    if (at - (uintptr_t)arena < ARENA) {
        (void)snprintf(text, sizeof text, "heap+0x%zx", (size_t)(at - (uintptr_t)arena));
    } else if (at - (uintptr_t)stacks < CTL_THREADS * STACK) {
        const size_t offset = (size_t)(at - (uintptr_t)stacks);
        (void)snprintf(text, sizeof text, "stack%zu-0x%zx", offset / STACK,
                       STACK - offset % STACK);
    } else {
        (void)snprintf(text, sizeof text, "%p", (const void *)at);
    }
    return text;
}

static void print_trace(void) {
    for (unsigned i = 0; i < event_count; i++) {
        const event *const e = &events[i];
        printf("%6u  t%u%*s%-9s %-16s %" PRIxPTR " -> %" PRIxPTR "  %s\n", i, e->thread,
               1 + 2 * e->thread, "", e->what, label(e->address), e->old, e->value,
               name_of(e->place));
    }
}

static void print_threads(void) {
    static const char *const states[] = {"unused", "ready", "asleep", "ended"};
    static const char *const reasons[] = {"futex", "mutex", "condition", "end of a thread"};
    for (int i = 0; i < thread_count; i++) {
        const thread *const t = &threads[i];
        printf("    t%d %s", i, states[t->state]);
        if (t->state == ASLEEP) {
            printf(" on a %s, %s", reasons[t->reason], label(t->on));
        }
        printf(", last seen in %s\n", name_of(t->place));
    }
}

void ctl_fail(const char *format, ...) {
    va_list arguments;
    printf("FAILED %s, seed %llu: ", running_scenario, (unsigned long long)running_seed);
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    printf("\n  in t%d, step %u\n", ctl_now, steps);
    if (replaying) {
        print_trace();
    }
    print_threads();
    printf("    again: %s", program);
    if (preemptions >= 0) {
        printf(" -x %d", preemptions);
    }
    printf(" -r %llu %s\n", (unsigned long long)running_seed, running_scenario);
    (void)fflush(stdout);
    _exit(1);
}

/* ---- memory ---- */

static bool in_arena(const volatile void *address) {
    return (uintptr_t)address - (uintptr_t)arena < ARENA;
}

static void mark(const void *memory, size_t size, int value) {
    memset(&shadow[(size_t)((const char *)memory - arena) / GRANULE], value, size / GRANULE);
}

/* Is it somebody's memory? Asked at each access to what threads share. */
static void check_access(const volatile void *address) {
    const uintptr_t at = (uintptr_t)address;
    if (in_arena(address)) {
        const unsigned char is = shadow[(at - (uintptr_t)arena) / GRANULE];
        if (is != LIVE) {
            ctl_fail("%s memory is used: %s", is == RECYCLED ? "a free future's" : "freed",
                     label(address));
        }
    } else if (at - (uintptr_t)stacks < CTL_THREADS * STACK) {
        const int owner = (int)((at - (uintptr_t)stacks) / STACK);
        if (owner != ctl_now && at < threads[owner].frame) {
            ctl_fail("a frame that is gone is used: %s", label(address));
        }
    }
}

void ctl_recycled(const void *memory, size_t size, bool in_use) {
    if (!in_arena(memory)) {
        return;
    }
    const unsigned char is = shadow[(size_t)((const char *)memory - arena) / GRANULE];
    if (!in_use && is != LIVE) {
        ctl_fail("freed twice: %s", label(memory));
    }
    mark(memory, size, in_use ? LIVE : RECYCLED);
}

static void drain(thread *self);

void *ctl_malloc(size_t size) {
    const size_t room = (size + 2 * GRANULE - 1) / GRANULE * GRANULE; /* the size comes first */
    char *block = NULL;
    drain(&threads[ctl_now]); /* allocators order what they do, at the least within a thread */
    for (unsigned i = 0; i < freed_count && how.reuses; i++) {
        if (freed[i].size == room) {
            block = freed[i].memory;
            freed[i] = freed[--freed_count];
            break;
        }
    }
    if (block == NULL) {
        if (ARENA - arena_used < room) {
            ctl_fail("out of memory");
        }
        block = arena + arena_used;
        arena_used += room;
    }
    memset(block, 0xa5, room);
    memcpy(block, &room, sizeof room);
    mark(block + GRANULE, room - GRANULE, LIVE);
    live++;
    return block + GRANULE;
}

void ctl_free(void *memory) {
    size_t room;
    char *const block = (char *)memory - GRANULE;
    drain(&threads[ctl_now]);
    if (!in_arena(memory) || shadow[(size_t)((char *)memory - arena) / GRANULE] == FREED) {
        ctl_fail("freed twice, or never allocated: %s", label(memory));
    }
    memcpy(&room, block, sizeof room);
    memset(memory, 0xdd, room - GRANULE);
    mark(memory, room - GRANULE, FREED);
    live--;
    if (freed_count < FREED_KEPT) {
        freed[freed_count].memory = block;
        freed[freed_count++].size = room;
    }
}

size_t ctl_live(void) {
    return live;
}

/* ---- store buffers: first in, first out. Where stores may be reordered, a relaxed one may
 * overtake those to other words; a release never does. ---- */

static void flush_at(thread *t, unsigned i) {
    const pending store = t->buffer[i];
    t->buffered--;
    memmove(&t->buffer[i], &t->buffer[i + 1], (t->buffered - i) * sizeof store);
    check_access(store.word);
    atomic_store_explicit(store.word, store.value, memory_order_relaxed);
}

static void drain(thread *t) {
    while (t->buffered > 0) {
        flush_at(t, 0);
    }
}

static void flush_one(thread *t) {
    unsigned i = how.reorders ? (unsigned)(next_random() % t->buffered) : 0;
    if (t->buffer[i].releases) {
        i = 0;
    }
    for (unsigned earlier = 0; earlier < i; earlier++) {
        if (t->buffer[earlier].word == t->buffer[i].word) {
            i = earlier;
        }
    }
    flush_at(t, i);
}

/* ---- who goes on ---- */

static void wake(thread *t, end outcome) {
    t->state = READY;
    t->outcome = outcome;
}

/* One whose sleep may end without a reason, or by its deadline: the seed's choice. */
static void disturb(unsigned chance, end outcome) {
    if (!happens(chance, 1024)) {
        return;
    }
    thread *const t = &threads[next_random() % (unsigned)thread_count];
    if (t->state != ASLEEP || t->reason == JOIN || t->reason == MUTEX) {
        return;
    }
    if (outcome == TIMED_OUT) {
        if (t->deadline == INT64_MAX) {
            return;
        }
        if (clock_now < t->deadline) {
            clock_now = t->deadline;
        }
    }
    wake(t, outcome);
}

static void pass_time(void) {
    for (int i = 0; i < thread_count; i++) {
        thread *const t = &threads[i];
        if (t->buffered > 0 &&
            (happens(how.flush, 256) || steps - t->buffer[0].since > STALE)) {
            flush_one(t);
        }
    }
    disturb(how.spurious, FOR_NOTHING);
    disturb(how.hurry, TIMED_OUT);
}

/* Nobody can go on: some deadline has to pass, or it is a deadlock. */
static void let_a_deadline_pass(void) {
    int timed[CTL_THREADS], count = 0;
    for (int i = 0; i < thread_count; i++) {
        drain(&threads[i]);
        if (threads[i].state == ASLEEP && threads[i].deadline != INT64_MAX) {
            timed[count++] = i;
        }
    }
    if (count == 0) {
        ctl_fail("deadlock");
    }
    thread *const t = &threads[timed[ctl_random((unsigned)count)]];
    if (clock_now < t->deadline) {
        clock_now = t->deadline;
    }
    wake(t, TIMED_OUT);
}

static int pick_by_priority(const int *ready, int count) {
    int best = ready[0];
    for (unsigned i = 0; i + 1 < how.depth; i++) {
        if (steps == how.change[i]) {
            threads[ctl_now].priority = -(int64_t)i - 1;
        }
    }
    for (int i = 1; i < count; i++) {
        if (threads[ready[i]].priority > threads[best].priority) {
            best = ready[i];
        }
    }
    return best;
}

static int pick_by_search(const int *ready, int count, bool goes_on) {
    if (!goes_on) {
        return ready[count > 1 ? search((unsigned)count) : 0];
    }
    if (preemptions_left == 0 || count == 1) {
        return ctl_now;
    }
    const unsigned choice = search((unsigned)count);
    if (choice == 0) {
        return ctl_now;
    }
    preemptions_left--;
    const int other = ready[choice - 1]; /* the others in order: the one that runs is left out */
    return other < ctl_now ? other : ready[choice];
}

static int pick(void) {
    int ready[CTL_THREADS], count = 0;
    for (;;) {
        for (int i = 0; i < thread_count; i++) {
            if (threads[i].state == READY) {
                ready[count++] = i;
            }
        }
        if (count > 0) {
            break;
        }
        let_a_deadline_pass();
    }
    const bool goes_on = threads[ctl_now].state == READY;
    switch (how.strategy) {
    case FIRST: return goes_on ? ctl_now : ready[0];
    case SEARCH: return pick_by_search(ready, count, goes_on);
    case PRIORITIES: return pick_by_priority(ready, count);
    case STICKY:
        if (goes_on && !happens(1, 8)) {
            return ctl_now;
        }
        break;
    default: break;
    }
    return ready[next_random() % (unsigned)count];
}

static _Noreturn void resume(int next) {
    thread *const t = &threads[next];
    ctl_now = next;
    if (!t->made) {
        t->made = true;
        (void)setcontext(&t->start);
    }
    _longjmp(t->at, 1); /* to a stack of its own, which is still there */
}

static void switch_to(int next) {
    thread *const self = &threads[ctl_now];
    if (next == ctl_now) {
        return;
    }
    self->frame = (uintptr_t)__builtin_frame_address(0);
    if (_setjmp(self->at) == 0) {
        resume(next);
    }
}

/* Before each operation that others could tell: from here they may go on. */
static void step(const void *place) {
    threads[ctl_now].place = place;
    if (++steps > STEPS) {
        ctl_fail("no end within %d steps", STEPS);
    }
    pass_time();
    switch_to(pick());
}

static end sleep_on(cause reason, const void *on, int64_t deadline) {
    thread *const self = &threads[ctl_now];
    drain(self);
    self->state = ASLEEP;
    self->reason = reason;
    self->on = on;
    self->deadline = deadline;
    switch_to(pick());
    return self->outcome;
}

/* At most so many; which, the seed says. */
static unsigned wake_sleepers(cause reason, const void *on, unsigned most) {
    int found[CTL_THREADS], count = 0;
    unsigned woken = 0;
    for (int i = 0; i < thread_count; i++) {
        if (threads[i].state == ASLEEP && threads[i].reason == reason && threads[i].on == on) {
            found[count++] = i;
        }
    }
    for (; count > 0 && woken < most; woken++) {
        const unsigned choice = count > 1 ? ctl_random((unsigned)count) : 0;
        wake(&threads[found[choice]], WOKEN);
        found[choice] = found[--count];
    }
    return woken;
}

/* ---- threads ---- */

static void thread_end(void) {
    thread *const self = &threads[ctl_now];
    drain(self);
    self->state = ENDED;
    (void)wake_sleepers(JOIN, self, UINT_MAX);
    bool all = true;
    for (int i = 0; i < thread_count; i++) {
        all = all && threads[i].state == ENDED;
    }
    self->frame = UINTPTR_MAX; /* nothing on this stack is in use */
    if (_setjmp(self->at) == 0) {
        if (all) {
            _longjmp(driver, 1);
        }
        resume(pick());
    }
}

/* A coroutine, once made, serves one schedule after the other. */
static void thread_main(void) {
    for (;;) {
        thread *const self = &threads[ctl_now];
        (void)self->fn(self->arg);
        thread_end();
    }
}

int ctl_spawn(ctl_thread_fn *fn, void *arg) {
    if (thread_count == CTL_THREADS) {
        ctl_fail("more than %d threads", CTL_THREADS);
    }
    if (thread_count > 0) {
        drain(&threads[ctl_now]); /* a thread sees what was there before it */
    }
    const int index = thread_count++;
    thread *const t = &threads[index];
    t->state = READY;
    t->fn = fn;
    t->arg = arg;
    t->buffered = 0;
    t->place = NULL;
    t->frame = UINTPTR_MAX;
    t->priority = how.strategy == PRIORITIES ? (int64_t)(next_random() >> 2) : 0;
    if (!t->made) {
        (void)getcontext(&t->start);
        t->start.uc_stack.ss_sp = stacks + (size_t)index * STACK;
        t->start.uc_stack.ss_size = STACK;
        t->start.uc_link = NULL;
        makecontext(&t->start, thread_main, 0);
    }
    return index;
}

void ctl_join(int index) {
    step(__builtin_return_address(0));
    while (threads[index].state != ENDED) {
        (void)sleep_on(JOIN, &threads[index], INT64_MAX);
    }
}

void ctl_yield(void) {
    step(__builtin_return_address(0));
}

void ctl_publish(void) {
    drain(&threads[ctl_now]);
}

int ctl_thread_create(unsigned long *id, const void *attributes, ctl_thread_fn *fn, void *arg) {
    (void)attributes;
    step(__builtin_return_address(0));
    const int index = ctl_spawn(fn, arg);
    *id = (unsigned long)index;
    record("start", NULL, 0, (uintptr_t)index, __builtin_return_address(0));
    return 0;
}

int ctl_thread_join(unsigned long id, void **result) {
    (void)result;
    record("join", NULL, 0, id, __builtin_return_address(0));
    ctl_join((int)id);
    return 0;
}

int ctl_thread_detach(unsigned long id) {
    (void)id;
    return 0;
}

/* ---- atomics ---- */

uintptr_t ctl_load(atomic_uintptr_t *word) {
    const void *const place = __builtin_return_address(0);
    step(place);
    check_access(word);
    const thread *const self = &threads[ctl_now];
    uintptr_t value = atomic_load_explicit(word, memory_order_relaxed);
    for (unsigned i = 0; i < self->buffered; i++) {
        if (self->buffer[i].word == word) {
            value = self->buffer[i].value; /* the newest of its own */
        }
    }
    record("load", word, value, value, place);
    return value;
}

uintptr_t ctl_peek(atomic_uintptr_t *word) {
    return atomic_load_explicit(word, memory_order_relaxed);
}

/* A store to the own stack is seen at once: the frame may be gone when it would leave the buffer,
 * and plain stores, which have none, may follow. */
void ctl_store(atomic_uintptr_t *word, uintptr_t value, memory_order order) {
    const void *const place = __builtin_return_address(0);
    step(place);
    check_access(word);
    thread *const self = &threads[ctl_now];
    const char *const stack = stacks + (size_t)ctl_now * STACK;
    const bool waits = order != memory_order_seq_cst && how.flush < 256 &&
                       (uintptr_t)word - (uintptr_t)stack >= STACK;
    record(waits ? "store..." : "store", word, atomic_load_explicit(word, memory_order_relaxed),
           value, place);
    if (!waits) {
        drain(self);
        atomic_store_explicit(word, value, memory_order_relaxed);
        return;
    }
    if (self->buffered == BUFFERED) {
        flush_at(self, 0);
    }
    self->buffer[self->buffered++] = (pending){word, value, steps, order == memory_order_release};
}

uintptr_t ctl_rmw(atomic_uintptr_t *word, ctl_change change, uintptr_t value) {
    const void *const place = __builtin_return_address(0);
    step(place);
    check_access(word);
    drain(&threads[ctl_now]);
    const uintptr_t old = atomic_load_explicit(word, memory_order_relaxed);
    const uintptr_t new = change == CTL_ADD ? old + value
                          : change == CTL_OR ? (old | value) : value;
    atomic_store_explicit(word, new, memory_order_relaxed);
    record("change", word, old, new, place);
    return old;
}

bool ctl_cas(atomic_uintptr_t *word, uintptr_t *expected, uintptr_t desired) {
    const void *const place = __builtin_return_address(0);
    step(place);
    check_access(word);
    drain(&threads[ctl_now]);
    const uintptr_t old = atomic_load_explicit(word, memory_order_relaxed);
    const bool done = old == *expected;
    record(done ? "cas" : "cas fails", word, old, desired, place);
    if (done) {
        atomic_store_explicit(word, desired, memory_order_relaxed);
    } else {
        *expected = old;
    }
    return done;
}

/* A thread that spins lets others go first, and time passes. */
void ctl_pause(void) {
    static int64_t last;
    clock_now += 1000;
    threads[ctl_now].priority = INT64_MIN / 2 - ++last;
    step(__builtin_return_address(0));
}

/* ---- clock ---- */

int64_t ctl_clock(void) {
    return clock_now;
}

int ctl_clock_gettime(int clock, struct timespec *now) {
    (void)clock;
    clock_now += how.tick;
    now->tv_sec = (time_t)(clock_now / 1000000000);
    now->tv_nsec = (long)(clock_now % 1000000000);
    return 0;
}

/* ---- futex ---- */

static long futex_wait(const unsigned *word, unsigned seen, const long *until, const void *place) {
    int64_t deadline = INT64_MAX;
    if (until != NULL && until[0] < INT64_MAX / 1000000000) {
        deadline = (int64_t)until[0] * 1000000000 + until[1];
    }
    drain(&threads[ctl_now]); /* the kernel's own order: all stores, then the look at the word */
    step(place);
    check_access(word);
    if (*word != seen) {
        errno = EAGAIN;
        return -1;
    }
    record("sleeps", word, *word, 0, place);
    const end outcome = sleep_on(FUTEX, word, deadline);
    record("awake", word, 0, (uintptr_t)outcome, place);
    errno = outcome == TIMED_OUT ? ETIMEDOUT : EINTR;
    return outcome == WOKEN ? 0 : -1;
}

long ctl_syscall(long number, ...) {
    const void *const place = __builtin_return_address(0);
    va_list list;
    va_start(list, number);
    if (number == SYS_sched_getaffinity) {
        (void)va_arg(list, long);
        const size_t size = va_arg(list, size_t);
        unsigned char *const mask = va_arg(list, unsigned char *);
        va_end(list);
        memset(mask, 0, size);
        mask[0] = (unsigned char)((1u << how.cpus) - 1);
        return 8;
    }
    if (number != SYS_futex) {
        ctl_fail("the system call %ld is not modelled", number);
    }
    const void *const word = va_arg(list, void *);
    const long operation = va_arg(list, long) & 127;
    const long value = va_arg(list, long);
    if (operation == 9) { /* FUTEX_WAIT_BITSET */
        const long *const until = va_arg(list, const long *);
        va_end(list);
        return futex_wait(word, (unsigned)value, until, place);
    }
    va_end(list);
    if (operation != 1) { /* FUTEX_WAKE */
        ctl_fail("the futex operation %ld is not modelled", operation);
    }
    step(place);
    drain(&threads[ctl_now]);
    const unsigned woken = wake_sleepers(FUTEX, word, (unsigned)value);
    record("wakes", word, 0, woken, place);
    return (long)woken;
}

/* ---- mutex, condition variable ---- */

int ctl_mutex_lock(ctl_mutex *mutex) {
    const void *const place = __builtin_return_address(0);
    step(place);
    drain(&threads[ctl_now]);
    while (mutex->owner != 0) {
        if (mutex->owner == ctl_now + 1) {
            ctl_fail("a mutex is locked twice");
        }
        (void)sleep_on(MUTEX, mutex, INT64_MAX);
    }
    mutex->owner = ctl_now + 1;
    record("locks", mutex, 0, 1, place);
    return 0;
}

static void unlock(ctl_mutex *mutex) {
    if (mutex->owner != ctl_now + 1) {
        ctl_fail("a mutex is unlocked by another thread");
    }
    drain(&threads[ctl_now]);
    mutex->owner = 0;
    (void)wake_sleepers(MUTEX, mutex, UINT_MAX); /* whoever comes first has it */
}

int ctl_mutex_unlock(ctl_mutex *mutex) {
    step(__builtin_return_address(0));
    unlock(mutex);
    record("unlocks", mutex, 1, 0, __builtin_return_address(0));
    return 0;
}

int ctl_condition_wait(ctl_condition *condition, ctl_mutex *mutex, const struct timespec *until) {
    const void *const place = __builtin_return_address(0);
    int64_t deadline = INT64_MAX;
    if (until != NULL && (int64_t)until->tv_sec < INT64_MAX / 1000000000) {
        deadline = (int64_t)until->tv_sec * 1000000000 + (int64_t)until->tv_nsec;
    }
    step(place);
    unlock(mutex);
    record("sleeps", condition, 0, 0, place);
    const end outcome = sleep_on(CONDITION, condition, deadline);
    record("awake", condition, 0, (uintptr_t)outcome, place);
    (void)ctl_mutex_lock(mutex);
    return outcome == TIMED_OUT ? ETIMEDOUT : 0;
}

int ctl_condition_broadcast(ctl_condition *condition) {
    step(__builtin_return_address(0));
    const unsigned woken = wake_sleepers(CONDITION, condition, UINT_MAX);
    record("wakes", condition, 0, woken, __builtin_return_address(0));
    return 0;
}

/* ---- schedules ---- */

static void *scenario_main(void *arg) {
    const ctl_scenario *const scenario = arg;
    scenario->run();
    return NULL;
}

static void run_schedule(const ctl_scenario *scenario, void (*settled)(void)) {
    ctl_scenario copy = *scenario;
    memset(shadow, 0, arena_used / GRANULE);
    arena_used = 0;
    freed_count = 0;
    event_count = 0;
    steps = 0;
    clock_now = (int64_t)1000 * 1000000000;
    thread_count = 0;
    ctl_now = 0;
    (void)ctl_spawn(scenario_main, &copy);
    if (_setjmp(driver) == 0) {
        resume(0);
    }
    ctl_now = 0;
    if (live != 0) {
        ctl_fail("%zu blocks of memory are left", live);
    }
    settled();
}

static void on_signal(int number) {
    if (number == SIGALRM) {
        ctl_fail("a thread runs on without a step");
    }
    ctl_fail("signal %d", number);
}

static void watch(void) {
    static char stack[64 << 10];
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGALRM};
    const stack_t where = {.ss_sp = stack, .ss_size = sizeof stack};
    (void)sigaltstack(&where, NULL);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = on_signal;
        action.sa_flags = (int)(SA_ONSTACK | SA_RESETHAND | SA_NODEFER);
        (void)sigaction(numbers[i], &action, NULL);
    }
}

static char *map_at(uintptr_t wanted, size_t size) {
    char *const memory = mmap((void *)wanted, size, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return memory;
}

static double seconds_now(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

typedef struct budget {
    uint64_t first, schedules;
    double seconds;
} budget;

/* Seed 0 is the schedule without any surprise; it also tells how long the others may become. */
static void run_first(const ctl_scenario *scenario, void (*settled)(void)) {
    running_seed = 0;
    plan_first();
    run_schedule(scenario, settled);
    usual_steps = steps;
}

/* How many were run; *all: an exhaustive search has come to its end. */
static uint64_t run_many(const ctl_scenario *scenario, void (*settled)(void),
                         const budget *amount, uint64_t *total_steps, bool *all) {
    const double latest = seconds_now() + amount->seconds;
    uint64_t done = 0;
    *all = false;
    for (; done < amount->schedules && !*all; done++) {
        if (done % 256 == 0) {
            (void)alarm(60);
            if (done > 0 && amount->seconds > 0 && seconds_now() >= latest) {
                break;
            }
        }
        running_seed = amount->first + done;
        if (preemptions < 0) {
            plan_by_seed(running_seed);
        } else {
            plan_search();
        }
        run_schedule(scenario, settled);
        *total_steps += steps;
        *all = preemptions >= 0 && !search_on();
    }
    (void)alarm(0);
    return done;
}

static int run_scenario(const ctl_scenario *scenario, void (*settled)(void), budget amount) {
    const double from = seconds_now();
    uint64_t total_steps = 0;
    bool all;
    running_scenario = scenario->name;
    watch();
    run_first(scenario, settled);
    if (replaying && preemptions >= 0) { /* the way there has to be gone */
        const budget way = {1, amount.first - 1, 0};
        replaying = false;
        (void)run_many(scenario, settled, &way, &total_steps, &all);
        replaying = true;
    }
    const uint64_t done = run_many(scenario, settled, &amount, &total_steps, &all);
    const double took = seconds_now() - from;
    if (replaying) {
        print_trace();
    }
    printf("ok  %-30s %9llu schedules%s, %4llu steps each, %7.0f a second\n", scenario->name,
           (unsigned long long)done, all ? ", which are all" : "",
           (unsigned long long)(total_steps / (done > 0 ? done : 1)), (double)done / took);
    (void)fflush(stdout);
    return 0;
}

/* In a process of its own. */
static bool run_apart(const ctl_scenario *scenario, void (*settled)(void), const budget *amount) {
    int status = 0;
    (void)fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        _exit(run_scenario(scenario, settled, *amount));
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool is_wanted(const char *name, char **names, int count) {
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return count == 0;
}

int ctl_main(int argc, char **argv, const ctl_scenario *scenarios, void (*settled)(void)) {
    budget amount = {1, UINT64_MAX, 0};
    unsigned passed = 0, failed = 0;
    program = argv[0];
    for (int option; (option = getopt(argc, argv, "n:t:s:r:x:")) != -1;) {
        switch (option) {
        case 'n': amount.schedules = strtoull(optarg, NULL, 10); break;
        case 't': amount.seconds = strtod(optarg, NULL); break;
        case 's': amount.first = strtoull(optarg, NULL, 10); break;
        case 'x': preemptions = (int)strtol(optarg, NULL, 10); break;
        case 'r':
            amount.first = strtoull(optarg, NULL, 10);
            amount.schedules = amount.first > 0 ? 1 : 0;
            replaying = true;
            break;
        default: return 2;
        }
    }
    if (!replaying && amount.schedules == UINT64_MAX && amount.seconds <= 0) {
        amount.schedules = 1000;
    }
    arena = map_at((uintptr_t)0x10000000000 & UINTPTR_MAX, ARENA);
    stacks = map_at((uintptr_t)0x20000000000 & UINTPTR_MAX, CTL_THREADS * STACK);
    for (; scenarios->name != NULL; scenarios++) {
        if (!is_wanted(scenarios->name, argv + optind, argc - optind)) {
            continue;
        }
        if (run_apart(scenarios, settled, &amount)) {
            passed++;
        } else {
            failed++;
        }
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}
