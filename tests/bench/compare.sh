#!/bin/sh
# Compares two versions of cfutures.h in one interleaved run over all workloads of threads.
#
#   REPS=5  WORKLOADS='T1 T3'  QUICK=1  sh tests/bench/compare.sh OLD [NEW]
#
# OLD and NEW are git revisions, or paths of headers from the root; NEW is the working tree's by
# default. The ratio is new / old: below 1 the new one is faster.

# Flags and lists are split into words on purpose.
# shellcheck disable=SC2086
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/bench/lib.sh
: "${WORKLOADS:=$(workloads '^T')}"

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi

# build_version NAME VERSION
build_version() {
    mkdir -p "$out/$1.d"
    if [ -f "$2" ]; then
        cp "$2" "$out/$1.d/cfutures.h" || exit 1
    else
        git show "$2:cfutures.h" >"$out/$1.d/cfutures.h" || exit 1
    fi
    $CC $CFLAGS "-I$out/$1.d" "$bench/cfutures.c" -o "$out/$1" $LDFLAGS -lpthread || exit 1
}

build_version old "$1"
build_version new "${2:-cfutures.h}"
: >"$out/results.txt"
failed=0 repetition=1
while [ "$repetition" -le "$REPS" ]; do
    turn=$repetition
    for workload in $WORKLOADS; do
        for version in $(rotate "$turn" old new); do
            measure "$repetition" "$version" "$workload" 1 "$out/$version" || failed=1
        done
        turn=$((turn + 1))
    done
    repetition=$((repetition + 1))
done

awk -v ours=new -f "$bench/median.awk" "$out/results.txt" | awk '
    BEGIN { printf "%-6s%12s%12s%10s%10s%10s\n", "", "old", "new", "new/old", "lowest", "highest" }
    $2 == "new" { new[$1] = $3 }
    $2 == "old" { line[++lines] = $0 }
    END {
        for (i = 1; i <= lines; i++) {
            split(line[i], f, " ")
            if (f[5] != "-") {
                printf "%-6s%12.2f%12.2f", f[1], f[3], new[f[1]]
                printf "%10.2f%10.2f%10.2f\n", f[5], f[6], f[7]
            }
        }
    }'
exit $failed
