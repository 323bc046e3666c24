// SPDX-License-Identifier: GPL-2.0-only
/*
 * Generic netlink family "keel": what runs on this host, told to those who may know.
 *
 * Only dumps, each resumable by the id or number of what was told last, so that it does not matter what comes or
 * goes meanwhile. The registry is locked while one packet is filled. Who reads is found out when the dump begins and
 * kept (struct reader): later packets may be fetched by any process that has the socket.
 *
 * Attributes are checked by policy alone: an attribute that a command does not know is refused by the kernel's parser.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cred.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pid_namespace.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>
#include <net/genetlink.h>
#include <net/sock.h>
#include <asm/tsc.h>

#include "ops.h"

/* Room for one vCPU with every reason: 31 times 290 bytes, and 200. */
#define DUMP_ALLOC	16384

/* Who reads, and how far they are. */
struct reader {
	kuid_t uid;
	bool admin;			/* of all users that @user_ns has */
	struct user_namespace *user_ns;
	struct pid_namespace *pid_ns;
	u64 vm_id;			/* the VM asked for, 0: all */
	u64 at_vm;			/* the one told last, or that is being told */
	int at_vcpu;			/* index of the next vCPU of it */
	bool from_now;			/* no events, only where they are */
	u64 seq;			/* of the next event */
	u64 lost;
	bool done;
};

static struct genl_family keel_family;

static bool visible(const struct reader *rd, const struct keel_owner *owner)
{
	if (!pid_nr_ns(owner->pid, rd->pid_ns))
		return false;
	return uid_eq(owner->uid, rd->uid) || (rd->admin && kuid_has_mapping(rd->user_ns, owner->uid));
}

static struct reader *reader_of(struct netlink_callback *cb)
{
	return (struct reader *)cb->args[0];
}

/* A setuid program that was given somebody's socket to write to does not lend that one its rights. */
static kuid_t sender_uid(struct sk_buff *skb)
{
	kuid_t opener = NETLINK_CB(skb).sk->sk_socket->file->f_cred->euid;

	return uid_eq(opener, current_euid()) ? opener : INVALID_UID;
}

static int dump_start(struct netlink_callback *cb)
{
	struct nlattr **attrs = keel_genl_dump_attrs(cb);
	struct reader *rd = kzalloc(sizeof(*rd), GFP_KERNEL_ACCOUNT);

	if (!rd)
		return -ENOMEM;
	rd->uid = sender_uid(cb->skb);
	rd->user_ns = get_user_ns(current_user_ns());
	rd->pid_ns = get_pid_ns(task_active_pid_ns(current));
	rd->admin = netlink_ns_capable(cb->skb, rd->user_ns, CAP_SYS_ADMIN);
	if (attrs && attrs[KEEL_A_VM_ID])
		rd->vm_id = nla_get_u64(attrs[KEEL_A_VM_ID]);
	rd->from_now = !attrs || !attrs[KEEL_A_SEQ];
	if (!rd->from_now)
		rd->seq = nla_get_u64(attrs[KEEL_A_SEQ]);
	cb->args[0] = (long)rd;
	cb->min_dump_alloc = DUMP_ALLOC;
	return 0;
}

static int dump_done(struct netlink_callback *cb)
{
	struct reader *rd = reader_of(cb);

	put_user_ns(rd->user_ns);
	put_pid_ns(rd->pid_ns);
	kfree(rd);
	return 0;
}

static void *message_begin(struct sk_buff *skb, struct netlink_callback *cb, u8 cmd)
{
	return genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &keel_family, NLM_F_MULTI, cmd);
}

/* 0, or -EMSGSIZE with nothing of the message left. */
static int message_end(struct sk_buff *skb, void *msg, bool complete)
{
	if (!complete) {
		genlmsg_cancel(skb, msg);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, msg);
	return 0;
}

/* What a dump returns when a message does not fit: more packets follow, unless it never will. */
static int dump_full(struct sk_buff *skb)
{
	return skb->len ?: -EMSGSIZE;
}

static bool put_u64(struct sk_buff *skb, int attr, u64 val)
{
	return !nla_put_u64_64bit(skb, attr, val, KEEL_A_PAD);
}

