// SPDX-License-Identifier: GPL-2.0-only
/*
 * APIC virtualization (SDM 3C, chapter 30): how much of the local APIC the CPU does by itself.
 *
 *	TPR shadow			CR8, and TPR where the registers are virtualized
 *	virtualize APIC accesses	accesses to the APIC's page are known as such: xAPIC mode
 *	virtualize x2APIC mode		the same for its MSRs
 *	APIC-register virtualization	reads, and writes that exit only when they are done
 *	virtual-interrupt delivery	interrupts are delivered and ended without an exit
 *
 * Each builds on those above and has a parameter. The virtual-APIC page is the register page of struct
 * keel_lapic. There are no posted interrupts here: who sends one sets IRR and kicks, and the entry tells the CPU
 * (RVI). Runs in the vCPU's thread; update_tpr inside the window.
 *
 * A guest with paravirtual EOIs ends an interrupt by a flag in its memory, of which the page knows only after the next
 * exit. So with these it is software that reads ISR; with virtual-interrupt delivery the flag is never offered.
 */
#include <asm/apicdef.h>
#include <asm/msr-index.h>

#include "vmx.h"

/* Registers, by MSR number, that can be read from the page as they are. */
static const u16 x2apic_reads[] = {
	0x802, 0x803, 0x80d, 0x80f,
	0x818, 0x819, 0x81a, 0x81b, 0x81c, 0x81d, 0x81e, 0x81f,
	0x820, 0x821, 0x822, 0x823, 0x824, 0x825, 0x826, 0x827,
	0x828, 0x832, 0x833, 0x834, 0x835, 0x836, 0x837, 0x838, 0x83e,
};

/* The controls that follow the mode. */
#define APIC_CTL	(VMX_CPU2_APIC_ACCESS | VMX_CPU2_X2APIC | VMX_CPU2_APIC_REGS | VMX_CPU2_VINTR)

#define X2APIC_TPR	0x808
#define X2APIC_EOI	0x80b
#define X2APIC_ISR	0x810
#define X2APIC_SELF_IPI	0x83f

static void x2apic_msrs(struct vmx_vcpu *vmx)
{
	bool on = vmx->ctl[VMX_CPU2] & VMX_CPU2_X2APIC;
	bool regs = on && (vmx->ctl[VMX_CPU2] & VMX_CPU2_APIC_REGS);
	int i;

	for (i = 0; i < ARRAY_SIZE(x2apic_reads); i++)
		vmx_msr_direct(vmx, x2apic_reads[i], false, regs);
	for (i = 0; i < 8; i++)
		vmx_msr_direct(vmx, X2APIC_ISR + i, false, regs && vmx->vcpu.virt_intr);
	vmx_msr_direct(vmx, X2APIC_TPR, false, on);
	vmx_msr_direct(vmx, X2APIC_TPR, true, on);
	vmx_msr_direct(vmx, X2APIC_EOI, true, on && vmx->vcpu.virt_intr);
	vmx_msr_direct(vmx, X2APIC_SELF_IPI, true, on && vmx->vcpu.virt_intr);
}

/**
 * vmx_apic_update() - make the controls fit the local APIC's mode
 * @vmx: the vCPU, locked
 */
void vmx_apic_update(struct vmx_vcpu *vmx)
{
	struct keel_vcpu *vcpu = &vmx->vcpu;
	u32 on = 0;

	vmx->svi_stale = true;
	if (vmx->tpr_shadow && vmx_caps.apic_access && keel_xapic_at_default(vcpu))
		on = VMX_CPU2_APIC_ACCESS;
	else if (vmx->tpr_shadow && vmx_caps.x2apic && (vcpu->apic_base & X2APIC_ENABLE))
		on = VMX_CPU2_X2APIC;
	vcpu->virt_apic_page = on == VMX_CPU2_APIC_ACCESS;
	/* In xAPIC mode the CPU reads all registers or none. */
	if (on && vmx_caps.apic_regs && (vmx_caps.vintr || !vcpu->virt_apic_page || !keel_pv_eoi_enabled(vcpu)))
		on |= VMX_CPU2_APIC_REGS;
	if (on && vmx_caps.vintr)
		on |= VMX_CPU2_VINTR;
	keel_lapic_set_virt_intr(vcpu, on & VMX_CPU2_VINTR);
	vmx_ctl(vmx, VMX_CPU2, APIC_CTL & ~on, false);
	vmx_ctl(vmx, VMX_CPU2, on, true);
	if (vmx->apic_ctl == on)
		return;
	vmx->apic_ctl = on;
	x2apic_msrs(vmx);
}

/* RVI and SVI: the highest vectors requested and in service. The CPU keeps them; we may have changed either. */
static void sync_status(struct vmx_vcpu *vmx, int irr)
{
	u16 now = vmx_read(VMCS_GUEST_INTR_STATUS), want = (now & 0xff00) | (irr < 0 ? 0 : irr);
	u64 exits[4];
	int i, isr;

	if (vmx->svi_stale) {
		isr = keel_lapic_in_service(&vmx->vcpu);
		want = (isr < 0 ? 0 : isr << 8) | (want & 0xff);
	}
	if (now != want)
		vmx_write(VMCS_GUEST_INTR_STATUS, want);
	if (irr < 0 && !vmx->svi_stale)
		return;
	vmx->svi_stale = false;
	keel_lapic_eoi_vectors(&vmx->vcpu, exits);
	for (i = 0; i < 4; i++) {
		if (vmx->eoi_exits[i] == exits[i])
			continue;
		vmx->eoi_exits[i] = exits[i];
		vmx_write(VMCS_EOI_EXIT_BITMAP + 2 * i, exits[i]);
	}
}

/**
 * vmx_vcpu_update_tpr() - before an entry: priority and requests
 * @vcpu: the vCPU, inside its window
 * @tpr: the task priority (CR8)
 * @exiting: writes that lower it must exit
 * @irr: the highest vector that the local APIC requests, -1: none
 *
 * With a TPR shadow the guest's CR8 is a byte of the virtual-APIC page (30.1.1); the threshold makes a
 * lower value exit. A client that has the APIC itself learns of every write.
 */
void vmx_vcpu_update_tpr(struct keel_vcpu *vcpu, u8 tpr, bool exiting, int irr)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u8 threshold = exiting && !vcpu->virt_intr ? tpr : 0;

	if (!vmx->tpr_shadow)
		return;
	if (vcpu->virt_intr)
		sync_status(vmx, irr);
	if (threshold == vmx->tpr_threshold)
		return;
	vmx->tpr_threshold = threshold;
	vmx_write(VMCS_TPR_THRESHOLD, threshold);
}

/* With a TPR shadow the page is the truth, and the core's own. */
u8 vmx_vcpu_get_tpr(struct keel_vcpu *vcpu)
{
	return keel_get_cr8(vcpu);
}
