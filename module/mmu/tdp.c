// SPDX-License-Identifier: GPL-2.0-only
/*
 * The nested page tree: guest physical to host physical addresses, one tree a VM, for NPT (APM 2, 15.25)
 * and EPT (SDM 3C, 28.3) alike; struct keel_pte_format has the bits.
 *
 * This file takes away: entries, permissions, tables, always with mmu.lock held for writing. tdp_fault.c adds. Nothing
 * is read back from the dirty bit: a page mapped writable is marked dirty when it is mapped. Tables are freed after
 * the flush and after an RCU grace period, since a fault looks for its leaf under RCU alone.
 *
 * Slots, host pages, the MMU notifier and the rule when TLBs are flushed are map.c's.
 */
#include <linux/gfp.h>

#include "tdp.h"

/**
 * keel_tdp_end() - the first guest page beyond a tree's reach
 * @gfn: a page of the address space in question
 *
 * Return: its number
 */
gfn_t keel_tdp_end(gfn_t gfn)
{
	return (gfn & KEEL_SMM_GFN) + (1ULL << (9 * keel_pte_format()->levels));
}

/**
 * keel_tdp_free() - free a table and all below it; the depth is the tree's
 * @vm: the VM
 * @table: the table; no CPU can reach it any more
 * @level: its level
 * @may_sleep: the caller may sleep
 */
void keel_tdp_free(struct keel_vm *vm, u64 *table, int level, bool may_sleep)
{
	unsigned int i;

	for (i = 0; level > 1 && i < KEEL_PTES_PER_TABLE; i++) {
		u64 pte = table[i];

		if (keel_pte_present(pte) && !keel_pte_leaf(pte, level))
			keel_tdp_free(vm, keel_pte_table(pte), level - 1, may_sleep);
	}
	keel_table_free(vm, table);
	if (may_sleep)
		cond_resched();
}

/**
 * keel_tdp_zap_entry() - take an entry away, with all below it
 * @z: the work so far, with room for a dead table
 * @ptep: the entry, which is present
 * @level: its level
 */
void keel_tdp_zap_entry(struct keel_zap *z, u64 *ptep, int level)
{
	u64 pte = xchg(ptep, 0);

	z->flush = true;
	z->did = true;
	if (!keel_pte_leaf(pte, level)) {
		z->dead[z->nr].table = keel_pte_table(pte);
		z->dead[z->nr].level = level - 1;
		z->nr++;
	}
}

/*
 * Zaps one entry at or after @gfn: the highest that lies wholly within [gfn, end), or a leaf however far
 * it reaches. Returns the first page not dealt with. Starts from the root each time, so the lock may be
 * dropped between two steps.
 */
static gfn_t zap_step(struct keel_zap *z, gfn_t gfn, gfn_t end)
{
	u64 *table = keel_tdp_top(&z->vm->mmu, gfn);
	int level;

	for (level = keel_pte_format()->levels;; level--) {
		u64 *ptep = &table[keel_level_index(gfn, level)];
		u64 pte = READ_ONCE(*ptep);
		gfn_t first = gfn & ~(keel_level_span(level) - 1);
		gfn_t next = first + keel_level_span(level);

		if (!keel_pte_present(pte))
			return next;
		if (keel_pte_leaf(pte, level) || (first == gfn && next <= end)) {
			keel_tdp_zap_entry(z, ptep, level);
			return next;
		}
		table = keel_pte_table(pte);
	}
}

/**
 * keel_tdp_zap_range() - unmap guest pages
 * @z: the work so far
 * @start: first page
 * @end: page after the last one
 */
void keel_tdp_zap_range(struct keel_zap *z, gfn_t start, gfn_t end)
	__must_hold(&z->vm->mmu.lock)
{
	gfn_t gfn = start;

	end = min(end, keel_tdp_end(start));
	while (gfn < end) {
		gfn = zap_step(z, gfn, end);
		keel_zap_breathe(z);
	}
}

