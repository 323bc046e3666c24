// SPDX-License-Identifier: GPL-2.0-only
/*
 * The MSRs that come in banks: machine checks, memory-type ranges, and the page attribute table.
 *
 * Machine-check banks are storage that the guest's handler reads and the client fills; MTRRs are
 * storage too, because with nested paging the memory type comes from the host's mapping and the
 * guest's PAT. Both are validated as hardware does.
 *
 * Locks: vcpu->mutex. SDM 3A, 11.11 and 11.12; SDM 3B, 15.3; APM 2, 7.7 and 9.3.
 */
#include <linux/nospec.h>
#include <linux/uaccess.h>
#include <asm/mce.h>
#include <asm/msr-index.h>

#include "msr.h"
#include "ops.h"

/* Order of keel_vcpu.mtrr[]. */
enum { MTRR_FIX = 0, MTRR_VAR = 11, MTRR_DEF = 27 };

/* MCG_CAP bits beyond the bank count: MCG_CTL exists, software may recover from errors, CMCIs. */
#define MCG_CAP_BITS	(MCG_CTL_P | MCG_SER_P | MCG_CMCI_P)

/**
 * keel_mce_cap_ioctl() - KVM_X86_GET_MCE_CAP_SUPPORTED
 * @ucap: where the MCG_CAP bits go that KVM_X86_SETUP_MCE takes
 *
 * Return: 0 or -EFAULT
 */
long keel_mce_cap_ioctl(u64 __user *ucap)
{
	return put_user((u64)MCG_CAP_BITS, ucap) ? -EFAULT : 0;
}

static unsigned int nr_banks(const struct keel_vcpu *vcpu)
{
	return vcpu->mcg_cap & 0xff;
}

/* Index into mce_banks[] of MCi_CTL, STATUS, ADDR or MISC, or -1 beyond the last bank. */
static int bank_index(const struct keel_vcpu *vcpu, u32 msr)
{
	u32 i = msr - MSR_IA32_MC0_CTL, n = nr_banks(vcpu) * 4;

	return i < n ? array_index_nospec(i, n) : -1;
}

/* Index into mce_ctl2[] of MCi_CTL2, or -1: beyond the last bank, or not for the guest. */
static int ctl2_index(const struct keel_vcpu *vcpu, u32 msr, bool host)
{
	u32 i = msr - MSR_IA32_MC0_CTL2, n = nr_banks(vcpu);

	if (i >= n || (!(vcpu->mcg_cap & MCG_CMCI_P) && !host))
		return -1;
	return array_index_nospec(i, n);
}

int msr_get_mce(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val, bool host)
{
	int i;

	switch (msr) {
	case MSR_IA32_MCG_CAP:
		*val = vcpu->mcg_cap;
		return 0;
	case MSR_IA32_MCG_STATUS:
		*val = vcpu->mcg_status;
		return 0;
	case MSR_IA32_MCG_CTL:
		if (!(vcpu->mcg_cap & MCG_CTL_P) && !host)
			return -EINVAL;
		*val = vcpu->mcg_ctl;
		return 0;
	case MSR_IA32_MC0_CTL2 ... MSR_IA32_MC0_CTL2 + KEEL_MCE_BANKS - 1:
		i = ctl2_index(vcpu, msr, host);
		if (i < 0)
			return -EINVAL;
		*val = vcpu->mce_ctl2[i];
		return 0;
	default:
		i = bank_index(vcpu, msr);
		if (i < 0)
			return -EINVAL;
		*val = vcpu->mce_banks[i];
		return 0;
	}
}

