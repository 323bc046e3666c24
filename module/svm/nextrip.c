// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where an exiting instruction ends, on CPUs that do not save the next RIP.
 *
 * An instruction that exited before is known again by its address, the registers that its fetch depends on, the
 * entries of the guest's tables that led to it, and its bytes. All of these are compared at each exit, because nothing
 * tells us when a guest with nested paging changes them; then it is as long as it was. mmu/gcache.c and insnlen.c find
 * that out for one that is new, or has changed.
 *
 * Interrupts are off, and vm->srcu is not held: the address of a slot that is being deleted may be read once more,
 * which is the client's own memory, read on its behalf. Where the guest's PKRU is loaded and denies it, the read fails and the
 * exit goes the long way. Long mode and nested paging alone. APM 2, 15.7.1.
 */
#include <linux/uaccess.h>
#include <asm/processor-flags.h>

#include "../mmu/gwalk.h"
#include "svm.h"

static struct svm_insn *insn_at(struct svm_vcpu *svm, u64 rip)
{
	return &svm->insn[(rip ^ rip >> 3) % SVM_KNOWN_INSNS];
}

/* What the fetch depends on beside the control registers. */
static u32 fetch_rights(const struct svm_vcpu *svm)
{
	return svm->vmcb->save.cs.attr | svm->vmcb->save.cpl << 16 | svm->vcpu.smm.in << 24;
}

/*
 * By the registers alone. Guests flush by CR4.PGE, which means nothing to a walk; EFER.LMA says all of CR0 that a fetch
 * depends on.
 */
static __always_inline bool may_be(const struct svm_vcpu *svm, const struct svm_insn *insn)
{
	const struct vmcb_save *s = &svm->vmcb->save;

	return !((insn->rip ^ s->rip) | (insn->cr3 ^ s->cr3) | (insn->efer ^ (u32)s->efer) |
		 ((insn->cr4 ^ (u32)s->cr4) & ~X86_CR4_PGE) | (insn->rights ^ fetch_rights(svm)) |
		 (insn->generation ^ READ_ONCE(svm->vcpu.vm->slots_generation)));
}

/*
 * Are the entries of the guest's tables as they were, and the bytes? The addresses passed access_ok() when their slots were
 * made; in a window no page fault sleeps.
 */
static __always_inline bool memory_holds(const struct svm_insn *insn)
{
	const struct keel_gcache_step *step = insn->step;
	u64 word, changed;

	__uaccess_begin_nospec();
	unsafe_get_user(word, (const u64 __user *)insn->hva, fault);
	changed = (word & insn->mask) ^ insn->code;
	unsafe_get_user(word, (const u64 __user *)step[0].hva, fault);
	changed |= word ^ step[0].pte;
	unsafe_get_user(word, (const u64 __user *)step[1].hva, fault);
	changed |= word ^ step[1].pte;
	if (likely(insn->depth > 2)) {
		unsafe_get_user(word, (const u64 __user *)step[2].hva, fault);
		changed |= word ^ step[2].pte;
		if (likely(insn->depth > 3)) {
			unsafe_get_user(word, (const u64 __user *)step[3].hva, fault);
			changed |= word ^ step[3].pte;
		}
	}
	user_read_access_end();
	return !changed;
fault:
	user_read_access_end();
	return false;
}

/* The exit's own instruction without prefixes, found by the core: it is known from now on. */
static noinline u8 learn(struct svm_vcpu *svm, struct svm_insn *insn)
{
	const struct vmcb_save *s = &svm->vmcb->save;
	const struct keel_gcache_entry *e;
	u64 linear, code;
	int i, len;

	insn->len = 0;
	if (keel_shadowing || !keel_long_mode64(&svm->vcpu))
		return 0;
	linear = s->rip;
	if (svm->vcpu.exit.reason == KEEL_REASON_MMIO)
		len = keel_mmio_store(&svm->vcpu, linear, svm->vmcb->control.exit_info_2, &code);
	else
		len = keel_insn_usual(&svm->vcpu, linear, &code);
	if (!len)
		return 0;
	e = keel_gcache_code(&svm->vcpu, linear);
	if (e->depth < 2 || e->depth > SVM_INSN_LEVELS)
		return len;
	*insn = (struct svm_insn) {
		.rip = s->rip, .cr3 = s->cr3, .cr4 = s->cr4, .efer = s->efer,
		.rights = fetch_rights(svm), .generation = e->generation,
		.hva = e->hva + offset_in_page(linear), .code = code, .mask = GENMASK_ULL(min(8 * len, 64) - 1, 0),
		.reason = svm->vcpu.exit.reason, .len = len, .depth = e->depth,
	};
	/* What changes is near the leaf. */
	for (i = 0; i < e->depth; i++)
		insn->step[i] = e->step[e->depth - 1 - i];
	return len;
}

/**
 * svm_insn_length() - length of the exiting instruction, if it can be had at once
 * @svm: the vCPU, after an exit whose reason is in vcpu.exit
 *
 * Return: bytes; 0: the core is to find out
 */
u8 svm_insn_length(struct svm_vcpu *svm)
{
	struct svm_insn *insn = insn_at(svm, svm->vmcb->save.rip);

	BUILD_BUG_ON(sizeof(*insn) != 128);
	OPTIMIZER_HIDE_VAR(insn);	/* else its address is computed again and again */
	if (likely(insn->len && insn->reason == svm->vcpu.exit.reason && may_be(svm, insn) && memory_holds(insn)))
		return insn->len;
	return learn(svm, insn);
}
