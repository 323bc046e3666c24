// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pair of 8259A interrupt controllers of a PC, with the edge/level registers of the south
 * bridge (Intel 8259A data sheet; 82371AB, ELCR). The slave's output is the master's input 2; the
 * master's output is the LINT0 pin of the local APICs.
 *
 * State is kept in the structure of the ABI, struct kvm_pic_state, one a chip. pic->lock, a raw
 * spinlock taken with interrupts off, guards all of it. What has to be told to others, that an
 * interrupt was ended or that the output rose, is collected under the lock and told by pic_unlock()
 * after it.
 */
#include <linux/slab.h>

#include "../keel.h"

#define PIC_CASCADE	2		/* the master's input from the slave */
#define PIC_SPURIOUS	7

/* kvm_pic_state.init_state */
enum { PIC_READY, PIC_WANT_ICW2, PIC_WANT_ICW3, PIC_WANT_ICW4 };

struct keel_pic {
	raw_spinlock_t lock;
	struct keel_vm *vm;
	struct kvm_pic_state chip[2];
	u8 lines[KEEL_PIC_PINS];	/* one bit a source */
	bool output;			/* INTR; read without the lock */
	bool rose;			/* vCPUs are to be told of the output */
	u16 ended;			/* pins whose end is to be told */
	u16 unmasked;			/* pins whose unmasking is to be told */
	struct keel_io_range range[3];
};

/* Inputs that the hardware fixes as edge-triggered: timer, keyboard, cascade; RTC, FPU. */
static const u8 pic_elcr_mask[2] = { 0xf8, 0xde };

static void pic_lock(struct keel_pic *pic, unsigned long *flags)
	__acquires(&pic->lock)
{
	raw_spin_lock_irqsave(&pic->lock, *flags);
}

static void pic_unlock(struct keel_pic *pic, unsigned long flags)
	__releases(&pic->lock)
{
	unsigned long ended = pic->ended, unmasked = pic->unmasked;
	bool rose = pic->rose;
	struct keel_vcpu *vcpu;
	unsigned int pin;
	int i;

	pic->ended = 0;
	pic->unmasked = 0;
	pic->rose = false;
	raw_spin_unlock_irqrestore(&pic->lock, flags);

	if (rose) {
		keel_for_each_vcpu(i, vcpu, pic->vm) {
			if (!keel_lapic_takes_extint(vcpu))
				continue;
			keel_request(KEEL_REQ_EVENT, vcpu);
			keel_vcpu_kick(vcpu);
			break;
		}
	}
	for_each_set_bit(pin, &unmasked, KEEL_PIC_PINS)
		keel_irq_unmasked(pic->vm, KEEL_CHIP_PIC, pin);
	for_each_set_bit(pin, &ended, KEEL_PIC_PINS)
		keel_irq_acked(pic->vm, KEEL_CHIP_PIC, pin);
}

/* Rotation makes any input the highest: priority 0 is input priority_add. 8: none in @mask. */
static unsigned int pic_priority(const struct kvm_pic_state *s, u8 mask)
{
	unsigned int prio;

	for (prio = 0; prio < 8; prio++)
		if (mask & 1 << ((prio + s->priority_add) & 7))
			break;
	return prio;
}

/* The input that the chip would have served now, or -1. */
static int pic_request(const struct keel_pic *pic, int chip)
{
	const struct kvm_pic_state *s = &pic->chip[chip];
	unsigned int prio = pic_priority(s, s->irr & ~s->imr);
	u8 in_service = s->isr;

	if (prio == 8)
		return -1;
	/* Special mask mode: what is masked does not hold others up. */
	if (s->special_mask)
		in_service &= ~s->imr;
	/* Special fully nested mode: the slave may interrupt its own interrupt. */
	if (s->special_fully_nested_mode && chip == 0)
		in_service &= ~(1 << PIC_CASCADE);
	if (prio >= pic_priority(s, in_service))
		return -1;
	return (prio + s->priority_add) & 7;
}

