#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# What an exit to QEMU and back costs: a line each, figure, first measurement, its repeat.  /dev/kvm is the hypervisor's.
#
# usage: qemu.sh ROM

set -eu
status=0
said=$(qemu-system-x86_64 -M pc,accel=kvm,hpet=on -nodefaults -display none -m 16 -bios "$1" \
	-chardev file,id=out,path=/dev/stdout -device isa-debugcon,iobase=0xe9,chardev=out \
	-device isa-debug-exit,iobase=0xf4,iosize=4) || status=$?
# isa-debug-exit ends it with twice the value and one.
[ $((status & 1)) = 1 ] || { echo "qemu.sh: QEMU ended with $status: $said" >&2; exit 1; }
# shellcheck disable=SC2086
set -- $said
[ $# = 4 ] || { echo "qemu.sh: not four numbers: $said" >&2; exit 1; }
each() { awk -v name="$1" -v first="$2" -v second="$3" 'BEGIN { printf "%s %.2f %.2f\n", name, first / 100, second / 100 }'; }
each pio_qemu "$1" "$3"
each mmio_qemu "$2" "$4"
