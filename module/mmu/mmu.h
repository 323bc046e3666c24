/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest memory: slots, the nested page tree, and walks of the guest's own page tables.
 *
 * memslot.c owns the slots (gpa to hva), map.c the mappings, tdp.c the tree that the CPU walks (gpa to hpa), hostpage.c
 * asks the host for the page in between, notifier.c keeps the tree true when the host moves a page, gwalk.c
 * reads guest page tables (gva to gpa).
 *
 * Order: vm->slots_lock, then vm->srcu (read side), then mmu.lock. mmu.lock is a spinning rwlock, which faults hold
 * for reading. Held for writing it may be held over remote TLB flushes, which wait for other CPUs: it must never be
 * taken with interrupts off, and so never inside the window.
 */
#ifndef KEEL_MMU_H
#define KEEL_MMU_H

#include <linux/atomic.h>
#include <linux/cpumask.h>
#include <linux/jump_label.h>
#include <linux/kvm.h>
#include <linux/kvm_types.h>	/* gva_t, gpa_t, gfn_t, hpa_t */
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct keel_vm;
struct keel_vcpu;
struct keel_fault;
struct mm_struct;
struct page;
struct vm_area_struct;

#define KEEL_BAD_GPA		(~(gpa_t)0)
#define KEEL_BAD_HVA		(~0UL)
#define KEEL_APIC_GFN		0xfee00		/* where local APICs are after a reset */
#define KEEL_MAX_SLOTS		512		/* in each address space */
/*
 * System management mode has memory of its own (smm.c): KVM's address space 1. Its guest addresses have this bit, which no
 * CPU's have, in slots, faults and walks alike; devices and clients are told them without it.
 */
#define KEEL_SMM_GPA		BIT_ULL(62)
#define KEEL_SMM_GFN		(KEEL_SMM_GPA >> PAGE_SHIFT)
#define KEEL_DIRTY_RING_MAX	65536		/* entries a vCPU */

/* Access bits, used for faults, walks and emulated accesses alike; values are those of #PF's error code. */
#define KEEL_ACC_PRESENT	0x01	/* the fault was a violation of a present entry */
#define KEEL_ACC_WRITE		0x02
#define KEEL_ACC_USER		0x04
#define KEEL_ACC_EXEC		0x10
#define KEEL_ACC_PKEY		0x20	/* the page's protection key forbids it, whatever else does */
#define KEEL_ACC_IMPLICIT	0x100	/* supervisor access made by the CPU itself: SMAP ignores EFLAGS.AC */
#define KEEL_ACC_TABLE		0x200	/* the nested fault came from the walk of a guest page table */

/**
 * struct keel_pte_format - the bits of a nested page-table entry
 *
 * One tree engine serves NPT (APM 2, 15.25) and EPT (SDM 3C, 28.3): they differ in these bits only.
 * A bit that a format lacks is 0 and then has no effect.
 */
struct keel_pte_format {
	u64 present;		/* all bits of a present, read-only, executable table or leaf entry */
	u64 write;
	u64 exec;		/* set: executable (EPT) */
	u64 nx;			/* set: not executable (NPT) */
	u64 accessed;
	u64 dirty;
	u64 large;		/* leaf above level 1 */
	u64 table;		/* extra bits of a non-leaf entry (permissions are granted there) */
	u64 memtype_wb;		/* leaf: ordinary write-back memory */
	u64 memtype_uc;		/* leaf: device memory */
	int levels;		/* 4 or 5 */
	int max_leaf;		/* highest level of a leaf: 2 is 2 MiB, 3 is 1 GiB */
};

/*
 * True: guest page tables are shadowed (shadow.c); false: nested paging (tdp.c). The vendor sets it at load, for the CPU
 * or by a parameter.
 */
extern bool keel_shadowing;

struct keel_shadow;
struct keel_shadow_vcpu;

