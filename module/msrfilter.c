// SPDX-License-Identifier: GPL-2.0-only
/*
 * The client's say in the guest's RDMSR and WRMSR: KVM_X86_SET_MSR_FILTER names the MSRs that a guest may not
 * reach, KVM_CAP_X86_USER_SPACE_MSR says which refusals are the client's to decide instead of #GP.
 *
 * A filter is replaced as a whole under vm->lock and read under vm->srcu, from the window too. The vendors
 * look at it when they open MSRs to the guest. The local APIC's x2APIC MSRs are never filtered. The
 * accesses that an instruction makes by itself (SYSCALL, RDTSCP) are no RDMSR.
 */
#include <linux/cpumask.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "msr.h"
#include "ops.h"

#define ALL_REASONS \
	(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER)
#define X2APIC_FIRST	0x800
#define X2APIC_LAST	0x8ff

struct keel_msr_filter {
	bool deny;		/* what is in no range */
	unsigned int nr;
	struct {
		u32 flags, base, nr;
		unsigned long *allowed;
	} range[KVM_MSR_FILTER_MAX_RANGES];
};

static void filter_free(struct keel_msr_filter *filter)
{
	unsigned int i;

	for (i = 0; filter && i < filter->nr; i++)
		kfree(filter->range[i].allowed);
	kfree(filter);
}

static int range_add(struct keel_msr_filter *filter, const struct kvm_msr_filter_range *from)
{
	size_t size = BITS_TO_LONGS((u64)from->nmsrs) * sizeof(long);
	unsigned long *allowed;

	if (!from->nmsrs)
		return 0;
	if (!from->flags || from->flags & ~(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE) ||
	    size > KVM_MSR_FILTER_MAX_BITMAP_SIZE)
		return -EINVAL;
	allowed = memdup_user((const void __user *)from->bitmap, size);
	if (IS_ERR(allowed))
		return PTR_ERR(allowed);
	filter->range[filter->nr].flags = from->flags;
	filter->range[filter->nr].base = from->base;
	filter->range[filter->nr].nr = from->nmsrs;
	filter->range[filter->nr++].allowed = allowed;
	return 0;
}

static struct keel_msr_filter *filter_make(const struct kvm_msr_filter *from)
{
	struct keel_msr_filter *filter;
	unsigned int i;
	int r = 0;

	if (from->flags & ~KVM_MSR_FILTER_DEFAULT_DENY)
		return ERR_PTR(-EINVAL);
	filter = kzalloc(sizeof(*filter), GFP_KERNEL_ACCOUNT);
	if (!filter)
		return ERR_PTR(-ENOMEM);
	filter->deny = from->flags & KVM_MSR_FILTER_DEFAULT_DENY;
	for (i = 0; i < KVM_MSR_FILTER_MAX_RANGES && !r; i++)
		r = range_add(filter, &from->ranges[i]);
	/* Without any range it would deny all there is. */
	if (!r && filter->deny && !filter->nr)
		r = -EINVAL;
	if (!r)
		return filter;
	filter_free(filter);
	return ERR_PTR(r);
}

/**
 * keel_msr_filter_ioctl() - KVM_X86_SET_MSR_FILTER
 * @vm: the VM
 * @ufilter: the new filter
 *
 * Return: 0 when every vCPU is held to it; -EINVAL, -EFAULT, -ENOMEM
 */
long keel_msr_filter_ioctl(struct keel_vm *vm, const void __user *ufilter)
{
	struct keel_msr_filter *filter;
	struct kvm_msr_filter from;
	cpumask_var_t wait;

	if (copy_from_user(&from, ufilter, sizeof(from)))
		return -EFAULT;
	if (!zalloc_cpumask_var(&wait, GFP_KERNEL))
		return -ENOMEM;
	filter = filter_make(&from);
	if (IS_ERR(filter)) {
		free_cpumask_var(wait);
		return PTR_ERR(filter);
	}
	mutex_lock(&vm->lock);
	filter = rcu_replace_pointer(vm->msr_filter, filter, lockdep_is_held(&vm->lock));
	synchronize_srcu_expedited(&vm->srcu);
	keel_vm_request_all(vm, KEEL_REQ_INTERCEPTS, wait);
	mutex_unlock(&vm->lock);
	free_cpumask_var(wait);
	filter_free(filter);
	return 0;
}

