// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of a vCPU: KVM_RUN.
 *
 *	keel_vcpu_run()		one ioctl: finish the last client exit, run, publish the state
 *	  run_loop()		outer loop, interruptible: window or sleep, signals, scheduling
 *	    run_window()	guest FPU loaded, preemption, interrupts and page faults off
 *	      run_inner()	inner loop: requests, events, entry, hot exits
 *	    block()		a halted vCPU waits until it has something to do (sched.c)
 *
 * An exit that cannot be handled with interrupts off ends the window and is handled outside; all the
 * others go straight back into the guest. keel_vcpu.mutex is held throughout; vm->srcu only where something reads slots,
 * ranges or routes, and never asleep or for a whole window: a change of slots waits for its readers. SDM 3C 24 and APM 2
 * 15 both describe the two modes that this file goes between.
 */
#include <linux/interrupt.h>
#include <linux/sched/signal.h>
#include <linux/static_call.h>
#include <linux/uaccess.h>
#include <linux/vtime.h>

#include "ops.h"
#include "smm.h"
#include "trace.h"

DEFINE_STATIC_CALL_NULL(vcpu_enter, *(((struct keel_ops *)NULL)->vcpu_enter));
DEFINE_STATIC_CALL_NULL(vcpu_handle_exit, *(((struct keel_ops *)NULL)->vcpu_handle_exit));

void keel_run_module_init(void)
{
	static_call_update(vcpu_enter, keel_ops->vcpu_enter);
	static_call_update(vcpu_handle_exit, keel_ops->vcpu_handle_exit);
}

/* What a window serves itself; anything else ends it. */
#define WINDOW_REQUESTS	(BIT(KEEL_REQ_EVENT) | BIT(KEEL_REQ_TLB_FLUSH) | BIT(KEEL_REQ_TIMER) | \
			 BIT(KEEL_REQ_UNHALT))

/* The client's interrupt controller wants to know when the guest can take an interrupt. */
static bool client_wants_window(struct keel_vcpu *vcpu)
{
	return !keel_irqchip_in_kernel(&vcpu->vm->irqchip) && READ_ONCE(vcpu->run->request_interrupt_window);
}

static bool ready_for_client_interrupt(struct keel_vcpu *vcpu)
{
	const struct keel_events *ev = &vcpu->ev;

	return !ev->intr.injected && !ev->exc.injected && !ev->nmi.injected && !ev->exc.pending &&
	       keel_accepts_client_interrupt(vcpu) && keel_can_take_interrupt(vcpu);
}

static bool vcpu_runnable(struct keel_vcpu *vcpu)
{
	return vcpu->mp_state == KVM_MP_STATE_RUNNABLE;
}

/* Something that ends HLT (SDM 2A HLT; APM 3 HLT), or that the outer loop must look at. */
static bool has_wakeup(struct keel_vcpu *vcpu)
{
	if (vcpu->requests & (BIT(KEEL_REQ_UNHALT) | BIT(KEEL_REQ_DEAD)))
		return true;
	if (keel_lapic_has_init_sipi(vcpu))
		return true;
	if (vcpu->mp_state != KVM_MP_STATE_HALTED && vcpu->mp_state != KVM_MP_STATE_RUNNABLE)
		return false;
	if (vcpu->ev.exc.pending || vcpu->ev.triple_fault || READ_ONCE(vcpu->pv.unhalted))
		return true;
	/* Its interrupt may be masked; then HLT goes on. */
	if (keel_check_request(KEEL_REQ_TIMER, vcpu))
		keel_lapic_inject_timer(vcpu);
	if (keel_smi_pending(vcpu) && keel_smi_due(vcpu))
		return true;
	if (vcpu->ev.nmi.pending && !keel_ops->nmi_blocked(vcpu))
		return true;
	return keel_has_interrupt(vcpu) && keel_can_take_interrupt(vcpu);
}

/* The same once it has said no: what has come since has made a request. */
static bool wakes_now(struct keel_vcpu *vcpu)
{
	return READ_ONCE(vcpu->requests) && has_wakeup(vcpu);
}

