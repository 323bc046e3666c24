// SPDX-License-Identifier: GPL-2.0-only
/*
 * Far jumps, calls, returns and IRET between modes and privileges: real mode, virtual-8086 mode, 16-bit and 32-bit
 * protected mode, long mode, call gates (SDM volume 3, 5.8, 6.12 and 20.2).
 *
 * Each runs as the CPU does it, and a second time with its stack or its far pointer in a device, so that the
 * instruction is emulated; the outcome must be the same.
 */
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define SEL_GATE	0x70
#define SEL_CONFORMING	0x80
#define TOP		0x800		/* the stack begins here in its page */
#define POINTER		0xc00		/* the far pointer */
#define MARK		0xf00		/* a write there ends the guest */
#define MARK_AT		(GUEST_MMIO + MARK)
#define PAGE_RAM	GUEST_DATA2
#define RESULT		0x41000

FIXTURE(transfers)
{
	struct guest g;
	uint8_t mmio[PAGE_SIZE];
	uint8_t *page;			/* with the stack and the pointer */
	uint64_t at;
	uint32_t *result;
};

FIXTURE_VARIANT(transfers)
{
	bool emulated;
};

FIXTURE_VARIANT_ADD(transfers, direct) { .emulated = false };
FIXTURE_VARIANT_ADD(transfers, emulated) { .emulated = true };

FIXTURE_SETUP(transfers)
{
	if (variant->emulated && !strcmp(dev_path(), "/dev/kvm"))
		SKIP(return, "in-tree KVM's emulator does not know these instructions");
	guest_create(&self->g, 0);
	self->page = variant->emulated ? self->mmio : self->g.mem + PAGE_RAM;
	self->at = variant->emulated ? GUEST_MMIO : PAGE_RAM;
	self->result = (void *)(self->g.mem + RESULT);
}

FIXTURE_TEARDOWN(transfers)
{
	if (self->g.mem)
		guest_destroy(&self->g);
}

/* RSP and RSI are set to the page's stack and pointer; in 16-bit code, offsets in a segment that begins there. */
static void start(FIXTURE_DATA(transfers) *self, enum guest_mode mode, struct guest_blob blob)
{
	struct guest *g = &self->g;
	bool bits16 = guest_mode_bits(mode) == 16;
	struct kvm_regs r;
	struct kvm_sregs s;

	guest_start(g, mode, blob);
	guest_set_descriptor(g, SEL_TSS, GUEST_TSS, mode >= MODE_COMPAT ? 0x67 : 0x6b, 0x0089);
	guest_set_descriptor(g, SEL_CONFORMING, 0, 0xfffff, 0xc09f);
	r = vcpu_regs(&g->cpu);
	r.rsp = (bits16 ? 0 : self->at) + TOP;
	r.rsi = (bits16 ? 0 : self->at) + POINTER;
	vcpu_set_regs(&g->cpu, &r);
	if (bits16) {
		s = vcpu_sregs(&g->cpu);
		s.ss.base = s.ds.base = self->at;
		s.ss.selector = s.ds.selector = self->at >> 4;
		vcpu_set_sregs(&g->cpu, &s);
	}
}

/* Serve the page until the guest writes to MARK, or exits otherwise. */
static bool marked(FIXTURE_DATA(transfers) *self)
{
	struct kvm_run *run = self->g.cpu.run;
	int n;

	for (n = 0; n < 1000; n++) {
		uint64_t offset;

		if (guest_run(&self->g) != KVM_EXIT_MMIO)
			break;
		offset = run->mmio.phys_addr - GUEST_MMIO;
		if (offset == MARK && run->mmio.is_write)
			return true;
		if (offset + run->mmio.len > PAGE_SIZE)
			break;
		if (run->mmio.is_write)
			memcpy(self->mmio + offset, run->mmio.data, run->mmio.len);
		else
			memcpy(run->mmio.data, self->mmio + offset, run->mmio.len);
	}
	guest_dump(&self->g);
	return false;
}

static void word16(FIXTURE_DATA(transfers) *self, int offset, uint16_t val)
{
	memcpy(self->page + offset, &val, 2);
}

static void word32(FIXTURE_DATA(transfers) *self, int offset, uint32_t val)
{
	memcpy(self->page + offset, &val, 4);
}

static void word64(FIXTURE_DATA(transfers) *self, int offset, uint64_t val)
{
	memcpy(self->page + offset, &val, 8);
}

