// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory-mapped I/O: accesses where no slot is, in all sizes, with the instructions that drivers use for them,
 * string instructions between memory and MMIO, and accesses over the end of a page or of a slot (KVM API
 * documentation, section 5, KVM_EXIT_MMIO).
 */
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

FIXTURE(mmio) {
	struct guest g;
};

FIXTURE_VARIANT(mmio) {
	enum guest_mode mode;
};

FIXTURE_VARIANT_ADD(mmio, real) { .mode = MODE_REAL };
FIXTURE_VARIANT_ADD(mmio, prot32) { .mode = MODE_PROT32 };
FIXTURE_VARIANT_ADD(mmio, pae) { .mode = MODE_PAE };
FIXTURE_VARIANT_ADD(mmio, compat) { .mode = MODE_COMPAT };
FIXTURE_VARIANT_ADD(mmio, long64) { .mode = MODE_LONG };

FIXTURE_SETUP(mmio)
{
	guest_create(&self->g, 0);
}

FIXTURE_TEARDOWN(mmio)
{
	guest_destroy(&self->g);
}

/*
 * One instruction on (%rsi) or (%esi), its accesses as the client sees them, and RAX afterwards. Before it RAX,
 * RBX and RCX are as below. An access that is a read gets READ_DATA.
 */
#define RAX_BEFORE	0x1122334455667788UL
#define RBX_BEFORE	0x99aabbccddeeff0fUL
#define READ_DATA	0xf1e2d3c4b5a69788UL

enum access { END, RD, WR };

