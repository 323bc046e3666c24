// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hardware task switches in a 32-bit guest: by JMP, CALL and IRET, through task gates by software interrupts,
 * exceptions and interrupts, to 32-bit and 16-bit TSSs and to virtual-8086 mode, and what is wrong with a new task
 * (SDM volume 3, chapter 7; APM volume 2, chapter 12).
 *
 * Each runs as the CPU does it (which may be an exit of its own), and, where an instruction reads a far pointer, a
 * second time with that pointer in a device, so that the instruction is emulated.
 */
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define SEL_TSS_B	0x70
#define SEL_TSS16	0x78
#define SEL_GATE_B	0x80		/* task gate */
#define TSS_B		(GUEST_DATA2)
#define TSS16		(GUEST_DATA2 + 0x100)
#define TO_B		0		/* far pointers, offsets in their page */
#define TO_A		8
#define RESULT		0x41000
#define STACK_B		GUEST_STACK2
#define VECTOR		0x40

struct tss32 {
	uint16_t link, r0;
	uint32_t stacks[6];
	uint32_t cr3, eip, eflags;
	uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
	uint32_t es, cs, ss, ds, fs, gs, ldt;
	uint16_t trap, iomap;
} __attribute__((packed));

struct tss16 {
	uint16_t link, stacks[6], ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt;
} __attribute__((packed));

/* What task B leaves at RESULT */
struct seen {
	uint32_t eax, esp, eflags, tr, cr0, ds, back, popped;
};

FIXTURE(tasks)
{
	struct guest g;
	uint8_t mmio[PAGE_SIZE];
	uint8_t *pointers;
	uint64_t pointers_at;
	struct tss32 *a, *b;
	struct tss16 *c;
	struct seen *seen;
};

FIXTURE_VARIANT(tasks)
{
	enum guest_mode mode;
	bool emulated;
};

FIXTURE_VARIANT_ADD(tasks, flat) { .mode = MODE_PROT32 };
FIXTURE_VARIANT_ADD(tasks, paging) { .mode = MODE_PAGE32 };
FIXTURE_VARIANT_ADD(tasks, flat_emulated) { .mode = MODE_PROT32, .emulated = true };
FIXTURE_VARIANT_ADD(tasks, paging_emulated) { .mode = MODE_PAGE32, .emulated = true };

FIXTURE_SETUP(tasks)
{
	if (variant->emulated && !strcmp(dev_path(), "/dev/kvm"))
		SKIP(return, "in-tree KVM's emulator does not know these instructions");
	guest_create(&self->g, 0);
	self->a = (void *)(self->g.mem + GUEST_TSS);
	self->b = (void *)(self->g.mem + TSS_B);
	self->c = (void *)(self->g.mem + TSS16);
	self->seen = (void *)(self->g.mem + RESULT);
	self->pointers = variant->emulated ? self->mmio : self->g.mem + GUEST_DATA;
	self->pointers_at = variant->emulated ? GUEST_MMIO : GUEST_DATA;
}

FIXTURE_TEARDOWN(tasks)
{
	if (self->g.mem)
		guest_destroy(&self->g);
}

static void far_pointer(FIXTURE_DATA(tasks) *self, int slot, uint16_t sel)
{
	*(uint32_t *)(self->pointers + slot) = 0;
	*(uint16_t *)(self->pointers + slot + 4) = sel;
}

