// SPDX-License-Identifier: GPL-2.0-only
/*
 * The virtio network device (virtio 1.2, 5.1): one pair of queues between the guest and a backend.
 *
 * Behind a tap device there are checksum and segmentation offloads and mergeable buffers, and where
 * the host has vhost-net, and the driver uses MSI-X, the kernel serves both queues itself. Other
 * backends get plain frames, and the header in front of them is ours.
 *
 * The receive queue belongs to the backend's thread, under rx_lock, which stop() takes too.
 */
#include <errno.h>
#include <linux/if_tun.h>
#include <linux/vhost.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#include "../net/net.h"
#include "vhost.h"
#include "virtio.h"

#define SEGMENTS	64u
#define HEADER		sizeof(struct virtio_net_hdr_v1)

_Static_assert(HEADER == VNET_HEADER, "the backend's header is the device's");

enum { RECEIVE, TRANSMIT, QUEUES };

struct net {
	struct virtio dev;
	struct keel_net *net;
	struct keel_vhost *vhost;	/* or NULL */
	bool by_vhost;			/* it serves the queues now */
	pthread_mutex_t rx_lock;
	struct virtq_chain rx, tx;
	struct iovec rx_iov[SEGMENTS], tx_iov[SEGMENTS];
	unsigned long sent, received;
};

static struct net *net_of(struct virtio *dev)
{
	return (struct net *)dev;
}

/* Fills buffers with a frame that has its header; false when there are too few. */
static bool fill(struct net *net, struct virtq *q, const uint8_t *data, size_t size)
{
	bool merge = virtio_has(&net->dev, VIRTIO_NET_F_MRG_RXBUF);
	struct iovec first[SEGMENTS];
	struct virtq_chain head = { 0 };
	uint16_t buffers = 0;
	size_t done = 0;

	do {
		size_t n;

		if (!virtq_pop(q, &net->rx)) {
			virtq_unpop(q, buffers);
			return false;
		}
		n = chain_write(&net->rx, 0, data + done, size - done);
		if (!buffers) {
			head = net->rx;
			head.iov = first;
			memcpy(first, net->rx.iov, (head.outs + head.ins) * sizeof(first[0]));
		}
		virtq_fill(q, buffers++, net->rx.head, n);
		done += n;
		/* too small for the header or, with one buffer a frame, for all: it goes back as it is */
		if (n < HEADER && buffers == 1)
			break;
	} while (done < size && merge && buffers < q->size);
	if (done < size && merge && head.in_size >= HEADER) {
		virtq_unpop(q, buffers);
		return false;
	}
	chain_write(&head, offsetof(struct virtio_net_hdr_v1, num_buffers), &buffers,
		    sizeof(buffers));
	virtq_publish(q, buffers);
	virtq_notify(q);
	return true;
}

static bool receive(void *card, const void *frame, size_t size)
{
	struct net *net = card;
	struct virtq *q = &net->dev.queue[RECEIVE];
	uint8_t plain[HEADER + FRAME_MAX];
	bool ok = false;

	if (!net->net->vnet) {
		if (size > FRAME_MAX)
			return false;
		memset(plain, 0, HEADER);
		memcpy(plain + HEADER, frame, size);
		frame = plain;
		size += HEADER;
	}
	pthread_mutex_lock(&net->rx_lock);
	if (q->running && !net->by_vhost) {
		ok = fill(net, q, frame, size);
		net->received += ok;
	}
	pthread_mutex_unlock(&net->rx_lock);
	return ok;
}

static bool transmit(struct virtq *q, struct virtq_chain *c)
{
	struct net *net = net_of(q->dev);
	size_t most = net->net->vnet ? VNET_FRAME_MAX : HEADER + FRAME_MAX;
	struct iovec iov[SEGMENTS];
	unsigned int n;

	if (c->out_size > HEADER && c->out_size <= most) {
		n = iov_slice(c->iov, c->outs, net->net->vnet ? 0 : HEADER, c->out_size, iov);
		net->net->ops->send(net->net, iov, n);
		net->sent++;
	}
	virtq_push(q, c->head, 0);
	return true;
}

static void kick(struct virtio *dev, unsigned int index)
{
	struct net *net = net_of(dev);

	if (index == TRANSMIT)
		virtq_serve(&dev->queue[TRANSMIT], &net->tx, transmit);
}

