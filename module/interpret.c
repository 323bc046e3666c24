// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ways in which a VM's instructions are executed (KEEL_SET_EXECUTION):
 *
 *	direct		by the CPU, as always; the emulator has what exits
 *	interpreted	by the emulator alone: the guest never runs on the CPU
 *	trapped		by the emulator too, but each instruction is first tried on the CPU, with no page
 *			of the guest in the nested tables: its fetch exits (keel_exit_memory())
 *
 * In the last two the emulator also delivers interrupts and exceptions; what has to be delivered, and
 * when, is inject.c's in all three. A guest must end in the same state in each, which is how the
 * emulator is compared with the CPU, and the point of Popek and Goldberg's theorem: CPUs without
 * virtualization extensions have instructions for which it fails when they are run directly.
 *
 * A VM that runs directly is interpreted, too, while its vCPU is in a state that the CPU cannot run (VT-x without
 * EPT: real mode).
 *
 * The vCPU is locked, vm->srcu is held, the window is closed. Nothing here is bounded by the guest:
 * a batch of instructions ends for signals, requests and the scheduler.
 */
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "ops.h"

#define BATCH	256	/* instructions until vm->srcu is let go and the outer loop looks around */

/* Events are done by the emulator: outside the window, and only in these modes. */
bool keel_delivers_softly(const struct keel_vcpu *vcpu)
{
	return (vcpu->vm->execution != KEEL_EXECUTION_DIRECT || vcpu->interpreting) && !vcpu->in_window;
}

/**
 * keel_interpret_event() - deliver the event whose turn it is, if any
 * @vcpu: the vCPU, locked, outside the window
 * @delivered: one was delivered, or tried
 *
 * Return: KEEL_RESUME, KEEL_TO_USER or -errno
 */
int keel_interpret_event(struct keel_vcpu *vcpu, bool *delivered)
{
	struct keel_event ev;
	int r;

	*delivered = false;
	keel_check_request(KEEL_REQ_EVENT, vcpu);
	vcpu->soft_event_pending = false;
	r = keel_inject_pending(vcpu);
	if (r != KEEL_RESUME || !vcpu->soft_event_pending)
		return r;
	*delivered = true;
	vcpu->soft_event_pending = false;
	ev = vcpu->soft_event;
	return keel_emul_deliver(vcpu, ev.type, ev.vector, ev.has_error, ev.error);
}

/**
 * keel_interpret() - run a vCPU by the emulator for a while
 * @vcpu: the vCPU, locked, outside the window
 *
 * Return: KEEL_RESUME, KEEL_TO_USER or -errno, as for a window
 */
int keel_interpret(struct keel_vcpu *vcpu)
{
	unsigned int n;
	bool delivered;
	int r;

	for (n = 0; n < BATCH; n++) {
		r = keel_interpret_event(vcpu, &delivered);
		if (r != KEEL_RESUME)
			return r;
		/* The outer loop tells the client. */
		if (READ_ONCE(vcpu->run->request_interrupt_window) && keel_can_take_interrupt(vcpu) &&
		    !keel_irqchip_in_kernel(&vcpu->vm->irqchip))
			return KEEL_RESUME;
		if (!delivered) {
			vcpu->exit.nr_bytes = 0;
			r = keel_emulate_first(vcpu);
		}
		if (r != KEEL_RESUME || vcpu->mp_state != KVM_MP_STATE_RUNNABLE || vcpu->step_exit)
			return r;
		if ((READ_ONCE(vcpu->requests) & ~BIT(KEEL_REQ_EVENT)) || keel_task_work_pending())
			return r;
	}
	cond_resched();
	return KEEL_RESUME;
}

/**
 * keel_interpret_trapped() - the CPU met a page that is not in the nested tables, and none ever is
 * @vcpu: the vCPU, locked, outside the window
 *
 * With an event on its way in, that is delivered by the emulator before anything else.
 *
 * Return: KEEL_RESUME, KEEL_TO_USER or -errno
 */
int keel_interpret_trapped(struct keel_vcpu *vcpu)
{
	if (vcpu->ev.exc.injected || vcpu->ev.intr.injected || vcpu->ev.nmi.injected)
		return KEEL_RESUME;
	vcpu->exit.nr_bytes = 0;
	return keel_emulate(vcpu);
}

/* KEEL_SET_EXECUTION */
long keel_set_execution(struct keel_vm *vm, const struct keel_execution __user *uexec)
{
	struct keel_execution exec;
	long r = 0;

	if (copy_from_user(&exec, uexec, sizeof(exec)))
		return -EFAULT;
	if (exec.version != KEEL_EXECUTION_VERSION || exec.size != sizeof(exec) ||
	    exec.mode > KEEL_EXECUTION_TRAPPED || exec.flags || exec.emulated || exec.entries ||
	    memchr_inv(exec.reserved, 0, sizeof(exec.reserved)))
		return -EINVAL;
	mutex_lock(&vm->lock);
	if (vm->nr_created)
		r = -EBUSY;
	else
		vm->execution = exec.mode;
	mutex_unlock(&vm->lock);
	return r;
}

/* KEEL_GET_EXECUTION */
long keel_get_execution(struct keel_vcpu *vcpu, struct keel_execution __user *uexec)
{
	struct keel_execution exec;

	if (copy_from_user(&exec, uexec, sizeof(exec)))
		return -EFAULT;
	if (exec.version != KEEL_EXECUTION_VERSION || exec.size != sizeof(exec) || exec.mode || exec.flags ||
	    exec.emulated || exec.entries || memchr_inv(exec.reserved, 0, sizeof(exec.reserved)))
		return -EINVAL;
	exec.mode = vcpu->vm->execution;
	exec.emulated = vcpu->nr_emulated;
	exec.entries = keel_stats_exits(vcpu);
	return copy_to_user(uexec, &exec, sizeof(exec)) ? -EFAULT : 0;
}
