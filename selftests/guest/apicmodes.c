// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupt messages by delivery mode and destination: vCPU 0 writes its ICR, or the client or the I/O APIC sends,
 * and three other vCPUs, which never run here, show in their state what has arrived (SDM volume 3, 10.6, 10.12.9
 * and 10.12.10).
 */
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "ops.h"

#define OTHERS	3
#define VEC	0x71

FIXTURE(ipi) {
	struct guest g;
	struct vcpu cpu[1 + OTHERS];	/* 0 is the guest's own */
	bool keel;
};

static struct kvm_lapic_state lapic(struct vcpu *cpu)
{
	struct kvm_lapic_state s;

	MUST(vm_ioctl(cpu->fd, KVM_GET_LAPIC, &s));
	return s;
}

static void set_reg(struct vcpu *cpu, int n, uint32_t val)
{
	struct kvm_lapic_state s = lapic(cpu);

	memcpy(s.regs + n, &val, sizeof(val));
	MUST(vm_ioctl(cpu->fd, KVM_SET_LAPIC, &s));
}

static uint32_t get_reg(struct vcpu *cpu, int n)
{
	struct kvm_lapic_state s = lapic(cpu);
	uint32_t val;

	memcpy(&val, s.regs + n, sizeof(val));
	return val;
}

static void set_mp_state(struct vcpu *cpu, uint32_t state)
{
	struct kvm_mp_state mp = { .mp_state = state };

	MUST(vm_ioctl(cpu->fd, KVM_SET_MP_STATE, &mp));
}

static uint32_t mp_state(struct vcpu *cpu)
{
	struct kvm_mp_state mp;

	MUST(vm_ioctl(cpu->fd, KVM_GET_MP_STATE, &mp));
	return mp.mp_state;
}

FIXTURE_SETUP(ipi)
{
	int i;

	guest_create(&self->g, GUEST_IRQCHIP);
	self->keel = dev_is_keel(self->g.dev);
	self->cpu[0] = self->g.cpu;
	for (i = 1; i <= OTHERS; i++) {
		vcpu_create(&self->cpu[i], self->g.dev, self->g.vm, i);
		vcpu_set_supported_cpuid(&self->cpu[i], self->g.dev);
	}
	for (i = 0; i <= OTHERS; i++)
		set_reg(&self->cpu[i], APIC_SPIV, SPIV_ENABLE | 0xff);
	for (i = 1; i <= OTHERS; i++)
		set_mp_state(&self->cpu[i], KVM_MP_STATE_HALTED);
	ops_start(&self->g);
}

FIXTURE_TEARDOWN(ipi)
{
	int i;

	for (i = 1; i <= OTHERS; i++)
		vcpu_close(&self->cpu[i]);
	guest_destroy(&self->g);
}


/* Which vCPUs have @vector requested, as a mask; takes it back. */
#define ARRIVED(vector)	arrived_at(self->cpu, vector)

static int arrived_at(struct vcpu *cpu, int vector)
{
	int i, mask = 0;

	for (i = 0; i <= OTHERS; i++) {
		int n = APIC_IRR + vector / 32 * 16;
		uint32_t irr = get_reg(&cpu[i], n);

		if (!(irr >> (vector % 32) & 1))
			continue;
		mask |= 1 << i;
		set_reg(&cpu[i], n, irr & ~(1U << (vector % 32)));
	}
	return mask;
}

static void send(struct guest *g, uint32_t dest, uint32_t low)
{
	ops_set_apic(g, APIC_ICR2, dest << 24);
	ops_set_apic(g, APIC_ICR, low);
}

#define LOGICAL		0x800
#define LOWEST		0x100
#define SELF		0x40000
#define ALL		0x80000
#define OTHER		0xc0000

TEST_F(ipi, physical)
{
	struct guest *g = &self->g;
	int i;

	for (i = 0; i <= OTHERS; i++) {
		send(g, i, VEC);
		EXPECT_EQ(1 << i, ARRIVED(VEC));
	}
	send(g, 9, VEC);
	EXPECT_EQ(0, ARRIVED(VEC));
	send(g, 0xff, VEC);
	EXPECT_EQ(0xf, ARRIVED(VEC));
	/* The status reads idle; what was written stays to be read. */
	EXPECT_EQ(VEC, ops_apic(g, APIC_ICR));
	/* An id that the client, or the guest, has changed. */
	set_reg(&self->cpu[2], APIC_ID, 9 << 24);
	send(g, 9, VEC);
	EXPECT_EQ(1 << 2, ARRIVED(VEC));
	send(g, 2, VEC);
	/* In-tree KVM goes by both the old and the new id. */
	if (self->keel)
		EXPECT_EQ(0, ARRIVED(VEC));
}

