// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bulk state between the VMCB's save area and struct keel_state (APM 2, appendix B).
 *
 * RAX, RSP, RIP and RFLAGS are moved at entries and exits by enter.c, where anything looks at them; here is the rest. The core has
 * validated what it stores.
 */
#include <asm/cpufeature.h>

#include "svm.h"

/* VMCB attributes have bits 11:8 where struct keel_seg has 15:12. */
static void seg_get(struct keel_seg *seg, const struct vmcb_seg *v)
{
	seg->base = v->base;
	seg->limit = v->limit;
	seg->selector = v->selector;
	seg->ar = (v->attr & 0xff) | (v->attr & 0xf00) << 4;
	if (!(v->attr & KEEL_AR_P))
		seg->ar |= KEEL_AR_UNUSABLE;
}

static void seg_set(struct vmcb_seg *v, const struct keel_seg *seg)
{
	v->base = seg->base;
	v->limit = seg->limit;
	v->selector = seg->selector;
	v->attr = (seg->ar & 0xff) | (seg->ar >> 4 & 0xf00);
	if (seg->ar & KEEL_AR_UNUSABLE)
		v->attr &= ~KEEL_AR_P;
}

static void other_segs_get(struct keel_state *st, const struct vmcb_save *s)
{
	seg_get(&st->seg[KEEL_ES], &s->es);
	seg_get(&st->seg[KEEL_SS], &s->ss);
	seg_get(&st->seg[KEEL_DS], &s->ds);
	seg_get(&st->seg[KEEL_FS], &s->fs);
	seg_get(&st->seg[KEEL_GS], &s->gs);
	seg_get(&st->seg[KEEL_LDTR], &s->ldtr);
	seg_get(&st->seg[KEEL_TR], &s->tr);
	/* A loaded task register is busy, whatever the save area says (15.5.1 leaves it open). */
	st->seg[KEEL_TR].ar |= 2;
}

static void cs_get(struct keel_state *st, const struct vmcb_save *s)
{
	seg_get(&st->seg[KEEL_CS], &s->cs);
	/* The CPU does not keep the G bit in every case; it follows from the limit. */
	if (st->seg[KEEL_CS].limit > 0xfffff)
		st->seg[KEEL_CS].ar |= KEEL_AR_G;
	st->cpl = s->cpl;
}

static void segs_set(struct vmcb_save *s, const struct keel_state *st)
{
	seg_set(&s->es, &st->seg[KEEL_ES]);
	seg_set(&s->cs, &st->seg[KEEL_CS]);
	seg_set(&s->ss, &st->seg[KEEL_SS]);
	seg_set(&s->ds, &st->seg[KEEL_DS]);
	seg_set(&s->fs, &st->seg[KEEL_FS]);
	seg_set(&s->gs, &st->seg[KEEL_GS]);
	seg_set(&s->ldtr, &st->seg[KEEL_LDTR]);
	seg_set(&s->tr, &st->seg[KEEL_TR]);
	s->cpl = st->cpl;
}

/**
 * svm_get_state() - read groups of the guest's state
 * @vcpu: the vCPU, locked
 * @mask: KEEL_ST_*
 */
void svm_get_state(struct keel_vcpu *vcpu, u32 mask)
{
	const struct vmcb_save *s = &to_svm(vcpu)->vmcb->save;
	struct keel_state *st = &vcpu->st;

	if (mask & KEEL_ST_RIP) {
		st->rip = s->rip;
		st->rflags = s->rflags;
	}
	if (mask & KEEL_ST_CS)
		cs_get(st, s);
	if (mask & KEEL_ST_OTHER_SEGS)
		other_segs_get(st, s);
	if (mask & KEEL_ST_DT) {
		st->gdt = (struct keel_dtable) { s->gdtr.base, s->gdtr.limit };
		st->idt = (struct keel_dtable) { s->idtr.base, s->idtr.limit };
	}
	if ((mask & KEEL_ST_CR) && keel_shadowing) {
		st->cr2 = s->cr2;	/* writes of the others all exit */
	} else if (mask & KEEL_ST_CR) {
		/* see svm_set_state() */
		st->cr0 = s->cr0 | to_svm(vcpu)->cr0_hidden;
		st->cr2 = s->cr2;
		st->cr3 = s->cr3;
		st->cr4 = s->cr4 & ~to_svm(vcpu)->cr4_hidden;
		st->efer = s->efer & ~EFER_SVME;
	}
	if (mask & KEEL_ST_MSR) {
		st->star = s->star;
		st->lstar = s->lstar;
		st->cstar = s->cstar;
		st->sfmask = s->sfmask;
		st->kernel_gs_base = s->kernel_gs_base;
		st->sysenter_cs = s->sysenter_cs;
		st->pat = s->g_pat;
	}
	/* KEEL_ST_DR: MOV DR always exits, so st has the truth. The VMCB's DR6 reports one #DB. */
	if (mask & KEEL_ST_SHADOW)
		st->int_shadow = to_svm(vcpu)->vmcb->control.int_state & SVM_STATE_SHADOW ?
				 KEEL_SHADOW_STI | KEEL_SHADOW_MOV_SS : 0;
}

