// SPDX-License-Identifier: GPL-2.0-only
/*
 * The VMCS of a vCPU and its maps: allocation, reset values, controls.
 *
 * The I/O bitmaps are all ones and shared by every VM: the core sees each port access. The MSR bitmap of a
 * vCPU opens what the VMCS or the window switches anyway. SDM 3C, 25.2, 25.6 and 25.11.3.
 */
#include <linux/gfp.h>
#include <linux/idr.h>
#include <linux/string.h>
#include <asm/msr-index.h>
#include <asm/segment.h>

#include "vmx.h"

static void *vmx_io_bitmap;	/* one page stands for both halves */
static DEFINE_IDA(vmx_vpids);

static const u32 direct_msrs[] = {
	MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
	MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
};

/*
 * #DB and #AC can be raised again by their own delivery, without end and without an interrupt window: the
 * host must see them. #UD for foreign hypercall instructions. #MC is the host's.
 */
#define ALWAYS_INTERCEPTED \
	(BIT(X86_TRAP_DB) | BIT(X86_TRAP_AC) | BIT(X86_TRAP_UD) | BIT(X86_TRAP_MC))

/**
 * vmx_msr_direct() - shall the guest reach an MSR without an exit?
 * @vmx: the vCPU, locked
 * @msr: its number, in one of the two ranges of 8,192 that the bitmaps cover
 * @write: writes to it, else reads
 * @direct: they do not exit, unless the client filters them
 *
 * A bit an MSR; reads of the low and the high range, then writes of them (25.6.9).
 */
void vmx_msr_direct(struct vmx_vcpu *vmx, u32 msr, bool write, bool direct)
{
	u32 bit = msr & 0x1fff, base = (msr >= 0xc0000000 ? 0x400 : 0) + (write ? 0x800 : 0);
	u8 *byte = vmx->msr_bitmap + base + bit / 8;

	if (direct && keel_msr_allowed(vmx->vcpu.vm, msr, write))
		*byte &= ~BIT(bit % 8);
	else
		*byte |= BIT(bit % 8);
}

static void msr_open(struct vmx_vcpu *vmx, u32 msr)
{
	vmx_msr_direct(vmx, msr, false, true);
	vmx_msr_direct(vmx, msr, true, true);
}

int vmx_vmcs_module_init(void)
{
	vmx_io_bitmap = (void *)__get_free_page(GFP_KERNEL);
	if (!vmx_io_bitmap)
		return -ENOMEM;
	memset(vmx_io_bitmap, 0xff, PAGE_SIZE);
	return 0;
}

void vmx_vmcs_module_exit(void)
{
	free_page((unsigned long)vmx_io_bitmap);
	vmx_io_bitmap = NULL;
}

/*
 * Tags are taken from the top, where a hypervisor that shares the CPU and counts from 1 does not get to
 * soon. When there is none left the vCPU runs with tag 0, whose translations end with each entry and exit.
 */
static u16 vpid_get(void)
{
	int n = vmx_caps.vpid ? ida_alloc_max(&vmx_vpids, KEEL_NR_VPIDS - 2, GFP_KERNEL) : -ENOSPC;

	return n < 0 ? 0 : KEEL_NR_VPIDS - 1 - n;
}

static void vpid_put(u16 vpid)
{
	if (vpid)
		ida_free(&vmx_vpids, KEEL_NR_VPIDS - 1 - vpid);
}

static void vpids_put(struct vmx_vcpu *vmx)
{
	int i;

	for (i = 0; i < KEEL_MMU_ROOTS; i++) {
		vpid_put(vmx->root_vpid[i]);
		vmx->root_vpid[i] = 0;
	}
	vmx->vpid = 0;
}

int vmx_vcpu_create(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	int i;

	vmx->vmcs = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	vmx->msr_bitmap = (void *)__get_free_page(GFP_KERNEL_ACCOUNT);
	if (!vmx->vmcs || !vmx->msr_bitmap) {
		vmx_vcpu_destroy(vcpu);
		return -ENOMEM;
	}
	*(u32 *)vmx->vmcs = vmx_caps.revision;
	vmx->vmcs_pa = __pa(vmx->vmcs);
	memset(vmx->msr_bitmap, 0xff, PAGE_SIZE);
	if (vmx_caps.apic_access && vcpu->vm->irqchip.mode != KEEL_IRQCHIP_NONE && keel_lapic_virt_create(vcpu)) {
		vmx_vcpu_destroy(vcpu);
		return -ENOMEM;
	}
	vmx->vpid = vpid_get();
	vmx->root_vpid[0] = vmx->vpid;
	for (i = 1; keel_shadowing && vmx->vpid && i < KEEL_MMU_ROOTS; i++) {
		vmx->root_vpid[i] = vpid_get();
		if (!vmx->root_vpid[i])
			vpids_put(vmx);		/* all or none */
	}
	vmx->cpu = -1;
	vmx->bp_len = 1;
	return 0;
}

