// SPDX-License-Identifier: GPL-2.0-only
/*
 * Speculation defences around a guest: gathers the facts for spec_rules.c and carries out what is not
 * assembly.
 *
 * What belongs to the very moment of an entry or an exit (SPEC_CTRL, VERW, the return stack, the branch
 * history, untraining) is in the vendors' switch.S. Here are the barrier between two vCPUs on one CPU, the
 * flush of the L1 data cache, and the guest's own SPEC_CTRL, PRED_CMD and FLUSH_CMD. What applies is decided
 * once, when the module is loaded: the kernel decides at boot.
 *
 * Locks: none; the hooks run inside the window on the CPU concerned. Documentation/security.rst has the
 * threats and the table; SDM 3A, 2.8 "Speculation control"; APM 2, 3.2.9.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/gfp.h>
#include <linux/moduleparam.h>
#include <linux/percpu.h>
#include <linux/string.h>
#include <asm/barrier.h>
#include <asm/cpufeature.h>
#include <asm/msr-index.h>

#include "ops.h"

/* Twice as much as the largest L1 data cache with L1TF: whatever it replaces, it ends up with this. */
#define L1D_ORDER	4
#define L1D_SIZE	(PAGE_SIZE << L1D_ORDER)
#define CACHE_LINE	64

/* spec_test */
#define TEST_VERW	BIT(0)
#define TEST_BHB	BIT(1)
#define TEST_L1D	BIT(2)
#define TEST_ALL	(TEST_VERW | TEST_BHB | TEST_L1D)

static_assert(offsetof(struct keel_spec_switch, flags) == KEEL_SPEC_FLAGS);
static_assert(offsetof(struct keel_spec_switch, guest) == KEEL_SPEC_GUEST);
static_assert(offsetof(struct keel_spec_switch, host) == KEEL_SPEC_HOST);

static uint spec_test;
module_param(spec_test, uint, 0444);
MODULE_PARM_DESC(spec_test, "for tests: defences not needed here: 1 VERW, 2 branch history (Intel), 4 L1 flush");

static bool ibpb_switch = true;
module_param(ibpb_switch, bool, 0444);
MODULE_PARM_DESC(ibpb_switch, "branch prediction barrier between two vCPUs on one CPU, where the host has it");

static const char *const l1d_names[] = { "auto", "never", "cond", "always" };
static enum keel_l1d l1d_asked = KEEL_L1D_AUTO;

/* Read-only once decided: the copies of it in the vCPUs would not follow. */
static int l1d_set(const char *val, const struct kernel_param *param)
{
	int i = sysfs_match_string(l1d_names, val);

	if (i < 0)
		return i;
	l1d_asked = i;
	return 0;
}

static int l1d_get(char *buf, const struct kernel_param *param)
{
	bool needless = keel_spec.l1d == KEEL_L1D_NEVER && !keel_spec.l1tf_open;

	return sprintf(buf, "%s\n", needless ? "not required" : l1d_names[keel_spec.l1d]);
}

static const struct kernel_param_ops l1d_ops = { .set = l1d_set, .get = l1d_get };
module_param_cb(vmentry_l1d_flush, &l1d_ops, NULL, 0444);
MODULE_PARM_DESC(vmentry_l1d_flush, "L1 data cache flush, if the CPU has L1TF: auto, never, cond or always (Intel)");

struct keel_spec keel_spec __ro_after_init;
static u8 *l1d_pages __ro_after_init;
static u32 start_flags __ro_after_init;	/* sw.flags of a new vCPU */
static atomic64_t last_serial = ATOMIC64_INIT(0);
static DEFINE_PER_CPU(u64, spec_serial);	/* whose guest ran last here, 0: none */

static void gather(struct keel_spec_cpu *cpu)
{
	u64 arch_cap = 0;

	if (boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES) && keel_rdmsr_safe(MSR_IA32_ARCH_CAPABILITIES, &arch_cap))
		arch_cap = 0;
	cpu->off = keel_host_mitigations_off();
	cpu->spec_ctrl = boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL);
	cpu->v_spec_ctrl = boot_cpu_has(X86_FEATURE_V_SPEC_CTRL);
	cpu->ibpb = boot_cpu_has(X86_FEATURE_IBPB);
	cpu->flush_l1d = boot_cpu_has(X86_FEATURE_FLUSH_L1D);
	cpu->md_clear = boot_cpu_has(X86_FEATURE_MD_CLEAR);
	cpu->fb_clear = arch_cap & ARCH_CAP_FB_CLEAR;
	cpu->skip_l1dfl = arch_cap & ARCH_CAP_SKIP_VMENTRY_L1DFLUSH;
	cpu->bug_l1tf = boot_cpu_has_bug(X86_BUG_L1TF);
	cpu->bug_mmio = boot_cpu_has_bug(X86_BUG_MMIO_STALE_DATA);
	cpu->use_ibpb = keel_host_uses_ibpb();
	cpu->kernel_ibrs = boot_cpu_has(X86_FEATURE_KERNEL_IBRS);
	cpu->retpoline = boot_cpu_has(X86_FEATURE_RETPOLINE);
	cpu->rsb_vmexit = boot_cpu_has(X86_FEATURE_RSB_VMEXIT);
	cpu->rsb_vmexit_lite = boot_cpu_has(X86_FEATURE_RSB_VMEXIT_LITE);
	cpu->unret = boot_cpu_has(X86_FEATURE_UNRET) || keel_host_untrains_by_alias();
	cpu->entry_ibpb = boot_cpu_has(X86_FEATURE_ENTRY_IBPB);
	cpu->ibpb_on_vmexit = keel_host_wants_exit_ibpb();
	cpu->bhb_vmexit = keel_host_wants_bhb_clear();
	cpu->clear_buf = keel_host_clears_buffers();
	cpu->clear_buf_vm = keel_host_wants_entry_verw();
	cpu->ibpb_to_user = keel_host_wants_user_ibpb();
}

