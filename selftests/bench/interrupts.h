/* SPDX-License-Identifier: GPL-2.0-only */
/* See interrupts.c. */
#ifndef BENCH_INTERRUPTS_H
#define BENCH_INTERRUPTS_H

double external_interrupt(void);

#endif
