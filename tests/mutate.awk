# Mutants of cfutures.h, one edit each, as "line<TAB>operator<TAB>the new line".
#
#     awk -f tests/mutate.awk cfutures.h
#
# Only code is changed: the part behind IMPLEMENTATION, without comments, directives and strings.

function mutant(operator, text) {
    if (text != $0) print FNR "\t" operator "\t" text
}

# Each occurrence of the words `from`, which is no pattern, becomes `to`.
function each(operator, from, to, start, at, rest) {
    start = 1
    rest = code
    while ((at = index(rest, from)) > 0) {
        mutant(operator, substr($0, 1, start + at - 2) to substr($0, start + at - 1 + length(from)))
        start += at - 1 + length(from)
        rest = substr(code, start)
    }
}

/ \* IMPLEMENTATION/ { on = 1 }
!on { next }
/>>history/ { exit }
/^ *#/ || continued { continued = /\\$/; next }

{
    code = $0
    if (inside) {
        if (!index(code, "*/")) next
        sub(/.*\*\//, "", code)
        inside = 0
        next
    }
    if (match(code, /\/\*/)) {
        if (!index(substr(code, RSTART), "*/")) inside = 1
        code = substr(code, 1, RSTART - 1)
    }
    if (code ~ /^ \*/ || code ~ /^[ \t]*$/ || code ~ /CFUTURES_TEST|CFUTURES_ASSERT|_Static_assert/) next
    if (code ~ /"/) next
    each("comparison", " == ", " != ")
    each("comparison", " != ", " == ")
    each("boundary", " < ", " <= ")
    each("boundary", " > ", " >= ")
    each("boundary", " <= ", " < ")
    each("boundary", " >= ", " > ")
    each("and-or", " && ", " || ")
    each("and-or", " || ", " && ")
    each("off by one", " + 1", "")
    each("off by one", " - 1", "")
    each("not", "(!", "(")
    if (code ~ /^ *while \(.*\).*;/ || code ~ /^ *while \(.*\) \{$/) {
        text = $0
        sub(/while/, "if", text)
        mutant("while to if", text)
    }
    if (code ~ /^ +(\(void\))?cf__(unpark|unlock|signal_set|hub_wake|complete|settle|bump|store|lane_ring|free|fd_close|hub_feed|count_awake|heap_give|drop)[a-z_]*\(.*\);[ ]*$/)
        mutant("drop the statement", "    (void)0;")
    if (code ~ /^ +return (true|false);/) {
        text = $0
        if (text ~ /true/) sub(/true/, "false", text)
        else sub(/false/, "true", text)
        mutant("answer", text)
    }
    each("order", "load_acquire(", "load_relaxed(")
    each("order", "load_seq_cst(", "load_acquire(")
    each("order", "store_release(", "store_relaxed(")
    each("order", "store_seq_cst(", "store_release(")
    each("order", "cas_seq_cst(", "cas(")
}
