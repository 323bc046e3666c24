// SPDX-License-Identifier: GPL-2.0-only
/*
 * What this CPU's SVM can do, what the parameters leave of it, and the NPT entry format.
 *
 * Everything optional has a switch, so that the path without it can be tested on a CPU that has it.
 * APM 2, 15.1 to 15.4 and CPUID 8000_000A; NPT entries are ordinary long-mode entries (15.25).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <asm/cpufeature.h>
#include <asm/pgtable_types.h>
#include <asm/processor-flags.h>
#include <asm/special_insns.h>

#include "svm.h"

static bool npt = true;
module_param(npt, bool, 0444);
MODULE_PARM_DESC(npt, "use nested paging, not shadow paging (AMD)");

static bool nrip = true;
module_param(nrip, bool, 0444);
MODULE_PARM_DESC(nrip, "use the next RIP that the CPU saves (AMD)");

static bool flushbyasid = true;
module_param(flushbyasid, bool, 0444);
MODULE_PARM_DESC(flushbyasid, "flush the TLB by ASID (AMD)");

static bool pause_filter = true;
module_param(pause_filter, bool, 0444);
MODULE_PARM_DESC(pause_filter, "let the CPU count PAUSEs, and exit for loops of them (AMD)");

static bool decodeassists;	/* off: Documentation/untested.rst */
module_param(decodeassists, bool, 0444);
MODULE_PARM_DESC(decodeassists, "use decode assists (AMD; off by default, see Documentation/untested.rst)");

struct svm_caps svm_caps __ro_after_init;

/*
 * The nested walk takes the access as a user access (15.25.5), hence USER in every entry. A guest page
 * is write-back memory; the guest's own PAT entry is combined with that by the CPU.
 */
struct keel_pte_format svm_pte_format __ro_after_init = {
	.present = _PAGE_PRESENT | _PAGE_USER,
	.write = _PAGE_RW,
	.exec = 0,
	.nx = _PAGE_NX,
	.accessed = _PAGE_ACCESSED,
	.dirty = _PAGE_DIRTY,
	.large = _PAGE_PSE,
	.table = _PAGE_PRESENT | _PAGE_USER | _PAGE_RW | _PAGE_ACCESSED,
	.memtype_wb = 0,
	.memtype_uc = _PAGE_PCD | _PAGE_PWT,
	.levels = 4,
	.max_leaf = 2,
};

/**
 * svm_caps_probe() - find out what the CPU has
 *
 * Return: 0, or -ENODEV with a line in the log
 */
int svm_caps_probe(void)
{
	u64 vm_cr;
	u32 edx;

	if (!boot_cpu_has(X86_FEATURE_SVM)) {
		pr_err("this CPU has neither AMD-V (SVM) nor Intel VT-x (VMX)\n");
		return -ENODEV;
	}
	if (boot_cpu_has(X86_FEATURE_HYPERVISOR) && cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT)) {
		pr_err("no SVM inside a memory-encrypted (SEV) guest\n");
		return -ENODEV;
	}
	if (!keel_rdmsr_safe(MSR_VM_CR, &vm_cr) && (vm_cr & BIT(4))) {
		pr_err("SVM is disabled by the firmware (VM_CR.SVMDIS): enable it in the BIOS setup\n");
		return -ENODEV;
	}
	edx = cpuid_edx(0x8000000a);
	svm_caps.nr_asid = cpuid_ebx(0x8000000a);
	svm_caps.npt = npt && (edx & BIT(0));
	svm_caps.next_rip = nrip && (edx & BIT(3));
	svm_caps.flush_by_asid = flushbyasid && (edx & BIT(6));
	svm_caps.decode_assists = decodeassists && (edx & BIT(7));
	svm_caps.pause_filter = pause_filter && (edx & BIT(10));
	svm_caps.pause_threshold = svm_caps.pause_filter && (edx & BIT(12));
	svm_caps.rdtscp = boot_cpu_has(X86_FEATURE_RDTSCP);
	svm_caps.host_mce = __read_cr4() & X86_CR4_MCE;
	if (boot_cpu_has(X86_FEATURE_GBPAGES))
		svm_pte_format.max_leaf = 3;
	keel_shadowing = !svm_caps.npt;
	if (keel_shadowing && cc_platform_has(CC_ATTR_HOST_MEM_ENCRYPT)) {
		pr_err("no shadow paging on a host with memory encryption: do not use npt=0 there\n");
		return -ENODEV;
	}
	if (svm_caps.nr_asid < 2) {
		pr_err("this CPU has no usable ASID (%u)\n", svm_caps.nr_asid);
		return -ENODEV;
	}
	if (pgtable_l5_enabled()) {
		pr_err("hosts with 5-level paging are not supported yet on AMD: boot with no5lvl\n");
		return -ENODEV;
	}
	pr_info("AMD-V with %s, %u ASIDs%s%s%s%s\n", svm_caps.npt ? "NPT" : "shadow paging", svm_caps.nr_asid,
		svm_caps.next_rip ? ", next RIP" : "",
		svm_caps.flush_by_asid ? ", flush by ASID" : "",
		svm_caps.decode_assists ? ", decode assists" : "",
		svm_caps.pause_filter ? ", pause filter" : "");
	return 0;
}

/* Nested SVM is not offered: hide it and its leaf. */
void svm_feature_mask(struct kvm_cpuid_entry2 *entry)
{
	if (entry->function == 0x80000001)
		entry->ecx &= ~BIT(2);
	if (entry->function == 0x8000000a)
		entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
}
