// SPDX-License-Identifier: GPL-2.0-only
/*
 * The VM: its file descriptor, its lifetime, its ioctls.
 *
 * A VM lives as long as its own fd or one of its vCPU fds is open. Only the address space that made it
 * may drive it. vm->lock guards creation of vCPUs and irqchips; see keel.h for the order.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "ops.h"

#define MIN_MMU_PAGES	64	/* KVM's least */

struct keel_vm *keel_vm_get(struct keel_vm *vm)
{
	refcount_inc(&vm->refs);
	return vm;
}

/* Every fd is closed: no thread runs a vCPU, no ioctl is under way. */
static void vm_destroy(struct keel_vm *vm)
{
	int i;

	keel_vm_unregister(vm);
	keel_notifier_unregister(vm);
	keel_ioeventfd_destroy(vm);
	keel_irqchip_destroy(vm);
	for (i = 0; i < vm->nr_vcpus; i++)
		keel_vcpu_destroy(vm->vcpus[i]);
	keel_mmu_vm_destroy(vm);
	free_page((unsigned long)vm->apic_page);
	keel_memslots_destroy(vm);
	keel_coalesced_destroy(vm);
	keel_msr_filter_destroy(vm);
	cleanup_srcu_struct(&vm->srcu);
	mmdrop(vm->mm);
	kvfree(vm);
	keel_hw_put();
}

/**
 * keel_vm_put() - drop a reference; the last one frees the VM
 * @vm: the VM
 */
void keel_vm_put(struct keel_vm *vm)
{
	if (refcount_dec_and_test(&vm->refs))
		vm_destroy(vm);
}

static struct keel_vm *vm_create(void)
{
	struct keel_vm *vm = kvzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	int r = -ENOMEM;

	if (!vm)
		return ERR_PTR(-ENOMEM);
	refcount_set(&vm->refs, 1);
	mutex_init(&vm->lock);
	mutex_init(&vm->slots_lock);
	vm->halt_poll_ns = -1;
	vm->nr_mmu_pages = MIN_MMU_PAGES;
	raw_spin_lock_init(&vm->tsc_lock);
	keel_clock_set_ns(vm, 0);
	INIT_LIST_HEAD(&vm->io_ranges[KEEL_PIO_BUS]);
	INIT_LIST_HEAD(&vm->io_ranges[KEEL_MMIO_BUS]);
	vm->mm = current->mm;
	mmgrab(vm->mm);
	keel_irqfd_init(vm);
	if (init_srcu_struct(&vm->srcu))
		goto fail;
	r = keel_coalesced_init(vm);
	if (r)
		goto fail_srcu;
	r = keel_memslots_init(vm);
	if (r)
		goto fail_ring;
	r = keel_hw_get();
	if (r)
		goto fail_slots;
	r = keel_mmu_vm_init(vm);
	if (r)
		goto fail_hw;
	r = keel_notifier_register(vm);
	if (r)
		goto fail_mmu;
	return vm;

fail_mmu:
	keel_mmu_vm_destroy(vm);
fail_hw:
	keel_hw_put();
fail_slots:
	keel_memslots_destroy(vm);
fail_ring:
	keel_coalesced_destroy(vm);
fail_srcu:
	cleanup_srcu_struct(&vm->srcu);
fail:
	mmdrop(vm->mm);
	kvfree(vm);
	return ERR_PTR(r);
}

/**
 * keel_vm_kill() - end a VM: the first reason wins, every vCPU leaves the guest
 * @vm: the VM
 * @reason: constant string
 */
void keel_vm_kill(struct keel_vm *vm, const char *reason)
{
	if (cmpxchg(&vm->dead, NULL, reason))
		return;
	pr_info("VM of pid %d killed: %s\n", task_tgid_nr(current), reason);
	keel_vm_request_all(vm, KEEL_REQ_DEAD, NULL);
}

static void ipi_ack(void *unused)
{
}

/**
 * keel_vm_request_all() - make a request of every vCPU
 * @vm: the VM
 * @req: the request
 * @wait: NULL; or a mask to work with: return only when no vCPU is in guest mode as it was before the request
 *
 * All CPUs that are to be waited for are interrupted at once.
 *
 * Context: preemptible or under a spinlock, interrupts on.
 */
