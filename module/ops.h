/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The vendor seam: all that the core asks of VMX or SVM.
 *
 * No VMCS or VMCB name occurs outside module/vmx and module/svm, and no vendor test in the core. The
 * vendor decodes an exit and calls the core's keel_exit_*(); the core decides.
 *
 * "Window": the stretch with preemption and interrupts off and the guest's FPU state loaded, in which
 * the inner loop of run.c enters the guest again and again (keel_vcpu.in_window). CPU-bound state exists
 * only there, so a vCPU may continue on any CPU in its next window.
 */
#ifndef KEEL_OPS_H
#define KEEL_OPS_H

#include <linux/keel.h>
#include <asm/msr-index.h>

#include "keel.h"

/* What vcpu_want_window() asks for, a mask. */
#define KEEL_WIN_IRQ		1	/* exit as soon as the guest can take an interrupt */
#define KEEL_WIN_NMI		2	/* exit as soon as the guest can take an NMI */

/* What vcpu_update() is told of, a mask. */
#define KEEL_UPDATE_TLB		1	/* drop all tagged translations of this vCPU */
#define KEEL_UPDATE_ROOT	2	/* keel_vcpu.mmu: root changed and, with shadow paging, tag and drop_tags */
#define KEEL_UPDATE_INTERCEPTS	4	/* guest_debug, disabled_exits, CPUID or MSR filter changed */
#define KEEL_UPDATE_TSC		8	/* vcpu->tsc_offset changed */
#define KEEL_UPDATE_APIC	16	/* the local APIC's mode, what it has in service, or the way of EOIs changed */

/* What vcpu_enter() says about the exit. */
enum keel_exit_class {
	KEEL_EXIT_HOT,		/* vcpu_handle_exit() may be called inside the window */
	KEEL_EXIT_COLD,		/* close the window first */
	KEEL_EXIT_SERVED,	/* it has been handled: keel_exit.result is what its handler said */
};

/**
 * struct keel_ops - one virtualization extension
 * @name: "svm" or "vmx", for messages
 * @vcpu_size: bytes of the vendor's vCPU structure, which begins with struct keel_vcpu
 * @pte_format: bits of nested page-table entries
 * @hypercall: the vendor's hypercall instruction
 * @keeps_pdptes: with PAE paging, keel_state.pdpte[] is the truth (else guest memory is)
 * @feature_mask: hides what the vendor cannot offer from CPUID; called per entry of the supported table
 * @hw_probe: called once at load; 0 or -ENODEV (with one line in the log that says why)
 * @hw_exit: undoes hw_probe()
 * @hw_info: fills in backend, nr_tags and features of KEEL_GET_INFO
 * @hw_enable: on the current CPU, interrupts off: ready it for guests; 0, -EBUSY (another hypervisor holds
 *	the extension) or -EIO
 * @hw_disable: on the current CPU, interrupts off: leave it as if never used
 * @hw_emergency: on the current CPU, when the kernel has found a fault of its own: what keeps another kernel from
 *	starting here is undone; the guest and what else the host had are lost
 * @vcpu_create: allocates what one vCPU needs; 0 or -errno
 * @vcpu_destroy: frees it
 * @vcpu_reset: control structure as after power-up; the core then stores the architectural state
 * @get_state: reads the groups in @mask (KEEL_ST_*) into vcpu->st
 * @set_state: writes the groups in @mask from vcpu->st; the core has validated the values
 * @window_open: interrupts off: ready this CPU for the vCPU and load host-visible guest state (syscall MSRs);
 *	0, or -EBUSY, -EIO or -EOPNOTSUPP (the CPU cannot run this state: the emulator is to) with the host as before
 * @window_close: interrupts off: undo it; the host is as before, and has been handed what was its own of the
 *	last exit (machine check, NMI)
 * @vcpu_enter: a world switch, and with vcpu->may_cycle more of them as long as the exits in between leave nothing to
 *	look at; on return the GPRs, rip and rflags in vcpu->st are the guest's, the
 *	interrupted delivery of an event has gone to keel_requeue_event(), and the last exit is classed
 * @vcpu_handle_exit: dispatches the exit of the last vcpu_enter(): KEEL_RESUME, KEEL_TO_USER or -errno
 * @vcpu_inject: gives an event to the CPU for the next entry
 * @vcpu_cancel: entry will not happen: return an injected event with keel_requeue_event()
 * @vcpu_want_window: ask for KEEL_WIN_* exits; 0 withdraws
 * @nmi_blocked: NMIs are blocked by an interrupt shadow or a pending IRET
 * @vcpu_set_nmi_masked: the client's or the injection's change of NMI masking
 * @vcpu_update: what is named by KEEL_UPDATE_* changed, and is to be brought to the CPU before the next entry
 * @vcpu_update_tpr: @tpr is the task priority (CR8); @exiting: the guest's writes to it must exit; @irr: the
 *	highest vector that the local APIC requests, -1: none
 * @vcpu_get_tpr: the task priority (CR8) as the guest left it
 * @vcpu_dump: logs the control structure, rate-limited by the caller
 */