void vmx_vcpu_destroy(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	vpids_put(vmx);
	free_page((unsigned long)vmx->vmcs);
	free_page((unsigned long)vmx->msr_bitmap);
	vmx->vmcs = NULL;
	vmx->msr_bitmap = NULL;
}

/**
 * vmx_ctl() - switch controls on or off; the VMCS learns of it before the next entry
 * @vmx: the vCPU, locked
 * @word: which controls
 * @bits: their bits
 * @on: on or off
 */
void vmx_ctl(struct vmx_vcpu *vmx, enum vmx_ctl word, u32 bits, bool on)
{
	u32 val = on ? vmx->ctl[word] | bits : vmx->ctl[word] & ~bits;

	if (val == vmx->ctl[word])
		return;
	vmx->ctl[word] = val;
	vmx->stale |= VMX_STALE_CTL;
}

/* The controls. The architectural state is the core's and follows by vmx_set_state(). */
void vmx_vcpu_reset(struct keel_vcpu *vcpu, bool init)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	memcpy(vmx->ctl, vmx_caps.base, sizeof(vmx->ctl));
	if (!vmx->vpid)
		vmx->ctl[VMX_CPU2] &= ~VMX_CPU2_VPID;
	vmx->tpr_shadow = vmx_caps.tpr_shadow && vcpu->apic;
	vmx->ctl[VMX_CPU] |= vmx->tpr_shadow ? VMX_CPU_TPR_SHADOW : VMX_CPU_CR8_LOAD | VMX_CPU_CR8_STORE;
	vcpu->virt_timer = vmx_caps.timer && vcpu->apic;
	vmx->timer_on = false;
	vmx->intr_state = 0;
	vmx->intr_state_valid = true;
	vmx->injecting = false;
	vmx->flush = ~0UL;
	vmx->stale = VMX_STALE_ALL;
	vmx_apic_update(vmx);
	vmx_update_intercepts(vcpu);
}

/**
 * vmx_update_intercepts() - make the intercepts fit the client's debugging and MSR filter and the guest's CPUID
 * @vcpu: the vCPU, locked
 */
void vmx_update_intercepts(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	const u64 owned = X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE |
			  X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_FSGSBASE |
			  X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PCIDE | X86_CR4_UMIP;
	const u64 paging = X86_CR4_PSE | X86_CR4_PAE | X86_CR4_SMEP | X86_CR4_SMAP;
	bool ctrl;
	int i;

	vmx->exception_bitmap = ALWAYS_INTERCEPTED | (keel_bp_exits(vcpu) ? BIT(X86_TRAP_BP) : 0) |
				(keel_shadowing ? BIT(X86_TRAP_PF) : 0);
	vmx_ctl(vmx, VMX_CPU, VMX_CPU_HLT, !(vcpu->vm->disabled_exits & KVM_X86_DISABLE_EXITS_HLT));
	vmx_ctl(vmx, VMX_CPU, VMX_CPU_MWAIT | VMX_CPU_MONITOR,
		!(vcpu->vm->disabled_exits & KVM_X86_DISABLE_EXITS_MWAIT));
	vmx_ctl(vmx, VMX_CPU2, VMX_CPU2_PLE, vmx_caps.ple && keel_ple_enabled(vcpu->vm));
	vmx_ctl(vmx, VMX_CPU2, VMX_CPU2_RDTSCP,
		vmx_caps.rdtscp && keel_guest_has(vcpu, KEEL_F_RDTSCP | KEEL_F_RDPID));
	vmx_ctl(vmx, VMX_CPU2, VMX_CPU2_INVPCID, vmx_caps.invpcid && keel_guest_has(vcpu, KEEL_F_PCID));
	for (i = 0; i < ARRAY_SIZE(direct_msrs); i++)
		msr_open(vmx, direct_msrs[i]);
	ctrl = vcpu->spec.ctrl_direct && keel_guest_has(vcpu, KEEL_F_SPEC_CTRL);
	vmx_msr_direct(vmx, MSR_IA32_SPEC_CTRL, false, ctrl);
	vmx_msr_direct(vmx, MSR_IA32_SPEC_CTRL, true, ctrl);
	vmx_msr_direct(vmx, MSR_IA32_PRED_CMD, true,
		       vcpu->spec.pred_direct && keel_guest_has(vcpu, KEEL_F_IBPB));
	/* A guest may not set a bit that its CPUID does not have, so it does not own that. */
	vmx->cr4_guest_owned = owned & vcpu->cpuid.cr4_valid & ~(keel_shadowing ? paging : 0);
	keel_st_mod(vcpu, KEEL_ST_CR);
	vmx->stale |= VMX_STALE_CTL;
}

/**
 * vmx_write_static() - what never changes; the rest is written over it
 * @vmx: the vCPU, its window just opened
 */
