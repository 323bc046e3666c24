// SPDX-License-Identifier: GPL-2.0-only
/*
 * The local APIC register by register: which bits each keeps, which accesses x2APIC mode refuses, the error
 * status, the APIC base, disabling by software, and the timer's counter and modes (SDM volume 3, 10.4, 10.5 and
 * 10.12). One access at a time; where in-tree KVM is known to be more lenient than the manual, only Keel is asked.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "ops.h"

#define VEC	0x61

FIXTURE(regs) {
	struct guest g;
	bool keel;
};

FIXTURE_SETUP(regs)
{
	guest_create(&self->g, GUEST_IRQCHIP);
	self->keel = dev_is_keel(self->g.dev);
	ops_start(&self->g);
}

FIXTURE_TEARDOWN(regs)
{
	guest_destroy(&self->g);
}

static void enable(struct guest *g)
{
	ops_set_apic(g, APIC_SPIV, SPIV_ENABLE | 0xff);
}

static void x2apic(struct guest *g)
{
	if (ops_wrmsr(g, MSR_IA32_APICBASE, APIC_DEFAULT_BASE | APICBASE_BSP | APICBASE_ENABLE | APICBASE_X2APIC))
		die("no x2APIC mode");
}

static bool in_irr(struct guest *g, int vector)
{
	return ops_apic(g, APIC_IRR + vector / 32 * 16) >> (vector % 32) & 1;
}

TEST_F(regs, bits_kept)
{
	static const struct {
		uint32_t reg, ones, zero;
	} cases[] = {
		{ APIC_ID, 0xff000000, 0 },
		{ APIC_TPR, 0xff, 0 },
		{ 0x90, 0, 0 },				/* arbitration priority */
		{ APIC_LDR, 0xff000000, 0 },
		{ APIC_DFR, 0xffffffff, 0x0fffffff },
		{ APIC_SPIV, 0x3ff, 0 },
		{ APIC_ICR2, 0xff000000, 0 },
		{ APIC_ISR, 0, 0 }, { APIC_ISR + 0x70, 0, 0 },
		{ APIC_TMR, 0, 0 }, { APIC_TMR + 0x70, 0, 0 },
		{ APIC_IRR, 0, 0 }, { APIC_IRR + 0x70, 0, 0 },
		{ APIC_LVTT, 0x310ff, 0 },		/* no deadline mode: CPUID does not offer it */
		{ 0x330, 0x117ff, 0 },
		{ 0x340, 0x117ff, 0 },
		{ APIC_LVT0, 0x1f7ff, 0 },
		{ APIC_LVT1, 0x1f7ff, 0 },
		{ APIC_LVTERR, 0x110ff, 0 },
		{ APIC_TDCR, 0xb, 0 },
		{ APIC_TMCCT, 0, 0 },
		{ APIC_TMICT, 0xffffffff, 0 },
	};
	struct guest *g = &self->g;
	uint32_t seen;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		enable(g);
		ops_set_apic(g, APIC_TPR, 0);
		ops_set_apic(g, cases[i].reg, 0xffffffff);
		seen = ops_apic(g, cases[i].reg);
		/* In-tree KVM on AMD keeps of the task priority what CR8 has. */
		if (cases[i].reg == APIC_TPR && !self->keel)
			seen |= 0xf;
		EXPECT_EQ(cases[i].ones, seen) {
			TH_LOG("register %x, all ones", cases[i].reg);
		}
		ops_set_apic(g, cases[i].reg, 0);
		EXPECT_EQ(cases[i].zero, ops_apic(g, cases[i].reg)) {
			TH_LOG("register %x, zero", cases[i].reg);
		}
	}
	/* Version 0x14 and six LVT entries: this vCPU's MCG_CAP has no CMCI. */
	EXPECT_EQ(0x00050014, ops_apic(g, APIC_LVR));
	ops_set_apic(g, APIC_LVR, 0);
	EXPECT_EQ(0x00050014, ops_apic(g, APIC_LVR));
}

