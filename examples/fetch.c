/* cc -std=c11 -O2 -I. examples/fetch.c -o fetch `pkg-config --cflags --libs libcurl` -pthread */

/*
 * Downloads many files at a time, as `curl -Z -O` does, by libcurl (Debian: libcurl4-openssl-dev),
 * each with retries and a deadline of its own. A file appears under its name when it is whole;
 * Ctrl-C cancels the rest, and leaves no half of one behind. In Python:
 *
 *     futures = {pool.submit(fetch, url): url for url in urls}
 *     for future in as_completed(futures): print(futures[future], future.result())
 */
#define CFUTURES_POSIX
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <curl/curl.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: fetch [options] [URL...]\n"
    "\n"
    "Saves each URL under the last part of its path, and prints the file's name. Without URLs it\n"
    "reads them from standard input, one a line; empty lines and those with # do not count. What\n"
    "may pass, such as a refused connection or HTTP 503, is tried again, three times at most.\n"
    "\n"
    "  -o, --output-dir DIR  save the files there (.)\n"
    "  -j, --workers N       so many at a time, 1 to 1000 (10)\n"
    "  -t, --timeout S       seconds that one may take, with its retries (60)\n"
    "  -h, --help            this text\n"
    "\n"
    "Exit status: 0 if all were saved, 1 if one was not, 2 for a wrong command line.\n";

enum { RETRIES = 3, PATH_SIZE = 1024 };

static const char *directory = ".";
static double workers = 10, timeout = 60;
static volatile sig_atomic_t interrupted; /* by the signal of that number */

static void on_signal(int number) {
    interrupted = number;
}

/* ------------------------------------------------------------------ the task */

static CURL **handles; /* each worker's own, with the connections that it keeps */

static int on_progress(void *task, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void)a, (void)b, (void)c, (void)d;
    return cf_task_stop_requested(task); /* asked every second at least; true ends the transfer */
}

static CURL *open_handle(cf_task *task, const char *url, char *error) {
    CURL **handle = &handles[cf_task_worker(task)];
    *handle = *handle != NULL ? *handle : curl_easy_init();
    if (*handle == NULL || curl_easy_setopt(*handle, CURLOPT_URL, url) != CURLE_OK) {
        return NULL;
    }
    (void)curl_easy_setopt(*handle, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(*handle, CURLOPT_FAILONERROR, 1L);
    (void)curl_easy_setopt(*handle, CURLOPT_FOLLOWLOCATION, 1L);
    (void)curl_easy_setopt(*handle, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(*handle, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl_easy_setopt(*handle, CURLOPT_XFERINFODATA, task);
    (void)curl_easy_setopt(*handle, CURLOPT_ERRORBUFFER, error);
    return *handle;
}

static bool name_file(const char *url, char path[PATH_SIZE]) {
    CURLU *parts = curl_url();
    char *name = NULL;
    int size = 0;
    if (curl_url_set(parts, CURLUPART_URL, url, CURLU_GUESS_SCHEME) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_PATH, &name, 0) == CURLUE_OK) {
        size = snprintf(path, PATH_SIZE, "%s%s", directory, strrchr(name, '/'));
    }
    curl_free(name);
    curl_url_cleanup(parts);
    return size > 0 && size < PATH_SIZE && path[size - 1] != '/';
}

/* Until it is whole, the file has another name. */
static CURLcode save(CURL *handle, const char *path, char *error) {
    char part[PATH_SIZE + 64];
    (void)snprintf(part, sizeof part, "%s.%ld.%p.part", path, (long)getpid(), handle);
    FILE *file = fopen(part, "wb");
    (void)curl_easy_setopt(handle, CURLOPT_WRITEDATA, file);
    CURLcode code = file != NULL ? curl_easy_perform(handle) : CURLE_WRITE_ERROR;
    const bool is_closed = file != NULL && fclose(file) == 0;
    code = code == CURLE_OK && (!is_closed || rename(part, path) != 0) ? CURLE_WRITE_ERROR : code;
    if (code == CURLE_WRITE_ERROR) {
        (void)snprintf(error, CURL_ERROR_SIZE, "cannot write %s: %s", path, strerror(errno));
    }
    if (code != CURLE_OK) {
        (void)unlink(part);
    }
    return code;
}

static bool may_pass(CURL *handle, CURLcode code) {
    long status = 0;
    (void)curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    return code == CURLE_COULDNT_CONNECT || code == CURLE_GOT_NOTHING ||
           code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR || status == 429 || status >= 500;
}

static int fetch(cf_task *task, void *arg) {
    char path[PATH_SIZE], error[CURL_ERROR_SIZE] = "";
    CURL *handle = open_handle(task, arg, error);
    if (handle == NULL || !name_file(arg, path)) {
        return cf_task_fail(task, 1, handle == NULL ? "out of memory" : "the URL names no file");
    }
    CURLcode code = save(handle, path, error);
    for (int i = 0; i < RETRIES && code != CURLE_OK && may_pass(handle, code); i++) {
        curl_off_t pause = 0; /* what the server asks for; else 0.2, 0.4, 0.8 seconds */
        (void)curl_easy_getinfo(handle, CURLINFO_RETRY_AFTER, &pause);
        pause = pause > 0 ? pause * 10 : 2 << i;
        while (pause-- > 0 && !cf_task_stop_requested(task) && poll(NULL, 0, 100) == 0) {
        }
        code = save(handle, path, error);
    }
    if (code != CURLE_OK) {
        return cf_task_fail(task, 1, "%s", error[0] ? error : curl_easy_strerror(code));
    }
    return cf_task_return(task, path, strlen(path) + 1);
}

/* ------------------------------------------------------------------ the program */

static char **urls;
static cf_future **futures;
static size_t url_count, done_count, saved_count;

static void report(size_t index) {
    const bool has_bar = isatty(STDERR_FILENO) != 0;
    const char *path = cf_future_result(futures[index], 0, NULL);
    fputs(has_bar ? "\r\033[K" : "", stderr);
    if (path != NULL) {
        printf("%s\n", path);
        saved_count++;
    } else if (interrupted == 0) {
        fprintf(stderr, "fetch: %s: %s\n", urls[index], cf_future_error_message(futures[index]));
    }
    done_count++;
    if (has_bar) {
        fprintf(stderr, "[%-20.*s] %zu/%zu files, %zu failed%s", (int)(done_count * 20 / url_count),
                "####################", done_count, url_count, done_count - saved_count,
                done_count == url_count ? "\n" : "");
    }
    cf_future_release(futures[index]);
    futures[index] = NULL;
}

/* False: out of memory. */
static bool read_urls(void) {
    char *line = NULL;
    urls = NULL;
    for (size_t size = 0; getline(&line, &size, stdin) > 0;) {
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] != '#' && line[0] != '\0') {
            urls = realloc(urls, (url_count + 1) * sizeof *urls);
            if (urls == NULL) {
                return false;
            }
            urls[url_count++] = line;
            line = NULL;
        }
    }
    free(line);
    return true;
}

