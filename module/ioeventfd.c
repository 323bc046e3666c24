// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_IOEVENTFD: an eventfd that a guest's write to a port or an address signals, in place of an exit
 * (KVM API documentation, section 4.59).
 *
 * A hash table keyed by the address and the value that has to match, 0 where any value does: a write is looked up by its
 * address alone, and where there are eventfds with a value by both. Whoever could match the same write is refused when it
 * is made, so at most one does.
 *
 * The table is changed under vm->slots_lock and read under RCU, where preemption is off.
 */
#include <linux/eventfd.h>
#include <linux/random.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "keel.h"

/* What a write has to be. */
struct match {
	u64 addr;
	u64 value;		/* 0 where any does */
	u8 len;			/* bytes, 0: any */
	u8 kind;		/* the bus, and VALUED */
};

#define VALUED		2	/* one value, not any */

struct ioeventfd {
	struct hlist_node link;
	struct match match;
	struct eventfd_ctx *eventfd;
};

/* The last one is internal to KVM, which ignores it. */
#define IOEVENTFD_FLAGS	(KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN | \
			 1 << kvm_ioeventfd_flag_nr_fast_mmio)

/* Of all that match any value: by the address alone. */
static __always_inline struct hlist_head *bucket_of(const struct keel_ioeventfds *fds, u64 addr, u64 value)
{
	u64 hash = addr * fds->factor[0] + value * fds->factor[1];

	return &fds->buckets[hash >> (64 - KEEL_IOEVENTFD_BITS)];
}

static __always_inline struct ioeventfd *find_wildcard(const struct keel_ioeventfds *fds, unsigned int bus, u64 addr,
						       unsigned int len)
{
	struct ioeventfd *fd;

	hlist_for_each_entry_rcu(fd, bucket_of(fds, addr, 0), link, rcu_read_lock_sched_held())
		if (fd->match.addr == addr && fd->match.kind == bus && (likely(fd->match.len == len) || !fd->match.len))
			return fd;
	return NULL;
}

/* No eventfd of any value. */
static noinline int write_valued(struct keel_vcpu *vcpu, enum keel_bus bus, u64 addr, unsigned int len, const void *val)
{
	const struct keel_ioeventfds *fds = &vcpu->vm->ioeventfds;
	struct ioeventfd *fd;
	u64 value = 0;

	if (!READ_ONCE(fds->nr_valued) || len > sizeof(value))
		return keel_io_write_range(vcpu, bus, addr, len, val);
	memcpy(&value, val, len);
	hlist_for_each_entry_rcu(fd, bucket_of(fds, addr, value), link, rcu_read_lock_sched_held())
		if (fd->match.addr == addr && fd->match.value == value && fd->match.kind == (bus | VALUED) &&
		    fd->match.len == len) {
			keel_eventfd_signal(fd->eventfd);
			return 0;
		}
	return keel_io_write_range(vcpu, bus, addr, len, val);
}

/**
 * keel_io_write_atomic() - as keel_io_write(), where preemption or interrupts are off
 * @vcpu: the vCPU that writes
 * @bus: KEEL_PIO_BUS or KEEL_MMIO_BUS
 * @addr: port or guest physical address
 * @len: bytes
 * @val: @len bytes
 *
 * Return: 0, or -EOPNOTSUPP when nobody takes it
 */
int keel_io_write_atomic(struct keel_vcpu *vcpu, enum keel_bus bus, u64 addr, unsigned int len, const void *val)
{
	const struct keel_ioeventfds *fds = &vcpu->vm->ioeventfds;
	struct ioeventfd *fd;

	/* The number is read before the table, and written behind it. */
	if (!smp_load_acquire(&fds->nr))
		return keel_io_write_range(vcpu, bus, addr, len, val);
	fd = find_wildcard(fds, bus, addr, len);
	if (!fd)
		return write_valued(vcpu, bus, addr, len, val);
	keel_eventfd_signal(fd->eventfd);
	return 0;
}

static bool same_match(const struct match *a, const struct match *b)
{
	return a->addr == b->addr && a->value == b->value && a->len == b->len && a->kind == b->kind;
}

/* The one that has been made with just these arguments; under vm->slots_lock. */
static struct ioeventfd *find_same(struct keel_ioeventfds *fds, const struct match *m)
{
	struct ioeventfd *fd;

	hlist_for_each_entry(fd, bucket_of(fds, m->addr, m->value), link)
		if (same_match(&fd->match, m))
			return fd;
	return NULL;
}

/* Could one write match both? */
static bool collide(const struct match *a, const struct match *b)
{
	if (((a->kind ^ b->kind) & ~VALUED) || a->addr != b->addr)
		return false;
	if (!a->len || !b->len)
		return true;
	return a->len == b->len && (!(a->kind & b->kind & VALUED) || a->value == b->value);
}

static bool collides(struct keel_ioeventfds *fds, const struct match *m)
{
	struct ioeventfd *fd;
	int i;

	for (i = 0; i < KEEL_IOEVENTFD_BUCKETS; i++)
		hlist_for_each_entry(fd, &fds->buckets[i], link)
			if (collide(&fd->match, m))
				return true;
	return false;
}

