// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dirty rings (KVM API documentation, section 8.29): each vCPU lists the pages that it dirties, stops with an exit
 * before its ring is full, and goes on when the client has collected entries and reset them.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "mmu_area.h"

#define RING_BYTES	PAGE_SIZE
#define RING_SIZE	(RING_BYTES / sizeof(struct kvm_dirty_gfn))
#define RESERVED	64
#define RING_OFFSET	(KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE)
#define COPY_NS		2000000000ULL

struct ring {
	struct kvm_dirty_gfn *gfn;
	uint32_t next;
};

FIXTURE(ring) {
	struct guest g;
	struct ring ring;
	struct area area;
	bool dirty[PAGES];
};

FIXTURE_VARIANT(ring) {
	int advice, cap;
};

FIXTURE_VARIANT_ADD(ring, small) { .advice = MADV_NOHUGEPAGE, .cap = KVM_CAP_DIRTY_LOG_RING };
FIXTURE_VARIANT_ADD(ring, large) { .advice = MADV_HUGEPAGE, .cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL };

static long enable_ring(int vm, int cap, uint64_t bytes)
{
	struct kvm_enable_cap e = { .cap = cap, .args = { bytes } };

	return vm_ioctl(vm, KVM_ENABLE_CAP, &e);
}

FIXTURE_SETUP(ring)
{
	struct guest *g = &self->g;

	guest_create(g, 0);
	/* Rings come before vCPUs: a VM of our own, with the memory of the other. */
	vcpu_close(&g->cpu);
	close(g->vm);
	g->vm = vm_create(g->dev);
	ASSERT_EQ(0, enable_ring(g->vm, variant->cap, RING_BYTES));
	ASSERT_EQ(0, vm_set_slot(g->vm, 0, 0, 0, GUEST_HOLE, g->mem));
	vcpu_create(&g->cpu, g->dev, g->vm, 0);
	vcpu_set_supported_cpuid(&g->cpu, g->dev);
	self->ring.gfn = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, g->cpu.fd, RING_OFFSET);
	ASSERT_NE(MAP_FAILED, self->ring.gfn);
	ASSERT_TRUE(area_create(&self->area, variant->advice));
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, GPA, SIZE, self->area.data));
}

FIXTURE_TEARDOWN(ring)
{
	munmap(self->ring.gfn, RING_BYTES);
	guest_destroy(&self->g);
	area_destroy(&self->area);
}

/* Takes the entries that are there; returns their number, or -1 for one that is wrong. */
static int collect(struct ring *ring, bool *dirty)
{
	struct kvm_dirty_gfn *e;
	int n;

	for (n = 0;; n++, ring->next++) {
		e = &ring->gfn[ring->next % RING_SIZE];
		if (__atomic_load_n(&e->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
			return n;
		if (e->slot != SLOT || e->offset >= PAGES)
			return -1;
		if (dirty)
			dirty[e->offset] = true;
		__atomic_store_n(&e->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
}

static long reset_rings(struct guest *g)
{
	return vm_ioctl(g->vm, KVM_RESET_DIRTY_RINGS, 0);
}

static unsigned int nr_dirty(const bool *dirty)
{
	unsigned int i, n = 0;

	for (i = 0; i < PAGES; i++)
		n += dirty[i];
	return n;
}

TEST_F(ring, exact)
{
	struct guest *g = &self->g;
	unsigned int i;

	start_stride(g, true, 0, 1, PAGES);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, collect(&self->ring, NULL));
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, self->area.data));
	start_stride(g, true, 7, 65, 20);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(20, collect(&self->ring, self->dirty));
	for (i = 0; i < 20; i++)
		EXPECT_TRUE(self->dirty[7 + i * 65]);

	/* Until they are reset they are writable and not listed again. Shadow tables go when special registers are set. */
	vcpu_complete_io(&g->cpu);
	aim_stride(g, true, 7, 65, 20);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, collect(&self->ring, NULL));
	EXPECT_EQ(20, reset_rings(g));
	EXPECT_EQ(0, reset_rings(g));
	start_stride(g, true, 7, 65, 20);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(20, collect(&self->ring, NULL));
	EXPECT_EQ(20, reset_rings(g));

	/* A log that is off lists nothing; on again it starts anew. */
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, GPA, SIZE, self->area.data));
	start_stride(g, true, 0, 1, PAGES);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, collect(&self->ring, NULL));
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, self->area.data));
	start_stride(g, true, 3, 1, 2);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(2, collect(&self->ring, NULL));
}

