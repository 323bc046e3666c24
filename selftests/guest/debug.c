// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_GUEST_DEBUG: single steps, breakpoints in code and by debug register, and that the guest sees none of
 * it (SDM 3B 17.2 and 17.3, KVM API documentation 4.87).
 */
#include <string.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define DR6_BS	0x4000
#define DR6_B0	0x1

FIXTURE(debug) {
	struct guest g;
};

FIXTURE_SETUP(debug)
{
	guest_create(&self->g, 0);
}

FIXTURE_TEARDOWN(debug)
{
	guest_destroy(&self->g);
}

static long set_debug(struct guest *g, uint32_t control, uint64_t dr0, uint64_t dr7)
{
	struct kvm_guest_debug dbg = { .control = control };

	dbg.arch.debugreg[0] = dr0;
	dbg.arch.debugreg[7] = dr7;
	return vm_ioctl(g->cpu.fd, KVM_SET_GUEST_DEBUG, &dbg);
}

/* Offsets: nop 0, mov 1 (5 bytes), cpuid 6 (2), pushf 8, pop %rbx 9, out 10. */
GUEST(steps, 64, "nop\n" "movl $0, %eax\n" "cpuid\n" "pushfq\n" "popq %rdi\n" G_DONE);

/* A step ends each instruction, those that exit included; the guest's own flags do not show TF. */
TEST_F(debug, single_step)
{
	static const int ends[] = { 1, 6, 8 };
	struct guest *g = &self->g;
	int i;

	if (in_testhost("vmx"))
		SKIP(return, "after an exit, Bochs' VT-x takes the trap of the instruction that is to come");
	guest_start(g, MODE_LONG, BLOB(steps));
	ASSERT_EQ(0, set_debug(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP, 0, 0));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(KVM_EXIT_DEBUG, guest_run(g));
		EXPECT_EQ(1, g->cpu.run->debug.arch.exception);
		EXPECT_EQ(GUEST_CODE + ends[i], g->cpu.run->debug.arch.pc);
		EXPECT_EQ(DR6_BS, g->cpu.run->debug.arch.dr6 & DR6_BS);
		EXPECT_EQ(GUEST_CODE + ends[i], vcpu_regs(&g->cpu).rip);
		EXPECT_EQ(0, vcpu_regs(&g->cpu).rflags & X86_EFLAGS_TF);
	}
	ASSERT_EQ(0, set_debug(g, 0, 0, 0));
	ASSERT_DONE(g);
	EXPECT_EQ(0, vcpu_regs(&g->cpu).rdi & X86_EFLAGS_TF);
}

GUEST(soft, 64, "nop\n" "int3\n" "movl $7, %ebx\n" G_DONE);

TEST_F(debug, software_breakpoint)
{
	struct guest *g = &self->g;
	struct kvm_regs r;
	long reason;

	guest_start(g, MODE_LONG, BLOB(soft));
	ASSERT_EQ(0, set_debug(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP, 0, 0));
	reason = guest_run(g);
	if (reason == KVM_EXIT_IO && guest_at_port(g, PORT_EXC) && guest_exc(g).vector == 3)
		SKIP(return, "this CPU (QEMU's TCG) does not intercept INT3");
	ASSERT_EQ(KVM_EXIT_DEBUG, reason);
	EXPECT_EQ(3, g->cpu.run->debug.arch.exception);
	EXPECT_EQ(GUEST_CODE + 1, g->cpu.run->debug.arch.pc);
	r = vcpu_regs(&g->cpu);
	EXPECT_EQ(GUEST_CODE + 1, r.rip);
	r.rip++;
	vcpu_set_regs(&g->cpu, &r);
	ASSERT_DONE(g);
	EXPECT_EQ(7, vcpu_regs(&g->cpu).rbx);
}

TEST_F(debug, guests_own_breakpoint)
{
	struct guest *g = &self->g;

	/* Without the client's interest it is the guest's #BP. */
	ASSERT_EQ(0, set_debug(g, 0, 0, 0));
	guest_start(g, MODE_LONG, BLOB(soft));
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(3, guest_exc(g).vector);
}

TEST_F(debug, hardware_breakpoint)
{
	struct guest *g = &self->g;

	guest_start(g, MODE_LONG, BLOB(steps));
	ASSERT_EQ(0, set_debug(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, GUEST_CODE + 6, 0x402));
	ASSERT_EQ(KVM_EXIT_DEBUG, guest_run(g));
	EXPECT_EQ(1, g->cpu.run->debug.arch.exception);
	EXPECT_EQ(GUEST_CODE + 6, g->cpu.run->debug.arch.pc);
	EXPECT_EQ(DR6_B0, g->cpu.run->debug.arch.dr6 & 0xf);
	ASSERT_EQ(0, set_debug(g, 0, 0, 0));
	ASSERT_DONE(g);
}

