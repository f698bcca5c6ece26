# compare.awk -- the results of compare.sh as a table with a verdict for each workload.
#
# Compared are the medians and the values that a tenth lies below: what else runs on the machine
# mostly adds time, so the low ones are the steadier, and the medians see what happens half of the
# time. The noise is what chance makes of two versions that do not differ: the two of each
# repetition ran back to back, and change places at random, a thousand times; 99 % of the ratios
# that come out lie within the noise.

function short(x) {
    return sprintf(x < 10 ? "%.2f" : x < 100 ? "%.1f" : "%.0f", x)
}

function distance(ratio) {
    return ratio < 1 ? 1 / ratio - 1 : ratio - 1
}

# New over old at this share, with the pairs as they are or with some of them exchanged; and
# leaves both in old_value and new_value.
function ratio_at(share, exchanged,    r, a, b, swap) {
    for (r = 1; r <= pairs; r++) {
        swap = exchanged && rand() < 0.5
        a[r] = swap ? new[r] : old[r]
        b[r] = swap ? old[r] : new[r]
    }
    old_value = quantile(a, pairs, share)
    new_value = quantile(b, pairs, share)
    return new_value / old_value
}

function noise_at(share,    i, chance) {
    for (i = 1; i <= ROUNDS; i++) {
        chance[i] = distance(ratio_at(share, 1))
    }
    return quantile(chance, ROUNDS, 0.99)
}

function is_beyond(ratio, noise) {
    return distance(ratio) > noise && distance(ratio) > LEAST ? ratio < 1 ? -1 : 1 : 0
}

# Both must not point in different directions.
function verdict(by_median, by_low, noise) {
    if (by_median * by_low < 0) {
        return "mixed"
    }
    return by_median + by_low > 0 ? "slower" : by_median + by_low < 0 ? "faster" : \
        noise <= SAME ? "same" : "unclear"
}

function collect(workload,    r) {
    pairs = 0
    for (r = 1; r <= repetitions; r++) {
        if (value[workload, "old", r] > 0 && value[workload, "new", r] > 0) {
            old[++pairs] = value[workload, "old", r]
            new[pairs] = value[workload, "new", r]
        }
    }
}

function compare(workload,    mid, low, mid_noise, low_noise, word) {
    collect(workload)
    if (!pairs) {
        printf "%-6s  not measured\n", workload
        return
    }
    low = ratio_at(0.1, 0)
    low_noise = noise_at(0.1)
    mid_noise = noise_at(0.5)
    mid = ratio_at(0.5, 0)
    word = verdict(is_beyond(mid, mid_noise), is_beyond(low, low_noise), \
        mid_noise < low_noise ? mid_noise : low_noise)
    told[word] = told[word] " " workload
    printf "%-6s%12s%12s%9.3f +-%5.1f %%%9.3f +-%5.1f %%  %s\n", workload, short(old_value), \
        short(new_value), mid, 100 * mid_noise, low, 100 * low_noise, word
}

BEGIN {
    ROUNDS = 1000
    LEAST = 0.02 # the same code laid out otherwise in memory differs by as much
    SAME = 0.1
    srand(1)
}

{
    value[$3, $2, $1] = $4 + 0
    if (!($3 in seen)) {
        seen[$3] = 1
        order[++workloads] = $3
    }
    repetitions = $1 > repetitions ? $1 : repetitions
}

END {
    printf "%-6s%12s%12s%19s%19s\n", "", "old", "new", "medians", "low tenths"
    for (i = 1; i <= workloads; i++) {
        compare(order[i])
    }
    print ""
    words = split("slower,mixed,faster,same,unclear", word, ",")
    for (i = 1; i <= words; i++) {
        if (i == 1 || told[word[i]]) {
            print word[i] ":" (told[word[i]] ? told[word[i]] : " none")
        }
    }
    if (told["unclear"]) {
        print "Unclear: the noise could hide more than " 100 * SAME " %. More repetitions tell more:"
        print "    REPS=" 4 * repetitions " WORKLOADS='" substr(told["unclear"], 2) "'"
    }
}
