// SPDX-License-Identifier: GPL-2.0-only
/*
 * Nested faults of several vCPUs at once, at the same places, while the client switches logging on and off, write-
 * protects and discards; at places of their own, where nobody waits for anybody; and leaves of every size: 1 GiB,
 * split for a log and made anew after it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#ifndef MAP_HUGE_1GB
#define MAP_HUGE_1GB	(30 << 26)
#endif

#define MB		0x100000UL
#define GB		0x40000000UL
#define SLOT		5
#define GPA		0x40000000UL
#define SIZE		(8 * MB)
#define PAGES		(SIZE / PAGE_SIZE)
#define NR_VCPUS	2
#define ROUNDS		12

/* Adds 1 to a word of each of rcx pages from rdi on, rsi bytes apart, atomically. */
GUEST(add, 64,
      "sti\n"
      "1: lock incq (%rdi)\n"
      "add %rsi, %rdi\n"
      "dec %rcx\n"
      "jnz 1b\n"
      G_SYNC);

FIXTURE(faults) {
	struct guest g;
	struct vcpu cpu[NR_VCPUS];
	uint8_t *area, *data;
	uint64_t log[PAGES / 64];
};

FIXTURE_VARIANT(faults) {
	int advice;
};

FIXTURE_VARIANT_ADD(faults, small) { .advice = MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(faults, large) { .advice = MADV_HUGEPAGE };

FIXTURE_SETUP(faults)
{
	struct guest *g = &self->g;
	struct kvm_sregs sregs;
	int i;

	guest_create(g, 0);
	guest_start(g, MODE_LONG, BLOB(add));
	sregs = vcpu_sregs(&g->cpu);
	self->cpu[0] = g->cpu;
	for (i = 1; i < NR_VCPUS; i++) {
		vcpu_create(&self->cpu[i], g->dev, g->vm, i);
		vcpu_set_supported_cpuid(&self->cpu[i], g->dev);
		vcpu_set_sregs(&self->cpu[i], &sregs);
	}
	self->area = mem_alloc(SIZE + 2 * MB);
	self->data = (uint8_t *)(((uintptr_t)self->area + 2 * MB - 1) & ~(2 * MB - 1));
	ASSERT_EQ(0, madvise(self->data, SIZE, variant->advice));
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, GPA, SIZE, self->data));
}

FIXTURE_TEARDOWN(faults)
{
	int i;

	for (i = 1; i < NR_VCPUS; i++)
		vcpu_close(&self->cpu[i]);
	guest_destroy(&self->g);
	munmap(self->area, SIZE + 2 * MB);
}

struct runner {
	pthread_t thread;
	struct vcpu *cpu;
	uint64_t start, pages;		/* which it touches, the first first unless @backwards */
	bool backwards;
	unsigned int rounds;
	bool good, done;
	bool lost;		/* the machine has run host code as the guest's */
};

static void *runner_main(void *arg)
{
	struct runner *r = arg;
	struct kvm_run *run = r->cpu->run;
	unsigned int i;
	long ret;

	for (i = 0, r->good = true; r->good && i < r->rounds; i++) {
		struct kvm_regs regs = {
			.rip = GUEST_CODE, .rflags = 2, .rsp = GUEST_STACK, .rcx = r->pages,
			.rdi = r->start + (r->backwards ? (r->pages - 1) * PAGE_SIZE : 0),
			.rsi = r->backwards ? -PAGE_SIZE : PAGE_SIZE,
		};

		vcpu_set_regs(r->cpu, &regs);
		do
			ret = vcpu_run(r->cpu);
		while (ret == -EINTR);
		r->good = !ret && run->exit_reason == KVM_EXIT_IO && run->io.port == PORT_SYNC;
		if (!r->good) {
			regs = vcpu_regs(r->cpu);
			fprintf(stderr, "# KVM_RUN %ld, exit %u, rip %llx\n", ret, run->exit_reason, regs.rip);
			r->lost = lost_by_qemu(r->cpu, ret);
		}
	}
	__atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void start(struct __test_metadata *_metadata, FIXTURE_DATA(faults) *self, struct runner *r)
{
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		r[i] = (struct runner){
			.cpu = &self->cpu[i], .start = GPA, .pages = PAGES, .backwards = i & 1, .rounds = ROUNDS,
		};
		ASSERT_EQ(0, pthread_create(&r[i].thread, NULL, runner_main, &r[i]));
	}
}

