// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ACPI tables (ACPI specification 6.4, chapters 5 and 20): RSDP, XSDT, FADT, FACS, MADT and a
 * DSDT of a few dozen AML bytes, written one after another into the BIOS area.
 *
 * They describe the machine that mptable.c describes too. The FADT offers what pm.c answers, the
 * PM1 registers with the power button, and the chipset's reset register; there is no PM timer, because a guest would poll
 * it as a clock, at the price of an exit to userspace each time. The DSDT has the power-off state,
 * the processors, COM1, the keyboard controller and the real-time clock, and the PCI bus with its
 * windows and the interrupts that its devices' pins end at.
 *
 * A table is a stretch of bytes: a header, then put*() calls, then table_end(), which fills in
 * length and checksum. All numbers are little-endian, as on the host.
 */
#include <errno.h>
#include <string.h>

#include "boot.h"
#include "internal.h"
#include "pci.h"

#define LAPIC_GPA	0xfee00000u
#define IOAPIC_GPA	0xfec00000u
#define SCI_IRQ		KEEL_PM_IRQ

/* FADT: offset and meaning (ACPI 5.2.9) */
#define FADT_SIZE	276
#define FADT_FACS	36
#define FADT_DSDT	40
#define FADT_PROFILE	45
#define FADT_SCI	46
#define FADT_PM1_EVT	56
#define FADT_PM1_CNT	64
#define FADT_PM1_EVT_LEN	88
#define FADT_PM1_CNT_LEN	89
#define FADT_C2_LATENCY	96
#define FADT_C3_LATENCY	98
#define FADT_CENTURY	108
#define FADT_BOOT_ARCH	109
#define FADT_FLAGS	112
#define FADT_RESET_REG	116
#define FADT_RESET_VALUE	128
#define FADT_MINOR	131
#define FADT_X_DSDT	140
#define FADT_X_PM1_EVT	148
#define FADT_X_PM1_CNT	172

#define PROFILE_SERVER	4
/* ISA devices, a keyboard controller, no VGA */
#define BOOT_ARCH	(1 << 0 | 1 << 1 | 1 << 2)
/* WBINVD works, C1 works, no sleep button, no RTC wake-up, reset register, headless */
#define FLAGS		(1 << 0 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 10 | 1 << 12)
#define NO_C2		0xffff
#define NO_C3		0xffff

/* MADT entries (ACPI 5.2.12) */
enum { MADT_LAPIC, MADT_IOAPIC, MADT_OVERRIDE, MADT_LAPIC_NMI = 4 };
#define MADT_PCAT	1		/* a pair of PICs, too */
#define LAPIC_ENABLED	1
#define INTI_HIGH_LEVEL	0xd
#define INTI_LOW_LEVEL	0xf		/* as PCI has it */
#define ALL_PROCESSORS	0xff

/* AML (ACPI 20.2) */
#define AML_ZERO	0x00
#define AML_NAME	0x08
#define AML_BYTE	0x0a
#define AML_DWORD	0x0c
#define AML_STRING	0x0d
#define AML_SCOPE	0x10
#define AML_BUFFER	0x11
#define AML_PACKAGE	0x12
#define AML_EXT		0x5b
#define AML_DEVICE	0x82		/* behind AML_EXT */

struct writer {
	uint8_t *base;			/* host address of the area */
	uint32_t at, room;		/* bytes used, bytes there are */
	bool full;
};

static void put(struct writer *w, const void *data, uint32_t size)
{
	if (size > w->room - w->at) {
		w->full = true;
		return;
	}
	memcpy(w->base + w->at, data, size);
	w->at += size;
}

static void put8(struct writer *w, uint8_t value)
{
	put(w, &value, sizeof(value));
}

static void put16(struct writer *w, uint16_t value)
{
	put(w, &value, sizeof(value));
}

static void put32(struct writer *w, uint32_t value)
{
	put(w, &value, sizeof(value));
}

static void put64(struct writer *w, uint64_t value)
{
	put(w, &value, sizeof(value));
}

static void align(struct writer *w, uint32_t to)
{
	while (w->at % to && !w->full)
		put8(w, 0);
}

