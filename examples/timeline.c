/* cc -std=c11 -O2 -I. examples/timeline.c -o timeline -pthread */

/*
 * What ran where, and how long had it waited? An observer writes it down while one of three
 * workloads runs, and timeline.h, which serves any other program too, draws it: as an SVG picture,
 * and as a trace. `timeline flags >flags.svg`. In Python there is no such thing; the nearest is
 *
 *     future.add_done_callback(lambda future: print(time.monotonic(), future))
 */
#define CFUTURES_POSIX
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include "timeline.h"

#include <getopt.h>
#include <signal.h>

static const char usage[] =
    "usage: timeline [options] [loiter|flags|primes]\n"
    "Draws which worker ran what, and when. loiter: five naps on three workers; flags: 20 naps\n"
    "as long as downloads, on five workers; primes: computation, on all processors.\n\n"
    "  -s, --svg FILE      the picture; - and by default: to the standard output\n"
    "  -t, --trace FILE    JSON for ui.perfetto.dev and chrome://tracing\n"
    "  -p, --processes     workers are processes\n"
    "  -j, --workers N     instead of the workload's own number, up to 64\n"
    "  -h, --help          this text\n\n"
    "Exit status: 0, 1 if it could not be run or written, 2 for a wrong command line.\n";

enum { TASKS = 20, WORKERS = 64 };

/* Workers that are processes find the same text at the same place. */
struct job {
    const char *name;
    enum { ENDS_WELL, FAILS, IS_CANCELLED, CRASHES /* only a process of its own */ } fate;
    int nap; /* in ms */
    unsigned long long number;
};

struct workload {
    const char *name;
    cf_task_fn *fn;
    size_t workers; /* 0: one for each processor */
    cf_duration limit;
    struct job jobs[TASKS]; /* up to the first without a name */
};

static bool complain(const char *name, const char *reason) {
    fprintf(stderr, "timeline: %s: %s\n", name, reason);
    return false;
}

/* ------------------------------------------------------------------ the workloads */

/* On a promise that nobody keeps, and with an eye on the wish to stop. */
static int nap(cf_task *task, void *arg) {
    const struct job *job = arg;
    cf_future *never = cf_future_new();
    for (int left = job->nap; left > 0 && !cf_task_stop_requested(task); left -= 25) {
        (void)cf_future_wait(never, (left < 25 ? left : 25) * CF_MILLISECOND);
    }
    cf_future_release(never);
    if (job->fate == CRASHES && cf_task_executor(task) == NULL) {
        (void)raise(SIGKILL);
    }
    return job->fate == FAILS ? cf_task_fail(task, 404, "404 Not Found") : 0;
}

static int is_prime(cf_task *task, void *arg) {
    const unsigned long long n = ((const struct job *)arg)->number;
    bool prime = n % 2 == 1;
    for (unsigned long long divisor = 3; prime && divisor <= n / divisor; divisor += 2) {
        prime = n % divisor != 0;
    }
    return cf_task_return(task, &prime, sizeof prime);
}

static const struct workload workloads[] = {
    {"loiter", nap, 3, CF_FOREVER, {{"loiter(0)", 0, 0, 0}, {"loiter(1)", 0, 100, 0},
      {"loiter(2)", 0, 200, 0}, {"loiter(3)", 0, 300, 0}, {"loiter(4)", 0, 400, 0}}},
    {"flags", nap, 5, 450 * CF_MILLISECOND, {{"BD", 0, 120, 0}, {"BR", 0, 210, 0},
      {"CD", FAILS, 90, 0}, {"CN", 0, 260, 0}, {"DE", 0, 70, 0}, {"EG", 0, 160, 0},
      {"ET", 0, 900, 0}, {"FR", 0, 80, 0}, {"ID", 0, 190, 0}, {"IN", 0, 240, 0},
      {"IR", CRASHES, 130, 0}, {"JP", 0, 110, 0}, {"MX", 0, 150, 0}, {"NG", 0, 220, 0},
      {"PH", 0, 100, 0}, {"PK", 0, 170, 0}, {"RU", 0, 140, 0}, {"TR", IS_CANCELLED, 180, 0},
      {"US", 0, 60, 0}, {"VN", 0, 200, 0}}},
    {"primes", is_prime, 0, CF_FOREVER, {{"112272535095293", 0, 0, 112272535095293},
      {"112582705942171", 0, 0, 112582705942171}, {"1099726899285419", 0, 0, 1099726899285419},
      {"115280095190773", 0, 0, 115280095190773}, {"67280421310721", 0, 0, 67280421310721},
      {"115797848077099", 0, 0, 115797848077099}, {"10000000000037", 0, 0, 10000000000037},
      {"99999999999973", 0, 0, 99999999999973}}}};

