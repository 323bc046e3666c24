/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The VMX instructions (SDM 3C, chapter 31), valid only inside the window.
 *
 * Success leaves CF and ZF clear. A failing VMREAD or VMWRITE is a bug of ours: it is remembered, and the
 * next entry fails with it instead of running a guest on a half-written VMCS.
 */
#ifndef KEEL_VMX_INSN_H
#define KEEL_VMX_INSN_H

#include <linux/compiler.h>
#include <linux/types.h>
#include <asm/asm.h>

#include "vmcs.h"

void vmx_insn_failed(const char *insn, unsigned long field);	/* enter.c */

static __always_inline u64 vmx_read(unsigned long field)
{
	u64 val;
	bool fail;

	asm volatile("vmread %2, %0" : "=rm" (val), "=@ccna" (fail) : "r" (field));
	if (unlikely(fail)) {
		vmx_insn_failed("VMREAD", field);
		return 0;
	}
	return val;
}

/* The same for fields that every CPU has, and that vmx_read() reads elsewhere: the shortest way. */
static __always_inline u64 vmx_read_again(unsigned long field)
{
	u64 val;

	asm volatile("vmread %1, %0" : "=rm" (val) : "r" (field) : "cc");
	return val;
}

static __always_inline void vmx_write(unsigned long field, u64 val)
{
	bool fail;

	asm volatile("vmwrite %1, %2" : "=@ccna" (fail) : "rm" (val), "r" (field) : "memory");
	if (unlikely(fail))
		vmx_insn_failed("VMWRITE", field);
}

/* Each returns whether it failed; a fault (VMX operation not entered after all) counts as failing. */
static inline bool vmx_ptrld(u64 pa)
{
	bool fail = true;

	asm volatile("1: vmptrld %1; setna %0; 2:" _ASM_EXTABLE(1b, 2b)
		     : "+q" (fail) : "m" (pa) : "memory", "cc");
	return fail;
}

static inline bool vmx_clear(u64 pa)
{
	bool fail = true;

	asm volatile("1: vmclear %1; setna %0; 2:" _ASM_EXTABLE(1b, 2b)
		     : "+q" (fail) : "m" (pa) : "memory", "cc");
	return fail;
}

static inline bool vmx_on(u64 pa)
{
	bool fail = true;

	asm volatile("1: vmxon %1; setna %0; 2:" _ASM_EXTABLE(1b, 2b)
		     : "+q" (fail) : "m" (pa) : "memory", "cc");
	return fail;
}

static inline void vmx_off(void)
{
	asm volatile("1: vmxoff; 2:" _ASM_EXTABLE(1b, 2b) : : : "memory", "cc");
}

static inline u64 vmx_ptrst(void)
{
	u64 pa;

	asm volatile("vmptrst %0" : "=m" (pa) : : "memory", "cc");
	return pa;
}

#define VMX_INVEPT_SINGLE	1

static inline bool vmx_invept(u64 eptp)
{
	const struct { u64 eptp, zero; } desc = { eptp, 0 };
	bool fail;

	asm volatile("invept %1, %2" : "=@ccna" (fail) : "m" (desc), "r" (1UL * VMX_INVEPT_SINGLE) : "memory");
	return fail;
}

#define VMX_INVVPID_SINGLE	1

static inline bool vmx_invvpid(u16 vpid)
{
	const struct { u64 vpid, address; } desc = { vpid, 0 };
	bool fail;

	asm volatile("invvpid %1, %2" : "=@ccna" (fail) : "m" (desc), "r" (1UL * VMX_INVVPID_SINGLE) : "memory");
	return fail;
}

#endif /* KEEL_VMX_INSN_H */
