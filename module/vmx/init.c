// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMX on each CPU: what it needs there, what stays the same there, and the table that the core calls.
 *
 * VMX operation itself begins and ends with each window (window.c), so nothing has to be switched on or
 * off for CPU hotplug, suspend or reboot; a fault inside a window is what hw_emergency is for
 * (crash.c). hw_* run on the CPU in question with interrupts off.
 * SDM 3C, 24.7 and 24.8 (enabling), 25.2 (VMXON region).
 */
#include <linux/gfp.h>
#include <linux/percpu.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>
#include <asm/special_insns.h>

#include "vmx.h"

DEFINE_PER_CPU(struct vmx_cpu, vmx_cpu);

static void vmx_hw_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct vmx_cpu *vc = per_cpu_ptr(&vmx_cpu, cpu);

		free_page((unsigned long)vc->vmxon);
		vc->vmxon = NULL;
	}
	vmx_vmcs_module_exit();
	keel_spec_cleanup();
}

static int vmx_hw_probe(void)
{
	int cpu, err = vmx_caps_probe();

	if (err)
		return err;
	err = vmx_vmcs_module_init();
	if (err)
		return err;
	for_each_possible_cpu(cpu) {
		struct vmx_cpu *vc = per_cpu_ptr(&vmx_cpu, cpu);

		vc->vmxon = (void *)get_zeroed_page(GFP_KERNEL);
		if (!vc->vmxon) {
			vmx_hw_exit();
			return -ENOMEM;
		}
		*(u32 *)vc->vmxon = vmx_caps.revision;
		vc->vmxon_pa = __pa(vc->vmxon);
	}
	err = keel_spec_setup(true);
	if (err)
		vmx_hw_exit();
	return err;
}

static void vmx_hw_info(struct keel_info *info)
{
	info->backend = KEEL_BACKEND_VMX;
	info->nr_tags = vmx_caps.vpid ? KEEL_NR_VPIDS : 1;
	info->features = (keel_shadowing ? 0 : KEEL_INFO_NESTED_PAGING) | KEEL_INFO_NEXT_RIP | KEEL_INFO_FLUSH_BY_TAG;
}

/* Someone else in VMX operation; or Intel PT traces on a CPU whose VMXON faults then (25.5.4). */
static bool cpu_is_taken(void)
{
	u64 trace;

	if (__read_cr4() & X86_CR4_VMXE)
		return true;
	return !vmx_caps.pt_in_vmx && boot_cpu_has(X86_FEATURE_INTEL_PT) &&
	       !keel_rdmsr_safe(MSR_IA32_RTIT_CTL, &trace) && (trace & RTIT_CTL_TRACEEN);
}

/* What never changes on a CPU is read once. */
static int vmx_hw_enable(void)
{
	struct vmx_cpu *vc = this_cpu_ptr(&vmx_cpu);

	if (vc->enabled)
		return 0;
	if (cpu_is_taken())
		return -EBUSY;
	vmx_cpu_read_msrs();
	vc->sysenter_cs = keel_rdmsr(MSR_IA32_SYSENTER_CS);
	vc->sysenter_esp = keel_rdmsr(MSR_IA32_SYSENTER_ESP);
	vc->sysenter_eip = keel_rdmsr(MSR_IA32_SYSENTER_EIP);
	vc->efer = keel_rdmsr(MSR_EFER);
	vc->pat = keel_rdmsr(MSR_IA32_CR_PAT);
	vc->enabled = true;
	return 0;
}

static void vmx_hw_disable(void)
{
	this_cpu_write(vmx_cpu.enabled, false);
}

const struct keel_ops vmx_ops = {
	.name = "vmx",
	.vcpu_size = sizeof(struct vmx_vcpu),
	.pte_format = &vmx_pte_format,
	.hypercall = { 0x0f, 0x01, 0xc1 },	/* VMCALL */
	.keeps_pdptes = true,
	.feature_mask = vmx_feature_mask,
	.hw_probe = vmx_hw_probe,
	.hw_exit = vmx_hw_exit,
	.hw_info = vmx_hw_info,
	.hw_enable = vmx_hw_enable,
	.hw_disable = vmx_hw_disable,
	.hw_emergency = vmx_hw_emergency,
	.vcpu_create = vmx_vcpu_create,
	.vcpu_destroy = vmx_vcpu_destroy,
	.vcpu_reset = vmx_vcpu_reset,
	.get_state = vmx_get_state,
	.set_state = vmx_set_state,
	.window_open = vmx_window_open,
	.window_close = vmx_window_close,
	.vcpu_enter = vmx_vcpu_enter,
	.vcpu_handle_exit = vmx_vcpu_handle_exit,
	.vcpu_inject = vmx_vcpu_inject,
	.vcpu_cancel = vmx_vcpu_cancel,
	.vcpu_want_window = vmx_vcpu_want_window,
	.nmi_blocked = vmx_nmi_blocked,
	.vcpu_set_nmi_masked = vmx_vcpu_set_nmi_masked,
	.vcpu_update = vmx_vcpu_update,
	.vcpu_update_tpr = vmx_vcpu_update_tpr,
	.vcpu_get_tpr = vmx_vcpu_get_tpr,
	.vcpu_dump = vmx_vcpu_dump,
};
