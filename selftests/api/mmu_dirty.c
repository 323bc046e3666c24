// SPDX-License-Identifier: GPL-2.0-only
/*
 * The dirty log (KVM API documentation, sections 4.8 and 4.117): exactly the pages written since the last call are
 * in it, or with manual clearing since they were last cleared, and none is ever lost, whoever writes and however
 * the memory is mapped.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "mmu_area.h"

#define WORDS		(PAGES / 64)
#define COPY_NS		3000000000ULL

FIXTURE(dirty) {
	struct guest g;
	struct area area;
	uint64_t log[WORDS];
};

FIXTURE_VARIANT(dirty) {
	int advice;
};

FIXTURE_VARIANT_ADD(dirty, small) { .advice = MADV_NOHUGEPAGE };
FIXTURE_VARIANT_ADD(dirty, large) { .advice = MADV_HUGEPAGE };

FIXTURE_SETUP(dirty)
{
	guest_create(&self->g, 0);
	ASSERT_TRUE(area_create(&self->area, variant->advice));
	ASSERT_EQ(0, vm_set_slot(self->g.vm, SLOT, 0, GPA, SIZE, self->area.data));
}

FIXTURE_TEARDOWN(dirty)
{
	guest_destroy(&self->g);
	area_destroy(&self->area);
}

static long get_log(int vm, uint32_t slot, void *bitmap)
{
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bitmap };

	return vm_ioctl(vm, KVM_GET_DIRTY_LOG, &log);
}

static long set_logging(struct guest *g, uint8_t *data, bool on)
{
	return vm_set_slot(g->vm, SLOT, on ? KVM_MEM_LOG_DIRTY_PAGES : 0, GPA, SIZE, data);
}

static unsigned int nr_set(const uint64_t *log)
{
	unsigned int i, n = 0;

	for (i = 0; i < WORDS; i++)
		n += __builtin_popcountll(log[i]);
	return n;
}

static bool is_set(const uint64_t *log, unsigned int page)
{
	return log[page / 64] >> page % 64 & 1;
}

static void run_stride(struct __test_metadata *_metadata, struct guest *g, bool write, unsigned int first,
		       unsigned int step, unsigned int count)
{
	start_stride(g, write, first, step, count);
	ASSERT_PORT(PORT_SYNC, g);
}

/* Pages that the host has writable, and the guest reads first: not dirty until it writes. */
TEST_F(dirty, reads)
{
	struct guest *g = &self->g;

	memset(self->area.data, 1, PAGES * PAGE_SIZE);
	ASSERT_EQ(0, set_logging(g, self->area.data, true));
	run_stride(_metadata, g, false, 0, 1, PAGES);
	memset(self->log, 0xff, sizeof(self->log));
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(0, nr_set(self->log));
	run_stride(_metadata, g, true, 5, 100, 3);
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(3, nr_set(self->log));
	EXPECT_TRUE(is_set(self->log, 5) && is_set(self->log, 105) && is_set(self->log, 205));
}

TEST_F(dirty, exact)
{
	struct guest *g = &self->g;
	unsigned int i;
	int stats;

	/* Everything mapped writable first, so that the start of logging has something to take away. */
	run_stride(_metadata, g, true, 0, 1, PAGES);
	EXPECT_EQ(-ENOENT, get_log(g->vm, SLOT, self->log));
	ASSERT_EQ(0, set_logging(g, self->area.data, true));
	memset(self->log, 0xff, sizeof(self->log));
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(0, nr_set(self->log));

	run_stride(_metadata, g, false, 0, 1, PAGES);
	run_stride(_metadata, g, true, 7, 64 + 1, 20);
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(20, nr_set(self->log));
	for (i = 0; i < 20; i++)
		EXPECT_TRUE(is_set(self->log, 7 + i * 65));

	/* The same pages again, and nothing else. */
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(0, nr_set(self->log));
	run_stride(_metadata, g, true, 7, 64 + 1, 20);
	run_stride(_metadata, g, true, 0, 511, 5);
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(25, nr_set(self->log));
	/* The host had them writable: no lock was needed. */
	stats = MUST(vm_ioctl(g->cpu.fd, KVM_GET_STATS_FD, 0));
	EXPECT_LE(nested_paging(g->dev) ? 25 : 0, stat_value(stats, "pf_fast"));
	close(stats);

	/* A log that is stopped is gone; one that starts again starts empty. */
	run_stride(_metadata, g, true, 3, 1, 1);
	ASSERT_EQ(0, set_logging(g, self->area.data, false));
	EXPECT_EQ(-ENOENT, get_log(g->vm, SLOT, self->log));
	run_stride(_metadata, g, true, 0, 1, PAGES);
	ASSERT_EQ(0, set_logging(g, self->area.data, true));
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(0, nr_set(self->log));
}

