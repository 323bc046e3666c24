// SPDX-License-Identifier: GPL-2.0-only
/*
 * The nested page tree: guest physical to host physical addresses, one tree a VM, for NPT (APM 2, 15.25)
 * and EPT (SDM 3C, 28.3) alike; struct keel_pte_format has the bits.
 *
 * mmu.lock guards every entry; CPUs walk the tree meanwhile and may set accessed and dirty bits. Nothing
 * is read back from the dirty bit (a page mapped writable is marked dirty when it is mapped), so plain
 * stores to live entries lose nothing.
 *
 * No page is pinned. A host page is looked up (hostpage.c) outside the lock, between a read of invalidate_seq and the
 * check of it under the lock; the MMU notifier (notifier.c) raises the sequence and zaps. Whoever takes
 * a permission or a mapping away flushes all TLBs before it drops the lock: a notifier that then finds
 * nothing mapped may rely on nothing being cached either. Page tables are freed after that flush.
 *
 * Inside a fault the slots are read under vm->srcu from lookup to installation, so synchronize_srcu()
 * after a change of slots means that no fault can still install what the old slots said.
 */
#include <linux/gfp.h>
#include <linux/mem_encrypt.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "keel.h"
#include "ops.h"

#define PTES_PER_TABLE	512
#define PTE_PA_MASK	GENMASK_ULL(51, 12)

static const struct keel_pte_format *fmt(void)
{
	return keel_ops->pte_format;
}

/* Guest pages that one entry of a table at @level covers; level 1 holds 4 KiB entries. */
static gfn_t level_span(int level)
{
	return 1ULL << (9 * (level - 1));
}

static unsigned int level_index(gfn_t gfn, int level)
{
	return (gfn >> (9 * (level - 1))) & (PTES_PER_TABLE - 1);
}

/* First page beyond the tree's reach. */
static gfn_t tree_end(void)
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
	return __sme_clr(pte) & PTE_PA_MASK;
}

static u64 *entry_table(u64 pte)
{
	return __va(entry_pa(pte));
}

static u64 *table_alloc(struct keel_vm *vm)
{
	u64 *table = (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);

	if (table)
		atomic_long_inc(&vm->mmu.nr_tables);
	return table;
}

static void table_free(struct keel_vm *vm, u64 *table)
{
	free_page((unsigned long)table);
	atomic_long_dec(&vm->mmu.nr_tables);
}

/* Frees a table that no CPU can reach any more and all below it; the depth is the tree's. */
static void subtree_free(struct keel_vm *vm, u64 *table, int level, bool may_sleep)
{
	unsigned int i;

	for (i = 0; level > 1 && i < PTES_PER_TABLE; i++) {
		u64 pte = table[i];

		if (pte_is_present(pte) && !pte_is_leaf(pte, level))
			subtree_free(vm, entry_table(pte), level - 1, may_sleep);
	}
	table_free(vm, table);
	if (may_sleep)
		cond_resched();
}

/**
 * keel_mmu_flush_tlb() - make every vCPU forget its cached translations
 * @vm: the VM; the caller holds mmu.lock
 *
 * On return no vCPU runs guest code on a translation cached before the call: those in the guest have left
 * it, the others flush before they enter.
 */
void keel_mmu_flush_tlb(struct keel_vm *vm)
{
	keel_vm_request_all(vm, KEEL_REQ_TLB_FLUSH, true);
}

#define ZAP_BATCH	16

/*
 * Work that takes things away from the tree: entries cleared but still cached by CPUs, and the tables
 * that hung from them, kept whole until the flush since a CPU may be walking them.
 */
struct zap {
	struct keel_vm *vm;
	bool may_sleep;
	bool flush;
	bool did;			/* a flush happened or is due */
	int nr;
	struct {
		u64 *table;
		int level;
	} dead[ZAP_BATCH];
};

