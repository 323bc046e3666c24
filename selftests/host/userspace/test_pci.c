// SPDX-License-Identifier: GPL-2.0-only
/*
 * The PCI bus as a guest sees it: configuration mechanism 1, sizing and moving BARs, pins that share a
 * line, and MSI-X with a host that only notes what it is told.
 */
#include <errno.h>
#include <poll.h>

#include "libkeel.h"
#include "loop.h"
#include "pci.h"
#include "tap.h"

#define VECTORS	4

static struct {
	int attached[64];		/* eventfd by GSI, or 0 */
	uint64_t address[64];
	uint32_t data[64];
	int gsis;
} host_seen;

static int host_gsi(void *opaque)
{
	(void)opaque;
	return ++host_seen.gsis;
}

static void host_route(void *opaque, int gsi, uint64_t address, uint32_t data)
{
	(void)opaque;
	host_seen.address[gsi] = address;
	host_seen.data[gsi] = data;
}

static void host_irqfd(void *opaque, int fd, int gsi, bool attach)
{
	(void)opaque;
	CHECK_EQ(host_seen.attached[gsi], attach ? 0 : fd);
	host_seen.attached[gsi] = attach ? fd : 0;
}

static int host_ioeventfd(void *opaque, bool io, uint64_t address, unsigned int size, int fd,
			  bool attach)
{
	(void)opaque; (void)io; (void)address; (void)size; (void)fd; (void)attach;
	return -ENOSYS;
}

static const struct keel_host host = {
	.gsi_alloc = host_gsi, .msi_route = host_route, .irqfd = host_irqfd,
	.ioeventfd = host_ioeventfd,
};

static bool lines[16];

static void line_set(void *controller, unsigned int line, bool level)
{
	(void)controller;
	CHECK(lines[line] != level);
	lines[line] = level;
}

/* A device with a BAR of memory, one of ports and MSI-X. */
struct probe {
	struct keel_pci_dev pci;
	uint64_t last_offset, last_value, moved_to;
	unsigned int last_bar;
};

static uint64_t probe_read(struct keel_pci_dev *dev, unsigned int bar, uint64_t offset,
			   unsigned int size)
{
	struct probe *p = (struct probe *)dev;

	(void)size;
	p->last_bar = bar;
	p->last_offset = offset;
	return 0x1234;
}

static void probe_write(struct keel_pci_dev *dev, unsigned int bar, uint64_t offset,
			uint64_t value, unsigned int size)
{
	struct probe *p = (struct probe *)dev;

	(void)size;
	p->last_bar = bar;
	p->last_offset = offset;
	p->last_value = value;
}

static void probe_moved(struct keel_pci_dev *dev, unsigned int bar, uint64_t address, bool mapped)
{
	if (bar == 0)
		((struct probe *)dev)->moved_to = mapped ? address : 0;
}

static void probe_destroy(struct keel_pci_dev *dev)
{
	free(dev);
}

static const struct keel_pci_ops probe_ops = {
	.name = "probe", .read = probe_read, .write = probe_write, .moved = probe_moved,
	.destroy = probe_destroy,
};

static struct keel_memory *mem;
static struct keel_bus *bus;
static struct keel_pci *pci;
static struct keel_sysports *ports;

static void setup(void)
{
	struct keel_irq irq[2] = {
		{ .set = line_set, .line = 10 }, { .set = line_set, .line = 11 },
	};
	struct keel_power power = { 0 };

	memset(&host_seen, 0, sizeof(host_seen));
	if (keel_memory_create(4 * KEEL_MIB, &mem) || keel_bus_create(&bus) ||
	    keel_pci_create(bus, mem, &host, irq, &pci) ||
	    keel_sysports_create(bus, pci, &power, &ports)) {
		printf("Bail out! %s\n", keel_error());
		exit(1);
	}
}

static void teardown(void)
{
	keel_pci_destroy(pci);
	keel_sysports_destroy(ports);
	keel_bus_destroy(bus);
	keel_memory_destroy(mem);
}

static struct probe *probe_add(unsigned int vectors)
{
	struct probe *p = calloc(1, sizeof(*p));

	p->pci.ops = &probe_ops;
	p->pci.bar[0].size = 0x1000;
	p->pci.bar[2] = (struct keel_pci_bar) { .size = 32, .io = true };
	p->pci.vectors = vectors;
	p->pci.msix_bar = 1;
	p->pci.config[PCI_INT_PIN] = 1;
	keel_pci_set16(&p->pci, PCI_VENDOR, 0x1af4);
	if (keel_pci_add(pci, &p->pci)) {
		printf("Bail out! %s\n", keel_error());
		exit(1);
	}
	return p;
}

static uint64_t get(enum keel_space space, uint64_t addr, unsigned int size)
{
	uint64_t value = 0;

	keel_bus_access(bus, space, addr, &value, size, false);
	return value;
}

