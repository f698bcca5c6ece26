# shellcheck shell=sh disable=SC2154,SC2034
# Sourced by check_sched.sh and check_mutants.sh: how the scenarios are built.

sched=${OUT:-build/test/sched}
mkdir -p "$sched"
# gnu11 for makecontext. Places in the code are told by return addresses, so calls stay calls.
# Fortified longjmp refuses to go to another stack.
sched_flags="-std=gnu11 -g -fno-optimize-sibling-calls -U_FORTIFY_SOURCE -fno-pie $strict"

sched_unavailable() {
    printf '#include <ucontext.h>\n#ifndef __linux__\n#error\n#endif\n' >"$sched/probe.c"
    printf 'int main(void) { return getcontext(&(ucontext_t){0}); }\n' >>"$sched/probe.c"
    # shellcheck disable=SC2086 # flags are words
    $CC $sched_flags -Wno-missing-field-initializers -no-pie "$sched/probe.c" \
        -o "$sched/probe" 2>/dev/null || echo "no Linux, or no makecontext, or no -no-pie for $CC"
}
