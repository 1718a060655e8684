#!/bin/bash
# The demo and its ablation end well on a handful of images, say what they must, and leave nothing behind. Argument: the build
# directory.
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/release}
export TMPDIR
TMPDIR=$(mktemp -d)
trap 'rm -rf "$TMPDIR"' EXIT

run() { # EXPECTED-LINE-PATTERNS... -- ARGUMENTS...
    local patterns=() output
    while [ "$1" != -- ]; do
        patterns+=("$1")
        shift
    done
    shift
    output=$(/usr/bin/python3 tests/demo/demo.py --daemon "$build/accreted" --per-class 40 --epochs 1 "$@")
    for pattern in "${patterns[@]}"; do
        grep -qE "$pattern" <<<"$output" || {
            printf '%s\nno line matches %s\n' "$output" "$pattern"
            exit 1
        }
    done
    if [ -n "$(ls -A "$TMPDIR")" ]; then
        echo "left behind: $(ls -A "$TMPDIR")"
        exit 1
    fi
}

run 'step 5 of 5 \[#+\] 100 %' '^after step 5( +[0-9.]+){6} *$' '^Average incremental accuracy [0-9.]+ %, last' \
    'snapshot 5: +[0-9.]+ kB of [0-9.]+ kB dense' 'training images: 0 files' '[0-9]+ of 10 right' 'systemctl enable' --
run '^finetune( +[0-9.]+ / [0-9.]+){4}$' '^m2kd( +[0-9.]+ / [0-9.]+){4}$' 'finetune \+ head +[+-][0-9.]+ points' \
    -- --ablation

if /usr/bin/python3 tests/demo/demo.py --daemon /bin/false --per-class 40 >/dev/null 2>&1; then
    echo "a daemon that does not start must fail the demo"
    exit 1
fi