/* What DR7 does not have is no reason for the CPU to refuse the guest. */
TEST_F(debug, high_bits_of_dr7)
{
	struct guest *g = &self->g;

	if (!dev_is_keel(g->dev))
		SKIP(return, "in-tree KVM enters with them");
	guest_start(g, MODE_LONG, BLOB(steps));
	ASSERT_EQ(0, set_debug(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, GUEST_CODE + 6, 1ULL << 40 | 0x402));
	ASSERT_EQ(KVM_EXIT_DEBUG, guest_run(g));
	EXPECT_EQ(GUEST_CODE + 6, g->cpu.run->debug.arch.pc);
	ASSERT_EQ(0, set_debug(g, 0, 0, 0));
	ASSERT_DONE(g);
}

GUEST(awaits_irq, 64, "sti\n" "movl $1, %eax\n" "movl $2, %ebx\n" "movl $3, %ecx\n" G_DONE);

/* While the client steps with KVM_GUESTDBG_BLOCKIRQ an interrupt waits; afterwards it comes. */
TEST(blocked_interrupts)
{
	const uint32_t step = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ;
	struct kvm_interrupt irq = { .irq = 0x45 };
	struct guest g;
	int i;

	if (in_testhost("vmx"))
		SKIP(return, "Bochs reports a step for the STI again and again, under in-tree KVM too");
	guest_create(&g, GUEST_SPLIT);
	ASSERT_NE(0, vm_cap(g.vm, KVM_CAP_SET_GUEST_DEBUG2) & KVM_GUESTDBG_BLOCKIRQ);
	guest_start(&g, MODE_LONG, BLOB(awaits_irq));
	ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_INTERRUPT, &irq));
	ASSERT_EQ(0, set_debug(&g, step, 0, 0));
	for (i = 0; i < 3; i++)
		ASSERT_RUN(KVM_EXIT_DEBUG, &g);
	EXPECT_EQ(1, vcpu_regs(&g.cpu).rax);
	EXPECT_EQ(2, vcpu_regs(&g.cpu).rbx);
	EXPECT_EQ(0, vcpu_regs(&g.cpu).rcx);
	ASSERT_EQ(0, set_debug(&g, 0, 0, 0));
	ASSERT_PORT(PORT_EXC, &g);
	EXPECT_EQ(0x45, guest_exc(&g).vector);
	EXPECT_EQ(0, vcpu_regs(&g.cpu).rcx);
	guest_destroy(&g);
}

GUEST(own_db, 64, "movl $" STR(GUEST_DATA) ", %eax\n" "movq %rax, %dr0\n" "movl $0xd0402, %eax\n" "movq %rax, %dr7\n"
	"movl $1, " STR(GUEST_DATA) "\n" "nop\n" G_DONE);

/* The guest's own data breakpoint: a trap behind the write, DR6 says which. */
TEST_F(debug, guests_own)
{
	struct guest *g = &self->g;
	struct kvm_debugregs regs;

	guest_start(g, MODE_LONG, BLOB(own_db));
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(1, guest_exc(g).vector);
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_DEBUGREGS, &regs));
	EXPECT_EQ(DR6_B0, regs.dr6 & 0xf);
	EXPECT_EQ(GUEST_DATA, regs.db[0]);
	ASSERT_DONE(g);
}

GUEST(device, 64, "movl $" STR(GUEST_DATA) ", %eax\n" "movq %rax, %dr0\n" "movl $" STR(GUEST_MMIO) ", %ebx\n"
	"movq %rbx, %dr1\n" "movl $0xd0000 + 0xd00000 + 0x40a, %eax\n" "movq %rax, %dr7\n"
	"movl %eax, (%rbx)\n" "8: nop\n" G_DONE);

/* An access that is emulated traps like one that is not: to the guest by its own registers ... */
TEST_F(debug, guests_own_on_a_device)
{
	struct guest *g = &self->g;
	struct kvm_debugregs regs;
	uint8_t page[PAGE_SIZE];

	if (!dev_is_keel(g->dev))
		SKIP(return, "in-tree KVM's emulator looks at breakpoints in code only");
	guest_start(g, MODE_LONG, BLOB(device));
	ASSERT_EQ(KVM_EXIT_IO, guest_run_mmio(g, page));
	ASSERT_TRUE(guest_at_port(g, PORT_EXC));
	EXPECT_EQ(1, guest_exc(g).vector);
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_DEBUGREGS, &regs));
	EXPECT_EQ(2, regs.dr6 & 0xf);
	ASSERT_DONE(g);
}

