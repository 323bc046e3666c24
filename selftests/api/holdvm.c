// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holds a VM in a given way until it is killed or its standard input ends; for module.sh. Prints "ready", or one
 * line with what failed.
 *
 *	holdvm vm	an open VM file descriptor, nothing else
 *	holdvm vcpu	a vCPU's alone, VM and device are closed
 *	holdvm run	a guest that runs in KVM_RUN
 *	holdvm once	a guest that runs one instruction; ends by itself
 *	holdvm errno	prints the errno's name of KVM_CREATE_VM, or OK
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "guest.h"

GUEST(spin, 64, G_SPIN);
GUEST(hlt, 64, "hlt\n");

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

int main(int argc, char **argv)
{
	const char *how = argc == 2 ? argv[1] : "";
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
	fprintf(stderr, "usage: %s vm|vcpu|run|once|errno\n", argv[0]);
	return 2;
}
