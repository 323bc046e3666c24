// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_RUN and what ends it: immediate_exit, signals while the guest runs or sleeps, the vCPU's own signal mask,
 * SIGKILL, and the checks of the run page's fields (KVM API documentation, sections 4.10, 4.20 and 5).
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define COUNT	0x42000

GUEST(spin, 64, "sti\n" "1: incq " STR(COUNT) "\n" "jmp 1b\n");
GUEST(outs, 64, "1: incq %rax\n" G_SYNC "jmp 1b\n");
GUEST(sti_hlt, 64, "sti\n" "hlt\n" G_DONE);

static volatile sig_atomic_t handled;

static void handler(int sig)
{
	handled++;
}

static void catch(int sig)
{
	struct sigaction sa = { .sa_handler = handler };

	sigaction(sig, &sa, NULL);
}

static uint64_t count(struct guest *g)
{
	return *(volatile uint64_t *)(g->mem + COUNT);
}

/* Sends one signal to the thread that made it: no time is involved, so nothing comes too early or too often. */
struct kicker {
	pthread_t thread, target;
	pid_t tid;
	volatile uint64_t *count;	/* wait until the guest has changed it; NULL: until the thread sleeps */
	uint64_t from;
};

static bool sleeps(pid_t tid)
{
	char path[64], line[256] = "", *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "r");
	if (!f || !fgets(line, sizeof(line), f))
		die("%s: no state", path);
	fclose(f);
	state = strrchr(line, ')');
	return state && state[2] == 'S';
}

static void *kick(void *arg)
{
	struct kicker *k = arg;

	while (k->count ? *k->count == k->from : !sleeps(k->tid))
		usleep(200);
	pthread_kill(k->target, SIGUSR2);
	return NULL;
}

/* KVM_RUN, which a signal ends that comes when the guest has run, or sleeps. */
static long run_and_kick(struct guest *g, bool asleep)
{
	struct kicker k = {
		.target = pthread_self(),
		.tid = syscall(SYS_gettid),
		.count = asleep ? NULL : (void *)(g->mem + COUNT),
	};
	long ret;

	handled = 0;
	catch(SIGUSR2);
	if (k.count)
		k.from = *k.count;
	if (pthread_create(&k.thread, NULL, kick, &k))
		die("no thread");
	ret = guest_run(g);
	pthread_join(k.thread, NULL);
	return ret;
}

TEST(immediate_exit)
{
	struct guest g;
	uint64_t rax;
	int i;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(outs));
	for (i = 1; i < 10; i++) {
		ASSERT_PORT(PORT_SYNC, &g);
		EXPECT_EQ(i, vcpu_regs(&g.cpu).rax);
		g.cpu.run->immediate_exit = 1;
		EXPECT_EQ(-EINTR, vcpu_run(&g.cpu));
		EXPECT_EQ(-EINTR, vcpu_run(&g.cpu));
		/* The client's field is the client's to clear, and the guest has not moved. */
		EXPECT_EQ(1, g.cpu.run->immediate_exit);
		rax = vcpu_regs(&g.cpu).rax;
		EXPECT_EQ(i, rax);
		g.cpu.run->immediate_exit = 0;
	}
	guest_destroy(&g);
}

TEST(signal_ends_a_busy_guest)
{
	struct guest g;
	int i;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(spin));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(-EINTR, run_and_kick(&g, false));
		EXPECT_EQ(1, handled);
		EXPECT_EQ(KVM_EXIT_INTR, g.cpu.run->exit_reason);
	}
	guest_destroy(&g);
}

