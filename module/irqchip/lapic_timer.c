// SPDX-License-Identifier: GPL-2.0-only
/*
 * The local APIC timer: one-shot, periodic and TSC-deadline (SDM 3A, 11.5.4), each on one hrtimer.
 *
 * One-shot and periodic counts run at 1 GHz by the host's monotonic clock. A deadline is compared
 * with the guest's TSC itself: the two clocks drift apart, so an hrtimer that expires before the
 * guest's TSC has reached the deadline goes to sleep again.
 *
 * The callback runs in hardirq context on any CPU and takes no lock. It only sets timer.pending and
 * KEEL_REQ_TIMER; the vCPU's thread raises the interrupt. That thread cancels the hrtimer before it
 * changes anything the callback reads.
 *
 * The hrtimer is pinned to the CPU on which the vCPU runs, and moves with it: its expiry is then the
 * interrupt that ends guest mode, where on another CPU it would have to send one.
 */
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/moduleparam.h>
#include <asm/tsc.h>

#include "lapic.h"

/* hrtimers are not throttled by the host's scheduler: what a guest may ask of them has a bound. */
unsigned int keel_min_timer_period_us = 200;
module_param_named(min_timer_period_us, keel_min_timer_period_us, uint, 0644);
MODULE_PARM_DESC(min_timer_period_us, "Shortest period of a guest's timers, in microseconds");

/* Longest sleep for a deadline; the callback sleeps on. Keeps the arithmetic within 64 bits. */
#define MAX_DEADLINE_SECONDS	1000

static bool timer_is_deadline(const struct keel_lapic *apic)
{
	return apic->timer.mode == APIC_LVT_TIMER_TSCDEADLINE;
}

static bool timer_is_periodic(const struct keel_lapic *apic)
{
	return apic->timer.mode == APIC_LVT_TIMER_PERIODIC;
}

/* Host time at which the guest's TSC will have advanced by @cycles, rounded up. */
static ktime_t deadline_expiry(u64 cycles)
{
	u32 khz = tsc_khz ?: 1000000;	/* 0: the host never calibrated it */

	cycles = min_t(u64, cycles, (u64)khz * 1000 * MAX_DEADLINE_SECONDS);
	return ktime_add_ns(ktime_get(), div_u64(cycles * 1000000, khz) + 1);
}

static void timer_expired(struct keel_lapic *apic, bool from_callback)
{
	struct keel_vcpu *vcpu = apic->vcpu;

	if (atomic_xchg(&apic->timer.pending, 1))
		return;
	keel_request(KEEL_REQ_TIMER, vcpu);
	if (from_callback)
		keel_vcpu_kick(vcpu);
}

/* Periods that went by unnoticed are not made up for: one interrupt stands for all of them. */
static void timer_advance(struct keel_lapic *apic)
{
	ktime_t now = ktime_get();
	ktime_t target = ktime_add_ns(apic->timer.target, apic->timer.period);

	WRITE_ONCE(apic->timer.target, ktime_before(target, now) ? now : target);
}

static enum hrtimer_restart timer_callback(struct hrtimer *hrtimer)
{
	struct keel_lapic *apic = container_of(hrtimer, struct keel_lapic, timer.timer);

	if (timer_is_deadline(apic)) {
		u64 now = keel_guest_tsc(apic->vcpu);

		if (now < apic->timer.deadline) {
			hrtimer_set_expires(hrtimer, deadline_expiry(apic->timer.deadline - now));
			return HRTIMER_RESTART;
		}
	}
	timer_expired(apic, true);
	if (!timer_is_periodic(apic) || !apic->timer.period)
		return HRTIMER_NORESTART;
	timer_advance(apic);
	hrtimer_set_expires(hrtimer, apic->timer.target);
	return HRTIMER_RESTART;
}

static void host_timer_start(struct keel_lapic_timer *t, ktime_t expiry)
{
	t->started = true;
	hrtimer_start(&t->timer, expiry, HRTIMER_MODE_ABS_PINNED_HARD);
}

/* Was it running? */
static bool host_timer_stop(struct keel_lapic_timer *t)
{
	if (!t->started)
		return false;
	t->started = false;
	return hrtimer_cancel(&t->timer);
}

static __always_inline void deadline_start(struct keel_lapic *apic)
{
	struct keel_lapic_timer *t = &apic->timer;
	u64 now;

	if (!t->deadline)
		return;
	now = keel_guest_tsc(apic->vcpu);
	if (t->deadline <= now)
		timer_expired(apic, false);
	else if (apic->vcpu->virt_timer && apic->vcpu->in_window)
		apic->vcpu->cpu_deadline = t->deadline;
	else
		host_timer_start(t, deadline_expiry(t->deadline - now));
}

