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
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum {
    WORKERS = 4,
    NAME_SIZE = 256,
    FILE_LIMIT = 16 * 1024 * 1024,
    EXIT_NO_MEMORY = 70 /* how the parser gives up */
};

#define PARSE_TIME (500 * CF_MILLISECOND)
#define MEMORY ((rlim_t)512 * 1024 * 1024)

/* ------------------------------------------------------------------ the parser, with its bugs
 *
 *     add 1 2 3          the sum of all numbers of a file is its result
 *     let apples 7       gives a number a name
 *     use apples         bug: a name that nobody has given is a null pointer
 *     range 1 10 3       adds 1, 4, 7, 10; bug: with step 0 it never ends
 *     keep 1000          keeps that many zeros; bug: it believes any number
 *
 * Any other word "cannot happen", and aborts. Only wrong numbers are reported as they should be. */

struct name {
    struct name *next;
    long long value;
    char text[];
};

enum { KEPT_AT_ONCE = 128 * 1024 };

struct kept {
    struct kept *next;
    long long zeros[KEPT_AT_ONCE];
};

struct parser {
    cf_task *task;
    int line;
    long long sum;
    struct name *names; /* these and what is kept go with the worker: one more bug */
    struct kept *kept;
    bool failed;
};

static void *allocate(size_t size) {
    void *memory = calloc(1, size);
    if (memory == NULL) {
        exit(EXIT_NO_MEMORY);
    }
    return memory;
}

/* The next word of the line, or NULL. */
static char *next_word(char **at) {
    char *word = *at + strspn(*at, " \t\r");
    char *end = word + strcspn(word, " \t\r");
    *at = end;
    if (*end != '\0') {
        *end = '\0';
        *at = end + 1;
    }
    return *word != '\0' ? word : NULL;
}

static long long parse_number(struct parser *parser, const char *word) {
    char *end = NULL;
    errno = 0;
    const long long number = word != NULL ? strtoll(word, &end, 10) : 0;
    if (word == NULL || end == word || *end != '\0' || errno != 0) {
        (void)cf_task_fail(parser->task, 1, "line %d: '%.20s' is no number", parser->line,
                           word != NULL ? word : "");
        parser->failed = true;
        return 0;
    }
    return number;
}

static void parse_let(struct parser *parser, char *at) {
    const char *word = next_word(&at);
    struct name *name = allocate(sizeof *name + strlen(word) + 1);
    memcpy(name->text, word, strlen(word) + 1);
    name->value = parse_number(parser, next_word(&at));
    name->next = parser->names;
    parser->names = name;
}

static const struct name *find_name(const struct parser *parser, const char *word) {
    const struct name *name = parser->names;
    while (name != NULL && strcmp(name->text, word) != 0) {
        name = name->next;
    }
    return name;
}

static void parse_use(struct parser *parser, char *at) {
    /* Volatile, so that the compiler does not see the bug and make another one of it. */
    const struct name *volatile name = find_name(parser, next_word(&at));
    parser->sum += name->value;
}

static void parse_range(struct parser *parser, char *at) {
    const long long from = parse_number(parser, next_word(&at));
    const long long to = parse_number(parser, next_word(&at));
    const long long step = parse_number(parser, next_word(&at));
    for (volatile long long i = from; !parser->failed && i <= to; i += step) {
        parser->sum += i;
    }
}

static void parse_keep(struct parser *parser, char *at) {
    for (long long left = parse_number(parser, next_word(&at)); left > 0; left -= KEPT_AT_ONCE) {
        struct kept *kept = allocate(sizeof *kept);
        kept->next = parser->kept;
        parser->kept = kept;
    }
}

static void parse_line(struct parser *parser, char *at) {
    const char *word = next_word(&at);
    if (word == NULL) {
        return;
    }
    if (strcmp(word, "add") == 0) {
        while ((word = next_word(&at)) != NULL && !parser->failed) {
            parser->sum += parse_number(parser, word);
        }
    } else if (strcmp(word, "let") == 0) {
        parse_let(parser, at);
    } else if (strcmp(word, "use") == 0) {
        parse_use(parser, at);
    } else if (strcmp(word, "range") == 0) {
        parse_range(parser, at);
    } else if (strcmp(word, "keep") == 0) {
        parse_keep(parser, at);
    } else {
        abort();
    }
}

