#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The module's own life: it cannot go while a VM lives, goes when the last one is gone, leaves every CPU clean,
# and yields to another hypervisor that has the CPUs; one that comes later finds SVM taken, and shares VMX.
#
# KEEL_KO names the module file, KEEL_MODARGS its parameters; without KEEL_KO all is skipped. Runs as root. The
# module is loaded again at the end if it was loaded at the start.

dir=$(dirname "$0")
hold=${HOLDVM:-${OUTPUT:-$dir}/holdvm}
[ -x "$hold" ] || hold=$dir/../../build/selftests/api/holdvm
work=$(mktemp -d) || exit 1
tap=$dir/tap.sh
[ -f "$tap" ] || tap=$dir/../lib/tap.sh
# shellcheck source=../lib/tap.sh
. "$tap"

unset KEEL_DEVICE

[ -n "$KEEL_KO" ] || skip_all "KEEL_KO does not name a module"
[ "$(id -u)" = 0 ] || skip_all "not root"
if [ ! -x "$hold" ]; then
	echo "Bail out! no holdvm program beside $0"
	exit 1
fi
plan 17

loaded() {
	[ -d /sys/module/keel ]
}

load() {
	loaded || insmod "$KEEL_KO" $KEEL_MODARGS
}

# hold HOW: starts a holder and waits for its line; its pid is in $pid
hold() {
	mkfifo "$work/out" "$work/in"
	"$hold" "$1" <"$work/in" >"$work/out" 2>&1 &
	pid=$!
	exec 8>"$work/in"
	read -r line <"$work/out"
	[ "$line" = ready ] || echo "# $line"
}

release() {
	exec 8>&-
	[ "$1" = kill ] && kill -9 "$pid"
	wait "$pid" 2>/dev/null
	rm -f "$work/out" "$work/in"
}

# SVME, bit 12 of EFER, on any CPU. The last use of the file's descriptor ends asynchronously: wait a little.
svme_clear() {
	for try in 1 2 3 4 5; do
		dirty=0
		for msr in /dev/cpu/[0-9]*/msr; do
			b=$(dd if="$msr" bs=8 count=1 iflag=skip_bytes skip=3221225600 2>/dev/null |
				od -An -tu8) || return 1
			[ -n "$b" ] || return 1
			[ $((b >> 12 & 1)) = 0 ] || dirty=1
		done
		[ $dirty = 0 ] && return 0
		sleep 0.2
	done
	return 1
}

was_loaded=1
loaded || was_loaded=0
load
result $? "insmod"
[ -c /dev/keel ]
result $? "the device node is there"

for how in vm vcpu run; do
	hold $how
	! rmmod keel 2>/dev/null && loaded
	result $? "rmmod is refused while a client holds a VM ($how)"
	case $how in
	run) release kill ;;
	*) release ;;
	esac
done

in_tree=none
grep -q '^flags.* svm' /proc/cpuinfo && in_tree=kvm_amd
grep -q '^flags.* vmx' /proc/cpuinfo && in_tree=kvm_intel
# Since 6.12 in-tree KVM has the CPUs from its load on, unless told so.
modprobe kvm enable_virt_at_load=0 2>/dev/null
modprobe $in_tree 2>/dev/null && [ -c /dev/kvm ] || in_tree=none

# VMX shows in CR4 only, but in-tree KVM refuses to start on a CPU that is not clean.
modprobe msr 2>/dev/null
if [ -e /dev/cpu/0/msr ] && grep -q '^flags.* svm' /proc/cpuinfo; then
	svme_clear
	result $? "SVM is off on every CPU when no VM lives"
elif [ $in_tree = kvm_intel ]; then
	KEEL_DEVICE=/dev/kvm "$hold" once >/dev/null
	result $? "VMX is off when no VM lives: in-tree KVM runs a guest"
else
	skip "the CPUs are clean when no VM lives" "no msr driver, no SVM, and no in-tree KVM for VMX"
