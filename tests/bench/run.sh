#!/bin/sh
# Measures cfutures.h beside other libraries; see bench.h for the workloads. Prints medians,
# ratios and targets, and draws build/bench.svg. No number makes it fail: only a workload of ours
# that crashes, hangs or computes something wrong.
#
#   REPS=5  WORKLOADS='T1 T2c'  PEERS='tbb go'  W=2  N=1000  QUICK=1  sh tests/bench/run.sh
#
# Pinned to one CPU, where nobody may spin: PEERS='glib thpool' taskset -c 0 sh tests/bench/run.sh
#
# All of it runs interleaved: each repetition goes through the workloads, and through the peers of
# each from another starting point.

# Flags and lists are split into words on purpose.
# shellcheck disable=SC2046,SC2086
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/bench/lib.sh

thread_peers='tbb libuv glib gomp boost thpool threadpool async go java-tpe java-fjp python'
: "${PEERS=$thread_peers c-pool c-fork py-ppe py-mp limits limits-shm}"
: "${WORKLOADS:=$(workloads .)}" "${CXX:=c++}"
cxx="$CXX -O2 -std=c++17"

# debian PEER: where it comes from.
debian() {
    case $1 in
    tbb) echo libtbb-dev ;;
    libuv) echo libuv1-dev ;;
    glib) echo 'libglib2.0-dev, pkg-config' ;;
    gomp | cfutures | c-* | limits*) echo gcc ;;
    boost) echo libboost-dev ;;
    thpool) echo cthreadpool-dev ;;
    threadpool) echo libthread-pool-dev ;;
    async) echo g++ ;;
    go) echo golang-go ;;
    java-*) echo default-jdk-headless ;;
    python | py-*) echo python3 ;;
    esac
}

# The first source is in C, or in C++: is this header there?
has_c() { echo "#include <$1>" | $CC -I/usr/include/cthreadpool -E -x c - >/dev/null 2>&1; }
has_cxx() { echo "#include <$1>" | $cxx -E -x c++ - >/dev/null 2>&1; }

is_installed() {
    case $1 in
    tbb) has_cxx tbb/task_group.h ;;
    libuv) has_c uv.h ;;
    glib) have pkg-config && pkg-config --exists glib-2.0 ;;
    gomp) echo 'int main(void) { return 0; }' | $CC -fopenmp -x c - -o "$out/probe" 2>/dev/null ;;
    boost) has_cxx boost/asio/thread_pool.hpp ;;
    thpool) has_c thpool.h ;;
    threadpool) has_cxx thread_pool/thread_pool.hpp ;;
    async) has_cxx future ;;
    go) have go ;;
    java-*) have javac ;;
    python | py-*) have python3 ;;
    limits*) has_c linux/futex.h ;;
    cfutures | c-*) true ;;
    esac
}

compile() {
    case $1 in
    cfutures) build_ours cfutures . ;;
    tbb) $cxx "$bench/tbb.cpp" -o "$out/tbb" -ltbb -lpthread ;;
    libuv) $CC -O2 "$bench/libuv.c" -o "$out/libuv" -luv -lpthread ;;
    glib) $CC -O2 $(pkg-config --cflags glib-2.0) "$bench/glib.c" -o "$out/glib" \
        $(pkg-config --libs glib-2.0) -lpthread ;;
    gomp) $CC -O2 -fopenmp "$bench/gomp.c" -o "$out/gomp" ;;
    boost | threadpool | async) $cxx "$bench/$1.cpp" -o "$out/$1" -lpthread ;;
    thpool) $CC -O2 -I/usr/include/cthreadpool "$bench/thpool.c" -o "$out/thpool" \
        /usr/share/cthreadpool/thpool.c -lpthread ;;
    go) go build -o "$out/goroutines" "$bench/goroutines.go" ;;
    java-*) javac -d "$out/$1" $bench/JavaPools.java ;;
    c-*) $CC -O2 "$bench/procs.c" -o "$out/$1" -lpthread ;;
    limits*) $CC -O2 "$bench/limits.c" -o "$out/$1" -lpthread ;;
    esac
}