/* The text of a file, ended by a zero. Its copy belongs to the task, so it may be cut to pieces. */
static int parse(cf_task *task, void *arg) {
    struct parser parser = {.task = task};
    for (char *line = arg, *next; line != NULL && !parser.failed; line = next) {
        next = strchr(line, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        parser.line++;
        parse_line(&parser, line);
    }
    return parser.failed ? 1 : cf_task_return(task, &parser.sum, sizeof parser.sum);
}

/* ------------------------------------------------------------------ the workers */

/* In each worker, before its first file. Not 0: the pool breaks, rather than run without limits. */
static int set_limits(void *arg) {
    const struct rlimit memory = {MEMORY, MEMORY}, no_core = {0, 0};
    (void)arg;
    return setrlimit(RLIMIT_AS, &memory) == 0 && setrlimit(RLIMIT_CORE, &no_core) == 0 ? 0 : 1;
}

struct file {
    char name[NAME_SIZE];
    cf_future *future;
};

struct tally {
    size_t parsed, refused, crashed, timed_out, other;
};

static const char *signal_name(int signal) {
    switch (signal) {
    case SIGSEGV:
        return "SIGSEGV";
    case SIGBUS:
        return "SIGBUS";
    case SIGABRT:
        return "SIGABRT";
    case SIGFPE:
        return "SIGFPE";
    case SIGKILL:
        return "SIGKILL";
    default:
        return "another signal";
    }
}

static void report_lost(const struct file *file) {
    const int code = cf_future_error_code(file->future);
    if (code == EXIT_NO_MEMORY + 256) {
        printf("%-24s crashed: out of memory\n", file->name);
    } else if (code >= 256) {
        printf("%-24s crashed: exit status %d\n", file->name, code - 256);
    } else {
        printf("%-24s crashed: %s\n", file->name, signal_name(code));
    }
}

/* Waits for the file. */
static void report(const struct file *file, struct tally *tally) {
    cf_status status = CF_SYSTEM;
    const long long *sum = cf_future_result(file->future, CF_FOREVER, &status);
    switch (status) {
    case CF_OK:
        printf("%-24s sum %lld\n", file->name, *sum);
        tally->parsed++;
        break;
    case CF_TASK_FAILED:
        printf("%-24s refused: %s\n", file->name, cf_future_error_message(file->future));
        tally->refused++;
        break;
    case CF_WORKER_LOST:
        report_lost(file);
        tally->crashed++;
        break;
    case CF_TASK_TIMEOUT:
        printf("%-24s timed out\n", file->name);
        tally->timed_out++;
        break;
    default:
        printf("%-24s not parsed: %s\n", file->name, cf_strerror(status));
        tally->other++;
        break;
    }
}

/* ------------------------------------------------------------------ files and samples */

static const struct {
    const char *name, *text;
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

enum { SAMPLES = sizeof samples / sizeof *samples };

struct feed {
    cf_executor *pool;
    struct file *files;
    size_t count, room;
};

/* The pool has its own copy of the text when it returns. */
static bool submit(struct feed *feed, const char *name, const char *text, size_t size) {
    static const cf_submit_options options = {.timeout = PARSE_TIME};
    if (feed->count == feed->room) {
        const size_t room = feed->room * 2 + 16;
        struct file *files = realloc(feed->files, room * sizeof *files);
        if (files == NULL) {
            return false;
        }
        feed->files = files;
        feed->room = room;
    }
    struct file *file = &feed->files[feed->count++];
    (void)snprintf(file->name, sizeof file->name, "%s", name);
    file->future = cf_executor_submit_with(feed->pool, parse, text, size, &options);
    return true;
}

static bool submit_samples(struct feed *feed) {
    bool complete = true;
    for (size_t i = 0; i < SAMPLES; i++) {
        complete = complete &&
                   submit(feed, samples[i].name, samples[i].text, strlen(samples[i].text) + 1);
    }
    return complete;
}

/* The text with a zero behind it, or NULL with errno set. */
static char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    char *text = file != NULL ? malloc(FILE_LIMIT + 1) : NULL;
    if (text != NULL) {
        *size = fread(text, 1, FILE_LIMIT, file) + 1;
        text[*size - 1] = '\0';
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return text;
}

static bool submit_file(struct feed *feed, const char *directory, const char *name) {
    char path[4096];
    struct stat info;
    size_t size = 0;
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode)) {
        return true;
    }
    char *text = read_file(path, &size);
    const bool complete = text != NULL && submit(feed, name, text, size);
    if (!complete) {
        fprintf(stderr, "crashy: %s: %s\n", path, strerror(errno));
    }
    free(text);
    return complete;
}

static bool submit_directory(struct feed *feed, const char *name) {
    DIR *directory = opendir(name);
    bool complete = directory != NULL;
    if (directory == NULL) {
        fprintf(stderr, "crashy: %s: %s\n", name, strerror(errno));
        return false;
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        complete = submit_file(feed, name, entry->d_name) && complete;
    }
    (void)closedir(directory);
    return complete;
}

static int compare_files(const void *a, const void *b) {
    return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

int main(int argc, char **argv) {
    struct tally tally = {0};
    cf_status status;
    if (argc > 2) {
        fputs("usage: crashy [directory]\n", stderr);
        return 2;
    }
    const cf_pool_options options = {
        .max_workers = WORKERS, .initializer = set_limits, .kill_grace = 100 * CF_MILLISECOND};
    struct feed feed = {.pool = cf_process_pool_new(&options, &status)};
    if (feed.pool == NULL) {
        fprintf(stderr, "crashy: %s\n", cf_strerror(status));
        return EXIT_FAILURE;
    }
    bool complete = argc > 1 ? submit_directory(&feed, argv[1]) : submit_samples(&feed);
    if (feed.count > 0) {
        qsort(feed.files, feed.count, sizeof *feed.files, compare_files);
    }
    for (size_t i = 0; i < feed.count; i++) {
        report(&feed.files[i], &tally);
        cf_future_release(feed.files[i].future);
    }
    cf_executor_close(feed.pool);
    free(feed.files);
    printf("%zu files: %zu parsed, %zu refused, %zu crashed, %zu timed out\n", feed.count,
           tally.parsed, tally.refused, tally.crashed, tally.timed_out);
    complete = complete && tally.other == 0;
    return complete && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
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
