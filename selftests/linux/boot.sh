#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Boots stock Linux kernels with keel run, and compares what they say with what they should; and
# hands keel run what it must refuse.
#
# guest.sh says what they take from the environment.
# shellcheck disable=SC2016

dir=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=guest.sh
. "$dir/guest.sh"
plan 13

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
	timeout $((60 * patience)) "$keel" run "$@" </dev/null >"$work/out" 2>"$work/err"
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
finish