/* mmu.lock held: from here on no CPU uses what was taken away. */
static void zap_flush(struct zap *z)
{
	if (z->flush)
		keel_mmu_flush_tlb(z->vm);
	z->flush = false;
}

/* After zap_flush(), without the lock. */
static void zap_free(struct zap *z)
{
	while (z->nr) {
		z->nr--;
		subtree_free(z->vm, z->dead[z->nr].table, z->dead[z->nr].level, z->may_sleep);
	}
}

static void zap_entry(struct zap *z, u64 *ptep, int level)
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
 * Between two steps of long work: lets others have the lock and the CPU. Everything taken away so far is
 * flushed first, so a waiter never sees an entry gone that a TLB still holds.
 */
static void zap_breathe(struct zap *z)
	__must_hold(&z->vm->mmu.lock)
{
	spinlock_t *lock = &z->vm->mmu.lock;

	if (z->nr < ZAP_BATCH && !(z->may_sleep && (need_resched() || spin_needbreak(lock))))
		return;
	zap_flush(z);
	spin_unlock(lock);
	zap_free(z);
	if (z->may_sleep)
		cond_resched();
	spin_lock(lock);
}

/*
 * Zaps one entry at or after @gfn: the highest that lies wholly within [gfn, end), or a leaf however far
 * it reaches. Returns the first page not dealt with. Starts from the root each time, so the lock may be
 * dropped between two steps.
 */
static gfn_t zap_step(struct zap *z, gfn_t gfn, gfn_t end)
{
	u64 *table = z->vm->mmu.root_table;
	int level;

	for (level = fmt()->levels;; level--) {
		u64 *ptep = &table[level_index(gfn, level)];
		u64 pte = READ_ONCE(*ptep);
		gfn_t first = gfn & ~(level_span(level) - 1);
		gfn_t next = first + level_span(level);

		if (!pte_is_present(pte))
			return next;
		if (pte_is_leaf(pte, level) || (first == gfn && next <= end)) {
			zap_entry(z, ptep, level);
			return next;
		}
		table = entry_table(pte);
	}
}

static void zap_range(struct zap *z, gfn_t start, gfn_t end)
	__must_hold(&z->vm->mmu.lock)
{
	gfn_t gfn = start;

	end = min(end, tree_end());
	while (gfn < end) {
		gfn = zap_step(z, gfn, end);
		zap_breathe(z);
	}
}

/**
 * keel_mmu_zap_gfns() - unmap a range of guest pages; they fault again when touched
 * @vm: the VM
 * @start: first page
 * @end: page after the last one
 *
 * TLBs are flushed and tables freed on return. May sleep.
 */
void keel_mmu_zap_gfns(struct keel_vm *vm, gfn_t start, gfn_t end)
{
	struct zap z = { .vm = vm, .may_sleep = true };

	spin_lock(&vm->mmu.lock);
	zap_range(&z, start, end);
	zap_flush(&z);
	spin_unlock(&vm->mmu.lock);
	zap_free(&z);
}

/* Finds the leaf that maps @gfn, or NULL; *@next is the first page after the entry where that ended. */
static u64 *leaf_find(struct keel_mmu *mmu, gfn_t gfn, gfn_t *next)
{
	u64 *table = mmu->root_table;
	int level;

	for (level = fmt()->levels;; level--) {
		u64 *ptep = &table[level_index(gfn, level)];
		u64 pte = READ_ONCE(*ptep);

		*next = (gfn | (level_span(level) - 1)) + 1;
		if (!pte_is_present(pte))
			return NULL;
		if (pte_is_leaf(pte, level))
			return ptep;
		table = entry_table(pte);
	}
}

/* Returns the first page after the entry that maps, or does not map, @gfn. */
static gfn_t wrprot_step(struct zap *z, gfn_t gfn)
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
 * keel_mmu_write_protect_slot() - make every mapping of a slot read-only
 * @vm: the VM; the caller holds slots_lock
 * @slot: a slot whose dirty log is on for every fault that can still begin or go on
 *
 * Leaves above 4 KiB stay until the first write to them. May sleep.
 */