TEST_F(regs, access_sizes)
{
	struct guest *g = &self->g;
	uint64_t val;

	enable(g);
	ops_set_apic(g, APIC_LVT1, 0x12345);
	/* Reads may be narrow, also in the middle; writes are 32 bits at a register's own address. */
	ops_read(g, APIC_DEFAULT_BASE + APIC_LVT1, 1, &val);
	EXPECT_EQ(0x45, val & 0xff);
	ops_read(g, APIC_DEFAULT_BASE + APIC_LVT1 + 1, 1, &val);
	EXPECT_EQ(0x23, val & 0xff);
	ops_read(g, APIC_DEFAULT_BASE + APIC_LVT1 + 2, 2, &val);
	EXPECT_EQ(1, val & 0xffff);
	/* What narrower ones do is undefined, and with VT-x the CPU's to decide (SDM 3A, 11.4.1; 3C, 30.4.3). */
	if (!host_is_amd())
		return;
	ops_write(g, APIC_DEFAULT_BASE + APIC_LVT1, 1, 0xff);
	ops_write(g, APIC_DEFAULT_BASE + APIC_LVT1, 2, 0xffff);
	ops_write(g, APIC_DEFAULT_BASE + APIC_LVT1 + 4, 4, 0xffffffff);
	EXPECT_EQ(0x12345, ops_apic(g, APIC_LVT1));
}

/* MSRs 0x800 to 0x8ff that can be read and written, by register number. */
static bool x2_readable(int n)
{
	return n == 0x02 || n == 0x03 || n == 0x08 || n == 0x0a || n == 0x0d || n == 0x0f ||
	       (n >= 0x10 && n <= 0x28) || n == 0x30 || (n >= 0x32 && n <= 0x39) || n == 0x3e;
}

static bool x2_writable(int n)
{
	return n == 0x08 || n == 0x0b || n == 0x0f || n == 0x28 || n == 0x30 || (n >= 0x32 && n <= 0x38) ||
	       n == 0x3e || n == 0x3f;
}

TEST_F(regs, x2apic_access)
{
	struct guest *g = &self->g;
	uint64_t val;
	int n;

	/* Not in xAPIC mode. */
	EXPECT_EQ(GP_VECTOR, ops_rdmsr(g, 0x802, &val));
	EXPECT_EQ(GP_VECTOR, ops_wrmsr(g, 0x808, 0));
	x2apic(g);
	for (n = 0; n < 0x100; n++) {
		EXPECT_EQ(x2_readable(n) ? 0 : GP_VECTOR, ops_rdmsr(g, 0x800 + n, &val)) {
			TH_LOG("read of MSR %x", 0x800 + n);
		}
		EXPECT_EQ(x2_writable(n) ? 0 : GP_VECTOR, ops_wrmsr(g, 0x800 + n, 0)) {
			TH_LOG("write of MSR %x", 0x800 + n);
		}
		/* All have 32 bits, the ICR excepted. */
		if (n != 0x30)
			EXPECT_EQ(GP_VECTOR, ops_wrmsr(g, 0x800 + n, 1ULL << 32));
	}
}

TEST_F(regs, x2apic_reserved_bits)
{
	static const struct {
		uint32_t reg;
		uint64_t bad;
		bool keel;		/* in-tree KVM ignores the bit */
	} cases[] = {
		{ APIC_ESR, 1 },
		{ APIC_SELF_IPI, 0x100 },
		{ APIC_ICR, 1 << 13 }, { APIC_ICR, 1 << 16 }, { APIC_ICR, 1 << 17 }, { APIC_ICR, 1 << 20 },
		{ APIC_ICR, 1U << 31 },
		{ APIC_TPR, 0x100, true },
		{ APIC_EOI, 1, true },
		{ APIC_SPIV, 1 << 10, true }, { APIC_SPIV, 1 << 12, true },
		{ APIC_LVTT, 1U << 31, true }, { APIC_LVTT, 0x700, true },
		{ APIC_LVT0, 1 << 17, true },
		{ APIC_LVTERR, 0x400, true },
		{ APIC_TDCR, 4, true },
	};
	struct guest *g = &self->g;
	int i;

	x2apic(g);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (cases[i].keel && !self->keel)
			continue;
		EXPECT_EQ(GP_VECTOR, ops_wrmsr(g, MSR_X2APIC(cases[i].reg), cases[i].bad)) {
			TH_LOG("register %x, bit %lx", cases[i].reg, cases[i].bad);
		}
	}
}

#define ESR_SEND_ILLEGAL	0x20
#define ESR_RECEIVE_ILLEGAL	0x40
#define ESR_ILLEGAL_REGISTER	0x80

