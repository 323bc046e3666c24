// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory slots (guest physical to host virtual addresses), and the core's own accesses to guest memory.
 *
 * The slots are one immutable array, sorted by guest address. A change makes a new array under
 * slots_lock, publishes it, and frees the old one when vm->srcu says that nobody reads it. A slot that
 * is to go or to move is first marked invalid: faults that began before it are waited for, later ones
 * retry, so its mappings can be zapped for good before the new array is seen. The core's own accesses
 * ignore the mark: for them, as for the CPUs, the change happens at once when the array is published,
 * and the client may reuse the memory once the ioctl has returned.
 *
 * All checks and errors of KVM_SET_USER_MEMORY_REGION are KVM's (Documentation/virt/kvm/api.rst, 4.35).
 */
#include <linux/mm.h>
#include <linux/highmem.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "smm.h"

#define REGION_FLAGS	(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)
#define REGION_MAX	((1UL << 31) - 1)	/* pages */

static struct keel_memslots *slots_get(struct keel_vm *vm)
{
	return srcu_dereference_check(vm->slots, &vm->srcu, lockdep_is_held(&vm->slots_lock));
}

/**
 * keel_slot_find() - the slot that holds a guest page
 * @vm: the VM; under vm->srcu (read side) or slots_lock, for as long as the result is used
 * @gfn: guest page
 *
 * Return: the slot or NULL
 */
struct keel_memslot *keel_slot_find(struct keel_vm *vm, gfn_t gfn)
{
	struct keel_memslots *slots = slots_get(vm);
	int low = 0, high = slots->nr;

	while (low < high) {
		int mid = (low + high) / 2;
		struct keel_memslot *slot = &slots->slot[mid];

		if (gfn < slot->base_gfn)
			high = mid;
		else if (gfn - slot->base_gfn < slot->npages)
			return slot;
		else
			low = mid + 1;
	}
	return NULL;
}

static unsigned long slot_hva(const struct keel_memslot *slot, gfn_t gfn)
{
	return slot->hva + ((gfn - slot->base_gfn) << PAGE_SHIFT);
}

/**
 * keel_gfn_to_hva() - the client's address of a guest page
 * @vm: the VM; under vm->srcu (read side) or slots_lock
 * @gfn: guest page
 * @writable: set to whether the slot may be written; may be NULL
 *
 * Return: the address or KEEL_BAD_HVA
 */
unsigned long keel_gfn_to_hva(struct keel_vm *vm, gfn_t gfn, bool *writable)
{
	struct keel_memslot *slot = keel_slot_find(vm, gfn);

	if (!slot)
		return KEEL_BAD_HVA;
	if (writable)
		*writable = !(slot->flags & KVM_MEM_READONLY);
	return slot_hva(slot, gfn);
}

/**
 * keel_slot_id_valid() - may a slot have this number?
 * @id: the client's: the slot, and in bits 31:16 the address space
 *
 * Return: whether it may
 */
bool keel_slot_id_valid(u32 id)
{
	return (id & 0xffff) < KEEL_MAX_SLOTS && id >> 16 < keel_nr_address_spaces();
}

/* What the request says on its own, before it is compared with the slots that exist. */
static int region_check(const struct kvm_userspace_memory_region *mem)
{
	if (mem->flags & ~REGION_FLAGS)
		return -EINVAL;
	if (!PAGE_ALIGNED(mem->memory_size) || !PAGE_ALIGNED(mem->guest_phys_addr) ||
	    !PAGE_ALIGNED(mem->userspace_addr))
		return -EINVAL;
	if (!access_ok((void __user *)(unsigned long)mem->userspace_addr, mem->memory_size))
		return -EINVAL;
	if (!keel_slot_id_valid(mem->slot))
		return -EINVAL;
	if (mem->guest_phys_addr + mem->memory_size < mem->guest_phys_addr)
		return -EINVAL;
	if (mem->memory_size >> PAGE_SHIFT > REGION_MAX)
		return -EINVAL;
	return 0;
}

/* Host physical addresses are the limit of nested paging, whatever the guest's CPUID says. */
static gfn_t gfn_max(void)
{
	unsigned int bits = boot_cpu_data.x86_phys_bits;

	/* Memory encryption takes bits from x86_phys_bits, not from nested guest addresses. */
	if (boot_cpu_data.extended_cpuid_level >= 0x80000008)
		bits = cpuid_eax(0x80000008) & 0xff;
	return (1ULL << (bits - PAGE_SHIFT)) - 1;
}

