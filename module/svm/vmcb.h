/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The virtual machine control block: layout (APM 2, appendix B), intercepts and exit codes (appendix C).
 */
#ifndef KEEL_SVM_VMCB_H
#define KEEL_SVM_VMCB_H

#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/types.h>

/* Intercept words at offset 0: word number * 32 + bit */
enum {
	SVM_ICPT_CR_READ = 0,		/* + CR number */
	SVM_ICPT_CR_WRITE = 16,
	SVM_ICPT_DR_READ = 32,
	SVM_ICPT_DR_WRITE = 48,
	SVM_ICPT_EXCEPTION = 64,	/* + vector */
	SVM_ICPT_INTR = 96,
	SVM_ICPT_NMI,
	SVM_ICPT_SMI,
	SVM_ICPT_INIT,
	SVM_ICPT_VINTR,
	SVM_ICPT_CR0_SEL_WRITE,
	SVM_ICPT_IDTR_READ,
	SVM_ICPT_GDTR_READ,
	SVM_ICPT_LDTR_READ,
	SVM_ICPT_TR_READ,
	SVM_ICPT_IDTR_WRITE,
	SVM_ICPT_GDTR_WRITE,
	SVM_ICPT_LDTR_WRITE,
	SVM_ICPT_TR_WRITE,
	SVM_ICPT_RDTSC,
	SVM_ICPT_RDPMC,
	SVM_ICPT_PUSHF,
	SVM_ICPT_POPF,
	SVM_ICPT_CPUID,
	SVM_ICPT_RSM,
	SVM_ICPT_IRET,
	SVM_ICPT_SWINT,
	SVM_ICPT_INVD,
	SVM_ICPT_PAUSE,
	SVM_ICPT_HLT,
	SVM_ICPT_INVLPG,
	SVM_ICPT_INVLPGA,
	SVM_ICPT_IOIO,
	SVM_ICPT_MSR,
	SVM_ICPT_TASK_SWITCH,
	SVM_ICPT_FERR_FREEZE,
	SVM_ICPT_SHUTDOWN,
	SVM_ICPT_VMRUN = 128,
	SVM_ICPT_VMMCALL,
	SVM_ICPT_VMLOAD,
	SVM_ICPT_VMSAVE,
	SVM_ICPT_STGI,
	SVM_ICPT_CLGI,
	SVM_ICPT_SKINIT,
	SVM_ICPT_RDTSCP,
	SVM_ICPT_ICEBP,
	SVM_ICPT_WBINVD,
	SVM_ICPT_MONITOR,
	SVM_ICPT_MWAIT,
	SVM_ICPT_MWAIT_ARMED,
	SVM_ICPT_XSETBV,
	SVM_ICPT_RDPRU,
};

struct vmcb_control {
	u32 intercept[6];
	u8 reserved_18[0x3c - 0x18];
	u16 pause_threshold;
	u16 pause_count;
	u64 iopm_base_pa;
	u64 msrpm_base_pa;
	u64 tsc_offset;
	u32 asid;
	u8 tlb_control;
	u8 reserved_5d[3];
	u32 int_ctl;		/* V_TPR, V_IRQ ... V_INTR_MASKING */
	u32 int_vector;
	u32 int_state;		/* bit 0: interrupt shadow */
	u32 reserved_6c;
	u64 exit_code;
	u64 exit_info_1;
	u64 exit_info_2;
	u32 exit_int_info;
	u32 exit_int_info_error;
	u64 np_control;
	u64 avic_bar;
	u64 ghcb_pa;
	u32 event_inj;
	u32 event_inj_error;
	u64 n_cr3;
	u64 virt_ext;
	u32 clean;
	u32 reserved_c4;
	u64 next_rip;
	u8 nr_bytes;
	u8 bytes[15];
	u64 avic_backing_page;
	u64 reserved_e8;
	u64 avic_logical_table;
	u64 avic_physical_table;
	u8 reserved_100[0x400 - 0x100];
};

struct vmcb_seg {
	u16 selector;
	u16 attr;		/* bits 7:0 and 11:8 of the descriptor's 47:40 and 55:52 */
	u32 limit;
	u64 base;
};

struct vmcb_save {
	struct vmcb_seg es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	u8 reserved_a0[0xcb - 0xa0];
	u8 cpl;
	u32 reserved_cc;
	u64 efer;
	u8 reserved_d8[0x148 - 0xd8];
	u64 cr4, cr3, cr0, dr7, dr6, rflags, rip;
	u8 reserved_180[0x1d8 - 0x180];
	u64 rsp, s_cet, ssp, isst_addr, rax, star, lstar, cstar, sfmask, kernel_gs_base;
	u64 sysenter_cs, sysenter_esp, sysenter_eip, cr2;
	u8 reserved_248[0x268 - 0x248];
	u64 g_pat, dbgctl, br_from, br_to, last_excp_from, last_excp_to;
	u8 reserved_298[0x2e0 - 0x298];
	u64 spec_ctrl;
};

struct vmcb {
	struct vmcb_control control;
	struct vmcb_save save;
};

static_assert(offsetof(struct vmcb_control, iopm_base_pa) == 0x40);
static_assert(offsetof(struct vmcb_control, exit_code) == 0x70);
static_assert(offsetof(struct vmcb_control, event_inj) == 0xa8);
static_assert(offsetof(struct vmcb_control, next_rip) == 0xc8);
static_assert(offsetof(struct vmcb, save) == 0x400);
static_assert(offsetof(struct vmcb_save, efer) == 0xd0);
static_assert(offsetof(struct vmcb_save, rip) == 0x178);
static_assert(offsetof(struct vmcb_save, rsp) == 0x1d8);
static_assert(offsetof(struct vmcb_save, cr2) == 0x240);
static_assert(offsetof(struct vmcb_save, g_pat) == 0x268);
static_assert(offsetof(struct vmcb_save, spec_ctrl) == 0x2e0);

