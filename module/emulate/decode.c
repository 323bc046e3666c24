// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bytes to struct keel_insn: prefixes, opcode, ModRM, SIB, displacement, immediates, widths.
 *
 * Pure: reads the bytes it is given and the constant tables, writes one struct. It knows the length
 * of every instruction, so that a CPU without next-RIP save can be stepped over an intercepted one
 * whatever redundant prefixes it has, and it refuses what hardware refuses by form alone (#UD: LOCK
 * where it is not allowed, register for memory operands, mode).
 *
 * Where vendors differ, Intel's way is taken: 66 does not shrink near branches in 64-bit mode.
 *
 * SDM vol 2 chapter 2 (format), appendix A.2 to A.4 (maps); APM vol 3 chapter 1.
 */
#include <linux/kernel.h>
#include <linux/string.h>
#include "emulate.h"
#include "optable.h"

struct cursor {
	const u8 *bytes;
	unsigned int avail;
	unsigned int pos;
};

/* Little-endian integer of @size bytes, sign-extended. */
static int take(struct cursor *c, unsigned int size, s64 *val)
{
	u64 v = 0;
	unsigned int i;

	if (c->pos + size > KEEL_INSN_MAX_LEN)
		return KEEL_EMU_TOO_LONG;
	if (c->pos + size > c->avail)
		return KEEL_EMU_NEED_BYTES;
	for (i = 0; i < size; i++)
		v |= (u64)c->bytes[c->pos + i] << (8 * i);
	c->pos += size;
	if (size && size < 8 && (v >> (8 * size - 1)))
		v |= ~0ULL << (8 * size);
	*val = v;
	return KEEL_EMU_OK;
}

static int take_byte(struct cursor *c, u8 *val)
{
	s64 v = 0;
	int ret = take(c, 1, &v);

	*val = v;
	return ret;
}

static bool mode_is_16bit(enum keel_emu_mode mode)
{
	return mode == KEEL_EMU_REAL || mode == KEEL_EMU_VM86 || mode == KEEL_EMU_PROT16;
}

static bool mode_is_real_like(enum keel_emu_mode mode)
{
	return mode == KEEL_EMU_REAL || mode == KEEL_EMU_VM86;
}

static void segment_prefix(struct keel_insn *insn, enum keel_sreg sreg)
{
	if (insn->mode == KEEL_EMU_PROT64 && sreg != KEEL_FS && sreg != KEEL_GS)
		return;		/* null prefixes there */
	insn->prefixes |= KEEL_PFX_SEG;
	insn->seg = sreg;
}

/* Leaves the first byte that is no prefix in @insn->opcode. */
static int take_prefixes(struct keel_insn *insn, struct cursor *c)
{
	int ret;
	u8 b;

	for (;;) {
		ret = take_byte(c, &b);
		if (ret)
			return ret;
		switch (b) {
		case 0x26:
			segment_prefix(insn, KEEL_ES);
			break;
		case 0x2e:
			segment_prefix(insn, KEEL_CS);
			break;
		case 0x36:
			segment_prefix(insn, KEEL_SS);
			break;
		case 0x3e:
			segment_prefix(insn, KEEL_DS);
			break;
		case 0x64:
			segment_prefix(insn, KEEL_FS);
			break;
		case 0x65:
			segment_prefix(insn, KEEL_GS);
			break;
		case 0x66:
			insn->prefixes |= KEEL_PFX_OPSIZE;
			break;
		case 0x67:
			insn->prefixes |= KEEL_PFX_ADDRSIZE;
			break;
		case 0xf0:
			insn->prefixes |= KEEL_PFX_LOCK;
			break;
		case 0xf2:
			insn->prefixes &= ~KEEL_PFX_REP;
			insn->prefixes |= KEEL_PFX_REPNE;
			break;
		case 0xf3:
			insn->prefixes &= ~KEEL_PFX_REPNE;
			insn->prefixes |= KEEL_PFX_REP;
			break;
		case 0x40 ... 0x4f:
			if (insn->mode == KEEL_EMU_PROT64) {
				insn->rex = b;
				continue;
			}
			fallthrough;
		default:
			insn->opcode = b;
			return KEEL_EMU_OK;
		}
		insn->rex = 0;		/* counts only right before the opcode */
	}
}

