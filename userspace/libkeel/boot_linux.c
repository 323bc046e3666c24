// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything that Linux finds at its 64-bit entry, besides itself.
 *
 * We stand in for the BIOS and the boot loader: memory map, command line and initrd in struct
 * boot_params, an identity mapping of the first 4 GiB, a GDT, a BIOS data area, and the registers.
 * The boot protocol is in the kernel's Documentation/x86/boot.rst, section "64-bit Boot Protocol";
 * the long mode state in SDM vol 3, 10.8.5 and APM vol 2, 14.6.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#include "boot.h"

#define CR0_PE		(1ULL << 0)
#define CR0_ET		(1ULL << 4)
#define CR0_PG		(1ULL << 31)
#define CR4_PAE		(1ULL << 5)
#define EFER_LME	(1ULL << 8)
#define EFER_LMA	(1ULL << 10)
#define RFLAGS_FIXED	(1ULL << 1)

#define SEL_CODE	0x10
#define SEL_DATA	0x18

#define PTE_PRESENT	(1ULL << 0)
#define PTE_WRITE	(1ULL << 1)
#define PTE_HUGE	(1ULL << 7)

unsigned int keel_e820_build(const struct keel_memory *mem, struct boot_e820_entry *map,
			     unsigned int max)
{
	const struct boot_e820_entry all[] = {
		{ 0, BOOT_EBDA, 1 },
		{ BOOT_EBDA, BOOT_BASE_END - BOOT_EBDA, 2 },
		{ BOOT_BIOS, BOOT_KERNEL_MIN - BOOT_BIOS, 2 },
		{ BOOT_KERNEL_MIN, keel_memory_low(mem) - BOOT_KERNEL_MIN, 1 },
		{ BOOT_KVM_IDENTITY_MAP, BOOT_KVM_PAGES_SIZE, 2 },
		{ KEEL_HIGH_BASE, keel_memory_high(mem), 1 },
	};
	unsigned int n = 0;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]) && n < max; i++)
		if (all[i].size)
			map[n++] = all[i];
	return n;
}

static void put64(const struct keel_memory *mem, uint64_t gpa, uint64_t value)
{
	memcpy(keel_memory_at(mem, gpa, sizeof(value)), &value, sizeof(value));
}

static void put16(const struct keel_memory *mem, uint64_t gpa, uint16_t value)
{
	memcpy(keel_memory_at(mem, gpa, sizeof(value)), &value, sizeof(value));
}

static void page_tables_write(const struct keel_memory *mem)
{
	const uint64_t pdpt = BOOT_PAGE_TABLES + KEEL_PAGE_SIZE, pd = pdpt + KEEL_PAGE_SIZE;

	memset(keel_memory_at(mem, BOOT_PAGE_TABLES, 2 * KEEL_PAGE_SIZE), 0, 2 * KEEL_PAGE_SIZE);
	put64(mem, BOOT_PAGE_TABLES, pdpt | PTE_PRESENT | PTE_WRITE);
	for (uint64_t i = 0; i < 4; i++)
		put64(mem, pdpt + 8 * i, (pd + i * KEEL_PAGE_SIZE) | PTE_PRESENT | PTE_WRITE);
	for (uint64_t i = 0; i < 4 * 512; i++)
		put64(mem, pd + 8 * i, i * 2 * KEEL_MIB | PTE_PRESENT | PTE_WRITE | PTE_HUGE);
}

static void low_memory_write(const struct keel_memory *mem)
{
	/* null, unused, 64-bit code, data */
	put64(mem, BOOT_GDT, 0);
	put64(mem, BOOT_GDT + 8, 0);
	put64(mem, BOOT_GDT + SEL_CODE, 0x00af9b000000ffff);
	put64(mem, BOOT_GDT + SEL_DATA, 0x00cf93000000ffff);
	/* BIOS data area: COM1, segment of the EBDA, KiB of base memory; EBDA: its own KiB */
	put16(mem, BOOT_BDA + 0x00, 0x3f8);
	put16(mem, BOOT_BDA + 0x0e, BOOT_EBDA >> 4);
	put16(mem, BOOT_BDA + 0x13, BOOT_EBDA >> 10);
	put16(mem, BOOT_EBDA, 1);
}

