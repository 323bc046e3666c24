// SPDX-License-Identifier: GPL-2.0-only
/*
 * SPEC_CTRL, PRED_CMD and FLUSH_CMD: there if and only if CPUID says so, kept for each guest by itself, and the host
 * as before (SDM volume 4, IA32_SPEC_CTRL; APM volume 2, section 3.2.9).
 *
 * Few emulated CPUs have them. Where CPUID has no bit, what is tested is that the registers are not there.
 */
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define MSR_IA32_SPEC_CTRL	0x48
#define MSR_IA32_PRED_CMD	0x49
#define MSR_IA32_FLUSH_CMD	0x10b

#define CTRL_IBRS	1
#define CTRL_STIBP	2
#define CTRL_SSBD	4

#define ROUNDS		50

GUEST(rd, 64, "rdmsr\n" G_DONE);
GUEST(wr, 64, "wrmsr\n" G_DONE);
/* Writes EDI to SPEC_CTRL, then reads it after each of two exits. */
GUEST(keep, 64,
      "movl $" STR(MSR_IA32_SPEC_CTRL) ", %ecx\n"
      "movl %edi, %eax\n" "xorl %edx, %edx\n" "wrmsr\n"
      "1:\n" G_SYNC "rdmsr\n" "jmp 1b\n");

FIXTURE(spec) {
	struct guest g, other;
	uint32_t ctrl;		/* bits of SPEC_CTRL that the guest is told of */
	bool pred, flush;
};

FIXTURE_SETUP(spec)
{
	struct kvm_cpuid_entry2 *intel, *amd;
	struct kvm_cpuid2 *cpuid;

	guest_create(&self->g, 0);
	guest_create(&self->other, 0);
	vcpu_set_supported_cpuid(&self->g.cpu, self->g.dev);
	vcpu_set_supported_cpuid(&self->other.cpu, self->other.dev);
	cpuid = supported_cpuid(self->g.dev);
	intel = cpuid_find(cpuid, 7, 0);
	amd = cpuid_find(cpuid, 0x80000008, 0);
	if ((intel && intel->edx & 1 << 26) || (amd && amd->ebx & 1 << 14))
		self->ctrl |= CTRL_IBRS;
	if ((intel && intel->edx & 1 << 27) || (amd && amd->ebx & 1 << 15))
		self->ctrl |= CTRL_STIBP;
	if ((intel && intel->edx & 1u << 31) || (amd && amd->ebx & 1 << 24))
		self->ctrl |= CTRL_SSBD;
	self->pred = (intel && intel->edx & 1 << 26) || (amd && amd->ebx & 1 << 12);
	self->flush = intel && intel->edx & 1 << 28;
	free(cpuid);
}

FIXTURE_TEARDOWN(spec)
{
	guest_destroy(&self->g);
	guest_destroy(&self->other);
}

/* True if the guest's access ends without an exception, false if with #GP(0). */
static bool access_msr(struct __test_metadata *_metadata, struct guest *g, bool write, uint32_t msr, uint64_t val)
{
	struct kvm_regs r;

	guest_start(g, MODE_LONG, write ? BLOB(wr) : BLOB(rd));
	r = vcpu_regs(&g->cpu);
	r.rcx = msr;
	r.rax = (uint32_t)val;
	r.rdx = val >> 32;
	vcpu_set_regs(&g->cpu, &r);
	EXPECT_EQ(KVM_EXIT_IO, guest_run(g));
	if (guest_at_port(g, PORT_DONE))
		return true;
	EXPECT_TRUE(guest_at_port(g, PORT_EXC));
	EXPECT_EQ(GP_VECTOR, guest_exc(g).vector);
	return false;
}

