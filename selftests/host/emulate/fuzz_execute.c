// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer's harness for fetch and execute, on the test machine of world.c: a byte of mode and CPL,
 * then pairs that set some of its state, then instruction bytes. The promises of emulate.h are
 * checked: an instruction that does not end leaves registers, system state and memory alone, device
 * accesses come in order and end, and no callback is called against its contract (world.c aborts).
 */
#include <stdlib.h>
#include <string.h>
#include "optable.h"
#include "world.h"

#define INSN_BYTES	24	/* the input's last ones */
#define MAX_CALLS	4096

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static struct world before, w;

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* Addresses where pages meet, and whatever the input says. */
static u64 value(u8 how, u8 arg)
{
	static const u64 places[] = {
		0x2000, WORLD_ABSENT, WORLD_READONLY, WORLD_DEVICE, WORLD_DEVICE + 0x1000,
		WORLD_SUPER, WORLD_GDT, WORLD_MEM,
	};

	switch (how >> 5) {
	case 0:
		return arg;
	case 1:
		return (s64)(s8)arg;
	case 2:
		return (u64)arg << 56;
	case 3:
		return (u64)arg << 28 | 0xfff;
	default:
		return places[arg & 7] + (s8)(arg & 0xf8) / 8;
	}
}

static void set_state(struct world *m, u8 what, u8 arg)
{
	u64 val = value(what, arg);
	unsigned int nr = what & 31;

	switch (nr) {
	case 0 ... 15:
		m->emu.gpr[nr] = m->emu.mode == KEEL_EMU_PROT64 ? val : (u32)val;
		break;
	case 16:
		m->emu.rflags ^= (val & 0x250fd5) | (m->emu.mode == KEEL_EMU_VM86 ? 0 : val & 0x3000);
		break;
	case 17 ... 22:
		if (what & 0x80)
			m->seg[nr - 17].base = val;
		else
			m->seg[nr - 17].limit = val;
		break;
	case 23:
		m->seg[arg & 7].type = arg >> 4;
		m->seg[arg & 7].unusable = arg >> 3 & 1;
		break;
	case 24:
		m->cr[0] ^= (u64)(arg & 0xe) | (u64)(arg & 0x10) << 14;
		break;
	case 25:
		m->cr[4] ^= 1ULL << (arg % 23);
		break;
	case 26:
		m->lose_races = arg & 3;
		break;
	case 27:
		m->x87_pending = arg & 1;
		break;
	default:
		memset(m->mem + (val & (WORLD_MEM - 64)), arg, 32);
		break;
	}
}

static void check_unchanged(void)
{
	const struct keel_op *op = w.emu.insn.op;

	check(!memcmp(w.emu.gpr, before.emu.gpr, sizeof(w.emu.gpr)) || (op->flags & F_STR));
	check(w.emu.rflags == before.emu.rflags || (op->flags & F_STR));
	check(w.emu.rip == before.emu.rip);
	check(!memcmp(w.seg, before.seg, sizeof(w.seg)));
	check(!memcmp(w.cr, before.cr, sizeof(w.cr)));
	check(!memcmp(w.vec, before.vec, sizeof(w.vec)) && !memcmp(w.mm, before.mm, sizeof(w.mm)));
	/* what PUSHA and ENTER leave below the stack pointer, and the iterations of REP, are known */
	if (op->op != OP_PUSHA && op->op != OP_ENTER && !(op->flags & F_STR))
		check(!memcmp(w.mem, before.mem, sizeof(w.mem)));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	unsigned int i, calls, lost = 0;
	u64 at;
	int ret;

	if (size < 2)
		return 0;
	world_init(&w, data[0] % (KEEL_EMU_PROT64 + 1));
	if (w.emu.mode >= KEEL_EMU_PROT16 && (data[0] & 0x80))
		w.emu.cpl = 3;
	for (i = 1; i + 2 + INSN_BYTES <= size; i += 2)
		set_state(&w, data[i], data[i + 1]);
	at = w.emu.rip + (w.emu.mode == KEEL_EMU_PROT64 ? 0 : w.seg[KEEL_CS].base);
	if (at < WORLD_MEM - INSN_BYTES)
		memcpy(w.mem + at, data + i, size - i < INSN_BYTES ? size - i : INSN_BYTES);
	ret = keel_emu_fetch(&w.emu);
	check(ret == KEEL_EMU_OK || ret == KEEL_EMU_FAULT || ret == KEEL_EMU_UNHANDLEABLE);
	if (ret)
		return 0;
	before = w;
	for (calls = 0; calls < MAX_CALLS; calls++) {
		ret = keel_emu_execute(&w.emu);
		check(ret >= KEEL_EMU_OK && ret <= KEEL_EMU_UNHANDLEABLE);
		check(w.io_pending == (ret == KEEL_EMU_IO));
		if (ret == KEEL_EMU_IO) {
			check(w.emu.rip == before.emu.rip);
			world_complete_io(&w);
			continue;
		}
		if (ret)
			break;
		if (w.emu.rip != before.emu.rip || !(w.emu.insn.op->flags & F_STR || lost++ < 4))
			return 0;
	}
	/* a write to a device cannot be taken back */
	if (ret && !w.log_nr)
		check_unchanged();
	return 0;
}
