// SPDX-License-Identifier: GPL-2.0-only
/*
 * The opcode tables of VEX: the vector moves that drivers use on device memory, and the
 * instructions on general registers (BMI1, BMI2). Data only; the format is in optable.h. What is
 * not here gets from decode.c a row that says its length.
 *
 * SDM vol 2 2.3 (VEX), chapters 3 to 5; APM vol 3 (BMI), vol 4 (moves).
 */
#include <linux/kernel.h>
#include "optable.h"
#include "rows.h"

#define X	F_VEX
static const struct keel_op vex_10[4] = {
	VMOV(V, W, X), VMOV(V, W, X),
	ROW(VMOV_MERGE, V, W, M | X | F_W_MEM4), ROW(VMOV_MERGE, V, W, M | X | F_W_MEM8),
};
static const struct keel_op vex_11[4] = {
	VMOV(W, V, X), VMOV(W, V, X),
	ROW(VMOV_MERGE, W, V, M | X | F_W_MEM4), ROW(VMOV_MERGE, W, V, M | X | F_W_MEM8),
};
static const struct keel_op vex_12[4] = {
	ROW(VMOV_HALF, V, W, M | X), ROW(VMOV_HALF, V, W, M | X | F_MEM), NOEXEC(M), NOEXEC(M),
};
static const struct keel_op vex_13[4] = {
	ROW(VMOV_HALF, W, V, M | X | F_MEM), ROW(VMOV_HALF, W, V, M | X | F_MEM),
};
static const struct keel_op vex_16[4] = {
	ROW(VMOV_HALF, V, W, M | X), ROW(VMOV_HALF, V, W, M | X | F_MEM), NOEXEC(M),
};
static const struct keel_op vex_28[4] = { VMOV(V, W, X | F_ALIGN), VMOV(V, W, X | F_ALIGN) };
static const struct keel_op vex_29[4] = { VMOV(W, V, X | F_ALIGN), VMOV(W, V, X | F_ALIGN) };
static const struct keel_op vex_2b[4] = {
	VMOV(W, V, X | F_ALIGN | F_MEM), VMOV(W, V, X | F_ALIGN | F_MEM),
};
static const struct keel_op vex_6e[4] = { [1] = ROW(VMOV_GPR, V, E, M | X) };
static const struct keel_op vex_7e[4] = {
	[1] = ROW(VMOV_GPR, E, V, M | X), ROW(VMOV_LOW, V, W, M | X | F_W_MEM8),
};
static const struct keel_op vex_6f[4] = { [1] = VMOV(V, W, X | F_ALIGN), VMOV(V, W, X) };
static const struct keel_op vex_7f[4] = { [1] = VMOV(W, V, X | F_ALIGN), VMOV(W, V, X) };
static const struct keel_op vex_d6[4] = { [1] = ROW(VMOV_LOW, W, V, M | X | F_W_MEM8) };
static const struct keel_op vex_e7[4] = { [1] = VMOV(W, V, X | F_ALIGN | F_MEM) };
static const struct keel_op vex_f0[4] = { [3] = VMOV(V, W, X | F_MEM) };

const struct keel_op keel_ops_vex_0f[256] = {
	[0x10] = BY(PREFIX, vex_10),
	[0x11] = BY(PREFIX, vex_11),
	[0x12] = BY(PREFIX, vex_12),
	[0x13] = BY(PREFIX, vex_13),
	[0x16] = BY(PREFIX, vex_16),
	[0x17] = BY(PREFIX, vex_13),
	[0x28] = BY(PREFIX, vex_28),
	[0x29] = BY(PREFIX, vex_29),
	[0x2b] = BY(PREFIX, vex_2b),
	[0x6e] = BY(PREFIX, vex_6e),
	[0x6f] = BY(PREFIX, vex_6f),
	[0x7e] = BY(PREFIX, vex_7e),
	[0x7f] = BY(PREFIX, vex_7f),
	[0xd6] = BY(PREFIX, vex_d6),
	[0xe7] = BY(PREFIX, vex_e7),
	[0xf0] = BY(PREFIX, vex_f0),
};

#define BMI(o, d, s, f)		ROW(o, d, s, M | X | F_NO66 | (f))
#define BMIU(o, d, s, u)	ROWU(o, d, s, M | X | F_NO66, u)
static const struct keel_op vex_movntdqa[4] = { [1] = VMOV(V, W, X | F_ALIGN | F_MEM) };
static const struct keel_op vex_andn[4] = { BMIU(ANDN, G, E, U_AF | U_PF) };
static const struct keel_op vex_blsr[4] = { BMIU(BLSR, VR, E, U_AF | U_PF) };
static const struct keel_op vex_blsmsk[4] = { BMIU(BLSMSK, VR, E, U_AF | U_PF) };
static const struct keel_op vex_blsi[4] = { BMIU(BLSI, VR, E, U_AF | U_PF) };
static const struct keel_op vex_group17[8] = {
	[1] = BY(PREFIX, vex_blsr), BY(PREFIX, vex_blsmsk), BY(PREFIX, vex_blsi),
};
static const struct keel_op vex_bzhi[4] = {
	BMIU(BZHI, G, E, U_AF | U_PF), [2] = BMI(PEXT, G, E, 0), BMI(PDEP, G, E, 0),
};
static const struct keel_op vex_mulx[4] = { [3] = BMI(MULX, G, E, 0) };
static const struct keel_op vex_bextr[4] = {
	BMIU(BEXTR, G, E, U_SF | U_AF | U_PF),
	BMI(SHLX, G, E, 0), BMI(SARX, G, E, 0), BMI(SHRX, G, E, 0),
};
static const struct keel_op vex_rorx[4] = { [3] = BMI(RORX, G, E, F_IMM8) };

const struct keel_op keel_ops_vex_0f38[256] = {
	[0x2a] = BY(PREFIX, vex_movntdqa),
	[0xf2] = BY(PREFIX, vex_andn),
	[0xf3] = BY(REG, vex_group17),
	[0xf5] = BY(PREFIX, vex_bzhi),
	[0xf6] = BY(PREFIX, vex_mulx),
	[0xf7] = BY(PREFIX, vex_bextr),
};

const struct keel_op keel_ops_vex_0f3a[256] = {
	[0xf0] = BY(PREFIX, vex_rorx),
};
