// SPDX-License-Identifier: GPL-2.0-only
/*
 * The PIC pair and the PIT command by command: priorities, rotation, special mask, automatic end of interrupt, poll
 * and level triggering of the 8259A; counters, latches, read-back, modes and the gate of the 8254 (their data sheets,
 * and that of the 82371AB for the ELCR and port 0x61).
 */
#include <unistd.h>
#include "kselftest_harness.h"
#include "ops.h"

FIXTURE(pic) {
	struct guest g;
	bool keel;
};

FIXTURE_SETUP(pic)
{
	guest_create(&self->g, GUEST_IRQCHIP | GUEST_PIT);
	self->keel = dev_is_keel(self->g.dev);
	ops_start(&self->g);
}

FIXTURE_TEARDOWN(pic)
{
	guest_destroy(&self->g);
}

/* Vectors 0x20 and 0x28; only the lines in @open, of which the cascade is always one. */
static void init(struct guest *g, int icw4, uint16_t open)
{
	int i;

	open |= 1 << 2;
	for (i = 0; i < 2; i++) {
		int port = i ? 0xa0 : 0x20;

		ops_out(g, port, 0x11);
		ops_out(g, port + 1, 0x20 + 8 * i);
		ops_out(g, port + 1, i ? 2 : 4);
		ops_out(g, port + 1, icw4);
		ops_out(g, port + 1, ~open >> 8 * i & 0xff);
	}
}

static void line(struct guest *g, int irq, int level)
{
	struct kvm_irq_level l = { .irq = irq, .level = level };

	MUST(vm_ioctl(g->vm, KVM_IRQ_LINE, &l));
}

static void pulse(struct guest *g, int irq)
{
	line(g, irq, 1);
	line(g, irq, 0);
}

static uint8_t irr(struct guest *g, int port)
{
	ops_out(g, port, 0x0a);
	return ops_in(g, port);
}

static uint8_t isr(struct guest *g, int port)
{
	ops_out(g, port, 0x0b);
	return ops_in(g, port);
}

TEST_F(pic, registers)
{
	struct guest *g = &self->g;

	init(g, 1, 1 << 3 | 1 << 12);
	EXPECT_EQ(0xf3, ops_in(g, 0x21));
	EXPECT_EQ(0xef, ops_in(g, 0xa1));
	pulse(g, 3);
	pulse(g, 5);
	EXPECT_EQ(1 << 3 | 1 << 5, irr(g, 0x20));
	EXPECT_EQ(0, isr(g, 0x20));
	EXPECT_EQ(0x23, ops_take(g));
	EXPECT_EQ(1 << 5, irr(g, 0x20));
	EXPECT_EQ(1 << 3, isr(g, 0x20));
	/* Masked */
	EXPECT_EQ(-1, ops_take(g));
	ops_out(g, 0x20, 0x20);
	EXPECT_EQ(0, isr(g, 0x20));
	EXPECT_EQ(-1, ops_take(g));
	ops_out(g, 0x21, 0);
	EXPECT_EQ(0x25, ops_take(g));
	ops_out(g, 0x20, 0x65);			/* specific EOI */
	EXPECT_EQ(0, isr(g, 0x20));
	/* The slave: in service at both */
	pulse(g, 12);
	EXPECT_EQ(0x2c, ops_take(g));
	EXPECT_EQ(1 << 2, isr(g, 0x20));
	EXPECT_EQ(1 << 4, isr(g, 0xa0));
	ops_out(g, 0xa0, 0x20);
	ops_out(g, 0x20, 0x20);
	EXPECT_EQ(0, isr(g, 0x20) | isr(g, 0xa0));
}

TEST_F(pic, nesting)
{
	struct guest *g = &self->g;

	init(g, 1, 0xffff);
	pulse(g, 4);
	EXPECT_EQ(0x24, ops_take(g));
	pulse(g, 5);
	EXPECT_EQ(-1, ops_take(g));
	pulse(g, 3);
	EXPECT_EQ(0x23, ops_take(g));
	pulse(g, 12);				/* by line 2, which is above line 3 */
	EXPECT_EQ(0x2c, ops_take(g));
	/* A non-specific EOI ends the highest. */
	ops_out(g, 0xa0, 0x20);
	ops_out(g, 0x20, 0x20);
	EXPECT_EQ(1 << 3 | 1 << 4, isr(g, 0x20));
	ops_out(g, 0x20, 0x20);
	EXPECT_EQ(1 << 4, isr(g, 0x20));
	EXPECT_EQ(-1, ops_take(g));
	ops_out(g, 0x20, 0x20);
	EXPECT_EQ(0x25, ops_take(g));
}

