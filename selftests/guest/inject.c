// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupts and NMIs that the client injects into a guest without in-kernel interrupt controllers: KVM_INTERRUPT,
 * the interrupt window, the fields of the run page that say when, KVM_NMI, and the shadow behind STI and MOV SS
 * (KVM API documentation, sections 4.16, 4.38 and 5).
 */
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define VECTOR	0x40

FIXTURE(inject) {
	struct guest g;
	struct kvm_run *run;
};

FIXTURE_SETUP(inject)
{
	guest_create(&self->g, 0);
	self->run = self->g.cpu.run;
}

FIXTURE_TEARDOWN(inject)
{
	guest_destroy(&self->g);
}

static long interrupt(struct guest *g, int vector)
{
	struct kvm_interrupt irq = { .irq = vector };

	return vm_ioctl(g->cpu.fd, KVM_INTERRUPT, &irq);
}

GUEST_ALL(sync_loop, "1: " G_SYNC "nop\n" "jmp 1b\n");
GUEST(sti_sync, 64, G_SYNC "sti\n" "nop\n" G_SYNC "cli\n" G_SYNC "nop\n" G_DONE);

/* if_flag, ready_for_interrupt_injection and cr8 follow the guest. */
TEST_F(inject, run_page_fields)
{
	struct guest *g = &self->g;

	guest_start(g, MODE_LONG, BLOB(sti_sync));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, self->run->if_flag);
	EXPECT_EQ(0, self->run->ready_for_interrupt_injection);
	EXPECT_EQ(0, self->run->cr8);
	EXPECT_EQ(APIC_DEFAULT_BASE, self->run->apic_base & ~0xfffUL);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(1, self->run->if_flag);
	EXPECT_EQ(1, self->run->ready_for_interrupt_injection);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, self->run->if_flag);
	EXPECT_EQ(0, self->run->ready_for_interrupt_injection);
	ASSERT_DONE(g);
}

TEST_F(inject, in_each_mode)
{
	static const enum guest_mode modes[] = { MODE_REAL, MODE_PROT32, MODE_PAGE32, MODE_PAE, MODE_LONG };
	struct guest *g = &self->g;
	struct kvm_vcpu_events ev;
	struct kvm_regs r;
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		guest_start(g, modes[i], BLOB_FOR(modes[i], sync_loop));
		r = vcpu_regs(&g->cpu);
		r.rflags |= X86_EFLAGS_IF;
		vcpu_set_regs(&g->cpu, &r);
		ASSERT_PORT(PORT_SYNC, g);
		ASSERT_EQ(1, self->run->ready_for_interrupt_injection);
		ASSERT_EQ(0, interrupt(g, VECTOR));
		ASSERT_PORT(PORT_EXC, g);
		EXPECT_EQ(VECTOR, guest_exc(g).vector);
		EXPECT_EQ((modes[i] == MODE_REAL ? 0 : GUEST_CODE) + 2, guest_exc(g).rip);
		EXPECT_EQ(X86_EFLAGS_IF, guest_exc(g).rflags & X86_EFLAGS_IF);
		/* Delivered once. */
		ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_VCPU_EVENTS, &ev));
		EXPECT_EQ(0, ev.interrupt.injected);
		EXPECT_EQ(0, self->run->if_flag);
		ASSERT_PORT(PORT_SYNC, g);
		ASSERT_PORT(PORT_SYNC, g);
	}
}

/* The window: the client asks for it while interrupts are off, and gets the exit as soon as they are on. */
TEST_F(inject, interrupt_window)
{
	struct guest *g = &self->g;

	guest_start(g, MODE_LONG, BLOB(sti_sync));
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_EQ(0, self->run->ready_for_interrupt_injection);
	self->run->request_interrupt_window = 1;
	ASSERT_RUN(KVM_EXIT_IRQ_WINDOW_OPEN, g);
	EXPECT_EQ(1, self->run->if_flag);
	EXPECT_EQ(1, self->run->ready_for_interrupt_injection);
	/* STI at 2, its shadow is the NOP at 3: the window opens at 4 at the earliest. */
	EXPECT_EQ(GUEST_CODE + 4, vcpu_regs(&g->cpu).rip);
	self->run->request_interrupt_window = 0;
	ASSERT_EQ(0, interrupt(g, VECTOR));
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(VECTOR, guest_exc(g).vector);
	EXPECT_EQ(GUEST_CODE + 4, guest_exc(g).rip);
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_DONE(g);
}

