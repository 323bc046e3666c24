// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes of the guest to its page tables. Each faults, is carried out by the emulator, and then takes away the shadow entries
 * that were made from what was there; the next access to these addresses makes new ones.
 *
 * A page that is written again and again without an access through it is no page table any more, or is being filled or
 * emptied as a whole: it is given up, so that the guest may write to it freely. The next access through it shadows it anew.
 *
 * Order: the write first, then mmu.lock. A fault compares under the lock what it has seen in the guest's table (shadow.c),
 * so either it sees the new value, or it comes before us and what it made is taken away here.
 */
#include "shadow.h"

#define FLOOD	3	/* writes without an access in between */

/* Is that how an entry is written? Linux clears single bits by a byte. */
static bool looks_like_entry(unsigned int offset, unsigned int len, unsigned int entry_size)
{
	if (len == 1)
		return !(offset & (entry_size - 1));
	return len >= 4 && !((offset ^ (offset + len - 1)) & ~(entry_size - 1));
}

/* The shadow entries of @page made from the guest's entry @i: their number, *@first is the first. */
static unsigned int entries_of(const struct keel_shadow_page *page, unsigned int i, unsigned int *first)
{
	if (page->role.guest != KEEL_SHADOW_32) {
		*first = i;
		return 1;
	}
	if (page->role.level == 1) {
		*first = i % KEEL_PTES_PER_TABLE;
		return i / KEEL_PTES_PER_TABLE == page->role.quadrant;
	}
	*first = i * 2 % KEEL_PTES_PER_TABLE;
	return i * 2 / KEEL_PTES_PER_TABLE == page->role.quadrant ? 2 : 0;
}

/*
 * A table that no entry leads to any more, after its last entry was cleared, is about to be freed by the guest: it need
 * not be tracked. Such tables are gathered in a chain.
 */
static void clear_entry(struct keel_vm *vm, struct keel_shadow_page *page, unsigned int index,
			struct keel_shadow_page **orphans)
{
	struct keel_shadow_page *child = NULL;

	if (page->role.level > 1 && page->table[index])
		child = keel_shadow_child(page->table[index]);
	keel_shadow_clear(vm, page, index);
	if (child && orphans && hlist_empty(&child->parents) && !child->roots) {
		child->next_orphan = *orphans;
		*orphans = child;
	}
}

static void page_written(struct keel_vm *vm, struct keel_shadow_page *page, unsigned int offset, unsigned int len,
			 struct keel_shadow_page **orphans, bool trapped)
{
	unsigned int size = page->role.guest == KEEL_SHADOW_32 ? 4 : 8;
	gpa_t gpa = (page->gfn << PAGE_SHIFT) + round_down(offset, size);
	unsigned int i, n, first;
	u8 low;

	if (trapped && (!looks_like_entry(offset, len, size) || ++page->writes >= FLOOD)) {
		keel_shadow_page_zap(vm, page);
		return;
	}
	/* What cannot be read now counts as present. */
	if (keel_guest_read_atomic(vm, gpa, &low, 1) || (low & 1))
		orphans = NULL;
	n = entries_of(page, offset / size, &first);
	for (i = 0; i < n; i++)
		clear_entry(vm, page, first + i, orphans);
}

static void written(struct keel_vm *vm, gpa_t gpa, unsigned int len, bool trapped)
{
	struct keel_shadow *shadow = vm->mmu.shadow;
	struct keel_shadow_page *page, *orphans = NULL;
	gfn_t gfn = gpa >> PAGE_SHIFT;
	struct hlist_node *next;

	if (!READ_ONCE(shadow->nr_pages))
		return;
	write_lock(&vm->mmu.lock);
	hlist_for_each_entry_safe(page, next, keel_shadow_bucket(shadow, gfn), hash)
		if (page->gfn == gfn && !page->role.direct)
			page_written(vm, page, offset_in_page(gpa), len, &orphans, trapped);
	while ((page = orphans)) {
		orphans = page->next_orphan;
		if (!page->dead)
			keel_shadow_page_zap(vm, page);
	}
	write_unlock(&vm->mmu.lock);
}

/**
 * keel_shadow_written() - the emulator has written to memory for the guest
 * @vm: the VM
 * @gpa: guest physical address
 * @len: bytes, within one page
 */
void keel_shadow_written(struct keel_vm *vm, gpa_t gpa, unsigned int len)
{
	written(vm, gpa, len, true);
}

/**
 * keel_shadow_resync() - an entry was written on purpose, by hypercall: however often, the table stays one
 * @vm: the VM
 * @gpa: guest physical address
 * @len: size of an entry
 */
void keel_shadow_resync(struct keel_vm *vm, gpa_t gpa, unsigned int len)
{
	written(vm, gpa, len, false);
}

static bool give_up(struct keel_vm *vm, gfn_t gfn)
{
	struct keel_shadow *shadow = vm->mmu.shadow;
	struct keel_shadow_page *page;
	struct hlist_node *next;
	bool did = false;

	write_lock(&vm->mmu.lock);
	hlist_for_each_entry_safe(page, next, keel_shadow_bucket(shadow, gfn), hash) {
		if (page->gfn != gfn || page->role.direct)
			continue;
		keel_shadow_page_zap(vm, page);
		did = true;
	}
	write_unlock(&vm->mmu.lock);
	return did;
}

/**
 * keel_shadow_unprotect() - an instruction that writes to a page table cannot be emulated: let the CPU execute it
 * @vcpu: the vCPU, locked
 *
 * The table is given up. Not where the instruction needs it itself: that would go on for ever.
 *
 * Return: true when the guest is to run the instruction again
 */
bool keel_shadow_unprotect(struct keel_vcpu *vcpu)
{
	gfn_t gfn = vcpu->mmu.shadow->write_gfn;

	if (gfn == KEEL_NO_GFN)
		return false;
	vcpu->mmu.shadow->write_gfn = KEEL_NO_GFN;
	return give_up(vcpu->vm, gfn);
}
