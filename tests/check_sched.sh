#!/bin/sh
# The thread half under a scheduler of our own: small scenarios, one thread at a time by seed, with
# simulated store buffers; see tests/sched/control.h. Both ways of parking.
#
#     SCHEDULES=n       seeds for each scenario and way of parking; default 500
#     SECONDS_EACH=n    instead: so long for each
#     FIRST_SEED=n      default 1
#     PREEMPTIONS=n     also all schedules with at most so many preemptions; default: none of those
#
# A failure prints the command that replays it; that prints who did what, where.
. tests/lib.sh
. tests/sched/lib.sh

amount="-s ${FIRST_SEED:-1} -n ${SCHEDULES:-500}"
[ -z "$SECONDS_EACH" ] || amount="-s ${FIRST_SEED:-1} -t $SECONDS_EACH"
optimize=-O0 # builds sooner, which is what counts for a few seeds
[ "${SCHEDULES:-500}" -le 1000 ] && [ -z "$SECONDS_EACH$PREEMPTIONS" ] || optimize=-O2

why=$(sched_unavailable)
if [ -n "$why" ]; then
    skip 'the controlled scheduler' "$why"
    finish
    exit
fi

# shellcheck disable=SC2086 # flags are words
must 'the scheduler compiles' $CC $sched_flags -O2 -c tests/sched/control.c -o "$sched/control.o"

# explore PARKING DEFINITION: builds, runs, counts scenarios.
explore() {
    # shellcheck disable=SC2086 # flags are words
    must "scenarios, $1" $CC $sched_flags $optimize $2 tests/sched/scenarios.c "$sched/control.o" \
        -no-pie -o "$sched/$1"
    # shellcheck disable=SC2086 # amounts are words
    for how in "$amount" ${PREEMPTIONS:+"-x $PREEMPTIONS $amount"}; do
        within 36000 "$sched/$1" $how >"$sched/$1.log" 2>&1 </dev/null
        status=$?
        cat "$sched/$1.log"
        closing=$(tail -n 1 "$sched/$1.log")
        case $status:$closing in
        0:*' passed, 0 failed') passed=$((passed + ${closing%% *})) ;;
        *) failed=$((failed + 1)) ;;
        esac
    done
}

explore futex ''
explore generic -DCONTROL_GENERIC
finish
