// SPDX-License-Identifier: GPL-2.0-only
/*
 * An interrupt of the host's that ends the guest's run: timers that nobody waits for expire while the guest looks at its
 * time stamp counter. The shortest gap that it sees is the exit, the kernel's handler and the entry, no more.
 */
#include <sys/timerfd.h>
#include <unistd.h>
#include "guest.h"
#include "interrupts.h"
#include "pieces.h"

#define TIMERS		64
#define APART_NS	2000000L
#define GAP		200		/* ticks; what is shorter is the loop itself */

/* R14: the last reading; R13: the shortest gap, R12: one without an interrupt. Interrupts are on for Bochs. */
GUEST(watching, 64,
	"sti\n" "mov $-1, %r13\n" "mov $" STR(TIMERS) " / 2, %esi\n" G_SYNC
	TSC "mov %rax, %r14\n"
	"1: " TSC "mov %rax, %r8\n" "sub %r14, %rax\n" "mov %r8, %r14\n" "cmp $" STR(GAP) ", %rax\n" "jae 2f\n"
	"mov %rax, %r12\n" "jmp 1b\n"
	"2: cmp %r13, %rax\n" "jae 3f\n" "mov %rax, %r13\n"
	"3: dec %esi\n" "jnz 1b\n"
	"sub %r12, %r13\n" G_DONE);

static int timer(long ns)
{
	const struct itimerspec when = { .it_value = { ns / 1000000000, ns % 1000000000 } };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	if (fd < 0 || timerfd_settime(fd, 0, &when, NULL))
		die("external_interrupt: no timer");
	return fd;
}

double external_interrupt(void)
{
	int fd[TIMERS];
	struct guest g;
	double gap;
	int i;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(watching));
	if (guest_run(&g) != KVM_EXIT_IO || !guest_at_port(&g, PORT_SYNC))
		die("external_interrupt: no guest");
	for (i = 0; i < TIMERS; i++)
		fd[i] = timer((i + 1) * APART_NS);
	if (guest_run(&g) != KVM_EXIT_IO || !guest_at_port(&g, PORT_DONE))
		die("external_interrupt: the guest does not end");
	gap = vcpu_regs(&g.cpu).r13;
	for (i = 0; i < TIMERS; i++)
		close(fd[i]);
	guest_destroy(&g);
	return gap;
}
