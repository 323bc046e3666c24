// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost: the kernel reads the rings and the guest's memory itself (linux/vhost.h).
 *
 * The kick is the queue's ioeventfd, the call its MSI-X vector's irqfd: no process is woken in
 * between. Without MSI-X the call is an eventfd of ours, which the device's loop turns into the
 * interrupt pin.
 *
 * The kernel checks what it finds in the rings against the memory table, as we do.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vhost.h"

#define QUEUES_MAX	2u
/* what the rings are about; the rest of the features is the device's own business */
#define RING_FEATURES	(VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX) | \
			 VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC) | VIRTIO_BIT(15 /* MRG_RXBUF */))

struct call {
	struct virtq *q;
	struct keel_watch watch;
	bool used;
};

struct keel_vhost {
	int fd;
	struct keel_memory *memory;
	struct virtio *dev;		/* while started */
	unsigned int count;
	struct call call[QUEUES_MAX];
};

int keel_vhost_ioctl(struct keel_vhost *vhost, unsigned long request, void *arg)
{
	return ioctl(vhost->fd, request, arg);
}

static void called(void *opaque)
{
	struct call *call = opaque;

	if (keel_eventfd_clear(call->watch.fd))
		virtio_interrupt(call->q);
}

static int memory_set(struct keel_vhost *vhost)
{
	struct {
		struct vhost_memory head;
		struct vhost_memory_region region[2];
	} table = { .head.nregions = 1 };
	uint64_t low = keel_memory_low(vhost->memory), high = keel_memory_high(vhost->memory);

	table.region[0] = (struct vhost_memory_region) {
		.memory_size = low,
		.userspace_addr = (uintptr_t)keel_memory_at(vhost->memory, 0, low),
	};
	if (high) {
		table.head.nregions = 2;
		table.region[1] = (struct vhost_memory_region) {
			.guest_phys_addr = KEEL_HIGH_BASE, .memory_size = high,
			.userspace_addr = (uintptr_t)keel_memory_at(vhost->memory, KEEL_HIGH_BASE,
								    high),
		};
	}
	return ioctl(vhost->fd, VHOST_SET_MEM_TABLE, &table);
}

struct keel_vhost *keel_vhost_open(const char *path, struct keel_memory *memory)
{
	struct keel_vhost *vhost = calloc(1, sizeof(*vhost));

	if (!vhost) {
		keel_fail(ENOMEM, "out of memory");
		return NULL;
	}
	vhost->memory = memory;
	for (unsigned int i = 0; i < QUEUES_MAX; i++)
		vhost->call[i].watch.fd = -1;
	vhost->fd = open(path, O_RDWR | O_CLOEXEC);
	if (vhost->fd < 0 || ioctl(vhost->fd, VHOST_SET_OWNER, NULL) < 0 || memory_set(vhost) < 0) {
		keel_fail(errno, "cannot use %s: %s", path, strerror(errno));
		keel_vhost_close(vhost);
		return NULL;
	}
	for (unsigned int i = 0; i < QUEUES_MAX; i++) {
		struct call *call = &vhost->call[i];

		call->watch = (struct keel_watch) { .ready = called, .opaque = call };
		call->watch.fd = keel_eventfd();
		if (call->watch.fd < 0) {
			keel_vhost_close(vhost);
			return NULL;
		}
	}
	return vhost;
}

void keel_vhost_close(struct keel_vhost *vhost)
{
	if (!vhost)
		return;
	for (unsigned int i = 0; i < QUEUES_MAX; i++)
		if (vhost->call[i].watch.fd >= 0)
			close(vhost->call[i].watch.fd);
	if (vhost->fd >= 0)
		close(vhost->fd);
	free(vhost);
}

/* The interrupt of a queue: its vector's eventfd, or ours. */
static int call_fd(struct keel_vhost *vhost, struct virtq *q)
{
	struct call *call = &vhost->call[q->index];
	int fd = virtq_message_fd(q);

	if (fd >= 0)
		return fd;
	call->q = q;
	call->used = !keel_loop_add(q->dev->loop, &call->watch);
	return call->watch.fd;
}

static bool queue_start(struct keel_vhost *vhost, struct virtq *q)
{
	struct vhost_vring_state size = { .index = q->index, .num = q->size };
	struct vhost_vring_state base = { .index = q->index };
	struct vhost_vring_addr addr = {
		.index = q->index, .desc_user_addr = (uintptr_t)q->desc,
		.avail_user_addr = (uintptr_t)q->avail, .used_user_addr = (uintptr_t)q->used,
	};
	struct vhost_vring_file kick = { .index = q->index, .fd = q->kick.fd };
	struct vhost_vring_file call = { .index = q->index, .fd = call_fd(vhost, q) };

	return !ioctl(vhost->fd, VHOST_SET_VRING_NUM, &size) &&
	       !ioctl(vhost->fd, VHOST_SET_VRING_BASE, &base) &&
	       !ioctl(vhost->fd, VHOST_SET_VRING_ADDR, &addr) &&
	       !ioctl(vhost->fd, VHOST_SET_VRING_CALL, &call) &&
	       !ioctl(vhost->fd, VHOST_SET_VRING_KICK, &kick);
}

bool keel_vhost_start(struct keel_vhost *vhost, struct virtio *dev, unsigned int count)
{
	uint64_t have = 0, wanted = dev->features & RING_FEATURES;

	vhost->dev = dev;
	vhost->count = count;
	if (ioctl(vhost->fd, VHOST_GET_FEATURES, &have) < 0 || wanted & ~have ||
	    ioctl(vhost->fd, VHOST_SET_FEATURES, &wanted) < 0)
		return false;
	for (unsigned int i = 0; i < count; i++) {
		if (!dev->queue[i].running || !queue_start(vhost, &dev->queue[i])) {
			keel_vhost_stop(vhost);
			return false;
		}
	}
	for (unsigned int i = 0; i < count; i++)
		virtq_watch(&dev->queue[i], false);
	return true;
}

void keel_vhost_stop(struct keel_vhost *vhost)
{
	if (!vhost || !vhost->dev)
		return;
	for (unsigned int i = 0; i < vhost->count; i++) {
		struct vhost_vring_file none = { .index = i, .fd = -1 };
		struct call *call = &vhost->call[i];

		ioctl(vhost->fd, VHOST_SET_VRING_KICK, &none);
		ioctl(vhost->fd, VHOST_SET_VRING_CALL, &none);
		if (call->used)
			keel_loop_remove(vhost->dev->loop, &call->watch);
		call->used = false;
		virtq_watch(&vhost->dev->queue[i], true);
	}
	vhost->dev = NULL;
}
