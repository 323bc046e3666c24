// SPDX-License-Identifier: GPL-2.0-only
/*
 * The callbacks of the test machine, see world.h. Device and port accesses always need "userspace"
 * first: the callback answers KEEL_EMU_IO, the test calls world_complete_io() and executes again,
 * and the answer is found under the same access number.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "world.h"

static struct world *to_world(struct keel_emu *emu)
{
	return emu->priv;
}

u8 world_device_byte(u64 addr)
{
	return 0xd0 + addr * 7;
}

static bool page_is(u64 la, u64 page)
{
	return (la & ~0xfffULL) == page;
}

static bool is_device(u64 la)
{
	return page_is(la, WORLD_DEVICE) || page_is(la, WORLD_DEVICE2);
}

static int page_fault(struct keel_emu *emu, u64 la, unsigned int acc, bool present)
{
	u32 error = present;

	if (acc & KEEL_EMU_ACC_WRITE)
		error |= 2;
	if (emu->cpl == 3 && !(acc & KEEL_EMU_ACC_SYSTEM))
		error |= 4;
	if (acc & KEEL_EMU_ACC_FETCH)
		error |= 0x10;
	return keel_emu_page_fault(emu, error, la);
}

static int translate(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc)
{
	if (!len || len > 4096 || (la & 4095) + len > 4096) {
		fprintf(stderr, "access across a page: %#llx %u\n", la, len);
		abort();
	}
	if (la >= WORLD_MEM || page_is(la, WORLD_ABSENT))
		return page_fault(emu, la, acc, false);
	if (page_is(la, WORLD_READONLY) && (acc & KEEL_EMU_ACC_WRITE))
		return page_fault(emu, la, acc, true);
	if (page_is(la, WORLD_SUPER) && emu->cpl == 3 && !(acc & KEEL_EMU_ACC_SYSTEM))
		return page_fault(emu, la, acc, true);
	return KEEL_EMU_OK;
}

static int probe(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc)
{
	int ret = translate(emu, la, len, acc);

	if (ret)
		return ret;
	return is_device(la) ? KEEL_EMU_IO : KEEL_EMU_OK;
}

/* A device access: answered if done already, else left for userspace. */
static int device_access(struct keel_emu *emu, struct world_access a, void *in, const void *out,
			 unsigned int *count)
{
	struct world *w = to_world(emu);
	unsigned int nr = emu->access_nr;
	unsigned int bytes = a.len * *count;

	if (nr >= 64)
		abort();
	if (w->done[nr].valid) {
		*count = w->done[nr].count;
		if (in)
			memcpy(in, w->done[nr].data, a.len * *count);
		return KEEL_EMU_OK;
	}
	if (w->io_pending) {
		fprintf(stderr, "second access before the first is completed\n");
		abort();
	}
	w->io_pending = true;
	w->pending_nr = nr;
	w->pending = a;
	w->pending_count = *count;
	if (out)
		memcpy(w->pending_data, out, bytes);
	return KEEL_EMU_IO;
}

static u8 port_byte(u64 port, unsigned int element)
{
	return 0x10 + port * 3 + element * 5;
}

void world_complete_io(struct world *w)
{
	unsigned int i, j;
	struct world_access *a = &w->pending;

	for (i = 0; i < w->pending_count; i++) {
		a->val = 0;
		for (j = 0; j < a->len; j++) {
			u8 b = w->pending_data[i * a->len + j];

			if (!a->write) {
				b = a->port ? port_byte(a->addr + j, i) :
					      world_device_byte(a->addr + j);
				w->done[w->pending_nr].data[i * a->len + j] = b;
			}
			if (j < 8)
				a->val |= (u64)b << (8 * j);
		}
		if (w->log_nr < WORLD_LOG)
			w->log[w->log_nr++] = *a;
	}
	w->done[w->pending_nr].count = w->pending_count;
	w->done[w->pending_nr].valid = true;
	w->io_pending = false;
}

