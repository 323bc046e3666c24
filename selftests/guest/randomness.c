// SPDX-License-Identifier: GPL-2.0-only
/*
 * The random bytes, registers and tables of randomness.h. The instructions that random_code() laces with are those that
 * a hypervisor intercepts or that change how the rest is executed (SDM volume 2, APM volume 3).
 */
#include <string.h>
#include "kselftest.h"
#include "randomness.h"

uint64_t random_next(struct randomness *r)
{
	r->state ^= r->state << 13;
	r->state ^= r->state >> 7;
	r->state ^= r->state << 17;
	return r->state * 0x2545f4914f6cdd1dULL;
}

unsigned int random_below(struct randomness *r, unsigned int n)
{
	return (random_next(r) >> 32) % n;
}

#define MODRM		0x10	/* any */
#define MEM		0x20	/* a memory operand */
#define REG		0x40	/* a register operand */
#define IMM8		0x80
#define GROUP(n)	(0x08 | (n))	/* the reg field of what has one of the first three */

static const struct piece {
	uint8_t len, bytes[3], form;
} pieces[] = {
	{ 2, { 0x0f, 0x30 } },			/* wrmsr */
	{ 2, { 0x0f, 0x30 } },
	{ 2, { 0x0f, 0x32 } },			/* rdmsr */
	{ 2, { 0x0f, 0x33 } },			/* rdpmc */
	{ 2, { 0x0f, 0x31 } },			/* rdtsc */
	{ 3, { 0x0f, 0x01, 0xf9 } },		/* rdtscp */
	{ 2, { 0x0f, 0xa2 } },			/* cpuid */
	{ 3, { 0x0f, 0x01, 0xd0 } },		/* xgetbv */
	{ 3, { 0x0f, 0x01, 0xd1 } },		/* xsetbv */
	{ 3, { 0x0f, 0x01, 0xc1 } },		/* vmcall */
	{ 3, { 0x0f, 0x01, 0xd9 } },		/* vmmcall */
	{ 3, { 0x0f, 0x01, 0xd8 } },		/* vmrun */
	{ 3, { 0x0f, 0x01, 0xda } },		/* vmload */
	{ 3, { 0x0f, 0x01, 0xdc } },		/* stgi */
	{ 3, { 0x0f, 0x01, 0xdf } },		/* invlpga */
	{ 3, { 0x0f, 0x01, 0xc8 } },		/* monitor */
	{ 3, { 0x0f, 0x01, 0xc9 } },		/* mwait */
	{ 3, { 0x0f, 0x01, 0xf8 } },		/* swapgs */
	{ 3, { 0x0f, 0x01, 0xca } },		/* clac */
	{ 2, { 0x0f, 0x20 }, REG },		/* mov from CR */
	{ 2, { 0x0f, 0x22 }, REG | GROUP(0) },	/* mov to CR0 */
	{ 2, { 0x0f, 0x22 }, REG | GROUP(3) },
	{ 2, { 0x0f, 0x22 }, REG | GROUP(4) },
	{ 2, { 0x0f, 0x21 }, REG },		/* mov from DR */
	{ 2, { 0x0f, 0x23 }, REG },		/* mov to DR */
	{ 2, { 0x0f, 0x01 }, MEM | GROUP(0) },	/* sgdt */
	{ 2, { 0x0f, 0x01 }, MEM | GROUP(2) },	/* lgdt */
	{ 2, { 0x0f, 0x01 }, MEM | GROUP(3) },	/* lidt */
	{ 2, { 0x0f, 0x01 }, MODRM | GROUP(4) },	/* smsw */
	{ 2, { 0x0f, 0x01 }, MODRM | GROUP(6) },	/* lmsw */
	{ 2, { 0x0f, 0x01 }, MEM | GROUP(7) },	/* invlpg */
	{ 2, { 0x0f, 0x00 }, MODRM },		/* sldt, str, lldt, ltr, verr, verw */
	{ 2, { 0x0f, 0x02 }, MODRM },		/* lar */
	{ 2, { 0x0f, 0x03 }, MODRM },		/* lsl */
	{ 2, { 0x0f, 0x06 } },			/* clts */
	{ 2, { 0x0f, 0x08 } },			/* invd */
	{ 2, { 0x0f, 0x09 } },			/* wbinvd */
	{ 2, { 0x0f, 0xaa } },			/* rsm */
	{ 2, { 0x0f, 0x05 } },			/* syscall */
	{ 2, { 0x0f, 0x07 } },			/* sysret */
	{ 2, { 0x0f, 0x34 } },			/* sysenter */
	{ 2, { 0x0f, 0x35 } },			/* sysexit */
	{ 2, { 0x0f, 0x0b } },			/* ud2 */
	{ 2, { 0x0f, 0xc7 }, MODRM },		/* cmpxchg8b, rdrand, rdpid */
	{ 2, { 0x0f, 0xb1 }, MODRM },		/* cmpxchg */
	{ 2, { 0x0f, 0xc1 }, MODRM },		/* xadd */
	{ 2, { 0x0f, 0xae }, MODRM },		/* fxsave, xsave, clflush, wrfsbase */
	{ 2, { 0x0f, 0x6f }, MODRM },		/* movq, movdqa */
	{ 2, { 0x0f, 0x7f }, MODRM },
	{ 2, { 0x0f, 0x10 }, MODRM },		/* movups */
	{ 2, { 0x0f, 0x11 }, MODRM },
	{ 2, { 0x0f, 0xb2 }, MEM },		/* lss */
	{ 3, { 0x0f, 0x38, 0xf0 }, MODRM },	/* movbe, crc32 */
	{ 3, { 0x0f, 0x38, 0x82 }, MEM },	/* invpcid */
	{ 1, { 0xf4 } },			/* hlt */
	{ 1, { 0xcc } },			/* int3 */
	{ 1, { 0xce } },			/* into */
	{ 1, { 0xcd }, IMM8 },			/* int */
	{ 1, { 0xf1 } },			/* int1 */
	{ 1, { 0xcf } },			/* iret */
	{ 1, { 0xcb } },			/* far return */
	{ 1, { 0xff }, MEM | GROUP(3) },	/* far call */
	{ 1, { 0xff }, MEM | GROUP(5) },	/* far jump */
	{ 1, { 0x9c } },			/* pushf */
	{ 1, { 0x9d } },			/* popf */
	{ 1, { 0xfa } },			/* cli */
	{ 1, { 0xfb } },			/* sti */
	{ 1, { 0x8e }, MODRM },			/* mov to segment register */
	{ 1, { 0x8c }, MODRM },
	{ 1, { 0xe4 }, IMM8 },			/* in */
	{ 1, { 0xe5 }, IMM8 },
	{ 1, { 0xe6 }, IMM8 },			/* out */
	{ 1, { 0xec } },
	{ 1, { 0xed } },
	{ 1, { 0xee } },
	{ 1, { 0xef } },
	{ 1, { 0x6c } },			/* insb */
	{ 1, { 0x6f } },			/* outsd */
	{ 2, { 0xf3, 0x6d } },			/* rep insd */
	{ 2, { 0xf3, 0x6e } },			/* rep outsb */
	{ 2, { 0xf3, 0xa4 } },			/* rep movsb */
	{ 2, { 0xf3, 0xab } },			/* rep stosd */
	{ 2, { 0xf3, 0xa6 } },			/* repe cmpsb */
	{ 2, { 0xf2, 0xaf } },			/* repne scasd */
	{ 1, { 0x88 }, MEM },			/* mov */
	{ 1, { 0x8b }, MEM },
	{ 1, { 0x01 }, MEM },			/* add */
	{ 1, { 0x86 }, MEM },			/* xchg */
	{ 1, { 0xf7 }, MODRM },			/* test, not, neg, mul, div */
	{ 1, { 0xc8 }, IMM8 },			/* enter */
	{ 1, { 0xc9 } },			/* leave */
	{ 1, { 0xd9 }, MODRM },			/* x87 */
	{ 1, { 0x9b } },			/* fwait */
};

