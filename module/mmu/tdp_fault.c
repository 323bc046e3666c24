// SPDX-License-Identifier: GPL-2.0-only
/*
 * What faults add to the nested tree: leaves, the tables on the way to them, and permissions.
 *
 * Faults of many vCPUs run side by side. In the order of what they cost:
 *
 *	keel_tdp_fix()		no lock, RCU: the leaf is there and allows the access, or will with one bit more
 *	keel_tdp_install()	mmu.lock for reading: something is missing, and is added by compare-and-exchange
 *	keel_tdp_replace()	mmu.lock for writing: something is in the way
 *
 * Under the lock, for reading too, the notifier stands still: map.c has checked its sequence. What keel_tdp_fix()
 * adds to was checked when the leaf was made; the notifier takes the whole leaf, and then the exchange fails, or it
 * came first, and the notifier's flush is still to come. Documentation/locking.rst has the whole argument.
 */
#include "smm.h"
#include "tdp.h"

/**
 * keel_tdp_fits() - can one leaf cover this page as the slot lies?
 * @slot: the page's slot
 * @gfn: guest page in it
 * @level: of the leaf
 *
 * Return: whether the leaf lies in the slot, and its host address is aligned as it is
 */
bool keel_tdp_fits(const struct keel_memslot *slot, gfn_t gfn, int level)
{
	gfn_t span = keel_level_span(level), first = gfn & ~(span - 1);

	return !(((slot->hva >> PAGE_SHIFT) ^ slot->base_gfn) & (span - 1)) && first >= slot->base_gfn &&
	       first + span <= slot->base_gfn + slot->npages;
}

/* mmu.lock held, sequence checked: the highest level at which this page may be mapped. */
static int map_level(const struct keel_map *m)
{
	const struct keel_memslot *slot = m->slot;
	int level;

	if (keel_slot_logs(slot) || slot->npages == 1 || keel_pte_format()->max_leaf == 1)
		return 1;
	level = min(keel_host_level(m->vcpu->vm->mm, m->host.hva), keel_pte_format()->max_leaf);
	for (; level > 1; level--) {
		gfn_t span = keel_level_span(level);
		unsigned long hva = m->host.hva & ~((span << PAGE_SHIFT) - 1);

		if (keel_tdp_fits(slot, m->gfn, level) && !((m->host.pfn ^ m->gfn) & (span - 1)) &&
		    !keel_range_invalidating(&m->vcpu->vm->mmu, hva, span << PAGE_SHIFT))
			break;
	}
	return level;
}

static u64 leaf_make(const struct keel_map *m, int level)
{
	const struct keel_pte_format *f = keel_pte_format();
	u64 pfn = m->host.pfn & ~(keel_level_span(level) - 1);
	u64 pte = __sme_set(pfn << PAGE_SHIFT) | f->present | f->accessed;

	if (!m->host.page && !pfn_valid(m->host.pfn))
		pte = (pfn << PAGE_SHIFT) | f->present | f->accessed | f->memtype_uc;
	else
		pte |= f->memtype_wb;
	if (level > 1)
		pte |= f->large;
	if (m->host.writable)
		pte |= KEEL_PTE_HOST_WRITABLE;
	if (m->host.writable && m->map_writable)
		pte |= f->write | f->dirty;
	return pte;
}

static bool pte_allows(u64 pte, u32 access)
{
	const struct keel_pte_format *f = keel_pte_format();

	if ((access & KEEL_ACC_WRITE) && !(pte & f->write))
		return false;
	return !(access & KEEL_ACC_EXEC) || ((pte & f->exec) == f->exec && !(pte & f->nx));
}

/**
 * keel_tdp_fix() - end a fault without a lock: another vCPU was faster, or only the write bit is missing
 * @m: vcpu, gfn and slot are set; vm->srcu is held (read side)
 * @access: KEEL_ACC_*
 *
 * A page is recorded after it became writable: who takes the record away before that leaves the page writable, or
 * protects it again, and who does it after finds the record.
 *
 * Return: true when the access may be tried again
 */
bool keel_tdp_fix(const struct keel_map *m, u32 access)
{
	const struct keel_pte_format *f = keel_pte_format();
	bool fixed = false;
	u64 *ptep, pte;
	int level;

	rcu_read_lock();
	ptep = keel_tdp_leaf(&m->vcpu->vm->mmu, m->gfn, &level);
	pte = ptep ? READ_ONCE(*ptep) : 0;
	if (!keel_pte_present(pte))
		goto out;
	fixed = pte_allows(pte, access);
	/* A large leaf in a slot that is logged has to be split first. */
	if (fixed || !(pte & KEEL_PTE_HOST_WRITABLE) || !pte_allows(pte | f->write, access) ||
	    (level > 1 && keel_slot_logs(m->slot)))
		goto out;
	fixed = cmpxchg(ptep, pte, pte | f->write | f->dirty | f->accessed) == pte;
	if (fixed)
		keel_mark_dirty(m->vcpu, m->slot, m->gfn);
out:
	rcu_read_unlock();
	return fixed;
}

