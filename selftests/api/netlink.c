// SPDX-License-Identifier: GPL-2.0-only
/*
 * The netlink family "keel", byte by byte: what it refuses, whom it tells of which VM, that its dumps are whole
 * while VMs come and go, and that events arrive. What random bytes do to it, with a fixed seed.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/keel.h>
#include "kselftest_harness.h"
#include "genl.h"
#include "guest.h"

#define OTHER_UID	4711
#define FUZZ_MESSAGES	20000

FIXTURE(netlink) {
	struct genl nl;
	int dev;
};

FIXTURE_SETUP(netlink)
{
	self->dev = dev_open();
	if (!dev_is_keel(self->dev))
		SKIP(return, "not Keel");
	genl_open(&self->nl);
}

FIXTURE_TEARDOWN(netlink)
{
	if (self->nl.fd > 0)
		genl_close(&self->nl);
	close(self->dev);
}

/* The message about this process's @n-th VM, NULL: none. */
static const struct nlmsghdr *own_vm(const struct genl_answer *a, int n)
{
	const struct nlmsghdr *h;
	int i;

	for (i = 0; (h = genl_message(a, i)); i++)
		if (genl_u32(genl_attr(h, KEEL_A_PID, NULL)) == (uint32_t)getpid() && !n--)
			return h;
	return NULL;
}

static uint64_t own_vm_id(struct genl *nl, int n)
{
	struct genl_answer a = genl_dump(nl, KEEL_CMD_GET_VMS, 0, 0);
	const struct nlmsghdr *h = own_vm(&a, n);
	uint64_t id = h ? genl_u64(genl_attr(h, KEEL_A_VM_ID, NULL)) : 0;

	genl_free(&a);
	return id;
}

/* How many VMs of process @pid the reader sees. */
static int count_vms(struct genl *nl, int pid)
{
	struct genl_answer a = genl_dump(nl, KEEL_CMD_GET_VMS, 0, 0);
	const struct nlmsghdr *h;
	int i, n = 0;

	for (i = 0; (h = genl_message(&a, i)); i++)
		n += genl_u32(genl_attr(h, KEEL_A_PID, NULL)) == (uint32_t)pid;
	genl_free(&a);
	return n;
}

TEST_F(netlink, family)
{
	EXPECT_EQ(KEEL_GENL_VERSION, self->nl.version);
	EXPECT_NE(0, self->nl.group);
}

static int ask_err(struct genl *nl, struct genl_msg *m)
{
	struct genl_answer a = genl_ask(nl, m);
	int err = a.err;

	genl_free(&a);
	return err;
}

TEST_F(netlink, refusals)
{
	static const uint8_t commands[] = { KEEL_CMD_GET_VMS, KEEL_CMD_GET_VCPUS, KEEL_CMD_GET_EVENTS };
	static const uint16_t takes[] = { 0, KEEL_A_VM_ID, KEEL_A_SEQ };
	struct genl *nl = &self->nl;
	uint64_t val[2] = { 1, 1 };
	struct genl_msg m;
	unsigned int i, attr;

	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		genl_msg_init(nl, &m, commands[i], NLM_F_ACK);
		EXPECT_EQ(-EOPNOTSUPP, ask_err(nl, &m));
		for (attr = 1; attr <= KEEL_A_MAX + 2; attr++) {
			genl_msg_init(nl, &m, commands[i], NLM_F_DUMP);
			genl_msg_attr(&m, attr, val, 8);
			EXPECT_EQ(attr == takes[i] ? 0 : -EINVAL, ask_err(nl, &m)) {
				TH_LOG("command %u attribute %u", commands[i], attr);
			}
		}
		if (!takes[i])
			continue;
		genl_msg_init(nl, &m, commands[i], NLM_F_DUMP);
		genl_msg_attr(&m, takes[i], val, 4);
		EXPECT_EQ(-EINVAL, ask_err(nl, &m));
		genl_msg_init(nl, &m, commands[i], NLM_F_DUMP);
		genl_msg_attr(&m, takes[i], val, 16);
		EXPECT_EQ(-EINVAL, ask_err(nl, &m));
		genl_msg_init(nl, &m, commands[i], NLM_F_DUMP);
		genl_msg_attr(&m, takes[i], val, 0);
		EXPECT_EQ(-EINVAL, ask_err(nl, &m));
		/* bytes behind the last attribute */
		genl_msg_init(nl, &m, commands[i], NLM_F_DUMP);
		genl_msg_attr(&m, takes[i], val, 8);
		m.head.nlmsg_len += 2;
		EXPECT_EQ(-EINVAL, ask_err(nl, &m));
		/* an attribute that claims to be longer than the message */
		genl_msg_init(nl, &m, commands[i], NLM_F_DUMP);
		genl_msg_attr(&m, takes[i], val, 8);
		((struct nlattr *)m.attrs)->nla_len = 200;
		EXPECT_EQ(-EINVAL, ask_err(nl, &m));
	}
	genl_msg_init(nl, &m, KEEL_CMD_EVENTS, NLM_F_DUMP);
	EXPECT_EQ(-EOPNOTSUPP, ask_err(nl, &m));
	genl_msg_init(nl, &m, 200, NLM_F_DUMP);
	EXPECT_EQ(-EOPNOTSUPP, ask_err(nl, &m));
	genl_msg_init(nl, &m, KEEL_CMD_GET_VMS, NLM_F_DUMP);
	m.genl.reserved = 1;
	EXPECT_EQ(-EINVAL, ask_err(nl, &m));
}

