// SPDX-License-Identifier: GPL-2.0-only
/*
 * String instructions with REP, and port access: MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS, IN, OUT.
 *
 * A REP instruction is carried out iteration by iteration, each committed with its registers, up to
 * a bound per call; until the last one RIP stays, so an interrupt, a fault or an exit to userspace
 * between two iterations is what hardware would show. INS and OUTS move as many elements at once as
 * fit one page of RAM and our buffer.
 *
 * SDM vol 2 "REP", vol 1 chapter 18 (I/O, protection in 18.5); APM vol 3, vol 2 12.2.4 (TSS).
 */
#include "internal.h"

#define TSS_32_MIN_LIMIT	0x67
#define TSS_IO_MAP_BASE		0x66

/* The permission bitmap in the TSS: two bytes are read, as hardware does (SDM vol 1 18.5.2). */
static int check_io_bitmap(struct keel_emu *emu, u16 port, unsigned int size)
{
	struct keel_emu_seg tr;
	u16 base, bits;
	u32 offset;
	int ret;

	emu->ops->get_seg(emu, KEEL_TR, &tr);
	if (tr.unusable || !tr.present || (tr.type & ~2) != 9 || tr.limit < TSS_32_MIN_LIMIT)
		return fault_gp(emu, 0);
	ret = keel_la_read(emu, tr.base + TSS_IO_MAP_BASE, &base, 2, KEEL_EMU_ACC_SYSTEM);
	if (ret)
		return ret;
	offset = base + port / 8;
	if (offset + 1 > tr.limit)
		return fault_gp(emu, 0);
	ret = keel_la_read(emu, tr.base + offset, &bits, 2, KEEL_EMU_ACC_SYSTEM);
	if (ret)
		return ret;
	if ((bits >> (port & 7)) & ((1 << size) - 1))
		return fault_gp(emu, 0);
	return KEEL_EMU_OK;
}

/* May the current code use @size ports from @port? */
int keel_io_permitted(struct keel_emu *emu, u16 port, unsigned int size)
{
	if (emu->mode == KEEL_EMU_REAL)
		return KEEL_EMU_OK;
	if (emu->mode != KEEL_EMU_VM86 && emu->cpl <= iopl(emu))
		return KEEL_EMU_OK;
	return check_io_bitmap(emu, port, size);
}

static unsigned int io_size(const struct keel_insn *insn)
{
	return insn->op_size > 4 ? 4 : insn->op_size;
}

static int pio_in(struct keel_emu *emu, u16 port, void *buf, unsigned int size, unsigned int *count)
{
	int ret;

	keel_watch_port(emu, port, size);
	ret = emu->ops->pio_in(emu, port, buf, size, count);

	emu->access_nr++;
	return ret;
}

static int pio_out(struct keel_emu *emu, u16 port, const void *buf, unsigned int size,
		   unsigned int *count)
{
	int ret;

	keel_watch_port(emu, port, size);
	ret = emu->ops->pio_out(emu, port, buf, size, count);

	emu->access_nr++;
	return ret;
}

static int exec_in_out(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int size = io_size(insn), one = 1;
	u16 port = insn->op->src == O_IMM ? (u8)insn->imm : (u16)emu->gpr[KEEL_RDX];
	u32 val = 0;
	int ret;

	ret = keel_io_permitted(emu, port, size);
	if (ret)
		return ret;
	if (insn->op->op == OP_OUT) {
		val = gpr_read(emu, KEEL_RAX, size);
		return pio_out(emu, port, &val, size, &one);
	}
	ret = pio_in(emu, port, &val, size, &one);
	if (!ret)
		gpr_write_implied(emu, KEEL_RAX, size, val);
	return ret;
}

static void advance(struct keel_emu *emu, unsigned int reg, unsigned int bytes)
{
	unsigned int size = emu->insn.addr_size;
	u64 val = emu->gpr[reg];

	gpr_write_implied(emu, reg, size, emu->rflags & FL_DF ? val - bytes : val + bytes);
}

static u64 pointer(const struct keel_emu *emu, unsigned int reg)
{
	return emu->gpr[reg] & size_mask(emu->insn.addr_size);
}

/* One element of a string instruction that has no port. */
static int iterate(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int size = insn->op_size;
	u64 val = 0, other = 0;
	int ret;

	switch (insn->op->op) {
	case OP_MOVS:
		ret = keel_mem_read(emu, insn->seg, pointer(emu, KEEL_RSI), &val, size, 0);
		if (!ret)
			ret = keel_mem_write(emu, KEEL_ES, pointer(emu, KEEL_RDI), &val, size, 0);
		break;
	case OP_STOS:
		val = gpr_read(emu, KEEL_RAX, size);
		ret = keel_mem_write(emu, KEEL_ES, pointer(emu, KEEL_RDI), &val, size, 0);
		break;
	case OP_LODS:
		ret = keel_mem_read(emu, insn->seg, pointer(emu, KEEL_RSI), &val, size, 0);
		if (!ret)
			gpr_write_implied(emu, KEEL_RAX, size, val);
		break;
	case OP_CMPS:
		ret = keel_mem_read(emu, insn->seg, pointer(emu, KEEL_RSI), &val, size, 0);
		if (!ret)
			ret = keel_mem_read(emu, KEEL_ES, pointer(emu, KEEL_RDI), &other, size, 0);
		if (!ret)
			ret = keel_alu(emu, OP_CMP, size, &val, other);
		break;
	case OP_SCAS:
		val = gpr_read(emu, KEEL_RAX, size);
		ret = keel_mem_read(emu, KEEL_ES, pointer(emu, KEEL_RDI), &other, size, 0);
		if (!ret)
			ret = keel_alu(emu, OP_CMP, size, &val, other);
		break;
	default:
		ret = KEEL_EMU_UNHANDLEABLE;
		break;
	}
	if (ret)
		return ret;
	if (insn->op->op != OP_STOS && insn->op->op != OP_SCAS)
		advance(emu, KEEL_RSI, size);
	if (insn->op->op != OP_LODS)
		advance(emu, KEEL_RDI, size);
	return KEEL_EMU_OK;
}

