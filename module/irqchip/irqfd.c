// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_IRQFD: an eventfd that raises a GSI, and the eventfd that says when a level-triggered one was
 * acknowledged (KVM API documentation, section 4.75).
 *
 * The irqfd sits in the wait queue of its eventfd. A signal comes there under the lock of that
 * queue with interrupts off: a GSI that is one message is sent at once, pins are raised from a work
 * item. Routes are looked up at each signal, so a change of routes needs nothing here.
 *
 * An irqfd ends by KVM_IRQFD, by the VM's file being closed, or by the eventfd being closed. All
 * take it off irqfds.list; who does that hands it to the shutdown work, which frees it. No file of
 * a VM goes away before its irqfds are gone, so they hold no reference to it.
 *
 * Order: irqfds.mutex, the eventfd's queue, irqfds.lock. Resamplers are read under RCU, not under
 * vm->srcu: the workqueue serves all VMs and must not wait for what a client can hold up.
 */
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "../keel.h"

/* All irqfds with a resample eventfd on one GSI; they share the line of KEEL_IRQ_SOURCE_RESAMPLE. */
struct resampler {
	struct list_head link;		/* irqfds.resamplers */
	struct list_head irqfds;
	u32 gsi;
};

struct irqfd {
	struct keel_vm *vm;
	u32 gsi;
	struct eventfd_ctx *eventfd;
	struct eventfd_ctx *resamplefd;	/* NULL: edge-triggered */
	struct resampler *resampler;
	bool last;			/* was the last of the resampler, to be freed with it */
	struct list_head resampler_link;
	struct list_head link;		/* irqfds.list; empty: on its way out */
	wait_queue_entry_t wait;
	struct work_struct inject;
	struct work_struct shutdown;
};

/* The hook into the wait queue, while the eventfd is polled for the first time. */
struct irqfd_poll {
	poll_table table;
	struct irqfd *irqfd;
	int err;
};

static struct workqueue_struct *irqfd_shutdown_wq;

static void irqfd_inject(struct work_struct *work)
{
	struct irqfd *irqfd = container_of(work, struct irqfd, inject);

	if (irqfd->resampler) {
		keel_set_irq(irqfd->vm, KEEL_IRQ_SOURCE_RESAMPLE, irqfd->gsi, true);
		return;
	}
	keel_set_irq(irqfd->vm, KEEL_IRQ_SOURCE_CLIENT, irqfd->gsi, true);
	keel_set_irq(irqfd->vm, KEEL_IRQ_SOURCE_CLIENT, irqfd->gsi, false);
}

/**
 * keel_irqfd_acked() - the guest has ended an interrupt of @gsi: lower the line, tell who resamples
 * @vm: the VM; no lock of a controller is held, interrupts may be off
 * @gsi: of the pin that was acknowledged
 *
 * The devices look whether they still want service, and signal again. The line goes down before
 * they are told, once for all of them, so that none of their new requests is lost.
 */
void keel_irqfd_acked(struct keel_vm *vm, u32 gsi)
{
	struct resampler *resampler;
	struct irqfd *irqfd;

	rcu_read_lock();
	list_for_each_entry_rcu(resampler, &vm->irqfds.resamplers, link) {
		if (resampler->gsi != gsi)
			continue;
		keel_set_irq(vm, KEEL_IRQ_SOURCE_RESAMPLE, gsi, false);
		list_for_each_entry_rcu(irqfd, &resampler->irqfds, resampler_link)
			keel_eventfd_signal(irqfd->resamplefd);
		break;
	}
	rcu_read_unlock();
}