/**
 * keel_tdp_leaf() - find the leaf that maps a guest page
 * @mmu: the MMU; mmu.lock is held, or RCU (read side): then the leaf may be dead already, and a compare-and-exchange
 *	that gives it a permission does no harm, because the flush that makes it dead is still to come
 * @gfn: guest page, below its keel_tdp_end()
 * @level: set to the level of the leaf, or of the entry that is not present
 *
 * Return: the leaf or NULL
 */
u64 *keel_tdp_leaf(struct keel_mmu *mmu, gfn_t gfn, int *level)
{
	u64 *table = keel_tdp_top(mmu, gfn);

	for (*level = keel_pte_format()->levels;; --*level) {
		u64 *ptep = &table[keel_level_index(gfn, *level)];
		u64 pte = READ_ONCE(*ptep);

		if (!keel_pte_present(pte))
			return NULL;
		if (keel_pte_leaf(pte, *level))
			return ptep;
		table = keel_pte_table(pte);
	}
}

/* The first page after the entry of @level that covers @gfn. */
static gfn_t next_entry(gfn_t gfn, int level)
{
	return (gfn | (keel_level_span(level) - 1)) + 1;
}

/**
 * keel_tdp_write_protect() - make the mapping of a guest page read-only
 * @z: the work so far
 * @gfn: guest page, below its keel_tdp_end()
 *
 * Return: the first page after the entry that maps, or does not map, @gfn
 */
gfn_t keel_tdp_write_protect(struct keel_zap *z, gfn_t gfn)
{
	const struct keel_pte_format *f = keel_pte_format();
	int level;
	u64 *ptep = keel_tdp_leaf(&z->vm->mmu, gfn, &level);

	if (ptep && (READ_ONCE(*ptep) & f->write)) {
		keel_pte_clear(ptep, f->write | f->dirty);
		z->flush = true;
	}
	return next_entry(gfn, level);
}

/* Without accessed bits the next fault is the sign of an access. */
static bool age_leaf(struct keel_zap *z, u64 *ptep, int level, enum keel_age how)
{
	u64 accessed = keel_pte_format()->accessed;

	if (accessed && !(READ_ONCE(*ptep) & accessed))
		return false;
	if (how == KEEL_AGE_TEST)
		return true;
	if (!accessed) {
		keel_tdp_zap_entry(z, ptep, level);
		return true;
	}
	keel_pte_clear(ptep, accessed);
	if (how == KEEL_AGE_FLUSH)
		z->flush = true;
	return true;
}

/**
 * keel_tdp_age_range() - were these pages accessed?
 * @z: the work so far
 * @gfn: first page
 * @end: page after the last one
 * @how: what becomes of the accessed bits
 *
 * Return: true when one was
 */
bool keel_tdp_age_range(struct keel_zap *z, gfn_t gfn, gfn_t end, enum keel_age how)
	__must_hold(&z->vm->mmu.lock)
{
	bool young = false;
	u64 *ptep;
	int level;

	for (end = min(end, keel_tdp_end(gfn)); gfn < end; gfn = next_entry(gfn, level)) {
		ptep = keel_tdp_leaf(&z->vm->mmu, gfn, &level);
		if (ptep)
			young |= age_leaf(z, ptep, level, how);
		keel_zap_breathe(z);
	}
	return young;
}

/**
 * keel_tdp_recover() - make room for a large leaf where small ones are no longer needed
 * @z: the work so far
 * @slot: a slot that is not logged any more
 * @gfn: guest page in it, below its keel_tdp_end()
 *
 * Where the host maps small pages small leaves stay; writes to those that the log protected are let through by
 * keel_tdp_fix().
 *
 * Return: the first page not dealt with
 */
gfn_t keel_tdp_recover(struct keel_zap *z, const struct keel_memslot *slot, gfn_t gfn)
{
	unsigned long hva = slot->hva + ((gfn - slot->base_gfn) << PAGE_SHIFT);
	u64 *table = keel_tdp_top(&z->vm->mmu, gfn);
	int level;

	for (level = keel_pte_format()->levels;; level--) {
		u64 *ptep = &table[keel_level_index(gfn, level)];
		u64 pte = READ_ONCE(*ptep);

		if (!keel_pte_present(pte) || keel_pte_leaf(pte, level))
			break;
		if (level <= keel_pte_format()->max_leaf && keel_tdp_fits(slot, gfn, level) &&
		    keel_host_level(z->vm->mm, hva) >= level) {
			keel_tdp_zap_entry(z, ptep, level);
			break;
		}
		if (level == 2)
			break;
		table = keel_pte_table(pte);
	}
	return next_entry(gfn, level);
}

