# stats.awk -- for the other scripts here; values[1..count] are sorted by the call.

function sort(values, count,    i, j, v) {
    for (i = 2; i <= count; i++) {
        v = values[i]
        for (j = i - 1; j > 0 && values[j] > v; j--) {
            values[j + 1] = values[j]
        }
        values[j + 1] = v
    }
}

# The value below which this share of them lies, between two of them by interpolation.
function quantile(values, count, share,    place, below) {
    sort(values, count)
    place = 1 + (count - 1) * share
    below = int(place)
    return below < count ? \
        values[below] + (place - below) * (values[below + 1] - values[below]) : values[count]
}

function median(values, count) {
    return quantile(values, count, 0.5)
}
