# shellcheck shell=sh disable=SC2154
# Sourced by check_examples.sh: those of psha256, pwc, pgzip and mandelbrot that it built into $out do
# what the tools do that they mirror, where these are GNU's; and what all programs refuse.

data=$out/data
input=/dev/null
piped=

# gnu TOOL PACKAGE: that is what the tool says that it is.
gnu() {
    have "$1" && "$1" --version 2>/dev/null | grep "$2" >/dev/null
}

feed() {
    if [ "$piped" ]; then cat <"$input" | within 60 "$@"; else within 60 "$@" <"$input"; fi
}

# same TOOL ARGUMENTS...: the program p<tool> prints the same to stdout and, but for its name, to
# stderr, and has the same exit status. Both read $input, through a pipe if $piped is set.
same() {
    tool=$1 program=p${1%sum}
    shift
    (cd "$data" && feed "$tool" "$@") >"$out/tool.out" 2>"$out/tool.err"
    tool_status=$?
    (cd "$data" && feed "../$program" "$@") >"$out/our.out" 2>"$out/our.err"
    our_status=$?
    sed "s/^$tool: /$program: /" "$out/tool.err" | diff - "$out/our.err" &&
        diff "$out/tool.out" "$out/our.out" && [ $tool_status -eq $our_status ]
}

# ends STATUS WORDS COMMAND...: the exit status, and what stands in the output.
ends() {
    want_status=$1 want_words=$2
    shift 2
    (cd "$data" && feed "$@") >"$out/our.out" 2>&1
    our_status=$?
    cat "$out/our.out"
    [ $our_status -eq "$want_status" ] && grep -e "$want_words" "$out/our.out" >/dev/null
}

# full COMMAND...: a full disk is reported.
full() {
    [ ! -c /dev/full ] || ends 1 . sh -c '"$@" >/dev/full' sh "$@"
}

# A text whose words and characters lie across any seam, small files, and names to escape.
make_data() {
    mkdir -p "$data/tree/a" "$data/tree/b" "$data/tree/a-" "$data/tree/a.d"
    for name in a/1 a/2 b/1 a-/1 a.d/1 a0 c; do echo "$name" >"$data/tree/$name"; done
    awk 'BEGIN { for (i = 0; i < 20000; i++)
        printf "%d\tcaf\303\251 \342\202\254%s\343\200\200\360\237\230\200%s", i,
            i % 11 ? "a_longer_word" : "\001\002", i % 5 ? " " : "\n" }' >"$data/text"
    cat "$data/text" "$data/text" "$data/text" >"$data/long"
    printf 'no newline' >"$data/short"
    printf '\377\376\200 \302\n\303 a\302\240b \n' >"$data/invalid"
    : >"$data/empty"
    newline=$(printf 'new\nline')
    for name in "$newline" 'back\slash' 'two words'; do echo "$name" >"$data/$name"; done
}

# ---------------------------------------------------------------- psha256

tree_in_order() {
    (cd "$data" && find tree -type f | sort | xargs sha256sum) >"$out/tool.out"
    (cd "$data" && ../psha256 tree) >"$out/our.out" && diff "$out/tool.out" "$out/our.out"
}

make_lists() {
    (cd "$data" && sha256sum text short "$newline" 'back\slash' 'two words') >"$data/good.list"
    {
        cat "$data/good.list"
        printf '# a comment\n\nnot a line\n'
        sed -n '1s/  .*/  missing/p; 2s/  .*/  long/p; 3s/  .*/  \\x/p' "$data/good.list"
        sed -n '1s/  / */p; 1s/ .*//p; 1s/ .*/  /p; 1s/ .*//p; 1s/./x/p' "$data/good.list"
        sed -n '2p' "$data/good.list" | tr a-f A-F
    } >"$data/bad.list"
    printf '%s\r\n' "$(sed 2q "$data/good.list")" >"$data/crlf.list"
}

