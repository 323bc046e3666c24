// SPDX-License-Identifier: GPL-2.0-only
/*
 * The MOVs by which drivers reach devices, in 64-bit code: random ones are executed twice, with a breakpoint on data that
 * is never hit and without. The first way a hypervisor has to look at everything, the second it may know a shorter one;
 * registers, accesses and memory must not differ. Intel SDM volume 2, MOV, MOVZX, MOVSX; 3.1.1.3 (ModRM and SIB).
 */
#include "kselftest_harness.h"
#include "guest.h"

#define ROUNDS		600
#define MOST_ACCESSES	4
#define DR7_WATCHES	0xd0402UL	/* writes of 4 bytes at DR0, in every task */
#define FAR_AWAY	0x7000UL	/* which is never written to */

struct access {
	uint64_t addr, data;
	uint32_t len;
	bool write;
};

/* What one execution was seen to do. */
struct outcome {
	struct access access[MOST_ACCESSES];
	int accesses;
	int steps;
	struct kvm_regs regs;
	uint64_t memory[2];		/* around the end of memory */
	long last;
};

struct form {
	uint8_t code[16];
	int len;
	struct kvm_regs regs;
};

static uint64_t seed = 20261122;

static uint64_t next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static unsigned int below(unsigned int n)
{
	return (next() >> 20) % n;
}

static void put(struct form *f, uint64_t val, int bytes)
{
	memcpy(f->code + f->len, &val, bytes);
	f->len += bytes;
}

static __u64 *reg(struct form *f, int nr)
{
	__u64 *const regs[] = {
		&f->regs.rax, &f->regs.rcx, &f->regs.rdx, &f->regs.rbx, &f->regs.rsp, &f->regs.rbp, &f->regs.rsi,
		&f->regs.rdi, &f->regs.r8, &f->regs.r9, &f->regs.r10, &f->regs.r11, &f->regs.r12, &f->regs.r13,
		&f->regs.r14, &f->regs.r15,
	};

	return regs[nr];
}

/* Mostly in the middle of a page; else where an access begins in memory, or ends in another page. */
static uint64_t target(void)
{
	switch (below(8)) {
	case 0:
		return GUEST_HOLE - 8 + below(8);
	case 1:
		return GUEST_MMIO + 0x1000 - 8 + below(8);
	default:
		return GUEST_MMIO + below(0xff0);
	}
}

/* The operand of an instruction: by base and index, or relative to RIP. Registers from 8 on need a REX prefix. */
struct operand {
	int reg, base, index;		/* index -1: none */
	int mod, scale, disp;
	bool rip_relative;
};

static struct operand operand(bool rex)
{
	int registers = rex ? 16 : 8;
	struct operand o = {
		.reg = below(registers), .base = below(registers), .index = below(registers),
		.mod = below(3), .scale = below(4), .rip_relative = !below(8),
	};

	/* RSP is no index, and one register cannot be set up to be both. RBP and R13 have no form without displacement. */
	if (o.index == 4 || o.index == o.base)
		o.index = -1;
	if (!o.mod && (o.base & 7) == 5)
		o.mod = 1;
	o.disp = o.mod == 1 ? (int8_t)next() : o.mod == 2 ? (int)below(100000) - 50000 : 0;
	return o;
}

/* ModRM, SIB and displacement, and the registers that make it an access at @at; @imm bytes will follow. */
static void put_operand(struct form *f, const struct operand *o, uint64_t at, int imm)
{
	if (o->rip_relative) {
		put(f, (o->reg & 7) << 3 | 5, 1);
		put(f, at - (GUEST_CODE + f->len + 4 + imm), 4);
		return;
	}
	put(f, o->mod << 6 | (o->reg & 7) << 3 | 4, 1);
	put(f, o->scale << 6 | (o->index < 0 ? 4 : o->index & 7) << 3 | (o->base & 7), 1);
	put(f, o->disp, o->mod == 2 ? 4 : o->mod);
	if (o->index >= 0) {
		*reg(f, o->index) = next() & 0xffff;
		at -= *reg(f, o->index) << o->scale;
	}
	*reg(f, o->base) = at - o->disp;
}

