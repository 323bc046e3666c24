// SPDX-License-Identifier: GPL-2.0-only
/*
 * Trials for the comparison with the CPU: half of them random bytes, half built for a row of the
 * opcode table, on registers that meet edges and memory operands in and around the sandbox.
 */
#include <stdlib.h>
#include <string.h>
#include "fuzz.h"

#define ROWS_MAX	2048

static u64 rng;
static struct row_path rows[ROWS_MAX];
static unsigned int nr_rows;

static u64 rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1dULL;
}

static unsigned int rnd_below(unsigned int n)
{
	return (rnd() >> 33) % n;
}

/* Values that meet edges more often than chance would. */
static u64 rnd_value(void)
{
	static const u64 edges[] = {
		0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000,
		0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff,
	};

	switch (rnd_below(4)) {
	case 0:
		return edges[rnd_below(14)];
	case 1:
		return rnd_below(70);
	case 2:
		return (s64)(s32)rnd();
	}
	return rnd();
}

/* What cannot be compared, and what this CPU does not have */

/* Rows by operation; the reasons are printed at the end. */
static const struct {
	u16 first, last;
	const char *why;
} excluded[] = {
	{ OP_NOEXEC, OP_NOEXEC, "not executed by the emulator" },
	{ OP_UD, OP_UD, "refused by decode" },
	{ OP_INT1, OP_INT3, "goes to the kernel" },
	{ OP_SGDT, OP_SIDT, "UMIP: the kernel answers" },
	{ OP_SLDT, OP_STR, "UMIP: the kernel answers" },
	{ OP_SMSW, OP_SMSW, "UMIP: the kernel answers" },
	{ OP_HYPERCALL, OP_HYPERCALL, "goes to the hypervisor below" },
	{ OP_SYSCALL, OP_SYSEXIT, "goes to the kernel" },
	{ OP_FXSAVE, OP_FXRSTOR, "x87 state is not compared" },
};

const char *gen_excluded(const struct keel_op *row, const struct row_path *path)
{
	unsigned int i;

	for (i = 0; i < sizeof(excluded) / sizeof(excluded[0]); i++)
		if (row->op >= excluded[i].first && row->op <= excluded[i].last)
			return excluded[i].why;
	return row_on_this_cpu(row, path) ? NULL : "not on this CPU";
}

/*
 * Where CPUs differ: 66 with near branches in 64-bit mode, 66 with MOVSXD (2 or 4 bytes are read),
 * REP with LOOPE and LOOPNE (a reserved use, which overrides the condition on some), and REX.W with
 * LSS, LFS, LGS and far branches (ignored on some).
 */
static bool vendor_specific(const struct keel_insn *insn)
{
	if (insn->op->op == OP_LOOP && (insn->prefixes & (KEEL_PFX_REP | KEEL_PFX_REPNE)))
		return true;
	if ((insn->op->op == OP_LOAD_FAR_PTR || insn->op->op == OP_JMP_FAR_IND ||
	     insn->op->op == OP_CALL_FAR_IND) && insn->op_size == 8)
		return true;
	return (insn->prefixes & KEEL_PFX_OPSIZE) && insn->mode == M64 &&
	       ((insn->op->flags & F_F64) || insn->op->src == O_E32);
}

/* The gates that Linux lets programs use, and the 32-bit system call. */
static bool is_open_gate(u8 vector)
{
	return vector == 3 || vector == 4 || vector == 0x80;
}

/* What the trial's instruction excludes beyond its row. */
static bool comparable(const struct trial *t)
{
	const struct keel_insn *insn = &t->insn;
	struct row_path path = {
		.vex = insn->vex, .map = insn->map, .opcode = insn->opcode, .reg = insn->reg & 7,
		.form = insn->has_modrm && insn->mod == 3,
		.prefix = insn->prefixes & KEEL_PFX_OPSIZE ? 1 : 0,
	};

	if (gen_excluded(insn->op, &path) || vendor_specific(insn))
		return false;
	if (insn->op->op == OP_INT && is_open_gate(insn->imm))
		return false;
	if (t->mode == M64 && !native_has_fsgsbase() &&
	    (insn->seg == KEEL_FS || insn->seg == KEEL_GS))
		return false;
	return true;
}

