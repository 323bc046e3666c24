// SPDX-License-Identifier: GPL-2.0-only
/*
 * Model-specific registers: one sorted table for the guest's RDMSR and WRMSR and the client's
 * KVM_GET_MSRS and KVM_SET_MSRS.
 *
 * What is in no row does not exist: #GP in the guest, the end of the count for the client. Several
 * rows hold no state and exist because operating systems touch the MSR without checking that it is
 * there. Reads and writes run in the window too, so no accessor sleeps. "host" marks the client's
 * accesses, which may do what the guest may not.
 *
 * Locks: vcpu->mutex. SDM 4; APM 2, appendix A; each row's register is described there.
 */
#include <linux/kvm_para.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/mce.h>
#include <asm/msr-index.h>

#include "msr.h"
#include "ops.h"

#define MAX_IO_MSRS	256
#define PAT_RESET	0x0007040600070406ULL

/* Registers whose index has no name in the kernel's headers. */
#define MSR_FSB_FREQ_ID		0xcd
#define MSR_F15H_IC_CFG_INDEX	0xc0011021
#define MSR_K8_TSEG_BASE	0xc0010112
#define MSR_K8_TSEG_MASK_INDEX	0xc0010113

#define MISC_ENABLE_RESET \
	(MSR_IA32_MISC_ENABLE_PEBS_UNAVAIL | MSR_IA32_MISC_ENABLE_BTS_UNAVAIL)

/* ARCH_CAPABILITIES bits that say something about the CPU and need nothing of Keel. */
#define ARCH_CAP_PASS \
	(ARCH_CAP_RDCL_NO | ARCH_CAP_IBRS_ALL | ARCH_CAP_RSBA | ARCH_CAP_SKIP_VMENTRY_L1DFLUSH | \
	 ARCH_CAP_SSB_NO | ARCH_CAP_MDS_NO | ARCH_CAP_PSCHANGE_MC_NO | ARCH_CAP_TAA_NO | \
	 ARCH_CAP_SBDR_SSDP_NO | ARCH_CAP_FBSDP_NO | ARCH_CAP_PSDP_NO | ARCH_CAP_FB_CLEAR | \
	 ARCH_CAP_RRSBA | ARCH_CAP_PBRSB_NO | ARCH_CAP_GDS_NO | ARCH_CAP_RFDS_NO | \
	 ARCH_CAP_RFDS_CLEAR | ARCH_CAP_BHI_NO)

static u64 arch_capabilities(void)
{
	u64 val = 0;

	if (boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES)) {
		if (keel_rdmsr_safe(MSR_IA32_ARCH_CAPABILITIES, &val))
			val = 0;
		val &= ARCH_CAP_PASS;
	}
	/* nested paging: the guest's page sizes do not reach the instruction TLB's erratum */
	val |= ARCH_CAP_PSCHANGE_MC_NO;
	if (!boot_cpu_has_bug(X86_BUG_CPU_MELTDOWN))
		val |= ARCH_CAP_RDCL_NO;
	if (!boot_cpu_has_bug(X86_BUG_SPEC_STORE_BYPASS))
		val |= ARCH_CAP_SSB_NO;
	if (!boot_cpu_has_bug(X86_BUG_MDS))
		val |= ARCH_CAP_MDS_NO;
	if (!boot_cpu_has_bug(X86_BUG_GDS))
		val |= ARCH_CAP_GDS_NO;
	if (!boot_cpu_has_bug(X86_BUG_RFDS))
		val |= ARCH_CAP_RFDS_NO;
	/* a hypervisor inside the guest need not flush for its own guests: each of our entries does, or need not */
	if (!keel_spec.l1tf_open)
		val |= ARCH_CAP_SKIP_VMENTRY_L1DFLUSH;
	if (!boot_cpu_has(X86_FEATURE_RTM))
		val &= ~(u64)ARCH_CAP_TAA_NO;
	else if (!boot_cpu_has_bug(X86_BUG_TAA))
		val |= ARCH_CAP_TAA_NO;
	return val;
}

static u64 de_cfg_feature(void)
{
	return boot_cpu_has(X86_FEATURE_LFENCE_RDTSC) ? BIT_ULL(1) : 0;	/* LFENCE is serializing */
}

/* Reads as row->val. */
static int get_const(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val,
		     bool host)
{
	*val = row->val;
	return 0;
}

static int set_ignore(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
		      bool host)
{
	return 0;
}

static int set_zero(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	return val ? -EINVAL : 0;
}

