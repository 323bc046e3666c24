/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Shadow paging's own structures; Documentation/shadow.rst says how they work together.
 *
 * A shadow page is a table that the CPU walks in place of one of the guest's. What it holds depends on the guest page
 * that it was made from and on the mode in which that is read: the role. It always has 512 entries of 8 bytes. In an entry
 * of level 1 is a page of the guest's memory, above that another shadow page. Every entry in use has a link: on the
 * list of its guest page (a leaf), or on that of the table's parents.
 *
 * Everything is guarded by mmu.lock, but for what a vCPU keeps (struct keel_shadow_vcpu): that is its thread's.
 */
#ifndef KEEL_SHADOW_H
#define KEEL_SHADOW_H

#include "engine.h"

#define KEEL_SHADOW_P		BIT_ULL(0)
#define KEEL_SHADOW_W		BIT_ULL(1)
#define KEEL_SHADOW_U		BIT_ULL(2)
#define KEEL_SHADOW_UC		(BIT_ULL(3) | BIT_ULL(4))
#define KEEL_SHADOW_A		BIT_ULL(5)
#define KEEL_SHADOW_D		BIT_ULL(6)
#define KEEL_SHADOW_NX		BIT_ULL(63)
/* An entry above level 1 grants all: leaves have what the guest's tables grant together. */
#define KEEL_SHADOW_TABLE	(KEEL_SHADOW_P | KEEL_SHADOW_W | KEEL_SHADOW_U | KEEL_SHADOW_A)

/* keel_shadow_role.access, and what a walk grants */
#define KEEL_GRANT_W		1
#define KEEL_GRANT_U		2
#define KEEL_GRANT_X		4
#define KEEL_GRANT_ALL		7

/* keel_shadow_role.guest: how the guest's entries are to be read */
enum keel_shadow_guest { KEEL_SHADOW_UNPAGED, KEEL_SHADOW_32, KEEL_SHADOW_PAE, KEEL_SHADOW_LONG };

union keel_shadow_role {
	u32 word;
	struct {
		u32 level : 3;		/* of the shadow page */
		u32 guest : 2;		/* enum keel_shadow_guest */
		u32 direct : 1;		/* no guest table: part of a large page, or the guest has no paging */
		u32 quadrant : 2;	/* KEEL_SHADOW_32: a table of 1024 entries has two or four shadow pages */
		u32 access : 3;		/* KEEL_GRANT_*: what the guest's entries above grant */
		u32 pse : 1;		/* KEEL_SHADOW_32: there are 4 MiB pages */
		u32 nx : 1;		/* EFER.NX */
		u32 wp : 1;		/* CR0.WP */
		/* Without CR0.WP a page of user mode may stand as one of the kernel's: who may see it as such? */
		u32 smep : 1;
		u32 smap : 1;
	};
};

struct keel_shadow_page {
	struct hlist_node hash;			/* keel_shadow.pages */
	struct list_head age;			/* keel_shadow.ages */
	struct keel_shadow_page *next_dead, *next_orphan;
	gfn_t gfn;				/* of the guest's table; direct: the first page that it maps */
	union keel_shadow_role role;
	u64 *table;
	struct keel_shadow_link **links;	/* an element an entry */
	struct hlist_head parents;
	int roots;				/* vCPUs that keep it as a root */
	u8 writes;				/* to the guest's table since it was last used */
	bool dead;				/* in no list; empty; freed when it is no root any more */
};

struct keel_shadow_link {
	struct hlist_node node;
	struct keel_shadow_page *page;		/* where the entry is */
	u64 gfn : 52;				/* a leaf's page */
	u64 index : 12;
};

#define KEEL_SHADOW_PAGE_BITS	10
#define KEEL_SHADOW_LEAF_BITS	13
#define KEEL_SHADOW_MIN_PAGES	64		/* the least that a VM may have */
#define KEEL_SHADOW_PERMILLE	20		/* of its memory, in pages of tables */
#define KEEL_SHADOW_DEAD_MAX	64
#define KEEL_SHADOW_PATH	4		/* shadow pages that one fault or root may need */
#define KEEL_SHADOW_AHEAD_MIN	8		/* pages that a fault may map with its own among them */
#define KEEL_SHADOW_AHEAD	64		/* ... where it follows others that went before it */

