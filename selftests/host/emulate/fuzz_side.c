// SPDX-License-Identifier: GPL-2.0-only
/*
 * The emulator's side of the comparison: the sandbox's memory, its descriptor tables and the few
 * system registers that user mode sees, behind struct keel_emu_ops. See fuzz.h.
 */
#include <cpuid.h>
#include <string.h>
#include "fuzz.h"

#define GDT_LA		0xfffffe0000001000ULL
#define LDT_LA		0xfffffe0000002000ULL
#define GDT_LIMIT	127		/* 16 entries */
#define XGETBV_CPUID	0xd

#define CODE64_DESC	0x00affb000000ffffULL
#define CODE32_DESC	0x00cffb000000ffffULL
#define DATA_DESC	0x00cff3000000ffffULL
/* The kernel's own: DPL 0 */
#define KERNEL32_DESC	0x00cf9b000000ffffULL
#define KERNEL64_DESC	0x00af9b000000ffffULL
#define KERNEL_DS_DESC	0x00cf93000000ffffULL

static const u64 gdt[16] = {
	0, KERNEL32_DESC, KERNEL64_DESC, KERNEL_DS_DESC, CODE32_DESC, DATA_DESC, CODE64_DESC,
};

static struct side *to_side(struct keel_emu *emu)
{
	return emu->priv;
}

static u64 descriptor_of(u16 selector)
{
	unsigned int nr = selector >> 3;

	if (selector & 4)
		return nr < LDT_NR ? native_descriptor(nr) : 0;
	return nr < 16 ? gdt[nr] : 0;
}

struct keel_emu_seg side_segment(u16 selector)
{
	u64 d = descriptor_of(selector);
	struct keel_emu_seg seg = {
		.selector = selector, .base = (d >> 16 & 0xffffff) | (d >> 56) << 24,
		.limit = (d & 0xffff) | (d >> 32 & 0xf0000), .type = d >> 40 & 15,
		.s = d >> 44 & 1, .dpl = d >> 45 & 3, .present = d >> 47 & 1, .avl = d >> 52 & 1,
		.l = d >> 53 & 1, .db = d >> 54 & 1, .g = d >> 55 & 1, .unusable = !(selector & ~3),
	};

	if (seg.unusable)
		return (struct keel_emu_seg) { .selector = selector, .unusable = 1 };
	if (seg.g)
		seg.limit = seg.limit << 12 | 0xfff;
	return seg;
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
	u64 d;
	int ret;

	if (acc & KEEL_EMU_ACC_SYSTEM) {
		d = descriptor_of((la & 0xff8) | (la >= LDT_LA ? 4 : 0));
		memcpy(buf, (u8 *)&d + (la & 7), len);
		return KEEL_EMU_OK;
	}
	ret = translate(emu, la, acc);
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
	*seg = to_side(emu)->seg[sreg];
}

static void op_set_seg(struct keel_emu *emu, enum keel_sreg sreg, const struct keel_emu_seg *seg)
{
	to_side(emu)->seg[sreg] = *seg;
}

static void op_get_dtr(struct keel_emu *emu, bool idt, u64 *base, u16 *limit)
{
	(void)emu;
	*base = GDT_LA;
	*limit = idt ? 0 : GDT_LIMIT;
}

static u64 op_get_cr(struct keel_emu *emu, unsigned int nr)
{
	(void)emu;
	return nr == 0 ? 0x80050033 : 0x50620;	/* PG AM WP NE ET MP PE; OSXSAVE OSFXSR FSGSBASE */
}

/* No breakpoints. */
static u64 op_get_dr(struct keel_emu *emu, unsigned int nr)
{
	(void)emu;
	return nr == 7 ? 0x400 : 0;
}

static int op_get_msr(struct keel_emu *emu, u32 msr, u64 *val)
{
	unsigned int aux;

	switch (msr) {
	case 0x10:
		*val = __builtin_ia32_rdtsc();
		return KEEL_EMU_OK;
	case 0xc0000103:
		__builtin_ia32_rdtscp(&aux);
		*val = aux;
		return KEEL_EMU_OK;
	case 0xc0000080:
		*val = 0xd01;
		return KEEL_EMU_OK;
	}
	return keel_emu_fault(emu, VEC_GP, true, 0);
}

