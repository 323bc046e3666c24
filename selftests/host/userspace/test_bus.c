// SPDX-License-Identifier: GPL-2.0-only
/* The bus: lookup, widths, edges, overlaps; and the small devices that hang on it. */
#include <errno.h>

#include "libkeel.h"
#include "tap.h"

static struct { uint64_t offset, value; unsigned int size; bool write; } seen[16];
static unsigned int seen_count;

static uint64_t probe_read(void *dev, uint64_t offset, unsigned int size)
{
	(void)dev;
	seen[seen_count % 16].offset = offset;
	seen[seen_count % 16].size = size;
	seen[seen_count++ % 16].write = false;
	return 0x10 + offset;
}

static void probe_write(void *dev, uint64_t offset, uint64_t value, unsigned int size)
{
	(void)dev;
	seen[seen_count % 16].offset = offset;
	seen[seen_count % 16].size = size;
	seen[seen_count % 16].value = value;
	seen[seen_count++ % 16].write = true;
}

static const struct keel_bus_ops byte_ops = {
	.name = "bytes", .width = 1, .read = probe_read, .write = probe_write,
};
static const struct keel_bus_ops word_ops = {
	.name = "words", .width = 4, .read = probe_read, .write = probe_write,
};

static struct keel_bus *bus_create(void)
{
	struct keel_bus *bus;

	if (keel_bus_create(&bus)) {
		printf("Bail out! %s\n", keel_error());
		exit(1);
	}
	seen_count = 0;
	return bus;
}

static uint64_t bus_read(struct keel_bus *bus, uint64_t addr, unsigned int size)
{
	uint64_t value = 0;

	keel_bus_access(bus, KEEL_PIO, addr, &value, size, false);
	return value;
}

static void bus_write(struct keel_bus *bus, uint64_t addr, uint64_t value, unsigned int size)
{
	keel_bus_access(bus, KEEL_PIO, addr, &value, size, true);
}

static void unclaimed_floats(void)
{
	struct keel_bus *bus = bus_create();

	CHECK_EQ(bus_read(bus, 0x123, 1), 0xff);
	CHECK_EQ(bus_read(bus, 0x123, 2), 0xffff);
	CHECK_EQ(bus_read(bus, 0xcfc, 4), 0xffffffff);
	CHECK_EQ(bus_read(bus, UINT64_MAX, 8), UINT64_MAX);
	keel_bus_destroy(bus);
}

static void widths_and_edges(void)
{
	struct keel_bus *bus = bus_create();

	CHECK_EQ(keel_bus_add(bus, KEEL_PIO, 0x200, 4, &byte_ops, NULL), 0);
	CHECK_EQ(keel_bus_add(bus, KEEL_PIO, 0x100, 8, &word_ops, NULL), 0);
	/* in one piece */
	CHECK_EQ(bus_read(bus, 0x104, 4), 0x14);
	CHECK_EQ(seen_count, 1);
	CHECK_EQ(seen[0].size, 4);
	/* too wide for the device: bytes, lowest first */
	CHECK_EQ(bus_read(bus, 0x200, 4), 0x13121110);
	CHECK_EQ(seen_count, 5);
	CHECK_EQ(seen[4].offset, 3);
	/* across the upper and the lower edge */
	CHECK_EQ(bus_read(bus, 0x106, 4), 0xffff1716);
	CHECK_EQ(bus_read(bus, 0xff, 2), 0x10ff);
	seen_count = 0;
	bus_write(bus, 0x202, 0xbbaa, 2);
	CHECK_EQ(seen_count, 2);
	CHECK(seen[0].write && seen[1].write);
	CHECK_EQ(seen[0].value, 0xaa);
	CHECK_EQ(seen[1].value, 0xbb);
	/* nobody: nothing arrives */
	bus_write(bus, 0x204, 1, 1);
	CHECK_EQ(seen_count, 2);
	/* the other space is another world */
	keel_bus_access(bus, KEEL_MMIO, 0x200, &(uint8_t){ 1 }, 1, true);
	CHECK_EQ(seen_count, 2);
	keel_bus_destroy(bus);
}

static void overlaps(void)
{
	struct keel_bus *bus = bus_create();

	CHECK_EQ(keel_bus_add(bus, KEEL_MMIO, 0x1000, 0x1000, &word_ops, NULL), 0);
	CHECK_EQ(keel_bus_add(bus, KEEL_MMIO, 0x1fff, 1, &word_ops, NULL), -EEXIST);
	CHECK_EQ(keel_bus_add(bus, KEEL_MMIO, 0xfff, 2, &word_ops, NULL), -EEXIST);
	CHECK_EQ(keel_bus_add(bus, KEEL_MMIO, 0, 0x10000, &word_ops, NULL), -EEXIST);
	CHECK_EQ(keel_bus_add(bus, KEEL_MMIO, 0x1400, 4, &word_ops, NULL), -EEXIST);
	CHECK_EQ(keel_bus_add(bus, KEEL_MMIO, 0x2000, 0, &word_ops, NULL), -EINVAL);
	CHECK_EQ(keel_bus_add(bus, KEEL_MMIO, UINT64_MAX, 2, &word_ops, NULL), -EINVAL);
	CHECK_EQ(keel_bus_add(bus, KEEL_MMIO, 0xfff, 1, &word_ops, NULL), 0);
	CHECK_EQ(keel_bus_add(bus, KEEL_MMIO, 0x2000, 1, &word_ops, NULL), 0);
	CHECK_EQ(keel_bus_add(bus, KEEL_MMIO, UINT64_MAX, 1, &word_ops, NULL), 0);
	keel_bus_destroy(bus);
}

