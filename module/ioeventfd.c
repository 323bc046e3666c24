// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_IOEVENTFD: an eventfd that a guest's write to a port or an address signals, in place of an exit
 * (KVM API documentation, section 4.59).
 *
 * A hash table keyed by all that has to match: a write is looked up by its address alone (entries of
 * length 0), with its length, and with its length and value. Whoever could match the same write is
 * refused when it is made, so at most one of the three is there.
 *
 * The table is changed under vm->slots_lock and read under vm->srcu, in any context.
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
	u64 value;		/* 0 in a wildcard */
	u8 len;			/* bytes, 0: any */
	u8 bus;
	bool wildcard;		/* any value */
};

struct ioeventfd {
	struct hlist_node link;
	struct match match;
	struct eventfd_ctx *eventfd;
};

/* The last one is internal to KVM, which ignores it. */
#define IOEVENTFD_FLAGS	(KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN | \
			 1 << kvm_ioeventfd_flag_nr_fast_mmio)

static struct hlist_head *bucket_of(struct keel_ioeventfds *fds, const struct match *m)
{
	u64 rest = m->len | m->bus << 4 | m->wildcard << 5;
	u64 hash = m->addr * fds->factor[0] + m->value * fds->factor[1] + rest * fds->factor[2];

	return &fds->buckets[hash >> (64 - KEEL_IOEVENTFD_BITS)];
}

static bool same_match(const struct match *a, const struct match *b)
{
	return a->addr == b->addr && a->value == b->value && a->len == b->len && a->bus == b->bus &&
	       a->wildcard == b->wildcard;
}

static struct ioeventfd *find(struct keel_vm *vm, const struct match *m)
{
	struct ioeventfd *fd;

	hlist_for_each_entry_srcu(fd, bucket_of(&vm->ioeventfds, m), link,
				  srcu_read_lock_held(&vm->srcu) || lockdep_is_held(&vm->slots_lock))
		if (same_match(&fd->match, m))
			return fd;
	return NULL;
}

/**
 * keel_ioeventfd_write() - signal the eventfd of a write
 * @vm: the VM, vm->srcu held; interrupts may be off
 * @bus: KEEL_PIO_BUS or KEEL_MMIO_BUS
 * @addr: port or guest physical address
 * @len: bytes
 * @val: @len bytes
 *
 * Return: 0, or -EOPNOTSUPP when there is none
 */
int keel_ioeventfd_write(struct keel_vm *vm, unsigned int bus, u64 addr, unsigned int len, const void *val)
{
	struct match m = { .addr = addr, .bus = bus, .wildcard = true };
	struct ioeventfd *fd;

	if (!smp_load_acquire(&vm->ioeventfds.buckets) || !READ_ONCE(vm->ioeventfds.nr))
		return -EOPNOTSUPP;
	fd = find(vm, &m);
	if (!fd && len <= sizeof(m.value)) {
		m.len = len;
		fd = find(vm, &m);
	}
	if (!fd && len <= sizeof(m.value)) {
		m.wildcard = false;
		memcpy(&m.value, val, len);
		fd = find(vm, &m);
	}
	if (!fd)
		return -EOPNOTSUPP;
	keel_eventfd_signal(fd->eventfd);
	return 0;
}

/* Could one write match both? */
static bool collide(const struct match *a, const struct match *b)
{
	if (a->bus != b->bus || a->addr != b->addr)
		return false;
	if (!a->len || !b->len)
		return true;
	return a->len == b->len && (a->wildcard || b->wildcard || a->value == b->value);
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
	smp_store_release(&fds->buckets, buckets);
	return 0;
}

static struct match parse_match(const struct kvm_ioeventfd *args)
{
	bool wildcard = !(args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH);

	return (struct match) {
		.addr = args->addr,
		.value = wildcard ? 0 : args->datamatch,
		.len = args->len,
		.bus = args->flags & KVM_IOEVENTFD_FLAG_PIO ? KEEL_PIO_BUS : KEEL_MMIO_BUS,
		.wildcard = wildcard,
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
		WRITE_ONCE(fds->nr, fds->nr + 1);
		hlist_add_head_rcu(&fd->link, bucket_of(fds, &fd->match));
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
	struct match m = parse_match(args);
	struct ioeventfd *fd = NULL;

	if (IS_ERR(eventfd))
		return PTR_ERR(eventfd);
	mutex_lock(&vm->slots_lock);
	if (vm->ioeventfds.buckets && args->len <= sizeof(m.value))
		fd = find(vm, &m);
	if (fd && fd->eventfd != eventfd)
		fd = NULL;
	if (fd) {
		hlist_del_rcu(&fd->link);
		WRITE_ONCE(vm->ioeventfds.nr, vm->ioeventfds.nr - 1);
	}
	mutex_unlock(&vm->slots_lock);
	eventfd_ctx_put(eventfd);
	if (!fd)
		return -ENOENT;
	synchronize_srcu_expedited(&vm->srcu);
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
