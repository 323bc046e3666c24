# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# TAP for the tests that are shell scripts: to be sourced, plan first.  A script ends with 'finish'.
# And what several of them ask.

tap_n=0
tap_failed=0

plan() {	# COUNT
	echo "TAP version 13"
	echo "1..$1"
}

# Instead of a plan: nothing here can be tested, and why.  4 is the runner's word for it.
skip_all() {	# WHY
	echo "TAP version 13"
	echo "1..0 # SKIP $1"
	exit 4
}

result() {	# STATUS DESCRIPTION
	tap_n=$((tap_n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $tap_n $2"
	else
		echo "not ok $tap_n $2"
		tap_failed=1
	fi
}

skip() {	# DESCRIPTION WHY
	tap_n=$((tap_n + 1))
	echo "ok $tap_n $1 # SKIP $2"
}

finish() {
	exit $tap_failed
}

# Ticks of user, system and guest time that a process has used
ticks() {	# PID
	read -r stat <"/proc/$1/stat" || return 1
	# shellcheck disable=SC2086
	set -- ${stat##*)}
	echo $((${12} + ${13}))
}

# Whether it uses more, within two seconds
runs_on() {	# PID
	before=$(ticks "$1") || return 1
	for try in 1 2 3 4 5 6 7 8 9 10; do
		sleep 0.2
		[ "$(ticks "$1")" -gt "$before" ] && return 0
	done
	return 1
}
