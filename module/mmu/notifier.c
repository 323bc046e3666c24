// SPDX-License-Identifier: GPL-2.0-only
/*
 * The MMU notifier: keeps the nested tree true while the host swaps, merges, migrates, splits or unmaps
 * the pages behind guest memory. Because of it no guest page is pinned.
 *
 * The race with a fault, which looks the host page up without a lock, is closed by two fields that change with
 * mmu.lock held for writing and are checked with it held for reading (include/linux/mmu_notifier.h has the host's side of the contract):
 *
 * - From invalidate_range_start() to _end(), invalidate_active is raised and the range noted: a fault in
 *   the range does not install anything.
 * - _end() raises invalidate_seq before it lowers invalidate_active: a fault that looked its page up
 *   before the host changed it, and gets the lock after _end(), finds the sequence changed.
 *
 * Either the fault's installation comes first, and the zap in _start() finds it, or one of the two
 * checks stops it.
 */
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>

#include "keel.h"

static struct keel_vm *notifier_vm(struct mmu_notifier *mn)
{
	return container_of(mn, struct keel_vm, mmu.notifier);
}

static int keel_invalidate_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct keel_vm *vm = notifier_vm(mn);
	struct keel_mmu *mmu = &vm->mmu;

	write_lock(&mmu->lock);
	if (!mmu->invalidate_active++) {
		mmu->invalidate_start = range->start;
		mmu->invalidate_end = range->end;
	} else {
		/* One range for all in progress: too wide costs a retry, never a stale page. */
		mmu->invalidate_start = min(mmu->invalidate_start, range->start);
		mmu->invalidate_end = max(mmu->invalidate_end, range->end);
	}
	write_unlock(&mmu->lock);

	keel_mmu_unmap_hva_range(vm, range->start, range->end, mmu_notifier_range_blockable(range));
	return 0;
}

static void keel_invalidate_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct keel_mmu *mmu = &notifier_vm(mn)->mmu;

	write_lock(&mmu->lock);
	WRITE_ONCE(mmu->invalidate_seq, mmu->invalidate_seq + 1);
	WARN_ON_ONCE(!mmu->invalidate_active);
	mmu->invalidate_active--;
	write_unlock(&mmu->lock);
}

static keel_young_t keel_clear_flush_young(struct mmu_notifier *mn, struct mm_struct *mm,
					   unsigned long start, unsigned long end)
{
	return keel_mmu_age_hva_range(notifier_vm(mn), start, end, KEEL_AGE_FLUSH);
}

static keel_young_t keel_clear_young(struct mmu_notifier *mn, struct mm_struct *mm,
				     unsigned long start, unsigned long end)
{
	return keel_mmu_age_hva_range(notifier_vm(mn), start, end, KEEL_AGE_CLEAR);
}

static keel_young_t keel_test_young(struct mmu_notifier *mn, struct mm_struct *mm, unsigned long addr)
{
	return keel_mmu_age_hva_range(notifier_vm(mn), addr, addr + PAGE_SIZE, KEEL_AGE_TEST);
}

/*
 * The address space ends, or the notifier is being unregistered. No thread can be in KVM_RUN then (it
 * would hold the address space), so nothing is mapped again.
 */
static void keel_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	keel_mmu_zap_gfns(notifier_vm(mn), 0, ~(gfn_t)0);
}

static const struct mmu_notifier_ops keel_notifier_ops = {
	.release = keel_release,
	.clear_flush_young = keel_clear_flush_young,
	.clear_young = keel_clear_young,
	.test_young = keel_test_young,
	.invalidate_range_start = keel_invalidate_start,
	.invalidate_range_end = keel_invalidate_end,
};

/**
 * keel_notifier_register() - watch the client's address space
 * @vm: the VM, with slots and tree set up; vm->mm is current->mm
 *
 * Return: 0, or what mmu_notifier_register() says (-ENOMEM, -EINTR)
 */
int keel_notifier_register(struct keel_vm *vm)
{
	int r;

	vm->mmu.notifier.ops = &keel_notifier_ops;
	r = mmu_notifier_register(&vm->mmu.notifier, vm->mm);
	vm->mmu.notifier_registered = !r;
	return r;
}

/**
 * keel_notifier_unregister() - stop watching; all callbacks have returned afterwards
 * @vm: the VM; harmless when keel_notifier_register() failed or was not reached
 *
 * Between a start and its end this may be called too: the end is then never seen, and nothing is left
 * that could fault.
 */
void keel_notifier_unregister(struct keel_vm *vm)
{
	if (!vm->mmu.notifier_registered)
		return;
	mmu_notifier_unregister(&vm->mmu.notifier, vm->mm);
	vm->mmu.notifier_registered = false;
}
