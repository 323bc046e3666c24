#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# UEFI firmware in QEMU on /dev/kvm (keel.ko with kvm_node=1, or in-tree KVM): OVMF runs from flash, which is a
# read-only slot whose writes are the client's, gets to its shell, and has written its variables into the other flash.
#
# For the VT-x host: the emulator of the AMD-V host ends in the midst of it (Documentation/abi.rst). OVMF= is the
# directory of scripts/get-clients --all. 'make check-clients' runs it.

dir=$(cd "$(dirname "$0")" && pwd)
tap=$dir/tap.sh
[ -f "$tap" ] || tap=$dir/../lib/tap.sh
# shellcheck source=../lib/tap.sh
. "$tap"

[ -c /dev/kvm ] || skip_all "no /dev/kvm"
command -v qemu-system-x86_64 >/dev/null || skip_all "no QEMU"
[ -f "${OVMF:=$dir/../../build/clients/ovmf}/OVMF_CODE.fd" ] || skip_all "no OVMF: scripts/get-clients --all"
plan 2
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

cp "$OVMF/OVMF_VARS.fd" "$work/vars"
qemu-system-x86_64 -accel kvm -machine q35,smm=off,vmport=off -cpu max -m 256 -nodefaults -display none -no-reboot \
	-drive if=pflash,unit=0,format=raw,readonly=on,file="$OVMF/OVMF_CODE.fd" \
	-drive if=pflash,unit=1,format=raw,file="$work/vars" \
	-serial file:"$work/out" </dev/null 2>"$work/err" &
qemu=$!
left=300
while kill -0 $qemu 2>/dev/null && [ $left -gt 0 ] && ! grep -q "UEFI Interactive Shell" "$work/out" 2>/dev/null; do
	left=$((left - 1))
	sleep 1
done
grep -q "UEFI Interactive Shell" "$work/out"
reached=$?
kill $qemu 2>/dev/null
wait $qemu
[ $reached = 0 ] || tail -n 20 "$work/out" "$work/err" | sed 's/^/# /'
result $reached "OVMF gets to its shell"
! cmp -s "$work/vars" "$OVMF/OVMF_VARS.fd"
result $? "its variables are in the flash"
finish
