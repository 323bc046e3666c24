// SPDX-License-Identifier: GPL-2.0-only
/*
 * Split virtqueues (virtio 1.2, 2.7) from the device's side, with indirect descriptors and event
 * indexes.
 *
 * All that the driver writes is hostile and may change while we look: each descriptor and index is
 * read once. A chain has at most VIRTQ_SEGMENTS descriptors, which also ends one that runs in a
 * circle; the indexes are checked against the size that was set when the queue was enabled.
 *
 * No locks: a queue belongs to one thread at a time, see virtio.h.
 */
#include <string.h>

#include "virtio.h"

#define LOAD(x)		__atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define STORE(x, v)	__atomic_store_n(&(x), v, __ATOMIC_RELEASE)

static bool event_idx(const struct virtq *q)
{
	return virtio_has(q->dev, VIRTIO_RING_F_EVENT_IDX);
}

bool virtq_map(struct virtq *q)
{
	const struct keel_memory *mem = q->dev->memory;
	uint64_t size = q->size;

	/* the rings have an event index at their ends, whether it is used or not (2.7.6, 2.7.8) */
	q->desc = keel_memory_at(mem, q->desc_gpa, size * sizeof(struct vring_desc));
	q->avail = keel_memory_at(mem, q->avail_gpa, 6 + size * 2);
	q->used = keel_memory_at(mem, q->used_gpa, 6 + size * sizeof(struct vring_used_elem));
	q->next_avail = q->next_used = q->signalled = 0;
	return q->desc && q->avail && q->used && !(q->desc_gpa % 16) && !(q->avail_gpa % 2) &&
	       !(q->used_gpa % 4);
}

/* Popping ---------------------------------------------------------------------------------- */

/* Read once, and at any address: an indirect table may lie anywhere. */
static struct vring_desc desc_read(const struct vring_desc *table, unsigned int n)
{
	typedef struct { uint64_t half[2]; } __attribute__((packed, may_alias)) raw;
	const volatile raw *at = (const volatile raw *)((const char *)table + n * sizeof(raw));
	const uint64_t copy[2] = { at->half[0], at->half[1] };
	struct vring_desc d;

	memcpy(&d, copy, sizeof(d));
	return d;
}

/* Returns what is wrong with it, or NULL. */
static const char *segment_add(struct virtq *q, struct virtq_chain *chain,
			       const struct vring_desc *d)
{
	bool in = d->flags & VRING_DESC_F_WRITE;
	void *host;

	if (!in && chain->ins)
		return "a readable descriptor follows a writable one";
	host = keel_memory_at(q->dev->memory, d->addr, d->len);
	if (!host)
		return "a buffer is not in memory";
	if (!d->len)
		return NULL;
	if (chain->outs + chain->ins == chain->max)
		return "a chain has too many buffers";
	chain->iov[chain->outs + chain->ins] = (struct iovec) { .iov_base = host, .iov_len = d->len };
	*(in ? &chain->ins : &chain->outs) += 1;
	*(in ? &chain->in_size : &chain->out_size) += d->len;
	return NULL;
}

static const char *table_walk(struct virtq *q, struct virtq_chain *chain,
			      const struct vring_desc *table, unsigned int size, unsigned int at,
			      bool indirect)
{
	struct vring_desc d;
	const char *why;

	for (unsigned int n = 0; n < VIRTQ_SEGMENTS; n++) {
		if (at >= size)
			return "a descriptor's number is out of range";
		d = desc_read(table, at);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (indirect || d.flags & VRING_DESC_F_NEXT ||
			    !virtio_has(q->dev, VIRTIO_RING_F_INDIRECT_DESC))
				return "an indirect descriptor where none may be";
			if (!d.len || d.len % sizeof(d) || d.len / sizeof(d) > VIRTQ_SEGMENTS)
				return "an indirect table has a bad size";
			table = keel_memory_at(q->dev->memory, d.addr, d.len);
			if (!table)
				return "an indirect table is not in memory";
			return table_walk(q, chain, table, d.len / sizeof(d), 0, true);
		}
		why = segment_add(q, chain, &d);
		if (why)
			return why;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return NULL;
		at = d.next;
	}
	return "a chain is too long or has no end";
}

