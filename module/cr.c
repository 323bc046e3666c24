// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes to CR0, CR3, CR4, EFER, XCR0 and the debug registers: what the architecture checks and
 * what follows from them.
 *
 * Exits, the emulator and the client's ioctls all come here. A function returns 0, -EINVAL for
 * #GP(0), or -EAGAIN: called inside the window, it needs guest memory (PAE page-directory pointers)
 * that is not resident; nothing has changed, call again outside. With nested paging the CPU walks
 * the guest's tables by itself, so a change of mode needs no more than new state and, where the
 * architecture demands it, a TLB flush; with shadow paging it may need another root as well.
 *
 * Locks: vcpu->mutex; outside the window the caller holds vm->srcu. SDM 3A, 2.5 and 4.10.4; APM 2,
 * 3.1 and 5.5.
 */
#include <linux/kvm.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "ops.h"
#include "smm.h"

#define CR0_KNOWN	(X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | \
			 X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | \
			 X86_CR0_PG)
#define CR3_NOFLUSH	BIT_ULL(63)
#define CR3_PCID	0xfffULL

/* Changes of these reload the PAE page-directory pointers (SDM 3A, 4.4.1). */
#define CR0_PDPTR	(X86_CR0_CD | X86_CR0_NW | X86_CR0_PG)
#define CR4_PDPTR	(X86_CR4_PGE | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_SMEP)

/* bits that read as one when the CPU has neither RTM nor bus-lock #DB */
#define DR6_ONES	0xfffe0ff0ULL
#define DR6_WRITABLE	0x0000e00fULL
#define DR6_RTM		BIT_ULL(16)
#define DR7_ONES	0x00000400ULL
#define DR7_WRITABLE	0xffff23ffULL

#define XCR0_YMM	BIT_ULL(2)
#define XCR0_AVX512	(BIT_ULL(5) | BIT_ULL(6) | BIT_ULL(7))

/* CR0 without regard to other registers; unknown bits below 32 are ignored, not refused. */
bool keel_valid_cr0(u64 val)
{
	if (val >> 32)
		return false;
	if ((val & X86_CR0_NW) && !(val & X86_CR0_CD))
		return false;
	return !(val & X86_CR0_PG) || (val & X86_CR0_PE);
}

/* CR4 against what the guest's CPUID has. */
bool keel_valid_cr4(struct keel_vcpu *vcpu, u64 val)
{
	return !(val & ~vcpu->cpuid.cr4_valid);
}

/* EFER against what the guest's CPUID has. */
bool keel_valid_efer(struct keel_vcpu *vcpu, u64 val)
{
	return !(val & ~vcpu->cpuid.efer_valid);
}

/* Bits of a guest-physical address that this guest does not have. */
static u64 bad_gpa_bits(struct keel_vcpu *vcpu)
{
	return ~0ULL << vcpu->cpuid.maxphyaddr;
}

/*
 * Read the four PAE pointers at @cr3: #GP if one has reserved bits (SDM 3A, 4.4.1). Bit
 * 5 is reserved too, but QEMU's TCG sets it on a walk, as if it were an accessed bit.
 */
static int read_pdptes(struct keel_vcpu *vcpu, u64 cr3, u64 *pdpte)
{
	u64 reserved = bad_gpa_bits(vcpu) | 0x1c6;	/* not bit 5: QEMU's TCG sets A in these */
	gpa_t gpa = keel_own_gpa(vcpu, cr3 & 0xffffffe0);
	int i, err, srcu;

	if (vcpu->in_window) {
		srcu = srcu_read_lock(&vcpu->vm->srcu);
		err = keel_guest_read_atomic(vcpu->vm, gpa, pdpte, 4 * sizeof(u64));
		srcu_read_unlock(&vcpu->vm->srcu, srcu);
		if (err)
			return -EAGAIN;
	} else {
		err = keel_guest_read(vcpu->vm, gpa, pdpte, 4 * sizeof(u64));
		if (err)
			return -EINVAL;
	}
	for (i = 0; i < 4; i++)
		if ((pdpte[i] & 1) && (pdpte[i] & reserved))
			return -EINVAL;
	return 0;
}

/**
 * keel_load_pdptes() - the client has set CR3: what PAE paging loads from there
 * @vcpu: the vCPU, locked; outside the window, vm->srcu held
 *
 * What cannot be read, or has reserved bits, is not present.
 */
