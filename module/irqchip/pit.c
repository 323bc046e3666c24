// SPDX-License-Identifier: GPL-2.0-only
/*
 * The interval timer of a PC (Intel 8254): three channels at ports 0x40 to 0x43, and port 0x61,
 * which gates channel 2 and shows its output. Channel 0 is wired to GSI 0. Counting is binary.
 *
 * Channel 0 runs on an hrtimer in modes 0, 1, 2, 3 and 4; its gate is high for ever. Channels 1 and
 * 2 raise nothing and are computed from the time of their load.
 *
 * pit->lock, a raw spinlock taken with interrupts off, guards the channels. The hrtimer's callback
 * runs in hardirq context and does not take it, so the timer can be cancelled under the lock; what
 * the callback reads (period, periodic) changes only while the timer is idle.
 *
 * Reinjection: ticks of which the guest has not taken the interrupt are counted in pending, and
 * made up for one by one as the guest acknowledges. Guests that count ticks keep their time that
 * way.
 */
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/slab.h>

#include "../keel.h"

#define PIT_HZ			1193181
#define PIT_PORT		0x40
#define PIT_CONTROL		3
#define SPEAKER_PORT		0x61
#define SPEAKER_DATA		BIT(1)
#define PIT_MODE_OFF		0xff		/* never programmed */

/* rw_mode, read_state, write_state, count_latched */
enum { RW_LSB = 1, RW_MSB, RW_WORD_LOW, RW_WORD_HIGH };

struct keel_pit {
	raw_spinlock_t lock;
	struct keel_vm *vm;
	struct kvm_pit_channel_state ch[3];
	s64 gate_fell;			/* time at which channel 2 stopped, while its gate is low */
	u32 flags;			/* KVM_PIT_FLAGS_* */
	struct hrtimer timer;
	u64 period;			/* ns, of channel 0 */
	bool periodic;
	bool reinject;			/* read without the lock */
	atomic_t pending;		/* ticks not acknowledged */
	atomic_t acked;			/* 1: the last interrupt was acknowledged */
	struct keel_io_range range;
	struct keel_io_range speaker_range;
};

/*
 * The time by which channel @n counts: it stands still while the gate of channel 2 is low, except in
 * the two modes that the gate only triggers.
 */
static s64 pit_now(const struct keel_pit *pit, int n)
{
	const struct kvm_pit_channel_state *c = &pit->ch[n];

	if (n == 2 && !c->gate && c->mode != 1 && c->mode != 5)
		return pit->gate_fell;
	return ktime_get_ns();
}

/* PIT clocks since channel @n was loaded. */
static u64 pit_clocks(const struct keel_pit *pit, int n)
{
	s64 ns;

	if (n)
		ns = pit_now(pit, n) - pit->ch[n].count_load_time;
	else if (pit->period)
		ns = pit->period - ktime_to_ns(hrtimer_get_remaining(&pit->timer));
	else
		ns = 0;
	return mul_u64_u32_div(max_t(s64, ns, 0), PIT_HZ, NSEC_PER_SEC);
}

static u16 pit_count(const struct keel_pit *pit, int n)
{
	const struct kvm_pit_channel_state *c = &pit->ch[n];
	u64 clocks = pit_clocks(pit, n);

	switch (c->mode) {
	case 0:
	case 1:
	case 4:
	case 5:
		return c->count - clocks;
	case 3:		/* counts down by two */
		return c->count - (2 * clocks) % c->count;
	default:
		return c->count - clocks % c->count;
	}
}

static bool pit_output(const struct keel_pit *pit, int n)
{
	const struct kvm_pit_channel_state *c = &pit->ch[n];
	u64 clocks = pit_clocks(pit, n);

	switch (c->mode) {
	case 1:
		return clocks < c->count;
	case 2:
		return clocks && clocks % c->count == 0;
	case 3:
		if (n == 2 && !c->gate)
			return true;
		return clocks % c->count < (c->count + 1) >> 1;
	case 4:
	case 5:
		return clocks == c->count;
	default:
		return clocks >= c->count;
	}
}

static void pit_latch_count(struct keel_pit *pit, int n)
{
	struct kvm_pit_channel_state *c = &pit->ch[n];

	if (c->count_latched)
		return;
	c->latched_count = pit_count(pit, n);
	c->count_latched = c->rw_mode;
}

static void pit_latch_status(struct keel_pit *pit, int n)
{
	struct kvm_pit_channel_state *c = &pit->ch[n];

	if (c->status_latched)
		return;
	c->status = pit_output(pit, n) << 7 | (c->rw_mode & 3) << 4 | (c->mode & 7) << 1 |
		    (c->bcd & 1);
	c->status_latched = 1;
}

