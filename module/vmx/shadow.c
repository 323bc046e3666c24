// SPDX-License-Identifier: GPL-2.0-only
/*
 * What VT-x without EPT takes: control registers that differ from the guest's, a tag for each of the core's roots, and
 * the question whether the CPU can run the guest's state at all.
 *
 * Without EPT there is no unrestricted guest: an entry demands protected mode, paging, and segments as instructions would
 * have loaded them. Real mode, and what is left of it after a change to protected mode, is the emulator's. A guest that
 * has paging off runs on the core's identity tables. SDM 3C, 24.8 (restrictions), 27.3.1 (checks), 29.1 (VPID).
 */
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "vmx.h"

/**
 * vmx_shadow_crs_set() - control registers as the CPU needs them for shadow tables
 * @vmx: the vCPU, inside its window
 * @st: the guest's
 *
 * Pages of a guest that has paging off are user pages for the CPU, which SMEP and SMAP would keep from its kernel.
 */
void vmx_shadow_crs_set(struct vmx_vcpu *vmx, const struct keel_state *st)
{
	u64 cr0 = (st->cr0 & ~(u64)(X86_CR0_CD | X86_CR0_NW)) | X86_CR0_PE | X86_CR0_PG | X86_CR0_WP;
	u64 cr4 = st->cr4 | X86_CR4_PAE | X86_CR4_VMXE | (vmx->host_cr4 & X86_CR4_MCE);
	u64 efer = st->efer;

	if (!(st->cr0 & X86_CR0_PG))
		cr4 &= ~(u64)(X86_CR4_SMEP | X86_CR4_SMAP);
	if (boot_cpu_has(X86_FEATURE_NX))
		efer |= EFER_NX;
	if (!(efer & EFER_LMA))
		efer &= ~(u64)EFER_LME;
	vmx_write(VMCS_GUEST_CR0, (cr0 | vmx_caps.cr0_fixed0) & vmx_caps.cr0_fixed1);
	vmx_write(VMCS_GUEST_CR4, (cr4 | vmx_caps.cr4_fixed0) & vmx_caps.cr4_fixed1);
	vmx_write(VMCS_GUEST_EFER, efer);
}

/**
 * vmx_shadow_write_root() - the root and its tag
 * @vmx: the vCPU, inside its window
 */
void vmx_shadow_write_root(struct vmx_vcpu *vmx)
{
	vmx_write(VMCS_GUEST_CR3, vmx->vcpu.mmu.root);
	if (vmx->vpid)
		vmx_write(VMCS_VPID, vmx->root_vpid[vmx->vcpu.mmu.tag]);
}

/**
 * vmx_shadow_flush() - drop the translations of tags; without tags there are none
 * @vmx: the vCPU, inside its window
 * @tags: a bit a tag
 */
void vmx_shadow_flush(struct vmx_vcpu *vmx, unsigned long tags)
{
	int i;

	for (i = 0; vmx->vpid && i < KEEL_MMU_ROOTS; i++)
		if ((tags & BIT(i)) && vmx_invvpid(vmx->root_vpid[i]))
			vmx_insn_failed("INVVPID", 0);
}

static bool v86_segment_ok(const struct keel_seg *seg)
{
	return seg->base == (u64)seg->selector << 4 && seg->limit == 0xffff && (seg->ar & 0xff) == 0xf3 &&
	       !(seg->ar & KEEL_AR_UNUSABLE);
}

static unsigned int seg_dpl(const struct keel_seg *seg)
{
	return seg->ar >> KEEL_AR_DPL_SHIFT & 3;
}

static bool limit_ok(const struct keel_seg *seg)
{
	return !(seg->limit >> 20) || (seg->limit & 0xfff) == 0xfff;
}

static bool usable(const struct keel_seg *seg)
{
	return (seg->ar & KEEL_AR_P) && !(seg->ar & KEEL_AR_UNUSABLE);
}

static bool data_segment_ok(const struct keel_seg *seg)
{
	unsigned int type = seg->ar & KEEL_AR_TYPE;

	if (!usable(seg))
		return true;
	if (!(seg->ar & KEEL_AR_S) || (type & 0xa) == 8 || !limit_ok(seg))
		return false;
	return type >= 12 || seg_dpl(seg) >= (seg->selector & 3);
}

static bool code_and_stack_ok(const struct keel_state *st)
{
	const struct keel_seg *cs = &st->seg[KEEL_CS], *ss = &st->seg[KEEL_SS];
	unsigned int type = cs->ar & KEEL_AR_TYPE;

	if (!usable(cs) || !(cs->ar & KEEL_AR_S) || !(type & 8) || !limit_ok(cs))
		return false;
	if (type & 4 ? seg_dpl(cs) > st->cpl : seg_dpl(cs) != st->cpl)
		return false;
	if ((cs->selector & 3) != st->cpl || (ss->selector & 3) != st->cpl)
		return false;
	return !usable(ss) || ((ss->ar & KEEL_AR_S) && (ss->ar & 0xa) == 2 && limit_ok(ss));
}

/**
 * vmx_shadow_runnable() - would an entry accept the guest's state, as far as an ordinary program leads to it?
 * @vcpu: the vCPU, locked, its state current
 *
 * Return: false when the emulator has to run it
 */
bool vmx_shadow_runnable(const struct keel_vcpu *vcpu)
{
	const struct keel_state *st = &vcpu->st;
	const struct keel_seg *ldtr = &st->seg[KEEL_LDTR], *tr = &st->seg[KEEL_TR];
	int i;

	if (!(st->cr0 & X86_CR0_PE))
		return false;
	if ((tr->selector & 4) || (tr->ar & KEEL_AR_S) || (tr->ar & KEEL_AR_TYPE & ~0xa) != 1)
		return false;
	if (usable(ldtr) && ((ldtr->selector & 4) || (ldtr->ar & (KEEL_AR_S | KEEL_AR_TYPE)) != 2))
		return false;
	for (i = KEEL_ES; i <= KEEL_GS; i++) {
		if (st->rflags & X86_EFLAGS_VM) {
			if (!v86_segment_ok(&st->seg[i]))
				return false;
		} else if (i != KEEL_CS && i != KEEL_SS && !data_segment_ok(&st->seg[i])) {
			return false;
		}
	}
	return (st->rflags & X86_EFLAGS_VM) || code_and_stack_ok(st);
}
