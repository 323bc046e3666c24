// SPDX-License-Identifier: GPL-2.0-only
/*
 * The window and the entry: what is loaded around a world switch, tags, and event injection.
 *
 * Everything here runs with interrupts off on the CPU that will enter, but for inject, want_window and
 * the update functions, which only write the VMCB of a vCPU that its caller has locked.
 * APM 2, 15.5 (VMRUN), 15.16 (ASID), 15.20 and 15.21 (events), 15.21.1 (V_TPR).
 */
#include <linux/percpu.h>
#include <asm/cpufeature.h>
#include <asm/msr-index.h>

#include "../hot.h"
#include "svm.h"

int svm_window_open(struct keel_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	asm volatile("vmsave %0" : : "a" (this_cpu_read(svm_cpu.host_state_pa)) : "memory");
	/* Unused unless PAUSE is intercepted (15.14.4). */
	svm->vmcb->control.pause_count = min(vcpu->sched.ple_window, 0xffffU);
	if (svm_caps.pause_threshold)
		svm->vmcb->control.pause_threshold = min(keel_ple_gap, 0xffffU);
	/* Another CPU may have run this VMCB since: nothing that it caches is clean here. */
	svm->vmcb->control.clean = 0;
	svm->vmcb->control.exit_code = SVM_EXIT_INVALID;
	return 0;
}

/* NMIs and interrupts reach the host by themselves; an intercepted machine check has to be handed over. */
void svm_window_close(struct keel_vcpu *vcpu)
{
	if (unlikely(to_svm(vcpu)->vmcb->control.exit_code == SVM_EXIT_EXCEPTION + X86_TRAP_MC))
		keel_host_machine_check();
}

/**
 * svm_drop_tags() - translations of these tags are not true any more
 * @svm: the vCPU, locked
 * @tags: a bit a tag
 */
void svm_drop_tags(struct svm_vcpu *svm, unsigned long tags)
{
	int i;

	for (i = 0; i < KEEL_MMU_ROOTS; i++)
		if (tags & BIT(i))
			svm->tag[i].flush = true;
}

/*
 * A tag of this CPU's own. Tags are handed out once; when they run out the generation rises and one
 * flush makes all of them new.
 */
static void asid_update(struct svm_vcpu *svm)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);
	struct vmcb_control *c = &svm->vmcb->control;
	struct svm_tag *tag = &svm->tag[svm->vcpu.mmu.tag];
	int cpu = smp_processor_id();
	bool stale = tag->cpu != cpu || tag->generation != sc->asid_generation;

	c->tlb_control = SVM_TLB_NOTHING;
	if (likely(!stale && !tag->flush)) {
		c->asid = tag->asid;
		return;
	}
	if (!stale && svm_caps.flush_by_asid) {
		c->tlb_control = SVM_TLB_FLUSH_ASID;
	} else {
		if (sc->next_asid >= svm_caps.nr_asid) {
			sc->asid_generation++;
			sc->next_asid = 1;
			c->tlb_control = SVM_TLB_FLUSH_ALL;
		}
		tag->asid = sc->next_asid++;
		tag->cpu = cpu;
		tag->generation = sc->asid_generation;
	}
	c->asid = tag->asid;
	tag->flush = false;
}

/* What this entry drops, for checked.c. */
static enum keel_tag_flush flush_commanded(const struct vmcb_control *c)
{
	switch (c->tlb_control) {
	case SVM_TLB_FLUSH_ALL:
		return KEEL_TAG_FLUSH_ALL;
	case SVM_TLB_FLUSH_ASID:
		return KEEL_TAG_FLUSH;
	default:
		return KEEL_TAG_KEEP;
	}
}

