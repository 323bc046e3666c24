/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The opcode table's format: one row an instruction form, naming its operation, its two explicit
 * operands, its widths, its conditions (mode, privilege, LOCK) and the flags it leaves undefined.
 * decode.c walks the tables to a leaf row; execute.c acts on the leaf; tests enumerate the leaves.
 *
 * SDM vol 2 appendix A (opcode maps), chapter 3 and 4 (flags of each instruction); APM vol 3.
 */
#ifndef KEEL_EMULATE_OPTABLE_H
#define KEEL_EMULATE_OPTABLE_H

#include <linux/types.h>

enum keel_opcode {
	OP_UNKNOWN,		/* not in the tables */
	OP_UD,			/* hardware raises #UD */
	OP_NOEXEC,		/* form and length known, not executed here */

	/* Inner rows: row->sub has the next rows, chosen by ... */
	OP_BY_REG,		/* ModRM.reg: 8 rows */
	OP_BY_RM,		/* ModRM.rm: 8 rows */
	OP_BY_MOD,		/* memory or register form: 2 rows */
	OP_BY_PREFIX,		/* none, 66, F3, F2: 4 rows */
	OP_BY_MODE,		/* 64-bit mode: 2 rows, the second for 64-bit mode */

	/* alu.c; the first eight and the rotates in the order of their ModRM.reg encoding */
	OP_ADD, OP_OR, OP_ADC, OP_SBB, OP_AND, OP_SUB, OP_XOR, OP_CMP,
	OP_ROL, OP_ROR, OP_RCL, OP_RCR, OP_SHL, OP_SHR, OP_SAL, OP_SAR,
	OP_TEST, OP_NOT, OP_NEG, OP_INC, OP_DEC,
	OP_SHLD, OP_SHRD,
	OP_BT, OP_BTS, OP_BTR, OP_BTC,
	OP_BSF, OP_BSR, OP_TZCNT, OP_LZCNT, OP_POPCNT, OP_CRC32, OP_BSWAP,
	OP_ADCX, OP_ADOX,
	OP_MUL, OP_IMUL1, OP_IMUL2, OP_IMUL3, OP_DIV, OP_IDIV,
	OP_CBW, OP_CWD,
	OP_DAA, OP_DAS, OP_AAA, OP_AAS, OP_AAM, OP_AAD, OP_SALC,

	/* bmi.c */
	OP_ANDN, OP_BEXTR, OP_BLSI, OP_BLSMSK, OP_BLSR, OP_BZHI, OP_MULX, OP_PDEP, OP_PEXT,
	OP_RORX, OP_SARX, OP_SHLX, OP_SHRX,

	/* execute.c: data movement */
	OP_MOV, OP_MOVZX, OP_MOVSX, OP_MOVBE, OP_LEA, OP_XCHG, OP_XADD,
	OP_CMPXCHG, OP_CMPXCHG8B, OP_CMOV, OP_SETCC, OP_XLAT,
	OP_MOV_FROM_SREG, OP_MOV_TO_SREG, OP_LOAD_FAR_PTR,
	OP_NOP, OP_FENCE, OP_PREFETCH, OP_CLFLUSH, OP_BOUND, OP_ARPL,
	OP_CLC, OP_STC, OP_CMC, OP_CLD, OP_STD, OP_LAHF, OP_SAHF,

	/* flow.c: stack and control transfer */
	OP_PUSH, OP_POP, OP_PUSHA, OP_POPA, OP_PUSHF, OP_POPF, OP_PUSH_SREG, OP_POP_SREG,
	OP_ENTER, OP_LEAVE, OP_JMP, OP_JCC, OP_CALL, OP_RET, OP_LOOP, OP_JCXZ,
	OP_JMP_IND, OP_CALL_IND,
	OP_JMP_FAR, OP_CALL_FAR, OP_JMP_FAR_IND, OP_CALL_FAR_IND, OP_RET_FAR, OP_IRET,
	OP_INT, OP_INT1, OP_INT3, OP_INTO,

	/* string.c */
	OP_MOVS, OP_CMPS, OP_STOS, OP_LODS, OP_SCAS, OP_INS, OP_OUTS, OP_IN, OP_OUT,

	/* vector.c */
	OP_VMOV, OP_VMOV_LOW, OP_VMOV_MERGE, OP_VMOV_HALF, OP_VMOV_GPR, OP_VMOV_MMX,
	OP_FXSAVE, OP_FXRSTOR,

