#!/bin/sh
# Documents that cannot lie. Every block of C in README.md is compiled: with `main(` in it it is a
# whole program, which also runs; beginning with `#` it stands at file scope; any other is the
# inside of a function that knows `square`, `pool`, `future`, `futures` and `count`. The first
# program is examples/hello.c without the handling of errors. The indented programs of the header's
# comments compile and run too. Every word of README.md and of the header's comments that begins
# with cf_, CF_ or CFUTURES_ is declared; every link leads to a file.
. tests/lib.sh

out=${OUT:-build/test/docs}
rm -rf "$out"
mkdir -p "$out"

# ---------------------------------------------------------------- blocks of code

# Block n, with the number of its first line in README.md, goes to block_n.txt.
awk '/^```/ { on = !on && $0 == "```c"; if (on) file = out "/block_" ++n ".txt"; next }
     on { print > file }' out="$out" README.md

inside_function() {
    printf '#include "cfutures.h"\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n'
    printf 'int square(cf_task *task, void *arg);\n'
    parameters='cf_executor *pool, cf_future *future, cf_future **futures, size_t count'
    printf 'void body(%s);\nvoid body(%s) {\n' "$parameters" "$parameters"
    printf '(void)pool, (void)future, (void)futures, (void)count;\n{\n'
    cat "$1"
    printf '}\n}\n'
}

# runs NAME PROGRAM: from PROGRAM.c
runs() {
    # shellcheck disable=SC2086 # flags are words
    must "$1 compiles" $CC -std=c11 $CFLAGS $LDFLAGS $strict -I. "$2.c" -o "$2" -pthread
    must "$1 runs" within 60 "$2"
}

for block in "$out"/block_*.txt; do
    source=${block%.txt}.c
    name="README.md, C block $(basename "${block#*block_}" .txt)"
    if grep -q 'main(' "$block"; then
        cp "$block" "$source"
        runs "$name" "${block%.txt}"
        continue
    fi
    if head -n 1 "$block" | grep -q '^#'; then cp "$block" "$source"; else
        inside_function "$block" >"$source"
    fi
    # shellcheck disable=SC2086 # flags are words
    must "$name compiles" $CC -std=c11 $strict -Wno-shadow -I. -fsyntax-only "$source"
done

# Indented parts of the header's comments that have a main, with the includes of every user.
awk '
    function flush() {
        if (text ~ /main\(/) {
            print "#define CFUTURES_IMPLEMENTATION" > (file = out "/manual_" ++n ".c")
            print "#include \"cfutures.h\"\n#include <stdio.h>\n" text > file
        }
        text = ""
    }
    /^ \*     / || /^ \*$/ { text = text substr($0, 8) "\n"; next }
    { flush() }
    END { flush() }' out="$out" cfutures.h
for source in "$out"/manual_*.c; do
    [ -f "$source" ] && runs 'the program in the manual of cfutures.h' "${source%.c}"
done

# The statements of a program, one a line: no comments, no blanks around, no place for the status.
statements() {
    sed -e 's|/\*.*\*/||' -e 's/, &[a-z]*);/, NULL);/' -e 's/ *{$//' -e 's/^ *//' -e 's/ *$//' "$1"
}
statements "$out/block_1.txt" | grep -E 'cf_|CF_' >"$out/readme.statements"
statements examples/hello.c >"$out/hello.statements"
# in_order FILE FILE: every line of the first stands in the second, in the same order.
in_order() {
    awk 'NR == FNR { want[++n] = $0; next }
         $0 == want[k + 1] { k++ }
         END { if (k < n) { print "missing, or not in this order: " want[k + 1]; exit 1 } }' "$@"
}
must 'the first program of README.md is examples/hello.c' in_order "$out/readme.statements" \
    "$out/hello.statements"

# ---------------------------------------------------------------- words

# Comments of a C file to one file, its code without strings to another, line by line.
awk '
    {
        code = comment = ""
        line = $0
        while (line != "") {
            if (inside) {
                end = index(line, "*/")
                if (end == 0) { comment = comment line; break }
                comment = comment substr(line, 1, end - 1) " "
                line = substr(line, end + 2)
                inside = 0
            } else if (match(line, /"([^"\\]|\\.)*"|\/\*|\/\//)) {
                code = code substr(line, 1, RSTART - 1) " "
                found = substr(line, RSTART, RLENGTH)
                line = substr(line, RSTART + RLENGTH)
                if (found == "/*") inside = 1
                if (found == "//") { comment = comment line; break }
            } else { code = code line; break }
        }
        print code > (out "/header.code")
        print comment > (out "/header.comments")
    }' out="$out" cfutures.h

words() {
    grep -oE '\b(cf|CF|CFUTURES)_[A-Za-z0-9_]*' "$@" | sort -u
}
words "$out/header.code" >"$out/declared"

# A word that ends in _ (from "cf_map_*" or "cf_<class>_<method>") is the beginning of others.
all_declared() {
    awk 'NR == FNR { declared[$0] = 1; all = all " " $0; next }
         !($0 in declared) && !(/_$/ && index(all, " " $0)) { print; bad = 1 }
         END { exit bad }' "$out/declared" "$1"
}
for document in "$out/header.comments" README.md; do
    words "$document" >"$out/used"
    must "every cf_ word of $(basename "$document") is declared" all_declared "$out/used"
done

# ---------------------------------------------------------------- links

# shellcheck disable=SC2013 # words are meant
for link in $(grep -oE '\]\([^)#]+' README.md | sed 's/^](//' | grep -v '://'); do
    must "README.md: $link exists" test -e "$link"
done
for example in examples/*.c; do
    must "README.md links $example" grep -qF "]($example)" README.md
done
# shellcheck disable=SC2013 # words are meant
for target in $(grep -oE '`make [a-z]+' README.md | sed 's/.* //' | sort -u); do
    must "README.md: make $target exists" grep -qE "^$target:" Makefile
done

finish
