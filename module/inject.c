// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pending events and their priority: exceptions, NMIs, interrupts (SDM 3A 6.9; APM 2, 8.5).
 *
 * An event is pending (raised), then injected (given to the CPU for the next entry). An exit in the middle
 * of its delivery requeues it as injected. Runs in the vCPU's thread with the vCPU locked.
 */

#include "ops.h"
#include "trace.h"

#define NMI_LIMIT	2	/* one in delivery or masked, one waiting (SDM 3A 6.7.1) */

enum fault_class { BENIGN, CONTRIBUTORY, PAGE_FAULT };

/* SDM 3A table 6-4 */
static enum fault_class classify(u8 vector)
{
	switch (vector) {
	case X86_TRAP_PF:
		return PAGE_FAULT;
	case X86_TRAP_DE:
	case X86_TRAP_TS:
	case X86_TRAP_NP:
	case X86_TRAP_SS:
	case X86_TRAP_GP:
		return CONTRIBUTORY;
	default:
		return BENIGN;
	}
}

static void raise(struct keel_vcpu *vcpu, u8 vector, bool has_error, u32 error, bool has_payload, u64 payload)
{
	struct keel_events *ev = &vcpu->ev;
	enum fault_class first, second;

	keel_request(KEEL_REQ_EVENT, vcpu);
	if (ev->exc.pending || ev->exc.injected) {
		/* A fault while an earlier one is delivered: #DF or shutdown (SDM 3A table 6-5). */
		if (ev->exc.nr == X86_TRAP_DF) {
			ev->exc.pending = false;
			ev->exc.injected = false;
			ev->triple_fault = true;
			return;
		}
		first = classify(ev->exc.nr);
		second = classify(vector);
		if ((first == CONTRIBUTORY && second == CONTRIBUTORY) || (first == PAGE_FAULT && second != BENIGN)) {
			vector = X86_TRAP_DF;
			has_error = true;
			error = 0;
			has_payload = false;
		}
	}
	/* Real mode pushes no error codes (SDM 3A 20.1.4). */
	if (!(keel_st(vcpu, KEEL_ST_CR)->cr0 & X86_CR0_PE))
		has_error = false;
	ev->exc.pending = true;
	ev->exc.injected = false;
	ev->exc.nr = vector;
	ev->exc.has_error = has_error;
	ev->exc.error = error;
	ev->exc.has_payload = has_payload;
	ev->exc.payload = payload;
}

/**
 * keel_inject_exception() - raise an exception without error code
 * @vcpu: the vCPU, locked
 * @vector: 0 to 31
 */
void keel_inject_exception(struct keel_vcpu *vcpu, u8 vector)
{
	raise(vcpu, vector, false, 0, false, 0);
}

/**
 * keel_inject_exception_err() - raise an exception with error code
 * @vcpu: the vCPU, locked
 * @vector: 0 to 31
 * @error: error code as pushed
 */
void keel_inject_exception_err(struct keel_vcpu *vcpu, u8 vector, u32 error)
{
	raise(vcpu, vector, true, error, false, 0);
}

/**
 * keel_inject_fault() - raise what a page walk or an emulated instruction found
 * @vcpu: the vCPU, locked
 * @fault: vector, error code, and CR2 for #PF
 */
void keel_inject_fault(struct keel_vcpu *vcpu, const struct keel_fault *fault)
{
	raise(vcpu, fault->vector, fault->has_error, fault->error, fault->vector == X86_TRAP_PF, fault->address);
}

/**
 * keel_inject_debug() - raise #DB
 * @vcpu: the vCPU, locked
 * @dr6: the conditions, active high (SDM 3B 17.2.3)
 */
void keel_inject_debug(struct keel_vcpu *vcpu, u64 dr6)
{
	raise(vcpu, X86_TRAP_DB, false, 0, true, dr6);
}

/**
 * keel_inject_nmi() - an NMI for the vCPU
 * @vcpu: the vCPU, locked
 */
void keel_inject_nmi(struct keel_vcpu *vcpu)
{
	struct keel_events *ev = &vcpu->ev;
	u8 limit = ev->nmi.masked || ev->nmi.injected ? 1 : NMI_LIMIT;

	ev->nmi.pending = min_t(u8, ev->nmi.pending + 1, limit);
	keel_request(KEEL_REQ_EVENT, vcpu);
}

/**
 * keel_requeue_event() - the last exit interrupted the delivery of an event: deliver it again
 * @vcpu: the vCPU, locked
 * @type: KEEL_EV_*, or another of the vendor's above these
 * @vector: its vector
 * @has_error: an error code goes with it
 * @error: the error code
 *
 * What an instruction raised is dropped: RIP has not moved, and the guest executes the instruction again. Not so if it
 * was injected, by the client: there may be no such instruction.
 */