struct keel_ops {
	const char *name;
	size_t vcpu_size;
	const struct keel_pte_format *pte_format;
	u8 hypercall[3];
	bool keeps_pdptes;

	void (*feature_mask)(struct kvm_cpuid_entry2 *entry);
	int (*hw_probe)(void);
	void (*hw_exit)(void);
	void (*hw_info)(struct keel_info *info);
	int (*hw_enable)(void);
	void (*hw_disable)(void);
	void (*hw_emergency)(void);

	int (*vcpu_create)(struct keel_vcpu *vcpu);
	void (*vcpu_destroy)(struct keel_vcpu *vcpu);
	void (*vcpu_reset)(struct keel_vcpu *vcpu, bool init);
	void (*get_state)(struct keel_vcpu *vcpu, u32 mask);
	void (*set_state)(struct keel_vcpu *vcpu, u32 mask);
	int (*window_open)(struct keel_vcpu *vcpu);
	void (*window_close)(struct keel_vcpu *vcpu);
	enum keel_exit_class (*vcpu_enter)(struct keel_vcpu *vcpu);
	int (*vcpu_handle_exit)(struct keel_vcpu *vcpu);
	void (*vcpu_inject)(struct keel_vcpu *vcpu, const struct keel_event *ev);
	void (*vcpu_cancel)(struct keel_vcpu *vcpu);
	void (*vcpu_want_window)(struct keel_vcpu *vcpu, u32 windows);
	bool (*nmi_blocked)(struct keel_vcpu *vcpu);
	void (*vcpu_set_nmi_masked)(struct keel_vcpu *vcpu, bool masked);
	void (*vcpu_update)(struct keel_vcpu *vcpu, u32 what);
	void (*vcpu_update_tpr)(struct keel_vcpu *vcpu, u8 tpr, bool exiting, int irr);
	u8 (*vcpu_get_tpr)(struct keel_vcpu *vcpu);
	void (*vcpu_dump)(struct keel_vcpu *vcpu);
};

/* Did an instruction raise the event (INT n, INT1, INT3, INTO)? SVM has no type of its own for the last two. */
static inline bool keel_event_by_insn(u8 type, u8 vector)
{
	return type >= KEEL_EV_SOFT_INTR ||
	       (type == KEEL_EV_EXCEPTION && (vector == X86_TRAP_BP || vector == X86_TRAP_OF));
}

/* An entry has taken the event that it was given; what an exit interrupted goes to keel_requeue_event(). */
static inline void keel_event_taken(struct keel_vcpu *vcpu)
{
	vcpu->ev.exc.given = vcpu->ev.exc.injected;
	vcpu->ev.intr.given = vcpu->ev.intr.injected;
	vcpu->ev.exc.injected = false;
	vcpu->ev.intr.injected = false;
	vcpu->ev.nmi.injected = false;
}

/* RFLAGS for an entry: one that steps has TF set, and keel_step_end() knows whether it was the guest's own. */
static inline u64 keel_step_begin(struct keel_vcpu *vcpu, bool step)
{
	vcpu->own_tf = vcpu->st.rflags & X86_EFLAGS_TF;
	return vcpu->st.rflags | (step ? X86_EFLAGS_TF : 0);
}

static inline void keel_step_end(struct keel_vcpu *vcpu, bool step)
{
	if (unlikely(step) && !vcpu->own_tf)
		vcpu->st.rflags &= ~(u64)X86_EFLAGS_TF;
}

