/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What random.c feeds to its guests: bytes, registers and tables, from one generator. Everything follows from the
 * seed alone.
 */
#ifndef SELFTESTS_RANDOM_H
#define SELFTESTS_RANDOM_H

#include "guest.h"

/* Where the guest of random.c keeps what is not random; the code pages are at GUEST_CODE. */
#define RANDOM_BYTES	0x1000		/* of code */
#define RANDOM_STARTS	96		/* places in it to start at, each with registers of its own */
#define RANDOM_HANDLER	0xe000		/* goes to the next start; every vector leads there */
#define RANDOM_NEXT	0xf000		/* u32: the next start */
#define RANDOM_TABLE	0x200000	/* what the handler loads, 256 bytes a start; real mode: 32 bytes at */
#define RANDOM_TABLE16	0x4000

struct randomness {
	uint64_t state;
	const uint32_t *msrs;	/* indices worth a try */
	unsigned int nr_msrs;
	bool all;		/* no CPU executes it, so that what ends an emulator can be in it */
};

uint64_t random_next(struct randomness *r);
unsigned int random_below(struct randomness *r, unsigned int n);

/* @len bytes of code: random ones, and with @laced privileged instructions and the like between them. */
void random_code(struct randomness *r, uint8_t *p, size_t len, bool laced);
/* A value that a register might hold to some effect. */
uint64_t random_value(struct randomness *r);
/* The entries that the handler loads, for code of @mode at privilege @cpl. */
void random_starts(struct randomness *r, struct guest *g, unsigned int cpl);
/* Some entries of the page tables, the GDT, the IDT and the TSS become random, and a page elsewhere a page table. */
void random_tables(struct randomness *r, struct guest *g);

#endif
