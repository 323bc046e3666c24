/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a vCPU did and what it cost: always counted, by the vCPU's own thread, in plain words.
 *
 * Two reads of the time stamp counter an exit cut a vCPU's time into the guest's and ours. What passes between an
 * exit and the next entry is that exit's cost; it stands still while the thread is not on a CPU and while it is not
 * in KVM_RUN. Whoever reads the counters takes no lock: they are exact when the vCPU's thread rests, and true but
 * for the last moment when it runs.
 */
#ifndef KEEL_STATS_H
#define KEEL_STATS_H

#include <linux/bitops.h>
#include <linux/keel.h>
#include <linux/minmax.h>
#include <linux/types.h>
#include <asm/msr.h>

struct keel_vcpu;

/* One reason's exits. KEEL_REASON_* of them make two pages. */
struct keel_exit_stats {
	u64 count;
	u64 ticks;			/* all that they cost, of the host's TSC */
	u64 hist[KEEL_COST_BUCKETS];
};

/* Where a vCPU's thread is, guest mode being part of KVM_RUN: keel_vcpu.mode tells. */
enum keel_activity {
	KEEL_ACT_NEW,			/* never in KVM_RUN */
	KEEL_ACT_RUN,			/* in KVM_RUN, on a CPU */
	KEEL_ACT_OFF,			/* in KVM_RUN, asleep or waiting for a CPU */
	KEEL_ACT_USER,			/* has left KVM_RUN */
};

/**
 * struct keel_vcpu_stats - counters of a vCPU
 * @exits: one for each KEEL_REASON_*
 * @stamp: TSC of the last change of activity, entry or exit
 * @cost: ticks of the current exit up to @stamp
 * @uncounted: 1 when the current exit is not yet in its count
 * @activity: enum keel_activity
 * @guest: ticks in the guest
 * @off: ticks in KVM_RUN without a CPU
 * @user: ticks outside KVM_RUN since the first
 * @steal: ns of the vCPU's threads that they waited for a CPU
 * @steal_seen: what this thread had waited in its life when that was last looked at
 * @user_exits: KVM_RUN returned 0
 * @fast_faults: nested faults that ended without a lock
 * @waited_faults: faults that found mmu.lock taken by who changes what is mapped
 * @exclusive_faults: faults that had to take it so themselves
 * @halts: the vCPU had to wait in HLT
 * @halt_polls: of those, polled
 * @halt_poll_hits: of those, did not need to sleep
 * @yields_tried: a CPU was offered to another vCPU
 * @yields_done: of those, taken
 */
struct keel_vcpu_stats {
	struct keel_exit_stats *exits;
	u64 stamp;
	u64 cost;
	u32 uncounted;
	u32 activity;
	u64 guest, off, user;
	u64 steal, steal_seen;
	u64 user_exits;
	u64 fast_faults, waited_faults, exclusive_faults;
	u64 halts, halt_polls, halt_poll_hits;
	u64 yields_tried, yields_done;
};

/* A vCPU's time since its first KVM_RUN in ns; @steal is a part of @off and of @user. */
struct keel_vcpu_times {
	u64 guest, kernel, user, off, steal;
};

int keel_stats_create(struct keel_vcpu *vcpu);
void keel_stats_destroy(struct keel_vcpu *vcpu);
void keel_stats_thread(struct keel_vcpu *vcpu, bool same);
void keel_stats_run(struct keel_vcpu *vcpu);
void keel_stats_rest(struct keel_vcpu *vcpu, enum keel_activity activity);
u64 keel_stats_exits(const struct keel_vcpu *vcpu);
void keel_stats_times(const struct keel_vcpu *vcpu, struct keel_vcpu_times *times);

/* Right before the world switch: the last exit, @reason, has cost what it has. */
static __always_inline void keel_stats_entry(struct keel_vcpu_stats *s, u8 reason)
{
	struct keel_exit_stats *e = &s->exits[reason];
	u64 now = rdtsc();
	u64 cost = s->cost + now - s->stamp;

	s->stamp = now;
	s->cost = 0;
	e->count += s->uncounted;
	e->ticks += cost;
	e->hist[min(fls64(cost), KEEL_COST_BUCKETS - 1)]++;
}

/* The same for an exit that was served at once: nothing of it has been counted yet. */
static __always_inline void keel_stats_served(struct keel_vcpu_stats *s, u8 reason)
{
	struct keel_exit_stats *e = &s->exits[reason];
	u64 now = rdtsc();
	u64 cost = now - s->stamp;

	s->stamp = now;
	e->count++;
	e->ticks += cost;
	e->hist[min(fls64(cost), KEEL_COST_BUCKETS - 1)]++;
}

/* Right after it, @again if keel_stats_served() came before. The vendor then names the reason. */
static __always_inline void keel_stats_exit(struct keel_vcpu_stats *s, bool again)
{
	u64 now = rdtsc();

	s->guest += now - s->stamp;
	s->stamp = now;
	if (!again)
		s->uncounted = 1;
}

#endif /* KEEL_STATS_H */