/* The VM is gone. */
void keel_msr_filter_destroy(struct keel_vm *vm)
{
	filter_free(rcu_dereference_protected(vm->msr_filter, true));
}

/**
 * keel_msr_allowed() - does the client let the guest reach an MSR?
 * @vm: the VM
 * @msr: index
 * @write: WRMSR, else RDMSR
 *
 * Context: any.
 */
bool keel_msr_allowed(struct keel_vm *vm, u32 msr, bool write)
{
	u32 type = write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ;
	const struct keel_msr_filter *filter;
	bool allowed = true;
	unsigned int i;
	int srcu;

	if (likely(!rcu_access_pointer(vm->msr_filter)) || (msr >= X2APIC_FIRST && msr <= X2APIC_LAST))
		return true;
	srcu = srcu_read_lock(&vm->srcu);
	filter = srcu_dereference(vm->msr_filter, &vm->srcu);
	if (filter) {
		allowed = !filter->deny;
		for (i = 0; i < filter->nr; i++) {
			/* also false below the base, where the difference wraps */
			if (!(filter->range[i].flags & type) || msr - filter->range[i].base >= filter->range[i].nr)
				continue;
			allowed = test_bit(msr - filter->range[i].base, filter->range[i].allowed);
			break;
		}
	}
	srcu_read_unlock(&vm->srcu, srcu);
	return allowed;
}

/**
 * keel_guest_msr() - what RDMSR and WRMSR do; does not sleep
 * @vcpu: the vCPU, locked
 * @msr: index
 * @val: the value
 * @write: WRMSR, else RDMSR
 *
 * Return: 0; -EPERM the client's filter denies it; else as keel_msr_get() and keel_msr_set(), which is #GP
 */
int keel_guest_msr(struct keel_vcpu *vcpu, u32 msr, u64 *val, bool write)
{
	if (unlikely(rcu_access_pointer(vcpu->vm->msr_filter)) && !keel_msr_allowed(vcpu->vm, msr, write))
		return -EPERM;
	return write ? keel_msr_set(vcpu, msr, *val, false) : keel_msr_get(vcpu, msr, val, false);
}

/**
 * keel_msr_to_client() - an access that was refused: is it the client's to decide?
 * @vcpu: the vCPU, locked
 * @msr: index
 * @val: WRMSR: the value
 * @write: WRMSR, else RDMSR
 * @err: what keel_guest_msr() returned
 *
 * The caller sets vcpu->complete, which finds kvm_run's msr.error and msr.data.
 *
 * Return: true with the exit in kvm_run; false: #GP
 */
bool keel_msr_to_client(struct keel_vcpu *vcpu, u32 msr, u64 val, bool write, int err)
{
	u32 reason = err == -EPERM ? KVM_MSR_EXIT_REASON_FILTER :
		     err == -ENOENT ? KVM_MSR_EXIT_REASON_UNKNOWN : KVM_MSR_EXIT_REASON_INVAL;
	struct kvm_run *run = vcpu->run;

	if (!(READ_ONCE(vcpu->vm->user_space_msr) & reason))
		return false;
	run->exit_reason = write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
	run->msr.error = 0;
	memset(run->msr.pad, 0, sizeof(run->msr.pad));
	run->msr.reason = reason;
	run->msr.index = msr;
	run->msr.data = write ? val : 0;
	return true;
}

/**
 * keel_set_user_space_msr() - KVM_CAP_X86_USER_SPACE_MSR
 * @vm: the VM
 * @reasons: KVM_MSR_EXIT_REASON_*
 *
 * Return: 0 or -EINVAL
 */
int keel_set_user_space_msr(struct keel_vm *vm, u64 reasons)
{
	if (reasons & ~(u64)ALL_REASONS)
		return -EINVAL;
	WRITE_ONCE(vm->user_space_msr, reasons);
	return 0;
}