/* System ports ----------------------------------------------------------------------------- */

static unsigned int resets, exits, exit_status;

static void count_reset(void *opaque, const char *how)
{
	(void)opaque;
	(void)how;
	resets++;
}

static void count_exit(void *opaque, unsigned int status)
{
	(void)opaque;
	exits++;
	exit_status = status;
}

static const struct keel_power power = { .reset = count_reset, .exit = count_exit };

static void system_ports(void)
{
	struct keel_bus *bus = bus_create();
	struct keel_sysports *ports;

	resets = exits = 0;
	CHECK_EQ(keel_sysports_create(bus, NULL, &power, &ports), 0);
	bus_write(bus, 0x80, 0x55, 1);
	bus_write(bus, 0xf4, 0x1234, 2);
	bus_write(bus, 0xf5, 1, 1);
	bus_write(bus, 0x92, 0x02, 1);
	/* PCI configuration addresses are no reset, whatever their second byte is */
	bus_write(bus, 0xcf8, 0x80000600, 4);
	bus_write(bus, 0xcf9, 0x02, 1);
	CHECK_EQ(bus_read(bus, 0xcf9, 1), 0x02);
	CHECK_EQ(resets, 0);
	CHECK_EQ(exits, 0);
	CHECK_EQ(bus_read(bus, 0xcf8, 4), 0xffffffff);
	CHECK_EQ(bus_read(bus, 0xcfc, 2), 0xffff);
	CHECK_EQ(bus_read(bus, 0x92, 1), 0x02);
	bus_write(bus, 0xcf9, 0x06, 1);
	CHECK_EQ(resets, 1);
	bus_write(bus, 0x92, 0x01, 1);
	CHECK_EQ(resets, 2);
	bus_write(bus, 0xf4, 0, 1);
	CHECK_EQ(exits, 1);
	CHECK_EQ(exit_status, 0);
	bus_write(bus, 0xf4, 0xff, 1);
	CHECK_EQ(exit_status, 255);
	keel_sysports_destroy(ports);
	keel_bus_destroy(bus);
}

/* Keyboard controller ---------------------------------------------------------------------- */

static unsigned int irq_level, irq_edges;

static void irq_set(void *controller, unsigned int line, bool level)
{
	(void)controller;
	(void)line;
	irq_edges += level && !irq_level;
	irq_level = level;
}

/* A command, and its answer if one is ready at once (it must be: nobody here has time to wait). */
static int command(struct keel_bus *bus, uint8_t cmd)
{
	bus_write(bus, 0x64, cmd, 1);
	CHECK_EQ(bus_read(bus, 0x64, 1) & 0x02, 0);
	return bus_read(bus, 0x64, 1) & 0x01 ? (int)bus_read(bus, 0x60, 1) : -1;
}

static void keyboard_controller(void)
{
	struct keel_irq irq = { .set = irq_set };
	struct keel_bus *bus = bus_create();
	struct keel_i8042 *kbc;

	resets = 0;
	CHECK_EQ(keel_i8042_create(&irq, &power, &kbc), 0);
	CHECK_EQ(keel_bus_add(bus, KEEL_PIO, 0x60, KEEL_I8042_PORTS, &keel_i8042_ops, kbc), 0);
	CHECK_EQ(bus_read(bus, 0x64, 1) & 0x03, 0);
	CHECK_EQ(bus_read(bus, 0x61, 1), 0xff);
	CHECK_EQ(command(bus, 0xaa), 0x55);
	CHECK_EQ(command(bus, 0xab), 0x00);
	CHECK(command(bus, 0xa9) != 0x00);
	/* the control byte reads back */
	CHECK_EQ(command(bus, 0x60), -1);
	bus_write(bus, 0x60, 0x45, 1);
	CHECK_EQ(command(bus, 0x20), 0x45);
	/* no AUX port: what is looped through it does not come back */
	CHECK_EQ(command(bus, 0xd3), -1);
	bus_write(bus, 0x60, 0x5a, 1);
	CHECK(bus_read(bus, 0x60, 1) != 0x5a);
	/* no keyboard: an answer that is no acknowledgement, with an interrupt */
	irq_edges = 0;
	bus_write(bus, 0x60, 0xf2, 1);
	CHECK_EQ(irq_level, 1);
	CHECK(bus_read(bus, 0x60, 1) != 0xfa);
	CHECK_EQ(irq_level, 0);
	CHECK_EQ(irq_edges, 1);
	CHECK_EQ(resets, 0);
	CHECK_EQ(command(bus, 0xff), -1);
	CHECK_EQ(resets, 0);
	command(bus, 0xfe);
	CHECK_EQ(resets, 1);
	command(bus, 0xd1);
	bus_write(bus, 0x60, 0x02, 1);
	CHECK_EQ(resets, 2);
	keel_i8042_destroy(kbc);
	keel_bus_destroy(bus);
}

TESTS(TEST(unclaimed_floats), TEST(widths_and_edges), TEST(overlaps), TEST(system_ports),
      TEST(keyboard_controller));
