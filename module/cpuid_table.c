// SPDX-License-Identifier: GPL-2.0-only
/*
 * The table of CPUID bits that guests may see.
 *
 * A bit reaches the supported table when the CPU has it, the host kernel has not switched it off,
 * this table lets it pass, and the vendor backend (keel_ops->feature_mask) agrees. What is in no
 * row is zero. A bit passes only when it works in a guest: because the instruction needs nothing of
 * a hypervisor, or because Keel virtualizes what it needs. Comments name what is left out, and why.
 *
 * No locks: constant. SDM 2A, CPUID; APM 3, appendix E.
 */
#include <linux/bits.h>
#include <linux/keel.h>
#include <asm/cpufeature.h>

#include "cpuid.h"
#include "ops.h"

/* Word of the kernel's own feature bits that shadows a register, so that "clearcpuid=" counts. */
#define WORD(name)	(X86_FEATURE_##name / 32)
#define NO_WORD		-1

struct pass_rule {
	u32 function;
	u8 index;
	u8 reg;
	s8 word;
	u32 mask;
};

static const struct pass_rule pass_rules[] = {
	/* Highest leaf and vendor; cpuid.c caps the leaf. */
	{ 0, 0, KEEL_CPUID_EAX, NO_WORD, ~0u },
	{ 0, 0, KEEL_CPUID_EBX, NO_WORD, ~0u },
	{ 0, 0, KEEL_CPUID_ECX, NO_WORD, ~0u },
	{ 0, 0, KEEL_CPUID_EDX, NO_WORD, ~0u },

	/* Family, model, stepping; brand index, CLFLUSH size. The APIC id is the client's. */
	{ 1, 0, KEEL_CPUID_EAX, NO_WORD, ~0u },
	{ 1, 0, KEEL_CPUID_EBX, NO_WORD, 0x0000ffff },
	/*
	 * Left out: DTES64 2, MONITOR 3 (executes as a no-op), DS_CPL 4, VMX 5 (no nesting), SMX 6,
	 * EST 7, TM2 8, CNXT_ID 10, SDBG 11, xTPR 14, PDCM 15 (no performance monitoring), DCA 18,
	 * TSC_DEADLINE 24 (the client adds it after asking for KVM_CAP_TSC_DEADLINE_TIMER), OSXSAVE
	 * 27 (follows CR4), HYPERVISOR 31 (the client adds it). X2APIC 21 is forced below.
	 */
	{ 1, 0, KEEL_CPUID_ECX, WORD(XMM3),
	  BIT(0) /* SSE3 */ | BIT(1) /* PCLMULQDQ */ | BIT(9) /* SSSE3 */ | BIT(12) /* FMA */ |
	  BIT(13) /* CX16 */ | BIT(17) /* PCID: with nested paging */ |
	  BIT(19) /* SSE4.1 */ | BIT(20) /* SSE4.2 */ | BIT(22) /* MOVBE */ | BIT(23) /* POPCNT */ |
	  BIT(25) /* AES */ | BIT(26) /* XSAVE */ | BIT(28) /* AVX */ | BIT(29) /* F16C */ |
	  BIT(30) /* RDRAND */ },
	/*
	 * Left out: PSN 18, DS 21 (debug store), ACPI 22 (thermal MSRs), HTT 28 (the client knows
	 * the topology), TM 29, PBE 31.
	 */
	{ 1, 0, KEEL_CPUID_EDX, WORD(FPU),
	  BIT(0) /* FPU */ | BIT(1) /* VME */ | BIT(2) /* DE */ | BIT(3) /* PSE */ |
	  BIT(4) /* TSC */ | BIT(5) /* MSR */ | BIT(6) /* PAE */ | BIT(7) /* MCE */ |
	  BIT(8) /* CX8 */ | BIT(9) /* APIC */ | BIT(11) /* SEP */ | BIT(12) /* MTRR */ |
	  BIT(13) /* PGE */ | BIT(14) /* MCA */ | BIT(15) /* CMOV */ | BIT(16) /* PAT */ |
	  BIT(17) /* PSE36 */ | BIT(19) /* CLFLUSH */ | BIT(23) /* MMX */ | BIT(24) /* FXSR */ |
	  BIT(25) /* SSE */ | BIT(26) /* SSE2 */ | BIT(27) /* SELFSNOOP */ },

	/* Cache and TLB descriptors. */
	{ 2, 0, KEEL_CPUID_EAX, NO_WORD, ~0u },
	{ 2, 0, KEEL_CPUID_EBX, NO_WORD, ~0u },
	{ 2, 0, KEEL_CPUID_ECX, NO_WORD, ~0u },
	{ 2, 0, KEEL_CPUID_EDX, NO_WORD, ~0u },

	/* 3 (serial number) and 5 (MONITOR) are zero; 6 has only ARAT, which cpuid.c puts there. */

	{ 7, 0, KEEL_CPUID_EAX, NO_WORD, ~0u },
	/*
	 * Left out: SGX 2, RDT-M 12, MPX 14 (gone from Linux), RDT-A 15, INTEL_PT 25 (MSRs are not
	 * virtualized). TSC_ADJUST 1 is forced below.
	 */
	{ 7, 0, KEEL_CPUID_EBX, WORD(FSGSBASE),
	  BIT(0) /* FSGSBASE */ | BIT(3) /* BMI1 */ | BIT(4) /* HLE */ | BIT(5) /* AVX2 */ |
	  BIT(6) /* FDP_EXCPTN_ONLY */ | BIT(7) /* SMEP */ | BIT(8) /* BMI2 */ | BIT(9) /* ERMS */ |
	  BIT(10) /* INVPCID: with nested paging */ | BIT(11) /* RTM */ |
	  BIT(13) /* ZERO_FCS_FDS */ | BIT(16) /* AVX512F */ | BIT(17) /* AVX512DQ */ |
	  BIT(18) /* RDSEED */ | BIT(19) /* ADX */ | BIT(20) /* SMAP */ | BIT(21) /* AVX512IFMA */ |
	  BIT(23) /* CLFLUSHOPT */ | BIT(24) /* CLWB */ | BIT(26) /* AVX512PF */ |
	  BIT(27) /* AVX512ER */ | BIT(28) /* AVX512CD */ | BIT(29) /* SHA */ |
	  BIT(30) /* AVX512BW */ | BIT(31) /* AVX512VL */ },
	/*
	 * Left out: OSPKE 4 (cpuid.c has it follow CR4), WAITPKG
	 * 5 (its MSR is not virtualized), CET_SS 7 (needs supervisor XSAVE state), TME 13,
	 * KEYLOCKER 23, BUS_LOCK_DETECT 24, ENQCMD 29, SGX_LC 30, PKS 31. LA57 16 is forced below.
	 */
	{ 7, 0, KEEL_CPUID_ECX, WORD(AVX512VBMI),
	  BIT(1) /* AVX512_VBMI */ | BIT(2) /* UMIP */ | BIT(3) /* PKU */ | BIT(6) /* AVX512_VBMI2 */ |
	  BIT(8) /* GFNI */ | BIT(9) /* VAES */ | BIT(10) /* VPCLMULQDQ */ |
	  BIT(11) /* AVX512_VNNI */ | BIT(12) /* AVX512_BITALG */ | BIT(14) /* AVX512_VPOPCNTDQ */ |
	  BIT(22) /* RDPID */ | BIT(25) /* CLDEMOTE */ | BIT(27) /* MOVDIRI */ |
	  BIT(28) /* MOVDIR64B */ },
	/*
	 * Left out: UINTR 5, SRBDS_CTRL 9, PCONFIG 18, ARCH_LBR 19, CET_IBT 20, AMX 22, 24 and 25
	 * (dynamic XSAVE state), CORE_CAPABILITIES 30. ARCH_CAPABILITIES 29 passes where the CPU has
	 * the MSR; its value is computed in msr.c.
	 */
	{ 7, 0, KEEL_CPUID_EDX, WORD(AVX512_4VNNIW),
	  BIT(2) /* AVX512_4VNNIW */ | BIT(3) /* AVX512_4FMAPS */ | BIT(4) /* FSRM */ |
	  BIT(8) /* AVX512_VP2INTERSECT */ | BIT(10) /* MD_CLEAR */ | BIT(14) /* SERIALIZE */ |
	  BIT(16) /* TSXLDTRK */ | BIT(23) /* AVX512_FP16 */ | BIT(26) /* SPEC_CTRL */ |
	  BIT(27) /* STIBP */ | BIT(28) /* FLUSH_L1D */ | BIT(29) /* ARCH_CAPABILITIES */ |
	  BIT(31) /* SSBD */ },
	/* Left out of 7.1: LAM 26 (address checks), FRED 17, and what else needs MSRs. */
	{ 7, 1, KEEL_CPUID_EAX, WORD(AVX_VNNI),
	  BIT(4) /* AVX_VNNI */ | BIT(5) /* AVX512_BF16 */ },
	/* Left out of 7.2: the SPEC_CTRL bits PSFD 0, IPRED 1, RRSBA 2, DDPD_U 3, BHI 4. */
	{ 7, 2, KEEL_CPUID_EDX, NO_WORD, BIT(5) /* MCDT_NO */ },

	/* 0xa: no performance monitoring, all zero. 0xb, 0x1f: the client knows the topology. */

	/* XSAVE: cpuid.c masks the components and computes the sizes. */
	{ 0xd, 0, KEEL_CPUID_EAX, NO_WORD, ~0u },
	{ 0xd, 0, KEEL_CPUID_EDX, NO_WORD, ~0u },
	/* Left out: XSAVES 3 (no supervisor state is switched), XFD 4 (no dynamic state). */
	{ 0xd, 1, KEEL_CPUID_EAX, WORD(XSAVEOPT),
	  BIT(0) /* XSAVEOPT */ | BIT(1) /* XSAVEC */ | BIT(2) /* XGETBV with ECX = 1 */ },

	/* 0x15, 0x16: the frequencies are the client's to tell, which may set the guest's TSC. */

	{ 0x80000000, 0, KEEL_CPUID_EAX, NO_WORD, ~0u },
	{ 0x80000000, 0, KEEL_CPUID_EBX, NO_WORD, ~0u },
	{ 0x80000000, 0, KEEL_CPUID_ECX, NO_WORD, ~0u },
	{ 0x80000000, 0, KEEL_CPUID_EDX, NO_WORD, ~0u },

	{ 0x80000001, 0, KEEL_CPUID_EAX, NO_WORD, ~0u },
	{ 0x80000001, 0, KEEL_CPUID_EBX, NO_WORD, 0xf000ffff },
	/*
	 * Left out: SVM 2 (no nesting), EXTAPIC 3, OSVW 9 (its MSRs have no content), IBS 10,
	 * SKINIT 12, WDT 13, LWP 15, TCE 17, PERFCTR_CORE 23, PERFCTR_NB 24, BPEXT 26 (debug
	 * address masks are not switched), PTSC 27, PERFCTR_LLC 28, MWAITX 29.
	 */
	{ 0x80000001, 0, KEEL_CPUID_ECX, WORD(LAHF_LM),
	  BIT(0) /* LAHF_LM */ | BIT(1) /* CMP_LEGACY */ | BIT(4) /* CR8_LEGACY */ |
	  BIT(5) /* ABM */ | BIT(6) /* SSE4A */ | BIT(7) /* MISALIGNSSE */ |
	  BIT(8) /* 3DNOWPREFETCH */ | BIT(11) /* XOP */ | BIT(16) /* FMA4 */ | BIT(21) /* TBM */ |
	  BIT(22) /* TOPOEXT: for the cache leaf */ },
	/* Left out: MP 19. */
	{ 0x80000001, 0, KEEL_CPUID_EDX, WORD(SYSCALL),
	  BIT(0) /* FPU */ | BIT(1) /* VME */ | BIT(2) /* DE */ | BIT(3) /* PSE */ |
	  BIT(4) /* TSC */ | BIT(5) /* MSR */ | BIT(6) /* PAE */ | BIT(7) /* MCE */ |
	  BIT(8) /* CX8 */ | BIT(9) /* APIC */ | BIT(11) /* SYSCALL */ | BIT(12) /* MTRR */ |
	  BIT(13) /* PGE */ | BIT(14) /* MCA */ | BIT(15) /* CMOV */ | BIT(16) /* PAT */ |
	  BIT(17) /* PSE36 */ | BIT(20) /* NX */ | BIT(22) /* MMXEXT */ | BIT(23) /* MMX */ |
	  BIT(24) /* FXSR */ | BIT(25) /* FXSR_OPT */ | BIT(26) /* GBPAGES */ |
	  BIT(27) /* RDTSCP */ | BIT(29) /* LM */ | BIT(30) /* 3DNOWEXT */ | BIT(31) /* 3DNOW */ },

	/* The name of the CPU, its L1 and L2 caches and TLBs. */
	{ 0x80000006, 0, KEEL_CPUID_EAX, NO_WORD, ~0u },
	{ 0x80000006, 0, KEEL_CPUID_EBX, NO_WORD, ~0u },
	{ 0x80000006, 0, KEEL_CPUID_ECX, NO_WORD, ~0u },
	{ 0x80000006, 0, KEEL_CPUID_EDX, NO_WORD, 0xfffcffff /* 17:16 are reserved */ },
	/* Power management: none but the constant TSC, and that only when the kernel trusts it. */
	{ 0x80000007, 0, KEEL_CPUID_EDX, NO_WORD, BIT(8) /* INVARIANT_TSC */ },
	{ 0x80000008, 0, KEEL_CPUID_EAX, NO_WORD, 0x0000ffff },
	/*
	 * Left out: INVLPGB 3, RDPRU 4, MBE 6, INT_WBINVD 13, IBRS_ALL 16, IBRS_PREFERRED 18,
	 * VIRT_SSBD 25 (its state is not open to modules), PSFD 28 (spec.c knows no such bit).
	 */
	{ 0x80000008, 0, KEEL_CPUID_EBX, WORD(CLZERO),
	  BIT(0) /* CLZERO */ | BIT(2) /* XSAVEERPTR */ | BIT(9) /* WBNOINVD */ |
	  BIT(12) /* IBPB */ | BIT(14) /* IBRS */ | BIT(15) /* STIBP */ |
	  BIT(17) /* STIBP_ALWAYS_ON */ | BIT(24) /* SSBD */ | BIT(26) /* SSB_NO */ },
	/* Thread counts and the size of the APIC id; not the performance TSC's. */
	{ 0x80000008, 0, KEEL_CPUID_ECX, NO_WORD, 0x0000f0ff },

	/* 0x8000000a: nested SVM, zero. */

	/* TLBs for 1 GiB pages; width of the FPU's data paths. */
	{ 0x80000019, 0, KEEL_CPUID_EAX, NO_WORD, ~0u },
	{ 0x80000019, 0, KEEL_CPUID_EBX, NO_WORD, ~0u },
	{ 0x8000001a, 0, KEEL_CPUID_EAX, NO_WORD, 0x7 },

	/* 0x8000001e: topology is the client's. 0x8000001f: no memory encryption. */

	/*
	 * Left out: SMMPGCFG_LOCK 3, UPPER_ADDR_IGNORE 7, AUTOIBRS 8, PREFETCH_CTL 13,
	 * CPUID_USER_DIS 17.
	 */
	{ 0x80000021, 0, KEEL_CPUID_EAX, NO_WORD,
	  BIT(0) /* NO_NESTED_DATA_BP */ | BIT(2) /* LFENCE_SERIALIZING */ |
	  BIT(5) /* VERW_CLEAR */ | BIT(6) /* NULL_SEL_CLEARS_BASE */ |
	  BIT(9) /* NO_SMM_CTL_MSR */ },
	{ 0x80000021, 0, KEEL_CPUID_ECX, NO_WORD, BIT(1) /* TSA_SQ_NO */ | BIT(2) /* TSA_L1_NO */ },
};

