// SPDX-License-Identifier: GPL-2.0-only
/*
 * Arithmetic, logic, shifts, rotates, bit operations and conditions: values in, values and flags
 * out. No memory, no faults.
 *
 * Flags that the manuals leave undefined (the table's undef column) get here what is simplest.
 *
 * SDM vol 2 (the instructions), vol 1 appendix A (EFLAGS); APM vol 3.
 */
#include "internal.h"

static bool parity_even(u64 val)
{
	val ^= val >> 4;
	val ^= val >> 2;
	val ^= val >> 1;
	return !(val & 1);
}

static void set_szp(struct keel_emu *emu, unsigned int size, u64 val)
{
	flag_set(emu, FL_ZF, !(val & size_mask(size)));
	flag_set(emu, FL_SF, val & sign_bit(size));
	flag_set(emu, FL_PF, parity_even(val & 0xff));
}

static u64 do_add(struct keel_emu *emu, unsigned int size, u64 a, u64 b, bool carry_in)
{
	u64 r = (a + b + carry_in) & size_mask(size);
	u64 carries = (a & b) | ((a | b) & ~r);

	flag_set(emu, FL_CF, carries & sign_bit(size));
	flag_set(emu, FL_OF, (a ^ r) & (b ^ r) & sign_bit(size));
	flag_set(emu, FL_AF, carries & 8);
	set_szp(emu, size, r);
	return r;
}

static u64 do_sub(struct keel_emu *emu, unsigned int size, u64 a, u64 b, bool borrow_in)
{
	u64 r = (a - b - borrow_in) & size_mask(size);
	u64 borrows = (~a & b) | ((~a | b) & r);

	flag_set(emu, FL_CF, borrows & sign_bit(size));
	flag_set(emu, FL_OF, (a ^ b) & (a ^ r) & sign_bit(size));
	flag_set(emu, FL_AF, borrows & 8);
	set_szp(emu, size, r);
	return r;
}

static u64 do_logic(struct keel_emu *emu, unsigned int size, u64 r)
{
	emu->rflags &= ~(FL_CF | FL_OF | FL_AF);
	set_szp(emu, size, r);
	return r;
}

static u64 do_rotate(struct keel_emu *emu, unsigned int op, unsigned int size, u64 a, u64 src)
{
	unsigned int bits = 8 * size;
	unsigned int count = src & (size == 8 ? 63 : 31);
	unsigned int n = count % bits;
	bool top, cf;

	if (!count)
		return a;
	if (op == OP_ROL) {
		if (n)
			a = (a << n | a >> (bits - n)) & size_mask(size);
		cf = a & 1;
		top = a & sign_bit(size);
		flag_set(emu, FL_OF, top != cf);
	} else {
		if (n)
			a = (a >> n | a << (bits - n)) & size_mask(size);
		cf = a & sign_bit(size);
		flag_set(emu, FL_OF, cf != !!(a & (sign_bit(size) >> 1)));
	}
	flag_set(emu, FL_CF, cf);
	return a;
}

/* Through carry: a rotation of one bit more than the operand has. */
static u64 do_rotate_carry(struct keel_emu *emu, unsigned int op, unsigned int size, u64 a, u64 src)
{
	unsigned int count = (src & (size == 8 ? 63 : 31)) % (8 * size + 1);
	bool cf = emu->rflags & FL_CF;
	bool out;

	if (!count)
		return a;
	if (op == OP_RCR)
		flag_set(emu, FL_OF, cf != !!(a & sign_bit(size)));
	while (count--) {
		if (op == OP_RCL) {
			out = a & sign_bit(size);
			a = (a << 1 | cf) & size_mask(size);
		} else {
			out = a & 1;
			a = a >> 1 | (cf ? sign_bit(size) : 0);
		}
		cf = out;
	}
	if (op == OP_RCL)
		flag_set(emu, FL_OF, cf != !!(a & sign_bit(size)));
	flag_set(emu, FL_CF, cf);
	return a;
}

