/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the SVM backend share. Manual: APM volume 2, chapter 15.
 */
#ifndef KEEL_SVM_SVM_H
#define KEEL_SVM_SVM_H

#include "../ops.h"
#include "vmcb.h"

/* What the CPU offers (CPUID 8000_000A) after the module parameters had their say. */
struct svm_caps {
	u32 nr_asid;
	bool npt;
	bool next_rip;		/* next sequential instruction pointer saved at intercepts */
	bool flush_by_asid;
	bool decode_assists;	/* MOV CR/DR operand, instruction bytes at faults */
	bool pause_filter;	/* exit after a number of PAUSEs */
	bool pause_threshold;	/* ... that follow each other closely */
	bool rdtscp;
	u64 host_mce;		/* CR4.MCE, if the host has it set */
};

/* Per CPU, touched only on that CPU with interrupts off. */
struct svm_cpu {
	bool enabled;
	void *hsave;		/* page for VM_HSAVE_PA: written by VMRUN */
	void *host_state;	/* page for VMSAVE of the host's FS, GS, TR, LDTR, syscall MSRs */
	u64 host_state_pa;
	u64 asid_generation;	/* starts at 1: 0 in a vCPU means "none yet" */
	u32 next_asid;
};

/* An ASID of a vCPU's, for one of its roots. */
struct svm_tag {
	u32 asid;
	int cpu;		/* whose tag space @asid belongs to, -1: none */
	u64 generation;
	bool flush;		/* drop its translations before the next entry */
};

/* Levels of the guest's tables; those of five are not remembered. */
#define SVM_INSN_LEVELS	4

/* An instruction that exited, see nextrip.c. 128 bytes, for the sake of whoever indexes them. */
struct svm_insn {
	u64 rip, cr3;
	u64 generation;		/* of the slots */
	unsigned long hva;	/* its bytes */
	u64 code, mask;		/* which they were, and which of eight they are */
	u32 cr4, efer;
	u32 rights;		/* CS attributes, CPL, system management mode */
	u8 reason;		/* KEEL_REASON_* */
	u8 len, depth;		/* bytes, 0: none is known; entries of @step, which go from the leaf up */
	struct keel_gcache_step step[SVM_INSN_LEVELS];
};

#define SVM_KNOWN_INSNS	8

struct svm_vcpu {
	struct keel_vcpu vcpu;	/* first: ops.h */
	struct vmcb *vmcb;
	u64 vmcb_pa;
	void *msrpm;		/* two pages, APM 2 15.11 */
	u64 msrpm_pa;
	struct svm_tag tag[KEEL_MMU_ROOTS];	/* nested paging has the first alone */
	bool nmi_masked;	/* until the guest's IRET */
	bool iret_seen;		/* the IRET intercept fired; masked until RIP leaves iret_rip */
	bool nmi_step;		/* single-stepping over that IRET or an interrupt shadow */
	bool exit_soon;		/* exit right after the event that this entry injects */
	u64 iret_rip;
	u64 cr0_hidden;		/* CR0.CD and NW that the hardware does not get to see */
	u64 cr4_hidden;		/* CR4.MCE that the guest has not set and the hardware gets to see */
	u64 cr4_watched;	/* where writes do not exit: bits that must be svm_caps.host_mce after an exit */
	u32 windows;		/* KEEL_WIN_* asked for */
	u8 tpr;			/* V_TPR as it was last set */
	struct svm_insn insn[SVM_KNOWN_INSNS];
};

static inline struct svm_vcpu *to_svm(struct keel_vcpu *vcpu)
{
	return container_of(vcpu, struct svm_vcpu, vcpu);
}

static inline void svm_intercept(struct vmcb *vmcb, unsigned int bit, bool on)
{
	u32 mask = BIT(bit % 32);

	if (on)
		vmcb->control.intercept[bit / 32] |= mask;
	else
		vmcb->control.intercept[bit / 32] &= ~mask;
}

extern struct svm_caps svm_caps;		/* caps.c, set at load */
DECLARE_PER_CPU(struct svm_cpu, svm_cpu);	/* init.c */
extern struct keel_pte_format svm_pte_format;	/* caps.c */

/* caps.c */
int svm_caps_probe(void);
void svm_feature_mask(struct kvm_cpuid_entry2 *entry);

/* vmcb.c */
int svm_vmcb_module_init(void);
void svm_vmcb_module_exit(void);
int svm_vcpu_create(struct keel_vcpu *vcpu);
void svm_vcpu_destroy(struct keel_vcpu *vcpu);
void svm_vcpu_reset(struct keel_vcpu *vcpu, bool init);
void svm_update_intercepts(struct keel_vcpu *vcpu);
void svm_cr4_intercepts(struct svm_vcpu *svm);
void svm_drop_tags(struct svm_vcpu *svm, unsigned long tags);

/* state.c */
void svm_get_state(struct keel_vcpu *vcpu, u32 mask);
void svm_set_state(struct keel_vcpu *vcpu, u32 mask);

/* switch.S */
void svm_switch(u64 vmcb_pa, u64 *gpr, u64 host_state_pa, struct keel_spec_switch *spec);

/* enter.c */
int svm_window_open(struct keel_vcpu *vcpu);
void svm_window_close(struct keel_vcpu *vcpu);
enum keel_exit_class svm_vcpu_enter(struct keel_vcpu *vcpu);
void svm_vcpu_inject(struct keel_vcpu *vcpu, const struct keel_event *ev);
void svm_vcpu_cancel(struct keel_vcpu *vcpu);
void svm_vcpu_want_window(struct keel_vcpu *vcpu, u32 windows);
bool svm_nmi_blocked(struct keel_vcpu *vcpu);
void svm_vcpu_set_nmi_masked(struct keel_vcpu *vcpu, bool masked);
void svm_vcpu_update(struct keel_vcpu *vcpu, u32 what);
void svm_vcpu_update_tpr(struct keel_vcpu *vcpu, u8 tpr, bool exiting, int irr);
u8 svm_vcpu_get_tpr(struct keel_vcpu *vcpu);

/* nextrip.c */
u8 svm_insn_length(struct svm_vcpu *svm);

/* exit.c */
int svm_exit_io(struct svm_vcpu *svm);
int svm_exit_npf(struct svm_vcpu *svm);
u8 svm_exit_reason(const struct vmcb_control *c);
int svm_vcpu_handle_exit(struct keel_vcpu *vcpu);
void svm_vcpu_dump(struct keel_vcpu *vcpu);

#endif /* KEEL_SVM_SVM_H */