/* Task A is the blob from its start, task B begins at @eip; ESI of A and EDI of B are the far pointers' place. */
static void prepare(FIXTURE_DATA(tasks) *self, enum guest_mode mode, struct guest_blob blob, uint32_t eip)
{
	struct guest *g = &self->g;
	struct kvm_regs r;

	guest_start(g, mode, blob);
	r = vcpu_regs(&g->cpu);
	r.rsi = self->pointers_at;
	vcpu_set_regs(&g->cpu, &r);
	guest_set_descriptor(g, SEL_TSS_B, TSS_B, 0x67, 0x0089);
	guest_set_descriptor(g, SEL_TSS16, TSS16, 0x2b, 0x0081);
	guest_set_descriptor(g, SEL_GATE_B, SEL_TSS_B, 0, 0x0085);
	((uint64_t *)(g->mem + GUEST_GDT))[SEL_GATE_B / 8] = 0x850000000000ULL | SEL_TSS_B << 16;
	*self->b = (struct tss32) {
		.cr3 = vcpu_sregs(&g->cpu).cr3, .eip = eip, .eflags = 0x803, .eax = 0xa0a0a0a0,
		.esp = STACK_B, .edi = self->pointers_at, .es = SEL_DATA, .cs = SEL_CODE32, .ss = SEL_DATA,
		.ds = SEL_DATA, .iomap = 0x68,
	};
	self->a->cr3 = self->b->cr3;
	far_pointer(self, TO_B, SEL_TSS_B);
	far_pointer(self, TO_A, SEL_TSS);
}

static void set_task_gate(struct guest *g, int vector)
{
	((uint64_t *)(g->mem + GUEST_IDT))[vector] = 0x850000000000ULL | SEL_TSS_B << 16;
}

static uint8_t access_byte(struct guest *g, uint16_t sel)
{
	return g->mem[GUEST_GDT + sel + 5];
}

/* Task B writes down what it sees. */
#define REPORT								\
	"movl %eax, " STR(RESULT) "\n" "movl %esp, " STR(RESULT) " + 4\n"	\
	"pushfl\n" "popl " STR(RESULT) " + 8\n" "xorl %eax, %eax\n"		\
	"strw %ax\n" "movl %eax, " STR(RESULT) " + 12\n"			\
	"smsw %eax\n" "movl %eax, " STR(RESULT) " + 16\n"			\
	"movl %ds, %eax\n" "movl %eax, " STR(RESULT) " + 20\n"
#define TASK_A								\
	"movl $0x11111111, %eax\n" "movl $0x22222222, %ecx\n" "movl $0x33333333, %ebx\n" "stc\n"
#define TASK_A_END							\
	"movl %eax, " STR(RESULT) " + 24\n" G_DONE

#define EXPECT_TASK_A_SAVED(next) do {					\
	EXPECT_EQ(GUEST_CODE + (next), self->a->eip);			\
	EXPECT_EQ(0x11111111, self->a->eax);				\
	EXPECT_EQ(0x22222222, self->a->ecx);				\
	EXPECT_EQ(0x33333333, self->a->ebx);				\
	EXPECT_EQ(GUEST_STACK, self->a->esp);				\
	EXPECT_EQ(X86_EFLAGS_CF, self->a->eflags & 0x8d5);		\
	EXPECT_EQ(SEL_CODE32, self->a->cs & 0xffff);			\
	EXPECT_EQ(SEL_DATA, self->a->ds & 0xffff);			\
} while (0)

#define EXPECT_TASK_B(nt) do {						\
	EXPECT_EQ(0xa0a0a0a0, self->seen->eax);				\
	EXPECT_EQ(STACK_B, self->seen->esp);				\
	EXPECT_EQ(0x803 | ((nt) ? 0x4000 : 0), self->seen->eflags & ~X86_EFLAGS_RF);	\
	EXPECT_EQ(SEL_TSS_B, self->seen->tr);				\
	EXPECT_EQ(X86_CR0_TS, self->seen->cr0 & X86_CR0_TS);		\
	EXPECT_EQ(SEL_DATA, self->seen->ds);				\
} while (0)

/* To where the code is that follows "1:" in a blob: each blob begins with a jump over task B. */
GUEST(by_jmp, 32,
	"jmp 1f\n"
	".org by_jmp_start + 0x10\n" REPORT "ljmp *8(%edi)\n"
	".org by_jmp_start + 0x80\n" "1: " TASK_A "ljmp *(%esi)\n" "2: " TASK_A_END
	".globl by_jmp_next\n.set by_jmp_next, 2b - by_jmp_start\n");
