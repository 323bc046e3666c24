// SPDX-License-Identifier: GPL-2.0-only
/*
 * Making and ending VMs over and over leaves nothing behind: 200 cycles of VM, interrupt controllers, vCPU,
 * memory and a short run, in batches; memory that leaks is missing after each batch, noise is not.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"
#include "health.h"

#define BATCHES		2

GUEST(touch, 64,
	"movl $0x100000, %edi\n" "movl $0x8000, %ecx\n" "movl $0x5a5a5a5a, %eax\n" "rep stosl\n" G_DONE);

static void cycle(struct __test_metadata *_metadata, int n)
{
	struct guest g;

	guest_create(&g, n & 1 ? GUEST_IRQCHIP | GUEST_PIT : 0);
	guest_start(&g, MODE_LONG, BLOB(touch));
	ASSERT_DONE(&g);
	ASSERT_EQ(0x5a, g.mem[0x11ffff]);
	/* In every order of closing. */
	switch (n % 3) {
	case 0:
		guest_destroy(&g);
		return;
	case 1:
		close(g.dev);
		close(g.vm);
		vcpu_close(&g.cpu);
		munmap(g.mem, g.mem_size);
		return;
	default:
		close(g.vm);
		close(g.cpu.fd);
		munmap(g.mem, g.mem_size);
		munmap(g.cpu.run, g.cpu.run_size);
		close(g.dev);
	}
}

static long min(long a, long b)
{
	return a < b ? a : b;
}

static void check_growth(struct __test_metadata *_metadata, void (*work)(struct __test_metadata *, int),
			 int cycles)
{
	struct meminfo before, after;
	long lost = 1L << 40, slab = 1L << 40, percpu = 1L << 40, vmalloc = 1L << 40;
	int b, i;

	for (i = 0; i < 6; i++)
		work(_metadata, i);
	before = host_meminfo();
	for (b = 0; b < BATCHES; b++) {
		for (i = 0; i < cycles; i++)
			work(_metadata, i);
		after = host_meminfo();
		lost = min(lost, after.kernel - before.kernel);
		slab = min(slab, after.slab - before.slab);
		percpu = min(percpu, after.percpu - before.percpu);
		vmalloc = min(vmalloc, after.vmalloc - before.vmalloc);
		before = after;
	}
	/* In KiB a batch: less than a page a cycle of anything, with room for what the host does meanwhile. */
	TH_LOG("smallest growth a batch: memory %ld slab %ld percpu %ld vmalloc %ld KiB", lost, slab, percpu, vmalloc);
	EXPECT_LT(lost, 4 * cycles - 20);
	EXPECT_LT(slab, 2 * cycles);
	EXPECT_LT(percpu, cycles);
	EXPECT_LT(vmalloc, 4 * cycles);
}

FIXTURE(churn) {
	uint64_t start;
};

FIXTURE_SETUP(churn)
{
	self->start = ns_now();
}

FIXTURE_TEARDOWN(churn)
{
	TH_LOG("%lu ms", (ns_now() - self->start) / 1000000);
}

TEST_F_TIMEOUT(churn, two_hundred_cycles, 120)
{
	check_growth(_metadata, cycle, 100);
}

GUEST(spin, 64, G_SPIN);

/* The same for clients that are killed in KVM_RUN with everything open. */
static void killed(struct __test_metadata *_metadata, int n)
{
	int status, fds[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(fds));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct guest g;

		guest_create(&g, n & 1 ? GUEST_IRQCHIP | GUEST_PIT : 0);
		guest_start(&g, MODE_LONG, BLOB(touch));
		if (guest_run(&g) != KVM_EXIT_IO || write(fds[1], "x", 1) != 1)
			_exit(1);
		guest_start(&g, MODE_LONG, BLOB(spin));
		guest_run(&g);
		_exit(2);
	}
	ASSERT_EQ(1, read(fds[0], &c, 1));
	usleep(2000);
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	close(fds[0]);
	close(fds[1]);
}

TEST_F_TIMEOUT(churn, killed_clients, 120)
{
	check_growth(_metadata, killed, 30);
}

TEST_HARNESS_MAIN