void keel_requeue_event(struct keel_vcpu *vcpu, u8 type, u8 vector, bool has_error, u32 error)
{
	struct keel_events *ev = &vcpu->ev;

	if (keel_event_by_insn(type, vector)) {
		if (ev->exc.given && ev->exc.nr == vector)
			type = KEEL_EV_EXCEPTION;
		else if (!ev->intr.given || !ev->intr.soft || ev->intr.nr != vector)
			return;
	}
	keel_request(KEEL_REQ_EVENT, vcpu);
	switch (type) {
	case KEEL_EV_NMI:
		ev->nmi.injected = true;
		/* Its delivery did not get to mask anything yet; the injection will. */
		return;
	case KEEL_EV_EXCEPTION:
		ev->exc.injected = true;
		ev->exc.pending = false;
		ev->exc.nr = vector;
		ev->exc.has_error = has_error;
		ev->exc.error = error;
		ev->exc.has_payload = false;
		return;
	default:
		ev->intr.injected = true;
		ev->intr.soft = type == KEEL_EV_SOFT_INTR;
		ev->intr.nr = vector;
	}
}

/* The PIC, ours or the client's, has an interrupt, and this vCPU listens to it. */
static bool ext_interrupt(struct keel_vcpu *vcpu)
{
	struct keel_vm *vm = vcpu->vm;
	bool waits = keel_irqchip_in_kernel(&vm->irqchip) ? keel_pic_output(vm) : vcpu->ext_vector >= 0;

	return waits && keel_lapic_takes_extint(vcpu);
}

static bool controller_interrupt(struct keel_vcpu *vcpu)
{
	return ext_interrupt(vcpu) || keel_lapic_pending(vcpu) >= 0;
}

/* As controller_interrupt(), without what the CPU takes from the local APIC by itself. */
static bool needs_injection(struct keel_vcpu *vcpu)
{
	return vcpu->apic && (vcpu->virt_intr ? ext_interrupt(vcpu) : controller_interrupt(vcpu));
}

/**
 * keel_accepts_client_interrupt() - is there room for an interrupt of the client's controller?
 * @vcpu: the vCPU, locked
 *
 * Return: true if KVM_INTERRUPT would not run into an earlier one, and LINT0 is open for it
 */
bool keel_accepts_client_interrupt(struct keel_vcpu *vcpu)
{
	if (keel_irqchip_in_kernel(&vcpu->vm->irqchip))
		return false;
	if (!vcpu->apic)
		return !vcpu->ev.intr.injected;
	return vcpu->ext_vector < 0 && keel_lapic_takes_extint(vcpu);
}

/**
 * keel_has_interrupt() - is there a maskable interrupt for this vCPU?
 * @vcpu: the vCPU, locked
 *
 * Return: true if keel_inject_pending() would find a vector
 */
bool keel_has_interrupt(struct keel_vcpu *vcpu)
{
	if (vcpu->ev.intr.injected)
		return true;
	return vcpu->apic && controller_interrupt(vcpu);
}

/* The vector of the highest interrupt, acknowledged at its controller; -1: gone meanwhile. */
static int ack_interrupt(struct keel_vcpu *vcpu)
{
	int vector;

	if (ext_interrupt(vcpu)) {
		if (keel_irqchip_in_kernel(&vcpu->vm->irqchip))
			return keel_pic_ack(vcpu->vm);
		vector = vcpu->ext_vector;
		vcpu->ext_vector = -1;
		return vector;
	}
	vector = keel_lapic_pending(vcpu);
	if (vector >= 0)
		keel_lapic_ack(vcpu, vector);
	return vector;
}

/**
 * keel_can_take_interrupt() - would the CPU accept a maskable interrupt at this boundary?
 * @vcpu: the vCPU, locked
 *
 * Return: RFLAGS.IF is set and no interrupt shadow holds it off
 */
bool keel_can_take_interrupt(struct keel_vcpu *vcpu)
{
	return (keel_st(vcpu, KEEL_ST_RIP | KEEL_ST_SHADOW)->rflags & X86_EFLAGS_IF) && !vcpu->st.int_shadow;
}

static void give(struct keel_vcpu *vcpu, u8 type, u8 vector, bool has_error, u32 error)
{
	const struct keel_event ev = {
		.type = type, .vector = vector, .has_error = has_error, .error = error,
	};

	if (keel_delivers_softly(vcpu)) {
		vcpu->soft_event = ev;
		vcpu->soft_event_pending = true;
	} else {
		trace_keel_inject(vcpu->id, ev.type, ev.vector, ev.has_error, ev.error);
		keel_ops->vcpu_inject(vcpu, &ev);
	}
}

/**
 * keel_deliver_payload() - write CR2 or DR6 of a pending exception, as its delivery does
 * @vcpu: the vCPU, locked
 */
