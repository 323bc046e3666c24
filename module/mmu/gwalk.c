// SPDX-License-Identifier: GPL-2.0-only
/*
 * Walks of the guest's own page tables in software: guest virtual to guest physical addresses, for the
 * emulator, with the permissions, the #PF error code and the accessed and dirty bits that the CPU would
 * have given (SDM 3A, chapter 4; APM 2, chapter 5).
 *
 * All of 32-bit, PAE, 4-level and 5-level paging. PAE's four PDPTEs are read from memory on each walk, unless the guest's
 * paging is shadowed: then CR3 has loaded them (cr.c).
 * Tables are guest memory that other vCPUs and the client change at will: each entry is read once, and
 * accessed and dirty bits go in by compare and exchange against the value that was checked; on a
 * difference the walk starts again. No lock; the caller drives the vCPU.
 */
#include <asm/cpufeature.h>
#include <asm/processor-flags.h>
#include <asm/msr-index.h>
#include <linux/bitfield.h>
#include <linux/bits.h>
#include <linux/minmax.h>

#include "gwalk.h"
#include "ops.h"
#include "smm.h"

#define PF_VECTOR		14
#define PF_RSVD			BIT(3)
#define PKRU_ACCESS_DISABLE	1
#define PKRU_WRITE_DISABLE	2

#define MAX_RESTARTS		64

static unsigned int level_shift(const struct keel_walk *w, int level)
{
	return 12 + w->index_bits * (level - 1);
}

static void walk_init(struct keel_walk *w, struct keel_vcpu *vcpu, bool atomic)
{
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_CR | KEEL_ST_RIP);

	w->vcpu = vcpu;
	w->atomic = atomic;
	w->cr0 = st->cr0;
	w->cr4 = st->cr4;
	w->efer = st->efer;
	w->rflags = st->rflags;
	w->pkru = st->pkru;
	w->maxphyaddr = clamp_t(unsigned int, vcpu->cpuid.maxphyaddr, 32, 52);
	w->entry_size = 8;
	w->index_bits = 9;
	if (w->efer & EFER_LMA) {
		w->levels = w->cr4 & X86_CR4_LA57 ? 5 : 4;
		w->table = st->cr3 & GENMASK_ULL(51, 12);
	} else if (w->cr4 & X86_CR4_PAE) {
		w->levels = 3;
		w->table = st->cr3 & GENMASK_ULL(31, 5);
	} else {
		w->levels = 2;
		w->entry_size = 4;
		w->index_bits = 10;
		w->table = st->cr3 & GENMASK_ULL(31, 12);
	}
}

static bool entry_is_leaf(const struct keel_walk *w, u64 pte, int level)
{
	if (level == 1)
		return true;
	if (!(pte & KEEL_GPTE_PS))
		return false;
	if (level == 2)
		return w->levels > 2 || (w->cr4 & X86_CR4_PSE);
	return level == 3 && !keel_walk_is_pae(w);
}

/* The bits that must be 0 in a present entry (SDM 3A, tables 4-4 to 4-20; APM 2, 5.3 and 5.4). */
static u64 entry_reserved(const struct keel_walk *w, int level, bool leaf)
{
	u64 rsvd = 0;

	if (w->entry_size == 4) {
		/* PSE-36: bits 20:13 of a 4 MiB entry are address bits 39:32, as far as there are such. */
		if (level == 2 && leaf)
			rsvd = GENMASK_ULL(21, 13 + min(w->maxphyaddr, 40U) - 32);
		return rsvd;
	}
	if (w->maxphyaddr < 52)
		rsvd |= GENMASK_ULL(51, w->maxphyaddr);
	if (keel_walk_is_pae(w))
		rsvd |= GENMASK_ULL(62, 52);
	/* Bit 5 of a PDPTE is reserved too, but QEMU's TCG sets it on a walk, as if it were A. */
	if (keel_walk_is_pae(w) && level == 3)
		return rsvd | KEEL_GPTE_NX | GENMASK_ULL(8, 6) | GENMASK_ULL(2, 1);
	if (!(w->efer & EFER_NX))
		rsvd |= KEEL_GPTE_NX;
	if (level >= 4) {
		rsvd |= KEEL_GPTE_PS;
		if (keel_guest_has(w->vcpu, KEEL_F_AMD))
			rsvd |= BIT_ULL(8);
	}
	/* The hardware's own walks go by the host's ability, not by the guest's CPUID. */
	if (level == 3 && !boot_cpu_has(X86_FEATURE_GBPAGES))
		rsvd |= KEEL_GPTE_PS;
	if (leaf && level > 1)
		rsvd |= GENMASK_ULL(level_shift(w, level) - 1, 13);
	return rsvd;
}

