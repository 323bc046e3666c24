# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
#
# TAP for the tests that are shell scripts: to be sourced, plan first.  A script ends with 'finish'.

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