static void set(enum keel_space space, uint64_t addr, uint64_t value, unsigned int size)
{
	keel_bus_access(bus, space, addr, &value, size, true);
}

static uint32_t cfg_get(unsigned int slot, unsigned int offset, unsigned int size)
{
	set(KEEL_PIO, 0xcf8, 0x80000000u | slot << 11 | (offset & ~3u), 4);
	return get(KEEL_PIO, 0xcfc + (offset & 3), size);
}

static void cfg_set(unsigned int slot, unsigned int offset, uint32_t value, unsigned int size)
{
	set(KEEL_PIO, 0xcf8, 0x80000000u | slot << 11 | (offset & ~3u), 4);
	set(KEEL_PIO, 0xcfc + (offset & 3), value, size);
}

static void mechanism(void)
{
	setup();
	probe_add(0);
	CHECK_EQ(cfg_get(0, 0, 4), 0x12378086);
	CHECK_EQ(cfg_get(0, 0xa, 2), 0x0600);
	CHECK_EQ(cfg_get(1, 0, 2), 0x1af4);
	CHECK_EQ(cfg_get(2, 0, 4), 0xffffffff);
	CHECK_EQ(get(KEEL_PIO, 0xcf8, 4), 0x80000000u | 2 << 11);
	/* without the enable bit, another bus, another function: nobody */
	set(KEEL_PIO, 0xcf8, 0, 4);
	CHECK_EQ(get(KEEL_PIO, 0xcfc, 4), 0xffffffff);
	set(KEEL_PIO, 0xcf8, 0x80010000, 4);
	CHECK_EQ(get(KEEL_PIO, 0xcfc, 4), 0xffffffff);
	set(KEEL_PIO, 0xcf8, 0x80000100, 4);
	CHECK_EQ(get(KEEL_PIO, 0xcfc, 4), 0xffffffff);
	/* bytes do not reach the address register; identity is read-only */
	set(KEEL_PIO, 0xcf8, 0x80000000, 4);
	set(KEEL_PIO, 0xcfa, 0xff, 1);
	CHECK_EQ(get(KEEL_PIO, 0xcf8, 4), 0x80000000);
	cfg_set(1, 0, 0xdeadbeef, 4);
	CHECK_EQ(cfg_get(1, 0, 2), 0x1af4);
	cfg_set(1, 0xfc, 0xffffffff, 4);
	CHECK_EQ(cfg_get(1, 0xfc, 4), 0);
	teardown();
}

static void bars(void)
{
	struct probe *p;
	uint32_t base, io;

	setup();
	p = probe_add(0);
	base = cfg_get(1, 0x10, 4);
	io = cfg_get(1, 0x18, 4);
	CHECK(base >= KEEL_PCI_MEM && !(base & 0xfff));
	CHECK_EQ(p->moved_to, base);
	CHECK_EQ(io & 3, 1);
	CHECK_EQ(cfg_get(1, 4, 2) & 7, 3);
	/* size, as a guest finds it; meanwhile nothing answers */
	cfg_set(1, 0x10, 0xffffffff, 4);
	CHECK_EQ(cfg_get(1, 0x10, 4), 0xfffff000);
	CHECK_EQ(p->moved_to, 0);
	CHECK_EQ(get(KEEL_MMIO, base, 4), 0xffffffff);
	cfg_set(1, 0x18, 0xffffffff, 4);
	CHECK_EQ(cfg_get(1, 0x18, 4), 0xffffffe1);
	cfg_set(1, 0x18, io, 4);
	cfg_set(1, 0x14, 0xffffffff, 4);
	CHECK_EQ(cfg_get(1, 0x14, 4), 0);
	/* elsewhere in the window, up to its last page */
	base = KEEL_PCI_MEM + KEEL_PCI_MEM_SIZE - 0x1000;
	cfg_set(1, 0x10, base, 4);
	CHECK_EQ(p->moved_to, base);
	CHECK_EQ(get(KEEL_MMIO, base + 0xff8, 8), 0x1234);
	CHECK_EQ(p->last_offset, 0xff8);
	CHECK_EQ(get(KEEL_MMIO, base + 0xffc, 8) & 0xff, 0x34);
	set(KEEL_PIO, (io & ~3u) + 28, 77, 4);
	CHECK_EQ(p->last_bar, 2);
	CHECK_EQ(p->last_offset, 28);
	CHECK_EQ(p->last_value, 77);
	/* outside of the window, or with decoding off */
	cfg_set(1, 0x10, 0x1000, 4);
	CHECK_EQ(p->moved_to, 0);
	cfg_set(1, 0x10, base, 4);
	cfg_set(1, 4, 0, 2);
	CHECK_EQ(p->moved_to, 0);
	CHECK_EQ(get(KEEL_PIO, io & ~3u, 4), 0xffffffff);
	teardown();
}

