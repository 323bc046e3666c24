#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The benchmark's guests run to their end, each twice; what they measure is not looked at here, where time is time.

dir=$(cd "$(dirname "$0")" && pwd)
bench=${BENCH:-$dir/bench}
[ -x "$bench" ] || bench=$dir/../../build/selftests/bench/bench
tap=$dir/tap.sh
[ -f "$tap" ] || tap=$dir/../lib/tap.sh
# shellcheck source=../lib/tap.sh
. "$tap"

if [ ! -x "$bench" ]; then
	echo "Bail out! no bench program beside $0"
	exit 1
fi
figures=$("$bench" --list)
# shellcheck disable=SC2086
plan $(echo $figures | wc -w)
for figure in $figures; do
	said=$("$bench" "$figure" 2>&1)
	case $said in
	"$figure "*[0-9]" "*[0-9]) result 0 "$figure" ;;
	*) echo "# $said"; result 1 "$figure" ;;
	esac
done
finish
