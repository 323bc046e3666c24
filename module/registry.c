// SPDX-License-Identifier: GPL-2.0-only
/*
 * The registry: all VMs of the host, and the last events, for those who look on.
 *
 * One mutex guards both. A VM is in the list from when its fd exists until its destruction begins, so under the
 * mutex a VM of the list, and every vCPU that it has published, is alive: no reference is taken. Nothing but
 * counters, slots (under vm->srcu) and what is constant is looked at. vm->lock or any other mutex is never taken
 * inside.
 *
 * Events are kept in a ring and read from it by number: a reader that is late finds that some are lost, and nothing
 * is queued for anybody.
 */
#include <linux/cred.h>
#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>

#include "ops.h"

static DEFINE_MUTEX(registry_lock);
static LIST_HEAD(vms);			/* by rising id */
static u64 last_id;
static struct keel_record records[KEEL_RECORDS];
static u64 last_seq;

/**
 * keel_registry_lock() - while it is held, no VM comes or goes and no event is added
 */
void keel_registry_lock(void)
{
	mutex_lock(&registry_lock);
}

void keel_registry_unlock(void)
{
	mutex_unlock(&registry_lock);
}

/**
 * keel_vm_after() - the next VM; the registry is locked
 * @id: of the last one, which may be gone by now; 0: none
 *
 * Return: the VM with the next higher id, NULL: none
 */
struct keel_vm *keel_vm_after(u64 id)
{
	struct keel_vm *vm;

	list_for_each_entry(vm, &vms, entry.link)
		if (vm->entry.owner.vm_id > id)
			return vm;
	return NULL;
}

/**
 * keel_last_record() - the number of the last event, 0: none; the registry is locked
 */
u64 keel_last_record(void)
{
	return last_seq;
}

/**
 * keel_record() - an event by its number; the registry is locked
 * @seq: up to keel_last_record()
 *
 * Return: the event, NULL: it is lost, or never was
 */
const struct keel_record *keel_record(u64 seq)
{
	const struct keel_record *r = &records[seq % KEEL_RECORDS];

	return seq && r->seq == seq ? r : NULL;
}

static void owner_get(struct keel_owner *to, const struct keel_owner *from)
{
	*to = *from;
	get_pid(to->pid);
}

static void record(struct keel_vm *vm, enum keel_vm_event event, int vcpu_id, const char *reason)
{
	struct keel_record *r = &records[++last_seq % KEEL_RECORDS];

	lockdep_assert_held(&registry_lock);
	put_pid(r->owner.pid);
	r->seq = last_seq;
	r->when = ktime_get_boottime_ns();
	r->event = event;
	r->vcpu_id = vcpu_id;
	r->reason = reason;
	owner_get(&r->owner, &vm->entry.owner);
}

/**
 * keel_vm_register() - a VM has been made, by this process
 * @vm: the VM; may be used by others from now on
 */
void keel_vm_register(struct keel_vm *vm)
{
	struct keel_owner *owner = &vm->entry.owner;

	owner->uid = current_euid();
	owner->pid = get_task_pid(current, PIDTYPE_TGID);
	get_task_comm(owner->name, current->group_leader);
	vm->entry.created = ktime_get_boottime_ns();
	mutex_lock(&registry_lock);
	owner->vm_id = ++last_id;
	list_add_tail(&vm->entry.link, &vms);
	record(vm, KEEL_EVENT_CREATED, -1, NULL);
	mutex_unlock(&registry_lock);
	keel_netlink_events();
}

/**
 * keel_vm_unregister() - a VM is about to be destroyed
 * @vm: the VM; registered or not
 */
void keel_vm_unregister(struct keel_vm *vm)
{
	if (!vm->entry.owner.vm_id)
		return;
	mutex_lock(&registry_lock);
	list_del(&vm->entry.link);
	record(vm, KEEL_EVENT_DESTROYED, -1, READ_ONCE(vm->dead));
	mutex_unlock(&registry_lock);
	put_pid(vm->entry.owner.pid);
	keel_netlink_events();
}

/**
 * keel_vcpu_report() - KVM_RUN has ended with something that others want to know
 * @vcpu: the vCPU, locked, outside of everything
 *
 * What killed the VM may have been found with interrupts off, so it is told here.
 */
void keel_vcpu_report(struct keel_vcpu *vcpu)
{
	struct keel_vm *vm = vcpu->vm;
	bool killed = READ_ONCE(vm->dead) && !xchg(&vm->entry.told_dead, true);
	bool error = vcpu->error && vcpu->error != vcpu->told_error;

	vcpu->told_error = vcpu->error;
	if (!killed && !error)
		return;
	mutex_lock(&registry_lock);
	if (error)
		record(vm, KEEL_EVENT_ERROR, vcpu->id, vcpu->error);
	if (killed)
		record(vm, KEEL_EVENT_KILLED, -1, vm->dead);
	mutex_unlock(&registry_lock);
	keel_netlink_events();
}

/**
 * keel_registry_exit() - the module goes: no VM is left
 */
void keel_registry_exit(void)
{
	int i;

	for (i = 0; i < KEEL_RECORDS; i++)
		put_pid(records[i].owner.pid);
}
