// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random instructions on random states: by the emulator, and by the CPU this runs on in user mode;
 * registers, flags, memory and faults must agree.
 *
 *	fuzz_diff [comparisons [seed]]
 *
 * Prints one TAP result, and ends with "seed S: N comparisons, M mismatches"; status 1 on a
 * mismatch. Flags that a table row calls undefined are masked. Left out is what user mode cannot
 * run or what differs by design: privileged state, segment loads, time, hypervisor calls, x87, MMX.
 */
#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "harness.h"
#include "internal.h"
#include "native.h"

#define FLAGS_COMPARED	(FL_STATUS | FL_DF | FL_NT | FL_AC | FL_ID)
#define MAX_REPORTS	20

static u64 rng;

static u64 rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1dULL;
}

static unsigned int rnd_below(unsigned int n)
{
	return (rnd() >> 33) % n;
}

/* Values that meet edges more often than chance would. */
static u64 rnd_value(void)
{
	static const u64 edges[] = {
		0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000,
		0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff,
	};

	switch (rnd_below(4)) {
	case 0:
		return edges[rnd_below(14)];
	case 1:
		return rnd_below(70);
	case 2:
		return (s64)(s32)rnd();
	}
	return rnd();
}

/* The emulator's side of the sandbox */

struct side {
	struct keel_emu emu;
	u8 mem[SANDBOX_BYTES];
	u8 vec[16][32];
	u16 selectors[6];
};

static struct side *to_side(struct keel_emu *emu)
{
	return emu->priv;
}

static int translate(struct keel_emu *emu, u64 la, unsigned int acc)
{
	u32 error = 4 | (acc & KEEL_EMU_ACC_WRITE ? 2 : 0);

	if (la < SANDBOX_RAM || la >= SANDBOX_END)
		return keel_emu_page_fault(emu, error, la);
	if (la >= SANDBOX_RO && (acc & KEEL_EMU_ACC_WRITE))
		return keel_emu_page_fault(emu, error | 1, la);
	return KEEL_EMU_OK;
}

static int op_read(struct keel_emu *emu, u64 la, void *buf, unsigned int len, unsigned int acc)
{
	int ret = translate(emu, la, acc);

	if (!ret)
		memcpy(buf, to_side(emu)->mem + la - SANDBOX_RAM, len);
	return ret;
}

static int op_write(struct keel_emu *emu, u64 la, const void *buf, unsigned int len,
		    unsigned int acc)
{
	int ret = translate(emu, la, acc);

	if (!ret)
		memcpy(to_side(emu)->mem + la - SANDBOX_RAM, buf, len);
	return ret;
}

static int op_cmpxchg(struct keel_emu *emu, u64 la, void *old, const void *new, unsigned int len)
{
	int ret = translate(emu, la, KEEL_EMU_ACC_WRITE);
	u8 *p = to_side(emu)->mem + la - SANDBOX_RAM;

	if (!ret && !memcmp(p, old, len))
		memcpy(p, new, len);
	return ret;
}

static int op_probe(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc)
{
	(void)len;
	return translate(emu, la, acc);
}

static void op_commit(struct keel_emu *emu)
{
	(void)emu;
}

static void op_get_seg(struct keel_emu *emu, enum keel_sreg sreg, struct keel_emu_seg *seg)
{
	*seg = (struct keel_emu_seg) { .unusable = 1 };
	if (sreg > KEEL_GS)
		return;
	*seg = (struct keel_emu_seg) {
		.selector = to_side(emu)->selectors[sreg], .limit = 0xffffffff,
		.type = sreg == KEEL_CS ? 0xb : 3, .s = 1, .dpl = 3, .present = 1,
		.l = sreg == KEEL_CS && emu->mode == M64, .db = 1, .g = 1,
	};
}