TEST_F(dirty, errors)
{
	struct guest *g = &self->g;

	ASSERT_EQ(0, set_logging(g, self->area.data, true));
	EXPECT_EQ(-EINVAL, get_log(g->vm, 0xffff, self->log));
	EXPECT_EQ(-EINVAL, get_log(g->vm, 0xffff0000 | SLOT, self->log));
	EXPECT_EQ(-ENOENT, get_log(g->vm, SLOT + 1, self->log));
	EXPECT_EQ(-ENOENT, get_log(g->vm, 0, self->log));
	EXPECT_EQ(-EFAULT, get_log(g->vm, SLOT, BAD_PTR));
	EXPECT_EQ(-EFAULT, vm_ioctl(g->vm, KVM_GET_DIRTY_LOG, BAD_PTR));
	/* In-tree KVM forgets what it could not hand out. */
	if (!dev_is_keel(g->dev))
		return;
	run_stride(_metadata, g, true, 5, 1, 3);
	EXPECT_EQ(-EFAULT, get_log(g->vm, SLOT, BAD_PTR));
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(3, nr_set(self->log));
}

/* The slot moves and its log with it. */
TEST_F(dirty, move)
{
	struct guest *g = &self->g;

	ASSERT_EQ(0, set_logging(g, self->area.data, true));
	run_stride(_metadata, g, true, 9, 1, 1);
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, GPA + SIZE, SIZE, self->area.data));
	run_stride(_metadata, g, true, PAGES + 11, 1, 1);
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(2, nr_set(self->log));
	EXPECT_TRUE(is_set(self->log, 9));
	EXPECT_TRUE(is_set(self->log, 11));
}

/* Memory that the kernel writes for the guest: string input across a page boundary. */
TEST_F(dirty, string_input)
{
	struct guest *g = &self->g;

	ASSERT_EQ(0, set_logging(g, self->area.data, true));
	ASSERT_TRUE(run_ins(g));
	EXPECT_EQ(0x5a, self->area.data[17 * PAGE_SIZE + 3]);
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(2, nr_set(self->log));
	EXPECT_TRUE(is_set(self->log, 16));
	EXPECT_TRUE(is_set(self->log, 17));
}

static long clear_log(int vm, uint32_t slot, uint64_t first, uint32_t nr, void *bitmap)
{
	struct kvm_clear_dirty_log log = { .slot = slot, .first_page = first, .num_pages = nr, .dirty_bitmap = bitmap };

	return vm_ioctl(vm, KVM_CLEAR_DIRTY_LOG, &log);
}

static long enable_manual(int vm, uint64_t options)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { options } };

	return vm_ioctl(vm, KVM_ENABLE_CAP, &cap);
}

#define MANUAL		KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE
#define ALL_SET		KVM_DIRTY_LOG_INITIALLY_SET

