// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exceptions that the guest makes and handles itself, with their error codes and addresses; double and triple
 * faults; and exceptions that the client injects (SDM volume 3, chapter 6; KVM API documentation, section 4.32).
 */
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

FIXTURE(exc) {
	struct guest g;
};

FIXTURE_SETUP(exc)
{
	guest_create(&self->g, 0);
}

FIXTURE_TEARDOWN(exc)
{
	guest_destroy(&self->g);
}

GUEST_ALL(divide, "xorl %edx, %edx\n" "xorl %ecx, %ecx\n" "divl %ecx\n" G_DONE);
GUEST_ALL(undefined, "ud2\n" G_DONE);
GUEST_ALL(breakpoint, "int3\n" G_DONE);
GUEST_ALL(software, "int $0x80\n" G_DONE);

static void expect_exc(struct __test_metadata *_metadata, struct guest *g, int vector, uint64_t error, uint64_t rip)
{
	struct guest_exc e;

	ASSERT_PORT(PORT_EXC, g);
	e = guest_exc(g);
	EXPECT_EQ(vector, e.vector);
	EXPECT_EQ(error, e.error);
	EXPECT_EQ(rip, e.rip);
}

/* The same four in each mode: faults point at the instruction, traps behind it. */
TEST_F(exc, in_each_mode)
{
	static const enum guest_mode modes[] = {
		MODE_REAL, MODE_PROT32, MODE_PAGE32, MODE_PAE, MODE_LONG,
	};
	struct guest *g = &self->g;
	uint64_t start, skip;
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		start = modes[i] == MODE_REAL ? 0 : GUEST_CODE;
		/* Two XORs before the DIV, each with an operand size prefix in 16-bit code; so has the DIV. */
		skip = modes[i] == MODE_REAL ? 6 : 4;
		guest_start(g, modes[i], BLOB_FOR(modes[i], divide));
		expect_exc(_metadata, g, DE_VECTOR, 0, start + skip);
		guest_start(g, modes[i], BLOB_FOR(modes[i], undefined));
		expect_exc(_metadata, g, UD_VECTOR, 0, start);
		guest_start(g, modes[i], BLOB_FOR(modes[i], breakpoint));
		expect_exc(_metadata, g, BP_VECTOR, 0, start + 1);
		ASSERT_DONE(g);
		guest_start(g, modes[i], BLOB_FOR(modes[i], software));
		expect_exc(_metadata, g, 0x80, 0, start + 2);
		ASSERT_DONE(g);
	}
}

GUEST(gp_segment, 64, "movl $0x1238, %eax\n" "movl %eax, %ds\n" G_DONE);
GUEST(np_segment, 64, "movl $" STR(SEL_ABSENT) ", %eax\n" "movl %eax, %ds\n" G_DONE);
GUEST(gp_noncanonical, 64, "movabsq $0x800000000000, %rsi\n" "movb (%rsi), %al\n" G_DONE);
GUEST(bad_stack, 64, "movabsq $0x800000000000, %rsp\n" "ud2\n");
GUEST(gp_cr4, 64, "movq %cr4, %rax\n" "btsq $31, %rax\n" "movq %rax, %cr4\n" G_DONE);
GUEST(gp_cr8, 64, "movl $0x10, %eax\n" "movq %rax, %cr8\n" G_DONE);
GUEST(gp_pae_off, 64, "movq %cr4, %rax\n" "btrq $5, %rax\n" "movq %rax, %cr4\n" G_DONE);

static const struct {
	const char *what;
	const char *start, *end;
	int vector;
	uint64_t error, rip;
} faults[] = {
#define CASE(name, vector, error, offset)	{ #name, name##_start, name##_end, vector, error, GUEST_CODE + offset }
	CASE(gp_segment, GP_VECTOR, 0x1238, 5),
	CASE(np_segment, NP_VECTOR, SEL_ABSENT, 5),
	CASE(gp_noncanonical, GP_VECTOR, 0, 10),
	CASE(gp_cr4, GP_VECTOR, 0, 8),
	CASE(gp_cr8, GP_VECTOR, 0, 5),
	CASE(gp_pae_off, GP_VECTOR, 0, 8),
#undef CASE
};

TEST_F(exc, error_codes)
{
	struct guest *g = &self->g;
	struct guest_exc e;
	int i;

	for (i = 0; i < ARRAY_SIZE(faults); i++) {
		guest_start(g, MODE_LONG, (struct guest_blob){ faults[i].start, faults[i].end });
		ASSERT_PORT(PORT_EXC, g);
		e = guest_exc(g);
		EXPECT_EQ(faults[i].vector, e.vector) {
			TH_LOG("%s", faults[i].what);
		}
		EXPECT_EQ(faults[i].error, e.error) {
			TH_LOG("%s", faults[i].what);
		}
		EXPECT_EQ(faults[i].rip, e.rip) {
			TH_LOG("%s", faults[i].what);
		}
		EXPECT_EQ(GUEST_STACK, e.rsp);
		EXPECT_EQ(SEL_CODE64, e.cs);
	}
}

