// SPDX-License-Identifier: GPL-2.0-only
/*
 * The whole interrupt state, saved in the middle of things and restored into a new VM, which goes on as if nothing had
 * been: interrupts in service, requested at each controller and held back by priority, an NMI, a level that is still
 * high, timers that run and one that has expired (KVM_GET_ and KVM_SET_ of LAPIC, IRQCHIP, PIT2, VCPU_EVENTS,
 * MP_STATE, SREGS, REGS and MSRS).
 */
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "ops.h"

#define LEVEL_VEC	0x51	/* from the I/O APIC, pin 21 */
#define LEVEL_PIN	21
#define LOW_VEC		0x41
#define HIGH_VEC	0x91
#define TIMER_VEC	0xa1

static const uint32_t msrs[] = { MSR_IA32_TSC, MSR_IA32_TSC_DEADLINE };

struct saved {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_lapic_state lapic;
	struct kvm_irqchip chip[3];
	struct kvm_pit_state2 pit;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	uint64_t msr[ARRAY_SIZE(msrs)];
	uint8_t *mem;
};

static void create(struct guest *g)
{
	struct kvm_cpuid2 *cpuid;

	guest_create(g, GUEST_IRQCHIP | GUEST_PIT);
	cpuid = supported_cpuid(g->dev);
	cpuid_find(cpuid, 1, 0)->ecx |= 1 << 24;	/* TSC deadline */
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_CPUID2, cpuid));
	free(cpuid);
}

static void save(struct guest *g, struct saved *s)
{
	int i;

	/* The last OUT ends first: after that the registers are exact. */
	if (g->cpu.run->exit_reason == KVM_EXIT_IO)
		vcpu_complete_io(&g->cpu);
	s->regs = vcpu_regs(&g->cpu);
	s->sregs = vcpu_sregs(&g->cpu);
	MUST(vm_ioctl(g->cpu.fd, KVM_GET_MP_STATE, &s->mp));
	MUST(vm_ioctl(g->cpu.fd, KVM_GET_VCPU_EVENTS, &s->events));
	MUST(vm_ioctl(g->cpu.fd, KVM_GET_LAPIC, &s->lapic));
	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		if (vcpu_get_msr(&g->cpu, msrs[i], &s->msr[i]) != 1)
			die("MSR %x cannot be read", msrs[i]);
	for (i = 0; i < 3; i++) {
		s->chip[i].chip_id = i;
		MUST(vm_ioctl(g->vm, KVM_GET_IRQCHIP, &s->chip[i]));
	}
	MUST(vm_ioctl(g->vm, KVM_GET_PIT2, &s->pit));
	s->mem = malloc(g->mem_size);
	if (!s->mem)
		die("out of memory");
	memcpy(s->mem, g->mem, g->mem_size);
}

static void restore(struct guest *g, struct saved *s)
{
	int i;

	memcpy(g->mem, s->mem, g->mem_size);
	free(s->mem);
	g->mode = MODE_LONG;
	vcpu_set_sregs(&g->cpu, &s->sregs);
	vcpu_set_regs(&g->cpu, &s->regs);
	for (i = 0; i < 3; i++)
		MUST(vm_ioctl(g->vm, KVM_SET_IRQCHIP, &s->chip[i]));
	MUST(vm_ioctl(g->vm, KVM_SET_PIT2, &s->pit));
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_LAPIC, &s->lapic));
	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		if (vcpu_set_msr(&g->cpu, msrs[i], s->msr[i]) != 1)
			die("MSR %x cannot be written", msrs[i]);
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_MP_STATE, &s->mp));
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_VCPU_EVENTS, &s->events));
}

/* Saves, and goes on in a VM of its own. */
static void move(struct guest *g, struct saved *s)
{
	save(g, s);
	guest_destroy(g);
	create(g);
	restore(g, s);
}

FIXTURE(state) {
	struct guest g;
	struct saved s;
};

FIXTURE_SETUP(state)
{
	create(&self->g);
	/*
	 * Far from what a new VM has: a TSC that is written within a second of what it would be anyway is taken for an
	 * attempt to synchronize vCPUs, and stays as it is (as in KVM).
	 */
	if (vcpu_set_msr(&self->g.cpu, MSR_IA32_TSC, 1ULL << 42) != 1)
		die("the TSC cannot be written");
	ops_start(&self->g);
	ops_set_apic(&self->g, APIC_SPIV, SPIV_ENABLE | 0xff);
	ops_set_apic(&self->g, APIC_TDCR, 0xb);
}

