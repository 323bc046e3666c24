/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The instruction emulator's interface: keel_decode() turns bytes into a struct keel_insn,
 * keel_emu_execute() carries that instruction out on a struct keel_emu.
 *
 * Both are pure. They keep no state of their own, take no lock, allocate nothing, and reach guest
 * memory, ports, segments and system registers only through struct keel_emu_ops; so the same
 * objects run in the kernel, in a unit test and under a fuzzer. The caller serialises the use of
 * one struct keel_emu (in the module: the vCPU mutex) and may sleep in any callback.
 *
 * SDM vol 1 chapter 3 (modes and operands), vol 2 (instructions); APM vol 3.
 */
#ifndef KEEL_EMULATE_H
#define KEEL_EMULATE_H

#include <linux/types.h>

/* What decode, execute and the callbacks return. */
enum keel_emu_status {
	KEEL_EMU_OK = 0,
	KEEL_EMU_FAULT,		/* emu->fault says what to inject; no state changed */
	KEEL_EMU_IO,		/* userspace must complete an access; then call execute again */
	KEEL_EMU_UNHANDLEABLE,	/* valid instruction, not emulated; no state changed */
	KEEL_EMU_NEED_BYTES,	/* decode: the instruction is longer than the bytes given */
	KEEL_EMU_INVALID,	/* decode: hardware raises #UD */
	KEEL_EMU_UNKNOWN,	/* decode: not in the tables; hardware may know it */
	KEEL_EMU_TOO_LONG,	/* decode: over 15 bytes, hardware raises #GP(0) */
};

enum keel_emu_mode {
	KEEL_EMU_REAL,		/* CR0.PE clear */
	KEEL_EMU_VM86,		/* EFLAGS.VM set */
	KEEL_EMU_PROT16,	/* protected or compatibility mode, CS.D clear */
	KEEL_EMU_PROT32,	/* protected or compatibility mode, CS.D set */
	KEEL_EMU_PROT64,	/* EFER.LMA and CS.L set */
};

/* Register numbers as instructions encode them: indices of keel_emu.gpr[] */
enum keel_gpr {
	KEEL_RAX, KEEL_RCX, KEEL_RDX, KEEL_RBX, KEEL_RSP, KEEL_RBP, KEEL_RSI, KEEL_RDI,
	KEEL_R8, KEEL_R9, KEEL_R10, KEEL_R11, KEEL_R12, KEEL_R13, KEEL_R14, KEEL_R15,
	KEEL_NR_GPRS
};

/* The first six as instructions encode them; TR and LDTR for get_seg() and set_seg() only. */
enum keel_sreg {
	KEEL_ES, KEEL_CS, KEEL_SS, KEEL_DS, KEEL_FS, KEEL_GS, KEEL_TR, KEEL_LDTR, KEEL_NR_SEGS
};

#define KEEL_INSN_MAX_LEN	15

/* Bits of keel_insn.prefixes */
#define KEEL_PFX_OPSIZE		0x01	/* 66 */
#define KEEL_PFX_ADDRSIZE	0x02	/* 67 */
#define KEEL_PFX_LOCK		0x04	/* F0 */
#define KEEL_PFX_REPNE		0x08	/* F2; of F2 and F3 the last one counts */
#define KEEL_PFX_REP		0x10	/* F3 */
#define KEEL_PFX_SEG		0x20	/* insn.seg comes from a prefix */

/* Opcode maps, keel_insn.map */
#define KEEL_MAP_ONE		0	/* one byte */
#define KEEL_MAP_0F		1
#define KEEL_MAP_0F38		2
#define KEEL_MAP_0F3A		3

struct keel_op;				/* a row of the opcode table, see optable.h */