TEST_F(dirty, manual_errors)
{
	struct guest *g = &self->g;
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .flags = 1 };

	EXPECT_EQ(MANUAL | ALL_SET, vm_cap(g->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2));
	EXPECT_EQ(-EINVAL, vm_ioctl(g->vm, KVM_ENABLE_CAP, &cap));
	EXPECT_EQ(-EINVAL, enable_manual(g->vm, 4));
	EXPECT_EQ(-EINVAL, enable_manual(g->vm, ALL_SET));
	EXPECT_EQ(0, enable_manual(g->vm, MANUAL | ALL_SET));
	EXPECT_EQ(0, enable_manual(g->vm, 0));
	EXPECT_EQ(0, enable_manual(g->vm, MANUAL));

	EXPECT_EQ(-ENOENT, clear_log(g->vm, SLOT, 0, PAGES, self->log));
	ASSERT_EQ(0, set_logging(g, self->area.data, true));
	EXPECT_EQ(-EINVAL, clear_log(g->vm, 0xffff, 0, PAGES, self->log));
	EXPECT_EQ(-EINVAL, clear_log(g->vm, 0xffff0000 | SLOT, 0, PAGES, self->log));
	EXPECT_EQ(-ENOENT, clear_log(g->vm, SLOT + 1, 0, PAGES, self->log));
	EXPECT_EQ(-EINVAL, clear_log(g->vm, SLOT, 1, 63, self->log));
	EXPECT_EQ(-EINVAL, clear_log(g->vm, SLOT, 0, 63, self->log));
	EXPECT_EQ(-EINVAL, clear_log(g->vm, SLOT, 0, PAGES + 1, self->log));
	EXPECT_EQ(-EINVAL, clear_log(g->vm, SLOT, PAGES + 64, 0, self->log));
	EXPECT_EQ(-EINVAL, clear_log(g->vm, SLOT, -64ULL, 128, self->log));
	EXPECT_EQ(-EFAULT, clear_log(g->vm, SLOT, 0, PAGES, BAD_PTR));
	EXPECT_EQ(-EFAULT, vm_ioctl(g->vm, KVM_CLEAR_DIRTY_LOG, BAD_PTR));
	EXPECT_EQ(0, clear_log(g->vm, SLOT, PAGES, 0, self->log));
	EXPECT_EQ(0, clear_log(g->vm, SLOT, PAGES - 64, 64, self->log));
}

/* What is fetched stays until it is cleared, and only what is cleared is watched again. */
TEST_F(dirty, manual)
{
	struct guest *g = &self->g;
	uint64_t clear[WORDS] = { 0 };

	ASSERT_EQ(0, enable_manual(g->vm, MANUAL));
	run_stride(_metadata, g, true, 0, 1, PAGES);
	ASSERT_EQ(0, set_logging(g, self->area.data, true));
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(0, nr_set(self->log));
	run_stride(_metadata, g, true, 60, 1, 10);
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(10, nr_set(self->log));
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(10, nr_set(self->log));

	/* 60 to 69 are dirty: clear 62, 63 and two that are clean. */
	clear[0] = 3ULL << 62 | 3;
	ASSERT_EQ(0, clear_log(g->vm, SLOT, 0, 64, clear));
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(8, nr_set(self->log));
	EXPECT_FALSE(is_set(self->log, 62));
	run_stride(_metadata, g, true, 62, 1, 1);
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(9, nr_set(self->log));
	EXPECT_TRUE(is_set(self->log, 62));

	/* In the middle of the slot; then all. */
	clear[0] = 0x3f;
	ASSERT_EQ(0, clear_log(g->vm, SLOT, 64, 64, clear));
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(3, nr_set(self->log));
	memset(clear, 0xff, sizeof(clear));
	ASSERT_EQ(0, clear_log(g->vm, SLOT, 0, PAGES, clear));
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(0, nr_set(self->log));
	run_stride(_metadata, g, true, 60, 1, 10);
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(10, nr_set(self->log));
}

TEST_F(dirty, initially_set)
{
	struct guest *g = &self->g;
	uint64_t clear[WORDS];

	ASSERT_EQ(0, enable_manual(g->vm, MANUAL | ALL_SET));
	run_stride(_metadata, g, true, 0, 1, PAGES);
	ASSERT_EQ(0, set_logging(g, self->area.data, true));
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(PAGES, nr_set(self->log));

	memset(clear, 0xff, sizeof(clear));
	ASSERT_EQ(0, clear_log(g->vm, SLOT, 0, PAGES / 2, clear));
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(PAGES / 2, nr_set(self->log));
	EXPECT_FALSE(is_set(self->log, PAGES / 2 - 1));
	EXPECT_TRUE(is_set(self->log, PAGES / 2));
	run_stride(_metadata, g, true, 5, 1, 3);
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(PAGES / 2 + 3, nr_set(self->log));
	ASSERT_EQ(0, clear_log(g->vm, SLOT, 0, PAGES, clear));
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(0, nr_set(self->log));
	run_stride(_metadata, g, true, PAGES / 2 - 1, 1, 2);
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(2, nr_set(self->log));

	/* A slot made with its log on begins the same way. */
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, 0, 0, NULL));
	ASSERT_EQ(0, set_logging(g, self->area.data, true));
	ASSERT_EQ(0, get_log(g->vm, SLOT, self->log));
	EXPECT_EQ(PAGES, nr_set(self->log));
}

