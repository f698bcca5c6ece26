#!/bin/sh
# Is the controlled scheduler worth something? Bugs are planted in copies of the header, one at a
# time, and each must be found by a scenario within 1,000 seeds; see check_sched.sh.
. tests/lib.sh
. tests/sched/lib.sh

seeds=${SCHEDULES:-1000}
# mutants: one a line: its name | the scenario that must find it | the function or line where | what
# sed does there.
mutants() {
    cat <<'END'
a relaxed announcement of a task in a deque | child_needs_another_worker | /^CF__HOT bool cf__deque_push/,/^}/ | s/cf__store_seq_cst/cf__store_release/
a relaxed announcement of a sleeper | submit_to_a_parking_worker | /^static bool cf__set_hungry/,/^}/ | s/cf__store_seq_cst/cf__store_release/
a spinner that never says that it has stopped | submit_to_a_parking_worker | /^static cf_future \*cf__worker_receive/,/^}/ | s/while (!cf__cas_seq_cst/seen = cf__load_acquire(\&executor->spinner); while (seen != CF__SPINS \&\& !cf__cas_seq_cst/
a spinner that overlooks what it is handed | submit_to_a_parking_worker | /^static cf_future \*cf__worker_receive/,/^}/ | s/while (!cf__cas_seq_cst.*/cf__store_seq_cst(\&executor->spinner, 0); while (false)/
a worker that lies down without a last look | submit_to_a_parking_worker | /^static bool cf__worker_rest/,/^}/ | s/!cf__looks_busy(worker) &&//
a worker that has a task in hand and counts as free | all_workers_meet | /^static size_t cf__free_workers/,/^}/ | s/ && (uintptr_t)worker != taker//; s/const uintptr_t taker.*/(void)handed;/
a worker in its initializer that counts as free | task_needed_by_an_initializer | /^static cf__worker \*cf__worker_new/,/^}/ | s/CF__BUSY/CF__FREE/
a worker that leaves while another carries a task | callback_needs_the_task_in_hand | /^static bool cf__is_carried/,/^}/ | s/return true/return false/
a tombstone that hides a task | tombstone_hides_nothing | /^CF__COLD void cf__bury/,/^}/ | s/if (cf__load_relaxed.*//
a deque's owner that announces nothing | deque_gives_each_once | /^CF__HOT cf_future \*cf__deque_pop/,/^}/ | s/cf__store_seq_cst/cf__store_release/
a thief that takes without a claim | deque_owner_against_thief | /^static cf_future \*cf__deque_steal/,/^}/ | s/return cf__cas_seq_cst.*/cf__store_release(\&worker->top, top + 1); return future;/
a claim in two steps | cancel_against_start_and_wait | /^static bool cf__move/,/^}/ | s/if (cf__cas(.*) return true;/{ cf__store_release(\&future->word, (seen \& ~CF__STATE) | to); return true; }/
an unpark dropped when a future ends | submit_result_close | /^CF__HOT cf__waiter \*cf__publish/,/^}/ | s/if (.*cf__unpark_all.*//
an unpark dropped when a task comes | submit_to_a_parking_worker | /^static bool cf__balance_unlock/,/^}/ | s/if (nudge.wake.*//
an unpark dropped when a group gets its node | as_completed_delivers_each | /^static void cf__group_deliver/,/^}/ | s/if ((seen & CF__PARKED) != 0) cf__unpark_all.*//
a waiter that parks without saying so | submit_result_close | /^static bool cf__park_on/,/^}/ | s/if (seen != parked.*//; s/return cf__park(word, parked/return cf__park(word, seen/
a worker that trusts its wake-up | submit_to_a_parking_worker | /^static void cf__worker_sleep/,/^}/ | s/while (cf__load_acquire/if (cf__load_acquire/
a waiter that trusts its wake-up | wait_for_several | /^static cf_status cf__park_until/,/^}/ | s/if (!cf__park_on(\(.*\))) status = CF_TIMEOUT;/return cf__park_on(\1) ? CF_OK : CF_TIMEOUT;/
an unlock that looks first | two_submitters | /^CF__SHARED void cf__unlock_value/,/^}/ | s/if ((cf__exchange_seq_cst(lock, value)/const uintptr_t was = cf__load_relaxed(lock); cf__store_release(lock, value); if ((was/
a missing reference of a claimed task | nested_wait_claims | /^static bool cf__claim_entry/,/^}/ | s/(void)cf_future_retain(future);//
an iterator that does not look at duplicates again | as_completed_meets_duplicates | /^static bool cf__early_watch/,/^}/ | s/if (iter->early_left > 0) (void)cf__early_sift.*//
an iterator whose members have no duplicates | as_completed_meets_duplicates | /^static size_t cf__early_sift/,/^}/ | s/if (cf__is_done(member->waiter.future))/if (false)/
an iterator that shares its count | as_completed_meets_duplicates | /^static uintptr_t cf__count_begin/,/^}/ | s/return ticket += 2/return ticket/
a count that nobody guards | as_completed_meets_duplicates | /^static uintptr_t cf__count_begin/,/^}/ | s/cf__lock(&cf__count_lock);//
a group that is read after its node has gone | as_completed_closes_early | /^static void cf__group_deliver/,/^}/ | s/if (cf__cas(&group->ready, .*/&(void)cf__load_relaxed(\&group->signal_lock);/
an iterator that leaves nodes behind | as_completed_closes_early | /^static void cf__set_close/,/^}/ | s/while (!member->arrived && .*/while (false) {/
callbacks after the last release | callbacks_while_it_settles | /^CF__HOT void cf__complete/,/^}/ | s/if (callbacks != NULL).*//
a shutdown that wakes one of two | shutdown_by_two_threads | /^static void cf__leave_unlock/,/^}/ | s/cf__unpark_all/cf__futex_one/; s/cf__futex_one(/cf__unpark_one(/
a shutdown that forgets blocked submitters | shutdown_frees_a_submitter | /^static void cf__close_door/,/^}/ | s/cf__unpark_all(&executor->space);//
a shutdown that forgets the first task | submit_against_shutdown | /^static void cf__close_door/,/^}/ | s/const bool start = .*/const bool start = false;/
a shutdown that does not wait for another | shutdown_by_two_threads | /^static void cf__cancel_all/,/^}/ | s/cf__visit_enter.*/(void)visit;/; s/cf__visit_end.*//
a cancel that forgets who waits for room | cancel_makes_room | /^static void cf__end_unrun/,/^}/ | s/cf__unlock_space(executor)/cf__unlock(\&executor->lock)/
a claim that tells nobody of the room | claim_makes_room | /^CF__SLOW bool cf__claim_and_run/,/^}/ | s/if (executor->bounded) {/if (false) {/
a late cancel that hides another task | late_cancel_hides_nothing | /^static bool cf__claim_entry/,/^}/ | s/(void)cf_future_retain(future);/(void)cf_future_retain(future); (void)cf__fetch_add(\&executor->dead, 1); if (cf__move(future, CF__PENDING, state)) return true; (void)cf__fetch_add(\&executor->dead, 0 - (uintptr_t)1); cf_future_release(future); return false;/
a worker that is another one while it runs for others | workers_run_for_another_executor | /^static void cf__run_here/,/^}/ | s/(void)cf__fetch_add(&executor->caller_started, 1);/if (self->worker != NULL) self->worker = self->worker->executor->workers[0]; &/
a cycle that nobody looks for | cycle_across_executors | /^static bool cf__wait_begin/,/^}/ | s/const bool stuck = .*/const bool stuck = false;/
a cycle overlooked while a worker starts | cycle_while_a_worker_starts | /^static bool cf__reach_pool/,/^}/ | s/cf__in_transit = !stuck/cf__in_transit = false/
a cycle seen where there is none | chain_is_no_cycle | /^static bool cf__reach_future/,/^}/ | s/return waiting != NULL .*/return waiting == NULL || cf__reach(waiting, todo);/
a last reference that two drop | last_reference_of_a_promise | /^CFUTURES_API void cf_future_release/,/^}/ | s/if (cf__cas(&future->refs, &refs, refs - CF__REF)) return;/{ cf__store_release(\&future->refs, refs - CF__REF); return; }/
a map that cuts a chunk which runs | chunk_of_a_mapper_without_a_worker | /^static void cf__map_submit/,/^}/ | s/ \&\& cf__is_done(future).*/;/
a map that gives a range twice | map_array_fills_all | /^static bool cf__part_take/,/^}/ | s/if (cf__cas(.*) return true;/{ cf__store_release(\&part->ends, ends + 1); return true; }/
END
}