/**
 * struct keel_insn - one decoded instruction
 * @op: its row in the opcode table; NULL before a successful decode
 * @mode: the mode it was decoded for
 * @length: in bytes, prefixes included
 * @bytes: a copy of those bytes, for reports
 * @prefixes: KEEL_PFX_* seen
 * @rex: the REX prefix byte or 0; from VEX, its W, R, X, B bits in the same places
 * @vex: 0, or the VEX length: 2 or 3
 * @vex_vvvv: the register that VEX.vvvv names, inverted back; 0 when VEX encodes none
 * @vex_l: VEX.L
 * @map: KEEL_MAP_*
 * @opcode: last opcode byte
 * @has_modrm: a ModRM byte was there; then @modrm, and @mod, @reg, @rm with REX extension
 * @has_sib: a SIB byte was there; then @base, @index (extended), @scale (0 to 3)
 * @base: base register number, or -1
 * @index: index register number, or -1
 * @rip_relative: the displacement counts from the next instruction
 * @disp_size: 0, 1, 2, 4, or 8 for MOV with an absolute 64-bit offset
 * @disp: sign-extended displacement, or the moffs address
 * @imm_size: bytes of @imm in the encoding
 * @imm: first immediate, sign-extended; far pointers: offset here and selector in @imm2
 * @imm2: second immediate (ENTER's level, a far pointer's selector)
 * @seg: enum keel_sreg that a memory operand uses, after prefixes and defaults
 * @op_size: operand size in bytes: 1, 2, 4 or 8
 * @addr_size: address size in bytes: 2, 4 or 8
 */
struct keel_insn {
	const struct keel_op *op;
	enum keel_emu_mode mode;
	u8 length;
	u8 bytes[KEEL_INSN_MAX_LEN];
	u8 prefixes;
	u8 rex;
	u8 vex;
	u8 vex_vvvv;
	u8 vex_l;
	u8 map;
	u8 opcode;
	bool has_modrm;
	bool has_sib;
	bool rip_relative;
	u8 modrm;
	u8 mod;
	u8 reg;
	u8 rm;
	s8 base;
	s8 index;
	u8 scale;
	u8 disp_size;
	u8 imm_size;
	u8 seg;
	u8 op_size;
	u8 addr_size;
	u16 imm2;
	s64 disp;
	s64 imm;
};

/**
 * keel_decode() - decode one instruction
 * @insn: filled in; @insn->length is valid only when 0 is returned
 * @bytes: instruction bytes
 * @avail: how many of them may be read
 * @mode: processor mode
 *
 * Knows the form and length of all general-purpose, system, x87, MMX, SSE and VEX instructions,
 * those that execute does not handle included (SDM vol 2 chapter 2 and appendix A).
 *
 * Return: KEEL_EMU_OK; KEEL_EMU_NEED_BYTES (call again with more), KEEL_EMU_INVALID,
 * KEEL_EMU_UNKNOWN or KEEL_EMU_TOO_LONG.
 */
int keel_decode(struct keel_insn *insn, const u8 *bytes, unsigned int avail,
		enum keel_emu_mode mode);

/* How a callback shall check a memory access: a mask; 0 is a plain data read. */
#define KEEL_EMU_ACC_WRITE	0x1	/* needs write permission; on read(): a write follows */
#define KEEL_EMU_ACC_FETCH		0x2	/* instruction fetch */
#define KEEL_EMU_ACC_SYSTEM	0x4	/* implicit supervisor access: descriptors, TSS */
#define KEEL_EMU_ACC_LOCK		0x8	/* part of a locked read-modify-write */

/* Segment register as hardware caches it; fields as in struct kvm_segment. */
struct keel_emu_seg {
	u64 base;
	u32 limit;		/* in bytes, granularity applied */
	u16 selector;
	u8 type;		/* descriptor type, 4 bits */
	u8 s;			/* 1: code or data */
	u8 dpl;
	u8 present;
	u8 avl;
	u8 l;
	u8 db;
	u8 g;
	u8 unusable;		/* loaded with a NULL selector, or never */
};

/* What the system() callback is asked to do; @arg and @result where named. */
enum keel_emu_system {
	KEEL_SYS_HLT,		/* enter the halted state after this instruction */
	KEEL_SYS_INVD,
	KEEL_SYS_WBINVD,
	KEEL_SYS_INVLPG,	/* arg: linear address */
	KEEL_SYS_RDPMC,		/* arg: ECX; result: counter */
	KEEL_SYS_XGETBV,	/* arg: ECX; result: value */
	KEEL_SYS_XSETBV,	/* arg: ECX; *result holds the value to set */
	KEEL_SYS_PAUSE,
	KEEL_SYS_MONITOR,	/* arg: linear address */
	KEEL_SYS_MWAIT,		/* arg: EAX hints */
	KEEL_SYS_HYPERCALL,	/* VMCALL, VMMCALL; arguments in emu->gpr, result goes to RAX */
	KEEL_SYS_IRET,		/* an IRET has ended: NMIs are taken again. No failure */
	KEEL_SYS_RSM,		/* fault #UD; else all state is replaced after this instruction */
	KEEL_SYS_RDPKRU,	/* result: value. No failure */
	KEEL_SYS_WRPKRU,	/* arg: value. No failure */
};

