// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest that spins with interrupts off: a signal ends KVM_RUN all the same, and the guest goes on from there. With and
 * without a local APIC in the kernel, whose timer the CPU's own may have to serve beside the end of the guest's turn.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include "kselftest_harness.h"
#include "guest.h"

FIXTURE(spin) {
	struct guest g;
};

FIXTURE_VARIANT(spin) {
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(spin, no_irqchip) {
	.flags = 0,
};

FIXTURE_VARIANT_ADD(spin, irqchip) {
	.flags = GUEST_IRQCHIP,
};

FIXTURE_SETUP(spin)
{
	guest_create(&self->g, variant->flags);
}

FIXTURE_TEARDOWN(spin)
{
	guest_destroy(&self->g);
}

/* In Bochs' VT-x no interrupt of the host's ends such a guest's run: its turn must have an end of its own. */
static bool would_never_end(void)
{
	FILE *f = fopen("/sys/module/keel/parameters/turn_us", "r");
	int us = 0;

	if (f) {
		if (fscanf(f, "%d", &us) != 1)
			us = 0;
		fclose(f);
	}
	return in_testhost("vmx") && !us;
}

static void nothing(int sig)
{
}

GUEST(spinning, 64, "cli\n" "1: incq %rbx\n" "jmp 1b\n");

TEST_F(spin, ended_by_a_signal)
{
	const struct sigaction act = { .sa_handler = nothing };
	const struct itimerval often = { .it_value.tv_usec = 20000, .it_interval.tv_usec = 20000 };
	struct guest *g = &self->g;
	uint64_t before = 0, now;
	int moved = 0;

	if (would_never_end())
		SKIP(return, "in Bochs nothing ends this guest's run but a bound (turn_us)");
	guest_start(g, MODE_LONG, BLOB(spinning));
	ASSERT_EQ(0, sigaction(SIGALRM, &act, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &often, NULL));
	/* A signal may come before the guest has begun. */
	while (moved < 3) {
		ASSERT_EQ(-EINTR, guest_run(g));
		EXPECT_EQ(KVM_EXIT_INTR, g->cpu.run->exit_reason);
		now = vcpu_regs(&g->cpu).rbx;
		ASSERT_LE(before, now);
		moved += before != now;
		before = now;
	}
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
}

TEST_HARNESS_MAIN
