// SPDX-License-Identifier: GPL-2.0-only
/*
 * The entry: what is written before a world switch, what is read after it, and event injection.
 *
 * Everything here runs with interrupts off on the CPU that will enter, but for set_nmi_masked, nmi_blocked
 * and update, which touch only struct vmx_vcpu. A field of the VMCS is written only if it changes. SDM 3C, 27
 * (VM entries), 28 (VM exits), 28.2.4 (interrupted delivery).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/percpu.h>
#include <asm/processor-flags.h>
#include <asm/special_insns.h>

#include "../hot.h"
#include "vmx.h"

/**
 * vmx_insn_failed() - a VMX instruction failed that cannot fail: the next entry reports it
 * @insn: its name
 * @field: the VMCS field
 */
void vmx_insn_failed(const char *insn, unsigned long field)
{
	this_cpu_write(vmx_cpu.failed, true);
	pr_err_ratelimited("%s failed, field %#lx\n", insn, field);
}

/* An exit in the middle of an event's delivery: the core queues it again. */
static void complete_events(struct vmx_vcpu *vmx)
{
	struct keel_vcpu *vcpu = &vmx->vcpu;
	u32 info = vmx->exit.idt_info;

	if (unlikely(vcpu->ev.nmi.masked))
		vcpu->ev.nmi.masked = vmx_interruptibility(vmx) & VMX_STATE_NMI;
	keel_event_taken(vcpu);
	vmx->injecting = false;		/* the CPU has cleared the valid bit */
	if (likely(!(info & VMX_INTR_VALID)))
		return;
	if (VMX_INTR_TYPE(info) == KEEL_EV_NMI)
		vmx_set_interruptibility(vmx, vmx_interruptibility(vmx) & ~VMX_STATE_NMI);
	keel_requeue_event(vcpu, VMX_INTR_TYPE(info), info & VMX_INTR_VECTOR, info & VMX_INTR_ERROR,
			   vmx->exit.idt_error);
}

/* An IRET that faulted had unblocked NMIs before it did (28.2.3): it will be executed again. */
static void reblock_nmi(struct vmx_vcpu *vmx)
{
	const struct vmx_exit *e = &vmx->exit;
	bool unblocked = false;

	if (e->idt_info & VMX_INTR_VALID)
		return;
	if (e->reason == VMX_EXIT_EXCEPTION_NMI)
		unblocked = (e->intr_info & VMX_INTR_NMI_UNBLOCKED) &&
			    (e->intr_info & VMX_INTR_VECTOR) != X86_TRAP_DF;
	else if (e->reason == VMX_EXIT_EPT_VIOLATION)
		unblocked = e->qualification & VMX_EPT_NMI_UNBLOCKED;
	if (!unblocked)
		return;
	vmx_set_interruptibility(vmx, vmx_interruptibility(vmx) | VMX_STATE_NMI);
	vmx->vcpu.ev.nmi.masked = true;
}

/* Reads what a cold exit's handler needs: by then the window is closed. */
static enum keel_exit_class read_cold(struct vmx_vcpu *vmx)
{
	struct vmx_exit *e = &vmx->exit;

	e->qualification = vmx_read(VMCS_EXIT_QUALIFICATION);
	e->gpa = vmx_read(VMCS_GUEST_PA);
	e->intr_info = vmx_read(VMCS_EXIT_INTR_INFO);
	e->intr_error = vmx_read(VMCS_EXIT_INTR_ERROR);
	e->insn_len = vmx_read(VMCS_EXIT_INSN_LEN);
	switch (e->reason) {
	case VMX_EXIT_EXCEPTION_NMI:
		vmx->nmi_taken = (e->intr_info & VMX_INTR_VALID) && VMX_INTR_TYPE(e->intr_info) == KEEL_EV_NMI;
		if (vmx->nmi_taken)
			vmx->vcpu.exit.reason = KEEL_REASON_NMI;
		reblock_nmi(vmx);
		fallthrough;
	case VMX_EXIT_TASK_SWITCH:
		vmx->vcpu.exit.insn_len = 0;	/* the field means nothing, or not always */
		break;
	default:
		vmx->vcpu.exit.insn_len = e->insn_len;
	}
	return KEEL_EXIT_COLD;
}

