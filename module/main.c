// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module: /dev/keel, its system ioctls, and who holds the virtualization extension of each CPU when.
 *
 * The extension is ours from the first VM to the last, on every online CPU: CPU hotplug, suspend and
 * reboot turn it on and off as CPUs come and go. (VMX is turned on by each window only: vmx/window.c.) hw_lock nests inside the CPU hotplug lock.
 * Documentation/virt/kvm/api.rst of the kernel describes the ABI.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/uaccess.h>

#include "msr.h"
#include "ops.h"
#include "smm.h"

static bool kvm_node;
module_param(kvm_node, bool, 0444);
MODULE_PARM_DESC(kvm_node, "also serve /dev/kvm, if in-tree KVM does not");

const struct keel_ops *keel_ops __ro_after_init;
DEFINE_PER_CPU(bool, keel_hw_enabled);

static DEFINE_MUTEX(hw_lock);
static int hw_users;			/* VMs; hw_lock */
static int hotplug_state;

/* On the CPU in question, interrupts off. */
static void enable_this_cpu(void *err)
{
	int r = keel_ops->hw_enable();

	if (r)
		atomic_set((atomic_t *)err, r);
	else
		this_cpu_write(keel_hw_enabled, true);
}

static void disable_this_cpu(void *unused)
{
	if (!this_cpu_read(keel_hw_enabled))
		return;
	this_cpu_write(keel_hw_enabled, false);
	keel_ops->hw_disable();
}

/**
 * keel_hw_get() - a VM comes to be: make all CPUs ready for guests
 *
 * Return: 0; -EBUSY another hypervisor holds a CPU; -EIO a CPU refused
 */
int keel_hw_get(void)
{
	atomic_t err = ATOMIC_INIT(0);
	int r = 0;

	cpus_read_lock();
	mutex_lock(&hw_lock);
	if (!hw_users) {
		on_each_cpu(enable_this_cpu, &err, 1);
		r = atomic_read(&err);
		if (r)
			on_each_cpu(disable_this_cpu, NULL, 1);
	}
	if (!r)
		hw_users++;
	mutex_unlock(&hw_lock);
	cpus_read_unlock();
	if (r == -EBUSY)
		pr_info_ratelimited("another hypervisor is active: end its VMs or unload it (rmmod kvm_amd kvm_intel)\n");
	return r;
}

/**
 * keel_hw_put() - a VM is gone; the last one leaves the CPUs as they were
 */
void keel_hw_put(void)
{
	cpus_read_lock();
	mutex_lock(&hw_lock);
	if (!--hw_users)
		on_each_cpu(disable_this_cpu, NULL, 1);
	mutex_unlock(&hw_lock);
	cpus_read_unlock();
}

/* A CPU comes online while VMs exist. If someone else holds it, it stays offline. */
static int cpu_online_cb(unsigned int cpu)
{
	atomic_t err = ATOMIC_INIT(0);
	unsigned long flags;

	mutex_lock(&hw_lock);
	if (hw_users) {
		local_irq_save(flags);
		enable_this_cpu(&err);
		local_irq_restore(flags);
	}
	mutex_unlock(&hw_lock);
	if (atomic_read(&err))
		pr_err("CPU %u cannot run guests (%d): it stays offline while VMs exist\n", cpu, atomic_read(&err));
	return atomic_read(&err);
}

static int cpu_offline_cb(unsigned int cpu)
{
	unsigned long flags;

	local_irq_save(flags);
	disable_this_cpu(NULL);
	local_irq_restore(flags);
	return 0;
}

/* Reboot and kexec: the next kernel gets clean CPUs; running vCPUs see keel_hw_on() and end with EIO. */
static int reboot_cb(struct notifier_block *nb, unsigned long code, void *unused)
{
	on_each_cpu(disable_this_cpu, NULL, 1);
	return NOTIFY_OK;
}

static struct notifier_block reboot_nb = { .notifier_call = reboot_cb };

/* Suspend: the other CPUs are offline by now, tasks frozen, interrupts off. */
static int suspend_cb(void)
{
	disable_this_cpu(NULL);
	return 0;
}

static void resume_cb(void)
{
	atomic_t err = ATOMIC_INIT(0);

	keel_clock_resumed();
	if (hw_users)
		enable_this_cpu(&err);
}

KEEL_SYSCORE_OPS(keel_syscore, suspend_cb, resume_cb);

