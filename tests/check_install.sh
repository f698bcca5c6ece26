#!/bin/sh
# What `make install` puts where, what a user of pkg-config gets, what `make uninstall` leaves.
. tests/lib.sh

out=$(pwd)/${OUT:-build/test/install}
rm -rf "$out"
mkdir -p "$out"

# The make that runs this script must lend neither its job slots nor its macros to those below.
unset MAKEFLAGS MFLAGS MAKELEVEL DESTDIR PREFIX
: "${MAKE:=make}"

cat >"$out/consumer.c" <<'END'
#define CFUTURES_IMPLEMENTATION
#include <cfutures.h>
#include <stdio.h>
int main(void) { return puts(cf_version()) < 0; }
END

files() {
    (cd "$1" && find . -type f | sort)
}

staged() {
    files "$out/stage" | tr '\n' ' '
}

must 'install to a stage' "$MAKE" install DESTDIR="$out/stage" PREFIX=/opt/some
must 'the staged files' test "$(staged)" = "$(printf './opt/some/%s ' include/cfutures.h \
    share/doc/cfutures/LICENSE share/doc/cfutures/README.md share/pkgconfig/cfutures.pc)"
must 'cfutures.pc knows nothing of the stage' test -z "$(grep -r "$out" "$out/stage")"
must 'uninstall from a stage' "$MAKE" uninstall DESTDIR="$out/stage" PREFIX=/opt/some
must 'nothing is left' test -z "$(staged)"

must 'install' "$MAKE" install PREFIX="$out/prefix"
must 'the installed header is this one' cmp cfutures.h "$out/prefix/include/cfutures.h"
if have pkg-config; then
    PKG_CONFIG_PATH=$out/prefix/share/pkgconfig
    export PKG_CONFIG_PATH
    version=$(sed -n 's/^#define CFUTURES_VERSION_STRING "\(.*\)"/\1/p' cfutures.h)
    must 'pkg-config knows the version' pkg-config --exact-version="$version" cfutures
    # shellcheck disable=SC2046,SC2086 # flags are words
    must 'a consumer compiles' $CC -std=c11 $CFLAGS "$out/consumer.c" -o "$out/consumer" $(
        pkg-config --cflags --libs cfutures)
    must 'the consumer runs' test "$("$out/consumer")" = "$version"
else
    skip 'a consumer of cfutures.pc' 'no pkg-config here'
fi
echo kept >"$out/prefix/include/other.h"
must 'uninstall' "$MAKE" uninstall PREFIX="$out/prefix"
must 'only a file of somebody else is left' test "$(files "$out/prefix")" = ./include/other.h

finish