TEST_F(netlink, a_vm)
{
	struct genl *nl = &self->nl;
	struct genl_answer a;
	const struct nlmsghdr *h;
	uint64_t first, second;
	struct guest g;
	int vm;

	EXPECT_EQ(0, count_vms(nl, getpid()));
	guest_create(&g, 0);
	a = genl_dump(nl, KEEL_CMD_GET_VMS, 0, 0);
	h = own_vm(&a, 0);
	ASSERT_NE(NULL, h);
	EXPECT_EQ(KEEL_CMD_GET_VMS, ((struct genlmsghdr *)NLMSG_DATA(h))->cmd);
	EXPECT_EQ(geteuid(), genl_u32(genl_attr(h, KEEL_A_UID, NULL)));
	EXPECT_STREQ("netlink", (char *)genl_data(genl_attr(h, KEEL_A_NAME, NULL)));
	EXPECT_EQ(1, genl_u32(genl_attr(h, KEEL_A_VCPUS, NULL)));
	EXPECT_EQ(g.mem_size - (GUEST_HIGH - GUEST_HOLE), genl_u64(genl_attr(h, KEEL_A_MEMORY, NULL)));
	EXPECT_LT(PAGE_SIZE, genl_u64(genl_attr(h, KEEL_A_RESIDENT, NULL)));
	EXPECT_LT(0, genl_u64(genl_attr(h, KEEL_A_UPTIME, NULL)));
	EXPECT_LT(0, genl_u32(genl_attr(h, KEEL_A_TSC_KHZ, NULL)));
	EXPECT_EQ(NULL, genl_attr(h, KEEL_A_REASON, NULL));
	genl_free(&a);

	vm = vm_create(self->dev);
	first = own_vm_id(nl, 0);
	second = own_vm_id(nl, 1);
	EXPECT_LT(first, second);
	/* The VM lives as long as a vCPU's fd. */
	close(g.vm);
	EXPECT_EQ(2, count_vms(nl, getpid()));
	vcpu_close(&g.cpu);
	EXPECT_EQ(1, count_vms(nl, getpid()));
	EXPECT_EQ(second, own_vm_id(nl, 0));
	close(vm);
	EXPECT_EQ(0, count_vms(nl, getpid()));
	vm = vm_create(self->dev);
	EXPECT_LT(second, own_vm_id(nl, 0));
	close(vm);
}

struct exits {
	uint64_t count[KEEL_NR_REASONS], ticks[KEEL_NR_REASONS], hist[KEEL_NR_REASONS];
	uint32_t state;
	uint64_t guest, kernel, user;
};

/* What is told of the only vCPU of the only VM of this process; false: nothing. */
static bool read_exits(struct genl *nl, struct exits *e)
{
	struct genl_answer a = genl_dump(nl, KEEL_CMD_GET_VCPUS, KEEL_A_VM_ID, own_vm_id(nl, 0));
	const struct nlmsghdr *h = genl_message(&a, 0);
	const struct nlattr *nest, *hist;
	size_t i;

	memset(e, 0, sizeof(*e));
	if (!h || a.count != 1)
		return false;
	e->state = genl_u32(genl_attr(h, KEEL_A_STATE, NULL));
	e->guest = genl_u64(genl_attr(h, KEEL_A_TIME_GUEST, NULL));
	e->kernel = genl_u64(genl_attr(h, KEEL_A_TIME_KERNEL, NULL));
	e->user = genl_u64(genl_attr(h, KEEL_A_TIME_USER, NULL));
	for (nest = genl_attr(h, KEEL_A_EXIT, NULL); nest; nest = genl_attr(h, KEEL_A_EXIT, nest)) {
		uint32_t reason = genl_u32(genl_nested(nest, KEEL_A_EXIT_REASON));

		if (reason >= KEEL_NR_REASONS)
			die("reason %u", reason);
		e->count[reason] = genl_u64(genl_nested(nest, KEEL_A_EXIT_COUNT));
		e->ticks[reason] = genl_u64(genl_nested(nest, KEEL_A_EXIT_TICKS));
		hist = genl_nested(nest, KEEL_A_EXIT_HIST);
		for (i = 0; i < genl_len(hist) / 8; i++)
			e->hist[reason] += ((uint64_t *)genl_data(hist))[i];
	}
	genl_free(&a);
	return true;
}

