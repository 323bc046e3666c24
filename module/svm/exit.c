// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exits of SVM: decode and hand to the core (APM 2, appendix C lists the codes).
 *
 * Each case of the switch ends in a core handler that says whether the instruction is retried or
 * stepped over. A code that our intercepts exclude kills the VM with that code as the reason.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>

#include "svm.h"

static int exit_db(struct svm_vcpu *svm)
{
	struct keel_vcpu *vcpu = &svm->vcpu;
	u64 dr6 = svm->vmcb->save.dr6 ^ DR6_RESERVED;

	if (svm->nmi_step) {
		svm->nmi_step = false;
		keel_request(KEEL_REQ_EVENT, vcpu);
		if (!(vcpu->guest_debug & KVM_GUESTDBG_SINGLESTEP) && !vcpu->own_tf) {
			dr6 &= ~DR_STEP;
			if (!dr6)
				return KEEL_RESUME;
		}
	}
	return keel_exit_debug(vcpu, dr6, X86_TRAP_DB);
}

/**
 * svm_exit_io() - IN or OUT (APM 2, 15.10.2)
 * @svm: the vCPU, locked
 *
 * Return: as keel_exit_io()
 */
int svm_exit_io(struct svm_vcpu *svm)
{
	u64 info = svm->vmcb->control.exit_info_1;

	return keel_exit_io(&svm->vcpu, info >> 16, SVM_IO_SIZE(info), info & SVM_IO_IN,
			    info & SVM_IO_STRING);
}

/**
 * svm_exit_npf() - nested page fault; some of the bits of the error code are those of KEEL_ACC_* (APM 2, 15.25.6)
 * @svm: the vCPU, locked
 *
 * Return: as keel_exit_memory()
 */
int svm_exit_npf(struct svm_vcpu *svm)
{
	const struct vmcb_control *c = &svm->vmcb->control;
	u32 access = c->exit_info_1 & (KEEL_ACC_PRESENT | KEEL_ACC_WRITE | KEEL_ACC_USER | KEEL_ACC_EXEC);

	if (c->exit_info_1 & SVM_NPF_TABLE)
		access |= KEEL_ACC_TABLE;
	return keel_exit_memory(&svm->vcpu, c->exit_info_2, access);
}

/* The intercept comes before the IRET executes; NMIs stay masked until it has. */
static int exit_iret(struct svm_vcpu *svm)
{
	svm_intercept(svm->vmcb, SVM_ICPT_IRET, false);
	svm->iret_seen = true;
	svm->iret_rip = svm->vcpu.st.rip;
	keel_request(KEEL_REQ_EVENT, &svm->vcpu);
	return KEEL_RESUME;
}

static int exit_vintr(struct svm_vcpu *svm)
{
	svm_vcpu_want_window(&svm->vcpu, svm->windows & ~KEEL_WIN_IRQ);
	keel_request(KEEL_REQ_EVENT, &svm->vcpu);
	return KEEL_RESUME;
}

/* APM 2, 15.14.1. Without IRET, JMP and an event on its way it was a CALL. */
static int exit_task_switch(struct svm_vcpu *svm)
{
	const struct vmcb_control *c = &svm->vmcb->control;
	u32 event = c->exit_int_info;
	struct keel_task_switch ts = {
		.selector = c->exit_info_1,
		.has_error = c->exit_info_2 & SVM_TS_HAS_ERROR,
		.error = c->exit_info_2,
	};

	if (c->exit_info_2 & SVM_TS_IRET) {
		ts.reason = KEEL_TASK_IRET;
	} else if (c->exit_info_2 & SVM_TS_JMP) {
		ts.reason = KEEL_TASK_JMP;
	} else if (event & SVM_EV_VALID) {
		ts.reason = KEEL_TASK_GATE;
		ts.event_type = SVM_EV_TYPE(event);
		ts.vector = event & SVM_EV_VECTOR;
	} else {
		ts.reason = KEEL_TASK_CALL;
	}
	if (c->exit_info_2 & SVM_TS_RF)
		keel_st_mod(&svm->vcpu, KEEL_ST_RIP)->rflags |= X86_EFLAGS_RF;
	return keel_exit_task_switch(&svm->vcpu, &ts);
}

/* APM 2, 15.14.3: the VMCB is undefined after a shutdown, so the vCPU is reset as by INIT. */
static int exit_shutdown(struct svm_vcpu *svm)
{
	keel_vcpu_reset(&svm->vcpu, true);
	return keel_exit_shutdown(&svm->vcpu);
}