TEST_F(regs, error_status)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 5 };
	struct guest *g = &self->g;
	uint64_t val;

	if (!self->keel)
		SKIP(return, "in-tree KVM keeps no error status");
	enable(g);
	ops_set_apic(g, APIC_LVTERR, VEC);
	ops_set_apic(g, APIC_ICR, 0x40000 | 15);
	/* A write brings the errors since the last write into view; the next one takes them away. */
	EXPECT_EQ(0, ops_apic(g, APIC_ESR));
	ops_set_apic(g, APIC_ESR, 0);
	EXPECT_EQ(ESR_SEND_ILLEGAL, ops_apic(g, APIC_ESR));
	EXPECT_EQ(ESR_SEND_ILLEGAL, ops_apic(g, APIC_ESR));
	ops_set_apic(g, APIC_ESR, 0);
	EXPECT_EQ(0, ops_apic(g, APIC_ESR));
	/* The error interrupt has come, once. */
	EXPECT_EQ(VEC, ops_take(g));
	ops_set_apic(g, APIC_EOI, 0);
	EXPECT_EQ(-1, ops_take(g));

	/* Registers that are not there; reading one that is write-only is the same. */
	ops_set_apic(g, 0x40, 0);
	EXPECT_EQ(VEC, ops_take(g));
	ops_set_apic(g, APIC_EOI, 0);
	ops_apic(g, 0x3b0);
	ops_set_apic(g, APIC_SELF_IPI, VEC);
	EXPECT_EQ(-1, ops_take(g));		/* no new kind of error since the last write */
	ops_set_apic(g, APIC_ESR, 0);
	EXPECT_EQ(ESR_ILLEGAL_REGISTER, ops_apic(g, APIC_ESR));
	ops_apic(g, APIC_LVT_CMCI);
	ops_set_apic(g, APIC_ESR, 0);
	EXPECT_EQ(ESR_ILLEGAL_REGISTER, ops_apic(g, APIC_ESR));
	EXPECT_EQ(VEC, ops_take(g));
	ops_set_apic(g, APIC_EOI, 0);

	/* An illegal vector of an MSI is received, not sent. */
	MUST(vm_ioctl(g->vm, KVM_SIGNAL_MSI, &msi));
	ops_set_apic(g, APIC_ESR, 0);
	EXPECT_EQ(ESR_RECEIVE_ILLEGAL, ops_apic(g, APIC_ESR));
	/* A masked entry records and says nothing; one with an illegal vector of its own does not recurse. */
	EXPECT_EQ(VEC, ops_take(g));
	ops_set_apic(g, APIC_EOI, 0);
	ops_set_apic(g, APIC_LVTERR, 3);
	ops_set_apic(g, APIC_ICR, 0x40000 | 1);
	EXPECT_EQ(-1, ops_take(g));
	ops_set_apic(g, APIC_ESR, 0);
	EXPECT_EQ(ESR_SEND_ILLEGAL, ops_apic(g, APIC_ESR));
	/* x2APIC mode has it too; its illegal registers are #GP and no error. */
	x2apic(g);
	EXPECT_EQ(0, ops_wrmsr(g, MSR_X2APIC(APIC_SELF_IPI), 2));
	EXPECT_EQ(GP_VECTOR, ops_wrmsr(g, 0x804, 2));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_X2APIC(APIC_ESR), 0));
	EXPECT_EQ(0, ops_rdmsr(g, MSR_X2APIC(APIC_ESR), &val));
	EXPECT_EQ(ESR_SEND_ILLEGAL, val);
}

#define BASE(bits)	(APIC_DEFAULT_BASE | APICBASE_BSP | (bits))