static const struct insn {
	const char *what;
	uint8_t bytes[12];
	int len, len16;		/* in 16-bit code: 67 prefix added; len16 < 0: not there */
	bool long_only;
	struct {
		enum access kind;
		int size;
		uint64_t data;
	} acc[3];
	uint64_t rax;
} insns[] = {
	{ "mov %al, (%rsi)", { 0x88, 0x06 }, 2, 0, false, { { WR, 1, 0x88 } }, RAX_BEFORE },
	{ "mov %eax, (%rsi)", { 0x89, 0x06 }, 2, -1, false, { { WR, 4, 0x55667788 } }, RAX_BEFORE },
	{ "mov %ax, (%rsi)", { 0x66, 0x89, 0x06 }, 3, -1, false, { { WR, 2, 0x7788 } }, RAX_BEFORE },
	{ "mov %ax, (%esi), 16-bit", { 0x89, 0x06 }, -1, 2, false, { { WR, 2, 0x7788 } }, RAX_BEFORE },
	{ "mov %eax, (%esi), 16-bit", { 0x66, 0x89, 0x06 }, -1, 3, false, { { WR, 4, 0x55667788 } }, RAX_BEFORE },
	{ "mov %rax, (%rsi)", { 0x48, 0x89, 0x06 }, 3, -1, true, { { WR, 8, RAX_BEFORE } }, RAX_BEFORE },
	{ "mov (%rsi), %al", { 0x8a, 0x06 }, 2, 0, false, { { RD, 1, 0 } }, 0x1122334455667788 },
	{ "mov (%rsi), %eax", { 0x8b, 0x06 }, 2, -1, false, { { RD, 4, 0 } }, 0xb5a69788 },
	{ "mov (%rsi), %ax", { 0x66, 0x8b, 0x06 }, 3, -1, false, { { RD, 2, 0 } }, 0x1122334455669788 },
	{ "mov (%rsi), %rax", { 0x48, 0x8b, 0x06 }, 3, -1, true, { { RD, 8, 0 } }, READ_DATA },
	{ "movb $0x5a, (%rsi)", { 0xc6, 0x06, 0x5a }, 3, 0, false, { { WR, 1, 0x5a } }, RAX_BEFORE },
	{ "movl $-2, (%rsi)", { 0xc7, 0x06, 0xfe, 0xff, 0xff, 0xff }, 6, -1, false, { { WR, 4, 0xfffffffe } },
	  RAX_BEFORE },
	{ "movq $-2, (%rsi)", { 0x48, 0xc7, 0x06, 0xfe, 0xff, 0xff, 0xff }, 7, -1, true,
	  { { WR, 8, 0xfffffffffffffffe } }, RAX_BEFORE },
	{ "movzbl (%rsi), %eax", { 0x0f, 0xb6, 0x06 }, 3, -1, false, { { RD, 1, 0 } }, 0x88 },
	{ "movzwl (%rsi), %eax", { 0x0f, 0xb7, 0x06 }, 3, -1, false, { { RD, 2, 0 } }, 0x9788 },
	{ "movsbl (%rsi), %eax", { 0x0f, 0xbe, 0x06 }, 3, -1, false, { { RD, 1, 0 } }, 0xffffff88 },
	{ "movswl (%rsi), %eax", { 0x0f, 0xbf, 0x06 }, 3, -1, false, { { RD, 2, 0 } }, 0xffff9788 },
	{ "movzbq (%rsi), %rax", { 0x48, 0x0f, 0xb6, 0x06 }, 4, -1, true, { { RD, 1, 0 } }, 0x88 },
	{ "movsbq (%rsi), %rax", { 0x48, 0x0f, 0xbe, 0x06 }, 4, -1, true, { { RD, 1, 0 } }, 0xffffffffffffff88 },
	{ "movslq (%rsi), %rax", { 0x48, 0x63, 0x06 }, 3, -1, true, { { RD, 4, 0 } }, 0xffffffffb5a69788 },
	{ "orl %ebx, (%rsi)", { 0x09, 0x1e }, 2, -1, false, { { RD, 4, 0 }, { WR, 4, 0xfdeeff8f } }, RAX_BEFORE },
	{ "andb $0x0f, (%rsi)", { 0x80, 0x26, 0x0f }, 3, 0, false, { { RD, 1, 0 }, { WR, 1, 0x08 } }, RAX_BEFORE },
	{ "addl %ebx, (%rsi)", { 0x01, 0x1e }, 2, -1, false, { { RD, 4, 0 }, { WR, 4, 0x93959697 } }, RAX_BEFORE },
	{ "incl (%rsi)", { 0xff, 0x06 }, 2, -1, false, { { RD, 4, 0 }, { WR, 4, 0xb5a69789 } }, RAX_BEFORE },
	{ "addl (%rsi), %eax", { 0x03, 0x06 }, 2, -1, false, { { RD, 4, 0 } }, 0x0b0d0f10 },
	{ "xchg %eax, (%rsi)", { 0x87, 0x06 }, 2, -1, false, { { RD, 4, 0 }, { WR, 4, 0x55667788 } }, 0xb5a69788 },
	{ "lock xaddl %eax, (%rsi)", { 0xf0, 0x0f, 0xc1, 0x06 }, 4, -1, false,
	  { { RD, 4, 0 }, { WR, 4, 0x0b0d0f10 } }, 0xb5a69788 },
	{ "lock btsl $2, (%rsi)", { 0xf0, 0x0f, 0xba, 0x2e, 0x02 }, 5, -1, false,
	  { { RD, 4, 0 }, { WR, 4, 0xb5a6978c } }, RAX_BEFORE },
	{ "cmpl %eax, (%rsi)", { 0x39, 0x06 }, 2, -1, false, { { RD, 4, 0 } }, RAX_BEFORE },
	{ "notl (%rsi)", { 0xf7, 0x16 }, 2, -1, false, { { RD, 4, 0 }, { WR, 4, 0x4a596877 } }, RAX_BEFORE },
	{ "negl (%rsi)", { 0xf7, 0x1e }, 2, -1, false, { { RD, 4, 0 }, { WR, 4, 0x4a596878 } }, RAX_BEFORE },
	{ "shll $4, (%rsi)", { 0xc1, 0x26, 0x04 }, 3, -1, false, { { RD, 4, 0 }, { WR, 4, 0x5a697880 } }, RAX_BEFORE },
	{ "rorl $8, (%rsi)", { 0xc1, 0x0e, 0x08 }, 3, -1, false, { { RD, 4, 0 }, { WR, 4, 0x88b5a697 } }, RAX_BEFORE },
	{ "btrl $3, (%rsi)", { 0x0f, 0xba, 0x36, 0x03 }, 4, -1, false, { { RD, 4, 0 }, { WR, 4, 0xb5a69780 } },
	  RAX_BEFORE },
	{ "btl $3, (%rsi)", { 0x0f, 0xba, 0x26, 0x03 }, 4, -1, false, { { RD, 4, 0 } }, RAX_BEFORE },
	{ "setz (%rsi)", { 0x0f, 0x94, 0x06 }, 3, 0, false, { { WR, 1, 0 } }, RAX_BEFORE },
	{ "cmovz (%rsi), %eax", { 0x0f, 0x44, 0x06 }, 3, -1, false, { { RD, 4, 0 } }, 0x55667788 },
	{ "cmovnz (%rsi), %eax", { 0x0f, 0x45, 0x06 }, 3, -1, false, { { RD, 4, 0 } }, 0xb5a69788 },
	{ "imull (%rsi), %eax", { 0x0f, 0xaf, 0x06 }, 3, -1, false, { { RD, 4, 0 } }, 0x7920b840 },
	{ "mull (%rsi)", { 0xf7, 0x26 }, 2, -1, false, { { RD, 4, 0 } }, 0x7920b840 },
	{ "popcnt (%rsi), %eax", { 0xf3, 0x0f, 0xb8, 0x06 }, 4, -1, false, { { RD, 4, 0 } }, 16 },
	{ "bsf (%rsi), %eax", { 0x0f, 0xbc, 0x06 }, 3, -1, false, { { RD, 4, 0 } }, 3 },
	{ "movbe (%rsi), %eax", { 0x0f, 0x38, 0xf0, 0x06 }, 4, -1, false, { { RD, 4, 0 } }, 0x8897a6b5 },
	{ "movbe %eax, (%rsi)", { 0x0f, 0x38, 0xf1, 0x06 }, 4, -1, false, { { WR, 4, 0x88776655 } }, RAX_BEFORE },
	{ "movnti %eax, (%rsi)", { 0x0f, 0xc3, 0x06 }, 3, -1, false, { { WR, 4, 0x55667788 } }, RAX_BEFORE },
	{ "movnti %rax, (%rsi)", { 0x48, 0x0f, 0xc3, 0x06 }, 4, -1, true, { { WR, 8, RAX_BEFORE } }, RAX_BEFORE },
	{ "andn (%rsi), %ebx, %eax", { 0xc4, 0xe2, 0x60, 0xf2, 0x06 }, 5, -1, true, { { RD, 4, 0 } }, 0x20000080 },
	{ "rorx $4, (%rsi), %rax", { 0xc4, 0xe3, 0xfb, 0xf0, 0x06, 0x04 }, 6, -1, true, { { RD, 8, 0 } },
	  0x8f1e2d3c4b5a6978 },
	{ "shlx %rax, (%rsi), %rax", { 0xc4, 0xe2, 0xf9, 0xf7, 0x06 }, 5, -1, true, { { RD, 8, 0 } }, 0xe2d3c4b5a6978800 },
	{ "pext (%rsi), %rbx, %rax", { 0xc4, 0xe2, 0xe2, 0xf5, 0x06 }, 5, -1, true, { { RD, 8, 0 } }, 0x13bbfbffd },
	{ "testb $1, (%rsi)", { 0xf6, 0x06, 0x01 }, 3, 0, false, { { RD, 1, 0 } }, RAX_BEFORE },
};

