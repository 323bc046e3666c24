/* SPDX-License-Identifier: GPL-2.0-only */
/* Shared by the unit tests and the comparison with the real CPU. */
#ifndef HARNESS_H
#define HARNESS_H

#include "emulate.h"
#include "optable.h"
#include "cases.h"
#include "table.h"

/* Run one case; on failure a reason is in @why. */
bool run_case(const struct emu_case *c, char *why, unsigned int size);

/* Was this row executed (or, rows without execution, decoded) by a case? */
bool row_was_hit(const struct keel_op *row);
void row_hit(const struct keel_op *row);

#endif
