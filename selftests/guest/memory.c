// SPDX-License-Identifier: GPL-2.0-only
/*
 * Nested page faults: memory that is touched for the first time, also by the CPU itself when it delivers an
 * event (so that the event must be delivered again), accessed and dirty bits, and code that rewrites itself.
 */
#include <sys/mman.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define MB	0x100000UL

/* A word in each page, to its own address; then all are read back. */
GUEST(touch, 64,
	"movq %rdi, %rsi\n"
	"1: movq %rdi, (%rdi)\n" "addq $4096, %rdi\n" "cmpq %rbx, %rdi\n" "jb 1b\n"
	"2: cmpq %rsi, (%rsi)\n" "jne 3f\n" "addq $4096, %rsi\n" "cmpq %rbx, %rsi\n" "jb 2b\n"
	G_DONE "3: " G_SYNC);

static void touch(struct __test_metadata *_metadata, bool huge)
{
	size_t size = 64 * MB, i;
	struct kvm_regs r;
	struct guest g;
	char *mem, *p;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(touch));
	p = mem_alloc(size + 2 * MB);
	/* The same offset in 2 MiB, so that huge pages fit. */
	mem = (char *)(((uintptr_t)p + 2 * MB - 1) & ~(2 * MB - 1));
	madvise(mem, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	ASSERT_EQ(0, vm_set_slot(g.vm, 2, 0, 16 * MB, size, mem));
	r = vcpu_regs(&g.cpu);
	r.rdi = 16 * MB;
	r.rbx = 16 * MB + size;
	vcpu_set_regs(&g.cpu, &r);
	ASSERT_DONE(&g);
	for (i = 0; i < size; i += PAGE_SIZE) {
		ASSERT_EQ(16 * MB + i, *(uint64_t *)(mem + i));
	}
	guest_destroy(&g);
	munmap(p, size + 2 * MB);
}

TEST(fresh_memory)
{
	touch(_metadata, false);
}

TEST(fresh_memory_huge)
{
	touch(_metadata, true);
}

#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT		39
#define KVM_CAP_MEMORY_FAULT_INFO	232
#endif

static const struct memory_fault {
	uint64_t flags, gpa, size;
} *memory_fault(const struct kvm_run *run)
{
	return (const void *)&run->hw;
}

