#!/bin/sh
# Do the tests notice when cfutures.h is wrong? Automatic mutants, one edit each (tests/mutate.awk
# has the operators), are compiled and tested:
#
#     sh tests/mutate.sh [N [SEED]]      N mutants by that seed (20, and the seconds of the clock)
#     ONLY=operator                      only those; without it all but `order`, which a machine with
#                                        a strong memory model cannot tell from the original, but the
#                                        controlled scheduler can: see tests/check_mutants.sh
#
# The POSIX backend is tested, with the programs of the mutant's half of the header first, up to the
# first failure. What is printed: killed, and by whom; equivalent, where the code is the same or
# tests/mutants.txt says why; survived. The exit status is 1 if one survived. A program has LIMIT=60
# seconds, and whatever it leaves is killed, in whichever process group it is: tests and rounds of
# tests have groups of their own.
. tests/lib.sh

out=build/mutants
count=${1:-20}
seed=${2:-$(date +%s)}
: "${AWK:=awk}"
how="-std=c11 -O1 -I. -Itests -DCFUTURES_POSIX"
hooks='-DCFUTURES_MALLOC=test_malloc -DCFUTURES_FREE=test_free'
thread_half='future submit wait as_completed map corners nested pool statuses observer faults seeds
    fd bad_input cpus stress'
process_half='process process_corners process_crash process_order process_host process_observer
    process_spawn process_hostile process_size process_limits process_faults process_fuzz
    process_old process_storm'

# left: the processes that execute the program. Spawned ones have another name, and a link on Linux.
left() {
    {
        ps -A -o pid= -o args=
        # shellcheck disable=SC2012 # numbers
        ls -l /proc/[0-9]*/exe 2>/dev/null | sed -n 's|.*/proc/\([0-9]*\)/exe -> |\1 |p'
    } | $AWK -v program="$program" '
        { pid = $1; sub(/^ *[0-9]+ +/, "") }
        index($0 " ", program " ") == 1 { print pid }'
}

# sweep: kills them. $swept is how often there were any: others may start while some are killed.
sweep() {
    swept=0
    while [ $swept -lt 100 ]; do
        pids=$(left)
        [ -n "$pids" ] || return
        swept=$((swept + 1))
        # shellcheck disable=SC2086 # numbers
        kill -KILL $pids 2>/dev/null
    done
}

# run SECONDS ARGUMENTS...: the program; its exit status.
run() {
    seconds=$1
    shift
    CF_TEST_LANE=mutation timeout -k 5 "$seconds" "$program" "$@" >"$out/log" 2>&1 </dev/null
    status=$?
    sweep
    return $status
}

# A planted hang with a child that outlives it: a failure, after which nothing is left.
check_sweep() {
    # shellcheck disable=SC2086 # flags are words
    $CC $how tests/planted.c "$out/original.o" -o "$program" -pthread || exit
    if run 1 stray || [ $swept -eq 0 ] || [ -n "$(left)" ]; then
        echo 'A planted hang was not noticed, or has left a process.'
        exit 1
    fi
}

program=$PWD/$out/program
rm -rf "$out"
mkdir -p "$out/units"
trap sweep EXIT
trap 'exit 1' HUP INT TERM
cp cfutures.h "$out/header.h" # whatever happens to it meanwhile
for name in $thread_half $process_half; do
    [ -f "tests/test_$name.c" ] || continue
    # shellcheck disable=SC2086 # flags are words
    $CC $how -c "tests/test_$name.c" -o "$out/units/$name.o" || exit
done
# shellcheck disable=SC2086 # flags are words
$CC $how $hooks -c tests/impl.c -o "$out/original.o" || exit
check_sweep
$AWK -f tests/mutate.awk "$out/header.h" | $AWK -F '\t' -v only="$ONLY" \
    'only == "" ? $2 != "order" : $2 == only' >"$out/all"
$AWK -v n="$count" -v seed="$seed" 'BEGIN { srand(seed) } { print rand() "\t" $0 }' "$out/all" |
    sort | cut -f 2- | head -n "$count" >"$out/chosen"
border=$($AWK '/ \* process +>>process/ { print NR }' "$out/header.h" | tail -n 1)

# listed LINE OPERATOR: its reason, if tests/mutants.txt has one.
listed() {
    sed -n "$1s/^ *//p" "$out/header.h" | $AWK -v operator="$2" '
        NR == FNR { line = $0; next }
        /^[^ #]/ { n = index($0, " | "); known = substr($0, 1, n - 1) == operator &&
                                                 index(line, substr($0, n + 3)) > 0; next }
        known && /^ / { sub(/^ +/, ""); print; exit }' - tests/mutants.txt
}

# verdict: of the mutant in $out/tree, which was made at that line.
verdict() {
    # shellcheck disable=SC2086 # flags are words
    if ! $CC -I "$out/tree" $how $hooks -c tests/impl.c -o "$out/impl.o" 2>"$out/errors"; then
        echo 'killed by the compiler'
        return
    fi
    cmp -s "$out/impl.o" "$out/original.o" && echo 'equivalent: the same code' && return
    order="$thread_half $process_half"
    [ "$1" -lt "$border" ] || order="$process_half $thread_half"
    for name in $order; do
        [ -f "$out/units/$name.o" ] || continue
        # shellcheck disable=SC2046 # options are words
        $CC "$out/units/$name.o" "$out/impl.o" \
            $(sed -n 's/^ \* link: //p' "tests/test_$name.c") -o "$program" -pthread || exit
        if ! run "${LIMIT:-60}"; then
            echo "killed by test_$name $(grep -m 1 -oE '^(FAILED|HANG|CRASH) [a-z_]+' "$out/log" |
                sed 's/.* //')"
            return
        fi
    done
    why=$(listed "$1" "$2")
    if [ -n "$why" ]; then echo "equivalent: $why"; else echo 'SURVIVED'; fi
}

echo "$(wc -l <"$out/all") mutants, $count of them by seed $seed"
number=0 killed=0 survived=0 same=0
while IFS='	' read -r line operator text; do
    number=$((number + 1))
    rm -rf "$out/tree"
    mkdir "$out/tree"
    printf '%s\n' "$text" >"$out/text"
    $AWK -v at="$line" -v file="$out/text" \
        'NR == at { while ((getline text < file) > 0) print text; next } { print }' "$out/header.h" \
        >"$out/tree/cfutures.h"
    answer=$(verdict "$line" "$operator")
    case $answer in
    killed*) killed=$((killed + 1)) ;;
    equivalent*) same=$((same + 1)) ;;
    *) survived=$((survived + 1)) ;;
    esac
    printf '%3d %-18s cfutures.h:%d: %s\n' "$number" "$operator" "$line" "$answer"
    case $answer in SURVIVED*) printf '    %s\n' "$(sed 's/^ *//' "$out/text")" ;; esac
done <"$out/chosen"
echo "$killed killed, $survived survived, $same equivalent, of $number by seed $seed"
[ "$survived" -eq 0 ]
