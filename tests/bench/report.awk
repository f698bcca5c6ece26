# report.awk -- workloads.txt and the output of median.awk as tables: medians, ratios, targets.

function short(x) {
    if (x == "-" || x == "") {
        return "-"
    }
    return sprintf(x < 0.1 ? "%.2g" : x < 10 ? "%.2f" : x < 100 ? "%.1f" : "%.0f", x)
}

function row(head, cells,    i, line) {
    line = sprintf("%-6s", head)
    for (i = 1; i <= columns; i++) {
        line = line sprintf("%" width[i] "s", cells[i])
    }
    print line
}

# The peers that took part in workloads of this letter, and how wide their columns must be.
function choose_columns(letter, skipped,    i, k, w, length_of) {
    columns = 0
    for (i = 1; i <= peers; i++) {
        w = 0
        for (k = 1; k <= workloads; k++) {
            if (substr(name[k], 1, 1) == letter && (name[k], peer[i]) in median) {
                length_of = length(short(median[name[k], peer[i]]))
                w = length_of > w ? length_of : w
            }
        }
        if (w && peer[i] != skipped) {
            column[++columns] = peer[i]
            w = length(peer[i]) > w ? length(peer[i]) : w
            width[columns] = w < 6 ? 8 : w + 2
        }
    }
}

function table(letter, heading, values, skipped,    i, k, cells, some, rows) {
    choose_columns(letter, skipped)
    for (k = 1; k <= workloads; k++) {
        if (substr(name[k], 1, 1) != letter) {
            continue
        }
        some = 0
        for (i = 1; i <= columns; i++) {
            cells[i] = short(values[name[k], column[i]])
            some += cells[i] != "-"
        }
        if (some && !rows++) {
            print "\n" heading
            row("", column)
        }
        if (some) {
            row(name[k], cells)
        }
    }
}

# One target, such as tbb<=0.75, eff>=0.97 or value<=128.
function judge(workload, target,    part, at_least, limit, what, got, range, is_met) {
    at_least = index(target, ">=")
    split(target, part, at_least ? ">=" : "<=")
    what = part[1]
    limit = part[2]
    range = ""
    if (what == "eff") {
        got = efficiency[workload, ours]
    } else if (what == "value") {
        got = median[workload, ours]
    } else {
        got = ratio[workload, what]
        range = sprintf("  (%.3g to %.3g)", low[workload, what], high[workload, what])
    }
    what = what == "eff" ? "efficiency" : what == "value" ? unit[workload] : "of " what
    printf "%-6s %-12s %s %-9s", workload, what, at_least ? ">=" : "<=", limit
    if (got == "" || got == "-") {
        print "  not measured"
        return
    }
    is_met = at_least ? got >= limit + 0 : got <= limit + 0
    judged++
    met += is_met
    printf "  %9.4g  %-6s%s\n", got, is_met ? "met" : "missed", range
}

BEGIN {
    peers = split(order, peer, " ")
    for (i = split(wanted, list, " "); i > 0; i--) {
        asked[list[i]] = 1
    }
}

/^#/ {
    next
}

FNR == NR {
    name[++workloads] = $1
    unit[$1] = $5 == "bytes" ? "bytes" : "ns"
    targets[$1] = $6
    next
}

{
    median[$1, $2] = $3
    efficiency[$1, $2] = $4
    ratio[$1, $2] = $5
    low[$1, $2] = $6
    high[$1, $2] = $7
}

END {
    table("T", "Threads, median of " reps ": ns (T8m: bytes)", median, "")
    table("T", "Threads: " ours " / peer (below 1: " ours " is better)", ratio, ours)
    table("P", "Processes, median of " reps ": ns", median, "")
    table("P", "Processes: " ours " / peer", ratio, ours)
    print "\nTargets (in brackets: lowest and highest of the repetitions)"
    for (k = 1; k <= workloads; k++) {
        n = split(targets[name[k]], list, ",")
        for (i = 1; i <= n && list[i] != "-" && name[k] in asked; i++) {
            judge(name[k], list[i])
        }
    }
    printf "%d of %d met\n", met, judged
}
