/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What Keel offers beyond the ABI of <linux/kvm.h>. Each structure begins with a version and its size; what is
 * reserved must be zero.
 */
#ifndef _UAPI_LINUX_KEEL_H
#define _UAPI_LINUX_KEEL_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define KEELIO			0xBD

#define KEEL_INFO_VERSION	1

/* keel_info.backend */
#define KEEL_BACKEND_SVM	1
#define KEEL_BACKEND_VMX	2

/* keel_info.features: what the backend uses on this machine */
#define KEEL_INFO_NESTED_PAGING		(1ULL << 0)
#define KEEL_INFO_NEXT_RIP		(1ULL << 1)	/* instruction lengths come from the hardware */
#define KEEL_INFO_FLUSH_BY_TAG		(1ULL << 2)	/* one VM's translations can be dropped alone */
#define KEEL_INFO_DECODE_ASSISTS	(1ULL << 3)	/* instruction bytes come from the hardware */
#define KEEL_INFO_EXECUTION		(1ULL << 4)	/* KEEL_SET_EXECUTION, KEEL_GET_EXECUTION */

/**
 * struct keel_info - KEEL_GET_INFO
 * @version: in: KEEL_INFO_VERSION
 * @size: in: sizeof(struct keel_info)
 * @backend: out: KEEL_BACKEND_*
 * @nr_tags: out: ASIDs or VPIDs of a CPU
 * @features: out: KEEL_INFO_*
 * @reserved: in: zero
 */
struct keel_info {
	__u32 version;
	__u32 size;
	__u32 backend;
	__u32 nr_tags;
	__u64 features;
	__u64 reserved[5];
};

/*
 * On /dev/keel: which virtualization extension is in use, and how.
 * Errors: EFAULT; EINVAL for another version or size, or reserved fields that are not zero.
 */
#define KEEL_GET_INFO		_IOWR(KEELIO, 0x00, struct keel_info)

#define KEEL_EXECUTION_VERSION	1

/* keel_execution.mode */
#define KEEL_EXECUTION_DIRECT		0	/* by the CPU */
#define KEEL_EXECUTION_INTERPRETED	1	/* by the emulator */
#define KEEL_EXECUTION_TRAPPED		2	/* each instruction exits, then the emulator has it */

/**
 * struct keel_execution - KEEL_SET_EXECUTION, KEEL_GET_EXECUTION
 * @version: in: KEEL_EXECUTION_VERSION
 * @size: in: sizeof(struct keel_execution)
 * @mode: KEEL_EXECUTION_*: in to set, zero and out to get
 * @flags: in: zero
 * @emulated: in: zero; out: instructions of this vCPU that the emulator completed
 * @entries: in: zero; out: how often this vCPU was on the CPU
 * @reserved: in: zero
 */
struct keel_execution {
	__u32 version;
	__u32 size;
	__u32 mode;
	__u32 flags;
	__u64 emulated;
	__u64 entries;
	__u64 reserved[4];
};

/*
 * For debugging, on a VM without vCPUs: how its instructions are executed. What the emulator does not know (x87,
 * vector arithmetic) ends an interpreted or trapped VM with KVM_INTERNAL_ERROR_EMULATION.
 * Errors: EFAULT; EINVAL for another version or size, an unknown mode, or other fields that are not zero; EBUSY
 * when there is a vCPU.
 */
#define KEEL_SET_EXECUTION	_IOW(KEELIO, 0x01, struct keel_execution)

/*
 * On a vCPU: the mode of its VM, and counts.
 * Errors: EFAULT; EINVAL for another version or size, or other fields that are not zero.
 */
#define KEEL_GET_EXECUTION	_IOWR(KEELIO, 0x02, struct keel_execution)

/*
 * For guests: Keel's own CPUID leaves, there only when one of the features is. EAX of the first is the highest of
 * them; EBX, ECX and EDX are "Keel" each. EAX of the second has KEEL_FEATURE_*.
 */
#define KEEL_CPUID_BASE		0x40000100
#define KEEL_CPUID_FEATURES	0x40000101

#define KEEL_FEATURE_PT_UPDATE	(1U << 0)	/* KEEL_HC_PT_UPDATE and KEEL_HC_SET_CR3 */

/**
 * struct keel_pt_update - one update of a page table
 * @gpa: guest physical address of the entry, aligned to its size: 8, or 4 with 32-bit paging
 * @value: its new value
 */
struct keel_pt_update {
	__u64 gpa;
	__u64 value;
};

#define KEEL_PT_UPDATE_MAX	512	/* in one call */

/*
 * Hypercalls of the guest's kernel, as KVM's (number in RAX, arguments in RBX and RCX, result in RAX), for a guest whose
 * page tables are shadowed: each of its own writes to them costs an exit, and these do a list in one.
 *
 * KEEL_HC_PT_UPDATE: make the updates at guest physical address RBX, RCX of them, in order, and flush this vCPU's TLB.
 * The result is how many were made; if that is less than RCX, the next one was refused: its entry or the page that it
 * leads to is not the VM's, or it would make a page that is in use as a page table writable. A leaf of 1 GiB is refused.
 * -KVM_EINVAL: no paging, or a bad list or count; -KVM_EFAULT: the list is not in memory. None was made then.
 *
 * KEEL_HC_SET_CR3: as MOV to CR3 of RBX. 0, or -KVM_EINVAL: reserved bits, or the table is not in the VM's memory.
 */