static u64 op_get_cr(struct keel_emu *emu, unsigned int nr)
{
	(void)emu;
	return nr == 0 ? 0x80050033 : 0x50620;	/* PG AM WP NE ET MP PE; OSXSAVE OSFXSR */
}

static int op_get_vec(struct keel_emu *emu, unsigned int nr, void *buf, unsigned int len)
{
	memcpy(buf, to_side(emu)->vec[nr], len);
	return KEEL_EMU_OK;
}

static int op_set_vec(struct keel_emu *emu, unsigned int nr, const void *buf, unsigned int len,
		      bool zero_upper)
{
	u8 *p = to_side(emu)->vec[nr];

	memcpy(p, buf, len);
	if (zero_upper && len == 16)
		memset(p + 16, 0, 16);
	return KEEL_EMU_OK;
}

static int op_system(struct keel_emu *emu, enum keel_emu_system what, u64 arg, u64 *result)
{
	(void)emu;
	(void)arg;
	if (what == KEEL_SYS_XGETBV)
		*result = 7;
	return KEEL_EMU_OK;
}

/* What never comes into play in user mode stays NULL. */
static const struct keel_emu_ops side_ops = {
	.read = op_read,
	.write = op_write,
	.cmpxchg = op_cmpxchg,
	.probe = op_probe,
	.commit = op_commit,
	.get_seg = op_get_seg,
	.get_cr = op_get_cr,
	.get_vec = op_get_vec,
	.set_vec = op_set_vec,
	.system = op_system,
};

/* One comparison */

struct trial {
	enum keel_emu_mode mode;
	u8 code[32];
	unsigned int len;
	struct keel_insn insn;
	struct native_state start;
	u8 mem[SANDBOX_BYTES];
};

static bool has_movdiri(void)
{
	unsigned int a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & 1 << 27);
}

static bool has_feature(const struct keel_insn *insn)
{
	if (insn->map == KEEL_MAP_0F38 && insn->opcode == 0xf9)
		return has_movdiri();
	switch (insn->op->op) {
	case OP_ADCX:
	case OP_ADOX:
		return __builtin_cpu_supports("bmi2");	/* close enough: ADX came later */
	case OP_VMOV ... OP_VMOV_GPR:
		return !insn->vex || native_has_avx();
	}
	return true;
}

/* Forms that user mode on this machine can be asked to run. */
static bool comparable(const struct trial *t)
{
	const struct keel_insn *insn = &t->insn;

	switch (insn->op->op) {
	case OP_NOEXEC:
	case OP_UD:
	case OP_MOV_TO_SREG:
	case OP_LOAD_FAR_PTR:
	case OP_POP_SREG:
	case OP_VMOV_MMX:
	case OP_PAUSE:
	case OP_CPUID:
	case OP_RDTSC ... OP_RDPID:
	case OP_XGETBV:
	case OP_XSETBV:
	case OP_MONITOR ... OP_HYPERCALL:
	case OP_CLAC ... OP_WRGSBASE:
	case OP_SGDT ... OP_VERW:
	case OP_SMSW:
	case OP_SYSCALL ... OP_SYSEXIT:
	case OP_JMP_FAR ... OP_INTO:
		return false;
	case OP_IN:
	case OP_OUT:
	case OP_INS:
	case OP_OUTS:
		return t->mode == M64;
	case OP_VMOV_GPR:
		return insn->op->dst != O_P && insn->op->src != O_P;
	}
	if (insn->seg == KEEL_FS || insn->seg == KEEL_GS)
		return false;
	return has_feature(insn);
}

/*
 * Where CPUs differ: 66 with near branches in 64-bit mode, 66 with MOVSXD (2 or 4 bytes are read),
 * and REP with LOOPE and LOOPNE (a reserved use, which overrides the condition on some).
 */
static bool vendor_specific(const struct keel_insn *insn)
{
	if (insn->op->op == OP_LOOP && (insn->prefixes & (KEEL_PFX_REP | KEEL_PFX_REPNE)))
		return true;
	return (insn->prefixes & KEEL_PFX_OPSIZE) && insn->mode == M64 &&
	       ((insn->op->flags & F_F64) || insn->op->src == O_E32);
}