static void pic_update(struct keel_pic *pic)
{
	bool output;

	if (pic_request(pic, 1) >= 0)
		pic->chip[0].irr |= 1 << PIC_CASCADE;
	else
		pic->chip[0].irr &= ~(1 << PIC_CASCADE);
	output = pic_request(pic, 0) >= 0;
	if (output && !pic->output)
		pic->rose = true;
	WRITE_ONCE(pic->output, output);
}

/* An input line has @level: 1 requested, 0 was requested already, -1 masked. */
static int pic_line_changed(struct kvm_pic_state *s, unsigned int irq, bool level)
{
	u8 bit = 1 << irq;
	int ret = 1;

	if (!level) {
		s->last_irr &= ~bit;
		if (s->elcr & bit)
			s->irr &= ~bit;
	} else {
		if ((s->elcr & bit) || !(s->last_irr & bit)) {
			ret = !(s->irr & bit);
			s->irr |= bit;
		}
		s->last_irr |= bit;
	}
	return s->imr & bit ? -1 : ret;
}

/* End of interrupt for inputs in @bits of a chip. */
static void pic_end(struct keel_pic *pic, int chip, u8 bits)
{
	pic->chip[chip].isr &= ~bits;
	pic->ended |= bits << (chip * 8);
}

/*
 * The acknowledge cycle for one chip: its vector's low bits. A request that has gone is spurious.
 */
static unsigned int pic_intack(struct keel_pic *pic, int chip)
{
	struct kvm_pic_state *s = &pic->chip[chip];
	int irq = pic_request(pic, chip);

	if (irq < 0)
		return PIC_SPURIOUS;
	s->isr |= 1 << irq;
	if (!(s->elcr & 1 << irq))
		s->irr &= ~(1 << irq);
	if (s->auto_eoi) {
		if (s->rotate_on_auto_eoi)
			s->priority_add = (irq + 1) & 7;
		pic_end(pic, chip, 1 << irq);
	}
	return irq;
}

/* ICW1: the chip starts anew and expects its other initialization words. */
static void pic_init(struct keel_pic *pic, int chip, u8 val)
{
	struct kvm_pic_state *s = &pic->chip[chip];
	u8 dropped = s->isr | (s->irr & ~s->elcr);

	s->init4 = val & 1;
	s->last_irr = 0;
	s->irr &= s->elcr;
	s->imr = 0;
	s->priority_add = 0;
	s->special_mask = 0;
	s->read_reg_select = 0;
	s->poll = 0;
	if (!s->init4) {
		s->special_fully_nested_mode = 0;
		s->auto_eoi = 0;
	}
	s->init_state = PIC_WANT_ICW2;
	/* Who waits for the end of one of these would wait for ever. */
	pic_end(pic, chip, dropped);
}

static void pic_write_ocw2(struct keel_pic *pic, int chip, u8 val)
{
	struct kvm_pic_state *s = &pic->chip[chip];
	unsigned int irq = val & 7;
	bool rotate = val & 0x80;
	unsigned int prio;

	switch (val >> 5) {
	case 0:
	case 4:
		s->rotate_on_auto_eoi = rotate;
		break;
	case 1:			/* non-specific EOI: the highest in service */
	case 5:
		prio = pic_priority(s, s->special_mask ? s->isr & ~s->imr : s->isr);
		if (prio == 8)
			break;
		irq = (prio + s->priority_add) & 7;
		fallthrough;
	case 3:			/* specific EOI */
	case 7:
		if (rotate)
			s->priority_add = (irq + 1) & 7;
		pic_end(pic, chip, 1 << irq);
		break;
	case 6:
		s->priority_add = (irq + 1) & 7;
		break;
	}
}

static void pic_write_command(struct keel_pic *pic, int chip, u8 val)
{
	struct kvm_pic_state *s = &pic->chip[chip];

	if (val & 0x10) {
		pic_init(pic, chip, val);
	} else if (val & 0x08) {
		if (val & 0x04)
			s->poll = 1;
		if (val & 0x02)
			s->read_reg_select = val & 1;
		if (val & 0x40)
			s->special_mask = val >> 5 & 1;
	} else {
		pic_write_ocw2(pic, chip, val);
	}
}