void keel_deliver_payload(struct keel_vcpu *vcpu)
{
	struct keel_events *ev = &vcpu->ev;
	struct keel_state *st;

	if (!ev->exc.has_payload)
		return;
	ev->exc.has_payload = false;
	if (ev->exc.nr == X86_TRAP_PF) {
		keel_st_mod(vcpu, KEEL_ST_CR)->cr2 = ev->exc.payload;
	} else if (ev->exc.nr == X86_TRAP_DB) {
		st = keel_st_mod(vcpu, KEEL_ST_DR);
		/* Breakpoint bits are replaced, BS, BT and BD stick until software clears them. */
		st->dr6 = (st->dr6 & ~(u64)DR_TRAP_BITS) | DR6_RESERVED | ev->exc.payload;
	}
}

static void inject_exception(struct keel_vcpu *vcpu)
{
	struct keel_events *ev = &vcpu->ev;
	struct keel_state *st;

	if (ev->exc.pending) {
		keel_deliver_payload(vcpu);
		/* Faults are restarted with RF set, so that a code breakpoint does not fire twice. */
		if (ev->exc.nr != X86_TRAP_DB && ev->exc.nr != X86_TRAP_BP && ev->exc.nr != X86_TRAP_OF)
			keel_st_mod(vcpu, KEEL_ST_RIP)->rflags |= X86_EFLAGS_RF;
		if (ev->exc.nr == X86_TRAP_DB) {
			st = keel_st(vcpu, KEEL_ST_DR);
			if (st->dr7 & KEEL_DR7_GD)
				keel_st_mod(vcpu, KEEL_ST_DR)->dr7 &= ~KEEL_DR7_GD;
		}
		ev->exc.pending = false;
		ev->exc.injected = true;
	}
	give(vcpu, KEEL_EV_EXCEPTION, ev->exc.nr, ev->exc.has_error, ev->exc.error);
}

/* NMI, then interrupt, unless something else takes this entry; returns the windows to ask for. */
static u32 inject_async(struct keel_vcpu *vcpu, bool busy)
{
	struct keel_events *ev = &vcpu->ev;
	u32 windows = 0;
	int vector;

	/* The debugger steps through the program, not through its interrupts. */
	if (unlikely(vcpu->guest_debug & KVM_GUESTDBG_BLOCKIRQ))
		return 0;
	if (ev->nmi.pending) {
		if (!busy && !keel_ops->nmi_blocked(vcpu)) {
			ev->nmi.pending--;
			ev->nmi.injected = true;
			ev->nmi.masked = true;
			keel_ops->vcpu_set_nmi_masked(vcpu, true);
			give(vcpu, KEEL_EV_NMI, X86_TRAP_NMI, false, 0);
			busy = true;
		}
		if (ev->nmi.pending)
			windows |= KEEL_WIN_NMI;
	}
	/* One is on its way again: the next comes as soon as the guest can take it. */
	if (ev->intr.injected)
		return needs_injection(vcpu) ? windows | KEEL_WIN_IRQ : windows;
	if (!needs_injection(vcpu))
		return windows;
	if (busy || !keel_can_take_interrupt(vcpu))
		return windows | KEEL_WIN_IRQ;
	vector = ack_interrupt(vcpu);
	if (vector < 0)
		return windows;
	ev->intr.injected = true;
	ev->intr.soft = false;
	ev->intr.nr = vector;
	give(vcpu, KEEL_EV_INTR, vector, false, 0);
	return needs_injection(vcpu) ? windows | KEEL_WIN_IRQ : windows;
}

/**
 * keel_inject_pending() - before an entry: give the CPU the event whose turn it is
 * @vcpu: the vCPU, locked; may be called with interrupts off
 *
 * An event whose delivery was interrupted goes first, then a new exception, an NMI, an interrupt. What
 * has to wait gets a window: an exit as soon as the guest can take it.
 *
 * Return: KEEL_RESUME, or KEEL_TO_USER when the vCPU shut down (triple fault)
 */
int keel_inject_pending(struct keel_vcpu *vcpu)
{
	struct keel_events *ev = &vcpu->ev;
	bool busy = true;
	u32 windows;

	if (unlikely(ev->triple_fault)) {
		ev->triple_fault = false;
		return keel_exit_shutdown(vcpu);
	}
	if (ev->exc.injected || ev->exc.pending) {
		/* A new exception replaces an interrupted one only through raise(), which merged them. */
		inject_exception(vcpu);
	} else if (ev->nmi.injected) {
		ev->nmi.masked = true;
		keel_ops->vcpu_set_nmi_masked(vcpu, true);
		give(vcpu, KEEL_EV_NMI, X86_TRAP_NMI, false, 0);
	} else if (ev->intr.injected) {
		give(vcpu, ev->intr.soft ? KEEL_EV_SOFT_INTR : KEEL_EV_INTR, ev->intr.nr, false, 0);
	} else {
		busy = false;
	}
	windows = inject_async(vcpu, busy);
	if (vcpu->run->request_interrupt_window && keel_accepts_client_interrupt(vcpu))
		windows |= KEEL_WIN_IRQ;
	vcpu->event_waits = windows;
	if (!keel_delivers_softly(vcpu))
		keel_ops->vcpu_want_window(vcpu, windows);
	return KEEL_RESUME;
}