/* SSE's use of the prefixes: an index for OP_BY_PREFIX. F2 and F3 win over 66. */
static unsigned int mandatory_prefix(const struct keel_insn *insn)
{
	if (insn->prefixes & KEEL_PFX_REPNE)
		return 3;
	if (insn->prefixes & KEEL_PFX_REP)
		return 2;
	return insn->prefixes & KEEL_PFX_OPSIZE ? 1 : 0;
}

/* Forms of the VEX, EVEX and XOP instructions that execute does not know. */
static const struct keel_op long_no_imm = { .op = OP_NOEXEC, .flags = F_MODRM };
static const struct keel_op long_imm8 = { .op = OP_NOEXEC, .flags = F_MODRM | F_IMM8 };
static const struct keel_op long_no_modrm = { .op = OP_NOEXEC };
/* Immediates of the XOP maps follow the map, not the operand size. */
static const struct keel_op xop_imm32 = { .op = OP_NOEXEC, .flags = F_MODRM | F_IMM32 };

/* The row of a VEX instruction that execute knows, else NULL. */
static const struct keel_op *vex_row(const struct keel_insn *insn)
{
	static const struct keel_op *const maps[] = {
		[KEEL_MAP_0F] = keel_ops_vex_0f,
		[KEEL_MAP_0F38] = keel_ops_vex_0f38,
		[KEEL_MAP_0F3A] = keel_ops_vex_0f3a,
	};
	const struct keel_op *row;

	if (!insn->vex || insn->map < KEEL_MAP_0F || insn->map > KEEL_MAP_0F3A)
		return NULL;
	row = &maps[insn->map][insn->opcode];
	return row->op ? row : NULL;
}

static const struct keel_op *vector_row(struct keel_insn *insn, unsigned int map)
{
	const struct keel_op *row = vex_row(insn);

	if (row)
		return row;
	switch (map) {
	case KEEL_MAP_0F:
		if (insn->vex && insn->opcode == 0x77)
			return &long_no_modrm;
		switch (insn->opcode) {
		case 0x70 ... 0x73:
		case 0xc2:
		case 0xc4 ... 0xc6:
			return &long_imm8;
		}
		return &long_no_imm;
	case KEEL_MAP_0F38:
		return &long_no_imm;
	case KEEL_MAP_0F3A:
		return &long_imm8;
	}
	return insn->vex ? NULL : &long_no_imm;
}

#define PFX_NOT_BEFORE_VEX	(KEEL_PFX_OPSIZE | KEEL_PFX_LOCK | KEEL_PFX_REPNE | KEEL_PFX_REP)

/* After C5 or C4. The bits R, X, B and vvvv are stored inverted; pp stands for a prefix. */
static int take_vex(struct keel_insn *insn, struct cursor *c, const struct keel_op **row)
{
	static const u8 pp_prefix[4] = { 0, KEEL_PFX_OPSIZE, KEEL_PFX_REP, KEEL_PFX_REPNE };
	bool three = insn->opcode == 0xc4;
	u8 first, last;
	int ret;

	if (insn->rex || (insn->prefixes & PFX_NOT_BEFORE_VEX))
		return KEEL_EMU_INVALID;
	ret = take_byte(c, &first);
	if (ret)
		return ret;
	insn->rex = first & 0x80 ? 0 : 0x4;		/* R */
	insn->map = KEEL_MAP_0F;
	last = first;
	if (three) {
		ret = take_byte(c, &last);
		if (ret)
			return ret;
		insn->rex |= (first & 0x40 ? 0 : 0x2) | (first & 0x20 ? 0 : 0x1) |
			     (last & 0x80 ? 0x8 : 0);
		insn->map = first & 0x1f;
	}
	insn->vex = three ? 3 : 2;
	insn->vex_vvvv = (~last >> 3) & 0xf;
	if (insn->mode != KEEL_EMU_PROT64)
		insn->rex = 0;
	insn->vex_l = (last >> 2) & 1;
	insn->prefixes |= pp_prefix[last & 3];
	ret = take_byte(c, &insn->opcode);
	if (ret)
		return ret;
	*row = vector_row(insn, insn->map);
	return *row ? KEEL_EMU_OK : KEEL_EMU_UNKNOWN;
}