static u64 do_shift(struct keel_emu *emu, unsigned int op, unsigned int size, u64 a, u64 src)
{
	unsigned int bits = 8 * size;
	unsigned int count = src & (size == 8 ? 63 : 31);
	s64 sa = sign_extend(a, size);
	bool cf, of;
	u64 r;

	if (!count)
		return a;
	switch (op) {
	case OP_SHR:
		cf = count <= bits && ((a >> (count - 1)) & 1);
		r = count < bits ? a >> count : 0;
		of = a & sign_bit(size);
		break;
	case OP_SAR:
		cf = (sa >> (count - 1)) & 1;
		r = (sa >> count) & size_mask(size);
		of = false;
		break;
	default:
		cf = count <= bits && ((a >> (bits - count)) & 1);
		r = count < bits ? (a << count) & size_mask(size) : 0;
		of = cf != !!(r & sign_bit(size));
		break;
	}
	flag_set(emu, FL_CF, cf);
	flag_set(emu, FL_OF, of);
	flag_set(emu, FL_AF, false);
	set_szp(emu, size, r);
	return r;
}

/* SHLD and SHRD; 16-bit counts over 16 are undefined and shift in @src again. */
static u64 do_double_shift(struct keel_emu *emu, unsigned int size, u64 a, u64 src)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int bits = 8 * size;
	unsigned int count = insn->op->flags & F_IMM8 ? insn->imm : emu->gpr[KEEL_RCX];
	bool left = insn->op->op == OP_SHLD;
	bool cf, bit;
	u64 r = a;

	count &= size == 8 ? 63 : 31;
	if (!count)
		return a;
	for (cf = false; count; count--) {
		if (left) {
			cf = r & sign_bit(size);
			bit = src & sign_bit(size);
			r = (r << 1 | bit) & size_mask(size);
			src = (src << 1 | bit) & size_mask(size);
		} else {
			cf = r & 1;
			bit = src & 1;
			r = r >> 1 | (bit ? sign_bit(size) : 0);
			src = src >> 1 | (u64)bit << (bits - 1);
		}
	}
	flag_set(emu, FL_CF, cf);
	flag_set(emu, FL_OF, (a ^ r) & sign_bit(size));
	flag_set(emu, FL_AF, false);
	set_szp(emu, size, r);
	return r;
}

static u64 do_bit(struct keel_emu *emu, unsigned int op, unsigned int size, u64 a, u64 src)
{
	u64 bit = 1ULL << (src & (8 * size - 1));

	flag_set(emu, FL_CF, a & bit);
	switch (op) {
	case OP_BTS:
		return a | bit;
	case OP_BTR:
		return a & ~bit;
	case OP_BTC:
		return a ^ bit;
	}
	return a;
}

static unsigned int lowest_bit(u64 val)
{
	unsigned int n = 0;

	while (!(val & 1)) {
		val >>= 1;
		n++;
	}
	return n;
}

static unsigned int highest_bit(u64 val)
{
	unsigned int n = 0;

	while (val >>= 1)
		n++;
	return n;
}

/* BSF, BSR: with a zero source, no result; the caller leaves the destination, as all CPUs do. */
static u64 do_scan(struct keel_emu *emu, unsigned int op, unsigned int size, u64 src)
{
	unsigned int bits = 8 * size;
	u64 r;

	switch (op) {
	case OP_BSF:
	case OP_BSR:
		flag_set(emu, FL_ZF, !src);
		if (!src)
			return 0;
		return op == OP_BSF ? lowest_bit(src) : highest_bit(src);
	case OP_TZCNT:
		r = src ? lowest_bit(src) : bits;
		break;
	default:
		r = src ? bits - 1 - highest_bit(src) : bits;
		break;
	}
	flag_set(emu, FL_CF, !src);
	flag_set(emu, FL_ZF, !r);
	return r;
}

static u64 do_popcnt(struct keel_emu *emu, u64 src)
{
	u64 n = 0;

	emu->rflags &= ~FL_STATUS;
	flag_set(emu, FL_ZF, !src);
	for (; src; src &= src - 1)
		n++;
	return n;
}

/* Castagnoli polynomial, bits reflected */
static u64 do_crc32(unsigned int size, u64 crc, u64 src)
{
	unsigned int i;

	crc = (u32)crc;
	for (i = 0; i < 8 * size; i++) {
		bool bit = (crc ^ src) & 1;

		crc >>= 1;
		src >>= 1;
		if (bit)
			crc ^= 0x82f63b78;
	}
	return crc;
}

static u64 do_bswap(unsigned int size, u64 val)
{
	u64 r = 0;
	unsigned int i;

	for (i = 0; i < size; i++)
		r |= ((val >> (8 * i)) & 0xff) << (8 * (size - 1 - i));
	return r;
}

