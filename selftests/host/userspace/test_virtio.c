// SPDX-License-Identifier: GPL-2.0-only
/*
 * The virtio transport and the split rings, with the entropy device at the other end: what a driver
 * may do, and every rule of the rings that a hostile one may break, each of which must end in
 * NEEDS_RESET, and in a device that works again after a reset.
 */
#include <errno.h>
#include <linux/virtio_pci.h>

#include "driver.h"
#include "tap.h"

#define COMMON(field)	offsetof(struct virtio_pci_common_cfg, field)

static struct machine m;
static struct drv d;

static void setup(void)
{
	drv_machine(&m);
	CHECK_EQ(keel_rng_create(m.pci, true), 0);
	drv_find(&d, &m, 1);
}

static bool works(void)
{
	struct drv_buf buf = { DRV_DATA, 64, true };
	uint8_t *data = drv_at(&d, DRV_DATA);
	bool any = false;

	memset(data, 0, 64);
	if (drv_do(&d, 0, &buf, 1) != 64)
		return false;
	for (int i = 0; i < 64; i++)
		any |= data[i];
	return any;
}

static void negotiation(void)
{
	setup();
	CHECK_EQ(drv_status(&d), 0);
	CHECK_EQ(d.queues, 1);
	CHECK(drv_offered(&d) & VIRTIO_BIT(VIRTIO_F_VERSION_1));
	/* legacy drivers, and features that nobody offered, do not get past FEATURES_OK */
	CHECK(!drv_start(&d, VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX), 64));
	CHECK(!drv_start(&d, drv_offered(&d) | VIRTIO_BIT(40), 64));
	CHECK(drv_start(&d, 0, 64));
	CHECK(works());
	/* features are final; a status cannot be taken back */
	drv_write(&d, COMMON(guest_feature_select), 0, 4);
	drv_write(&d, COMMON(guest_feature), 0, 4);
	CHECK(drv_read(&d, COMMON(guest_feature), 4) != 0);
	drv_write(&d, COMMON(device_status), 1, 1);
	CHECK_EQ(drv_status(&d), 0xf);
	/* DRIVER_OK without features: no */
	drv_write(&d, COMMON(device_status), 0, 1);
	drv_write(&d, COMMON(device_status), 0x7, 1);
	CHECK_EQ(drv_status(&d), 0x3);
	drv_machine_end(&m);
}

static void with_features(void)
{
	static const uint64_t sets[] = {
		VIRTIO_BIT(VIRTIO_F_VERSION_1),
		VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX),
		VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC),
	};

	setup();
	for (unsigned int i = 0; i < 3; i++) {
		CHECK(drv_start(&d, sets[i], 16));
		/* around the ring several times, and 16-bit indexes around once */
		for (int n = 0; n < (i ? 100 : 70000); n++)
			if (!works()) {
				CHECK(!"works");
				break;
			}
		CHECK(m.line[1]);		/* slot 1 is on the second line */
		CHECK_EQ(drv_read(&d, 0x1000, 1), 1);
		CHECK(!m.line[1]);
		CHECK_EQ(drv_read(&d, 0x1000, 1), 0);
	}
	drv_machine_end(&m);
}

static void suppressed(void)
{
	struct drv_buf buf = { DRV_DATA, 64, true };

	setup();
	CHECK(drv_start(&d, VIRTIO_BIT(VIRTIO_F_VERSION_1), 16));
	drv_avail(&d, 0)->flags = VRING_AVAIL_F_NO_INTERRUPT;
	CHECK(works());
	CHECK(!m.line[1]);
	/* by event index: an interrupt for the third from now on, and for no other */
	CHECK(drv_start(&d, 0, 16));
	drv_avail(&d, 0)->ring[16] = 2;
	CHECK_EQ(drv_do(&d, 0, &buf, 1), 64);
	CHECK_EQ(drv_do(&d, 0, &buf, 1), 64);
	CHECK(!m.line[1]);
	CHECK_EQ(drv_do(&d, 0, &buf, 1), 64);
	CHECK(m.line[1]);
	/* and the device says from which chain on it wants kicks */
	CHECK_EQ(*(uint16_t *)&drv_used(&d, 0)->ring[16], 3);
	drv_machine_end(&m);
}

static void indirect(void)
{
	struct vring_desc *table;

	setup();
	CHECK(drv_start(&d, 0, 16));
	table = drv_at(&d, DRV_DATA + 0x1000);
	table[0] = (struct vring_desc) { DRV_DATA, 10, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2 };
	table[2] = (struct vring_desc) { DRV_DATA + 100, 20, VRING_DESC_F_WRITE, 0 };
	drv_desc(&d, 0)[5] = (struct vring_desc) {
		DRV_DATA + 0x1000, 3 * sizeof(*table), VRING_DESC_F_INDIRECT, 0,
	};
	drv_avail(&d, 0)->ring[0] = 5;
	drv_avail(&d, 0)->idx = d.avail[0] = 1;
	drv_kick(&d, 0);
	drv_poll(&d);
	CHECK_EQ(drv_take(&d, 0, NULL), 30);
	drv_machine_end(&m);
}

