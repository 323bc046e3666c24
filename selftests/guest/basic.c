// SPDX-License-Identifier: GPL-2.0-only
/*
 * The exits that every guest makes: CPUID, HLT, RDMSR and WRMSR, hypercalls, XSETBV, RDTSC, with and without
 * prefixes and in each CPU mode, so that the length of the instruction is found by looking and not assumed.
 */
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

FIXTURE(basic) {
	struct guest g;
};

FIXTURE_VARIANT(basic) {
	enum guest_mode mode;
};

FIXTURE_VARIANT_ADD(basic, real) { .mode = MODE_REAL };
FIXTURE_VARIANT_ADD(basic, prot16) { .mode = MODE_PROT16 };
FIXTURE_VARIANT_ADD(basic, prot32) { .mode = MODE_PROT32 };
FIXTURE_VARIANT_ADD(basic, page32) { .mode = MODE_PAGE32 };
FIXTURE_VARIANT_ADD(basic, pae) { .mode = MODE_PAE };
FIXTURE_VARIANT_ADD(basic, compat) { .mode = MODE_COMPAT };
FIXTURE_VARIANT_ADD(basic, long64) { .mode = MODE_LONG };

FIXTURE_SETUP(basic)
{
	guest_create(&self->g, 0);
}

FIXTURE_TEARDOWN(basic)
{
	guest_destroy(&self->g);
}

/* Machine code, since an assembler refuses most of these prefixes. */
static const struct {
	const char *what;
	uint8_t bytes[15];
	int len;
	bool long_only;
} prefixes[] = {
	{ "no prefix", { }, 0, false },
	{ "operand size", { 0x66 }, 1, false },
	{ "address size", { 0x67 }, 1, false },
	{ "CS segment", { 0x2e }, 1, false },
	{ "SS segment", { 0x36 }, 1, false },
	{ "GS segment", { 0x65 }, 1, false },
	{ "two segments", { 0x64, 0x65 }, 2, false },
	{ "all groups", { 0x66, 0x67, 0x3e }, 3, false },
	{ "twelve times the same", { 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e }, 12, false },
	{ "REX", { 0x40 }, 1, true },
	{ "REX.W", { 0x48 }, 1, true },
	{ "REX with all bits", { 0x4f }, 1, true },
	{ "operand size and REX.W", { 0x66, 0x48 }, 2, true },
	{ "REX that does not count", { 0x48, 0x2e }, 2, true },
};

/* The prefixes, the instruction, and OUT to PORT_DONE: RIP is right or the guest goes astray. */
static void start_prefixed(struct guest *g, enum guest_mode mode, int prefix, const void *insn, int len)
{
	static const uint8_t done[] = { 0xe6, PORT_DONE };
	uint8_t code[32];
	int n = prefixes[prefix].len;

	memcpy(code, prefixes[prefix].bytes, n);
	memcpy(code + n, insn, len);
	memcpy(code + n + len, done, sizeof(done));
	guest_set_mode(g, mode);
	guest_load_bytes(g, code, n + len + sizeof(done));
	guest_reset_regs(g);
}

static uint64_t code_rip(enum guest_mode mode, uint64_t offset)
{
	return guest_mode_bits(mode) == 16 ? offset : GUEST_CODE + offset;
}