void keel_vm_request_all(struct keel_vm *vm, enum keel_req req, struct cpumask *wait)
{
	struct keel_vcpu *vcpu;
	int i;

	if (wait)
		cpumask_clear(wait);

	keel_for_each_vcpu(i, vcpu, vm) {
		keel_request(req, vcpu);
		if (!wait) {
			keel_vcpu_kick(vcpu);
			continue;
		}
		smp_mb();	/* the request before the mode: pairs with run_inner() */
		if (smp_load_acquire(&vcpu->mode) != KEEL_OUTSIDE)
			cpumask_set_cpu(READ_ONCE(vcpu->cpu), wait);
	}
	if (!wait || cpumask_empty(wait))
		return;
	/* The interrupt is taken only after the exit, with interrupts on: then it has left. */
	preempt_disable();
	smp_call_function_many(wait, ipi_ack, NULL, true);
	preempt_enable();
}

/**
 * keel_vcpu_by_id() - find a vCPU
 * @vm: the VM
 * @id: the client's id
 *
 * Return: the vCPU or NULL
 */
struct keel_vcpu *keel_vcpu_by_id(struct keel_vm *vm, u32 id)
{
	struct keel_vcpu *vcpu;
	int i;

	keel_for_each_vcpu(i, vcpu, vm)
		if (vcpu->id == id)
			return vcpu;
	return NULL;
}

static long set_memory_region(struct keel_vm *vm, const void __user *uarg)
{
	struct kvm_userspace_memory_region mem;

	if (copy_from_user(&mem, uarg, sizeof(mem)))
		return -EFAULT;
	return keel_set_memory_region(vm, &mem);
}

static long get_dirty_log(struct keel_vm *vm, const void __user *uarg)
{
	struct kvm_dirty_log log;

	if (copy_from_user(&log, uarg, sizeof(log)))
		return -EFAULT;
	return keel_get_dirty_log(vm, &log);
}

static long clear_dirty_log(struct keel_vm *vm, const void __user *uarg)
{
	struct kvm_clear_dirty_log log;

	if (copy_from_user(&log, uarg, sizeof(log)))
		return -EFAULT;
	return keel_clear_dirty_log(vm, &log);
}

/* Intel's real-mode helpers live at these addresses; the check is KVM's. */
static long set_tss_addr(struct keel_vm *vm, unsigned long addr)
{
	if (addr > (u32)(-3 * PAGE_SIZE))
		return -EINVAL;
	vm->tss_addr = addr;
	return 0;
}

static long set_identity_map_addr(struct keel_vm *vm, const u64 __user *uarg)
{
	u64 addr;
	long r = 0;

	if (copy_from_user(&addr, uarg, sizeof(addr)))
		return -EFAULT;
	mutex_lock(&vm->lock);
	if (vm->nr_created)
		r = -EINVAL;
	else
		vm->identity_addr = addr;
	mutex_unlock(&vm->lock);
	return r;
}

static long set_boot_cpu_id(struct keel_vm *vm, unsigned long id)
{
	long r = 0;

	mutex_lock(&vm->lock);
	if (vm->nr_created)
		r = -EBUSY;
	else
		vm->bsp_id = id;
	mutex_unlock(&vm->lock);
	return r;
}

static long set_max_vcpu_id(struct keel_vm *vm, u64 ids)
{
	long r = -EINVAL;

	mutex_lock(&vm->lock);
	if (ids <= KEEL_MAX_VCPU_ID && (!vm->max_vcpu_id || vm->max_vcpu_id == ids)) {
		vm->max_vcpu_id = ids;
		r = 0;
	}
	mutex_unlock(&vm->lock);
	return r;
}

static long set_nr_mmu_pages(struct keel_vm *vm, unsigned long pages)
{
	if (pages < MIN_MMU_PAGES || pages > U32_MAX)
		return -EINVAL;
	vm->nr_mmu_pages = pages;
	return 0;
}

