// SPDX-License-Identifier: GPL-2.0-only
/*
 * Slots over large pages of a file (hugetlbfs), and memory that goes under a guest: holes punched, files made shorter,
 * pages that the machine's memory lost (MADV_HWPOISON). What KVM does is wanted: EFAULT from KVM_RUN, or SIGBUS with the
 * address. And a client that may not have the page tables which its guest makes necessary.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/memfd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define MB		0x100000UL
#define GB		0x40000000UL
#define LARGE		(2 * MB)
#define SLOT		5
#define GPA		0x40000000UL
#define NR_LARGE	4UL
#define SIZE		(NR_LARGE * LARGE)
#define HUGEPAGES	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

/* Adds RBX to a word of each of RCX pages from RDI on, RSI bytes apart; RAX: the sum of what was there. */
GUEST(add, 64,
      "xor %eax, %eax\n"
      "1: add (%rdi), %rax\n"
      "test %rbx, %rbx\n"
      "jz 2f\n"
      "add %rbx, (%rdi)\n"
      "2: add %rsi, %rdi\n"
      "dec %rcx\n"
      "jnz 1b\n"
      G_SYNC);

/* 0 and the sum, or a negative errno. */
static long add(struct guest *g, uint64_t gpa, uint64_t step, uint64_t count, uint64_t what, uint64_t *sum)
{
	struct kvm_regs r = {
		.rip = GUEST_CODE, .rflags = 2, .rsp = GUEST_STACK, .rdi = gpa, .rsi = step, .rcx = count, .rbx = what,
	};
	long ret;

	vcpu_set_regs(&g->cpu, &r);
	ret = guest_run(g);
	if (ret < 0)
		return ret;
	if (!guest_at_port(g, PORT_SYNC)) {
		guest_dump(g);
		die("the guest did not come back");
	}
	vcpu_complete_io(&g->cpu);
	*sum = vcpu_regs(&g->cpu).rax;
	return 0;
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

FIXTURE(files) {
	struct guest g;
	int fd;
	uint8_t *mem;
};

FIXTURE_SETUP(files)
{
	guest_create(&self->g, 0);
	guest_start(&self->g, MODE_LONG, BLOB(add));
	self->fd = -1;
	if (geteuid() || !write_file(HUGEPAGES, "8"))
		return;
	self->fd = memfd_create("slot", MFD_HUGETLB | MFD_HUGE_2MB);
	if (self->fd < 0 || ftruncate(self->fd, SIZE))
		return;
	self->mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	if (self->mem == MAP_FAILED)
		self->mem = NULL;
	else
		ASSERT_EQ(0, vm_set_slot(self->g.vm, SLOT, 0, GPA, SIZE, self->mem));
}

FIXTURE_TEARDOWN(files)
{
	guest_destroy(&self->g);
	if (self->mem)
		munmap(self->mem, SIZE);
	if (self->fd >= 0)
		close(self->fd);
	write_file(HUGEPAGES, "0");
}

#define NEED_MEM()	do {							\
	if (!self->mem)								\
		SKIP(return, "no large pages to be had");			\
} while (0)

/* Client and guest see the same pages, which can be logged in parts and are whole again afterwards. */
TEST_F(files, hugetlb)
{
	struct kvm_dirty_log log = { .slot = SLOT };
	uint64_t bitmap[SIZE / PAGE_SIZE / 64], sum;
	struct guest *g = &self->g;
	unsigned int i, nr = 0;

	NEED_MEM();
	log.dirty_bitmap = bitmap;
	ASSERT_EQ(0, add(g, GPA, PAGE_SIZE, SIZE / PAGE_SIZE, 3, &sum));
	EXPECT_EQ(0, sum);
	for (i = 0; i < SIZE; i += PAGE_SIZE)
		nr += *(uint64_t *)(self->mem + i) != 3;
	EXPECT_EQ(0, nr);
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, self->mem));
	ASSERT_EQ(0, add(g, GPA, LARGE / 2, SIZE / (LARGE / 2), 1, &sum));
	ASSERT_EQ(0, vm_ioctl(g->vm, KVM_GET_DIRTY_LOG, &log));
	for (i = nr = 0; i < ARRAY_SIZE(bitmap); i++)
		nr += __builtin_popcountll(bitmap[i]);
	EXPECT_EQ(SIZE / (LARGE / 2), nr);
	ASSERT_EQ(0, add(g, GPA, PAGE_SIZE, SIZE / PAGE_SIZE, 0, &sum));
	EXPECT_EQ(3 * SIZE / PAGE_SIZE + 2 * NR_LARGE, sum);
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, GPA, SIZE, self->mem));
	ASSERT_EQ(0, add(g, GPA, PAGE_SIZE, SIZE / PAGE_SIZE, 0, &sum));
	EXPECT_EQ(3 * SIZE / PAGE_SIZE + 2 * NR_LARGE, sum);
}

