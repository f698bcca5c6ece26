/* cc -std=c11 -O2 -D_FILE_OFFSET_BITS=64 -I. examples/pgzip.c -o pgzip -pthread -lz */

/*
 * gzip on all processors (zlib; Debian: zlib1g-dev). A map with a generator reads the input in
 * blocks, compresses them side by side and delivers them in order; only `buffersize` of them exist
 * at a time, however long the input. Each may refer to the end of the one before, and all of them
 * are one gzip member, about as long as gzip's. In Python:
 *
 *     for packed in pool.map(compress, read_blocks(file), buffersize=16):
 *         output.write(packed)
 */
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static const char usage[] =
    "usage: pgzip [options] [FILE]...\n"
    "Replaces each FILE by FILE.gz. No FILE, or -: from standard input to standard output.\n"
    "Exit status: 0, 1 after an error, 2 after a warning.\n\n"
    "  -1 to -9          fast to best (-6)\n"
    "  -d, --decompress  the other way (by one thread: the format leaves no choice)\n"
    "  -c, --stdout      to standard output, and keep FILE\n"
    "  -k, --keep        keep FILE\n"
    "  -f, --force       overwrite files, and write to a terminal\n"
    "  -j, --workers N   threads (one for each processor)\n"
    "  -h, --help        this text\n";

enum { BLOCK = 128 * 1024, WINDOW = 32 * 1024 };

struct block {
    size_t before, size; /* bytes of the block before, and of this one */
    unsigned char bytes[WINDOW + BLOCK];
};

struct packed {
    uLong crc;
    size_t length, size; /* before and after */
    unsigned char bytes[];
};

struct stream {
    const char *from_name, *to_name;
    FILE *from, *to;
    int error;     /* a number of errno: it could not be read */
    size_t before; /* what the next block may refer to */
    unsigned char window[WINDOW];
};

static int level = 6, decompress, to_stdout, keep, force; /* options */
static size_t workers;
static int exit_status;
static _Atomic(const char *) partial; /* the output that a signal would leave unfinished */

static bool complain(const char *name, const char *reason, int status) {
    fprintf(stderr, "pgzip: %s: %s\n", name, reason);
    exit_status = exit_status != 1 ? status : 1;
    return false;
}

static bool put(struct stream *stream, const void *bytes, size_t size) {
    const bool works = fwrite(bytes, 1, size, stream->to) == size;
    return works || complain(stream->to_name, strerror(errno), 1);
}

/* Called by the map, in the thread that consumes it, whenever a block has gone and made room. */
static bool read_block(void *item, void *user) {
    struct block *block = item;
    struct stream *stream = user;
    block->before = stream->before;
    memcpy(block->bytes, stream->window, stream->before);
    block->size = fread(block->bytes + block->before, 1, BLOCK, stream->from);
    stream->error = ferror(stream->from) && stream->error == 0 ? errno : stream->error;
    const size_t all = block->before + block->size;
    stream->before = all < WINDOW ? all : WINDOW;
    memcpy(stream->window, block->bytes + all - stream->before, stream->before);
    return block->size > 0;
}

