/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the world switches of VMX and SVM have in common: the host's registers on the stack, the guest's in
 * keel_state.gpr[], and the clearing of what a guest left. Assembly only.
 */
#ifndef KEEL_SWITCH_ASM_H
#define KEEL_SWITCH_ASM_H

#define GPR(n)		(8 * (n))	/* offset in keel_state.gpr[] */

/* The registers that a called function keeps (System V ABI). */
.macro PUSH_HOST_REGS
	push	%rbp
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%rbx
.endm

.macro POP_HOST_REGS
	pop	%rbx
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	pop	%rbp
.endm

.macro LOAD_R8_TO_R15 gpr:req
	mov	GPR(8)(\gpr), %r8
	mov	GPR(9)(\gpr), %r9
	mov	GPR(10)(\gpr), %r10
	mov	GPR(11)(\gpr), %r11
	mov	GPR(12)(\gpr), %r12
	mov	GPR(13)(\gpr), %r13
	mov	GPR(14)(\gpr), %r14
	mov	GPR(15)(\gpr), %r15
.endm

.macro STORE_R8_TO_R15 gpr:req
	mov	%r8, GPR(8)(\gpr)
	mov	%r9, GPR(9)(\gpr)
	mov	%r10, GPR(10)(\gpr)
	mov	%r11, GPR(11)(\gpr)
	mov	%r12, GPR(12)(\gpr)
	mov	%r13, GPR(13)(\gpr)
	mov	%r14, GPR(14)(\gpr)
	mov	%r15, GPR(15)(\gpr)
.endm

/* No guest value survives in a register that a mispredicted path could use as an address. RAX is the caller's. */
.macro CLEAR_GUEST_REGS
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%ebp, %ebp
	xor	%ebx, %ebx
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
.endm

/*
 * No return behind an exit goes where the guest's calls have led the predictor: the return stack is filled with calls
 * whose returns would meet an INT3. As the kernel's FILL_RETURN_BUFFER, without its loop: two of five instructions there.
 */
.macro FILL_RETURN_STACK slots:req
	.rept \slots
	__FILL_RETURN_SLOT
	.endr
	add	$(8 * \slots), %rsp
	lfence
	CREDIT_CALL_DEPTH
.endm

/* VERW clears the CPU's buffers when its operand, of which each switch has its own, is a writable segment. */
.macro DEFINE_VERW_SELECTOR
	.pushsection .rodata
	.balign 2
	SYM_DATA_LOCAL(verw_selector, .word __KERNEL_DS)
	.popsection
.endm

#endif /* KEEL_SWITCH_ASM_H */
