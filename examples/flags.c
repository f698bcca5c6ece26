/* cc -std=c11 -O2 -I. examples/flags.c -o flags -pthread */

/*
 * Downloads the flags of the 20 most populous countries over HTTP in five styles, each one small
 * function (begin reading at run_sequential); without a URL from a slow little server of its own.
 * `flags --help` explains the options. The style of --threads in Python:
 *
 *     with ThreadPoolExecutor(max_workers=20) as pool:
 *         results = list(pool.map(download_flag, sorted(codes)))
 */
#define CFUTURES_POSIX
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#if defined(__GNUC__)
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))
#else
#define PRINTF_LIKE(text, first)
#endif

static const char country_codes[][3] = {"BD", "BR", "CD", "CN", "DE", "EG", "ET", "FR", "ID", "IN",
                                        "IR", "JP", "MX", "NG", "PH", "PK", "RU", "TR", "US", "VN"};

enum {
    FLAGS = sizeof country_codes / sizeof *country_codes,
    PATH_SIZE = 1024,               /* a file name, a URL or its path */
    LINE_SIZE = 2048,               /* the longest header line that is accepted */
    HEADER_LINES = 100,             /* and how many of them */
    REPLY_LIMIT = 64 * 1024 * 1024, /* bytes of one reply, header and body */
    TICK = 100                      /* ms between two beats of the event loop */
};

/* ------------------------------------------------------------------ what a task is told, and tells
 *
 * A job is copied into its task and a result out of it, so neither holds memory of its own. The
 * settings are complete before the first pool is made and constant from then on: a worker may read
 * them, be it a thread or a process that was forked since. */

struct url {
    char host[256];
    char port[6];
    char authority[264]; /* host and port as they were written, for the Host header */
    char path[PATH_SIZE];
};

struct settings {
    struct url url;
    struct addrinfo *addresses;
    const char *directory;
    cf_duration timeout; /* of one flag, from connect to the last byte */
    size_t workers;      /* 0: each style's own number */
};

struct job {
    const struct settings *settings;
    char code[3];
};

enum outcome {
    DOWNLOADED,
    NOT_FOUND,
    HTTP_ERROR,
    UNREACHABLE,
    REFUSED,
    TIMED_OUT,
    TRUNCATED,
    MALFORMED,
    FAILED, /* here, not there: disk full, no memory, no thread */
    OUTCOMES
};

static const char *const outcome_names[OUTCOMES] = {"downloaded",  "not found", "HTTP error",
                                                    "unreachable", "refused",   "timed out",
                                                    "truncated",   "malformed", "failed"};

struct result {
    enum outcome outcome;
    char message[116]; /* the cause, or the size in words */
    uint64_t size;     /* bytes of the picture */
};

/* Always false, so that `return fail(...)` ends a step and says why. */
PRINTF_LIKE(3, 4)
static bool fail(struct result *result, enum outcome outcome, const char *format, ...) {
    va_list args;
    va_start(args, format);
    result->outcome = outcome;
    (void)vsnprintf(result->message, sizeof result->message, format, args);
    va_end(args);
    return false;
}

/* ------------------------------------------------------------------ time and sockets
 *
 * Sockets do not block; every wait is a poll until a deadline on the monotonic clock. */

static cf_duration now(void) {
    struct timespec time = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (cf_duration)time.tv_sec * CF_SECOND + (cf_duration)time.tv_nsec;
}

/* False with errno set, ETIMEDOUT once the deadline has passed. */
static bool await_socket(int fd, short events, cf_duration deadline) {
    for (;;) {
        const cf_duration left = deadline - now();
        if (left <= 0) {
            errno = ETIMEDOUT;
            return false;
        }
        const cf_duration milliseconds = (left + CF_MILLISECOND - 1) / CF_MILLISECOND;
        struct pollfd waited = {.fd = fd, .events = events};
        const int ready = poll(&waited, 1, milliseconds < INT_MAX ? (int)milliseconds : INT_MAX);
        if (ready > 0) {
            return true;
        }
        if (ready < 0 && errno != EINTR) {
            return false;
        }
    }
}

static bool make_nonblocking(int fd) {
    const int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
           fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

static bool connect_socket(int fd, const struct addrinfo *address, cf_duration deadline) {
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0) {
        return true;
    }
    if ((errno != EINPROGRESS && errno != EINTR) || !await_socket(fd, POLLOUT, deadline)) {
        return false;
    }
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        return false;
    }
    errno = error;
    return error == 0;
}

/* -1 with errno set. */
static int open_connection(const struct addrinfo *address, cf_duration deadline) {
    const int fd = socket(address->ai_family, SOCK_STREAM, 0);
    if (fd < 0) {
        return -1;
    }
    if (make_nonblocking(fd) && connect_socket(fd, address, deadline)) {
        return fd;
    }
    const int error = errno;
    (void)close(fd);
    errno = error;
    return -1;
}

static bool send_all(int fd, const void *data, size_t size, cf_duration deadline) {
    const char *next = data;
    while (size > 0) {
        if (!await_socket(fd, POLLOUT, deadline)) {
            return false;
        }
        const ssize_t sent = send(fd, next, size, MSG_NOSIGNAL);
        if (sent > 0) {
            next += sent;
            size -= (size_t)sent;
        } else if (sent < 0 && errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) {
            return false;
        }
    }
    return true;
}

/* As recv: 0 at the end, -1 with errno set. */
static ssize_t receive(int fd, void *buffer, size_t size, cf_duration deadline) {
    for (;;) {
        if (!await_socket(fd, POLLIN, deadline)) {
            return -1;
        }
        const ssize_t received = recv(fd, buffer, size, 0);
        if (received >= 0 || (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)) {
            return received;
        }
    }
}