/* The stack pointer is noncanonical: a handler on IST 1 does not care. */
TEST_F(exc, interrupt_stack_table)
{
	struct guest *g = &self->g;
	struct guest_exc e;

	guest_start(g, MODE_LONG, BLOB(bad_stack));
	g->mem[GUEST_IDT + UD_VECTOR * 16 + 4] = 1;
	ASSERT_PORT(PORT_EXC, g);
	e = guest_exc(g);
	EXPECT_EQ(UD_VECTOR, e.vector);
	EXPECT_EQ(GUEST_CODE + 10, e.rip);
	EXPECT_EQ(0x800000000000, e.rsp);
	EXPECT_EQ(GUEST_STACK2 - 56, vcpu_regs(&g->cpu).rsp);
}

GUEST(pf_read, 64, "movl (%rsi), %eax\n" G_DONE);
GUEST(pf_write, 64, "movl %eax, (%rsi)\n" G_DONE);
GUEST(pf_exec, 64, "jmp *%rsi\n" G_DONE);

/* Present 1, write 2, user 4, reserved 8, fetch 16. */
TEST_F(exc, page_faults)
{
	static const struct {
		const char *what;
		uint64_t leaf;
		int kind;	/* 0 read, 1 write, 2 fetch */
		uint64_t error;
	} cases[] = {
		{ "read of an absent page", 0, 0, 0 },
		{ "write to an absent page", 0, 1, 2 },
		{ "fetch from an absent page", 0, 2, 0x10 },
		{ "write to a read-only page", 0x200000 | 0x81, 1, 3 },
		{ "fetch from a no-execute page", 0x200000 | 0x83 | 1UL << 63, 2, 0x11 },
		{ "a reserved bit, read", 0x200000 | 0x83 | 1UL << 13, 0, 9 },
		{ "a reserved bit, write", 0x200000 | 0x83 | 1UL << 14, 1, 0xb },
	};
	struct guest *g = &self->g;
	struct guest_exc e;
	struct kvm_regs r;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		switch (cases[i].kind) {
		case 0:
			guest_start(g, MODE_LONG, BLOB(pf_read));
			break;
		case 1:
			guest_start(g, MODE_LONG, BLOB(pf_write));
			break;
		default:
			guest_start(g, MODE_LONG, BLOB(pf_exec));
		}
		*guest_pte(g, 0x200000) = cases[i].leaf;
		r = vcpu_regs(&g->cpu);
		r.rsi = 0x200abc;
		r.rax = 0x99;
		vcpu_set_regs(&g->cpu, &r);
		g->mem[0x200abc] = 0xf4;
		ASSERT_PORT(PORT_EXC, g);
		e = guest_exc(g);
		EXPECT_EQ(PF_VECTOR, e.vector) {
			TH_LOG("%s", cases[i].what);
		}
		/* QEMU's TCG leaves the present bit out of reserved-bit faults. */
		EXPECT_EQ(cases[i].error, e.error | (e.error & 8 ? 1 : 0)) {
			TH_LOG("%s", cases[i].what);
		}
		EXPECT_EQ(cases[i].kind == 2 ? 0x200abc : GUEST_CODE, e.rip);
		EXPECT_EQ(0x200abc, vcpu_sregs(&g->cpu).cr2);
		EXPECT_EQ(0xf4, g->mem[0x200abc]);
		/* The client repairs the mapping and the guest goes on. */
		if (cases[i].kind == 2)
			continue;
		*guest_pte(g, 0x200000) = 0x200000 | 0x83;
		ASSERT_DONE(g);
		EXPECT_EQ(cases[i].kind == 1 ? 0x99 : 0xf4, g->mem[0x200abc]);
		EXPECT_EQ(cases[i].kind == 1 ? 0x99 : 0xf4, vcpu_regs(&g->cpu).rax & 0xff);
	}
}

