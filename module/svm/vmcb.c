// SPDX-License-Identifier: GPL-2.0-only
/*
 * The VMCB of a vCPU and its permission maps: allocation, reset values, intercepts.
 *
 * The I/O map is all ones and shared by every VM: the core sees each port access. The MSR map of a vCPU
 * opens what VMLOAD and VMSAVE switch anyway. APM 2, 15.9 to 15.11.
 */
#include <linux/gfp.h>
#include <linux/string.h>
#include <asm/msr-index.h>

#include "svm.h"

#define IOPM_ORDER	2	/* 12 KiB are used */
#define MSRPM_ORDER	1

static void *svm_iopm;

static const unsigned int always_intercepted[] = {
	SVM_ICPT_INTR, SVM_ICPT_NMI, SVM_ICPT_SMI, SVM_ICPT_INIT,
	SVM_ICPT_RDPMC, SVM_ICPT_CPUID, SVM_ICPT_RSM, SVM_ICPT_INVD, SVM_ICPT_HLT,
	SVM_ICPT_INVLPGA, SVM_ICPT_IOIO, SVM_ICPT_MSR, SVM_ICPT_TASK_SWITCH, SVM_ICPT_SHUTDOWN,
	SVM_ICPT_VMRUN, SVM_ICPT_VMMCALL, SVM_ICPT_VMLOAD, SVM_ICPT_VMSAVE, SVM_ICPT_STGI,
	SVM_ICPT_CLGI, SVM_ICPT_SKINIT, SVM_ICPT_WBINVD, SVM_ICPT_MONITOR, SVM_ICPT_MWAIT,
	SVM_ICPT_XSETBV, SVM_ICPT_RDPRU,
	/*
	 * #DB and #AC can be raised again by their own delivery, without end and without an interrupt
	 * window: the host must see them. #UD for foreign hypercall instructions. #MC is the host's.
	 */
	SVM_ICPT_EXCEPTION + X86_TRAP_DB, SVM_ICPT_EXCEPTION + X86_TRAP_AC,
	SVM_ICPT_EXCEPTION + X86_TRAP_UD, SVM_ICPT_EXCEPTION + X86_TRAP_MC,
};

/*
 * Without nested paging: the guest's tables and all that says how they are read are the core's. QEMU takes a read of
 * any control register for one of CR0.
 */
static const unsigned int shadow_intercepted[] = {
	SVM_ICPT_CR_READ + 0, SVM_ICPT_CR_READ + 3, SVM_ICPT_CR_WRITE + 0, SVM_ICPT_CR_WRITE + 3, SVM_ICPT_CR_WRITE + 4,
	SVM_ICPT_INVLPG, SVM_ICPT_EXCEPTION + X86_TRAP_PF,
};

static const u32 direct_msrs[] = {
	MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK, MSR_KERNEL_GS_BASE, MSR_FS_BASE, MSR_GS_BASE,
	MSR_IA32_SYSENTER_CS,
};

/* Two bits an MSR, read then write; three ranges of 8192 MSRs (15.11). What the client filters is not direct. */
static void msrpm_set(struct svm_vcpu *svm, u32 msr, bool write, bool direct)
{
	u8 *map = svm->msrpm;
	u32 bit;

	if (msr < 0x2000)
		bit = msr * 2;
	else if (msr >= 0xc0000000 && msr < 0xc0002000)
		bit = 0x800 * 8 + (msr - 0xc0000000) * 2;
	else
		bit = 0x1000 * 8 + (msr - 0xc0010000) * 2;
	bit += write;
	if (direct && keel_msr_allowed(svm->vcpu.vm, msr, write))
		map[bit / 8] &= ~BIT(bit % 8);
	else
		map[bit / 8] |= BIT(bit % 8);
}

static void msrpm_set_both(struct svm_vcpu *svm, u32 msr, bool direct)
{
	msrpm_set(svm, msr, false, direct);
	msrpm_set(svm, msr, true, direct);
}

int svm_vmcb_module_init(void)
{
	svm_iopm = (void *)__get_free_pages(GFP_KERNEL, IOPM_ORDER);
	if (!svm_iopm)
		return -ENOMEM;
	memset(svm_iopm, 0xff, PAGE_SIZE << IOPM_ORDER);
	return 0;
}

void svm_vmcb_module_exit(void)
{
	free_pages((unsigned long)svm_iopm, IOPM_ORDER);
	svm_iopm = NULL;
}

int svm_vcpu_create(struct keel_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	int i;

	svm->vmcb = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	svm->msrpm = (void *)__get_free_pages(GFP_KERNEL_ACCOUNT, MSRPM_ORDER);
	if (!svm->vmcb || !svm->msrpm) {
		svm_vcpu_destroy(vcpu);
		return -ENOMEM;
	}
	svm->vmcb_pa = __pa(svm->vmcb);
	svm->msrpm_pa = __pa(svm->msrpm);
	memset(svm->msrpm, 0xff, PAGE_SIZE << MSRPM_ORDER);
	for (i = 0; i < KEEL_MMU_ROOTS; i++)
		svm->tag[i].cpu = -1;
	return 0;
}

