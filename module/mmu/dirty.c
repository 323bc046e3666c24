// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which pages of a slot were written: the dirty log, a bitmap that the client fetches and clears, and the
 * dirty rings, in which each vCPU lists the pages that it dirtied. A VM has one or the other.
 *
 * A page is recorded when it becomes writable in the nested tree (tdp.c), and at each write of the core's own.
 * To record it again it must first become read-only again. So whoever takes a record away does it in this
 * order: record away, write-protect, flush, and only then tell the client, which copies the page. A write
 * before the flush is in the copy; one after it faults and is recorded.
 *
 * The ring is memory of the client's: flags, slot and offset of an entry can change at any time. Indices are
 * ours. Bitmaps change by atomic bit operations; slots_lock is held by all that take records away. KVM API
 * documentation, 4.8, 4.117, 8.29 and KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "keel.h"

/* As in KVM: entries kept for what is pushed between the look at the ring and the exit. */
#define RING_RESERVED		64
#define RING_MAX_BYTES		(KEEL_DIRTY_RING_MAX * sizeof(struct kvm_dirty_gfn))
#define RESET_BATCH		(PAGE_SIZE / sizeof(gfn_t))

static u32 ring_used(const struct keel_dirty_ring *ring)
{
	return READ_ONCE(ring->pushed) - READ_ONCE(ring->reset);
}

/* Has the client to empty the ring before the guest goes on? */
static bool ring_is_full(const struct keel_dirty_ring *ring)
{
	return ring_used(ring) >= ring->size - RING_RESERVED;
}

/* A preempt notifier writes guest memory, too: hence preemption off, and nothing here that wakes anybody. */
static void ring_push(struct keel_vcpu *vcpu, u32 slot, u64 offset)
{
	struct keel_dirty_ring *ring = &vcpu->dirty_ring;
	struct kvm_dirty_gfn *entry;

	preempt_disable();
	if (ring_used(ring) < ring->size) {
		entry = &ring->gfns[ring->pushed & (ring->size - 1)];
		WRITE_ONCE(entry->slot, slot);
		WRITE_ONCE(entry->offset, offset);
		/* First: who sees the entry and gives it back must not find the ring empty, and the page left writable. */
		WRITE_ONCE(ring->pushed, ring->pushed + 1);
		smp_store_release(&entry->flags, KVM_DIRTY_GFN_F_DIRTY);
	} else {
		ring->overflow = true;
	}
	if (ring_is_full(ring))
		keel_request(KEEL_REQ_RING_FULL, vcpu);
	preempt_enable();
}

/**
 * keel_dirty_ring_serve() - KEEL_REQ_RING_FULL
 * @vcpu: the vCPU, locked
 *
 * Return: KEEL_RESUME, KEEL_TO_USER as long as the ring is full, or -EIO: a page could not be recorded, and the VM is
 * dead. RING_RESERVED is more than the core writes between two entries; who gets beyond has written the ring.
 */
int keel_dirty_ring_serve(struct keel_vcpu *vcpu)
{
	if (vcpu->dirty_ring.overflow) {
		keel_vm_kill(vcpu->vm, "a dirty ring overflows");
		return -EIO;
	}
	if (!ring_is_full(&vcpu->dirty_ring))
		return KEEL_RESUME;
	keel_request(KEEL_REQ_RING_FULL, vcpu);
	vcpu->run->exit_reason = KVM_EXIT_DIRTY_RING_FULL;
	return KEEL_TO_USER;
}

/**
 * keel_mark_dirty() - note that a page was written
 * @vcpu: the vCPU that wrote it, in its own thread
 * @slot: the page's slot, which may be one that is not logged
 * @gfn: guest page in @slot
 *
 * After the write, so that whoever takes the record away sees the data, or after the page became writable
 * (tdp_fault.c). The bit is set even if it seems to be set: a plain look first could be ordered before the write.
 */
