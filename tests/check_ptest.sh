# shellcheck shell=sh disable=SC2154
# Sourced by check_examples.sh for ptest, with tests that do what tests should not do.

cat >"$out/bad_tests.c" <<'END'
#include <sys/wait.h>

static void fine(void) {
    puts("nobody wants to know");
}

static void check_fails(void) {
    puts("first line");
    CHECK(2 + 2 == 5);
}

static void segfaults(void) {
    volatile int *volatile nowhere = NULL;
    *nowhere = 1;
}

static void exits(void) {
    exit(0);
}

static void exits_77(void) {
    exit(77);
}

static void overflows_its_stack(void) {
    volatile char block[65536];
    block[0] = 1;
    if (block[0] == 1) {
        overflows_its_stack();
    }
    block[1] = 2;
}

static void eats_memory(void) {
    for (;;) {
        char *block = malloc(1 << 20);
        CHECK(block != NULL);
        memset(block, 1, 1 << 20);
    }
}

static void prints_much(void) {
    for (int i = 0; i < 100000; i++) {
        puts("and so on");
    }
}

static void hangs(void) {
    (void)signal(SIGTERM, SIG_IGN);
    while (pause() < 0) {
    }
}

static void stops(void) {
    (void)raise(SIGSTOP);
}

static void children_hang(void) {
    for (int i = 0; i < 3; i++) {
        if (fork() == 0) {
            hangs();
        }
    }
    (void)dprintf(3, "forked\n");
    hangs();
}

static void children_outlive_it(void) {
    for (int i = 0; i < 3; i++) {
        if (fork() == 0) {
            hangs();
        }
    }
    abort();
}

static void child_is_waited_for(void) {
    const pid_t child = fork();
    if (child == 0) {
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child);
}

static struct test tests[] = {
    TEST(fine, CF_OK),
    TEST(check_fails, CF_OK),
    TEST(segfaults, CF_OK),
    TEST(exits, CF_OK),
    TEST(exits_77, CF_OK),
    TEST(overflows_its_stack, SIGSEGV),
    TEST(eats_memory, 256 + EXIT_FAILURE),
    TEST(prints_much, SIGABRT),
    TEST(hangs, CF_OK),
    TEST(stops, CF_TASK_TIMEOUT),
    TEST(children_hang, CF_TASK_TIMEOUT),
    TEST(children_outlive_it, SIGABRT),
    TEST(child_is_waited_for, CF_OK),
};
END
# What is printed for them, sorted. Of what a test printed the last 4096 bytes are shown.
{
    sed -n '/CHECK(2/=' "$out/bad_tests.c" | sed 's/.*/# TESTS:&: CHECK(2 + 2 == 5)/'
    awk 'BEGIN { print "# so on"; for (i = 0; i < 409; i++) print "# and so on" }'
    cat <<'END'
# first line
1..13
7 passed, 6 failed
not ok - check_fails: worker N exited with status 1
not ok - exits: worker N exited with status 0
not ok - exits_77: worker N exited with status 77
not ok - hangs: timeout
not ok - prints_much: it ended well
not ok - segfaults: worker N was killed by signal 11 (SIGSEGV)
ok - child_is_waited_for
ok - children_hang
ok - children_outlive_it
ok - eats_memory
ok - fine
ok - overflows_its_stack
ok - stops
END
} | sort >"$out/bad_tests.right"

# Whoever is left behind keeps descriptor 3, and so the pipe to cat, open.
bad=$out/bad_tests
must "$name takes tests from a file" sh -c "$CC -std=c11 $CFLAGS -O0 $LDFLAGS $strict -I. -I$out \
    -DTESTS='\"bad_tests.c\"' examples/ptest.c -o $bad -pthread"
judges() {
    { within 60 "$bad" -t 1 -m 128 -j 4 3>&1 >"$bad.out"; echo $? >"$bad.status"; } |
        within 60 cat || return
    sed -e 's/worker [0-9]*/worker N/' -e 's/: the task .*timeout.*/: timeout/' \
        -e 's|^# .*bad_tests.c:|# TESTS:|' "$bad.out" | sort | diff - "$bad.right" &&
        [ "$(cat "$bad.status")" = 1 ]
}
must "$name judges each test by itself" judges

# A signal ends it, and all that its tests have started.
ends_by() {
    rm -f "$bad.fifo"
    mkfifo "$bad.fifo" || return
    "$bad" -t 20 -j 2 -k children_hang 3>"$bad.fifo" >"$bad.out" &
    exec 4<"$bad.fifo"
    read -r line <&4
    kill "-$1" $!
    within 20 cat <&4 || return
    exec 4<&-
    wait $!
    [ $? -eq "$2" ] && [ "$line" = forked ]
}
must "$name ends by Ctrl-C" ends_by INT 130
must "$name ends by kill" ends_by TERM 143
has_help() {
    "$out/$name" --help | grep -q '^usage: ptest '
}
refuses() {
    within 10 "$out/$name" "$@" >"$out/$name.err" 2>&1
    [ $? -eq 2 ] && grep -q -- --help "$out/$name.err"
}
must "$name has a --help" has_help
must "$name refuses a wrong option" refuses -x
must "$name refuses no time" refuses -t 0
must "$name refuses half a number" refuses -j 2x
must "$name keeps what is asked for" sh -c "$bad -k child_ | grep -q '^1 passed, 0 failed'"
must "$name is glad without tests" sh -c "$bad -k nothing | grep -q '^0 passed, 0 failed'"
if have prove; then
    must "$name speaks TAP" within 60 prove -e '' "$out/$name" :: -t 1 -j 1
else
    skip "$name speaks TAP" 'there is no prove here'
fi
