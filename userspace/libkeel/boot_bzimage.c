// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loads a bzImage by the 64-bit boot protocol (Documentation/x86/boot.rst in the kernel's tree).
 *
 * The file is a real-mode setup part of setup_sects sectors, which is only read for its header,
 * and the protected-mode payload, which is copied to where the header prefers it; its 64-bit entry
 * is 0x200 bytes in. The header comes from a file that may be hostile: every field is checked
 * against the file's size and the guest's memory before it is used, in 64-bit arithmetic.
 */
#include <errno.h>
#include <string.h>

#include "boot.h"

#define HEADER_OFFSET	0x1f1
#define ENTRY_64	0x200
#define SECTOR		512
#define ALIGN_MIN	0x1000ULL
#define ALIGN_MAX	0x40000000ULL

static int header_read(const uint8_t *image, size_t size, struct setup_header *hdr,
		       struct keel_kernel *out)
{
	size_t end, len;

	if (size < 0x264 + sizeof(uint32_t))
		return keel_fail(ENOEXEC, "the kernel is cut short: a bzImage of %zu bytes has no "
				 "setup header", size);
	/* the byte after the header's short jump says where the header ends */
	end = 0x202 + image[0x201];
	if (end > size)
		end = size;
	len = end > HEADER_OFFSET ? end - HEADER_OFFSET : 0;
	if (len > sizeof(*hdr))
		len = sizeof(*hdr);
	if (len > sizeof(out->header))
		len = sizeof(out->header);
	memset(hdr, 0, sizeof(*hdr));
	memcpy(hdr, image + HEADER_OFFSET, len);
	memcpy(out->header, hdr, len);
	out->header_len = len;

	if (hdr->boot_flag != 0xaa55 || memcmp(image + 0x202, "HdrS", 4))
		return keel_fail(ENOEXEC, "the kernel is no bzImage");
	if (hdr->version < BOOT_VERSION_64)
		return keel_fail(ENOEXEC, "the kernel speaks boot protocol %u.%02u, and the 64-bit "
				 "entry came with 2.12 (Linux 3.8): give a newer kernel",
				 hdr->version >> 8, hdr->version & 0xff);
	if (end < HEADER_OFFSET + offsetof(struct setup_header, init_size) + 4)
		return keel_fail(ENOEXEC, "the kernel's setup header is cut short");
	if (!(hdr->loadflags & LOADED_HIGH) || !(hdr->xloadflags & XLF_KERNEL_64))
		return keel_fail(ENOEXEC, "the kernel has no 64-bit entry: give an x86-64 bzImage");
	return 0;
}

static bool fits(const struct keel_memory *mem, uint64_t start, uint64_t need)
{
	return start >= BOOT_KERNEL_MIN && start < KEEL_HIGH_BASE &&
	       keel_memory_at(mem, start, need);
}

static int place(const struct setup_header *hdr, uint64_t payload, const struct keel_memory *mem,
		 struct keel_kernel *out)
{
	uint64_t need = hdr->init_size > payload ? hdr->init_size : payload;
	uint64_t align = hdr->kernel_alignment;
	uint64_t start = hdr->pref_address;

	if (hdr->relocatable_kernel) {
		if (align < ALIGN_MIN || align > ALIGN_MAX || align & (align - 1))
			return keel_fail(ENOEXEC, "the kernel's alignment of 0x%llx makes no "
					 "sense: the image is damaged", (unsigned long long)align);
		if (start & (align - 1) || !fits(mem, start, need))
			start = (BOOT_KERNEL_MIN + align - 1) & ~(align - 1);
	}
	if (!fits(mem, start, need))
		return keel_fail(ENOMEM, "the kernel needs %llu KiB at 0x%llx, and the guest has "
				 "%llu MiB there: give more memory with -m, if the image is sound",
				 (unsigned long long)need >> 10, (unsigned long long)start,
				 (unsigned long long)(keel_memory_low(mem) / KEEL_MIB));
	out->start = start;
	out->end = start + need;
	out->entry = start + ENTRY_64;
	return 0;
}

int keel_load_bzimage(const void *image, size_t size, struct keel_memory *mem,
		      struct keel_kernel *out)
{
	struct setup_header hdr;
	uint64_t setup, payload;
	int ret;

	memset(out, 0, sizeof(*out));
	ret = header_read(image, size, &hdr, out);
	if (ret)
		return ret;
	/* for compatibility, 0 means 4 sectors; the boot sector comes on top */
	setup = ((hdr.setup_sects ? hdr.setup_sects : 4) + 1) * (uint64_t)SECTOR;
	if (size <= setup + ENTRY_64)
		return keel_fail(ENOEXEC, "the kernel is cut short: its setup part alone has %llu "
				 "bytes and the file %zu", (unsigned long long)setup, size);
	payload = size - setup;
	if (payload < hdr.syssize * 16ULL)
		return keel_fail(ENOEXEC, "the kernel is cut short: its header announces %llu bytes "
				 "and the file has %zu",
				 (unsigned long long)(setup + hdr.syssize * 16ULL), size);
	ret = place(&hdr, payload, mem, out);
	if (ret)
		return ret;
	memcpy(keel_memory_at(mem, out->start, payload), (const uint8_t *)image + setup, payload);

	out->initrd_max = hdr.initrd_addr_max;
	if (hdr.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G)
		out->initrd_max = UINT64_MAX;
	out->cmdline_max = hdr.cmdline_size;
	return 0;
}