void keel_mark_dirty(struct keel_vcpu *vcpu, struct keel_memslot *slot, gfn_t gfn)
{
	if (!keel_slot_logs(slot))
		return;
	if (vcpu->dirty_ring.gfns)
		ring_push(vcpu, slot->id, gfn - slot->base_gfn);
	else if (slot->dirty)
		set_bit(gfn - slot->base_gfn, slot->dirty);
}

static bool initially_set(const struct keel_vm *vm)
{
	return READ_ONCE(vm->dirty_log_options) & KVM_DIRTY_LOG_INITIALLY_SET;
}

/**
 * keel_dirty_log_prepare() - give a slot what its log needs
 * @vm: the VM, slots_lock held
 * @old: the slot as it is, all zero: a new one
 * @new: the slot as it will be; gets @old's bitmap if that has one
 *
 * Return: 0 or -ENOMEM
 */
int keel_dirty_log_prepare(struct keel_vm *vm, const struct keel_memslot *old, struct keel_memslot *new)
{
	if (!keel_slot_logs(new) || vm->dirty_ring_bytes)
		return 0;
	new->dirty = old->dirty;
	if (new->dirty)
		return 0;
	new->dirty = kvcalloc(BITS_TO_LONGS(new->npages), sizeof(long), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!new->dirty)
		return -ENOMEM;
	if (initially_set(vm))
		bitmap_set(new->dirty, 0, new->npages);
	return 0;
}

/**
 * keel_dirty_log_drop() - free a slot's bitmap
 * @slot: a slot that nobody uses any more
 * @other: the slot that may have taken the bitmap over
 */
void keel_dirty_log_drop(const struct keel_memslot *slot, const struct keel_memslot *other)
{
	if (slot->dirty != other->dirty)
		kvfree(slot->dirty);
}

/**
 * keel_dirty_log_switch() - after a slot's log went on or off, put right what is mapped
 * @vm: the VM, slots_lock held; every fault sees @new
 * @old: the slot as it was
 * @new: the slot, at the same place
 *
 * With KVM_DIRTY_LOG_INITIALLY_SET every page counts as dirty, and stays writable until its bit is cleared.
 */
void keel_dirty_log_switch(struct keel_vm *vm, const struct keel_memslot *old, const struct keel_memslot *new)
{
	if (keel_slot_logs(new) && !keel_slot_logs(old) && (vm->dirty_ring_bytes || !initially_set(vm)))
		keel_mmu_write_protect_slot(vm, new);
	/* Small pages that the log forced may become large ones again. */
	if (!keel_slot_logs(new) && keel_slot_logs(old))
		keel_mmu_recover_slot(vm, new);
}

/* The slot that a request names, with its bitmap, or an error. slots_lock held. */
static struct keel_memslot *logged_slot(struct keel_vm *vm, u32 id)
{
	struct keel_memslot *slot = keel_slot_by_id(vm, id);

	return slot && slot->dirty ? slot : ERR_PTR(-ENOENT);
}

/* Words that are copied at a time: a page of them. */
#define CHUNK_WORDS	(PAGE_SIZE / sizeof(long))

/* Takes words out of the log; their pages become read-only. */
static void harvest(struct keel_vm *vm, struct keel_memslot *slot, unsigned long first, unsigned long nr,
		    unsigned long *out)
{
	unsigned long i;

	for (i = 0; i < nr; i++)
		out[i] = READ_ONCE(slot->dirty[first + i]) ? xchg(&slot->dirty[first + i], 0) : 0;
	keel_mmu_write_protect_bits(vm, slot->base_gfn + first * BITS_PER_LONG, out, nr * BITS_PER_LONG);
}

/* Bits that the client could not be given go back; their pages are write-protected and stay so. */
static void give_back(struct keel_memslot *slot, unsigned long first, unsigned long nr, const unsigned long *words)
{
	unsigned long bit;

	for_each_set_bit(bit, words, nr * BITS_PER_LONG)
		set_bit(first * BITS_PER_LONG + bit, slot->dirty);
}

