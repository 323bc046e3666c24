#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# QEMU as the client, on /dev/kvm (keel.ko with kvm_node=1, or in-tree KVM): stock firmware and kernel, with all
# interrupt controllers in the kernel and with the split irqchip, and a disk whose queue is an ioeventfd and an irqfd.
#
# guest.sh says what it takes from the environment; the guest's modules are beside its kernel.
# shellcheck disable=SC2016

dir=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=guest.sh
. "$dir/guest.sh"
modules=${vmlinuz%/*}/modules
disk_modules="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk"

command -v qemu-system-x86_64 >/dev/null || skip_all "no QEMU"
[ -c /dev/kvm ] || skip_all "no /dev/kvm"
plan 3
kernel=$vmlinuz
cpus=2
# Bochs has the time for one boot, and none for a kernel that unpacks itself.
if [ "${KEEL_TESTHOST:-}" = vmx ]; then
	kernel=$vmlinux
	cpus=1
fi

# boots DESCRIPTION SCRIPT LINE OPTIONS...: the script's output must have the line.
boots() {
	what=$1
	line=$3
	make_initrd "$2"
	shift 3
	for module in $disk_modules; do
		[ ! -f "$modules/$module" ] || entry "$module.ko" "$modules/$module" 0644
	done >>"$work/initrd"
	entry 'TRAILER!!!' /dev/null 0644 >>"$work/initrd"
	timeout 180 qemu-system-x86_64 -accel kvm -cpu max -m 256 -nodefaults -display none -serial stdio \
		-no-reboot -kernel "$kernel" -initrd "$work/initrd" \
		-append "console=ttyS0 panic=-1 reboot=t quiet loglevel=1 cryptomgr.notests=1" "$@" \
		</dev/null >"$work/raw" 2>"$work/err"
	tr -d '\r' <"$work/raw" >"$work/out"
	grep -qx "$line" "$work/out"
	passed=$?
	[ $passed = 0 ] || say_outputs
	result $passed "$what"
}

boots "the controllers in the kernel, $cpus CPUs" 'echo "cpus $(nproc)"' "cpus $cpus" \
	-machine pc,kernel-irqchip=on -smp $cpus
if [ $cpus = 1 ]; then
	skip "the split irqchip" "Bochs"
	skip "a disk with ioeventfd and irqfd" "Bochs"
	finish
fi
boots "the split irqchip, 2 CPUs" 'echo "cpus $(nproc)"' "cpus 2" \
	-machine q35,kernel-irqchip=split -smp 2

# Reading 4 KiB at a time: each is a signal to the disk's thread, and an interrupt from it.
what="a disk with ioeventfd and irqfd"
if [ -f "$modules/virtio_blk" ]; then
	head -c 4M /dev/urandom >"$work/disk"
	sum=$(md5sum <"$work/disk" | cut -d' ' -f1)
	boots "$what" "
		for module in $disk_modules; do insmod /\$module.ko; done
		mount -t devtmpfs none /dev 2>/dev/null
		echo \"sum \$(dd if=/dev/vda bs=4k iflag=direct 2>/dev/null | md5sum | cut -d' ' -f1)\"" "sum $sum" \
		-machine pc,kernel-irqchip=on -object iothread,id=io \
		-drive if=none,id=disk,format=raw,file="$work/disk" \
		-device virtio-blk-pci,drive=disk,iothread=io
else
	skip "$what" "no modules for the guest"
fi
finish
