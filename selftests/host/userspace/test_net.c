// SPDX-License-Identifier: GPL-2.0-only
/*
 * Network cards with a backend that notes and makes frames: virtio with and without offloads, the
 * PCnet by its registers and rings, and the table of the switch.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <stddef.h>

#include "driver.h"
#include "net/learn.h"
#include "net/net.h"
#include "tap.h"

#define BUFS	DRV_DATA

static struct machine m;
static struct drv d;
static struct keel_net *backend;
static uint8_t sent[VNET_FRAME_MAX];
static size_t sent_size;
static unsigned int sent_count;

static int net_plug(struct keel_net *net)
{
	(void)net;
	return 0;
}

static void net_send(struct keel_net *net, const struct iovec *iov, unsigned int count)
{
	(void)net;
	sent_size = iov_gather(iov, count, sent, sizeof(sent));
	sent_count++;
}

static void net_offload(struct keel_net *net, unsigned int flags)
{
	(void)net;
	(void)flags;
}

static void net_describe(struct keel_net *net, char *text, size_t size)
{
	(void)net;
	snprintf(text, size, "test");
}

static void net_end(struct keel_net *net)
{
	free(net);
}

static const struct keel_net_ops net_ops = {
	.name = "test", .plug = net_plug, .send = net_send, .offload = net_offload,
	.describe = net_describe, .destroy = net_end,
};

static void setup(bool vnet)
{
	drv_machine(&m);
	backend = calloc(1, sizeof(*backend));
	backend->ops = &net_ops;
	backend->tap = -1;
	backend->vnet = vnet;
	memcpy(backend->mac, "\x52\x54\0\1\2\3", 6);
	sent_count = 0;
}

static void virtio_setup(bool vnet)
{
	setup(vnet);
	CHECK_EQ(keel_vnet_create(m.pci, backend, false, true), 0);
	drv_find(&d, &m, 1);
	CHECK(drv_start(&d, 0, 16));
}

static bool incoming(const void *frame, size_t size)
{
	return backend->receive(backend->card, frame, size);
}

static void virtio_plain(void)
{
	struct drv_buf out[] = { { BUFS, 12, false }, { BUFS + 0x100, 100, false } };
	struct drv_buf in = { BUFS + 0x2000, 1526, true };
	struct drv_buf large = { BUFS, 12 + FRAME_MAX + 1, false };
	struct virtio_net_hdr_v1 *header;
	uint8_t frame[FRAME_MAX];

	virtio_setup(false);
	CHECK_EQ(drv_read(&d, 0x2000, 4), 0x01005452);
	CHECK(!(drv_offered(&d) & VIRTIO_BIT(VIRTIO_NET_F_CSUM)));
	memset(drv_at(&d, BUFS + 0x100), 0x5a, 100);
	CHECK_EQ(drv_do(&d, 1, out, 2), 0);
	CHECK_EQ(sent_count, 1);
	CHECK_EQ(sent_size, 100);
	CHECK_EQ(sent[99], 0x5a);
	/* header and frame in one; too large a frame, and none at all, go nowhere */
	CHECK_EQ(drv_do(&d, 1, &(struct drv_buf) { BUFS, 112, false }, 1), 0);
	CHECK_EQ(sent_size, 100);
	CHECK_EQ(drv_do(&d, 1, &large, 1), 0);
	CHECK_EQ(drv_do(&d, 1, out, 1), 0);
	CHECK_EQ(sent_count, 2);

	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = i;
	CHECK(!incoming(frame, 60));		/* no buffer */
	drv_add(&d, 0, &in, 1);
	CHECK(incoming(frame, FRAME_MAX));
	CHECK_EQ(drv_take(&d, 0, NULL), 12 + FRAME_MAX);
	header = drv_at(&d, in.gpa);
	CHECK_EQ(header->num_buffers, 1);
	CHECK_EQ(header->flags | header->gso_type, 0);
	CHECK(!memcmp(header + 1, frame, FRAME_MAX));
	CHECK(!incoming(sent, FRAME_MAX + 1));
	drv_machine_end(&m);
}

