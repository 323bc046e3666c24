// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random instructions on random states: by the emulator, and by the CPU this runs on in user mode;
 * registers, flags, memory, segments and faults must agree.
 *
 *	fuzz_diff [comparisons [seed]]
 *
 * Prints one TAP result, the rows of the opcode table that were never hit, and ends with "seed S: N
 * comparisons, M mismatches"; status 1 on a mismatch or when a row that user mode can run was not
 * hit. Flags that a table row calls undefined are masked.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fuzz.h"

#define FLAGS_COMPARED	(FL_STATUS | FL_DF | FL_NT | FL_AC | FL_ID)
#define MAX_REPORTS	20

struct outcome {
	const struct trial *t;
	const struct side *s;
	int ret;			/* of the emulator */
	struct native_state n;
	struct native_end end;
	char why[256];
};

#define FAIL(o, ...) (snprintf((o)->why, sizeof((o)->why), __VA_ARGS__), false)

static bool is_memory_fault(unsigned int vector)
{
	return (vector >= 12 && vector <= 14) || vector == 17;
}

/* Where two CPUs may find another fault first, or another half of it. */
static bool same_fault(const struct outcome *o)
{
	const struct keel_emu_fault *f = &o->s->emu.fault;
	const struct native_end *end = &o->end;
	u32 ignore = end->cr2 >> 63;	/* the kernel's half: present or not */
	bool any_cr2 = f->vector != 14;

	switch (o->t->insn.op->op) {
	case OP_CALL:
	case OP_CALL_IND:
		/* Of a bad target and a bad stack, which a call finds first is the CPU's own. */
		if (f->vector == 13 && is_memory_fault(end->vector))
			return true;
		break;
	case OP_JMP_FAR ... OP_RET_FAR:
		/* So with far transfers: the target's descriptor, its limit, and what is on the stack. */
		if (f->vector >= 11 && f->vector <= 13 && is_memory_fault(end->vector) &&
		    end->vector != 13)
			return true;
		break;
	case OP_IRET:
	case OP_CMPS:
	case OP_LOAD_FAR_PTR:
	case OP_BOUND:
		/* Which of two operands is read first, too. */
		any_cr2 = true;
		if (is_memory_fault(f->vector) && is_memory_fault(end->vector))
			return true;
		break;
	case OP_VMOV:
		/* Beyond the stack segment and not aligned. */
		if (f->vector == 12 && end->vector == 13 && (o->t->insn.op->flags & F_ALIGN))
			return true;
		break;
	}
	return end->vector == f->vector && !((end->error ^ f->error) & ~ignore) &&
	       (any_cr2 || end->cr2 == f->cr2);
}

static bool ends_agree(struct outcome *o)
{
	const struct native_end *end = &o->end;
	const struct keel_emu_fault *f = &o->s->emu.fault;
	bool branched_away;

	if (o->ret == KEEL_EMU_OK) {
		/* The fetch at the branch target faults, after the branch. */
		branched_away = end->vector == 14 && end->cr2 == side_linear_rip(o->s) &&
				o->n.rip == o->s->emu.rip;
		if (end->vector == 3 || branched_away)
			return true;
		return FAIL(o, "CPU faults: vector %u:%x cr2 %#llx", end->vector, end->error, end->cr2);
	}
	if (o->ret != KEEL_EMU_FAULT)
		return FAIL(o, "emulator's status is %d", o->ret);
	if (same_fault(o))
		return true;
	return FAIL(o, "emulator faults %u:%x cr2 %#llx, CPU %u:%x %#llx", f->vector, f->error,
		    f->cr2, end->vector, end->error, end->cr2);
}

/* Registers whose value no two executions share. */
static bool is_time(const struct trial *t, unsigned int reg)
{
	return (t->insn.op->op == OP_RDTSC || t->insn.op->op == OP_RDTSCP) &&
	       (reg == KEEL_RAX || reg == KEEL_RDX);
}

