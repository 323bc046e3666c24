// SPDX-License-Identifier: GPL-2.0-only
/*
 * AMD's PCnet-PCI II, the Am79C970A, as its data sheet has it: a network card that guests know without
 * being told that they are guests, to compare with virtio/net.c.
 *
 * The guest programs it by an address port and two data ports, for control and status registers (CSR)
 * and bus configuration registers (BCR). An initialization block in memory names two rings of
 * descriptors with an owner bit each. The three software styles that drivers use are here: 16 bits
 * (0), 32 bits (2), and 32 bits with the words in another order (3). Left out are the network port
 * managers, counters nobody reads, and polling by timer: the transmit ring is looked at when the
 * driver demands it.
 *
 * The guest's memory is hostile: descriptors are copied, addresses checked, and a ring is gone through
 * once at a time at the most. card->lock guards all; the backend's thread takes it, too.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/net.h"
#include "pci.h"

#define PORTS		32u
#define PROM_SIZE	16u

/* CSR0 */
#define INIT		0x0001
#define STRT		0x0002
#define STOP		0x0004
#define TDMD		0x0008
#define TXON		0x0010
#define RXON		0x0020
#define IENA		0x0040
#define INTR		0x0080
#define IDON		0x0100
#define TINT		0x0200
#define RINT		0x0400
#define MERR		0x0800
#define MISS		0x1000
#define CERR		0x2000
#define BABL		0x4000
#define ERR		0x8000
#define EVENTS		0x7f00		/* cleared by writing ones */

/* CSR15, the mode */
#define MODE_DRX	0x0001
#define MODE_DTX	0x0002
#define MODE_LOOP	0x0004
#define MODE_NO_BCAST	0x4000
#define MODE_PROMISC	0x8000

#define CSR5_SPND	0x0001
#define CHIP_LOW	0x1003		/* CSR88 and CSR89: Am79C970A */
#define CHIP_HIGH	0x0262
#define LINK_UP		0x80c0		/* BCR4: the link's LED is lit */
#define BCR18_DWIO	0x0080

/* Descriptors, word 1 */
#define OWN		0x80000000u
#define D_ERR		0x40000000u
#define D_BUFF		0x04000000u	/* of a received frame: no buffer for its rest */
#define STP		0x02000000u
#define ENP		0x01000000u
#define FCS_SIZE	4u
#define FRAME_ROOM	(FRAME_MAX + FCS_SIZE)
#define FRAME_MIN	60u

struct ring {
	uint32_t base, count, at;
};

struct pcnet {
	struct keel_pci_dev pci;
	struct keel_net *net;
	pthread_mutex_t lock;
	uint8_t prom[PROM_SIZE];
	uint16_t csr[128], bcr[32], rap;
	bool dwio;
	struct ring rx, tx;
	uint8_t frame[FRAME_ROOM];	/* what is being put together */
	unsigned long sent, received;
};

struct descriptor {
	uint32_t gpa, address, flags, misc;
};

static struct pcnet *pcnet_of(struct keel_pci_dev *dev)
{
	return (struct pcnet *)dev;
}

/* Guest memory ----------------------------------------------------------------------------- */

static bool dma(struct pcnet *card, uint32_t gpa, void *data, size_t size, bool to_guest)
{
	void *host = keel_memory_at(keel_pci_memory(card->pci.pci), gpa, size);

	if (!host || !(card->pci.config[PCI_COMMAND] & PCI_COMMAND_MASTER)) {
		card->csr[0] |= MERR;
		return false;
	}
	if (to_guest)
		memcpy(host, data, size);
	else
		memcpy(data, host, size);
	return true;
}

static unsigned int style(const struct pcnet *card)
{
	return card->bcr[20] & 0xff;
}

static bool descriptor_read(struct pcnet *card, const struct ring *ring, bool tx,
			    struct descriptor *d)
{
	uint32_t word[4];
	uint16_t half[4];