static bool put_owner(struct sk_buff *skb, const struct reader *rd, const struct keel_owner *owner)
{
	return put_u64(skb, KEEL_A_VM_ID, owner->vm_id) &&
	       !nla_put_u32(skb, KEEL_A_UID, from_kuid_munged(rd->user_ns, owner->uid)) &&
	       !nla_put_u32(skb, KEEL_A_PID, pid_nr_ns(owner->pid, rd->pid_ns)) &&
	       !nla_put_string(skb, KEEL_A_NAME, owner->name);
}

/* VMs ----------------------------------------------------------------------------------------- */

static u64 vm_memory(struct keel_vm *vm)
{
	const struct keel_memslots *slots;
	int i, srcu = srcu_read_lock(&vm->srcu);
	u64 pages = 0;

	slots = srcu_dereference(vm->slots, &vm->srcu);
	for (i = 0; i < slots->nr; i++)
		pages += slots->slot[i].npages;
	srcu_read_unlock(&vm->srcu, srcu);
	return pages << PAGE_SHIFT;
}

static int put_vm(struct sk_buff *skb, struct netlink_callback *cb, struct keel_vm *vm)
{
	const char *dead = READ_ONCE(vm->dead);
	void *msg = message_begin(skb, cb, KEEL_CMD_GET_VMS);
	bool ok;

	if (!msg)
		return -EMSGSIZE;
	ok = put_owner(skb, reader_of(cb), &vm->entry.owner) &&
	     !nla_put_u32(skb, KEEL_A_VCPUS, smp_load_acquire(&vm->nr_vcpus)) &&
	     put_u64(skb, KEEL_A_MEMORY, vm_memory(vm)) &&
	     put_u64(skb, KEEL_A_RESIDENT, (u64)get_mm_rss(vm->mm) << PAGE_SHIFT) &&
	     put_u64(skb, KEEL_A_UPTIME, ktime_get_boottime_ns() - vm->entry.created) &&
	     !nla_put_u32(skb, KEEL_A_TSC_KHZ, tsc_khz) &&
	     (!dead || !nla_put_string(skb, KEEL_A_REASON, dead));
	return message_end(skb, msg, ok);
}

static int dump_vms(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct reader *rd = reader_of(cb);
	struct keel_vm *vm;

	keel_registry_lock();
	for (vm = keel_vm_after(rd->at_vm); vm; vm = keel_vm_after(rd->at_vm)) {
		if (visible(rd, &vm->entry.owner) && put_vm(skb, cb, vm))
			break;
		rd->at_vm = vm->entry.owner.vm_id;
	}
	keel_registry_unlock();
	return vm ? dump_full(skb) : skb->len;
}

/* vCPUs --------------------------------------------------------------------------------------- */

static bool put_exit(struct sk_buff *skb, u32 reason, const struct keel_exit_stats *e)
{
	u64 hist[KEEL_COST_BUCKETS];
	int i, used = 0;
	struct nlattr *nest = nla_nest_start(skb, KEEL_A_EXIT);

	for (i = 0; i < KEEL_COST_BUCKETS; i++) {
		hist[i] = READ_ONCE(e->hist[i]);
		if (hist[i])
			used = i + 1;
	}
	if (!nest || nla_put_u32(skb, KEEL_A_EXIT_REASON, reason) ||
	    !put_u64(skb, KEEL_A_EXIT_COUNT, READ_ONCE(e->count)) ||
	    !put_u64(skb, KEEL_A_EXIT_TICKS, READ_ONCE(e->ticks)) ||
	    nla_put_64bit(skb, KEEL_A_EXIT_HIST, used * sizeof(hist[0]), hist, KEEL_A_PAD))
		return false;
	nla_nest_end(skb, nest);
	return true;
}

static bool put_exits(struct sk_buff *skb, const struct keel_vcpu *vcpu)
{
	u32 i;

	for (i = 0; i < KEEL_NR_REASONS; i++)
		if (READ_ONCE(vcpu->stats.exits[i].count) && !put_exit(skb, i, &vcpu->stats.exits[i]))
			return false;
	return true;
}

