// SPDX-License-Identifier: GPL-2.0-only
/*
 * The Intel MultiProcessor Specification's table (version 1.4, chapter 4), which tells a guest
 * without ACPI of its CPUs, its ISA bus, the I/O APIC and how the interrupts are wired.
 *
 * ISA interrupt n is pin n of the I/O APIC, except that the timer (0) has the pin that the VM's
 * routing gives it, on PCs 2, and that the PIC cascade (2) is wired nowhere. PCI devices' pins end at
 * two of them. LINT0 of every local
 * APIC is the PIC's output, LINT1 is NMI.
 */
#include <errno.h>
#include <string.h>

#include "boot.h"
#include "internal.h"
#include "pci.h"

#define LAPIC_GPA	0xfee00000u
#define IOAPIC_GPA	0xfec00000u
#define APIC_VERSION	0x14
#define IOAPIC_VERSION	0x11
#define ISA_IRQS	16
#define ALL_APICS	0xff
#define BUS_ISA		0
#define BUS_PCI		1
#define LOW_LEVEL	0xf

enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_IRQ, ENTRY_LOCAL };
enum { INT_VECTORED, INT_NMI, INT_SMI, INT_EXTINT };

struct mp_pointer {
	char signature[4];
	uint32_t table;
	uint8_t length, revision, checksum, feature[5];
} __attribute__((packed));

struct mp_header {
	char signature[4];
	uint16_t length;
	uint8_t revision, checksum;
	char oem[8], product[12];
	uint32_t oem_table;
	uint16_t oem_size, entries;
	uint32_t lapic;
	uint16_t ext_length;
	uint8_t ext_checksum, reserved;
} __attribute__((packed));

struct mp_cpu {
	uint8_t type, apic_id, apic_version, flags;
	uint32_t signature, features, reserved[2];
} __attribute__((packed));

struct mp_bus {
	uint8_t type, id;
	char name[6];
} __attribute__((packed));

struct mp_ioapic {
	uint8_t type, id, version, flags;
	uint32_t gpa;
} __attribute__((packed));

struct mp_int {
	uint8_t type, kind;
	uint16_t flags;
	uint8_t bus, irq, apic, pin;
} __attribute__((packed));

/* Writes one entry after another and counts them in the header. */
struct writer {
	uint8_t *at;
	struct mp_header *header;
};

static void put(struct writer *w, const void *entry, size_t size)
{
	memcpy(w->at, entry, size);
	w->at += size;
	w->header->length += size;
	w->header->entries++;
}

static uint8_t checksum(const void *data, size_t size)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	while (size--)
		sum += *p++;
	return -sum;
}

static void put_cpus(struct writer *w, unsigned int cpus)
{
	for (unsigned int i = 0; i < cpus; i++) {
		struct mp_cpu cpu = {
			.type = ENTRY_CPU, .apic_id = i, .apic_version = APIC_VERSION,
			.flags = 1 | (i == 0 ? 2 : 0),		/* enabled, boot CPU */
			.signature = 0x600, .features = 0x201,	/* FPU and APIC */
		};

		put(w, &cpu, sizeof(cpu));
	}
}

static void put_interrupts(struct writer *w, uint8_t ioapic, unsigned int timer_pin)
{
	for (unsigned int irq = 0; irq < ISA_IRQS; irq++) {
		struct mp_int e = {
			.type = ENTRY_IRQ, .kind = INT_VECTORED, .irq = irq, .apic = ioapic,
			.pin = irq == 0 ? timer_pin : irq,
		};

		if (irq != 2)
			put(w, &e, sizeof(e));
	}
	/* pin A of each PCI slot but the host bridge's */
	for (unsigned int slot = 1; slot < PCI_SLOTS; slot++)
		put(w, &(struct mp_int){
			.type = ENTRY_IRQ, .kind = INT_VECTORED, .flags = LOW_LEVEL, .bus = BUS_PCI,
			.irq = slot << 2, .apic = ioapic, .pin = keel_pci_irq(slot),
		}, sizeof(struct mp_int));
	put(w, &(struct mp_int){ .type = ENTRY_LOCAL, .kind = INT_EXTINT, .apic = ALL_APICS,
				 .pin = 0 }, sizeof(struct mp_int));
	put(w, &(struct mp_int){ .type = ENTRY_LOCAL, .kind = INT_NMI, .apic = ALL_APICS,
				 .pin = 1 }, sizeof(struct mp_int));
}

int keel_mptable_write(struct keel_memory *mem, unsigned int cpus, unsigned int timer_pin)
{
	const size_t room = BOOT_ACPI - BOOT_BIOS;
	uint8_t *area = keel_memory_at(mem, BOOT_BIOS, room);
	struct mp_pointer *pointer = (struct mp_pointer *)area;
	struct mp_header *header = (struct mp_header *)(area + sizeof(*pointer));
	struct writer w = { .at = (uint8_t *)(header + 1), .header = header };

	if (!cpus || cpus > KEEL_MAX_CPUS)
		return keel_fail(EINVAL, "a guest has 1 to %u CPUs", KEEL_MAX_CPUS);
	memset(area, 0, room);
	memcpy(header->signature, "PCMP", 4);
	header->length = sizeof(*header);
	header->revision = 4;
	memcpy(header->oem, "KEEL    ", 8);
	memcpy(header->product, "KEEL VM     ", 12);
	header->lapic = LAPIC_GPA;

	put_cpus(&w, cpus);
	put(&w, &(struct mp_bus){ .type = ENTRY_BUS, .id = BUS_ISA, .name = "ISA   " },
	    sizeof(struct mp_bus));
	put(&w, &(struct mp_bus){ .type = ENTRY_BUS, .id = BUS_PCI, .name = "PCI   " },
	    sizeof(struct mp_bus));
	put(&w, &(struct mp_ioapic){ .type = ENTRY_IOAPIC, .id = cpus, .version = IOAPIC_VERSION,
				     .flags = 1, .gpa = IOAPIC_GPA }, sizeof(struct mp_ioapic));
	put_interrupts(&w, cpus, timer_pin);
	header->checksum = checksum(header, header->length);

	memcpy(pointer->signature, "_MP_", 4);
	pointer->table = BOOT_BIOS + sizeof(*pointer);
	pointer->length = 1;			/* in 16 bytes */
	pointer->revision = 4;
	pointer->checksum = checksum(pointer, sizeof(*pointer));
	return 0;
}