static int set_zero_host(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
			 bool host)
{
	return val || !host ? -EINVAL : 0;
}

static int get_host_zero(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val,
			 bool host)
{
	*val = 0;
	return host ? 0 : -EINVAL;
}

static u64 *field(struct keel_vcpu *vcpu, const struct msr_row *row)
{
	return (void *)vcpu + row->offset;
}

static int get_field(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val,
		     bool host)
{
	keel_st(vcpu, row->group);
	*val = *field(vcpu, row);
	return 0;
}

static int set_field(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	keel_st_mod(vcpu, row->group);
	*field(vcpu, row) = val;
	return 0;
}

static int get_field_host(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val,
			  bool host)
{
	return host ? get_field(vcpu, row, msr, val, host) : -EINVAL;
}

static int set_field_host(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
			  bool host)
{
	return host ? set_field(vcpu, row, msr, val, host) : -EINVAL;
}

/* The guest's write has no effect, the client's is stored. */
static int set_field_host_ignore(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr,
				 u64 val, bool host)
{
	return host ? set_field(vcpu, row, msr, val, host) : 0;
}

static unsigned int linear_bits(struct keel_vcpu *vcpu)
{
	return keel_st(vcpu, KEEL_ST_CR)->cr4 & X86_CR4_LA57 ? 57 : 48;
}

static u64 canonical(struct keel_vcpu *vcpu, u64 addr)
{
	unsigned int shift = 64 - linear_bits(vcpu);

	return (u64)((s64)(addr << shift) >> shift);
}

static int set_canonical(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
			 bool host)
{
	return val == canonical(vcpu, val) ? set_field(vcpu, row, msr, val, host) : -EINVAL;
}

/*
 * SYSENTER_ESP and EIP: AMD CPUs keep 32 bits; Intel faults on a non-canonical address, which would
 * make that a matter of the vendor, so the address is made canonical instead.
 */
static int set_sysenter(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
			bool host)
{
	val = keel_guest_has(vcpu, KEEL_F_AMD) ? (u32)val : canonical(vcpu, val);
	return set_field(vcpu, row, msr, val, host);
}

static int get_tsc(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val, bool host)
{
	*val = keel_guest_tsc(vcpu);
	return 0;
}

/* A guest that writes its TSC moves TSC_ADJUST by as much (SDM 3B, 17.17.3). */
static int set_tsc(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	u64 delta;

	if (host) {
		keel_set_guest_tsc(vcpu, val);
		return 0;
	}
	delta = val - keel_guest_tsc(vcpu);
	vcpu->tsc_adjust += delta;
	keel_adjust_guest_tsc(vcpu, delta);
	return 0;
}

static int set_tsc_adjust(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
			  bool host)
{
	if (!keel_guest_has(vcpu, KEEL_F_TSC_ADJUST))
		return 0;
	if (!host)
		keel_adjust_guest_tsc(vcpu, val - vcpu->tsc_adjust);
	vcpu->tsc_adjust = val;
	return 0;
}

static int get_deadline(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val,
			bool host)
{
	*val = vcpu->apic ? keel_lapic_get_deadline(vcpu) : 0;
	return 0;
}

static int set_deadline(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
			bool host)
{
	if (vcpu->apic)
		keel_lapic_set_deadline(vcpu, val);
	return 0;
}

static int get_apic_base(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val,
			 bool host)
{
	*val = keel_lapic_get_base(vcpu);
	return 0;
}

static int set_apic_base(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
			 bool host)
{
	return keel_lapic_set_base(vcpu, val, host) ? -EINVAL : 0;
}

static int get_x2apic(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val,
		      bool host)
{
	return vcpu->apic ? keel_lapic_msr_get(vcpu, msr, val) : -EINVAL;
}

static int set_x2apic(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
		      bool host)
{
	return vcpu->apic ? keel_lapic_msr_set(vcpu, msr, val) : -EINVAL;
}

/* The client may set what the hardware can, whatever the guest's CPUID says; LMA is not written. */
static int set_efer(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	struct keel_state *st;

	if (!host)
		return keel_set_efer(vcpu, val);
	if (val & ~keel_host_efer_bits())
		return -EINVAL;
	st = keel_st_mod(vcpu, KEEL_ST_CR);
	st->efer = (val & ~(u64)EFER_LMA) | (st->efer & EFER_LMA);
	keel_request(KEEL_REQ_TLB_FLUSH, vcpu);
	return 0;
}

