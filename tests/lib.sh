# shellcheck shell=sh disable=SC2034
# Sourced by the scripts beside it, which run from the repository's root with CC, CFLAGS, LDFLAGS
# and WERROR from the Makefile. POSIX sh and the tools of every system with a compiler.

: "${CC:=cc}" "${CFLAGS=-O2 -g}" "${LDFLAGS=}" "${WERROR=-Werror}"
export CC CFLAGS LDFLAGS WERROR
LC_ALL=C
export LC_ALL
unset CDPATH

common='-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual'
common="$common -Wcast-align -Wvla $WERROR"
strict="$common -Wstrict-prototypes -Wmissing-prototypes"
strict_cxx=$common

have() {
    command -v "${1%% *}" >/dev/null 2>&1
}

# within SECONDS COMMAND...: with a time limit where the system has `timeout`, in the foreground
# so that what stops the caller also stops the command.
if have timeout; then
    foreground=''
    timeout --foreground 1 true 2>/dev/null && foreground=--foreground
    within() { timeout ${foreground:+"$foreground"} -k 5 "$@"; }
else
    within() { shift && "$@"; }
fi

passed=0 failed=0 skipped=0

pass() {
    passed=$((passed + 1))
}

# fail NAME OUTPUT COMMAND: the command replays it.
fail() {
    failed=$((failed + 1))
    printf 'FAILED %s\n%s\n    again: %s\n' "$1" "$2" "$3"
}

skip() {
    skipped=$((skipped + 1))
    printf 'skipped %s: %s\n' "$1" "$2"
}

# must NAME COMMAND...: passes if the command succeeds.
must() {
    must_name=$1
    shift
    if must_output=$("$@" 2>&1 </dev/null); then
        pass
    else
        fail "$must_name" "$must_output" "$*"
    fi
}

# finish: the closing lines of every test program and script; its status says whether all passed.
finish() {
    [ "$skipped" -eq 0 ] || printf '%d skipped\n' "$skipped"
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ]
}
