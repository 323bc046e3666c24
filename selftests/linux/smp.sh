#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Linux guests with four CPUs: found by ACPI and by the MP table, under a load of TLB shootdowns,
# offline and online again, with their threads moved about; and that the interrupt controllers and
# timers that the kernel has stay in the kernel.
#
# guest.sh says what this takes from the environment.
# shellcheck disable=SC2016

dir=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=guest.sh
. "$dir/guest.sh"
plan 17

[ -f "$vmlinux" ] || vmlinux=$vmlinuz
guest_program=$(program shootdown)
guest_reboot=

# What the guest said as 'NAME: ...' in its output.
said() {	# NAME
	sed -n "s/^$1: //p" "$work/out"
}

# is WHAT SEEN WANTED
is() {
	[ "$2" = "$3" ]
	passed=$?
	[ $passed = 0 ] || { echo "# '$2', not '$3'"; say_outputs; }
	result $passed "$1"
}

# contains DESCRIPTION FILE PATTERN
contains() {
	grep -q "$3" "$2"
	passed=$?
	[ $passed = 0 ] || { echo "# no '$3'"; say_outputs; }
	result $passed "$1"
}

# --- ACPI, shootdowns, and what leaves the kernel

guest "$vmlinux" '
echo "cpus: $(nproc)"
dmesg | grep -c "Using ACPI (MADT) for SMP configuration" | sed "s/^/madt: /"
# at the level of a warning or worse; the PCI bridge has no extended configuration space
dmesg -r | grep "^<[0-4]>" | grep -v MMCONFIG | grep -i -e acpi -e madt -e apic -e "AE_" -e tsc: | sed "s/^/complaint: /"
awk "/LOC:/ { for (i = 2; i < 6; i++) if (\$i > 0) n++ } END { print \"ticking: \" n + 0 }" /proc/interrupts
shootdown 4 300 | sed "s/^/load: /"
awk "/^ *TLB:|^ *CAL:/ { for (i = 2; i < 6; i++) n += \$i } END { print \"ipis: \" (n > 1000) }" /proc/interrupts
awk "/^ERR:/ { print \"errors: \" \$2 }" /proc/interrupts
poweroff -f
sleep 60' -c 4 --stats
is "four CPUs" "$(said cpus)" 4
is "by the MADT" "$(said madt)" 1
is "without a complaint about ACPI" "$(said complaint)" ""
is "each with timer interrupts" "$(said ticking)" 4
is "no stale translation under shootdowns" "$(said load)" "4 threads, 300 rounds, 0 stale"
is "which took many IPIs" "$(said ipis)" 1
is "and no APIC saw an error" "$(said errors)" 0
is "poweroff ends keel run with 0" "$status" 0
contains "and a message" "$work/err" '^keel: the guest powered off$'

# PIC, PIT and its gate, ELCR; I/O APIC, local APICs, and memory that no device here has
grep -E '^  (port 0x(20|21|40|41|42|43|61|a0|a1|4d0|4d1)|mmio [^ ]*) |^  (MMIO|HLT|X86_(RD|WR)MSR|IOAPIC_EOI|SET_TPR|IRQ_WINDOW_OPEN) ' \
	"$work/err" >"$work/left"
grep -q '^keel: exits to userspace' "$work/err" && ! [ -s "$work/left" ]
passed=$?
[ $passed = 0 ] || { sed 's/^/# left the kernel: /' "$work/left"; say_outputs; }
result $passed "no access to an interrupt controller or timer leaves the kernel"

# --- the MP table

guest "$vmlinux" '
echo "cpus: $(nproc)"
dmesg | grep -c "ACPI: RSDP" | sed "s/^/rsdp: /"
dmesg | grep -c "Intel MultiProcessor Specification" | sed "s/^/mptable: /"
halt -f
sleep 60' -c 4 --no-acpi
is "--no-acpi: four CPUs by the MP table" "$(said cpus) $(said rsdp) $(said mptable)" "4 0 1"
grep -q '^keel: the guest halted$' "$work/err" && [ "$status" = 0 ]
passed=$?
[ $passed = 0 ] || say_outputs
result $passed "halt ends keel run with 0 and a message"

# --- offline and online

# With all vCPUs on one CPU, each waiting for the others with interrupts off, this takes too long in Bochs.
if [ "$(nproc)" -lt 2 ]; then
	for what in "an offline vCPU costs nothing" "a CPU goes offline and comes back" \
		"again and again, each of them" "reboot ends keel run with 0 and a message" \
		"no stale translation while vCPUs move between CPUs"; do
		skip "$what" "one CPU"
	done
	finish
