/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Short forms in which the tables write their rows (struct keel_op of optable.h). For tables*.c
 * alone: the names are too short for anything else.
 */
#ifndef KEEL_EMULATE_ROWS_H
#define KEEL_EMULATE_ROWS_H

#include "optable.h"

/* Flags that instructions leave undefined */
#define U_CF	0x001
#define U_PF	0x004
#define U_AF	0x010
#define U_ZF	0x040
#define U_SF	0x080
#define U_OF	0x800
#define U_LOGIC	U_AF
#define U_SHIFT	(U_AF | U_OF)
#define U_MUL	(U_SF | U_ZF | U_AF | U_PF)
#define U_ALL	(U_OF | U_SF | U_ZF | U_AF | U_PF | U_CF)
#define U_BT	(U_OF | U_SF | U_AF | U_PF)
#define U_SCAN	(U_OF | U_SF | U_AF | U_PF | U_CF)
#define U_COUNT	(U_OF | U_SF | U_AF | U_PF)

#define ROW(o, d, s, f)		{ .op = OP_##o, .dst = O_##d, .src = O_##s, .flags = (f) }
#define ROWU(o, d, s, f, u)	\
	{ .op = OP_##o, .dst = O_##d, .src = O_##s, .flags = (f), .undef = (u) }
#define PLAIN(o, f)		{ .op = OP_##o, .flags = (f) }
#define PLAINU(o, f, u)		{ .op = OP_##o, .flags = (f), .undef = (u) }
#define NOEXEC(f)		{ .op = OP_NOEXEC, .flags = (f) }
#define BY(how, t)		{ .op = OP_BY_##how, .flags = F_MODRM, .sub = (t) }
#define BY_NOMODRM(how, t)	{ .op = OP_BY_##how, .sub = (t) }

#define M	F_MODRM
#define B	F_BYTE
#define VMOV(d, s, f)		ROW(VMOV, d, s, M | (f))

#define EIGHT(base, ...)						\
	[(base) + 0] = __VA_ARGS__, [(base) + 1] = __VA_ARGS__,		\
	[(base) + 2] = __VA_ARGS__, [(base) + 3] = __VA_ARGS__,		\
	[(base) + 4] = __VA_ARGS__, [(base) + 5] = __VA_ARGS__,		\
	[(base) + 6] = __VA_ARGS__, [(base) + 7] = __VA_ARGS__

#define SIXTEEN(base, ...)						\
	EIGHT(base, __VA_ARGS__), EIGHT((base) + 8, __VA_ARGS__)

#endif
