// SPDX-License-Identifier: GPL-2.0-only
/*
 * The virtio console (virtio 1.2, 5.3) with its one port: hvc0 in a Linux guest.
 *
 * Output goes to a callback that may block, on the loop; so a slow reader holds up this device alone.
 * Input waits where it is until the driver has buffers: keel_vconsole_input() takes what fits, from
 * any thread, and ready() says when it is worth trying again. rx_lock guards the receive queue.
 */
#include <errno.h>
#include <linux/virtio_console.h>
#include <stdlib.h>
#include <string.h>

#include "virtio.h"

#define SEGMENTS	64u
#define CHUNK		4096u

enum { RECEIVE, TRANSMIT, QUEUES };

struct keel_vconsole {
	struct virtio dev;
	struct keel_vconsole_config config;
	pthread_mutex_t rx_lock;
	struct virtq_chain rx, tx;
	struct iovec rx_iov[SEGMENTS], tx_iov[SEGMENTS];
};

static struct keel_vconsole *console_of(struct virtio *dev)
{
	return (struct keel_vconsole *)dev;
}

static bool transmit(struct virtq *q, struct virtq_chain *c)
{
	struct keel_vconsole *con = console_of(q->dev);
	uint8_t data[CHUNK];
	size_t n;

	/* a driver's buffers are pages; a hostile one's rest is dropped */
	for (size_t done = 0; done < 64 * CHUNK; done += n) {
		n = chain_read(c, done, data, sizeof(data));
		if (!n)
			break;
		con->config.output(con->config.opaque, data, n);
	}
	virtq_push(q, c->head, 0);
	return true;
}

static void kick(struct virtio *dev, unsigned int index)
{
	struct keel_vconsole *con = console_of(dev);

	if (index == TRANSMIT)
		virtq_serve(&dev->queue[TRANSMIT], &con->tx, transmit);
	else
		con->config.ready(con->config.opaque);
}

static void start(struct virtio *dev)
{
	struct keel_vconsole *con = console_of(dev);

	con->config.ready(con->config.opaque);
}

static void stop(struct virtio *dev)
{
	struct keel_vconsole *con = console_of(dev);

	pthread_mutex_lock(&con->rx_lock);
	dev->queue[RECEIVE].running = false;
	pthread_mutex_unlock(&con->rx_lock);
}

size_t keel_vconsole_input(struct keel_vconsole *con, const uint8_t *data, size_t size)
{
	struct virtq *q = &con->dev.queue[RECEIVE];
	size_t done = 0;

	pthread_mutex_lock(&con->rx_lock);
	while (done < size && virtq_pop(q, &con->rx)) {
		size_t n = chain_write(&con->rx, 0, data + done, size - done);

		virtq_push(q, con->rx.head, n);
		done += n;
	}
	if (q->running) {
		virtq_notify(q);
		virtq_kicks(q, true);
	}
	pthread_mutex_unlock(&con->rx_lock);
	return done;
}

static void destroy(struct virtio *dev)
{
	pthread_mutex_destroy(&console_of(dev)->rx_lock);
	free(dev);
}

static const struct virtio_ops ops = {
	.name = "console", .type = VIRTIO_ID_CONSOLE, .class = 0x07, .subclass = 0x80,
	.start = start, .kick = kick, .stop = stop, .destroy = destroy,
};

int keel_vconsole_create(struct keel_pci *pci, const struct keel_vconsole_config *config,
			 struct keel_vconsole **out)
{
	struct keel_vconsole *con = calloc(1, sizeof(*con));
	int ret;

	if (!con)
		return keel_fail(ENOMEM, "out of memory");
	con->config = *config;
	pthread_mutex_init(&con->rx_lock, NULL);
	con->rx = (struct virtq_chain) { .iov = con->rx_iov, .max = SEGMENTS };
	con->tx = (struct virtq_chain) { .iov = con->tx_iov, .max = SEGMENTS };
	con->dev.ops = &ops;
	con->dev.queues = QUEUES;
	con->dev.config_size = sizeof(struct virtio_console_config);
	ret = virtio_create(&con->dev, pci, !config->unthreaded);
	if (ret) {
		pthread_mutex_destroy(&con->rx_lock);
		free(con);
		return ret;
	}
	*out = con;
	return 0;
}
