// SPDX-License-Identifier: GPL-2.0-only
/*
 * Device memory: which device an access is for, and the way around the emulator for what drivers nearly always use.
 *
 * A MOV between a register and memory in 64-bit mode makes one access. When that access is the one that exited, the CPU
 * has checked it and told its address; what is left is which register and how wide, which the instruction's bytes say.
 * Some of the last such instructions are known by their bytes. Everything else is the emulator's: emul.c.
 *
 * The vCPU is locked. Nothing here sleeps: the window may be open.
 */
#include <linux/hash.h>
#include <linux/log2.h>

#include "mmu/gwalk.h"
#include "ops.h"

#define OPCODE(map, opcode)	((map) << 8 | (opcode))
#define LOCKED_OR_REPEATED	(KEEL_PFX_LOCK | KEEL_PFX_REP | KEEL_PFX_REPNE)

/**
 * keel_mmio_device() - let the kernel's devices have an access: the local APIC, then the ranges of the bus
 * @vcpu: the vCPU
 * @gpa: guest physical address
 * @len: bytes, up to 8
 * @data: what is written, or room for what is read
 * @write: direction
 *
 * Return: 0, or -EOPNOTSUPP: it is for the client
 */
int keel_mmio_device(struct keel_vcpu *vcpu, gpa_t gpa, unsigned int len, void *data, bool write)
{
	if (vcpu->apic && !keel_lapic_mmio(vcpu, gpa, len, data, write))
		return 0;
	return write ? keel_io_write(vcpu, KEEL_MMIO_BUS, gpa, len, data) :
		       keel_io_read(vcpu, KEEL_MMIO_BUS, gpa, len, data);
}

/**
 * keel_mmio_to_client() - an access that the client is to answer
 * @vcpu: the vCPU
 * @gpa: guest physical address
 * @len: bytes, up to 8
 * @data: what is written, NULL for a read
 *
 * Return: KEEL_TO_USER
 */
int keel_mmio_to_client(struct keel_vcpu *vcpu, gpa_t gpa, unsigned int len, const void *data)
{
	struct kvm_run *run = vcpu->run;

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = gpa;
	run->mmio.len = len;
	run->mmio.is_write = !!data;
	memset(run->mmio.data, 0, sizeof(run->mmio.data));
	if (data)
		memcpy(run->mmio.data, data, len);
	return KEEL_TO_USER;
}

/* The kind of MOV by its opcode: the register's width, the access's, and so on. False: not one of these. */
static bool classify(struct keel_move *move, const struct keel_insn *insn)
{
	u8 width = insn->op_size;

	switch (OPCODE(insn->map, insn->opcode)) {
	case OPCODE(KEEL_MAP_ONE, 0x88):
	case OPCODE(KEEL_MAP_ONE, 0x8a):
	case OPCODE(KEEL_MAP_ONE, 0xc6):
		move->width = move->size = 1;
		break;
	case OPCODE(KEEL_MAP_ONE, 0x89):
	case OPCODE(KEEL_MAP_ONE, 0x8b):
	case OPCODE(KEEL_MAP_ONE, 0xc7):
		move->width = move->size = width;
		break;
	case OPCODE(KEEL_MAP_0F, 0xb6):
	case OPCODE(KEEL_MAP_0F, 0xbe):
		move->width = width;
		move->size = 1;
		break;
	case OPCODE(KEEL_MAP_0F, 0xb7):
	case OPCODE(KEEL_MAP_0F, 0xbf):
		move->width = width;
		move->size = 2;
		break;
	default:
		return false;
	}
	move->sign = insn->map == KEEL_MAP_0F && insn->opcode >= 0xbe;
	move->immediate = insn->map == KEEL_MAP_ONE && insn->opcode >= 0xc6;
	move->write = insn->map == KEEL_MAP_ONE && insn->opcode != 0x8a && insn->opcode != 0x8b;
	return insn->mod != 3 && !(move->immediate && insn->reg & 7);
}

