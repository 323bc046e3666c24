// SPDX-License-Identifier: GPL-2.0-only
/*
 * The client's say in the guest's RDMSR and WRMSR: KVM_X86_SET_MSR_FILTER and KVM_CAP_X86_USER_SPACE_MSR, with the
 * refusals of both. What is denied is #GP, or an exit of which the client makes a value, silence or #GP; MSRs that
 * the guest otherwise reaches without an exit are no exception, nor is a guest that the emulator runs.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "ops.h"

#define MSR_PAT		0x277
#define MSR_STAR	0xc0000081
#define MSR_GS_BASE	0xc0000101
#define MSR_NONE	0x474f4f00	/* no CPU has it */
#define ALL_REASONS	(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER)
#define READ		KVM_MSR_FILTER_READ
#define WRITE		KVM_MSR_FILTER_WRITE
#define GP		13

FIXTURE(filter) {
	struct guest g;
};

FIXTURE_VARIANT(filter) {
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(filter, direct) { };
FIXTURE_VARIANT_ADD(filter, interpreted) { .flags = GUEST_INTERPRETED };

FIXTURE_SETUP(filter)
{
	int dev = dev_open();

	/* in-tree KVM runs both the same way */
	guest_create(&self->g, dev_is_keel(dev) ? variant->flags : 0);
	close(dev);
	ops_start(&self->g);
}

FIXTURE_TEARDOWN(filter)
{
	guest_destroy(&self->g);
}

static long enable(struct guest *g, int cap, uint64_t arg)
{
	struct kvm_enable_cap c = { .cap = cap, .args = { arg } };

	return vm_ioctl(g->vm, KVM_ENABLE_CAP, &c);
}

/* One range of up to eight MSRs; what is in none is allowed. */
static long deny(struct guest *g, uint32_t flags, uint32_t base, uint8_t allowed)
{
	struct kvm_msr_filter f = { .ranges[0] = { .flags = flags, .nmsrs = 8, .base = base } };
	uint64_t bitmap = allowed;

	f.ranges[0].bitmap = (uint8_t *)&bitmap;
	return vm_ioctl(g->vm, KVM_X86_SET_MSR_FILTER, &f);
}

TEST_F(filter, denied)
{
	struct guest *g = &self->g;
	uint64_t val;

	ASSERT_EQ(0, ops_wrmsr(g, MSR_STAR, 0x1234));
	ASSERT_EQ(0, deny(g, READ, MSR_STAR & ~7, 0xff & ~2));
	EXPECT_EQ(GP, ops_rdmsr(g, MSR_STAR, &val));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_STAR, 0x5678));	/* writes are not filtered, */
	EXPECT_EQ(0, ops_rdmsr(g, MSR_STAR + 1, &val));	/* nor is a neighbour */
	/* The client's own accesses are not the guest's. */
	ASSERT_EQ(1, vcpu_get_msr(&g->cpu, MSR_STAR, &val));
	EXPECT_EQ(0x5678, val);
	/* A filter replaces the one before. */
	ASSERT_EQ(0, deny(g, WRITE, MSR_PAT, 0xfe));
	EXPECT_EQ(0, ops_rdmsr(g, MSR_STAR, &val));
	EXPECT_EQ(GP, ops_wrmsr(g, MSR_PAT, 0x0007040600070406));
	EXPECT_EQ(0, ops_rdmsr(g, MSR_PAT, &val));
	/* So does one that has nothing in it. */
	ASSERT_EQ(0, vm_ioctl(g->vm, KVM_X86_SET_MSR_FILTER, &(struct kvm_msr_filter){ 0 }));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_PAT, 0x0007040600070406));
}

