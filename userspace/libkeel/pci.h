/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a PCI device model is to the rest of libkeel: a configuration space, up to six BARs, a pin
 * and MSI-X vectors. PCI Local Bus Specification 3.0 is meant by all section numbers.
 *
 * A model embeds struct keel_pci_dev, fills in what is said to be its own and calls keel_pci_add().
 * From then on its callbacks come from vCPU threads, several at a time: it takes its own locks.
 */
#ifndef KEEL_PCI_H
#define KEEL_PCI_H

#include <pthread.h>

#include "libkeel.h"

#define PCI_BARS		6
#define PCI_SLOTS		32
#define PCI_CONFIG_SIZE		256

/* The header (6.1) */
#define PCI_VENDOR		0x00
#define PCI_DEVICE		0x02
#define PCI_COMMAND		0x04
#define PCI_COMMAND_IO		0x0001
#define PCI_COMMAND_MEM		0x0002
#define PCI_COMMAND_MASTER	0x0004
#define PCI_COMMAND_NO_INTX	0x0400
#define PCI_STATUS		0x06
#define PCI_STATUS_INTX		0x0008
#define PCI_STATUS_CAPS		0x0010
#define PCI_REVISION		0x08
#define PCI_CLASS		0x09		/* three bytes: interface, sub-class, base class */
#define PCI_HEADER_TYPE		0x0e
#define PCI_BAR			0x10
#define PCI_SUBSYSTEM_VENDOR	0x2c
#define PCI_SUBSYSTEM		0x2e
#define PCI_CAPS		0x34
#define PCI_INT_LINE		0x3c
#define PCI_INT_PIN		0x3d
#define PCI_FREE		0x40		/* where capabilities begin */

struct keel_pci_dev;

struct keel_pci_ops {
	const char *name;
	uint64_t (*read)(struct keel_pci_dev *dev, unsigned int bar, uint64_t offset,
			 unsigned int size);
	void (*write)(struct keel_pci_dev *dev, unsigned int bar, uint64_t offset, uint64_t value,
		      unsigned int size);
	/* BAR @bar now answers at @address, or nowhere any more when !@mapped; may be NULL */
	void (*moved)(struct keel_pci_dev *dev, unsigned int bar, uint64_t address, bool mapped);
	/* an access to the configuration space at [@offset, @offset + @size); may be NULL */
	void (*config_read)(struct keel_pci_dev *dev, unsigned int offset, unsigned int size);
	void (*config_written)(struct keel_pci_dev *dev, unsigned int offset, unsigned int size);
	/* a line of "keel ctl NAME devices", without a newline; may be NULL */
	void (*describe)(struct keel_pci_dev *dev, char *text, size_t size);
	/* the device, with all that it has; no vCPU runs */
	void (*destroy)(struct keel_pci_dev *dev);
};

struct keel_pci_bar {
	uint32_t size;			/* a power of two, from 16 on; 0: none; the model's */
	bool io;			/* ports instead of memory; the model's */
	bool mapped;			/* pci->lock: answers at address */
	uint32_t address;
};

struct keel_msix;

struct keel_pci_dev {
	const struct keel_pci_ops *ops;	/* the model's */
	unsigned int vectors;		/* the model's: of MSI-X, in msix_bar; 0: none */
	unsigned int msix_bar;
	struct keel_pci_bar bar[PCI_BARS];
	/* the model's until keel_pci_add(), then under pci->lock; a set bit of writable is the guest's */
	uint8_t config[PCI_CONFIG_SIZE], writable[PCI_CONFIG_SIZE];
	unsigned int cap_end, cap_last;	/* keel_pci_capability() */

	struct keel_pci *pci;
	unsigned int slot;
	bool level;			/* pci->irq_lock: the pin, as the model drives it */
	bool driving;			/* pci->irq_lock: ... and as the bus sees it */
	struct keel_msix *msix;
};

/**
 * keel_pci_add - plug in a device, at the lowest free slot
 *
 * Gives it addresses and a line, and takes it over: keel_pci_destroy() calls ops->destroy. On
 * failure it is the caller's still.
 */
int keel_pci_add(struct keel_pci *pci, struct keel_pci_dev *dev);

/** keel_pci_capability - append a capability of @size bytes; returns its offset; before adding */
unsigned int keel_pci_capability(struct keel_pci_dev *dev, uint8_t id, unsigned int size);

void keel_pci_set16(struct keel_pci_dev *dev, unsigned int offset, uint16_t value);
void keel_pci_set32(struct keel_pci_dev *dev, unsigned int offset, uint32_t value);
uint32_t keel_pci_get(const struct keel_pci_dev *dev, unsigned int offset, unsigned int size);

/** keel_pci_pin - drive the interrupt pin; from any thread */
void keel_pci_pin(struct keel_pci_dev *dev, bool level);

/** keel_pci_slot - the device in @slot, or NULL */
struct keel_pci_dev *keel_pci_slot(const struct keel_pci *pci, unsigned int slot);

/** keel_pci_memory - guest memory, for a device that may be bus master */
struct keel_memory *keel_pci_memory(const struct keel_pci *pci);
const struct keel_host *keel_pci_host(const struct keel_pci *pci);

/* MSI-X (6.8.2): msix.c -------------------------------------------------------------------- */

#define MSIX_BAR_SIZE		4096u	/* the table, and the pending bits at half of it */
#define MSIX_VECTORS_MAX	64u
#define MSIX_NONE		0xffffu

int keel_msix_create(struct keel_pci_dev *dev);
void keel_msix_destroy(struct keel_msix *msix);
uint64_t keel_msix_read(struct keel_msix *msix, uint64_t offset, unsigned int size);
void keel_msix_write(struct keel_msix *msix, uint64_t offset, uint64_t value, unsigned int size);
/** keel_msix_config_written - the guest wrote [@offset, @offset + @size) of the configuration space */
void keel_msix_config_written(struct keel_pci_dev *dev, unsigned int offset, unsigned int size);
bool keel_msix_enabled(const struct keel_pci_dev *dev);
/** keel_msix_fd - the eventfd that sends @vector's message when it is signalled; -1: no such vector */
int keel_msix_fd(const struct keel_pci_dev *dev, unsigned int vector);

#endif
