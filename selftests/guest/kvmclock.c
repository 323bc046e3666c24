// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvmclock with two vCPUs: what the pages hold, that they show the time that KVM_GET_CLOCK gives, and the stable flag,
 * which stands while the host's TSC is stable and all vCPUs' TSCs agree (the kernel's
 * Documentation/virt/kvm/x86/msr.rst; asm/pvclock-abi.h).
 */
#include <linux/kvm_para.h>
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "smp.h"

#define PAGE(i)		(0x50000UL + (i) * 0x40)
#define STABLE		1
#define STOPPED		2

struct time_info {
	uint32_t version, pad0;
	uint64_t tsc_timestamp, system_time;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad[2];
};

FIXTURE(kvmclock) {
	struct guest g;
	struct guest_thread ap;
};

GUEST(nothing, 64, "1: " G_SYNC "jmp 1b\n");

FIXTURE_SETUP(kvmclock)
{
	struct guest *g = &self->g;

	guest_create(g, GUEST_IRQCHIP);
	guest_start(g, MODE_LONG, BLOB(nothing));
	guest_thread_create(g, &self->ap, 1, GUEST_CODE, GUEST_STACK2);
	/* As clients do that start several: the second's TSC is that of the first. */
	ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_IA32_TSC, 0));
	ASSERT_EQ(1, vcpu_set_msr(&self->ap.cpu, MSR_IA32_TSC, 0));
	ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_KVM_SYSTEM_TIME_NEW, PAGE(0) | 1));
	ASSERT_EQ(1, vcpu_set_msr(&self->ap.cpu, MSR_KVM_SYSTEM_TIME_NEW, PAGE(1) | 1));
}

FIXTURE_TEARDOWN(kvmclock)
{
	guest_thread_destroy(&self->ap);
	guest_destroy(&self->g);
}

static struct time_info info(struct guest *g, int i)
{
	struct time_info t;

	memcpy(&t, g->mem + PAGE(i), sizeof(t));
	return t;
}

/* The time at @tsc by a page */
static uint64_t clock_at(const struct time_info *t, uint64_t tsc)
{
	uint64_t delta = tsc - t->tsc_timestamp;

	delta = t->shift < 0 ? delta >> -t->shift : delta << t->shift;
	return t->system_time + (uint64_t)((unsigned __int128)delta * t->mul >> 32);
}

static struct kvm_clock_data vm_clock(struct guest *g)
{
	struct kvm_clock_data data = { 0 };

	MUST(vm_ioctl(g->vm, KVM_GET_CLOCK, &data));
	return data;
}

/*
 * Lets both enter the guest, which brings their pages up to date; twice, because in-tree KVM learns by the second's
 * entry that the first's page is out of date.
 */
static void run_both(struct guest *g, struct guest_thread *ap)
{
	int i;

	for (i = 0; i < 2; i++) {
		if (guest_run(g) != KVM_EXIT_IO)
			die("the first vCPU does not run");
		if (vcpu_run(&ap->cpu) || ap->cpu.run->exit_reason != KVM_EXIT_IO)
			die("the second vCPU does not run");
	}
}

/* A page shows a time between two readings of the client. Where the TSC is not stable it is wrong by its nature. */
static bool agrees(struct guest *g, struct vcpu *cpu, int i)
{
	struct time_info t = info(g, i);
	uint64_t before, after, tsc, now, slack = t.flags & STABLE ? 1000 : 1000000000;

	before = vm_clock(g).clock;
	MUST(vcpu_get_msr(cpu, MSR_IA32_TSC, &tsc));
	after = vm_clock(g).clock;
	now = clock_at(&t, tsc);
	if (before <= now + slack && now <= after + slack)
		return true;
	fprintf(stderr, "# the page says %lu, the client saw %lu and %lu\n", now, before, after);
	return false;
}