/* Capabilities that are there on every host, and have no number. */
static bool always_there(long cap)
{
	switch (cap) {
	case KVM_CAP_IRQCHIP:
	case KVM_CAP_HLT:
	case KVM_CAP_USER_MEMORY:
	case KVM_CAP_SET_TSS_ADDR:
	case KVM_CAP_SET_IDENTITY_MAP_ADDR:
	case KVM_CAP_EXT_CPUID:
	case KVM_CAP_EXT_EMUL_CPUID:
	case KVM_CAP_NOP_IO_DELAY:
	case KVM_CAP_MP_STATE:
	case KVM_CAP_SYNC_MMU:
	case KVM_CAP_USER_NMI:
	case KVM_CAP_IRQ_INJECT_STATUS:
	case KVM_CAP_IRQFD:
	case KVM_CAP_IRQFD_RESAMPLE:
	case KVM_CAP_IOEVENTFD:
	case KVM_CAP_IOEVENTFD_NO_LENGTH:
	case KVM_CAP_IOEVENTFD_ANY_LENGTH:
	case KVM_CAP_COALESCED_PIO:
	case KVM_CAP_SPLIT_IRQCHIP:
	case KVM_CAP_SIGNAL_MSI:
	case KVM_CAP_DESTROY_MEMORY_REGION_WORKS:
	case KVM_CAP_JOIN_MEMORY_REGIONS_WORKS:
	case KVM_CAP_READONLY_MEM:
	case KVM_CAP_INTERNAL_ERROR_DATA:
	case KVM_CAP_VCPU_EVENTS:
	case KVM_CAP_DEBUGREGS:
	case KVM_CAP_XSAVE:
	case KVM_CAP_XCRS:
	case KVM_CAP_SREGS2:
	case KVM_CAP_PIT2:
	case KVM_CAP_PIT_STATE2:
	case KVM_CAP_REINJECT_CONTROL:
	case KVM_CAP_SET_BOOT_CPU_ID:
	case KVM_CAP_KVMCLOCK_CTRL:
	case KVM_CAP_GET_TSC_KHZ:
	case KVM_CAP_TSC_DEADLINE_TIMER:
	case KVM_CAP_GET_MSR_FEATURES:
	case KVM_CAP_IMMEDIATE_EXIT:
	case KVM_CAP_CHECK_EXTENSION_VM:
	case KVM_CAP_ENABLE_CAP_VM:
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
	case KVM_CAP_X86_ROBUST_SINGLESTEP:
	case KVM_CAP_SET_GUEST_DEBUG:
	case KVM_CAP_ENABLE_CAP:
	case KVM_CAP_ENFORCE_PV_FEATURE_CPUID:
	case KVM_CAP_HALT_POLL:
	case KVM_CAP_X86_USER_SPACE_MSR:
	case KVM_CAP_X86_MSR_FILTER:
	case KVM_CAP_MSR_PLATFORM_INFO:
	case KVM_CAP_EXCEPTION_PAYLOAD:
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
	case KVM_CAP_DISABLE_QUIRKS:
	case KVM_CAP_VCPU_ATTRIBUTES:
	case KVM_CAP_SYS_ATTRIBUTES:
	case KVM_CAP_BINARY_STATS_FD:
	case KVM_CAP_MEMORY_FAULT_INFO:
		return true;
	default:
		return false;
	}
}

/**
 * keel_check_extension() - KVM_CHECK_EXTENSION
 * @vm: the VM, or NULL on the device
 * @cap: KVM_CAP_*
 *
 * Return: 0 unless the capability works; then 1 or its number
 */
int keel_check_extension(struct keel_vm *vm, long cap)
{
	switch (cap) {
	case KVM_CAP_X86_SMM:
		return keel_smm_offered();
	case KVM_CAP_MULTI_ADDRESS_SPACE:
		return keel_nr_address_spaces();
	case KVM_CAP_SYNC_REGS:
		return KVM_SYNC_X86_VALID_FIELDS;
	case KVM_CAP_DISABLE_QUIRKS2:
		return KEEL_QUIRKS;
	case KVM_CAP_SET_GUEST_DEBUG2:
		return KEEL_GUESTDBG;
	case KVM_CAP_ADJUST_CLOCK:
		return KEEL_CLOCK_FLAGS;
	case KVM_CAP_STEAL_TIME:
		return keel_pv_has_steal_time();
	case KVM_CAP_X86_DISABLE_EXITS:
		return keel_disable_exits_supported();
	case KVM_CAP_X2APIC_API:
		return KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
	case KVM_CAP_IRQ_ROUTING:
		return KEEL_MAX_IRQ_ROUTES;
	case KVM_CAP_COALESCED_MMIO:
		return KVM_COALESCED_MMIO_PAGE_OFFSET;
	case KVM_CAP_MCE:
		return KEEL_MCE_BANKS;
	case KVM_CAP_NR_VCPUS:
		return min_t(unsigned int, num_online_cpus(), KEEL_MAX_VCPUS);
	case KVM_CAP_MAX_VCPUS:
		return KEEL_MAX_VCPUS;
	case KVM_CAP_MAX_VCPU_ID:
		return KEEL_MAX_VCPU_ID;
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	case KVM_CAP_DIRTY_LOG_RING:
	case KVM_CAP_DIRTY_LOG_RING_ACQ_REL:
		return KEEL_DIRTY_RING_MAX * sizeof(struct kvm_dirty_gfn);
	case KVM_CAP_NR_MEMSLOTS:
		return KEEL_MAX_SLOTS;
	case KVM_CAP_XSAVE2:
		return max_t(int, keel_fpu_size(), sizeof(struct kvm_xsave));
	default:
		return always_there(cap);
	}
}

