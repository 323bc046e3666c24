/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Descriptors, gates and far transfers, shared by segment.c, far.c, iret.c, interrupt.c, syscall.c
 * and taskswitch.c.
 *
 * SDM vol 3 chapters 3.4, 3.5, 5.8; APM vol 2 chapter 4.
 */
#ifndef KEEL_EMULATE_DESCRIPTOR_H
#define KEEL_EMULATE_DESCRIPTOR_H

#include "internal.h"

#define SEL_RPL(sel)	((sel) & 3)
#define SEL_TI		0x4
#define SEL_NULL(sel)	(!((sel) & ~3))

/* System descriptor types; those with bit 3 are 32-bit, or 64-bit in long mode. */
#define TYPE_TSS16	1
#define TYPE_LDT	2
#define TYPE_CALL16	4
#define TYPE_TASK_GATE	5
#define TYPE_INT16	6
#define TYPE_TRAP16	7
#define TYPE_TSS32	9
#define TYPE_CALL32	12
#define TYPE_INT32	14
#define TYPE_TRAP32	15

#define TYPE_BUSY	2
#define TYPE_ACCESSED	1
#define TYPE_32BIT	8

#define EXT		1	/* in an error code: the event came from outside the program */
#define ERR_IDT		2	/* ... it names a gate of the IDT */

/* A descriptor as found in memory, decoded; @la is where. */
struct descriptor {
	struct keel_emu_seg seg;
	u64 la;
	u32 lo, hi;
};

/* A gate's fields, of whatever kind it is */
struct gate {
	u64 offset;
	u16 selector;
	u8 type;
	u8 dpl;
	u8 present;
	u8 count;		/* parameters of a call gate */
	u8 ist;			/* 64-bit gates */
};

/*
 * A stack that a far transfer uses before its registers are loaded. Its words are accessed with the
 * rights of emu->cpl, in emu->mode.
 */
struct stack {
	struct keel_emu_seg ss;
	u64 sp;
	u32 error;		/* what #SS gets */
	u8 width;		/* bytes of the stack pointer */
};

static inline bool is_code(const struct keel_emu_seg *seg)
{
	return seg->type & 8;
}

static inline bool is_conforming(const struct keel_emu_seg *seg)
{
	return (seg->type & 0xc) == 0xc;
}

static inline bool is_readable(const struct keel_emu_seg *seg)
{
	return !is_code(seg) || (seg->type & 2);
}

static inline bool is_writable(const struct keel_emu_seg *seg)
{
	return !is_code(seg) && (seg->type & 2);
}

static inline u32 sel_error(u16 selector, u32 ext)
{
	return (selector & ~3u) | ext;
}

/* Is the segment, under its selector, a stack of privilege @cpl? */
static inline bool is_stack_of(const struct keel_emu_seg *seg, unsigned int cpl)
{
	return seg->s && is_writable(seg) && SEL_RPL(seg->selector) == cpl && seg->dpl == cpl;
}

/* Where a far return or IRET goes */
struct keel_far_return {
	struct descriptor cs;
	u64 target;
	u64 sp, ss;		/* popped, when the stack changes */
	unsigned int add;	/* RETF's operand */
};

/* descriptor.c */
bool keel_long_mode(struct keel_emu *emu);
enum keel_emu_mode keel_mode_of(struct keel_emu *emu, const struct keel_emu_seg *cs);
bool keel_descriptor_la(struct keel_emu *emu, u16 selector, unsigned int len, u64 *la);
void keel_descriptor_decode(struct descriptor *d, u16 selector, const u32 *raw);
int keel_descriptor_read(struct keel_emu *emu, u16 selector, struct descriptor *d, bool *found);
int keel_descriptor_mark(struct keel_emu *emu, struct descriptor *d, u8 bit, bool set);
void keel_gate_decode(struct gate *gate, const u32 *raw);
int keel_code_read(struct keel_emu *emu, u16 selector, u32 ext, struct descriptor *d);
int keel_code_target(struct keel_emu *emu, const struct descriptor *d, u64 target, u32 ext);
int keel_code_load(struct keel_emu *emu, struct descriptor *d, u8 cpl, u64 target);
void keel_code_load_real(struct keel_emu *emu, u16 selector, u64 target);
int keel_stack_read(struct keel_emu *emu, u16 selector, unsigned int cpl, u8 vector, u32 ext,
		    struct descriptor *d);
void keel_data_drop(struct keel_emu *emu);

/* transfer.c */
void keel_stack_current(struct keel_emu *emu, struct stack *st, u32 error);
int keel_stack_from_tss(struct keel_emu *emu, unsigned int cpl, unsigned int ist, u32 ext,
			struct stack *st, struct descriptor *ss);
int keel_stack_reserve(struct keel_emu *emu, const struct stack *st, unsigned int n,
		       unsigned int size);
int keel_stack_store(struct keel_emu *emu, struct stack *st, const u64 *words, unsigned int n,
		     unsigned int size);
int keel_stack_peek(struct keel_emu *emu, unsigned int offset, u64 *val, unsigned int size);

/* iret.c */
int keel_far_return_check(struct keel_emu *emu, u16 selector, struct keel_far_return *back);
int keel_far_return_outer(struct keel_emu *emu, struct keel_far_return *back);
int keel_exec_iret(struct keel_emu *emu);

/* interrupt.c */
int keel_exec_int(struct keel_emu *emu);

/* taskswitch.c */
int keel_task_switch(struct keel_emu *emu, const struct keel_emu_task *task);

/* segment.c */
void keel_load_real(struct keel_emu *emu, unsigned int sreg, u16 selector);

#endif
