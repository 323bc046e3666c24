// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long the exiting instruction is, on CPUs that do not save the next RIP: from its bytes.
 *
 * The exit says which instruction it was. Without prefixes, as nearly always, two or three bytes tell that this is it;
 * else the decoder reads it. The vCPU is locked; inside the window nothing sleeps.
 */
#include "mmu/gwalk.h"
#include "ops.h"

/* KEEL_USUAL_REASONS: what their instruction is without prefixes, lowest byte first. */
static const struct {
	u8 len;
	u32 code;
} usual[KEEL_NR_REASONS] = {
	[KEEL_REASON_CPUID] = { 2, 0xa20f },
	[KEEL_REASON_RDMSR] = { 2, 0x320f },
	[KEEL_REASON_WRMSR] = { 2, 0x300f },
	[KEEL_REASON_HLT] = { 1, 0xf4 },
	[KEEL_REASON_PAUSE] = { 2, 0x90f3 },
	[KEEL_REASON_RDPMC] = { 2, 0x330f },
	[KEEL_REASON_XSETBV] = { 3, 0xd1010f },
	[KEEL_REASON_HYPERCALL] = { 3, 0xd9010f },	/* VMMCALL: VMX gives the length of VMCALL */
};

/**
 * keel_insn_usual() - length of the exiting instruction, if it is the exit's usual one and its page is in the cache
 * @vcpu: the vCPU, locked; interrupts may be off
 * @linear: where it is
 * @code: its bytes, lowest first
 *
 * Return: bytes, and then keel_gcache_code() has the way to them; 0: more has to be looked at
 */
int keel_insn_usual(struct keel_vcpu *vcpu, u64 linear, u64 *code)
{
	u8 reason = vcpu->exit.reason, len = usual[reason].len;
	u64 bytes[2];

	*code = usual[reason].code;
	if (!len || !keel_gcache_fetch(vcpu, linear, bytes))
		return 0;
	return (bytes[0] & (BIT(8 * len) - 1)) == *code ? len : 0;
}

/**
 * keel_insn_length() - length of the instruction at RIP, from its bytes
 * @vcpu: the vCPU, locked; inside the window nothing sleeps
 *
 * The bytes may have been changed by another vCPU since the exit, which hurts that guest alone.
 *
 * Return: bytes (1 to 15); 0 when the fetch faulted: the fault is queued, or the instruction is to be
 * retried; -EAGAIN inside the window: ask again outside; -EINVAL no instruction there
 */
int keel_insn_length(struct keel_vcpu *vcpu)
{
	u64 linear = keel_linear_rip(vcpu);
	struct keel_fault fault;
	struct keel_insn insn;
	u8 bytes[KEEL_INSN_MAX_LEN];
	u64 code;
	int n = keel_insn_usual(vcpu, linear, &code);

	if (likely(n))
		return n;
	n = keel_gva_fetch(vcpu, linear, bytes, KEEL_INSN_MAX_LEN, &fault, vcpu->in_window);
	if (n == -EAGAIN)
		return vcpu->in_window ? -EAGAIN : 0;
	if (n == -EFAULT) {
		if (vcpu->in_window)
			return -EAGAIN;
		keel_inject_fault(vcpu, &fault);
		return 0;
	}
	if (n < 0)
		return vcpu->in_window ? -EAGAIN : -EINVAL;
	switch (keel_decode(&insn, bytes, n, keel_emul_mode(vcpu))) {
	case KEEL_EMU_OK:
		return insn.length;
	case KEEL_EMU_NEED_BYTES:
		/* The rest lies in a page that can be read only outside, or not at all: that fault is due. */
		if (vcpu->in_window)
			return -EAGAIN;
		if (keel_gva_fetch(vcpu, linear + n, bytes, 1, &fault, false) != -EFAULT)
			return -EINVAL;
		keel_inject_fault(vcpu, &fault);
		return 0;
	default:
		return vcpu->in_window ? -EAGAIN : -EINVAL;
	}
}
