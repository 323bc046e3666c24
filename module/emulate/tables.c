// SPDX-License-Identifier: GPL-2.0-only
/*
 * The opcode tables: one-byte, 0F, 0F 38 and 0F 3A maps and their groups; those of VEX are in
 * tables_vex.c. Data only; the format is in optable.h. Rows that are OP_NOEXEC exist so that every
 * instruction has a length. Rows absent are OP_UNKNOWN.
 *
 * SDM vol 2 appendix A; APM vol 3 appendix A.
 */
#include <linux/kernel.h>
#include "optable.h"
#include "rows.h"

/* Groups of the one-byte map */

#define GROUP1(s, f) {							\
	ROW(ADD, E, s, M | F_LOCK | (f)),				\
	ROWU(OR, E, s, M | F_LOCK | (f), U_LOGIC),			\
	ROW(ADC, E, s, M | F_LOCK | (f)),				\
	ROW(SBB, E, s, M | F_LOCK | (f)),				\
	ROWU(AND, E, s, M | F_LOCK | (f), U_LOGIC),			\
	ROW(SUB, E, s, M | F_LOCK | (f)),				\
	ROWU(XOR, E, s, M | F_LOCK | (f), U_LOGIC),			\
	ROW(CMP, E, s, M | F_NOWB | (f)),				\
}

#define GROUP2(s, f) {							\
	ROWU(ROL, E, s, M | F_UNDEF_CNT | (f), U_OF),			\
	ROWU(ROR, E, s, M | F_UNDEF_CNT | (f), U_OF),			\
	ROWU(RCL, E, s, M | F_UNDEF_CNT | (f), U_OF),			\
	ROWU(RCR, E, s, M | F_UNDEF_CNT | (f), U_OF),			\
	ROWU(SHL, E, s, M | F_UNDEF_CNT | (f), U_SHIFT),		\
	ROWU(SHR, E, s, M | F_UNDEF_CNT | (f), U_SHIFT),		\
	ROWU(SAL, E, s, M | F_UNDEF_CNT | (f), U_SHIFT),		\
	ROWU(SAR, E, s, M | F_UNDEF_CNT | (f), U_SHIFT),		\
}

static const struct keel_op group1_80[8] = GROUP1(IMM, F_IMM8 | B);
static const struct keel_op group1_81[8] = GROUP1(IMM, F_IMMZ);
static const struct keel_op group1_82[8] = GROUP1(IMM, F_IMM8 | B | F_NO64);
static const struct keel_op group1_83[8] = GROUP1(IMM, F_IMM8);

static const struct keel_op group2_c0[8] = GROUP2(IMM, F_IMM8 | B);
static const struct keel_op group2_c1[8] = GROUP2(IMM, F_IMM8);
static const struct keel_op group2_d0[8] = GROUP2(ONE, B);
static const struct keel_op group2_d1[8] = GROUP2(ONE, 0);
static const struct keel_op group2_d2[8] = GROUP2(CL, B);
static const struct keel_op group2_d3[8] = GROUP2(CL, 0);

#define GROUP3(f, immf) {						\
	ROWU(TEST, E, IMM, M | F_NOWB | (immf) | (f), U_LOGIC),		\
	ROWU(TEST, E, IMM, M | F_NOWB | (immf) | (f), U_LOGIC),		\
	ROW(NOT, E, NONE, M | F_LOCK | (f)),				\
	ROW(NEG, E, NONE, M | F_LOCK | (f)),				\
	ROWU(MUL, NONE, E, M | (f), U_MUL),				\
	ROWU(IMUL1, NONE, E, M | (f), U_MUL),				\
	ROWU(DIV, NONE, E, M | (f), U_ALL),				\
	ROWU(IDIV, NONE, E, M | (f), U_ALL),				\
}

static const struct keel_op group3_f6[8] = GROUP3(B, F_IMM8);
static const struct keel_op group3_f7[8] = GROUP3(0, F_IMMZ);

static const struct keel_op group4[8] = {
	ROW(INC, E, NONE, M | B | F_LOCK),
	ROW(DEC, E, NONE, M | B | F_LOCK),
};

static const struct keel_op group5[8] = {
	ROW(INC, E, NONE, M | F_LOCK),
	ROW(DEC, E, NONE, M | F_LOCK),
	ROW(CALL_IND, NONE, E, M | F_F64),
	PLAIN(CALL_FAR_IND, M | F_MEM),
	ROW(JMP_IND, NONE, E, M | F_F64),
	PLAIN(JMP_FAR_IND, M | F_MEM),
	ROW(PUSH, NONE, E, M | F_D64),
};

static const struct keel_op group1a[8] = {
	ROW(POP, E, NONE, M | F_D64 | F_NORD),
};

