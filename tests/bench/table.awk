# table.awk -- measured.txt, then table.txt with FS="|", as the comparison in README.md.

function quantity(x, is_size) {
    if (is_size) {
        return sprintf("%.0f bytes", x)
    }
    return x < 9.95 ? sprintf("%.1f ns", x) : x < 999.5 ? sprintf("%.0f ns", x) : \
        x < 9950 ? sprintf("%.1f µs", x / 1e3) : x < 999500 ? sprintf("%.0f µs", x / 1e3) : \
        sprintf("%.1f ms", x / 1e6)
}

# The best median of the peers of a column, or "".
function best_of(workload, list,    peer, i, value, best) {
    best = ""
    for (i = split(list, peer, ","); i > 0; i--) {
        if ((workload, peer[i]) in median) {
            value = median[workload, peer[i]]
            best = best == "" || value < best ? value : best
        }
    }
    return best
}

function print_figures(head, workload, is_size,    i, line, value, least, mark) {
    least = ""
    for (i = 3; i <= columns; i++) {
        value[i] = best_of(workload, peers[i])
        least = value[i] != "" && (least == "" || value[i] < least) ? value[i] : least
    }
    if (value[3] == "") {
        print "table.awk: " workload " was not measured" | "cat >&2"
        exit bad = 1
    }
    line = "| " head " |"
    for (i = 3; i <= columns; i++) {
        mark = value[i] == least ? "**" : ""
        line = line " " (value[i] == "" ? "–" : mark quantity(value[i], is_size) mark) " |"
    }
    print line
}

function print_heads(    i, part, line, rule) {
    columns = NF
    line = "| |"
    rule = "|---|"
    for (i = 3; i <= columns; i++) {
        split($i, part, "=")
        peers[i] = part[2]
        line = line " " part[1] " |"
        rule = rule "---|"
    }
    print line
    print rule
}

/^#/ {
    conditions = FNR == NR ? substr($0, 3) : conditions
    next
}

FNR == NR {
    median[$1, $2] = $3 + 0
    next
}

$1 == "columns" {
    print_heads()
}

$1 == "fact" {
    line = "|"
    for (i = 2; i <= columns; i++) {
        line = line " " $i " |"
    }
    print line
}

$1 == "time" || $1 == "size" {
    bare = $4 != "" ? sprintf($2, quantity(best_of($3, $4), 0)) : $2
    print_figures(bare, $3, $1 == "size")
}

END {
    if (!bad) {
        print "\nMedians of " conditions "."
        print "**Bold**: the best; –: none. Of Java the better of two pools. `make bench` measures more;" \
            " `make table` wrote this."
    }
    exit bad
}
