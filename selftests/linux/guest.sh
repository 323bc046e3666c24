# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# What the tests with whole Linux guests share: to be sourced, with 'dir' the script's directory.
#
# From the environment: KEEL (the program), KEEL_DEVICE, GUEST_KERNEL (a directory with vmlinuz and
# vmlinux), GUEST_CPIO (an initramfs with selftests/testhost/guest-init).  What is not given is
# looked for where the build leaves it, and then on this machine.

tap=$dir/tap.sh
[ -f "$tap" ] || tap=$dir/../lib/tap.sh
# shellcheck source=../lib/tap.sh
. "$tap"

for build in "$dir/../.." "$dir/../../build"; do
	[ -d "$build/userspace/keel" ] || [ ! -x "$build/userspace/keel" ] || break
done
keel=${KEEL:-$build/userspace/keel}
[ -f "$keel" ] && [ -x "$keel" ] || keel=$(command -v keel)
cpio=${GUEST_CPIO:-$dir/guest.cpio}
[ -f "$cpio" ] || cpio=$build/selftests/linux/guest.cpio
vmlinux=${GUEST_KERNEL:-$build/kernel/default}/vmlinux
vmlinuz=${GUEST_KERNEL:-$build/kernel/default}/vmlinuz
[ -f "$vmlinuz" ] || vmlinuz=/boot/vmlinuz-$(uname -r)
device=${KEEL_DEVICE:-/dev/keel}
# How many times as long all takes on a host that is slow
patience=${KEEL_PATIENCE:-1}
# For servers on this machine.
# shellcheck disable=SC2034
busybox=$(command -v busybox || echo "$build/busybox/busybox")

if [ -z "$keel" ] || ! [ -f "$vmlinuz" ] || ! [ -f "$cpio" ]; then
	skip_all "no keel program, guest kernel or initramfs"
fi

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# For guests with more than the serial console: sets 'guest_modules'.
need_guest_modules() {
	guest_modules=$dir/modules.cpio
	[ -f "$guest_modules" ] || guest_modules=$build/selftests/linux/modules.cpio
	[ -f "$guest_modules" ] || skip_all "no modules for guests"
	[ -f "$vmlinux" ] || vmlinux=$vmlinuz
}

# A program beside this script, or where the build leaves it.
program() {	# NAME
	if [ -x "$dir/$1" ]; then echo "$dir/$1"; else echo "$build/selftests/linux/$1"; fi
}

say_outputs() {
	sed "s/^/# out: /" "$work/out" | tail -n 20
	sed "s/^/# err: /" "$work/err" | tail -n 20
}

zeroes() {	# COUNT
	head -c "$1" /dev/zero
}

# One file of a cpio archive (newc).
entry() {	# NAME FILE MODE
	size=$(wc -c <"$2")
	set -- "$1" "$2" "$3" $((${#1} + 1))
	# inode mode uid gid links mtime size, four device numbers, length of the name, checksum
	printf '070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x' \
		4711 "$((0100000 + $3))" 0 0 1 0 "$size" 0 0 0 0 "$4" 0
	printf %s "$1"
	zeroes $((1 + (4 - (110 + $4) % 4) % 4))
	cat "$2"
	zeroes $(((4 - size % 4) % 4))
}

# Leaves $work/initrd, which runs the script; $guest_program goes into the guest's /bin, and
# $guest_modules is an archive with the drivers of its devices.
make_initrd() {	# SCRIPT
	printf '%s\n' "$1" >"$work/command"
	{
		cat "$cpio"
		[ -z "${guest_modules:-}" ] || cat "$guest_modules"
		entry keel.cmd "$work/command" 0644
		[ -z "${guest_program:-}" ] || entry "bin/${guest_program##*/}" "$guest_program" 0755
		entry 'TRAILER!!!' /dev/null 0644
	} >"$work/initrd"
}

# guest KERNEL SCRIPT [OPTIONS...]: runs the script in a guest; leaves status, out and err.
guest() {
	kernel=$1
	make_initrd "$2"
	shift 2
	timeout $((180 * patience)) "$keel" run --device "$device" --kernel "$kernel" --initrd "$work/initrd" \
		--append "console=ttyS0 panic=-1 ${guest_reboot-reboot=t} quiet loglevel=1 cryptomgr.notests=1 ${append_more:-}" "$@" \
		</dev/null >"$work/out" 2>"$work/err"
	status=$?
}
