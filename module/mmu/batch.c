// SPDX-License-Identifier: GPL-2.0-only
/*
 * Updates of guest page tables by hypercall (KEEL_HC_PT_UPDATE, KEEL_HC_SET_CR3), with shadow paging: one exit for a list
 * of them, where each write would be one. uapi/linux/keel.h has the guest's side.
 *
 * Every update is checked here before it is made: the entry, and the page that it leads to, belong to the VM, and no
 * page that is in use as a page table becomes writable. What is refused ends the list; the result says how far it came.
 * The vCPU is locked, vm->srcu is held, the window is closed.
 */
#include <linux/keel.h>
#include <linux/kvm_para.h>
#include <asm/processor-flags.h>

#include "gwalk.h"
#include "ops.h"
#include "shadow.h"

#define CHUNK	32	/* updates read at once, on the stack */

/* How entries are read in the guest's mode. */
struct format {
	unsigned int size;
	u64 address;
};

static bool format_of(struct keel_vcpu *vcpu, struct format *f)
{
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_CR);
	bool wide = st->cr4 & X86_CR4_PAE;

	f->size = wide ? 8 : 4;
	f->address = wide ? KEEL_PTE_PA_MASK : GENMASK_ULL(31, 12);
	return st->cr0 & X86_CR0_PG;
}

/*
 * The level of a table that is shadowed; 0: it is not, so that it is no more than memory. mmu.lock held. A page that is
 * used at two levels counts as the lower.
 */
static int table_level(struct keel_shadow *shadow, gfn_t gfn)
{
	struct keel_shadow_page *page;
	int level = 0;

	hlist_for_each_entry(page, keel_shadow_bucket(shadow, gfn), hash)
		if (page->gfn == gfn && !page->role.direct && (!level || page->role.level < level))
			level = page->role.level;
	return level;
}

/* May an entry of a table at @level have this value? */
static bool value_allowed(struct keel_vcpu *vcpu, int level, const struct format *f, u64 value)
{
	gfn_t gfn = (value & f->address) >> PAGE_SHIFT, end = gfn + 1;
	struct keel_vm *vm = vcpu->vm;
	bool ok = true;

	if (!(value & KEEL_GPTE_P))
		return true;
	if (level > 1 && (value & KEEL_GPTE_PS)) {
		if (level > 2)
			return false;
		gfn = round_down(gfn, f->size == 8 ? 512 : 1024);
		end = gfn + (f->size == 8 ? 512 : 1024);
	}
	write_lock(&vm->mmu.lock);
	for (; gfn < end && ok; gfn++) {
		ok = keel_gfn_to_hva(vm, gfn, NULL) != KEEL_BAD_HVA;
		if ((value & KEEL_GPTE_W) && (level == 1 || (value & KEEL_GPTE_PS)))
			ok &= !level || !keel_shadow_tracked(vm->mmu.shadow, gfn);
	}
	write_unlock(&vm->mmu.lock);
	return ok;
}

static bool update_one(struct keel_vcpu *vcpu, const struct format *f, const struct keel_pt_update *u)
{
	struct keel_vm *vm = vcpu->vm;
	bool writable;
	int level;

	if (u->gpa & (f->size - 1) || (f->size == 4 && u->value >> 32))
		return false;
	if (keel_gfn_to_hva(vm, u->gpa >> PAGE_SHIFT, &writable) == KEEL_BAD_HVA || !writable)
		return false;
	write_lock(&vm->mmu.lock);
	level = table_level(vm->mmu.shadow, u->gpa >> PAGE_SHIFT);
	write_unlock(&vm->mmu.lock);
	if (!value_allowed(vcpu, level, f, u->value))
		return false;
	if (keel_guest_write(vcpu, u->gpa, &u->value, f->size))
		return false;
	keel_shadow_resync(vm, u->gpa, f->size);
	return true;
}

/**
 * keel_pt_update() - KEEL_HC_PT_UPDATE
 * @vcpu: the vCPU
 * @list: guest physical address of struct keel_pt_update[]
 * @count: how many
 *
 * Return: the number made, or -KVM_EINVAL, -KVM_EFAULT (the list cannot be read) with none made
 */
long keel_pt_update(struct keel_vcpu *vcpu, u64 list, u64 count)
{
	struct keel_pt_update chunk[CHUNK];
	unsigned int done = 0, n, i;
	struct format f;

	if (!format_of(vcpu, &f) || !count || count > KEEL_PT_UPDATE_MAX || list & 7)
		return -KVM_EINVAL;
	while (done < count) {
		n = min_t(unsigned int, count - done, CHUNK);
		if (keel_guest_read(vcpu->vm, list + done * sizeof(chunk[0]), chunk, n * sizeof(chunk[0]))) {
			if (!done)
				return -KVM_EFAULT;
			break;
		}
		for (i = 0; i < n && update_one(vcpu, &f, &chunk[i]); i++)
			;
		done += i;
		if (i < n)
			break;
	}
	keel_shadow_sync(vcpu);
	return done;
}

/**
 * keel_pt_set_cr3() - KEEL_HC_SET_CR3
 * @vcpu: the vCPU
 * @val: the new value
 *
 * Return: 0, or -KVM_EINVAL (reserved bits, or the table is not the VM's)
 */
long keel_pt_set_cr3(struct keel_vcpu *vcpu, u64 val)
{
	if (keel_gfn_to_hva(vcpu->vm, val >> PAGE_SHIFT, NULL) == KEEL_BAD_HVA || keel_set_cr3(vcpu, val))
		return -KVM_EINVAL;
	return 0;
}
