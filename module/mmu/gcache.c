// SPDX-License-Identifier: GPL-2.0-only
/*
 * Translations of linear addresses that a vCPU's exits ask for again and again: the page of the instruction that exits,
 * that of a device's registers.
 *
 * Nothing tells us when a guest with nested paging changes its tables, so nothing here is believed: an entry keeps the
 * address and the value of each table entry that its walk went through, and holds only while CR0, CR3, CR4, EFER and
 * the slots are what they were and every one of these words still has its value. Then a walk would end as the last one
 * did, accessed bits included (SDM 3A, 4.5; APM 2, 5.3), at the cost of four loads.
 *
 * Guests in long mode only. What was walked in system management mode, with memory of its own, is forgotten when that is
 * left, and the other way round (keel_mmu_use()). Belongs to the vCPU, which is locked; vm->srcu keeps the slots while their addresses are used.
 */
#include <asm/processor-flags.h>
#include <asm/msr-index.h>
#include <linux/hash.h>
#include <linux/uaccess.h>

#include "gwalk.h"
#include "ops.h"

/* A page may be in one of two neighbours, the one that came last in the first of them. */
static struct keel_gcache_entry *pair_for(struct keel_vcpu *vcpu, gva_t gva)
{
	return &vcpu->mmu.gcache[2 * hash_64(gva >> PAGE_SHIFT, KEEL_GCACHE_BITS - 1)];
}

static __always_inline struct keel_gcache_entry *slot_for(struct keel_vcpu *vcpu, gva_t gva)
{
	struct keel_gcache_entry *pair = pair_for(vcpu, gva);

	return pair->page == gva >> PAGE_SHIFT ? pair : pair + 1;
}

static u64 slots_generation(struct keel_vm *vm)
{
	return srcu_dereference(vm->slots, &vm->srcu)->generation;
}

/* By the registers alone. */
static __always_inline bool may_hold(struct keel_vcpu *vcpu, const struct keel_gcache_entry *e, gva_t gva)
{
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_CR);

	/* Guests flush by CR4.PGE, which means nothing to a walk. */
	return e->depth && e->page == gva >> PAGE_SHIFT && e->cr3 == st->cr3 && e->cr0 == st->cr0 &&
	       !((e->cr4 ^ st->cr4) & ~(u64)X86_CR4_PGE) &&
	       e->efer == st->efer && e->generation == slots_generation(vcpu->vm);
}

static bool permits(struct keel_vcpu *vcpu, const struct keel_gcache_entry *e, u32 access)
{
	const struct keel_walk w = {
		.cr0 = e->cr0, .cr4 = e->cr4, .efer = e->efer, .rflags = vcpu->st.rflags, .pkru = vcpu->st.pkru,
		.user = e->user, .write = e->write, .nx = e->nx, .pkey = e->pkey,
	};

	/* A write sets the dirty bit first. */
	return (!(access & KEEL_ACC_WRITE) || e->dirty) && keel_walk_permits(&w, access) &&
	       keel_walk_key_permits(&w, access);
}

/*
 * Are the tables as they were? Then, with @buf, also 16 bytes at @from, all in the page. The slots passed access_ok()
 * when they were made.
 */
static __always_inline bool tables_hold(const struct keel_gcache_entry *e, u64 *buf, unsigned long from)
{
	bool holds = false;

	pagefault_disable();
	if (!user_read_access_begin((const void __user *)e->step[0].hva, sizeof(u64)))
		goto out;
	if (!keel_gcache_steps_hold(e->step, e->depth))
		goto end;
	if (buf) {
		unsafe_get_user(buf[0], (const u64 __user *)from, end);
		unsafe_get_user(buf[1], (const u64 __user *)(from + 8), end);
	}
	holds = true;
end:
	user_read_access_end();
out:
	pagefault_enable();
	return holds;
}

/**
 * keel_gcache_translate() - a linear address that was walked before
 * @vcpu: the vCPU, locked; interrupts may be off
 * @gva: linear address
 * @access: KEEL_ACC_*
 * @gpa: the result
 *
 * Return: true with @gpa filled; false: walk
 */