# plant NUMBER: one of them, in a process of its own. Prints what became of it.
plant() {
    line=$(mutants | sed -n "$1p")
    name=${line%% | *} rest=${line#* | }
    scenario=${rest%% | *} rest=${rest#* | }
    where=${rest%% | *} what=${rest#* | }
    copy=$sched/mutant$1
    sed "$where{
        $what
    }" cfutures.h >"$copy.h"
    if cmp -s cfutures.h "$copy.h"; then
        echo "SURVIVES $name: nothing was planted, the header has changed"
        return
    fi
    # shellcheck disable=SC2086 # flags are words
    if ! $CC $sched_flags -w -O0 -g0 "-DHEADER=\"../../$copy.h\"" tests/sched/scenarios.c \
        "$sched/control.o" -no-pie -o "$copy" >"$copy.log" 2>&1; then
        echo "SURVIVES $name: it does not compile, see $copy.log"
        return
    fi
    if within 120 "$copy" -n "$seeds" "$scenario" >"$copy.log" 2>&1 </dev/null ||
        ! grep -q '^FAILED' "$copy.log"; then
        echo "SURVIVES $name: $seeds seeds of $scenario, see $copy.log"
        return
    fi
    sed -n "s/^FAILED \(.*\), seed \([0-9]*\): \(.*\)/found    $name: seed \2 of \1: \3/p" "$copy.log"
    rm -f "$copy" "$copy.h"
}

if [ "$1" = --plant ]; then
    plant "$2"
    exit
fi

why=$(sched_unavailable)
if [ -n "$why" ]; then
    skip 'the planted bugs' "$why"
    finish
    exit
fi
# shellcheck disable=SC2086 # flags are words
must 'the scheduler compiles' $CC $sched_flags -O2 -c tests/sched/control.c -o "$sched/control.o"

count=$(mutants | wc -l)
i=0
while [ $i -lt "$count" ]; do
    i=$((i + 1))
    echo $i
done | xargs -P "${JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)}" -n 1 \
    sh tests/check_mutants.sh --plant >"$sched/mutants.log" 2>&1
sort "$sched/mutants.log"
found=$(grep -c '^found ' "$sched/mutants.log")
passed=$((passed + found)) failed=$((failed + count - found))
finish
