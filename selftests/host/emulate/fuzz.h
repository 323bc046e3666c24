/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The parts of the comparison with the CPU: fuzz_gen.c makes a trial (an instruction and a state),
 * fuzz_side.c has the emulator execute it in a model of the sandbox, fuzz_diff.c compares with what
 * native.c saw.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "harness.h"
#include "internal.h"
#include "native.h"

struct trial {
	enum keel_emu_mode mode;
	u8 code[32];
	unsigned int len;
	struct keel_insn insn;
	struct native_state start;
	u64 operand_la;		/* linear address of the memory operand, if any */
	u8 mem[SANDBOX_BYTES];
};

/* fuzz_gen.c */
void gen_init(u64 seed);
/* False: try again. */
bool gen_trial(struct trial *t);
/* Why user mode on this machine cannot be asked to run this row, or NULL. */
const char *gen_excluded(const struct keel_op *row, const struct row_path *path);

/* fuzz_side.c */
struct side {
	struct keel_emu emu;
	u8 mem[SANDBOX_BYTES];
	u8 vec[16][32];
	u8 mm[8][8];
	struct keel_emu_seg seg[KEEL_NR_SEGS];
};

/* What a selector gives, as the sandbox's tables have it. */
struct keel_emu_seg side_segment(u16 selector);
int side_run(const struct trial *t, struct side *s);
u64 side_linear_rip(const struct side *s);

static inline enum keel_emu_mode mode_of_cs(u16 cs)
{
	return cs == USER_CS ? KEEL_EMU_PROT64 : cs == LDT_SEL(LDT_CODE16) ? KEEL_EMU_PROT16 :
	       KEEL_EMU_PROT32;
}

#endif
