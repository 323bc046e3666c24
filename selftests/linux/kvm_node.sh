#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The parameter kvm_node=1: keel.ko serves /dev/kvm too, unless in-tree KVM has it.  For a module
# loaded with that; KEEL_KO names its file for the parts that load it anew.

dir=$(cd "$(dirname "$0")" && pwd)
tap=$dir/tap.sh
[ -f "$tap" ] || tap=$dir/../lib/tap.sh
# shellcheck source=../lib/tap.sh
. "$tap"

[ "$(cat /sys/module/keel/parameters/kvm_node 2>/dev/null)" = Y ] ||
	skip_all "keel.ko is not loaded with kvm_node=1"
plan 6

[ -c /dev/kvm ] && [ -c /dev/keel ] && ! [ -d /sys/module/kvm ]
result $? "both nodes are there, without in-tree KVM"

KEEL_DEVICE=/dev/kvm "$dir/boot.sh" | sed 's/^/# /' >"${TMPDIR:-/tmp}/kvm_node.$$"
grep -q '^# ok 1 ' "${TMPDIR:-/tmp}/kvm_node.$$" && ! grep -q '^# not ok' "${TMPDIR:-/tmp}/kvm_node.$$"
passed=$?
[ $passed = 0 ] || cat "${TMPDIR:-/tmp}/kvm_node.$$"
rm -f "${TMPDIR:-/tmp}/kvm_node.$$"
result $passed "boot.sh passes on /dev/kvm"

if [ -z "${KEEL_KO:-}" ] || ! modprobe -n kvm_amd 2>/dev/null; then
	for what in "rmmod takes both nodes away" "insmod succeeds beside in-tree KVM" \
		"/dev/kvm stays in-tree KVM's" "rmmod leaves /dev/kvm to in-tree KVM"; do
		skip "$what" "no KEEL_KO, or no in-tree KVM"
	done
	finish
fi
rmmod keel && ! [ -e /dev/kvm ] && ! [ -e /dev/keel ]
result $? "rmmod takes both nodes away"
modprobe kvm_amd && insmod "$KEEL_KO" kvm_node=1 && [ -c /dev/keel ]
result $? "insmod succeeds beside in-tree KVM"
[ "$(cat /sys/module/keel/parameters/kvm_node)" = N ] && [ -c /dev/kvm ]
result $? "/dev/kvm stays in-tree KVM's"
rmmod keel && [ -c /dev/kvm ]
result $? "rmmod leaves /dev/kvm to in-tree KVM"
rmmod kvm_amd kvm
insmod "$KEEL_KO" kvm_node=1
finish
