// SPDX-License-Identifier: GPL-2.0-only
/*
 * The client's view of a vCPU's events and run state: KVM_GET/SET_VCPU_EVENTS,
 * KVM_GET/SET_MP_STATE, KVM_INTERRUPT, KVM_SET_GUEST_DEBUG.
 *
 * inject.c owns the priority and the delivery, smm.c system management mode; here the same state is read and replaced.
 *
 * Locks: vcpu->mutex and vm->srcu are held by the caller, and no window is open.
 * SDM 3A, 6.9 and 8.4; api.rst of the kernel describes the flags.
 */
#include <linux/kvm.h>
#include <asm/processor-flags.h>
#include <asm/trapnr.h>

#include "ops.h"
#include "regs.h"
#include "smm.h"

#define SETTABLE_FLAGS \
	(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | \
	 KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM | \
	 KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_TRIPLE_FAULT)

static u8 shadow_to_abi(u8 shadow)
{
	return (shadow & KEEL_SHADOW_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS : 0) |
	       (shadow & KEEL_SHADOW_STI ? KVM_X86_SHADOW_INT_STI : 0);
}

static u8 shadow_from_abi(u8 shadow)
{
	return (shadow & KVM_X86_SHADOW_INT_MOV_SS ? KEEL_SHADOW_MOV_SS : 0) |
	       (shadow & KVM_X86_SHADOW_INT_STI ? KEEL_SHADOW_STI : 0);
}

static void exception_get(struct keel_vcpu *vcpu, struct kvm_vcpu_events *e)
{
	const struct keel_events *ev = &vcpu->ev;

	/* A client that did not ask for payloads sees CR2 and DR6 as after delivery. */
	if (!vcpu->vm->exception_payload && ev->exc.pending)
		keel_deliver_payload(vcpu);
	/* INT3 and INTO are not told: they run again, and the ABI has no length for them. */
	if (ev->exc.nr != X86_TRAP_BP && ev->exc.nr != X86_TRAP_OF) {
		e->exception.injected = ev->exc.injected;
		e->exception.pending = ev->exc.pending;
		/* without payloads, pending and injected are one to the client */
		if (!vcpu->vm->exception_payload)
			e->exception.injected |= ev->exc.pending;
	}
	e->exception.nr = ev->exc.nr;
	e->exception.has_error_code = ev->exc.has_error;
	e->exception.error_code = ev->exc.error;
	e->exception_has_payload = ev->exc.has_payload;
	e->exception_payload = ev->exc.payload;
}

/* KVM_GET_VCPU_EVENTS */
long keel_events_get(struct keel_vcpu *vcpu, void *buf)
{
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_SHADOW);
	const struct keel_events *ev = &vcpu->ev;
	struct kvm_vcpu_events *e = buf;

	keel_lapic_has_init_sipi(vcpu);	/* takes NMIs that other CPUs have sent */
	exception_get(vcpu, e);
	e->interrupt.injected = ev->intr.injected && !ev->intr.soft;
	e->interrupt.nr = ev->intr.nr;
	e->interrupt.shadow = shadow_to_abi(st->int_shadow);
	e->nmi.injected = ev->nmi.injected;
	e->nmi.pending = ev->nmi.pending != 0;
	e->nmi.masked = ev->nmi.masked;
	e->smi.smm = vcpu->smm.in;
	e->smi.pending = keel_smi_pending(vcpu);
	e->smi.smm_inside_nmi = vcpu->smm.inside_nmi;
	e->smi.latched_init = keel_lapic_latched_init(vcpu);
	e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
		   KVM_VCPUEVENT_VALID_SMM;
	if (vcpu->vm->exception_payload)
		e->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	if (vcpu->vm->triple_fault_event) {
		e->triple_fault.pending = ev->triple_fault;
		e->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	}
	return 0;
}

