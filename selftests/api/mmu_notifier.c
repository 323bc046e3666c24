// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host changes the memory behind a guest while the guest uses it: what the guest sees is always what the
 * client sees at the slot's address (KVM_CAP_SYNC_MMU, KVM API documentation, section 4.35).
 *
 * The guests keep a counter in each page. The client compares its own view with theirs whenever they stop, so a
 * mapping that outlived the host's change shows as a difference on one of the two sides.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

#define MB		0x100000
#define DATA_SLOT	5
#define DATA_GPA	0x40000000UL
#define DATA_SIZE	(4 * MB)
#define DATA_PAGES	(DATA_SIZE / PAGE_SIZE)
#define NR_VCPUS	2
#define PORT_BAD	0xd2
#define STRESS_NS	3000000000ULL
#define STRESS_MAX_NS	(20 * STRESS_NS)	/* on a slow machine, for the rounds that count */
#define STRESS_ROUNDS	2

/* One access a round: rdi is the address, rbx the value to write; al says whether to write. */
GUEST(touch, 64,
      "1: test %al, %al\n"
      "jz 2f\n"
      "mov %rbx, (%rdi)\n"
      "2: mov (%rdi), %rdx\n"
      G_SYNC
      "jmp 1b\n");

/*
 * rdi pages from rsi on, each of which holds rbx: makes it rbx + 1, r9 times over, then stops. Should a page hold
 * something else, stops at the other port with its address in rax.
 */
GUEST(count, 64,
      "sti\n"
      "1: mov %r9, %r8\n"
      "2: mov %rsi, %rax\n"
      "mov %rdi, %rcx\n"
      "lea 1(%rbx), %rdx\n"
      "3: cmp %rbx, (%rax)\n"
      "jne 4f\n"
      "mov %rdx, (%rax)\n"
      "add $4096, %rax\n"
      "dec %rcx\n"
      "jnz 3b\n"
      "inc %rbx\n"
      "dec %r8\n"
      "jnz 2b\n"
      G_SYNC
      "jmp 1b\n"
      "4: mov (%rax), %r10\n"
      "outb %al, $" STR(PORT_BAD) "\n"
      "jmp 4b\n");

/* Adds 1 to a word of each of rdi pages from rsi on, again and again, until the client ends it. */
GUEST(add, 64,
      "sti\n"
      "1: mov %rsi, %rax\n"
      "mov %rdi, %rcx\n"
      "2: lock incq (%rax)\n"
      "add $4096, %rax\n"
      "dec %rcx\n"
      "jnz 2b\n"
      "cmpl $0, " STR(GUEST_DATA) "\n"
      "je 1b\n"
      G_SYNC);

FIXTURE(notifier) {
	struct guest g;
	uint8_t *area, *data;	/* data: DATA_SIZE bytes, 2 MiB aligned, inside area */
};

FIXTURE_SETUP(notifier)
{
	guest_create(&self->g, 0);
	self->area = mem_alloc(DATA_SIZE + 2 * MB);
	self->data = (uint8_t *)(((uintptr_t)self->area + 2 * MB - 1) & ~(2 * MB - 1));
	ASSERT_EQ(0, vm_set_slot(self->g.vm, DATA_SLOT, 0, DATA_GPA, DATA_SIZE, self->data));
}

FIXTURE_TEARDOWN(notifier)
{
	guest_destroy(&self->g);
	munmap(self->area, DATA_SIZE + 2 * MB);
}

static long touch(struct guest *g, uint64_t offset, bool write, uint64_t *val)
{
	struct kvm_regs r = vcpu_regs(&g->cpu);
	long ret;

	r.rip = GUEST_CODE;
	r.rdi = DATA_GPA + offset;
	r.rax = write;
	r.rbx = *val;
	vcpu_set_regs(&g->cpu, &r);
	ret = guest_run(g);
	if (ret < 0)
		return ret;
	if (!guest_at_port(g, PORT_SYNC)) {
		guest_dump(g);
		die("the guest did not come back");
	}
	*val = vcpu_regs(&g->cpu).rdx;
	return 0;
}

static uint64_t *word(uint8_t *data, uint64_t offset)
{
	return (uint64_t *)(data + offset);
}