GUEST(by_call, 32,
	"jmp 1f\n"
	".org by_call_start + 0x10\n" REPORT "iretl\n"
	".org by_call_start + 0x80\n" "1: " TASK_A "lcall *(%esi)\n" "2: " TASK_A_END);
GUEST(by_int, 32,
	"jmp 1f\n"
	".org by_int_start + 0x10\n" REPORT "iretl\n"
	".org by_int_start + 0x80\n"
	"1: " TASK_A "int $" STR(VECTOR) "\n" "2: " TASK_A_END);
#define TASK_B_CODE	(GUEST_CODE + 0x10)
/* 0x80, five bytes each of three MOVs, STC, then an instruction of two bytes */
#define NEXT		(0x80 + 15 + 1 + 2)

TEST_F(tasks, jmp)
{
	struct guest *g = &self->g;

	prepare(self, variant->mode, BLOB(by_jmp), TASK_B_CODE);
	ASSERT_EQ(KVM_EXIT_IO, guest_run_mmio(g, self->mmio)) {
		guest_dump(g);
	}
	ASSERT_TRUE(guest_at_port(g, PORT_DONE)) {
		guest_dump(g);
	}
	EXPECT_TASK_A_SAVED(NEXT);
	EXPECT_TASK_B(false);
	EXPECT_EQ(0x11111111, self->seen->back);
	EXPECT_EQ(0, self->a->link);
	EXPECT_EQ(0, self->b->link);
	EXPECT_EQ(0x8b, access_byte(g, SEL_TSS));
	EXPECT_EQ(0x89, access_byte(g, SEL_TSS_B));
	EXPECT_EQ(SEL_TSS, vcpu_sregs(&g->cpu).tr.selector);
	EXPECT_EQ(11, vcpu_sregs(&g->cpu).tr.type);
	EXPECT_LT(TASK_B_CODE, self->b->eip);
}

TEST_F(tasks, jmp_through_gate)
{
	struct guest *g = &self->g;

	prepare(self, variant->mode, BLOB(by_jmp), TASK_B_CODE);
	far_pointer(self, TO_B, SEL_GATE_B);
	ASSERT_EQ(KVM_EXIT_IO, guest_run_mmio(g, self->mmio)) {
		guest_dump(g);
	}
	ASSERT_TRUE(guest_at_port(g, PORT_DONE)) {
		guest_dump(g);
	}
	EXPECT_TASK_A_SAVED(NEXT);
	EXPECT_TASK_B(false);
}

TEST_F(tasks, call_and_iret)
{
	struct guest *g = &self->g;

	prepare(self, variant->mode, BLOB(by_call), TASK_B_CODE);
	ASSERT_EQ(KVM_EXIT_IO, guest_run_mmio(g, self->mmio)) {
		guest_dump(g);
	}
	ASSERT_TRUE(guest_at_port(g, PORT_DONE)) {
		guest_dump(g);
	}
	EXPECT_TASK_A_SAVED(NEXT);
	EXPECT_TASK_B(true);
	EXPECT_EQ(0x11111111, self->seen->back);
	EXPECT_EQ(SEL_TSS, self->b->link);
	EXPECT_EQ(0x8b, access_byte(g, SEL_TSS));
	EXPECT_EQ(0x89, access_byte(g, SEL_TSS_B));
	EXPECT_EQ(0, self->b->eflags & 0x4000);
	EXPECT_EQ(SEL_TSS, vcpu_sregs(&g->cpu).tr.selector);
}

/* The task that the call leaves is busy: it cannot be entered again. */
GUEST(recursive, 32,
	"jmp 1f\n"
	".org recursive_start + 0x10\n" "lcall *8(%edi)\n" "ud2\n"
	".org recursive_start + 0x80\n" "1: " TASK_A "lcall *(%esi)\n" "ud2\n");