/* An exit in the middle of an event's delivery: the core queues it again (15.20). */
static void complete_events(struct svm_vcpu *svm)
{
	struct keel_vcpu *vcpu = &svm->vcpu;
	struct vmcb_control *c = &svm->vmcb->control;
	u32 info = c->exit_int_info;

	if (unlikely(svm->iret_seen && vcpu->st.rip != svm->iret_rip)) {
		svm->iret_seen = false;
		svm->nmi_masked = false;
		vcpu->ev.nmi.masked = false;
		keel_request(KEEL_REQ_EVENT, vcpu);
	}
	keel_event_taken(vcpu);
	c->event_inj = 0;
	if (unlikely(info & SVM_EV_VALID))
		keel_requeue_event(vcpu, SVM_EV_TYPE(info), info & SVM_EV_VECTOR, info & SVM_EV_ERROR,
				   c->exit_int_info_error);
}

static enum keel_exit_class classify(const struct vmcb_control *c)
{
	switch (c->exit_code) {
	case SVM_EXIT_CPUID:
	case SVM_EXIT_MSR:
	case SVM_EXIT_HLT:
	case SVM_EXIT_VINTR:
	case SVM_EXIT_VMMCALL:
	case SVM_EXIT_IRET:
	case SVM_EXIT_NPF:
		return KEEL_EXIT_HOT;
	case SVM_EXIT_IOIO:
		return c->exit_info_1 & SVM_IO_STRING ? KEEL_EXIT_COLD : KEEL_EXIT_HOT;
	default:
		return KEEL_EXIT_COLD;
	}
}

/* 0 where it is not known at once. Every CPU saves the next RIP at an IN or OUT (15.10.2), many at other exits (15.7.1). */
static __always_inline u8 insn_length(struct svm_vcpu *svm)
{
	const struct vmcb_control *c = &svm->vmcb->control;
	u64 next, len;

	if (c->exit_code == SVM_EXIT_IOIO)
		next = c->exit_info_2;
	else if (!svm_caps.next_rip)
		return BIT_ULL(svm->vcpu.exit.reason) & KEEL_USUAL_REASONS ? svm_insn_length(svm) : 0;
	else
		next = c->next_rip;
	len = next - svm->vmcb->save.rip;
	return next && len <= 15 ? len : 0;
}

/* The reason; the instruction's length or bytes, where the hardware saves them (15.8.4). */
static void decode_exit(struct svm_vcpu *svm)
{
	struct keel_exit *exit = &svm->vcpu.exit;
	struct vmcb_control *c = &svm->vmcb->control;

	exit->reason = svm_exit_reason(c);
	exit->insn_len = insn_length(svm);
	exit->nr_bytes = 0;
	if (svm_caps.decode_assists && (c->exit_code == SVM_EXIT_NPF || c->exit_code == SVM_EXIT_EXCEPTION + X86_TRAP_PF)) {
		exit->nr_bytes = min_t(u8, c->nr_bytes & 0xf, sizeof(exit->bytes));
		memcpy(exit->bytes, c->bytes, sizeof(exit->bytes));
	}
}

/* RAX, which the CPU keeps in the VMCB, is in keel_state before and after. */
static __always_inline void world_switch(struct svm_vcpu *svm, bool served)
{
	struct keel_vcpu *vcpu = &svm->vcpu;
	struct vmcb *vmcb = svm->vmcb;
	struct keel_state *st = &vcpu->st;

	if (static_branch_unlikely(&keel_checked))
		keel_checked_entry(vcpu, vmcb->control.asid, flush_commanded(&vmcb->control));
	vmcb->save.rax = st->gpr[KEEL_RAX];
	if (static_cpu_has(X86_FEATURE_V_SPEC_CTRL) && keel_spec.hw_ctrl)
		vmcb->save.spec_ctrl = vcpu->spec.sw.guest;

	if (served)
		keel_stats_served(&vcpu->stats, vcpu->exit.reason);
	else
		keel_stats_entry(&vcpu->stats, vcpu->exit.reason);
	svm_switch(svm->vmcb_pa, st->gpr, this_cpu_read(svm_cpu.host_state_pa), &vcpu->spec.sw);
	keel_stats_exit(&vcpu->stats, served);
	vcpu->st_valid = KEEL_ST_DR;
	if (static_cpu_has(X86_FEATURE_V_SPEC_CTRL) && keel_spec.hw_ctrl)
		vcpu->spec.sw.guest = vmcb->save.spec_ctrl;
	st->gpr[KEEL_RAX] = vmcb->save.rax;
}