TEST(signal_ends_a_sleeping_guest)
{
	struct guest g;
	struct kvm_mp_state mp;
	int i, tries = 0;

	guest_create(&g, GUEST_IRQCHIP);
	guest_start(&g, MODE_LONG, BLOB(sti_hlt));
	/* The thread may have slept for something else before the guest came to its HLT. */
	do {
		EXPECT_EQ(-EINTR, run_and_kick(&g, true));
		ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_GET_MP_STATE, &mp));
	} while (mp.mp_state != KVM_MP_STATE_HALTED && ++tries < 100);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(-EINTR, run_and_kick(&g, true));
		EXPECT_EQ(1, handled);
		EXPECT_EQ(KVM_EXIT_INTR, g.cpu.run->exit_reason);
		ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_GET_MP_STATE, &mp));
		EXPECT_EQ(KVM_MP_STATE_HALTED, mp.mp_state);
	}
	/* The client can make it runnable. */
	mp.mp_state = KVM_MP_STATE_RUNNABLE;
	ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_SET_MP_STATE, &mp));
	ASSERT_DONE(&g);
	guest_destroy(&g);
}

/* A signal that is pending before KVM_RUN lets it return at once. */
TEST(pending_signal)
{
	struct guest g;
	sigset_t set, old;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(spin));
	catch(SIGUSR1);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, &old);
	raise(SIGUSR1);
	/* Blocked: the guest runs, until something else comes. */
	EXPECT_EQ(-EINTR, run_and_kick(&g, false));
	EXPECT_EQ(1, handled);
	EXPECT_LT(0, count(&g));
	sigprocmask(SIG_SETMASK, &old, NULL);
	EXPECT_EQ(2, handled);
	guest_destroy(&g);
}

/* struct kvm_signal_mask with the kernel's signal set, which is 8 bytes. */
struct sigmask {
	uint32_t len;
	uint64_t set;
} __attribute__((packed));

TEST(signal_mask)
{
	struct guest g;
	struct sigmask mask = { .len = 8 };
	sigset_t set, pending;
	uint64_t before;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(spin));
	catch(SIGUSR1);
	handled = 0;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);

	/* All unblocked within KVM_RUN: it ends, and the signal stays pending behind the thread's own mask. */
	mask.set = 0;
	ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_SET_SIGNAL_MASK, &mask));
	raise(SIGUSR1);
	EXPECT_EQ(-EINTR, guest_run(&g));
	EXPECT_EQ(KVM_EXIT_INTR, g.cpu.run->exit_reason);
	EXPECT_EQ(0, handled);
	sigpending(&pending);
	EXPECT_EQ(1, sigismember(&pending, SIGUSR1));

	/* SIGUSR1 blocked within KVM_RUN too: only the other signal ends it. */
	mask.set = 1UL << (SIGUSR1 - 1);
	ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_SET_SIGNAL_MASK, &mask));
	before = count(&g);
	EXPECT_EQ(-EINTR, run_and_kick(&g, false));
	EXPECT_EQ(1, handled);
	EXPECT_LT(before, count(&g));

	/* No mask again: KVM_RUN has the thread's. */
	ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_SET_SIGNAL_MASK, 0));
	EXPECT_EQ(-EINTR, run_and_kick(&g, false));
	EXPECT_EQ(1, handled);
	sigpending(&pending);
	EXPECT_EQ(1, sigismember(&pending, SIGUSR1));
	guest_destroy(&g);
}

TEST(signal_mask_refusals)
{
	struct guest g;
	struct sigmask mask = { 0 };
	char *end;

	guest_create(&g, 0);
	mask.len = 4;
	EXPECT_EQ(-EINVAL, vm_ioctl(g.cpu.fd, KVM_SET_SIGNAL_MASK, &mask));
	mask.len = 16;
	EXPECT_EQ(-EINVAL, vm_ioctl(g.cpu.fd, KVM_SET_SIGNAL_MASK, &mask));
	mask.len = 0;
	EXPECT_EQ(-EINVAL, vm_ioctl(g.cpu.fd, KVM_SET_SIGNAL_MASK, &mask));
	EXPECT_EQ(-EFAULT, vm_ioctl(g.cpu.fd, KVM_SET_SIGNAL_MASK, BAD_PTR));
	/* The length is readable, the set behind it is not. */
	end = mem_alloc(2 * PAGE_SIZE);
	munmap(end + PAGE_SIZE, PAGE_SIZE);
	end += PAGE_SIZE - 4;
	*(uint32_t *)end = 8;
	EXPECT_EQ(-EFAULT, vm_ioctl(g.cpu.fd, KVM_SET_SIGNAL_MASK, end));
	guest_destroy(&g);
}