static void pins(void)
{
	struct probe *p[3];

	setup();
	for (int i = 0; i < 3; i++)
		p[i] = probe_add(0);		/* slots 1 to 3: lines 11, 10, 11 */
	CHECK_EQ(cfg_get(1, PCI_INT_LINE, 1), 11);
	keel_pci_pin(&p[0]->pci, true);
	CHECK(lines[11] && !lines[10]);
	keel_pci_pin(&p[2]->pci, true);
	keel_pci_pin(&p[0]->pci, false);
	CHECK(lines[11]);
	CHECK_EQ(cfg_get(3, 6, 2) & 8, 8);
	CHECK_EQ(cfg_get(1, 6, 2) & 8, 0);
	/* the interrupt disable bit takes it off the line, and gives it back */
	cfg_set(3, 4, 0x400, 2);
	CHECK(!lines[11]);
	CHECK_EQ(cfg_get(3, 6, 2) & 8, 8);
	cfg_set(3, 4, 0, 2);
	CHECK(lines[11]);
	keel_pci_pin(&p[2]->pci, false);
	CHECK(!lines[11]);
	teardown();
}

static void msix(void)
{
	unsigned int cap, control;
	struct probe *p;
	uint64_t table;
	int fd;

	setup();
	p = probe_add(VECTORS);
	cap = cfg_get(1, PCI_CAPS, 1);
	control = cap + 2;
	CHECK_EQ(cfg_get(1, 6, 2) & 0x10, 0x10);
	CHECK_EQ(cfg_get(1, cap, 1), 0x11);
	CHECK_EQ(cfg_get(1, control, 2), VECTORS - 1);
	CHECK_EQ(cfg_get(1, cap + 4, 4), 1);
	table = cfg_get(1, 0x14, 4);
	CHECK_EQ(get(KEEL_MMIO, table + 12, 4), 1);	/* masked after reset */
	fd = keel_msix_fd(&p->pci, 1);
	CHECK_EQ(keel_msix_fd(&p->pci, VECTORS), -1);

	set(KEEL_MMIO, table + 16, 0xfee01003, 4);
	set(KEEL_MMIO, table + 24, 0x4021, 4);
	set(KEEL_MMIO, table + 28, 0, 4);
	CHECK_EQ(host_seen.gsis, 0);			/* not enabled yet */
	cfg_set(1, control, 0x8000, 2);
	CHECK_EQ(host_seen.gsis, 1);
	CHECK_EQ(host_seen.attached[1], fd);
	CHECK_EQ(host_seen.address[1], 0xfee01000);
	CHECK_EQ(host_seen.data[1], 0x4021);
	/* masked, a signal is pending; unmasked, the kernel sees it */
	set(KEEL_MMIO, table + 28, 1, 4);
	CHECK_EQ(host_seen.attached[1], 0);
	keel_eventfd_signal(fd);
	CHECK_EQ(get(KEEL_MMIO, table + 0x800, 4), 2);
	CHECK_EQ(get(KEEL_MMIO, table + 0x800, 8), 2);
	set(KEEL_MMIO, table + 24, 0x4031ull, 8);	/* new data, and unmasked */
	CHECK_EQ(host_seen.attached[1], fd);
	CHECK_EQ(host_seen.data[1], 0x4031);
	CHECK_EQ(host_seen.gsis, 1);
	/* the function mask masks all */
	cfg_set(1, control, 0xc000, 2);
	CHECK_EQ(host_seen.attached[1], 0);
	cfg_set(1, control, 0x8000, 2);
	CHECK_EQ(host_seen.attached[1], fd);
	/* odd accesses do nothing */
	set(KEEL_MMIO, table + 24, 0xff, 1);
	set(KEEL_MMIO, table + 16 * VECTORS, 0xff, 4);
	CHECK_EQ(get(KEEL_MMIO, table + 16 * VECTORS, 4), 0);
	CHECK_EQ(get(KEEL_MMIO, table + 26, 4), 0);
	CHECK_EQ(get(KEEL_MMIO, table + 24, 4), 0x4031);
	teardown();
	CHECK_EQ(host_seen.attached[1], 0);
}

static void full_bus(void)
{
	struct probe extra = { .pci = { .ops = &probe_ops, .bar[0].size = 16 } };
	unsigned int lines_seen = 0;

	setup();
	for (int i = 1; i < 32; i++)
		probe_add(1);
	CHECK_EQ(keel_pci_add(pci, &extra.pci), -ENOSPC);
	for (int i = 0; i < 32; i++)
		lines_seen += cfg_get(i, 0, 4) != 0xffffffff;
	CHECK_EQ(lines_seen, 32);
	teardown();
}

TESTS(TEST(mechanism), TEST(bars), TEST(pins), TEST(msix), TEST(full_bus));
