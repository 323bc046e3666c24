// SPDX-License-Identifier: GPL-2.0-only
/*
 * The in-kernel local APIC as its guest sees it: registers in xAPIC and x2APIC mode, self-IPIs and priorities,
 * and the timer in its three modes, into a busy loop and into HLT (SDM volume 3, chapter 10).
 */
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define COUNT		0x42000		/* interrupts so far, counted by the handlers */
#define ISR_AT		(GUEST_CODE + 0x800)
#define APIC		"0xfee00000"
#define VEC		0x45
#define VEC_HIGH	0x85

/* RBX is free for the test; RDI holds the APIC's address. */
#define APIC_WRITE(reg, value)	"movl $" value ", " #reg "(%rdi)\n"
#define APIC_ENABLE_SW		"movl $" APIC ", %edi\n" APIC_WRITE(0xf0, "0x1ff")

GUEST(isr, 64, "pushq %rax\n" "movl $0xfee000b0, %eax\n" "incl " STR(COUNT) "\n" "movl $0, (%rax)\n" "popq %rax\n"
	"iretq\n");
GUEST(isr_x2, 64, "pushq %rax\n" "pushq %rcx\n" "pushq %rdx\n" "incl " STR(COUNT) "\n"
	"xorl %eax, %eax\n" "xorl %edx, %edx\n" "movl $0x80b, %ecx\n" "wrmsr\n"
	"popq %rdx\n" "popq %rcx\n" "popq %rax\n" "iretq\n");

FIXTURE(lapic) {
	struct guest g;
};

FIXTURE_SETUP(lapic)
{
	guest_create(&self->g, GUEST_IRQCHIP);
}

FIXTURE_TEARDOWN(lapic)
{
	guest_destroy(&self->g);
}

static void start(struct guest *g, struct guest_blob blob, struct guest_blob handler)
{
	guest_start(g, MODE_LONG, blob);
	memcpy(g->mem + ISR_AT, handler.start, handler.end - handler.start);
	guest_set_gate(g, VEC, ISR_AT);
	guest_set_gate(g, VEC_HIGH, ISR_AT);
	*(uint32_t *)(g->mem + COUNT) = 0;
}

static uint32_t count(struct guest *g)
{
	return *(volatile uint32_t *)(g->mem + COUNT);
}

static uint32_t lapic_reg(struct guest *g, int reg)
{
	struct kvm_lapic_state l;
	uint32_t v;

	MUST(vm_ioctl(g->cpu.fd, KVM_GET_LAPIC, &l));
	memcpy(&v, l.regs + reg, 4);
	return v;
}

GUEST(xapic, 64,
	APIC_ENABLE_SW
	"movl 0x20(%rdi), %eax\n" "movl 0x30(%rdi), %ebx\n"
	APIC_WRITE(0x80, "0x30") "movl 0x80(%rdi), %ecx\n" "movl 0xa0(%rdi), %edx\n" "movq %cr8, %rsi\n"
	APIC_WRITE(0xd0, "0x02000000") "movl 0xd0(%rdi), %r8d\n"
	APIC_WRITE(0xe0, "0x0fffffff") "movl 0xe0(%rdi), %r9d\n"
	APIC_WRITE(0x320, "0x10045") "movl 0x320(%rdi), %r10d\n"
	APIC_WRITE(0x3e0, "0xb") "movl 0x3e0(%rdi), %r11d\n"
	"movl 0xf0(%rdi), %r12d\n"
	"movl $4, %eax\n" "movq %rax, %cr8\n" "movl 0x80(%rdi), %r13d\n"
	G_DONE);

