// SPDX-License-Identifier: GPL-2.0-only
/*
 * Device attributes: single values behind KVM_HAS_DEVICE_ATTR, KVM_GET_DEVICE_ATTR and KVM_SET_DEVICE_ATTR, by
 * group and number. The device node has one, the XSAVE features that a guest may be given; a vCPU has one, the
 * offset of its TSC from the host's, by which clients migrate guests without losing cycles.
 *
 * All values are u64 at the address that the client gives. Locks: vcpu->mutex for a vCPU's.
 */
#include <linux/uaccess.h>

#include "ops.h"

static u64 __user *attr_addr(const struct kvm_device_attr *attr)
{
	return (u64 __user *)(unsigned long)attr->addr;
}

/**
 * keel_system_attr_ioctl() - device attributes of the device node
 * @cmd: KVM_HAS_DEVICE_ATTR or KVM_GET_DEVICE_ATTR
 * @uattr: which
 *
 * Return: 0; -ENXIO there is no such attribute; -EFAULT
 */
long keel_system_attr_ioctl(unsigned int cmd, const struct kvm_device_attr __user *uattr)
{
	struct kvm_device_attr attr;

	if (copy_from_user(&attr, uattr, sizeof(attr)))
		return -EFAULT;
	if (attr.group || attr.attr != KVM_X86_XCOMP_GUEST_SUPP)
		return -ENXIO;
	if (cmd == KVM_HAS_DEVICE_ATTR)
		return 0;
	return put_user(keel_fpu_supported_xcr0(), attr_addr(&attr));
}

/**
 * keel_vcpu_attr_ioctl() - device attributes of a vCPU
 * @vcpu: the vCPU, locked
 * @cmd: KVM_HAS_DEVICE_ATTR, KVM_GET_DEVICE_ATTR or KVM_SET_DEVICE_ATTR
 * @uattr: which
 *
 * Return: 0; -ENXIO there is no such attribute; -EFAULT
 */
long keel_vcpu_attr_ioctl(struct keel_vcpu *vcpu, unsigned int cmd, const struct kvm_device_attr __user *uattr)
{
	struct kvm_device_attr attr;
	u64 offset;

	if (copy_from_user(&attr, uattr, sizeof(attr)))
		return -EFAULT;
	if (attr.group != KVM_VCPU_TSC_CTRL || attr.attr != KVM_VCPU_TSC_OFFSET)
		return -ENXIO;
	switch (cmd) {
	case KVM_HAS_DEVICE_ATTR:
		return 0;
	case KVM_GET_DEVICE_ATTR:
		return put_user(vcpu->tsc_offset, attr_addr(&attr));
	default:
		if (get_user(offset, attr_addr(&attr)))
			return -EFAULT;
		keel_set_tsc_offset(vcpu, offset);
		return 0;
	}
}