static long enable_cap(struct keel_vm *vm, const void __user *uarg)
{
	struct kvm_enable_cap cap;

	if (copy_from_user(&cap, uarg, sizeof(cap)))
		return -EFAULT;
	if (cap.flags)
		return -EINVAL;
	switch (cap.cap) {
	case KVM_CAP_EXIT_ON_EMULATION_FAILURE:
		if (cap.args[0] & ~1ULL)
			return -EINVAL;
		vm->exit_on_emulation_error = cap.args[0];
		return 0;
	case KVM_CAP_SPLIT_IRQCHIP:
		return keel_irqchip_split(vm, cap.args[0]);
	case KVM_CAP_X2APIC_API:
		return keel_irqchip_enable_x2apic_api(vm, cap.args[0]);
	case KVM_CAP_HALT_POLL:
		return keel_set_halt_poll(vm, cap.args[0]);
	case KVM_CAP_DISABLE_QUIRKS2:
		if (cap.args[0] & ~(u64)KEEL_QUIRKS)
			return -EINVAL;
		fallthrough;
	case KVM_CAP_DISABLE_QUIRKS:
		WRITE_ONCE(vm->quirks_off, cap.args[0]);
		return 0;
	case KVM_CAP_MSR_PLATFORM_INFO:
		vm->no_platform_info = !cap.args[0];
		return 0;
	case KVM_CAP_EXCEPTION_PAYLOAD:
		vm->exception_payload = cap.args[0];
		return 0;
	case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
		vm->triple_fault_event = cap.args[0];
		return 0;
	case KVM_CAP_MAX_VCPU_ID:
		return set_max_vcpu_id(vm, cap.args[0]);
	case KVM_CAP_X86_USER_SPACE_MSR:
		return keel_set_user_space_msr(vm, cap.args[0]);
	case KVM_CAP_X86_DISABLE_EXITS:
		return keel_disable_exits(vm, cap.args[0]);
	case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
		return keel_dirty_log_enable(vm, cap.args[0]);
	case KVM_CAP_DIRTY_LOG_RING:
	case KVM_CAP_DIRTY_LOG_RING_ACQ_REL:
		return keel_dirty_ring_enable(vm, cap.args[0]);
	default:
		return -EINVAL;
	}
}

static long vm_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct keel_vm *vm = file->private_data;
	void __user *uarg = (void __user *)arg;

	if (vm->mm != current->mm)
		return -EIO;
	switch (cmd) {
	case KVM_CREATE_VCPU:
		return keel_vcpu_create_fd(vm, arg);
	case KVM_CHECK_EXTENSION:
		return keel_check_extension(vm, arg);
	case KVM_ENABLE_CAP:
		return enable_cap(vm, uarg);
	case KVM_SET_USER_MEMORY_REGION:
		return set_memory_region(vm, uarg);
	case KVM_GET_DIRTY_LOG:
		return get_dirty_log(vm, uarg);
	case KVM_CLEAR_DIRTY_LOG:
		return clear_dirty_log(vm, uarg);
	case KVM_RESET_DIRTY_RINGS:
		return keel_dirty_rings_reset(vm);
	case KVM_SET_TSS_ADDR:
		return set_tss_addr(vm, arg);
	case KVM_SET_IDENTITY_MAP_ADDR:
		return set_identity_map_addr(vm, uarg);
	case KVM_GET_CLOCK:
	case KVM_SET_CLOCK:
		return keel_clock_ioctl(vm, cmd, uarg);
	case KVM_SET_BOOT_CPU_ID:
		return set_boot_cpu_id(vm, arg);
	case KVM_IRQFD:
		return keel_irqfd_ioctl(vm, uarg);
	case KVM_IOEVENTFD:
		return keel_ioeventfd_ioctl(vm, uarg);
	case KVM_REGISTER_COALESCED_MMIO:
	case KVM_UNREGISTER_COALESCED_MMIO:
		return keel_coalesced_ioctl(vm, cmd == KVM_REGISTER_COALESCED_MMIO, uarg);
	case KVM_SET_NR_MMU_PAGES:
		return set_nr_mmu_pages(vm, arg);
	case KVM_GET_NR_MMU_PAGES:
		return vm->nr_mmu_pages;
	case KVM_GET_STATS_FD:
		return keel_stats_fd(vm, NULL);
	case KVM_X86_SET_MSR_FILTER:
		return keel_msr_filter_ioctl(vm, uarg);
	case KEEL_SET_EXECUTION:
		return keel_set_execution(vm, uarg);
	default:
		return keel_irqchip_ioctl(vm, cmd, uarg);
	}
}

static int vm_release(struct inode *inode, struct file *file)
{
	struct keel_vm *vm = file->private_data;

	keel_irqfd_release(vm);
	keel_vm_put(vm);
	return 0;
}

static const struct file_operations vm_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = vm_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = vm_release,
	.llseek = noop_llseek,
};

/**
 * keel_vm_create_fd() - KVM_CREATE_VM
 * @type: 0, the only machine type
 *
 * Return: a file descriptor; -EINVAL; -EBUSY another hypervisor is active; -ENOMEM; -EMFILE
 */
int keel_vm_create_fd(unsigned long type)
{
	struct keel_vm *vm;
	int fd;

	if (type)
		return -EINVAL;
	vm = vm_create();
	if (IS_ERR(vm))
		return PTR_ERR(vm);
	keel_vm_register(vm);
	fd = anon_inode_getfd("keel-vm", &vm_fops, vm, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		keel_vm_put(vm);
	return fd;
}