static void pit_reset_reinject(struct keel_pit *pit)
{
	atomic_set(&pit->pending, 0);
	atomic_set(&pit->acked, 1);
}

/* One tick; with reinjection only if the guest has acknowledged the one before. */
static void pit_tick(struct keel_pit *pit)
{
	if (READ_ONCE(pit->reinject) && !atomic_xchg(&pit->acked, 0))
		return;
	keel_set_irq(pit->vm, KEEL_IRQ_SOURCE_PIT, 0, true);
	keel_set_irq(pit->vm, KEEL_IRQ_SOURCE_PIT, 0, false);
	keel_lapic_watchdog(pit->vm);
}

static enum hrtimer_restart pit_callback(struct hrtimer *timer)
{
	struct keel_pit *pit = container_of(timer, struct keel_pit, timer);

	if (READ_ONCE(pit->reinject))
		atomic_add_unless(&pit->pending, 1, INT_MAX);
	pit_tick(pit);
	if (!pit->periodic)
		return HRTIMER_NORESTART;
	/*
	 * Ticks the host was late for follow at once, so the guest gets all of them; behind by more
	 * than a second they are given up.
	 */
	hrtimer_add_expires_ns(timer, pit->period);
	if (ktime_to_ns(hrtimer_expires_remaining(timer)) < -(s64)NSEC_PER_SEC)
		hrtimer_forward_now(timer, pit->period);
	return HRTIMER_RESTART;
}

static void pit_start(struct keel_pit *pit, u32 count, bool periodic)
{
	u64 interval = mul_u64_u32_div(count, NSEC_PER_SEC, PIT_HZ);

	/* The first tick comes on time, and those after it no faster than the host allows. */
	pit->period = interval;
	pit->periodic = periodic;
	if (periodic)
		pit->period = max_t(u64, interval, (u64)READ_ONCE(keel_min_timer_period_us) * 1000);
	pit_reset_reinject(pit);
	hrtimer_start(&pit->timer, ktime_add_ns(ktime_get(), interval), HRTIMER_MODE_ABS_HARD);
}

/* Channel @n counts from @count, where 0 stands for 65536. */
static void pit_load(struct keel_pit *pit, int n, u32 count)
{
	struct kvm_pit_channel_state *c = &pit->ch[n];

	c->count = count ?: 0x10000;
	if (n) {
		c->count_load_time = ktime_get_ns();
		if (n == 2)
			pit->gate_fell = c->count_load_time;
		return;
	}
	hrtimer_cancel(&pit->timer);
	/* The client's HPET has taken over GSI 0, or there is no controller for it. */
	if ((pit->flags & KVM_PIT_FLAGS_HPET_LEGACY) || !keel_irqchip_in_kernel(&pit->vm->irqchip))
		return;
	switch (c->mode) {
	case 0:
	case 1:
	case 4:
		pit_start(pit, c->count, false);
		break;
	case 2:
	case 3:
		pit_start(pit, c->count, true);
		break;
	}
}

static void pit_write_control(struct keel_pit *pit, u8 val)
{
	unsigned int n = val >> 6;
	struct kvm_pit_channel_state *c;

	if (n == 3) {			/* read-back */
		for (n = 0; n < 3; n++) {
			if (!(val & 2 << n))
				continue;
			if (!(val & 0x20))
				pit_latch_count(pit, n);
			if (!(val & 0x10))
				pit_latch_status(pit, n);
		}
		return;
	}

	c = &pit->ch[n];
	if (!(val & 0x30)) {
		pit_latch_count(pit, n);
		return;
	}
	c->rw_mode = val >> 4 & 3;
	c->read_state = c->rw_mode;
	c->write_state = c->rw_mode;
	c->mode = val >> 1 & 7;
	if (c->mode > 5)		/* 6 and 7 are 2 and 3 */
		c->mode -= 4;
	c->bcd = val & 1;
}

static void pit_write_count(struct keel_pit *pit, int n, u8 val)
{
	struct kvm_pit_channel_state *c = &pit->ch[n];

	switch (c->write_state) {
	case RW_MSB:
		pit_load(pit, n, val << 8);
		break;
	case RW_WORD_LOW:
		c->write_latch = val;
		c->write_state = RW_WORD_HIGH;
		break;
	case RW_WORD_HIGH:
		c->write_state = RW_WORD_LOW;
		pit_load(pit, n, c->write_latch | val << 8);
		break;
	default:
		pit_load(pit, n, val);
	}
}

static u8 pit_read_latched(struct kvm_pit_channel_state *c)
{
	switch (c->count_latched) {
	case RW_MSB:
		c->count_latched = 0;
		return c->latched_count >> 8;
	case RW_WORD_LOW:
		c->count_latched = RW_MSB;
		return c->latched_count;
	default:
		c->count_latched = 0;
		return c->latched_count;
	}
}

