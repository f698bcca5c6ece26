/* cc -std=c11 -O2 -D_FILE_OFFSET_BITS=64 -I. examples/psha256.c -o psha256 -pthread -lcrypto */

/*
 * sha256sum for files and whole trees: the same lines, the same -c, the same exit status. Files are
 * hashed side by side; their digests come in order, at most AHEAD of them before their turn. The
 * algorithm itself is libcrypto's (Debian: libssl-dev). In Python:
 *
 *     for name, digest in zip(names, pool.map(sha256_of, names, buffersize=256)):
 *         print(f"{digest}  {name}")
 */
#define _XOPEN_SOURCE 700 /* shows nftw */
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static const char usage[] =
    "usage: psha256 [options] [FILE or DIRECTORY]...   (none, or -: the standard input)\n"
    "Prints SHA-256 checksums like sha256sum; of a directory those of all regular files below it,\n"
    "sorted by name. Exit status: 1 if a file could not be read or did not match, else 0.\n\n"
    "  -c, --check      read checksums from the arguments, and check them\n"
    "      --quiet      -c: print no OK\n"
    "      --status     -c: print no verdict, the exit status says it\n"
    "  -j, --workers N  so many files at a time (processors + 4)\n"
    "  -h, --help       this text\n";

enum { DIGEST = 32, HEX = 2 * DIGEST, AHEAD = 256 };

struct file {
    char *name;
    const char *expected; /* -c: HEX digits, in the memory of the name */
    bool is_drained;      /* "-" once more: nothing is left to read */
};

/* Global, since nftw hands its visitor nothing. Only the main thread looks at them. */
static struct file *files;
static size_t file_count, wrong_lines, mismatched, unreadable;
static int check, quiet, status_only, failed;

static void complain(const char *name, const char *reason) {
    fprintf(stderr, "psha256: %s: %s\n", name, reason);
    unreadable++;
    failed = 1;
}

