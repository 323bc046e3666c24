/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What virtio devices are made of: the split virtqueue (queue.c) and the PCI transport (transport.c).
 * Section numbers are those of "Virtual I/O Device (VIRTIO) Version 1.2".
 *
 * A device model embeds struct virtio, fills in ops and its features, and calls virtio_create(). All
 * its callbacks but config_written come on its own loop, one at a time: there it pops chains from
 * queues, and pushes them back when they are done.
 *
 * Guest memory changes under our hands. A descriptor is copied before it is looked at, every address
 * goes through keel_memory_at(), every loop has a bound, and a ring that breaks the rules stops its
 * device (NEEDS_RESET) and nothing else.
 */
#ifndef KEEL_VIRTIO_H
#define KEEL_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "loop.h"
#include "pci.h"

#define VIRTIO_QUEUES		16
#define VIRTQ_SIZE		256	/* of every queue, unless the model says less */
#define VIRTQ_SEGMENTS		1024	/* of a chain, at the most */
#define VIRTIO_CONFIG_SIZE	256

#define VIRTIO_BIT(feature)	(1ULL << (feature))

struct virtio;

struct virtio_ops {
	const char *name;
	uint16_t type;			/* VIRTIO_ID_* */
	uint8_t class, subclass;	/* of the PCI device */
	/* DRIVER_OK; may be NULL */
	void (*start)(struct virtio *dev);
	/* reset: gives back all that is in flight, and returns when nothing is; may be NULL */
	void (*stop)(struct virtio *dev);
	/* there may be chains in queue @index */
	void (*kick)(struct virtio *dev, unsigned int index);
	/* the guest wrote dev->config; under dev->lock, on a vCPU's thread; may be NULL */
	void (*config_written)(struct virtio *dev, unsigned int offset, unsigned int size);
	void (*describe)(struct virtio *dev, char *text, size_t size);	/* may be NULL */
	/* frees the model; the loop has ended */
	void (*destroy)(struct virtio *dev);
};

struct virtq {
	struct virtio *dev;
	unsigned int index;

	/* registers, under dev->lock */
	uint16_t size, vector;
	bool enabled;
	uint64_t desc_gpa, avail_gpa, used_gpa;

	/* the loop's; or of a lock of the model's that also stop() takes */
	bool running;
	const struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next_avail, next_used, signalled;

	struct keel_watch kick;		/* its eventfd is also the ioeventfd */
	bool watched;
};

struct virtio {
	struct keel_pci_dev pci;	/* first: the two are cast into each other */
	const struct virtio_ops *ops;	/* the model's */
	uint64_t offered;		/* the model's: features, beside what the transport adds */
	unsigned int queues;		/* the model's */
	uint16_t queue_size;		/* the model's; 0: VIRTQ_SIZE */
	unsigned int config_size;	/* the model's: bytes of config */
	unsigned int config_first, config_end;	/* the model's: what the guest may write of it */

	struct keel_memory *memory;
	struct keel_loop *loop;
	pthread_mutex_t lock;		/* the registers; never taken on the loop */
	uint64_t features;		/* negotiated */
	uint32_t offered_select, features_select;
	uint16_t queue_select, config_vector;
	atomic_uchar status, generation;
	bool started;
	pthread_mutex_t config_lock;
	uint8_t config[VIRTIO_CONFIG_SIZE];
	pthread_mutex_t isr_lock;
	uint8_t isr;
	unsigned int cfg_cap;		/* offset of the capability that is a window to BAR 0 */
	struct virtq queue[VIRTIO_QUEUES];
};

/**
 * virtio_create - plug the device in
 * @dev: zeroed but for what is the model's
 * @threaded: with a thread of its own, as always but in tests
 *
 * On failure nothing of it is left but what the model itself made.
 */
int virtio_create(struct virtio *dev, struct keel_pci *pci, bool threaded);

static inline bool virtio_has(const struct virtio *dev, unsigned int feature)
{
	return dev->features & VIRTIO_BIT(feature);
}

/** virtio_broken - the guest broke the rules; the device does nothing more until it is reset */
void virtio_broken(struct virtio *dev, const char *why);
/** virtio_config_set - change the configuration and tell the guest; from any thread */
void virtio_config_set(struct virtio *dev, unsigned int offset, const void *data,
		       unsigned int size);
/** virtio_interrupt - send a queue's interrupt */
void virtio_interrupt(struct virtq *q);

/* Who serves the queue: its device's loop (the default), or vhost, which takes the kicks itself. */
void virtq_watch(struct virtq *q, bool watch);
/** virtq_message_fd - an eventfd that interrupts the guest, or -1 while it has no MSI-X vector */
int virtq_message_fd(struct virtq *q);

/* Queues: queue.c -------------------------------------------------------------------------- */

/* What the driver offers: device-readable segments, then device-writable ones. */
struct virtq_chain {
	uint16_t head;
	unsigned int outs, ins, max;
	size_t out_size, in_size;
	struct iovec *iov;		/* the model's, with max entries, at most VIRTQ_SEGMENTS */
};

/** virtq_map - look up the rings of an enabled queue; false when they do not lie in memory */
bool virtq_map(struct virtq *q);
/** virtq_pop - the next chain; false when there is none, or when the ring is broken */
bool virtq_pop(struct virtq *q, struct virtq_chain *chain);
/** virtq_push - give a chain back, with @size bytes written; virtq_notify() tells the driver */
void virtq_push(struct virtq *q, uint16_t head, uint32_t size);
/* The same for several chains that belong together: fill in each, then publish all. */
void virtq_fill(struct virtq *q, unsigned int nth, uint16_t head, uint32_t size);
void virtq_publish(struct virtq *q, unsigned int count);
void virtq_notify(struct virtq *q);
/** virtq_kicks - do we want to be kicked? returns true when chains came before that was known */
bool virtq_kicks(struct virtq *q, bool wanted);

/**
 * virtq_serve - pop every chain of @q and give it to @serve, which pushes it back or keeps it
 * @serve: returns false when it cannot take more now; the chain is then not consumed
 *
 * Takes turns with the loop's other work after a ringful.
 */
void virtq_serve(struct virtq *q, struct virtq_chain *chain,
		 bool (*serve)(struct virtq *q, struct virtq_chain *chain));

/** virtq_unpop - the @count chains that were popped last were not used */
void virtq_unpop(struct virtq *q, unsigned int count);

/* Copy from the readable or to the writable part, from @offset on; returns how much there was. */
size_t chain_read(const struct virtq_chain *chain, size_t offset, void *data, size_t size);
size_t chain_write(const struct virtq_chain *chain, size_t offset, const void *data, size_t size);
/** iov_slice - the part [@offset, @offset + @size) of @iov, in @out; returns its segments */
unsigned int iov_slice(const struct iovec *iov, unsigned int count, size_t offset, size_t size,
		       struct iovec *out);

#endif