TEST_F(basic, cpuid)
{
	static const uint8_t insn[] = { 0x0f, 0xa2 };
	struct kvm_cpuid2 *cpuid = supported_cpuid(self->g.dev);
	struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 0, 0);
	struct guest *g = &self->g;
	struct kvm_regs r;
	int i;

	ASSERT_NE(NULL, e);
	for (i = 0; i < ARRAY_SIZE(prefixes); i++) {
		if (prefixes[i].long_only && variant->mode != MODE_LONG)
			continue;
		start_prefixed(g, variant->mode, i, insn, sizeof(insn));
		r = vcpu_regs(&g->cpu);
		r.rax = 0x1234567800000000;
		r.rcx = r.rdx = r.rbx = ~0UL;
		r.rcx = 0;
		r.rsi = 0x5151;
		vcpu_set_regs(&g->cpu, &r);
		ASSERT_DONE(g);
		vcpu_complete_io(&g->cpu);
		r = vcpu_regs(&g->cpu);
		EXPECT_EQ(e->eax, r.rax);
		EXPECT_EQ(e->ebx, r.rbx);
		EXPECT_EQ(e->ecx, r.rcx);
		EXPECT_EQ(e->edx, r.rdx);
		EXPECT_EQ(0x5151, r.rsi);
		EXPECT_EQ(code_rip(variant->mode, prefixes[i].len + 4), r.rip) {
			TH_LOG("%s", prefixes[i].what);
		}
	}
	free(cpuid);
}

TEST_F(basic, hlt)
{
	static const uint8_t insn[] = { 0xf4 };
	struct guest *g = &self->g;
	int i;

	for (i = 0; i < ARRAY_SIZE(prefixes); i++) {
		if (prefixes[i].long_only && variant->mode != MODE_LONG)
			continue;
		start_prefixed(g, variant->mode, i, insn, sizeof(insn));
		ASSERT_RUN(KVM_EXIT_HLT, g);
		/* Past the HLT, which is complete: the next run goes on behind it. */
		EXPECT_EQ(code_rip(variant->mode, prefixes[i].len + 1), vcpu_regs(&g->cpu).rip);
		ASSERT_DONE(g);
	}
}

TEST_F(basic, rdmsr)
{
	static const uint8_t insn[] = { 0x0f, 0x32 };
	struct guest *g = &self->g;
	struct kvm_regs r;
	int i;

	for (i = 0; i < ARRAY_SIZE(prefixes); i++) {
		if (prefixes[i].long_only && variant->mode != MODE_LONG)
			continue;
		start_prefixed(g, variant->mode, i, insn, sizeof(insn));
		ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_IA32_CR_PAT, 0x0007040600070406));
		r = vcpu_regs(&g->cpu);
		r.rcx = MSR_IA32_CR_PAT;
		r.rax = r.rdx = r.rbx = ~0UL;
		vcpu_set_regs(&g->cpu, &r);
		ASSERT_DONE(g);
		r = vcpu_regs(&g->cpu);
		EXPECT_EQ(0x00070406, r.rax) {
			TH_LOG("%s", prefixes[i].what);
		}
		EXPECT_EQ(0x00070406, r.rdx);
		EXPECT_EQ(~0UL, r.rbx);
	}
}

TEST_F(basic, wrmsr)
{
	static const uint8_t insn[] = { 0x0f, 0x30 };
	struct guest *g = &self->g;
	struct kvm_regs r;
	uint64_t val;
	int i;

	for (i = 0; i < ARRAY_SIZE(prefixes); i++) {
		if (prefixes[i].long_only && variant->mode != MODE_LONG)
			continue;
		start_prefixed(g, variant->mode, i, insn, sizeof(insn));
		ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_KERNEL_GS_BASE, 0));
		r = vcpu_regs(&g->cpu);
		r.rcx = MSR_KERNEL_GS_BASE;
		r.rax = 0xffffffff00001000 | i;
		r.rdx = 0xffffffffffff8000;
		vcpu_set_regs(&g->cpu, &r);
		ASSERT_DONE(g);
		ASSERT_EQ(1, vcpu_get_msr(&g->cpu, MSR_KERNEL_GS_BASE, &val));
		EXPECT_EQ(0xffff800000001000 | i, val) {
			TH_LOG("%s", prefixes[i].what);
		}
	}
}