/* Joins the resampler of the irqfd's GSI, or makes it; irqfds.mutex is held. */
static int resampler_join(struct irqfd *irqfd)
{
	struct keel_irqfds *irqfds = &irqfd->vm->irqfds;
	struct resampler *resampler;

	lockdep_assert_held(&irqfds->mutex);
	list_for_each_entry(resampler, &irqfds->resamplers, link)
		if (resampler->gsi == irqfd->gsi)
			goto found;
	resampler = kzalloc(sizeof(*resampler), GFP_KERNEL_ACCOUNT);
	if (!resampler)
		return -ENOMEM;
	resampler->gsi = irqfd->gsi;
	INIT_LIST_HEAD(&resampler->irqfds);
	list_add_rcu(&resampler->link, &irqfds->resamplers);
found:
	irqfd->resampler = resampler;
	list_add_rcu(&irqfd->resampler_link, &resampler->irqfds);
	return 0;
}

/* The last one leaves the line low; the resampler then goes with this irqfd. */
static void resampler_leave(struct irqfd *irqfd)
{
	struct resampler *resampler = irqfd->resampler;

	lockdep_assert_held(&irqfd->vm->irqfds.mutex);
	list_del_rcu(&irqfd->resampler_link);
	if (!list_empty(&resampler->irqfds))
		return;
	list_del_rcu(&resampler->link);
	irqfd->last = true;
	keel_set_irq(irqfd->vm, KEEL_IRQ_SOURCE_RESAMPLE, resampler->gsi, false);
}

/*
 * Frees an irqfd, wherever its making or its unmaking has got to. Not under irqfds.mutex: many
 * that end together share one grace period.
 */
static void irqfd_free(struct irqfd *irqfd)
{
	if (irqfd->resampler)
		synchronize_rcu();
	if (irqfd->last)
		kfree(irqfd->resampler);
	if (irqfd->resamplefd)
		eventfd_ctx_put(irqfd->resamplefd);
	if (irqfd->eventfd)
		eventfd_ctx_put(irqfd->eventfd);
	kfree(irqfd);
}

static void irqfd_uncount(struct irqfd *irqfd)
{
	if (irqfd->resamplefd)
		atomic_dec(&irqfd->vm->irqfds.nr_resample);
	atomic_dec(&irqfd->vm->irqfds.nr);
}

static void irqfd_shutdown(struct work_struct *work)
{
	struct irqfd *irqfd = container_of(work, struct irqfd, shutdown);
	struct keel_irqfds *irqfds = &irqfd->vm->irqfds;
	u64 count;

	/* First the wait queue, then what it started. */
	eventfd_ctx_remove_wait_queue(irqfd->eventfd, &irqfd->wait, &count);
	flush_work(&irqfd->inject);
	if (irqfd->resampler) {
		mutex_lock(&irqfds->mutex);
		resampler_leave(irqfd);
		mutex_unlock(&irqfds->mutex);
	}
	irqfd_uncount(irqfd);
	irqfd_free(irqfd);
}

/* Under irqfds.lock; the irqfd is on the list. */
static void irqfd_deactivate(struct irqfd *irqfd)
{
	lockdep_assert_held(&irqfd->vm->irqfds.lock);
	list_del_init(&irqfd->link);
	queue_work(irqfd_shutdown_wq, &irqfd->shutdown);
}

/* The eventfd was signalled or goes away: its queue's lock is held, interrupts are off. */
static int irqfd_wakeup(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct irqfd *irqfd = container_of(wait, struct irqfd, wait);
	struct keel_irqfds *irqfds = &irqfd->vm->irqfds;
	__poll_t events = key_to_poll(key);
	unsigned long flags;
	int taken = 0;
	u64 count;

	if (events & EPOLLIN) {
		eventfd_ctx_do_read(irqfd->eventfd, &count);
		if (keel_send_msi_route(irqfd->vm, irqfd->gsi) == -EWOULDBLOCK)
			schedule_work(&irqfd->inject);
		taken = 1;
	}
	if (events & EPOLLHUP) {
		/* Who has taken it off the list also sees to its end, for which it needs our queue. */
		spin_lock_irqsave(&irqfds->lock, flags);
		if (!list_empty(&irqfd->link))
			irqfd_deactivate(irqfd);
		spin_unlock_irqrestore(&irqfds->lock, flags);
	}
	return taken;
}

