#!/bin/sh
# Documents that cannot lie.
#
# Every block of C in README.md and in the manual of cfutures.h is compiled: with `main(` in it it is
# a whole program, which also runs; beginning with `#` it stands at file scope; any other is the
# inside of a function that knows `square`, `pool`, `future`, `futures` and `count`. The first
# program of README.md is examples/hello.c without the handling of errors. Blocks that begin with
# "# path" are files of somebody else's project: they are written there and used, as far as the
# tools are installed. Every word of README.md and of the header's comments that begins with cf_,
# CF_ or CFUTURES_ is declared, every macro that the code asks for is explained, every link leads
# to a file. The manual pages have a page for each function, with all of its sections.
. tests/lib.sh

root=$(pwd)
out=${OUT:-build/test/docs}
rm -rf "$out"
mkdir -p "$out/project" "$out/man"
out=$(cd "$out" && pwd)
version=$(sed -n 's/^#define CFUTURES_VERSION_STRING "\(.*\)"/\1/p' cfutures.h)

# The make that runs this script must lend neither its job slots nor its macros to those below.
unset MAKEFLAGS MFLAGS MAKELEVEL DESTDIR PREFIX PKG_CONFIG_PATH
: "${MAKE:=make}" "${AWK:=awk}"

# ---------------------------------------------------------------- blocks of C

# Block n of README.md goes to readme_n.txt if it is C, to project/<path> if it begins with "# path",
# and to readme.sh if it is for the shell. What is left is readme.text.
mkdir -p "$out/project/subprojects/packagefiles/cfutures" "$out/project/package/cfutures" \
    "$out/project/recipes-support/cfutures"
