// SPDX-License-Identifier: GPL-2.0-only
/*
 * Execution: fetch and decode, the frame around each instruction (what is saved, committed, or
 * undone), operands, data movement, and the dispatch to the other files.
 *
 * An instruction is all or nothing. keel_emu_execute() keeps a copy of the registers and gives it
 * back unless the handler says KEEL_EMU_OK; handlers write memory last. A locked instruction reads,
 * computes, and compares-and-exchanges; when another CPU won the race, the registers are given back
 * and the instruction is left to run again.
 *
 * SDM vol 2; vol 3 chapter 8.1 (LOCK), 17.3.1.4 (single step), 6.8.3 (interrupt shadow); APM vol 3.
 */
#include "internal.h"

static void save(struct keel_emu *emu)
{
	memcpy(emu->saved_gpr, emu->gpr, sizeof(emu->gpr));
	emu->saved_rflags = emu->rflags;
	emu->saved_mode = emu->mode;
	emu->saved_cpl = emu->cpl;
}

static void restore(struct keel_emu *emu)
{
	memcpy(emu->gpr, emu->saved_gpr, sizeof(emu->gpr));
	emu->rflags = emu->saved_rflags;
	emu->mode = emu->saved_mode;
	emu->cpl = emu->saved_cpl;
	emu->shadow = 0;
	emu->db_trap = 0;
}

/* What was done so far is final: for the end of an instruction or of a REP iteration. */
void keel_emu_commit(struct keel_emu *emu)
{
	save(emu);
	emu->access_nr = 0;
	emu->ops->commit(emu);
}

/* Where an operand is, and its value if that is no memory read. */
int keel_operand_locate(struct keel_emu *emu, unsigned int kind, struct operand *o)
{
	const struct keel_insn *insn = &emu->insn;

	*o = (struct operand) { .kind = kind, .size = insn->op_size };
	switch (kind) {
	case O_NONE:
		return KEEL_EMU_OK;
	case O_E8:
		o->size = 1;
		break;
	case O_E16:
		o->size = 2;
		break;
	case O_E32:
		o->size = insn->op_size == 2 ? 2 : 4;
		break;
	case O_E:
		break;
	case O_G32:
		o->size = 4;
		fallthrough;
	case O_G:
		o->reg = insn->reg;
		goto reg;
	case O_Z:
		o->reg = (insn->opcode & 7) | (insn->rex & 1 ? 8 : 0);
		goto reg;
	case O_ACC:
		o->reg = KEEL_RAX;
		goto reg;
	case O_CL:
		o->kind = O_NONE;
		o->val = emu->gpr[KEEL_RCX] & 0xff;
		return KEEL_EMU_OK;
	case O_ONE:
		o->kind = O_NONE;
		o->val = 1;
		return KEEL_EMU_OK;
	case O_IMM:
		o->kind = O_NONE;
		o->val = insn->imm & size_mask(insn->op_size);
		return KEEL_EMU_OK;
	case O_MOFFS:
		goto memory;
	default:
		return KEEL_EMU_UNHANDLEABLE;
	}
	if (insn->mod == 3) {
		o->reg = insn->rm;
		goto reg;
	}
memory:
	o->mem = true;
	o->seg = insn->seg;
	o->ea = keel_mem_ea(emu);
	return KEEL_EMU_OK;
reg:
	o->val = gpr_read(emu, o->reg, o->size);
	return KEEL_EMU_OK;
}

int keel_operand_read(struct keel_emu *emu, struct operand *o, unsigned int acc)
{
	if (!o->mem)
		return KEEL_EMU_OK;
	o->val = 0;
	return keel_mem_read(emu, o->seg, o->ea, &o->val, o->size, acc);
}

int keel_operand_write(struct keel_emu *emu, struct operand *o)
{
	if (o->mem)
		return keel_mem_write(emu, o->seg, o->ea, &o->val, o->size, 0);
	if (o->kind != O_NONE)
		gpr_write(emu, o->reg, o->size, o->val);
	return KEEL_EMU_OK;
}

