/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A walk of the guest's page tables, as gwalk.c leaves it: what shadow.c copies from.
 */
#ifndef KEEL_GWALK_H
#define KEEL_GWALK_H

#include <linux/bits.h>
#include <linux/uaccess.h>

#include "keel.h"

#define KEEL_GPTE_P	BIT_ULL(0)
#define KEEL_GPTE_W	BIT_ULL(1)
#define KEEL_GPTE_U	BIT_ULL(2)
#define KEEL_GPTE_A	BIT_ULL(5)
#define KEEL_GPTE_D	BIT_ULL(6)
#define KEEL_GPTE_PS	BIT_ULL(7)
#define KEEL_GPTE_PKEY	GENMASK_ULL(62, 59)
#define KEEL_GPTE_NX	BIT_ULL(63)

#define KEEL_GWALK_LEVELS	KEEL_GCACHE_LEVELS

/* The paging mode, and what a walk in it has gathered. */
struct keel_walk {
	struct keel_vcpu *vcpu;
	bool atomic;
	u64 cr0, cr4, efer, rflags;
	u32 pkru;
	int levels;			/* 2: 32-bit, 3: PAE, whose level 3 is not in memory for a shadowed guest */
	int entry_size;			/* 4 or 8 bytes */
	unsigned int index_bits;	/* 10 or 9 */
	unsigned int maxphyaddr;
	u64 table;			/* gpa of the top table */

	int leaf_level;
	u64 pte[KEEL_GWALK_LEVELS + 1];	/* by level, accessed and dirty bits as the walk has set them */
	gpa_t pte_gpa[KEEL_GWALK_LEVELS + 1];
	bool user, write, nx;		/* as all levels together grant */
	u8 pkey;			/* of the leaf, where protection keys are in use */
};

static inline bool keel_walk_is_pae(const struct keel_walk *w)
{
	return w->levels == 3;
}

int keel_gva_walk(struct keel_vcpu *vcpu, gva_t gva, u32 access, struct keel_walk *w, gpa_t *gpa,
		  struct keel_fault *fault, bool atomic);
bool keel_walk_permits(const struct keel_walk *w, u32 access);
bool keel_walk_key_permits(const struct keel_walk *w, u32 access);

/* gcache.c */
bool keel_gcache_translate(struct keel_vcpu *vcpu, gva_t gva, u32 access, gpa_t *gpa);
bool keel_gcache_fetch(struct keel_vcpu *vcpu, gva_t linear, u64 *buf);
void keel_gcache_remember(const struct keel_walk *w, gva_t gva, gpa_t gpa);
const struct keel_gcache_entry *keel_gcache_code(struct keel_vcpu *vcpu, gva_t linear);

/*
 * Are the table entries of a walk as they were? Between user_read_access_begin() and _end(), page faults disabled; the
 * addresses passed access_ok() when their slots were made.
 */
static __always_inline bool keel_gcache_steps_hold(const struct keel_gcache_step *step, unsigned int depth)
{
	const struct keel_gcache_step *last = step + depth;
	u64 pte;

	/* No index: here the kernel's checks of array bounds cannot be called. */
	for (; step < last; step++) {
		unsafe_get_user(pte, (const u64 __user *)step->hva, changed);
		if (pte != step->pte)
			return false;
	}
	return true;
changed:
	return false;
}

#endif /* KEEL_GWALK_H */
