// SPDX-License-Identifier: GPL-2.0-only
/*
 * The part of compat.h that needs a function body of its own.
 *
 * Before 6.18 the kernel's "handle work before guest mode" takes a struct kvm_vcpu, of which it writes two
 * fields when a signal is pending. Keel has no such object, so it lends one that nobody reads.
 */
#include <linux/sched.h>
#include <linux/sched/signal.h>

#include "compat.h"

#ifdef KEEL_GUEST_WORK_WITHOUT_VCPU
#include <linux/entry-virt.h>

int keel_handle_task_work(void)
{
	return xfer_to_guest_mode_handle_work();
}

bool keel_task_work_pending(void)
{
	return __xfer_to_guest_mode_work_pending();
}
#elif IS_ENABLED(CONFIG_KVM_XFER_TO_GUEST_WORK)
#include <linux/entry-kvm.h>
#include <linux/kvm_host.h>

static struct kvm_run lent_run;
static struct kvm_vcpu lent_vcpu = { .run = &lent_run };

int keel_handle_task_work(void)
{
	return xfer_to_guest_mode_handle_work(&lent_vcpu);
}

bool keel_task_work_pending(void)
{
	return __xfer_to_guest_mode_work_pending();
}
#else
int keel_handle_task_work(void)
{
	if (signal_pending(current))
		return -EINTR;
	cond_resched();
	return 0;
}

bool keel_task_work_pending(void)
{
	return signal_pending(current) || need_resched();
}
#endif