/* A slot with nothing behind it, or not for writing: EFAULT, and kvm_run says where. */
TEST(no_backing)
{
	const struct memory_fault *fault;
	struct kvm_regs r;
	struct guest g;
	char *mem;

	guest_create(&g, 0);
	if (!vm_cap(g.vm, KVM_CAP_MEMORY_FAULT_INFO))
		SKIP(guest_destroy(&g); return, "no KVM_CAP_MEMORY_FAULT_INFO");
	fault = memory_fault(g.cpu.run);
	mem = mem_alloc(4 * PAGE_SIZE);
	ASSERT_EQ(0, vm_set_slot(g.vm, 2, 0, 16 * MB, 4 * PAGE_SIZE, mem));
	ASSERT_EQ(0, mprotect(mem + PAGE_SIZE, PAGE_SIZE, PROT_READ));
	ASSERT_EQ(0, munmap(mem + 2 * PAGE_SIZE, PAGE_SIZE));
	guest_start(&g, MODE_LONG, BLOB(touch));
	r = vcpu_regs(&g.cpu);
	r.rdi = 16 * MB + 0x18;
	r.rbx = 16 * MB + 4 * PAGE_SIZE;
	vcpu_set_regs(&g.cpu, &r);

	memset(g.cpu.run->padding, 0xff, sizeof(g.cpu.run->padding));
	EXPECT_EQ(-EFAULT, guest_run(&g));
	EXPECT_EQ(KVM_EXIT_MEMORY_FAULT, g.cpu.run->exit_reason);
	EXPECT_EQ(16 * MB + PAGE_SIZE, fault->gpa);
	EXPECT_EQ(PAGE_SIZE, fault->size);
	EXPECT_EQ(0, fault->flags);
	/* Nothing has changed: the same again, until the client has mended it. */
	EXPECT_EQ(-EFAULT, guest_run(&g));
	EXPECT_EQ(KVM_EXIT_MEMORY_FAULT, g.cpu.run->exit_reason);
	ASSERT_EQ(0, mprotect(mem + PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(-EFAULT, guest_run(&g));
	EXPECT_EQ(16 * MB + 2 * PAGE_SIZE, fault->gpa);
	ASSERT_EQ(mem + 2 * PAGE_SIZE, mmap(mem + 2 * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	ASSERT_DONE(&g);
	/* Another errno has another reason. */
	g.cpu.run->immediate_exit = 1;
	EXPECT_EQ(-EINTR, guest_run(&g));
	EXPECT_NE(KVM_EXIT_MEMORY_FAULT, g.cpu.run->exit_reason);
	guest_destroy(&g);
	munmap(mem, 4 * PAGE_SIZE);
}

/* A slot whose address and host address differ in their low 21 bits cannot have huge leaves. */
TEST(misaligned_slot)
{
	struct kvm_regs r;
	struct guest g;
	char *p, *mem;
	uint64_t i;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(touch));
	p = mem_alloc(10 * MB);
	mem = (char *)(((uintptr_t)p + 2 * MB - 1) & ~(2 * MB - 1));
	madvise(mem, 8 * MB, MADV_HUGEPAGE);
	memset(mem, 0, 8 * MB);
	ASSERT_EQ(0, vm_set_slot(g.vm, 2, 0, 16 * MB + 0x3000, 8 * MB, mem));
	r = vcpu_regs(&g.cpu);
	r.rdi = 16 * MB + 0x3000;
	r.rbx = 24 * MB + 0x3000;
	vcpu_set_regs(&g.cpu, &r);
	ASSERT_DONE(&g);
	for (i = 0; i < 8 * MB; i += PAGE_SIZE) {
		ASSERT_EQ(16 * MB + 0x3000 + i, *(uint64_t *)(mem + i));
	}
	/* Nothing beyond the slot was touched. */
	EXPECT_EQ(0, *(uint64_t *)(mem + 8 * MB));
	guest_destroy(&g);
}

GUEST(ints, 64, "1: int $0x80\n" "incq %rbx\n" "jmp 1b\n");

/*
 * Tables and stack are thrown out between two events: each delivery meets nested page faults on the IDT, GDT,
 * TSS or stack, and the event must arrive once all the same.
 */
TEST(delivery_meets_nested_faults)
{
	static const uint64_t areas[] = { GUEST_IDT, GUEST_GDT, GUEST_TSS, GUEST_STACK & ~0xfffUL, GUEST_STUBS };
	struct guest g;
	struct guest_exc e;
	uint8_t copy[PAGE_SIZE];
	int i, round;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(ints));
	for (round = 0; round < 4; round++) {
		for (i = 0; i < ARRAY_SIZE(areas); i++) {
			/* A fresh page with the same contents: the old translation is gone. */
			memcpy(copy, g.mem + areas[i], PAGE_SIZE);
			ASSERT_EQ(0, madvise(g.mem + areas[i], PAGE_SIZE, MADV_DONTNEED));
			memcpy(g.mem + areas[i], copy, PAGE_SIZE);
			ASSERT_PORT(PORT_EXC, &g);
			e = guest_exc(&g);
			EXPECT_EQ(0x80, e.vector);
			EXPECT_EQ(GUEST_CODE + 2, e.rip);
			EXPECT_EQ(GUEST_STACK, e.rsp);
			EXPECT_EQ(round * ARRAY_SIZE(areas) + i, vcpu_regs(&g.cpu).rbx);
		}
	}
	guest_destroy(&g);
}

GUEST(loop_if, 64, "sti\n" "1: incq %rbx\n" "jmp 1b\n");

/* The same for an interrupt, an NMI and an exception that the client injects. */
TEST(injection_meets_nested_faults)
{
	static const uint64_t areas[] = { GUEST_IDT, GUEST_STACK & ~0xfffUL, GUEST_GDT };
	struct kvm_interrupt irq = { .irq = 0x41 };
	struct kvm_vcpu_events ev;
	struct kvm_regs r;
	struct guest g;
	uint8_t copy[PAGE_SIZE];
	int i, kind;

	guest_create(&g, 0);
	for (i = 0; i < ARRAY_SIZE(areas); i++) {
		for (kind = 0; kind < 3; kind++) {
			/* Bochs' VT-x loses the NMI, under in-tree KVM too. */
			if (kind == 1 && areas[i] != GUEST_IDT && in_testhost("vmx"))
				continue;
			guest_start(&g, MODE_LONG, BLOB(loop_if));
			r = vcpu_regs(&g.cpu);
			r.rflags |= X86_EFLAGS_IF;
			vcpu_set_regs(&g.cpu, &r);
			memcpy(copy, g.mem + areas[i], PAGE_SIZE);
			ASSERT_EQ(0, madvise(g.mem + areas[i], PAGE_SIZE, MADV_DONTNEED));
			memcpy(g.mem + areas[i], copy, PAGE_SIZE);
			if (kind == 0) {
				ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_INTERRUPT, &irq));
			} else if (kind == 1) {
				ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_NMI, 0));
			} else {
				ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_GET_VCPU_EVENTS, &ev));
				ev.exception.injected = 1;
				ev.exception.nr = GP_VECTOR;
				ev.exception.has_error_code = 1;
				ev.exception.error_code = 0x50;
				ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_SET_VCPU_EVENTS, &ev));
			}
			ASSERT_PORT(PORT_EXC, &g);
			EXPECT_EQ(kind == 0 ? 0x41 : kind == 1 ? NMI_VECTOR : GP_VECTOR, guest_exc(&g).vector);
			EXPECT_EQ(kind == 2 ? 0x50 : 0, guest_exc(&g).error);
			EXPECT_EQ(GUEST_CODE, guest_exc(&g).rip);
			ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_GET_VCPU_EVENTS, &ev));
			EXPECT_EQ(0, ev.exception.injected | ev.interrupt.injected | ev.nmi.injected);
			/* The NMI's IRET, so that the next round's can come. */
			if (kind == 1) {
				ev.nmi.masked = 0;
				ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_SET_VCPU_EVENTS, &ev));
			}
		}
	}
	guest_destroy(&g);
}

