// SPDX-License-Identifier: GPL-2.0-only
/*
 * Delivery of interrupts and exceptions by the emulator: the vector table of real mode, gates of the
 * IDT of 16, 32 and 64 bits with their stack switches, virtual-8086 mode with the redirection of
 * VME, task gates; and the instructions INT n, INT3, INTO and INT1.
 *
 * The order is that of the manual's pseudocode under "INT n"; the frame is checked as a whole and
 * written before the registers change.
 *
 * SDM vol 2 "INT n"; vol 3 chapters 6.10 to 6.14, 20.1.4, 20.3; APM vol 2 chapter 8.
 */
#include "descriptor.h"

#define MAX_FRAME	11	/* GS, FS, DS, ES, SS, SP, flags, CS, IP, error code */
#define TSS_IO_MAP_BASE	0x66

/* A delivery under way: what comes from the gate */
struct delivery {
	const struct keel_emu_event *ev;
	u32 ext;
	u64 back;		/* return address */
	u64 image;		/* flags to push */
	struct gate gate;
	struct descriptor cs;
	unsigned int size;	/* of the words pushed */
};

static bool is_software(const struct keel_emu_event *ev)
{
	return ev->type == KEEL_EMU_EV_SOFT_INT || ev->type == KEEL_EMU_EV_SOFT_EXC;
}

static int push_frame(struct keel_emu *emu, struct stack *st, const u64 *words, unsigned int n,
		      unsigned int size)
{
	int ret = keel_stack_reserve(emu, st, n, size);

	return ret ? ret : keel_stack_store(emu, st, words, n, size);
}

/* Flags, CS and IP go to the current stack; the vector is in the table at @table. */
static int deliver_by_ivt(struct keel_emu *emu, u64 table, u8 vector, u64 image)
{
	struct keel_emu_seg cs;
	struct stack st;
	u64 words[3];
	u16 far[2];
	int ret;

	ret = keel_la_read(emu, (u32)(table + 4 * vector), far, 4, KEEL_EMU_ACC_SYSTEM);
	if (ret)
		return ret;
	emu->ops->get_seg(emu, KEEL_CS, &cs);
	words[0] = image;
	words[1] = cs.selector;
	words[2] = emu->next_rip;
	keel_stack_current(emu, &st, 0);
	ret = push_frame(emu, &st, words, 3, 2);
	if (ret)
		return ret;
	gpr_write_implied(emu, KEEL_RSP, st.width, st.sp);
	keel_code_load_real(emu, far[1], far[0]);
	return KEEL_EMU_OK;
}

static int deliver_real(struct keel_emu *emu, const struct keel_emu_event *ev)
{
	u64 base;
	u16 limit;
	int ret;

	emu->ops->get_dtr(emu, true, &base, &limit);
	if (4 * ev->vector + 3 > limit)
		return fault_gp(emu, 0);
	ret = deliver_by_ivt(emu, base, ev->vector, emu->rflags);
	if (!ret)
		emu->rflags &= ~(FL_IF | FL_TF | FL_AC | FL_RF);
	return ret;
}

/* INT n in virtual-8086 mode: does the bitmap below the I/O map send it to the 8086 program? */
static int vme_redirected(struct keel_emu *emu, u8 vector, bool *redirected)
{
	struct keel_emu_seg tr;
	u16 map;
	u8 bits;
	int ret;

	*redirected = false;
	if (!(emu->ops->get_cr(emu, 4) & CR4_VME))
		return KEEL_EMU_OK;
	emu->ops->get_seg(emu, KEEL_TR, &tr);
	if (tr.unusable || !(tr.type & TYPE_32BIT) || tr.limit < TSS_IO_MAP_BASE + 1)
		return fault_gp(emu, 0);
	ret = keel_la_read(emu, tr.base + TSS_IO_MAP_BASE, &map, 2,
			   KEEL_EMU_ACC_SYSTEM | ACC_UNALIGNED);
	if (ret)
		return ret;
	if (map < 32 || map - 32 + vector / 8 > tr.limit)
		return fault_gp(emu, 0);
	ret = keel_la_read(emu, tr.base + map - 32 + vector / 8, &bits, 1, KEEL_EMU_ACC_SYSTEM);
	if (!ret)
		*redirected = !(bits & 1 << vector % 8);
	return ret;
}

