/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The world switch of VMX (SDM 3C, 27 and 28).
 *
 * The GPRs but RSP are ours to switch; RSP, RIP, RFLAGS and the rest live in the VMCS. An exit continues at
 * vmx_exit_point with the host's RSP as it was at the entry. A VMLAUNCH or VMRESUME that fails falls
 * through instead, with the guest's registers loaded and the flags saying so.
 *
 * Speculation: between the write of the guest's SPEC_CTRL and the entry, and between the exit and the write
 * of the host's, there is no return and no indirect branch. A branch that skips a defence after an exit
 * could be mispredicted, so those are patched in by the kernel's feature bits; before an entry it could not,
 * because entries serialize. spec.c and Documentation/security.rst have the rest.
 */
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <asm/ibt.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/segment.h>

#include "../compat_asm.h"
#include "../spec_asm.h"
#include "../switch_asm.h"

#define VMCS_HOST_RSP	0x6c14
#define LAUNCHED	1		/* among the flags of spec_asm.h */

DEFINE_VERW_SELECTOR

.text

/*
 * The branch history of a guest must not steer the host: the sequence that Intel gives for CPUs without
 * BHI_DIS_S, 5 calls of 5 taken branches each. The returns lie in the upper half of a cache line (ITS).
 */
SYM_FUNC_START_LOCAL(clear_branch_history)
	push	%rbp
	mov	%rsp, %rbp
	mov	$5, %ecx
	ANNOTATE_INTRA_FUNCTION_CALL
	call	1f
	jmp	5f
	.balign 64, 0xcc
	.skip	32 - (.Lhistory_ret - 1f), 0xcc
	ANNOTATE_INTRA_FUNCTION_CALL
1:	call	2f
.Lhistory_ret:
	RET
	.balign 64, 0xcc
	.skip	32 - 18, 0xcc
2:	mov	$5, %eax
3:	jmp	4f
	nop
4:	sub	$1, %eax
	jnz	3b
	sub	$1, %ecx
	jnz	1b
	RET
5:	lfence
	pop	%rbp
	RET
SYM_FUNC_END(clear_branch_history)
STACK_FRAME_NON_STANDARD clear_branch_history

/*
 * bool vmx_switch(u64 *gpr %rdi, bool launched %sil, u64 *host_rsp %rdx, struct keel_spec_switch *spec %rcx):
 * true if nothing was entered
 */
SYM_FUNC_START(vmx_switch)
	PUSH_HOST_REGS
	push	%rcx			/* 16(%rsp) once both below are pushed */
	push	%rdi			/*  8(%rsp) */
	movzbl	%sil, %esi
	or	KEEL_SPEC_FLAGS(%rcx), %esi
	push	%rsi			/*  0(%rsp) */

	cmp	%rsp, (%rdx)
	je	1f
	mov	$VMCS_HOST_RSP, %eax
	vmwrite	%rsp, %rax
	mov	%rsp, (%rdx)
1:
	ALTERNATIVE "jmp .Lguest_ctrl_done", "", X86_FEATURE_MSR_SPEC_CTRL
	mov	KEEL_SPEC_GUEST(%rcx), %eax
	cmp	KEEL_SPEC_HOST(%rcx), %eax
	je	.Lguest_ctrl_done
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	xor	%edx, %edx
	wrmsr
.Lguest_ctrl_done:

	mov	GPR(0)(%rdi), %rax
	mov	GPR(1)(%rdi), %rcx
	mov	GPR(2)(%rdi), %rdx
	mov	GPR(3)(%rdi), %rbx
	mov	GPR(5)(%rdi), %rbp
	mov	GPR(6)(%rdi), %rsi
	LOAD_R8_TO_R15 %rdi
	mov	GPR(7)(%rdi), %rdi

	testb	$KEEL_SPEC_VERW, (%rsp)
	jz	5f
	verw	verw_selector(%rip)
5:	testb	$LAUNCHED, (%rsp)
	jz	2f
	vmresume
	jbe	3f
2:	vmlaunch
	jbe	3f

SYM_INNER_LABEL_ALIGN(vmx_exit_point, SYM_L_GLOBAL)
	ENDBR
	push	%rdi
	mov	16(%rsp), %rdi
	mov	%rax, GPR(0)(%rdi)
	mov	%rcx, GPR(1)(%rdi)
	mov	%rdx, GPR(2)(%rdi)
	mov	%rbx, GPR(3)(%rdi)
	mov	%rbp, GPR(5)(%rdi)
	mov	%rsi, GPR(6)(%rdi)
	STORE_R8_TO_R15 %rdi
	pop	%rax
	mov	%rax, GPR(7)(%rdi)

	xor	%ebx, %ebx

	ALTERNATIVE_2 "jmp .Lreturns_done", "", X86_FEATURE_RSB_VMEXIT, "jmp .Lone_return", X86_FEATURE_RSB_VMEXIT_LITE
	FILL_RETURN_STACK RSB_CLEAR_LOOPS
.Lreturns_done:

4:	ALTERNATIVE "jmp .Lhost_ctrl_done", "", X86_FEATURE_MSR_SPEC_CTRL
	mov	16(%rsp), %rdi
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	testb	$KEEL_SPEC_SAVE, (%rsp)
	jz	6f
	rdmsr
	mov	%eax, KEEL_SPEC_GUEST(%rdi)
6:	mov	KEEL_SPEC_HOST(%rdi), %eax
	testb	$KEEL_SPEC_WRITE, (%rsp)
	jnz	7f
	cmp	KEEL_SPEC_GUEST(%rdi), %eax
	je	8f
7:	xor	%edx, %edx
	wrmsr
8:	lfence				/* not before the branches above are decided */
.Lhost_ctrl_done:

	ALTERNATIVE __stringify(testb $KEEL_SPEC_BHB, (%rsp); jz .Lhistory_done), "", KEEL_FEATURE_BHB_VMEXIT
	call	clear_branch_history
.Lhistory_done:

	mov	%ebx, %eax
	CLEAR_GUEST_REGS

	add	$24, %rsp
	POP_HOST_REGS
	RET

3:	mov	$1, %ebx
	jmp	4b

.Lone_return:
	FILL_RETURN_STACK 1
	jmp	.Lreturns_done
SYM_FUNC_END(vmx_switch)
