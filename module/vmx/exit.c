// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exits of VMX: decode and hand to the core (SDM 3D, appendix C lists the reasons).
 *
 * Each case of the switch ends in a core handler that says whether the instruction is retried or
 * stepped over. A reason that our controls exclude kills the VM with that reason. Cold exits are handled after
 * the window has closed: everything needed is in struct vmx_exit.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <asm/apicdef.h>

#include "vmx.h"

/* INT1 traps like any #DB, but its exit comes before it has executed. */
static int exit_db(struct vmx_vcpu *vmx)
{
	const struct vmx_exit *e = &vmx->exit;
	struct keel_vcpu *vcpu = &vmx->vcpu;

	if (VMX_INTR_TYPE(e->intr_info) == VMX_INTR_TYPE_PRIV_SOFT)
		keel_st_mod(vcpu, KEEL_ST_RIP)->rip += e->insn_len;
	return keel_exit_debug(vcpu, e->qualification & (DR_TRAP_BITS | DR_STEP | DR_STEP << 1 | BIT(13)),
			       X86_TRAP_DB);
}

static int exit_exception(struct vmx_vcpu *vmx)
{
	u32 info = vmx->exit.intr_info;

	if (VMX_INTR_TYPE(info) == KEEL_EV_NMI)
		return KEEL_RESUME;	/* the host's: vmx_window_close() has handed it over */
	if ((info & VMX_INTR_VECTOR) == X86_TRAP_DB)
		return exit_db(vmx);
	if ((info & VMX_INTR_VECTOR) == X86_TRAP_PF)
		return keel_exit_page_fault(&vmx->vcpu, vmx->exit.qualification, vmx->exit.intr_error);
	if ((info & VMX_INTR_VECTOR) == X86_TRAP_BP)
		vmx->bp_len = vmx->exit.insn_len;
	return keel_exit_exception(&vmx->vcpu, info & VMX_INTR_VECTOR, vmx->exit.intr_error);
}

/**
 * vmx_exit_io() - IN or OUT (SDM 3C, 28.2.1)
 * @vmx: the vCPU, locked
 *
 * Return: as keel_exit_io()
 */
int vmx_exit_io(struct vmx_vcpu *vmx)
{
	u64 q = vmx->exit.qualification;

	return keel_exit_io(&vmx->vcpu, VMX_IO_PORT(q), VMX_IO_SIZE(q), q & VMX_IO_IN, q & VMX_IO_STRING);
}

/* With shadow paging alone; its faults come before the exit (SDM 3C, 26.1.1). */
static int exit_invlpg(struct vmx_vcpu *vmx)
{
	keel_shadow_invlpg(&vmx->vcpu, vmx->exit.qualification);
	return keel_exit_skip(&vmx->vcpu);
}

/* An EOI's value means nothing: it needs no decoding (qualification: 11:0 offset, 15:12 kind of access). */
static int exit_apic_access(struct vmx_vcpu *vmx)
{
	if ((vmx->exit.qualification & 0xffff) == (1 << 12 | APIC_EOI) && vmx->exit.insn_len)
		return keel_exit_apic_eoi(&vmx->vcpu);
	vmx->vcpu.exit.insn_len = 0;
	return keel_exit_emulate(&vmx->vcpu);
}

/**
 * vmx_exit_ept_violation() - a page that the nested tree does not map, or not so (SDM 3C, 28.2.1)
 * @vmx: the vCPU, locked
 *
 * Return: as keel_exit_memory()
 */
int vmx_exit_ept_violation(struct vmx_vcpu *vmx)
{
	return keel_exit_memory(&vmx->vcpu, vmx->exit.gpa, vmx_ept_access(vmx->exit.qualification));
}

