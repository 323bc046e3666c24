/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the boot loaders put what in low guest memory. All of it lies below 640 KiB or in the
 * BIOS area, in places that Linux's boot protocol leaves to the loader, and is only read until the
 * kernel has copied it. Kernels are never loaded below BOOT_KERNEL_MIN.
 */
#ifndef KEEL_BOOT_H
#define KEEL_BOOT_H

#include <asm/bootparam.h>

#include "libkeel.h"

#define BOOT_BDA		0x400		/* BIOS data area */
#define BOOT_GDT		0x500
#define BOOT_PARAMS		0x7000		/* struct boot_params, the "zero page" */
#define BOOT_PAGE_TABLES	0x9000		/* PML4, PDPT and four PDs: 4 GiB */
#define BOOT_CMDLINE		0x20000
#define BOOT_CMDLINE_ROOM	0x10000
#define BOOT_EBDA		0x9fc00		/* end of base memory */
#define BOOT_BASE_END		0xa0000
#define BOOT_BIOS		0xf0000		/* MP table; reserved up to 1 MiB */
#define BOOT_ACPI		0xf4000		/* ACPI tables, the RSDP first */
#define BOOT_KERNEL_MIN		0x100000

/* What in-tree KVM on Intel wants below 4 GiB: a page of page tables and three pages of TSS. */
#define BOOT_KVM_IDENTITY_MAP	0xfffbc000
#define BOOT_KVM_TSS		0xfffbd000
#define BOOT_KVM_PAGES_SIZE	0x4000

/* setup_header fields that old headers lack mean "no": take them only if the image has them */
#define BOOT_VERSION_64		0x020c

#endif
