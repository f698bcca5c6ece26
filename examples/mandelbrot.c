/* cc -std=c11 -O2 -I. examples/mandelbrot.c -o mandelbrot -pthread */

/*
 * Draws the Mandelbrot set, as a PPM picture: with all workers, and then with one, to say how much
 * faster that was. The map writes each row where it belongs: its results are the picture. Rows in
 * the middle take long, others no time: who is done takes over from the rest. In Python:
 *
 *     image = b"".join(pool.map(draw_row, range(height)))
 */
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: mandelbrot [options] >FILE.ppm\n"
    "Draws the Mandelbrot set, twice, and prints the speed-up over one worker to stderr.\n\n"
    "  -s, --size WxH        pixels (1200x800)\n"
    "  -c, --center X,Y      of the image (-0.7,0)\n"
    "  -z, --zoom Z          times as large (1)\n"
    "  -i, --iterations N    before a point counts as inside (1000)\n"
    "  -o, --output FILE     instead of the standard output\n"
    "  -j, --workers N       threads (one for each processor)\n"
    "  -q, --quiet           draw once, and print nothing\n"
    "  -h, --help            this text\n\n"
    "Exit status: 0, 1 if the image could not be written, 2 for a wrong command line.\n";

enum { MOST = 30000 }; /* pixels, each way */

struct view {
    size_t width, height;
    double x, y, zoom;
    int iterations;
};

struct row {
    const struct view *view;
    size_t number;
};

struct command {
    struct view view;
    const char *output;
    size_t workers;
    bool is_quiet;
};

static bool complain(const char *name, const char *reason) {
    fprintf(stderr, "mandelbrot: %s: %s\n", name, reason);
    return false;
}

/* ------------------------------------------------------------------ drawing */

/* From 0, a point that escapes at once, to 1, one that stays. */
static double shade(double x, double y, int iterations) {
    double a = 0, b = 0;
    for (int i = 0; i < iterations; i++) {
        const double a2 = a * a, b2 = b * b;
        if (a2 + b2 > 4) {
            return i / (i + 30.0);
        }
        b = 2 * a * b + y;
        a = a2 - b2 + x;
    }
    return 1;
}

/* From a struct row to its pixels, three bytes each. */
static int draw_row(cf_task *task, void *arg) {
    const struct row *row = arg;
    const struct view *view = row->view;
    const double pixel = 3.0 / view->zoom / (double)view->width;
    const double y = view->y + ((double)row->number - (double)view->height / 2) * pixel;
    unsigned char *rgb = cf_task_result_buffer(task, 3 * view->width);
    if (rgb == NULL) {
        return 1;
    }
    for (size_t i = 0; i < view->width; i++) {
        const double x = view->x + ((double)i - (double)view->width / 2) * pixel;
        const double t = shade(x, y, view->iterations), u = 1 - t;
        rgb[3 * i] = (unsigned char)(255 * 9 * u * t * t * t);
        rgb[3 * i + 1] = (unsigned char)(255 * 15 * u * u * t * t);
        rgb[3 * i + 2] = (unsigned char)(255 * 8.5 * u * u * u * t);
    }
    return 0;
}