/**
 * keel_slot_by_id() - the slot with the client's number
 * @vm: the VM; under slots_lock
 * @id: the number
 *
 * Return: the slot or NULL
 */
struct keel_memslot *keel_slot_by_id(struct keel_vm *vm, u32 id)
{
	struct keel_memslots *slots = slots_get(vm);
	int i;

	for (i = 0; i < slots->nr; i++)
		if (slots->slot[i].id == id)
			return &slots->slot[i];
	return NULL;
}

static bool slots_overlap(const struct keel_memslots *slots, const struct keel_memslot *new)
{
	int i;

	for (i = 0; i < slots->nr; i++) {
		const struct keel_memslot *slot = &slots->slot[i];

		if (slot->id != new->id && slot->base_gfn < new->base_gfn + new->npages &&
		    new->base_gfn < slot->base_gfn + slot->npages)
			return true;
	}
	return false;
}

/* A copy of @old without slot @drop (-1: none) and with @add (NULL: none) in its place in the order. */
static struct keel_memslots *slots_build(const struct keel_memslots *old, int drop,
					 const struct keel_memslot *add)
{
	struct keel_memslots *new;
	int i;

	new = kvzalloc(struct_size(new, slot, old->nr + 1), GFP_KERNEL_ACCOUNT);
	if (!new)
		return NULL;
	new->generation = old->generation + 1;
	for (i = 0; i < old->nr; i++) {
		if (old->slot[i].id == drop)
			continue;
		if (add && add->base_gfn < old->slot[i].base_gfn) {
			new->slot[new->nr++] = *add;
			add = NULL;
		}
		new->slot[new->nr++] = old->slot[i];
	}
	if (add)
		new->slot[new->nr++] = *add;
	return new;
}

static void slots_publish(struct keel_vm *vm, struct keel_memslots *old, struct keel_memslots *new)
{
	rcu_assign_pointer(vm->slots, new);
	smp_store_release(&vm->slots_generation, new->generation);
	synchronize_srcu_expedited(&vm->srcu);
	kvfree(old);
}

/* Nothing maps the slot when this returns, and nothing will until a new array is published. */
static void slot_retire(struct keel_vm *vm, struct keel_memslot *slot)
{
	WRITE_ONCE(slot->invalid, true);
	synchronize_srcu_expedited(&vm->srcu);
	keel_mmu_zap_gfns(vm, slot->base_gfn, slot->base_gfn + slot->npages);
}

static int slot_delete(struct keel_vm *vm, struct keel_memslots *slots, struct keel_memslot *old)
{
	struct keel_memslots *next = slots_build(slots, old->id, NULL);
	unsigned long *dirty = old->dirty;

	if (!next)
		return -ENOMEM;
	slot_retire(vm, old);
	slots_publish(vm, slots, next);
	kvfree(dirty);
	return 0;
}

/* @new is in order; makes it part of the slots. @old is the slot that it replaces, or NULL. */
static int slot_replace(struct keel_vm *vm, struct keel_memslots *slots, struct keel_memslot *old,
			struct keel_memslot *new)
{
	struct keel_memslot was = old ? *old : (struct keel_memslot) { };
	bool moved = old && old->base_gfn != new->base_gfn;
	struct keel_memslots *next;

	if (keel_dirty_log_prepare(vm, &was, new))
		return -ENOMEM;
	next = slots_build(slots, new->id, new);
	if (!next) {
		keel_dirty_log_drop(new, &was);
		return -ENOMEM;
	}

	if (moved)
		slot_retire(vm, old);
	slots_publish(vm, slots, next);

	/* From here on every fault sees the new slot: what older ones mapped can be put right. */
	if (old && !moved)
		keel_dirty_log_switch(vm, &was, new);
	keel_dirty_log_drop(&was, new);
	return 0;
}

