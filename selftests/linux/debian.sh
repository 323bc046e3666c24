#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# A Debian guest whose root is a virtio disk (scripts/guest-disk) and that has two virtio network cards: it is killed
# while it writes files, and boots again from what is on the disk.
#
# guest.sh says what they take from the environment; GUEST_DISK is the disk's image.
# shellcheck disable=SC2016

dir=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=guest.sh
. "$dir/guest.sh"
need_guest_modules
image=${GUEST_DISK:-$build/guest-disk/debian.img}
[ -f "$image" ] || skip_all "no disk: scripts/guest-disk makes it"
plan 6
cp --sparse=always "$image" "$work/disk" || exit 1

# debian OUT CARD-OPTIONS...: in the background; leaves 'client'.
debian() {
	out=$1
	shift
	"$keel" run --device "$device" --kernel "$vmlinux" --initrd "$work/initrd" -c 2 -m 512M --disk "$work/disk" "$@" \
		--append "console=ttyS0 panic=-1 quiet loglevel=1 cryptomgr.notests=1 systemd.show_status=0 KEEL_ROOT=/dev/vda" \
		</dev/null >"$work/$out" 2>"$work/err" &
	client=$!
}

# said_within SECONDS FILE PATTERN COUNT: that many lines, while the guest lives
said_within() {
	tries=0
	until [ "$(tr -d '\r' <"$work/$2" | grep -c "$3")" -ge "$4" ]; do
		tries=$((tries + 1))
		[ $tries -lt "$1" ] && kill -0 $client 2>/dev/null || return 1
		sleep 1
	done
}

mkdir "$work/www"
seq 1 20000 >"$work/www/numbers"
"$busybox" httpd -f -p 127.0.0.1:8099 -h "$work/www" &
httpd=$!
make_initrd 'ip addr add 192.168.7.1/24 dev eth0; sleep 1200'
mv "$work/initrd" "$work/initrd.peer"
"$keel" run --device "$device" --kernel "$vmlinux" --initrd "$work/initrd.peer" -m 128M --net switch=debian$$ \
	--append "console=ttyS0 panic=-1 quiet KEEL_DHCP=0" </dev/null >"$work/peer" 2>&1 &
peer=$!

# Files of random size and content, each of which is on the disk with its checksum when its number is said.
make_initrd 'echo "release $(cut -d . -f 1 </etc/debian_version)"
	mount | grep -c "^/dev/vda on / type ext4 (rw"
	ip addr add 192.168.7.2/24 dev eth1; ip link set eth1 up
	wget -q -O - http://10.0.2.2:8099/numbers | md5sum
	n=0; until ping -c 1 -W 1 192.168.7.1 >/dev/null || [ $n -gt 60 ]; do n=$((n + 1)); done
	ping -c 3 -W 5 192.168.7.1 | grep -c "bytes from"
	mkdir -p /data; n=0
	while [ $n -lt 100000 ]; do
		n=$((n + 1))
		dd if=/dev/urandom of=/data/$n bs=1000 count=$((n * 7919 % 97 + 1)) status=none
		md5sum /data/$n >/data/$n.sum
		sync /data/$n /data/$n.sum /data
		echo "synced $n"
	done'
debian first --net user --net switch=debian$$
said_within 300 first '^release' 1
works=$?
[ $works = 0 ] || { cp "$work/first" "$work/out"; say_outputs; }
result $works "Debian boots from a virtio disk"
said_within 120 first '^synced' 1
tr -d '\r' <"$work/first" >"$work/out"
[ "$(sed -n 2p "$work/out")" = 1 ]
result $? "its root is the disk, to be written to"
[ "$(sed -n 3p "$work/out")" = "$(md5sum <"$work/www/numbers")" ]
result $? "it fetches a file from a server on the host's loopback, through NAT"
[ "$(sed -n 4p "$work/out")" = 3 ]
result $? "it talks to another guest through the switch"
said_within 120 first '^synced' 30
kill -9 $client
wait $client 2>/dev/null
kill $httpd $peer
synced=$(tr -d '\r' <"$work/first" | sed -n 's/^synced \([0-9]*\)$/\1/p' | tail -n 1)
echo "# killed after ${synced:-0} files"

make_initrd 'n=0; while md5sum -c --status /data/$((n + 1)).sum; do n=$((n + 1)); done; echo "verified $n"'
debian second --net user
said_within 300 second '^verified' 1
verified=$(tr -d '\r' <"$work/second" | sed -n 's/^verified \([0-9]*\)$/\1/p')
[ "${synced:-0}" -ge 30 ] && [ "${verified:-0}" -ge "$synced" ]
works=$?
[ $works = 0 ] || { cp "$work/second" "$work/out"; say_outputs; }
result $works "what it had synced is there after the client is killed"
tries=0
while kill -0 $client 2>/dev/null && [ $tries -lt 90 ]; do
	sleep 1
	tries=$((tries + 1))
done
kill -9 $client 2>/dev/null
wait $client
[ $? = 0 ] && grep -q "powered off" "$work/err"
works=$?
[ $works = 0 ] || { cp "$work/second" "$work/out"; say_outputs; }
result $works "it powers off"
finish
