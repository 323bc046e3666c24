// SPDX-License-Identifier: GPL-2.0-only
/*
 * The split irqchip with a guest: local APICs in the kernel, I/O APIC and PIC with the client. Messages by GSI, the
 * end of level-triggered ones as KVM_EXIT_IOAPIC_EOI, the PIC's interrupts by KVM_INTERRUPT (KVM API documentation,
 * sections 4.16, 5 and 7.5).
 */
#include "kselftest_harness.h"
#include "guest.h"
#include "evfd.h"

#define COUNT	0x42000
#define ISR_AT	(GUEST_CODE + 0x800)
#define VEC	0x55
#define LEVEL	(1 << 15)

FIXTURE(split) {
	struct guest g;
};

FIXTURE_SETUP(split)
{
	guest_create(&self->g, GUEST_SPLIT);
}

FIXTURE_TEARDOWN(split)
{
	guest_destroy(&self->g);
}

GUEST(isr, 64, "pushq %rax\n" "incl " STR(COUNT) "\n" "movl $0xfee000b0, %eax\n" "movl $0, (%rax)\n" "popq %rax\n"
	"iretq\n");
GUEST(isr_ext, 64, "incl " STR(COUNT) "\n" "iretq\n");
#define APIC_ON		"movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n"
#define OPEN		"sti\n" "nop\n" "nop\n" "cli\n"
GUEST(open_twice, 64, APIC_ON G_SYNC OPEN G_SYNC OPEN G_SYNC OPEN G_DONE);

static void start(struct guest *g, struct guest_blob blob, struct guest_blob handler)
{
	guest_start(g, MODE_LONG, blob);
	memcpy(g->mem + ISR_AT, handler.start, handler.end - handler.start);
	guest_set_gate(g, VEC, ISR_AT);
	*(uint32_t *)(g->mem + COUNT) = 0;
}

static uint32_t count(struct guest *g)
{
	return *(volatile uint32_t *)(g->mem + COUNT);
}

static int set_line(struct guest *g, int irq, int level)
{
	struct kvm_irq_level line = { .irq = irq, .level = level };

	MUST(vm_ioctl(g->vm, KVM_IRQ_LINE_STATUS, &line));
	return line.status;
}

static long ext_int(struct guest *g, int vector)
{
	struct kvm_interrupt irq = { .irq = vector };

	return vm_ioctl(g->cpu.fd, KVM_INTERRUPT, &irq);
}

TEST_F(split, level_eoi)
{
	struct guest *g = &self->g;

	ASSERT_EQ(0, vm_route_msi(g->vm, 23, VEC | LEVEL));
	start(g, BLOB(open_twice), BLOB(isr));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(1, set_line(g, 23, 1));
	EXPECT_EQ(-1, set_line(g, 23, 0));
	ASSERT_RUN(KVM_EXIT_IOAPIC_EOI, g);
	EXPECT_EQ(VEC, g->cpu.run->eoi.vector);
	EXPECT_EQ(1, count(g));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(1, count(g));
	/* And again. */
	EXPECT_EQ(1, set_line(g, 23, 1));
	ASSERT_RUN(KVM_EXIT_IOAPIC_EOI, g);
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_DONE(g);
	EXPECT_EQ(2, count(g));
}

/* No exit for an edge, for a GSI beyond the client's I/O APIC, nor for another vCPU's message. */
TEST_F(split, other_eois)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[3];
	} r = {
		.head.nr = 3,
		.entries = {
			{ .gsi = 23, .type = KVM_IRQ_ROUTING_MSI, .u.msi = { .address_lo = 0xfee00000, .data = VEC } },
			{ .gsi = 24, .type = KVM_IRQ_ROUTING_MSI,
			  .u.msi = { .address_lo = 0xfee00000, .data = VEC | LEVEL } },
			{ .gsi = 22, .type = KVM_IRQ_ROUTING_MSI,
			  .u.msi = { .address_lo = 0xfee01000, .data = VEC | LEVEL } },
		},
	};
	struct guest *g = &self->g;

	ASSERT_EQ(0, vm_ioctl(g->vm, KVM_SET_GSI_ROUTING, &r));
	start(g, BLOB(open_twice), BLOB(isr));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(1, set_line(g, 23, 1));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(1, count(g));
	EXPECT_EQ(1, set_line(g, 24, 1));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(2, count(g));
	/* With the route for this vCPU, from now on. */
	r.entries[2].u.msi.address_lo = 0xfee00000;
	ASSERT_EQ(0, vm_ioctl(g->vm, KVM_SET_GSI_ROUTING, &r));
	EXPECT_EQ(1, set_line(g, 22, 1));
	ASSERT_RUN(KVM_EXIT_IOAPIC_EOI, g);
	EXPECT_EQ(3, count(g));
	ASSERT_DONE(g);
}