static int set_region_locked(struct keel_vm *vm, const struct kvm_userspace_memory_region *mem)
{
	struct keel_memslots *slots = slots_get(vm);
	struct keel_memslot *old = keel_slot_by_id(vm, mem->slot);
	struct keel_memslot new = {
		.base_gfn = mem->guest_phys_addr >> PAGE_SHIFT,
		.npages = mem->memory_size >> PAGE_SHIFT,
		.hva = mem->userspace_addr,
		.flags = mem->flags,
		.id = mem->slot,
	};

	if (mem->slot >> 16)
		new.base_gfn |= KEEL_SMM_GFN;
	if (!new.npages)
		return old ? slot_delete(vm, slots, old) : -EINVAL;

	if (old) {
		if (new.hva != old->hva || new.npages != old->npages ||
		    (new.flags ^ old->flags) & KVM_MEM_READONLY)
			return -EINVAL;
		if (new.base_gfn == old->base_gfn && new.flags == old->flags)
			return 0;
	}
	if (!old || new.base_gfn != old->base_gfn) {
		if (slots_overlap(slots, &new))
			return -EEXIST;
		if ((mem->guest_phys_addr + mem->memory_size - 1) >> PAGE_SHIFT > gfn_max())
			return -EINVAL;
	}
	return slot_replace(vm, slots, old, &new);
}

/**
 * keel_set_memory_region() - create, move, delete or change the flags of a slot
 * @vm: the VM; takes slots_lock, so not under vm->srcu
 * @mem: the request of KVM_SET_USER_MEMORY_REGION
 *
 * Return: 0; -EINVAL, -EEXIST (overlaps another slot) or -ENOMEM, and then nothing has changed
 */
int keel_set_memory_region(struct keel_vm *vm, const struct kvm_userspace_memory_region *mem)
{
	int r = region_check(mem);

	if (r)
		return r;
	mutex_lock(&vm->slots_lock);
	r = set_region_locked(vm, mem);
	mutex_unlock(&vm->slots_lock);
	return r;
}

/*
 * Aligned accesses of a power of two are single loads and stores, as the guest's other CPUs expect of
 * them; __get_user() and friends neither sleep nor complain where page faults are disabled.
 */
static int user_read(void *buf, const void __user *from, unsigned int len)
{
	if (IS_ALIGNED((unsigned long)from, len)) {
		switch (len) {
		case 1:
			return __get_user(*(u8 *)buf, (const u8 __user *)from);
		case 2:
			return __get_user(*(u16 *)buf, (const u16 __user *)from);
		case 4:
			return __get_user(*(u32 *)buf, (const u32 __user *)from);
		case 8:
			return __get_user(*(u64 *)buf, (const u64 __user *)from);
		}
	}
	return __copy_from_user_inatomic(buf, from, len) ? -EFAULT : 0;
}

static int user_write(void __user *to, const void *buf, unsigned int len)
{
	if (IS_ALIGNED((unsigned long)to, len)) {
		switch (len) {
		case 1:
			return __put_user(*(const u8 *)buf, (u8 __user *)to);
		case 2:
			return __put_user(*(const u16 *)buf, (u16 __user *)to);
		case 4:
			return __put_user(*(const u32 *)buf, (u32 __user *)to);
		case 8:
			return __put_user(*(const u64 *)buf, (u64 __user *)to);
		}
	}
	return __copy_to_user(to, buf, len) ? -EFAULT : 0;
}

/* @writer: the vCPU that writes, whose dirty ring is told; NULL: a read */
static int guest_access(struct keel_vm *vm, struct keel_vcpu *writer, gpa_t gpa, void *buf, unsigned int len)
{
	int r = 0, idx;

	if (WARN_ON_ONCE(current->mm != vm->mm))
		return -EFAULT;
	idx = srcu_read_lock(&vm->srcu);
	while (len && !r) {
		unsigned int offset = offset_in_page(gpa);
		unsigned int n = min_t(unsigned int, len, PAGE_SIZE - offset);
		struct keel_memslot *slot = keel_slot_find(vm, gpa >> PAGE_SHIFT);
		void __user *user;

		if (!slot || (writer && (slot->flags & KVM_MEM_READONLY))) {
			r = -EFAULT;
			break;
		}
		/* The whole slot passed access_ok() when it was made. */
		user = (void __user *)(slot_hva(slot, gpa >> PAGE_SHIFT) + offset);
		if (writer) {
			r = user_write(user, buf, n);
			keel_mark_dirty(writer, slot, gpa >> PAGE_SHIFT);
		} else {
			r = user_read(buf, user, n);
		}
		gpa += n;
		buf += n;
		len -= n;
	}
	srcu_read_unlock(&vm->srcu, idx);
	return r;
}