/* mod/rm byte 06 is (%rsi) with 32- and 64-bit addresses; 16-bit code gets an address size prefix. */
static int build(struct guest *g, enum guest_mode mode, const struct insn *in)
{
	static const uint8_t done[] = { 0xe6, PORT_DONE };
	uint8_t code[32];
	int n = 0, len = in->len;

	if (guest_mode_bits(mode) == 16) {
		if (in->len16 < 0)
			return 0;
		len = in->len16 ? in->len16 : in->len;
		code[n++] = 0x67;
	}
	if (len < 0 || (in->long_only && mode != MODE_LONG))
		return 0;
	memcpy(code + n, in->bytes, len);
	n += len;
	memcpy(code + n, done, sizeof(done));
	guest_set_mode(g, mode);
	guest_load_bytes(g, code, n + sizeof(done));
	guest_reset_regs(g);
	return n;
}

TEST_F(mmio, instructions)
{
	struct guest *g = &self->g;
	struct kvm_run *run = g->cpu.run;
	const struct insn *in;
	struct kvm_sregs s;
	struct kvm_regs r;
	uint64_t data;
	int j, len;

	for (in = insns; in < insns + ARRAY_SIZE(insns); in++) {
		len = build(g, variant->mode, in);
		if (!len)
			continue;
		if (variant->mode == MODE_REAL) {
			/* The hole is beyond the segment's 64 KiB: bring the base near. */
			s = vcpu_sregs(&g->cpu);
			s.ds.base = GUEST_MMIO & ~0xffff;
			s.ds.selector = s.ds.base >> 4;
			vcpu_set_sregs(&g->cpu, &s);
		}
		r = vcpu_regs(&g->cpu);
		r.rax = RAX_BEFORE;
		r.rbx = RBX_BEFORE;
		r.rsi = variant->mode == MODE_REAL ? 0x40 : GUEST_MMIO + 0x40;
		vcpu_set_regs(&g->cpu, &r);
		for (j = 0; in->acc[j].kind != END; j++) {
			ASSERT_RUN(KVM_EXIT_MMIO, g);
			EXPECT_EQ(GUEST_MMIO + 0x40, run->mmio.phys_addr);
			EXPECT_EQ(in->acc[j].kind == WR, run->mmio.is_write) {
				TH_LOG("%s", in->what);
			}
			EXPECT_EQ(in->acc[j].size, run->mmio.len) {
				TH_LOG("%s", in->what);
			}
			if (in->acc[j].kind == WR) {
				data = 0;
				memcpy(&data, run->mmio.data, in->acc[j].size);
				EXPECT_EQ(in->acc[j].data, data) {
					TH_LOG("%s", in->what);
				}
			} else {
				data = READ_DATA;
				memcpy(run->mmio.data, &data, 8);
			}
		}
		ASSERT_DONE(g);
		r = vcpu_regs(&g->cpu);
		EXPECT_EQ(in->rax, r.rax) {
			TH_LOG("%s", in->what);
		}
		EXPECT_EQ(RBX_BEFORE, r.rbx);
	}
}

