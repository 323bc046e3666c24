// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loads an uncompressed ELF64 vmlinux, and finds out which of the two formats a kernel file has.
 *
 * Segments go to their physical addresses; the entry point gets the state of the 64-bit boot
 * protocol, as it does when the decompressor inside a bzImage jumps to it. Linux gives e_entry as
 * a physical address, other ELF kernels as a virtual one: both are understood. As in the bzImage
 * loader nothing in the file is trusted.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "boot.h"

/* Linux's own limits, for a vmlinux has no header that would say them. */
#define VMLINUX_INITRD_MAX	0x7fffffffULL
#define VMLINUX_CMDLINE_MAX	2047

static int damaged(const char *what)
{
	return keel_fail(ENOEXEC, "the kernel is a damaged ELF file: %s", what);
}

static int elf_check(const Elf64_Ehdr *eh, size_t size)
{
	if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_ident[EI_DATA] != ELFDATA2LSB ||
	    eh->e_machine != EM_X86_64)
		return keel_fail(ENOEXEC, "the kernel is an ELF file, but not for 64-bit x86");
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		return keel_fail(ENOEXEC, "the kernel is an ELF file, but not an executable one "
				 "(is it an object or a module?)");
	if (!eh->e_phnum || eh->e_phentsize != sizeof(Elf64_Phdr))
		return damaged("it has no program headers");
	if (eh->e_phoff > size || (size - eh->e_phoff) / sizeof(Elf64_Phdr) < eh->e_phnum)
		return damaged("its program headers lie beyond its end");
	return 0;
}

static int segment_load(const uint8_t *image, size_t size, const Elf64_Phdr *ph,
			struct keel_memory *mem)
{
	uint8_t *to;

	if (ph->p_filesz > ph->p_memsz)
		return damaged("a segment is larger in the file than in memory");
	if (ph->p_offset > size || ph->p_filesz > size - ph->p_offset)
		return damaged("a segment lies beyond its end (is it cut short?)");
	if (ph->p_paddr < BOOT_KERNEL_MIN || ph->p_paddr >= KEEL_HIGH_BASE)
		return keel_fail(ENOEXEC, "the ELF file is no kernel: it wants a segment at "
				 "0x%llx, where none can be", (unsigned long long)ph->p_paddr);
	to = keel_memory_at(mem, ph->p_paddr, ph->p_memsz);
	if (!to)
		return keel_fail(ENOMEM, "the kernel needs %llu KiB at 0x%llx, and the guest has "
				 "%llu MiB there: give more memory with -m, if the image is sound",
				 (unsigned long long)ph->p_memsz >> 10,
				 (unsigned long long)ph->p_paddr,
				 (unsigned long long)(keel_memory_low(mem) / KEEL_MIB));
	memcpy(to, image + ph->p_offset, ph->p_filesz);
	memset(to + ph->p_filesz, 0, ph->p_memsz - ph->p_filesz);
	return 0;
}

/* The entry as a physical address, 0 if it lies in no segment of the kind asked for. */
static uint64_t entry_in(const Elf64_Phdr *ph, uint64_t entry, bool is_virtual)
{
	uint64_t base = is_virtual ? ph->p_vaddr : ph->p_paddr;

	if (entry < base || entry - base >= ph->p_memsz)
		return 0;
	return ph->p_paddr + (entry - base);
}

int keel_load_elf(const void *image, size_t size, struct keel_memory *mem,
		  struct keel_kernel *out)
{
	uint64_t by_phys = 0, by_virt = 0;
	Elf64_Ehdr eh;
	int ret;

	memset(out, 0, sizeof(*out));
	if (size < sizeof(eh))
		return damaged("it ends within its header");
	memcpy(&eh, image, sizeof(eh));
	ret = elf_check(&eh, size);
	if (ret)
		return ret;

	out->start = UINT64_MAX;
	for (unsigned int i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, (const uint8_t *)image + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type != PT_LOAD || !ph.p_memsz)
			continue;
		ret = segment_load(image, size, &ph, mem);
		if (ret)
			return ret;
		if (ph.p_paddr < out->start)
			out->start = ph.p_paddr;
		if (ph.p_paddr + ph.p_memsz > out->end)
			out->end = ph.p_paddr + ph.p_memsz;
		if (!by_phys)
			by_phys = entry_in(&ph, eh.e_entry, false);
		if (!by_virt)
			by_virt = entry_in(&ph, eh.e_entry, true);
	}
	out->entry = by_phys ? by_phys : by_virt;
	if (!out->entry)
		return damaged("its entry point lies in no loaded segment");
	out->initrd_max = VMLINUX_INITRD_MAX;
	out->cmdline_max = VMLINUX_CMDLINE_MAX;
	return 0;
}

int keel_load_kernel(const void *image, size_t size, struct keel_memory *mem,
		     struct keel_kernel *out)
{
	const uint8_t *p = image;

	if (size >= SELFMAG && !memcmp(p, ELFMAG, SELFMAG))
		return keel_load_elf(image, size, mem, out);
	if (size >= 0x206 && p[0x1fe] == 0x55 && p[0x1ff] == 0xaa && !memcmp(p + 0x202, "HdrS", 4))
		return keel_load_bzimage(image, size, mem, out);
	return keel_fail(ENOEXEC, "not a Linux kernel: give a bzImage (such as /boot/vmlinuz-*) or "
			 "an uncompressed ELF vmlinux for x86-64");
}
