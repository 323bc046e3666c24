/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Speculation defences: what a vCPU carries for them, and the hooks of the run loop. See spec.c.
 */
#ifndef KEEL_SPEC_H
#define KEEL_SPEC_H

#include <linux/types.h>

#include "spec_asm.h"
#include "spec_rules.h"

struct keel_vcpu;

/* Read and written by the world switch; spec_asm.h has the offsets. */
struct keel_spec_switch {
	u32 flags;	/* KEEL_SPEC_* */
	u32 guest;	/* the guest's SPEC_CTRL */
	u32 host;	/* the host's on this CPU, as of this window */
};

/**
 * struct keel_spec_vcpu - the defences of one vCPU
 * @sw: for the world switch
 * @serial: of the vCPU, never used again: the CPU's predictors belong to the last one
 * @ctrl_direct: the guest has written SPEC_CTRL and now does so without an exit
 * @pred_direct: the same for PRED_CMD
 */
struct keel_spec_vcpu {
	struct keel_spec_switch sw;
	u64 serial;
	bool ctrl_direct, pred_direct;
};

extern struct keel_spec keel_spec;

int keel_spec_setup(bool vmx);
void keel_spec_cleanup(void);
void keel_spec_create(struct keel_vcpu *vcpu);
void keel_spec_window_open(struct keel_vcpu *vcpu);
void keel_spec_window_close(struct keel_vcpu *vcpu);
void keel_spec_flush_l1d(struct keel_vcpu *vcpu);
int keel_spec_set_ctrl(struct keel_vcpu *vcpu, u64 val);
int keel_spec_set_pred_cmd(struct keel_vcpu *vcpu, u64 val);
int keel_spec_set_flush_cmd(u64 val);

#endif /* KEEL_SPEC_H */