static uint64_t gpa(uint32_t at)
{
	return BOOT_ACPI + at;
}

static uint8_t checksum(const uint8_t *data, uint32_t size)
{
	uint8_t sum = 0;

	while (size--)
		sum += *data++;
	return -sum;
}

/* Tables ----------------------------------------------------------------------------------- */

#define HEADER_LENGTH	4
#define HEADER_CHECKSUM	9

static uint32_t table_begin(struct writer *w, const char *signature, uint8_t revision)
{
	uint32_t start;

	align(w, 16);
	start = w->at;
	put(w, signature, 4);
	put32(w, 0);			/* length: table_end() */
	put8(w, revision);
	put8(w, 0);			/* checksum: table_end() */
	put(w, "KEEL  ", 6);
	put(w, "KEELVM  ", 8);
	put32(w, 1);			/* OEM revision */
	put(w, "KEEL", 4);
	put32(w, 1);			/* creator's revision */
	return start;
}

static void table_end(struct writer *w, uint32_t start)
{
	uint32_t length = w->at - start;

	if (w->full)
		return;
	memcpy(w->base + start + HEADER_LENGTH, &length, sizeof(length));
	w->base[start + HEADER_CHECKSUM] = checksum(w->base + start, length);
}

static void fadt_port(uint8_t *at, uint16_t port, uint8_t bits, uint8_t access)
{
	/* generic address: system I/O, width, bit offset, access size, address */
	const uint8_t address[12] = { 1, bits, 0, access, port & 0xff, port >> 8 };

	memcpy(at, address, sizeof(address));
}

static uint32_t fadt_write(struct writer *w, uint32_t facs, uint32_t dsdt)
{
	uint32_t start = table_begin(w, "FACP", 6), flags = FLAGS, low;
	uint64_t high = gpa(dsdt);
	uint16_t c2 = NO_C2, c3 = NO_C3;
	uint8_t *t;

	for (uint32_t i = w->at - start; i < FADT_SIZE; i++)
		put8(w, 0);
	if (w->full)
		return start;
	t = w->base + start;
	low = gpa(facs);
	memcpy(t + FADT_FACS, &low, 4);
	low = gpa(dsdt);
	memcpy(t + FADT_DSDT, &low, 4);
	memcpy(t + FADT_X_DSDT, &high, 8);
	t[FADT_PROFILE] = PROFILE_SERVER;
	t[FADT_SCI] = SCI_IRQ;
	low = KEEL_PM_PORT;
	memcpy(t + FADT_PM1_EVT, &low, 4);
	low = KEEL_PM_PORT + KEEL_PM_CONTROL;
	memcpy(t + FADT_PM1_CNT, &low, 4);
	t[FADT_PM1_EVT_LEN] = KEEL_PM_CONTROL;
	t[FADT_PM1_CNT_LEN] = KEEL_PM_PORTS - KEEL_PM_CONTROL;
	fadt_port(t + FADT_X_PM1_EVT, KEEL_PM_PORT, 8 * KEEL_PM_CONTROL, 2);
	fadt_port(t + FADT_X_PM1_CNT, KEEL_PM_PORT + KEEL_PM_CONTROL,
		  8 * (KEEL_PM_PORTS - KEEL_PM_CONTROL), 2);
	memcpy(t + FADT_C2_LATENCY, &c2, 2);
	memcpy(t + FADT_C3_LATENCY, &c3, 2);
	t[FADT_CENTURY] = 0x32;
	t[FADT_BOOT_ARCH] = BOOT_ARCH;
	memcpy(t + FADT_FLAGS, &flags, 4);
	fadt_port(t + FADT_RESET_REG, KEEL_PORT_RESET, 8, 1);
	t[FADT_RESET_VALUE] = KEEL_RESET_VALUE;
	t[FADT_MINOR] = 4;
	table_end(w, start);
	return start;
}

/* The firmware control structure has a header of its own, and no checksum. */
static uint32_t facs_write(struct writer *w)
{
	uint32_t start;

	align(w, 64);
	start = w->at;
	put(w, "FACS", 4);
	put32(w, 64);
	for (int i = 0; i < 24; i++)
		put8(w, 0);
	put8(w, 2);			/* version */
	for (int i = 0; i < 31; i++)
		put8(w, 0);
	return start;
}

