// SPDX-License-Identifier: GPL-2.0-only
/*
 * A host that dies: what has to be undone before another kernel, that of a crash dump, can start.
 *
 * A CPU is in VMX operation, or has GIF clear, only inside a window, with interrupts off, and a host NMI that ends a
 * guest's run is handled when the window is closed. So a panic elsewhere finds this CPU, and stops the others, as if
 * there was no hypervisor, but for an NMI that lands in the host's part of a window of VMX: that CPU stays in VMX
 * operation, where INIT does not reach it, until the machine is reset. (The kernel's own callback for that is one for
 * all modules, and KVM's.) What is left is a fault inside a window: the notifier sees that before the dump begins.
 */
#include <linux/jump_label.h>
#include <linux/kdebug.h>
#include <linux/moduleparam.h>
#include <linux/notifier.h>

#include "keel.h"
#include "ops.h"

DEFINE_STATIC_KEY_FALSE(keel_crash_key);

static uint crash_test;
module_param(crash_test, uint, 0444);
MODULE_PARM_DESC(crash_test, "for tests: a fault of the kernel's inside the Nth window of CPU 0");

/**
 * keel_crash_here() - crash_test: fault, if it is time
 */
void keel_crash_here(void)
{
	if (!smp_processor_id() && !--crash_test)
		BUG();
}

static int die_cb(struct notifier_block *nb, unsigned long val, void *unused)
{
	if (val == DIE_OOPS)
		keel_ops->hw_emergency();
	return NOTIFY_DONE;
}

static struct notifier_block die_nb = { .notifier_call = die_cb };

/**
 * keel_crash_module_init() - at load, the vendor being known
 */
void keel_crash_module_init(void)
{
	if (crash_test)
		static_branch_enable(&keel_crash_key);
	register_die_notifier(&die_nb);
}

/**
 * keel_crash_module_exit() - at unload
 */
void keel_crash_module_exit(void)
{
	unregister_die_notifier(&die_nb);
}
