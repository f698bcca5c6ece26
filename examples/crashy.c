/* cc -std=c11 -O2 -I. examples/crashy.c -o crashy -pthread */

/*
 * A parser that dies of bad files, fed with whatever a directory holds: `crashy DIRECTORY`, or some
 * samples without one. It runs in worker processes: a crash, a hang, or one that eats all memory
 * loses its own file. Each good file is parsed, each bad one gets a line that says what happened.
 * Python has no counterpart: there, one dead worker breaks the whole ProcessPoolExecutor.
 */
#define CFUTURES_POSIX
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_LIMIT = 16 * 1024 * 1024, BLOCK = 1024 * 1024, EXIT_NO_MEMORY = 70 };
#define PARSE_TIME (500 * CF_MILLISECOND)
#define MEMORY ((rlim_t)512 * 1024 * 1024)

/* ------------------------------------------------------------------ the parser, with its bugs
 *
 *     add 1 2 3          the sum of all numbers of a file is its result
 *     let apples 7       gives a number a name, known by its first letter
 *     use apples         bug: a name that nobody has given is a null pointer
 *     range 1 10 3       adds 1, 4, 7, 10; bug: with step 0 it never ends
 *     keep 1000          keeps that many bytes; bug: it believes any number, and never frees
 *
 * Any other word "cannot happen", and aborts. Only wrong numbers are reported as they should be. */

struct parser {
    cf_task *task;
    int line;
    bool failed;
    long long sum, values[256], *names[256];
};

/* The next one of the line, or NULL. A worker process has one thread. */
static char *next_word(void) {
    return strtok(NULL, " \t\r");
}

static long long parse_number(struct parser *parser, const char *word) {
    char *end;
    errno = 0;
    word = word != NULL ? word : "";
    const long long number = strtoll(word, &end, 10);
    if (end == word || *end != '\0' || errno != 0) {
        (void)cf_task_fail(parser->task, 1, "line %d: '%.20s' is no number", parser->line, word);
        parser->failed = true;
    }
    return number;
}

static void parse_add(struct parser *parser) {
    for (char *word; !parser->failed && (word = next_word()) != NULL;) {
        parser->sum += parse_number(parser, word);
    }
}

static void parse_let(struct parser *parser) {
    const unsigned char letter = (unsigned char)next_word()[0];
    parser->names[letter] = &parser->values[letter];
    parser->values[letter] = parse_number(parser, next_word());
}

static void parse_use(struct parser *parser) {
    parser->sum += *parser->names[(unsigned char)next_word()[0]];
}

static void parse_range(struct parser *parser) {
    const long long from = parse_number(parser, next_word());
    const long long to = parse_number(parser, next_word());
    const long long step = parse_number(parser, next_word());
    for (volatile long long i = from; !parser->failed && i <= to; i += step) {
        parser->sum += i;
    }
}

static void parse_keep(struct parser *parser) {
    static void *volatile kept;
    for (long long left = parse_number(parser, next_word()); left > 0; left -= BLOCK) {
        kept = malloc(BLOCK);
        if (kept == NULL) {
            exit(EXIT_NO_MEMORY);
        }
    }
}

static const struct {
    const char *word;
    void (*parse)(struct parser *parser);
} commands[] = {{"add", parse_add},     {"let", parse_let},   {"use", parse_use},
                {"range", parse_range}, {"keep", parse_keep}, {NULL, NULL}};

static void parse_line(struct parser *parser, char *line) {
    const char *word = strtok(line, " \t\r");
    for (size_t i = 0; word != NULL; i++) {
        if (commands[i].word == NULL) {
            abort();
        }
        if (strcmp(commands[i].word, word) == 0) {
            commands[i].parse(parser);
            word = NULL;
        }
    }
}

/* The text of a file, ended by a zero. Its copy belongs to the task, so it may be cut to pieces. */
static int parse(cf_task *task, void *arg) {
    struct parser parser = {.task = task, .line = 1};
    char *text = arg;
    for (char *line; !parser.failed && (line = strsep(&text, "\n")) != NULL; parser.line++) {
        parse_line(&parser, line);
    }
    return parser.failed ? 1 : cf_task_return(task, &parser.sum, sizeof parser.sum);
}

/* In each worker, before its first file. Not 0: the pool breaks. */
static int set_limits(void *arg) {
    const struct rlimit memory = {MEMORY, MEMORY}, no_core = {0, 0};
    (void)arg;
    return setrlimit(RLIMIT_AS, &memory) == 0 && setrlimit(RLIMIT_CORE, &no_core) == 0 ? 0 : 1;
}

/* NULL with errno set. The pool has its own copy of the text when it returns. */
static cf_future *submit(cf_executor *pool, FILE *file) {
    static const cf_submit_options options = {.timeout = PARSE_TIME};
    static char text[FILE_LIMIT + 1];
    if (file == NULL) {
        return NULL;
    }
    text[fread(text, 1, FILE_LIMIT, file)] = '\0';
    (void)fclose(file);
    return cf_executor_submit_with(pool, parse, CF_STRING(text), &options);
}

