// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs one test case: builds the state before, applies what the case expects to a copy of it,
 * executes, and compares the two whole states. Also keeps account of the table rows that were used.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "world.h"
#include "harness.h"

#define MAX_ROWS	4096

static const struct keel_op *hit_rows[MAX_ROWS];
static unsigned int hit_nr;

/* What a case expects that is no state. */
struct expect {
	int status;
	struct keel_emu_fault fault;
	u32 shadow;
	u64 trap;
	u32 sys;
	bool has_arg;
	u64 arg;
	unsigned int runs;
	unsigned int len;
	bool ip_given;
	bool switched;
	const char *log;
};

void row_hit(const struct keel_op *row)
{
	unsigned int i;

	for (i = 0; i < hit_nr; i++)
		if (hit_rows[i] == row)
			return;
	if (hit_nr == MAX_ROWS)
		abort();
	hit_rows[hit_nr++] = row;
}

bool row_was_hit(const struct keel_op *row)
{
	unsigned int i;

	for (i = 0; i < hit_nr; i++)
		if (hit_rows[i] == row)
			return true;
	return false;
}

static void die(const struct emu_case *c, const char *fmt, const char *word)
{
	fprintf(stderr, "case '%s': ", c->name);
	fprintf(stderr, fmt, word);
	fputc('\n', stderr);
	exit(2);
}

static unsigned int parse_bytes(const char *s, u8 *buf, unsigned int max)
{
	unsigned int n = 0, v;

	while (*s && n < max) {
		if (*s == ' ') {
			s++;
			continue;
		}
		if (sscanf(s, "%2x", &v) != 1)
			break;
		buf[n++] = v;
		s += 2;
	}
	return n;
}

static int name_index(const char *word, const char *const *names, unsigned int nr, size_t *len)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		*len = strlen(names[i]);
		if (!strncmp(word, names[i], *len) && (word[*len] == '=' || word[*len] == '.'))
			return i;
	}
	return -1;
}

static bool parse_flags(struct keel_emu *emu, const char *s)
{
	static const char letters[] = "C.P.A.ZSTIDO..N.R.Kfpi";
	u64 keep = 0x3000 | 0x20000;	/* IOPL, VM */
	const char *p;

	emu->rflags = (emu->rflags & keep) | 2;
	for (; *s; s++) {
		p = *s == '.' ? NULL : strchr(letters, *s);
		if (!p)
			return false;
		emu->rflags |= 1ULL << (p - letters);
	}
	return true;
}

static bool parse_segment(struct world *w, int seg, const char *field, u64 v)
{
	struct keel_emu_seg *s = &w->seg[seg];

	if (!strcmp(field, "base"))
		s->base = v;
	else if (!strcmp(field, "limit"))
		s->limit = v;
	else if (!strcmp(field, "sel"))
		s->selector = v;
	else if (!strcmp(field, "type"))
		s->type = v;
	else if (!strcmp(field, "dpl"))
		s->dpl = v;
	else if (!strcmp(field, "db"))
		s->db = v;
	else if (!strcmp(field, "g"))
		s->g = v;
	else if (!strcmp(field, "s"))
		s->s = v;
	else if (!strcmp(field, "l"))
		s->l = v;
	else if (!strcmp(field, "avl"))
		s->avl = v;
	else if (!strcmp(field, "present"))
		s->present = v;
	else if (!strcmp(field, "unusable"))
		s->unusable = v;
	else
		return false;
	return true;
}

static bool parse_memory(struct world *w, const char *word, const char *value)
{
	unsigned long addr, len;
	u64 v;

	addr = strtoul(strchr(word, ':') + 1, NULL, 16);
	if (addr >= WORLD_MEM)
		return false;
	if (!strncmp(word, "mb:", 3))
		return parse_bytes(value, w->mem + addr, WORLD_MEM - addr) > 0;
	v = strtoull(value, NULL, 16);
	if (!strncmp(word, "fill:", 5)) {
		len = strtoul(strchr(word, ',') + 1, NULL, 16);
		if (addr + len > WORLD_MEM)
			return false;
		memset(w->mem + addr, v, len);
		return true;
	}
	memcpy(w->mem + addr, &v, word[1] - '0');
	return true;
}