/* Each of these must hold for a small page and for a page within a large one. */
static void step_by_step(struct __test_metadata *_metadata, struct guest *g, uint8_t *data)
{
	const uint64_t off = 3 * PAGE_SIZE;
	volatile uint64_t *host = word(data, off);
	uint64_t v;
	void *p;
	pid_t pid;
	int status;

	guest_start(g, MODE_LONG, BLOB(touch));
	v = 0x1111;
	ASSERT_EQ(0, touch(g, off, true, &v));
	ASSERT_EQ(0x1111, *host);

	/* A page that is thrown away comes back as zeroes, first to the guest and then to the client. */
	ASSERT_EQ(0, madvise(data, 2 * MB, MADV_DONTNEED));
	ASSERT_EQ(0, touch(g, off, false, &v));
	EXPECT_EQ(0, v);
	*host = 0x2222;		/* where the guest may have the zero page by now */
	ASSERT_EQ(0, touch(g, off, false, &v));
	EXPECT_EQ(0x2222, v);

	/* A page that only its owner may read stays so, and comes back. */
	ASSERT_EQ(0, mprotect(data, 2 * MB, PROT_READ));
	ASSERT_EQ(0, touch(g, off, false, &v));
	EXPECT_EQ(0x2222, v);
	v = 0x3333;
	EXPECT_EQ(-EFAULT, touch(g, off, true, &v));
	EXPECT_EQ(0x2222, *host);
	ASSERT_EQ(0, mprotect(data, 2 * MB, PROT_NONE));
	EXPECT_EQ(-EFAULT, touch(g, off, false, &v));
	ASSERT_EQ(0, mprotect(data, 2 * MB, PROT_READ | PROT_WRITE));
	v = 0x3333;
	ASSERT_EQ(0, touch(g, off, true, &v));
	EXPECT_EQ(0x3333, *host);

	/* A child gets the page as it was at the fork; the guest goes on in the parent's. */
	pid = fork();
	if (!pid) {
		usleep(200000);
		_exit(*host == 0x3333 ? 0 : 1);
	}
	v = 0x4444;
	ASSERT_EQ(0, touch(g, off, true, &v));
	EXPECT_EQ(0x4444, *host);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);

	/* Other memory in its place. */
	p = mmap(data, 2 * MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT_EQ(data, p);
	*host = 0x5555;
	ASSERT_EQ(0, touch(g, off, false, &v));
	EXPECT_EQ(0x5555, v);

	/* None at all. */
	ASSERT_EQ(0, munmap(data, 2 * MB));
	EXPECT_EQ(-EFAULT, touch(g, off, false, &v));
	p = mmap(data, 2 * MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT_EQ(data, p);
	ASSERT_EQ(0, touch(g, off, false, &v));
	EXPECT_EQ(0, v);
}

TEST_F(notifier, small_pages)
{
	ASSERT_EQ(0, madvise(self->data, DATA_SIZE, MADV_NOHUGEPAGE));
	step_by_step(_metadata, &self->g, self->data);
}

TEST_F(notifier, large_pages)
{
	ASSERT_EQ(0, madvise(self->data, DATA_SIZE, MADV_HUGEPAGE));
	memset(self->data, 0, DATA_SIZE);
	step_by_step(_metadata, &self->g, self->data);
}

/* A file page that truncation takes away: KVM_RUN fails, and works again when the file has grown. */
TEST_F(notifier, file)
{
	struct guest *g = &self->g;
	int fd = memfd_create("guest", 0);
	uint64_t v = 0x77;
	void *p;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, DATA_SIZE));
	p = mmap(self->data, DATA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	ASSERT_EQ(self->data, p);
	guest_start(g, MODE_LONG, BLOB(touch));
	ASSERT_EQ(0, touch(g, PAGE_SIZE, true, &v));
	v = 0;
	ASSERT_EQ(8, pread(fd, &v, 8, PAGE_SIZE));
	EXPECT_EQ(0x77, v);
	v = 0x88;
	ASSERT_EQ(8, pwrite(fd, &v, 8, PAGE_SIZE));
	ASSERT_EQ(0, touch(g, PAGE_SIZE, false, &v));
	EXPECT_EQ(0x88, v);

	ASSERT_EQ(0, ftruncate(fd, 0));
	EXPECT_EQ(-EFAULT, touch(g, PAGE_SIZE, false, &v));
	ASSERT_EQ(0, ftruncate(fd, DATA_SIZE));
	ASSERT_EQ(0, touch(g, PAGE_SIZE, false, &v));
	EXPECT_EQ(0, v);
	close(fd);
}