TEST_F(kvmclock, pages)
{
	struct guest *g = &self->g;
	struct time_info a, b;
	bool stable;

	run_both(g, &self->ap);
	stable = vm_clock(g).flags & KVM_CLOCK_TSC_STABLE;
	TH_LOG("the clock is %sstable", stable ? "" : "not ");
	a = info(g, 0);
	b = info(g, 1);
	EXPECT_EQ(0, a.version & 1);
	EXPECT_NE(0, a.version);
	EXPECT_EQ(stable ? STABLE : 0, a.flags);
	EXPECT_EQ(stable ? STABLE : 0, b.flags);
	EXPECT_EQ(a.mul, b.mul);
	EXPECT_EQ(a.shift, b.shift);
	if (stable) {
		EXPECT_EQ(a.tsc_timestamp, b.tsc_timestamp);
		EXPECT_EQ(a.system_time, b.system_time);
	}
	EXPECT_TRUE(agrees(g, &g->cpu, 0));
	EXPECT_TRUE(agrees(g, &self->ap.cpu, 1));
}

TEST_F(kvmclock, set_clock)
{
	struct kvm_clock_data data = { .clock = 5000000000000 };
	struct guest *g = &self->g;

	run_both(g, &self->ap);
	data.flags = vm_clock(g).flags & KVM_CLOCK_TSC_STABLE;
	MUST(vm_ioctl(g->vm, KVM_SET_CLOCK, &data));
	run_both(g, &self->ap);
	EXPECT_LE(data.clock, vm_clock(g).clock);
	EXPECT_GT(data.clock + 60000000000, vm_clock(g).clock);
	EXPECT_TRUE(agrees(g, &g->cpu, 0));
	EXPECT_TRUE(agrees(g, &self->ap.cpu, 1));
}

/* Two TSCs that do not agree: each page is still true, but not to be compared with the other. */
TEST_F(kvmclock, unequal_tscs)
{
	struct guest *g = &self->g;
	bool stable;

	run_both(g, &self->ap);
	stable = vm_clock(g).flags & KVM_CLOCK_TSC_STABLE;
	ASSERT_EQ(1, vcpu_set_msr(&self->ap.cpu, MSR_IA32_TSC, 1UL << 44));
	run_both(g, &self->ap);
	EXPECT_EQ(0, vm_clock(g).flags & KVM_CLOCK_TSC_STABLE);
	EXPECT_EQ(0, info(g, 0).flags);
	EXPECT_EQ(0, info(g, 1).flags);
	EXPECT_TRUE(agrees(g, &g->cpu, 0));
	EXPECT_TRUE(agrees(g, &self->ap.cpu, 1));
	/* And equal again */
	ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_IA32_TSC, 1UL << 44));
	run_both(g, &self->ap);
	EXPECT_EQ(stable ? STABLE : 0, info(g, 0).flags);
	EXPECT_EQ(stable ? STABLE : 0, info(g, 1).flags);
	EXPECT_TRUE(agrees(g, &g->cpu, 0));
	EXPECT_TRUE(agrees(g, &self->ap.cpu, 1));
}

/* The guest's own flag is kept, and cleared by the guest alone. */
TEST_F(kvmclock, stopped_flag)
{
	struct guest *g = &self->g;
	uint8_t stable;

	run_both(g, &self->ap);
	stable = info(g, 0).flags;
	MUST(vm_ioctl(g->cpu.fd, KVM_KVMCLOCK_CTRL, 0));
	run_both(g, &self->ap);
	EXPECT_EQ(STOPPED | stable, info(g, 0).flags);
	EXPECT_EQ(stable, info(g, 1).flags);
	g->mem[PAGE(0) + offsetof(struct time_info, flags)] &= ~STOPPED;
	ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_KVM_SYSTEM_TIME_NEW, PAGE(0) | 1));
	run_both(g, &self->ap);
	EXPECT_EQ(stable, info(g, 0).flags);
}

TEST_HARNESS_MAIN
