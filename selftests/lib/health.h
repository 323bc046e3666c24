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

/* Waits for half a second, drops the caches and shrinks the slabs first: what waits for a grace period or is kept is not lost. */
struct meminfo host_meminfo(void);
/* What each slab cache has, to see which of them is larger later. */
#define MAX_SLABS	512

struct slabs {
	struct slab_cache {
		char name[32];
		long kib, active;
	} cache[MAX_SLABS];
	int n;
};

void host_slabs(struct slabs *s);
/* As TAP comments, those that have grown by @kib since */
void host_slabs_print_grown(const struct slabs *before, long kib);
/* The bits of /proc/sys/kernel/tainted: warnings, oopses and the like. */
long host_taint(void);

#endif
