/* What the models share: a lock, and parking by the futex's contract. To look at the word and to
 * fall asleep is one step; a wake-up that comes before finds nobody and is lost, as in the system.
 * (Waiting by a plain condition would hide a forgotten wake-up.) */

#define NOWHERE 0

byte parked[PROCS]; /* by process: the word it sleeps on */

inline acquire(lock) { atomic { lock == 0 -> lock = 1 } }
inline release(lock) { lock = 0 }

/* cf__park: returns at once unless the word holds `seen`. */
inline park(me, where, word, seen) {
    atomic {
        if
        :: word == seen -> parked[me] = where
        :: else -> skip
        fi
    }
    parked[me] == NOWHERE
}

/* cf__unpark_all, cf__unpark_one: of several, any. */
inline unpark_all(where) {
    d_step {
        sleeper = 0;
        do
        :: sleeper < PROCS ->
            if
            :: parked[sleeper] == where -> parked[sleeper] = NOWHERE
            :: else -> skip
            fi;
            sleeper++
        :: else -> break
        od;
        sleeper = 0
    }
}

inline unpark_one(where) {
    atomic {
        if
        :: PROCS > 0 && parked[0] == where -> parked[0] = NOWHERE
        :: PROCS > 1 && parked[1 % PROCS] == where -> parked[1 % PROCS] = NOWHERE
        :: PROCS > 2 && parked[2 % PROCS] == where -> parked[2 % PROCS] = NOWHERE
        :: PROCS > 3 && parked[3 % PROCS] == where -> parked[3 % PROCS] = NOWHERE
        :: PROCS > 4 && parked[4 % PROCS] == where -> parked[4 % PROCS] = NOWHERE
        :: PROCS > 5 && parked[5 % PROCS] == where -> parked[5 % PROCS] = NOWHERE
        :: else -> skip
        fi
    }
}

byte sleeper;
