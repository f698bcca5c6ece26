#!/bin/sh
# The header under tools that read it without running it, each on both backends: clang with all
# warnings that there are, gcc's analyzer, cppcheck, clang-tidy. A finding that is not in the list
# of exceptions fails. Bugs are planted behind the header's end, and each tool must find its own.
#
#     sh tests/check_static.sh [tool...]     some of: everything analyzer cppcheck tidy lint
#     sh tests/check_static.sh quick         all but tidy
#
# On two CPUs, in seconds: everything 3, cppcheck 2, analyzer 14, lint 1, tidy 70. lint is tidy
# without the analyzer that takes nearly all of this time.
. tests/lib.sh

out=${OUT:-build/test/static}
mkdir -p "$out"
source=$out/cfutures.h
cp cfutures.h "$source"
cat >>"$source" <<'BUG'
extern int planted(int size);
int planted(int size)
{
    char *const block = malloc((unsigned)size);
    free(block);
    free(block);
    memset(&size, '0', sizeof size);
    unsigned long wide = size;
    return (int)wide;
}
BUG
printf '#define CFUTURES_IMPLEMENTATION\n#include "cfutures.h"\n' >"$out/included.c"
posix='-x c -std=c11 -DCFUTURES_IMPLEMENTATION -DCFUTURES_POSIX'
plain='-x c -std=c11 -DCFUTURES_IMPLEMENTATION -DCFUTURES_NO_FUTEX'

# What is never wrong here, with the reason.
warnings='-Weverything'
warnings="$warnings -Wno-declaration-after-statement"            # C99 has them
warnings="$warnings -Wno-c++98-compat -Wno-pre-c11-compat"       # the implementation is C11
warnings="$warnings -Wno-c++-compat"                             # malloc's result has no cast
warnings="$warnings -Wno-padded"                                 # cache lines are kept apart
warnings="$warnings -Wno-unsafe-buffer-usage"                    # a warning for each a[i]
warnings="$warnings -Wno-disabled-macro-expansion"               # sa_handler, in glibc's header
warnings="$warnings -Wno-reserved-macro-identifier"              # _DEFAULT_SOURCE
warnings="$warnings -Wno-reserved-identifier"                    # the linker's __executable_start
warnings="$warnings -Wno-bad-function-cast"                      # words that hold pointers
warnings="$warnings -Wno-nrvo"                                   # a copy where two paths return
warnings="$warnings -Wno-unknown-warning-option"                 # older clangs know fewer
checks='-*,bugprone-*,cert-*,clang-analyzer-*,concurrency-*,performance-*,portability-*'
checks="$checks,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling" # memcpy_s
checks="$checks,-clang-analyzer-optin.performance.Padding"       # cache lines are kept apart
checks="$checks,-performance-no-int-to-ptr"                      # words that hold pointers
checks="$checks,-bugprone-casting-through-void"                  # how shared memory gets its type
checks="$checks,-bugprone-easily-swappable-parameters"           # C has no named ones
checks="$checks,-bugprone-multi-level-implicit-pointer-conversion" # memcpy of arrays of pointers
checks="$checks,-bugprone-reserved-identifier,-cert-dcl37-c,-cert-dcl51-cpp" # as above

