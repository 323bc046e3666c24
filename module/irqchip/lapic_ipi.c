// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupt messages between local APICs: who is addressed, and what a message does to its target
 * (SDM 3A, 11.6 and 11.7.2 to 11.7.4; x2APIC: 11.12.9 and 11.12.10).
 *
 * Runs in any context with no lock of its own. A target is changed only by atomic bit operations on
 * IRR, TMR and the event words of struct keel_lapic, followed by a request and a kick; the target's
 * thread does the rest. Senders see the target's ID, LDR, DFR and SPIV as they are at that moment,
 * which is what a bus gives too.
 */
#include <linux/bitmap.h>
#include <linux/nospec.h>

#include "../ops.h"
#include "../smm.h"
#include "lapic.h"

/* An event for @apic was recorded: make its vCPU look. */
static __always_inline void lapic_notify(struct keel_lapic *apic, enum keel_req req, bool own_thread)
{
	struct keel_vcpu *vcpu = apic->vcpu;

	keel_request(req, vcpu);
	if (!own_thread)
		keel_vcpu_kick(vcpu);
}

/* Puts @vector into IRR; the request register remembers one more while the first is in service. */
static __always_inline void lapic_accept_vector(struct keel_lapic *apic, u8 vector, bool level, bool own_thread)
{
	if (lapic_test_vec(apic, APIC_TMR, vector) != level) {
		if (level)
			lapic_set_vec(apic, APIC_TMR, vector);
		else
			lapic_clear_vec(apic, APIC_TMR, vector);
	}
	lapic_set_vec(apic, APIC_IRR, vector);
	lapic_notify(apic, KEEL_REQ_EVENT, own_thread);
}

/*
 * @msg arrives at @apic. Returns 1 when it is taken, 0 when it is discarded. ExtINT goes by the
 * PIC's output line, and remote read went out with the APIC bus.
 */
static int lapic_accept(struct keel_lapic *apic, const struct keel_irq_msg *msg, bool own_thread)
{
	switch (msg->delivery) {
	case LAPIC_DM(APIC_DM_FIXED):
	case LAPIC_DM(APIC_DM_LOWEST):
		if (msg->level && !msg->assert)
			return 0;
		if (!lapic_hw_enabled(apic) || !lapic_sw_enabled(apic))
			return 0;
		if (msg->vector < 16) {
			lapic_error(apic, APIC_ESR_RECVILL);
			return 0;
		}
		lapic_accept_vector(apic, msg->vector, msg->level, own_thread);
		return 1;
	case LAPIC_DM(APIC_DM_SMI):
		if (!keel_smm_offered())
			return 0;
		lapic_notify(apic, KEEL_REQ_SMI, own_thread);
		return 1;
	case LAPIC_DM(APIC_DM_NMI):
		/* One is latched while another is handled (SDM 3A, 6.7.1). */
		atomic_add_unless(&apic->nmis, 1, 2);
		lapic_notify(apic, KEEL_REQ_INIT_SIPI, own_thread);
		return 1;
	case LAPIC_DM(APIC_DM_INIT):
		if (msg->level && !msg->assert)
			return 0;
		/* A start-up IPI before the INIT is void. */
		xchg(&apic->events, BIT(LAPIC_EV_INIT));
		lapic_notify(apic, KEEL_REQ_INIT_SIPI, own_thread);
		return 1;
	case LAPIC_DM(APIC_DM_STARTUP):
		WRITE_ONCE(apic->sipi_vector, msg->vector);
		smp_wmb();	/* pairs with smp_rmb() in keel_lapic_accept_events() */
		set_bit(LAPIC_EV_SIPI, &apic->events);
		lapic_notify(apic, KEEL_REQ_INIT_SIPI, own_thread);
		return 1;
	default:
		return 0;
	}
}

/*
 * Raises the interrupt of a local vector table entry: 1 taken, 0 masked or discarded. A
 * level-triggered LINT pin is treated as asserted.
 */
int lapic_local_deliver(struct keel_lapic *apic, u32 lvt)
{
	u32 reg = lapic_reg(apic, lvt);
	struct keel_irq_msg msg = {
		.vector = reg & APIC_VECTOR_MASK,
		.delivery = LAPIC_DM(reg & APIC_MODE_MASK),
		.level = (lvt == APIC_LVT0 || lvt == APIC_LVT1) && (reg & APIC_LVT_LEVEL_TRIGGER),
		.assert = true,
	};

	if (!lapic_hw_enabled(apic) || (reg & APIC_LVT_MASKED))
		return 0;
	return lapic_accept(apic, &msg, lvt == APIC_LVTT);
}

