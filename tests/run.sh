#!/bin/sh
# Runs lanes of tests, one job more at once than there are processors (or JOBS), since some wait,
# and adds up:
#
#     sh tests/run.sh [compiler-]kind...          for example: c11 clang-posix gcc-tsan header
#
#     c11 posix generic     tests/test_*.c on that backend: C11 threads, POSIX threads, no futex
#     tsan asan             the POSIX backend under ThreadSanitizer; under the address, leak and
#                           undefined-behaviour sanitizers (none of them understands C11 threads)
#     memcheck helgrind     valgrind: memcheck on C11 threads, helgrind on POSIX threads
#     children              memcheck on process pools: the host, its zygotes, their workers
#     header examples docs install bench sched mutants plants models matrix static
#                           the script tests/check_<kind>.sh
#
# A lane without a compiler uses $CC; one whose tools are missing is skipped and named. A lane that
# watches for errors also runs tests/planted.c, and fails if it misses the bugs in there. Tests see
# the kind in CF_TEST_LANE, and in CF_TEST_SCALE how slow they may be. What a job printed is kept in
# build/test/<lane>/; what failed is printed, with the command that replays it.
#
# For lanes c11, posix and generic: UNITS="test_pool ..." runs these alone, RUNNER stands before each
# program (an emulator, say), SCALE is how slow that is. TEST_OUT: a directory for build/test.
. tests/lib.sh

out=${TEST_OUT:-build/test}
results=${RESULTS:-$out/results.$$} # RESULTS: this is a job
jobs=${JOBS:-$(($(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1) + 1))}

# Shadow memory needs the address layout of older kernels: newer ones spread programs too widely.
fixed=''
if have setarch && setarch "$(uname -m)" -R true 2>/dev/null; then
    fixed="setarch $(uname -m) -R"
fi

# lane NAME: sets what it means.
#   flags: compile and link with them    defs: for tests/impl.c only    wrap: before each program
#   objects: where the compiled tests are (those of the native lanes are the same)
#   plants: bug=words that the report must have (a dot for a blank)
lane() {
    lane=$1 kind=${1##*-} cc=$CC flags=$CFLAGS objects=$1 defs='' wrap=$RUNNER plants=''
    scale=${SCALE:-1}
    [ "$kind" = "$1" ] || cc=${1%-*}
    hooks='-DCFUTURES_MALLOC=test_malloc -DCFUTURES_FREE=test_free'
    sanitize='-O1 -g -fno-omit-frame-pointer -fsanitize'
    valgrind='valgrind -q --fair-sched=yes --error-exitcode=9'
    case $kind in c11 | posix | generic) objects=${1%"$kind"}native ;; esac
    case $kind in
    c11) defs=$hooks plants='hang=HANG crash=CRASH' ;;
    posix) defs="$hooks -DCFUTURES_POSIX" ;;
    generic) defs="$hooks -DCFUTURES_NO_FUTEX" ;;
    tsan)
        flags="$sanitize=thread" defs=-DCFUTURES_POSIX scale=10 plants='race=data.race'
        wrap='env TSAN_OPTIONS=halt_on_error=1:history_size=7:second_deadlock_stack=1'
        wrap="$wrap:allocator_may_return_null=1:die_after_fork=0 $fixed"
        ;;
    asan)
        flags="$sanitize=address,undefined -fno-sanitize-recover=all" scale=10
        defs="$hooks -DCFUTURES_POSIX"
        plants='leak=LeakSanitizer use_after_free=heap-use-after-free overflow=runtime.error'
        wrap='env ASAN_OPTIONS=detect_stack_use_after_return=1:allocator_may_return_null=1'
        wrap="$wrap UBSAN_OPTIONS=print_stacktrace=1 $fixed"
        ;;
    memcheck)
        flags='-O1 -g' scale=20
        plants='leak=definitely.lost use_after_free=Invalid.read uninitialised=uninitialised'
        wrap="$valgrind --leak-check=full --show-leak-kinds=definite"
        wrap="$wrap --suppressions=tests/memcheck.supp"
        wrap="$wrap --errors-for-leak-kinds=definite"
        ;;
    children)
        flags='-O1 -g -DCFUTURES_MEMCHECK' defs=-DCFUTURES_POSIX scale=20
        plants='worker=uninitialised'
        wrap="$valgrind --trace-children=yes --leak-check=no --suppressions=tests/memcheck.supp"
        ;;
    helgrind)
        flags='-O1 -g -DCFUTURES_HELGRIND' defs=-DCFUTURES_POSIX scale=20 plants='race=data.race'
        wrap="$valgrind --tool=helgrind --history-level=approx --suppressions=tests/helgrind.supp"
        ;;
    esac
}

