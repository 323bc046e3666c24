// SPDX-License-Identifier: GPL-2.0-only
/*
 * Segment registers and descriptors: MOV, POP and far-pointer loads of data segments, LLDT, LTR,
 * SLDT, STR, and the instructions that only look (LAR, LSL, VERR, VERW, ARPL).
 *
 * Descriptors are read as implicit supervisor accesses; the accessed and busy bits are written
 * when all checks have passed, just before the register is loaded.
 *
 * SDM vol 3 chapters 3.4, 3.5, 5.6 to 5.10, 7.2; vol 2 (the instructions); APM vol 2 chapter 4.
 */
#include "descriptor.h"

/* Real and virtual-8086 mode: the base follows the selector. */
void keel_load_real(struct keel_emu *emu, unsigned int sreg, u16 selector)
{
	struct keel_emu_seg seg;

	emu->ops->get_seg(emu, sreg, &seg);
	seg.selector = selector;
	seg.base = (u32)selector << 4;
	seg.unusable = 0;
	if (emu->mode == KEEL_EMU_VM86) {
		seg = (struct keel_emu_seg) {
			.selector = selector, .base = seg.base, .limit = 0xffff,
			.type = 3, .s = 1, .dpl = 3, .present = 1,
		};
	}
	emu->ops->set_seg(emu, sreg, &seg);
}

static int load_null(struct keel_emu *emu, unsigned int sreg, u16 selector)
{
	struct keel_emu_seg seg = { .selector = selector, .unusable = 1 };

	if (sreg == KEEL_SS) {
		if (emu->mode != KEEL_EMU_PROT64 || emu->cpl == 3 || SEL_RPL(selector) != emu->cpl)
			return fault_gp(emu, 0);
		seg.dpl = emu->cpl;
	}
	emu->ops->set_seg(emu, sreg, &seg);
	return KEEL_EMU_OK;
}

static bool data_segment_ok(const struct keel_emu *emu, const struct keel_emu_seg *seg)
{
	if (!seg->s || !is_readable(seg))
		return false;
	return is_conforming(seg) ||
	       (SEL_RPL(seg->selector) <= seg->dpl && emu->cpl <= seg->dpl);
}

/**
 * keel_load_segment() - load ES, SS, DS, FS or GS, in any mode
 * @emu: context
 * @sreg: enum keel_sreg
 * @selector: new selector
 *
 * Makes all checks of SDM vol 2 "MOV"; the register is loaded last.
 *
 * Return: KEEL_EMU_OK, or what failed.
 */
int keel_load_segment(struct keel_emu *emu, unsigned int sreg, u16 selector)
{
	struct descriptor d;
	u32 error = selector & ~3;
	bool found;
	int ret;

	if (!mode_is_protected(emu)) {
		keel_load_real(emu, sreg, selector);
		return KEEL_EMU_OK;
	}
	if (SEL_NULL(selector))
		return load_null(emu, sreg, selector);
	ret = keel_descriptor_read(emu, selector, &d, &found);
	if (ret)
		return ret;
	if (!found)
		return fault_gp(emu, error);
	if (!(sreg == KEEL_SS ? is_stack_of(&d.seg, emu->cpl) : data_segment_ok(emu, &d.seg)))
		return fault_gp(emu, error);
	if (!d.seg.present)
		return fault_code(emu, sreg == KEEL_SS ? VEC_SS : VEC_NP, error);
	ret = keel_descriptor_mark(emu, &d, TYPE_ACCESSED, true);
	if (!ret)
		emu->ops->set_seg(emu, sreg, &d.seg);
	return ret;
}

