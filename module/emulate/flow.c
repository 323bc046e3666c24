// SPDX-License-Identifier: GPL-2.0-only
/*
 * The stack and near control transfers: PUSH and POP in all forms, flags images, frames, jumps,
 * calls, returns, loops.
 *
 * Branch targets are checked before anything is pushed, popped values are used only when nothing
 * more can fault.
 *
 * SDM vol 1 chapter 6 (stack, calls), vol 2; vol 3 20.2 and 20.3 (PUSHF, POPF in virtual-8086
 * mode); APM vol 3.
 */
#include "internal.h"

/* Go to @target, an offset of @size bytes in the current code segment. */
int keel_branch(struct keel_emu *emu, u64 target, unsigned int size)
{
	struct keel_emu_seg cs;

	target &= size_mask(size);
	if (emu->mode == KEEL_EMU_PROT64) {
		if (!keel_is_canonical(emu, target))
			return fault_gp(emu, 0);
	} else {
		emu->ops->get_seg(emu, KEEL_CS, &cs);
		if (target > cs.limit)
			return fault_gp(emu, 0);
	}
	emu->next_rip = target;
	return KEEL_EMU_OK;
}

static int branch_relative(struct keel_emu *emu)
{
	return keel_branch(emu, emu->next_rip + emu->insn.imm, emu->insn.op_size);
}

static int exec_call(struct keel_emu *emu, u64 target)
{
	u64 back = emu->next_rip;
	int ret = keel_branch(emu, target, emu->insn.op_size);

	return ret ? ret : keel_push(emu, back, emu->insn.op_size);
}

static int exec_ret(struct keel_emu *emu)
{
	unsigned int width = keel_stack_size(emu);
	u64 target;
	int ret;

	ret = keel_pop(emu, &target, emu->insn.op_size);
	if (!ret)
		ret = keel_branch(emu, target, emu->insn.op_size);
	if (!ret)
		gpr_write_implied(emu, KEEL_RSP, width, emu->gpr[KEEL_RSP] + emu->insn.imm);
	return ret;
}

/* LOOPNE, LOOPE, LOOP (E0, E1, E2) and JCXZ (E3); the counter has the address size */
static int exec_loop(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int size = insn->addr_size;
	u64 count = emu->gpr[KEEL_RCX] & size_mask(size);
	bool zf = emu->rflags & FL_ZF;
	bool take;

	if (insn->opcode == 0xe3)
		return count ? KEEL_EMU_OK : branch_relative(emu);
	count--;
	gpr_write_implied(emu, KEEL_RCX, size, count);
	take = count & size_mask(size);
	if (insn->opcode == 0xe0)
		take = take && !zf;
	else if (insn->opcode == 0xe1)
		take = take && zf;
	return take ? branch_relative(emu) : KEEL_EMU_OK;
}

static int exec_push(struct keel_emu *emu)
{
	struct operand src;
	int ret;

	ret = keel_operand_locate(emu, emu->insn.op->src, &src);
	if (!ret)
		ret = keel_operand_read(emu, &src, 0);
	return ret ? ret : keel_push(emu, src.val, emu->insn.op_size);
}

/* A memory destination is addressed with the stack pointer already moved. */
static int exec_pop(struct keel_emu *emu)
{
	struct operand dst;
	u64 val;
	int ret;

	ret = keel_pop(emu, &val, emu->insn.op_size);
	if (!ret)
		ret = keel_operand_locate(emu, emu->insn.op->dst, &dst);
	if (ret)
		return ret;
	dst.val = val;
	return keel_operand_write(emu, &dst);
}

/*
 * PUSHA writes one block of eight; only one that wraps around the stack segment, or that faults,
 * goes register by register, to fault where hardware does.
 */