/* Leaves that pass whole, all their subleaves too. */
static const u32 pass_leaves[] = {
	4,						/* caches, Intel */
	0x80000002, 0x80000003, 0x80000004,		/* the CPU's name */
	0x80000005,					/* L1 caches and TLBs */
	0x8000001d,					/* caches, AMD */
	0x40000000, 0x40000001,				/* the hypervisor's: cpuid.c */
	KEEL_CPUID_BASE, KEEL_CPUID_FEATURES,		/* Keel's own */
};

/* Functions whose answer depends on ECX. */
static const u32 indexed[] = { 4, 7, 0xb, 0xd, 0xf, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1d, 0x1e, 0x1f,
			      0x8000001d };

static bool listed(const u32 *list, unsigned int n, u32 function)
{
	while (n--)
		if (list[n] == function)
			return true;
	return false;
}

/* Does the answer of this function depend on ECX? */
bool keel_cpuid_indexed(u32 function)
{
	return listed(indexed, ARRAY_SIZE(indexed), function);
}

/*
 * Both vendors' bits for SPEC_CTRL and PRED_CMD, whichever of the two the CPU has: a guest that is told of
 * another vendor's CPU looks at that one's. The kernel gathers them in bits of its own.
 */
static void force_speculation(struct kvm_cpuid_entry2 *e)
{
	if (e->function == 7) {
		if (boot_cpu_has(X86_FEATURE_IBPB) && boot_cpu_has(X86_FEATURE_IBRS))
			e->edx |= BIT(26);	/* SPEC_CTRL */
		if (boot_cpu_has(X86_FEATURE_STIBP))
			e->edx |= BIT(27);	/* STIBP */
		if (boot_cpu_has(X86_FEATURE_AMD_SSBD))
			e->edx |= BIT(31);	/* SSBD */
		return;
	}
	if (boot_cpu_has(X86_FEATURE_IBPB))
		e->ebx |= BIT(12);		/* IBPB */
	if (boot_cpu_has(X86_FEATURE_IBRS))
		e->ebx |= BIT(14);		/* IBRS */
	if (boot_cpu_has(X86_FEATURE_STIBP))
		e->ebx |= BIT(15);		/* STIBP */
	if (boot_cpu_has(X86_FEATURE_SPEC_CTRL_SSBD))
		e->ebx |= BIT(24);		/* SSBD */
	if (!boot_cpu_has_bug(X86_BUG_SPEC_STORE_BYPASS))
		e->ebx |= BIT(26);		/* SSB_NO */
}