struct writer {
	struct vcpu *cpu;
	volatile bool stop;
	bool good;
	unsigned long rounds;
};

static void *writer_main(void *arg)
{
	struct writer *w = arg;

	for (w->good = true; w->good && !w->stop; w->rounds++)
		w->good = !vcpu_run(w->cpu) && w->cpu->run->exit_reason == KVM_EXIT_IO;
	return NULL;
}

static bool copy_round(struct guest *g, const uint8_t *data, uint8_t *copy, uint64_t *log, unsigned long *pages,
		       bool manual)
{
	unsigned int i;

	if (get_log(g->vm, SLOT, log))
		return false;
	/* In parts, as clients do. */
	for (i = 0; manual && i < PAGES; i += PAGES / 4)
		if (clear_log(g->vm, SLOT, i, PAGES / 4, log + i / 64))
			return false;
	for (i = 0; i < PAGES; i++) {
		if (!is_set(log, i))
			continue;
		memcpy(copy + i * PAGE_SIZE, data + i * PAGE_SIZE, PAGE_SIZE);
		++*pages;
	}
	return true;
}

/* What migration does: copy what the log says while the guest writes; after the last round all is equal. */
static void copy_while_running(struct __test_metadata *_metadata, FIXTURE_DATA(dirty) *self, bool manual)
{
	struct guest *g = &self->g;
	struct writer w = { .cpu = &g->cpu };
	uint64_t end = ns_now() + COPY_NS;
	uint8_t *copy = calloc(1, SIZE);
	unsigned long pages = 0, rounds;
	pthread_t thread;

	ASSERT_EQ(0, enable_manual(g->vm, manual ? MANUAL | ALL_SET : 0));
	start_scatter(g);
	ASSERT_EQ(0, pthread_create(&thread, NULL, writer_main, &w));
	usleep(100000);
	ASSERT_EQ(0, set_logging(g, self->area.data, true));
	memcpy(copy, self->area.data, SIZE);
	for (rounds = 0; ns_now() < end; rounds++) {
		ASSERT_TRUE(copy_round(g, self->area.data, copy, self->log, &pages, manual));
		/* A slot that goes through all its states meanwhile, beside the one that counts. */
		if (rounds % 16 == 0) {
			ASSERT_EQ(0, vm_set_slot(g->vm, 6, 0, GPA + 4 * SIZE, SIZE, self->area.data));
			ASSERT_EQ(0, vm_set_slot(g->vm, 6, 0, GPA + 6 * SIZE, SIZE, self->area.data));
			ASSERT_EQ(0, vm_set_slot(g->vm, 6, 0, 0, 0, NULL));
		}
	}
	w.stop = true;
	pthread_join(thread, NULL);
	ASSERT_TRUE(w.good);
	ASSERT_TRUE(copy_round(g, self->area.data, copy, self->log, &pages, manual));
	EXPECT_EQ(0, memcmp(copy, self->area.data, SIZE));
	EXPECT_LT(0, pages);
	TH_LOG("%lu rounds, %lu pages, %lu exits", rounds, pages, w.rounds);
	free(copy);
}

TEST_F_TIMEOUT(dirty, copy_while_running, 120)
{
	copy_while_running(_metadata, self, false);
}

TEST_F_TIMEOUT(dirty, copy_with_manual_clear, 120)
{
	copy_while_running(_metadata, self, true);
}

TEST_HARNESS_MAIN
