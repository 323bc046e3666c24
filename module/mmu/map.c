// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings of guest pages, whichever engine makes the tables that the CPU walks (tdp.c): from slots and the host's
 * pages to a call of the engine, and from changes of either to what the engine has to take away.
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
#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "engine.h"
#include "ops.h"
#include "smm.h"
#include "tdp.h"

bool keel_shadowing __ro_after_init;

/* First page beyond the reach of the tables, in the address space of @gfn. */
static gfn_t reach(gfn_t gfn)
{
	return keel_shadowing ? KEEL_SHADOW_END : keel_tdp_end(gfn);
}

static void zap_range(struct keel_zap *z, gfn_t start, gfn_t end)
{
	if (keel_shadowing)
		keel_shadow_zap_range(z, start, end);
	else
		keel_tdp_zap_range(z, start, end);
}

static gfn_t write_protect(struct keel_zap *z, gfn_t gfn)
{
	if (!keel_shadowing)
		return keel_tdp_write_protect(z, gfn);
	keel_shadow_write_protect(z, gfn);
	return gfn + 1;
}

static bool age_range(struct keel_zap *z, gfn_t gfn, gfn_t end, enum keel_age how)
{
	return keel_shadowing ? keel_shadow_age_range(z, gfn, end, how) : keel_tdp_age_range(z, gfn, end, how);
}

/**
 * keel_table_alloc() - a page of page tables, zeroed and counted
 * @vm: the VM; mmu.lock is not held
 *
 * Return: the page or NULL
 */
u64 *keel_table_alloc(struct keel_vm *vm)
{
	u64 *table = (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);

	if (table)
		atomic_long_inc(&vm->mmu.nr_tables);
	return table;
}

static void table_free_rcu(struct rcu_head *head)
{
	__free_page(container_of(head, struct page, rcu_head));
}

/**
 * keel_table_free() - free a page of page tables, when no fault can be looking at it any more
 * @vm: the VM
 * @table: the page; no CPU can reach it any more
 */
void keel_table_free(struct keel_vm *vm, u64 *table)
{
	atomic_long_dec(&vm->mmu.nr_tables);
	call_rcu(&virt_to_page(table)->rcu_head, table_free_rcu);
}

/**
 * keel_mmu_flush_tlb() - make every vCPU forget its cached translations
 * @vm: the VM; the caller holds mmu.lock for writing
 *
 * On return no vCPU runs guest code on a translation cached before the call: those in the guest have left
 * it, the others flush before they enter.
 */
void keel_mmu_flush_tlb(struct keel_vm *vm)
{
	struct keel_mmu *mmu = &vm->mmu;

	WRITE_ONCE(mmu->flush_begun, mmu->flush_begun + 1);
	if (likely(!keel_checked_drop()))
		keel_vm_request_all(vm, KEEL_REQ_TLB_FLUSH, mmu->flush_mask);
	smp_store_release(&mmu->flush_done, mmu->flush_begun);
}

/**
 * keel_zap_flush() - from here on no CPU uses what was taken away
 * @z: the work so far; the caller holds mmu.lock
 */
void keel_zap_flush(struct keel_zap *z)
{
	if (z->flush || (keel_shadowing && keel_shadow_flush_due(z))) {
		keel_mmu_flush_tlb(z->vm);
		if (keel_shadowing)
			keel_shadow_flushed(z);
	}
	z->flush = false;
}

/* After keel_zap_flush(), without the lock. */
static void zap_free(struct keel_zap *z)
{
	while (z->nr) {
		z->nr--;
		keel_tdp_free(z->vm, z->dead[z->nr].table, z->dead[z->nr].level, z->may_sleep);
	}
	if (z->dead_pages)
		keel_shadow_free(z);
}

/**
 * keel_zap_breathe() - between two steps of long work: let others have the lock and the CPU
 * @z: the work so far; the caller holds mmu.lock
 *
 * Everything taken away so far is flushed first, so a waiter never sees an entry gone that a TLB still holds.
 */
void keel_zap_breathe(struct keel_zap *z)
	__must_hold(&z->vm->mmu.lock)
{
	rwlock_t *lock = &z->vm->mmu.lock;

	if (z->nr < KEEL_ZAP_BATCH && !(z->may_sleep && (need_resched() || rwlock_needbreak(lock))))
		return;
	keel_zap_flush(z);
	write_unlock(lock);
	zap_free(z);
	if (z->may_sleep)
		cond_resched();
	write_lock(lock);
}