static int make_table(struct keel_ioeventfds *fds)
{
	struct hlist_head *buckets;
	unsigned int i;

	if (fds->buckets)
		return 0;
	buckets = kcalloc(KEEL_IOEVENTFD_BUCKETS, sizeof(*buckets), GFP_KERNEL_ACCOUNT);
	if (!buckets)
		return -ENOMEM;
	get_random_bytes(fds->factor, sizeof(fds->factor));
	for (i = 0; i < ARRAY_SIZE(fds->factor); i++)
		fds->factor[i] |= 1;
	fds->buckets = buckets;
	return 0;
}

static struct match parse_match(const struct kvm_ioeventfd *args)
{
	bool valued = args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH;
	u8 bus = args->flags & KVM_IOEVENTFD_FLAG_PIO ? KEEL_PIO_BUS : KEEL_MMIO_BUS;

	return (struct match) {
		.addr = args->addr,
		.value = valued ? args->datamatch : 0,
		.len = args->len,
		.kind = bus | (valued ? VALUED : 0),
	};
}

static int check_args(const struct kvm_ioeventfd *args)
{
	switch (args->len) {
	case 0:
		if (args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH)
			return -EINVAL;
		break;
	case 1:
	case 2:
	case 4:
	case 8:
		break;
	default:
		return -EINVAL;
	}
	if (args->addr + args->len < args->addr || (args->flags & ~IOEVENTFD_FLAGS))
		return -EINVAL;
	return 0;
}

static long assign(struct keel_vm *vm, const struct kvm_ioeventfd *args)
{
	struct keel_ioeventfds *fds = &vm->ioeventfds;
	struct ioeventfd *fd;
	long ret = check_args(args);

	if (ret)
		return ret;
	fd = kzalloc(sizeof(*fd), GFP_KERNEL_ACCOUNT);
	if (!fd)
		return -ENOMEM;
	fd->match = parse_match(args);
	fd->eventfd = eventfd_ctx_fdget(args->fd);
	if (IS_ERR(fd->eventfd)) {
		ret = PTR_ERR(fd->eventfd);
		kfree(fd);
		return ret;
	}
	mutex_lock(&vm->slots_lock);
	ret = make_table(fds);
	if (!ret && collides(fds, &fd->match))
		ret = -EEXIST;
	if (!ret && fds->nr == KEEL_MAX_IOEVENTFDS)
		ret = -ENOSPC;
	if (!ret) {
		hlist_add_head_rcu(&fd->link, bucket_of(fds, fd->match.addr, fd->match.value));
		WRITE_ONCE(fds->nr_valued, fds->nr_valued + !!(fd->match.kind & VALUED));
		smp_store_release(&fds->nr, fds->nr + 1);	/* the table before the number */
	}
	mutex_unlock(&vm->slots_lock);
	if (ret) {
		eventfd_ctx_put(fd->eventfd);
		kfree(fd);
	}
	return ret;
}

static long deassign(struct keel_vm *vm, const struct kvm_ioeventfd *args)
{
	struct eventfd_ctx *eventfd = eventfd_ctx_fdget(args->fd);
	struct keel_ioeventfds *fds = &vm->ioeventfds;
	struct match m = parse_match(args);
	struct ioeventfd *fd = NULL;

	if (IS_ERR(eventfd))
		return PTR_ERR(eventfd);
	mutex_lock(&vm->slots_lock);
	if (fds->buckets && args->len <= sizeof(m.value))
		fd = find_same(fds, &m);
	if (fd && fd->eventfd != eventfd)
		fd = NULL;
	if (fd) {
		hlist_del_rcu(&fd->link);
		WRITE_ONCE(fds->nr_valued, fds->nr_valued - !!(m.kind & VALUED));
		WRITE_ONCE(fds->nr, fds->nr - 1);
	}
	mutex_unlock(&vm->slots_lock);
	eventfd_ctx_put(eventfd);
	if (!fd)
		return -ENOENT;
	synchronize_rcu_expedited();
	eventfd_ctx_put(fd->eventfd);
	kfree(fd);
	return 0;
}

/**
 * keel_ioeventfd_ioctl() - KVM_IOEVENTFD
 * @vm: the VM, no lock held
 * @arg: struct kvm_ioeventfd
 *
 * Return: 0; -EFAULT; -EINVAL for a length that is not 0, 1, 2, 4 or 8, a range that wraps, unknown flags,
 * a value to match without a length, or what is no eventfd; -EBADF; -EEXIST when a write could match
 * another one too; -ENOENT when there is none to remove; -ENOSPC; -ENOMEM
 */
long keel_ioeventfd_ioctl(struct keel_vm *vm, const void __user *arg)
{
	struct kvm_ioeventfd args;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	return args.flags & KVM_IOEVENTFD_FLAG_DEASSIGN ? deassign(vm, &args) : assign(vm, &args);
}

/**
 * keel_ioeventfd_destroy() - free all that a VM has
 * @vm: the VM, which nobody uses any more
 */
void keel_ioeventfd_destroy(struct keel_vm *vm)
{
	struct keel_ioeventfds *fds = &vm->ioeventfds;
	struct hlist_node *next;
	struct ioeventfd *fd;
	int i;

	if (!fds->buckets)
		return;
	for (i = 0; i < KEEL_IOEVENTFD_BUCKETS; i++)
		hlist_for_each_entry_safe(fd, next, &fds->buckets[i], link) {
			eventfd_ctx_put(fd->eventfd);
			kfree(fd);
		}
	kfree(fds->buckets);
	fds->buckets = NULL;
}
