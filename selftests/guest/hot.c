// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exits that come again and again, which a hypervisor serves by what it knows of the last ones: that what it knows is true
 * each time, and that what comes with an instruction's end, a trap or the end of an interrupt shadow, is not lost.
 * Intel SDM volume 2, STI; volume 3, 6.8 and 17.3.1.4 (single step); 11.8.5 (EOI).
 */
#include <string.h>
#include "kselftest_harness.h"
#include "guest.h"

#define VEC		0x61
#define ISR_WORD	0x130		/* of VEC */
#define SELF_IPI	"movl $0x44061, 0x300(%rdi)\n"
#define ENABLE_APIC	"movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n"
#define TSC_ADJUST	"movl $0x3b, %ecx\n" "xorl %eax, %eax\n" "xorl %edx, %edx\n"
#define MSR_CPUID_FAULTS	0x140

FIXTURE(hot) {
	struct guest g;
};

FIXTURE_SETUP(hot)
{
	guest_create(&self->g, GUEST_IRQCHIP);
	vcpu_set_supported_cpuid(&self->g.cpu, self->g.dev);
}

FIXTURE_TEARDOWN(hot)
{
	guest_destroy(&self->g);
}

/* Four times, the last of them stepped. The only NOP is behind it. */
#define STEPPED(name, ready, insn)						\
	GUEST(name##_stepped, 64,						\
	      "movl $4, %ebp\n" "1:" ready insn "decl %ebp\n" "jnz 1b\n" ready	\
	      "pushfq\n" "orq $0x100, (%rsp)\n" "popfq\n" insn "nop\n" G_DONE);	\
	/* The same with an interrupt that waits for the end of STI's shadow. */	\
	GUEST(name##_shadowed, 64,						\
	      ENABLE_APIC "movl $0, 0xb0(%rdi)\n" "movl $4, %ebp\n" "1:" ready insn "decl %ebp\n" "jnz 1b\n"	\
	      SELF_IPI ready "sti\n" insn "nop\n" "cli\n" G_DONE)

STEPPED(cpuid, "xorl %eax, %eax\n" "xorl %ecx, %ecx\n", "cpuid\n");
STEPPED(rdmsr, TSC_ADJUST, "rdmsr\n");
STEPPED(wrmsr, TSC_ADJUST, "wrmsr\n");
STEPPED(vmmcall, "movl $1000, %eax\n", "vmmcall\n");
STEPPED(vmcall, "movl $1000, %eax\n", "vmcall\n");
STEPPED(pic, "", "inb $0x21, %al\n");
STEPPED(pic_mask, "movb $0xff, %al\n", "outb %al, $0x21\n");

#define NAMED(name)	{ #name, BLOB(name##_stepped), BLOB(name##_shadowed) }

static const struct {
	const char *name;
	struct guest_blob stepped, shadowed;
} instructions[] = { NAMED(cpuid), NAMED(rdmsr), NAMED(wrmsr), NAMED(vmmcall), NAMED(vmcall), NAMED(pic),
		      NAMED(pic_mask) };

/* Is the frame on the guest's stack one of that vector, behind the instruction? */
static bool behind(struct guest *g, int vector)
{
	struct guest_exc e = guest_exc(g);

	return e.vector == vector && e.rip >= GUEST_CODE && g->mem[e.rip] == 0x90;
}

TEST_F(hot, trap_flag)
{
	struct guest *g = &self->g;
	int i;

	if (in_testhost("vmx"))
		SKIP(return, "after an exit, Bochs' VT-x takes the trap of the instruction that is to come");
	for (i = 0; i < ARRAY_SIZE(instructions); i++) {
		/* In-tree KVM loses the trap where it has emulated the other vendor's instruction. */
		if (!dev_is_keel(g->dev) && strstr(instructions[i].name, "call"))
			continue;
		guest_start(g, MODE_LONG, instructions[i].stepped);
		ASSERT_PORT(PORT_EXC, g);
		EXPECT_TRUE(behind(g, DB_VECTOR)) {
			TH_LOG("%s: vector %ld at %#lx", instructions[i].name, (long)guest_exc(g).vector,
			       (long)guest_exc(g).rip);
		}
	}
}

