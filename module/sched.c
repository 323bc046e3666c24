// SPDX-License-Identifier: GPL-2.0-only
/*
 * vCPUs are ordinary threads: what the scheduler has to know of guests, and guests of the scheduler.
 *
 *	HLT	polls a while for its wakeup before the thread sleeps; the time follows what it has been of use for
 *	PAUSE	a loop of them, which the hardware counts (APM 2, 15.14.4; SDM 3C, 25.1.3), gives the CPU to a
 *		sibling that holds what is waited for: one that was preempted, or woken and not yet run
 *	preempt	notifiers say who was preempted, while KVM_RUN runs
 *
 * The heuristics and their parameters are KVM's (the kernel's Documentation/virt/kvm/halt-polling.rst), so
 * that what administrators know of them holds. Locks: vcpu->mutex; what other threads read is single words.
 */
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/sched/task.h>
#include <asm/cpufeature.h>

#include "ops.h"

static unsigned int halt_poll_ns = 200000;
module_param(halt_poll_ns, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns, "Longest time that a halted vCPU polls before it sleeps, in ns; 0: never");

static unsigned int halt_poll_ns_grow = 2;
module_param(halt_poll_ns_grow, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns_grow, "Factor by which the polling time grows; 0: it does not");

static unsigned int halt_poll_ns_grow_start = 10000;
module_param(halt_poll_ns_grow_start, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns_grow_start, "Polling time that it grows to from 0, in ns");

static unsigned int halt_poll_ns_shrink;
module_param(halt_poll_ns_shrink, uint, 0644);
MODULE_PARM_DESC(halt_poll_ns_shrink, "Divisor by which the polling time shrinks; 0: to nothing");

unsigned int keel_ple_gap = 128;
module_param_named(ple_gap, keel_ple_gap, uint, 0444);
MODULE_PARM_DESC(ple_gap, "Most cycles between two PAUSEs of one loop; 0: no exits for PAUSE");

static unsigned int ple_window = 4096;
module_param(ple_window, uint, 0444);
MODULE_PARM_DESC(ple_window, "Length of a PAUSE loop that exits: cycles (Intel) or PAUSEs (AMD); 0: no exits");

static unsigned int ple_window_grow = 2;
module_param(ple_window_grow, uint, 0444);
MODULE_PARM_DESC(ple_window_grow, "Factor by which the window grows with each exit; 0: it does not");

static unsigned int ple_window_shrink;
module_param(ple_window_shrink, uint, 0444);
MODULE_PARM_DESC(ple_window_shrink, "Divisor by which the window shrinks when a vCPU gets a CPU; 0: back to ple_window");

static unsigned int ple_window_max = 65535;
module_param(ple_window_max, uint, 0444);
MODULE_PARM_DESC(ple_window_max, "Longest window");

static struct keel_vcpu *notifier_vcpu(struct preempt_notifier *pn)
{
	return container_of(pn, struct keel_vcpu, sched.notifier);
}

static void ple_window_shrunk(struct keel_sched *s)
{
	if (ple_window_shrink < 1)
		s->ple_window = ple_window;
	else
		s->ple_window = max(s->ple_window / ple_window_shrink, ple_window);
}

static void ple_window_grown(struct keel_sched *s)
{
	u64 grown = (u64)s->ple_window * ple_window_grow;

	s->ple_window = ple_window_grow < 1 ? ple_window : min_t(u64, grown, max(ple_window_max, ple_window));
}

static void sched_in(struct preempt_notifier *pn, int cpu)
{
	struct keel_vcpu *vcpu = notifier_vcpu(pn);

	WRITE_ONCE(vcpu->sched.preempted, false);
	WRITE_ONCE(vcpu->sched.ready, false);
	ple_window_shrunk(&vcpu->sched);
	keel_stats_thread(vcpu, true);
	if (vcpu->stats.activity == KEEL_ACT_OFF)
		keel_stats_run(vcpu);
	keel_steal_request(vcpu);
}