static u8 pit_read(struct keel_pit *pit, int n)
{
	struct kvm_pit_channel_state *c = &pit->ch[n];

	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	if (c->count_latched)
		return pit_read_latched(c);

	switch (c->read_state) {
	case RW_MSB:
		return pit_count(pit, n) >> 8;
	case RW_WORD_LOW:
		c->read_state = RW_WORD_HIGH;
		return pit_count(pit, n);
	case RW_WORD_HIGH:
		c->read_state = RW_WORD_LOW;
		return pit_count(pit, n) >> 8;
	default:
		return pit_count(pit, n);
	}
}

static int pit_port_write(struct keel_vcpu *vcpu, void *ctx, u64 addr, unsigned int len,
			  const void *val)
{
	struct keel_pit *pit = ctx;
	unsigned long flags;
	u8 data = *(const u8 *)val;

	addr -= PIT_PORT;
	raw_spin_lock_irqsave(&pit->lock, flags);
	if (addr == PIT_CONTROL)
		pit_write_control(pit, data);
	else
		pit_write_count(pit, addr, data);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}

static int pit_port_read(struct keel_vcpu *vcpu, void *ctx, u64 addr, unsigned int len, void *val)
{
	struct keel_pit *pit = ctx;
	unsigned long flags;

	memset(val, 0, len);
	addr -= PIT_PORT;
	if (addr == PIT_CONTROL)
		return 0;
	raw_spin_lock_irqsave(&pit->lock, flags);
	*(u8 *)val = pit_read(pit, addr);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}

/* A rising gate restarts the count; in modes 0 and 4 it goes on where the falling one stopped it. */
static void pit_set_gate(struct keel_pit *pit, bool gate)
{
	struct kvm_pit_channel_state *c = &pit->ch[2];
	s64 now = ktime_get_ns();

	if (!gate && c->gate)
		pit->gate_fell = now;
	if (gate && !c->gate) {
		if (c->mode == 0 || c->mode == 4)
			c->count_load_time += now - pit->gate_fell;
		else
			c->count_load_time = now;
	}
	c->gate = gate;
}

static int speaker_port_write(struct keel_vcpu *vcpu, void *ctx, u64 addr, unsigned int len,
			      const void *val)
{
	struct keel_pit *pit = ctx;
	unsigned long flags;
	u8 data = *(const u8 *)val;

	raw_spin_lock_irqsave(&pit->lock, flags);
	if (data & SPEAKER_DATA)
		pit->flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	else
		pit->flags &= ~KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	pit_set_gate(pit, data & 1);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}

static int speaker_port_read(struct keel_vcpu *vcpu, void *ctx, u64 addr, unsigned int len,
			     void *val)
{
	struct keel_pit *pit = ctx;
	unsigned long flags;
	/* The memory refresh toggles every 15 us; 2^14 ns is near enough. */
	u8 data = (ktime_get_ns() >> 14 & 1) << 4;

	memset(val, 0, len);
	raw_spin_lock_irqsave(&pit->lock, flags);
	if (pit->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON)
		data |= SPEAKER_DATA;
	data |= (pit->ch[2].gate ? 1 : 0) | pit_output(pit, 2) << 5;
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	*(u8 *)val = data;
	return 0;
}

static const struct keel_io_ops pit_io_ops = {
	.read = pit_port_read,
	.write = pit_port_write,
};

static const struct keel_io_ops speaker_io_ops = {
	.read = speaker_port_read,
	.write = speaker_port_write,
};

/**
 * keel_pit_acked() - the guest has ended an interrupt of GSI 0: the next missed tick may follow
 * @vm: the VM
 */
void keel_pit_acked(struct keel_vm *vm)
{
	struct keel_pit *pit = smp_load_acquire(&vm->irqchip.pit);

	if (!pit || !READ_ONCE(pit->reinject))
		return;
	atomic_set(&pit->acked, 1);
	/*
	 * Against pit_callback(), which counts the tick before it looks whether the last was taken.
	 */
	smp_mb();
	if (atomic_dec_if_positive(&pit->pending) > 0)
		pit_tick(pit);
}

/**
 * keel_pit_unmasked() - the guest has unmasked GSI 0: ticks before that are not made up for
 * @vm: the VM
 */
void keel_pit_unmasked(struct keel_vm *vm)
{
	struct keel_pit *pit = smp_load_acquire(&vm->irqchip.pit);

	if (pit && READ_ONCE(pit->reinject))
		pit_reset_reinject(pit);
}

/**
 * keel_pit_set_reinject() - KVM_REINJECT_CONTROL
 * @vm: the VM, which has a PIT
 * @reinject: make up for ticks whose interrupt the guest has not taken
 */