/**
 * keel_lapic_cmci() - a machine-check bank has an error that software is to look at (SDM 3B, 15.5.1)
 * @vcpu: the vCPU, locked; with or without an in-kernel local APIC
 */
void keel_lapic_cmci(struct keel_vcpu *vcpu)
{
	if (vcpu->apic)
		lapic_local_deliver(vcpu->apic, APIC_LVTCMCI);
}

/* Records @bits for ESR and raises the error interrupt (SDM 3A, 11.5.3). */
void lapic_error(struct keel_lapic *apic, u32 bits)
{
	u32 lvt = lapic_reg(apic, APIC_LVTERR);

	if ((atomic_fetch_or(bits, &apic->errors) & bits) == bits)
		return;
	/* An error entry with an illegal vector would be its own next error. */
	if ((lvt & APIC_VECTOR_MASK) >= 16)
		lapic_local_deliver(apic, APIC_LVTERR);
}

/* The one physical id of @apic; no broadcast. */
static u32 lapic_physical_id(const struct keel_lapic *apic)
{
	return lapic_x2apic(apic) ? apic->vcpu->id : lapic_reg(apic, APIC_ID) >> 24;
}

static bool lapic_match_physical(const struct keel_lapic *apic, u32 dest)
{
	if (lapic_x2apic(apic))
		return dest == LAPIC_X2APIC_BROADCAST || dest == apic->vcpu->id;
	return dest == LAPIC_XAPIC_BROADCAST || dest == lapic_reg(apic, APIC_ID) >> 24;
}

static bool lapic_match_logical(const struct keel_lapic *apic, u32 dest)
{
	u32 ldr = lapic_reg(apic, APIC_LDR);

	if (lapic_x2apic(apic))
		return dest == LAPIC_X2APIC_BROADCAST ||
		       (ldr >> 16 == dest >> 16 && (ldr & dest & 0xffff));
	if (dest == LAPIC_XAPIC_BROADCAST)
		return true;

	ldr = GET_APIC_LOGICAL_ID(ldr);
	switch (lapic_reg(apic, APIC_DFR)) {
	case (u32)APIC_DFR_FLAT:
		return ldr & dest;
	case (u32)APIC_DFR_CLUSTER:
		return ldr >> 4 == dest >> 4 && (ldr & dest & 0xf);
	default:
		return false;
	}
}

static bool lapic_match(const struct keel_lapic *apic, const struct keel_vcpu *source,
			const struct keel_irq_msg *msg)
{
	u32 dest = msg->dest;

	switch (msg->shorthand) {
	case 1:
		return apic->vcpu == source;
	case 2:
		return true;
	case 3:
		return apic->vcpu != source;
	}
	/*
	 * Devices have 8-bit destinations only. There is no interrupt remapping that could turn
	 * their broadcast into a 32-bit one, so it is done here, unless the client uses 32-bit
	 * MSIs.
	 */
	if (!source && dest == LAPIC_XAPIC_BROADCAST && lapic_x2apic(apic) &&
	    !apic->vcpu->vm->irqchip.x2apic_no_broadcast_quirk)
		dest = LAPIC_X2APIC_BROADCAST;
	return msg->logical ? lapic_match_logical(apic, dest) : lapic_match_physical(apic, dest);
}

/*
 * Lowest priority: the arbiter is a hash of the vector over the software-enabled candidates, so
 * that a device's interrupts stay on one vCPU. NULL when there is no candidate.
 */
static struct keel_vcpu *lapic_arbitrate(struct keel_vm *vm, struct keel_vcpu *source,
					 const struct keel_irq_msg *msg)
{
	DECLARE_BITMAP(candidates, KEEL_MAX_VCPUS);
	struct keel_vcpu *vcpu;
	unsigned int n = 0, nth, bit;
	int i;

	bitmap_zero(candidates, KEEL_MAX_VCPUS);
	keel_for_each_vcpu(i, vcpu, vm) {
		if (!vcpu->apic || !lapic_hw_enabled(vcpu->apic) || !lapic_sw_enabled(vcpu->apic))
			continue;
		if (lapic_match(vcpu->apic, source, msg)) {
			__set_bit(i, candidates);
			n++;
		}
	}
	if (!n)
		return NULL;
	nth = msg->vector % n;
	for_each_set_bit(bit, candidates, KEEL_MAX_VCPUS)
		if (!nth--)
			return vm->vcpus[bit];
	return NULL;
}