TEST_F(filter, default_deny)
{
	struct kvm_msr_filter f = {
		.flags = KVM_MSR_FILTER_DEFAULT_DENY,
		.ranges[0] = { .flags = READ | WRITE, .nmsrs = 1, .base = MSR_STAR },
	};
	uint64_t one = 1, val;

	f.ranges[0].bitmap = (uint8_t *)&one;
	ASSERT_EQ(0, vm_ioctl(self->g.vm, KVM_X86_SET_MSR_FILTER, &f));
	EXPECT_EQ(0, ops_rdmsr(&self->g, MSR_STAR, &val));
	EXPECT_EQ(GP, ops_rdmsr(&self->g, MSR_PAT, &val));
	EXPECT_EQ(GP, ops_rdmsr(&self->g, MSR_GS_BASE, &val));
}

/* Runs one RDMSR or WRMSR up to the client's exit. */
static long start(struct guest *g, uint32_t msr, bool write, uint64_t val)
{
	struct kvm_regs r = {
		.rip = GUEST_CODE + 16 * write, .rsp = GUEST_STACK, .rflags = X86_EFLAGS_FIXED,
		.rcx = msr, .rax = val & 0xffffffff, .rdx = val >> 32,
	};

	vcpu_complete_io(&g->cpu);
	vcpu_set_regs(&g->cpu, &r);
	return guest_run(g);
}

#define EXPECT_MSR_EXIT(exit, g, why, which, value) do {			\
	ASSERT_EQ(exit, start(g, which, exit == KVM_EXIT_X86_WRMSR, value));	\
	EXPECT_EQ(why, (g)->cpu.run->msr.reason);			\
	EXPECT_EQ(which, (g)->cpu.run->msr.index);			\
	EXPECT_EQ(value, (g)->cpu.run->msr.data);			\
	EXPECT_EQ(0, (g)->cpu.run->msr.error);				\
} while (0)

TEST_F(filter, exits)
{
	struct guest *g = &self->g;
	struct kvm_run *run = g->cpu.run;
	struct kvm_regs r;
	uint64_t val;

	ASSERT_EQ(0, enable(g, KVM_CAP_X86_USER_SPACE_MSR, ALL_REASONS));
	ASSERT_EQ(0, deny(g, READ | WRITE, MSR_GS_BASE, 0xfe));
	EXPECT_MSR_EXIT(KVM_EXIT_X86_RDMSR, g, KVM_MSR_EXIT_REASON_FILTER, MSR_GS_BASE, 0);
	run->msr.data = 0x1122334455667788;
	ASSERT_DONE(g);
	r = vcpu_regs(&g->cpu);
	EXPECT_EQ(0x55667788, r.rax);
	EXPECT_EQ(0x11223344, r.rdx);

	EXPECT_MSR_EXIT(KVM_EXIT_X86_WRMSR, g, KVM_MSR_EXIT_REASON_FILTER, MSR_GS_BASE, 0xabcdef0123456789);
	ASSERT_DONE(g);
	ASSERT_EQ(1, vcpu_get_msr(&g->cpu, MSR_GS_BASE, &val));
	EXPECT_NE(0xabcdef0123456789, val);

	EXPECT_MSR_EXIT(KVM_EXIT_X86_RDMSR, g, KVM_MSR_EXIT_REASON_UNKNOWN, MSR_NONE, 0);
	run->msr.error = 1;
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(GP, guest_exc(g).vector);
	EXPECT_MSR_EXIT(KVM_EXIT_X86_WRMSR, g, KVM_MSR_EXIT_REASON_INVAL, MSR_PAT, 0x0202020202020202);
	run->msr.error = 1;
	ASSERT_PORT(PORT_EXC, g);
	/* Only what was asked for: the rest is #GP as ever. */
	ASSERT_EQ(0, enable(g, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER));
	ASSERT_EQ(KVM_EXIT_IO, start(g, MSR_NONE, false, 0));
	EXPECT_TRUE(guest_at_port(g, PORT_EXC));
	ASSERT_EQ(0, enable(g, KVM_CAP_X86_USER_SPACE_MSR, 0));
	ASSERT_EQ(KVM_EXIT_IO, start(g, MSR_GS_BASE, false, 0));
	EXPECT_TRUE(guest_at_port(g, PORT_EXC));
}

