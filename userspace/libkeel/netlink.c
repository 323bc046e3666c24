// SPDX-License-Identifier: GPL-2.0-only
/*
 * The generic netlink family "keel", by way of libnl: see view.h.
 *
 * Two sockets: one for requests, one that only hears that there are events, which the first then asks for. What the
 * kernel says beyond what this program knows is passed over.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#include "libkeel.h"
#include "view.h"

struct keel_view {
	struct nl_sock *ask, *hear;
	int family;
	uint64_t seq;			/* of the last event that was told */
};

/* What the answers to one request go to. */
struct dump {
	void *items;
	size_t size, count;
	int (*parse)(struct dump *dump, struct nlmsghdr *head, struct nlattr **attrs);
	void (*tell)(void *opaque, const struct keel_event_view *event);
	void *opaque;
	uint64_t seq, lost;
	int err;
};

const char *keel_reason_name(unsigned int reason)
{
	static const struct {
		unsigned int value;
		const char *name;
	} names[] = { KEEL_REASON_NAMES };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].value == reason)
			return names[i].name;
	return "unknown";
}

static int nl_fail(int err, const char *what)
{
	if (err == -NLE_OBJ_NOTFOUND)
		return keel_fail(ENOENT, "the kernel has no netlink family 'keel': load the module (make load, or "
				 "insmod keel.ko)");
	if (err == -NLE_NOMEM)
		return keel_fail(ENOMEM, "out of memory");
	return keel_fail(EIO, "%s: %s", what, nl_geterror(err));
}

/* Sockets ---------------------------------------------------------------------------------- */

static int socket_open(struct nl_sock **out)
{
	struct nl_sock *sock = nl_socket_alloc();
	int err;

	if (!sock)
		return keel_fail(ENOMEM, "out of memory");
	err = genl_connect(sock);
	if (err) {
		nl_socket_free(sock);
		return nl_fail(err, "cannot open a netlink socket");
	}
	*out = sock;
	return 0;
}

int keel_view_open(struct keel_view **out)
{
	struct keel_view *view = calloc(1, sizeof(*view));
	int ret;

	if (!view)
		return keel_fail(ENOMEM, "out of memory");
	ret = socket_open(&view->ask);
	if (!ret) {
		view->family = genl_ctrl_resolve(view->ask, KEEL_GENL_NAME);
		if (view->family < 0)
			ret = nl_fail(view->family, "cannot look for the netlink family 'keel'");
	}
	if (ret) {
		keel_view_close(view);
		return ret;
	}
	/* a vCPU with many kinds of exits takes more than a page */
	nl_socket_enable_msg_peek(view->ask);
	*out = view;
	return 0;
}

void keel_view_close(struct keel_view *view)
{
	if (!view)
		return;
	nl_socket_free(view->ask);
	nl_socket_free(view->hear);
	free(view);
}

/* Attributes ------------------------------------------------------------------------------- */

static uint32_t get_u32(struct nlattr **attrs, int attr)
{
	return attrs[attr] ? nla_get_u32(attrs[attr]) : 0;
}

static uint64_t get_u64(struct nlattr **attrs, int attr)
{
	return attrs[attr] ? nla_get_u64(attrs[attr]) : 0;
}

static void get_string(struct nlattr **attrs, int attr, char *to, size_t size)
{
	to[0] = '\0';
	if (attrs[attr])
		nla_strlcpy(to, attrs[attr], size);
}

static const struct nla_policy policy[KEEL_A_MAX + 1] = {
	[KEEL_A_VM_ID] = { .type = NLA_U64 },
	[KEEL_A_UID] = { .type = NLA_U32 },
	[KEEL_A_PID] = { .type = NLA_U32 },
	[KEEL_A_NAME] = { .type = NLA_STRING },
	[KEEL_A_VCPUS] = { .type = NLA_U32 },
	[KEEL_A_MEMORY] = { .type = NLA_U64 },
	[KEEL_A_RESIDENT] = { .type = NLA_U64 },
	[KEEL_A_UPTIME] = { .type = NLA_U64 },
	[KEEL_A_TSC_KHZ] = { .type = NLA_U32 },
	[KEEL_A_REASON] = { .type = NLA_STRING },
	[KEEL_A_VCPU_ID] = { .type = NLA_U32 },
	[KEEL_A_TID] = { .type = NLA_U32 },
	[KEEL_A_STATE] = { .type = NLA_U32 },
	[KEEL_A_TIME_GUEST] = { .type = NLA_U64 },
	[KEEL_A_TIME_KERNEL] = { .type = NLA_U64 },
	[KEEL_A_TIME_USER] = { .type = NLA_U64 },
	[KEEL_A_TIME_OFF] = { .type = NLA_U64 },
	[KEEL_A_TIME_STEAL] = { .type = NLA_U64 },
	[KEEL_A_EXIT] = { .type = NLA_NESTED },
	[KEEL_A_EXIT_REASON] = { .type = NLA_U32 },
	[KEEL_A_EXIT_COUNT] = { .type = NLA_U64 },
	[KEEL_A_EXIT_TICKS] = { .type = NLA_U64 },
	[KEEL_A_SEQ] = { .type = NLA_U64 },
	[KEEL_A_EVENT] = { .type = NLA_U32 },
	[KEEL_A_WHEN] = { .type = NLA_U64 },
	[KEEL_A_LOST] = { .type = NLA_U64 },
};