/* The instruction */

static void add_row(const struct keel_op *row, const struct row_path *path, const char *name)
{
	(void)name;
	if (gen_excluded(row, path))
		return;
	if (nr_rows == ROWS_MAX)
		abort();
	rows[nr_rows++] = *path;
}

void gen_init(u64 seed)
{
	rng = seed * 0x9e3779b97f4a7c15ULL + 1;
	nr_rows = 0;
	for_each_row(add_row);
}

/* @mandatory: these mean something, so others of their kind must not come in between. */
static unsigned int put_prefixes(struct trial *t, bool mandatory)
{
	static const u8 list[] = {
		0x67, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0xf0, 0x66, 0x66, 0x66, 0xf2, 0xf3,
	};
	unsigned int n = 0;

	while (!rnd_below(3) && n < 4)
		t->code[n++] = list[rnd_below(mandatory ? 8 : sizeof(list))];
	return n;
}

static unsigned int put_map(struct trial *t, unsigned int n, unsigned int map)
{
	if (map != KEEL_MAP_ONE)
		t->code[n++] = 0x0f;
	if (map == KEEL_MAP_0F38)
		t->code[n++] = 0x38;
	if (map == KEEL_MAP_0F3A)
		t->code[n++] = 0x3a;
	return n;
}

static void put_modrm(struct trial *t, unsigned int n, const struct row_path *path)
{
	u8 modrm = rnd();

	if (path->reg >= 0)
		modrm = (modrm & 0xc7) | path->reg << 3;
	if (path->rm >= 0)
		modrm = (modrm & 0xf8) | path->rm;
	if (path->form == 1)
		modrm |= 0xc0;
	else if (path->form == 0)
		modrm = (modrm & 0x3f) | rnd_below(3) << 6;
	t->code[n] = modrm;
}

static void put_row(struct trial *t, const struct row_path *path)
{
	static const u8 mandatory[] = { 0, 0x66, 0xf3, 0xf2 };
	unsigned int n = put_prefixes(t, path->prefix >= 0 || path->vex);
	u8 vvvv = rnd_below(3) ? 0x78 : rnd() & 0x78;

	if (path->vex) {
		t->code[n++] = 0xc4;
		t->code[n++] = path->map | (t->mode == M64 ? rnd() & 0xe0 : 0xe0);
		t->code[n++] = (rnd_below(3) ? 0 : 0x80) | vvvv | (rnd_below(3) ? 0 : 4) |
			       (path->prefix > 0 ? path->prefix : 0);
		t->code[n++] = path->opcode;
		put_modrm(t, n, path);
		return;
	}
	if (path->prefix > 0)
		t->code[n++] = mandatory[path->prefix];
	if (t->mode == M64 && rnd_below(2))
		t->code[n++] = 0x40 | rnd_below(16);
	n = put_map(t, n, path->map);
	t->code[n++] = path->opcode;
	put_modrm(t, n, path);
}

static void put_random(struct trial *t)
{
	unsigned int n = put_prefixes(t, false);

	if (native_has_avx() && !rnd_below(16)) {
		t->code[0] = 0xc5;
		t->code[1] = rnd_below(2) ? 0xf8 | rnd_below(8) : rnd();
		return;
	}
	if (t->mode == M64 && rnd_below(2))
		t->code[n++] = 0x40 | rnd_below(16);
	put_map(t, n, rnd_below(2) ? KEEL_MAP_ONE : rnd_below(4) ? KEEL_MAP_0F : KEEL_MAP_0F38);
}

