// SPDX-License-Identifier: GPL-2.0-only
/*
 * SSE, AVX and MMX moves, the vector instructions that drivers use on device memory: whole
 * registers, halves, low scalars, and moves from and to general registers. And FXSAVE and FXRSTOR, for guests that
 * are interpreted.
 *
 * Which registers exist and where they live is the callbacks' part; here are the conditions of use
 * (CR0.EM, CR0.TS, CR4.OSFXSR, CR4.OSXSAVE with XCR0), alignment, and what becomes of upper bits.
 *
 * SDM vol 1 chapters 9 to 14, vol 3 13.1; vol 2 2.4 (exception classes); APM vol 4.
 */
#include "internal.h"

#define XCR0_SSE_AVX	0x6

static bool uses_mmx(const struct keel_op *op)
{
	return op->dst == O_P || op->dst == O_Q || op->src == O_P || op->src == O_Q;
}

static int check_usable(struct keel_emu *emu)
{
	const struct keel_op *op = emu->insn.op;
	u64 cr0 = emu->ops->get_cr(emu, 0);
	u64 cr4 = emu->ops->get_cr(emu, 4);
	u64 xcr0 = 0;
	int ret;

	if (op->flags & F_VEX) {
		if (!(cr4 & CR4_OSXSAVE))
			return fault_ud(emu);
		ret = emu->ops->system(emu, KEEL_SYS_XGETBV, 0, &xcr0);
		if (ret)
			return ret;
		if ((xcr0 & XCR0_SSE_AVX) != XCR0_SSE_AVX)
			return fault_ud(emu);
	} else if ((cr0 & CR0_EM) || (!uses_mmx(op) && !(cr4 & CR4_OSFXSR))) {
		return fault_ud(emu);
	}
	if (cr0 & CR0_TS)
		return keel_emu_fault(emu, VEC_NM, false, 0);
	return KEEL_EMU_OK;
}

/* VEX.vvvv must be unused (1111b), and VEX.L 0, but where an instruction has a use for them. */
static bool vex_fields_allowed(const struct keel_insn *insn)
{
	bool memory = insn->mod != 3;

	if (!insn->vex)
		return true;
	switch (insn->op->op) {
	case OP_VMOV:
		return !insn->vex_vvvv;
	case OP_VMOV_MERGE:
		return !memory || !insn->vex_vvvv;
	case OP_VMOV_HALF:
		return !insn->vex_l && (insn->op->dst == O_V || !insn->vex_vvvv);
	}
	return !insn->vex_l && !insn->vex_vvvv;
}

static int mem_linear(struct keel_emu *emu, unsigned int len, unsigned int acc, u64 *la)
{
	bool align = emu->insn.op->flags & F_ALIGN;
	int ret;

	ret = keel_mem_linear(emu, emu->insn.seg, keel_mem_ea(emu), len,
			      acc | (len > 8 ? ACC_UNALIGNED : 0), la);
	if (!ret && align && (*la & (len - 1)))
		return fault_gp(emu, 0);
	return ret;
}

static int mem_load(struct keel_emu *emu, void *buf, unsigned int len)
{
	u64 la;
	int ret = mem_linear(emu, len, 0, &la);

	return ret ? ret : keel_la_read(emu, la, buf, len, 0);
}

static int mem_store(struct keel_emu *emu, const void *buf, unsigned int len)
{
	u64 la;
	int ret = mem_linear(emu, len, KEEL_EMU_ACC_WRITE, &la);

	return ret ? ret : keel_la_write(emu, la, buf, len, 0);
}

static int vec_get(struct keel_emu *emu, unsigned int nr, void *buf, unsigned int len)
{
	return emu->ops->get_vec(emu, nr, buf, len);
}

static int vec_set(struct keel_emu *emu, unsigned int nr, const void *buf, unsigned int len)
{
	return emu->ops->set_vec(emu, nr, buf, len, emu->insn.vex);
}

static bool is_load(const struct keel_insn *insn)
{
	return insn->op->dst == O_V || insn->op->dst == O_P;
}

static int move_whole(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int len = insn->vex_l ? 32 : 16;
	bool load = is_load(insn);
	u8 buf[32];
	int ret;

	if (insn->mod == 3)
		ret = vec_get(emu, load ? insn->rm : insn->reg, buf, len);
	else if (load)
		ret = mem_load(emu, buf, len);
	else
		ret = vec_get(emu, insn->reg, buf, len);
	if (ret)
		return ret;
	if (insn->mod != 3 && !load)
		return mem_store(emu, buf, len);
	return vec_set(emu, load ? insn->reg : insn->rm, buf, len);
}

