// SPDX-License-Identifier: GPL-2.0-only
/*
 * What this CPU's VMX can do, what the parameters leave of it, and the EPT entry format.
 *
 * One table says which controls are required, which are used when they are there, which are switched as a
 * guest runs, and which must be off. SDM 3D, appendix A (capability MSRs); 3C, 25.6 to 25.8 (controls)
 * and 29.3 (EPT).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/math64.h>
#include <linux/module.h>
#include <asm/cpufeature.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>
#include <asm/tsc.h>

#include "vmx.h"

static bool ept = true;
module_param(ept, bool, 0444);
MODULE_PARM_DESC(ept, "use extended page tables, not shadow paging (Intel)");

static bool vpid = true;
module_param(vpid, bool, 0444);
MODULE_PARM_DESC(vpid, "tag translations with a virtual processor id (Intel)");

static bool eptad = true;
module_param(eptad, bool, 0444);
MODULE_PARM_DESC(eptad, "use accessed and dirty bits of extended page tables (Intel)");

static bool tpr_shadow = true;
module_param(tpr_shadow, bool, 0444);
MODULE_PARM_DESC(tpr_shadow, "let the guest access its task priority without an exit (Intel)");

static bool apic_access = true;
module_param(apic_access, bool, 0444);
MODULE_PARM_DESC(apic_access, "let the CPU know accesses to the local APIC, needs tpr_shadow (Intel)");

static bool apic_regs = true;
module_param(apic_regs, bool, 0444);
MODULE_PARM_DESC(apic_regs, "let the CPU read local APIC registers, needs apic_access (Intel)");

static bool vintr;	/* off: Documentation/untested.rst */
module_param(vintr, bool, 0444);
MODULE_PARM_DESC(vintr, "let the CPU deliver virtual interrupts, needs apic_regs (Intel; off by default, see Documentation/untested.rst)");

static bool preemption_timer = true;
module_param(preemption_timer, bool, 0444);
MODULE_PARM_DESC(preemption_timer, "use the VMX preemption timer (Intel)");

static unsigned int turn_us;	/* off: for emulated CPUs, see Documentation/testhost.rst */
module_param(turn_us, uint, 0444);
MODULE_PARM_DESC(turn_us, "end a guest's turn after so many microseconds even if the host has no interrupt, 0: never, needs preemption_timer (Intel)");

struct vmx_caps vmx_caps __ro_after_init;

/*
 * A guest page is write-back memory whatever the guest's PAT says (bit 6, "ignore PAT"): there is no
 * device behind it that does not snoop caches.
 */
struct keel_pte_format vmx_pte_format __ro_after_init = {
	.present = BIT_ULL(0) | BIT_ULL(2),
	.write = BIT_ULL(1),
	.exec = BIT_ULL(2),
	.large = BIT_ULL(7),
	.table = BIT_ULL(0) | BIT_ULL(1) | BIT_ULL(2),
	.memtype_wb = 6ULL << 3 | BIT_ULL(6),
	.memtype_uc = 0,
	.levels = 4,
	.max_leaf = 1,
};

enum need {
	REQUIRED,	/* always on; without it no guest runs */
	OPTIONAL,	/* always on where it exists */
	SWITCHED,	/* must exist, is switched as a guest runs */
	SWITCHED_OPT,	/* as SWITCHED, but may be missing */
	OFF,		/* it must be possible to leave it off */
	NESTED,		/* REQUIRED with nested paging, OFF with shadow paging */
	SHADOWED,	/* the other way round */
};

struct control {
	enum vmx_ctl word;
	u32 bit;
	enum need need;
	const char *name;	/* as the SDM has it */
	const bool *param;	/* switches it off */
};

