# What the tests saw of the interface of cfutures.h, beside what its comments promise.
#
#     awk -f tests/seen.awk cfutures.h >seen.c
#
# Functions that stand between the tests and the library (--wrap of the linker; `wrap=1` prints
# those names): they note each status that a function returned, or a refused future had; each field
# of an options struct that was not zero; each value of an enum that was passed or returned. With
# CF_COVERAGE_WRITE the notes of a program are printed.
#
#     awk -f tests/seen.awk -v check=1 cfutures.h tests/seen.txt NOTES
#
# Every status that the comment of a function names was seen from it, and no other; every field and
# every value was used. tests/seen.txt has what cannot be seen, a line each: the note, and why.

function trim(s) {
    gsub(/^[ \t]+|[ \t]+$/, "", s)
    return s
}

# ---- the header: declarations, and what their comments say

FNR == 1 { file++ }

file == 1 && / \* IMPLEMENTATION/ { over = 1 }
file == 1 && !over { read_header() }
file == 2 && check {
    if ($0 !~ /^#/ && NF > 3) excused[$1 " " $2 " " $3] = 1
    else if ($0 !~ /^#/ && NF > 0) complain("tests/seen.txt: no reason: " $0)
}
file == 3 && check { seen[$0] = 1 }

function read_header(line) {
    line = $0
    if (line ~ /^#if/) guards[++depth] = line
    if (line ~ /^#endif/) delete guards[depth--]
    if (line ~ /^\/\* cf_[a-z_]+ -- /) {
        sub(/^\/\* /, "", line)
        sub(/ -- .*/, "", line)
        about = line
        label = ""
    }
    if (line ~ /^ \* [A-Z][a-z]+/ && line !~ /^ \* CF_/) {
        label = line
        sub(/^ \* /, "", label)
        sub(/[ :.].*/, "", label)
    }
    if (line ~ /^ \* status: /) label = "Returns"
    if (about != "" && label == "Returns") read_promise(line)
    if (line ~ /\*\/$/) closing = 1
    if (line ~ /^CFUTURES_API / || (declaration != "" && !done)) {
        declaration = declaration " " line
        if (line ~ /[;)]$/) declare()
    }
    if (line ~ /^typedef (struct|enum) cf_[a-z_]+ \{/) {
        body = ""
        type = $3
        kind = $2
    }
    if (kind != "") body = body " " line
    if (kind != "" && line ~ /^\} cf_|\} cf_[a-z_]+;$/) read_type()
}

# "   CF_A, CF_B: why", in the paragraph of Returns; or another function that says it.
function read_promise(line, n, i, names, head) {
    if (match(line, /(as|those of|what) cf_[a-z_]+/)) {
        head = substr(line, RSTART, RLENGTH)
        sub(/.* /, "", head)
        inherits[about] = inherits[about] " " head
    }
    if (line !~ /^ \*   CF_[A-Z_, CF]+: /) return
    head = line
    sub(/^ \*   /, "", head)
    sub(/: .*/, "", head)
    n = split(head, names, /, */)
    for (i = 1; i <= n; i++) promised[about, names[i]] = 1
}

function declare(name, result, text) {
    text = declaration
    declaration = ""
    if (text ~ /\.\.\./) return
    sub(/^ *CFUTURES_API /, "", text)
    sub(/;.*/, "", text)
    name = text
    sub(/\(.*/, "", name)
    result = name
    sub(/.*[ *]/, "", name)
    sub(/[a-z_]+$/, "", result)
    functions[++function_count] = name
    results[name] = trim(result)
    sub(/^[^(]*\(/, "", text)
    sub(/\)[^)]*$/, "", text)
    parameters[name] = text
    posix[name] = depth > 0 && guards[depth] ~ /CFUTURES_POSIX/
}

function read_type(n, i, parts, field, k, names) {
    sub(/^[^{]*\{/, "", body)
    sub(/\}[^}]*$/, "", body)
    gsub(/\/\*[^*]*\*\//, "", body)
    n = split(body, parts, kind == "enum" ? "," : ";")
    for (i = 1; i <= n; i++) {
        field = parts[i]
        if (kind == "enum") {
            sub(/=.*/, "", field)
            if (trim(field) != "") values[type] = values[type] " " trim(field)
        } else {
            if (match(field, /\(\*[a-z_]+\)/)) field = substr(field, RSTART + 2, RLENGTH - 3)
            sub(/.*[ *]/, "", field)
            if (field ~ /^[a-z_]+$/) fields[type] = fields[type] " " field
        }
    }
    types[++type_count] = type
    kind = ""
}

# ---- the functions between

function is_options(type) { return type ~ /^cf_(pool|submit|map)_options$|^cf_observer$/ }

function notes_status(name) {
    return results[name] == "cf_status" || parameters[name] ~ /cf_status \*status$/
}

function refused_future(name) { return name ~ /^cf_executor_submit(_with)?$/ }

# The names of the parameters, for the call; by the way what of them has to be noted.
function arguments_of(name, n, i, parts, p, type, list) {
    n = split(parameters[name], parts, ",")
    noted = ""
    for (i = 1; i <= n; i++) {
        p = trim(parts[i])
        if (p == "void") return ""
        type = p
        sub(/[ *]*[a-z_]+$/, "", type)
        sub(/^const /, "", type)
        sub(/.*[ *]/, "", p)
        list = list (i > 1 ? ", " : "") p
        if (is_options(type)) noted = noted "    note_" type "(" p ");\n"
        if (values[type] != "" && type != "cf_status") passed[type] = 1
        if (values[type] != "" && type != "cf_status") noted = noted "    note_" type "(" p ");\n"
    }
    return list
}

function is_wrapped(name) {
    arguments_of(name)
    return notes_status(name) || noted != "" || refused_future(name) || results[name] == "cf_state"
}

function print_wrapper(name, list) {
    list = arguments_of(name)
    if (posix[name]) print "#ifdef CFUTURES_POSIX"
    print results[name] " __real_" name "(" parameters[name] ");"
    print results[name] " __wrap_" name "(" parameters[name] ");"
    print results[name] " __wrap_" name "(" parameters[name] ") {"
    printf "%s", noted
    print "    " results[name] (results[name] ~ /\*$/ ? "" : " ") "result = __real_" name "(" list ");"
    if (results[name] == "cf_status") print "    note_status(" number[name] ", result);"
    else if (results[name] == "cf_state") print "    note_cf_state(result);"
    else if (refused_future(name)) print "    note_future(" number[name] ", result);"
    else if (notes_status(name))
        print "    if (status != NULL) {\n        note_status(" number[name] ", *status);\n    }"
    print "    return result;"
    print "}"
    if (posix[name]) print "#endif"
}

function print_all(i, k, n, t, list) {
    print "#include \"cfutures.h\"\n#include <stdio.h>\n#include <string.h>"
    print "#define SHARED __attribute__((section(\".bss.__gcov0.seen\")))"
    print "static unsigned char statuses[" function_count "][64] SHARED;"
    print "void coverage_notes(void);"
    print "static void note_status(int function, cf_status status) {"
    print "    statuses[function][(status + 32) & 63] = 1;\n}"
    for (t = 1; t <= type_count; t++) {
        n = split(fields[types[t]] values[types[t]], list, " ")
        if (is_options(types[t])) {
            print "static unsigned char seen_" types[t] "[" n "] SHARED;"
            print "static void note_" types[t] "(const " types[t] " *options) {"
            print "    const " types[t] " none = {0};"
            print "    if (options == NULL) {\n        return;\n    }"
            for (k = 1; k <= n; k++)
                print "    if (memcmp(&options->" list[k] ", &none." list[k] ", sizeof none." \
                    list[k] ") != 0) {\n        seen_" types[t] "[" k - 1 "] = 1;\n    }"
            if (types[t] == "cf_pool_options")
                print "    note_cf_observer(options->observer);\n    note_cf_on_full(options->on_full);" \
                    "\n    note_cf_start_method(options->start_method);"
            print "}"
        } else if (values[types[t]] != "" && types[t] != "cf_status") {
            print "static unsigned char seen_" types[t] "[" n "] SHARED;"
            print "__attribute__((unused)) static void note_" types[t] "(" types[t] " value) {"
            for (k = 1; k <= n; k++)
                print "    if (value == " list[k] ") {\n        seen_" types[t] "[" k - 1 "] = 1;\n    }"
            print "}"
        }
        if (types[t] == "cf_status") print_futures()
    }
    for (i = 1; i <= function_count; i++) {
        number[functions[i]] = i - 1
        if (is_wrapped(functions[i])) print_wrapper(functions[i])
    }
    print "void coverage_notes(void) {"
    print "    for (int i = -32; i < 32; i++) {"
    for (i = 1; i <= function_count; i++)
        if (is_wrapped(functions[i]))
            print "        if (statuses[" i - 1 "][i + 32] != 0) {\n            printf(\"status " \
                functions[i] " %s\\n\", cf_status_name((cf_status)i));\n        }"
    print "    }"
    for (t = 1; t <= type_count; t++) {
        n = split(fields[types[t]] values[types[t]], list, " ")
        if (!is_options(types[t]) && (values[types[t]] == "" || types[t] == "cf_status")) continue
        for (k = 1; k <= n; k++)
            print "    if (seen_" types[t] "[" k - 1 "] != 0) {\n        puts(\"use " types[t] " " \
                list[k] "\");\n    }"
    }
    print "}"
}

# How a future was refused, without a look that on_unread_error would count.
function print_futures() {
    print "static void note_future(int function, const cf_future *future) {"
    print "    char text[128];"
    print "    const char *raised;"
    print "    if (!cf_future_done(future) || cf_future_repr(future, text, sizeof text) < 0) {"
    print "        return;\n    }"
    print "    raised = strstr(text, \"raised \");"
    print "    for (int i = -31; raised != NULL && i < 0; i++) {"
    print "        const char *name = cf_status_name((cf_status)i);"
    print "        if (strncmp(raised + 7, name, strlen(name)) == 0 && raised[7 + strlen(name)] == ' ') {"
    print "            note_status(function, (cf_status)i);\n        }\n    }\n}"
}

# ---- the check

function complain(what) {
    print what
    bad++
}

function promises(name, status, n, i, list, seen_before) {
    if ((name, status) in promised) return 1
    n = split(inherits[name], list, " ")
    for (i = 1; i <= n; i++)
        if (list[i] != name && list[i] != asked) {
            if (promises(list[i], status)) return 1
        }
    return 0
}

function expect(note) {
    expected++
    if (note in seen) {
        if (note in excused) complain("tests/seen.txt: it was seen after all: " note)
    } else if (!(note in excused)) {
        complain("never seen: " note)
    }
    delete excused[note]
}

function check_all(i, k, n, t, list, name, note) {
    passed["cf_state"] = passed["cf_on_full"] = passed["cf_start_method"] = 1 # returned; options
    n = split(values["cf_status"], list, " ")
    for (i = 1; i <= function_count; i++) {
        name = asked = functions[i]
        if (!is_wrapped(name) || !(notes_status(name) || refused_future(name))) continue
        for (k = 1; k <= n; k++) {
            note = "status " name " " list[k]
            if (promises(name, list[k])) expect(note)
            else if (note in seen && list[k] != "CF_OK" && !refused_future(name)) {
                if (note in excused) delete excused[note]
                else complain("the comment does not say: " note)
            }
        }
    }
    for (t = 1; t <= type_count; t++) {
        if (!is_options(types[t]) && !(types[t] in passed)) continue
        n = split(fields[types[t]] values[types[t]], list, " ")
        for (k = 1; k <= n; k++) expect("use " types[t] " " list[k])
    }
    for (k = split(values["cf_status"], list, " "); k > 0; k--) {
        for (note in seen)
            if (note ~ ("^status [a-z_]+ " list[k] "$")) produced[list[k]] = 1
        if (!(list[k] in produced)) complain("no test has ever met " list[k])
    }
    for (note in excused) complain("tests/seen.txt: nothing promises this: " note)
    if (expected < 150) complain("only " expected " promises were found in the header")
    printf "%d promises of the interface looked for, %d wrong\n", expected, bad
    exit bad > 0
}

END {
    if (check) check_all()
    else if (wrap) {
        for (i = 1; i <= function_count; i++)
            if (is_wrapped(functions[i]) && (posix_too || !posix[functions[i]])) print functions[i]
    } else print_all()
}