/* FS and GS base only: WRFSBASE, WRGSBASE */
static int op_set_msr(struct keel_emu *emu, u32 msr, u64 val)
{
	to_side(emu)->seg[msr == 0xc0000100 ? KEEL_FS : KEEL_GS].base = val;
	return KEEL_EMU_OK;
}

static int op_cpuid(struct keel_emu *emu, u32 regs[4])
{
	(void)emu;
	__cpuid_count(regs[0], regs[2], regs[0], regs[1], regs[2], regs[3]);
	return KEEL_EMU_OK;
}

static int op_get_vec(struct keel_emu *emu, unsigned int nr, void *buf, unsigned int len)
{
	struct side *s = to_side(emu);

	memcpy(buf, len == 8 ? s->mm[nr] : s->vec[nr], len);
	return KEEL_EMU_OK;
}

static int op_set_vec(struct keel_emu *emu, unsigned int nr, const void *buf, unsigned int len,
		      bool zero_upper)
{
	struct side *s = to_side(emu);

	memcpy(len == 8 ? s->mm[nr] : s->vec[nr], buf, len);
	if (zero_upper && len == 16)
		memset(s->vec[nr] + 16, 0, 16);
	return KEEL_EMU_OK;
}

static int op_system(struct keel_emu *emu, enum keel_emu_system what, u64 arg, u64 *result)
{
	u32 lo, hi, a, b, c, d;

	switch (what) {
	case KEEL_SYS_PAUSE:
	case KEEL_SYS_IRET:
		return KEEL_EMU_OK;
	case KEEL_SYS_XGETBV:
		__cpuid_count(XGETBV_CPUID, 1, a, b, c, d);
		if (arg > 1 || (arg == 1 && !(a & 4)))
			return keel_emu_fault(emu, VEC_GP, true, 0);
		asm volatile("xgetbv" : "=a" (lo), "=d" (hi) : "c" ((u32)arg));
		*result = lo | (u64)hi << 32;
		return KEEL_EMU_OK;
	case KEEL_SYS_RSM:
		return keel_emu_fault(emu, VEC_UD, false, 0);
	default:
		return KEEL_EMU_UNHANDLEABLE;
	}
}

/* What never comes into play in user mode stays NULL. */
static const struct keel_emu_ops side_ops = {
	.read = op_read,
	.write = op_write,
	.compare_exchange = op_cmpxchg,
	.probe = op_probe,
	.commit = op_commit,
	.get_seg = op_get_seg,
	.set_seg = op_set_seg,
	.get_dtr = op_get_dtr,
	.get_cr = op_get_cr,
	.get_dr = op_get_dr,
	.get_watch = op_get_dr,
	.get_msr = op_get_msr,
	.set_msr = op_set_msr,
	.cpuid = op_cpuid,
	.get_vec = op_get_vec,
	.set_vec = op_set_vec,
	.system = op_system,
};

/* Execute the trial's instruction to its end: the status of the last call. */
int side_run(const struct trial *t, struct side *s)
{
	int ret, i, guard = 0;

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
	memcpy(s->mm, t->start.mm, sizeof(s->mm));
	for (i = KEEL_ES; i <= KEEL_GS; i++)
		s->seg[i] = side_segment(t->start.sel[i]);
	if (t->mode == M64) {
		s->seg[KEEL_FS].base = t->start.fs_base;
		s->seg[KEEL_GS].base = t->start.gs_base;
	}
	s->seg[KEEL_TR] = (struct keel_emu_seg) { .unusable = 1 };
	s->seg[KEEL_LDTR] = (struct keel_emu_seg) {
		.base = LDT_LA, .limit = LDT_NR * 8 - 1, .type = 2, .present = 1,
	};
	do {
		ret = keel_emu_execute(&s->emu);
	} while (!ret && (t->insn.op->flags & F_STR) && s->emu.rip == t->start.rip &&
		 ++guard < 100);
	return ret;
}

u64 side_linear_rip(const struct side *s)
{
	return s->seg[KEEL_CS].l ? s->emu.rip : (u32)(s->emu.rip + s->seg[KEEL_CS].base);
}