/* Takes the mark of use off an entry that leads to a table; without a mark, takes the table. */
static bool shrink_entry(struct keel_zap *z, u64 *ptep, int level)
{
	u64 accessed = keel_pte_format()->accessed;

	if (accessed && (keel_pte_clear(ptep, accessed) & accessed))
		return false;
	keel_tdp_zap_entry(z, ptep, level);
	return true;
}

/* At the begin of 1 GiB all its tables, else the one of level 1 at @gfn. Returns the first page not dealt with. */
static gfn_t shrink_step(struct keel_zap *z, gfn_t gfn, unsigned long *seen)
{
	u64 *table = keel_tdp_top(&z->vm->mmu, gfn);
	int level;

	for (level = keel_pte_format()->levels;; level--) {
		u64 *ptep = &table[keel_level_index(gfn, level)];
		u64 pte = READ_ONCE(*ptep);

		if (!keel_pte_present(pte) || keel_pte_leaf(pte, level))
			break;
		if (level == 2 || (level == 3 && !(gfn & (keel_level_span(level) - 1)))) {
			++*seen;
			if (shrink_entry(z, ptep, level) || level == 2)
				break;
		}
		table = keel_pte_table(pte);
	}
	return next_entry(gfn, level);
}

/**
 * keel_tdp_shrink() - give up tables that the CPUs have not walked lately
 * @z: the work so far
 * @nr: how many tables to look at
 *
 * Goes on where the last call ended, once round both trees at most. A table that was walked since the last round is
 * spared; that its accessed bit may be cached and not set again at once costs a few faults.
 *
 * Return: how many were looked at; less than @nr when it went round
 */
unsigned long keel_tdp_shrink(struct keel_zap *z, unsigned long nr)
	__must_hold(&z->vm->mmu.lock)
{
	struct keel_mmu *mmu = &z->vm->mmu;
	gfn_t gfn = mmu->shrink_gfn, left = 2 * keel_tdp_end(0);
	unsigned long seen = 0;

	while (seen < nr && left) {
		gfn_t next = shrink_step(z, gfn, &seen);

		left -= min(left, next - gfn);
		gfn = next < keel_tdp_end(gfn) ? next : ~gfn & KEEL_SMM_GFN;
		keel_zap_breathe(z);
	}
	mmu->shrink_gfn = gfn;
	return seen;
}

/**
 * keel_tdp_vm_init() - give a new VM its trees, empty
 * @vm: the VM
 *
 * Return: 0 or -ENOMEM
 */
int keel_tdp_vm_init(struct keel_vm *vm)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(vm->mmu.root_table); i++) {
		vm->mmu.root_table[i] = keel_table_alloc(vm);
		if (!vm->mmu.root_table[i])
			return -ENOMEM;
	}
	return 0;
}

/**
 * keel_tdp_vm_destroy() - free the trees
 * @vm: the VM: no vCPU is left, and the notifier is unregistered; also after a failed keel_tdp_vm_init()
 */
void keel_tdp_vm_destroy(struct keel_vm *vm)
{
	u64 **table = vm->mmu.root_table;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(vm->mmu.root_table) && table[i]; i++) {
		keel_tdp_free(vm, table[i], keel_pte_format()->levels, true);
		table[i] = NULL;
	}
}

/**
 * keel_tdp_use() - the tree that the CPU is to walk for a vCPU
 * @vcpu: the vCPU, locked or not yet visible
 * @smm: that of system management mode
 *
 * The caller tells the vendor.
 */
void keel_tdp_use(struct keel_vcpu *vcpu, bool smm)
{
	vcpu->mmu.root = __sme_set(__pa(vcpu->vm->mmu.root_table[smm]));
}
