# shellcheck shell=sh disable=SC2086
# Sourced by run.sh, compare.sh and growth.sh, in the repository's root: how ours is built, and how
# one workload is run.

. tests/lib.sh

bench=tests/bench
out=build/bench
: "${W:=2}" "${REPS:=5}" "${QUICK:=}" "${N:=}"

# machine: what the figures of this run depend on.
machine() {
    printf '%s CPUs, %s, %s\n' "$(getconf _NPROCESSORS_ONLN)" "$(uname -srm)" \
        "$(uptime | sed 's/.*load/load/')"
}

# workloads PATTERN: the names of workloads.txt that match.
workloads() {
    awk -v pattern="$1" '!/^#/ && $1 ~ pattern { print $1 }' "$bench/workloads.txt"
}

# tasks WORKLOAD DIVISOR: how many; N overrides all of it.
tasks() {
    awk -v name="$1" -v divisor="$2" -v quick="$QUICK" -v n="$N" '
        $1 == name {
            count = n ? n : quick ? $3 : $2
            few = n || $4 == "-" ? count : int(count / divisor)
            print few < count && few < $4 ? $4 : few
        }' "$bench/workloads.txt"
}

# build_ours NAME DIRECTORY: with the header of that directory, NAME for the workloads of threads on
# the backend that the header chooses by itself, and NAME-posix for those of processes, with
# CFUTURES_POSIX. Status 2: only the latter does not build.
build_ours() {
    rm -f "$out/$1" "$out/$1-posix"
    $CC $CFLAGS "-I$2" "$bench/cfutures.c" -o "$out/$1" $LDFLAGS -lpthread || return 1
    $CC $CFLAGS "-I$2" -DCFUTURES_POSIX "$bench/cfutures.c" -o "$out/$1-posix" $LDFLAGS \
        -lpthread || return 2
}

# ours NAME WORKLOAD: which of the two.
ours() {
    case $2 in
    P*) echo "$out/$1-posix" ;;
    *) echo "$out/$1" ;;
    esac
}

# measure REPETITION PEER WORKLOAD DIVISOR COMMAND...: appends "repetition peer workload value ..."
# to the results. A peer without that workload is left out, any other failure is told.
measure() {
    repetition=$1 peer=$2 workload=$3 divisor=$4
    shift 4
    workers=$W
    [ "$workload" != T7s ] || workers=20
    within 60 "$@" "$workload" "$workers" "$(tasks "$workload" "$divisor")" \
        >"$out/line.txt" 2>"$out/errors.log"
    status=$?
    if [ "$status" -eq 0 ]; then
        sed "s|^[^ ]*|$repetition $peer|" "$out/line.txt" >>"$out/results.txt"
    elif [ "$status" -ne 3 ]; then
        echo "$peer $workload failed with status $status: $(tail -n 1 "$out/errors.log")" >&2
        return 1
    fi
}

# rotate K LIST...: the list from its element K on, round.
rotate() {
    turns=$1
    shift
    turns=$((turns % $#))
    while [ "$turns" -gt 0 ]; do
        first=$1
        shift
        set -- "$@" "$first"
        turns=$((turns - 1))
    done
    echo "$@"
}