static int mem_read(struct keel_emu *emu, u64 la, void *buf, unsigned int len, unsigned int acc)
{
	struct world *w = to_world(emu);
	unsigned int one = 1;
	int ret = translate(emu, la, len, acc);

	if (ret)
		return ret;
	if (is_device(la) && (acc & KEEL_EMU_ACC_FETCH))
		return KEEL_EMU_UNHANDLEABLE;
	if (is_device(la))
		return device_access(emu, (struct world_access) { .addr = la, .len = len }, buf,
				     NULL, &one);
	memcpy(buf, w->mem + la, len);
	return KEEL_EMU_OK;
}

static int mem_write(struct keel_emu *emu, u64 la, const void *buf, unsigned int len,
		     unsigned int acc)
{
	struct world *w = to_world(emu);
	unsigned int one = 1;
	int ret;

	if (!(acc & KEEL_EMU_ACC_WRITE))
		abort();
	ret = translate(emu, la, len, acc);
	if (ret)
		return ret;
	if (is_device(la))
		return device_access(emu, (struct world_access) { .addr = la, .len = len,
				     .write = true }, NULL, buf, &one);
	memcpy(w->mem + la, buf, len);
	w->wrote++;
	return KEEL_EMU_OK;
}

static int mem_cmpxchg(struct keel_emu *emu, u64 la, void *old, const void *new, unsigned int len)
{
	struct world *w = to_world(emu);
	u8 seen[16];
	int ret = translate(emu, la, len, KEEL_EMU_ACC_WRITE);

	if (ret)
		return ret;
	if (is_device(la))
		return mem_write(emu, la, new, len, KEEL_EMU_ACC_WRITE | KEEL_EMU_ACC_LOCK);
	if (w->lose_races) {
		w->lose_races--;
		w->mem[la] ^= 0x80;
	}
	memcpy(seen, w->mem + la, len);
	if (!memcmp(seen, old, len)) {
		memcpy(w->mem + la, new, len);
		w->wrote++;
	}
	memcpy(old, seen, len);
	return KEEL_EMU_OK;
}

static void commit(struct keel_emu *emu)
{
	struct world *w = to_world(emu);

	memset(w->done, 0, sizeof(w->done));
}

static int pio_in(struct keel_emu *emu, u16 port, void *buf, unsigned int size, unsigned int *count)
{
	if (port == 0x99 && *count > 3)
		*count = 3;	/* a port that takes its time */
	return device_access(emu, (struct world_access) { .addr = port, .len = size,
			     .port = true }, buf, NULL, count);
}

static int pio_out(struct keel_emu *emu, u16 port, const void *buf, unsigned int size,
		   unsigned int *count)
{
	if (port == 0x99 && *count > 3)
		*count = 3;
	return device_access(emu, (struct world_access) { .addr = port, .len = size, .write = true,
			     .port = true }, NULL, buf, count);
}

static void get_seg(struct keel_emu *emu, enum keel_sreg sreg, struct keel_emu_seg *seg)
{
	*seg = to_world(emu)->seg[sreg];
}

static void set_seg(struct keel_emu *emu, enum keel_sreg sreg, const struct keel_emu_seg *seg)
{
	to_world(emu)->seg[sreg] = *seg;
}

static void get_dtr(struct keel_emu *emu, bool idt, u64 *base, u16 *limit)
{
	struct world *w = to_world(emu);

	*base = idt ? w->idt_base : w->gdt_base;
	*limit = idt ? w->idt_limit : w->gdt_limit;
}

static void set_dtr(struct keel_emu *emu, bool idt, u64 base, u16 limit)
{
	struct world *w = to_world(emu);

	*(idt ? &w->idt_base : &w->gdt_base) = base;
	*(idt ? &w->idt_limit : &w->gdt_limit) = limit;
}

static u64 get_cr(struct keel_emu *emu, unsigned int nr)
{
	if (nr != 0 && nr != 2 && nr != 3 && nr != 4 && nr != 8)
		abort();
	return to_world(emu)->cr[nr];
}

/* Bit 63 stands for all that a real CPU refuses. */
static int set_cr(struct keel_emu *emu, unsigned int nr, u64 val)
{
	get_cr(emu, nr);
	if (val >> 63)
		return keel_emu_fault(emu, 13, true, 0);
	to_world(emu)->cr[nr] = val;
	return KEEL_EMU_OK;
}