#define LOW_BYTES(n)		((n) >= 8 ? ~0ULL : (1ULL << 8 * ((n) & 7)) - 1)
#define BYTES(n)		{ LOW_BYTES(n), (n) > 8 ? LOW_BYTES((n) - 8) : 0 }

/* The bytes that are an instruction's, by its length. */
static const u64 masks[KEEL_INSN_MAX_LEN + 1][2] = {
	BYTES(0), BYTES(1), BYTES(2), BYTES(3), BYTES(4), BYTES(5), BYTES(6), BYTES(7),
	BYTES(8), BYTES(9), BYTES(10), BYTES(11), BYTES(12), BYTES(13), BYTES(14), BYTES(15),
};

/* What 64-bit code begins with, if it is one of these instructions, and its operand has no base of its own (FS, GS). */
static bool read_move(struct keel_move *move, const u64 code[2])
{
	struct keel_insn insn;

	move->len = 0;
	if (keel_decode(&insn, (const u8 *)code, KEEL_INSN_MAX_LEN, KEEL_EMU_PROT64) || insn.vex || insn.addr_size != 8 ||
	    (insn.prefixes & LOCKED_OR_REPEATED) || insn.seg == KEEL_FS || insn.seg == KEEL_GS || !classify(move, &insn))
		return false;
	/* AH, CH, DH, BH */
	move->high = move->width == 1 && !insn.rex && insn.reg >= 4 && !move->immediate;
	move->reg = move->high ? insn.reg - 4 : insn.reg;
	move->base = insn.base;
	move->index = insn.index;
	move->scale = insn.scale;
	move->disp = insn.disp;
	move->rip_relative = insn.rip_relative;
	move->imm = insn.imm;
	move->code[0] = code[0] & masks[insn.length][0];
	move->code[1] = code[1] & masks[insn.length][1];
	move->len = insn.length;
	return true;
}

/*
 * The instruction at RIP, if it is a plain MOV from a page that was fetched from before; NULL: the emulator finds out. Known ones
 * are found by the three bytes that nearly all of these have, and not by RIP: an inline function is in many places.
 */
static const struct keel_move *move_at(struct keel_vcpu *vcpu, u64 rip)
{
	struct keel_move *move;
	const u64 *mask;
	u64 code[2];

	if (!keel_gcache_fetch(vcpu, rip, code))
		return NULL;
	move = &vcpu->move[hash_32((u32)code[0] << 8, ilog2(ARRAY_SIZE(vcpu->move)))];
	mask = masks[move->len];
	if (move->len && !(((code[0] & mask[0]) ^ move->code[0]) | ((code[1] & mask[1]) ^ move->code[1])))
		return move;
	return read_move(move, code) ? move : NULL;
}

static u64 operand_address(const struct keel_vcpu *vcpu, const struct keel_move *move)
{
	const u64 *gpr = vcpu->st.gpr;
	u64 la = (s64)move->disp;

	if (move->base >= 0)
		la += gpr[move->base];
	if (move->index >= 0)
		la += gpr[move->index] << move->scale;
	if (move->rip_relative)
		la += vcpu->st.rip + move->len;
	return la;
}

static u64 value_to_write(const struct keel_vcpu *vcpu, const struct keel_move *move)
{
	if (move->immediate)
		return (s64)move->imm;
	return vcpu->st.gpr[move->reg] >> (move->high ? 8 : 0);
}

/* SDM 1, 3.4.1.1: a result of 32 bits clears the upper half, shorter ones leave the rest as it is. */
static void write_register(struct keel_vcpu *vcpu, const struct keel_move *move, u64 val)
{
	u64 *reg = &vcpu->st.gpr[move->reg], mask;

	val &= masks[move->size][0];
	if (move->sign)
		val = move->size == 1 ? (s64)(s8)val : (s64)(s16)val;
	if (move->width == 4) {
		*reg = (u32)val;
	} else {
		mask = masks[move->width][0] << (move->high ? 8 : 0);
		*reg = (*reg & ~mask) | ((val << (move->high ? 8 : 0)) & mask);
	}
}

