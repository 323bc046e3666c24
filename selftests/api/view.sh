#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# keel ps, stat, top and events show a guest whose exits are known from its program, to whom they may, and say in
# one line what is wrong.
#
# KEEL names the program; without it, it is looked for where the build leaves it. Runs as root.

dir=$(cd "$(dirname "$0")" && pwd)
hold=${HOLDVM:-${OUTPUT:-$dir}/holdvm}
[ -x "$hold" ] || hold=$dir/../../build/selftests/api/holdvm
tap=$dir/tap.sh
[ -f "$tap" ] || tap=$dir/../lib/tap.sh
# shellcheck source=../lib/tap.sh
. "$tap"
for build in "$dir/../.." "$dir/../../build"; do
	[ -d "$build/userspace/keel" ] || [ ! -x "$build/userspace/keel" ] || break
done
keel=$(realpath "${KEEL:-$build/userspace/keel}")

[ -z "$KEEL_DEVICE" ] || [ "$KEEL_DEVICE" = /dev/keel ] || skip_all "not Keel"
[ "$(id -u)" = 0 ] || skip_all "not root"
[ -x "$keel" ] && [ -x "$hold" ] || skip_all "no keel program, or no holdvm beside $0"
plan 21

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
other=4711
user=$(id -un 2>/dev/null)

# hold ARGUMENTS...: starts a holder and waits for its line; its pid is in $pid, its input descriptor 8.
hold() {
	mkfifo "$work/hold.out" "$work/hold.in"
	"$hold" "$@" <"$work/hold.in" >"$work/hold.out" 2>&1 &
	pid=$!
	exec 8>"$work/hold.in"
	read -r line <"$work/hold.out"
	[ "$line" = ready ] || echo "# $line"
}

release() {
	exec 8>&-
	wait "$pid" 2>/dev/null
	rm -f "$work/hold.out" "$work/hold.in"
}

as_other() {
	"$hold" as $other "$@"
}

# is WHAT SEEN WANTED
is() {
	[ "$2" = "$3" ]
	passed=$?
	[ $passed = 0 ] || echo "# '$2', not '$3'"
	result $passed "$1"
}

# The count of a reason in laid out JSON.
counted() {	# REASON <JSON
	awk -v key="\"$1\":" '$1 ~ "^" key { seen = 1 } seen && /"count":/ { gsub(/[^0-9]/, ""); print; exit }'
}

# The reasons under "exits", sorted; rates have no braces of their own.
reasons() {
	sed -n 's/^ *"\([a-z_]*\)":{$/\1/p' | grep -vx -e exits -e rates | sort -u | tr '\n' ' '
}

# mistake DESCRIPTION PATTERN ARGUMENTS...: status 1, nothing on stdout, one line on stderr
mistake() {
	what=$1
	pattern=$2
	shift 2
	"$keel" "$@" >"$work/out" 2>"$work/err" </dev/null
	status=$?
	[ $status = 1 ] && [ ! -s "$work/out" ] && [ "$(wc -l <"$work/err")" = 1 ] && grep -q "$pattern" "$work/err"
	passed=$?
	[ $passed = 0 ] || sed "s/^/# status $status: /" "$work/out" "$work/err"
	result $passed "$what"
}

"$keel" events --json >"$work/events" 2>&1 &
events=$!
"$keel" events >"$work/events.text" 2>&1 &
events_text=$!
# Until both listen.
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	"$hold" errno >/dev/null
	[ -s "$work/events" ] && [ -s "$work/events.text" ] && break
	sleep 0.5
done

hold exits
first=$pid
"$keel" ps >"$work/ps"
is "ps has the VM, with its process, user, name, vCPUs and state" \
	"$(awk -v pid="$pid" '$1 == pid { print $2, $3, $4, $8 }' "$work/ps")" "${user:-0} holdvm 1 ok"
"$keel" stat "$pid" --json >"$work/stat"
is "stat: 1000 CPUIDs" "$(counted cpuid <"$work/stat")" 1000
is "stat: 31 port writes" "$(counted io <"$work/stat")" 31
is "stat: 20 RDMSRs" "$(counted rdmsr <"$work/stat")" 20
is "stat: 7 reads of a device's memory" "$(counted mmio <"$work/stat")" 7
is "stat: no HLT" "$(counted hlt <"$work/stat")" ""
"$keel" top --once --json -d 0.2 >"$work/top"
is "top --once --json: 1000 CPUIDs" "$(counted cpuid <"$work/top")" 1000
is "top --once --json names each reason that occurred" "$(reasons <"$work/top")" "$(reasons <"$work/stat")"
is "and these are among them" "$(reasons <"$work/top" | tr ' ' '\n' | grep -x -e cpuid -e io -e mmio -e nested_fault -e rdmsr | tr '\n' ' ')" \
	"cpuid io mmio nested_fault rdmsr "
"$keel" stat "$pid" --exits >"$work/text"
is "stat --exits: the count and the bars of a reason" \
	"$(awk '$1 == "cpuid" { n = $2; seen = 1; next } seen && $2 != "ticks" { exit } seen { sum += $3 } END { print n, sum }' "$work/text")" \
	"1000 1000"
"$keel" top --once -d 0.2 >"$work/text"
is "top --once: a line for the VM and one for its vCPU" \
	"$(awk -v pid="$pid" '$1 == pid { print $2, $3; getline; print $1 }' "$work/text" | tr '\n' ' ')" "holdvm all 0 "

is "another user sees nothing in ps" "$(as_other "$keel" ps | wc -l)" 1
as_other "$keel" stat "$pid" >"$work/out" 2>"$work/err"
is "nor in stat" "$? $(cat "$work/err")" "1 keel: process $pid has no VM that you may see: look with keel ps"
release

hold exits $other
is "root sees another user's" "$("$keel" ps --json | sed -n 's/^ *"uid":\([0-9]*\),$/\1/p')" $other
is "who sees it, too" "$(as_other "$keel" ps | awk '{ print $1 }' | tail -n 1)" "$pid"
release
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	grep -q '"destroyed".*"pid":'"$pid", "$work/events" && grep -q " destroyed .* $pid of" "$work/events.text" && break
	sleep 0.5
done
kill $events $events_text
wait $events $events_text 2>/dev/null
is "events: both VMs were created and destroyed" \
	"$(grep -e "\"pid\":$first," -e "\"pid\":$pid," "$work/events" |
		sed 's/.*"event":"\([a-z]*\)".*"uid":\([0-9]*\).*/\1 \2/' | tr '\n' ' ')" \
	"created 0 destroyed 0 created $other destroyed $other "
is "and as text" "$(grep -E -c " (created|destroyed) +PID ($first|$pid) of .* \(holdvm\)\$" "$work/events.text")" 4

mistake "stat without a process" "no process given: look for it with keel ps" stat
mistake "stat of one without a VM" "process 1 has no VM that you may see" stat 1
mistake "top with a bad delay" "'fast' is no number of seconds: give" top -d fast
mistake "ps with an unknown option" "unknown or ambiguous option '--frob': try keel ps --help" ps --frob
finish
