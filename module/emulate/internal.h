/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the emulator's files share among themselves: registers by operand size, faults, guest memory
 * through segmentation (mem.c), and the handlers that execute.c dispatches to.
 *
 * A handler may change emu->gpr and emu->rflags at any time: keel_emu_execute() restores them
 * unless the handler returns KEEL_EMU_OK. Writes to memory, ports and system registers come after
 * all that can fault. Functions that return int return enum keel_emu_status.
 */
#ifndef KEEL_EMULATE_INTERNAL_H
#define KEEL_EMULATE_INTERNAL_H

#include <linux/types.h>
#include <linux/kernel.h>
#include <linux/string.h>
#include "emulate.h"
#include "optable.h"

#define FL_CF		0x00000001ULL
#define FL_FIXED	0x00000002ULL
#define FL_PF		0x00000004ULL
#define FL_AF		0x00000010ULL
#define FL_ZF		0x00000040ULL
#define FL_SF		0x00000080ULL
#define FL_TF		0x00000100ULL
#define FL_IF		0x00000200ULL
#define FL_DF		0x00000400ULL
#define FL_OF		0x00000800ULL
#define FL_IOPL		0x00003000ULL
#define FL_NT		0x00004000ULL
#define FL_RF		0x00010000ULL
#define FL_VM		0x00020000ULL
#define FL_AC		0x00040000ULL
#define FL_VIF		0x00080000ULL
#define FL_VIP		0x00100000ULL
#define FL_ID		0x00200000ULL
#define FL_ALL		0x003f7fd7ULL
#define FL_STATUS	(FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

#define CR0_PE		0x00000001ULL
#define CR0_MP		0x00000002ULL
#define CR0_EM		0x00000004ULL
#define CR0_TS		0x00000008ULL
#define CR0_AM		0x00040000ULL
#define CR0_PG		0x80000000ULL
#define CR4_VME		0x00000001ULL
#define CR4_PVI		0x00000002ULL
#define CR4_TSD		0x00000004ULL
#define CR4_DE		0x00000008ULL
#define CR4_PCE		0x00000100ULL
#define CR4_OSFXSR	0x00000200ULL
#define CR4_UMIP	0x00000800ULL
#define CR4_LA57	0x00001000ULL
#define CR4_FSGSBASE	0x00010000ULL
#define CR4_OSXSAVE	0x00040000ULL
#define CR4_PKE		0x00400000ULL

#define MSR_EFER	0xc0000080
#define EFER_SCE	0x1
#define EFER_LMA	0x400
#define EFER_FFXSR	0x4000

#define DR6_BS		0x4000
#define DR7_ENABLES	0xff

#define VEC_DE		0
#define VEC_DB		1
#define VEC_BP		3
#define VEC_OF		4
#define VEC_BR		5
#define VEC_UD		6
#define VEC_NM		7
#define VEC_TS		10
#define VEC_NP		11
#define VEC_SS		12
#define VEC_GP		13
#define VEC_AC		17

/* Between the emulator's files only: no alignment check (#AC) for this access */
#define ACC_UNALIGNED	0x100

/* Attempts at a delivery or task switch that loses races for descriptors */
#define KEEL_EMU_RACES	16

/* Private to the emulator: a locked access of a descriptor lost its race, begin again */
#define EMU_LOST_RACE	(KEEL_EMU_TOO_LONG + 1)

/* A located operand; @val holds its value where one is read. */
struct operand {
	u8 kind;		/* enum keel_operand_kind; O_NONE: an immediate or implied value */
	bool mem;
	u8 size;
	u8 reg;
	u8 seg;
	u64 ea;
	u64 val;
};

static inline u64 size_mask(unsigned int size)
{
	return size >= 8 ? ~0ULL : (1ULL << (8 * size)) - 1;
}

static inline u64 sign_bit(unsigned int size)
{
	return 1ULL << (8 * size - 1);
}

static inline s64 sign_extend(u64 val, unsigned int size)
{
	unsigned int shift = 64 - 8 * size;

	return (s64)(val << shift) >> shift;
}

/* AH, CH, DH, BH: byte registers 4 to 7 without a REX prefix (SDM vol 2 3.1.1.1) */
static inline bool is_high_byte(const struct keel_emu *emu, unsigned int reg, unsigned int size)
{
	return size == 1 && reg >= 4 && reg < 8 && !emu->insn.rex;
}

static inline u64 gpr_read(const struct keel_emu *emu, unsigned int reg, unsigned int size)
{
	if (is_high_byte(emu, reg, size))
		return (emu->gpr[reg - 4] >> 8) & 0xff;
	return emu->gpr[reg] & size_mask(size);
}

/* Writes of 4 bytes clear the upper half (SDM vol 1 3.4.1.1). */
static inline void gpr_write(struct keel_emu *emu, unsigned int reg, unsigned int size, u64 val)
{
	u64 mask = size_mask(size);

	if (is_high_byte(emu, reg, size))
		emu->gpr[reg - 4] = (emu->gpr[reg - 4] & ~0xff00ULL) | (val & 0xff) << 8;
	else if (size == 4)
		emu->gpr[reg] = val & mask;
	else
		emu->gpr[reg] = (emu->gpr[reg] & ~mask) | (val & mask);
}