static void pic_write_data(struct keel_pic *pic, int chip, u8 val)
{
	struct kvm_pic_state *s = &pic->chip[chip];

	switch (s->init_state) {
	case PIC_WANT_ICW2:
		s->irq_base = val & 0xf8;
		s->init_state = PIC_WANT_ICW3;
		break;
	case PIC_WANT_ICW3:	/* the cascade is wired, not programmed */
		s->init_state = s->init4 ? PIC_WANT_ICW4 : PIC_READY;
		break;
	case PIC_WANT_ICW4:
		s->special_fully_nested_mode = val >> 4 & 1;
		s->auto_eoi = val >> 1 & 1;
		s->init_state = PIC_READY;
		break;
	default:
		pic->unmasked |= (s->imr & ~val) << (chip * 8);
		s->imr = val;
	}
}

static u8 pic_read(struct keel_pic *pic, int chip, bool data)
{
	struct kvm_pic_state *s = &pic->chip[chip];
	bool pending;

	/* A poll command makes the next read an acknowledge cycle. */
	if (s->poll) {
		s->poll = 0;
		pending = pic_request(pic, chip) >= 0;
		return pic_intack(pic, chip) | (pending ? 0x80 : 0);
	}
	if (data)
		return s->imr;
	return s->read_reg_select ? s->isr : s->irr;
}

/* Ports decode to: chip by bit 7 (0x20, 0xa0) or bit 0 of the ELCR ports (0x4d0, 0x4d1). */
static int pic_port_write(struct keel_vcpu *vcpu, void *ctx, u64 addr, unsigned int len,
			  const void *val)
{
	struct keel_pic *pic = ctx;
	unsigned long flags;
	u8 data = *(const u8 *)val;
	int chip = addr >> 7 & 1;

	if (len != 1)
		return 0;
	pic_lock(pic, &flags);
	if (addr >= 0x4d0)
		pic->chip[addr & 1].elcr = data & pic_elcr_mask[addr & 1];
	else if (addr & 1)
		pic_write_data(pic, chip, data);
	else
		pic_write_command(pic, chip, data);
	pic_update(pic);
	pic_unlock(pic, flags);
	return 0;
}

static int pic_port_read(struct keel_vcpu *vcpu, void *ctx, u64 addr, unsigned int len, void *val)
{
	struct keel_pic *pic = ctx;
	unsigned long flags;
	u8 data;

	memset(val, 0, len);
	if (len != 1)
		return 0;
	pic_lock(pic, &flags);
	if (addr >= 0x4d0)
		data = pic->chip[addr & 1].elcr;
	else
		data = pic_read(pic, addr >> 7 & 1, addr & 1);
	pic_update(pic);
	pic_unlock(pic, flags);
	*(u8 *)val = data;
	return 0;
}

static const struct keel_io_ops pic_io_ops = {
	.read = pic_port_read,
	.write = pic_port_write,
};

/**
 * keel_pic_set_irq() - a source changes its share of an input line
 * @vm: the VM
 * @pin: 0 to 7 on the master, 8 to 15 on the slave
 * @source: KEEL_IRQ_SOURCE_*
 * @level: the source's new level
 *
 * Return: 1, 0 when the request was pending already, -1 when the input is masked
 */
int keel_pic_set_irq(struct keel_vm *vm, int pin, int source, bool level)
{
	struct keel_pic *pic = vm->irqchip.pic;
	unsigned long flags;
	int ret;

	pic_lock(pic, &flags);
	level = keel_line_level(&pic->lines[pin], source, level);
	ret = pic_line_changed(&pic->chip[pin >> 3], pin & 7, level);
	pic_update(pic);
	pic_unlock(pic, flags);
	return ret;
}

/**
 * keel_pic_output() - the INTR line
 * @vm: the VM
 *
 * Return: true while an interrupt waits; it is for a vCPU for which keel_lapic_takes_extint() holds
 */
bool keel_pic_output(struct keel_vm *vm)
{
	struct keel_pic *pic = vm->irqchip.pic;

	return pic && READ_ONCE(pic->output);
}

