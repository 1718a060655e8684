#!/bin/bash
# The borders of the house: the engine stands alone, the database is known in one folder, the HTTP library in another.
# Argument: the build directory whose core.a is looked at.
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/release}
status=0

# Prints what grep finds, and remembers that it must not.
forbid() { # RULE GREP-ARGUMENTS...
    local rule=$1 found
    shift
    if found=$(grep -rnE --include='*.[chS]' --include='*.inc' "$@"); then
        printf '%s:\n%s\n' "$rule" "$found"
        status=1
    fi
}

include='^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]'
foreign='(microhttpd|jansson|sqlite3|uv|uv/.*|systemd/.*|archive|archive_entry|png|jpeglib|ini|sodium)\.h'
forbid "core stands on libc, CBLAS, zstd and xxhash alone" "$include$foreign" core
forbid "core knows nothing of the server" "$include(\.\./)*server/" core
forbid "sqlite3.h belongs to server/store" --exclude-dir=store "${include}sqlite3\.h" server
forbid "microhttpd.h belongs to server/http" --exclude-dir=http "${include}microhttpd\.h" server

test -f "$build/core.a"
undefined=$(nm --undefined-only "$build/core.a" | awk '$1 == "U" { print $2 }' | sort -u)
if grep -E '^(__)?(v?f?printf(_chk)?|_?exit|getenv)$' <<<"$undefined"; then
    echo "core must not print, exit or read the environment"
    status=1
fi
exit $status