TEST_F(tasks, busy_task)
{
	struct guest *g = &self->g;
	struct guest_exc e;

	prepare(self, variant->mode, BLOB(recursive), TASK_B_CODE);
	ASSERT_EQ(KVM_EXIT_IO, guest_run_mmio(g, self->mmio)) {
		guest_dump(g);
	}
	e = guest_exc(g);
	EXPECT_EQ(GP_VECTOR, e.vector);
	EXPECT_EQ(SEL_TSS, e.error);
	EXPECT_EQ(TASK_B_CODE, e.rip);
}

TEST_F(tasks, software_interrupt)
{
	struct guest *g = &self->g;

	if (in_testhost("svm-nrip"))
		SKIP(return, "in Bochs' AMD-V an INT through a task gate is #GP, under in-tree KVM too");
	prepare(self, variant->mode, BLOB(by_int), TASK_B_CODE);
	set_task_gate(g, VECTOR);
	ASSERT_DONE(g);
	EXPECT_TASK_A_SAVED(NEXT);
	EXPECT_TASK_B(true);
	EXPECT_EQ(SEL_TSS, self->b->link);
	EXPECT_EQ(0x11111111, self->seen->back);
}

/*
 * #NP by a load of an absent segment: the handler's task finds the error code, and lets the old task go on. Its
 * stack is touched before: QEMU's TCG cannot be interrupted by a nested page fault within a task switch.
 */
GUEST(by_exception, 32,
	"jmp 1f\n"
	".org by_exception_start + 0x10\n" "popl " STR(RESULT) " + 28\n"
	REPORT "addl $2, " STR(GUEST_TSS) " + 0x20\n" "iretl\n"
	".org by_exception_start + 0x80\n" "1: movl $" STR(SEL_ABSENT) ", %edx\n" "movl %edx, " STR(STACK_B) " - 4\n" TASK_A "movl %edx, %fs\n" TASK_A_END);

TEST_F(tasks, exception)
{
	struct guest *g = &self->g;

	prepare(self, variant->mode, BLOB(by_exception), TASK_B_CODE);
	set_task_gate(g, NP_VECTOR);
	ASSERT_DONE(g);
	EXPECT_TASK_A_SAVED(NEXT + 5 + 6);
	EXPECT_TASK_B(true);
	EXPECT_EQ(SEL_ABSENT, self->seen->popped);
	EXPECT_EQ(0x11111111, self->seen->back);
}

GUEST(by_interrupt, 32,
	"jmp 1f\n"
	".org by_interrupt_start + 0x10\n" REPORT "iretl\n"
	".org by_interrupt_start + 0x80\n"
	"1: " TASK_A "sti\n" G_SYNC "nop\n" "cli\n" TASK_A_END);

TEST_F(tasks, interrupt)
{
	struct guest *g = &self->g;
	struct kvm_interrupt irq = { .irq = VECTOR };

	prepare(self, variant->mode, BLOB(by_interrupt), TASK_B_CODE);
	set_task_gate(g, VECTOR);
	ASSERT_PORT(PORT_SYNC, g);
	vcpu_complete_io(&g->cpu);
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_INTERRUPT, &irq));
	ASSERT_DONE(g);
	EXPECT_TASK_A_SAVED(NEXT + 1);
	EXPECT_TASK_B(true);
	EXPECT_EQ(X86_EFLAGS_IF, self->a->eflags & X86_EFLAGS_IF);
	EXPECT_EQ(0x11111111, self->seen->back);
}

/* A 16-bit task in 16-bit code, and back by IRET. */
GUEST(task16, 32,
	"jmp 1f\n"
	".org task16_start + 0x10\n" ".code16\n"
	"movw %ax, 0x10\n" "movw %sp, 0x12\n" "pushfw\n" "popw 0x14\n" "iretw\n" ".code32\n"
	".org task16_start + 0x80\n" "1: " TASK_A "lcall *(%esi)\n" "2: " TASK_A_END);