TEST_F(ipi, shorthands)
{
	struct guest *g = &self->g;

	send(g, 3, SELF | VEC);
	EXPECT_EQ(1, ARRIVED(VEC));
	send(g, 3, ALL | VEC);
	EXPECT_EQ(0xf, ARRIVED(VEC));
	send(g, 3, OTHER | VEC);
	EXPECT_EQ(0xe, ARRIVED(VEC));
}

TEST_F(ipi, logical_flat)
{
	struct guest *g = &self->g;
	int i;

	for (i = 0; i <= OTHERS; i++)
		set_reg(&self->cpu[i], APIC_LDR, 1U << (24 + i));
	for (i = 0; i <= 0xf; i++) {
		send(g, i, LOGICAL | VEC);
		EXPECT_EQ(i, ARRIVED(VEC));
	}
	send(g, 0xf0, LOGICAL | VEC);
	EXPECT_EQ(0, ARRIVED(VEC));
	send(g, 0xff, LOGICAL | VEC);
	EXPECT_EQ(0xf, ARRIVED(VEC));
	/* Disabled by software: it does not take part. */
	set_reg(&self->cpu[1], APIC_SPIV, 0xff);
	send(g, 0x7, LOGICAL | VEC);
	EXPECT_EQ(0x5, ARRIVED(VEC));
}

TEST_F(ipi, logical_cluster)
{
	static const uint8_t ldr[] = { 0x11, 0x12, 0x21, 0x24 };
	static const struct {
		uint8_t dest, mask;
	} cases[] = {
		{ 0x11, 0x1 }, { 0x12, 0x2 }, { 0x13, 0x3 }, { 0x1f, 0x3 }, { 0x14, 0 }, { 0x21, 0x4 },
		{ 0x25, 0xc }, { 0x2f, 0xc }, { 0x3f, 0 }, { 0xff, 0xf },
	};
	struct guest *g = &self->g;
	int i;

	for (i = 0; i <= OTHERS; i++) {
		set_reg(&self->cpu[i], APIC_DFR, 0x0fffffff);
		set_reg(&self->cpu[i], APIC_LDR, (uint32_t)ldr[i] << 24);
	}
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		send(g, cases[i].dest, LOGICAL | VEC);
		EXPECT_EQ(cases[i].mask, ARRIVED(VEC)) {
			TH_LOG("destination %x", cases[i].dest);
		}
	}
}

TEST_F(ipi, lowest_priority)
{
	struct guest *g = &self->g;
	int i, vector, mask, seen = 0;

	for (i = 0; i <= OTHERS; i++)
		set_reg(&self->cpu[i], APIC_LDR, 1U << (24 + i));
	/* One of those addressed, whichever; and over all vectors each of them at times. */
	for (vector = 0x40; vector < 0x60; vector++) {
		send(g, 0xe, LOGICAL | LOWEST | vector);
		mask = ARRIVED(vector);
		EXPECT_TRUE(mask == 2 || mask == 4 || mask == 8);
		seen |= mask;
	}
	EXPECT_EQ(0xe, seen);
	/* Those that are disabled are no candidates. */
	set_reg(&self->cpu[1], APIC_SPIV, 0xff);
	set_reg(&self->cpu[3], APIC_SPIV, 0xff);
	for (vector = 0x40; vector < 0x48; vector++) {
		send(g, 0xe, LOGICAL | LOWEST | vector);
		mask = ARRIVED(vector);
		/* in-tree KVM hashes over all, and loses what falls to a disabled one */
		if (self->keel || mask)
			EXPECT_EQ(0x4, mask);
	}
	set_reg(&self->cpu[2], APIC_SPIV, 0xff);
	send(g, 0xe, LOGICAL | LOWEST | VEC);
	EXPECT_EQ(0, ARRIVED(VEC));
	/* A message with the redirection hint is arbitrated too. */
	for (i = 1; i <= OTHERS; i++)
		set_reg(&self->cpu[i], APIC_SPIV, SPIV_ENABLE | 0xff);
	for (vector = 0x40; vector < 0x48; vector++) {
		struct kvm_msi msi = { .address_lo = 0xfee0e00c, .data = vector };

		EXPECT_EQ(1, vm_ioctl(g->vm, KVM_SIGNAL_MSI, &msi));
		mask = ARRIVED(vector);
		EXPECT_TRUE(mask == 2 || mask == 4 || mask == 8);
	}
}

TEST_F(ipi, illegal_vectors)
{
	struct guest *g = &self->g;
	int vector;

	for (vector = 0; vector < 16; vector++) {
		send(g, 1, vector);
		/* in-tree KVM requests it, and never delivers it */
		if (self->keel)
			EXPECT_EQ(0, ARRIVED(vector));
	}
	for (vector = 16; vector < 256; vector += 15) {
		send(g, 1, vector);
		EXPECT_EQ(2, ARRIVED(vector));
	}
}

