#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Boots stock Linux kernels with keel run, and compares what they say with what they should; and
# hands keel run what it must refuse.
#
# From the environment: KEEL (the program), KEEL_DEVICE, GUEST_KERNEL (a directory with vmlinuz and
# vmlinux), GUEST_CPIO (an initramfs with selftests/testhost/guest-init).  What is not given is
# looked for where the build leaves it, and then on this machine.
# shellcheck disable=SC2016

dir=$(cd "$(dirname "$0")" && pwd)
for build in "$dir/../.." "$dir/../../build"; do
	[ ! -x "$build/userspace/keel" ] || break
done
keel=${KEEL:-$build/userspace/keel}
[ -x "$keel" ] || keel=$(command -v keel)
cpio=${GUEST_CPIO:-$dir/guest.cpio}
[ -f "$cpio" ] || cpio=$build/selftests/linux/guest.cpio
vmlinux=${GUEST_KERNEL:-$build/kernel/default}/vmlinux
vmlinuz=${GUEST_KERNEL:-$build/kernel/default}/vmlinuz
[ -f "$vmlinuz" ] || vmlinuz=/boot/vmlinuz-$(uname -r)
device=${KEEL_DEVICE:-/dev/keel}

echo "TAP version 13"
if [ -z "$keel" ] || ! [ -f "$vmlinuz" ] || ! [ -f "$cpio" ]; then
	echo "1..0 # SKIP no keel program, guest kernel or initramfs"
	exit 4
fi
echo "1..13"

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
n=0
failed=0

result() {	# STATUS DESCRIPTION
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n $2"
	else
		echo "not ok $n $2"
		failed=1
	fi
}

skip() {
	n=$((n + 1))
	echo "ok $n $1 # SKIP $2"
}

say_outputs() {
	sed "s/^/# out: /" "$work/out" | tail -n 20
	sed "s/^/# err: /" "$work/err" | tail -n 20
}

zeroes() {
	head -c "$1" /dev/zero
}

# entry NAME FILE: one file of a cpio archive (newc).
entry() {
	size=$(wc -c <"$2")
	set -- "$1" "$2" $((${#1} + 1))
	# inode mode uid gid links mtime size, four device numbers, length of the name, checksum
	printf '070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x' \
		4711 0100644 0 0 1 0 "$size" 0 0 0 0 "$3" 0
	printf %s "$1"
	zeroes $((1 + (4 - (110 + $3) % 4) % 4))
	cat "$2"
	zeroes $(((4 - size % 4) % 4))
}

# guest KERNEL SCRIPT [OPTIONS...]: runs the script in a guest; leaves status, out and err.
guest() {
	kernel=$1
	printf '%s\n' "$2" >"$work/command"
	shift 2
	{ cat "$cpio"; entry keel.cmd "$work/command"; entry 'TRAILER!!!' /dev/null; } >"$work/initrd"
	timeout 180 "$keel" run --device "$device" --kernel "$kernel" --initrd "$work/initrd" \
		--append "console=ttyS0 panic=-1 reboot=t quiet loglevel=1 cryptomgr.notests=1" "$@" \
		</dev/null >"$work/out" 2>"$work/err"
	status=$?
}

# guest_gives KERNEL DESCRIPTION STATUS SCRIPT OUTPUT [OPTIONS...]
guest_gives() {
	what=$2
	wanted=$3
	printf '%s\n' "$5" >"$work/wanted"
	image=$1
	script=$4
	shift 5
	guest "$image" "$script" "$@"
	[ "$status" = "$wanted" ] && cmp -s "$work/out" "$work/wanted"
	passed=$?
	if [ $passed != 0 ]; then
		echo "# status $status, not $wanted; or not the output that was wanted"
		say_outputs
	fi
	result $passed "$what"
}

# refused DESCRIPTION ARGUMENTS...: keel run must say one line and end with 1.
refused() {
	what=$1
	shift
	timeout 60 "$keel" run "$@" </dev/null >"$work/out" 2>"$work/err"
	status=$?
	[ $status = 1 ] && [ "$(wc -l <"$work/err")" = 1 ] && ! [ -s "$work/out" ]
	passed=$?
	[ $passed = 0 ] || { echo "# status $status"; say_outputs; }
	result $passed "$what"
}

numbers=$(seq 1 2000)
lines='seq 1 2000; test $(nproc) = 1 && test $(grep -c . /proc/interrupts) -gt 5 && exit 7'
if [ -f "$vmlinux" ]; then
	guest_gives "$vmlinux" "an ELF kernel boots, output and status come back" 7 "$lines" "$numbers"
else
	skip "an ELF kernel boots, output and status come back" "no vmlinux"
	vmlinux=$vmlinuz
fi
guest_gives "$vmlinuz" "a bzImage boots, output and status come back" 7 "$lines" "$numbers"

# Time: the guest's clock against this machine's, and its timer against the guest's clock.
before=$(date +%s)
guest "$vmlinux" 'a=$(date +%s); sleep 3; b=$(date +%s); echo $((b - a)); date +%s' -m 1G
{ read -r slept; read -r now; } <"$work/out"
case ${slept:-none} in
3 | 4 | 5) result 0 "sleep 3 takes about three seconds of the guest's clock" ;;
*)	say_outputs
	result 1 "sleep 3 takes about three seconds of the guest's clock" ;;
esac
after=$(date +%s)
[ "${now:-0}" -ge $((before - 1)) ] && [ "${now:-0}" -le $((after + 1)) ]
result $? "the guest's clock agrees with the host's"

guest_gives "$vmlinux" "-m 1G gives the guest 1 GiB" 0 \
	'read -r _ kb _ </proc/meminfo; test $kb -gt 900000 && test $kb -le 1048576 || echo $kb; \
	echo end' end -m 1G

# Page tables, the FPU (awk's numbers are doubles) and the scheduler at work together.
sum='BEGIN { for (i = 1; i <= 30000; i++) x += i / 7; printf "%.6f\n", x }'
guest_gives "$vmlinux" "many processes at work give right results" 0 \
	"for i in 1 2 3 4 5 6 7 8; do awk '$sum' & done >/tmp/out; wait; sort -u /tmp/out" \
	"$(awk "$sum")"

guest "$vmlinux" 'echo b >/proc/sysrq-trigger; sleep 60'
[ "$status" = 2 ] && [ -s "$work/err" ]
passed=$?
[ $passed = 0 ] || { echo "# status $status, not 2"; say_outputs; }
result $passed "a triple fault ends the VM with status 2 and a message"

refused "a kernel file that is none" --device "$device" --kernel "$0"
refused "a kernel file that is not there" --device "$device" --kernel "$work/none"
head -c 100000 "$vmlinuz" >"$work/cut"
refused "a kernel file that is cut short" --device "$device" --kernel "$work/cut"
truncate -s 2G "$work/large"
refused "an initrd too large for the memory" --device "$device" --kernel "$vmlinux" \
	--initrd "$work/large" -m 256M
refused "more memory than the host has" --device "$device" --kernel "$vmlinux" -m 8192G
refused "a device that is not there" --device "$work/none" --kernel "$vmlinux"
exit $failed
