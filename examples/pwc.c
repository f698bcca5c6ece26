/* cc -std=c11 -O2 -D_FILE_OFFSET_BITS=64 -I. examples/pwc.c -o pwc -pthread */

/*
 * wc on all processors. Each file is a task, which spreads the parts of its file over the same pool
 * and waits for them: that costs no worker and never hangs. In Python, where it could hang:
 *
 *     futures = [pool.submit(count_file, name) for name in names]
 *     total = sum(future.result() for future in as_completed(futures))
 */
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>
#include <wctype.h>

static const char usage[] =
    "usage: pwc [options] [FILE]...    (no FILE, or -: the standard input)\n"
    "Prints what wc prints, counted by several threads. Exit status: 1 if a file was not read.\n\n"
    "  -l, -w, -m, -c       count lines, words, characters, bytes (-lwc)\n"
    "      --files0-from=F  take the names, each ended by a zero byte, from F\n"
    "  -j, --workers N      threads (one for each processor)\n"
    "  -h, --help           this text\n";

enum { LINES, WORDS, CHARS, BYTES, COLUMNS, SIZE = COLUMNS, IRREGULAR, NUMBERS };
static enum kind { NEUTRAL, SPACE, WORD, LOOK } kinds[256]; /* of bytes; LOOK: it needs more */
enum { PARTS = 64, LEAST = 1 << 20, BUFFER = 1 << 15, MORE = 5 /* bytes of a character */ };

struct counts {
    uint64_t number[NUMBERS];
    enum kind first, last; /* but NEUTRAL ones: a word may go on in the next part */
    int error;             /* a number of errno: the rest could not be read */
    bool is_missing;
};

struct part {
    int fd;
    off_t begin, end; /* those characters that begin there */
};

static bool wanted[COLUMNS], lines_only, is_narrow, failed;

static void complain(const char *name, const char *reason) {
    fprintf(stderr, "pwc: %s: %s\n", name != NULL ? name : "'standard input'", reason);
    failed = true;
}

/* As GNU's wc has it: a word has something printable in it, and no space. */
static enum kind kind_of(wint_t wide) {
    const bool ties = wide == 0xA0 || wide == 0x2007 || wide == 0x202F || wide == 0x2060;
    const bool is_space = ties || iswspace(wide);
    return iswprint(wide) ? (is_space ? SPACE : WORD) : is_space && wide < 128 ? SPACE : NEUTRAL;
}

/* Counts what begins before `end`, in UTF-8 or single bytes; returns where the next begins. */
static size_t count_text(struct counts *counts, const char *text, size_t end, size_t size) {
    uint64_t lines = 0, words = 0, more = 0; /* bytes than characters */
    enum kind first = NEUTRAL, last = NEUTRAL;
    size_t at = 0;
    for (char *to; lines_only && (to = memchr(text + at, '\n', end - at)) != NULL; lines++) {
        at = (size_t)(to - text) + 1;
    }
    for (at = lines_only ? end : 0; at < end; at++) {
        enum kind kind = kinds[(unsigned char)text[at]];
        if (kind == LOOK) {
            wchar_t wide;
            const size_t length = mbrtowc(&wide, text + at, size - at, &(mbstate_t){0});
            const bool is_valid = length <= size - at;
            kind = is_valid ? kind_of((wint_t)wide) : NEUTRAL;
            more += is_valid ? length - 1 : 1;
            at += is_valid ? length - 1 : 0;
        }
        lines += text[at] == '\n';
        words += kind == WORD && last != WORD;
        first = first != NEUTRAL ? first : kind;
        last = kind != NEUTRAL ? kind : last;
    }
    *counts = (struct counts){.number = {lines, words, at - more}, .first = first, .last = last};
    return at;
}

static void add_counts(struct counts *sum, const struct counts *next) {
    for (int i = 0; i < NUMBERS; i++) {
        sum->number[i] += next->number[i];
    }
    sum->number[WORDS] -= sum->last == WORD && next->first == WORD; /* it was counted twice */
    sum->first = sum->first != NEUTRAL ? sum->first : next->first;
    sum->last = next->last != NEUTRAL ? next->last : sum->last;
    sum->error = sum->error != 0 ? sum->error : next->error;
}

