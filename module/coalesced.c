// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_REGISTER_COALESCED_MMIO: writes to a zone go into a ring that the client empties when it comes round
 * to it, and do not end KVM_RUN (KVM API documentation, section 4.116).
 *
 * One ring a VM, in a page that each vCPU's mapping shows at KVM_COALESCED_MMIO_PAGE_OFFSET. The client
 * moves "first", the kernel "last"; but the whole page is the client's to write, so both are read once and
 * checked. ring lock: coalesced.lock. Zones are ranges of iobus.c; their list is changed under vm->lock.
 */
#include <linux/limits.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "keel.h"

struct write_zone {
	struct list_head link;
	struct keel_vm *vm;
	struct keel_io_range range;
	bool pio;
};

static int zone_write(struct keel_vcpu *vcpu, void *ctx, u64 addr, unsigned int len, const void *val)
{
	struct write_zone *zone = ctx;
	struct keel_coalesced *c = &zone->vm->coalesced;
	struct kvm_coalesced_mmio *entry;
	int ret = -EOPNOTSUPP;
	unsigned long flags;
	u32 last, next;

	if (len > sizeof(entry->data))
		return -EOPNOTSUPP;
	raw_spin_lock_irqsave(&c->lock, flags);
	last = READ_ONCE(c->ring->last);
	next = (last + 1) % KVM_COALESCED_MMIO_MAX;
	/* One entry always stays unused: then full and empty differ. When full, the client gets an exit. */
	if (last < KVM_COALESCED_MMIO_MAX && next != READ_ONCE(c->ring->first)) {
		entry = &c->ring->coalesced_mmio[last];
		entry->phys_addr = addr;
		entry->len = len;
		entry->pio = zone->pio;
		memcpy(entry->data, val, len);
		/* The client sees the entry before it sees that there is one. */
		smp_store_release(&c->ring->last, next);
		ret = 0;
	}
	raw_spin_unlock_irqrestore(&c->lock, flags);
	return ret;
}

static const struct keel_io_ops zone_ops = { .write = zone_write };

static long add_zone(struct keel_vm *vm, const struct kvm_coalesced_mmio_zone *args)
{
	enum keel_bus bus = args->pio ? KEEL_PIO_BUS : KEEL_MMIO_BUS;
	struct write_zone *zone = kzalloc(sizeof(*zone), GFP_KERNEL_ACCOUNT);
	long ret = -ENOSPC;

	if (!zone)
		return -ENOMEM;
	zone->vm = vm;
	zone->pio = args->pio;
	zone->range = (struct keel_io_range) {
		.start = args->addr,
		.len = args->size,
		.ops = &zone_ops,
		.ctx = zone,
	};
	mutex_lock(&vm->lock);
	if (vm->coalesced.nr[bus] < KEEL_MAX_ZONES) {
		vm->coalesced.nr[bus]++;
		list_add_tail(&zone->link, &vm->coalesced.zones);
		keel_io_register(vm, bus, &zone->range);
		ret = 0;
	}
	mutex_unlock(&vm->lock);
	if (ret)
		kfree(zone);
	return ret;
}

/* Every zone that contains the whole of what is named. */
static void remove_zones(struct keel_vm *vm, const struct kvm_coalesced_mmio_zone *args)
{
	enum keel_bus bus = args->pio ? KEEL_PIO_BUS : KEEL_MMIO_BUS;
	struct write_zone *zone, *next;

	mutex_lock(&vm->lock);
	list_for_each_entry_safe(zone, next, &vm->coalesced.zones, link) {
		u64 offset = args->addr - zone->range.start;

		if (zone->pio != args->pio || args->size > INT_MAX || offset > zone->range.len ||
		    args->size > zone->range.len - offset)
			continue;
		keel_io_unregister(vm, &zone->range);
		list_del(&zone->link);
		vm->coalesced.nr[bus]--;
		kfree(zone);
	}
	mutex_unlock(&vm->lock);
}

/**
 * keel_coalesced_ioctl() - KVM_REGISTER_COALESCED_MMIO and KVM_UNREGISTER_COALESCED_MMIO
 * @vm: the VM, no lock held
 * @add: register
 * @arg: struct kvm_coalesced_mmio_zone
 *
 * Return: 0, also when there is nothing to remove; -EFAULT; -EINVAL when pio is neither 0 nor 1; -ENOSPC;
 * -ENOMEM
 */
long keel_coalesced_ioctl(struct keel_vm *vm, bool add, const void __user *arg)
{
	struct kvm_coalesced_mmio_zone zone;

	if (copy_from_user(&zone, arg, sizeof(zone)))
		return -EFAULT;
	if (zone.pio > 1)
		return -EINVAL;
	if (add)
		return add_zone(vm, &zone);
	remove_zones(vm, &zone);
	return 0;
}

/**
 * keel_coalesced_init() - the ring of a new VM
 * @vm: the VM
 *
 * Return: 0 or -ENOMEM
 */
int keel_coalesced_init(struct keel_vm *vm)
{
	raw_spin_lock_init(&vm->coalesced.lock);
	INIT_LIST_HEAD(&vm->coalesced.zones);
	vm->coalesced.ring = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	return vm->coalesced.ring ? 0 : -ENOMEM;
}

/**
 * keel_coalesced_destroy() - free the ring and the zones
 * @vm: the VM, which nobody uses any more
 */
void keel_coalesced_destroy(struct keel_vm *vm)
{
	struct write_zone *zone, *next;

	list_for_each_entry_safe(zone, next, &vm->coalesced.zones, link)
		kfree(zone);
	free_page((unsigned long)vm->coalesced.ring);
}