TEST_F(pic, rotation)
{
	struct guest *g = &self->g;

	init(g, 1, 0xffff);
	pulse(g, 3);
	EXPECT_EQ(0x23, ops_take(g));
	ops_out(g, 0x20, 0xa0);			/* rotate on non-specific EOI: 3 is the lowest now */
	pulse(g, 3);
	pulse(g, 4);
	pulse(g, 1);
	EXPECT_EQ(0x24, ops_take(g));
	ops_out(g, 0x20, 0x20);
	EXPECT_EQ(0x21, ops_take(g));
	ops_out(g, 0x20, 0x20);
	EXPECT_EQ(0x23, ops_take(g));
	ops_out(g, 0x20, 0xe5);			/* rotate on specific EOI, of 5: 5 is the lowest */
	EXPECT_EQ(1 << 3, isr(g, 0x20));
	ops_out(g, 0x20, 0x63);
	pulse(g, 5);
	pulse(g, 6);
	EXPECT_EQ(0x26, ops_take(g));
	ops_out(g, 0x20, 0x20);
	EXPECT_EQ(0x25, ops_take(g));
	ops_out(g, 0x20, 0x20);
	ops_out(g, 0x20, 0xc0);			/* set priority: 0 is the lowest */
	pulse(g, 1);
	pulse(g, 7);
	EXPECT_EQ(0x21, ops_take(g));
	ops_out(g, 0x20, 0x20);
	EXPECT_EQ(0x27, ops_take(g));
}

TEST_F(pic, automatic_end)
{
	struct guest *g = &self->g;

	init(g, 3, 0xffff);
	pulse(g, 3);
	EXPECT_EQ(0x23, ops_take(g));
	EXPECT_EQ(0, isr(g, 0x20));
	pulse(g, 3);
	pulse(g, 12);
	EXPECT_EQ(0x2c, ops_take(g));
	EXPECT_EQ(0x23, ops_take(g));
	EXPECT_EQ(0, isr(g, 0x20) | isr(g, 0xa0));
	/* With rotation */
	ops_out(g, 0x20, 0x80);
	pulse(g, 3);
	EXPECT_EQ(0x23, ops_take(g));
	pulse(g, 3);
	pulse(g, 4);
	EXPECT_EQ(0x24, ops_take(g));
	EXPECT_EQ(0x23, ops_take(g));
	ops_out(g, 0x20, 0x00);
}

TEST_F(pic, special_mask)
{
	struct guest *g = &self->g;

	if (!self->keel)
		SKIP(return, "in-tree KVM has no special mask mode");
	init(g, 1, 0xffff);
	pulse(g, 3);
	EXPECT_EQ(0x23, ops_take(g));
	pulse(g, 6);
	EXPECT_EQ(-1, ops_take(g));
	ops_out(g, 0x21, 1 << 3);
	EXPECT_EQ(-1, ops_take(g));
	ops_out(g, 0x20, 0x68);
	EXPECT_EQ(0x26, ops_take(g));
	ops_out(g, 0x20, 0x48);			/* off again */
	ops_out(g, 0x21, 0);
	EXPECT_EQ(1 << 3 | 1 << 6, isr(g, 0x20));
	pulse(g, 5);
	EXPECT_EQ(-1, ops_take(g));
}

TEST_F(pic, poll)
{
	struct guest *g = &self->g;
	uint8_t got;

	init(g, 1, 0xffff);
	ops_out(g, 0x20, 0x0c);
	EXPECT_EQ(0, ops_in(g, 0x20) & 0x80);
	pulse(g, 5);
	ops_out(g, 0x20, 0x0c);
	got = ops_in(g, 0x20);
	EXPECT_EQ(5, got & 7);
	EXPECT_EQ(0, irr(g, 0x20));
	EXPECT_EQ(-1, ops_take(g));
	/* It was an acknowledge cycle. In-tree KVM ends the interrupt with it, and says nothing of one. */
	if (!self->keel)
		return;
	EXPECT_EQ(0x85, got);
	EXPECT_EQ(1 << 5, isr(g, 0x20));
}