/* The window is open already: KVM_RUN returns at once, the guest has not moved. */
TEST_F(inject, window_already_open)
{
	struct guest *g = &self->g;
	struct kvm_regs r;
	int i;

	guest_start(g, MODE_LONG, BLOB(sync_loop64));
	r = vcpu_regs(&g->cpu);
	r.rflags |= X86_EFLAGS_IF;
	vcpu_set_regs(&g->cpu, &r);
	ASSERT_PORT(PORT_SYNC, g);
	self->run->request_interrupt_window = 1;
	for (i = 0; i < 3; i++) {
		ASSERT_RUN(KVM_EXIT_IRQ_WINDOW_OPEN, g);
	}
	self->run->request_interrupt_window = 0;
	ASSERT_PORT(PORT_SYNC, g);
}

GUEST(shadows, 64,
	G_SYNC
	"movl $" STR(SEL_DATA) ", %eax\n"
	"sti\n"				/* offset 7; shadow: */
	"movl %eax, %ebx\n"		/* 8 */
	"nop\n"				/* 10: here the interrupt arrives */
	G_SYNC
	"cli\n" G_SYNC
	"pushfq\n" "orq $0x200, (%rsp)\n"
	"popfq\n"			/* no shadow behind POPF */
	"nop\n"
	G_DONE);

TEST_F(inject, sti_shadow)
{
	struct guest *g = &self->g;

	guest_start(g, MODE_LONG, BLOB(shadows));
	ASSERT_PORT(PORT_SYNC, g);
	self->run->request_interrupt_window = 1;
	ASSERT_RUN(KVM_EXIT_IRQ_WINDOW_OPEN, g);
	EXPECT_EQ(GUEST_CODE + 10, vcpu_regs(&g->cpu).rip);
	self->run->request_interrupt_window = 0;
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_PORT(PORT_SYNC, g);
	self->run->request_interrupt_window = 1;
	ASSERT_RUN(KVM_EXIT_IRQ_WINDOW_OPEN, g);
	/* PUSHFQ 1, OR 8, POPFQ 1, behind OUT at 12, CLI and OUT at 15. */
	EXPECT_EQ(GUEST_CODE + 26, vcpu_regs(&g->cpu).rip);
	self->run->request_interrupt_window = 0;
	ASSERT_DONE(g);
}

GUEST(nops, 64, "movl %eax, %ebx\n" "nop\n" G_DONE);

/* A shadow that the client sets by KVM_SET_VCPU_EVENTS covers one instruction. */
TEST_F(inject, shadow_from_client)
{
	static const uint8_t shadows[] = { KVM_X86_SHADOW_INT_STI, KVM_X86_SHADOW_INT_MOV_SS, 0 };
	struct guest *g = &self->g;
	struct kvm_vcpu_events e;
	struct kvm_regs r;
	int i;

	if (in_testhost("vmx") && !nested_paging(g->dev))
		SKIP(return, "in Bochs an exit by a fault ends the shadow, under in-tree KVM as well");
	for (i = 0; i < ARRAY_SIZE(shadows); i++) {
		guest_start(g, MODE_LONG, BLOB(nops));
		r = vcpu_regs(&g->cpu);
		r.rflags |= X86_EFLAGS_IF;
		vcpu_set_regs(&g->cpu, &r);
		ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_VCPU_EVENTS, &e));
		e.flags = KVM_VCPUEVENT_VALID_SHADOW;
		e.interrupt.shadow = shadows[i];
		ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_SET_VCPU_EVENTS, &e));
		self->run->request_interrupt_window = 1;
		ASSERT_RUN(KVM_EXIT_IRQ_WINDOW_OPEN, g);
		EXPECT_EQ(GUEST_CODE + (shadows[i] ? 2 : 0), vcpu_regs(&g->cpu).rip);
		self->run->request_interrupt_window = 0;
		ASSERT_DONE(g);
	}
}

/* The shadow of STI covers a HLT: the client sees the HLT with interrupts on. */
GUEST(sti_hlt, 64, G_SYNC "sti\n" "hlt\n" "1: " G_DONE);

TEST_F(inject, sti_hlt)
{
	struct guest *g = &self->g;

	guest_start(g, MODE_LONG, BLOB(sti_hlt));
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_RUN(KVM_EXIT_HLT, g);
	EXPECT_EQ(1, self->run->if_flag);
	EXPECT_EQ(1, self->run->ready_for_interrupt_injection);
	ASSERT_EQ(0, interrupt(g, VECTOR));
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(VECTOR, guest_exc(g).vector);
	EXPECT_EQ(GUEST_CODE + 4, guest_exc(g).rip);
	ASSERT_DONE(g);
}

