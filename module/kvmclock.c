// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvmclock: the paravirtual clock of KVM guests (the kernel's Documentation/virt/kvm/x86/msr.rst).
 *
 * The guest names a place in its memory by MSR; there it finds a point in time, the TSC at that point,
 * and the factor from one to the other. The VM's clock is the host's boot time plus an offset, so it goes
 * on while the host sleeps. A vCPU's page is written anew when the MSR is written, when the client
 * sets the clock, when a vCPU's TSC is moved, after the host's sleep, and on hosts with an unstable TSC when the
 * vCPU has changed CPUs.
 *
 * On a host with a stable TSC the VM's clock runs by that, from one moment of reference on. As long as the TSCs of
 * all vCPUs agree their pages hold the same numbers, and say so by the stable flag: then no vCPU can see the
 * clock go back that another has read.
 *
 * Locks: vcpu->mutex for the page; vm->tsc_lock for the moment of reference.
 */
#include <linux/ktime.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <asm/pvclock-abi.h>
#include <asm/tsc.h>

#include "msr.h"
#include "ops.h"

#define CLOCK_ENABLE	BIT_ULL(0)

/* Counts the host's sleeps, after which its TSC may have started again. */
static unsigned int clock_epoch;

static bool host_tsc_stable(void)
{
	return tsc_khz && !check_tsc_unstable();
}

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

/* Nanoseconds in @cycles of the host's TSC, as a guest computes them from its page. */
static u64 cycles_to_ns(u64 cycles)
{
	s8 shift;
	u32 mul;

	clock_scale(tsc_khz, &shift, &mul);
	cycles = shift < 0 ? cycles >> -shift : cycles << shift;
	return mul_u64_u32_shr(cycles, mul, 32);
}

/* The VM's clock when the host's clocks stand at @tsc and @boot_ns. */
static u64 clock_at(const struct keel_clock_ref *ref, u64 tsc, u64 boot_ns)
{
	if (host_tsc_stable() && ref->epoch == READ_ONCE(clock_epoch))
		return ref->ns + cycles_to_ns(tsc - ref->tsc);
	return ref->ns + boot_ns - ref->boot_ns;
}

/* The moment of reference, with tsc_lock held. It stands until the client sets the clock or the host has slept. */
static const struct keel_clock_ref *clock_ref(struct keel_vm *vm, u64 tsc, u64 boot_ns)
{
	struct keel_clock_ref *ref = &vm->clock;

	lockdep_assert_held(&vm->tsc_lock);
	if (unlikely(ref->epoch != READ_ONCE(clock_epoch))) {
		ref->ns = clock_at(ref, tsc, boot_ns);
		ref->tsc = tsc;
		ref->boot_ns = boot_ns;
		ref->epoch = READ_ONCE(clock_epoch);
	}
	return ref;
}

/**
 * keel_clock_ns() - the VM's clock
 * @vm: the VM
 *
 * Return: nanoseconds since the VM was made, or what the client has set since
 */
u64 keel_clock_ns(struct keel_vm *vm)
{
	unsigned long flags;
	u64 ns, tsc, boot_ns;

	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	tsc = rdtsc_ordered();
	boot_ns = ktime_get_boottime_ns();
	ns = clock_at(clock_ref(vm, tsc, boot_ns), tsc, boot_ns);
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);
	return ns;
}

/**
 * keel_clock_set_ns() - KVM_SET_CLOCK, and a new VM
 * @vm: the VM
 * @ns: what the clock is to show now
 */
void keel_clock_set_ns(struct keel_vm *vm, u64 ns)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	vm->clock.tsc = rdtsc_ordered();
	vm->clock.boot_ns = ktime_get_boottime_ns();
	vm->clock.ns = ns;
	vm->clock.epoch = READ_ONCE(clock_epoch);
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);
	keel_vm_request_all(vm, KEEL_REQ_CLOCK, NULL);
}

/**
 * keel_clock_resumed() - the host has slept, and every VM's clock needs a new reference
 */
void keel_clock_resumed(void)
{
	WRITE_ONCE(clock_epoch, clock_epoch + 1);
}

/* May the vCPUs of @vm trust each other's clocks? */
static bool clock_stable(struct keel_vm *vm)
{
	struct keel_vcpu *vcpu, *first = NULL;
	int i;

	if (!host_tsc_stable())
		return false;
	keel_for_each_vcpu(i, vcpu, vm) {
		if (!first)
			first = vcpu;
		if (READ_ONCE(vcpu->tsc_offset) != READ_ONCE(first->tsc_offset) ||
		    keel_get_tsc_khz(vcpu) != tsc_khz)
			return false;
	}
	return first;
}

