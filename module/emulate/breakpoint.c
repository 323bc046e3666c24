// SPDX-License-Identifier: GPL-2.0-only
/*
 * The debug registers for what the emulator does itself: data and I/O breakpoints, which trap after
 * the instruction (or after the iteration of a REP), and code breakpoints, which fault before it.
 *
 * Hardware has looked at code breakpoints already when an instruction exits half-way; only a caller
 * that runs instructions from the start asks for them.
 *
 * SDM vol 3 chapters 17.2 and 17.3.1; APM vol 2 chapter 13.1.
 */
#include "internal.h"

#define RW_EXECUTE	0
#define RW_WRITE	1
#define RW_PORT		2
#define RW_ACCESS	3

/* Which of the four registers cover [@addr, @addr + @len) for a kind of access, a mask */
static u32 matches(struct keel_emu *emu, u32 dr7, u64 addr, unsigned int len, unsigned int kinds)
{
	static const u8 lengths[4] = { 1, 2, 8, 4 };
	unsigned int i, size;
	u32 hits = 0;
	u64 base;

	for (i = 0; i < 4; i++) {
		if (!(dr7 >> 2 * i & 3) || !(kinds & 1 << (dr7 >> (16 + 4 * i) & 3)))
			continue;
		size = lengths[dr7 >> (18 + 4 * i) & 3];
		base = emu->ops->get_watch(emu, i) & ~(u64)(size - 1);
		if (addr < base + size && base < addr + len)
			hits |= 1 << i;
	}
	return hits;
}

/* A data access of the instruction; not of the CPU on its own behalf. */
void keel_watch_memory(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc)
{
	unsigned int kinds = 1 << RW_ACCESS | (acc & KEEL_EMU_ACC_WRITE ? 1 << RW_WRITE : 0);

	if (!emu->watch || (acc & (KEEL_EMU_ACC_SYSTEM | KEEL_EMU_ACC_FETCH)))
		return;
	emu->watch_hits |= matches(emu, emu->watch, la, len, kinds);
}

void keel_watch_port(struct keel_emu *emu, u16 port, unsigned int size)
{
	if (emu->watch && (emu->ops->get_cr(emu, 4) & CR4_DE))
		emu->watch_hits |= matches(emu, emu->watch, port, size, 1 << RW_PORT);
}

/**
 * keel_emu_code_breakpoint() - does a breakpoint stop the instruction at CS:RIP?
 * @emu: registers and mode set
 *
 * RF holds them off. emu->db_trap gets the bits for DR6.
 *
 * Return: true if #DB is due as a fault, before the instruction
 */
bool keel_emu_code_breakpoint(struct keel_emu *emu)
{
	u32 dr7 = emu->ops->get_watch(emu, 7);
	struct keel_emu_seg cs;
	u64 la = emu->rip;

	emu->db_trap = 0;
	if (!(dr7 & DR7_ENABLES) || (emu->rflags & FL_RF))
		return false;
	if (emu->mode != KEEL_EMU_PROT64) {
		emu->ops->get_seg(emu, KEEL_CS, &cs);
		la = (u32)(cs.base + la);
	}
	emu->db_trap = matches(emu, dr7, la, 1, 1 << RW_EXECUTE);
	return emu->db_trap;
}