static bool put_times(struct sk_buff *skb, const struct keel_vcpu *vcpu)
{
	struct keel_vcpu_times t;

	keel_stats_times(vcpu, &t);
	return put_u64(skb, KEEL_A_TIME_GUEST, t.guest) && put_u64(skb, KEEL_A_TIME_KERNEL, t.kernel) &&
	       put_u64(skb, KEEL_A_TIME_USER, t.user) && put_u64(skb, KEEL_A_TIME_OFF, t.off) &&
	       put_u64(skb, KEEL_A_TIME_STEAL, t.steal);
}

static u32 vcpu_state(const struct keel_vcpu *vcpu)
{
	switch (READ_ONCE(vcpu->stats.activity)) {
	case KEEL_ACT_NEW:
		return KEEL_STATE_NEW;
	case KEEL_ACT_OFF:
		return KEEL_STATE_OFF;
	case KEEL_ACT_USER:
		return KEEL_STATE_USER;
	default:
		return READ_ONCE(vcpu->mode) == KEEL_OUTSIDE ? KEEL_STATE_KERNEL : KEEL_STATE_GUEST;
	}
}

static int put_vcpu(struct sk_buff *skb, struct netlink_callback *cb, struct keel_vcpu *vcpu)
{
	struct reader *rd = reader_of(cb);
	const char *error = READ_ONCE(vcpu->error);
	void *msg = message_begin(skb, cb, KEEL_CMD_GET_VCPUS);
	u32 tid;
	bool ok;

	if (!msg)
		return -EMSGSIZE;
	spin_lock(&vcpu->sched.pid_lock);
	tid = pid_nr_ns(vcpu->sched.pid, rd->pid_ns);
	spin_unlock(&vcpu->sched.pid_lock);
	ok = put_u64(skb, KEEL_A_VM_ID, vcpu->vm->entry.owner.vm_id) &&
	     !nla_put_u32(skb, KEEL_A_VCPU_ID, vcpu->id) &&
	     (!tid || !nla_put_u32(skb, KEEL_A_TID, tid)) &&
	     !nla_put_u32(skb, KEEL_A_STATE, vcpu_state(vcpu)) &&
	     !nla_put_u32(skb, KEEL_A_TSC_KHZ, tsc_khz) &&
	     (!error || !nla_put_string(skb, KEEL_A_REASON, error)) &&
	     put_times(skb, vcpu) && put_exits(skb, vcpu);
	return message_end(skb, msg, ok);
}

/* The vCPUs of one VM from rd->at_vcpu on. */
static int put_vcpus(struct sk_buff *skb, struct netlink_callback *cb, struct keel_vm *vm)
{
	struct reader *rd = reader_of(cb);

	for (; rd->at_vcpu < smp_load_acquire(&vm->nr_vcpus); rd->at_vcpu++)
		if (put_vcpu(skb, cb, vm->vcpus[rd->at_vcpu]))
			return -EMSGSIZE;
	return 0;
}

static int dump_vcpus(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct reader *rd = reader_of(cb);
	struct keel_vm *vm;
	u64 id;

	keel_registry_lock();
	/* at_vm - 1: the VM that is being told is to be found again. */
	for (vm = keel_vm_after(rd->at_vm ? rd->at_vm - 1 : 0); vm; vm = keel_vm_after(id)) {
		id = vm->entry.owner.vm_id;
		if (rd->at_vm != id)
			rd->at_vcpu = 0;
		rd->at_vm = id;
		if ((rd->vm_id && rd->vm_id != id) || !visible(rd, &vm->entry.owner))
			continue;
		if (put_vcpus(skb, cb, vm))
			break;
	}
	keel_registry_unlock();
	return vm ? dump_full(skb) : skb->len;
}

/* Events -------------------------------------------------------------------------------------- */

static int put_event(struct sk_buff *skb, struct netlink_callback *cb, const struct keel_record *r)
{
	void *msg = message_begin(skb, cb, KEEL_CMD_GET_EVENTS);
	bool ok;

	if (!msg)
		return -EMSGSIZE;
	ok = put_u64(skb, KEEL_A_SEQ, r->seq) && put_u64(skb, KEEL_A_WHEN, r->when) &&
	     !nla_put_u32(skb, KEEL_A_EVENT, r->event) && put_owner(skb, reader_of(cb), &r->owner) &&
	     (r->vcpu_id < 0 || !nla_put_u32(skb, KEEL_A_VCPU_ID, r->vcpu_id)) &&
	     (!r->reason || !nla_put_string(skb, KEEL_A_REASON, r->reason));
	return message_end(skb, msg, ok);
}

