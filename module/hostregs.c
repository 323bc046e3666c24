// SPDX-License-Identifier: GPL-2.0-only
/*
 * Host registers that neither vendor's world switch takes care of: the debug registers and TSC_AUX.
 *
 * Loaded with the guest's values when the window has opened, the host's again before it closes; interrupts are
 * off. Exits of both vendors leave DR7 disabled. SDM 3B, 18.2; APM 2, 13.1 and 15.5.1.
 */
#include <linux/kernel.h>
#include <asm/cpufeature.h>
#include <asm/msr-index.h>

#include "keel.h"

#define DR7_ENABLED	0xff

static bool has_tsc_aux(void)
{
	return boot_cpu_has(X86_FEATURE_RDTSCP) || boot_cpu_has(X86_FEATURE_RDPID);
}

static void debugregs_load(struct keel_vcpu *vcpu)
{
	bool debug = vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP;
	const u64 *dr = debug ? vcpu->debug_dr : vcpu->st.dr;
	u64 dr7 = debug ? vcpu->debug_dr7 : vcpu->st.dr7;
	struct keel_hostregs *host = &vcpu->host;
	unsigned long host_dr7;

	get_debugreg(host_dr7, 7);
	host->dr7 = host_dr7;
	host->dr_saved = dr7 & DR7_ENABLED;
	if (!host->dr_saved)
		return;
	get_debugreg(host->dr[0], 0);
	get_debugreg(host->dr[1], 1);
	get_debugreg(host->dr[2], 2);
	get_debugreg(host->dr[3], 3);
	/* The host's breakpoints must not fire on the guest's addresses between here and the entry. */
	set_debugreg(0UL, 7);
	set_debugreg(dr[0], 0);
	set_debugreg(dr[1], 1);
	set_debugreg(dr[2], 2);
	set_debugreg(dr[3], 3);
}

static void debugregs_restore(struct keel_vcpu *vcpu)
{
	struct keel_hostregs *host = &vcpu->host;

	if (host->dr_saved) {
		set_debugreg(host->dr[0], 0);
		set_debugreg(host->dr[1], 1);
		set_debugreg(host->dr[2], 2);
		set_debugreg(host->dr[3], 3);
		host->dr_saved = false;
	}
	if (host->dr7 & DR7_ENABLED)
		set_debugreg(host->dr7, 7);
}

/**
 * keel_hostregs_load() - put the guest's values in place
 * @vcpu: the vCPU, its window just opened
 */
void keel_hostregs_load(struct keel_vcpu *vcpu)
{
	debugregs_load(vcpu);
	if (has_tsc_aux()) {
		vcpu->host.tsc_aux = keel_rdmsr(MSR_TSC_AUX);
		if (vcpu->host.tsc_aux != vcpu->st.tsc_aux)
			keel_wrmsr(MSR_TSC_AUX, vcpu->st.tsc_aux);
	}
}

/**
 * keel_set_tsc_aux() - the guest or the client writes TSC_AUX
 * @vcpu: the vCPU, locked
 * @val: the new value
 */
void keel_set_tsc_aux(struct keel_vcpu *vcpu, u32 val)
{
	vcpu->st.tsc_aux = val;
	if (vcpu->in_window && has_tsc_aux())
		keel_wrmsr(MSR_TSC_AUX, val);
}

/**
 * keel_hostregs_restore() - put the host's values back
 * @vcpu: the vCPU, its window about to close
 */
void keel_hostregs_restore(struct keel_vcpu *vcpu)
{
	if (has_tsc_aux() && vcpu->host.tsc_aux != vcpu->st.tsc_aux)
		keel_wrmsr(MSR_TSC_AUX, vcpu->host.tsc_aux);
	debugregs_restore(vcpu);
}
