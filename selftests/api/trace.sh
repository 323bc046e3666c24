#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The trace events: none while they are off, and each exit of a guest whose exits are known while they are on.
#
# Runs as root.

dir=$(cd "$(dirname "$0")" && pwd)
hold=${HOLDVM:-${OUTPUT:-$dir}/holdvm}
[ -x "$hold" ] || hold=$dir/../../build/selftests/api/holdvm
tap=$dir/tap.sh
[ -f "$tap" ] || tap=$dir/../lib/tap.sh
# shellcheck source=../lib/tap.sh
. "$tap"

tracing=/sys/kernel/tracing
[ -e $tracing/events ] || mount -t tracefs tracefs $tracing 2>/dev/null
[ "$(id -u)" = 0 ] || skip_all "not root"
[ -d $tracing/events/keel ] || skip_all "no trace events of Keel"
[ -x "$hold" ] || skip_all "no holdvm beside $0"
plan 10

work=$(mktemp -d) || exit 1
trap 'echo 0 >$tracing/events/keel/enable; echo >$tracing/trace; rm -rf "$work"' EXIT

# traced EVENT [PATTERN]: how many lines, of any VM of this machine
traced() {
	grep " $1: " "$work/trace" | grep -c -e "${2:-}"
}

run() {
	echo >$tracing/trace
	"$hold" exits </dev/null >/dev/null
	cp $tracing/trace "$work/trace"
}

# is WHAT SEEN WANTED
is() {
	[ "$2" = "$3" ]
	passed=$?
	[ $passed = 0 ] || echo "# '$2', not '$3'"
	result $passed "$1"
}

is "the events" "$(cd $tracing/events/keel && echo *)" "enable filter keel_entry keel_exit keel_fault keel_inject"
run
is "none while they are off" "$(grep -c ' keel_[a-z]*: ' "$work/trace")" 0

echo 4096 >$tracing/buffer_size_kb
echo 1 >$tracing/events/keel/enable
run
is "nothing was lost" "$(sed -n 's/^# entries-in-buffer.*: \([0-9]*\)\/\([0-9]*\) .*/\1 \2/p' "$work/trace" |
	awk '{ print $1 == $2 }')" 1
is "1000 CPUIDs" "$(traced keel_exit ' reason cpuid ')" 1000
is "31 port writes" "$(traced keel_exit ' reason io ')" 31
is "20 RDMSRs" "$(traced keel_exit ' reason rdmsr ')" 20
is "as many entries as exits" "$(traced keel_entry)" "$(traced keel_exit)"
is "7 faults that are emulated" "$(traced keel_fault ' result emulate$')" 7
[ "$(traced keel_fault ' result mapped$')" -gt 0 ]
result $? "and some that are mapped"
echo 0 >$tracing/events/keel/enable
run
is "none when they are off again" "$(grep -c ' keel_[a-z]*: ' "$work/trace")" 0
finish