/* KEEL_REASON_OTHER: the rest. */
static const u8 reasons[] = {
	[SVM_EXIT_CR_READ ... SVM_EXIT_CR_WRITE + 7] = KEEL_REASON_CR,
	[SVM_EXIT_CR_WRITE + 8] = KEEL_REASON_TPR,
	[SVM_EXIT_CR_WRITE + 9 ... SVM_EXIT_CR_WRITE + 15] = KEEL_REASON_CR,
	[SVM_EXIT_DR_READ ... SVM_EXIT_DR_WRITE + 15] = KEEL_REASON_DR,
	[SVM_EXIT_EXCEPTION ... SVM_EXIT_EXCEPTION + 31] = KEEL_REASON_EXCEPTION,
	[SVM_EXIT_INTR] = KEEL_REASON_INTERRUPT,
	[SVM_EXIT_NMI] = KEEL_REASON_NMI,
	[SVM_EXIT_VINTR] = KEEL_REASON_INTERRUPT_WINDOW,
	[SVM_EXIT_RDPMC] = KEEL_REASON_RDPMC,
	[SVM_EXIT_CPUID] = KEEL_REASON_CPUID,
	[SVM_EXIT_RSM] = KEEL_REASON_UNDEFINED,
	[SVM_EXIT_IRET] = KEEL_REASON_NMI_WINDOW,
	[SVM_EXIT_INVD] = KEEL_REASON_CACHE,
	[SVM_EXIT_PAUSE] = KEEL_REASON_PAUSE,
	[SVM_EXIT_HLT] = KEEL_REASON_HLT,
	[SVM_EXIT_INVLPG] = KEEL_REASON_INVLPG,
	[SVM_EXIT_INVLPGA] = KEEL_REASON_UNDEFINED,
	[SVM_EXIT_IOIO] = KEEL_REASON_IO,
	[SVM_EXIT_TASK_SWITCH] = KEEL_REASON_TASK_SWITCH,
	[SVM_EXIT_SHUTDOWN] = KEEL_REASON_SHUTDOWN,
	[SVM_EXIT_VMRUN] = KEEL_REASON_UNDEFINED,
	[SVM_EXIT_VMMCALL] = KEEL_REASON_HYPERCALL,
	[SVM_EXIT_VMLOAD ... SVM_EXIT_SKINIT] = KEEL_REASON_UNDEFINED,
	[SVM_EXIT_WBINVD] = KEEL_REASON_CACHE,
	[SVM_EXIT_MONITOR ... SVM_EXIT_MWAIT_ARMED] = KEEL_REASON_MWAIT,
	[SVM_EXIT_XSETBV] = KEEL_REASON_XSETBV,
	[SVM_EXIT_RDPRU] = KEEL_REASON_UNDEFINED,
};

/**
 * svm_exit_reason() - the name of an exit that both vendors share
 * @c: the control area after an exit
 *
 * Return: KEEL_REASON_*
 */
u8 svm_exit_reason(const struct vmcb_control *c)
{
	u64 code = c->exit_code;

	if (code == SVM_EXIT_MSR)
		return c->exit_info_1 ? KEEL_REASON_WRMSR : KEEL_REASON_RDMSR;
	if (code < ARRAY_SIZE(reasons))
		return reasons[code];
	if (code == SVM_EXIT_NPF)
		return KEEL_REASON_NESTED_FAULT;
	return (s32)code < 0 ? KEEL_REASON_FAIL_ENTRY : KEEL_REASON_OTHER;
}

/**
 * svm_vcpu_handle_exit() - dispatch the exit of the last entry
 * @vcpu: the vCPU, locked
 *
 * Return: KEEL_RESUME, KEEL_TO_USER or -errno
 */
