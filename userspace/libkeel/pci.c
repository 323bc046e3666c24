// SPDX-License-Identifier: GPL-2.0-only
/*
 * The PCI host bridge: configuration mechanism 1 (PCI 3.0, 3.2.2.3.2) with one bus, the devices' BARs
 * (6.2.5) and their interrupt pins (2.2.6).
 *
 * There is no firmware, so keel_pci_add() does its work: it gives each BAR an address in one of two
 * windows, which the DSDT names too, and a line to the pin. A guest may move BARs about within the
 * windows. The bus (bus.c) never changes, so all of a window is one region of it, and an access looks
 * the BAR up here. A BAR outside of its window answers nowhere.
 *
 * All pins end at two ISA interrupts, by the slot's lowest bit: lines that the PIC has as well as the
 * I/O APIC, level-triggered, shared by wired-or.
 *
 * Locks: pci->lock guards the configuration spaces and where BARs are; it is not held when registers
 * are accessed, and devices stay to the end, so no reference is needed. irq_lock guards the pins.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "pci.h"

#define ADDRESS_ENABLE	0x80000000u
#define LINES		2
#define NO_VALUE	UINT64_MAX

struct keel_pci {
	const struct keel_host *host;
	struct keel_memory *memory;
	pthread_rwlock_t lock;
	struct keel_pci_dev *slot[PCI_SLOTS];
	uint32_t address;		/* port 0xcf8 */
	uint32_t next_mem, next_io;	/* for BARs that come */
	pthread_mutex_t irq_lock;
	struct keel_irq irq[LINES];
	unsigned int driven[LINES];	/* pins that drive the line */
};

struct keel_memory *keel_pci_memory(const struct keel_pci *pci)
{
	return pci->memory;
}

struct keel_pci_dev *keel_pci_slot(const struct keel_pci *pci, unsigned int slot)
{
	return slot < PCI_SLOTS ? pci->slot[slot] : NULL;
}

const struct keel_host *keel_pci_host(const struct keel_pci *pci)
{
	return pci->host;
}

unsigned int keel_pci_irq(unsigned int slot)
{
	return slot % LINES ? KEEL_PCI_IRQ_ODD : KEEL_PCI_IRQ_EVEN;
}

/* Configuration space ---------------------------------------------------------------------- */

void keel_pci_set16(struct keel_pci_dev *dev, unsigned int offset, uint16_t value)
{
	memcpy(dev->config + offset, &value, sizeof(value));
}

void keel_pci_set32(struct keel_pci_dev *dev, unsigned int offset, uint32_t value)
{
	memcpy(dev->config + offset, &value, sizeof(value));
}

uint32_t keel_pci_get(const struct keel_pci_dev *dev, unsigned int offset, unsigned int size)
{
	uint32_t value = 0;

	memcpy(&value, dev->config + offset, size);
	return value;
}

unsigned int keel_pci_capability(struct keel_pci_dev *dev, uint8_t id, unsigned int size)
{
	unsigned int at = dev->cap_end ? dev->cap_end : PCI_FREE;

	if (dev->cap_last)
		dev->config[dev->cap_last + 1] = at;
	else
		dev->config[PCI_CAPS] = at;
	dev->config[PCI_STATUS] |= PCI_STATUS_CAPS;
	dev->config[at] = id;
	dev->cap_last = at;
	dev->cap_end = (at + size + 3) & ~3u;
	return at;
}

static bool in_window(const struct keel_pci_bar *bar, uint32_t address)
{
	uint32_t base = bar->io ? KEEL_PCI_IO : KEEL_PCI_MEM;
	uint32_t size = bar->io ? KEEL_PCI_IO_SIZE : KEEL_PCI_MEM_SIZE;

	return address >= base && address - base <= size - bar->size;
}

/* The command register or a BAR has changed; the lock is held. */
static void bars_update(struct keel_pci_dev *dev)
{
	uint16_t command = keel_pci_get(dev, PCI_COMMAND, 2);

	for (unsigned int i = 0; i < PCI_BARS; i++) {
		struct keel_pci_bar *bar = &dev->bar[i];
		uint32_t address = keel_pci_get(dev, PCI_BAR + 4 * i, 4);
		bool mapped;

		if (!bar->size)
			continue;
		address &= ~(bar->size - 1);
		mapped = command & (bar->io ? PCI_COMMAND_IO : PCI_COMMAND_MEM) &&
			 in_window(bar, address);
		if (mapped == bar->mapped && address == bar->address)
			continue;
		if (bar->mapped && dev->ops->moved)
			dev->ops->moved(dev, i, bar->address, false);
		bar->mapped = mapped;
		bar->address = address;
		if (mapped && dev->ops->moved)
			dev->ops->moved(dev, i, address, true);
	}
}