/* The tables of a VM. @lock guards the tree; the sequence and range guard against the notifier. */
struct keel_mmu {
	rwlock_t lock;
	u64 *root_table[2];		/* nested: the top tables, of SMM's memory the second, for the VM's whole life */
	struct mmu_notifier notifier;
	unsigned long invalidate_seq;	/* lock; read without it before a host page is looked up */
	int invalidate_active;		/* lock: notifier ranges in progress */
	unsigned long invalidate_start, invalidate_end;	/* hva, lock: covers all of them */
	atomic_long_t nr_tables;	/* pages of page tables, the root included */
	cpumask_var_t flush_mask;	/* lock: CPUs that a flush waits for */
	u64 flush_begun, flush_done;	/* lock: generations of flushes, see checked.c */
	gfn_t shrink_gfn;		/* lock: where the shrinker goes on */
	struct list_head shrink_link;	/* shrink.c's */
	bool notifier_registered;
	struct keel_shadow *shadow;	/* NULL with nested paging */
};

#define KEEL_MMU_CACHE		8

/* Roots that a vCPU keeps, each with a tag of its own, so that a change of CR3 need not flush. */
#define KEEL_MMU_ROOTS		4

#define KEEL_GCACHE_BITS	4
#define KEEL_GCACHE_ENTRIES	BIT(KEEL_GCACHE_BITS)
#define KEEL_GCACHE_LEVELS	5

struct keel_gcache_step {
	unsigned long hva;		/* of an entry in the guest's tables */
	u64 pte;			/* its value */
};

/* A walk of the guest's tables that may still hold, see gcache.c. */
struct keel_gcache_entry {
	u64 page;			/* the linear address, in pages */
	u64 cr0, cr3, cr4, efer;
	u64 generation;			/* of the slots */
	gpa_t gpa;			/* of the page */
	unsigned long hva;		/* of it; 0: not in a slot */
	u8 depth;			/* table entries on the way; 0: nothing here */
	bool user, write, nx, dirty;	/* as all levels together grant; the leaf's dirty bit */
	u8 pkey;
	bool exec, exec_user;		/* may the kernel, may a program fetch from it */
	struct keel_gcache_step step[KEEL_GCACHE_LEVELS];
};

struct keel_mmu_vcpu {
	/* Zeroed page-table pages, topped up outside the lock, spent inside it. */
	void *cache[KEEL_MMU_CACHE];
	int nr_cached;

	/* Read by the vendor: what CR3 or its nested kin is to hold, and, with shadow paging, which tag goes with it. */
	hpa_t root;
	unsigned int tag;		/* 0 to KEEL_MMU_ROOTS - 1; nested paging has 0 alone */
	unsigned long drop_tags;	/* a bit a tag: its translations are another root's; the vendor clears it */
	struct keel_shadow_vcpu *shadow;

	/* gcache.c: what its own thread has walked */
	struct keel_gcache_entry gcache[KEEL_GCACHE_ENTRIES];

	gfn_t device_gfn;		/* has no slot, and is not the local APIC's page, in the generation below */
	u64 device_generation;

	/* checked.c */
	u64 checked_id;			/* never 0, never used again */
	u64 flush_own;			/* flushes that the vCPU itself was in need of */
	u64 flush_needed;		/* mmu.flush_done before the last look at the requests */
};

struct keel_memslot {
	gfn_t base_gfn;
	unsigned long npages;
	unsigned long hva;
	u32 flags;			/* KVM_MEM_* */
	u32 id;				/* as the client gives it: the address space is bits 31:16 */
	bool invalid;			/* being moved or deleted: faults wait for the outcome */
	unsigned long *dirty;		/* bitmap, one bit a page; NULL when not logging, or into rings */
};

/* One immutable set of slots, sorted by base_gfn; replaced whole under slots_lock, read under SRCU. */
struct keel_memslots {
	u64 generation;
	int nr;
	struct keel_memslot slot[];
};

