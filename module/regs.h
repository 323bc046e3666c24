/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What events.c gives to the ioctl table of regs.c. Each takes the structure of its ioctl, in kernel
 * memory, and returns 0 or -errno; the vCPU is locked and vm->srcu is held.
 */
#ifndef KEEL_REGS_H
#define KEEL_REGS_H

struct keel_vcpu;

long keel_events_get(struct keel_vcpu *vcpu, void *buf);
long keel_events_set(struct keel_vcpu *vcpu, void *buf);
long keel_mp_state_get(struct keel_vcpu *vcpu, void *buf);
long keel_mp_state_set(struct keel_vcpu *vcpu, void *buf);
long keel_client_interrupt(struct keel_vcpu *vcpu, void *buf);
long keel_vapic_addr_set(struct keel_vcpu *vcpu, void *buf);
long keel_guest_debug_set(struct keel_vcpu *vcpu, void *buf);

#endif /* KEEL_REGS_H */
