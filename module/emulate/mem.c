// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory as instructions see it: effective address, segmentation, alignment, and the split of
 * accesses at page boundaries; the stack.
 *
 * Segment checks are made here from the cached descriptors that get_seg() gives; paging is the
 * callbacks' part. An access that crosses a page is probed on both sides before the first byte
 * moves, so that a fault on the second page leaves nothing behind, and the callbacks never see one.
 *
 * SDM vol 3 chapter 5.3 (limits), 5.4, 5.5 (types), vol 1 3.3.7.1 (canonical addresses), vol 3 6.15
 * (#SS, #GP, #AC); APM vol 2 chapter 4.
 */
#include "internal.h"

#define PAGE_BYTES	4096

bool keel_is_canonical(struct keel_emu *emu, u64 la)
{
	unsigned int shift = emu->ops->get_cr(emu, 4) & CR4_LA57 ? 64 - 57 : 64 - 48;

	return (u64)((s64)(la << shift) >> shift) == la;
}

/* Effective address of the ModRM or moffs memory operand, wrapped to the address size. */
u64 keel_mem_ea(const struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	u64 ea = insn->disp;

	if (insn->base >= 0)
		ea += emu->gpr[insn->base];
	if (insn->index >= 0)
		ea += emu->gpr[insn->index] << insn->scale;
	if (insn->rip_relative)
		ea += emu->next_rip;
	return ea & size_mask(insn->addr_size);
}

/* A violation on the stack segment is #SS, on others #GP. */
static int fault_segment(struct keel_emu *emu, unsigned int seg)
{
	return fault_code(emu, seg == KEEL_SS ? VEC_SS : VEC_GP, 0);
}

static bool type_allows(const struct keel_emu_seg *s, unsigned int acc)
{
	if (s->type & 8)	/* code: never writable, readable if bit 1 */
		return !(acc & KEEL_EMU_ACC_WRITE) && (s->type & 2);
	return !(acc & KEEL_EMU_ACC_WRITE) || (s->type & 2);
}

static bool limit_allows(const struct keel_emu_seg *s, u64 ea, unsigned int len)
{
	u64 last = ea + len - 1;

	if ((s->type & 0xc) == 0x4)	/* expand-down data */
		return ea > s->limit && last <= (s->db ? 0xffffffffULL : 0xffffULL);
	return last <= s->limit;
}

/* #AC: user mode, armed by CR0.AM and EFLAGS.AC (SDM vol 3 6.15) */
static bool misaligned(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc)
{
	if (!(emu->rflags & FL_AC) || emu->cpl != 3)
		return false;
	if ((acc & (ACC_UNALIGNED | KEEL_EMU_ACC_SYSTEM | KEEL_EMU_ACC_FETCH)) || !(la & (len - 1)))
		return false;
	return emu->ops->get_cr(emu, 0) & CR0_AM;
}

/**
 * keel_seg_linear() - segmentation alone: a logical address to a linear one
 * @emu: context
 * @s: the segment
 * @seg: enum keel_sreg that it is in, or will be
 * @ea: offset in the segment; below 4 GiB outside 64-bit mode
 * @len: bytes that will be accessed
 * @acc: KEEL_EMU_ACC_*
 * @la: the linear address
 *
 * SDM vol 3 5.3 and 5.4.
 *
 * Return: KEEL_EMU_OK, or KEEL_EMU_FAULT with #GP or #SS.
 */
int keel_seg_linear(struct keel_emu *emu, const struct keel_emu_seg *s, unsigned int seg, u64 ea,
		    unsigned int len, unsigned int acc, u64 *la)
{
	if (emu->mode == KEEL_EMU_PROT64) {
		*la = ea;
		if (seg == KEEL_FS || seg == KEEL_GS)
			*la += s->base;
		if (!keel_is_canonical(emu, *la) || !keel_is_canonical(emu, *la + len - 1))
			return fault_segment(emu, seg);
		return KEEL_EMU_OK;
	}
	if (mode_is_protected(emu) && (s->unusable || !type_allows(s, acc)))
		return fault_segment(emu, seg);
	if (!limit_allows(s, ea, len))
		return fault_segment(emu, seg);
	*la = (u32)(s->base + ea);
	return KEEL_EMU_OK;
}

/* #AC, if an access of @len bytes at @la would raise it */
int keel_mem_aligned(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc)
{
	return misaligned(emu, la, len, acc) ? keel_emu_fault(emu, VEC_AC, true, 0) : KEEL_EMU_OK;
}

/**
 * keel_mem_linear() - segmentation and alignment: a logical address to a linear one
 * @emu: context
 * @seg: enum keel_sreg
 * @ea: offset in the segment; below 4 GiB outside 64-bit mode
 * @len: bytes that will be accessed
 * @acc: KEEL_EMU_ACC_*, ACC_UNALIGNED
 * @la: the linear address
 *
 * Return: KEEL_EMU_OK, or KEEL_EMU_FAULT with #GP, #SS or #AC.
 */
int keel_mem_linear(struct keel_emu *emu, unsigned int seg, u64 ea, unsigned int len,
		    unsigned int acc, u64 *la)
{
	struct keel_emu_seg s = {};
	int ret;

	if (emu->mode != KEEL_EMU_PROT64 || seg == KEEL_FS || seg == KEEL_GS)
		emu->ops->get_seg(emu, seg, &s);
	ret = keel_seg_linear(emu, &s, seg, ea, len, acc, la);
	return ret ? ret : keel_mem_aligned(emu, *la, len, acc);
}

/* Bytes of an access at @la that lie in its first page. */
static unsigned int first_part(u64 la, unsigned int len)
{
	unsigned int room = PAGE_BYTES - (la & (PAGE_BYTES - 1));

	return len < room ? len : room;
}

/* @la lies @add bytes after an address that is valid in this mode, or in a descriptor table. */
static u64 wrap_linear(const struct keel_emu *emu, u64 la, unsigned int add)
{
	return emu->mode == KEEL_EMU_PROT64 || la >> 32 ? la + add : (u32)(la + add);
}

/* KEEL_EMU_OK if all is RAM, KEEL_EMU_IO if permitted but partly a device. */
int keel_la_probe(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc)
{
	unsigned int first = first_part(la, len);
	int ret, ret2;

	acc &= ~ACC_UNALIGNED;
	ret = emu->ops->probe(emu, la, first, acc);
	if ((ret && ret != KEEL_EMU_IO) || first == len)
		return ret;
	ret2 = emu->ops->probe(emu, wrap_linear(emu, la, first), len - first, acc);
	return ret2 ? ret2 : ret;
}

static int probe_if_split(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc)
{
	int ret;

	if (first_part(la, len) == len)
		return KEEL_EMU_OK;
	ret = keel_la_probe(emu, la, len, acc);
	return ret == KEEL_EMU_IO ? KEEL_EMU_OK : ret;
}

int keel_la_read(struct keel_emu *emu, u64 la, void *buf, unsigned int len, unsigned int acc)
{
	unsigned int first = first_part(la, len);
	int ret;

	acc &= ~ACC_UNALIGNED;
	ret = probe_if_split(emu, la, len, acc);
	if (ret)
		return ret;
	keel_watch_memory(emu, la, len, acc);
	ret = emu->ops->read(emu, la, buf, first, acc);
	emu->access_nr++;
	if (ret || first == len)
		return ret;
	ret = emu->ops->read(emu, wrap_linear(emu, la, first), buf + first, len - first, acc);
	emu->access_nr++;
	return ret;
}

static int write_as(struct keel_emu *emu, unsigned int nr, u64 la, const void *buf, unsigned int len,
		    unsigned int acc)
{
	emu->access_nr = nr;
	return emu->ops->write(emu, la, buf, len, acc);
}

/*
 * Memory is written when no device has to be waited for any more: an instruction that is executed
 * again for the device's half must find in memory what it found there before.
 */
int keel_la_write(struct keel_emu *emu, u64 la, const void *buf, unsigned int len, unsigned int acc)
{
	unsigned int first = first_part(la, len), nr = emu->access_nr;
	u64 next = wrap_linear(emu, la, first);
	int ret;

	acc = (acc & ~ACC_UNALIGNED) | KEEL_EMU_ACC_WRITE;
	ret = probe_if_split(emu, la, len, acc);
	if (ret)
		return ret;
	keel_watch_memory(emu, la, len, acc);
	if (first == len) {
		ret = write_as(emu, nr, la, buf, len, acc);
		emu->access_nr = nr + 1;
		return ret;
	}
	if (emu->ops->probe(emu, la, first, acc) == KEEL_EMU_OK) {
		ret = write_as(emu, nr + 1, next, buf + first, len - first, acc);
		if (!ret)
			ret = write_as(emu, nr, la, buf, first, acc);
	} else {
		ret = write_as(emu, nr, la, buf, first, acc);
		if (!ret)
			ret = write_as(emu, nr + 1, next, buf + first, len - first, acc);
	}
	emu->access_nr = nr + 2;
	return ret;
}

int keel_mem_read(struct keel_emu *emu, unsigned int seg, u64 ea, void *buf, unsigned int len,
		  unsigned int acc)
{
	u64 la;
	int ret = keel_mem_linear(emu, seg, ea, len, acc, &la);

	return ret ? ret : keel_la_read(emu, la, buf, len, acc);
}

int keel_mem_write(struct keel_emu *emu, unsigned int seg, u64 ea, const void *buf,
		   unsigned int len, unsigned int acc)
{
	u64 la;
	int ret = keel_mem_linear(emu, seg, ea, len, acc | KEEL_EMU_ACC_WRITE, &la);

	return ret ? ret : keel_la_write(emu, la, buf, len, acc);
}

/*
 * One locked attempt: @old is what the instruction read; afterwards it is what memory held. An
 * access across two pages cannot be atomic for us and becomes a write.
 */
int keel_mem_cmpxchg(struct keel_emu *emu, unsigned int seg, u64 ea, void *old, const void *new,
		     unsigned int len)
{
	u64 la;
	int ret;

	ret = keel_mem_linear(emu, seg, ea, len, KEEL_EMU_ACC_WRITE | KEEL_EMU_ACC_LOCK, &la);
	if (ret)
		return ret;
	if (first_part(la, len) != len)
		return keel_la_write(emu, la, new, len, KEEL_EMU_ACC_LOCK);
	keel_watch_memory(emu, la, len, KEEL_EMU_ACC_WRITE);
	ret = emu->ops->compare_exchange(emu, la, old, new, len);
	emu->access_nr++;
	return ret;
}

/* Width of the stack pointer in bytes (SDM vol 1 6.2.3) */
unsigned int keel_stack_size(struct keel_emu *emu)
{
	struct keel_emu_seg ss;

	if (emu->mode == KEEL_EMU_PROT64)
		return 8;
	emu->ops->get_seg(emu, KEEL_SS, &ss);
	return ss.db ? 4 : 2;
}

int keel_push(struct keel_emu *emu, u64 val, unsigned int size)
{
	unsigned int width = keel_stack_size(emu);
	u64 sp = (emu->gpr[KEEL_RSP] - size) & size_mask(width);
	int ret = keel_mem_write(emu, KEEL_SS, sp, &val, size, 0);

	if (!ret)
		gpr_write_implied(emu, KEEL_RSP, width, sp);
	return ret;
}

int keel_pop(struct keel_emu *emu, u64 *val, unsigned int size)
{
	unsigned int width = keel_stack_size(emu);
	u64 sp = emu->gpr[KEEL_RSP] & size_mask(width);
	int ret;

	*val = 0;
	ret = keel_mem_read(emu, KEEL_SS, sp, val, size, 0);
	if (!ret)
		gpr_write_implied(emu, KEEL_RSP, width, sp + size);
	return ret;
}
