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
 * which is the client's own memory, read on its behalf. Long mode and nested paging alone. APM 2, 15.7.1.
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

	return !((insn->rip ^ s->rip) | (insn->cr3 ^ s->cr3) | (insn->efer ^ s->efer) |
		 ((insn->cr4 ^ s->cr4) & ~(u64)X86_CR4_PGE) | (insn->rights ^ fetch_rights(svm)) |
		 (insn->generation ^ READ_ONCE(svm->vcpu.vm->slots_generation)));
}

static __always_inline bool bytes_hold(const struct svm_insn *insn)
{
	bool holds = false;
	u64 code;

	if (!user_read_access_begin((const void __user *)insn->hva, sizeof(code)))
		return false;
	if (keel_gcache_steps_hold(insn->step, insn->depth)) {
		unsafe_get_user(code, (const u64 __user *)insn->hva, end);
		holds = (code & insn->mask) == insn->code;
	}
end:
	user_read_access_end();
	return holds;
}

/* The exit's own instruction without prefixes, found by the core: it is known from now on. */
static u8 learn(struct svm_vcpu *svm, struct svm_insn *insn)
{
	const struct vmcb_save *s = &svm->vmcb->save;
	const struct keel_gcache_entry *e;
	u64 linear, code;
	int len;

	insn->len = 0;
	if (keel_shadowing || !keel_long_mode64(&svm->vcpu))
		return 0;
	linear = s->rip;
	len = keel_insn_usual(&svm->vcpu, linear, &code);
	if (!len)
		return 0;
	e = keel_gcache_code(&svm->vcpu, linear);
	*insn = (struct svm_insn) {
		.rip = s->rip, .cr3 = s->cr3, .cr4 = s->cr4, .efer = s->efer,
		.rights = fetch_rights(svm), .generation = e->generation,
		.hva = e->hva + offset_in_page(linear), .code = code, .mask = BIT(8 * len) - 1,
		.reason = svm->vcpu.exit.reason, .len = len, .depth = e->depth,
	};
	memcpy(insn->step, e->step, sizeof(insn->step));
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
	bool holds;

	if (unlikely(!insn->len || insn->reason != svm->vcpu.exit.reason || !may_be(svm, insn)))
		return learn(svm, insn);
	pagefault_disable();
	holds = bytes_hold(insn);
	pagefault_enable();
	return likely(holds) ? insn->len : learn(svm, insn);
}