static void madt_override(struct writer *w, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	put8(w, MADT_OVERRIDE);
	put8(w, 10);
	put8(w, 0);			/* ISA */
	put8(w, irq);
	put32(w, gsi);
	put16(w, flags);
}

static uint32_t madt_write(struct writer *w, unsigned int cpus, unsigned int timer_pin)
{
	uint32_t start = table_begin(w, "APIC", 5);

	put32(w, LAPIC_GPA);
	put32(w, MADT_PCAT);
	for (unsigned int i = 0; i < cpus; i++) {
		put8(w, MADT_LAPIC);
		put8(w, 8);
		put8(w, i);		/* the processor's _UID */
		put8(w, i);		/* APIC id */
		put32(w, LAPIC_ENABLED);
	}
	put8(w, MADT_IOAPIC);
	put8(w, 12);
	put8(w, cpus & 0xff);		/* id */
	put8(w, 0);
	put32(w, IOAPIC_GPA);
	put32(w, 0);			/* first GSI */
	if (timer_pin)
		madt_override(w, 0, timer_pin, 0);
	madt_override(w, SCI_IRQ, SCI_IRQ, INTI_HIGH_LEVEL);
	madt_override(w, KEEL_PCI_IRQ_EVEN, KEEL_PCI_IRQ_EVEN, INTI_LOW_LEVEL);
	madt_override(w, KEEL_PCI_IRQ_ODD, KEEL_PCI_IRQ_ODD, INTI_LOW_LEVEL);
	put8(w, MADT_LAPIC_NMI);
	put8(w, 6);
	put8(w, ALL_PROCESSORS);
	put16(w, 0);
	put8(w, 1);			/* LINT1 */
	table_end(w, start);
	return start;
}

/* AML -------------------------------------------------------------------------------------- */

/*
 * An object with a package length, which counts itself: always in the two-byte form, so that it can
 * be filled in when the object ends (ACPI 20.2.4).
 */
static uint32_t aml_open(struct writer *w)
{
	put16(w, 0);
	return w->at - 2;
}

static void aml_close(struct writer *w, uint32_t start)
{
	uint32_t length = w->at - start;

	if (w->full)
		return;
	if (length > 0xfff) {
		w->full = true;
		return;
	}
	w->base[start] = 0x40 | (length & 0xf);
	w->base[start + 1] = length >> 4;
}

static uint32_t aml_device(struct writer *w, const char *name)
{
	uint32_t start;

	put8(w, AML_EXT);
	put8(w, AML_DEVICE);
	start = aml_open(w);
	put(w, name, 4);
	return start;
}

static void aml_name(struct writer *w, const char *name)
{
	put8(w, AML_NAME);
	put(w, name, 4);
}

static void aml_byte(struct writer *w, uint8_t value)
{
	put8(w, AML_BYTE);
	put8(w, value);
}

/* "PNP0501": three letters of five bits, then four hexadecimal digits, in big-endian order. */
static void aml_eisa_id(struct writer *w, const char *id)
{
	uint32_t value = (id[0] - '@') << 10 | (id[1] - '@') << 5 | (id[2] - '@');
	const char *digits = "0123456789ABCDEF";

	for (int i = 3; i < 7; i++)
		value = value << 4 | (uint32_t)(strchr(digits, id[i]) - digits);
	put8(w, AML_DWORD);
	put32(w, __builtin_bswap32(value));
}

struct isa_device {
	const char *name, *id;
	struct { uint16_t port; uint8_t count; } io[2];
	int irq;			/* -1: none */
};