TEST_F(regs, base)
{
	struct guest *g = &self->g;
	uint64_t val;
	/* Writes in turn: what the processor says to each. */
	static const struct {
		uint64_t base;
		int vector;
	} steps[] = {
		{ BASE(APICBASE_X2APIC), GP_VECTOR },			/* from xAPIC mode: no such mode */
		{ BASE(APICBASE_ENABLE | 1 << 9), GP_VECTOR },
		{ BASE(APICBASE_ENABLE | 1), GP_VECTOR },
		{ BASE(APICBASE_ENABLE) | 1ULL << 60, GP_VECTOR },
		{ BASE(0), 0 },
		{ BASE(APICBASE_ENABLE | APICBASE_X2APIC), GP_VECTOR },	/* from disabled */
		{ BASE(APICBASE_ENABLE), 0 },
		{ BASE(APICBASE_ENABLE | APICBASE_X2APIC), 0 },
		{ BASE(APICBASE_ENABLE), GP_VECTOR },			/* from x2APIC mode */
		{ BASE(0), 0 },
		{ BASE(APICBASE_ENABLE), 0 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		EXPECT_EQ(steps[i].vector, ops_wrmsr(g, MSR_IA32_APICBASE, steps[i].base)) {
			TH_LOG("step %d", i);
		}
	}
	EXPECT_EQ(0, ops_apic(g, APIC_ID));
	/* Somewhere else */
	EXPECT_EQ(0, ops_wrmsr(g, MSR_IA32_APICBASE, 0xfed00000 | APICBASE_BSP | APICBASE_ENABLE));
	EXPECT_EQ(0, ops_read(g, 0xfed00000 + APIC_LVR, 4, &val));
	EXPECT_EQ(0x14, val & 0xff);
	EXPECT_EQ(0, ops_write(g, 0xfed00000 + APIC_SPIV, 4, SPIV_ENABLE | 0xff));
	EXPECT_EQ(0, ops_write(g, 0xfed00000 + APIC_ICR, 4, 0x40000 | VEC));
	EXPECT_EQ(VEC, ops_take(g));
	EXPECT_EQ(0, ops_write(g, 0xfed00000 + APIC_EOI, 4, 0));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_IA32_APICBASE, BASE(APICBASE_ENABLE)));
	EXPECT_EQ(0x14, ops_apic(g, APIC_LVR) & 0xff);
}

TEST_F(regs, software_disable)
{
	struct guest *g = &self->g;
	uint32_t lvt;

	enable(g);
	for (lvt = APIC_LVTT; lvt <= APIC_LVTERR; lvt += 0x10)
		ops_set_apic(g, lvt, VEC);
	ops_set_apic(g, APIC_ICR, 0x40000 | VEC);
	ops_set_apic(g, APIC_SPIV, 0xff);
	for (lvt = APIC_LVTT; lvt <= APIC_LVTERR; lvt += 0x10) {
		EXPECT_EQ(LVT_MASKED | VEC, ops_apic(g, lvt));
		ops_set_apic(g, lvt, VEC);
		EXPECT_EQ(LVT_MASKED | VEC, ops_apic(g, lvt));
	}
	/* What was requested stays so; nothing new is taken, an NMI excepted. */
	EXPECT_TRUE(in_irr(g, VEC));
	ops_set_apic(g, APIC_ICR, 0x40000 | (VEC + 1));
	EXPECT_FALSE(in_irr(g, VEC + 1));
	ops_set_apic(g, APIC_ICR2, 0);
	EXPECT_EQ(NMI_VECTOR, ops_write(g, APIC_DEFAULT_BASE + APIC_ICR, 4, 0x400));
	ops_iret(g);
}

/* How far the counter has come down from all ones, in undivided ticks, after at least @us. */
static uint64_t ticks(struct guest *g, int us)
{
	uint32_t now;

	ops_set_apic(g, APIC_TMICT, 0xffffffff);
	usleep(us);
	now = ops_apic(g, APIC_TMCCT);
	ops_set_apic(g, APIC_TMICT, 0);
	return 0xffffffff - now;
}

TEST_F(regs, timer_divide)
{
	static const int divide[8] = { 2, 4, 8, 16, 32, 64, 128, 1 };
	struct guest *g = &self->g;
	uint64_t n, t;
	int i;

	enable(g);
	ops_set_apic(g, APIC_LVTT, LVT_MASKED | VEC);
	for (i = 0; i < 8; i++) {
		ops_set_apic(g, APIC_TDCR, (i & 3) | (i & 4) << 1);
		t = ns_now();
		n = ticks(g, 3000);
		t = ns_now() - t;
		/* At 1 GHz, divided: neither more ticks than the time there was, nor fewer than the sleep. */
		EXPECT_LE(n * divide[i], t + 1000000) {
			TH_LOG("divide by %d: %lu in %lu ns", divide[i], n, t);
		}
		EXPECT_LE(2900000, (n + 1) * divide[i]) {
			TH_LOG("divide by %d: %lu in %lu ns", divide[i], n, t);
		}
	}
}

