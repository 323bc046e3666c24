// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel devices on the port and the memory bus: ranges, and the search for who takes an access. Eventfds of
 * single addresses (ioeventfd.c) come before them.
 *
 * Lists are changed under vm->slots_lock and read under vm->srcu; a range must outlive the grace period
 * that keel_io_unregister() waits for. Handlers run under vm->srcu (read side), those of writes with preemption
 * off, and perhaps with interrupts off.
 */
#include <linux/rculist.h>

#include "ops.h"

/* Addresses are in 64 classes: eight ports, or a page, are in one. */
static __always_inline u64 class_of(enum keel_bus bus, u64 addr)
{
	return bus == KEEL_PIO_BUS ? addr >> 3 : addr >> PAGE_SHIFT;
}

/* Most accesses are for the client: who has no range in their class need not look for one. */
static __always_inline bool may_hit(const struct keel_vm *vm, enum keel_bus bus, u64 addr)
{
	return READ_ONCE(vm->io_classes[bus]) >> class_of(bus, addr) % 64 & 1;
}

static void classes_update(struct keel_vm *vm, enum keel_bus bus)
{
	struct keel_io_range *range;
	u64 classes = 0, class, nr;

	list_for_each_entry(range, &vm->io_ranges[bus], link) {
		class = class_of(bus, range->start);
		/* Past the end of all addresses it is many, as of a long range. */
		nr = range->len ? class_of(bus, range->start + range->len - 1) - class + 1 : 0;
		for (nr = min(nr, 64ULL); nr--; class++)
			classes |= BIT_ULL(class % 64);
	}
	WRITE_ONCE(vm->io_classes[bus], classes);
}

/**
 * keel_io_register() - add a range
 * @vm: the VM
 * @bus: KEEL_PIO_BUS or KEEL_MMIO_BUS
 * @range: owned by the caller, until unregistered or the VM is gone
 */
void keel_io_register(struct keel_vm *vm, enum keel_bus bus, struct keel_io_range *range)
{
	mutex_lock(&vm->slots_lock);
	list_add_tail_rcu(&range->link, &vm->io_ranges[bus]);
	classes_update(vm, bus);
	mutex_unlock(&vm->slots_lock);
}

/**
 * keel_io_unregister() - remove a range; on return nobody uses it
 * @vm: the VM
 * @range: registered before
 */
void keel_io_unregister(struct keel_vm *vm, struct keel_io_range *range)
{
	mutex_lock(&vm->slots_lock);
	list_del_rcu(&range->link);
	classes_update(vm, KEEL_PIO_BUS);
	classes_update(vm, KEEL_MMIO_BUS);
	mutex_unlock(&vm->slots_lock);
	/* Of a VM that is being destroyed there are no readers left. */
	if (refcount_read(&vm->refs))
		synchronize_srcu_expedited(&vm->srcu);
}

#define for_each_hit(range, vm, bus, addr, len) \
	list_for_each_entry_srcu(range, &(vm)->io_ranges[bus], link, srcu_read_lock_held(&(vm)->srcu)) \
		if ((addr) >= (range)->start && (addr) - (range)->start < (range)->len && \
		    (len) <= (range)->len - ((addr) - (range)->start))

/**
 * keel_io_read() - let an in-kernel device answer a read
 * @vcpu: the vCPU that reads
 * @bus: KEEL_PIO_BUS or KEEL_MMIO_BUS
 * @addr: port or guest physical address
 * @len: bytes
 * @val: result, @len bytes
 *
 * Return: 0, or -EOPNOTSUPP when no device takes it
 */
int keel_io_read(struct keel_vcpu *vcpu, enum keel_bus bus, u64 addr, unsigned int len, void *val)
{
	struct keel_vm *vm = vcpu->vm;
	struct keel_io_range *range;
	int idx, r = -EOPNOTSUPP;

	if (!may_hit(vm, bus, addr))
		return r;
	idx = srcu_read_lock(&vm->srcu);
	for_each_hit(range, vm, bus, addr, len)
		if (range->ops->read && !range->ops->read(vcpu, range->ctx, addr, len, val)) {
			r = 0;
			break;
		}
	srcu_read_unlock(&vm->srcu, idx);
	return r;
}

/**
 * keel_io_write_range() - let an in-kernel device take a write that is no eventfd's
 * @vcpu: the vCPU that writes
 * @bus: KEEL_PIO_BUS or KEEL_MMIO_BUS
 * @addr: port or guest physical address
 * @len: bytes
 * @val: @len bytes
 *
 * Return: 0, or -EOPNOTSUPP when no device takes it
 */
int keel_io_write_range(struct keel_vcpu *vcpu, enum keel_bus bus, u64 addr, unsigned int len, const void *val)
{
	struct keel_vm *vm = vcpu->vm;
	struct keel_io_range *range;
	int idx, r = -EOPNOTSUPP;

	if (!may_hit(vm, bus, addr))
		return r;
	idx = srcu_read_lock(&vm->srcu);
	for_each_hit(range, vm, bus, addr, len)
		if (range->ops->write && !range->ops->write(vcpu, range->ctx, addr, len, val)) {
			r = 0;
			break;
		}
	srcu_read_unlock(&vm->srcu, idx);
	return r;
}

/**
 * keel_io_write() - let an eventfd or an in-kernel device take a write
 * @vcpu: the vCPU that writes
 * @bus: KEEL_PIO_BUS or KEEL_MMIO_BUS
 * @addr: port or guest physical address
 * @len: bytes
 * @val: @len bytes
 *
 * Return: 0, or -EOPNOTSUPP when no device takes it
 */
int keel_io_write(struct keel_vcpu *vcpu, enum keel_bus bus, u64 addr, unsigned int len, const void *val)
{
	int r;

	preempt_disable();
	r = keel_io_write_atomic(vcpu, bus, addr, len, val);
	preempt_enable();
	return r;
}
