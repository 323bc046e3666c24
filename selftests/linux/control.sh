#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# A guest's control socket, and the cell its process is in.
#
# guest.sh says what they take from the environment; guest_modules is scripts/guest-modules' archive.
# shellcheck disable=SC2016

dir=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=guest.sh
. "$dir/guest.sh"
need_guest_modules
plan 17
name=control$$

# until_true COMMAND...: at most four minutes, which a guest may need to boot where much else goes on
until_true() {
	tries=0
	until "$@" || [ $tries -ge 240 ]; do
		sleep 1
		tries=$((tries + 1))
	done
	[ $tries -lt 240 ]
}

said_more_than() {	# LINES
	[ "$(wc -l <"$work/out")" -gt "$1" ]
}

balloon_is() {	# BYTES
	ctl stats && grep -q "balloon: $1" "$work/said"
}

booted_times() {	# COUNT
	[ "$(grep -c booted "$work/out")" = "$1" ]
}

ctl() {
	timeout 60 "$keel" ctl "$name" "$@" >"$work/said" 2>&1
}

# works DESCRIPTION: of the last command's status
works() {
	[ "$1" = 0 ] || { sed 's/^/# said: /' "$work/said"; say_outputs; }
	result "$1" "$2"
}

make_initrd 'echo booted
	for event in /dev/input/event*; do (dd if=$event bs=24 count=1 2>/dev/null && echo pressed && poweroff -f) & done
	n=0; while :; do n=$((n + 1)); echo "tick $n"; sleep 1; done'
: >"$work/said"
mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null
pool=
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
	"$keel" pool create "$name" --cpu 150 --memory 1G >"$work/said" 2>&1 &&
		[ "$(cat "/sys/fs/cgroup/keel/$name/cpu.max")" = "150000 100000" ] &&
		[ "$(cat "/sys/fs/cgroup/keel/$name/memory.max")" = 1073741824 ]
	works $? "a pool with limits"
	pool="--pool $name"
else
	skip "a pool with limits" "no cgroup v2"
fi
# shellcheck disable=SC2086
"$keel" run --device "$device" --kernel "$vmlinux" --initrd "$work/initrd" -c 2 --name "$name" $pool \
	--net user --balloon --rng -m 256M --disk auto \
	--append "console=ttyS0 panic=-1 quiet loglevel=1 KEEL_DHCP=0" </dev/null >"$work/out" 2>"$work/err" &
client=$!
until_true booted_times 1
works $? "a confined guest with a name boots"

ctl status && grep -q 'state: running' "$work/said"
works $? "status"
guest_pid=$(sed -n 's/^pid: //p' "$work/said")
grep -q '^Seccomp:.*2' "/proc/$guest_pid/status" && ! (cd "/proc/$guest_pid/root" && ls) | grep -q bin
works $? "its process is under a filter, and sees no files"
for task in /proc/"$guest_pid"/task/*; do
	grep -q '^Seccomp:.*2' "$task/status" || echo "$task"
done >"$work/said"
[ ! -s "$work/said" ]
works $? "and so are all its threads"

if [ -n "$pool" ]; then
	grep -qx "$guest_pid" "/sys/fs/cgroup/keel/$name/cgroup.procs"
	works $? "its process is in the pool"
else
	skip "its process is in the pool" "no cgroup v2"
fi

ctl devices && [ "$(grep -c virtio "$work/said")" = 4 ] && grep -q 'virtio-blk.*1024 MiB' "$work/said"
works $? "devices"

ctl pause && sleep 1 && before=$(wc -l <"$work/out") && sleep 4 && after=$(wc -l <"$work/out") &&
	[ "$before" = "$after" ] && ctl status && grep -q 'state: paused' "$work/said"
works $? "a paused guest says nothing"
ctl resume && until_true said_more_than "$after"
works $? "and goes on when it is resumed"

ctl balloon 8M && until_true balloon_is 8388608
works $? "the balloon takes 8 MiB"
ctl balloon much
[ $? = 1 ] && grep -q "'much' is no size" "$work/said"
works $? "a wrong size is refused"
ctl balloon 1G
[ $? = 1 ] && grep -q "a balloon must be smaller" "$work/said"
works $? "a balloon larger than the guest is refused"

ctl dump "$work/core" && head -c 4 "$work/core" | grep -q ELF &&
	[ "$(wc -c <"$work/core")" -gt 268435456 ] &&
	[ "$(dd if="$work/core" bs=1 skip=56 count=1 2>/dev/null | od -An -tu1 | tr -d ' ')" = 2 ]
works $? "an ELF core of the guest"

sleep 60 | timeout 60 "$keel" ctl "$name" console >"$work/said" 2>&1 &
until_true grep -q tick "$work/said"
works $? "a second terminal sees the console"

ctl reset && until_true booted_times 2 && ctl status
works $? "a reset boots it anew"

until_true ctl powerdown
works $? "the power button is heard"
tries=0
while kill -0 $client 2>/dev/null && [ $tries -lt 40 ]; do
	sleep 1
	tries=$((tries + 1))
done
wait $client
[ $? = 0 ] && grep -q pressed "$work/out" && grep -q "powered off" "$work/err"
works $? "and the guest powers off"
kill -9 $client 2>/dev/null
[ -z "$pool" ] || "$keel" pool remove "$name"
finish