static void wake(struct keel_vcpu *vcpu)
{
	vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	WRITE_ONCE(vcpu->pv.unhalted, false);
}

/* HLT with something to do already: it is over. An INIT or a start-up IPI is the outer loop's. */
static bool awake(struct keel_vcpu *vcpu)
{
	if (vcpu->mp_state != KVM_MP_STATE_HALTED || keel_lapic_has_events(vcpu) || !has_wakeup(vcpu))
		return false;
	wake(vcpu);
	return true;
}

/**
 * keel_vcpu_wake() - let a sleeping vCPU look at its events
 * @vcpu: any vCPU; callable from interrupts
 */
void keel_vcpu_wake(struct keel_vcpu *vcpu)
{
	if (rcuwait_wake_up(&vcpu->wait))
		WRITE_ONCE(vcpu->sched.ready, true);
}

/**
 * keel_vcpu_kick() - make a vCPU serve its requests soon, wherever it is
 * @vcpu: any vCPU, of which keel_request() has just been called; callable with interrupts off
 *
 * The IPI is sent only if the target is in guest mode; else it sees the request before it enters:
 * keel_request() before, and the barrier after mode is written in run_inner(), order the two. Who is in guest mode is not
 * asleep, and looks once more before that: set_current_state() in halt_sleep() is the barrier behind the mode.
 */
void keel_vcpu_kick(struct keel_vcpu *vcpu)
{
	int cpu;

	smp_mb__after_atomic();	/* the request before the mode */
	if (READ_ONCE(vcpu->mode) == KEEL_OUTSIDE) {
		keel_vcpu_wake(vcpu);
		return;
	}
	if (cmpxchg(&vcpu->mode, KEEL_IN_GUEST, KEEL_LEAVING) != KEEL_IN_GUEST)
		return;
	cpu = READ_ONCE(vcpu->cpu);
	if (cpu != raw_smp_processor_id())
		keel_send_reschedule(cpu);
}

static int serve_requests(struct keel_vcpu *vcpu)
	__must_hold(&vcpu->vm->srcu)
{
	vcpu->look = true;
	if (test_bit(KEEL_REQ_DEAD, &vcpu->requests))
		return -EIO;
	if (keel_check_request(KEEL_REQ_MMU_RELOAD, vcpu) && keel_shadow_load(vcpu))
		return -ENOMEM;
	if (keel_check_request(KEEL_REQ_INTERCEPTS, vcpu))
		keel_ops->vcpu_update(vcpu, KEEL_UPDATE_INTERCEPTS);
	if (keel_check_request(KEEL_REQ_APIC_PAGE, vcpu))
		keel_mmu_zap_gfns(vcpu->vm, KEEL_APIC_GFN, KEEL_APIC_GFN + 1);
	if (keel_check_request(KEEL_REQ_CLOCK, vcpu))
		keel_clock_update(vcpu);
	if (keel_check_request(KEEL_REQ_WALL_CLOCK, vcpu))
		keel_clock_write_wall(vcpu);
	if (keel_check_request(KEEL_REQ_STEAL, vcpu))
		keel_steal_update(vcpu);
	if (keel_check_request(KEEL_REQ_TIMER, vcpu))
		keel_lapic_inject_timer(vcpu);
	if (keel_smi_pending(vcpu) && keel_smi_due(vcpu) && vcpu_runnable(vcpu))
		keel_smm_enter(vcpu);
	if (keel_check_request(KEEL_REQ_TLB_FLUSH, vcpu))
		keel_tlb_flush(vcpu);
	clear_bit(KEEL_REQ_UNHALT, &vcpu->requests);
	if (keel_check_request(KEEL_REQ_RING_FULL, vcpu)) {
		int r = keel_dirty_ring_serve(vcpu);

		if (r <= 0)
			return r;
	}
	if (keel_check_request(KEEL_REQ_EOI_EXIT, vcpu)) {
		vcpu->run->exit_reason = KVM_EXIT_IOAPIC_EOI;
		vcpu->run->eoi.vector = vcpu->eoi_vector;
		return KEEL_TO_USER;
	}
	return KEEL_RESUME;
}

