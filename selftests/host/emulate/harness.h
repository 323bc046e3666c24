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

/* Leaf rows of all tables: call @fn for each. */
void for_each_row(void (*fn)(const struct keel_op *row, const char *path));

/* Was this row executed (or, rows without execution, decoded) by a case? */
bool row_was_hit(const struct keel_op *row);
void row_hit(const struct keel_op *row);

#endif
