// SPDX-License-Identifier: GPL-2.0-only
/*
 * The nested page tree: guest physical to host physical addresses, one tree a VM, for NPT (APM 2, 15.25)
 * and EPT (SDM 3C, 28.3) alike; struct keel_pte_format has the bits.
 *
 * mmu.lock guards every entry; CPUs walk the tree meanwhile and may set accessed and dirty bits. Nothing
 * is read back from the dirty bit (a page mapped writable is marked dirty when it is mapped), so plain
 * stores to live entries lose nothing.
 *
 * Slots, host pages, the MMU notifier and the rule when TLBs are flushed are map.c's.
 */
#include <linux/gfp.h>
#include <linux/mem_encrypt.h>
#include <linux/mm.h>

#include "engine.h"
#include "ops.h"

static const struct keel_pte_format *fmt(void)
{
	return keel_ops->pte_format;
}

/**
 * keel_tdp_end() - the first guest page beyond the tree's reach
 *
 * Return: its number
 */
gfn_t keel_tdp_end(void)
{
	return 1ULL << (9 * fmt()->levels);
}

static bool pte_is_present(u64 pte)
{
	return pte & fmt()->present;
}

static bool pte_is_leaf(u64 pte, int level)
{
	return level == 1 || (pte & fmt()->large);
}

static hpa_t entry_pa(u64 pte)
{
	return __sme_clr(pte) & KEEL_PTE_PA_MASK;
}

static u64 *entry_table(u64 pte)
{
	return __va(entry_pa(pte));
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

		if (pte_is_present(pte) && !pte_is_leaf(pte, level))
			keel_tdp_free(vm, entry_table(pte), level - 1, may_sleep);
	}
	keel_table_free(vm, table);
	if (may_sleep)
		cond_resched();
}