/* ------------------------------------------------------------------ HTTP: a buffered reply */

struct reply {
    int fd;
    cf_duration deadline;
    struct result *result; /* where a failing step says why */
    size_t received;
    size_t begin, end; /* of what the buffer holds and nobody has taken */
    char buffer[4096];
};

struct head {
    int status;
    bool is_chunked;
    bool has_length;
    uint64_t length;
};

/* More bytes into the empty buffer. False with the result untouched: the server has closed. */
static bool refill(struct reply *reply, bool *failed) {
    const ssize_t received =
        receive(reply->fd, reply->buffer, sizeof reply->buffer, reply->deadline);
    *failed = received < 0;
    if (received < 0 && errno == ETIMEDOUT) {
        return fail(reply->result, TIMED_OUT, "timed out after %zu bytes of the reply",
                    reply->received);
    }
    if (received < 0) {
        return fail(reply->result, TRUNCATED, "truncated after %zu bytes of the reply: %s",
                    reply->received, strerror(errno));
    }
    reply->begin = 0;
    reply->end = (size_t)received;
    reply->received += (size_t)received;
    if (reply->received > REPLY_LIMIT) {
        *failed = true;
        return fail(reply->result, MALFORMED, "malformed: more than %d bytes", (int)REPLY_LIMIT);
    }
    return received > 0;
}

static bool read_byte(struct reply *reply, char *byte) {
    bool failed;
    if (reply->begin == reply->end && !refill(reply, &failed)) {
        return !failed ? fail(reply->result, TRUNCATED,
                              "truncated: closed after %zu bytes of the reply", reply->received)
                       : false;
    }
    *byte = reply->buffer[reply->begin++];
    return true;
}

/* The next line, without its end. */
static bool read_line(struct reply *reply, char line[LINE_SIZE]) {
    size_t length = 0;
    char byte = 0;
    for (;;) {
        if (!read_byte(reply, &byte)) {
            return false;
        }
        if (byte == '\n') {
            break;
        }
        if (byte == '\0' || length == LINE_SIZE - 1) {
            return fail(reply->result, MALFORMED, "malformed: no HTTP header line");
        }
        line[length++] = byte;
    }
    if (length > 0 && line[length - 1] == '\r') {
        length--;
    }
    line[length] = '\0';
    return true;
}

/* Digits only, where strtoull takes blanks, signs and 0x. The end of the digits; NULL where there
 * are none, or where they exceed the limit. */
static const char *parse_number(const char *text, unsigned base, uint64_t limit, uint64_t *value) {
    static const char digits[] = "0123456789abcdef";
    const char *at = text;
    *value = 0;
    for (; *at != '\0'; at++) {
        const char *found = strchr(digits, tolower((unsigned char)*at));
        const uint64_t digit = found != NULL ? (uint64_t)(found - digits) : base;
        if (digit >= base) {
            break;
        }
        if (*value > (limit - digit) / base) {
            return NULL;
        }
        *value = *value * base + digit;
    }
    return at > text ? at : NULL;
}

static bool parse_status(struct reply *reply, const char *line, struct head *head) {
    uint64_t status = 0;
    const bool is_http =
        strncmp(line, "HTTP/1.", 7) == 0 && isdigit((unsigned char)line[7]) && line[8] == ' ';
    const char *end = is_http ? parse_number(line + 9, 10, 999, &status) : NULL;
    if (end != line + 12 || (*end != ' ' && *end != '\0') || status < 100) {
        return fail(reply->result, MALFORMED, "malformed: no HTTP/1 status line");
    }
    *head = (struct head){.status = (int)status};
    return true;
}

static bool parse_length(struct reply *reply, const char *value, struct head *head) {
    uint64_t length;
    const char *end = parse_number(value, 10, REPLY_LIMIT, &length);
    if (end == NULL || *end != '\0' || (head->has_length && head->length != length)) {
        return fail(reply->result, MALFORMED, "malformed: bad Content-Length");
    }
    head->has_length = true;
    head->length = length;
    return true;
}

/* Of all fields, the two that say where the body ends. */
static bool parse_field(struct reply *reply, char *line, struct head *head) {
    char *colon = strchr(line, ':');
    if (colon == NULL || colon == line || strcspn(line, " \t") < (size_t)(colon - line)) {
        return fail(reply->result, MALFORMED, "malformed: bad header line");
    }
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t");
    for (size_t length = strlen(value); length > 0 && strchr(" \t", value[length - 1]); length--) {
        value[length - 1] = '\0';
    }
    if (strcasecmp(line, "Content-Length") == 0) {
        return parse_length(reply, value, head);
    }
    if (strcasecmp(line, "Transfer-Encoding") == 0) {
        if (strcasecmp(value, "chunked") != 0 || head->is_chunked) {
            return fail(reply->result, MALFORMED, "malformed: unknown Transfer-Encoding");
        }
        head->is_chunked = true;
    }
    return true;
}

/* Up to the empty line; head NULL: the trailer of a chunked body, which says nothing of use. */
static bool read_fields(struct reply *reply, struct head *head) {
    char line[LINE_SIZE];
    for (int lines = 0; lines < HEADER_LINES; lines++) {
        if (!read_line(reply, line)) {
            return false;
        }
        if (line[0] == '\0') {
            return true;
        }
        if (head != NULL && !parse_field(reply, line, head)) {
            return false;
        }
    }
    return fail(reply->result, MALFORMED, "malformed: more than %d header lines",
                (int)HEADER_LINES);
}

static bool read_status_line(struct reply *reply, struct head *head) {
    char line[LINE_SIZE];
    return read_line(reply, line) && parse_status(reply, line, head);
}