static struct keel_pci_dev *config_target(const struct keel_pci *pci, unsigned int *offset)
{
	uint32_t address = pci->address;

	if (!(address & ADDRESS_ENABLE) || address & 0x00ff0700)
		return NULL;	/* another bus, or a function but the first */
	*offset += address & 0xfc;
	return pci->slot[address >> 11 & (PCI_SLOTS - 1)];
}

static uint64_t config_read(struct keel_pci *pci, unsigned int offset, unsigned int size)
{
	struct keel_pci_dev *dev;
	uint64_t value = NO_VALUE;

	pthread_rwlock_rdlock(&pci->lock);
	dev = config_target(pci, &offset);
	pthread_rwlock_unlock(&pci->lock);
	if (!dev)
		return value;
	/* outside of the lock: it may be a window to the registers */
	if (dev->ops->config_read)
		dev->ops->config_read(dev, offset, size);
	pthread_rwlock_rdlock(&pci->lock);
	value = keel_pci_get(dev, offset, size);
	pthread_rwlock_unlock(&pci->lock);
	return value;
}

static void pins_update(struct keel_pci_dev *dev);

static void config_write(struct keel_pci *pci, unsigned int offset, uint64_t value,
			 unsigned int size)
{
	struct keel_pci_dev *dev;

	pthread_rwlock_wrlock(&pci->lock);
	dev = config_target(pci, &offset);
	for (unsigned int i = offset; dev && i < offset + size; i++, value >>= 8)
		dev->config[i] = (dev->config[i] & ~dev->writable[i]) |
				 (value & dev->writable[i]);
	if (dev && offset < PCI_BAR + 4 * PCI_BARS)
		bars_update(dev);
	if (dev && dev->msix)
		keel_msix_config_written(dev, offset, size);
	pthread_rwlock_unlock(&pci->lock);
	if (!dev)
		return;
	pins_update(dev);
	if (dev->ops->config_written)
		dev->ops->config_written(dev, offset, size);
}

/* Ports 0xcf8 to 0xcff; the address register answers to whole words only. */
uint64_t keel_pci_port_read(struct keel_pci *pci, uint64_t offset, unsigned int size)
{
	uint64_t value = NO_VALUE;

	if (offset >= 4)
		return config_read(pci, offset - 4, size);
	if (offset == 0 && size == 4) {
		pthread_rwlock_rdlock(&pci->lock);
		value = pci->address;
		pthread_rwlock_unlock(&pci->lock);
	}
	return value;
}

void keel_pci_port_write(struct keel_pci *pci, uint64_t offset, uint64_t value, unsigned int size)
{
	if (offset >= 4) {
		config_write(pci, offset - 4, value, size);
	} else if (offset == 0 && size == 4) {
		pthread_rwlock_wrlock(&pci->lock);
		pci->address = value & (ADDRESS_ENABLE | 0xfffffc);
		pthread_rwlock_unlock(&pci->lock);
	}
}

/* Registers -------------------------------------------------------------------------------- */

static struct keel_pci_dev *bar_find(struct keel_pci *pci, bool io, uint32_t address,
				     unsigned int size, unsigned int *bar, uint64_t *offset)
{
	struct keel_pci_dev *found = NULL;

	pthread_rwlock_rdlock(&pci->lock);
	for (unsigned int s = 0; s < PCI_SLOTS && !found; s++) {
		struct keel_pci_dev *dev = pci->slot[s];

		for (unsigned int i = 0; dev && i < PCI_BARS && !found; i++) {
			const struct keel_pci_bar *b = &dev->bar[i];

			if (!b->mapped || b->io != io || address < b->address ||
			    address - b->address > b->size - size)
				continue;
			found = dev;
			*bar = i;
			*offset = address - b->address;
		}
	}
	pthread_rwlock_unlock(&pci->lock);
	return found;
}

