// SPDX-License-Identifier: GPL-2.0-only
/*
 * The I/O APIC (Intel 82093AA): 24 pins, each with a redirection entry that says which interrupt
 * message its line sends to the local APICs.
 *
 * An edge-triggered pin sends once a rising edge. A level-triggered pin sends while its line is
 * high, and then waits (remote IRR) for the local APIC's EOI of that vector.
 *
 * ioapic->lock, a raw spinlock taken with interrupts off, guards all of it. It is not held while
 * others are told that an interrupt was acknowledged: the PIT may raise the next tick from there.
 */
#include <linux/bitmap.h>
#include <linux/moduleparam.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "../keel.h"

#define IOAPIC_BASE		0xfec00000
#define IOAPIC_LENGTH		0x100
#define IOAPIC_PINS		KVM_IOAPIC_NUM_PINS
#define IOAPIC_ALL_PINS		((1U << IOAPIC_PINS) - 1)
#define IOAPIC_VERSION		(0x11 | (IOAPIC_PINS - 1) << 16)
#define IOAPIC_VERSION_EOI	(0x20 | (IOAPIC_PINS - 1) << 16)

/* Direct registers */
#define IOREGSEL		0x00
#define IOWIN			0x10
#define IOEOI			0x40	/* only with directed EOIs */

/* Registers behind IOWIN */
#define IOAPICID		0x00
#define IOAPICVER		0x01
#define IOAPICARB		0x02
#define IOREDTBL		0x10	/* two registers a pin, low half first */

/* Redirection entries */
#define RTE_VECTOR		0xffULL
#define RTE_DELIVERY_SHIFT	8
#define RTE_LOGICAL		BIT_ULL(11)
#define RTE_STATUS		BIT_ULL(12)
#define RTE_REMOTE_IRR		BIT_ULL(14)
#define RTE_LEVEL		BIT_ULL(15)
#define RTE_MASKED		BIT_ULL(16)
#define RTE_READ_ONLY		(RTE_STATUS | RTE_REMOTE_IRR)
#define RTE_DEST_SHIFT		56

/*
 * The RTC's pin: clients count its ticks, so one that was not yet handled is reported as coalesced.
 */
#define IOAPIC_RTC_PIN		8

/*
 * So many EOIs in a row with the line still high are a storm; then the guest gets time to breathe.
 */
#define IOAPIC_STORM		10000
#define IOAPIC_STORM_DELAY	(HZ / 100)

/* In-tree KVM has none, and some guests use the one half of it without the other. */
static bool directed_eoi;
module_param(directed_eoi, bool, 0644);
MODULE_PARM_DESC(directed_eoi, "I/O APICs of new VMs have an EOI register (off, as in-tree KVM)");

struct keel_ioapic {
	raw_spinlock_t lock;
	struct keel_vm *vm;
	struct keel_io_range range;
	u8 ioregsel;
	u32 id;
	u32 irr;		/* pins that request */
	u32 delivered;		/* of these, edges that have been sent */
	u64 rte[IOAPIC_PINS];
	u8 lines[IOAPIC_PINS];	/* one bit a source */
	u32 eois[IOAPIC_PINS];	/* in a row, with the line still high */
	unsigned long vectors[BITS_TO_LONGS(256)];	/* named by some entry; read unlocked */
	struct delayed_work storm_work;
};

static void ioapic_message(const struct keel_ioapic *ioapic, unsigned int pin,
			   struct keel_irq_msg *msg)
{
	u64 rte = ioapic->rte[pin];

	*msg = (struct keel_irq_msg) {
		.vector = rte & RTE_VECTOR,
		.delivery = rte >> RTE_DELIVERY_SHIFT & 7,
		.logical = rte & RTE_LOGICAL,
		.level = rte & RTE_LEVEL,
		.assert = true,
		.dest = rte >> RTE_DEST_SHIFT,
	};
}

/* Sends the pin's message unless it is masked or awaits an EOI; returns as keel_lapic_deliver(). */
static int ioapic_service(struct keel_ioapic *ioapic, unsigned int pin)
{
	u64 rte = ioapic->rte[pin];
	struct keel_irq_msg msg;
	int ret;

	if ((rte & RTE_MASKED) || ((rte & RTE_LEVEL) && (rte & RTE_REMOTE_IRR)))
		return -1;
	ioapic_message(ioapic, pin, &msg);
	if (!msg.level)
		ioapic->delivered |= BIT(pin);
	ret = keel_lapic_deliver(ioapic->vm, NULL, &msg);
	if (ret > 0 && msg.level)
		ioapic->rte[pin] |= RTE_REMOTE_IRR;
	return ret;
}

