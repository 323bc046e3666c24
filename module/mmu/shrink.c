// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page tables under memory pressure: all of them can be made anew by faults, so the host may have them back.
 *
 * Tables are accounted to the client's cgroup. A guest that touches a page here and there in a huge slot makes its
 * VM's tables grow to one page for each 2 MiB, and the client's own by as much; the shrinker takes those of ours
 * that the CPUs have not walked lately, from one VM after the other.
 *
 * vms_lock guards the list. The shrinker only tries to take it, and mmu.lock inside; nothing is allocated with either
 * held.
 */
#include <linux/list.h>
#include <linux/mutex.h>

#include "engine.h"

static DEFINE_MUTEX(vms_lock);
static LIST_HEAD(vms);
static struct keel_shrinker shrinker;

static unsigned long shrink_count(struct shrinker *unused, struct shrink_control *sc)
{
	unsigned long n = 0;
	struct keel_vm *vm;

	if (!mutex_trylock(&vms_lock))
		return 0;
	list_for_each_entry(vm, &vms, mmu.shrink_link)
		n += atomic_long_read(&vm->mmu.nr_tables);
	mutex_unlock(&vms_lock);
	return n ? n : SHRINK_EMPTY;
}

/* A VM at a time, the next one in the next call. */
static unsigned long shrink_scan(struct shrinker *unused, struct shrink_control *sc)
{
	struct keel_vm *vm;
	unsigned long seen;
	long freed;

	if (!mutex_trylock(&vms_lock))
		return SHRINK_STOP;
	vm = list_first_entry_or_null(&vms, struct keel_vm, mmu.shrink_link);
	if (!vm) {
		mutex_unlock(&vms_lock);
		return SHRINK_STOP;
	}
	list_move_tail(&vm->mmu.shrink_link, &vms);
	freed = atomic_long_read(&vm->mmu.nr_tables);
	seen = keel_mmu_shrink(vm, sc->nr_to_scan);
	freed -= atomic_long_read(&vm->mmu.nr_tables);
	mutex_unlock(&vms_lock);
	/* A VM that was gone through has no more to offer than it gave, whatever was counted. */
	sc->nr_scanned = max(seen, sc->nr_to_scan);
	return max(freed, 0L);	/* faults make new ones meanwhile */
}

/**
 * keel_shrink_add() - let the shrinker have a VM
 * @vm: the VM, its tables set up
 */
void keel_shrink_add(struct keel_vm *vm)
{
	mutex_lock(&vms_lock);
	list_add_tail(&vm->mmu.shrink_link, &vms);
	mutex_unlock(&vms_lock);
}

/**
 * keel_shrink_remove() - the shrinker lets go of a VM
 * @vm: the VM; also one that keel_shrink_add() has not seen
 */
void keel_shrink_remove(struct keel_vm *vm)
{
	mutex_lock(&vms_lock);
	if (vm->mmu.shrink_link.next)
		list_del(&vm->mmu.shrink_link);
	mutex_unlock(&vms_lock);
}

/**
 * keel_shrink_module_init() - at load
 *
 * Return: 0 or -errno
 */
int keel_shrink_module_init(void)
{
	return keel_shrinker_register(&shrinker, "keel-tables", shrink_count, shrink_scan);
}

/**
 * keel_shrink_module_exit() - at unload: no VM is left; waits until the last tables are freed
 */
void keel_shrink_module_exit(void)
{
	keel_shrinker_unregister(&shrinker);
	rcu_barrier();
}