/* The vCPU stops in time, does not go on before the reset, and nothing is lost. */
TEST_F(ring, full)
{
	struct guest *g = &self->g;
	unsigned int exits = 0;
	long reason;

	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, self->area.data));
	start_stride(g, true, 0, 1, PAGES);
	while ((reason = guest_run(g)) == KVM_EXIT_DIRTY_RING_FULL) {
		EXPECT_EQ(KVM_EXIT_DIRTY_RING_FULL, guest_run(g));
		EXPECT_EQ(0, reset_rings(g));	/* nothing is collected yet */
		EXPECT_EQ(KVM_EXIT_DIRTY_RING_FULL, guest_run(g));
		ASSERT_EQ(RING_SIZE - RESERVED, collect(&self->ring, self->dirty));
		ASSERT_EQ(RING_SIZE - RESERVED, reset_rings(g));
		exits++;
	}
	EXPECT_EQ(KVM_EXIT_IO, reason);
	collect(&self->ring, self->dirty);
	EXPECT_EQ(PAGES, nr_dirty(self->dirty));
	EXPECT_EQ(PAGES / (RING_SIZE - RESERVED), exits);
}

/* The core's own writes are listed, too. */
TEST_F(ring, string_input)
{
	struct guest *g = &self->g;

	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, self->area.data));
	ASSERT_TRUE(run_ins(g));
	EXPECT_LE(2, collect(&self->ring, self->dirty));
	EXPECT_EQ(2, nr_dirty(self->dirty));
	EXPECT_TRUE(self->dirty[16]);
	EXPECT_TRUE(self->dirty[17]);
}

TEST_F(ring, errors)
{
	struct guest *g = &self->g;
	uint64_t log[PAGES / 64];
	struct kvm_dirty_log get = { .slot = SLOT, .dirty_bitmap = log };
	struct kvm_clear_dirty_log clear = { .slot = SLOT, .num_pages = PAGES, .dirty_bitmap = log };
	const int prot = PROT_READ | PROT_WRITE;
	struct vcpu cpu;
	int vm;

	EXPECT_EQ(65536 * sizeof(struct kvm_dirty_gfn), vm_cap(g->vm, variant->cap));
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, self->area.data));
	EXPECT_EQ(-ENXIO, vm_ioctl(g->vm, KVM_GET_DIRTY_LOG, &get));
	EXPECT_EQ(-ENXIO, vm_ioctl(g->vm, KVM_CLEAR_DIRTY_LOG, &clear));
	EXPECT_EQ(-EINVAL, enable_ring(g->vm, variant->cap, RING_BYTES));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, RING_BYTES, prot, MAP_PRIVATE, g->cpu.fd, RING_OFFSET));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, RING_BYTES, prot | PROT_EXEC, MAP_SHARED, g->cpu.fd, RING_OFFSET));

	vm = vm_create(g->dev);
	EXPECT_EQ(-EINVAL, vm_ioctl(vm, KVM_RESET_DIRTY_RINGS, 0));
	EXPECT_EQ(-EINVAL, enable_ring(vm, variant->cap, 0));
	EXPECT_EQ(-EINVAL, enable_ring(vm, variant->cap, 3 * PAGE_SIZE));
	EXPECT_EQ(-EINVAL, enable_ring(vm, variant->cap, PAGE_SIZE / 2));
	EXPECT_EQ(-E2BIG, enable_ring(vm, variant->cap, 2 * 65536 * sizeof(struct kvm_dirty_gfn)));
	vcpu_create(&cpu, g->dev, vm, 0);
	EXPECT_EQ(-EINVAL, enable_ring(vm, variant->cap, RING_BYTES));
	vcpu_close(&cpu);
	close(vm);
}