/**
 * keel_mmu_zap_gfns() - unmap a range of guest pages; they fault again when touched
 * @vm: the VM
 * @start: first page
 * @end: page after the last one
 *
 * TLBs are flushed on return. May sleep.
 */
void keel_mmu_zap_gfns(struct keel_vm *vm, gfn_t start, gfn_t end)
{
	struct keel_zap z = { .vm = vm, .may_sleep = true };

	write_lock(&vm->mmu.lock);
	zap_range(&z, start, end);
	if (keel_shadowing)
		keel_shadow_zap_tables(&z, start, end);
	keel_zap_flush(&z);
	write_unlock(&vm->mmu.lock);
	zap_free(&z);
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
	struct keel_zap z = { .vm = vm, .may_sleep = true };
	gfn_t gfn = slot->base_gfn;
	gfn_t end = min_t(gfn_t, slot->base_gfn + slot->npages, reach(gfn));

	write_lock(&vm->mmu.lock);
	while (gfn < end) {
		gfn = write_protect(&z, gfn);
		keel_zap_breathe(&z);
	}
	keel_zap_flush(&z);
	write_unlock(&vm->mmu.lock);
}

/**
 * keel_mmu_recover_slot() - make room for large leaves in a slot that is not logged any more
 * @vm: the VM; the caller holds slots_lock, current->mm is the VM's
 * @slot: the slot, as every fault sees it
 *
 * May sleep.
 */
void keel_mmu_recover_slot(struct keel_vm *vm, const struct keel_memslot *slot)
{
	struct keel_zap z = { .vm = vm, .may_sleep = true };
	gfn_t gfn = slot->base_gfn;
	gfn_t end = min_t(gfn_t, slot->base_gfn + slot->npages, reach(gfn));

	if (keel_shadowing)
		return;		/* all leaves are small */
	write_lock(&vm->mmu.lock);
	while (gfn < end) {
		gfn = keel_tdp_recover(&z, slot, gfn);
		keel_zap_breathe(&z);
	}
	keel_zap_flush(&z);
	write_unlock(&vm->mmu.lock);
	zap_free(&z);
}

/**
 * keel_mmu_shrink() - give up page tables that were not used lately
 * @vm: the VM
 * @nr: how many tables to look at
 *
 * Takes mmu.lock. May sleep.
 *
 * Return: how many were looked at; less than @nr: that was all
 */
unsigned long keel_mmu_shrink(struct keel_vm *vm, unsigned long nr)
{
	struct keel_zap z = { .vm = vm, .may_sleep = true };
	unsigned long seen;

	write_lock(&vm->mmu.lock);
	seen = keel_shadowing ? keel_shadow_shrink(&z, nr) : keel_tdp_shrink(&z, nr);
	keel_zap_flush(&z);
	write_unlock(&vm->mmu.lock);
	zap_free(&z);
	return seen;
}

/**
 * keel_mmu_write_protect_bits() - make pages read-only; the next write to each of them faults
 * @vm: the VM; the caller holds slots_lock
 * @base: guest page of the first bit
 * @bits: which pages
 * @nr: number of bits
 *
 * For dirty.c, which has taken the pages' records away before. Whoever makes a page writable records it, so a
 * page that became writable since has a record again. A write before the flush at the end is in memory when the
 * caller copies pages after it; one after the flush faults. May sleep.
 */
void keel_mmu_write_protect_bits(struct keel_vm *vm, gfn_t base, const unsigned long *bits, unsigned long nr)
{
	struct keel_zap z = { .vm = vm, .may_sleep = true };
	unsigned long bit;

	write_lock(&vm->mmu.lock);
	for_each_set_bit(bit, bits, nr) {
		if (base + bit < reach(base))
			write_protect(&z, base + bit);
		keel_zap_breathe(&z);
	}
	keel_zap_flush(&z);
	write_unlock(&vm->mmu.lock);
}

/**
 * keel_mmu_write_protect_gfns() - keel_mmu_write_protect_bits() for pages here and there
 * @vm: the VM; the caller holds slots_lock
 * @gfns: the pages
 * @nr: how many
 */