/* As high as allowed, so that it is out of the way of a kernel that moves itself. */
static int initrd_place(const struct keel_memory *mem, const struct keel_kernel *kernel,
			const void *initrd, size_t size, struct boot_params *bp)
{
	uint64_t top = keel_memory_low(mem), start;

	if (kernel->initrd_max < top)
		top = kernel->initrd_max + 1;
	start = size < top ? (top - size) & ~(KEEL_PAGE_SIZE - 1) : 0;
	if (size > top || start < kernel->end || start < BOOT_KERNEL_MIN)
		return keel_fail(ENOMEM, "the initrd of %zu KiB does not fit between the kernel's "
				 "end at %llu MiB and %llu MiB: give more memory with -m",
				 size >> 10, (unsigned long long)(kernel->end / KEEL_MIB),
				 (unsigned long long)(top / KEEL_MIB));
	memcpy(keel_memory_at(mem, start, size), initrd, size);
	bp->hdr.ramdisk_image = start;
	bp->hdr.ramdisk_size = size;
	return 0;
}

static void header_fill(struct setup_header *hdr, const struct keel_kernel *kernel)
{
	if (kernel->header_len)
		memcpy(hdr, kernel->header, kernel->header_len < sizeof(*hdr) ? kernel->header_len :
										sizeof(*hdr));
	hdr->boot_flag = 0xaa55;
	memcpy(&hdr->header, "HdrS", 4);
	if (hdr->version < BOOT_VERSION_64)
		hdr->version = BOOT_VERSION_64;
	hdr->type_of_loader = 0xff;		/* a loader without a number of its own */
	hdr->loadflags |= LOADED_HIGH;
	hdr->code32_start = kernel->start;
	/* pointers that the loader owns: the image's values mean nothing */
	hdr->setup_data = 0;
	hdr->ramdisk_image = 0;
	hdr->ramdisk_size = 0;
	hdr->cmd_line_ptr = BOOT_CMDLINE;
}

int keel_boot_linux(struct keel_memory *mem, const struct keel_kernel *kernel,
		    const struct keel_boot *boot)
{
	const char *cmdline = boot->cmdline ? boot->cmdline : "";
	size_t len = strlen(cmdline);
	size_t room = BOOT_CMDLINE_ROOM - 1;
	struct boot_params *bp;
	uint64_t rsdp = 0;
	char *to;
	int ret;

	if (kernel->cmdline_max < room)
		room = kernel->cmdline_max;
	if (len > room)
		return keel_fail(E2BIG, "the command line has %zu bytes, and the kernel takes %zu: "
				 "shorten --append", len, room);
	bp = keel_memory_at(mem, BOOT_PARAMS, sizeof(*bp));
	to = keel_memory_at(mem, BOOT_CMDLINE, BOOT_CMDLINE_ROOM);
	memset(bp, 0, sizeof(*bp));
	memcpy(to, cmdline, len + 1);

	header_fill(&bp->hdr, kernel);
	bp->e820_entries = keel_e820_build(mem, bp->e820_table, E820_MAX_ENTRIES_ZEROPAGE);
	if (boot->initrd) {
		ret = initrd_place(mem, kernel, boot->initrd, boot->initrd_size, bp);
		if (ret)
			return ret;
	}
	page_tables_write(mem);
	low_memory_write(mem);
	ret = keel_mptable_write(mem, boot->cpus, boot->timer_pin);
	if (!ret && boot->acpi)
		ret = keel_acpi_write(mem, boot->cpus, boot->timer_pin, &rsdp);
	/* kernels before 5.0 do not know the field, and look for the table */
	bp->acpi_rsdp_addr = rsdp;
	return ret;
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment) {
		.limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .s = 1,
		.g = 1, .l = code, .db = !code,
	};
}

void keel_boot_regs(const struct keel_kernel *kernel, struct kvm_sregs *sregs,
		    struct kvm_regs *regs)
{
	struct kvm_segment data = segment(SEL_DATA, 0x3, false);

	sregs->cs = segment(SEL_CODE, 0xb, true);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->gdt.base = BOOT_GDT;
	sregs->gdt.limit = SEL_DATA + 7;
	sregs->idt.base = 0;
	sregs->idt.limit = 0;
	sregs->cr0 = CR0_PE | CR0_ET | CR0_PG;
	sregs->cr3 = BOOT_PAGE_TABLES;
	sregs->cr4 = CR4_PAE;
	sregs->efer = EFER_LME | EFER_LMA;

	memset(regs, 0, sizeof(*regs));
	regs->rip = kernel->entry;
	regs->rsi = BOOT_PARAMS;
	regs->rsp = BOOT_PAGE_TABLES;	/* until the kernel has its own */
	regs->rflags = RFLAGS_FIXED;
}