static bool put_instruction(struct trial *t)
{
	const struct row_path *path = &rows[rnd_below(nr_rows)];
	unsigned int i;

	for (i = 0; i < 15; i++)
		t->code[i] = rnd();
	if (rnd_below(2)) {
		if (path->mode64 >= 0 && path->mode64 != (t->mode == M64))
			return false;
		put_row(t, path);
	} else {
		put_random(t);
	}
	if (keel_decode(&t->insn, t->code, 15, t->mode))
		return false;
	t->len = t->insn.length;
	return comparable(t);
}

/* The state */

static u16 rnd_selector(bool stack)
{
	static const u16 data[] = {
		USER_DS, LDT_SEL(LDT_FLAT), LDT_SEL(LDT_DATA16), LDT_SEL(LDT_DATA32),
		LDT_SEL(LDT_DOWN32), LDT_SEL(LDT_DOWN16), LDT_SEL(LDT_READONLY),
		LDT_SEL(LDT_CODE32), 0,
	};

	return data[rnd_below(stack ? 6 : 9)];
}

static void choose_segments(struct trial *t)
{
	bool plain = rnd_below(3);
	unsigned int i;

	for (i = KEEL_ES; i <= KEEL_GS; i++) {
		if (plain)
			t->start.sel[i] = t->mode == M16 ? LDT_SEL(LDT_DATA16) : USER_DS;
		else
			t->start.sel[i] = rnd_selector(i == KEEL_SS);
	}
	t->start.sel[KEEL_CS] = t->mode == M64 ? USER_CS : t->mode == M32 ? USER32_CS :
				LDT_SEL(LDT_CODE16);
	if (t->mode == M64)
		t->start.sel[KEEL_SS] = USER_DS;
	t->start.fs_base = native_has_fsgsbase() && t->mode == M64 ? SANDBOX + rnd_below(0x800) : 0;
	t->start.gs_base = native_has_fsgsbase() && t->mode == M64 ? rnd_below(0x800) : 0;
}

static u64 segment_base(const struct trial *t, unsigned int sreg)
{
	if (t->mode != M64)
		return side_segment(t->start.sel[sreg]).base;
	return sreg == KEEL_FS ? t->start.fs_base : sreg == KEEL_GS ? t->start.gs_base : 0;
}

/* An offset in @sreg that is in the sandbox, or at one of the edges of something. */
static u64 rnd_offset(const struct trial *t, unsigned int sreg, unsigned int align)
{
	static const unsigned long bounds[] = {
		SANDBOX_RAM, SANDBOX_RAM + 0x1000, SANDBOX_RO, SANDBOX_END,
	};
	struct keel_emu_seg seg = side_segment(t->start.sel[sreg]);
	u64 addr;

	switch (rnd_below(8)) {
	case 0:
		addr = bounds[rnd_below(4)] + rnd_below(32) - 16;
		break;
	case 1:
		addr = SANDBOX_RO + rnd_below(0xff0);
		break;
	case 2:
		if (t->mode != M64 && !seg.unusable && seg.limit != 0xffffffff)
			return (u32)(seg.limit + rnd_below(32) - 16);
		/* fall through */
	default:
		addr = SANDBOX_RAM + 0x100 + rnd_below(0x1e00);
		break;
	}
	addr -= segment_base(t, sreg);
	if (rnd_below(2))
		addr &= ~(u64)(align - 1);
	return t->mode == M64 ? addr : (u32)addr;
}

/* @val in a register that only its low @bytes matter of: noise above. */
static u64 with_noise(const struct trial *t, u64 val, unsigned int bytes)
{
	unsigned int max = t->mode == M64 ? 8 : 4;

	if (bytes >= max)
		return val & size_mask(max);
	return ((val & size_mask(bytes)) | (rnd() & ~size_mask(bytes))) & size_mask(max);
}