/*
 * Exits after which the events that wait are those that waited before: what their handlers raise, they request
 * KEEL_REQ_EVENT for, like everybody else who raises something.
 */
#define QUIET_EXITS	(BIT_ULL(KEEL_REASON_CPUID) | BIT_ULL(KEEL_REASON_RDMSR) | BIT_ULL(KEEL_REASON_WRMSR) | \
			 BIT_ULL(KEEL_REASON_IO) | BIT_ULL(KEEL_REASON_MMIO) | BIT_ULL(KEEL_REASON_HYPERCALL) | \
			 BIT_ULL(KEEL_REASON_NESTED_FAULT))

/*
 * The requests of WINDOW_REQUESTS, and what they lead to: interrupts off, nothing sleeps. Returns whether there were
 * any, and so perhaps an event.
 */
static bool window_requests(struct keel_vcpu *vcpu)
{
	if (!(READ_ONCE(vcpu->requests) & WINDOW_REQUESTS))
		return false;
	if (keel_check_request(KEEL_REQ_TIMER, vcpu))
		keel_lapic_inject_timer(vcpu);
	if (keel_check_request(KEEL_REQ_TLB_FLUSH, vcpu))
		keel_tlb_flush(vcpu);
	clear_bit(KEEL_REQ_UNHALT, &vcpu->requests);
	/* EVENT is cleared first: what arrives after this pass raises it anew. */
	clear_bit(KEEL_REQ_EVENT, &vcpu->requests);
	smp_mb__after_atomic();
	return true;
}

static bool host_wants_cpu(void)
{
	return keel_task_work_pending() || local_softirq_pending();
}

/* The task priority as the guest sees it, and whether its writes are of interest. */
static void sync_tpr_in(struct keel_vcpu *vcpu)
{
	u8 tpr = keel_get_cr8(vcpu);
	int irr;

	/* Writes of CR8 exit while an interrupt waits for it to drop; always when the client has the APIC. */
	irr = vcpu->apic ? keel_lapic_highest_irr(vcpu) : 0;
	keel_ops->vcpu_update_tpr(vcpu, tpr, irr >= 0 && irr >> 4 <= tpr, irr);
}

static void sync_state_out(struct keel_vcpu *vcpu)
{
	u8 tpr = keel_ops->vcpu_get_tpr(vcpu);

	vcpu->st_valid = KEEL_ST_RIP | KEEL_ST_DR;
	if (tpr != keel_get_cr8(vcpu))
		keel_put_cr8(vcpu, tpr);
}

/* May the vendor serve exits and enter again without coming back, until there is a request? */
static bool may_cycle(struct keel_vcpu *vcpu)
{
	return !vcpu->guest_debug && !vcpu->event_waits && !vcpu->pv.eoi_armed && !client_wants_window(vcpu) &&
	       !(vcpu->spec.sw.flags & KEEL_SPEC_L1D) && !trace_keel_entry_enabled() && !trace_keel_exit_enabled();
}

/*
 * Enter, handle the exit, enter again. Ends with what the last handler said, or with KEEL_RESUME when
 * the host or a request wants the window closed; *cold says that an exit waits for its handler.
 */
