// SPDX-License-Identifier: GPL-2.0-only
/*
 * MSI-X (PCI 3.0, 6.8.2): a table of messages in a BAR, and an eventfd for each.
 *
 * Whoever has an interrupt to send signals the vector's eventfd: a device model here, or the kernel's
 * vhost. While the vector is enabled and unmasked the eventfd is an irqfd of the VM, so the message
 * goes out without us; while it is masked nobody reads the eventfd, and its count is the pending bit.
 * Attached again, the irqfd sees the count and sends the message that was held back.
 *
 * msix->lock guards all; control alone is also read without it. GSIs are taken when a vector is first used and kept.
 */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop.h"
#include "pci.h"

#define CAP_MSIX	0x11
#define CAP_SIZE	12
#define CAP_CONTROL	2
#define CONTROL_ENABLE	0x8000
#define CONTROL_MASK	0x4000
#define PBA_OFFSET	(MSIX_BAR_SIZE / 2)
#define ENTRY_SIZE	16
#define ENTRY_MASKED	1u

struct vector {
	uint32_t entry[4];		/* address low and high, data, control */
	int fd, gsi;			/* gsi: -1 before first use */
	bool attached;
};

struct keel_msix {
	struct keel_pci_dev *dev;
	const struct keel_host *host;
	pthread_mutex_t lock;
	unsigned int count, cap;
	atomic_ushort control;
	struct vector vector[];
};

static bool vector_active(const struct keel_msix *msix, const struct vector *v)
{
	return msix->control & CONTROL_ENABLE && !(msix->control & CONTROL_MASK) &&
	       !(v->entry[3] & ENTRY_MASKED);
}

/* Bring the irqfd in line with the registers; a host that fails ends the VM by itself. */
static void vector_update(struct keel_msix *msix, struct vector *v, bool message)
{
	const struct keel_host *host = msix->host;
	bool active = vector_active(msix, v);

	if (active && v->gsi < 0) {
		v->gsi = host->gsi_alloc(host->opaque);
		message = true;
	}
	if (v->gsi < 0)
		return;
	if (active && (message || !v->attached))
		host->msi_route(host->opaque, v->gsi, (uint64_t)v->entry[1] << 32 | v->entry[0],
				v->entry[2]);
	if (active != v->attached)
		host->irqfd(host->opaque, v->fd, v->gsi, active);
	v->attached = active;
}

static bool signalled(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) == 1;
}

static uint32_t dword_read(struct keel_msix *msix, uint64_t offset)
{
	uint32_t bits = 0;
	unsigned int first;

	if (offset < msix->count * ENTRY_SIZE)
		return msix->vector[offset / ENTRY_SIZE].entry[offset % ENTRY_SIZE / 4];
	if (offset < PBA_OFFSET || offset >= PBA_OFFSET + MSIX_VECTORS_MAX / 8)
		return 0;
	first = (offset - PBA_OFFSET) * 8;
	for (unsigned int i = first; i < msix->count && i < first + 32; i++)
		if (!msix->vector[i].attached && signalled(msix->vector[i].fd))
			bits |= 1u << (i - first);
	return bits;
}

/* Accesses are aligned, of four or eight bytes (6.8.2); others get nothing. */
uint64_t keel_msix_read(struct keel_msix *msix, uint64_t offset, unsigned int size)
{
	uint64_t value;

	if ((size != 4 && size != 8) || offset % size || offset + size > MSIX_BAR_SIZE)
		return 0;
	pthread_mutex_lock(&msix->lock);
	value = dword_read(msix, offset);
	if (size == 8)
		value |= (uint64_t)dword_read(msix, offset + 4) << 32;
	pthread_mutex_unlock(&msix->lock);
	return value;
}

void keel_msix_write(struct keel_msix *msix, uint64_t offset, uint64_t value, unsigned int size)
{
	struct vector *v;

	if ((size != 4 && size != 8) || offset % size || offset >= msix->count * ENTRY_SIZE)
		return;
	pthread_mutex_lock(&msix->lock);
	v = &msix->vector[offset / ENTRY_SIZE];
	for (unsigned int i = offset % ENTRY_SIZE / 4; size; i++, size -= 4, value >>= 32)
		v->entry[i] = i == 3 ? value & ENTRY_MASKED : i ? value : value & ~3u;
	vector_update(msix, v, true);
	pthread_mutex_unlock(&msix->lock);
}

static void control_set(struct keel_msix *msix, uint16_t control)
{
	pthread_mutex_lock(&msix->lock);
	if (msix->control != control) {
		msix->control = control;
		for (unsigned int i = 0; i < msix->count; i++)
			vector_update(msix, &msix->vector[i], false);
	}
	pthread_mutex_unlock(&msix->lock);
}

bool keel_msix_enabled(const struct keel_pci_dev *dev)
{
	return dev->msix && dev->msix->control & CONTROL_ENABLE;
}

int keel_msix_fd(const struct keel_pci_dev *dev, unsigned int vector)
{
	return dev->msix && vector < dev->msix->count ? dev->msix->vector[vector].fd : -1;
}

int keel_msix_create(struct keel_pci_dev *dev)
{
	unsigned int cap = keel_pci_capability(dev, CAP_MSIX, CAP_SIZE);
	struct keel_msix *msix;

	msix = calloc(1, sizeof(*msix) + dev->vectors * sizeof(msix->vector[0]));
	if (!msix)
		return keel_fail(ENOMEM, "out of memory");
	pthread_mutex_init(&msix->lock, NULL);
	msix->dev = dev;
	msix->host = keel_pci_host(dev->pci);
	msix->cap = cap;
	for (unsigned int i = 0; i < dev->vectors; i++) {
		struct vector *v = &msix->vector[i];

		v->gsi = -1;
		v->entry[3] = ENTRY_MASKED;
		v->fd = keel_eventfd();
		if (v->fd < 0) {
			int ret = v->fd;

			keel_msix_destroy(msix);
			return ret;
		}
		msix->count++;
	}
	dev->bar[dev->msix_bar].size = MSIX_BAR_SIZE;
	keel_pci_set16(dev, cap + CAP_CONTROL, dev->vectors - 1);
	keel_pci_set32(dev, cap + 4, dev->msix_bar);
	keel_pci_set32(dev, cap + 8, PBA_OFFSET | dev->msix_bar);
	dev->writable[cap + CAP_CONTROL + 1] = (CONTROL_ENABLE | CONTROL_MASK) >> 8;
	dev->msix = msix;
	return 0;
}

void keel_msix_destroy(struct keel_msix *msix)
{
	if (!msix)
		return;
	for (unsigned int i = 0; i < msix->count; i++) {
		struct vector *v = &msix->vector[i];

		if (v->attached)
			msix->host->irqfd(msix->host->opaque, v->fd, v->gsi, false);
		close(v->fd);
	}
	pthread_mutex_destroy(&msix->lock);
	free(msix);
}

void keel_msix_config_written(struct keel_pci_dev *dev, unsigned int offset, unsigned int size)
{
	unsigned int at = dev->msix->cap + CAP_CONTROL;

	if (offset < at + 2 && offset + size > at)
		control_set(dev->msix, keel_pci_get(dev, at, 2));
}
