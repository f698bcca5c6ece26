#!/bin/sh
# That `make bench` runs to its end with nothing but a C compiler: each workload of ours, the table,
# the chart. What it measures on a busy machine in a moment means nothing, so no number is looked at.
. tests/lib.sh
. tests/bench/lib.sh

log=${OUT:-build/test/bench}.bench
mkdir -p "${log%/*}"
QUICK=1 REPS=1 PEERS='' sh tests/bench/run.sh >"$log" 2>&1 </dev/null
status=$?
ran=$(awk '/^Targets/ { exit } /^[TP][0-9]/ && $2 > 0 { n++ } END { print n + 0 }' "$log")
must "the bench's exit status" [ "$status" -eq 0 ]
must 'every workload has a figure' [ "$ran" -eq "$(workloads . | wc -w)" ]
must 'there is a chart' grep -q '</svg>' build/bench.svg
[ "$failed" -eq 0 ] || tail -n 60 "$log"
finish