void vmx_write_static(struct vmx_vcpu *vmx)
{
	u64 io = __pa(vmx_io_bitmap);
	int i;

	vmx_write(VMCS_IO_BITMAP_A, io);
	vmx_write(VMCS_IO_BITMAP_B, io);
	vmx_write(VMCS_MSR_BITMAP, __pa(vmx->msr_bitmap));
	if (vmx_caps.vpid)
		vmx_write(VMCS_VPID, vmx->vpid);
	if (vmx->tpr_shadow) {
		vmx_write(VMCS_VAPIC_ADDR, keel_lapic_regs_pa(&vmx->vcpu));
		vmx_write(VMCS_TPR_THRESHOLD, 0);
		vmx->tpr_threshold = 0;
		if (vmx_caps.apic_access)
			vmx_write(VMCS_APIC_ACCESS_ADDR, __pa(vmx->vcpu.vm->apic_page));
	}
	if (vmx->tpr_shadow && vmx_caps.vintr) {
		vmx_write(VMCS_GUEST_INTR_STATUS, 0);
		for (i = 0; i < 4; i++)
			vmx_write(VMCS_EOI_EXIT_BITMAP + 2 * i, 0);
		memset(vmx->eoi_exits, 0, sizeof(vmx->eoi_exits));
		vmx->svi_stale = true;
	}
	if (vmx_caps.ple)
		vmx_write(VMCS_PLE_GAP, keel_ple_gap);
	vmx_write(VMCS_LINK, ~0ULL);
	vmx_write(VMCS_GUEST_DEBUGCTL, 0);
	vmx_write(VMCS_GUEST_ACTIVITY, 0);
	vmx_write(VMCS_GUEST_PENDING_DBG, 0);
	vmx_write(VMCS_PF_ERROR_MASK, 0);
	vmx_write(VMCS_PF_ERROR_MATCH, 0);
	vmx_write(VMCS_CR3_TARGET_COUNT, 0);
	vmx_write(VMCS_EXIT_MSR_STORE_COUNT, 0);
	vmx_write(VMCS_EXIT_MSR_LOAD_COUNT, 0);
	vmx_write(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
	vmx_write(VMCS_ENTRY_INTR_INFO, 0);
	vmx_write(VMCS_HOST_ES_SEL, 0);
	vmx_write(VMCS_HOST_CS_SEL, __KERNEL_CS);
	vmx_write(VMCS_HOST_SS_SEL, __KERNEL_DS);
	vmx_write(VMCS_HOST_DS_SEL, 0);
	vmx_write(VMCS_HOST_FS_SEL, 0);
	vmx_write(VMCS_HOST_GS_SEL, 0);
	vmx_write(VMCS_HOST_TR_SEL, GDT_ENTRY_TSS * 8);
	vmx_write(VMCS_HOST_RIP, (unsigned long)vmx_exit_point);
	vmx->injecting = false;
	vmx->hw_rip = vmx->hw_rsp = vmx->hw_rflags = 0;
	vmx_write(VMCS_GUEST_RIP, 0);
	vmx_write(VMCS_GUEST_RSP, 0);
	vmx_write(VMCS_GUEST_RFLAGS, 0);
	memset(vmx->written, 0, sizeof(vmx->written));
	vmx->stale &= ~VMX_STALE_STATIC;
}

static void write_controls(struct vmx_vcpu *vmx)
{
	static const u16 fields[VMX_NR_CTL] = {
		VMCS_PIN_CTL, VMCS_CPU_CTL, VMCS_CPU2_CTL, VMCS_EXIT_CTL, VMCS_ENTRY_CTL,
	};
	int i;

	for (i = 0; i < VMX_NR_CTL; i++) {
		if (vmx->written[i] == vmx->ctl[i])
			continue;
		vmx_write(fields[i], vmx->ctl[i]);
		vmx->written[i] = vmx->ctl[i];
	}
	vmx_write(VMCS_EXCEPTION_BITMAP, vmx->exception_bitmap);
	vmx_write(VMCS_TSC_OFFSET, vmx->vcpu.tsc_offset);
}

static u64 eptp(struct vmx_vcpu *vmx)
{
	return vmx->vcpu.mmu.root | 6 | 3 << 3 | (vmx_caps.ept_ad ? BIT_ULL(6) : 0);
}

/**
 * vmx_write_stale() - bring the VMCS up to date with what the core asked for, and flush
 * @vmx: the vCPU, inside its window
 *
 * INVEPT drops all that this VM's translations are made of, tagged with whatever VPID, so it serves
 * changes of the nested tree, of the guest's own tables, and a move from another CPU.
 */
void vmx_write_stale(struct vmx_vcpu *vmx)
{
	u32 stale = vmx->stale;

	vmx->stale = 0;
	if (stale & VMX_STALE_CTL)
		write_controls(vmx);
	if ((stale & VMX_STALE_ROOT) && keel_shadowing)
		vmx_shadow_write_root(vmx);
	else if (stale & VMX_STALE_ROOT)
		vmx_write(VMCS_EPTP, eptp(vmx));
	if (stale & VMX_STALE_INTR_STATE)
		vmx_write(VMCS_GUEST_INTR_STATE, vmx->intr_state);
	if (vmx->flush && keel_shadowing)
		vmx_shadow_flush(vmx, vmx->flush);
	else if (vmx->flush && vmx_invept(eptp(vmx)))
		vmx_insn_failed("INVEPT", 0);
	vmx->flush = 0;
}