TEST_F(ipi, trigger_mode)
{
	struct guest *g = &self->g;
	int n = VEC / 32 * 16, bit = 1 << VEC % 32;

	/* A level-triggered one is marked so, the next edge is not. */
	send(g, 1, VEC | 1 << 14 | 1 << 15);
	EXPECT_EQ(bit, get_reg(&self->cpu[1], APIC_TMR + n) & bit);
	EXPECT_EQ(2, ARRIVED(VEC));
	send(g, 1, VEC | 1 << 14);
	EXPECT_EQ(0, get_reg(&self->cpu[1], APIC_TMR + n) & bit);
	EXPECT_EQ(2, ARRIVED(VEC));
	/* The end of a level is no request. */
	send(g, 1, VEC | 1 << 15);
	EXPECT_EQ(0, ARRIVED(VEC));
}

TEST_F(ipi, nmi)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events ev;
	int i;

	set_reg(&self->cpu[3], APIC_SPIV, 0xff);	/* does not matter to NMIs */
	send(g, 0, OTHER | 0x400);
	for (i = 1; i <= OTHERS; i++) {
		MUST(vm_ioctl(self->cpu[i].fd, KVM_GET_VCPU_EVENTS, &ev));
		EXPECT_EQ(1, ev.nmi.pending);
		EXPECT_EQ(0, ev.nmi.injected);
	}
	EXPECT_EQ(0, ARRIVED(2));
	/* INIT is a fresh start, without the NMI that came before. */
	send(g, 1, 0x500 | 1 << 14 | 1 << 15);
	EXPECT_EQ(KVM_MP_STATE_INIT_RECEIVED, mp_state(&self->cpu[1]));
	MUST(vm_ioctl(self->cpu[1].fd, KVM_GET_VCPU_EVENTS, &ev));
	if (self->keel)
		EXPECT_EQ(0, ev.nmi.pending);
}

TEST_F(ipi, init_and_start_up)
{
	struct guest *g = &self->g;
	struct vcpu *cpu = &self->cpu[2];
	struct kvm_sregs s;
	struct kvm_regs r = { .rax = 1, .rbx = 2, .rip = 0x1234, .rflags = 2 };

	vcpu_set_regs(cpu, &r);
	/* A start-up IPI is nothing to a processor that does not wait for one. */
	send(g, 2, 0x600 | 0x34);
	EXPECT_EQ(KVM_MP_STATE_HALTED, mp_state(cpu));
	EXPECT_EQ(0x1234, vcpu_regs(cpu).rip);
	/* The de-assertion that old software sends after INIT is nothing either. */
	send(g, 2, 0x500 | 1 << 15);
	EXPECT_EQ(KVM_MP_STATE_HALTED, mp_state(cpu));
	send(g, 2, 0x500 | 1 << 14 | 1 << 15);
	EXPECT_EQ(KVM_MP_STATE_INIT_RECEIVED, mp_state(cpu));
	EXPECT_EQ(0, vcpu_regs(cpu).rax);
	EXPECT_EQ(0xfff0, vcpu_regs(cpu).rip);
	EXPECT_EQ(0xff, get_reg(cpu, APIC_SPIV));
	EXPECT_EQ(2 << 24, get_reg(cpu, APIC_ID));
	send(g, 2, 0x500 | 1 << 15);
	EXPECT_EQ(KVM_MP_STATE_INIT_RECEIVED, mp_state(cpu));
	send(g, 2, 0x600 | 0x34);
	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, mp_state(cpu));
	s = vcpu_sregs(cpu);
	EXPECT_EQ(0x3400, s.cs.selector);
	EXPECT_EQ(0x34000, s.cs.base);
	EXPECT_EQ(0, vcpu_regs(cpu).rip);
	/* The second start-up IPI of the usual pair changes nothing. */
	send(g, 2, 0x600 | 0x56);
	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, mp_state(cpu));
	EXPECT_EQ(0x34000, vcpu_sregs(cpu).cs.base);
}

/* Modes that are no interrupt to a vCPU that does not run: SMI and ExtINT. */
TEST_F(ipi, other_modes)
{
	static const uint32_t modes[] = { 0x200, 0x700 };
	struct guest *g = &self->g;
	struct kvm_vcpu_events ev;
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		send(g, 1, modes[i] | VEC);
		EXPECT_EQ(0, ARRIVED(VEC));
		EXPECT_EQ(KVM_MP_STATE_HALTED, mp_state(&self->cpu[1]));
	}
	MUST(vm_ioctl(self->cpu[1].fd, KVM_GET_VCPU_EVENTS, &ev));
	EXPECT_EQ(0, ev.nmi.pending);
}

