#!/bin/bash
# Text that must not stay: notes to oneself, spaces at line ends, tabs where spaces are the rule; and what shellcheck says of
# the scripts.
set -eu
cd "$(dirname "$0")/.."
status=0
mapfile -t files < <(find core server schema migrations web tests systemd .ci \
    -type f ! -path '*/corpus/*' ! -path '*/golden/*' ! -name '*.pyc' ! -name '*.png' | sort)
files+=(README.md CHANGELOG.md CONTRIBUTING.md Makefile)

forbid() { # RULE GREP-ARGUMENTS...
    local rule=$1 found
    shift
    if found=$(grep -nE "$@"); then
        printf '%s:\n%s\n' "$rule" "$found"
        status=1
    fi
}

notes='\b(TO''DO|FIX''ME|X''XX)\b'
forbid "notes to oneself" "$notes" "${files[@]}"
forbid "spaces at the end of a line" '[[:blank:]]+$' "${files[@]}"
mapfile -t indented < <(printf '%s\n' "${files[@]}" | grep -vx Makefile)
forbid "tabs" $'\t' "${indented[@]}"

mapfile -t scripts < <(printf '%s\n' "${files[@]}" | grep -E '\.sh$|^\.ci/run$')
shellcheck "${scripts[@]}" || status=1
exit $status