FIXTURE_TEARDOWN(state)
{
	guest_destroy(&self->g);
}

static void line(struct guest *g, int irq, int level)
{
	struct kvm_irq_level l = { .irq = irq, .level = level };

	MUST(vm_ioctl(g->vm, KVM_IRQ_LINE, &l));
}

static void eoi(struct guest *g)
{
	ops_set_apic(g, APIC_EOI, 0);
}

static void pic_init(struct guest *g)
{
	static const struct {
		uint8_t port, val;
	} init[] = {
		{ 0x20, 0x11 }, { 0x21, 0x20 }, { 0x21, 4 }, { 0x21, 1 }, { 0x21, 0xf7 },
		{ 0xa0, 0x11 }, { 0xa1, 0x28 }, { 0xa1, 2 }, { 0xa1, 1 }, { 0xa1, 0xff },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(init); i++)
		ops_out(g, init[i].port, init[i].val);
}

static void set_rte(struct guest *g, int pin, uint64_t rte)
{
	ops_write(g, IOAPIC_SELECT, 4, 0x11 + 2 * pin);
	ops_write(g, IOAPIC_WINDOW, 4, rte >> 32);
	ops_write(g, IOAPIC_SELECT, 4, 0x10 + 2 * pin);
	ops_write(g, IOAPIC_WINDOW, 4, rte);
}

TEST_F(state, all_at_once)
{
	struct guest *g = &self->g;

	pic_init(g);
	set_rte(g, LEVEL_PIN, LEVEL_VEC | 1 << 15);
	line(g, LEVEL_PIN, 1);
	ASSERT_EQ(LEVEL_VEC, ops_take(g));		/* in service from here on */
	ops_set_apic(g, APIC_ICR, 0x40000 | LOW_VEC);	/* held back by it */
	ops_set_apic(g, APIC_ICR, 0x40000 | HIGH_VEC);
	line(g, 3, 1);					/* at the PIC, and at a masked pin */
	MUST(vm_ioctl(g->cpu.fd, KVM_NMI, 0));

	move(g, &self->s);
	line(g, LEVEL_PIN, 1);				/* levels are the client's to repeat */
	line(g, 3, 1);
	EXPECT_EQ(NMI_VECTOR, ops_take(g));
	EXPECT_EQ(0x23, ops_take(g));
	EXPECT_EQ(HIGH_VEC, ops_take(g));
	EXPECT_EQ(-1, ops_take(g));
	eoi(g);
	EXPECT_EQ(-1, ops_take(g));
	/* The end of the level: its line is still high */
	eoi(g);
	EXPECT_EQ(LEVEL_VEC, ops_take(g));
	line(g, LEVEL_PIN, 0);
	eoi(g);
	EXPECT_EQ(LOW_VEC, ops_take(g));
	eoi(g);
	EXPECT_EQ(-1, ops_take(g));
	/* The PIC still has its interrupt in service: no other until it ends. */
	line(g, 3, 0);
	line(g, 3, 1);
	EXPECT_EQ(-1, ops_take(g));
	ops_out(g, 0x20, 0x20);
	EXPECT_EQ(0x23, ops_take(g));
}

/* An edge that the I/O APIC has sent is the local APIC's, and is not sent again. */
TEST_F(state, edge)
{
	struct guest *g = &self->g;

	set_rte(g, 20, HIGH_VEC);
	line(g, 20, 1);
	move(g, &self->s);
	EXPECT_EQ(HIGH_VEC, ops_take(g));
	eoi(g);
	EXPECT_EQ(-1, ops_take(g));
	line(g, 20, 0);
	line(g, 20, 1);
	EXPECT_EQ(HIGH_VEC, ops_take(g));
	eoi(g);
}

