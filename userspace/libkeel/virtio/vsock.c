// SPDX-License-Identifier: GPL-2.0-only
/*
 * The virtio socket device (virtio 1.2, 5.10), by vhost-vsock: the host's programs reach the guest,
 * and the guest the host, by AF_VSOCK. The kernel serves the receive and transmit queues; the event
 * queue is ours, and nothing ever comes in it, since guests do not move.
 */
#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_vsock.h>
#include <stdlib.h>
#include <string.h>

#include "vhost.h"

enum { RECEIVE, TRANSMIT, EVENT, QUEUES };

struct vsock {
	struct virtio dev;
	struct keel_vhost *vhost;
	uint64_t cid;
};

static struct vsock *vsock_of(struct virtio *dev)
{
	return (struct vsock *)dev;
}

static void running_set(struct vsock *vsock, int running)
{
	keel_vhost_ioctl(vsock->vhost, VHOST_VSOCK_SET_RUNNING, &running);
}

static void start(struct virtio *dev)
{
	struct vsock *vsock = vsock_of(dev);

	if (keel_vhost_start(vsock->vhost, dev, EVENT))
		running_set(vsock, 1);
	else
		virtio_broken(dev, "vhost-vsock does not take its queues");
}

static void stop(struct virtio *dev)
{
	struct vsock *vsock = vsock_of(dev);

	running_set(vsock, 0);
	keel_vhost_stop(vsock->vhost);
}

static void kick(struct virtio *dev, unsigned int index)
{
	(void)dev;
	(void)index;
}

static void destroy(struct virtio *dev)
{
	keel_vhost_close(vsock_of(dev)->vhost);
	free(dev);
}

static void describe(struct virtio *dev, char *text, size_t size)
{
	snprintf(text, size, "CID %llu", (unsigned long long)vsock_of(dev)->cid);
}

static const struct virtio_ops ops = {
	.name = "vsock", .type = VIRTIO_ID_VSOCK, .class = 0x07, .subclass = 0x80,
	.start = start, .stop = stop, .kick = kick, .describe = describe, .destroy = destroy,
};

int keel_vsock_create(struct keel_pci *pci, uint32_t cid)
{
	struct vsock *vsock = calloc(1, sizeof(*vsock));
	struct virtio_vsock_config *config;
	int ret;

	if (!vsock)
		return keel_fail(ENOMEM, "out of memory");
	vsock->cid = cid;
	vsock->dev.ops = &ops;
	vsock->dev.queues = QUEUES;
	vsock->dev.queue_size = 128;
	vsock->dev.config_size = sizeof(*config);
	config = (void *)vsock->dev.config;
	config->guest_cid = cid;
	vsock->vhost = keel_vhost_open("/dev/vhost-vsock", keel_pci_memory(pci));
	ret = vsock->vhost ? 0 : keel_fail(ENODEV, "--vsock: this host has no vhost-vsock that can "
					   "be used (modprobe vhost_vsock)");
	if (!ret && keel_vhost_ioctl(vsock->vhost, VHOST_VSOCK_SET_GUEST_CID, &vsock->cid) < 0)
		ret = keel_fail(errno, "--vsock %u: %s", cid, errno == EADDRINUSE ?
				"another guest has this CID" : strerror(errno));
	if (!ret)
		ret = virtio_create(&vsock->dev, pci, true);
	if (ret) {
		keel_vhost_close(vsock->vhost);
		free(vsock);
	}
	return ret;
}