static int bank_set(struct keel_vcpu *vcpu, u32 msr, u64 val, bool host)
{
	int i = bank_index(vcpu, msr);

	if (i < 0)
		return -EINVAL;
	/*
	 * CTL takes all zeros or all ones. Linux clears bit 10 of bank 4 on old AMD CPUs, and
	 * others clear bit 0 of bank 1: let both pass.
	 */
	if (i % 4 == 0 && val && (val | BIT_ULL(10) | BIT_ULL(0)) != ~0ULL)
		return -EINVAL;
	/* STATUS can be cleared; AMD with HWCR.McStatusWrEn lets software write anything. */
	if (i % 4 == 1 && val && !host && !(vcpu->hwcr & BIT_ULL(18)))
		return -EINVAL;
	vcpu->mce_banks[i] = val;
	return 0;
}

int msr_set_mce(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	int i;

	switch (msr) {
	case MSR_IA32_MCG_STATUS:
		vcpu->mcg_status = val;
		return 0;
	case MSR_IA32_MCG_CTL:
		if (!(vcpu->mcg_cap & MCG_CTL_P) && (val || !host))
			return -EINVAL;
		if (val && val != ~0ULL)
			return -EINVAL;
		vcpu->mcg_ctl = val;
		return 0;
	case MSR_IA32_MC0_CTL2 ... MSR_IA32_MC0_CTL2 + KEEL_MCE_BANKS - 1:
		i = ctl2_index(vcpu, msr, host);
		if (i < 0 || (val & ~(u64)(MCI_CTL2_CMCI_EN | MCI_CTL2_CMCI_THRESHOLD_MASK)))
			return -EINVAL;
		/* Where they do not exist a client may restore the zeros that it has read. */
		if (val && !(vcpu->mcg_cap & MCG_CMCI_P))
			return -EINVAL;
		vcpu->mce_ctl2[i] = val;
		return 0;
	default:
		return bank_set(vcpu, msr, val, host);
	}
}

/**
 * keel_setup_mce() - KVM_X86_SETUP_MCE
 * @vcpu: the vCPU, locked
 * @cap: MCG_CAP: number of banks and MCG_CAP_BITS
 *
 * Return: 0 or -EINVAL
 */
int keel_setup_mce(struct keel_vcpu *vcpu, u64 cap)
{
	unsigned int i, n = cap & 0xff;

	if (!n || n > KEEL_MCE_BANKS)
		return -EINVAL;
	if (cap & ~(MCG_CAP_BITS | 0xff | 0xff0000))
		return -EINVAL;
	vcpu->mcg_cap = cap;
	if (cap & MCG_CTL_P)
		vcpu->mcg_ctl = ~0ULL;
	for (i = 0; i < n; i++)
		vcpu->mce_banks[i * 4] = ~0ULL;
	memset(vcpu->mce_ctl2, 0, sizeof(vcpu->mce_ctl2));
	keel_lapic_mcg_cap_changed(vcpu);
	return 0;
}

/*
 * Uncorrected, but nothing has used the bad data yet: no machine check (SDM 3B, 15.6.3: UCNA). Software may look
 * after it when the CMCI tells.
 */
static bool is_ucna(const struct kvm_x86_mce *mce)
{
	return (mce->status & MCI_STATUS_UC) && !mce->mcg_status &&
	       !(mce->status & (MCI_STATUS_PCC | MCI_STATUS_S | MCI_STATUS_AR));
}

/**
 * keel_set_mce() - KVM_X86_SET_MCE: the client reports a machine check to the guest
 * @vcpu: the vCPU, locked
 * @mce: what the bank is to hold
 *
 * An uncorrected error raises #MC, or shuts the vCPU down when one is already in progress; it is
 * dropped when the guest has switched reporting off. One that needs no action raises a CMCI, if the guest has
 * enabled that for the bank. A corrected error does not replace an uncorrected one, and raises nothing, as in KVM.
 *
 * Return: 0 or -EINVAL
 */