/* Shall INT3 exit, for a client that has set software breakpoints? */
static inline bool keel_bp_exits(const struct keel_vcpu *vcpu)
{
	u32 both = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;

	return (vcpu->guest_debug & both) == both;
}

extern const struct keel_ops *keel_ops;		/* main.c; set once at load */
extern const struct keel_ops svm_ops, vmx_ops;

/* Drop all tagged translations of the vCPU before its next entry; in its own thread. */
static inline void keel_tlb_flush(struct keel_vcpu *vcpu)
{
	vcpu->mmu.flush_own++;
	keel_ops->vcpu_update(vcpu, KEEL_UPDATE_TLB);
}

/**
 * keel_st() - the architectural state with the groups in @mask current
 * @vcpu: the vCPU, locked
 * @mask: KEEL_ST_*
 *
 * Return: &vcpu->st
 */
static inline struct keel_state *keel_st(struct keel_vcpu *vcpu, u32 mask)
{
	u32 need = mask & ~vcpu->st_valid;

	if (unlikely(need)) {
		keel_ops->get_state(vcpu, need);
		vcpu->st_valid |= need;
	}
	return &vcpu->st;
}

/**
 * keel_st_mod() - as keel_st(), for changing: the groups go back to the vendor before the next entry
 * @vcpu: the vCPU, locked
 * @mask: KEEL_ST_*
 *
 * Return: &vcpu->st
 */
static inline struct keel_state *keel_st_mod(struct keel_vcpu *vcpu, u32 mask)
{
	vcpu->st_dirty |= mask;
	return keel_st(vcpu, mask);
}

/* An exit was served between two entries, with result @r: is there anything for run.c to look at? */
static __always_inline bool keel_cycle_ends(const struct keel_vcpu *vcpu, int r)
{
	/* Who else wants the CPU sends an interrupt, but for what the handler itself has woken on this one. */
	return r != KEEL_RESUME || READ_ONCE(vcpu->requests) || (vcpu->st_dirty & ~KEEL_ST_RIP) || need_resched();
}

/* What IN has read: one or two bytes of RAX, or with four all of it. */
static inline void keel_in_result(struct keel_vcpu *vcpu, u32 val, u8 size)
{
	u64 *rax = &vcpu->st.gpr[KEEL_RAX];

	switch (size) {
	case 1:
		*rax = (*rax & ~0xffULL) | (u8)val;
		break;
	case 2:
		*rax = (*rax & ~0xffffULL) | (u16)val;
		break;
	default:
		*rax = val;
	}
}

/**
 * keel_port_access() - let an eventfd or an in-kernel device have an IN or OUT of one datum
 * @vcpu: the vCPU, locked
 * @port: the port
 * @size: 1, 2 or 4 bytes
 * @in: IN
 * @atomic: preemption or interrupts are off, for certain
 *
 * Return: whether one has taken it, and RAX is what it is to be
 */
static __always_inline bool keel_port_access(struct keel_vcpu *vcpu, u16 port, u8 size, bool in, bool atomic)
{
	/* Not on the stack, where it would be guarded. */
	u32 *val = &vcpu->exit.port_val;

	if (!in) {
		*val = vcpu->st.gpr[KEEL_RAX];
		return !(atomic ? keel_io_write_atomic(vcpu, KEEL_PIO_BUS, port, size, val) :
				  keel_io_write(vcpu, KEEL_PIO_BUS, port, size, val));
	}
	if (keel_io_read(vcpu, KEEL_PIO_BUS, port, size, val))
		return false;
	keel_in_result(vcpu, *val, size);
	return true;
}

/* In 64-bit mode, not in one of the others that long mode has (SDM 3A, 5.2.1; APM 2, 1.3.1)? */
static inline bool keel_long_mode64(struct keel_vcpu *vcpu)
{
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_CR | KEEL_ST_CODE);

	return (st->efer & EFER_LMA) && (st->seg[KEEL_CS].ar & KEEL_AR_L);
}

/* Where the exiting instruction is; outside 64-bit mode addresses wrap at 4 GiB. */
static inline u64 keel_linear_rip(struct keel_vcpu *vcpu)
{
	u64 rip = keel_st(vcpu, KEEL_ST_RIP)->rip;

	return keel_long_mode64(vcpu) ? rip : (u32)(keel_st(vcpu, KEEL_ST_CS)->seg[KEEL_CS].base + rip);
}

#endif /* KEEL_OPS_H */
