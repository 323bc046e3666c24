// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_CAP_SYNC_REGS: registers that travel in kvm_run instead of by ioctls of their own. The client names what
 * KVM_RUN is to take over (kvm_dirty_regs) and what it is to leave there (kvm_valid_regs).
 *
 * kvm_run is the client's to write at any time, so each structure is copied once and then goes the way of its
 * ioctl. Locks: vcpu->mutex; takes vm->srcu. Section 6.74 of the kernel's api.rst.
 */
#include <linux/slab.h>

#include "ops.h"

static const struct {
	u32 flag;
	unsigned int get, set;	/* the ioctls */
	u32 offset, size;	/* in kvm_run's s.regs */
} groups[] = {
	{ KVM_SYNC_X86_REGS, KVM_GET_REGS, KVM_SET_REGS,
	  offsetof(struct kvm_sync_regs, regs), sizeof(struct kvm_regs) },
	{ KVM_SYNC_X86_SREGS, KVM_GET_SREGS, KVM_SET_SREGS,
	  offsetof(struct kvm_sync_regs, sregs), sizeof(struct kvm_sregs) },
	{ KVM_SYNC_X86_EVENTS, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS,
	  offsetof(struct kvm_sync_regs, events), sizeof(struct kvm_vcpu_events) },
};

static int sync_group(struct keel_vcpu *vcpu, int i, bool in, struct kvm_sync_regs *copy)
{
	void *shared = (void *)&vcpu->run->s.regs + groups[i].offset;
	int r;

	if (in) {
		memcpy(copy, shared, groups[i].size);
		return keel_vcpu_state(vcpu, groups[i].set, copy);
	}
	memset(copy, 0, groups[i].size);
	r = keel_vcpu_state(vcpu, groups[i].get, copy);
	if (!r)
		memcpy(shared, copy, groups[i].size);
	return r;
}

static int sync_groups(struct keel_vcpu *vcpu, u64 which, bool in)
{
	struct kvm_sync_regs *copy;
	int i, srcu, r = 0;

	copy = kmalloc(sizeof(*copy), GFP_KERNEL_ACCOUNT);
	if (!copy)
		return -ENOMEM;
	srcu = srcu_read_lock(&vcpu->vm->srcu);
	for (i = 0; i < ARRAY_SIZE(groups) && !r; i++) {
		if (!(which & groups[i].flag))
			continue;
		r = sync_group(vcpu, i, in, copy);
		if (!r && in)
			vcpu->run->kvm_dirty_regs &= ~(u64)groups[i].flag;
	}
	srcu_read_unlock(&vcpu->vm->srcu, srcu);
	kfree(copy);
	return r;
}

/**
 * keel_sync_regs_in() - before KVM_RUN: take over what the client has changed
 * @vcpu: the vCPU, locked
 *
 * Return: 0; -EINVAL unknown groups, or values that the ioctl would refuse; -ENOMEM
 */
int keel_sync_regs_in(struct keel_vcpu *vcpu)
{
	u64 dirty = READ_ONCE(vcpu->run->kvm_dirty_regs);

	if ((dirty | READ_ONCE(vcpu->run->kvm_valid_regs)) & ~(u64)KVM_SYNC_X86_VALID_FIELDS)
		return -EINVAL;
	if (likely(!dirty))
		return 0;
	vcpu->look = true;
	return sync_groups(vcpu, dirty, true);
}

/**
 * keel_sync_regs_out() - after KVM_RUN: leave what the client wants to see
 * @vcpu: the vCPU, locked
 */
void keel_sync_regs_out(struct keel_vcpu *vcpu)
{
	u64 valid = READ_ONCE(vcpu->run->kvm_valid_regs);

	if (unlikely(valid))
		sync_groups(vcpu, valid, false);
}