static int count_part(cf_task *task, void *arg) {
    const struct part *part = arg;
    struct counts sum = {0}, next;
    char text[BUFFER];
    off_t at = part->begin;
    ssize_t got = 1;
    for (size_t size = 0; at < part->end && got > 0;) {
        got = pread(part->fd, text + size, BUFFER - size, at + (off_t)size);
        got = got < 0 && errno == ESPIPE ? read(part->fd, text + size, BUFFER - size) : got;
        sum.error = got < 0 ? errno : 0;
        size += got > 0 ? (size_t)got : 0;
        size_t end = got <= 0 ? size : size > MORE ? size - MORE : 0;
        end = (off_t)end < part->end - at ? end : (size_t)(part->end - at);
        const size_t used = count_text(&next, text, end, size);
        add_counts(&sum, &next);
        size -= used;
        at += (off_t)used;
        memmove(text, text + used, size); /* what the buffer's end may have cut waits for more */
    }
    sum.number[BYTES] = (uint64_t)((at < part->end ? at : part->end) - part->begin);
    return cf_task_return(task, &sum, sizeof sum);
}

static int count_file(cf_task *task, void *arg) {
    const char *name = *(char *const *)arg;
    const bool is_stdin = name == NULL || strcmp(name, "-") == 0;
    const int fd = is_stdin ? dup(STDIN_FILENO) : open(name, O_RDONLY | O_CLOEXEC);
    struct counts counts[PARTS], sum = {.error = fd < 0 ? errno : 0, .is_missing = fd < 0};
    struct part parts[PARTS];
    struct stat info = {0};
    const bool is_known = (fd < 0 ? stat(name, &info) : fstat(fd, &info)) == 0;
    const off_t size = is_known && S_ISREG(info.st_mode) ? info.st_size : 0;
    sum.number[SIZE] = (uint64_t)size;
    sum.number[IRREGULAR] = is_known && !S_ISREG(info.st_mode);
    if (fd < 0) {
        return cf_task_return(task, &sum, sizeof sum);
    }
    const off_t start = size > 0 ? lseek(fd, 0, SEEK_CUR) : 0;
    const bool skips = lines_only && !wanted[LINES] && size > start; /* all but the last page */
    const off_t begin = skips ? start + (size - start) / 4096 * 4096 : start;
    const off_t step = size - begin > PARTS * LEAST ? (size - begin) / PARTS + 1 : LEAST;
    const size_t count = size > begin ? (size_t)((size - begin - 1) / step + 1) : 1;
    sum.number[BYTES] = (uint64_t)(begin - start);
    for (size_t i = 0; i < count; i++) {
        const off_t from = begin + (off_t)i * step;
        parts[i] = (struct part){fd, from, i + 1 < count ? from + step : INT64_MAX / 2};
    }
    const cf_status status =
        cf_executor_map_array(cf_task_executor(task), count_part, parts, sizeof *parts, counts,
                              sizeof *counts, count, NULL, NULL);
    sum.error = status == CF_OK ? 0 : ENOMEM;
    for (size_t i = 0; i < count; i++) {
        add_counts(&sum, &counts[i]);
    }
    (void)close(fd);
    sum.first = sum.last = NEUTRAL; /* no word goes on in another file */
    return cf_task_return(task, &sum, sizeof sum);
}

static char **read_list(const char *name, size_t *count) {
    FILE *list = strcmp(name, "-") == 0 ? stdin : fopen(name, "r");
    static char **names, *next; /* kept for good */
    while (list != NULL && getdelim(&next, &(size_t){0}, '\0', list) > 0 &&
           (names = realloc(names, (*count + 1) * sizeof *names)) != NULL) {
        names[(*count)++] = next;
        next = NULL;
    }
    is_narrow = list != NULL && lseek(fileno(list), 0, SEEK_CUR) < 0;
    if (list == NULL || ferror(list) || (names == NULL && *count > 0)) {
        complain(name, strerror(errno));
    }
    return names;
}