/* CR8 belongs to the client here: it is shown in the run page and can be set by it. */
GUEST(cr8, 64, "movl $9, %eax\n" "movq %rax, %cr8\n" G_SYNC "movq %cr8, %rbx\n" G_SYNC
	"movq %cr8, %rbx\n" G_SYNC "xorl %eax, %eax\n" "movq %rax, %cr8\n" G_DONE);

TEST_F(inject, cr8)
{
	struct guest *g = &self->g;
	long reason;

	guest_start(g, MODE_LONG, BLOB(cr8));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(9, self->run->cr8);
	EXPECT_EQ(9, vcpu_sregs(&g->cpu).cr8);
	self->run->cr8 = 5;
	ASSERT_PORT(PORT_SYNC, g);
	/* Once more, without any other call in between. */
	self->run->cr8 = 3;
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(3, vcpu_regs(&g->cpu).rbx);
	/* A lower CR8 is told to the client, which may have something to inject. */
	reason = guest_run(g);
	ASSERT_EQ(KVM_EXIT_SET_TPR, reason);
	EXPECT_EQ(0, self->run->cr8);
	ASSERT_DONE(g);
}

TEST_F(inject, nmi)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events ev;

	guest_start(g, MODE_LONG, BLOB(sync_loop64));
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_NMI, 0));
	/* Interrupts are off, the NMI comes all the same. */
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(NMI_VECTOR, guest_exc(g).vector);
	EXPECT_EQ(GUEST_CODE + 2, guest_exc(g).rip);
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_VCPU_EVENTS, &ev));
	EXPECT_EQ(1, ev.nmi.masked);
	EXPECT_EQ(0, ev.nmi.pending);
	/* A second one waits for the IRET of the first, and a third is merged with it. */
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_NMI, 0));
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_NMI, 0));
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_NMI, 0));
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_VCPU_EVENTS, &ev));
	EXPECT_EQ(1, ev.nmi.pending);
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(NMI_VECTOR, guest_exc(g).vector);
	EXPECT_EQ(GUEST_CODE + 2, guest_exc(g).rip);
	EXPECT_EQ(GUEST_STACK, guest_exc(g).rsp);
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_VCPU_EVENTS, &ev));
	EXPECT_EQ(0, ev.nmi.masked);
	EXPECT_EQ(0, ev.nmi.pending);
	ASSERT_PORT(PORT_SYNC, g);
}

/* An NMI and an interrupt together: the NMI's handler is entered first, the interrupt comes when it allows. */
TEST_F(inject, nmi_before_interrupt)
{
	struct guest *g = &self->g;
	struct kvm_regs r;
	int first, second;

	guest_start(g, MODE_LONG, BLOB(sync_loop64));
	r = vcpu_regs(&g->cpu);
	r.rflags |= X86_EFLAGS_IF;
	vcpu_set_regs(&g->cpu, &r);
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_EQ(0, interrupt(g, VECTOR));
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_NMI, 0));
	ASSERT_PORT(PORT_EXC, g);
	first = guest_exc(g).vector;
	ASSERT_PORT(PORT_EXC, g);
	second = guest_exc(g).vector;
	/* The interrupt was accepted at the KVM_INTERRUPT; the NMI nests in its handler or comes before. */
	EXPECT_TRUE((first == VECTOR && second == NMI_VECTOR) || (first == NMI_VECTOR && second == VECTOR));
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_PORT(PORT_SYNC, g);
}

/* Two hundred interrupts into a loop: none lost, none twice. */
GUEST(count, 64, "sti\n" "1: incq %rax\n" "jmp 1b\n");
GUEST(count_isr, 64, "incq %rbx\n" "outb %al, $" STR(PORT_SYNC) "\n" "iretq\n");

TEST_F(inject, many)
{
	struct guest *g = &self->g;
	int i;

	guest_start(g, MODE_LONG, BLOB(count));
	memcpy(g->mem + GUEST_CODE + 0x100, count_isr_start, count_isr_end - count_isr_start);
	guest_set_gate(g, VECTOR, GUEST_CODE + 0x100);
	for (i = 1; i <= 200; i++) {
		self->run->request_interrupt_window = 1;
		ASSERT_RUN(KVM_EXIT_IRQ_WINDOW_OPEN, g);
		self->run->request_interrupt_window = 0;
		ASSERT_EQ(0, interrupt(g, VECTOR));
		ASSERT_PORT(PORT_SYNC, g);
		ASSERT_EQ(i, vcpu_regs(&g->cpu).rbx);
	}
}

TEST_HARNESS_MAIN