/* SDM vol 3 20.3.3: with IOPL below 3 the program sees VIF in place of IF, and an IOPL of 3. */
static int deliver_to_8086(struct keel_emu *emu, u8 vector)
{
	u64 image = emu->rflags, off = FL_TF;
	int ret;

	if (iopl(emu) < 3) {
		image |= FL_IOPL;
		image = image & FL_VIF ? image | FL_IF : image & ~FL_IF;
		off |= FL_VIF;
	} else {
		off |= FL_IF;
	}
	ret = deliver_by_ivt(emu, 0, vector, image);
	if (!ret)
		emu->rflags &= ~(off | FL_RF);
	return ret;
}

static int read_gate(struct keel_emu *emu, struct delivery *dl)
{
	u8 vector = dl->ev->vector;
	u32 error = vector * 8 + (ERR_IDT | dl->ext);
	bool wide = keel_long_mode(emu);
	unsigned int len = wide ? 16 : 8;
	u32 raw[4] = {};
	u64 base;
	u16 limit;
	int ret;

	emu->ops->get_dtr(emu, true, &base, &limit);
	if (vector * len + len - 1 > limit)
		return fault_gp(emu, error);
	ret = keel_la_read(emu, base + vector * len, raw, len,
			   KEEL_EMU_ACC_SYSTEM | ACC_UNALIGNED);
	if (ret)
		return ret;
	keel_gate_decode(&dl->gate, raw);
	switch (raw[1] & 0x1000 ? 0 : dl->gate.type) {
	case TYPE_INT32:
	case TYPE_TRAP32:
		break;
	case TYPE_TASK_GATE:
	case TYPE_INT16:
	case TYPE_TRAP16:
		if (!wide)
			break;
		fallthrough;
	default:
		return fault_gp(emu, error);
	}
	if (is_software(dl->ev) && dl->gate.dpl < emu->cpl)
		return fault_gp(emu, error);
	if (!dl->gate.present)
		return fault_code(emu, VEC_NP, error);
	dl->size = wide ? 8 : dl->gate.type & TYPE_32BIT ? 4 : 2;
	return KEEL_EMU_OK;
}

/* The common tail of a frame: flags, CS, IP, error code */
static unsigned int frame_tail(struct keel_emu *emu, const struct delivery *dl, u64 *words)
{
	struct keel_emu_seg cs;

	emu->ops->get_seg(emu, KEEL_CS, &cs);
	words[0] = dl->image;
	words[1] = cs.selector;
	words[2] = dl->back;
	words[3] = dl->ev->error;
	return dl->ev->has_error ? 4 : 3;
}

static void handler_flags(struct keel_emu *emu, const struct delivery *dl)
{
	emu->rflags &= ~(FL_TF | FL_VM | FL_RF | FL_NT);
	if ((dl->gate.type & ~TYPE_32BIT) == TYPE_INT16)
		emu->rflags &= ~FL_IF;
}

/* The data segments of a virtual-8086 program go to the stack and become NULL. */
static unsigned int frame_vm86(struct keel_emu *emu, u64 *words)
{
	static const u8 sregs[] = { KEEL_GS, KEEL_FS, KEEL_DS, KEEL_ES };
	struct keel_emu_seg seg;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sregs); i++) {
		emu->ops->get_seg(emu, sregs[i], &seg);
		words[i] = seg.selector;
	}
	return ARRAY_SIZE(sregs);
}

static void drop_vm86_segments(struct keel_emu *emu)
{
	static const u8 sregs[] = { KEEL_GS, KEEL_FS, KEEL_DS, KEEL_ES };
	const struct keel_emu_seg null = { .unusable = 1 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sregs); i++)
		emu->ops->set_seg(emu, sregs[i], &null);
}