void keel_mmu_write_protect_slot(struct keel_vm *vm, const struct keel_memslot *slot)
{
	struct zap z = { .vm = vm, .may_sleep = true };
	gfn_t gfn = slot->base_gfn;
	gfn_t end = min_t(gfn_t, slot->base_gfn + slot->npages, tree_end());

	spin_lock(&vm->mmu.lock);
	while (gfn < end) {
		gfn = wrprot_step(&z, gfn);
		zap_breathe(&z);
	}
	zap_flush(&z);
	spin_unlock(&vm->mmu.lock);
}

/**
 * keel_mmu_harvest_dirty() - take words out of a dirty bitmap and write-protect their pages
 * @vm: the VM; the caller holds slots_lock
 * @slot: a slot with a dirty bitmap
 * @first: first word of the bitmap
 * @nr: number of words
 * @out: receives them
 *
 * A fault sets a page's bit and makes it writable in one hold of mmu.lock, and bit and permission are
 * taken away in one hold here, so a writable page always has its bit set. A write before the flush at
 * the end is in memory when the caller copies pages after it; one after the flush faults.
 */
void keel_mmu_harvest_dirty(struct keel_vm *vm, const struct keel_memslot *slot, unsigned long first,
			    unsigned long nr, unsigned long *out)
{
	struct zap z = { .vm = vm, .may_sleep = true };
	unsigned long i, bit;

	spin_lock(&vm->mmu.lock);
	for (i = 0; i < nr; i++) {
		unsigned long *word = &slot->dirty[first + i];
		gfn_t base = slot->base_gfn + (first + i) * BITS_PER_LONG;

		out[i] = READ_ONCE(*word) ? xchg(word, 0) : 0;
		for_each_set_bit(bit, &out[i], BITS_PER_LONG)
			if (base + bit < tree_end())
				wrprot_step(&z, base + bit);
		zap_breathe(&z);
	}
	zap_flush(&z);
	spin_unlock(&vm->mmu.lock);
}

/* The guest pages of @slot in [start, end), which are host virtual addresses; false if there are none. */
static bool slot_hva_range(const struct keel_memslot *slot, unsigned long start, unsigned long end,
			   gfn_t *first, gfn_t *last)
{
	unsigned long s = max(start, slot->hva);
	unsigned long e = min(end, slot->hva + (slot->npages << PAGE_SHIFT));

	if (s >= e)
		return false;
	*first = slot->base_gfn + ((s - slot->hva) >> PAGE_SHIFT);
	*last = slot->base_gfn + ((e - slot->hva + PAGE_SIZE - 1) >> PAGE_SHIFT);
	return true;
}

/**
 * keel_mmu_unmap_hva_range() - unmap what the host is about to take back
 * @vm: the VM; invalidate_active is raised, so nothing in the range can be mapped meanwhile
 * @start: first host virtual address
 * @end: address after the last one
 * @may_sleep: the caller may sleep
 *
 * The slots are read after invalidate_active was raised: a slot that this read misses is one whose
 * faults begin later and see the invalidation.
 *
 * Return: true when something was mapped (and so TLBs were flushed)
 */
bool keel_mmu_unmap_hva_range(struct keel_vm *vm, unsigned long start, unsigned long end, bool may_sleep)
{
	struct zap z = { .vm = vm, .may_sleep = may_sleep };
	const struct keel_memslots *slots;
	gfn_t first, last;
	int i, idx;

	idx = srcu_read_lock(&vm->srcu);
	slots = srcu_dereference(vm->slots, &vm->srcu);
	spin_lock(&vm->mmu.lock);
	for (i = 0; i < slots->nr; i++)
		if (slot_hva_range(&slots->slot[i], start, end, &first, &last))
			zap_range(&z, first, last);
	zap_flush(&z);
	spin_unlock(&vm->mmu.lock);
	srcu_read_unlock(&vm->srcu, idx);
	zap_free(&z);
	return z.did;
}