$AWK '
    /^```/ && file != "" { file = ""; next }
    /^```/ {
        file = $0 == "```c" ? out "/readme_" ++n ".txt" : $0 == "```sh" ? out "/readme.sh" : "?"
        next
    }
    file == "?" { file = /^# [A-Za-z0-9_.\/-]+$/ ? out "/project/" $2 : out "/other" }
    file != "" { print > file }
    file == "" || file ~ /readme_/ { print > (out "/readme.text") }' out="$out" README.md

# Literal parts of the manual, but for tables, go to manual_n.txt.
$AWK '
    function flush() {
        if (lines > 0 && second !~ /---|===/) printf "%s", text > (out "/manual_" ++n ".txt")
        lines = 0
        text = second = ""
    }
    /^ \*\// { exit }
    /^ \*     / { if (++lines == 2) second = $0; text = text substr($0, 8) "\n"; next }
    /^ \*$/ { text = text "\n"; next }
    { flush() }
    END { flush() }' out="$out" cfutures.h

# Functions in the block stand before the one around the rest.
inside_function() {
    printf '#define CFUTURES_POSIX\n#include "cfutures.h"\n#include <poll.h>\n'
    printf '#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n'
    printf 'int square(cf_task *task, void *arg);\n'
    $AWK '/^static .*\)$/ { within = 1 } within { print } /^}/ { within = 0 }' "$1"
    parameters='cf_executor *pool, cf_future *future, cf_future **futures, size_t count'
    printf 'void body(%s);\nvoid body(%s) {\n' "$parameters" "$parameters"
    printf '(void)pool, (void)future, (void)futures, (void)count;\n{\n'
    $AWK '/^static .*\)$/ { within = 1 } !within { print } /^}/ { within = 0 }' "$1"
    printf '}\n}\n'
}

# compiles_block NAME FILE.txt: and runs it, where it has a main.
compiles_block() {
    source=${2%.txt}.c
    if grep -q '^#' "$2"; then cp "$2" "$source"; else inside_function "$2" >"$source"; fi
    if grep -q 'main(' "$2"; then
        # shellcheck disable=SC2086 # flags are words
        must "$1 compiles" $CC -std=c11 $CFLAGS $LDFLAGS $strict -I. "$source" -o "${2%.txt}" -pthread
        must "$1 runs" within 60 "${2%.txt}"
    else
        # shellcheck disable=SC2086 # flags are words
        must "$1 compiles" $CC -std=c11 $strict -Wno-shadow -I. -fsyntax-only "$source"
    fi
}

for block in "$out"/readme_*.txt "$out"/manual_*.txt; do
    compiles_block "$(basename "$block" .txt | sed 's/readme/README.md/; s/_/, block /')" "$block"
done
printf '49\n4\nfailed: 50000 is too big\n9\n' >"$out/expected"
prints() { "$1" | diff "$2" -; }
must 'the manual: its program prints what it says' prints "$out/manual_2" "$out/expected"

# The statements of a program, one a line: no comments, no blanks around, no place for the status.
statements() {
    sed -e 's|/\*.*\*/||' -e 's/, &[a-z]*);/, NULL);/' -e 's/ *{$//' -e 's/^ *//' -e 's/ *$//' "$1"
}
statements "$out/readme_1.txt" | grep -E 'cf_|CF_' >"$out/readme.statements"
statements examples/hello.c >"$out/hello.statements"
# in_order FILE FILE: every line of the first stands in the second, in the same order.
in_order() {
    $AWK 'NR == FNR { want[++n] = $0; next }
         $0 == want[k + 1] { k++ }
         END { if (k < n) { print "missing, or not in this order: " want[k + 1]; exit 1 } }' "$@"
}
must 'the first program of README.md is examples/hello.c' in_order "$out/readme.statements" \
    "$out/hello.statements"

# ---------------------------------------------------------------- recipes

# A place to have the header from, with a release, instead of https://example.org.
source_of_header() {
    mkdir -p "$out/source/.man" &&
        cp -R cfutures.h LICENSE README.md Makefile .man "$out/source" &&
        cd "$out/source" && git init -q && git add -A &&
        git -c user.name=nobody -c user.email=nobody -c commit.gpgsign=false commit -qm "$version" &&
        git tag "v$version"
}

in_project() { cd "$out/project" && "$@"; }

prints_49() { [ "$("$1")" = 49 ]; }

# aim FILE: at that place.
aim() {
    sed "s|https://example.org/cfutures.git|file://$out/source|" "$out/project/$1" >"$out/aimed" &&
        mv "$out/aimed" "$out/project/$1"
}

# The shell block: with what README.md says is there.
cp "$out/readme_1.txt" "$out/project/main.c"
cp cfutures.h "$out/project/"
if have cc; then
    shell_prints_49() { [ "$(sh -e "$out/readme.sh")" = 49 ]; }
    must 'the command of README.md' in_project shell_prints_49
else
    skip 'the command of README.md' 'no cc here'
fi
rm -f "$out/project/cfutures.h" "$out/project/prog"

if ! have git; then
    skip 'the recipes' 'no git here'
else
    (source_of_header) >"$out/source.log" 2>&1 || fail 'the recipes' "$(cat "$out/source.log")" git
    if have cmake; then
        aim CMakeLists.txt
        must 'CMake configures' in_project env CC="$CC" cmake -S . -B with_cmake
        must 'CMake builds' in_project cmake --build with_cmake
        must 'CMake: the program runs' prints_49 "$out/project/with_cmake/prog"
    else
        skip 'the CMake recipe' 'no cmake here'
    fi
    if have meson && have ninja; then
        aim subprojects/cfutures.wrap
        must 'Meson configures' in_project env CC="$CC" meson setup with_meson
        must 'Meson builds' in_project ninja -C with_meson
        must 'Meson: the program runs' prints_49 "$out/project/with_meson/prog"
    else
        skip 'the Meson recipe' 'no meson and ninja here'
    fi
fi

# What Buildroot and BitBake do with their recipes, in little.
if $MAKE --version 2>/dev/null | grep -q 'GNU Make'; then
    cat >"$out/buildroot.mk" <<END
STAGING_DIR = $out/staging
include $out/project/package/cfutures/cfutures.mk
$root/.stamp_staging_installed:
	\$(CFUTURES_INSTALL_STAGING_CMDS)
END
    must 'Buildroot: staging' "$MAKE" -f "$out/buildroot.mk"
    must 'Buildroot: the header is there' cmp cfutures.h "$out/staging/usr/include/cfutures.h"
else
    skip 'the Buildroot recipe' 'no GNU make here'
fi
must 'Buildroot: the version' grep -qx "CFUTURES_VERSION = $version" \
    "$out/project/package/cfutures/cfutures.mk"
bb=$out/project/recipes-support/cfutures/cfutures_$version.bb
yocto_install() {
    # shellcheck disable=SC2034 # the recipe's
    D=$out/image prefix=/usr
    oe_runmake() { "$MAKE" "$@"; }
    eval "$(sed -n '/^do_install/,/^}/p' "$bb")" && do_install
}
must 'Yocto: do_install' yocto_install
must 'Yocto: the header is there' cmp cfutures.h "$out/image/usr/include/cfutures.h"
if have md5sum; then
    sum=$(md5sum LICENSE | cut -d' ' -f1)
    must 'Yocto: the sum of LICENSE' grep -q "file://LICENSE;md5=$sum" "$bb"
fi

# ---------------------------------------------------------------- words

# parts_of FILE...: the comments of C files to parts.comments, strings to parts.strings, and the rest
# to parts.code, line by line.
parts_of() {
    $AWK '
    FNR == 1 { inside = 0 }
    {
        code = comment = string = ""
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
                if (found ~ /^"/) string = string " " found
                if (found == "/*") inside = 1
                if (found == "//") { comment = comment line; break }
            } else { code = code line; break }
        }
        print code > (out "/parts.code")
        print comment > (out "/parts.comments")
        print string > (out "/parts.strings")
    }' out="$out" "$@"
}
parts_of cfutures.h
for part in code comments strings; do mv "$out/parts.$part" "$out/header.$part"; done

