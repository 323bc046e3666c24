// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ACPI tables, read back as a guest reads them: from the RSDP to each table, with its checksum,
 * every MADT entry, and the DSDT's objects by a small AML reader; and the PM1 registers.
 */
#include <errno.h>

#include "boot.h"
#include "tap.h"

#define MEM	(64 * KEEL_MIB)

static struct keel_memory *mem;

static const uint8_t *at(uint64_t gpa, uint64_t len)
{
	const uint8_t *p = keel_memory_at(mem, gpa, len);

	CHECK(p && gpa >= BOOT_ACPI && gpa + len <= BOOT_KERNEL_MIN);
	if (!p)
		exit(1);
	return p;
}

static uint64_t number(const uint8_t *p, unsigned int size)
{
	uint64_t value = 0;

	memcpy(&value, p, size);
	return value;
}

static uint8_t sum(const uint8_t *p, uint32_t size)
{
	uint8_t total = 0;

	while (size--)
		total += *p++;
	return total;
}

/* The table at @gpa, checked; returns its length. */
static uint32_t table(uint64_t gpa, const char *signature, const uint8_t **out)
{
	uint32_t length = number(at(gpa, 8) + 4, 4);

	*out = at(gpa, length);
	CHECK(!memcmp(*out, signature, 4));
	CHECK(length >= 36);
	CHECK_EQ(sum(*out, length), 0);
	CHECK_EQ(gpa % 4, 0);
	return length;
}

struct found {
	const uint8_t *fadt, *madt, *dsdt;
	uint32_t madt_length, dsdt_length;
};

static struct found find(unsigned int cpus, unsigned int timer_pin)
{
	const uint8_t *rsdp, *xsdt, *facs;
	struct found f = { 0 };
	uint64_t gpa = 0;
	uint32_t length;

	if (keel_memory_create(MEM, &mem))
		exit(1);
	CHECK_EQ(keel_acpi_write(mem, cpus, timer_pin, &gpa), 0);
	/* where a BIOS may have it, for kernels that search */
	CHECK(gpa >= 0xe0000 && gpa < 0x100000 && !(gpa % 16));
	rsdp = at(gpa, 36);
	CHECK(!memcmp(rsdp, "RSD PTR ", 8));
	CHECK_EQ(sum(rsdp, 20), 0);
	CHECK_EQ(sum(rsdp, 36), 0);
	CHECK_EQ(rsdp[15], 2);
	CHECK_EQ(number(rsdp + 20, 4), 36);
	length = table(number(rsdp + 24, 8), "XSDT", &xsdt);
	CHECK_EQ(length, 36 + 2 * 8);
	CHECK_EQ(table(number(xsdt + 36, 8), "FACP", &f.fadt), 276);
	f.madt_length = table(number(xsdt + 44, 8), "APIC", &f.madt);
	CHECK_EQ(number(f.fadt + 40, 4), number(f.fadt + 140, 8));
	f.dsdt_length = table(number(f.fadt + 140, 8), "DSDT", &f.dsdt);
	facs = at(number(f.fadt + 36, 4), 64);
	CHECK(!memcmp(facs, "FACS", 4));
	CHECK_EQ(number(facs + 4, 4), 64);
	CHECK_EQ(number(f.fadt + 36, 4) % 64, 0);
	return f;
}

static void fadt(void)
{
	struct found f = find(1, 2);
	uint32_t flags = number(f.fadt + 112, 4);

	CHECK_EQ(number(f.fadt + 46, 2), 9);			/* SCI */
	CHECK_EQ(number(f.fadt + 48, 4), 0);			/* no SMI command: always ACPI */
	CHECK_EQ(number(f.fadt + 56, 4), KEEL_PM_PORT);
	CHECK_EQ(number(f.fadt + 64, 4), KEEL_PM_PORT + KEEL_PM_CONTROL);
	CHECK_EQ(f.fadt[88] + f.fadt[89], KEEL_PM_PORTS);
	CHECK_EQ(number(f.fadt + 148 + 4, 8), KEEL_PM_PORT);
	CHECK_EQ(f.fadt[148], 1);
	CHECK_EQ(f.fadt[148 + 1], 8 * f.fadt[88]);
	CHECK_EQ(number(f.fadt + 172 + 4, 8), KEEL_PM_PORT + KEEL_PM_CONTROL);
	CHECK_EQ(f.fadt[172 + 1], 8 * f.fadt[89]);
	CHECK_EQ(number(f.fadt + 76, 4), 0);			/* no PM timer */
	CHECK(flags & 1 << 10);					/* a reset register */
	CHECK(!(flags & 1 << 20));				/* not hardware-reduced */
	CHECK_EQ(f.fadt[116], 1);
	CHECK_EQ(number(f.fadt + 116 + 4, 8), KEEL_PORT_RESET);
	CHECK_EQ(f.fadt[128], KEEL_RESET_VALUE);
	keel_memory_destroy(mem);
}

