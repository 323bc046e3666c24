/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What cpuid.c and cpuid_table.c share.
 */
#ifndef KEEL_CPUID_H
#define KEEL_CPUID_H

#include <linux/kvm.h>
#include <linux/types.h>

enum keel_cpuid_reg { KEEL_CPUID_EAX, KEEL_CPUID_EBX, KEEL_CPUID_ECX, KEEL_CPUID_EDX };

static inline u32 keel_cpuid_reg(const struct kvm_cpuid_entry2 *e, enum keel_cpuid_reg reg)
{
	const u32 regs[] = { e->eax, e->ebx, e->ecx, e->edx };

	return regs[reg];
}

/* cpuid_table.c */
bool keel_cpuid_indexed(u32 function);
void keel_cpuid_filter(struct kvm_cpuid_entry2 *e);

#endif /* KEEL_CPUID_H */