TEST_F(hot, interrupt_shadow)
{
	struct guest *g = &self->g;
	int i;

	for (i = 0; i < ARRAY_SIZE(instructions); i++) {
		/* The other vendor's raises #UD first, and emulators let that end the shadow. */
		if (!strcmp(instructions[i].name, in_testhost("vmx") ? "vmmcall" : "vmcall"))
			continue;
		guest_start(g, MODE_LONG, instructions[i].shadowed);
		ASSERT_PORT(PORT_EXC, g);
		EXPECT_TRUE(behind(g, VEC)) {
			TH_LOG("%s: vector %ld at %#lx", instructions[i].name, (long)guest_exc(g).vector,
			       (long)guest_exc(g).rip);
		}
	}
}

/* The mask of the PIC is written and read in turns; OUT to the port of the client's lies in between. */
GUEST(port_values, 64,
	"movl $8, %ebp\n" "movabsq $0x1122334455667788, %rbx\n"
	"1: movq %rbx, %rax\n" "movb %bpl, %al\n" "outb %al, $0x21\n" "movb $0x77, %al\n" "inb $0x21, %al\n"
	"movb %bpl, %bl\n" "cmpq %rbx, %rax\n" "jne 2f\n" "outb %al, $" STR(PORT_SYNC) "\n"
	"decl %ebp\n" "jnz 1b\n" G_DONE "2: ud2\n");

TEST_F(hot, port_values)
{
	struct guest *g = &self->g;
	int i;

	guest_start(g, MODE_LONG, BLOB(port_values));
	for (i = 8; i; i--) {
		ASSERT_PORT(PORT_SYNC, g);
		EXPECT_EQ(i, ((uint8_t *)g->cpu.run)[g->cpu.run->io.data_offset]);
		EXPECT_EQ(0x1122334455667700 + i, vcpu_regs(&g->cpu).rax);
	}
	ASSERT_DONE(g);
}

GUEST(eoi, 64,
	ENABLE_APIC "xorl %esi, %esi\n"
	"1:" SELF_IPI "sti\n" "nop\n" "cli\n"
	".globl eoi_by\n" "eoi_by: movl $0, 0xb0(%rdi)\n" "pushq %rax\n" "pushq %rax\n"
	"movq %rsp, %rdx\n" "movl $" STR(GUEST_STACK) ", %esp\n"
	"movl " STR(ISR_WORD) "(%rdi), %ebx\n" G_SYNC "jmp 1b\n");
extern const char eoi_by[];

/* Ways to write to the register at 0xb0(%rdi), @len bytes; the rest of twelve is PUSHes, so that none can be missed. */
#define WAY(name, ...)	{ name, sizeof((uint8_t[]){ __VA_ARGS__ }), { __VA_ARGS__ } }
#define IN_EOI		0xb0, 0, 0, 0
#define ZERO		0, 0, 0, 0

static const struct {
	const char *name;
	int len;
	uint8_t code[12];
} ways[] = {
	WAY("mov imm", 0xc7, 0x87, IN_EOI, ZERO),
	WAY("mov reg", 0x89, 0xb7, IN_EOI),
	WAY("another register first", 0x89, 0x77, 0x00, 0x89, 0xb7, IN_EOI),
	WAY("xchg", 0x87, 0xb7, IN_EOI),
	WAY("and", 0x21, 0xb7, IN_EOI),
	WAY("mov with DS prefix", 0x3e, 0xc7, 0x87, IN_EOI, ZERO),
	WAY("mov, rex", 0x40, 0xc7, 0x87, IN_EOI, ZERO),
	WAY("movnti", 0x0f, 0xc3, 0xb7, IN_EOI),
};

