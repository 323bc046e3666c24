/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The format of the emulator's test cases: a mode, an instruction, a state before and what is
 * expected to differ after. Whatever a case does not name must be unchanged, memory included; RIP
 * is expected to move by the instruction's length unless it faults.
 *
 * Before and after are words separated by blanks, numbers in hexadecimal:
 *	ax=.. cx= dx= bx= sp= bp= si= di= r8= .. r15= ip=	registers, all 64 bits
 *	fl=CPAZSOTIDNRK		flags: those named are set, others clear (K is AC, N is NT, R is RF, f is
 *				VIF, p is VIP, i is ID)
 *	vm=1 iopl=3 cpl=3
 *	m1:addr=val m2: m4: m8:	memory at a linear address, little-endian; mb:addr=0011.. bytes
 *	fill:addr,len=val	a run of equal bytes
 *	cr0= .. cr8= dr0= .. dr7= xcr0= tsc= aux= efer= kgs=
 *	star= lstar= cstar= sfmask= secs= sesp= seip=	MSRs of SYSCALL and SYSENTER
 *	ds.base= .limit= .type= .dpl= .sel= .db= .present= .unusable= (also es cs ss fs gs tr ldtr)
 *	gdt.base= gdt.limit= idt.base= idt.limit=
 *	x0=00112233.. mm0=..	vector registers, lowest byte first; bytes not given are kept
 *	fx=00112233..		what FXSAVE stores before the vector registers, from its start
 *	lose=n			before: the next n locked accesses find memory changed
 *	mf=1			before: an x87 exception is pending
 *	amd=1			before: CPUID says AMD
 * only after:
 *	fault=d or fault=d:0	vector and error code; cr2fault=addr for a page fault
 *	unhandled, invalid, unknown, toolong
 *	log=w4:a000=1234,r1:a004,i1:60,o2:70=55		device and port accesses, in order
 *	shadow=2 trap=4000 sys=bits arg=..
 *	runs=n			execute calls that returned KEEL_EMU_OK (default 1)
 *	len=n			instruction length
 *	mode=n			the mode afterwards, by enum keel_emu_mode
 *	switched=1		a task switch happened
 *
 * In place of instruction bytes there may be an event to deliver, "!type vector" or "!type
 * vector:error", or a task switch, "!t reason selector" or "!t reason selector:error".
 */
#ifndef CASES_H
#define CASES_H

#include "emulate.h"

struct emu_case {
	const char *name;
	enum keel_emu_mode mode;
	const char *bytes;
	const char *before;
	const char *after;
};

#define M64	KEEL_EMU_PROT64
#define M32	KEEL_EMU_PROT32
#define M16	KEEL_EMU_PROT16
#define MVM	KEEL_EMU_VM86
#define MREAL	KEEL_EMU_REAL

struct emu_case_table {
	const char *name;
	const struct emu_case *cases;
	unsigned int nr;
};

#define CASE_TABLE(n)						\
	const struct emu_case_table n##_table = {		\
		#n, n, sizeof(n) / sizeof((n)[0])		\
	}

extern const struct emu_case_table recorded_low_cases_table;
extern const struct emu_case_table recorded_high_cases_table;
extern const struct emu_case_table recorded_0f_cases_table;
extern const struct emu_case_table data_cases_table;
extern const struct emu_case_table flow_cases_table;
extern const struct emu_case_table string_cases_table;
extern const struct emu_case_table system_cases_table;
extern const struct emu_case_table segment_cases_table;
extern const struct emu_case_table vector_cases_table;
extern const struct emu_case_table fx_cases_table;
extern const struct emu_case_table device_cases_table;
extern const struct emu_case_table bmi_cases_table;
extern const struct emu_case_table far_cases_table;
extern const struct emu_case_table iret_cases_table;
extern const struct emu_case_table interrupt_cases_table;
extern const struct emu_case_table syscall_cases_table;
extern const struct emu_case_table task_cases_table;
extern const struct emu_case_table debug_cases_table;

#endif