TEST_F(spec, as_cpuid_says)
{
	struct guest *g = &self->g;
	uint64_t v;
	int bit;

	EXPECT_EQ(self->ctrl != 0, access_msr(_metadata, g, false, MSR_IA32_SPEC_CTRL, 0));
	EXPECT_EQ(self->ctrl != 0, access_msr(_metadata, g, true, MSR_IA32_SPEC_CTRL, 0));
	for (bit = 1; bit <= CTRL_SSBD; bit <<= 1)
		EXPECT_EQ(!!(self->ctrl & bit), access_msr(_metadata, g, true, MSR_IA32_SPEC_CTRL, bit));
	EXPECT_FALSE(access_msr(_metadata, g, true, MSR_IA32_SPEC_CTRL, 1UL << 32));
	EXPECT_FALSE(access_msr(_metadata, g, false, MSR_IA32_PRED_CMD, 0));
	EXPECT_EQ(self->pred, access_msr(_metadata, g, true, MSR_IA32_PRED_CMD, 0));
	EXPECT_EQ(self->pred, access_msr(_metadata, g, true, MSR_IA32_PRED_CMD, 1));
	EXPECT_EQ(self->pred, access_msr(_metadata, g, true, MSR_IA32_PRED_CMD, 1));
	EXPECT_FALSE(access_msr(_metadata, g, false, MSR_IA32_FLUSH_CMD, 0));
	EXPECT_EQ(self->flush, access_msr(_metadata, g, true, MSR_IA32_FLUSH_CMD, 1));
	EXPECT_FALSE(access_msr(_metadata, g, true, MSR_IA32_FLUSH_CMD, 2));

	/* Some emulated CPUs take any write to a register that they do not have, and in-tree KVM asks the CPU. */
	if (!self->ctrl)
		return;
	/* The client's view: its own writes, and what the guest left. */
	EXPECT_EQ(1, vcpu_set_msr(&g->cpu, MSR_IA32_SPEC_CTRL, self->ctrl));
	EXPECT_EQ(0, vcpu_set_msr(&g->cpu, MSR_IA32_SPEC_CTRL, 1UL << 32));
	EXPECT_EQ(1, vcpu_get_msr(&g->cpu, MSR_IA32_SPEC_CTRL, &v));
	EXPECT_EQ(self->ctrl, v);
}

/* A guest without the bits in its CPUID has no such registers, even after it had. */
TEST_F(spec, cpuid_taken_away)
{
	struct kvm_cpuid2 none = { 0 };
	struct guest *g = &self->g;

	if (self->ctrl)
		EXPECT_TRUE(access_msr(_metadata, g, true, MSR_IA32_SPEC_CTRL, self->ctrl));
	/* In-tree KVM takes no new CPUID once the vCPU has run. */
	if (ioctl_errno(g->cpu.fd, KVM_SET_CPUID2, (unsigned long)&none))
		SKIP(return, "the CPUID of a vCPU that has run is final");
	EXPECT_FALSE(access_msr(_metadata, g, false, MSR_IA32_SPEC_CTRL, 0));
	EXPECT_FALSE(access_msr(_metadata, g, true, MSR_IA32_SPEC_CTRL, 0));
	EXPECT_FALSE(access_msr(_metadata, g, true, MSR_IA32_PRED_CMD, 1));
}

static void start_keeping(struct guest *g, uint32_t val)
{
	struct kvm_regs r;

	guest_start(g, MODE_LONG, BLOB(keep));
	r = vcpu_regs(&g->cpu);
	r.rdi = val;
	vcpu_set_regs(&g->cpu, &r);
}

/* Two guests in turn, with different values, with and without exits of their writes: each finds its own. */
TEST_F(spec, each_its_own)
{
	static const uint32_t pairs[][2] = {
		{ 0, CTRL_IBRS }, { CTRL_IBRS, CTRL_STIBP }, { CTRL_SSBD, CTRL_IBRS | CTRL_STIBP }, { CTRL_IBRS, 0 },
	};
	uint64_t v;
	int i, n;

	if (self->ctrl != (CTRL_IBRS | CTRL_STIBP | CTRL_SSBD))
		SKIP(return, "this host has no SPEC_CTRL with IBRS, STIBP and SSBD");
	for (i = 0; i < ARRAY_SIZE(pairs); i++) {
		start_keeping(&self->g, pairs[i][0]);
		start_keeping(&self->other, pairs[i][1]);
		ASSERT_PORT(PORT_SYNC, &self->g);
		ASSERT_PORT(PORT_SYNC, &self->other);
		for (n = 0; n < ROUNDS; n++) {
			ASSERT_PORT(PORT_SYNC, &self->g);
			EXPECT_EQ(pairs[i][0], vcpu_regs(&self->g.cpu).rax);
			ASSERT_PORT(PORT_SYNC, &self->other);
			EXPECT_EQ(pairs[i][1], vcpu_regs(&self->other.cpu).rax);
		}
		EXPECT_EQ(1, vcpu_get_msr(&self->g.cpu, MSR_IA32_SPEC_CTRL, &v));
		EXPECT_EQ(pairs[i][0], v);
		EXPECT_EQ(1, vcpu_get_msr(&self->other.cpu, MSR_IA32_SPEC_CTRL, &v));
		EXPECT_EQ(pairs[i][1], v);
		/* What the client writes is what the guest reads. */
		EXPECT_EQ(1, vcpu_set_msr(&self->g.cpu, MSR_IA32_SPEC_CTRL, CTRL_SSBD | CTRL_STIBP));
		ASSERT_PORT(PORT_SYNC, &self->g);
		EXPECT_EQ(CTRL_SSBD | CTRL_STIBP, vcpu_regs(&self->g.cpu).rax);
	}
}

TEST_HARNESS_MAIN
