/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A small virtio driver for the tests: it finds the device on a PCI bus in this process, and reaches
 * it as a guest does, by its registers and by rings in guest memory. The device has no thread: work
 * is done in drv_poll().
 */
#ifndef DRIVER_H
#define DRIVER_H

#include "libkeel.h"
#include "virtio/virtio.h"

#define DRV_MEMORY	(4 * KEEL_MIB)
#define DRV_DATA	0x100000	/* gpa of buffers: the tests' */

struct machine {
	struct keel_memory *mem;
	struct keel_bus *bus;
	struct keel_pci *pci;
	struct keel_sysports *ports;
	bool line[2];
};

void drv_machine(struct machine *m);
void drv_machine_end(struct machine *m);

struct drv {
	struct machine *m;
	struct keel_pci_dev *dev;
	uint64_t bar;			/* of its registers */
	unsigned int queues;
	uint16_t size[VIRTIO_QUEUES], avail[VIRTIO_QUEUES], used[VIRTIO_QUEUES], desc[VIRTIO_QUEUES];
};

/* The device in @slot, reset; features 0 for all that are offered, else what to take. */
void drv_find(struct drv *d, struct machine *m, unsigned int slot);
uint64_t drv_offered(struct drv *d);
bool drv_start(struct drv *d, uint64_t features, uint16_t size);

uint64_t drv_read(struct drv *d, uint64_t offset, unsigned int size);
void drv_write(struct drv *d, uint64_t offset, uint64_t value, unsigned int size);
uint8_t drv_status(struct drv *d);
void *drv_at(struct drv *d, uint64_t gpa);

/* Where the rings of queue @q are. */
struct vring_desc *drv_desc(struct drv *d, unsigned int q);
struct vring_avail *drv_avail(struct drv *d, unsigned int q);
struct vring_used *drv_used(struct drv *d, unsigned int q);

struct drv_buf {
	uint64_t gpa;
	uint32_t size;
	bool in;
};
/* Offer one chain; returns its head. */
uint16_t drv_add(struct drv *d, unsigned int q, const struct drv_buf *bufs, unsigned int count);
void drv_kick(struct drv *d, unsigned int q);
/* Let the device work until it has nothing more to do. */
void drv_poll(struct drv *d);
/* The next used chain: its length, or -1. */
int64_t drv_take(struct drv *d, unsigned int q, uint16_t *head);
/* All in one: a chain, offered, served; the used length, or -1. */
int64_t drv_do(struct drv *d, unsigned int q, const struct drv_buf *bufs, unsigned int count);

#endif