/* One more item, zeroed; NULL: out of memory. */
static void *dump_add(struct dump *dump)
{
	char *items = reallocarray(dump->items, dump->count + 1, dump->size);

	if (!items)
		return NULL;
	dump->items = items;
	return memset(items + dump->count++ * dump->size, 0, dump->size);
}

static int answer(struct nl_msg *msg, void *opaque)
{
	struct nlattr *attrs[KEEL_A_MAX + 1];
	struct dump *dump = opaque;

	if (!dump->err)
		dump->err = genlmsg_parse(nlmsg_hdr(msg), 0, attrs, KEEL_A_MAX, policy);
	if (!dump->err)
		dump->err = dump->parse(dump, nlmsg_hdr(msg), attrs);
	return NL_OK;
}

/* Send a dump request with at most one attribute, and hand all answers to @dump. */
static int dump_run(struct keel_view *view, int cmd, int attr, uint64_t val, struct dump *dump)
{
	struct nl_msg *msg = nlmsg_alloc();
	int err = -NLE_NOMEM;

	if (msg && genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, view->family, 0, NLM_F_DUMP, cmd, KEEL_GENL_VERSION) &&
	    (!attr || !nla_put_u64(msg, attr, val))) {
		nl_socket_modify_cb(view->ask, NL_CB_VALID, NL_CB_CUSTOM, answer, dump);
		err = nl_send_auto(view->ask, msg);
		if (err >= 0)
			err = nl_recvmsgs_default(view->ask);
	}
	nlmsg_free(msg);
	if (!err)
		err = dump->err;
	if (err)
		free(dump->items);
	return err ? nl_fail(err, "the kernel does not tell of its VMs") : 0;
}

/* What is told ----------------------------------------------------------------------------- */

static void vm_identify(struct keel_vm_view *vm, struct nlattr **attrs)
{
	vm->id = get_u64(attrs, KEEL_A_VM_ID);
	vm->uid = get_u32(attrs, KEEL_A_UID);
	vm->pid = get_u32(attrs, KEEL_A_PID);
	get_string(attrs, KEEL_A_NAME, vm->name, sizeof(vm->name));
}

static int vm_parse(struct dump *dump, struct nlmsghdr *head, struct nlattr **attrs)
{
	struct keel_vm_view *vm = dump_add(dump);

	(void)head;
	if (!vm)
		return -NLE_NOMEM;
	vm_identify(vm, attrs);
	vm->vcpus = get_u32(attrs, KEEL_A_VCPUS);
	vm->tsc_khz = get_u32(attrs, KEEL_A_TSC_KHZ);
	vm->memory = get_u64(attrs, KEEL_A_MEMORY);
	vm->resident = get_u64(attrs, KEEL_A_RESIDENT);
	vm->uptime = get_u64(attrs, KEEL_A_UPTIME);
	get_string(attrs, KEEL_A_REASON, vm->dead, sizeof(vm->dead));
	return 0;
}

static void exit_parse(struct keel_vcpu_view *vcpu, struct nlattr *nest)
{
	struct nlattr *attrs[KEEL_A_MAX + 1];
	struct keel_exit_view *e;
	uint32_t reason;
	size_t size;

	if (nla_parse_nested(attrs, KEEL_A_MAX, nest, policy))
		return;
	reason = get_u32(attrs, KEEL_A_EXIT_REASON);
	e = &vcpu->exits[reason < KEEL_NR_REASONS ? reason : KEEL_REASON_OTHER];
	e->count += get_u64(attrs, KEEL_A_EXIT_COUNT);
	e->ticks += get_u64(attrs, KEEL_A_EXIT_TICKS);
	if (!attrs[KEEL_A_EXIT_HIST])
		return;
	size = nla_len(attrs[KEEL_A_EXIT_HIST]);
	if (size > sizeof(e->hist))
		size = sizeof(e->hist);
	memcpy(e->hist, nla_data(attrs[KEEL_A_EXIT_HIST]), size);
}

