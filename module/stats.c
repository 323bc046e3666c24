// SPDX-License-Identifier: GPL-2.0-only
/*
 * A vCPU's time and exits: the slow side of stats.h.
 *
 * The thread that has vcpu->mutex writes, also from its preempt notifier, which runs in that thread; netlink.c and
 * the statistics file descriptor read without a lock.
 */
#include <linux/math64.h>
#include <linux/slab.h>
#include <asm/tsc.h>

#include "ops.h"

/**
 * keel_stats_create() - a new vCPU
 * @vcpu: the vCPU, not yet visible
 *
 * Return: 0 or -ENOMEM
 */
int keel_stats_create(struct keel_vcpu *vcpu)
{
	vcpu->stats.exits = kcalloc(KEEL_NR_REASONS, sizeof(struct keel_exit_stats), GFP_KERNEL_ACCOUNT);
	return vcpu->stats.exits ? 0 : -ENOMEM;
}

/**
 * keel_stats_destroy() - undo keel_stats_create()
 * @vcpu: the vCPU; nobody reads its counters any more
 */
void keel_stats_destroy(struct keel_vcpu *vcpu)
{
	kfree(vcpu->stats.exits);
}

/**
 * keel_stats_thread() - see how long the vCPU's thread has waited for a CPU
 * @vcpu: the vCPU, locked, in its thread
 * @same: this thread also was the last one to be looked at
 */
void keel_stats_thread(struct keel_vcpu *vcpu, bool same)
{
	struct keel_vcpu_stats *s = &vcpu->stats;
	u64 delay = keel_run_delay();

	if (same)
		s->steal += delay - s->steal_seen;
	s->steal_seen = delay;
}

/**
 * keel_stats_run() - the vCPU's thread is in KVM_RUN and on a CPU again
 * @vcpu: the vCPU, locked, in its thread
 */
void keel_stats_run(struct keel_vcpu *vcpu)
{
	struct keel_vcpu_stats *s = &vcpu->stats;
	u64 now = rdtsc();

	if (s->activity == KEEL_ACT_OFF)
		s->off += now - s->stamp;
	else if (s->activity == KEEL_ACT_USER)
		s->user += now - s->stamp;
	s->stamp = now;
	WRITE_ONCE(s->activity, KEEL_ACT_RUN);
}

/**
 * keel_stats_rest() - it leaves KVM_RUN, or its CPU
 * @vcpu: the vCPU, locked, in its thread, not in its window
 * @activity: KEEL_ACT_OFF or KEEL_ACT_USER
 *
 * What the last exit costs is not yet known, but that it was.
 */
void keel_stats_rest(struct keel_vcpu *vcpu, enum keel_activity activity)
{
	struct keel_vcpu_stats *s = &vcpu->stats;
	u64 now = rdtsc();

	s->cost += now - s->stamp;
	s->stamp = now;
	s->exits[vcpu->exit.reason].count += s->uncounted;
	s->uncounted = 0;
	WRITE_ONCE(s->activity, activity);
}

/**
 * keel_stats_exits() - how often a vCPU left the guest
 * @vcpu: any vCPU
 */
u64 keel_stats_exits(const struct keel_vcpu *vcpu)
{
	u64 sum = 0;
	int i;

	for (i = 0; i < KEEL_NR_REASONS; i++)
		sum += READ_ONCE(vcpu->stats.exits[i].count);
	return sum;
}

static u64 ticks_to_ns(u64 ticks)
{
	return tsc_khz ? mul_u64_u64_div_u64(ticks, NSEC_PER_MSEC, tsc_khz) : ticks;
}

/* To @t in ticks: what has been counted, and what has passed since by what the thread does now. */
static void read_ticks(const struct keel_vcpu *vcpu, u64 stamp, struct keel_vcpu_times *t)
{
	const struct keel_vcpu_stats *s = &vcpu->stats;
	s64 since = rdtsc() - stamp;
	int i;

	t->guest = READ_ONCE(s->guest);
	t->kernel = READ_ONCE(s->cost);
	t->user = READ_ONCE(s->user);
	t->off = READ_ONCE(s->off);
	for (i = 0; i < KEEL_NR_REASONS; i++)
		t->kernel += READ_ONCE(s->exits[i].ticks);
	if (since < 0)
		return;
	switch (READ_ONCE(s->activity)) {
	case KEEL_ACT_RUN:
		if (READ_ONCE(vcpu->mode) == KEEL_OUTSIDE)
			t->kernel += since;
		else
			t->guest += since;
		break;
	case KEEL_ACT_OFF:
		t->off += since;
		break;
	case KEEL_ACT_USER:
		t->user += since;
		break;
	}
}

/**
 * keel_stats_times() - where a vCPU's time went
 * @vcpu: any vCPU
 * @times: for the result
 *
 * A vCPU that exits all the time may be met between two words of its counters: then by an exit's cost wrong.
 */
void keel_stats_times(const struct keel_vcpu *vcpu, struct keel_vcpu_times *times)
{
	const struct keel_vcpu_stats *s = &vcpu->stats;
	int tries = 4;
	u64 stamp;

	do {
		stamp = READ_ONCE(s->stamp);
		smp_rmb();	/* what was counted up to the stamp is read after it */
		read_ticks(vcpu, stamp, times);
		smp_rmb();
	} while (READ_ONCE(s->stamp) != stamp && --tries);
	times->guest = ticks_to_ns(times->guest);
	times->kernel = ticks_to_ns(times->kernel);
	times->user = ticks_to_ns(times->user);
	times->off = ticks_to_ns(times->off);
	times->steal = READ_ONCE(s->steal);
}