TEST_F(lapic, xapic_registers)
{
	struct guest *g = &self->g;
	struct kvm_regs r;

	start(g, BLOB(xapic), BLOB(isr));
	ASSERT_DONE(g);
	r = vcpu_regs(&g->cpu);
	EXPECT_EQ(0x14, r.rbx & 0xff);
	EXPECT_EQ(0x30, r.rcx);
	EXPECT_EQ(0x30, r.rdx);
	/* CR8 is the upper half of the task priority. */
	EXPECT_EQ(3, r.rsi);
	EXPECT_EQ(0x02000000, r.r8);
	EXPECT_EQ(0x0fffffff, r.r9);
	EXPECT_EQ(0x10045, r.r10);
	EXPECT_EQ(0xb, r.r11);
	EXPECT_EQ(0x1ff, r.r12);
	EXPECT_EQ(0x40, r.r13);
	EXPECT_EQ(0x40, lapic_reg(g, APIC_TPR));
	EXPECT_EQ(0x0fffffff, lapic_reg(g, APIC_DFR));
}

GUEST(x2apic, 64,
	"movl $0x1b, %ecx\n" "rdmsr\n" "orl $0x400, %eax\n" "wrmsr\n" "rdmsr\n" "movl %eax, %r8d\n"
	"movl $0x80f, %ecx\n" "xorl %edx, %edx\n" "movl $0x1ff, %eax\n" "wrmsr\n"
	"movl $0x802, %ecx\n" "rdmsr\n" "movl %eax, %r9d\n"
	"movl $0x803, %ecx\n" "rdmsr\n" "movl %eax, %r10d\n"
	"movl $0x808, %ecx\n" "xorl %edx, %edx\n" "movl $0x20, %eax\n" "wrmsr\n" "rdmsr\n" "movl %eax, %r11d\n"
	"movl $0x80d, %ecx\n" "rdmsr\n" "movl %eax, %r12d\n"
	G_SYNC
	"movl $0x83f, %ecx\n" "xorl %edx, %edx\n" "movl $" STR(VEC) ", %eax\n" "wrmsr\n"
	"sti\n" "nop\n" "nop\n" "cli\n"
	G_SYNC
	/* The destination format register is not there in this mode. */
	"movl $0x80e, %ecx\n" "rdmsr\n"
	G_DONE);

TEST_F(lapic, x2apic_registers)
{
	struct guest *g = &self->g;
	struct kvm_regs r;

	start(g, BLOB(x2apic), BLOB(isr_x2));
	ASSERT_PORT(PORT_SYNC, g);
	r = vcpu_regs(&g->cpu);
	EXPECT_EQ(APIC_DEFAULT_BASE | APICBASE_BSP | APICBASE_ENABLE | APICBASE_X2APIC, r.r8);
	EXPECT_EQ(0, r.r9);
	EXPECT_EQ(0x14, r.r10 & 0xff);
	EXPECT_EQ(0x20, r.r11);
	/* The logical id follows the id: cluster 0, member 0. */
	EXPECT_EQ(1, r.r12);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(1, count(g));
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(GP_VECTOR, guest_exc(g).vector);
	EXPECT_EQ(APIC_DEFAULT_BASE | APICBASE_BSP | APICBASE_ENABLE | APICBASE_X2APIC, vcpu_sregs(&g->cpu).apic_base);
}

GUEST(self_ipi, 64,
	APIC_ENABLE_SW
	APIC_WRITE(0x300, "0x40045")		/* fixed, to self */
	G_SYNC					/* interrupts are off: it waits */
	"sti\n" "nop\n" "nop\n" "cli\n" G_SYNC
	/* By destination: physical, id 0 */
	APIC_WRITE(0x310, "0") APIC_WRITE(0x300, "0x45") "sti\n" "nop\n" "cli\n" G_SYNC
	/* All but self: nobody */
	APIC_WRITE(0x300, "0xc0045") "sti\n" "nop\n" "cli\n" G_SYNC
	/* An NMI to itself by destination needs no STI */
	APIC_WRITE(0x300, "0x400") G_DONE);