static bool age_range(struct zap *z, gfn_t gfn, gfn_t end, enum keel_age how)
	__must_hold(&z->vm->mmu.lock)
{
	bool young = false;
	gfn_t next;

	for (end = min(end, tree_end()); gfn < end; gfn = next) {
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
		zap_breathe(z);
	}
	return young;
}

/**
 * keel_mmu_age_hva_range() - was the guest seen to use these pages?
 * @vm: the VM
 * @start: first host virtual address
 * @end: address after the last one
 * @how: whether to clear the accessed bits, and flush
 *
 * Does not sleep: the host asks with page-table locks held.
 *
 * Return: true when a page in the range was accessed since its bit was last cleared
 */
bool keel_mmu_age_hva_range(struct keel_vm *vm, unsigned long start, unsigned long end, enum keel_age how)
{
	struct zap z = { .vm = vm };
	const struct keel_memslots *slots;
	bool young = false;
	gfn_t first, last;
	int i, idx;

	idx = srcu_read_lock(&vm->srcu);
	slots = srcu_dereference(vm->slots, &vm->srcu);
	spin_lock(&vm->mmu.lock);
	for (i = 0; i < slots->nr; i++)
		if (slot_hva_range(&slots->slot[i], start, end, &first, &last))
			young |= age_range(&z, first, last, how);
	zap_flush(&z);
	spin_unlock(&vm->mmu.lock);
	srcu_read_unlock(&vm->srcu, idx);
	return young;
}

/* One fault on its way: what the slot says, and what the host has there. */
struct map {
	struct keel_vcpu *vcpu;
	struct keel_memslot *slot;
	gfn_t gfn;
	unsigned long seq;		/* invalidate_seq before the host's page was looked up */
	struct keel_host_page host;
};

/* mmu.lock held: is the host taking something in [hva, hva + size) away? */
static bool range_invalidating(const struct keel_mmu *mmu, unsigned long hva, unsigned long size)
{
	return mmu->invalidate_active && hva < mmu->invalidate_end && hva + size > mmu->invalidate_start;
}

/* Stands for vm->apic_page, which is no slot. */
static struct keel_memslot apic_slot = { .base_gfn = KEEL_APIC_GFN, .npages = 1 };

/* mmu.lock held, sequence checked: the highest level at which this page may be mapped. */
static int map_level(const struct map *m)
{
	const struct keel_memslot *slot = m->slot;
	const struct keel_mmu *mmu = &m->vcpu->vm->mmu;
	int level;

	if (slot->dirty || slot == &apic_slot || fmt()->max_leaf == 1)
		return 1;
	level = min(keel_host_level(m->vcpu->vm->mm, m->host.hva), fmt()->max_leaf);
	for (; level > 1; level--) {
		gfn_t span = level_span(level);
		gfn_t first = m->gfn & ~(span - 1);
		unsigned long hva = m->host.hva & ~((span << PAGE_SHIFT) - 1);

		if (((m->host.hva >> PAGE_SHIFT) ^ m->gfn) & (span - 1) || (m->host.pfn ^ m->gfn) & (span - 1))
			continue;
		if (first < slot->base_gfn || first + span > slot->base_gfn + slot->npages)
			continue;
		if (!range_invalidating(mmu, hva, span << PAGE_SHIFT))
			break;
	}
	return level;
}