static bool read_head(struct reply *reply, struct head *head) {
    do {
        if (!read_status_line(reply, head) || !read_fields(reply, head)) {
            return false;
        }
    } while (head->status < 200 && head->status != 101); /* 1xx announces the real answer */
    if (head->status == 404 || head->status == 410) {
        return fail(reply->result, NOT_FOUND, "not found (HTTP %d)", head->status);
    }
    if (head->status != 200) {
        return fail(reply->result, HTTP_ERROR, "HTTP error %d", head->status);
    }
    return true;
}

/* ------------------------------------------------------------------ HTTP: the body, into a file */

static bool write_all(struct reply *reply, int file, const char *data, size_t size) {
    reply->result->size += size;
    while (size > 0) {
        const ssize_t written = write(file, data, size);
        if (written > 0) {
            data += written;
            size -= (size_t)written;
        } else if (written == 0 || errno != EINTR) {
            return fail(reply->result, FAILED, "cannot write the file: %s", strerror(errno));
        }
    }
    return true;
}

#define UNTIL_CLOSE UINT64_MAX

static bool copy_bytes(struct reply *reply, int file, uint64_t length) {
    for (uint64_t left = length; left > 0;) {
        bool failed;
        if (reply->begin == reply->end && !refill(reply, &failed)) {
            return !failed &&
                   (length == UNTIL_CLOSE ||
                    fail(reply->result, TRUNCATED, "truncated: closed %llu bytes before the end",
                         (unsigned long long)left));
        }
        const size_t held = reply->end - reply->begin;
        const size_t size = held < left ? held : (size_t)left;
        if (!write_all(reply, file, reply->buffer + reply->begin, size)) {
            return false;
        }
        reply->begin += size;
        left -= size;
    }
    return true;
}

static bool copy_chunks(struct reply *reply, int file) {
    char line[LINE_SIZE];
    for (;;) {
        uint64_t size;
        if (!read_line(reply, line)) {
            return false;
        }
        const char *end = parse_number(line, 16, REPLY_LIMIT, &size);
        if (end == NULL || strchr("; \t", *end) == NULL) { /* what follows is an extension */
            return fail(reply->result, MALFORMED, "malformed: bad chunk size");
        }
        if (size == 0) {
            return read_fields(reply, NULL);
        }
        if (!copy_bytes(reply, file, size) || !read_line(reply, line)) {
            return false;
        }
        if (line[0] != '\0') {
            return fail(reply->result, MALFORMED, "malformed: chunk longer than its size");
        }
    }
}

static bool copy_body(struct reply *reply, const struct head *head, int file) {
    if (head->is_chunked) {
        return copy_chunks(reply, file);
    }
    return copy_bytes(reply, file, head->has_length ? head->length : UNTIL_CLOSE);
}

