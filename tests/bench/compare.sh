#!/bin/sh
# Compares two versions of cfutures.h in one interleaved run over all workloads.
#
#   REPS=21  WORKLOADS='T1 T3'  QUICK=1  W=2  sh tests/bench/compare.sh OLD [NEW]
#
# OLD and NEW are git revisions, or paths of headers from the root; NEW is the working tree's by
# default. Shown are the medians, the ratio new / old (below 1 the new one is faster) and its noise,
# the interval in which it lies: see compare.awk. "slower" and "faster" are said where that leaves
# out 1 and the ratio is beyond 2 %, "same" where it is within 10 %. HEAD against HEAD shows what
# the machine makes of no change.

# Flags and lists are split into words on purpose.
# shellcheck disable=SC2086
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${REPS:=21}"
. tests/bench/lib.sh
: "${WORKLOADS:=$(workloads .)}"

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi

# build_version NAME VERSION: a header without processes does without their workloads.
build_version() {
    mkdir -p "$out/$1.d" || exit 1
    if [ -f "$2" ]; then
        cp "$2" "$out/$1.d/cfutures.h" || exit 1
    else
        git show "$2:cfutures.h" >"$out/$1.d/cfutures.h" || exit 1
    fi
    build_ours "$1" "$out/$1.d" 2>"$out/$1.log"
    case $? in
    1)
        cat "$out/$1.log" >&2
        exit 1
        ;;
    2)
        echo "$2 does not build with CFUTURES_POSIX ($out/$1.log): no process workloads"
        WORKLOADS=$(printf '%s\n' $WORKLOADS | grep -v '^P')
        ;;
    esac
}

build_version old "$1"
build_version new "${2:-cfutures.h}"
: >"$out/results.txt"
failed=0 repetition=1
while [ "$repetition" -le "$REPS" ]; do
    turn=$repetition
    for workload in $WORKLOADS; do
        for version in $(rotate "$turn" old new); do
            measure "$repetition" "$version" "$workload" 1 "$(ours "$version" "$workload")" ||
                failed=1
        done
        turn=$((turn + 1))
    done
    [ ! -t 2 ] || echo "repetition $repetition of $REPS" >&2
    repetition=$((repetition + 1))
done

echo "old: $1, new: ${2:-cfutures.h}; W=$W, $REPS repetitions, $(machine)"
echo 'ns a task (T8m: bytes)'
awk -f "$bench/stats.awk" -f "$bench/compare.awk" "$out/results.txt"
exit $failed
