// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which speculation defences apply on which CPU.
 *
 * Each row is a CPU with current microcode under a current kernel without boot parameters, as that kernel sees
 * it, and what in-tree KVM does there; then rows for boot parameters and for old microcode. The facts of a row
 * are the kernel's own lists (arch/x86/kernel/cpu/common.c, bugs.c), the defences those of KVM.
 */
#include "spec_rules.h"
#include "tap.h"

struct row {
	const char *name;
	struct keel_spec_cpu cpu;
	enum keel_l1d asked;
	struct keel_spec want;
};

#define MSRS	.spec_ctrl = true, .ibpb = true, .use_ibpb = true
#define SWITCH	.switch_ctrl = true, .ibpb_vcpu = true

static const struct row rows[] = {
	{ .name = "Haswell: retpolines, L1TF, MDS, legacy IBRS unused, VMSCAPE",
	  .cpu = { .vmx = true, MSRS, .flush_l1d = true, .md_clear = true, .bug_l1tf = true, .retpoline = true,
		   .rsb_vmexit = true, .clear_buf = true, .ibpb_to_user = true },
	  .want = { SWITCH, .rsb = KEEL_RSB_FULL, .verw = true, .l1d = KEEL_L1D_COND, .l1d_msr = true,
		    .ibpb_user = true } },
	{ .name = "Haswell without microcode: no MSRs, buffer flush",
	  .cpu = { .vmx = true, .bug_l1tf = true, .retpoline = true, .rsb_vmexit = true, .clear_buf = true },
	  .want = { .rsb = KEEL_RSB_FULL, .verw = true, .l1d = KEEL_L1D_COND } },
	{ .name = "Skylake: retbleed makes the kernel write IBRS",
	  .cpu = { .vmx = true, MSRS, .flush_l1d = true, .md_clear = true, .fb_clear = true, .bug_l1tf = true,
		   .bug_mmio = true, .kernel_ibrs = true, .rsb_vmexit = true, .clear_buf = true,
		   .ibpb_to_user = true },
	  .want = { SWITCH, .write_ctrl = true, .rsb = KEEL_RSB_FULL, .verw = true, .l1d = KEEL_L1D_COND,
		    .l1d_msr = true, .ibpb_user = true } },
	{ .name = "Cascade Lake: enhanced IBRS, BHB loop, TAA",
	  .cpu = { .vmx = true, MSRS, .flush_l1d = true, .md_clear = true, .fb_clear = true, .bug_mmio = true,
		   .rsb_vmexit_lite = true, .bhb_vmexit = true, .clear_buf = true, .ibpb_to_user = true },
	  .want = { SWITCH, .rsb = KEEL_RSB_LITE, .bhb = true, .verw = true, .ibpb_user = true } },
	{ .name = "Ice Lake: MMIO stale data only",
	  .cpu = { .vmx = true, MSRS, .flush_l1d = true, .md_clear = true, .fb_clear = true, .bug_mmio = true,
		   .rsb_vmexit_lite = true, .bhb_vmexit = true },
	  .want = { SWITCH, .rsb = KEEL_RSB_LITE, .bhb = true, .verw = true } },
	{ .name = "Alder Lake: BHI_DIS_S, RFDS",
	  .cpu = { .vmx = true, MSRS, .flush_l1d = true, .md_clear = true, .fb_clear = true,
		   .rsb_vmexit_lite = true, .clear_buf = true, .ibpb_to_user = true },
	  .want = { SWITCH, .rsb = KEEL_RSB_LITE, .verw = true, .ibpb_user = true } },
	{ .name = "Sapphire Rapids: nothing but MSRs, and SPEC_CTRL holds BHI_DIS_S",
	  .cpu = { .vmx = true, MSRS, .flush_l1d = true, .md_clear = true, .fb_clear = true },
	  .want = { SWITCH } },
	{ .name = "Zen 1: untrained returns, no SPEC_CTRL",
	  .cpu = { .ibpb = true, .use_ibpb = true, .retpoline = true, .rsb_vmexit = true, .unret = true,
		   .ibpb_to_user = true },
	  .want = { .ibpb_vcpu = true, .rsb = KEEL_RSB_FULL, .untrain = true, .ibpb_user = true } },
	{ .name = "Zen 2",
	  .cpu = { MSRS, .retpoline = true, .rsb_vmexit = true, .unret = true, .ibpb_to_user = true },
	  .want = { SWITCH, .rsb = KEEL_RSB_FULL, .untrain = true, .ibpb_user = true } },
	{ .name = "Zen 3: SRSO by alias, TSA, SPEC_CTRL in the VMCB",
	  .cpu = { MSRS, .v_spec_ctrl = true, .retpoline = true, .rsb_vmexit = true, .unret = true,
		   .clear_buf = true, .clear_buf_vm = true, .ibpb_to_user = true },
	  .want = { .hw_ctrl = true, .ibpb_vcpu = true, .rsb = KEEL_RSB_FULL, .untrain = true, .verw = true,
		    .ibpb_user = true } },
	{ .name = "Zen 4: automatic IBRS",
	  .cpu = { MSRS, .v_spec_ctrl = true, .unret = true, .clear_buf = true, .clear_buf_vm = true,
		   .ibpb_to_user = true },
	  .want = { .hw_ctrl = true, .ibpb_vcpu = true, .untrain = true, .verw = true, .ibpb_user = true } },
	{ .name = "QEMU's max under TCG",
	  .cpu = { .retpoline = true, .rsb_vmexit = true },
	  .want = { .rsb = KEEL_RSB_FULL } },
	{ .name = "Bochs' Haswell: no MSRs",
	  .cpu = { .vmx = true, .bug_l1tf = true, .retpoline = true, .rsb_vmexit = true, .clear_buf = true },
	  .want = { .rsb = KEEL_RSB_FULL, .verw = true, .l1d = KEEL_L1D_COND } },

	{ .name = "L1TF, flush at every entry",
	  .cpu = { .vmx = true, .bug_l1tf = true }, .asked = KEEL_L1D_ALWAYS, .want = { .l1d = KEEL_L1D_ALWAYS } },
	{ .name = "L1TF, flush switched off",
	  .cpu = { .vmx = true, .bug_l1tf = true, .flush_l1d = true }, .asked = KEEL_L1D_NEVER,
	  .want = { .l1d = KEEL_L1D_NEVER, .l1tf_open = true } },
	{ .name = "L1TF, flushed by the hypervisor below",
	  .cpu = { .vmx = true, .bug_l1tf = true, .skip_l1dfl = true }, .asked = KEEL_L1D_ALWAYS,
	  .want = { .l1d = KEEL_L1D_NEVER } },
	{ .name = "mitigations=off",
	  .cpu = { .vmx = true, .off = true, MSRS, .bug_l1tf = true, .bug_mmio = true, .md_clear = true },
	  .want = { .switch_ctrl = true, .l1tf_open = true } },
	{ .name = "mitigations=off, but a flush asked for",
	  .cpu = { .vmx = true, .off = true, .bug_l1tf = true }, .asked = KEEL_L1D_COND,
	  .want = { .l1d = KEEL_L1D_COND } },
	{ .name = "no L1TF, flush asked for",
	  .cpu = { .vmx = true, .flush_l1d = true }, .asked = KEEL_L1D_ALWAYS, .want = { .l1d = KEEL_L1D_NEVER } },
	{ .name = "AMD has no L1TF",
	  .cpu = { .bug_l1tf = true }, .asked = KEEL_L1D_ALWAYS, .want = { .l1d = KEEL_L1D_NEVER } },
	{ .name = "MMIO stale data, VERW clears nothing",
	  .cpu = { .vmx = true, .bug_mmio = true }, .want = { .verw = false } },
	{ .name = "spectre_v2_user=off",
	  .cpu = { .vmx = true, .spec_ctrl = true, .ibpb = true }, .want = { .switch_ctrl = true } },
	{ .name = "retbleed=ibpb on Zen 2: a barrier at each exit is one between vCPUs",
	  .cpu = { MSRS, .entry_ibpb = true }, .want = { .switch_ctrl = true, .ibpb_exit = true } },
	{ .name = "spec_rstack_overflow=ibpb-vmexit on Zen 3",
	  .cpu = { MSRS, .v_spec_ctrl = true, .retpoline = true, .ibpb_on_vmexit = true },
	  .want = { .hw_ctrl = true, .ibpb_exit = true, .rsb = KEEL_RSB_FULL } },
	{ .name = "VMX takes no notice of what is AMD's",
	  .cpu = { .vmx = true, MSRS, .v_spec_ctrl = true, .unret = true, .entry_ibpb = true },
	  .want = { SWITCH } },
	{ .name = "SVM takes no notice of what is Intel's",
	  .cpu = { MSRS, .kernel_ibrs = true, .rsb_vmexit_lite = true, .bhb_vmexit = true, .clear_buf = true },
	  .want = { SWITCH } },
	{ .name = "nothing on a CPU with nothing", .cpu = { .vmx = true }, .want = { .switch_ctrl = false } },
};