GUEST(scripted, 64,
	"mov $1000, %esi\n"
	"1: xor %eax, %eax\n cpuid\n dec %esi\n jnz 1b\n"
	"mov $30, %esi\n"
	"2: outb %al, $" STR(PORT_SYNC) "\n dec %esi\n jnz 2b\n"
	"mov $7, %esi\n"
	"3: mov %al, " STR(GUEST_MMIO) "\n dec %esi\n jnz 3b\n"
	"mov $20, %esi\n"
	"4: mov $0x10, %ecx\n rdmsr\n dec %esi\n jnz 4b\n"
	G_DONE);

/* Counts known from the guest's program, each exit in its histogram once. */
TEST_F(netlink, exits_are_counted_exactly)
{
	struct exits e;
	struct guest g;
	int i;

	guest_create(&g, 0);
	ASSERT_TRUE(read_exits(&self->nl, &e));
	EXPECT_EQ(KEEL_STATE_NEW, e.state);
	EXPECT_EQ(0, e.guest + e.kernel + e.user);
	guest_start(&g, MODE_LONG, BLOB(scripted));
	for (i = 0; i < 30; i++)
		ASSERT_PORT(PORT_SYNC, &g);
	for (i = 0; i < 7; i++)
		ASSERT_RUN(KVM_EXIT_MMIO, &g);
	ASSERT_DONE(&g);

	ASSERT_TRUE(read_exits(&self->nl, &e));
	EXPECT_EQ(KEEL_STATE_USER, e.state);
	EXPECT_EQ(1000, e.count[KEEL_REASON_CPUID]);
	EXPECT_EQ(30 + 1, e.count[KEEL_REASON_IO]);
	EXPECT_EQ(7, e.count[KEEL_REASON_MMIO]);
	EXPECT_EQ(0, e.count[KEEL_REASON_WRMSR]);
	EXPECT_EQ(0, e.count[KEEL_REASON_HLT]);
	EXPECT_LT(0, e.count[KEEL_REASON_NESTED_FAULT]);
	for (i = 1; i < KEEL_NR_REASONS; i++) {
		/* The cost of the last one is known at the next entry. */
		EXPECT_EQ(e.count[i] - (i == KEEL_REASON_IO), e.hist[i]) {
			TH_LOG("reason %d", i);
		}
		EXPECT_EQ(e.hist[i] != 0, e.ticks[i] != 0);
	}
	EXPECT_LT(0, e.guest);
	EXPECT_LT(0, e.kernel);
	EXPECT_LT(0, e.user);
	guest_destroy(&g);
}

/* All of them, once, though they take several packets. */
TEST_F(netlink, many_vcpus)
{
	int vm = vm_create(self->dev), n = 100, i, fd[100];
	struct genl_answer a;
	uint32_t seen[100] = { 0 };

	for (i = 0; i < n; i++)
		fd[i] = MUST(vm_ioctl(vm, KVM_CREATE_VCPU, i));
	a = genl_dump(&self->nl, KEEL_CMD_GET_VCPUS, KEEL_A_VM_ID, own_vm_id(&self->nl, 0));
	ASSERT_EQ(n, a.count);
	for (i = 0; i < n; i++)
		seen[genl_u32(genl_attr(genl_message(&a, i), KEEL_A_VCPU_ID, NULL))]++;
	for (i = 0; i < n; i++)
		EXPECT_EQ(1, seen[i]);
	genl_free(&a);
	/* A VM that is not there has none. */
	a = genl_dump(&self->nl, KEEL_CMD_GET_VCPUS, KEEL_A_VM_ID, ~0ULL);
	EXPECT_EQ(0, a.count);
	genl_free(&a);
	for (i = 0; i < n; i++)
		close(fd[i]);
	close(vm);
}