bool keel_gcache_translate(struct keel_vcpu *vcpu, gva_t gva, u32 access, gpa_t *gpa)
{
	const struct keel_gcache_entry *e = slot_for(vcpu, gva);
	int idx = srcu_read_lock(&vcpu->vm->srcu);
	bool found = may_hold(vcpu, e, gva) && permits(vcpu, e, access) && tables_hold(e, NULL, 0);

	srcu_read_unlock(&vcpu->vm->srcu, idx);
	*gpa = e->gpa | offset_in_page(gva);
	return found;
}

/**
 * keel_gcache_fetch() - 16 bytes of code from a page that was walked before
 * @vcpu: the vCPU, locked; interrupts may be off
 * @linear: linear address
 * @buf: two words
 *
 * Return: true with @buf filled; false: walk, and read
 */
bool keel_gcache_fetch(struct keel_vcpu *vcpu, gva_t linear, u64 *buf)
{
	const struct keel_gcache_entry *e = slot_for(vcpu, linear);
	bool found;
	int idx;

	if (offset_in_page(linear) > PAGE_SIZE - 16)
		return false;
	idx = srcu_read_lock(&vcpu->vm->srcu);
	found = may_hold(vcpu, e, linear) && e->hva && (keel_st(vcpu, KEEL_ST_CODE)->cpl == 3 ? e->exec_user : e->exec) &&
		tables_hold(e, buf, e->hva + offset_in_page(linear));
	srcu_read_unlock(&vcpu->vm->srcu, idx);
	return found;
}

/**
 * keel_gcache_code() - the walk of a page that code is fetched from
 * @vcpu: the vCPU, locked
 * @linear: an address in it
 *
 * Return: what keel_gcache_fetch() has just found to hold for @linear
 */
const struct keel_gcache_entry *keel_gcache_code(struct keel_vcpu *vcpu, gva_t linear)
{
	return slot_for(vcpu, linear);
}

/**
 * keel_gcache_remember() - what a walk has found
 * @w: the walk, ended well
 * @gva: the linear address
 * @gpa: where it led
 */
void keel_gcache_remember(const struct keel_walk *w, gva_t gva, gpa_t gpa)
{
	struct keel_vcpu *vcpu = w->vcpu;
	struct keel_gcache_entry *e = pair_for(vcpu, gva);
	int level, idx;
	u64 generation;

	/* The older of the two makes room, unless it is this page's that is walked anew. */
	if (e->page != gva >> PAGE_SHIFT)
		e[1] = e[0];
	e->depth = 0;
	if (!(w->efer & EFER_LMA) || !(w->cr0 & X86_CR0_PG))
		return;
	idx = srcu_read_lock(&vcpu->vm->srcu);
	/* First: addresses of later slots than these are of no use. */
	generation = slots_generation(vcpu->vm);
	for (level = w->levels; level >= w->leaf_level; level--) {
		unsigned long hva = keel_gfn_to_hva(vcpu->vm, w->pte_gpa[level] >> PAGE_SHIFT, NULL);

		if (hva == KEEL_BAD_HVA)
			goto out;
		e->step[w->levels - level].hva = hva + offset_in_page(w->pte_gpa[level]);
		e->step[w->levels - level].pte = w->pte[level];
	}
	e->hva = keel_gfn_to_hva(vcpu->vm, gpa >> PAGE_SHIFT, NULL);
	if (e->hva == KEEL_BAD_HVA)
		e->hva = 0;
	e->page = gva >> PAGE_SHIFT;
	e->gpa = gpa & PAGE_MASK;
	e->cr0 = w->cr0;
	e->cr3 = vcpu->st.cr3;
	e->cr4 = w->cr4;
	e->efer = w->efer;
	e->generation = generation;
	e->user = w->user;
	e->write = w->write;
	e->nx = w->nx;
	e->pkey = w->pkey;
	e->dirty = w->pte[w->leaf_level] & KEEL_GPTE_D;
	e->exec = keel_walk_permits(w, KEEL_ACC_EXEC);
	e->exec_user = keel_walk_permits(w, KEEL_ACC_EXEC | KEEL_ACC_USER);
	e->depth = w->levels - w->leaf_level + 1;
out:
	srcu_read_unlock(&vcpu->vm->srcu, idx);
}