# run_peer REPETITION PEER WORKLOAD: its command, and by how much its n is divided, so that slow
# peers do not take all the time.
run_peer() {
    case $2 in
    cfutures) set -- "$@" 1 "$(ours cfutures "$3")" ;;
    go) set -- "$@" 4 "$out/goroutines" ;;
    java-*) set -- "$@" 8 java -cp "$out/$2" JavaPools "${2#java-}" ;;
    python) set -- "$@" 50 python3 "$bench/python_pools.py" threads ;;
    py-ppe) set -- "$@" 20 python3 "$bench/python_pools.py" processes ;;
    py-mp) set -- "$@" 20 python3 "$bench/python_pools.py" multiprocessing ;;
    c-pool) set -- "$@" 1 "$out/$2" pool ;;
    c-fork) set -- "$@" 20 "$out/$2" fork ;;
    limits) set -- "$@" 1 "$out/$2" system ;;
    limits-shm) set -- "$@" 1 "$out/$2" shared ;;
    glib | threadpool) set -- "$@" 10 "$out/$2" ;;
    boost | thpool) set -- "$@" 5 "$out/$2" ;;
    async) set -- "$@" 50 "$out/async" ;;
    *) set -- "$@" 1 "$out/$2" ;;
    esac
    measure "$@"
}

# conditions: of this run, for the table in README.md.
conditions() {
    cpu=$(sed -n 's/^model name[^:]*: /, /p' /proc/cpuinfo 2>/dev/null | head -n 1)
    compiler=$($CC --version | sed 's/ (.*)//; q')
    version=$(sed -n 's/^#define CFUTURES_VERSION_STRING "\(.*\)"/\1/p' cfutures.h)
    echo "# $REPS interleaved runs of cfutures.h $version ($(date -u +%Y-%m-%d), $W workers," \
        "$(getconf _NPROCESSORS_ONLN) CPUs$cpu, $(uname -sm), $compiler)"
}

# Builds all at once, and sorts the peers into present and missing.
build_all() {
    jobs=''
    for peer in cfutures $PEERS; do
        if is_installed "$peer"; then
            compile "$peer" >"$out/$peer.log" 2>&1 &
            jobs="$jobs $peer:$!"
        else
            missing="$missing, $peer ($(debian "$peer"))"
        fi
    done
    for job in $jobs; do
        if wait "${job#*:}"; then
            present="$present ${job%:*}"
        else
            echo "${job%:*} does not build:" >&2
            tail -n 5 "$out/${job%:*}.log" >&2
            [ "${job%:*}" != cfutures ] || exit 1
        fi
    done
}

run_all() {
    repetition=1
    while [ "$repetition" -le "$REPS" ]; do
        turn=$repetition
        for workload in $WORKLOADS; do
            for peer in $(rotate "$turn" $present); do
                run_peer "$repetition" "$peer" "$workload" || [ "$peer" != cfutures ] || failed=1
            done
            turn=$((turn + 1))
        done
        [ ! -t 2 ] || echo "repetition $repetition of $REPS" >&2
        repetition=$((repetition + 1))
    done
}

mkdir -p "$out"
: >"$out/results.txt"
rm -f "$out/conditions.txt"
present='' missing='' failed=0
build_all
echo "W=$W, $REPS repetitions, $(machine)"
[ -z "$missing" ] || echo "missing: ${missing#, }"
run_all

wanted=$(printf '%s ' $WORKLOADS)
awk -v ours=cfutures -f "$bench/stats.awk" -f "$bench/median.awk" "$out/results.txt" \
    >"$out/medians.txt"
awk -v ours=cfutures -v reps="$REPS" -v order="cfutures $PEERS" -v wanted="$wanted" \
    -f "$bench/report.awk" "$bench/workloads.txt" "$out/medians.txt"
awk -v ours=cfutures -v reps="$REPS" -v w="$W" \
    -f "$bench/chart.awk" "$bench/workloads.txt" "$out/medians.txt" >build/bench.svg
echo 'chart: build/bench.svg'
[ -n "$QUICK$N" ] || conditions >"$out/conditions.txt"
exit $failed