/* Runs @f in a child, whose exit status it is. */
static int in_child(int (*f)(struct genl *nl, int dev), struct genl *nl, int dev)
{
	int status, pid = fork();

	if (!pid)
		_exit(f(nl, dev));
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Another user: sees the own VM and not root's, also not by root's socket. */
static int other_user(struct genl *nl, int dev)
{
	struct genl own;
	int vm;

	MUST(setresgid(OTHER_UID, OTHER_UID, OTHER_UID));
	MUST(setresuid(OTHER_UID, OTHER_UID, OTHER_UID));
	genl_open_as(&own, nl);
	if (count_vms(&own, getppid()) || count_vms(nl, getppid()))
		return 1;
	vm = vm_create(dev);
	if (count_vms(&own, getpid()) != 1)
		return 2;
	if (count_vms(nl, getpid()))
		return 3;
	close(vm);
	return 0;
}

static int other_vm;

static int make_vm_and_wait(struct genl *nl, int dev)
{
	MUST(setresuid(OTHER_UID, OTHER_UID, OTHER_UID));
	vm_create(dev);
	MUST(write(other_vm, "x", 1));
	pause();
	return 0;
}

TEST_F(netlink, visible_to_their_users)
{
	int vm, pipes[2], pid;
	char c;

	if (geteuid())
		SKIP(return, "not root");
	vm = vm_create(self->dev);
	EXPECT_EQ(0, in_child(other_user, &self->nl, self->dev));

	/* Root sees another's. */
	ASSERT_EQ(0, pipe(pipes));
	other_vm = pipes[1];
	pid = fork();
	if (!pid)
		_exit(make_vm_and_wait(&self->nl, self->dev));
	ASSERT_EQ(1, read(pipes[0], &c, 1));
	EXPECT_EQ(1, count_vms(&self->nl, pid));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(vm);
}

/* In another PID namespace, nothing of ours is to be seen, but its own by its own numbers. */
static int in_pid_namespace(struct genl *nl, int dev)
{
	struct genl_answer a;
	struct genl own;
	int n;

	genl_open_as(&own, nl);
	a = genl_dump(&own, KEEL_CMD_GET_VMS, 0, 0);
	n = a.count;
	if (n)
		return 1;
	vm_create(dev);
	return getpid() == 1 && count_vms(&own, 1) == 1 ? 0 : 2;
}

static int new_pid_namespace(struct genl *nl, int dev)
{
	MUST(unshare(CLONE_NEWPID));
	return in_child(in_pid_namespace, nl, dev);
}

/* In another user namespace one is nobody else: the own VMs, with the user id that it has there. */
static int new_user_namespace(struct genl *nl, int dev)
{
	const struct nlmsghdr *h;
	struct genl_answer a;
	struct genl own;

	vm_create(dev);
	MUST(setresuid(OTHER_UID, OTHER_UID, OTHER_UID));
	vm_create(dev);
	MUST(unshare(CLONE_NEWUSER));
	genl_open_as(&own, nl);
	a = genl_dump(&own, KEEL_CMD_GET_VMS, 0, 0);
	h = own_vm(&a, 0);
	if (!h || a.count != 1)
		return 1;
	return genl_u32(genl_attr(h, KEEL_A_UID, NULL)) == 65534 ? 0 : 2;
}

TEST_F(netlink, namespaces)
{
	int vm;

	if (geteuid())
		SKIP(return, "not root");
	vm = vm_create(self->dev);
	EXPECT_EQ(0, in_child(new_pid_namespace, &self->nl, self->dev));
	if (!access("/proc/self/ns/user", F_OK))
		EXPECT_EQ(0, in_child(new_user_namespace, &self->nl, self->dev));
	close(vm);
}

/* One more line for the group, within two seconds. */
static bool heard(struct genl *group)
{
	struct pollfd pfd = { .fd = group->fd, .events = POLLIN };
	char buf[4096];

	if (poll(&pfd, 1, 2000) != 1)
		return false;
	return recv(group->fd, buf, sizeof(buf), 0) == NLMSG_LENGTH(GENL_HDRLEN) &&
	       ((struct nlmsghdr *)buf)->nlmsg_type == group->family && buf[NLMSG_HDRLEN] == KEEL_CMD_EVENTS;
}

/* The next event of this process after @seq, which moves; its number, 0: none. */
static uint32_t next_event(struct genl *nl, uint64_t *seq, char *reason)
{
	struct genl_answer a = genl_dump(nl, KEEL_CMD_GET_EVENTS, KEEL_A_SEQ, *seq);
	const struct nlmsghdr *h;
	uint32_t event = 0;
	int i;

	for (i = 0; !event && (h = genl_message(&a, i)); i++) {
		const struct nlattr *r = genl_attr(h, KEEL_A_REASON, NULL);

		*seq = genl_u64(genl_attr(h, KEEL_A_SEQ, NULL));
		if (!genl_attr(h, KEEL_A_EVENT, NULL) ||
		    genl_u32(genl_attr(h, KEEL_A_PID, NULL)) != (uint32_t)getpid())
			continue;
		event = genl_u32(genl_attr(h, KEEL_A_EVENT, NULL));
		strcpy(reason, r ? genl_data(r) : "");
	}
	genl_free(&a);
	return event;
}

static uint64_t last_event(struct genl *nl)
{
	struct genl_answer a = genl_dump(nl, KEEL_CMD_GET_EVENTS, 0, 0);
	uint64_t seq;

	if (a.count != 1)
		die("%d messages", a.count);
	seq = genl_u64(genl_attr(genl_message(&a, 0), KEEL_A_SEQ, NULL));
	genl_free(&a);
	return seq;
}

GUEST(not_emulated, 64, "fldl " STR(GUEST_MMIO) "\n" G_DONE);

TEST_F(netlink, events)
{
	struct genl *nl = &self->nl, group;
	uint64_t seq = last_event(nl);
	char reason[256];
	struct guest g;

	genl_open_as(&group, nl);
	ASSERT_EQ(0, setsockopt(group.fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group.group, sizeof(group.group)));
	guest_create(&g, 0);
	EXPECT_TRUE(heard(&group));
	EXPECT_EQ(KEEL_EVENT_CREATED, next_event(nl, &seq, reason));
	EXPECT_STREQ("", reason);
	EXPECT_EQ(0, next_event(nl, &seq, reason));

	guest_start(&g, MODE_LONG, BLOB(not_emulated));
	ASSERT_RUN(KVM_EXIT_INTERNAL_ERROR, &g);
	EXPECT_TRUE(heard(&group));
	EXPECT_EQ(KEEL_EVENT_ERROR, next_event(nl, &seq, reason));
	EXPECT_STREQ("an instruction that is not emulated", reason);
	/* The same again is no news. */
	guest_start(&g, MODE_LONG, BLOB(not_emulated));
	ASSERT_RUN(KVM_EXIT_INTERNAL_ERROR, &g);
	EXPECT_EQ(0, next_event(nl, &seq, reason));

	guest_destroy(&g);
	EXPECT_TRUE(heard(&group));
	EXPECT_EQ(KEEL_EVENT_DESTROYED, next_event(nl, &seq, reason));
	EXPECT_EQ(0, next_event(nl, &seq, reason));
	EXPECT_EQ(seq, last_event(nl));
	genl_close(&group);
}

static uint64_t events_before;

/* Another user hears that there is something, and is told nothing. */
static int no_events(struct genl *nl, int dev)
{
	struct genl_answer a;
	struct genl own;

	MUST(setresuid(OTHER_UID, OTHER_UID, OTHER_UID));
	genl_open_as(&own, nl);
	a = genl_dump(&own, KEEL_CMD_GET_EVENTS, KEEL_A_SEQ, events_before);
	return a.count == 1 && !genl_attr(genl_message(&a, 0), KEEL_A_EVENT, NULL) ? 0 : 1;
}

TEST_F(netlink, events_are_kept_and_lost)
{
	struct genl *nl = &self->nl;
	struct genl_answer a;
	const struct nlmsghdr *h;
	int i;

	events_before = last_event(nl);
	for (i = 0; i < 150; i++)
		close(vm_create(self->dev));
	a = genl_dump(nl, KEEL_CMD_GET_EVENTS, KEEL_A_SEQ, events_before);
	ASSERT_EQ(256 + 1, a.count);
	h = genl_message(&a, 256);
	EXPECT_EQ(events_before + 300, genl_u64(genl_attr(h, KEEL_A_SEQ, NULL)));
	EXPECT_EQ(300 - 256, genl_u64(genl_attr(h, KEEL_A_LOST, NULL)));
	EXPECT_EQ(NULL, genl_attr(h, KEEL_A_EVENT, NULL));
	for (i = 0; i < 256; i++) {
		h = genl_message(&a, i);
		EXPECT_EQ(events_before + 300 - 256 + 1 + i, genl_u64(genl_attr(h, KEEL_A_SEQ, NULL)));
		EXPECT_EQ(i % 2 ? KEEL_EVENT_DESTROYED : KEEL_EVENT_CREATED,
			  genl_u32(genl_attr(h, KEEL_A_EVENT, NULL)));
	}
	genl_free(&a);
	if (!geteuid())
		EXPECT_EQ(0, in_child(no_events, nl, self->dev));
}

__attribute__((noreturn))
static void make_vms_forever(int dev)
{
	for (;;) {
		int vm = vm_create(dev), i;

		for (i = 0; i < 5; i++)
			close(MUST(vm_ioctl(vm, KVM_CREATE_VCPU, i)));
		close(vm);
	}
}

TEST_F_TIMEOUT(netlink, dumps_while_vms_come_and_go, 150)
{
	struct genl *nl = &self->nl;
	int vm = vm_create(self->dev), i, j, pid[3];

	MUST(vm_ioctl(vm, KVM_CREATE_VCPU, 0));
	for (i = 0; i < ARRAY_SIZE(pid); i++) {
		pid[i] = fork();
		if (!pid[i])
			make_vms_forever(self->dev);
	}
	for (i = 0; i < 300; i++) {
		struct genl_answer a = genl_dump(nl, KEEL_CMD_GET_VCPUS, 0, 0);
		uint64_t id = own_vm_id(nl, 0), last = 0;
		int own = 0;

		EXPECT_EQ(1, count_vms(nl, getpid()));
		for (j = 0; j < a.count; j++) {
			uint64_t of = genl_u64(genl_attr(genl_message(&a, j), KEEL_A_VM_ID, NULL));

			EXPECT_LE(last, of);
			last = of;
			own += of == id;
		}
		EXPECT_EQ(1, own);
		genl_free(&a);
	}
	for (i = 0; i < ARRAY_SIZE(pid); i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	close(vm);
}

static uint64_t random_state = 20260101;

static uint32_t rnd(uint32_t below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (random_state >> 33) % below;
}

/* Mostly a message that could be meant, with things wrong in it. */
static void fuzz_message(struct genl *nl, struct genl_msg *m)
{
	static const uint16_t flags[] = { 0, NLM_F_DUMP, NLM_F_DUMP, NLM_F_DUMP, NLM_F_ACK, NLM_F_ROOT, 0xffff };
	uint8_t data[64];
	int i, n = rnd(4);

	genl_msg_init(nl, m, rnd(8) ? rnd(KEEL_CMD_EVENTS + 2) : rnd(256), flags[rnd(ARRAY_SIZE(flags))]);
	for (i = 0; i < sizeof(data); i++)
		data[i] = rnd(3) ? 0 : rnd(256);
	while (n--)
		genl_msg_attr(m, (rnd(8) ? rnd(KEEL_A_MAX + 3) : rnd(65536)) | (rnd(8) ? 0 : NLA_F_NESTED), data,
			      rnd(2) ? 8 : rnd(sizeof(data)));
	if (!rnd(4) && m->head.nlmsg_len > NLMSG_LENGTH(GENL_HDRLEN))
		m->attrs[rnd(m->head.nlmsg_len - NLMSG_LENGTH(GENL_HDRLEN))] = rnd(256);
	if (!rnd(8))
		m->genl.version = rnd(256);
	if (!rnd(8))
		m->head.nlmsg_len = NLMSG_HDRLEN + rnd(m->head.nlmsg_len);
}

TEST_F_TIMEOUT(netlink, fuzz, 150)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	static char buf[65536];
	struct genl nl;
	struct genl_msg m;
	struct guest g;
	int i;

	guest_create(&g, 0);
	for (i = 0; i < FUZZ_MESSAGES; i++) {
		if (!(i % 100)) {
			if (i)
				genl_close(&nl);
			genl_open_as(&nl, &self->nl);
		}
		fuzz_message(&nl, &m);
		sendto(nl.fd, &m, m.head.nlmsg_len, MSG_DONTWAIT, (struct sockaddr *)&kernel, sizeof(kernel));
		/* Sometimes the answer is left there, and the socket is closed with a dump half told. */
		while (rnd(16) && recv(nl.fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
			;
	}
	genl_close(&nl);
	EXPECT_EQ(1, count_vms(&self->nl, getpid()));
	guest_start(&g, MODE_LONG, BLOB(scripted));
	ASSERT_PORT(PORT_SYNC, &g);
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