static const struct keel_op xabort_or_mov_c6[8] = {
	ROW(MOV, E, IMM, M | B | F_IMM8 | F_NORD),
	[7] = NOEXEC(M | B | F_IMM8 | F_REG),
};

static const struct keel_op xbegin_or_mov_c7[8] = {
	ROW(MOV, E, IMM, M | F_IMMZ | F_NORD),
	[7] = NOEXEC(M | F_IMMZ | F_REG),
};

static const struct keel_op nop_pause[4] = {
	PLAIN(NOP, 0), PLAIN(NOP, 0), PLAIN(PAUSE, 0), PLAIN(NOP, 0),
};

static const struct keel_op arpl_movsxd[2] = {
	ROW(ARPL, E16, G, M | F_PROT),
	ROW(MOVSX, G, E32, M | F_NORD),
};

#define ALU_ROWS(base, o, l, u)						\
	[(base) + 0] = ROWU(o, E, G, M | B | (l), u),			\
	[(base) + 1] = ROWU(o, E, G, M | (l), u),			\
	[(base) + 2] = ROWU(o, G, E, M | B | ((l) & F_NOWB), u),	\
	[(base) + 3] = ROWU(o, G, E, M | ((l) & F_NOWB), u),		\
	[(base) + 4] = ROWU(o, ACC, IMM, B | F_IMM8 | ((l) & F_NOWB), u), \
	[(base) + 5] = ROWU(o, ACC, IMM, F_IMMZ | ((l) & F_NOWB), u)