/* The picture appears under its name only when it is whole. */
static bool save_body(struct reply *reply, const struct head *head, const char *name) {
    char part[PATH_SIZE + 32];
    (void)snprintf(part, sizeof part, "%s.%ld.part", name, (long)getpid());
    const int file = open(part, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (file < 0) {
        return fail(reply->result, FAILED, "cannot create the file: %s", strerror(errno));
    }
    bool saved = copy_body(reply, head, file);
    if (close(file) != 0 && saved) {
        saved = fail(reply->result, FAILED, "cannot write the file: %s", strerror(errno));
    }
    if (saved && rename(part, name) != 0) {
        saved = fail(reply->result, FAILED, "cannot rename the file: %s", strerror(errno));
    }
    if (!saved) {
        (void)unlink(part);
    }
    return saved;
}

/* ------------------------------------------------------------------ one flag */

/* Tries every address of the host, each with its share of the time that is left. */
static bool open_reply(struct reply *reply, const struct addrinfo *addresses) {
    int left = 0;
    for (const struct addrinfo *address = addresses; address != NULL; address = address->ai_next) {
        left++;
    }
    for (const struct addrinfo *address = addresses; address != NULL; address = address->ai_next) {
        const cf_duration time = now();
        reply->fd = open_connection(address, time + (reply->deadline - time) / left--);
        if (reply->fd >= 0) {
            return true;
        }
    }
    if (errno == ETIMEDOUT) {
        return fail(reply->result, TIMED_OUT, "timed out while connecting");
    }
    if (errno == ECONNREFUSED) {
        return fail(reply->result, REFUSED, "connection refused");
    }
    return fail(reply->result, UNREACHABLE, "cannot connect: %s", strerror(errno));
}

static bool send_request(struct reply *reply, const struct url *url, const char *code) {
    char request[sizeof *url + 256];
    const int size = snprintf(request, sizeof request,
                              "GET %s/%s/%s.gif HTTP/1.1\r\n"
                              "Host: %s\r\n"
                              "User-Agent: cfutures-flags/" CFUTURES_VERSION_STRING "\r\n"
                              "Accept-Encoding: identity\r\n"
                              "Connection: close\r\n\r\n",
                              url->path, code, code, url->authority);
    if (send_all(reply->fd, request, (size_t)size, reply->deadline)) {
        return true;
    }
    return errno == ETIMEDOUT
               ? fail(reply->result, TIMED_OUT, "timed out while sending the request")
               : fail(reply->result, TRUNCATED, "truncated: cannot send the request: %s",
                      strerror(errno));
}

static struct result download(const struct job *job) {
    const struct settings *settings = job->settings;
    struct result result = {.outcome = DOWNLOADED};
    struct reply reply = {.deadline = now() + settings->timeout, .result = &result};
    struct head head;
    char code[3] = {0}, name[PATH_SIZE];
    code[0] = (char)tolower((unsigned char)job->code[0]);
    code[1] = (char)tolower((unsigned char)job->code[1]);
    (void)snprintf(name, sizeof name, "%s/%s.gif", settings->directory, code);

    if (open_reply(&reply, settings->addresses)) {
        if (send_request(&reply, &settings->url, code) && read_head(&reply, &head) &&
            save_body(&reply, &head, name)) {
            (void)snprintf(result.message, sizeof result.message, "%llu bytes",
                           (unsigned long long)result.size);
        }
        (void)close(reply.fd);
    }
    return result;
}

/* The same as a task, for a pool of any kind. */
static int download_flag(cf_task *task, void *arg) {
    const struct result result = download(arg);
    if (result.outcome != DOWNLOADED) {
        return cf_task_fail(task, (int)result.outcome, "%s", result.message);
    }
    return cf_task_return(task, &result, sizeof result);
}

/* ------------------------------------------------------------------ progress and results */

struct run {
    const struct style *style;
    size_t workers;
    struct job jobs[FLAGS];
    struct result results[FLAGS];
    size_t done;
    cf_duration begin, elapsed;
    bool has_bar;    /* on a terminal only */
    bool prints_row; /* the codes as they come; not over the bar */
};

/* CF_OK also when flags failed: those stand in run->results. */
typedef cf_status style_fn(struct run *run);

struct style {
    const char *name;
    style_fn *function;
    size_t workers;
    bool shows_futures; /* a line for each, instead of a row of codes */
};

static void draw_bar(const struct run *run) {
    static const char full[] = "####################";
    const int width = (int)(run->done * (sizeof full - 1) / FLAGS);
    const double seconds = (double)(now() - run->begin) / (double)CF_SECOND;
    if (run->has_bar) {
        fprintf(stderr, "\r[%-20.*s] %zu/%d flags, %.1f/s\033[K", width, full, run->done,
                (int)FLAGS, seconds > 0 ? (double)run->done / seconds : 0.0);
    }
}

static void clear_bar(const struct run *run) {
    if (run->has_bar) {
        fputs("\r\033[K", stderr);
    }
}

static void record(struct run *run, size_t index, const struct result *result) {
    run->results[index] = *result;
    run->done++;
    if (run->prints_row) {
        printf("%s%c", run->jobs[index].code, run->done < FLAGS ? ' ' : '\n');
        (void)fflush(stdout);
    }
    draw_bar(run);
}

/* Without a result: the cause in the task's own words, or else in the library's. */
static void record_failure(struct run *run, size_t index, cf_status status, int code,
                           const char *message) {
    struct result result = {.outcome = FAILED};
    if (status == CF_TASK_FAILED) {
        (void)fail(&result, (enum outcome)code, "%s", message);
    } else {
        (void)fail(&result, FAILED, "%s: %s", cf_status_name(status),
                   message[0] != '\0' ? message : cf_strerror(status));
    }
    record(run, index, &result);
}

/* For futures that are done: never blocks. */
static void record_future(struct run *run, size_t index, cf_future *future) {
    cf_status status;
    const struct result *result = cf_future_result(future, 0, &status);
    if (result != NULL) {
        record(run, index, result);
    } else {
        record_failure(run, index, status, cf_future_error_code(future),
                       cf_future_error_message(future));
    }
}

PRINTF_LIKE(2, 3)
static void print_line(const struct run *run, const char *format, ...) {
    va_list args;
    va_start(args, format);
    clear_bar(run);
    (void)vprintf(format, args);
    (void)putchar('\n');
    (void)fflush(stdout);
    draw_bar(run);
    va_end(args);
}

/* ------------------------------------------------------------------ the styles */

/* Python: for code in codes: download_flag(code) */
static cf_status run_sequential(struct run *run) {
    for (size_t i = 0; i < FLAGS; i++) {
        const struct result result = download(&run->jobs[i]);
        record(run, i, &result);
    }
    return CF_OK;
}

typedef cf_executor *new_pool_fn(const cf_pool_options *options, cf_status *status);

static cf_status run_map(struct run *run, new_pool_fn *new_pool) {
    cf_status status;
    const cf_pool_options options = {.max_workers = run->workers};
    cf_executor *pool = new_pool(&options, &status);
    if (pool == NULL) {
        return status;
    }
    cf_map_iter *results =
        cf_executor_map(pool, download_flag, run->jobs, FLAGS, sizeof *run->jobs, NULL);
    for (size_t i = 0; i < FLAGS; i++) {
        const struct result *result = cf_map_next(results, &status);
        if (result != NULL) {
            record(run, i, result);
        } else {
            record_failure(run, i, status, cf_map_error_code(results),
                           cf_map_error_message(results));
        }
    }
    cf_map_close(results);
    cf_executor_close(pool);
    return CF_OK;
}

/* Python: with ThreadPoolExecutor(workers) as pool: list(pool.map(download_flag, codes)) */
static cf_status run_threads(struct run *run) {
    return run_map(run, cf_thread_pool_new);
}

/* Python: the same with ProcessPoolExecutor */
static cf_status run_processes(struct run *run) {
    return run_map(run, cf_process_pool_new);
}

/* Python: futures = [pool.submit(download_flag, code) for code in codes]
 *         for future in as_completed(futures): print(future, future.result()) */
static cf_status run_as_completed(struct run *run) {
    cf_future *futures[FLAGS], *future;
    cf_status status;
    size_t index;
    char repr[128];
    const cf_pool_options options = {.max_workers = run->workers};
    cf_executor *pool = cf_thread_pool_new(&options, &status);
    if (pool == NULL) {
        return status;
    }
    for (size_t i = 0; i < FLAGS; i++) {
        futures[i] = cf_executor_submit(pool, download_flag, &run->jobs[i], sizeof run->jobs[i]);
    }
    for (size_t i = 0; i < FLAGS; i++) {
        (void)cf_future_repr(futures[i], repr, sizeof repr);
        print_line(run, "Scheduled for %s: %s", run->jobs[i].code, repr);
    }
    cf_as_completed_iter *done = cf_as_completed(futures, FLAGS, CF_FOREVER);
    while ((future = cf_as_completed_next(done, &index, &status)) != NULL) {
        record_future(run, index, future);
        (void)cf_future_repr(future, repr, sizeof repr);
        print_line(run, "%s %s result: %s", run->jobs[index].code, repr,
                   run->results[index].message);
    }
    cf_as_completed_close(done);
    for (size_t i = 0; i < FLAGS; i++) {
        cf_future_release(futures[i]);
    }
    cf_executor_close(pool);
    return status == CF_END ? CF_OK : status;
}

/* One thread, one poll, as in any event loop: a descriptor says when a future is done, and between
 * two of them the loop is free; here it redraws the bar. Not CF_OK: the loop could not go on. */
static cf_status loop_until_done(struct run *run, cf_as_completed_iter *done) {
    struct pollfd event = {.fd = cf_as_completed_fd(done), .events = POLLIN};
    cf_status status = event.fd >= 0 ? CF_OK : CF_SYSTEM;
    while (status == CF_OK && cf_as_completed_remaining(done) > 0) {
        const int ready = poll(&event, 1, TICK);
        if (ready > 0) {
            size_t index;
            cf_future *future = cf_as_completed_next(done, &index, &status);
            if (future != NULL) {
                record_future(run, index, future);
            }
        } else if (ready == 0) {
            draw_bar(run);
        } else if (errno != EINTR) {
            status = CF_SYSTEM;
        }
    }
    return status;
}

/* Python: asyncio.as_completed over loop.run_in_executor(pool, download_flag, code) */
static cf_status run_eventloop(struct run *run) {
    cf_future *futures[FLAGS];
    cf_status status;
    const cf_pool_options options = {.max_workers = run->workers};
    cf_executor *pool = cf_thread_pool_new(&options, &status);
    if (pool == NULL) {
        return status;
    }
    /* Its status may be ignored: a refused future is done, and says why as any other. */
    (void)cf_executor_submit_many(pool, download_flag, run->jobs, FLAGS, sizeof *run->jobs,
                                  futures);
    cf_as_completed_iter *done = cf_as_completed(futures, FLAGS, CF_FOREVER);
    status = loop_until_done(run, done);
    cf_as_completed_close(done);
    for (size_t i = 0; i < FLAGS; i++) {
        cf_future_release(futures[i]);
    }
    cf_executor_close(pool);
    return status;
}

static const struct style styles[] = {
    {"sequential", run_sequential, 1, false},
    {"threads", run_threads, 20, false},
    {"processes", run_processes, 20, false},
    {"as-completed", run_as_completed, 10, true},
    {"eventloop", run_eventloop, 20, false},
};

enum { STYLES = sizeof styles / sizeof *styles };

/* ------------------------------------------------------------------ the reports */

static size_t count_outcome(const struct run *run, enum outcome outcome) {
    size_t count = 0;
    for (size_t i = 0; i < FLAGS; i++) {
        count += run->results[i].outcome == outcome;
    }
    return count;
}

static size_t count_failed(const struct run *run) {
    return FLAGS - count_outcome(run, DOWNLOADED);
}

static double seconds_of(const struct run *run) {
    return (double)run->elapsed / (double)CF_SECOND;
}

static void print_report(const struct run *run) {
    unsigned long long bytes = 0;
    for (size_t i = 0; i < FLAGS; i++) {
        if (run->results[i].outcome == DOWNLOADED) {
            bytes += run->results[i].size;
        } else {
            printf("%s failed: %s\n", run->jobs[i].code, run->results[i].message);
        }
    }
    printf("%zu flags downloaded in %.2fs\n", count_outcome(run, DOWNLOADED), seconds_of(run));
    printf("tally: %zu downloaded (%llu bytes)", count_outcome(run, DOWNLOADED), bytes);
    for (int outcome = DOWNLOADED + 1; outcome < OUTCOMES; outcome++) {
        const size_t count = count_outcome(run, (enum outcome)outcome);
        if (count > 0) {
            printf(", %zu %s", count, outcome_names[outcome]);
        }
    }
    printf("\n");
    (void)fflush(stdout);
}

/* Speed-ups are relative to the first row. */
static void print_table(const struct run *runs, size_t count) {
    printf("\n%-14s%8s%8s%8s%9s%10s\n", "style", "workers", "flags", "failed", "time", "speed-up");
    for (size_t i = 0; i < count; i++) {
        const size_t failed = count_failed(&runs[i]);
        printf("%-14s%8zu%8zu%8zu%8.2fs%9.1fx\n", runs[i].style->name, runs[i].workers,
               FLAGS - failed, failed, seconds_of(&runs[i]),
               runs[i].elapsed > 0 ? seconds_of(&runs[0]) / seconds_of(&runs[i]) : 0.0);
    }
}

/* ------------------------------------------------------------------ the pictures of the demo
 *
 * GIF89a with three stripes and without compression: LZW codes stay 8 bits wide as long as a
 * "clear" (0x80) comes at least every 126 pixels, so each row is one block: clear, pixels. */

enum {
    GIF_WIDTH = 90,
    GIF_HEIGHT = 60,
    GIF_COLOURS = 128,
    GIF_ROW = 2 + GIF_WIDTH,
    GIF_HEAD = 13 + 3 * GIF_COLOURS + 10 + 1,
    GIF_SIZE = GIF_HEAD + GIF_HEIGHT * GIF_ROW + 4
};

static void draw_gif_head(unsigned char *gif) {
    static const unsigned char screen[13] = {'G', 'I',        'F', '8',  '9', 'a', GIF_WIDTH,
                                             0,   GIF_HEIGHT, 0,   0xf6, 0,   0};
    static const unsigned char colours[8][3] = {{200, 16, 46}, {0, 106, 78},    {0, 47, 108},
                                                {255, 209, 0}, {255, 255, 255}, {20, 20, 20},
                                                {255, 130, 0}, {75, 163, 227}};
    static const unsigned char image[11] = {',', 0, 0, 0, 0, GIF_WIDTH, 0, GIF_HEIGHT, 0, 0, 7};
    memset(gif, 0, GIF_HEAD);
    memcpy(gif, screen, sizeof screen);
    memcpy(gif + sizeof screen, colours, sizeof colours);
    memcpy(gif + GIF_HEAD - sizeof image, image, sizeof image);
}

static void draw_gif(const char *code, unsigned char gif[GIF_SIZE]) {
    static const unsigned char tail[4] = {1, 0x81, 0, ';'}; /* block of "end", no block, trailer */
    const int a = code[0], b = code[1];
    const int stripes[3] = {a % 8, (a + 1 + b % 7) % 8, (a + b) % 8};
    draw_gif_head(gif);
    for (int y = 0; y < GIF_HEIGHT; y++) {
        unsigned char *row = gif + GIF_HEAD + y * GIF_ROW;
        row[0] = GIF_WIDTH + 1;
        row[1] = 0x80;
        for (int x = 0; x < GIF_WIDTH; x++) {
            const int stripe = b % 2 == 0 ? 3 * y / GIF_HEIGHT : 3 * x / GIF_WIDTH;
            row[2 + x] = (unsigned char)stripes[stripe];
        }
    }
    memcpy(gif + GIF_SIZE - sizeof tail, tail, sizeof tail);
}

/* ------------------------------------------------------------------ the server of the demo
 *
 * One task accepts, and submits a task for each connection to its own pool. A connection belongs
 * to its task: free_arg closes it on every path, also when the task never runs. */

struct server {
    int listener;
    int stop[2]; /* a pipe; accepting ends when its write end is closed */
    cf_executor *pool;
    cf_future *accepting;
    char url[64];
};

struct connection {
    int fd;
};

static void free_connection(void *arg) {
    struct connection *connection = arg;
    (void)close(connection->fd);
    free(connection);
}

/* Up to the empty line. */
static bool read_request(int fd, char *request, size_t size, cf_duration deadline) {
    size_t length = 0;
    request[0] = '\0';
    while (strstr(request, "\r\n\r\n") == NULL) {
        const ssize_t received = receive(fd, request + length, size - 1 - length, deadline);
        if (received <= 0) { /* 0 also when the buffer is full */
            return false;
        }
        length += (size_t)received;
        request[length] = '\0';
    }
    return true;
}

/* The country that is asked for, or NULL. */
static const char *parse_request(const char *request) {
    for (size_t i = 0; i < FLAGS; i++) {
        const char *code = country_codes[i];
        const int a = tolower((unsigned char)code[0]), b = tolower((unsigned char)code[1]);
        char line[48];
        (void)snprintf(line, sizeof line, "GET /flags/%c%c/%c%c.gif HTTP/1.", a, b, a, b);
        if (strncmp(request, line, strlen(line)) == 0) {
            return code;
        }
    }
    return NULL;
}

static bool send_flag(int fd, const char *code, cf_duration deadline) {
    unsigned char gif[GIF_SIZE];
    char head[128];
    const int size = snprintf(head, sizeof head,
                              "HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\n"
                              "Content-Length: %d\r\nConnection: close\r\n\r\n",
                              (int)GIF_SIZE);
    draw_gif(code, gif);
    return send_all(fd, head, (size_t)size, deadline) && send_all(fd, gif, GIF_SIZE, deadline);
}

static int serve(cf_task *task, void *arg) {
    static const char not_found[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n"
                                    "Connection: close\r\n\r\n";
    const struct connection *connection = arg;
    const cf_duration deadline = now() + 10 * CF_SECOND;
    char request[PATH_SIZE * 2];
    if (!read_request(connection->fd, request, sizeof request, deadline)) {
        return cf_task_fail(task, 1, "no request");
    }
    const char *code = parse_request(request);
    if (code == NULL) {
        return send_all(connection->fd, not_found, sizeof not_found - 1, deadline) ? 0 : 1;
    }
    (void)poll(NULL, 0, 50 + (code[0] * 41 + code[1] * 59) % 101); /* 50 to 150 ms: a far country */
    return send_flag(connection->fd, code, deadline) ? 0 : 1;
}

static void hand_over(cf_task *task, int fd) {
    struct connection *connection = malloc(sizeof *connection);
    if (connection == NULL || !make_nonblocking(fd)) {
        free(connection);
        (void)close(fd);
        return;
    }
    connection->fd = fd;
    const cf_submit_options options = {.free_arg = free_connection};
    cf_future_release(
        cf_executor_submit_with(cf_task_executor(task), serve, connection, 0, &options));
}

static int accept_all(cf_task *task, void *arg) {
    const struct server *server = arg;
    struct pollfd events[2] = {{.fd = server->stop[0], .events = POLLIN},
                               {.fd = server->listener, .events = POLLIN}};
    while (events[0].revents == 0) {
        if (poll(events, 2, -1) < 0 && errno != EINTR) {
            return cf_task_fail(task, errno, "poll: %s", strerror(errno));
        }
        const int fd = accept(server->listener, NULL, NULL); /* does not block */
        if (fd >= 0) {
            hand_over(task, fd);
        } else if (errno == EMFILE || errno == ENFILE) {
            (void)poll(events, 1, TICK); /* the connection stays ready: no reason to spin */
        }
    }
    return 0;
}

/* A free port of 127.0.0.1; false with errno set. */
static bool open_listener(struct server *server) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct sockaddr *name = (struct sockaddr *)&address;
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (server->listener < 0 || !make_nonblocking(server->listener) ||
        bind(server->listener, name, size) != 0 || listen(server->listener, 128) != 0 ||
        getsockname(server->listener, name, &size) != 0) {
        return false;
    }
    (void)snprintf(server->url, sizeof server->url, "http://127.0.0.1:%u/flags",
                   (unsigned)ntohs(address.sin_port));
    return true;
}

static void stop_server(struct server *server) {
    if (server->stop[1] >= 0) {
        (void)close(server->stop[1]);
    }
    cf_executor_close(server->pool);
    cf_future_release(server->accepting);
    if (server->stop[0] >= 0) {
        (void)close(server->stop[0]);
    }
    if (server->listener >= 0) {
        (void)close(server->listener);
    }
}

/* Legal to stop also when it could not be started. */
static bool start_server(struct server *server) {
    cf_status status = CF_OK;
    *server = (struct server){.listener = -1, .stop = {-1, -1}};
    if (!open_listener(server) || pipe(server->stop) != 0) {
        fprintf(stderr, "flags: cannot start a server: %s\n", strerror(errno));
        return false;
    }
    const cf_pool_options options = {.max_workers = FLAGS + 1, .name = "server"};
    server->pool = cf_thread_pool_new(&options, &status);
    if (server->pool != NULL) {
        server->accepting = cf_executor_submit(server->pool, accept_all, CF_POINTER(server));
        status = cf_future_wait(server->accepting, 0); /* CF_TIMEOUT: it is on its way */
    }
    if (status != CF_TIMEOUT) {
        fprintf(stderr, "flags: cannot start a server: %s\n", cf_strerror(status));
        return false;
    }
    fprintf(stderr, "flags: no URL given, so this program serves %s itself\n", server->url);
    return true;
}

/* ------------------------------------------------------------------ the command line */

static const char usage[] =
    "usage: flags [options] [URL]\n"
    "\n"
    "Downloads URL/cn/cn.gif and so on, 20 flags in all, into downloads/cn.gif and so on. Without\n"
    "a URL it serves small pictures itself, each after 50 to 150 ms.\n"
    "\n"
    "  --sequential     one after another\n"
    "  --threads        by cf_executor_map\n"
    "  --processes      by the same, in worker processes: one word changes\n"
    "  --as-completed   by cf_executor_submit and cf_as_completed, printing every future\n"
    "  --eventloop      by poll on cf_as_completed_fd\n"
    "                   (several: one after another, with a table; none: all of them)\n"
    "  -j, --workers N  threads or processes (20; 10 for --as-completed)\n"
    "  -o, --output DIR instead of downloads\n"
    "  --timeout S      seconds that one flag may take (10)\n"
    "  -h, --help       this text\n"
    "\n"
    "Exit status: 0 if every flag arrived, 1 if one did not, 2 for a wrong command line.\n";

struct command {
    const char *url;
    struct settings settings;
    const struct style *styles[STYLES];
    size_t style_count;
};

/* NULL, or what is wrong with it. */
static const char *split_authority(struct url *url) {
    const char *authority = url->authority, *port = "80";
    size_t length = strcspn(authority, ":");
    const char *rest = authority + length;
    if (authority[0] == '[') {
        authority++;
        length = strcspn(authority, "]");
        if (authority[length] != ']') {
            return "missing ]";
        }
        rest = authority + length + 1;
    }
    if (rest[0] == ':' && rest[1] != '\0') {
        uint64_t number;
        const char *end = parse_number(rest + 1, 10, 65535, &number);
        port = rest + 1;
        if (end == NULL || *end != '\0' || number == 0 || strlen(port) >= sizeof url->port) {
            return "bad port";
        }
    } else if (rest[0] != '\0' && rest[0] != ':') {
        return "bad host";
    }
    if (length == 0 || length >= sizeof url->host) {
        return "bad host";
    }
    memcpy(url->host, authority, length);
    url->host[length] = '\0';
    (void)snprintf(url->port, sizeof url->port, "%s", port);
    return NULL;
}

static const char *parse_url(const char *text, struct url *url) {
    if (strncasecmp(text, "http://", 7) != 0) {
        return "it must begin with http://";
    }
    const char *authority = text + 7;
    const size_t authority_size = strcspn(authority, "/");
    const char *path = authority + authority_size;
    size_t path_size = strlen(path);
    for (const char *at = authority; *at != '\0'; at++) {
        if (*at <= ' ' || *at > '~' || strchr("?#@\"<>\\^`{|}", *at) != NULL) {
            return "characters that have no place there";
        }
    }
    while (path_size > 0 && path[path_size - 1] == '/') {
        path_size--;
    }
    if (authority_size >= sizeof url->authority || path_size >= sizeof url->path) {
        return "too long";
    }
    memcpy(url->authority, authority, authority_size);
    url->authority[authority_size] = '\0';
    memcpy(url->path, path, path_size);
    url->path[path_size] = '\0';
    return split_authority(url);
}

static bool parse_timeout(const char *text, cf_duration *timeout) {
    char *end;
    const double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(seconds >= 0.001 && seconds <= 86400.0)) {
        fprintf(stderr, "flags: --timeout takes 0.001 to 86400 seconds, not '%s'\n", text);
        return false;
    }
    *timeout = (cf_duration)(seconds * (double)CF_SECOND);
    return true;
}