/* The vCPU with physical id @id, no broadcast, where ids and indices agree, as they do in nearly every VM. */
static __always_inline struct keel_vcpu *lapic_guess(struct keel_vm *vm, u32 id)
{
	u32 nr = smp_load_acquire(&vm->nr_vcpus);
	struct keel_vcpu *vcpu;

	if (id >= nr)
		return NULL;
	vcpu = vm->vcpus[array_index_nospec(id, nr)];
	if (unlikely(!vcpu->apic))
		return NULL;
	/* In x2APIC mode it is enabled as well. */
	if (likely(lapic_x2apic(vcpu->apic)))
		return likely(vcpu->id == id) ? vcpu : NULL;
	return lapic_hw_enabled(vcpu->apic) && lapic_physical_id(vcpu->apic) == id ? vcpu : NULL;
}

/**
 * keel_lapic_deliver() - send an interrupt message to the local APICs that it addresses
 * @vm: the VM
 * @source: the vCPU whose thread sends an IPI; NULL for a device
 * @msg: the message
 *
 * Return: the number of local APICs that took it; 0 when all addressed ones discarded it or a plain
 * destination matches none; -1 when a broadcast reaches none
 */
int keel_lapic_deliver(struct keel_vm *vm, struct keel_vcpu *source, const struct keel_irq_msg *msg)
{
	bool broadcast = msg->shorthand || msg->dest == LAPIC_XAPIC_BROADCAST ||
			 msg->dest == LAPIC_X2APIC_BROADCAST;
	bool lowest = msg->delivery == LAPIC_DM(APIC_DM_LOWEST) || msg->redir_hint;
	int taken = broadcast ? -1 : 0;
	struct keel_vcpu *vcpu;
	int i;

	if (msg->shorthand == 1)
		return source ? lapic_accept(source->apic, msg, true) : 0;

	if (!broadcast && !msg->logical) {
		vcpu = lapic_guess(vm, msg->dest);
		if (vcpu)
			return lapic_accept(vcpu->apic, msg, vcpu == source);
		lowest = false;		/* one destination at most: nothing to arbitrate */
	}

	if (lowest && (msg->logical || msg->dest != LAPIC_XAPIC_BROADCAST)) {
		vcpu = lapic_arbitrate(vm, source, msg);
		return vcpu ? lapic_accept(vcpu->apic, msg, vcpu == source) : taken;
	}

	keel_for_each_vcpu(i, vcpu, vm) {
		if (!vcpu->apic || !lapic_hw_enabled(vcpu->apic) ||
		    !lapic_match(vcpu->apic, source, msg))
			continue;
		taken = max(taken, 0) + lapic_accept(vcpu->apic, msg, vcpu == source);
	}
	return taken;
}

/**
 * keel_lapic_by_id() - the vCPU with a physical APIC id
 * @vm: the VM
 * @id: the id
 *
 * Return: the vCPU or NULL
 */
struct keel_vcpu *keel_lapic_by_id(struct keel_vm *vm, u32 id)
{
	struct keel_vcpu *vcpu;
	int i;

	keel_for_each_vcpu(i, vcpu, vm)
		if (vcpu->apic && lapic_hw_enabled(vcpu->apic) && lapic_physical_id(vcpu->apic) == id)
			return vcpu;
	return NULL;
}

/**
 * keel_lapic_send_bitmap() - send a message to up to 128 APIC ids
 * @source: the vCPU whose thread sends it; interrupts may be off
 * @min: the id that bit 0 stands for
 * @ids: bitmap
 * @msg: the message, without its destination
 *
 * Return: the number of local APICs that took it
 */
int keel_lapic_send_bitmap(struct keel_vcpu *source, u32 min, const u64 ids[2],
			   const struct keel_irq_msg *msg)
{
	struct keel_vcpu *vcpu;
	int i, taken = 0;
	u32 bit;

	keel_for_each_vcpu(i, vcpu, source->vm) {
		if (!vcpu->apic || !lapic_hw_enabled(vcpu->apic))
			continue;
		bit = lapic_physical_id(vcpu->apic) - min;
		if (bit < 128 && (ids[array_index_nospec(bit, 128) / 64] & BIT_ULL(bit % 64)))
			taken += lapic_accept(vcpu->apic, msg, vcpu == source);
	}
	return taken;
}

/*
 * ICR was written with @low; @high is the destination as the mode has it (SDM 3A, 11.6.1). The
 * message is out before the write has ended, so delivery status always reads idle.
 */