static bool all_done(struct runner *r)
{
	int i;

	for (i = 0; i < NR_VCPUS; i++)
		if (!__atomic_load_n(&r[i].done, __ATOMIC_ACQUIRE))
			return false;
	return true;
}

/* False: once in a million faults QEMU's TCG takes the host's state for the guest's (Documentation/testhost.rst). */
static bool finish(struct __test_metadata *_metadata, struct runner *r)
{
	bool lost = false;
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		pthread_join(r[i].thread, NULL);
		lost |= r[i].lost;
	}
	for (i = 0; i < NR_VCPUS && !lost; i++)
		EXPECT_TRUE(r[i].good);
	return !lost;
}

#define FINISH(r) do {										\
	if (!finish(_metadata, r))								\
		SKIP(return, "QEMU mixed up host and guest, as it does under in-tree KVM");	\
} while (0)

static void expect_all(struct __test_metadata *_metadata, const uint8_t *data, uint64_t want)
{
	unsigned int i, bad = 0;

	for (i = 0; i < PAGES; i++)
		bad += *(const uint64_t *)(data + i * PAGE_SIZE) != want;
	EXPECT_EQ(0, bad);
}

/* Both touch each page first: one of them maps it, and no addition is lost. */
TEST_F_TIMEOUT(faults, same_pages, 120)
{
	struct runner r[NR_VCPUS];

	start(_metadata, self, r);
	FINISH(r);
	expect_all(_metadata, self->data, NR_VCPUS * ROUNDS);
}

/* Each page is write-protected again and again and let through again, and each time it is in the log. */
TEST_F_TIMEOUT(faults, beside_the_log, 120)
{
	struct guest *g = &self->g;
	struct kvm_dirty_log log = { .slot = SLOT, .dirty_bitmap = self->log };
	uint8_t *copy = calloc(1, SIZE);
	struct runner r[NR_VCPUS];
	unsigned int i, rounds = 0;
	bool last;

	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, self->data));
	start(_metadata, self, r);
	do {
		last = all_done(r);
		ASSERT_EQ(0, vm_ioctl(g->vm, KVM_GET_DIRTY_LOG, &log));
		for (i = 0; i < PAGES; i++)
			if (self->log[i / 64] >> i % 64 & 1)
				memcpy(copy + i * PAGE_SIZE, self->data + i * PAGE_SIZE, PAGE_SIZE);
		rounds++;
	} while (!last);
	FINISH(r);
	expect_all(_metadata, self->data, NR_VCPUS * ROUNDS);
	EXPECT_EQ(0, memcmp(copy, self->data, SIZE));
	TH_LOG("%u rounds", rounds);
	free(copy);
}

/* Logging goes on and off: large leaves are split and come back under the guest. */
TEST_F_TIMEOUT(faults, log_on_and_off, 120)
{
	struct guest *g = &self->g;
	struct runner r[NR_VCPUS];
	unsigned int rounds;

	start(_metadata, self, r);
	for (rounds = 0; !all_done(r); rounds++) {
		ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, rounds & 1 ? 0 : KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, self->data));
		usleep(500);
	}
	FINISH(r);
	expect_all(_metadata, self->data, NR_VCPUS * ROUNDS);
	TH_LOG("%u switches", rounds);
}

/* Memory of its own for each vCPU: a table of 2 MiB or more is nobody else's. */
#define SHARE		(4 * MB)
#define SHARE_PAGES	(SHARE / PAGE_SIZE)
#define MAX_VCPUS	4

FIXTURE(apart) {
	struct guest g;
	struct vcpu cpu[MAX_VCPUS];
	uint8_t *area, *data;
};

FIXTURE_VARIANT(apart) {
	int nr;
};

