# shellcheck shell=sh disable=SC2154
# Sourced by check_examples.sh for timeline: pictures that are well-formed, small and complete,
# traces that are JSON and add up, and the pictures that README.md shows.

timeline=$out/timeline

# is_xml FILE, is_json FILE: by python3; without it, by what is left when pairs are taken away.
is_xml() {
    if have python3; then
        python3 -c 'import sys, xml.dom.minidom as d; d.parse(sys.argv[1])' "$1"
    else
        awk '{ while (match($0, /<[^>]*>/)) {
                   tag = substr($0, RSTART, RLENGTH); $0 = substr($0, RSTART + RLENGTH)
                   if (tag ~ /^<\//) {
                       if ("</" open[depth--] ">" != tag) bad = 1
                   } else if (tag !~ /\/>$/) {
                       gsub(/^<|[ >].*/, "", tag)
                       open[++depth] = tag
                   }
               } }
             END { exit bad || depth != 0 }' "$1"
    fi
}
is_json() {
    if have python3; then
        python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$1"
    else
        awk '{ gsub(/"[^"\\]*"/, "0"); all = all $0 }
             END { while (gsub(/\{[^][{}]*\}|\[[^][{}]*\]/, "0", all)) {} exit all != "0" }' "$1"
    fi
}

# count WORD FILE; counts NUMBER WORD FILE
count() { grep -o "$1" "$2" | wc -l; }
counts() { test "$(count "$2" "$3")" -eq "$1"; }

# is_picture FILE TASKS: small, whole, without anything from elsewhere.
is_picture() {
    is_xml "$1" && counts "$2" '<title>' "$1" && test "$(wc -c <"$1")" -lt 15000 &&
        ! grep -qiE '<script|<image|@import|url\(|href' "$1" &&
        counts 1 'https*:' "$1" && grep -q "xmlns='http://www.w3.org/2000/svg'" "$1"
}

# is_trace FILE TASKS RAN: every wait begins and ends, every task that ran is there.
is_trace() {
    is_json "$1" && counts "$2" '"ph":"b"' "$1" && counts "$2" '"ph":"e"' "$1" &&
        counts "$3" '"ph":"X"' "$1"
}

# draws NAME TASKS RAN OPTIONS...
draws() {
    drawing=$out/timeline_$1 tasks=$2 ran=$3 what=$1
    shift 3
    must "timeline $* $what" within 60 "$timeline" "$@" -s "$drawing.svg" -t "$drawing.json" "$what"
    must "timeline $* $what: the picture" is_picture "$drawing.svg" "$tasks"
    must "timeline $* $what: the trace" is_trace "$drawing.json" "$tasks" "$ran"
}

# shows OUTCOME COLOUR: the legend has it, and a bar at least; how many, depends on the machine.
has_bars() { test "$(count "fill='$1'" "$drawing.svg")" -ge 2; }
shows() { must "flags: $1" has_bars "$2"; }

draws loiter 5 5
draws primes 8 8 --processes -j 2
draws flags 20 19
shows 'ended well' '#2da07a'
shows 'timed out' '#d9922e'
shows cancelled '#8b949e'
shows failed '#e5534b'
must 'no thread is lost' counts 0 '#a371f7' "$drawing.svg"
draws flags 20 19 -p
shows 'worker lost' '#a371f7'

must 'timeline prints a picture' is_picture "$out/timeline.out" 5
must 'timeline --help' sh -c "$timeline --help | grep -q '^usage: timeline'"
refuses() { # STATUS WORD OPTIONS...
    wanted=$1 word=$2
    shift 2
    "$timeline" "$@" >"$out/timeline.refused" 2>&1
    test $? -eq "$wanted" && grep -q "$word" "$out/timeline.refused"
}
must 'timeline refuses a workload' refuses 2 'timeline --help' nothing
must 'timeline refuses an option' refuses 2 'timeline --help' --colour
must 'timeline refuses a number' refuses 2 'timeline --help' -j 0
must 'timeline says what it could not write' refuses 1 'No such file' -s "$out/none/x.svg" loiter

must 'the picture of loiter' is_picture examples/pictures/loiter.svg 5
must 'the picture of flags' is_picture examples/pictures/flags.svg 20
