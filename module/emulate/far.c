// SPDX-License-Identifier: GPL-2.0-only
/*
 * Far jumps, calls and returns: to code segments, through call gates of all three widths, through
 * task gates and to TSSs.
 *
 * The order is that of the manual's pseudocode: target descriptor and privilege, presence, stack,
 * target offset; only then is anything written: accessed bits, the frame, and the registers last.
 *
 * SDM vol 2 "JMP", "CALL", "RET"; vol 3 chapter 5.8; APM vol 2 chapter 4.11, vol 3.
 */
#include "descriptor.h"

#define MAX_FRAME	(4 + 31)	/* SS, SP, CS, IP and the parameters of a call gate */

/* What a transfer has found out, before it changes anything. */
struct far {
	bool call;
	u64 target;
	u64 back;			/* return address */
	unsigned int size;		/* of the words on the stack */
	struct descriptor cs;
};

static int far_real(struct keel_emu *emu, const struct far *far, u16 selector)
{
	u64 words[2];
	struct keel_emu_seg cs;
	struct stack st;
	int ret;

	emu->ops->get_seg(emu, KEEL_CS, &cs);
	if (far->call) {
		keel_stack_current(emu, &st, 0);
		ret = keel_stack_reserve(emu, &st, 2, far->size);
		if (ret)
			return ret;
	}
	if (far->target > (emu->mode == KEEL_EMU_VM86 ? 0xffff : cs.limit))
		return fault_gp(emu, 0);
	if (far->call) {
		words[0] = cs.selector;
		words[1] = far->back;
		ret = keel_stack_store(emu, &st, words, 2, far->size);
		if (ret)
			return ret;
		gpr_write_implied(emu, KEEL_RSP, st.width, st.sp);
	}
	keel_code_load_real(emu, selector, far->target);
	return KEEL_EMU_OK;
}

/* The transfer to far->cs without change of privilege; a call pushes CS and the return address. */
static int far_same(struct keel_emu *emu, struct far *far)
{
	struct keel_emu_seg cs;
	struct stack st;
	u64 words[2];
	int ret;

	if (far->call) {
		keel_stack_current(emu, &st, 0);
		ret = keel_stack_reserve(emu, &st, 2, far->size);
		if (ret)
			return ret;
	}
	ret = keel_code_target(emu, &far->cs, far->target, 0);
	if (!ret)
		ret = keel_descriptor_mark(emu, &far->cs, TYPE_ACCESSED, true);
	if (ret)
		return ret;
	if (far->call) {
		emu->ops->get_seg(emu, KEEL_CS, &cs);
		words[0] = cs.selector;
		words[1] = far->back;
		ret = keel_stack_store(emu, &st, words, 2, far->size);
		if (ret)
			return ret;
		gpr_write_implied(emu, KEEL_RSP, st.width, st.sp);
	}
	return keel_code_load(emu, &far->cs, emu->cpl, far->target);
}

/* The frame of a call to an inner privilege, parameters copied; returns the number of words. */
static int inner_frame(struct keel_emu *emu, const struct far *far, unsigned int params,
		       u64 *words, unsigned int *n)
{
	struct keel_emu_seg ss, cs;
	unsigned int i;
	int ret;

	emu->ops->get_seg(emu, KEEL_SS, &ss);
	emu->ops->get_seg(emu, KEEL_CS, &cs);
	words[0] = ss.selector;
	words[1] = emu->gpr[KEEL_RSP];
	for (i = 0; i < params; i++) {
		ret = keel_stack_peek(emu, (params - 1 - i) * far->size, &words[2 + i], far->size);
		if (ret)
			return ret;
	}
	words[2 + params] = cs.selector;
	words[3 + params] = far->back;
	*n = 4 + params;
	return KEEL_EMU_OK;
}

/* A call gate to an inner privilege: the stack comes from the TSS. */
static int far_inner(struct keel_emu *emu, struct far *far, unsigned int params)
{
	u8 cpl = far->cs.seg.dpl;
	struct descriptor ss = {};
	bool wide = keel_long_mode(emu);
	u64 words[MAX_FRAME];
	struct stack st;
	unsigned int n;
	int ret;

	ret = keel_stack_from_tss(emu, cpl, 0, 0, &st, &ss);
	if (!ret)
		ret = inner_frame(emu, far, params, words, &n);
	if (ret)
		return ret;
	emu->cpl = cpl;
	if (wide)
		emu->mode = KEEL_EMU_PROT64;
	ret = keel_stack_reserve(emu, &st, n, far->size);
	if (!ret)
		ret = keel_code_target(emu, &far->cs, far->target, 0);
	if (!ret)
		ret = keel_descriptor_mark(emu, &far->cs, TYPE_ACCESSED, true);
	if (!ret && !wide)
		ret = keel_descriptor_mark(emu, &ss, TYPE_ACCESSED, true);
	if (!ret)
		ret = keel_stack_store(emu, &st, words, n, far->size);
	if (ret)
		return ret;
	emu->ops->set_seg(emu, KEEL_SS, wide ? &st.ss : &ss.seg);
	gpr_write_implied(emu, KEEL_RSP, st.width, st.sp);
	return keel_code_load(emu, &far->cs, cpl, far->target);
}

