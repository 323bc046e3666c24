/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Runs one instruction on the real CPU in user mode, in 64-bit, 32-bit or 16-bit code, on chosen
 * registers, segments and a sandbox of five pages, and tells how it ended.
 *
 * The code page is full of INT3, so every instruction ends in a signal: INT3 after it or at its
 * branch target, or its own fault. The handler on an alternate stack reads all registers from the
 * signal frame. 16-bit code and the data segments with limits come from an LDT.
 */
#ifndef NATIVE_H
#define NATIVE_H

#include "emulate.h"

#ifndef SANDBOX
#define SANDBOX		0x20000000UL	/* absent, two of RAM, read-only, absent */
#endif
#define SANDBOX_RAM	(SANDBOX + 0x1000)
#define SANDBOX_RO	(SANDBOX + 0x3000)
#define SANDBOX_END	(SANDBOX + 0x4000)
#define SANDBOX_BYTES	0x3000		/* RAM and read-only */
#define CODE_PAGE	0x40000000UL
#define CODE_START	(CODE_PAGE + 0x800)
#define CODE16_BASE	(CODE_PAGE - 0x8000)

#define USER_CS		0x33
#define USER32_CS	0x23
#define USER_DS		0x2b

/* Entries of the LDT; all have DPL 3. */
enum native_ldt {
	LDT_CODE16,		/* based at CODE16_BASE, ends with the code page */
	LDT_DATA16,		/* based at SANDBOX, 64 KiB */
	LDT_DATA32,		/* based at SANDBOX, ends in the second page of RAM */
	LDT_DOWN32,		/* expand-down, based at SANDBOX, from its second page of RAM on */
	LDT_DOWN16,		/* expand-down, 16-bit, from the middle of the first page of RAM on */
	LDT_READONLY,
	LDT_EXECONLY,
	LDT_CODE32,
	LDT_ABSENT,
	LDT_FLAT,
	LDT_CONFORMING,		/* not present either: Linux allows no other */
	LDT_NR
};

#define LDT_SEL(n)	((n) << 3 | 7)

struct native_state {
	u64 gpr[KEEL_NR_GPRS];
	u64 rip;
	u64 rflags;
	u64 fs_base, gs_base;	/* 64-bit code; not without FSGSBASE */
	u16 sel[8];		/* ES, CS, SS, DS, FS, GS */
	u8 vec[16][32];
	u8 mm[8][8];
};

/* How it ended: vector 3 at @state.rip for a completed instruction. */
struct native_end {
	unsigned int vector;
	u32 error;
	u64 cr2;
};

/* Map the sandbox, make the LDT, catch signals. False if this machine cannot. */
bool native_init(void);
bool native_has_avx(void);
bool native_has_fsgsbase(void);
/* The descriptor of an LDT entry as memory has it. */
u64 native_descriptor(enum native_ldt nr);
/* RAM and read-only pages: set the contents. */
void native_fill(const u8 *bytes);
const u8 *native_memory(void);
/* @state in and out; CS says what code it is. */
void native_run(const u8 *code, unsigned int len, struct native_state *state,
		struct native_end *end);

#endif