/* memslot.c; keel_slot_find() and keel_gfn_to_hva() under vm->srcu (read side) or vm->slots_lock */
int keel_memslots_init(struct keel_vm *vm);
void keel_memslots_destroy(struct keel_vm *vm);
int keel_set_memory_region(struct keel_vm *vm, const struct kvm_userspace_memory_region *mem);
bool keel_slot_id_valid(u32 id);
struct keel_memslot *keel_slot_by_id(struct keel_vm *vm, u32 id);
struct keel_memslot *keel_slot_find(struct keel_vm *vm, gfn_t gfn);
unsigned long keel_gfn_to_hva(struct keel_vm *vm, gfn_t gfn, bool *writable);
int keel_guest_read(struct keel_vm *vm, gpa_t gpa, void *buf, unsigned int len);
int keel_guest_write(struct keel_vcpu *vcpu, gpa_t gpa, const void *buf, unsigned int len);
int keel_guest_read_atomic(struct keel_vm *vm, gpa_t gpa, void *buf, unsigned int len);
int keel_guest_write_atomic(struct keel_vcpu *vcpu, gpa_t gpa, const void *buf, unsigned int len);
int keel_guest_swap_byte(struct keel_vcpu *vcpu, gpa_t gpa, u8 *val);
int keel_guest_cmpxchg(struct keel_vcpu *vcpu, gpa_t gpa, void *old, const void *new, unsigned int len);

/* Are writes to this slot recorded, be it in its bitmap or in the vCPUs' rings? */
static inline bool keel_slot_logs(const struct keel_memslot *slot)
{
	return slot->flags & KVM_MEM_LOG_DIRTY_PAGES;
}

/**
 * struct keel_dirty_ring - the pages that one vCPU dirtied, in order (KVM_CAP_DIRTY_LOG_RING)
 * @gfns: the client maps and writes it; NULL: no ring
 * @size: entries, a power of 2
 * @pushed: entries ever written; by the vCPU's thread, preemption off
 * @reset: entries ever reset; under slots_lock
 * @overflow: an entry was lost
 */
struct keel_dirty_ring {
	struct kvm_dirty_gfn *gfns;
	u32 size;
	u32 pushed;
	u32 reset;
	bool overflow;
};

/* dirty.c */
void keel_mark_dirty(struct keel_vcpu *vcpu, struct keel_memslot *slot, gfn_t gfn);
int keel_dirty_log_prepare(struct keel_vm *vm, const struct keel_memslot *old, struct keel_memslot *new);
void keel_dirty_log_drop(const struct keel_memslot *slot, const struct keel_memslot *other);
void keel_dirty_log_switch(struct keel_vm *vm, const struct keel_memslot *old, const struct keel_memslot *new);
int keel_get_dirty_log(struct keel_vm *vm, const struct kvm_dirty_log *log);
int keel_clear_dirty_log(struct keel_vm *vm, const struct kvm_clear_dirty_log *log);
long keel_dirty_log_enable(struct keel_vm *vm, u64 options);
long keel_dirty_ring_enable(struct keel_vm *vm, u64 bytes);
int keel_dirty_ring_create(struct keel_vcpu *vcpu);
void keel_dirty_ring_destroy(struct keel_vcpu *vcpu);
int keel_dirty_ring_serve(struct keel_vcpu *vcpu);
int keel_dirty_rings_reset(struct keel_vm *vm);
struct page *keel_dirty_ring_page(const struct keel_vcpu *vcpu, unsigned long pgoff);
bool keel_dirty_ring_may_map(const struct keel_vcpu *vcpu, const struct vm_area_struct *vma);

/* map.c: keel_mmu_fault() returns one of these or -errno (-EFAULT, -ENOMEM, -EINTR) */
#define KEEL_MMU_RETRY		1	/* mapped, or lost a race: run the instruction again */
#define KEEL_MMU_EMULATE	2	/* no slot there, or a write to a read-only one: MMIO */

/* How keel_mmu_age_hva_range() treats the accessed bits. */
enum keel_age {
	KEEL_AGE_TEST,			/* look only */
	KEEL_AGE_CLEAR,			/* clear; a CPU may take a while to set the bit again */
	KEEL_AGE_FLUSH,			/* clear and flush */
};