/* ... and to the client by the client's, when the guest's do not count. */
TEST_F(debug, clients_on_a_device)
{
	struct guest *g = &self->g;
	struct kvm_debugregs regs;
	uint8_t page[PAGE_SIZE];
	struct kvm_regs r;

	if (!dev_is_keel(g->dev))
		SKIP(return, "in-tree KVM's emulator looks at breakpoints in code only");
	guest_start(g, MODE_LONG, BLOB(device));
	ASSERT_EQ(0, set_debug(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, GUEST_MMIO, 0xd0402));
	ASSERT_EQ(KVM_EXIT_DEBUG, guest_run_mmio(g, page));
	EXPECT_EQ(1, g->cpu.run->debug.arch.exception);
	EXPECT_EQ(DR6_B0, g->cpu.run->debug.arch.dr6 & 0xf);
	EXPECT_EQ(0xd0402, g->cpu.run->debug.arch.dr7);
	r = vcpu_regs(&g->cpu);
	EXPECT_EQ(r.rip, g->cpu.run->debug.arch.pc);
	EXPECT_EQ(0x90, g->mem[r.rip]);
	ASSERT_DONE(g);
	/* Elsewhere: nobody hears of it. */
	ASSERT_EQ(0, set_debug(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, GUEST_DATA2, 0xd0402));
	guest_start(g, MODE_LONG, BLOB(device));
	ASSERT_EQ(KVM_EXIT_IO, guest_run_mmio(g, page));
	EXPECT_TRUE(guest_at_port(g, PORT_DONE));
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_DEBUGREGS, &regs));
	EXPECT_EQ(0, regs.dr6 & 0xf);
}

GUEST(own_code, 64, "movl $" GUEST_AT(own_code, 1f) ", %eax\n" "movq %rax, %dr0\n" "movl $0x402, %eax\n"
	"movq %rax, %dr7\n" "1: nop\n" G_DONE);

/* All of it holds in an interpreted guest. */
TEST(interpreted)
{
	struct guest g;
	struct guest_exc e;
	uint8_t page[PAGE_SIZE];
	int dev = dev_open();
	bool keel = dev_is_keel(dev);

	close(dev);
	if (!keel)
		SKIP(return, "in-tree KVM does not interpret");
	guest_create(&g, GUEST_INTERPRETED);
	guest_start(&g, MODE_LONG, BLOB(own_code));
	ASSERT_PORT(PORT_EXC, &g);
	e = guest_exc(&g);
	EXPECT_EQ(1, e.vector);
	EXPECT_EQ(0x90, g.mem[e.rip]);
	guest_destroy(&g);

	guest_create(&g, GUEST_INTERPRETED);
	guest_start(&g, MODE_LONG, BLOB(steps));
	ASSERT_EQ(0, set_debug(&g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, GUEST_CODE + 6, 0x402));
	ASSERT_EQ(KVM_EXIT_DEBUG, guest_run(&g));
	EXPECT_EQ(GUEST_CODE + 6, g.cpu.run->debug.arch.pc);
	EXPECT_EQ(DR6_B0, g.cpu.run->debug.arch.dr6 & 0xf);
	ASSERT_EQ(0, set_debug(&g, 0, 0, 0));
	ASSERT_DONE(&g);

	ASSERT_EQ(0, set_debug(&g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, GUEST_MMIO, 0xd0402));
	guest_start(&g, MODE_LONG, BLOB(device));
	ASSERT_EQ(KVM_EXIT_DEBUG, guest_run_mmio(&g, page));
	EXPECT_EQ(DR6_B0, g.cpu.run->debug.arch.dr6 & 0xf);
	ASSERT_DONE(&g);
	guest_destroy(&g);
}

TEST_F(debug, refusals)
{
	struct guest *g = &self->g;

	/* An exception already waits: no other can be injected over it. */
	guest_start(g, MODE_LONG, BLOB(steps));
	ASSERT_EQ(0, set_debug(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_DB, 0, 0));
	EXPECT_EQ(-EBUSY, set_debug(g, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_DB, 0, 0));
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(1, guest_exc(g).vector);
	EXPECT_EQ(-EFAULT, vm_ioctl(g->cpu.fd, KVM_SET_GUEST_DEBUG, (void *)16));
}

TEST_HARNESS_MAIN