const struct keel_op keel_ops_one[256] = {
	ALU_ROWS(0x00, ADD, F_LOCK, 0),
	[0x06] = PLAIN(PUSH_SREG, F_NO64),
	[0x07] = PLAIN(POP_SREG, F_NO64),
	ALU_ROWS(0x08, OR, F_LOCK, U_LOGIC),
	[0x0e] = PLAIN(PUSH_SREG, F_NO64),
	ALU_ROWS(0x10, ADC, F_LOCK, 0),
	[0x16] = PLAIN(PUSH_SREG, F_NO64),
	[0x17] = PLAIN(POP_SREG, F_NO64),
	ALU_ROWS(0x18, SBB, F_LOCK, 0),
	[0x1e] = PLAIN(PUSH_SREG, F_NO64),
	[0x1f] = PLAIN(POP_SREG, F_NO64),
	ALU_ROWS(0x20, AND, F_LOCK, U_LOGIC),
	[0x27] = PLAINU(DAA, F_NO64, U_OF),
	ALU_ROWS(0x28, SUB, F_LOCK, 0),
	[0x2f] = PLAINU(DAS, F_NO64, U_OF),
	ALU_ROWS(0x30, XOR, F_LOCK, U_LOGIC),
	[0x37] = PLAINU(AAA, F_NO64, U_OF | U_SF | U_ZF | U_PF),
	ALU_ROWS(0x38, CMP, F_NOWB, 0),
	[0x3f] = PLAINU(AAS, F_NO64, U_OF | U_SF | U_ZF | U_PF),
	EIGHT(0x40, ROW(INC, Z, NONE, F_NO64)),
	EIGHT(0x48, ROW(DEC, Z, NONE, F_NO64)),
	EIGHT(0x50, ROW(PUSH, NONE, Z, F_D64)),
	EIGHT(0x58, ROW(POP, Z, NONE, F_D64 | F_NORD)),
	[0x60] = PLAIN(PUSHA, F_NO64),
	[0x61] = PLAIN(POPA, F_NO64),
	[0x62] = ROW(BOUND, G, NONE, M | F_NO64 | F_MEM),
	[0x63] = BY(MODE, arpl_movsxd),
	[0x68] = ROW(PUSH, NONE, IMM, F_IMMZ | F_D64),
	[0x69] = ROWU(IMUL3, G, E, M | F_IMMZ | F_NORD, U_MUL),
	[0x6a] = ROW(PUSH, NONE, IMM, F_IMM8 | F_D64),
	[0x6b] = ROWU(IMUL3, G, E, M | F_IMM8 | F_NORD, U_MUL),
	[0x6c] = PLAIN(INS, F_STR | B),
	[0x6d] = PLAIN(INS, F_STR),
	[0x6e] = PLAIN(OUTS, F_STR | B),
	[0x6f] = PLAIN(OUTS, F_STR),
	SIXTEEN(0x70, PLAIN(JCC, F_IMM8 | F_F64)),
	[0x80] = BY(REG, group1_80),
	[0x81] = BY(REG, group1_81),
	[0x82] = BY(REG, group1_82),
	[0x83] = BY(REG, group1_83),
	[0x84] = ROWU(TEST, E, G, M | B | F_NOWB, U_LOGIC),
	[0x85] = ROWU(TEST, E, G, M | F_NOWB, U_LOGIC),
	[0x86] = ROW(XCHG, E, G, M | B | F_LOCK),
	[0x87] = ROW(XCHG, E, G, M | F_LOCK),
	[0x88] = ROW(MOV, E, G, M | B | F_NORD),
	[0x89] = ROW(MOV, E, G, M | F_NORD),
	[0x8a] = ROW(MOV, G, E, M | B | F_NORD),
	[0x8b] = ROW(MOV, G, E, M | F_NORD),
	[0x8c] = PLAIN(MOV_FROM_SREG, M),
	[0x8d] = ROW(LEA, G, NONE, M | F_MEM | F_NORD),
	[0x8e] = ROW(MOV_TO_SREG, NONE, E16, M),
	[0x8f] = BY(REG, group1a),
	[0x90] = BY_NOMODRM(PREFIX, nop_pause),
	[0x91] = ROW(XCHG, Z, ACC, 0), [0x92] = ROW(XCHG, Z, ACC, 0),
	[0x93] = ROW(XCHG, Z, ACC, 0), [0x94] = ROW(XCHG, Z, ACC, 0),
	[0x95] = ROW(XCHG, Z, ACC, 0), [0x96] = ROW(XCHG, Z, ACC, 0),
	[0x97] = ROW(XCHG, Z, ACC, 0),
	[0x98] = PLAIN(CBW, 0),
	[0x99] = PLAIN(CWD, 0),
	[0x9a] = PLAIN(CALL_FAR, F_FARPTR | F_NO64),
	[0x9b] = NOEXEC(0),
	[0x9c] = PLAIN(PUSHF, F_D64),
	[0x9d] = PLAIN(POPF, F_D64),
	[0x9e] = PLAIN(SAHF, 0),
	[0x9f] = PLAIN(LAHF, 0),
	[0xa0] = ROW(MOV, ACC, MOFFS, F_MOFFS | B | F_NORD),
	[0xa1] = ROW(MOV, ACC, MOFFS, F_MOFFS | F_NORD),
	[0xa2] = ROW(MOV, MOFFS, ACC, F_MOFFS | B | F_NORD),
	[0xa3] = ROW(MOV, MOFFS, ACC, F_MOFFS | F_NORD),
	[0xa4] = PLAIN(MOVS, F_STR | B),
	[0xa5] = PLAIN(MOVS, F_STR),
	[0xa6] = PLAIN(CMPS, F_STR | B),
	[0xa7] = PLAIN(CMPS, F_STR),
	[0xa8] = ROWU(TEST, ACC, IMM, B | F_IMM8 | F_NOWB, U_LOGIC),
	[0xa9] = ROWU(TEST, ACC, IMM, F_IMMZ | F_NOWB, U_LOGIC),
	[0xaa] = PLAIN(STOS, F_STR | B),
	[0xab] = PLAIN(STOS, F_STR),
	[0xac] = PLAIN(LODS, F_STR | B),
	[0xad] = PLAIN(LODS, F_STR),
	[0xae] = PLAIN(SCAS, F_STR | B),
	[0xaf] = PLAIN(SCAS, F_STR),
	EIGHT(0xb0, ROW(MOV, Z, IMM, B | F_IMM8 | F_NORD)),
	EIGHT(0xb8, ROW(MOV, Z, IMM, F_IMMV | F_NORD)),
	[0xc0] = BY(REG, group2_c0),
	[0xc1] = BY(REG, group2_c1),
	[0xc2] = PLAIN(RET, F_IMM16 | F_F64),
	[0xc3] = PLAIN(RET, F_F64),
	[0xc4] = ROW(LOAD_FAR_PTR, G, NONE, M | F_MEM | F_NO64),
	[0xc5] = ROW(LOAD_FAR_PTR, G, NONE, M | F_MEM | F_NO64),
	[0xc6] = BY(REG, xabort_or_mov_c6),
	[0xc7] = BY(REG, xbegin_or_mov_c7),
	[0xc8] = PLAIN(ENTER, F_IMM16 | F_IMM8B | F_D64),
	[0xc9] = PLAIN(LEAVE, F_D64),
	[0xca] = PLAIN(RET_FAR, F_IMM16),
	[0xcb] = PLAIN(RET_FAR, 0),
	[0xcc] = PLAIN(INT3, 0),
	[0xcd] = PLAIN(INT, F_IMM8),
	[0xce] = PLAIN(INTO, F_NO64),
	[0xcf] = PLAIN(IRET, 0),
	[0xd0] = BY(REG, group2_d0),
	[0xd1] = BY(REG, group2_d1),
	[0xd2] = BY(REG, group2_d2),
	[0xd3] = BY(REG, group2_d3),
	[0xd4] = PLAINU(AAM, F_IMM8 | F_NO64, U_OF | U_AF | U_CF),
	[0xd5] = PLAINU(AAD, F_IMM8 | F_NO64, U_OF | U_AF | U_CF),
	[0xd6] = PLAIN(SALC, F_NO64),
	[0xd7] = PLAIN(XLAT, 0),
	EIGHT(0xd8, NOEXEC(M)),			/* x87 */
	[0xe0] = PLAIN(LOOP, F_IMM8 | F_F64),
	[0xe1] = PLAIN(LOOP, F_IMM8 | F_F64),
	[0xe2] = PLAIN(LOOP, F_IMM8 | F_F64),
	[0xe3] = PLAIN(JCXZ, F_IMM8 | F_F64),
	[0xe4] = ROW(IN, NONE, IMM, B | F_IMM8),
	[0xe5] = ROW(IN, NONE, IMM, F_IMM8),
	[0xe6] = ROW(OUT, NONE, IMM, B | F_IMM8),
	[0xe7] = ROW(OUT, NONE, IMM, F_IMM8),
	[0xe8] = PLAIN(CALL, F_IMMZ | F_F64),
	[0xe9] = PLAIN(JMP, F_IMMZ | F_F64),
	[0xea] = PLAIN(JMP_FAR, F_FARPTR | F_NO64),
	[0xeb] = PLAIN(JMP, F_IMM8 | F_F64),
	[0xec] = PLAIN(IN, B),
	[0xed] = PLAIN(IN, 0),
	[0xee] = PLAIN(OUT, B),
	[0xef] = PLAIN(OUT, 0),
	[0xf1] = PLAIN(INT1, 0),
	[0xf4] = PLAIN(HLT, F_PRIV),
	[0xf5] = PLAIN(CMC, 0),
	[0xf6] = BY(REG, group3_f6),
	[0xf7] = BY(REG, group3_f7),
	[0xf8] = PLAIN(CLC, 0),
	[0xf9] = PLAIN(STC, 0),
	[0xfa] = PLAIN(CLI, 0),
	[0xfb] = PLAIN(STI, 0),
	[0xfc] = PLAIN(CLD, 0),
	[0xfd] = PLAIN(STD, 0),
	[0xfe] = BY(REG, group4),
	[0xff] = BY(REG, group5),
};