static int vcpu_parse(struct dump *dump, struct nlmsghdr *head, struct nlattr **attrs)
{
	struct keel_vcpu_view *vcpu = dump_add(dump);
	struct nlattr *attr;
	int left;

	if (!vcpu)
		return -NLE_NOMEM;
	vcpu->vm = get_u64(attrs, KEEL_A_VM_ID);
	vcpu->id = get_u32(attrs, KEEL_A_VCPU_ID);
	vcpu->tid = get_u32(attrs, KEEL_A_TID);
	vcpu->state = get_u32(attrs, KEEL_A_STATE);
	vcpu->tsc_khz = get_u32(attrs, KEEL_A_TSC_KHZ);
	vcpu->guest = get_u64(attrs, KEEL_A_TIME_GUEST);
	vcpu->kernel = get_u64(attrs, KEEL_A_TIME_KERNEL);
	vcpu->user = get_u64(attrs, KEEL_A_TIME_USER);
	vcpu->off = get_u64(attrs, KEEL_A_TIME_OFF);
	vcpu->steal = get_u64(attrs, KEEL_A_TIME_STEAL);
	get_string(attrs, KEEL_A_REASON, vcpu->error, sizeof(vcpu->error));
	/* many attributes of one type, of which the parsed array has only the last */
	nlmsg_for_each_attr(attr, head, GENL_HDRLEN, left)
		if (nla_type(attr) == KEEL_A_EXIT)
			exit_parse(vcpu, attr);
	return 0;
}

/* An event, or in the last message where to go on. */
static int event_parse(struct dump *dump, struct nlmsghdr *head, struct nlattr **attrs)
{
	struct keel_event_view event = {
		.seq = get_u64(attrs, KEEL_A_SEQ),
		.when = get_u64(attrs, KEEL_A_WHEN),
		.event = get_u32(attrs, KEEL_A_EVENT),
		.vcpu = attrs[KEEL_A_VCPU_ID] ? (int)get_u32(attrs, KEEL_A_VCPU_ID) : -1,
	};

	(void)head;
	dump->seq = event.seq;
	if (!attrs[KEEL_A_EVENT]) {
		dump->lost = get_u64(attrs, KEEL_A_LOST);
		return 0;
	}
	vm_identify(&event.vm, attrs);
	get_string(attrs, KEEL_A_REASON, event.reason, sizeof(event.reason));
	dump->tell(dump->opaque, &event);
	return 0;
}

int keel_view_vms(struct keel_view *view, struct keel_vm_view **vms, size_t *count)
{
	struct dump dump = { .size = sizeof(**vms), .parse = vm_parse };
	int ret = dump_run(view, KEEL_CMD_GET_VMS, 0, 0, &dump);

	if (ret)
		return ret;
	*vms = dump.items;
	*count = dump.count;
	return 0;
}

int keel_view_vcpus(struct keel_view *view, uint64_t vm, struct keel_vcpu_view **vcpus, size_t *count)
{
	struct dump dump = { .size = sizeof(**vcpus), .parse = vcpu_parse };
	int ret = dump_run(view, KEEL_CMD_GET_VCPUS, vm ? KEEL_A_VM_ID : 0, vm, &dump);

	if (ret)
		return ret;
	*vcpus = dump.items;
	*count = dump.count;
	return 0;
}

/* Events ----------------------------------------------------------------------------------- */

int keel_view_watch(struct keel_view *view)
{
	struct dump dump = { .parse = event_parse };
	int ret, group;

	ret = socket_open(&view->hear);
	if (ret)
		return ret;
	group = genl_ctrl_resolve_grp(view->ask, KEEL_GENL_NAME, KEEL_GENL_EVENTS);
	if (group < 0)
		return nl_fail(group, "cannot look for the events of 'keel'");
	ret = nl_socket_add_membership(view->hear, group);
	if (ret)
		return nl_fail(ret, "cannot listen to events");
	nl_socket_disable_seq_check(view->hear);
	nl_socket_set_nonblocking(view->hear);
	ret = dump_run(view, KEEL_CMD_GET_EVENTS, 0, 0, &dump);
	if (ret)
		return ret;
	view->seq = dump.seq;
	return nl_socket_get_fd(view->hear);
}

int keel_view_events(struct keel_view *view, void (*tell)(void *opaque, const struct keel_event_view *event),
		     void *opaque, uint64_t *lost)
{
	struct dump dump = { .parse = event_parse, .tell = tell, .opaque = opaque };
	int ret;

	/* what they say is nothing, and that some were lost (ENOBUFS) does no harm */
	while (!nl_recvmsgs_default(view->hear))
		;
	ret = dump_run(view, KEEL_CMD_GET_EVENTS, KEEL_A_SEQ, view->seq, &dump);
	if (ret)
		return ret;
	view->seq = dump.seq;
	*lost = dump.lost;
	return 0;
}