static uint32_t read32(FIXTURE_DATA(transfers) *self, int offset)
{
	uint32_t val;

	memcpy(&val, self->page + offset, 4);
	return val;
}

#define LANDING		(GUEST_CODE + 0x40)
/* What the code at LANDING sees, in memory at RESULT; then the end */
#define SEE32								\
	"movw %cs, %ss:" STR(RESULT) "\n" "movw %ss, %ss:" STR(RESULT) " + 4\n"	\
	"movl %esp, %ss:" STR(RESULT) " + 8\n" "movw %ds, %ss:" STR(RESULT) " + 12\n"	\
	"movw %fs, %ss:" STR(RESULT) " + 16\n" "movl %eax, %ss:" STR(MARK_AT) "\n"
#define SEE64								\
	"movw %cs, " STR(RESULT) "\n" "movw %ss, " STR(RESULT) " + 4\n"		\
	"movl %esp, " STR(RESULT) " + 8\n" "movw %ds, " STR(RESULT) " + 12\n"	\
	"movw %fs, " STR(RESULT) " + 16\n" "movl %eax, " STR(MARK_AT) "\n"

#define EXPECT_SEEN(cs, ss, sp, ds) do {				\
	EXPECT_EQ(cs, self->result[0] & 0xffff);			\
	EXPECT_EQ(ss, self->result[1] & 0xffff);			\
	EXPECT_EQ(sp, self->result[2]);					\
	EXPECT_EQ(ds, self->result[3] & 0xffff);			\
	EXPECT_EQ(ds, self->result[4] & 0xffff);			\
} while (0)

GUEST(iret32, 32, "iretl\n" ".org iret32_start + 0x40\n" SEE32);
GUEST(iret64, 64, "iretq\n" ".org iret64_start + 0x40\n" SEE64);
GUEST(lret32, 32, "lretl $8\n" ".org lret32_start + 0x40\n" SEE32);
GUEST(lret64, 64, "lretq\n" ".org lret64_start + 0x40\n" SEE64);

TEST_F(transfers, iret)
{
	start(self, MODE_PROT32, BLOB(iret32));
	word32(self, TOP, LANDING);
	word32(self, TOP + 4, SEL_CODE32);
	word32(self, TOP + 8, 0x203ed7);	/* IOPL 3 and the rest, without TF and NT */
	ASSERT_TRUE(marked(self));
	EXPECT_SEEN(SEL_CODE32, SEL_DATA, self->at + TOP + 12, SEL_DATA);
	EXPECT_EQ(0x203ed7, vcpu_regs(&self->g.cpu).rflags);
}

TEST_F(transfers, iret_to_user)
{
	start(self, MODE_PROT32, BLOB(iret32));
	word32(self, TOP, LANDING);
	word32(self, TOP + 4, SEL_UCODE32);
	word32(self, TOP + 8, 0x203);
	word32(self, TOP + 12, GUEST_STACK2);
	word32(self, TOP + 16, SEL_UDATA);
	ASSERT_TRUE(marked(self));
	EXPECT_SEEN(SEL_UCODE32, SEL_UDATA, GUEST_STACK2, 0);
	EXPECT_EQ(3, vcpu_sregs(&self->g.cpu).ss.dpl);
	EXPECT_EQ(0x203, vcpu_regs(&self->g.cpu).rflags);
}

TEST_F(transfers, iret_with_paging)
{
	start(self, MODE_PAGE32, BLOB(iret32));
	word32(self, TOP, LANDING);
	word32(self, TOP + 4, SEL_UCODE32);
	word32(self, TOP + 8, 0x3202);
	word32(self, TOP + 12, GUEST_STACK2);
	word32(self, TOP + 16, SEL_UDATA);
	ASSERT_TRUE(marked(self));
	EXPECT_SEEN(SEL_UCODE32, SEL_UDATA, GUEST_STACK2, 0);
	EXPECT_EQ(0x3202, vcpu_regs(&self->g.cpu).rflags);
}

/* #NP by the code segment: nothing has changed. */
GUEST(iret_bad, 32,
	"movl %esp, %ebp\n" "1: iretl\n");

TEST_F(transfers, iret_to_absent_code)
{
	struct guest *g = &self->g;

	start(self, MODE_PROT32, BLOB(iret_bad));
	guest_set_descriptor(g, SEL_ABSENT, 0, 0xfffff, 0xc01b);
	word32(self, TOP, LANDING);
	word32(self, TOP + 4, SEL_ABSENT);
	word32(self, TOP + 8, 2);
	if (variant->emulated)
		SKIP(return, "the handler's stack would be the device");
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(NP_VECTOR, guest_exc(g).vector);
	EXPECT_EQ(SEL_ABSENT, guest_exc(g).error);
	EXPECT_EQ(GUEST_CODE + 2, guest_exc(g).rip);
}