void keel_load_pdptes(struct keel_vcpu *vcpu)
{
	struct keel_state *st = keel_st_mod(vcpu, KEEL_ST_CR);

	if (keel_pae_paging(st->cr0, st->cr4, st->efer) && read_pdptes(vcpu, st->cr3, st->pdpte))
		memset(st->pdpte, 0, sizeof(st->pdpte));
}

/**
 * keel_set_cr0() - the guest writes CR0
 * @vcpu: the vCPU, locked
 * @val: the new value
 *
 * EFER.LMA follows CR0.PG and EFER.LME.
 *
 * Return: 0, -EINVAL (#GP), -EAGAIN (call outside the window)
 */
int keel_set_cr0(struct keel_vcpu *vcpu, u64 val)
{
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_CR | KEEL_ST_SEG);
	u64 old = st->cr0, pdpte[4];
	struct keel_state *mod;
	bool load = false;
	int err;

	if (!keel_valid_cr0(val))
		return -EINVAL;
	val = (val & CR0_KNOWN) | X86_CR0_ET;

	if ((val & X86_CR0_PG) && !(old & X86_CR0_PG) && (st->efer & EFER_LME)) {
		if (!(st->cr4 & X86_CR4_PAE) || (st->seg[KEEL_CS].ar & KEEL_AR_L))
			return -EINVAL;
	}
	if ((val & X86_CR0_PG) && (st->cr4 & X86_CR4_PAE) && !(st->efer & EFER_LME) &&
	    ((val ^ old) & CR0_PDPTR)) {
		err = read_pdptes(vcpu, st->cr3, pdpte);
		if (err)
			return err;
		load = true;
	}
	if (!(val & X86_CR0_PG)) {
		bool code64 = (st->efer & EFER_LMA) && (st->seg[KEEL_CS].ar & KEEL_AR_L);

		if (code64 || (st->cr4 & X86_CR4_PCIDE))
			return -EINVAL;
	}

	mod = keel_st_mod(vcpu, KEEL_ST_CR);
	mod->cr0 = val;
	if (load)
		memcpy(mod->pdpte, pdpte, sizeof(pdpte));
	if ((val ^ old) & X86_CR0_PG) {
		if ((val & X86_CR0_PG) && (mod->efer & EFER_LME))
			mod->efer |= EFER_LMA;
		else
			mod->efer &= ~(u64)EFER_LMA;
	}
	if ((val ^ old) & (X86_CR0_PG | X86_CR0_WP))
		keel_guest_flush(vcpu);
	keel_paging_changed(vcpu);
	return 0;
}

/**
 * keel_set_cr3() - the guest writes CR3
 * @vcpu: the vCPU, locked
 * @val: the new value; with CR4.PCIDE, bit 63 asks to keep the TLB and is not stored
 *
 * Return: 0, -EINVAL (#GP), -EAGAIN (call outside the window)
 */
int keel_set_cr3(struct keel_vcpu *vcpu, u64 val)
{
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_CR);
	bool keep_tlb = false;
	u64 pdpte[4];
	int err;

	if (st->cr4 & X86_CR4_PCIDE) {
		keep_tlb = val & CR3_NOFLUSH;
		val &= ~CR3_NOFLUSH;
	}
	if (val & bad_gpa_bits(vcpu))
		return -EINVAL;
	if (keel_pae_paging(st->cr0, st->cr4, st->efer)) {
		err = read_pdptes(vcpu, val, pdpte);
		if (err)
			return err;
		memcpy(keel_st_mod(vcpu, KEEL_ST_CR)->pdpte, pdpte, sizeof(pdpte));
	}
	keel_st_mod(vcpu, KEEL_ST_CR)->cr3 = val;
	if (!keep_tlb)
		keel_guest_flush(vcpu);
	keel_paging_changed(vcpu);
	return 0;
}

/**
 * keel_set_cr4() - the guest writes CR4
 * @vcpu: the vCPU, locked
 * @val: the new value
 *
 * Return: 0, -EINVAL (#GP), -EAGAIN (call outside the window)
 */
