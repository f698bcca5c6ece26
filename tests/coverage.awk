# What the runs of gcov reached together, and what tests/coverage.txt excuses.
#
#     awk -f tests/coverage.awk tests/coverage.txt FILE.gcov...
#
# Entries of the first file, blank lines and # between them:
#
#     function | what | text of the line, or a part of it
#         the reason, indented
#
# what: `line`, never reached; `2 branches`, so many of them never taken; with ` at times` after it:
# whether it is reached is up to the scheduler. The text `*` stands for all lines of the function;
# the whole of a line goes before a part of others. An entry whose text is not exactly one line of the function, which says less or more than what is
# there, or has no reason, is an error.

function trim(s) {
    gsub(/^[ \t]+|[ \t]+$/, "", s)
    return s
}

function wrong(e, why) {
    print "tests/coverage.txt: " entry_function[e] " | " entry_what[e] " | " entry_text[e]
    print "    " why
    bad++
}

function read_entry(line, n, part) {
    n = index(line, "|")
    part = substr(line, n + 1)
    entry_function[++entries] = trim(substr(line, 1, n - 1))
    n = index(part, "|")
    entry_what[entries] = trim(substr(part, 1, n - 1))
    entry_text[entries] = trim(substr(part, n + 1))
    at_times[entries] = sub(/ at times$/, "", entry_what[entries])
}

