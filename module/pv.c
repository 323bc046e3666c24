// SPDX-License-Identifier: GPL-2.0-only
/*
 * The paravirtual features of KVM guests but for the clock (kvmclock.c): steal time with its preempted flag
 * and TLB flush, the EOI without an exit, and the hypercalls. The kernel's Documentation/virt/kvm/x86/ has
 * msr.rst, hypercalls.rst and cpuid.rst.
 *
 * A feature lives in a page of the guest that an MSR names. The page is written by its address each time, under
 * vm->srcu: its slot may go or move, and then the guest loses the feature and nothing else. Where interrupts
 * are off (the window) or the scheduler's lock is held, the write is one that does not sleep and may fail.
 *
 * Locks: vcpu->mutex; other vCPUs are reached by requests only. Every function here runs in the vCPU's thread.
 */
#include <linux/keel.h>
#include <linux/kvm_para.h>
#include <linux/sched.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <asm/apicdef.h>
#include <asm/tsc.h>

#include "msr.h"
#include "ops.h"

#define STEAL_FIELD(gpa, f)	((gpa) + offsetof(struct kvm_steal_time, f))

/**
 * keel_pv_has_steal_time() - does the host count how long a thread waits for a CPU?
 */
bool keel_pv_has_steal_time(void)
{
	return keel_run_delay_on();
}

/**
 * keel_pv_supported() - CPUID 0x40000001.EAX for KVM_GET_SUPPORTED_CPUID
 *
 * No asynchronous page faults, no exit for page encryption state; KVM_FEATURE_MSI_EXT_DEST_ID is the client's,
 * which makes the MSIs.
 */
u32 keel_pv_supported(void)
{
	u32 bits = BIT(KVM_FEATURE_NOP_IO_DELAY) | BIT(KVM_FEATURE_PV_EOI) | BIT(KVM_FEATURE_PV_UNHALT) |
		   BIT(KVM_FEATURE_PV_SEND_IPI) | BIT(KVM_FEATURE_POLL_CONTROL) |
		   BIT(KVM_FEATURE_PV_SCHED_YIELD);

	if (tsc_khz)
		bits |= BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_CLOCKSOURCE2) |
			BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT);
	/* The flush hangs on the preempted flag of steal time. */
	if (keel_pv_has_steal_time())
		bits |= BIT(KVM_FEATURE_STEAL_TIME) | BIT(KVM_FEATURE_PV_TLB_FLUSH);
	return bits;
}

/**
 * keel_pv_denied() - is a feature forbidden to this guest?
 * @vcpu: the vCPU, locked
 * @feature: KVM_FEATURE_*
 *
 * Return: true when the client enforces CPUID and the guest's lacks the bit
 */
bool keel_pv_denied(const struct keel_vcpu *vcpu, unsigned int feature)
{
	return vcpu->pv.enforce && !(vcpu->pv.features & BIT(feature));
}

/**
 * keel_pv_set_enforce() - KVM_CAP_ENFORCE_PV_FEATURE_CPUID
 * @vcpu: the vCPU, locked
 * @enforce: a feature that is not in the guest's CPUID does not exist from now on
 */
void keel_pv_set_enforce(struct keel_vcpu *vcpu, bool enforce)
{
	vcpu->pv.enforce = enforce;
}

static void set_eoi_msr(struct keel_vcpu *vcpu, u64 val)
{
	vcpu->pv.eoi_msr = val;
	if (vcpu->apic)
		keel_ops->vcpu_update(vcpu, KEEL_UPDATE_APIC);
}

/**
 * keel_pv_reset() - RESET or INIT
 * @vcpu: the vCPU, locked or not yet visible
 * @init: INIT
 */
