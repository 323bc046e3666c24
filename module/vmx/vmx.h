/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the VMX backend share. Manual: SDM volume 3C, chapters 24 to 31.
 *
 * The VMCS can be read and written only inside the window (window.c says why). What the core asks for
 * outside of it is kept in struct vmx_vcpu and marked in @stale; what the core wants to know outside of it
 * has been read, or takes VMX operation for a moment (vmx_vmcs_reach()).
 */
#ifndef KEEL_VMX_VMX_H
#define KEEL_VMX_VMX_H

#include <asm/desc_defs.h>

#include "../ops.h"
#include "insn.h"
#include "vmcs.h"

/* The five words of controls, in the order of vmx_caps. */
enum vmx_ctl { VMX_PIN, VMX_CPU, VMX_CPU2, VMX_EXIT, VMX_ENTRY, VMX_NR_CTL };

/* What the CPU offers (IA32_VMX_*) after the module parameters had their say. */
struct vmx_caps {
	u32 revision;		/* of the VMCS and the VMXON region */
	u32 base[VMX_NR_CTL];	/* controls that are always on */
	u32 may[VMX_NR_CTL];	/* controls that may be switched on */
	u64 cr0_fixed0, cr0_fixed1;	/* bits that must be 1 and may be 1 in VMX operation */
	u64 cr4_fixed0, cr4_fixed1;
	u64 ept;		/* IA32_VMX_EPT_VPID_CAP */
	bool ept_ad;		/* accessed and dirty bits */
	bool vpid;
	bool tpr_shadow;
	bool apic_access;	/* virtualize APIC accesses */
	bool x2apic;		/* virtualize x2APIC mode */
	bool apic_regs;		/* APIC-register virtualization */
	bool vintr;		/* virtual-interrupt delivery */
	bool ple;		/* PAUSE-loop exiting */
	bool rdtscp;
	bool invpcid;
	bool timer;		/* VMX preemption timer */
	u8 timer_shift;		/* it counts down once every 2^n TSC ticks */
	u64 turn;		/* longest window, in TSC ticks; 0: no limit */
	bool pt_in_vmx;		/* Intel PT may trace while VMX operation begins */
};

#define VMX_NR_SWAPPED	3	/* MSRs that the window swaps: STAR, LSTAR, SFMASK */
#define KEEL_NR_VPIDS	65536

/* Per CPU, touched only on that CPU with interrupts off, but for allocation. */
struct vmx_cpu {
	void *vmxon;		/* the VMXON region: a page */
	u64 vmxon_pa;
	bool enabled;
	bool ours;		/* this window's VMX operation is ours to leave */
	u64 owner_vmcs;		/* the other hypervisor's current VMCS, ~0: none */
	u64 cr4;		/* before the window */
	struct desc_ptr gdt, idt;
	u64 debugctl;
	u16 ldt;
	u16 ds, es, fs, gs;
	u64 fs_base, kernel_gs_base;
	/* these are the same all the time */
	u64 host_msr[VMX_NR_SWAPPED];
	u64 msr[VMX_NR_SWAPPED];	/* what the registers hold now */
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 efer, pat;
	bool failed;			/* an instruction failed in this window that cannot fail */
};

/* What the exit left in the VMCS, read before the window can close. */
struct vmx_exit {
	u32 reason;
	u32 intr_info, intr_error;
	u32 idt_info, idt_error;
	u32 insn_len;
	u64 qualification;
	u64 gpa;
};

/* struct vmx_vcpu.stale: fields to be written before the next entry */
#define VMX_STALE_STATIC	BIT(0)	/* everything that never changes */
#define VMX_STALE_CTL		BIT(1)	/* the five control words, exception bitmap, TSC offset */
#define VMX_STALE_ROOT		BIT(2)	/* EPT pointer; shadow paging: CR3 and VPID */
#define VMX_STALE_INTR_STATE	BIT(3)
#define VMX_STALE_ALL		0xf

struct vmx_vcpu {
	struct keel_vcpu vcpu;	/* first: ops.h */
	void *vmcs;
	u64 vmcs_pa;
	void *msr_bitmap;
	bool cleared;		/* VMCLEAR has initialised the VMCS */
	bool launched;		/* in this window */
	bool failed;		/* the last entry failed: @error says why */
	u32 error;		/* VM-instruction error (3C, 31.4), 0: none, or none known */
	u32 stale;		/* VMX_STALE_* */
	int cpu;		/* whose host state the VMCS holds and whose tags are ours, -1: none */
	u16 vpid;
	unsigned long flush;	/* drop these tags' translations before the next entry; nested: if any, all */
	u16 root_vpid[KEEL_MMU_ROOTS];	/* shadow paging: a tag for each root; @vpid is the first */
	u32 ctl[VMX_NR_CTL];
	u32 written[VMX_NR_CTL];	/* what the VMCS has */
	u32 exception_bitmap;
	u32 intr_state;		/* interruptibility; valid as @intr_state_valid says */
	bool intr_state_valid;
	u64 cr4_guest_owned;
	u8 tpr_threshold;
	bool tpr_shadow;	/* the local APIC's page is the virtual-APIC page */
	bool timer_on;		/* the preemption timer counts */
	u64 turn_end;		/* with vmx_caps.turn: the TSC at which this window is to end */
	bool svi_stale;		/* what is in service was changed by software */
	u64 eoi_exits[4];	/* what the VMCS has: vectors whose EOI exits */
	u32 apic_ctl;		/* the controls for the local APIC that the MSR bitmap goes with */
	bool nmi_taken;		/* an exit was a host NMI: the window hands it over */
	bool hw_lma;		/* EFER.LMA as the segments in the VMCS were made for it */
	bool injecting;		/* the entry interruption information is set */
	u8 bp_len;		/* of the last INT3 or INTO that exited */
	u64 hw_rip, hw_rsp, hw_rflags;	/* what the VMCS has */
	u64 host_rsp, host_cr0, host_cr3, host_cr4, host_fs_base;	/* what the VMCS has */
	struct vmx_exit exit;
};

