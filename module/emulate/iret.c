// SPDX-License-Identifier: GPL-2.0-only
/*
 * Returns to the same or an outer privilege (RETF and IRET share them), and IRET in all its forms:
 * real mode, virtual-8086 mode with and without VME, protected mode to itself, to an outer
 * privilege and to virtual-8086 mode, from a nested task, and long mode, where SS and RSP are always
 * popped.
 *
 * SDM vol 2 "RET", "IRET"; vol 3 chapters 6.12.1, 7.3, 20.2; APM vol 2 chapter 8.9.
 */
#include "descriptor.h"

/**
 * keel_far_return_check() - the code segment of a far return
 * @emu: context
 * @selector: popped
 * @back: cs is filled in; rpl
 *
 * Return: KEEL_EMU_OK, or what failed (#GP, #NP, #PF).
 */
int keel_far_return_check(struct keel_emu *emu, u16 selector, struct keel_far_return *back)
{
	u32 error = sel_error(selector, 0);
	unsigned int rpl = SEL_RPL(selector);
	int ret = keel_code_read(emu, selector, 0, &back->cs);

	if (ret)
		return ret;
	if (rpl < emu->cpl)
		return fault_gp(emu, error);
	if (is_conforming(&back->cs.seg) ? back->cs.seg.dpl > rpl : back->cs.seg.dpl != rpl)
		return fault_gp(emu, error);
	if (!back->cs.seg.present)
		return fault_code(emu, VEC_NP, error);
	return KEEL_EMU_OK;
}

/* SS may be NULL only for 64-bit code outside user mode. */
static int return_stack(struct keel_emu *emu, const struct keel_far_return *back, unsigned int rpl,
			struct descriptor *ss)
{
	u16 selector = back->ss;

	if (SEL_NULL(selector) && back->cs.seg.l && rpl != 3 && SEL_RPL(selector) == rpl) {
		*ss = (struct descriptor) {
			.seg = { .selector = selector, .dpl = rpl, .unusable = 1 },
		};
		return KEEL_EMU_OK;
	}
	return keel_stack_read(emu, selector, rpl, VEC_GP, 0, ss);
}

/**
 * keel_far_return_outer() - return to @back->cs with a new stack
 * @emu: context; its privilege is the inner one
 * @back: all filled in
 *
 * Used for the same privilege too, by IRET in 64-bit mode.
 *
 * Return: KEEL_EMU_OK, or what failed.
 */
int keel_far_return_outer(struct keel_emu *emu, struct keel_far_return *back)
{
	unsigned int rpl = SEL_RPL(back->cs.seg.selector), width;
	u8 inner = emu->cpl;
	struct descriptor ss;
	int ret;

	ret = return_stack(emu, back, rpl, &ss);
	if (!ret)
		ret = keel_code_target(emu, &back->cs, back->target, 0);
	if (!ret)
		ret = keel_descriptor_mark(emu, &back->cs, TYPE_ACCESSED, true);
	if (!ret && !ss.seg.unusable)
		ret = keel_descriptor_mark(emu, &ss, TYPE_ACCESSED, true);
	if (!ret)
		ret = keel_code_load(emu, &back->cs, rpl, back->target);
	if (ret)
		return ret;
	emu->ops->set_seg(emu, KEEL_SS, &ss.seg);
	width = emu->mode == KEEL_EMU_PROT64 ? 8 : ss.seg.db ? 4 : 2;
	gpr_write_implied(emu, KEEL_RSP, width, back->sp + back->add);
	if (rpl > inner)
		keel_data_drop(emu);
	return KEEL_EMU_OK;
}

/* What of a popped image goes into the flags, by privilege and operand size */
static u64 image_mask(const struct keel_emu *emu, unsigned int size)
{
	u64 mask = FL_STATUS | FL_TF | FL_DF | FL_NT;

	if (size > 2)
		mask |= FL_RF | FL_AC | FL_ID;
	if (emu->cpl <= iopl(emu))
		mask |= FL_IF;
	if (!emu->cpl) {
		mask |= FL_IOPL;
		if (size > 2)
			mask |= FL_VIF | FL_VIP;
	}
	return mask;
}

static void load_image(struct keel_emu *emu, u64 image, u64 mask)
{
	emu->rflags = (emu->rflags & ~mask) | (image & mask) | FL_FIXED;
	emu->keep_rf = mask & FL_RF;
}

/* Virtual-8086 mode below IOPL 3: with VME the image's IF becomes VIF (SDM vol 3 20.3.3). */
static int vme_image(struct keel_emu *emu, u64 image)
{
	if ((image & FL_TF) || ((image & FL_IF) && (emu->rflags & FL_VIP)))
		return fault_gp(emu, 0);
	flag_set(emu, FL_VIF, image & FL_IF);
	load_image(emu, image, FL_STATUS | FL_TF | FL_DF | FL_NT);
	return KEEL_EMU_OK;
}