TEST_F(filter, refusals)
{
	struct guest *g = &self->g;
	struct kvm_msr_filter f = { .flags = 2 };
	uint64_t bitmap[KVM_MSR_FILTER_MAX_BITMAP_SIZE / 8 + 1] = { 0 };

	EXPECT_EQ(-EINVAL, enable(g, KVM_CAP_X86_USER_SPACE_MSR, ~0ULL));
	EXPECT_EQ(-EFAULT, vm_ioctl(g->vm, KVM_X86_SET_MSR_FILTER, BAD_PTR));
	EXPECT_EQ(-EINVAL, vm_ioctl(g->vm, KVM_X86_SET_MSR_FILTER, &f));
	f.flags = KVM_MSR_FILTER_DEFAULT_DENY;		/* everything */
	EXPECT_EQ(-EINVAL, vm_ioctl(g->vm, KVM_X86_SET_MSR_FILTER, &f));
	f.ranges[15] = (struct kvm_msr_filter_range) { .nmsrs = 1, .bitmap = (uint8_t *)bitmap };
	EXPECT_EQ(-EINVAL, vm_ioctl(g->vm, KVM_X86_SET_MSR_FILTER, &f));	/* neither reads nor writes */
	f.ranges[15].flags = 4;
	EXPECT_EQ(-EINVAL, vm_ioctl(g->vm, KVM_X86_SET_MSR_FILTER, &f));
	f.ranges[15].flags = READ;
	f.ranges[15].nmsrs = 8 * KVM_MSR_FILTER_MAX_BITMAP_SIZE + 1;
	EXPECT_EQ(-EINVAL, vm_ioctl(g->vm, KVM_X86_SET_MSR_FILTER, &f));
	f.ranges[15].nmsrs = ~0u;
	EXPECT_EQ(-EINVAL, vm_ioctl(g->vm, KVM_X86_SET_MSR_FILTER, &f));
	f.ranges[15].nmsrs = 8 * KVM_MSR_FILTER_MAX_BITMAP_SIZE;
	f.ranges[15].bitmap = BAD_PTR;
	EXPECT_EQ(-EFAULT, vm_ioctl(g->vm, KVM_X86_SET_MSR_FILTER, &f));
	f.ranges[15].bitmap = (uint8_t *)bitmap;
	EXPECT_EQ(0, vm_ioctl(g->vm, KVM_X86_SET_MSR_FILTER, &f));
}

GUEST(reader, 64, "1: rdmsr\n" "incq (%rdi)\n" "jmp 1b\n");

static void *run_vcpu(void *arg)
{
	return (void *)guest_run(arg);
}

/* When the ioctl returns, a vCPU that was running reads the MSR no more. */
TEST_F(filter, while_running)
{
	struct guest *g = &self->g;
	volatile uint64_t *count = (void *)(g->mem + GUEST_DATA);
	struct kvm_regs r = {
		.rip = GUEST_CODE, .rsp = GUEST_STACK, .rflags = X86_EFLAGS_FIXED | X86_EFLAGS_IF,
		.rcx = MSR_STAR, .rdi = GUEST_DATA,
	};
	pthread_t thread;
	uint64_t at;
	void *reason;

	vcpu_complete_io(&g->cpu);
	guest_load(g, BLOB(reader));
	vcpu_set_regs(&g->cpu, &r);
	ASSERT_EQ(0, enable(g, KVM_CAP_X86_USER_SPACE_MSR, ALL_REASONS));
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_vcpu, g));
	while (*count < 10)
		sched_yield();
	ASSERT_EQ(0, deny(g, READ, MSR_STAR, 0xfe));
	at = *count;
	pthread_join(thread, &reason);
	EXPECT_EQ(KVM_EXIT_X86_RDMSR, (long)reason);
	/* it may have been between the two instructions */
	EXPECT_LE(*count, at + 1);
}

TEST_HARNESS_MAIN