/* An unknown MSR and a bad value are #GP(0) in the guest, at the instruction itself, with nothing changed. */
TEST_F(basic, msr_faults)
{
	static const struct {
		const char *what;
		bool write;
		uint32_t index;
		uint64_t value;
	} cases[] = {
		{ "read of an unknown MSR", false, MSR_NONEXISTENT, 0 },
		{ "write of an unknown MSR", true, MSR_NONEXISTENT, 0 },
		{ "reserved bits of EFER", true, MSR_EFER, 1UL << 40 },
		{ "a reserved PAT type", true, MSR_IA32_CR_PAT, 0x0202020202020202 },
		{ "x2APIC registers without x2APIC", false, MSR_X2APIC(APIC_TPR), 0 },
	};
	static const uint8_t rd[] = { 0x0f, 0x32 }, wr[] = { 0x0f, 0x30 };
	struct guest *g = &self->g;
	struct guest_exc e;
	struct kvm_regs r;
	int i;

	if (variant->mode == MODE_PROT16)
		SKIP(return, "the exception stubs are 32-bit code");
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		start_prefixed(g, variant->mode, 1, cases[i].write ? wr : rd, 2);
		r = vcpu_regs(&g->cpu);
		r.rcx = cases[i].index;
		r.rax = (uint32_t)cases[i].value;
		r.rdx = cases[i].value >> 32;
		r.rbx = 0x77;
		vcpu_set_regs(&g->cpu, &r);
		ASSERT_PORT(PORT_EXC, g);
		e = guest_exc(g);
		EXPECT_EQ(GP_VECTOR, e.vector) {
			TH_LOG("%s", cases[i].what);
		}
		EXPECT_EQ(0, e.error);
		EXPECT_EQ(code_rip(variant->mode, 0), e.rip);
		r = vcpu_regs(&g->cpu);
		EXPECT_EQ((uint32_t)cases[i].value, r.rax);
		EXPECT_EQ(cases[i].value >> 32, r.rdx);
	}
}

/* An unknown hypercall gives -KVM_ENOSYS in RAX, whichever of the two instructions made it. */
TEST_F(basic, hypercall)
{
	static const uint8_t insns[2][3] = { { 0x0f, 0x01, 0xd9 }, { 0x0f, 0x01, 0xc1 } };
	int native = host_is_amd() ? 0 : 1;
	struct guest *g = &self->g;
	struct kvm_regs r;
	int i, v;

	for (v = 0; v < 2; v++) {
		for (i = 0; i < ARRAY_SIZE(prefixes); i++) {
			if (prefixes[i].long_only && variant->mode != MODE_LONG)
				continue;
			/*
			 * In-tree KVM writes the CPU's own instruction to the other's RIP, taken as a linear
			 * address and without regard to prefixes.
			 */
			if (v != native && (i || guest_mode_bits(variant->mode) == 16))
				continue;
			/* VMCALL with an operand size prefix is #UD on some CPUs (Bochs' are such). */
			if (v == native && v && memchr(prefixes[i].bytes, 0x66, prefixes[i].len))
				continue;
			start_prefixed(g, variant->mode, i, insns[v], 3);
			r = vcpu_regs(&g->cpu);
			r.rax = 0x4711;
			r.rbx = 1;
			vcpu_set_regs(&g->cpu, &r);
			ASSERT_DONE(g);
			r = vcpu_regs(&g->cpu);
			EXPECT_EQ(variant->mode == MODE_LONG ? -1000L : 0xfffffc18, r.rax) {
				TH_LOG("%s %s", v ? "VMCALL" : "VMMCALL", prefixes[i].what);
			}
			/* The CPU's own instruction stands in the code now (KVM_X86_QUIRK_FIX_HYPERCALL_INSN). */
			EXPECT_EQ(insns[native][2], g->mem[GUEST_CODE + prefixes[i].len + 2]);
		}
	}
}

/* Outside of ring 0 a hypercall is refused before it is looked at. */
GUEST(user_hypercall, 64,
	"pushq $" STR(SEL_UDATA) "\n" "pushq $" STR(GUEST_STACK2) "\n" "pushfq\n" "pushq $" STR(SEL_UCODE64) "\n"
	"leaq 1f(%rip), %rax\n" "pushq %rax\n" "movl $0x4711, %eax\n" "iretq\n"
	"1: .byte 0x0f, 0x01, 0xd9\n" "ud2\n");