static int set_tsc_aux(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
		       bool host)
{
	/* Intel reserves the upper half, AMD drops it */
	if (val >> 32 && !keel_guest_has(vcpu, KEEL_F_AMD))
		return -EINVAL;
	keel_set_tsc_aux(vcpu, val);
	return 0;
}

static int get_spec_ctrl(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val,
			 bool host)
{
	*val = vcpu->spec.sw.guest;
	return 0;
}

static int set_spec_ctrl(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
			 bool host)
{
	return keel_spec_set_ctrl(vcpu, val);
}

static int set_pred_cmd(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
			bool host)
{
	return keel_spec_set_pred_cmd(vcpu, val);
}

static int set_flush_cmd(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
			 bool host)
{
	return keel_spec_set_flush_cmd(val);
}

static int set_misc_enable(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
			   bool host)
{
	u64 old = vcpu->misc_enable;

	if (!host) {
		if ((old ^ val) & MISC_ENABLE_RESET)
			return -EINVAL;
		/* performance monitoring "available" is read-only, without a fault */
		val = (val & ~(u64)MSR_IA32_MISC_ENABLE_EMON) | (old & MSR_IA32_MISC_ENABLE_EMON);
	}
	vcpu->misc_enable = val;
	return 0;
}

/* The client decides whether the guest sees it at all; it may not take away what the guest is using. */
static int get_platform_info(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val, bool host)
{
	return !host && vcpu->vm->no_platform_info ? -EINVAL : get_field(vcpu, row, msr, val, host);
}

static int set_platform_info(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	if (!(val & MSR_PLATFORM_INFO_CPUID_FAULT) && (vcpu->misc_features & MSR_MISC_FEATURES_ENABLES_CPUID_FAULT))
		return -EINVAL;
	return set_field_host(vcpu, row, msr, val, host);
}

/* CPUID faulting, if PLATFORM_INFO has it: CPUID is for CPL 0 alone (SDM 4, table 2-12). */
static int set_misc_features(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	if ((val & ~(u64)MSR_MISC_FEATURES_ENABLES_CPUID_FAULT) ||
	    (val && !(vcpu->platform_info & MSR_PLATFORM_INFO_CPUID_FAULT)))
		return -EINVAL;
	keel_cpuid_forget(vcpu);
	return set_field(vcpu, row, msr, val, host);
}

/* HWCR: flush filter, IGNNE emulation and TLB cache bits are dropped (APM 2, 3.2.10). */
static int set_hwcr(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	val &= ~(BIT_ULL(3) | BIT_ULL(6) | BIT_ULL(8));
	if (val & ~row->val)
		return -EINVAL;
	vcpu->hwcr = val;
	return 0;
}

/* VM_CR: LOCK and SVMDIS stay once SVMDIS is set (APM 2, 15.30.1). */
static int set_vm_cr(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	u64 change = row->val;

	if (val & ~row->val)
		return -EINVAL;
	if (vcpu->vm_cr & BIT_ULL(4))
		change &= ~(BIT_ULL(3) | BIT_ULL(4));
	vcpu->vm_cr = (vcpu->vm_cr & ~change) | (val & change);
	return 0;
}

static int set_vm_hsave(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
			bool host)
{
	if (!host && ((val & ~PAGE_MASK) || val >> vcpu->cpuid.maxphyaddr))
		return -EINVAL;
	vcpu->vm_hsave_pa = val & PAGE_MASK;
	return 0;
}

static int set_de_cfg(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val,
		      bool host)
{
	u64 feature = de_cfg_feature();

	if ((val & ~feature) || (!host && val != feature))
		return -EINVAL;
	vcpu->de_cfg = val;
	return 0;
}

#define ONE(msr)	.first = (msr), .last = (msr)
#define RANGE(a, b)	.first = (a), .last = (b)
#define FIELD(f)	.offset = offsetof(struct keel_vcpu, f)
#define STATE(g, f)	.group = KEEL_ST_##g, .offset = offsetof(struct keel_vcpu, st.f)
#define SEGBASE(s)	STATE(SEG, seg[KEEL_##s].base)
#define CONST(v)	.get = get_const, .val = (v)
#define LISTED		.listed = true