static enum keel_exit_class read_exit(struct vmx_vcpu *vmx)
{
	struct vmx_exit *e = &vmx->exit;

	vmx->vcpu.exit.reason = vmx_exit_reason(e->reason);
	e->idt_info = 0;
	if (unlikely(e->reason & VMX_REASON_ENTRY_FAILED)) {
		e->qualification = vmx_read(VMCS_EXIT_QUALIFICATION);
		vmx_write(VMCS_ENTRY_INTR_INFO, 0);
		return KEEL_EXIT_COLD;
	}
	e->idt_info = vmx_read(VMCS_IDT_VECTORING_INFO);
	if (unlikely(e->idt_info & VMX_INTR_ERROR))
		e->idt_error = vmx_read(VMCS_IDT_VECTORING_ERROR);
	switch (e->reason) {
	case VMX_EXIT_IO:
		e->qualification = vmx_read(VMCS_EXIT_QUALIFICATION);
		if (e->qualification & VMX_IO_STRING)
			break;
		fallthrough;
	case VMX_EXIT_CPUID:
	case VMX_EXIT_HLT:
	case VMX_EXIT_VMCALL:
	case VMX_EXIT_RDMSR:
	case VMX_EXIT_WRMSR:
		vmx->vcpu.exit.insn_len = vmx_read(VMCS_EXIT_INSN_LEN);
		return KEEL_EXIT_HOT;
	case VMX_EXIT_INTR_WINDOW:
	case VMX_EXIT_NMI_WINDOW:
	case VMX_EXIT_TPR_BELOW:
		return KEEL_EXIT_HOT;
	case VMX_EXIT_TIMER:
		if (unlikely(vmx_caps.turn))
			break;		/* with the window the host's interrupts open */
		return KEEL_EXIT_HOT;
	case VMX_EXIT_EOI:
	case VMX_EXIT_APIC_WRITE:
		e->qualification = vmx_read(VMCS_EXIT_QUALIFICATION);
		return KEEL_EXIT_HOT;
	case VMX_EXIT_EPT_VIOLATION:
		e->qualification = vmx_read(VMCS_EXIT_QUALIFICATION);
		e->gpa = vmx_read(VMCS_GUEST_PA);
		vmx->vcpu.exit.insn_len = 0;	/* the field means nothing, or not always */
		reblock_nmi(vmx);
		return KEEL_EXIT_HOT;
	}
	return read_cold(vmx);
}

/*
 * 27.3.1.5: in an interrupt shadow, a single-step trap must be pending if and only if RFLAGS.TF is set. The
 * CPU keeps that true by itself; a change of ours must as well.
 */
static void fix_pending_debug(struct vmx_vcpu *vmx, u64 rflags)
{
	bool shadow = vmx_interruptibility(vmx) & (VMX_STATE_STI | VMX_STATE_MOV_SS);

	vmx_write(VMCS_GUEST_PENDING_DBG, shadow && (rflags & X86_EFLAGS_TF) ? VMX_PENDING_DBG_BS : 0);
}

static void write_regs(struct vmx_vcpu *vmx, u64 rflags)
{
	const struct keel_state *st = &vmx->vcpu.st;

	if (unlikely((vmx->stale & VMX_STALE_INTR_STATE) || ((rflags ^ vmx->hw_rflags) & X86_EFLAGS_TF)))
		fix_pending_debug(vmx, rflags);
	if (vmx->hw_rip != st->rip)
		vmx_write(VMCS_GUEST_RIP, st->rip);
	if (vmx->hw_rsp != st->gpr[KEEL_RSP])
		vmx_write(VMCS_GUEST_RSP, st->gpr[KEEL_RSP]);
	if (vmx->hw_rflags != rflags)
		vmx_write(VMCS_GUEST_RFLAGS, rflags);
	if (native_read_cr2() != st->cr2)
		native_write_cr2(st->cr2);
}