TEST_F(regs, timer_modes)
{
	struct guest *g = &self->g;
	struct kvm_cpuid2 *cpuid = supported_cpuid(g->dev);
	uint64_t val, tsc;
	int taken;

	cpuid_find(cpuid, 1, 0)->ecx |= 1 << 24;
	/* Before the first KVM_RUN: later changes are refused by in-tree KVM */
	guest_destroy(g);
	guest_create(g, GUEST_IRQCHIP);
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_CPUID2, cpuid));
	free(cpuid);
	ops_start(g);
	enable(g);
	ops_set_apic(g, APIC_TDCR, 0xb);

	/* One-shot: to zero, where it stays. It counts on when it becomes periodic and back. */
	ops_set_apic(g, APIC_LVTT, VEC);
	ops_set_apic(g, APIC_TMICT, 1000000);
	usleep(2000);
	EXPECT_EQ(VEC, ops_take(g));
	ops_set_apic(g, APIC_EOI, 0);
	EXPECT_EQ(0, ops_apic(g, APIC_TMCCT));
	EXPECT_EQ(1000000, ops_apic(g, APIC_TMICT));
	EXPECT_EQ(-1, ops_take(g));
	ops_set_apic(g, APIC_TMICT, 0xfffffff0);
	ops_set_apic(g, APIC_LVTT, LVT_PERIODIC | VEC);
	EXPECT_NE(0, ops_apic(g, APIC_TMCCT));
	ops_set_apic(g, APIC_LVTT, VEC);
	EXPECT_NE(0, ops_apic(g, APIC_TMCCT));
	EXPECT_EQ(-1, ops_take(g));
	/* Deadline mode knows no counts; the deadline is forgotten with the mode. */
	ops_set_apic(g, APIC_LVTT, LVT_DEADLINE | VEC);
	EXPECT_EQ(0, ops_apic(g, APIC_TMCCT));
	EXPECT_EQ(0, ops_apic(g, APIC_TMICT));
	ops_set_apic(g, APIC_TMICT, 1000);
	EXPECT_EQ(0, ops_apic(g, APIC_TMCCT));
	EXPECT_EQ(0, ops_rdmsr(g, MSR_IA32_TSC, &tsc));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_IA32_TSC_DEADLINE, tsc + (1ULL << 40)));
	EXPECT_EQ(0, ops_rdmsr(g, MSR_IA32_TSC_DEADLINE, &val));
	EXPECT_EQ(tsc + (1ULL << 40), val);
	ops_set_apic(g, APIC_LVTT, VEC);
	EXPECT_EQ(0, ops_rdmsr(g, MSR_IA32_TSC_DEADLINE, &val));
	EXPECT_EQ(0, val);
	EXPECT_EQ(0, ops_wrmsr(g, MSR_IA32_TSC_DEADLINE, tsc));
	EXPECT_EQ(-1, ops_take(g));
	ops_set_apic(g, APIC_LVTT, LVT_DEADLINE | VEC);
	EXPECT_EQ(-1, ops_take(g));
	/* One in the past comes at once, and disarms. */
	EXPECT_EQ(0, ops_wrmsr(g, MSR_IA32_TSC_DEADLINE, 1));
	EXPECT_EQ(VEC, ops_take(g));
	ops_set_apic(g, APIC_EOI, 0);
	EXPECT_EQ(0, ops_rdmsr(g, MSR_IA32_TSC_DEADLINE, &val));
	EXPECT_EQ(0, val);
	/* Masked: it expires, and its interrupt is lost. In-tree KVM brings it when the mask is gone. */
	ops_set_apic(g, APIC_LVTT, LVT_MASKED | VEC);
	ops_set_apic(g, APIC_TMICT, 100000);
	usleep(1000);
	EXPECT_EQ(-1, ops_take(g));
	ops_set_apic(g, APIC_LVTT, VEC);
	taken = ops_take(g);
	if (self->keel)
		EXPECT_EQ(-1, taken);
	if (taken >= 0)
		ops_set_apic(g, APIC_EOI, 0);
	/* Zero stops. */
	ops_set_apic(g, APIC_TMICT, 30000000);
	ops_set_apic(g, APIC_TMICT, 0);
	EXPECT_EQ(0, ops_apic(g, APIC_TMCCT));
	usleep(40000);
	EXPECT_EQ(-1, ops_take(g));
}

