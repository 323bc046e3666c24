// SPDX-License-Identifier: GPL-2.0-only
/* The virtio driver of the tests: see driver.h. */
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

#define COMMON(field)	offsetof(struct virtio_pci_common_cfg, field)
#define NOTIFY		0x3000
#define RINGS		0x10000
#define RING_STEP	0x8000

static int no_ioeventfd(void *opaque, bool io, uint64_t address, unsigned int size, int fd,
			bool attach)
{
	(void)opaque; (void)io; (void)address; (void)size; (void)fd; (void)attach;
	return -1;
}

static int no_gsi(void *opaque)
{
	(void)opaque;
	return -1;
}

static void no_route(void *opaque, int gsi, uint64_t address, uint32_t data)
{
	(void)opaque; (void)gsi; (void)address; (void)data;
}

static void no_irqfd(void *opaque, int fd, int gsi, bool attach)
{
	(void)opaque; (void)fd; (void)gsi; (void)attach;
}

static const struct keel_host host = {
	.ioeventfd = no_ioeventfd, .gsi_alloc = no_gsi, .msi_route = no_route, .irqfd = no_irqfd,
};

static void line_set(void *controller, unsigned int line, bool level)
{
	((struct machine *)controller)->line[line] = level;
}

static void must(int ret)
{
	if (!ret)
		return;
	printf("Bail out! %s\n", keel_error());
	exit(1);
}

void drv_machine(struct machine *m)
{
	struct keel_irq irq[2] = {
		{ .set = line_set, .controller = m, .line = 0 },
		{ .set = line_set, .controller = m, .line = 1 },
	};
	struct keel_power power = { 0 };

	memset(m, 0, sizeof(*m));
	must(keel_memory_create(DRV_MEMORY, &m->mem));
	must(keel_bus_create(&m->bus));
	must(keel_pci_create(m->bus, m->mem, &host, irq, &m->pci));
	must(keel_sysports_create(m->bus, m->pci, &power, &m->ports));
}

void drv_machine_end(struct machine *m)
{
	keel_pci_destroy(m->pci);
	keel_sysports_destroy(m->ports);
	keel_bus_destroy(m->bus);
	keel_memory_destroy(m->mem);
}

uint64_t drv_read(struct drv *d, uint64_t offset, unsigned int size)
{
	uint64_t value = 0;

	keel_bus_access(d->m->bus, KEEL_MMIO, d->bar + offset, &value, size, false);
	return value;
}

void drv_write(struct drv *d, uint64_t offset, uint64_t value, unsigned int size)
{
	keel_bus_access(d->m->bus, KEEL_MMIO, d->bar + offset, &value, size, true);
}

uint8_t drv_status(struct drv *d)
{
	return drv_read(d, COMMON(device_status), 1);
}

void *drv_at(struct drv *d, uint64_t gpa)
{
	return keel_memory_at(d->m->mem, gpa, 1);
}

struct vring_desc *drv_desc(struct drv *d, unsigned int q)
{
	return drv_at(d, RINGS + q * RING_STEP);
}

struct vring_avail *drv_avail(struct drv *d, unsigned int q)
{
	return drv_at(d, RINGS + q * RING_STEP + 0x4000);
}

struct vring_used *drv_used(struct drv *d, unsigned int q)
{
	return drv_at(d, RINGS + q * RING_STEP + 0x5000);
}

void drv_find(struct drv *d, struct machine *m, unsigned int slot)
{
	memset(d, 0, sizeof(*d));
	d->m = m;
	d->dev = keel_pci_slot(m->pci, slot);
	d->bar = keel_pci_get(d->dev, PCI_BAR, 4);
	drv_write(d, COMMON(device_status), 0, 1);
	d->queues = drv_read(d, COMMON(num_queues), 2);
}

uint64_t drv_offered(struct drv *d)
{
	uint64_t low;

	drv_write(d, COMMON(device_feature_select), 0, 4);
	low = drv_read(d, COMMON(device_feature), 4);
	drv_write(d, COMMON(device_feature_select), 1, 4);
	return low | drv_read(d, COMMON(device_feature), 4) << 32;
}