static const uint8_t prefixes[] = {
	0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x40, 0x41, 0x44, 0x48, 0x49, 0x4c, 0x4f,
};

static size_t random_piece(struct randomness *r, uint8_t *p)
{
	const struct piece *piece = &pieces[random_below(r, ARRAY_SIZE(pieces))];
	uint8_t *start = p, modrm;
	int i;

	for (i = 0; i < 4 && !random_below(r, 4); i++)
		*p++ = prefixes[random_below(r, ARRAY_SIZE(prefixes))];
	memcpy(p, piece->bytes, piece->len);
	p += piece->len;
	if (piece->form & (MODRM | MEM | REG)) {
		modrm = random_next(r);
		if (piece->form & 0x08)
			modrm = (modrm & 0xc7) | (piece->form & 7) << 3;
		if (piece->form & REG)
			modrm |= 0xc0;
		if (piece->form & MEM)
			modrm &= 0x7f;
		*p++ = modrm;
		/* A displacement is part of what follows, unless it is short. */
		if ((modrm & 0xc0) == 0x40)
			*p++ = random_below(r, 128);
	} else if (piece->form & IMM8) {
		*p++ = random_next(r);
	}
	return p - start;
}

/*
 * What ends QEMU's TCG (10.0) itself when the CPU executes it, in-tree KVM's guests too: MOV to segment registers that
 * there are not, which writes past the six, into LDTR and TR; CR0 and CR4 with bits that go together and do not (MOV to
 * CR, LMSW); breakpoints (MOV to DR: bql_lock_impl); LTR of a null selector, which it loads, to stop at the next change of
 * stacks with "invalid tss"; MOV to CR8 while a virtual interrupt waits. They become something harmless.
 */