static void patch_disp(struct trial *t, s64 disp)
{
	struct keel_insn *insn = &t->insn;
	unsigned int at = insn->length - insn->imm_size - insn->disp_size;

	memcpy(t->code + at, &disp, insn->disp_size);
	insn->disp = insn->disp_size == 2 ? (s16)disp : insn->disp_size == 4 ? (s32)disp : disp;
}

/* Let the memory operand be in or near the sandbox. */
static bool aim(struct trial *t)
{
	struct keel_insn *insn = &t->insn;
	unsigned int size = insn->addr_size;
	u64 *gpr = t->start.gpr;
	u64 target, index = 0;
	s64 disp;

	if (!(insn->op->flags & F_MOFFS) &&
	    (!insn->has_modrm || insn->mod == 3 || insn->op->op == OP_LEA || insn->op->op == OP_NOP ||
	     insn->op->op == OP_PREFETCH))
		return true;
	target = rnd_offset(t, insn->seg, 16);
	t->operand_la = target + segment_base(t, insn->seg);
	if (insn->op->flags & F_MOFFS) {
		patch_disp(t, target);
		return true;
	}
	if (insn->index >= 0)
		index = gpr[insn->index] << insn->scale;
	if (insn->base >= 0) {
		if (insn->base == insn->index)
			return false;
		gpr[insn->base] = with_noise(t, target - insn->disp - index, size);
		return true;
	}
	disp = target - (insn->rip_relative ? t->start.rip + insn->length : index);
	if (size == 4)
		disp = (s32)disp;
	if (size == 8 && disp != (s32)disp)
		return false;
	patch_disp(t, disp);
	return true;
}

static bool uses_stack(const struct keel_insn *insn)
{
	if (insn->op->op >= OP_CALL_FAR && insn->op->op <= OP_IRET)
		return true;
	return (insn->op->op >= OP_PUSH && insn->op->op <= OP_LEAVE) ||
	       insn->op->op == OP_CALL || insn->op->op == OP_CALL_IND || insn->op->op == OP_RET;
}

static unsigned int stack_bytes(const struct trial *t)
{
	return t->mode == M64 ? 8 : side_segment(t->start.sel[KEEL_SS]).db ? 4 : 2;
}

/* A selector where the instruction will find one; mostly of the sandbox's tables. */
static u64 rnd_any_selector(void)
{
	static const u16 others[] = { 0, 3, 0x10, 0x1b, USER32_CS, USER_DS, USER_CS, 0x2a, 0x83 };

	if (rnd_below(3))
		return rnd_below(LDT_NR + 1) << 3 | 4 | (rnd_below(4) ? 3 : rnd_below(4));
	return others[rnd_below(sizeof(others) / sizeof(others[0]))];
}

static void aim_implied(struct trial *t)
{
	const struct keel_insn *insn = &t->insn;
	unsigned int size = insn->addr_size;
	u64 *gpr = t->start.gpr;

	if (insn->op->flags & F_STR) {
		gpr[KEEL_RSI] = with_noise(t, rnd_offset(t, insn->seg, 8), size);
		gpr[KEEL_RDI] = with_noise(t, rnd_offset(t, KEEL_ES, 8), size);
		gpr[KEEL_RCX] = rnd_below(3) ? with_noise(t, rnd_below(40), size) : 0;
	}
	if (insn->op->op == OP_XLAT)
		gpr[KEEL_RBX] = with_noise(t, rnd_offset(t, insn->seg, 1), size);
	if (uses_stack(insn))
		gpr[KEEL_RSP] = with_noise(t, rnd_offset(t, KEEL_SS, 8), stack_bytes(t));
	if (insn->op->op == OP_INTO)
		t->start.rflags &= ~FL_OF;	/* else it is the kernel's */
	if (insn->op->op == OP_ENTER || insn->op->op == OP_LEAVE)
		gpr[KEEL_RBP] = with_noise(t, rnd_offset(t, KEEL_SS, 8), stack_bytes(t));
	/* bit strings: mostly near */
	if (insn->op->op >= OP_BT && insn->op->op <= OP_BTC && insn->has_modrm && rnd_below(4))
		gpr[insn->reg] = ((s64)rnd_below(4096) - 2048) & size_mask(t->mode == M64 ? 8 : 4);
	/* the leaves that stay the same from one moment to the next, the index too */
	if (insn->op->op == OP_CPUID) {
		gpr[KEEL_RAX] = (rnd_below(2) ? 0x80000000 : 0) | rnd_below(7);
		gpr[KEEL_RCX] = 0;
	}
	if (insn->op->op == OP_XGETBV)
		gpr[KEEL_RCX] = rnd_below(4);
	if (insn->has_modrm && insn->mod == 3 && insn->rm != KEEL_RSP &&
	    (insn->op->src == O_E16 || insn->op->dst == O_E16))
		gpr[insn->rm] = (gpr[insn->rm] & ~0xffffULL) | rnd_any_selector();
	/* whether these check alignment is the CPU's own */
	if (insn->op->op >= OP_VMOV && insn->op->op <= OP_VMOV_MMX)
		t->start.rflags &= ~FL_AC;
	if ((insn->op->op == OP_WRFSBASE || insn->op->op == OP_WRGSBASE) && rnd_below(2))
		gpr[insn->rm] = (s64)(gpr[insn->rm] << 17) >> 17;
}

