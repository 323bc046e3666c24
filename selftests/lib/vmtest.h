/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What every selftest shares: opening the device, making VMs and vCPUs, and calling ioctls so that the errno is
 * the result.
 *
 * The tests use the KVM ABI of the system's <linux/kvm.h> alone. The device is named by the environment variable
 * KEEL_DEVICE (/dev/keel when unset), so the same binaries run on in-tree KVM with KEEL_DEVICE=/dev/kvm, which is
 * the reference for each expectation.
 *
 * A step that a test only needs in order to get started goes through MUST() or a helper built on it: when it
 * fails, the test process says what failed and ends with a failure. What a test is about goes through the
 * ASSERT_ and EXPECT_ macros of kselftest_harness.h.
 */
#ifndef SELFTESTS_VMTEST_H
#define SELFTESTS_VMTEST_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/kvm.h>

#define PAGE_SIZE	4096UL

/* An address that no process can read or write: every ioctl that takes a pointer must answer -EFAULT. */
#define BAD_PTR		((void *)0xfffffffffffff000UL)

struct vcpu {
	int fd;
	size_t run_size;
	struct kvm_run *run;
};

__attribute__((noreturn, format(printf, 3, 4)))
void die_at(const char *file, int line, const char *fmt, ...);
#define die(...)	die_at(__FILE__, __LINE__, __VA_ARGS__)

long must_at(const char *file, int line, const char *what, long ret);
/* @expr gives a value, or a negative errno, which ends the test. */
#define MUST(expr)	must_at(__FILE__, __LINE__, #expr, (expr))

long ioctl_errno(int fd, unsigned long req, unsigned long arg);
/* The ioctl's value, or the negative errno. */
#define vm_ioctl(fd, req, arg)	ioctl_errno(fd, req, (unsigned long)(arg))

const char *dev_path(void);
int dev_open(void);
int vm_create(int dev);
int vm_cap(int fd, int cap);
void vcpu_create(struct vcpu *cpu, int dev, int vm, int id);
void vcpu_close(struct vcpu *cpu);
void *mem_alloc(size_t size);
int vm_set_slot(int vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *hva);

/* KVM_RUN: 0 or a negative errno. */
long vcpu_run(struct vcpu *cpu);
/* Finishes the I/O of the last exit and does not enter the guest: the registers are exact afterwards. */
void vcpu_complete_io(struct vcpu *cpu);

struct kvm_regs vcpu_regs(struct vcpu *cpu);
void vcpu_set_regs(struct vcpu *cpu, const struct kvm_regs *regs);
struct kvm_sregs vcpu_sregs(struct vcpu *cpu);
void vcpu_set_sregs(struct vcpu *cpu, const struct kvm_sregs *sregs);

/* One MSR: 1 when it was accepted, 0 when it was refused, negative errno. */
long vcpu_get_msr(struct vcpu *cpu, uint32_t index, uint64_t *data);
long vcpu_set_msr(struct vcpu *cpu, uint32_t index, uint64_t data);

#define MAX_CPUID_ENTRIES	256
struct kvm_cpuid2 *supported_cpuid(int dev);	/* the caller frees it */
struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index);
void vcpu_set_supported_cpuid(struct vcpu *cpu, int dev);

/* A counter of KVM_GET_STATS_FD by its name; -1: there is none. */
long long stat_value(int fd, const char *name);

bool dev_is_keel(int dev);	/* and not in-tree KVM, which goes its own way in places */
bool nested_paging(int dev);
bool host_is_amd(void);
/* Whether this is the emulated test host of that name (svm, vmx, svm-nrip), which has faults of its own. */
bool in_testhost(const char *name);
/*
 * Whether KVM_RUN, having given @ret, shows a fault of QEMU's TCG (10.0, with in-tree KVM, too): about once in a million
 * nested page faults it takes the host's registers for the guest's. Nothing can be said of the guest then.
 */
bool lost_by_qemu(struct vcpu *cpu, long ret);
void pin_to_cpu(int cpu);
uint64_t ns_now(void);

#endif