static void make(struct form *f)
{
	static const uint16_t opcodes[] = {
		0x88, 0x89, 0x8a, 0x8b, 0xc6, 0xc7, 0xfb6, 0xfb7, 0xfbe, 0xfbf,
		/* MOVSXD, MOVNTI, ADD and XOR, between them */
		0x63, 0xfc3, 0x01, 0x33,
	};
	uint16_t opcode = opcodes[below(ARRAY_SIZE(opcodes))];
	bool rex = below(3), wide = rex && below(2), word = opcode != 0xfc3 && !below(4);
	struct operand o = operand(rex);
	int i, imm = opcode == 0xc6 ? 1 : opcode != 0xc7 ? 0 : word && !wide ? 2 : 4;

	memset(f, 0, sizeof(*f));
	for (i = 0; i < 16; i++)
		*reg(f, i) = next();
	f->regs.rip = GUEST_CODE;
	f->regs.rflags = 2;
	if (imm)
		o.reg = 0;
	if (word)
		put(f, 0x66, 1);
	if (!below(8))
		put(f, 0x3e, 1);	/* DS, which means nothing here */
	if (rex)
		put(f, 0x40 | wide << 3 | o.reg >> 3 << 2 | (o.index > 7) << 1 | o.base >> 3, 1);
	if (opcode > 0xff)
		put(f, 0x0f, 1);
	put(f, opcode, 1);
	put_operand(f, &o, target(), imm);
	put(f, next(), imm);
	put(f, 0xe6 | PORT_DONE << 8, 2);
}

static void execute(struct guest *g, const struct form *f, bool watched, bool stepped, struct outcome *o)
{
	struct kvm_debugregs debug = { .db = { FAR_AWAY }, .dr6 = 0xffff0ff0, .dr7 = watched ? DR7_WATCHES : 0x400 };
	struct kvm_guest_debug dbg = { .control = stepped ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0 };
	struct kvm_run *run = g->cpu.run;
	struct access *a;

	memset(o, 0, sizeof(*o));
	memset(g->mem + GUEST_HOLE - 16, 0x5a, 16);
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_DEBUGREGS, &debug));
	vcpu_set_regs(&g->cpu, &f->regs);
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_GUEST_DEBUG, &dbg));
	for (;;) {
		o->last = guest_run(g);
		if (o->last == KVM_EXIT_DEBUG && o->steps++ < 4)
			continue;
		if (o->last != KVM_EXIT_MMIO || o->accesses == MOST_ACCESSES)
			break;
		a = &o->access[o->accesses++];
		*a = (struct access) { run->mmio.phys_addr, 0, run->mmio.len, run->mmio.is_write };
		if (a->write)
			memcpy(&a->data, run->mmio.data, a->len);
		else
			memset(run->mmio.data, 0x81 + 0x11 * o->accesses, 8);
	}
	o->regs = vcpu_regs(&g->cpu);
	memcpy(o->memory, g->mem + GUEST_HOLE - 16, 16);
}

static void say(struct __test_metadata *_metadata, const struct form *f, const struct outcome *o)
{
	char code[64] = "";
	int i;

	for (i = 0; i < f->len; i++)
		snprintf(code + 3 * i, 4, "%02x ", f->code[i]);
	TH_LOG("%s: exit %ld, %d accesses, first %#llx, %u bytes, write %d, data %#llx, rip %#llx, %d steps", code, o->last,
	       o->accesses, (unsigned long long)o->access[0].addr, o->access[0].len, o->access[0].write,
	       (unsigned long long)o->access[0].data, o->regs.rip, o->steps);
}