struct counter {
	pthread_t thread;
	struct vcpu cpu;
	uint8_t *host;		/* its pages, as the client sees them */
	uint64_t gpa;
	volatile unsigned long rounds;
	unsigned long faults;
	volatile bool *stop;
	bool good;
	bool lost;		/* the machine has run host code as the guest's */
};

static void counter_report(struct counter *c, const char *what, uint64_t page, uint64_t seen, uint64_t want)
{
	fprintf(stderr, "# gpa %lx: %s %lx, not %lx\n", c->gpa + page * PAGE_SIZE, what, seen, want);
	c->good = false;
}

static void *counter_main(void *arg)
{
	const unsigned long pages = DATA_PAGES / NR_VCPUS;
	struct counter *c = arg;
	struct kvm_run *run = c->cpu.run;
	struct kvm_regs r;
	unsigned long i;
	long ret;

	while (c->good && !*c->stop) {
		do {
			ret = vcpu_run(&c->cpu);
			/* The churn makes the memory read-only now and then. */
			c->faults += ret == -EFAULT;
		} while ((ret == -EFAULT || ret == -EINTR) && !*c->stop);
		if (ret == -EFAULT || ret == -EINTR)
			break;
		r = vcpu_regs(&c->cpu);
		if (ret || run->exit_reason != KVM_EXIT_IO || run->io.port != PORT_SYNC) {
			fprintf(stderr, "# KVM_RUN %ld, exit %u, rip %llx\n", ret, run->exit_reason, r.rip);
			c->lost = lost_by_qemu(&c->cpu, ret);
			if (!ret && run->exit_reason == KVM_EXIT_IO && run->io.port == PORT_BAD)
				counter_report(c, "the guest sees", (r.rax - c->gpa) / PAGE_SIZE, r.r10, r.rbx);
			c->good = false;
			break;
		}
		for (i = 0; i < pages && c->good; i++)
			if (*word(c->host, i * PAGE_SIZE) != r.rbx)
				counter_report(c, "the client sees", i, *word(c->host, i * PAGE_SIZE), r.rbx);
		c->rounds++;
	}
	return NULL;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	/* Where the file is missing or not ours to write, that kind of churn is left out. */
	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		fprintf(stderr, "# %s: %s\n", path, strerror(errno));
	close(fd);
}

#define FREED	64	/* pages */

/* Freed lazily, a page is the host's to take as long as it is clean: writing makes it the guest's again. */
TEST_F(notifier, written_after_free)
{
	struct guest *g = &self->g;
	unsigned int i;
	uint64_t v;

	ASSERT_EQ(0, madvise(self->data, DATA_SIZE, MADV_NOHUGEPAGE));
	memset(self->data, 1, FREED * PAGE_SIZE);
	guest_start(g, MODE_LONG, BLOB(touch));
	ASSERT_EQ(0, madvise(self->data, FREED * PAGE_SIZE, MADV_FREE));
	for (i = 0; i < FREED; i++) {
		v = 0x700 + i;
		ASSERT_EQ(0, touch(g, i * PAGE_SIZE, true, &v));
	}
	/* Used pages are spared at first. */
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, madvise(self->data, FREED * PAGE_SIZE, MADV_PAGEOUT));
	for (i = 0; i < FREED; i++)
		ASSERT_EQ(0x700 + i, *word(self->data, i * PAGE_SIZE));
}

struct adder {
	struct guest *g;
	long ret;
	bool ended;
};

static void *adder_main(void *arg)
{
	struct adder *a = arg;

	do
		a->ret = vcpu_run(&a->g->cpu);
	while (a->ret == -EINTR);
	__atomic_store_n(&a->ended, true, __ATOMIC_RELEASE);
	return NULL;
}

#define DISCARDED	32	/* pages */
#define DISCARDS	300

/*
 * Pages are discarded while the guest faults on them: one that was looked up before must not be mapped after, where
 * nothing would ever take it away, and the guest's additions would be for nobody to see.
 */