/* Through a call gate; @raw is its descriptor's first half, at @la. */
static int far_gate(struct keel_emu *emu, struct far *far, const struct descriptor *d)
{
	u32 error = sel_error(d->seg.selector, 0), raw[4] = { d->lo, d->hi };
	bool wide = keel_long_mode(emu);
	struct gate gate;
	u64 la;
	int ret;

	if (d->seg.dpl < emu->cpl || d->seg.dpl < SEL_RPL(d->seg.selector))
		return fault_gp(emu, error);
	if (wide) {
		if (!keel_descriptor_la(emu, d->seg.selector, 16, &la))
			return fault_gp(emu, error);
		ret = keel_la_read(emu, la + 8, raw + 2, 8, KEEL_EMU_ACC_SYSTEM);
		if (ret)
			return ret;
		if (raw[3] & 0x1f00)
			return fault_gp(emu, error);
	}
	if (!d->seg.present)
		return fault_code(emu, VEC_NP, error);
	keel_gate_decode(&gate, raw);
	ret = keel_code_read(emu, gate.selector, 0, &far->cs);
	if (ret)
		return ret;
	error = sel_error(gate.selector, 0);
	if (far->cs.seg.dpl > emu->cpl || (wide && !far->cs.seg.l))
		return fault_gp(emu, error);
	if (!far->call && !is_conforming(&far->cs.seg) && far->cs.seg.dpl != emu->cpl)
		return fault_gp(emu, error);
	if (!far->cs.seg.present)
		return fault_code(emu, VEC_NP, error);
	far->target = gate.offset;
	far->size = wide ? 8 : gate.type & TYPE_32BIT ? 4 : 2;
	if (far->call && !is_conforming(&far->cs.seg) && far->cs.seg.dpl < emu->cpl)
		return far_inner(emu, far, wide ? 0 : gate.count);
	return far_same(emu, far);
}

/* To a TSS, by its own selector or through a task gate */
static int far_task(struct keel_emu *emu, const struct far *far, const struct descriptor *d)
{
	struct keel_emu_task task = {
		.selector = d->seg.selector,
		.reason = far->call ? KEEL_TASK_CALL : KEEL_TASK_JMP,
	};
	u32 error = sel_error(d->seg.selector, 0);

	if (d->seg.dpl < emu->cpl || d->seg.dpl < SEL_RPL(d->seg.selector))
		return fault_gp(emu, error);
	if (d->seg.type != TYPE_TASK_GATE)
		return keel_task_switch(emu, &task);
	if (!d->seg.present)
		return fault_code(emu, VEC_NP, error);
	task.selector = d->lo >> 16;
	return keel_task_switch(emu, &task);
}

static int far_system(struct keel_emu *emu, struct far *far, const struct descriptor *d)
{
	bool wide = keel_long_mode(emu);

	switch (d->seg.type) {
	case TYPE_CALL16:
		if (wide)
			break;
		fallthrough;
	case TYPE_CALL32:
		return far_gate(emu, far, d);
	case TYPE_TASK_GATE:
	case TYPE_TSS16:
	case TYPE_TSS32:
		if (wide)
			break;
		return far_task(emu, far, d);
	}
	return fault_gp(emu, sel_error(d->seg.selector, 0));
}

static int far_protected(struct keel_emu *emu, struct far *far, u16 selector)
{
	u32 error = sel_error(selector, 0);
	struct descriptor d;
	bool found;
	int ret;

	if (SEL_NULL(selector))
		return fault_gp(emu, 0);
	ret = keel_descriptor_read(emu, selector, &d, &found);
	if (ret)
		return ret;
	if (!found)
		return fault_gp(emu, error);
	if (!d.seg.s)
		return far_system(emu, far, &d);
	ret = keel_code_read(emu, selector, 0, &far->cs);
	if (ret)
		return ret;
	if (is_conforming(&far->cs.seg)) {
		if (far->cs.seg.dpl > emu->cpl)
			return fault_gp(emu, error);
	} else if (SEL_RPL(selector) > emu->cpl || far->cs.seg.dpl != emu->cpl) {
		return fault_gp(emu, error);
	}
	if (!far->cs.seg.present)
		return fault_code(emu, VEC_NP, error);
	return far_same(emu, far);
}