static int fault_set(const struct keel_walk *w, gva_t gva, u32 access, u32 error, struct keel_fault *fault)
{
	error |= access & (KEEL_ACC_WRITE | KEEL_ACC_USER);
	/* The fetch bit exists only where fetches can fault on their own account. */
	if ((access & KEEL_ACC_EXEC) &&
	    ((w->cr4 & X86_CR4_SMEP) || ((w->cr4 & X86_CR4_PAE) && (w->efer & EFER_NX))))
		error |= KEEL_ACC_EXEC;
	fault->vector = PF_VECTOR;
	fault->has_error = true;
	fault->error = error;
	fault->address = gva;
	return -EFAULT;
}

static int entry_read(struct keel_walk *w, int level, u64 index, u64 *pte)
{
	struct keel_vm *vm = w->vcpu->vm;
	gpa_t gpa = w->pte_gpa[level];

	*pte = 0;
	if (keel_shadowing && keel_walk_is_pae(w) && level == 3) {
		*pte = w->vcpu->st.pdpte[index];
		return 0;
	}
	if (!w->atomic)
		return keel_guest_read(vm, gpa, pte, w->entry_size);
	return keel_guest_read_atomic(vm, gpa, pte, w->entry_size) ? -EAGAIN : 0;
}

/* Goes down to the leaf. 0, -EAGAIN, or -EFAULT with @fault filled. */
static int walk_tables(struct keel_walk *w, gva_t gva, u32 access, struct keel_fault *fault)
{
	u64 table = w->table;
	int level, r;

	w->user = true;
	w->write = true;
	w->nx = false;
	for (level = w->levels; level; level--) {
		u64 index = (gva >> level_shift(w, level)) & GENMASK_ULL(w->index_bits - 1, 0);
		bool leaf;
		u64 pte;

		w->pte_gpa[level] = keel_own_gpa(w->vcpu, table + index * w->entry_size);
		r = entry_read(w, level, index, &pte);
		if (r == -EAGAIN)
			return r;
		/* A table outside memory: the bus answers nothing that could be present. */
		if (r || !(pte & KEEL_GPTE_P))
			return fault_set(w, gva, access, 0, fault);
		leaf = entry_is_leaf(w, pte, level);
		if (pte & entry_reserved(w, level, leaf))
			return fault_set(w, gva, access, KEEL_ACC_PRESENT | PF_RSVD, fault);

		w->pte[level] = pte;
		if (!(keel_walk_is_pae(w) && level == 3)) {
			w->user &= !!(pte & KEEL_GPTE_U);
			w->write &= !!(pte & KEEL_GPTE_W);
			w->nx |= w->entry_size == 8 && (pte & KEEL_GPTE_NX);
		}
		w->leaf_level = level;
		w->pkey = w->entry_size == 8 ? FIELD_GET(KEEL_GPTE_PKEY, pte) : 0;
		if (leaf)
			break;
		table = pte & GENMASK_ULL(51, 12);
	}
	return 0;
}

/**
 * keel_walk_permits() - may this access be, as the levels together grant (SDM 3A, 4.6.1; APM 2, 5.6)
 * @w: a walk; of it the registers, and user, write and nx
 * @access: KEEL_ACC_*
 *
 * Return: true, or false: #PF
 */
