#!/bin/bash
# Runs test programs one after the other and adds up what they say. Arguments, in the order to run:
#
#   unit:BUILD    the cmocka programs made from tests/unit, in BUILD
#   threads:BUILD those of them that run more than one thread, for the thread sanitizer
#   api:BUILD     the pytest files of tests/api, each against BUILD/accreted
#   long:BUILD    those of tests/api that take long: tests/api/long_*.py
#   web:BUILD     those of tests/web: the dashboard of BUILD/accreted in Chromium
#   fuzz:BUILD    the fuzz targets over their seed files
#   check:BUILD   the scripts tests/check_*.sh, each counting as one test
#
# A program that dies, hangs past its time or stops before its last test counts as one more failure, whatever it printed.
# The last line is `N passed, N failed`, with `, N skipped` where there are any; where CI is set a skip is a failure. Logs go
# to BUILD/logs.
set -u
cd "$(dirname "$0")/.." || exit 1

limit=${TEST_TIMEOUT:-600} # seconds a program, sanitizers and a busy machine allowed for
passed=0 failed=0 skipped=0

count() { # PATTERN FILE
    grep -cE "$1" "$2" || true
}

# cmocka 1.1 writes TAP, with skipped tests as `not ok N # SKIP`.
tally_tap() {
    s=$(count '^(not )?ok [0-9]+ # SKIP' "$1")
    p=$(count '^ok [0-9]+ - ' "$1")
    f=$(count '^not ok [0-9]+ - ' "$1")
    local plan
    plan=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$1" | awk '{ n += $1 } END { print n + 0 }')
    if [ "$plan" -eq 0 ] || [ $((p + f + s)) -ne "$plan" ]; then
        f=$((f + 1))
    fi
}

# pytest -q ends with `1 failed, 2 passed, 1 error in 0.12s`.
tally_pytest() {
    local line
    line=$(grep -E '^([0-9]+ [a-z]+(, )?)+ in [0-9.]+s' "$1" | tail -1)
    number() { grep -oE "[0-9]+ $1" <<<"$line" | grep -oE '^[0-9]+' || echo 0; }
    p=$(number passed)
    s=$(($(number skipped) + $(number xfailed)))
    f=$(($(number failed) + $(number 'errors?') + $(number xpassed)))
    [ "$p" -gt 0 ] || [ "$s" -gt 0 ] || [ "$f" -gt 0 ] || f=1
}

# A check or a replay says all with its status.
tally_status() {
    p=1 s=0 f=0
}

run() { # TALLY NAME LOG COMMAND...
    local tally=$1 name=$2 log=$3 start=$SECONDS rc p s f verdict=ok why=
    shift 3
    mkdir -p "$(dirname "$log")"
    timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1 </dev/null
    rc=$?
    "$tally" "$log"
    if [ $rc -ne 0 ] && [ "$f" -eq 0 ]; then
        [ "$tally" != tally_status ] || p=0
        f=1
    fi
    case $rc in
        0 | 1) ;;
        124 | 137) why=", killed after $limit s" ;;
        *) why=", exit status $rc" ;;
    esac
    [ "$s" -eq 0 ] || why=", $s skipped$why"
    [ "$f" -eq 0 ] || verdict=FAIL
    printf '%-4s %s: %d passed, %d failed%s (%d s)\n' $verdict "$name" "$p" "$f" "$why" $((SECONDS - start))
    if [ "$f" -gt 0 ]; then
        tail -n 80 "$log" | sed 's/^/     | /'
        echo "     whole log: $log"
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

run_unit() { run_programs "$1" tests/unit/*/test_*.c; }

# The arithmetic alone has no threads, and would take hours under that sanitizer.
run_threads() { run_programs "$1" tests/unit/core/test_{gang,train,learner}.c tests/unit/server/test_*.c; }

run_programs() { # BUILD SOURCE...
    local build=$1 source name
    shift
    for source in "$@"; do
        name=${source#tests/unit/} name=${name%.c}
        run tally_tap "$build unit $name" "$build/logs/unit/$name.log" \
            env CMOCKA_MESSAGE_OUTPUT=TAP "$build/unit/$name"
    done
}

run_api() { run_pytest api test "$1"; }

run_long() { run_pytest api long "$1"; }

run_web() { run_pytest web test "$1"; }

run_pytest() { # FOLDER PREFIX BUILD
    local file name
    for file in tests/"$1"/"$2"_*.py; do
        name=$(basename "$file" .py)
        run tally_pytest "$3 $1 $name" "$3/logs/$1/$name.log" \
            env ACCRETED="$PWD/$3/accreted" /usr/bin/python3 -m pytest -q -p no:cacheprovider --color=no "$file"
    done
}

run_fuzz() {
    local source name
    for source in tests/fuzz/fuzz_*.c; do
        name=$(basename "$source" .c)
        run tally_status "$1 fuzz $name" "$1/logs/fuzz/$name.log" \
            "$1/fuzz/$name" "tests/fuzz/corpus/${name#fuzz_}"
    done
}

run_check() {
    local script name
    for script in tests/check_*.sh; do
        name=$(basename "$script" .sh)
        run tally_status "$name" "$1/logs/$name.log" "$script" "$1"
    done
}

shopt -s nullglob
[ $# -gt 0 ] || set -- none
for suite in "$@"; do
    case $suite in
        unit:?* | threads:?* | api:?* | long:?* | web:?* | fuzz:?* | check:?*) "run_${suite%%:*}" "${suite#*:}" ;;
        *)
            echo "usage: tests/run.sh unit|threads|api|long|web|fuzz|check:BUILD ..." >&2
            exit 2
            ;;
    esac
done

printf '%d passed, %d failed' $passed $failed
[ $skipped -eq 0 ] || printf ', %d skipped' $skipped
echo
[ $failed -eq 0 ] && [ $passed -gt 0 ] && { [ -z "${CI:-}" ] || [ $skipped -eq 0 ]; }