int keel_mmu_vm_init(struct keel_vm *vm);
void keel_mmu_vm_destroy(struct keel_vm *vm);
int keel_mmu_vcpu_init(struct keel_vcpu *vcpu);
void keel_mmu_vcpu_destroy(struct keel_vcpu *vcpu);
void keel_mmu_use(struct keel_vcpu *vcpu, bool smm);
int keel_mmu_fault(struct keel_vcpu *vcpu, gpa_t gpa, u32 access);
int keel_mmu_fault_resident(struct keel_vcpu *vcpu, gpa_t gpa, u32 access);
void keel_mmu_zap_gfns(struct keel_vm *vm, gfn_t start, gfn_t end);
void keel_mmu_write_protect_slot(struct keel_vm *vm, const struct keel_memslot *slot);
void keel_mmu_recover_slot(struct keel_vm *vm, const struct keel_memslot *slot);
unsigned long keel_mmu_shrink(struct keel_vm *vm, unsigned long nr);
void keel_mmu_write_protect_bits(struct keel_vm *vm, gfn_t base, const unsigned long *bits, unsigned long nr);
void keel_mmu_write_protect_gfns(struct keel_vm *vm, const gfn_t *gfns, unsigned int nr);
void keel_mmu_flush_tlb(struct keel_vm *vm);
bool keel_mmu_unmap_hva_range(struct keel_vm *vm, unsigned long start, unsigned long end, bool may_sleep);
bool keel_mmu_age_hva_range(struct keel_vm *vm, unsigned long start, unsigned long end, enum keel_age how);

/* shadow.c: for the rest of the core, with shadow paging only */
int keel_shadow_load(struct keel_vcpu *vcpu);
int keel_shadow_fault(struct keel_vcpu *vcpu, gva_t gva, u32 access, gpa_t *gpa);
void keel_shadow_invlpg(struct keel_vcpu *vcpu, gva_t gva);
void keel_shadow_sync(struct keel_vcpu *vcpu);
void keel_shadow_forget(struct keel_vm *vm);

/* shadow_write.c */
void keel_shadow_written(struct keel_vm *vm, gpa_t gpa, unsigned int len);
bool keel_shadow_unprotect(struct keel_vcpu *vcpu);

/* batch.c: likewise */
long keel_pt_update(struct keel_vcpu *vcpu, u64 list, u64 count);
long keel_pt_set_cr3(struct keel_vcpu *vcpu, u64 val);

/**
 * struct keel_host_page - what the host has at an address of the client
 * @hva: the address, page aligned
 * @write: the access writes
 * @may_write: a writable mapping is welcome even if the access only reads
 * @writable: the mapping may be writable
 * @page: with a reference; NULL for a device mapping
 * @pfn: host page frame
 */
struct keel_host_page {
	unsigned long hva;
	bool write;
	bool may_write;

	bool writable;
	struct page *page;
	unsigned long pfn;
};

/* hostpage.c */
bool keel_host_page_get_fast(struct keel_host_page *hp);
int keel_host_page_get(struct mm_struct *mm, struct keel_host_page *hp);
void keel_host_page_put(struct keel_host_page *hp);
int keel_host_level(struct mm_struct *mm, unsigned long hva);

/* checked.c */
enum keel_tag_flush {
	KEEL_TAG_KEEP,
	KEEL_TAG_FLUSH,			/* what is tagged so on this CPU */
	KEEL_TAG_FLUSH_ALL,		/* all tags on this CPU */
};

DECLARE_STATIC_KEY_FALSE(keel_checked);
int keel_checked_module_init(void);
void keel_checked_module_exit(void);
bool keel_checked_drop(void);
void keel_checked_entry(struct keel_vcpu *vcpu, u32 tag, enum keel_tag_flush flush);

/* shrink.c */
int keel_shrink_module_init(void);
void keel_shrink_module_exit(void);
void keel_shrink_add(struct keel_vm *vm);
void keel_shrink_remove(struct keel_vm *vm);

/* notifier.c */
int keel_notifier_register(struct keel_vm *vm);
void keel_notifier_unregister(struct keel_vm *vm);

/* gwalk.c: see there for the return values */
int keel_gva_to_gpa(struct keel_vcpu *vcpu, gva_t gva, u32 access, gpa_t *gpa, struct keel_fault *fault,
		    bool atomic);
int keel_gva_fetch(struct keel_vcpu *vcpu, gva_t linear, void *buf, unsigned int len, struct keel_fault *fault,
		   bool atomic);

#endif /* KEEL_MMU_H */
