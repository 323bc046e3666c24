/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Exits that a vendor serves right behind the world switch, with nothing of run.c's in between.
 *
 * Each of these does what the keel_exit_*() of its name does (exit.c) where that takes of the guest's state nothing but the
 * general registers: when it says false, nothing has happened, and the exit goes the long way. The vendor has made sure that
 * nothing interrupted the instruction, and that nothing comes behind it: no interrupt shadow, no single step. It steps
 * over the instruction itself. No memory of the guest's is touched, so that CR2 stays the guest's in the register; a checked
 * build (keel_checked) looks; and so does PKRU.
 */
#ifndef KEEL_HOT_H
#define KEEL_HOT_H

#include <asm/apicdef.h>
#include <asm/msr-index.h>

#include "ops.h"
#include "trace.h"

/* CPUID. */
static __always_inline bool keel_hot_cpuid(struct keel_vcpu *vcpu)
{
	const u64 *gpr = vcpu->st.gpr;
	const struct keel_cpuid_answer *a = keel_cpuid_ready(vcpu, gpr[KEEL_RAX], gpr[KEEL_RCX]);

	if (unlikely(!a))
		return keel_cpuid_answer_now(vcpu);
	keel_cpuid_give(vcpu, a);
	return true;
}

/* RDMSR; what is refused says that it was not read. */
static __always_inline bool keel_hot_rdmsr(struct keel_vcpu *vcpu)
{
	u64 *gpr = vcpu->st.gpr;
	u64 val;

	if (unlikely(rcu_access_pointer(vcpu->vm->msr_filter)))
		return false;
	/* Not on the stack, where it would be guarded. */
	if (unlikely(keel_msr_get(vcpu, gpr[KEEL_RCX], &vcpu->exit.msr, false)))
		return false;
	val = vcpu->exit.msr;
	gpr[KEEL_RAX] = (u32)val;
	gpr[KEEL_RDX] = val >> 32;
	return true;
}

/* WRMSR: those that guests write all the time without an indirect branch. */
static __always_inline bool keel_hot_wrmsr(struct keel_vcpu *vcpu)
{
	const u64 *gpr = vcpu->st.gpr;
	u64 val = (u32)gpr[KEEL_RAX] | gpr[KEEL_RDX] << 32;
	u32 msr = gpr[KEEL_RCX];

	if (unlikely(rcu_access_pointer(vcpu->vm->msr_filter)))
		return false;
	if (msr == MSR_IA32_TSC_DEADLINE) {
		keel_lapic_set_deadline(vcpu, val);
		return true;
	}
	if (msr - APIC_BASE_MSR <= 0xff)
		return !keel_lapic_msr_set(vcpu, msr, val);
	return !keel_msr_set(vcpu, msr, val, false);
}

/* VMCALL or VMMCALL from the kernel of a guest in 64-bit mode, as the vendor has found. */
static __always_inline bool keel_hot_hypercall(struct keel_vcpu *vcpu)
{
	struct keel_hypercall *hc = &vcpu->pv.call;
	u64 *gpr = vcpu->st.gpr;

	hc->nr = gpr[KEEL_RAX];
	if (unlikely(keel_pv_hypercall(vcpu, hc)))
		return false;
	gpr[KEEL_RAX] = hc->ret;
	return true;
}

/* IN or OUT of one datum. Where nobody in the kernel takes it, keel_exit_io() does not search again. */
static __always_inline bool keel_hot_io(struct keel_vcpu *vcpu, u16 port, u8 size, bool in)
{
	if (keel_port_access(vcpu, port, size, in, true))
		return true;
	vcpu->pio.searched = true;
	return false;
}

/*
 * A fault in the nested tables, for a page that the host has at hand. The instruction is executed again. What another is,
 * keel_exit_memory() need not find out again.
 */
static __always_inline bool keel_hot_fault(struct keel_vcpu *vcpu, u64 gpa, u32 access)
{
	/* Accesses to the client's memory are under its own PKRU. */
	if (unlikely(vcpu->vm->execution == KEEL_EXECUTION_TRAPPED || vcpu->switch_pkru))
		return false;
	vcpu->exit.fault = keel_mmu_fault_resident(vcpu, gpa, access);
	vcpu->exit.fault_known = vcpu->exit.fault != KEEL_MMU_RETRY;
	if (vcpu->exit.fault_known)
		return false;
	trace_keel_fault(vcpu->id, gpa, access, KEEL_MMU_RETRY);
	return true;
}

/* A store to the local APIC's EOI register, whose value means nothing; breakpoints on data are the emulator's. */
static __always_inline bool keel_hot_eoi(struct keel_vcpu *vcpu)
{
	if (unlikely(vcpu->st.dr7 & 0xff))
		return false;
	vcpu->nr_emulated++;
	keel_lapic_eoi(vcpu);
	return true;
}

#endif /* KEEL_HOT_H */