/* State words, valid before and after. */
static bool parse_state(struct world *w, const char *word, const char *value)
{
	static const char *const gprs[] = {
		"ax", "cx", "dx", "bx", "sp", "bp", "si", "di",
		"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
	};
	static const char *const segs[] = { "es", "cs", "ss", "ds", "fs", "gs", "tr", "ldtr" };
	u64 v = strtoull(value, NULL, 16);
	char field[16] = "";
	size_t len;
	int i;

	i = name_index(word, gprs, 16, &len);
	if (i >= 0) {
		w->emu.gpr[i] = v;
		return true;
	}
	i = name_index(word, segs, 8, &len);
	if (i >= 0 && word[len] == '.' && sscanf(word + len + 1, "%15[a-z]", field) == 1)
		return parse_segment(w, i, field, v);
	if (word[0] == 'm' && (word[2] == ':') && strchr("1248b", word[1]))
		return parse_memory(w, word, value);
	if (!strncmp(word, "fill:", 5))
		return parse_memory(w, word, value);
	if (!strncmp(word, "fl=", 3))
		return parse_flags(&w->emu, value);
	if (!strncmp(word, "cr", 2) && word[3] == '=')
		w->cr[word[2] - '0'] = v;
	else if (!strncmp(word, "dr", 2) && word[3] == '=')
		w->dr[word[2] - '0'] = v;
	else if (!strncmp(word, "iopl=", 5))
		w->emu.rflags = (w->emu.rflags & ~0x3000ULL) | v << 12;
	else if (!strncmp(word, "vm=", 3))
		w->emu.rflags = (w->emu.rflags & ~0x20000ULL) | v << 17;
	else if (!strncmp(word, "ip=", 3))
		w->emu.rip = v;
	else if (!strncmp(word, "xcr0=", 5))
		w->xcr0 = v;
	else if (!strncmp(word, "tsc=", 4))
		w->tsc = v;
	else if (!strncmp(word, "aux=", 4))
		w->tsc_aux = v;
	else if (!strncmp(word, "efer=", 5))
		w->efer = v;
	else if (!strncmp(word, "kgs=", 4))
		w->kernel_gs_base = v;
	else if (!strncmp(word, "star=", 5))
		w->star = v;
	else if (!strncmp(word, "lstar=", 6))
		w->lstar = v;
	else if (!strncmp(word, "cstar=", 6))
		w->cstar = v;
	else if (!strncmp(word, "sfmask=", 7))
		w->sfmask = v;
	else if (!strncmp(word, "secs=", 5))
		w->sysenter_cs = v;
	else if (!strncmp(word, "sesp=", 5))
		w->sysenter_esp = v;
	else if (!strncmp(word, "seip=", 5))
		w->sysenter_eip = v;
	else if (!strncmp(word, "gdt.base=", 9))
		w->gdt_base = v;
	else if (!strncmp(word, "gdt.limit=", 10))
		w->gdt_limit = v;
	else if (!strncmp(word, "idt.base=", 9))
		w->idt_base = v;
	else if (!strncmp(word, "idt.limit=", 10))
		w->idt_limit = v;
	else if (word[0] == 'x')
		parse_bytes(value, w->vec[strtoul(word + 1, NULL, 10) & 15], 32);
	else if (!strncmp(word, "fx=", 3))
		parse_bytes(value, w->fx, sizeof(w->fx));
	else if (!strncmp(word, "mm", 2))
		parse_bytes(value, w->mm[(word[2] - '0') & 7], 8);
	else
		return false;
	return true;
}