int keel_set_mce(struct keel_vcpu *vcpu, const struct kvm_x86_mce *mce)
{
	bool uncorrected = mce->status & MCI_STATUS_UC, machine_check = uncorrected && !is_ucna(mce);
	u64 status = mce->status;
	unsigned int nr;
	u64 *bank;

	if (mce->bank >= nr_banks(vcpu) || !(status & MCI_STATUS_VAL))
		return -EINVAL;
	nr = array_index_nospec(mce->bank, KEEL_MCE_BANKS);
	bank = &vcpu->mce_banks[4 * nr];
	if (machine_check) {
		if ((vcpu->mcg_cap & MCG_CTL_P) && vcpu->mcg_ctl != ~0ULL)
			return 0;
		if (bank[0] != ~0ULL)
			return 0;
		if ((vcpu->mcg_status & MCG_STATUS_MCIP) ||
		    !(keel_st(vcpu, KEEL_ST_CR)->cr4 & X86_CR4_MCE)) {
			vcpu->ev.triple_fault = true;
			keel_request(KEEL_REQ_EVENT, vcpu);
			return 0;
		}
		vcpu->mcg_status = mce->mcg_status;
	} else if (!uncorrected && (bank[1] & MCI_STATUS_VAL) && (bank[1] & MCI_STATUS_UC)) {
		bank[1] |= MCI_STATUS_OVER;
		return 0;
	}
	if (bank[1] & MCI_STATUS_VAL)
		status |= MCI_STATUS_OVER;
	bank[1] = status;
	bank[2] = mce->addr;
	bank[3] = mce->misc;
	if (machine_check)
		keel_inject_exception(vcpu, X86_TRAP_MC);
	else if (uncorrected && (vcpu->mce_ctl2[nr] & MCI_CTL2_CMCI_EN))
		keel_lapic_cmci(vcpu);
	return 0;
}

/* Memory types UC 0, WC 1, WT 4, WP 5, WB 6; the PAT has UC- 7 too. */
static bool type_valid(u8 type, bool pat)
{
	return type < 8 && (BIT(type) & (pat ? 0xf3 : 0x73));
}

static bool types_valid(u64 val, bool pat)
{
	int i;

	for (i = 0; i < 64; i += 8)
		if (!type_valid(val >> i, pat))
			return false;
	return true;
}

static int mtrr_index(u32 msr)
{
	switch (msr) {
	case MSR_MTRRfix64K_00000:
		return MTRR_FIX;
	case MSR_MTRRfix16K_80000 ... MSR_MTRRfix16K_A0000:
		return MTRR_FIX + 1 + array_index_nospec(msr - MSR_MTRRfix16K_80000, 2);
	case MSR_MTRRfix4K_C0000 ... MSR_MTRRfix4K_F8000:
		return MTRR_FIX + 3 + array_index_nospec(msr - MSR_MTRRfix4K_C0000, 8);
	case MSR_MTRRdefType:
		return MTRR_DEF;
	default:
		return MTRR_VAR + array_index_nospec(msr - 0x200, 16);
	}
}

int msr_get_mtrr(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 *val, bool host)
{
	*val = vcpu->mtrr[mtrr_index(msr)];
	return 0;
}

int msr_set_mtrr(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	int i = mtrr_index(msr);
	u64 bad = ~0ULL << vcpu->cpuid.maxphyaddr;

	if (i == MTRR_DEF) {
		if ((val & ~0xcffULL) || !type_valid(val, false))
			return -EINVAL;
	} else if (i < MTRR_VAR) {
		if (!types_valid(val, false))
			return -EINVAL;
	} else if (msr & 1) {
		if (val & (bad | 0x7ff))
			return -EINVAL;
	} else if ((val & (bad | 0xf00)) || !type_valid(val, false)) {
		return -EINVAL;
	}
	vcpu->mtrr[i] = val;
	return 0;
}

int msr_set_pat(struct keel_vcpu *vcpu, const struct msr_row *row, u32 msr, u64 val, bool host)
{
	if (!types_valid(val, true))
		return -EINVAL;
	keel_st_mod(vcpu, KEEL_ST_MSR)->pat = val;
	return 0;
}