static void print_counts(const struct counts *counts, int width, const char *name) {
    for (int i = 0, any = 0; i < COLUMNS; i++) {
        any += wanted[i] && printf("%s%*" PRIu64, any ? " " : "", width, counts->number[i]) > 0;
    }
    printf(name != NULL ? " %s\n" : "\n", name);
}

static void count_files(cf_executor *pool, char *const *names, size_t count) {
    struct counts total = {0};
    cf_status status;
    cf_future **futures = calloc(count + 1, sizeof *futures), *next;
    (void)cf_executor_submit_many(pool, count_file, names, count, sizeof *names, futures);
    cf_as_completed_iter *completed = cf_as_completed(futures, count, CF_FOREVER);
    while ((next = cf_as_completed_next(completed, NULL, &status)) != NULL) { /* in any order */
        const struct counts *counts = cf_future_result(next, 0, NULL);
        add_counts(&total, counts != NULL ? counts : &(struct counts){0});
    }
    cf_as_completed_close(completed);
    const int digits = snprintf(NULL, 0, "%" PRIu64, total.number[SIZE]);
    const int width = is_narrow ? 1 : digits < 7 && total.number[IRREGULAR] > 0 ? 7 : digits;
    for (size_t i = 0; i < count && futures != NULL; i++) {
        const struct counts *counts = cf_future_result(futures[i], CF_FOREVER, NULL);
        if (counts == NULL || counts->error != 0) {
            const cf_status why = cf_future_wait(futures[i], 0);
            complain(names[i], counts != NULL ? strerror(counts->error) : cf_strerror(why));
        }
        if (counts != NULL && !counts->is_missing) {
            print_counts(counts, width, names[i]);
        }
        cf_future_release(futures[i]);
    }
    if (status != CF_END) {
        complain("total", cf_strerror(status));
    } else if (count > 1) {
        print_counts(&total, width, "total");
    }
    free(futures);
}

int main(int argc, char **argv) {
    static const struct option long_options[] = {
        {"files0-from", required_argument, NULL, 'f'}, {"workers", required_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},              {NULL, 0, NULL, 0}};
    cf_pool_options options = {.max_workers = cf_cpu_count()};
    const char *list = NULL, *letter, *const letters = "lwmc";
    for (int c; (c = getopt_long(argc, argv, "lwmcj:h", long_options, NULL)) != -1;) {
        const int got = c == 'j' ? sscanf(optarg, "%4zu%c", &options.max_workers, &(char){0}) : 1;
        list = c == 'f' ? optarg : list;
        if ((letter = strchr(letters, c)) != NULL) {
            wanted[letter - letters] = true;
        } else if (c != 'f' && (c != 'j' || got != 1 || options.max_workers - 1 >= 1000)) {
            fputs(c == 'h' ? usage : "pwc: see --help\n", c == 'h' ? stdout : stderr);
            return c == 'h' && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
        }
    }
    size_t count = list != NULL ? 0 : optind < argc ? (size_t)(argc - optind) : 1;
    char **names = list != NULL ? read_list(list, &count) : argv + optind; /* NULL: no argument */
    const int columns = wanted[LINES] + wanted[WORDS] + wanted[CHARS] + wanted[BYTES];
    if (columns == 0) {
        wanted[LINES] = wanted[WORDS] = wanted[BYTES] = true;
    }
    is_narrow = is_narrow || (columns == 1 && count == 1);
    lines_only = !wanted[WORDS] && !wanted[CHARS];
    (void)setlocale(LC_CTYPE, "");
    for (int i = 0; i < 256; i++) {
        kinds[i] = btowc(i) != WEOF ? kind_of(btowc(i)) : MB_CUR_MAX > 1 ? LOOK : NEUTRAL;
    }
    cf_executor *pool = cf_thread_pool_new(&options, NULL); /* NULL shows where results are read */
    count_files(pool, names, count);
    cf_executor_close(pool);
    if (ferror(stdout) || fflush(stdout) != 0) {
        complain("write error", strerror(errno));
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