/* Another CPU changed the operand of a locked instruction: nothing happened, run it again. */
static int lost_race(struct keel_emu *emu)
{
	restore(emu);
	emu->next_rip = emu->rip;
	emu->no_trap = true;
	emu->keep_rf = true;
	emu->watch_hits = 0;
	return KEEL_EMU_OK;
}

static int write_locked(struct keel_emu *emu, struct operand *o, u64 old)
{
	u64 seen = old;
	int ret = keel_mem_cmpxchg(emu, o->seg, o->ea, &seen, &o->val, o->size);

	if (ret)
		return ret;
	return seen == old ? KEEL_EMU_OK : lost_race(emu);
}

/* The memory forms of BT with a register index address a bit string (SDM vol 2 "BT"). */
static void bit_string(struct keel_emu *emu, struct operand *dst, const struct operand *src)
{
	s64 index = sign_extend(src->val, src->size);
	s64 unit = index >> (dst->size == 8 ? 6 : dst->size == 4 ? 5 : 4);

	dst->ea = (dst->ea + unit * dst->size) & size_mask(emu->insn.addr_size);
}

static void exchange_add(struct keel_emu *emu, struct operand *dst, struct operand *src)
{
	u64 sum = dst->val;

	keel_alu(emu, OP_ADD, dst->size, &sum, src->val);
	/* source first: with the same register twice the sum stays */
	gpr_write(emu, src->reg, src->size, dst->val);
	dst->val = sum;
}

/* Returns whether memory is to be written. */
static bool compare_exchange(struct keel_emu *emu, struct operand *dst, struct operand *src)
{
	u64 acc = gpr_read(emu, KEEL_RAX, dst->size);
	u64 a = acc;

	keel_alu(emu, OP_CMP, dst->size, &a, dst->val);
	if (acc == dst->val) {
		dst->val = src->val;
		return true;
	}
	gpr_write(emu, KEEL_RAX, dst->size, dst->val);
	return false;
}

/* The value operation of an instruction with explicit operands. @write: is dst to be written? */
static int operate(struct keel_emu *emu, struct operand *dst, struct operand *src, bool *write)
{
	const struct keel_insn *insn = &emu->insn;
	u64 old = dst->val;

	switch (insn->op->op) {
	case OP_MOV:
	case OP_MOVZX:
		dst->val = src->val;
		break;
	case OP_MOVSX:
		dst->val = sign_extend(src->val, src->size);
		break;
	case OP_XCHG:
		dst->val = src->val;
		gpr_write(emu, src->reg, src->size, old);
		break;
	case OP_XADD:
		exchange_add(emu, dst, src);
		break;
	case OP_CMPXCHG:
		*write = compare_exchange(emu, dst, src);
		break;
	case OP_BSF:
	case OP_BSR:
		*write = src->val;	/* or not even the upper half is cleared */
		return keel_alu(emu, insn->op->op, dst->size, &dst->val, src->val);
	case OP_CMOV:
		if (keel_condition(emu->rflags, insn->opcode))
			dst->val = src->val;
		break;
	case OP_SETCC:
		dst->val = keel_condition(emu->rflags, insn->opcode);
		break;
	case OP_CRC32:
		return keel_alu(emu, OP_CRC32, src->size, &dst->val, src->val);
	case OP_MUL:
	case OP_IMUL1:
	case OP_IMUL2:
	case OP_IMUL3:
	case OP_DIV:
	case OP_IDIV:
		*write = false;
		return keel_exec_muldiv(emu, src->size, src->val);
	default:
		return keel_alu(emu, insn->op->op, dst->size, &dst->val, src->val);
	}
	return KEEL_EMU_OK;
}

