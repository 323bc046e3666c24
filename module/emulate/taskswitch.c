// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hardware task switches: by JMP and CALL to a TSS or a task gate, by IRET with NT set, and by an
 * interrupt or exception through a task gate; from and to TSSs of 32 and of 16 bits.
 *
 * Up to the switch point nothing has changed and a fault belongs to the old task. From there on
 * emu->switched is set: the state is the new task's, and what its segments have wrong is a fault of
 * its own, with registers as far as they were loaded.
 *
 * SDM vol 3 chapter 7 (7.2.1 and 7.6 the TSSs, 7.3 the steps, table 7-1 the order of checks, table
 * 7-2 the busy bits and NT); APM vol 2 chapter 12.
 */
#include "descriptor.h"

#define TSS32_CR3	0x1c
#define TSS32_EIP	0x20
#define TSS32_ES	0x48
#define TSS32_LDT	0x60
#define TSS32_TRAP	0x64
#define TSS32_SIZE	0x68
#define TSS16_IP	0x0e
#define TSS16_ES	0x22
#define TSS16_LDT	0x2a
#define TSS16_SIZE	0x2c

#define DR6_BT		0x8000
#define DR7_LOCAL	0x155	/* L0 to L3, LE */

/* What a TSS holds, of either size */
struct tss {
	u32 cr3;
	u32 eip, eflags;
	u32 gpr[8];
	u16 sel[6];		/* by enum keel_sreg, ES to GS */
	u16 ldt;
	bool trap;
};

static bool is_tss32(const struct keel_emu_seg *tr)
{
	return tr->type & TYPE_32BIT;
}

static u32 get32(const u8 *raw, unsigned int offset)
{
	u32 val;

	memcpy(&val, raw + offset, 4);
	return val;
}

static u16 get16(const u8 *raw, unsigned int offset)
{
	u16 val;

	memcpy(&val, raw + offset, 2);
	return val;
}

/* The registers of a 16-bit TSS have their upper halves cleared; it has no FS, GS and CR3. */
static void tss_decode(struct tss *tss, const u8 *raw, bool wide)
{
	unsigned int i;

	memset(tss, 0, sizeof(*tss));
	if (wide) {
		tss->cr3 = get32(raw, TSS32_CR3);
		tss->eip = get32(raw, TSS32_EIP);
		tss->eflags = get32(raw, TSS32_EIP + 4);
		tss->ldt = get16(raw, TSS32_LDT);
		tss->trap = get16(raw, TSS32_TRAP) & 1;
	} else {
		tss->eip = get16(raw, TSS16_IP);
		tss->eflags = get16(raw, TSS16_IP + 2);
		tss->ldt = get16(raw, TSS16_LDT);
	}
	for (i = 0; i < 8; i++)
		tss->gpr[i] = wide ? get32(raw, TSS32_EIP + 8 + 4 * i) :
				     get16(raw, TSS16_IP + 4 + 2 * i);
	for (i = 0; i < (wide ? 6 : 4); i++)
		tss->sel[i] = wide ? get16(raw, TSS32_ES + 4 * i) : get16(raw, TSS16_ES + 2 * i);
}

/* The part of the old TSS that the switch writes; returns its length. */
static unsigned int tss_encode(struct keel_emu *emu, u8 *raw, bool wide, u64 flags)
{
	struct keel_emu_seg seg;
	unsigned int i, n = 0, size = wide ? 4 : 2;
	u64 zero = 0;

	memcpy(raw, &emu->next_rip, size);
	memcpy(raw + size, &flags, size);
	n = 2 * size;
	for (i = 0; i < 8; i++, n += size)
		memcpy(raw + n, &emu->gpr[i], size);
	for (i = KEEL_ES; i <= (wide ? KEEL_GS : KEEL_DS); i++, n += size) {
		emu->ops->get_seg(emu, i, &seg);
		memcpy(raw + n, &zero, size);
		memcpy(raw + n, &seg.selector, 2);
	}
	return n;
}

/*
 * The descriptor of the new TSS: what is wrong with it is #GP, but for a return #TS. The selector
 * is already known to be one that may be used.
 */
static int new_tss_read(struct keel_emu *emu, const struct keel_emu_task *task,
			struct descriptor *d)
{
	u8 vector = task->reason == KEEL_TASK_IRET ? VEC_TS : VEC_GP;
	u8 busy = task->reason == KEEL_TASK_IRET ? TYPE_BUSY : 0;
	u32 error = sel_error(task->selector, task->ext);
	bool found;
	int ret;

