// SPDX-License-Identifier: GPL-2.0-only
/*
 * SVM on each CPU: EFER.SVME, the host save area, the tag space; and the table that the core calls.
 *
 * SVM is held exclusively while VMs exist (ASIDs of two hypervisors would collide): a CPU whose SVME is
 * already set belongs to someone else. hw_* run on the CPU in question with interrupts off.
 * APM 2, 15.4 (enabling), 15.30.4 (VM_HSAVE_PA).
 */
#include <linux/gfp.h>
#include <linux/percpu.h>
#include <asm/msr-index.h>

#include "svm.h"

DEFINE_PER_CPU(struct svm_cpu, svm_cpu);

static void svm_hw_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct svm_cpu *sc = per_cpu_ptr(&svm_cpu, cpu);

		free_page((unsigned long)sc->hsave);
		free_page((unsigned long)sc->host_state);
		sc->hsave = NULL;
		sc->host_state = NULL;
	}
	svm_vmcb_module_exit();
	keel_spec_cleanup();
}

static int svm_hw_probe(void)
{
	int cpu, err = svm_caps_probe();

	if (err)
		return err;
	err = svm_vmcb_module_init();
	if (err)
		return err;
	for_each_possible_cpu(cpu) {
		struct svm_cpu *sc = per_cpu_ptr(&svm_cpu, cpu);

		sc->hsave = (void *)get_zeroed_page(GFP_KERNEL);
		sc->host_state = (void *)get_zeroed_page(GFP_KERNEL);
		if (!sc->hsave || !sc->host_state) {
			svm_hw_exit();
			return -ENOMEM;
		}
		sc->host_state_pa = __pa(sc->host_state);
	}
	err = keel_spec_setup(false);
	if (err)
		svm_hw_exit();
	return err;
}

static void svm_hw_info(struct keel_info *info)
{
	info->backend = KEEL_BACKEND_SVM;
	info->nr_tags = svm_caps.nr_asid;
	info->features = (svm_caps.npt ? KEEL_INFO_NESTED_PAGING : 0) |
			 (svm_caps.next_rip ? KEEL_INFO_NEXT_RIP : 0) |
			 (svm_caps.flush_by_asid ? KEEL_INFO_FLUSH_BY_TAG : 0) |
			 (svm_caps.decode_assists ? KEEL_INFO_DECODE_ASSISTS : 0);
}

static int svm_hw_enable(void)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);
	u64 efer = keel_rdmsr(MSR_EFER);

	if (sc->enabled)
		return 0;
	if (efer & EFER_SVME)
		return -EBUSY;
	if (keel_wrmsr_safe(MSR_EFER, efer | EFER_SVME))
		return -EIO;
	keel_wrmsr(MSR_VM_HSAVE_PA, __pa(sc->hsave));
	/* Others may have used tags here since: generation up, so that the first use flushes all. */
	sc->asid_generation++;
	sc->next_asid = svm_caps.nr_asid;
	sc->enabled = true;
	return 0;
}

static void svm_hw_disable(void)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);

	if (!sc->enabled)
		return;
	sc->enabled = false;
	keel_wrmsr(MSR_VM_HSAVE_PA, 0);
	keel_wrmsr(MSR_EFER, keel_rdmsr(MSR_EFER) & ~EFER_SVME);
}

/* A fault between CLGI and STGI: without interrupts and INIT no kernel gets far (15.17). */
static void svm_hw_emergency(void)
{
	if (this_cpu_read(svm_cpu.enabled))
		asm volatile("stgi" : : : "memory");
}

const struct keel_ops svm_ops = {
	.name = "svm",
	.vcpu_size = sizeof(struct svm_vcpu),
	.pte_format = &svm_pte_format,
	.hypercall = { 0x0f, 0x01, 0xd9 },	/* VMMCALL */
	.feature_mask = svm_feature_mask,
	.hw_probe = svm_hw_probe,
	.hw_exit = svm_hw_exit,
	.hw_info = svm_hw_info,
	.hw_enable = svm_hw_enable,
	.hw_disable = svm_hw_disable,
	.hw_emergency = svm_hw_emergency,
	.vcpu_create = svm_vcpu_create,
	.vcpu_destroy = svm_vcpu_destroy,
	.vcpu_reset = svm_vcpu_reset,
	.get_state = svm_get_state,
	.set_state = svm_set_state,
	.window_open = svm_window_open,
	.window_close = svm_window_close,
	.vcpu_enter = svm_vcpu_enter,
	.vcpu_handle_exit = svm_vcpu_handle_exit,
	.vcpu_inject = svm_vcpu_inject,
	.vcpu_cancel = svm_vcpu_cancel,
	.vcpu_want_window = svm_vcpu_want_window,
	.nmi_blocked = svm_nmi_blocked,
	.vcpu_set_nmi_masked = svm_vcpu_set_nmi_masked,
	.vcpu_update = svm_vcpu_update,
	.vcpu_update_tpr = svm_vcpu_update_tpr,
	.vcpu_get_tpr = svm_vcpu_get_tpr,
	.vcpu_dump = svm_vcpu_dump,
};
