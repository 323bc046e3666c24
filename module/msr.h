/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What msr.c and msr_mce.c share: the rows of the MSR table and their accessors.
 */
#ifndef KEEL_MSR_H
#define KEEL_MSR_H

#include "keel.h"

/* MCG_CAP bits that KVM_X86_SETUP_MCE takes besides the number of banks. */
#define KEEL_MCE_BANKS		32

struct msr_row;
typedef int (*msr_get_t)(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val,
			 bool host);
typedef int (*msr_set_t)(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
			 bool host);

/**
 * struct msr_row - one MSR or a run of them
 * @first: lowest index
 * @last: highest index
 * @get: reads; NULL: a read is #GP. -EINVAL refuses
 * @set: writes; NULL: a write is #GP
 * @need: KEEL_F_*, of which the guest must have one for its own accesses; 0: none needed
 * @listed: in KVM_GET_MSR_INDEX_LIST: reading and writing back restores the vCPU
 * @host_feature: listed only if the host CPU has this X86_FEATURE_*; 0: always
 * @group: KEEL_ST_* of the field at @offset, 0 if it is the core's
 * @offset: of a u64 in struct keel_vcpu
 * @val: what reads give, or the bits that may be set; each accessor says which
 */
struct msr_row {
	u32 first, last;
	msr_get_t get;
	msr_set_t set;
	u32 need;
	bool listed;
	u16 host_feature;
	u32 group;
	u32 offset;
	u64 val;
};

/* msr_mce.c: machine-check banks and memory-type range registers */
int msr_get_mce(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val, bool host);
int msr_set_mce(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host);
int msr_get_mtrr(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val, bool host);
int msr_set_mtrr(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host);
int msr_set_pat(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host);

/* pv.c; @val of the row is KVM_FEATURE_* */
int msr_get_pv(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val, bool host);
int msr_set_pv_eoi(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host);
int msr_set_steal_time(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host);
int msr_set_poll_control(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host);

/* kvmclock.c; the same */
int msr_set_clock(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host);
int msr_set_wall_clock(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
		       bool host);
int msr_get_wall_clock(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val,
		       bool host);

#endif /* KEEL_MSR_H */