static void x2apic(struct vcpu *cpu)
{
	struct kvm_sregs s = vcpu_sregs(cpu);

	s.apic_base |= APICBASE_X2APIC;
	vcpu_set_sregs(cpu, &s);
}

TEST_F(ipi, x2apic)
{
	struct guest *g = &self->g;
	int i;

	for (i = 0; i <= OTHERS; i++) {
		x2apic(&self->cpu[i]);
		EXPECT_EQ(1 << i, get_reg(&self->cpu[i], APIC_LDR));
	}
	for (i = 0; i <= OTHERS; i++) {
		EXPECT_EQ(0, ops_wrmsr(g, MSR_X2APIC(APIC_ICR), (uint64_t)i << 32 | VEC));
		EXPECT_EQ(1 << i, ARRIVED(VEC));
	}
	/* Cluster 0, members 1 and 3; cluster 1; everyone by both modes; 0xff is nobody here */
	EXPECT_EQ(0, ops_wrmsr(g, MSR_X2APIC(APIC_ICR), 0xaULL << 32 | LOGICAL | VEC));
	EXPECT_EQ(0xa, ARRIVED(VEC));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_X2APIC(APIC_ICR), 0x1000fULL << 32 | LOGICAL | VEC));
	EXPECT_EQ(0, ARRIVED(VEC));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_X2APIC(APIC_ICR), 0xffffffffULL << 32 | LOGICAL | VEC));
	EXPECT_EQ(0xf, ARRIVED(VEC));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_X2APIC(APIC_ICR), 0xffffffffULL << 32 | VEC));
	EXPECT_EQ(0xf, ARRIVED(VEC));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_X2APIC(APIC_ICR), 0xffULL << 32 | VEC));
	EXPECT_EQ(0, ARRIVED(VEC));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_X2APIC(APIC_ICR), OTHER | VEC));
	EXPECT_EQ(0xe, ARRIVED(VEC));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_X2APIC(APIC_SELF_IPI), VEC));
	EXPECT_EQ(0x1, ARRIVED(VEC));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_X2APIC(APIC_ICR), 0xeULL << 32 | LOGICAL | LOWEST | VEC));
	i = ARRIVED(VEC);
	EXPECT_TRUE(i == 2 || i == 4 || i == 8);
}

static void set_rte(struct guest *g, int pin, uint64_t rte)
{
	ops_write(g, IOAPIC_SELECT, 4, 0x11 + 2 * pin);
	ops_write(g, IOAPIC_WINDOW, 4, rte >> 32);
	ops_write(g, IOAPIC_SELECT, 4, 0x10 + 2 * pin);
	ops_write(g, IOAPIC_WINDOW, 4, rte);
}

static void pulse(struct guest *g, int pin)
{
	struct kvm_irq_level line = { .irq = pin, .level = 1 };

	MUST(vm_ioctl(g->vm, KVM_IRQ_LINE, &line));
	line.level = 0;
	MUST(vm_ioctl(g->vm, KVM_IRQ_LINE, &line));
}

TEST_F(ipi, ioapic_modes)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events ev;
	int i, mask;

	for (i = 0; i <= OTHERS; i++)
		set_reg(&self->cpu[i], APIC_LDR, 1U << (24 + i));
	for (i = 0; i <= OTHERS; i++) {
		set_rte(g, 20, (uint64_t)i << 56 | VEC);
		pulse(g, 20);
		EXPECT_EQ(1 << i, ARRIVED(VEC));
	}
	set_rte(g, 20, 0xbULL << 56 | LOGICAL | VEC);
	pulse(g, 20);
	EXPECT_EQ(0xb, ARRIVED(VEC));
	set_rte(g, 20, 0xeULL << 56 | LOGICAL | LOWEST | VEC);
	pulse(g, 20);
	mask = ARRIVED(VEC);
	EXPECT_TRUE(mask == 2 || mask == 4 || mask == 8);
	set_rte(g, 20, 0xffULL << 56 | VEC);
	pulse(g, 20);
	EXPECT_EQ(0xf, ARRIVED(VEC));
	set_rte(g, 20, 1ULL << 56 | 0x400 | VEC);
	pulse(g, 20);
	EXPECT_EQ(0, ARRIVED(VEC));
	MUST(vm_ioctl(self->cpu[1].fd, KVM_GET_VCPU_EVENTS, &ev));
	EXPECT_EQ(1, ev.nmi.pending);
	set_rte(g, 20, 2ULL << 56 | 0x500);
	pulse(g, 20);
	EXPECT_EQ(KVM_MP_STATE_INIT_RECEIVED, mp_state(&self->cpu[2]));
	set_rte(g, 20, 3ULL << 56 | 1 << 16 | VEC);
	pulse(g, 20);
	EXPECT_EQ(0, ARRIVED(VEC));
}

TEST_HARNESS_MAIN
