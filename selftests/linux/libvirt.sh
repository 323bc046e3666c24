#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# libvirt as the client, on /dev/kvm (keel.ko with kvm_node=1, or in-tree KVM): qemu:///system defines a guest, starts
# it, takes a snapshot, goes back to that, stops the guest and forgets it.
#
# For the test host: where libvirt is not installed, the one that 'scripts/get-clients --all' has unpacked is copied
# into the root file system, and the daemon's configuration there is replaced. 'make check-clients' runs it.

dir=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=guest.sh
. "$dir/guest.sh"

[ -c /dev/kvm ] || skip_all "no /dev/kvm"
[ -d /run/testhost ] || skip_all "not in the test host"
if ! command -v libvirtd >/dev/null; then
	[ -d "$build/clients/libvirt" ] || skip_all "no libvirt: scripts/get-clients --all"
	tar -C "$build/clients/libvirt" -c . | tar -C / -x --keep-directory-symlink --no-overwrite-dir
fi
plan 5

# Nothing of systemd, D-Bus, control groups or other users is there; all that the guest needs is root's.
mkdir -p /etc/libvirt /run/libvirt /var/lib/libvirt/qemu /var/log/libvirt/qemu
cat >/etc/libvirt/qemu.conf <<-'CONF'
	user = "root"
	group = "root"
	dynamic_ownership = 0
	remember_owner = 0
	security_driver = "none"
	namespaces = []
	cgroup_controllers = []
	stdio_handler = "file"
CONF
cat >/etc/libvirt/libvirtd.conf <<-'CONF'
	unix_sock_group = "root"
	auth_unix_ro = "none"
	auth_unix_rw = "none"
CONF
# The package's own user, which an installation would have made; the driver wants it to be known.
for name in libvirt-qemu kvm; do
	grep -q "^$name:" /etc/group || echo "$name:x:64055:" >>/etc/group
done
grep -q ^libvirt-qemu: /etc/passwd || echo "libvirt-qemu:x:64055:64055::/:/bin/false" >>/etc/passwd
[ -s /etc/machine-id ] || echo 0123456789abcdef0123456789abcdef >/etc/machine-id
libvirtd --config /etc/libvirt/libvirtd.conf >"$work/daemon" 2>&1 &
daemon=$!

run_virsh() {
	[ -z "$broken" ] || return 1
	virsh --quiet --connect qemu:///system "$@" >>"$work/out" 2>>"$work/err"
}

# until_true SECONDS COMMAND...
until_true() {
	left=$1
	shift
	until "$@"; do
		left=$((left - 1))
		[ $left -gt 0 ] && [ -z "$broken" ] || return 1
		sleep 1
	done
}

# The guest's console: is a line there that matches?
said() {
	[ -f "$work/serial" ] && tr -d '\r' <"$work/serial" | grep -qx "$1"
}

# Counting goes back once the snapshot's state is loaded.
went_back() {
	[ -f "$work/serial" ] && tr -d '\r' <"$work/serial" | awk '$1 == "tick" { if ($2 + 0 < last || (!n && $2 > 0)) back = 1; last = $2; n++ }
		END { exit !back }'
}

# What follows a failure would only wait.
broken=
check() {	# STATUS DESCRIPTION
	if [ "$1" != 0 ]; then
		say_outputs
		tail -n 20 "$work/daemon" /var/log/libvirt/qemu/keel.log 2>/dev/null | sed 's/^/# log: /'
		broken=1
	fi
	: >"$work/out"
	: >"$work/err"
	result "$1" "$2"
}

# shellcheck disable=SC2016
make_initrd 'echo "cpus $(nproc)"; i=0; while :; do echo "tick $i"; i=$((i + 1)); usleep 300000; done'
qemu-img create -q -f qcow2 "$work/disk" 64M
# Everyone may pass, should QEMU not be root's after all.
chmod 755 "$work"
cat >"$work/domain" <<-XML
	<domain type='kvm'>
	  <name>keel</name>
	  <memory unit='MiB'>256</memory>
	  <vcpu>2</vcpu>
	  <os>
	    <type arch='x86_64' machine='pc'>hvm</type>
	    <kernel>$vmlinuz</kernel>
	    <initrd>$work/initrd</initrd>
	    <cmdline>console=ttyS0 panic=-1 quiet loglevel=1 cryptomgr.notests=1</cmdline>
	  </os>
	  <features><acpi/><apic/></features>
	  <cpu mode='host-passthrough'/>
	  <devices>
	    <emulator>$(command -v qemu-system-x86_64)</emulator>
	    <disk type='file' device='disk'>
	      <driver name='qemu' type='qcow2'/>
	      <source file='$work/disk'/>
	      <target dev='vda' bus='virtio'/>
	    </disk>
	    <controller type='usb' model='none'/>
	    <serial type='file'><source path='$work/serial'/></serial>
	    <memballoon model='none'/>
	  </devices>
	</domain>
XML

until_true 60 run_virsh version && run_virsh define "$work/domain" && run_virsh dominfo keel
check $? "defines a guest"
run_virsh start keel && until_true 300 said "tick 3" && said "cpus 2"
check $? "starts it, with 2 CPUs"
run_virsh snapshot-create-as keel first && run_virsh snapshot-info keel first
check $? "takes a snapshot"
until_true 60 said "tick 20"
run_virsh snapshot-revert keel first && until_true 60 went_back &&
	[ "$(virsh --quiet --connect qemu:///system domstate keel | head -n 1)" = running ]
check $? "goes back to the snapshot"
run_virsh destroy keel && run_virsh undefine --snapshots-metadata keel && ! run_virsh dominfo keel
check $? "stops and forgets it"
kill $daemon
finish
