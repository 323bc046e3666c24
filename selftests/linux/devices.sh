#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Linux guests with keel run's devices: disks, networks, and the small ones.
#
# guest.sh says what they take from the environment; guest_modules is scripts/guest-modules' archive.
# shellcheck disable=SC2016

dir=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=guest.sh
. "$dir/guest.sh"
need_guest_modules
plan 22
export TMPDIR="$work"

# said DESCRIPTION LINE...: the guest ended well, and said just these lines.
said() {
	what=$1
	shift
	printf '%s\n' "$@" >"$work/wanted"
	[ "$status" = 0 ] && cmp -s "$work/out" "$work/wanted"
	passed=$?
	[ $passed = 0 ] || { echo "# status $status"; say_outputs; }
	result $passed "$what"
}

# --- what is refused, with one line that names the option ---

bad=0
while read -r option value; do
	timeout 60 "$keel" run --device "$device" --kernel "$vmlinux" "$option" "$value" </dev/null \
		>"$work/out" 2>"$work/err"
	status=$?
	if [ $status != 1 ] || [ "$(wc -l <"$work/err")" != 1 ] || ! grep -q -e "$option" "$work/err"; then
		echo "# $option $value: status $status: $(cat "$work/err")"
		bad=1
	fi
done <<LIST
--disk $work/none
--disk /dev/null
--disk $vmlinuz,cache=some
--disk $vmlinuz,queues=9
--disk $vmlinuz,unknown
--disk $vmlinuz,ro=1
--disk $vmlinuz,serial
--disk auto,size=0
--net none
--net user,forward=80
--net user,forward=0:80
--net user,mac=1:2:3
--net user,mac=01:00:00:00:00:00
--net user,model=e1000
--net switch=a/b
--net tap,ifname=much-too-long-a-name
--share $work/none
--share $work,tag=
--vsock 2
--cpus 0
--memory much
--console vga
--name a/b
--cgroup no/such/group
--pool no-such-pool
--firmware $vmlinuz
LIST
result $bad "wrong options are named"

# --- disks ---

truncate -s 64M "$work/disk"
printf 'first sector' | dd of="$work/disk" conv=notrunc 2>/dev/null
guest "$vmlinux" 'head -c 12 /dev/vda; echo
	cat /sys/block/vda/size /sys/block/vda/serial; echo
	cat /sys/block/vdb/ro; ls /sys/block/vda/mq | wc -l
	dd if=/dev/urandom of=/dev/vda bs=1M count=32 seek=8 conv=fsync 2>/dev/null
	dd if=/dev/vda bs=1M skip=8 count=32 2>/dev/null | md5sum
	echo 3 >/proc/sys/vm/drop_caches
	dd if=/dev/vda bs=1M skip=8 count=32 2>/dev/null | md5sum
	echo x 2>/dev/null >/dev/vdb || echo refused' -c 2 \
	--disk "$work/disk,queues=2,serial=KEEL0001" --disk "$vmlinuz,ro"
sum=$(dd if="$work/disk" bs=1M skip=8 count=32 2>/dev/null | md5sum)
said "a disk keeps what is written, with two queues and a read-only one beside it" \
	"first sector" 131072 KEEL0001 1 2 "$sum" "$sum" refused

guest "$vmlinux" 'mke2fs /dev/vda >/dev/null 2>&1 && mkdir /mnt && mount -t ext4 /dev/vda /mnt &&
	dd if=/dev/zero of=/mnt/file bs=1M count=40 2>/dev/null && sync && rm /mnt/file && sync
	fstrim /mnt && umount /mnt && echo done' --disk "$work/disk"
said "a file system on it, and its discards" done
[ "$(du -m "$work/disk" | cut -f1)" -lt 30 ]
result $? "what is discarded is a hole in the image"

guest "$vmlinux" 'echo hello >/dev/vda; sync; head -c 5 /dev/vda; echo
	cat /sys/block/vda/queue/write_cache' --disk "$work/disk,cache=writethrough"
said "cache=writethrough" hello "write through"

# Direct I/O, for which the image lies in a file system of its own.
for module in loop crc32c_generic ext4; do
	modprobe $module 2>/dev/null
done
truncate -s 128M "$work/fs"
mkdir "$work/direct"
if mke2fs -F "$work/fs" >/dev/null 2>&1 && mount -o loop "$work/fs" "$work/direct"; then
	truncate -s 64M "$work/direct/disk"
	guest "$vmlinux" 'dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null; md5sum </tmp/data
		dd if=/tmp/data of=/dev/vda bs=1M conv=fsync 2>/dev/null; cat /sys/block/vda/queue/write_cache' \
		--disk "$work/direct/disk,cache=none"
	sum=$(head -n 1 "$work/out")
	said "cache=none" "$sum" "write back"
	[ "$(head -c 8388608 "$work/direct/disk" | md5sum)" = "$sum" ]
	result $? "what is written past the host's cache is in the image"
	umount "$work/direct"
else
	skip "cache=none" "no loop device or ext4"
	skip "what is written past the host's cache is in the image" "no loop device or ext4"