/**
 * keel_guest_read() - read guest memory
 * @vm: the VM; current->mm is its address space
 * @gpa: guest physical address
 * @buf: destination
 * @len: bytes, across pages if need be; aligned accesses of 1, 2, 4 and 8 are single loads
 *
 * May sleep.
 *
 * Return: 0 or -EFAULT (no slot there, or the client has nothing mapped)
 */
int keel_guest_read(struct keel_vm *vm, gpa_t gpa, void *buf, unsigned int len)
{
	might_sleep();
	return guest_access(vm, NULL, gpa, buf, len);
}

/**
 * keel_guest_write() - write guest memory, and the dirty log
 * @vcpu: the vCPU on whose behalf, in its own thread; current->mm is the VM's address space
 * @gpa: guest physical address
 * @buf: source
 * @len: bytes, across pages if need be; aligned accesses of 1, 2, 4 and 8 are single stores
 *
 * May sleep.
 *
 * Return: 0 or -EFAULT (as keel_guest_read(), or a read-only slot); pages before the bad one are written
 */
int keel_guest_write(struct keel_vcpu *vcpu, gpa_t gpa, const void *buf, unsigned int len)
{
	might_sleep();
	return guest_access(vcpu->vm, vcpu, gpa, (void *)buf, len);
}

/**
 * keel_guest_read_atomic() - keel_guest_read() where one may not sleep, interrupts off included
 * @vm: the VM; current->mm is its address space
 * @gpa: guest physical address
 * @buf: destination
 * @len: bytes
 *
 * Return: 0 or -EFAULT (also when the page is merely not resident: try keel_guest_read() later)
 */
int keel_guest_read_atomic(struct keel_vm *vm, gpa_t gpa, void *buf, unsigned int len)
{
	int r;

	pagefault_disable();
	r = guest_access(vm, NULL, gpa, buf, len);
	pagefault_enable();
	return r;
}

/**
 * keel_guest_write_atomic() - keel_guest_write() where one may not sleep, interrupts off included
 * @vcpu: the vCPU on whose behalf, in its own thread; current->mm is the VM's address space
 * @gpa: guest physical address
 * @buf: source
 * @len: bytes
 *
 * Return: 0 or -EFAULT (also when the page is merely not resident or not writable as yet)
 */
int keel_guest_write_atomic(struct keel_vcpu *vcpu, gpa_t gpa, const void *buf, unsigned int len)
{
	int r;

	pagefault_disable();
	r = guest_access(vcpu->vm, vcpu, gpa, (void *)buf, len);
	pagefault_enable();
	return r;
}

#define SWAP_TRIES	64	/* each loss is to another writer of the very byte */

static int user_swap_byte(u8 __user *user, u8 *val)
{
	int i, r;
	u8 old;

	if (__get_user(old, user))
		return -EFAULT;
	for (i = 0; i < SWAP_TRIES; i++) {
		r = __try_cmpxchg_user(user, &old, *val, fault);
		if (r <= 0) {
			*val = old;
			return r;
		}
	}
	return -EFAULT;
}

/**
 * keel_guest_swap_byte() - exchange a byte of guest memory, atomically
 * @vcpu: the vCPU on whose behalf, in its own thread; current->mm is the VM's address space; may sleep
 * @gpa: guest physical address
 * @val: the new value in, the old one out
 *
 * Return: 0 or -EFAULT (as keel_guest_write(), or others write the byte without end)
 */
int keel_guest_swap_byte(struct keel_vcpu *vcpu, gpa_t gpa, u8 *val)
{
	struct keel_vm *vm = vcpu->vm;
	struct keel_memslot *slot;
	int idx, r = -EFAULT;

	might_sleep();
	if (WARN_ON_ONCE(current->mm != vm->mm))
		return -EFAULT;
	idx = srcu_read_lock(&vm->srcu);
	slot = keel_slot_find(vm, gpa >> PAGE_SHIFT);
	if (slot && !(slot->flags & KVM_MEM_READONLY)) {
		r = user_swap_byte((u8 __user *)(slot_hva(slot, gpa >> PAGE_SHIFT) + offset_in_page(gpa)), val);
		keel_mark_dirty(vcpu, slot, gpa >> PAGE_SHIFT);
	}
	srcu_read_unlock(&vm->srcu, idx);
	return r;
}