/* Sorted by index; ranges do not overlap. keel_msr_module_init() checks it. */
static const struct msr_row rows[] = {
	/* P5 machine check address and type, read by old kernels */
	{ RANGE(MSR_IA32_P5_MC_ADDR, MSR_IA32_P5_MC_TYPE), CONST(0) },
	{ ONE(MSR_IA32_TSC), LISTED, .get = get_tsc, .set = set_tsc },
	{ ONE(MSR_KVM_WALL_CLOCK), LISTED, .get = msr_get_wall_clock, .set = msr_set_wall_clock,
	  .val = KVM_FEATURE_CLOCKSOURCE },
	{ ONE(MSR_KVM_SYSTEM_TIME), LISTED, .get = msr_get_pv, .set = msr_set_clock, FIELD(clock_msr),
	  .val = KVM_FEATURE_CLOCKSOURCE },
	{ ONE(MSR_IA32_PLATFORM_ID), CONST(0) },
	{ ONE(MSR_IA32_APICBASE), .get = get_apic_base, .set = set_apic_base },
	{ ONE(MSR_IA32_EBL_CR_POWERON), CONST(0) },
	/* Pentium 4 clock ratio: 1, so that nobody divides by zero */
	{ ONE(MSR_EBC_FREQUENCY_ID), CONST(1 << 24) },
	{ ONE(MSR_SMI_COUNT), LISTED, .get = get_field, .set = set_field_host, FIELD(smm.count) },
	{ ONE(MSR_IA32_TSC_ADJUST), LISTED, .get = get_field, .set = set_tsc_adjust,
	  FIELD(tsc_adjust) },
	{ ONE(MSR_IA32_SPEC_CTRL), LISTED, .host_feature = X86_FEATURE_MSR_SPEC_CTRL,
	  .need = KEEL_F_SPEC_CTRL, .get = get_spec_ctrl, .set = set_spec_ctrl },
	{ ONE(MSR_IA32_PRED_CMD), .need = KEEL_F_IBPB, .set = set_pred_cmd },
	{ ONE(MSR_IA32_UCODE_WRITE), .set = set_ignore },
	/* the microcode revision; AMD calls it PATCH_LEVEL */
	{ ONE(MSR_IA32_UCODE_REV), LISTED, .get = get_field, .set = set_field_host_ignore,
	  FIELD(patch_level) },
	{ ONE(MSR_IA32_SMBASE), LISTED, .get = get_field_host, .set = set_field_host,
	  FIELD(smbase) },
	/* P6 performance counters: nothing counts */
	{ RANGE(MSR_P6_PERFCTR0, MSR_P6_PERFCTR1), CONST(0), .set = set_ignore },
	{ ONE(MSR_FSB_FREQ_ID), CONST(3) },
	{ ONE(MSR_PLATFORM_INFO), LISTED, .get = get_platform_info, .set = set_platform_info,
	  FIELD(platform_info) },
	/* write-combining and fixed ranges, eight variable ones, no SMRR */
	{ ONE(MSR_MTRRcap), CONST(0x508) },
	{ ONE(MSR_IA32_ARCH_CAPABILITIES), LISTED, .need = KEEL_F_ARCH_CAP, .get = get_field,
	  .set = set_field_host, FIELD(arch_capabilities) },
	{ ONE(MSR_IA32_FLUSH_CMD), .need = KEEL_F_FLUSH_L1D, .set = set_flush_cmd },
	/* L2 cache control: enabled, configured, 256 KiB */
	{ ONE(MSR_IA32_BBL_CR_CTL3), CONST(0xbe702111), .set = set_ignore },
	{ ONE(MSR_MISC_FEATURES_ENABLES), LISTED, .get = get_field, .set = set_misc_features,
	  FIELD(misc_features) },
	{ ONE(MSR_IA32_SYSENTER_CS), LISTED, .get = get_field, .set = set_field,
	  STATE(MSR, sysenter_cs) },
	{ ONE(MSR_IA32_SYSENTER_ESP), LISTED, .get = get_field, .set = set_sysenter,
	  STATE(MSR, sysenter_esp) },
	{ ONE(MSR_IA32_SYSENTER_EIP), LISTED, .get = get_field, .set = set_sysenter,
	  STATE(MSR, sysenter_eip) },
	{ ONE(MSR_IA32_MCG_CAP), .get = msr_get_mce },
	{ ONE(MSR_IA32_MCG_STATUS), LISTED, .get = msr_get_mce, .set = msr_set_mce },
	{ ONE(MSR_IA32_MCG_CTL), LISTED, .get = msr_get_mce, .set = msr_set_mce },
	{ RANGE(MSR_P6_EVNTSEL0, MSR_P6_EVNTSEL1), CONST(0), .set = set_ignore },
	/* TSC increment and multiplier that old kernels compute a frequency from */
	{ ONE(MSR_IA32_PERF_STATUS), CONST(1000 | 4ULL << 40) },
	{ ONE(MSR_IA32_PERF_CTL), CONST(0) },
	{ ONE(MSR_IA32_MISC_ENABLE), LISTED, .get = get_field, .set = set_misc_enable,
	  FIELD(misc_enable) },
	/* no branch records and no branch single-step: writes have no effect */
	{ ONE(MSR_IA32_DEBUGCTLMSR), CONST(0), .set = set_ignore },
	{ RANGE(MSR_IA32_LASTBRANCHFROMIP, MSR_IA32_LASTINTTOIP), CONST(0) },
	{ ONE(MSR_IA32_POWER_CTL), LISTED, .get = get_field, .set = set_field, FIELD(power_ctl) },
	{ RANGE(0x200, 0x20f), .get = msr_get_mtrr, .set = msr_set_mtrr },
	{ ONE(MSR_MTRRfix64K_00000), .get = msr_get_mtrr, .set = msr_set_mtrr },
	{ RANGE(MSR_MTRRfix16K_80000, MSR_MTRRfix16K_A0000), .get = msr_get_mtrr,
	  .set = msr_set_mtrr },
	{ RANGE(MSR_MTRRfix4K_C0000, MSR_MTRRfix4K_F8000), .get = msr_get_mtrr,
	  .set = msr_set_mtrr },
	{ ONE(MSR_IA32_CR_PAT), LISTED, .get = get_field, .set = msr_set_pat, STATE(MSR, pat) },
	{ RANGE(MSR_IA32_MC0_CTL2, MSR_IA32_MC0_CTL2 + KEEL_MCE_BANKS - 1), .get = msr_get_mce,
	  .set = msr_set_mce },
	{ ONE(MSR_MTRRdefType), .get = msr_get_mtrr, .set = msr_set_mtrr },
	/* no PDCM bit in CPUID: only the client sees it */
	{ ONE(MSR_IA32_PERF_CAPABILITIES), LISTED, .get = get_host_zero, .set = set_zero_host },
	{ RANGE(MSR_IA32_MC0_CTL, MSR_IA32_MC0_CTL + 4 * KEEL_MCE_BANKS - 1), .get = msr_get_mce,
	  .set = msr_set_mce },
	/* energy counters that kernels read by CPU model */
	{ ONE(MSR_RAPL_POWER_UNIT), CONST(0) },
	{ ONE(MSR_PKG_ENERGY_STATUS), CONST(0) },
	{ ONE(MSR_DRAM_ENERGY_STATUS), CONST(0) },
	{ ONE(MSR_PP0_ENERGY_STATUS), CONST(0) },
	{ ONE(MSR_PP1_ENERGY_STATUS), CONST(0) },
	{ ONE(MSR_IA32_TSC_DEADLINE), LISTED, .get = get_deadline, .set = set_deadline },
	{ RANGE(0x800, 0x8ff), .get = get_x2apic, .set = set_x2apic },
	/* no XSAVES bit in CPUID: only the client sees it */
	{ ONE(MSR_IA32_XSS), .get = get_host_zero, .set = set_zero_host },
	{ ONE(MSR_KVM_WALL_CLOCK_NEW), LISTED, .get = msr_get_wall_clock,
	  .set = msr_set_wall_clock, .val = KVM_FEATURE_CLOCKSOURCE2 },
	{ ONE(MSR_KVM_SYSTEM_TIME_NEW), LISTED, .get = msr_get_pv, .set = msr_set_clock,
	  FIELD(clock_msr), .val = KVM_FEATURE_CLOCKSOURCE2 },
	{ ONE(MSR_KVM_STEAL_TIME), LISTED, .get = msr_get_pv, .set = msr_set_steal_time,
	  FIELD(pv.steal_msr), .val = KVM_FEATURE_STEAL_TIME },
	{ ONE(MSR_KVM_PV_EOI_EN), LISTED, .get = msr_get_pv, .set = msr_set_pv_eoi,
	  FIELD(pv.eoi_msr), .val = KVM_FEATURE_PV_EOI },
	{ ONE(MSR_KVM_POLL_CONTROL), LISTED, .get = msr_get_pv, .set = msr_set_poll_control,
	  FIELD(pv.poll_control), .val = KVM_FEATURE_POLL_CONTROL },
	{ ONE(MSR_EFER), .get = get_field, .set = set_efer, STATE(CR, efer) },
	{ ONE(MSR_STAR), LISTED, .get = get_field, .set = set_field, STATE(MSR, star) },
	{ ONE(MSR_LSTAR), LISTED, .get = get_field, .set = set_canonical, STATE(MSR, lstar) },
	{ ONE(MSR_CSTAR), LISTED, .get = get_field, .set = set_canonical, STATE(MSR, cstar) },
	{ ONE(MSR_SYSCALL_MASK), LISTED, .get = get_field, .set = set_field, STATE(MSR, sfmask) },
	{ ONE(MSR_FS_BASE), .get = get_field, .set = set_canonical, SEGBASE(FS) },
	{ ONE(MSR_GS_BASE), .get = get_field, .set = set_canonical, SEGBASE(GS) },
	{ ONE(MSR_KERNEL_GS_BASE), LISTED, .get = get_field, .set = set_canonical,
	  STATE(MSR, kernel_gs_base) },
	{ ONE(MSR_TSC_AUX), LISTED, .host_feature = X86_FEATURE_RDTSCP,
	  .need = KEEL_F_RDTSCP | KEEL_F_RDPID, .get = get_field, .set = set_tsc_aux,
	  FIELD(st.tsc_aux) },
	/* K7 performance counters: nothing counts */
	{ RANGE(MSR_K7_EVNTSEL0, MSR_K7_PERFCTR3), CONST(0), .set = set_ignore },
	{ ONE(MSR_AMD64_SYSCFG), CONST(0) },
	/* McStatusWrEn; and that the TSC counts at P0 frequency */
	{ ONE(MSR_K7_HWCR), LISTED, .get = get_field, .set = set_hwcr, FIELD(hwcr),
	  .val = BIT_ULL(18) | BIT_ULL(24) },
	/* K7 clock control: the ramp-up count that kernels for model 8 expect */
	{ ONE(MSR_K7_CLK_CTL), CONST(0x20000000), .set = set_ignore },
	{ ONE(MSR_AMD64_NB_CFG), CONST(0), .set = set_ignore },
	{ ONE(MSR_AMD64_PATCH_LOADER), .set = set_ignore },
	{ ONE(MSR_K8_INT_PENDING_MSG), CONST(0) },
	{ ONE(MSR_FAM10H_MMIO_CONF_BASE), CONST(0), .set = set_zero },
	{ RANGE(MSR_K8_TSEG_BASE, MSR_K8_TSEG_MASK_INDEX), CONST(0) },
	{ ONE(MSR_VM_CR), .get = get_field, .set = set_vm_cr, FIELD(vm_cr), .val = 0x1f },
	{ ONE(MSR_VM_IGNNE), .set = set_ignore },
	{ ONE(MSR_VM_HSAVE_PA), LISTED, .host_feature = X86_FEATURE_SVM, .get = get_field,
	  .set = set_vm_hsave, FIELD(vm_hsave_pa) },
	/* OS-visible workarounds: no erratum is known */
	{ RANGE(MSR_AMD64_OSVW_ID_LENGTH, MSR_AMD64_OSVW_STATUS), CONST(0), .set = set_zero },
	{ ONE(MSR_F15H_IC_CFG_INDEX), CONST(0) },
	{ ONE(MSR_AMD64_DC_CFG), CONST(0), .set = set_ignore },
	{ ONE(MSR_AMD64_TW_CFG), CONST(0), .set = set_ignore },
	{ ONE(MSR_AMD64_DE_CFG), .get = get_field, .set = set_de_cfg, FIELD(de_cfg) },
	{ ONE(MSR_AMD64_BU_CFG2), CONST(0), .set = set_ignore },
	{ ONE(MSR_F15H_EX_CFG), CONST(0), .set = set_ignore },
};