TEST_F(lapic, self_ipi)
{
	struct guest *g = &self->g;

	start(g, BLOB(self_ipi), BLOB(isr));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, count(g));
	EXPECT_EQ(1 << (VEC & 31), lapic_reg(g, APIC_IRR + (VEC / 32) * 16));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(1, count(g));
	EXPECT_EQ(0, lapic_reg(g, APIC_IRR + (VEC / 32) * 16));
	EXPECT_EQ(0, lapic_reg(g, APIC_ISR + (VEC / 32) * 16));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(2, count(g));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(2, count(g));
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(NMI_VECTOR, guest_exc(g).vector);
	ASSERT_DONE(g);
}

GUEST(priority, 64,
	APIC_ENABLE_SW
	APIC_WRITE(0x80, "0x50")		/* above vector 0x45, below 0x85 */
	APIC_WRITE(0x300, "0x40045") APIC_WRITE(0x300, "0x40085")
	"sti\n" "nop\n" "nop\n" G_SYNC		/* the higher one has come */
	APIC_WRITE(0x80, "0") "nop\n" G_SYNC	/* and the lower one */
	"cli\n"
	"movl $15, %eax\n" "movq %rax, %cr8\n" APIC_WRITE(0x300, "0x40085") "sti\n" "nop\n" "nop\n" G_SYNC
	"xorl %eax, %eax\n" "movq %rax, %cr8\n" "nop\n" G_DONE);

TEST_F(lapic, task_priority)
{
	struct guest *g = &self->g;

	start(g, BLOB(priority), BLOB(isr));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(1, count(g));
	EXPECT_EQ(1 << (VEC & 31), lapic_reg(g, APIC_IRR + (VEC / 32) * 16));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(2, count(g));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(2, count(g));
	ASSERT_DONE(g);
	EXPECT_EQ(3, count(g));
}

/* The higher of two pending vectors comes first; a handler without EOI holds back what is not above it. */
GUEST(nesting, 64,
	APIC_ENABLE_SW
	APIC_WRITE(0x300, "0x40045") APIC_WRITE(0x300, "0x40085")
	"sti\n" "nop\n" "nop\n" G_DONE);
GUEST(isr_report, 64, "outb %al, $" STR(PORT_EXC) "\n" "addq $16, %rsp\n" "sti\n" "nop\n" G_SYNC
	"movl $0xfee000b0, %ecx\n" "movl $0, (%rcx)\n" "iretq\n");

TEST_F(lapic, in_service)
{
	struct guest *g = &self->g;

	start(g, BLOB(nesting), BLOB(isr));
	/* The stubs push a vector and jump to the common end at +0x1000: let it be ours. */
	memcpy(g->mem + GUEST_STUBS + 0x1000, isr_report_start, isr_report_end - isr_report_start);
	guest_set_gate(g, VEC, GUEST_STUBS + VEC * 16);
	guest_set_gate(g, VEC_HIGH, GUEST_STUBS + VEC_HIGH * 16);
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(VEC_HIGH, guest_exc(g).vector);
	EXPECT_EQ(1 << (VEC_HIGH & 31), lapic_reg(g, APIC_ISR + (VEC_HIGH / 32) * 16));
	/* Interrupts are on in the handler, the lower vector waits for the EOI all the same. */
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(1 << (VEC & 31), lapic_reg(g, APIC_IRR + (VEC / 32) * 16));
	EXPECT_EQ(VEC_HIGH & 0xf0, lapic_reg(g, APIC_PPR) & 0xf0);
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(VEC, guest_exc(g).vector);
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_DONE(g);
	EXPECT_EQ(0, lapic_reg(g, APIC_ISR + (VEC / 32) * 16));
	EXPECT_EQ(0, lapic_reg(g, APIC_ISR + (VEC_HIGH / 32) * 16));
}

/* EBX interrupts are waited for, busy or asleep. */
#define BUSY	"sti\n" "1: cmpl %ebx, " STR(COUNT) "\n" "jb 1b\n" "cli\n"
#define SLEEP	"1: cli\n" "cmpl %ebx, " STR(COUNT) "\n" "jae 2f\n" "sti\n" "hlt\n" "jmp 1b\n" "2: cli\n"
/* Divide by 1; the APIC bus of in-tree KVM runs at 1 GHz: 2 ms. */
#define ONE_SHOT	APIC_ENABLE_SW APIC_WRITE(0x3e0, "0xb") APIC_WRITE(0x320, "0x45") APIC_WRITE(0x380, "2000000")
#define PERIODIC	APIC_ENABLE_SW APIC_WRITE(0x3e0, "0xb") APIC_WRITE(0x320, "0x20045") \
			APIC_WRITE(0x380, "2000000")