check_psha256() {
    must 'psha256 of a tree' tree_in_order
    must 'psha256 of files' same sha256sum text short empty long /dev/null
    must 'psha256 of names to escape' same sha256sum "$newline" 'back\slash' 'two words'
    must 'psha256 goes on after a missing file' same sha256sum short missing text
    make_lists
    for list in good.list bad.list crlf.list short empty missing tree; do
        for option in -c '-c --quiet' '-c --status'; do
            # shellcheck disable=SC2086 # options are words
            must "psha256 $option $list" same sha256sum $option "$list"
        done
    done
    must 'psha256 -c of several lists' same sha256sum -c good.list bad.list missing good.list
    input=good.list
    must 'psha256 of stdin, which is read once' same sha256sum - short -
    must 'psha256 -c of stdin' same sha256sum -c
    input=/dev/null
    must 'psha256 on a full disk' full ../psha256 text short
    must 'psha256 --help' ends 0 '--check' ../psha256 --help
}

# ---------------------------------------------------------------- pwc

check_pwc() {
    for option in -lwc -l -w -c -m -lwmc; do
        must "pwc $option" same wc $option text long short empty invalid
        must "pwc $option of one file" same wc $option long
    done
    must 'pwc of what is no regular file' same wc short tree /dev/null
    must 'pwc of one missing file' same wc missing
    must 'pwc goes on after a missing file' same wc missing short text missing
    printf 'text\0short\0missing\0' >"$data/names"
    must 'pwc --files0-from a file' same wc --files0-from=names
    for input in long /dev/null tree; do
        for piped in '' yes; do
            must "pwc of $input, piped: $piped" same wc
            must "pwc - of $input, piped: $piped" same wc -l -c - short
            must "pwc -c of $input, piped: $piped" same wc -c
        done
    done
    input=names piped=yes
    must 'pwc --files0-from a pipe' same wc --files0-from=-
    input=/dev/null piped=
    must 'pwc on a full disk' full ../pwc text short
    must 'pwc --help' ends 0 '--files0-from' ../pwc --help
}

# ---------------------------------------------------------------- pgzip

# round_trip FILE ARGUMENTS...: gzip reads what pgzip writes.
round_trip() {
    file=$1
    shift
    (cd "$data" && ../pgzip "$@" <"$file" >ours.gz && gzip -dc ours.gz >back && cmp back "$file")
}

reads_gzip() {
    (cd "$data" && gzip -c "$1" >theirs.gz && gzip -c "$1" >>theirs.gz &&
        cat "$1" "$1" >twice && ../pgzip -dc theirs.gz >back && cmp back twice)
}

# There and back: modes stay, the other file goes.
replaces() {
    (cd "$data" && rm -f copy* && cp long copy && chmod 640 copy && ../pgzip copy &&
        [ ! -e copy ] && gzip -t copy.gz && ../pgzip -k -d copy.gz && [ -e copy.gz ] &&
        cmp long copy && find copy -perm 640 | grep copy && ! ../pgzip copy &&
        ../pgzip -f copy && gzip -t copy.gz)
}

# Killed in the midst of a file that would take for ever, it leaves that, and nothing else.
cleans_up() {
    "$out/pgzip" "$data/endless" &
    pid=$!
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ ! -s "$data/endless.gz" ] || break
        sleep 1
    done
    [ -s "$data/endless.gz" ] && kill "$pid" && ! wait "$pid" 2>/dev/null &&
        [ -e "$data/endless" ] && [ ! -e "$data/endless.gz" ]
}

check_killed() {
    rm -f "$data"/endless*
    if dd if=/dev/zero of="$data/endless" bs=1 count=1 seek=1000000000000 2>/dev/null; then
        must 'pgzip killed' cleans_up
    else
        skip 'pgzip killed' 'no file with a hole of a terabyte here'
    fi
    rm -f "$data"/endless*
}

check_pgzip() {
    for level in -1 -6 -9; do
        must "pgzip $level" round_trip long $level
    done
    must 'pgzip -j 1' round_trip long -j 1
    must 'pgzip -j 7' round_trip text -j 7
    for file in empty short psha256; do
        [ ! -e "$out/$file" ] || cp "$out/$file" "$data/$file"
        [ ! -e "$data/$file" ] || must "pgzip of $file" round_trip $file
    done
    must 'pgzip -d of two members' reads_gzip long
    must 'pgzip replaces files' replaces
    check_killed
    head -c 5000 "$data/copy.gz" >"$data/cut.gz"
    must 'pgzip -d of a cut file' ends 1 'unexpected end' ../pgzip -dc cut.gz
    { head -c 5000 "$data/copy.gz" && echo damage && tail -c +5008 "$data/copy.gz"; } >"$data/bad.gz"
    must 'pgzip -d of a damaged file' ends 1 'invalid' ../pgzip -dc bad.gz
    must 'pgzip -d of what is no gzip' ends 1 'not in gzip format' ../pgzip -dc text
    must 'pgzip of a missing file' ends 1 'missing: ' ../pgzip missing
    must 'pgzip of a directory' ends 2 'tree: ' ../pgzip tree
    must 'pgzip -c of a directory' ends 2 '^pgzip: tree: ' ../pgzip -c tree
    must 'pgzip of a .gz' ends 2 'copy.gz: ' ../pgzip copy.gz
    must 'pgzip -d of another' ends 2 'text: ' ../pgzip -d text
    must 'pgzip on a full disk' full ../pgzip -c text
    must 'pgzip -d on a full disk' full ../pgzip -dc copy.gz
    must 'pgzip --help' ends 0 '--decompress' ../pgzip --help
}