static u64 rnd_target(unsigned int size)
{
	static const unsigned long bounds[] = {
		SANDBOX_RAM, SANDBOX_RAM + 0x1000, SANDBOX_RO, SANDBOX_END,
	};
	u64 addr;

	switch (rnd_below(8)) {
	case 0:
		addr = bounds[rnd_below(4)] + rnd_below(32) - 16;
		break;
	case 1:
		addr = SANDBOX_RO + rnd_below(0xff0);
		break;
	default:
		addr = SANDBOX_RAM + 0x100 + rnd_below(0x1e00);
		break;
	}
	return rnd_below(2) ? addr & ~(u64)(size - 1) : addr;
}

static void patch_disp(struct trial *t, s64 disp)
{
	struct keel_insn *insn = &t->insn;
	unsigned int at = insn->length - insn->imm_size - insn->disp_size;

	memcpy(t->code + at, &disp, insn->disp_size);
	insn->disp = disp;
}

/* Let the memory operand be in or near the sandbox. */
static bool aim(struct trial *t)
{
	struct keel_insn *insn = &t->insn;
	u64 target = rnd_target(16);
	u64 *gpr = t->start.gpr;
	u64 index = 0;
	s64 disp;

	if (insn->op->flags & F_MOFFS) {
		if (insn->addr_size == 2)
			return false;
		patch_disp(t, target);
		return true;
	}
	if (!insn->has_modrm || insn->mod == 3 || insn->op->op == OP_LEA ||
	    insn->op->op == OP_NOP)
		return true;
	if (insn->addr_size == 2)
		return false;
	if (insn->index >= 0)
		index = gpr[insn->index] << insn->scale;
	if (insn->base >= 0) {
		if (insn->base == insn->index)
			return false;
		gpr[insn->base] = target - insn->disp - index;
		if (insn->addr_size == 4 && t->mode == M64)
			gpr[insn->base] = (u32)gpr[insn->base] | rnd() << 32;
		return true;
	}
	disp = target - (insn->rip_relative ? CODE_START + insn->length : index);
	if (insn->addr_size == 4)
		disp = (s32)disp;
	if (disp != (s32)disp)
		return false;
	patch_disp(t, disp);
	return true;
}

static bool uses_stack(const struct keel_insn *insn)
{
	return (insn->op->op >= OP_PUSH && insn->op->op <= OP_LEAVE) ||
	       insn->op->op == OP_CALL || insn->op->op == OP_CALL_IND || insn->op->op == OP_RET;
}

static void aim_implied(struct trial *t)
{
	const struct keel_insn *insn = &t->insn;
	u64 *gpr = t->start.gpr;
	u64 high = insn->addr_size == 4 && t->mode == M64 ? rnd() << 32 : 0;

	if (insn->op->flags & F_STR) {
		gpr[KEEL_RSI] = rnd_target(8) | high;
		gpr[KEEL_RDI] = rnd_target(8) | high;
		gpr[KEEL_RCX] = rnd_below(3) ? rnd_below(40) : 0;
		if (gpr[KEEL_RCX])
			gpr[KEEL_RCX] |= high;
	}
	if (insn->op->op == OP_XLAT)
		gpr[KEEL_RBX] = rnd_target(1) | high;
	if (uses_stack(insn) && insn->base != KEEL_RSP)
		gpr[KEEL_RSP] = rnd_target(8);
	if (insn->op->op == OP_ENTER || insn->op->op == OP_LEAVE)
		gpr[KEEL_RBP] = rnd_target(8);
	/* bit strings: mostly near */
	if (insn->op->op >= OP_BT && insn->op->op <= OP_BTC && insn->has_modrm &&
	    insn->reg != insn->base && insn->reg != insn->index && rnd_below(4))
		gpr[insn->reg] = (s64)rnd_below(4096) - 2048;
}