TEST_F(exc, page_fault_32_bit)
{
	static const enum guest_mode modes[] = { MODE_PAGE32, MODE_PAE };
	struct guest *g = &self->g;
	struct kvm_regs r;
	int i;

	GUEST(pf_write32, 32, "movl %eax, (%esi)\n" G_DONE);
	for (i = 0; i < 2; i++) {
		guest_start(g, modes[i], BLOB(pf_write32));
		if (modes[i] == MODE_PAE)
			*guest_pte(g, 0x800000) = 0;
		else
			((uint32_t *)(g->mem + GUEST_PD32))[2] = 0;
		r = vcpu_regs(&g->cpu);
		r.rsi = 0x800123;
		vcpu_set_regs(&g->cpu, &r);
		expect_exc(_metadata, g, PF_VECTOR, 2, GUEST_CODE);
		EXPECT_EQ(0x800123, vcpu_sregs(&g->cpu).cr2);
	}
}

GUEST(trap_divide, 64, "int3\n" "xorl %edx, %edx\n" "xorl %ecx, %ecx\n" "divl %ecx\n" G_DONE);

/*
 * A division error whose gate is not there is a double fault with error code 0. The breakpoint before it brings
 * in the IDT's page: TCG forgets the first exception when a nested page fault interrupts its delivery.
 */
TEST_F(exc, double_fault)
{
	struct guest *g = &self->g;

	guest_start(g, MODE_LONG, BLOB(trap_divide));
	memset(g->mem + GUEST_IDT + DE_VECTOR * 16, 0, 16);
	expect_exc(_metadata, g, BP_VECTOR, 0, GUEST_CODE + 1);
	expect_exc(_metadata, g, DF_VECTOR, 0, GUEST_CODE + 5);
}

/*
 * #GP for the missing gate within a benign #UD is a #GP that names the gate: vector * 8 + 2. Intel calls an earlier
 * exception external to the program, which is bit 0.
 */
TEST_F(exc, missing_gate)
{
	int external = host_is_amd() ? 0 : 1;
	struct guest *g = &self->g;

	guest_start(g, MODE_LONG, BLOB(undefined64));
	memset(g->mem + GUEST_IDT + UD_VECTOR * 16, 0, 16);
	/* A gate of type 0 is #GP, one that is only not present is #NP. */
	expect_exc(_metadata, g, GP_VECTOR, UD_VECTOR * 8 + 2 + external, GUEST_CODE);
	guest_start(g, MODE_LONG, BLOB(undefined64));
	g->mem[GUEST_IDT + UD_VECTOR * 16 + 5] &= 0x7f;
	expect_exc(_metadata, g, NP_VECTOR, UD_VECTOR * 8 + 2 + external, GUEST_CODE);
}

static void expect_shutdown(struct __test_metadata *_metadata, struct guest *g)
{
	ASSERT_RUN(KVM_EXIT_SHUTDOWN, g);
}

TEST_F(exc, triple_fault)
{
	static const enum guest_mode modes[] = {
		MODE_REAL, MODE_PROT32, MODE_PAGE32, MODE_PAE, MODE_COMPAT, MODE_LONG,
	};
	struct guest *g = &self->g;
	struct kvm_sregs s;
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		guest_start(g, modes[i], BLOB_FOR(modes[i], undefined));
		s = vcpu_sregs(&g->cpu);
		s.idt.limit = 0;
		vcpu_set_sregs(&g->cpu, &s);
		expect_shutdown(_metadata, g);
		/* The client can bring the vCPU back. */
		guest_start(g, modes[i], BLOB_FOR(modes[i], undefined));
		ASSERT_PORT(PORT_EXC, g);
	}
}

static void inject(struct guest *g, int vector, bool has_error, uint32_t error)
{
	struct kvm_vcpu_events e;

	MUST(vm_ioctl(g->cpu.fd, KVM_GET_VCPU_EVENTS, &e));
	e.exception.injected = 1;
	e.exception.nr = vector;
	e.exception.has_error_code = has_error;
	e.exception.error_code = error;
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_VCPU_EVENTS, &e));
}

GUEST_ALL(nop, "nop\n" G_DONE);

