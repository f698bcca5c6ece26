/* How many CPUs: what the files of the system may say. The linker puts the functions below between
 * the library and the system:
 * link: -Wl,--wrap=fopen,--wrap=syscall
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* syscall */
#endif
#ifdef __linux__

#include "test.h"

#include <stdarg.h>
#include <sys/syscall.h>

/* What stands in which file; what is not listed is not there. */
typedef struct file {
    const char *path, *text;
} file;

static const file *files; /* NULL: those of the system */
static int cpus;          /* of the affinity mask; 0: those of the system, -1: unknown */

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode) {
    for (const file *f = files; f != NULL && f->path != NULL; f++) {
        if (strcmp(f->path, path) == 0) {
            FILE *stream = tmpfile();
            CHECK(stream != NULL && fputs(f->text, stream) >= 0);
            rewind(stream);
            return stream;
        }
    }
    return files == NULL ? __real_fopen(path, mode) : NULL;
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    va_list list;
    long args[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++) {
        args[i] = va_arg(list, long);
    }
    va_end(list);
    if (number != SYS_sched_getaffinity || cpus == 0) {
        return __real_syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
    }
    unsigned char *mask = (unsigned char *)(uintptr_t)args[2];
    memset(mask, 0, (size_t)args[1]);
    for (int i = 0; i < cpus; i++) {
        mask[i / 8] = (unsigned char)(mask[i / 8] | 1u << i % 8);
    }
    return cpus > 0 ? 128 : -1;
}

static size_t count_with(int affinity, const file *present) {
    static const file none[] = {{NULL, NULL}};
    cpus = affinity;
    files = present != NULL ? present : none;
    const int before = errno = 4711;
    const size_t count = cf_cpu_count();
    CHECK_EQ(errno, before);
    files = NULL;
    cpus = 0;
    return count;
}

#define V1_QUOTA "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"
#define V1_PERIOD "/sys/fs/cgroup/cpu/cpu.cfs_period_us"
#define GROUP "/proc/self/cgroup"
#define ROOT "/sys/fs/cgroup"
#define NONE {NULL, NULL}

TEST(the_affinity_mask_counts) {
    CHECK_EQ(count_with(1, NULL), 1);
    CHECK_EQ(count_with(3, NULL), 3);
    CHECK_EQ(count_with(64, NULL), 64);
    CHECK_EQ(count_with(-1, NULL), 1); /* the system does not say */
}

TEST(a_quota_of_the_old_groups_counts_rounded_up) {
    CHECK_EQ(count_with(8, (file[]){{V1_QUOTA, "200000\n"}, {V1_PERIOD, "100000\n"}, NONE}), 2);
    CHECK_EQ(count_with(8, (file[]){{V1_QUOTA, "150000\n"}, {V1_PERIOD, "100000\n"}, NONE}), 2);
    CHECK_EQ(count_with(8, (file[]){{V1_QUOTA, "1\n"}, {V1_PERIOD, "100000\n"}, NONE}), 1);
    CHECK_EQ(count_with(2, (file[]){{V1_QUOTA, "900000\n"}, {V1_PERIOD, "100000\n"}, NONE}), 2);
    CHECK_EQ(count_with(8, (file[]){{V1_QUOTA, "-1\n"}, {V1_PERIOD, "100000\n"}, NONE}), 8);
    CHECK_EQ(count_with(8, (file[]){{V1_QUOTA, "200000\n"}, {V1_PERIOD, "0\n"}, NONE}), 8);
    CHECK_EQ(count_with(8, (file[]){{V1_QUOTA, "200000\n"}, NONE}), 8);
    CHECK_EQ(count_with(8, (file[]){{V1_QUOTA, "not a number\n"}, {V1_PERIOD, "1\n"}, NONE}), 8);
}

TEST(the_smallest_quota_from_the_group_to_the_root_counts) {
    const file nested[] = {{GROUP, "12:cpu:/old\n0::/a/b\n"},
                           {ROOT "/a/b/cpu.max", "max 100000\n"},
                           {ROOT "/a/cpu.max", "250000 100000\n"},
                           {ROOT "/cpu.max", "400000 100000\n"},
                           NONE};
    CHECK_EQ(count_with(8, nested), 3);
    CHECK_EQ(count_with(2, nested), 2);
    CHECK_EQ(count_with(8, (file[]){{GROUP, "0::/\n"}, {ROOT "/cpu.max", "100000 100000\n"}, NONE}),
             1);
    CHECK_EQ(count_with(8, (file[]){{GROUP, "0::/gone\n"}, NONE}), 8);
    CHECK_EQ(count_with(8, (file[]){{GROUP, "1:cpu:/\n"}, {ROOT "/cpu.max", "1 1\n"}, NONE}), 8);
}

TEST(a_group_with_a_name_that_is_too_long_is_passed_over) {
    static char name[1000];
    memset(name, 'x', sizeof name - 1);
    memcpy(name, "0::/", 4);
    CHECK_EQ(count_with(8, (file[]){{GROUP, name}, {ROOT "/cpu.max", "100000 100000\n"}, NONE}), 8);
}

TEST(a_huge_quota_does_not_overflow) {
    CHECK_EQ(count_with(8, (file[]){{GROUP, "0::/\n"},
                                    {ROOT "/cpu.max", "9223372036854775807 1\n"},
                                    NONE}),
             8);
}

TEST(the_system_as_it_is_has_a_cpu) {
    CHECK(cf_cpu_count() >= 1);
}

TEST_MAIN(
    RUN(the_affinity_mask_counts)
    RUN(a_quota_of_the_old_groups_counts_rounded_up)
    RUN(the_smallest_quota_from_the_group_to_the_root_counts)
    RUN(a_group_with_a_name_that_is_too_long_is_passed_over)
    RUN(a_huge_quota_does_not_overflow)
    RUN(the_system_as_it_is_has_a_cpu)
)

#else

#include "test.h"

TEST(there_is_a_cpu) {
    CHECK(cf_cpu_count() >= 1);
}

TEST_MAIN(RUN(there_is_a_cpu))

#endif
