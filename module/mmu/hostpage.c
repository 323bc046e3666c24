// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's side of a mapping: which page is behind an address of the client, and how large a piece of
 * it the host maps at once.
 *
 * Both answers may be stale by the time they are given. The caller reads mmu.invalidate_seq before
 * and checks it under mmu.lock after, as tdp.c explains. No lock is held over the lookup, which may sleep
 * for long (swap, userfaultfd, a file on a slow disk).
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/pgtable.h>

#include "keel.h"

/* Device memory that some driver mapped into the client, without pages that could be referenced. */
static int host_page_remapped(struct mm_struct *mm, struct keel_host_page *hp)
{
	struct vm_area_struct *vma;
	bool unlocked = false;
	int r = -EFAULT;

	mmap_read_lock(mm);
	vma = find_vma(mm, hp->hva);
	if (!vma || vma->vm_start > hp->hva || !(vma->vm_flags & (VM_IO | VM_PFNMAP)))
		goto out;

	r = keel_follow_pfn(vma, hp->hva, &hp->pfn, &hp->writable);
	if (r || (hp->write && !hp->writable)) {
		r = fixup_user_fault(mm, hp->hva, hp->write ? FAULT_FLAG_WRITE : 0, &unlocked);
		/* Mapped now, or the vma may be gone: the next fault finds out. */
		r = r ? -EFAULT : -EAGAIN;
	}
	hp->writable &= hp->may_write;
out:
	mmap_read_unlock(mm);
	return r;
}

/**
 * keel_host_page_get_fast() - the page behind a host virtual address, if the host has it mapped so
 * @hp: hva, write and may_write are the request, the rest is the result
 *
 * Context: any, interrupts may be off.
 *
 * Return: true, then keel_host_page_put()
 */
bool keel_host_page_get_fast(struct keel_host_page *hp)
{
	if (hp->may_write && get_user_pages_fast_only(hp->hva, 1, FOLL_WRITE, &hp->page) == 1)
		hp->writable = true;
	else if (hp->write || get_user_pages_fast_only(hp->hva, 1, 0, &hp->page) != 1)
		return false;
	hp->pfn = page_to_pfn(hp->page);
	return true;
}

/**
 * keel_host_page_get() - the page behind a host virtual address, faulted in if need be
 * @mm: current->mm
 * @hp: hva, write and may_write are the request, the rest is the result
 *
 * A page that the host has writable comes out writable even when the access only reads, if it may.
 *
 * Return: 0, then keel_host_page_put(); -EAGAIN try again; -EFAULT, -EHWPOISON, -ENOMEM, -EINTR
 */
int keel_host_page_get(struct mm_struct *mm, struct keel_host_page *hp)
{
	unsigned int flags = FOLL_HWPOISON | KEEL_FOLL_INTERRUPTIBLE;
	struct page *page;
	long n;

	if (keel_host_page_get_fast(hp))
		return 0;
	if (hp->write)
		flags |= FOLL_WRITE;
	n = get_user_pages_unlocked(hp->hva, 1, &hp->page, flags);
	if (n != 1) {
		hp->page = NULL;
		if (n == -EINTR || n == -EHWPOISON || n == -ENOMEM)
			return n;
		return host_page_remapped(mm, hp);
	}
	hp->writable = hp->write;
	if (!hp->write && hp->may_write &&
	    get_user_pages_fast_only(hp->hva, 1, FOLL_WRITE, &page) == 1) {
		put_page(hp->page);
		hp->page = page;
		hp->writable = true;
	}
	hp->pfn = page_to_pfn(hp->page);
	return 0;
}

/**
 * keel_host_page_put() - drop the reference: from here on only the MMU notifier keeps the mapping true
 * @hp: as keel_host_page_get() left it
 *
 * That the page is in use the host's LRU learns from the notifier, too, by the accessed bit of what was mapped.
 */
void keel_host_page_put(struct keel_host_page *hp)
{
	if (hp->page)
		put_page(hp->page);
}

/**
 * keel_host_level() - the level of the host's own leaf entry at an address
 * @mm: the client's address space
 * @hva: an address in it; mmu.lock is held, for reading at least, and the sequence was checked
 *
 * Interrupts off keep the host's tables from being freed under the walk. That the answer holds for as
 * long as the mapping made from it: a host that splits or unmaps a huge page first calls the notifier
 * for all of it, which waits for mmu.lock and then zaps what was installed.
 *
 * Return: 1 for 4 KiB or nothing, 2 for 2 MiB, 3 for 1 GiB
 */
int keel_host_level(struct mm_struct *mm, unsigned long hva)
{
	unsigned long flags;
	int level = 1;
	pgd_t pgd;
	p4d_t p4d;
	pud_t pud;
	pmd_t pmd;

	local_irq_save(flags);
	pgd = READ_ONCE(*pgd_offset(mm, hva));
	if (pgd_none(pgd))
		goto out;
	p4d = READ_ONCE(*p4d_offset(&pgd, hva));
	if (p4d_none(p4d) || !p4d_present(p4d))
		goto out;
	pud = READ_ONCE(*pud_offset(&p4d, hva));
	if (pud_none(pud) || !pud_present(pud))
		goto out;
	if (pud_leaf(pud)) {
		level = 3;
		goto out;
	}
	pmd = READ_ONCE(*pmd_offset(&pud, hva));
	if (pmd_none(pmd) || !pmd_present(pmd))
		goto out;
	if (pmd_leaf(pmd))
		level = 2;
out:
	local_irq_restore(flags);
	return level;
}
