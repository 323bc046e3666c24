/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Two vCPUs that interrupt each other.
 */
#ifndef BENCH_IPI_H
#define BENCH_IPI_H

/* What the first vCPU of ipi_asleep() runs. */
extern const char pingpong_start[], pingpong_end[];

double ipi_asleep(void);	/* ticks from an IPI to the next, where each wakes a vCPU and its sender goes to sleep */
double ipi_running(void);	/* ticks for the sender of one to a vCPU that runs on another CPU; -1: there is none */

#endif