static bool registers_agree(struct outcome *o)
{
	/* Upper halves are undefined once compatibility mode was entered. */
	bool was_64 = o->t->mode == M64 && o->n.sel[KEEL_CS] == USER_CS;
	u64 mask = was_64 ? ~0ULL : 0xffffffff;
	unsigned int i = 0;

	/* A fault within POPA leaves on some CPUs what was popped before. */
	if (o->ret && o->t->insn.op->op == OP_POPA)
		return true;
	for (; i < (was_64 ? 16 : 8); i++)
		if (((o->s->emu.gpr[i] ^ o->n.gpr[i]) & mask) && !is_time(o->t, i))
			return FAIL(o, "register %u: emulator %#llx, CPU %#llx, was %#llx", i,
				    o->s->emu.gpr[i], o->n.gpr[i], o->t->start.gpr[i]);
	return true;
}

static bool segments_agree(struct outcome *o)
{
	unsigned int i;
	u64 base;

	for (i = KEEL_ES; i <= KEEL_GS; i++) {
		/* The kernel's IRET clears the RPL of null selectors. */
		if (o->s->seg[i].selector != o->n.sel[i] &&
		    ((o->s->seg[i].selector | o->n.sel[i]) & ~3))
			return FAIL(o, "segment %u: emulator %#x, CPU %#x, was %#x", i,
				    o->s->seg[i].selector, o->n.sel[i], o->t->start.sel[i]);
		/* Whether a null selector clears the base is the CPU's own. */
		if (i < KEEL_FS || o->t->mode != M64 || !native_has_fsgsbase() ||
		    o->s->seg[i].unusable)
			continue;
		base = i == KEEL_FS ? o->n.fs_base : o->n.gs_base;
		if (o->s->seg[i].base != base)
			return FAIL(o, "base of segment %u: emulator %#llx, CPU %#llx", i,
				    o->s->seg[i].base, base);
	}
	return true;
}

static bool memory_agrees(struct outcome *o)
{
	u64 sp = o->t->start.gpr[KEEL_RSP];
	bool called = o->t->insn.op->op == OP_CALL_FAR || o->t->insn.op->op == OP_CALL_FAR_IND;
	unsigned int i;

	for (i = 0; i < SANDBOX_BYTES; i++) {
		/* A far call that faults may leave what it pushed, below the stack pointer. */
		if (o->ret && called && (u16)(sp - (i + 0x1000)) <= 16)
			continue;
		if (o->s->mem[i] != native_memory()[i])
			return FAIL(o, "memory at %#lx: emulator %#x, CPU %#x", SANDBOX_RAM + i,
				    o->s->mem[i], native_memory()[i]);
	}
	return true;
}

static bool agree(struct outcome *o)
{
	u64 undef = undefined_flags(&o->t->insn, o->t->start.gpr);
	const struct side *s = o->s;

	if (!ends_agree(o) || !registers_agree(o) || !segments_agree(o))
		return false;
	if (s->emu.rip != o->n.rip)
		return FAIL(o, "rip: emulator %#llx, CPU %#llx", s->emu.rip, o->n.rip);
	if (o->ret == KEEL_EMU_FAULT)
		undef |= FL_STATUS;	/* some faults leave what they computed */
	if ((s->emu.rflags ^ o->n.rflags) & FLAGS_COMPARED & ~undef)
		return FAIL(o, "rflags: emulator %#llx, CPU %#llx, were %#llx, masked %#llx",
			    s->emu.rflags, o->n.rflags, o->t->start.rflags, undef);
	if (!memory_agrees(o))
		return false;
	if (memcmp(s->vec, o->n.vec, sizeof(s->vec)) || memcmp(s->mm, o->n.mm, sizeof(s->mm)))
		return FAIL(o, "vector registers differ");
	return true;
}

