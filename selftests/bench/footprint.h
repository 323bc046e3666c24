/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What VMs cost the host but instructions of exits: the kernel's memory, and their making. Each figure is measured anew
 * when it is called.
 */
#ifndef BENCH_FOOTPRINT_H
#define BENCH_FOOTPRINT_H

double vm_memory(void);		/* bytes of a VM with interrupt controllers and no vCPU */
double vcpu_memory(void);	/* bytes of a vCPU */
double mapped_memory(void);	/* bytes of page tables for a GiB of 4 KiB pages */
double vm_lifetime(void);	/* ticks: a VM with interrupt controllers, a slot and a vCPU is made, and closed */

#endif
