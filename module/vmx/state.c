// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bulk state between the VMCS and struct keel_state (SDM 3C, 25.4 and 27.3).
 *
 * RSP, RIP and RFLAGS are moved at each entry and exit by enter.c; here is the rest. The core has validated
 * what it stores; VM entry checks more than the architecture does, so values that only differ in what no
 * instruction can see (accessed bits, the granularity of a limit) are brought into the form it wants.
 */
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "vmx.h"

/* Bits of CR0 that the guest owns; the others are shown from the read shadow and exit when they change. */
#define CR0_GUEST_OWNED		(X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_AM)
#define CR0_NESTED_OWNED	(CR0_GUEST_OWNED | X86_CR0_PE | X86_CR0_WP | X86_CR0_PG)

/* The order of the VMCS: ES CS SS DS FS GS LDTR TR */
static const u8 seg_order[] = {
	KEEL_ES, KEEL_CS, KEEL_SS, KEEL_DS, KEEL_FS, KEEL_GS, KEEL_LDTR, KEEL_TR,
};

#define CS_IN_ORDER	1
#define SS_IN_ORDER	2

static void seg_get(struct keel_seg *seg, int i)
{
	seg->selector = vmx_read(VMCS_GUEST_ES_SEL + 2 * i);
	seg->base = vmx_read(VMCS_GUEST_ES_BASE + 2 * i);
	seg->limit = vmx_read(VMCS_GUEST_ES_LIMIT + 2 * i);
}

static u32 ar_get(int i)
{
	return vmx_read(VMCS_GUEST_ES_AR + 2 * i);
}

static void other_segs_get(struct keel_state *st)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(seg_order); i++)
		if (seg_order[i] != KEEL_CS) {
			seg_get(&st->seg[seg_order[i]], i);
			st->seg[seg_order[i]].ar = ar_get(i);
		}
}

static void code_get(struct keel_state *st)
{
	st->seg[KEEL_CS].ar = ar_get(CS_IN_ORDER);
	st->cpl = ar_get(SS_IN_ORDER) >> KEEL_AR_DPL_SHIFT & 3;
}

static void shadow_get(struct vmx_vcpu *vmx)
{
	u32 state = vmx_interruptibility(vmx);

	vmx->vcpu.st.int_shadow = (state & VMX_STATE_STI ? KEEL_SHADOW_STI : 0) |
				  (state & VMX_STATE_MOV_SS ? KEEL_SHADOW_MOV_SS : 0);
}

/* 27.3.1.2: what entry demands of access rights. */
static u32 entry_ar(const struct keel_state *st, int nr)
{
	const struct keel_seg *seg = &st->seg[nr];
	u32 ar = seg->ar;

	if (nr == KEEL_SS)
		ar = (ar & ~(3U << KEEL_AR_DPL_SHIFT)) | (u32)st->cpl << KEEL_AR_DPL_SHIFT;
	if (!(ar & KEEL_AR_P))
		ar |= KEEL_AR_UNUSABLE;
	if (nr == KEEL_TR)
		ar = (ar & ~KEEL_AR_UNUSABLE) | KEEL_AR_P | 2 | (st->efer & EFER_LMA ? 8 : 0);
	if (ar & KEEL_AR_UNUSABLE)
		return ar;
	if (nr != KEEL_LDTR && nr != KEEL_TR)
		ar |= 1;	/* accessed */
	if (seg->limit >> 20)
		ar |= KEEL_AR_G;
	else if ((seg->limit & 0xfff) != 0xfff)
		ar &= ~KEEL_AR_G;
	return ar;
}

static void segs_set(const struct keel_state *st)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(seg_order); i++) {
		const struct keel_seg *seg = &st->seg[seg_order[i]];

		vmx_write(VMCS_GUEST_ES_SEL + 2 * i, seg->selector);
		vmx_write(VMCS_GUEST_ES_BASE + 2 * i, seg->base);
		vmx_write(VMCS_GUEST_ES_LIMIT + 2 * i, seg->limit);
		vmx_write(VMCS_GUEST_ES_AR + 2 * i, entry_ar(st, seg_order[i]));
	}
}