/*
 * A handler with a stack of its own: an inner privilege, an interrupt stack of the TSS, or any
 * handler in long mode, which always gets SS and RSP.
 */
static int deliver_with_stack(struct keel_emu *emu, struct delivery *dl, u8 cpl)
{
	bool wide = keel_long_mode(emu), vm86 = emu->mode == KEEL_EMU_VM86;
	bool inner = cpl != emu->cpl;
	struct descriptor ss = {};
	struct keel_emu_seg old;
	u64 words[MAX_FRAME];
	unsigned int n = 0;
	struct stack st;
	int ret;

	if (inner || dl->gate.ist) {
		ret = keel_stack_from_tss(emu, cpl, wide ? dl->gate.ist : 0, dl->ext, &st, &ss);
		if (ret)
			return ret;
	} else {
		keel_stack_current(emu, &st, dl->ext);
		st.sp = emu->gpr[KEEL_RSP];
		st.width = 8;
	}
	if (wide)
		st.sp &= ~0xfULL;
	if (vm86)
		n = frame_vm86(emu, words);
	emu->ops->get_seg(emu, KEEL_SS, &old);
	words[n++] = old.selector;
	words[n++] = emu->gpr[KEEL_RSP];
	n += frame_tail(emu, dl, words + n);

	emu->cpl = cpl;
	if (wide)
		emu->mode = KEEL_EMU_PROT64;
	else if (vm86)
		emu->mode = KEEL_EMU_PROT32;	/* segmentation as in the handler */
	ret = keel_stack_reserve(emu, &st, n, dl->size);
	if (!ret)
		ret = keel_code_target(emu, &dl->cs, dl->gate.offset, dl->ext);
	if (!ret)
		ret = keel_descriptor_mark(emu, &dl->cs, TYPE_ACCESSED, true);
	if (!ret && inner && !wide)
		ret = keel_descriptor_mark(emu, &ss, TYPE_ACCESSED, true);
	if (!ret)
		ret = keel_stack_store(emu, &st, words, n, dl->size);
	if (ret)
		return ret;
	if (inner)
		emu->ops->set_seg(emu, KEEL_SS, wide ? &st.ss : &ss.seg);
	gpr_write_implied(emu, KEEL_RSP, st.width, st.sp);
	if (vm86)
		drop_vm86_segments(emu);
	handler_flags(emu, dl);
	return keel_code_load(emu, &dl->cs, cpl, dl->gate.offset);
}

/* Same privilege, legacy mode: on the current stack */
static int deliver_same(struct keel_emu *emu, struct delivery *dl)
{
	u64 words[MAX_FRAME];
	struct stack st;
	unsigned int n;
	int ret;

	keel_stack_current(emu, &st, dl->ext);
	n = frame_tail(emu, dl, words);
	ret = keel_stack_reserve(emu, &st, n, dl->size);
	if (!ret)
		ret = keel_code_target(emu, &dl->cs, dl->gate.offset, dl->ext);
	if (!ret)
		ret = keel_descriptor_mark(emu, &dl->cs, TYPE_ACCESSED, true);
	if (!ret)
		ret = keel_stack_store(emu, &st, words, n, dl->size);
	if (ret)
		return ret;
	gpr_write_implied(emu, KEEL_RSP, st.width, st.sp);
	handler_flags(emu, dl);
	return keel_code_load(emu, &dl->cs, emu->cpl, dl->gate.offset);
}

static int deliver_to_task(struct keel_emu *emu, const struct delivery *dl)
{
	const struct keel_emu_task task = {
		.selector = dl->gate.selector,
		.reason = KEEL_TASK_GATE,
		.ext = dl->ext,
		.has_error = dl->ev->has_error,
		.error = dl->ev->error,
	};

	return keel_task_switch(emu, &task);
}