/* What Keel provides, or the kernel has seen to, on CPUs that do not say so themselves. */
static void force_bits(struct kvm_cpuid_entry2 *e)
{
	switch (e->function) {
	case 1:
		e->ecx |= BIT(21);		/* X2APIC: the local APIC is software */
		break;
	case 7:
		if (e->index)
			break;
		e->ebx |= BIT(1);		/* TSC_ADJUST: an MSR in software */
		/* LA57: nested, whatever depth the host's own tables have */
		if (cpuid_ecx(7) & BIT(16))
			e->ecx |= BIT(16);
		force_speculation(e);
		break;
	case 0x80000008:
		force_speculation(e);
		break;
	case 0x80000021:
		if (boot_cpu_has(X86_FEATURE_LFENCE_RDTSC))
			e->eax |= BIT(2);	/* LFENCE_SERIALIZING */
		if (!boot_cpu_has_bug(X86_BUG_NULL_SEG))
			e->eax |= BIT(6);	/* NULL_SEL_CLEARS_BASE */
		e->eax |= BIT(9);		/* NO_SMM_CTL_MSR: there is no SMM */
		break;
	}
}

/**
 * keel_cpuid_filter() - reduce the CPU's answer to what a guest may see
 * @e: function, index and the CPU's four registers, which are replaced
 */