/* An irqfd needs no controller with pins. */
TEST_F(split, irqfd)
{
	struct guest *g = &self->g;
	int fd = evfd();

	ASSERT_EQ(0, vm_route_msi(g->vm, 23, VEC | LEVEL));
	ASSERT_EQ(0, vm_irqfd(g->vm, fd, 23, 0, 0));
	start(g, BLOB(open_twice), BLOB(isr));
	ASSERT_PORT(PORT_SYNC, g);
	evfd_signal(fd);
	ASSERT_RUN(KVM_EXIT_IOAPIC_EOI, g);
	EXPECT_EQ(VEC, g->cpu.run->eoi.vector);
	EXPECT_EQ(1, count(g));
	ASSERT_PORT(PORT_SYNC, g);
	close(fd);
}

TEST_F(split, ext_interrupt)
{
	struct kvm_run *run = self->g.cpu.run;
	struct guest *g = &self->g;

	start(g, BLOB(open_twice), BLOB(isr_ext));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, run->if_flag);
	EXPECT_EQ(0, run->ready_for_interrupt_injection);
	/* It waits for the guest to open, and is not in the local APIC at all. */
	EXPECT_EQ(0, ext_int(g, VEC));
	EXPECT_EQ(-EEXIST, ext_int(g, VEC));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(1, count(g));
	/* The client asks to be told. */
	run->request_interrupt_window = 1;
	ASSERT_RUN(KVM_EXIT_IRQ_WINDOW_OPEN, g);
	EXPECT_EQ(1, run->ready_for_interrupt_injection);
	EXPECT_EQ(1, run->if_flag);
	run->request_interrupt_window = 0;
	EXPECT_EQ(0, ext_int(g, VEC));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(2, count(g));
	ASSERT_DONE(g);
	EXPECT_EQ(2, count(g));
}

/* LINT0 masked: the PIC is not heard, nor is a window of interest. */
GUEST(lint0, 64, APIC_ON "movl $0x10700, 0x350(%rdi)\n" G_SYNC OPEN G_SYNC "movl $0x700, 0x350(%rdi)\n"
	G_SYNC OPEN G_DONE);

TEST_F(split, lint0_masks)
{
	struct kvm_run *run = self->g.cpu.run;
	struct guest *g = &self->g;
	struct kvm_regs r;

	start(g, BLOB(lint0), BLOB(isr_ext));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, ext_int(g, VEC));
	run->request_interrupt_window = 1;
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, count(g));
	run->request_interrupt_window = 0;
	ASSERT_PORT(PORT_SYNC, g);
	/* KVM does not look again when LINT0 is unmasked, but does when the client writes registers. */
	r = vcpu_regs(&g->cpu);
	vcpu_set_regs(&g->cpu, &r);
	ASSERT_DONE(g);
	EXPECT_EQ(1, count(g));
}

/* HLT is the kernel's; an interrupt that is pending, or a window that is asked for, ends it. */
GUEST(halt, 64, APIC_ON G_SYNC "sti\n" "hlt\n" "cli\n" G_SYNC "sti\n" "hlt\n" "cli\n" G_DONE);

TEST_F(split, halt)
{
	struct kvm_run *run = self->g.cpu.run;
	struct guest *g = &self->g;

	start(g, BLOB(halt), BLOB(isr_ext));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, ext_int(g, VEC));
	/* Taken behind STI's shadow or in HLT: both end there only if the interrupt comes after the HLT. */
	run->request_interrupt_window = 1;
	ASSERT_EQ(KVM_EXIT_IRQ_WINDOW_OPEN, guest_run(g));
	EXPECT_EQ(1, count(g));
	run->request_interrupt_window = 0;
	ASSERT_PORT(PORT_SYNC, g);
	run->request_interrupt_window = 1;
	ASSERT_EQ(KVM_EXIT_IRQ_WINDOW_OPEN, guest_run(g));
	run->request_interrupt_window = 0;
	EXPECT_EQ(0, ext_int(g, VEC));
	ASSERT_DONE(g);
	EXPECT_EQ(2, count(g));
}

TEST_HARNESS_MAIN