/**
 * keel_pic_ack() - the processor's acknowledge cycles
 * @vm: the VM
 *
 * Return: the vector; that of input 7 of a chip whose request has gone in the meantime
 */
int keel_pic_ack(struct keel_vm *vm)
{
	struct keel_pic *pic = vm->irqchip.pic;
	unsigned long flags;
	int vector;

	pic_lock(pic, &flags);
	vector = pic_intack(pic, 0);
	if (vector == PIC_CASCADE)
		vector = pic->chip[1].irq_base + pic_intack(pic, 1);
	else
		vector += pic->chip[0].irq_base;
	/* A further request is a new rise for the processor. */
	WRITE_ONCE(pic->output, false);
	pic_update(pic);
	pic_unlock(pic, flags);
	return vector;
}

/**
 * keel_pic_get_state() - KVM_GET_IRQCHIP
 * @vm: the VM
 * @chip: 0 master, 1 slave
 * @state: result
 */
void keel_pic_get_state(struct keel_vm *vm, int chip, struct kvm_pic_state *state)
{
	struct keel_pic *pic = vm->irqchip.pic;
	unsigned long flags;

	pic_lock(pic, &flags);
	*state = pic->chip[chip];
	pic_unlock(pic, flags);
}

/**
 * keel_pic_set_state() - KVM_SET_IRQCHIP
 * @vm: the VM
 * @chip: 0 master, 1 slave
 * @state: from the client; fields are cut to the bits that they have
 */
void keel_pic_set_state(struct keel_vm *vm, int chip, const struct kvm_pic_state *state)
{
	struct keel_pic *pic = vm->irqchip.pic;
	struct kvm_pic_state s = *state;
	unsigned long flags;

	s.priority_add &= 7;
	s.irq_base &= 0xf8;
	s.read_reg_select = !!s.read_reg_select;
	s.poll = !!s.poll;
	s.special_mask = !!s.special_mask;
	if (s.init_state > PIC_WANT_ICW4)
		s.init_state = PIC_READY;
	s.auto_eoi = !!s.auto_eoi;
	s.rotate_on_auto_eoi = !!s.rotate_on_auto_eoi;
	s.special_fully_nested_mode = !!s.special_fully_nested_mode;
	s.init4 = !!s.init4;
	s.elcr_mask = pic_elcr_mask[chip];
	s.elcr &= s.elcr_mask;

	pic_lock(pic, &flags);
	pic->chip[chip] = s;
	pic_update(pic);
	pic_unlock(pic, flags);
}

/**
 * keel_pic_create() - give the VM a pair of PICs
 * @vm: the VM, vm->lock held
 *
 * Return: 0 or -ENOMEM
 */
int keel_pic_create(struct keel_vm *vm)
{
	static const u16 ports[3] = { 0x20, 0xa0, 0x4d0 };
	struct keel_pic *pic = kzalloc(sizeof(*pic), GFP_KERNEL_ACCOUNT);
	int i;

	if (!pic)
		return -ENOMEM;
	raw_spin_lock_init(&pic->lock);
	pic->vm = vm;
	for (i = 0; i < 2; i++)
		pic->chip[i].elcr_mask = pic_elcr_mask[i];
	vm->irqchip.pic = pic;
	for (i = 0; i < ARRAY_SIZE(ports); i++) {
		pic->range[i] = (struct keel_io_range) {
			.start = ports[i],
			.len = 2,
			.ops = &pic_io_ops,
			.ctx = pic,
		};
		keel_io_register(vm, KEEL_PIO_BUS, &pic->range[i]);
	}
	return 0;
}

/**
 * keel_pic_destroy() - undo keel_pic_create()
 * @vm: the VM; nothing raises interrupts any more
 */
void keel_pic_destroy(struct keel_vm *vm)
{
	struct keel_pic *pic = vm->irqchip.pic;
	int i;

	if (!pic)
		return;
	for (i = 0; i < ARRAY_SIZE(pic->range); i++)
		keel_io_unregister(vm, &pic->range[i]);
	vm->irqchip.pic = NULL;
	kfree(pic);
}
