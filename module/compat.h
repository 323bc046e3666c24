/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every difference between the supported kernels (6.1 to 7.2) stands here, and nowhere else.
 *
 * A name of ours for each kernel service whose name or signature changed; the rest of the module uses
 * the name and knows nothing of versions.
 */
#ifndef KEEL_COMPAT_H
#define KEEL_COMPAT_H

#include <linux/cpu.h>
#include <linux/eventfd.h>
#include <linux/hrtimer.h>
#include <linux/kvm.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include <linux/shrinker.h>
#include <linux/smp.h>
#include <linux/syscore_ops.h>
#include <linux/wait.h>
#include <linux/version.h>
#include <net/genetlink.h>
#include <asm/mce.h>
#include <asm/msr.h>
#include <asm/ptrace.h>
#include <asm/special_insns.h>

#include "compat_asm.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#include <trace/events/ipi.h>
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
#include <asm/cpuid/api.h>
#endif

/* Of KVM's ABI, newer than 6.1's header: the exit for memory that cannot be had, and where kvm_run has its particulars. */
#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT		39
#define KVM_CAP_MEMORY_FAULT_INFO	232
#endif

struct keel_memory_fault {
	u64 flags, gpa, size;
};

static inline struct keel_memory_fault *keel_memory_fault(struct kvm_run *run)
{
	return (struct keel_memory_fault *)&run->hw;	/* the first member of the union */
}

/* rdmsrl() and friends became rdmsrq(); ours takes the value as a result. */
static inline u64 keel_rdmsr(u32 msr)
{
	return native_read_msr(msr);
}

static inline void keel_wrmsr(u32 msr, u64 val)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
	native_write_msr(msr, val);
#else
	native_write_msr(msr, (u32)val, (u32)(val >> 32));
#endif
}

static inline int keel_rdmsr_safe(u32 msr, u64 *val)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
	return rdmsrq_safe(msr, val);
#else
	unsigned long long v = 0;
	int err = rdmsrl_safe(msr, &v);

	*val = v;
	return err;
#endif
}

static inline int keel_wrmsr_safe(u32 msr, u64 val)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
	return wrmsrq_safe(msr, val);
#else
	return wrmsrl_safe(msr, val);
#endif
}

static inline void keel_hrtimer_setup(struct hrtimer *timer,
				      enum hrtimer_restart (*fn)(struct hrtimer *),
				      clockid_t clock, enum hrtimer_mode mode)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	hrtimer_setup(timer, fn, clock, mode);
#else
	hrtimer_init(timer, clock, mode);
	timer->function = fn;
#endif
}

/*
 * Suspend hooks: the callbacks take a context pointer since 6.19. Stable kernels have that too, so Kbuild looks
 * into the header.
 */