/**
 * keel_clock_stale() - does the vCPU's page need to be written again before it enters here?
 * @vcpu: the vCPU, locked; vcpu->cpu is that of its last window; preemption is off
 */
bool keel_clock_stale(struct keel_vcpu *vcpu)
{
	if (!(vcpu->clock_msr & CLOCK_ENABLE))
		return false;
	if (unlikely(check_tsc_unstable()))
		return vcpu->clock_stable || vcpu->cpu != smp_processor_id();
	return vcpu->clock_epoch != READ_ONCE(clock_epoch);
}

/**
 * keel_clock_tsc_moved() - a vCPU's TSC has got another offset: its VM's pages may agree no more, or now
 * @vm: the VM; callable with interrupts off
 */
void keel_clock_tsc_moved(struct keel_vm *vm)
{
	struct keel_vcpu *vcpu;
	int i;

	keel_for_each_vcpu(i, vcpu, vm) {
		if (READ_ONCE(vcpu->clock_msr) & CLOCK_ENABLE) {
			keel_request(KEEL_REQ_CLOCK, vcpu);
			keel_vcpu_kick(vcpu);
		}
	}
}

/* The point in time that a page names: the VM's reference where all vCPUs share it, else now. */
static void clock_point(struct keel_vcpu *vcpu, struct pvclock_vcpu_time_info *info)
{
	struct keel_vm *vm = vcpu->vm;
	const struct keel_clock_ref *ref;
	bool stable = clock_stable(vm);
	u64 tsc, boot_ns;
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->tsc_lock, flags);
	tsc = rdtsc_ordered();
	boot_ns = ktime_get_boottime_ns();
	ref = clock_ref(vm, tsc, boot_ns);
	if (stable) {
		info->tsc_timestamp = ref->tsc + vcpu->tsc_offset;
		info->system_time = ref->ns;
		info->flags |= PVCLOCK_TSC_STABLE_BIT;
	} else {
		info->tsc_timestamp = tsc + vcpu->tsc_offset;
		info->system_time = clock_at(ref, tsc, boot_ns);
	}
	vcpu->clock_epoch = ref->epoch;
	raw_spin_unlock_irqrestore(&vm->tsc_lock, flags);
	vcpu->clock_stable = stable;
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
	if (keel_guest_write(vcpu, gpa, &info.version, sizeof(info.version)))
		return;
	clock_scale(keel_get_tsc_khz(vcpu), &info.tsc_shift, &info.tsc_to_system_mul);
	clock_point(vcpu, &info);
	keel_guest_write(vcpu, gpa, &info, sizeof(info));
	info.version++;
	keel_guest_write(vcpu, gpa, &info.version, sizeof(info.version));
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
	if (keel_guest_write(vcpu, gpa, &wall.version, sizeof(wall.version)))
		return;
	ns = ktime_get_real_ns() - keel_clock_ns(vm);
	wall.sec = div_u64_rem(ns, NSEC_PER_SEC, &rem);
	wall.nsec = rem;
	keel_guest_write(vcpu, gpa, &wall, sizeof(wall));
	wall.version++;
	keel_guest_write(vcpu, gpa, &wall.version, sizeof(wall.version));
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
	unsigned long flags;
	u64 now;

	if (cmd == KVM_GET_CLOCK) {
		/* one moment, as near as it gets */
		local_irq_save(flags);
		data.clock = keel_clock_ns(vm);
		data.host_tsc = rdtsc_ordered();
		data.realtime = ktime_get_real_ns();
		local_irq_restore(flags);
		data.flags = KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC | (clock_stable(vm) ? KVM_CLOCK_TSC_STABLE : 0);
		return copy_to_user(uarg, &data, sizeof(data)) ? -EFAULT : 0;
	}
	if (copy_from_user(&data, uarg, sizeof(data)))
		return -EFAULT;
	if (data.flags & ~KEEL_CLOCK_FLAGS)
		return -EINVAL;
	/* The guest's time went on while it was on its way here. */
	now = ktime_get_real_ns();
	if ((data.flags & KVM_CLOCK_REALTIME) && now > data.realtime)
		data.clock += now - data.realtime;
	keel_clock_set_ns(vm, data.clock);
	return 0;
}