fi

# in_background SCRIPT [OPTIONS...]: as guest, but leaves pid, and returns when the guest says 'go'.
# What is written to descriptor 7 is the guest's input.
in_background() {
	make_initrd "$1"
	shift
	rm -f "$work/in"
	mkfifo "$work/in"
	exec 7<>"$work/in"
	timeout $((240 * patience)) "$keel" run --device "$device" --kernel "$vmlinux" --initrd "$work/initrd" \
		--append "console=ttyS0 panic=-1 quiet loglevel=1" "$@" \
		<"$work/in" >"$work/out" 2>"$work/err" 7>&- &
	timeout=$!
	pid=
	waited=0
	until grep -q '^go$' "$work/out" || [ $waited -ge 900 ]; do
		sleep 0.1
		waited=$((waited + 1))
	done
	for process in /proc/[0-9]*; do
		read -r stat 2>/dev/null <"$process/stat" || continue
		case $stat in
		*" (keel) "*)	pid=${process#/proc/} ;;
		esac
	done
}

# The task of a vCPU, by its name.
task() {	# NUMBER
	for task in "/proc/$pid/task"/*; do
		[ "$(cat "$task/comm" 2>/dev/null)" = "vcpu $1" ] && echo "$task"
	done
}

# Ticks of user, system and guest time, and switches to and from the task: all that it could cost.
cost() {	# TASK
	read -r stat <"$1/stat"
	# shellcheck disable=SC2086
	set -- "$1" ${stat##*)}
	echo $((${13} + ${14})) $(sed -n 's/.*ctxt_switches:[^0-9]*//p' "$1/status")
}

in_background '
cd /sys/devices/system/cpu
echo 0 >cpu3/online
echo "cpus: $(nproc)"
sleep 1
echo go
read -r line </dev/ttyS0
echo 1 >cpu3/online
echo "again: $(nproc)"
taskset 8 awk "BEGIN { for (i = 0; i < 100000; i++) x += i; print \"sum: \" x }"
for i in 1 2 3 4 5 6 7 8; do
	echo 0 >cpu$((i % 3 + 1))/online && echo 1 >cpu$((i % 3 + 1))/online && echo cycle
done
echo "end: $(nproc)"
reboot -f
sleep 60' -c 4
vcpu3=$(task 3)
vcpu0=$(task 0)
if [ -n "$vcpu3" ] && [ -n "$vcpu0" ]; then
	# The host may wake it for work of its own, such as a page that it has moved: not each time.
	for try in 1 2 3 4; do
		sleep 1
		before=$(cost "$vcpu3")
		before0=$(cost "$vcpu0")
		sleep 5
		after=$(cost "$vcpu3")
		after0=$(cost "$vcpu0")
		echo "# look $try: the offline vCPU: $before, then $after; the boot CPU: $before0, then $after0"
		[ "$before" != "$after" ] || break
	done
	[ "$before" = "$after" ] && [ "$before0" != "$after0" ]
	result $? "an offline vCPU costs nothing"
else
	say_outputs
	result 1 "an offline vCPU costs nothing"
fi
echo >&7
wait $timeout
status=$?
is "a CPU goes offline and comes back" "$(said cpus) $(said again) $(said sum)" "3 4 4999950000"
is "again and again, each of them" "$(grep -c '^cycle' "$work/out") $(said end)" "8 4"
grep -q '^keel: the guest asked for a reset (port 0xcf9)$' "$work/err" && [ "$status" = 0 ]
passed=$?
[ $passed = 0 ] || say_outputs
result $passed "reboot ends keel run with 0 and a message"

# --- moved about

in_background 'echo go; shootdown 4 300 | sed "s/^/load: /"; poweroff -f; sleep 60' -c 4
moves=0
while kill -0 $timeout 2>/dev/null && [ $moves -lt 2000 ]; do
	for task in "/proc/$pid/task"/*; do
		case $(cat "$task/comm" 2>/dev/null) in
		"vcpu "*) taskset -p $((1 << (moves % 2))) "${task##*/}" >/dev/null 2>&1 ;;
		esac
		moves=$((moves + 1))
	done
done
wait $timeout
echo "# $moves moves"
is "no stale translation while vCPUs move between CPUs" "$(said load)" "4 threads, 300 rounds, 0 stale"
finish
