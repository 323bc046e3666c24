/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a VM keeps for interrupts from eventfds (irqchip/irqfd.c), eventfds from guest writes (ioeventfd.c) and
 * writes that are gathered in a ring (coalesced.c).
 */
#ifndef KEEL_EVENTFD_H
#define KEEL_EVENTFD_H

#include <linux/kvm.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct keel_vm;
struct keel_vcpu;

#define KEEL_MAX_IRQFDS		16384	/* a VM; QEMU has one a vector of a device */
#define KEEL_MAX_RESAMPLE	512	/* of these with a resample eventfd: all may be signalled at one EOI */
#define KEEL_MAX_IOEVENTFDS	65536	/* a VM */
#define KEEL_MAX_ZONES		1000	/* coalesced zones, a bus */
#define KEEL_IOEVENTFD_BITS	10
#define KEEL_IOEVENTFD_BUCKETS	BIT(KEEL_IOEVENTFD_BITS)

/**
 * struct keel_irqfds - eventfds that raise interrupts
 * @mutex: assignment, and the writer side of the resamplers
 * @lock: @list; taken with interrupts off, inside the lock of an eventfd's wait queue
 * @list: those that are assigned
 * @nr: all that exist; under @mutex but for the decrement
 * @resamplers: read under RCU
 * @nr_resample: as @nr, of those with a resample eventfd
 */
struct keel_irqfds {
	struct mutex mutex;
	spinlock_t lock;
	struct list_head list;
	atomic_t nr;
	struct list_head resamplers;
	atomic_t nr_resample;
};

/**
 * struct keel_ioeventfds - eventfds that guest writes signal
 * @buckets: KEEL_IOEVENTFD_BUCKETS, NULL before the first; RCU, written under vm->slots_lock
 * @factor: odd and random: a hash by multiplication that a client cannot foresee
 * @nr: entries; not 0: @buckets is there
 * @nr_valued: those of them that match one value
 */
struct keel_ioeventfds {
	struct hlist_head *buckets;
	u64 factor[2];
	unsigned int nr, nr_valued;
};

/**
 * struct keel_coalesced - the ring of writes that did not end KVM_RUN
 * @ring: one page that every vCPU mapping of the VM shows; the client may write anything there
 * @lock: the kernel's side of @ring; interrupts may be off
 * @zones: under vm->lock
 * @nr: zones on each bus
 */
struct keel_coalesced {
	struct kvm_coalesced_mmio_ring *ring;
	raw_spinlock_t lock;
	struct list_head zones;
	unsigned int nr[2];
};

/* irqchip/irqfd.c */
int keel_irqfd_module_init(void);
void keel_irqfd_module_exit(void);
void keel_irqfd_init(struct keel_vm *vm);
void keel_irqfd_release(struct keel_vm *vm);
void keel_irqfd_acked(struct keel_vm *vm, u32 gsi);
long keel_irqfd_ioctl(struct keel_vm *vm, const void __user *arg);

/* ioeventfd.c */
void keel_ioeventfd_destroy(struct keel_vm *vm);
long keel_ioeventfd_ioctl(struct keel_vm *vm, const void __user *arg);

/* coalesced.c */
int keel_coalesced_init(struct keel_vm *vm);
void keel_coalesced_destroy(struct keel_vm *vm);
long keel_coalesced_ioctl(struct keel_vm *vm, bool add, const void __user *arg);

#endif /* KEEL_EVENTFD_H */