static bool parse_before(struct world *w, const char *word, const char *value)
{
	int i;

	if (!strncmp(word, "cpl=", 4)) {
		w->emu.cpl = strtoul(value, NULL, 16);
		for (i = KEEL_ES; i <= KEEL_GS; i++)
			w->seg[i].dpl = w->emu.cpl;
		return true;
	}
	if (!strncmp(word, "lose=", 5)) {
		w->lose_races = strtoul(value, NULL, 16);
		return true;
	}
	if (!strncmp(word, "mf=", 3)) {
		w->x87_pending = strtoul(value, NULL, 16);
		return true;
	}
	if (!strncmp(word, "amd=", 4)) {
		w->amd = true;
		return true;
	}
	return parse_state(w, word, value);
}

static bool parse_after(struct world *w, struct expect *e, const char *word, const char *value)
{
	u64 v = strtoull(value, NULL, 16);

	if (!strncmp(word, "fault=", 6)) {
		e->status = KEEL_EMU_FAULT;
		e->fault.vector = v;
		e->fault.has_error = strchr(value, ':');
		if (e->fault.has_error)
			e->fault.error = strtoul(strchr(value, ':') + 1, NULL, 16);
	} else if (!strncmp(word, "cr2fault=", 9)) {
		e->fault.cr2 = v;
	} else if (!strcmp(word, "unhandled")) {
		e->status = KEEL_EMU_UNHANDLEABLE;
	} else if (!strncmp(word, "log=", 4)) {
		e->log = word + 4;
	} else if (!strncmp(word, "shadow=", 7)) {
		e->shadow = v;
	} else if (!strncmp(word, "trap=", 5)) {
		e->trap = v;
	} else if (!strncmp(word, "sys=", 4)) {
		e->sys = v;
	} else if (!strncmp(word, "arg=", 4)) {
		e->has_arg = true;
		e->arg = v;
	} else if (!strncmp(word, "runs=", 5)) {
		e->runs = v;
	} else if (!strncmp(word, "len=", 4)) {
		e->len = v;
	} else if (!strncmp(word, "cpl=", 4)) {
		w->emu.cpl = v;
	} else if (!strncmp(word, "mode=", 5)) {
		w->emu.mode = v;
	} else if (!strncmp(word, "switched=", 9)) {
		e->switched = v;
	} else {
		if (!strncmp(word, "ip=", 3))
			e->ip_given = true;
		return parse_state(w, word, value);
	}
	return true;
}

static void parse(const struct emu_case *c, const char *text, struct world *w, struct expect *e)
{
	char *copy = strdup(text), *save = NULL, *word;
	static char log[4096];

	for (word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		const char *value = strchr(word, '=');
		bool ok;

		value = value ? value + 1 : "";
		ok = e ? parse_after(w, e, word, value) : parse_before(w, word, value);
		if (!ok)
			die(c, "cannot read '%s'", word);
	}
	if (e && e->log) {
		snprintf(log, sizeof(log), "%s", e->log);
		e->log = log;
	}
	free(copy);
}

static void log_text(const struct world *w, char *buf, unsigned int size)
{
	unsigned int i, n = 0;

	*buf = 0;
	for (i = 0; i < w->log_nr && n < size; i++) {
		const struct world_access *a = &w->log[i];

		n += snprintf(buf + n, size - n, "%s%c%u:%llx", i ? "," : "",
			      a->port ? a->write ? 'o' : 'i' : a->write ? 'w' : 'r', a->len,
			      a->addr);
		if (a->write && n < size)
			n += snprintf(buf + n, size - n, "=%llx", a->val);
	}
}