/* Wherever a branch may read its target, put addresses that are safe to go to. */
static void plant_targets(struct trial *t)
{
	unsigned int i;
	u64 val;

	switch (t->insn.op->op) {
	case OP_RET:
	case OP_JMP_IND:
	case OP_CALL_IND:
		for (i = 0; i + 8 <= SANDBOX_RO - SANDBOX_RAM; i += 8) {
			val = CODE_PAGE + 0x100 + 16 * (i & 0x3f);
			memcpy(t->mem + i, &val, 8);
		}
		val = CODE_PAGE + 0x100;
		if (t->insn.op->op != OP_RET && t->insn.mod == 3 && t->insn.rm != KEEL_RSP)
			t->start.gpr[t->insn.rm] = val;
		break;
	case OP_POPF:
		for (i = 0; i < SANDBOX_RO - SANDBOX_RAM; i++)
			t->mem[i] &= ~1;	/* never TF */
		break;
	}
}

static unsigned int put_prefixes(struct trial *t)
{
	unsigned int n = 0;

	while (!rnd_below(3) && n < 4) {
		static const u8 list[] = {
			0x66, 0x66, 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x26, 0x2e, 0x36, 0x3e,
		};

		t->code[n++] = list[rnd_below(sizeof(list))];
	}
	if (t->mode == M64 && rnd_below(2))
		t->code[n++] = 0x40 | rnd_below(16);
	return n;
}

static bool generate(struct trial *t)
{
	unsigned int i, n;

	t->mode = rnd_below(4) ? M64 : M32;
	n = put_prefixes(t);
	if (native_has_avx() && !rnd_below(16)) {
		n = 0;
		t->code[n++] = 0xc5;
		t->code[n++] = rnd_below(2) ? 0xf8 | rnd_below(8) : rnd();
	} else {
		switch (rnd_below(8)) {
		case 0 ... 2:
			t->code[n++] = 0x0f;
			break;
		case 3:
			t->code[n++] = 0x0f;
			if (!rnd_below(4))
				t->code[n++] = 0x38;
			break;
		}
	}
	for (i = n; i < 15; i++)
		t->code[i] = rnd();
	if (keel_decode(&t->insn, t->code, 15, t->mode) || t->insn.map == KEEL_MAP_0F3A)
		return false;
	t->len = t->insn.length;
	if (!comparable(t) || vendor_specific(&t->insn))
		return false;

	for (i = 0; i < KEEL_NR_GPRS; i++)
		t->start.gpr[i] = t->mode == M64 ? rnd_value() : (u32)rnd_value();
	t->start.gpr[KEEL_RSP] = SANDBOX_RAM + 0x1000 + 8 * rnd_below(16);
	if (t->mode == M32)
		memset(&t->start.gpr[8], 0, 8 * 8);
	for (i = 0; i < SANDBOX_BYTES; i += 8) {
		u64 val = i & 0x38 ? rnd() : rnd_value();

		memcpy(t->mem + i, &val, 8);
	}
	/* the read-only page never changes */
	memcpy(t->mem + (SANDBOX_RO - SANDBOX_RAM), native_memory() + (SANDBOX_RO - SANDBOX_RAM),
	       4096);
	for (i = 0; i < sizeof(t->start.vec); i += 8) {
		u64 val = rnd();

		memcpy((u8 *)t->start.vec + i, &val, 8);
	}
	if (!native_has_avx())
		for (i = 0; i < 16; i++)
			memset(t->start.vec[i] + 16, 0, 16);
	t->start.rip = CODE_START;
	t->start.rflags = 0x202 | (rnd() & (FL_STATUS | FL_DF));
	aim_implied(t);
	if (!aim(t))
		return false;
	plant_targets(t);
	for (i = 0; t->mode == M32 && i < 8; i++)
		t->start.gpr[i] = (u32)t->start.gpr[i];
	return true;
}