void keel_mmu_write_protect_gfns(struct keel_vm *vm, const gfn_t *gfns, unsigned int nr)
{
	struct keel_zap z = { .vm = vm, .may_sleep = true };
	unsigned int i;

	write_lock(&vm->mmu.lock);
	for (i = 0; i < nr; i++) {
		if (gfns[i] < reach(gfns[i]))
			write_protect(&z, gfns[i]);
		keel_zap_breathe(&z);
	}
	keel_zap_flush(&z);
	write_unlock(&vm->mmu.lock);
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
	struct keel_zap z = { .vm = vm, .may_sleep = may_sleep };
	const struct keel_memslots *slots;
	gfn_t first, last;
	int i, idx;

	idx = srcu_read_lock(&vm->srcu);
	slots = srcu_dereference(vm->slots, &vm->srcu);
	write_lock(&vm->mmu.lock);
	for (i = 0; i < slots->nr; i++)
		if (slot_hva_range(&slots->slot[i], start, end, &first, &last))
			zap_range(&z, first, last);
	keel_zap_flush(&z);
	write_unlock(&vm->mmu.lock);
	srcu_read_unlock(&vm->srcu, idx);
	zap_free(&z);
	return z.did;
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
	struct keel_zap z = { .vm = vm };
	const struct keel_memslots *slots;
	bool young = false;
	gfn_t first, last;
	int i, idx;

	idx = srcu_read_lock(&vm->srcu);
	slots = srcu_dereference(vm->slots, &vm->srcu);
	write_lock(&vm->mmu.lock);
	for (i = 0; i < slots->nr; i++)
		if (slot_hva_range(&slots->slot[i], start, end, &first, &last))
			young |= age_range(&z, first, last, how);
	keel_zap_flush(&z);
	write_unlock(&vm->mmu.lock);
	srcu_read_unlock(&vm->srcu, idx);
	return young;
}

/**
 * keel_range_invalidating() - is the host taking something away there?
 * @mmu: the MMU; the caller holds its lock
 * @hva: host virtual address
 * @size: bytes
 *
 * Return: true when nothing in the range may be mapped now
 */
bool keel_range_invalidating(const struct keel_mmu *mmu, unsigned long hva, unsigned long size)
{
	return mmu->invalidate_active && hva < mmu->invalidate_end && hva + size > mmu->invalidate_start;
}

/* Stands for vm->apic_page, which is no slot. */
static struct keel_memslot apic_slot = { .base_gfn = KEEL_APIC_GFN, .npages = 1 };

/* mmu.lock held, for reading at least: is what was looked up without it still true? */
static bool host_page_stands(const struct keel_map *m)
{
	const struct keel_mmu *mmu = &m->vcpu->vm->mmu;

	return m->seq == mmu->invalidate_seq && !keel_range_invalidating(mmu, m->host.hva, PAGE_SIZE);
}

/*
 * Under the lock: a host that cleans the page has to zap it first, and would wait. The host's own dirty bit need
 * not be set, the lookup may have found it clean and writable. Later writes need no more than a bit in the leaf.
 */
static void host_page_dirty(const struct keel_map *m)
{
	if (m->host.page && m->host.writable && !PageReserved(m->host.page))
		folio_set_dirty(page_folio(m->host.page));
}

/* mmu.lock for reading; whoever holds it for writing is counted. */
static void lock_beside_others(struct keel_map *m)
	__acquires(&m->vcpu->vm->mmu.lock)
{
	rwlock_t *lock = &m->vcpu->vm->mmu.lock;

	if (read_trylock(lock))
		return;
	m->vcpu->stats.waited_faults++;
	read_lock(lock);
}

/* mmu.lock held for reading. False: it takes replace(). */
static bool install(const struct keel_map *m)
{
	if (keel_shadowing || !keel_tdp_install(m))
		return false;
	host_page_dirty(m);
	return true;
}

/* mmu.lock held for writing. */
static void replace(struct keel_map *m, struct keel_zap *z)
{
	if (keel_shadowing)
		keel_shadow_install(m, z);
	else
		keel_tdp_replace(m, z);
	host_page_dirty(m);
}

/* The slot is known and vm->srcu held: find the host page, install it. */
static int map_page(struct keel_map *m)
{
	struct keel_vm *vm = m->vcpu->vm;
	struct keel_zap z = { .vm = vm, .may_sleep = true };
	bool done;
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

	lock_beside_others(m);
	done = !host_page_stands(m) || install(m);
	read_unlock(&vm->mmu.lock);
	if (!done) {
		m->vcpu->stats.exclusive_faults++;
		write_lock(&vm->mmu.lock);
		if (host_page_stands(m))
			replace(m, &z);
		write_unlock(&vm->mmu.lock);
		zap_free(&z);
	}

	keel_host_page_put(&m->host);
	return KEEL_MMU_RETRY;
}