static int get_locked(struct keel_vm *vm, const struct kvm_dirty_log *log, unsigned long *buf)
{
	struct keel_memslot *slot = logged_slot(vm, log->slot);
	unsigned long __user *to = log->dirty_bitmap;
	unsigned long first, nr, words;

	if (IS_ERR(slot))
		return PTR_ERR(slot);
	words = BITS_TO_LONGS(slot->npages);
	if (vm->dirty_log_options)
		return copy_to_user(to, slot->dirty, words * sizeof(long)) ? -EFAULT : 0;
	for (first = 0; first < words; first += nr) {
		nr = min(words - first, CHUNK_WORDS);
		harvest(vm, slot, first, nr, buf);
		if (copy_to_user(to + first, buf, nr * sizeof(long))) {
			give_back(slot, first, nr, buf);
			return -EFAULT;
		}
	}
	return 0;
}

/* Clears the bits that are set in @buf, and leaves in it those that were set. */
static void clear_words(struct keel_vm *vm, struct keel_memslot *slot, unsigned long first, unsigned long nr,
			unsigned long *buf)
{
	unsigned long i;

	for (i = 0; i < nr; i++)
		if (buf[i])
			buf[i] &= atomic_long_fetch_andnot(buf[i], (atomic_long_t *)&slot->dirty[first + i]);
	keel_mmu_write_protect_bits(vm, slot->base_gfn + first * BITS_PER_LONG, buf, nr * BITS_PER_LONG);
}

static int clear_locked(struct keel_vm *vm, const struct kvm_clear_dirty_log *log, unsigned long *buf)
{
	struct keel_memslot *slot = logged_slot(vm, log->slot);
	unsigned long __user *from = log->dirty_bitmap;
	unsigned long first, end, nr;

	if (IS_ERR(slot))
		return PTR_ERR(slot);
	if (log->first_page > slot->npages || log->num_pages > slot->npages - log->first_page ||
	    (log->num_pages < slot->npages - log->first_page && log->num_pages % BITS_PER_LONG))
		return -EINVAL;
	first = log->first_page / BITS_PER_LONG;
	end = first + BITS_TO_LONGS(log->num_pages);
	for (; first < end; first += nr, from += nr) {
		nr = min(end - first, CHUNK_WORDS);
		if (copy_from_user(buf, from, nr * sizeof(long)))
			return -EFAULT;
		clear_words(vm, slot, first, nr, buf);
	}
	return 0;
}

/**
 * keel_get_dirty_log() - hand out the dirty bitmap of a slot (KVM_GET_DIRTY_LOG)
 * @vm: the VM; takes slots_lock
 * @log: the request; dirty_bitmap has one bit a page, rounded up to 64 bits
 *
 * The bitmap is cleared, unless the client clears by itself (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2).
 *
 * Return: 0, -ENXIO (the VM uses dirty rings), -EINVAL (no such slot number), -ENOENT (no slot there, or no
 * log), -EFAULT (what could not be copied stays in the log), -ENOMEM
 */
int keel_get_dirty_log(struct keel_vm *vm, const struct kvm_dirty_log *log)
{
	unsigned long *buf;
	int r;

	if (vm->dirty_ring_bytes)
		return -ENXIO;
	if (!keel_slot_id_valid(log->slot))
		return -EINVAL;
	buf = (unsigned long *)__get_free_page(GFP_KERNEL_ACCOUNT);
	if (!buf)
		return -ENOMEM;
	mutex_lock(&vm->slots_lock);
	r = get_locked(vm, log, buf);
	mutex_unlock(&vm->slots_lock);
	free_page((unsigned long)buf);
	return r;
}

