/* timeline.h - what ran on which worker of a pool, how long it had waited, and how it ended: as an
 * SVG picture, and as a trace for ui.perfetto.dev or chrome://tracing. For POSIX threads, for
 * thousands of tasks rather than millions.
 *
 *     struct timeline timeline = {.label = NULL};
 *     const cf_observer observer = timeline_observer(&timeline);
 *     cf_executor *pool = cf_thread_pool_new(&(cf_pool_options){.observer = &observer}, NULL);
 *     ... and once cf_executor_close(pool) has returned:
 *     timeline_write(&timeline, "run.svg", "my program", timeline_svg);
 *     timeline_write(&timeline, "run.json", "my program", timeline_trace);
 *     timeline_free(&timeline);
 *
 * The title goes in as it is. In the picture each worker is a lane from its start on, each task a
 * row: a thin line while it waited, then a bar in the colour of its end. The pointer over it shows
 * name, times and error. */
#ifndef TIMELINE_H
#define TIMELINE_H

#include "cfutures.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMELINE_WORKERS = 256 }; /* the start of more is not shown */

struct timeline_span {
    char name[24], message[100];
    const void *task; /* NULL: it has ended */
    size_t worker;    /* SIZE_MAX: it never ran, and started when it ended */
    cf_duration submitted, started, ended;
    cf_status status;
};

/* All zeros to begin with, but for what is yours. */
struct timeline {
    void (*label)(char *name, size_t size, const cf_event *submitted); /* NULL: numbers */
    /* its own */
    struct timeline_span *spans;
    size_t count, room;
    cf_duration first, last, born[TIMELINE_WORKERS];
};

static pthread_mutex_t timeline_lock = PTHREAD_MUTEX_INITIALIZER;

/* ------------------------------------------------------------------ what it is told of */

/* What XML or JSON could misread goes. */
static inline void timeline_clean(char *text) {
    for (; *text != '\0'; text++) {
        *text = strchr("\"'\\<>&", *text) != NULL || (unsigned char)*text < ' ' ? '?' : *text;
    }
}

/* Out of memory, it is not shown. */
static inline void timeline_submitted(struct timeline *timeline, const cf_event *event) {
    if (timeline->count == timeline->room) {
        const size_t room = 2 * timeline->room + 64;
        struct timeline_span *spans = realloc(timeline->spans, room * sizeof *spans);
        if (spans == NULL) {
            return;
        }
        timeline->spans = spans;
        timeline->room = room;
    }
    struct timeline_span *span = &timeline->spans[timeline->count++];
    memset(span, 0, sizeof *span);
    span->task = event->task;
    span->worker = SIZE_MAX;
    span->submitted = event->time;
    (void)snprintf(span->name, sizeof span->name, "%zu", timeline->count);
    if (timeline->label != NULL) {
        timeline->label(span->name, sizeof span->name, event);
    }
    timeline_clean(span->name);
}

static inline void timeline_on_event(const cf_event *event, void *user) {
    struct timeline *timeline = user;
    (void)pthread_mutex_lock(&timeline_lock);
    size_t i = timeline->count;
    while (i > 0 && (event->task == NULL || timeline->spans[i - 1].task != event->task)) {
        i--;
    }
    struct timeline_span *span = i > 0 ? &timeline->spans[i - 1] : NULL;
    if (timeline->first == 0 || event->time < timeline->first) {
        timeline->first = event->time;
    }
    timeline->last = event->time > timeline->last ? event->time : timeline->last;
    if (event->kind == CF_EVENT_SUBMITTED) {
        timeline_submitted(timeline, event);
    } else if (event->kind == CF_EVENT_STARTED && span != NULL) {
        span->started = event->time;
        span->worker = event->worker;
    } else if (event->kind == CF_EVENT_FINISHED && span != NULL) {
        span->task = NULL; /* from now on another task may have it */
        span->ended = event->time;
        span->started = span->worker == SIZE_MAX ? event->time : span->started;
        span->status = event->status;
        (void)snprintf(span->message, sizeof span->message, "%s", event->message);
        timeline_clean(span->message);
    } else if (event->worker < TIMELINE_WORKERS && timeline->born[event->worker] == 0) {
        timeline->born[event->worker] = event->time;
    }
    (void)pthread_mutex_unlock(&timeline_lock);
}

/* The timeline has to live until the pool is closed. */
static inline cf_observer timeline_observer(struct timeline *timeline) {
    const cf_observer observer = {timeline_on_event, timeline_on_event, timeline_on_event,
                                  timeline_on_event, NULL, timeline};
    return observer;
}

static inline void timeline_free(struct timeline *timeline) {
    free(timeline->spans);
    timeline->spans = NULL;
    timeline->count = timeline->room = 0;
}

