// SPDX-License-Identifier: GPL-2.0-only
/*
 * CR4 as the guest writes it, whether each write exits or none does: what it reads, what the client sees, what follows from
 * it in CPUID, protection keys that it turns on, and bits that it may not have. Intel SDM volume 3, 2.5; APM volume 2, 3.1.3.
 */
#include <stdlib.h>
#include <string.h>
#include <linux/keel.h>
#include "kselftest_harness.h"
#include "guest.h"

#define CR4_PGE		(1UL << 7)
#define CR4_NOBODYS	(1UL << 31)
#define CPUID_OSXSAVE	(1UL << 27)

FIXTURE(cr4) {
	struct guest g;
};

FIXTURE_SETUP(cr4)
{
	guest_create(&self->g, GUEST_IRQCHIP);
	vcpu_set_supported_cpuid(&self->g.cpu, self->g.dev);
}

FIXTURE_TEARDOWN(cr4)
{
	guest_destroy(&self->g);
}

#define SET(bits)	"movq %cr4, %rax\n" "orq $" bits ", %rax\n" "movq %rax, %cr4\n"
#define CLEAR(bits)	"movq %cr4, %rax\n" "andq $~" bits ", %rax\n" "movq %rax, %cr4\n"
#define TOGGLE(bits)	"movq %cr4, %rax\n" "xorq $" bits ", %rax\n" "movq %rax, %cr4\n"
#define MCE		"0x40"
#define PGE		"0x80"
#define OSXSAVE		"0x40000"
#define SHOW		"movq %cr4, %rbx\n" G_SYNC
#define EXIT_HOT	"xorl %eax, %eax\n" "xorl %ecx, %ecx\n" "cpuid\n"

/* Instructions that Keel has emulated. */
static uint64_t emulated(struct guest *g)
{
	struct keel_execution counts = { .version = KEEL_EXECUTION_VERSION, .size = sizeof(counts) };

	MUST(vm_ioctl(g->cpu.fd, KEEL_GET_EXECUTION, &counts));
	return counts.emulated;
}

GUEST(mce, 64, SHOW SET(MCE) TOGGLE(PGE) SHOW TOGGLE(PGE) EXIT_HOT SHOW CLEAR(MCE) EXIT_HOT EXIT_HOT G_SYNC SHOW
      SET(MCE) SHOW G_DONE);

/* Machine checks are the host's too; the guest and the client see what the guest has written. */
TEST_F(cr4, machine_checks)
{
	static const struct {
		bool read, mce, pge;
	} steps[] = {
		{ true, false, false }, { true, true, true }, { true, true, false }, { false, false, false },
		{ true, false, false }, { true, true, false },
	};
	struct guest *g = &self->g;
	bool looks = dev_is_keel(g->dev) && host_is_amd();
	uint64_t first, cr4, before = 0;
	int i;

	guest_start(g, MODE_LONG, BLOB(mce));
	first = vcpu_sregs(&g->cpu).cr4;
	ASSERT_EQ(0, first & X86_CR4_MCE);
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		ASSERT_PORT(PORT_SYNC, g);
		cr4 = first ^ (steps[i].mce ? X86_CR4_MCE : 0) ^ (steps[i].pge ? CR4_PGE : 0);
		EXPECT_EQ(cr4, vcpu_sregs(&g->cpu).cr4) {
			TH_LOG("step %d", i);
		}
		if (!steps[i].read) {
			before = looks ? emulated(g) : 0;
			continue;
		}
		/* The host's bit has come back behind the guest's write, which no exit told of: reads exit again. */
		if (looks && i && !steps[i - 1].read)
			EXPECT_LT(before, emulated(g));
		EXPECT_EQ(cr4, vcpu_regs(&g->cpu).rbx) {
			TH_LOG("step %d", i);
		}
	}
	ASSERT_DONE(g);
}

#define FEATURES	"movl $1, %eax\n" "xorl %ecx, %ecx\n" "cpuid\n"

GUEST(osxsave, 64,
      SET(MCE) FEATURES "movl %ecx, %r8d\n" SET(OSXSAVE) FEATURES "movl %ecx, %r9d\n"
      CLEAR(OSXSAVE) FEATURES "movl %ecx, %r10d\n" G_DONE);