/* Groups of the 0F map */

static const struct keel_op group6[8] = {
	PLAIN(SLDT, M | F_PROT),
	PLAIN(STR, M | F_PROT),
	ROW(LLDT, NONE, E16, M | F_PROT | F_PRIV),
	ROW(LTR, NONE, E16, M | F_PROT | F_PRIV),
	ROW(VERR, NONE, E16, M | F_PROT),
	ROW(VERW, NONE, E16, M | F_PROT),
};

static const struct keel_op group7_0[8] = {		/* 0F 01 C0-C7 */
	NOEXEC(M), PLAIN(HYPERCALL, M), NOEXEC(M), NOEXEC(M),
	NOEXEC(M), NOEXEC(M), NOEXEC(M),
};

static const struct keel_op group7_1[8] = {		/* C8-CF */
	PLAIN(MONITOR, M), PLAIN(MWAIT, M),
	PLAIN(CLAC, M | F_PROT), PLAIN(STAC, M | F_PROT),
	[7] = NOEXEC(M),
};

static const struct keel_op xgetbv[4] = {
	PLAIN(XGETBV, M), PLAIN(UD, M), PLAIN(UD, M), PLAIN(UD, M),
};
static const struct keel_op xsetbv[4] = {
	PLAIN(XSETBV, M | F_PRIV), PLAIN(UD, M), PLAIN(UD, M), PLAIN(UD, M),
};
static const struct keel_op group7_2[8] = {		/* D0-D7 */
	BY(PREFIX, xgetbv), BY(PREFIX, xsetbv),
	[4] = NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
};

static const struct keel_op group7_3[8] = {		/* D8-DF: SVM */
	NOEXEC(M), PLAIN(HYPERCALL, M), NOEXEC(M), NOEXEC(M),
	NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
};