GUEST(stosl, 64, "rep stosl\n" G_DONE);
GUEST(movsl, 64, "rep movsl\n" G_DONE);
GUEST(movsb, 64, "rep movsb\n" G_DONE);
GUEST(movsq, 64, "rep movsq\n" G_DONE);
GUEST(lodsw, 64, "lodsw\n" G_DONE);

static void string_start(struct guest *g, struct guest_blob blob, uint64_t rcx, uint64_t rsi, uint64_t rdi)
{
	struct kvm_regs r;

	guest_start(g, MODE_LONG, blob);
	r = vcpu_regs(&g->cpu);
	r.rax = RAX_BEFORE;
	r.rcx = rcx;
	r.rsi = rsi;
	r.rdi = rdi;
	vcpu_set_regs(&g->cpu, &r);
}

TEST(rep_stos)
{
	struct guest g;
	struct kvm_run *run;
	struct kvm_regs r;
	int i;

	guest_create(&g, 0);
	run = g.cpu.run;
	string_start(&g, BLOB(stosl), 20, 0, GUEST_MMIO + 0xfe0);	/* over a page's end */
	for (i = 0; i < 20; i++) {
		ASSERT_RUN(KVM_EXIT_MMIO, &g);
		EXPECT_EQ(1, run->mmio.is_write);
		EXPECT_EQ(4, run->mmio.len);
		EXPECT_EQ(GUEST_MMIO + 0xfe0 + 4 * i, run->mmio.phys_addr);
		EXPECT_EQ(0x55667788, *(uint32_t *)run->mmio.data);
	}
	ASSERT_DONE(&g);
	r = vcpu_regs(&g.cpu);
	EXPECT_EQ(0, r.rcx);
	EXPECT_EQ(GUEST_MMIO + 0xfe0 + 80, r.rdi);
	guest_destroy(&g);
}

TEST(rep_movs_to_mmio)
{
	struct guest g;
	struct kvm_run *run;
	struct kvm_regs r;
	int i;

	guest_create(&g, 0);
	run = g.cpu.run;
	string_start(&g, BLOB(movsl), 8, GUEST_DATA, GUEST_MMIO);
	for (i = 0; i < 8; i++)
		((uint32_t *)(g.mem + GUEST_DATA))[i] = 0x1000 + i;
	for (i = 0; i < 8; i++) {
		ASSERT_RUN(KVM_EXIT_MMIO, &g);
		EXPECT_EQ(1, run->mmio.is_write);
		EXPECT_EQ(4, run->mmio.len);
		EXPECT_EQ(GUEST_MMIO + 4 * i, run->mmio.phys_addr);
		EXPECT_EQ(0x1000 + i, *(uint32_t *)run->mmio.data);
	}
	ASSERT_DONE(&g);
	r = vcpu_regs(&g.cpu);
	EXPECT_EQ(0, r.rcx);
	EXPECT_EQ(GUEST_DATA + 32, r.rsi);
	EXPECT_EQ(GUEST_MMIO + 32, r.rdi);
	guest_destroy(&g);
}

TEST(rep_movs_from_mmio)
{
	struct guest g;
	struct kvm_run *run;
	struct kvm_regs r;
	uint64_t v;
	int i;

	guest_create(&g, 0);
	run = g.cpu.run;
	string_start(&g, BLOB(movsq), 6, GUEST_MMIO + 8, GUEST_DATA + 0xff4);	/* to both sides of a page's end */
	for (i = 0; i < 6; i++) {
		ASSERT_RUN(KVM_EXIT_MMIO, &g);
		EXPECT_EQ(0, run->mmio.is_write);
		EXPECT_EQ(8, run->mmio.len);
		EXPECT_EQ(GUEST_MMIO + 8 + 8 * i, run->mmio.phys_addr);
		v = 0x0101010101010101UL * (i + 1);
		memcpy(run->mmio.data, &v, 8);
	}
	ASSERT_DONE(&g);
	r = vcpu_regs(&g.cpu);
	EXPECT_EQ(0, r.rcx);
	EXPECT_EQ(GUEST_MMIO + 56, r.rsi);
	EXPECT_EQ(GUEST_DATA + 0xff4 + 48, r.rdi);
	for (i = 0; i < 48; i++) {
		EXPECT_EQ(i / 8 + 1, g.mem[GUEST_DATA + 0xff4 + i]);
	}
	EXPECT_EQ(0, g.mem[GUEST_DATA + 0xff3]);
	EXPECT_EQ(0, g.mem[GUEST_DATA + 0xff4 + 48]);
	guest_destroy(&g);
}

