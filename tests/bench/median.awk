# median.awk, after stats.awk -- the results of all repetitions, a line for each workload and peer:
#
#   workload peer median efficiency ratio lowest highest
#
# ratio is `ours` over the peer, of the medians; lowest and highest are the same of the single
# repetitions. "-" where there is none.

# The median of one column of a workload and peer.
function median_of(column, key,    i, values, n) {
    n = 0
    for (i = 1; i <= count[key]; i++) {
        if ((column, key, i) in cell) {
            values[++n] = cell[column, key, i] + 0
        }
    }
    return n ? median(values, n) : "-"
}

function ratios(workload, peer,    r, a, b, ratio, low, high) {
    low = high = "-"
    for (r = 1; r <= repetitions; r++) {
        a = value[workload, ours, r]
        b = value[workload, peer, r]
        if (a != "" && b > 0) {
            ratio = a / b
            low = low == "-" || ratio < low ? ratio : low
            high = high == "-" || ratio > high ? ratio : high
        }
    }
    return low " " high
}

{
    key = $3 " " $2
    if (!(key in count)) {
        order[++keys] = key
    }
    i = ++count[key]
    cell["value", key, i] = $4
    value[$3, $2, $1] = $4
    if ($NF ~ /^eff=/) {
        cell["eff", key, i] = substr($NF, 5)
    }
    repetitions = $1 > repetitions ? $1 : repetitions
}

END {
    for (k = 1; k <= keys; k++) {
        split(order[k], part, " ")
        mine = part[1] " " ours
        this = median_of("value", order[k])
        ratio = mine in count && this > 0 ? median_of("value", mine) / this : "-"
        print order[k], this, median_of("eff", order[k]), ratio, ratios(part[1], part[2])
    }
}