static uint64_t bar_read(struct keel_pci *pci, bool io, uint32_t address, unsigned int size)
{
	struct keel_pci_dev *dev;
	uint64_t offset;
	unsigned int bar;

	dev = bar_find(pci, io, address, size, &bar, &offset);
	if (!dev)
		return NO_VALUE;
	if (dev->msix && bar == dev->msix_bar)
		return keel_msix_read(dev->msix, offset, size);
	return dev->ops->read(dev, bar, offset, size);
}

static void bar_write(struct keel_pci *pci, bool io, uint32_t address, uint64_t value,
		      unsigned int size)
{
	struct keel_pci_dev *dev;
	uint64_t offset;
	unsigned int bar;

	dev = bar_find(pci, io, address, size, &bar, &offset);
	if (!dev)
		return;
	if (dev->msix && bar == dev->msix_bar)
		keel_msix_write(dev->msix, offset, value, size);
	else
		dev->ops->write(dev, bar, offset, value, size);
}

static uint64_t mem_read(void *dev, uint64_t offset, unsigned int size)
{
	return bar_read(dev, false, KEEL_PCI_MEM + offset, size);
}

static void mem_write(void *dev, uint64_t offset, uint64_t value, unsigned int size)
{
	bar_write(dev, false, KEEL_PCI_MEM + offset, value, size);
}

static uint64_t io_read(void *dev, uint64_t offset, unsigned int size)
{
	return bar_read(dev, true, KEEL_PCI_IO + offset, size);
}

static void io_write(void *dev, uint64_t offset, uint64_t value, unsigned int size)
{
	bar_write(dev, true, KEEL_PCI_IO + offset, value, size);
}

static const struct keel_bus_ops mem_ops = {
	.name = "pci", .width = 8, .read = mem_read, .write = mem_write,
};
static const struct keel_bus_ops io_ops = {
	.name = "pci", .width = 4, .read = io_read, .write = io_write,
};

/* Pins ------------------------------------------------------------------------------------- */

static void pins_update(struct keel_pci_dev *dev)
{
	struct keel_pci *pci = dev->pci;
	unsigned int line = dev->slot % LINES;
	bool drive, before;

	pthread_mutex_lock(&pci->irq_lock);
	drive = dev->level && !(dev->config[PCI_COMMAND + 1] & PCI_COMMAND_NO_INTX >> 8);
	before = pci->driven[line];
	if (drive != dev->driving)
		pci->driven[line] += drive ? 1 : -1;
	dev->driving = drive;
	if (before != !!pci->driven[line])
		keel_irq_set(&pci->irq[line], !before);
	pthread_mutex_unlock(&pci->irq_lock);
}

void keel_pci_pin(struct keel_pci_dev *dev, bool level)
{
	struct keel_pci *pci = dev->pci;
	bool changed;

	pthread_mutex_lock(&pci->irq_lock);
	changed = dev->level != level;
	dev->level = level;
	pthread_mutex_unlock(&pci->irq_lock);
	if (!changed)
		return;
	pthread_rwlock_wrlock(&pci->lock);
	dev->config[PCI_STATUS] &= ~PCI_STATUS_INTX;
	dev->config[PCI_STATUS] |= level ? PCI_STATUS_INTX : 0;
	pthread_rwlock_unlock(&pci->lock);
	pins_update(dev);
}

/* Devices ---------------------------------------------------------------------------------- */

static int bar_place(struct keel_pci *pci, struct keel_pci_dev *dev, unsigned int i)
{
	struct keel_pci_bar *bar = &dev->bar[i];
	uint32_t *next = bar->io ? &pci->next_io : &pci->next_mem;
	uint32_t address = (*next + bar->size - 1) & ~(bar->size - 1);

	if (!in_window(bar, address))
		return keel_fail(ENOSPC, "%s: no room for its registers", dev->ops->name);
	*next = address + bar->size;
	keel_pci_set32(dev, PCI_BAR + 4 * i, address | (bar->io ? 1 : 0));
	for (unsigned int byte = 0; byte < 4; byte++)
		dev->writable[PCI_BAR + 4 * i + byte] = ~(bar->size - 1) >> (8 * byte);
	return 0;
}

