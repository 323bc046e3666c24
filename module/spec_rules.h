/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which speculation defences a host needs around a guest: facts in, decision out. Pure; see spec_rules.c.
 */
#ifndef KEEL_SPEC_RULES_H
#define KEEL_SPEC_RULES_H

#include <linux/types.h>

/* When the L1 data cache is flushed; AUTO is only asked for, never decided. */
enum keel_l1d { KEEL_L1D_AUTO, KEEL_L1D_NEVER, KEEL_L1D_COND, KEEL_L1D_ALWAYS };

/* How the return stack is filled after an exit. */
enum keel_rsb { KEEL_RSB_NONE, KEEL_RSB_LITE, KEEL_RSB_FULL };

/**
 * struct keel_spec_cpu - what the CPU has and what the host kernel decided
 * @vmx: the backend is VMX, else SVM
 * @off: mitigations=off
 * @spec_ctrl: the CPU has SPEC_CTRL
 * @v_spec_ctrl: SVM switches SPEC_CTRL itself
 * @ibpb: the CPU has PRED_CMD.IBPB
 * @flush_l1d: the CPU has FLUSH_CMD
 * @md_clear: VERW clears buffers on this CPU
 * @fb_clear: VERW clears fill buffers on this CPU (ARCH_CAPABILITIES.FB_CLEAR)
 * @skip_l1dfl: ARCH_CAPABILITIES.SKIP_VMENTRY_L1DFLUSH: the hypervisor below flushes
 * @bug_l1tf: X86_BUG_L1TF
 * @bug_mmio: X86_BUG_MMIO_STALE_DATA
 * @use_ibpb: the kernel uses IBPBs between tasks, or does not say and the CPU has Spectre v2
 * @kernel_ibrs: the kernel writes IBRS at its entries
 * @retpoline: the kernel uses retpolines
 * @rsb_vmexit: the kernel wants the return stack filled after an exit
 * @rsb_vmexit_lite: the kernel wants one call retired after an exit
 * @unret: the kernel untrains return predictions at its entries (retbleed, SRSO)
 * @entry_ibpb: the kernel issues an IBPB at its entries
 * @ibpb_on_vmexit: the kernel wants an IBPB at exits
 * @bhb_vmexit: the kernel wants the branch history cleared after an exit
 * @clear_buf: the kernel clears buffers with VERW when it returns to user mode (MDS, TAA, RFDS)
 * @clear_buf_vm: the kernel wants VERW before entries (TSA and newer kernels)
 * @ibpb_to_user: the kernel wants an IBPB between a guest and its client (VMSCAPE)
 */
struct keel_spec_cpu {
	bool vmx, off;
	bool spec_ctrl, v_spec_ctrl, ibpb, flush_l1d, md_clear, fb_clear, skip_l1dfl;
	bool bug_l1tf, bug_mmio;
	bool use_ibpb, kernel_ibrs, retpoline, rsb_vmexit, rsb_vmexit_lite, unret, entry_ibpb, ibpb_on_vmexit;
	bool bhb_vmexit, clear_buf, clear_buf_vm, ibpb_to_user;
};

/**
 * struct keel_spec - which defences apply
 * @switch_ctrl: SPEC_CTRL is switched in software around each entry
 * @hw_ctrl: SPEC_CTRL is switched by the CPU
 * @write_ctrl: the host's SPEC_CTRL is written after each exit, changed or not
 * @ibpb_vcpu: an IBPB when a CPU goes from one vCPU to another
 * @ibpb_exit: an IBPB after each exit
 * @ibpb_user: an IBPB between a guest and user mode
 * @rsb: return-stack filling after an exit
 * @untrain: return predictions are untrained after an exit
 * @bhb: the branch history is cleared after an exit
 * @verw: VERW before each entry
 * @l1d: L1 data cache flush before entries
 * @l1d_msr: by FLUSH_CMD, else by reading a buffer
 * @l1tf_open: the CPU has L1TF and nothing is done about it
 */
struct keel_spec {
	bool switch_ctrl, hw_ctrl, write_ctrl;
	bool ibpb_vcpu, ibpb_exit, ibpb_user;
	enum keel_rsb rsb;
	bool untrain, bhb, verw;
	enum keel_l1d l1d;
	bool l1d_msr, l1tf_open;
};

struct keel_spec keel_spec_decide(const struct keel_spec_cpu *cpu, enum keel_l1d l1d);

#endif /* KEEL_SPEC_RULES_H */