/*
 * Without nested paging the CPU walks shadow tables: those of long mode, or PAE's. CR3 is vcpu_update()'s. Paging is always
 * on, in real mode too (APM 2, 15.19), as is write protection (shadow.c says why). Pages of a guest that has paging
 * off are user pages for the CPU, which SMEP and SMAP would keep from the guest's kernel.
 */
static void shadow_crs_set(struct svm_vcpu *svm, const struct keel_state *st)
{
	const u64 hidden = X86_CR0_CD | X86_CR0_NW;
	struct vmcb_save *s = &svm->vmcb->save;

	s->cr0 = (st->cr0 & ~hidden) | X86_CR0_PG | X86_CR0_WP;
	s->cr2 = st->cr2;
	s->cr4 = st->cr4 | X86_CR4_PAE | svm_caps.host_mce;
	if (!(st->cr0 & X86_CR0_PG))
		s->cr4 &= ~(u64)(X86_CR4_SMEP | X86_CR4_SMAP);
	s->efer = st->efer | EFER_SVME;
	if (boot_cpu_has(X86_FEATURE_NX))
		s->efer |= EFER_NX;
	if (!(st->efer & EFER_LMA))
		s->efer &= ~(u64)EFER_LME;
	svm_intercept(svm->vmcb, SVM_ICPT_CR_READ + 4, s->cr4 != st->cr4);
}

/**
 * svm_set_state() - write groups of the guest's state
 * @vcpu: the vCPU, locked
 * @mask: KEEL_ST_*
 *
 * CR0.CD would make every guest access uncached, and CPUs come out of reset with CD and NW set. Both are
 * hidden from the hardware while they stand in a value set here; reads and writes of CR0 exit then. A
 * guest that sets them later, with MOV, gets what it asks for. Without CR4.MCE a machine check of the host's would shut the
 * CPU down: it stays on, and reads and writes of CR4 exit until the guest has it set itself.
 */
void svm_set_state(struct keel_vcpu *vcpu, u32 mask)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	struct vmcb_save *s = &svm->vmcb->save;
	const struct keel_state *st = &vcpu->st;

	if (mask & KEEL_ST_SEG)
		segs_set(s, st);
	if (mask & KEEL_ST_DT) {
		s->gdtr.base = st->gdt.base;
		s->gdtr.limit = st->gdt.limit;
		s->idtr.base = st->idt.base;
		s->idtr.limit = st->idt.limit;
	}
	if ((mask & KEEL_ST_CR) && keel_shadowing) {
		shadow_crs_set(svm, st);
	} else if (mask & KEEL_ST_CR) {
		svm->cr0_hidden = st->cr0 & (X86_CR0_CD | X86_CR0_NW);
		s->cr0 = st->cr0 & ~svm->cr0_hidden;
		svm_intercept(svm->vmcb, SVM_ICPT_CR_WRITE + 0, svm->cr0_hidden);
		s->cr2 = st->cr2;
		s->cr3 = keel_entry_cr3(st);
		svm->cr4_hidden = svm_caps.host_mce & ~st->cr4;
		s->cr4 = st->cr4 | svm->cr4_hidden;
		svm_cr4_intercepts(svm);
		s->efer = st->efer | EFER_SVME;
	}
	if (mask & KEEL_ST_MSR) {
		s->star = st->star;
		s->lstar = st->lstar;
		s->cstar = st->cstar;
		s->sfmask = st->sfmask;
		s->kernel_gs_base = st->kernel_gs_base;
		s->sysenter_cs = st->sysenter_cs;
		s->sysenter_esp = st->sysenter_esp;
		s->sysenter_eip = st->sysenter_eip;
		s->g_pat = st->pat;
	}
	if (mask & KEEL_ST_DR)
		s->dr7 = vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP ? vcpu->debug_dr7 : st->dr7;
	if (mask & KEEL_ST_SHADOW)
		svm->vmcb->control.int_state = st->int_shadow ? SVM_STATE_SHADOW : 0;
}