static void plant_bytes(struct trial *t, u64 la, const void *bytes, unsigned int len)
{
	if (la >= SANDBOX_RAM && la + len <= SANDBOX_RO)
		memcpy(t->mem + la - SANDBOX_RAM, bytes, len);
}

/* A code selector that works, mostly, with an offset of INT3 in it, mostly. */
static u16 rnd_code(u64 *ip)
{
	static const u16 code[] = {
		USER_CS, USER32_CS, LDT_SEL(LDT_CODE16), LDT_SEL(LDT_CODE32), LDT_SEL(LDT_EXECONLY),
	};
	u16 sel = rnd_below(4) ? code[rnd_below(5)] : rnd_any_selector();

	*ip = (sel == LDT_SEL(LDT_CODE16) ? 0x8100 : CODE_PAGE + 0x100) + 16 * rnd_below(64);
	if (!rnd_below(4))
		*ip = (u32)rnd_value();
	return sel;
}

/* What a far branch, a far return or IRET will read: words of the operand size */
static void plant_far(struct trial *t)
{
	struct keel_insn *insn = &t->insn;
	unsigned int size = insn->op_size, i;
	u64 words[5], sp = t->start.gpr[KEEL_RSP] & size_mask(stack_bytes(t));
	u64 la = sp + segment_base(t, KEEL_SS);
	u16 sel = rnd_code(&words[0]);

	/* In which of the two modes a far call or return to 64-bit code moves SP is the CPU's own. */
	if (t->mode != M64 && (sel & ~3) == (USER_CS & ~3) && insn->op->op != OP_JMP_FAR &&
	    insn->op->op != OP_JMP_FAR_IND && insn->op->op != OP_IRET)
		sel = USER32_CS;
	/* So for the other direction, which only shows above 4 GiB. */
	if (t->mode == M64 && t->start.gpr[KEEL_RSP] >> 32 && insn->op->op != OP_JMP_FAR_IND &&
	    insn->op->op != OP_IRET)
		sel = USER_CS;
	words[1] = sel;
	words[2] = 0x202 | (rnd() & 0x200ed5);		/* never TF */
	words[3] = rnd_offset(t, KEEL_SS, 8);
	words[4] = rnd_below(4) ? USER_DS : rnd_any_selector();
	switch (insn->op->op) {
	case OP_JMP_FAR:
	case OP_CALL_FAR:
		memcpy(t->code + t->len - 2 - size, &words[0], size);
		memcpy(t->code + t->len - 2, &sel, 2);
		insn->imm = words[0] & size_mask(size);
		insn->imm2 = sel;
		break;
	case OP_JMP_FAR_IND:
	case OP_CALL_FAR_IND:
		plant_bytes(t, t->operand_la, &words[0], size);
		plant_bytes(t, t->operand_la + size, &sel, 2);
		break;
	default:
		for (i = 0; i < 5; i++)
			plant_bytes(t, la + i * size, &words[i], size);
		break;
	}
}