/* The others of the registers that are in the VMCB. */
static __always_inline void regs_out(struct svm_vcpu *svm)
{
	const struct vmcb_save *s = &svm->vmcb->save;
	struct keel_state *st = &svm->vcpu.st;

	st->gpr[KEEL_RSP] = s->rsp;
	st->rip = s->rip;
	st->rflags = s->rflags;
	svm->vcpu.st_valid |= KEEL_ST_RIP;
}

static __always_inline void regs_in(struct svm_vcpu *svm, u64 rflags)
{
	struct vmcb_save *s = &svm->vmcb->save;
	const struct keel_state *st = &svm->vcpu.st;

	s->rsp = st->gpr[KEEL_RSP];
	s->rip = st->rip;
	s->rflags = rflags;
}

/* What hot() has done about an exit. */
enum hot {
	HOT_NOTHING,		/* it goes the long way */
	HOT_AGAIN,		/* all, but for RIP the guest's registers in the VMCB are what they were */
	HOT_LEAVE,		/* all, and now the core wants to look */
};

/* 64-bit mode at CPL 0? */
static __always_inline bool in_kernel64(const struct vmcb_save *s)
{
	return !s->cpl && (s->efer & EFER_LMA) && (s->cs.attr & KEEL_AR_L >> 4);
}

/* Where the instruction ends; 0: not known at once, or past a multiple of 4 GiB, where the mode matters. */
static __always_inline u64 next_insn(struct svm_vcpu *svm)
{
	u64 next = svm->vmcb->control.next_rip;
	u8 len = 15;

	if (!svm_caps.next_rip || svm->vcpu.exit.reason == KEEL_REASON_MMIO) {
		len = svm_insn_length(svm);
		if (unlikely(!len))
			return 0;
		next = svm->vmcb->save.rip + len;
	}
	return likely((u32)next >= len) ? next : 0;
}

/* A write of the local APIC's EOI register? By what: nextrip.c finds out. */
static __always_inline bool is_eoi(const struct keel_vcpu *vcpu, const struct vmcb_control *c)
{
	return c->exit_info_2 == vcpu->eoi_gpa && (c->exit_info_1 & (KEEL_ACC_WRITE | SVM_NPF_TABLE)) == KEEL_ACC_WRITE;
}

/* No event that was interrupted, no changed task priority, nothing that comes with the instruction's end? */
static __always_inline bool ends_plainly(struct svm_vcpu *svm)
{
	const struct vmcb_control *c = &svm->vmcb->control;
	struct vmcb_save *s = &svm->vmcb->save;

	if (unlikely(c->exit_int_info & SVM_EV_VALID) || unlikely((c->int_ctl & SVM_INT_TPR) != svm->tpr) ||
	    unlikely(c->int_state & SVM_STATE_SHADOW))
		return false;
	if (unlikely(s->rflags & (X86_EFLAGS_RF | X86_EFLAGS_TF))) {
		if (s->rflags & X86_EFLAGS_TF)
			return false;
		/* It does not outlive the instruction, and the long way would do the same. */
		s->rflags &= ~(u64)X86_EFLAGS_RF;
	}
	return true;
}

/* IN and OUT save the next RIP on every CPU (15.10.2). */
static __always_inline enum hot hot_io(struct svm_vcpu *svm)
{
	const struct vmcb_control *c = &svm->vmcb->control;
	struct keel_vcpu *vcpu = &svm->vcpu;
	u32 info = c->exit_info_1;

	vcpu->exit.reason = KEEL_REASON_IO;
	if (unlikely(info & SVM_IO_STRING) || !ends_plainly(svm) || unlikely((u32)c->exit_info_2 < 15) ||
	    !keel_hot_io(vcpu, info >> 16, SVM_IO_SIZE(info), info & SVM_IO_IN))
		return HOT_NOTHING;
	svm->vmcb->save.rip = c->exit_info_2;
	return keel_cycle_ends(vcpu, KEEL_RESUME) ? HOT_LEAVE : HOT_AGAIN;
}