/* KEEL_GET_INFO: which extension is in use, and how */
static long get_info(struct keel_info __user *uinfo)
{
	struct keel_info info;

	if (copy_from_user(&info, uinfo, sizeof(info)))
		return -EFAULT;
	if (info.version != KEEL_INFO_VERSION || info.size != sizeof(info) ||
	    memchr_inv(info.reserved, 0, sizeof(info.reserved)))
		return -EINVAL;
	keel_ops->hw_info(&info);
	info.features |= KEEL_INFO_EXECUTION;
	return copy_to_user(uinfo, &info, sizeof(info)) ? -EFAULT : 0;
}

static long device_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case KVM_GET_API_VERSION:
		return arg ? -EINVAL : KVM_API_VERSION;
	case KVM_CREATE_VM:
		return keel_vm_create_fd(arg);
	case KVM_CHECK_EXTENSION:
		return keel_check_extension(NULL, arg);
	case KVM_GET_VCPU_MMAP_SIZE:
		return arg ? -EINVAL : KEEL_VCPU_MMAP_PAGES * PAGE_SIZE;
	case KVM_GET_SUPPORTED_CPUID:
		return keel_cpuid_supported(uarg, false);
	case KVM_GET_EMULATED_CPUID:
		return keel_cpuid_supported(uarg, true);
	case KVM_GET_MSR_INDEX_LIST:
		return keel_msr_index_list(uarg, false);
	case KVM_GET_MSR_FEATURE_INDEX_LIST:
		return keel_msr_index_list(uarg, true);
	case KVM_GET_MSRS:
		return keel_system_msrs_ioctl(uarg);
	case KVM_X86_GET_MCE_CAP_SUPPORTED:
		return keel_mce_cap_ioctl(uarg);
	case KVM_GET_DEVICE_ATTR:
	case KVM_HAS_DEVICE_ATTR:
		return keel_system_attr_ioctl(cmd, uarg);
	case KEEL_GET_INFO:
		return get_info(uarg);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations device_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice keel_dev = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "keel",
	.fops = &device_fops,
	.mode = 0660,
};

static struct miscdevice kvm_dev = {
	.minor = KVM_MINOR,
	.name = "kvm",
	.fops = &device_fops,
	.mode = 0660,
};

static int __init hooks_init(void)
{
	int r = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN, "virt/keel:online", cpu_online_cb, cpu_offline_cb);

	if (r < 0)
		return r;
	hotplug_state = r;
	register_reboot_notifier(&reboot_nb);
	keel_register_syscore(&keel_syscore);
	return 0;
}

static void hooks_exit(void)
{
	keel_unregister_syscore(&keel_syscore);
	unregister_reboot_notifier(&reboot_nb);
	cpuhp_remove_state_nocalls(hotplug_state);
}

static int __init keel_init(void)
{
	int r;

	keel_ops = cpuid_ecx(1) & BIT(5) ? &vmx_ops : &svm_ops;	/* CPUID.1:ECX.VMX */
	r = keel_ops->hw_probe();
	if (r)
		return r;
	r = keel_fpu_module_init();
	if (r)
		goto fail_hw;
	r = keel_checked_module_init();
	if (r)
		goto fail_hw;
	r = keel_msr_module_init();
	if (r)
		goto fail_hw;
	r = keel_irqfd_module_init();
	if (r)
		goto fail_hw;
	r = keel_shrink_module_init();
	if (r)
		goto fail_irqfd;
	keel_cpuid_module_init();
	keel_run_module_init();
	keel_crash_module_init();
	r = hooks_init();
	if (r)
		goto fail_shrink;
	r = keel_netlink_init();
	if (r)
		goto fail_hooks;
	r = misc_register(&keel_dev);
	if (r)
		goto fail_netlink;
	if (kvm_node && misc_register(&kvm_dev)) {
		pr_notice("/dev/kvm is taken by another driver: serving /dev/keel only\n");
		kvm_node = false;
	}
	return 0;

fail_netlink:
	keel_netlink_exit();
fail_hooks:
	hooks_exit();
fail_shrink:
	keel_crash_module_exit();
	keel_shrink_module_exit();
fail_irqfd:
	keel_irqfd_module_exit();
fail_hw:
	keel_checked_module_exit();
	keel_ops->hw_exit();
	return r;
}

static void __exit keel_exit(void)
{
	if (kvm_node)
		misc_deregister(&kvm_dev);
	misc_deregister(&keel_dev);
	keel_netlink_exit();
	keel_registry_exit();
	hooks_exit();
	keel_crash_module_exit();
	keel_sched_module_exit();
	keel_shrink_module_exit();
	keel_irqfd_module_exit();
	keel_checked_module_exit();
	keel_ops->hw_exit();
}

module_init(keel_init);
module_exit(keel_exit);

MODULE_AUTHOR("The Keel developers");
MODULE_DESCRIPTION("A small hypervisor core with the KVM ABI");
MODULE_LICENSE("GPL");
