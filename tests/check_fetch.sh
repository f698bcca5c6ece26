# shellcheck shell=sh disable=SC2154
# Sourced by check_examples.sh for fetch, with tests/server.c at the other end.

fetch=$out/$name saved=$out/saved
no_proxy=127.0.0.1
export no_proxy

# shellcheck disable=SC2086 # flags are words
must 'the server compiles' $CC -std=c11 $CFLAGS -O0 $LDFLAGS $strict -I. tests/server.c \
    -o "$out/server" -pthread
rm -f "$out/open" "$out/port"
mkfifo "$out/open" "$out/port"
"$out/server" <"$out/open" >"$out/port" &
exec 5>"$out/open" # the server runs until this is closed
read -r port <"$out/port"
url=http://127.0.0.1:$port

# fetches STATUS OPTION...: into an empty directory, with that exit status.
fetches() {
    wanted=$1
    shift
    rm -rf "$saved"
    mkdir "$saved"
    within 60 "$fetch" -o "$saved" "$@" >"$out/$name.out" 2>"$out/$name.err"
    [ $? -eq "$wanted" ]
}
# left NAME...: exactly these files, in alphabetical order.
left() {
    (cd "$saved" && find . -type f | sort | sed 's|^\./||') >"$out/$name.files"
    printf '%s\n' "$@" | sed '/^$/d' | cmp - "$out/$name.files"
}

many() {
    awk -v url="$url" 'BEGIN {
        print "# a list\n"
        for (i = 0; i < 50; i++) printf "%s/bytes/%d/file%d?x=/y#z\r\n", url, i * 1000, i
    }' >"$out/urls"
    fetches 0 -j 7 <"$out/urls" || return
    for i in 0 7 49; do
        [ "$(wc -c <"$saved/file$i")" -eq $((i * 1000)) ] || return
        [ -z "$(tr -d x <"$saved/file$i")" ] || return
    done
    find "$saved" -type f | sort >"$out/names"
    [ "$(wc -l <"$out/names")" -eq 50 ] && sort "$out/$name.out" | cmp - "$out/names"
}
must "$name saves each URL of a list" many

# Each error costs its own file.
reports_errors() {
    fetches 1 "$url/status/404/a" "$url/bytes/10/b" "$url/" "127.0.0.1:$port/bytes/20/c" \
        nothing://there/d "$url/early/e" http://127.0.0.1:1/f && left b c &&
        [ "$(wc -l <"$out/$name.err")" -eq 5 ] && grep -q '/a: .*404' "$out/$name.err" &&
        grep -q '/e: .*990 bytes' "$out/$name.err" && grep -q ':1/f: .*connect' "$out/$name.err"
}
must "$name reports each error" reports_errors

tries_again() {
    fetches 0 "$url/busy/2/a" && left a
}
must "$name tries again what may pass" tries_again
gives_up() {
    fetches 1 "$url/busy/1000/a" && left && grep -q 503 "$out/$name.err"
}
must "$name gives up in the end" gives_up
keeps_deadlines() {
    fetches 1 -t 1 "$url/stall/a" "$url/mute/b" "$url/bytes/10/c" && left c &&
        [ "$(grep -c '/[ab]: .*timeout' "$out/$name.err")" -eq 2 ]
}
must "$name keeps deadlines" keeps_deadlines
refuses() {
    fetches 2 "$@" "$url/bytes/10/a" && left && grep -q -- --help "$out/$name.err"
}
must "$name refuses no workers" refuses -j 0
must "$name refuses half a number" refuses -t 1s
must "$name refuses a directory without a name" refuses -o ''
must "$name refuses a wrong option" refuses -x
must "$name has a --help" sh -c "$fetch --help | grep -q '^usage: fetch '"
must "$name cannot write into nothing" fetches 1 -o "$out/no/where" "$url/bytes/10/a"

# A signal, when one file is whole, two have stalled, and the fourth has not begun.
ends_by() {
    rm -rf "$saved" "$out/lines"
    mkdir "$saved" && mkfifo "$out/lines" || return
    "$fetch" -o "$saved" -j 2 "$url/bytes/10/a" "$url/stall/b" "$url/stall/c" "$url/bytes/10/d" \
        >"$out/lines" &
    read -r line <"$out/lines"
    kill "-$1" $!
    wait $!
    [ $? -eq "$2" ] && [ "$line" = "$saved/a" ] && left a
}
must "$name ends by kill" ends_by TERM 143
must "$name ends by a hang-up" ends_by HUP 129
if have timeout; then
    # In the background a shell lets its commands ignore Ctrl-C, and this program respects that.
    # In the foreground timeout sends one signal: a second one would end it on the spot.
    interrupted() {
        rm -rf "$saved"
        mkdir "$saved"
        timeout --foreground --preserve-status -s INT 1 "$fetch" -o "$saved" "$url/bytes/10/a" "$url/stall/b"
        [ $? -eq 130 ] && left a
    }
    must "$name ends by Ctrl-C" interrupted
else
    skip "$name ends by Ctrl-C" 'there is no timeout here'
fi

exec 5>&-
wait
