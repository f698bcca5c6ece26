/* Linked to the programs of tests/coverage.sh: the counters of a program lie in one file, which all
 * of its processes map, so that a worker that is killed, or leaves by _exit, has counted too.
 *
 * CF_COVERAGE_COUNTERS names the file. With CF_COVERAGE_WRITE the program does nothing but write
 * what it holds to the files that gcov reads, and print its notes.
 *
 * tests/coverage.sh gives the linker a script that puts the counters on pages of their own, and
 *     --wrap=__gcov_exit     no process writes at its end
 *     --wrap=__gcov_fork,--wrap=__gcov_execv    nor before a fork or an exec, as libgcov would */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern char coverage_counters[], coverage_counters_end[]; /* by the linker script */
void coverage_notes(void); /* of what was seen of the interface: tests/seen.awk made it */
void __gcov_dump(void);

void __wrap___gcov_exit(void);
pid_t __wrap___gcov_fork(void);
int __wrap___gcov_execv(const char *path, char *const *arguments);

void __wrap___gcov_exit(void) {}

pid_t __wrap___gcov_fork(void) {
    return fork();
}

int __wrap___gcov_execv(const char *path, char *const *arguments) {
    return execv(path, arguments);
}

static bool map_counters(const char *path) {
    const size_t size = (size_t)(coverage_counters_end - coverage_counters);
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return false;
    }
    const bool mapped = ftruncate(fd, (off_t)size) == 0 &&
                        mmap(coverage_counters, size, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_FIXED, fd, 0) == (void *)coverage_counters;
    close(fd);
    return mapped;
}

/* Before any code that counts; in a program that was started anew by a pool too. */
__attribute__((constructor)) static void share_counters(void) {
    const char *const path = getenv("CF_COVERAGE_COUNTERS");
    if (path == NULL || !map_counters(path)) {
        fprintf(stderr, "coverage: CF_COVERAGE_COUNTERS is no file that can be mapped\n");
        _exit(1);
    }
    if (getenv("CF_COVERAGE_WRITE") != NULL) {
        __gcov_dump();
        coverage_notes();
        fflush(stdout);
        _exit(0);
    }
}
