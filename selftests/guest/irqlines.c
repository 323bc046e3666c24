// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupt lines into the in-kernel I/O APIC and PIC pair, and the PIT behind them: KVM_IRQ_LINE, edge and level
 * triggering, end of interrupt, virtual wire mode, the timer channel and the speaker channel (KVM API
 * documentation, sections 4.24, 4.25, 4.71).
 */
#include <pthread.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define COUNT	0x42000
#define ISR_AT	(GUEST_CODE + 0x800)
#define VEC	0x55

GUEST(isr, 64, "pushq %rax\n" "movl $0xfee000b0, %eax\n" "incl " STR(COUNT) "\n" "movl $0, (%rax)\n" "popq %rax\n"
	"iretq\n");
/* Stops between the interrupt and its EOI, so that the client can lower the line. */
GUEST(isr_stop, 64, "pushq %rax\n" "incl " STR(COUNT) "\n" "outb %al, $" STR(PORT_EXC) "\n"
	"movl $0xfee000b0, %eax\n" "movl $0, (%rax)\n" "popq %rax\n" "iretq\n");
GUEST(isr_pic, 64, "pushq %rax\n" "incl " STR(COUNT) "\n" "movb $0x20, %al\n" "outb %al, $0x20\n" "popq %rax\n"
	"iretq\n");
GUEST(isr_pic2, 64, "pushq %rax\n" "incl " STR(COUNT) "\n" "movb $0x20, %al\n" "outb %al, $0xa0\n"
	"outb %al, $0x20\n" "popq %rax\n" "iretq\n");

FIXTURE(lines) {
	struct guest g;
};

FIXTURE_SETUP(lines)
{
	guest_create(&self->g, GUEST_IRQCHIP | GUEST_PIT);
}

FIXTURE_TEARDOWN(lines)
{
	guest_destroy(&self->g);
}

static void start(struct guest *g, struct guest_blob blob, int vector, struct guest_blob handler)
{
	guest_start(g, MODE_LONG, blob);
	memcpy(g->mem + ISR_AT, handler.start, handler.end - handler.start);
	guest_set_gate(g, vector, ISR_AT);
	*(uint32_t *)(g->mem + COUNT) = 0;
}

static uint32_t count(struct guest *g)
{
	return *(volatile uint32_t *)(g->mem + COUNT);
}

static void set_line(struct guest *g, int irq, int level)
{
	struct kvm_irq_level line = { .irq = irq, .level = level };

	MUST(vm_ioctl(g->vm, KVM_IRQ_LINE, &line));
}

static struct kvm_ioapic_state ioapic(struct guest *g)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	MUST(vm_ioctl(g->vm, KVM_GET_IRQCHIP, &chip));
	return chip.chip.ioapic;
}

/* Redirection entry of pin EBX: low half R8D, high half zero. Registers: select at 0, window at 0x10. */
#define IOAPIC_SETUP						\
	"movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n"	\
	"movl $0xfec00000, %esi\n"				\
	"leal 0x11(%rbx, %rbx), %eax\n" "movl %eax, (%rsi)\n" "movl $0, 0x10(%rsi)\n"	\
	"leal 0x10(%rbx, %rbx), %eax\n" "movl %eax, (%rsi)\n" "movl %r8d, 0x10(%rsi)\n"	\
	"movl 0x10(%rsi), %r9d\n"				\
	"movl $1, (%rsi)\n" "movl 0x10(%rsi), %r10d\n"
#define WAIT	"1: cli\n" "cmpl $0, " STR(COUNT) "\n" "jne 2f\n" "sti\n" "hlt\n" "jmp 1b\n" "2: cli\n"

GUEST(ioapic_wait, 64, IOAPIC_SETUP G_SYNC WAIT G_DONE);
GUEST(ioapic_spin, 64, IOAPIC_SETUP G_SYNC "sti\n" "nop\n" "nop\n" "cli\n" G_SYNC "sti\n" "nop\n" "nop\n" G_DONE);

static void ioapic_start(struct guest *g, struct guest_blob blob, int pin, uint32_t entry, struct guest_blob handler)
{
	struct kvm_regs r;

	start(g, blob, VEC, handler);
	r = vcpu_regs(&g->cpu);
	r.rbx = pin;
	r.r8 = entry;
	vcpu_set_regs(&g->cpu, &r);
}

TEST_F(lines, ioapic_edge)
{
	struct guest *g = &self->g;

	ioapic_start(g, BLOB(ioapic_spin), 20, VEC, BLOB(isr));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(VEC, vcpu_regs(&g->cpu).r9);
	/* Version 0x11, 24 pins. */
	EXPECT_EQ(0x170011, vcpu_regs(&g->cpu).r10);
	set_line(g, 20, 1);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(1, count(g));
	/* High still: no second edge. */
	set_line(g, 20, 1);
	ASSERT_DONE(g);
	EXPECT_EQ(1, count(g));
	set_line(g, 20, 0);
}

