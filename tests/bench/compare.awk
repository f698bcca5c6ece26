# compare.awk -- the results of compare.sh as a table with a verdict for each workload.
#
# Compared are the medians and the lower quartiles: what else runs on the machine only ever adds
# time, so the quartile is the steadier one, and the median sees what happens now and then. The
# noise is what chance makes of two versions that do not differ: the two of each repetition ran
# back to back, and change places at random, a thousand times; 99 % of the ratios that come out
# lie within the noise.

function short(x) {
    return sprintf(x < 10 ? "%.2f" : x < 100 ? "%.1f" : "%.0f", x)
}

function distance(ratio) {
    return ratio < 1 ? 1 / ratio - 1 : ratio - 1
}

# New over old at this share, with the pairs as they are or with some of them exchanged.
function ratio_at(share, exchanged,    r, a, b, swap) {
    for (r = 1; r <= pairs; r++) {
        swap = exchanged && rand() < 0.5
        a[r] = swap ? new[r] : old[r]
        b[r] = swap ? old[r] : new[r]
    }
    return quantile(b, pairs, share) / quantile(a, pairs, share)
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
function verdict(by_median, by_quartile, noise) {
    if (by_median * by_quartile < 0) {
        return "mixed"
    }
    return by_median + by_quartile > 0 ? "slower" : by_median + by_quartile < 0 ? "faster" : \
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

function compare(workload,    m, q, m_noise, q_noise, word, i, a, b) {
    collect(workload)
    if (!pairs) {
        printf "%-6s  not measured\n", workload
        return
    }
    m = ratio_at(0.5, 0)
    q = ratio_at(0.25, 0)
    m_noise = noise_at(0.5)
    q_noise = noise_at(0.25)
    word = verdict(is_beyond(m, m_noise), is_beyond(q, q_noise), \
        m_noise < q_noise ? m_noise : q_noise)
    told[word] = told[word] " " workload
    for (i = 1; i <= pairs; i++) {
        a[i] = old[i]
        b[i] = new[i]
    }
    printf "%-6s%12s%12s%9.3f +-%4.1f %%%9.3f +-%4.1f %%  %s\n", workload, \
        short(median(a, pairs)), short(median(b, pairs)), m, 100 * m_noise, q, 100 * q_noise, word
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
    printf "%-6s%12s%12s%18s%18s\n", "", "old", "new", "medians", "quartiles"
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
        print "unclear is where the noise could hide more than " 100 * SAME " %; more tells more:"
        print "    REPS=" 4 * repetitions " WORKLOADS='" substr(told["unclear"], 2) "'"
    }
}
