// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest RAM: one anonymous host mapping, seen by the guest as one or two ranges.
 *
 * The first 3 GiB lie at gpa 0, the rest at 4 GiB, so that the devices' addresses below 4 GiB stay
 * free. The mapping begins at a 2 MiB boundary and the split is one too, so guest and host huge
 * pages line up. Nothing is reserved: the host gives pages as the guest touches them.
 * No locks: the layout never changes after creation.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define HUGE_SIZE	(2 * KEEL_MIB)

struct keel_memory {
	uint8_t *host;
	uint64_t low, high;
	void *map;
	size_t map_size;
};

static uint64_t host_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

	return pages > 0 && page > 0 ? (uint64_t)pages * page : UINT64_MAX;
}

int keel_memory_create(uint64_t size, struct keel_memory **out)
{
	uint64_t host = host_memory();
	struct keel_memory *mem;
	uintptr_t start;

	if (size % KEEL_PAGE_SIZE)
		return keel_fail(EINVAL, "memory size %llu is no multiple of 4 KiB",
				 (unsigned long long)size);
	if (size < KEEL_MEMORY_MIN)
		return keel_fail(EINVAL, "memory size of %llu KiB is too small: a guest needs "
				 "2 MiB and Linux some 100 MiB (-m 512M)",
				 (unsigned long long)size >> 10);
	if (size > host || size > SIZE_MAX - HUGE_SIZE)
		return keel_fail(ENOMEM, "memory size of %llu MiB is over the host's %llu MiB: "
				 "give less with -m", (unsigned long long)(size / KEEL_MIB),
				 (unsigned long long)(host / KEEL_MIB));

	mem = calloc(1, sizeof(*mem));
	if (!mem)
		return keel_fail(ENOMEM, "out of memory");
	mem->map_size = size + HUGE_SIZE;
	mem->map = mmap(NULL, mem->map_size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem->map == MAP_FAILED) {
		int err = errno;

		free(mem);
		return keel_fail(err, "cannot reserve %llu MiB for the guest: %s",
				 (unsigned long long)(size / KEEL_MIB), strerror(err));
	}
	start = ((uintptr_t)mem->map + HUGE_SIZE - 1) & ~(uintptr_t)(HUGE_SIZE - 1);
	mem->host = (uint8_t *)start;
	/* an optimisation only: hosts without transparent huge pages refuse it */
	(void)madvise(mem->host, size, MADV_HUGEPAGE);
	mem->low = size < KEEL_LOW_MAX ? size : KEEL_LOW_MAX;
	mem->high = size - mem->low;
	*out = mem;
	return 0;
}

int keel_memory_populate(struct keel_memory *mem)
{
	uint64_t size = mem->low + mem->high;
	int err;

	if (!madvise(mem->host, size, MADV_POPULATE_WRITE))
		return 0;
	err = errno;
	if (err == EINVAL)
		return keel_fail(err, "the host cannot have memory at once: that needs Linux 5.14");
	return keel_fail(err, "the host does not have %llu MiB for the guest: %s",
			 (unsigned long long)(size / KEEL_MIB), strerror(err));
}

void keel_memory_destroy(struct keel_memory *mem)
{
	if (!mem)
		return;
	munmap(mem->map, mem->map_size);
	free(mem);
}

void *keel_memory_at(const struct keel_memory *mem, uint64_t gpa, uint64_t len)
{
	if (gpa <= mem->low && len <= mem->low - gpa)
		return mem->host + gpa;
	if (gpa >= KEEL_HIGH_BASE && gpa - KEEL_HIGH_BASE <= mem->high &&
	    len <= mem->high - (gpa - KEEL_HIGH_BASE))
		return mem->host + mem->low + (gpa - KEEL_HIGH_BASE);
	return NULL;
}

uint64_t keel_memory_low(const struct keel_memory *mem)
{
	return mem->low;
}

uint64_t keel_memory_high(const struct keel_memory *mem)
{
	return mem->high;
}

void *keel_memory_host(const struct keel_memory *mem)
{
	return mem->host;
}

int keel_parse_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	unsigned int shift = 20;
	unsigned long long n;
	char *end;

	if (!isdigit((unsigned char)*text))
		goto invalid;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno == ERANGE)
		goto range;
	if (*end) {
		const char *unit = strchr(units, toupper((unsigned char)*end));

		if (!unit || end[1])
			goto invalid;
		shift = 10 * (unit - units + 1);
	}
	if (n > UINT64_MAX >> shift)
		goto range;
	*bytes = (uint64_t)n << shift;
	return 0;

invalid:
	return keel_fail(EINVAL, "'%s' is no size: give a number with K, M, G or T, as in 512M",
			 text);
range:
	return keel_fail(ERANGE, "size '%s' is too large", text);
}