static const struct control controls[] = {
	{ VMX_PIN, VMX_PIN_EXT_INTR, REQUIRED, "external-interrupt exiting" },
	{ VMX_PIN, VMX_PIN_NMI, REQUIRED, "NMI exiting" },
	{ VMX_PIN, VMX_PIN_VNMI, REQUIRED, "virtual NMIs" },
	{ VMX_PIN, VMX_PIN_TIMER, SWITCHED_OPT, "VMX-preemption timer", &preemption_timer },

	{ VMX_CPU, VMX_CPU_SECONDARY, REQUIRED, "secondary controls" },
	{ VMX_CPU, VMX_CPU_TSC_OFFSET, REQUIRED, "TSC offsetting" },
	{ VMX_CPU, VMX_CPU_MWAIT, SWITCHED, "MWAIT exiting" },
	{ VMX_CPU, VMX_CPU_MONITOR, SWITCHED, "MONITOR exiting" },
	{ VMX_CPU, VMX_CPU_RDPMC, REQUIRED, "RDPMC exiting" },
	{ VMX_CPU, VMX_CPU_MOV_DR, REQUIRED, "MOV-DR exiting" },
	{ VMX_CPU, VMX_CPU_IO_BITMAPS, REQUIRED, "I/O bitmaps" },
	{ VMX_CPU, VMX_CPU_MSR_BITMAP, REQUIRED, "MSR bitmaps" },
	{ VMX_CPU, VMX_CPU_HLT, SWITCHED, "HLT exiting" },
	{ VMX_CPU, VMX_CPU_INTR_WINDOW, SWITCHED, "interrupt-window exiting" },
	{ VMX_CPU, VMX_CPU_NMI_WINDOW, SWITCHED, "NMI-window exiting" },
	{ VMX_CPU, VMX_CPU_CR8_LOAD, SWITCHED, "CR8-load exiting" },
	{ VMX_CPU, VMX_CPU_CR8_STORE, SWITCHED, "CR8-store exiting" },
	{ VMX_CPU, VMX_CPU_TPR_SHADOW, SWITCHED_OPT, "TPR shadow", &tpr_shadow },
	{ VMX_CPU, VMX_CPU_INVLPG, SHADOWED, "INVLPG exiting" },
	{ VMX_CPU, VMX_CPU_CR3_LOAD, SHADOWED, "CR3-load exiting" },
	{ VMX_CPU, VMX_CPU_CR3_STORE, SHADOWED, "CR3-store exiting" },

	{ VMX_CPU2, VMX_CPU2_EPT, NESTED, "EPT" },
	{ VMX_CPU2, VMX_CPU2_UNRESTRICTED, NESTED, "unrestricted guest" },
	{ VMX_CPU2, VMX_CPU2_VPID, OPTIONAL, "VPID", &vpid },
	{ VMX_CPU2, VMX_CPU2_WBINVD, OPTIONAL, "WBINVD exiting" },
	{ VMX_CPU2, VMX_CPU2_RDTSCP, SWITCHED_OPT, "RDTSCP" },
	{ VMX_CPU2, VMX_CPU2_INVPCID, SWITCHED_OPT, "INVPCID" },
	{ VMX_CPU2, VMX_CPU2_PLE, SWITCHED_OPT, "PAUSE-loop exiting" },
	{ VMX_CPU2, VMX_CPU2_APIC_ACCESS, SWITCHED_OPT, "virtualize APIC accesses", &apic_access },
	{ VMX_CPU2, VMX_CPU2_X2APIC, SWITCHED_OPT, "virtualize x2APIC mode", &apic_access },
	{ VMX_CPU2, VMX_CPU2_APIC_REGS, SWITCHED_OPT, "APIC-register virtualization", &apic_regs },
	{ VMX_CPU2, VMX_CPU2_VINTR, SWITCHED_OPT, "virtual-interrupt delivery", &vintr },

	{ VMX_EXIT, VMX_EXIT_HOST64, REQUIRED, "64-bit host" },
	{ VMX_EXIT, VMX_EXIT_SAVE_DEBUG, REQUIRED, "save debug controls" },
	{ VMX_EXIT, VMX_EXIT_SAVE_PAT, REQUIRED, "save PAT" },
	{ VMX_EXIT, VMX_EXIT_LOAD_PAT, REQUIRED, "load PAT at exit" },
	{ VMX_EXIT, VMX_EXIT_SAVE_EFER, REQUIRED, "save EFER" },
	{ VMX_EXIT, VMX_EXIT_LOAD_EFER, REQUIRED, "load EFER at exit" },
	{ VMX_EXIT, VMX_EXIT_ACK_INTR, OFF, "acknowledge interrupt on exit" },

	{ VMX_ENTRY, VMX_ENTRY_LOAD_DEBUG, REQUIRED, "load debug controls" },
	{ VMX_ENTRY, VMX_ENTRY_LOAD_PAT, REQUIRED, "load PAT at entry" },
	{ VMX_ENTRY, VMX_ENTRY_LOAD_EFER, REQUIRED, "load EFER at entry" },
	{ VMX_ENTRY, VMX_ENTRY_IA32E, SWITCHED, "IA-32e mode guest" },
};