static void read_regs(struct vmx_vcpu *vmx)
{
	struct keel_state *st = &vmx->vcpu.st;

	st->cr2 = native_read_cr2();
	st->rip = vmx->hw_rip = vmx_read(VMCS_GUEST_RIP);
	st->gpr[KEEL_RSP] = vmx->hw_rsp = vmx_read(VMCS_GUEST_RSP);
	st->rflags = vmx->hw_rflags = vmx_read(VMCS_GUEST_RFLAGS);
}

/* VMfail: nothing was entered, and the guest's state is what it was. */
static enum keel_exit_class entry_failed(struct vmx_vcpu *vmx)
{
	struct vmx_cpu *vc = this_cpu_ptr(&vmx_cpu);

	vmx->failed = true;
	vmx->error = vc->failed ? 0 : vmx_read(VMCS_INSN_ERROR);
	vmx->exit.reason = 0;
	vmx->exit.idt_info = 0;
	vmx->vcpu.exit.fault_known = false;
	vmx->stale = VMX_STALE_ALL;
	vmx_vcpu_cancel(&vmx->vcpu);
	return KEEL_EXIT_COLD;
}

/*
 * The preemption timer counts at the TSC's rate divided by a power of two, while the guest runs (25.5.1). It ends the guest's
 * run at a deadline of the local APIC's, or the guest's turn.
 */
static void write_timer(struct vmx_vcpu *vmx)
{
	const struct keel_vcpu *vcpu = &vmx->vcpu;
	u64 now = rdtsc(), end = U64_MAX, left;

	if (vcpu->cpu_deadline)
		end = vcpu->cpu_deadline - vcpu->tsc_offset;
	if (unlikely(vmx_caps.turn))
		end = min(end, vmx->turn_end);
	if (unlikely(vmx->timer_on != (end != U64_MAX))) {
		vmx->timer_on = end != U64_MAX;
		vmx_ctl(vmx, VMX_PIN, VMX_PIN_TIMER, vmx->timer_on);
	}
	if (!vmx->timer_on)
		return;
	left = (s64)(end - now) > 0 ? end - now : 0;
	vmx_write(VMCS_PREEMPTION_TIMER, min_t(u64, (left >> vmx_caps.timer_shift) + !!left, U32_MAX));
}

/* The entry and what comes of it at once; the guest's RIP, RSP, RFLAGS and CR2 are in place. */
static __always_inline bool world_switch(struct vmx_vcpu *vmx, bool served)
{
	struct keel_vcpu *vcpu = &vmx->vcpu;
	bool err;

	if (served)
		keel_stats_served(&vcpu->stats, vcpu->exit.reason);
	else
		keel_stats_entry(&vcpu->stats, vcpu->exit.reason);
	err = vmx_switch(vcpu->st.gpr, served || vmx->launched, &vmx->host_rsp, &vcpu->spec.sw);
	keel_stats_exit(&vcpu->stats, served);
	if (unlikely(err))
		vcpu->exit.reason = KEEL_REASON_FAIL_ENTRY;
	else
		vmx->exit.reason = served ? vmx_read_again(VMCS_EXIT_REASON) : vmx_read(VMCS_EXIT_REASON);
	return err;
}

/* Without VPIDs an entry drops all but what INVEPT is for: that is not checked then. */
static __always_inline void check_entry(struct vmx_vcpu *vmx, bool flush)
{
	if (static_branch_unlikely(&keel_checked))
		keel_checked_entry(&vmx->vcpu, vmx->vpid, !vmx->vpid ? KEEL_TAG_FLUSH_ALL :
				   flush ? KEEL_TAG_FLUSH : KEEL_TAG_KEEP);
}

