// SPDX-License-Identifier: GPL-2.0-only
/*
 * The traditional memory balloon (virtio 1.2, 5.5): the guest gives pages back to the host.
 *
 * Inflated and reported pages are dropped from our mapping (MADV_DONTNEED); the kernel takes them
 * from the nested tables by its MMU notifier, and the guest finds zeroes when it uses them again. So a
 * deflated page needs nothing, and a guest that lies about its pages only loses its own data.
 *
 * The statistics queue holds one buffer of the driver's: giving it back asks for new numbers.
 * stats_lock guards what was learned from it.
 */
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "virtio.h"

#define SEGMENTS	64u
#define PFN_SHIFT	VIRTIO_BALLOON_PFN_SHIFT
#define PFNS_AT_ONCE	256u
/* the driver's are a few dozen at the most: a guest with more gets its rest later or never */
#define PFNS_MAX	65536u

enum { INFLATE, DEFLATE, STATS, REPORTING, QUEUES };

struct keel_balloon {
	struct virtio dev;
	struct virtq_chain chain;
	struct iovec iov[SEGMENTS];
	bool stats_held;		/* we have the driver's buffer */
	uint16_t stats_head;
	pthread_mutex_t stats_lock;
	uint64_t stats[VIRTIO_BALLOON_S_NR], reported;
};

static const char *const stat_names[VIRTIO_BALLOON_S_NR] = {
	[VIRTIO_BALLOON_S_SWAP_IN] = "swap_in", [VIRTIO_BALLOON_S_SWAP_OUT] = "swap_out",
	[VIRTIO_BALLOON_S_MAJFLT] = "major_faults", [VIRTIO_BALLOON_S_MINFLT] = "minor_faults",
	[VIRTIO_BALLOON_S_MEMFREE] = "free", [VIRTIO_BALLOON_S_MEMTOT] = "total",
	[VIRTIO_BALLOON_S_AVAIL] = "available", [VIRTIO_BALLOON_S_CACHES] = "caches",
	[VIRTIO_BALLOON_S_HTLB_PGALLOC] = "hugetlb_allocations",
	[VIRTIO_BALLOON_S_HTLB_PGFAIL] = "hugetlb_failures",
};

static struct keel_balloon *balloon_of(struct virtio *dev)
{
	return (struct keel_balloon *)dev;
}

static void drop(struct virtio *dev, void *host, uint64_t size)
{
	uint64_t *reported = &balloon_of(dev)->reported;

	/* whole pages of the host's only; the mapping begins at one */
	if (((uintptr_t)host | size) % KEEL_PAGE_SIZE)
		return;
	if (!madvise(host, size, MADV_DONTNEED))
		__atomic_fetch_add(reported, size, __ATOMIC_RELAXED);
}

static int pfn_order(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return left < right ? -1 : left > right;
}

/* Neighbours go together: each call costs the host a round through all vCPUs' tables. */
static void pfns_drop(struct virtio *dev, uint32_t *pfn, size_t count)
{
	size_t run;

	qsort(pfn, count, sizeof(*pfn), pfn_order);
	for (size_t i = 0; i < count; i += run) {
		uint64_t gpa = (uint64_t)pfn[i] << PFN_SHIFT;
		void *host;

		for (run = 1; i + run < count && pfn[i + run] == pfn[i] + run; run++)
			;
		host = keel_memory_at(dev->memory, gpa, run << PFN_SHIFT);
		if (host)
			drop(dev, host, run << PFN_SHIFT);
	}
}

static bool inflate(struct virtq *q, struct virtq_chain *c)
{
	uint32_t pfn[PFNS_AT_ONCE];
	size_t n;

	for (size_t done = 0; done < PFNS_MAX * sizeof(pfn[0]); done += n) {
		n = chain_read(c, done, pfn, sizeof(pfn));
		if (!n)
			break;
		pfns_drop(q->dev, pfn, n / sizeof(pfn[0]));
	}
	virtq_push(q, c->head, 0);
	return true;
}

static bool deflate(struct virtq *q, struct virtq_chain *c)
{
	virtq_push(q, c->head, 0);
	return true;
}

/* Free pages, as writable buffers (5.5.6.7); they are theirs again when we give them back. */
static bool report(struct virtq *q, struct virtq_chain *c)
{
	for (unsigned int i = 0; i < c->ins; i++)
		drop(q->dev, c->iov[c->outs + i].iov_base, c->iov[c->outs + i].iov_len);
	virtq_push(q, c->head, 0);
	return true;
}

static bool stats(struct virtq *q, struct virtq_chain *c)
{
	struct keel_balloon *balloon = balloon_of(q->dev);
	struct virtio_balloon_stat stat;

	if (balloon->stats_held) {
		virtio_broken(q->dev, "a second buffer of statistics");
		return true;
	}
	pthread_mutex_lock(&balloon->stats_lock);
	for (unsigned int i = 0; i < VIRTIO_BALLOON_S_NR; i++) {
		if (chain_read(c, i * sizeof(stat), &stat, sizeof(stat)) != sizeof(stat))
			break;
		if (stat.tag < VIRTIO_BALLOON_S_NR)
			balloon->stats[stat.tag] = stat.val;
	}
	pthread_mutex_unlock(&balloon->stats_lock);
	balloon->stats_held = true;
	balloon->stats_head = c->head;
	return true;
}

