/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Runs one instruction on the real CPU in user mode, 64-bit or compatibility mode, on chosen
 * registers and a sandbox of five pages, and tells how it ended.
 *
 * The code page is full of INT3, so every instruction ends in a signal: INT3 after it or at its
 * branch target, or its own fault. The handler on an alternate stack reads all registers from the
 * signal frame.
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

struct native_state {
	u64 gpr[KEEL_NR_GPRS];
	u64 rip;
	u64 rflags;
	u8 vec[16][32];
};

/* How it ended: vector 3 at @state.rip for a completed instruction. */
struct native_end {
	unsigned int vector;
	u32 error;
	u64 cr2;
};

/* Map the sandbox and catch signals. False if this machine cannot. */
bool native_init(void);
bool native_has_avx(void);
/* RAM and read-only pages: set the contents. */
void native_fill(const u8 *bytes);
const u8 *native_memory(void);
/* @state in and out. @bits: 64 or 32 */
void native_run(const u8 *code, unsigned int len, unsigned int bits, struct native_state *state,
		struct native_end *end);

#endif
