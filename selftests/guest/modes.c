// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPU modes that the guest enters by itself: real mode to protected mode, paging, PAE, long mode, compatibility
 * mode and all the way back, and user mode with SYSCALL, SYSRET, SYSENTER and interrupts (SDM volume 3, 9.8 and
 * 9.9; APM volume 2, 14.6).
 */
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

/*
 * Starts in real mode at 1000:0. R15-like results are left in memory, a word a stage. The descriptor tables are
 * the ones that guest_set_mode() wrote.
 */
#define RESULT		0x41000
#define MARK(n)		"movl $" #n ", " STR(RESULT) " + 4 * " #n "\n"

GUEST(up_and_down, 16,
	"cli\n"
	"movw $0x4100, %ax\n" "movw %ax, %ds\n" "movl $1, 4\n"
	"xorw %ax, %ax\n" "movw %ax, %ds\n"
	"lgdtl %cs:(9f - up_and_down_start)\n"
	"movl %cr0, %eax\n" "orl $1, %eax\n" "movl %eax, %cr0\n"
	"ljmpl $" STR(SEL_CODE32) ", $" GUEST_AT(up_and_down, 1f) "\n"
	".code32\n"
	"1: movl $" STR(SEL_DATA) ", %eax\n" "movl %eax, %ds\n" "movl %eax, %es\n" "movl %eax, %ss\n"
	"movl $" STR(GUEST_STACK) ", %esp\n"
	MARK(2)
	/* 32-bit paging with 4 MiB pages */
	"movl %cr4, %eax\n" "orl $0x10, %eax\n" "movl %eax, %cr4\n"
	"movl $" STR(GUEST_PD32) ", %eax\n" "movl %eax, %cr3\n"
	"movl %cr0, %eax\n" "orl $0x80000000, %eax\n" "movl %eax, %cr0\n"
	MARK(3)
	/* off, and PAE */
	"movl %cr0, %eax\n" "andl $0x7fffffff, %eax\n" "movl %eax, %cr0\n"
	"movl %cr4, %eax\n" "orl $0x20, %eax\n" "movl %eax, %cr4\n"
	"movl $" STR(GUEST_PAE_PDPT) ", %eax\n" "movl %eax, %cr3\n"
	"movl %cr0, %eax\n" "orl $0x80000000, %eax\n" "movl %eax, %cr0\n"
	MARK(4)
	/* off, and long mode */
	"movl %cr0, %eax\n" "andl $0x7fffffff, %eax\n" "movl %eax, %cr0\n"
	"movl $" STR(GUEST_PML4) ", %eax\n" "movl %eax, %cr3\n"
	"movl $" STR(MSR_EFER) ", %ecx\n" "rdmsr\n" "orl $0x100, %eax\n" "wrmsr\n"
	"movl %cr0, %eax\n" "orl $0x80000000, %eax\n" "movl %eax, %cr0\n"
	/* compatibility mode now */
	MARK(5)
	"rdmsr\n" "movl %eax, " STR(RESULT) "\n"
	"outb %al, $" STR(PORT_SYNC) "\n"
	"ljmpl $" STR(SEL_CODE64) ", $" GUEST_AT(up_and_down, 2f) "\n"
	".code64\n"
	"2: movabsq $0x1122334455667788, %rbx\n"
	"movl $6, " STR(RESULT) " + 24\n"
	"outb %al, $" STR(PORT_SYNC) "\n"
	/* down again: compatibility mode by far return */
	"pushq $" STR(SEL_CODE32) "\n" "pushq $" GUEST_AT(up_and_down, 3f) "\n" "lretq\n"
	".code32\n"
	"3: movl %cr0, %eax\n" "andl $0x7fffffff, %eax\n" "movl %eax, %cr0\n"
	"movl $" STR(MSR_EFER) ", %ecx\n" "rdmsr\n" "andl $~0x100, %eax\n" "wrmsr\n"
	"movl %cr4, %eax\n" "andl $~0x30, %eax\n" "movl %eax, %cr4\n"
	MARK(7)
	"ljmpl $" STR(SEL_CODE16) ", $(4f - up_and_down_start)\n"
	".code16\n"
	"4: movw $" STR(SEL_DATA16) ", %ax\n" "movw %ax, %ds\n" "movw %ax, %es\n" "movw %ax, %ss\n"
	"movl $8, 0x1020\n"
	"movl %cr0, %eax\n" "andl $~1, %eax\n" "movl %eax, %cr0\n"
	"ljmpw $" STR(GUEST_CODE) " >> 4, $(5f - up_and_down_start)\n"
	"5: movw $0x4100, %ax\n" "movw %ax, %ds\n" "movw $0x2000, %ax\n" "movw %ax, %ss\n" "movw $0xff00, %sp\n"
	"movl $9, 36\n"
	/* A nested fault here is another test's, and Bochs' AMD-V loses the INT by it. */
	"xorw %ax, %ax\n" "movw %ax, %es\n" "movl %es:0x84, %eax\n" "pushw %ax\n" "popw %ax\n"
	"int $0x21\n"
	"movl $10, 40\n"
	G_DONE
	"9: .word 0xfff\n .long " STR(GUEST_GDT) "\n");