static int deliver_protected(struct keel_emu *emu, const struct keel_emu_event *ev)
{
	struct delivery dl = {
		.ev = ev, .ext = is_software(ev) ? 0 : EXT,
		.back = emu->next_rip, .image = emu->rflags,
	};
	bool wide = keel_long_mode(emu);
	u8 cpl = emu->cpl;
	u32 error;
	int ret;

	ret = read_gate(emu, &dl);
	if (ret)
		return ret;
	if (dl.gate.type == TYPE_TASK_GATE)
		return deliver_to_task(emu, &dl);
	ret = keel_code_read(emu, dl.gate.selector, dl.ext, &dl.cs);
	if (ret)
		return ret;
	error = sel_error(dl.gate.selector, dl.ext);
	if (dl.cs.seg.dpl > cpl || (wide && !dl.cs.seg.l))
		return fault_gp(emu, error);
	if (!is_conforming(&dl.cs.seg))
		cpl = dl.cs.seg.dpl;
	if (emu->mode == KEEL_EMU_VM86 && cpl)
		return fault_gp(emu, error);
	if (!dl.cs.seg.present)
		return fault_code(emu, VEC_NP, error);
	return wide || cpl != emu->cpl ? deliver_with_stack(emu, &dl, cpl) :
					 deliver_same(emu, &dl);
}

/* The return address is emu->next_rip; on success that of the handler is. */
static int deliver(struct keel_emu *emu, const struct keel_emu_event *ev)
{
	bool redirected;
	int ret;

	if (emu->mode == KEEL_EMU_REAL)
		return deliver_real(emu, ev);
	if (emu->mode == KEEL_EMU_VM86 && ev->type == KEEL_EMU_EV_SOFT_INT) {
		ret = vme_redirected(emu, ev->vector, &redirected);
		if (ret)
			return ret;
		if (redirected)
			return deliver_to_8086(emu, ev->vector);
		if (iopl(emu) < 3)
			return fault_gp(emu, 0);
	}
	return deliver_protected(emu, ev);
}

/**
 * keel_emu_deliver() - deliver an interrupt or exception as the CPU does
 * @emu: registers, mode and CPL set; rip is the return address, rflags the image to push (with RF
 *	for a fault)
 * @ev: the event
 *
 * On KEEL_EMU_OK the registers are those of the handler's first instruction. On KEEL_EMU_FAULT,
 * emu->fault came up in the delivery: making a double fault of it is the caller's business; the
 * registers are unchanged, but if emu->switched is set they are those of the new task, in which the
 * fault is to be delivered. CR2, DR6 and the clearing of DR7.GD are the caller's.
 *
 * Return: KEEL_EMU_OK, KEEL_EMU_FAULT, KEEL_EMU_IO or KEEL_EMU_UNHANDLEABLE
 */
int keel_emu_deliver(struct keel_emu *emu, const struct keel_emu_event *ev)
{
	unsigned int tries = 0;
	int ret;

	do {
		keel_emu_begin(emu);
		emu->next_rip = emu->rip;
		emu->no_trap = true;
		ret = keel_emu_end(emu, deliver(emu, ev));
	} while (ret == EMU_LOST_RACE && ++tries < KEEL_EMU_RACES);
	return ret == EMU_LOST_RACE ? KEEL_EMU_UNHANDLEABLE : ret;
}

int keel_exec_int(struct keel_emu *emu)
{
	struct keel_emu_event ev = { .type = KEEL_EMU_EV_SOFT_EXC };

	emu->rflags &= ~FL_RF;
	switch (emu->insn.op->op) {
	case OP_INT:
		ev.type = KEEL_EMU_EV_SOFT_INT;
		ev.vector = emu->insn.imm;
		break;
	case OP_INT3:
		ev.vector = VEC_BP;
		break;
	case OP_INTO:
		if (!(emu->rflags & FL_OF))
			return KEEL_EMU_OK;
		ev.vector = VEC_OF;
		break;
	case OP_INT1:
		ev.type = KEEL_EMU_EV_PRIV_EXC;
		ev.vector = VEC_DB;
		break;
	}
	emu->no_trap = true;
	return deliver(emu, &ev);
}