TEST_F(transfers, iret_to_virtual_8086_mode)
{
	static const uint8_t code[] = { 0x8c, 0xd8, 0xa3, 0x00, 0x0f };	/* mov %ds, %ax; mov %ax, MARK */
	struct guest *g = &self->g;
	struct kvm_sregs s;
	struct kvm_run *run = g->cpu.run;

	if (in_testhost("svm-nrip"))
		SKIP(return, "Bochs' AMD-V has no guests in virtual-8086 mode");
	start(self, MODE_PROT32, BLOB(iret32));
	memcpy(g->mem + LANDING, code, sizeof(code));
	word32(self, TOP, 0x40);
	word32(self, TOP + 4, GUEST_CODE >> 4);
	word32(self, TOP + 8, 0x20202);
	word32(self, TOP + 12, 0xff00);
	word32(self, TOP + 16, 0x3000);
	word32(self, TOP + 20, 0x1111);
	word32(self, TOP + 24, GUEST_MMIO >> 4);
	word32(self, TOP + 28, 0x2222);
	word32(self, TOP + 32, 0x3333);
	ASSERT_TRUE(marked(self));
	EXPECT_EQ(GUEST_MMIO >> 4, run->mmio.data[0] | run->mmio.data[1] << 8);
	s = vcpu_sregs(&g->cpu);
	EXPECT_EQ(0x20202, vcpu_regs(&g->cpu).rflags);
	EXPECT_EQ(GUEST_CODE, s.cs.base);
	EXPECT_EQ(0x30000, s.ss.base);
	EXPECT_EQ(0x1111, s.es.selector);
	EXPECT_EQ(0x22220, s.fs.base);
	EXPECT_EQ(0x3333, s.gs.selector);
	EXPECT_EQ(3, s.ss.dpl);
	EXPECT_EQ(0xffff, s.ds.limit);
	EXPECT_EQ(0xff00, vcpu_regs(&g->cpu).rsp);
}

TEST_F(transfers, iretq)
{
	start(self, MODE_LONG, BLOB(iret64));
	word64(self, TOP, LANDING);
	word64(self, TOP + 8, SEL_CODE64);
	word64(self, TOP + 16, 0x203);
	word64(self, TOP + 24, GUEST_STACK2);
	word64(self, TOP + 32, SEL_DATA);
	ASSERT_TRUE(marked(self));
	EXPECT_SEEN(SEL_CODE64, SEL_DATA, GUEST_STACK2, SEL_DATA);
	EXPECT_EQ(0x203, vcpu_regs(&self->g.cpu).rflags);
}

TEST_F(transfers, iretq_to_user)
{
	start(self, MODE_LONG, BLOB(iret64));
	word64(self, TOP, LANDING);
	word64(self, TOP + 8, SEL_UCODE64);
	word64(self, TOP + 16, 0x202);
	word64(self, TOP + 24, GUEST_STACK2);
	word64(self, TOP + 32, SEL_UDATA);
	ASSERT_TRUE(marked(self));
	EXPECT_SEEN(SEL_UCODE64, SEL_UDATA, GUEST_STACK2, 0);
	EXPECT_EQ(3, vcpu_sregs(&self->g.cpu).ss.dpl);
}

TEST_F(transfers, lret)
{
	start(self, MODE_PROT32, BLOB(lret32));
	word32(self, TOP, LANDING);
	word32(self, TOP + 4, SEL_CODE32);
	ASSERT_TRUE(marked(self));
	EXPECT_SEEN(SEL_CODE32, SEL_DATA, self->at + TOP + 16, SEL_DATA);
}

TEST_F(transfers, lret_to_user)
{
	start(self, MODE_PROT32, BLOB(lret32));
	word32(self, TOP, LANDING);
	word32(self, TOP + 4, SEL_UCODE32);
	word32(self, TOP + 16, GUEST_STACK2);
	word32(self, TOP + 20, SEL_UDATA);
	ASSERT_TRUE(marked(self));
	EXPECT_SEEN(SEL_UCODE32, SEL_UDATA, GUEST_STACK2 + 8, 0);
}

