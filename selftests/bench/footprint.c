// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory is counted as pages that are not free any more: those of the zones and those that each CPU keeps at hand
 * (/proc/zoneinfo). So many things are made at a time that what else the host does makes no difference.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <x86intrin.h>
#include "footprint.h"
#include "guest.h"

#define MANY		128
#define WARM		64		/* made before, of what slabs have at hand */
#define TRIES		16
#define SETTLED_US	300000		/* what is freed late is free by then */

/* Guest memory of which many addresses mean the same page, so that a small host can map much. */
#define SLOT_SIZE	0x4000000UL
#define SLOTS		2
#define SLOTS_AT	0x10000000
#define PER_GIB		((1UL << 30) / (SLOTS * SLOT_SIZE))

GUEST(touch_all, 64,
	"mov $" STR(SLOTS_AT) ", %edi\n" "mov $0x8000, %ecx\n"
	"1: movb $1, (%rdi)\n" "add $4096, %rdi\n" "loop 1b\n" G_DONE);
_Static_assert(SLOTS * SLOT_SIZE == 0x8000 * 4096UL, "touch_all");

static long free_pages(void)
{
	FILE *zones = fopen("/proc/zoneinfo", "r");
	long pages = 0, n;
	char line[128];

	if (!zones)
		die("no /proc/zoneinfo");
	while (fgets(line, sizeof(line), zones))
		if (sscanf(line, " nr_free_pages %ld", &n) == 1 || sscanf(line, " count: %ld", &n) == 1)
			pages += n;
	fclose(zones);
	return pages;
}

static long settled(void)
{
	sync();
	usleep(SETTLED_US);
	return free_pages();
}

static int vm_with_irqchip(int dev)
{
	int vm = vm_create(dev);

	MUST(vm_ioctl(vm, KVM_CREATE_IRQCHIP, NULL));
	return vm;
}

/* What one more costs, of what @make makes in @parent. */
static double marginal(int parent, int (*make)(int parent, int nr))
{
	int fd[WARM + MANY], n;
	long before = 0, after;

	for (n = 0; n < WARM + MANY; n++) {
		if (n == WARM)
			before = settled();
		fd[n] = make(parent, n);
	}
	after = settled();
	while (n)
		close(fd[--n]);
	close(parent);
	return (before - after) * 4096.0 / MANY;
}

static int make_vm(int dev, int nr)
{
	return vm_with_irqchip(dev);
}

static int make_vcpu(int vm, int nr)
{
	return MUST(vm_ioctl(vm, KVM_CREATE_VCPU, (void *)(long)nr));
}

double vm_memory(void)
{
	return marginal(dev_open(), make_vm);
}

double vcpu_memory(void)
{
	int dev = dev_open(), vm = vm_with_irqchip(dev);

	close(dev);
	return marginal(vm, make_vcpu);
}

double mapped_memory(void)
{
	uint8_t *mem = mem_alloc(SLOT_SIZE);
	struct guest g;
	long before, after;
	int i;

	madvise(mem, SLOT_SIZE, MADV_NOHUGEPAGE);
	memset(mem, 1, SLOT_SIZE);
	guest_create(&g, 0);
	for (i = 0; i < SLOTS; i++)
		MUST(vm_set_slot(g.vm, 2 + i, 0, SLOTS_AT + i * SLOT_SIZE, SLOT_SIZE, mem));
	guest_start(&g, MODE_LONG, BLOB(touch_all));
	before = settled();
	if (guest_run(&g) != KVM_EXIT_IO || !guest_at_port(&g, PORT_DONE))
		die("mapped_memory: the guest did not end");
	after = settled();
	guest_destroy(&g);
	munmap(mem, SLOT_SIZE);
	return (before - after) * 4096.0 * PER_GIB;
}

double vm_lifetime(void)
{
	uint64_t begin, took, least = ~0ULL;
	uint8_t *mem = mem_alloc(GUEST_MEM_SIZE);
	int dev = dev_open(), vm, vcpu, i;

	memset(mem, 1, GUEST_MEM_SIZE);
	for (i = 0; i < TRIES; i++) {
		begin = __rdtsc();
		vm = vm_with_irqchip(dev);
		MUST(vm_set_slot(vm, 0, 0, 0, GUEST_MEM_SIZE, mem));
		vcpu = MUST(vm_ioctl(vm, KVM_CREATE_VCPU, 0));
		close(vcpu);
		close(vm);
		took = __rdtsc() - begin;
		if (took < least)
			least = took;
	}
	munmap(mem, GUEST_MEM_SIZE);
	close(dev);
	return least;
}