TEST_F(pic, level_triggered)
{
	struct guest *g = &self->g;

	init(g, 1, 0xffff);
	ops_out(g, 0x4d0, 0xff);
	ops_out(g, 0x4d1, 0xff);
	/* Timer, keyboard and cascade, RTC and FPU are edges for ever. */
	EXPECT_EQ(0xf8, ops_in(g, 0x4d0));
	EXPECT_EQ(0xde, ops_in(g, 0x4d1));
	ops_out(g, 0x4d0, 1 << 5);
	line(g, 5, 1);
	EXPECT_EQ(0x25, ops_take(g));
	EXPECT_EQ(1 << 5, irr(g, 0x20) & 1 << 5);
	EXPECT_EQ(-1, ops_take(g));
	ops_out(g, 0x20, 0x20);
	EXPECT_EQ(0x25, ops_take(g));
	line(g, 5, 0);
	ops_out(g, 0x20, 0x20);
	EXPECT_EQ(-1, ops_take(g));
	/* An edge waits, however long the line is down again. */
	pulse(g, 6);
	EXPECT_EQ(0x26, ops_take(g));
	ops_out(g, 0x20, 0x20);
	/* High for long it is one. */
	line(g, 6, 1);
	EXPECT_EQ(0x26, ops_take(g));
	ops_out(g, 0x20, 0x20);
	EXPECT_EQ(-1, ops_take(g));
	line(g, 6, 0);
}

TEST_F(pic, initialization)
{
	struct guest *g = &self->g;

	init(g, 1, 0xffff);
	pulse(g, 3);
	EXPECT_EQ(0x23, ops_take(g));
	pulse(g, 4);
	/* ICW1 forgets masks and requests by edges. */
	ops_out(g, 0x21, 0xff);
	ops_out(g, 0x20, 0x11);
	ops_out(g, 0x21, 0x37);			/* the low three bits are the line's */
	ops_out(g, 0x21, 4);
	ops_out(g, 0x21, 1);
	EXPECT_EQ(0, ops_in(g, 0x21));
	EXPECT_EQ(0, irr(g, 0x20));
	ops_out(g, 0x20, 0x20);
	pulse(g, 6);
	EXPECT_EQ(0x36, ops_take(g));
}

/* --- PIT */

static uint16_t count16(struct guest *g, int n)
{
	uint16_t low = ops_in(g, 0x40 + n);

	return low | ops_in(g, 0x40 + n) << 8;
}

TEST_F(pic, pit_reads)
{
	struct guest *g = &self->g;
	uint16_t a, b;

	/* Channel 2 by its gate; low byte, then high byte; mode 2, so that it goes round */
	ops_out(g, 0x61, 1);
	ops_out(g, 0x43, 0xb4);
	ops_out(g, 0x42, 0);
	ops_out(g, 0x42, 0);
	ops_out(g, 0x43, 0x80);			/* latched: the same, however late it is read */
	usleep(1000);
	ops_out(g, 0x43, 0x80);			/* a second latch before the read is ignored */
	a = count16(g, 2);
	b = count16(g, 2);
	/* 1193 in a millisecond, modulo 2^16: the machine may have been busy between the two */
	EXPECT_LE(1100, (uint16_t)(a - b));
	/* Only the low byte, only the high byte */
	ops_out(g, 0x43, 0x94);
	ops_out(g, 0x42, 0x10);
	EXPECT_LE(ops_in(g, 0x42), 0x10);
	ops_out(g, 0x43, 0xa4);
	ops_out(g, 0x42, 0xff);
	EXPECT_LE(0x80, ops_in(g, 0x42));
	EXPECT_LE(0x80, ops_in(g, 0x42));
}

TEST_F(pic, pit_read_back)
{
	static const uint8_t modes[] = { 0, 2, 3, 4 };
	struct guest *g = &self->g;
	uint8_t status;
	uint16_t a;
	int i;

	ops_out(g, 0x61, 1);
	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		ops_out(g, 0x43, 0xb0 | modes[i] << 1);
		ops_out(g, 0x42, 0xff);
		ops_out(g, 0x42, 0xff);
		ops_out(g, 0x43, 0xe8);		/* status of channel 2, not its count */
		status = ops_in(g, 0x42);
		EXPECT_EQ(0x30 | modes[i] << 1, status & 0x3e);
		/* Both at once: the status is read first. */
		ops_out(g, 0x43, 0xc8);
		EXPECT_EQ(0x30 | modes[i] << 1, ops_in(g, 0x42) & 0x3e);
		a = count16(g, 2);
		EXPECT_NE(0, a);
	}
	/* 6 and 7 are 2 and 3. */
	ops_out(g, 0x43, 0xbc);
	ops_out(g, 0x43, 0xe8);
	status = ops_in(g, 0x42);
	if (self->keel)
		EXPECT_EQ(2 << 1, status & 0xe);
	/* The control register itself reads as nothing. */
	EXPECT_EQ(0, ops_in(g, 0x43));
}

