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

#endif /* _UAPI_LINUX_KEEL_H */
