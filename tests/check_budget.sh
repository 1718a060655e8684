#!/bin/bash
# Lengths: a function at most 100 lines (120 in core/nn, where kernels are), a file at most 600.
set -eu
cd "$(dirname "$0")/.."
mapfile -t files < <(find core server tests -name '*.[ch]' -o -name '*.inc' | sort)
status=0

# pmccabe: modified complexity, complexity, statements, first line, lines, file(line): name
over=$(pmccabe "${files[@]}" | awk '{ most = $6 ~ /^core\/nn\// ? 120 : 100 } $5 > most { print $6, $7 ": " $5 " lines" }')
if [ -n "$over" ]; then
    echo "$over"
    status=1
fi
mapfile -t files < <(find core server tests web -name '*.[ch]' -o -name '*.inc' -o -name '*.py' \
    -o -name '*.js' -o -name '*.css' | sort)
long=$(wc -l "${files[@]}" | awk '$2 != "total" && $1 > 600 { print $2 ": " $1 " lines" }')
if [ -n "$long" ]; then
    echo "$long"
    status=1
fi
exit $status
