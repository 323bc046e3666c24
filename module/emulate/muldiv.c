// SPDX-License-Identifier: GPL-2.0-only
/*
 * Multiplication and division: MUL, IMUL in its three forms, DIV, IDIV, with 128-bit products and
 * dividends made of 64-bit halves (the kernel has no 128-bit division).
 *
 * SDM vol 2 (the instructions); APM vol 3.
 */
#include "internal.h"

struct wide {
	u64 lo;
	u64 hi;
};

static struct wide mul_64(u64 a, u64 b)
{
	u64 a0 = (u32)a, a1 = a >> 32, b0 = (u32)b, b1 = b >> 32;
	u64 p00 = a0 * b0, p01 = a0 * b1, p10 = a1 * b0, p11 = a1 * b1;
	u64 mid = (p00 >> 32) + (u32)p01 + (u32)p10;
	struct wide r = {
		.lo = (u32)p00 | mid << 32,
		.hi = p11 + (p01 >> 32) + (p10 >> 32) + (mid >> 32),
	};

	return r;
}

static struct wide negate(struct wide v)
{
	struct wide r = { .lo = -v.lo, .hi = ~v.hi + !v.lo };

	return r;
}

static struct wide imul_64(s64 a, s64 b)
{
	struct wide r = mul_64(a, b);

	if (a < 0)
		r.hi -= b;
	if (b < 0)
		r.hi -= a;
	return r;
}

/* Needs n.hi < d, else the quotient does not fit. */
static u64 div_wide(struct wide n, u64 d, u64 *rem)
{
	u64 q = 0;
	int i;

	if (!n.hi) {
		*rem = n.lo % d;
		return n.lo / d;
	}
	for (i = 0; i < 64; i++) {
		bool out = n.hi >> 63;

		n.hi = n.hi << 1 | n.lo >> 63;
		n.lo <<= 1;
		q <<= 1;
		if (out || n.hi >= d) {
			n.hi -= d;
			q |= 1;
		}
	}
	*rem = n.hi;
	return q;
}

/* The dividend: AX, DX:AX, EDX:EAX or RDX:RAX */
static struct wide dividend(const struct keel_emu *emu, unsigned int size)
{
	struct wide n = { .lo = emu->gpr[KEEL_RAX], .hi = emu->gpr[KEEL_RDX] };

	if (size == 8)
		return n;
	if (size == 1)
		n.lo = (u16)n.lo;
	else
		n.lo = (n.lo & size_mask(size)) | (n.hi & size_mask(size)) << (8 * size);
	n.hi = 0;
	return n;
}

/* The two halves of a result: AH:AL, or DX:AX and wider */
static void write_pair(struct keel_emu *emu, unsigned int size, u64 lo, u64 hi)
{
	if (size == 1) {
		gpr_write_implied(emu, KEEL_RAX, 2, (hi & 0xff) << 8 | (lo & 0xff));
		return;
	}
	gpr_write_implied(emu, KEEL_RAX, size, lo);
	gpr_write_implied(emu, KEEL_RDX, size, hi);
}

static void mul_flags(struct keel_emu *emu, unsigned int size, u64 lo, bool overflow)
{
	emu->rflags &= ~FL_STATUS;
	flag_set(emu, FL_CF | FL_OF, overflow);
	flag_set(emu, FL_SF, lo & sign_bit(size));
}

static struct wide product_split(struct wide p, unsigned int size)
{
	if (size < 8) {
		p.hi = (p.lo >> (8 * size)) & size_mask(size);
		p.lo &= size_mask(size);
	}
	return p;
}

/**
 * keel_mul_high() - a product in two halves
 * @a: zero-extended factor
 * @b: zero-extended factor
 * @size: of the factors, in bytes: 4 or 8
 * @lo: gets the low half
 *
 * Return: the high half
 */
u64 keel_mul_high(u64 a, u64 b, unsigned int size, u64 *lo)
{
	struct wide p = product_split(mul_64(a, b), size);

	*lo = p.lo;
	return p.hi;
}

static void mul_unsigned(struct keel_emu *emu, unsigned int size, u64 src)
{
	struct wide p = mul_64(emu->gpr[KEEL_RAX] & size_mask(size), src);

	p = product_split(p, size);
	write_pair(emu, size, p.lo, p.hi);
	mul_flags(emu, size, p.lo, p.hi);
}

static struct wide imul_sized(struct keel_emu *emu, unsigned int size, u64 a, u64 b)
{
	struct wide p = imul_64(sign_extend(a, size), sign_extend(b, size));
	bool overflow;

	p = product_split(p, size);
	overflow = (u64)(sign_extend(p.lo, size) >> 63) != (u64)sign_extend(p.hi, size);
	mul_flags(emu, size, p.lo, overflow);
	return p;
}

static int fault_divide(struct keel_emu *emu)
{
	return keel_emu_fault(emu, VEC_DE, false, 0);
}

static int div_unsigned(struct keel_emu *emu, unsigned int size, u64 src)
{
	struct wide n = dividend(emu, size);
	u64 q, rem;

	if (!src || n.hi >= src)
		return fault_divide(emu);
	q = div_wide(n, src, &rem);
	if (q > size_mask(size))
		return fault_divide(emu);
	write_pair(emu, size, q, rem);
	return KEEL_EMU_OK;
}

static int div_signed(struct keel_emu *emu, unsigned int size, u64 src)
{
	struct wide n = dividend(emu, size);
	s64 d = sign_extend(src, size);
	u64 ud = d < 0 ? -(u64)d : d;
	bool n_neg, q_neg;
	u64 q, rem;

	if (size == 8) {
		n_neg = n.hi >> 63;
	} else {
		n.lo = sign_extend(n.lo, 2 * size);
		n.hi = (s64)n.lo >> 63;
		n_neg = n.hi;
	}
	if (n_neg)
		n = negate(n);
	if (!ud || n.hi >= ud)
		return fault_divide(emu);
	q = div_wide(n, ud, &rem);
	q_neg = n_neg != (d < 0);
	if (q > (q_neg ? sign_bit(size) : sign_bit(size) - 1))
		return fault_divide(emu);
	write_pair(emu, size, q_neg ? -q : q, n_neg ? -rem : rem);
	return KEEL_EMU_OK;
}

/* MUL, IMUL, DIV, IDIV by the zero-extended @src of @size bytes */
int keel_exec_muldiv(struct keel_emu *emu, unsigned int size, u64 src)
{
	const struct keel_insn *insn = &emu->insn;
	struct wide p;

	switch (insn->op->op) {
	case OP_MUL:
		mul_unsigned(emu, size, src);
		return KEEL_EMU_OK;
	case OP_IMUL1:
		p = imul_sized(emu, size, emu->gpr[KEEL_RAX], src);
		write_pair(emu, size, p.lo, p.hi);
		return KEEL_EMU_OK;
	case OP_IMUL2:
		p = imul_sized(emu, size, gpr_read(emu, insn->reg, size), src);
		gpr_write(emu, insn->reg, size, p.lo);
		return KEEL_EMU_OK;
	case OP_IMUL3:
		p = imul_sized(emu, size, src, insn->imm);
		gpr_write(emu, insn->reg, size, p.lo);
		return KEEL_EMU_OK;
	case OP_DIV:
		return div_unsigned(emu, size, src);
	case OP_IDIV:
		return div_signed(emu, size, src);
	}
	return KEEL_EMU_UNHANDLEABLE;
}