/* From a struct block to its struct packed, which ends on a whole byte and without an end mark. */
static int compress_block(cf_task *task, void *arg) {
    struct block *block = arg;
    z_stream z = {.next_in = block->bytes + block->before, .avail_in = (uInt)block->size};
    if (deflateInit2(&z, level, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return ENOMEM;
    }
    const size_t room = deflateBound(&z, (uLong)block->size) + 16; /* for the flush */
    struct packed *packed = cf_task_result_buffer(task, sizeof *packed + room);
    if (packed != NULL) {
        packed->crc = crc32(0, z.next_in, z.avail_in);
        packed->length = block->size;
        z.next_out = packed->bytes;
        z.avail_out = (uInt)room;
        (void)deflateSetDictionary(&z, block->bytes, (uInt)block->before);
        (void)deflate(&z, Z_SYNC_FLUSH);
        packed->size = room - z.avail_out;
    }
    (void)deflateEnd(&z);
    return packed != NULL && z.avail_out > 0 ? 0 : ENOMEM;
}

static bool compress_stream(cf_executor *pool, struct stream *stream) {
    static const unsigned char header[10] = {31, 139, 8, [9] = 3}, end_mark[2] = {3};
    const cf_map_options map = {.next_item = read_block, .user = stream, .buffersize = 4 * workers};
    cf_map_iter *blocks =
        cf_executor_map(pool, compress_block, NULL, 0, sizeof(struct block), &map);
    unsigned char trailer[8];
    uLong crc = 0, length = 0;
    cf_status status = CF_END;
    bool works = put(stream, header, sizeof header);
    for (const struct packed *packed; works && (packed = cf_map_next(blocks, &status)) != NULL;) {
        works = put(stream, packed->bytes, packed->size);
        crc = crc32_combine(crc, packed->crc, (z_off_t)packed->length);
        length += packed->length;
    }
    cf_map_close(blocks);
    if (works && (status != CF_END || stream->error != 0)) {
        const char *reason = status != CF_END ? cf_strerror(status) : strerror(stream->error);
        works = complain(stream->from_name, reason, 1);
    }
    for (int i = 0; i < 8; i++) {
        trailer[i] = (unsigned char)((i < 4 ? crc : length) >> 8 * (i % 4));
    }
    return works && put(stream, end_mark, sizeof end_mark) && put(stream, trailer, sizeof trailer);
}

/* By zlib's own reader. */
static bool decompress_stream(struct stream *stream) {
    static unsigned char bytes[BLOCK];
    gzFile packed = gzdopen(dup(fileno(stream->from)), "rb");
    const char *reason = packed != NULL && gzdirect(packed) ? "not in gzip format" : NULL;
    bool works = true;
    int got = packed != NULL ? 1 : -1;
    while (reason == NULL && works && got > 0) {
        got = gzread(packed, bytes, sizeof bytes);
        works = got <= 0 || put(stream, bytes, (size_t)got);
    }
    const int status = packed != NULL ? gzclose(packed) : Z_MEM_ERROR;
    if (reason == NULL && works && (got < 0 || status != Z_OK)) {
        reason = status == Z_BUF_ERROR ? "unexpected end of file" : "invalid compressed data";
    }
    return works && (reason == NULL || complain(stream->from_name, reason, 1));
}

static bool run(cf_executor *pool, struct stream *stream) {
    if (!decompress && !force && isatty(fileno(stream->to))) {
        return complain(stream->to_name, "no compressed data to a terminal (without -f)", 1);
    }
    const bool works = decompress ? decompress_stream(stream) : compress_stream(pool, stream);
    return works && (fflush(stream->to) == 0 || complain(stream->to_name, strerror(errno), 1));
}

static void remove_partial(int number) {
    const char *name = partial;
    (void)(name != NULL && unlink(name));
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

/* The new file has the mode and the times of the old one, which goes when it is complete. */
static void replace_file(cf_executor *pool, struct stream *stream, const struct stat *info) {
    (void)(force && unlink(stream->to_name));
    const int fd = open(stream->to_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    stream->to = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (stream->to == NULL) {
        (void)complain(stream->to_name, strerror(errno), errno == EEXIST ? 2 : 1);
        return;
    }
    partial = stream->to_name;
    bool works = run(pool, stream);
    (void)fchmod(fd, info->st_mode & 07777);
    (void)futimens(fd, (struct timespec[]){info->st_atim, info->st_mtim});
    works = (fclose(stream->to) == 0 || complain(stream->to_name, strerror(errno), 1)) && works;
    partial = works ? NULL : partial;
    if (!works || !keep) {
        (void)unlink(works ? stream->from_name : stream->to_name);
    }
    partial = NULL;
}

static void process_file(cf_executor *pool, const char *name) {
    struct stat info;
    char output[PATH_MAX + 3] = "stdout"; /* longer names cannot be opened */
    struct stream stream = {name, output, fopen(name, "rb"), stdout, 0, 0, {0}};
    const size_t length = strlen(name);
    const bool is_packed = length > 3 && strcmp(name + length - 3, ".gz") == 0;
    if (stream.from == NULL || fstat(fileno(stream.from), &info) != 0) {
        (void)complain(name, strerror(errno), 1);
    } else if (to_stdout && !S_ISDIR(info.st_mode)) {
        (void)run(pool, &stream);
    } else if (!S_ISREG(info.st_mode)) {
        (void)complain(name, "not a regular file -- ignored", 2);
    } else if (is_packed != decompress) {
        (void)complain(name, is_packed ? "is a .gz already -- ignored" : "is no .gz -- ignored", 2);
    } else {
        const int stem = (int)(is_packed ? length - 3 : length);
        (void)snprintf(output, sizeof output, "%.*s%s", stem, name, is_packed ? "" : ".gz");
        replace_file(pool, &stream, &info);
    }
    (void)(stream.from != NULL && fclose(stream.from));
}

int main(int argc, char **argv) {
    static const struct option names[] = {
        {"decompress", no_argument, NULL, 'd'}, {"stdout", no_argument, NULL, 'c'},
        {"keep", no_argument, NULL, 'k'},       {"force", no_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},       {"workers", required_argument, NULL, 'j'},
        {NULL, 0, NULL, 0}};
    workers = cf_cpu_count();
    for (int option; (option = getopt_long(argc, argv, "123456789dckfj:h", names, NULL)) != -1;) {
        level = option >= '1' && option <= '9' ? option - '0' : level;
        const int got = option == 'j' ? sscanf(optarg, "%4zu%c", &workers, &(char){0}) : 1;
        decompress |= option == 'd';
        to_stdout |= option == 'c';
        keep |= option == 'k';
        force |= option == 'f';
        if (option == 'h' || option == '?' || got != 1 || workers - 1 >= 1000) {
            fputs(option == 'h' ? usage : "pgzip: see --help\n", option == 'h' ? stdout : stderr);
            return option == 'h' && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
        }
    }
    for (size_t i = 0; i < 3; i++) {
        static const int signals[3] = {SIGHUP, SIGINT, SIGTERM};
        if (signal(signals[i], remove_partial) == SIG_IGN) {
            (void)signal(signals[i], SIG_IGN);
        }
    }
    const cf_pool_options options = {.max_workers = workers};
    cf_executor *pool = cf_thread_pool_new(&options, NULL); /* NULL shows where results are read */
    for (int i = optind; i < argc || i == optind; i++) {
        if (i == argc || strcmp(argv[i], "-") == 0) {
            (void)run(pool, &(struct stream){"stdin", "stdout", stdin, stdout, 0, 0, {0}});
        } else {
            process_file(pool, argv[i]);
        }
    }
    cf_executor_close(pool);
    return exit_status;
}
