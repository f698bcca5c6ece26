#!/bin/sh
# Compiles each example by the command of its own first line, with strict warnings, runs it without
# arguments, and compares what it prints with its last comment, where that says "Expected output".
# Where there is a tests/check_<name>.sh (up to a _ in the name), that tries the program further.
# An example whose library is missing is skipped, and named.
#     sh tests/check_examples.sh [name]          all examples, or one
#     sh tests/check_examples.sh build [name]    only compiles, with CFLAGS, into build/examples/
. tests/lib.sh

# command_of FILE PROGRAM MORE: line 1 is "/* cc ... -o name ... */"; with $CC, PROGRAM and MORE.
command_of() {
    sed -n "1s|^/\* cc \(.*\) -o [^ ]*\(.*\) \*/\$|$CC \1 $3 -o $2\2 $LDFLAGS|p" "$1"
}

# missing_of FILE PROBE: the libraries that its command names, by -l or `pkg-config`, if they cannot
# be linked here. PROBE is the program with which this is tried.
missing_of() {
    libraries=$(sed -n '1s|^/\* cc .* -o [^ ]* \(.*\) \*/$|\1|p' "$1")
    case $libraries in *'`'* | *-l*) ;; *) return ;; esac
    inner=${libraries#*'`'}
    [ "$inner" != "$libraries" ] || inner=true
    echo 'int main(void) { return 0; }' >"$2.c"
    sh -c "${inner%%'`'*} && $CC $2.c -o $2 $libraries $LDFLAGS" >/dev/null 2>&1 ||
        echo "$libraries"
    rm -f "$2.c" "$2"
}

# Under another name first: somebody else may be running or building the program.
build() {
    mkdir -p build/examples
    for source in examples/${1:-*}.c; do
        program=build/examples/$(basename "$source" .c)
        missing=$(missing_of "$source" "$program.$$")
        if [ -n "$missing" ]; then
            echo "skipped $(basename "$program"): there is no $missing"
            continue
        fi
        command_of "$source" "$program" "$CFLAGS"
        sh -c "$(command_of "$source" "$program.$$" "$CFLAGS")" && mv "$program.$$" "$program" ||
            exit
    done
}

expected_of() {
    awk '/^\*\/$/ { on = 0 } on { print } /^\/\* Expected output:$/ { on = 1 }' "$1"
}

# Threads may print lines in any order; such an example says "LC_ALL=C sort" above its output.
arranged() {
    if grep -q 'LC_ALL=C sort' "$1"; then sort; else cat; fi
}

check() {
    name=$(basename "$1" .c)
    command=$(command_of "$1" "$out/$name" "$strict")
    if [ -z "$command" ]; then
        fail "$name" 'Line 1 is not "/* cc ... -o name ... */".' "head -n 1 $1"
        return
    fi
    missing=$(missing_of "$1" "$out/$name.probe")
    if [ -n "$missing" ]; then
        skip "$name" "there is no $missing"
        return
    fi
    must "$name compiles" sh -c "$command"
    [ -x "$out/$name" ] || return
    must "$name runs" within 60 sh -c "cd $out && ./$name >$name.out"
    further=tests/check_${name%%_*}.sh
    # shellcheck source=/dev/null
    [ ! -f "$further" ] || . "$further"
    grep -q '^/\* Expected output:$' "$1" || return
    expected_of "$1" | arranged "$1" >"$out/$name.expected"
    arranged "$1" <"$out/$name.out" >"$out/$name.printed"
    must "$name prints what it says" diff "$out/$name.expected" "$out/$name.printed"
}

if [ "$1" = build ]; then
    build "$2"
    exit
fi
out=${OUT:-build/test/examples}
mkdir -p "$out"
for source in examples/${1:-*}.c; do check "$source"; done
finish