	if (style(card)) {
		d->gpa = ring->base + ring->at * 16;
		if (!dma(card, d->gpa, word, sizeof(word), false))
			return false;
		d->address = word[style(card) == 3 ? 2 : 0];
		d->flags = word[1];
		d->misc = word[style(card) == 3 ? 0 : 2];
		return true;
	}
	d->gpa = ring->base + ring->at * 8;
	if (!dma(card, d->gpa, half, sizeof(half), false))
		return false;
	d->address = half[0] | (half[1] & 0xff) << 16;
	d->flags = (uint32_t)(half[1] & 0xff00) << 16 | half[2];
	d->misc = tx ? (uint32_t)half[3] << 16 : half[3];
	return true;
}

/* The word with the owner goes last. */
static void descriptor_write(struct pcnet *card, bool tx, struct descriptor *d)
{
	uint16_t half;

	if (style(card)) {
		dma(card, d->gpa + (style(card) == 3 ? 0 : 8), &d->misc, 4, true);
		__atomic_thread_fence(__ATOMIC_RELEASE);
		dma(card, d->gpa + 4, &d->flags, 4, true);
		return;
	}
	half = tx ? d->misc >> 16 : d->misc;
	dma(card, d->gpa + 6, &half, 2, true);
	half = (d->flags >> 16 & 0xff00) | (d->address >> 16 & 0xff);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	dma(card, d->gpa + 2, &half, 2, true);
}

/* Buffer lengths are negative numbers of twelve bits; zero is 4096. */
static unsigned int buffer_size(const struct descriptor *d)
{
	return 4096 - (d->flags & 0xfff);
}

static void ring_step(struct ring *ring)
{
	ring->at = ring->at + 1 < ring->count ? ring->at + 1 : 0;
}

/* Receiving -------------------------------------------------------------------------------- */

