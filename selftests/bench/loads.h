/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Instructions of the machine, the host's interrupts included, for 1,000 of a guest's: a thousand would be a guest that runs
 * directly without exception (the efficiency that Popek and Goldberg require of a VMM).
 */
#ifndef BENCH_LOADS_H
#define BENCH_LOADS_H

double load_compute(void);	/* arithmetic */
double load_syscall(void);	/* a program that does nothing but system calls */
double load_io(void);		/* a port of the kernel's is read every 500 instructions */

#endif
