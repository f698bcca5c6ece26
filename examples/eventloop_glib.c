/* cc -std=c11 -O2 -I. examples/eventloop_glib.c -o eventloop_glib `pkg-config --cflags --libs glib-2.0` -pthread */

/*
 * GLib's main loop, which is also GTK's (Debian: libglib2.0-dev): the descriptor of the results is
 * one more source beside standard input and a timeout, and nothing blocks but the loop itself. The
 * same program as eventloop_poll.c and eventloop_libuv.c (begin reading at run). In Python:
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
#include <glib-unix.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ENOUGH = 64 /* numbers under way, to read no more */, TICK = 100 /* ms */ };

static const char usage[] =
    "usage: eventloop_glib [options] <NUMBERS\n"
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
    bool is_reading; /* standard input is watched */
    cf_executor *pool;
    cf_as_completed_iter *done;
    char word[64]; /* as far as it has been read */
    size_t length;
    bool input_ended;
    size_t under_way, printed, failed, ticks;
    const char *clear_bar; /* "" where there is no bar, for lack of a terminal */
};

static void print_error(struct loop *loop, const char *message) {
    fprintf(stderr, "%seventloop_glib: %s\n", loop->clear_bar, message);
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
    const ssize_t size = read(STDIN_FILENO, input, sizeof input);
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

static gboolean on_tick(gpointer user) {
    tick(user);
    return G_SOURCE_CONTINUE;
}

/* False: the source has to go, since there is no room for more. */
static gboolean on_input(gint fd, GIOCondition condition, gpointer user) {
    struct loop *loop = user;
    (void)fd, (void)condition;
    read_input(loop);
    loop->is_reading = wants_input(loop);
    return loop->is_reading;
}

static gboolean on_result(gint fd, GIOCondition condition, gpointer user) {
    struct loop *loop = user;
    (void)fd, (void)condition;
    for (cf_future *next; (next = cf_as_completed_try_next(loop->done, NULL, NULL)) != NULL;) {
        print_result(loop, next);
    }
    if (!loop->is_reading && wants_input(loop)) {
        loop->is_reading = true;
        (void)g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_input, loop);
    }
    return G_SOURCE_CONTINUE;
}

static void run(struct loop *loop) {
    const guint clock = g_timeout_add(TICK, on_tick, loop);
    const guint results = g_unix_fd_add(cf_as_completed_fd(loop->done), G_IO_IN, on_result, loop);
    (void)g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_input, loop);
    loop->is_reading = true;
    while (!loop->input_ended || loop->under_way > 0) {
        (void)g_main_context_iteration(NULL, TRUE); /* or g_main_loop_run, and quit at the end */
    }
    (void)g_source_remove(results);
    (void)g_source_remove(clock);
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
        fputs("eventloop_glib: see eventloop_glib --help\n", stderr);
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

/* Output of `echo 60 97 1 1000000016000000063 | eventloop_glib`, in some order:
1:
60: 2 2 3 5
97: 97
1000000016000000063: 1000000007 1000000009
*/