static void madt_of(unsigned int cpus, unsigned int timer_pin)
{
	struct found f = find(cpus, timer_pin);
	unsigned int lapics = 0, ioapics = 0, overrides = 0, nmis = 0;
	const uint8_t *e;

	CHECK_EQ(number(f.madt + 36, 4), 0xfee00000);
	CHECK_EQ(number(f.madt + 40, 4), 1);
	for (uint32_t pos = 44; pos < f.madt_length; pos += e[1]) {
		e = f.madt + pos;
		CHECK(e[1] >= 2 && pos + e[1] <= f.madt_length);
		if (e[1] < 2)
			break;
		switch (e[0]) {
		case 0:
			CHECK_EQ(e[2], lapics);
			CHECK_EQ(e[3], lapics);
			CHECK_EQ(number(e + 4, 4), 1);
			lapics++;
			break;
		case 1:
			CHECK_EQ(number(e + 4, 4), 0xfec00000);
			CHECK_EQ(number(e + 8, 4), 0);
			ioapics++;
			break;
		case 2:
			CHECK_EQ(e[2], 0);
			if (e[3] == 0) {
				CHECK_EQ(number(e + 4, 4), timer_pin);
			} else {
				/* the SCI, and what PCI's pins end at */
				CHECK(e[3] >= 9 && e[3] <= 11);
				CHECK_EQ(number(e + 4, 4), e[3]);
				CHECK_EQ(number(e + 8, 2), e[3] == 9 ? 0xd : 0xf);
			}
			overrides++;
			break;
		case 4:
			CHECK_EQ(e[2], 0xff);
			CHECK_EQ(e[5], 1);
			nmis++;
			break;
		default:
			CHECK(!"an entry that is known");
		}
	}
	CHECK_EQ(lapics, cpus);
	CHECK_EQ(ioapics, 1);
	CHECK_EQ(overrides, timer_pin ? 4 : 3);
	CHECK_EQ(nmis, 1);
	keel_memory_destroy(mem);
}

static void madt(void)
{
	madt_of(1, 2);
	madt_of(4, 2);
	madt_of(4, 0);
	madt_of(KEEL_MAX_CPUS, 2);
}

/* What the AML reader saw. */
struct aml {
	unsigned int devices, processors, scopes, next_uid;
	unsigned int routed;		/* PCI slots with an interrupt */
	bool s5, bad;
};

static uint32_t aml_length(const uint8_t *p, unsigned int *bytes)
{
	unsigned int more = p[0] >> 6;
	uint32_t length = more ? p[0] & 0xf : p[0] & 0x3f;

	for (unsigned int i = 0; i < more; i++)
		length |= (uint32_t)p[1 + i] << (4 + 8 * i);
	*bytes = 1 + more;
	return length;
}

/* A data object; returns what lies behind it. */
static const uint8_t *aml_data(const uint8_t *p, const uint8_t *end, struct aml *a)
{
	unsigned int bytes;
	uint32_t length;

	switch (*p) {
	case 0x00: case 0x01:
		return p + 1;
	case 0x0a:
		return p + 2;
	case 0x0c:
		return p + 5;
	case 0x0d:
		return p + 1 + strlen((const char *)p + 1) + 1;
	case 0x11: case 0x12:
		length = aml_length(p + 1, &bytes);
		if (length > end - p - 1)
			a->bad = true;
		/* a buffer's size is that of what follows it; resources end with their end tag */
		if (*p == 0x11 && (p[1 + bytes] != 0x0a || p[2 + bytes] != length - bytes - 2 ||
				   p[1 + length - 2] != 0x79))
			a->bad = true;
		return p + 1 + length;
	default:
		a->bad = true;
		return end;
	}
}