static __always_inline enum hot hot(struct svm_vcpu *svm)
{
	struct keel_vcpu *vcpu = &svm->vcpu;
	struct vmcb_control *c = &svm->vmcb->control;
	struct vmcb_save *s = &svm->vmcb->save;
	u64 next;

	if (c->exit_code == SVM_EXIT_CPUID)
		vcpu->exit.reason = KEEL_REASON_CPUID;
	else if (c->exit_code == SVM_EXIT_MSR)
		vcpu->exit.reason = c->exit_info_1 ? KEEL_REASON_WRMSR : KEEL_REASON_RDMSR;
	else if (c->exit_code == SVM_EXIT_VMMCALL)
		vcpu->exit.reason = KEEL_REASON_HYPERCALL;
	else if (c->exit_code == SVM_EXIT_NPF && is_eoi(vcpu, c))
		vcpu->exit.reason = KEEL_REASON_MMIO;
	else if (c->exit_code == SVM_EXIT_IOIO)
		return hot_io(svm);
	else
		return HOT_NOTHING;
	if (!ends_plainly(svm))
		return HOT_NOTHING;
	next = next_insn(svm);
	if (unlikely(!next))
		return HOT_NOTHING;
	if (vcpu->exit.reason == KEEL_REASON_CPUID) {
		if (unlikely(!keel_hot_cpuid(vcpu)))
			return HOT_NOTHING;
		s->rip = next;
		return HOT_AGAIN;
	}
	if (vcpu->exit.reason == KEEL_REASON_WRMSR) {
		if (!keel_hot_wrmsr(vcpu))
			return HOT_NOTHING;
	} else if (vcpu->exit.reason == KEEL_REASON_RDMSR) {
		if (!keel_hot_rdmsr(vcpu))
			return HOT_NOTHING;
	} else if (vcpu->exit.reason == KEEL_REASON_MMIO) {
		if (!keel_hot_eoi(vcpu))
			return HOT_NOTHING;
	} else if (!in_kernel64(s) || !keel_hot_hypercall(vcpu)) {
		return HOT_NOTHING;
	}
	s->rip = next;
	return keel_cycle_ends(vcpu, KEEL_RESUME) ? HOT_LEAVE : HOT_AGAIN;
}

/* An exit that serve() may serve, its reason filled in? An event that was interrupted is the core's business first. */
static __always_inline bool served_here(struct svm_vcpu *svm)
{
	const struct vmcb_control *c = &svm->vmcb->control;
	u8 *reason = &svm->vcpu.exit.reason;

	if (c->exit_code == SVM_EXIT_NPF)
		*reason = KEEL_REASON_NESTED_FAULT;
	else if (c->exit_code == SVM_EXIT_IOIO && !(c->exit_info_1 & SVM_IO_STRING))
		*reason = KEEL_REASON_IO;
	else
		return false;
	return !((c->exit_int_info & SVM_EV_VALID) | ((c->int_ctl & SVM_INT_TPR) ^ svm->tpr));
}

/* svm_vcpu_handle_exit() would do the same after 18 more instructions: it decides by all of the exit codes there are. */
static __always_inline int serve(struct svm_vcpu *svm)
{
	struct keel_vcpu *vcpu = &svm->vcpu;
	int r;

	vcpu->st.int_shadow = unlikely(svm->vmcb->control.int_state & SVM_STATE_SHADOW) ?
			      KEEL_SHADOW_STI | KEEL_SHADOW_MOV_SS : 0;
	vcpu->st_valid = KEEL_ST_RIP | KEEL_ST_DR | KEEL_ST_SHADOW;
	vcpu->exit.nr_bytes = 0;
	if (unlikely(vcpu->switch_pkru))
		keel_pkru_restore(vcpu);
	vcpu->exit.insn_len = insn_length(svm);
	r = vcpu->exit.reason == KEEL_REASON_IO ? svm_exit_io(svm) : svm_exit_npf(svm);
	if (unlikely(vcpu->switch_pkru))
		keel_pkru_load(vcpu);
	return r;
}

