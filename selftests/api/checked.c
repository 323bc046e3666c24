// SPDX-License-Identifier: GPL-2.0-only
/*
 * The checked build (checked=1): a TLB flush that is left out is noticed at the next entry, whatever the emulator's TLB
 * made of it. Without that parameter, and on in-tree KVM, there is nothing to test.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define PARAMS	"/sys/module/keel/parameters/"
#define SLOT	5
#define GPA	0x40000000UL
#define SIZE	0x10000UL

/* Reads the page at rdi until the word at GUEST_DATA is set. */
GUEST(look, 64,
      "sti\n"
      "1: mov (%rdi), %rax\n"
      "cmpl $0, " STR(GUEST_DATA) "\n"
      "je 1b\n"
      G_SYNC
      "jmp 1b\n");

static bool is_checked(void)
{
	char c = 0;
	int fd = open(PARAMS "checked", O_RDONLY);

	if (fd < 0)
		return false;
	if (read(fd, &c, 1) != 1)
		c = 0;
	close(fd);
	return c == 'Y';
}

static void drop_flush(const char *nth)
{
	int fd = MUST(open(PARAMS "checked_drop", O_WRONLY));

	MUST(write(fd, nth, strlen(nth)));
	close(fd);
}

FIXTURE(checked) {
	struct guest g;
	uint8_t *data;
	pthread_t thread;
	long ret;
};

FIXTURE_SETUP(checked)
{
	struct guest *g = &self->g;
	struct kvm_regs r = { .rip = GUEST_CODE, .rflags = 2, .rsp = GUEST_STACK, .rdi = GPA };

	if (!is_checked())
		return;
	guest_create(g, 0);
	self->data = mem_alloc(SIZE);
	memset(self->data, 1, SIZE);
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, GPA, SIZE, self->data));
	guest_start(g, MODE_LONG, BLOB(look));
	vcpu_set_regs(&g->cpu, &r);
}

FIXTURE_TEARDOWN(checked)
{
	if (!self->data)
		return;
	guest_destroy(&self->g);
	munmap(self->data, SIZE);
}

static void *run_main(void *arg)
{
	FIXTURE_DATA(checked) *self = arg;

	self->ret = guest_run(&self->g);
	return NULL;
}

static void flush_beside_guest(struct __test_metadata *_metadata, FIXTURE_DATA(checked) *self)
{
	*(volatile uint32_t *)(self->g.mem + GUEST_DATA) = 0;
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, run_main, self));
	usleep(200000);
	ASSERT_EQ(0, madvise(self->data, SIZE, MADV_DONTNEED));
	usleep(200000);
	*(volatile uint32_t *)(self->g.mem + GUEST_DATA) = 1;
	ASSERT_EQ(0, pthread_join(self->thread, NULL));
}

TEST_F(checked, flushes_arrive)
{
	int i;

	if (!self->data)
		SKIP(return, "the module is not loaded with checked=1");
	for (i = 0; i < 3; i++) {
		flush_beside_guest(_metadata, self);
		EXPECT_EQ(KVM_EXIT_IO, self->ret);
	}
}

TEST_F(checked, lost_flush_is_noticed)
{
	if (!self->data)
		SKIP(return, "the module is not loaded with checked=1");
	drop_flush("1");
	flush_beside_guest(_metadata, self);
	drop_flush("0");
	EXPECT_EQ(-EIO, self->ret);
	/* And the VM is dead from then on. */
	EXPECT_EQ(-EIO, guest_run(&self->g));
}

TEST_HARNESS_MAIN