/* Each interrupt has ended behind its EOI, and the next comes; the code is changed again and again. */
TEST_F(hot, eoi_by_what_stands_there)
{
	struct guest *g = &self->g;
	int round, i, n;

	guest_start(g, MODE_LONG, BLOB(eoi));
	for (round = 0; round < 3; round++) {
		for (i = 0; i < ARRAY_SIZE(ways); i++) {
			uint8_t *by = g->mem + GUEST_CODE + (eoi_by - eoi_start);

			memset(by, 0x50, sizeof(ways[i].code));
			memcpy(by, ways[i].code, ways[i].len);
			for (n = 0; n < 5; n++) {
				ASSERT_PORT(PORT_EXC, g);
				ASSERT_EQ(VEC, guest_exc(g).vector);
				ASSERT_PORT(PORT_SYNC, g);
				ASSERT_EQ(0, vcpu_regs(&g->cpu).rbx) {
					TH_LOG("%s: still in service", ways[i].name);
				}
				ASSERT_EQ(GUEST_STACK - 8 * (12 - ways[i].len), vcpu_regs(&g->cpu).rdx) {
					TH_LOG("%s: another length", ways[i].name);
				}
			}
		}
	}
}

/* RSI: questions of 8 bytes, function and index, zeroes at the end; RDI: answers of 16 bytes. Twice. */
GUEST(ask, 64,
	"movl $2, %ebp\n" "1: movl $" STR(GUEST_DATA) ", %esi\n" "movl $" STR(GUEST_DATA) "+0x400, %edi\n"
	"2: movl (%rsi), %eax\n" "movl 4(%rsi), %ecx\n" "cpuid\n"
	"movl %eax, (%rdi)\n" "movl %ebx, 4(%rdi)\n" "movl %ecx, 8(%rdi)\n" "movl %edx, 12(%rdi)\n"
	"addq $16, %rdi\n" "addq $8, %rsi\n" "cmpq $0, (%rsi)\n" "jne 2b\n" G_SYNC "decl %ebp\n" "jnz 1b\n" G_DONE);

/*
 * An index that means nothing does not matter, one that means something does; function 6 is asked for by index here, but for
 * one entry of the client's that is for all the others.
 */
TEST_F(hot, cpuid_index)
{
	static const struct {
		uint32_t function, index, eax;
	} q[] = {
		{ 2, 0, 0x20 }, { 2, 0xabcdef01, 0x20 }, { 4, 0, 0x40 }, { 4, 1, 0x41 }, { 4, 0, 0x40 }, { 2, 7, 0x20 },
		{ 6, 9, 0x6f }, { 6, 0, 0x60 }, { 6, 1, 0x61 }, { 6, 9, 0x6f }, { 0x80000000, 0x1234, 0x80000008 },
		{ 0x80000000, 0, 0x80000008 }, { 0, 5, 0x10 },
		/* Past the end of its class, as of one that is not there, Intel's answer is the highest basic function's. */
		{ 0x40000000, 0, 0x100 }, { 0x40000100, 1, 0x101 }, { 0x40000100, 2, 0 }, { 0x11, 1, 0x101 },
		{ 0x80000009, 0, 0x100 }, { 0x80000007, 0, 0 }, { 3, 0, 0 }, { 0xc0000001, 0, 0x100 },
	};
	static const struct kvm_cpuid_entry2 entries[] = {
		{ .function = 0, .eax = 0x10 }, { .function = 2, .eax = 0x20 },
		{ .function = 4, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x40 },
		{ .function = 4, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x41 },
		{ .function = 6, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x60 },
		{ .function = 6, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x61 },
		{ .function = 6, .eax = 0x6f }, { .function = 0x80000000, .eax = 0x80000008 },
		{ .function = 0x80000008, .eax = 0x3030 },
		{ .function = 0x10, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x100 },
		{ .function = 0x10, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x101 },
	};
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[ARRAY_SIZE(entries)];
	} table = { .head.nent = ARRAY_SIZE(entries) };
	struct guest *g = &self->g;
	uint32_t *asked = (void *)(g->mem + GUEST_DATA);
	int i, round;

	memcpy(table.entries, entries, sizeof(entries));
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_SET_CPUID2, &table));
	guest_start(g, MODE_LONG, BLOB(ask));
	for (i = 0; i < ARRAY_SIZE(q); i++) {
		asked[2 * i] = q[i].function;
		asked[2 * i + 1] = q[i].index;
	}
	asked[2 * i] = asked[2 * i + 1] = 0;
	for (round = 0; round < 2; round++) {
		ASSERT_PORT(PORT_SYNC, g);
		for (i = 0; i < ARRAY_SIZE(q); i++)
			EXPECT_EQ(q[i].eax, ((uint32_t *)(g->mem + GUEST_DATA + 0x400))[4 * i]) {
				TH_LOG("round %d, function %#x, index %#x", round, q[i].function, q[i].index);
			}
	}
	ASSERT_DONE(g);
}