bool keel_walk_permits(const struct keel_walk *w, u32 access)
{
	if ((access & KEEL_ACC_EXEC) && w->nx)
		return false;
	if (access & KEEL_ACC_USER)
		return w->user && (w->write || !(access & KEEL_ACC_WRITE));

	if (access & KEEL_ACC_EXEC)
		return !(w->user && (w->cr4 & X86_CR4_SMEP));
	if ((access & KEEL_ACC_WRITE) && !w->write && (w->cr0 & X86_CR0_WP))
		return false;
	if (w->user && (w->cr4 & X86_CR4_SMAP))
		return !(access & KEEL_ACC_IMPLICIT) && (w->rflags & X86_EFLAGS_AC);
	return true;
}

/**
 * keel_walk_key_permits() - may this access be by the page's protection key (SDM 3A, 4.6.2; APM 2, 5.6.7)
 * @w: as for keel_walk_permits(), and pkey and pkru
 * @access: KEEL_ACC_*
 *
 * Keys are of user pages and for data alone. A write needs more than the right to read where CR0.WP or CPL 3 say so.
 *
 * Return: true, or false: #PF with KEEL_ACC_PKEY in its error code
 */
bool keel_walk_key_permits(const struct keel_walk *w, u32 access)
{
	u32 rights = w->pkru >> (2 * w->pkey);

	if (!(w->cr4 & X86_CR4_PKE) || !(w->efer & EFER_LMA) || !w->user || (access & KEEL_ACC_EXEC))
		return true;
	if (rights & PKRU_ACCESS_DISABLE)
		return false;
	return !(access & KEEL_ACC_WRITE) || !(rights & PKRU_WRITE_DISABLE) ||
	       !((access & KEEL_ACC_USER) || (w->cr0 & X86_CR0_WP));
}

/*
 * Sets A in each entry and D in the leaf of a write. 0; 1 when an entry has changed since it was read;
 * -EAGAIN where that would have to sleep. Tables in read-only memory keep their bits.
 */
static int walk_set_ad(struct keel_walk *w, u32 access)
{
	int level, r;

	for (level = w->levels; level >= w->leaf_level; level--) {
		u64 old = w->pte[level], new = old | KEEL_GPTE_A;

		if (keel_walk_is_pae(w) && level == 3)
			continue;
		if (level == w->leaf_level && (access & KEEL_ACC_WRITE))
			new |= KEEL_GPTE_D;
		if (new == old)
			continue;
		if (w->atomic)
			return -EAGAIN;
		r = keel_guest_cmpxchg(w->vcpu, w->pte_gpa[level], &old, &new, w->entry_size);
		if (r == 1)
			return 1;
		w->pte[level] = new;
	}
	return 0;
}

static gpa_t walk_result(const struct keel_walk *w, gva_t gva)
{
	u64 offset = BIT_ULL(level_shift(w, w->leaf_level)) - 1;
	u64 pte = w->pte[w->leaf_level];
	u64 base = pte & GENMASK_ULL(51, 12);

	if (w->entry_size == 4 && w->leaf_level == 2)
		base |= ((pte >> 13) & 0xff) << 32;
	return (base & ~offset) | (gva & offset);
}

/**
 * keel_gva_walk() - translate a linear address as the guest's MMU would
 * @vcpu: the vCPU, locked
 * @gva: linear address; canonical in long mode, and the upper half is ignored outside it
 * @access: KEEL_ACC_WRITE, _USER, _EXEC, _IMPLICIT; without _USER a supervisor access
 * @w: what was found on the way; without paging, nothing but the registers
 * @gpa: the result, in the vCPU's address space (KEEL_SMM_GPA); it need not lie in a slot
 * @fault: the #PF to deliver, filled with -EFAULT only
 * @atomic: the caller may not sleep (interrupts may be off)
 *
 * Return: 0; -EFAULT with @fault filled; -EAGAIN when @atomic and a table is not resident or wants its
 * accessed or dirty bit (call again where sleeping is allowed), or when other vCPUs kept changing the
 * entries (let the guest run the instruction again)
 */