/* A package of a package for each slot: address, pin, source, GSI. */
static void prt_read(const uint8_t *p, struct aml *a)
{
	unsigned int bytes;
	const uint8_t *e;

	aml_length(p + 1, &bytes);
	e = p + 2 + bytes;
	for (unsigned int slot = 0; slot < p[1 + bytes]; slot++) {
		uint32_t length = aml_length(e + 1, &bytes);
		const uint8_t *in_it = e + 1 + bytes;

		if (*e != 0x12 || in_it[0] != 4 || in_it[1] != 0x0c ||
		    number(in_it + 2, 4) != (slot << 16 | 0xffff) || in_it[6] || in_it[7] ||
		    in_it[8] != 0x0a || in_it[9] != 10 + slot % 2)
			a->bad = true;
		else
			a->routed++;
		e += 1 + length;
	}
}

static void aml_read(const uint8_t *p, const uint8_t *end, struct aml *a)
{
	unsigned int bytes;
	uint32_t length;

	while (p < end && !a->bad) {
		if (*p == 0x08) {
			if (!memcmp(p + 1, "_UID\x0a", 5) && p[6] != a->next_uid++)
				a->bad = true;
			if (!memcmp(p + 5, "\x0d" "ACPI0007", 10))
				a->processors++;
			if (!memcmp(p + 1, "_S5_", 4))
				a->s5 = p[5] == 0x12 && p[9] == 0x0a && p[10] == KEEL_PM_S5;
			if (!memcmp(p + 1, "_PRT", 4))
				prt_read(p + 5, a);
			p = aml_data(p + 5, end, a);
		} else if (*p == 0x10 || (*p == 0x5b && p[1] == 0x82)) {
			unsigned int op = *p == 0x10 ? 1 : 2;

			length = aml_length(p + op, &bytes);
			if (length > end - p - op) {
				a->bad = true;
				return;
			}
			if (op == 1)
				a->scopes++;
			else
				a->devices++;
			aml_read(p + op + bytes + (p[op + bytes] == '\\' ? 5 : 4), p + op + length, a);
			p += op + length;
		} else {
			a->bad = true;
		}
	}
	if (p != end)
		a->bad = true;
}

static void dsdt(void)
{
	static const unsigned int counts[] = { 1, 4, 255 - 1 };

	for (unsigned int i = 0; i < 3; i++) {
		struct found f = find(counts[i], 2);
		struct aml a = { 0 };

		aml_read(f.dsdt + 36, f.dsdt + f.dsdt_length, &a);
		CHECK(!a.bad);
		CHECK(a.s5);
		CHECK_EQ(a.processors, counts[i]);
		CHECK_EQ(a.devices, counts[i] + 4);
		CHECK_EQ(a.routed, 32);
		keel_memory_destroy(mem);
	}
}

static void eisa_id(void)
{
	struct found f = find(1, 2);
	bool seen = false;

	/* PNP0501 as ACPI 6.4, 19.3.4 encodes it */
	for (uint32_t i = 36; i + 5 < f.dsdt_length; i++)
		seen |= !memcmp(f.dsdt + i, "\x0c\x41\xd0\x05\x01", 5);
	CHECK(seen);
	keel_memory_destroy(mem);
}

static void refused_and_apart(void)
{
	const uint8_t *mp;
	uint64_t gpa = 0;

	if (keel_memory_create(MEM, &mem))
		exit(1);
	CHECK_EQ(keel_acpi_write(mem, 0, 2, &gpa), -EINVAL);
	CHECK_EQ(keel_acpi_write(mem, KEEL_MAX_CPUS + 1, 2, &gpa), -EINVAL);
	/* the MP table of the most CPUs leaves these alone, and the other way round */
	CHECK_EQ(keel_acpi_write(mem, KEEL_MAX_CPUS, 2, &gpa), 0);
	CHECK_EQ(keel_mptable_write(mem, KEEL_MAX_CPUS, 2), 0);
	CHECK_EQ(sum(at(gpa, 36), 36), 0);
	CHECK(!memcmp(keel_memory_at(mem, BOOT_BIOS, 4), "_MP_", 4));
	mp = keel_memory_at(mem, BOOT_BIOS + 16, BOOT_ACPI - BOOT_BIOS - 16);
	CHECK(number(mp + 4, 2) > 254 * 20 && number(mp + 4, 2) < BOOT_ACPI - BOOT_BIOS - 16);
	CHECK_EQ(sum(mp, number(mp + 4, 2)), 0);
	keel_memory_destroy(mem);
}