static double now(void) {
    struct timespec time = {0};
    (void)timespec_get(&time, TIME_UTC);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Seconds, with the start and the end of the pool; negative: it failed. */
static double draw(const struct view *view, unsigned char *image, size_t workers) {
    const cf_pool_options options = {.max_workers = workers};
    struct row *rows = calloc(view->height, sizeof *rows);
    for (size_t i = 0; rows != NULL && i < view->height; i++) {
        rows[i] = (struct row){view, i};
    }
    const double begin = now();
    cf_executor *pool = cf_thread_pool_new(&options, NULL); /* NULL, and rows, show in the status */
    const cf_status status = cf_executor_map_array(pool, draw_row, rows, sizeof *rows, image,
                                                   3 * view->width, view->height, NULL, NULL);
    cf_executor_close(pool);
    const double end = now();
    free(rows);
    return status == CF_OK || complain("no image", cf_strerror(status)) ? end - begin : -1;
}

static bool write_image(const struct command *command, const unsigned char *image) {
    const struct view *view = &command->view;
    const size_t size = 3 * view->width * view->height;
    FILE *file = command->output != NULL ? fopen(command->output, "wb") : stdout;
    bool works = file != NULL;
    works = works && fprintf(file, "P6\n%zu %zu\n255\n", view->width, view->height) > 0;
    works = works && fwrite(image, 1, size, file) == size && fflush(file) == 0;
    if (!works) {
        (void)complain(command->output != NULL ? command->output : "stdout", strerror(errno));
    }
    return (file == NULL || fclose(file) == 0) && works;
}

/* Draws once more, with one worker: that has to be slower, and the same image. */
static bool compare(const struct command *command, const unsigned char *image, double seconds) {
    const struct view *view = &command->view;
    const size_t size = 3 * view->width * view->height;
    unsigned char *other = malloc(size);
    const double alone = other != NULL ? draw(view, other, 1) : -1;
    const bool same = alone >= 0 && memcmp(image, other, size) == 0;
    if (same) {
        fprintf(stderr, "1 worker %.2f s, %zu workers %.2f s: %.2f times as fast\n", alone,
                command->workers, seconds, alone / seconds);
    } else {
        (void)complain("one worker", alone >= 0 ? "another image" : "no image");
    }
    free(other);
    return same;
}

/* ------------------------------------------------------------------ the command line */

static bool parse_option(struct command *command, int option, const char *text) {
    struct view *view = &command->view;
    char more;
    switch (option) {
    case 's':
        return sscanf(text, "%zux%zu%c", &view->width, &view->height, &more) == 2 &&
               view->width - 1 < MOST && view->height - 1 < MOST;
    case 'c':
        return sscanf(text, "%lf,%lf%c", &view->x, &view->y, &more) == 2;
    case 'z':
        return sscanf(text, "%lf%c", &view->zoom, &more) == 1 && view->zoom > 0;
    case 'i':
        return sscanf(text, "%d%c", &view->iterations, &more) == 1 && view->iterations > 0;
    case 'j':
        return sscanf(text, "%zu%c", &command->workers, &more) == 1 && command->workers - 1 < 1000;
    case 'o':
        command->output = text;
        return true;
    case 'q':
        command->is_quiet = true;
        return true;
    default:
        return false;
    }
}

static void parse_command(int argc, char **argv, struct command *command) {
    static const struct option options[] = {
        {"size", required_argument, NULL, 's'},       {"center", required_argument, NULL, 'c'},
        {"zoom", required_argument, NULL, 'z'},       {"output", required_argument, NULL, 'o'},
        {"iterations", required_argument, NULL, 'i'}, {"workers", required_argument, NULL, 'j'},
        {"quiet", no_argument, NULL, 'q'},            {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "s:c:z:i:o:j:qh", options, NULL)) != -1;) {
        if (option == 'h') {
            fputs(usage, stdout);
            exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
        }
        if (!parse_option(command, option, optarg)) {
            fputs("mandelbrot: see mandelbrot --help\n", stderr);
            exit(2);
        }
    }
}

int main(int argc, char **argv) {
    struct command command = {.view = {1200, 800, -0.7, 0, 1, 1000}, .workers = cf_cpu_count()};
    parse_command(argc, argv, &command);
    if (command.output == NULL && isatty(STDOUT_FILENO)) {
        (void)complain("standard output", "no image is written to a terminal, see --help");
        return 2;
    }
    unsigned char *image = malloc(3 * command.view.width * command.view.height);
    const double seconds = draw(&command.view, image, command.workers);
    const bool complete = seconds >= 0 && write_image(&command, image) &&
                          (command.is_quiet || compare(&command, image, seconds));
    free(image);
    return complete ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Expected output: the picture; on stderr, with two processors, about "1.9 times as fast". */