static void virtio_merged(void)
{
	static uint8_t frame[12 + 4000];
	struct virtio_net_hdr_v1 *header;

	virtio_setup(true);
	CHECK(drv_offered(&d) & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF));
	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = i / 3;
	memset(frame, 0, 12);
	/* three buffers where four are needed: nothing is taken */
	for (int i = 0; i < 3; i++)
		drv_add(&d, 0, &(struct drv_buf) { BUFS + 0x1000 * i, 1024, true }, 1);
	CHECK(!incoming(frame, sizeof(frame)));
	CHECK_EQ(drv_used(&d, 0)->idx, 0);
	drv_add(&d, 0, &(struct drv_buf) { BUFS + 0x3000, 1024, true }, 1);
	CHECK(incoming(frame, sizeof(frame)));
	CHECK_EQ(drv_used(&d, 0)->idx, 4);
	header = drv_at(&d, BUFS);
	CHECK_EQ(header->num_buffers, 4);
	CHECK_EQ(drv_take(&d, 0, NULL), 1024);
	CHECK(!memcmp((uint8_t *)drv_at(&d, BUFS) + 12, frame + 12, 1012));
	CHECK(!memcmp(drv_at(&d, BUFS + 0x2000), frame + 2048, 1024));
	drv_machine_end(&m);
}

/* PCnet ------------------------------------------------------------------------------------ */

#define INIT_BLOCK	(DRV_DATA + 0x100)
#define RX_RING		(DRV_DATA + 0x1000)
#define TX_RING		(DRV_DATA + 0x2000)
#define RX_BUF		(DRV_DATA + 0x10000)
#define TX_BUF		(DRV_DATA + 0x20000)

static uint32_t io;

static uint32_t in(unsigned int offset, unsigned int size)
{
	uint32_t value = 0;

	keel_bus_access(m.bus, KEEL_PIO, io + offset, &value, size, false);
	return value;
}

static void out(unsigned int offset, uint32_t value, unsigned int size)
{
	keel_bus_access(m.bus, KEEL_PIO, io + offset, &value, size, true);
}

static uint16_t csr(unsigned int n)
{
	out(0x12, n, 2);
	return in(0x10, 2);
}

static void csr_set(unsigned int n, uint16_t value)
{
	out(0x12, n, 2);
	out(0x10, value, 2);
}

static void bcr_set(unsigned int n, uint16_t value)
{
	out(0x12, n, 2);
	out(0x16, value, 2);
}

static uint32_t *at32(uint64_t gpa)
{
	return keel_memory_at(m.mem, gpa, 4);
}

static void card_setup(void)
{
	uint32_t address = 0x80000000u | 1 << 11 | PCI_COMMAND, command = 7;

	setup(false);
	CHECK_EQ(keel_pcnet_create(m.pci, backend), 0);
	io = keel_pci_get(keel_pci_slot(m.pci, 1), PCI_BAR, 4) & ~3u;
	keel_bus_access(m.bus, KEEL_PIO, 0xcf8, &address, 4, true);
	keel_bus_access(m.bus, KEEL_PIO, 0xcfc, &command, 2, true);
}

/* Four receive and four transmit descriptors in 32-bit style. */
static void card_start(void)
{
	uint32_t *block = at32(INIT_BLOCK);

	bcr_set(20, 2);
	memset(block, 0, 28);
	block[0] = 2 << 20 | 2u << 28;
	memcpy(block + 1, backend->mac, 6);
	block[5] = RX_RING;
	block[6] = TX_RING;
	for (int i = 0; i < 4; i++) {
		uint32_t *rx = at32(RX_RING + 16 * i);

		rx[0] = RX_BUF + 0x800 * i;
		rx[1] = 0x80000000u | 0xf000 | (-1536 & 0xfff);
	}
	memset(at32(TX_RING), 0, 64);
	csr_set(1, INIT_BLOCK & 0xffff);
	csr_set(2, INIT_BLOCK >> 16);
	csr_set(0, 1);
	CHECK_EQ(csr(0) & 0x100, 0x100);
	csr_set(0, 0x42);
	CHECK_EQ(csr(0) & 0x70, 0x70);
}

