// SPDX-License-Identifier: GPL-2.0-only
/*
 * The vCPU: its file descriptor, the pages it shares with the client, its creation and reset.
 *
 * One thread at a time drives a vCPU (vcpu->mutex). Its fd keeps the VM. The run page, the PIO data page and
 * the dirty ring are the client's to write at any time: nothing read from them is trusted twice.
 */
#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "ops.h"
#include "smm.h"

static const struct file_operations vcpu_fops;

/* SDM 3A table 9-1, APM 2 table 14-1: segments after RESET and INIT. */
static void reset_segments(struct keel_state *st)
{
	int i;

	for (i = 0; i < KEEL_NR_SEGS; i++)
		st->seg[i] = (struct keel_seg) {
			.limit = 0xffff,
			.ar = KEEL_AR_P | KEEL_AR_S | 3,	/* data, read/write, accessed */
		};
	st->seg[KEEL_CS].base = 0xffff0000;
	st->seg[KEEL_CS].selector = 0xf000;
	st->seg[KEEL_CS].ar = KEEL_AR_P | KEEL_AR_S | 0xb;
	st->seg[KEEL_LDTR].ar = KEEL_AR_P | 2;
	st->seg[KEEL_TR].ar = KEEL_AR_P | 0xb;
	st->cpl = 0;
}

/**
 * keel_vcpu_reset() - the state after RESET or INIT
 * @vcpu: the vCPU, locked
 * @init: INIT leaves the FPU, most MSRs and the TSC alone
 */
void keel_vcpu_reset(struct keel_vcpu *vcpu, bool init)
{
	const struct kvm_cpuid_entry2 *family = keel_cpuid_find(vcpu, 1, 0);
	struct keel_state *st = &vcpu->st;
	u64 cr0 = init ? keel_st(vcpu, KEEL_ST_CR)->cr0 : X86_CR0_CD | X86_CR0_NW;

	st = keel_st(vcpu, KEEL_ST_ALL);
	memset(st->gpr, 0, sizeof(st->gpr));
	st->gpr[KEEL_RDX] = family ? family->eax : 0x600;
	st->rip = 0xfff0;
	st->rflags = X86_EFLAGS_FIXED;
	reset_segments(st);
	st->gdt = (struct keel_dtable) { .limit = 0xffff };
	st->idt = (struct keel_dtable) { .limit = 0xffff };
	st->cr0 = X86_CR0_ET | (cr0 & (X86_CR0_CD | X86_CR0_NW));
	st->cr2 = st->cr3 = st->cr4 = 0;
	st->efer = 0;
	st->int_shadow = 0;
	memset(st->dr, 0, sizeof(st->dr));
	st->dr6 = DR6_RESERVED;
	st->dr7 = KEEL_DR7_FIXED;
	memset(&vcpu->ev, 0, sizeof(vcpu->ev));
	keel_smm_reset(vcpu);
	keel_msr_reset(vcpu, init);
	keel_fpu_reset(vcpu, init);
	keel_ops->vcpu_reset(vcpu, init);
	vcpu->st_valid = KEEL_ST_ALL;
	vcpu->st_dirty = KEEL_ST_ALL;
	keel_lapic_reset(vcpu, init);	/* sets the APIC base and CR8 without an in-kernel local APIC too */
	keel_request(KEEL_REQ_EVENT, vcpu);
	keel_paging_changed(vcpu);
}

static void vcpu_free(struct keel_vcpu *vcpu)
{
	keel_mmu_vcpu_destroy(vcpu);
	keel_dirty_ring_destroy(vcpu);
	if (vcpu->apic)
		keel_lapic_destroy(vcpu);
	keel_emul_destroy(vcpu);
	keel_fpu_destroy(vcpu);
	keel_ops->vcpu_destroy(vcpu);
	keel_sched_destroy(vcpu);
	keel_stats_destroy(vcpu);
	kvfree(vcpu->cpuid.entries);
	free_page((unsigned long)vcpu->run);
	free_page((unsigned long)vcpu->pio_data);
	kfree(vcpu);
}

/**
 * keel_vcpu_destroy() - free a vCPU with its VM
 * @vcpu: the vCPU; nobody uses it any more
 */