/* SDM 3C, 28.2.1: selector in bits 15:0, source in 31:30 in the order of enum keel_task_reason. */
static int exit_task_switch(struct vmx_vcpu *vmx)
{
	const struct vmx_exit *e = &vmx->exit;
	struct keel_task_switch ts = {
		.selector = e->qualification,
		.reason = e->qualification >> 30 & 3,
	};

	if (ts.reason != KEEL_TASK_GATE) {
		ts.insn_len = e->insn_len;
	} else if (e->idt_info & VMX_INTR_VALID) {
		ts.event_type = VMX_INTR_TYPE(e->idt_info);
		ts.vector = e->idt_info & VMX_INTR_VECTOR;
		ts.has_error = e->idt_info & VMX_INTR_ERROR;
		ts.error = ts.has_error ? e->idt_error : 0;
		if (ts.event_type >= KEEL_EV_SOFT_INTR)
			ts.insn_len = e->insn_len;
	}
	return keel_exit_task_switch(&vmx->vcpu, &ts);
}

/* KEEL_REASON_OTHER: the rest. An NMI is told from an exception where the exit is read. */
static const u8 reasons[] = {
	[VMX_EXIT_EXCEPTION_NMI] = KEEL_REASON_EXCEPTION,
	[VMX_EXIT_EXT_INTR] = KEEL_REASON_INTERRUPT,
	[VMX_EXIT_TRIPLE_FAULT] = KEEL_REASON_SHUTDOWN,
	[VMX_EXIT_INTR_WINDOW] = KEEL_REASON_INTERRUPT_WINDOW,
	[VMX_EXIT_NMI_WINDOW] = KEEL_REASON_NMI_WINDOW,
	[VMX_EXIT_TASK_SWITCH] = KEEL_REASON_TASK_SWITCH,
	[VMX_EXIT_CPUID] = KEEL_REASON_CPUID,
	[VMX_EXIT_GETSEC] = KEEL_REASON_UNDEFINED,
	[VMX_EXIT_HLT] = KEEL_REASON_HLT,
	[VMX_EXIT_INVD] = KEEL_REASON_CACHE,
	[VMX_EXIT_INVLPG] = KEEL_REASON_INVLPG,
	[VMX_EXIT_RDPMC] = KEEL_REASON_RDPMC,
	[VMX_EXIT_RSM] = KEEL_REASON_UNDEFINED,
	[VMX_EXIT_VMCALL] = KEEL_REASON_HYPERCALL,
	[VMX_EXIT_VMCLEAR ... VMX_EXIT_VMXON] = KEEL_REASON_UNDEFINED,
	[VMX_EXIT_CR] = KEEL_REASON_CR,
	[VMX_EXIT_DR] = KEEL_REASON_DR,
	[VMX_EXIT_IO] = KEEL_REASON_IO,
	[VMX_EXIT_RDMSR] = KEEL_REASON_RDMSR,
	[VMX_EXIT_WRMSR] = KEEL_REASON_WRMSR,
	[VMX_EXIT_BAD_STATE ... VMX_EXIT_BAD_MSR] = KEEL_REASON_FAIL_ENTRY,
	[VMX_EXIT_MWAIT] = KEEL_REASON_MWAIT,
	[VMX_EXIT_MONITOR] = KEEL_REASON_MWAIT,
	[VMX_EXIT_PAUSE] = KEEL_REASON_PAUSE,
	[VMX_EXIT_ENTRY_MCE] = KEEL_REASON_FAIL_ENTRY,
	[VMX_EXIT_TPR_BELOW] = KEEL_REASON_TPR,
	[VMX_EXIT_APIC_ACCESS] = KEEL_REASON_APIC_ACCESS,
	[VMX_EXIT_EOI] = KEEL_REASON_APIC_EOI,
	[VMX_EXIT_EPT_VIOLATION] = KEEL_REASON_NESTED_FAULT,
	[VMX_EXIT_INVEPT] = KEEL_REASON_UNDEFINED,
	[VMX_EXIT_TIMER] = KEEL_REASON_TIMER,
	[VMX_EXIT_INVVPID] = KEEL_REASON_UNDEFINED,
	[VMX_EXIT_WBINVD] = KEEL_REASON_CACHE,
	[VMX_EXIT_XSETBV] = KEEL_REASON_XSETBV,
	[VMX_EXIT_APIC_WRITE] = KEEL_REASON_APIC_WRITE,
	[VMX_EXIT_VMFUNC ... VMX_EXIT_ENCLS] = KEEL_REASON_UNDEFINED,
	[VMX_EXIT_ENCLV] = KEEL_REASON_UNDEFINED,
	[VMX_EXIT_SEAMCALL ... VMX_EXIT_TDCALL] = KEEL_REASON_UNDEFINED,
	[VMX_EXIT_RDMSR_IMM ... VMX_EXIT_WRMSRNS_IMM] = KEEL_REASON_UNDEFINED,
};