TEST(all_modes_and_back)
{
	struct guest g;
	struct kvm_sregs s;
	uint32_t *result;
	int i;

	guest_create(&g, 0);
	guest_start(&g, MODE_REAL, BLOB(up_and_down));
	result = (uint32_t *)(g.mem + RESULT);
	ASSERT_PORT(PORT_SYNC, &g);
	s = vcpu_sregs(&g.cpu);
	EXPECT_EQ(X86_EFER_LME | X86_EFER_LMA, s.efer);
	EXPECT_EQ(0, s.cs.l);
	EXPECT_EQ(1, s.cs.db);
	EXPECT_EQ(X86_EFER_LME | X86_EFER_LMA, result[0]);
	ASSERT_PORT(PORT_SYNC, &g);
	s = vcpu_sregs(&g.cpu);
	EXPECT_EQ(1, s.cs.l);
	EXPECT_EQ(SEL_CODE64, s.cs.selector);
	EXPECT_EQ(GUEST_PML4, s.cr3);
	EXPECT_EQ(0x1122334455667788, vcpu_regs(&g.cpu).rbx);
	for (i = 1; i <= 6; i++) {
		EXPECT_EQ(i, result[i]);
	}
	/* The software interrupt of real mode goes through the table at 0, which the stubs are in. */
	ASSERT_PORT(PORT_EXC, &g);
	EXPECT_EQ(0x21, guest_exc(&g).vector);
	EXPECT_EQ(GUEST_CODE >> 4, guest_exc(&g).cs);
	s = vcpu_sregs(&g.cpu);
	EXPECT_EQ(0, s.cr0 & (X86_CR0_PE | X86_CR0_PG));
	EXPECT_EQ(0, s.efer);
	EXPECT_EQ(0, s.cs.selector);
	ASSERT_DONE(&g);
	for (i = 7; i <= 10; i++) {
		EXPECT_EQ(i, result[i]);
	}
	EXPECT_EQ(GUEST_CODE, vcpu_sregs(&g.cpu).cs.base);
	guest_destroy(&g);
}

/* Real mode with segments beyond 64 KiB ("unreal mode"): the limit that protected mode loaded stays. */
GUEST(unreal, 16,
	"lgdtl %cs:(9f - unreal_start)\n"
	"movl %cr0, %eax\n" "orl $1, %eax\n" "movl %eax, %cr0\n"
	"movw $" STR(SEL_DATA) ", %bx\n" "movw %bx, %ds\n"
	"andl $~1, %eax\n" "movl %eax, %cr0\n"
	"movl $0x00200000, %esi\n" "movl $0xfeedbeef, (%esi)\n"
	G_DONE
	"9: .word 0xfff\n .long " STR(GUEST_GDT) "\n");

TEST(unreal_mode)
{
	struct guest g;

	guest_create(&g, 0);
	guest_start(&g, MODE_REAL, BLOB(unreal));
	ASSERT_DONE(&g);
	EXPECT_EQ(0xfeedbeef, *(uint32_t *)(g.mem + 0x200000));
	guest_destroy(&g);
}

