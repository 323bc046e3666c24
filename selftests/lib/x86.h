/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The architectural constants that the selftests use (SDM volume 3 and 4, APM volume 2).
 */
#ifndef SELFTESTS_X86_H
#define SELFTESTS_X86_H

#define X86_CR0_PE		(1UL << 0)
#define X86_CR0_MP		(1UL << 1)
#define X86_CR0_EM		(1UL << 2)
#define X86_CR0_TS		(1UL << 3)
#define X86_CR0_ET		(1UL << 4)
#define X86_CR0_NE		(1UL << 5)
#define X86_CR0_WP		(1UL << 16)
#define X86_CR0_AM		(1UL << 18)
#define X86_CR0_NW		(1UL << 29)
#define X86_CR0_CD		(1UL << 30)
#define X86_CR0_PG		(1UL << 31)

#define X86_CR4_DE		(1UL << 3)
#define X86_CR4_PSE		(1UL << 4)
#define X86_CR4_PAE		(1UL << 5)
#define X86_CR4_MCE		(1UL << 6)
#define X86_CR4_OSFXSR		(1UL << 9)
#define X86_CR4_OSXMMEXCPT	(1UL << 10)
#define X86_CR4_FSGSBASE	(1UL << 16)
#define X86_CR4_OSXSAVE		(1UL << 18)
#define X86_CR4_PKE		(1UL << 22)

#define X86_EFER_SCE		(1UL << 0)
#define X86_EFER_LME		(1UL << 8)
#define X86_EFER_LMA		(1UL << 10)
#define X86_EFER_NX		(1UL << 11)
#define X86_EFER_SVME		(1UL << 12)

#define X86_EFLAGS_CF		(1UL << 0)
#define X86_EFLAGS_FIXED	(1UL << 1)
#define X86_EFLAGS_ZF		(1UL << 6)
#define X86_EFLAGS_TF		(1UL << 8)
#define X86_EFLAGS_IF		(1UL << 9)
#define X86_EFLAGS_DF		(1UL << 10)
#define X86_EFLAGS_RF		(1UL << 16)

#define DE_VECTOR		0
#define DB_VECTOR		1
#define NMI_VECTOR		2
#define BP_VECTOR		3
#define UD_VECTOR		6
#define NM_VECTOR		7
#define DF_VECTOR		8
#define TS_VECTOR		10
#define NP_VECTOR		11
#define SS_VECTOR		12
#define GP_VECTOR		13
#define PF_VECTOR		14
#define AC_VECTOR		17

#define MSR_IA32_TSC		0x10
#define MSR_IA32_APICBASE	0x1b
#define MSR_IA32_SYSENTER_CS	0x174
#define MSR_IA32_SYSENTER_ESP	0x175
#define MSR_IA32_SYSENTER_EIP	0x176
#define MSR_IA32_MISC_ENABLE	0x1a0
#define MSR_IA32_CR_PAT		0x277
#define MSR_IA32_TSC_DEADLINE	0x6e0
#define MSR_X2APIC(reg)		(0x800 + ((reg) >> 4))
#define MSR_EFER		0xc0000080
#define MSR_STAR		0xc0000081
#define MSR_LSTAR		0xc0000082
#define MSR_CSTAR		0xc0000083
#define MSR_SFMASK		0xc0000084
#define MSR_FS_BASE		0xc0000100
#define MSR_GS_BASE		0xc0000101
#define MSR_KERNEL_GS_BASE	0xc0000102
#define MSR_TSC_AUX		0xc0000103
/* An index that no CPU and no hypervisor defines. */
#define MSR_NONEXISTENT		0x12345678

#define APICBASE_BSP		(1UL << 8)
#define APICBASE_X2APIC		(1UL << 10)
#define APICBASE_ENABLE		(1UL << 11)
#define APIC_DEFAULT_BASE	0xfee00000UL

#define APIC_ID			0x20
#define APIC_LVR		0x30
#define APIC_TPR		0x80
#define APIC_PPR		0xa0
#define APIC_EOI		0xb0
#define APIC_LDR		0xd0
#define APIC_DFR		0xe0
#define APIC_SPIV		0xf0
#define APIC_ISR		0x100
#define APIC_IRR		0x200
#define APIC_ESR		0x280
#define APIC_ICR		0x300
#define APIC_ICR2		0x310
#define APIC_LVTT		0x320
#define APIC_LVT0		0x350
#define APIC_TMICT		0x380
#define APIC_TMCCT		0x390
#define APIC_TDCR		0x3e0
#define APIC_SELF_IPI		0x3f0
#define APIC_LVT_CMCI		0x2f0
#define APIC_LVT1		0x360
#define APIC_LVTERR		0x370
#define APIC_TMR		0x180
#define LVT_MASKED		(1U << 16)
#define LVT_PERIODIC		(1U << 17)
#define LVT_DEADLINE		(1U << 18)
#define SPIV_ENABLE		0x100
#define IOAPIC_BASE		0xfec00000UL
#define IOAPIC_SELECT		(IOAPIC_BASE + 0)
#define IOAPIC_WINDOW		(IOAPIC_BASE + 0x10)
#define IOAPIC_EOI		(IOAPIC_BASE + 0x40)

#define XFEATURE_FP		(1UL << 0)
#define XFEATURE_SSE		(1UL << 1)
#define XFEATURE_YMM		(1UL << 2)
#define XFEATURE_PKRU		(1UL << 9)

#endif