void keel_pv_reset(struct keel_vcpu *vcpu, bool init)
{
	struct keel_pv *pv = &vcpu->pv;

	if (pv->eoi_msr)
		set_eoi_msr(vcpu, 0);
	pv->eoi_wanted = false;
	pv->eoi_armed = false;
	pv->steal_msr = 0;
	pv->steal_preempted = false;
	WRITE_ONCE(pv->unhalted, false);
	if (!init)
		pv->poll_control = 1;
}

/* Reads of MSRs whose row names a feature in @val. */
int msr_get_pv(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val, bool host)
{
	if (keel_pv_denied(vcpu, row->val))
		return -ENOENT;
	*val = *(u64 *)((void *)vcpu + row->offset);
	return 0;
}

int msr_set_poll_control(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	if (keel_pv_denied(vcpu, row->val))
		return -ENOENT;
	if (val & ~1ULL)
		return -EINVAL;
	vcpu->pv.poll_control = val;
	return 0;
}

/*
 * EOI without an exit. Before an entry that begins with an interrupt whose EOI nobody waits for, the guest's
 * flag is set; a guest that finds it set clears it instead of writing the EOI register. After every exit the host
 * takes the flag back: still set means that the EOI has not been made. So the flag is never set while the guest
 * does not run, and the state that the client saves is complete. A CPU that ends interrupts by itself needs no flag,
 * and would not know of such an end.
 */

int msr_set_pv_eoi(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	u64 gpa = val & ~(u64)KVM_MSR_ENABLED;
	bool writable = false;
	unsigned long hva;
	int idx;

	if (keel_pv_denied(vcpu, row->val))
		return -ENOENT;
	if (!IS_ALIGNED(gpa, 4))
		return -EINVAL;
	if (val & KVM_MSR_ENABLED) {
		idx = srcu_read_lock(&vcpu->vm->srcu);
		hva = keel_gfn_to_hva(vcpu->vm, gpa >> PAGE_SHIFT, &writable);
		srcu_read_unlock(&vcpu->vm->srcu, idx);
		if (hva == KEEL_BAD_HVA || !writable)
			return -EINVAL;
	}
	set_eoi_msr(vcpu, val);
	return 0;
}

/**
 * keel_pv_eoi_enabled() - does the guest end interrupts by a flag in its memory?
 * @vcpu: the vCPU, locked
 */
bool keel_pv_eoi_enabled(const struct keel_vcpu *vcpu)
{
	return vcpu->pv.eoi_msr & KVM_MSR_ENABLED;
}

/**
 * keel_pv_eoi_arm() - tell the guest that it may skip the EOI of the interrupt that it is given
 * @vcpu: the vCPU, in its window, right before the entry; pv.eoi_wanted is set
 */
void keel_pv_eoi_arm(struct keel_vcpu *vcpu)
{
	const u8 enabled = KVM_PV_EOI_ENABLED;
	struct keel_pv *pv = &vcpu->pv;

	pv->eoi_wanted = false;
	if (!keel_pv_eoi_enabled(vcpu) || vcpu->virt_intr || !keel_lapic_eoi_is_quiet(vcpu))
		return;
	pv->eoi_armed = !keel_guest_write_atomic(vcpu, pv->eoi_msr & ~(u64)KVM_MSR_ENABLED, &enabled, 1);
}

/**
 * keel_pv_eoi_sync() - take the guest's flag back after an exit, and make the EOI if it has cleared it
 * @vcpu: the vCPU, locked; pv.eoi_armed is set
 *
 * A page that is gone counts as an EOI: an interrupt that stays in service would hold back all below it.
 *
 * Return: 0; -EAGAIN inside the window when the page cannot be reached there: call again outside
 */