TEST(hypercall_from_user_mode)
{
	struct guest g;
	struct guest_exc e;

	if (!host_is_amd())
		SKIP(return, "VMMCALL is AMD's instruction");
	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(user_hypercall));
	/* The UD2 behind it traps: the result is in RAX by then. */
	ASSERT_PORT(PORT_EXC, &g);
	e = guest_exc(&g);
	EXPECT_EQ(UD_VECTOR, e.vector);
	EXPECT_EQ(SEL_UCODE64, e.cs);
	EXPECT_EQ(-1L, (int64_t)vcpu_regs(&g.cpu).rax);
	guest_destroy(&g);
}

GUEST(tsc, 64, "rdtsc\n" "shlq $32, %rdx\n" "orq %rdx, %rax\n" "movq %rax, %rbx\n" "rdtsc\n" "shlq $32, %rdx\n"
	"orq %rax, %rdx\n" G_DONE);

TEST(tsc_runs_and_follows_writes)
{
	struct guest g;
	struct kvm_regs r;
	uint64_t t;

	pin_to_cpu(0);
	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(tsc));
	ASSERT_EQ(1, vcpu_set_msr(&g.cpu, MSR_IA32_TSC, 1UL << 60));
	ASSERT_DONE(&g);
	r = vcpu_regs(&g.cpu);
	EXPECT_LT(1UL << 60, r.rbx);
	/* Not less: Bochs' two CPUs take turns, and time stands still in a turn. */
	EXPECT_LE(r.rbx, r.rdx);
	/* Less than 30 seconds of a 10 GHz counter. */
	EXPECT_LT(r.rdx, (1UL << 60) + 300000000000UL);
	ASSERT_EQ(1, vcpu_get_msr(&g.cpu, MSR_IA32_TSC, &t));
	EXPECT_LT(r.rdx, t);
	guest_destroy(&g);
}

GUEST(xsetbv, 64,
	"movq %cr4, %rax\n" "orq $0x40000, %rax\n" "movq %rax, %cr4\n"
	"xorl %ecx, %ecx\n" "xorl %edx, %edx\n" "movl $3, %eax\n" "xsetbv\n"
	"xgetbv\n" "movl %eax, %edi\n" "movl $1, %eax\n" "cpuid\n" "xorl %edx, %edx\n" "movl %ecx, %esi\n" G_SYNC
	"xorl %ecx, %ecx\n" "movl $2, %eax\n" "xsetbv\n" "hlt\n");

TEST(xsetbv)
{
	struct guest g;
	struct kvm_xcrs x;
	struct kvm_cpuid2 *cpuid;
	struct kvm_regs r;

	guest_create(&g, 0);
	cpuid = supported_cpuid(g.dev);
	if (!(cpuid_find(cpuid, 1, 0)->ecx & 1 << 26)) {
		guest_destroy(&g);
		SKIP(return, "no XSAVE");
	}
	free(cpuid);
	guest_start(&g, MODE_LONG, BLOB(xsetbv));
	ASSERT_PORT(PORT_SYNC, &g);
	r = vcpu_regs(&g.cpu);
	EXPECT_EQ(3, r.rdi);
	/* CPUID follows CR4.OSXSAVE. */
	EXPECT_NE(0, r.rsi & 1 << 27);
	ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_GET_XCRS, &x));
	EXPECT_EQ(3, x.xcrs[0].value);
	ASSERT_PORT(PORT_EXC, &g);
	EXPECT_EQ(GP_VECTOR, guest_exc(&g).vector);
	EXPECT_EQ(0, guest_exc(&g).error);
	ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_GET_XCRS, &x));
	EXPECT_EQ(3, x.xcrs[0].value);
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