/* ADCX and ADOX: an addition through one flag only */
static u64 do_adx(struct keel_emu *emu, u64 flag, unsigned int size, u64 a, u64 b)
{
	u64 r = (a + b + !!(emu->rflags & flag)) & size_mask(size);

	flag_set(emu, flag, ((a & b) | ((a | b) & ~r)) & sign_bit(size));
	return r;
}

/* Condition @code: the low four bits of Jcc, SETcc, CMOVcc (SDM vol 1 appendix B) */
bool keel_condition(u64 rflags, unsigned int code)
{
	bool sf_ne_of = !(rflags & FL_SF) != !(rflags & FL_OF);
	bool r = false;

	switch ((code >> 1) & 7) {
	case 0:
		r = rflags & FL_OF;
		break;
	case 1:
		r = rflags & FL_CF;
		break;
	case 2:
		r = rflags & FL_ZF;
		break;
	case 3:
		r = rflags & (FL_CF | FL_ZF);
		break;
	case 4:
		r = rflags & FL_SF;
		break;
	case 5:
		r = rflags & FL_PF;
		break;
	case 6:
		r = sf_ne_of;
		break;
	case 7:
		r = sf_ne_of || (rflags & FL_ZF);
		break;
	}
	return r != (code & 1);
}

/* The operations on single bits, and those that only move bytes. */
static int alu_bits(struct keel_emu *emu, unsigned int op, unsigned int size, u64 *dst, u64 src)
{
	u64 a = *dst;

	switch (op) {
	case OP_BT:
	case OP_BTS:
	case OP_BTR:
	case OP_BTC:
		*dst = do_bit(emu, op, size, a, src);
		return KEEL_EMU_OK;
	case OP_BSF:
	case OP_BSR:
	case OP_TZCNT:
	case OP_LZCNT:
		*dst = do_scan(emu, op, size, src);
		return KEEL_EMU_OK;
	case OP_POPCNT:
		*dst = do_popcnt(emu, src);
		return KEEL_EMU_OK;
	case OP_CRC32:
		*dst = do_crc32(size, a, src);
		return KEEL_EMU_OK;
	case OP_BSWAP:
		/* The 16-bit form is undefined; CPUs give 0. */
		*dst = size == 2 ? 0 : do_bswap(size, a);
		return KEEL_EMU_OK;
	case OP_MOVBE:
		*dst = do_bswap(size, src);
		return KEEL_EMU_OK;
	}
	return KEEL_EMU_UNHANDLEABLE;
}

/* Rotates and shifts; @src is the count, for the double shifts what is shifted in. */
static int alu_shift(struct keel_emu *emu, unsigned int op, unsigned int size, u64 *dst, u64 src)
{
	switch (op) {
	case OP_ROL:
	case OP_ROR:
		*dst = do_rotate(emu, op, size, *dst, src);
		return KEEL_EMU_OK;
	case OP_RCL:
	case OP_RCR:
		*dst = do_rotate_carry(emu, op, size, *dst, src);
		return KEEL_EMU_OK;
	case OP_SHL:
	case OP_SAL:
	case OP_SHR:
	case OP_SAR:
		*dst = do_shift(emu, op, size, *dst, src);
		return KEEL_EMU_OK;
	case OP_SHLD:
	case OP_SHRD:
		*dst = do_double_shift(emu, size, *dst, src);
		return KEEL_EMU_OK;
	}
	return alu_bits(emu, op, size, dst, src);
}

/**
 * keel_alu() - one operation on values of one size
 * @emu: its flags are read and set
 * @op: an enum keel_opcode of this file
 * @size: operand size in bytes
 * @dst: first operand, zero-extended; replaced by the result
 * @src: second operand; upper bits are ignored
 *
 * Return: KEEL_EMU_OK, or KEEL_EMU_UNHANDLEABLE for another operation.
 */