void lapic_send_ipi(struct keel_lapic *apic, u32 low, u32 high)
{
	struct keel_irq_msg msg = {
		.vector = low & APIC_VECTOR_MASK,
		.delivery = LAPIC_DM(low & APIC_MODE_MASK),
		.logical = low & APIC_DEST_LOGICAL,
		.level = low & APIC_INT_LEVELTRIG,
		.assert = low & APIC_INT_ASSERT,
		.shorthand = (low & LAPIC_SHORTHAND) >> 18,
		.dest = lapic_x2apic(apic) ? high : GET_XAPIC_DEST_FIELD(high),
	};

	if (msg.delivery <= LAPIC_DM(APIC_DM_LOWEST) && msg.vector < 16) {
		lapic_error(apic, APIC_ESR_SENDILL);
		return;
	}
	keel_lapic_deliver(apic->vcpu->vm, apic->vcpu, &msg);
}

/*
 * The same in x2APIC mode, where both halves are one register: soon for what kernels send most of the time, a vector to
 * another vCPU by its id.
 */
void lapic_send_x2apic(struct keel_lapic *apic, u64 val)
{
	u32 low = (u32)val & ~APIC_ICR_BUSY, high = val >> 32;
	struct keel_vcpu *target;

	lapic_set_reg(apic, APIC_ICR, low);
	lapic_set_reg(apic, APIC_ICR2, high);
	if (likely(!(low & ~(u32)(APIC_VECTOR_MASK | APIC_INT_ASSERT)) && (u8)low >= 16)) {
		target = lapic_guess(apic->vcpu->vm, high);
		if (likely(target && target != apic->vcpu && lapic_sw_enabled(target->apic))) {
			lapic_accept_vector(target->apic, low, false, false);
			return;
		}
	}
	lapic_send_ipi(apic, low, high);
}

/* The same for SELF_IPI, which has nothing but a vector (SDM 3A, 11.12.11). */
void lapic_send_self(struct keel_lapic *apic, u8 vector)
{
	if (unlikely(vector < 16 || !lapic_sw_enabled(apic)))
		return lapic_send_ipi(apic, APIC_DEST_SELF | APIC_INT_ASSERT | vector, 0);
	lapic_accept_vector(apic, vector, false, true);
}

/**
 * keel_lapic_watchdog() - a PIT tick for guests that use LINT0 as NMI watchdog
 * @vm: the VM
 *
 * The tick reaches every local APIC whose LINT0 is in NMI mode, as if the PIT were wired to that
 * pin.
 */
void keel_lapic_watchdog(struct keel_vm *vm)
{
	struct keel_vcpu *vcpu;
	int i;

	if (!atomic_read(&vm->irqchip.lint0_nmi))
		return;
	keel_for_each_vcpu(i, vcpu, vm)
		if (vcpu->apic && READ_ONCE(vcpu->apic->lint0_nmi))
			lapic_local_deliver(vcpu->apic, APIC_LVT0);
}

/**
 * keel_lapic_addressed() - is a device's message for @vcpu?
 * @vcpu: the vCPU
 * @msg: the message
 */
bool keel_lapic_addressed(struct keel_vcpu *vcpu, const struct keel_irq_msg *msg)
{
	return vcpu->apic && lapic_hw_enabled(vcpu->apic) && lapic_match(vcpu->apic, NULL, msg);
}

/**
 * keel_lapic_vector_in_use() - is @msg for @vcpu, and its vector in IRR or ISR there?
 * @vcpu: the vCPU
 * @msg: a device's message
 */
bool keel_lapic_vector_in_use(struct keel_vcpu *vcpu, const struct keel_irq_msg *msg)
{
	struct keel_lapic *apic = vcpu->apic;

	return apic && lapic_hw_enabled(apic) && lapic_match(apic, NULL, msg) &&
	       (lapic_test_vec(apic, APIC_IRR, msg->vector) ||
		lapic_test_vec(apic, APIC_ISR, msg->vector));
}

/* NMIs of other CPUs become the vCPU's own: they wait in keel_events from then on. */
static void lapic_take_nmis(struct keel_lapic *apic)
{
	while (atomic_add_unless(&apic->nmis, -1, 0))
		keel_inject_nmi(apic->vcpu);
}

/**
 * keel_lapic_has_init_sipi() - does an INIT or a start-up IPI wait for the vCPU?
 * @vcpu: the vCPU, locked, in its own thread; interrupts may be off
 *
 * Also hands over NMIs that other CPUs sent, so that a halted vCPU finds them in vcpu->ev.
 */