/* Read, operate, write: all instructions whose row names their operands. */
static int exec_operands(struct keel_emu *emu)
{
	const struct keel_op *op = emu->insn.op;
	bool write = !(op->flags & F_NOWB);
	struct operand dst, src;
	bool locked;
	u64 old;
	int ret;

	ret = keel_operand_locate(emu, op->src, &src);
	if (!ret)
		ret = keel_operand_read(emu, &src, 0);
	if (!ret)
		ret = keel_operand_locate(emu, op->dst, &dst);
	if (ret)
		return ret;

	if (dst.mem && op->src == O_G && op->op >= OP_BT && op->op <= OP_BTC)
		bit_string(emu, &dst, &src);
	locked = dst.mem && write &&
		 ((emu->insn.prefixes & KEEL_PFX_LOCK) || op->op == OP_XCHG);
	if (!(op->flags & F_NORD)) {
		ret = keel_operand_read(emu, &dst, (write ? KEEL_EMU_ACC_WRITE : 0) |
					(locked ? KEEL_EMU_ACC_LOCK : 0));
		if (ret)
			return ret;
	}
	old = dst.val;
	ret = operate(emu, &dst, &src, &write);
	if (ret || !write)
		return ret;
	return locked ? write_locked(emu, &dst, old) : keel_operand_write(emu, &dst);
}

/* CMPXCHG8B and CMPXCHG16B; not locked, it is a read and a write */
static int exec_cmpxchg_wide(struct keel_emu *emu)
{
	unsigned int half = emu->insn.op_size == 8 ? 8 : 4;
	unsigned int len = 2 * half;
	bool locked = emu->insn.prefixes & KEEL_PFX_LOCK;
	u64 ea = keel_mem_ea(emu);
	unsigned int seg = emu->insn.seg;
	u8 old[16] = {}, new[16] = {}, seen[16];
	unsigned int acc = KEEL_EMU_ACC_WRITE | (locked ? KEEL_EMU_ACC_LOCK : 0);
	u64 lo = 0, hi = 0, la;
	int ret;

	ret = keel_mem_linear(emu, seg, ea, len, acc | ACC_UNALIGNED, &la);
	if (ret)
		return ret;
	if (len == 16 && (la & 15))
		return fault_gp(emu, 0);
	ret = keel_mem_read(emu, seg, ea, old, len, acc);
	if (ret)
		return ret;
	memcpy(&lo, old, half);
	memcpy(&hi, old + half, half);
	if (lo != gpr_read(emu, KEEL_RAX, half) || hi != gpr_read(emu, KEEL_RDX, half)) {
		gpr_write(emu, KEEL_RAX, half, lo);
		gpr_write(emu, KEEL_RDX, half, hi);
		flag_set(emu, FL_ZF, false);
		return KEEL_EMU_OK;
	}
	flag_set(emu, FL_ZF, true);
	memcpy(new, &emu->gpr[KEEL_RBX], half);
	memcpy(new + half, &emu->gpr[KEEL_RCX], half);
	if (!locked)
		return keel_mem_write(emu, seg, ea, new, len, 0);
	memcpy(seen, old, sizeof(seen));
	ret = keel_mem_cmpxchg(emu, seg, ea, seen, new, len);
	if (ret)
		return ret;
	return memcmp(seen, old, len) ? lost_race(emu) : KEEL_EMU_OK;
}

static int exec_xlat(struct keel_emu *emu)
{
	u64 ea = (emu->gpr[KEEL_RBX] + (emu->gpr[KEEL_RAX] & 0xff)) &
		 size_mask(emu->insn.addr_size);
	u8 al;
	int ret = keel_mem_read(emu, emu->insn.seg, ea, &al, 1, 0);

	if (!ret)
		gpr_write_implied(emu, KEEL_RAX, 1, al);
	return ret;
}

static int exec_bound(struct keel_emu *emu)
{
	unsigned int size = emu->insn.op_size;
	s64 index = sign_extend(gpr_read(emu, emu->insn.reg, size), size);
	u64 lower = 0, upper = 0, ea = keel_mem_ea(emu), la;
	u8 buf[8];
	int ret;

	ret = keel_mem_linear(emu, emu->insn.seg, ea, size, 0, &la);	/* for its alignment */
	if (!ret)
		ret = keel_mem_read(emu, emu->insn.seg, ea, buf, 2 * size, ACC_UNALIGNED);
	if (ret)
		return ret;
	memcpy(&lower, buf, size);
	memcpy(&upper, buf + size, size);
	if (index < sign_extend(lower, size) || index > sign_extend(upper, size))
		return keel_emu_fault(emu, VEC_BR, false, 0);
	return KEEL_EMU_OK;
}