TEST(rep_movs_mmio_to_mmio_backwards)
{
	struct guest g;
	struct kvm_run *run;
	struct kvm_regs r;
	int i;

	guest_create(&g, 0);
	run = g.cpu.run;
	string_start(&g, BLOB(movsb), 3, GUEST_MMIO + 2, GUEST_MMIO + 0x102);
	r = vcpu_regs(&g.cpu);
	r.rflags |= X86_EFLAGS_DF;
	vcpu_set_regs(&g.cpu, &r);
	for (i = 2; i >= 0; i--) {
		ASSERT_RUN(KVM_EXIT_MMIO, &g);
		EXPECT_EQ(0, run->mmio.is_write);
		EXPECT_EQ(1, run->mmio.len);
		EXPECT_EQ(GUEST_MMIO + i, run->mmio.phys_addr);
		run->mmio.data[0] = 0x80 + i;
		ASSERT_RUN(KVM_EXIT_MMIO, &g);
		EXPECT_EQ(1, run->mmio.is_write);
		EXPECT_EQ(GUEST_MMIO + 0x100 + i, run->mmio.phys_addr);
		EXPECT_EQ(0x80 + i, run->mmio.data[0]);
	}
	ASSERT_DONE(&g);
	r = vcpu_regs(&g.cpu);
	EXPECT_EQ(0, r.rcx);
	EXPECT_EQ(GUEST_MMIO - 1, r.rsi);
	EXPECT_EQ(GUEST_MMIO + 0xff, r.rdi);
	guest_destroy(&g);
}

TEST(lods)
{
	struct guest g;

	guest_create(&g, 0);
	string_start(&g, BLOB(lodsw), 1, GUEST_MMIO + 6, 0);
	ASSERT_RUN(KVM_EXIT_MMIO, &g);
	EXPECT_EQ(2, g.cpu.run->mmio.len);
	g.cpu.run->mmio.data[0] = 0xcd;
	g.cpu.run->mmio.data[1] = 0xab;
	ASSERT_DONE(&g);
	EXPECT_EQ(0x112233445566abcdUL, vcpu_regs(&g.cpu).rax);
	EXPECT_EQ(GUEST_MMIO + 8, vcpu_regs(&g.cpu).rsi);
	guest_destroy(&g);
}

GUEST(store8, 64, "movq %rax, (%rdi)\n" G_DONE);
GUEST(load8, 64, "movq (%rsi), %rax\n" G_DONE);

/* An access over a page's end is two exits, the lower address first. */
TEST(page_crossing)
{
	struct guest g;
	struct kvm_run *run;
	uint64_t v = READ_DATA;

	guest_create(&g, 0);
	run = g.cpu.run;
	string_start(&g, BLOB(store8), 0, 0, GUEST_MMIO + 0xffd);
	ASSERT_RUN(KVM_EXIT_MMIO, &g);
	EXPECT_EQ(1, run->mmio.is_write);
	EXPECT_EQ(GUEST_MMIO + 0xffd, run->mmio.phys_addr);
	EXPECT_EQ(3, run->mmio.len);
	EXPECT_EQ(0, memcmp(run->mmio.data, "\x88\x77\x66", 3));
	ASSERT_RUN(KVM_EXIT_MMIO, &g);
	EXPECT_EQ(1, run->mmio.is_write);
	EXPECT_EQ(GUEST_MMIO + 0x1000, run->mmio.phys_addr);
	EXPECT_EQ(5, run->mmio.len);
	EXPECT_EQ(0, memcmp(run->mmio.data, "\x55\x44\x33\x22\x11", 5));
	ASSERT_DONE(&g);

	string_start(&g, BLOB(load8), 0, GUEST_MMIO + 0xffa, 0);
	ASSERT_RUN(KVM_EXIT_MMIO, &g);
	EXPECT_EQ(0, run->mmio.is_write);
	EXPECT_EQ(GUEST_MMIO + 0xffa, run->mmio.phys_addr);
	EXPECT_EQ(6, run->mmio.len);
	memcpy(run->mmio.data, &v, 6);
	ASSERT_RUN(KVM_EXIT_MMIO, &g);
	EXPECT_EQ(GUEST_MMIO + 0x1000, run->mmio.phys_addr);
	EXPECT_EQ(2, run->mmio.len);
	memcpy(run->mmio.data, (char *)&v + 6, 2);
	ASSERT_DONE(&g);
	EXPECT_EQ(READ_DATA, vcpu_regs(&g.cpu).rax);
	guest_destroy(&g);
}

