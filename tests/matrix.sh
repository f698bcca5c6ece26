#!/bin/sh
# The library with every compiler, for every processor and system for which this machine can build:
#
#     sh tests/matrix.sh             all of it, a table at the end; what is missing is skipped
#     sh tests/matrix.sh quick       what needs a compiler alone, in less than a minute
#     sh tests/matrix.sh group...    some of: headers variants foreign old other static sanitizer
#
# A row builds the library on its backends without a warning and runs tests; its log is kept in
# build/matrix. No line links libatomic: all atomics have the size of a pointer. The compilers for
# other processors are Debian's gcc-<triplet> with libc6-dev-<architecture>-cross, and what they
# make runs under qemu-user. That shows sizes, byte order, alignment and system calls at work, but
# no order of memory: the host's order is what the emulated processor gets.
. tests/lib.sh

out=${OUT:-build/matrix}
mkdir -p "$out"
: >"$out/table"

core='test_future test_map test_process' # what a variant of the code is likely to break
suite='test_pool test_future test_wait test_map test_submit test_as_completed test_nested test_process'
every='c11 posix generic'
here=$(uname -m)
flags32="-isystem /usr/include/$here-linux-gnu" # where Debian without gcc-multilib has asm/
hardened='-O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection'
hardened="$hardened -fPIE -Wformat=2 -Wformat-security"

# row TARGET COMPILER WHAT RESULT
row() {
    printf '%s|%s|%s|%s\n' "$@" >>"$out/table"
    echo "$1, $2, $3: $4"
}

miss() {
    skipped=$((skipped + 1))
    row "$1" "$2" "$3" "skipped: $4"
}

# try TARGET COMPILER WHAT COMMAND...: a row of what the command's closing lines say.
try() {
    target=$1 compiler=$2 what=$3
    shift 3
    count=$((${count:-0} + 1))
    log=$out/$count.log
    begun=$(date +%s)
    within 900 "$@" >"$log" 2>&1 </dev/null
    status=$?
    took=$(($(date +%s) - begun))
    result=$(awk '/^[0-9]+ passed, [0-9]+ failed$/ { p = $1; f = $3 } /^[0-9]+ skipped$/ { s = $1 }
        END { printf "%d passed, %d failed, %d skipped", p, f, s }' "$log")
    case $status,$result in
    0,*' 0 failed'*) passed=$((passed + 1)) ;;
    *)
        failed=$((failed + 1))
        grep -v '^ok ' "$log"
        result="FAILED ($result): $log"
        ;;
    esac
    row "$target" "$compiler" "$what" "$result, $took s"
}

# tests TARGET WHAT UNITS LANES FLAGS [WORD=VALUE...]: tests/run.sh with $cc.
tests() {
    target=$1 what=$2 units=$3 lanes=$4 flags=$5
    shift 5
    if ! have "$cc"; then
        miss "$target" "$cc" "$what" "no ${cc%% *} here"
        return
    fi
    # shellcheck disable=SC2086 # lanes are words
    try "$target" "$cc" "$what" env CC="$cc" CFLAGS="$flags" UNITS="$units" TEST_OUT="$out/test" \
        "$@" sh tests/run.sh $lanes
}

# builds FLAGS: can $cc make a program of two threads, and $runner run it?
builds() {
    cat >"$out/probe.c" <<'C'
#include <threads.h>
static int count(void *number) { return ++*(int *)number; }
int main(void) {
    thrd_t thread;
    int number = 1;
    return thrd_create(&thread, count, &number) != thrd_success || thrd_join(thread, NULL) ||
           number != 2;
}
C
    # shellcheck disable=SC2086 # compiler and flags are words
    $cc $1 "$out/probe.c" -o "$out/probe" -pthread >"$out/probe.log" 2>&1
}

runs() {
    # shellcheck disable=SC2086 # a runner is words, or none
    within 20 $runner "$out/probe" >>"$out/probe.log" 2>&1
}

# ---------------------------------------------------------------- groups

group_headers() {
    for cc in gcc clang clang-16 clang-19 clang-22 musl-gcc; do
        if have $cc; then
            try "$here" $cc 'header: standards, backends, C++' env CC=$cc OUT="$out/header" \
                sh tests/check_header.sh
        else
            miss "$here" $cc 'header: standards, backends, C++' "no $cc here"
        fi
    done
}

