#!/bin/sh
# Which lines and branches of cfutures.h the tests reach, by gcov:
#
#     sh tests/coverage.sh [backend...]        c11 posix generic posix-generic, or some of them
#     sh tests/coverage.sh --report            once more, from what the last run has left
#
# Every test program runs on every backend it can run on, as in tests/run.sh, with process pools,
# failing system calls and the corpus of the fuzz target on the POSIX one. What all of them reached
# together is printed for each section of the header, then all that none of them reached, unless
# tests/coverage.txt says why. Then what the comments of the interface promise and no test has seen,
# or the other way round: see tests/seen.awk. The exit status is 1 if something is left over, if an
# entry of a list is wrong, or if a test failed. Killed processes count too: see tests/coverage.c.
#
# Needs gcc (GCC, if gcc is something else here), its gcov (GCOV), and GNU ld.
. tests/lib.sh

out=build/coverage
: "${GCC:=gcc}" "${GCOV:=gcov}" "${AWK:=awk}"
all='c11 posix generic posix-generic'
flags="-std=c11 -O0 -g --coverage -fprofile-update=atomic -fdata-sections -Dalways_inline="
hooks='-DCFUTURES_MALLOC=test_malloc -DCFUTURES_FREE=test_free'
wrapped=-Wl,--wrap=__gcov_exit,--wrap=__gcov_fork,--wrap=__gcov_execv

defs_of() {
    case $1 in
    c11) echo "$hooks" ;;
    posix) echo "$hooks -DCFUTURES_POSIX" ;;
    generic) echo "$hooks -DCFUTURES_NO_FUTEX" ;;
    posix-generic) echo "$hooks -DCFUTURES_POSIX -DCFUTURES_NO_FUTEX" ;;
    esac
}

# units BACKEND: the names of its test programs.
units() {
    for unit in tests/test_*.c; do
        case $1,$unit in
        posix,* | posix-generic,tests/test_fd.c | posix-generic,tests/test_process.c) ;;
        *,tests/test_process*.c | *,tests/test_fd.c) continue ;;
        esac
        basename "$unit" .c
    done
}

# ---------------------------------------------------------------- one program

# A program that has the implementation in itself counts there.
compile_unit() {
    posix='' how="-std=c11 -O1 -g"
    case $1 in test_fd | test_process*) posix=-DCFUTURES_POSIX ;; esac
    case $1 in test_process_hostile | test_process_fuzz) how=$flags ;; esac
    # shellcheck disable=SC2086 # flags are words
    $GCC -I "$out" $how $posix -I. -Itests -c "tests/$1.c" -o "$out/units/$1.o"
}

# run_unit BACKEND UNIT: then what it counted is added to what gcov will read.
run_unit() {
    program=$out/$1/$2 log=$out/$1/$2.log
    options=$(sed -n 's/^ \* link: //p' "tests/$2.c" | tr '\n' ' ')
    case $1 in posix*) posix=posix_ ;; *) posix='' ;; esac
    # shellcheck disable=SC2086 # flags are words
    if ! $GCC --coverage "$out/units/$2.o" "$out/$1/impl.o" "$out/coverage.o" "$out/${posix}seen.o" \
        -Wl,-T,"$out/counters.ld" $wrapped $(cat "$out/${posix}seen.wrap") $options -o "$program" -pthread >"$log" 2>&1; then
        echo "FAILED  $1 $2: see $log"
        return 1
    fi
    CF_COVERAGE_COUNTERS=$PWD/$program.counters CF_TEST_LANE=coverage CF_TEST_SCALE=4
    export CF_COVERAGE_COUNTERS CF_TEST_LANE CF_TEST_SCALE
    if within 600 "$program" >"$log" 2>&1 </dev/null; then
        echo "ok      $1 $2: $(tail -n 1 "$log")"
    else
        echo "FAILED  $1 $2: see $log"
        : >"$out/failed"
    fi
    CF_COVERAGE_WRITE=1 "$program" >"$program.notes" 2>>"$log"
    rm -f "$program" "$CF_COVERAGE_COUNTERS"
}

case $1 in
--compile) compile_unit "$2" && exit ;;
--run) run_unit "${2%%/*}" "${2#*/}" && exit ;;
esac
case $1 in --compile | --run)
    : >"$out/failed"
    exit
    ;;
esac

# ---------------------------------------------------------------- all of them

# many STEP WORD...: as many at once as there are processors (or JOBS).
many() {
    step=$1
    shift
    printf '%s\n' "$@" | xargs -P "$jobs" -n 1 sh tests/coverage.sh "$step"
}

measure() {
    rm -rf "$out"
    mkdir -p "$out/units"
    cp cfutures.h "$out/cfutures.h" # whatever happens to it meanwhile
    # The counters on pages of their own, so that they can be mapped from a file.
    cat >"$out/counters.ld" <<'END'
SECTIONS
{
  .coverage_counters (NOLOAD) : ALIGN(65536)
  {
    coverage_counters = .;
    *(.bss.__gcov0.*)
    . = ALIGN(65536);
    coverage_counters_end = .;
  }
}
INSERT AFTER .bss;
END
    $GCC -O1 -g -c tests/coverage.c -o "$out/coverage.o" || return
    $AWK -f tests/seen.awk cfutures.h >"$out/seen.c"
    $AWK -v wrap=1 -f tests/seen.awk cfutures.h | sed 's/^/-Wl,--wrap=/' >"$out/seen.wrap"
    $AWK -v wrap=1 -v posix_too=1 -f tests/seen.awk cfutures.h | sed 's/^/-Wl,--wrap=/' \
        >"$out/posix_seen.wrap"
    $GCC -I. -c "$out/seen.c" -o "$out/seen.o" || return
    $GCC -I. -DCFUTURES_POSIX -c "$out/seen.c" -o "$out/posix_seen.o" || return
    runs=''
    for backend in "$@"; do
        mkdir -p "$out/$backend"
        # shellcheck disable=SC2046,SC2086 # flags are words
        $GCC -I "$out" $flags $(defs_of "$backend") -I. -Itests -c tests/impl.c -o "$out/$backend/impl.o" ||
            return
        for unit in $(units "$backend"); do runs="$runs $backend/$unit"; done
    done
    # shellcheck disable=SC2046,SC2086 # names are words
    many --compile $(printf '%s\n' $runs | sed 's|.*/||' | sort -u)
    # shellcheck disable=SC2086 # names are words
    many --run $runs
}

# What gcov says of each object that has counted.
read_out() {
    rm -f "$out"/*.gcov
    for data in "$out"/*/*.gcda; do
        object=${data%.gcda}
        $GCOV -b -c -t -o "$object.o" "$object.c" 2>/dev/null >"$out/$(echo "$object" |
            tr '/' '_').gcov"
    done
}

if ! have "$GCC" || ! have "$GCOV"; then
    echo "make coverage needs $GCC and $GCOV"
    exit 1
fi
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)}
if [ "$1" != --report ]; then
    # shellcheck disable=SC2086 # names are words
    [ $# -gt 0 ] || set -- $all
    measure "$@" || exit
fi
read_out
$AWK -f tests/coverage.awk tests/coverage.txt "$out"/*.gcov
status=$?
sort -u "$out"/*/*.notes >"$out/notes"
$AWK -v check=1 -f tests/seen.awk "$out/cfutures.h" tests/seen.txt "$out/notes" || status=1
if [ -f "$out/failed" ]; then
    echo 'Some tests failed, so this is not all.'
    status=1
fi
exit $status