int keel_gva_walk(struct keel_vcpu *vcpu, gva_t gva, u32 access, struct keel_walk *w, gpa_t *gpa,
		  struct keel_fault *fault, bool atomic)
{
	bool key;
	int i, r;

	walk_init(w, vcpu, atomic);
	if (!(w->efer & EFER_LMA))
		gva = (u32)gva;
	if (!(w->cr0 & X86_CR0_PG)) {
		*gpa = keel_own_gpa(vcpu, gva);
		return 0;
	}

	for (i = 0; i < MAX_RESTARTS; i++) {
		r = walk_tables(w, gva, access, fault);
		if (r)
			return r;
		key = keel_walk_key_permits(w, access);
		if (!key || !keel_walk_permits(w, access))
			return fault_set(w, gva, access, KEEL_ACC_PRESENT | (key ? 0 : KEEL_ACC_PKEY), fault);
		r = walk_set_ad(w, access);
		if (r < 0)
			return r;
		if (!r) {
			*gpa = keel_own_gpa(vcpu, walk_result(w, gva));
			return 0;
		}
	}
	return -EAGAIN;
}

/**
 * keel_gva_to_gpa() - keel_gva_walk() for those who want the address alone
 * @vcpu: the vCPU, locked
 * @gva: linear address
 * @access: KEEL_ACC_*
 * @gpa: the result
 * @fault: the #PF to deliver, filled with -EFAULT only
 * @atomic: the caller may not sleep
 *
 * Return: as keel_gva_walk()
 */
int keel_gva_to_gpa(struct keel_vcpu *vcpu, gva_t gva, u32 access, gpa_t *gpa, struct keel_fault *fault,
		    bool atomic)
{
	struct keel_walk w;
	int r;

	if (keel_gcache_translate(vcpu, gva, access, gpa))
		return 0;
	r = keel_gva_walk(vcpu, gva, access, &w, gpa, fault, atomic);
	if (!r)
		keel_gcache_remember(&w, gva, *gpa);
	return r;
}

/**
 * keel_gva_fetch() - read instruction bytes as the guest's CPU would fetch them
 * @vcpu: the vCPU, locked
 * @linear: linear address of the first byte
 * @buf: destination
 * @len: bytes wanted, 15 for a whole instruction
 * @fault: the #PF to deliver, filled with -EFAULT only
 * @atomic: the caller may not sleep (interrupts may be off)
 *
 * When the first page is readable and the next is not, what the first holds is returned: a fault is due
 * only if the instruction really reaches so far, and then the fetch of its rest says which.
 *
 * Return: number of bytes read, at least 1; -EFAULT with @fault filled; -ENXIO when the bytes lie outside
 * guest memory (nothing to deliver to the guest); -EAGAIN as keel_gva_to_gpa()
 */
int keel_gva_fetch(struct keel_vcpu *vcpu, gva_t linear, void *buf, unsigned int len, struct keel_fault *fault,
		   bool atomic)
{
	u32 access = KEEL_ACC_EXEC;
	unsigned int done = 0;
	u64 code[2];
	int r;

	if (keel_st(vcpu, KEEL_ST_CODE)->cpl == 3)
		access |= KEEL_ACC_USER;
	if (len <= KEEL_INSN_MAX_LEN && keel_gcache_fetch(vcpu, linear, code)) {
		memcpy(buf, code, len);
		return len;
	}
	while (done < len) {
		gva_t gva = linear + done;
		unsigned int n = min_t(unsigned int, len - done, PAGE_SIZE - offset_in_page(gva));
		gpa_t gpa;

		r = keel_gva_to_gpa(vcpu, gva, access, &gpa, fault, atomic);
		if (!r && atomic)
			r = keel_guest_read_atomic(vcpu->vm, gpa, buf + done, n) ? -EAGAIN : 0;
		else if (!r)
			r = keel_guest_read(vcpu->vm, gpa, buf + done, n) ? -ENXIO : 0;
		if (r)
			return done ? done : r;
		done += n;
	}
	return done;
}