TEST_F(tasks, sixteen_bit_task)
{
	struct guest *g = &self->g;
	uint16_t *data = (uint16_t *)(g->mem + GUEST_DATA);

	prepare(self, variant->mode, BLOB(task16), TASK_B_CODE);
	far_pointer(self, TO_B, SEL_TSS16);
	*self->c = (struct tss16) {
		.ip = 0x10, .flags = 0x803, .ax = 0xa0a0, .sp = 0xff00, .es = SEL_DATA16, .cs = SEL_CODE16,
		.ss = SEL_STACK16, .ds = SEL_DATA16,
	};
	ASSERT_EQ(KVM_EXIT_IO, guest_run_mmio(g, self->mmio)) {
		guest_dump(g);
	}
	ASSERT_TRUE(guest_at_port(g, PORT_DONE)) {
		guest_dump(g);
	}
	EXPECT_TASK_A_SAVED(NEXT);
	EXPECT_EQ(0xa0a0, data[8]);
	EXPECT_EQ(0xff00, data[9]);
	EXPECT_EQ(0x4803, data[10]);
	EXPECT_EQ(SEL_TSS, self->c->link);
	EXPECT_EQ(0x81, access_byte(g, SEL_TSS16));
	EXPECT_EQ(0x11111111, self->seen->back);
}

/* A virtual-8086 task: it may compute, and what it may not do is #GP in protected mode. */
GUEST(task_vm, 32,
	"jmp 1f\n"
	".org task_vm_start + 0x10\n" ".code16\n" "movw %ds, %bx\n" "movw %bx, 0x10\n" "movw %bx, %es:0x40\n" "hlt\n" ".code32\n"
	".org task_vm_start + 0x80\n" "1: " TASK_A "ljmp *(%esi)\n");

TEST_F(tasks, virtual_8086_task)
{
	struct guest *g = &self->g;
	struct guest_exc e;
	struct kvm_run *run = g->cpu.run;
	struct kvm_sregs s;
	long ret;

	if (in_testhost("svm-nrip"))
		SKIP(return, "Bochs' AMD-V has no guests in virtual-8086 mode");
	prepare(self, variant->mode, BLOB(task_vm), 0x10);
	self->b->eflags = 0x20002;
	self->b->cs = GUEST_CODE >> 4;
	self->b->ds = GUEST_DATA >> 4;
	self->b->ss = 0x3000;
	self->b->esp = 0xff00;
	self->b->stacks[0] = GUEST_STACK;
	self->b->stacks[1] = SEL_DATA;
	self->b->es = GUEST_MMIO >> 4;
	while ((ret = guest_run(g)) == KVM_EXIT_MMIO && !run->mmio.is_write)
		memcpy(run->mmio.data, self->mmio + run->mmio.phys_addr - GUEST_MMIO, run->mmio.len);
	ASSERT_EQ(KVM_EXIT_MMIO, ret) {
		guest_dump(g);
	}
	EXPECT_EQ(GUEST_MMIO + 0x40, run->mmio.phys_addr);
	EXPECT_EQ(GUEST_DATA >> 4, *(uint16_t *)(g->mem + GUEST_DATA + 0x10));
	s = vcpu_sregs(&g->cpu);
	EXPECT_EQ(GUEST_CODE >> 4, s.cs.selector);
	EXPECT_EQ(GUEST_CODE, s.cs.base);
	EXPECT_EQ(3, s.cs.dpl);
	EXPECT_EQ(SEL_TSS_B, s.tr.selector);
	EXPECT_EQ(11, s.tr.type);
	EXPECT_EQ(0x20000, vcpu_regs(&g->cpu).rflags & 0x20000);
	/* QEMU's TCG gives up ("invalid tss type") at an inner stack of a TSS that VMRUN loaded as busy. */
	if (variant->emulated && in_testhost("svm"))
		return;
	ASSERT_PORT(PORT_EXC, g);
	e = guest_exc(g);
	EXPECT_EQ(GP_VECTOR, e.vector);
	EXPECT_EQ(0, e.error);
	EXPECT_EQ(GUEST_CODE >> 4, e.cs);
	EXPECT_EQ(0x10 + 2 + 4 + 5, e.rip);
	EXPECT_EQ(0x20000, e.rflags & 0x20000);
}