TEST_F(lines, ioapic_level)
{
	struct guest *g = &self->g;

	ioapic_start(g, BLOB(ioapic_spin), 21, VEC | 1 << 15, BLOB(isr_stop));
	ASSERT_PORT(PORT_SYNC, g);
	set_line(g, 21, 1);
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(1, count(g));
	/* Remote IRR until the EOI. */
	EXPECT_EQ(1 << 14, ioapic(g).redirtbl[21].bits & 1 << 14);
	/* High at the EOI: again. */
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(2, count(g));
	set_line(g, 21, 0);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(2, count(g));
	EXPECT_EQ(0, ioapic(g).redirtbl[21].bits & 1 << 14);
	ASSERT_DONE(g);
	EXPECT_EQ(2, count(g));
}

/* A masked pin delivers nothing; a level that is high when it is unmasked does. */
GUEST(ioapic_unmask, 64, IOAPIC_SETUP G_SYNC "sti\n" "nop\n" "nop\n" "cli\n" G_SYNC
	"leal 0x10(%rbx, %rbx), %eax\n" "movl %eax, (%rsi)\n" "btrl $16, %r8d\n" "movl %r8d, 0x10(%rsi)\n"
	"sti\n" "nop\n" "nop\n" G_DONE);

TEST_F(lines, ioapic_mask)
{
	struct guest *g = &self->g;

	ioapic_start(g, BLOB(ioapic_unmask), 22, VEC | 1 << 15 | 1 << 16, BLOB(isr_stop));
	ASSERT_PORT(PORT_SYNC, g);
	set_line(g, 22, 1);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, count(g));
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(1, count(g));
	set_line(g, 22, 0);
	ASSERT_DONE(g);
	EXPECT_EQ(1, count(g));
}

struct raise {
	struct guest *g;
	int irq, delay_ms;
};

static void *raise_thread(void *arg)
{
	struct raise *r = arg;

	usleep(r->delay_ms * 1000);
	set_line(r->g, r->irq, 1);
	return NULL;
}

/* Another thread raises a line while the guest sleeps in HLT within KVM_RUN, and while it spins. */
GUEST(ioapic_busy, 64, IOAPIC_SETUP G_SYNC "sti\n" "1: cmpl $0, " STR(COUNT) "\n" "je 1b\n" G_DONE);

TEST_F(lines, raised_by_another_thread)
{
	struct guest *g = &self->g;
	struct raise r = { .g = g, .irq = 20, .delay_ms = 20 };
	pthread_t t;
	int busy;

	for (busy = 0; busy < 2; busy++) {
		if (busy)
			ioapic_start(g, BLOB(ioapic_busy), 20, VEC, BLOB(isr));
		else
			ioapic_start(g, BLOB(ioapic_wait), 20, VEC, BLOB(isr));
		ASSERT_PORT(PORT_SYNC, g);
		ASSERT_EQ(0, pthread_create(&t, NULL, raise_thread, &r));
		ASSERT_DONE(g);
		EXPECT_EQ(1, count(g));
		pthread_join(t, NULL);
		set_line(g, 20, 0);
	}
}

#define OUTB(value, port)	"movb $" value ", %al\n" "outb %al, $" port "\n"
#define PIC_SETUP							\
	OUTB("0x11", "0x20") OUTB("0x20", "0x21") OUTB("0x04", "0x21") OUTB("0x01", "0x21")	\
	OUTB("0x11", "0xa0") OUTB("0x28", "0xa1") OUTB("0x02", "0xa1") OUTB("0x01", "0xa1")

/* Virtual wire mode: LINT0 is ExtINT after reset, and the I/O APIC is all masked. */
GUEST(pic, 64, PIC_SETUP OUTB("0xef", "0x21") OUTB("0xff", "0xa1") "inb $0x21, %al\n" "movl %eax, %ebx\n"
	G_SYNC WAIT G_DONE);
GUEST(pic_slave, 64, PIC_SETUP OUTB("0xfb", "0x21") OUTB("0xef", "0xa1") G_SYNC WAIT G_DONE);

TEST_F(lines, pic)
{
	struct guest *g = &self->g;

	start(g, BLOB(pic), 0x24, BLOB(isr_pic));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0xef, vcpu_regs(&g->cpu).rbx & 0xff);
	/* Masked: nothing; 4 is the only one open. */
	set_line(g, 3, 1);
	set_line(g, 4, 1);
	ASSERT_DONE(g);
	EXPECT_EQ(1, count(g));
	set_line(g, 3, 0);
	set_line(g, 4, 0);
}

TEST_F(lines, pic_slave)
{
	struct guest *g = &self->g;

	start(g, BLOB(pic_slave), 0x2c, BLOB(isr_pic2));
	ASSERT_PORT(PORT_SYNC, g);
	set_line(g, 12, 1);
	ASSERT_DONE(g);
	EXPECT_EQ(1, count(g));
	set_line(g, 12, 0);
}

/* Two at once: the higher priority, which is the lower number, first; in-service bits hold the other back. */
GUEST(pic_two, 64, PIC_SETUP OUTB("0xe7", "0x21") OUTB("0xff", "0xa1") G_SYNC "sti\n" "nop\n" "nop\n" "nop\n" G_DONE);

