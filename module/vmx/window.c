// SPDX-License-Identifier: GPL-2.0-only
/*
 * The window: VMX operation begins and ends here, with everything of the host that it would spoil.
 *
 * Why VMX operation lasts only as long as interrupts are off: it demands CR4.VMXE, the kernel keeps a
 * shadow of CR4 on each CPU, and newer kernels give a module no way to update that. A write of CR4 through
 * the shadow, by whatever part of the kernel, would clear VMXE in VMX operation, which faults. With
 * interrupts off nobody else runs here but NMIs and machine checks, which do not write CR4. So a window sets
 * VMXE in the register alone, executes VMXON, runs the guest for as long as its exits are handled hot,
 * executes VMXOFF and puts CR4 back. It follows that CPU hotplug, suspend, reboot and kexec find every CPU
 * as it was, without a hook of ours, and that the VMCS, which the CPU caches, is flushed to memory (VMCLEAR)
 * before the vCPU can run elsewhere.
 *
 * If another hypervisor came later and holds VMX operation, it is its owner and its current VMCS that are
 * put back instead. SDM 3C, 24.7 (VMXON), 25.1 (VMCLEAR, VMPTRLD), 28.5 (what an exit loads).
 */
#include <linux/percpu.h>
#include <asm/cpu_entry_area.h>
#include <asm/desc.h>
#include <asm/msr-index.h>
#include <asm/segment.h>
#include <asm/special_insns.h>
#include <asm/tlbflush.h>

#include "vmx.h"

static void write_cr4_raw(u64 val)
{
	asm volatile("mov %0, %%cr4" : : "r" (val) : "memory");
}

static int operation_begin(struct vmx_cpu *vc)
{
	vc->cr4 = __read_cr4();
	if (vc->cr4 & X86_CR4_VMXE) {
		vc->owner_vmcs = vmx_ptrst();
		return 0;
	}
	write_cr4_raw(vc->cr4 | X86_CR4_VMXE);
	vc->ours = !vmx_on(vc->vmxon_pa);
	if (vc->ours)
		return 0;
	write_cr4_raw(vc->cr4);
	return -EBUSY;
}

static void operation_end(struct vmx_cpu *vc)
{
	if (vc->ours) {
		vmx_off();
		write_cr4_raw(vc->cr4);
		vc->ours = false;
	} else if (vc->owner_vmcs != ~0ULL) {
		vmx_ptrld(vc->owner_vmcs);
	}
}

/**
 * vmx_hw_emergency() - this CPU leaves VMX operation, if it is in ours
 *
 * The kernel that follows clears CR4, which faults in VMX operation.
 */
void vmx_hw_emergency(void)
{
	struct vmx_cpu *vc = this_cpu_ptr(&vmx_cpu);
	u64 vmcs;

	if (!vc->ours)
		return;
	vmcs = vmx_ptrst();
	if (vmcs != ~0ULL)
		vmx_clear(vmcs);
	operation_end(vc);
}

/* What an exit does not put back: table limits, LDT, data segments, DEBUGCTL, the inactive GS base. */
static void host_save(struct vmx_cpu *vc)
{
	native_store_gdt(&vc->gdt);
	store_idt(&vc->idt);
	store_ldt(vc->ldt);
	savesegment(ds, vc->ds);
	savesegment(es, vc->es);
	savesegment(fs, vc->fs);
	savesegment(gs, vc->gs);
	vc->fs_base = keel_rdmsr(MSR_FS_BASE);
	vc->kernel_gs_base = keel_rdmsr(MSR_KERNEL_GS_BASE);
	vc->debugctl = keel_rdmsr(MSR_IA32_DEBUGCTLMSR);
}

static void host_restore(struct vmx_cpu *vc)
{
	native_load_gdt(&vc->gdt);
	load_idt(&vc->idt);
	if (vc->ldt)
		asm volatile("lldt %w0" : : "r" (vc->ldt));
	if (vc->ds || vc->es) {
		loadsegment(ds, vc->ds);
		loadsegment(es, vc->es);
	}
	if (vc->fs) {
		loadsegment(fs, vc->fs);
		keel_wrmsr(MSR_FS_BASE, vc->fs_base);
	}
	if (vc->gs)
		load_gs_index(vc->gs);
	keel_wrmsr(MSR_KERNEL_GS_BASE, vc->kernel_gs_base);
	if (vc->debugctl)
		keel_wrmsr(MSR_IA32_DEBUGCTLMSR, vc->debugctl);
	/* An exit leaves TR with the shortest limit: the I/O bitmap comes back when a task needs it. */
	invalidate_tss_limit();
}