#ifdef KEEL_HAVE_STRUCT_SYSCORE
#define KEEL_SYSCORE_OPS(name, suspend_fn, resume_fn)					\
	static int name##_suspend(void *data) { return suspend_fn(); }			\
	static void name##_resume(void *data) { resume_fn(); }				\
	static const struct syscore_ops name##_ops = {					\
		.suspend = name##_suspend, .resume = name##_resume,			\
	};										\
	static struct syscore name = { .ops = &name##_ops }
#define keel_register_syscore(s)	register_syscore(s)
#define keel_unregister_syscore(s)	unregister_syscore(s)
#else
#define KEEL_SYSCORE_OPS(name, suspend_fn, resume_fn)					\
	static struct syscore_ops name = { .suspend = suspend_fn, .resume = resume_fn }
#define keel_register_syscore(s)	register_syscore_ops(s)
#define keel_unregister_syscore(s)	unregister_syscore_ops(s)
#endif

/* The member of struct kvm_run has a name of its own in the kernel since 6.11. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
#define keel_immediate_exit(run)	READ_ONCE((run)->immediate_exit__unsafe)
#else
#define keel_immediate_exit(run)	READ_ONCE((run)->immediate_exit)
#endif

/* CR4.FRED (SDM 1, chapter 8 "FRED"): events enter the kernel another way; 6.1 has no name for it. */
static inline bool keel_host_has_fred(void)
{
	return __read_cr4() & BIT_ULL(32);
}

static inline void keel_send_reschedule(int cpu)
{
	smp_send_reschedule(cpu);
}

/* How long the thread has waited for a CPU in its life, in ns; kernels may not count that. */
#ifdef CONFIG_SCHED_INFO
static inline bool keel_run_delay_on(void)
{
	return sched_info_on();
}

static inline u64 keel_run_delay(void)
{
	return current->sched_info.run_delay;
}
#else
static inline bool keel_run_delay_on(void)
{
	return false;
}

static inline u64 keel_run_delay(void)
{
	return 0;
}
#endif

/* Lets signals end a wait for a page (userfaultfd); 6.1 has only fatal ones. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#define KEEL_FOLL_INTERRUPTIBLE	FOLL_INTERRUPTIBLE
#else
#define KEEL_FOLL_INTERRUPTIBLE	0
#endif

/* What a VM_IO or VM_PFNMAP area maps at @addr, mmap_lock held; nonzero: nothing yet. */
static inline int keel_follow_pfn(struct vm_area_struct *vma, unsigned long addr, unsigned long *pfn,
				  bool *writable)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	struct follow_pfnmap_args args = { .vma = vma, .address = addr };
	int err = follow_pfnmap_start(&args);

	if (err)
		return err;
	*pfn = args.pfn;
	*writable = args.writable;
	follow_pfnmap_end(&args);
	return 0;
#else
	spinlock_t *ptl;
	pte_t *ptep;
	int err = follow_pte(vma->vm_mm, addr, &ptep, &ptl);

	if (err)
		return err;
	__acquire(ptl);	/* follow_pte() does not say so */
	*pfn = pte_pfn(*ptep);
	*writable = pte_write(*ptep);
	pte_unmap_unlock(ptep, ptl);
	return 0;
#endif
}

/* Adds one to an eventfd's count; callable with interrupts off. */
static inline void keel_eventfd_signal(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx);
#else
	eventfd_signal(ctx, 1);
#endif
}

/*
 * In front of all other waiters, and those are not woken when the entry takes the event. Since 6.17 there can
 * be one such entry only: then -EBUSY.
 */
static inline int keel_add_wait_queue_priority(struct wait_queue_head *queue, struct wait_queue_entry *entry)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
	return add_wait_queue_priority_exclusive(queue, entry);
#else
	add_wait_queue_priority(queue, entry);
	return 0;
#endif
}

/* Shrinkers are allocated by the kernel since 6.7. */
struct keel_shrinker {
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	struct shrinker *s;
#else
	struct shrinker s;
#endif
};

static inline int keel_shrinker_register(struct keel_shrinker *ks, const char *name,
					 unsigned long (*count)(struct shrinker *, struct shrink_control *),
					 unsigned long (*scan)(struct shrinker *, struct shrink_control *))
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	ks->s = shrinker_alloc(0, "%s", name);
	if (!ks->s)
		return -ENOMEM;
	ks->s->count_objects = count;
	ks->s->scan_objects = scan;
	shrinker_register(ks->s);
	return 0;
#else
	ks->s = (struct shrinker) { .count_objects = count, .scan_objects = scan, .seeks = DEFAULT_SEEKS };
	return register_shrinker(&ks->s, "%s", name);
#endif
}

static inline void keel_shrinker_unregister(struct keel_shrinker *ks)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	shrinker_free(ks->s);
#else
	unregister_shrinker(&ks->s);
#endif
}

/* Young callbacks of MMU notifiers return bool since 7.2. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 2, 0)
typedef bool keel_young_t;
#else
typedef int keel_young_t;
#endif

/* Give the host a machine check that an intercept took from it. It came from "user mode": no kernel code was hit. */
static inline void keel_host_machine_check(void)
{
#ifdef CONFIG_X86_MCE
	struct pt_regs regs = { .cs = 3, .flags = X86_EFLAGS_IF };

	do_machine_check(&regs);
#endif
}

