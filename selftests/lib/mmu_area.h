/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of the dirty log and of dirty rings share: a slot of 8 MiB, and guests that write to it.
 */
#ifndef KEEL_TEST_MMU_AREA_H
#define KEEL_TEST_MMU_AREA_H

#include <sys/mman.h>
#include "guest.h"

#define MB		0x100000
#define SLOT		5
#define GPA		0x40000000UL
#define SIZE		(8 * MB)
#define PAGES		(SIZE / PAGE_SIZE)

/* rcx writes from rdi on, rsi bytes apart, of the 64-bit value rbx; al zero: reads instead. */
GUEST(stride, 64,
      "1: test %al, %al\n"
      "jz 2f\n"
      "mov %rbx, (%rdi)\n"
      "2: mov (%rdi), %rdx\n"
      "add %rsi, %rdi\n"
      "dec %rcx\n"
      "jnz 1b\n"
      G_SYNC);

/* Bytes from a port into memory at rdi. */
GUEST(ins, 64,
      "mov $0x77, %edx\n"
      "mov $8, %ecx\n"
      "cld\n"
      "rep insb\n"
      G_SYNC);

/* Writes to pseudo-random pages for ever: rbx counts, r12 is the seed, rdi the base. */
GUEST(scatter, 64,
      "sti\n"
      "1: imul $1103515245, %r12d, %r12d\n"
      "add $12345, %r12d\n"
      "mov %r12d, %eax\n"
      "shr $8, %eax\n"
      "and $" STR(SIZE - 1) ", %eax\n"
      "and $-8, %eax\n"
      "inc %rbx\n"
      "mov %rbx, (%rdi, %rax)\n"
      "test $0xfff, %rbx\n"
      "jnz 1b\n"
      G_SYNC
      "jmp 1b\n");

struct area {
	uint8_t *map, *data;
};

/* Memory for the slot where a large page could be, with the advice for it; zeroed. */
static inline bool area_create(struct area *a, int advice)
{
	a->map = mem_alloc(SIZE + 2 * MB);
	a->data = (uint8_t *)(((uintptr_t)a->map + 2 * MB - 1) & ~(2 * MB - 1));
	if (madvise(a->data, SIZE, advice))
		return false;
	memset(a->data, 0, SIZE);
	return true;
}

static inline void area_destroy(struct area *a)
{
	munmap(a->map, SIZE + 2 * MB);
}

/* In a guest that is at its start, or at an exit that was completed. */
static inline void aim_stride(struct guest *g, bool write, unsigned int first, unsigned int step, unsigned int count)
{
	struct kvm_regs r = {
		.rip = GUEST_CODE, .rflags = 2, .rsp = GUEST_STACK, .rax = write, .rbx = 0xabcd,
		.rdi = GPA + first * PAGE_SIZE, .rsi = step * PAGE_SIZE, .rcx = count,
	};

	vcpu_set_regs(&g->cpu, &r);
}

static inline void start_stride(struct guest *g, bool write, unsigned int first, unsigned int step, unsigned int count)
{
	guest_start(g, MODE_LONG, BLOB(stride));
	aim_stride(g, write, first, step, count);
}

/* String input across the boundary of pages 16 and 17, to its end. */
static inline bool run_ins(struct guest *g)
{
	struct kvm_regs r = { .rip = GUEST_CODE, .rflags = 2, .rsp = GUEST_STACK, .rdi = GPA + 17 * PAGE_SIZE - 4 };
	struct kvm_run *run = g->cpu.run;

	guest_start(g, MODE_LONG, BLOB(ins));
	vcpu_set_regs(&g->cpu, &r);
	while (guest_run(g) == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
		memset((uint8_t *)run + run->io.data_offset, 0x5a, run->io.count);
	return guest_at_port(g, PORT_SYNC);
}

static inline void start_scatter(struct guest *g)
{
	struct kvm_regs r = { .rip = GUEST_CODE, .rflags = 2, .rsp = GUEST_STACK, .rdi = GPA, .r12 = 4711 };

	guest_start(g, MODE_LONG, BLOB(scatter));
	vcpu_set_regs(&g->cpu, &r);
}

#endif