struct keel_emu;

/**
 * struct keel_emu_ops - the emulator's doors to the world
 *
 * Unless stated otherwise a callback returns KEEL_EMU_OK, KEEL_EMU_FAULT (with @emu->fault filled
 * in: keel_emu_fault() does it), KEEL_EMU_IO or KEEL_EMU_UNHANDLEABLE. Every member must be set.
 *
 * KEEL_EMU_IO means that the access was handed to userspace. Execute then stops with the registers
 * as before the instruction (REP: before the iteration). When userspace has finished, the caller
 * calls keel_emu_execute() again with the same instruction; execute repeats the same callbacks in
 * the same order, and the callback must answer those that were completed (keyed by order of call:
 * @emu->access_nr counts read, write, compare_exchange and pio calls from 0) from what it recorded. The
 * record ends with commit(), or when execute returns anything but KEEL_EMU_IO.
 *
 * @read: read @len (1 to 32) bytes at linear address @la, translated with rights of @emu->cpl.
 *	Never crosses a 4 KiB boundary: the emulator splits and probes such accesses. Accesses over
 *	8 bytes to a device are for the callback to split.
 * @write: the same for writing.
 * @compare_exchange: atomically, for @len 1, 2, 4, 8 or 16: if memory equals @old, store @new; always leave
 *	in @old what memory held. Memory without atomicity (a device): store @new.
 *	Never crosses a 4 KiB boundary.
 * @probe: translate and check only. KEEL_EMU_OK: @len bytes at @la are RAM (ROM, for reads);
 *	KEEL_EMU_IO: permitted, but a device; nothing is started. Or KEEL_EMU_FAULT.
 * @commit: the accesses since the last commit are final (an iteration of a REP instruction or an
 *	instruction ended). No failure.
 * @pio_in: read *@count values of @size (1, 2, 4) bytes from @port; may lower *@count, not below 1.
 *	Rights have been checked. More than one only for REP INS.
 * @pio_out: the same for writing.
 * @get_seg: fill @seg. No failure.
 * @set_seg: load a segment register, checked and decoded by the emulator. With SS its DPL is the
 *	new CPL. No failure.
 * @get_dtr: GDTR (@idt false) or IDTR base and limit. No failure.
 * @set_dtr: load it. No failure.
 * @get_cr: control register 0, 2, 3, 4 or 8. No failure.
 * @set_cr: write one; checks reserved bits and combinations (fault #GP(0)).
 * @get_dr: debug register 0 to 7; DR4 and DR5 already resolved. No failure.
 * @set_dr: write one; checks the upper half (fault #GP(0)).
 * @get_watch: debug register 0 to 3 or 7 as it counts for breakpoints: a debugger's may stand in. No failure.
 * @get_msr: fault #GP(0) if there is none.
 * @set_msr: the same for writing.
 * @cpuid: @regs is EAX, EBX, ECX, EDX, in and out. No failure.
 * @get_vec: read the low @len (16 or 32) bytes of XMM/YMM register @nr; @len 8: of MM register
 *	(fault #MF if an x87 exception is pending). Called before any access to memory.
 * @set_vec: write them; @zero_upper: clear the bits above, as VEX encodings do.
 * @get_fx: fill the KEEL_EMU_FX_BYTES of @area with what FXSAVE64 stores. No failure.
 * @set_fx: load them, MXCSR checked (fault #GP(0)).
 * @system: see enum keel_emu_system.
 */
