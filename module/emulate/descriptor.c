// SPDX-License-Identifier: GPL-2.0-only
/*
 * Descriptors and gates: where they are, what they say, their accessed and busy bits, and the
 * checks that all far transfers make of a code segment and of a stack segment.
 *
 * Tables are read as implicit supervisor accesses. The accessed and busy bits are set by a locked
 * access when all checks have passed; when another CPU changed the descriptor meanwhile, the
 * instruction starts again.
 *
 * SDM vol 3 chapters 3.4, 3.5, 5.8, 6.11, 6.14; APM vol 2 chapter 4.
 */
#include "descriptor.h"

bool keel_long_mode(struct keel_emu *emu)
{
	u64 efer = 0;

	if (emu->mode == KEEL_EMU_PROT64)
		return true;
	return !emu->ops->get_msr(emu, MSR_EFER, &efer) && (efer & EFER_LMA);
}

/* The mode in which code of @cs runs, with CR0, EFER and the flags as they are. */
enum keel_emu_mode keel_mode_of(struct keel_emu *emu, const struct keel_emu_seg *cs)
{
	if (!(emu->ops->get_cr(emu, 0) & CR0_PE))
		return KEEL_EMU_REAL;
	if (emu->rflags & FL_VM)
		return KEEL_EMU_VM86;
	if (cs->l && keel_long_mode(emu))
		return KEEL_EMU_PROT64;
	return cs->db ? KEEL_EMU_PROT32 : KEEL_EMU_PROT16;
}

/* Where the descriptor of @selector is; false if its table is too short or missing. */
bool keel_descriptor_la(struct keel_emu *emu, u16 selector, unsigned int len, u64 *la)
{
	u32 offset = selector & ~7;
	struct keel_emu_seg ldt;
	u16 limit;

	if (selector & SEL_TI) {
		emu->ops->get_seg(emu, KEEL_LDTR, &ldt);
		if (ldt.unusable || offset + len - 1 > ldt.limit)
			return false;
		*la = ldt.base + offset;
	} else {
		emu->ops->get_dtr(emu, false, la, &limit);
		if (offset + len - 1 > limit)
			return false;
		*la += offset;
	}
	if (!keel_long_mode(emu))
		*la = (u32)*la;
	return true;
}

void keel_descriptor_decode(struct descriptor *d, u16 selector, const u32 *raw)
{
	u32 lo = raw[0], hi = raw[1];

	d->lo = lo;
	d->hi = hi;
	d->seg = (struct keel_emu_seg) {
		.selector = selector,
		.base = lo >> 16 | (hi & 0xff) << 16 | (hi & 0xff000000),
		.limit = (lo & 0xffff) | (hi & 0xf0000),
		.type = (hi >> 8) & 0xf,
		.s = (hi >> 12) & 1,
		.dpl = (hi >> 13) & 3,
		.present = (hi >> 15) & 1,
		.avl = (hi >> 20) & 1,
		.l = (hi >> 21) & 1,
		.db = (hi >> 22) & 1,
		.g = (hi >> 23) & 1,
	};
	if (d->seg.g)
		d->seg.limit = d->seg.limit << 12 | 0xfff;
}

/* *@found is false if there is no such descriptor; that is no fault of itself. */
int keel_descriptor_read(struct keel_emu *emu, u16 selector, struct descriptor *d, bool *found)
{
	u32 raw[2];
	int ret;

	*found = keel_descriptor_la(emu, selector, 8, &d->la);
	if (!*found)
		return KEEL_EMU_OK;
	ret = keel_la_read(emu, d->la, raw, 8, KEEL_EMU_ACC_SYSTEM);
	if (!ret)
		keel_descriptor_decode(d, selector, raw);
	return ret;
}

/*
 * Set or clear a bit of the type field, in memory and in the decoded copy. The table is accessed as
 * by the supervisor; the read before has found out whether that is allowed.
 */
int keel_descriptor_mark(struct keel_emu *emu, struct descriptor *d, u8 bit, bool set)
{
	u8 was = d->hi >> 8, seen = was, to = set ? was | bit : was & ~bit, cpl = emu->cpl;
	int ret;

	if (!(d->seg.type & bit) == !set)
		return KEEL_EMU_OK;
	emu->cpl = 0;
	ret = emu->ops->compare_exchange(emu, d->la + 5, &seen, &to, 1);
	emu->access_nr++;
	emu->cpl = cpl;
	if (ret)
		return ret;
	if (seen != was)
		return EMU_LOST_RACE;
	d->seg.type ^= bit;
	d->hi ^= (u32)bit << 8;
	return KEEL_EMU_OK;
}