/* Half in memory, half in the hole behind it: only the second half is an exit. */
TEST(slot_end_crossing)
{
	struct guest g;
	struct kvm_run *run;

	guest_create(&g, 0);
	run = g.cpu.run;
	string_start(&g, BLOB(store8), 0, 0, GUEST_HOLE - 4);
	ASSERT_RUN(KVM_EXIT_MMIO, &g);
	EXPECT_EQ(1, run->mmio.is_write);
	EXPECT_EQ(GUEST_HOLE, run->mmio.phys_addr);
	EXPECT_EQ(4, run->mmio.len);
	EXPECT_EQ(0x11223344, *(uint32_t *)run->mmio.data);
	ASSERT_DONE(&g);
	EXPECT_EQ(0x55667788, *(uint32_t *)(g.mem + GUEST_HOLE - 4));

	string_start(&g, BLOB(load8), 0, GUEST_HIGH - 2, 0);
	memcpy(g.mem + GUEST_HIGH, "\x01\x02\x03\x04\x05\x06", 6);
	ASSERT_RUN(KVM_EXIT_MMIO, &g);
	EXPECT_EQ(0, run->mmio.is_write);
	EXPECT_EQ(GUEST_HIGH - 2, run->mmio.phys_addr);
	EXPECT_EQ(2, run->mmio.len);
	run->mmio.data[0] = 0xaa;
	run->mmio.data[1] = 0xbb;
	ASSERT_DONE(&g);
	EXPECT_EQ(0x060504030201bbaaUL, vcpu_regs(&g.cpu).rax);
	guest_destroy(&g);
}

GUEST(high, 64, "movabsq $0xfe0000010, %rsi\n" "movl (%rsi), %eax\n" G_DONE);

/* A physical address above 4 GiB, by a 2 MiB page of the guest. */
TEST(above_4g)
{
	struct guest g;
	uint64_t *pdpt;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(high));
	/* 0xfe0000000 is entry 63 of the directory pointers, entry 256 of the directory */
	pdpt = (void *)(g.mem + GUEST_PDPT);
	pdpt[63] = 0x60000 | 7;
	((uint64_t *)(g.mem + 0x60000))[256] = 0x1234400000UL | 0x83;
	ASSERT_RUN(KVM_EXIT_MMIO, &g);
	EXPECT_EQ(0x1234400010UL, g.cpu.run->mmio.phys_addr);
	EXPECT_EQ(4, g.cpu.run->mmio.len);
	memset(g.cpu.run->mmio.data, 0x5c, 4);
	ASSERT_DONE(&g);
	EXPECT_EQ(0x5c5c5c5c, vcpu_regs(&g.cpu).rax);
	guest_destroy(&g);
}

/* After an exit for a read the registers are the old ones until the client lets the instruction end. */
TEST(completion)
{
	struct guest g;
	uint64_t v = READ_DATA;

	guest_create(&g, 0);
	string_start(&g, BLOB(load8), 0, GUEST_MMIO, 0);
	ASSERT_RUN(KVM_EXIT_MMIO, &g);
	EXPECT_EQ(RAX_BEFORE, vcpu_regs(&g.cpu).rax);
	EXPECT_EQ(GUEST_CODE, vcpu_regs(&g.cpu).rip);
	memcpy(g.cpu.run->mmio.data, &v, 8);
	vcpu_complete_io(&g.cpu);
	EXPECT_EQ(READ_DATA, vcpu_regs(&g.cpu).rax);
	EXPECT_EQ(GUEST_CODE + 3, vcpu_regs(&g.cpu).rip);
	ASSERT_DONE(&g);
	guest_destroy(&g);
}

/* Vector registers of 8, 16 and 32 bytes: a device sees 8 bytes at a time. */
static const struct vector_insn {
	const char *what;
	uint8_t bytes[8];
	int len, size;
	bool store, avx;
} vector_insns[] = {
	{ "movups %xmm1, (%rsi)", { 0x0f, 0x11, 0x0e }, 3, 16, true, false },
	{ "movups (%rsi), %xmm1", { 0x0f, 0x10, 0x0e }, 3, 16, false, false },
	{ "movdqa %xmm1, (%rsi)", { 0x66, 0x0f, 0x7f, 0x0e }, 4, 16, true, false },
	{ "movdqa (%rsi), %xmm1", { 0x66, 0x0f, 0x6f, 0x0e }, 4, 16, false, false },
	{ "movntdq %xmm1, (%rsi)", { 0x66, 0x0f, 0xe7, 0x0e }, 4, 16, true, false },
	{ "movntdqa (%rsi), %xmm1", { 0x66, 0x0f, 0x38, 0x2a, 0x0e }, 5, 16, false, false },
	{ "movq %xmm1, (%rsi)", { 0x66, 0x0f, 0xd6, 0x0e }, 4, 8, true, false },
	{ "vmovdqu %ymm1, (%rsi)", { 0xc5, 0xfe, 0x7f, 0x0e }, 4, 32, true, true },
	{ "vmovdqu (%rsi), %ymm1", { 0xc5, 0xfe, 0x6f, 0x0e }, 4, 32, false, true },
	{ "vmovaps %ymm1, (%rsi)", { 0xc5, 0xfc, 0x29, 0x0e }, 4, 32, true, true },
	{ "vmovntdq %ymm1, (%rsi)", { 0xc5, 0xfd, 0xe7, 0x0e }, 4, 32, true, true },
	{ "vmovntdqa (%rsi), %ymm1", { 0xc4, 0xe2, 0x7d, 0x2a, 0x0e }, 5, 32, false, true },
	{ "vmovdqu (%rsi), %xmm1", { 0xc5, 0xfa, 0x6f, 0x0e }, 4, 16, false, true },
};