/* A table from the vCPU's cache where nothing is. Returns the entry, which may be another vCPU's. */
static u64 table_link(struct keel_mmu_vcpu *cache, u64 *ptep)
{
	u64 old, new;

	if (WARN_ON_ONCE(!cache->nr_cached))
		return 0;
	new = keel_pte_for_table(cache->cache[cache->nr_cached - 1]);
	old = cmpxchg(ptep, 0, new);
	if (old)
		return old;
	cache->nr_cached--;
	return new;
}

/**
 * keel_tdp_install() - map a page beside other faults
 * @m: the page; mmu.lock is held for reading, and its host side was found true under it
 *
 * Tables come from the vCPU's cache, which holds enough for one path.
 *
 * Return: false when something is in the way, which takes keel_tdp_replace()
 */
bool keel_tdp_install(const struct keel_map *m)
{
	const struct keel_pte_format *f = keel_pte_format();
	u64 *table = keel_tdp_top(&m->vcpu->vm->mmu, m->gfn);
	int level, target = map_level(m);
	u64 *ptep, pte, old, new;

	for (level = f->levels; level > target; level--) {
		ptep = &table[keel_level_index(m->gfn, level)];
		pte = READ_ONCE(*ptep);
		if (!keel_pte_present(pte))
			pte = table_link(&m->vcpu->mmu, ptep);
		if (!pte)
			return false;
		if (keel_pte_leaf(pte, level))
			return !m->host.write || (pte & f->write);
		table = keel_pte_table(pte);
	}

	ptep = &table[keel_level_index(m->gfn, target)];
	pte = READ_ONCE(*ptep);
	do {
		old = pte;
		new = leaf_make(m, target);
		if (keel_pte_present(old)) {
			if (!keel_pte_leaf(old, target) || keel_pte_pa(old) != keel_pte_pa(new))
				return false;
			new |= old;		/* a faster vCPU's */
		}
		pte = cmpxchg(ptep, old, new);
	} while (pte != old);
	if ((new & ~old) & f->write)
		keel_mark_dirty(m->vcpu, m->slot, m->gfn);
	return true;
}

/*
 * A large leaf becomes a table of the same pages with the same rights, so that a single one of them can differ. The
 * CPU never sees two sizes at once.
 */
static u64 leaf_split(struct keel_mmu_vcpu *cache, u64 *ptep, int level, struct keel_zap *z)
{
	u64 step = keel_level_span(level - 1) << PAGE_SHIFT;
	u64 pte, *table;
	unsigned int i;

	if (WARN_ON_ONCE(!cache->nr_cached))
		return 0;
	table = cache->cache[--cache->nr_cached];
	pte = READ_ONCE(*ptep);
	keel_tdp_zap_entry(z, ptep, level);
	keel_zap_flush(z);
	if (level == 2)
		pte &= ~keel_pte_format()->large;
	for (i = 0; i < KEEL_PTES_PER_TABLE; i++)
		table[i] = pte + i * step;
	pte = keel_pte_for_table(table);
	smp_store_release(ptep, pte);
	return pte;
}

/**
 * keel_tdp_replace() - map a page where something else is in the way
 * @m: the page; mmu.lock is held for writing, and its host side was found true under it
 * @z: what the caller flushes and frees
 *
 * A table gives way to a large leaf, a large leaf that may not be written is split.
 */
void keel_tdp_replace(const struct keel_map *m, struct keel_zap *z)
{
	const struct keel_pte_format *f = keel_pte_format();
	u64 *table = keel_tdp_top(&m->vcpu->vm->mmu, m->gfn);
	int level, target = map_level(m);
	u64 *ptep, pte;

	for (level = f->levels; level > target; level--) {
		ptep = &table[keel_level_index(m->gfn, level)];
		pte = READ_ONCE(*ptep);
		if (!keel_pte_present(pte))
			break;
		if (keel_pte_leaf(pte, level)) {
			if (!m->host.write || (pte & f->write))
				return;
			pte = leaf_split(&m->vcpu->mmu, ptep, level, z);
			if (!pte)
				return;
		}
		table = keel_pte_table(pte);
	}
	if (level == target) {
		ptep = &table[keel_level_index(m->gfn, target)];
		pte = READ_ONCE(*ptep);
		if (keel_pte_present(pte) &&
		    (!keel_pte_leaf(pte, target) || keel_pte_pa(pte) != keel_pte_pa(leaf_make(m, target)))) {
			keel_tdp_zap_entry(z, ptep, target);
			keel_zap_flush(z);
		}
	}
	keel_tdp_install(m);
}

static int cache_fill(struct keel_vcpu *vcpu)
{
	struct keel_mmu_vcpu *cache = &vcpu->mmu;

	while (cache->nr_cached < keel_pte_format()->levels) {
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
		.gfn = keel_own_gpa(vcpu, gpa) >> PAGE_SHIFT,
		.access = access,
		.host.write = access & KEEL_ACC_WRITE,
	};
	int r;

	if (m.gfn >= keel_tdp_end(m.gfn))
		return KEEL_MMU_EMULATE;
	r = cache_fill(vcpu);
	return r ? r : keel_map_gfn(&m);
}