void keel_pit_set_reinject(struct keel_vm *vm, bool reinject)
{
	struct keel_pit *pit = vm->irqchip.pit;
	unsigned long flags;

	raw_spin_lock_irqsave(&pit->lock, flags);
	if (pit->reinject != reinject) {
		if (reinject)
			pit_reset_reinject(pit);
		WRITE_ONCE(pit->reinject, reinject);
	}
	raw_spin_unlock_irqrestore(&pit->lock, flags);
}

/**
 * keel_pit_get_state() - KVM_GET_PIT2 and, by its channels, KVM_GET_PIT
 * @vm: the VM, which has a PIT
 * @state: result
 */
void keel_pit_get_state(struct keel_vm *vm, struct kvm_pit_state2 *state)
{
	struct keel_pit *pit = vm->irqchip.pit;
	unsigned long flags;

	memset(state, 0, sizeof(*state));
	raw_spin_lock_irqsave(&pit->lock, flags);
	memcpy(state->channels, pit->ch, sizeof(pit->ch));
	state->flags = pit->flags;
	raw_spin_unlock_irqrestore(&pit->lock, flags);
}

/* All channels start to count anew. Any value of any field has a meaning in the switches above. */
static void pit_restore(struct keel_pit *pit, const struct kvm_pit_channel_state *ch)
{
	int n;

	memcpy(pit->ch, ch, sizeof(pit->ch));
	for (n = 0; n < 3; n++)
		pit_load(pit, n, ch[n].count);
}

/**
 * keel_pit_set_state() - KVM_SET_PIT2
 * @vm: the VM, which has a PIT
 * @state: from the client
 */
void keel_pit_set_state(struct keel_vm *vm, const struct kvm_pit_state2 *state)
{
	struct keel_pit *pit = vm->irqchip.pit;
	unsigned long flags;

	raw_spin_lock_irqsave(&pit->lock, flags);
	pit->flags = state->flags;
	pit_restore(pit, state->channels);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
}

/**
 * keel_pit_set_legacy() - KVM_SET_PIT
 * @vm: the VM, which has a PIT
 * @state: from the client
 */
void keel_pit_set_legacy(struct keel_vm *vm, const struct kvm_pit_state *state)
{
	struct keel_pit *pit = vm->irqchip.pit;
	unsigned long flags;

	raw_spin_lock_irqsave(&pit->lock, flags);
	pit_restore(pit, state->channels);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
}

/**
 * keel_pit_create() - KVM_CREATE_PIT2
 * @vm: the VM, vm->lock held
 * @flags: KVM_PIT_SPEAKER_DUMMY: port 0x61 is ours, else the client's
 *
 * Return: 0 or -ENOMEM
 */
int keel_pit_create(struct keel_vm *vm, u32 flags)
{
	struct keel_pit *pit = kzalloc(sizeof(*pit), GFP_KERNEL_ACCOUNT);
	int n;

	if (!pit)
		return -ENOMEM;
	raw_spin_lock_init(&pit->lock);
	pit->vm = vm;
	keel_hrtimer_setup(&pit->timer, pit_callback, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_HARD);
	for (n = 0; n < 3; n++) {
		pit->ch[n].mode = PIT_MODE_OFF;
		pit->ch[n].gate = n != 2;
		pit_load(pit, n, 0);
	}
	pit_reset_reinject(pit);
	pit->reinject = true;
	pit->range = (struct keel_io_range) {
		.start = PIT_PORT,
		.len = 4,
		.ops = &pit_io_ops,
		.ctx = pit,
	};
	pit->speaker_range = (struct keel_io_range) {
		.start = SPEAKER_PORT,
		.len = flags & KVM_PIT_SPEAKER_DUMMY ? 1 : 0,
		.ops = &speaker_io_ops,
		.ctx = pit,
	};
	smp_store_release(&vm->irqchip.pit, pit);
	keel_io_register(vm, KEEL_PIO_BUS, &pit->range);
	if (pit->speaker_range.len)
		keel_io_register(vm, KEEL_PIO_BUS, &pit->speaker_range);
	return 0;
}

/**
 * keel_pit_destroy() - undo keel_pit_create(), before what it interrupts is freed
 * @vm: the VM; no vCPU runs any more
 */
void keel_pit_destroy(struct keel_vm *vm)
{
	struct keel_pit *pit = vm->irqchip.pit;

	if (!pit)
		return;
	keel_io_unregister(vm, &pit->range);
	if (pit->speaker_range.len)
		keel_io_unregister(vm, &pit->speaker_range);
	hrtimer_cancel(&pit->timer);
	vm->irqchip.pit = NULL;
	kfree(pit);
}