/*
 * The shortest way back into the guest: as long as exits are of the kind that leaves nothing to do but what their
 * handlers do, one entry follows the other. A request, of whatever origin, comes with an interrupt that ends the next
 * entry, or was made by the handler and is seen here.
 */
static enum keel_exit_class cycle(struct svm_vcpu *svm)
{
	struct keel_vcpu *vcpu = &svm->vcpu;
	struct vmcb *vmcb = svm->vmcb;
	enum hot done;
	int r;

	vmcb->control.tlb_control = SVM_TLB_NOTHING;
	for (;;) {
		while ((done = hot(svm)) == HOT_AGAIN)
			world_switch(svm, true);
		regs_out(svm);
		if (unlikely(done == HOT_LEAVE)) {
			vcpu->exit.result = KEEL_RESUME;
			return KEEL_EXIT_SERVED;
		}
		if (unlikely(vmcb->control.exit_int_info & SVM_EV_VALID))
			complete_events(svm);
		if (!served_here(svm))
			break;
		r = serve(svm);
		if (keel_cycle_ends(vcpu, r)) {
			vcpu->exit.result = r;
			return r == -EAGAIN ? KEEL_EXIT_COLD : KEEL_EXIT_SERVED;
		}
		regs_in(svm, vcpu->st.rflags);
		world_switch(svm, true);
	}
	return classify(&vmcb->control);
}

/*
 * What a guest did to CR4 without an exit: MCE is the host's as well (svm_set_state()), and a bit that Keel does not
 * know has an effect that it does not know.
 */
static noinline void check_cr4(struct svm_vcpu *svm)
{
	struct keel_vcpu *vcpu = &svm->vcpu;

	if (svm->vmcb->save.cr4 & ~vcpu->cpuid.cr4_valid)
		keel_vm_kill(vcpu->vm, "the CPU took a bit of CR4 that the guest does not have");
	keel_st_mod(vcpu, KEEL_ST_CR);
}

/**
 * svm_vcpu_enter() - a world switch, or several when what came between them could be served at once
 * @vcpu: the vCPU, inside its window
 *
 * Return: whether the last exit is served, or may be handled inside the window
 */
enum keel_exit_class svm_vcpu_enter(struct keel_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	struct vmcb *vmcb = svm->vmcb;
	enum keel_exit_class class;
	bool step;

	asid_update(svm);
	vmcb->save.dr6 = DR6_RESERVED;
	if (unlikely(svm->exit_soon || (svm->nmi_step && (vmcb->control.event_inj & SVM_EV_VALID)))) {
		svm->exit_soon = false;
		svm->nmi_step = false;
		keel_request(KEEL_REQ_EVENT, vcpu);
		keel_send_reschedule(smp_processor_id());
	}
	step = svm->nmi_step || (vcpu->guest_debug & KVM_GUESTDBG_SINGLESTEP);
	regs_in(svm, keel_step_begin(vcpu, step));
	vmcb->control.clean = 0;
	vmcb->control.exit_code = SVM_EXIT_INVALID;

	if (unlikely(vcpu->switch_pkru))
		keel_pkru_load(vcpu);
	world_switch(svm, false);
	regs_out(svm);
	keel_step_end(vcpu, step);
	complete_events(svm);
	/* What cycle() finds interrupted is of its own entries. */
	if (likely(vcpu->may_cycle && !step && !svm->iret_seen && !(vmcb->control.exit_int_info & SVM_EV_VALID)))
		class = cycle(svm);
	else
		class = classify(&vmcb->control);
	if (unlikely(vcpu->switch_pkru))
		keel_pkru_restore(vcpu);
	if (unlikely((vmcb->save.cr4 ^ svm_caps.host_mce) & svm->cr4_watched))
		check_cr4(svm);
	if (class != KEEL_EXIT_SERVED)
		decode_exit(svm);
	return class;
}

