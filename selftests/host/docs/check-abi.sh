#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# TAP: Documentation/abi.rst has a row for each ioctl that the module serves, none for others, the test
# programs that it names exist, and each capability that the module reports is named.

tree=$(cd "$(dirname "$0")/../../.." && pwd)
abi=$tree/Documentation/abi.rst
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail=0

result() {
	if [ -s "$3" ]; then
		echo "not ok $1 $2"
		sed 's/^/#   /' "$3"
		fail=1
	else
		echo "ok $1 $2"
	fi
}

# "case KVM_X:" of the dispatchers, and the rows "{ KVM_X, " of the state ioctls
sed -nE 's/^\t(case|\{) ((KVM|KEEL)_[A-Z0-9_]+)[:,].*/\2/p' "$tree"/module/main.c "$tree"/module/vm.c \
	"$tree"/module/vcpu.c "$tree"/module/regs.c "$tree"/module/irqchip/routing.c |
	grep -vE '^KVM_(CAP|IRQCHIP|IRQ_ROUTING|PIO|COALESCED_MMIO_PAGE)_' | sort -u >"$tmp/served"
sed -nE 's/^   \* - ((KVM|KEEL)_[A-Z0-9_]+)$/\1/p' "$abi" | grep -v ^KVM_CAP_ | sort >"$tmp/listed"
grep -oE '``(api|guest)/[a-z0-9_]+``' "$abi" | tr -d '`' | sort -u >"$tmp/tests"

echo TAP version 13
echo 1..4
comm -23 "$tmp/served" "$tmp/listed" >"$tmp/unlisted"
result 1 "each ioctl that is served is listed" "$tmp/unlisted"
comm -13 "$tmp/served" "$tmp/listed" >"$tmp/unserved"
result 2 "each ioctl that is listed is served" "$tmp/unserved"
while read -r name; do
	[ -e "$tree/selftests/$name.c" ] || echo "$name"
done <"$tmp/tests" >"$tmp/nofile"
grep -n '^     - none$' "$abi" >>"$tmp/nofile"
result 3 "each ioctl names tests that exist" "$tmp/nofile"
sed -nE 's/^\tcase (KVM_CAP_[A-Z0-9_]+):.*/\1/p' "$tree"/module/main.c "$tree"/module/vm.c | sort -u >"$tmp/caps"
grep -oE 'KVM_CAP_[A-Z0-9_]+' "$abi" | sort -u | comm -23 "$tmp/caps" - >"$tmp/noname"
result 4 "each capability that is reported is named" "$tmp/noname"
exit $fail