fi

# What was acknowledged is there after the client is killed. The guest numbers the blocks that it has
# written on its console, one after the other.
: >"$work/disk"
truncate -s 64M "$work/disk"
make_initrd 'n=0; while [ $n -lt 4096 ]; do
		n=$((n + 1)); printf "block %08d" $n | dd of=/dev/vda bs=4096 seek=$n conv=notrunc,sync oflag=direct 2>/dev/null || exit 1
		echo $n; done'
"$keel" run --device "$device" --kernel "$vmlinux" --initrd "$work/initrd" --disk "$work/disk" \
	--append "console=ttyS0 panic=-1 quiet loglevel=1" </dev/null >"$work/out" 2>"$work/err" &
client=$!
tries=0
while [ "$(wc -l <"$work/out")" -lt 40 ] && [ $tries -lt 120 ]; do
	sleep 1
	tries=$((tries + 1))
done
kill -9 $client
wait $client 2>/dev/null
acked=$(tr -d '\r' <"$work/out" | grep -c '^[0-9]*$')
lost=0
for n in $(seq 1 "$acked"); do
	[ "$(dd if="$work/disk" bs=4096 skip="$n" count=1 2>/dev/null | head -c 14)" = \
		"$(printf 'block %08d' "$n")" ] || lost=$((lost + 1))
done
[ "$acked" -ge 40 ] && [ $lost = 0 ]
passed=$?
[ $passed = 0 ] || { echo "# $acked acknowledged, $lost lost"; say_outputs; }
result $passed "nothing acknowledged is lost when the client is killed"

"$keel" run --device "$device" --kernel "$vmlinux" --disk "$work/disk" --disk "$work/disk" \
	</dev/null >"$work/out" 2>"$work/err"
grep -q "another guest uses it" "$work/err"
result $? "an image that is in use is refused"

# A boot sector, by SeaBIOS: it says "boot" at the serial port and gives 42 to the exit port.
bios=/usr/share/seabios/bios.bin
if [ -f $bios ]; then
	# mov dx,0x3f8; mov al,'b'; out dx,al; ...; mov al,42; out 0xf4,al; hlt; jmp $-1
	printf '\272\370\003\260b\356\260o\356\260o\356\260t\356\260\052\346\364\364\353\375' >"$work/boot"
	truncate -s 1M "$work/boot"
	printf '\125\252' | dd of="$work/boot" bs=1 seek=510 conv=notrunc 2>/dev/null
	timeout 180 "$keel" run --device "$device" --firmware $bios --disk "$work/boot" -m 64M </dev/null \
		>"$work/out" 2>"$work/err"
	status=$?
	[ $status = 42 ] && [ "$(cat "$work/out")" = boot ]
	passed=$?
	[ $passed = 0 ] || { echo "# status $status"; say_outputs; }
	result $passed "SeaBIOS boots from a disk"
else
	skip "SeaBIOS boots from a disk" "no SeaBIOS"
fi

# --- networks ---

mkdir "$work/www"
echo "from the host" >"$work/www/file"
"$busybox" httpd -f -p 127.0.0.1:8099 -h "$work/www" &
httpd=$!
guest "$vmlinux" 'wget -q -O - http://10.0.2.2:8099/file; ip -4 -o addr show eth0 | awk "{print \$4}"' \
	--net user
said "NAT: DHCP, and a server on the host's loopback" "from the host" 10.0.2.15/24
kill $httpd

make_initrd 'mkdir /www; echo "from the guest" >/www/file; httpd -f -p 80 -h /www'
"$keel" run --device "$device" --kernel "$vmlinux" --initrd "$work/initrd" \
	--net user,forward=8098:80 --append "console=ttyS0 panic=-1 quiet" </dev/null \
	>"$work/out" 2>"$work/err" &
client=$!
tries=0
until [ "$("$busybox" wget -q -O - http://127.0.0.1:8098/file 2>/dev/null)" = "from the guest" ] ||
	[ $tries -ge 60 ]; do
	sleep 1
	tries=$((tries + 1))
done
[ $tries -lt 60 ]
result $? "a port of the host's that is forwarded to the guest"
kill $client
wait $client 2>/dev/null

# Two guests on a switch, each of which waits for the other.
make_initrd 'ip addr add 192.168.7.1/24 dev eth0; sleep 600'
mv "$work/initrd" "$work/initrd.peer"
"$keel" run --device "$device" --kernel "$vmlinux" --initrd "$work/initrd.peer" --net switch=test$$ \
	--append "console=ttyS0 panic=-1 quiet KEEL_DHCP=0" </dev/null >"$work/peer" 2>&1 &
client=$!
append_more=KEEL_DHCP=0 guest "$vmlinux" 'ip addr add 192.168.7.2/24 dev eth0
	n=0; until ping -c 1 -W 1 192.168.7.1 >/dev/null || [ $n -gt 60 ]; do n=$((n + 1)); done
	ping -c 3 -W 5 192.168.7.1 | grep -c "bytes from"' --net switch=test$$
said "two guests on a switch ping each other" 3
kill $client
wait $client 2>/dev/null

