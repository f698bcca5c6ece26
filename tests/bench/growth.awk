# growth.awk -- the results of growth.sh, where the column (a number of tasks or of workers) stands
# in the place of the peer: for each workload and column the median, and how far the lowest and the
# highest lie apart, in percent of it.

function cell(workload, at,    i, n, values, middle) {
    n = count[workload, at]
    if (!n) {
        return "-"
    }
    for (i = 1; i <= n; i++) {
        values[i] = value[workload, at, i]
    }
    middle = median(values, n)
    least = least == "" || middle < least ? middle : least
    most = most == "" || middle > most ? middle : most
    return sprintf(middle < 100 ? "%.1f (%.0f %%)" : "%.0f (%.0f %%)", middle, \
        100 * (values[n] - values[1]) / middle)
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
        line = line sprintf("%16s", head[c])
    }
    print line "   most/least"
    for (k = 1; k <= workloads; k++) {
        line = sprintf("%-6s", order[k])
        least = most = ""
        for (c = 1; c <= columns; c++) {
            line = line sprintf("%16s", cell(order[k], head[c]))
        }
        ratio = least > 0 ? most / least : 0
        printf "%s%9.2f  %s %s\n", line, ratio, ratio <= limit ? "within" : "beyond", limit
    }
}