void keel_vcpu_destroy(struct keel_vcpu *vcpu)
{
	vcpu_free(vcpu);
}

static struct keel_vcpu *vcpu_create(struct keel_vm *vm, u32 id)
{
	struct keel_vcpu *vcpu = kzalloc(keel_ops->vcpu_size, GFP_KERNEL_ACCOUNT);
	int r = -ENOMEM;

	if (!vcpu)
		return ERR_PTR(-ENOMEM);
	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->cpu = -1;
	vcpu->ext_vector = -1;
	vcpu->eoi_gpa = ~0ULL;
	vcpu->pv.call.gpr = vcpu->st.gpr;
	vcpu->pv.call.wide = true;
	vcpu->st_valid = KEEL_ST_ALL;	/* nothing to fetch before the first entry */
	mutex_init(&vcpu->mutex);
	rcuwait_init(&vcpu->wait);
	keel_sched_create(vcpu);
	vcpu->run = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	vcpu->pio_data = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!vcpu->run || !vcpu->pio_data)
		goto fail;
	keel_spec_create(vcpu);
	r = keel_stats_create(vcpu);
	if (!r)
		r = keel_mmu_vcpu_init(vcpu);
	if (!r)
		r = keel_ops->vcpu_create(vcpu);
	if (!r)
		r = keel_fpu_create(vcpu);
	if (!r)
		r = keel_emul_create(vcpu);
	if (!r)
		r = keel_dirty_ring_create(vcpu);
	if (!r && vm->irqchip.mode != KEEL_IRQCHIP_NONE)
		r = keel_lapic_create(vcpu);
	if (r)
		goto fail;
	keel_cpuid_forget(vcpu);
	keel_cpuid_refresh(vcpu);
	keel_set_guest_tsc(vcpu, 0);
	keel_vcpu_reset(vcpu, false);
	vcpu->mp_state = !vcpu->apic || id == vm->bsp_id ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED;
	return vcpu;

fail:
	vcpu_free(vcpu);
	return ERR_PTR(r);
}

/* Publish: from here on other threads may find the vCPU. Under vm->lock. */
static int vcpu_publish(struct keel_vm *vm, struct keel_vcpu *vcpu)
{
	int fd;

	if (keel_vcpu_by_id(vm, vcpu->id))
		return -EEXIST;
	keel_vm_get(vm);
	fd = anon_inode_getfd("keel-vcpu", &vcpu_fops, vcpu, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		refcount_dec(&vm->refs);	/* the caller's ioctl holds another */
		return fd;
	}
	vcpu->index = vm->nr_vcpus;
	vm->vcpus[vcpu->index] = vcpu;
	smp_store_release(&vm->nr_vcpus, vm->nr_vcpus + 1);
	keel_clock_tsc_moved(vm);	/* one more to agree with */
	return fd;
}

/**
 * keel_vcpu_create_fd() - KVM_CREATE_VCPU
 * @vm: the VM
 * @id: 0 to KEEL_MAX_VCPU_ID - 1, or less by KVM_CAP_MAX_VCPU_ID; the initial APIC id
 *
 * Return: a file descriptor; -EINVAL bad id or too many; -EEXIST id taken; -ENOMEM; -EMFILE
 */
int keel_vcpu_create_fd(struct keel_vm *vm, u32 id)
{
	struct keel_vcpu *vcpu;
	int r;

	if (id >= KEEL_MAX_VCPU_ID)
		return -EINVAL;
	mutex_lock(&vm->lock);
	if (!vm->max_vcpu_id)
		vm->max_vcpu_id = KEEL_MAX_VCPU_ID;
	if (vm->nr_created == KEEL_MAX_VCPUS || id >= vm->max_vcpu_id) {
		mutex_unlock(&vm->lock);
		return -EINVAL;
	}
	vm->nr_created++;
	mutex_unlock(&vm->lock);

	vcpu = vcpu_create(vm, id);
	r = PTR_ERR_OR_ZERO(vcpu);
	mutex_lock(&vm->lock);
	if (!r)
		r = vcpu_publish(vm, vcpu);
	if (r < 0)
		vm->nr_created--;
	mutex_unlock(&vm->lock);
	if (r < 0 && !IS_ERR(vcpu))
		vcpu_free(vcpu);
	return r;
}