static void exec_convert(struct keel_emu *emu)
{
	unsigned int size = emu->insn.op_size;
	u64 rax = emu->gpr[KEEL_RAX];

	if (emu->insn.op->op == OP_CBW)
		gpr_write_implied(emu, KEEL_RAX, size, sign_extend(rax, size / 2));
	else
		gpr_write_implied(emu, KEEL_RDX, size, rax & sign_bit(size) ? ~0ULL : 0);
}

/* LAHF, SAHF and the single-flag instructions */
static void exec_flags(struct keel_emu *emu)
{
	const u64 low = FL_SF | FL_ZF | FL_AF | FL_PF | FL_CF;

	switch (emu->insn.op->op) {
	case OP_CLC:
		emu->rflags &= ~FL_CF;
		break;
	case OP_STC:
		emu->rflags |= FL_CF;
		break;
	case OP_CMC:
		emu->rflags ^= FL_CF;
		break;
	case OP_CLD:
		emu->rflags &= ~FL_DF;
		break;
	case OP_STD:
		emu->rflags |= FL_DF;
		break;
	case OP_LAHF:
		emu->gpr[KEEL_RAX] = (emu->gpr[KEEL_RAX] & ~0xff00ULL) |
				     ((emu->rflags & low) | FL_FIXED) << 8;
		break;
	case OP_SAHF:
		emu->rflags = (emu->rflags & ~low) | ((emu->gpr[KEEL_RAX] >> 8) & low);
		break;
	}
}

/* CLFLUSH and its kin check their address as a read of one byte, and have no other effect here. */
static int exec_clflush(struct keel_emu *emu)
{
	u64 la;
	int ret = keel_mem_linear(emu, emu->insn.seg, keel_mem_ea(emu), 1, 0, &la);

	if (!ret)
		ret = keel_la_probe(emu, la, 1, 0);
	return ret == KEEL_EMU_IO ? KEEL_EMU_OK : ret;
}

static int dispatch(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;

	switch (insn->op->op) {
	case OP_ADD ... OP_IDIV:
	case OP_MOV ... OP_MOVBE:
	case OP_XCHG ... OP_CMPXCHG:
	case OP_CMOV:
	case OP_SETCC:
		return exec_operands(emu);
	case OP_CMPXCHG8B:
		return exec_cmpxchg_wide(emu);
	case OP_CBW:
	case OP_CWD:
		exec_convert(emu);
		return KEEL_EMU_OK;
	case OP_DAA ... OP_SALC:
		return keel_exec_decimal(emu);
	case OP_ANDN ... OP_SHRX:
		return keel_exec_bmi(emu);
	case OP_LEA:
		gpr_write(emu, insn->reg, insn->op_size, keel_mem_ea(emu));
		return KEEL_EMU_OK;
	case OP_XLAT:
		return exec_xlat(emu);
	case OP_BOUND:
		return exec_bound(emu);
	case OP_NOP:
	case OP_FENCE:
	case OP_PREFETCH:
		return KEEL_EMU_OK;
	case OP_CLFLUSH:
		return exec_clflush(emu);
	case OP_CLC ... OP_SAHF:
		exec_flags(emu);
		return KEEL_EMU_OK;
	case OP_PUSH ... OP_CALL_IND:
		return keel_exec_flow(emu);
	case OP_JMP_FAR ... OP_INTO:
		return keel_exec_far(emu);
	case OP_SYSCALL ... OP_SYSEXIT:
		return keel_exec_syscall(emu);
	case OP_MOVS ... OP_OUT:
		return keel_exec_string(emu);
	case OP_VMOV ... OP_FXRSTOR:
		return keel_exec_vector(emu);
	case OP_CLI ... OP_SMSW:
	case OP_MOV_FROM_CR ... OP_LIDT:
		return keel_exec_system(emu);
	case OP_MOV_FROM_SREG:
	case OP_MOV_TO_SREG:
	case OP_LOAD_FAR_PTR:
	case OP_ARPL:
	case OP_SLDT ... OP_VERW:
		return keel_exec_segment(emu);
	}
	return KEEL_EMU_UNHANDLEABLE;
}