/* Each breaks one rule on a running device whose queue has 16 entries. */
struct crime {
	const char *what;
	struct vring_desc desc[3];
	uint16_t head, idx;
	bool no_indirect;
};

#define IN	VRING_DESC_F_WRITE
#define NEXT	VRING_DESC_F_NEXT
#define TABLE	VRING_DESC_F_INDIRECT

static const struct crime crimes[] = {
	{ "beyond memory", { { DRV_MEMORY - 8, 16, IN, 0 } }, 0, 1, false },
	{ "far beyond memory", { { ~0ULL - 4, 16, IN, 0 } }, 0, 1, false },
	{ "address wraps", { { ~0ULL, 0xffffffff, IN, 0 } }, 0, 1, false },
	{ "a hole", { { 0xd0000000, 16, IN, 0 } }, 0, 1, false },
	{ "head out of range", { { DRV_DATA, 16, IN, 0 } }, 16, 1, false },
	{ "head far out of range", { { DRV_DATA, 16, IN, 0 } }, 0xffff, 1, false },
	{ "next out of range", { { DRV_DATA, 16, IN | NEXT, 16 } }, 0, 1, false },
	{ "a circle", { { DRV_DATA, 16, IN | NEXT, 1 }, { DRV_DATA, 16, IN | NEXT, 0 } }, 0, 1, false },
	{ "a circle of nothing", { { DRV_DATA, 0, IN | NEXT, 0 } }, 0, 1, false },
	{ "out after in", { { DRV_DATA, 16, IN | NEXT, 1 }, { DRV_DATA, 16, 0, 0 } }, 0, 1, false },
	{ "too much available", { { DRV_DATA, 16, IN, 0 } }, 0, 17, false },
	{ "index ran back", { { DRV_DATA, 16, IN, 0 } }, 0, 0xffff, false },
	{ "indirect not negotiated", { { DRV_DATA, 16, TABLE, 0 } }, 0, 1, true },
	{ "indirect with next", { { DRV_DATA, 16, TABLE | NEXT, 1 } }, 0, 1, false },
	{ "indirect of no size", { { DRV_DATA, 0, TABLE, 0 } }, 0, 1, false },
	{ "indirect of an odd size", { { DRV_DATA, 17, TABLE, 0 } }, 0, 1, false },
	{ "indirect too large", { { DRV_DATA, 16 * 1025, TABLE, 0 } }, 0, 1, false },
	{ "indirect beyond memory", { { DRV_MEMORY - 16, 32, TABLE, 0 } }, 0, 1, false },
};

