/* SPDX-License-Identifier: GPL-2.0-only */
/* Which VMs there are, and what became of them: registry.c, which netlink.c reads. */
#ifndef KEEL_REGISTRY_H
#define KEEL_REGISTRY_H

#include <linux/keel.h>
#include <linux/list.h>
#include <linux/sched.h>
#include <linux/types.h>
#include <linux/uidgid.h>

struct keel_vcpu;
struct keel_vm;
struct pid;

/**
 * struct keel_owner - what a VM is to those who look at it from outside; constant
 * @vm_id: never used twice
 * @uid: who made it
 * @pid: the process that did, with a reference
 * @name: that process's then
 */
struct keel_owner {
	u64 vm_id;
	kuid_t uid;
	struct pid *pid;
	char name[TASK_COMM_LEN];
};

/* A VM in the registry. */
struct keel_entry {
	struct list_head link;		/* the registry's lock */
	struct keel_owner owner;
	u64 created;			/* ns of boot time */
	bool told_dead;			/* atomic: the event is out */
};

/* One event: @owner has a reference to its pid. */
struct keel_record {
	u64 seq;
	u64 when;			/* ns of boot time */
	enum keel_vm_event event;
	int vcpu_id;			/* -1: of the VM */
	const char *reason;		/* constant string or NULL */
	struct keel_owner owner;
};

#define KEEL_RECORDS	256

void keel_registry_exit(void);
void keel_vm_register(struct keel_vm *vm);
void keel_vm_unregister(struct keel_vm *vm);
void keel_vcpu_report(struct keel_vcpu *vcpu);
void keel_registry_lock(void);
void keel_registry_unlock(void);
struct keel_vm *keel_vm_after(u64 id);
u64 keel_last_record(void);
const struct keel_record *keel_record(u64 seq);

/* netlink.c */
int keel_netlink_init(void);
void keel_netlink_exit(void);
void keel_netlink_events(void);

#endif /* KEEL_REGISTRY_H */