/* MSRs that tell what the host offers, KVM_GET_MSRS on the device node. */
static const u32 feature_msrs[] = {
	MSR_IA32_UCODE_REV, MSR_IA32_ARCH_CAPABILITIES, MSR_IA32_PERF_CAPABILITIES,
	MSR_AMD64_DE_CFG,
};

/* By index the rows of MSRs that guests write all the time, up to the x2APIC's: 0, or a number from 1. */
#define NR_LOW_MSRS	0x900
static u8 low_rows[NR_LOW_MSRS] __ro_after_init;

static const struct msr_row *row_search(u32 msr)
{
	unsigned int lo = 0, hi = ARRAY_SIZE(rows);

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;

		if (msr > rows[mid].last)
			lo = mid + 1;
		else if (msr < rows[mid].first)
			hi = mid;
		else
			return &rows[mid];
	}
	return NULL;
}

static __always_inline const struct msr_row *row_find(u32 msr)
{
	u8 row;

	if (unlikely(msr >= NR_LOW_MSRS))
		return row_search(msr);
	row = low_rows[array_index_nospec(msr, NR_LOW_MSRS)];
	return row ? &rows[row - 1] : NULL;
}

/**
 * keel_msr_module_init() - check the table's order, which the search relies on, and number its lower rows
 *
 * Return: 0, or -EINVAL (a bug in the table)
 */