/* PM1 registers ---------------------------------------------------------------------------- */

static unsigned int offs;

static void off(void *opaque)
{
	(void)opaque;
	offs++;
}

static struct keel_bus *bus;

static uint64_t in(unsigned int offset, unsigned int size)
{
	uint64_t value = 0;

	keel_bus_access(bus, KEEL_PIO, KEEL_PM_PORT + offset, &value, size, false);
	return value;
}

static void out(unsigned int offset, uint64_t value, unsigned int size)
{
	keel_bus_access(bus, KEEL_PIO, KEEL_PM_PORT + offset, &value, size, true);
}

static bool sci_level;

static void sci_set(void *controller, unsigned int line, bool level)
{
	(void)controller;
	CHECK_EQ(line, 9);
	sci_level = level;
}

static void pm_registers(void)
{
	struct keel_power power = { .off = off };
	struct keel_irq sci = { .set = sci_set, .line = 9 };
	struct keel_pm *pm = NULL;

	if (keel_pm_create(&sci, &power, &pm) || keel_bus_create(&bus) ||
	    keel_bus_add(bus, KEEL_PIO, KEEL_PM_PORT, KEEL_PM_PORTS, &keel_pm_ops, pm))
		exit(1);
	offs = 0;
	CHECK_EQ(in(0, 2), 0);
	out(0, 0xffff, 2);
	CHECK_EQ(in(0, 2), 0);
	out(2, 0xffff, 2);
	CHECK_EQ(in(2, 2), 0x4721);
	out(0, 0x00200000, 4);
	CHECK_EQ(in(0, 4), 0x00200000);
	out(3, 0x01, 1);
	CHECK_EQ(in(2, 2), 0x0120);
	CHECK_EQ(in(4, 2), 1);			/* SCI_EN cannot be cleared */
	out(4, 0, 2);
	CHECK_EQ(in(4, 2), 1);
	/* a type alone does nothing, nor do other sleep types */
	out(4, KEEL_PM_S5 << 10, 2);
	CHECK_EQ(in(4, 2), KEEL_PM_S5 << 10 | 1);
	for (unsigned int type = 0; type < 8; type++) {
		if (type == KEEL_PM_S5)
			continue;
		out(4, 0x2000 | type << 10, 2);
		CHECK_EQ(offs, 0);
		CHECK_EQ(in(4, 2) & 0x2000, 0);
	}
	out(4, 0x2000 | KEEL_PM_S5 << 10, 2);
	CHECK_EQ(offs, 1);
	/* by its upper byte alone */
	out(5, 0x20 | KEEL_PM_S5 << 2, 1);
	CHECK_EQ(offs, 2);
	out(4, 0xff, 1);
	CHECK_EQ(offs, 2);
	/* the button: heard only while it is enabled, and until its status is cleared */
	out(2, 0, 2);
	CHECK(!keel_pm_button(pm));
	CHECK(!sci_level);
	CHECK_EQ(in(0, 2), 0x100);
	out(2, 0x100, 2);
	CHECK(sci_level);
	out(0, 0x100, 2);
	CHECK(!sci_level);
	CHECK_EQ(in(0, 2), 0);
	CHECK(keel_pm_button(pm));
	CHECK(sci_level);
	out(0, 0xfeff, 2);
	CHECK(sci_level);
	out(1, 1, 1);
	CHECK(!sci_level);
	keel_bus_destroy(bus);
	keel_pm_destroy(pm);
}

TESTS(TEST(fadt), TEST(madt), TEST(dsdt), TEST(eisa_id), TEST(refused_and_apart), TEST(pm_registers));