static u64 cr0_guest_owned(void)
{
	return keel_shadowing ? CR0_GUEST_OWNED : CR0_NESTED_OWNED;
}

static void crs_get(struct vmx_vcpu *vmx, struct keel_state *st)
{
	u64 mask = vmx->cr4_guest_owned, owned = cr0_guest_owned();
	int i;

	st->cr0 = (vmx_read(VMCS_GUEST_CR0) & owned) | (vmx_read(VMCS_CR0_SHADOW) & ~owned);
	st->cr4 = (vmx_read(VMCS_GUEST_CR4) & mask) | (vmx_read(VMCS_CR4_SHADOW) & ~mask);
	if (keel_shadowing)
		return;		/* writes of the others all exit */
	st->cr3 = vmx_read(VMCS_GUEST_CR3);
	st->efer = vmx_read(VMCS_GUEST_EFER);
	if (keel_pae_paging(st->cr0, st->cr4, st->efer))
		for (i = 0; i < 4; i++)
			st->pdpte[i] = vmx_read(VMCS_GUEST_PDPTE + 2 * i);
}

/*
 * CR0.CD and NW are not loaded by an entry and stay the host's; CR4.MCE must stay on for the host. The
 * bits that VMX operation demands are on behind the guest's back.
 */
static void crs_set(struct vmx_vcpu *vmx, const struct keel_state *st)
{
	u64 cr0 = st->cr0 & ~(u64)(X86_CR0_CD | X86_CR0_NW);
	u64 cr4 = st->cr4 | X86_CR4_VMXE | (vmx->host_cr4 & X86_CR4_MCE);
	int i;

	vmx_write(VMCS_CR0_MASK, ~cr0_guest_owned());
	vmx_write(VMCS_CR0_SHADOW, st->cr0);
	vmx_write(VMCS_CR4_MASK, ~vmx->cr4_guest_owned);
	vmx_write(VMCS_CR4_SHADOW, st->cr4);
	vmx_ctl(vmx, VMX_ENTRY, VMX_ENTRY_IA32E, st->efer & EFER_LMA);
	if (keel_shadowing) {
		vmx_shadow_crs_set(vmx, st);
		return;
	}
	vmx_write(VMCS_GUEST_CR0, (cr0 | vmx_caps.cr0_fixed0) & vmx_caps.cr0_fixed1);
	vmx_write(VMCS_GUEST_CR3, keel_entry_cr3(st));
	vmx_write(VMCS_GUEST_CR4, (cr4 | vmx_caps.cr4_fixed0) & vmx_caps.cr4_fixed1);
	vmx_write(VMCS_GUEST_EFER, st->efer);
	if (keel_pae_paging(st->cr0, st->cr4, st->efer))
		for (i = 0; i < 4; i++)
			vmx_write(VMCS_GUEST_PDPTE + 2 * i, st->pdpte[i]);
}

static void state_read(struct vmx_vcpu *vmx, u32 mask)
{
	struct keel_state *st = &vmx->vcpu.st;

	if (mask & KEEL_ST_CODE)
		code_get(st);
	if (mask & KEEL_ST_CS_REST)
		seg_get(&st->seg[KEEL_CS], CS_IN_ORDER);
	if (mask & KEEL_ST_OTHER_SEGS)
		other_segs_get(st);
	if (mask & KEEL_ST_DT) {
		st->gdt = (struct keel_dtable) { vmx_read(VMCS_GUEST_GDTR_BASE), vmx_read(VMCS_GUEST_GDTR_LIMIT) };
		st->idt = (struct keel_dtable) { vmx_read(VMCS_GUEST_IDTR_BASE), vmx_read(VMCS_GUEST_IDTR_LIMIT) };
	}
	if (mask & KEEL_ST_CR)
		crs_get(vmx, st);
	if (mask & KEEL_ST_MSR) {
		st->sysenter_cs = vmx_read(VMCS_GUEST_SYSENTER_CS);
		st->sysenter_esp = vmx_read(VMCS_GUEST_SYSENTER_ESP);
		st->sysenter_eip = vmx_read(VMCS_GUEST_SYSENTER_EIP);
		/* Shadow tables name memory types by the host's PAT, and the guest's is the core's alone. */
		if (!keel_shadowing)
			st->pat = vmx_read(VMCS_GUEST_PAT);
	}
	/* KEEL_ST_DR: MOV DR always exits, and DR6 does not change when a #DB does: st has the truth. */
	if (mask & KEEL_ST_SHADOW)
		shadow_get(vmx);
}