static int parsed, refused, crashed, timed_out;

/* The signal stands in the message's brackets: "worker 4711 was killed by signal 11 (SIGSEGV)". */
static void report_lost(const char *name, const cf_future *future) {
    const char *message = cf_future_error_message(future), *signal = strchr(message, '(');
    const bool gave_up = cf_future_error_code(future) == EXIT_NO_MEMORY + 256;
    message = gave_up ? "out of memory" : signal != NULL ? signal + 1 : message;
    printf("%-24s crashed: %.*s\n", name, (int)strcspn(message, ")"), message);
    crashed++;
}

static void report(const char *name, cf_future *future) {
    cf_status status;
    const long long *sum = cf_future_result(future, CF_FOREVER, &status);
    if (status == CF_OK) {
        printf("%-24s sum %lld\n", name, *sum);
        parsed++;
    } else if (status == CF_TASK_FAILED) {
        printf("%-24s refused: %s\n", name, cf_future_error_message(future));
        refused++;
    } else if (status == CF_WORKER_LOST) {
        report_lost(name, future);
    } else if (status == CF_TASK_TIMEOUT) {
        printf("%-24s timed out\n", name);
        timed_out++;
    } else {
        printf("%-24s not parsed: %s\n", name, cf_strerror(status));
    }
}

static struct {
    const char *name;
    char text[40];
} samples[] = {
    {"01-numbers", "add 1 2 3\nadd 4\n"},
    {"02-unknown-name", "let apples 7\nuse pears\n"},
    {"03-names", "let apples 7\nuse apples\nuse apples\n"},
    {"04-unknown-word", "subtract 3\n"},
    {"05-range", "range 1 10 3\n"},
    {"06-step-0", "range 1 10 0\n"},
    {"07-no-number", "add 1\nadd two\n"},
    {"08-keep", "keep 100000\nadd 8\n"},
    {"09-keep-too-much", "keep 1000000000000\n"},
    {"10-empty", ""},
    {"11-let-nothing", "let\n"},
    {"12-all-is-well", "add 5\nrange 0 100 1\n"},
};

static int is_regular(const struct dirent *entry) {
    struct stat info;
    return stat(entry->d_name, &info) == 0 && S_ISREG(info.st_mode);
}

int main(int argc, char **argv) {
    if (argc > 2 || (argc > 1 && argv[1][0] == '-')) {
        fputs("usage: crashy [DIRECTORY]\n", stderr);
        return 2;
    }
    const cf_pool_options options = {.max_workers = 4, .initializer = set_limits};
    cf_executor *pool = cf_process_pool_new(&options, NULL); /* NULL shows where results are read */
    static struct dirent **files;
    int count = sizeof samples / sizeof *samples;
    if (argc > 1 && ((count = chdir(argv[1])) == 0)) {
        count = scandir(".", &files, is_regular, alphasort);
    }
    cf_future **futures = calloc(count > 0 ? (size_t)count : 1, sizeof *futures);
    if (count < 0 || futures == NULL) {
        fprintf(stderr, "crashy: %s: %s\n", argc > 1 ? argv[1] : "samples", strerror(errno));
        return EXIT_FAILURE;
    }
    for (int i = 0; i < count; i++) {
        const char *name = files != NULL ? files[i]->d_name : samples[i].name;
        futures[i] =
            submit(pool, files != NULL ? fopen(name, "rb") : fmemopen(samples[i].text, 40, "rb"));
        if (futures[i] == NULL) {
            fprintf(stderr, "crashy: %s: %s\n", name, strerror(errno));
        }
    }
    for (int i = 0; i < count; i++) {
        if (futures[i] != NULL) {
            report(files != NULL ? files[i]->d_name : samples[i].name, futures[i]);
        }
        cf_future_release(futures[i]);
    }
    cf_executor_close(pool);
    free(futures);
    printf("%d files: %d parsed, %d refused, %d crashed, %d timed out\n", count, parsed, refused,
           crashed, timed_out);
    const bool works = parsed + refused + crashed + timed_out == count && !ferror(stdout);
    return works && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Expected output:
01-numbers               sum 10
02-unknown-name          crashed: SIGSEGV
03-names                 sum 14
04-unknown-word          crashed: SIGABRT
05-range                 sum 22
06-step-0                timed out
07-no-number             refused: line 2: 'two' is no number
08-keep                  sum 8
09-keep-too-much         crashed: out of memory
10-empty                 sum 0
11-let-nothing           crashed: SIGSEGV
12-all-is-well           sum 5055
12 files: 6 parsed, 1 refused, 4 crashed, 1 timed out
*/