/**
 * keel_clear_dirty_log() - clear bits of a slot's dirty bitmap (KVM_CLEAR_DIRTY_LOG)
 * @vm: the VM; takes slots_lock
 * @log: the request: a set bit names a page that the client will copy
 *
 * Return: 0, -ENXIO, -EINVAL (also a range that does not begin or end at 64 pages, or leaves the slot), -ENOENT,
 * -EFAULT (pages before what could not be read are cleared), -ENOMEM
 */
int keel_clear_dirty_log(struct keel_vm *vm, const struct kvm_clear_dirty_log *log)
{
	unsigned long *buf;
	int r;

	if (vm->dirty_ring_bytes)
		return -ENXIO;
	if (!keel_slot_id_valid(log->slot) || log->first_page % BITS_PER_LONG)
		return -EINVAL;
	buf = (unsigned long *)__get_free_page(GFP_KERNEL_ACCOUNT);
	if (!buf)
		return -ENOMEM;
	mutex_lock(&vm->slots_lock);
	r = clear_locked(vm, log, buf);
	mutex_unlock(&vm->slots_lock);
	free_page((unsigned long)buf);
	return r;
}

/**
 * keel_dirty_log_enable() - KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
 * @vm: the VM
 * @options: KVM_DIRTY_LOG_*; 0 switches it off
 *
 * Return: 0 or -EINVAL
 */
