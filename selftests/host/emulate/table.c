// SPDX-License-Identifier: GPL-2.0-only
/* The rows of the opcode table, one by one; see table.h. */
#include <cpuid.h>
#include <stdio.h>
#include <sys/auxv.h>
#include "table.h"

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE		2
#endif

typedef void (*row_fn)(const struct keel_op *row, const struct row_path *path, const char *name);

static void walk(const struct keel_op *row, struct row_path path, const char *prefix, row_fn fn)
{
	static const char *const between[] = {
		[OP_BY_REG] = "/", [OP_BY_RM] = " rm ", [OP_BY_MOD] = " form ",
		[OP_BY_PREFIX] = " prefix ", [OP_BY_MODE] = " mode ",
	};
	char name[64];
	unsigned int i, n = 2;
	s8 *choice;

	switch (row->op) {
	case OP_UNKNOWN:
		return;
	case OP_BY_REG:
		n = 8;
		choice = &path.reg;
		break;
	case OP_BY_RM:
		n = 8;
		choice = &path.rm;
		break;
	case OP_BY_PREFIX:
		n = 4;
		choice = &path.prefix;
		break;
	case OP_BY_MOD:
		choice = &path.form;
		break;
	case OP_BY_MODE:
		choice = &path.mode64;
		break;
	default:
		fn(row, &path, prefix);
		return;
	}
	for (i = 0; i < n; i++) {
		*choice = i;
		snprintf(name, sizeof(name), "%s%s%u", prefix, between[row->op], i);
		walk(&row->sub[i], path, name, fn);
	}
}

void for_each_row(row_fn fn)
{
	static const struct {
		const struct keel_op *rows;
		const char *name;
		bool vex;
		u8 map;
	} maps[] = {
		{ keel_ops_one, "", false, KEEL_MAP_ONE },
		{ keel_ops_0f, "0f ", false, KEEL_MAP_0F },
		{ keel_ops_0f38, "0f 38 ", false, KEEL_MAP_0F38 },
		{ keel_ops_0f3a, "0f 3a ", false, KEEL_MAP_0F3A },
		{ keel_ops_vex_0f, "vex 0f ", true, KEEL_MAP_0F },
		{ keel_ops_vex_0f38, "vex 0f 38 ", true, KEEL_MAP_0F38 },
		{ keel_ops_vex_0f3a, "vex 0f 3a ", true, KEEL_MAP_0F3A },
	};
	unsigned int m, i;
	char name[32];

	for (m = 0; m < sizeof(maps) / sizeof(maps[0]); m++)
		for (i = 0; i < 256; i++) {
			struct row_path path = {
				.vex = maps[m].vex, .map = maps[m].map, .opcode = i,
				.reg = -1, .rm = -1, .form = -1, .prefix = -1, .mode64 = -1,
			};

			snprintf(name, sizeof(name), "%s%02x", maps[m].name, i);
			walk(&maps[m].rows[i], path, name, fn);
		}
}

u64 undefined_flags(const struct keel_insn *insn, const u64 *gpr)
{
	const struct keel_op *row = insn->op;
	unsigned int count;

	if (!(row->flags & F_UNDEF_CNT))
		return row->undef;
	if (row->src == O_ONE)
		count = 1;
	else if (row->flags & F_IMM8)
		count = insn->imm;
	else
		count = gpr[KEEL_RCX];
	count &= insn->op_size == 8 ? 63 : 31;
	if (!count)
		return 0;
	if (count == 1)
		return row->undef & ~0x800u;
	/* A shift by more than the operand has leaves CF undefined, SHLD and SHRD all flags. */
	if (row->op == OP_SHLD || row->op == OP_SHRD)
		return count > 8u * insn->op_size ? 0x8d5 : row->undef;
	if (row->op >= OP_SHL && row->op <= OP_SAR && count >= 8u * insn->op_size)
		return row->undef | 1;
	return row->undef;
}

static bool cpuid_bit(u32 leaf, unsigned int reg, unsigned int bit)
{
	u32 r[4];

	if (!__get_cpuid_count(leaf, 0, &r[0], &r[1], &r[2], &r[3]))
		return false;
	return r[reg] >> bit & 1;
}

enum { EBX = 1, ECX, EDX };

bool row_on_this_cpu(const struct keel_op *row, const struct row_path *path)
{
	switch (row->op) {
	case OP_ADCX:
	case OP_ADOX:
		return cpuid_bit(7, EBX, 19);
	case OP_MOVBE:
		return cpuid_bit(1, ECX, 22);
	case OP_CRC32:
		return cpuid_bit(1, ECX, 20);
	case OP_POPCNT:
		return cpuid_bit(1, ECX, 23);
	case OP_LZCNT:
		return cpuid_bit(0x80000001, ECX, 5);
	case OP_TZCNT:
		return cpuid_bit(7, EBX, 3);
	case OP_ANDN ... OP_BLSR:
		return cpuid_bit(7, EBX, 3);
	case OP_BZHI ... OP_SHRX:
		return cpuid_bit(7, EBX, 8);
	case OP_RDTSCP:
		return cpuid_bit(0x80000001, EDX, 27);
	case OP_RDPKRU:
	case OP_WRPKRU:
		return !cpuid_bit(7, ECX, 4);	/* #UD: where the keys are in use, a program had better not try */
	case OP_RDPID:
		return cpuid_bit(7, ECX, 22);
	case OP_RDFSBASE ... OP_WRGSBASE:
		return getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
	case OP_CLFLUSH:
		if (path->form == 0 && path->reg == 6)
			return cpuid_bit(7, EBX, 24);	/* CLWB */
		return path->prefix != 1 || cpuid_bit(7, EBX, 23);
	case OP_MOV:
		return path->map != KEEL_MAP_0F38 || cpuid_bit(7, ECX, 27);
	case OP_CLAC:
	case OP_STAC:
		return cpuid_bit(7, EBX, 20);
	case OP_VMOV ... OP_VMOV_MMX:
		if (path->map == KEEL_MAP_0F38 && path->vex)
			return cpuid_bit(7, EBX, 5);
		return !path->vex || __builtin_cpu_supports("avx");
	}
	return true;
}