group_variants() {
    for cc in gcc clang clang-19; do
        tests "$here" 'without optimization' "$core" "$every" '-O0'
        tests "$here" 'optimized for size' "$core" "$every" '-Os'
        tests "$here" 'optimized at link time' "$core" "$every" '-O3 -flto'
        tests "$here" 'hardened' "$core" "$every" "$hardened" LDFLAGS='-pie -Wl,-z,relro,-z,now'
        tests "$here" 'NDEBUG' "$core" posix '-O2 -DNDEBUG'
        tests "$here" 'CFUTURES_ASSERT=assert' "$core" "c11 posix" \
            '-O2 -D_DEFAULT_SOURCE -DCFUTURES_ASSERT=assert -include assert.h'
    done
    for cc in "gcc -m32 $flags32" "clang -m32 $flags32"; do
        group_32
    done
    cc=musl-gcc
    tests "$here" 'musl, static' "$suite" "$every" '-O2' LDFLAGS=-static
}

group_32() {
    if have "$cc" && builds '' && runner='' runs; then
        tests "$here, 32 bits" 'pointers of 32 bits' "$suite" "$every" '-O2'
    else
        miss "$here, 32 bits" "${cc%% *} -m32" 'pointers of 32 bits' 'no C library for it here'
    fi
}

# Processors as <triplet>:<emulator>; those with the high byte first are marked by a plus. PROCESSORS
# chooses others.
processors='aarch64-linux-gnu:aarch64 arm-linux-gnueabihf:arm arm-linux-gnueabi:arm
    riscv64-linux-gnu:riscv64 s390x-linux-gnu+:s390x mipsel-linux-gnu:mipsel mips-linux-gnu+:mips
    mips64el-linux-gnuabi64:mips64el powerpc-linux-gnu+:ppc powerpc64-linux-gnu+:ppc64
    powerpc64le-linux-gnu:ppc64le i686-linux-gnu:i386 sparc64-linux-gnu+:sparc64
    hppa-linux-gnu+:hppa m68k-linux-gnu+:m68k alpha-linux-gnu:alpha sh4-linux-gnu:sh4'

# They measure memory, which is the emulator's.
measured='thousands_of_pools_leave_no_memory_behind many_process_pools_leave_no_memory_behind'

# Threads that fork while others open files: on m68k glibc's lock of all streams, which both take, lies
# at an odd multiple of 2. The kernel's futex call refuses that, and glibc aborts (seen in 2.36, also
# in a program of such a thread each and without this library).
forking=a_thread_task_may_make_a_process_pool

group_foreign() {
    for both in ${PROCESSORS:-$processors}; do
        triplet=${both%:*} order=''
        case $triplet in *+) triplet=${triplet%+} order=', big-endian' ;; esac
        cc=$triplet-gcc runner=qemu-${both#*:}-static
        have "$runner" || runner=qemu-${both#*:}
        foreign "${triplet%%-*}$order"
    done
}

foreign() {
    if ! have "$cc" || ! builds -static; then
        miss "$1" "$cc" 'suite' "no $cc with a C library here"
    elif ! have "$runner"; then
        foreign_compile "$1" 'suite, compiled alone' "no $runner here"
    elif ! runs; then
        foreign_compile "$1" 'suite, compiled alone' "$runner cannot run two threads"
    else
        lanes='' left=$measured
        for lane in $every; do lanes="$lanes $cc-$lane"; done
        case $1 in m68k*) left="$left $forking" ;; esac
        tests "$1" 'suite' "$suite" "$lanes" '-O2' LDFLAGS=-static RUNNER="$runner" SCALE=20 \
            CF_TEST_LEAVE_OUT="$left"
    fi
}

# linked TARGET WHAT WHY FAILED: a row of what was built alone; FAILED had failed before.
linked() {
    if [ "$failed" -eq "$4" ]; then
        row "$1" "$cc" "$2" "linked, not run$3"
    else
        row "$1" "$cc" "$2" 'FAILED to build'
    fi
}

foreign_compile() {
    before=$failed
    for backend in '' -DCFUTURES_POSIX -DCFUTURES_NO_FUTEX; do
        # shellcheck disable=SC2086 # flags are words
        must "$1 $backend" $cc -std=c11 -O2 $strict $backend -I. -static tests/impl.c \
            "$out/main.c" -o "$out/program" -pthread
    done
    linked "$1" "$2" ": $3" "$before"
}

# Kernels that lack calls: as a whole here, one by one in tests/test_process_old.c.
group_old() {
    cc=$CC
    # shellcheck disable=SC2086 # flags are words
    must 'tests/refuse.c' $cc -std=c11 $CFLAGS $strict tests/refuse.c -o "$out/refuse"
    calls=clone3,close_range,eventfd2,memfd_noexec,pidfd_open
    if "$out/refuse" "ENOSYS,$calls" true; then
        tests "$here" 'an older kernel' "$suite test_process_crash test_process_spawn test_fd" \
            posix '-O2' RUNNER="$out/refuse ENOSYS,$calls"
        tests "$here" 'no private futex' "$core test_wait" 'c11 posix' '-O2' \
            RUNNER="$out/refuse ENOSYS,futex" SCALE=5
    else
        miss "$here" "$cc" 'an older kernel' 'no filter for system calls here'
    fi
}

