// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest that touches a page here and there in a huge slot: the page tables that this takes are accounted to the
 * client's cgroup, and the host gets them back when it wants memory. Runs as root; KVM has no such shrinker for its
 * nested tables.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define MB		0x100000UL
#define GB		0x40000000UL
#define SLOT		5
#define GPA		(4 * GB)
#define SIZE		(508 * GB)
#define STEP		(2 * MB)
#define TOUCHED		4096UL		/* a page table each */
#define VALUES		16
#define PDPTE_1G	0xe3		/* present, writable, accessed, dirty, large */

/* Reads a word of each of rcx pages, rsi bytes apart from rdi on, and sums them up in rax. */
GUEST(sum, 64,
      "xor %eax, %eax\n"
      "1: add (%rdi), %rax\n"
      "add %rsi, %rdi\n"
      "dec %rcx\n"
      "jnz 1b\n"
      G_SYNC);

FIXTURE(bounds) {
	struct guest g;
	uint8_t *mem;
	char dir[64], group[128];
};

static long write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	long r;

	if (fd < 0)
		return -errno;
	r = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return r;
}

/* Bytes of kernel memory that the group has, but for the client's own page tables. */
static long kernel_bytes(const char *group)
{
	char path[192], name[64];
	long value, kernel = -1, tables = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.stat", group);
	f = fopen(path, "r");
	while (f && fscanf(f, "%63s %ld", name, &value) == 2) {
		if (!strcmp(name, "kernel"))
			kernel = value;
		if (!strcmp(name, "pagetables"))
			tables = value;
	}
	if (f)
		fclose(f);
	return kernel < 0 ? -1 : kernel - tables;
}

/* A cgroup of our own, in a mount of our own. */
static bool enter_group(FIXTURE_DATA(bounds) *self)
{
	char path[192], pid[32];

	strcpy(self->dir, "/tmp/mmu_bounds.XXXXXX");
	if (!mkdtemp(self->dir) || mount("none", self->dir, "cgroup2", 0, NULL))
		return false;
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", self->dir);
	write_file(path, "+memory");
	snprintf(self->group, sizeof(self->group), "%s/test-%d", self->dir, getpid());
	mkdir(self->group, 0755);
	snprintf(path, sizeof(path), "%s/cgroup.procs", self->group);
	snprintf(pid, sizeof(pid), "%d", getpid());
	return !write_file(path, pid) && kernel_bytes(self->group) >= 0;
}

static void leave_group(FIXTURE_DATA(bounds) *self)
{
	char path[192], pid[32];

	snprintf(path, sizeof(path), "%s/cgroup.procs", self->dir);
	snprintf(pid, sizeof(pid), "%d", getpid());
	write_file(path, pid);
	rmdir(self->group);
	umount2(self->dir, MNT_DETACH);
	rmdir(self->dir);
}

FIXTURE_SETUP(bounds)
{
	struct guest *g = &self->g;
	uint64_t *pdpt;
	unsigned int i;

	if (geteuid())
		return;
	guest_create(g, 0);
	guest_start(g, MODE_LONG, BLOB(sum));
	pdpt = (uint64_t *)(g->mem + GUEST_PDPT);
	for (i = 4; i < 512; i++)
		pdpt[i] = i * GB | PDPTE_1G;
	self->mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	ASSERT_EQ(0, madvise(self->mem, SIZE, MADV_NOHUGEPAGE));
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, GPA, SIZE, self->mem));
}

FIXTURE_TEARDOWN(bounds)
{
	if (!self->mem)
		return;
	guest_destroy(&self->g);
	munmap(self->mem, SIZE);
}

static uint64_t run_sum(struct __test_metadata *_metadata, struct guest *g)
{
	struct kvm_regs r = {
		.rip = GUEST_CODE, .rflags = 2, .rsp = GUEST_STACK, .rdi = GPA, .rsi = SIZE / TOUCHED / STEP * STEP,
		.rcx = TOUCHED,
	};

	vcpu_set_regs(&g->cpu, &r);
	ASSERT_PORT(PORT_SYNC, g);
	return vcpu_regs(&g->cpu).rax;
}

TEST_F_TIMEOUT(bounds, sparse, 240)
{
	struct guest *g = &self->g;
	const size_t step = SIZE / TOUCHED / STEP * STEP;
	long before, used, left;
	unsigned int i;

	if (!self->mem)
		SKIP(return, "not root");
	if (!dev_is_keel(g->dev))
		SKIP(return, "in-tree KVM does not shrink nested page tables");
	if (!enter_group(self)) {
		leave_group(self);
		SKIP(return, "no memory controller of cgroups");
	}
	for (i = 0; i < VALUES; i++)
		*(uint64_t *)(self->mem + i * (TOUCHED / VALUES) * step) = i + 1;
	before = kernel_bytes(self->group);
	EXPECT_EQ(VALUES * (VALUES + 1) / 2, run_sum(_metadata, g));
	used = kernel_bytes(self->group) - before;
	EXPECT_LE(TOUCHED * PAGE_SIZE, used);

	/* The first round only takes the marks of use away. The tables go after an RCU grace period. */
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, write_file("/proc/sys/vm/drop_caches", "2"));
	for (i = 0; i < 50; i++) {
		left = kernel_bytes(self->group) - before;
		if (left < used / 4)
			break;
		usleep(100000);
	}
	EXPECT_LT(left, used / 4);
	EXPECT_EQ(VALUES * (VALUES + 1) / 2, run_sum(_metadata, g));
	TH_LOG("%ld KiB of page tables, %ld KiB after the shrinker", used / 1024, left / 1024);
	leave_group(self);
}

TEST_HARNESS_MAIN