	if (SEL_NULL(task->selector) || (task->selector & SEL_TI))
		return fault_code(emu, vector, error);
	ret = keel_descriptor_read(emu, task->selector, d, &found);
	if (ret)
		return ret;
	if (!found || d->seg.s || (d->seg.type & ~TYPE_32BIT) != (TYPE_TSS16 | busy))
		return fault_code(emu, vector, error);
	if (!d->seg.present)
		return fault_code(emu, VEC_NP, error);
	if (d->seg.limit < (is_tss32(&d->seg) ? TSS32_SIZE : TSS16_SIZE) - 1)
		return fault_code(emu, VEC_TS, error);
	return KEEL_EMU_OK;
}

/* Check that @len bytes of a TSS can be accessed. */
static int tss_probe(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc)
{
	int ret = keel_la_probe(emu, la, len, KEEL_EMU_ACC_SYSTEM | acc);

	/* A TSS in a device is nothing that could be resumed. */
	return ret == KEEL_EMU_IO ? KEEL_EMU_UNHANDLEABLE : ret;
}

/* Before the switch point: busy bits, the old task's state, the link of a nested task. */
static int leave_task(struct keel_emu *emu, const struct keel_emu_task *task, struct descriptor *d)
{
	bool nested = task->reason == KEEL_TASK_CALL || task->reason == KEEL_TASK_GATE;
	u64 flags = emu->rflags;
	struct descriptor old;
	struct keel_emu_seg tr;
	unsigned int at, len;
	bool found;
	u8 raw[64];
	int ret;

	emu->ops->get_seg(emu, KEEL_TR, &tr);
	if (tr.unusable || tr.limit < (is_tss32(&tr) ? TSS32_LDT : TSS16_LDT) - 1)
		return fault_code(emu, VEC_TS, sel_error(tr.selector, task->ext));
	if (task->reason == KEEL_TASK_IRET)
		flags &= ~FL_NT;
	len = tss_encode(emu, raw, is_tss32(&tr), flags);
	at = is_tss32(&tr) ? TSS32_EIP : TSS16_IP;
	ret = tss_probe(emu, tr.base + at, len, KEEL_EMU_ACC_WRITE);
	if (!ret && nested)
		ret = tss_probe(emu, d->seg.base, 2, KEEL_EMU_ACC_WRITE);
	if (ret)
		return ret;

	if (!nested) {
		ret = keel_descriptor_read(emu, tr.selector, &old, &found);
		if (!ret && found)
			ret = keel_descriptor_mark(emu, &old, TYPE_BUSY, false);
		if (ret)
			return ret;
	}
	if (task->reason != KEEL_TASK_IRET) {
		ret = keel_descriptor_mark(emu, d, TYPE_BUSY, true);
		if (ret)
			return ret;
	}
	ret = keel_la_write(emu, tr.base + at, raw, len, KEEL_EMU_ACC_SYSTEM);
	if (!ret && nested)
		ret = keel_la_write(emu, d->seg.base, &tr.selector, 2, KEEL_EMU_ACC_SYSTEM);
	return ret;
}

/* All of the new task that needs no descriptor; segments become unusable until they are loaded. */
static int enter_registers(struct keel_emu *emu, const struct keel_emu_task *task,
			   const struct descriptor *d, const struct tss *tss)
{
	u64 cr0 = emu->ops->get_cr(emu, 0);
	struct keel_emu_seg seg;
	unsigned int i;
	int ret;

	emu->ops->set_seg(emu, KEEL_TR, &d->seg);
	ret = emu->ops->set_cr(emu, 0, cr0 | CR0_TS);
	if (!ret)
		ret = emu->ops->set_dr(emu, 7, emu->ops->get_dr(emu, 7) & ~(u64)DR7_LOCAL);
	if (!ret && is_tss32(&d->seg) && (cr0 & CR0_PG))
		ret = emu->ops->set_cr(emu, 3, tss->cr3);

	emu->next_rip = tss->eip;
	emu->rflags = (tss->eflags & FL_ALL) | FL_FIXED;
	if (task->reason == KEEL_TASK_CALL || task->reason == KEEL_TASK_GATE)
		emu->rflags |= FL_NT;
	emu->keep_rf = true;
	for (i = 0; i < KEEL_NR_GPRS; i++)
		emu->gpr[i] = i < 8 ? tss->gpr[i] : 0;
	emu->cpl = emu->rflags & FL_VM ? 3 : SEL_RPL(tss->sel[KEEL_CS]);
	emu->mode = emu->rflags & FL_VM ? KEEL_EMU_VM86 : KEEL_EMU_PROT32;
	for (i = KEEL_ES; i <= KEEL_GS; i++) {
		seg = (struct keel_emu_seg) { .selector = tss->sel[i], .unusable = 1 };
		/* What an exit or a fault finds here must still be a state that can run. */
		if (i == KEEL_CS || i == KEEL_SS)
			seg = (struct keel_emu_seg) {
				.selector = tss->sel[i], .type = i == KEEL_CS ? 0xb : 3, .s = 1,
				.dpl = emu->cpl, .present = 1, .db = 1,
			};
		emu->ops->set_seg(emu, i, &seg);
	}
	seg = (struct keel_emu_seg) { .selector = tss->ldt, .unusable = 1 };
	emu->ops->set_seg(emu, KEEL_LDTR, &seg);
	if (tss->trap)
		emu->task_trap = DR6_BT;
	return ret;
}