/* Starts the hrtimer for the target or deadline that is set, or expires at once. */
static void timer_start(struct keel_lapic *apic)
{
	struct keel_lapic_timer *t = &apic->timer;

	if (timer_is_deadline(apic)) {
		deadline_start(apic);
		return;
	}

	if (!t->period)
		return;
	if (!ktime_after(t->target, ktime_get())) {
		timer_expired(apic, false);
		if (!timer_is_periodic(apic))
			return;
		timer_advance(apic);
	}
	host_timer_start(t, t->target);
}

static void timer_cancel(struct keel_lapic *apic)
{
	host_timer_stop(&apic->timer);
	apic->vcpu->cpu_deadline = 0;
	atomic_set(&apic->timer.pending, 0);
}

/* Sets the period from TMICT and the divider; false: the timer stands still. */
static bool timer_set_period(struct keel_lapic *apic)
{
	struct keel_lapic_timer *t = &apic->timer;

	t->period = (u64)lapic_reg(apic, APIC_TMICT) * t->divide;
	if (t->period && timer_is_periodic(apic))
		t->period = max_t(u64, t->period, (u64)READ_ONCE(keel_min_timer_period_us) * 1000);
	return t->period;
}

static void timer_load_divide(struct keel_lapic *apic)
{
	u32 tdcr = lapic_reg(apic, APIC_TDCR);
	u32 shift = (tdcr & 3) | (tdcr & 8) >> 1;

	/* 0 is divide by 2 and so on to 128; 7 is divide by 1 (SDM 3A, figure 11-10). */
	apic->timer.divide = 1U << ((shift + 1) & 7);
}

void lapic_timer_init(struct keel_lapic *apic)
{
	keel_hrtimer_setup(&apic->timer.timer, timer_callback, CLOCK_MONOTONIC,
			   HRTIMER_MODE_ABS_HARD);
	apic->timer.divide = 2;
}

/* Back to the state after a reset; TMICT, TDCR and LVTT are already reset. */
void lapic_timer_stop(struct keel_lapic *apic)
{
	timer_cancel(apic);
	apic->timer.period = 0;
	apic->timer.deadline = 0;
	apic->timer.mode = lapic_reg(apic, APIC_LVTT) & lapic_timer_mode_mask(apic);
	timer_load_divide(apic);
}

/* Bits of LVTT's mode field that this guest has. */
u32 lapic_timer_mode_mask(const struct keel_lapic *apic)
{
	if (keel_guest_has(apic->vcpu, KEEL_F_TSC_DEADLINE))
		return APIC_LVT_TIMER_PERIODIC | APIC_LVT_TIMER_TSCDEADLINE;
	return APIC_LVT_TIMER_PERIODIC;
}

/* LVTT was written. To and from deadline mode the timer is disarmed; otherwise it counts on. */
void lapic_timer_set_mode(struct keel_lapic *apic)
{
	struct keel_lapic_timer *t = &apic->timer;
	u32 mode = lapic_reg(apic, APIC_LVTT) & lapic_timer_mode_mask(apic);
	bool was_running;

	if (mode == t->mode)
		return;
	was_running = host_timer_stop(t);
	apic->vcpu->cpu_deadline = 0;
	if (timer_is_deadline(apic) || mode == APIC_LVT_TIMER_TSCDEADLINE) {
		atomic_set(&t->pending, 0);
		lapic_set_reg(apic, APIC_TMICT, 0);
		t->period = 0;
		t->deadline = 0;
		t->mode = mode;
		return;
	}
	t->mode = mode;
	timer_set_period(apic);
	if (was_running)
		timer_start(apic);
}

/* TMICT is written with @count: starts, or with 0 stops, the one-shot or periodic timer. */
void lapic_timer_set_count(struct keel_lapic *apic, u32 count)
{
	if (timer_is_deadline(apic))
		return;
	timer_cancel(apic);
	lapic_set_reg(apic, APIC_TMICT, count);
	if (!timer_set_period(apic))
		return;
	apic->timer.target = ktime_add_ns(ktime_get(), apic->timer.period);
	timer_start(apic);
}

/* TDCR is written: what is left of the count runs on at the new speed. */
void lapic_timer_set_divide(struct keel_lapic *apic, u32 val)
{
	struct keel_lapic_timer *t = &apic->timer;
	u32 old = t->divide;
	bool was_running;
	ktime_t now;
	s64 left;

	lapic_set_reg(apic, APIC_TDCR, val & 0xb);
	was_running = host_timer_stop(t);
	timer_load_divide(apic);
	if (t->divide != old && t->period && !timer_is_deadline(apic)) {
		now = ktime_get();
		left = max_t(s64, ktime_to_ns(ktime_sub(t->target, now)), 0);
		timer_set_period(apic);
		t->target = ktime_add_ns(now, div_u64((u64)left * t->divide, old));
	}
	if (was_running)
		timer_start(apic);
}

