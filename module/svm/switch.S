/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The world switch of SVM (APM 2, 15.5).
 *
 * The GPRs but RAX and RSP are ours to switch; those two, RIP and RFLAGS live in the VMCB. VMRUN and
 * #VMEXIT leave FS, GS, TR, LDTR and the syscall MSRs alone: VMLOAD and VMSAVE switch them, from the VMCB
 * and to a page that svm_window_open() filled with the host's.
 *
 * Interrupts: GIF is clear from CLGI to STGI, so nothing reaches the host in between. RFLAGS.IF is set
 * across VMRUN because with V_INTR_MASKING the host's IF, not the guest's, gates physical interrupts. QEMU's TCG has once
 * delivered one in front of VMRUN in spite of GIF, at the first instruction that IF allowed it at: there the GS base is the
 * host's, so that the kernel survives it. Not right in front of VMRUN: STI's shadow would become the guest's.
 *
 * VMRUN faults only without EFER.SVME, and then with the guest's GS base in place, where no exception can
 * be handled: run.c checks keel_hw_on with interrupts off, and SVME is only cleared by an IPI.
 *
 * The return stack buffer is refilled only after the host's GS base is back: newer kernels touch a
 * per-CPU variable there. That and the other defences after an exit are done before STGI, because the handler
 * of an NMI does not do them, and before the first return; what they depend on is patched in by the kernel's
 * feature bits, because a branch could be mispredicted. From the write of the guest's SPEC_CTRL to VMRUN
 * there is no return and no indirect branch either. spec.c and Documentation/security.rst have the rest.
 */
#include <linux/linkage.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/segment.h>

#include "../compat_asm.h"
#include "../spec_asm.h"
#include "../switch_asm.h"

DEFINE_VERW_SELECTOR

.text

/* void svm_switch(u64 vmcb_pa %rdi, u64 *gpr %rsi, u64 host_state_pa %rdx, struct keel_spec_switch *spec %rcx) */
SYM_FUNC_START(svm_switch)
	PUSH_HOST_REGS
	push	KEEL_SPEC_FLAGS(%rcx)	/* 32(%rsp) once all below are pushed */
	push	%rcx			/* 24(%rsp) */
	push	%rdx			/* 16(%rsp) */
	push	%rsi			/*  8(%rsp) */
	push	%rdi			/*  0(%rsp) */

	clgi

	ALTERNATIVE_2 "jmp .Lguest_ctrl_done", "", X86_FEATURE_MSR_SPEC_CTRL, \
		      "jmp .Lguest_ctrl_done", X86_FEATURE_V_SPEC_CTRL
	mov	KEEL_SPEC_GUEST(%rcx), %eax
	cmp	KEEL_SPEC_HOST(%rcx), %eax
	je	.Lguest_ctrl_done
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	xor	%edx, %edx
	wrmsr
.Lguest_ctrl_done:

	mov	%rdi, %rax
	mov	GPR(1)(%rsi), %rcx
	mov	GPR(2)(%rsi), %rdx
	mov	GPR(3)(%rsi), %rbx
	mov	GPR(5)(%rsi), %rbp
	mov	GPR(7)(%rsi), %rdi
	LOAD_R8_TO_R15 %rsi
	mov	GPR(6)(%rsi), %rsi

	sti
	nop				/* see above: where STI's shadow ends, the host's GS base is still there */
	vmload	%rax
	testb	$KEEL_SPEC_VERW, 32(%rsp)
	jz	1f
	verw	verw_selector(%rip)
1:	vmrun	%rax
	cli
	mov	(%rsp), %rax
	vmsave	%rax

	mov	8(%rsp), %rax
	mov	%rcx, GPR(1)(%rax)
	mov	%rdx, GPR(2)(%rax)
	mov	%rbx, GPR(3)(%rax)
	mov	%rbp, GPR(5)(%rax)
	mov	%rsi, GPR(6)(%rax)
	mov	%rdi, GPR(7)(%rax)
	STORE_R8_TO_R15 %rax

	mov	16(%rsp), %rax
	vmload	%rax

	ALTERNATIVE "jmp .Lreturns_done", "", X86_FEATURE_RETPOLINE
	FILL_RETURN_STACK RSB_CLEAR_LOOPS
.Lreturns_done:

	ALTERNATIVE_2 "jmp .Lhost_ctrl_done", "", X86_FEATURE_MSR_SPEC_CTRL, \
		      "jmp .Lhost_ctrl_done", X86_FEATURE_V_SPEC_CTRL
	mov	24(%rsp), %rdi
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	testb	$KEEL_SPEC_SAVE, 32(%rsp)
	jz	2f
	rdmsr
	mov	%eax, KEEL_SPEC_GUEST(%rdi)
2:	mov	KEEL_SPEC_HOST(%rdi), %eax
	cmp	KEEL_SPEC_GUEST(%rdi), %eax
	je	3f
	xor	%edx, %edx
	wrmsr
3:	lfence				/* not before the branches above are decided */
.Lhost_ctrl_done:

	KEEL_UNTRAIN_RET

	/* SRSO and retbleed by barrier; where that leaves return predictions, they are overwritten once more. */
	ALTERNATIVE_2 "jmp .Libpb_done", "", X86_FEATURE_ENTRY_IBPB, "", KEEL_FEATURE_IBPB_ON_VMEXIT
	mov	$MSR_IA32_PRED_CMD, %ecx
	mov	$PRED_CMD_IBPB, %eax
	xor	%edx, %edx
	wrmsr
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, KEEL_BUG_IBPB_NO_RET
.Libpb_done:

	stgi

	CLEAR_GUEST_REGS

	add	$40, %rsp
	POP_HOST_REGS
	RET
SYM_FUNC_END(svm_switch)
