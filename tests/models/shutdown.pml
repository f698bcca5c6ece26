/* Shutdown of a thread pool: two threads submit, two shut down, one worker may be started, or two.
 * Whoever's task was taken in waits for it; both shutdowns return when all workers have left.
 * Mirrors cf__enqueue, cf__balance, cf__start_workers, cf__worker_search, cf__worker_rest,
 * cf__worker_sleep, cf__close_door, cf__await_left, cf__leave_unlock.
 *
 * BUG 1: the closing thread does not look for a task that still lacks its first worker.
 * BUG 2: the last one out wakes one of the shutdowns only.
 * BUG 3: a worker does not look once more after it has lain down. */
#ifndef BUG
#define BUG 0
#endif

#ifndef WORKERS
#define WORKERS 1 /* or 2, which takes seconds */
#endif
#define NOBODY 2
#ifndef SUBMITTERS
#define SUBMITTERS 2
#endif
#define CLOSERS 2
#define PROCS 6 /* workers, submitters, closers, by number */

#define AT_LEFT 1
#define AT_STATE 2 /* and the worker's number */

#include "futex.pml"

bit lock, tail_lock;
bool closing, starting, hungry = true;
byte ring, ended, started, alive, asleep, waking, left, visitors;
bool lies[2]; /* CF__ASLEEP */
bool is_free[2];
byte accepted, served;

#define FREE_COUNT (is_free[0] + is_free[1])
#define MAY_START (started < WORKERS && !starting && !closing)
#define IS_LEFT (alive == 0 && visitors == 0 && !starting)

inline set_hungry() { hungry = (waking == 0 && (asleep > 0 || MAY_START)) }

/* Under the lock: whom to wake, and whether to start one. */
inline balance(wakes, starts) {
    d_step {
        wakes = NOBODY;
        starts = false;
        set_hungry();
        if
        :: hungry && ring > FREE_COUNT + asleep && MAY_START -> starting = true; starts = true
        :: else -> skip
        fi;
        if
        :: hungry && ring > FREE_COUNT && lies[0] -> wakes = 0
        :: hungry && ring > FREE_COUNT && !lies[0] && lies[1] -> wakes = 1
        :: else -> skip
        fi;
        if
        :: wakes != NOBODY ->
            lies[wakes] = false;
            is_free[wakes] = true;
            asleep--;
            waking++
        :: else -> skip
        fi;
        set_hungry()
    }
}

inline leave_unlock(last) {
    last = IS_LEFT && closing;
    if
    :: last -> left++
    :: else -> skip
    fi;
    release(lock);
    if
    :: last && BUG != 2 -> unpark_all(AT_LEFT)
    :: last && BUG == 2 -> unpark_one(AT_LEFT)
    :: else -> skip
    fi
}

/* `starting` is ours. A visitor at the end, since the worker may have left in the meantime. */
inline start_workers(wakes, starts) {
    do
    :: starts ->
        acquire(lock);
        is_free[started] = true;
        started++;
        alive++;
        release(lock);
        run worker(started - 1);
        acquire(lock);
        starting = false;
        balance(wakes, starts);
        if
        :: !starts -> visitors++
        :: else -> skip
        fi;
        release(lock);
        if
        :: wakes != NOBODY -> unpark_all(AT_STATE + wakes)
        :: else -> skip
        fi;
        if
        :: !starts -> acquire(lock); visitors--; leave_unlock(last)
        :: else -> skip
        fi
    :: else -> break
    od
}

inline balance_unlock(wakes, starts) {
    balance(wakes, starts);
    release(lock);
    if
    :: wakes != NOBODY -> unpark_all(AT_STATE + wakes)
    :: else -> skip
    fi;
    start_workers(wakes, starts)
}

proctype worker(byte me) {
    bool found, starts, last;
    byte wakes;
    do
    :: true ->
        acquire(lock); /* cf__worker_search */
        found = ring > 0;
        if
        :: found -> ring--; is_free[me] = false
        :: else -> skip
        fi;
        balance_unlock(wakes, starts);
        if
        :: found -> /* runs it */
            is_free[me] = true;
            ended++;
            goto again
        :: else -> skip
        fi;
        acquire(lock); /* cf__worker_rest */
        lies[me] = true;
        is_free[me] = false;
        asleep++;
        set_hungry();
        if
        :: (ring > 0 && BUG != 3) || closing ->
            lies[me] = false;
            is_free[me] = true;
            asleep--;
            set_hungry();
            release(lock)
        :: else ->
            release(lock);
            do /* cf__worker_sleep */
            :: lies[me] -> park(me, AT_STATE + me, lies[me], true)
            :: else -> break
            od;
            acquire(lock);
            waking--;
            balance_unlock(wakes, starts)
        fi;
        if
        :: closing && ring == 0 -> break
        :: else -> skip
        fi;
again:
    od;
    acquire(lock);
    is_free[me] = false;
    alive--;
    leave_unlock(last)
}

proctype submitter() {
    bool refused, starts, last;
    byte wakes;
    acquire(tail_lock);
    refused = closing;
    if
    :: !refused -> ring++; accepted++
    :: else -> skip
    fi;
    release(tail_lock);
    if
    :: !refused && hungry -> acquire(lock); balance_unlock(wakes, starts)
    :: else -> skip
    fi;
    refused || ended == accepted; /* cf_future_wait; that each ends is what is asked */
    served++
}

proctype closer(byte me) {
    bool starts, out, last;
    byte seen, wakes;
    acquire(tail_lock); /* cf__close_door */
    acquire(lock);
    starts = BUG != 1 && alive == 0 && ring > 0 && MAY_START;
    if
    :: starts -> starting = true
    :: else -> skip
    fi;
    closing = true;
    do
    :: lies[0] -> lies[0] = false; is_free[0] = true; asleep--; waking++; unpark_all(AT_STATE)
    :: lies[1] -> lies[1] = false; is_free[1] = true; asleep--; waking++; unpark_all(AT_STATE + 1)
    :: else -> break
    od;
    set_hungry();
    release(lock);
    release(tail_lock);
    start_workers(wakes, starts);
    do /* cf__await_left */
    :: true ->
        acquire(lock);
        seen = left;
        out = IS_LEFT;
        release(lock);
        if
        :: out -> break
        :: else -> park(me, AT_LEFT, left, seen)
        fi
    od;
    assert(alive == 0);
    assert(ring == 0) /* nothing that was taken in is left behind */
}

init {
    bool late; /* before all is served nothing but the submitters wakes anybody */
    byte n;
    atomic {
        do
        :: n < SUBMITTERS -> run submitter(); n++
        :: else -> break
        od
    };
    if
    :: late = true
    :: late = false
    fi;
    !late || served == SUBMITTERS;
    atomic {
        run closer(4);
        run closer(5)
    }
}