static bool parse_workers(const char *text, size_t *workers) {
    uint64_t number;
    const char *end = parse_number(text, 10, 1000, &number);
    if (end == NULL || *end != '\0' || number == 0) {
        fprintf(stderr, "flags: -j takes 1 to 1000 workers, not '%s'\n", text);
        return false;
    }
    *workers = (size_t)number;
    return true;
}

static bool parse_directory(const char *text, const char **directory) {
    if (text[0] == '\0' || strlen(text) > PATH_SIZE - 16) {
        fprintf(stderr, "flags: -o takes the name of a directory\n");
        return false;
    }
    *directory = text;
    return true;
}

/* The style's place in the table travels as the option's value. */
enum { OPTION_STYLE = 256, OPTION_TIMEOUT = OPTION_STYLE + STYLES };

static bool apply_option(struct command *command, int option) {
    switch (option) {
    case 'j':
        return parse_workers(optarg, &command->settings.workers);
    case 'o':
        return parse_directory(optarg, &command->settings.directory);
    case OPTION_TIMEOUT:
        return parse_timeout(optarg, &command->settings.timeout);
    default:
        break;
    }
    if (option < OPTION_STYLE || option >= OPTION_STYLE + STYLES) {
        return false; /* getopt has said why */
    }
    if (command->style_count < STYLES) {
        command->styles[command->style_count++] = &styles[option - OPTION_STYLE];
    }
    return true;
}