int __init keel_msr_module_init(void)
{
	unsigned int i, msr;

	BUILD_BUG_ON(ARRAY_SIZE(rows) > U8_MAX);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		if (WARN(i && rows[i].first <= rows[i - 1].last, "keel: MSR %#x is out of order",
			 rows[i].first))
			return -EINVAL;
		for (msr = rows[i].first; msr <= rows[i].last && msr < NR_LOW_MSRS; msr++)
			low_rows[msr] = i + 1;
	}
	return 0;
}

/**
 * keel_msr_get() - read an MSR; does not sleep
 * @vcpu: the vCPU, locked
 * @msr: index
 * @val: result
 * @host: the client reads, not the guest
 *
 * Return: 0, -ENOENT (no such MSR: #GP), -EINVAL (refused: #GP)
 */
int keel_msr_get(struct keel_vcpu *vcpu, u32 msr, u64 *val, bool host)
{
	const struct msr_row *row = row_find(msr);

	*val = 0;
	if (!row || !row->get)
		return -ENOENT;
	if (row->need && !host && !keel_guest_has(vcpu, row->need))
		return -EINVAL;
	/* Most are no more than that, and take no indirect branch. */
	if (row->get == get_field)
		return get_field(vcpu, row, msr, val, host);
	return row->get(vcpu, row, msr, val, host);
}

