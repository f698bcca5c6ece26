#!/bin/sh
# Models of the protocols, explored whole by SPIN: tests/models/*.pml. As they stand they must have
# no error, and each of the bugs that their head names must be found.
#
#     LONG=1    with two workers in the model of the shutdown, too: minutes and gigabytes
. tests/lib.sh

out=$(pwd)/${OUT:-build/test/models}
if ! have spin; then
    skip 'the models' 'no spin here'
    finish
    exit
fi

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

for model in tests/models/*.pml; do
    name=$(basename "$model" .pml)
    grep -q '^init' "$model" || continue # what others include
    explore "$name" 0
    bug=1
    while grep -q "^ \* BUG $bug:" "$model"; do
        explore "$name" $bug
        bug=$((bug + 1))
    done
done
[ -z "$LONG" ] || explore shutdown 0 -DWORKERS=2
finish