fi

if [ $in_tree != none ]; then
	export KEEL_DEVICE=/dev/kvm
	hold run
	unset KEEL_DEVICE
	e=$("$hold" errno)
	[ "$e" = EBUSY ] || echo "# CREATE_VM beside a VM of in-tree KVM: $e"
	[ "$e" = EBUSY ]
	result $? "CREATE_VM is EBUSY while another hypervisor has the CPUs"
	release kill
	sleep 0.2
	"$hold" once >/dev/null
	result $? "and works when it has let go"
	rmmod $in_tree kvm 2>/dev/null
else
	skip "CREATE_VM is EBUSY while another hypervisor has the CPUs" "no in-tree KVM to load"
	skip "and works when it has let go" "no in-tree KVM to load"
fi

# A guest of in-tree KVM's; its pid is in $kvm
kvm_guest() {
	: >"$work/kvm"
	KEEL_DEVICE=/dev/kvm "$hold" run >"$work/kvm" 2>&1 &
	kvm=$!
	for try in 1 2 3 4 5 6 7 8 9 10; do
		grep -q ready "$work/kvm" && runs_on $kvm && return 0
		sleep 0.2
	done
	sed 's/^/# /' "$work/kvm"
	return 1
}

end_kvm_guest() {
	kill -9 $kvm
	wait $kvm 2>/dev/null
}

# The latecomer: it is refused SVM; VMX operation is its own from then on, and our windows put its VMCS back.
if [ $in_tree != none ]; then
	hold run
	modprobe kvm enable_virt_at_load=0 2>/dev/null
	modprobe $in_tree && [ -c /dev/kvm ]
	result $? "in-tree KVM loads while a guest of ours runs"
	if [ $in_tree = kvm_intel ]; then
		kvm_guest && runs_on "$pid" && runs_on $kvm
		result $? "and its guest runs beside ours"
		end_kvm_guest
		runs_on "$pid" && kvm_guest
	else
		e=$(KEEL_DEVICE=/dev/kvm "$hold" errno)
		# Newer kernels say EIO.
		[ "$e" = EBUSY ] || [ "$e" = EIO ] || echo "# CREATE_VM of in-tree KVM: $e"
		[ "$e" = EBUSY ] || [ "$e" = EIO ]
		result $? "and is refused a VM, because SVM is ours"
		runs_on "$pid"
	fi
	result $? "our guest goes on"
	release kill
	if [ $in_tree = kvm_amd ]; then
		sleep 0.2
		kvm_guest
	fi
	runs_on $kvm
	result $? "a guest of in-tree KVM's runs when ours is gone"
	end_kvm_guest
	rmmod keel && insmod "$KEEL_KO" $KEEL_MODARGS && sleep 0.2 && "$hold" once >/dev/null
	result $? "insmod beside in-tree KVM, and a guest"
	rmmod $in_tree kvm 2>/dev/null
else
	for what in "in-tree KVM loads while a guest of ours runs" "it is refused SVM, and shares VMX" "our guest goes on" \
		    "a guest of in-tree KVM's runs when ours is gone" "insmod beside in-tree KVM, and a guest"; do
		skip "$what" "no in-tree KVM to load"
	done
fi

rmmod keel
result $? "rmmod with no VM"
! loaded && [ ! -e /dev/keel ]
result $? "the device node is gone"
insmod "$KEEL_KO" $KEEL_MODARGS && "$hold" once >/dev/null
result $? "the module loads again and runs a guest"

i=0
while [ $i -lt 5 ]; do
	rmmod keel && insmod "$KEEL_KO" $KEEL_MODARGS && "$hold" once >/dev/null || break
	i=$((i + 1))
done
[ $i = 5 ]
result $? "five cycles of rmmod, insmod and a guest"

[ $was_loaded = 1 ] || rmmod keel
rm -rf "$work"
finish