int keel_pci_add(struct keel_pci *pci, struct keel_pci_dev *dev)
{
	unsigned int slot = 0;
	int ret = 0;

	while (slot < PCI_SLOTS && pci->slot[slot])
		slot++;
	if (slot == PCI_SLOTS)
		return keel_fail(ENOSPC, "%s: all %u slots of the PCI bus are taken",
				 dev->ops->name, PCI_SLOTS);
	dev->pci = pci;
	dev->slot = slot;
	if (dev->vectors)
		ret = keel_msix_create(dev);
	for (unsigned int i = 0; i < PCI_BARS && !ret; i++)
		if (dev->bar[i].size)
			ret = bar_place(pci, dev, i);
	if (ret) {
		keel_msix_destroy(dev->msix);
		dev->msix = NULL;
		return ret;
	}
	/* as firmware leaves it: decoding on, and no bus master yet */
	keel_pci_set16(dev, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEM);
	dev->writable[PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MEM | PCI_COMMAND_MASTER;
	dev->writable[PCI_COMMAND + 1] = PCI_COMMAND_NO_INTX >> 8;
	dev->writable[PCI_INT_LINE] = 0xff;
	if (dev->config[PCI_INT_PIN])
		dev->config[PCI_INT_LINE] = keel_pci_irq(slot);
	pci->slot[slot] = dev;
	bars_update(dev);
	return 0;
}

static void bridge_destroy(struct keel_pci_dev *dev)
{
	free(dev);
}

static const struct keel_pci_ops bridge_ops = {
	.name = "host bridge", .destroy = bridge_destroy,
};

/* The identity of Intel's 440FX, which every guest and firmware takes for a PC's host bridge. */
static int bridge_add(struct keel_pci *pci)
{
	struct keel_pci_dev *dev = calloc(1, sizeof(*dev));
	int ret;

	if (!dev)
		return keel_fail(ENOMEM, "out of memory");
	dev->ops = &bridge_ops;
	keel_pci_set16(dev, PCI_VENDOR, 0x8086);
	keel_pci_set16(dev, PCI_DEVICE, 0x1237);
	dev->config[PCI_REVISION] = 2;
	dev->config[PCI_CLASS + 2] = 0x06;
	ret = keel_pci_add(pci, dev);
	if (ret)
		free(dev);
	return ret;
}

int keel_pci_create(struct keel_bus *bus, struct keel_memory *memory, const struct keel_host *host,
		    const struct keel_irq irq[2], struct keel_pci **out)
{
	struct keel_pci *pci = calloc(1, sizeof(*pci));
	int ret;

	if (!pci)
		return keel_fail(ENOMEM, "out of memory");
	pci->host = host;
	pci->memory = memory;
	pci->next_mem = KEEL_PCI_MEM;
	pci->next_io = KEEL_PCI_IO;
	memcpy(pci->irq, irq, sizeof(pci->irq));
	pthread_rwlock_init(&pci->lock, NULL);
	pthread_mutex_init(&pci->irq_lock, NULL);
	ret = bridge_add(pci);
	if (!ret)
		ret = keel_bus_add(bus, KEEL_MMIO, KEEL_PCI_MEM, KEEL_PCI_MEM_SIZE, &mem_ops, pci);
	if (!ret)
		ret = keel_bus_add(bus, KEEL_PIO, KEEL_PCI_IO, KEEL_PCI_IO_SIZE, &io_ops, pci);
	if (ret) {
		keel_pci_destroy(pci);
		return ret;
	}
	*out = pci;
	return 0;
}

void keel_pci_destroy(struct keel_pci *pci)
{
	if (!pci)
		return;
	for (unsigned int s = 0; s < PCI_SLOTS; s++) {
		struct keel_pci_dev *dev = pci->slot[s];
		struct keel_msix *msix = dev ? dev->msix : NULL;

		if (!dev)
			continue;
		/* the model first: its threads signal vectors */
		dev->ops->destroy(dev);
		keel_msix_destroy(msix);
	}
	pthread_mutex_destroy(&pci->irq_lock);
	pthread_rwlock_destroy(&pci->lock);
	free(pci);
}

void keel_pci_list(struct keel_pci *pci, void (*line)(void *opaque, const char *text), void *opaque)
{
	for (unsigned int s = 0; s < PCI_SLOTS; s++) {
		struct keel_pci_dev *dev = pci->slot[s];
		char text[256], more[160] = "";

		if (!dev)
			continue;
		if (dev->ops->describe)
			dev->ops->describe(dev, more, sizeof(more));
		snprintf(text, sizeof(text), "00:%02x.0 %s%s%s", s, dev->ops->name,
			 *more ? " " : "", more);
		line(opaque, text);
	}
}
