/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What map.c shares with the engines that make the tables which the CPU walks (tdp.c, shadow.c).
 *
 * The engine knows entries and tables. map.c knows slots, host addresses, the race with the MMU notifier, and when
 * TLBs are flushed. All functions are called with mmu.lock held for writing unless they say otherwise.
 */
#ifndef KEEL_ENGINE_H
#define KEEL_ENGINE_H

#include "keel.h"

#define KEEL_PTES_PER_TABLE	512
#define KEEL_PTE_PA_MASK	GENMASK_ULL(51, 12)
#define KEEL_ZAP_BATCH		16

/*
 * Work that takes things away from the tables: entries cleared but still cached by CPUs, and the tables
 * that hung from them, kept whole until the flush since a CPU may be walking them.
 */
struct keel_zap {
	struct keel_vm *vm;
	bool may_sleep;
	bool flush;
	bool did;			/* a flush happened or is due */
	int nr;
	struct {
		u64 *table;
		int level;
	} dead[KEEL_ZAP_BATCH];
	struct keel_shadow_page *dead_pages;	/* the same, of shadow paging */
};

/* One fault on its way: what the slot says, and what the host has there. */
struct keel_map {
	struct keel_vcpu *vcpu;
	struct keel_memslot *slot;
	gfn_t gfn;
	u32 access;			/* KEEL_ACC_* */
	unsigned long seq;		/* invalidate_seq before the host's page was looked up */
	struct keel_host_page host;
	bool map_writable;		/* if the host's page is: else a later write is to fault, and be recorded */
};

/* Guest pages that one entry of a table at @level covers; level 1 holds 4 KiB entries. */
static inline gfn_t keel_level_span(int level)
{
	return 1ULL << (9 * (level - 1));
}

static inline unsigned int keel_level_index(gfn_t gfn, int level)
{
	return (gfn >> (9 * (level - 1))) & (KEEL_PTES_PER_TABLE - 1);
}

/* map.c */
u64 *keel_table_alloc(struct keel_vm *vm);
void keel_table_free(struct keel_vm *vm, u64 *table);
void keel_zap_flush(struct keel_zap *z);
void keel_zap_breathe(struct keel_zap *z);
bool keel_range_invalidating(const struct keel_mmu *mmu, unsigned long hva, unsigned long size);
int keel_map_gfn(struct keel_map *m);

/* tdp_fault.c */
int keel_tdp_fault(struct keel_vcpu *vcpu, gpa_t gpa, u32 access);
bool keel_tdp_fix(const struct keel_map *m, u32 access);
bool keel_tdp_install(const struct keel_map *m);
void keel_tdp_replace(const struct keel_map *m, struct keel_zap *z);

/* tdp.c */
gfn_t keel_tdp_end(gfn_t gfn);
void keel_tdp_zap_range(struct keel_zap *z, gfn_t start, gfn_t end);
gfn_t keel_tdp_write_protect(struct keel_zap *z, gfn_t gfn);
gfn_t keel_tdp_recover(struct keel_zap *z, const struct keel_memslot *slot, gfn_t gfn);
unsigned long keel_tdp_shrink(struct keel_zap *z, unsigned long nr);
bool keel_tdp_age_range(struct keel_zap *z, gfn_t gfn, gfn_t end, enum keel_age how);
void keel_tdp_free(struct keel_vm *vm, u64 *table, int level, bool may_sleep);
int keel_tdp_vm_init(struct keel_vm *vm);
void keel_tdp_vm_destroy(struct keel_vm *vm);
void keel_tdp_use(struct keel_vcpu *vcpu, bool smm);

/* shadow.c, shadow_page.c, rmap.c: the same for shadow paging */
#define KEEL_SHADOW_END	(1ULL << 40)	/* 52 bits of physical address */
void keel_shadow_install(struct keel_map *m, struct keel_zap *z);
void keel_shadow_zap_range(struct keel_zap *z, gfn_t start, gfn_t end);
void keel_shadow_zap_tables(struct keel_zap *z, gfn_t start, gfn_t end);
void keel_shadow_write_protect(struct keel_zap *z, gfn_t gfn);
bool keel_shadow_age_range(struct keel_zap *z, gfn_t gfn, gfn_t end, enum keel_age how);
unsigned long keel_shadow_shrink(struct keel_zap *z, unsigned long nr);
bool keel_shadow_flush_due(struct keel_zap *z);
void keel_shadow_flushed(struct keel_zap *z);
void keel_shadow_free(struct keel_zap *z);
int keel_shadow_vm_init(struct keel_vm *vm);
void keel_shadow_vm_destroy(struct keel_vm *vm);
int keel_shadow_vcpu_init(struct keel_vcpu *vcpu);
void keel_shadow_vcpu_destroy(struct keel_vcpu *vcpu);

#endif /* KEEL_ENGINE_H */