/* LINT0 in its modes, with the PIC's output on it: KVM_IRQ_LINE 3 is the PIC's too. */
TEST_F(regs, extint)
{
	struct kvm_irq_level line = { .irq = 3, .level = 1 };
	static const uint8_t init[] = { 0x11, 0x20, 0x04, 0x01 };
	struct guest *g = &self->g;
	int i;

	ops_out(g, 0x20, init[0]);
	for (i = 1; i < 4; i++)
		ops_out(g, 0x21, init[i]);
	ops_out(g, 0x21, 0xf7);
	enable(g);
	MUST(vm_ioctl(g->vm, KVM_IRQ_LINE, &line));
	ops_set_apic(g, APIC_LVT0, LVT_MASKED | 0x700);
	EXPECT_EQ(-1, ops_take(g));
	ops_set_apic(g, APIC_LVT0, VEC);		/* fixed: this output is not that pin's */
	EXPECT_EQ(-1, ops_take(g));
	/* The task priority does not hold it up, and it is in no APIC register. */
	ops_set_apic(g, APIC_TPR, 0xff);
	ops_set_apic(g, APIC_LVT0, 0x700);
	EXPECT_EQ(0x23, ops_take(g));
	EXPECT_EQ(0, ops_apic(g, APIC_ISR + 0x10));
	EXPECT_EQ(-1, ops_take(g));
	ops_out(g, 0x20, 0x20);
	line.level = 0;
	MUST(vm_ioctl(g->vm, KVM_IRQ_LINE, &line));
	line.level = 1;
	MUST(vm_ioctl(g->vm, KVM_IRQ_LINE, &line));
	/* An APIC that is disabled altogether leaves the pin to the processor. */
	ops_set_apic(g, APIC_LVT0, LVT_MASKED | 0x700);
	EXPECT_EQ(-1, ops_take(g));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_IA32_APICBASE, BASE(0)));
	EXPECT_EQ(0x23, ops_take(g));
}

#define MCG_CTL_P	(1UL << 8)
#define MCG_CMCI_P	(1UL << 10)
#define MSR_MCG_CAP	0x179
#define MSR_MC_CTL2(n)	(0x280 + (n))
#define MSR_MC_STATUS(n) (0x401 + 4 * (n))
#define CMCI_ENABLE	(1UL << 30)
#define MCI_VAL		(1UL << 63)
#define MCI_UC		(1UL << 61)
#define MCI_S		(1UL << 56)
#define BANK		3

static void set_mce(struct guest *g, uint64_t status, uint8_t mcg_status)
{
	struct kvm_x86_mce mce = { .status = MCI_VAL | status, .bank = BANK, .mcg_status = mcg_status };

	MUST(vm_ioctl(g->cpu.fd, KVM_X86_SET_MCE, &mce));
}