words() {
    grep -ohE '\b(cf|CF|CFUTURES)_[A-Za-z0-9_]*' "$@" | sort -u
}
words "$out/header.code" >"$out/declared"

# all_known FILE FILE: each word of the second is in the first. One that ends in _ (from "cf_map_*"
# or "cf_<class>_<method>") is the beginning of others.
all_known() {
    $AWK 'NR == FNR { known[$0] = 1; all = all " " $0; next }
         !($0 in known) && !(/_$/ && index(all, " " $0)) { print; bad = 1 }
         END { exit bad }' "$@"
}
all_declared() { all_known "$out/declared" "$1"; }
for document in header.comments readme.text; do
    words "$out/$document" >"$out/used"
    must "every cf_ word of $document is declared" all_declared "$out/used"
done

# What is private does not stand in README.md, and in comments only if it is there.
private_words() { grep -ohE '\b(cf|CF)__[A-Za-z0-9_]*' "$@" | sort -u; }
private_words "$out/header.code" >"$out/private"
private_words "$out/header.comments" >"$out/used"
must 'every cf__ word of a comment is there' all_known "$out/private" "$out/used"
no_private_words() { [ -z "$(private_words "$1")" ]; }
must 'README.md speaks of nothing private' no_private_words README.md

# Tests and examples: in comments and strings only what is declared, defined by themselves, or read
# from the environment by one of them.
environment=$(grep -ohE '[( ]"CF_[A-Z_]*"|\$\{?CF_[A-Z_]*' tests/*.[ch] tests/*/*.[ch] \
    tests/*.sh tests/*/*.sh | grep -oE 'CF_[A-Z_]*')
# check_words FILE...: prints what is not known.
check_words() {
    parts_of "$@" || return
    { words "$out/header.code" "$out/parts.code"; echo "$environment"; } >"$out/known"
    cat "$out/private" >>"$out/known"
    private_words "$out/parts.code" >>"$out/known"
    { words "$out/parts.comments" "$out/parts.strings"; private_words "$out/parts.comments"; } |
        grep -v '^cf_0$' >"$out/used" # a thread
    all_known "$out/known" "$out/used"
}
must 'every cf_ word of tests and examples is known' check_words tests/*.[ch] tests/*/*.[ch] \
    examples/*.c

# Each of these would be found: a name that is no more, in each kind of place.
lies() { must "a lie is found: $1" lie_is_found "$2" "$3"; }
lie_is_found() {
    echo "$2" >"$out/lie.c"
    case $1 in
    header) parts_of "$out/lie.c" && words "$out/parts.comments" >"$out/used" &&
        ! all_declared "$out/used" ;;
    private) parts_of "$out/lie.c" && private_words "$out/parts.comments" >"$out/used" &&
        ! all_known "$out/private" "$out/used" ;;
    readme) ! no_private_words "$out/lie.c" ;;
    tests) ! check_words "$out/lie.c" ;;
    esac
}
lies 'a function in a comment of the header' header '/* see cf_future_await */'
lies 'a private function in a comment' private '/* see cf__future_await */'
lies 'a macro in a comment of the header' header '/* CFUTURES_POSIX_THREADS */'
lies 'something private in README.md' readme 'see cf__alloc'
lies 'a function in a comment of a test' tests 'int x; /* cf_pool_new says */'
lies 'a function in a string of an example' tests 'puts("cf_pool_new failed");'
lies 'a variable that nobody reads' tests '/* CF_TEST_FASTER=1 */'

