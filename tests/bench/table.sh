#!/bin/sh
# `make table`: keeps the medians of the last `make bench` in measured.txt, and writes the comparison
# that table.awk makes of them into README.md, between the two marks there.
#     sh tests/bench/table.sh print      prints the comparison of what measured.txt holds
#     sh tests/bench/table.sh printed    prints what stands in README.md
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/bench/lib.sh

measured=$bench/measured.txt
begin='<!-- make table -->'
end='<!-- the end of the table -->'

print() {
    awk -f "$bench/table.awk" "$1" FS='|' "$bench/table.txt"
}

printed() {
    awk -v begin="$begin" -v end="$end" '$0 == end { on = 0 } on; $0 == begin { on = 1 }' README.md
}

replace() {
    awk -v begin="$begin" -v end="$end" -v table="$1" '
        $0 == end { on = 0; seen++ }
        !on
        $0 == begin { on = 1; while ((getline line < table) > 0) print line }
        END { exit seen != 1 }' README.md
}

case ${1:-} in
print) print "$measured" ;;
printed) printed ;;
*)
    if [ ! -s "$out/conditions.txt" ]; then
        echo 'make bench comes first, all of it: without QUICK and N' >&2
        exit 1
    fi
    cat "$out/conditions.txt" "$out/medians.txt" >"$out/measured.txt"
    print "$out/measured.txt" >"$out/table.md" && replace "$out/table.md" >"$out/README.md" &&
        cp "$out/measured.txt" "$measured" && cp "$out/README.md" README.md && cat "$out/table.md"
    ;;
esac