/* Pages of their own content: zero pages might be one page, whose lines fill nothing. */
static int alloc_l1d_pages(void)
{
	unsigned int i;

	l1d_pages = (void *)__get_free_pages(GFP_KERNEL, L1D_ORDER);
	if (!l1d_pages)
		return -ENOMEM;
	for (i = 0; i < BIT(L1D_ORDER); i++)
		memset(l1d_pages + i * PAGE_SIZE, i + 1, PAGE_SIZE);
	return 0;
}

static void announce(void)
{
	const struct keel_spec *s = &keel_spec;

	pr_info("speculation: SPEC_CTRL %s, return stack %s, L1 flush %s%s%s%s%s%s%s\n",
		s->hw_ctrl ? "by the CPU" : s->switch_ctrl ? "switched" : "absent",
		s->rsb == KEEL_RSB_FULL ? "filled" : s->rsb == KEEL_RSB_LITE ? "one call" : "left",
		l1d_names[s->l1d],
		s->verw ? ", VERW" : "", s->bhb ? ", branch history" : "", s->untrain ? ", untraining" : "",
		s->ibpb_vcpu ? ", IBPB between vCPUs" : "", s->ibpb_exit ? ", IBPB at exits" : "",
		s->ibpb_user ? ", IBPB before user mode" : "");
	if (spec_test)
		pr_info("speculation: defences forced by spec_test=%#x\n", spec_test);
}

/**
 * keel_spec_setup() - decide which defences apply; once, by the backend that was found
 * @vmx: it is VMX
 *
 * Return: 0, -ENOMEM
 */
int keel_spec_setup(bool vmx)
{
	struct keel_spec_cpu cpu = { .vmx = vmx };

	gather(&cpu);
	keel_spec = keel_spec_decide(&cpu, l1d_asked);
	keel_spec.ibpb_vcpu &= ibpb_switch;
	if (spec_test & ~TEST_ALL)
		pr_warn("spec_test=%#x has bits that mean nothing\n", spec_test);
	if (spec_test & TEST_L1D) {
		keel_spec.l1d = l1d_asked == KEEL_L1D_ALWAYS ? KEEL_L1D_ALWAYS : KEEL_L1D_COND;
		keel_spec.l1d_msr = false;
	}
	start_flags = (keel_spec.verw || (spec_test & TEST_VERW) ? KEEL_SPEC_VERW : 0) |
		      (keel_spec.write_ctrl ? KEEL_SPEC_WRITE : 0) |
		      (spec_test & TEST_BHB ? KEEL_SPEC_BHB : 0);
	announce();
	if (keel_spec.l1tf_open)
		pr_warn("this CPU has L1TF and its flush is switched off: guests can read what the host caches\n");
	return keel_spec.l1d != KEEL_L1D_NEVER && !keel_spec.l1d_msr ? alloc_l1d_pages() : 0;
}

/**
 * keel_spec_cleanup() - undo keel_spec_setup()
 */
void keel_spec_cleanup(void)
{
	free_pages((unsigned long)l1d_pages, L1D_ORDER);
}

/**
 * keel_spec_create() - a new vCPU
 * @vcpu: it
 */
void keel_spec_create(struct keel_vcpu *vcpu)
{
	vcpu->spec.sw.flags = start_flags;
	vcpu->spec.serial = atomic64_inc_return(&last_serial);
}

/**
 * keel_spec_window_open() - this CPU is about to run that vCPU
 * @vcpu: the vCPU; interrupts off
 *
 * The host's SPEC_CTRL follows the task, so it stays what it is until the window closes.
 */