/* The capability MSR of each word: low half bits that must be 1, high half bits that may be (A.3 to A.5). */
static int read_allowed(u64 allowed[VMX_NR_CTL])
{
	static const u32 plain[VMX_NR_CTL] = {
		MSR_IA32_VMX_PINBASED_CTLS, MSR_IA32_VMX_PROCBASED_CTLS, MSR_IA32_VMX_PROCBASED_CTLS2,
		MSR_IA32_VMX_EXIT_CTLS, MSR_IA32_VMX_ENTRY_CTLS,
	};
	static const u32 exact[VMX_NR_CTL] = {
		MSR_IA32_VMX_TRUE_PINBASED_CTLS, MSR_IA32_VMX_TRUE_PROCBASED_CTLS,
		MSR_IA32_VMX_PROCBASED_CTLS2, MSR_IA32_VMX_TRUE_EXIT_CTLS, MSR_IA32_VMX_TRUE_ENTRY_CTLS,
	};
	u64 basic;
	int i;

	if (keel_rdmsr_safe(MSR_IA32_VMX_BASIC, &basic))
		return -ENODEV;
	vmx_caps.revision = basic & GENMASK(30, 0);
	for (i = 0; i < VMX_NR_CTL; i++)
		if (keel_rdmsr_safe(basic & BIT_ULL(55) ? exact[i] : plain[i], &allowed[i]))
			allowed[i] = 0;
	return 0;
}

static enum need need_of(const struct control *c)
{
	if (c->need == NESTED)
		return keel_shadowing ? OFF : REQUIRED;
	if (c->need == SHADOWED)
		return keel_shadowing ? REQUIRED : OFF;
	return c->need;
}

static int negotiate(void)
{
	const u32 nested = VMX_CPU2_EPT | VMX_CPU2_UNRESTRICTED;
	u64 allowed[VMX_NR_CTL];
	const struct control *c;
	int i;

	if (read_allowed(allowed)) {
		pr_err("this CPU's VMX has no capability registers\n");
		return -ENODEV;
	}
	keel_shadowing = !ept || (allowed[VMX_CPU2] >> 32 & nested) != nested;
	for (i = 0; i < VMX_NR_CTL; i++)
		vmx_caps.base[i] = vmx_caps.may[i] = (u32)allowed[i];
	for (c = controls; c < controls + ARRAY_SIZE(controls); c++) {
		enum need need = need_of(c);
		bool can = allowed[c->word] >> 32 & c->bit, must = allowed[c->word] & c->bit;

		if (need == OFF ? must : !can && need != OPTIONAL && need != SWITCHED_OPT) {
			pr_err("this CPU's VMX %s: %s\n",
			       need == OFF ? "cannot go without a control" : "lacks a control that Keel needs",
			       c->name);
			return -ENODEV;
		}
		if (!can || need == OFF || (c->param && !*c->param))
			continue;
		vmx_caps.may[c->word] |= c->bit;
		if (need == REQUIRED || need == OPTIONAL)
			vmx_caps.base[c->word] |= c->bit;
		else if (!must)
			vmx_caps.base[c->word] &= ~c->bit;
	}
	return 0;
}

#define EPT_CAP_WALK4		BIT_ULL(6)
#define EPT_CAP_WB		BIT_ULL(14)
#define EPT_CAP_2M		BIT_ULL(16)
#define EPT_CAP_1G		BIT_ULL(17)
#define EPT_CAP_INVEPT		BIT_ULL(20)
#define EPT_CAP_AD		BIT_ULL(21)
#define EPT_CAP_INVEPT_SINGLE	BIT_ULL(25)
#define EPT_NEEDED		(EPT_CAP_WALK4 | EPT_CAP_WB | EPT_CAP_INVEPT | EPT_CAP_INVEPT_SINGLE)

#define VPID_CAP_INVVPID	BIT_ULL(32)
#define VPID_CAP_INVVPID_SINGLE	BIT_ULL(41)
#define VPID_NEEDED		(VPID_CAP_INVVPID | VPID_CAP_INVVPID_SINGLE)

static int probe_ept(void)
{
	if (keel_shadowing) {
		/* Tags can be had if they can be dropped. */
		if (keel_rdmsr_safe(MSR_IA32_VMX_EPT_VPID_CAP, &vmx_caps.ept) ||
		    (vmx_caps.ept & VPID_NEEDED) != VPID_NEEDED)
			vmx_caps.base[VMX_CPU2] &= ~VMX_CPU2_VPID;
		return 0;
	}
	if (keel_rdmsr_safe(MSR_IA32_VMX_EPT_VPID_CAP, &vmx_caps.ept) ||
	    (vmx_caps.ept & EPT_NEEDED) != EPT_NEEDED) {
		pr_err("this CPU's EPT lacks 4-level walks, write-back memory or INVEPT (%#llx)\n", vmx_caps.ept);
		return -ENODEV;
	}
	if (vmx_caps.ept & EPT_CAP_2M)
		vmx_pte_format.max_leaf = vmx_caps.ept & EPT_CAP_1G ? 3 : 2;
	vmx_caps.ept_ad = eptad && (vmx_caps.ept & EPT_CAP_AD);
	if (vmx_caps.ept_ad) {
		vmx_pte_format.accessed = BIT_ULL(8);
		vmx_pte_format.dirty = BIT_ULL(9);
	}
	return 0;
}