TEST_F_TIMEOUT(notifier, discard_beside_faults, 120)
{
	struct kvm_regs r = { .rip = GUEST_CODE, .rflags = 2, .rdi = DISCARDED, .rsi = DATA_GPA };
	struct guest *g = &self->g;
	struct adder a = { .g = g };
	unsigned int i, round;
	bool stale = false;
	pthread_t thread;
	uint64_t end;

	ASSERT_EQ(0, madvise(self->data, DATA_SIZE, MADV_NOHUGEPAGE));
	guest_start(g, MODE_LONG, BLOB(add));
	*(uint32_t *)(g->mem + GUEST_DATA) = 0;
	vcpu_set_regs(&g->cpu, &r);
	ASSERT_EQ(0, pthread_create(&thread, NULL, adder_main, &a));
	for (round = 0; round < DISCARDS && !stale; round++) {
		usleep(round % 7 * 50);
		ASSERT_EQ(0, madvise(self->data, DISCARDED * PAGE_SIZE, MADV_DONTNEED));
		for (i = 0; i < DISCARDED && !stale; i++) {
			volatile uint64_t *w = word(self->data, i * PAGE_SIZE);

			for (end = ns_now() + 20000000000ULL; !*w && ns_now() < end; sched_yield())
				if (__atomic_load_n(&a.ended, __ATOMIC_ACQUIRE))
					break;
			stale = !*w;
		}
	}
	*(volatile uint32_t *)(g->mem + GUEST_DATA) = 1;
	pthread_join(thread, NULL);
	if (lost_by_qemu(&g->cpu, a.ret))
		SKIP(return, "QEMU mixed up host and guest, as it does under in-tree KVM");
	EXPECT_FALSE(stale);
	EXPECT_EQ(0, a.ret);
	EXPECT_TRUE(guest_at_port(g, PORT_SYNC));
}

#define KHUGEPAGED	"/sys/kernel/mm/transparent_hugepage/khugepaged/"
#define KPF_THP		22

static unsigned long read_number(const char *path)
{
	char buf[32] = "";
	int fd = open(path, O_RDONLY);

	if (fd < 0 || read(fd, buf, sizeof(buf) - 1) < 0)
		die("%s: %s", path, strerror(errno));
	close(fd);
	return strtoul(buf, NULL, 10);
}

static bool is_huge(const uint8_t *data)
{
	int map = MUST(open("/proc/self/pagemap", O_RDONLY)), flags = MUST(open("/proc/kpageflags", O_RDONLY));
	uint64_t val = 0;

	if (pread(map, &val, 8, (uintptr_t)data / PAGE_SIZE * 8) != 8 ||
	    pread(flags, &val, 8, (val & ((1ULL << 55) - 1)) * 8) != 8)
		die("no flags of a page");
	close(map);
	close(flags);
	return val >> KPF_THP & 1;
}

/*
 * khugepaged collects small pages into a large one where one of them at least was used: it asks, and takes nothing
 * away by that. When the client's own use is forgotten, that of the guest is left, in one half of the memory.
 */
TEST_F_TIMEOUT(notifier, use_by_the_guest_alone, 120)
{
	static const char *const files[] = { KHUGEPAGED "scan_sleep_millisecs", KHUGEPAGED "pages_to_scan" };
	uint8_t *used = self->data, *idle = self->data + DATA_SIZE / 2;
	struct guest *g = &self->g;
	unsigned long saved[2], scans, i;
	uint64_t v, end;
	char number[32];

	if (access(files[0], W_OK) || access("/proc/kpageflags", R_OK))
		SKIP(return, "no khugepaged here");
	ASSERT_EQ(0, madvise(self->data, DATA_SIZE, MADV_NOHUGEPAGE));
	memset(self->data, 1, DATA_SIZE);
	guest_start(g, MODE_LONG, BLOB(touch));
	for (i = 0; i < DATA_SIZE / 2; i += PAGE_SIZE) {
		v = i;
		ASSERT_EQ(0, touch(g, i, true, &v));
	}
	write_file("/proc/self/clear_refs", "1");
	for (i = 0; i < 2; i++) {
		saved[i] = read_number(files[i]);
		write_file(files[i], i ? "4096" : "50");
	}
	ASSERT_EQ(0, madvise(self->data, DATA_SIZE, MADV_HUGEPAGE));

	/* It tells the guest's mappings to go when it begins, which may be used again before it does. */
	for (end = ns_now() + 60000000000ULL; !is_huge(used) && ns_now() < end;) {
		v = 5;
		ASSERT_EQ(0, touch(g, 7 * PAGE_SIZE, true, &v));
		usleep(1000);
	}
	EXPECT_TRUE(is_huge(used));
	scans = read_number(KHUGEPAGED "full_scans");
	for (end = ns_now() + 60000000000ULL; read_number(KHUGEPAGED "full_scans") < scans + 2 && ns_now() < end;)
		usleep(10000);
	EXPECT_FALSE(is_huge(idle));
	for (i = 0; i < 2; i++) {
		snprintf(number, sizeof(number), "%lu", saved[i]);
		write_file(files[i], number);
	}
	for (i = 0; i < DATA_SIZE / 2; i += PAGE_SIZE) {
		ASSERT_EQ(0, touch(g, i, false, &v));
		ASSERT_EQ(i == 7 * PAGE_SIZE ? 5 : i, v);
	}
}