/* From 64-bit to compatibility mode in user mode */
GUEST(lret_compat, 64, "lretq\n" ".org lret_compat_start + 0x40\n" ".code32\n" SEE32 ".code64\n");

TEST_F(transfers, lret_to_compatibility_mode)
{
	start(self, MODE_LONG, BLOB(lret_compat));
	word64(self, TOP, LANDING);
	word64(self, TOP + 8, SEL_UCODE32);
	word64(self, TOP + 16, GUEST_STACK2);
	word64(self, TOP + 24, SEL_UDATA);
	ASSERT_TRUE(marked(self));
	EXPECT_SEEN(SEL_UCODE32, SEL_UDATA, GUEST_STACK2, 0);
	EXPECT_EQ(0, vcpu_sregs(&self->g.cpu).cs.l);
	EXPECT_EQ(1, vcpu_sregs(&self->g.cpu).cs.db);
}

TEST_F(transfers, lret_in_long_mode)
{
	start(self, MODE_LONG, BLOB(lret64));
	word64(self, TOP, LANDING);
	word64(self, TOP + 8, SEL_CODE64);
	ASSERT_TRUE(marked(self));
	EXPECT_SEEN(SEL_CODE64, SEL_DATA, self->at + TOP + 16, SEL_DATA);
}

/* Calls: the frame is in the page for both. */
GUEST(lcall32, 32, "lcall *(%esi)\n" ".org lcall32_start + 0x40\n" SEE32);

TEST_F(transfers, lcall)
{
	start(self, MODE_PROT32, BLOB(lcall32));
	word32(self, POINTER, LANDING);
	word16(self, POINTER + 4, SEL_CODE32);
	ASSERT_TRUE(marked(self));
	EXPECT_SEEN(SEL_CODE32, SEL_DATA, self->at + TOP - 8, SEL_DATA);
	EXPECT_EQ(SEL_CODE32, read32(self, TOP - 4) & 0xffff);
	EXPECT_EQ(GUEST_CODE + 2, read32(self, TOP - 8));
}

TEST_F(transfers, lcall_through_gate)
{
	start(self, MODE_PROT32, BLOB(lcall32));
	((uint64_t *)(self->g.mem + GUEST_GDT))[SEL_GATE / 8] = (LANDING & 0xffff) | (uint64_t)SEL_CODE32 << 16 |
		0x8cULL << 40 | (uint64_t)(LANDING >> 16) << 48;
	word32(self, POINTER, 0x12345678);
	word16(self, POINTER + 4, SEL_GATE);
	ASSERT_TRUE(marked(self));
	EXPECT_SEEN(SEL_CODE32, SEL_DATA, self->at + TOP - 8, SEL_DATA);
	EXPECT_EQ(GUEST_CODE + 2, read32(self, TOP - 8));
}

TEST_F(transfers, ljmp_conforming)
{
	start(self, MODE_PROT32, BLOB(lcall32));
	word32(self, POINTER, LANDING);
	word16(self, POINTER + 4, SEL_CONFORMING);
	ASSERT_TRUE(marked(self));
	EXPECT_SEEN(SEL_CONFORMING, SEL_DATA, self->at + TOP - 8, SEL_DATA);
}

/*
 * From user mode through a call gate with two parameters to the kernel, and back by RETF. The guest loads TR
 * itself: QEMU's TCG gives up at an inner stack of a TSS that VMRUN loaded as busy.
 */
GUEST(gate_user, 32,
	"movw $" STR(SEL_TSS) ", %ax\n" "ltr %ax\n"
	"pushl $" STR(SEL_UDATA) "\n" "pushl $" STR(GUEST_STACK2) "\n" "pushl $2\n" "pushl $" STR(SEL_UCODE32) "\n"
	"pushl $" GUEST_AT(gate_user, 1f) "\n" "iretl\n"
	"1: movl $" STR(SEL_UDATA) ", %eax\n" "movl %eax, %ds\n" "pushl $0x1111\n" "pushl $0x2222\n"
	"lcall *(%esi)\n"
	"2: movl %eax, " STR(MARK_AT) "\n"
	".org gate_user_start + 0x80\n"
	"movl (%esp), %eax\n" "movl %eax, %ss:" STR(RESULT) "\n" "movl 4(%esp), %eax\n" "movl %eax, %ss:" STR(RESULT) " + 4\n"
	"movl 8(%esp), %eax\n" "movl %eax, %ss:" STR(RESULT) " + 8\n" "movl 12(%esp), %eax\n" "movl %eax, %ss:" STR(RESULT) " + 12\n"
	"movl 16(%esp), %eax\n" "movl %eax, %ss:" STR(RESULT) " + 16\n" "movl 20(%esp), %eax\n" "movl %eax, %ss:" STR(RESULT) " + 20\n"
	"movl %cs, %eax\n" "movl %eax, %ss:" STR(RESULT) " + 24\n" "movl %esp, %ss:" STR(RESULT) " + 28\n"
	"movl %ss, %eax\n" "movl %eax, %ss:" STR(RESULT) " + 32\n"
	"lretl $8\n");