static void without_emulator_faults(uint8_t *p, size_t len)
{
	unsigned int reg;
	size_t i;

	for (i = 0; i + 2 < len; i++) {
		reg = p[i + 1] >> 3 & 7;
		if (p[i] == 0x8e && (reg == 1 || reg > 5))
			p[i + 1] &= 0xc7;
		if (p[i] != 0x0f)
			continue;
		if (p[i + 1] == 0x22 || p[i + 1] == 0x23)
			p[i + 1] -= 2;
		reg = p[i + 2] >> 3 & 7;
		if ((p[i + 1] == 0x01 && reg == 6) || (p[i + 1] == 0x00 && reg == 3))
			p[i + 2] ^= 0x10;
	}
}

void random_code(struct randomness *r, uint8_t *p, size_t len, bool laced)
{
	uint64_t word;
	size_t i;

	for (i = 0; i < len; i += sizeof(word)) {
		word = random_next(r);
		memcpy(p + i, &word, sizeof(word));
	}
	for (i = 0; laced && i < len - 32; i += random_below(r, 8))
		i += random_piece(r, p + i);
	if (!r->all)
		without_emulator_faults(p, len);
}

uint64_t random_value(struct randomness *r)
{
	switch (random_below(r, 16)) {
	case 0 ... 4:
		return GUEST_DATA + random_below(r, 0x20000);
	case 5:
		return GUEST_MMIO + random_below(r, PAGE_SIZE);
	case 6:
		return (random_below(r, 2) ? 0xfee00000 : 0xfec00000) + random_below(r, 0x400);
	case 7:
	case 8:
		return random_below(r, 32);
	case 9:
	case 10:
		return r->msrs[random_below(r, r->nr_msrs)] + (random_below(r, 8) ? 0 : random_below(r, 16));
	case 11:
		return 0x80010031 ^ 1ULL << random_below(r, 64);	/* as in CR0 */
	case 12:
		return 0x406f0 ^ 1ULL << random_below(r, 32);		/* as in CR4 */
	case 13:
		return (random_below(r, 2) ? GUEST_PML4 : GUEST_DATA2) + random_below(r, 16) * PAGE_SIZE;
	case 14:
		return random_next(r) >> random_below(r, 64);
	default:
		return random_next(r);
	}
}

static uint64_t random_flags(struct randomness *r)
{
	/* Mostly the arithmetic ones; now and then TF, IF, DF, IOPL, NT, RF, AC and so on. Never VM. */
	uint64_t flags = random_next(r) & 0x8d5;

	if (!random_below(r, 4))
		flags |= random_next(r) & 0x3d7fd5;
	return (flags & ~0x20000ULL) | X86_EFLAGS_FIXED;
}

static uint16_t random_selector(struct randomness *r)
{
	return random_below(r, 8) ? SEL_DATA : random_below(r, 0x80);
}