# Single findings that are false: check | words of the source line | why.
cat >"$out/exceptions" <<'LIST'
bugprone-implicit-widening-of-multiplication-result|CF__BLOCK_COUNT|3 * 64, a constant
bugprone-not-null-terminated-result|"/sys/fs/cgroup"|the rest of the path follows it in the buffer
bugprone-signed-char-misuse|slot->status = cell->status|a status, which may be negative
bugprone-narrowing-conversions|? CF_OK :|a status, which is small
bugprone-sizeof-expression|sizeof *|an array of pointers
bugprone-sizeof-expression|sizeof mapping|a pointer is what is copied
bugprone-sizeof-expression|sizeof(cf_future *)|an array of pointers
cert-err34-c|fscanf(file, "%lld %lld"|the kernel writes these numbers
cert-err34-c|sscanf(argv[2], "%d:%d"|the library wrote these numbers
clang-analyzer-core.NullDereference|executor->heap.observer|the caller has refused NULL
clang-analyzer-core.NullDereference|executor->processes|the caller has refused NULL
clang-analyzer-core.NullDereference|hub->submitted|an executor without a hub has refused the task
clang-analyzer-core.NullDereference|self->worker->index|who has the heap of a pool is one of its workers
clang-analyzer-core.NullDereference|worker == last|`started` workers are there, so none is NULL
clang-analyzer-core.NullDereference|future->home->whole|a stand-in is given the future it runs
clang-analyzer-core.NonNullParamChecker|memcpy(tray->base|a tray with room for an argument has memory
clang-analyzer-core.UndefinedBinaryOperatorResult|chunk->count - chunk->ended|data of cf__chunk_main
concurrency-mt-unsafe|sigprocmask|in the zygote and its workers, which have one thread
uninitvar|visit->executor|the loop ends when the visit has begun
uninitvar|: &here|the address alone is taken
uninitvar|order.lane|received whole, byte by byte
Wanalyzer-malloc-leak|if (memory == NULL) return;|malloc's pointer stands before what is freed
LIST

# judge NAME BUG COMMAND...: its findings, without those of the list; the planted bug, of which the
# name of the finding has the word BUG, must be there.
judge() {
    judged=$1 bug=$2
    shift 2
    "$@" >"$out/log" 2>&1
    findings=$(awk -F: '
        FILENAME ~ /exceptions$/ { split($0, part, "|"); check[++n] = part[1]; words[n] = part[2] }
        FILENAME ~ /cfutures.h$/ { line[FNR] = $0 }
        FILENAME ~ /\/log$/ && /cfutures\.h:[0-9]+:[0-9]+: (warning|error): .*\]$/ {
            id = $0
            sub(/.*\[/, "", id)
            if ($2 > size) { planted += index(id, bug) > 0; next }
            for (i = 1; i <= n; i++)
                if (index(id, check[i]) && index(line[$2], words[i])) next
            print
            print line[$2]
        }
        END { if (!planted) print "The planted bug was not found: " bug }' \
        bug="$bug" size="$(awk 'END { print NR }' cfutures.h)" "$out/exceptions" "$source" "$out/log")
    if [ -z "$findings" ]; then
        pass
        echo "ok      $judged"
    else
        fail "$judged" "$findings" "$*"
    fi
}

# first COMMAND...: the first of these that is here; nothing if none is.
first() {
    for tool in "$@"; do
        if have "$tool"; then
            echo "$tool"
            return
        fi
    done
}

check_everything() {
    clang=$(first ${CLANG:+"$CLANG"} clang)
    # shellcheck disable=SC2086 # flags are words
    if [ -n "$clang" ]; then
        judge "$clang -Weverything, POSIX" sign-conversion $clang -std=c11 -DCFUTURES_POSIX -O2 $warnings \
            -c "$out/included.c" -o "$out/o"
        judge "$clang -Weverything, C11" sign-conversion $clang -std=c11 -DCFUTURES_NO_FUTEX -O2 $warnings \
            -c "$out/included.c" -o "$out/o"
    else
        skip 'clang -Weverything' 'no clang here'
    fi
}

# What the optimizer has removed is not looked at. The other backend differs in a few lines, and this
# takes long.
check_analyzer() {
    gcc=$(first ${GCC:+"$GCC"} gcc)
    # shellcheck disable=SC2086 # flags are words
    if [ -n "$gcc" ] && $gcc -fanalyzer -x c -c /dev/null -o "$out/o" >/dev/null 2>&1 &&
        ! $gcc --version | grep -q clang; then
        judge "$gcc -fanalyzer" double-free $gcc $posix -O0 -fanalyzer -c "$source" -o "$out/o"
    else
        skip 'gcc -fanalyzer' 'no gcc with an analyzer here'
    fi
}

# It knows no compiler's macros, so it is told some.
check_cppcheck() {
    if have cppcheck; then
        set -- cppcheck --quiet --language=c --std=c11 --inconclusive --max-configs=1 \
            --enable=warning,performance,portability --inline-suppr -D__linux__ -D__unix__ \
            '--template={file}:{line}:{column}: warning: {message} [{id}]' --template-location= \
            -DUINTPTR_MAX=0xffffffffffffffff -DCFUTURES_IMPLEMENTATION
        judge 'cppcheck, POSIX' doubleFree "$@" -D__GNUC__=12 -DCFUTURES_POSIX \
            -D__USE_MISC=1 -DCLOCK_MONOTONIC=1 -DNSIG=65 -DSIG_SETMASK=2 "$source"
        judge 'cppcheck, C11' doubleFree "$@" -DCFUTURES_NO_FUTEX "$source"
    else
        skip cppcheck 'no cppcheck here'
    fi
}

# tidied NAME BUG CHECKS: by clang-tidy, on both backends. The analyzer in it looks at functions of the
# file that it is given alone, hence not at an include.
tidied() {
    tidy=$(first ${TIDY:+"$TIDY"} clang-tidy clang-tidy-19 clang-tidy-16 clang-tidy-14)
    # shellcheck disable=SC2086 # flags are words
    if [ -n "$tidy" ]; then
        judge "$tidy$1, POSIX" "$2" $tidy --quiet "--checks=$3" "$source" -- $posix
        judge "$tidy$1, C11" "$2" $tidy --quiet "--checks=$3" "$source" -- $plain
    else
        skip "clang-tidy$1" 'no clang-tidy here'
    fi
}

check_tidy() { tidied '' unix.Malloc "$checks"; }
check_lint() { tidied ' without its analyzer' suspicious-memset "$checks,-clang-analyzer-*"; }

[ $# -gt 0 ] || set -- everything analyzer cppcheck tidy
[ "$*" != quick ] || set -- everything analyzer cppcheck lint
for tool in "$@"; do
    "check_$tool"
done
finish
