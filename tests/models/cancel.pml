/* One task: a worker starts it, somebody cancels it, a waiter inside another task claims it, two
 * threads wait for its end. Mirrors cf__move, cf__worker_run, cf__claim_entry, cf_future_cancel,
 * cf__settle, cf__park_on, cf__park_until.
 *
 * BUG 1: a claim looks first, and then stores.
 * BUG 2: a waiter parks without PARKED in the word.
 * BUG 3: the end of the task is stored, and PARKED looked at before. */
#ifndef BUG
#define BUG 0
#endif

#define PROCS 2 /* those that park */
#define AT_WORD 1

#include "futex.pml"

mtype = { PENDING, RUNNING, SETTLING, DONE };
/* The word: its state and PARKED, changed in one step. */
mtype state = PENDING;
bool flag;
byte version; /* changes whenever the word does: the futex compares the whole word */
byte ran, cancelled, freed, settled;

inline move_from_pending(to, done) {
    if
    :: BUG != 1 ->
        atomic {
            done = state == PENDING;
            if
            :: done -> state = to; version++
            :: else -> skip
            fi
        }
    :: else ->
        done = state == PENDING;
        if
        :: done -> state = to; version++
        :: else -> skip
        fi
    fi
}

inline settle(was_parked) {
    freed++; /* cf__cell_drop_arg, before the end can be seen */
    assert(freed == 1);
    if
    :: BUG != 3 -> atomic { was_parked = flag; state = DONE; flag = false; version++ }
    :: else -> was_parked = flag; atomic { state = DONE; version++ }
    fi;
    settled++;
    if
    :: was_parked -> unpark_all(AT_WORD)
    :: else -> skip
    fi
}

/* A worker, or a waiter that claims: the same compare-and-swap. */
proctype runner() {
    bool mine, was_parked;
    move_from_pending(RUNNING, mine);
    if
    :: mine -> ran++; assert(ran == 1 && cancelled == 0); settle(was_parked)
    :: else -> skip
    fi
}

proctype canceller() {
    bool mine, was_parked;
    move_from_pending(SETTLING, mine);
    if
    :: mine -> cancelled++; assert(cancelled == 1 && ran == 0); settle(was_parked)
    :: else -> skip
    fi
}

proctype waiter(byte me) {
    byte seen;
    bool sets;
    do
    :: atomic { state == DONE -> break }
    :: atomic { state != DONE -> seen = version; sets = !flag };
        if
        :: sets && BUG != 2 ->
            atomic { /* cf__park_on: the compare-and-swap that adds PARKED */
                if
                :: version == seen -> flag = true; version++; seen = version
                :: else -> sets = false; seen = version - 1
                fi
            }
        :: else -> skip
        fi;
        park(me, AT_WORD, version, seen)
    od;
    assert(freed == 1 && settled <= 1 && ran + cancelled == 1)
}

init {
    atomic {
        run runner();
        run runner();
        run canceller();
        run canceller();
        run waiter(0);
        run waiter(1)
    }
}
