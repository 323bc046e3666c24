// SPDX-License-Identifier: GPL-2.0-only
/*
 * Instructions that are not emulated: what the guest gets and what the client is told (KVM API documentation,
 * KVM_EXIT_INTERNAL_ERROR and KVM_CAP_EXIT_ON_EMULATION_FAILURE).
 */
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

FIXTURE(emulation)
{
	struct guest g;
};

FIXTURE_SETUP(emulation)
{
	guest_create(&self->g, 0);
}

FIXTURE_TEARDOWN(emulation)
{
	guest_destroy(&self->g);
}

/* x87 on a device */
GUEST(kernel, 64, "movl $" STR(GUEST_MMIO) ", %esi\n" "1: fldl (%rsi)\n" G_DONE);
GUEST(user, 64,
	"movl $" STR(GUEST_MMIO) ", %esi\n"
	"pushq $" STR(SEL_UDATA) "\n" "pushq $" STR(GUEST_STACK2) "\n" "pushq $2\n"
	"pushq $" STR(SEL_UCODE64) "\n" "pushq $" GUEST_AT(user, 1f) "\n" "iretq\n"
	".org user_start + 0x40\n" "1: fldl (%rsi)\n" "2: jmp 2b\n");
#define KERNEL_INSN	(GUEST_CODE + 5)
#define USER_INSN	(GUEST_CODE + 0x40)

static void expect_failure(struct __test_metadata *_metadata, struct guest *g, uint64_t rip)
{
	struct kvm_run *run = g->cpu.run;

	ASSERT_EQ(KVM_INTERNAL_ERROR_EMULATION, run->emulation_failure.suberror);
	EXPECT_LE(3, run->emulation_failure.ndata);
	EXPECT_GE(16, run->emulation_failure.ndata);
	EXPECT_EQ(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, run->emulation_failure.flags);
	EXPECT_LE(2, run->emulation_failure.insn_size);
	EXPECT_GE(15, run->emulation_failure.insn_size);
	EXPECT_EQ(0xdd, run->emulation_failure.insn_bytes[0]);
	EXPECT_EQ(0x06, run->emulation_failure.insn_bytes[1]);
	EXPECT_EQ(rip, vcpu_regs(&g->cpu).rip);
}

static long exit_on_failure(struct guest *g, uint64_t arg)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = { arg } };

	return vm_ioctl(g->vm, KVM_ENABLE_CAP, &cap);
}

/* In the guest's kernel: the client is told, and the guest finds #UD if it goes on. */
TEST_F(emulation, in_kernel_mode)
{
	struct guest *g = &self->g;

	guest_start(g, MODE_LONG, BLOB(kernel));
	ASSERT_RUN(KVM_EXIT_INTERNAL_ERROR, g);
	expect_failure(_metadata, g, KERNEL_INSN);
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(UD_VECTOR, guest_exc(g).vector);
	EXPECT_EQ(KERNEL_INSN, guest_exc(g).rip);
}

/* In its user mode: #UD, and the VM runs on. */
TEST_F(emulation, in_user_mode)
{
	struct guest *g = &self->g;

	guest_start(g, MODE_LONG, BLOB(user));
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(UD_VECTOR, guest_exc(g).vector);
	EXPECT_EQ(USER_INSN, guest_exc(g).rip);
	EXPECT_EQ(SEL_UCODE64, guest_exc(g).cs);
}

/* The client wants to see all of them, and nothing is raised: it may step over the instruction. */
TEST_F(emulation, exit_on_failure)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events ev;

	ASSERT_EQ(1, vm_cap(g->vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE));
	ASSERT_EQ(-EINVAL, exit_on_failure(g, 2));
	ASSERT_EQ(0, exit_on_failure(g, 1));
	guest_start(g, MODE_LONG, BLOB(user));
	ASSERT_RUN(KVM_EXIT_INTERNAL_ERROR, g);
	expect_failure(_metadata, g, USER_INSN);
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_VCPU_EVENTS, &ev));
	EXPECT_EQ(0, ev.exception.injected);
	EXPECT_EQ(0, ev.exception.pending);

	guest_start(g, MODE_LONG, BLOB(kernel));
	ASSERT_RUN(KVM_EXIT_INTERNAL_ERROR, g);
	expect_failure(_metadata, g, KERNEL_INSN);
	ASSERT_RUN(KVM_EXIT_INTERNAL_ERROR, g);
	expect_failure(_metadata, g, KERNEL_INSN);
	ASSERT_EQ(0, exit_on_failure(g, 0));
	ASSERT_RUN(KVM_EXIT_INTERNAL_ERROR, g);
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(UD_VECTOR, guest_exc(g).vector);
}

TEST_HARNESS_MAIN
