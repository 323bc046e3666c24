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

#endif /* _UAPI_LINUX_KEEL_H */