static bool events_valid(struct keel_vcpu *vcpu, const struct kvm_vcpu_events *e)
{
	const struct keel_vm *vm = vcpu->vm;

	if (e->flags & ~SETTABLE_FLAGS)
		return false;
	if ((e->flags & KVM_VCPUEVENT_VALID_PAYLOAD) && !vm->exception_payload)
		return false;
	if ((e->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) && !vm->triple_fault_event)
		return false;
	if ((e->flags & KVM_VCPUEVENT_VALID_SMM) && (e->smi.smm || e->smi.pending || e->smi.smm_inside_nmi)) {
		if (!keel_smm_offered())
			return false;
		/* An INIT that waits in the mode is told by latched_init. */
		if ((e->smi.smm || e->smi.pending) && vcpu->mp_state == KVM_MP_STATE_INIT_RECEIVED)
			return false;
	}
	if ((e->exception.injected || e->exception.pending) &&
	    (e->exception.nr > 31 || e->exception.nr == X86_TRAP_NMI))
		return false;
	return true;
}

static void smi_set(struct keel_vcpu *vcpu, const struct kvm_vcpu_events *e)
{
	keel_smm_switch(vcpu, e->smi.smm);
	keel_smi_pending(vcpu);		/* another CPU's is replaced, too */
	vcpu->smm.pending = e->smi.pending;
	vcpu->smm.inside_nmi = e->smi.smm && e->smi.smm_inside_nmi;
	keel_lapic_latch_init(vcpu, e->smi.latched_init);
}