/**
 * keel_msr_set() - write an MSR; does not sleep
 * @vcpu: the vCPU, locked
 * @msr: index
 * @val: value
 * @host: the client writes, not the guest
 *
 * Return: 0, -ENOENT (no such MSR: #GP), -EINVAL (bad value: #GP)
 */
int keel_msr_set(struct keel_vcpu *vcpu, u32 msr, u64 val, bool host)
{
	const struct msr_row *row = row_find(msr);

	if (!row || !row->set)
		return -ENOENT;
	if (row->need && !host && !keel_guest_has(vcpu, row->need))
		return -EINVAL;
	return row->set(vcpu, row, msr, val, host);
}

/**
 * keel_msr_reset() - RESET or INIT; INIT leaves most MSRs alone (SDM 3A, table 9-1)
 * @vcpu: the vCPU, locked or not yet visible
 * @init: INIT
 */
void keel_msr_reset(struct keel_vcpu *vcpu, bool init)
{
	struct keel_state *st;

	vcpu->spec.sw.guest = 0;
	vcpu->clock_msr = 0;
	keel_pv_reset(vcpu, init);
	if (init)
		return;
	st = keel_st_mod(vcpu, KEEL_ST_MSR);
	st->star = st->lstar = st->cstar = st->sfmask = st->kernel_gs_base = 0;
	st->sysenter_cs = st->sysenter_esp = st->sysenter_eip = 0;
	st->pat = PAT_RESET;
	st->tsc_aux = 0;
	vcpu->tsc_adjust = 0;
	vcpu->misc_enable = MISC_ENABLE_RESET;
	vcpu->platform_info = MSR_PLATFORM_INFO_CPUID_FAULT;
	vcpu->misc_features = 0;
	vcpu->mcg_cap = KEEL_MCE_BANKS;
	vcpu->mcg_status = 0;
	vcpu->mcg_ctl = 0;
	memset(vcpu->mce_banks, 0, sizeof(vcpu->mce_banks));
	memset(vcpu->mce_ctl2, 0, sizeof(vcpu->mce_ctl2));
	memset(vcpu->mtrr, 0, sizeof(vcpu->mtrr));
	vcpu->smbase = 0x30000;
	/* what KVM shows on AMD: kernels want one that is not old */
	vcpu->patch_level = 0x01000065;
	vcpu->power_ctl = 0;
	vcpu->arch_capabilities = arch_capabilities();
	vcpu->hwcr = 0;
	vcpu->vm_cr = 0;
	vcpu->vm_hsave_pa = 0;
	vcpu->de_cfg = de_cfg_feature();
}

/**
 * keel_msr_feature_get() - one of the MSRs in KVM_GET_MSR_FEATURE_INDEX_LIST
 * @msr: index
 * @val: result
 *
 * Return: 0 or -ENOENT
 */
