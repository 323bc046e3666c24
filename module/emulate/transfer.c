// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stacks of far transfers: the inner stack that a TSS names, and frames that are written as a
 * whole. A frame is checked and probed word by word before the first word is written, so a fault
 * leaves nothing behind; a 16-bit stack wraps between two words as hardware does.
 *
 * SDM vol 3 chapters 5.8.5, 6.12.1, 6.14, 7.7; APM vol 2 chapters 8.7 to 8.9.
 */
#include "descriptor.h"

/* The current stack. @error goes with #SS. */
void keel_stack_current(struct keel_emu *emu, struct stack *st, u32 error)
{
	st->width = keel_stack_size(emu);
	st->sp = emu->gpr[KEEL_RSP] & size_mask(st->width);
	st->error = error;
	emu->ops->get_seg(emu, KEEL_SS, &st->ss);
}

static int tss_read(struct keel_emu *emu, const struct keel_emu_seg *tr, u32 offset, void *buf,
		    unsigned int len, u32 ext)
{
	if (tr->unusable || offset + len - 1 > tr->limit)
		return fault_code(emu, VEC_TS, sel_error(tr->selector, ext));
	return keel_la_read(emu, tr->base + offset, buf, len,
			    KEEL_EMU_ACC_SYSTEM | ACC_UNALIGNED);
}

/* Long mode: RSP0 to RSP2, or IST1 to IST7; SS becomes NULL if the privilege changes. */
static int stack_from_tss64(struct keel_emu *emu, const struct keel_emu_seg *tr, unsigned int cpl,
			    unsigned int ist, u32 ext, struct stack *st)
{
	u32 offset = ist ? 0x24 + 8 * (ist - 1) : 4 + 8 * cpl;
	int ret = tss_read(emu, tr, offset, &st->sp, 8, ext);

	if (ret)
		return ret;
	st->width = 8;
	st->error = ext;
	st->ss = (struct keel_emu_seg) { .selector = cpl, .dpl = cpl, .unusable = 1 };
	return KEEL_EMU_OK;
}

/**
 * keel_stack_from_tss() - the stack of an inner privilege
 * @emu: context
 * @cpl: that privilege
 * @ist: long mode: index of the interrupt stack table, 0: none
 * @ext: bit 0 of error codes
 * @st: the stack; its sp is not aligned
 * @ss: the descriptor of its segment, to be marked accessed; legacy mode only
 *
 * SDM vol 3 5.8.5 and 6.14.4.
 *
 * Return: KEEL_EMU_OK, or what failed (#TS, #SS, #PF).
 */
int keel_stack_from_tss(struct keel_emu *emu, unsigned int cpl, unsigned int ist, u32 ext,
			struct stack *st, struct descriptor *ss)
{
	struct keel_emu_seg tr;
	u16 selector;
	u8 buf[6];
	int ret;

	emu->ops->get_seg(emu, KEEL_TR, &tr);
	if (keel_long_mode(emu))
		return stack_from_tss64(emu, &tr, cpl, ist, ext, st);

	st->sp = 0;
	if (tr.type & TYPE_32BIT) {
		ret = tss_read(emu, &tr, 4 + 8 * cpl, buf, 6, ext);
		memcpy(&st->sp, buf, 4);
		memcpy(&selector, buf + 4, 2);
	} else {
		ret = tss_read(emu, &tr, 2 + 4 * cpl, buf, 4, ext);
		memcpy(&st->sp, buf, 2);
		memcpy(&selector, buf + 2, 2);
	}
	if (ret)
		return ret;
	ret = keel_stack_read(emu, selector, cpl, VEC_TS, ext, ss);
	if (ret)
		return ret;
	st->ss = ss->seg;
	st->width = st->ss.db ? 4 : 2;
	st->sp &= size_mask(st->width);
	st->error = sel_error(selector, ext);
	return KEEL_EMU_OK;
}

static int word_linear(struct keel_emu *emu, const struct stack *st, u64 sp, unsigned int size,
		       u64 *la)
{
	if (keel_seg_linear(emu, &st->ss, KEEL_SS, sp, size, KEEL_EMU_ACC_WRITE, la))
		return fault_code(emu, VEC_SS, st->error);
	return keel_mem_aligned(emu, *la, size, 0);
}

/* May @n words of @size bytes be pushed? */
int keel_stack_reserve(struct keel_emu *emu, const struct stack *st, unsigned int n,
		       unsigned int size)
{
	unsigned int i;
	u64 la;
	int ret;

	for (i = 1; i <= n; i++) {
		ret = word_linear(emu, st, (st->sp - i * size) & size_mask(st->width), size, &la);
		if (!ret)
			ret = keel_la_probe(emu, la, size, KEEL_EMU_ACC_WRITE);
		if (ret && ret != KEEL_EMU_IO)
			return ret;
	}
	return KEEL_EMU_OK;
}

/* Push them, the first one of @words first; st->sp moves. */
int keel_stack_store(struct keel_emu *emu, struct stack *st, const u64 *words, unsigned int n,
		     unsigned int size)
{
	unsigned int i;
	u64 la;
	int ret;

	for (i = 0; i < n; i++) {
		st->sp = (st->sp - size) & size_mask(st->width);
		ret = word_linear(emu, st, st->sp, size, &la);
		if (!ret)
			ret = keel_la_write(emu, la, &words[i], size, 0);
		if (ret)
			return ret;
	}
	return KEEL_EMU_OK;
}

/* A word of the current stack, @offset bytes above its top */
int keel_stack_peek(struct keel_emu *emu, unsigned int offset, u64 *val, unsigned int size)
{
	u64 sp = (emu->gpr[KEEL_RSP] + offset) & size_mask(keel_stack_size(emu));

	*val = 0;
	return keel_mem_read(emu, KEEL_SS, sp, val, size, 0);
}
