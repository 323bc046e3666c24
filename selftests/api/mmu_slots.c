// SPDX-License-Identifier: GPL-2.0-only
/*
 * Slots that change while vCPUs run: the ioctl comes back soon even from a guest that never exits, and what was
 * deleted or moved away is never seen again once it has.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define MB		0x100000
#define SLOT		5
#define GPA		0x40000000UL
#define SIZE		(4 * MB)
#define RUN_NS		3000000000ULL
#define GOOD		0x600d600dULL
#define POISON		0xbadbadULL
#define ABSENT		0xab5e27ULL	/* what the client answers for the hole */
#define HAMMERED	50		/* rounds between two looks for the end */
#define MOVES		600

/* Never exits until the client lets it go by writing to the word at GUEST_DATA. */
GUEST(spin, 64,
      "sti\n"
      "1: pause\n"
      "cmpl $0, " STR(GUEST_DATA) "\n"
      "je 1b\n"
      G_DONE);

/* Reads a word at rdi and each r11 bytes further, r10 in all, in turn: only two values may come. The count goes to r8. */
GUEST(look, 64,
      "sti\n"
      "1: mov %rdi, %rsi\n"
      "mov %r10, %rcx\n"
      "2: mov (%rsi), %rax\n"
      "inc %r8\n"
      "cmp %rbx, %rax\n"
      "je 3f\n"
      "cmp %rbp, %rax\n"
      "jne 4f\n"
      "inc %r9\n"
      "3: add %r11, %rsi\n"
      "dec %ecx\n"
      "jnz 2b\n"
      "cmpl $0, " STR(GUEST_DATA) "\n"
      "je 1b\n"
      G_DONE
      "4: " G_SYNC "jmp 4b\n");

/* Reads, writes and locked accesses of pages from rdi on and from rsi on, until the client ends it. */
GUEST(hammer, 64,
      "sti\n"
      "1: movl $" STR(HAMMERED) ", %ecx\n"
      "2: mov (%rdi), %rax\n" "mov %rax, 8(%rsi)\n" "lock incq 16(%rdi)\n"
      "mov (%rsi), %rax\n" "mov %rax, 8(%rdi)\n" "lock incq 16(%rsi)\n"
      "incq %r8\n"
      "dec %ecx\n"
      "jnz 2b\n"
      "cmpl $0, " STR(GUEST_DATA) "\n"
      "je 1b\n"
      G_DONE);

FIXTURE(slots) {
	struct guest g;
	uint8_t *area, *data;
	pthread_t thread;
};

FIXTURE_SETUP(slots)
{
	guest_create(&self->g, 0);
	self->area = mem_alloc(SIZE + 2 * MB);
	self->data = (uint8_t *)(((uintptr_t)self->area + 2 * MB - 1) & ~(2 * MB - 1));
	madvise(self->data, SIZE, MADV_HUGEPAGE);
}

FIXTURE_TEARDOWN(slots)
{
	guest_destroy(&self->g);
	munmap(self->area, SIZE + 2 * MB);
}

static void *run_main(void *arg)
{
	struct guest *g = arg;
	struct kvm_run *run = g->cpu.run;
	const uint64_t absent = ABSENT;

	for (;;) {
		if (guest_run(g) != KVM_EXIT_MMIO)
			return NULL;
		if (run->mmio.is_write || run->mmio.len != 8)
			return NULL;
		memcpy(run->mmio.data, &absent, 8);
	}
}

/* What a reader looks at: words that are @stride bytes apart. */
struct field {
	uint8_t *data;
	uint64_t size, stride;
};

static void fill(const struct field *f, uint64_t val)
{
	unsigned long i;

	for (i = 0; i < f->size; i += f->stride)
		*(volatile uint64_t *)(f->data + i) = val;
}

static void let_go(struct guest *g)
{
	*(volatile uint32_t *)(g->mem + GUEST_DATA) = 1;
}

TEST_F_TIMEOUT(slots, beside_a_spinning_vcpu, 120)
{
	struct guest *g = &self->g;
	uint64_t start, worst = 0, sum = 0, ns;
	int i;

	guest_start(g, MODE_LONG, BLOB(spin));
	*(uint32_t *)(g->mem + GUEST_DATA) = 0;
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, run_main, g));
	usleep(100000);
	for (i = 0; i < 50; i++) {
		start = ns_now();
		ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, GPA, SIZE, self->data));
		ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, GPA + SIZE, SIZE, self->data));
		ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, 0, 0, NULL));
		ns = ns_now() - start;
		worst = ns > worst ? ns : worst;
		sum += ns;
	}
	let_go(g);
	pthread_join(self->thread, NULL);
	EXPECT_TRUE(guest_at_port(g, PORT_DONE)) {
		guest_dump(g);
	}
	EXPECT_LT(worst, 5000000000ULL);
	TH_LOG("create, move and delete: %lu us, %lu us at worst", sum / 50000, worst / 1000);
}