/* Entries are the client's to write: nonsense in them is not believed. */
TEST_F(ring, nonsense)
{
	static const struct { uint32_t slot; uint64_t offset; } bad[] = {
		{ 0xffffffff, 0 }, { 0x10000 | SLOT, 0 }, { 511, 0 }, { 512, 0 }, { SLOT + 1, 1 },
		{ SLOT, PAGES }, { SLOT, -1ULL }, { SLOT, 1ULL << 52 }, { 0, 0 },
	};
	struct guest *g = &self->g;
	unsigned int i;

	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, self->area.data));
	start_stride(g, true, 0, 1, ARRAY_SIZE(bad));
	ASSERT_PORT(PORT_SYNC, g);
	/* In-tree KVM believes those that were never written, too. */
	for (i = 0; i < (dev_is_keel(g->dev) ? RING_SIZE : ARRAY_SIZE(bad)); i++) {
		self->ring.gfn[i].slot = bad[i % ARRAY_SIZE(bad)].slot;
		self->ring.gfn[i].offset = bad[i % ARRAY_SIZE(bad)].offset;
		self->ring.gfn[i].flags = KVM_DIRTY_GFN_F_RESET;
	}
	EXPECT_EQ(ARRAY_SIZE(bad), reset_rings(g));
	start_stride(g, true, 100, 1, 3);
	ASSERT_PORT(PORT_SYNC, g);
}

struct writer {
	struct vcpu *cpu;
	volatile bool stop, done;
	bool good;
};

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	struct kvm_run *run = w->cpu->run;

	for (w->good = true; w->good && !w->stop;) {
		w->good = !vcpu_run(w->cpu) &&
			  (run->exit_reason == KVM_EXIT_IO || run->exit_reason == KVM_EXIT_DIRTY_RING_FULL);
		if (run->exit_reason == KVM_EXIT_DIRTY_RING_FULL)
			usleep(100);
	}
	w->done = true;
	return NULL;
}

static bool copy_round(FIXTURE_DATA(ring) *self, uint8_t *copy, unsigned long *pages)
{
	unsigned int i;

	memset(self->dirty, 0, sizeof(self->dirty));
	if (collect(&self->ring, self->dirty) < 0 || reset_rings(&self->g) < 0)
		return false;
	for (i = 0; i < PAGES; i++) {
		if (!self->dirty[i])
			continue;
		memcpy(copy + i * PAGE_SIZE, self->area.data + i * PAGE_SIZE, PAGE_SIZE);
		++*pages;
	}
	return true;
}

/* Migration: copy what the ring lists while the guest writes; after the last round all is equal. */
TEST_F_TIMEOUT(ring, copy_while_running, 120)
{
	struct guest *g = &self->g;
	struct writer w = { .cpu = &g->cpu };
	uint64_t end = ns_now() + COPY_NS;
	uint8_t *copy = calloc(1, SIZE);
	unsigned long pages = 0, rounds;
	pthread_t thread;

	start_scatter(g);
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, self->area.data));
	ASSERT_EQ(0, pthread_create(&thread, NULL, writer_main, &w));
	for (rounds = 0; ns_now() < end; rounds++)
		ASSERT_TRUE(copy_round(self, copy, &pages));
	w.stop = true;
	while (!w.done)
		ASSERT_TRUE(copy_round(self, copy, &pages));
	pthread_join(thread, NULL);
	ASSERT_TRUE(w.good);
	ASSERT_TRUE(copy_round(self, copy, &pages));
	EXPECT_EQ(0, memcmp(copy, self->area.data, SIZE));
	EXPECT_LT(RING_SIZE, pages);
	TH_LOG("%lu rounds, %lu pages", rounds, pages);
	free(copy);
}

TEST_HARNESS_MAIN
