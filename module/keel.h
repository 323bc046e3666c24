/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Keel's own structures: the VM, the vCPU and what passes between files.
 *
 * Lock order, outermost first:
 *
 *	vcpu->mutex		one thread drives a vCPU (SDM and APM know one instruction stream)
 *	vm->lock		vCPU creation, irqchip creation, the CPUID of VMs
 *	vm->slots_lock		changes of memory slots and of I/O ranges
 *	vm->srcu (read side)	slots, I/O ranges and GSI routes while they are in use
 *	vm->irqchip locks	PIC, I/O APIC, PIT: one spinlock each, interrupts off
 *	vm->mmu.lock		the nested tree: an rwlock, which faults hold for reading
 *
 * Documentation/locking.rst says more. Terms: gpa, gfn (guest physical), hva (client's virtual), hpa,
 * pfn (host physical), gva (guest virtual).
 */
#ifndef KEEL_KEEL_H
#define KEEL_KEEL_H

#include <linux/kvm.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/rcuwait.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/types.h>
#include <asm/cpufeature.h>
#include <asm/debugreg.h>
#include <asm/trapnr.h>

#include "compat.h"
#include "eventfd.h"
#include "spec.h"
#include "stats.h"
#include "emulate/emulate.h"
#include "mmu/mmu.h"
#include "pv.h"
#include "registry.h"
#include "irqchip/irqchip.h"

#define KEEL_MAX_VCPUS		256
#define KEEL_MAX_VCPU_ID	256
#define KEEL_MAX_CPUID		256
/* SDM 3B 17.2: bits that the kernel has no name for */
#define KEEL_DR7_FIXED		0x400
#define KEEL_DR7_GD		BIT_ULL(13)

#define KEEL_VCPU_MMAP_PAGES	3	/* kvm_run, PIO data, the VM's ring of coalesced writes */

/*
 * What an exit handler returns: KEEL_RESUME runs the guest again, KEEL_TO_USER ends KVM_RUN with the
 * exit reason in kvm_run, a negative errno ends KVM_RUN with that. -EAGAIN out of a handler that was
 * called inside the window (interrupts off) means: nothing has changed yet, call me again outside.
 */
#define KEEL_RESUME		1
#define KEEL_TO_USER		0

/*
 * Segment access rights in the layout of the VMCS (SDM 3C, 24.4.1): type 3:0, S 4, DPL 6:5, P 7,
 * AVL 12, L 13, D/B 14, G 15, unusable 16.
 */
#define KEEL_AR_TYPE		0x000f
#define KEEL_AR_S		0x0010
#define KEEL_AR_DPL_SHIFT	5
#define KEEL_AR_P		0x0080
#define KEEL_AR_AVL		0x1000
#define KEEL_AR_L		0x2000
#define KEEL_AR_DB		0x4000
#define KEEL_AR_G		0x8000
#define KEEL_AR_UNUSABLE	0x10000

struct keel_seg {
	u64 base;
	u32 limit;	/* in bytes, granularity applied */
	u32 ar;
	u16 selector;
};

struct keel_dtable {
	u64 base;
	u16 limit;
};

/*
 * Groups of struct keel_state that the vendor loads and stores in bulk. The GPRs are always current in
 * struct keel_state between two entries; everything else is fetched when first asked for.
 */
#define KEEL_ST_RIP		0x01	/* rip, rflags */
#define KEEL_ST_CODE		0x80	/* cpl and seg[KEEL_CS].ar; as KEEL_ST_CS */
#define KEEL_ST_CS_REST		0x100	/* ... the rest of it */
#define KEEL_ST_CS		(KEEL_ST_CODE | KEEL_ST_CS_REST) /* only for reading: what changes them changes KEEL_ST_SEG */
#define KEEL_ST_OTHER_SEGS	0x02	/* the rest of seg[] */
#define KEEL_ST_SEG		(KEEL_ST_CS | KEEL_ST_OTHER_SEGS)
#define KEEL_ST_DT		0x04	/* gdt, idt */
#define KEEL_ST_CR		0x08	/* cr0, cr2, cr3, cr4, efer, pdpte[] */
#define KEEL_ST_MSR		0x10	/* star ... pat */
#define KEEL_ST_DR		0x20	/* dr6, dr7 (dr0 to dr3 are always current) */
#define KEEL_ST_SHADOW		0x40	/* int_shadow */
#define KEEL_ST_ALL		0x1ff

/**
 * struct keel_state - the architectural state of a vCPU
 *
 * Valid groups are named by keel_vcpu.st_valid, changed ones by st_dirty; go through keel_st() and
 * keel_st_mod(). The GPRs, dr[], tsc_aux, xcr0 and pkru are core-owned and always valid.
 */
struct keel_state {
	u64 gpr[KEEL_NR_GPRS];
	u64 rip, rflags;
	struct keel_seg seg[KEEL_NR_SEGS];
	u8 cpl;
	u8 int_shadow;
	struct keel_dtable gdt, idt;
	u64 cr0, cr2, cr3, cr4, efer;
	u64 pdpte[4];	/* with PAE paging: the page-directory pointers that CR3 loaded, see cr.c */
	u64 star, lstar, cstar, sfmask, kernel_gs_base;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 pat;
	u64 dr[4], dr6, dr7;
	u64 xcr0;
	u64 tsc_aux;
	u32 pkru;
};

/* PAE paging: 32-bit guest, three levels, of which CR3 loads the first (SDM 3A, 4.4). */
static inline bool keel_pae_paging(u64 cr0, u64 cr4, u64 efer)
{
	return (cr0 & X86_CR0_PG) && (cr4 & X86_CR4_PAE) && !(efer & EFER_LMA);
}

/* CR3 as a CPU takes it: outside of long mode it has 32 bits (SDM 3A, 2.5), whatever a client has set. */
static inline u64 keel_entry_cr3(const struct keel_state *st)
{
	return st->efer & EFER_LMA ? st->cr3 : (u32)st->cr3;
}

/* Events that wait for delivery or were interrupted in it; the layout follows kvm_vcpu_events. */
struct keel_events {
	struct {
		bool pending;		/* raised, not yet given to the CPU */
		bool injected;		/* given to the CPU; delivery was interrupted if still set */
		bool given;		/* the last entry was given it */
		bool has_error;
		bool has_payload;	/* payload (CR2 or DR6) not yet written to its register */
		u8 nr;
		u32 error;
		u64 payload;
	} exc;
	struct {
		bool injected;
		bool given;		/* as above */
		bool soft;
		u8 nr;
	} intr;
	struct {
		bool injected;
		bool masked;
		u8 pending;		/* 0 to 2 */
	} nmi;
	bool triple_fault;
};

/* What a page walk or an access found wrong, ready for keel_inject_fault(). */
struct keel_fault {
	u8 vector;
	bool has_error;
	u32 error;
	u64 address;	/* CR2 when vector is #PF */
};

/*
 * An answer to CPUID that follows from the client's entries alone: to what was asked. @mask: the bits of @index that count,
 * all or none.
 */
struct keel_cpuid_answer {
	u32 function, index, mask;
	u32 eax, ebx, ecx, edx;
};

#define KEEL_CPUID_ANSWERS	16

struct keel_cpuid {
	unsigned int nent;
	struct kvm_cpuid_entry2 *entries;	/* kvcalloc, KEEL_MAX_CPUID at most */
	u32 highest[4];				/* function in these, by its two highest bits */
	u32 last_basic;				/* index of the first entry of what leaf 0 says is the highest, or nent */
	u8 maxphyaddr;				/* bits */
	u64 cr4_valid;				/* CR4 bits that this guest may set */
	bool cr4_all;				/* ... and the CPU takes no others */
	u64 efer_valid;
	u64 xcr0_valid;
	u64 features;				/* KEEL_F_* seen in the guest's CPUID */
	struct keel_cpuid_answer answers[KEEL_CPUID_ANSWERS];
};

/* Guest features that the core looks up often (struct keel_cpuid.features). */
#define KEEL_F_X2APIC		BIT_ULL(0)
#define KEEL_F_TSC_DEADLINE	BIT_ULL(1)
#define KEEL_F_LM		BIT_ULL(2)
#define KEEL_F_NX		BIT_ULL(3)
#define KEEL_F_XSAVE		BIT_ULL(4)
#define KEEL_F_RDTSCP		BIT_ULL(5)
#define KEEL_F_GBPAGES		BIT_ULL(6)
#define KEEL_F_PCID		BIT_ULL(7)
#define KEEL_F_AMD		BIT_ULL(8)	/* vendor AMD or Hygon: SYSENTER and CPUID quirks */
#define KEEL_F_RDPID		BIT_ULL(9)
#define KEEL_F_SPEC_CTRL	BIT_ULL(10)	/* Intel SPEC_CTRL or AMD IBRS, STIBP or SSBD */
#define KEEL_F_IBPB		BIT_ULL(11)
#define KEEL_F_TSC_ADJUST	BIT_ULL(12)
#define KEEL_F_MTRR		BIT_ULL(13)
#define KEEL_F_PAT		BIT_ULL(14)
#define KEEL_F_MCE		BIT_ULL(15)
#define KEEL_F_ARCH_CAP		BIT_ULL(16)	/* ARCH_CAPABILITIES */
#define KEEL_F_FLUSH_L1D	BIT_ULL(17)	/* FLUSH_CMD */
#define KEEL_F_MWAIT		BIT_ULL(18)	/* MONITOR and MWAIT; see keel_mwait_undefined() */

enum keel_mode { KEEL_OUTSIDE, KEEL_IN_GUEST, KEEL_LEAVING };

/* Requests: bits of keel_vcpu.requests, made by keel_request(), served before an entry. */
enum keel_req {
	KEEL_REQ_EVENT,		/* look at pending events and interrupts again */
	KEEL_REQ_TLB_FLUSH,	/* drop this vCPU's tagged translations */
	KEEL_REQ_MMU_RELOAD,	/* shadow paging: find the root for the control registers */
	KEEL_REQ_CLOCK,		/* write the kvmclock page */
	KEEL_REQ_WALL_CLOCK,	/* write the time of day */
	KEEL_REQ_TIMER,		/* the local APIC timer expired */
	KEEL_REQ_UNHALT,	/* an event for a halted vCPU */
	KEEL_REQ_DEAD,		/* the VM was killed */
	KEEL_REQ_EOI_EXIT,	/* an EOI must reach the client (split irqchip) */
	KEEL_REQ_APIC_PAGE,	/* vm->apic_page is to be unmapped */
	KEEL_REQ_INIT_SIPI,	/* keel_lapic_accept_events(), which clears it, has work */
	KEEL_REQ_STEAL,		/* write the guest's steal time */
	KEEL_REQ_RING_FULL,	/* the client is to empty the dirty ring */
	KEEL_REQ_SMI,		/* another CPU sent an SMI */
	KEEL_REQ_INTERCEPTS,	/* the client's MSR filter or quirks changed */
};

/* An IN or OUT that the client completes; strings are emul.c's. */
struct keel_pio {
	u8 size;		/* bytes an element */
	u8 insn_len;
	bool in;
	bool moved;		/* the client has changed CS.base meanwhile */
	bool searched;		/* nobody in the kernel takes the access of this exit */
	u64 rip;		/* of the instruction, which the client may change, too */
};

/* A MOV between a register and memory that mmio.c has met; @len 0: none. */
struct keel_move {
	u64 code[2];		/* its bytes */
	s32 disp, imm;
	s8 base, index;		/* registers, -1: none */
	u8 scale, reg;
	u8 width;		/* bytes of the register */
	u8 size;		/* bytes in memory */
	u8 len;
	bool write, immediate, sign, high, rip_relative;
};

/* The decoded reason of the last exit, filled by the vendor; see run.c. */
struct keel_exit {
	u8 reason;		/* KEEL_REASON_* */
	u8 insn_len;		/* bytes; 0: unknown, ask keel_skip_insn() */
	u8 nr_bytes;		/* instruction bytes that the hardware saved (decode assists) */
	u8 bytes[15];
	u64 msr;		/* what RDMSR reads, until it is in the registers */
	u32 port_val;		/* the same of IN; what OUT writes */
	bool fault_known;	/* keel_mmu_fault_resident() has been asked about this one, and said @fault */
	int fault;
	int result;		/* of an exit that was served between two entries: KEEL_RESUME, KEEL_TO_USER or -errno */
};

/* What a window keeps of the host's registers that both vendors leave to the core. */
struct keel_hostregs {
	u64 dr[4], dr7, tsc_aux;
	u32 pkru;
	bool dr_saved;
};

/* Kinds of event for vcpu_inject(); values are those of VMCB EVENTINJ and VMCS interruption info. */
#define KEEL_EV_INTR		0
#define KEEL_EV_NMI		2
#define KEEL_EV_EXCEPTION	3
#define KEEL_EV_SOFT_INTR	4

struct keel_event {
	u8 type;		/* KEEL_EV_* */
	u8 vector;
	bool has_error;
	u32 error;
};

/**
 * struct keel_task_switch - a hardware task switch that exits, as the vendor decoded it
 * @selector: of the new task's TSS
 * @reason: enum keel_task_reason
 * @event_type: KEEL_TASK_GATE: KEEL_EMU_EV_*, what kind of event came through the gate
 * @vector: KEEL_TASK_GATE: its vector
 * @has_error: it has an error code, which the new task finds on its stack
 * @error: that code
 * @insn_len: bytes of the instruction that caused it; 0: unknown, or none did
 *
 * SVM: EXITINFO1, EXITINFO2 and EXITINTINFO (APM 2, 15.14.1). VMX: the exit qualification, the
 * IDT-vectoring information and the instruction length (SDM 3C, 28.2.1 and 28.2.4).
 */
struct keel_task_switch {
	u16 selector;
	u8 reason;
	u8 event_type;
	u8 vector;
	bool has_error;
	u32 error;
	u8 insn_len;
};

/* System management mode; see smm.c. */
struct keel_smm {
	bool in;			/* the vCPU is in it, and sees its memory */
	bool inside_nmi;		/* it was entered with NMIs blocked, and RSM leaves them so */
	bool pending;			/* an SMI waits */
	u64 count;			/* of SMIs taken */
};

struct keel_fpu;
struct keel_lapic;
struct keel_emul;

/**
 * struct keel_vcpu - one virtual CPU
 *
 * Embedded as first member in the vendor's own structure. @mutex guards everything without a comment.
 */
struct keel_vcpu {
	struct keel_vm *vm;
	u32 id;				/* the client's id; also the initial APIC id */
	int index;			/* in vm->vcpus */
	struct mutex mutex;
	struct kvm_run *run;		/* page mapped by the client: hostile, read once */
	void *pio_data;			/* second page of that mapping */

	/* run loop */
	unsigned long requests;		/* atomic bits, enum keel_req */
	enum keel_mode mode;		/* written by the vCPU thread, read by kicks */
	int cpu;			/* CPU of the last window, -1: none yet */
	struct rcuwait wait;		/* a halted vCPU sleeps here */
	u32 mp_state;			/* KVM_MP_STATE_* */
	int (*complete)(struct keel_vcpu *vcpu);	/* finishes the last client exit */
	sigset_t sigset;
	bool sigset_active;
	bool in_window;			/* interrupts off, guest FPU loaded: handlers must not sleep */

	/* architectural state */
	struct keel_state st;
	u32 st_valid, st_dirty;		/* KEEL_ST_* */
	struct keel_events ev;
	bool cr4_direct;		/* the guest's writes of CR4 need not exit */
	bool switch_pkru;		/* the guest can reach PKRU: it is switched, keel_pkru_load() */
	bool may_cycle;			/* run.c has nothing to look at between exits that are served at once */
	bool look;			/* events and the task priority may have changed, and no request says so */
	bool event_waits;		/* at the last entry one could not be delivered, and there is a window for it */
	struct keel_smm smm;
	struct keel_cpuid cpuid;
	struct keel_fpu *fpu;
	u64 tsc_offset;			/* guest TSC = host TSC + offset */
	u64 clock_msr;			/* MSR_KVM_SYSTEM_TIME: gpa of the kvmclock page, bit 0 enables */
	bool clock_stable;		/* the page says that all vCPUs' clocks agree */
	unsigned int clock_epoch;	/* of the host's TSC, when the page was written */
	bool clock_stopped;		/* tell the guest with the next update that the client had stopped it */
	u64 tsc_adjust;
	u32 tsc_khz;			/* as the client set it, 0: the host's */
	u64 platform_info, misc_features;
	u64 misc_enable, mcg_cap, mcg_status, mcg_ctl, smbase;
	u64 mce_banks[32 * 4], mce_ctl2[32];
	u64 mtrr[32];			/* fixed, variable and default type: msr_mce.c knows the order */
	u64 patch_level, power_ctl, arch_capabilities, hwcr, vm_cr, vm_hsave_pa, de_cfg;
	bool own_tf;			/* an entry that single-steps: RFLAGS.TF was set by the guest */
	bool step_exit;			/* an instruction ended that the client single-steps */
	u32 guest_debug;		/* KVM_GUESTDBG_* */
	u64 debug_dr[4], debug_dr7;	/* the client's breakpoints */
	struct keel_hostregs host;	/* hostregs.c */
	struct keel_spec_vcpu spec;	/* spec.c */

	/* exits */
	struct keel_exit exit;
	struct keel_pio pio;
	struct keel_move move[16];	/* by their first bytes */
	const struct keel_move *moving;	/* ... which the client's read completes */
	struct keel_emul *emul;
	u64 nr_emulated;		/* instructions that the emulator completed */
	struct keel_event soft_event;	/* interpret.c: the emulator is to deliver it; not in a VM that runs directly */
	bool soft_event_pending;
	bool interpreting;		/* the emulator runs what the CPU cannot, see run.c */
	u8 eoi_vector;			/* of KEEL_REQ_EOI_EXIT */

	int ext_vector;			/* split irqchip: ExtINT of the client's PIC, -1: none */

	struct keel_lapic *apic;	/* NULL without an in-kernel local APIC */
	u64 apic_base;			/* IA32_APIC_BASE; written by lapic.c, read by other CPUs */
	bool virt_intr;			/* the vendor's: the CPU takes interrupts from the local APIC itself */
	bool virt_timer;		/* the vendor's: a timer of the CPU ends the guest's run at a deadline */
	u64 eoi_gpa;			/* of the in-kernel local APIC's EOI register; ~0: there is none in memory */
	u64 cpu_deadline;		/* guest TSC that the CPU's own timer watches for the local APIC; 0: none */
	bool virt_apic_page;		/* the vendor's: accesses to vm->apic_page are the local APIC's */
	u64 cr8;			/* only without an in-kernel local APIC */
	struct keel_mmu_vcpu mmu;
	struct keel_dirty_ring dirty_ring;
	struct keel_pv pv;
	struct keel_sched sched;
	struct keel_vcpu_stats stats;
	const char *error;		/* why KVM_RUN ended, where the vCPU cannot go on; constant string */
	const char *told_error;		/* what the registry has been told of that */
};

/**
 * struct keel_vm - one virtual machine
 */
struct keel_vm {
	refcount_t refs;		/* the VM fd, each vCPU fd */
	struct keel_entry entry;
	struct mm_struct *mm;		/* the only address space that may drive the VM */
	struct mutex lock;
	struct mutex slots_lock;
	struct srcu_struct srcu;
	struct keel_memslots __rcu *slots;	/* srcu; written under slots_lock */
	u64 slots_generation;		/* its generation, for those who keep addresses and do not hold srcu */
	struct keel_mmu mmu;
	struct keel_vcpu *vcpus[KEEL_MAX_VCPUS];	/* grows under lock; read with nr_vcpus acquire */
	int nr_vcpus;
	int nr_created;			/* vCPUs that exist or are being made, under lock */
	struct keel_irqchip irqchip;	/* PIC, I/O APIC, PIT and routes; see irqchip.h */
	struct list_head io_ranges[2];	/* in-kernel PIO and MMIO ranges, srcu, iobus.c */
	u64 io_classes[2];		/* ... a bit for each class of addresses that has one */
	struct keel_irqfds irqfds;
	struct keel_ioeventfds ioeventfds;
	struct keel_coalesced coalesced;
	u64 bsp_id;			/* vCPU id of the bootstrap processor */
	u64 tss_addr, identity_addr;
	struct keel_clock_ref {
		u64 tsc;		/* the host's */
		u64 boot_ns;		/* the host's boot time */
		u64 ns;			/* the VM's clock */
		unsigned int epoch;	/* of the host's TSC: the host may sleep */
	} clock;			/* tsc_lock: three clocks at one moment */
	u64 wall_clock_msr;
	raw_spinlock_t tsc_lock;
	u64 last_tsc_write, last_tsc_nsec, last_tsc_offset;	/* tsc_lock: matched TSC writes */
	const char *dead;		/* first reason given to keel_vm_kill(), NULL: alive */
	u32 dirty_ring_bytes;		/* of each vCPU's ring, 0: bitmaps; set before the first vCPU */
	u64 dirty_log_options;		/* KVM_DIRTY_LOG_*: KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
	u64 disabled_exits;		/* KVM_CAP_X86_DISABLE_EXITS; set before the first vCPU */
	s64 halt_poll_ns;		/* KVM_CAP_HALT_POLL; -1: the module's parameter */
	int last_boosted;		/* index of the vCPU that was last yielded to */
	bool exit_on_emulation_error;
	u64 quirks_off;			/* KVM_CAP_DISABLE_QUIRKS2 */
	u32 nr_mmu_pages;		/* KVM_SET_NR_MMU_PAGES */
	u32 max_vcpu_id;		/* KVM_CAP_MAX_VCPU_ID, as a number of ids; 0: not set, and no vCPU yet */
	bool no_platform_info;		/* KVM_CAP_MSR_PLATFORM_INFO was switched off */
	u32 user_space_msr;		/* KVM_MSR_EXIT_REASON_* that exit */
	struct keel_msr_filter __rcu *msr_filter;	/* srcu; written under lock; NULL: all are allowed */
	u8 execution;			/* KEEL_EXECUTION_*; constant once there is a vCPU */
	bool exception_payload;		/* KVM_CAP_EXCEPTION_PAYLOAD is enabled */
	bool triple_fault_event;	/* KVM_CAP_X86_TRIPLE_FAULT_EVENT is enabled */
	void *apic_page;		/* mapped at the local APIC's address, see lapic_virt.c; NULL: none */
	bool apic_page_off;		/* a vCPU has an APIC elsewhere, or none: not mapped any more */
};

/* main.c */
DECLARE_PER_CPU(bool, keel_hw_enabled);
int keel_hw_get(void);
void keel_hw_put(void);

/* On this CPU, interrupts off: may a guest be entered? Changes only by an IPI to this CPU. */
static inline bool keel_hw_on(void)
{
	return this_cpu_read(keel_hw_enabled);
}

/* vm.c */
int keel_vm_create_fd(unsigned long type);
struct keel_vm *keel_vm_get(struct keel_vm *vm);
void keel_vm_put(struct keel_vm *vm);
void keel_vm_kill(struct keel_vm *vm, const char *reason);
void keel_vm_request_all(struct keel_vm *vm, enum keel_req req, struct cpumask *wait);
int keel_check_extension(struct keel_vm *vm, long cap);
struct keel_vcpu *keel_vcpu_by_id(struct keel_vm *vm, u32 id);

#define keel_for_each_vcpu(i, vcpu, vm) \
	for ((i) = 0; (i) < smp_load_acquire(&(vm)->nr_vcpus) && ((vcpu) = (vm)->vcpus[i], true); (i)++)

/* What KVM_SET_GUEST_DEBUG heeds. */
#define KEEL_GUESTDBG \
	(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_USE_HW_BP | \
	 KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_BLOCKIRQ)

/* What KVM does by default although no CPU does it; KVM_CAP_DISABLE_QUIRKS2 switches it off. */
#define KEEL_QUIRKS \
	(KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_OUT_7E_INC_RIP | KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | \
	 KVM_X86_QUIRK_FIX_HYPERCALL_INSN | KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS)

static inline bool keel_quirk(const struct keel_vcpu *vcpu, u64 quirk)
{
	return !(READ_ONCE(vcpu->vm->quirks_off) & quirk);
}

/* vcpu.c */
int keel_vcpu_create_fd(struct keel_vm *vm, u32 id);
void keel_vcpu_destroy(struct keel_vcpu *vcpu);
void keel_vcpu_reset(struct keel_vcpu *vcpu, bool init);

/* crash.c */
DECLARE_STATIC_KEY_FALSE(keel_crash_key);
void keel_crash_here(void);
void keel_crash_module_init(void);
void keel_crash_module_exit(void);

/* run.c */
void keel_run_module_init(void);
int keel_vcpu_run(struct keel_vcpu *vcpu);
void keel_vcpu_kick(struct keel_vcpu *vcpu);
void keel_vcpu_wake(struct keel_vcpu *vcpu);

static inline void keel_request(enum keel_req req, struct keel_vcpu *vcpu)
{
	smp_wmb();	/* what the request is about is seen before the bit */
	set_bit(req, &vcpu->requests);
}

static inline bool keel_check_request(enum keel_req req, struct keel_vcpu *vcpu)
{
	if (!test_bit(req, &vcpu->requests))
		return false;
	clear_bit(req, &vcpu->requests);
	smp_mb__after_atomic();	/* pairs with keel_request() */
	return true;
}

/* The guest flushes its TLB, by an instruction that says so or as a part of one that does more. */
static inline void keel_guest_flush(struct keel_vcpu *vcpu)
{
	if (keel_shadowing)
		keel_shadow_sync(vcpu);
	else
		keel_request(KEEL_REQ_TLB_FLUSH, vcpu);
}

/* A control register that says how the guest's tables are read, or where they are, was written. */
static inline void keel_paging_changed(struct keel_vcpu *vcpu)
{
	if (keel_shadowing)
		keel_request(KEEL_REQ_MMU_RELOAD, vcpu);
}

#define KEEL_XF_PKRU_NR		9	/* of XCR0 and an XSAVE area */

/* Do guests get protection keys? As in KVM: with nested paging, where the host uses them itself. */
static inline bool keel_pku_offered(void)
{
	return !keel_shadowing && boot_cpu_has(X86_FEATURE_OSPKE);
}

/*
 * Can the guest read or write PKRU, by its instructions or by XSAVE? All that changes the answer exits, so that
 * the bit of st.cr4 is true even while the rest of it is not valid; but for a guest that may write CR4 as it likes.
 */
static inline bool keel_pkru_used(const struct keel_vcpu *vcpu)
{
	return (vcpu->st.cr4 & X86_CR4_PKE) || (vcpu->st.xcr0 & BIT_ULL(KEEL_XF_PKRU_NR)) ||
	       (vcpu->cr4_direct && keel_pku_offered());
}

/* exit.c: what the vendors call once they have decoded an exit */
int keel_exit_cpuid(struct keel_vcpu *vcpu);
int keel_exit_hlt(struct keel_vcpu *vcpu);
int keel_exit_mwait(struct keel_vcpu *vcpu);
int keel_halted(struct keel_vcpu *vcpu);
int keel_hypercall(struct keel_vcpu *vcpu, const u64 *gpr, u64 *result);
int keel_exit_rdmsr(struct keel_vcpu *vcpu);
int keel_exit_wrmsr(struct keel_vcpu *vcpu);
int keel_exit_io(struct keel_vcpu *vcpu, u16 port, u8 size, bool in, bool string);
int keel_exit_hypercall(struct keel_vcpu *vcpu);
int keel_exit_xsetbv(struct keel_vcpu *vcpu);
int keel_exit_apic_eoi(struct keel_vcpu *vcpu);
int keel_exit_emulate(struct keel_vcpu *vcpu);
int keel_exit_skip(struct keel_vcpu *vcpu);
int keel_exit_ud(struct keel_vcpu *vcpu);
int keel_exit_undefined(struct keel_vcpu *vcpu);
int keel_exit_rdpmc(struct keel_vcpu *vcpu);
int keel_exit_exception(struct keel_vcpu *vcpu, u8 vector, u32 error);
int keel_exit_shutdown(struct keel_vcpu *vcpu);
int keel_exit_task_switch(struct keel_vcpu *vcpu, const struct keel_task_switch *ts);
int keel_exit_memory(struct keel_vcpu *vcpu, u64 gpa, u32 access);
int keel_exit_page_fault(struct keel_vcpu *vcpu, u64 gva, u32 error);
int keel_exit_debug(struct keel_vcpu *vcpu, u64 dr6, u8 vector);
int keel_exit_emulation_failed(struct keel_vcpu *vcpu);
int keel_exit_kill(struct keel_vcpu *vcpu, const char *reason, u64 code);
int keel_exit_fail_entry(struct keel_vcpu *vcpu, u64 reason);
void keel_step_over(struct keel_vcpu *vcpu, int len);
int keel_skip_insn(struct keel_vcpu *vcpu);
int keel_internal_error(struct keel_vcpu *vcpu, u32 suberror, const u64 *data, u32 ndata);

/* cr.c: control register semantics, shared by exits, the emulator and KVM_SET_SREGS */
void keel_load_pdptes(struct keel_vcpu *vcpu);
int keel_set_cr0(struct keel_vcpu *vcpu, u64 val);
int keel_set_cr3(struct keel_vcpu *vcpu, u64 val);
int keel_set_cr4(struct keel_vcpu *vcpu, u64 val);
int keel_set_efer(struct keel_vcpu *vcpu, u64 val);
int keel_set_xcr0(struct keel_vcpu *vcpu, u64 val);
int keel_set_dr(struct keel_vcpu *vcpu, unsigned int dr, u64 val);
u64 keel_get_dr(struct keel_vcpu *vcpu, unsigned int dr);
bool keel_valid_cr0(u64 val);
bool keel_valid_cr4(struct keel_vcpu *vcpu, u64 val);
bool keel_valid_efer(struct keel_vcpu *vcpu, u64 val);

/* An instruction was stepped over or emulated: a client that single-steps gets its exit from run.c. */
static inline void keel_insn_done(struct keel_vcpu *vcpu)
{
	if (unlikely(vcpu->guest_debug & KVM_GUESTDBG_SINGLESTEP))
		vcpu->step_exit = true;
}

/* hostregs.c */
void keel_hostregs_load(struct keel_vcpu *vcpu);
void keel_hostregs_restore(struct keel_vcpu *vcpu);
void keel_set_tsc_aux(struct keel_vcpu *vcpu, u32 val);

/* emul.c: the kernel side of the emulator */
int keel_emul_create(struct keel_vcpu *vcpu);
void keel_emul_destroy(struct keel_vcpu *vcpu);
int keel_emulate(struct keel_vcpu *vcpu);
int keel_emulate_first(struct keel_vcpu *vcpu);
int keel_emulate_again(struct keel_vcpu *vcpu);
enum keel_emu_mode keel_emul_mode(struct keel_vcpu *vcpu);
int keel_emulate_rsm(struct keel_vcpu *vcpu);
int keel_emul_deliver(struct keel_vcpu *vcpu, u8 type, u8 vector, bool has_error, u32 error);
int keel_emul_task_switch(struct keel_vcpu *vcpu, const struct keel_task_switch *ts, u8 insn_len);

/* mmio.c */
int keel_mmio_device(struct keel_vcpu *vcpu, gpa_t gpa, unsigned int len, void *data, bool write);
int keel_mmio_to_client(struct keel_vcpu *vcpu, gpa_t gpa, unsigned int len, const void *data);
int keel_mmio_move(struct keel_vcpu *vcpu, gpa_t gpa, u32 access);
int keel_mmio_store(struct keel_vcpu *vcpu, u64 linear, gpa_t gpa, u64 *code);

/* insnlen.c */
int keel_insn_length(struct keel_vcpu *vcpu);
int keel_insn_usual(struct keel_vcpu *vcpu, u64 linear, u64 *code);

/* Exits whose instruction has but one encoding without prefixes. */
#define KEEL_USUAL_REASONS \
	(BIT_ULL(KEEL_REASON_CPUID) | BIT_ULL(KEEL_REASON_RDMSR) | BIT_ULL(KEEL_REASON_WRMSR) | BIT_ULL(KEEL_REASON_HLT) | \
	 BIT_ULL(KEEL_REASON_PAUSE) | BIT_ULL(KEEL_REASON_RDPMC) | BIT_ULL(KEEL_REASON_XSETBV) | \
	 BIT_ULL(KEEL_REASON_HYPERCALL))

/* interpret.c */
struct keel_execution;
bool keel_delivers_softly(const struct keel_vcpu *vcpu);
int keel_interpret(struct keel_vcpu *vcpu);
int keel_interpret_event(struct keel_vcpu *vcpu, bool *delivered);
int keel_interpret_trapped(struct keel_vcpu *vcpu);
long keel_set_execution(struct keel_vm *vm, const struct keel_execution __user *uexec);
long keel_get_execution(struct keel_vcpu *vcpu, struct keel_execution __user *uexec);

/* inject.c */
void keel_inject_exception(struct keel_vcpu *vcpu, u8 vector);
void keel_inject_exception_err(struct keel_vcpu *vcpu, u8 vector, u32 error);
void keel_inject_fault(struct keel_vcpu *vcpu, const struct keel_fault *fault);
void keel_inject_debug(struct keel_vcpu *vcpu, u64 dr6);
void keel_deliver_payload(struct keel_vcpu *vcpu);
void keel_inject_nmi(struct keel_vcpu *vcpu);
void keel_requeue_event(struct keel_vcpu *vcpu, u8 type, u8 vector, bool has_error, u32 error);
int keel_inject_pending(struct keel_vcpu *vcpu);
bool keel_has_interrupt(struct keel_vcpu *vcpu);
bool keel_accepts_client_interrupt(struct keel_vcpu *vcpu);
bool keel_can_take_interrupt(struct keel_vcpu *vcpu);

/* fpu.c */
int keel_fpu_module_init(void);
int keel_fpu_create(struct keel_vcpu *vcpu);
void keel_fpu_destroy(struct keel_vcpu *vcpu);
void keel_fpu_reset(struct keel_vcpu *vcpu, bool init);
void keel_fpu_load(struct keel_vcpu *vcpu);
void keel_fpu_put(struct keel_vcpu *vcpu);
u64 keel_fpu_host_xcr0(void);
u64 keel_fpu_supported_xcr0(void);
void keel_fpu_set_xcr0(struct keel_vcpu *vcpu, u64 xcr0);
void keel_pkru_load(struct keel_vcpu *vcpu);
void keel_pkru_restore(struct keel_vcpu *vcpu);
u32 keel_xstate_size(u64 mask, bool compacted);
unsigned int keel_fpu_size(void);
void keel_fpu_get_legacy(struct keel_vcpu *vcpu, struct kvm_fpu *fpu);
int keel_fpu_set_legacy(struct keel_vcpu *vcpu, const struct kvm_fpu *fpu);
void keel_fpu_get_xsave(struct keel_vcpu *vcpu, void *buf, unsigned int size);
int keel_fpu_set_xsave(struct keel_vcpu *vcpu, const void *buf, unsigned int size);
void keel_fpu_read_vec(struct keel_vcpu *vcpu, unsigned int reg, u8 *val, unsigned int len);
void keel_fpu_write_vec(struct keel_vcpu *vcpu, unsigned int reg, const u8 *val, unsigned int len, bool zero_upper);
void keel_fpu_get_fx(struct keel_vcpu *vcpu, void *fx);
int keel_fpu_set_fx(struct keel_vcpu *vcpu, const void *fx);
int keel_fpu_mmx(struct keel_vcpu *vcpu, unsigned int reg, u8 val[8], bool write);

/* regs.c: the state ioctls; the caller holds vcpu->mutex */
long keel_vcpu_state(struct keel_vcpu *vcpu, unsigned int cmd, void *buf);
long keel_vcpu_state_ioctl(struct keel_vcpu *vcpu, unsigned int cmd, void __user *arg);

/* cpuid.c */
void keel_cpuid_module_init(void);
int keel_cpuid_supported(struct kvm_cpuid2 __user *ucpuid, bool emulated);
int keel_cpuid_set(struct keel_vcpu *vcpu, struct kvm_cpuid2 __user *ucpuid);
int keel_cpuid_set1(struct keel_vcpu *vcpu, struct kvm_cpuid __user *ucpuid);
int keel_cpuid_get(struct keel_vcpu *vcpu, struct kvm_cpuid2 __user *ucpuid);
struct keel_cpuid_answer keel_cpuid_query(struct keel_vcpu *vcpu, u32 function, u32 index);
bool keel_cpuid_answer_now(struct keel_vcpu *vcpu);
void keel_cpuid_forget(struct keel_vcpu *vcpu);
void keel_cpuid_refresh(struct keel_vcpu *vcpu);
bool keel_cpuid_faults(struct keel_vcpu *vcpu);
bool keel_mwait_undefined(const struct keel_vcpu *vcpu);
u64 keel_host_efer_bits(void);
const struct kvm_cpuid_entry2 *keel_cpuid_find(struct keel_vcpu *vcpu, u32 function, u32 index);

static __always_inline struct keel_cpuid_answer *keel_cpuid_slot(struct keel_vcpu *vcpu, u32 function)
{
	/* The three classes of functions begin at places of their own. */
	return &vcpu->cpuid.answers[(function + (function >> 28)) % KEEL_CPUID_ANSWERS];
}

/**
 * keel_cpuid_ready() - an answer to the guest's CPUID instruction that is at hand
 * @vcpu: the vCPU, locked; interrupts may be off
 * @function: EAX
 * @index: ECX
 *
 * Return: the answer; NULL: keel_cpuid_query()
 */
static __always_inline const struct keel_cpuid_answer *keel_cpuid_ready(struct keel_vcpu *vcpu, u32 function, u32 index)
{
	const struct keel_cpuid_answer *a = keel_cpuid_slot(vcpu, function);

	return likely(!((a->function ^ function) | ((a->index ^ index) & a->mask))) ? a : NULL;
}

/* The end of CPUID. */
static __always_inline void keel_cpuid_give(struct keel_vcpu *vcpu, const struct keel_cpuid_answer *a)
{
	u64 *gpr = vcpu->st.gpr;

	gpr[KEEL_RAX] = a->eax;
	gpr[KEEL_RBX] = a->ebx;
	gpr[KEEL_RCX] = a->ecx;
	gpr[KEEL_RDX] = a->edx;
}

/* CR8, the task priority: the local APIC's, or without one the vCPU's own. */
static inline u64 keel_get_cr8(struct keel_vcpu *vcpu)
{
	return vcpu->apic ? keel_lapic_get_cr8(vcpu) : vcpu->cr8;
}

static inline void keel_put_cr8(struct keel_vcpu *vcpu, u64 cr8)
{
	if (vcpu->apic)
		keel_lapic_set_cr8(vcpu, cr8);
	else
		vcpu->cr8 = cr8;
}

static inline bool keel_guest_has(const struct keel_vcpu *vcpu, u64 feature)
{
	return vcpu->cpuid.features & feature;
}

/* msr.c: 0, or -ENOENT (no such MSR: #GP in the guest), -EINVAL (bad value: #GP) */
int keel_msr_module_init(void);
int keel_msr_get(struct keel_vcpu *vcpu, u32 msr, u64 *val, bool host);
int keel_msr_set(struct keel_vcpu *vcpu, u32 msr, u64 val, bool host);
int keel_msr_index_list(struct kvm_msr_list __user *ulist, bool features);
long keel_mce_cap_ioctl(u64 __user *ucap);
int keel_msr_feature_get(u32 msr, u64 *val);
void keel_msr_reset(struct keel_vcpu *vcpu, bool init);
long keel_vcpu_msrs_ioctl(struct keel_vcpu *vcpu, unsigned int cmd, struct kvm_msrs __user *umsrs);
long keel_system_msrs_ioctl(struct kvm_msrs __user *umsrs);

/* msrfilter.c */
long keel_msr_filter_ioctl(struct keel_vm *vm, const void __user *ufilter);
void keel_msr_filter_destroy(struct keel_vm *vm);
bool keel_msr_allowed(struct keel_vm *vm, u32 msr, bool write);
int keel_guest_msr(struct keel_vcpu *vcpu, u32 msr, u64 *val, bool write);
bool keel_msr_to_client(struct keel_vcpu *vcpu, u32 msr, u64 val, bool write, int err);
int keel_set_user_space_msr(struct keel_vm *vm, u64 reasons);

/* msr_mce.c */
int keel_setup_mce(struct keel_vcpu *vcpu, u64 cap);
int keel_set_mce(struct keel_vcpu *vcpu, const struct kvm_x86_mce *mce);

/* syncregs.c */
int keel_sync_regs_in(struct keel_vcpu *vcpu);
void keel_sync_regs_out(struct keel_vcpu *vcpu);

/* statsfd.c */
int keel_stats_fd(struct keel_vm *vm, struct keel_vcpu *vcpu);

/* attr.c */
long keel_system_attr_ioctl(unsigned int cmd, const struct kvm_device_attr __user *uattr);
long keel_vcpu_attr_ioctl(struct keel_vcpu *vcpu, unsigned int cmd, const struct kvm_device_attr __user *uattr);

/* clock.c */
u64 keel_guest_tsc(const struct keel_vcpu *vcpu);
void keel_set_guest_tsc(struct keel_vcpu *vcpu, u64 tsc);
void keel_set_tsc_offset(struct keel_vcpu *vcpu, u64 offset);
void keel_adjust_guest_tsc(struct keel_vcpu *vcpu, u64 delta);
int keel_set_tsc_khz(struct keel_vcpu *vcpu, u32 khz);
u32 keel_get_tsc_khz(const struct keel_vcpu *vcpu);

/* kvmclock.c */
#define KEEL_CLOCK_FLAGS	(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC)
u64 keel_clock_ns(struct keel_vm *vm);
void keel_clock_set_ns(struct keel_vm *vm, u64 ns);
void keel_clock_update(struct keel_vcpu *vcpu);
bool keel_clock_stale(struct keel_vcpu *vcpu);
void keel_clock_tsc_moved(struct keel_vm *vm);
void keel_clock_resumed(void);
int keel_clock_stopped(struct keel_vcpu *vcpu);
void keel_clock_write_wall(struct keel_vcpu *vcpu);
long keel_clock_ioctl(struct keel_vm *vm, unsigned int cmd, void __user *uarg);

/* iobus.c: in-kernel devices; 0, or -EOPNOTSUPP when no range takes the access */
struct keel_io_range;
enum keel_bus { KEEL_PIO_BUS, KEEL_MMIO_BUS };
struct keel_io_ops {
	/* @ctx of the range; return 0, or -EOPNOTSUPP to pass the access on */
	int (*read)(struct keel_vcpu *vcpu, void *ctx, u64 addr, unsigned int len, void *val);
	int (*write)(struct keel_vcpu *vcpu, void *ctx, u64 addr, unsigned int len, const void *val);
};
struct keel_io_range {
	struct list_head link;
	u64 start, len;
	const struct keel_io_ops *ops;
	void *ctx;
};
void keel_io_register(struct keel_vm *vm, enum keel_bus bus, struct keel_io_range *range);
void keel_io_unregister(struct keel_vm *vm, struct keel_io_range *range);
int keel_io_read(struct keel_vcpu *vcpu, enum keel_bus bus, u64 addr, unsigned int len, void *val);
int keel_io_write(struct keel_vcpu *vcpu, enum keel_bus bus, u64 addr, unsigned int len, const void *val);
int keel_io_write_atomic(struct keel_vcpu *vcpu, enum keel_bus bus, u64 addr, unsigned int len, const void *val);
int keel_io_write_range(struct keel_vcpu *vcpu, enum keel_bus bus, u64 addr, unsigned int len, const void *val);

#endif /* KEEL_KEEL_H */