static void irqfd_hook(struct file *file, wait_queue_head_t *queue, poll_table *table)
{
	struct irqfd_poll *poll = container_of(table, struct irqfd_poll, table);

	poll->err = keel_add_wait_queue_priority(queue, &poll->irqfd->wait);
}

static bool irqfd_taken(struct keel_irqfds *irqfds, const struct eventfd_ctx *eventfd)
{
	struct irqfd *other;
	bool taken = false;

	spin_lock_irq(&irqfds->lock);
	list_for_each_entry(other, &irqfds->list, link)
		if (other->eventfd == eventfd) {
			taken = true;
			break;
		}
	spin_unlock_irq(&irqfds->lock);
	return taken;
}

/*
 * Puts a complete irqfd to work. irqfds.mutex keeps KVM_IRQFD out, and the caller's reference to
 * @file the end of the eventfd, until all is in place.
 */
static int irqfd_start(struct irqfd *irqfd, struct file *file)
{
	struct keel_irqfds *irqfds = &irqfd->vm->irqfds;
	struct irqfd_poll poll = { .irqfd = irqfd, .err = -EINVAL };
	__poll_t events;
	int ret;

	if (irqfd_taken(irqfds, irqfd->eventfd))
		return -EBUSY;
	if (irqfd->resamplefd) {
		ret = resampler_join(irqfd);
		if (ret)
			return ret;
	}
	init_waitqueue_func_entry(&irqfd->wait, irqfd_wakeup);
	init_poll_funcptr(&poll.table, irqfd_hook);
	spin_lock_irq(&irqfds->lock);
	list_add_tail(&irqfd->link, &irqfds->list);
	spin_unlock_irq(&irqfds->lock);

	events = vfs_poll(file, &poll.table);
	if (poll.err) {
		spin_lock_irq(&irqfds->lock);
		list_del_init(&irqfd->link);
		spin_unlock_irq(&irqfds->lock);
		if (irqfd->resampler)
			resampler_leave(irqfd);
		return poll.err;
	}
	/* What was signalled before counts too. */
	if (events & EPOLLIN)
		schedule_work(&irqfd->inject);
	return 0;
}

static int irqfd_count_and_start(struct irqfd *irqfd, struct file *file)
{
	struct keel_irqfds *irqfds = &irqfd->vm->irqfds;
	int ret = -ENOSPC;

	mutex_lock(&irqfds->mutex);
	atomic_inc(&irqfds->nr);
	if (irqfd->resamplefd)
		atomic_inc(&irqfds->nr_resample);
	if (atomic_read(&irqfds->nr) <= KEEL_MAX_IRQFDS &&
	    atomic_read(&irqfds->nr_resample) <= KEEL_MAX_RESAMPLE)
		ret = irqfd_start(irqfd, file);
	if (ret)
		irqfd_uncount(irqfd);
	mutex_unlock(&irqfds->mutex);
	return ret;
}

/* An eventfd in @slot; nothing there when it fails. */
static int irqfd_take_eventfd(struct eventfd_ctx **slot, struct eventfd_ctx *ctx)
{
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	*slot = ctx;
	return 0;
}

static long irqfd_assign(struct keel_vm *vm, const struct kvm_irqfd *args)
{
	bool resample = args->flags & KVM_IRQFD_FLAG_RESAMPLE;
	enum keel_irqchip_mode mode = smp_load_acquire(&vm->irqchip.mode);
	struct irqfd *irqfd;
	struct file *file;
	int ret;

	/* Pins that are acknowledged are those of our own controllers. */
	if (mode == KEEL_IRQCHIP_NONE || (resample && mode != KEEL_IRQCHIP_KERNEL))
		return -EINVAL;
	irqfd = kzalloc(sizeof(*irqfd), GFP_KERNEL_ACCOUNT);
	if (!irqfd)
		return -ENOMEM;
	irqfd->vm = vm;
	irqfd->gsi = args->gsi;
	INIT_LIST_HEAD(&irqfd->link);
	INIT_WORK(&irqfd->inject, irqfd_inject);
	INIT_WORK(&irqfd->shutdown, irqfd_shutdown);

	file = fget(args->fd);
	if (!file) {
		kfree(irqfd);
		return -EBADF;
	}
	ret = irqfd_take_eventfd(&irqfd->eventfd, eventfd_ctx_fileget(file));
	if (!ret && resample)
		ret = irqfd_take_eventfd(&irqfd->resamplefd, eventfd_ctx_fdget(args->resamplefd));
	if (!ret)
		ret = irqfd_count_and_start(irqfd, file);
	if (ret)
		irqfd_free(irqfd);
	fput(file);
	return ret;
}