#define XSAVE_XMM	160
#define XSAVE_BV	512
#define XSAVE_YMM	576

static void vector_fill(struct guest *g, const uint8_t *value, bool avx)
{
	struct kvm_xsave x;

	MUST(vm_ioctl(g->cpu.fd, KVM_GET_XSAVE, &x));
	memcpy((uint8_t *)x.region + XSAVE_XMM + 16, value, 16);
	memcpy((uint8_t *)x.region + XSAVE_YMM + 16, value + 16, 16);
	*(uint64_t *)((uint8_t *)x.region + XSAVE_BV) |= avx ? XFEATURE_SSE | XFEATURE_YMM : XFEATURE_SSE;
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_XSAVE, &x));
}

static void vector_value(struct guest *g, uint8_t *value)
{
	struct kvm_xsave x;
	uint64_t bv;

	MUST(vm_ioctl(g->cpu.fd, KVM_GET_XSAVE, &x));
	bv = *(uint64_t *)((uint8_t *)x.region + XSAVE_BV);
	memset(value, 0, 32);
	if (bv & XFEATURE_SSE)
		memcpy(value, (uint8_t *)x.region + XSAVE_XMM + 16, 16);
	if (bv & XFEATURE_YMM)
		memcpy(value + 16, (uint8_t *)x.region + XSAVE_YMM + 16, 16);
}

/* XCR0 with AVX; false if the guest has none. */
static bool enable_avx(struct guest *g)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0] = { .value = XFEATURE_FP | XFEATURE_SSE | XFEATURE_YMM } };
	struct kvm_sregs s = vcpu_sregs(&g->cpu);

	s.cr4 |= X86_CR4_OSXSAVE;
	return !vm_ioctl(g->cpu.fd, KVM_SET_SREGS, &s) && !vm_ioctl(g->cpu.fd, KVM_SET_XCRS, &xcrs);
}

TEST(vector_instructions)
{
	static const uint8_t done[] = { 0xe6, PORT_DONE };
	uint8_t value[32], want[32], code[16];
	const struct vector_insn *in;
	struct kvm_run *run;
	struct kvm_regs r;
	struct guest g;
	bool avx;
	int i;

	guest_create(&g, 0);
	run = g.cpu.run;
	for (in = vector_insns; in < vector_insns + ARRAY_SIZE(vector_insns); in++) {
		guest_set_mode(&g, MODE_LONG);
		avx = enable_avx(&g);
		if (in->avx && !avx)
			continue;
		memcpy(code, in->bytes, in->len);
		memcpy(code + in->len, done, sizeof(done));
		guest_load_bytes(&g, code, in->len + sizeof(done));
		guest_reset_regs(&g);
		r = vcpu_regs(&g.cpu);
		r.rsi = GUEST_MMIO + 0x40;
		vcpu_set_regs(&g.cpu, &r);
		for (i = 0; i < 32; i++)
			value[i] = 0x40 + 3 * i;
		vector_fill(&g, value, avx);
		memcpy(want, value, 32);
		for (i = 0; i < in->size; i += 8) {
			ASSERT_RUN(KVM_EXIT_MMIO, &g);
			EXPECT_EQ(GUEST_MMIO + 0x40 + i, run->mmio.phys_addr);
			EXPECT_EQ(8, run->mmio.len);
			EXPECT_EQ(in->store, run->mmio.is_write) {
				TH_LOG("%s", in->what);
			}
			if (in->store) {
				EXPECT_EQ(0, memcmp(run->mmio.data, value + i, 8)) {
					TH_LOG("%s", in->what);
				}
				continue;
			}
			memset(run->mmio.data, 0x90 + i, 8);
			memset(want + i, 0x90 + i, 8);
		}
		if (!in->store && in->avx && in->size == 16)
			memset(want + 16, 0, 16);
		ASSERT_DONE(&g);
		vector_value(&g, value);
		EXPECT_EQ(0, memcmp(want, value, avx ? 32 : 16)) {
			TH_LOG("%s", in->what);
		}
	}
	guest_destroy(&g);
}

GUEST(mmx, 64, "movq (%rsi), %mm3\n" "movq %mm3, 8(%rsi)\n" "movd %mm3, 16(%rsi)\n" "movntq %mm3, 24(%rsi)\n" G_DONE);