/* The same without the high-byte rule, for registers that an instruction implies. */
static inline void gpr_write_implied(struct keel_emu *emu, unsigned int reg, unsigned int size,
				     u64 val)
{
	u64 mask = size_mask(size);

	emu->gpr[reg] = size == 4 ? val & mask : (emu->gpr[reg] & ~mask) | (val & mask);
}

static inline bool mode_is_protected(const struct keel_emu *emu)
{
	return emu->mode >= KEEL_EMU_PROT16;
}

/* Exceptions push no error code in real mode. */
static inline int fault_code(struct keel_emu *emu, u8 vector, u32 error)
{
	bool real = emu->mode == KEEL_EMU_REAL;

	return keel_emu_fault(emu, vector, !real, real ? 0 : error);
}

static inline int fault_gp(struct keel_emu *emu, u32 error)
{
	return fault_code(emu, VEC_GP, error);
}

static inline int fault_ud(struct keel_emu *emu)
{
	return keel_emu_fault(emu, VEC_UD, false, 0);
}

static inline unsigned int iopl(const struct keel_emu *emu)
{
	return (emu->rflags & FL_IOPL) >> 12;
}

/* The register that VEX.vvvv names; its fourth bit counts only in 64-bit mode. */
static inline unsigned int vex_reg(const struct keel_emu *emu)
{
	return emu->insn.vex_vvvv & (emu->mode == KEEL_EMU_PROT64 ? 15 : 7);
}

static inline void flag_set(struct keel_emu *emu, u64 flag, bool on)
{
	emu->rflags = on ? emu->rflags | flag : emu->rflags & ~flag;
}

/* breakpoint.c */
void keel_watch_memory(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc);
void keel_watch_port(struct keel_emu *emu, u16 port, unsigned int size);

/* mem.c */
bool keel_is_canonical(struct keel_emu *emu, u64 la);
u64 keel_mem_ea(const struct keel_emu *emu);
int keel_mem_linear(struct keel_emu *emu, unsigned int seg, u64 ea, unsigned int len,
		    unsigned int acc, u64 *la);
int keel_seg_linear(struct keel_emu *emu, const struct keel_emu_seg *s, unsigned int seg, u64 ea,
		    unsigned int len, unsigned int acc, u64 *la);
int keel_mem_aligned(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc);
int keel_la_read(struct keel_emu *emu, u64 la, void *buf, unsigned int len, unsigned int acc);
int keel_la_write(struct keel_emu *emu, u64 la, const void *buf, unsigned int len,
		  unsigned int acc);
int keel_la_probe(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc);
int keel_mem_read(struct keel_emu *emu, unsigned int seg, u64 ea, void *buf, unsigned int len,
		  unsigned int acc);
int keel_mem_write(struct keel_emu *emu, unsigned int seg, u64 ea, const void *buf,
		   unsigned int len, unsigned int acc);
int keel_mem_cmpxchg(struct keel_emu *emu, unsigned int seg, u64 ea, void *old, const void *new,
		     unsigned int len);
unsigned int keel_stack_size(struct keel_emu *emu);
int keel_push(struct keel_emu *emu, u64 val, unsigned int size);
int keel_pop(struct keel_emu *emu, u64 *val, unsigned int size);

/* execute.c */
int keel_operand_locate(struct keel_emu *emu, unsigned int kind, struct operand *opnd);
int keel_operand_read(struct keel_emu *emu, struct operand *opnd, unsigned int acc);
int keel_operand_write(struct keel_emu *emu, struct operand *opnd);
void keel_emu_commit(struct keel_emu *emu);
void keel_emu_begin(struct keel_emu *emu);
int keel_emu_end(struct keel_emu *emu, int ret);

/* alu.c */
bool keel_condition(u64 rflags, unsigned int code);
int keel_alu(struct keel_emu *emu, unsigned int op, unsigned int size, u64 *dst, u64 src);
int keel_exec_decimal(struct keel_emu *emu);

/* muldiv.c */
int keel_exec_muldiv(struct keel_emu *emu, unsigned int size, u64 src);
u64 keel_mul_high(u64 a, u64 b, unsigned int size, u64 *lo);

/* bmi.c */
int keel_exec_bmi(struct keel_emu *emu);

/* flow.c */
int keel_branch(struct keel_emu *emu, u64 target, unsigned int size);
int keel_exec_flow(struct keel_emu *emu);

/* far.c, and through it iret.c and interrupt.c */
int keel_exec_far(struct keel_emu *emu);

/* syscall.c */
bool keel_is_amd(struct keel_emu *emu);
int keel_exec_syscall(struct keel_emu *emu);

/* string.c */
int keel_io_permitted(struct keel_emu *emu, u16 port, unsigned int size);
int keel_exec_string(struct keel_emu *emu);

/* vector.c */
int keel_exec_vector(struct keel_emu *emu);

/* system.c */
int keel_exec_system(struct keel_emu *emu);

/* segment.c */
int keel_load_segment(struct keel_emu *emu, unsigned int sreg, u16 selector);
int keel_exec_segment(struct keel_emu *emu);

#endif