#define SVM_TLB_NOTHING		0
#define SVM_TLB_FLUSH_ALL	1
#define SVM_TLB_FLUSH_ASID	3

#define SVM_INT_TPR		0x0f
#define SVM_INT_V_IRQ		BIT(8)
#define SVM_INT_PRIO(p)		((u32)(p) << 16)
#define SVM_INT_PRIO_MASK	(0xfu << 16)
#define SVM_INT_IGN_TPR		BIT(20)
#define SVM_INT_MASKING		BIT(24)

#define SVM_STATE_SHADOW	BIT(0)
#define SVM_NP_ENABLE		BIT(0)

/* EVENTINJ and EXITINTINFO (15.20) */
#define SVM_EV_VECTOR		0xff
#define SVM_EV_TYPE(ev)		(((ev) >> 8) & 7)
#define SVM_EV_ERROR		BIT(11)
#define SVM_EV_VALID		BIT(31)

/* exit_info_1 of IOIO (15.10.2) */
#define SVM_IO_IN		BIT(0)
#define SVM_IO_STRING		BIT(2)
#define SVM_IO_SIZE(info)	(((info) >> 4) & 7)

/* exit_info_1 of a nested page fault (15.25.6), beside the page-fault error code */
#define SVM_NPF_TABLE		BIT_ULL(33)

/* exit_info_2 of a task switch (15.14.1) */
#define SVM_TS_IRET		BIT_ULL(36)
#define SVM_TS_JMP		BIT_ULL(38)
#define SVM_TS_HAS_ERROR	BIT_ULL(44)
#define SVM_TS_RF		BIT_ULL(48)	/* the flag for the old task's TSS */

enum svm_exit_code {
	SVM_EXIT_CR_READ = 0x000,
	SVM_EXIT_CR_WRITE = 0x010,
	SVM_EXIT_DR_READ = 0x020,
	SVM_EXIT_DR_WRITE = 0x030,
	SVM_EXIT_EXCEPTION = 0x040,
	SVM_EXIT_INTR = 0x060,
	SVM_EXIT_NMI,
	SVM_EXIT_SMI,
	SVM_EXIT_INIT,
	SVM_EXIT_VINTR,
	SVM_EXIT_CR0_SEL_WRITE,
	SVM_EXIT_IDTR_READ,
	SVM_EXIT_GDTR_READ,
	SVM_EXIT_LDTR_READ,
	SVM_EXIT_TR_READ,
	SVM_EXIT_IDTR_WRITE,
	SVM_EXIT_GDTR_WRITE,
	SVM_EXIT_LDTR_WRITE,
	SVM_EXIT_TR_WRITE,
	SVM_EXIT_RDTSC,
	SVM_EXIT_RDPMC,
	SVM_EXIT_PUSHF,
	SVM_EXIT_POPF,
	SVM_EXIT_CPUID,
	SVM_EXIT_RSM,
	SVM_EXIT_IRET,
	SVM_EXIT_SWINT,
	SVM_EXIT_INVD,
	SVM_EXIT_PAUSE,
	SVM_EXIT_HLT,
	SVM_EXIT_INVLPG,
	SVM_EXIT_INVLPGA,
	SVM_EXIT_IOIO,
	SVM_EXIT_MSR,
	SVM_EXIT_TASK_SWITCH,
	SVM_EXIT_FERR_FREEZE,
	SVM_EXIT_SHUTDOWN,
	SVM_EXIT_VMRUN,
	SVM_EXIT_VMMCALL,
	SVM_EXIT_VMLOAD,
	SVM_EXIT_VMSAVE,
	SVM_EXIT_STGI,
	SVM_EXIT_CLGI,
	SVM_EXIT_SKINIT,
	SVM_EXIT_RDTSCP,
	SVM_EXIT_ICEBP,
	SVM_EXIT_WBINVD,
	SVM_EXIT_MONITOR,
	SVM_EXIT_MWAIT,
	SVM_EXIT_MWAIT_ARMED,
	SVM_EXIT_XSETBV,
	SVM_EXIT_RDPRU,
	SVM_EXIT_EFER_WRITE_TRAP,
	SVM_EXIT_CR_WRITE_TRAP = 0x090,
	SVM_EXIT_INVLPGB = 0x0a0,
	SVM_EXIT_INVLPGB_ILLEGAL,
	SVM_EXIT_INVPCID,
	SVM_EXIT_MCOMMIT,
	SVM_EXIT_TLBSYNC,
	SVM_EXIT_BUSLOCK,
	SVM_EXIT_IDLE_HLT,
	SVM_EXIT_NPF = 0x400,
	SVM_EXIT_AVIC_INCOMPLETE_IPI,
	SVM_EXIT_AVIC_NOACCEL,
	SVM_EXIT_VMGEXIT,
};

#define SVM_EXIT_INVALID	(~0ULL)
#define SVM_EXIT_BUSY		(~1ULL)		/* VMRUN of a VMCB in use: 15.36.10 */
#define SVM_EXIT_IDLE_REQUIRED	(~2ULL)
#define SVM_EXIT_INVALID_PMC	(~3ULL)

static_assert(SVM_EXIT_SHUTDOWN == 0x7f && SVM_EXIT_VMRUN == 0x80 && SVM_EXIT_EFER_WRITE_TRAP == 0x8f);
static_assert(SVM_EXIT_IDLE_HLT == 0xa6 && SVM_EXIT_VMGEXIT == 0x403);
static_assert(SVM_ICPT_SHUTDOWN == 127);

#endif /* KEEL_SVM_VMCB_H */