/* Resource descriptors: ISA interrupt, edge, active high; ports, 16 bits decoded (ACPI 6.4.2). */
static void aml_resources(struct writer *w, const struct isa_device *dev)
{
	uint32_t start, size = 2;

	for (int i = 0; i < 2; i++)
		size += dev->io[i].count ? 8 : 0;
	if (dev->irq >= 0)
		size += 3;
	aml_name(w, "_CRS");
	put8(w, AML_BUFFER);
	start = aml_open(w);
	aml_byte(w, size);
	for (int i = 0; i < 2; i++) {
		if (!dev->io[i].count)
			continue;
		put8(w, 0x47);
		put8(w, 1);
		put16(w, dev->io[i].port);
		put16(w, dev->io[i].port);
		put8(w, 1);
		put8(w, dev->io[i].count);
	}
	if (dev->irq >= 0) {
		put8(w, 0x22);
		put16(w, 1 << dev->irq);
	}
	put8(w, 0x79);			/* end; checksum 0: none */
	put8(w, 0);
	aml_close(w, start);
}

static void aml_isa_device(struct writer *w, const struct isa_device *dev)
{
	uint32_t start = aml_device(w, dev->name);

	aml_name(w, "_HID");
	aml_eisa_id(w, dev->id);
	aml_resources(w, dev);
	aml_close(w, start);
}

/* Word address space descriptor of a producer: [@min, @min + @size) (ACPI 6.4.3.5.3). */
static void res_word(struct writer *w, uint8_t type, uint8_t flags, uint16_t min, uint16_t size)
{
	put8(w, 0x88);
	put16(w, 13);
	put8(w, type);
	put8(w, 0x0c);			/* minimum and maximum are fixed */
	put8(w, flags);
	put16(w, 0);			/* granularity */
	put16(w, min);
	put16(w, min + size - 1);
	put16(w, 0);			/* translation */
	put16(w, size);
}

static void res_dword_memory(struct writer *w, uint32_t min, uint32_t size)
{
	put8(w, 0x87);
	put16(w, 23);
	put8(w, 0);			/* memory */
	put8(w, 0x0c);
	put8(w, 1);			/* writable, not cacheable */
	put32(w, 0);
	put32(w, min);
	put32(w, min + size - 1);
	put32(w, 0);
	put32(w, size);
}

#define PCI_RESOURCES	(16 + 8 + 16 + 26 + 2)

/* _CRS of the root bridge: bus 0, the configuration ports (its own), and the two windows. */
static void aml_pci_resources(struct writer *w)
{
	uint32_t start;

	aml_name(w, "_CRS");
	put8(w, AML_BUFFER);
	start = aml_open(w);
	aml_byte(w, PCI_RESOURCES);
	res_word(w, 2, 0, 0, 1);
	put8(w, 0x47);
	put8(w, 1);
	put16(w, 0xcf8);
	put16(w, 0xcf8);
	put8(w, 1);
	put8(w, 8);
	res_word(w, 1, 3, KEEL_PCI_IO, KEEL_PCI_IO_SIZE);
	res_dword_memory(w, KEEL_PCI_MEM, KEEL_PCI_MEM_SIZE);
	put8(w, 0x79);
	put8(w, 0);
	aml_close(w, start);
}

/* _PRT: pin A of each slot, by GSI, since there is no router to be set (ACPI 6.2.13). */
static void aml_pci_routing(struct writer *w)
{
	uint32_t start, entry;

	aml_name(w, "_PRT");
	put8(w, AML_PACKAGE);
	start = aml_open(w);
	put8(w, PCI_SLOTS);
	for (unsigned int slot = 0; slot < PCI_SLOTS; slot++) {
		put8(w, AML_PACKAGE);
		entry = aml_open(w);
		put8(w, 4);
		put8(w, AML_DWORD);
		put32(w, slot << 16 | 0xffff);
		put8(w, AML_ZERO);
		put8(w, AML_ZERO);
		aml_byte(w, keel_pci_irq(slot));
		aml_close(w, entry);
	}
	aml_close(w, start);
}

static void aml_pci(struct writer *w)
{
	uint32_t start = aml_device(w, "PCI0");

	aml_name(w, "_HID");
	aml_eisa_id(w, "PNP0A03");
	aml_name(w, "_UID");
	put8(w, AML_ZERO);
	aml_name(w, "_BBN");
	put8(w, AML_ZERO);
	aml_pci_resources(w);
	aml_pci_routing(w);
	aml_close(w, start);
}