struct keel_emu_ops {
	int (*read)(struct keel_emu *emu, u64 la, void *buf, unsigned int len, unsigned int acc);
	int (*write)(struct keel_emu *emu, u64 la, const void *buf, unsigned int len,
		     unsigned int acc);
	int (*compare_exchange)(struct keel_emu *emu, u64 la, void *old, const void *new, unsigned int len);
	int (*probe)(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc);
	void (*commit)(struct keel_emu *emu);
	int (*pio_in)(struct keel_emu *emu, u16 port, void *buf, unsigned int size,
		      unsigned int *count);
	int (*pio_out)(struct keel_emu *emu, u16 port, const void *buf, unsigned int size,
		       unsigned int *count);
	void (*get_seg)(struct keel_emu *emu, enum keel_sreg sreg, struct keel_emu_seg *seg);
	void (*set_seg)(struct keel_emu *emu, enum keel_sreg sreg, const struct keel_emu_seg *seg);
	void (*get_dtr)(struct keel_emu *emu, bool idt, u64 *base, u16 *limit);
	void (*set_dtr)(struct keel_emu *emu, bool idt, u64 base, u16 limit);
	u64 (*get_cr)(struct keel_emu *emu, unsigned int nr);
	int (*set_cr)(struct keel_emu *emu, unsigned int nr, u64 val);
	u64 (*get_dr)(struct keel_emu *emu, unsigned int nr);
	int (*set_dr)(struct keel_emu *emu, unsigned int nr, u64 val);
	u64 (*get_watch)(struct keel_emu *emu, unsigned int nr);
	int (*get_msr)(struct keel_emu *emu, u32 msr, u64 *val);
	int (*set_msr)(struct keel_emu *emu, u32 msr, u64 val);
	int (*cpuid)(struct keel_emu *emu, u32 regs[4]);
	int (*get_vec)(struct keel_emu *emu, unsigned int nr, void *buf, unsigned int len);
	int (*set_vec)(struct keel_emu *emu, unsigned int nr, const void *buf, unsigned int len,
		       bool zero_upper);
	void (*get_fx)(struct keel_emu *emu, void *area);
	int (*set_fx)(struct keel_emu *emu, const void *area);
	int (*system)(struct keel_emu *emu, enum keel_emu_system what, u64 arg, u64 *result);
};

struct keel_emu_fault {
	u8 vector;
	bool has_error;
	u32 error;
	u64 cr2;		/* vector 14 only: the caller puts it into CR2 when it injects */
};

/* Bits of keel_emu.shadow: interrupts are held off for one instruction (SDM vol 3 6.8.3) */
#define KEEL_SHADOW_STI		0x1
#define KEEL_SHADOW_MOV_SS	0x2

/* x87 and vector registers as FXSAVE has them */
#define KEEL_EMU_FX_BYTES	416

/* Most iterations of a REP instruction, and bytes of a string port access, in one execute call */
#define KEEL_EMU_REP_MAX	1024
#define KEEL_EMU_PIO_MAX	1024

/**
 * struct keel_emu - one vCPU as the emulator sees it
 * @ops: callbacks; set once
 * @priv: the caller's own
 * @gpr: general registers, in and out
 * @rip: in: address of the instruction; out: of the next one (unmoved while a REP goes on). Below
 *	4 GiB outside 64-bit mode.
 * @rflags: in and out
 * @mode: in; must agree with CS, CR0, EFER and @rflags. Out: as far transfers leave it; writes of
 *	CR0 and EFER do not change it here
 * @cpl: in and out: 0 to 3 (0 in real mode, 3 in virtual-8086 mode)
 * @insn: the decoded instruction: keel_decode() or keel_emu_fetch() fills it in
 * @fault: out, with KEEL_EMU_FAULT
 * @shadow: out: KEEL_SHADOW_* that this instruction starts; 0 with any other result
 * @db_trap: out, with KEEL_EMU_OK: DR6 bits of a debug trap (#DB) to raise after this
 *	instruction: BS (0x4000) if RFLAGS.TF was set, BT (0x8000) by the T flag of a TSS, B0 to
 *	B3 for data and I/O breakpoints (by get_watch()) that an access met
 * @switched: out: a task switch has happened. With KEEL_EMU_FAULT, the registers are those of the new
 *	task, in which the fault is to be delivered
 * @access_nr: number of the current access since the last commit, see struct keel_emu_ops
 */
struct keel_emu {
	const struct keel_emu_ops *ops;
	void *priv;
	u64 gpr[KEEL_NR_GPRS];
	u64 rip;
	u64 rflags;
	enum keel_emu_mode mode;
	u8 cpl;
	struct keel_insn insn;

	struct keel_emu_fault fault;
	u32 shadow;
	u64 db_trap;
	bool switched;
	unsigned int access_nr;

	/* private: */
	u64 next_rip;
	u64 saved_gpr[KEEL_NR_GPRS];
	u64 saved_rflags;
	enum keel_emu_mode saved_mode;
	u8 saved_cpl;
	bool keep_rf;		/* RF was loaded, and stays */
	bool no_trap;		/* no single-step trap after this */
	bool trap_late;		/* the new TF decides about it */
	u32 task_trap;
	u32 watch;		/* DR7, if any breakpoint is enabled */
	u32 watch_hits;
	u8 buf[KEEL_EMU_PIO_MAX];
};