FILENAME == ARGV[1] {
    if (/^[ \t]*$/ || /^#/) next
    if (/^[ \t]/) reason[entries] = reason[entries] trim($0)
    else read_entry($0)
    next
}

/^ *-: +0:Source:/ { ours = /Source:(.*\/)?cfutures\.h$/; next }
!ours { next }

/^function / { fn = $2; next }

/^branch / {
    # Backends differ in what the compiler has left of a line: each variety counts for itself.
    taken[line, ++branch_count] = ($0 ~ /never executed/) ? 0 : $4
    next
}

/^ *(-|#####|=====|[0-9]+\*?): *[0-9]+:/ {
    keep_branches()
    count = $0
    sub(/:.*/, "", count)
    count = trim(count)
    rest = substr($0, index($0, ":") + 1)
    line = trim(substr(rest, 1, index(rest, ":") - 1)) + 0
    source = substr(rest, index(rest, ":") + 1)
    if (source ~ /^ \* [a-z]+ +>>[a-z]+$/) {
        tag = source
        sub(/.*>>/, "", tag)
    }
    if (count == "-") next
    text[line] = source
    section[line] = tag
    owner[line] = fn
    sub(/\*/, "", count)
    executed[line] += count ~ /^[0-9]+$/ ? count : 0
    if (line > last) last = line
}

function keep_branches(i, key) {
    if (branch_count > 0) {
        key = line SUBSEP branch_count
        if (!(key in variety)) {
            variety[key] = 1
            varieties[line] = varieties[line] " " branch_count
        }
        for (i = 1; i <= branch_count; i++) {
            reached[key, i] += taken[line, i]
            delete taken[line, i]
        }
    }
    branch_count = 0
}

function missing_branches(l, list, n, i, k, most) {
    n = split(varieties[l], list, " ")
    most = 0
    total_here = 0
    for (k = 1; k <= n; k++)
        for (i = 1; i <= list[k]; i++) {
            total_here++
            if (!reached[l SUBSEP list[k], i]) most++
        }
    return most
}

# Which of its branches, as gcov counts them.
function names_of_missing(l, list, n, i, k, names) {
    n = split(varieties[l], list, " ")
    for (k = 1; k <= n; k++)
        for (i = 1; i <= list[k]; i++)
            if (!reached[l SUBSEP list[k], i]) names = names " " (i - 1) "/" list[k]
    return names
}

# An entry for a whole function.
function match_all(e, l, any, left) {
    for (l = 1; l <= last; l++) {
        if (!(l in executed) || owner[l] != entry_function[e]) continue
        any = 1
        if (executed[l] == 0) {
            excused_line[l] = e
            left = 1
        }
    }
    if (!any) wrong(e, "there is no such function")
    else if (!left && !at_times[e]) wrong(e, "it is reached after all: take the entry out")
}

function match_line(e, l, n, at, exact, exactly) {
    for (l = 1; l <= last; l++) {
        if (!(l in executed) || owner[l] != entry_function[e]) continue
        if (trim(text[l]) == entry_text[e]) {
            exact = l
            exactly++
        }
        if (index(text[l], entry_text[e]) == 0) continue
        n++
        at = l
    }
    if (n > 1 && exactly == 1) {
        n = 1
        at = exact
    }
    if (n != 1) {
        wrong(e, n == 0 ? "no line of the function has this text" : n " lines have this text")
        return
    }
    if (entry_what[e] == "line") {
        excused_line[at] = e
        if (executed[at] > 0 && !at_times[e]) wrong(e, "it is reached after all: take it out")
    } else if (entry_what[e] ~ /^[0-9]+ branch(es)?$/) {
        excused_branches[at] = entry_what[e] + 0
        n = missing_branches(at)
        if (executed[at] == 0) {
            if (!at_times[e]) wrong(e, "the whole line is never reached: say so")
        } else if (n != excused_branches[at] && !(at_times[e] && n < excused_branches[at])) {
            wrong(e, n " branches of it are never taken:" names_of_missing(at))
        }
        if (executed[at] > 0 && n > excused_branches[at]) excused_branches[at] = n # said above
    } else {
        wrong(e, "it says neither `line` nor `N branches`")
    }
}

function percent(part, whole) {
    return whole == 0 ? "     -" : sprintf("%5.1f%%", int(1000 * part / whole) / 10)
}

function row(name, l, lx, b, bx) {
    printf "  %-10s %5d of %5d %s %6d excused %7d of %5d %s %6d excused\n", name, l - lines_left[name],
        l, percent(l - lines_left[name], l), lx, b - branches_left[name], b,
        percent(b - branches_left[name], b), bx
}

END {
    keep_branches()
    for (e = 1; e <= entries; e++) {
        if (reason[e] == "") wrong(e, "it gives no reason")
        if (entry_text[e] == "*") match_all(e)
        else match_line(e)
    }
    for (l = 1; l <= last; l++) {
        if (!(l in executed)) continue
        s = section[l]
        if (!(s in lines)) order[++sections] = s
        lines[s]++
        lines["all"]++
        n = missing_branches(l)
        branches[s] += total_here
        branches["all"] += total_here
        if (executed[l] == 0) {
            lines_left[s]++
            lines_left["all"]++
            if (l in excused_line) {
                lines_excused[s]++
                lines_excused["all"]++
            } else {
                report[++reports] = sprintf("cfutures.h:%d: %s: never reached\n    %s", l, owner[l], trim(text[l]))
            }
        }
        if (n == 0) continue
        branches_left[s] += n
        branches_left["all"] += n
        if (l in excused_line || n <= excused_branches[l] + 0) {
            branches_excused[s] += n
            branches_excused["all"] += n
        } else if (executed[l] > 0) {
            report[++reports] = sprintf("cfutures.h:%d: %s: %d of %d branches never taken:%s\n    %s", l,
                owner[l], n, total_here, names_of_missing(l), trim(text[l]))
        }
    }
    for (i = 1; i <= reports; i++) print report[i]
    if (reports > 0) print ""
    print "  section         lines reached                          branches taken"
    for (i = 1; i <= sections; i++) {
        s = order[i]
        row(s, lines[s], lines_excused[s], branches[s], branches_excused[s])
    }
    row("all", lines["all"], lines_excused["all"], branches["all"], branches_excused["all"])
    if (last == 0) {
        print "nothing was measured"
        bad++
    }
    printf "%d left over, %d entries of tests/coverage.txt, %d of them wrong\n", reports, entries, bad
    exit reports > 0 || bad > 0
}
