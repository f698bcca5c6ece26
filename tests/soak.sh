#!/bin/sh
# The long form of the gates, for MINUTES or SECONDS_TO_SOAK (60) in all: the randomized driver under
# the sanitizers and on every backend, controlled schedules, killed workers, refused calls by pairs,
# fuzzing, pools by the thousand; and, when there are ten minutes or more, the planted bugs
# that show that these tests can fail. Ends with a table; what failed stands there with its replay.
. tests/lib.sh

: "${OUT:=build/soak}"
total=${SECONDS_TO_SOAK:-60}
[ -z "${MINUTES:-}" ] || total=$((MINUTES * 60))
first=${CF_TEST_SEED:-$(date +%s)}
table=''
fixed=''
if have setarch && setarch "$(uname -m)" -R true 2>/dev/null; then
    fixed="setarch $(uname -m) -R" # newer kernels spread programs too widely for shadow memory
fi
mkdir -p "$OUT"

# share PERCENT: of the time, at least a second.
share() {
    echo $((total * $1 / 100 > 0 ? total * $1 / 100 : 1))
}

# row NAME AMOUNT SECONDS VERDICT: a line of the table.
row() {
    rate=$(echo "$2 $3" | awk '$3 > 0 { printf "%.1f/s", $1 / $3 }')
    table="$table$(printf '%-34s %-22s %6s s  %-12s %s' "$1" "$2" "$3" "$rate" "$4")
"
}

# amount LOG: what a gate's log says that it did.
amount() {
    awk '/ seeds from [0-9]+ in / { seeds += $2 }
         / kills, [0-9]+ restarts/ { kills += $1 }
         /: [0-9]+ rounds, fewer than/ { for (i = 1; i < NF; i++) if ($(i + 1) == "rounds,") rounds += $i }
         /^stat::number_of_executed_units:/ { runs += $2 }
         /^Done [0-9]+ runs/ { runs += $2 }
         / cycles: [0-9]+ bytes more/ { cycles += $1 }
         /[0-9]+ schedules/ { for (i = 1; i <= NF; i++) if ($(i + 1) ~ /^schedules/ && $i + 0 > 0) schedules += $i }
         /^[0-9]+ passed, [0-9]+ failed/ { passed = $1 }
         END {
             if (seeds) print seeds " seeds"
             else if (kills) print kills " kills"
             else if (rounds) print rounds " refusals"
             else if (runs) print runs " runs"
             else if (cycles) print cycles " cycles"
             else if (schedules) print schedules " schedules"
             else print passed + 0 " passed"
         }' "$1"
}

# gate NAME SECONDS COMMAND...: runs it; it must end well, within three times its time.
gate() {
    name=$1 seconds=$2
    shift 2
    log=$OUT/$(echo "$name" | tr -c 'a-z0-9\n' _).log
    echo "== $name"
    began=$(date +%s)
    if within $((seconds * 3 + 300)) "$@" >"$log" 2>&1 </dev/null; then
        verdict=ok
        pass
    else
        verdict='FAILED'
        again=$(sed -n 's/^ *again: //p' "$log" | head -n 1)
        fail "$name" "$(tail -n 40 "$log")" "${again:-$*}"
        verdict="FAILED, again: ${again:-$*}"
    fi
    row "$name" "$(amount "$log")" $(($(date +%s) - began)) "$verdict"
}

# missing NAME WHY
missing() {
    skip "$1" "$2"
    row "$1" - 0 "skipped: $2"
}

# build DIR COMPILER FLAGS DEFINES UNIT...: false, with a word, if that cannot be done here.
build() {
    dir=$OUT/$1 compiler=$2 flags=$3 defines=$4
    shift 4
    mkdir -p "$dir"
    have "$compiler" || return
    # shellcheck disable=SC2086 # words
    $compiler -std=c11 $flags -I. -Itests $defines -c tests/impl.c -o "$dir/impl.o" || return
    for unit in "$@"; do
        posix=''
        case $unit in test_process*) posix=-DCFUTURES_POSIX ;; esac
        # shellcheck disable=SC2046,SC2086
        $compiler -std=c11 $flags -I. -Itests $posix "tests/$unit.c" "$dir/impl.o" $LDFLAGS \
            -o "$dir/$unit" $(sed -n 's/^ \* link: //p' "tests/$unit.c" | tr '\n' ' ') -pthread ||
            return
    done
}