/* LLDT and LTR: in long mode the descriptor has 16 bytes */
static int load_system(struct keel_emu *emu, unsigned int sreg, u16 selector)
{
	bool wide = keel_long_mode(emu);
	u32 error = selector & ~3;
	struct descriptor d;
	u32 raw[4] = {};
	u8 type;
	int ret;

	if (SEL_NULL(selector)) {
		struct keel_emu_seg null = { .selector = selector, .unusable = 1 };

		if (sreg == KEEL_TR)
			return fault_gp(emu, 0);
		emu->ops->set_seg(emu, sreg, &null);
		return KEEL_EMU_OK;
	}
	if ((selector & SEL_TI) || !keel_descriptor_la(emu, selector, wide ? 16 : 8, &d.la))
		return fault_gp(emu, error);
	ret = keel_la_read(emu, d.la, raw, wide ? 16 : 8, KEEL_EMU_ACC_SYSTEM | ACC_UNALIGNED);
	if (ret)
		return ret;
	keel_descriptor_decode(&d, selector, raw);
	d.seg.base |= (u64)raw[2] << 32;
	type = d.seg.type;
	if (d.seg.s || (wide && (raw[3] & 0x1f00)))
		return fault_gp(emu, error);
	if (sreg == KEEL_LDTR ? type != TYPE_LDT :
				type != TYPE_TSS32 && (wide || type != TYPE_TSS16))
		return fault_gp(emu, error);
	if (!d.seg.present)
		return fault_code(emu, VEC_NP, error);
	if (!keel_is_canonical(emu, d.seg.base))
		return fault_gp(emu, error);
	if (sreg == KEEL_TR) {
		ret = keel_descriptor_mark(emu, &d, TYPE_BUSY, true);
		if (ret)
			return ret;
	}
	emu->ops->set_seg(emu, sreg, &d.seg);
	return KEEL_EMU_OK;
}

/* System descriptor types that LAR and LSL accept (SDM vol 2, their tables) */
static bool system_type_visible(struct keel_emu *emu, u8 type, bool lsl)
{
	u16 mask = lsl ? 0x0a0e : 0x1a3e;	/* LDT, TSSs; LAR: call and task gates too */

	if (keel_long_mode(emu))
		mask = lsl ? 0x0a04 : 0x1a04;
	return (mask >> type) & 1;
}

/* May the current code see the segment through this selector? */
static bool visible(const struct keel_emu *emu, const struct keel_emu_seg *seg)
{
	if (seg->s && is_conforming(seg))
		return true;
	return emu->cpl <= seg->dpl && SEL_RPL(seg->selector) <= seg->dpl;
}

/* LAR, LSL, VERR, VERW: ZF tells whether the selector passed */
static int exec_look(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int op = insn->op->op;
	struct descriptor d = {};
	struct operand src;
	bool ok = false;
	int ret;

	ret = keel_operand_locate(emu, O_E16, &src);
	if (!ret)
		ret = keel_operand_read(emu, &src, 0);
	if (ret)
		return ret;
	if (!SEL_NULL(src.val)) {
		ret = keel_descriptor_read(emu, src.val, &d, &ok);
		if (ret)
			return ret;
	}
	ok = ok && visible(emu, &d.seg);
	switch (op) {
	case OP_LAR:
	case OP_LSL:
		ok = ok && (d.seg.s || system_type_visible(emu, d.seg.type, op == OP_LSL));
		if (ok)
			gpr_write(emu, insn->reg, insn->op_size,
				  op == OP_LSL ? d.seg.limit : d.hi & 0xffff00);
		break;
	case OP_VERR:
		ok = ok && d.seg.s && is_readable(&d.seg);
		break;
	case OP_VERW:
		ok = ok && d.seg.s && is_writable(&d.seg);
		break;
	}
	flag_set(emu, FL_ZF, ok);
	return KEEL_EMU_OK;
}

static int exec_arpl(struct keel_emu *emu)
{
	u16 rpl = SEL_RPL(emu->gpr[emu->insn.reg]);
	struct operand dst;
	int ret;

	ret = keel_operand_locate(emu, O_E16, &dst);
	if (!ret)
		ret = keel_operand_read(emu, &dst, 0);
	if (ret)
		return ret;
	flag_set(emu, FL_ZF, SEL_RPL(dst.val) < rpl);
	if (SEL_RPL(dst.val) >= rpl)
		return KEEL_EMU_OK;
	dst.val = (dst.val & ~3ULL) | rpl;
	return keel_operand_write(emu, &dst);
}

