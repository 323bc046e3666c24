// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holds a VM in a given way until it is killed or its standard input ends; for module.sh and view.sh. Prints "ready", or one
 * line with what failed.
 *
 *	holdvm vm	an open VM file descriptor, nothing else
 *	holdvm vcpu	a vCPU's alone, VM and device are closed
 *	holdvm run	a guest that runs in KVM_RUN
 *	holdvm exits	a guest that has left 1000 times by CPUID, 31 by a port, 7 by a device's memory, 20 by RDMSR
 *	holdvm exits UID	the same, of another user
 *	holdvm as UID COMMAND...	no VM: the command as another user
 *	holdvm once	a guest that runs one instruction; ends by itself
 *	holdvm errno	prints the errno's name of KVM_CREATE_VM, or OK
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <unistd.h>
#include "guest.h"

GUEST(spin, 64, G_SPIN);
GUEST(hlt, 64, "hlt\n");

GUEST(exits, 64,
	"mov $1000, %esi\n"
	"1: xor %eax, %eax\n cpuid\n dec %esi\n jnz 1b\n"
	"mov $30, %esi\n"
	"2: outb %al, $" STR(PORT_SYNC) "\n dec %esi\n jnz 2b\n"
	"mov $7, %esi\n"
	"3: mov %al, " STR(GUEST_MMIO) "\n dec %esi\n jnz 3b\n"
	"mov $20, %esi\n"
	"mov $0x10, %ecx\n"
	"4: rdmsr\n dec %esi\n jnz 4b\n"
	G_DONE);

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

static void wait_for_eof(void)
{
	char c;

	ready();
	while (read(0, &c, 1) > 0)
		;
}

/* The VM is the effective user's; the device is opened as root still. */
static int hold_exits(const char *uid)
{
	struct guest g;

	if (uid && seteuid(atoi(uid)))
		return 1;
	setfsuid(0);
	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(exits));
	do {
		long exit = guest_run(&g);

		if (exit != KVM_EXIT_IO && exit != KVM_EXIT_MMIO) {
			guest_dump(&g);
			return 1;
		}
	} while (!guest_at_port(&g, PORT_DONE));
	wait_for_eof();
	return 0;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	struct guest g;
	long ret;
	int dev;

	if (!strcmp(how, "errno")) {
		dev = dev_open();
		ret = vm_ioctl(dev, KVM_CREATE_VM, 0);
		puts(ret < 0 ? strerrorname_np(-ret) : "OK");
		return 0;
	}
	if (!strcmp(how, "vm")) {
		dev = dev_open();
		vm_create(dev);
		close(dev);
		wait_for_eof();
		return 0;
	}
	if (!strcmp(how, "vcpu")) {
		guest_create(&g, GUEST_IRQCHIP);
		close(g.vm);
		close(g.dev);
		wait_for_eof();
		return 0;
	}
	if (!strcmp(how, "run")) {
		guest_create(&g, 0);
		guest_start(&g, MODE_LONG, BLOB(spin));
		ready();
		/* Suspend interrupts KVM_RUN like a signal. */
		while (guest_run(&g) == -EINTR)
			;
		return 1;
	}
	if (!strcmp(how, "as") && argc > 3) {
		if (!setresgid(atoi(argv[2]), atoi(argv[2]), atoi(argv[2])) && !setresuid(atoi(argv[2]), atoi(argv[2]), atoi(argv[2])))
			execvp(argv[3], argv + 3);
		perror(argv[3]);
		return 1;
	}
	if (!strcmp(how, "exits"))
		return hold_exits(argv[2]);
	if (!strcmp(how, "once")) {
		guest_create(&g, 0);
		guest_start(&g, MODE_LONG, BLOB(hlt));
		if (guest_run(&g) != KVM_EXIT_HLT) {
			guest_dump(&g);
			return 1;
		}
		ready();
		return 0;
	}
	fprintf(stderr, "usage: %s vm|vcpu|run|exits|as|once|errno\n", argv[0]);
	return 2;
}