static void aml_processor(struct writer *w, unsigned int id)
{
	const char *digits = "0123456789ABCDEF";
	const char name[4] = { 'C', '0', digits[id >> 4 & 0xf], digits[id & 0xf] };
	uint32_t start = aml_device(w, name);

	aml_name(w, "_HID");
	put8(w, AML_STRING);
	put(w, "ACPI0007", 9);
	aml_name(w, "_UID");
	aml_byte(w, id);
	aml_close(w, start);
}

static void aml_power_off(struct writer *w)
{
	uint32_t start;

	aml_name(w, "_S5_");
	put8(w, AML_PACKAGE);
	start = aml_open(w);
	put8(w, 4);
	aml_byte(w, KEEL_PM_S5);
	aml_byte(w, KEEL_PM_S5);
	put8(w, AML_ZERO);
	put8(w, AML_ZERO);
	aml_close(w, start);
}

static uint32_t dsdt_write(struct writer *w, unsigned int cpus)
{
	static const struct isa_device devices[] = {
		{ "COM1", "PNP0501", { { 0x3f8, 8 } }, 4 },
		{ "KBD_", "PNP0303", { { 0x60, 1 }, { 0x64, 1 } }, 1 },
		{ "RTC_", "PNP0B00", { { 0x70, 2 } }, -1 },
	};
	uint32_t start = table_begin(w, "DSDT", 2), scope;

	aml_power_off(w);
	put8(w, AML_SCOPE);
	scope = aml_open(w);
	put(w, "\\_SB_", 5);
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		aml_isa_device(w, &devices[i]);
	aml_pci(w);
	aml_close(w, scope);
	/* a scope for each, since all of them may be longer than two bytes can say */
	for (unsigned int i = 0; i < cpus; i++) {
		put8(w, AML_SCOPE);
		scope = aml_open(w);
		put(w, "\\_SB_", 5);
		aml_processor(w, i);
		aml_close(w, scope);
	}
	table_end(w, start);
	return start;
}

/* -------------------------------------------------------------------------------------------- */

/* Version 2: the first checksum covers the 20 bytes of version 0, the second one all (ACPI 5.2.5). */
static void rsdp_write(uint8_t *at, uint64_t xsdt)
{
	struct {
		char signature[8];
		uint8_t checksum;
		char oem[6];
		uint8_t revision;
		uint32_t rsdt, length;
		uint64_t xsdt;
		uint8_t checksum_all, reserved[3];
	} __attribute__((packed)) rsdp = {
		.signature = { 'R', 'S', 'D', ' ', 'P', 'T', 'R', ' ' },
		.oem = { 'K', 'E', 'E', 'L', ' ', ' ' },
		.revision = 2, .length = sizeof(rsdp), .xsdt = xsdt,
	};

	rsdp.checksum = checksum((uint8_t *)&rsdp, 20);
	rsdp.checksum_all = checksum((uint8_t *)&rsdp, sizeof(rsdp));
	memcpy(at, &rsdp, sizeof(rsdp));
}

#define RSDP_SIZE	36

int keel_acpi_write(struct keel_memory *mem, unsigned int cpus, unsigned int timer_pin,
		    uint64_t *rsdp)
{
	struct writer w = { .room = BOOT_KERNEL_MIN - BOOT_ACPI, .at = RSDP_SIZE };
	uint32_t xsdt, facs, dsdt, fadt, madt;

	if (!cpus || cpus > KEEL_MAX_CPUS)
		return keel_fail(EINVAL, "a guest has 1 to %u CPUs", KEEL_MAX_CPUS);
	w.base = keel_memory_at(mem, BOOT_ACPI, w.room);
	memset(w.base, 0, w.room);
	facs = facs_write(&w);
	dsdt = dsdt_write(&w, cpus);
	fadt = fadt_write(&w, facs, dsdt);
	madt = madt_write(&w, cpus, timer_pin);
	xsdt = table_begin(&w, "XSDT", 1);
	put64(&w, gpa(fadt));
	put64(&w, gpa(madt));
	table_end(&w, xsdt);
	if (w.full)
		return keel_fail(ENOMEM, "the ACPI tables of %u CPUs are too large", cpus);
	rsdp_write(w.base, gpa(xsdt));
	*rsdp = BOOT_ACPI;
	return 0;
}
