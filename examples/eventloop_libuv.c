/* cc -std=c11 -O2 -I. examples/eventloop_libuv.c -o eventloop_libuv `pkg-config --cflags --libs libuv` -pthread */

/*
 * libuv's loop (Debian: libuv1-dev): results are one more handle beside standard input and a timer.
 * The same program as eventloop_poll.c and eventloop_glib.c (begin reading at run). In Python:
 *
 *     line = await loop.run_in_executor(pool, factorize, word)
 */
#define CFUTURES_POSIX
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { ENOUGH = 64 /* numbers under way, to read no more */, TICK = 100 /* ms */ };

static const char usage[] =
    "usage: eventloop_libuv [options] <NUMBERS\n"
    "\n"
    "Prints the prime factors of the numbers on standard input, as factor(1) does, but each line\n"
    "as soon as it is found.\n"
    "\n"
    "  -j, --workers N  threads, 1 to 1000 (one for each processor)\n"
    "  -h, --help       this text\n"
    "\n"
    "Exit status: 0 if all went well, 1 if a number failed, 2 for a wrong command line.\n";

static int factorize(cf_task *task, void *arg) {
    const char *word = arg;
    char line[256], *end;
    errno = 0;
    const uintmax_t number = strtoumax(word, &end, 10);
    if (!isdigit((unsigned char)word[0]) || *end != '\0' || errno != 0 || number > UINT64_MAX) {
        return cf_task_fail(task, 1, "'%s' is no number from 0 to 2^64 - 1", word);
    }
    uint64_t rest = number;
    int length = snprintf(line, sizeof line, "%" PRIu64 ":", rest);
    for (uint64_t divisor = 2; rest > 1; divisor += divisor == 2 ? 1 : 2) {
        divisor = divisor <= rest / divisor ? divisor : rest; /* what is left is a prime */
        for (; rest % divisor == 0; rest /= divisor) {
            length += snprintf(line + length, 32, " %" PRIu64, divisor);
        }
    }
    return cf_task_return(task, line, (size_t)length + 1);
}

/* ------------------------------------------------------------------ what the loop keeps */

struct loop {
    uv_poll_t input;
    int input_fd; /* STDIN_FILENO: a file, not polled */
    cf_executor *pool;
    cf_as_completed_iter *done;
    char word[64]; /* as far as it has been read */
    size_t length;
    bool input_ended;
    size_t under_way, printed, failed, ticks;
    const char *clear_bar; /* "" where there is no bar, for lack of a terminal */
};

static void print_error(struct loop *loop, const char *message) {
    fprintf(stderr, "%seventloop_libuv: %s\n", loop->clear_bar, message);
    loop->failed++;
}

/* Prints and releases it. Blocks only if it is not done. */
static void print_result(struct loop *loop, cf_future *future) {
    const char *line = cf_future_result(future, CF_FOREVER, NULL);
    if (line == NULL) {
        print_error(loop, cf_future_error_message(future));
    } else {
        fputs(loop->clear_bar, stderr);
        printf("%s\n", line);
        loop->printed++;
    }
    loop->under_way--;
    cf_future_release(future);
}

/* Submits the word that it ends. */
static void take_byte(struct loop *loop, char byte) {
    const bool fits = loop->length < sizeof loop->word - 1;
    if (!isspace((unsigned char)byte)) {
        loop->word[fits ? loop->length : 0] = fits ? byte : '~'; /* too long to be a number */
        loop->length += fits;
    } else if (loop->length > 0) {
        loop->word[loop->length] = '\0';
        loop->length = 0;
        loop->under_way++;
        cf_future *future = cf_executor_submit(loop->pool, factorize, CF_STRING(loop->word));
        if (cf_as_completed_add(loop->done, future) != CF_OK) {
            print_result(loop, future); /* no memory: one after another */
        }
    }
}

static void read_input(struct loop *loop) {
    char input[1024];
    const ssize_t size = read(loop->input_fd, input, sizeof input);
    const bool has_failed = size < 0 && errno != EINTR && errno != EAGAIN;
    for (ssize_t i = 0; i < size; i++) {
        take_byte(loop, input[i]);
    }
    if (size == 0 || has_failed) {
        take_byte(loop, '\n');
        loop->input_ended = true;
    }
    if (has_failed) {
        print_error(loop, "cannot read standard input");
    }
}

static bool wants_input(const struct loop *loop) {
    return !loop->input_ended && loop->under_way < ENOUGH;
}

