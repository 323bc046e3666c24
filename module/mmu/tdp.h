/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Entries of the nested tree, for tdp.c and tdp_fault.c.
 *
 * Who holds mmu.lock for writing changes entries as it likes. Others (faults, with the lock held for reading or not
 * held at all) only add: a table or a leaf where nothing is, a permission to a leaf. They do it by compare-and-exchange,
 * so what is taken away meanwhile stays taken away. CPUs set accessed and dirty bits at any time.
 */
#ifndef KEEL_TDP_H
#define KEEL_TDP_H

#include <linux/atomic.h>
#include <linux/mem_encrypt.h>
#include <linux/mm.h>

#include "engine.h"
#include "ops.h"

/*
 * Software's bit in a leaf, ignored by the CPU in both formats (APM 2, 5.3; SDM 3C, table 28-6): the host has the
 * page writable. Without the write bit beside it, a write may be let through by setting that.
 */
#define KEEL_PTE_HOST_WRITABLE	BIT_ULL(11)

static inline const struct keel_pte_format *keel_pte_format(void)
{
	return keel_ops->pte_format;
}

static inline bool keel_pte_present(u64 pte)
{
	return pte & keel_pte_format()->present;
}

static inline bool keel_pte_leaf(u64 pte, int level)
{
	return level == 1 || (pte & keel_pte_format()->large);
}

static inline hpa_t keel_pte_pa(u64 pte)
{
	return __sme_clr(pte) & KEEL_PTE_PA_MASK;
}

static inline u64 *keel_pte_table(u64 pte)
{
	return __va(keel_pte_pa(pte));
}

static inline u64 keel_pte_for_table(const u64 *table)
{
	return __sme_set(__pa(table)) | keel_pte_format()->present | keel_pte_format()->table;
}

/* The top table of the tree that has a guest page. */
static inline u64 *keel_tdp_top(struct keel_mmu *mmu, gfn_t gfn)
{
	return mmu->root_table[!!(gfn & KEEL_SMM_GFN)];
}

/* Takes bits away from a live entry; returns the entry as it was. */
static inline u64 keel_pte_clear(u64 *ptep, u64 bits)
{
	return atomic64_fetch_andnot(bits, (atomic64_t *)ptep);
}

/* tdp.c */
void keel_tdp_zap_entry(struct keel_zap *z, u64 *ptep, int level);
u64 *keel_tdp_leaf(struct keel_mmu *mmu, gfn_t gfn, int *level);

/* tdp_fault.c */
bool keel_tdp_fits(const struct keel_memslot *slot, gfn_t gfn, int level);

#endif /* KEEL_TDP_H */