/* Interrupts are off, the run queue is locked. */
static void sched_out(struct preempt_notifier *pn, struct task_struct *next)
{
	struct keel_vcpu *vcpu = notifier_vcpu(pn);

	if (vcpu->stats.activity == KEEL_ACT_RUN)
		keel_stats_rest(vcpu, KEEL_ACT_OFF);
	if (get_current_state() != TASK_RUNNING)
		return;		/* it sleeps of its own will */
	WRITE_ONCE(vcpu->sched.preempted, true);
	WRITE_ONCE(vcpu->sched.ready, true);
	keel_steal_preempted(vcpu);
}

static struct preempt_ops preempt_ops = { .sched_in = sched_in, .sched_out = sched_out };

/*
 * Switching preempt notifiers on or off patches the scheduler, which interrupts every CPU several times. So what the
 * first vCPU switches on stays until the module goes.
 */
static DEFINE_MUTEX(notifiers_lock);
static bool notifiers_on;

static void notifiers_want(void)
{
	mutex_lock(&notifiers_lock);
	if (!notifiers_on)
		preempt_notifier_inc();
	notifiers_on = true;
	mutex_unlock(&notifiers_lock);
}

/**
 * keel_sched_module_exit() - no vCPU will be any more
 */
void keel_sched_module_exit(void)
{
	if (notifiers_on)
		preempt_notifier_dec();
}

/**
 * keel_sched_create() - a new vCPU
 * @vcpu: the vCPU, not yet visible
 *
 * May sleep: the first vCPU switches the host's preempt notifiers on.
 */
void keel_sched_create(struct keel_vcpu *vcpu)
{
	spin_lock_init(&vcpu->sched.pid_lock);
	preempt_notifier_init(&vcpu->sched.notifier, &preempt_ops);
	notifiers_want();
	vcpu->sched.ple_window = ple_window;
}

/**
 * keel_sched_destroy() - undo keel_sched_create()
 * @vcpu: the vCPU; nobody uses it any more
 */
void keel_sched_destroy(struct keel_vcpu *vcpu)
{
	put_pid(vcpu->sched.pid);
}

/**
 * keel_sched_begin() - this thread drives the vCPU now
 * @vcpu: the vCPU, locked
 */
void keel_sched_begin(struct keel_vcpu *vcpu)
{
	struct keel_sched *s = &vcpu->sched;
	struct pid *old = s->pid;

	keel_stats_thread(vcpu, old == task_pid(current));
	if (unlikely(old != task_pid(current))) {
		spin_lock(&s->pid_lock);
		s->pid = get_task_pid(current, PIDTYPE_PID);
		spin_unlock(&s->pid_lock);
		put_pid(old);
	}
	preempt_disable();
	preempt_notifier_register(&s->notifier);
	preempt_enable();
	keel_steal_request(vcpu);
}

/**
 * keel_sched_end() - KVM_RUN ends
 * @vcpu: the vCPU, locked
 */
void keel_sched_end(struct keel_vcpu *vcpu)
{
	preempt_disable();
	preempt_notifier_unregister(&vcpu->sched.notifier);
	preempt_enable();
	WRITE_ONCE(vcpu->sched.preempted, false);
	WRITE_ONCE(vcpu->sched.ready, false);
}

/* The client's limit for its VM, if it has set one, else the parameter. */
static unsigned int halt_poll_max(const struct keel_vm *vm)
{
	s64 own = READ_ONCE(vm->halt_poll_ns);

	return own >= 0 ? own : READ_ONCE(halt_poll_ns);
}

/**
 * keel_set_halt_poll() - KVM_CAP_HALT_POLL: a limit for this VM instead of the module's
 * @vm: the VM
 * @ns: at most 32 bits
 *
 * Return: 0 or -EINVAL
 */
int keel_set_halt_poll(struct keel_vm *vm, u64 ns)
{
	if (ns > U32_MAX)
		return -EINVAL;
	WRITE_ONCE(vm->halt_poll_ns, ns);
	return 0;
}

/*
 * Polls until there is something to do (*awake), a signal comes, the time is over, or somebody else can use the CPU:
 * false in the last two cases.
 */
static bool halt_poll(struct keel_vcpu *vcpu, ktime_t stop, bool (*has_wakeup)(struct keel_vcpu *vcpu), bool *awake)
{
	do {
		*awake = has_wakeup(vcpu);
		if (*awake || signal_pending(current))
			return true;
		cpu_relax();
	} while (single_task_running() && !need_resched() && ktime_before(ktime_get(), stop));
	return false;
}