#define DEADLINE	APIC_ENABLE_SW APIC_WRITE(0x320, "0x40045") "rdtsc\n" "addl $3000000, %eax\n" \
			"adcl $0, %edx\n" "movl $0x6e0, %ecx\n" "wrmsr\n"

GUEST(one_shot_busy, 64, ONE_SHOT BUSY "movl 0x390(%rdi), %edx\n" G_DONE);
GUEST(one_shot_sleep, 64, ONE_SHOT SLEEP "movl 0x390(%rdi), %edx\n" G_DONE);
GUEST(periodic_busy, 64, PERIODIC BUSY "movl 0x390(%rdi), %edx\n" APIC_WRITE(0x380, "0") G_DONE);
GUEST(periodic_sleep, 64, PERIODIC SLEEP "movl 0x390(%rdi), %edx\n" APIC_WRITE(0x380, "0") G_DONE);

TEST_F(lapic, timer)
{
	static const struct {
		const char *what, *start, *end;
		int n;
	} cases[] = {
		{ "one shot, busy", one_shot_busy_start, one_shot_busy_end, 1 },
		{ "one shot, asleep", one_shot_sleep_start, one_shot_sleep_end, 1 },
		{ "periodic, busy", periodic_busy_start, periodic_busy_end, 5 },
		{ "periodic, asleep", periodic_sleep_start, periodic_sleep_end, 5 },
	};
	struct guest *g = &self->g;
	struct kvm_lapic_state idle;
	struct kvm_regs r;
	uint64_t t;
	int i;

	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_LAPIC, &idle));
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		/* A periodic timer may have expired once more before it was stopped: that one is not the next case's. */
		ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_SET_LAPIC, &idle));
		start(g, (struct guest_blob){ cases[i].start, cases[i].end }, BLOB(isr));
		r = vcpu_regs(&g->cpu);
		r.rbx = cases[i].n;
		vcpu_set_regs(&g->cpu, &r);
		t = ns_now();
		ASSERT_DONE(g);
		t = ns_now() - t;
		EXPECT_LE(cases[i].n, count(g)) {
			TH_LOG("%s", cases[i].what);
		}
		/* 2 ms each by the APIC's clock, and not one early. */
		EXPECT_LE(cases[i].n * 1990000UL, t) {
			TH_LOG("%s", cases[i].what);
		}
		EXPECT_LT(t, 5000000000UL);
		/* A one-shot timer stands at zero afterwards, a periodic one runs. */
		if (cases[i].n == 1)
			EXPECT_EQ(0, vcpu_regs(&g->cpu).rdx);
	}
}

GUEST(current_count, 64,
	APIC_ENABLE_SW APIC_WRITE(0x3e0, "0xb") APIC_WRITE(0x320, "0x10045") APIC_WRITE(0x380, "0x7fffffff")
	"movl 0x390(%rdi), %eax\n" "movl $100000, %ecx\n" "1: loop 1b\n" "movl 0x390(%rdi), %ebx\n"
	APIC_WRITE(0x380, "0") "movl 0x390(%rdi), %edx\n" G_DONE);

TEST_F(lapic, current_count)
{
	struct guest *g = &self->g;
	struct kvm_regs r;

	start(g, BLOB(current_count), BLOB(isr));
	ASSERT_DONE(g);
	r = vcpu_regs(&g->cpu);
	EXPECT_LE(r.rax, 0x7fffffff);
	EXPECT_LT(r.rbx, r.rax);
	EXPECT_LT(0, r.rbx);
	EXPECT_EQ(0, r.rdx);
	EXPECT_EQ(0, count(g));
}