/* To user mode by IRETQ; what it may not do is #GP there; SYSCALL comes back, SYSRETQ goes out again. */
GUEST(user, 64,
	"movl $" STR(MSR_STAR) ", %ecx\n" "xorl %eax, %eax\n" "movl $0x00330008, %edx\n" "wrmsr\n"
	"movl $" STR(MSR_LSTAR) ", %ecx\n" "movl $" GUEST_AT(user, 3f) ", %eax\n" "xorl %edx, %edx\n" "wrmsr\n"
	"movl $" STR(MSR_SFMASK) ", %ecx\n" "movl $0x200, %eax\n" "xorl %edx, %edx\n" "wrmsr\n"
	"pushq $" STR(SEL_UDATA) "\n" "pushq $" STR(GUEST_STACK2) "\n" "pushq $0x202\n"
	"pushq $" STR(SEL_UCODE64) "\n" "pushq $" GUEST_AT(user, 1f) "\n" "iretq\n"
	"1: movl $0x11, %r8d\n"
	"syscall\n"
	"movl $0x22, %r9d\n"
	"syscall\n"
	"2: hlt\n"			/* privileged: #GP */
	/* kernel side */
	"3: movl %ecx, %r12d\n" "movq %r11, %r13\n" "pushfq\n" "popq %r14\n"
	G_SYNC
	"sysretq\n");

TEST(user_mode_and_syscall)
{
	struct guest g;
	struct guest_exc e;
	struct kvm_sregs s;
	struct kvm_regs r;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(user));
	ASSERT_PORT(PORT_SYNC, &g);
	r = vcpu_regs(&g.cpu);
	s = vcpu_sregs(&g.cpu);
	EXPECT_EQ(0x11, r.r8);
	EXPECT_EQ(0, r.r9);
	EXPECT_EQ(X86_EFLAGS_IF, r.r13 & X86_EFLAGS_IF);
	EXPECT_EQ(0, r.r14 & X86_EFLAGS_IF);
	EXPECT_EQ(SEL_CODE64, s.cs.selector);
	EXPECT_EQ(0, s.cs.dpl);
	EXPECT_EQ(GUEST_STACK2, r.rsp);
	ASSERT_PORT(PORT_SYNC, &g);
	EXPECT_EQ(0x22, vcpu_regs(&g.cpu).r9);
	ASSERT_PORT(PORT_EXC, &g);
	e = guest_exc(&g);
	EXPECT_EQ(GP_VECTOR, e.vector);
	EXPECT_EQ(0, e.error);
	EXPECT_EQ(SEL_UCODE64, e.cs);
	EXPECT_EQ(SEL_UDATA, e.ss);
	EXPECT_EQ(GUEST_STACK2, e.rsp);
	/* The handler runs on the stack of the TSS. */
	EXPECT_EQ(GUEST_STACK - 56, vcpu_regs(&g.cpu).rsp);
	guest_destroy(&g);
}

/* KVM_GET_SREGS and KVM_SET_SREGS in user mode: CPL is kept. */
GUEST(user_loop, 64,
	"pushq $" STR(SEL_UDATA) "\n" "pushq $" STR(GUEST_STACK2) "\n" "pushq $0x3202\n"	/* IOPL 3 */
	"pushq $" STR(SEL_UCODE64) "\n" "pushq $" GUEST_AT(user_loop, 1f) "\n" "iretq\n"
	"1: " G_SYNC "movq %cs, %rax\n" "jmp 1b\n");

TEST(user_mode_round_trip)
{
	struct guest g;
	struct kvm_sregs s;
	struct kvm_regs r;
	int i;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(user_loop));
	for (i = 0; i < 3; i++) {
		ASSERT_PORT(PORT_SYNC, &g);
		vcpu_complete_io(&g.cpu);
		s = vcpu_sregs(&g.cpu);
		r = vcpu_regs(&g.cpu);
		EXPECT_EQ(3, s.cs.dpl);
		EXPECT_EQ(3, s.ss.dpl);
		EXPECT_EQ(SEL_UCODE64, s.cs.selector);
		vcpu_set_sregs(&g.cpu, &s);
		vcpu_set_regs(&g.cpu, &r);
	}
	EXPECT_EQ(SEL_UCODE64, vcpu_regs(&g.cpu).rax);
	guest_destroy(&g);
}