static bool halt_sleep(struct keel_vcpu *vcpu, bool (*has_wakeup)(struct keel_vcpu *vcpu))
{
	bool awake;

	prepare_to_rcuwait(&vcpu->wait);
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		awake = has_wakeup(vcpu);
		if (awake || signal_pending(current))
			break;
		schedule();
	}
	finish_rcuwait(&vcpu->wait);
	return awake;
}

/* A halt took @ns in all: was the polling time too short, or of no use? */
static void halt_poll_adjust(struct keel_vcpu *vcpu, u64 ns)
{
	unsigned int now = vcpu->sched.halt_poll_ns, limit = halt_poll_max(vcpu->vm);
	unsigned int start = READ_ONCE(halt_poll_ns_grow_start), shrink = READ_ONCE(halt_poll_ns_shrink);
	unsigned int grow = READ_ONCE(halt_poll_ns_grow);
	u64 next = now;

	if (!limit)
		next = 0;
	else if (ns <= now)
		return;
	else if (now && ns > limit)
		next = shrink && now / shrink >= start ? now / shrink : 0;
	else if (now < limit && ns < limit && grow)
		next = max_t(u64, (u64)now * grow, start);
	vcpu->sched.halt_poll_ns = min_t(u64, next, limit);
}

/**
 * keel_halt() - wait until a vCPU has something to do or a signal comes
 * @vcpu: the vCPU, locked, not under vm->srcu
 * @has_wakeup: whether it has
 *
 * Return: what @has_wakeup said last
 */
bool keel_halt(struct keel_vcpu *vcpu, bool (*has_wakeup)(struct keel_vcpu *vcpu))
{
	bool may_poll = vcpu->mp_state == KVM_MP_STATE_HALTED && (vcpu->pv.poll_control & 1);
	unsigned int poll_ns = min(vcpu->sched.halt_poll_ns, halt_poll_max(vcpu->vm));
	ktime_t start = ktime_get();
	bool polled = false, awake;

	vcpu->stats.halts++;
	if (may_poll && poll_ns) {
		vcpu->stats.halt_polls++;
		polled = halt_poll(vcpu, ktime_add_ns(start, poll_ns), has_wakeup, &awake);
		if (polled)
			vcpu->stats.halt_poll_hits++;
	}
	if (!polled)
		awake = halt_sleep(vcpu, has_wakeup);
	if (may_poll)
		halt_poll_adjust(vcpu, ktime_to_ns(ktime_sub(ktime_get(), start)));
	return awake;
}

/**
 * keel_yield_to() - give this CPU to another vCPU's thread, if it waits for one
 * @vcpu: the vCPU, locked, in its own thread, not in its window: may sleep
 * @target: another of the same VM
 *
 * Return: true if the CPU was given
 */
bool keel_yield_to(struct keel_vcpu *vcpu, struct keel_vcpu *target)
{
	struct task_struct *task = NULL;
	int r;

	if (!READ_ONCE(target->sched.ready) || single_task_running())
		return false;
	vcpu->stats.yields_tried++;
	spin_lock(&target->sched.pid_lock);
	if (target->sched.pid)
		task = get_pid_task(target->sched.pid, PIDTYPE_PID);
	spin_unlock(&target->sched.pid_lock);
	if (!task)
		return false;
	r = yield_to(task, true);
	put_task_struct(task);
	if (r <= 0)
		return false;
	vcpu->stats.yields_done++;
	return true;
}

/*
 * One that itself spins is passed over every second time: the one that holds the lock is more likely among the
 * others. All of this is guesswork on words that change meanwhile; a wrong guess costs a yield.
 */
static bool eligible(struct keel_sched *s)
{
	bool yes = !READ_ONCE(s->spinning) || READ_ONCE(s->eligible);

	if (READ_ONCE(s->spinning))
		WRITE_ONCE(s->eligible, !READ_ONCE(s->eligible));
	return yes;
}