static int enter_ldt(struct keel_emu *emu, u16 selector, u32 ext)
{
	u32 error = sel_error(selector, ext);
	struct descriptor d;
	bool found;
	int ret;

	if (SEL_NULL(selector))
		return KEEL_EMU_OK;
	if (selector & SEL_TI)
		return fault_code(emu, VEC_TS, error);
	ret = keel_descriptor_read(emu, selector, &d, &found);
	if (ret)
		return ret;
	if (!found || d.seg.s || d.seg.type != TYPE_LDT || !d.seg.present)
		return fault_code(emu, VEC_TS, error);
	emu->ops->set_seg(emu, KEEL_LDTR, &d.seg);
	return KEEL_EMU_OK;
}

static int enter_code(struct keel_emu *emu, u16 selector, u32 ext)
{
	u32 error = sel_error(selector, ext);
	struct descriptor d;
	bool found = false;
	int ret = KEEL_EMU_OK;

	if (!SEL_NULL(selector))
		ret = keel_descriptor_read(emu, selector, &d, &found);
	if (ret)
		return ret;
	if (!found || !d.seg.s || !is_code(&d.seg))
		return fault_code(emu, VEC_TS, error);
	if (is_conforming(&d.seg) ? d.seg.dpl > emu->cpl : d.seg.dpl != emu->cpl)
		return fault_code(emu, VEC_TS, error);
	if (!d.seg.present)
		return fault_code(emu, VEC_NP, error);
	d.seg.l = 0;
	return keel_code_load(emu, &d, emu->cpl, emu->next_rip);
}

static int enter_stack(struct keel_emu *emu, u16 selector, u32 ext)
{
	struct descriptor d;
	int ret = keel_stack_read(emu, selector, emu->cpl, VEC_TS, ext, &d);

	if (!ret)
		ret = keel_descriptor_mark(emu, &d, TYPE_ACCESSED, true);
	if (!ret)
		emu->ops->set_seg(emu, KEEL_SS, &d.seg);
	return ret;
}

static int enter_data(struct keel_emu *emu, unsigned int sreg, u16 selector, u32 ext)
{
	u32 error = sel_error(selector, ext);
	struct descriptor d;
	bool found;
	int ret;

	if (SEL_NULL(selector))
		return KEEL_EMU_OK;
	ret = keel_descriptor_read(emu, selector, &d, &found);
	if (ret)
		return ret;
	if (!found || !d.seg.s || !is_readable(&d.seg))
		return fault_code(emu, VEC_TS, error);
	if (!is_conforming(&d.seg) && (SEL_RPL(selector) > d.seg.dpl || emu->cpl > d.seg.dpl))
		return fault_code(emu, VEC_TS, error);
	if (!d.seg.present)
		return fault_code(emu, VEC_NP, error);
	ret = keel_descriptor_mark(emu, &d, TYPE_ACCESSED, true);
	if (!ret)
		emu->ops->set_seg(emu, sreg, &d.seg);
	return ret;
}

static int enter_segments(struct keel_emu *emu, const struct tss *tss, u32 ext)
{
	static const u8 data[] = { KEEL_ES, KEEL_DS, KEEL_FS, KEEL_GS };
	unsigned int i;
	int ret = enter_ldt(emu, tss->ldt, ext);

	if (ret)
		return ret;
	if (emu->rflags & FL_VM) {
		for (i = KEEL_ES; i <= KEEL_GS; i++)
			keel_load_real(emu, i, tss->sel[i]);
		return KEEL_EMU_OK;
	}
	ret = enter_code(emu, tss->sel[KEEL_CS], ext);
	if (!ret)
		ret = enter_stack(emu, tss->sel[KEEL_SS], ext);
	for (i = 0; !ret && i < ARRAY_SIZE(data); i++)
		ret = enter_data(emu, data[i], tss->sel[data[i]], ext);
	return ret;
}