FIXTURE_VARIANT_ADD(apart, one) { .nr = 1 };
FIXTURE_VARIANT_ADD(apart, two) { .nr = 2 };
FIXTURE_VARIANT_ADD(apart, four) { .nr = 4 };

FIXTURE_SETUP(apart)
{
	struct kvm_sregs sregs;
	int i;

	guest_create(&self->g, 0);
	guest_start(&self->g, MODE_LONG, BLOB(add));
	sregs = vcpu_sregs(&self->g.cpu);
	self->cpu[0] = self->g.cpu;
	for (i = 1; i < variant->nr; i++) {
		vcpu_create(&self->cpu[i], self->g.dev, self->g.vm, i);
		vcpu_set_supported_cpuid(&self->cpu[i], self->g.dev);
		vcpu_set_sregs(&self->cpu[i], &sregs);
	}
	self->area = mem_alloc(MAX_VCPUS * SHARE + 2 * MB);
	self->data = (uint8_t *)(((uintptr_t)self->area + 2 * MB - 1) & ~(2 * MB - 1));
	ASSERT_EQ(0, madvise(self->data, MAX_VCPUS * SHARE, MADV_NOHUGEPAGE));
	ASSERT_EQ(0, vm_set_slot(self->g.vm, SLOT, 0, GPA, MAX_VCPUS * SHARE, self->data));
}

FIXTURE_TEARDOWN(apart)
{
	int i;

	for (i = 1; i < variant->nr; i++)
		vcpu_close(&self->cpu[i]);
	guest_destroy(&self->g);
	munmap(self->area, MAX_VCPUS * SHARE + 2 * MB);
}

static struct runner share(FIXTURE_DATA(apart) *self, int i)
{
	return (struct runner){ .cpu = &self->cpu[i], .rounds = 1, .start = GPA + i * SHARE, .pages = SHARE_PAGES };
}

/*
 * However many fault side by side: none takes the lock for itself alone, and none waits for one that has it. The
 * host may want a page meanwhile, which is what the few are.
 */
TEST_F_TIMEOUT(apart, faults_share_the_lock, 120)
{
	static const char *const names[] = { "pf_taken", "pf_fast", "pf_waited", "pf_exclusive" };
	struct runner r[MAX_VCPUS];
	long long sum[4] = {};
	bool lost = false;
	int i, j, fd;

	for (i = 0; i < variant->nr; i++) {
		r[i] = share(self, i);
		ASSERT_EQ(0, pthread_create(&r[i].thread, NULL, runner_main, &r[i]));
	}
	for (i = 0; i < variant->nr; i++) {
		pthread_join(r[i].thread, NULL);
		lost |= r[i].lost;
	}
	if (lost)
		SKIP(return, "QEMU mixed up host and guest, as it does under in-tree KVM");
	for (i = 0; i < variant->nr; i++) {
		EXPECT_TRUE(r[i].good);
		fd = MUST(vm_ioctl(self->cpu[i].fd, KVM_GET_STATS_FD, 0));
		for (j = 0; j < 4; j++)
			sum[j] += stat_value(fd, names[j]);
		close(fd);
	}
	TH_LOG("%d vCPUs: %lld faults, %lld without a lock, %lld waited, %lld exclusive", variant->nr, sum[0], sum[1],
	       sum[2], sum[3]);
	if (sum[3] < 0 || !nested_paging(self->g.dev))
		SKIP(return, "not Keel's nested paging");
	EXPECT_LE(variant->nr * SHARE_PAGES, sum[0]);
	EXPECT_GE(variant->nr * SHARE_PAGES / 100, sum[2]);
	EXPECT_GE(variant->nr * SHARE_PAGES / 100, sum[3]);
}