/* The host-state area: what changes with the CPU, and what may have changed since the last window. */
static void host_state_write(struct vmx_vcpu *vmx, struct vmx_cpu *vc)
{
	int cpu = smp_processor_id();
	u64 cr0 = read_cr0(), cr3 = __read_cr3(), cr4 = vc->cr4 | X86_CR4_VMXE;
	bool moved = vmx->cpu != cpu || (vmx->stale & VMX_STALE_STATIC);

	if (moved) {
		vmx->cpu = cpu;
		vmx->flush = ~0UL;
		vmx_write(VMCS_HOST_TR_BASE, (unsigned long)&get_cpu_entry_area(cpu)->tss.x86_tss);
		vmx_write(VMCS_HOST_GDTR_BASE, vc->gdt.address);
		vmx_write(VMCS_HOST_IDTR_BASE, vc->idt.address);
		vmx_write(VMCS_HOST_GS_BASE, keel_rdmsr(MSR_GS_BASE));
		vmx_write(VMCS_HOST_SYSENTER_CS, vc->sysenter_cs);
		vmx_write(VMCS_HOST_SYSENTER_ESP, vc->sysenter_esp);
		vmx_write(VMCS_HOST_SYSENTER_EIP, vc->sysenter_eip);
		vmx_write(VMCS_HOST_EFER, vc->efer);
		vmx_write(VMCS_HOST_PAT, vc->pat);
		vmx->host_rsp = 0;
	}
	if (moved || vmx->host_fs_base != vc->fs_base)
		vmx_write(VMCS_HOST_FS_BASE, vmx->host_fs_base = vc->fs_base);
	if (moved || vmx->host_cr0 != cr0)
		vmx_write(VMCS_HOST_CR0, vmx->host_cr0 = cr0);
	if (moved || vmx->host_cr3 != cr3)
		vmx_write(VMCS_HOST_CR3, vmx->host_cr3 = cr3);
	if (moved || vmx->host_cr4 != cr4)
		vmx_write(VMCS_HOST_CR4, vmx->host_cr4 = cr4);
}

static const u32 swapped_msrs[VMX_NR_SWAPPED] = { MSR_STAR, MSR_LSTAR, MSR_SYSCALL_MASK };

/**
 * vmx_cpu_read_msrs() - on this CPU, interrupts off: the host's values of what the window swaps
 */
void vmx_cpu_read_msrs(void)
{
	struct vmx_cpu *vc = this_cpu_ptr(&vmx_cpu);
	int i;

	for (i = 0; i < VMX_NR_SWAPPED; i++)
		vc->host_msr[i] = vc->msr[i] = keel_rdmsr(swapped_msrs[i]);
}

static void swap_msrs(struct vmx_cpu *vc, const u64 val[VMX_NR_SWAPPED])
{
	int i;

	for (i = 0; i < VMX_NR_SWAPPED; i++) {
		if (vc->msr[i] == val[i])
			continue;
		keel_wrmsr(swapped_msrs[i], val[i]);
		vc->msr[i] = val[i];
	}
}

/**
 * vmx_load_msrs() - the guest's values of the MSRs that no control switches
 * @vcpu: the vCPU, inside its window
 */
void vmx_load_msrs(struct keel_vcpu *vcpu)
{
	const u64 val[VMX_NR_SWAPPED] = { vcpu->st.star, vcpu->st.lstar, vcpu->st.sfmask };

	swap_msrs(this_cpu_ptr(&vmx_cpu), val);
	keel_wrmsr(MSR_KERNEL_GS_BASE, vcpu->st.kernel_gs_base);
}

/**
 * vmx_window_open() - begin VMX operation with this vCPU's VMCS
 * @vcpu: the vCPU; interrupts off
 *
 * Return: 0; -EBUSY VMXON was refused (someone changed the CPU's set-up); -EIO the VMCS was; -EOPNOTSUPP the guest's
 * state is none for an entry
 */