/* Waits for the shutdown, so that no interrupt comes after the ioctl. */
static long irqfd_deassign(struct keel_vm *vm, const struct kvm_irqfd *args)
{
	struct keel_irqfds *irqfds = &vm->irqfds;
	struct eventfd_ctx *eventfd = eventfd_ctx_fdget(args->fd);
	struct irqfd *irqfd, *next;

	if (IS_ERR(eventfd))
		return PTR_ERR(eventfd);
	mutex_lock(&irqfds->mutex);
	spin_lock_irq(&irqfds->lock);
	list_for_each_entry_safe(irqfd, next, &irqfds->list, link)
		if (irqfd->eventfd == eventfd && irqfd->gsi == args->gsi)
			irqfd_deactivate(irqfd);
	spin_unlock_irq(&irqfds->lock);
	mutex_unlock(&irqfds->mutex);
	eventfd_ctx_put(eventfd);
	flush_workqueue(irqfd_shutdown_wq);
	return 0;
}

/**
 * keel_irqfd_ioctl() - KVM_IRQFD
 * @vm: the VM, no lock held
 * @arg: struct kvm_irqfd
 *
 * Return: 0; -EFAULT; -EINVAL for unknown flags, no in-kernel controller (or none of the kind that
 * resampling needs) and what is no eventfd; -EBADF; -EBUSY when the eventfd is in use; -ENOSPC;
 * -ENOMEM
 */
long keel_irqfd_ioctl(struct keel_vm *vm, const void __user *arg)
{
	struct kvm_irqfd args;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	if (args.flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE))
		return -EINVAL;
	if (args.flags & KVM_IRQFD_FLAG_DEASSIGN)
		return irqfd_deassign(vm, &args);
	return irqfd_assign(vm, &args);
}

/**
 * keel_irqfd_init() - a new VM has no irqfds
 * @vm: the VM
 */
void keel_irqfd_init(struct keel_vm *vm)
{
	mutex_init(&vm->irqfds.mutex);
	spin_lock_init(&vm->irqfds.lock);
	INIT_LIST_HEAD(&vm->irqfds.list);
	INIT_LIST_HEAD(&vm->irqfds.resamplers);
}

/**
 * keel_irqfd_release() - end all irqfds of a VM, whose file is being closed
 * @vm: the VM; no ioctl on it is under way or will come
 *
 * Also waits for those whose eventfd has just been closed.
 */
void keel_irqfd_release(struct keel_vm *vm)
{
	struct irqfd *irqfd, *next;

	spin_lock_irq(&vm->irqfds.lock);
	list_for_each_entry_safe(irqfd, next, &vm->irqfds.list, link)
		irqfd_deactivate(irqfd);
	spin_unlock_irq(&vm->irqfds.lock);
	flush_workqueue(irqfd_shutdown_wq);
}

/**
 * keel_irqfd_module_init() - what the irqfds of all VMs share
 *
 * Return: 0 or -ENOMEM
 */
int keel_irqfd_module_init(void)
{
	irqfd_shutdown_wq = alloc_workqueue("keel-irqfd", WQ_UNBOUND, 0);
	return irqfd_shutdown_wq ? 0 : -ENOMEM;
}

void keel_irqfd_module_exit(void)
{
	destroy_workqueue(irqfd_shutdown_wq);
}
