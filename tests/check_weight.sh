#!/bin/bash
# The dashboard weighs less than 150 KB as it goes over the wire: every file of it by gzip, Chart.js among them. Argument: the build
# directory, whose binary carries the very files that are counted.
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/release}
most=153600

weight=$(cat "$build"/assets/web/*.gz | wc -c)
echo "the dashboard weighs $weight bytes of at most $most"
[ "$(find web -maxdepth 1 -type f | wc -l)" -eq $(($(find "$build/assets/web" -name '*.gz' | wc -l) - 1)) ]
[ "$weight" -lt $most ]