GUEST(sysenter, 32,
	"movl $" STR(MSR_IA32_SYSENTER_CS) ", %ecx\n" "movl $" STR(SEL_CODE32) ", %eax\n" "xorl %edx, %edx\n" "wrmsr\n"
	"movl $" STR(MSR_IA32_SYSENTER_ESP) ", %ecx\n" "movl $" STR(GUEST_STACK2) ", %eax\n" "wrmsr\n"
	"movl $" STR(MSR_IA32_SYSENTER_EIP) ", %ecx\n" "movl $" GUEST_AT(sysenter, 1f) ", %eax\n" "wrmsr\n"
	"sysenter\n"
	"ud2\n"
	"1: movl %cs, %ebx\n" "movl %ss, %edi\n" "movl %esp, %esi\n" G_DONE);

TEST(sysenter_32_bit)
{
	struct guest g;
	struct kvm_regs r;

	guest_create(&g, 0);
	guest_start(&g, MODE_PROT32, BLOB(sysenter));
	ASSERT_DONE(&g);
	r = vcpu_regs(&g.cpu);
	EXPECT_EQ(SEL_CODE32, r.rbx);
	EXPECT_EQ(SEL_CODE32 + 8, r.rdi);
	EXPECT_EQ(GUEST_STACK2, r.rsi);
	EXPECT_EQ(GUEST_STACK2, vcpu_sregs(&g.cpu).ss.base + r.rsp);
	guest_destroy(&g);
}

/* CR0, CR4, EFER, DR and CR8 as the guest reads them back. */
GUEST(registers, 64,
	"movq %cr0, %rax\n" "xorq $0x40000, %rax\n" "movq %rax, %cr0\n" "movq %cr0, %rbx\n"
	"smsw %ecx\n" "clts\n" "orl $8, %ecx\n" "lmsw %cx\n" "movq %cr0, %rdx\n" "clts\n" "movq %cr0, %rsi\n"
	"movl $5, %eax\n" "movq %rax, %cr8\n" "movq %cr8, %rdi\n"
	"movl $0x12345678, %eax\n" "movq %rax, %cr2\n" "movq %cr2, %r8\n"
	"movq %rax, %dr1\n" "movq %dr1, %r9\n" "movq %dr6, %r10\n" "movq %dr7, %r11\n"
	"movq %cr3, %r12\n" "movq %cr4, %r13\n"
	G_DONE);

TEST(control_registers)
{
	struct guest g;
	struct kvm_regs r;
	uint64_t cr0;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(registers));
	cr0 = vcpu_sregs(&g.cpu).cr0;
	ASSERT_DONE(&g);
	r = vcpu_regs(&g.cpu);
	EXPECT_EQ(cr0 ^ X86_CR0_AM, r.rbx);
	EXPECT_EQ((cr0 ^ X86_CR0_AM) | X86_CR0_TS, r.rdx);
	EXPECT_EQ(cr0 ^ X86_CR0_AM, r.rsi);
	EXPECT_EQ(5, r.rdi);
	EXPECT_EQ(0x12345678, r.r8);
	EXPECT_EQ(0x12345678, r.r9);
	EXPECT_EQ(0xffff0ff0, r.r10);
	EXPECT_EQ(0x400, r.r11);
	EXPECT_EQ(GUEST_PML4, r.r12);
	/* In-tree KVM lets the guest see the host's CR4.MCE on SVM. */
	EXPECT_EQ(X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT, r.r13 & ~X86_CR4_MCE);
	EXPECT_EQ(cr0 ^ X86_CR0_AM, vcpu_sregs(&g.cpu).cr0);
	EXPECT_EQ(5, vcpu_sregs(&g.cpu).cr8);
	guest_destroy(&g);
}

GUEST(nothing, 32, G_DONE);

/* A client may leave anything in the high half of CR3; in-tree KVM lets the CPU refuse that. */
TEST(high_bits_of_cr3)
{
	static const enum guest_mode modes[] = { MODE_PROT32, MODE_PAGE32, MODE_PAE };
	struct kvm_sregs sregs;
	struct guest g;
	size_t i;

	guest_create(&g, 0);
	if (!dev_is_keel(g.dev)) {
		guest_destroy(&g);
		SKIP(return, "in-tree KVM: the entry fails");
	}
	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		guest_start(&g, modes[i], BLOB(nothing));
		sregs = vcpu_sregs(&g.cpu);
		sregs.cr3 |= 1ULL << 45;
		vcpu_set_sregs(&g.cpu, &sregs);
		ASSERT_DONE(&g);
	}
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
