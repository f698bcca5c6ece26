#!/bin/sh
# Fuzzes what the processes of a pool tell each other, for SECONDS (60): led by coverage and under the
# sanitizers where there is a clang with libFuzzer, else by blind mutations. What is found on the way
# stays in build/corpus; an input that does harm in build/fuzz-*, or it is printed in hexadecimal.
. tests/lib.sh

: "${SECONDS_TO_FUZZ:=60}"
mkdir -p build/corpus
common='-std=c11 -g -O1 -I. tests/fuzz_desk.c -pthread'
guided='-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -DFUZZ_LIBFUZZER'
fixed=''
if have setarch && setarch "$(uname -m)" -R true 2>/dev/null; then
    fixed="setarch $(uname -m) -R" # newer kernels spread programs too widely for shadow memory
fi
# shellcheck disable=SC2086 # words
if have clang && clang $common $guided -o build/fuzz_desk 2>build/fuzz_desk.log; then
    exec $fixed build/fuzz_desk -max_len=1024 -len_control=20 -timeout=20 -print_final_stats=1 \
        -artifact_prefix=build/fuzz- "-max_total_time=$SECONDS_TO_FUZZ" build/corpus tests/corpus
fi
echo 'skipped: no clang with libFuzzer here; mutating blindly'
# shellcheck disable=SC2086 # words
$CC $common -o build/fuzz_desk &&
    exec build/fuzz_desk "-seconds=$SECONDS_TO_FUZZ" "-seed=$(date +%s)" tests/corpus