void svm_vcpu_destroy(struct keel_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	free_page((unsigned long)svm->vmcb);
	free_pages((unsigned long)svm->msrpm, MSRPM_ORDER);
	svm->vmcb = NULL;
	svm->msrpm = NULL;
}

/* The control area. The architectural state is the core's and follows by svm_set_state(). */
void svm_vcpu_reset(struct keel_vcpu *vcpu, bool init)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	struct vmcb_control *c = &svm->vmcb->control;
	int i;

	memset(c->intercept, 0, sizeof(c->intercept));
	for (i = 0; i < ARRAY_SIZE(always_intercepted); i++)
		svm_intercept(svm->vmcb, always_intercepted[i], true);
	for (i = 0; i < 16; i++) {
		svm_intercept(svm->vmcb, SVM_ICPT_DR_READ + i, true);
		svm_intercept(svm->vmcb, SVM_ICPT_DR_WRITE + i, true);
	}
	c->iopm_base_pa = __pa(svm_iopm);
	c->msrpm_base_pa = svm->msrpm_pa;
	c->int_ctl = SVM_INT_MASKING;
	svm->tpr = 0;
	c->np_control = keel_shadowing ? 0 : SVM_NP_ENABLE;
	c->n_cr3 = vcpu->mmu.root;
	for (i = 0; keel_shadowing && i < ARRAY_SIZE(shadow_intercepted); i++)
		svm_intercept(svm->vmcb, shadow_intercepted[i], true);
	c->tsc_offset = vcpu->tsc_offset;
	c->event_inj = 0;
	svm->windows = 0;
	svm->nmi_masked = false;
	svm->iret_seen = false;
	svm->nmi_step = false;
	svm->exit_soon = false;
	svm_drop_tags(svm, ~0UL);
	svm_update_intercepts(vcpu);
}

/**
 * svm_cr4_intercepts() - make the intercepts of CR4 fit what is hidden of it
 * @svm: the vCPU, locked
 *
 * Writes exit unless the guest may have all bits that the CPU takes: then the CPU refuses the same as keel_set_cr4()
 * (QEMU refuses less). QEMU takes a read of any control register for one of CR0: that is asked for as well, which costs
 * something only until the guest has set MCE.
 */
void svm_cr4_intercepts(struct svm_vcpu *svm)
{
	struct keel_vcpu *vcpu = &svm->vcpu;

	if (keel_shadowing)
		return;
	svm_intercept(svm->vmcb, SVM_ICPT_CR_READ + 0, svm->cr0_hidden || svm->cr4_hidden);
	svm_intercept(svm->vmcb, SVM_ICPT_CR_READ + 4, svm->cr4_hidden);
	svm_intercept(svm->vmcb, SVM_ICPT_CR_WRITE + 4, svm->cr4_hidden || !vcpu->cpuid.cr4_all);
	vcpu->cr4_direct = vcpu->cpuid.cr4_all && !svm->cr4_hidden;
	svm->cr4_watched = vcpu->cr4_direct ? ~vcpu->cpuid.cr4_valid | svm_caps.host_mce : 0;
}

/**
 * svm_update_intercepts() - make the intercepts fit the client's debugging and MSR filter and the guest's CPUID
 * @vcpu: the vCPU, locked
 *
 * SYSENTER's MSRs: AMD CPUs keep 32 bits of EIP and ESP, so a guest that believes in an Intel CPU has
 * them emulated in full.
 */
void svm_update_intercepts(struct keel_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	bool mwait = vcpu->vm->disabled_exits & KVM_X86_DISABLE_EXITS_MWAIT;
	int i;

	svm_intercept(svm->vmcb, SVM_ICPT_EXCEPTION + X86_TRAP_BP, keel_bp_exits(vcpu));
	svm_intercept(svm->vmcb, SVM_ICPT_HLT, !(vcpu->vm->disabled_exits & KVM_X86_DISABLE_EXITS_HLT));
	svm_intercept(svm->vmcb, SVM_ICPT_MONITOR, !mwait);
	svm_intercept(svm->vmcb, SVM_ICPT_MWAIT, !mwait);
	/* Without the counter each PAUSE would exit. */
	svm_intercept(svm->vmcb, SVM_ICPT_PAUSE, svm_caps.pause_filter && keel_ple_enabled(vcpu->vm));
	svm_cr4_intercepts(svm);
	for (i = 0; i < ARRAY_SIZE(direct_msrs); i++)
		msrpm_set_both(svm, direct_msrs[i], true);
	msrpm_set_both(svm, MSR_IA32_SPEC_CTRL,
		       (vcpu->spec.ctrl_direct || keel_spec.hw_ctrl) && keel_guest_has(vcpu, KEEL_F_SPEC_CTRL));
	msrpm_set(svm, MSR_IA32_PRED_CMD, true, vcpu->spec.pred_direct && keel_guest_has(vcpu, KEEL_F_IBPB));
}
