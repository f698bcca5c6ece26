# Turns the comments of cfutures.h into manual pages: cfutures.3 from the manual on top, and a page
# for each documented name of the interface. POSIX awk:
#
#     awk -f .man/pages.awk -v dir=build/man cfutures.h     writes the pages into an existing dir
#     awk -f .man/pages.awk -v list=1 cfutures.h            prints their file names instead
#
# What it reads is plain text with few rules. In the manual: a line of capitals is a heading; text
# is filled; "- " begins an item of a list; what is indented by four is literal, but for a table
# whose second line is dashes: it becomes a list of terms; a row goes on where a line is indented.
# Above a declaration:
#
#     /* name[, name...] -- a sentence.
#      * More sentences.
#      * Label: text                  Python, Threads, Blocks, Note, or a parameter, field or value
#      * Returns text
#      *   CF_STATUS: its cause       in the text of Returns
#
# A function must have Python, Threads, Blocks, Note, each of its parameters, and Returns unless it
# is void; a struct or an enum must have each of its members. What lacks is named on standard error,
# and the exit status is 1.

function complain(text) {
    print FILENAME ":" FNR ": " text | "cat >&2"
    bad = 1
}

# ---------------------------------------------------------------- roff

# Text as roff shows it, with the names of the library and what is between backquotes in bold.
function roff(text,    out, word) {
    gsub(/\\/, "\\e", text)
    while (match(text, /`[^`]*`|(cf|CF|CFUTURES)_[A-Za-z0-9_]*[A-Za-z0-9](\(3\))?/)) {
        word = substr(text, RSTART, RLENGTH)
        out = out substr(text, 1, RSTART - 1)
        text = substr(text, RSTART + RLENGTH)
        if (word ~ /^`/) word = substr(word, 2, length(word) - 2)
        else mention(word)
        out = out "\\fB" word "\\fR"
    }
    return escape(out text)
}

