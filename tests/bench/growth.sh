#!/bin/sh
# What a task costs as tasks become many, and as workers do.
#
#   REPS=7  WORKLOADS='T1 T3 T5'  W=2  WORKERS='1 2 4 16 64'  QUICK=1 \
#       SIZES='10000 100000 1000000'  FIBS='22 27 32'  sh tests/bench/growth.sh
#
# The first table goes through SIZES with W workers, the second through WORKERS with the last of
# SIZES. T3 takes FIBS in place of SIZES: each fib has eleven times the calls of the one before.
# Medians in ns a task, in brackets the lowest and the highest. All of it runs interleaved. The last
# line says whether all rows are within their limits; if not, or if a run failed, the exit status is
# 1. QUICK only tries the script: its runs are so short that they measure how workers start.

# Lists are split into words on purpose.
# shellcheck disable=SC2086
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${REPS:=7}" "${WORKLOADS:=T1 T3 T5}" "${WORKERS:=1 2 4 16 64}"
. tests/bench/lib.sh
if [ -n "$QUICK" ]; then
    : "${SIZES:=1000 10000 100000}" "${FIBS:=12 17 22}"
else
    : "${SIZES:=10000 100000 1000000}" "${FIBS:=22 27 32}"
fi
default_workers=$W

# sizes WORKLOAD: its numbers of tasks, in the order of the columns.
sizes() {
    case $1 in
    T3) echo "$FIBS" ;;
    *) echo "$SIZES" ;;
    esac
}

# at COLUMN WORKLOAD: measures, with N and W as they are now.
at() {
    measure "$repetition" "$1" "$2" 1 "$(ours cfutures "$2")" || failed=1
}

by_size() {
    W=$default_workers columns=$SIZES
    for N in $(sizes "$1"); do
        at "n=${columns%% *}" "$1"
        columns=${columns#* }
    done
}

by_workers() {
    for N in $(sizes "$1"); do :; done
    for W in $WORKERS; do
        at "W=$W" "$1"
    done
}

# table LIMIT PREFIX COLUMNS: those with this prefix, out of the results of both.
table() {
    heads=$(printf "$2%s " $3)
    grep -F " $2" "$out/results.txt" |
        awk -v heads="$heads" -v limit="$1" -f "$bench/stats.awk" -f "$bench/growth.awk"
}

mkdir -p "$out"
build_ours cfutures . || exit 1
: >"$out/results.txt"
failed=0 repetition=1
while [ "$repetition" -le "$REPS" ]; do
    for workload in $WORKLOADS; do
        by_size "$workload"
        by_workers "$workload"
    done
    [ ! -t 2 ] || echo "repetition $repetition of $REPS" >&2
    repetition=$((repetition + 1))
done

{
    echo "$REPS repetitions, $(machine)"
    printf '\nCost by the number of tasks, %s workers (T3: fib of %s)\n' "$default_workers" "$FIBS"
    table 1.2 n= "$SIZES"
    printf '\nCost by the number of workers, the last of these sizes\n'
    table 2 W= "$WORKERS"
} >"$out/growth.txt"
cat "$out/growth.txt"
awk 'NF < 2 { next }
    $(NF - 1) == "within" { within++ }
    $(NF - 1) == "beyond" { beyond++ }
    END {
        printf "\nRows within their limits: %d of %d\n", within, within + beyond
        exit beyond > 0 || !within
    }' "$out/growth.txt" || failed=1
exit $failed
