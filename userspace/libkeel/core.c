// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest as an ELF core file, which gdb and crash read: program headers, a note of registers for
 * each vCPU (NT_PRSTATUS, as Linux has it for threads), then all RAM at its physical addresses.
 *
 * The vCPUs must be parked. Pages of zeroes become holes, so that the file is no larger than it needs
 * to be.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/procfs.h>
#include <unistd.h>

#include "internal.h"

#define NAME_SIZE	8		/* "CORE", padded */
#define NOTE_SIZE	(sizeof(Elf64_Nhdr) + NAME_SIZE + sizeof(struct elf_prstatus))
#define CHUNK		(64 * KEEL_PAGE_SIZE)

static int write_at(int fd, const void *data, size_t size, off_t at)
{
	const char *from = data;

	while (size) {
		ssize_t n = pwrite(fd, from, size, at);

		if (n < 0 && errno != EINTR)
			return keel_fail(errno, "cannot write the core file: %s", strerror(errno));
		if (n > 0) {
			from += n;
			at += n;
			size -= n;
		}
	}
	return 0;
}

static int note_write(struct keel_vcpu *vcpu, int fd, off_t at)
{
	struct {
		Elf64_Nhdr head;
		char name[NAME_SIZE];
		struct elf_prstatus status;
	} __attribute__((packed)) note = {
		.head = { .n_namesz = 5, .n_descsz = sizeof(note.status), .n_type = NT_PRSTATUS },
		.name = "CORE",
	};
	struct user_regs_struct to = { 0 };
	struct kvm_sregs s;
	struct kvm_regs r;

	if (ioctl(vcpu->fd, KVM_GET_REGS, &r) < 0 || ioctl(vcpu->fd, KVM_GET_SREGS, &s) < 0)
		return keel_fail(errno, "vCPU %u: cannot read its registers: %s", vcpu->id,
				 strerror(errno));
	to.r15 = r.r15, to.r14 = r.r14, to.r13 = r.r13, to.r12 = r.r12;
	to.r11 = r.r11, to.r10 = r.r10, to.r9 = r.r9, to.r8 = r.r8;
	to.rbp = r.rbp, to.rbx = r.rbx, to.rax = to.orig_rax = r.rax;
	to.rcx = r.rcx, to.rdx = r.rdx, to.rsi = r.rsi, to.rdi = r.rdi;
	to.rip = r.rip, to.rsp = r.rsp, to.eflags = r.rflags;
	to.cs = s.cs.selector, to.ss = s.ss.selector, to.ds = s.ds.selector;
	to.es = s.es.selector, to.fs = s.fs.selector, to.gs = s.gs.selector;
	to.fs_base = s.fs.base, to.gs_base = s.gs.base;
	note.status.pr_pid = vcpu->id + 1;
	memcpy(&note.status.pr_reg, &to, sizeof(to));
	return write_at(fd, &note, sizeof(note), at);
}

static bool all_zero(const uint64_t *page)
{
	for (size_t i = 0; i < KEEL_PAGE_SIZE / sizeof(*page); i++)
		if (page[i])
			return false;
	return true;
}

static int ram_write(struct keel_vm *vm, int fd, uint64_t gpa, uint64_t size, off_t at)
{
	const char *host = keel_memory_at(vm->memory, gpa, size);
	uint64_t run = 0;
	int ret = 0;

	/* runs of pages that are not zero, up to a chunk */
	for (uint64_t done = 0; done < size && !ret; done += KEEL_PAGE_SIZE) {
		if (!all_zero((const uint64_t *)(host + done)))
			run += KEEL_PAGE_SIZE;
		else if (run) {
			ret = write_at(fd, host + done - run, run, at + done - run);
			run = 0;
		}
		if (run == CHUNK && !ret) {
			uint64_t end = done + KEEL_PAGE_SIZE;

			ret = write_at(fd, host + end - run, run, at + end - run);
			run = 0;
		}
	}
	return run && !ret ? write_at(fd, host + size - run, run, at + size - run) : ret;
}

int keel_vm_core(struct keel_vm *vm, int fd)
{
	const uint64_t size[] = { keel_memory_low(vm->memory), keel_memory_high(vm->memory) };
	const uint64_t base[] = { 0, KEEL_HIGH_BASE };
	unsigned int segments = size[1] ? 2 : 1;
	off_t notes = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr);
	off_t at = (notes + vm->cpus * NOTE_SIZE + KEEL_PAGE_SIZE - 1) & ~(KEEL_PAGE_SIZE - 1);
	struct {
		Elf64_Ehdr e;
		Elf64_Phdr p[3];
	} head = {
		.e = {
			.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
				     EV_CURRENT },
			.e_type = ET_CORE, .e_machine = EM_X86_64, .e_version = EV_CURRENT,
			.e_phoff = sizeof(head.e), .e_ehsize = sizeof(head.e),
			.e_phentsize = sizeof(head.p[0]), .e_phnum = 1 + segments,
		},
		.p[0] = { .p_type = PT_NOTE, .p_offset = notes, .p_filesz = vm->cpus * NOTE_SIZE },
	};
	int ret = 0;

	if (ftruncate(fd, at + size[0] + size[1]) < 0)
		return keel_fail(errno, "cannot write the core file: %s", strerror(errno));
	for (unsigned int i = 0; i < vm->cpus && !ret; i++)
		ret = note_write(&vm->vcpu[i], fd, notes + i * NOTE_SIZE);
	for (unsigned int i = 0; i < segments && !ret; i++) {
		head.p[1 + i] = (Elf64_Phdr) {
			.p_type = PT_LOAD, .p_flags = PF_R | PF_W | PF_X, .p_offset = at,
			.p_paddr = base[i], .p_filesz = size[i], .p_memsz = size[i],
		};
		ret = ram_write(vm, fd, base[i], size[i], at);
		at += size[i];
	}
	return ret ? ret : write_at(fd, &head, sizeof(head), 0);
}