/* Everything that moves, merges, splits or protects pages and leaves their content alone. */
static void churn(uint8_t *data, unsigned int round)
{
	pid_t pid;

	switch (round % 8) {
	case 0:
		pid = fork();
		if (!pid)
			_exit(0);
		waitpid(pid, NULL, 0);
		break;
	case 1:
		madvise(data, DATA_SIZE, MADV_COLLAPSE);
		break;
	case 2:
		madvise(data, DATA_SIZE, MADV_PAGEOUT);
		break;
	case 3:
		write_file("/proc/sys/vm/compact_memory", "1");
		break;
	case 4:
		mprotect(data, DATA_SIZE / 2 + PAGE_SIZE, PROT_READ);
		usleep(1000);
		mprotect(data, DATA_SIZE, PROT_READ | PROT_WRITE);
		break;
	case 5:
		/* The counters are equal, so are the pages: there is much to merge. */
		madvise(data, DATA_SIZE, MADV_MERGEABLE);
		break;
	case 6:
		madvise(data, DATA_SIZE, MADV_UNMERGEABLE);
		break;
	case 7:
		madvise(data, DATA_SIZE, MADV_COLD);
		break;
	}
}

TEST_F_TIMEOUT(notifier, stress, 180)
{
	struct guest *g = &self->g;
	struct counter c[NR_VCPUS] = { 0 };
	volatile bool stop = false;
	struct kvm_sregs sregs;
	uint64_t start;
	unsigned int i;

	ASSERT_EQ(0, madvise(self->data, DATA_SIZE, MADV_HUGEPAGE));
	guest_start(g, MODE_LONG, BLOB(count));
	sregs = vcpu_sregs(&g->cpu);
	for (i = 0; i < NR_VCPUS; i++) {
		struct kvm_regs r = { .rip = GUEST_CODE, .rflags = 2, .r9 = 1, .rdi = DATA_PAGES / NR_VCPUS };

		c[i].stop = &stop;
		c[i].good = true;
		c[i].host = self->data + i * DATA_SIZE / NR_VCPUS;
		c[i].gpa = r.rsi = DATA_GPA + i * DATA_SIZE / NR_VCPUS;
		if (i) {
			vcpu_create(&c[i].cpu, g->dev, g->vm, i);
			vcpu_set_supported_cpuid(&c[i].cpu, g->dev);
		} else {
			c[i].cpu = g->cpu;
		}
		vcpu_set_sregs(&c[i].cpu, &sregs);
		vcpu_set_regs(&c[i].cpu, &r);
	}
	for (i = 0; i < NR_VCPUS; i++)
		ASSERT_EQ(0, pthread_create(&c[i].thread, NULL, counter_main, &c[i]));
	write_file("/sys/kernel/mm/ksm/run", "1");
	start = ns_now();
	for (i = 0; c[0].good && c[1].good && ns_now() < start + STRESS_MAX_NS; i++) {
		if (ns_now() > start + STRESS_NS && c[0].rounds >= STRESS_ROUNDS && c[1].rounds >= STRESS_ROUNDS)
			break;
		churn(self->data, i);
		/* The guests get their turn. */
		usleep(20000);
	}
	stop = true;
	write_file("/sys/kernel/mm/ksm/run", "0");
	for (i = 0; i < NR_VCPUS; i++)
		pthread_join(c[i].thread, NULL);
	for (i = 0; i < NR_VCPUS; i++) {
		/* Once in a million faults QEMU's TCG takes the host's state for the guest's: Documentation/testhost.rst. */
		if (c[i].lost)
			SKIP(return, "QEMU mixed up host and guest, as it does under in-tree KVM");
		EXPECT_TRUE(c[i].good);
		EXPECT_LE(STRESS_ROUNDS, c[i].rounds);
		TH_LOG("vcpu %u: %lu rounds, %lu faults", i, c[i].rounds, c[i].faults);
		if (i)
			vcpu_close(&c[i].cpu);
	}
}

TEST_HARNESS_MAIN