int svm_vcpu_handle_exit(struct keel_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	/* QEMU writes VMEXIT_INVALID as a 32-bit -1 */
	u64 code = (s32)svm->vmcb->control.exit_code;

	switch (code) {
	case SVM_EXIT_CPUID:
		return keel_exit_cpuid(vcpu);
	case SVM_EXIT_MSR:
		return svm->vmcb->control.exit_info_1 ? keel_exit_wrmsr(vcpu) : keel_exit_rdmsr(vcpu);
	case SVM_EXIT_HLT:
		return keel_exit_hlt(vcpu);
	case SVM_EXIT_PAUSE:
		return keel_exit_pause(vcpu);
	case SVM_EXIT_IOIO:
		return svm_exit_io(svm);
	case SVM_EXIT_NPF:
		return svm_exit_npf(svm);
	case SVM_EXIT_VINTR:
		return exit_vintr(svm);
	case SVM_EXIT_VMMCALL:
		return keel_exit_hypercall(vcpu);
	case SVM_EXIT_IRET:
		return exit_iret(svm);
	case SVM_EXIT_INTR:
	case SVM_EXIT_NMI:
	case SVM_EXIT_SMI:
	case SVM_EXIT_INIT:
		return KEEL_RESUME;	/* the host's: taken at STGI or when interrupts came on */
	case SVM_EXIT_EXCEPTION + X86_TRAP_PF:
		return keel_exit_page_fault(vcpu, svm->vmcb->control.exit_info_2, svm->vmcb->control.exit_info_1);
	case SVM_EXIT_CR_READ + 0:
	case SVM_EXIT_CR_READ + 3:
	case SVM_EXIT_CR_READ + 4:
	case SVM_EXIT_CR_WRITE + 0:
	case SVM_EXIT_CR_WRITE + 3:
	case SVM_EXIT_CR_WRITE + 4:
	case SVM_EXIT_CR_WRITE + 8:
	case SVM_EXIT_DR_READ ... SVM_EXIT_DR_READ + 15:
	case SVM_EXIT_DR_WRITE ... SVM_EXIT_DR_WRITE + 15:
	case SVM_EXIT_INVLPG:
		return keel_exit_emulate(vcpu);
	case SVM_EXIT_EXCEPTION + X86_TRAP_DB:
		return exit_db(svm);
	case SVM_EXIT_EXCEPTION + X86_TRAP_BP:
	case SVM_EXIT_EXCEPTION + X86_TRAP_UD:
	case SVM_EXIT_EXCEPTION + X86_TRAP_AC:
	case SVM_EXIT_EXCEPTION + X86_TRAP_MC:
		return keel_exit_exception(vcpu, code - SVM_EXIT_EXCEPTION, 0);
	case SVM_EXIT_XSETBV:
		return keel_exit_xsetbv(vcpu);
	case SVM_EXIT_RDPMC:
		return keel_exit_rdpmc(vcpu);
	case SVM_EXIT_INVD:
	case SVM_EXIT_WBINVD:
		return keel_exit_skip(vcpu);
	case SVM_EXIT_MONITOR:
	case SVM_EXIT_MWAIT:
	case SVM_EXIT_MWAIT_ARMED:
		return keel_exit_mwait(vcpu);
	case SVM_EXIT_RSM:
		return keel_exit_ud(vcpu);
	case SVM_EXIT_INVLPGA:
	case SVM_EXIT_VMRUN:
	case SVM_EXIT_VMLOAD:
	case SVM_EXIT_VMSAVE:
	case SVM_EXIT_STGI:
	case SVM_EXIT_CLGI:
	case SVM_EXIT_SKINIT:
	case SVM_EXIT_RDPRU:
		return keel_exit_undefined(vcpu);
	case SVM_EXIT_TASK_SWITCH:
		return exit_task_switch(svm);
	case SVM_EXIT_SHUTDOWN:
		return exit_shutdown(svm);
	case SVM_EXIT_INVALID:
	case SVM_EXIT_BUSY:
		return keel_exit_fail_entry(vcpu, code);
	default:
		return keel_exit_kill(vcpu, "unexpected exit code", code);
	}
}

void svm_vcpu_dump(struct keel_vcpu *vcpu)
{
	const struct vmcb *vmcb = to_svm(vcpu)->vmcb;
	const struct vmcb_control *c = &vmcb->control;
	const struct vmcb_save *s = &vmcb->save;

	pr_info("vcpu %u: exit %#llx info %#llx %#llx int_info %#x inj %#x asid %u int_ctl %#x np %llu\n",
		vcpu->id, c->exit_code, c->exit_info_1, c->exit_info_2, c->exit_int_info, c->event_inj,
		c->asid, c->int_ctl, c->np_control);
	pr_info("vcpu %u: rip %#llx rflags %#llx cr0 %#llx cr3 %#llx cr4 %#llx efer %#llx cpl %u\n",
		vcpu->id, s->rip, s->rflags, s->cr0, s->cr3, s->cr4, s->efer, s->cpl);
	pr_info("vcpu %u: cs %#x base %#llx limit %#x attr %#x ss %#x attr %#x tr %#x attr %#x\n",
		vcpu->id, s->cs.selector, s->cs.base, s->cs.limit, s->cs.attr, s->ss.selector, s->ss.attr,
		s->tr.selector, s->tr.attr);
}