/* A page that a user-space pager has to bring: the fault of one vCPU is in the middle, those of another go on. */
TEST_F_TIMEOUT(apart, behind_one_that_waits, 120)
{
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)self->data, SHARE }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_zeropage zero = { .range = { (uintptr_t)self->data, PAGE_SIZE } };
	struct runner waits, goes;
	struct uffd_msg msg;
	struct pollfd poll_uffd = { .fd = uffd, .events = POLLIN };

	if (variant->nr < 2)
		return;
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_REGISTER, &reg));
	waits = share(self, 0);
	waits.pages = 1;
	goes = share(self, 1);
	ASSERT_EQ(0, pthread_create(&waits.thread, NULL, runner_main, &waits));
	ASSERT_EQ(1, poll(&poll_uffd, 1, 60000));
	ASSERT_EQ(sizeof(msg), read(uffd, &msg, sizeof(msg)));
	EXPECT_EQ((uintptr_t)self->data, msg.arg.pagefault.address & ~(PAGE_SIZE - 1));

	ASSERT_EQ(0, pthread_create(&goes.thread, NULL, runner_main, &goes));
	pthread_join(goes.thread, NULL);
	EXPECT_FALSE(__atomic_load_n(&waits.done, __ATOMIC_ACQUIRE));
	EXPECT_EQ(0, ioctl(uffd, UFFDIO_ZEROPAGE, &zero));
	pthread_join(waits.thread, NULL);
	close(uffd);
	if (waits.lost || goes.lost)
		SKIP(return, "QEMU mixed up host and guest, as it does under in-tree KVM");
	EXPECT_TRUE(waits.good);
	EXPECT_TRUE(goes.good);
	EXPECT_EQ(1, *(uint64_t *)self->data);
	EXPECT_EQ(1, *(uint64_t *)(self->data + 2 * SHARE - PAGE_SIZE));
}

/* One 1 GiB page in the host's pool, if it has as much in one piece. */
static bool reserve_gigabyte(void)
{
	int fd = open("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", O_WRONLY);
	bool done = fd >= 0 && write(fd, "1", 1) == 1;

	if (fd >= 0)
		close(fd);
	return done;
}

FIXTURE(sizes) {};
FIXTURE_SETUP(sizes) {}
FIXTURE_TEARDOWN(sizes) {}

/* A 1 GiB page of the host: mapped whole, split for a log, and whole again. */
TEST_F_TIMEOUT(sizes, gigabyte, 180)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_1GB;
	bool reserved = reserve_gigabyte();
	uint8_t *mem = mmap(NULL, GB, PROT_READ | PROT_WRITE, flags, -1, 0);
	static uint64_t log[GB / PAGE_SIZE / 64];
	struct kvm_dirty_log get = { .slot = SLOT, .dirty_bitmap = log };
	struct kvm_regs regs = { .rip = GUEST_CODE, .rflags = 2, .rsp = GUEST_STACK };
	unsigned long i, nr = 0, bad = 0;
	struct guest g;
	int round;

	if (!reserved || mem == MAP_FAILED)
		SKIP(return, "the host has no 1 GiB page to spare");
	guest_create(&g, 0);
	ASSERT_EQ(0, vm_set_slot(g.vm, SLOT, 0, GPA, GB, mem));
	for (round = 0; round < 4; round++) {
		bool on = round & 1;

		ASSERT_EQ(0, vm_set_slot(g.vm, SLOT, on ? KVM_MEM_LOG_DIRTY_PAGES : 0, GPA, GB, mem));
		guest_start(&g, MODE_LONG, BLOB(add));
		regs.rdi = GPA;
		regs.rsi = on ? 64 * MB : 2 * MB;
		regs.rcx = GB / regs.rsi;
		vcpu_set_regs(&g.cpu, &regs);
		ASSERT_PORT(PORT_SYNC, &g);
		if (!on)
			continue;
		ASSERT_EQ(0, vm_ioctl(g.vm, KVM_GET_DIRTY_LOG, &get));
		for (i = nr = 0; i < ARRAY_SIZE(log); i++)
			nr += __builtin_popcountll(log[i]);
		EXPECT_EQ(GB / (64 * MB), nr);
	}
	for (i = 0; i < GB; i += 2 * MB)
		bad += *(uint64_t *)(mem + i) != (i % (64 * MB) ? 2 : 4);
	EXPECT_EQ(0, bad);
	guest_destroy(&g);
	munmap(mem, GB);
}

TEST_HARNESS_MAIN