static int emulate(const struct trial *t, struct side *s)
{
	int ret, guard = 0;

	memset(&s->emu, 0, sizeof(s->emu));
	s->emu.ops = &side_ops;
	s->emu.priv = s;
	memcpy(s->emu.gpr, t->start.gpr, sizeof(s->emu.gpr));
	s->emu.rip = t->start.rip;
	s->emu.rflags = t->start.rflags;
	s->emu.mode = t->mode;
	s->emu.cpl = 3;
	s->emu.insn = t->insn;
	memcpy(s->mem, t->mem, sizeof(s->mem));
	memcpy(s->vec, t->start.vec, sizeof(s->vec));
	asm volatile("mov %%es, %0; mov %%ds, %1; mov %%ss, %2; mov %%fs, %3; mov %%gs, %4"
		     : "=r" (s->selectors[KEEL_ES]), "=r" (s->selectors[KEEL_DS]),
		       "=r" (s->selectors[KEEL_SS]), "=r" (s->selectors[KEEL_FS]),
		       "=r" (s->selectors[KEEL_GS]));
	s->selectors[KEEL_CS] = t->mode == M64 ? 0x33 : 0x23;
	do {
		ret = keel_emu_execute(&s->emu);
	} while (!ret && (t->insn.op->flags & F_STR) && s->emu.rip == CODE_START && ++guard < 100);
	return ret;
}

static bool agree(const struct trial *t, const struct side *s, int ret,
		  const struct native_state *n, const struct native_end *end, char *why,
		  size_t size)
{
	u64 undef = undefined_flags(&t->insn, t->start.gpr);
	u64 mask = t->mode == M64 ? ~0ULL : 0xffffffff;
	bool branched_away = false;
	unsigned int i;

	if (ret == KEEL_EMU_OK && end->vector == 14 && end->cr2 == s->emu.rip &&
	    n->rip == s->emu.rip)
		branched_away = true;
	if (ret == KEEL_EMU_OK && end->vector != 3 && !branched_away) {
		snprintf(why, size, "CPU faults: vector %u:%x cr2 %#llx", end->vector, end->error,
			 end->cr2);
		return false;
	}
	if (ret == KEEL_EMU_FAULT) {
		const struct keel_emu_fault *f = &s->emu.fault;

		/* Of a bad target and a bad stack, which a call finds first is the CPU's own. */
		if (t->insn.op->op == OP_CALL_IND && f->vector == 13 && end->vector == 14)
			return true;
		/* Which of its two operands CMPS reads first, too. */
		u32 ignore = end->cr2 >> 63;	/* the kernel's half: present or not */
		bool any_cr2 = f->vector != 14 || t->insn.op->op == OP_CMPS;

		if (end->vector != f->vector || ((end->error ^ f->error) & ~ignore) ||
		    (!any_cr2 && end->cr2 != f->cr2)) {
			snprintf(why, size, "emulator faults %u:%x cr2 %#llx, CPU %u:%x %#llx",
				 f->vector, f->error, f->cr2, end->vector, end->error, end->cr2);
			return false;
		}
	} else if (ret != KEEL_EMU_OK) {
		snprintf(why, size, "emulator's status is %d", ret);
		return false;
	}
	if (ret == KEEL_EMU_FAULT)
		undef |= FL_STATUS;	/* some faults leave what they computed */
	/* A fault within POPA leaves on some CPUs what was popped before. */
	for (i = ret && t->insn.op->op == OP_POPA ? 8 : 0; i < (t->mode == M64 ? 16 : 8); i++)
		if ((s->emu.gpr[i] ^ n->gpr[i]) & mask) {
			snprintf(why, size, "register %u: emulator %#llx, CPU %#llx, was %#llx", i,
				 s->emu.gpr[i], n->gpr[i], t->start.gpr[i]);
			return false;
		}
	if (s->emu.rip != n->rip) {
		snprintf(why, size, "rip: emulator %#llx, CPU %#llx", s->emu.rip, n->rip);
		return false;
	}
	if ((s->emu.rflags ^ n->rflags) & FLAGS_COMPARED & ~undef) {
		snprintf(why, size, "rflags: emulator %#llx, CPU %#llx, were %#llx, masked %#llx",
			 s->emu.rflags, n->rflags, t->start.rflags, undef);
		return false;
	}
	for (i = 0; i < SANDBOX_BYTES; i++)
		if (s->mem[i] != native_memory()[i]) {
			snprintf(why, size, "memory at %#lx: emulator %#x, CPU %#x",
				 SANDBOX_RAM + i, s->mem[i], native_memory()[i]);
			return false;
		}
	if (memcmp(s->vec, n->vec, sizeof(s->vec))) {
		snprintf(why, size, "vector registers differ");
		return false;
	}
	return true;
}