GUEST(in_user_mode, 64, "1: xorl %eax, %eax\n" "xorl %ecx, %ecx\n" "cpuid\n" G_SYNC "jmp 1b\n");

/* CPUID faults from the moment on that the MSR says so, and no longer. */
TEST_F(hot, cpuid_faults)
{
	struct guest *g = &self->g;
	struct kvm_sregs s;
	struct kvm_regs r;
	int i;

	guest_start(g, MODE_LONG, BLOB(in_user_mode));
	s = vcpu_sregs(&g->cpu);
	s.cs.selector = SEL_UCODE64;
	s.cs.dpl = 3;
	s.ss.selector = SEL_UDATA;
	s.ss.dpl = 3;
	vcpu_set_sregs(&g->cpu, &s);
	r = vcpu_regs(&g->cpu);
	r.rflags |= 0x3000;	/* IOPL */
	vcpu_set_regs(&g->cpu, &r);
	for (i = 0; i < 4; i++)
		ASSERT_PORT(PORT_SYNC, g);
	ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_CPUID_FAULTS, 1));
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(GP_VECTOR, guest_exc(g).vector);
	EXPECT_EQ(0x0f, g->mem[guest_exc(g).rip]);
	ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_CPUID_FAULTS, 0));
	/* The stub goes back to the CPUID. */
	for (i = 0; i < 4; i++)
		ASSERT_PORT(PORT_SYNC, g);
}

#define FUNCTION	0x70000UL	/* with the second tables: the page behind it */
#define TABLES		0x60000UL	/* the second PML4, PDPT, PD and page table */

GUEST(two_spaces, 64,
	"movl $4, %ebp\n" "1: xorl %eax, %eax\n" "xorl %ecx, %ecx\n" "movl $" STR(0x70000) ", %esi\n" "call *%rsi\n"
	"decl %ebp\n" "jnz 1b\n"
	"movl $" STR(0x60000) ", %eax\n" "movq %rax, %cr3\n"
	"xorl %eax, %eax\n" "xorl %ecx, %ecx\n" "call *%rsi\n" G_DONE);

/* At one address two programs have a CPUID, the second one with a prefix. */
TEST_F(hot, another_address_space)
{
	struct guest *g = &self->g;
	uint64_t *second = (void *)(g->mem + TABLES);
	int i;

	guest_start(g, MODE_LONG, BLOB(two_spaces));
	memcpy(g->mem + FUNCTION, "\x0f\xa2\xc3", 3);
	memcpy(g->mem + FUNCTION + PAGE_SIZE, "\x66\x0f\xa2\xc3", 4);
	memcpy(second, g->mem + GUEST_PML4, PAGE_SIZE);
	memcpy(second + 512, g->mem + GUEST_PDPT, PAGE_SIZE);
	memcpy(second + 1024, g->mem + GUEST_PD, PAGE_SIZE);
	second[0] = (TABLES + PAGE_SIZE) | 7;
	second[512] = (TABLES + 2 * PAGE_SIZE) | 7;
	second[1024] = (TABLES + 3 * PAGE_SIZE) | 7;
	for (i = 0; i < 512; i++)
		second[1536 + i] = i * PAGE_SIZE | 7;
	second[1536 + FUNCTION / PAGE_SIZE] += PAGE_SIZE;
	ASSERT_DONE(g);
}

TEST_HARNESS_MAIN