static enum keel_exit_class after_exit(struct vmx_vcpu *vmx)
{
	read_regs(vmx);
	vmx->intr_state_valid = false;
	return read_exit(vmx);
}

static __always_inline enum keel_exit_class switch_to_guest(struct vmx_vcpu *vmx, bool step)
{
	struct keel_vcpu *vcpu = &vmx->vcpu;
	enum keel_exit_class class;
	bool flush;

	write_regs(vmx, step ? keel_step_begin(vcpu, true) : vcpu->st.rflags);
	if (unlikely(vcpu->cpu_deadline || vmx->timer_on || vmx_caps.turn))
		write_timer(vmx);
	flush = vmx->flush;
	if (unlikely(vmx->stale || flush))
		vmx_write_stale(vmx);
	if (unlikely(this_cpu_read(vmx_cpu.failed)))
		return entry_failed(vmx);
	check_entry(vmx, flush);
	if (unlikely(world_switch(vmx, false)))
		return entry_failed(vmx);
	vmx->launched = true;
	class = after_exit(vmx);
	if (step)
		keel_step_end(vcpu, true);
	return class;
}

/* What hot() has done about an exit. */
enum hot {
	HOT_NOTHING,		/* it goes the long way */
	HOT_AGAIN,		/* all, and in the VMCS only RIP has changed */
	HOT_LEAVE,		/* all, and now the core wants to look */
};

/* 64-bit mode at CPL 0? Where RIP has more than 32 bits it is 64-bit mode. */
static __always_inline bool in_kernel64(u64 rip)
{
	if (vmx_read_again(VMCS_GUEST_SS_AR) >> KEEL_AR_DPL_SHIFT & 3)
		return false;
	return rip >> 32 || ((vmx_read_again(VMCS_GUEST_CS_AR) & KEEL_AR_L) &&
			     (vmx_read_again(VMCS_GUEST_EFER) & EFER_LMA));
}

/* Nothing of the guest's registers has to be known, nor changes; what else the exit interrupted is for the long way. */
static __always_inline enum hot hot_fault(struct vmx_vcpu *vmx)
{
	struct keel_vcpu *vcpu = &vmx->vcpu;
	u64 q;

	if (unlikely(vmx_read_again(VMCS_IDT_VECTORING_INFO) & VMX_INTR_VALID))
		return HOT_NOTHING;
	vcpu->st_valid = KEEL_ST_DR;
	q = vmx_read_again(VMCS_EXIT_QUALIFICATION);
	if (unlikely(q & VMX_EPT_NMI_UNBLOCKED) ||
	    !keel_hot_fault(vcpu, vmx_read_again(VMCS_GUEST_PA), vmx_ept_access(q)))
		return HOT_NOTHING;
	vcpu->exit.reason = KEEL_REASON_NESTED_FAULT;
	vmx->intr_state_valid = false;
	return keel_cycle_ends(vcpu, KEEL_RESUME) || vmx->stale || vmx->flush ? HOT_LEAVE : HOT_AGAIN;
}

/*
 * An exit that an instruction asked for interrupts no event. What comes with the instruction's end, an interrupt shadow, a
 * single step, RIP past 4 GiB, is for the long way.
 */
