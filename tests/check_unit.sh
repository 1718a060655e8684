#!/bin/sh
# Installs into a temporary root and lets systemd look at the unit: `systemd-analyze verify` must be silent, and the
# exposure level at most 1.3 of 10. Argument: the build directory (build/release).
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/release}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

make -s BUILD="$build" DESTDIR="$root" install
make -s BUILD="$build" DESTDIR="$root" install # twice: the configuration is left alone
unit="$root/usr/local/lib/systemd/system/accreted.service"
test -x "$root/usr/local/bin/accreted"
test -f "$root/etc/accreted/accreted.conf"
grep -q '^ExecStart=/usr/local/bin/accreted ' "$unit"

sed -i "s,^ExecStart=/usr/local,ExecStart=$root/usr/local," "$unit" # verify wants to see the binary
complaints=$(systemd-analyze verify "$unit" 2>&1) || complaints="failed: $complaints"
if [ -n "$complaints" ]; then
    echo "systemd-analyze verify: $complaints"
    exit 1
fi
systemd-analyze security --offline=true --threshold=13 "$unit" >/dev/null
echo "unit ok"