/* MOVSS, MOVSD (the rest of the register stays in the register form), MOVQ (it is cleared) */
static int move_low(struct keel_emu *emu, bool merge)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int len = insn->op->flags & F_W_MEM4 ? 4 : 8;
	unsigned int dst = is_load(insn) ? insn->reg : insn->rm;
	unsigned int src = is_load(insn) ? insn->rm : insn->reg;
	u8 buf[16] = {}, from[16];
	int ret;

	if (insn->mod != 3 && is_load(insn)) {
		ret = mem_load(emu, buf, len);
		return ret ? ret : vec_set(emu, dst, buf, 16);
	}
	ret = vec_get(emu, src, from, 16);
	if (ret)
		return ret;
	if (insn->mod != 3)
		return mem_store(emu, from, len);
	if (merge)
		ret = vec_get(emu, insn->vex ? vex_reg(emu) : dst, buf, 16);
	if (ret)
		return ret;
	memcpy(buf, from, len);
	return vec_set(emu, dst, buf, 16);
}

/* MOVLPS, MOVHPS, MOVLPD, MOVHPD; in the register form MOVHLPS and MOVLHPS */
static int move_half(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int half = insn->opcode & 4 ? 8 : 0;
	u8 buf[16], from[16];
	int ret;

	if (!is_load(insn)) {
		ret = vec_get(emu, insn->reg, buf, 16);
		return ret ? ret : mem_store(emu, buf + half, 8);
	}
	ret = vec_get(emu, insn->vex ? vex_reg(emu) : insn->reg, buf, 16);
	if (ret)
		return ret;
	if (insn->mod != 3) {
		ret = mem_load(emu, buf + half, 8);
	} else {
		ret = vec_get(emu, insn->rm, from, 16);
		memcpy(buf + half, from + 8 - half, 8);
	}
	return ret ? ret : vec_set(emu, insn->reg, buf, 16);
}

/* MOVD and MOVQ between a vector register and a general register or memory */
static int move_gpr(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int len = insn->rex & 8 ? 8 : 4;
	unsigned int vec_len = uses_mmx(insn->op) ? 8 : 16;
	unsigned int nr = vec_len == 8 ? insn->reg & 7 : insn->reg;
	u8 buf[16] = {};
	u64 val = 0;
	int ret;

	if (is_load(insn)) {
		/* a pending #MF comes before the access */
		ret = vec_len == 8 ? vec_get(emu, nr, buf, vec_len) : KEEL_EMU_OK;
		if (ret)
			return ret;
		memset(buf, 0, sizeof(buf));
		if (insn->mod == 3)
			memcpy(buf, &emu->gpr[insn->rm], len);
		ret = insn->mod == 3 ? KEEL_EMU_OK : mem_load(emu, buf, len);
		return ret ? ret : vec_set(emu, nr, buf, vec_len);
	}
	ret = vec_get(emu, nr, buf, vec_len);
	if (ret)
		return ret;
	if (insn->mod != 3)
		return mem_store(emu, buf, len);
	memcpy(&val, buf, len);
	gpr_write(emu, insn->rm, len, val);
	return KEEL_EMU_OK;
}

static int move_mmx(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	bool load = is_load(insn);
	u8 buf[8];
	int ret;

	ret = vec_get(emu, (load && insn->mod == 3 ? insn->rm : insn->reg) & 7, buf, 8);
	if (!ret && load && insn->mod != 3)
		ret = mem_load(emu, buf, 8);
	if (ret)
		return ret;
	if (insn->mod != 3 && !load)
		return mem_store(emu, buf, 8);
	return vec_set(emu, (load ? insn->reg : insn->rm) & 7, buf, 8);
}

/* The FXSAVE area (SDM vol 1 10.5.1) */
#define FX_BYTES	512	/* of which the last 96 are left alone */
#define FX_FIP_HIGH	12
#define FX_FDP_HIGH	20
#define FX_MXCSR	24
#define FX_XMM		160
#define FX_PIECE	32	/* bytes an access */