static __always_inline enum hot hot(struct vmx_vcpu *vmx)
{
	struct keel_vcpu *vcpu = &vmx->vcpu;
	u32 reason = vmx->exit.reason, len, q;
	u64 rip, next;

	if (static_branch_unlikely(&keel_checked))
		vcpu->st.cr2 = native_read_cr2();
	/* In the order in which a guest at work has them. */
	if (reason == VMX_EXIT_WRMSR)
		vcpu->exit.reason = KEEL_REASON_WRMSR;
	else if (reason > VMX_EXIT_WRMSR)
		return reason == VMX_EXIT_EPT_VIOLATION ? hot_fault(vmx) : HOT_NOTHING;
	else if (reason == VMX_EXIT_IO)
		vcpu->exit.reason = KEEL_REASON_IO;
	else if (reason == VMX_EXIT_RDMSR)
		vcpu->exit.reason = KEEL_REASON_RDMSR;
	else if (reason == VMX_EXIT_VMCALL)
		vcpu->exit.reason = KEEL_REASON_HYPERCALL;
	else if (reason == VMX_EXIT_CPUID)
		vcpu->exit.reason = KEEL_REASON_CPUID;
	else
		return HOT_NOTHING;
	if (unlikely(vmx_read_again(VMCS_GUEST_INTR_STATE) & (VMX_STATE_STI | VMX_STATE_MOV_SS)) ||
	    unlikely(vmx_read_again(VMCS_GUEST_RFLAGS) & (X86_EFLAGS_RF | X86_EFLAGS_TF)))
		return HOT_NOTHING;
	rip = vmx_read_again(VMCS_GUEST_RIP);
	len = vmx_read_again(VMCS_EXIT_INSN_LEN);
	next = rip + len;
	if (unlikely((u32)next < len))
		return HOT_NOTHING;
	vcpu->st_valid = KEEL_ST_DR;
	if (vcpu->exit.reason == KEEL_REASON_CPUID) {
		if (unlikely(!keel_hot_cpuid(vcpu)))
			return HOT_NOTHING;
		vmx_write(VMCS_GUEST_RIP, next);
		return HOT_AGAIN;
	}
	vmx->intr_state_valid = false;
	if (vcpu->exit.reason == KEEL_REASON_WRMSR) {
		if (!keel_hot_wrmsr(vcpu))
			return HOT_NOTHING;
	} else if (vcpu->exit.reason == KEEL_REASON_RDMSR) {
		if (!keel_hot_rdmsr(vcpu))
			return HOT_NOTHING;
	} else if (vcpu->exit.reason == KEEL_REASON_HYPERCALL) {
		if (!in_kernel64(rip) || !keel_hot_hypercall(vcpu))
			return HOT_NOTHING;
	} else {
		q = vmx_read_again(VMCS_EXIT_QUALIFICATION);
		if ((q & VMX_IO_STRING) || !keel_hot_io(vcpu, VMX_IO_PORT(q), VMX_IO_SIZE(q), q & VMX_IO_IN))
			return HOT_NOTHING;
	}
	vmx_write(VMCS_GUEST_RIP, next);
	return keel_cycle_ends(vcpu, KEEL_RESUME) || vmx->stale || vmx->flush ? HOT_LEAVE : HOT_AGAIN;
}

/* Back into the guest behind hot(): nothing but RIP is written. True: nothing was entered. */
static __always_inline bool switch_again(struct vmx_vcpu *vmx)
{
	if (unlikely(vmx->vcpu.cpu_deadline || vmx->timer_on)) {
		write_timer(vmx);
		/* It was switched on or off. */
		if (unlikely(vmx->stale))
			vmx_write_stale(vmx);
	}
	if (static_branch_unlikely(&keel_checked)) {
		WARN_ONCE(native_read_cr2() != vmx->vcpu.st.cr2, "keel: a page fault between two entries");
		check_entry(vmx, false);
	}
	return world_switch(vmx, true);
}

/* The other exits that leave nothing to do but what their handlers do. An event that was interrupted is the core's first. */
static __always_inline bool served_here(const struct vmx_vcpu *vmx)
{
	return (vmx->exit.reason == VMX_EXIT_EPT_VIOLATION || vmx->exit.reason == VMX_EXIT_IO) &&
	       !(vmx->exit.idt_info & VMX_INTR_VALID);
}