/**
 * vmx_exit_reason() - the name of an exit that both vendors share
 * @reason: as the VMCS has it
 *
 * Return: KEEL_REASON_*
 */
u8 vmx_exit_reason(u32 reason)
{
	return (u16)reason < ARRAY_SIZE(reasons) ? reasons[(u16)reason] : KEEL_REASON_OTHER;
}

/**
 * vmx_vcpu_handle_exit() - dispatch the exit of the last entry
 * @vcpu: the vCPU, locked
 *
 * Return: KEEL_RESUME, KEEL_TO_USER or -errno
 */
int vmx_vcpu_handle_exit(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u32 reason = vmx->exit.reason;

	if (unlikely(vmx->failed))
		return keel_exit_fail_entry(vcpu, vmx->error);
	if (unlikely(reason & VMX_REASON_ENTRY_FAILED) && (u16)reason != VMX_EXIT_ENTRY_MCE)
		return keel_exit_fail_entry(vcpu, reason);

	switch ((u16)reason) {
	case VMX_EXIT_CPUID:
		return keel_exit_cpuid(vcpu);
	case VMX_EXIT_RDMSR:
		return keel_exit_rdmsr(vcpu);
	case VMX_EXIT_WRMSR:
		return keel_exit_wrmsr(vcpu);
	case VMX_EXIT_HLT:
		return keel_exit_hlt(vcpu);
	case VMX_EXIT_IO:
		return vmx_exit_io(vmx);
	case VMX_EXIT_EPT_VIOLATION:
		return vmx_exit_ept_violation(vmx);
	case VMX_EXIT_VMCALL:
		return keel_exit_hypercall(vcpu);
	case VMX_EXIT_EXT_INTR:		/* the host's: taken when interrupts came on */
	case VMX_EXIT_INTR_WINDOW:	/* the core looks at its events before each entry */
	case VMX_EXIT_NMI_WINDOW:
	case VMX_EXIT_TPR_BELOW:	/* the task priority has been read already */
	case VMX_EXIT_ENTRY_MCE:
		return KEEL_RESUME;
	case VMX_EXIT_TIMER:
		keel_lapic_timer_fired(vcpu);
		return KEEL_RESUME;
	case VMX_EXIT_EXCEPTION_NMI:
		return exit_exception(vmx);
	case VMX_EXIT_APIC_WRITE:
		keel_lapic_written(vcpu, vmx->exit.qualification & 0xff0);
		return KEEL_RESUME;
	case VMX_EXIT_EOI:
		keel_lapic_eoi_done(vcpu, vmx->exit.qualification);
		return KEEL_RESUME;
	case VMX_EXIT_APIC_ACCESS:
		return exit_apic_access(vmx);
	case VMX_EXIT_CR:
	case VMX_EXIT_DR:
		return keel_exit_emulate(vcpu);
	case VMX_EXIT_INVLPG:
		return exit_invlpg(vmx);
	case VMX_EXIT_XSETBV:
		return keel_exit_xsetbv(vcpu);
	case VMX_EXIT_RDPMC:
		return keel_exit_rdpmc(vcpu);
	case VMX_EXIT_INVD:
	case VMX_EXIT_WBINVD:
		return keel_exit_skip(vcpu);
	case VMX_EXIT_MONITOR:
	case VMX_EXIT_MWAIT:
		return keel_exit_mwait(vcpu);
	case VMX_EXIT_PAUSE:
		return keel_exit_pause(vcpu);
	case VMX_EXIT_RSM:
		return keel_exit_ud(vcpu);
	case VMX_EXIT_GETSEC:
	case VMX_EXIT_VMCLEAR ... VMX_EXIT_VMXON:
	case VMX_EXIT_INVEPT:
	case VMX_EXIT_INVVPID:
	case VMX_EXIT_VMFUNC:
	case VMX_EXIT_ENCLS:
	case VMX_EXIT_ENCLV:
	case VMX_EXIT_SEAMCALL:
	case VMX_EXIT_TDCALL:
	case VMX_EXIT_RDMSR_IMM:
	case VMX_EXIT_WRMSRNS_IMM:
		return keel_exit_undefined(vcpu);
	case VMX_EXIT_TASK_SWITCH:
		return exit_task_switch(vmx);
	case VMX_EXIT_TRIPLE_FAULT:
		return keel_exit_shutdown(vcpu);
	default:
		return keel_exit_kill(vcpu, "unexpected exit reason", reason);
	}
}