static bool parse_command(int argc, char **argv) {
    static const struct option long_options[] = {{"output-dir", required_argument, NULL, 'o'},
                                                 {"workers", required_argument, NULL, 'j'},
                                                 {"timeout", required_argument, NULL, 't'},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "o:j:t:h", long_options, NULL)) != -1;) {
        if (option == 'h') {
            exit(fputs(usage, stdout) < 0 || fflush(stdout) != 0);
        }
        double *number = option == 'j' ? &workers : &timeout;
        if (option == 'o') {
            directory = optarg;
        } else if (option == '?' || sscanf(optarg, "%lf%c", number, &(char){0}) != 1) {
            return false;
        }
    }
    return directory[0] != '\0' && workers >= 1 && workers <= 1000 && timeout > 0 && timeout <= 1e6;
}

static void catch_signal(int number) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}, old;
    if (sigaction(number, NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
        (void)sigaction(number, &action, NULL); /* once: a second Ctrl-C kills */
    }
}

/* False: the system refused memory or a descriptor. */
static bool fetch_all(void) {
    const cf_pool_options options = {.max_workers = (size_t)workers};
    const cf_submit_options each = {.timeout = (cf_duration)(timeout * (double)CF_SECOND)};
    cf_executor *pool = cf_thread_pool_new(&options, NULL); /* NULL surfaces with each URL */
    for (size_t i = 0; i < url_count; i++) {
        futures[i] = cf_executor_submit_with(pool, fetch, CF_POINTER(urls[i]), &each);
    }
    cf_as_completed_iter *done = cf_as_completed(futures, url_count, CF_FOREVER);
    struct pollfd event = {.fd = cf_as_completed_fd(done), .events = POLLIN};
    for (size_t cancelled = 0, i; event.fd >= 0 && cf_as_completed_remaining(done) > 0;) {
        if (poll(&event, 1, 200) > 0 && cf_as_completed_next(done, &i, NULL) != NULL) {
            report(i);
        }
        while (interrupted != 0 && cancelled < url_count) {
            (void)cf_future_cancel(futures[cancelled++]);
        }
    }
    cf_as_completed_close(done);
    cf_executor_close(pool);
    return event.fd >= 0;
}

int main(int argc, char **argv) {
    if (!parse_command(argc, argv)) {
        fputs("fetch: see fetch --help\n", stderr);
        return 2;
    }
    urls = argv + optind;
    url_count = (size_t)(argc - optind);
    (void)setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    catch_signal(SIGINT);
    catch_signal(SIGTERM);
    catch_signal(SIGHUP);
    if ((url_count == 0 && !read_urls()) || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
        (handles = calloc((size_t)workers, sizeof *handles)) == NULL ||
        (futures = calloc(url_count + 1, sizeof *futures)) == NULL || !fetch_all()) {
        perror("fetch");
        return EXIT_FAILURE;
    }
    if (interrupted != 0 && fflush(stdout) == 0) {
        (void)raise(interrupted);
    }
    return saved_count == url_count && !ferror(stdout) && fflush(stdout) == 0 ? 0 : EXIT_FAILURE;
}