	/* system.c */
	OP_CLI, OP_STI, OP_HLT, OP_RSM, OP_PAUSE, OP_CLTS, OP_LMSW, OP_SMSW,
	OP_MOV_FROM_CR, OP_MOV_TO_CR, OP_MOV_FROM_DR, OP_MOV_TO_DR,
	OP_CPUID, OP_RDMSR, OP_WRMSR, OP_RDTSC, OP_RDTSCP, OP_RDPMC, OP_RDPID,
	OP_XGETBV, OP_XSETBV, OP_RDPKRU, OP_WRPKRU, OP_INVD, OP_WBINVD, OP_INVLPG, OP_MONITOR, OP_MWAIT,
	OP_HYPERCALL, OP_SWAPGS, OP_CLAC, OP_STAC,
	OP_RDFSBASE, OP_RDGSBASE, OP_WRFSBASE, OP_WRGSBASE,
	OP_SGDT, OP_SIDT, OP_LGDT, OP_LIDT, OP_SLDT, OP_STR, OP_LLDT, OP_LTR,
	OP_LAR, OP_LSL, OP_VERR, OP_VERW,
	OP_SYSCALL, OP_SYSRET, OP_SYSENTER, OP_SYSEXIT,
	OP_NR
};

/*
 * Explicit operands. "Operand size" is a byte in rows with F_BYTE, else insn->op_size; the fixed
 * widths are for those that differ.
 */
enum keel_operand_kind {
	O_NONE,
	O_E,			/* ModRM.rm: general register or memory, operand size */
	O_E8, O_E16, O_E32,	/* the same, fixed width */
	O_G,			/* ModRM.reg: general register, operand size */
	O_G32,
	O_Z,			/* low three opcode bits: general register */
	O_ACC,			/* AL, AX, EAX, RAX */
	O_IMM,			/* insn->imm */
	O_ONE,			/* constant 1 */
	O_CL,
	O_MOFFS,		/* memory at insn->disp */
	O_V,			/* ModRM.reg: vector register */
	O_W,			/* ModRM.rm: vector register or memory */
	O_P, O_Q,		/* the same for MMX registers */
	O_VR,			/* VEX.vvvv: general register */
};

/* keel_op.flags */
#define F_MODRM		0x00000001
#define F_BYTE		0x00000002	/* operand size is one byte */
#define F_IMM8		0x00000004	/* sign-extended */
#define F_IMM16		0x00000008	/* zero-extended */
#define F_IMMZ		0x00000010	/* 2 or 4 bytes, sign-extended */
#define F_IMMV		0x00000020	/* 2, 4 or 8 bytes */
#define F_FARPTR	0x00000040	/* offset of 2 or 4 bytes, then a selector */
#define F_MOFFS		0x00000080	/* address of address size */
#define F_D64		0x00000100	/* operand size 64 in 64-bit mode unless 66 */
#define F_F64		0x00000200	/* operand size 64 in 64-bit mode */
#define F_FULL		0x00000400	/* operand size 64 in 64-bit mode, else 32 */
#define F_NO64		0x00000800	/* #UD in 64-bit mode */
#define F_ONLY64	0x00001000	/* #UD outside it */
#define F_PROT		0x00002000	/* #UD in real and virtual-8086 mode */
#define F_LOCK		0x00004000	/* LOCK allowed when the destination is memory */
#define F_PRIV		0x00008000	/* #GP(0) unless CPL is 0 */
#define F_MEM		0x00010000	/* #UD in the register form */
#define F_REG		0x00020000	/* #UD in the memory form */
#define F_MOD3		0x00040000	/* ModRM.mod is ignored: always the register form */
#define F_NORD		0x00080000	/* the destination is not read */
#define F_NOWB		0x00100000	/* the destination is not written */
#define F_STR		0x00200000	/* string instruction: REP applies */
#define F_ALIGN		0x00400000	/* #GP(0) unless the memory operand is aligned */
#define F_UNDEF_CNT	0x00800000	/* shift: @undef if the count is not 0; OF if it is not 1 */
#define F_VEX		0x01000000	/* a VEX row; else VEX makes it #UD */
#define F_W_MEM8	0x02000000	/* vector operand in memory is 8 bytes */
#define F_W_MEM4	0x04000000	/* ... 4 bytes */
#define F_NO66		0x20000000	/* 66 only selects the row: size 4, or 8 by REX.W */
#define F_IMM32		0x10000000	/* 4 bytes, whatever the operand size */
#define F_IMM8B		0x08000000	/* a second immediate of one byte (ENTER) */

/**
 * struct keel_op - a row of the opcode table
 * @op: what it does, or how to choose among @sub
 * @dst: first operand
 * @src: second operand
 * @undef: RFLAGS bits that the instruction leaves undefined (our own choice stands in execute)
 * @flags: F_*
 * @sub: next rows, with OP_BY_*
 */
struct keel_op {
	u16 op;
	u8 dst;
	u8 src;
	u16 undef;
	u32 flags;
	const struct keel_op *sub;
};

extern const struct keel_op keel_ops_one[256];
extern const struct keel_op keel_ops_0f[256];
extern const struct keel_op keel_ops_0f38[256];
extern const struct keel_op keel_ops_0f3a[256];
extern const struct keel_op keel_ops_vex_0f[256];
extern const struct keel_op keel_ops_vex_0f38[256];
extern const struct keel_op keel_ops_vex_0f3a[256];

#endif