/* Wherever a branch may read its target, put addresses that are safe to go to; so for selectors. */
static void plant(struct trial *t)
{
	unsigned int ram = SANDBOX_RO - SANDBOX_RAM;
	u64 val = CODE_PAGE + 0x100;
	unsigned int i;

	switch (t->insn.op->op) {
	case OP_RET:
	case OP_JMP_IND:
	case OP_CALL_IND:
		if (t->mode == M16)
			val = 0x81008100 + CODE_PAGE;
		for (i = 0; i + 8 <= ram; i += 8) {
			memcpy(t->mem + i, &val, 8);
			if (t->mode != M16)
				val = CODE_PAGE + 0x100 + 16 * (i & 0x3f);
		}
		if (t->insn.op->op != OP_RET && t->insn.mod == 3 && t->insn.rm != KEEL_RSP)
			t->start.gpr[t->insn.rm] = val;
		break;
	case OP_JMP_FAR ... OP_IRET:
		plant_far(t);
		break;
	case OP_POPF:
		for (i = 0; i < ram; i++)
			t->mem[i] &= ~1;	/* never TF */
		break;
	case OP_POP_SREG:
	case OP_MOV_TO_SREG:
	case OP_LOAD_FAR_PTR:
	case OP_LAR:
	case OP_LSL:
	case OP_VERR:
	case OP_VERW:
		val = rnd_any_selector();
		for (i = 0; i < ram; i += 2)
			memcpy(t->mem + i, &val, 2);
		break;
	}
}

static void fill_registers(struct trial *t)
{
	unsigned int i;
	u64 val;

	for (i = 0; i < KEEL_NR_GPRS; i++)
		t->start.gpr[i] = t->mode == M64 ? rnd_value() : (u32)rnd_value();
	t->start.gpr[KEEL_RSP] = rnd_offset(t, KEEL_SS, 8);
	if (t->mode != M64)
		memset(&t->start.gpr[8], 0, 8 * 8);
	for (i = 0; i < sizeof(t->start.vec); i += 8) {
		val = rnd();
		memcpy((u8 *)t->start.vec + i, &val, 8);
	}
	if (!native_has_avx())
		for (i = 0; i < 16; i++)
			memset(t->start.vec[i] + 16, 0, 16);
	for (i = 0; i < 8; i++) {
		val = rnd();
		memcpy(t->start.mm[i], &val, 8);
	}
	t->start.rip = CODE_START - (t->mode == M16 ? CODE16_BASE : 0);
	t->start.rflags = 0x202 | (rnd() & (FL_STATUS | FL_DF));
	if (!rnd_below(16))
		t->start.rflags |= FL_AC;
}

static void fill_memory(struct trial *t)
{
	unsigned int i;
	u64 val;

	for (i = 0; i < SANDBOX_BYTES; i += 8) {
		val = i & 0x38 ? rnd() : rnd_value();
		memcpy(t->mem + i, &val, 8);
	}
	/* the read-only page never changes */
	memcpy(t->mem + (SANDBOX_RO - SANDBOX_RAM), native_memory() + (SANDBOX_RO - SANDBOX_RAM),
	       4096);
}

bool gen_trial(struct trial *t)
{
	static const enum keel_emu_mode modes[] = { M64, M64, M64, M64, M32, M32, M16, M16 };

	t->mode = modes[rnd_below(8)];
	if (!put_instruction(t))
		return false;
	choose_segments(t);
	fill_registers(t);
	fill_memory(t);
	aim_implied(t);
	if (!aim(t))
		return false;
	plant(t);
	return true;
}
