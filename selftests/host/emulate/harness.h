/* SPDX-License-Identifier: GPL-2.0-only */
/* Shared by the unit tests and the comparison with the real CPU. */
#ifndef HARNESS_H
#define HARNESS_H

#include "emulate.h"
#include "optable.h"
#include "cases.h"

/* RFLAGS bits that @insn leaves undefined when executed on registers @gpr. */
u64 undefined_flags(const struct keel_insn *insn, const u64 *gpr);

/* Run one case; on failure a reason is in @why. */
bool run_case(const struct emu_case *c, char *why, unsigned int size);

/* How to get to a leaf row; -1 where any will do. */
struct row_path {
	bool vex;
	u8 map, opcode;
	s8 reg, rm;	/* of ModRM */
	s8 form;	/* 0 memory, 1 register */
	s8 prefix;	/* none, 66, F3, F2 */
	s8 mode64;	/* 0: not in 64-bit mode, 1: only there */
};

/* Leaf rows of all tables: call @fn for each. */
void for_each_row(void (*fn)(const struct keel_op *row, const struct row_path *path,
			     const char *name));

/* Was this row executed (or, rows without execution, decoded) by a case? */
bool row_was_hit(const struct keel_op *row);
void row_hit(const struct keel_op *row);

#endif