# unavailable: prints why this machine cannot run the lane, or nothing.
unavailable() {
    if ! have "$cc"; then
        echo "no $cc here"
    elif [ "${wrap%% *}" = valgrind ] && ! have valgrind; then
        echo 'no valgrind here'
    elif [ "${flags#*-fsanitize}" != "$flags" ]; then
        mkdir -p "$out/probe" && echo 'int main(void) { return 0; }' >"$out/probe/$lane.c"
        # shellcheck disable=SC2086 # flags and wrap are words
        { $cc $flags "$out/probe/$lane.c" -o "$out/probe/$lane" && $wrap "$out/probe/$lane"; } \
            >/dev/null 2>&1 || echo "$cc has no $kind here"
    fi
}

# units: the names of the lane's test programs. test_fd and process pools need the POSIX backend.
# Under valgrind no program can start itself anew, and helgrind does not know memory of other
# processes. Tasks that harm themselves, calls that fail and limits of the system are reported by
# those who watch, or hit them first: such tests run where nothing watches.
units() {
    [ -z "$plants" ] || echo planted
    for unit in ${UNITS:-tests/test_*.c}; do
        unit=tests/$(basename "$unit" .c).c
        case $kind,$unit,$defs in
        children,tests/test_process.c,* | children,tests/test_process_order.c,* | \
            children,tests/test_process_storm.c,* | posix,tests/test_process*.c,*)
            basename "$unit" .c
            ;;
        [ta]san,tests/test_process_faults.c,* | [ta]san,*_limits.c,*) ;;
        memcheck,tests/test_faults.c,* | helgrind,tests/test_faults.c,*) ;; # slow, and known by then
        [ta]san,tests/test_process*.c,*) basename "$unit" .c ;;
        children,* | *,tests/test_process*.c,*) ;;
        *,tests/test_fd.c,*CFUTURES_POSIX*) echo test_fd ;;
        *,tests/test_fd.c,*) ;;
        *) basename "$unit" .c ;;
        esac
    done
}

# jobs_of STEP: the jobs of the current lane, as words <lane>:<what>:<unit>.
jobs_of() {
    case $1:$kind in
    compile:header | compile:examples | compile:docs | compile:install | compile:bench) ;;
    compile:sched | compile:mutants | compile:models | compile:matrix | compile:static) ;;
    compile:plants) ;;
    run:header | run:examples | run:docs | run:install | run:bench) echo "$lane:script:$kind" ;;
    run:sched | run:mutants | run:models | run:matrix | run:static) echo "$lane:script:$kind" ;;
    run:plants) echo "$lane:script:$kind" ;;
    compile:*)
        echo "$lane:compile:impl"
        for unit in $(units); do echo "$objects:compile:$unit"; done
        ;;
    run:*)
        for unit in $(units); do [ "$unit" = planted ] || echo "$lane:run:$unit"; done
        for plant in $plants; do echo "$lane:plant:$plant"; done
        ;;
    esac
}

# ---------------------------------------------------------------- one job, in a process of its own

# result PASSED FAILED SKIPPED, and for a failure what to read and what to type.
result() {
    echo "$1 $2 $3" >"$results/$job.count"
    [ "$2" -eq 0 ] && return
    printf 'FAILED  %s %s\n' "$lane" "$unit"
    {
        printf '\n---- %s %s\n' "$lane" "$unit"
        tail -n 100 "$log"
        printf '    again: %s\n' "$again"
    } >"$results/$job.failed"
}

job_compile() {
    case $unit in test_fd | test_process*) defs=-DCFUTURES_POSIX ;; esac
    again="$cc -std=c11 $flags $strict -I. -Itests $defs -c tests/$unit.c -o $out/$lane/$unit.o"
    # shellcheck disable=SC2086 # a command of words
    if $again >"$log" 2>&1; then result 0 0 0; else result 0 1 0; fi
}

# link_unit UNIT PROGRAM: false if it cannot be linked; what could not be compiled has been counted.
# A test names options of its own in a comment, as " * link: -Wl,--wrap=poll".
link_unit() {
    program=$out/$lane/$2
    again="$cc $flags $LDFLAGS $out/$objects/$1.o $out/$lane/impl.o -o $program"
    again="$again $(sed -n 's/^ \* link: //p' "tests/$1.c" | tr '\n' ' ')-pthread"
    [ -f "$out/$objects/$1.o" ] && [ -f "$out/$lane/impl.o" ] || return
    # shellcheck disable=SC2086 # a command of words
    $again >"$log" 2>&1 && return
    result 0 1 0
    return 1
}

