#!/bin/sh
# The header as a thing to include: standards, warnings, C++, several files, what it exports.
. tests/lib.sh

out=${OUT:-build/test/header}
mkdir -p "$out"

# file NAME LINES...: a source made of these lines.
file() {
    name=$out/$1
    shift
    printf '%s\n' "$@" >"$name"
}

# compiles CLAIM FLAGS FILE; links CLAIM FLAGS FILE...: the program must also run.
compiles() {
    case $2 in
    *-fsyntax-only*) result='' ;; # clang-22 warns of what is not used then
    *) result="-c -o $out/object.o" ;;
    esac
    # shellcheck disable=SC2086 # flags are words
    must "$1" $CC $2 $strict -I. $result "$out/$3"
}

links() {
    claim=$1 flags=$2
    shift 2
    # shellcheck disable=SC2086 # flags are words
    must "$claim: link" $CC $flags $CFLAGS $LDFLAGS $strict -I. "$@" -o "$out/program" -pthread
    must "$claim: run" "$out/program"
}

implement='#define CFUTURES_IMPLEMENTATION'
include='#include "cfutures.h"'
version_of() { echo "const char *$1(void); const char *$1(void) { return cf_version(); }"; }
same='#include <string.h>
const char *other(void);
int main(void) { return strcmp(cf_version(), other()) == 0 ? 0 : 1; }'

file declare.c "$include" 'int main(void) { return CF_OK; }'
file implement.c "$implement" "$include"
file late.c '#include <errno.h>' '#include <limits.h>' '#include <pthread.h>' \
    '#include <stdatomic.h>' '#include <stdio.h>' '#include <stdlib.h>' '#include <string.h>' \
    '#include <time.h>' '#include <unistd.h>' "$implement" "$include"
file twice.c "$include" "$include" "$implement" "$include" "$include"
file static.c '#define CFUTURES_STATIC' "$implement" "$include"
file main.c "$implement" "$include" "$same"
file other.c "$include" "$(version_of other)"
file static_main.c '#define CFUTURES_STATIC' "$implement" "$include" "$same"
file static_other.c '#define CFUTURES_STATIC' "$implement" "$include" "$(version_of other)"
file declare.cpp "$include" 'int main() { return cf_version() != nullptr ? CF_OK : CF_INVALID; }'
file implement.cpp "$implement" "$include"

for backend in '' -DCFUTURES_PTHREADS -DCFUTURES_POSIX -DCFUTURES_NO_FUTEX; do
    for standard in c11 gnu11 c17 c2x; do
        flags="-std=$standard $backend -fsyntax-only"
        compiles "declarations, $standard $backend" "$flags" declare.c
        compiles "implementation, $standard $backend" "$flags" implement.c
    done
    compiles "implementation, -O2 $backend" "-std=c11 -O2 $backend" implement.c
    compiles "implementation, static, -O2 $backend" "-std=c11 -O2 $backend" static.c
done
for flags in -O0 -Os '-O2 -DNDEBUG' "-Os -DCFUTURES_POSIX -DCFUTURES_NO_FUTEX"; do
    compiles "implementation, $flags" "-std=c11 $flags" implement.c
done
for flags in -U__linux__ '-U__linux__ -DCFUTURES_POSIX' '-U__linux__ -U__unix__ -U__unix' \
    '-D_DEFAULT_SOURCE -include assert.h -DCFUTURES_ASSERT=assert -DCFUTURES_POSIX'; do
    compiles "implementation, $flags" "-std=c11 $flags -fsyntax-only" implement.c
done
$CC -fsanitize=undefined -c -x c /dev/null -o "$out/object.o" >/dev/null 2>&1 &&
    compiles 'checked for undefined behaviour' '-std=c11 -O1 -fsanitize=undefined' implement.c
compiles 'after the headers of libc' '-std=c11 -fsyntax-only' late.c
for flags in -std=c11 '-std=c2x -DCFUTURES_NO_FUTEX'; do # -pthread shows some names of POSIX
    compiles "after the headers of libc, $flags" "$flags -pthread -fsyntax-only" late.c
done
for flags in -DCFUTURES_POSIX '-DCFUTURES_POSIX -pthread' -DCFUTURES_PTHREADS; do
    # shellcheck disable=SC2086 # flags are words
    message=$($CC -std=c11 $flags -I. -fsyntax-only "$out/late.c" 2>&1)
    case $message in
    *'include cfutures.h first'* | '') pass ;; # some libc hides nothing
    *) fail "too late for POSIX names, $flags: an #error says so" "$message" "$CC late.c" ;;
    esac
done
compiles 'after the headers of libc, POSIX' '-std=gnu11 -DCFUTURES_POSIX -fsyntax-only' late.c
compiles 'included again and again' '-std=c11 -fsyntax-only' twice.c
links 'two files, one implementation' -std=c11 "$out/main.c" "$out/other.c"
links 'a static implementation in each file' -std=c11 "$out/static_main.c" "$out/static_other.c"

# The interface needs three headers, so that it compiles as C++ and where threads.h is missing.
# shellcheck disable=SC2086 # flags are words
needed=$($CC -std=c11 -I. -M "$out/declare.c" | tr ' ' '\n' |
    grep -E '/(threads|stdatomic|pthread|stdlib|string|unistd)\.h$')
if [ -z "$needed" ]; then pass; else fail 'the interface includes little' "$needed" "$CC -M"; fi

if have nm && nm --version >/dev/null 2>&1; then
    # shellcheck disable=SC2086 # flags are words
    $CC -std=c11 -O2 -DCFUTURES_POSIX -I. -c "$out/implement.c" -o "$out/exports.o"
    foreign=$(nm -g "$out/exports.o" | awk 'NF == 3 && $2 != "U" && $3 !~ /^_?cf_/ { print $3 }')
    if [ -z "$foreign" ]; then pass; else fail 'exports cf_ names alone' "$foreign" 'nm -g'; fi
else
    skip 'exported names' 'no nm here'
fi

case $CC in clang*) cxx=clang++${CC#clang} ;; *musl*) cxx=musl-g++ ;; *) cxx=c++ ;; esac
if have "$cxx"; then
    for flags in -std=c++11 "-std=c++11 -DCFUTURES_POSIX" -std=c++14 -std=c++17 -std=c++20 \
        -std=c++2b; do
        # shellcheck disable=SC2086 # flags are words
        must "declarations, $flags" $cxx $flags $strict_cxx -I. -fsyntax-only "$out/declare.cpp"
    done
    message=$($cxx -std=c++11 -I. -fsyntax-only "$out/implement.cpp" 2>&1)
    case $message in
    *'#error'*) pass ;;
    *) fail 'the implementation in C++ is an #error' "$message" "$cxx $out/implement.cpp" ;;
    esac
else
    skip 'the declarations as C++' "no $cxx here"
fi

finish