static bool parse_command(int argc, char **argv, struct command *command) {
    struct option options[STYLES + 5] = {{"workers", required_argument, NULL, 'j'},
                                         {"output", required_argument, NULL, 'o'},
                                         {"timeout", required_argument, NULL, OPTION_TIMEOUT},
                                         {"help", no_argument, NULL, 'h'}};
    for (int i = 0; i < STYLES; i++) {
        options[4 + i] = (struct option){styles[i].name, no_argument, NULL, OPTION_STYLE + i};
    }
    for (int option; (option = getopt_long(argc, argv, "j:o:h", options, NULL)) != -1;) {
        if (option == 'h') {
            fputs(usage, stdout);
            exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
        }
        if (!apply_option(command, option)) {
            return false;
        }
    }
    for (size_t i = 0; i < STYLES && command->style_count == 0; i++) {
        command->styles[i] = &styles[i];
    }
    if (command->style_count == 0) {
        command->style_count = STYLES;
    }
    command->url = argv[optind];
    return argc - optind <= 1;
}

/* ------------------------------------------------------------------ the program */

static bool prepare(const char *url, struct settings *settings) {
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    const char *problem = parse_url(url, &settings->url);
    if (problem != NULL) {
        fprintf(stderr, "flags: bad URL %s: %s\n", url, problem);
        return false;
    }
    const int error =
        getaddrinfo(settings->url.host, settings->url.port, &hints, &settings->addresses);
    if (error != 0) {
        fprintf(stderr, "flags: cannot resolve %s: %s\n", settings->url.host, gai_strerror(error));
        return false;
    }
    if (mkdir(settings->directory, 0777) != 0 && errno != EEXIST) {
        fprintf(stderr, "flags: cannot make %s: %s\n", settings->directory, strerror(errno));
        return false;
    }
    return true;
}

