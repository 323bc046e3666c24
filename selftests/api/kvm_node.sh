#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# With the parameter kvm_node=1 the module serves /dev/kvm too, and a guest runs there.

dir=$(dirname "$0")
hold=${HOLDVM:-${OUTPUT:-$dir}/holdvm}
[ -x "$hold" ] || hold=$dir/../../build/selftests/api/holdvm

echo "TAP version 13"
if [ "$(cat /sys/module/keel/parameters/kvm_node 2>/dev/null)" != Y ]; then
	echo "1..0 # SKIP the module was not loaded with kvm_node=1"
	exit 4
fi
echo "1..3"
failed=0
ok() {	# status number description
	[ "$1" = 0 ] && echo "ok $2 $3" || { echo "not ok $2 $3"; failed=1; }
}
[ "$(stat -c %t:%T /dev/kvm 2>/dev/null)" = a:e8 ]
ok $? 1 "/dev/kvm has the number that clients expect"
KEEL_DEVICE=/dev/kvm "$hold" once >/dev/null
ok $? 2 "a guest runs on /dev/kvm"
KEEL_DEVICE=/dev/keel "$hold" once >/dev/null
ok $? 3 "and on /dev/keel"
exit $failed
