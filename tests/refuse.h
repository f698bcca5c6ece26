/* Makes the kernel refuse a system call to this process and its children from now on, by a seccomp
 * filter: so does a kernel that is older than the call, or a container that does not allow it. */
#ifndef CF_TEST_REFUSE_H
#define CF_TEST_REFUSE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__linux__) && defined(__has_include)
#if __has_include(<linux/filter.h>) && __has_include(<linux/seccomp.h>)
#define CAN_REFUSE 1
#endif
#endif

#ifdef CAN_REFUSE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

typedef struct refusal {
    const char *name;
    long call;
    int error; /* the only one that a kernel gives for it; 0: ENOSYS, or EPERM in a container */
    /* Of one argument: refused if (argument & mask) == value. With a mask of 0, always. */
    unsigned argument;
    uint32_t mask, value;
} refusal;

#ifdef CAN_REFUSE

static const refusal all_refusals[] = {
    {"clone3", SYS_clone3, 0, 0, 0, 0},
    {"close_range", SYS_close_range, 0, 0, 0, 0},
    {"eventfd2", SYS_eventfd2, 0, 0, 0, 0},
    {"memfd_create", SYS_memfd_create, 0, 0, 0, 0},
    {"memfd_noexec", SYS_memfd_create, EINVAL, 1, 8, 8}, /* MFD_NOEXEC_SEAL is unknown */
    {"memfd_exec", SYS_memfd_create, EACCES, 1, 8, 0},   /* or asked for: vm.memfd_noexec=2 */
    {"pidfd_open", SYS_pidfd_open, 0, 0, 0, 0},
    {"signalfd4", SYS_signalfd4, 0, 0, 0, 0},
    {"timerfd_create", SYS_timerfd_create, 0, 0, 0, 0},
#ifdef SYS_futex
    /* The library's FUTEX_WAIT_BITSET alone, private and monotonic: the libc's waits differ. */
    {"futex", SYS_futex, 0, 1, ~0U, 9 | 128},
#endif
};

static inline const refusal *refusal_of(size_t index) {
    return index < sizeof all_refusals / sizeof *all_refusals ? &all_refusals[index] : NULL;
}

/* False: the system takes no filter, as under an emulator. */
static inline bool refuse(const refusal *r, int error) {
    const bool big_endian = *(const unsigned char *)&(const uint16_t){1} == 0;
    const uint32_t low = (uint32_t)offsetof(struct seccomp_data, args) + 8 * r->argument +
                         (big_endian ? 4 : 0);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)r->call, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, r->mask),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof code / sizeof *code, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL) == 0 &&
           prctl(PR_SET_SECCOMP, (unsigned long)SECCOMP_MODE_FILTER, &program) == 0;
}

#else

static inline const refusal *refusal_of(size_t index) {
    (void)index;
    return NULL;
}

static inline bool refuse(const refusal *r, int error) {
    (void)r;
    (void)error;
    return false;
}

#endif
#endif
