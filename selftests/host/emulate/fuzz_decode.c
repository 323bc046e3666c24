// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer's harness for decode: a byte of mode, then instruction bytes. What decode says must hold
 * together, must not depend on bytes behind the instruction, and must ask for more exactly while
 * the instruction is cut.
 */
#include <stdlib.h>
#include <string.h>
#include "emulate.h"
#include "optable.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_insn(const struct keel_insn *insn, const u8 *bytes, unsigned int avail)
{
	check(insn->op && insn->op->op > OP_UNKNOWN && insn->op->op < OP_NR);
	check(insn->op->op < OP_BY_REG || insn->op->op > OP_BY_MODE);
	check(insn->length && insn->length <= KEEL_INSN_MAX_LEN && insn->length <= avail);
	check(!memcmp(insn->bytes, bytes, insn->length));
	check(insn->base < 16 && insn->index < 16 && insn->index != KEEL_RSP);
	check(insn->seg <= KEEL_GS && insn->scale < 4);
	check(insn->op_size == 1 || insn->op_size == 2 || insn->op_size == 4 || insn->op_size == 8);
	check(insn->addr_size == 2 || insn->addr_size == 4 || insn->addr_size == 8);
	check(insn->mode == KEEL_EMU_PROT64 || (!insn->rex && insn->op_size < 8 &&
						insn->addr_size < 8));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct keel_insn insn, again;
	unsigned int cut, avail;
	enum keel_emu_mode mode;
	u8 *exact;
	int ret;

	if (size < 2)
		return 0;
	mode = data[0] % (KEEL_EMU_PROT64 + 1);
	avail = size - 1;
	ret = keel_decode(&insn, data + 1, avail, mode);
	check(ret == KEEL_EMU_OK || (ret >= KEEL_EMU_NEED_BYTES && ret <= KEEL_EMU_TOO_LONG));
	check(ret != KEEL_EMU_NEED_BYTES || avail < KEEL_INSN_MAX_LEN);
	if (ret)
		return 0;
	check_insn(&insn, data + 1, avail);
	for (cut = 0; cut <= insn.length; cut++) {
		/* its own allocation, for the sanitizer to see a byte too many */
		exact = malloc(cut ? cut : 1);
		memcpy(exact, data + 1, cut);
		ret = keel_decode(&again, exact, cut, mode);
		check(ret == (cut < insn.length ? KEEL_EMU_NEED_BYTES : KEEL_EMU_OK));
		free(exact);
	}
	check(!memcmp(&insn, &again, sizeof(insn)));
	return 0;
}
