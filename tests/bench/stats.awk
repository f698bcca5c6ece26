# stats.awk -- for the other scripts here; values[1..count] are sorted by the call.

function sort(values, count,    gap, i, j, v) {
    for (gap = int((count + 1) / 2); gap > 0; gap = int(gap / 2)) {
        for (i = gap + 1; i <= count; i++) {
            v = values[i]
            for (j = i - gap; j > 0 && values[j] > v; j -= gap) {
                values[j + gap] = values[j]
            }
            values[j + gap] = v
        }
    }
}

function median(values, count) {
    sort(values, count)
    return (values[int((count + 1) / 2)] + values[int(count / 2) + 1]) / 2
}