TEST_F(exc, injected_by_client)
{
	static const struct {
		int vector;
		bool has_error;
		uint32_t error;
	} cases[] = {
		{ DE_VECTOR, false, 0 }, { UD_VECTOR, false, 0 }, { NM_VECTOR, false, 0 }, { GP_VECTOR, true, 0x1230 },
		{ PF_VECTOR, true, 7 }, { AC_VECTOR, true, 0 }, { NP_VECTOR, true, 0x48 },
	};
	struct guest *g = &self->g;
	struct kvm_vcpu_events ev;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		guest_start(g, MODE_LONG, BLOB(nop64));
		inject(g, cases[i].vector, cases[i].has_error, cases[i].error);
		expect_exc(_metadata, g, cases[i].vector, cases[i].error, GUEST_CODE);
		ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_VCPU_EVENTS, &ev));
		EXPECT_EQ(0, ev.exception.injected);
		ASSERT_DONE(g);
	}
	/* The two that instructions raise: where RIP points then is the vendor's. */
	for (i = BP_VECTOR; i <= BP_VECTOR + 1; i++) {
		guest_start(g, MODE_LONG, BLOB(nop64));
		inject(g, i, false, 0);
		ASSERT_PORT(PORT_EXC, g);
		EXPECT_EQ(i, guest_exc(g).vector);
		ASSERT_DONE(g);
	}
	guest_start(g, MODE_REAL, BLOB(nop16));
	inject(g, UD_VECTOR, false, 0);
	expect_exc(_metadata, g, UD_VECTOR, 0, 0);
	ASSERT_DONE(g);
	guest_start(g, MODE_PROT32, BLOB(nop32));
	inject(g, GP_VECTOR, true, 0x20);
	expect_exc(_metadata, g, GP_VECTOR, 0x20, GUEST_CODE);
	ASSERT_DONE(g);
}

/* An injected exception whose delivery faults becomes the fault, as a double fault for contributory ones. */
TEST_F(exc, injected_and_faulting)
{
	struct guest *g = &self->g;

	guest_start(g, MODE_LONG, BLOB(nop64));
	memset(g->mem + GUEST_IDT + GP_VECTOR * 16, 0, 16);
	inject(g, GP_VECTOR, true, 0);
	expect_exc(_metadata, g, DF_VECTOR, 0, GUEST_CODE);
}

GUEST(single_step, 64, "pushfq\n" "orq $0x100, (%rsp)\n" "popfq\n" "nop\n" "nop\n" G_DONE);

/* The trap flag: #DB after the instruction behind POPF, with DR6.BS. */
TEST_F(exc, trap_flag)
{
	struct guest *g = &self->g;
	struct kvm_debugregs d;

	guest_start(g, MODE_LONG, BLOB(single_step));
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(DB_VECTOR, guest_exc(g).vector);
	EXPECT_EQ(GUEST_CODE + 11, guest_exc(g).rip);
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_DEBUGREGS, &d));
	EXPECT_EQ(1 << 14, d.dr6 & (1 << 14));
}

GUEST(watch, 64,
	"movq $" STR(GUEST_DATA) ", %rax\n" "movq %rax, %dr0\n" "movl $0xd0602, %eax\n" "movq %rax, %dr7\n"
	"movl %eax, " STR(GUEST_DATA) "\n" "nop\n" G_DONE);

/* A watchpoint that the guest sets for itself. */
TEST_F(exc, data_breakpoint)
{
	struct guest *g = &self->g;
	struct kvm_debugregs d;

	guest_start(g, MODE_LONG, BLOB(watch));
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(DB_VECTOR, guest_exc(g).vector);
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_DEBUGREGS, &d));
	EXPECT_EQ(1, d.dr6 & 0xf);
	EXPECT_EQ(GUEST_DATA, d.db[0]);
	EXPECT_EQ(0xd0602, d.dr7);
}

/*
 * State that the CPU refuses to enter (a code segment both 64-bit and 32-bit) is an exit and no more: the client
 * can repair it.
 */
TEST_F(exc, invalid_state)
{
	struct guest *g = &self->g;
	struct kvm_sregs s;

	guest_start(g, MODE_LONG, BLOB(nop64));
	s = vcpu_sregs(&g->cpu);
	s.cs.db = 1;
	vcpu_set_sregs(&g->cpu, &s);
	ASSERT_RUN(KVM_EXIT_FAIL_ENTRY, g);
	EXPECT_NE(0, g->cpu.run->fail_entry.hardware_entry_failure_reason);
	ASSERT_RUN(KVM_EXIT_FAIL_ENTRY, g);
	/* TCG does not leave RIP as it was: all registers are set again. */
	guest_start(g, MODE_LONG, BLOB(nop64));
	ASSERT_DONE(g);
}

/* Fetching where no memory is: the emulator cannot help, and says so with the instruction's place. */
TEST_F(exc, fetch_from_nowhere)
{
	struct guest *g = &self->g;
	struct kvm_regs r;

	guest_start(g, MODE_LONG, BLOB(pf_exec));
	r = vcpu_regs(&g->cpu);
	r.rsi = 0x40000000;
	vcpu_set_regs(&g->cpu, &r);
	ASSERT_RUN(KVM_EXIT_INTERNAL_ERROR, g);
	EXPECT_EQ(KVM_INTERNAL_ERROR_EMULATION, g->cpu.run->internal.suberror);
	EXPECT_EQ(0x40000000, vcpu_regs(&g->cpu).rip);
}

TEST_HARNESS_MAIN