enum { WORKLOADS = sizeof workloads / sizeof *workloads };

static size_t count_of(const struct workload *workload) {
    size_t count = 0;
    while (count < TASKS && workload->jobs[count].name != NULL) {
        count++;
    }
    return count;
}

static void label(char *name, size_t size, const cf_event *submitted) {
    (void)snprintf(name, size, "%s", ((const struct job *)submitted->arg)->name);
}

/* False: there is no pool. */
static bool run(const struct workload *workload, const cf_pool_options *options, bool processes) {
    const cf_submit_options limit = {.timeout = workload->limit};
    const size_t count = count_of(workload);
    cf_future *futures[TASKS] = {NULL};
    cf_status status;
    cf_executor *pool = (processes ? cf_process_pool_new : cf_thread_pool_new)(options, &status);
    for (size_t i = 0; i < count; i++) {
        futures[i] = cf_executor_submit_with(pool, workload->fn, &workload->jobs[i],
                                             sizeof workload->jobs[i], &limit);
    }
    (void)cf_wait(futures, count, CF_FIRST_COMPLETED, CF_FOREVER, NULL);
    for (size_t i = 0; i < count; i++) {
        (void)(workload->jobs[i].fate == IS_CANCELLED && cf_future_cancel(futures[i]));
        cf_future_release(futures[i]);
    }
    cf_executor_close(pool); /* from here on everything has been told */
    return pool != NULL || complain(workload->name, cf_strerror(status));
}

/* ------------------------------------------------------------------ the command line */

struct command {
    const struct workload *workload;
    const char *svg, *trace; /* NULL: none */
    size_t workers;
    bool processes;
};

static bool parse_option(struct command *command, int option) {
    if (option == 's') {
        command->svg = optarg;
    } else if (option == 't') {
        command->trace = optarg;
    } else if (option == 'p') {
        command->processes = true;
    } else if (option == 'j') {
        char *end;
        const long workers = strtol(optarg, &end, 10);
        command->workers = (size_t)workers;
        return *end == '\0' && workers > 0 && workers <= WORKERS;
    }
    return option != '?';
}

/* False: it is wrong. */
static bool parse_command(int argc, char **argv, struct command *command) {
    static const struct option options[] = {
        {"svg", required_argument, NULL, 's'}, {"trace", required_argument, NULL, 't'},
        {"processes", no_argument, NULL, 'p'}, {"workers", required_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},      {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "s:t:pj:h", options, NULL)) != -1;) {
        if (option == 'h') {
            fputs(usage, stdout);
            exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
        }
        if (!parse_option(command, option)) {
            return false;
        }
    }
    const char *name = optind < argc ? argv[optind] : "loiter";
    for (size_t i = 0; i < WORKLOADS && command->workload == NULL; i++) {
        command->workload = strcmp(workloads[i].name, name) == 0 ? &workloads[i] : NULL;
    }
    if (command->svg == NULL && command->trace == NULL) {
        command->svg = "-";
    }
    return command->workload != NULL && argc <= optind + 1;
}

static bool write_to(struct timeline *timeline, const char *path, const char *title,
                     void (*write)(const struct timeline *, FILE *, const char *)) {
    return path == NULL || timeline_write(timeline, path, title, write) ||
           complain(path, strerror(errno));
}

int main(int argc, char **argv) {
    struct command command = {.workload = NULL};
    if (!parse_command(argc, argv, &command)) {
        fputs("timeline: see timeline --help\n", stderr);
        return 2;
    }
    const struct workload *workload = command.workload;
    struct timeline timeline = {.label = label};
    const cf_observer observer = timeline_observer(&timeline);
    cf_pool_options options = {.max_workers = command.workers, .observer = &observer};
    if (options.max_workers == 0) {
        options.max_workers = workload->workers != 0 ? workload->workers : cf_cpu_count();
    }
    char title[80];
    (void)snprintf(title, sizeof title, "%s: %zu tasks on %zu %s", workload->name,
                   count_of(workload), options.max_workers,
                   command.processes ? "worker processes" : "threads");
    const bool complete = run(workload, &options, command.processes) &&
                          write_to(&timeline, command.svg, title, timeline_svg) &&
                          write_to(&timeline, command.trace, title, timeline_trace);
    timeline_free(&timeline);
    return complete ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Expected output: the picture. */
