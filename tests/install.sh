#!/bin/bash
# Installs the Debian 12 packages that are missing for a purpose, through sudo where not root; prints nothing when none
# is. Arguments: any of build, check, long, bench, demo; each takes in what it stands on.
# shellcheck disable=SC2034 # the lists are used by name
set -eu

build="gcc make pkg-config libmicrohttpd-dev libjansson-dev libsqlite3-dev libopenblas-pthread-dev libuv1-dev
    libinih-dev libsystemd-dev libjpeg62-turbo-dev libpng-dev libarchive-dev libzstd-dev libxxhash-dev libsodium-dev
    zlib1g-dev liblzma-dev libjs-chart.js"
check="$build curl dataset-fashion-mnist libcmocka-dev python3 python3-pytest python3-requests python3-jsonschema python3-hypothesis
    python3-numpy python3-pil python3-onnx python3-opencv gcc-aarch64-linux-gnu libc6-dev-arm64-cross binutils openssl pmccabe shellcheck systemd zstd"
long="$check chromium chromium-driver fonts-dejavu-core python3-selenium"
bench="$build wrk python3 python3-numpy python3-pil python3-torch python3-fastapi python3-uvicorn"
demo="$build dataset-fashion-mnist python3 curl"

wanted=
for purpose in "$@"; do
    case $purpose in
        build | check | long | bench | demo) wanted+=" ${!purpose}" ;;
        *)
            echo "usage: tests/install.sh build|check|long|bench|demo ..." >&2
            exit 2
            ;;
    esac
done

missing=
for package in $wanted; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    case "$status $missing " in
        installed\ * | *" $package "*) ;;
        *) missing+=" $package" ;;
    esac
done
# Of Prometheus the tests need promtool alone: taken out of its package, nothing is installed or started.
tools=$(cd "$(dirname "$0")/.." && pwd)/build/tools
promtool=
case " $* " in
    *" check "* | *" long "*) command -v promtool >/dev/null || [ -x "$tools/usr/bin/promtool" ] || promtool=1 ;;
esac
[ -n "$missing$promtool" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if [ -n "$missing" ] && ! command -v sudo >/dev/null; then
        echo "These Debian packages are missing; install them as root, then run this again:" >&2
        echo "    apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    as_root=sudo
fi

apt() {
    # shellcheck disable=SC2086 # no sudo is no word
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@"
}

unpack_promtool() {
    (cd "$download" && { apt-get -qq download prometheus || { apt update && apt-get -qq download prometheus; }; }) &&
        mkdir -p "$tools" &&
        dpkg-deb --fsys-tarfile "$download"/prometheus_*.deb | tar -x -C "$tools" ./usr/bin/promtool
}

echo "installing:$missing${promtool:+ promtool}"
log=$(mktemp)
download=$(mktemp -d)
trap 'rm -rf "$log" "$download"' EXIT
if [ -n "$promtool" ] && ! unpack_promtool >"$log" 2>&1; then
    cat "$log" >&2
    echo "The package prometheus could not be fetched." >&2
    exit 1
fi
[ -n "$missing" ] || exit 0
# shellcheck disable=SC2086 # one word a package
if ! { apt install -y --no-install-recommends $missing ||
    { apt update && apt install -y --no-install-recommends $missing; }; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "The packages above could not be installed." >&2
    exit 1
fi