int keel_msr_feature_get(u32 msr, u64 *val)
{
	*val = 0;
	switch (msr) {
	case MSR_IA32_UCODE_REV:
		if (keel_rdmsr_safe(msr, val))
			*val = 0;
		return 0;
	case MSR_IA32_ARCH_CAPABILITIES:
		*val = arch_capabilities();
		return 0;
	case MSR_IA32_PERF_CAPABILITIES:
		return 0;
	case MSR_AMD64_DE_CFG:
		*val = de_cfg_feature();
		return 0;
	default:
		return -ENOENT;
	}
}

static bool row_listed(const struct msr_row *row)
{
	return row->listed && (!row->host_feature || boot_cpu_has(row->host_feature));
}

/* The number of indices; stores them to @to unless that is NULL. */
static int list_indices(u32 __user *to, bool features)
{
	unsigned int i, n = 0;

	if (features) {
		if (to && copy_to_user(to, feature_msrs, sizeof(feature_msrs)))
			return -EFAULT;
		return ARRAY_SIZE(feature_msrs);
	}
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!row_listed(&rows[i]))
			continue;
		if (to && put_user(rows[i].first, to + n))
			return -EFAULT;
		n++;
	}
	return n;
}

/**
 * keel_msr_index_list() - KVM_GET_MSR_INDEX_LIST and KVM_GET_MSR_FEATURE_INDEX_LIST
 * @ulist: the client's list; nmsrs is the room in it, then the number of indices, even with -E2BIG
 * @features: the second one
 *
 * Return: 0, -E2BIG, -EFAULT
 */
int keel_msr_index_list(struct kvm_msr_list __user *ulist, bool features)
{
	u32 room, n = list_indices(NULL, features);
	int r;

	if (get_user(room, &ulist->nmsrs) || put_user(n, &ulist->nmsrs))
		return -EFAULT;
	if (room < n)
		return -E2BIG;
	r = list_indices(ulist->indices, features);
	return r < 0 ? r : 0;
}

typedef int (*msr_io_t)(struct keel_vcpu *vcpu, u32 msr, u64 *val);

/* Goes through the client's entries and stops at the first that fails: the count says which. */
static long msr_io(struct keel_vcpu *vcpu, struct kvm_msrs __user *umsrs, msr_io_t io,
		   bool writeback)
{
	struct kvm_msr_entry *entries;
	size_t size;
	u32 n, i;
	long r;

	if (get_user(n, &umsrs->nmsrs))
		return -EFAULT;
	if (n >= MAX_IO_MSRS)
		return -E2BIG;
	size = n * sizeof(*entries);
	entries = memdup_user(umsrs->entries, size);
	if (IS_ERR(entries))
		return PTR_ERR(entries);
	for (i = 0; i < n; i++) {
		u64 val = entries[i].data;

		if (io(vcpu, entries[i].index, &val))
			break;
		entries[i].data = val;
	}
	r = i;
	if (writeback && copy_to_user(umsrs->entries, entries, size))
		r = -EFAULT;
	kfree(entries);
	return r;
}

static int io_get(struct keel_vcpu *vcpu, u32 msr, u64 *val)
{
	return keel_msr_get(vcpu, msr, val, true);
}

static int io_set(struct keel_vcpu *vcpu, u32 msr, u64 *val)
{
	return keel_msr_set(vcpu, msr, *val, true);
}

static int io_feature(struct keel_vcpu *vcpu, u32 msr, u64 *val)
{
	return keel_msr_feature_get(msr, val);
}

/**
 * keel_vcpu_msrs_ioctl() - KVM_GET_MSRS and KVM_SET_MSRS on a vCPU
 * @vcpu: the vCPU, locked; vm->srcu is held
 * @cmd: which
 * @umsrs: the client's entries
 *
 * Return: how many were done before the first that failed; -E2BIG, -EFAULT, -ENOMEM
 */
long keel_vcpu_msrs_ioctl(struct keel_vcpu *vcpu, unsigned int cmd, struct kvm_msrs __user *umsrs)
{
	if (cmd == KVM_GET_MSRS)
		return msr_io(vcpu, umsrs, io_get, true);
	return msr_io(vcpu, umsrs, io_set, false);
}

/**
 * keel_system_msrs_ioctl() - KVM_GET_MSRS on the device node: feature MSRs
 * @umsrs: the client's entries
 *
 * Return: as keel_vcpu_msrs_ioctl()
 */
long keel_system_msrs_ioctl(struct kvm_msrs __user *umsrs)
{
	return msr_io(NULL, umsrs, io_feature, true);
}