static void tick(struct loop *loop) {
    const char wheel = "-\\|/"[loop->ticks++ % 4];
    if (loop->clear_bar[0] != '\0') {
        fprintf(stderr, "\r[%c] %zu done, %zu under way\033[K", wheel, loop->printed + loop->failed,
                loop->under_way);
    }
}

/* ------------------------------------------------------------------ the loop */

static void on_tick(uv_timer_t *handle) {
    tick(handle->data);
}

static void on_input(uv_poll_t *handle, int status, int events) {
    struct loop *loop = handle->data;
    (void)status, (void)events;
    read_input(loop);
    if (!wants_input(loop)) {
        (void)uv_poll_stop(handle);
    }
}

/* A file need not be waited for, nor can it be. */
static void start_input(struct loop *loop) {
    while (loop->input_fd == STDIN_FILENO && wants_input(loop)) {
        read_input(loop);
    }
    if (wants_input(loop)) {
        (void)uv_poll_start(&loop->input, UV_READABLE, on_input);
    }
}

static void on_result(uv_poll_t *handle, int status, int events) {
    struct loop *loop = handle->data;
    (void)status, (void)events;
    for (cf_future *next; (next = cf_as_completed_try_next(loop->done, NULL, NULL)) != NULL;) {
        print_result(loop, next);
    }
    start_input(loop);
}

static void close_handle(uv_handle_t *handle, void *user) {
    (void)user;
    uv_close(handle, NULL);
}

static void run(struct loop *loop) {
    uv_loop_t *uv = uv_default_loop();
    uv_poll_t results = {.data = loop};
    uv_timer_t clock = {.data = loop};
    /* What libuv polls does not block any more. Opened anew, the shell's terminal still does. */
    loop->input_fd = open("/dev/stdin", O_RDONLY | O_CLOEXEC);
    loop->input.data = loop;
    if (uv_poll_init(uv, &loop->input, loop->input_fd) != 0) {
        loop->input_fd = STDIN_FILENO;
    }
    if (uv_poll_init(uv, &results, cf_as_completed_fd(loop->done)) != 0) {
        print_error(loop, "libuv cannot wait for the results");
        return;
    }
    (void)uv_poll_start(&results, UV_READABLE, on_result);
    (void)uv_timer_init(uv, &clock);
    (void)uv_timer_start(&clock, on_tick, TICK, TICK);
    start_input(loop);
    while (!loop->input_ended || loop->under_way > 0) {
        (void)uv_run(uv, UV_RUN_ONCE);
    }
    uv_walk(uv, close_handle, NULL);
    (void)uv_run(uv, UV_RUN_DEFAULT);
    (void)uv_loop_close(uv);
}

/* ------------------------------------------------------------------ the program */

static bool parse_command(int argc, char **argv, cf_pool_options *options) {
    static const struct option long_options[] = {{"workers", required_argument, NULL, 'j'},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "j:h", long_options, NULL)) != -1;) {
        char *end;
        if (option == 'h') {
            fputs(usage, stdout);
            exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
        }
        options->max_workers = option == 'j' ? strtoul(optarg, &end, 10) : 0;
        if (options->max_workers < 1 || options->max_workers > 1000 || *end != '\0') {
            return false;
        }
    }
    return optind == argc;
}

int main(int argc, char **argv) {
    cf_pool_options options = {.max_workers = cf_cpu_count()};
    struct loop loop = {.clear_bar = isatty(STDERR_FILENO) ? "\r\033[K" : ""};
    if (!parse_command(argc, argv, &options)) {
        fputs("eventloop_libuv: see eventloop_libuv --help\n", stderr);
        return 2;
    }
    (void)setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    loop.pool = cf_thread_pool_new(&options, NULL); /* NULL surfaces with each number */
    /* At its end the descriptor is readable too. With a promise that nobody keeps it never ends. */
    cf_future *never = cf_future_new();
    loop.done = cf_as_completed(&never, 1, CF_FOREVER);
    const bool has_input = fcntl(STDIN_FILENO, F_GETFD) >= 0;
    if (never != NULL && cf_as_completed_fd(loop.done) >= 0 && has_input) {
        run(&loop);
    } else {
        print_error(&loop, "no memory, no descriptor, or no standard input");
    }
    fputs(loop.clear_bar, stderr);
    cf_as_completed_close(loop.done);
    cf_future_release(never);
    cf_executor_close(loop.pool);
    return loop.failed == 0 && fflush(stdout) == 0 && !ferror(stdout) ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Output of `echo 60 97 1 1000000016000000063 | eventloop_libuv`, in some order:
1:
60: 2 2 3 5
97: 97
1000000016000000063: 1000000007 1000000009
*/