static int exec_pusha(struct keel_emu *emu)
{
	unsigned int size = emu->insn.op_size;
	unsigned int width = keel_stack_size(emu);
	u64 sp = emu->gpr[KEEL_RSP] & size_mask(width);
	u64 old_sp = emu->gpr[KEEL_RSP];
	u8 block[32];
	int reg, ret;
	u64 la;

	for (reg = KEEL_RAX; reg <= KEEL_RDI; reg++)
		memcpy(block + (7 - reg) * size, &emu->gpr[reg], size);
	if (!sp || sp >= 8 * size) {
		sp = (sp - 8 * size) & size_mask(width);
		ret = keel_mem_linear(emu, KEEL_SS, sp, size, KEEL_EMU_ACC_WRITE, &la);
		if (!ret)
			ret = keel_mem_write(emu, KEEL_SS, sp, block, 8 * size, ACC_UNALIGNED);
		if (!ret)
			gpr_write_implied(emu, KEEL_RSP, width, sp);
		if (ret != KEEL_EMU_FAULT)
			return ret;
	}
	for (reg = KEEL_RAX; reg <= KEEL_RDI; reg++) {
		ret = keel_push(emu, reg == KEEL_RSP ? old_sp : emu->gpr[reg], size);
		if (ret)
			return ret;
	}
	return KEEL_EMU_OK;
}

static int exec_popa(struct keel_emu *emu)
{
	int reg, ret;
	u64 val;

	for (reg = KEEL_RDI; reg >= KEEL_RAX; reg--) {
		ret = keel_pop(emu, &val, emu->insn.op_size);
		if (ret)
			return ret;
		if (reg != KEEL_RSP)
			gpr_write_implied(emu, reg, emu->insn.op_size, val);
	}
	return KEEL_EMU_OK;
}

/*
 * Virtual-8086 mode with IOPL below 3: *@vme with the VME extensions and 16-bit operands, where VIF
 * takes the place of IF; else #GP (SDM vol 3 20.3).
 */
static int vm86_flags(struct keel_emu *emu, bool *vme)
{
	*vme = false;
	if (emu->mode != KEEL_EMU_VM86 || iopl(emu) == 3)
		return KEEL_EMU_OK;
	if (emu->insn.op_size != 2 || !(emu->ops->get_cr(emu, 4) & CR4_VME))
		return fault_gp(emu, 0);
	*vme = true;
	return KEEL_EMU_OK;
}

static int exec_pushf(struct keel_emu *emu)
{
	u64 image = emu->rflags & ~(FL_VM | FL_RF);
	bool vme;
	int ret = vm86_flags(emu, &vme);

	if (ret)
		return ret;
	if (vme) {
		image |= FL_IOPL;
		image = image & FL_VIF ? image | FL_IF : image & ~FL_IF;
	}
	return keel_push(emu, image, emu->insn.op_size);
}

static int exec_popf(struct keel_emu *emu)
{
	u64 mask = FL_STATUS | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID;
	bool vme;
	u64 val;
	int ret;

	ret = vm86_flags(emu, &vme);
	if (!ret)
		ret = keel_pop(emu, &val, emu->insn.op_size);
	if (ret)
		return ret;
	if (vme) {
		if ((val & FL_TF) || ((val & FL_IF) && (emu->rflags & FL_VIP)))
			return fault_gp(emu, 0);
		flag_set(emu, FL_VIF, val & FL_IF);
	}
	if (emu->cpl == 0)
		mask |= FL_IOPL;
	if (emu->cpl <= iopl(emu))
		mask |= FL_IF;
	mask &= size_mask(emu->insn.op_size);
	emu->rflags = (emu->rflags & ~mask) | (val & mask) | FL_FIXED;
	return KEEL_EMU_OK;
}