static u64 leaf_make(const struct map *m, int level)
{
	const struct keel_pte_format *f = fmt();
	u64 pfn = m->host.pfn & ~(level_span(level) - 1);
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

/*
 * mmu.lock held. Tables come from the vCPU's cache, which holds enough for one path. An entry of the
 * wrong kind in the way (a large leaf where a small one must go, or a table where a large leaf can) is
 * cleared and flushed before the new one is written: the CPU never sees two sizes at once.
 */
static void map_install(const struct map *m, struct zap *z)
{
	struct keel_mmu_vcpu *cache = &m->vcpu->mmu;
	u64 *table = m->vcpu->vm->mmu.root_table;
	int level, target = map_level(m);
	u64 *ptep, pte, new;

	for (level = fmt()->levels; level > target; level--) {
		ptep = &table[level_index(m->gfn, level)];
		pte = READ_ONCE(*ptep);
		if (pte_is_present(pte) && pte_is_leaf(pte, level)) {
			if (!m->host.write || (pte & fmt()->write))
				return;
			zap_entry(z, ptep, level);
			zap_flush(z);
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

	ptep = &table[level_index(m->gfn, target)];
	pte = READ_ONCE(*ptep);
	new = leaf_make(m, target);
	if (pte_is_present(pte)) {
		if (!pte_is_leaf(pte, target)) {
			zap_entry(z, ptep, target);
			zap_flush(z);
		} else if (entry_pa(pte) == entry_pa(new)) {
			new |= pte & (fmt()->write | fmt()->dirty);	/* a faster vCPU's */
		} else {
			zap_entry(z, ptep, target);
			zap_flush(z);
		}
	}
	if (m->slot->dirty && (new & fmt()->write))
		keel_mark_dirty(m->vcpu->vm, m->slot, m->gfn);
	WRITE_ONCE(*ptep, new);
}

static int cache_fill(struct keel_vcpu *vcpu)
{
	struct keel_mmu_vcpu *cache = &vcpu->mmu;

	while (cache->nr_cached < fmt()->levels) {
		u64 *table = table_alloc(vcpu->vm);

		if (!table)
			return -ENOMEM;
		cache->cache[cache->nr_cached++] = table;
	}
	return 0;
}

/* The slot is known and vm->srcu held: find the host page, install it. */
static int map_page(struct map *m)
{
	struct keel_vm *vm = m->vcpu->vm;
	struct zap z = { .vm = vm, .may_sleep = true };
	int r;

	m->seq = READ_ONCE(vm->mmu.invalidate_seq);
	smp_rmb();	/* pairs with the lock in notifier.c: sequence first, then the host's tables */
	r = keel_host_page_get(vm->mm, &m->host);
	if (r == -EAGAIN)
		return KEEL_MMU_RETRY;
	if (r == -EHWPOISON) {
		/* As when the client itself had touched it; the run loop sees the signal. */
		send_sig_mceerr(BUS_MCEERR_AR, (void __user *)m->host.hva, PAGE_SHIFT, current);
		return KEEL_MMU_RETRY;
	}
	if (r)
		return r;

	spin_lock(&vm->mmu.lock);
	if (m->seq == vm->mmu.invalidate_seq && !range_invalidating(&vm->mmu, m->host.hva, PAGE_SIZE)) {
		map_install(m, &z);
		/*
		 * Under the lock: a host that cleans the page has to zap it first, and would wait. The
		 * host's own dirty bit need not be set, the lookup may have found it clean and writable.
		 */
		if (m->host.page && m->host.writable && !PageReserved(m->host.page))
			folio_set_dirty(page_folio(m->host.page));
	}
	spin_unlock(&vm->mmu.lock);
	zap_free(&z);

	keel_host_page_put(&m->host);
	return KEEL_MMU_RETRY;
}

/* The page that stands for the local APIC: no data are in it, the CPU knows accesses by their address. */
static int map_apic_page(struct map *m)
{
	struct keel_vm *vm = m->vcpu->vm;
	struct zap z = { .vm = vm };

	m->slot = &apic_slot;
	m->host.page = virt_to_page(vm->apic_page);
	m->host.pfn = page_to_pfn(m->host.page);
	m->host.writable = true;
	spin_lock(&vm->mmu.lock);
	if (!READ_ONCE(vm->apic_page_off))
		map_install(m, &z);
	spin_unlock(&vm->mmu.lock);
	zap_free(&z);
	return KEEL_MMU_RETRY;
}

static bool is_apic_page(const struct map *m)
{
	const struct keel_vm *vm = m->vcpu->vm;

	return m->gfn == KEEL_APIC_GFN && vm->apic_page && m->vcpu->virt_apic_page &&
	       !READ_ONCE(vm->apic_page_off);
}

/**
 * keel_mmu_fault() - the guest touched a page that the tree does not map, or not so
 * @vcpu: the vCPU, locked, outside the window
 * @gpa: guest physical address
 * @access: KEEL_ACC_*; a guest page table's own access (KEEL_ACC_TABLE) is an access like others
 *
 * May sleep, and may wait long for the host's page (a userfaultfd, a slow file).
 *
 * Return: KEEL_MMU_RETRY, KEEL_MMU_EMULATE, or -EFAULT (nothing mapped at the slot's host address, or
 * not so that this access is allowed), -ENOMEM, -EINTR (a signal came first). For a poisoned page the
 * client gets SIGBUS, as in KVM.
 */
int keel_mmu_fault(struct keel_vcpu *vcpu, gpa_t gpa, u32 access)
{
	struct map m = {
		.vcpu = vcpu,
		.gfn = gpa >> PAGE_SHIFT,
		.host.write = access & KEEL_ACC_WRITE,
	};
	struct keel_vm *vm = vcpu->vm;
	int idx, r;

	might_sleep();
	if (m.gfn >= tree_end())
		return KEEL_MMU_EMULATE;
	if (WARN_ON_ONCE(current->mm != vm->mm))
		return -EFAULT;
	r = cache_fill(vcpu);
	if (r)
		return r;

	idx = srcu_read_lock(&vm->srcu);
	m.slot = keel_slot_find(vm, m.gfn);
	if (!m.slot && is_apic_page(&m)) {
		r = map_apic_page(&m);
	} else if (!m.slot || (m.host.write && (m.slot->flags & KVM_MEM_READONLY))) {
		r = KEEL_MMU_EMULATE;
	} else if (READ_ONCE(m.slot->invalid)) {
		r = KEEL_MMU_RETRY;
	} else {
		m.host.hva = m.slot->hva + ((m.gfn - m.slot->base_gfn) << PAGE_SHIFT);
		m.host.may_write = !(m.slot->flags & KVM_MEM_READONLY) && (m.host.write || !m.slot->dirty);
		r = map_page(&m);
	}
	srcu_read_unlock(&vm->srcu, idx);
	return r;
}

/**
 * keel_mmu_vm_init() - give a new VM an empty tree
 * @vm: the VM
 *
 * Return: 0 or -ENOMEM
 */
int keel_mmu_vm_init(struct keel_vm *vm)
{
	struct keel_mmu *mmu = &vm->mmu;

	spin_lock_init(&mmu->lock);
	mmu->root_table = table_alloc(vm);
	if (!mmu->root_table)
		return -ENOMEM;
	mmu->root = __sme_set(__pa(mmu->root_table));
	return 0;
}

/**
 * keel_mmu_vm_destroy() - free the tree
 * @vm: the VM: no vCPU is left, and the notifier is unregistered; also after a failed keel_mmu_vm_init()
 */
void keel_mmu_vm_destroy(struct keel_vm *vm)
{
	struct keel_mmu *mmu = &vm->mmu;

	if (mmu->root_table)
		subtree_free(vm, mmu->root_table, fmt()->levels, true);
	mmu->root_table = NULL;
	mmu->root = 0;
	WARN_ON_ONCE(atomic_long_read(&mmu->nr_tables));
}

/**
 * keel_mmu_vcpu_destroy() - free what a vCPU keeps for its faults
 * @vcpu: the vCPU, before its VM's keel_mmu_vm_destroy()
 */
void keel_mmu_vcpu_destroy(struct keel_vcpu *vcpu)
{
	struct keel_mmu_vcpu *cache = &vcpu->mmu;

	while (cache->nr_cached)
		table_free(vcpu->vm, cache->cache[--cache->nr_cached]);
}
