#!/bin/bash
# tests/run.sh itself: over a small tree of programs that pass, fail, crash, hang, stop early and skip, the sum must be right.
set -eu
cd "$(dirname "$0")/.."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/tests/unit/a" "$root/tests/api" "$root/b/unit/a"
cp tests/run.sh "$root/tests/"

program() { # NAME, its shell lines on stdin
    touch "$root/tests/unit/a/test_$1.c"
    { echo '#!/bin/sh'; cat; } >"$root/b/unit/a/test_$1"
    chmod +x "$root/b/unit/a/test_$1"
}

expect() { # STATUS LAST-LINE SUITE...
    local want_status=$1 want=$2 status=0 output last
    shift 2
    output=$("$root/tests/run.sh" "$@") || status=$?
    last=$(tail -n 1 <<<"$output")
    if [ "$last" != "$want" ] || [ $status -ne "$want_status" ]; then
        printf '%s\nwanted status %d and "%s", got %d and "%s"\n' "$output" "$want_status" "$want" $status "$last"
        exit 1
    fi
}

unset CI
expect 1 "0 passed, 0 failed" unit:b # nothing ran is no success
program good <<<'echo 1..2; echo ok 1 - a; echo ok 2 - b'
expect 0 "2 passed, 0 failed" unit:b
program skips <<<'echo 1..2; echo ok 1 - a; echo not ok 2 "# SKIP b"'
expect 0 "3 passed, 0 failed, 1 skipped" unit:b
CI=true expect 1 "3 passed, 0 failed, 1 skipped" unit:b
program fails <<<'echo 1..1; echo not ok 1 - a; exit 1'
expect 1 "3 passed, 1 failed, 1 skipped" unit:b
program crashes <<<'echo 1..2; echo ok 1 - a; kill -SEGV $$'
program silent <<<'exit 0'
program late <<<'echo 1..1; echo ok 1 - a; exit 23' # as a leak found at exit
program hangs <<<'echo 1..1; sleep 60'
touch "$root/tests/unit/a/test_absent.c"
TEST_TIMEOUT=2 expect 1 "5 passed, 6 failed, 1 skipped" unit:b
rm "$root"/tests/unit/a/*

printf 'def test_a(): pass\ndef test_b(): assert False\n' >"$root/tests/api/test_api.py"
# shellcheck disable=SC2016 # the script's own $1
printf '#!/bin/sh\n[ "$1" = b ]\n' >"$root/tests/check_build.sh"
printf '#!/bin/sh\nexit 3\n' >"$root/tests/check_red.sh"
chmod +x "$root"/tests/check_*.sh
expect 1 "2 passed, 2 failed" api:b check:b
printf 'import nothing_like_it\n' >"$root/tests/api/test_api.py"
rm "$root/tests/check_red.sh"
expect 1 "1 passed, 1 failed" api:b check:b