static const struct keel_op rdpkru[4] = {
	PLAIN(RDPKRU, M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
};
static const struct keel_op wrpkru[4] = {
	PLAIN(WRPKRU, M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
};
static const struct keel_op group7_5[8] = {		/* E8-EF */
	NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
	NOEXEC(M), NOEXEC(M), BY(PREFIX, rdpkru), BY(PREFIX, wrpkru),
};

static const struct keel_op group7_7[8] = {		/* F8-FF */
	PLAIN(SWAPGS, M | F_ONLY64 | F_PRIV), PLAIN(RDTSCP, M),
	NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
};

static const struct keel_op group7_mod_0[2] = { PLAIN(SGDT, M), BY(RM, group7_0) };
static const struct keel_op group7_mod_1[2] = { PLAIN(SIDT, M), BY(RM, group7_1) };
static const struct keel_op group7_mod_2[2] = { PLAIN(LGDT, M | F_PRIV), BY(RM, group7_2) };
static const struct keel_op group7_mod_3[2] = { PLAIN(LIDT, M | F_PRIV), BY(RM, group7_3) };
static const struct keel_op group7_mod_5[2] = { NOEXEC(M), BY(RM, group7_5) };
static const struct keel_op group7_mod_7[2] = { PLAIN(INVLPG, M | F_PRIV), BY(RM, group7_7) };

static const struct keel_op group7[8] = {
	BY(MOD, group7_mod_0), BY(MOD, group7_mod_1), BY(MOD, group7_mod_2), BY(MOD, group7_mod_3),
	PLAIN(SMSW, M),
	BY(MOD, group7_mod_5),
	ROW(LMSW, NONE, E16, M | F_PRIV),
	BY(MOD, group7_mod_7),
};

#define GROUP8(o, f)	ROWU(o, E, IMM, M | F_IMM8 | (f), U_BT)
static const struct keel_op group8[8] = {
	[4] = GROUP8(BT, F_NOWB), GROUP8(BTS, F_LOCK), GROUP8(BTR, F_LOCK), GROUP8(BTC, F_LOCK),
};

static const struct keel_op group9_7_reg[4] = {
	NOEXEC(M), NOEXEC(M), PLAIN(RDPID, M), PLAIN(UNKNOWN, M),
};
static const struct keel_op group9_mod_1[2] = { PLAIN(CMPXCHG8B, M | F_LOCK), PLAIN(UD, M) };
static const struct keel_op group9_mod_7[2] = { NOEXEC(M), BY(PREFIX, group9_7_reg) };
static const struct keel_op group9[8] = {
	[1] = BY(MOD, group9_mod_1),
	[3] = NOEXEC(M | F_MEM), NOEXEC(M | F_MEM), NOEXEC(M | F_MEM),
	NOEXEC(M), BY(MOD, group9_mod_7),
};

static const struct keel_op group15_reg_0[4] = {
	[2] = ROW(RDFSBASE, E, NONE, M | F_ONLY64 | F_NORD | F_NO66),
};
static const struct keel_op group15_reg_1[4] = {
	[2] = ROW(RDGSBASE, E, NONE, M | F_ONLY64 | F_NORD | F_NO66),
};
static const struct keel_op group15_reg_2[4] = { [2] = ROW(WRFSBASE, NONE, E, M | F_ONLY64 | F_NO66) };
static const struct keel_op group15_reg_3[4] = { [2] = ROW(WRGSBASE, NONE, E, M | F_ONLY64 | F_NO66) };
static const struct keel_op group15_reg_56[4] = {
	PLAIN(FENCE, M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
};
static const struct keel_op group15_reg_7[4] = { PLAIN(FENCE, M), NOEXEC(M) };
static const struct keel_op group15_mem_6[4] = { NOEXEC(M), PLAIN(CLFLUSH, M), NOEXEC(M) };
static const struct keel_op group15_mem_7[4] = { PLAIN(CLFLUSH, M), PLAIN(CLFLUSH, M) };
static const struct keel_op group15_mem_0[4] = { PLAIN(FXSAVE, M), PLAIN(UD, M), PLAIN(UD, M), PLAIN(UD, M) };
static const struct keel_op group15_mem_1[4] = { PLAIN(FXRSTOR, M), PLAIN(UD, M), PLAIN(UD, M), PLAIN(UD, M) };
static const struct keel_op group15_mod_0[2] = {
	BY(PREFIX, group15_mem_0), BY(PREFIX, group15_reg_0),
};
static const struct keel_op group15_mod_1[2] = {
	BY(PREFIX, group15_mem_1), BY(PREFIX, group15_reg_1),
};
static const struct keel_op group15_mod_2[2] = { NOEXEC(M), BY(PREFIX, group15_reg_2) };
static const struct keel_op group15_mod_3[2] = { NOEXEC(M), BY(PREFIX, group15_reg_3) };
static const struct keel_op group15_mod_5[2] = { NOEXEC(M), BY(PREFIX, group15_reg_56) };
static const struct keel_op group15_mod_6[2] = {
	BY(PREFIX, group15_mem_6), BY(PREFIX, group15_reg_56),
};
static const struct keel_op group15_mod_7[2] = {
	BY(PREFIX, group15_mem_7), BY(PREFIX, group15_reg_7),
};
static const struct keel_op group15[8] = {
	BY(MOD, group15_mod_0), BY(MOD, group15_mod_1),
	BY(MOD, group15_mod_2), BY(MOD, group15_mod_3),
	NOEXEC(M), BY(MOD, group15_mod_5), BY(MOD, group15_mod_6), BY(MOD, group15_mod_7),
};

static const struct keel_op popcnt[4] = {
	[2] = ROW(POPCNT, G, E, M | F_NORD),
};
static const struct keel_op bsf_tzcnt[4] = {
	ROWU(BSF, G, E, M, U_SCAN), ROWU(BSF, G, E, M, U_SCAN),
	ROWU(TZCNT, G, E, M | F_NORD, U_COUNT), ROWU(BSF, G, E, M, U_SCAN),
};
static const struct keel_op bsr_lzcnt[4] = {
	ROWU(BSR, G, E, M, U_SCAN), ROWU(BSR, G, E, M, U_SCAN),
	ROWU(LZCNT, G, E, M | F_NORD, U_COUNT), ROWU(BSR, G, E, M, U_SCAN),
};

/* SSE moves, by prefix: none, 66, F3, F2 */

static const struct keel_op sse_10[4] = {
	VMOV(V, W, 0), VMOV(V, W, 0),
	ROW(VMOV_MERGE, V, W, M | F_W_MEM4), ROW(VMOV_MERGE, V, W, M | F_W_MEM8),
};
static const struct keel_op sse_11[4] = {
	VMOV(W, V, 0), VMOV(W, V, 0),
	ROW(VMOV_MERGE, W, V, M | F_W_MEM4), ROW(VMOV_MERGE, W, V, M | F_W_MEM8),
};
static const struct keel_op sse_12[4] = {
	ROW(VMOV_HALF, V, W, M), ROW(VMOV_HALF, V, W, M | F_MEM), NOEXEC(M), NOEXEC(M),
};
static const struct keel_op sse_13[4] = {
	ROW(VMOV_HALF, W, V, M | F_MEM), ROW(VMOV_HALF, W, V, M | F_MEM),
};
static const struct keel_op sse_16[4] = {
	ROW(VMOV_HALF, V, W, M), ROW(VMOV_HALF, V, W, M | F_MEM), NOEXEC(M),
};
static const struct keel_op sse_28[4] = { VMOV(V, W, F_ALIGN), VMOV(V, W, F_ALIGN) };
static const struct keel_op sse_29[4] = { VMOV(W, V, F_ALIGN), VMOV(W, V, F_ALIGN) };
static const struct keel_op sse_2b[4] = {
	VMOV(W, V, F_ALIGN | F_MEM), VMOV(W, V, F_ALIGN | F_MEM),
	NOEXEC(M | F_MEM), NOEXEC(M | F_MEM),
};
static const struct keel_op sse_6e[4] = {
	ROW(VMOV_GPR, P, E, M), ROW(VMOV_GPR, V, E, M),
};
static const struct keel_op sse_7e[4] = {
	ROW(VMOV_GPR, E, P, M), ROW(VMOV_GPR, E, V, M), ROW(VMOV_LOW, V, W, M | F_W_MEM8),
};
static const struct keel_op sse_6f[4] = {
	ROW(VMOV_MMX, P, Q, M | F_W_MEM8), VMOV(V, W, F_ALIGN), VMOV(V, W, 0),
};
static const struct keel_op sse_7f[4] = {
	ROW(VMOV_MMX, Q, P, M | F_W_MEM8), VMOV(W, V, F_ALIGN), VMOV(W, V, 0),
};
static const struct keel_op sse_d6[4] = {
	[1] = ROW(VMOV_LOW, W, V, M | F_W_MEM8), NOEXEC(M | F_REG), NOEXEC(M | F_REG),
};
static const struct keel_op sse_e7[4] = {
	ROW(VMOV_MMX, Q, P, M | F_W_MEM8 | F_MEM), VMOV(W, V, F_ALIGN | F_MEM),
};
static const struct keel_op sse_f0[4] = { [3] = VMOV(V, W, F_MEM) };
static const struct keel_op op_78[4] = {		/* VMREAD, EXTRQ, -, INSERTQ */
	NOEXEC(M), NOEXEC(M | F_IMM16), PLAIN(UD, M), NOEXEC(M | F_IMM16),
};

static const struct keel_op movnti[4] = {
	ROW(MOV, E, G, M | F_MEM | F_NORD | F_NO66), PLAIN(UD, M), PLAIN(UD, M), PLAIN(UD, M),
};

const struct keel_op keel_ops_0f[256] = {
	[0x00] = BY(REG, group6),
	[0x01] = BY(REG, group7),
	[0x02] = ROW(LAR, G, E16, M | F_PROT),
	[0x03] = ROW(LSL, G, E16, M | F_PROT),
	[0x05] = PLAIN(SYSCALL, 0),
	[0x06] = PLAIN(CLTS, F_PRIV),
	[0x07] = PLAIN(SYSRET, 0),
	[0x08] = PLAIN(INVD, F_PRIV),
	[0x09] = PLAIN(WBINVD, F_PRIV),
	[0x0b] = PLAIN(UD, 0),
	[0x0d] = PLAIN(PREFETCH, M | F_MEM),
	[0x0e] = NOEXEC(0),
	[0x0f] = NOEXEC(M | F_IMM8),		/* 3DNow! */
	[0x10] = BY(PREFIX, sse_10),
	[0x11] = BY(PREFIX, sse_11),
	[0x12] = BY(PREFIX, sse_12),
	[0x13] = BY(PREFIX, sse_13),
	[0x14] = NOEXEC(M), NOEXEC(M),
	[0x16] = BY(PREFIX, sse_16),
	[0x17] = BY(PREFIX, sse_13),
	EIGHT(0x18, PLAIN(NOP, M)),		/* prefetches, hints, ENDBR */
	[0x20] = PLAIN(MOV_FROM_CR, M | F_MOD3 | F_FULL),
	[0x21] = PLAIN(MOV_FROM_DR, M | F_MOD3 | F_FULL),
	[0x22] = PLAIN(MOV_TO_CR, M | F_MOD3 | F_FULL),
	[0x23] = PLAIN(MOV_TO_DR, M | F_MOD3 | F_FULL),
	[0x28] = BY(PREFIX, sse_28),
	[0x29] = BY(PREFIX, sse_29),
	[0x2a] = NOEXEC(M),
	[0x2b] = BY(PREFIX, sse_2b),
	[0x2c] = NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
	[0x30] = PLAIN(WRMSR, F_PRIV),
	[0x31] = PLAIN(RDTSC, 0),
	[0x32] = PLAIN(RDMSR, F_PRIV),
	[0x33] = PLAIN(RDPMC, 0),
	[0x34] = PLAIN(SYSENTER, 0),
	[0x35] = PLAIN(SYSEXIT, 0),
	[0x37] = NOEXEC(0),			/* GETSEC */
	SIXTEEN(0x40, ROW(CMOV, G, E, M)),
	SIXTEEN(0x50, NOEXEC(M)),
	EIGHT(0x60, NOEXEC(M)),
	[0x68] = NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
	[0x6e] = BY(PREFIX, sse_6e),
	[0x6f] = BY(PREFIX, sse_6f),
	[0x70] = NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8),
	[0x74] = NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(0),
	[0x78] = BY(PREFIX, op_78),
	[0x79] = NOEXEC(M),
	[0x7c] = NOEXEC(M), NOEXEC(M),
	[0x7e] = BY(PREFIX, sse_7e),
	[0x7f] = BY(PREFIX, sse_7f),
	SIXTEEN(0x80, PLAIN(JCC, F_IMMZ | F_F64)),
	SIXTEEN(0x90, ROW(SETCC, E, NONE, M | B | F_NORD)),
	[0xa0] = PLAIN(PUSH_SREG, F_D64),
	[0xa1] = PLAIN(POP_SREG, F_D64),
	[0xa2] = PLAIN(CPUID, 0),
	[0xa3] = ROWU(BT, E, G, M | F_NOWB, U_BT),
	[0xa4] = ROWU(SHLD, E, G, M | F_IMM8 | F_UNDEF_CNT, U_SHIFT),
	[0xa5] = ROWU(SHLD, E, G, M | F_UNDEF_CNT, U_SHIFT),
	[0xa8] = PLAIN(PUSH_SREG, F_D64),
	[0xa9] = PLAIN(POP_SREG, F_D64),
	[0xaa] = PLAIN(RSM, 0),
	[0xab] = ROWU(BTS, E, G, M | F_LOCK, U_BT),
	[0xac] = ROWU(SHRD, E, G, M | F_IMM8 | F_UNDEF_CNT, U_SHIFT),
	[0xad] = ROWU(SHRD, E, G, M | F_UNDEF_CNT, U_SHIFT),
	[0xae] = BY(REG, group15),
	[0xaf] = ROWU(IMUL2, G, E, M, U_MUL),
	[0xb0] = ROW(CMPXCHG, E, G, M | B | F_LOCK),
	[0xb1] = ROW(CMPXCHG, E, G, M | F_LOCK),
	[0xb2] = ROW(LOAD_FAR_PTR, G, NONE, M | F_MEM),
	[0xb3] = ROWU(BTR, E, G, M | F_LOCK, U_BT),
	[0xb4] = ROW(LOAD_FAR_PTR, G, NONE, M | F_MEM),
	[0xb5] = ROW(LOAD_FAR_PTR, G, NONE, M | F_MEM),
	[0xb6] = ROW(MOVZX, G, E8, M | F_NORD),
	[0xb7] = ROW(MOVZX, G, E16, M | F_NORD),
	[0xb8] = BY(PREFIX, popcnt),
	[0xb9] = PLAIN(UD, M),
	[0xba] = BY(REG, group8),
	[0xbb] = ROWU(BTC, E, G, M | F_LOCK, U_BT),
	[0xbc] = BY(PREFIX, bsf_tzcnt),
	[0xbd] = BY(PREFIX, bsr_lzcnt),
	[0xbe] = ROW(MOVSX, G, E8, M | F_NORD),
	[0xbf] = ROW(MOVSX, G, E16, M | F_NORD),
	[0xc0] = ROW(XADD, E, G, M | B | F_LOCK),
	[0xc1] = ROW(XADD, E, G, M | F_LOCK),
	[0xc2] = NOEXEC(M | F_IMM8),
	[0xc3] = BY(PREFIX, movnti),
	[0xc4] = NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8),
	[0xc7] = BY(REG, group9),
	EIGHT(0xc8, ROW(BSWAP, Z, NONE, 0)),
	[0xd0] = NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
	[0xd6] = BY(PREFIX, sse_d6),
	[0xd7] = NOEXEC(M),
	[0xd8] = NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
	[0xdf] = NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
	[0xe6] = NOEXEC(M),
	[0xe7] = BY(PREFIX, sse_e7),
	EIGHT(0xe8, NOEXEC(M)),
	[0xf0] = BY(PREFIX, sse_f0),
	[0xf1] = NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
	[0xf8] = NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M), NOEXEC(M),
	[0xff] = PLAIN(UD, M),
};