void svm_vcpu_inject(struct keel_vcpu *vcpu, const struct keel_event *ev)
{
	struct vmcb_control *c = &to_svm(vcpu)->vmcb->control;

	c->event_inj = SVM_EV_VALID | ev->type << 8 | ev->vector | (ev->has_error ? SVM_EV_ERROR : 0);
	c->event_inj_error = ev->error;
}

/* The core's .injected flags still stand: the event is given again at the next entry. */
void svm_vcpu_cancel(struct keel_vcpu *vcpu)
{
	to_svm(vcpu)->vmcb->control.event_inj = 0;
}

/**
 * svm_vcpu_want_window() - exit when the guest becomes able to take an interrupt or an NMI
 * @vcpu: the vCPU, locked
 * @windows: KEEL_WIN_*
 *
 * Interrupts: a virtual interrupt of the highest priority, whose delivery is intercepted. NMIs: while
 * masked, the IRET intercept comes first; after it, or in an interrupt shadow, one instruction is stepped. Behind
 * another event of this entry no step is made (RFLAGS.TF would be pushed by its delivery): an interrupt from
 * this CPU to itself ends the entry once the event is delivered.
 */
void svm_vcpu_want_window(struct keel_vcpu *vcpu, u32 windows)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	struct vmcb_control *c = &svm->vmcb->control;

	if ((windows ^ svm->windows) & KEEL_WIN_IRQ) {
		bool on = windows & KEEL_WIN_IRQ;

		c->int_ctl &= ~(SVM_INT_V_IRQ | SVM_INT_PRIO_MASK);
		if (on)
			c->int_ctl |= SVM_INT_V_IRQ | SVM_INT_PRIO(0xf);
		c->int_vector = 0;
		svm_intercept(svm->vmcb, SVM_ICPT_VINTR, on);
	}
	if (windows & KEEL_WIN_NMI && (svm->iret_seen || !svm->nmi_masked)) {
		if (c->event_inj & SVM_EV_VALID)
			svm->exit_soon = true;
		else
			svm->nmi_step = true;
	}
	svm->windows = windows;
}

bool svm_nmi_blocked(struct keel_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	return svm->nmi_masked || (svm->vmcb->control.int_state & SVM_STATE_SHADOW);
}

void svm_vcpu_set_nmi_masked(struct keel_vcpu *vcpu, bool masked)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	svm->nmi_masked = masked;
	svm->iret_seen = false;
	svm_intercept(svm->vmcb, SVM_ICPT_IRET, masked);
}

void svm_vcpu_update(struct keel_vcpu *vcpu, u32 what)
{
	struct svm_vcpu *svm = to_svm(vcpu);

	if (what & KEEL_UPDATE_TLB)
		svm_drop_tags(svm, ~0UL);
	if (what & KEEL_UPDATE_ROOT) {
		*(keel_shadowing ? &svm->vmcb->save.cr3 : &svm->vmcb->control.n_cr3) = vcpu->mmu.root;
		svm_drop_tags(svm, vcpu->mmu.drop_tags);
		vcpu->mmu.drop_tags = 0;
	}
	if (what & KEEL_UPDATE_INTERCEPTS)
		svm_update_intercepts(vcpu);
	if (what & KEEL_UPDATE_TSC)
		svm->vmcb->control.tsc_offset = vcpu->tsc_offset;
}

/* The guest reads and writes CR8 as V_TPR; an exit at its writes is for the core to ask for (15.21.1). */
void svm_vcpu_update_tpr(struct keel_vcpu *vcpu, u8 tpr, bool exiting, int irr)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	struct vmcb_control *c = &svm->vmcb->control;

	svm->tpr = tpr & SVM_INT_TPR;
	c->int_ctl = (c->int_ctl & ~SVM_INT_TPR) | svm->tpr;
	svm_intercept(svm->vmcb, SVM_ICPT_CR_WRITE + 8, exiting);
}

u8 svm_vcpu_get_tpr(struct keel_vcpu *vcpu)
{
	return to_svm(vcpu)->vmcb->control.int_ctl & SVM_INT_TPR;
}