static void run_style(struct run *run, const struct style *style, const struct settings *settings) {
    *run = (struct run){.style = style, .has_bar = isatty(STDERR_FILENO) != 0};
    for (size_t i = 0; i < FLAGS; i++) {
        run->jobs[i].settings = settings;
        memcpy(run->jobs[i].code, country_codes[i], sizeof country_codes[i]);
        (void)fail(&run->results[i], FAILED, "no result");
    }
    run->workers = settings->workers != 0 ? settings->workers : style->workers;
    if (run->workers > FLAGS || style->function == run_sequential) {
        run->workers = style->function == run_sequential ? 1 : FLAGS;
    }
    run->prints_row = !style->shows_futures && !(run->has_bar && isatty(STDOUT_FILENO));
    run->begin = now();
    const cf_status status = style->function(run);
    run->elapsed = now() - run->begin;
    clear_bar(run);
    if (status != CF_OK) {
        fprintf(stderr, "flags: --%s: %s\n", style->name, cf_strerror(status));
    }
}

/* True if every flag arrived in every style. */
static bool run_styles(const struct command *command) {
    static struct run runs[STYLES];
    size_t failed = 0;
    for (size_t i = 0; i < command->style_count; i++) {
        if (command->style_count > 1) {
            printf("%s--%s\n", i > 0 ? "\n" : "", command->styles[i]->name);
        }
        run_style(&runs[i], command->styles[i], &command->settings);
        print_report(&runs[i]);
        failed += count_failed(&runs[i]);
    }
    if (command->style_count > 1) {
        print_table(runs, command->style_count);
    }
    return failed == 0;
}

int main(int argc, char **argv) {
    struct command command = {.settings = {.directory = "downloads", .timeout = 10 * CF_SECOND}};
    struct server server;
    if (!parse_command(argc, argv, &command)) {
        fputs("flags: see flags --help\n", stderr);
        return 2;
    }
    const bool serves = command.url == NULL;
    bool complete = !serves || start_server(&server);
    complete = complete && prepare(serves ? server.url : command.url, &command.settings) &&
               run_styles(&command);
    if (command.settings.addresses != NULL) {
        freeaddrinfo(command.settings.addresses);
    }
    if (serves) {
        stop_server(&server);
    }
    return complete && fflush(stdout) == 0 && !ferror(stdout) ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Expected output of `flags --threads`, every time written as T.TT:
BD BR CD CN DE EG ET FR ID IN IR JP MX NG PH PK RU TR US VN
20 flags downloaded in T.TTs
tally: 20 downloaded (118640 bytes)
*/