static void card_registers(void)
{
	uint16_t sum = 0;

	card_setup();
	for (int i = 0; i < 6; i++)
		CHECK_EQ(in(i, 1), backend->mac[i]);
	CHECK_EQ(in(14, 2), 0x5757);
	for (int i = 0; i < 16; i++)
		sum += i == 12 || i == 13 ? 0 : in(i, 1);
	CHECK_EQ(in(12, 2), sum);
	in(0x14, 2);			/* reset */
	CHECK_EQ(csr(0), 4);
	CHECK_EQ(csr(88), 0x1003);
	CHECK_EQ(csr(89), 0x0262);
	CHECK_EQ(csr(12) | (uint32_t)csr(13) << 16, 0x01005452);
	/* 32-bit mode begins with a double word to the data port */
	CHECK_EQ(in(0x14, 4), 0xffffffff);
	out(0x10, 0, 4);
	out(0x14, 88, 4);
	CHECK_EQ(in(0x10, 4), 0x1003);
	drv_machine_end(&m);
}

static void card_frames(void)
{
	uint8_t frame[200] = { 0x52, 0x54, 0, 1, 2, 3 };
	uint32_t *tx, *rx;

	card_setup();
	card_start();
	CHECK(m.line[1]);		/* IDON */
	csr_set(0, 0x7f40);
	CHECK(!m.line[1]);

	/* a frame in two buffers */
	memset(at32(TX_BUF), 0x11, 100);
	tx = at32(TX_RING);
	tx[0] = TX_BUF;
	tx[1] = 0x82000000u | 0xf000 | (-60 & 0xfff);
	tx[4] = TX_BUF + 60;
	tx[5] = 0x81000000u | 0xf000 | (-40 & 0xfff);
	csr_set(0, 0x48);
	CHECK_EQ(sent_count, 1);
	CHECK_EQ(sent_size, 100);
	CHECK_EQ((tx[1] | tx[5]) >> 31, 0);
	CHECK_EQ(csr(0) & 0x280, 0x280);
	CHECK(m.line[1]);
	csr_set(0, 0x240);

	/* ours, somebody else's, everybody's, a group's that was not asked for */
	CHECK(incoming(frame, 60));
	rx = at32(RX_RING);
	CHECK_EQ(rx[1] >> 24, 3);
	CHECK_EQ(rx[2] & 0xfff, 64);
	CHECK(!memcmp(at32(RX_BUF), frame, 60));
	frame[5]++;
	CHECK(!incoming(frame, 60));
	memset(frame, 0xff, 6);
	CHECK(incoming(frame, 200));
	CHECK_EQ(rx[6] & 0xfff, 204);
	memcpy(frame, "\1\0\x5e\0\0\1", 6);
	CHECK(!incoming(frame, 60));
	memset(frame, 0xff, 6);
	CHECK(incoming(frame, 20));		/* padded */
	CHECK_EQ(rx[10] & 0xfff, 64);
	CHECK(incoming(frame, 60));
	CHECK(!incoming(frame, 60));		/* no buffer left: a missed frame */
	CHECK_EQ(csr(0) & 0x9000, 0x9000);
	CHECK_EQ(csr(112), 1);
	csr_set(0, 4);
	CHECK_EQ(csr(0), 4);
	CHECK(!m.line[1]);
	CHECK(!incoming(frame, 60));
	drv_machine_end(&m);
}

