/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * System management mode, for the rest of the core: see smm.c.
 */
#ifndef KEEL_SMM_H
#define KEEL_SMM_H

#include "keel.h"

#define KEEL_SMM_MAP_BYTES	512

/* Shadow paging has no second set of tables: there is no system management mode then. */
static inline bool keel_smm_offered(void)
{
	return !keel_shadowing;
}

static inline unsigned int keel_nr_address_spaces(void)
{
	return keel_smm_offered() ? 2 : 1;
}

/* A guest physical address as the vCPU means it: in system management mode, of the memory that belongs to that. */
static inline gpa_t keel_own_gpa(const struct keel_vcpu *vcpu, gpa_t gpa)
{
	return vcpu->smm.in ? gpa | KEEL_SMM_GPA : gpa;
}

static inline bool keel_delivering(const struct keel_vcpu *vcpu)
{
	return vcpu->ev.exc.injected || vcpu->ev.nmi.injected || vcpu->ev.intr.injected;
}

/* An SMI waits for no more than the end of an event's delivery. */
static inline bool keel_smi_waits(const struct keel_vcpu *vcpu)
{
	return unlikely(vcpu->smm.pending) && !vcpu->smm.in && !(vcpu->guest_debug & KVM_GUESTDBG_BLOCKIRQ);
}

static inline bool keel_smi_due(const struct keel_vcpu *vcpu)
{
	return keel_smi_waits(vcpu) && !keel_delivering(vcpu) && !vcpu->ev.exc.pending && !vcpu->ev.triple_fault;
}

long keel_smi(struct keel_vcpu *vcpu);
bool keel_smi_pending(struct keel_vcpu *vcpu);
void keel_smm_enter(struct keel_vcpu *vcpu);
int keel_smm_map_read(struct keel_vcpu *vcpu, void *map);
int keel_smm_leave(struct keel_vcpu *vcpu, const void *map);
void keel_smm_switch(struct keel_vcpu *vcpu, bool in);
void keel_smm_reset(struct keel_vcpu *vcpu);

#endif /* KEEL_SMM_H */