static int run_inner(struct keel_vcpu *vcpu, bool *cold)
{
	enum keel_exit_class class;
	int r;

	for (;;) {
		if (keel_smi_due(vcpu))
			return KEEL_RESUME;
		if (window_requests(vcpu) || vcpu->look || client_wants_window(vcpu)) {
			r = keel_inject_pending(vcpu);
			if (r != KEEL_RESUME)
				return r;
			/* The SMI comes after the event: an interrupt from this CPU to itself ends the entry then. */
			if (keel_smi_waits(vcpu) && keel_delivering(vcpu))
				keel_send_reschedule(smp_processor_id());
			sync_tpr_in(vcpu);
		}
		if (vcpu->st_dirty & ~KEEL_ST_RIP) {
			keel_ops->set_state(vcpu, vcpu->st_dirty);
			vcpu->st_dirty = 0;
		}

		WRITE_ONCE(vcpu->mode, KEEL_IN_GUEST);
		if (static_branch_unlikely(&keel_checked))
			vcpu->mmu.flush_needed = READ_ONCE(vcpu->vm->mmu.flush_done);
		smp_mb();	/* mode before requests: pairs with keel_vcpu_kick() */
		if (READ_ONCE(vcpu->requests) || host_wants_cpu()) {
			WRITE_ONCE(vcpu->mode, KEEL_OUTSIDE);
			keel_ops->vcpu_cancel(vcpu);
			vcpu->look = true;
			if (!(READ_ONCE(vcpu->requests) & ~WINDOW_REQUESTS) && !host_wants_cpu())
				continue;
			return KEEL_RESUME;
		}
		if (vcpu->pv.eoi_wanted)
			keel_pv_eoi_arm(vcpu);
		if (unlikely(vcpu->spec.sw.flags & KEEL_SPEC_L1D))
			keel_spec_flush_l1d(vcpu);
		trace_keel_entry(vcpu->id, vcpu->st.rip);
		vcpu->switch_pkru = keel_pkru_used(vcpu);
		vcpu->may_cycle = may_cycle(vcpu);
		class = static_call(vcpu_enter)(vcpu);
		*cold = class == KEEL_EXIT_COLD;
		trace_keel_exit(vcpu->id, vcpu->st.rip, vcpu->exit.reason, *cold);
		smp_store_release(&vcpu->mode, KEEL_OUTSIDE);
		if (class == KEEL_EXIT_SERVED) {
			r = vcpu->exit.result;
		} else {
			sync_state_out(vcpu);
			if (unlikely(vcpu->pv.eoi_armed) && keel_pv_eoi_sync(vcpu))
				*cold = true;
			r = *cold ? KEEL_RESUME : static_call(vcpu_handle_exit)(vcpu);
			*cold |= r == -EAGAIN;
			if (*cold) {
				/* The host's interrupts are none of the guest's. */
				vcpu->look = vcpu->event_waits || vcpu->exit.reason != KEEL_REASON_INTERRUPT;
				return KEEL_RESUME;
			}
		}
		vcpu->look = vcpu->event_waits || !(BIT_ULL(vcpu->exit.reason) & QUIET_EXITS);
		if (r != KEEL_RESUME || client_wants_window(vcpu) || vcpu->step_exit ||
		    (!vcpu_runnable(vcpu) && !awake(vcpu)))
			return r;
	}
}

/* What run_inner() has left to be done outside. */
static int finish_cold(struct keel_vcpu *vcpu, bool cold, int r)
{
	int srcu = srcu_read_lock(&vcpu->vm->srcu);

	if (unlikely(vcpu->pv.eoi_armed))
		keel_pv_eoi_sync(vcpu);
	if (cold)
		r = static_call(vcpu_handle_exit)(vcpu);
	srcu_read_unlock(&vcpu->vm->srcu, srcu);
	return r;
}

static int run_window(struct keel_vcpu *vcpu)
{
	bool cold = false;
	int r;

	keel_fpu_load(vcpu);
	local_irq_disable();
	/* Nothing sleeps: a page of the client's that is not there is for the handlers outside. */
	pagefault_disable();
	if (unlikely(!keel_hw_on())) {
		/* The host is going down (reboot, kexec): no guest runs any more. */
		pagefault_enable();
		local_irq_enable();
		keel_fpu_put(vcpu);
		return -EIO;
	}
	vtime_account_guest_enter();
	if (unlikely(keel_clock_stale(vcpu)))
		keel_request(KEEL_REQ_CLOCK, vcpu);
	if (unlikely(vcpu->cpu != smp_processor_id())) {
		vcpu->cpu = smp_processor_id();
		keel_lapic_move_timer(vcpu);
	}
	vcpu->in_window = true;
	keel_spec_window_open(vcpu);
	r = keel_ops->window_open(vcpu);
	if (likely(!r)) {
		keel_hostregs_load(vcpu);
		if (static_branch_unlikely(&keel_crash_key))
			keel_crash_here();
		r = run_inner(vcpu, &cold);
		if (need_resched())
			WRITE_ONCE(vcpu->sched.in_kernel, !keel_st(vcpu, KEEL_ST_CODE)->cpl);
		keel_hostregs_restore(vcpu);
		keel_ops->window_close(vcpu);
		keel_spec_window_close(vcpu);
	}
	vcpu->in_window = false;
	/* A preemptible kernel takes the CPU away before the loop looks whether it should. */
	vcpu->pv.at_boundary = r == KEEL_RESUME && (!cold || vcpu->exit.reason == KEEL_REASON_INTERRUPT);
	pagefault_enable();
	/* A tick that ended the guest's turn is taken here, and still counted as guest time. */
	local_irq_enable();
	local_irq_disable();
	vtime_account_guest_exit();
	local_irq_enable();
	keel_fpu_put(vcpu);
	vcpu->pv.at_boundary = false;
	return unlikely(cold || vcpu->pv.eoi_armed) ? finish_cold(vcpu, cold, r) : r;
}