/* Is an earlier interrupt of @pin requested or in service at some vCPU? */
static bool ioapic_in_service(struct keel_ioapic *ioapic, unsigned int pin)
{
	struct keel_irq_msg msg;
	struct keel_vcpu *vcpu;
	int i;

	ioapic_message(ioapic, pin, &msg);
	keel_for_each_vcpu(i, vcpu, ioapic->vm)
		if (keel_lapic_vector_in_use(vcpu, &msg))
			return true;
	return false;
}

static int ioapic_line_changed(struct keel_ioapic *ioapic, unsigned int pin, bool level,
			       bool line_status)
{
	u32 old = ioapic->irr;

	if (!level) {
		ioapic->irr &= ~BIT(pin);
		return 1;
	}
	if (pin == IOAPIC_RTC_PIN && line_status && ioapic_in_service(ioapic, pin))
		return 0;

	ioapic->irr |= BIT(pin);
	if (!(ioapic->rte[pin] & RTE_LEVEL)) {
		ioapic->delivered &= ~BIT(pin);
		if (old & BIT(pin))
			return 0;	/* the line is up already: no edge */
	}
	return ioapic_service(ioapic, pin);
}

/* Which vectors the EOI path has to come here for. */
static void ioapic_update_vectors(struct keel_ioapic *ioapic)
{
	DECLARE_BITMAP(vectors, 256);
	int i;

	bitmap_zero(vectors, 256);
	for (i = 0; i < IOAPIC_PINS; i++)
		__set_bit(ioapic->rte[i] & RTE_VECTOR, vectors);
	for (i = 0; i < ARRAY_SIZE(ioapic->vectors); i++)
		WRITE_ONCE(ioapic->vectors[i], vectors[i]);
}

static u32 ioapic_read_window(const struct keel_ioapic *ioapic)
{
	u32 pin = (ioapic->ioregsel - IOREDTBL) >> 1;
	u64 rte = ~0ULL;

	switch (ioapic->ioregsel) {
	case IOAPICID:
	case IOAPICARB:
		return (ioapic->id & 0xf) << 24;
	case IOAPICVER:
		return ioapic->vm->irqchip.directed_eoi ? IOAPIC_VERSION_EOI : IOAPIC_VERSION;
	default:
		if (ioapic->ioregsel >= IOREDTBL && pin < IOAPIC_PINS)
			rte = ioapic->rte[array_index_nospec(pin, IOAPIC_PINS)];
		return ioapic->ioregsel & 1 ? rte >> 32 : rte;
	}
}

/* Returns the pins that this write has unmasked. */
static u32 ioapic_write_window(struct keel_ioapic *ioapic, u32 val)
{
	u32 pin = (ioapic->ioregsel - IOREDTBL) >> 1;
	u64 old, rte;

	if (ioapic->ioregsel == IOAPICID)
		ioapic->id = val >> 24 & 0xf;
	if (ioapic->ioregsel < IOREDTBL || pin >= IOAPIC_PINS)
		return 0;

	pin = array_index_nospec(pin, IOAPIC_PINS);
	old = ioapic->rte[pin];
	if (ioapic->ioregsel & 1)
		rte = (old & 0xffffffff) | (u64)val << 32;
	else
		rte = (old & ~0xffffffffULL & ~RTE_READ_ONLY) | (val & ~RTE_READ_ONLY) |
		      (old & RTE_READ_ONLY);
	/* Systems without an EOI register clear remote IRR by a switch to edge and back. */
	if (!(rte & RTE_LEVEL))
		rte &= ~RTE_REMOTE_IRR;
	ioapic->rte[pin] = rte;
	if ((old ^ rte) & RTE_VECTOR)
		ioapic_update_vectors(ioapic);
	if ((rte & RTE_LEVEL) && (ioapic->irr & BIT(pin)))
		ioapic_service(ioapic, pin);
	return (old & ~rte & RTE_MASKED) ? BIT(pin) : 0;
}

static int ioapic_mmio_read(struct keel_vcpu *vcpu, void *ctx, u64 addr, unsigned int len,
			    void *val)
{
	struct keel_ioapic *ioapic = ctx;
	unsigned long flags;
	u64 result = 0;

	raw_spin_lock_irqsave(&ioapic->lock, flags);
	switch (addr & 0xff) {
	case IOREGSEL:
		result = ioapic->ioregsel;
		break;
	case IOWIN:
		result = ioapic_read_window(ioapic);
		break;
	}
	raw_spin_unlock_irqrestore(&ioapic->lock, flags);
	memset(val, 0, len);
	memcpy(val, &result, min_t(unsigned int, len, sizeof(result)));
	return 0;
}