long keel_dirty_log_enable(struct keel_vm *vm, u64 options)
{
	u64 allowed = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	if (options & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
		allowed |= KVM_DIRTY_LOG_INITIALLY_SET;
	if (options & ~allowed)
		return -EINVAL;
	WRITE_ONCE(vm->dirty_log_options, options);
	return 0;
}

/**
 * keel_dirty_ring_enable() - KVM_CAP_DIRTY_LOG_RING and KVM_CAP_DIRTY_LOG_RING_ACQ_REL
 * @vm: the VM, without vCPUs; takes vm->lock
 * @bytes: of a vCPU's ring, a power of 2
 *
 * Return: 0, -EINVAL (a bad size, a vCPU exists, or rings are in use already), -E2BIG
 */
long keel_dirty_ring_enable(struct keel_vm *vm, u64 bytes)
{
	long r = -EINVAL;

	bytes = (u32)bytes;	/* as KVM */
	if (!is_power_of_2(bytes) || bytes < RING_RESERVED * sizeof(struct kvm_dirty_gfn) || bytes < PAGE_SIZE)
		return -EINVAL;
	if (bytes > RING_MAX_BYTES)
		return -E2BIG;
	mutex_lock(&vm->lock);
	if (!vm->nr_created && !vm->dirty_ring_bytes) {
		vm->dirty_ring_bytes = bytes;
		r = 0;
	}
	mutex_unlock(&vm->lock);
	return r;
}

/**
 * keel_dirty_ring_create() - give a vCPU its ring, if its VM uses them
 * @vcpu: the vCPU, in creation
 *
 * Return: 0 or -ENOMEM
 */
int keel_dirty_ring_create(struct keel_vcpu *vcpu)
{
	struct keel_dirty_ring *ring = &vcpu->dirty_ring;
	u32 bytes = vcpu->vm->dirty_ring_bytes;

	if (!bytes)
		return 0;
	ring->gfns = __vmalloc(bytes, GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN);
	if (!ring->gfns)
		return -ENOMEM;
	ring->size = bytes / sizeof(struct kvm_dirty_gfn);
	return 0;
}

/**
 * keel_dirty_ring_destroy() - free the ring; pages that the client still maps live on with the mapping
 * @vcpu: the vCPU, in destruction
 */
void keel_dirty_ring_destroy(struct keel_vcpu *vcpu)
{
	vfree(vcpu->dirty_ring.gfns);
	vcpu->dirty_ring.gfns = NULL;
}

struct reset {
	struct keel_vm *vm;
	gfn_t *gfns;		/* RESET_BATCH of them */
	unsigned int nr;
};

static void reset_flush(struct reset *r)
{
	if (r->nr)
		keel_mmu_write_protect_gfns(r->vm, r->gfns, r->nr);
	r->nr = 0;
}

/* The client may have written anything into the entry, and the slot may be gone. */
static void reset_page(struct reset *r, u32 id, u64 offset)
{
	struct keel_memslot *slot = keel_slot_by_id(r->vm, id);

	if (!slot || offset >= slot->npages)
		return;
	r->gfns[r->nr++] = slot->base_gfn + offset;
	if (r->nr == RESET_BATCH)
		reset_flush(r);
}

static int ring_reset(struct reset *r, struct keel_dirty_ring *ring)
{
	struct kvm_dirty_gfn *entry;
	int count;

	for (count = 0; count < ring->size && ring_used(ring); count++) {
		entry = &ring->gfns[ring->reset & (ring->size - 1)];
		if (!(smp_load_acquire(&entry->flags) & KVM_DIRTY_GFN_F_RESET))
			break;
		reset_page(r, READ_ONCE(entry->slot), READ_ONCE(entry->offset));
		/* Free for the vCPU as soon as the index moves. */
		smp_store_release(&entry->flags, 0);
		smp_store_release(&ring->reset, ring->reset + 1);
	}
	return count;
}

/**
 * keel_dirty_rings_reset() - KVM_RESET_DIRTY_RINGS: take back what the client has collected
 * @vm: the VM; takes slots_lock
 *
 * At most a ring of entries a vCPU is looked at, however fast the client flags them.
 *
 * Return: how many entries, -EINVAL (no rings) or -ENOMEM
 */
int keel_dirty_rings_reset(struct keel_vm *vm)
{
	struct reset r = { .vm = vm };
	struct keel_vcpu *vcpu;
	int i, count = 0;

	if (!vm->dirty_ring_bytes)
		return -EINVAL;
	r.gfns = (gfn_t *)__get_free_page(GFP_KERNEL_ACCOUNT);
	if (!r.gfns)
		return -ENOMEM;
	mutex_lock(&vm->slots_lock);
	keel_for_each_vcpu(i, vcpu, vm)
		count += ring_reset(&r, &vcpu->dirty_ring);
	reset_flush(&r);
	mutex_unlock(&vm->slots_lock);
	free_page((unsigned long)r.gfns);
	return count;
}

static bool page_in_ring(const struct keel_vcpu *vcpu, unsigned long pgoff)
{
	return pgoff >= KVM_DIRTY_LOG_PAGE_OFFSET &&
	       pgoff - KVM_DIRTY_LOG_PAGE_OFFSET < vcpu->vm->dirty_ring_bytes / PAGE_SIZE;
}

/**
 * keel_dirty_ring_page() - a page of the ring, for the client's mapping
 * @vcpu: the vCPU
 * @pgoff: page offset in the vCPU's file
 *
 * Return: the page, or NULL when the ring is not there
 */
struct page *keel_dirty_ring_page(const struct keel_vcpu *vcpu, unsigned long pgoff)
{
	if (!page_in_ring(vcpu, pgoff))
		return NULL;
	return vmalloc_to_page((void *)vcpu->dirty_ring.gfns + ((pgoff - KVM_DIRTY_LOG_PAGE_OFFSET) << PAGE_SHIFT));
}

/**
 * keel_dirty_ring_may_map() - a ring is mapped shared and not executable
 * @vcpu: the vCPU
 * @vma: the mapping to be
 */
bool keel_dirty_ring_may_map(const struct keel_vcpu *vcpu, const struct vm_area_struct *vma)
{
	unsigned long last = vma->vm_pgoff + vma_pages((struct vm_area_struct *)vma) - 1;

	if (!page_in_ring(vcpu, vma->vm_pgoff) && !page_in_ring(vcpu, last))
		return true;
	return (vma->vm_flags & VM_SHARED) && !(vma->vm_flags & VM_EXEC);
}
