#!/bin/sh
# Compiles each example by the command of its own first line, with strict warnings, runs it without
# arguments, and compares what it prints with its last comment, where that says "Expected output".
# Then the programs are compared with the tools that they mirror, and a tests/check_<name>.sh (the
# name up to a _) tries a program further. What needs a library that is not here is skipped.
#     sh tests/check_examples.sh [name]          all examples, or one
#     sh tests/check_examples.sh build [name]    only compiles, with CFLAGS, into build/examples/
. tests/lib.sh

# command_of FILE PROGRAM MORE: line 1 is "/* cc ... -o name ... */"; with $CC, PROGRAM and MORE.
command_of() {
    sed -n "1s|^/\* cc \(.*\) -o [^ ]*\(.*\) \*/\$|$CC \1 $3 -o $2\2 $LDFLAGS|p" "$1"
}

# libraries_of FILE: what its command names besides -pthread.
libraries_of() {
    sed -n '1s|.* -o [^ ]*\(.*\) \*/$|\1|p' "$1" | sed 's/ *-pthread *//; s/^ *//'
}

# lacks FILE DIRECTORY: true if it names libraries, and not even an empty program with its #include
# lines can be made with them.
lacks() {
    libraries=$(libraries_of "$1")
    [ -n "$libraries" ] || return
    case $libraries in *'`'*) # where that fails, the command names no library at all
        inner=${libraries#*'`'}
        sh -c "${inner%%'`'*}" >/dev/null 2>&1 || return 0
        ;;
    esac
    {
        echo '#define _DEFAULT_SOURCE 1' # as cfutures.h does
        grep '^#include <' "$1"
        echo 'int main(void) { return 0; }'
    } >"$2/lacks.c"
    probe=$(command_of "$1" "$2/lacks" | sed "s|$1|$2/lacks.c|")
    sh -c "$probe" >/dev/null 2>&1 && found=yes || found=
    rm -f "$2/lacks" "$2/lacks.c"
    [ -z "$found" ]
}

# Under another name first: somebody else may be running or building the program.
build() {
    mkdir -p build/examples
    for source in examples/${1:-*}.c; do
        program=build/examples/$(basename "$source" .c)
        if lacks "$source" build/examples; then
            echo "skipped $program: no $(libraries_of "$source") here"
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
    if lacks "$1" "$out"; then
        skip "$name" "no $(libraries_of "$1") here"
        return
    fi
    must "$name compiles" sh -c "$command"
    [ -x "$out/$name" ] || return
    must "$name runs" within 60 sh -c "cd $out && ./$name >$name.out"
    # shellcheck source=/dev/null
    [ ! -f "tests/check_${name%%_*}.sh" ] || . "tests/check_${name%%_*}.sh"
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
[ ! -f tests/check_programs.sh ] || . tests/check_programs.sh
finish