static int ioapic_mmio_write(struct keel_vcpu *vcpu, void *ctx, u64 addr, unsigned int len,
			     const void *val)
{
	struct keel_ioapic *ioapic = ctx;
	bool eoi = false;
	unsigned long flags;
	u32 data = 0, unmasked = 0;

	if (len != 1 && len != 2 && len != 4 && len != 8)
		return 0;
	memcpy(&data, val, min_t(unsigned int, len, sizeof(data)));
	raw_spin_lock_irqsave(&ioapic->lock, flags);
	switch (addr & 0xff) {
	case IOREGSEL:
		ioapic->ioregsel = data;
		break;
	case IOWIN:
		unmasked = ioapic_write_window(ioapic, data);
		break;
	case IOEOI:
		eoi = ioapic->vm->irqchip.directed_eoi;
		break;
	}
	raw_spin_unlock_irqrestore(&ioapic->lock, flags);
	if (eoi)
		keel_ioapic_eoi(ioapic->vm, data, true);
	if (unmasked)
		keel_irq_unmasked(ioapic->vm, KEEL_CHIP_IOAPIC, __ffs(unmasked));
	return 0;
}

static const struct keel_io_ops ioapic_io_ops = {
	.read = ioapic_mmio_read,
	.write = ioapic_mmio_write,
};

/**
 * keel_ioapic_set_irq() - a source changes its share of a pin's line
 * @vm: the VM
 * @pin: below KVM_IOAPIC_NUM_PINS
 * @source: KEEL_IRQ_SOURCE_*
 * @level: the source's new level
 * @line_status: the caller counts interrupts (KVM_IRQ_LINE_STATUS)
 *
 * Return: number of local APICs that took an interrupt (1 for a falling line), 0: coalesced with an
 * earlier one, -1: masked or not delivered
 */
int keel_ioapic_set_irq(struct keel_vm *vm, int pin, int source, bool level, bool line_status)
{
	struct keel_ioapic *ioapic = vm->irqchip.ioapic;
	unsigned long flags;
	int ret;

	raw_spin_lock_irqsave(&ioapic->lock, flags);
	level = keel_line_level(&ioapic->lines[pin], source, level);
	ret = ioapic_line_changed(ioapic, pin, level, line_status);
	raw_spin_unlock_irqrestore(&ioapic->lock, flags);
	return ret;
}

/**
 * keel_ioapic_handles() - does some redirection entry name this vector?
 * @vm: the VM
 * @vector: of an EOI; only where true is keel_ioapic_eoi() of use
 */
bool keel_ioapic_handles(struct keel_vm *vm, u8 vector)
{
	struct keel_ioapic *ioapic = vm->irqchip.ioapic;

	return ioapic && test_bit(vector, ioapic->vectors);
}

/* The line of a level-triggered pin may still be high after the EOI: then it sends again. */
static void ioapic_end_level(struct keel_ioapic *ioapic, unsigned int pin)
{
	ioapic->rte[pin] &= ~RTE_REMOTE_IRR;
	if ((ioapic->rte[pin] & RTE_MASKED) || !(ioapic->irr & BIT(pin))) {
		ioapic->eois[pin] = 0;
		return;
	}
	/*
	 * A real bus takes its time between EOI and the next message, and a guest that does not
	 * quench the device gets somewhere in between.
	 */
	if (++ioapic->eois[pin] >= IOAPIC_STORM) {
		ioapic->eois[pin] = 0;
		schedule_delayed_work(&ioapic->storm_work, IOAPIC_STORM_DELAY);
	} else {
		ioapic_service(ioapic, pin);
	}
}

static void ioapic_storm_work(struct work_struct *work)
{
	struct delayed_work *dwork = to_delayed_work(work);
	struct keel_ioapic *ioapic = container_of(dwork, struct keel_ioapic, storm_work);
	unsigned long flags;
	int pin;

	raw_spin_lock_irqsave(&ioapic->lock, flags);
	for (pin = 0; pin < IOAPIC_PINS; pin++)
		if ((ioapic->rte[pin] & RTE_LEVEL) && (ioapic->irr & BIT(pin)))
			ioapic_service(ioapic, pin);
	raw_spin_unlock_irqrestore(&ioapic->lock, flags);
}

/**
 * keel_ioapic_eoi() - a local APIC broadcasts the end of an interrupt, or the guest directs it here
 * @vm: the VM
 * @vector: which
 * @level: it was level-triggered
 */
