// SPDX-License-Identifier: GPL-2.0-only
/* Guest memory, its map as Linux gets it, sizes as the user types them, and the MP table. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "boot.h"
#include "tap.h"

static struct keel_memory *memory(uint64_t size)
{
	struct keel_memory *mem;

	if (keel_memory_create(size, &mem)) {
		printf("Bail out! %s\n", keel_error());
		exit(1);
	}
	return mem;
}

static void create_refuses(void)
{
	struct keel_memory *mem;

	CHECK_EQ(keel_memory_create(0, &mem), -EINVAL);
	CHECK_EQ(keel_memory_create(KEEL_MIB, &mem), -EINVAL);
	CHECK_EQ(keel_memory_create(64 * KEEL_MIB + 1, &mem), -EINVAL);
	CHECK_EQ(keel_memory_create(1ULL << 60, &mem), -ENOMEM);
	CHECK_EQ(keel_memory_create(UINT64_MAX & ~0xfffULL, &mem), -ENOMEM);
}

static void ranges(void)
{
	struct keel_memory *mem = memory(64 * KEEL_MIB);
	uint8_t *base = keel_memory_at(mem, 0, 1);

	CHECK_EQ((uintptr_t)base % (2 * KEEL_MIB), 0);
	CHECK_EQ(keel_memory_low(mem), 64 * KEEL_MIB);
	CHECK_EQ(keel_memory_high(mem), 0);
	CHECK(keel_memory_at(mem, 0, 64 * KEEL_MIB) == base);
	CHECK(keel_memory_at(mem, 0, 64 * KEEL_MIB + 1) == NULL);
	CHECK(keel_memory_at(mem, 64 * KEEL_MIB - 1, 1) == base + 64 * KEEL_MIB - 1);
	CHECK(keel_memory_at(mem, 64 * KEEL_MIB - 1, 2) == NULL);
	CHECK(keel_memory_at(mem, 1, UINT64_MAX) == NULL);
	CHECK(keel_memory_at(mem, UINT64_MAX, 2) == NULL);
	CHECK(keel_memory_at(mem, KEEL_HIGH_BASE, 1) == NULL);
	keel_memory_destroy(mem);
}

static void populate(void)
{
	struct keel_memory *mem = memory(64 * KEEL_MIB);
	static unsigned char there[64 * KEEL_MIB / 4096];
	size_t pages = 0;

	CHECK_EQ(keel_memory_populate(mem), 0);
	CHECK_EQ(mincore(keel_memory_at(mem, 0, 1), 64 * KEEL_MIB, there), 0);
	for (size_t i = 0; i < sizeof(there); i++)
		pages += there[i] & 1;
	CHECK_EQ(pages, sizeof(there));
	/* A hole stands for memory that the host does not have. */
	CHECK_EQ(munmap(keel_memory_at(mem, 0, 1), 4096), 0);
	CHECK_EQ(keel_memory_populate(mem), -ENOMEM);
	CHECK(strstr(keel_error(), "64 MiB"));
	keel_memory_destroy(mem);
}

static void high_range(void)
{
	struct keel_memory *mem;
	uint8_t *base;

	/* the host may be too small for this one, and says so */
	if (keel_memory_create(KEEL_LOW_MAX + 16 * KEEL_MIB, &mem)) {
		printf("# skipped: %s\n", keel_error());
		return;
	}
	base = keel_memory_at(mem, 0, 1);
	CHECK_EQ(keel_memory_low(mem), KEEL_LOW_MAX);
	CHECK_EQ(keel_memory_high(mem), 16 * KEEL_MIB);
	CHECK(keel_memory_at(mem, KEEL_LOW_MAX - 1, 2) == NULL);
	CHECK(keel_memory_at(mem, KEEL_HIGH_BASE - 1, 1) == NULL);
	CHECK(keel_memory_at(mem, KEEL_HIGH_BASE, 16 * KEEL_MIB) == base + KEEL_LOW_MAX);
	CHECK(keel_memory_at(mem, KEEL_HIGH_BASE + 1, 16 * KEEL_MIB) == NULL);
	keel_memory_destroy(mem);
}

static void e820_small(void)
{
	struct keel_memory *mem = memory(64 * KEEL_MIB);
	struct boot_e820_entry map[8];
	unsigned int n = keel_e820_build(mem, map, 8);
	uint64_t ram = 0;

	CHECK_EQ(n, 5);
	for (unsigned int i = 0; i < n; i++) {
		CHECK(map[i].size > 0);
		CHECK(i == 0 || map[i].addr >= map[i - 1].addr + map[i - 1].size);
		if (map[i].type == 1) {
			CHECK(keel_memory_at(mem, map[i].addr, map[i].size));
			/* no RAM in the VGA and BIOS hole */
			CHECK(map[i].addr + map[i].size <= 0xa0000 || map[i].addr >= 0x100000);
			ram += map[i].size;
		}
	}
	CHECK_EQ(ram, 64 * KEEL_MIB - 0x100000 + 0x9fc00);
	CHECK_EQ(keel_e820_build(mem, map, 2), 2);
	keel_memory_destroy(mem);
}