static void kick(struct virtio *dev, unsigned int index)
{
	static bool (*const serve[QUEUES])(struct virtq *q, struct virtq_chain *c) = {
		[INFLATE] = inflate, [DEFLATE] = deflate, [STATS] = stats, [REPORTING] = report,
	};
	unsigned int role = index;

	/* queues of features that were not taken are not there at all (5.5.2) */
	if (index >= STATS && !virtio_has(dev, VIRTIO_BALLOON_F_STATS_VQ))
		role++;
	if (role < QUEUES)
		virtq_serve(&dev->queue[index], &balloon_of(dev)->chain, serve[role]);
}

static void stop(struct virtio *dev)
{
	balloon_of(dev)->stats_held = false;
}

static void destroy(struct virtio *dev)
{
	pthread_mutex_destroy(&balloon_of(dev)->stats_lock);
	free(dev);
}

static void stats_ask(void *opaque)
{
	struct keel_balloon *balloon = opaque;
	struct virtq *q = &balloon->dev.queue[STATS];

	if (!balloon->stats_held || !virtio_has(&balloon->dev, VIRTIO_BALLOON_F_STATS_VQ))
		return;
	balloon->stats_held = false;
	virtq_push(q, balloon->stats_head, 0);
	virtq_notify(q);
}

static uint32_t config_get(struct keel_balloon *balloon, size_t offset)
{
	uint32_t value;

	pthread_mutex_lock(&balloon->dev.config_lock);
	memcpy(&value, balloon->dev.config + offset, sizeof(value));
	pthread_mutex_unlock(&balloon->dev.config_lock);
	return value;
}

uint64_t keel_balloon_size(struct keel_balloon *balloon)
{
	return (uint64_t)config_get(balloon, offsetof(struct virtio_balloon_config, actual)) <<
	       PFN_SHIFT;
}

int keel_balloon_set(struct keel_balloon *balloon, uint64_t bytes)
{
	uint64_t all = keel_memory_low(balloon->dev.memory) + keel_memory_high(balloon->dev.memory);
	uint32_t pages = bytes >> PFN_SHIFT;

	if (bytes >= all)
		return keel_fail(EINVAL, "the guest has %llu MiB in all: a balloon must be smaller",
				 (unsigned long long)(all / KEEL_MIB));
	virtio_config_set(&balloon->dev, offsetof(struct virtio_balloon_config, num_pages), &pages,
			  sizeof(pages));
	return 0;
}

void keel_balloon_stats(struct keel_balloon *balloon,
			void (*stat)(void *opaque, const char *name, uint64_t value), void *opaque)
{
	uint64_t copy[VIRTIO_BALLOON_S_NR];

	pthread_mutex_lock(&balloon->stats_lock);
	memcpy(copy, balloon->stats, sizeof(copy));
	pthread_mutex_unlock(&balloon->stats_lock);
	stat(opaque, "balloon", keel_balloon_size(balloon));
	stat(opaque, "returned", __atomic_load_n(&balloon->reported, __ATOMIC_RELAXED));
	for (unsigned int i = 0; i < VIRTIO_BALLOON_S_NR; i++)
		if (copy[i] != UINT64_MAX)
			stat(opaque, stat_names[i], copy[i]);
	/* for the next time */
	keel_loop_call(balloon->dev.loop, stats_ask, balloon);
}

static void describe(struct virtio *dev, char *text, size_t size)
{
	struct keel_balloon *balloon = balloon_of(dev);

	snprintf(text, size, "%llu MiB inflated",
		 (unsigned long long)(keel_balloon_size(balloon) / KEEL_MIB));
}

static const struct virtio_ops ops = {
	.name = "balloon", .type = VIRTIO_ID_BALLOON, .class = 0xff,
	.kick = kick, .stop = stop, .describe = describe, .destroy = destroy,
};

int keel_balloon_create(struct keel_pci *pci, bool unthreaded, struct keel_balloon **out)
{
	struct keel_balloon *balloon = calloc(1, sizeof(*balloon));
	int ret;

	if (!balloon)
		return keel_fail(ENOMEM, "out of memory");
	pthread_mutex_init(&balloon->stats_lock, NULL);
	memset(balloon->stats, 0xff, sizeof(balloon->stats));
	balloon->chain = (struct virtq_chain) { .iov = balloon->iov, .max = SEGMENTS };
	balloon->dev.ops = &ops;
	balloon->dev.queues = QUEUES;
	balloon->dev.offered = VIRTIO_BIT(VIRTIO_BALLOON_F_STATS_VQ) |
			       VIRTIO_BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
			       VIRTIO_BIT(VIRTIO_BALLOON_F_REPORTING);
	/* as far as the page poison's word; free page hints, between, are not offered */
	balloon->dev.config_size = offsetof(struct virtio_balloon_config, free_page_hint_cmd_id);
	balloon->dev.config_first = offsetof(struct virtio_balloon_config, actual);
	balloon->dev.config_end = balloon->dev.config_first + 4;
	ret = virtio_create(&balloon->dev, pci, !unthreaded);
	if (ret) {
		pthread_mutex_destroy(&balloon->stats_lock);
		free(balloon);
		return ret;
	}
	*out = balloon;
	return 0;
}
