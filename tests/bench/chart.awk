# chart.awk -- workloads.txt and the output of median.awk as an SVG: a panel for each workload,
# a bar for each peer, shortest first, on a logarithmic scale.

function escape(text) {
    gsub(/&/, "\\&amp;", text)
    gsub(/</, "\\&lt;", text)
    return text
}

function quantity(x, workload) {
    if (unit[workload] == "bytes") {
        return sprintf("%.0f bytes", x)
    }
    return x < 10 ? sprintf("%.2f ns", x) : x < 1000 ? sprintf("%.0f ns", x) : \
        x < 1e6 ? sprintf("%.1f us", x / 1e3) : sprintf("%.1f ms", x / 1e6)
}

function factor(x) {
    return sprintf(x < 100 ? "%.3g" : "%.0f", x)
}

function log10(x) {
    return log(x) / log(10)
}

function text(x, y, class, what) {
    printf "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">%s</text>\n", x, y, class, escape(what)
}

# Where the bar of this value ends; the axis begins below the smallest.
function end_of(x, from, to) {
    return LABEL + BAR * (log10(x) - from) / (to - from)
}

function bar(workload, who, y, from, to,    value, end, class, note) {
    value = median[workload, who]
    end = end_of(value, from, to)
    class = who == ours ? "ours" : who ~ /^limits/ ? "limit" : "peer"
    text(LABEL - 6, y + 11, "name " class, who)
    printf "<rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"12\" class=\"%s\"/>\n", LABEL, y, \
        end - LABEL, class
    note = quantity(value, workload)
    if (who != ours && (workload, ours) in median) {
        note = note ", " factor(value / median[workload, ours]) "x"
    }
    text(end + 5, y + 11, "value", note)
}

# Draws the panel at the current place and gives its height.
function panel(workload,    i, j, n, who, list, from, to, decade, height) {
    n = split(peers_of[workload], list, " ")
    for (i = 2; i <= n; i++) {
        who = list[i]
        for (j = i - 1; j > 0 && median[workload, list[j]] > median[workload, who]; j--) {
            list[j + 1] = list[j]
        }
        list[j + 1] = who
    }
    from = log10(median[workload, list[1]])
    to = log10(median[workload, list[n]])
    from = from - (to - from) / 6 - 0.15
    to = to + 0.05
    height = 40 + n * ROW
    text(0, 14, "title", workload "  " title[workload])
    for (decade = int(from) - 1; decade <= to; decade++) {
        if (decade > from) {
            printf "<path d=\"M%.1f 24V%d\" class=\"grid\"/>\n", end_of(10 ^ decade, from, to), \
                height - 12
        }
    }
    for (i = 1; i <= n; i++) {
        bar(workload, list[i], 26 + (i - 1) * ROW, from, to)
    }
    return height
}

function head(width, height) {
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\"", width, \
        height, width
    print " font-family=\"system-ui, sans-serif\" font-size=\"11\" role=\"img\">"
    print "<title>cfutures.h and its peers: time per task, by workload</title>"
    print "<style>text{fill:#343a40}.title{font-weight:600;font-size:12px}.head{font-size:17px;" \
        "font-weight:600}.name{text-anchor:end}text.ours{font-weight:700;fill:#c2410c}" \
        "rect.ours{fill:#ea580c}rect.peer{fill:#94a3b8}rect.limit{fill:#d5dbe3}" \
        ".grid{stroke:#e2e8f0;fill:none}.value{fill:#64748b}</style>"
    printf "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", width, height
}

BEGIN {
    LABEL = 74
    BAR = 190
    ROW = 16
    PANEL = 400
    COLUMNS = 3
}

/^#/ {
    next
}

FNR == NR {
    name[++workloads] = $1
    unit[$1] = $5
    for (i = 7; i <= NF; i++) {
        title[$1] = title[$1] (i > 7 ? " " : "") $i
    }
    next
}

$3 > 0 {
    median[$1, $2] = $3
    count[$1]++
    peers_of[$1] = peers_of[$1] " " $2
}

# Each panel goes under the column that is shortest so far.
END {
    for (k = 1; k <= workloads; k++) {
        if (count[name[k]]) {
            column = 0
            for (c = 1; c < COLUMNS; c++) {
                column = bottom[c] < bottom[column] ? c : column
            }
            x[name[k]] = 24 + column * PANEL
            y[name[k]] = 76 + bottom[column]
            bottom[column] += 52 + count[name[k]] * ROW
            deepest = bottom[column] > deepest ? bottom[column] : deepest
        }
    }
    head(COLUMNS * PANEL + 24, deepest + 84)
    text(24, 32, "head", "cfutures.h and its peers")
    text(24, 52, "", sprintf("median of %d, %d workers; shorter is better; logarithmic scale: " \
        "a grid line is a factor of ten; 2x takes twice as long as cfutures", reps, w))
    for (k = 1; k <= workloads; k++) {
        if (count[name[k]]) {
            printf "<g transform=\"translate(%d %d)\">\n", x[name[k]], y[name[k]]
            panel(name[k])
            print "</g>"
        }
    }
    print "</svg>"
}