/* ------------------------------------------------------------------ the picture */

enum { TIMELINE_LEFT = 74, TIMELINE_RIGHT = 760, TIMELINE_TOP = 56, TIMELINE_GAP = 6 };

static const struct timeline_outcome {
    cf_status status;
    const char *name, *colour;
} timeline_outcomes[] = {{CF_OK, "ended well", "#2da07a"},
                         {CF_TASK_TIMEOUT, "timed out", "#d9922e"},
                         {CF_CANCELLED, "cancelled", "#8b949e"},
                         {CF_WORKER_LOST, "worker lost", "#a371f7"},
                         {CF_TASK_FAILED, "failed", "#e5534b"}}; /* and all others */

static inline const struct timeline_outcome *timeline_outcome(const struct timeline_span *span) {
    const struct timeline_outcome *outcome = timeline_outcomes;
    while (outcome->status != span->status && outcome->status != CF_TASK_FAILED) {
        outcome++;
    }
    return outcome;
}

static inline double timeline_ms(cf_duration from, cf_duration to) {
    return (double)(to - from) / (double)CF_MILLISECOND;
}

static inline double timeline_x(const struct timeline *timeline, cf_duration time) {
    const cf_duration all = timeline->last - timeline->first;
    return TIMELINE_LEFT + (TIMELINE_RIGHT - TIMELINE_LEFT) * (double)(time - timeline->first) /
                               (double)(all > 0 ? all : 1);
}

/* Title, legend and axis. */
static inline void timeline_frame(const struct timeline *timeline, FILE *out, const char *title,
                                  int bottom) {
    cf_duration step = 1;
    int x = TIMELINE_LEFT;
    fprintf(out,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 850 %d' width='850' height='%d'>"
            "\n<style>text{font:11px system-ui,sans-serif;fill:#6e7781}.t{font-size:14px;font-"
            "weight:600}@media(prefers-color-scheme:dark){text{fill:#9198a1}}.r{text-anchor:end}"
            ".m{text-anchor:middle}text.i{fill:#fff}.l{fill:#8b949e;fill-opacity:.13}.g{stroke:"
            "#8b949e;stroke-opacity:.3}.w{stroke:#8b949e;fill:none}</style>\n<text class='t' "
            "x='%d' y='20'>%s</text>\n<path class='w' d='M%d 31v7m0-3.5h16'/><text x='%d' y='39'>"
            "waited</text>\n", bottom + 22, bottom + 22, x, title, x, x + 21);
    x += 70;
    for (size_t i = 0; i < sizeof timeline_outcomes / sizeof *timeline_outcomes; i++) {
        const struct timeline_outcome *outcome = &timeline_outcomes[i];
        size_t k = 0;
        while (k < timeline->count && timeline_outcome(&timeline->spans[k]) != outcome) {
            k++;
        }
        if (k < timeline->count) {
            fprintf(out, "<rect x='%d' y='29' width='13' height='11' rx='2.5' fill='%s'/><text "
                    "x='%d' y='39'>%s</text>\n", x, outcome->colour, x + 18, outcome->name);
            x += 36 + 6 * (int)strlen(outcome->name);
        }
    }
    for (int i = 0; (timeline->last - timeline->first) / step >= 10; i++) {
        step = i % 3 == 1 ? step / 2 * 5 : 2 * step; /* 1, 2, 5, 10, ... */
    }
    for (cf_duration at = timeline->first; at <= timeline->last; at += step) {
        const double x_at = timeline_x(timeline, at);
        fprintf(out, "<path class='g' d='M%.1f %dV%d'/><text class='m' x='%.1f' y='%d'>%g%s</text>"
                "\n", x_at, TIMELINE_TOP - 6, bottom, x_at, bottom + 15,
                timeline_ms(timeline->first, at), at > timeline->first ? "" : " ms");
    }
}