static bool cmpxchg16b(void *ptr, u64 old[2], const u64 new[2])
{
	bool same;

	asm volatile("lock cmpxchg16b %[mem]"
		     : "=@ccz" (same), [mem] "+m" (*(u64 (*)[2])ptr), "+a" (old[0]), "+d" (old[1])
		     : "b" (new[0]), "c" (new[1])
		     : "memory");
	return same;
}

#define CMPXCHG(type, ptr, old, new) try_cmpxchg((type *)(ptr), (type *)(old), *(const type *)(new))

static bool kernel_cmpxchg(void *ptr, void *old, const void *new, unsigned int len)
{
	switch (len) {
	case 1:
		return CMPXCHG(u8, ptr, old, new);
	case 2:
		return CMPXCHG(u16, ptr, old, new);
	case 4:
		return CMPXCHG(u32, ptr, old, new);
	case 8:
		return CMPXCHG(u64, ptr, old, new);
	default:
		return cmpxchg16b(ptr, old, new);
	}
}

/**
 * keel_guest_cmpxchg() - locked compare and exchange on guest memory
 * @vcpu: the vCPU on whose behalf, in its own thread; current->mm is the VM's address space
 * @gpa: guest physical address
 * @old: the value expected; becomes the value found when they differ
 * @new: the value to store
 * @len: 1, 2, 4, 8 or 16 bytes
 *
 * Atomic towards the guest's CPUs and the client. May sleep.
 *
 * Return: 0 exchanged; 1 the values differed; -EINVAL when it cannot be done atomically (other sizes,
 * across two pages, a split lock on a host that traps those, 16 bytes unaligned or on a CPU without
 * CMPXCHG16B); -EFAULT as keel_guest_write()
 */
int keel_guest_cmpxchg(struct keel_vcpu *vcpu, gpa_t gpa, void *old, const void *new, unsigned int len)
{
	unsigned int offset = offset_in_page(gpa), unit = PAGE_SIZE;
	struct keel_vm *vm = vcpu->vm;
	struct keel_memslot *slot;
	struct page *page;
	bool same;
	void *map;
	int idx, r = -EFAULT;

	might_sleep();
	if (boot_cpu_has(X86_FEATURE_SPLIT_LOCK_DETECT))
		unit = cache_line_size();
	if (!is_power_of_2(len) || len > 16 || offset % unit + len > unit ||
	    (len == 16 && (offset % 16 || !boot_cpu_has(X86_FEATURE_CX16))))
		return -EINVAL;
	if (WARN_ON_ONCE(current->mm != vm->mm))
		return -EFAULT;

	idx = srcu_read_lock(&vm->srcu);
	slot = keel_slot_find(vm, gpa >> PAGE_SHIFT);
	if (!slot || (slot->flags & KVM_MEM_READONLY) ||
	    pin_user_pages_fast(slot_hva(slot, gpa >> PAGE_SHIFT), 1, FOLL_WRITE, &page) != 1)
		goto out;

	map = kmap_local_page(page);
	same = kernel_cmpxchg(map + offset, old, new, len);
	kunmap_local(map);
	if (same)
		keel_mark_dirty(vcpu, slot, gpa >> PAGE_SHIFT);
	unpin_user_pages_dirty_lock(&page, 1, same);
	r = !same;
out:
	srcu_read_unlock(&vm->srcu, idx);
	return r;
}

/**
 * keel_memslots_init() - give a new VM an empty set of slots
 * @vm: the VM, with srcu and slots_lock set up
 *
 * Return: 0 or -ENOMEM
 */
int keel_memslots_init(struct keel_vm *vm)
{
	struct keel_memslots *slots = kvzalloc(sizeof(*slots), GFP_KERNEL_ACCOUNT);

	if (!slots)
		return -ENOMEM;
	rcu_assign_pointer(vm->slots, slots);
	return 0;
}

/**
 * keel_memslots_destroy() - free the slots
 * @vm: the VM: nobody uses it any more; also after a failed keel_memslots_init()
 */
void keel_memslots_destroy(struct keel_vm *vm)
{
	struct keel_memslots *slots = rcu_dereference_protected(vm->slots, true);
	int i;

	if (!slots)
		return;
	for (i = 0; i < slots->nr; i++)
		kvfree(slots->slot[i].dirty);
	kvfree(slots);
	RCU_INIT_POINTER(vm->slots, NULL);
}