static void e820_large(void)
{
	struct boot_e820_entry map[8];
	struct keel_memory *mem;
	unsigned int n;

	if (keel_memory_create(KEEL_LOW_MAX + 16 * KEEL_MIB, &mem)) {
		printf("# skipped: %s\n", keel_error());
		return;
	}
	n = keel_e820_build(mem, map, 8);
	CHECK_EQ(n, 6);
	CHECK_EQ(map[3].addr + map[3].size, KEEL_LOW_MAX);
	CHECK_EQ(map[5].addr, KEEL_HIGH_BASE);
	CHECK_EQ(map[5].size, 16 * KEEL_MIB);
	CHECK_EQ(map[5].type, 1);
	keel_memory_destroy(mem);
}

static void sizes(void)
{
	static const struct { const char *text; int ret; uint64_t bytes; } cases[] = {
		{ "512", 0, 512 * KEEL_MIB }, { "512M", 0, 512 * KEEL_MIB },
		{ "2g", 0, 2 * KEEL_GIB },
		{ "1024k", 0, KEEL_MIB }, { "1T", 0, 1024 * KEEL_GIB }, { "0", 0, 0 },
		{ "", -EINVAL, 0 }, { "-1", -EINVAL, 0 }, { "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 }, { "1X", -EINVAL, 0 }, { "1MB", -EINVAL, 0 },
		{ "M", -EINVAL, 0 }, { "1.5G", -EINVAL, 0 }, { "0x10", -EINVAL, 0 },
		{ "99999999999999999999", -ERANGE, 0 },
		{ "17592186044416", -ERANGE, 0 }, { "16777216T", -ERANGE, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = 0;

		CHECK_EQ(keel_parse_size(cases[i].text, &bytes), cases[i].ret);
		CHECK_EQ(bytes, cases[i].bytes);
	}
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s += *p++;
	return s;
}

/* Reads the table as a guest does: by the pointer, the lengths and the entry types. */
static void mptable_for(struct keel_memory *mem, unsigned int cpus, unsigned int pin)
{
	const uint8_t *pointer = keel_memory_at(mem, 0xf0000, 16), *table, *e;
	unsigned int seen[5] = { 0 }, boot_cpus = 0, timer_pin = 99, entries, length;
	uint32_t at;

	CHECK_EQ(keel_mptable_write(mem, cpus, pin), 0);
	CHECK(!memcmp(pointer, "_MP_", 4));
	CHECK_EQ(sum(pointer, 16), 0);
	memcpy(&at, pointer + 4, 4);
	CHECK(at >= 0xf0000 && at < 0x100000);
	table = keel_memory_at(mem, at, 44);
	CHECK(!memcmp(table, "PCMP", 4));
	length = table[4] | table[5] << 8;
	entries = table[34] | table[35] << 8;
	CHECK(at + length <= 0x100000);
	CHECK_EQ(sum(table, length), 0);
	for (e = table + 44; entries; entries--) {
		CHECK(e[0] <= 4);
		if (e[0] > 4)
			return;
		if (e[0] == 0) {
			CHECK_EQ(e[1], seen[0]);
			CHECK(e[3] & 1);
			boot_cpus += e[3] >> 1 & 1;
		}
		if (e[0] == 2)
			CHECK_EQ(e[1], cpus);
		if (e[0] == 3 && e[4] == 0 && e[5] == 0)
			timer_pin = e[7];
		seen[e[0]]++;
		e += e[0] == 0 ? 20 : 8;
	}
	CHECK_EQ(e - table, length);
	CHECK_EQ(seen[0], cpus);
	CHECK_EQ(boot_cpus, 1);
	CHECK_EQ(seen[1], 2);			/* ISA and PCI */
	CHECK_EQ(seen[2], 1);
	CHECK_EQ(seen[3], 15 + 31);		/* ISA interrupts, pins of PCI slots */
	CHECK_EQ(seen[4], 2);
	CHECK_EQ(timer_pin, pin);
}

static void mptable(void)
{
	struct keel_memory *mem = memory(64 * KEEL_MIB);

	mptable_for(mem, 254, 2);
	mptable_for(mem, 2, 0);
	mptable_for(mem, 1, 2);
	CHECK_EQ(keel_mptable_write(mem, 0, 2), -EINVAL);
	CHECK_EQ(keel_mptable_write(mem, 255, 2), -EINVAL);
	keel_memory_destroy(mem);
}

TESTS(TEST(create_refuses), TEST(ranges), TEST(populate), TEST(high_range), TEST(e820_small), TEST(e820_large),
      TEST(sizes), TEST(mptable));
