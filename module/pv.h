/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What pv.c and sched.c keep for each vCPU: the paravirtual features that the guest has switched on, and
 * what the vCPU's thread and the host's scheduler have to know of each other.
 *
 * All of it belongs to the vCPU's thread (vcpu->mutex) but for the fields that say otherwise.
 */
#ifndef KEEL_PV_H
#define KEEL_PV_H

#include <linux/preempt.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct keel_vcpu;
struct keel_vm;
struct pid;

/* A hypercall: the number, the guest's general registers, which have the arguments, and the result for RAX. */
struct keel_hypercall {
	u64 nr;
	const u64 *gpr;
	bool wide;		/* of 64-bit mode; in others all are cut to 32 bits */
	long ret;
};

/**
 * struct keel_pv - paravirtual features of a vCPU
 * @leaf: where the guest's CPUID has KVM's features: 0x40000001 or the like; 0: nowhere
 * @features: EAX of @leaf
 * @enforce: KVM_CAP_ENFORCE_PV_FEATURE_CPUID: what is not in @features does not exist
 * @eoi_msr: MSR_KVM_PV_EOI_EN
 * @eoi_wanted: an interrupt went in service since the last entry
 * @eoi_armed: the guest's flag is set, and must be looked at after the exit
 * @steal_msr: MSR_KVM_STEAL_TIME
 * @steal_seen: keel_vcpu_stats.steal when the guest was last told
 * @steal_preempted: KVM_VCPU_PREEMPTED stands in the guest's page
 * @at_boundary: between two instructions of the guest, with nothing half done for it
 * @unhalted: another vCPU's KVM_HC_KICK_CPU; ends the current or the next HLT. Written by any thread
 * @poll_control: MSR_KVM_POLL_CONTROL, bit 0: the host may poll while the vCPU halts
 * @call: the last hypercall that was served between two entries (hot.h): all in 64-bit mode
 */
struct keel_pv {
	u32 leaf;
	u32 features;
	bool enforce;
	u64 eoi_msr;
	bool eoi_wanted;
	bool eoi_armed;
	u64 steal_msr;
	u64 steal_seen;
	bool steal_preempted;
	bool at_boundary;
	bool unhalted;
	u64 poll_control;
	struct keel_hypercall call;
};

/**
 * struct keel_sched - a vCPU and the host's scheduler
 * @notifier: registered while KVM_RUN runs
 * @pid_lock: guards @pid against those who yield to it
 * @pid: the thread of the last KVM_RUN, with a reference
 * @preempted: lost its CPU while it wanted to run; read by any thread, as are the next four
 * @ready: preempted, or woken and not yet running
 * @in_kernel: the guest was at CPL 0 when its last window closed
 * @spinning: in keel_exit_pause()
 * @eligible: spinning, but was passed over last time
 * @halt_poll_ns: how long the next HLT polls before the thread sleeps
 * @ple_window: PAUSEs in a loop that the vendor lets pass before it calls keel_exit_pause()
 */
struct keel_sched {
	struct preempt_notifier notifier;
	spinlock_t pid_lock;
	struct pid *pid;
	bool preempted, ready, in_kernel, spinning, eligible;
	unsigned int halt_poll_ns;
	unsigned int ple_window;
};

/* pv.c */
u32 keel_pv_supported(void);
void keel_pv_reset(struct keel_vcpu *vcpu, bool init);
void keel_pv_set_enforce(struct keel_vcpu *vcpu, bool enforce);
bool keel_pv_denied(const struct keel_vcpu *vcpu, unsigned int feature);
bool keel_pv_has_steal_time(void);
bool keel_pv_eoi_enabled(const struct keel_vcpu *vcpu);
int keel_pv_hypercall(struct keel_vcpu *vcpu, struct keel_hypercall *hc);
void keel_pv_eoi_arm(struct keel_vcpu *vcpu);
int keel_pv_eoi_sync(struct keel_vcpu *vcpu);
void keel_steal_request(struct keel_vcpu *vcpu);
void keel_steal_preempted(struct keel_vcpu *vcpu);
void keel_steal_update(struct keel_vcpu *vcpu);

/* sched.c */
void keel_sched_module_exit(void);
void keel_sched_create(struct keel_vcpu *vcpu);
void keel_sched_destroy(struct keel_vcpu *vcpu);
void keel_sched_begin(struct keel_vcpu *vcpu);
void keel_sched_end(struct keel_vcpu *vcpu);
bool keel_halt(struct keel_vcpu *vcpu, bool (*has_wakeup)(struct keel_vcpu *vcpu));
bool keel_yield_to(struct keel_vcpu *vcpu, struct keel_vcpu *target);
int keel_exit_pause(struct keel_vcpu *vcpu);
u64 keel_disable_exits_supported(void);
int keel_disable_exits(struct keel_vm *vm, u64 exits);
int keel_set_halt_poll(struct keel_vm *vm, u64 ns);
bool keel_ple_enabled(const struct keel_vm *vm);
extern unsigned int keel_ple_gap;

#endif /* KEEL_PV_H */
