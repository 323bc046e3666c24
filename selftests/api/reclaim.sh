#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The host takes memory from running guests: discarding, merging (KSM), compaction, swapping, all of them together; and
# guests that have more memory than their group may use. In a small host (testhost --memory 256) nothing but guests that
# have twice the memory that there is.
#
# Runs as root, in a test host: it changes the host's KSM settings and its swap.

dir=$(dirname "$0")
hog=${MEMHOG:-${OUTPUT:-$dir}/memhog}
[ -x "$hog" ] || hog=$dir/../../build/selftests/api/memhog
tap=$dir/tap.sh
[ -f "$tap" ] || tap=$dir/../lib/tap.sh
# shellcheck source=../lib/tap.sh
. "$tap"

[ "$(id -u)" = 0 ] || skip_all "not root"
[ -d /run/testhost ] || skip_all "not in a test host"
if [ ! -x "$hog" ]; then
	echo "Bail out! no memhog program beside $0"
	exit 1
fi

vmstat() {
	sed -n "s/^$1 //p" /proc/vmstat
}

ksm=/sys/kernel/mm/ksm
groups=$(mktemp -d)
group=$groups/reclaim$$

leave() {
	echo 0 >$ksm/run
	rmdir "$group" 2>/dev/null
	umount "$groups" 2>/dev/null && rmdir "$groups"
	[ -z "${swap:-}" ] || swapoff "$swap"
}
trap leave EXIT

# Compressed memory as swap space; pages of memhog take a few bytes there.
swap_on() {	# SIZE
	modprobe zram || return
	echo "$1" >/sys/block/zram0/disksize && mkswap /dev/zram0 >/dev/null && swapon /dev/zram0 && swap=/dev/zram0
}

# A group of the guests' own, which may have so much memory.
group_of() {	# SIZE
	[ -e "$groups/cgroup.procs" ] || mount -t cgroup2 none "$groups" || return
	echo +memory >"$groups/cgroup.subtree_control" && mkdir -p "$group" && echo "$1" >"$group/memory.max"
}

merge() {
	echo 1 >$ksm/run
	echo 5 >$ksm/sleep_millisecs
	echo 4000 >$ksm/pages_to_scan
}

# $1 is what to do while the process runs; the status is the process's.
while_runs() {	# COMMAND PROCESS
	while kill -0 "$2" 2>/dev/null; do
		$1
	done
	wait "$2"
}

look_at_ksm() {
	n=$(cat $ksm/pages_sharing)
	[ "$n" -gt "$shared" ] && shared=$n
	sleep 0.1
}

compact() {
	echo 1 >/proc/sys/vm/compact_memory
	sleep 0.2
}

total=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
if [ "$total" -lt 1000 ]; then
	plan 1
	if swap_on 4G; then
		out=$(vmstat pswpout) in=$(vmstat pswpin)
		"$hog" 4 $((total / 2)) 1 blind
		result $? "4 guests of $((total / 2)) MiB in a host of $total MiB"
		echo "# $(($(vmstat pswpout) - out)) pages written to swap, $(($(vmstat pswpin) - in)) read"
	else
		skip "guests of twice the host's memory" "no zram"
	fi
	finish
fi

plan 9
"$hog" 2 8 3 discard
result $? "guests see what the client puts in place of pages that it discards"

"$hog" 2 8 3 discard huge
result $? "large pages, too"

# The counters are equal, so are the pages: all of them can be merged, and are written again in each round.
merge
shared=0
"$hog" 2 4 8 mergeable &
while_runs look_at_ksm $!
result $? "guests run on merged pages"
echo "# at most $shared pages shared at a time"
echo 2 >$ksm/run
[ "$shared" -gt 0 ]
result $? "pages were merged"

before=$(vmstat compact_migrate_scanned)
"$hog" 2 8 4 &
while_runs compact $!
result $? "guests run while the host compacts its memory"
echo "# $(($(vmstat compact_migrate_scanned) - before)) pages scanned"

# memhog in the group; leaves how many pages were swapped.
grouped() {	# ARGUMENT...
	out=$(vmstat pswpout) in=$(vmstat pswpin)
	(read -r pid _ </proc/self/stat; echo "$pid" >"$group/cgroup.procs"; exec "$hog" "$@") &
	while_runs "${meanwhile:-sleep 0.2}" $!
	status=$?
	out=$(($(vmstat pswpout) - out)) in=$(($(vmstat pswpin) - in))
	echo "# $out pages written to swap, $in read"
	return $status
}

if swap_on 4G && group_of 12M; then
	grouped 2 12 2
	result $? "guests with twice the memory that their group may have"
	[ "$out" -gt 3000 ] && [ "$in" -gt 3000 ]
	result $? "they were swapped"
	merge
	meanwhile=compact grouped 2 8 3 mergeable discard
	result $? "swapping, merging, compacting and discarding at once"
	echo 2 >$ksm/run
	"$hog" 1 4 3 aging
	result $? "the host swaps what the guest has not used, and spares what it has"
else
	for what in twice swapped once aging; do
		skip $what "no zram, or no memory controller of cgroups"
	done
fi

finish