int keel_pv_eoi_sync(struct keel_vcpu *vcpu)
{
	u64 gpa = vcpu->pv.eoi_msr & ~(u64)KVM_MSR_ENABLED;
	u8 flag, disabled = KVM_PV_EOI_DISABLED;
	int err;

	if (vcpu->in_window)
		err = keel_guest_read_atomic(vcpu->vm, gpa, &flag, 1);
	else
		err = keel_guest_read(vcpu->vm, gpa, &flag, 1);
	if (!err && (flag & KVM_PV_EOI_ENABLED)) {
		if (vcpu->in_window)
			err = keel_guest_write_atomic(vcpu, gpa, &disabled, 1);
		else
			err = keel_guest_write(vcpu, gpa, &disabled, 1);
	}
	if (err && vcpu->in_window)
		return -EAGAIN;
	vcpu->pv.eoi_armed = false;
	if (err || !(flag & KVM_PV_EOI_ENABLED))
		keel_lapic_eoi(vcpu);
	return 0;
}

/*
 * Steal time: how long the vCPU's thread waited for a CPU, told at the next entry after it got one; and whether it
 * waits now. To a vCPU that waits others send no TLB flush: they set KVM_VCPU_FLUSH_TLB beside the flag, and it
 * flushes when it comes back.
 */

int msr_set_steal_time(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	if (keel_pv_denied(vcpu, row->val))
		return -ENOENT;
	if (!keel_pv_has_steal_time() || (val & KVM_STEAL_RESERVED_MASK))
		return -EINVAL;
	vcpu->pv.steal_msr = val;
	vcpu->pv.steal_preempted = false;
	vcpu->pv.steal_seen = vcpu->stats.steal;
	if (val & KVM_MSR_ENABLED)
		keel_request(KEEL_REQ_STEAL, vcpu);
	return 0;
}

/**
 * keel_steal_request() - the guest is to be told before its next entry; where it asked for it, and there is news
 * @vcpu: the vCPU; in its own thread or locked
 */
void keel_steal_request(struct keel_vcpu *vcpu)
{
	const struct keel_pv *pv = &vcpu->pv;

	/* Others ask for a flush where they see the flag, and nowhere else. */
	if ((pv->steal_msr & KVM_MSR_ENABLED) && (pv->steal_preempted || pv->steal_seen != vcpu->stats.steal))
		keel_request(KEEL_REQ_STEAL, vcpu);
}

/**
 * keel_steal_preempted() - tell the guest that the vCPU has lost its CPU
 * @vcpu: the vCPU, in its own thread; the scheduler's locks are held
 *
 * Only between two instructions of the guest: an instruction that is emulated may still use a translation that
 * another vCPU believes flushed.
 */
void keel_steal_preempted(struct keel_vcpu *vcpu)
{
	const u8 preempted = KVM_VCPU_PREEMPTED;
	struct keel_pv *pv = &vcpu->pv;
	gpa_t gpa = pv->steal_msr & KVM_STEAL_VALID_BITS;

	if (!(pv->steal_msr & KVM_MSR_ENABLED) || !pv->at_boundary || pv->steal_preempted ||
	    current->mm != vcpu->vm->mm)
		return;
	pv->steal_preempted = !keel_guest_write_atomic(vcpu, STEAL_FIELD(gpa, preempted), &preempted, 1);
}

/**
 * keel_steal_update() - write the guest's steal time; serves KEEL_REQ_STEAL
 * @vcpu: the vCPU, locked, vm->srcu held; may sleep
 *
 * The version is odd while the time changes. A page that is not there is the guest's own loss.
 */