/* After 62: for the length only. */
static int take_evex(struct keel_insn *insn, struct cursor *c, const struct keel_op **row)
{
	u8 p[3];
	int i, ret;

	if (insn->rex || (insn->prefixes & PFX_NOT_BEFORE_VEX))
		return KEEL_EMU_INVALID;
	for (i = 0; i < 3; i++) {
		ret = take_byte(c, &p[i]);
		if (ret)
			return ret;
	}
	insn->map = p[0] & 7;
	insn->vex_l = (p[2] >> 5) & 3;
	ret = take_byte(c, &insn->opcode);
	if (ret)
		return ret;
	*row = vector_row(insn, insn->map);
	return KEEL_EMU_OK;
}

/* After 8F with a map of 8 to 10 in the next byte: for the length only. */
static int take_xop(struct keel_insn *insn, struct cursor *c, const struct keel_op **row)
{
	u8 p[2];
	int i, ret;

	if (insn->rex || (insn->prefixes & PFX_NOT_BEFORE_VEX))
		return KEEL_EMU_INVALID;
	for (i = 0; i < 2; i++) {
		ret = take_byte(c, &p[i]);
		if (ret)
			return ret;
	}
	insn->map = p[0] & 0x1f;
	ret = take_byte(c, &insn->opcode);
	if (ret)
		return ret;
	switch (insn->map) {
	case 8:
		*row = &long_imm8;
		return KEEL_EMU_OK;
	case 9:
		*row = &long_no_imm;
		return KEEL_EMU_OK;
	case 10:
		*row = &xop_imm32;
		return KEEL_EMU_OK;
	}
	return KEEL_EMU_UNKNOWN;
}

/* The byte after the opcode tells VEX from LES and LDS, EVEX from BOUND, XOP from POP. */
static int is_long_form(struct keel_insn *insn, struct cursor *c, bool *is)
{
	struct cursor ahead = *c;
	u8 next;
	int ret;

	*is = false;
	switch (insn->opcode) {
	case 0x62:
	case 0xc4:
	case 0xc5:
		if (mode_is_real_like(insn->mode))
			return KEEL_EMU_OK;
		if (insn->mode == KEEL_EMU_PROT64) {
			*is = true;
			return KEEL_EMU_OK;
		}
		ret = take_byte(&ahead, &next);
		*is = (next & 0xc0) == 0xc0;
		return ret;
	case 0x8f:
		if (mode_is_real_like(insn->mode))
			return KEEL_EMU_OK;
		ret = take_byte(&ahead, &next);
		*is = (next & 0x1f) >= 8;
		return ret;
	}
	return KEEL_EMU_OK;
}

static int take_opcode(struct keel_insn *insn, struct cursor *c, const struct keel_op **row)
{
	bool is_long;
	int ret;

	ret = is_long_form(insn, c, &is_long);
	if (ret)
		return ret;
	if (is_long) {
		if (insn->opcode == 0x62)
			return take_evex(insn, c, row);
		if (insn->opcode == 0x8f)
			return take_xop(insn, c, row);
		return take_vex(insn, c, row);
	}

	if (insn->opcode != 0x0f) {
		insn->map = KEEL_MAP_ONE;
		*row = &keel_ops_one[insn->opcode];
		/* NOP is XCHG with itself; with REX.B it is XCHG with R8 */
		if (insn->opcode == 0x90 && (insn->rex & 1))
			*row = &keel_ops_one[0x91];
		return KEEL_EMU_OK;
	}
	ret = take_byte(c, &insn->opcode);
	if (ret)
		return ret;
	if (insn->opcode != 0x38 && insn->opcode != 0x3a) {
		insn->map = KEEL_MAP_0F;
		*row = &keel_ops_0f[insn->opcode];
		return KEEL_EMU_OK;
	}
	insn->map = insn->opcode == 0x38 ? KEEL_MAP_0F38 : KEEL_MAP_0F3A;
	*row = insn->opcode == 0x38 ? keel_ops_0f38 : keel_ops_0f3a;
	ret = take_byte(c, &insn->opcode);
	if (ret)
		return ret;
	*row += insn->opcode;
	return KEEL_EMU_OK;
}