static void zap_entry(struct keel_zap *z, u64 *ptep, int level)
{
	u64 pte = READ_ONCE(*ptep);

	WRITE_ONCE(*ptep, 0);
	z->flush = true;
	z->did = true;
	if (!pte_is_leaf(pte, level)) {
		z->dead[z->nr].table = entry_table(pte);
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
	u64 *table = z->vm->mmu.root_table;
	int level;

	for (level = fmt()->levels;; level--) {
		u64 *ptep = &table[keel_level_index(gfn, level)];
		u64 pte = READ_ONCE(*ptep);
		gfn_t first = gfn & ~(keel_level_span(level) - 1);
		gfn_t next = first + keel_level_span(level);

		if (!pte_is_present(pte))
			return next;
		if (pte_is_leaf(pte, level) || (first == gfn && next <= end)) {
			zap_entry(z, ptep, level);
			return next;
		}
		table = entry_table(pte);
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

	end = min(end, keel_tdp_end());
	while (gfn < end) {
		gfn = zap_step(z, gfn, end);
		keel_zap_breathe(z);
	}
}

/* Finds the leaf that maps @gfn, or NULL; *@next is the first page after the entry where that ended. */
static u64 *leaf_find(struct keel_mmu *mmu, gfn_t gfn, gfn_t *next)
{
	u64 *table = mmu->root_table;
	int level;

	for (level = fmt()->levels;; level--) {
		u64 *ptep = &table[keel_level_index(gfn, level)];
		u64 pte = READ_ONCE(*ptep);

		*next = (gfn | (keel_level_span(level) - 1)) + 1;
		if (!pte_is_present(pte))
			return NULL;
		if (pte_is_leaf(pte, level))
			return ptep;
		table = entry_table(pte);
	}
}

/**
 * keel_tdp_write_protect() - make the mapping of a guest page read-only
 * @z: the work so far
 * @gfn: guest page, below keel_tdp_end()
 *
 * Return: the first page after the entry that maps, or does not map, @gfn
 */
gfn_t keel_tdp_write_protect(struct keel_zap *z, gfn_t gfn)
{
	gfn_t next;
	u64 *ptep = leaf_find(&z->vm->mmu, gfn, &next);
	u64 pte;

	if (ptep) {
		pte = READ_ONCE(*ptep);
		if (pte & fmt()->write) {
			WRITE_ONCE(*ptep, pte & ~(fmt()->write | fmt()->dirty));
			z->flush = true;
		}
	}
	return next;
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
	gfn_t next;

	for (end = min(end, keel_tdp_end()); gfn < end; gfn = next) {
		u64 *ptep = leaf_find(&z->vm->mmu, gfn, &next);
		u64 pte = ptep ? READ_ONCE(*ptep) : 0;

		if (!ptep) {
			/* nothing mapped */
		} else if (!fmt()->accessed) {
			/* Without accessed bits the next fault is the sign of an access. */
			young = true;
			if (how != KEEL_AGE_TEST) {
				WRITE_ONCE(*ptep, 0);
				z->flush = true;
			}
		} else if (pte & fmt()->accessed) {
			young = true;
			if (how != KEEL_AGE_TEST)
				WRITE_ONCE(*ptep, pte & ~fmt()->accessed);
			if (how == KEEL_AGE_FLUSH)
				z->flush = true;
		}
		keel_zap_breathe(z);
	}
	return young;
}

/* mmu.lock held, sequence checked: the highest level at which this page may be mapped. */
static int map_level(const struct keel_map *m)
{
	const struct keel_memslot *slot = m->slot;
	const struct keel_mmu *mmu = &m->vcpu->vm->mmu;
	int level;

	if (keel_slot_logs(slot) || slot->npages == 1 || fmt()->max_leaf == 1)
		return 1;
	level = min(keel_host_level(m->vcpu->vm->mm, m->host.hva), fmt()->max_leaf);
	for (; level > 1; level--) {
		gfn_t span = keel_level_span(level);
		gfn_t first = m->gfn & ~(span - 1);
		unsigned long hva = m->host.hva & ~((span << PAGE_SHIFT) - 1);

		if (((m->host.hva >> PAGE_SHIFT) ^ m->gfn) & (span - 1) || (m->host.pfn ^ m->gfn) & (span - 1))
			continue;
		if (first < slot->base_gfn || first + span > slot->base_gfn + slot->npages)
			continue;
		if (!keel_range_invalidating(mmu, hva, span << PAGE_SHIFT))
			break;
	}
	return level;
}

static u64 leaf_make(const struct keel_map *m, int level)
{
	const struct keel_pte_format *f = fmt();
	u64 pfn = m->host.pfn & ~(keel_level_span(level) - 1);
	u64 pte = __sme_set(pfn << PAGE_SHIFT) | f->present | f->accessed;

	if (!m->host.page && !pfn_valid(m->host.pfn))
		pte = (pfn << PAGE_SHIFT) | f->present | f->accessed | f->memtype_uc;
	else
		pte |= f->memtype_wb;
	if (level > 1)
		pte |= f->large;
	if (m->host.writable)
		pte |= f->write | f->dirty;
	return pte;
}

/**
 * keel_tdp_install() - map a page
 * @m: the page, its host side known to be true
 * @z: what the caller flushes and frees
 *
 * Tables come from the vCPU's cache, which holds enough for one path. An entry of the
 * wrong kind in the way (a large leaf where a small one must go, or a table where a large leaf can) is
 * cleared and flushed before the new one is written: the CPU never sees two sizes at once.
 */
void keel_tdp_install(const struct keel_map *m, struct keel_zap *z)
{
	struct keel_mmu_vcpu *cache = &m->vcpu->mmu;
	u64 *table = m->vcpu->vm->mmu.root_table;
	int level, target = map_level(m);
	u64 *ptep, pte, new;

	for (level = fmt()->levels; level > target; level--) {
		ptep = &table[keel_level_index(m->gfn, level)];
		pte = READ_ONCE(*ptep);
		if (pte_is_present(pte) && pte_is_leaf(pte, level)) {
			if (!m->host.write || (pte & fmt()->write))
				return;
			zap_entry(z, ptep, level);
			keel_zap_flush(z);
			pte = 0;
		}
		if (!pte_is_present(pte)) {
			if (WARN_ON_ONCE(!cache->nr_cached))
				return;
			pte = __sme_set(__pa(cache->cache[--cache->nr_cached])) | fmt()->present | fmt()->table;
			smp_wmb();	/* the table is zero before a CPU can reach it */
			WRITE_ONCE(*ptep, pte);
		}
		table = entry_table(pte);
	}

	ptep = &table[keel_level_index(m->gfn, target)];
	pte = READ_ONCE(*ptep);
	new = leaf_make(m, target);
	if (pte_is_present(pte)) {
		if (!pte_is_leaf(pte, target)) {
			zap_entry(z, ptep, target);
			keel_zap_flush(z);
		} else if (entry_pa(pte) == entry_pa(new)) {
			new |= pte & (fmt()->write | fmt()->dirty);	/* a faster vCPU's */
		} else {
			zap_entry(z, ptep, target);
			keel_zap_flush(z);
		}
	}
	if (new & fmt()->write)
		keel_mark_dirty(m->vcpu, m->slot, m->gfn);
	WRITE_ONCE(*ptep, new);
}

static int cache_fill(struct keel_vcpu *vcpu)
{
	struct keel_mmu_vcpu *cache = &vcpu->mmu;

	while (cache->nr_cached < fmt()->levels) {
		u64 *table = keel_table_alloc(vcpu->vm);

		if (!table)
			return -ENOMEM;
		cache->cache[cache->nr_cached++] = table;
	}
	return 0;
}

/**
 * keel_tdp_fault() - the CPU found a page that the tree does not map, or not so
 * @vcpu: the vCPU, locked, outside the window
 * @gpa: guest physical address
 * @access: KEEL_ACC_*
 *
 * Return: as keel_mmu_fault()
 */
int keel_tdp_fault(struct keel_vcpu *vcpu, gpa_t gpa, u32 access)
{
	struct keel_map m = {
		.vcpu = vcpu,
		.gfn = gpa >> PAGE_SHIFT,
		.host.write = access & KEEL_ACC_WRITE,
	};
	int r;

	if (m.gfn >= keel_tdp_end())
		return KEEL_MMU_EMULATE;
	r = cache_fill(vcpu);
	return r ? r : keel_map_gfn(&m);
}

/**
 * keel_tdp_vm_init() - give a new VM an empty tree
 * @vm: the VM
 *
 * Return: 0 or -ENOMEM
 */
int keel_tdp_vm_init(struct keel_vm *vm)
{
	struct keel_mmu *mmu = &vm->mmu;

	mmu->root_table = keel_table_alloc(vm);
	if (!mmu->root_table)
		return -ENOMEM;
	mmu->root = __sme_set(__pa(mmu->root_table));
	return 0;
}

/**
 * keel_tdp_vm_destroy() - free the tree
 * @vm: the VM: no vCPU is left, and the notifier is unregistered; also after a failed keel_tdp_vm_init()
 */
void keel_tdp_vm_destroy(struct keel_vm *vm)
{
	struct keel_mmu *mmu = &vm->mmu;

	if (mmu->root_table)
		keel_tdp_free(vm, mmu->root_table, fmt()->levels, true);
	mmu->root_table = NULL;
	mmu->root = 0;
}