/* The frame of anything that is all or nothing: an instruction, a delivery, a task switch. */
void keel_emu_begin(struct keel_emu *emu)
{
	u64 dr7 = emu->ops->get_watch(emu, 7);

	save(emu);
	emu->shadow = 0;
	emu->db_trap = 0;
	emu->access_nr = 0;
	emu->switched = false;
	emu->keep_rf = false;
	emu->no_trap = false;
	emu->trap_late = false;
	emu->task_trap = 0;
	emu->watch_hits = 0;
	emu->watch = dr7 & DR7_ENABLES ? dr7 : 0;
}

/* TF as it was at the start counts, but SYSCALL and SYSRET trap by the flags that they load. */
static u64 debug_traps(const struct keel_emu *emu)
{
	u64 flags = emu->trap_late ? emu->rflags : emu->saved_rflags;

	if (emu->switched)
		return emu->task_trap;
	if (emu->shadow == KEEL_SHADOW_MOV_SS)
		return 0;
	return emu->watch_hits | ((flags & FL_TF) && !emu->no_trap ? DR6_BS : 0);
}

/* A fault after the switch point of a task switch is the new task's: nothing is undone. */
int keel_emu_end(struct keel_emu *emu, int ret)
{
	if (ret && !(emu->switched && ret == KEEL_EMU_FAULT)) {
		restore(emu);
		return ret;
	}
	emu->db_trap = ret ? 0 : debug_traps(emu);
	if (!emu->keep_rf)
		emu->rflags &= ~FL_RF;
	emu->rip = emu->next_rip;
	keel_emu_commit(emu);
	return ret;
}

int keel_emu_execute(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	int ret;

	keel_emu_begin(emu);
	emu->next_rip = emu->rip + insn->length;
	if (emu->mode != KEEL_EMU_PROT64)
		emu->next_rip = (u32)emu->next_rip;

	if ((insn->op->flags & F_PRIV) && emu->cpl)
		ret = fault_gp(emu, 0);
	else
		ret = dispatch(emu);
	if (ret == EMU_LOST_RACE)
		ret = lost_race(emu);
	return keel_emu_end(emu, ret);
}

/* Bytes from CS:RIP that may be read at once: to the end of the page, segment or 15 bytes. */
static int fetch_room(struct keel_emu *emu, unsigned int have, u64 *la, unsigned int *len)
{
	u64 ip = emu->rip + have;
	struct keel_emu_seg cs;
	unsigned int room;

	*len = KEEL_INSN_MAX_LEN - have;
	if (emu->mode == KEEL_EMU_PROT64) {
		*la = ip;
		if (!keel_is_canonical(emu, ip))
			return fault_gp(emu, 0);
	} else {
		emu->ops->get_seg(emu, KEEL_CS, &cs);
		if (ip > cs.limit)
			return fault_gp(emu, 0);
		if (cs.limit - ip < *len)
			*len = cs.limit - ip + 1;
		*la = (u32)(cs.base + ip);
	}
	room = 4096 - (*la & 4095);
	if (*len > room)
		*len = room;
	return KEEL_EMU_OK;
}

int keel_emu_fetch(struct keel_emu *emu)
{
	u8 bytes[KEEL_INSN_MAX_LEN];
	unsigned int have = 0, len;
	u64 la;
	int ret;

	emu->access_nr = 0;
	do {
		ret = fetch_room(emu, have, &la, &len);
		if (!ret)
			ret = emu->ops->read(emu, la, bytes + have, len, KEEL_EMU_ACC_FETCH);
		if (ret)
			return ret;
		have += len;
		ret = keel_decode(&emu->insn, bytes, have, emu->mode);
	} while (ret == KEEL_EMU_NEED_BYTES);

	switch (ret) {
	case KEEL_EMU_INVALID:
		return fault_ud(emu);
	case KEEL_EMU_TOO_LONG:
		return fault_gp(emu, 0);
	case KEEL_EMU_UNKNOWN:
		return KEEL_EMU_UNHANDLEABLE;
	}
	return ret;
}