/*
 * How many elements from @ea can go at once: @max, if they are one ascending run in one page of
 * RAM; else one. Sets the linear address of the first.
 */
static int port_batch(struct keel_emu *emu, unsigned int seg, u64 ea, unsigned int size,
		      unsigned int acc, unsigned int max, u64 *la, unsigned int *count)
{
	unsigned int n;
	u64 la_all;
	int ret;

	*count = 1;
	ret = keel_mem_linear(emu, seg, ea, size, acc, la);
	if (ret)
		return ret;
	n = (4096 - (*la & 4095)) / size;
	if (n > max)
		n = max;
	if (n > KEEL_EMU_PIO_MAX / size)
		n = KEEL_EMU_PIO_MAX / size;
	if (n > 1 && !emu->watch && !(emu->rflags & (FL_DF | FL_TF)) && ea + n * size - 1 <=
	    size_mask(emu->insn.addr_size)) {
		struct keel_emu_fault fault = emu->fault;

		if (!keel_mem_linear(emu, seg, ea, n * size, acc | ACC_UNALIGNED, &la_all) &&
		    !keel_la_probe(emu, *la, n * size, acc)) {
			*count = n;
			return KEEL_EMU_OK;
		}
		emu->fault = fault;
	}
	ret = keel_la_probe(emu, *la, size, acc);
	return ret == KEEL_EMU_IO ? KEEL_EMU_OK : ret;
}

/* Up to *@count elements of INS or OUTS, permission granted; *@count becomes the number done. */
static int iterate_port(struct keel_emu *emu, unsigned int *count)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int size = io_size(insn);
	u16 port = emu->gpr[KEEL_RDX];
	bool in = insn->op->op == OP_INS;
	unsigned int reg = in ? KEEL_RDI : KEEL_RSI;
	unsigned int asked;
	u64 la;
	int ret;

	ret = port_batch(emu, in ? KEEL_ES : insn->seg, pointer(emu, reg), size,
			 in ? KEEL_EMU_ACC_WRITE : 0, *count, &la, count);
	if (ret)
		return ret;
	asked = *count;
	if (!in) {
		ret = keel_la_read(emu, la, emu->buf, asked * size, 0);
		if (!ret)
			ret = pio_out(emu, port, emu->buf, size, count);
	} else {
		ret = pio_in(emu, port, emu->buf, size, count);
		if (!ret)
			ret = keel_la_write(emu, la, emu->buf, min(*count, asked) * size, 0);
	}
	if (ret)
		return ret;
	*count = min(*count, asked);
	advance(emu, reg, *count * size);
	return KEEL_EMU_OK;
}

/* Does the repeat condition of CMPS or SCAS end the loop? */
static bool condition_ends(const struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	bool zf = emu->rflags & FL_ZF;

	if (insn->op->op != OP_CMPS && insn->op->op != OP_SCAS)
		return false;
	return zf == !!(insn->prefixes & KEEL_PFX_REPNE);
}

int keel_exec_string(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	bool port = insn->op->op == OP_INS || insn->op->op == OP_OUTS;
	bool rep = insn->prefixes & (KEEL_PFX_REP | KEEL_PFX_REPNE);
	unsigned int done = 0, n = 1;
	u64 left;
	int ret;

	if (!(insn->op->flags & F_STR))
		return exec_in_out(emu);
	if (port) {
		ret = keel_io_permitted(emu, emu->gpr[KEEL_RDX], io_size(insn));
		if (ret)
			return ret;
		emu->access_nr = 0;	/* once a call, so no part of an iteration's record */
	}
	if (!rep)
		return port ? iterate_port(emu, &n) : iterate(emu);

	for (;;) {
		left = pointer(emu, KEEL_RCX);
		if (!left)
			return KEEL_EMU_OK;
		if (done >= KEEL_EMU_REP_MAX || emu->watch_hits ||
		    (done && (emu->saved_rflags & FL_TF)))
			break;
		n = 1;
		if (port) {
			n = min_t(u64, left, KEEL_EMU_REP_MAX - done);
			ret = iterate_port(emu, &n);
		} else {
			ret = iterate(emu);
		}
		if (ret)
			return ret;
		gpr_write_implied(emu, KEEL_RCX, insn->addr_size, left - n);
		done += n;
		if (left == n || condition_ends(emu))
			return KEEL_EMU_OK;
		keel_emu_commit(emu);
	}
	emu->next_rip = emu->rip;
	return KEEL_EMU_OK;
}