static int iret_real(struct keel_emu *emu)
{
	unsigned int size = emu->insn.op_size, width = keel_stack_size(emu);
	bool vm86 = emu->mode == KEEL_EMU_VM86, vme = vm86 && iopl(emu) < 3;
	u64 target, selector, image;
	struct keel_emu_seg cs;
	int ret;

	if (vme && (size != 2 || !(emu->ops->get_cr(emu, 4) & CR4_VME)))
		return fault_gp(emu, 0);
	ret = keel_stack_peek(emu, 0, &target, size);
	if (!ret)
		ret = keel_stack_peek(emu, size, &selector, size);
	if (!ret)
		ret = keel_stack_peek(emu, 2 * size, &image, size);
	if (ret)
		return ret;
	emu->ops->get_seg(emu, KEEL_CS, &cs);
	if (target > (vm86 ? 0xffff : cs.limit))
		return fault_gp(emu, 0);
	if (vme) {
		ret = vme_image(emu, image);
		if (ret)
			return ret;
	} else {
		load_image(emu, image, (vm86 ? image_mask(emu, size) & ~FL_IOPL :
				       image_mask(emu, size) & ~(FL_VIF | FL_VIP)));
	}
	gpr_write_implied(emu, KEEL_RSP, width, emu->gpr[KEEL_RSP] + 3 * size);
	keel_code_load_real(emu, selector, target);
	return KEEL_EMU_OK;
}

/* From protected mode at CPL 0, the image has VM set: nine words have been pushed. */
static int iret_to_vm86(struct keel_emu *emu, u64 target, u16 selector, u64 image)
{
	static const u8 sregs[] = { KEEL_SS, KEEL_ES, KEEL_DS, KEEL_FS, KEEL_GS };
	u64 sp, sel[ARRAY_SIZE(sregs)];
	unsigned int i;
	int ret;

	ret = keel_stack_peek(emu, 12, &sp, 4);
	for (i = 0; !ret && i < ARRAY_SIZE(sregs); i++)
		ret = keel_stack_peek(emu, 16 + 4 * i, &sel[i], 4);
	if (ret)
		return ret;
	if (target > 0xffff)
		return fault_gp(emu, 0);
	load_image(emu, image, image_mask(emu, 4) | FL_VM);
	emu->mode = KEEL_EMU_VM86;
	emu->cpl = 3;
	for (i = 0; i < ARRAY_SIZE(sregs); i++)
		keel_load_real(emu, sregs[i], sel[i]);
	emu->gpr[KEEL_RSP] = sp;
	keel_code_load_real(emu, selector, target);
	return KEEL_EMU_OK;
}

/* NT is set: back to the task that the TSS is linked to */
static int iret_task(struct keel_emu *emu)
{
	struct keel_emu_task task = { .reason = KEEL_TASK_IRET };
	struct keel_emu_seg tr;
	int ret;

	if (keel_long_mode(emu))
		return fault_gp(emu, 0);
	emu->ops->get_seg(emu, KEEL_TR, &tr);
	ret = keel_la_read(emu, tr.base, &task.selector, 2, KEEL_EMU_ACC_SYSTEM);
	return ret ? ret : keel_task_switch(emu, &task);
}

static int iret_protected(struct keel_emu *emu)
{
	unsigned int size = emu->insn.op_size, width = keel_stack_size(emu), rpl;
	struct keel_far_return back = {};
	u64 selector, image, mask;
	int ret;

	if (emu->rflags & FL_NT)
		return iret_task(emu);
	ret = keel_stack_peek(emu, 0, &back.target, size);
	if (!ret)
		ret = keel_stack_peek(emu, size, &selector, size);
	if (!ret)
		ret = keel_stack_peek(emu, 2 * size, &image, size);
	if (ret)
		return ret;
	if (size == 4 && (image & FL_VM) && !emu->cpl && !keel_long_mode(emu))
		return iret_to_vm86(emu, back.target, selector, image);
	ret = keel_far_return_check(emu, selector, &back);
	if (ret)
		return ret;
	rpl = SEL_RPL(selector);
	mask = image_mask(emu, size);
	if (rpl > emu->cpl || emu->mode == KEEL_EMU_PROT64) {
		ret = keel_stack_peek(emu, 3 * size, &back.sp, size);
		if (!ret)
			ret = keel_stack_peek(emu, 4 * size, &back.ss, size);
		if (!ret)
			ret = keel_far_return_outer(emu, &back);
	} else {
		ret = keel_code_target(emu, &back.cs, back.target, 0);
		if (!ret)
			ret = keel_code_load(emu, &back.cs, rpl, back.target);
		if (!ret)
			gpr_write_implied(emu, KEEL_RSP, width, emu->gpr[KEEL_RSP] + 3 * size);
	}
	if (!ret)
		load_image(emu, image, mask);
	return ret;
}

int keel_exec_iret(struct keel_emu *emu)
{
	int ret = mode_is_protected(emu) ? iret_protected(emu) : iret_real(emu);

	if (ret)
		return ret;
	return emu->ops->system(emu, KEEL_SYS_IRET, 0, NULL);
}