void keel_ioapic_eoi(struct keel_vm *vm, u8 vector, bool level)
{
	struct keel_ioapic *ioapic = vm->irqchip.ioapic;
	unsigned long flags, pins = 0;
	unsigned int pin;

	raw_spin_lock_irqsave(&ioapic->lock, flags);
	for (pin = 0; pin < IOAPIC_PINS; pin++)
		if ((ioapic->rte[pin] & RTE_VECTOR) == vector)
			pins |= BIT(pin);
	raw_spin_unlock_irqrestore(&ioapic->lock, flags);

	/* Before remote IRR is cleared: a line that is lowered in here is not sent again. */
	for_each_set_bit(pin, &pins, IOAPIC_PINS)
		keel_irq_acked(vm, KEEL_CHIP_IOAPIC, pin);
	if (!level)
		return;

	raw_spin_lock_irqsave(&ioapic->lock, flags);
	for_each_set_bit(pin, &pins, IOAPIC_PINS)
		if ((ioapic->rte[pin] & (RTE_VECTOR | RTE_LEVEL)) == (vector | RTE_LEVEL))
			ioapic_end_level(ioapic, pin);
	raw_spin_unlock_irqrestore(&ioapic->lock, flags);
}

/**
 * keel_ioapic_get_state() - KVM_GET_IRQCHIP
 * @vm: the VM
 * @state: result; irr has the requests that were not sent
 */
void keel_ioapic_get_state(struct keel_vm *vm, struct kvm_ioapic_state *state)
{
	struct keel_ioapic *ioapic = vm->irqchip.ioapic;
	unsigned long flags;
	int pin;

	memset(state, 0, sizeof(*state));
	raw_spin_lock_irqsave(&ioapic->lock, flags);
	state->base_address = IOAPIC_BASE;
	state->ioregsel = ioapic->ioregsel;
	state->id = ioapic->id;
	state->irr = ioapic->irr & ~ioapic->delivered;
	for (pin = 0; pin < IOAPIC_PINS; pin++)
		state->redirtbl[pin].bits = ioapic->rte[pin];
	raw_spin_unlock_irqrestore(&ioapic->lock, flags);
}

/**
 * keel_ioapic_set_state() - KVM_SET_IRQCHIP
 * @vm: the VM
 * @state: from the client; the base address is fixed and ignored. Requests in irr are sent again.
 */
void keel_ioapic_set_state(struct keel_vm *vm, const struct kvm_ioapic_state *state)
{
	struct keel_ioapic *ioapic = vm->irqchip.ioapic;
	unsigned long flags, irr = state->irr & IOAPIC_ALL_PINS;
	unsigned int pin;

	raw_spin_lock_irqsave(&ioapic->lock, flags);
	ioapic->ioregsel = state->ioregsel;
	ioapic->id = state->id & 0xf;
	ioapic->irr = 0;
	ioapic->delivered = 0;
	for (pin = 0; pin < IOAPIC_PINS; pin++)
		ioapic->rte[pin] = state->redirtbl[pin].bits;
	ioapic_update_vectors(ioapic);
	for_each_set_bit(pin, &irr, IOAPIC_PINS)
		ioapic_line_changed(ioapic, pin, true, true);
	raw_spin_unlock_irqrestore(&ioapic->lock, flags);
}

/**
 * keel_ioapic_create() - give the VM an I/O APIC as after power-up, at 0xfec00000
 * @vm: the VM, vm->lock held
 *
 * Return: 0 or -ENOMEM
 */
int keel_ioapic_create(struct keel_vm *vm)
{
	struct keel_ioapic *ioapic = kzalloc(sizeof(*ioapic), GFP_KERNEL_ACCOUNT);
	int pin;

	if (!ioapic)
		return -ENOMEM;
	raw_spin_lock_init(&ioapic->lock);
	INIT_DELAYED_WORK(&ioapic->storm_work, ioapic_storm_work);
	ioapic->vm = vm;
	vm->irqchip.directed_eoi = READ_ONCE(directed_eoi);
	for (pin = 0; pin < IOAPIC_PINS; pin++)
		ioapic->rte[pin] = RTE_MASKED;
	ioapic_update_vectors(ioapic);
	ioapic->range = (struct keel_io_range) {
		.start = IOAPIC_BASE,
		.len = IOAPIC_LENGTH,
		.ops = &ioapic_io_ops,
		.ctx = ioapic,
	};
	vm->irqchip.ioapic = ioapic;
	keel_io_register(vm, KEEL_MMIO_BUS, &ioapic->range);
	return 0;
}

/**
 * keel_ioapic_destroy() - undo keel_ioapic_create()
 * @vm: the VM; nothing raises interrupts any more
 */
void keel_ioapic_destroy(struct keel_vm *vm)
{
	struct keel_ioapic *ioapic = vm->irqchip.ioapic;

	if (!ioapic)
		return;
	keel_io_unregister(vm, &ioapic->range);
	cancel_delayed_work_sync(&ioapic->storm_work);
	vm->irqchip.ioapic = NULL;
	kfree(ioapic);
}