static void report(const struct trial *t, const char *why)
{
	unsigned int i;

	printf("# %s bytes", t->mode == M64 ? "64-bit" : "32-bit");
	for (i = 0; i < t->len; i++)
		printf(" %02x", t->code[i]);
	printf(": %s\n", why);
	printf("#   ax %#llx cx %#llx dx %#llx bx %#llx sp %#llx bp %#llx si %#llx di %#llx\n",
	       t->start.gpr[0], t->start.gpr[1], t->start.gpr[2], t->start.gpr[3],
	       t->start.gpr[4], t->start.gpr[5], t->start.gpr[6], t->start.gpr[7]);
}

/* A branch into its own bytes would run what was not checked; the code page is no sandbox. */
static bool unsafe_target(const struct trial *t, const struct side *s, int ret)
{
	if (ret == KEEL_EMU_FAULT && s->emu.fault.cr2 >> 12 == CODE_PAGE >> 12)
		return true;
	return !ret && s->emu.rip != CODE_START + t->len && s->emu.rip >= CODE_START &&
	       s->emu.rip < CODE_START + t->len;
}

static void count_row(const struct keel_op *row, const char *path)
{
	static unsigned int column;
	struct trial t = { .mode = M64, .insn = { .op = row, .seg = KEEL_DS } };

	if (row_was_hit(row) || !comparable(&t) || (row->flags & F_VEX))
		return;
	printf("%s[%s]", column++ % 8 ? " " : column > 1 ? "\n# " : "# not compared: ", path);
}

int main(int argc, char **argv)
{
	unsigned long want = argc > 1 ? strtoul(argv[1], NULL, 0) : 100000;
	u64 seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	unsigned long n = 0, bad = 0;
	static struct native_state state;
	static struct trial t;
	static struct side s;
	struct native_end end;
	char why[256];
	int ret;

	if (!native_init()) {
		printf("1..0 # SKIP the sandbox cannot be mapped here\n");
		return 0;
	}
	printf("TAP version 13\n1..1\n");
	rng = seed * 0x9e3779b97f4a7c15ULL + 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (n < want) {
		if (!generate(&t))
			continue;
		ret = emulate(&t, &s);
		if (unsafe_target(&t, &s, ret))
			continue;
		native_fill(t.mem);
		state = t.start;
		native_run(t.code, t.len, t.mode == M64 ? 64 : 32, &state, &end);
		row_hit(t.insn.op);
		n++;
		if (agree(&t, &s, ret, &state, &end, why, sizeof(why)))
			continue;
		if (bad++ < MAX_REPORTS)
			report(&t, why);
	}
	for_each_row(count_row);
	printf("%s - the emulator agrees with this CPU\n", bad ? "\nnot ok 1" : "\nok 1");
	printf("seed %llu: %lu comparisons, %lu mismatches\n", seed, n, bad);
	return bad ? 1 : 0;
}