/* Only Intel has 64-bit offsets in memory; for AMD, REX.W leaves them at 32 bits. */
static int read_pointer(struct keel_emu *emu, u64 *offset, u16 *selector)
{
	unsigned int size = emu->insn.op_size;
	u64 ea = keel_mem_ea(emu), la;
	u8 buf[10];
	int ret;

	if (size == 8 && keel_is_amd(emu))
		size = 4;
	ret = keel_mem_linear(emu, emu->insn.seg, ea, size, 0, &la);	/* for its alignment */
	if (!ret)
		ret = keel_mem_read(emu, emu->insn.seg, ea, buf, size + 2, ACC_UNALIGNED);
	if (ret)
		return ret;
	*offset = 0;
	memcpy(offset, buf, size);
	memcpy(selector, buf + size, 2);
	return KEEL_EMU_OK;
}

static int exec_far(struct keel_emu *emu, bool call, bool indirect)
{
	const struct keel_insn *insn = &emu->insn;
	struct far far = { .call = call, .back = emu->next_rip, .size = insn->op_size };
	u16 selector = insn->imm2;
	int ret;

	far.target = insn->imm;
	if (indirect) {
		ret = read_pointer(emu, &far.target, &selector);
		if (ret)
			return ret;
	}
	return mode_is_protected(emu) ? far_protected(emu, &far, selector) :
					far_real(emu, &far, selector);
}

static int ret_real(struct keel_emu *emu, u64 target, u16 selector)
{
	unsigned int size = emu->insn.op_size, width = keel_stack_size(emu);
	struct keel_emu_seg cs;

	emu->ops->get_seg(emu, KEEL_CS, &cs);
	if (target > (emu->mode == KEEL_EMU_VM86 ? 0xffff : cs.limit))
		return fault_gp(emu, 0);
	gpr_write_implied(emu, KEEL_RSP, width, emu->gpr[KEEL_RSP] + 2 * size + emu->insn.imm);
	keel_code_load_real(emu, selector, target);
	return KEEL_EMU_OK;
}

static int exec_ret_far(struct keel_emu *emu)
{
	unsigned int size = emu->insn.op_size, width = keel_stack_size(emu), rpl;
	struct keel_far_return back = { .add = emu->insn.imm };
	u64 selector;
	int ret;

	ret = keel_stack_peek(emu, size, &selector, size);
	if (!ret)
		ret = keel_stack_peek(emu, 0, &back.target, size);
	if (ret)
		return ret;
	if (!mode_is_protected(emu))
		return ret_real(emu, back.target, selector);
	ret = keel_far_return_check(emu, selector, &back);
	if (ret)
		return ret;
	rpl = SEL_RPL(selector);
	if (rpl > emu->cpl) {
		ret = keel_stack_peek(emu, 2 * size + emu->insn.imm, &back.sp, size);
		if (!ret)
			ret = keel_stack_peek(emu, 3 * size + emu->insn.imm, &back.ss, size);
		return ret ? ret : keel_far_return_outer(emu, &back);
	}
	ret = keel_code_target(emu, &back.cs, back.target, 0);
	if (!ret)
		ret = keel_code_load(emu, &back.cs, rpl, back.target);
	if (!ret)
		gpr_write_implied(emu, KEEL_RSP, width,
				  emu->gpr[KEEL_RSP] + 2 * size + emu->insn.imm);
	return ret;
}

int keel_exec_far(struct keel_emu *emu)
{
	switch (emu->insn.op->op) {
	case OP_JMP_FAR:
		return exec_far(emu, false, false);
	case OP_JMP_FAR_IND:
		return exec_far(emu, false, true);
	case OP_CALL_FAR:
		return exec_far(emu, true, false);
	case OP_CALL_FAR_IND:
		return exec_far(emu, true, true);
	case OP_RET_FAR:
		return exec_ret_far(emu);
	case OP_IRET:
		return keel_exec_iret(emu);
	case OP_INT:
	case OP_INT1:
	case OP_INT3:
	case OP_INTO:
		return keel_exec_int(emu);
	}
	return KEEL_EMU_UNHANDLEABLE;
}