static void table(void)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		struct keel_spec have = keel_spec_decide(&r->cpu, r->asked), want = r->want;

		/* "never" is what is left to the default in most rows */
		if (want.l1d == KEEL_L1D_AUTO)
			want.l1d = KEEL_L1D_NEVER;
		printf("# %s\n", r->name);
		CHECK_EQ(have.switch_ctrl, want.switch_ctrl);
		CHECK_EQ(have.hw_ctrl, want.hw_ctrl);
		CHECK_EQ(have.write_ctrl, want.write_ctrl);
		CHECK_EQ(have.ibpb_vcpu, want.ibpb_vcpu);
		CHECK_EQ(have.ibpb_exit, want.ibpb_exit);
		CHECK_EQ(have.ibpb_user, want.ibpb_user);
		CHECK_EQ(have.rsb, want.rsb);
		CHECK_EQ(have.untrain, want.untrain);
		CHECK_EQ(have.bhb, want.bhb);
		CHECK_EQ(have.verw, want.verw);
		CHECK_EQ(have.l1d, want.l1d);
		CHECK_EQ(have.l1d_msr, want.l1d_msr);
		CHECK_EQ(have.l1tf_open, want.l1tf_open);
	}
}

/* Whatever the facts: what needs an MSR is not done without it, and nothing is both hardware's and software's. */
static void invariants(void)
{
	for (unsigned int bits = 0; bits < 1u << sizeof(struct keel_spec_cpu); bits++) {
		struct keel_spec_cpu cpu;
		struct keel_spec s;
		bool *fact = (bool *)&cpu;

		for (size_t i = 0; i < sizeof(cpu); i++)
			fact[i] = bits >> i & 1;
		s = keel_spec_decide(&cpu, KEEL_L1D_AUTO);
		if ((s.switch_ctrl && s.hw_ctrl) || (!cpu.spec_ctrl && (s.switch_ctrl || s.hw_ctrl || s.write_ctrl)) ||
		    (!cpu.ibpb && (s.ibpb_vcpu || s.ibpb_exit || s.ibpb_user)) || (!cpu.flush_l1d && s.l1d_msr) ||
		    s.l1d == KEEL_L1D_AUTO || (s.l1tf_open && !cpu.off)) {
			CHECK_EQ(bits, ~0u);
			return;
		}
	}
}

TESTS(TEST(table), TEST(invariants));
