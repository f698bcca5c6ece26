# growth.awk, after stats.awk -- the results of growth.sh, where the column (a number of tasks or of
# workers) stands in the place of the peer. Each cell: median (lowest-highest). At the end of a row:
# the dearest column over the cheapest, of the medians and (of the lowest). A row in which a column
# is missing is within no limit.

function short(x) {
    return sprintf(x < 100 ? "%.1f" : "%.0f", x)
}

function cell(workload, at,    i, n, values) {
    n = count[workload, at]
    if (!n) {
        return "-"
    }
    for (i = 1; i <= n; i++) {
        values[i] = value[workload, at, i]
    }
    middle[++cells] = median(values, n)
    lowest[cells] = values[1]
    return short(middle[cells]) " (" short(values[1]) "-" short(values[n]) ")"
}

function most_over_least(values) {
    sort(values, cells)
    return values[1] > 0 ? values[cells] / values[1] : 0
}

{
    if (!($3 in seen)) {
        seen[$3] = 1
        order[++workloads] = $3
    }
    value[$3, $2, ++count[$3, $2]] = $4 + 0
}

END {
    columns = split(heads, head, " ")
    line = sprintf("%-6s", "")
    for (c = 1; c <= columns; c++) {
        line = line sprintf("%20s", head[c])
    }
    print line "   most/least"
    for (k = 1; k <= workloads; k++) {
        line = sprintf("%-6s", order[k])
        cells = 0
        for (c = 1; c <= columns; c++) {
            line = line sprintf("%20s", cell(order[k], head[c]))
        }
        ratio = most_over_least(middle)
        printf "%s%7.2f (%.2f)  %s %s\n", line, ratio, most_over_least(lowest), \
            (ratio <= limit && cells == columns ? "within" : "beyond"), limit
    }
}