static bool compare(const struct world *got, const struct world *want, u64 undef, char *why,
		    unsigned int size)
{
	unsigned int i;

	for (i = 0; i < KEEL_NR_GPRS; i++) {
		if (got->emu.gpr[i] == want->emu.gpr[i])
			continue;
		snprintf(why, size, "register %u is %#llx, expected %#llx", i, got->emu.gpr[i],
			 want->emu.gpr[i]);
		return false;
	}
	if (got->emu.rip != want->emu.rip) {
		snprintf(why, size, "rip is %#llx, expected %#llx", got->emu.rip, want->emu.rip);
		return false;
	}
	if ((got->emu.rflags ^ want->emu.rflags) & ~undef) {
		snprintf(why, size, "rflags is %#llx, expected %#llx (undefined: %#llx)",
			 got->emu.rflags, want->emu.rflags, undef);
		return false;
	}
	if (got->emu.mode != want->emu.mode || got->emu.cpl != want->emu.cpl) {
		snprintf(why, size, "mode %u, CPL %u, expected %u, %u", got->emu.mode,
			 got->emu.cpl, want->emu.mode, want->emu.cpl);
		return false;
	}
	for (i = 0; i < WORLD_MEM; i++) {
		if (got->mem[i] == want->mem[i])
			continue;
		snprintf(why, size, "memory at %#x is %#x, expected %#x", i, got->mem[i],
			 want->mem[i]);
		return false;
	}
	for (i = 0; i < 8; i++) {
		if (!memcmp(&got->seg[i], &want->seg[i], sizeof(got->seg[i])))
			continue;
		snprintf(why, size, "segment register %u: sel %x base %llx limit %x type %x s %u "
			 "dpl %u p %u l %u db %u g %u unusable %u",
			 i, got->seg[i].selector, got->seg[i].base, got->seg[i].limit,
			 got->seg[i].type, got->seg[i].s, got->seg[i].dpl, got->seg[i].present,
			 got->seg[i].l, got->seg[i].db, got->seg[i].g, got->seg[i].unusable);
		return false;
	}
	if (memcmp(got->cr, want->cr, sizeof(got->cr)) ||
	    memcmp(got->dr, want->dr, sizeof(got->dr)) ||
	    memcmp(&got->gdt_base, &want->gdt_base, offsetof(struct world, vec) -
		   offsetof(struct world, gdt_base))) {
		snprintf(why, size, "a control, debug, table or model-specific register differs");
		return false;
	}
	if (memcmp(got->vec, want->vec, sizeof(got->vec)) || memcmp(got->fx, want->fx, sizeof(got->fx)) ||
	    memcmp(got->mm, want->mm, sizeof(got->mm))) {
		snprintf(why, size, "a vector register differs");
		return false;
	}
	return true;
}

/* Execute until it is over: completes device accesses, repeats unfinished REPs. */
static int execute(struct world *w, unsigned int *runs)
{
	u64 start = w->emu.rip;
	unsigned int guard;
	int ret;

	*runs = 0;
	for (guard = 0; guard < 20000; guard++) {
		ret = keel_emu_execute(&w->emu);
		if (ret == KEEL_EMU_IO) {
			world_complete_io(w);
			continue;
		}
		if (ret != KEEL_EMU_OK) {
			memset(w->done, 0, sizeof(w->done));
			return ret;
		}
		++*runs;
		if (w->emu.rip != start || w->emu.db_trap || w->emu.insn.op->op == OP_JMP)
			return ret;
	}
	return -1;
}