static void change_under_reader(struct __test_metadata *_metadata, struct guest *g, pthread_t *thread,
				const struct field *f, bool move)
{
	uint64_t end = ns_now() + RUN_NS;
	struct kvm_regs r = {
		.rip = GUEST_CODE, .rflags = 2, .rsp = GUEST_STACK, .rdi = GPA, .rbx = GOOD, .rbp = ABSENT,
		.r10 = f->size / f->stride, .r11 = f->stride,
	};
	unsigned long rounds;

	guest_start(g, MODE_LONG, BLOB(look));
	*(uint32_t *)(g->mem + GUEST_DATA) = 0;
	vcpu_set_regs(&g->cpu, &r);
	fill(f, GOOD);
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, GPA, f->size, f->data));
	ASSERT_EQ(0, pthread_create(thread, NULL, run_main, g));
	for (rounds = 0; ns_now() < end; rounds++) {
		ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, GPA + f->size, move ? f->size : 0, f->data));
		/* The client's own again: the guest must not see it. */
		fill(f, POISON);
		usleep(rounds % 5 * 200);
		fill(f, GOOD);
		ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, GPA, f->size, f->data));
		usleep(rounds % 3 * 500);
	}
	let_go(g);
	pthread_join(*thread, NULL);
	r = vcpu_regs(&g->cpu);
	EXPECT_TRUE(guest_at_port(g, PORT_DONE)) {
		guest_dump(g);
		TH_LOG("the guest read %llx at %llx", r.rax, r.rsi);
	}
	/* It saw both, or nothing was tested. */
	EXPECT_LT(0, r.r9);
	EXPECT_LT(r.r9, r.r8);
	TH_LOG("%lu rounds, %llu reads, %llu of them of the hole", rounds, r.r8, r.r9);
}

TEST_F_TIMEOUT(slots, delete_under_reader, 120)
{
	change_under_reader(_metadata, &self->g, &self->thread, &(struct field){ self->data, SIZE, PAGE_SIZE }, false);
}

TEST_F_TIMEOUT(slots, move_under_reader, 120)
{
	change_under_reader(_metadata, &self->g, &self->thread, &(struct field){ self->data, SIZE, PAGE_SIZE }, true);
}

/*
 * A page in each of many tables, which are taken away in several steps: what the guest touches in between must not
 * come back as it was.
 */
TEST_F_TIMEOUT(slots, delete_many_tables, 120)
{
	struct field f = { .size = 128 * MB, .stride = 2 * MB };
	uint8_t *area = mem_alloc(f.size + 2 * MB);

	f.data = (uint8_t *)(((uintptr_t)area + 2 * MB - 1) & ~(2 * MB - 1));
	ASSERT_EQ(0, madvise(f.data, f.size, MADV_NOHUGEPAGE));
	change_under_reader(_metadata, &self->g, &self->thread, &f, false);
	ASSERT_EQ(0, vm_set_slot(self->g.vm, SLOT, 0, 0, 0, NULL));
	munmap(area, f.size + 2 * MB);
}

struct hammer {
	struct guest *g;
	long ret;		/* of the last KVM_RUN */
	unsigned long holes;	/* accesses where there was no slot */
};

static void *hammer_main(void *arg)
{
	struct hammer *h = arg;
	struct kvm_run *run = h->g->cpu.run;

	for (;;) {
		h->ret = vcpu_run(&h->g->cpu);
		if (h->ret || run->exit_reason != KVM_EXIT_MMIO)
			return NULL;
		memset(run->mmio.data, 0, 8);
		h->holes++;
	}
}

/*
 * The emulator looks what is at an address, and then accesses it: a slot that goes in between makes a device of it, and no
 * failure. An interpreted guest does nothing else.
 */
TEST_F_TIMEOUT(slots, move_under_the_emulator, 300)
{
	struct guest interpreted, *g = &interpreted;
	struct hammer h = { .g = g };
	struct kvm_regs r = {
		.rip = GUEST_CODE, .rflags = 2, .rsp = GUEST_STACK, .rdi = GPA, .rsi = GPA + SIZE,
	};
	int i;

	if (!dev_is_keel(self->g.dev))
		SKIP(return, "no interpreted execution here");
	guest_create(g, GUEST_INTERPRETED);
	guest_start(g, MODE_LONG, BLOB(hammer));
	*(uint32_t *)(g->mem + GUEST_DATA) = 0;
	vcpu_set_regs(&g->cpu, &r);
	ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, GPA, SIZE, self->data));
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, hammer_main, &h));
	for (i = 0; i < MOVES; i++)
		ASSERT_EQ(0, vm_set_slot(g->vm, SLOT, 0, i & 1 ? GPA : GPA + SIZE, SIZE, self->data));
	let_go(g);
	pthread_join(self->thread, NULL);
	EXPECT_EQ(0, h.ret);
	EXPECT_TRUE(guest_at_port(g, PORT_DONE)) {
		guest_dump(g);
	}
	EXPECT_LT(0, h.holes);
	TH_LOG("%llu rounds, %lu accesses to the hole", vcpu_regs(&g->cpu).r8, h.holes);
	guest_destroy(g);
}

TEST_HARNESS_MAIN