/* Sleep until there is something to do. Always KEEL_RESUME: the outer loop looks at signals. */
static int block(struct keel_vcpu *vcpu)
{
	keel_lapic_timer_to_host(vcpu);
	if (!has_wakeup(vcpu) && !keel_halt(vcpu, wakes_now))
		return KEEL_RESUME;
	if (vcpu->mp_state == KVM_MP_STATE_HALTED)
		wake(vcpu);
	return KEEL_RESUME;
}

static int interpret(struct keel_vcpu *vcpu)
{
	int srcu = srcu_read_lock(&vcpu->vm->srcu);
	int r = keel_interpret(vcpu);

	srcu_read_unlock(&vcpu->vm->srcu, srcu);
	vcpu->look = true;
	return r;
}

/* The emulator's turn, where the VM is set to it (interpret.c). */
static int run_interpreted(struct keel_vcpu *vcpu)
{
	bool delivered;
	int srcu, r;

	if (vcpu->vm->execution != KEEL_EXECUTION_TRAPPED)
		return interpret(vcpu);
	srcu = srcu_read_lock(&vcpu->vm->srcu);
	r = keel_interpret_event(vcpu, &delivered);
	srcu_read_unlock(&vcpu->vm->srcu, srcu);
	vcpu->look = true;
	return r != KEEL_RESUME || delivered ? r : run_window(vcpu);
}

/* By the CPU, or by the emulator for as long as the CPU cannot have the guest in this state. */
static int run_direct(struct keel_vcpu *vcpu)
{
	int r = run_window(vcpu);

	if (likely(r != -EOPNOTSUPP))
		return r;
	keel_lapic_timer_to_host(vcpu);
	vcpu->interpreting = true;
	r = interpret(vcpu);
	vcpu->interpreting = false;
	return r;
}

/* Requests of others, INIT and start-up IPIs. */
static int attend(struct keel_vcpu *vcpu)
{
	int srcu = srcu_read_lock(&vcpu->vm->srcu);
	int r = serve_requests(vcpu);

	if (r > 0)
		keel_lapic_accept_events(vcpu);
	srcu_read_unlock(&vcpu->vm->srcu, srcu);
	return r;
}

static int run_loop(struct keel_vcpu *vcpu)
{
	int r;

	/* Not before: KVM_RUN with immediate_exit leaves the reason that the client is still looking at. */
	vcpu->run->exit_reason = KVM_EXIT_UNKNOWN;
	for (;;) {
		if (unlikely(vcpu->step_exit)) {
			vcpu->step_exit = false;
			r = keel_exit_debug(vcpu, DR_STEP, X86_TRAP_DB);
			break;
		}
		if (unlikely((READ_ONCE(vcpu->requests) & ~BIT(KEEL_REQ_EVENT)) || keel_smi_due(vcpu) ||
			     keel_lapic_has_events(vcpu))) {
			r = attend(vcpu);
			if (r <= 0)
				break;
		}
		if (!vcpu_runnable(vcpu))
			r = block(vcpu);
		else if (likely(vcpu->vm->execution == KEEL_EXECUTION_DIRECT))
			r = run_direct(vcpu);
		else
			r = run_interpreted(vcpu);
		if (r == -EINTR)
			vcpu->run->exit_reason = KVM_EXIT_INTR;
		if (r <= 0)
			break;
		if (client_wants_window(vcpu) && ready_for_client_interrupt(vcpu)) {
			vcpu->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
			r = KEEL_TO_USER;
			break;
		}
		if (keel_task_work_pending()) {
			vcpu->pv.at_boundary = true;
			r = keel_handle_task_work();
			vcpu->pv.at_boundary = false;
			if (r) {
				vcpu->run->exit_reason = KVM_EXIT_INTR;
				break;
			}
		}
	}
	return r;
}

