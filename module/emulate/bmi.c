// SPDX-License-Identifier: GPL-2.0-only
/*
 * The VEX instructions on general registers: BMI1 and BMI2. Compilers use them on any memory
 * operand, so an access to a device or to a shadowed page may be one of them.
 *
 * They need no vector state: neither CR4.OSXSAVE nor XCR0 count. All are reads of memory; at most
 * two registers are written.
 *
 * SDM vol 2 2.6.13 (exception class 13) and the instructions; APM vol 3.
 */
#include "internal.h"

static void set_result_flags(struct keel_emu *emu, unsigned int size, u64 r, bool cf)
{
	emu->rflags &= ~(FL_OF | FL_CF);
	flag_set(emu, FL_CF, cf);
	flag_set(emu, FL_ZF, !r);
	flag_set(emu, FL_SF, r & sign_bit(size));
}

/* The lowest bits of @val to the places that @mask has set. */
static u64 deposit(u64 val, u64 mask)
{
	u64 r = 0;

	for (; mask; mask &= mask - 1, val >>= 1)
		if (val & 1)
			r |= mask & -mask;
	return r;
}

static u64 extract(u64 val, u64 mask)
{
	unsigned int n = 0;
	u64 r = 0;

	for (; mask; mask &= mask - 1, n++)
		if (val & mask & -mask)
			r |= 1ULL << n;
	return r;
}

/* BEXTR: @ctl has the first bit and the number of bits. */
static u64 bit_field(u64 val, u64 ctl)
{
	unsigned int start = ctl & 0xff, len = (ctl >> 8) & 0xff;

	val = start < 64 ? val >> start : 0;
	return len < 64 ? val & ((1ULL << len) - 1) : val;
}

static u64 low_bits(u64 val, unsigned int count, unsigned int bits)
{
	return count < bits ? val & ((1ULL << count) - 1) : val;
}

static u64 rotate_right(u64 val, unsigned int count, unsigned int size)
{
	unsigned int bits = 8 * size;

	count &= bits - 1;
	return count ? (val >> count | val << (bits - count)) & size_mask(size) : val;
}

/* BLSI, BLSMSK, BLSR: to the register of vvvv */
static void lowest_set(struct keel_emu *emu, unsigned int size, u64 src)
{
	u64 mask = size_mask(size), r;
	bool cf = !src;

	switch (emu->insn.op->op) {
	case OP_BLSI:
		r = src & -src;
		cf = src;
		break;
	case OP_BLSMSK:
		r = (src ^ (src - 1)) & mask;
		break;
	default:
		r = src & (src - 1) & mask;
		break;
	}
	gpr_write(emu, vex_reg(emu), size, r);
	set_result_flags(emu, size, r, cf);
}

static void operate(struct keel_emu *emu, unsigned int size, u64 src)
{
	const struct keel_insn *insn = &emu->insn;
	u64 second = gpr_read(emu, vex_reg(emu), size), lo;
	unsigned int bits = 8 * size;
	u64 r;

	switch (insn->op->op) {
	case OP_ANDN:
		r = ~second & src;
		set_result_flags(emu, size, r, false);
		break;
	case OP_BEXTR:
		r = bit_field(src, second);
		set_result_flags(emu, size, r, false);
		break;
	case OP_BZHI:
		r = low_bits(src, second & 0xff, bits);
		set_result_flags(emu, size, r, (second & 0xff) >= bits);
		break;
	case OP_PDEP:
		r = deposit(second, src);
		break;
	case OP_PEXT:
		r = extract(second, src);
		break;
	case OP_MULX:
		r = keel_mul_high(gpr_read(emu, KEEL_RDX, size), src, size, &lo);
		/* the low half first: with the same register twice the high half stays */
		gpr_write(emu, vex_reg(emu), size, lo);
		break;
	case OP_RORX:
		r = rotate_right(src, insn->imm, size);
		break;
	case OP_SARX:
		r = sign_extend(src, size) >> (second & (bits - 1));
		break;
	case OP_SHLX:
		r = src << (second & (bits - 1));
		break;
	default:
		r = src >> (second & (bits - 1));
		break;
	}
	gpr_write(emu, insn->reg, size, r);
}

/* ANDN to SHRX */
int keel_exec_bmi(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	struct operand src;
	int ret;

	if (insn->vex_l || (insn->op->op == OP_RORX && insn->vex_vvvv))
		return fault_ud(emu);
	ret = keel_operand_locate(emu, insn->op->src, &src);
	if (!ret)
		ret = keel_operand_read(emu, &src, 0);
	if (ret)
		return ret;
	if (insn->op->dst == O_VR)
		lowest_set(emu, src.size, src.val);
	else
		operate(emu, src.size, src.val);
	return KEEL_EMU_OK;
}
