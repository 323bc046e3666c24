// SPDX-License-Identifier: GPL-2.0-only
/*
 * The virtio entropy device (virtio 1.2, 5.4): one queue of buffers to be filled by getrandom().
 *
 * A request gets at most REQUEST_MAX bytes, however large its buffers are: the driver asks again.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "virtio.h"

#define REQUEST_MAX	256u		/* what getrandom() always fills in one go */
#define SEGMENTS	64u

struct rng {
	struct virtio dev;
	struct virtq_chain chain;
	struct iovec iov[SEGMENTS];
};

static bool serve(struct virtq *q, struct virtq_chain *c)
{
	uint8_t bytes[REQUEST_MAX];
	ssize_t n = getrandom(bytes, sizeof(bytes), 0);

	virtq_push(q, c->head, n > 0 ? chain_write(c, 0, bytes, n) : 0);
	return true;
}

static void kick(struct virtio *dev, unsigned int index)
{
	virtq_serve(&dev->queue[index], &((struct rng *)dev)->chain, serve);
}

static void destroy(struct virtio *dev)
{
	free(dev);
}

static const struct virtio_ops ops = {
	.name = "rng", .type = VIRTIO_ID_RNG, .class = 0xff, .kick = kick, .destroy = destroy,
};

int keel_rng_create(struct keel_pci *pci, bool unthreaded)
{
	struct rng *rng = calloc(1, sizeof(*rng));
	int ret;

	if (!rng)
		return keel_fail(ENOMEM, "out of memory");
	rng->dev.ops = &ops;
	rng->dev.queues = 1;
	rng->chain = (struct virtq_chain) { .iov = rng->iov, .max = SEGMENTS };
	ret = virtio_create(&rng->dev, pci, !unthreaded);
	if (ret)
		free(rng);
	return ret;
}