/* Register synchronisation through the run page: what is not offered is refused. */
TEST(sync_regs_fields)
{
	struct guest g;
	uint64_t offered;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(outs));
	offered = vm_cap(g.dev, KVM_CAP_SYNC_REGS);
	g.cpu.run->kvm_valid_regs = 1UL << 40;
	EXPECT_EQ(-EINVAL, vcpu_run(&g.cpu));
	g.cpu.run->kvm_valid_regs = ~offered & 0xffff;
	EXPECT_EQ(-EINVAL, vcpu_run(&g.cpu));
	g.cpu.run->kvm_valid_regs = 0;
	g.cpu.run->kvm_dirty_regs = 1UL << 40;
	EXPECT_EQ(-EINVAL, vcpu_run(&g.cpu));
	g.cpu.run->kvm_dirty_regs = 0;
	ASSERT_PORT(PORT_SYNC, &g);
	EXPECT_EQ(1, vcpu_regs(&g.cpu).rax);
	guest_destroy(&g);
}

/* cr8 in the run page is an input without an in-kernel APIC. */
TEST(bad_cr8)
{
	struct guest g;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(outs));
	g.cpu.run->cr8 = 0x10;
	EXPECT_EQ(-EINVAL, vcpu_run(&g.cpu));
	g.cpu.run->cr8 = 7;
	ASSERT_PORT(PORT_SYNC, &g);
	EXPECT_EQ(7, g.cpu.run->cr8);
	EXPECT_EQ(7, vcpu_sregs(&g.cpu).cr8);
	guest_destroy(&g);
}

/* A client killed in KVM_RUN, with its guest busy or asleep, goes away at once. */
static int kill_in_run(bool asleep)
{
	int status, i;
	pid_t pid = fork();

	if (!pid) {
		struct guest g;

		guest_create(&g, asleep ? GUEST_IRQCHIP : 0);
		if (asleep)
			guest_start(&g, MODE_LONG, BLOB(sti_hlt));
		else
			guest_start(&g, MODE_LONG, BLOB(spin));
		guest_run(&g);
		_exit(1);
	}
	usleep(100000);
	kill(pid, SIGKILL);
	for (i = 0; i < 1000; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFSIGNALED(status) ? WTERMSIG(status) : -1;
		usleep(5000);
	}
	return 0;
}

TEST(kill_busy_client)
{
	EXPECT_EQ(SIGKILL, kill_in_run(false));
}

TEST(kill_sleeping_client)
{
	EXPECT_EQ(SIGKILL, kill_in_run(true));
}

static void *run_thread(void *arg)
{
	struct guest *g = arg;

	return (void *)guest_run(g);
}

/* Another thread may drive the vCPU; while one does, other ioctls on it wait. */
TEST(another_thread)
{
	struct guest g;
	pthread_t t;
	void *ret;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(outs));
	ASSERT_EQ(0, pthread_create(&t, NULL, run_thread, &g));
	ASSERT_EQ(0, pthread_join(t, &ret));
	EXPECT_EQ(KVM_EXIT_IO, (long)ret);
	ASSERT_PORT(PORT_SYNC, &g);
	EXPECT_EQ(2, vcpu_regs(&g.cpu).rax);

	guest_start(&g, MODE_LONG, BLOB(spin));
	catch(SIGUSR1);
	ASSERT_EQ(0, pthread_create(&t, NULL, run_thread, &g));
	while (!count(&g))
		usleep(200);
	/* A kick by signal and immediate_exit together cannot be missed. */
	g.cpu.run->immediate_exit = 1;
	pthread_kill(t, SIGUSR1);
	ASSERT_EQ(0, pthread_join(t, &ret));
	EXPECT_EQ(-EINTR, (long)ret);
	g.cpu.run->immediate_exit = 0;
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