/* SDM vol 2 table 2-1 */
static int take_address_16(struct keel_insn *insn, struct cursor *c)
{
	static const s8 base[8] = {
		KEEL_RBX, KEEL_RBX, KEEL_RBP, KEEL_RBP, KEEL_RSI, KEEL_RDI, KEEL_RBP, KEEL_RBX
	};
	static const s8 index[8] = { KEEL_RSI, KEEL_RDI, KEEL_RSI, KEEL_RDI, -1, -1, -1, -1 };
	unsigned int rm = insn->modrm & 7;

	insn->base = base[rm];
	insn->index = index[rm];
	insn->disp_size = insn->mod == 3 ? 0 : insn->mod;
	if (insn->mod == 0 && rm == 6) {
		insn->base = -1;
		insn->disp_size = 2;
	}
	return take(c, insn->disp_size, &insn->disp);
}

/* SDM vol 2 tables 2-2 and 2-3, with REX of 2.2.1 */
static int take_address_32(struct keel_insn *insn, struct cursor *c)
{
	unsigned int rm = insn->modrm & 7;
	u8 sib;
	int ret;

	insn->disp_size = insn->mod == 1 ? 1 : insn->mod == 2 ? 4 : 0;
	insn->base = insn->rm;
	if (rm == 4) {
		ret = take_byte(c, &sib);
		if (ret)
			return ret;
		insn->has_sib = true;
		insn->scale = sib >> 6;
		insn->index = ((sib >> 3) & 7) | (insn->rex & 2 ? 8 : 0);
		if (insn->index == KEEL_RSP)
			insn->index = -1;
		insn->base = (sib & 7) | (insn->rex & 1 ? 8 : 0);
		rm = sib & 7;
	}
	if (insn->mod == 0 && rm == 5) {
		insn->base = -1;
		insn->disp_size = 4;
		insn->rip_relative = insn->mode == KEEL_EMU_PROT64 && !insn->has_sib;
	}
	return take(c, insn->disp_size, &insn->disp);
}

static int take_modrm(struct keel_insn *insn, struct cursor *c, const struct keel_op *row)
{
	int ret = take_byte(c, &insn->modrm);

	if (ret)
		return ret;
	insn->has_modrm = true;
	insn->mod = row->flags & F_MOD3 ? 3 : insn->modrm >> 6;
	insn->reg = ((insn->modrm >> 3) & 7) | (insn->rex & 4 ? 8 : 0);
	insn->rm = (insn->modrm & 7) | (insn->rex & 1 ? 8 : 0);
	if (insn->mod == 3)
		return KEEL_EMU_OK;
	ret = insn->addr_size == 2 ? take_address_16(insn, c) : take_address_32(insn, c);
	if (ret)
		return ret;
	if (!(insn->prefixes & KEEL_PFX_SEG) &&
	    (insn->base == KEEL_RSP || insn->base == KEEL_RBP))
		insn->seg = KEEL_SS;
	return KEEL_EMU_OK;
}

static const struct keel_op *leaf_row(const struct keel_insn *insn, const struct keel_op *row)
{
	for (;;) {
		switch (row->op) {
		case OP_BY_REG:
			row = &row->sub[insn->reg & 7];
			break;
		case OP_BY_RM:
			row = &row->sub[insn->rm & 7];
			break;
		case OP_BY_MOD:
			row = &row->sub[insn->mod == 3];
			break;
		case OP_BY_PREFIX:
			row = &row->sub[mandatory_prefix(insn)];
			break;
		case OP_BY_MODE:
			row = &row->sub[insn->mode == KEEL_EMU_PROT64];
			break;
		default:
			return row;
		}
	}
}

