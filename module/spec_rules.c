// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which speculation defences apply on which host: one pure function, compiled for the host and tested there
 * with a table of CPUs (selftests/host/spec). Documentation/security.rst has the same as a table.
 *
 * Where the kernel has decided something by its boot parameters and shows it to modules, its decision
 * counts; where it does not, the CPU's bugs do. The defences after an exit that must not be skipped by a
 * mispredicted branch are patched into the switch code by the kernel's own feature bits (compat_asm.h); the
 * decision here names them for the log and has no power over them.
 *
 * No locks: pure. SDM 3A, 2.8 and Intel's guidance on each issue; APM 2, 3.2.9 and 15.37.
 */
#include "spec_rules.h"

static enum keel_rsb rsb(const struct keel_spec_cpu *cpu)
{
	if (!cpu->vmx)
		return cpu->retpoline ? KEEL_RSB_FULL : KEEL_RSB_NONE;
	/* Enhanced IBRS protects the return stack itself; some of those CPUs need one call retired first. */
	if (cpu->rsb_vmexit_lite)
		return KEEL_RSB_LITE;
	return cpu->rsb_vmexit ? KEEL_RSB_FULL : KEEL_RSB_NONE;
}

/*
 * MMIO stale data asks for it only if a guest can reach MMIO of the host. Keel does not know what the client's
 * mappings are, so every guest counts.
 */
static bool verw(const struct keel_spec_cpu *cpu)
{
	if (cpu->clear_buf_vm)
		return true;
	if (!cpu->vmx)
		return false;
	return cpu->clear_buf || (cpu->bug_mmio && !cpu->off && (cpu->md_clear || cpu->fb_clear));
}

static enum keel_l1d l1d(const struct keel_spec_cpu *cpu, enum keel_l1d asked)
{
	if (!cpu->vmx || !cpu->bug_l1tf || cpu->skip_l1dfl)
		return KEEL_L1D_NEVER;
	if (asked == KEEL_L1D_AUTO)
		return cpu->off ? KEEL_L1D_NEVER : KEEL_L1D_COND;
	return asked;
}

/**
 * keel_spec_decide() - which defences apply
 * @cpu: the facts
 * @asked: the administrator's wish for the L1 data cache, which counts only on CPUs with L1TF
 *
 * Return: the decision
 */
struct keel_spec keel_spec_decide(const struct keel_spec_cpu *cpu, enum keel_l1d asked)
{
	struct keel_spec spec = {
		.hw_ctrl = !cpu->vmx && cpu->spec_ctrl && cpu->v_spec_ctrl,
		.rsb = rsb(cpu),
		.untrain = !cpu->vmx && cpu->unret,
		.ibpb_exit = !cpu->vmx && cpu->ibpb && (cpu->entry_ibpb || cpu->ibpb_on_vmexit),
		.ibpb_user = cpu->ibpb && cpu->ibpb_to_user,
		.bhb = cpu->vmx && cpu->bhb_vmexit,
		.verw = verw(cpu),
		.l1d = l1d(cpu, asked),
	};

	spec.switch_ctrl = cpu->spec_ctrl && !spec.hw_ctrl;
	/* Only the write of IBRS separates the predictor modes on CPUs with legacy IBRS. */
	spec.write_ctrl = cpu->vmx && spec.switch_ctrl && cpu->kernel_ibrs;
	/* An IBPB at every exit leaves nothing for the next vCPU to find. */
	spec.ibpb_vcpu = cpu->ibpb && cpu->use_ibpb && !cpu->off && !spec.ibpb_exit;
	spec.l1tf_open = cpu->vmx && cpu->bug_l1tf && !cpu->skip_l1dfl && spec.l1d == KEEL_L1D_NEVER;
	spec.l1d_msr = spec.l1d != KEEL_L1D_NEVER && cpu->flush_l1d;
	return spec;
}