static u64 get_dr(struct keel_emu *emu, unsigned int nr)
{
	if (nr == 4 || nr == 5 || nr > 7)
		abort();
	return to_world(emu)->dr[nr];
}

static int set_dr(struct keel_emu *emu, unsigned int nr, u64 val)
{
	get_dr(emu, nr);
	if (val >> 32 && nr >= 6)
		return keel_emu_fault(emu, 13, true, 0);
	to_world(emu)->dr[nr] = val;
	return KEEL_EMU_OK;
}

static u64 *find_msr(struct world *w, u32 msr)
{
	switch (msr) {
	case 0x10:
		return &w->tsc;
	case 0x174:
		return &w->sysenter_cs;
	case 0x175:
		return &w->sysenter_esp;
	case 0x176:
		return &w->sysenter_eip;
	case 0xc0000080:
		return &w->efer;
	case 0xc0000081:
		return &w->star;
	case 0xc0000082:
		return &w->lstar;
	case 0xc0000083:
		return &w->cstar;
	case 0xc0000084:
		return &w->sfmask;
	case 0xc0000100:
		return &w->seg[KEEL_FS].base;
	case 0xc0000101:
		return &w->seg[KEEL_GS].base;
	case 0xc0000102:
		return &w->kernel_gs_base;
	case 0xc0000103:
		return &w->tsc_aux;
	}
	return NULL;
}

static int get_msr(struct keel_emu *emu, u32 msr, u64 *val)
{
	u64 *p = find_msr(to_world(emu), msr);

	if (!p)
		return keel_emu_fault(emu, 13, true, 0);
	*val = *p;
	return KEEL_EMU_OK;
}

static int set_msr(struct keel_emu *emu, u32 msr, u64 val)
{
	u64 *p = find_msr(to_world(emu), msr);

	if (!p)
		return keel_emu_fault(emu, 13, true, 0);
	*p = val;
	return KEEL_EMU_OK;
}

/* Leaf 0 names the vendor, when a case wants one; else any answer that shows what was asked. */
static int cpuid(struct keel_emu *emu, u32 regs[4])
{
	struct world *w = to_world(emu);

	regs[1] = w->amd && !regs[0] ? 0x68747541 : regs[0] + 0x100;
	regs[3] = regs[2] + 0x200;
	regs[0] = 0x11;
	regs[2] = 0x22;
	return KEEL_EMU_OK;
}

static u8 *vec_ptr(struct world *w, unsigned int nr, unsigned int len)
{
	if ((len != 8 && len != 16 && len != 32) || nr >= (len == 8 ? 8 : 16))
		abort();
	return len == 8 ? w->mm[nr] : w->vec[nr];
}

static int get_vec(struct keel_emu *emu, unsigned int nr, void *buf, unsigned int len)
{
	if (len == 8 && to_world(emu)->x87_pending)
		return keel_emu_fault(emu, 16, false, 0);
	memcpy(buf, vec_ptr(to_world(emu), nr, len), len);
	return KEEL_EMU_OK;
}

static int set_vec(struct keel_emu *emu, unsigned int nr, const void *buf, unsigned int len,
		   bool zero_upper)
{
	u8 *p = vec_ptr(to_world(emu), nr, len);

	memcpy(p, buf, len);
	if (zero_upper && len == 16)
		memset(p + 16, 0, 16);
	return KEEL_EMU_OK;
}

/* The x87 part is bytes; MXCSR and its mask, and the vector registers. */
static void get_fx(struct keel_emu *emu, void *area)
{
	struct world *w = to_world(emu);
	int i;

	memcpy(area, w->fx, sizeof(w->fx));
	for (i = 0; i < 16; i++)
		memcpy((u8 *)area + sizeof(w->fx) + 16 * i, w->vec[i], 16);
}