# The same network by an emulated card.
"$busybox" httpd -f -p 127.0.0.1:8099 -h "$work/www" &
httpd=$!
seq 1 20000 >"$work/www/numbers"
guest "$vmlinux" 'wget -q -O - http://10.0.2.2:8099/numbers | md5sum
	ls /sys/bus/pci/drivers/pcnet32 | grep -c 0000:' --net user,model=pcnet
said "a PCnet card" "$(md5sum <"$work/www/numbers")" 1
kill $httpd

# A tap device in a bridge that is made for it, and gone afterwards.
if modprobe tun && modprobe bridge; then
	make_initrd 'ip addr add 192.168.8.2/24 dev eth0; ping -c 3 -W 5 192.168.8.1 | grep -c "bytes from"'
	"$keel" run --device "$device" --kernel "$vmlinux" --initrd "$work/initrd" \
		--net tap,bridge=keelbr$$ --append "console=ttyS0 panic=-1 quiet KEEL_DHCP=0" \
		</dev/null >"$work/out" 2>"$work/err" &
	client=$!
	until ip addr add 192.168.8.1/24 dev keelbr$$ 2>/dev/null || ! kill -0 $client 2>/dev/null; do
		sleep 1
	done
	wait $client
	status=$?
	tr -d '\r' <"$work/out" >"$work/clean" && mv "$work/clean" "$work/out"
	said "a tap device in a bridge" 3
	! ip link show keelbr$$ >/dev/null 2>&1
	result $? "the bridge ends with the guest"
else
	skip "a tap device in a bridge" "no tun or bridge module"
	skip "the bridge ends with the guest" "no tun or bridge module"
fi

# The kernel moves the frames, if it can.
if modprobe tun && modprobe vhost_net && [ -c /dev/vhost-net ]; then
	make_initrd 'ip addr add 192.168.9.2/24 dev eth0; n=0
		while ping -c 1 -W 5 192.168.9.1 >/dev/null && [ $n -lt 5 ]; do n=$((n + 1)); sleep 1; done; echo $n'
	"$keel" run --device "$device" --kernel "$vmlinux" --initrd "$work/initrd" --name vhost$$ \
		--net tap,ifname=keelvh$$ --append "console=ttyS0 panic=-1 quiet KEEL_DHCP=0" \
		</dev/null >"$work/out" 2>"$work/err" &
	client=$!
	until ip addr add 192.168.9.1/24 dev keelvh$$ 2>/dev/null || ! kill -0 $client 2>/dev/null; do
		sleep 1
	done
	: >"$work/vhost"
	while kill -0 $client 2>/dev/null; do
		"$keel" ctl vhost$$ devices 2>/dev/null | grep vhost >>"$work/vhost"
		sleep 1
	done
	wait $client
	status=$?
	[ -s "$work/vhost" ] && [ "$(tr -d '\r' <"$work/out")" = 5 ]
	passed=$?
	[ $passed = 0 ] || say_outputs
	result $passed "vhost-net serves a tap device's card"
else
	skip "vhost-net serves a tap device's card" "no vhost_net"
fi

# --- the small ones ---

if modprobe vhost_vsock && [ -c /dev/vhost-vsock ]; then
	"$(program vsock)" 4711 &
	server=$!
	guest_program=$(program vsock) guest "$vmlinux" 'vsock 2 4711' --vsock 77
	said "a guest talks to the host by a vsock" "HELLO HOST"
	kill $server 2>/dev/null
else
	skip "a guest talks to the host by a vsock" "no vhost_vsock"
fi

guest "$vmlinux" 'cat /sys/class/misc/hw_random/rng_current; head -c 1000 /dev/hwrng | wc -c' --rng
said "random numbers" virtio_rng.0 1000

guest "$vmlinux" 'grep -c virtio /proc/interrupts; ls /sys/bus/virtio/drivers/virtio_balloon | grep -c virtio0' \
	--balloon -c 2
{ read -r irqs; read -r bound; } <"$work/out"
[ "$status" = 0 ] && [ "${irqs:-0}" -ge 4 ] && [ "${bound:-0}" = 1 ]
passed=$?
[ $passed = 0 ] || say_outputs
result $passed "a balloon, with an interrupt for each queue"

append_more="console=hvc0" guest "$vmlinux" 'echo over virtio >/dev/hvc0; sleep 1' --console virtio
tr -d '\r' <"$work/out" | grep -qx "over virtio"
result $? "a virtio console"

if command -v diod >/dev/null; then
	# diod takes an overlay's files for mount points
	share=$(mktemp -d /dev/shm/share.XXXXXX)
	echo "in the share" >"$share/file"
	guest "$vmlinux" "mkdir /mnt; mount -t 9p -o trans=virtio,version=9p2000.L,aname=$share share /mnt
		cat /mnt/file; seq 1 100000 >/mnt/new; md5sum </mnt/new; umount /mnt" --share "$share"
	said "a shared directory" "in the share" "$(seq 1 100000 | md5sum)"
	rm -r "$share"
else
	skip "a shared directory" "no diod"
fi
finish