int keel_set_cr4(struct keel_vcpu *vcpu, u64 val)
{
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_CR);
	u64 changed = val ^ st->cr4, pdpte[4];
	bool load = false;
	int err;

	if (!keel_valid_cr4(vcpu, val))
		return -EINVAL;
	if (st->efer & EFER_LMA) {
		if (!(val & X86_CR4_PAE) || (changed & X86_CR4_LA57))
			return -EINVAL;
	} else if ((st->cr0 & X86_CR0_PG) && (val & X86_CR4_PAE) && (changed & CR4_PDPTR)) {
		err = read_pdptes(vcpu, st->cr3, pdpte);
		if (err)
			return err;
		load = true;
	}
	if ((val & X86_CR4_PCIDE) && (changed & X86_CR4_PCIDE) &&
	    (!(st->efer & EFER_LMA) || (st->cr3 & CR3_PCID)))
		return -EINVAL;

	keel_st_mod(vcpu, KEEL_ST_CR)->cr4 = val;
	if (load)
		memcpy(vcpu->st.pdpte, pdpte, sizeof(pdpte));
	/* setting PCIDE alone, and clearing SMEP alone, flush nothing */
	if ((changed & (X86_CR4_PGE | X86_CR4_PAE | X86_CR4_PSE)) ||
	    ((changed & X86_CR4_PCIDE) && !(val & X86_CR4_PCIDE)) ||
	    ((changed & X86_CR4_SMEP) && (val & X86_CR4_SMEP)))
		keel_guest_flush(vcpu);
	keel_paging_changed(vcpu);
	return 0;
}

/**
 * keel_set_efer() - the guest writes EFER
 * @vcpu: the vCPU, locked
 * @val: the new value; LMA is read-only and ignored
 *
 * Return: 0 or -EINVAL (#GP)
 */
int keel_set_efer(struct keel_vcpu *vcpu, u64 val)
{
	struct keel_state *st = keel_st(vcpu, KEEL_ST_CR);
	u64 changed;

	if (!keel_valid_efer(vcpu, val))
		return -EINVAL;
	changed = val ^ st->efer;
	if ((st->cr0 & X86_CR0_PG) && (changed & EFER_LME))
		return -EINVAL;
	st = keel_st_mod(vcpu, KEEL_ST_CR);
	st->efer = (val & ~(u64)EFER_LMA) | (st->efer & EFER_LMA);
	if (changed & EFER_NX)
		keel_guest_flush(vcpu);
	keel_paging_changed(vcpu);
	return 0;
}

/**
 * keel_set_xcr0() - XSETBV with ECX = 0, or the client's KVM_SET_XCRS (SDM 1, 13.3)
 * @vcpu: the vCPU, locked
 * @val: the new value
 *
 * Return: 0 or -EINVAL (#GP)
 */
int keel_set_xcr0(struct keel_vcpu *vcpu, u64 val)
{
	if (!(val & 1) || (val & ~(vcpu->cpuid.xcr0_valid | 1)))
		return -EINVAL;
	if ((val & XCR0_YMM) && !(val & 2))
		return -EINVAL;
	if ((val & XCR0_AVX512) && ((val & XCR0_AVX512) != XCR0_AVX512 || !(val & XCR0_YMM)))
		return -EINVAL;
	keel_fpu_set_xcr0(vcpu, val);
	return 0;
}

/**
 * keel_set_dr() - the guest writes a debug register (SDM 3B, 17.2)
 * @vcpu: the vCPU, locked
 * @dr: 0 to 7; 4 and 5 are 6 and 7 (the caller has dealt with CR4.DE)
 * @val: the new value
 *
 * Return: 0 or -EINVAL (#GP)
 */
int keel_set_dr(struct keel_vcpu *vcpu, unsigned int dr, u64 val)
{
	switch (dr) {
	case 0 ... 3:
		vcpu->st.dr[dr] = val;
		vcpu->st_dirty |= KEEL_ST_DR;
		keel_st(vcpu, KEEL_ST_DR);
		return 0;
	case 4:
	case 6:
		if (val >> 32)
			return -EINVAL;
		keel_st_mod(vcpu, KEEL_ST_DR)->dr6 = (val & DR6_WRITABLE) | DR6_ONES | DR6_RTM;
		return 0;
	default:
		if (val >> 32)
			return -EINVAL;
		keel_st_mod(vcpu, KEEL_ST_DR)->dr7 = (val & DR7_WRITABLE) | DR7_ONES;
		return 0;
	}
}

/**
 * keel_get_dr() - the guest reads a debug register
 * @vcpu: the vCPU, locked
 * @dr: 0 to 7, as keel_set_dr()
 *
 * Return: its value
 */
u64 keel_get_dr(struct keel_vcpu *vcpu, unsigned int dr)
{
	switch (dr) {
	case 0 ... 3:
		return vcpu->st.dr[dr];
	case 4:
	case 6:
		return keel_st(vcpu, KEEL_ST_DR)->dr6;
	default:
		return keel_st(vcpu, KEEL_ST_DR)->dr7;
	}
}
