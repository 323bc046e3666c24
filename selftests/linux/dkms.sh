#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# 'make install-dkms' in the test host: DKMS builds the module for the running kernel and installs it, modprobe loads
# it, a guest boots on it, and DKMS takes it away again. The compiler runs in an emulated machine: most of an hour.
#
# Where DKMS is not installed, the one that 'scripts/get-clients --dkms' has unpacked is copied into the root file
# system. 'make check-dkms' runs it.

dir=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=guest.sh
. "$dir/guest.sh"

[ -d /run/testhost ] || skip_all "not in the test host"
if ! command -v dkms >/dev/null; then
	[ -d "$build/clients/dkms" ] || skip_all "no DKMS: scripts/get-clients --dkms"
	tar -C "$build/clients/dkms" -c . | tar -C / -x --keep-directory-symlink --no-overwrite-dir
fi
headers=$(cat "$build/module.kdir")
[ -d "$headers" ] || skip_all "no kernel headers"
[ -f "$vmlinux" ] || vmlinux=$vmlinuz
release=$(uname -r)
tree=$(realpath "$build/..")
plan 8

# Not what the test host has loaded.
rmmod keel
ln -sfn "$headers" "/lib/modules/$release/build"
mkdir -p /var/lib/dkms

version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' "$tree/dkms.conf")
make -C "$tree" install-dkms >"$work/install" 2>&1
result $? "make install-dkms" || :
[ "$tap_failed" = 0 ] || sed 's/^/# /' "$work/install" "/var/lib/dkms/keel/$version/build/make.log"
dkms status | grep -q "^keel/$version, $release, x86_64: installed"
result $? "DKMS has it installed for the running kernel"
[ "$(modinfo -F filename keel)" = "$(find "/lib/modules/$release/updates" -name 'keel.ko*')" ]
result $? "modprobe would take DKMS's module"
modprobe keel && [ -c /dev/keel ]
result $? "it loads"
guest "$vmlinux" 'exit 7'
[ "$status" = 7 ]
result $? "a Linux guest boots on it"
rmmod keel
result $? "it unloads"
dkms remove "keel/$version" --all >"$work/remove" 2>&1
result $? "dkms remove"
[ -z "$(dkms status keel)" ] && ! find "/lib/modules/$release/" /var/lib/dkms/keel -name 'keel.ko*' 2>/dev/null | grep -q .
result $? "nothing of it is left"
finish