static uint32_t crc32(const uint8_t *data, size_t size)
{
	uint32_t crc = ~0u;

	while (size--) {
		crc ^= *data++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return crc;
}

static bool wanted(const struct pcnet *card, const uint8_t *to)
{
	static const uint8_t everybody[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	unsigned int hash;

	if (card->csr[15] & MODE_PROMISC)
		return true;
	if (!memcmp(to, everybody, 6))
		return !(card->csr[15] & MODE_NO_BCAST);
	if (!(to[0] & 1))
		return !memcmp(to, &card->csr[12], 6);
	hash = crc32(to, 6) >> 26;
	return card->csr[8 + hash / 16] >> (hash % 16) & 1;
}

/* A frame of @size bytes with its checksum behind it, into as many buffers as it takes. */
static bool deliver(struct pcnet *card, const uint8_t *frame, size_t size)
{
	uint32_t begin = STP;
	struct descriptor d;
	size_t done = 0;

	for (unsigned int n = 0; n < card->rx.count; n++) {
		size_t part = size - done;

		if (!descriptor_read(card, &card->rx, false, &d))
			return n;
		if (!(d.flags & OWN)) {
			card->csr[0] |= MISS;
			card->csr[112]++;
			return n;
		}
		if (part > buffer_size(&d))
			part = buffer_size(&d);
		if (!dma(card, d.address, (void *)(frame + done), part, true))
			return n;
		done += part;
		d.flags = (d.flags & 0xffff) | begin | (done == size ? ENP : 0);
		d.misc = done == size ? size : 0;
		begin = 0;
		ring_step(&card->rx);
		descriptor_write(card, false, &d);
		if (done == size)
			break;
	}
	card->csr[0] |= RINT;
	card->received++;
	return true;
}

static bool frame_in(struct pcnet *card, const uint8_t *data, size_t size)
{
	uint8_t frame[FRAME_ROOM] = { 0 };
	uint32_t fcs;

	if (!(card->csr[0] & RXON) || card->csr[5] & CSR5_SPND || size > FRAME_MAX || size < 14 ||
	    !wanted(card, data))
		return false;
	memcpy(frame, data, size);
	if (size < FRAME_MIN)
		size = FRAME_MIN;
	fcs = ~crc32(frame, size);
	memcpy(frame + size, &fcs, FCS_SIZE);
	return deliver(card, frame, size + FCS_SIZE);
}

/* Interrupts ------------------------------------------------------------------------------- */

static void pin_update(struct pcnet *card)
{
	card->csr[0] &= ~(INTR | ERR);
	if (card->csr[0] & (BABL | CERR | MISS | MERR))
		card->csr[0] |= ERR;
	if (card->csr[0] & EVENTS & ~card->csr[3])
		card->csr[0] |= INTR;
	keel_pci_pin(&card->pci, (card->csr[0] & (INTR | IENA)) == (INTR | IENA));
}

static bool receive(void *opaque, const void *frame, size_t size)
{
	struct pcnet *card = opaque;
	bool ok;

	pthread_mutex_lock(&card->lock);
	ok = frame_in(card, frame, size);
	pin_update(card);
	pthread_mutex_unlock(&card->lock);
	return ok;
}

/* Sending ---------------------------------------------------------------------------------- */

static void frame_out(struct pcnet *card, size_t size)
{
	struct iovec iov = { .iov_base = card->frame, .iov_len = size };

	card->sent++;
	if (card->csr[15] & MODE_LOOP)
		frame_in(card, card->frame, size);
	else
		card->net->ops->send(card->net, &iov, 1);
}

static void transmit(struct pcnet *card)
{
	size_t size = 0;
	bool babble = false;
	struct descriptor d;

	if (!(card->csr[0] & TXON) || card->csr[5] & CSR5_SPND)
		return;
	for (unsigned int n = 0; n < card->tx.count; n++) {
		unsigned int part;

		if (!descriptor_read(card, &card->tx, true, &d) || !(d.flags & OWN))
			return;
		if (d.flags & STP) {
			size = 0;
			babble = false;
		}
		part = buffer_size(&d);
		if (part > FRAME_MAX - size)
			babble = true;
		else if (!dma(card, d.address, card->frame + size, part, false))
			return;
		else
			size += part;
		if (d.flags & ENP && !babble && size)
			frame_out(card, size);
		if (d.flags & ENP)
			card->csr[0] |= TINT | (babble ? BABL : 0);
		d.flags &= ~(OWN | D_ERR);
		d.misc = 0;
		ring_step(&card->tx);
		descriptor_write(card, true, &d);
	}
}

/* Registers -------------------------------------------------------------------------------- */

static void reset(struct pcnet *card)
{
	memset(card->csr, 0, sizeof(card->csr));
	card->csr[0] = STOP;
	card->csr[4] = 0x0115;
	card->csr[80] = 0x1410;
	card->csr[88] = CHIP_LOW;
	card->csr[89] = CHIP_HIGH;
	memcpy(&card->csr[12], card->prom, 6);
	card->rx = card->tx = (struct ring) { .count = 1 };
	card->rap = 0;
}

static void bcr_reset(struct pcnet *card)
{
	static const uint16_t defaults[32] = {
		[0] = 5, [1] = 5, [2] = 2, [4] = LINK_UP, [5] = 0x84, [6] = 0x88, [7] = 0x90,
		[18] = 0x9001, [19] = 2,
	};

	memcpy(card->bcr, defaults, sizeof(defaults));
	card->dwio = false;
}

static void ring_set(struct ring *ring, uint32_t base, unsigned int shift, unsigned int most)
{
	*ring = (struct ring) { .base = base, .count = 1u << (shift < most ? shift : most) };
}

static void initialize(struct pcnet *card)
{
	uint32_t block = card->csr[1] | (uint32_t)card->csr[2] << 16;
	uint8_t b[28];

	if (style(card)) {
		uint32_t rx, tx;

		if (!dma(card, block, b, 28, false))
			return;
		memcpy(&card->csr[12], b + 4, 6);
		memcpy(&card->csr[8], b + 12, 8);
		memcpy(&rx, b + 20, 4);
		memcpy(&tx, b + 24, 4);
		ring_set(&card->rx, rx & ~15u, b[2] >> 4, 9);
		ring_set(&card->tx, tx & ~15u, b[3] >> 4, 9);
	} else {
		if (!dma(card, block & 0xffffff, b, 24, false))
			return;
		memcpy(&card->csr[12], b + 2, 6);
		memcpy(&card->csr[8], b + 8, 8);
		ring_set(&card->rx, (b[16] | b[17] << 8 | b[18] << 16) & ~7u, b[19] >> 5, 7);
		ring_set(&card->tx, (b[20] | b[21] << 8 | b[22] << 16) & ~7u, b[23] >> 5, 7);
	}
	card->csr[15] = b[0] | b[1] << 8;
	card->csr[76] = -card->rx.count;
	card->csr[78] = -card->tx.count;
	card->csr[0] |= IDON;
	card->csr[0] &= ~STOP;
}

static void csr0_write(struct pcnet *card, uint16_t value)
{
	uint16_t *csr0 = &card->csr[0];

	*csr0 &= ~(value & EVENTS);
	*csr0 = (*csr0 & ~IENA) | (value & IENA);
	if (value & STOP) {
		*csr0 = STOP;
		card->csr[5] &= ~CSR5_SPND;
		return;
	}
	if (value & INIT && !(*csr0 & INIT)) {
		*csr0 |= INIT;
		initialize(card);
	}
	if (value & STRT && !(*csr0 & STRT)) {
		*csr0 = (*csr0 & ~STOP) | STRT;
		*csr0 |= card->csr[15] & MODE_DTX ? 0 : TXON;
		*csr0 |= card->csr[15] & MODE_DRX ? 0 : RXON;
		/* the current descriptor is the first one again */
		card->rx.at = card->tx.at = 0;
	}
	if (value & (TDMD | STRT))
		transmit(card);
}

static void csr_write(struct pcnet *card, unsigned int n, uint16_t value)
{
	/* addresses, filter, mode and rings are only for a stopped chip */
	bool stopped = card->csr[0] & (STOP | CSR5_SPND) || card->csr[5] & CSR5_SPND;

	switch (n) {
	case 0:
		csr0_write(card, value);
		break;
	case 1: case 2: case 8: case 9: case 10: case 11: case 12: case 13: case 14: case 15:
		if (stopped)
			card->csr[n] = value;
		break;
	case 3:
		card->csr[3] = value & 0x5f78;
		break;
	case 5:
		card->csr[5] = value & 0x8001;
		break;
	case 58:
		card->bcr[20] = (value & 0xff) | (value & 0xff ? 0x300 : 0x200);
		break;
	case 4: case 80: case 82: case 100: case 124:
		card->csr[n] = value;
		break;
	}
}

static uint16_t csr_read(const struct pcnet *card, unsigned int n)
{
	return n == 58 ? card->bcr[20] : n < 128 ? card->csr[n] : 0;
}

static void bcr_write(struct pcnet *card, unsigned int n, uint16_t value)
{
	switch (n) {
	case 2: case 5: case 6: case 7: case 9: case 19:
		card->bcr[n] = value;
		break;
	case 18:
		card->bcr[18] = (value & ~BCR18_DWIO) | (card->bcr[18] & BCR18_DWIO);
		break;
	case 20:
		if (card->csr[0] & STOP && (value & 0xff) <= 3 && (value & 0xff) != 1)
			card->bcr[20] = (value & 0xff) | (value & 0xff ? 0x300 : 0x200);
		break;
	}
}

static uint16_t bcr_read(const struct pcnet *card, unsigned int n)
{
	return n < 32 ? card->bcr[n] : 0;
}

enum port { RDP, RAP, RESET, BDP, NONE };

/* In which port an access ends: the same four, two bytes apart or four (table 25 of the data sheet). */
static enum port port_of(struct pcnet *card, uint64_t offset, unsigned int size)
{
	unsigned int step = card->dwio ? 4 : 2;

	if (offset < PROM_SIZE || size != step || offset % step || offset >= PROM_SIZE + 4 * step)
		return NONE;
	return (offset - PROM_SIZE) / step;
}

static uint64_t io_read(struct keel_pci_dev *dev, unsigned int bar, uint64_t offset,
			unsigned int size)
{
	struct pcnet *card = pcnet_of(dev);
	uint64_t value = 0;

	(void)bar;
	if (offset + size <= PROM_SIZE) {
		memcpy(&value, card->prom + offset, size);
		return value;
	}
	pthread_mutex_lock(&card->lock);
	switch (port_of(card, offset, size)) {
	case RDP:
		value = csr_read(card, card->rap);
		break;
	case RAP:
		value = card->rap;
		break;
	case RESET:
		reset(card);
		pin_update(card);
		break;
	case BDP:
		value = bcr_read(card, card->rap);
		break;
	case NONE:
		value = ~0ull;
		break;
	}
	pthread_mutex_unlock(&card->lock);
	return value;
}

static void io_write(struct keel_pci_dev *dev, unsigned int bar, uint64_t offset, uint64_t value,
		     unsigned int size)
{
	struct pcnet *card = pcnet_of(dev);

	(void)bar;
	pthread_mutex_lock(&card->lock);
	/* four bytes to the data port make the chip one of double words, until a reset of the bus */
	if (!card->dwio && size == 4 && offset == PROM_SIZE) {
		card->dwio = true;
		card->bcr[18] |= BCR18_DWIO;
	}
	switch (port_of(card, offset, size)) {
	case RDP:
		csr_write(card, card->rap, value);
		break;
	case RAP:
		card->rap = value & 0x7f;
		break;
	case BDP:
		bcr_write(card, card->rap, value);
		break;
	case RESET:
	case NONE:
		break;
	}
	pin_update(card);
	pthread_mutex_unlock(&card->lock);
}

/* Life ------------------------------------------------------------------------------------- */

static void pcnet_destroy(struct keel_pci_dev *dev)
{
	struct pcnet *card = pcnet_of(dev);

	keel_net_destroy(card->net);
	pthread_mutex_destroy(&card->lock);
	free(card);
}

static void describe(struct keel_pci_dev *dev, char *text, size_t size)
{
	struct pcnet *card = pcnet_of(dev);
	const uint8_t *m = card->prom;
	char more[48] = "";

	card->net->ops->describe(card->net, more, sizeof(more));
	snprintf(text, size, "%02x:%02x:%02x:%02x:%02x:%02x, %s", m[0], m[1], m[2], m[3], m[4], m[5],
		 more);
}

static const struct keel_pci_ops ops = {
	.name = "pcnet", .read = io_read, .write = io_write, .describe = describe,
	.destroy = pcnet_destroy,
};

int keel_pcnet_create(struct keel_pci *pci, struct keel_net *net)
{
	struct pcnet *card = calloc(1, sizeof(*card));
	uint16_t sum = 0;
	int ret;

	if (!card) {
		keel_net_destroy(net);
		return keel_fail(ENOMEM, "out of memory");
	}
	card->net = net;
	pthread_mutex_init(&card->lock, NULL);
	memcpy(card->prom, net->mac, 6);
	card->prom[14] = card->prom[15] = 'W';
	for (unsigned int i = 0; i < PROM_SIZE; i++)
		sum += card->prom[i];
	memcpy(card->prom + 12, &sum, 2);
	reset(card);
	bcr_reset(card);
	card->pci.ops = &ops;
	keel_pci_set16(&card->pci, PCI_VENDOR, 0x1022);
	keel_pci_set16(&card->pci, PCI_DEVICE, 0x2000);
	keel_pci_set16(&card->pci, PCI_STATUS, 0x0280);
	card->pci.config[PCI_REVISION] = 0x16;
	card->pci.config[PCI_CLASS + 2] = 0x02;
	card->pci.config[PCI_INT_PIN] = 1;
	card->pci.bar[0] = (struct keel_pci_bar) { .size = PORTS, .io = true };
	card->pci.bar[1] = (struct keel_pci_bar) { .size = PORTS };
	ret = keel_pci_add(pci, &card->pci);
	if (ret) {
		pcnet_destroy(&card->pci);
		return ret;
	}
	return keel_net_plug(net, receive, card);
}