/* False also when somebody holds mmu.lock for writing. */
static bool install_if_free(const struct keel_map *m)
{
	rwlock_t *lock = &m->vcpu->vm->mmu.lock;
	bool done;

	if (!read_trylock(lock))
		return false;
	done = host_page_stands(m) && install(m);
	read_unlock(lock);
	return done;
}

/* As map_page(), with what is at hand: nothing is waited for. */
static bool map_resident(struct keel_map *m)
{
	bool done;

	m->seq = READ_ONCE(m->vcpu->vm->mmu.invalidate_seq);
	smp_rmb();	/* as in map_page() */
	if (!keel_host_page_get_fast(&m->host))
		return false;
	done = install_if_free(m);
	keel_host_page_put(&m->host);
	return done;
}

/* The page that stands for the local APIC: no data are in it, the CPU knows accesses by their address. */
static int map_apic_page(struct keel_map *m)
{
	struct keel_vm *vm = m->vcpu->vm;
	struct keel_zap z = { .vm = vm };

	m->slot = &apic_slot;
	m->host.page = virt_to_page(vm->apic_page);
	m->host.pfn = page_to_pfn(m->host.page);
	m->host.writable = true;
	m->map_writable = true;
	write_lock(&vm->mmu.lock);
	if (!READ_ONCE(vm->apic_page_off))
		keel_tdp_replace(m, &z);
	write_unlock(&vm->mmu.lock);
	zap_free(&z);
	return KEEL_MMU_RETRY;
}

static bool is_apic_page(const struct keel_map *m)
{
	const struct keel_vm *vm = m->vcpu->vm;

	return m->gfn == KEEL_APIC_GFN && vm->apic_page && m->vcpu->virt_apic_page &&
	       !READ_ONCE(vm->apic_page_off);
}

/* The slot is known: what is asked of the host. */
static void want_host_page(struct keel_map *m)
{
	m->host.hva = m->slot->hva + ((m->gfn - m->slot->base_gfn) << PAGE_SHIFT);
	m->host.may_write = !(m->slot->flags & KVM_MEM_READONLY);
	m->map_writable = m->host.write || !keel_slot_logs(m->slot);
}

/**
 * keel_map_gfn() - find the host's page for a guest page, and have it installed
 * @m: vcpu, gfn, access and host.write are set; the engine's tables for it are allocated
 *
 * Takes mmu.lock. May sleep, and may wait long for the host's page (a userfaultfd, a slow file).
 *
 * Return: as keel_mmu_fault()
 */
int keel_map_gfn(struct keel_map *m)
{
	struct keel_vm *vm = m->vcpu->vm;
	int idx, r;

	if (WARN_ON_ONCE(current->mm != vm->mm))
		return -EFAULT;
	idx = srcu_read_lock(&vm->srcu);
	m->slot = keel_slot_find(vm, m->gfn);
	if (!m->slot && is_apic_page(m)) {
		r = map_apic_page(m);
	} else if (!m->slot || (m->host.write && (m->slot->flags & KVM_MEM_READONLY))) {
		r = KEEL_MMU_EMULATE;
	} else if (READ_ONCE(m->slot->invalid)) {
		r = KEEL_MMU_RETRY;
	} else if (!keel_shadowing && keel_tdp_fix(m, m->access)) {
		m->vcpu->stats.fast_faults++;
		r = KEEL_MMU_RETRY;
	} else {
		want_host_page(m);
		r = map_page(m);
	}
	srcu_read_unlock(&vm->srcu, idx);
	return r;
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
	might_sleep();
	if (WARN_ON_ONCE(keel_shadowing))
		return -EFAULT;
	return keel_tdp_fault(vcpu, gpa, access);
}

/**
 * keel_mmu_fault_resident() - as keel_mmu_fault(), for a page that the host has mapped and nobody is about to take away
 * @vcpu: the vCPU, locked; interrupts may be off
 * @gpa: guest physical address
 * @access: KEEL_ACC_*
 *
 * Return: KEEL_MMU_RETRY; KEEL_MMU_EMULATE; -EAGAIN: it is for keel_mmu_fault()
 */