/* mitigations=off; newer kernels do not tell modules. */
static inline bool keel_host_mitigations_off(void)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
	return cpu_mitigations_off();
#else
	return false;
#endif
}

/*
 * What the kernel decided about speculation, where its name or the way to it differs; compat_asm.h has the same
 * for assembly. A feature that this kernel's headers do not know is one that it does not ask for.
 */
static inline bool keel_host_uses_ibpb(void)
{
#ifdef X86_FEATURE_USE_IBPB
	return boot_cpu_has(X86_FEATURE_USE_IBPB);
#else
	return boot_cpu_has(X86_FEATURE_IBPB) && boot_cpu_has_bug(X86_BUG_SPECTRE_V2);
#endif
}

static inline bool keel_host_untrains_by_alias(void)
{
#ifdef X86_FEATURE_SRSO_ALIAS
	return boot_cpu_has(X86_FEATURE_SRSO_ALIAS);
#else
	return false;
#endif
}

static inline bool keel_host_wants_exit_ibpb(void)
{
#ifdef KEEL_FEATURE_IBPB_ON_VMEXIT
	return boot_cpu_has(KEEL_FEATURE_IBPB_ON_VMEXIT);
#else
	return false;
#endif
}

static inline bool keel_host_wants_bhb_clear(void)
{
#ifdef KEEL_FEATURE_BHB_VMEXIT
	return boot_cpu_has(KEEL_FEATURE_BHB_VMEXIT);
#else
	return false;
#endif
}

/* Before X86_FEATURE_CLEAR_CPU_BUF a static key that modules do not get said so: then the CPU's bugs do. */
static inline bool keel_host_clears_buffers(void)
{
#ifdef X86_FEATURE_CLEAR_CPU_BUF
	return boot_cpu_has(X86_FEATURE_CLEAR_CPU_BUF);
#else
	return boot_cpu_has(X86_FEATURE_MD_CLEAR) &&
	       (boot_cpu_has_bug(X86_BUG_MDS) || boot_cpu_has_bug(X86_BUG_TAA));
#endif
}

static inline bool keel_host_wants_entry_verw(void)
{
#ifdef X86_FEATURE_CLEAR_CPU_BUF_VM
	return boot_cpu_has(X86_FEATURE_CLEAR_CPU_BUF_VM);
#else
	return false;
#endif
}

static inline bool keel_host_wants_user_ibpb(void)
{
#if defined(X86_FEATURE_IBPB_EXIT_TO_USER)
	return boot_cpu_has(X86_FEATURE_IBPB_EXIT_TO_USER);
#elif defined(X86_BUG_VMSCAPE)
	return boot_cpu_has_bug(X86_BUG_VMSCAPE);
#else
	return false;
#endif
}

/*
 * The guest's branch history must not steer the user mode that comes next on this CPU. The kernel has a
 * flag for that, which only some kernels let every module set; else the barrier is now.
 */
static inline void keel_ibpb_before_user(void)
{
#if defined(X86_FEATURE_IBPB_EXIT_TO_USER) && LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
	this_cpu_write(x86_ibpb_exit_to_user, true);
#else
	keel_wrmsr(MSR_IA32_PRED_CMD, PRED_CMD_IBPB);
#endif
}

/* The attributes of a dump request, parsed; NULL: none. */
static inline struct nlattr **keel_genl_dump_attrs(struct netlink_callback *cb)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	return genl_info_dump(cb)->attrs;
#else
	return genl_dumpit_info(cb)->attrs;
#endif
}

/* From here on the kernel's work before guest mode wants no struct kvm_vcpu: see compat.c. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
#define KEEL_GUEST_WORK_WITHOUT_VCPU
#endif

/* compat.c: pending work of the task (signals, task work, rescheduling): 0, or -EINTR for a signal. */
int keel_handle_task_work(void);
bool keel_task_work_pending(void);

#endif /* KEEL_COMPAT_H */
