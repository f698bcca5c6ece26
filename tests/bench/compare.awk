# compare.awk, after stats.awk -- the results of compare.sh as a table, a verdict for each workload.
#
# The two versions of each repetition ran back to back, so what is judged is the ratio of each such
# pair: by their Hodges-Lehmann estimate (the median of the geometric means of any two of them,
# which a few disturbed pairs do not move) and the interval of Wilcoxon's signed ranks around it,
# which holds the real ratio with 99 % confidence. Of a run in which nothing differs, one workload
# in a hundred is still called slower or faster.

function short(x) {
    return sprintf(x < 10 ? "%.2f" : x < 100 ? "%.1f" : "%.0f", x)
}

# The means of any two, itself included; gives how many.
function walsh_averages(values, count, averages,    i, j, n) {
    n = 0
    for (i = 1; i <= count; i++) {
        for (j = i; j <= count; j++) {
            averages[++n] = (values[i] + values[j]) / 2
        }
    }
    return n
}

# How many of these averages lie outside the interval on each side: so that the sum of the ranks
# with one sign, each of them a coin's throw, is below that number in 0.5 % of all cases.
function rank_bound(count,    i, sum, highest, ways, tail) {
    ways[0] = 1
    highest = 0
    for (i = 1; i <= count; i++) {
        highest += i
        for (sum = highest; sum >= i; sum--) {
            ways[sum] += ways[sum - i]
        }
    }
    tail = 0
    for (sum = 0; sum <= highest; sum++) {
        tail += ways[sum]
        if (tail > 0.005 * 2 ^ count) {
            return sum
        }
    }
}

function verdict(ratio, low, high) {
    return low > 1 && ratio > 1 + LEAST ? "slower" : high < 1 && ratio < 1 - LEAST ? "faster" : \
        low > 1 - SAME && high < 1 + SAME ? "same" : "unclear"
}

function tell(workload, word) {
    told[word] = told[word] " " workload
    print "  " word
}

function compare(workload,    r, n, k, averages, old, new, ratio, average, middle, low, high) {
    n = 0
    for (r = 1; r <= repetitions; r++) {
        if (value[workload, "old", r] > 0 && value[workload, "new", r] > 0) {
            old[++n] = value[workload, "old", r]
            new[n] = value[workload, "new", r]
            ratio[n] = log(new[n] / old[n])
        }
    }
    if (!n) {
        printf "%-6s  not measured\n", workload
        return
    }
    averages = walsh_averages(ratio, n, average)
    middle = exp(median(average, averages))
    printf "%-6s%12s%12s%10.3f", workload, short(median(old, n)), short(median(new, n)), middle
    k = rank_bound(n)
    if (!k) {
        printf "%20s", "-"
        tell(workload, "unclear")
        return
    }
    low = exp(average[k])
    high = exp(average[averages + 1 - k])
    printf "%20s", sprintf("%.3f to %.3f", low, high)
    tell(workload, verdict(middle, low, high))
}

BEGIN {
    LEAST = 0.02 # the same code laid out otherwise in memory differs by as much
    SAME = 0.1
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
    printf "%-6s%12s%12s%10s%20s\n", "", "old", "new", "new/old", "99 % confidence"
    for (i = 1; i <= workloads; i++) {
        compare(order[i])
    }
    print ""
    words = split("slower,faster,same,unclear", word, ",")
    for (i = 1; i <= words; i++) {
        if (i == 1 || told[word[i]]) {
            print word[i] ":" (told[word[i]] ? told[word[i]] : " none")
        }
    }
    if (told["unclear"]) {
        print "Unclear: noise could hide more than " 100 * SAME " %, or there are fewer than 8" \
            " repetitions; more tell more:"
        print "    REPS=" 4 * repetitions " WORKLOADS='" substr(told["unclear"], 2) "'"
    }
}