static int complete_exit(struct keel_vcpu *vcpu)
{
	int (*complete)(struct keel_vcpu *vcpu) = vcpu->complete;

	if (!complete)
		return KEEL_RESUME;
	vcpu->complete = NULL;
	return complete(vcpu);
}

static int run_not_started(struct keel_vcpu *vcpu)
{
	int srcu;

	if (keel_immediate_exit(vcpu->run))
		return -EINTR;
	block(vcpu);
	srcu = srcu_read_lock(&vcpu->vm->srcu);
	keel_lapic_accept_events(vcpu);
	srcu_read_unlock(&vcpu->vm->srcu, srcu);
	if (!signal_pending(current))
		return -EAGAIN;
	vcpu->run->exit_reason = KVM_EXIT_INTR;
	return -EINTR;
}

static int run_checked(struct keel_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	int r;

	if (unlikely(vcpu->mp_state == KVM_MP_STATE_UNINITIALIZED))
		return run_not_started(vcpu);
	r = keel_sync_regs_in(vcpu);
	if (r)
		return r;
	if (!vcpu->apic) {
		u64 cr8 = READ_ONCE(run->cr8);

		if (cr8 & ~0xfULL)
			return -EINVAL;
		if (cr8 != vcpu->cr8) {
			keel_put_cr8(vcpu, cr8);
			vcpu->look = true;
		}
	}
	r = complete_exit(vcpu);
	if (r <= 0)
		return r;
	if (keel_immediate_exit(run))
		return -EINTR;
	return run_loop(vcpu);
}

static void publish_state(struct keel_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	run->flags = vcpu->smm.in ? KVM_RUN_X86_SMM : 0;
	run->if_flag = !!(vcpu->st.rflags & X86_EFLAGS_IF);
	run->cr8 = keel_get_cr8(vcpu);
	run->apic_base = keel_lapic_get_base(vcpu);
	run->ready_for_interrupt_injection =
		keel_irqchip_in_kernel(&vcpu->vm->irqchip) || ready_for_client_interrupt(vcpu);
}

/**
 * keel_vcpu_run() - KVM_RUN
 * @vcpu: the vCPU, locked
 *
 * Return: 0 with the exit reason in kvm_run; -EINTR a signal or immediate_exit; -EAGAIN an AP that was
 * not started; -EINVAL bad fields in kvm_run; -EFAULT guest memory that the client cannot reach; -EIO the
 * VM is dead
 */
int keel_vcpu_run(struct keel_vcpu *vcpu)
{
	sigset_t saved;
	int r;

	if (READ_ONCE(vcpu->vm->dead))
		return -EIO;
	if (vcpu->sigset_active) {
		sigprocmask(SIG_SETMASK, &vcpu->sigset, &saved);
		current->real_blocked = saved;
	}
	vcpu->error = NULL;

	keel_sched_begin(vcpu);
	keel_stats_run(vcpu);
	r = run_checked(vcpu);
	keel_stats_rest(vcpu, KEEL_ACT_USER);
	keel_sched_end(vcpu);
	vcpu->stats.user_exits += !r;

	if (unlikely(READ_ONCE(vcpu->vm->dead) || vcpu->error != vcpu->told_error))
		keel_vcpu_report(vcpu);
	publish_state(vcpu);
	keel_sync_regs_out(vcpu);
	if (vcpu->sigset_active) {
		sigprocmask(SIG_SETMASK, &saved, NULL);
		sigemptyset(&current->real_blocked);
	}
	return r;
}