static int enter_task(struct keel_emu *emu, const struct keel_emu_task *task,
		      const struct descriptor *d, const struct tss *tss)
{
	unsigned int size = is_tss32(&d->seg) ? 4 : 2;
	struct keel_emu_seg cs;
	struct stack st;
	u64 error = task->error;
	int ret;

	ret = enter_registers(emu, task, d, tss);
	if (!ret)
		ret = enter_segments(emu, tss, task->ext);
	if (!ret && task->has_error) {
		keel_stack_current(emu, &st, task->ext);
		ret = keel_stack_reserve(emu, &st, 1, size);
		if (!ret)
			ret = keel_stack_store(emu, &st, &error, 1, size);
		if (!ret)
			gpr_write_implied(emu, KEEL_RSP, st.width, st.sp);
	}
	if (ret)
		return ret;
	emu->ops->get_seg(emu, KEEL_CS, &cs);
	return emu->next_rip > cs.limit ? fault_gp(emu, task->ext) : KEEL_EMU_OK;
}

/**
 * keel_task_switch() - switch to another task
 * @emu: context; next_rip is where the old task will go on
 * @task: why and where to; privilege has been checked
 *
 * Return: KEEL_EMU_OK, or what failed: in the new task, if emu->switched is set
 */
int keel_task_switch(struct keel_emu *emu, const struct keel_emu_task *task)
{
	struct descriptor d;
	u8 raw[TSS32_SIZE];
	unsigned int len;
	struct tss tss;
	int ret;

	ret = new_tss_read(emu, task, &d);
	if (ret)
		return ret;
	len = is_tss32(&d.seg) ? TSS32_SIZE : TSS16_SIZE;
	ret = tss_probe(emu, d.seg.base, len, 0);
	if (!ret)
		ret = keel_la_read(emu, d.seg.base, raw, len,
				   KEEL_EMU_ACC_SYSTEM | ACC_UNALIGNED);
	if (!ret)
		ret = leave_task(emu, task, &d);
	if (ret)
		return ret;
	emu->switched = true;
	tss_decode(&tss, raw, is_tss32(&d.seg));
	ret = enter_task(emu, task, &d, &tss);
	/* What was done cannot be done again. */
	return ret == KEEL_EMU_IO || ret == EMU_LOST_RACE ? KEEL_EMU_UNHANDLEABLE : ret;
}

/* The DPL of the IDT's gate protects the task from software interrupts. */
static int check_gate(struct keel_emu *emu, const struct keel_emu_task *task)
{
	u64 base;
	u16 limit;
	u32 hi;
	int ret;

	if (!task->check_gate)
		return KEEL_EMU_OK;
	emu->ops->get_dtr(emu, true, &base, &limit);
	if (task->vector * 8 + 7 > limit)
		return fault_gp(emu, task->vector * 8 + ERR_IDT);
	ret = keel_la_read(emu, base + task->vector * 8 + 4, &hi, 4, KEEL_EMU_ACC_SYSTEM);
	if (!ret && (hi >> 13 & 3) < emu->cpl)
		ret = fault_gp(emu, task->vector * 8 + ERR_IDT);
	return ret;
}

/**
 * keel_emu_task_switch() - a task switch that the CPU has begun and left to us
 * @emu: registers, mode and CPL set; rip is where the old task will go on
 * @task: what caused it
 *
 * On KEEL_EMU_OK the state is that of the new task; emu->db_trap is set by its T flag. On
 * KEEL_EMU_FAULT emu->switched tells in which task.
 *
 * Return: KEEL_EMU_OK, KEEL_EMU_FAULT, KEEL_EMU_IO or KEEL_EMU_UNHANDLEABLE
 */
int keel_emu_task_switch(struct keel_emu *emu, const struct keel_emu_task *task)
{
	unsigned int tries = 0;
	int ret;

	do {
		keel_emu_begin(emu);
		emu->next_rip = emu->rip;
		emu->no_trap = true;
		ret = check_gate(emu, task);
		ret = keel_emu_end(emu, ret ? ret : keel_task_switch(emu, task));
	} while (ret == EMU_LOST_RACE && ++tries < KEEL_EMU_RACES);
	return ret == EMU_LOST_RACE ? KEEL_EMU_UNHANDLEABLE : ret;
}