static inline struct vmx_vcpu *to_vmx(struct keel_vcpu *vcpu)
{
	return container_of(vcpu, struct vmx_vcpu, vcpu);
}

/* Inside the window, or when vmx_window_close() has read it. */
static inline u32 vmx_interruptibility(struct vmx_vcpu *vmx)
{
	if (!vmx->intr_state_valid) {
		vmx->intr_state = vmx_read(VMCS_GUEST_INTR_STATE);
		vmx->intr_state_valid = true;
	}
	return vmx->intr_state;
}

static inline void vmx_set_interruptibility(struct vmx_vcpu *vmx, u32 state)
{
	vmx->intr_state = state;
	vmx->intr_state_valid = true;
	vmx->stale |= VMX_STALE_INTR_STATE;
}

extern struct vmx_caps vmx_caps;		/* caps.c, set at load */
extern struct keel_pte_format vmx_pte_format;	/* caps.c */
DECLARE_PER_CPU(struct vmx_cpu, vmx_cpu);	/* init.c */

/* caps.c */
int vmx_caps_probe(void);
void vmx_feature_mask(struct kvm_cpuid_entry2 *entry);

/* shadow.c */
void vmx_shadow_crs_set(struct vmx_vcpu *vmx, const struct keel_state *st);
void vmx_shadow_write_root(struct vmx_vcpu *vmx);
void vmx_shadow_flush(struct vmx_vcpu *vmx, unsigned long tags);
bool vmx_shadow_runnable(const struct keel_vcpu *vcpu);

/* vmcs.c */
int vmx_vmcs_module_init(void);
void vmx_vmcs_module_exit(void);
int vmx_vcpu_create(struct keel_vcpu *vcpu);
void vmx_vcpu_destroy(struct keel_vcpu *vcpu);
void vmx_vcpu_reset(struct keel_vcpu *vcpu, bool init);
void vmx_update_intercepts(struct keel_vcpu *vcpu);
void vmx_write_static(struct vmx_vcpu *vmx);
void vmx_write_stale(struct vmx_vcpu *vmx);
void vmx_ctl(struct vmx_vcpu *vmx, enum vmx_ctl word, u32 bits, bool on);

/* apicv.c */
void vmx_apic_update(struct vmx_vcpu *vmx);
void vmx_msr_direct(struct vmx_vcpu *vmx, u32 msr, bool write, bool direct);
void vmx_vcpu_update_tpr(struct keel_vcpu *vcpu, u8 tpr, bool exiting, int irr);
u8 vmx_vcpu_get_tpr(struct keel_vcpu *vcpu);

/* state.c */
void vmx_get_state(struct keel_vcpu *vcpu, u32 mask);
void vmx_set_state(struct keel_vcpu *vcpu, u32 mask);

/* window.c */
void vmx_cpu_read_msrs(void);
void vmx_hw_emergency(void);
void vmx_load_msrs(struct keel_vcpu *vcpu);
int vmx_vmcs_reach(struct vmx_vcpu *vmx, unsigned long *flags);
void vmx_vmcs_leave(struct vmx_vcpu *vmx, unsigned long flags);
int vmx_window_open(struct keel_vcpu *vcpu);
void vmx_window_close(struct keel_vcpu *vcpu);

/* switch.S */
bool vmx_switch(u64 *gpr, bool launched, u64 *host_rsp, struct keel_spec_switch *spec);
extern const char vmx_exit_point[];

/* enter.c */
enum keel_exit_class vmx_vcpu_enter(struct keel_vcpu *vcpu);
void vmx_vcpu_inject(struct keel_vcpu *vcpu, const struct keel_event *ev);
void vmx_vcpu_cancel(struct keel_vcpu *vcpu);
void vmx_vcpu_want_window(struct keel_vcpu *vcpu, u32 windows);
bool vmx_nmi_blocked(struct keel_vcpu *vcpu);
void vmx_vcpu_set_nmi_masked(struct keel_vcpu *vcpu, bool masked);
void vmx_vcpu_update(struct keel_vcpu *vcpu, u32 what);

/* exit.c */
int vmx_exit_io(struct vmx_vcpu *vmx);
int vmx_exit_ept_violation(struct vmx_vcpu *vmx);

/* KEEL_ACC_* of an EPT violation, by its exit qualification (SDM 3C, table 28-7). */
static inline u32 vmx_ept_access(u64 q)
{
	u32 access = KEEL_ACC_USER;

	if (q & VMX_EPT_WRITE)
		access |= KEEL_ACC_WRITE;
	if (q & VMX_EPT_EXEC)
		access |= KEEL_ACC_EXEC;
	if (q & VMX_EPT_PERMISSIONS)
		access |= KEEL_ACC_PRESENT;
	if ((q & VMX_EPT_LINEAR_VALID) && !(q & VMX_EPT_FINAL))
		access |= KEEL_ACC_TABLE;
	return access;
}

u8 vmx_exit_reason(u32 reason);
int vmx_vcpu_handle_exit(struct keel_vcpu *vcpu);
void vmx_host_event(struct vmx_vcpu *vmx);
void vmx_vcpu_dump(struct keel_vcpu *vcpu);

#endif /* KEEL_VMX_VMX_H */
