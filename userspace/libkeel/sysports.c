// SPDX-License-Identifier: GPL-2.0-only
/*
 * The single-byte system ports of a PC, each a few lines, and the exit port.
 *
 * 0x80 is where the BIOS shows progress and where Linux writes to pass a microsecond. 0x92 has
 * "fast A20" and a reset bit, 0xcf9 the chipset's reset register (only byte accesses mean it: all
 * others from 0xcf8 on are PCI configuration, for pci.c). 0xf4 is the exit port: a byte
 * written there ends `keel run` with that byte as its exit status, so that a guest can report how
 * its work went without any device driver. Accesses wider than a byte are no exit request.
 *
 * No locks: the bytes kept are independent, and atomic.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "internal.h"

#define PORT_POST	0x80
#define PORT_A20	0x92
#define PORT_RESET	KEEL_PORT_RESET
#define PORT_PCI	0xcf8

#define A20_RESET	0x01
#define A20_ENABLED	0x02
#define RESET_SYSTEM	0x02	/* hard, not only INIT */
#define RESET_CPU	0x04	/* the rising edge resets */

struct keel_sysports {
	struct keel_pci *pci;
	struct keel_power power;
	atomic_uchar a20, reset;
};

static uint64_t floating_read(void *dev, uint64_t offset, unsigned int size)
{
	(void)dev;
	(void)offset;
	return size < 8 ? (1ULL << (8 * size)) - 1 : UINT64_MAX;
}

static void post_write(void *dev, uint64_t offset, uint64_t value, unsigned int size)
{
	(void)dev;
	(void)offset;
	(void)value;
	(void)size;
}

static const struct keel_bus_ops post_ops = {
	.name = "post", .width = 4, .read = floating_read, .write = post_write,
};

static uint64_t a20_read(void *dev, uint64_t offset, unsigned int size)
{
	struct keel_sysports *ports = dev;

	(void)offset;
	(void)size;
	return ports->a20;
}

static void a20_write(void *dev, uint64_t offset, uint64_t value, unsigned int size)
{
	struct keel_sysports *ports = dev;

	(void)offset;
	(void)size;
	ports->a20 = value & A20_ENABLED;	/* A20 itself is always on */
	if (value & A20_RESET)
		ports->power.reset(ports->power.opaque, "port 0x92");
}

static const struct keel_bus_ops a20_ops = {
	.name = "port92", .width = 1, .read = a20_read, .write = a20_write,
};

/* Claims all of 0xcf8 to 0xcff, so that wide PCI accesses are not cut into bytes. */
static uint64_t reset_read(void *dev, uint64_t offset, unsigned int size)
{
	struct keel_sysports *ports = dev;

	if (size == 1 && offset == PORT_RESET - PORT_PCI)
		return ports->reset;
	if (ports->pci)
		return keel_pci_port_read(ports->pci, offset, size);
	return floating_read(dev, offset, size);
}

static void reset_write(void *dev, uint64_t offset, uint64_t value, unsigned int size)
{
	struct keel_sysports *ports = dev;
	uint8_t old;

	if (size != 1 || offset != PORT_RESET - PORT_PCI) {
		if (ports->pci)
			keel_pci_port_write(ports->pci, offset, value, size);
		return;
	}
	old = atomic_exchange(&ports->reset, value & (RESET_SYSTEM | RESET_CPU));
	if (value & RESET_CPU && !(old & RESET_CPU))
		ports->power.reset(ports->power.opaque, "port 0xcf9");
}

static const struct keel_bus_ops reset_ops = {
	.name = "pci/reset", .width = 4, .read = reset_read, .write = reset_write,
};

/* Claims four ports, so that a wide access is seen as what it is. */
static void exit_write(void *dev, uint64_t offset, uint64_t value, unsigned int size)
{
	struct keel_sysports *ports = dev;

	if (size == 1 && offset == 0)
		ports->power.exit(ports->power.opaque, value & 0xff);
}

static const struct keel_bus_ops exit_ops = {
	.name = "exit", .width = 4, .read = floating_read, .write = exit_write,
};

int keel_sysports_create(struct keel_bus *bus, struct keel_pci *pci,
			 const struct keel_power *power, struct keel_sysports **out)
{
	struct keel_sysports *ports = calloc(1, sizeof(*ports));
	int ret;

	if (!ports)
		return keel_fail(ENOMEM, "out of memory");
	ports->pci = pci;
	ports->power = *power;
	ports->a20 = A20_ENABLED;
	ret = keel_bus_add(bus, KEEL_PIO, PORT_POST, 1, &post_ops, ports);
	if (!ret)
		ret = keel_bus_add(bus, KEEL_PIO, PORT_A20, 1, &a20_ops, ports);
	if (!ret)
		ret = keel_bus_add(bus, KEEL_PIO, PORT_PCI, 8, &reset_ops, ports);
	if (!ret)
		ret = keel_bus_add(bus, KEEL_PIO, KEEL_PORT_EXIT, 4, &exit_ops, ports);
	if (ret) {
		free(ports);
		return ret;
	}
	*out = ports;
	return 0;
}

void keel_sysports_destroy(struct keel_sysports *ports)
{
	free(ports);
}