int keel_mmu_fault_resident(struct keel_vcpu *vcpu, gpa_t gpa, u32 access)
{
	gfn_t gfn = keel_own_gpa(vcpu, gpa) >> PAGE_SHIFT;
	struct keel_vm *vm = vcpu->vm;
	struct keel_map m;
	int idx, r = -EAGAIN;
	/* Before the slots: where they change in between, what is found is of no generation that will be asked for. */
	u64 generation = smp_load_acquire(&vm->slots_generation);

	if (gfn == vcpu->mmu.device_gfn && generation == vcpu->mmu.device_generation)
		return KEEL_MMU_EMULATE;
	m = (struct keel_map) { .vcpu = vcpu, .gfn = gfn, .access = access, .host.write = access & KEEL_ACC_WRITE };
	/* Tables for all of the way, but for the top; a fault outside the window allocates them. */
	if (m.gfn >= keel_tdp_end(m.gfn) || vcpu->mmu.nr_cached < keel_pte_format()->levels - 1)
		return -EAGAIN;
	idx = srcu_read_lock(&vm->srcu);
	m.slot = keel_slot_find(vm, m.gfn);
	if (!m.slot || (m.host.write && (m.slot->flags & KVM_MEM_READONLY))) {
		if (!is_apic_page(&m))
			r = KEEL_MMU_EMULATE;
		if (!m.slot && m.gfn != KEEL_APIC_GFN) {
			vcpu->mmu.device_gfn = m.gfn;
			vcpu->mmu.device_generation = generation;
		}
	} else if (!READ_ONCE(m.slot->invalid)) {
		if (keel_tdp_fix(&m, access)) {
			vcpu->stats.fast_faults++;
			r = KEEL_MMU_RETRY;
		} else {
			want_host_page(&m);
			if (map_resident(&m))
				r = KEEL_MMU_RETRY;
		}
	}
	srcu_read_unlock(&vm->srcu, idx);
	return r;
}

/**
 * keel_mmu_vm_init() - give a new VM its tables
 * @vm: the VM
 *
 * Return: 0 or -ENOMEM
 */
int keel_mmu_vm_init(struct keel_vm *vm)
{
	int r;

	rwlock_init(&vm->mmu.lock);
	if (!zalloc_cpumask_var(&vm->mmu.flush_mask, GFP_KERNEL_ACCOUNT))
		return -ENOMEM;
	r = keel_shadowing ? keel_shadow_vm_init(vm) : keel_tdp_vm_init(vm);
	if (!r)
		keel_shrink_add(vm);
	return r;
}

/**
 * keel_mmu_vm_destroy() - free the tables
 * @vm: the VM: no vCPU is left, and the notifier is unregistered; also after a failed keel_mmu_vm_init()
 */
void keel_mmu_vm_destroy(struct keel_vm *vm)
{
	keel_shrink_remove(vm);
	if (keel_shadowing)
		keel_shadow_vm_destroy(vm);
	else
		keel_tdp_vm_destroy(vm);
	free_cpumask_var(vm->mmu.flush_mask);
	WARN_ON_ONCE(atomic_long_read(&vm->mmu.nr_tables));
}

/**
 * keel_mmu_vcpu_init() - what a new vCPU needs for its faults
 * @vcpu: the vCPU; its state is not set yet
 *
 * Return: 0 or -ENOMEM
 */
int keel_mmu_vcpu_init(struct keel_vcpu *vcpu)
{
	if (keel_shadowing)
		return keel_shadow_vcpu_init(vcpu);
	keel_tdp_use(vcpu, false);
	return 0;
}

/**
 * keel_mmu_use() - the memory that a vCPU sees from its next entry on
 * @vcpu: the vCPU, locked, outside the window; with nested paging only
 * @smm: that of system management mode
 */
void keel_mmu_use(struct keel_vcpu *vcpu, bool smm)
{
	keel_tdp_use(vcpu, smm);
	memset(vcpu->mmu.gcache, 0, sizeof(vcpu->mmu.gcache));
	keel_ops->vcpu_update(vcpu, KEEL_UPDATE_ROOT);
	keel_tlb_flush(vcpu);
}

/**
 * keel_mmu_vcpu_destroy() - free what a vCPU keeps for its faults
 * @vcpu: the vCPU, before its VM's keel_mmu_vm_destroy()
 */
void keel_mmu_vcpu_destroy(struct keel_vcpu *vcpu)
{
	struct keel_mmu_vcpu *cache = &vcpu->mmu;

	if (keel_shadowing)
		keel_shadow_vcpu_destroy(vcpu);
	while (cache->nr_cached)
		keel_table_free(vcpu->vm, cache->cache[--cache->nr_cached]);
}