/* Can VMX be used at all, and does the firmware let us? */
static int probe_cpu(void)
{
	u64 ctl;

	if (keel_host_has_fred()) {
		pr_err("hosts with FRED are not supported yet on Intel: boot with fred=off\n");
		return -ENODEV;
	}
	if (keel_rdmsr_safe(MSR_IA32_FEAT_CTL, &ctl))
		ctl = FEAT_CTL_LOCKED | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX;	/* no such lock here */
	if (!(ctl & FEAT_CTL_LOCKED) || !(ctl & FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX)) {
		pr_err("VT-x (VMX) is disabled by the firmware: enable it in the BIOS setup\n");
		return -ENODEV;
	}
	return 0;
}

/* Each needs the one before; without the second nothing says that an access is the APIC's. */
static void probe_apic(void)
{
	const u32 may = vmx_caps.may[VMX_CPU2];

	vmx_caps.tpr_shadow = vmx_caps.may[VMX_CPU] & VMX_CPU_TPR_SHADOW;
	/* The page is one of the nested tables'. */
	vmx_caps.apic_access = vmx_caps.tpr_shadow && !keel_shadowing && (may & VMX_CPU2_APIC_ACCESS);
	vmx_caps.x2apic = vmx_caps.tpr_shadow && (may & VMX_CPU2_X2APIC);
	vmx_caps.apic_regs = vmx_caps.apic_access && (may & VMX_CPU2_APIC_REGS);
	vmx_caps.vintr = vmx_caps.apic_regs && (may & VMX_CPU2_VINTR);
	vmx_caps.ple = may & VMX_CPU2_PLE;
}

/**
 * vmx_caps_probe() - find out what the CPU has
 *
 * Return: 0, or -ENODEV with a line in the log
 */
int vmx_caps_probe(void)
{
	u64 misc;
	int err = probe_cpu() ?: negotiate() ?: probe_ept();

	if (err)
		return err;
	vmx_caps.cr0_fixed0 = keel_rdmsr(MSR_IA32_VMX_CR0_FIXED0) & ~(u64)(X86_CR0_PE | X86_CR0_PG);
	vmx_caps.cr0_fixed1 = keel_rdmsr(MSR_IA32_VMX_CR0_FIXED1);
	vmx_caps.cr4_fixed0 = keel_rdmsr(MSR_IA32_VMX_CR4_FIXED0);
	vmx_caps.cr4_fixed1 = keel_rdmsr(MSR_IA32_VMX_CR4_FIXED1);
	misc = keel_rdmsr(MSR_IA32_VMX_MISC);
	vmx_caps.timer_shift = misc & 0x1f;
	vmx_caps.pt_in_vmx = misc & BIT(14);
	vmx_caps.timer = vmx_caps.may[VMX_PIN] & VMX_PIN_TIMER;
	vmx_caps.turn = vmx_caps.timer ? mul_u64_u32_div(turn_us, tsc_khz, USEC_PER_MSEC) : 0;
	vmx_caps.vpid = vmx_caps.base[VMX_CPU2] & VMX_CPU2_VPID;
	vmx_caps.rdtscp = vmx_caps.may[VMX_CPU2] & VMX_CPU2_RDTSCP;
	vmx_caps.invpcid = vmx_caps.may[VMX_CPU2] & VMX_CPU2_INVPCID;
	probe_apic();
	pr_info("VT-x with %s%s%s%s%s%s%s\n", keel_shadowing ? "shadow paging" : "EPT", vmx_caps.ept_ad ? " (A/D)" : "", vmx_caps.vpid ? ", VPID" : "",
		vmx_caps.tpr_shadow ? ", TPR shadow" : "",
		vmx_caps.apic_regs ? ", APIC registers" : vmx_caps.apic_access ? ", APIC accesses" : "",
		vmx_caps.vintr ? ", virtual interrupts" : "", vmx_caps.timer ? ", preemption timer" : "");
	return 0;
}

/* Nested VMX is not offered; what needs a control that this CPU lacks is not either. */
void vmx_feature_mask(struct kvm_cpuid_entry2 *entry)
{
	switch (entry->function) {
	case 1:
		entry->ecx &= ~BIT(5);
		break;
	case 7:
		if (!vmx_caps.invpcid)
			entry->ebx &= ~BIT(10);
		if (!vmx_caps.rdtscp)
			entry->ecx &= ~BIT(22);
		break;
	case 0x80000001:
		if (!vmx_caps.rdtscp)
			entry->edx &= ~BIT(27);
		break;
	}
}