static long set_signal_mask(struct keel_vcpu *vcpu, const void __user *uarg)
{
	const struct kvm_signal_mask __user *umask = uarg;
	struct kvm_signal_mask mask;
	sigset_t set;

	if (!uarg) {
		vcpu->sigset_active = false;
		return 0;
	}
	if (copy_from_user(&mask, umask, sizeof(mask)))
		return -EFAULT;
	if (mask.len != sizeof(set))
		return -EINVAL;
	if (copy_from_user(&set, umask->sigset, sizeof(set)))
		return -EFAULT;
	sigdelsetmask(&set, sigmask(SIGKILL) | sigmask(SIGSTOP));
	vcpu->sigset = set;
	vcpu->sigset_active = true;
	return 0;
}

static long locked_ioctl(struct keel_vcpu *vcpu, unsigned int cmd, unsigned long arg)
{
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case KVM_RUN:
		return arg ? -EINVAL : keel_vcpu_run(vcpu);
	case KVM_SET_SIGNAL_MASK:
		return set_signal_mask(vcpu, uarg);
	case KVM_SET_CPUID:
		return keel_cpuid_set1(vcpu, uarg);
	case KVM_SET_CPUID2:
		return keel_cpuid_set(vcpu, uarg);
	case KVM_GET_CPUID2:
		return keel_cpuid_get(vcpu, uarg);
	case KVM_GET_MSRS:
	case KVM_SET_MSRS:
		return keel_vcpu_msrs_ioctl(vcpu, cmd, uarg);
	case KVM_HAS_DEVICE_ATTR:
	case KVM_GET_DEVICE_ATTR:
	case KVM_SET_DEVICE_ATTR:
		return keel_vcpu_attr_ioctl(vcpu, cmd, uarg);
	case KVM_GET_STATS_FD:
		return keel_stats_fd(vcpu->vm, vcpu);
	case KEEL_GET_EXECUTION:
		return keel_get_execution(vcpu, uarg);
	default:
		return keel_vcpu_state_ioctl(vcpu, cmd, uarg);
	}
}

static long vcpu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct keel_vcpu *vcpu = file->private_data;
	int srcu;
	long r;

	if (vcpu->vm->mm != current->mm)
		return -EIO;
	if (mutex_lock_killable(&vcpu->mutex))
		return -EINTR;
	if (cmd == KVM_RUN) {
		r = locked_ioctl(vcpu, cmd, arg);
	} else {
		srcu = srcu_read_lock(&vcpu->vm->srcu);
		vcpu->look = true;
		r = locked_ioctl(vcpu, cmd, arg);
		srcu_read_unlock(&vcpu->vm->srcu, srcu);
	}
	mutex_unlock(&vcpu->mutex);
	return r;
}

static vm_fault_t vcpu_fault(struct vm_fault *vmf)
{
	struct keel_vcpu *vcpu = vmf->vma->vm_file->private_data;
	void *addr;

	switch (vmf->pgoff) {
	case 0:
		addr = vcpu->run;
		break;
	case KVM_PIO_PAGE_OFFSET:
		addr = vcpu->pio_data;
		break;
	case KVM_COALESCED_MMIO_PAGE_OFFSET:
		addr = vcpu->vm->coalesced.ring;
		break;
	default:
		addr = NULL;
	}
	vmf->page = addr ? virt_to_page(addr) : keel_dirty_ring_page(vcpu, vmf->pgoff);
	if (!vmf->page)
		return VM_FAULT_SIGBUS;
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct vcpu_vm_ops = { .fault = vcpu_fault };

static int vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (!keel_dirty_ring_may_map(file->private_data, vma))
		return -EINVAL;
	vma->vm_ops = &vcpu_vm_ops;
	return 0;
}

static int vcpu_release(struct inode *inode, struct file *file)
{
	struct keel_vcpu *vcpu = file->private_data;

	keel_vm_put(vcpu->vm);
	return 0;
}

static const struct file_operations vcpu_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = vcpu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = vcpu_mmap,
	.release = vcpu_release,
	.llseek = noop_llseek,
};
