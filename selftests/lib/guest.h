/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Small guests: a VM with one vCPU, memory with a fixed layout, a CPU mode set by KVM_SET_SREGS, and a blob of
 * code written as top-level assembly in the test itself.
 *
 * Guest physical memory (identity mapped where the mode has paging):
 *
 *	0x00000	real mode interrupt table	0x10000	the code blob
 *	0x01000	GDT				0x20000	stack, down from 0x2fff0
 *	0x02000	IDT				0x30000	stack of user mode and of other tasks
 *	0x03000	TSS				0x40000	data
 *	0x04000	page tables			0x50000	more data
 *	0x0c000	exception stubs			0xa0000	a hole up to 1 MiB: MMIO, used at 0xd0000
 *
 * Each IDT entry leads to a stub that pushes its vector (and a zero where the CPU pushes no error code) and
 * writes to PORT_EXC. The test sees that exit, reads the frame with guest_exc(), and may let the guest return
 * from the exception by running on.
 */
#ifndef SELFTESTS_GUEST_H
#define SELFTESTS_GUEST_H

#include "vmtest.h"
#include "x86.h"

#define GUEST_GDT	0x1000
#define GUEST_IDT	0x2000
#define GUEST_TSS	0x3000
#define GUEST_PML4	0x4000
#define GUEST_PDPT	0x5000
#define GUEST_PD	0x6000		/* four of them, 2 MiB pages, 4 GiB in all */
#define GUEST_PAE_PDPT	0xa000
#define GUEST_PD32	0xb000		/* 4 MiB pages */
#define GUEST_STUBS	0xc000
#define GUEST_CODE	0x10000
#define GUEST_STACK	0x2fff0
#define GUEST_STACK2	0x3fff0
#define GUEST_DATA	0x40000
#define GUEST_DATA2	0x50000
#define GUEST_HOLE	0xa0000
#define GUEST_MMIO	0xd0000
#define GUEST_HIGH	0x100000

#define PORT_EXC	0xe0		/* an exception arrived */
#define PORT_DONE	0xd0		/* the guest is done */
#define PORT_SYNC	0xd1		/* the guest waits for the test */

#define SEL_CODE64	0x08
#define SEL_DATA	0x10
#define SEL_CODE32	0x18
#define SEL_CODE16	0x20		/* base GUEST_CODE */
#define SEL_DATA16	0x28		/* base GUEST_DATA */
#define SEL_UCODE32	0x33
#define SEL_UDATA	0x3b
#define SEL_UCODE64	0x43
#define SEL_TSS		0x48
#define SEL_ABSENT	0x58		/* present bit clear */
#define SEL_STACK16	0x60		/* base of the stack page's 64 KiB */

enum guest_mode {
	MODE_REAL,
	MODE_PROT16,		/* 16-bit segments with the bases that MODE_REAL has */
	MODE_PROT32,		/* flat, no paging */
	MODE_PAGE32,		/* 4 MiB pages */
	MODE_PAE,
	MODE_COMPAT,		/* 32-bit code in long mode */
	MODE_LONG,
	NR_MODES
};

extern const char *const guest_mode_name[NR_MODES];
int guest_mode_bits(enum guest_mode mode);

struct guest {
	int dev, vm;
	struct vcpu cpu;
	enum guest_mode mode;
	uint8_t *mem;
	size_t mem_size;
};

#define GUEST_IRQCHIP	1	/* in-kernel PIC, I/O APIC and local APIC */
#define GUEST_PIT	2	/* in-kernel PIT as well */
#define GUEST_SPLIT	4	/* in-kernel local APIC only; the first 24 GSIs are the client's I/O APIC */
#define GUEST_INTERPRETED	8	/* run by the emulator alone (KEEL_SET_EXECUTION) */
#define GUEST_TRAPPED		16	/* each instruction exits */
#define GUEST_MEM_SIZE	0x400000UL

