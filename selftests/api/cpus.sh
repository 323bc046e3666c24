#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# CPUs that come and go under a running VM. A CPU that comes is ready for guests, the guest runs on, and all are
# clean when it is gone.
#
# For the emulated test host: runs only where KEEL_KO is set. As root.

dir=$(dirname "$0")
hold=${HOLDVM:-${OUTPUT:-$dir}/holdvm}
[ -x "$hold" ] || hold=$dir/../../build/selftests/api/holdvm
tap=$dir/tap.sh
[ -f "$tap" ] || tap=$dir/../lib/tap.sh
# shellcheck source=../lib/tap.sh
. "$tap"

unset KEEL_DEVICE

cpu=/sys/devices/system/cpu/cpu1/online
if [ -z "$KEEL_KO" ] || [ "$(id -u)" != 0 ] || [ ! -w $cpu ]; then
	skip_all "needs root, KEEL_KO and a second CPU that can go offline"
fi
modprobe msr 2>/dev/null
plan 6

# SVME, bit 12 of EFER, of a CPU: 0 or 1. What VMX has is in CR4, where no one sees it: always what is hoped for.
svme() {
	grep -q '^flags.* svm' /proc/cpuinfo || { echo "$2"; return; }
	b=$(dd if="/dev/cpu/$1/msr" bs=8 count=1 iflag=skip_bytes skip=3221225600 2>/dev/null | od -An -tu8)
	[ -n "$b" ] && echo $((b >> 12 & 1))
}

fifo=$(mktemp -u)
mkfifo "$fifo"
"$hold" run <"$fifo" >/dev/null 2>&1 &
pid=$!
exec 8>"$fifo"
rm -f "$fifo"
runs_on "$pid"
result $? "a guest runs"
[ "$(svme 0 1)" = 1 ] && [ "$(svme 1 1)" = 1 ]
result $? "both CPUs are ready for guests"

echo 0 >$cpu && [ "$(cat $cpu)" = 0 ] && runs_on "$pid"
result $? "the guest runs on without CPU 1"
echo 1 >$cpu && [ "$(cat $cpu)" = 1 ] && [ "$(svme 1 1)" = 1 ]
result $? "CPU 1 is ready again when it comes back"
taskset -p 2 "$pid" >/dev/null && runs_on "$pid"
result $? "and runs the guest"

kill -9 $pid
wait $pid 2>/dev/null
exec 8>&-
for try in 1 2 3 4 5; do
	[ "$(svme 0 0)$(svme 1 0)" = 00 ] && break
	sleep 0.2
done
[ "$(svme 0 0)$(svme 1 0)" = 00 ]
result $? "both CPUs are clean when it is gone"
finish