/* What the new task's segments have wrong is its own fault: the handler is called from it. */
TEST_F(tasks, new_task_with_bad_segment)
{
	struct guest *g = &self->g;
	struct guest_exc e;

	prepare(self, variant->mode, BLOB(by_jmp), TASK_B_CODE);
	self->b->ds = SEL_CODE16 + 0x100;
	ASSERT_EQ(KVM_EXIT_IO, guest_run_mmio(g, self->mmio)) {
		guest_dump(g);
	}
	e = guest_exc(g);
	EXPECT_EQ(TS_VECTOR, e.vector);
	EXPECT_EQ(SEL_CODE16 + 0x100, e.error);
	/* QEMU's TCG says where the old task was. */
	if (variant->emulated || !in_testhost("svm"))
		EXPECT_EQ(TASK_B_CODE, e.rip);
	EXPECT_EQ(STACK_B, e.rsp);
	EXPECT_EQ(SEL_TSS_B, vcpu_sregs(&g->cpu).tr.selector);
	EXPECT_EQ(0xa0a0a0a0, vcpu_regs(&g->cpu).rax);
}

TEST_F(tasks, tss_too_short)
{
	struct guest *g = &self->g;
	struct guest_exc e;

	prepare(self, variant->mode, BLOB(by_jmp), TASK_B_CODE);
	guest_set_descriptor(g, SEL_TSS_B, TSS_B, 0x66, 0x0089);
	ASSERT_EQ(KVM_EXIT_IO, guest_run_mmio(g, self->mmio)) {
		guest_dump(g);
	}
	e = guest_exc(g);
	EXPECT_EQ(TS_VECTOR, e.vector);
	EXPECT_EQ(SEL_TSS_B, e.error);
	EXPECT_EQ(GUEST_CODE + NEXT - 2, e.rip);
	EXPECT_EQ(SEL_TSS, vcpu_sregs(&g->cpu).tr.selector);
}

TEST_F(tasks, tss_not_present)
{
	struct guest *g = &self->g;
	struct guest_exc e;

	prepare(self, variant->mode, BLOB(by_jmp), TASK_B_CODE);
	guest_set_descriptor(g, SEL_TSS_B, TSS_B, 0x67, 0x0009);
	ASSERT_EQ(KVM_EXIT_IO, guest_run_mmio(g, self->mmio)) {
		guest_dump(g);
	}
	e = guest_exc(g);
	EXPECT_EQ(NP_VECTOR, e.vector);
	EXPECT_EQ(SEL_TSS_B, e.error);
	EXPECT_EQ(GUEST_CODE + NEXT - 2, e.rip);
}

/* The T flag of the new TSS: #DB before its first instruction. */
TEST_F(tasks, debug_trap)
{
	struct guest *g = &self->g;
	struct guest_exc e;
	struct kvm_debugregs dr;

	prepare(self, variant->mode, BLOB(by_jmp), TASK_B_CODE);
	self->b->trap = 1;
	ASSERT_EQ(KVM_EXIT_IO, guest_run_mmio(g, self->mmio)) {
		guest_dump(g);
	}
	if (!variant->emulated && in_testhost("svm"))
		SKIP(return, "QEMU's TCG has no T flag in a TSS");
	e = guest_exc(g);
	EXPECT_EQ(DB_VECTOR, e.vector);
	EXPECT_EQ(TASK_B_CODE, e.rip);
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_DEBUGREGS, &dr));
	EXPECT_EQ(0x8000, dr.dr6 & 0xe00f);
}

TEST_HARNESS_MAIN