TEST_F(lines, pic_priority)
{
	struct guest *g = &self->g;
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };

	guest_start(g, MODE_LONG, BLOB(pic_two));
	ASSERT_PORT(PORT_SYNC, g);
	set_line(g, 4, 1);
	set_line(g, 3, 1);
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(0x23, guest_exc(g).vector);
	ASSERT_EQ(0, vm_ioctl(g->vm, KVM_GET_IRQCHIP, &chip));
	EXPECT_EQ(1 << 3, chip.chip.pic.isr);
	EXPECT_EQ(1 << 4, chip.chip.pic.irr & 1 << 4);
	/* No EOI: 4 does not come. */
	ASSERT_DONE(g);
	set_line(g, 3, 0);
	set_line(g, 4, 0);
}

/* Channel 0, mode 2, 1193182 / 1193 Hz: a tick a millisecond, on PIC vector 0x20. */
GUEST(pit, 64, PIC_SETUP OUTB("0xfe", "0x21") OUTB("0xff", "0xa1")
	OUTB("0x34", "0x43") OUTB("0xa9", "0x40") OUTB("0x04", "0x40")
	"1: cli\n" "cmpl $10, " STR(COUNT) "\n" "jae 2f\n" "sti\n" "hlt\n" "jmp 1b\n" "2: cli\n"
	/* latch and read the count */
	OUTB("0x00", "0x43") "inb $0x40, %al\n" "movb %al, %bl\n" "inb $0x40, %al\n" "movb %al, %bh\n" G_DONE);

TEST_F(lines, pit_ticks)
{
	struct guest *g = &self->g;
	uint64_t t;

	start(g, BLOB(pit), 0x20, BLOB(isr_pic));
	t = ns_now();
	ASSERT_DONE(g);
	t = ns_now() - t;
	EXPECT_LE(10, count(g));
	/* Ten ticks of a millisecond; in-tree KVM may catch up missed ones, which comes to the same. */
	EXPECT_LE(8000000UL, t);
	EXPECT_LE(vcpu_regs(&g->cpu).rbx & 0xffff, 1193);
}

/* Channel 2, gated and read through port 0x61, as kernels calibrate their TSC with it: mode 0, 20 ms. */
GUEST(pit_speaker, 64,
	"inb $0x61, %al\n" "andb $0xfc, %al\n" "orb $1, %al\n" "outb %al, $0x61\n"
	OUTB("0xb0", "0x43") OUTB("0x37", "0x42") OUTB("0x5d", "0x42")
	"inb $0x61, %al\n" "movl %eax, %r8d\n"
	"rdtsc\n" "shlq $32, %rdx\n" "leaq (%rax, %rdx), %rsi\n"
	"1: incq %rbx\n" "inb $0x61, %al\n" "testb $0x20, %al\n" "jz 1b\n"
	"rdtsc\n" "shlq $32, %rdx\n" "addq %rdx, %rax\n" "subq %rsi, %rax\n" G_DONE);

TEST_F(lines, pit_channel_2)
{
	struct guest *g = &self->g;
	uint64_t t;

	start(g, BLOB(pit_speaker), 0x20, BLOB(isr_pic));
	t = ns_now();
	ASSERT_DONE(g);
	t = ns_now() - t;
	EXPECT_EQ(0, vcpu_regs(&g->cpu).r8 & 0x20);
	EXPECT_EQ(1, vcpu_regs(&g->cpu).r8 & 1);
	EXPECT_LT(1, vcpu_regs(&g->cpu).rbx);
	/* 0x5d37 / 1193182 Hz is 20 ms. */
	EXPECT_LE(19000000UL, t);
}

/* An interrupt that is withdrawn before it is taken: the PIC answers with its spurious vector, 7, or not at all. */
TEST_F(lines, pic_withdrawn)
{
	struct guest *g = &self->g;

	GUEST(pic_none, 64, PIC_SETUP OUTB("0x00", "0x21") OUTB("0xff", "0xa1") G_SYNC "sti\n" "nop\n" "nop\n" G_DONE);
	guest_start(g, MODE_LONG, BLOB(pic_none));
	/* Level triggered, or the edge would be remembered. */
	{
		struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };

		ASSERT_PORT(PORT_SYNC, g);
		ASSERT_EQ(0, vm_ioctl(g->vm, KVM_GET_IRQCHIP, &chip));
		chip.chip.pic.elcr = 1 << 5;
		ASSERT_EQ(0, vm_ioctl(g->vm, KVM_SET_IRQCHIP, &chip));
	}
	set_line(g, 5, 1);
	set_line(g, 5, 0);
	ASSERT_RUN(KVM_EXIT_IO, g);
	if (guest_at_port(g, PORT_EXC)) {
		EXPECT_EQ(0x27, guest_exc(g).vector);
		ASSERT_DONE(g);
	} else {
		EXPECT_TRUE(guest_at_port(g, PORT_DONE));
	}
}

TEST_HARNESS_MAIN