/* A selector to a register of operand size, or to two bytes of memory */
static int store_selector(struct keel_emu *emu, unsigned int sreg)
{
	struct keel_emu_seg seg;

	emu->ops->get_seg(emu, sreg, &seg);
	if (emu->insn.mod != 3)
		return keel_mem_write(emu, emu->insn.seg, keel_mem_ea(emu), &seg.selector, 2, 0);
	gpr_write(emu, emu->insn.rm, emu->insn.op_size, seg.selector);
	return KEEL_EMU_OK;
}

static int exec_mov_sreg(struct keel_emu *emu)
{
	unsigned int sreg = emu->insn.reg & 7;
	struct operand src;
	int ret;

	if (sreg > KEEL_GS)
		return fault_ud(emu);
	if (emu->insn.op->op == OP_MOV_FROM_SREG)
		return store_selector(emu, sreg);
	if (sreg == KEEL_CS)
		return fault_ud(emu);
	ret = keel_operand_locate(emu, O_E16, &src);
	if (!ret)
		ret = keel_operand_read(emu, &src, 0);
	if (!ret)
		ret = keel_load_segment(emu, sreg, src.val);
	if (!ret && sreg == KEEL_SS)
		emu->shadow = KEEL_SHADOW_MOV_SS;
	return ret;
}

/* LES, LDS (C4, C5), LSS, LFS, LGS (0F B2, B4, B5): offset, then selector */
static int exec_far_pointer(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int sreg = KEEL_SS, size = insn->op_size;
	u64 ea = keel_mem_ea(emu), offset = 0, la;
	u16 selector;
	u8 buf[10];
	int ret;

	switch (insn->opcode) {
	case 0xc4:
		sreg = KEEL_ES;
		break;
	case 0xc5:
		sreg = KEEL_DS;
		break;
	case 0xb4:
		sreg = KEEL_FS;
		break;
	case 0xb5:
		sreg = KEEL_GS;
		break;
	}
	ret = keel_mem_linear(emu, insn->seg, ea, size, 0, &la);	/* for its alignment */
	if (!ret)
		ret = keel_mem_read(emu, insn->seg, ea, buf, size + 2, ACC_UNALIGNED);
	if (ret)
		return ret;
	memcpy(&offset, buf, size);
	memcpy(&selector, buf + size, 2);
	ret = keel_load_segment(emu, sreg, selector);
	if (!ret)
		gpr_write(emu, insn->reg, size, offset);
	return ret;
}

static int exec_store_system(struct keel_emu *emu)
{
	if (emu->cpl && (emu->ops->get_cr(emu, 4) & CR4_UMIP))
		return fault_gp(emu, 0);
	return store_selector(emu, emu->insn.op->op == OP_SLDT ? KEEL_LDTR : KEEL_TR);
}

int keel_exec_segment(struct keel_emu *emu)
{
	struct operand src;
	int ret;

	switch (emu->insn.op->op) {
	case OP_MOV_FROM_SREG:
	case OP_MOV_TO_SREG:
		return exec_mov_sreg(emu);
	case OP_LOAD_FAR_PTR:
		return exec_far_pointer(emu);
	case OP_SLDT:
	case OP_STR:
		return exec_store_system(emu);
	case OP_LLDT:
	case OP_LTR:
		ret = keel_operand_locate(emu, O_E16, &src);
		if (!ret)
			ret = keel_operand_read(emu, &src, 0);
		if (ret)
			return ret;
		return load_system(emu, emu->insn.op->op == OP_LTR ? KEEL_TR : KEEL_LDTR, src.val);
	case OP_LAR:
	case OP_LSL:
	case OP_VERR:
	case OP_VERW:
		return exec_look(emu);
	case OP_ARPL:
		return exec_arpl(emu);
	}
	return KEEL_EMU_UNHANDLEABLE;
}
