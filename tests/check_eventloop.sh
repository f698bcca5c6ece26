# shellcheck shell=sh disable=SC2154
# Sourced by check_examples.sh for eventloop_poll, eventloop_glib and eventloop_libuv.

loop=$out/$name

# Numbers from a file and from a pipe, with what is to be printed for them, in any order.
awk 'BEGIN {
    for (i = 0; i < 5000; i++) {
        line = i ":"
        rest = i
        for (d = 2; rest > 1; d++) {
            if (d * d > rest) d = rest
            for (; rest % d == 0; rest /= d) line = line " " d
        }
        print line
    }
}' | sort >"$out/factors"
sed 's/:.*//' "$out/factors" >"$out/numbers"
# prints_factors COMMAND
prints_factors() {
    within 60 sh -c "$1" >"$out/$name.out" && sort "$out/$name.out" | cmp - "$out/factors"
}
must "$name reads a file" prints_factors "$loop <$out/numbers"
must "$name reads a pipe" prints_factors "tr '\n' ' ' <$out/numbers | $loop -j 3"

# Errors cost their own line, and the exit status.
wrong="x 12x -3 18446744073709551616 $(printf '%070d' 12)"
reports_errors() {
    echo "6 $wrong 18446744073709551615" >"$out/numbers.wrong"
    within 60 "$loop" <"$out/numbers.wrong" >"$out/$name.out" 2>"$out/$name.err"
    [ $? -eq 1 ] && [ "$(wc -l <"$out/$name.err")" -eq 5 ] || return
    printf '18446744073709551615: 3 5 17 257 641 65537 6700417\n6: 2 3\n' >"$out/$name.right"
    sort "$out/$name.out" | cmp - "$out/$name.right"
}
must "$name reports each error" reports_errors
refuses() {
    within 10 "$loop" "$@" >"$out/$name.out" 2>&1
    [ $? -eq 2 ] && grep -q -- --help "$out/$name.out"
}
must "$name refuses a wrong option" refuses -x
must "$name refuses no workers" refuses -j 0
must "$name refuses an argument" refuses 7
without_input() {
    within 10 "$loop" <&- 2>"$out/$name.err"
    [ $? -eq 1 ] && grep -q 'standard input' "$out/$name.err"
}
must "$name does not hang without standard input" without_input
must "$name has a --help" sh -c "$loop --help | grep -q '^usage: $name '"

# A conversation: each answer comes before the next question, though all the while one worker is
# busy with a prime that takes it most of a second.
converses() {
    rm -f "$out/questions" "$out/answers"
    mkfifo "$out/questions" "$out/answers" || return
    within 60 "$loop" -j 2 <"$out/questions" >"$out/answers" &
    exec 3>"$out/questions" 4<"$out/answers"
    echo 144115188075855859 >&3
    for number in 2 3 5 7 11; do
        echo $number >&3
        read -r line <&4
        [ "$line" = "$number: $number" ] || break
    done
    exec 3>&-
    read -r last <&4
    exec 4<&-
    wait $! && [ "$line, $last" = '11: 11, 144115188075855859: 144115188075855859' ]
}
must "$name answers at once" converses

# On a terminal the wheel of its bar turns, ten times a second, while a worker computes.
ticks() {
    within 60 script -qec "echo 144115188075855859 | $loop" /dev/null >"$out/$name.bar"
    for wheel in '-' "\\" '|'; do
        grep -qF "[$wheel] 0 done, 1 under way" "$out/$name.bar" || return
    done
}
if script -qec true /dev/null >/dev/null 2>&1 </dev/null; then
    must "$name ticks" ticks
else
    skip "$name ticks" 'there is no script here'
fi