/* The LVT entry for corrected machine checks comes and goes with MCG_CAP. */
TEST_F(regs, cmci)
{
	uint64_t cap, val, setup = 4 | MCG_CTL_P;
	struct kvm_lapic_state lapic;
	struct guest *g = &self->g;

	MUST(vm_ioctl(g->dev, KVM_X86_GET_MCE_CAP_SUPPORTED, &cap));
	if (!(cap & MCG_CMCI_P) && !self->keel)
		SKIP(return, "in-tree KVM has no CMCI with AMD-V");
	ASSERT_TRUE(cap & MCG_CMCI_P);
	MUST(vm_ioctl(g->cpu.fd, KVM_X86_SETUP_MCE, &setup));
	EXPECT_EQ(0x00050014, ops_apic(g, APIC_LVR));
	EXPECT_EQ(GP_VECTOR, ops_rdmsr(g, MSR_MC_CTL2(BANK), &val));
	EXPECT_EQ(GP_VECTOR, ops_wrmsr(g, MSR_MC_CTL2(BANK), 0));
	EXPECT_EQ(0, vcpu_set_msr(&g->cpu, MSR_MC_CTL2(BANK), CMCI_ENABLE));
	/* An uncorrected error that needs no action is logged, and that is all. */
	set_mce(g, MCI_UC, 0);
	EXPECT_EQ(-1, ops_take(g));
	EXPECT_EQ(0, ops_rdmsr(g, MSR_MC_STATUS(BANK), &val));
	EXPECT_EQ(MCI_VAL | MCI_UC, val);

	setup |= MCG_CMCI_P;
	MUST(vm_ioctl(g->cpu.fd, KVM_X86_SETUP_MCE, &setup));
	EXPECT_EQ(0, ops_rdmsr(g, MSR_MCG_CAP, &val));
	EXPECT_EQ(setup, val);
	EXPECT_EQ(0x00060014, ops_apic(g, APIC_LVR));
	EXPECT_EQ(LVT_MASKED, ops_apic(g, APIC_LVT_CMCI));
	/* Masked while the APIC is disabled by software, like the others. */
	ops_set_apic(g, APIC_SPIV, 0xff);
	ops_set_apic(g, APIC_LVT_CMCI, VEC);
	EXPECT_EQ(LVT_MASKED | VEC, ops_apic(g, APIC_LVT_CMCI));
	enable(g);
	ops_set_apic(g, APIC_LVT_CMCI, 0xffffffff);
	EXPECT_EQ(0x117ff, ops_apic(g, APIC_LVT_CMCI));
	ops_set_apic(g, APIC_SPIV, 0xff);
	ops_set_apic(g, APIC_LVT_CMCI, VEC);
	enable(g);
	ops_set_apic(g, APIC_LVT_CMCI, VEC);

	/* One enable bit a bank; corrected errors tell nothing. */
	set_mce(g, MCI_UC, 0);
	EXPECT_EQ(-1, ops_take(g));
	EXPECT_EQ(GP_VECTOR, ops_wrmsr(g, MSR_MC_CTL2(BANK), CMCI_ENABLE | 1UL << 15));
	EXPECT_EQ(GP_VECTOR, ops_wrmsr(g, MSR_MC_CTL2(4), CMCI_ENABLE));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_MC_CTL2(BANK), CMCI_ENABLE | 0x7fff));
	EXPECT_EQ(0, ops_rdmsr(g, MSR_MC_CTL2(BANK), &val));
	EXPECT_EQ(CMCI_ENABLE | 0x7fff, val);
	set_mce(g, 0, 0);
	EXPECT_EQ(-1, ops_take(g));
	set_mce(g, MCI_UC, 0);
	EXPECT_EQ(VEC, ops_take(g));
	ops_set_apic(g, APIC_EOI, 0);
	EXPECT_EQ(-1, ops_take(g));
	ops_set_apic(g, APIC_LVT_CMCI, 0x400);
	set_mce(g, MCI_UC, 0);
	EXPECT_EQ(NMI_VECTOR, ops_take(g));
	ops_iret(g);

	/* The client's copy of the page has it, and what that page has is taken. */
	MUST(vm_ioctl(g->cpu.fd, KVM_GET_LAPIC, &lapic));
	EXPECT_EQ(0x400, *(uint32_t *)(lapic.regs + APIC_LVT_CMCI));
	*(uint32_t *)(lapic.regs + APIC_LVT_CMCI) = LVT_MASKED | VEC;
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_LAPIC, &lapic));
	EXPECT_EQ(LVT_MASKED | VEC, ops_apic(g, APIC_LVT_CMCI));

	x2apic(g);
	EXPECT_EQ(0, ops_rdmsr(g, MSR_X2APIC(APIC_LVT_CMCI), &val));
	EXPECT_EQ(LVT_MASKED | VEC, val);
	EXPECT_EQ(0, ops_wrmsr(g, MSR_X2APIC(APIC_LVT_CMCI), VEC + 1));
	set_mce(g, MCI_UC, 0);
	EXPECT_EQ(VEC + 1, ops_take(g));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_X2APIC(APIC_EOI), 0));
	if (self->keel)
		EXPECT_EQ(GP_VECTOR, ops_wrmsr(g, MSR_X2APIC(APIC_LVT_CMCI), 1 << 17));
	/* Gone again, the register too. */
	setup &= ~MCG_CMCI_P;
	MUST(vm_ioctl(g->cpu.fd, KVM_X86_SETUP_MCE, &setup));
	EXPECT_EQ(GP_VECTOR, ops_rdmsr(g, MSR_X2APIC(APIC_LVT_CMCI), &val));
	EXPECT_EQ(GP_VECTOR, ops_wrmsr(g, MSR_X2APIC(APIC_LVT_CMCI), 0));
	/* Signaled: a machine check, and with CR4.MCE clear the end. */
	set_mce(g, MCI_UC | MCI_S, 4);
	EXPECT_EQ(KVM_EXIT_SHUTDOWN, guest_run(g));
}