int vmx_window_open(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	struct vmx_cpu *vc = this_cpu_ptr(&vmx_cpu);
	int err;

	if (keel_shadowing && !vmx_shadow_runnable(vcpu))
		return -EOPNOTSUPP;
	err = operation_begin(vc);
	if (err)
		return err;
	vc->failed = false;
	if ((!vmx->cleared && vmx_clear(vmx->vmcs_pa)) || vmx_ptrld(vmx->vmcs_pa)) {
		operation_end(vc);
		return -EIO;
	}
	vmx->cleared = true;
	vmx->launched = false;
	vmx->exit.reason = VMX_EXIT_EXT_INTR;	/* until an entry says otherwise: for vmx_host_event() */
	host_save(vc);
	host_state_write(vmx, vc);
	if (unlikely(vmx->stale & VMX_STALE_STATIC))
		vmx_write_static(vmx);
	if (vmx->ctl[VMX_CPU2] & VMX_CPU2_PLE)
		vmx_write(VMCS_PLE_WINDOW, vcpu->sched.ple_window);
	vmx_load_msrs(vcpu);
	if (unlikely(vmx_caps.turn))
		vmx->turn_end = rdtsc() + vmx_caps.turn;
	return 0;
}

/*
 * Exits report a host NMI instead of delivering it, with NMIs blocked until the next IRET; the handler's is
 * that. Outside VMX operation, as the kernel's handlers expect.
 */
static void host_nmi(void)
{
	asm volatile("int $2" : : : "memory");
}

/**
 * vmx_vmcs_reach() - outside the window: the vCPU's VMCS can be read from now on, until vmx_vmcs_leave()
 * @vmx: the vCPU, locked
 * @flags: for vmx_vmcs_leave(); interrupts are off until then
 *
 * No guest is entered, so nothing of the host's is spoilt but what operation_begin() keeps.
 *
 * Return: 0; -EBUSY, -EIO: as vmx_window_open(), and nothing has happened
 */
int vmx_vmcs_reach(struct vmx_vcpu *vmx, unsigned long *flags)
{
	struct vmx_cpu *vc;
	int err;

	local_irq_save(*flags);
	vc = this_cpu_ptr(&vmx_cpu);
	err = operation_begin(vc);
	if (!err && vmx_ptrld(vmx->vmcs_pa)) {
		operation_end(vc);
		err = -EIO;
	}
	if (err)
		local_irq_restore(*flags);
	return err;
}

/**
 * vmx_vmcs_leave() - end what vmx_vmcs_reach() has begun
 * @vmx: the vCPU, locked
 * @flags: from there
 */
void vmx_vmcs_leave(struct vmx_vcpu *vmx, unsigned long flags)
{
	vmx_clear(vmx->vmcs_pa);
	operation_end(this_cpu_ptr(&vmx_cpu));
	local_irq_restore(flags);
}

/* Is the last exit of those whose handlers, outside the window, look at more than a few registers? */
static bool needs_state(const struct vmx_vcpu *vmx)
{
	switch (vmx->exit.reason) {
	case VMX_EXIT_EXCEPTION_NMI:
	case VMX_EXIT_TASK_SWITCH:
	case VMX_EXIT_CR:
	case VMX_EXIT_DR:
	case VMX_EXIT_APIC_ACCESS:
		return true;
	}
	return false;
}

/**
 * vmx_window_close() - end VMX operation; the host is as before
 * @vcpu: the vCPU; interrupts off
 *
 * Of the guest's state what nearly every exit needs has been read; vmx_get_state() comes back for the rest. What is in
 * the CPU and not in the VMCS is read here.
 */
void vmx_window_close(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	struct vmx_cpu *vc = this_cpu_ptr(&vmx_cpu);
	bool nmi = vmx->nmi_taken;

	vmx_host_event(vmx);
	if (needs_state(vmx))
		keel_st(vcpu, KEEL_ST_ALL);
	else if (!(vcpu->st_valid & KEEL_ST_MSR))
		vcpu->st.kernel_gs_base = keel_rdmsr(MSR_KERNEL_GS_BASE);
	vmx_interruptibility(vmx);
	swap_msrs(vc, vc->host_msr);
	vmx_clear(vmx->vmcs_pa);
	operation_end(vc);
	host_restore(vc);
	vmx->nmi_taken = false;
	if (unlikely(nmi))
		host_nmi();
}
