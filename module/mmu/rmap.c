// SPDX-License-Identifier: GPL-2.0-only
/*
 * From a guest page to the shadow entries that map it: what dirty logs, the MMU notifier, changes of slots and the
 * write protection of guest page tables need.
 *
 * Each leaf has a link in a hash table by guest page. All here runs under mmu.lock, which keel_zap_breathe() lets go:
 * a chain is looked at again from its start afterwards.
 */
#include <linux/hash.h>

#include "shadow.h"

static struct hlist_head *leaf_bucket(struct keel_shadow *shadow, gfn_t gfn)
{
	return &shadow->leaves[hash_64(gfn, KEEL_SHADOW_LEAF_BITS)];
}

static u64 *link_entry(const struct keel_shadow_link *link)
{
	return &link->page->table[link->index];
}

/**
 * keel_shadow_set_leaf() - map a page of the guest's
 * @vcpu: the vCPU, whose cache has a link
 * @page: a shadow page of level 1
 * @index: an empty entry of it
 * @gfn: guest page
 * @entry: what the entry is to hold
 */
void keel_shadow_set_leaf(struct keel_vcpu *vcpu, struct keel_shadow_page *page, unsigned int index, gfn_t gfn,
			  u64 entry)
{
	struct keel_shadow *shadow = vcpu->vm->mmu.shadow;
	struct keel_shadow_link *link = keel_shadow_link(vcpu, page, index, gfn);

	if (!link)
		return;
	hlist_add_head(&link->node, leaf_bucket(shadow, gfn));
	shadow->nr_leaves++;
	WRITE_ONCE(page->table[index], entry);
}

/**
 * keel_shadow_protect() - make every mapping of a guest page read-only
 * @shadow: of the VM
 * @gfn: guest page
 *
 * Return: true when one was writable; the caller flushes
 */
bool keel_shadow_protect(struct keel_shadow *shadow, gfn_t gfn)
{
	struct keel_shadow_link *link;
	bool did = false;

	hlist_for_each_entry(link, leaf_bucket(shadow, gfn), node) {
		u64 *entry = link_entry(link), old = READ_ONCE(*entry);

		if (link->gfn != gfn || !(old & KEEL_SHADOW_W))
			continue;
		WRITE_ONCE(*entry, old & ~(KEEL_SHADOW_W | KEEL_SHADOW_D));
		did = true;
	}
	return did;
}

/**
 * keel_shadow_write_protect() - keel_shadow_protect() as a part of longer work
 * @z: the work so far
 * @gfn: guest page
 */
void keel_shadow_write_protect(struct keel_zap *z, gfn_t gfn)
{
	z->flush |= keel_shadow_protect(z->vm->mmu.shadow, gfn);
}

/* Unmaps what hangs in one bucket and lies in [start, end). */
static void zap_bucket(struct keel_zap *z, struct hlist_head *bucket, gfn_t start, gfn_t end)
{
	struct keel_shadow_link *link;
	struct hlist_node *next;

	hlist_for_each_entry_safe(link, next, bucket, node) {
		if (link->gfn < start || link->gfn >= end)
			continue;
		keel_shadow_clear(z->vm, link->page, link->index);
		z->flush = true;
		z->did = true;
	}
}

/**
 * keel_shadow_zap_range() - unmap guest pages
 * @z: the work so far
 * @start: first page
 * @end: page after the last one
 *
 * A range of more pages than there are leaves is not looked up page by page.
 */
void keel_shadow_zap_range(struct keel_zap *z, gfn_t start, gfn_t end)
	__must_hold(&z->vm->mmu.lock)
{
	struct keel_shadow *shadow = z->vm->mmu.shadow;
	unsigned int i;
	gfn_t gfn;

	if (start < end && end - start > ARRAY_SIZE(shadow->leaves)) {
		for (i = 0; i < ARRAY_SIZE(shadow->leaves); i++) {
			zap_bucket(z, &shadow->leaves[i], start, end);
			keel_zap_breathe(z);
		}
		return;
	}
	for (gfn = start; gfn < end; gfn++) {
		zap_bucket(z, leaf_bucket(shadow, gfn), gfn, gfn + 1);
		keel_zap_breathe(z);
	}
}

/**
 * keel_shadow_age_range() - were these pages accessed?
 * @z: the work so far
 * @gfn: first page
 * @end: page after the last one
 * @how: what becomes of the accessed bits
 *
 * Return: true when one was
 */
bool keel_shadow_age_range(struct keel_zap *z, gfn_t gfn, gfn_t end, enum keel_age how)
	__must_hold(&z->vm->mmu.lock)
{
	struct keel_shadow *shadow = z->vm->mmu.shadow;
	struct keel_shadow_link *link;
	bool young = false;

	for (; gfn < end; gfn++) {
		hlist_for_each_entry(link, leaf_bucket(shadow, gfn), node) {
			u64 *entry = link_entry(link);

			if (link->gfn != gfn || !(READ_ONCE(*entry) & KEEL_SHADOW_A))
				continue;
			young = true;
			/* The CPU may be setting A or D just now. */
			if (how != KEEL_AGE_TEST)
				clear_bit(ilog2(KEEL_SHADOW_A), (unsigned long *)entry);
			if (how == KEEL_AGE_FLUSH)
				z->flush = true;
		}
		keel_zap_breathe(z);
	}
	return young;
}