struct keel_shadow {
	struct hlist_head pages[1 << KEEL_SHADOW_PAGE_BITS];	/* by guest page */
	struct hlist_head leaves[1 << KEEL_SHADOW_LEAF_BITS];	/* links of leaves, by guest page */
	struct list_head ages;			/* all pages, the longest unused first */
	struct keel_shadow_page *dead;		/* not reachable any more, but CPUs may still be walking them */
	unsigned int nr_dead;
	unsigned long nr_pages, max_pages;	/* in @ages */
	unsigned long nr_leaves;
	u64 slots_generation;			/* that @max_pages was computed for */
	bool stale;				/* entries were taken away, and CPUs may still cache them */
	u64 zaps;				/* counts that; read without the lock */
};

/* A root: what CR3 holds while the guest has these tables and this mode. */
struct keel_shadow_root {
	union keel_shadow_role role;
	u64 key[4];				/* KEEL_SHADOW_PAE: the PDPTEs; else key[0] is the table's page */
	struct keel_shadow_page *top[4];	/* KEEL_SHADOW_LONG: one; else those of each GiB, NULL: none */
	hpa_t pa;
};

struct keel_shadow_vcpu {
	struct keel_shadow_root roots[KEEL_MMU_ROOTS];
	struct keel_shadow_root *root;		/* the current one, NULL: none yet */
	unsigned int victim;			/* the next to be replaced */
	u64 (*pae)[4];				/* page-directory pointers of each root, below 4 GiB */
	u64 zaps;				/* keel_shadow.zaps at the last flush of this vCPU's own */
	gfn_t ahead_next;			/* page of the guest's linear addresses behind the last that were mapped ahead */
	unsigned int ahead;			/* how many at most, the one that was read among them */
	gfn_t write_gfn;			/* table that the instruction at hand writes, KEEL_NO_GFN: none */
	struct keel_shadow_page *pages[KEEL_SHADOW_PATH];	/* topped up outside the lock */
	struct keel_shadow_link *links[KEEL_SHADOW_PATH + KEEL_SHADOW_AHEAD];
	int nr_pages, nr_links;
};

#define KEEL_NO_GFN	(~0ULL)

static inline struct keel_shadow_page *keel_shadow_child(u64 entry)
{
	return (struct keel_shadow_page *)page_private(pfn_to_page((entry & KEEL_PTE_PA_MASK) >> PAGE_SHIFT));
}

static inline void keel_shadow_took(struct keel_shadow *shadow)
{
	shadow->stale = true;
	WRITE_ONCE(shadow->zaps, shadow->zaps + 1);
}

/* shadow_page.c */
int keel_shadow_top_up(struct keel_vcpu *vcpu);
struct keel_shadow_page *keel_shadow_page_get(struct keel_vcpu *vcpu, gfn_t gfn, union keel_shadow_role role,
					      struct keel_zap *z);
void keel_shadow_page_zap(struct keel_vm *vm, struct keel_shadow_page *page);
void keel_shadow_root_put(struct keel_vm *vm, struct keel_shadow_page *page);
void keel_shadow_reclaim(struct keel_vm *vm, struct keel_zap *z);
struct hlist_head *keel_shadow_bucket(struct keel_shadow *shadow, gfn_t gfn);
bool keel_shadow_tracked(struct keel_shadow *shadow, gfn_t gfn);
struct keel_shadow_link *keel_shadow_link(struct keel_vcpu *vcpu, struct keel_shadow_page *page, unsigned int index,
					  gfn_t gfn);
void keel_shadow_set_table(struct keel_vcpu *vcpu, struct keel_shadow_page *page, unsigned int index,
			   struct keel_shadow_page *child);
void keel_shadow_clear(struct keel_vm *vm, struct keel_shadow_page *page, unsigned int index);

/* shadow_write.c */
void keel_shadow_resync(struct keel_vm *vm, gpa_t gpa, unsigned int len);

/* rmap.c */
void keel_shadow_set_leaf(struct keel_vcpu *vcpu, struct keel_shadow_page *page, unsigned int index, gfn_t gfn,
			  u64 entry);
bool keel_shadow_protect(struct keel_shadow *shadow, gfn_t gfn);

#endif /* KEEL_SHADOW_H */