struct guest_exc {
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

void guest_create(struct guest *g, unsigned int flags);
void guest_destroy(struct guest *g);
void guest_set_mode(struct guest *g, enum guest_mode mode);
void guest_load_bytes(struct guest *g, const void *code, size_t len);
/* RIP to the blob, a stack, all other registers zero. */
void guest_reset_regs(struct guest *g);
void guest_set_gate(struct guest *g, int vector, uint64_t addr);

/* The exit reason; -errno when KVM_RUN failed. */
long guest_run(struct guest *g);
/* The same, with the page at GUEST_MMIO read from and written to @page. */
long guest_run_mmio(struct guest *g, uint8_t *page);
void guest_dump(struct guest *g);
/* True when the last exit is a one-byte write to that port. */
bool guest_at_port(struct guest *g, uint16_t port);
struct guest_exc guest_exc(struct guest *g);
/* A descriptor of the GDT; @attr: the access byte in bits 0-7, G, D, L and AVL in 12-15. */
void guest_set_descriptor(struct guest *g, uint16_t sel, uint32_t base, uint32_t limit, uint16_t attr);
uint64_t *guest_pte(struct guest *g, uint64_t gpa);	/* the 2 MiB leaf of MODE_LONG or MODE_PAE */
void guest_split_2m(struct guest *g, uint64_t gpa, uint64_t table);

/*
 * GUEST(name, bits, text): a blob in the given code size. The text is plain AT&T assembly; it can name its own
 * start as "name_start" and reach a label L of its own at the guest address GUEST_AT(name, L).
 */
#define GUEST(name, bits, ...)					\
	extern const char name##_start[], name##_end[];		\
	asm(".pushsection .rodata\n"				\
	    ".globl " #name "_start\n.globl " #name "_end\n"	\
	    ".code" #bits "\n"					\
	    #name "_start:\n"					\
	    __VA_ARGS__ "\n"					\
	    #name "_end:\n"					\
	    ".code64\n"						\
	    ".popsection\n")

/* The same text in all three code sizes: name16, name32, name64. */
#define GUEST_ALL(name, ...)		\
	GUEST(name##16, 16, __VA_ARGS__);	\
	GUEST(name##32, 32, __VA_ARGS__);	\
	GUEST(name##64, 64, __VA_ARGS__)

struct guest_blob {
	const char *start, *end;
};

#define BLOB(name)	((struct guest_blob){ name##_start, name##_end })
#define BLOB_FOR(mode, name)						\
	(guest_mode_bits(mode) == 16 ? BLOB(name##16) :			\
	 guest_mode_bits(mode) == 32 ? BLOB(name##32) : BLOB(name##64))

#define STR_(x)		#x
#define STR(x)		STR_(x)
#define GUEST_AT(name, label)	"(" #label " - " #name "_start + " STR(GUEST_CODE) ")"
/*
 * A guest that spins does so with interrupts on: in Bochs a CPU that enters VT-x guest mode with them off, as all
 * hypervisors do, leaves a guest that has them off, too, for no interrupt of the host's.
 */
#define G_SPIN			"sti\n" "1: jmp 1b\n"
#define G_DONE			"outb %al, $" STR(PORT_DONE) "\n"
#define G_SYNC			"outb %al, $" STR(PORT_SYNC) "\n"

void guest_load(struct guest *g, struct guest_blob blob);
/* Mode, blob and registers in one. */
void guest_start(struct guest *g, enum guest_mode mode, struct guest_blob blob);

/* For use in a test body: run and demand an exit. */
#define ASSERT_RUN(reason, g)	ASSERT_EQ((reason), guest_run(g)) { guest_dump(g); }
#define ASSERT_PORT(port, g) do {			\
	ASSERT_EQ(KVM_EXIT_IO, guest_run(g)) {		\
		guest_dump(g);				\
	}						\
	ASSERT_TRUE(guest_at_port(g, port)) {		\
		guest_dump(g);				\
	}						\
} while (0)
#define ASSERT_DONE(g)		ASSERT_PORT(PORT_DONE, g)

#endif
