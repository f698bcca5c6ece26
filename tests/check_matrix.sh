#!/bin/sh
# What of the matrix needs a compiler alone.
OUT=${OUT:-build/test/matrix} exec sh tests/matrix.sh quick