/**
 * vmx_host_event() - what the host must see before the window closes
 * @vmx: the vCPU, interrupts off
 *
 * Interrupts reach the host by themselves, NMIs when VMX operation has ended; a machine check in the guest or
 * at an entry has to be handed over.
 */
void vmx_host_event(struct vmx_vcpu *vmx)
{
	const struct vmx_exit *e = &vmx->exit;
	u16 reason = e->reason;

	if (unlikely(reason == VMX_EXIT_ENTRY_MCE ||
		     (reason == VMX_EXIT_EXCEPTION_NMI && VMX_INTR_TYPE(e->intr_info) == KEEL_EV_EXCEPTION &&
		      (e->intr_info & VMX_INTR_VECTOR) == X86_TRAP_MC)))
		keel_host_machine_check();
}

/* The VMCS itself is out of reach here; the core has what the window read from it. */
void vmx_vcpu_dump(struct keel_vcpu *vcpu)
{
	const struct vmx_vcpu *vmx = to_vmx(vcpu);
	const struct vmx_exit *e = &vmx->exit;
	const struct keel_state *st = &vcpu->st;
	const struct keel_seg *cs = &st->seg[KEEL_CS], *ss = &st->seg[KEEL_SS], *tr = &st->seg[KEEL_TR];

	pr_info("vcpu %u: exit %#x error %u qualification %#llx intr %#x idt %#x state %#x\n", vcpu->id,
		e->reason, vmx->failed ? vmx->error : 0, e->qualification, e->intr_info, e->idt_info,
		vmx->intr_state);
	pr_info("vcpu %u: pin %#x cpu %#x cpu2 %#x exit %#x entry %#x vpid %u\n", vcpu->id,
		vmx->ctl[VMX_PIN], vmx->ctl[VMX_CPU], vmx->ctl[VMX_CPU2], vmx->ctl[VMX_EXIT],
		vmx->ctl[VMX_ENTRY], vmx->vpid);
	pr_info("vcpu %u: rip %#llx rflags %#llx cr0 %#llx cr3 %#llx cr4 %#llx efer %#llx cpl %u\n",
		vcpu->id, st->rip, st->rflags, st->cr0, st->cr3, st->cr4, st->efer, st->cpl);
	pr_info("vcpu %u: cs %#x base %#llx limit %#x ar %#x ss %#x ar %#x tr %#x ar %#x\n",
		vcpu->id, cs->selector, cs->base, cs->limit, cs->ar, ss->selector, ss->ar, tr->selector, tr->ar);
}