/* The instruction ends. */
static int end_move(struct keel_vcpu *vcpu, const struct keel_move *move)
{
	vcpu->nr_emulated++;
	keel_step_over(vcpu, move->len);
	return KEEL_RESUME;
}

/* The client has read the device for us. */
static int complete_read(struct keel_vcpu *vcpu)
{
	u64 val;

	memcpy(&val, vcpu->run->mmio.data, sizeof(val));
	write_register(vcpu, vcpu->moving, val);
	return end_move(vcpu, vcpu->moving);
}

/* Breakpoints on data, of the guest's or the client's. */
static bool watched(struct keel_vcpu *vcpu)
{
	return (keel_st(vcpu, KEEL_ST_DR)->dr7 & 0xff) || (vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP);
}

/**
 * keel_mmio_move() - an access to device memory by a plain MOV
 * @vcpu: the vCPU, locked; no event is in the middle of its delivery
 * @gpa: where the access goes, as the CPU reported it
 * @access: KEEL_ACC_*
 *
 * That the operand's address has the same offset in its page as @gpa rules out an access that began in the page before.
 *
 * Return: KEEL_RESUME, KEEL_TO_USER; -ENOENT: the emulator is to have the instruction
 */
int keel_mmio_move(struct keel_vcpu *vcpu, gpa_t gpa, u32 access)
{
	const struct keel_move *move;
	u64 val = 0;
	int r;

	if (vcpu->smm.in || (access & (KEEL_ACC_TABLE | KEEL_ACC_EXEC)) || watched(vcpu) || !keel_long_mode64(vcpu))
		return -ENOENT;
	move = move_at(vcpu, vcpu->st.rip);
	if (!move || move->write != !!(access & KEEL_ACC_WRITE) ||
	    offset_in_page(operand_address(vcpu, move)) != offset_in_page(gpa) ||
	    offset_in_page(gpa) + move->size > PAGE_SIZE)
		return -ENOENT;
	if (move->write)
		val = value_to_write(vcpu, move);
	r = keel_mmio_device(vcpu, gpa, move->size, &val, move->write);
	if (move->write) {
		/* Nothing is left to do when the client comes back. */
		end_move(vcpu, move);
		return r ? keel_mmio_to_client(vcpu, gpa, move->size, &val) : KEEL_RESUME;
	}
	if (!r) {
		write_register(vcpu, move, val);
		return end_move(vcpu, move);
	}
	vcpu->moving = move;
	vcpu->complete = complete_read;
	return keel_mmio_to_client(vcpu, gpa, move->size, NULL);
}

/**
 * keel_mmio_store() - is an instruction a MOV of 32 bits to a device, and no more than that?
 * @vcpu: the vCPU, locked, in 64-bit mode; interrupts may be off
 * @linear: where it is
 * @gpa: where its access goes
 * @code: its first bytes, up to eight, lowest first: all but an operand of which the rest is a part
 *
 * Return: its length in bytes, and then keel_gcache_code() has the way to it; 0: it is something else, or memory
 */
int keel_mmio_store(struct keel_vcpu *vcpu, u64 linear, gpa_t gpa, u64 *code)
{
	const struct keel_move *move = watched(vcpu) ? NULL : move_at(vcpu, linear);
	bool memory;
	u8 opcode;
	int idx;

	if (!move || !move->write || move->size != 4)
		return 0;
	idx = srcu_read_lock(&vcpu->vm->srcu);
	memory = keel_slot_find(vcpu->vm, gpa >> PAGE_SHIFT);
	srcu_read_unlock(&vcpu->vm->srcu, idx);
	*code = move->code[0];
	/* One prefix, the opcode, two bytes of address: no more than four before the operands. */
	opcode = (*code & 0xf0) == 0x40 ? *code >> 8 : *code;
	return !memory && (opcode == 0x89 || opcode == 0xc7) ? move->len : 0;
}