TEST(mmx_instructions)
{
	static const int sizes[] = { 8, 8, 4, 8 };
	uint64_t v = READ_DATA;
	struct kvm_run *run;
	struct kvm_fpu fpu;
	struct guest g;
	int i;

	guest_create(&g, 0);
	run = g.cpu.run;
	string_start(&g, BLOB(mmx), 0, GUEST_MMIO, 0);
	for (i = 0; i < 4; i++) {
		ASSERT_RUN(KVM_EXIT_MMIO, &g);
		EXPECT_EQ(i > 0, run->mmio.is_write);
		EXPECT_EQ(GUEST_MMIO + 8 * i, run->mmio.phys_addr);
		EXPECT_EQ(sizes[i], run->mmio.len);
		if (i) {
			EXPECT_EQ(0, memcmp(run->mmio.data, &v, sizes[i]));
		} else {
			memcpy(run->mmio.data, &v, 8);
		}
	}
	ASSERT_DONE(&g);
	ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_GET_FPU, &fpu));
	EXPECT_EQ(0, memcmp(fpu.fpr[3], &v, 8));
	EXPECT_EQ(0xff, fpu.ftwx);
	guest_destroy(&g);
}

GUEST(addl, 64, "addl %eax, (%rsi)\n" G_DONE);

/* A read, a change and a write, each half in memory and half in the device: what was read there is used once. */
TEST(modify_over_slot_end)
{
	struct guest g;
	struct kvm_run *run;

	guest_create(&g, 0);
	run = g.cpu.run;
	string_start(&g, BLOB(addl), 0, GUEST_HOLE - 2, 0);
	memcpy(g.mem + GUEST_HOLE - 2, "\x11\x22", 2);
	ASSERT_RUN(KVM_EXIT_MMIO, &g);
	EXPECT_EQ(0, run->mmio.is_write);
	EXPECT_EQ(GUEST_HOLE, run->mmio.phys_addr);
	EXPECT_EQ(2, run->mmio.len);
	memcpy(run->mmio.data, "\x33\x44", 2);
	ASSERT_RUN(KVM_EXIT_MMIO, &g);
	EXPECT_EQ(1, run->mmio.is_write);
	EXPECT_EQ(GUEST_HOLE, run->mmio.phys_addr);
	EXPECT_EQ(2, run->mmio.len);
	/* 0x44332211 + 0x55667788 = 0x99999999 */
	EXPECT_EQ(0, memcmp(run->mmio.data, "\x99\x99", 2));
	ASSERT_DONE(&g);
	EXPECT_EQ(0, memcmp(g.mem + GUEST_HOLE - 2, "\x99\x99", 2));
	guest_destroy(&g);
}

/* The page behind the device's is absent: an access across faults before the device sees any of it. */
TEST(faulting_crossing)
{
	struct guest_blob blobs[] = { BLOB(store8), BLOB(load8), BLOB(addl) };
	struct guest g;
	struct guest_exc e;
	int i;

	guest_create(&g, 0);
	for (i = 0; i < 3; i++) {
		string_start(&g, blobs[i], 0, GUEST_MMIO + 0xffe, GUEST_MMIO + 0xffe);
		guest_split_2m(&g, 0, 0x60000);
		((uint64_t *)(g.mem + 0x60000))[(GUEST_MMIO >> 12) + 1] = 0;
		ASSERT_PORT(PORT_EXC, &g);
		e = guest_exc(&g);
		EXPECT_EQ(PF_VECTOR, e.vector);
		EXPECT_EQ(i == 1 ? 0 : 2, e.error);
		EXPECT_EQ(GUEST_CODE, e.rip);
		EXPECT_EQ(GUEST_MMIO + 0x1000, vcpu_sregs(&g.cpu).cr2);
	}
	guest_destroy(&g);
}

/* REP that reaches an absent page: the iterations before it are done, once each. */
TEST(faulting_rep)
{
	struct kvm_run *run;
	struct kvm_regs r;
	struct guest g;
	struct guest_exc e;
	int i;

	guest_create(&g, 0);
	run = g.cpu.run;
	string_start(&g, BLOB(movsl), 5, GUEST_MMIO + 0xff4, GUEST_DATA);
	guest_split_2m(&g, 0, 0x60000);
	((uint64_t *)(g.mem + 0x60000))[(GUEST_MMIO >> 12) + 1] = 0;
	for (i = 0; i < 3; i++) {
		ASSERT_RUN(KVM_EXIT_MMIO, &g);
		EXPECT_EQ(0, run->mmio.is_write);
		EXPECT_EQ(GUEST_MMIO + 0xff4 + 4 * i, run->mmio.phys_addr);
		memset(run->mmio.data, i + 1, 4);
	}
	ASSERT_PORT(PORT_EXC, &g);
	e = guest_exc(&g);
	EXPECT_EQ(PF_VECTOR, e.vector);
	EXPECT_EQ(GUEST_CODE, e.rip);
	EXPECT_EQ(GUEST_MMIO + 0x1000, vcpu_sregs(&g.cpu).cr2);
	r = vcpu_regs(&g.cpu);
	EXPECT_EQ(2, r.rcx);
	EXPECT_EQ(GUEST_MMIO + 0x1000, r.rsi);
	EXPECT_EQ(GUEST_DATA + 12, r.rdi);
	EXPECT_EQ(0, memcmp(g.mem + GUEST_DATA, "\1\1\1\1\2\2\2\2\3\3\3\3\0", 13));
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