/* As vmx_vcpu_handle_exit() would, sooner. */
static __always_inline int serve(struct vmx_vcpu *vmx)
{
	struct keel_vcpu *vcpu = &vmx->vcpu;
	int r;

	vcpu->st_valid = KEEL_ST_RIP | KEEL_ST_DR;
	if (unlikely(vcpu->switch_pkru))
		keel_pkru_restore(vcpu);
	r = vmx->exit.reason == VMX_EXIT_IO ? vmx_exit_io(vmx) : vmx_exit_ept_violation(vmx);
	if (unlikely(vcpu->switch_pkru))
		keel_pkru_load(vcpu);
	return r;
}

static enum keel_exit_class leave_hot(struct vmx_vcpu *vmx)
{
	read_regs(vmx);
	vmx->exit.idt_info = 0;
	vmx->vcpu.exit.result = KEEL_RESUME;
	vmx->vcpu.st_valid |= KEEL_ST_RIP;
	return KEEL_EXIT_SERVED;
}

/*
 * The shortest way back into the guest, as in SVM's cycle(): run.c is left out until there is a request. @class is of an
 * exit whose registers have been read.
 */
static enum keel_exit_class cycle(struct vmx_vcpu *vmx, enum keel_exit_class class)
{
	struct keel_vcpu *vcpu = &vmx->vcpu;
	bool again = false;
	enum hot done;
	int r;

	for (;;) {
		for (; (done = hot(vmx)) == HOT_AGAIN; again = true)
			if (unlikely(switch_again(vmx))) {
				read_regs(vmx);
				return entry_failed(vmx);
			}
		if (unlikely(done == HOT_LEAVE))
			return leave_hot(vmx);
		if (again) {
			/* A VMWRITE between two of these entries: not looked for at each of them. */
			if (unlikely(this_cpu_read(vmx_cpu.failed))) {
				read_regs(vmx);
				return entry_failed(vmx);
			}
			class = after_exit(vmx);
			if (unlikely((vmx->exit.idt_info & VMX_INTR_VALID) || vcpu->ev.nmi.masked))
				complete_events(vmx);
		}
		if (class != KEEL_EXIT_HOT || !served_here(vmx))
			return class;
		r = serve(vmx);
		if (keel_cycle_ends(vcpu, r) || vmx->stale) {
			vcpu->exit.result = r;
			return r == -EAGAIN ? KEEL_EXIT_COLD : KEEL_EXIT_SERVED;
		}
		class = switch_to_guest(vmx, false);
		if (unlikely((vmx->exit.idt_info & VMX_INTR_VALID) || vcpu->ev.nmi.masked) && !vmx->failed)
			complete_events(vmx);
		again = false;
	}
}

/**
 * vmx_vcpu_enter() - a world switch, or several when what came between them could be served at once
 * @vcpu: the vCPU, inside its window
 *
 * Return: whether the last exit is served, or may be handled inside the window
 */
enum keel_exit_class vmx_vcpu_enter(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	bool step = vcpu->guest_debug & KVM_GUESTDBG_SINGLESTEP;
	enum keel_exit_class class;

	vmx->failed = false;
	if (unlikely(vcpu->switch_pkru))
		keel_pkru_load(vcpu);
	class = switch_to_guest(vmx, step);
	if (likely(!vmx->failed)) {
		complete_events(vmx);
		if (likely(vcpu->may_cycle))
			class = cycle(vmx, class);
	}
	if (unlikely(vcpu->switch_pkru))
		keel_pkru_restore(vcpu);
	return class;
}