/* From a struct file to its digest in HEX digits. It fails with a number of errno. */
static int hash_file(cf_task *task, void *arg) {
    const struct file *file = arg;
    const char *path = file->is_drained ? "/dev/null" : file->name;
    const int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    unsigned char buffer[32 * 1024], digest[DIGEST];
    char hex[HEX + 1];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool works = context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    ssize_t size = 1;
    while (works && size > 0 && !cf_task_stop_requested(task)) {
        size = read(fd, buffer, sizeof buffer);
        works = size <= 0 || EVP_DigestUpdate(context, buffer, (size_t)size) == 1;
    }
    const int error = size < 0 ? errno : ENOMEM;
    works = works && size == 0 && EVP_DigestFinal_ex(context, digest, NULL) == 1;
    EVP_MD_CTX_free(context);
    (void)close(fd);
    for (size_t i = 0; i < DIGEST && works; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    return works ? cf_task_return(task, hex, sizeof hex) : error;
}

static void add_file(char *name, const char *expected) {
    static int stdins;
    if ((file_count & (file_count - 1)) == 0) { /* at powers of two the room doubles */
        files = realloc(files, (2 * file_count + 1) * sizeof *files);
    }
    if (name == NULL || files == NULL) {
        perror("psha256");
        exit(EXIT_FAILURE);
    }
    files[file_count++] = (struct file){name, expected, strcmp(name, "-") == 0 && stdins++ > 0};
}

/* An argument is hashed whatever it is, as by sha256sum; below a directory only regular files. */
static int visit(const char *path, const struct stat *info, int type, struct FTW *place) {
    if (type == FTW_DNR || (type == FTW_NS && place->level > 0)) {
        complain(path, strerror(errno));
    } else if (type != FTW_D && (place->level == 0 || S_ISREG(info->st_mode))) {
        add_file(strdup(path), NULL);
    }
    return 0;
}

static int by_name(const void *left, const void *right) {
    return strcmp(((const struct file *)left)->name, ((const struct file *)right)->name);
}

static void add_argument(const char *name) {
    const size_t first = file_count;
    if (nftw(name, visit, 32, FTW_PHYS) != 0) {
        add_file(strdup(name), NULL); /* "-", or the task will say why not */
    } else if (file_count > first) {
        qsort(files + first, file_count - first, sizeof *files, by_name);
    }
}

/* In a name whose line begins with a backslash, one of `letters` behind another is a special. */
static const char specials[] = "\\\n\r", letters[] = "\\nr";

static void print_line(const char *hex, const char *name, const char *verdict, bool escaped) {
    printf("%s%s%s", escaped ? "\\" : "", hex, *hex != '\0' ? "  " : "");
    for (; *name != '\0'; name++) {
        const char *special = escaped ? strchr(specials, *name) : NULL;
        (void)(special != NULL ? printf("\\%c", letters[special - specials]) : putchar(*name));
    }
    printf("%s\n", verdict);
}

static bool unescape(char *to) {
    for (const char *from = to; (*to = *from) != '\0'; from++, to++) {
        if (*from == '\\') {
            const char *letter = *++from != '\0' ? strchr(letters, *from) : NULL;
            if (letter == NULL) {
                return false;
            }
            *to = specials[letter - letters];
        }
    }
    return true;
}

/* "digest  name" or "digest *name". Returns NULL if it keeps the line. */
static char *parse_line(char *line) {
    const char *hex = line + strspn(line, " \t\\");
    if (strspn(hex, "0123456789abcdefABCDEF") == HEX && hex[HEX] == ' ') {
        char *name = line + (hex - line) + HEX + 1;
        name += *name == ' ' || *name == '*';
        if (*name != '\0' && (hex == line || hex[-1] != '\\' || unescape(name))) {
            add_file(name, hex);
            return NULL;
        }
    }
    wrong_lines++;
    return line;
}

static void report(const struct file *file, const char *hex) {
    const bool matches = check && hex != NULL && strncasecmp(hex, file->expected, HEX) == 0;
    const char *verdict = matches ? ": OK" : hex != NULL ? ": FAILED" : ": FAILED open or read";
    mismatched += check && hex != NULL && !matches;
    failed |= mismatched > 0;
    if (!check && hex != NULL) {
        print_line(hex, file->name, "", strpbrk(file->name, specials) != NULL);
    } else if (check && !status_only && !(quiet && matches)) {
        print_line("", file->name, verdict, strchr(file->name, '\n') != NULL);
    }
}

/* From files[first] on. Ends early if nobody takes the lines. */
static void hash_files(cf_executor *pool, size_t first) {
    const cf_map_options options = {.buffersize = AHEAD};
    cf_map_iter *digests = cf_executor_map(pool, hash_file, files + first, file_count - first,
                                           sizeof *files, &options);
    for (size_t i = first; i < file_count && !ferror(stdout); i++) {
        cf_status status;
        const char *hex = cf_map_next(digests, &status);
        if (hex == NULL) {
            const int error = cf_map_error_code(digests);
            complain(files[i].name, error != 0 ? strerror(error) : cf_strerror(status));
        }
        report(&files[i], hex);
    }
    cf_map_close(digests);
}

static void warn_of(size_t count, const char *one, const char *many) {
    if (count > 0 && !status_only) {
        fprintf(stderr, "psha256: WARNING: %zu %s\n", count, count == 1 ? one : many);
    }
}

static void check_list(cf_executor *pool, const char *name) {
    const size_t first = file_count;
    char *line = NULL;
    FILE *list = strcmp(name, "-") == 0 ? stdin : fopen(name, "r");
    wrong_lines = mismatched = unreadable = 0;
    for (size_t room = 0; list != NULL && getline(&line, &room, list) > 0;) {
        line[strcspn(line, "\r\n")] = '\0';
        line = *line == '#' || *line == '\0' ? line : parse_line(line);
    }
    free(line);
    if (list == NULL || ferror(list)) {
        complain(name, list == NULL ? strerror(errno) : "read error");
    } else if (file_count == first) {
        complain(name, "no properly formatted checksum lines found");
    } else {
        hash_files(pool, first);
        warn_of(wrong_lines, "line is improperly formatted", "lines are improperly formatted");
        warn_of(unreadable, "listed file could not be read", "listed files could not be read");
        warn_of(mismatched, "computed checksum did NOT match", "computed checksums did NOT match");
    }
    (void)(list != NULL && list != stdin && fclose(list));
}

int main(int argc, char **argv) {
    static const struct option names[] = {
        {"check", no_argument, NULL, 'c'},        {"quiet", no_argument, &quiet, 1},
        {"status", no_argument, &status_only, 1}, {"workers", required_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    cf_pool_options options = {0};
    for (int c; (c = getopt_long(argc, argv, "cj:h", names, NULL)) != -1;) {
        check |= c == 'c';
        const int got = c == 'j' ? sscanf(optarg, "%4zu%c", &options.max_workers, &(char){0}) : 1;
        if (c == 'h' || c == '?' || got != 1 || (c == 'j' && options.max_workers - 1 >= 1000)) {
            fputs(c == 'h' ? usage : "psha256: see --help\n", c == 'h' ? stdout : stderr);
            return c == 'h' && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
        }
    }
    (void)setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    cf_executor *pool = cf_thread_pool_new(&options, NULL); /* NULL shows where results are read */
    for (int i = optind; i < argc || i == optind; i++) {
        const char *name = i < argc ? argv[i] : "-";
        if (check) {
            check_list(pool, name);
        } else {
            add_argument(name);
        }
    }
    if (!check && file_count > 0) {
        hash_files(pool, 0);
    }
    cf_executor_close(pool);
    if (ferror(stdout) || fflush(stdout) != 0) {
        complain("write error", strerror(errno));
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Expected output of `psha256 /dev/null`, and of sha256sum: e3b0c442...7852b855  /dev/null */