static int set_fx(struct keel_emu *emu, const void *area)
{
	struct world *w = to_world(emu);
	u32 mxcsr;
	int i;

	memcpy(&mxcsr, (const u8 *)area + 24, 4);
	if (mxcsr >> 16)
		return keel_emu_fault(emu, 13, true, 0);
	memcpy(w->fx, area, sizeof(w->fx));
	for (i = 0; i < 16; i++)
		memcpy(w->vec[i], (const u8 *)area + sizeof(w->fx) + 16 * i, 16);
	return KEEL_EMU_OK;
}

static int sys(struct keel_emu *emu, enum keel_emu_system what, u64 arg, u64 *result)
{
	struct world *w = to_world(emu);

	w->system_seen |= 1u << what;
	w->system_arg = arg;
	switch (what) {
	case KEEL_SYS_RDPMC:
		*result = 0x1122334455667788ULL + arg;
		break;
	case KEEL_SYS_XGETBV:
		if (arg)
			return keel_emu_fault(emu, 13, true, 0);
		*result = w->xcr0;
		break;
	case KEEL_SYS_XSETBV:
		if (arg || !(*result & 1))
			return keel_emu_fault(emu, 13, true, 0);
		w->xcr0 = *result;
		break;
	case KEEL_SYS_RDPKRU:
		*result = 0x55555554;
		break;
	case KEEL_SYS_HYPERCALL:
		*result = 0x4242;
		break;
	default:
		break;
	}
	return KEEL_EMU_OK;
}

const struct keel_emu_ops world_ops = {
	.read = mem_read,
	.write = mem_write,
	.compare_exchange = mem_cmpxchg,
	.probe = probe,
	.commit = commit,
	.pio_in = pio_in,
	.pio_out = pio_out,
	.get_seg = get_seg,
	.set_seg = set_seg,
	.get_dtr = get_dtr,
	.set_dtr = set_dtr,
	.get_cr = get_cr,
	.set_cr = set_cr,
	.get_dr = get_dr,
	.set_dr = set_dr,
	.get_watch = get_dr,
	.get_msr = get_msr,
	.set_msr = set_msr,
	.cpuid = cpuid,
	.get_vec = get_vec,
	.set_vec = set_vec,
	.get_fx = get_fx,
	.set_fx = set_fx,
	.system = sys,
};

/* The GDT of the protected modes; the comments are the selectors at RPL 0. */
static const u64 gdt[] = {
	0,
	0x00cf9b000000ffff,	/* 08 code 32, DPL 0 */
	0x00cf93000000ffff,	/* 10 data 32, DPL 0 */
	0x00cffb000000ffff,	/* 18 code 32, DPL 3 */
	0x00cff3000000ffff,	/* 20 data 32, DPL 3 */
	0x00af9b000000ffff,	/* 28 code 64, DPL 0 */
	0x000093000000ffff,	/* 30 data 16, DPL 0 */
	0x00cf13000000ffff,	/* 38 data, not present */
	0x00cf91000000ffff,	/* 40 data, read-only */
	0x00cf99000000ffff,	/* 48 code, execute-only */
	0x00cf9f000000ffff,	/* 50 code, conforming, readable */
	0x0000970000000fff,	/* 58 data, expand-down 16, above 0xfff */
	0x00cf920030000fff,	/* 60 data, base 0x3000, not yet accessed */
	0x0000820000000007,	/* 68 LDT at 0 */
	0x0000000000000000,	/* 70 its upper half */
	0x0000890110000067,	/* 78 TSS at 0x11000, available */
	0x0000000000000000,	/* 80 its upper half */
	0x00008b0110000067,	/* 88 TSS, busy */
	0x0000000000000000,	/* 90 */
	0x0000ec0000080000,	/* 98 call gate, DPL 3 */
};

static struct keel_emu_seg flat_seg(u16 selector, u8 type, u8 dpl, bool code64, bool db)
{
	return (struct keel_emu_seg) {
		.selector = selector, .limit = 0xffffffff, .type = type, .s = 1, .dpl = dpl,
		.present = 1, .l = code64, .db = db, .g = 1,
	};
}