/* INT3 and INTO are delivered with the RIP behind them pushed: the CPU adds the length (25.8.3). */
void vmx_vcpu_inject(struct keel_vcpu *vcpu, const struct keel_event *ev)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u32 type = ev->type, info = VMX_INTR_VALID | ev->vector;

	if (ev->type == KEEL_EV_NMI) {
		if (vmx_interruptibility(vmx) & VMX_STATE_NMI)
			vmx_set_interruptibility(vmx, vmx_interruptibility(vmx) & ~VMX_STATE_NMI);
	} else if (ev->type == KEEL_EV_SOFT_INTR) {
		vmx_write(VMCS_ENTRY_INSN_LEN, vcpu->exit.insn_len ?: 2);
	} else if (ev->type == KEEL_EV_EXCEPTION && (ev->vector == X86_TRAP_BP || ev->vector == X86_TRAP_OF)) {
		type = VMX_INTR_TYPE_SOFT_EXC;
		vmx_write(VMCS_ENTRY_INSN_LEN, vmx->bp_len);
	}
	/* Real mode pushes no error codes, and an entry that says otherwise fails. */
	if (ev->has_error && (keel_st(vcpu, KEEL_ST_CR)->cr0 & X86_CR0_PE)) {
		info |= VMX_INTR_ERROR;
		vmx_write(VMCS_ENTRY_INTR_ERROR, ev->error);
	}
	vmx_write(VMCS_ENTRY_INTR_INFO, info | type << 8);
	vmx->injecting = true;
}

/* The core's .injected flags still stand: the event is given again at the next entry. */
void vmx_vcpu_cancel(struct keel_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	if (vmx->injecting)
		vmx_write(VMCS_ENTRY_INTR_INFO, 0);
	vmx->injecting = false;
}

/**
 * vmx_vcpu_want_window() - exit when the guest becomes able to take an interrupt or an NMI
 * @vcpu: the vCPU, locked, inside its window
 * @windows: KEEL_WIN_*
 *
 * STI holds NMIs off on some CPUs, and the NMI window may open inside its shadow; the interrupt window opens
 * after it.
 */
void vmx_vcpu_want_window(struct keel_vcpu *vcpu, u32 windows)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	bool irq = windows & KEEL_WIN_IRQ, nmi = windows & KEEL_WIN_NMI;

	if (nmi && (vmx_interruptibility(vmx) & VMX_STATE_STI)) {
		irq = true;
		nmi = false;
	}
	vmx_ctl(vmx, VMX_CPU, VMX_CPU_INTR_WINDOW, irq);
	vmx_ctl(vmx, VMX_CPU, VMX_CPU_NMI_WINDOW, nmi);
}

/* A shadow that no entry has seen yet is the core's, and so is that of an emulated instruction. */
bool vmx_nmi_blocked(struct keel_vcpu *vcpu)
{
	u32 state = vmx_interruptibility(to_vmx(vcpu));

	if (vcpu->st_dirty & KEEL_ST_SHADOW)
		return (state & VMX_STATE_NMI) || vcpu->st.int_shadow;
	return state & (VMX_STATE_NMI | VMX_STATE_MOV_SS | VMX_STATE_STI);
}

void vmx_vcpu_set_nmi_masked(struct keel_vcpu *vcpu, bool masked)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);
	u32 state = vmx_interruptibility(vmx);

	vmx_set_interruptibility(vmx, masked ? state | VMX_STATE_NMI : state & ~VMX_STATE_NMI);
}

void vmx_vcpu_update(struct keel_vcpu *vcpu, u32 what)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	if (what & KEEL_UPDATE_TLB)
		vmx->flush = ~0UL;
	if (what & KEEL_UPDATE_ROOT) {
		vmx->stale |= VMX_STALE_ROOT;
		vmx->flush |= vcpu->mmu.drop_tags;
		vcpu->mmu.drop_tags = 0;
	}
	if (what & KEEL_UPDATE_INTERCEPTS)
		vmx_update_intercepts(vcpu);
	if (what & KEEL_UPDATE_APIC)
		vmx_apic_update(vmx);
	if (what & KEEL_UPDATE_TSC) {
		if (vcpu->in_window)
			vmx_write(VMCS_TSC_OFFSET, vcpu->tsc_offset);
		else
			vmx->stale |= VMX_STALE_CTL;
	}
}