/**
 * keel_emu_fetch() - fetch the instruction at CS:RIP and decode it into @emu->insn
 * @emu: registers, mode and CPL set
 *
 * Checks CS limit or canonical address, reads with KEEL_EMU_ACC_FETCH and never past the
 * instruction's last page.
 *
 * Return: KEEL_EMU_OK; KEEL_EMU_FAULT (fetch fault, #UD, #GP); KEEL_EMU_UNHANDLEABLE (not in the
 * tables); or what read() returned.
 */
int keel_emu_fetch(struct keel_emu *emu);

/**
 * keel_emu_execute() - execute @emu->insn
 * @emu: registers, mode, CPL and decoded instruction set
 *
 * On KEEL_EMU_OK gpr, rip, rflags, shadow and db_trap are updated; rip is unmoved if a REP
 * instruction has iterations left or a locked access lost its race: enter the guest or call again.
 * On anything else registers are those before the instruction, or before the current iteration of
 * a REP instruction; memory and devices were not written by that instruction or iteration, but for
 * the lower part of a write that crosses a page into a device, and for what a faulting PUSHA or
 * ENTER left below the stack pointer; and but for emu->switched. Not emulated
 * (KEEL_EMU_UNHANDLEABLE): x87, vector instructions that are no moves, XSAVE and its like.
 *
 * Return: KEEL_EMU_OK, KEEL_EMU_FAULT, KEEL_EMU_IO or KEEL_EMU_UNHANDLEABLE.
 */
int keel_emu_execute(struct keel_emu *emu);

/* Types of event, as EVENTINJ and the VMX interruption information have them */
#define KEEL_EMU_EV_INTR	0
#define KEEL_EMU_EV_NMI		2
#define KEEL_EMU_EV_EXCEPTION	3
#define KEEL_EMU_EV_SOFT_INT	4	/* INT n */
#define KEEL_EMU_EV_PRIV_EXC	5	/* INT1 */
#define KEEL_EMU_EV_SOFT_EXC	6	/* INT3, INTO */

/**
 * struct keel_emu_event - an interrupt or exception
 * @type: KEEL_EMU_EV_*
 * @vector: 0 to 255
 * @has_error: an error code is pushed (never set in real mode)
 * @error: that code
 */
struct keel_emu_event {
	u8 type;
	u8 vector;
	bool has_error;
	u32 error;
};

int keel_emu_deliver(struct keel_emu *emu, const struct keel_emu_event *ev);

/* Why a task switch: values of the VMX exit qualification (SDM vol 3 27.2.1) */
enum keel_task_reason { KEEL_TASK_CALL, KEEL_TASK_IRET, KEEL_TASK_JMP, KEEL_TASK_GATE };

/**
 * struct keel_emu_task - a task switch
 * @selector: of the new TSS
 * @reason: enum keel_task_reason; KEEL_TASK_GATE: an event through a gate of the IDT
 * @ext: 1 if no instruction of the program caused it (bit 0 of error codes)
 * @check_gate: INT n, INT3 or INTO, and nobody has looked at the gate's DPL yet
 * @vector: whose gate that is
 * @has_error: the event has an error code, for the new task's stack
 * @error: that code
 */
struct keel_emu_task {
	u16 selector;
	u8 reason;
	u8 ext;
	bool check_gate;
	u8 vector;
	bool has_error;
	u32 error;
};

int keel_emu_task_switch(struct keel_emu *emu, const struct keel_emu_task *task);

bool keel_emu_code_breakpoint(struct keel_emu *emu);

/* Fill in @emu->fault; the return value is KEEL_EMU_FAULT, for callbacks to return. */
static inline int keel_emu_fault(struct keel_emu *emu, u8 vector, bool has_error, u32 error)
{
	emu->fault = (struct keel_emu_fault) {
		.vector = vector, .has_error = has_error, .error = error,
	};
	return KEEL_EMU_FAULT;
}

/* The same for a page fault: @error as hardware pushes it, @cr2 the faulting linear address. */
static inline int keel_emu_page_fault(struct keel_emu *emu, u32 error, u64 cr2)
{
	keel_emu_fault(emu, 14, true, error);
	emu->fault.cr2 = cr2;
	return KEEL_EMU_FAULT;
}

#endif