# ---------------------------------------------------------------- mandelbrot

# draws ARGUMENTS...: the same picture as with one worker.
draws() {
    (cd "$data" && ../mandelbrot -s 90x60 -j 1 "$@" >one.ppm 2>one.err &&
        ../mandelbrot -s 90x60 -j 3 -o three.ppm "$@" 2>three.err && cmp one.ppm three.ppm &&
        [ "$(head -n 3 one.ppm | tr '\n' ' ')" = 'P6 90 60 255 ' ] &&
        [ "$(wc -c <one.ppm)" -eq $((13 + 3 * 90 * 60)) ])
}

check_mandelbrot() {
    must 'mandelbrot draws' draws
    must 'mandelbrot prints the speed-up' grep 'times as fast' "$data/three.err"
    must 'mandelbrot draws details' draws -q -c -0.743,0.13 -z 60 -i 300
    must 'mandelbrot -q is quiet' cmp "$data/three.err" /dev/null
    must 'mandelbrot on a full disk' full ../mandelbrot -s 90x60
    must 'mandelbrot refuses no size' ends 2 '--help' ../mandelbrot -s 0x60
    must 'mandelbrot --help' ends 0 '--size' ../mandelbrot --help
}

# ---------------------------------------------------------------- the others

# refused COMMAND...: a full disk shows in the exit status, and it ends.
refused() {
    (cd "$data" && within 60 "$@" >/dev/full 2>&1)
    [ $? -eq 1 ]
}

check_refused() {
    for program in hello pow crashy 'loiter 20'; do
        # shellcheck disable=SC2086 # words
        ! wanted ${program% *} || must "$program on a full disk" refused ../$program
    done
}

# check_numbers STATUS PROGRAM...: workers are counted in whole numbers, from 1 to what is sane.
check_numbers() {
    status=$1
    shift
    for program in "$@"; do
        ! wanted "$program" || for count in 0 -1 5x '' 10000 18446744073709551617; do
            must "$program refuses -j '$count'" ends "$status" '--help' "../$program" -j "$count"
        done
    done
}

check_arguments() {
    for program in loiter primes; do
        ! wanted $program || must "$program refuses 5x" ends 2 '^usage: ' ../$program 5x
    done
}

# ---------------------------------------------------------------- all, or the one asked for

# wanted PROGRAM: it was built, and no other was asked for.
wanted() {
    [ "${asked:-$1}" = "$1" ] && [ -x "$out/$1" ]
}

asked=$1
make_data
[ ! -c /dev/full ] || check_refused
check_numbers 1 psha256 pwc pgzip # as their models
check_numbers 2 eventloop_glib eventloop_libuv eventloop_poll fetch flags mandelbrot ptest timeline
check_arguments
if wanted mandelbrot; then check_mandelbrot; fi
if wanted psha256 && gnu sha256sum coreutils; then
    check_psha256
elif wanted psha256; then
    skip 'psha256 beside sha256sum' 'no sha256sum of GNU here'
fi
if wanted pgzip && gnu gzip gzip; then
    check_pgzip
elif wanted pgzip; then
    skip 'pgzip beside gzip' 'no gzip of GNU here'
fi
if wanted pwc && gnu wc coreutils && [ "$(printf '\001' | wc -w)" -eq 0 ]; then
    check_pwc
    for LC_ALL in $(locale -a 2>/dev/null | grep -i '^C\.utf'); do check_pwc; done
    LC_ALL=C
elif wanted pwc; then
    skip 'pwc beside wc' 'no wc of GNU here that asks words to be printable'
fi