/* A row: its part of the lane, the wait, the bar. */
static inline void timeline_row(const struct timeline *timeline, FILE *out,
                                const struct timeline_span *span, double y, double row) {
    const double start = timeline_x(timeline, span->started);
    const double end = timeline_x(timeline, span->ended);
    const bool inside = end - start > 8 + 6.5 * (double)strlen(span->name);
    const double born = span->worker < TIMELINE_WORKERS
        ? timeline_x(timeline, timeline->born[span->worker]) : start;
    fprintf(out, "<path class='l' d='M%.1f %.1fH%dv%.1fH%.1f'/><g><title>%s: waited %.1f ms, ran "
            "%.1f ms%s%s</title><path class='w' d='M%.1f %.1fv%.1fm0-%.1fH%.1f'/><rect x='%.1f' "
            "y='%.1f' width='%.1f' height='%.1f' rx='%.1f' fill='%s'/>", born, y, TIMELINE_RIGHT,
            row, born, span->name, timeline_ms(span->submitted, span->started),
            timeline_ms(span->started, span->ended), span->status != CF_OK ? ": " : "",
            span->message, timeline_x(timeline, span->submitted), y + row / 3, row / 3, row / 6,
            start, start, y + row / 9, end - start > 2 ? end - start : 2, row * 7 / 9, row / 7,
            timeline_outcome(span)->colour);
    if (row > 11) {
        fprintf(out, "<text%s x='%.1f' y='%.1f'>%s</text>", inside ? " class='i'" : "",
                inside ? start + 5 : end + 5, y + row / 2 + 4, span->name);
    }
    fputs("</g>\n", out);
}

static inline void timeline_svg(const struct timeline *timeline, FILE *out, const char *title) {
    const struct timeline_span *spans = timeline->spans;
    const size_t count = timeline->count;
    const double row = count < 60 ? 18 : count < 400 ? 1080.0 / (double)count : 2.7;
    double y = TIMELINE_TOP - TIMELINE_GAP, bottom = TIMELINE_TOP;
    for (size_t i = 0; i < count; i++) {
        bottom += row + (i > 0 && spans[i].worker != spans[i - 1].worker ? TIMELINE_GAP : 0);
    }
    timeline_frame(timeline, out, title, (int)bottom + 6);
    for (size_t i = 0; i < count; i++, y += row) {
        if (i == 0 || spans[i].worker != spans[i - 1].worker) {
            y += TIMELINE_GAP;
            fprintf(out, "<text class='r' x='%d' y='%.1f'>", TIMELINE_LEFT - 8, y + 13);
            fprintf(out, spans[i].worker != SIZE_MAX ? "worker %zu" : "never ran", spans[i].worker);
            fputs("</text>\n", out);
        }
        timeline_row(timeline, out, &spans[i], y, row);
    }
    fputs("</svg>\n", out);
}

/* ------------------------------------------------------------------ the trace */

/* In microseconds; waiting is asynchronous, since many tasks wait at once. */
static inline void timeline_trace(const struct timeline *timeline, FILE *out, const char *title) {
    fprintf(out, "{\"traceEvents\":[\n{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\","
            "\"args\":{\"name\":\"%s\"}}", title);
    for (size_t i = 0; i < TIMELINE_WORKERS; i++) {
        if (timeline->born[i] != 0) {
            fprintf(out, ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":%zu,\"name\":\"thread_name\","
                    "\"args\":{\"name\":\"worker %zu\"}}", i, i);
        }
    }
    for (size_t i = 0; i < timeline->count; i++) {
        const struct timeline_span *span = &timeline->spans[i];
        const double begin = 1000 * timeline_ms(timeline->first, span->submitted);
        const double start = 1000 * timeline_ms(timeline->first, span->started);
        for (int k = 0; k < 2; k++) {
            fprintf(out, ",\n{\"ph\":\"%c\",\"pid\":1,\"tid\":0,\"cat\":\"waiting\",\"id\":%zu,"
                    "\"name\":\"%s\",\"ts\":%.3f}", "be"[k], i, span->name, k == 0 ? begin : start);
        }
        if (span->worker != SIZE_MAX) {
            fprintf(out, ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%zu,\"cat\":\"%s\",\"name\":\"%s\","
                    "\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"message\":\"%s\"}}", span->worker,
                    timeline_outcome(span)->name, span->name, start,
                    1000 * timeline_ms(span->started, span->ended), span->message);
        }
    }
    fputs("\n]}\n", out);
}

/* ------------------------------------------------------------------ files */

static inline int timeline_by_lane(const void *a, const void *b) {
    const struct timeline_span *left = a, *right = b;
    if (left->worker != right->worker) {
        return left->worker < right->worker ? -1 : 1;
    }
    return left->started < right->started ? -1 : left->started > right->started;
}

/* After the pool was closed. path "-": to the standard output. False: errno says why. */
static inline bool timeline_write(struct timeline *timeline, const char *path, const char *title,
                                  void (*write)(const struct timeline *, FILE *, const char *)) {
    FILE *out = strcmp(path, "-") == 0 ? stdout : fopen(path, "w");
    if (out == NULL) {
        return false;
    }
    if (timeline->count > 0) {
        qsort(timeline->spans, timeline->count, sizeof *timeline->spans, timeline_by_lane);
    }
    write(timeline, out, title);
    const bool failed = ferror(out) != 0;
    return (out == stdout ? fflush(out) : fclose(out)) == 0 && !failed;
}

#endif