TEST_F(cr4, cpuid_follows)
{
	struct guest *g = &self->g;
	struct kvm_regs r;

	guest_start(g, MODE_LONG, BLOB(osxsave));
	ASSERT_DONE(g);
	r = vcpu_regs(&g->cpu);
	EXPECT_EQ(0, r.r8 & CPUID_OSXSAVE);
	EXPECT_EQ(CPUID_OSXSAVE, r.r9 & CPUID_OSXSAVE);
	EXPECT_EQ(0, r.r10 & CPUID_OSXSAVE);
}

#define KEYS		0xf5a50000	/* the guest's pages have key 0 */
#define RDPKRU_INSN	".byte 0x0f, 0x01, 0xee\n"
#define WRPKRU_INSN	".byte 0x0f, 0x01, 0xef\n"
#define RDPKRU		"xorl %ecx, %ecx\n" RDPKRU_INSN
#define WRPKRU		"xorl %ecx, %ecx\n" "xorl %edx, %edx\n" WRPKRU_INSN

GUEST(keys, 64,
      SET(MCE) EXIT_HOT SET("0x400000") RDPKRU "movl %eax, %r8d\n" "movl $" STR(KEYS) ", %eax\n" WRPKRU
      EXIT_HOT EXIT_HOT "inb $0x21, %al\n" RDPKRU "movl %eax, %r9d\n" G_SYNC
      RDPKRU "movl %eax, %r10d\n" CLEAR("0x400000") G_DONE);

static uint32_t own_keys(void)
{
	uint32_t eax, edx;

	asm volatile(RDPKRU_INSN : "=a" (eax), "=d" (edx) : "c" (0));
	return eax;
}

static void set_own_keys(uint32_t pkru)
{
	asm volatile(WRPKRU_INSN : : "a" (pkru), "c" (0), "d" (0) : "memory");
}

/* The guest turns protection keys on: its register is its own from the first instruction, and the client's is the client's. */
TEST_F(cr4, protection_keys)
{
	struct guest *g = &self->g;
	struct kvm_cpuid2 *cpuid = supported_cpuid(g->dev);
	bool offered = cpuid_find(cpuid, 7, 0) && cpuid_find(cpuid, 7, 0)->ecx & 1 << 3;
	uint32_t before, mine;
	struct kvm_regs r;

	free(cpuid);
	if (!offered)
		SKIP(return, "no protection keys here");
	before = own_keys();
	mine = before ^ 0x0c00;		/* key 5 is nobody's */
	set_own_keys(mine);
	guest_start(g, MODE_LONG, BLOB(keys));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(mine, own_keys());
	ASSERT_DONE(g);
	EXPECT_EQ(mine, own_keys());
	set_own_keys(before);
	r = vcpu_regs(&g->cpu);
	EXPECT_EQ(0, r.r8);
	EXPECT_EQ(KEYS, r.r9);
	EXPECT_EQ(KEYS, r.r10);
}

GUEST(nobodys, 64, SET(MCE) "movq %cr4, %rax\n" "btsq $31, %rax\n" ".globl nobodys_at\n" "nobodys_at: movq %rax, %cr4\n"
      EXIT_HOT G_DONE);
extern const char nobodys_at[];

/* The CPU refuses it. QEMU does only at the next entry, and has lost the guest's state then. */
TEST_F(cr4, reserved_bit)
{
	struct guest *g = &self->g;
	long exit;

	guest_start(g, MODE_LONG, BLOB(nobodys));
	exit = guest_run(g);
	if (exit == KVM_EXIT_FAIL_ENTRY && dev_is_keel(g->dev) && in_testhost("svm"))
		return;
	ASSERT_EQ(KVM_EXIT_IO, exit);
	ASSERT_TRUE(guest_at_port(g, PORT_EXC));
	EXPECT_EQ(GP_VECTOR, guest_exc(g).vector);
	EXPECT_EQ(GUEST_CODE + (nobodys_at - nobodys_start), guest_exc(g).rip);
	EXPECT_EQ(0, vcpu_sregs(&g->cpu).cr4 & CR4_NOBODYS);
}

TEST_HARNESS_MAIN