/* A hole is empty; behind the end of the file there is nothing. */
TEST_F(files, hugetlb_goes)
{
	struct guest *g = &self->g;
	uint64_t sum;

	NEED_MEM();
	ASSERT_EQ(0, add(g, GPA, LARGE, NR_LARGE, 7, &sum));
	ASSERT_EQ(0, fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, LARGE, LARGE));
	ASSERT_EQ(0, add(g, GPA, LARGE, NR_LARGE, 0, &sum));
	EXPECT_EQ(7 * (NR_LARGE - 1), sum);
	ASSERT_EQ(0, ftruncate(self->fd, 2 * LARGE));
	ASSERT_EQ(0, add(g, GPA, LARGE, 2, 0, &sum));
	EXPECT_EQ(7, sum);
	EXPECT_EQ(-EFAULT, add(g, GPA + 2 * LARGE, LARGE, 1, 0, &sum));
	EXPECT_EQ(-EFAULT, add(g, GPA + 2 * LARGE, LARGE, 1, 1, &sum));
	/* The file grows again, and the guest goes on where it was. */
	ASSERT_EQ(0, ftruncate(self->fd, SIZE));
	EXPECT_EQ(KVM_EXIT_IO, guest_run(g));
}

static volatile sig_atomic_t signals;
static siginfo_t last_signal;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	last_signal = *info;
	signals++;
}

/* The client is told where, as when it had touched the page itself; something else there, and the guest goes on. */
TEST(poisoned)
{
	struct sigaction act = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	uint8_t *mem = mem_alloc(16 * PAGE_SIZE), *bad = mem + 5 * PAGE_SIZE;
	struct guest g;
	uint64_t sum;

	madvise(mem, 16 * PAGE_SIZE, MADV_NOHUGEPAGE);
	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(add));
	ASSERT_EQ(0, vm_set_slot(g.vm, SLOT, 0, GPA, 16 * PAGE_SIZE, mem));
	ASSERT_EQ(0, add(&g, GPA, PAGE_SIZE, 16, 1, &sum));
	if (madvise(bad, PAGE_SIZE, MADV_HWPOISON))
		SKIP(return, "the host cannot poison pages");
	ASSERT_EQ(0, sigaction(SIGBUS, &act, NULL));
	ASSERT_EQ(0, add(&g, GPA, PAGE_SIZE, 5, 0, &sum));
	EXPECT_EQ(5, sum);
	EXPECT_EQ(0, signals);
	EXPECT_EQ(-EINTR, add(&g, GPA + 5 * PAGE_SIZE, PAGE_SIZE, 1, 0, &sum));
	EXPECT_EQ(1, signals);
	EXPECT_EQ(BUS_MCEERR_AR, last_signal.si_code);
	EXPECT_EQ(bad, last_signal.si_addr);
	/* Again: it does not go away by itself. */
	EXPECT_EQ(-EINTR, add(&g, GPA + 5 * PAGE_SIZE, PAGE_SIZE, 1, 1, &sum));
	EXPECT_EQ(2, signals);
	ASSERT_EQ(bad, mmap(bad, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	ASSERT_EQ(0, add(&g, GPA, PAGE_SIZE, 16, 0, &sum));
	EXPECT_EQ(15, sum);
	EXPECT_EQ(2, signals);
	guest_destroy(&g);
}

#define SPARSE		(508 * GB)
#define TOUCHED		4096UL		/* pages that are far apart: 16 MiB of tables of ours, and as many of the client's */
#define LIMIT		"16777216"
#define PDPTE_1G	0xe3

/* In the group: the end is that of the process, or an error. */
static int sparse_client(const char *procs)
{
	struct guest g;
	uint64_t *pdpt, sum;
	unsigned int i;
	uint8_t *mem;
	char pid[32];
	long ret;

	snprintf(pid, sizeof(pid), "%d", getpid());
	if (!write_file(procs, pid))
		return 100;
	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(add));
	pdpt = (uint64_t *)(g.mem + GUEST_PDPT);
	for (i = 4; i < 512; i++)
		pdpt[i] = i * GB | PDPTE_1G;
	mem = mem_alloc(SPARSE);
	madvise(mem, SPARSE, MADV_NOHUGEPAGE);
	MUST(vm_set_slot(g.vm, SLOT, 0, 4 * GB, SPARSE, mem));
	ret = add(&g, 4 * GB, SPARSE / TOUCHED / LARGE * LARGE, TOUCHED, 0, &sum);
	return ret < 0 ? -ret : 0;
}

TEST_F_TIMEOUT(files, sparse_in_a_small_group, 180)
{
	char dir[] = "/tmp/mmu_files.XXXXXX", path[128], procs[160];
	bool ready;
	int status;
	pid_t pid;

	if (geteuid())
		SKIP(return, "not root");
	ASSERT_NE(NULL, mkdtemp(dir));
	ready = !mount("none", dir, "cgroup2", 0, NULL);
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", dir);
	ready = ready && write_file(path, "+memory");
	snprintf(path, sizeof(path), "%s/files-%d", dir, getpid());
	mkdir(path, 0755);
	snprintf(procs, sizeof(procs), "%s/memory.max", path);
	ready = ready && write_file(procs, LIMIT);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	if (ready) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(sparse_client(procs));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
	}
	rmdir(path);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	if (!ready)
		SKIP(return, "no memory controller of cgroups");
	TH_LOG("ended with status %#x", status);
	if (WIFSIGNALED(status)) {
		EXPECT_EQ(SIGKILL, WTERMSIG(status));
	} else {
		EXPECT_TRUE(WEXITSTATUS(status) == ENOMEM || WEXITSTATUS(status) == EFAULT);
	}
	/* All is well outside of it. */
	if (self->mem) {
		uint64_t sum;

		EXPECT_EQ(0, add(&self->g, GPA, LARGE, NR_LARGE, 0, &sum));
	}
}

TEST_HARNESS_MAIN