/* @raw: two words, or four of a 64-bit gate (the others zero) */
void keel_gate_decode(struct gate *gate, const u32 *raw)
{
	*gate = (struct gate) {
		.offset = (raw[0] & 0xffff) | (raw[1] & 0xffff0000) | (u64)raw[2] << 32,
		.selector = raw[0] >> 16,
		.type = (raw[1] >> 8) & 0xf,
		.dpl = (raw[1] >> 13) & 3,
		.present = (raw[1] >> 15) & 1,
		.count = raw[1] & 0x1f,
		.ist = raw[1] & 7,
	};
	if (!(gate->type & TYPE_32BIT))
		gate->offset &= 0xffff;
}

/* The descriptor of a code segment; its privilege and presence are the caller's to check. */
int keel_code_read(struct keel_emu *emu, u16 selector, u32 ext, struct descriptor *d)
{
	bool found;
	int ret;

	if (SEL_NULL(selector))
		return fault_gp(emu, ext);
	ret = keel_descriptor_read(emu, selector, d, &found);
	if (ret)
		return ret;
	if (!found || !d->seg.s || !is_code(&d->seg))
		return fault_gp(emu, sel_error(selector, ext));
	if (!keel_long_mode(emu))
		d->seg.l = 0;
	else if (d->seg.l && d->seg.db)
		return fault_gp(emu, sel_error(selector, ext));
	return KEEL_EMU_OK;
}

/* May execution go on at @target in code segment @d? */
int keel_code_target(struct keel_emu *emu, const struct descriptor *d, u64 target, u32 ext)
{
	if (d->seg.l ? !keel_is_canonical(emu, target) : target > d->seg.limit)
		return fault_gp(emu, ext);
	return KEEL_EMU_OK;
}

/* Load CS from a descriptor that has passed all checks, and go to @target with privilege @cpl. */
int keel_code_load(struct keel_emu *emu, struct descriptor *d, u8 cpl, u64 target)
{
	int ret = keel_descriptor_mark(emu, d, TYPE_ACCESSED, true);

	if (ret)
		return ret;
	d->seg.selector = (d->seg.selector & ~3) | cpl;
	emu->ops->set_seg(emu, KEEL_CS, &d->seg);
	emu->cpl = cpl;
	emu->mode = keel_mode_of(emu, &d->seg);
	emu->next_rip = target;
	return KEEL_EMU_OK;
}

/* The same in real and virtual-8086 mode */
void keel_code_load_real(struct keel_emu *emu, u16 selector, u64 target)
{
	keel_load_real(emu, KEEL_CS, selector);
	emu->next_rip = target;
}

/*
 * The descriptor of a stack segment that is to be used with privilege @cpl. What is wrong with it
 * is @vector (#TS or #GP), but for #SS if it is not present.
 */
int keel_stack_read(struct keel_emu *emu, u16 selector, unsigned int cpl, u8 vector, u32 ext,
		    struct descriptor *d)
{
	u32 error = sel_error(selector, ext);
	bool found;
	int ret;

	if (SEL_NULL(selector))
		return fault_code(emu, vector, vector == VEC_TS ? error : ext);
	ret = keel_descriptor_read(emu, selector, d, &found);
	if (ret)
		return ret;
	if (!found || !is_stack_of(&d->seg, cpl))
		return fault_code(emu, vector, error);
	if (!d->seg.present)
		return fault_code(emu, VEC_SS, error);
	return KEEL_EMU_OK;
}

/* Return to an outer privilege: data segments that it must not see become NULL. */
void keel_data_drop(struct keel_emu *emu)
{
	static const u8 sregs[] = { KEEL_ES, KEEL_DS, KEEL_FS, KEEL_GS };
	struct keel_emu_seg seg;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sregs); i++) {
		emu->ops->get_seg(emu, sregs[i], &seg);
		if (seg.unusable || is_conforming(&seg) || seg.dpl >= emu->cpl)
			continue;
		seg = (struct keel_emu_seg) { .unusable = 1 };
		emu->ops->set_seg(emu, sregs[i], &seg);
	}
}