/* KVM_SET_VCPU_EVENTS */
long keel_events_set(struct keel_vcpu *vcpu, void *buf)
{
	struct keel_events *ev = &vcpu->ev;
	struct kvm_vcpu_events *e = buf;

	/* without the payload flag, "pending" and the payload are not there */
	if (!(e->flags & KVM_VCPUEVENT_VALID_PAYLOAD)) {
		e->exception.pending = 0;
		e->exception_has_payload = 0;
	} else if (e->exception.pending) {
		e->exception.injected = 0;
	} else {
		e->exception_has_payload = 0;
	}
	if (!events_valid(vcpu, e))
		return -EINVAL;

	ev->exc.injected = e->exception.injected;
	ev->exc.pending = e->exception.pending;
	ev->exc.nr = e->exception.nr;
	ev->exc.has_error = e->exception.has_error_code;
	ev->exc.error = e->exception.error_code;
	ev->exc.has_payload = e->exception_has_payload;
	ev->exc.payload = e->exception_payload;
	ev->intr.injected = e->interrupt.injected;
	ev->intr.nr = e->interrupt.nr;
	ev->intr.soft = e->interrupt.soft;
	if (e->flags & KVM_VCPUEVENT_VALID_SHADOW)
		keel_st_mod(vcpu, KEEL_ST_SHADOW)->int_shadow =
			shadow_from_abi(e->interrupt.shadow);
	ev->nmi.injected = e->nmi.injected;
	if (e->flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
		ev->nmi.pending = !!e->nmi.pending;
	ev->nmi.masked = e->nmi.masked;
	keel_ops->vcpu_set_nmi_masked(vcpu, ev->nmi.masked);
	if ((e->flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR) && vcpu->apic)
		keel_lapic_set_sipi_vector(vcpu, e->sipi_vector);
	if (e->flags & KVM_VCPUEVENT_VALID_SMM)
		smi_set(vcpu, e);
	if (e->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT)
		ev->triple_fault = e->triple_fault.pending;
	keel_request(KEEL_REQ_EVENT, vcpu);
	return 0;
}

/* KVM_GET_MP_STATE: an INIT or SIPI that has arrived is taken first, so that it shows. */
long keel_mp_state_get(struct keel_vcpu *vcpu, void *buf)
{
	struct kvm_mp_state *mp = buf;

	keel_lapic_accept_events(vcpu);
	mp->mp_state = vcpu->mp_state;
	if (vcpu->mp_state == KVM_MP_STATE_HALTED && READ_ONCE(vcpu->pv.unhalted))
		mp->mp_state = KVM_MP_STATE_RUNNABLE;	/* the kick is no state of its own */
	return 0;
}

/* KVM_SET_MP_STATE: without an in-kernel local APIC a vCPU is always runnable. */
long keel_mp_state_set(struct keel_vcpu *vcpu, void *buf)
{
	const struct kvm_mp_state *mp = buf;

	switch (mp->mp_state) {
	case KVM_MP_STATE_RUNNABLE:
		break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_HALTED:
	case KVM_MP_STATE_SIPI_RECEIVED:
	case KVM_MP_STATE_AP_RESET_HOLD:
		if (!vcpu->apic)
			return -EINVAL;
		break;
	default:
		return -EINVAL;
	}
	if ((vcpu->smm.in || keel_smi_pending(vcpu)) &&
	    (mp->mp_state == KVM_MP_STATE_SIPI_RECEIVED || mp->mp_state == KVM_MP_STATE_INIT_RECEIVED))
		return -EINVAL;
	if (mp->mp_state == KVM_MP_STATE_SIPI_RECEIVED) {
		vcpu->mp_state = KVM_MP_STATE_INIT_RECEIVED;
		keel_lapic_post_sipi(vcpu);
	} else {
		vcpu->mp_state = mp->mp_state;
	}
	keel_request(KEEL_REQ_EVENT, vcpu);
	return 0;
}

/* KVM_INTERRUPT: the client's own interrupt controller has a vector for the vCPU. */
long keel_client_interrupt(struct keel_vcpu *vcpu, void *buf)
{
	const struct kvm_interrupt *irq = buf;

	if (irq->irq >= KVM_NR_INTERRUPTS)
		return -EINVAL;
	if (vcpu->apic) {
		/* All that can come from outside is an ExtINT, and it waits for LINT0 to take it. */
		if (keel_irqchip_in_kernel(&vcpu->vm->irqchip))
			return -ENXIO;
		if (vcpu->ext_vector >= 0)
			return -EEXIST;
		vcpu->ext_vector = irq->irq;
		keel_request(KEEL_REQ_EVENT, vcpu);
		return 0;
	}
	vcpu->ev.intr.injected = true;
	vcpu->ev.intr.soft = false;
	vcpu->ev.intr.nr = irq->irq;
	keel_request(KEEL_REQ_EVENT, vcpu);
	return 0;
}

/*
 * KVM_SET_VAPIC_ADDR: where a 32-bit guest whose TPR accesses the client has patched keeps its TPR. Those are not
 * reported here, so there is none; clients say so at reset.
 */
long keel_vapic_addr_set(struct keel_vcpu *vcpu, void *buf)
{
	const struct kvm_vapic_addr *addr = buf;

	return addr->vapic_addr ? -EINVAL : 0;
}

/* KVM_SET_GUEST_DEBUG: single step and breakpoints of the client; an exception on demand. */
long keel_guest_debug_set(struct keel_vcpu *vcpu, void *buf)
{
	const struct kvm_guest_debug *dbg = buf;

	if (dbg->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
		if (vcpu->ev.exc.pending)
			return -EBUSY;
		if (dbg->control & KVM_GUESTDBG_INJECT_DB)
			keel_inject_exception(vcpu, X86_TRAP_DB);
		else
			keel_inject_exception(vcpu, X86_TRAP_BP);
	}
	vcpu->guest_debug = dbg->control & KVM_GUESTDBG_ENABLE ? dbg->control : 0;
	if (vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP) {
		memcpy(vcpu->debug_dr, dbg->arch.debugreg, sizeof(vcpu->debug_dr));
		vcpu->debug_dr7 = (u32)dbg->arch.debugreg[7];	/* entry fails on any other bit */
	}
	keel_st_mod(vcpu, KEEL_ST_DR);
	keel_ops->vcpu_update(vcpu, KEEL_UPDATE_INTERCEPTS);
	keel_request(KEEL_REQ_EVENT, vcpu);	/* what KVM_GUESTDBG_BLOCKIRQ has held back */
	return 0;
}