TEST_F(transfers, call_gate_with_parameters)
{
	struct guest *g = &self->g;
	struct kvm_regs r;
	uint32_t *seen = self->result;

	start(self, MODE_PROT32, BLOB(gate_user));
	r = vcpu_regs(&g->cpu);
	r.rsp = GUEST_STACK;
	vcpu_set_regs(&g->cpu, &r);
	((uint64_t *)(g->mem + GUEST_GDT))[SEL_GATE / 8] = 0x80 | (uint64_t)SEL_CODE32 << 16 | 2ULL << 32 |
		0xecULL << 40 | (uint64_t)(GUEST_CODE >> 16) << 48;
	*(uint32_t *)(g->mem + GUEST_TSS + 4) = GUEST_STACK - 0x1000;
	word32(self, POINTER, 0);
	word16(self, POINTER + 4, SEL_GATE | 3);
	ASSERT_TRUE(marked(self));
	EXPECT_EQ(SEL_UCODE32, seen[1]);
	EXPECT_EQ(0x2222, seen[2]);
	EXPECT_EQ(0x1111, seen[3]);
	EXPECT_EQ(GUEST_STACK2 - 8, seen[4]);
	EXPECT_EQ(SEL_UDATA, seen[5]);
	EXPECT_EQ(SEL_CODE32, seen[6]);
	EXPECT_EQ(GUEST_STACK - 0x1000 - 24, seen[7]);
	EXPECT_EQ(SEL_DATA, seen[8]);
	/* RETF has released the parameters of both stacks. */
	EXPECT_EQ(GUEST_STACK2, vcpu_regs(&g->cpu).rsp);
	EXPECT_EQ(SEL_UCODE32, vcpu_sregs(&g->cpu).cs.selector);
}

/* 16-bit code: the page is the stack and the data segment. */
GUEST(lcall16, 16,
	"lcall *(%si)\n"
	".org lcall16_start + 0x40\n" "movw %cs, %ax\n" "movw %ax, 0xf00\n");

TEST_F(transfers, lcall_in_real_mode)
{
	struct guest *g = &self->g;

	start(self, MODE_REAL, BLOB(lcall16));
	if (!variant->emulated)
		SKIP(return, "the end is marked in the device's page");
	word16(self, POINTER, 0x30);
	word16(self, POINTER + 2, (GUEST_CODE + 0x10) >> 4);
	ASSERT_TRUE(marked(self));
	EXPECT_EQ((GUEST_CODE + 0x10) >> 4, *(uint16_t *)g->cpu.run->mmio.data);
	EXPECT_EQ(TOP - 4, vcpu_regs(&g->cpu).rsp);
	EXPECT_EQ(GUEST_CODE + 0x10, vcpu_sregs(&g->cpu).cs.base);
	EXPECT_EQ((GUEST_CODE >> 4) << 16 | 2, read32(self, TOP - 4));
}

TEST_F(transfers, lcall_in_16_bit_protected_mode)
{
	struct guest *g = &self->g;

	start(self, MODE_PROT16, BLOB(lcall16));
	if (!variant->emulated)
		SKIP(return, "the end is marked in the device's page");
	word16(self, POINTER, 0x40);
	word16(self, POINTER + 2, SEL_CODE16);
	ASSERT_TRUE(marked(self));
	EXPECT_EQ(SEL_CODE16, *(uint16_t *)g->cpu.run->mmio.data);
	EXPECT_EQ(TOP - 4, vcpu_regs(&g->cpu).rsp);
	EXPECT_EQ(SEL_CODE16 << 16 | 2, read32(self, TOP - 4));
}

GUEST(iret16, 16, "iretw\n" ".org iret16_start + 0x40\n" "movw %cs, %ax\n" "movw %ax, %es:0xf00\n");