void keel_steal_update(struct keel_vcpu *vcpu)
{
	struct keel_pv *pv = &vcpu->pv;
	gpa_t gpa = pv->steal_msr & KVM_STEAL_VALID_BITS;
	u64 steal, waited = vcpu->stats.steal;
	struct keel_vm *vm = vcpu->vm;
	u8 preempted = 0;
	u32 version;

	if (!(pv->steal_msr & KVM_MSR_ENABLED))
		return;
	if (keel_guest_swap_byte(vcpu, STEAL_FIELD(gpa, preempted), &preempted)) {
		keel_tlb_flush(vcpu);	/* what was asked for cannot be seen */
		return;
	}
	pv->steal_preempted = false;
	if ((preempted & KVM_VCPU_FLUSH_TLB) && !keel_pv_denied(vcpu, KVM_FEATURE_PV_TLB_FLUSH))
		keel_tlb_flush(vcpu);

	if (keel_guest_read(vm, STEAL_FIELD(gpa, version), &version, sizeof(version)) ||
	    keel_guest_read(vm, STEAL_FIELD(gpa, steal), &steal, sizeof(steal)))
		return;
	steal += waited - pv->steal_seen;
	pv->steal_seen = waited;

	version |= 1;	/* a fresh page may hold either */
	if (keel_guest_write(vcpu, STEAL_FIELD(gpa, version), &version, sizeof(version)))
		return;
	smp_wmb();	/* the guest sees the odd version before the time changes */
	keel_guest_write(vcpu, STEAL_FIELD(gpa, steal), &steal, sizeof(steal));
	smp_wmb();	/* and the even one after */
	version++;
	keel_guest_write(vcpu, STEAL_FIELD(gpa, version), &version, sizeof(version));
}

/*
 * KVM_HC_CLOCK_PAIRING: the time of day and the guest's TSC at one moment. Of a few tries the one counts in which
 * the two reads of the TSC around the clock lay closest together; the moment is in the middle between them.
 */
static long clock_pairing(struct keel_vcpu *vcpu, gpa_t gpa, u64 type)
{
	struct kvm_clock_pairing pairing = { };
	u64 before, after, best = U64_MAX;
	struct timespec64 ts;
	unsigned long flags;
	int try;

	if (type != KVM_CLOCK_PAIRING_WALLCLOCK || !tsc_khz || check_tsc_unstable())
		return -KVM_EOPNOTSUPP;
	for (try = 0; try < 5; try++) {
		local_irq_save(flags);
		before = keel_guest_tsc(vcpu);
		ktime_get_real_ts64(&ts);
		after = keel_guest_tsc(vcpu);
		local_irq_restore(flags);
		if (after - before >= best)
			continue;
		best = after - before;
		pairing.sec = ts.tv_sec;
		pairing.nsec = ts.tv_nsec;
		pairing.tsc = before + best / 2;
	}
	return keel_guest_write(vcpu, gpa, &pairing, sizeof(pairing)) ? -KVM_EFAULT : 0;
}

/* KVM_HC_SEND_IPI: a fixed interrupt or NMI to many at once, by a bitmap of APIC ids from @min on. */
static u64 arg(const struct keel_hypercall *hc, int nr)
{
	static const u8 registers[] = { KEEL_RBX, KEEL_RCX, KEEL_RDX, KEEL_RSI };
	u64 val = hc->gpr[registers[nr]];

	return hc->wide ? val : (u32)val;
}

static long send_ipi(struct keel_vcpu *vcpu, const struct keel_hypercall *hc)
{
	u32 icr = arg(hc, 3);
	struct keel_irq_msg msg = {
		.vector = icr & APIC_VECTOR_MASK,
		.delivery = (icr & APIC_MODE_MASK) >> 8,
		.level = icr & APIC_INT_LEVELTRIG,
		.assert = icr & APIC_INT_ASSERT,
	};
	u64 ids[2] = { arg(hc, 0), arg(hc, 1) };

	/* The destination is not in here, whatever mode or shorthand would say. */
	if (arg(hc, 3) & (APIC_DEST_LOGICAL | APIC_DEST_ALLBUT))
		return -KVM_EINVAL;
	if (!vcpu->apic)
		return -KVM_EOPNOTSUPP;
	if (!hc->wide) {
		ids[0] |= ids[1] << 32;
		ids[1] = 0;
	}
	return keel_lapic_send_bitmap(vcpu, arg(hc, 2), ids, &msg);
}

static struct keel_vcpu *vcpu_by_apic_id(struct keel_vcpu *vcpu, u64 id)
{
	return id <= U32_MAX ? keel_lapic_by_id(vcpu->vm, id) : NULL;
}