/* How much of the area is moved: without CR4.OSFXSR, or with EFER.FFXSR, not the vector registers. */
static int fx_size(struct keel_emu *emu, unsigned int *size)
{
	bool wide = emu->mode == KEEL_EMU_PROT64;
	u64 efer = 0;
	int ret;

	*size = FX_XMM;
	if (!(emu->ops->get_cr(emu, 4) & CR4_OSFXSR))
		return KEEL_EMU_OK;
	ret = wide && !emu->cpl ? emu->ops->get_msr(emu, MSR_EFER, &efer) : KEEL_EMU_OK;
	if (!(efer & EFER_FFXSR))
		*size += wide ? 16 * 16 : 8 * 16;
	return ret;
}

/* Without REX.W the pointers have 32 bits, and selectors that CPUs do not keep any more. */
static void fx_short_pointers(struct keel_emu *emu, u8 *area)
{
	if (emu->insn.rex & 8)
		return;
	memset(area + FX_FIP_HIGH, 0, 4);
	memset(area + FX_FDP_HIGH, 0, 4);
}

static u64 fx_at(const struct keel_emu *emu, u64 la, unsigned int at)
{
	return emu->mode == KEEL_EMU_PROT64 ? la + at : (u32)(la + at);
}

static int fxsave(struct keel_emu *emu, u64 la, unsigned int size)
{
	u8 *area = emu->buf;
	unsigned int at;
	int ret;

	emu->ops->get_fx(emu, area);
	fx_short_pointers(emu, area);
	for (at = 0; at < size; at += FX_PIECE) {
		ret = keel_la_write(emu, fx_at(emu, la, at), area + at, FX_PIECE, 0);
		if (ret)
			return ret;
	}
	return KEEL_EMU_OK;
}

static int fxrstor(struct keel_emu *emu, u64 la, unsigned int size)
{
	u8 *area = emu->buf, mxcsr[4];
	unsigned int at;
	int ret;

	emu->ops->get_fx(emu, area);
	memcpy(mxcsr, area + FX_MXCSR, sizeof(mxcsr));
	for (at = 0; at < size; at += FX_PIECE) {
		ret = keel_la_read(emu, fx_at(emu, la, at), area + at, FX_PIECE, 0);
		if (ret)
			return ret;
	}
	fx_short_pointers(emu, area);
	if (!(emu->ops->get_cr(emu, 4) & CR4_OSFXSR))
		memcpy(area + FX_MXCSR, mxcsr, sizeof(mxcsr));
	return emu->ops->set_fx(emu, area);
}

/* From and to memory only: nobody keeps these registers in a device. */
static int exec_fx(struct keel_emu *emu)
{
	bool save = emu->insn.op->op == OP_FXSAVE;
	unsigned int acc = save ? KEEL_EMU_ACC_WRITE : 0, size;
	u64 la;
	int ret;

	if (emu->ops->get_cr(emu, 0) & (CR0_EM | CR0_TS))
		return keel_emu_fault(emu, VEC_NM, false, 0);
	ret = fx_size(emu, &size);
	if (!ret)
		ret = keel_mem_linear(emu, emu->insn.seg, keel_mem_ea(emu), FX_BYTES, acc | ACC_UNALIGNED, &la);
	if (ret)
		return ret;
	if (la & 15)
		return fault_gp(emu, 0);
	ret = keel_la_probe(emu, la, size, acc);
	if (ret)
		return ret == KEEL_EMU_IO ? KEEL_EMU_UNHANDLEABLE : ret;
	return save ? fxsave(emu, la, size) : fxrstor(emu, la, size);
}

int keel_exec_vector(struct keel_emu *emu)
{
	int ret;

	if (emu->insn.op->op >= OP_FXSAVE)
		return exec_fx(emu);
	if (!vex_fields_allowed(&emu->insn))
		return fault_ud(emu);
	ret = check_usable(emu);
	if (ret)
		return ret;
	switch (emu->insn.op->op) {
	case OP_VMOV:
		return move_whole(emu);
	case OP_VMOV_LOW:
		return move_low(emu, false);
	case OP_VMOV_MERGE:
		return move_low(emu, true);
	case OP_VMOV_HALF:
		return move_half(emu);
	case OP_VMOV_GPR:
		return move_gpr(emu);
	case OP_VMOV_MMX:
		return move_mmx(emu);
	}
	return KEEL_EMU_UNHANDLEABLE;
}
