#!/bin/sh
# What `make install` puts where, what a user of pkg-config gets, what `make uninstall` leaves.
. tests/lib.sh

out=$(pwd)/${OUT:-build/test/install}
rm -rf "$out"
mkdir -p "$out"

# The make that runs this script must lend neither its job slots nor its macros to those below.
unset MAKEFLAGS MFLAGS MAKELEVEL DESTDIR PREFIX
: "${MAKE:=make}" "${AWK:=awk}"

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

# A manual page for the header and for each of its names, and what else there is.
expected() {
    {
        printf './opt/some/%s\n' include/cfutures.h share/doc/cfutures/LICENSE \
            share/doc/cfutures/README.md share/pkgconfig/cfutures.pc
        $AWK -f .man/pages.awk -v list=1 cfutures.h | sed 's|^|./opt/some/share/man/man3/|'
    } | sort | tr '\n' ' '
}

must 'install to a stage' "$MAKE" install DESTDIR="$out/stage" PREFIX=/opt/some
must 'the staged files' test "$(staged)" = "$(expected)"
must 'everybody may read them' test -z "$(find "$out/stage" -type f ! -perm 644)"
must 'cfutures.pc knows nothing of the stage' test -z "$(grep -r "$out" "$out/stage")"
must 'uninstall from a stage' "$MAKE" uninstall DESTDIR="$out/stage" PREFIX=/opt/some
must 'nothing is left' test -z "$(staged)"

must 'install' "$MAKE" install PREFIX="$out/prefix"
must 'the installed header is this one' cmp cfutures.h "$out/prefix/include/cfutures.h"
# shows DIRECTORY NAME: there is a page of that name, and it has a synopsis.
shows() {
    MANPATH=$1 man "$2" 2>/dev/null | grep -q SYNOPSIS
}
mkdir -p "$out/probe/man3"
printf '.TH PROBE 3\n.SH SYNOPSIS\nprobe\n' >"$out/probe/man3/probe.3"
if shows "$out/probe" probe; then
    for page in cfutures cf_executor_submit cf_future_done CF_VALUE; do
        must "man $page" shows "$out/prefix/share/man" $page
    done
else
    skip 'man cfutures' 'no man that shows pages here'
fi
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