# Macros that the code asks for or has a default for, and those that the two tables explain.
grep -E '^ *# *(if|ifdef|ifndef|elif|define)' "$out/header.code" >"$out/directives"
words "$out/directives" |
    grep -E '^CFUTURES_' | grep -vE '^CFUTURES_(H|IMPLEMENTED|VERSION_.*)$' >"$out/macros.code"
sed -n '/^ \* BUILD OPTIONS/,/^ \* PLATFORMS/s/^ \*     *\(CFUTURES_.*\)/\1/p' cfutures.h |
    cut -c 1-26 | words >"$out/macros.manual"
sed -n 's/^| \(`CFUTURES_[^|]*\)|.*/\1/p' README.md | words >"$out/macros.readme"
must 'the manual explains each macro' diff "$out/macros.code" "$out/macros.manual"
must 'README.md explains each macro' diff "$out/macros.code" "$out/macros.readme"
# The comparison of README.md is what a command made of figures that a command has measured.
sh tests/bench/table.sh print >"$out/table.md" 2>&1
must 'make table wrote the table of README.md' sh -c "sh tests/bench/table.sh printed | diff $out/table.md -"

# ---------------------------------------------------------------- figures

# figure NAME FILE PATTERN EXPRESSION: the number in the text is what the code says.
echo '#define CFUTURES_IMPLEMENTATION' >"$out/figures.c"
echo '#include "cfutures.h"' >>"$out/figures.c"
figure() {
    number=$(tr '\n' ' ' <"$2" | sed 's/  \**  *//g; s/ \* / /g' |
        grep -oE "$3" | grep -oE '[0-9]+' | tail -n 1)
    must "$1: the text has the figure" test -n "$number"
    echo "_Static_assert(($4) == ${number:-0}, \"$1\");" >>"$out/figures.c"
}
figure 'size of a future' cfutures.h 'one object of [0-9]+' 'sizeof(struct cf_future)'
figure 'room inside a future' cfutures.h 'up to [0-9]+ bytes lie inside' CF__INLINE
figure 'room beside options' cfutures.h 'beside options up to [0-9]+' CF__INLINE_WITH_OPTIONS
figure 'memory of an idle pool' cfutures.h '[0-9]+ MiB of futures is kept' \
    'CF__BLOCKS_KEPT * CF__BLOCK_BYTES >> 20'
figure 'how long it keeps more' cfutures.h 'what a burst left for [0-9]+ ms more' \
    'CF__TIDY / CF_MILLISECOND'
figure 'shortest longest message' cfutures.h 'but never before [0-9]+' \
    'CF__BIG >= 255 ? 255 : CF__BIG'
figure 'most threads' cfutures.h 'At most 2\^[0-9]+ threads' \
    'CF__MOST_WORKERS == (size_t)1 << 20 ? 20 : 0'
figure 'the longest duration' cfutures.h 'The longest is [0-9]+ years' \
    'INT64_MAX / CF_SECOND / 86400 / 365'
figures_are_true() {
    # shellcheck disable=SC2086,SC2154 # flags are words; lib.sh assigns
    $CC -std=c11 $CFLAGS $strict -I. -c "$out/figures.c" -o "$out/figures.o"
}
if echo '_Static_assert(sizeof(void *) == 8, "");' >"$out/wide.c" &&
    $CC -c "$out/wide.c" -o "$out/wide.o" 2>/dev/null; then
    must 'the figures of the documents are those of the code' figures_are_true
    echo '_Static_assert(sizeof(struct cf_future) == 97, "");' >>"$out/figures.c"
    no_longer_true() { ! figures_are_true; }
    must 'a false figure is found' no_longer_true