int keel_alu(struct keel_emu *emu, unsigned int op, unsigned int size, u64 *dst, u64 src)
{
	bool cf = emu->rflags & FL_CF;
	u64 a = *dst;

	src &= size_mask(size);
	switch (op) {
	case OP_ADD:
		*dst = do_add(emu, size, a, src, false);
		break;
	case OP_ADC:
		*dst = do_add(emu, size, a, src, cf);
		break;
	case OP_SUB:
		*dst = do_sub(emu, size, a, src, false);
		break;
	case OP_SBB:
		*dst = do_sub(emu, size, a, src, cf);
		break;
	case OP_CMP:
		do_sub(emu, size, a, src, false);
		break;
	case OP_OR:
		*dst = do_logic(emu, size, a | src);
		break;
	case OP_AND:
		*dst = do_logic(emu, size, a & src);
		break;
	case OP_XOR:
		*dst = do_logic(emu, size, a ^ src);
		break;
	case OP_TEST:
		do_logic(emu, size, a & src);
		break;
	case OP_NOT:
		*dst = ~a & size_mask(size);
		break;
	case OP_NEG:
		*dst = do_sub(emu, size, 0, a, false);
		break;
	case OP_INC:
		*dst = do_add(emu, size, a, 1, false);
		flag_set(emu, FL_CF, cf);
		break;
	case OP_DEC:
		*dst = do_sub(emu, size, a, 1, false);
		flag_set(emu, FL_CF, cf);
		break;
	case OP_ADCX:
		*dst = do_adx(emu, FL_CF, size, a, src);
		break;
	case OP_ADOX:
		*dst = do_adx(emu, FL_OF, size, a, src);
		break;
	default:
		return alu_shift(emu, op, size, dst, src);
	}
	return KEEL_EMU_OK;
}

static void adjust_after_add(struct keel_emu *emu, bool subtract)
{
	bool old_cf = emu->rflags & FL_CF;
	u8 old_al = emu->gpr[KEEL_RAX];
	u8 al = old_al;
	bool af = (al & 0xf) > 9 || (emu->rflags & FL_AF);
	bool cf = old_al > 0x99 || old_cf;

	if (af) {
		al = subtract ? al - 6 : al + 6;
		cf = cf || (subtract && old_al < 6);
	}
	if (old_al > 0x99 || old_cf)
		al = subtract ? al - 0x60 : al + 0x60;
	gpr_write_implied(emu, KEEL_RAX, 1, al);
	emu->rflags &= ~FL_OF;
	flag_set(emu, FL_AF, af);
	flag_set(emu, FL_CF, cf);
	set_szp(emu, 1, al);
}

static void adjust_ascii(struct keel_emu *emu, bool subtract)
{
	u16 ax = emu->gpr[KEEL_RAX];
	bool adjust = (ax & 0xf) > 9 || (emu->rflags & FL_AF);

	if (adjust)
		ax = subtract ? ax - 0x106 : ax + 0x106;
	ax &= 0xff0f;
	gpr_write_implied(emu, KEEL_RAX, 2, ax);
	emu->rflags &= ~FL_OF;
	set_szp(emu, 1, ax);
	flag_set(emu, FL_AF, adjust);
	flag_set(emu, FL_CF, adjust);
}

/* DAA, DAS, AAA, AAS, AAM, AAD, SALC: AL and AH, no 64-bit mode */
int keel_exec_decimal(struct keel_emu *emu)
{
	u8 al = emu->gpr[KEEL_RAX];
	u8 ah = emu->gpr[KEEL_RAX] >> 8;
	u8 base = emu->insn.imm;

	switch (emu->insn.op->op) {
	case OP_DAA:
	case OP_DAS:
		adjust_after_add(emu, emu->insn.op->op == OP_DAS);
		return KEEL_EMU_OK;
	case OP_AAA:
	case OP_AAS:
		adjust_ascii(emu, emu->insn.op->op == OP_AAS);
		return KEEL_EMU_OK;
	case OP_AAM:
		if (!base)
			return keel_emu_fault(emu, VEC_DE, false, 0);
		gpr_write_implied(emu, KEEL_RAX, 2, (al / base) << 8 | al % base);
		break;
	case OP_AAD:
		gpr_write_implied(emu, KEEL_RAX, 2, (u8)(al + ah * base));
		break;
	case OP_SALC:
		gpr_write_implied(emu, KEEL_RAX, 1, emu->rflags & FL_CF ? 0xff : 0);
		return KEEL_EMU_OK;
	default:
		return KEEL_EMU_UNHANDLEABLE;
	}
	emu->rflags &= ~(FL_OF | FL_AF | FL_CF);
	set_szp(emu, 1, emu->gpr[KEEL_RAX]);
	return KEEL_EMU_OK;
}