static int put_cursor(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct reader *rd = reader_of(cb);
	void *msg = message_begin(skb, cb, KEEL_CMD_GET_EVENTS);
	bool ok;

	if (!msg)
		return -EMSGSIZE;
	ok = put_u64(skb, KEEL_A_SEQ, keel_last_record()) && (!rd->lost || put_u64(skb, KEEL_A_LOST, rd->lost));
	return message_end(skb, msg, ok);
}

static int put_events(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct reader *rd = reader_of(cb);
	u64 last = keel_last_record();
	const struct keel_record *r;

	if (rd->from_now)
		return put_cursor(skb, cb);
	for (; rd->seq < last; rd->seq++) {
		u64 oldest = last > KEEL_RECORDS ? last - KEEL_RECORDS : 0;

		if (rd->seq < oldest) {
			rd->lost += oldest - rd->seq;
			rd->seq = oldest;
		}
		r = keel_record(rd->seq + 1);
		if (r && visible(rd, &r->owner) && put_event(skb, cb, r))
			return -EMSGSIZE;
	}
	return put_cursor(skb, cb);
}

static int dump_events(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct reader *rd = reader_of(cb);

	if (rd->done)
		return 0;
	keel_registry_lock();
	rd->done = !put_events(skb, cb);
	keel_registry_unlock();
	return rd->done ? skb->len : dump_full(skb);
}

/* The family ---------------------------------------------------------------------------------- */

/* All the others are refused: the parser is strict about what a policy has no type for. */
static const struct nla_policy no_policy[KEEL_A_MAX + 1] = { };

static const struct nla_policy vcpus_policy[KEEL_A_MAX + 1] = {
	[KEEL_A_VM_ID] = { .type = NLA_U64 },
};

static const struct nla_policy events_policy[KEEL_A_MAX + 1] = {
	[KEEL_A_SEQ] = { .type = NLA_U64 },
};

#define DUMP(command, function, attributes) \
	{ .cmd = (command), .start = dump_start, .dumpit = (function), .done = dump_done, \
	  .policy = (attributes), .maxattr = KEEL_A_MAX }

static const struct genl_ops keel_commands[] = {
	DUMP(KEEL_CMD_GET_VMS, dump_vms, no_policy),
	DUMP(KEEL_CMD_GET_VCPUS, dump_vcpus, vcpus_policy),
	DUMP(KEEL_CMD_GET_EVENTS, dump_events, events_policy),
};

static const struct genl_multicast_group keel_groups[] = {
	{ .name = KEEL_GENL_EVENTS },
};

static struct genl_family keel_family __ro_after_init = {
	.name = KEEL_GENL_NAME,
	.version = KEEL_GENL_VERSION,
	.netnsok = true,
	.parallel_ops = true,
	.module = THIS_MODULE,
	.ops = keel_commands,
	.n_ops = ARRAY_SIZE(keel_commands),
	.resv_start_op = KEEL_CMD_UNSPEC + 1,
	.mcgrps = keel_groups,
	.n_mcgrps = ARRAY_SIZE(keel_groups),
};

/**
 * keel_netlink_events() - tell the group that there is a new event; may sleep
 *
 * Who is not there, or too slow, finds it by the next dump.
 */
void keel_netlink_events(void)
{
	struct sk_buff *skb = genlmsg_new(0, GFP_KERNEL);
	void *msg;

	if (!skb)
		return;
	msg = genlmsg_put(skb, 0, 0, &keel_family, 0, KEEL_CMD_EVENTS);
	if (!msg) {
		nlmsg_free(skb);
		return;
	}
	genlmsg_end(skb, msg);
	genlmsg_multicast_allns(&keel_family, skb, 0, 0);
}

/**
 * keel_netlink_init() - the family appears
 *
 * Return: 0 or -errno
 */
int __init keel_netlink_init(void)
{
	return genl_register_family(&keel_family);
}

/**
 * keel_netlink_exit() - it goes; no dump is under way afterwards
 */
void keel_netlink_exit(void)
{
	genl_unregister_family(&keel_family);
}