bool virtq_pop(struct virtq *q, struct virtq_chain *chain)
{
	uint16_t waiting;
	const char *why;

	if (!q->running || q->dev->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return false;
	waiting = LOAD(q->avail->idx) - q->next_avail;
	if (!waiting)
		return false;
	if (waiting > q->size) {
		virtio_broken(q->dev, "more is available than the queue holds");
		return false;
	}
	chain->head = LOAD(q->avail->ring[q->next_avail % q->size]);
	chain->outs = chain->ins = 0;
	chain->out_size = chain->in_size = 0;
	why = table_walk(q, chain, q->desc, q->size, chain->head, false);
	if (why) {
		virtio_broken(q->dev, why);
		return false;
	}
	q->next_avail++;
	return true;
}

void virtq_unpop(struct virtq *q, unsigned int count)
{
	q->next_avail -= count;
}

/* Pushing ---------------------------------------------------------------------------------- */

void virtq_fill(struct virtq *q, unsigned int nth, uint16_t head, uint32_t size)
{
	struct vring_used_elem *e = &q->used->ring[(q->next_used + nth) % q->size];

	e->id = head;
	e->len = size;
}

void virtq_publish(struct virtq *q, unsigned int count)
{
	q->next_used += count;
	STORE(q->used->idx, q->next_used);
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t size)
{
	virtq_fill(q, 0, head, size);
	virtq_publish(q, 1);
}

void virtq_notify(struct virtq *q)
{
	uint16_t before = q->signalled, now = q->next_used;
	bool wanted;

	if (before == now)
		return;
	q->signalled = now;
	/* our index must be out before theirs is read: they do the opposite */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (event_idx(q))
		wanted = vring_need_event(LOAD(q->avail->ring[q->size]), now, before);
	else
		wanted = !(LOAD(q->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	if (wanted)
		virtio_interrupt(q);
}

bool virtq_kicks(struct virtq *q, bool wanted)
{
	uint16_t *event = (uint16_t *)&q->used->ring[q->size];

	if (event_idx(q)) {
		/* unwanted: as far behind as can be, so that no new chain is the next one */
		STORE(*event, wanted ? q->next_avail : (uint16_t)(q->next_avail - 1));
	} else {
		STORE(q->used->flags, wanted ? 0 : VRING_USED_F_NO_NOTIFY);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return wanted && LOAD(q->avail->idx) != q->next_avail;
}

void virtq_serve(struct virtq *q, struct virtq_chain *chain,
		 bool (*serve)(struct virtq *q, struct virtq_chain *chain))
{
	bool more = true;

	if (!q->running)
		return;
	virtq_kicks(q, false);
	for (unsigned int n = 0; n < q->size; n++) {
		if (!virtq_pop(q, chain)) {
			more = false;
			break;
		}
		if (!serve(q, chain)) {
			virtq_unpop(q, 1);
			virtq_notify(q);
			return;
		}
	}
	virtq_notify(q);
	if (virtq_kicks(q, true) || more)
		keel_eventfd_signal(q->kick.fd);
}

/* Chains ----------------------------------------------------------------------------------- */

static size_t iov_copy(const struct iovec *iov, unsigned int count, size_t offset, void *data,
		       size_t size, bool to_iov)
{
	size_t done = 0;

	for (unsigned int i = 0; i < count && done < size; i++) {
		size_t n = iov[i].iov_len;

		if (offset >= n) {
			offset -= n;
			continue;
		}
		n -= offset;
		if (n > size - done)
			n = size - done;
		if (to_iov)
			memcpy((char *)iov[i].iov_base + offset, (char *)data + done, n);
		else
			memcpy((char *)data + done, (char *)iov[i].iov_base + offset, n);
		offset = 0;
		done += n;
	}
	return done;
}

size_t chain_read(const struct virtq_chain *chain, size_t offset, void *data, size_t size)
{
	return iov_copy(chain->iov, chain->outs, offset, data, size, false);
}

size_t chain_write(const struct virtq_chain *chain, size_t offset, const void *data, size_t size)
{
	return iov_copy(chain->iov + chain->outs, chain->ins, offset, (void *)data, size, true);
}

unsigned int iov_slice(const struct iovec *iov, unsigned int count, size_t offset, size_t size,
		       struct iovec *out)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < count && size; i++) {
		size_t len = iov[i].iov_len;

		if (offset >= len) {
			offset -= len;
			continue;
		}
		len -= offset;
		if (len > size)
			len = size;
		out[n++] = (struct iovec) { .iov_base = (char *)iov[i].iov_base + offset,
					    .iov_len = len };
		offset = 0;
		size -= len;
	}
	return n;
}
