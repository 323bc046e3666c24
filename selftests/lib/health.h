/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the host has given to its kernel, to see what a test has left behind.
 */
#ifndef SELFTESTS_HEALTH_H
#define SELFTESTS_HEALTH_H

/* KiB: all that the kernel has taken for itself, and three parts of it; and kernel stacks, which are threads. */
struct meminfo {
	long kernel, slab, percpu, vmalloc, stacks;
};

/* Drops the caches and waits for half a second first: what waits for a grace period or in a cache is not lost. */
struct meminfo host_meminfo(void);
/* The bits of /proc/sys/kernel/tainted: warnings, oopses and the like. */
long host_taint(void);

#endif