static int exec_enter(struct keel_emu *emu)
{
	unsigned int size = emu->insn.op_size;
	unsigned int width = keel_stack_size(emu);
	unsigned int level = emu->insn.imm2 & 31;
	u64 frame, outer, bp = emu->gpr[KEEL_RBP], la;
	int ret;

	ret = keel_push(emu, bp, size);
	if (ret)
		return ret;
	frame = emu->gpr[KEEL_RSP];
	if (level) {
		while (--level) {
			bp = (bp - size) & size_mask(width);
			outer = 0;
			ret = keel_mem_read(emu, KEEL_SS, bp, &outer, size, 0);
			if (!ret)
				ret = keel_push(emu, outer, size);
			if (ret)
				return ret;
		}
		ret = keel_push(emu, frame, size);
		if (ret)
			return ret;
	}
	gpr_write_implied(emu, KEEL_RBP, size, frame);
	gpr_write_implied(emu, KEEL_RSP, width, emu->gpr[KEEL_RSP] - emu->insn.imm);

	/* The new stack top must be writable. */
	ret = keel_mem_linear(emu, KEEL_SS, emu->gpr[KEEL_RSP] & size_mask(width), size,
			      KEEL_EMU_ACC_WRITE, &la);
	if (!ret)
		ret = keel_la_probe(emu, la, size, KEEL_EMU_ACC_WRITE);
	return ret == KEEL_EMU_IO ? KEEL_EMU_OK : ret;
}

static int exec_leave(struct keel_emu *emu)
{
	unsigned int width = keel_stack_size(emu);
	u64 bp;
	int ret;

	gpr_write_implied(emu, KEEL_RSP, width, emu->gpr[KEEL_RBP]);
	ret = keel_pop(emu, &bp, emu->insn.op_size);
	if (!ret)
		gpr_write_implied(emu, KEEL_RBP, emu->insn.op_size, bp);
	return ret;
}

/* ES, CS, SS, DS in bits 4:3 of the one-byte opcodes; FS, GS in bit 3 of the 0F ones */
static unsigned int opcode_sreg(const struct keel_insn *insn)
{
	if (insn->map == KEEL_MAP_0F)
		return insn->opcode & 8 ? KEEL_GS : KEEL_FS;
	return (insn->opcode >> 3) & 3;
}

static int exec_push_sreg(struct keel_emu *emu)
{
	struct keel_emu_seg seg;

	emu->ops->get_seg(emu, opcode_sreg(&emu->insn), &seg);
	return keel_push(emu, seg.selector, emu->insn.op_size);
}

static int exec_pop_sreg(struct keel_emu *emu)
{
	unsigned int sreg = opcode_sreg(&emu->insn);
	u64 val;
	int ret;

	ret = keel_pop(emu, &val, emu->insn.op_size);
	if (!ret)
		ret = keel_load_segment(emu, sreg, val);
	if (!ret && sreg == KEEL_SS)
		emu->shadow = KEEL_SHADOW_MOV_SS;
	return ret;
}

static int exec_indirect(struct keel_emu *emu)
{
	struct operand src;
	int ret;

	ret = keel_operand_locate(emu, emu->insn.op->src, &src);
	if (!ret)
		ret = keel_operand_read(emu, &src, 0);
	if (ret)
		return ret;
	if (emu->insn.op->op == OP_CALL_IND)
		return exec_call(emu, src.val);
	return keel_branch(emu, src.val, emu->insn.op_size);
}

int keel_exec_flow(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;

	switch (insn->op->op) {
	case OP_PUSH:
		return exec_push(emu);
	case OP_POP:
		return exec_pop(emu);
	case OP_PUSHA:
		return exec_pusha(emu);
	case OP_POPA:
		return exec_popa(emu);
	case OP_PUSHF:
		return exec_pushf(emu);
	case OP_POPF:
		return exec_popf(emu);
	case OP_PUSH_SREG:
		return exec_push_sreg(emu);
	case OP_POP_SREG:
		return exec_pop_sreg(emu);
	case OP_ENTER:
		return exec_enter(emu);
	case OP_LEAVE:
		return exec_leave(emu);
	case OP_JMP:
		return branch_relative(emu);
	case OP_JCC:
		return keel_condition(emu->rflags, insn->opcode) ? branch_relative(emu) :
								   KEEL_EMU_OK;
	case OP_CALL:
		return exec_call(emu, emu->next_rip + insn->imm);
	case OP_RET:
		return exec_ret(emu);
	case OP_LOOP:
	case OP_JCXZ:
		return exec_loop(emu);
	case OP_JMP_IND:
	case OP_CALL_IND:
		return exec_indirect(emu);
	}
	return KEEL_EMU_UNHANDLEABLE;
}