/* Gives the CPU to the vCPU with that APIC id, if it waits for one. Not in the window: that may sleep. */
static void yield_by_apic_id(struct keel_vcpu *vcpu, u64 id)
{
	struct keel_vcpu *target = vcpu_by_apic_id(vcpu, id);

	if (target && target != vcpu)
		keel_yield_to(vcpu, target);
}

/* A vCPU sleeps in HLT for what the caller is about to give it: the halves of a paravirtual spinlock. */
static void kick_by_apic_id(struct keel_vcpu *vcpu, u64 id)
{
	struct keel_vcpu *target = vcpu_by_apic_id(vcpu, id);

	if (!target)
		return;
	WRITE_ONCE(target->pv.unhalted, true);
	keel_request(KEEL_REQ_EVENT, target);
	keel_vcpu_kick(target);
}

/* Page table updates by hypercall: offered with shadow paging, and to guests that see it in Keel's own leaf. */
static bool has_pt_calls(struct keel_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *leaf = keel_cpuid_find(vcpu, KEEL_CPUID_FEATURES, 0);

	return keel_shadowing && leaf && (leaf->eax & KEEL_FEATURE_PT_UPDATE);
}

/* Those that may sleep. */
static void sleeping_hypercall(struct keel_vcpu *vcpu, struct keel_hypercall *hc)
{
	switch (hc->nr) {
	case KVM_HC_KICK_CPU:
		if (keel_pv_denied(vcpu, KVM_FEATURE_PV_UNHALT))
			break;
		kick_by_apic_id(vcpu, arg(hc, 1));
		yield_by_apic_id(vcpu, arg(hc, 1));
		hc->ret = 0;
		break;
	case KVM_HC_SCHED_YIELD:
		if (keel_pv_denied(vcpu, KVM_FEATURE_PV_SCHED_YIELD))
			break;
		yield_by_apic_id(vcpu, arg(hc, 0));
		hc->ret = 0;
		break;
	case KVM_HC_CLOCK_PAIRING:
		hc->ret = clock_pairing(vcpu, arg(hc, 0), arg(hc, 1));
		break;
	case KEEL_HC_PT_UPDATE:
		if (has_pt_calls(vcpu))
			hc->ret = keel_pt_update(vcpu, arg(hc, 0), arg(hc, 1));
		break;
	case KEEL_HC_SET_CR3:
		if (has_pt_calls(vcpu))
			hc->ret = keel_pt_set_cr3(vcpu, arg(hc, 0));
		break;
	}
}

/**
 * keel_pv_hypercall() - a hypercall from the guest's kernel
 * @vcpu: the vCPU, locked
 * @hc: number, arguments, result
 *
 * A number that is not offered, or not to this guest, gives -KVM_ENOSYS.
 *
 * Return: 0, or -EAGAIN inside the window for one that may sleep: nothing has changed
 */
int keel_pv_hypercall(struct keel_vcpu *vcpu, struct keel_hypercall *hc)
{
	hc->ret = -KVM_ENOSYS;
	switch (hc->nr) {
	case KVM_HC_VAPIC_POLL_IRQ:
		hc->ret = 0;	/* the exit was all that is wanted */
		return 0;
	case KVM_HC_SEND_IPI:
		if (!keel_pv_denied(vcpu, KVM_FEATURE_PV_SEND_IPI))
			hc->ret = send_ipi(vcpu, hc);
		return 0;
	case KVM_HC_KICK_CPU:
	case KVM_HC_SCHED_YIELD:
	case KVM_HC_CLOCK_PAIRING:
	case KEEL_HC_PT_UPDATE:
	case KEEL_HC_SET_CR3:
		if (vcpu->in_window)
			return -EAGAIN;
		sleeping_hypercall(vcpu, hc);
	}
	return 0;
}