static void card_hostile(void)
{
	uint8_t frame[60];
	uint32_t *tx, *rx;

	memset(frame, 0xff, sizeof(frame));
	card_setup();
	/* an initialization block that is not in memory */
	csr_set(1, 0xfff0);
	csr_set(2, 0xffff);
	bcr_set(20, 2);
	csr_set(0, 1);
	CHECK_EQ(csr(0) & 0x8900, 0x8800);
	csr_set(0, 4);
	csr_set(0, 0x7f00);
	card_start();
	/* buffers that are not, and a ring that is all owned and never ends a frame */
	tx = at32(TX_RING);
	tx[0] = 0xfffffff0;
	tx[1] = 0x83000000u | 0xf000 | (-60 & 0xfff);
	csr_set(0, 0x48);
	CHECK_EQ(sent_count, 0);
	CHECK_EQ(csr(0) & 0x800, 0x800);
	for (int i = 0; i < 4; i++) {
		tx[4 * i] = TX_BUF;
		tx[4 * i + 1] = 0x80000000u | 0xf000;
	}
	csr_set(0, 0x48);
	CHECK_EQ(sent_count, 0);
	rx = at32(RX_RING);
	rx[0] = KEEL_PCI_MEM;
	CHECK(!incoming(frame, 60));
	/* rings at the end of memory */
	csr_set(0, 4);
	at32(INIT_BLOCK)[5] = DRV_MEMORY - 16;
	at32(INIT_BLOCK)[6] = DRV_MEMORY;
	csr_set(0, 1);
	csr_set(0, 0x4a);
	CHECK(!incoming(frame, 60));
	drv_machine_end(&m);
}

/* The switch ------------------------------------------------------------------------------- */

static uint8_t *ether(const char *to, const char *from)
{
	static uint8_t frame[60];

	memcpy(frame, to, 6);
	memcpy(frame + 6, from, 6);
	return frame;
}

static void learning(void)
{
	struct keel_learn *learn = keel_learn_create();
	char a[7] = "\2aaaaa", b[7] = "\2bbbbb", all[7] = "\xff\xff\xff\xff\xff\xff", made_up[7] = "\2zzzzz";

	CHECK_EQ(keel_learn_frame(learn, 0, ether(b, a), 60, 0), KEEL_LEARN_FLOOD);
	CHECK_EQ(keel_learn_frame(learn, 1, ether(a, b), 60, 1), 0);
	CHECK_EQ(keel_learn_frame(learn, 0, ether(b, a), 60, 2), 1);
	CHECK_EQ(keel_learn_frame(learn, 0, ether(all, a), 60, 2), KEEL_LEARN_FLOOD);
	/* back to where it came from: no */
	CHECK_EQ(keel_learn_frame(learn, 1, ether(b, b), 60, 2), KEEL_LEARN_DROP);
	CHECK_EQ(keel_learn_frame(learn, 1, ether(a, b), 13, 2), KEEL_LEARN_DROP);
	/* it moved; it is old; it is gone */
	CHECK_EQ(keel_learn_frame(learn, 2, ether(b, a), 60, 3), 1);
	CHECK_EQ(keel_learn_frame(learn, 1, ether(a, b), 60, 4), 2);
	CHECK_EQ(keel_learn_frame(learn, 1, ether(a, b), 60, 400), KEEL_LEARN_FLOOD);
	CHECK_EQ(keel_learn_frame(learn, 2, ether(b, a), 60, 401), 1);
	keel_learn_forget(learn, 1);
	CHECK_EQ(keel_learn_frame(learn, 2, ether(b, a), 60, 402), KEEL_LEARN_FLOOD);
	/* group addresses are not learned */
	keel_learn_frame(learn, 1, ether(a, all), 60, 402);
	CHECK_EQ(keel_learn_frame(learn, 2, ether(all, a), 60, 402), KEEL_LEARN_FLOOD);
	/* a guest that makes up addresses */
	for (unsigned int i = 0; i < 100000; i++) {
		memcpy(made_up + 1, &i, 4);
		keel_learn_frame(learn, 3, ether(all, made_up), 60, 403);
	}
	CHECK_EQ(keel_learn_frame(learn, 1, ether(made_up, b), 60, 403), 3);
	keel_learn_destroy(learn);
}

TESTS(TEST(virtio_plain), TEST(virtio_merged), TEST(card_registers), TEST(card_frames),
      TEST(card_hostile), TEST(learning));