static bool has_event(struct keel_vcpu *vcpu)
{
	return READ_ONCE(vcpu->pv.unhalted) ||
	       (READ_ONCE(vcpu->requests) & (BIT(KEEL_REQ_EVENT) | BIT(KEEL_REQ_TIMER) | BIT(KEEL_REQ_INIT_SIPI)));
}

/* Does it look as if @vcpu would run on, and to the good of one that spins in its kernel (@kernel) or not? */
static bool worth_boosting(struct keel_vcpu *vcpu, bool kernel)
{
	struct keel_sched *s = &vcpu->sched;

	if (!READ_ONCE(s->ready))
		return false;
	if (rcuwait_active(&vcpu->wait) && !has_event(vcpu))
		return false;
	/* Locks of the guest's kernel are held in its kernel. */
	if (kernel && READ_ONCE(s->preempted) && !READ_ONCE(s->in_kernel))
		return false;
	return eligible(s);
}

static void directed_yield(struct keel_vcpu *vcpu, bool kernel)
{
	struct keel_vm *vm = vcpu->vm;
	int nr = smp_load_acquire(&vm->nr_vcpus);
	int last = READ_ONCE(vm->last_boosted);
	int i, at, tries = 3;

	WRITE_ONCE(vcpu->sched.spinning, true);
	for (i = 1; i <= nr && tries; i++) {
		struct keel_vcpu *target;

		at = (last + i) % nr;
		target = vm->vcpus[at];
		if (target == vcpu || !worth_boosting(target, kernel))
			continue;
		tries--;
		if (keel_yield_to(vcpu, target)) {
			WRITE_ONCE(vm->last_boosted, at);
			break;
		}
	}
	WRITE_ONCE(vcpu->sched.spinning, false);
	WRITE_ONCE(vcpu->sched.eligible, false);
}

/**
 * keel_exit_pause() - PAUSE in a loop: another vCPU gets the CPU; stepped over
 * @vcpu: the vCPU, locked
 *
 * Return: as keel_exit_skip(); -EAGAIN inside the window
 */
int keel_exit_pause(struct keel_vcpu *vcpu)
{
	if (vcpu->in_window)
		return -EAGAIN;
	ple_window_grown(&vcpu->sched);
	directed_yield(vcpu, !keel_st(vcpu, KEEL_ST_CODE)->cpl);
	return keel_exit_skip(vcpu);
}

/**
 * keel_ple_enabled() - are there to be exits for loops of PAUSE?
 * @vm: the VM
 */
bool keel_ple_enabled(const struct keel_vm *vm)
{
	return keel_ple_gap && ple_window && !(vm->disabled_exits & KVM_X86_DISABLE_EXITS_PAUSE);
}

/**
 * keel_disable_exits_supported() - the value of KVM_CAP_X86_DISABLE_EXITS
 *
 * MWAIT only where it waits for memory as it should and where the host's timers go on in deep sleep. There is no
 * MSR of C-states that could be opened.
 */
u64 keel_disable_exits_supported(void)
{
	u64 exits = KVM_X86_DISABLE_EXITS_PAUSE | KVM_X86_DISABLE_EXITS_HLT;

	if (boot_cpu_has(X86_FEATURE_MWAIT) && boot_cpu_has(X86_FEATURE_ARAT) &&
	    !boot_cpu_has_bug(X86_BUG_MONITOR))
		exits |= KVM_X86_DISABLE_EXITS_MWAIT;
	return exits;
}

/**
 * keel_disable_exits() - KVM_CAP_X86_DISABLE_EXITS
 * @vm: the VM
 * @exits: KVM_X86_DISABLE_EXITS_*; what is not supported is left as it is
 *
 * Return: 0, or -EINVAL: unknown bits, or the VM has vCPUs already
 */
int keel_disable_exits(struct keel_vm *vm, u64 exits)
{
	const u64 known = KVM_X86_DISABLE_EXITS_MWAIT | KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE |
			  KVM_X86_DISABLE_EXITS_CSTATE;
	int r = 0;

	if (exits & ~known)
		return -EINVAL;
	mutex_lock(&vm->lock);
	if (vm->nr_created)
		r = -EINVAL;
	else
		vm->disabled_exits |= exits & keel_disable_exits_supported();
	mutex_unlock(&vm->lock);
	return r;
}