TEST_F(transfers, iret_in_real_mode)
{
	struct guest *g = &self->g;
	struct kvm_sregs s;

	start(self, MODE_REAL, BLOB(iret16));
	s = vcpu_sregs(&g->cpu);
	s.es.base = GUEST_MMIO;
	s.es.selector = GUEST_MMIO >> 4;
	vcpu_set_sregs(&g->cpu, &s);
	word16(self, TOP, 0x30);
	word16(self, TOP + 2, (GUEST_CODE + 0x10) >> 4);
	word16(self, TOP + 4, 0x0ed7);
	ASSERT_TRUE(marked(self));
	EXPECT_EQ((GUEST_CODE + 0x10) >> 4, *(uint16_t *)g->cpu.run->mmio.data);
	EXPECT_EQ(TOP + 6, vcpu_regs(&g->cpu).rsp);
	EXPECT_EQ(0x0ed7, vcpu_regs(&g->cpu).rflags);
}

/*
 * A software interrupt and its IRET in real mode. The table and the stack are touched before: Bochs' AMD-V loses an
 * INT whose delivery meets a nested page fault.
 */
GUEST(int16, 16,
	"xorw %ax, %ax\n" "movw %ax, %fs\n" "movl %fs:0x100, %eax\n" "pushw %ax\n" "popw %ax\n" "jmp 2f\n"
	".org int16_start + 0x20\n" "2: int $0x40\n" "1: movw %sp, %ax\n" "movw %ax, %es:0xf00\n"
	".org int16_start + 0x40\n" "movw %sp, %bx\n" "sti\n" "iretw\n");

TEST_F(transfers, int_in_real_mode)
{
	struct guest *g = &self->g;
	struct kvm_sregs s;

	start(self, MODE_REAL, BLOB(int16));
	if (variant->emulated)
		SKIP(return, "the CPU's delivery does not exit in a way that is emulated");
	guest_set_gate(g, 0x40, LANDING);
	s = vcpu_sregs(&g->cpu);
	s.es.base = GUEST_MMIO;
	s.es.selector = GUEST_MMIO >> 4;
	vcpu_set_sregs(&g->cpu, &s);
	ASSERT_TRUE(marked(self));
	EXPECT_EQ(TOP, *(uint16_t *)g->cpu.run->mmio.data);
	EXPECT_EQ(TOP - 6, vcpu_regs(&g->cpu).rbx);
	EXPECT_EQ(0, vcpu_regs(&g->cpu).rflags & X86_EFLAGS_IF);
	EXPECT_EQ(0x22, *(uint16_t *)(self->page + TOP - 6));
}

/* Segment registers from the page: the descriptor is checked, and marked accessed. */
GUEST(segments, 32,
	"movl $" STR(GUEST_STACK) ", %esp\n"
	"movw (%esi), %fs\n" "lgsl 4(%esi), %ebx\n" "movl %fs, %ecx\n" "movl %gs, %edx\n"
	"movw 12(%esi), %fs\n" "movl %eax, %ss:" STR(MARK_AT) "\n");

TEST_F(transfers, segment_loads)
{
	struct guest *g = &self->g;
	struct guest_exc e;
	struct kvm_regs r;

	start(self, MODE_PROT32, BLOB(segments));
	guest_set_descriptor(g, SEL_GATE, 0x1000, 0xfff, 0x40b2);
	word16(self, POINTER, SEL_GATE);
	word32(self, POINTER + 4, 0x12345678);
	word16(self, POINTER + 8, SEL_UDATA);
	word16(self, POINTER + 12, SEL_ABSENT);
	ASSERT_EQ(KVM_EXIT_IO, guest_run_mmio(g, self->mmio)) {
		guest_dump(g);
	}
	e = guest_exc(g);
	EXPECT_EQ(NP_VECTOR, e.vector);
	EXPECT_EQ(SEL_ABSENT, e.error);
	r = vcpu_regs(&g->cpu);
	EXPECT_EQ(0x12345678, r.rbx);
	EXPECT_EQ(SEL_GATE, r.rcx);
	EXPECT_EQ(SEL_UDATA, r.rdx);
	EXPECT_EQ(SEL_GATE, vcpu_sregs(&g->cpu).fs.selector);
	EXPECT_EQ(0x1000, vcpu_sregs(&g->cpu).fs.base);
	EXPECT_EQ(0xfff, vcpu_sregs(&g->cpu).fs.limit);
	EXPECT_EQ(0xb3, g->mem[GUEST_GDT + SEL_GATE + 5]);
}

TEST_HARNESS_MAIN