GUEST(accessed, 64, "movl (%rsi), %eax\n" G_SYNC "movl %eax, (%rsi)\n" G_DONE);

/* The guest's own accessed and dirty bits. */
TEST(accessed_and_dirty)
{
	struct kvm_regs r;
	struct guest g;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(accessed));
	r = vcpu_regs(&g.cpu);
	r.rsi = 0x200000;
	vcpu_set_regs(&g.cpu, &r);
	EXPECT_EQ(0x200087, *guest_pte(&g, 0x200000));
	ASSERT_PORT(PORT_SYNC, &g);
	EXPECT_EQ(0x2000a7, *guest_pte(&g, 0x200000));
	ASSERT_DONE(&g);
	EXPECT_EQ(0x2000e7, *guest_pte(&g, 0x200000));
	guest_destroy(&g);
}

/* Rewrites the immediate of its own next instruction. */
GUEST(self_modifying, 64,
	"xorl %ecx, %ecx\n"
	"1: incl %ecx\n" "movl %ecx, 2f+1(%rip)\n" "jmp 2f\n"
	"2: movl $0x7fffffff, %eax\n"
	"addl %eax, %ebx\n" "cmpl $100, %ecx\n" "jne 1b\n" G_DONE);

TEST(self_modifying_code)
{
	struct guest g;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(self_modifying));
	ASSERT_DONE(&g);
	EXPECT_EQ(5050, vcpu_regs(&g.cpu).rbx);
	guest_destroy(&g);
}

/* The client rewrites code that has run: the guest runs the new one. */
GUEST(patched, 64, "1: movl $1, %eax\n" G_SYNC "jmp 1b\n");

TEST(code_changed_by_client)
{
	struct guest g;
	int i;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(patched));
	for (i = 1; i < 50; i++) {
		g.mem[GUEST_CODE + 1] = i;
		ASSERT_PORT(PORT_SYNC, &g);
		EXPECT_EQ(i, vcpu_regs(&g.cpu).rax);
	}
	guest_destroy(&g);
}

GUEST(poll, 64, "1: movl (%rsi), %eax\n" G_SYNC "jmp 1b\n");

/* Where a device was read a moment ago there is memory now, and a device again. */
TEST(device_becomes_memory)
{
	struct kvm_regs r;
	struct guest g;
	uint32_t *mem;
	int i, round;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(poll));
	mem = mem_alloc(PAGE_SIZE);
	mem[4] = 0x1234;
	r = vcpu_regs(&g.cpu);
	r.rsi = 16 * MB + 16;
	vcpu_set_regs(&g.cpu, &r);
	for (round = 0; round < 2; round++) {
		if (round)
			ASSERT_EQ(0, vm_set_slot(g.vm, 2, 0, 16 * MB, 0, mem));
		for (i = 0; i < 3; i++) {
			ASSERT_RUN(KVM_EXIT_MMIO, &g);
			EXPECT_EQ(16 * MB + 16, g.cpu.run->mmio.phys_addr);
			memcpy(g.cpu.run->mmio.data, &i, 4);
			ASSERT_PORT(PORT_SYNC, &g);
			EXPECT_EQ(i, vcpu_regs(&g.cpu).rax);
		}
		ASSERT_EQ(0, vm_set_slot(g.vm, 2, 0, 16 * MB, PAGE_SIZE, mem));
		ASSERT_PORT(PORT_SYNC, &g);
		EXPECT_EQ(0x1234, vcpu_regs(&g.cpu).rax);
	}
	guest_destroy(&g);
	munmap(mem, PAGE_SIZE);
}

/* The guest changes its page tables: INVLPG, CR3, and CR4.PGE-less global flush all take effect. */
GUEST(remap, 64,
	"movq %rdx, (%rdi)\n" "movl (%rsi), %eax\n" "movq %rbx, (%rdi)\n" "invlpg (%rsi)\n" "movl (%rsi), %ecx\n" G_SYNC
	"movq %rdx, (%rdi)\n" "movq %cr3, %r8\n" "movq %r8, %cr3\n" "movl (%rsi), %r9d\n" G_DONE);

TEST(guest_remaps)
{
	struct kvm_regs r;
	struct guest g;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(remap));
	*(uint32_t *)(g.mem + 0x200010) = 0xaaaa;
	*(uint32_t *)(g.mem + 0x000010) = 0xbbbb;
	r = vcpu_regs(&g.cpu);
	r.rsi = 0x40000010;
	r.rdi = (uint8_t *)guest_pte(&g, 0x40000000) - g.mem;
	r.rdx = 0x200083;
	r.rbx = 0x000083;
	vcpu_set_regs(&g.cpu, &r);
	ASSERT_PORT(PORT_SYNC, &g);
	r = vcpu_regs(&g.cpu);
	EXPECT_EQ(0xaaaa, r.rax);
	EXPECT_EQ(0xbbbb, r.rcx);
	ASSERT_DONE(&g);
	EXPECT_EQ(0xaaaa, vcpu_regs(&g.cpu).r9);
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