else
    skip 'the figures of the documents' 'they are those of 64-bit machines'
fi
readme_version() { tr '\n' ' ' <README.md | grep -qF "Version $version"; }
must 'README.md has the version' readme_version

# ---------------------------------------------------------------- other languages, commands

# The Python of README.md is Python.
$AWK '/^```python/ { print "from concurrent.futures import *"; within = 1; next }
     /^```/ { within = 0 } within' README.md >"$out/readme.py"
if have python3; then
    must 'the Python of README.md runs' python3 "$out/readme.py"
else
    skip 'the Python of README.md' 'no python3 here'
fi
# The map that the header promises, the list of targets, the manual.
map_is_there() { [ "$(grep -c '>>[a-z]*$' cfutures.h)" -ge 20 ]; }
must "grep '>>' cfutures.h" map_is_there
must 'make help' "$MAKE" help
help_is_whole() {
    for target in $(sed -n 's/^\([a-z]*\):.*/\1/p' Makefile | grep -v '^all$'); do
        "$MAKE" help | grep -q "  make $target " || { echo "$target"; return 1; }
    done
}
must 'make help lists every target' help_is_whole
for target in $(grep -ohE '`make [a-z]+' cfutures.h tests/*.[ch] tests/*.sh examples/*.c |
    sed 's/.* //' | sort -u); do
    must "make $target, of which a comment speaks" grep -qE "^$target:" Makefile
done

lines=$(wc -l <README.md)
must "README.md has at most 250 lines, not $lines" test "$lines" -le 250

# ---------------------------------------------------------------- manual pages

pages() { $AWK -f .man/pages.awk -v dir="$out/man" "$@"; }
must 'the manual pages are made' pages cfutures.h
listed() { $AWK -f .man/pages.awk -v list=1 cfutures.h | sort | diff - "$out/man.files"; }
ls "$out/man" | sort >"$out/man.files"
must 'the list of pages is what is made' listed

# has_page FUNCTION: one with its sections; RETURN VALUE is for functions that have one.
has_page() {
    sections='NAME SYNOPSIS DESCRIPTION THREADS BLOCKING NOTES SEE.ALSO'
    grep -qE "CFUTURES_API void +$1\(" "$out/header.code" || sections="$sections RETURN.VALUE"
    for section in $sections; do
        grep -q "^\.SH $section\$" "$out/man/$1.3" || { echo "$1: no $section"; return 1; }
    done
    grep -q 'In Python:' "$out/man/$1.3"
}
functions=$(grep -oE '^CFUTURES_API [^(]*\bcf_[a-z_]+\(' "$out/header.code" |
    grep -oE 'cf_[a-z_]+\(' | tr -d '(' | sort -u)
must 'there are functions' test "$(echo "$functions" | wc -l)" -gt 50
for function in $functions; do must "the page of $function" has_page "$function"; done

# misses WORDS SCRIPT: the header, spoilt by sed, is complained about in these words.
misses() {
    mkdir -p "$out/spoilt"
    sed "$2" cfutures.h >"$out/spoilt/cfutures.h"
    if $AWK -f .man/pages.awk -v list=1 "$out/spoilt/cfutures.h" >/dev/null 2>"$out/spoilt/errors"
    then return 1; fi
    grep -q "$1" "$out/spoilt/errors"
}
must 'a parameter without a word is found' misses 'cf_wait says nothing of when' '/^ \* when: /d'
must 'a field without a word is found' misses 'cf_pool_options says nothing of user' \
    '/^ \* user: passed to on_unread/d'
must 'a status without a word is found' misses 'cf_status says nothing of CF_BROKEN' \
    's/^ \* CF_BROKEN: / * Broken: /'
must 'a function without Returns is found' misses 'cf_cpu_count has no Returns' \
    's/^ \* Returns at least 1/ * At least 1/'
must 'a word for no parameter is found' misses 'no parameter timeuot' 's/^ \* timeout: / * timeuot: /'
must 'a line too wide for a page is found' misses 'wider than a page' \
    's/^ \*     #include <stdio.h>/&                                                                /'

if have mandoc; then
    must 'mandoc finds nothing to complain about' mandoc -T lint -W style "$out"/man/*.3
else
    skip 'mandoc -T lint' 'no mandoc here'
fi

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
