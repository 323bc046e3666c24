// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's time stamp counter: the host's plus an offset for each vCPU.
 *
 * A client that restores or starts several vCPUs writes nearly the same TSC value to each, one
 * after the other, and means them to be equal. Writes from the client that lie within a second of
 * where the VM's TSC stands by now therefore get the offset of the earlier one, as does a write of
 * 0 (a fresh vCPU). The host's TSC is taken to be the same on all CPUs. There is no scaling: the
 * guest's TSC runs at the host's rate.
 *
 * Locks: vm->tsc_lock for the VM's last write; vcpu->mutex for the offset. Callable with interrupts
 * off. SDM 3B, 17.17.
 */
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/timekeeping.h>
#include <asm/tsc.h>

#include "ops.h"

/* Clients may ask for a rate that is this near the host's, in parts per million. */
#define TSC_TOLERANCE_PPM	250

/**
 * keel_guest_tsc() - the guest's TSC, now
 * @vcpu: the vCPU
 */
u64 keel_guest_tsc(const struct keel_vcpu *vcpu)
{
	return rdtsc_ordered() + vcpu->tsc_offset;
}

static void offset_set(struct keel_vcpu *vcpu, u64 offset)
{
	vcpu->tsc_offset = offset;
	keel_ops->vcpu_update(vcpu, KEEL_UPDATE_TSC);
	if (vcpu->apic)
		keel_lapic_tsc_changed(vcpu);
	keel_clock_tsc_moved(vcpu->vm);
}

/**
 * keel_set_tsc_offset() - the client sets the offset itself; later writes of the TSC may match it
 * @vcpu: the vCPU, locked
 * @offset: guest TSC less host TSC, cycles
 */
void keel_set_tsc_offset(struct keel_vcpu *vcpu, u64 offset)
{
	struct keel_vm *vm = vcpu->vm;
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	vm->last_tsc_nsec = ktime_get_boottime_ns();
	vm->last_tsc_write = rdtsc_ordered() + offset;
	vm->last_tsc_offset = offset;
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);
	offset_set(vcpu, offset);
}

/**
 * keel_adjust_guest_tsc() - the guest moves its TSC, by writing it or TSC_ADJUST
 * @vcpu: the vCPU, locked
 * @delta: cycles, two's complement
 */
void keel_adjust_guest_tsc(struct keel_vcpu *vcpu, u64 delta)
{
	if (delta)
		offset_set(vcpu, vcpu->tsc_offset + delta);
}

/**
 * keel_set_guest_tsc() - the client sets a vCPU's TSC, or a new vCPU starts with 0
 * @vcpu: the vCPU, locked or not yet visible
 * @tsc: the value that it is to have now
 */
void keel_set_guest_tsc(struct keel_vcpu *vcpu, u64 tsc)
{
	struct keel_vm *vm = vcpu->vm;
	u64 hz = (u64)tsc_khz * 1000;
	u64 now, offset, expected;
	unsigned long flags;
	bool same;

	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	now = ktime_get_boottime_ns();
	offset = tsc - rdtsc_ordered();
	if (vm->last_tsc_nsec && tsc_khz) {
		expected = vm->last_tsc_write +
			   mul_u64_u64_div_u64(now - vm->last_tsc_nsec, tsc_khz, NSEC_PER_MSEC);
		same = !tsc || (tsc < expected + hz && tsc + hz > expected);
		if (same)
			offset = vm->last_tsc_offset;
	}
	vm->last_tsc_nsec = now;
	vm->last_tsc_write = tsc;
	vm->last_tsc_offset = offset;
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);
	offset_set(vcpu, offset);
}

/**
 * keel_set_tsc_khz() - KVM_SET_TSC_KHZ
 * @vcpu: the vCPU, locked
 * @khz: 0 for the host's rate
 *
 * Return: 0, or -EINVAL for a rate that would need scaling
 */
int keel_set_tsc_khz(struct keel_vcpu *vcpu, u32 khz)
{
	u64 tolerance = div_u64((u64)tsc_khz * TSC_TOLERANCE_PPM, 1000000);

	if (!khz)
		khz = tsc_khz;
	if (!khz || khz < tsc_khz - tolerance || khz > tsc_khz + tolerance)
		return -EINVAL;
	vcpu->tsc_khz = khz;
	keel_clock_tsc_moved(vcpu->vm);
	return 0;
}

/* The rate of the guest's TSC, as KVM_GET_TSC_KHZ tells it. */
u32 keel_get_tsc_khz(const struct keel_vcpu *vcpu)
{
	return vcpu->tsc_khz ?: tsc_khz;
}