void keel_cpuid_filter(struct kvm_cpuid_entry2 *e)
{
	u32 *const regs[] = { &e->eax, &e->ebx, &e->ecx, &e->edx };
	u32 allowed[4] = {};
	unsigned int i;

	/* the size, offset and alignment of one XSAVE component */
	if (e->function == 0xd && e->index >= 2) {
		e->ecx &= BIT(0) | BIT(1);
		e->edx = 0;
		return;
	}
	if (listed(pass_leaves, ARRAY_SIZE(pass_leaves), e->function))
		return;
	for (i = 0; i < ARRAY_SIZE(pass_rules); i++) {
		const struct pass_rule *r = &pass_rules[i];

		if (r->function != e->function || r->index != e->index)
			continue;
		allowed[r->reg] = r->mask;
		if (r->word != NO_WORD)
			allowed[r->reg] &= boot_cpu_data.x86_capability[r->word];
	}
	for (i = 0; i < ARRAY_SIZE(regs); i++)
		*regs[i] &= allowed[i];
	force_bits(e);
	/* Shadow tables have no PCIDs (roots have tags of their own), and four levels. */
	if (keel_shadowing && e->function == 1)
		e->ecx &= ~BIT(17);
	if (keel_shadowing && e->function == 7 && !e->index) {
		e->ebx &= ~BIT(10);
		e->ecx &= ~BIT(16);
	}
	if (e->function == 7 && !e->index && !keel_pku_offered())
		e->ecx &= ~BIT(3);
	keel_ops->feature_mask(e);
}
