/* A process pool: one desk of two slots, its worker, which may die at any step, the manager that
 * hands out, collects, buries and replaces, and a caller that takes tasks back to cancel them.
 * Mirrors cf__lane_give, cf__lane_publish, cf__lane_ring, cf__lane_take_back, cf__child_loop,
 * cf__child_rest, cf__lane_harvest, cf__lane_collect, cf__lane_bury, cf__lane_return,
 * cf__hub_claim.
 *
 * BUG 1: a dead worker is buried before its outcomes are collected.
 * BUG 2: a task is taken back without a compare-and-swap.
 * BUG 3: the worker does not look at its slot after it has said that it sleeps.
 * BUG 4: all that lay on a dead worker's desk is lost. */
#ifndef BUG
#define BUG 0
#endif

#define TASKS 3
#define SLOTS 2
#define DEATHS 2
#define NONE 9

mtype = { FREE, READY, TAKEN, ENDED };
mtype slot[SLOTS] = FREE;
byte task_at[SLOTS];        /* hub: lane->tasks */
byte head, tail;            /* of the desk; positions, modulo SLOTS */
bit lock;
bool asleep, bell, is_alive, is_dead, leave;
byte deaths, channel; /* channel: bytes that wake the worker */
byte begun[TASKS], finished[TASKS], lost[TASKS], cancelled[TASKS];
byte queue[TASKS] = { 0, 1, 2 };
byte queued = TASKS;
byte settled;

#define IS_IN_USE (head != tail)

inline acquire() { atomic { lock == 0 -> lock = 1 } }
inline release() { lock = 0 }

inline push_front(t) {
    d_step {
        i = queued;
        do
        :: i > 0 -> queue[i] = queue[i - 1]; i--
        :: else -> break
        od;
        queue[0] = t;
        queued++
    }
}

inline pop_front(t) {
    d_step {
        t = queue[0];
        i = 1;
        do
        :: i < queued -> queue[i - 1] = queue[i]; i++
        :: else -> break
        od;
        queued--;
        i = 0
    }
}

byte i;

/* Any step of a worker may be its last; so may be none. */
#define MAY_DIE if :: deaths < DEATHS -> deaths++; goto die :: true -> skip fi

proctype worker() {
    byte next, ran;
    do
    :: true ->
        MAY_DIE;
        atomic {
            if
            :: slot[next] == READY -> slot[next] = TAKEN; ran = task_at[next]
            :: else -> ran = NONE
            fi
        }
        if
        :: ran != NONE ->
            MAY_DIE;
            begun[ran]++;
            assert(begun[ran] == 1 && cancelled[ran] == 0);
            MAY_DIE;
            slot[next] = ENDED;
            MAY_DIE;
            bell = true;
            next = (next + 1) % SLOTS
        :: ran == NONE && leave -> goto die
        :: else ->
            asleep = true; /* cf__child_rest */
            MAY_DIE;
            if
            :: slot[next] == READY && BUG != 3 -> asleep = false
            :: else -> /* cf__child_listen: a byte, or the end of the file */
                if
                :: atomic { channel > 0 -> channel-- }
                :: leave -> skip
                :: deaths < DEATHS -> deaths++; goto die
                fi;
                asleep = false
            fi
        fi
    od;
die:
    atomic { is_alive = false; is_dead = true } /* the zygote reaps it, and reports */
}

/* Under the lock: READY, then a look whether the worker sleeps. */
inline give(t) {
    task_at[tail % SLOTS] = t;
    slot[tail % SLOTS] = READY;
    tail++;
    if
    :: atomic { asleep -> asleep = false; channel++ }
    :: else -> skip
    fi
}

/* The newest, if it has not begun. */
inline take_back(t) {
    t = NONE;
    if
    :: IS_IN_USE && BUG != 2 ->
        atomic {
            if
            :: slot[(tail - 1) % SLOTS] == READY ->
                slot[(tail - 1) % SLOTS] = FREE;
                tail--;
                t = task_at[tail % SLOTS]
            :: else -> skip
            fi
        }
    :: IS_IN_USE && BUG == 2 && slot[(tail - 1) % SLOTS] == READY ->
        tail--;
        slot[tail % SLOTS] = FREE;
        t = task_at[tail % SLOTS]
    :: else -> skip
    fi
}

inline harvest() {
    do
    :: IS_IN_USE && slot[head % SLOTS] == ENDED ->
        finished[task_at[head % SLOTS]]++;
        slot[head % SLOTS] = FREE;
        head++;
        settled++
    :: else -> break
    od
}

inline bury() {
    do
    :: IS_IN_USE ->
        tail--;
        if
        :: slot[tail % SLOTS] == READY && BUG != 4 -> push_front(task_at[tail % SLOTS])
        :: else ->
            lost[task_at[tail % SLOTS]]++;
            assert(slot[tail % SLOTS] == TAKEN); /* a complete outcome wins */
            settled++
        fi;
        slot[tail % SLOTS] = FREE
    :: else -> break
    od;
    head = 0;
    tail = 0;
    asleep = false;
    channel = 0;
    is_dead = false
}

proctype manager() {
    byte t;
    do
    :: settled == TASKS -> break
    :: settled < TASKS && (bell || is_dead || (queued > 0 && tail - head < SLOTS)) ->
        acquire();
        bell = false;
        if
        :: is_dead ->
            if
            :: BUG != 1 -> harvest()
            :: else -> skip
            fi;
            bury()
        :: else -> harvest()
        fi;
        if
        :: !is_alive && !is_dead && settled < TASKS ->
            is_alive = true;
            run worker()
        :: else -> skip
        fi;
        do /* cf__hub_hand_out */
        :: is_alive && queued > 0 && tail - head < SLOTS -> pop_front(t); give(t)
        :: else -> break
        od;
        release()
    od;
    leave = true
}

/* Cancels the task that was handed out last, if it still can: cf__hub_claim. */
proctype canceller() {
    byte t;
    acquire();
    take_back(t);
    if
    :: t != NONE -> cancelled[t]++; assert(begun[t] == 0); settled++
    :: else -> skip
    fi;
    release()
}

init {
    byte n;
    atomic { run manager(); run canceller() }
    _nr_pr == 1;
    do
    :: n < TASKS ->
        assert(finished[n] + lost[n] + cancelled[n] == 1);
        assert(finished[n] == 0 || begun[n] == 1);
        n++
    :: else -> break
    od
}
