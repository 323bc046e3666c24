/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A small machine behind the emulator's callbacks, for the unit tests: 128 KiB of linear memory
 * whose pages are RAM, read-only, absent or a device; ports; segments; control registers; MSRs;
 * vector registers. It keeps the contract of struct keel_emu_ops, KEEL_EMU_IO with replay included,
 * and counts what it was asked, so that a test can tell how often a device was touched.
 */
#ifndef WORLD_H
#define WORLD_H

#include "emulate.h"

#define WORLD_PAGES	32
#define WORLD_MEM	(WORLD_PAGES * 4096)
#define WORLD_LOG	4096

/* Special pages; all others are RAM. */
#define WORLD_ABSENT	0x8000
#define WORLD_READONLY	0x9000
#define WORLD_DEVICE	0xa000
#define WORLD_DEVICE2	0x1e000		/* with RAM in front of it */
#define WORLD_SUPER	0xc000		/* supervisor only */

/* Segment selectors of the protected modes; the GDT is in memory at WORLD_GDT. */
#define WORLD_GDT	0x10000
#define WORLD_TSS	0x11000

struct world_access {
	u64 addr;
	u64 val;
	u8 len;
	bool write;
	bool port;
};

struct world {
	struct keel_emu emu;
	u8 mem[WORLD_MEM];
	struct keel_emu_seg seg[8];
	u64 cr[9];
	u64 dr[8];
	u64 gdt_base, idt_base;
	u16 gdt_limit, idt_limit;
	u64 xcr0;
	u64 tsc, tsc_aux, efer, kernel_gs_base;
	u64 star, lstar, cstar, sfmask;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u8 vec[16][32];
	u8 fx[160];		/* what FXSAVE stores before the vector registers */
	u8 mm[8][8];

	/* device and port accesses that "userspace" completed, in order */
	struct world_access log[WORLD_LOG];
	unsigned int log_nr;
	/* those of the current step that may be replayed: answers by access_nr */
	struct {
		bool valid;
		u8 data[KEEL_EMU_PIO_MAX];
		unsigned int count;
	} done[64];
	bool io_pending;	/* an access waits for userspace */
	unsigned int pending_nr;
	struct world_access pending;
	u8 pending_data[KEEL_EMU_PIO_MAX];
	unsigned int pending_count;

	bool amd;		/* the vendor that CPUID names */
	u32 system_seen;	/* bit a system() request */
	u64 system_arg;
	unsigned int lose_races;	/* this many cmpxchg calls find memory changed */
	bool x87_pending;	/* MMX registers cannot be used: #MF */
	unsigned int wrote;	/* write() and cmpxchg() calls to RAM */
};

void world_init(struct world *w, enum keel_emu_mode mode);
/* Answer the pending access, as userspace would. */
void world_complete_io(struct world *w);
/* What the device's byte at @addr reads as. */
u8 world_device_byte(u64 addr);

extern const struct keel_emu_ops world_ops;

#endif
