// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bus: finds the device that an I/O port or a guest physical address belongs to.
 *
 * One sorted table for each of the two address spaces. Regions are added before the vCPUs run and
 * never change after, so lookups need no lock; each device serialises its own registers. Only the
 * counts of accesses that nobody claims, kept by address for the statistics, have a lock. Where
 * nobody answers, reads float high, as on an ISA bus: Linux takes that for an absent device.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct region {
	uint64_t base, size;
	const struct keel_bus_ops *ops;
	void *dev;
	atomic_ulong reads, writes;
};

/* Addresses that nobody claims: the first so many by themselves, the rest in one count. */
#define UNCLAIMED_MAX	64

struct unclaimed {
	uint64_t addr;
	unsigned long count;
};

struct space {
	struct region **region;
	size_t count;
	struct unclaimed unclaimed[UNCLAIMED_MAX];
	size_t unclaimed_count;
	unsigned long unclaimed_rest;
};

struct keel_bus {
	pthread_mutex_t unclaimed_lock;
	struct space space[KEEL_SPACES];
};

int keel_bus_create(struct keel_bus **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return keel_fail(ENOMEM, "out of memory");
	pthread_mutex_init(&(*out)->unclaimed_lock, NULL);
	return 0;
}

void keel_bus_destroy(struct keel_bus *bus)
{
	if (!bus)
		return;
	for (int s = 0; s < KEEL_SPACES; s++) {
		for (size_t i = 0; i < bus->space[s].count; i++)
			free(bus->space[s].region[i]);
		free(bus->space[s].region);
	}
	pthread_mutex_destroy(&bus->unclaimed_lock);
	free(bus);
}

/* Index of the first region that ends beyond @addr. */
static size_t space_find(const struct space *s, uint64_t addr)
{
	size_t lo = 0, hi = s->count;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct region *r = s->region[mid];

		if (addr > r->base && addr - r->base >= r->size)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int keel_bus_add(struct keel_bus *bus, enum keel_space space, uint64_t base, uint64_t size,
		 const struct keel_bus_ops *ops, void *dev)
{
	struct space *s = &bus->space[space];
	size_t at = space_find(s, base);
	struct region **table, *r;

	if (!size || base + (size - 1) < base)
		return keel_fail(EINVAL, "%s: region at 0x%llx has a bad size", ops->name,
				 (unsigned long long)base);
	if (at < s->count && s->region[at]->base <= base + (size - 1))
		return keel_fail(EEXIST, "%s: region at 0x%llx overlaps %s", ops->name,
				 (unsigned long long)base, s->region[at]->ops->name);
	r = calloc(1, sizeof(*r));
	table = r ? realloc(s->region, (s->count + 1) * sizeof(*table)) : NULL;
	if (!table) {
		free(r);
		return keel_fail(ENOMEM, "out of memory");
	}
	r->base = base;
	r->size = size;
	r->ops = ops;
	r->dev = dev;
	memmove(table + at + 1, table + at, (s->count - at) * sizeof(*table));
	table[at] = r;
	s->region = table;
	s->count++;
	return 0;
}

static void region_access(struct region *r, uint64_t offset, uint8_t *data, unsigned int size,
			  bool write)
{
	uint64_t value = 0;

	if (write) {
		memcpy(&value, data, size);
		atomic_fetch_add_explicit(&r->writes, 1, memory_order_relaxed);
		r->ops->write(r->dev, offset, value, size);
	} else {
		atomic_fetch_add_explicit(&r->reads, 1, memory_order_relaxed);
		value = r->ops->read(r->dev, offset, size);
		memcpy(data, &value, size);
	}
}

static void unclaimed_count(struct keel_bus *bus, struct space *s, uint64_t addr)
{
	size_t i = 0;

	pthread_mutex_lock(&bus->unclaimed_lock);
	while (i < s->unclaimed_count && s->unclaimed[i].addr != addr)
		i++;
	if (i < UNCLAIMED_MAX) {
		if (i == s->unclaimed_count)
			s->unclaimed[s->unclaimed_count++].addr = addr;
		s->unclaimed[i].count++;
	} else {
		s->unclaimed_rest++;
	}
	pthread_mutex_unlock(&bus->unclaimed_lock);
}

void keel_bus_access(struct keel_bus *bus, enum keel_space space, uint64_t addr, void *data,
		     unsigned int size, bool write)
{
	struct space *s = &bus->space[space];
	size_t at = space_find(s, addr);
	struct region *r = at < s->count ? s->region[at] : NULL;

	if (r && addr >= r->base && size <= r->ops->width && size <= r->size - (addr - r->base)) {
		region_access(r, addr - r->base, data, size, write);
		return;
	}
	if (size > 1 && r && (addr >= r->base || r->base - addr < size)) {
		/* wider than the device, or across its edge: byte by byte, as the ISA bus does */
		for (unsigned int i = 0; i < size; i++)
			keel_bus_access(bus, space, addr + i, (uint8_t *)data + i, 1, write);
		return;
	}
	unclaimed_count(bus, s, addr);
	if (!write)
		memset(data, 0xff, size);
}

void keel_bus_stats(struct keel_bus *bus, FILE *to)
{
	static const char *const name[] = { [KEEL_PIO] = "port", [KEEL_MMIO] = "mmio" };

	for (int i = 0; i < KEEL_SPACES; i++) {
		struct space *s = &bus->space[i];

		for (size_t j = 0; j < s->count; j++) {
			struct region *r = s->region[j];

			if (!r->reads && !r->writes)
				continue;
			fprintf(to, "  %s 0x%-6llx %-12s %10lu reads %10lu writes\n", name[i],
				(unsigned long long)r->base, r->ops->name, r->reads, r->writes);
		}
		for (size_t j = 0; j < s->unclaimed_count; j++)
			fprintf(to, "  %s 0x%-6llx %-12s %10lu accesses\n", name[i],
				(unsigned long long)s->unclaimed[j].addr, "unclaimed",
				s->unclaimed[j].count);
		if (s->unclaimed_rest)
			fprintf(to, "  %s others   %-12s %10lu accesses\n", name[i], "unclaimed",
				s->unclaimed_rest);
	}
}
