// SPDX-License-Identifier: GPL-2.0-only
/*
 * The checked build (checked=1): asserts at every entry that the TLB tag in use has seen each flush that was asked for.
 *
 * No emulator can falsify a flush that is left out: they all drop more than they must. So each flush carries a
 * generation, counted for the VM (changes of the nested tree) and for the vCPU (its own registers), and a table on
 * each CPU says for each tag whose it is and which generations it has seen. The vendor tells, before a world switch,
 * which tag it will use and what it has commanded the CPU to flush; the rest is independent of how it came to that.
 * A tag that is another vCPU's, or is behind, kills the VM with a reason in the log.
 *
 * flush_begun rises before the requests are made, flush_done after. A vCPU reads flush_done before it looks at its
 * requests for the last time: all generations up to there had their request made, and so served. What a flush
 * has seen is flush_begun at that time, which is that much at least. Both change with mmu.lock held for writing.
 *
 * The tables are touched with interrupts off on their CPU. checked_drop=N leaves the requests of the N-th flush of a
 * nested tree from then on out, so that a test sees the check fail.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/vmalloc.h>

#include "engine.h"
#include "ops.h"

DEFINE_STATIC_KEY_FALSE(keel_checked);

static bool checked;
module_param(checked, bool, 0444);
MODULE_PARM_DESC(checked, "assert at entries that no TLB flush was left out (slow)");

static uint checked_drop;
module_param(checked_drop, uint, 0644);
MODULE_PARM_DESC(checked_drop, "leave out the Nth TLB flush from now on; with checked=1, to see it noticed");

struct tag {
	u64 epoch;		/* of struct tags when the tag was last used; 0: never */
	u64 owner;		/* keel_mmu_vcpu.checked_id */
	u64 seen, seen_own;
};

struct tags {
	u64 epoch;		/* rises with each flush of all tags; starts at 1 */
	struct tag *tag;
};

static DEFINE_PER_CPU(struct tags, tags);
static u32 nr_tags;
static atomic64_t next_id;

/**
 * keel_checked_module_init() - at load, the vendor being known
 *
 * Return: 0 or -ENOMEM
 */
int keel_checked_module_init(void)
{
	struct keel_info info = { };
	int cpu;

	if (!checked)
		return 0;
	keel_ops->hw_info(&info);
	nr_tags = max(info.nr_tags, 1U);
	for_each_possible_cpu(cpu) {
		struct tags *t = per_cpu_ptr(&tags, cpu);

		t->epoch = 1;
		t->tag = vzalloc(array_size(nr_tags, sizeof(*t->tag)));
		if (!t->tag) {
			keel_checked_module_exit();
			return -ENOMEM;
		}
	}
	static_branch_enable(&keel_checked);
	pr_info("checked: each entry asserts its TLB tag's flush generation\n");
	return 0;
}

/**
 * keel_checked_module_exit() - at unload, and after a failed keel_checked_module_init()
 */
void keel_checked_module_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		vfree(per_cpu_ptr(&tags, cpu)->tag);
		per_cpu_ptr(&tags, cpu)->tag = NULL;
	}
}

/**
 * keel_checked_drop() - is this flush to be left out?
 *
 * Return: true once, for the flush that checked_drop counts down to
 */
bool keel_checked_drop(void)
{
	if (!static_branch_unlikely(&keel_checked) || !READ_ONCE(checked_drop))
		return false;
	return !--checked_drop;
}

/**
 * keel_checked_entry() - the vendor is about to enter
 * @vcpu: the vCPU, in its window
 * @tag: the ASID or VPID
 * @flush: what the CPU flushes at this entry, or has flushed since the last one
 */
void keel_checked_entry(struct keel_vcpu *vcpu, u32 tag, enum keel_tag_flush flush)
{
	struct tags *all = this_cpu_ptr(&tags);
	struct keel_mmu_vcpu *mmu = &vcpu->mmu;
	const char *bad = NULL;
	struct tag *t;

	if (unlikely(tag >= nr_tags)) {
		keel_vm_kill(vcpu->vm, "checked: a TLB tag out of range");
		return;
	}
	if (!mmu->checked_id)
		mmu->checked_id = atomic64_inc_return(&next_id);
	t = &all->tag[tag];
	if (flush == KEEL_TAG_FLUSH_ALL)
		all->epoch++;
	if (flush != KEEL_TAG_KEEP || t->epoch != all->epoch) {
		t->epoch = all->epoch;
		t->owner = mmu->checked_id;
		t->seen = READ_ONCE(vcpu->vm->mmu.flush_begun);
		t->seen_own = mmu->flush_own;
	} else if (t->owner != mmu->checked_id) {
		bad = "checked: a TLB tag of another vCPU";
	} else if (t->seen < mmu->flush_needed) {
		bad = "checked: a TLB tag misses a flush of the nested tables";
	} else if (t->seen_own != mmu->flush_own) {
		bad = "checked: a TLB tag misses a flush of the vCPU";
	}
	if (unlikely(bad))
		keel_vm_kill(vcpu->vm, bad);
}