function escape(text) {
    gsub(/-/, "\\-", text)
    sub(/^[.']/, "\\\\\\&&", text)
    return text
}

function verbatim(text) {
    gsub(/\\/, "\\e", text)
    return escape(text)
}

function put(line) { page = page line "\n" }

# In lines of bearable length.
function fill(text,    words, count, i, line) {
    count = split(text, words, " ")
    for (i = 1; i <= count; i++) {
        if (line != "" && length(line) + length(words[i]) > 76) {
            put(line)
            line = ""
            sub(/^[.']/, "\\\\\\&&", words[i])
        }
        line = line (line == "" ? "" : " ") words[i]
    }
    put(line)
}

function paragraph(text) {
    if (text == "") return
    begin_paragraph()
    fill(roff(text))
}

function begin_paragraph() {
    if (!fresh) put(".PP")
    fresh = 0
}

function heading(text) {
    put(".SH " text)
    fresh = 1
}

function term(tag, text) {
    put(".TP")
    put(tag)
    fill(roff(text))
    fresh = 0
}

# Names of other pages, in the order in which a page speaks of them.
function mention(name) {
    if (!(name in seen)) {
        seen[name] = 1
        mentioned[++mentions] = name
    }
}

function begin_page(names, about,    i) {
    page = ".TH " toupper(names[1]) " 3 @DATE@ \"cfutures " version "\"\n.nh\n.ad l\n"
    for (i in seen) delete seen[i]
    mentions = 0
    heading("NAME")
    for (i = 2; i in names; i++) names[1] = names[1] ", " names[i]
    fill(names[1] " \\- " verbatim(about))
    sub(/,.*/, "", names[1])
    for (i = 1; i in names; i++) seen[names[i]] = 1
}

function finish_page(name) {
    n++
    text_of[n] = page
    file_of[n] = name
    number_of[name] = n
    for (i = 1; i <= mentions; i++) mention_of[n, i] = mentioned[i]
    mentions_of[n] = mentions
}

# ---------------------------------------------------------------- the manual

function manual_line(line) {
    if (line ~ /^[A-Z][A-Z ]+$/) {
        flush_manual()
        heading(line)
    } else if (line ~ /^    /) {
        if (kind != "literal") flush_manual()
        kind = "literal"
        literal[++literals] = substr(line, 5)
    } else if (line == "") {
        if (kind == "literal") literal[++literals] = ""
        else flush_manual()
    } else if (line ~ /^- /) {
        flush_manual()
        kind = "item"
        gathered = substr(line, 3)
    } else {
        if (kind == "literal") flush_manual()
        if (kind == "") kind = "text"
        sub(/^ +/, "", line)
        gathered = gathered (gathered == "" ? "" : " ") line
    }
}

function flush_manual() {
    if (kind == "text") paragraph(gathered)
    if (kind == "item") {
        put(".IP \\(bu 2")
        fill(roff(gathered))
        fresh = 0
    }
    while (literals > 0 && literal[literals] == "") literals--
    if (kind == "literal" && literal[2] ~ /^[- ]*---[- ]*$/) put_table()
    else if (kind == "literal") put_literal()
    kind = gathered = ""
    literals = 0
}

function put_literal(    i) {
    begin_paragraph()
    put(".nf")
    for (i = 1; i <= literals; i++) {
        if (length(literal[i]) > 72) complain("wider than a page: " literal[i])
        put(literal[i] == "" ? ".sp" : verbatim(literal[i]))
    }
    put(".fi")
}

# The dashes of the second line say where the columns are. The first column is the term, the others
# are its text.
function put_table(    i, c, at, rest, columns, cell, from) {
    rest = literal[2]
    at = 1
    while (match(rest, /-+/)) {
        from[++columns] = at + RSTART - 1
        at += RSTART + RLENGTH - 1
        rest = substr(rest, RSTART + RLENGTH)
    }
    from[columns + 1] = 200
    for (i = 3; i <= literals + 1; i++) {
        if (i > literals || literal[i] !~ /^ /) {
            if (i > 3) put_row(cell, columns)
            for (c = 1; c <= columns; c++) cell[c] = ""
        }
        for (c = 1; i <= literals && c <= columns; c++) {
            rest = substr(literal[i], from[c], from[c + 1] - from[c])
            gsub(/^ +| +$/, "", rest)
            if (rest != "") cell[c] = cell[c] (cell[c] == "" ? "" : " ") rest
        }
    }
}

function put_row(cell, columns,    c, text) {
    for (c = 2; c <= columns; c++)
        text = text (text == "" ? "" : " ") capital(cell[c]) (cell[c] ~ /[.]$/ ? "" : ".")
    term(roff(cell[1]), text)
}

# ---------------------------------------------------------------- comments of declarations

function label_of(line,    name) {
    if (line ~ /^ \* Returns( |$)/) return "Returns"
    if (match(line, /^ \* [A-Za-z_][A-Za-z0-9_]*:( |$)/)) {
        name = substr(line, 4, RLENGTH - 3)
        sub(/: ?$/, "", name)
        return name
    }
    return ""
}

function comment_line(line,    name, text, at) {
    sub(/ *\*\/$/, "", line)
    name = label_of(line)
    if (name != "") {
        label = name
        labels[++label_count] = name
        text = line
        if (name == "Returns") sub(/^ \* Returns ?/, "", text)
        else sub(/^ \* [A-Za-z0-9_]*: ?/, "", text)
        body[name] = text
    } else {
        text = line
        sub(/^\/\* | \* +/, "", text)
        # A cause begins a line of its own, and so does what comes between two lists of them.
        if (label == "Returns" && text ~ /^(CF_[A-Z_]+, )*CF_[A-Z_]+: |^Or .*:$/)
            body[label] = body[label] "\n" text
        else body[label] = body[label] (body[label] == "" ? "" : " ") text
    }
    at = index(body["Threads"], " Blocks:")
    if (at > 0) {
        body["Blocks"] = substr(body["Threads"], at + 9)
        body["Threads"] = substr(body["Threads"], 1, at - 1)
        label = "Blocks"
    }
}

function put_causes(text,    lines, count, i, at) {
    count = split(text, lines, "\n")
    for (i = 1; i <= count; i++) {
        at = index(lines[i], ": ")
        if (lines[i] ~ /^(CF_[A-Z_]+, )*CF_[A-Z_]+: /)
            term(roff(substr(lines[i], 1, at - 1)), capital(substr(lines[i], at + 2)))
        else paragraph(i == 1 ? capital(lines[i]) : lines[i])
    }
}

# The first letter, unless the text begins with a name of the code.
function capital(text,    word) {
    word = text
    sub(/[ ,;:.].*/, "", word)
    if (word !~ /^[a-z]+(-[a-z]+)?$/ || word in body) return text
    return toupper(substr(text, 1, 1)) substr(text, 2)
}

# A prototype in lines that fit.
function put_prototype(text,    head, rest, part) {
    gsub(/[ \t\n]+/, " ", text)
    sub(/^CFUTURES_API /, "", text)
    sub(/ ?$/, "", text)
    if (text !~ /;$/) text = text ";"
    head = text
    sub(/\(.*/, "(", head)
    if (length(text) > 70 && head != text) {
        rest = substr(text, length(head) + 1)
        put("\\fB" verbatim(head) "\\fR")
        while (rest != "") {
            part = ""
            while (match(rest, /^[^,]*(, |$)/) && length(part) + RLENGTH <= 66) {
                part = part substr(rest, 1, RLENGTH)
                rest = substr(rest, RLENGTH + 1)
                if (rest == "") break
            }
            sub(/ $/, "", part)
            put("\\fB    " verbatim(part) "\\fR")
        }
    } else put("\\fB" verbatim(text) "\\fR")
}

function put_synopsis(    i, lines, count, text) {
    heading("SYNOPSIS")
    put(".nf")
    if (posix) put("\\fB#define CFUTURES_POSIX\\fR")
    put("\\fB#include \"cfutures.h\"\\fR")
    put(".sp")
    count = split(code, lines, "\n")
    for (i = 1; i <= count; i++) {
        if (lines[i] ~ /^#define/) {
            text = lines[i]
            sub(/^#define /, "", text)
            if (match(text, /^[A-Z_]+\([^)]*\)/)) text = substr(text, 1, RLENGTH)
            else sub(/ .*/, "", text)
            put("\\fB#define " text "\\fR")
            text = ""
        } else if (code ~ /^typedef (struct|enum)[^;]*\{/) put("\\fB" verbatim(lines[i]) "\\fR")
        else {
            text = text " " lines[i]
            if (lines[i] !~ /;$/ && i < count) continue
            sub(/^ /, "", text)
            put_prototype(text)
            text = ""
        }
    }
    put(".fi")
}

# The parameters of a prototype, as " executor  fn  arg  arg_size "; "" for (void).
function parameters_of(text,    list) {
    sub(/^[^(]*\(/, "", text)
    sub(/\)[^)]*$/, "", text)
    while (match(text, /[A-Za-z0-9_]+ *(,|$)/)) {
        list = list " " substr(text, RSTART, RLENGTH) " "
        text = substr(text, RSTART + RLENGTH)
    }
    gsub(/,/, "", list)
    return list ~ /^ void $/ ? "" : list
}

function check_function(name, text,    list, names, count, i) {
    split("Python Threads Blocks Note", names, " ")
    for (i = 1; i <= 4; i++)
        if (body[names[i]] == "") complain(name " has no " names[i])
    if (text !~ /^CFUTURES_API void +cf/ && body["Returns"] == "") complain(name " has no Returns")
    list = parameters_of(text)
    count = split(list, names, " ")
    for (i = 1; i <= count; i++)
        if (names[i] != "" && body[names[i]] == "") complain(name " says nothing of " names[i])
    for (i = 1; i <= label_count; i++)
        if (labels[i] ~ /^[a-z]/ && index(list, " " labels[i] " ") == 0)
            complain(name " has no parameter " labels[i])
}

# The members of a struct or an enum.
function check_members(name, text,    lines, count, i, word) {
    sub(/^[^{]*\{/, "", text)
    sub(/\}[^}]*$/, "", text)
    gsub(/\/\*[^*]*\*\//, "", text)
    gsub(/ = -?[0-9]+/, "", text)
    gsub(/\)\([^)]*\)/, "", text)
    count = split(text, lines, /[,;]/)
    for (i = 1; i <= count; i++)
        if (match(lines[i], /[A-Za-z0-9_]+[ \n]*$/)) {
            word = substr(lines[i], RSTART, RLENGTH)
            gsub(/[ \n]/, "", word)
            if (body[word] == "") complain(name " says nothing of " word)
        }
}

# The page of what was commented. body[""] begins with the names and a sentence on what they are.
function put_declaration(    names, i, first, about, at) {
    at = index(body[""], " -- ")
    first = substr(body[""], 1, at - 1)
    about = substr(body[""], at + 4)
    at = match(about, /[.?]( |$)/)
    body[""] = substr(about, at + 2)
    about = substr(about, 1, at - 1)
    split(first, names, ", ")
    if (code ~ /^CFUTURES_API/) check_function(names[1], code)
    if (code ~ /^typedef (struct|enum)[^;]*\{/) check_members(names[1], code)
    begin_page(names, about)
    put_synopsis()
    put_description(names[1])
    if (body["Returns"] != "") {
        heading("RETURN VALUE")
        put_causes(body["Returns"])
    }
    put_section("THREADS", body["Threads"])
    put_section("BLOCKING", body["Blocks"])
    put_section("NOTES", body["Note"])
    mention_types(code)
    finish_page(names[1])
    index_of[n] = first " -- " about
    for (i in names) {
        if (i > 1) alias[names[i]] = names[1]
        if (names[1] == "cf_executor") object[names[i]] = 1
    }
}

function put_description(name,    i) {
    heading("DESCRIPTION")
    paragraph(body[""])
    for (i = 1; i <= label_count; i++) {
        if (labels[i] ~ /^(Python|Returns|Threads|Blocks|Note)$/) continue
        term("\\fB" labels[i] "\\fR", capital(body[labels[i]]))
        if (labels[i] ~ /^CF_/) member[labels[i]] = name
    }
    if (body["Python"] != "")
        paragraph("In Python: " body["Python"] (body["Python"] ~ /\.$/ ? "" : "."))
}

function put_section(title, text) {
    if (text == "") return
    heading(title)
    sub(/^ /, "", text)
    paragraph(capital(text))
}

# The types of a prototype, but for the objects, which are everywhere.
function mention_types(text,    word) {
    while (match(text, /cf_[a-z_]+/)) {
        word = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
        if (!(word in object)) mention(word)
    }
}

function reset_comment(    i) {
    for (i in body) delete body[i]
    for (i in labels) delete labels[i]
    label = code = ""
    label_count = 0
    body["Threads"] = ""
}

# ---------------------------------------------------------------- the file

BEGIN { version = "?" }

FNR == 1 {
    split($0, title, " - ")
    version = title[2]
    names[1] = "cfutures"
    begin_page(names, title[3])
    heading("SYNOPSIS")
    part = "top"
    next
}

part == "top" && /^ \* -----/ { next }
part == "top" && /^ \* MANUAL / { next }
part == "top" && /^ \*\/$/ {
    flush_manual()
    finish_page("cfutures")
    part = "interface"
    next
}
part == "top" {
    line = $0
    sub(/^ \* ?/, "", line)
    manual_line(line)
    next
}

/^#endif \/\* CFUTURES_H \*\/$/ { part = "end" }
part == "end" && /^ \* [0-9.]+  [0-9]+-[0-9]+-[0-9]+  / && date == "" { date = $3 }
part != "interface" && part != "comment" && part != "code" { next }

/^#ifdef CFUTURES_POSIX$/ { posix = 1 }
/^#endif$/ && part == "interface" { posix = 0 }

part == "interface" && /^\/\* [A-Za-z_, ]+ -- / {
    reset_comment()
    part = "comment"
}
part == "comment" {
    comment_line($0)
    if (/\*\/$/) part = "code"
    next
}
part == "code" && (/^$/ || /^#(if|endif)/) {
    sub(/^\n/, "", code)
    put_declaration()
    part = "interface"
    next
}
part == "code" { code = code "\n" $0 }

END {
    if (part != "end") complain("where is #endif /* CFUTURES_H */?")
    reset_comment()
    see_also()
    for (i = 1; i <= n; i++) write_page(file_of[i], text_of[i])
    for (name in alias) write_page(name, text_of[number_of[alias[name]]])
    close("cat >&2")
    exit bad
}

# The manual lists all pages; each page names the manual, and those that it speaks of.
function see_also(    i, k, name) {
    for (i = 1; i <= n; i++) is_page[file_of[i]] = 1
    page = ""
    heading("ALL NAMES")
    for (i = 2; i <= n; i++) {
        name = index_of[i]
        put(".TP")
        put("\\fB" substr(name, 1, index(name, " -- ") - 1) "\\fR")
        fill(roff(capital(substr(name, index(name, " -- ") + 4)) "."))
    }
    text_of[1] = text_of[1] page
    for (i = 2; i <= n; i++) {
        page = ""
        heading("SEE ALSO")
        put(".BR cfutures (3)")
        for (k = 1; k <= mentions_of[i]; k++) {
            name = mention_of[i, k]
            if (name in alias) name = alias[name]
            if (name in member) name = member[name]
            if (!(name in is_page) || name == file_of[i] || (i, name) in named) continue
            named[i, name] = 1
            sub(/\n$/, " ,\n", page)
            put(".BR " name " (3)")
        }
        text_of[i] = text_of[i] page
    }
}

function write_page(name, text) {
    if (list) {
        print name ".3"
        return
    }
    sub(/@DATE@/, date, text)
    printf "%s", text > (dir "/" name ".3")
    close(dir "/" name ".3")
}