static int output(struct guest *g)
{
	return ops_in(g, 0x61) >> 5 & 1;
}

TEST_F(pic, pit_output)
{
	struct guest *g = &self->g;
	int i, seen = 0;

	/* Mode 0: low until the count is over */
	ops_out(g, 0x61, 1);
	EXPECT_EQ(1, ops_in(g, 0x61) & 3);
	ops_out(g, 0x43, 0xb0);
	ops_out(g, 0x42, 0xff);
	ops_out(g, 0x42, 0xff);
	EXPECT_EQ(0, output(g));
	usleep(60000);
	EXPECT_EQ(1, output(g));
	/* Mode 3: half the time each; 1 ms here */
	ops_out(g, 0x43, 0xb6);
	ops_out(g, 0x42, 0xa9);
	ops_out(g, 0x42, 0x04);
	for (i = 0; i < 1000 && seen != 3; i++)
		seen |= 1 << output(g);
	EXPECT_EQ(3, seen);
	/* The refresh bit toggles, the speaker's bit keeps what it is given. */
	for (i = seen = 0; i < 1000 && seen != 3; i++)
		seen |= 1 << (ops_in(g, 0x61) >> 4 & 1);
	EXPECT_EQ(3, seen);
	ops_out(g, 0x61, 2);
	EXPECT_EQ(2, ops_in(g, 0x61) & 3);
}

TEST_F(pic, pit_gate)
{
	struct guest *g = &self->g;
	uint16_t a, b;

	if (!self->keel)
		SKIP(return, "in-tree KVM counts on");
	/* Mode 0: it stands still while the gate is low, then goes on from there. */
	ops_out(g, 0x61, 1);
	ops_out(g, 0x43, 0xb0);
	ops_out(g, 0x42, 0xff);
	ops_out(g, 0x42, 0xff);
	ops_out(g, 0x61, 0);
	a = count16(g, 2);
	usleep(60000);
	EXPECT_EQ(a, count16(g, 2));
	EXPECT_EQ(0, output(g));
	ops_out(g, 0x61, 1);
	b = count16(g, 2);
	EXPECT_LE(b, a);
	EXPECT_EQ(0, output(g));
	usleep(60000);
	EXPECT_EQ(1, output(g));
	/* Loaded while it is low: it starts with the gate. Mode 3 shows a high output meanwhile. */
	ops_out(g, 0x61, 0);
	ops_out(g, 0x43, 0xb6);
	ops_out(g, 0x42, 0);
	ops_out(g, 0x42, 0x80);
	EXPECT_EQ(0x8000, count16(g, 2));
	usleep(2000);
	EXPECT_EQ(0x8000, count16(g, 2));
	EXPECT_EQ(1, output(g));
	/* In the periodic modes a rising gate starts anew. */
	ops_out(g, 0x61, 1);
	usleep(2000);
	EXPECT_NE(0x8000, count16(g, 2));
	ops_out(g, 0x61, 0);
	ops_out(g, 0x61, 1);
	ops_out(g, 0x61, 0);
	EXPECT_LE(0x4000, count16(g, 2));
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

/* Channel 0: once in modes 0 and 4, again and again in modes 2 and 3. */
TEST_F(pic, pit_interrupts)
{
	static const int once[] = { 0, 4 }, many[] = { 2, 3 };
	struct guest *g = &self->g;
	int i, n;

	init(g, 3, 1);
	for (i = 0; i < 2; i++) {
		ops_out(g, 0x43, 0x30 | once[i] << 1);
		ops_out(g, 0x40, 0xa9);
		ops_out(g, 0x40, 0x04);
		EXPECT_EQ(0x20, take_soon(g));
		usleep(10000);
		EXPECT_EQ(-1, ops_take(g));
	}
	for (i = 0; i < 2; i++) {
		ops_out(g, 0x43, 0x30 | many[i] << 1);
		ops_out(g, 0x40, 0xa9);
		ops_out(g, 0x40, 0x04);
		for (n = 0; n < 4; n++)
			EXPECT_EQ(0x20, take_soon(g));
	}
}

TEST_HARNESS_MAIN