hooks='-DCFUTURES_MALLOC=test_malloc -DCFUTURES_FREE=test_free'
watch='-O1 -g -fno-omit-frame-pointer -fsanitize'
sanitizer=clang
have clang || sanitizer=$CC

if build tsan "$CC" "$watch=thread" -DCFUTURES_POSIX test_stress 2>"$OUT/tsan.log"; then
    # shellcheck disable=SC2086
    gate 'driver, ThreadSanitizer' "$(share 25)" env CF_TEST_SECONDS="$(share 25)" CF_TEST_SCALE=10 \
        TSAN_OPTIONS=halt_on_error=1:history_size=7:second_deadlock_stack=1:die_after_fork=0 \
        $fixed "$OUT/tsan/test_stress" any_seed "$first"
else
    missing 'driver, ThreadSanitizer' "see $OUT/tsan.log"
fi

if build asan "$sanitizer" "$watch=address,undefined -fno-sanitize-recover=all" \
    "$hooks -DCFUTURES_POSIX" test_stress test_faults 2>"$OUT/asan.log"; then
    # shellcheck disable=SC2086
    gate 'driver, address and undefined' "$(share 12)" env CF_TEST_SECONDS="$(share 12)" \
        CF_TEST_SCALE=10 ASAN_OPTIONS=detect_stack_use_after_return=1 $fixed \
        "$OUT/asan/test_stress" any_seed "$first"
    # shellcheck disable=SC2086
    gate 'pairs of refused calls' "$(share 4)" env CF_TEST_SECONDS="$(share 4)" CF_TEST_SCALE=10 \
        ASAN_OPTIONS=allocator_may_return_null=1 $fixed "$OUT/asan/test_faults" \
        two_calls_are_refused "$first"
else
    missing 'driver, address and undefined' "see $OUT/asan.log"
fi

for backend in posix c11 generic; do
    case $backend in
    posix) defines="$hooks -DCFUTURES_POSIX" ;;
    c11) defines=$hooks ;;
    generic) defines="$hooks -DCFUTURES_NO_FUTEX" ;;
    esac
    # shellcheck disable=SC2086
    if build $backend "$CC" "$CFLAGS" "$defines" test_stress test_faults test_pool \
        2>"$OUT/$backend.log"; then
        gate "driver, $backend" "$(share 7)" env CF_TEST_SECONDS="$(share 7)" CF_TEST_SCALE=3 \
            "$OUT/$backend/test_stress" any_seed "$first"
        gate "every refused call, $backend" 30 env CF_TEST_LONG=1 CF_TEST_SCALE=3 \
            "$OUT/$backend/test_faults"
        gate "10,000 pools, $backend" 30 env CF_TEST_CYCLES=10000 CF_TEST_SCALE=3 \
            "$OUT/$backend/test_pool" thousands_of_pools_leave_no_memory_behind
    else
        missing "driver, $backend" "see $OUT/$backend.log"
    fi
done

if build posix "$CC" "$CFLAGS" "$hooks -DCFUTURES_POSIX" test_process_storm test_process_faults \
    2>"$OUT/process.log"; then
    gate 'killed workers' "$(share 10)" env CF_TEST_STORMS=$(($(share 10) / 5 + 1)) \
        CF_TEST_SCALE=100 "$OUT/posix/test_process_storm"
    gate 'pairs of refused calls, processes' "$(share 8)" env CF_TEST_SECONDS="$(share 8)" \
        CF_TEST_SCALE=3 "$OUT/posix/test_process_faults" two_calls_are_refused "$first"
else
    missing 'killed workers' "see $OUT/process.log"
fi

if [ -f tests/check_sched.sh ]; then
    # Each scenario with both ways of parking has its share; a short soak takes the seeds of a test.
    each=$(($(share 12) / (2 * $(grep -c '^    SCENARIO(' tests/sched/scenarios.c))))
    [ "$each" -gt 0 ] || each=''
    gate 'controlled schedules' "$(share 12)" env SECONDS_EACH="$each" sh tests/check_sched.sh
else
    missing 'controlled schedules' 'there is no tests/check_sched.sh'
fi
gate 'fuzzing' "$(share 8)" env SECONDS_TO_FUZZ="$(share 8)" sh tests/fuzz.sh

if [ "$total" -ge 600 ]; then
    gate 'planted bugs, all found' 300 env OUT="$OUT/plants" sh tests/check_plants.sh
fi

printf '\n%-34s %-22s %8s  %-12s %s\n%s\n' gate amount time rate result "$table"
finish