# Linux without what is Linux's own. Names of threads and descriptors that are readable at a deadline
# are; forks need the POSIX side. A pipe of the library's cannot be told from a stranger's file that has
# its number since the host has closed it, as Linux's timers can.
group_other() {
    cc=$CC
    names='a_worker_bears_the_pools_name_and_its_number of_a_long_name_the_number_is_kept'
    names="$names the_options_are_copied a_worker_is_called_by_the_name_of_the_pool"
    names="$names options_are_copied_and_null_is_all_defaults a_task_sees_the_name_of_its_thread"
    names="$names readable_at_the_deadline_and_not_before a_delivery_does_not_hide_the_deadline"
    names="$names a_host_that_closes_the_descriptors_of_a_pool_gets_statuses"
    processes=''
    for unit in crash host corners faults observer order size limits storm; do
        processes="$processes test_process_$unit"
    done
    tests 'POSIX without Linux' suite "$suite$processes test_fd" \
        "$every" '-O2 -U__linux__' CF_TEST_LEAVE_OUT="$names" WERROR=
    forks='a_fork_in_the_midst_of_other_threads_calls_does_not_hang_the_child'
    forks="$forks a_forked_child_may_make_pools_of_its_own"
    forks="$forks in_a_forked_child_an_inherited_pool_is_dead_and_says_so"
    tests 'C11 without POSIX' suite "${suite% *}" 'c11 generic' \
        '-O2 -U__linux__ -U__unix__ -U__unix' CF_TEST_LEAVE_OUT="$names $forks"
    windows x86_64-w64-mingw32-gcc
}

windows() {
    cc=$1 before=$failed
    if have "$cc"; then
        # shellcheck disable=SC2086 # flags are words
        must Windows $cc -std=c11 -O2 $strict -I. "$out/main.c" "$out/implement.c" \
            -o "$out/program" -static -pthread
        linked Windows 'the thread half' '' "$before"
    else
        miss Windows "$cc" 'the thread half' "no $1 here"
    fi
}

group_static() {
    try "$here" 'clang, gcc, clang-tidy' 'static analysis' env OUT="$out/static" \
        sh tests/check_static.sh
    if have clang-19 && have clang-tidy-19; then
        try "$here" 'clang-19, clang-tidy-19' 'static analysis' env OUT="$out/static" \
            CLANG=clang-19 TIDY=clang-tidy-19 sh tests/check_static.sh everything tidy
    else
        miss "$here" 'clang-19, clang-tidy-19' 'static analysis' 'not both here'
    fi
    for cc in clang-16 clang-22; do
        if have $cc; then
            try "$here" $cc 'static analysis: -Weverything' env OUT="$out/static" CLANG=$cc \
                sh tests/check_static.sh everything
        else
            miss "$here" $cc 'static analysis: -Weverything' "no $cc here"
        fi
    done
}

group_sanitizer() {
    cc=gcc
    tests "$here" 'sanitizers' "$core" 'gcc-asan gcc-tsan' ''
    cc=clang
    tests "$here" 'sanitizers' "$core" 'clang-asan clang-tsan' ''
}

group_quick() {
    cc=$CC
    tests "$here" 'hardened, at link time' 'test_future test_map' 'c11 posix' \
        "$hardened -flto" LDFLAGS='-pie -Wl,-z,relro,-z,now'
    cc="gcc -m32 $flags32" every=posix suite=$core
    group_32
    cc=$CC
    tests 'POSIX without Linux' core "test_map test_process" posix '-O2 -U__linux__' WERROR= \
        CF_TEST_LEAVE_OUT='a_worker_is_called_by_the_name_of_the_pool
            options_are_copied_and_null_is_all_defaults'
    tests 'C11 without POSIX' core "test_future" c11 '-O2 -U__linux__ -U__unix__ -U__unix'
}

# ---------------------------------------------------------------- all rows, and the table

echo '#include "cfutures.h"
int main(void) { return cf_cpu_count() > 0 ? 0 : 1; }' >"$out/main.c"
printf '#define CFUTURES_IMPLEMENTATION\n#include "cfutures.h"\n' >"$out/implement.c"
[ $# -gt 0 ] || set -- headers variants foreign old other static sanitizer
for group in "$@"; do
    "group_$group"
done
rm -rf "${out:?}/test"
echo
awk -F'|' '{ printf "%-22s %-28s %-32s %s\n", $1, substr($2, 1, 28), $3, $4 }' "$out/table"
finish
