#!/bin/sh
# Models, explored whole: as they stand they must have no error, and each planted bug must be found.
#
# tests/models/*.pml are the protocols, for SPIN; their heads name the bugs. tests/models/*.c are a
# few threads each that call the inner, lock-free functions of cfutures.h itself: first natively, many
# times over; then, where there is a program `genmc` (https://github.com/MPI-SWS/genmc), in every
# execution that C11's memory model allows. Their bugs stand below, planted in copies of the header.
#
#     LONG=1       with two workers in the model of the shutdown, too: minutes and gigabytes
#     ROUNDS=n     how often a native model is repeated; default 1000
#     MODELS=...   only those, by name
. tests/lib.sh

out=$(pwd)/${OUT:-build/test/models}
mkdir -p "$out"

wanted() {
    case " ${MODELS:-$1} " in *" $1 "*) ;; *) return 1 ;; esac
}

# ---------------------------------------------------------------- SPIN

# explore MODEL BUG [MACRO]: builds a verifier in a directory of its own, and runs it.
explore() {
    dir=$out/$1.$2$3
    again="cd $dir && spin -DBUG=$2 $3 -a $1.pml && $CC -O1 -w -DSAFETY -DCOLLAPSE pan.c -o pan"
    again="$again && ./pan -m1000000; spin -DBUG=$2 $3 -t -p $1.pml"
    rm -rf "$dir" && mkdir -p "$dir" && cp tests/models/*.pml "$dir" || return
    # shellcheck disable=SC2086 # a macro is a word, or none
    (cd "$dir" && spin "-DBUG=$2" $3 -a "$1.pml" && "$CC" -O1 -w -DSAFETY -DCOLLAPSE pan.c -o pan &&
        within 600 ./pan -m1000000) >"$dir/log" 2>&1 </dev/null
    errors=$(sed -n 's/.*errors: \([0-9]*\)$/\1/p' "$dir/log")
    states=$(sed -n 's/^ *\([0-9]*\) states, stored$/\1/p' "$dir/log")
    case $2:$errors in
    0:0) echo "ok      $1 $3: $states states" ;;
    0:*) fail "$1" "$(tail -n 20 "$dir/log")" "$again" && return ;;
    *:0 | *:) fail "bug $2 of $1 is not found" "$(tail -n 20 "$dir/log")" "$again" && return ;;
    *) echo "found   bug $2 of $1: $(sed -n 's/^pan:1: //p' "$dir/log"), $states states" ;;
    esac
    if grep -q 'max search depth too small' "$dir/log"; then
        fail "$1 $3" 'not searched to the end' "$again"
        return
    fi
    pass
    rm -rf "$dir"
}

have spin || skip 'the models of the protocols' 'no spin here'
for model in tests/models/*.pml; do
    name=$(basename "$model" .pml)
    grep -q '^init' "$model" || continue # what others include
    if ! have spin || ! wanted "$name"; then continue; fi
    explore "$name" 0
    bug=1
    while grep -q "^ \* BUG $bug:" "$model"; do
        explore "$name" $bug
        bug=$((bug + 1))
    done
done
[ -z "$LONG" ] || ! have spin || explore shutdown 0 -DWORKERS=2

# ---------------------------------------------------------------- native

# natively MODEL: compiled and run as it is.
natively() {
    # shellcheck disable=SC2086 # flags are words
    must "$1 compiles" $CC -std=c11 $strict -O0 -I. "tests/models/$1.c" -o "$out/$1" $LDFLAGS \
        -pthread
    must "$1, natively" within 60 "$out/$1"
}

# ---------------------------------------------------------------- GenMC

# model | bug | the function where | what sed does there
bugs() {
    cat <<'END'
lock | an unlock that publishes nothing | CF__TINY uintptr_t cf__exchange_seq_cst( | s/memory_order_seq_cst/memory_order_relaxed/
lock | an unlock that wakes nobody | CF__SHARED void cf__unlock_value( | s/if (.*cf__unpark_one(lock);/(void)cf__exchange_seq_cst(lock, value);/
lock | an unlock that looks first | CF__SHARED void cf__unlock_value( | s/if ((cf__exchange_seq_cst(lock, value)/const uintptr_t was = cf__load_relaxed(lock); cf__store_release(lock, value); if ((was/
lock | a lock taken in two steps | CF__SHARED void cf__lock( | s/if (!cf__cas(lock, &seen, CF__HELD)) (void)cf__lock_slow(lock);/if (cf__load_acquire(lock) != seen) (void)cf__lock_slow(lock); else cf__store_relaxed(lock, CF__HELD);/
tail | a sleeper that forgets the others | CF__COLD uintptr_t cf__lock_slow( | s/(i < 1 ? CF__HELD : CF__AWAITED)/CF__HELD/
tail | an unlock that wakes nobody | CF__SHARED void cf__unlock_value( | s/if (.*cf__unpark_one(lock);/(void)cf__exchange_seq_cst(lock, value);/
tail | an unlock that publishes nothing | CF__TINY uintptr_t cf__exchange_seq_cst( | s/memory_order_seq_cst/memory_order_relaxed/
deque | a push that publishes nothing | CF__HOT bool cf__deque_push( | s/cf__store_seq_cst/cf__store_relaxed/
deque | an owner that announces nothing | CF__HOT cf_future \*cf__deque_pop( | s/cf__store_seq_cst/cf__store_release/
deque | an owner that looks too soon | CF__HOT cf_future \*cf__deque_pop( | s/top = cf__load_seq_cst/top = cf__load_acquire/
deque | an owner that does not fight for the last one | CF__HOT cf_future \*cf__deque_pop( | s/if (left < 0 || !cf__cas_seq_cst(.*) future = NULL;/if (left < 0) future = NULL;/
deque | a thief that looks too soon | static cf_future \*cf__deque_steal( | s/cf__load_seq_cst(&worker->bottom)/cf__load_acquire(\&worker->bottom)/
deque | a thief that takes without a claim | static cf_future \*cf__deque_steal( | s/return cf__cas_seq_cst.*/cf__store_release(\&worker->top, top + 1); return future;/
cancel | a claim in two steps | static bool cf__move( | s/if (cf__cas(.*) return true;/{ cf__store_release(\&future->word, (seen \& ~CF__STATE) | to); return true; }/
future | an end that publishes nothing | CF__HOT cf__waiter \*cf__publish( | s/while (!cf__cas(&future->word, &seen, CF__DONE));/while (!atomic_compare_exchange_strong_explicit(\&future->word, \&seen, CF__DONE, memory_order_relaxed, memory_order_relaxed));/
future | an end that wakes nobody | CF__HOT cf__waiter \*cf__publish( | s/if (.*cf__unpark_all.*//
future | a waiter that parks without saying so | static bool cf__park_on( | s/if (seen != parked.*//; s/return cf__park(word, parked/return cf__park(word, seen/
future | a waiter that looks too soon | static cf_status cf__park_until( | s/cf__load_acquire/cf__load_relaxed/
future | a last reference that two drop | CFUTURES_API void cf_future_release( | s/if (cf__cas(&future->refs, &refs, refs - CF__REF)) return;/{ cf__store_release(\&future->refs, refs - CF__REF); return; }/
future | a release that publishes nothing | CFUTURES_API void cf_future_release( | s/if (cf__cas(&future->refs, &refs, refs - CF__REF))/if (atomic_compare_exchange_strong_explicit(\&future->refs, \&refs, refs - CF__REF, memory_order_relaxed, memory_order_relaxed))/
cancel | a tombstone that is dropped without its reference in sight | static bool cf__move( | s/cf__load_acquire/cf__load_relaxed/
cancel | a claimed task without a reference | static bool cf__claim_entry( | s/(void)cf_future_retain(future);//
drop | a future dropped in two steps | CFUTURES_API void cf_future_release( | s/if ((cf__fetch_or(&future->word, CF__DROPPED) & CF__STATE) != CF__DONE) return;/{ (void)cf__fetch_or(\&future->word, CF__DROPPED); return; }/
drop | an end that overlooks that it was dropped | CF__HOT cf__waiter \*cf__publish( | s/\*dropped = .*/*dropped = false;/
group | a delivery that wakes nobody | static void cf__group_deliver( | s/if ((seen & CF__PARKED) != 0) cf__unpark_all.*//
group | a delivery that publishes nothing | static void cf__group_deliver( | s/if (cf__cas(&group->ready, &seen, (uintptr_t)node | .*))) {/if (atomic_compare_exchange_strong_explicit(\&group->ready, \&seen, (uintptr_t)node, memory_order_relaxed, memory_order_relaxed)) {/
group | a group that is read after its node has gone | static void cf__group_deliver( | s/if (cf__cas(&group->ready, .*/&(void)cf__load_relaxed(\&group->ready);/
group | a close that leaves nodes behind | static void cf__set_close( | s/while (!member->arrived && .*/while (false) {/
idle | a sleeper that announces nothing | static bool cf__set_hungry( | s/cf__store_seq_cst/cf__store_release/
idle | a submitter that looks too soon | static inline cf_status cf__announce( | s/cf__load_seq_cst(&executor->hungry)/cf__load_acquire(\&executor->hungry)/
idle | a task that is announced too late | CF__SHARED void cf__unlock_value( | s/cf__exchange_seq_cst/cf__exchange/
idle | a sleeper without a last look | static bool cf__worker_rest( | s/!cf__looks_busy(worker) &&//
idle | a task that wakes nobody | static bool cf__balance_unlock( | s/if (nudge.wake.*//
child | a push that announces too late | CF__HOT bool cf__deque_push( | s/cf__store_seq_cst/cf__store_release/
child | a parent that looks too soon | CF__HOT bool cf__enqueue_child( | s/cf__load_seq_cst(&executor->hungry)/cf__load_acquire(\&executor->hungry)/
child | a last look that comes too soon | static size_t cf__deque_length( | s/cf__load_seq_cst(&worker->bottom)/cf__load_acquire(\&worker->bottom)/
child | a sleeper that overlooks deques | static bool cf__looks_busy( | s/ || cf__crew_looks_busy(worker)//
handed | a worker with a task in hand that counts as free | static size_t cf__free_workers( | s/ && (uintptr_t)worker != taker//; s/const uintptr_t taker.*/(void)handed;/
handed | a worker that is busy only after it has taken it | static cf_future \*cf__worker_receive( | s/cf__store_seq_cst(&worker->state, seen != CF__SPINS ? CF__BUSY : CF__FREE)/(void)0/; s/cf__prefetch(&future->cell.local);/cf__store_seq_cst(\&worker->state, CF__BUSY);/
hand | a spinner that never says that it has stopped | static cf_future \*cf__worker_receive( | s/while (!cf__cas_seq_cst/seen = cf__load_acquire(\&executor->spinner); while (seen != CF__SPINS \&\& !cf__cas_seq_cst/
hand | a spinner that overlooks what it is handed | static cf_future \*cf__worker_receive( | s/while (!cf__cas_seq_cst.*/cf__store_seq_cst(\&executor->spinner, 0); while (false)/
END
}

# simplify MODEL: what GenMC has to see of the header that it reads. Clock, memory, parking and the
# starting of threads are the model's; arguments are nobody's to free; nobody spins before he sleeps, since each look makes more executions;
# a struct is returned in memory, since one in two registers is read with another size than it was
# written; and except in its own model the lock is GenMC's mutex.
simplify() {
    sed '/^static int64_t cf__now(void)/,/^}/d
        /^static void \*cf__alloc_lines(/,/^}/d
        /^static void cf__free_lines(/,/^}/d
        /^static bool cf__park(cf__word/,/^}/d
        /^CF__COLD void cf__unpark(cf__word/,/^}/d
        /^static bool cf__start_workers(cf_executor \*executor)$/,/^}/d
        /^CF__HOT void cf__cell_drop_arg(/,/^}/{
            /if ((cell->traits/d
        }
        s/\([a-z]\) < 30\([;) ]\)/\1 < 1\2/
        s/^    bool        start; /    void *unused[2]; bool start; /
        s/^static cf__nudge cf__balance(/__attribute__((always_inline)) &/' cfutures.h |
        if [ "$1" = lock ]; then cat; else
            sed '/^CF__SHARED void cf__lock(/,/^}/s/^{/{ MODEL_LOCK(lock); return;/
                /^[a-zA-Z_ ]* void cf__unlock(/s/{.*}/{ MODEL_UNLOCK(lock); }/'
        fi
}

# check MODEL BUG FUNCTION SED: without a bug there must be no error, with one there must be.
check() {
    dir=$out/genmc/$1$(echo "$2" | tr ' ' _)
    mkdir -p "$dir"
    simplify "$1" >"$dir/whole.h"
    if [ -z "$2" ]; then cp "$dir/whole.h" "$dir/cfutures.h"; else
        sed "/^$3/,/^}/{
            $4
        }" "$dir/whole.h" >"$dir/cfutures.h"
        if cmp -s "$dir/whole.h" "$dir/cfutures.h"; then
            fail "$1: $2" "nothing was planted, the header has changed" "see tests/check_models.sh"
            return
        fi
    fi
    have genmc || return 0
    again="genmc --disable-estimation --check-liveness --disable-spin-assume -- -w -std=gnu11"
    again="$again -DGENMC -I$dir tests/models/$1.c"
    # shellcheck disable=SC2086 # words
    within 3600 $again >"$dir/log" 2>&1 </dev/null
    status=$?
    executions=$(sed -n 's/^Number of complete executions explored: //p' "$dir/log")
    error=$(sed -n 's/^Error: //p' "$dir/log")
    case $2:$status:$error in
    :0:) echo "ok      $1: $executions executions" ;;
    :*) fail "$1" "$(grep -v '^WARNING' "$dir/log" | tail -n 40)" "$again" && return ;;
    *:42:'Attempt to access freed memory!')
        fail "$1: $2" 'GenMC loses count of the stack' "$again"
        return
        ;;
    *:42:*[!.]*) echo "found   $2 ($1): ${error%!}" ;;
    *) fail "bug of $1 is not found: $2" "$(tail -n 5 "$dir/log")" "$again" && return ;;
    esac
    pass
    rm -rf "$dir"
}

for model in tests/models/*.c; do
    name=$(basename "$model" .c)
    wanted "$name" || continue
    natively "$name"
    check "$name" ''
done
bugs >"$out/bugs"
while IFS= read -r line; do # without genmc: can each still be planted?
    name=${line%% | *} rest=${line#* | }
    wanted "$name" || continue
    bug=${rest%% | *} rest=${rest#* | }
    check "$name" "$bug" "${rest%% | *}" "${rest#* | }"
done <"$out/bugs"
have genmc || skip 'the models in all their executions' 'no genmc here'
finish