void keel_spec_window_open(struct keel_vcpu *vcpu)
{
	struct keel_spec_vcpu *spec = &vcpu->spec;

	if (keel_spec.ibpb_vcpu && this_cpu_read(spec_serial) != spec->serial) {
		this_cpu_write(spec_serial, spec->serial);
		keel_wrmsr(MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
	}
	if (keel_spec.switch_ctrl)
		spec->sw.host = this_cpu_read(x86_spec_ctrl_current);
	if (keel_spec.l1d != KEEL_L1D_NEVER)
		spec->sw.flags |= KEEL_SPEC_L1D;
}

/**
 * keel_spec_window_close() - the guest has run, and its client may be next on this CPU
 * @vcpu: the vCPU; interrupts off
 */
void keel_spec_window_close(struct keel_vcpu *vcpu)
{
	if (keel_spec.ibpb_user)
		keel_ibpb_before_user();
}

/**
 * keel_spec_flush_l1d() - empty the L1 data cache of what the host has touched
 * @vcpu: the vCPU, inside its window, with KEEL_SPEC_L1D set
 *
 * Inside a window the handlers of hot exits touch the vCPU's own data and that of its devices; so "cond" flushes
 * before the first entry only, and "always" before each.
 */
void keel_spec_flush_l1d(struct keel_vcpu *vcpu)
{
	unsigned int i;

	if (keel_spec.l1d == KEEL_L1D_COND)
		vcpu->spec.sw.flags &= ~KEEL_SPEC_L1D;
	if (keel_spec.l1d_msr) {
		keel_wrmsr(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
		return;
	}
	/* Page walks read page tables through the cache: they are all done before the lines are read. */
	for (i = 0; i < L1D_SIZE; i += PAGE_SIZE)
		READ_ONCE(l1d_pages[i]);
	cpuid_eax(0);	/* serializes */
	for (i = 0; i < L1D_SIZE; i += CACHE_LINE)
		READ_ONCE(l1d_pages[i]);
	rmb();
}

/* The bits of SPEC_CTRL that guests are told of. */
static u64 ctrl_valid(void)
{
	bool ssbd = boot_cpu_has(X86_FEATURE_SPEC_CTRL_SSBD) || boot_cpu_has(X86_FEATURE_AMD_SSBD);

	return (boot_cpu_has(X86_FEATURE_IBRS) ? SPEC_CTRL_IBRS : 0) |
	       (boot_cpu_has(X86_FEATURE_STIBP) ? SPEC_CTRL_STIBP : 0) | (ssbd ? SPEC_CTRL_SSBD : 0);
}

/**
 * keel_spec_set_ctrl() - the guest or the client writes SPEC_CTRL
 * @vcpu: the vCPU, locked
 * @val: the value
 *
 * After the first value that is not zero the guest writes it without an exit, and each exit costs a RDMSR.
 *
 * Return: 0; -EINVAL a bit that this CPU does not have, or no such MSR
 */
int keel_spec_set_ctrl(struct keel_vcpu *vcpu, u64 val)
{
	if (!boot_cpu_has(X86_FEATURE_MSR_SPEC_CTRL) || (val & ~ctrl_valid()))
		return -EINVAL;
	vcpu->spec.sw.guest = val;
	if (val && !vcpu->spec.ctrl_direct) {
		vcpu->spec.ctrl_direct = true;
		vcpu->spec.sw.flags |= KEEL_SPEC_SAVE;
		keel_ops->vcpu_update(vcpu, KEEL_UPDATE_INTERCEPTS);
	}
	return 0;
}

/**
 * keel_spec_set_pred_cmd() - the guest or the client writes PRED_CMD: a barrier on this CPU, now
 * @vcpu: the vCPU, locked
 * @val: the value
 *
 * A client's barrier has no use but a guest's is passed on, and after the first one without an exit.
 *
 * Return: 0; -EINVAL a bit that is not IBPB, or no such MSR
 */
int keel_spec_set_pred_cmd(struct keel_vcpu *vcpu, u64 val)
{
	if ((val & ~(u64)PRED_CMD_IBPB) || !boot_cpu_has(X86_FEATURE_IBPB))
		return -EINVAL;
	if (!val)
		return 0;
	keel_wrmsr(MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
	if (!vcpu->spec.pred_direct) {
		vcpu->spec.pred_direct = true;
		keel_ops->vcpu_update(vcpu, KEEL_UPDATE_INTERCEPTS);
	}
	return 0;
}

/**
 * keel_spec_set_flush_cmd() - the guest or the client writes FLUSH_CMD
 * @val: the value
 *
 * Return: 0; -EINVAL a bit that is not L1D_FLUSH, or no such MSR
 */
int keel_spec_set_flush_cmd(u64 val)
{
	if ((val & ~(u64)L1D_FLUSH) || !boot_cpu_has(X86_FEATURE_FLUSH_L1D))
		return -EINVAL;
	if (val)
		keel_wrmsr(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
	return 0;
}