bool keel_lapic_has_init_sipi(struct keel_vcpu *vcpu)
{
	struct keel_lapic *apic = vcpu->apic;

	if (!apic)
		return false;
	lapic_take_nmis(apic);
	return READ_ONCE(apic->events) && !vcpu->smm.in;
}

/**
 * keel_lapic_has_events() - has keel_lapic_accept_events() something to do that no request says?
 * @vcpu: the vCPU, locked
 *
 * Return: whether an INIT or a start-up IPI is there; who sends one requests KEEL_REQ_INIT_SIPI, once
 */
bool keel_lapic_has_events(const struct keel_vcpu *vcpu)
{
	return vcpu->apic && READ_ONCE(vcpu->apic->events);
}

/* A start-up IPI starts the processor in real mode at vector * 4 KiB (SDM 3A, 9.4.4). */
static void lapic_start(struct keel_vcpu *vcpu, u8 vector)
{
	struct keel_state *st = keel_st_mod(vcpu, KEEL_ST_SEG | KEEL_ST_RIP);

	st->seg[KEEL_CS].selector = vector << 8;
	st->seg[KEEL_CS].base = vector << 12;
	st->rip = 0;
}

/**
 * keel_lapic_accept_events() - serve INIT, start-up IPIs and NMIs of other CPUs
 * @vcpu: the vCPU, locked, in its own thread and outside the window
 *
 * Changes vcpu->mp_state. A start-up IPI counts only for a processor that waits for one.
 */
void keel_lapic_accept_events(struct keel_vcpu *vcpu)
{
	struct keel_lapic *apic = vcpu->apic;

	if (!apic)
		return;
	keel_check_request(KEEL_REQ_INIT_SIPI, vcpu);
	if (unlikely(vcpu->smm.in)) {
		/* INIT waits for RSM, start-up IPIs are lost (SDM 3C, 32.3.2). */
		clear_bit(LAPIC_EV_SIPI, &apic->events);
		lapic_take_nmis(apic);
		return;
	}
	if (test_and_clear_bit(LAPIC_EV_INIT, &apic->events)) {
		keel_vcpu_reset(vcpu, true);
		vcpu->mp_state = KVM_MP_STATE_INIT_RECEIVED;
		if (vcpu->apic_base & MSR_IA32_APICBASE_BSP)
			vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	}
	if (test_and_clear_bit(LAPIC_EV_SIPI, &apic->events) &&
	    vcpu->mp_state == KVM_MP_STATE_INIT_RECEIVED) {
		smp_rmb();	/* the vector after the bit */
		lapic_start(vcpu, READ_ONCE(apic->sipi_vector));
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	}
	lapic_take_nmis(apic);
}

/**
 * keel_lapic_latched_init() - does an INIT wait?
 * @vcpu: the vCPU, locked; with or without an in-kernel local APIC
 *
 * Return: whether one does
 */
bool keel_lapic_latched_init(const struct keel_vcpu *vcpu)
{
	return vcpu->apic && test_bit(LAPIC_EV_INIT, &vcpu->apic->events);
}

/**
 * keel_lapic_latch_init() - have an INIT wait, or none
 * @vcpu: the vCPU, locked; with or without an in-kernel local APIC
 * @latch: have one wait
 */
void keel_lapic_latch_init(struct keel_vcpu *vcpu, bool latch)
{
	if (vcpu->apic)
		assign_bit(LAPIC_EV_INIT, &vcpu->apic->events, latch);
}

/**
 * keel_lapic_set_sipi_vector() - KVM_SET_VCPU_EVENTS with a valid sipi_vector
 * @vcpu: the vCPU, locked
 * @vector: for the start-up IPI that keel_lapic_post_sipi() makes
 */
void keel_lapic_set_sipi_vector(struct keel_vcpu *vcpu, u8 vector)
{
	if (vcpu->apic)
		WRITE_ONCE(vcpu->apic->sipi_vector, vector);
}

/**
 * keel_lapic_post_sipi() - KVM_SET_MP_STATE to KVM_MP_STATE_SIPI_RECEIVED: the vector waits
 * @vcpu: the vCPU, locked; the caller sets mp_state to KVM_MP_STATE_INIT_RECEIVED
 */
void keel_lapic_post_sipi(struct keel_vcpu *vcpu)
{
	if (vcpu->apic)
		set_bit(LAPIC_EV_SIPI, &vcpu->apic->events);
}