/* Register state was replaced by the client: TMCCT says where the count stood. */
void lapic_timer_restore(struct keel_lapic *apic)
{
	struct keel_lapic_timer *t = &apic->timer;
	u32 mode = lapic_reg(apic, APIC_LVTT) & lapic_timer_mode_mask(apic);
	u64 left;

	timer_cancel(apic);
	if (t->mode != mode) {
		t->mode = mode;
		t->deadline = 0;
	}
	t->period = 0;
	timer_load_divide(apic);
	if (timer_is_deadline(apic)) {
		timer_start(apic);
	} else if (timer_set_period(apic)) {
		left = min((u64)lapic_reg(apic, APIC_TMCCT) * t->divide, t->period);
		if (!left && timer_is_periodic(apic))
			left = t->period;
		t->target = ktime_add_ns(ktime_get(), left);
		timer_start(apic);
	}
	lapic_set_reg(apic, APIC_TMCCT, 0);
}

/* The value of TMCCT now. */
u32 lapic_timer_count(const struct keel_lapic *apic)
{
	const struct keel_lapic_timer *t = &apic->timer;
	s64 left;

	if (timer_is_deadline(apic) || !t->period || !lapic_reg(apic, APIC_TMICT))
		return 0;
	left = ktime_to_ns(ktime_sub(READ_ONCE(t->target), ktime_get()));
	if (left <= 0)
		return 0;
	if (left > t->period)
		left = t->period;
	return div_u64(left, t->divide);
}

/**
 * keel_lapic_get_deadline() - IA32_TSC_DEADLINE
 * @vcpu: the vCPU, locked
 *
 * Return: guest TSC at which the timer expires; 0 when it is disarmed or in another mode
 */
u64 keel_lapic_get_deadline(struct keel_vcpu *vcpu)
{
	struct keel_lapic *apic = vcpu->apic;

	if (!apic || !lapic_hw_enabled(apic) || !timer_is_deadline(apic))
		return 0;
	return apic->timer.deadline;
}

/**
 * keel_lapic_set_deadline() - write IA32_TSC_DEADLINE (SDM 3A, 11.5.4.1)
 * @vcpu: the vCPU, locked
 * @tsc: guest TSC at which the interrupt comes, 0 disarms; ignored unless LVTT is in deadline mode
 */
void keel_lapic_set_deadline(struct keel_vcpu *vcpu, u64 tsc)
{
	struct keel_lapic *apic = vcpu->apic;

	if (!apic || !lapic_hw_enabled(apic) || !timer_is_deadline(apic))
		return;
	timer_cancel(apic);
	apic->timer.deadline = tsc;
	deadline_start(apic);
}

/**
 * keel_lapic_tsc_changed() - the guest's TSC jumped: a deadline is now at another host time
 * @vcpu: the vCPU, locked
 */
void keel_lapic_tsc_changed(struct keel_vcpu *vcpu)
{
	struct keel_lapic *apic = vcpu->apic;

	if (!apic || !timer_is_deadline(apic))
		return;
	/* An expired deadline stays expired: it has been reached once. */
	if (host_timer_stop(&apic->timer) || vcpu->cpu_deadline) {
		vcpu->cpu_deadline = 0;
		timer_start(apic);
	}
}

/**
 * keel_lapic_timer_fired() - the CPU's own timer ended the guest's run; it may have been early
 * @vcpu: the vCPU, locked
 */
void keel_lapic_timer_fired(struct keel_vcpu *vcpu)
{
	if (!vcpu->cpu_deadline || keel_guest_tsc(vcpu) < vcpu->cpu_deadline)
		return;
	vcpu->cpu_deadline = 0;
	timer_expired(vcpu->apic, false);
}

/**
 * keel_lapic_timer_to_host() - the vCPU is about to sleep: its deadline goes to an hrtimer
 * @vcpu: the vCPU, locked, outside the window
 */
void keel_lapic_timer_to_host(struct keel_vcpu *vcpu)
{
	if (!vcpu->cpu_deadline)
		return;
	vcpu->cpu_deadline = 0;
	timer_start(vcpu->apic);
}

/**
 * keel_lapic_move_timer() - the vCPU has come to another CPU: its timer follows
 * @vcpu: the vCPU, locked, interrupts off
 */
void keel_lapic_move_timer(struct keel_vcpu *vcpu)
{
	struct hrtimer *timer;

	if (!vcpu->apic || !vcpu->apic->timer.started)
		return;
	timer = &vcpu->apic->timer.timer;
	/* One whose callback runs right now stays where it is. */
	if (hrtimer_try_to_cancel(timer) > 0)
		hrtimer_start_expires(timer, HRTIMER_MODE_ABS_PINNED_HARD);
}

/**
 * keel_lapic_inject_timer() - serve KEEL_REQ_TIMER: raise the timer's interrupt
 * @vcpu: the vCPU, locked; interrupts may be off
 */
void keel_lapic_inject_timer(struct keel_vcpu *vcpu)
{
	struct keel_lapic *apic = vcpu->apic;

	if (!apic || !atomic_xchg(&apic->timer.pending, 0))
		return;
	lapic_local_deliver(apic, APIC_LVTT);
	if (timer_is_deadline(apic))
		apic->timer.deadline = 0;
}