static unsigned int tun_flags(const struct virtio *dev)
{
	static const struct { unsigned int feature, flag; } map[] = {
		{ VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM }, { VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4 },
		{ VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6 }, { VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN },
	};
	unsigned int flags = 0;

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (virtio_has(dev, map[i].feature))
			flags |= map[i].flag;
	return flags & TUN_F_CSUM ? flags : 0;
}

static void vhost_backend(struct net *net, int tap)
{
	for (unsigned int i = 0; i < QUEUES; i++) {
		struct vhost_vring_file file = { .index = i, .fd = tap };

		if (keel_vhost_ioctl(net->vhost, VHOST_NET_SET_BACKEND, &file) < 0 && tap >= 0)
			virtio_broken(&net->dev, "vhost-net does not take its tap device");
	}
}

static void start(struct virtio *dev)
{
	struct net *net = net_of(dev);
	bool by_vhost;

	if (net->net->vnet)
		net->net->ops->offload(net->net, tun_flags(dev));
	/* no kicks for receive buffers: frames look for them when they come */
	if (dev->queue[RECEIVE].running)
		virtq_kicks(&dev->queue[RECEIVE], false);
	by_vhost = net->vhost && keel_vhost_start(net->vhost, dev, QUEUES);
	pthread_mutex_lock(&net->rx_lock);
	net->by_vhost = by_vhost;
	pthread_mutex_unlock(&net->rx_lock);
	if (by_vhost) {
		net->net->ops->lend(net->net, true);
		vhost_backend(net, net->net->tap);
	}
}

static void stop(struct virtio *dev)
{
	struct net *net = net_of(dev);

	if (net->by_vhost) {
		vhost_backend(net, -1);
		keel_vhost_stop(net->vhost);
		net->net->ops->lend(net->net, false);
	}
	pthread_mutex_lock(&net->rx_lock);
	net->by_vhost = false;
	dev->queue[RECEIVE].running = false;
	pthread_mutex_unlock(&net->rx_lock);
}

static void destroy(struct virtio *dev)
{
	struct net *net = net_of(dev);

	keel_net_destroy(net->net);
	keel_vhost_close(net->vhost);
	pthread_mutex_destroy(&net->rx_lock);
	free(net);
}

static void describe(struct virtio *dev, char *text, size_t size)
{
	const uint8_t *m = dev->config;
	struct net *net = net_of(dev);
	char more[48] = "";

	net->net->ops->describe(net->net, more, sizeof(more));
	snprintf(text, size, "%02x:%02x:%02x:%02x:%02x:%02x, %s%s", m[0], m[1], m[2], m[3], m[4],
		 m[5], more, net->by_vhost ? ", vhost" : "");
}

static const struct virtio_ops ops = {
	.name = "net", .type = VIRTIO_ID_NET, .class = 0x02,
	.start = start, .kick = kick, .stop = stop, .describe = describe, .destroy = destroy,
};

int keel_vnet_create(struct keel_pci *pci, struct keel_net *backend, bool vhost,
		     bool unthreaded)
{
	struct virtio_net_config *config;
	struct net *net = calloc(1, sizeof(*net));
	int ret;

	if (!net) {
		keel_net_destroy(backend);
		return keel_fail(ENOMEM, "out of memory");
	}
	net->net = backend;
	pthread_mutex_init(&net->rx_lock, NULL);
	net->rx = (struct virtq_chain) { .iov = net->rx_iov, .max = SEGMENTS };
	net->tx = (struct virtq_chain) { .iov = net->tx_iov, .max = SEGMENTS };
	net->dev.ops = &ops;
	net->dev.queues = QUEUES;
	net->dev.config_size = offsetof(struct virtio_net_config, max_virtqueue_pairs);
	config = (void *)net->dev.config;
	memcpy(config->mac, backend->mac, sizeof(config->mac));
	config->status = VIRTIO_NET_S_LINK_UP;
	net->dev.offered = VIRTIO_BIT(VIRTIO_NET_F_MAC) | VIRTIO_BIT(VIRTIO_NET_F_STATUS);
	if (backend->vnet)
		net->dev.offered |=
			VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) |
			VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) |
			VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) |
			VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN) |
			VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF);
	if (backend->tap >= 0 && vhost)
		net->vhost = keel_vhost_open("/dev/vhost-net", keel_pci_memory(pci));
	ret = virtio_create(&net->dev, pci, !unthreaded);
	if (ret) {
		keel_vhost_close(net->vhost);
		keel_net_destroy(backend);
		pthread_mutex_destroy(&net->rx_lock);
		free(net);
		return ret;
	}
	return keel_net_plug(backend, receive, net);
}
