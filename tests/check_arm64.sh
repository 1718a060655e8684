#!/bin/bash
# The engine's sources build for arm64 too, warnings as errors: compiled, not linked or run, by Debian's cross compiler.
set -eu
cd "$(dirname "$0")/.."
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT

# Of the libraries only the headers, the same on every architecture; behind the cross compiler's own.
libraries=/usr/include/$(gcc -print-multiarch)
for source in core/*.c core/*/*.c; do
    aarch64-linux-gnu-gcc -std=c11 -O2 -Wall -Wextra -Werror -ffp-contract=off -D_GNU_SOURCE -I. -c -o "$objects/o.o" \
        -idirafter "$libraries" -idirafter /usr/include "$source"
done
