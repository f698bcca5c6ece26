#!/bin/sh
# Are the tests any good? Plants one bug at a time in a copy of the header, and runs the harness that
# is there to find it: it must fail. PLANTS names those wanted; default: all. (The
# bugs for the controlled scheduler are in check_mutants.sh.)
. tests/lib.sh

: "${OUT:=build/plants}"
fixed=''
if have setarch && setarch "$(uname -m)" -R true 2>/dev/null; then
    fixed="setarch $(uname -m) -R" # newer kernels spread programs too widely for shadow memory
fi
hooks='-DCFUTURES_MALLOC=test_malloc -DCFUTURES_FREE=test_free'

# plant NAME SANITIZER UNIT TESTS FUNCTION SED: in the body of that function of the header the sed
# command makes the bug; the program UNIT must fail when it runs TESTS.
plant() {
    case " ${PLANTS:-$1} " in *" $1 "*) ;; *) return ;; esac
    dir=$OUT/$1
    mkdir -p "$dir"
    sed "/^[a-zA-Z].*[ *]$5(.*[^;]\$/,/^}/$6" cfutures.h >"$dir/cfutures.h"
    if cmp -s cfutures.h "$dir/cfutures.h"; then
        fail "$1" "The bug could not be planted: $5 has changed." "see tests/check_plants.sh"
        return
    fi
    flags='-std=c11 -O1 -g -w' defs="$hooks -DCFUTURES_POSIX" wrap='env CF_TEST_SCALE=1'
    if [ "$2" = thread ]; then
        flags="$flags -fsanitize=thread" defs=-DCFUTURES_POSIX
        wrap='env CF_TEST_SCALE=3 TSAN_OPTIONS=halt_on_error=1:history_size=7:die_after_fork=0'
        wrap="$wrap $fixed"
    fi
    link=$(sed -n 's/^ \* link: //p' "tests/$3.c" | tr '\n' ' ')
    # shellcheck disable=SC2086 # commands of words
    if ! { $CC $flags "-I$dir" -Itests -DCFUTURES_POSIX $defs tests/impl.c "tests/$3.c" \
        -o "$dir/$3" $link $LDFLAGS -pthread; } >"$dir/log" 2>&1; then
        case $2:$(cat "$dir/log") in
        thread:*tsan*) skip "$1" "$CC has no ThreadSanitizer" ;;
        *) fail "$1" "$(cat "$dir/log")" "see tests/check_plants.sh" ;;
        esac
        return
    fi
    # shellcheck disable=SC2086
    if CF_TEST_SEEDS=${SEEDS:-300} within 120 $wrap "$dir/$3" $4 >"$dir/log" 2>&1 </dev/null; then
        fail "$1" "$3 $4 did not notice the bug in $5." "$wrap $dir/$3 $4"
    else
        pass
        echo "found   $1: $(grep -m 1 -E 'CHECK|HANG|CRASH|SUMMARY|before,' "$dir/log")"
    fi
}

# The randomized driver, natively.
plant double_callback none test_stress any_seed cf__run_callback \
    's/^ *[a-z>-]*callback(future, [a-z>-]*user);/&&/'
plant lost_wake_up none test_stress any_seed cf__publish \
    's/if ((seen \& CF__PARKED) != 0) cf__unpark_all(&future->word);//'
plant looks_before_it_lies_down none test_stress any_seed cf__worker_rest \
    's/const bool asleep = !cf__looks_busy(worker) \&\&/const bool asleep =/'
plant unit_passed_round none test_map what_a_worker_of_map_array_steals_it_runs cf__part_steal \
    's/cf__ends(middle + 1, high));/cf__ends(middle, high)); return cf__part_take(\&sweep->parts[own], unit) || cf__part_steal(sweep, own, unit);/'
# The same under ThreadSanitizer.
plant unlocked_counter thread test_stress any_seed cf__end_unrun \
    's/cf__lock(&executor->lock);/executor->cancelled++; & executor->cancelled--;/'
# Refused calls.
plant leak_where_memory_ends none test_faults memory_is_refused cf__iter_new \
    's/^    cf_as_completed_close(iter);//'
plant lost_free_arg none test_faults memory_is_refused cf__future_make \
    's/if (options != NULL \&\& options->free_arg != NULL) options/if (0) options/'
plant starting_for_ever none test_faults threads_are_refused cf__start_workers \
    's/executor->starting = false;/executor->starting = !done;/'
plant refused_descriptor none test_process_faults room_in_shared_memory_is_refused \
    cf__memory_open 's/(void)close(fd);//'
# Killed workers.
plant run_twice none test_process_storm a_storm_over_a_plain_pool cf__lane_take_back \
    's/!cf__cas_seq_cst(&slot->word, &seen, CF__SLOT_FREE)/cf__load_acquire(\&slot->word) == CF__SLOT_ENDED/'
finish