static void compare(struct __test_metadata *_metadata, struct guest *g, bool stepped)
{
	struct outcome slow, fast, again;
	struct form f;
	int i, with_access = 0;

	guest_set_mode(g, MODE_LONG);
	guest_reset_regs(g);
	for (i = 0; i < ROUNDS; i++) {
		make(&f);
		guest_load_bytes(g, f.code, f.len);
		/* Pages are mapped: Bochs forgets a step whose instruction met a nested fault. */
		execute(g, &f, false, stepped, &again);
		execute(g, &f, true, stepped, &slow);
		execute(g, &f, false, stepped, &fast);
		execute(g, &f, false, stepped, &again);
		EXPECT_EQ(0, memcmp(&slow, &fast, sizeof(slow))) {
			say(_metadata, &f, &slow);
			say(_metadata, &f, &fast);
		}
		EXPECT_EQ(0, memcmp(&fast, &again, sizeof(fast)));
		EXPECT_EQ(KVM_EXIT_IO, slow.last) {
			say(_metadata, &f, &slow);
		}
		with_access += slow.accesses > 0;
	}
	/* A form that hits memory alone is a mistake of make(). */
	EXPECT_LT(ROUNDS * 8 / 10, with_access);
}

TEST(as_with_a_breakpoint)
{
	struct guest g;

	guest_create(&g, 0);
	compare(_metadata, &g, false);
	guest_destroy(&g);
}

/* The client's steps: one after each instruction, with its access before it. */
TEST(stepped)
{
	struct guest g;

	guest_create(&g, 0);
	compare(_metadata, &g, true);
	guest_destroy(&g);
}

GUEST(store_imm, 64,
	"mov $4, %ecx\n"
	"1: movl $0x11223344, " STR(GUEST_MMIO) "\n"
	"2: incb 2b - 4 - store_imm_start + " STR(GUEST_CODE) "\n"
	"loop 1b\n" G_DONE);

/* The guest changes the instruction between one execution and the next. */
TEST(changed_code)
{
	struct guest g;
	int i;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(store_imm));
	for (i = 0; i < 4; i++) {
		ASSERT_RUN(KVM_EXIT_MMIO, &g);
		EXPECT_EQ(0x11223344 + i, *(uint32_t *)g.cpu.run->mmio.data);
	}
	ASSERT_DONE(&g);
	guest_destroy(&g);
}

/* The handler of #DB is 16 bytes behind the beginning: it notes where it was called from. */
GUEST(traps, 64,
	".byte 0xe9\n" ".long 7f - 5f\n" "5: .fill 11, 1, 0x90\n"
	"push %rax\n" "mov 8(%rsp), %rax\n" "mov %rax, (%rdi)\n" "add $8, %rdi\n" "pop %rax\n" "iretq\n"
	"7: mov $" STR(GUEST_DATA) ", %edi\n" "mov $3, %ecx\n"
	"pushf\n" "orl $0x100, (%rsp)\n" "popf\n"
	"1: movl %eax, " STR(GUEST_MMIO) "\n"
	"movl " STR(GUEST_MMIO) ", %edx\n"
	"loop 1b\n" G_DONE);

/* RFLAGS.TF: a trap behind each of them. */
TEST(single_step_trap)
{
	const uint64_t *rip;
	struct guest g;
	int i;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(traps));
	guest_set_gate(&g, DB_VECTOR, GUEST_CODE + 16);
	for (i = 0; i < 6; i++) {
		ASSERT_RUN(KVM_EXIT_MMIO, &g);
		EXPECT_EQ(!(i & 1), g.cpu.run->mmio.is_write);
	}
	ASSERT_DONE(&g);
	rip = (const uint64_t *)(g.mem + GUEST_DATA);
	EXPECT_EQ(GUEST_DATA + 9 * 8, vcpu_regs(&g.cpu).rdi);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(rip[0], rip[3 * i]);
		EXPECT_EQ(rip[0] + 7, rip[3 * i + 1]);
		EXPECT_EQ(i < 2 ? rip[0] - 7 : rip[0] + 9, rip[3 * i + 2]);
	}
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