static bool check_expect(const struct world *w, const struct expect *e, int ret, unsigned int runs,
			 char *why, unsigned int size)
{
	const struct keel_emu *emu = &w->emu;
	char log[4096];

	if (ret != e->status) {
		snprintf(why, size, "status %d (vector %u), expected %d", ret,
			 ret == KEEL_EMU_FAULT ? emu->fault.vector : 0, e->status);
		return false;
	}
	if (ret == KEEL_EMU_FAULT &&
	    (emu->fault.vector != e->fault.vector || emu->fault.error != e->fault.error ||
	     emu->fault.has_error != e->fault.has_error || emu->fault.cr2 != e->fault.cr2)) {
		snprintf(why, size, "fault %u:%x (%d) cr2 %#llx, expected %u:%x (%d) cr2 %#llx",
			 emu->fault.vector, emu->fault.error, emu->fault.has_error,
			 emu->fault.cr2, e->fault.vector, e->fault.error, e->fault.has_error,
			 e->fault.cr2);
		return false;
	}
	log_text(w, log, sizeof(log));
	if (strcmp(log, e->log ? e->log : "")) {
		snprintf(why, size, "accesses '%s', expected '%s'", log, e->log ? e->log : "");
		return false;
	}
	if (emu->shadow != e->shadow || emu->db_trap != e->trap || w->system_seen != e->sys ||
	    (e->has_arg && w->system_arg != e->arg)) {
		snprintf(why, size, "shadow %x, trap %llx, system requests %x, argument %#llx",
			 emu->shadow, emu->db_trap, w->system_seen, w->system_arg);
		return false;
	}
	if (emu->switched != e->switched) {
		snprintf(why, size, "switched %u", emu->switched);
		return false;
	}
	if (ret == KEEL_EMU_OK && runs != e->runs) {
		snprintf(why, size, "%u calls, expected %u", runs, e->runs);
		return false;
	}
	if (e->len && e->len != emu->insn.length) {
		snprintf(why, size, "length %u, expected %u", emu->insn.length, e->len);
		return false;
	}
	return true;
}

/* An event or task switch in place of an instruction; the format is in cases.h. */
static int run_event(struct keel_emu *emu, const char *text)
{
	const char *colon = strchr(text, ':');
	unsigned int kind, nr;

	if (sscanf(text, "!t%x %x", &kind, &nr) == 2)
		return keel_emu_task_switch(emu, &(struct keel_emu_task) {
			.reason = kind, .selector = nr, .has_error = colon,
			.error = colon ? strtoul(colon + 1, NULL, 16) : 0,
			.ext = kind == KEEL_TASK_GATE,
		});
	if (sscanf(text, "!%x %x", &kind, &nr) != 2)
		abort();
	return keel_emu_deliver(emu, &(struct keel_emu_event) {
		.type = kind, .vector = nr, .has_error = colon,
		.error = colon ? strtoul(colon + 1, NULL, 16) : 0,
	});
}

bool run_case(const struct emu_case *c, char *why, unsigned int size)
{
	static struct world got, want;
	struct expect e = { .runs = 1 };
	u8 bytes[32];
	unsigned int n, runs = 0;
	u64 undef = 0, at;
	int ret;

	world_init(&got, c->mode);
	parse(c, c->before, &got, NULL);
	n = parse_bytes(c->bytes, bytes, sizeof(bytes));
	at = got.emu.rip + (c->mode == M64 ? 0 : got.seg[KEEL_CS].base);
	if (n && at + n > WORLD_MEM)
		die(c, "no room for '%s'", c->bytes);
	if (n)
		memcpy(got.mem + at, bytes, n);
	want = got;

	if (*c->bytes == '!') {
		runs = 1;
		while ((ret = run_event(&got.emu, c->bytes)) == KEEL_EMU_IO)
			world_complete_io(&got);
		if (ret)
			memset(got.done, 0, sizeof(got.done));
	} else {
		ret = keel_emu_fetch(&got.emu);
	}
	if (*c->bytes != '!' && ret == KEEL_EMU_OK) {
		row_hit(got.emu.insn.op);
		undef = undefined_flags(&got.emu.insn, got.emu.gpr);
		if (got.emu.insn.length != n)
			die(c, "'%s' has another length", c->bytes);
		ret = execute(&got, &runs);
	}
	parse(c, c->after, &want, &e);
	if (ret == KEEL_EMU_OK && !e.ip_given)
		want.emu.rip += n;
	if (!check_expect(&got, &e, ret, runs, why, size))
		return false;
	return compare(&got, &want, ret ? 0 : undef, why, size);
}