static void hostile_rings(void)
{
	setup();
	for (size_t i = 0; i < sizeof(crimes) / sizeof(crimes[0]); i++) {
		const struct crime *c = &crimes[i];

		CHECK(drv_start(&d, c->no_indirect ? VIRTIO_BIT(VIRTIO_F_VERSION_1) : 0, 16));
		drv_read(&d, 0x1000, 1);
		memcpy(drv_desc(&d, 0), c->desc, sizeof(c->desc));
		drv_avail(&d, 0)->ring[0] = c->head;
		drv_avail(&d, 0)->idx = c->idx;
		drv_kick(&d, 0);
		drv_poll(&d);
		if (!(drv_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET) ||
		    drv_used(&d, 0)->idx || drv_read(&d, 0x1000, 1) != 2) {
			printf("# %s: status %x\n", c->what, drv_status(&d));
			CHECK(!"NEEDS_RESET, nothing used, and a configuration interrupt");
		}
		/* dead until reset */
		drv_write(&d, COMMON(device_status), 0xf, 1);
		CHECK(drv_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
		CHECK(drv_start(&d, 0, 16));
		CHECK(works());
	}
	drv_machine_end(&m);
}

/* An indirect table in an indirect table, and one that is a circle. */
static void hostile_tables(void)
{
	static const struct vring_desc inner[] = {
		{ DRV_DATA, 16, TABLE, 0 }, { DRV_DATA + 0x2000, 16, IN | NEXT, 0 },
		{ DRV_DATA + 0x2000, 16, IN | NEXT, 1 },
	};

	setup();
	for (size_t i = 0; i < sizeof(inner) / sizeof(inner[0]); i++) {
		CHECK(drv_start(&d, 0, 16));
		*(struct vring_desc *)drv_at(&d, DRV_DATA + 0x1000) = inner[i];
		drv_desc(&d, 0)[0] = (struct vring_desc) { DRV_DATA + 0x1000, 16, TABLE, 0 };
		drv_avail(&d, 0)->idx = 1;
		drv_kick(&d, 0);
		drv_poll(&d);
		CHECK(drv_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
	}
	drv_machine_end(&m);
}

static void hostile_registers(void)
{
	static const uint64_t bad[][3] = {
		{ 0x10000, 0x14000, DRV_MEMORY }, { 0x10000, DRV_MEMORY - 2, 0x15000 },
		{ DRV_MEMORY - 16, 0x14000, 0x15000 }, { 0x10008, 0x14000, 0x15000 },
		{ 0x10000, 0x14001, 0x15000 }, { 0x10000, 0x14000, 0x15002 }, { ~0ULL, ~0ULL, ~0ULL },
	};

	setup();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		drv_write(&d, COMMON(device_status), 0, 1);
		for (int r = 0; r < 3; r++) {
			drv_write(&d, COMMON(queue_desc_lo) + 8 * r, bad[i][r], 4);
			drv_write(&d, COMMON(queue_desc_hi) + 8 * r, bad[i][r] >> 32, 4);
		}
		drv_write(&d, COMMON(queue_enable), 1, 2);
		CHECK(drv_status(&d) & VIRTIO_CONFIG_S_NEEDS_RESET);
		CHECK_EQ(drv_read(&d, COMMON(queue_enable), 2), 0);
	}
	/* sizes: no power of two, zero, more than there are */
	drv_write(&d, COMMON(device_status), 0, 1);
	drv_write(&d, COMMON(queue_size), 3, 2);
	drv_write(&d, COMMON(queue_size), 0, 2);
	drv_write(&d, COMMON(queue_size), 512, 2);
	CHECK_EQ(drv_read(&d, COMMON(queue_size), 2), 256);
	/* queues and vectors that are not there */
	drv_write(&d, COMMON(queue_select), 1, 2);
	CHECK_EQ(drv_read(&d, COMMON(queue_size), 2), 0);
	drv_write(&d, COMMON(queue_enable), 1, 2);
	drv_write(&d, COMMON(queue_select), 0xffff, 2);
	drv_write(&d, COMMON(queue_size), 16, 2);
	drv_write(&d, COMMON(msix_config), 2, 2);
	CHECK_EQ(drv_read(&d, COMMON(msix_config), 2), 0xffff);
	drv_write(&d, COMMON(msix_config), 1, 2);
	CHECK_EQ(drv_read(&d, COMMON(msix_config), 2), 1);
	/* notifications of queues that are not there, or do not run */
	drv_write(&d, 0x3000, 0, 2);
	drv_write(&d, 0x3ffc, 0, 2);
	drv_write(&d, 0x3004, 0, 4);
	drv_poll(&d);
	/* a queue that runs cannot be moved */
	CHECK(drv_start(&d, 0, 16));
	drv_write(&d, COMMON(queue_select), 0, 2);
	drv_write(&d, COMMON(queue_desc_lo), ~0u, 4);
	drv_write(&d, COMMON(queue_size), 256, 2);
	CHECK(works());
	drv_machine_end(&m);
}

/* Registers by way of configuration space, as firmware without memory accesses does it. */
static void config_window(void)
{
	unsigned int cap;

	setup();
	for (cap = d.dev->config[PCI_CAPS]; cap && d.dev->config[cap + 3] != VIRTIO_PCI_CAP_PCI_CFG;)
		cap = d.dev->config[cap + 1];
	CHECK(cap);
	for (unsigned int bar = 0; bar < 2; bar++) {
		uint32_t value, address = 0x80000000u | 1 << 11;
		const struct { uint32_t at, size, value; } steps[] = {
			{ 4, 1, bar }, { 8, 4, COMMON(device_status) }, { 12, 4, 1 }, { 16, 1, 3 },
		};

		for (int i = 0; i < 4; i++) {
			uint32_t to = address | (cap + steps[i].at), v = steps[i].value;

			keel_bus_access(m.bus, KEEL_PIO, 0xcf8, &to, 4, true);
			keel_bus_access(m.bus, KEEL_PIO, 0xcfc, &v, steps[i].size, true);
		}
		keel_bus_access(m.bus, KEEL_PIO, 0xcfc, &value, 4, false);
		if (!bar)
			CHECK_EQ(value & 0xff, 3);
		CHECK_EQ(drv_status(&d), 3);
	}
	drv_machine_end(&m);
}

TESTS(TEST(negotiation), TEST(with_features), TEST(suppressed), TEST(indirect),
      TEST(hostile_rings), TEST(hostile_tables), TEST(hostile_registers), TEST(config_window));