static void init_segments(struct world *w, enum keel_emu_mode mode)
{
	bool real = mode == KEEL_EMU_REAL || mode == KEEL_EMU_VM86;
	u8 dpl = w->emu.cpl;
	int i;

	for (i = KEEL_ES; i <= KEEL_GS; i++) {
		if (real) {
			w->seg[i] = (struct keel_emu_seg) {
				.limit = 0xffff, .type = 3, .s = 1, .present = 1,
				.dpl = mode == KEEL_EMU_VM86 ? 3 : 0,
			};
			continue;
		}
		w->seg[i] = flat_seg(0x10, 3, dpl, false, mode != KEEL_EMU_PROT16);
		if (mode == KEEL_EMU_PROT16 && i == KEEL_SS)
			w->seg[i].limit = 0xffff;
	}
	if (!real)
		w->seg[KEEL_CS] = flat_seg(mode == KEEL_EMU_PROT64 ? 0x28 : 0x08, 0xb, dpl,
					   mode == KEEL_EMU_PROT64, mode == KEEL_EMU_PROT32);
	if (mode == KEEL_EMU_PROT16)
		w->seg[KEEL_CS].limit = 0xffff;
	w->seg[KEEL_TR] = (struct keel_emu_seg) {
		.selector = 0x88, .base = WORLD_TSS, .limit = 0xff, .type = 0xb, .present = 1,
	};
	w->seg[KEEL_LDTR] = (struct keel_emu_seg) { .unusable = 1 };
	memcpy(w->mem + WORLD_GDT, gdt, sizeof(gdt));
	w->gdt_base = WORLD_GDT;
	w->gdt_limit = sizeof(gdt) - 1;
	w->idt_base = 0x12000;
	w->idt_limit = 0x7ff;
	/* I/O bitmap from 0x68: ports 0 to 0x3f allowed, from 0x40 on not */
	w->mem[WORLD_TSS + 0x66] = 0x68;
	memset(w->mem + WORLD_TSS + 0x68, 0, 8);
	memset(w->mem + WORLD_TSS + 0x70, 0xff, 0x90);
}

void world_init(struct world *w, enum keel_emu_mode mode)
{
	unsigned int i, j;

	memset(w, 0, sizeof(*w));
	w->emu.ops = &world_ops;
	w->emu.priv = w;
	w->emu.mode = mode;
	w->emu.cpl = mode == KEEL_EMU_VM86 ? 3 : 0;
	w->emu.rip = 0x1000;
	w->emu.rflags = 0x2 | (mode == KEEL_EMU_VM86 ? 0x20000 : 0);
	for (i = 0; i < KEEL_NR_GPRS; i++)
		w->emu.gpr[i] = mode == KEEL_EMU_PROT64 ? 0x1111111111111111ULL * i :
							  i < 8 ? 0x11111111ULL * i : 0;
	w->emu.gpr[KEEL_RSP] = 0x7000;
	for (i = 0; i < 16; i++)
		for (j = 0; j < 32; j++)
			w->vec[i][j] = 0x10 * i + j;
	for (i = 0; i < sizeof(w->fx); i++)
		w->fx[i] = i;
	memcpy(w->fx + 24, "\x80\x1f\0\0\xff\xff\0", 8);	/* MXCSR and its mask */
	for (i = 0; i < 8; i++)
		for (j = 0; j < 8; j++)
			w->mm[i][j] = 0x80 + 0x10 * i + j;
	w->cr[0] = mode == KEEL_EMU_REAL ? 0x10 : 0x80000011;
	w->cr[2] = 0x2222;
	w->cr[3] = 0x3000;
	w->cr[4] = 0x50620;	/* OSXSAVE, FSGSBASE, OSXMMEXCPT, OSFXSR, PAE */
	w->cr[8] = 8;
	w->dr[6] = 0xffff0ff0;
	w->dr[7] = 0x400;
	w->xcr0 = 7;
	w->efer = mode == KEEL_EMU_PROT64 ? 0x500 : 0;
	w->tsc = 0x0123456789abcdefULL;
	w->tsc_aux = 7;
	w->kernel_gs_base = 0xffff888000000000ULL;
	init_segments(w, mode);
}