/**
 * vmx_get_state() - read groups of the guest's state
 * @vcpu: the vCPU, locked
 * @mask: KEEL_ST_*
 *
 * CR2 and the GPRs are saved at exits; of the MSRs, those that the guest cannot write without an exit
 * are always current. Outside the window all that is missing is read at once: it takes VMX operation.
 */
void vmx_get_state(struct keel_vcpu *vcpu, u32 mask)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	unsigned long flags;

	/* What stepping over an instruction asks for; the window has left it behind. */
	if (likely(mask == KEEL_ST_SHADOW)) {
		shadow_get(vmx);
		return;
	}
	if (vcpu->in_window) {
		if (mask & KEEL_ST_MSR)
			vcpu->st.kernel_gs_base = keel_rdmsr(MSR_KERNEL_GS_BASE);
		state_read(vmx, mask);
		return;
	}
	mask = KEEL_ST_ALL & ~vcpu->st_valid;
	if (vmx_vmcs_reach(vmx, &flags)) {
		keel_vm_kill(vcpu->vm, "VMX operation is refused, and with it the guest's state");
		return;
	}
	state_read(vmx, mask);
	vmx_vmcs_leave(vmx, flags);
	vcpu->st_valid |= mask;
}

/**
 * vmx_set_state() - write groups of the guest's state
 * @vcpu: the vCPU, locked, inside its window
 * @mask: KEEL_ST_*
 */
void vmx_set_state(struct keel_vcpu *vcpu, u32 mask)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	struct keel_state *st = &vcpu->st;

	if (mask & KEEL_ST_CR)
		crs_set(vmx, st);
	/* The type of a usable TR depends on EFER.LMA. */
	if ((mask & KEEL_ST_SEG) || ((mask & KEEL_ST_CR) && vmx->hw_lma != !!(st->efer & EFER_LMA))) {
		keel_st(vcpu, KEEL_ST_SEG | KEEL_ST_CR);
		vmx->hw_lma = st->efer & EFER_LMA;
		segs_set(st);
	}
	if (mask & KEEL_ST_DT) {
		vmx_write(VMCS_GUEST_GDTR_BASE, st->gdt.base);
		vmx_write(VMCS_GUEST_GDTR_LIMIT, st->gdt.limit);
		vmx_write(VMCS_GUEST_IDTR_BASE, st->idt.base);
		vmx_write(VMCS_GUEST_IDTR_LIMIT, st->idt.limit);
	}
	if (mask & KEEL_ST_MSR) {
		vmx_write(VMCS_GUEST_SYSENTER_CS, st->sysenter_cs);
		vmx_write(VMCS_GUEST_SYSENTER_ESP, st->sysenter_esp);
		vmx_write(VMCS_GUEST_SYSENTER_EIP, st->sysenter_eip);
		vmx_write(VMCS_GUEST_PAT, keel_shadowing ? this_cpu_read(vmx_cpu.pat) : st->pat);
		vmx_load_msrs(vcpu);
	}
	if (mask & KEEL_ST_DR)
		vmx_write(VMCS_GUEST_DR7, vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP ? vcpu->debug_dr7 : st->dr7);
	if (mask & KEEL_ST_SHADOW) {
		u32 state = vmx_interruptibility(vmx) & ~(VMX_STATE_STI | VMX_STATE_MOV_SS);

		/* Both at once is no state that entry accepts. */
		if (st->int_shadow & KEEL_SHADOW_MOV_SS)
			state |= VMX_STATE_MOV_SS;
		else if (st->int_shadow & KEEL_SHADOW_STI)
			state |= VMX_STATE_STI;
		vmx_set_interruptibility(vmx, state);
	}
}