#define KEEL_HC_PT_UPDATE	0x4b650001
#define KEEL_HC_SET_CR3		0x4b650002

/**
 * enum keel_exit_reason - why a vCPU left the guest, the same for both vendors
 *
 * Documentation/live-view.rst says which exits of AMD-V and VT-x each stands for.
 */
enum keel_exit_reason {
	KEEL_REASON_OTHER,		/* also what KVM_RUN cost before the first exit */
	KEEL_REASON_INTERRUPT,		/* an interrupt of the host's */
	KEEL_REASON_NMI,		/* an NMI of the host's */
	KEEL_REASON_TIMER,		/* the guest's own deadline, where the CPU watches it */
	KEEL_REASON_INTERRUPT_WINDOW,	/* the guest can take an interrupt again */
	KEEL_REASON_NMI_WINDOW,
	KEEL_REASON_TPR,		/* the task priority changed */
	KEEL_REASON_EXCEPTION,
	KEEL_REASON_NESTED_FAULT,	/* memory that is not mapped yet */
	KEEL_REASON_MMIO,		/* memory that is a device's */
	KEEL_REASON_CPUID,
	KEEL_REASON_HLT,
	KEEL_REASON_PAUSE,		/* a loop of them */
	KEEL_REASON_IO,			/* a port */
	KEEL_REASON_RDMSR,
	KEEL_REASON_WRMSR,
	KEEL_REASON_HYPERCALL,
	KEEL_REASON_CR,
	KEEL_REASON_DR,
	KEEL_REASON_XSETBV,
	KEEL_REASON_RDPMC,
	KEEL_REASON_MWAIT,		/* MONITOR as well */
	KEEL_REASON_CACHE,		/* INVD, WBINVD */
	KEEL_REASON_INVLPG,
	KEEL_REASON_TASK_SWITCH,
	KEEL_REASON_APIC_ACCESS,	/* the local APIC's registers, where the CPU knows them */
	KEEL_REASON_APIC_WRITE,
	KEEL_REASON_APIC_EOI,
	KEEL_REASON_UNDEFINED,		/* an instruction that no guest has */
	KEEL_REASON_SHUTDOWN,		/* a triple fault */
	KEEL_REASON_FAIL_ENTRY,		/* the CPU refused the guest's state */
	KEEL_NR_REASONS,
};

/* Their names, for tables of { value, name }. */
#define KEEL_REASON_NAMES \
	{ KEEL_REASON_OTHER, "other" }, \
	{ KEEL_REASON_INTERRUPT, "interrupt" }, \
	{ KEEL_REASON_NMI, "nmi" }, \
	{ KEEL_REASON_TIMER, "timer" }, \
	{ KEEL_REASON_INTERRUPT_WINDOW, "interrupt_window" }, \
	{ KEEL_REASON_NMI_WINDOW, "nmi_window" }, \
	{ KEEL_REASON_TPR, "tpr" }, \
	{ KEEL_REASON_EXCEPTION, "exception" }, \
	{ KEEL_REASON_NESTED_FAULT, "nested_fault" }, \
	{ KEEL_REASON_MMIO, "mmio" }, \
	{ KEEL_REASON_CPUID, "cpuid" }, \
	{ KEEL_REASON_HLT, "hlt" }, \
	{ KEEL_REASON_PAUSE, "pause" }, \
	{ KEEL_REASON_IO, "io" }, \
	{ KEEL_REASON_RDMSR, "rdmsr" }, \
	{ KEEL_REASON_WRMSR, "wrmsr" }, \
	{ KEEL_REASON_HYPERCALL, "hypercall" }, \
	{ KEEL_REASON_CR, "cr" }, \
	{ KEEL_REASON_DR, "dr" }, \
	{ KEEL_REASON_XSETBV, "xsetbv" }, \
	{ KEEL_REASON_RDPMC, "rdpmc" }, \
	{ KEEL_REASON_MWAIT, "mwait" }, \
	{ KEEL_REASON_CACHE, "cache" }, \
	{ KEEL_REASON_INVLPG, "invlpg" }, \
	{ KEEL_REASON_TASK_SWITCH, "task_switch" }, \
	{ KEEL_REASON_APIC_ACCESS, "apic_access" }, \
	{ KEEL_REASON_APIC_WRITE, "apic_write" }, \
	{ KEEL_REASON_APIC_EOI, "apic_eoi" }, \
	{ KEEL_REASON_UNDEFINED, "undefined" }, \
	{ KEEL_REASON_SHUTDOWN, "shutdown" }, \
	{ KEEL_REASON_FAIL_ENTRY, "fail_entry" }

/*
 * Histograms of what exits cost: bucket 0 counts those of 0 ticks of the time stamp counter, bucket N those of
 * 2^(N-1) ticks and more, below 2^N; the last one also all above.
 */
