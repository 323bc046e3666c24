#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The lines of the emulator that its unit tests reached, a file a line and in all.
#
# usage: cover.sh DIRECTORY LEAST FILE.c...
#
# DIRECTORY has the objects and their counts.  The status is 1 when less than LEAST percent of all
# lines were reached; the lines that were not are then named.

objects=$1 least=$2
shift 2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

for file; do
	${GCOV:-gcov} --stdout -o "$objects/${file%.c}.o" "$objects/${file%.c}.gcda" 2>/dev/null |
		awk -F: -v file="$file" '
			$3 == "Source" { split($0, f, "/"); mine = f[length(f)] == file }
			!mine || $2 + 0 == 0 { next }
			{ count = $1; gsub(/[ *]/, "", count) }
			count == "-" { next }
			count ~ /[#=]/ { print file ":" $2 + 0 ":" substr($0, length($1 $2) + 3); missed++; next }
			{ reached++ }
			END { print reached + 0, missed + 0, file >"/dev/stderr" }
		' 2>>"$tmp/counts" >>"$tmp/missed"
done
awk -v least="$least" '
	$1 + $2 { printf "%-16s %5d of %5d lines  %6.2f %%\n", $3, $1, $1 + $2, 100 * $1 / ($1 + $2) }
	{ reached += $1; all += $1 + $2 }
	END {
		if (!all)
			exit 1
		printf "%-16s %5d of %5d lines  %6.2f %%\n", "total", reached, all, 100 * reached / all
		exit 100 * reached / all < least
	}
' "$tmp/counts"
status=$?
if [ $status != 0 ] || [ -n "$V" ]; then
	sed 's/^/not reached: /' "$tmp/missed"
fi
exit $status