/* The parameter counts when a VM is made: true when it could be set. */
static bool set_directed_eoi(const char *value)
{
	int fd = open("/sys/module/keel/parameters/directed_eoi", O_WRONLY);
	bool done = fd >= 0 && write(fd, value, 1) == 1;

	if (fd >= 0)
		close(fd);
	return done;
}

static uint32_t ioapic(struct guest *g, int reg)
{
	uint64_t val;

	ops_write(g, IOAPIC_SELECT, 4, reg);
	ops_read(g, IOAPIC_WINDOW, 4, &val);
	return val;
}

static void set_ioapic(struct guest *g, int reg, uint32_t val)
{
	ops_write(g, IOAPIC_SELECT, 4, reg);
	ops_write(g, IOAPIC_WINDOW, 4, val);
}

#define PIN		21
#define REMOTE_IRR	(1 << 14)

/* The local APIC keeps the end of a level to itself, the I/O APIC hears of it by its own register. */
TEST(directed_eoi)
{
	struct kvm_irq_level line = { .irq = PIN, .level = 1 };
	struct guest g;

	if (strcmp(dev_path(), "/dev/keel") || !set_directed_eoi("Y"))
		SKIP(return, "no parameter directed_eoi to set");
	guest_create(&g, GUEST_IRQCHIP);
	set_directed_eoi("N");
	ops_start(&g);
	EXPECT_EQ(0x00170020, ioapic(&g, 1));
	EXPECT_EQ(0x01050014, ops_apic(&g, APIC_LVR));
	ops_set_apic(&g, APIC_SPIV, 0xffffffff);
	EXPECT_EQ(0x13ff, ops_apic(&g, APIC_SPIV));
	ops_set_apic(&g, APIC_SPIV, SPIV_ENABLE | 1 << 12 | 0xff);
	set_ioapic(&g, 0x11 + 2 * PIN, 0);
	set_ioapic(&g, 0x10 + 2 * PIN, VEC | 1 << 15);
	MUST(vm_ioctl(g.vm, KVM_IRQ_LINE, &line));
	EXPECT_EQ(VEC, ops_take(&g));
	ops_set_apic(&g, APIC_EOI, 0);
	EXPECT_EQ(REMOTE_IRR, ioapic(&g, 0x10 + 2 * PIN) & REMOTE_IRR);
	EXPECT_EQ(-1, ops_take(&g));
	ops_write(&g, IOAPIC_EOI, 4, VEC + 1);
	EXPECT_EQ(-1, ops_take(&g));
	ops_write(&g, IOAPIC_EOI, 4, VEC);
	EXPECT_EQ(VEC, ops_take(&g));
	line.level = 0;
	MUST(vm_ioctl(g.vm, KVM_IRQ_LINE, &line));
	ops_set_apic(&g, APIC_EOI, 0);
	ops_write(&g, IOAPIC_EOI, 4, VEC);
	EXPECT_EQ(0, ioapic(&g, 0x10 + 2 * PIN) & REMOTE_IRR);
	EXPECT_EQ(-1, ops_take(&g));
	/* With the broadcast back on, the local APIC's EOI is enough. */
	ops_set_apic(&g, APIC_SPIV, SPIV_ENABLE | 0xff);
	line.level = 1;
	MUST(vm_ioctl(g.vm, KVM_IRQ_LINE, &line));
	EXPECT_EQ(VEC, ops_take(&g));
	ops_set_apic(&g, APIC_EOI, 0);
	EXPECT_EQ(VEC, ops_take(&g));
	guest_destroy(&g);
	/* Off again: neither bit nor register. */
	guest_create(&g, GUEST_IRQCHIP);
	ops_start(&g);
	EXPECT_EQ(0x00170011, ioapic(&g, 1));
	EXPECT_EQ(0x00050014, ops_apic(&g, APIC_LVR));
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