static void queue_set(struct drv *d, unsigned int q, uint16_t size)
{
	uint64_t at = RINGS + q * RING_STEP;

	memset(drv_at(d, at), 0, RING_STEP);
	d->avail[q] = d->used[q] = d->desc[q] = 0;
	drv_write(d, COMMON(queue_select), q, 2);
	if (size > drv_read(d, COMMON(queue_size), 2))
		size = drv_read(d, COMMON(queue_size), 2);
	d->size[q] = size;
	drv_write(d, COMMON(queue_size), size, 2);
	drv_write(d, COMMON(queue_desc_lo), at, 4);
	drv_write(d, COMMON(queue_avail_lo), at + 0x4000, 4);
	drv_write(d, COMMON(queue_used_lo), at + 0x5000, 4);
	drv_write(d, COMMON(queue_enable), 1, 2);
}

bool drv_start(struct drv *d, uint64_t features, uint16_t size)
{
	uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	drv_write(d, COMMON(device_status), 0, 1);
	drv_write(d, COMMON(device_status), status, 1);
	if (!features)
		features = drv_offered(d);
	for (int i = 0; i < 2; i++) {
		drv_write(d, COMMON(guest_feature_select), i, 4);
		drv_write(d, COMMON(guest_feature), features >> (32 * i), 4);
	}
	status |= VIRTIO_CONFIG_S_FEATURES_OK;
	drv_write(d, COMMON(device_status), status, 1);
	if (!(drv_status(d) & VIRTIO_CONFIG_S_FEATURES_OK))
		return false;
	for (unsigned int q = 0; q < d->queues; q++)
		queue_set(d, q, size);
	drv_write(d, COMMON(device_status), status | VIRTIO_CONFIG_S_DRIVER_OK, 1);
	drv_poll(d);
	return drv_status(d) & VIRTIO_CONFIG_S_DRIVER_OK;
}

uint16_t drv_add(struct drv *d, unsigned int q, const struct drv_buf *bufs, unsigned int count)
{
	struct vring_avail *avail = drv_avail(d, q);
	uint16_t head = d->desc[q] % d->size[q];

	for (unsigned int i = 0; i < count; i++) {
		uint16_t at = d->desc[q]++ % d->size[q];

		drv_desc(d, q)[at] = (struct vring_desc) {
			.addr = bufs[i].gpa, .len = bufs[i].size, .next = (at + 1) % d->size[q],
			.flags = (bufs[i].in ? VRING_DESC_F_WRITE : 0) |
				 (i + 1 < count ? VRING_DESC_F_NEXT : 0),
		};
	}
	avail->ring[d->avail[q] % d->size[q]] = head;
	avail->idx = ++d->avail[q];
	return head;
}

void drv_kick(struct drv *d, unsigned int q)
{
	drv_write(d, NOTIFY + 4 * q, q, 2);
}

void drv_poll(struct drv *d)
{
	struct virtio *dev = (struct virtio *)d->dev;

	for (int i = 0; i < 1000 && keel_loop_poll(dev->loop); i++)
		;
}

int64_t drv_take(struct drv *d, unsigned int q, uint16_t *head)
{
	struct vring_used *used = drv_used(d, q);
	struct vring_used_elem *e = &used->ring[d->used[q] % d->size[q]];

	if (used->idx == d->used[q])
		return -1;
	d->used[q]++;
	if (head)
		*head = e->id;
	return e->len;
}

int64_t drv_do(struct drv *d, unsigned int q, const struct drv_buf *bufs, unsigned int count)
{
	uint16_t head = drv_add(d, q, bufs, count), taken = 0;
	int64_t size;

	drv_kick(d, q);
	drv_poll(d);
	size = drv_take(d, q, &taken);
	return size >= 0 && taken != head ? -2 : size;
}
