// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvmclock: the paravirtual clock of KVM guests (the kernel's Documentation/virt/kvm/x86/msr.rst).
 *
 * The guest names a place in its memory by MSR; there it finds a point in time, the TSC at that point,
 * and the factor from one to the other. The VM's clock is the host's boot time plus an offset, so it goes
 * on while the host sleeps. A vCPU's page is written anew when the MSR is written, when the client
 * sets the clock, and on hosts with an unstable TSC when the vCPU has changed CPUs. The pages of two vCPUs
 * may differ by what NTP does to the host's clock, so the stable bit is not offered.
 *
 * Locks: vcpu->mutex for the page; vm->clock_offset is read and written whole.
 */
#include <linux/ktime.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <asm/pvclock-abi.h>
#include <asm/tsc.h>

#include "msr.h"
#include "ops.h"

#define CLOCK_ENABLE	BIT_ULL(0)

/*
 * ns = ((cycles << shift) * mul) >> 32, with mul normalized to 31 to 32 bits for precision
 */
static void clock_scale(u32 khz, s8 *shift, u32 *mul)
{
	u64 hz = (u64)khz * 1000;

	*shift = 0;
	while (hz > 2 * (u64)NSEC_PER_SEC) {
		hz >>= 1;
		--*shift;
	}
	while (hz <= NSEC_PER_SEC) {
		hz <<= 1;
		++*shift;
	}
	*mul = div64_u64((u64)NSEC_PER_SEC << 32, hz);
}

/**
 * keel_clock_ns() - the VM's clock
 * @vm: the VM
 *
 * Return: nanoseconds since the VM was made, or what the client has set since
 */
u64 keel_clock_ns(struct keel_vm *vm)
{
	return ktime_get_boottime_ns() + READ_ONCE(vm->clock_offset);
}

/**
 * keel_clock_set_ns() - KVM_SET_CLOCK
 * @vm: the VM
 * @ns: what the clock is to show now
 */
void keel_clock_set_ns(struct keel_vm *vm, u64 ns)
{
	WRITE_ONCE(vm->clock_offset, ns - ktime_get_boottime_ns());
	keel_vm_request_all(vm, KEEL_REQ_CLOCK, false);
}

/**
 * keel_clock_update() - write the vCPU's clock page; serves KEEL_REQ_CLOCK
 * @vcpu: the vCPU, locked, vm->srcu held; may sleep
 *
 * The version is odd while the rest changes. A page that is not there is the guest's own loss.
 */
void keel_clock_update(struct keel_vcpu *vcpu)
{
	gpa_t gpa = vcpu->clock_msr & ~CLOCK_ENABLE;
	struct pvclock_vcpu_time_info info = { };
	unsigned long flags;

	if (!(vcpu->clock_msr & CLOCK_ENABLE) || !tsc_khz)
		return;
	if (keel_guest_read(vcpu->vm, gpa, &info, sizeof(info)))
		return;
	/* The guest clears the flag once it has seen it. */
	info.flags &= PVCLOCK_GUEST_STOPPED;
	if (vcpu->clock_stopped)
		info.flags |= PVCLOCK_GUEST_STOPPED;
	vcpu->clock_stopped = false;
	memset(info.pad, 0, sizeof(info.pad));
	info.pad0 = 0;
	info.version |= 1;	/* a hostile or fresh page may hold either */
	if (keel_guest_write(vcpu->vm, gpa, &info.version, sizeof(info.version)))
		return;
	clock_scale(keel_get_tsc_khz(vcpu), &info.tsc_shift, &info.tsc_to_system_mul);
	local_irq_save(flags);
	info.tsc_timestamp = keel_guest_tsc(vcpu);
	info.system_time = keel_clock_ns(vcpu->vm);
	local_irq_restore(flags);
	keel_guest_write(vcpu->vm, gpa, &info, sizeof(info));
	info.version++;
	keel_guest_write(vcpu->vm, gpa, &info.version, sizeof(info.version));
}

/**
 * keel_clock_stopped() - KVM_KVMCLOCK_CTRL: the client had stopped the guest; it need not fear a soft lockup
 * @vcpu: the vCPU, locked
 *
 * Return: 0, or -EINVAL when the guest uses no clock
 */
int keel_clock_stopped(struct keel_vcpu *vcpu)
{
	if (!(vcpu->clock_msr & CLOCK_ENABLE))
		return -EINVAL;
	vcpu->clock_stopped = true;
	keel_request(KEEL_REQ_CLOCK, vcpu);
	return 0;
}

/* MSR_KVM_SYSTEM_TIME and _NEW: both name the same clock. */
int msr_set_clock(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	if (keel_pv_denied(vcpu, row->val))
		return -ENOENT;
	vcpu->clock_msr = val;
	keel_request(KEEL_REQ_CLOCK, vcpu);
	return 0;
}

/*
 * MSR_KVM_WALL_CLOCK and _NEW: the time of day at which the VM's clock stood at 0, written once. The page is
 * the guest's at this moment, so the request for the clock does both.
 */
int msr_set_wall_clock(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	if (keel_pv_denied(vcpu, row->val))
		return -ENOENT;
	vcpu->vm->wall_clock_msr = val;
	if (!host)
		keel_request(KEEL_REQ_WALL_CLOCK, vcpu);
	return 0;
}

int msr_get_wall_clock(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val, bool host)
{
	if (keel_pv_denied(vcpu, row->val))
		return -ENOENT;
	*val = vcpu->vm->wall_clock_msr;
	return 0;
}

/**
 * keel_clock_write_wall() - tell the guest the time of day; serves KEEL_REQ_WALL_CLOCK
 * @vcpu: the vCPU, locked, vm->srcu held; may sleep
 */
void keel_clock_write_wall(struct keel_vcpu *vcpu)
{
	struct keel_vm *vm = vcpu->vm;
	gpa_t gpa = vm->wall_clock_msr;
	struct pvclock_wall_clock wall = { };
	u64 ns;
	u32 rem;

	if (!gpa || keel_guest_read(vm, gpa, &wall.version, sizeof(wall.version)))
		return;
	wall.version |= 1;
	if (keel_guest_write(vm, gpa, &wall.version, sizeof(wall.version)))
		return;
	ns = ktime_get_real_ns() - keel_clock_ns(vm);
	wall.sec = div_u64_rem(ns, NSEC_PER_SEC, &rem);
	wall.nsec = rem;
	keel_guest_write(vm, gpa, &wall, sizeof(wall));
	wall.version++;
	keel_guest_write(vm, gpa, &wall.version, sizeof(wall.version));
}

/**
 * keel_clock_ioctl() - KVM_GET_CLOCK and KVM_SET_CLOCK
 * @vm: the VM
 * @cmd: which
 * @uarg: struct kvm_clock_data
 *
 * Return: 0; -EINVAL flags that are not offered; -EFAULT
 */
long keel_clock_ioctl(struct keel_vm *vm, unsigned int cmd, void __user *uarg)
{
	struct kvm_clock_data data = { };

	if (cmd == KVM_GET_CLOCK) {
		data.clock = keel_clock_ns(vm);
		return copy_to_user(uarg, &data, sizeof(data)) ? -EFAULT : 0;
	}
	if (copy_from_user(&data, uarg, sizeof(data)))
		return -EFAULT;
	if (data.flags)
		return -EINVAL;
	keel_clock_set_ns(vm, data.clock);
	return 0;
}