/* 0F 38: every row has a ModRM byte and no immediate */

static const struct keel_op movbe_load[4] = {
	ROW(MOVBE, G, E, M | F_MEM | F_NORD), ROW(MOVBE, G, E, M | F_MEM | F_NORD),
	PLAIN(UD, M), ROW(CRC32, G32, E, M | B),
};
static const struct keel_op movbe_store[4] = {
	ROW(MOVBE, E, G, M | F_MEM | F_NORD), ROW(MOVBE, E, G, M | F_MEM | F_NORD),
	PLAIN(UD, M), ROW(CRC32, G32, E, M),
};
static const struct keel_op adx[4] = {			/* WRSS, ADCX, ADOX, - */
	NOEXEC(M), ROW(ADCX, G, E, M | F_NO66), ROW(ADOX, G, E, M | F_NO66),
};
static const struct keel_op movntdqa[4] = { [1] = VMOV(V, W, F_ALIGN | F_MEM) };
static const struct keel_op movdiri[4] = { ROW(MOV, E, G, M | F_MEM | F_NORD | F_NO66) };

const struct keel_op keel_ops_0f38[256] = {
	SIXTEEN(0x00, NOEXEC(M)),
	SIXTEEN(0x10, NOEXEC(M)),
	EIGHT(0x20, NOEXEC(M)),
	[0x28] = NOEXEC(M), NOEXEC(M),
	[0x2a] = BY(PREFIX, movntdqa),
	[0x2b] = NOEXEC(M),
	SIXTEEN(0x30, NOEXEC(M)),
	[0x40] = NOEXEC(M), NOEXEC(M),
	[0x80] = NOEXEC(M), NOEXEC(M), NOEXEC(M),	/* INVEPT, INVVPID, INVPCID */
	EIGHT(0xc8, NOEXEC(M)),
	EIGHT(0xd8, NOEXEC(M)),
	[0xf0] = BY(PREFIX, movbe_load),
	[0xf1] = BY(PREFIX, movbe_store),
	[0xf5] = NOEXEC(M),
	[0xf6] = BY(PREFIX, adx),
	[0xf8] = NOEXEC(M),
	[0xf9] = BY(PREFIX, movdiri),
};

/* 0F 3A: every row has a ModRM byte and one byte of immediate */
const struct keel_op keel_ops_0f3a[256] = {
	[0x08] = NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8),
	NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8),
	[0x14] = NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8),
	[0x20] = NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8),
	[0x40] = NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8),
	[0x44] = NOEXEC(M | F_IMM8),
	[0x60] = NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8),
	[0xcc] = NOEXEC(M | F_IMM8),
	[0xce] = NOEXEC(M | F_IMM8), NOEXEC(M | F_IMM8),
	[0xdf] = NOEXEC(M | F_IMM8),
	[0xf0] = NOEXEC(M | F_IMM8),			/* HRESET */
};
