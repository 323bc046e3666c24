/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The rows of the opcode table, one by one, and what is to be known of them by those who try them all: the unit tests,
 * the comparison with the CPU, and guests that run them (selftests/guest/forms.c).
 */
#ifndef TABLE_H
#define TABLE_H

#include "../../../module/emulate/emulate.h"
#include "../../../module/emulate/optable.h"

/* RFLAGS bits that @insn leaves undefined when executed on registers @gpr. */
u64 undefined_flags(const struct keel_insn *insn, const u64 *gpr);

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

/* Does the CPU that this runs on have the row's instruction, as far as it depends on a feature? */
bool row_on_this_cpu(const struct keel_op *row, const struct row_path *path);

#endif