#define KEEL_COST_BUCKETS	30

/*
 * Generic netlink: what runs on this host. Everybody sees the VMs of their own; who has CAP_SYS_ADMIN in their
 * user namespace sees those of all the users in it. Nobody sees a VM of a process that is not in their PID
 * namespace. User and process ids are those of the reader's namespaces.
 */
#define KEEL_GENL_NAME		"keel"
#define KEEL_GENL_VERSION	1
#define KEEL_GENL_EVENTS	"events"	/* the multicast group */

/**
 * enum keel_genl_command - commands; all but the last are dump requests
 * @KEEL_CMD_GET_VMS: a message for each VM
 * @KEEL_CMD_GET_VCPUS: a message for each vCPU, of one VM (KEEL_A_VM_ID) or of all
 * @KEEL_CMD_GET_EVENTS: a message for each event after KEEL_A_SEQ, if the kernel still has it, and a last one with
 *	the KEEL_A_SEQ to ask for next, and KEEL_A_LOST if there are some that it has not. Without KEEL_A_SEQ, only
 *	that last one
 * @KEEL_CMD_EVENTS: sent to the group "events": there is something new. It says nothing more, since it goes to
 *	everybody: KEEL_CMD_GET_EVENTS gives to each what is theirs to know
 *
 * Errors: EINVAL for attributes that are not named here, and for those of another size.
 */
enum keel_genl_command {
	KEEL_CMD_UNSPEC,
	KEEL_CMD_GET_VMS,
	KEEL_CMD_GET_VCPUS,
	KEEL_CMD_GET_EVENTS,
	KEEL_CMD_EVENTS,
};

/* KEEL_A_STATE */
enum keel_vcpu_state {
	KEEL_STATE_NEW,		/* never was in KVM_RUN */
	KEEL_STATE_GUEST,	/* executes the guest */
	KEEL_STATE_KERNEL,	/* in KVM_RUN, on a CPU */
	KEEL_STATE_OFF,		/* in KVM_RUN: halted, or waits for a CPU or for memory */
	KEEL_STATE_USER,	/* outside KVM_RUN */
};

/* KEEL_A_EVENT */
enum keel_vm_event {
	KEEL_EVENT_CREATED = 1,
	KEEL_EVENT_DESTROYED,	/* KEEL_A_REASON if it had been killed */
	KEEL_EVENT_KILLED,	/* KEEL_A_REASON */
	KEEL_EVENT_ERROR,	/* a vCPU cannot go on: KEEL_A_VCPU_ID, KEEL_A_REASON */
};

/* Attributes; times are in ns. */
enum keel_genl_attribute {
	KEEL_A_UNSPEC,
	KEEL_A_PAD,
	KEEL_A_VM_ID,		/* u64, never used twice */
	KEEL_A_UID,		/* u32: who made the VM */
	KEEL_A_PID,		/* u32: the process that did */
	KEEL_A_NAME,		/* string: its name then */
	KEEL_A_VCPUS,		/* u32: how many */
	KEEL_A_MEMORY,		/* u64: bytes in all memory slots */
	KEEL_A_RESIDENT,	/* u64: bytes of the process that are in memory */
	KEEL_A_UPTIME,		/* u64: since the VM was made */
	KEEL_A_TSC_KHZ,		/* u32: ticks in a ms */
	KEEL_A_REASON,		/* string: why a VM was killed, why a vCPU cannot go on; absent: it can */
	KEEL_A_VCPU_ID,		/* u32: the client's number of it */
	KEEL_A_TID,		/* u32: the thread of the last KVM_RUN; absent: none */
	KEEL_A_STATE,		/* u32: enum keel_vcpu_state */
	KEEL_A_TIME_GUEST,	/* u64 */
	KEEL_A_TIME_KERNEL,	/* u64: in KVM_RUN, on a CPU, but not in the guest */
	KEEL_A_TIME_USER,	/* u64: outside KVM_RUN, since the first */
	KEEL_A_TIME_OFF,	/* u64: in KVM_RUN without a CPU */
	KEEL_A_TIME_STEAL,	/* u64: waiting for a CPU, in KVM_RUN or outside */
	KEEL_A_EXIT,		/* nested, one for each reason that occurred: the next four */
	KEEL_A_EXIT_REASON,	/* u32: enum keel_exit_reason */
	KEEL_A_EXIT_COUNT,	/* u64 */
	KEEL_A_EXIT_TICKS,	/* u64: what they cost in all */
	KEEL_A_EXIT_HIST,	/* u64 array: see KEEL_COST_BUCKETS; ends with the last that is not 0 */
	KEEL_A_SEQ,		/* u64: number of an event */
	KEEL_A_EVENT,		/* u32: enum keel_vm_event */
	KEEL_A_WHEN,		/* u64: of CLOCK_BOOTTIME */
	KEEL_A_LOST,		/* u64: events that nobody can be told of any more */
	__KEEL_A_AFTER_LAST,
};

#define KEEL_A_MAX	(__KEEL_A_AFTER_LAST - 1)

#endif /* _UAPI_LINUX_KEEL_H */