# finish_job STATUS: counts by the last "N passed, N failed" of the log and an "N skipped" before
# it. A program that ended in another way than these say has failed once more; so has one with a
# report of valgrind's, which may be about a worker.
finish_job() {
    counts=$(awk '/^[0-9]+ passed, [0-9]+ failed$/ { p = $1; f = $3; seen = 1 }
                  /^[0-9]+ skipped$/ { s = $1 }
                  /^==[0-9]+== / { report = 1 }
                  END { print p + 0, f + (report || !(seen && (f > 0) == (st != 0))), s + 0 }' \
        st="$1" "$log")
    # shellcheck disable=SC2086 # three numbers
    result $counts
    case $counts in
    *' 0 0') echo "ok      $lane $unit: ${counts%% *}" ;;
    *' 0 '*) echo "ok      $lane $unit: ${counts%% *}, ${counts##* } skipped" ;;
    esac
}

job_run() {
    link_unit "$unit" "$unit" || return
    again="env CF_TEST_LANE=$kind CF_TEST_SCALE=$scale $wrap $program"
    # shellcheck disable=SC2086 # a command of words
    within 600 $again >"$log" 2>&1 </dev/null
    status=$?
    again="$again $(sed -n 's/.*, seed \([0-9]*\)$/\1/p; s/^FAILED \([^ ]*\).*/\1/p' "$log" |
        tr '\n' ' ')"
    finish_job $status
}

job_plant() {
    bug=${unit%%=*} words=${unit#*=}
    link_unit planted "planted_$bug" || return
    again="env CF_TEST_LANE=$kind CF_TEST_SCALE=1 $wrap $program $bug"
    # shellcheck disable=SC2086 # a command of words
    if within 120 $again >"$log" 2>&1 </dev/null || ! grep -q "$words" "$log"; then
        echo "The planted bug was not reported with the words '$words'." >>"$log"
        result 0 1 0
    else
        result 1 0 0
        echo "ok      $lane finds the planted bug: $bug"
    fi
}

job_script() {
    again="env CC='$cc' OUT=$out/$lane sh tests/check_$unit.sh"
    # It may run lanes of its own, whose results are not among these.
    within 600 env RESULTS= CC="$cc" OUT="$out/$lane" sh "tests/check_$unit.sh" >"$log" 2>&1 \
        </dev/null
    finish_job $?
    grep '^skipped ' "$log"
}

if [ "$1" = --job ]; then
    job=$2
    unit=${job#*:*:} what=${job#*:}
    lane "${job%%:*}"
    what=${what%%:*}
    case $what in
    script) log=$out/$lane.log ;; # the directory is the script's own
    compile) log=$out/$lane/$unit.compile.log ;;
    *) log=$out/$lane/$unit.log ;;
    esac
    "job_$what"
    exit 0
fi

# ---------------------------------------------------------------- all jobs

set -- "${@:-c11}"
# shellcheck disable=SC2068 # a name has no blanks
set -- $@
mkdir -p "$results"
RESULTS=$results
export RESULTS
for name in "$@"; do
    lane "$name"
    rm -rf "${out:?}/$lane" "${out:?}/$objects"
    mkdir -p "$out/$lane" "$out/$objects"
    why=$(unavailable)
    if [ -n "$why" ]; then
        echo "skipped $lane: $why"
        echo '0 0 1' >"$results/$lane.count"
        continue
    fi
    jobs_of compile >>"$results/compile"
    jobs_of run >>"$results/run"
done
for step in compile run; do
    [ -s "$results/$step" ] || continue
    # First what waits longest, so that there is something to do beside it.
    sort -u "$results/$step" >"$results/$step.all"
    grep ':test_process_faults$' "$results/$step.all" >"$results/$step.list"
    grep -v ':test_process_faults$' "$results/$step.all" >>"$results/$step.list"
    xargs -P "$jobs" -n 1 sh tests/run.sh --job <"$results/$step.list"
done
cat "$results"/*.failed 2>/dev/null
for count in "$results"/*.count; do
    read -r p f s <"$count"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
rm -rf "$results"
[ $((passed + failed)) -gt 0 ] || failed=1
finish