static unsigned int operand_size(const struct keel_insn *insn, u32 flags)
{
	bool pfx = insn->prefixes & KEEL_PFX_OPSIZE;

	if (flags & F_NO66)
		return insn->rex & 8 ? 8 : 4;
	if (insn->mode != KEEL_EMU_PROT64) {
		if (flags & F_FULL)
			return 4;
		return mode_is_16bit(insn->mode) != pfx ? 2 : 4;
	}
	if ((flags & (F_FULL | F_F64)) || (insn->rex & 8))
		return 8;
	if (pfx)
		return 2;
	return flags & F_D64 ? 8 : 4;
}

static unsigned int address_size(const struct keel_insn *insn)
{
	bool pfx = insn->prefixes & KEEL_PFX_ADDRSIZE;

	if (insn->mode == KEEL_EMU_PROT64)
		return pfx ? 4 : 8;
	return mode_is_16bit(insn->mode) != pfx ? 2 : 4;
}

static int take_immediates(struct keel_insn *insn, struct cursor *c, u32 flags)
{
	s64 second = 0;
	int ret;

	if (flags & F_MOFFS) {
		insn->disp_size = insn->addr_size;
		return take(c, insn->disp_size, &insn->disp);
	}
	if (flags & F_IMM8)
		insn->imm_size = 1;
	else if (flags & F_IMM16)
		insn->imm_size = 2;
	else if (flags & F_IMM32)
		insn->imm_size = 4;
	else if (flags & (F_IMMZ | F_FARPTR))
		insn->imm_size = insn->op_size == 2 ? 2 : 4;
	else if (flags & F_IMMV)
		insn->imm_size = insn->op_size;
	else
		return KEEL_EMU_OK;

	ret = take(c, insn->imm_size, &insn->imm);
	if (!ret && (flags & F_FARPTR))
		ret = take(c, 2, &second);
	else if (!ret && (flags & F_IMM8B))
		ret = take(c, 1, &second);
	if (flags & F_IMM16)
		insn->imm &= 0xffff;
	if (flags & F_FARPTR)
		insn->imm &= insn->op_size == 2 ? 0xffff : 0xffffffff;
	insn->imm2 = flags & F_IMM8B ? second & 0xff : second;
	return ret;
}

/* What hardware refuses with #UD by the instruction's form and mode. */
static bool form_allowed(const struct keel_insn *insn, const struct keel_op *row)
{
	bool memory = insn->has_modrm && insn->mod != 3;

	if (row->op == OP_UD)
		return false;
	if ((row->flags & F_NO64) && insn->mode == KEEL_EMU_PROT64)
		return false;
	if ((row->flags & F_ONLY64) && insn->mode != KEEL_EMU_PROT64)
		return false;
	if ((row->flags & F_PROT) && mode_is_real_like(insn->mode))
		return false;
	if ((row->flags & F_MEM) && !memory)
		return false;
	if ((row->flags & F_REG) && memory)
		return false;
	if ((insn->prefixes & KEEL_PFX_LOCK) && !((row->flags & F_LOCK) && memory))
		return false;
	return true;
}

int keel_decode(struct keel_insn *insn, const u8 *bytes, unsigned int avail,
		enum keel_emu_mode mode)
{
	struct cursor c = { .bytes = bytes, .avail = avail };
	const struct keel_op *row = NULL;
	int ret;

	memset(insn, 0, sizeof(*insn));
	insn->mode = mode;
	insn->seg = KEEL_DS;
	insn->base = -1;
	insn->index = -1;

	ret = take_prefixes(insn, &c);
	if (ret)
		return ret;
	insn->addr_size = address_size(insn);
	ret = take_opcode(insn, &c, &row);
	if (ret)
		return ret;
	if (row->flags & F_MODRM) {
		ret = take_modrm(insn, &c, row);
		if (ret)
			return ret;
	}
	row = leaf_row(insn, row);
	if (row->op == OP_UNKNOWN)
		return KEEL_EMU_UNKNOWN;
	if (!form_allowed(insn, row))
		return KEEL_EMU_INVALID;

	insn->op_size = operand_size(insn, row->flags);
	ret = take_immediates(insn, &c, row->flags);
	if (ret)
		return ret;
	if (row->flags & F_BYTE)
		insn->op_size = 1;
	insn->op = row;
	insn->length = c.pos;
	memcpy(insn->bytes, bytes, c.pos);
	return KEEL_EMU_OK;
}
