/* A bounded queue under CF_FULL_BLOCK: three submitters, one worker, a cancel that makes room, a
 * shutdown that must let the blocked ones go. Mirrors cf__enqueue_bounded, cf__admit, cf__is_full,
 * cf__unlock_space, cf_future_cancel with cf__end_unrun, cf__close_door.
 *
 * BUG 1: `space` is read after the lock was let go, so that its change may be missed.
 * BUG 2: a cancelled task makes room, and nobody is told.
 * BUG 3: one submitter is woken, and does not pass it on when it is refused or more fits.
 * BUG 4: the shutdown does not wake them, and the task that runs waits for one of them. */
#ifndef BUG
#define BUG 0
#endif

#define SUBMITTERS 3
#define LIMIT 1
#define PROCS 4
#define AT_SPACE 1
#define AT_STATE 2

#include "futex.pml"

bit lock;
bool closing, busy, lies;
byte ring, dead, space, blocked, ended, refused;

#define PENDING_COUNT (ring - dead)
#define IS_FULL (PENDING_COUNT >= LIMIT + (busy -> 0 : 1))

inline unlock_space(tells) {
    d_step {
        tells = blocked > 0 && !IS_FULL;
        if
        :: tells -> space++
        :: else -> skip
        fi;
        lock = 0
    }
    if
    :: tells -> unpark_one(AT_SPACE)
    :: else -> skip
    fi
}

inline wake_worker() {
    if
    :: lies && PENDING_COUNT > 0 -> lies = false; unpark_all(AT_STATE)
    :: else -> skip
    fi
}

proctype submitter(byte me) {
    byte seen;
    bool tells, turned_down;
    acquire(lock);
    blocked++;
    do /* cf__admit */
    :: closing -> turned_down = true; break
    :: !closing && !IS_FULL -> break
    :: !closing && IS_FULL ->
        seen = space;
        release(lock);
        if
        :: BUG == 1 -> seen = space
        :: else -> skip
        fi;
        park(me, AT_SPACE, space, seen);
        acquire(lock)
    od;
    blocked--;
    if
    :: turned_down -> refused++
    :: else -> ring++; assert(PENDING_COUNT <= LIMIT + 1)
    fi;
    wake_worker(); /* cf__balance_unlock */
    if
    :: BUG == 3 -> release(lock)
    :: else -> unlock_space(tells)
    fi
}

/* What it takes may be a tombstone. The first task may need one of the blocked submitters. */
proctype worker() {
    bool tells;
    do
    :: true ->
        acquire(lock);
        if
        :: atomic { dead > 0 -> ring--; dead--; ended++ }; unlock_space(tells)
        :: atomic { ring > dead -> ring-- };
            busy = true;
            unlock_space(tells);
            if
            :: true -> skip
            :: ended == 0 && BUG != 2 && BUG != 3 -> closing && blocked == 0
            fi;
            ended++;
            busy = false
        :: ring == 0 && closing -> unlock_space(tells); break
        :: ring == 0 && !closing ->
            lies = true;
            unlock_space(tells);
            park(3, AT_STATE, lies, true);
            lies = false
        fi
    od
}

/* Whichever task still waits; its entry stays as a tombstone. */
proctype canceller() {
    bool tells;
    atomic {
        if
        :: PENDING_COUNT > 0 -> dead++
        :: else -> goto out
        fi
    }
    acquire(lock);
    if
    :: BUG == 2 -> release(lock)
    :: else -> unlock_space(tells)
    fi;
out:
    skip
}

proctype closer() {
    acquire(lock);
    closing = true;
    space++;
    if
    :: lies -> lies = false; unpark_all(AT_STATE)
    :: else -> skip
    fi;
    if
    :: BUG == 4 -> skip
    :: else -> unpark_all(AT_SPACE)
    fi;
    release(lock)
}

init {
    atomic {
        run worker();
        run submitter(0);
        run submitter(1);
        run submitter(2);
        run canceller()
    }
    /* With BUG 2 and 3 nothing but room may free them; else a shutdown comes at any time. */
    if
    :: ended == SUBMITTERS
    :: BUG != 2 && BUG != 3 -> skip
    fi;
    run closer();
    _nr_pr == 1;
    assert(ended + refused == SUBMITTERS && ring == 0 && dead == 0 && blocked == 0)
}