TEST_F(state, deadline)
{
	struct guest *g = &self->g;
	uint64_t tsc, val, khz = MUST(vm_ioctl(g->cpu.fd, KVM_GET_TSC_KHZ, 0));

	ops_set_apic(g, APIC_LVTT, LVT_DEADLINE | TIMER_VEC);
	ops_rdmsr(g, MSR_IA32_TSC, &tsc);
	ops_wrmsr(g, MSR_IA32_TSC_DEADLINE, tsc + 2000 * khz);
	move(g, &self->s);
	EXPECT_EQ(0, ops_rdmsr(g, MSR_IA32_TSC_DEADLINE, &val));
	EXPECT_EQ(tsc + 2000 * khz, val);
	EXPECT_EQ(-1, ops_take(g));
	/* Nearer, so that the test need not wait */
	ops_rdmsr(g, MSR_IA32_TSC, &val);
	EXPECT_LE(tsc, val);
	ops_wrmsr(g, MSR_IA32_TSC_DEADLINE, val + khz);
	move(g, &self->s);
	usleep(3000);
	EXPECT_EQ(TIMER_VEC, ops_take(g));
	eoi(g);
	/* One that expires before it is saved, and that the guest has not run to see */
	ops_rdmsr(g, MSR_IA32_TSC, &val);
	ops_wrmsr(g, MSR_IA32_TSC_DEADLINE, val + khz);
	usleep(3000);
	move(g, &self->s);
	EXPECT_EQ(TIMER_VEC, ops_take(g));
	eoi(g);
	EXPECT_EQ(-1, ops_take(g));
	EXPECT_EQ(0, ops_rdmsr(g, MSR_IA32_TSC_DEADLINE, &val));
	EXPECT_EQ(0, val);
}

TEST_F(state, counting_timers)
{
	struct guest *g = &self->g;
	uint32_t count;

	/* One-shot, in the middle */
	ops_set_apic(g, APIC_LVTT, TIMER_VEC);
	ops_set_apic(g, APIC_TMICT, 0xffffffff);
	move(g, &self->s);
	count = ops_apic(g, APIC_TMCCT);
	EXPECT_LT(0, count);
	EXPECT_EQ(0xffffffff, ops_apic(g, APIC_TMICT));
	usleep(2000);
	EXPECT_GT(count, ops_apic(g, APIC_TMCCT));
	EXPECT_EQ(-1, ops_take(g));
	/* Expired before it is saved, and not seen */
	ops_set_apic(g, APIC_TMICT, 1000000);
	usleep(3000);
	move(g, &self->s);
	EXPECT_EQ(TIMER_VEC, ops_take(g));
	eoi(g);
	/* Periodic: it goes on */
	ops_set_apic(g, APIC_LVTT, LVT_PERIODIC | TIMER_VEC);
	ops_set_apic(g, APIC_TMICT, 1000000);
	move(g, &self->s);
	for (count = 0; count < 3; count++) {
		usleep(3000);
		EXPECT_EQ(TIMER_VEC, ops_take(g));
		eoi(g);
	}
}

/* In-tree KVM sends the PIT's interrupts from a thread of its own: they may take a while. */
static int take_soon(struct guest *g)
{
	int i, vector = -1;

	for (i = 0; i < 300 && vector < 0; i++) {
		usleep(1000);
		vector = ops_take(g);
	}
	return vector;
}

/* The PIT's ticks by way of the PIC. */
TEST_F(state, pit)
{
	struct guest *g = &self->g;
	int i;

	pic_init(g);
	ops_out(g, 0x21, 0xfe);
	ops_out(g, 0x43, 0x34);
	ops_out(g, 0x40, 0xa9);
	ops_out(g, 0x40, 0x04);
	move(g, &self->s);
	EXPECT_EQ(2, self->s.pit.channels[0].mode);
	EXPECT_EQ(0x4a9, self->s.pit.channels[0].count);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0x20, take_soon(g));
		ops_out(g, 0x20, 0x20);
	}
}

/* A vCPU that sleeps, and one that waits for its start-up IPI, do so in the new VM. */
TEST_F(state, sleeping)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_HALTED };
	struct guest *g = &self->g;

	ops_set_apic(g, APIC_ICR, 0x40000 | HIGH_VEC);
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_MP_STATE, &mp));
	save(g, &self->s);
	EXPECT_EQ(KVM_MP_STATE_HALTED, self->s.mp.mp_state);
	guest_destroy(g);
	create(g);
	restore(g, &self->s);
	MUST(vm_ioctl(g->cpu.fd, KVM_GET_MP_STATE, &mp));
	EXPECT_EQ(KVM_MP_STATE_HALTED, mp.mp_state);
	/* It is woken by what is pending, once interrupts are on. */
	self->s.regs.rflags |= X86_EFLAGS_IF;
	vcpu_set_regs(&g->cpu, &self->s.regs);
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(HIGH_VEC, guest_exc(g).vector);
}

TEST_HARNESS_MAIN