GUEST(deadline_busy, 64, DEADLINE BUSY "movl $0x6e0, %ecx\n" "rdmsr\n" G_DONE);
GUEST(deadline_sleep, 64, DEADLINE SLEEP "movl $0x6e0, %ecx\n" "rdmsr\n" G_DONE);
GUEST(deadline_past, 64, APIC_ENABLE_SW APIC_WRITE(0x320, "0x40045") "movl $1, %eax\n" "xorl %edx, %edx\n"
	"movl $0x6e0, %ecx\n" "wrmsr\n" BUSY "rdmsr\n" G_DONE);

TEST_F(lapic, tsc_deadline)
{
	static const struct {
		const char *start, *end;
	} cases[] = {
		{ deadline_busy_start, deadline_busy_end }, { deadline_sleep_start, deadline_sleep_end },
		{ deadline_past_start, deadline_past_end },
	};
	struct guest *g = &self->g;
	struct kvm_cpuid2 *cpuid = supported_cpuid(g->dev);
	struct kvm_regs r;
	int i;

	ASSERT_LT(0, vm_cap(g->dev, KVM_CAP_TSC_DEADLINE_TIMER));
	/* The supported CPUID leaves the bit to the client, which knows of the in-kernel APIC. */
	cpuid_find(cpuid, 1, 0)->ecx |= 1 << 24;
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_SET_CPUID2, cpuid));
	free(cpuid);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		start(g, (struct guest_blob){ cases[i].start, cases[i].end }, BLOB(isr));
		r = vcpu_regs(&g->cpu);
		r.rbx = 1;
		vcpu_set_regs(&g->cpu, &r);
		ASSERT_DONE(g);
		EXPECT_EQ(1, count(g));
		/* The register reads zero once the timer has fired. */
		r = vcpu_regs(&g->cpu);
		EXPECT_EQ(0, r.rax);
		EXPECT_EQ(0, r.rdx);
	}
}

/* With the APIC in the kernel HLT does not end KVM_RUN; an interrupt that is pending already passes it. */
GUEST(hlt_pending, 64, APIC_ENABLE_SW APIC_WRITE(0x300, "0x40045") "sti\n" "hlt\n" G_DONE);

TEST_F(lapic, hlt_with_pending_interrupt)
{
	struct guest *g = &self->g;

	start(g, BLOB(hlt_pending), BLOB(isr));
	ASSERT_DONE(g);
	EXPECT_EQ(1, count(g));
}

/* A software-disabled APIC delivers no fixed interrupts, and its LVT is masked. */
GUEST(disabled, 64,
	APIC_ENABLE_SW APIC_WRITE(0x320, "0x45") APIC_WRITE(0xf0, "0xff") "movl 0x320(%rdi), %eax\n"
	APIC_WRITE(0x320, "0x45") "movl 0x320(%rdi), %ebx\n" G_DONE);

TEST_F(lapic, software_disable)
{
	struct guest *g = &self->g;

	start(g, BLOB(disabled), BLOB(isr));
	ASSERT_DONE(g);
	EXPECT_EQ(0x10045, vcpu_regs(&g->cpu).rax);
	EXPECT_EQ(0x10045, vcpu_regs(&g->cpu).rbx);
}

TEST_F(lapic, disabled_by_base)
{
	struct guest *g = &self->g;

	GUEST(off, 64, "movl $0x1b, %ecx\n" "movl $0xfee00100, %eax\n" "xorl %edx, %edx\n" "wrmsr\n"
		"movl $" APIC ", %edi\n" "movl 0x30(%rdi), %ebx\n" G_DONE);
	start(g, BLOB(off), BLOB(isr));
	/* The page reads as ones, and nothing is left to the client (KVM_X86_QUIRK_LAPIC_MMIO_HOLE). */
	ASSERT_DONE(g);
	EXPECT_EQ(0xffffffff, vcpu_regs(&g->cpu).rbx);
}

TEST_HARNESS_MAIN
