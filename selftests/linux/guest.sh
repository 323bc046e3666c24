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
mkcpio=$dir/mkcpio
[ -x "$mkcpio" ] || mkcpio=$dir/../../scripts/mkcpio
vmlinux=${GUEST_KERNEL:-$build/kernel/default}/vmlinux
vmlinuz=${GUEST_KERNEL:-$build/kernel/default}/vmlinuz
[ -f "$vmlinuz" ] || vmlinuz=/boot/vmlinuz-$(uname -r)
device=${KEEL_DEVICE:-/dev/keel}

if [ -z "$keel" ] || ! [ -f "$vmlinuz" ] || ! [ -f "$cpio" ]; then
	skip_all "no keel program, guest kernel or initramfs"
fi

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# A program beside this script, or where the build leaves it.
program() {	# NAME
	if [ -x "$dir/$1" ]; then echo "$dir/$1"; else echo "$build/selftests/linux/$1"; fi
}

say_outputs() {
	sed "s/^/# out: /" "$work/out" | tail -n 20
	sed "s/^/# err: /" "$work/err" | tail -n 20
}

# Leaves $work/initrd, which runs the script; $guest_files are more lines for mkcpio.
make_initrd() {	# SCRIPT
	printf '%s\n' "$1" >"$work/command"
	printf '%s\n' "file /keel.cmd 644 $work/command" ${guest_files:+"$guest_files"} |
		"$mkcpio" "$work/command.cpio"
	cat "$cpio" "$work/command.cpio" >"$work/initrd"
}

# guest KERNEL SCRIPT [OPTIONS...]: runs the script in a guest; leaves status, out and err.
guest() {
	kernel=$1
	make_initrd "$2"
	shift 2
	timeout 180 "$keel" run --device "$device" --kernel "$kernel" --initrd "$work/initrd" \
		--append "console=ttyS0 panic=-1 ${guest_reboot-reboot=t} quiet loglevel=1" "$@" \
		</dev/null >"$work/out" 2>"$work/err"
	status=$?
}