/* POPA, ES, DS and the frame of an IRET. */
static void start16(struct randomness *r, struct guest *g, unsigned int i)
{
	uint16_t *p = (void *)(g->mem + RANDOM_TABLE16 + i * 32);
	int n;

	p[0] = GUEST_DATA >> 4;
	p[1] = random_below(r, 2) ? GUEST_DATA >> 4 : random_next(r);
	for (n = 0; n < 8; n++)
		p[2 + n] = random_value(r);
	p[10] = random_below(r, RANDOM_BYTES);
	p[11] = GUEST_CODE >> 4;
	p[12] = random_flags(r);
}

static void start32(struct randomness *r, struct guest *g, unsigned int i, unsigned int cpl)
{
	uint32_t *p = (void *)(g->mem + RANDOM_TABLE + i * 256);
	bool small = g->mode == MODE_PROT16;
	int n;

	p[0] = cpl ? SEL_UDATA : small ? SEL_DATA16 : random_selector(r);
	p[1] = cpl ? SEL_UDATA : small ? SEL_DATA16 : SEL_DATA;
	for (n = 0; n < 8; n++)
		p[2 + n] = random_value(r);
	p[10] = random_below(r, RANDOM_BYTES) + (small ? 0 : GUEST_CODE);
	p[11] = cpl ? SEL_UCODE32 : small ? SEL_CODE16 : SEL_CODE32;
	p[12] = random_flags(r);
	p[13] = GUEST_STACK2 - random_below(r, 256) * 4;
	p[14] = SEL_UDATA;
}

static void start64(struct randomness *r, struct guest *g, unsigned int i, unsigned int cpl)
{
	uint64_t *p = (void *)(g->mem + RANDOM_TABLE + i * 256);
	bool compat = g->mode == MODE_COMPAT;
	int n;

	for (n = 0; n < 15; n++)
		p[n] = random_value(r);
	p[15] = GUEST_CODE + random_below(r, RANDOM_BYTES);
	p[16] = cpl ? (compat ? SEL_UCODE32 : SEL_UCODE64) : compat ? SEL_CODE32 : SEL_CODE64;
	p[17] = random_flags(r);
	p[18] = GUEST_STACK - random_below(r, 256) * 8;
	p[19] = cpl ? SEL_UDATA : SEL_DATA;
}

void random_starts(struct randomness *r, struct guest *g, unsigned int cpl)
{
	unsigned int i;

	for (i = 0; i < RANDOM_STARTS; i++) {
		if (g->mode == MODE_REAL)
			start16(r, g, i);
		else if (g->mode == MODE_LONG || g->mode == MODE_COMPAT)
			start64(r, g, i, cpl);
		else
			start32(r, g, i, cpl);
	}
}

static uint64_t random_entry(struct randomness *r)
{
	uint64_t entry = random_below(r, 64) * PAGE_SIZE | (random_next(r) & 0xfff);

	if (random_below(r, 8))
		entry |= 7;
	if (!random_below(r, 4))
		entry |= random_next(r) & 0xfff0000000000000ULL;
	if (!random_below(r, 8))
		entry ^= 1ULL << random_below(r, 64);
	return entry;
}

void random_tables(struct randomness *r, struct guest *g)
{
	uint64_t *p = (void *)(g->mem + GUEST_DATA2);
	unsigned int i, at;

	for (i = 0; i < 512; i++)
		p[i] = random_entry(r);
	for (i = random_below(r, 64); g->mode >= MODE_PAGE32 && i; i--) {
		p = (void *)(g->mem + GUEST_PML4);
		at = random_below(r, (GUEST_STUBS - GUEST_PML4) / sizeof(*p));
		/* The first of each table is what all else is reached by. */
		if (at % 512 || !random_below(r, 64))
			p[at] = random_entry(r);
	}
	for (i = random_below(r, 8); i; i--) {
		p = (void *)(g->mem + (random_below(r, 2) ? GUEST_GDT : GUEST_IDT));
		p[random_below(r, 64)] ^= 1ULL << random_below(r, 64);
	}
	if (!random_below(r, 4))
		g->mem[GUEST_TSS + random_below(r, 0x68)] = random_next(r);
}