static void report(const struct outcome *o)
{
	const struct native_state *st = &o->t->start;
	unsigned int i;

	printf("# %s bytes", o->t->mode == M64 ? "64-bit" : o->t->mode == M32 ? "32-bit" : "16-bit");
	for (i = 0; i < o->t->len; i++)
		printf(" %02x", o->t->code[i]);
	printf(": %s\n", o->why);
	printf("#   ax %#llx cx %#llx dx %#llx bx %#llx sp %#llx bp %#llx si %#llx di %#llx\n",
	       st->gpr[0], st->gpr[1], st->gpr[2], st->gpr[3], st->gpr[4], st->gpr[5], st->gpr[6],
	       st->gpr[7]);
	printf("#   flags %#llx es %x ss %x ds %x fs %x gs %x\n", st->rflags, st->sel[KEEL_ES],
	       st->sel[KEEL_SS], st->sel[KEEL_DS], st->sel[KEEL_FS], st->sel[KEEL_GS]);
}

/* A branch into its own bytes would run what was not checked; the code page is no sandbox. */
static bool unsafe_target(const struct trial *t, const struct side *s, int ret)
{
	u64 la = side_linear_rip(s);

	if (ret == KEEL_EMU_FAULT && s->emu.fault.cr2 >> 12 == CODE_PAGE >> 12)
		return true;
	return !ret && la != CODE_START + t->len && la >= CODE_START && la < CODE_START + t->len;
}

static unsigned int missed;

static void count_missed(const struct keel_op *row, const struct row_path *path, const char *name)
{
	if (row_was_hit(row) || gen_excluded(row, path))
		return;
	printf("# never hit: [%s]\n", name);
	missed++;
}

/* The reasons for which rows are left out, each with its number of rows. */
static void count_excluded(const struct keel_op *row, const struct row_path *path, const char *name)
{
	static struct {
		const char *why;
		unsigned int n;
	} reasons[16];
	const char *why = row ? gen_excluded(row, path) : NULL;
	unsigned int i;

	(void)name;
	for (i = 0; i < 16; i++) {
		if (!row && reasons[i].n)
			printf("# left out: %u rows (%s)\n", reasons[i].n, reasons[i].why);
		if (row && why && (!reasons[i].why || !strcmp(reasons[i].why, why))) {
			reasons[i].why = why;
			reasons[i].n++;
			return;
		}
	}
}

/* TSC_AUX and the APIC id in CPUID are the CPU's. */
static void stay_on_this_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

int main(int argc, char **argv)
{
	unsigned long want = argc > 1 ? strtoul(argv[1], NULL, 0) : 100000;
	u64 seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	unsigned long n = 0, bad = 0;
	static struct trial t;
	static struct side s;
	static struct outcome o = { .t = &t, .s = &s };

	stay_on_this_cpu();
	if (!native_init()) {
		printf("1..0 # SKIP the sandbox or its LDT cannot be made here\n");
		return 0;
	}
	printf("TAP version 13\n1..2\n");
	setvbuf(stdout, NULL, _IOLBF, 0);
	gen_init(seed);
	while (n < want) {
		if (!gen_trial(&t))
			continue;
		o.ret = side_run(&t, &s);
		if (unsafe_target(&t, &s, o.ret))
			continue;
		native_fill(t.mem);
		o.n = t.start;
		native_run(t.code, t.len, &o.n, &o.end);
		row_hit(t.insn.op);
		n++;
		if (agree(&o))
			continue;
		if (bad++ < MAX_REPORTS)
			report(&o);
	}
	for_each_row(count_missed);
	for_each_row(count_excluded);
	count_excluded(NULL, NULL, NULL);
	printf("%sok 1 - the emulator agrees with this CPU\n", bad ? "not " : "");
	printf("%sok 2 - each row that user mode can run was hit\n", missed ? "not " : "");
	printf("seed %llu: %lu comparisons, %lu mismatches\n", seed, n, bad);
	return bad || missed ? 1 : 0;
}
