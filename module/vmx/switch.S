/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The world switch of VMX (SDM 3C, 27 and 28).
 *
 * The GPRs but RSP are ours to switch; RSP, RIP, RFLAGS and the rest live in the VMCS. An exit continues at
 * vmx_exit_point with the host's RSP as it was at the entry. A VMLAUNCH or VMRESUME that fails falls
 * through instead, with the guest's registers loaded and the flags saying so.
 */
#include <linux/linkage.h>
#include <asm/ibt.h>
#include <asm/nospec-branch.h>

#define GPR(n)		(8 * (n))
#define VMCS_HOST_RSP	0x6c14

.text

/* bool vmx_switch(u64 *gpr %rdi, bool launched %sil, u64 *host_rsp %rdx): true if nothing was entered */
SYM_FUNC_START(vmx_switch)
	push	%rbp
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%rbx
	push	%rdi

	cmp	%rsp, (%rdx)
	je	1f
	mov	$VMCS_HOST_RSP, %eax
	vmwrite	%rsp, %rax
	mov	%rsp, (%rdx)
1:
	test	%sil, %sil		/* the moves leave the flags alone */

	mov	GPR(0)(%rdi), %rax
	mov	GPR(1)(%rdi), %rcx
	mov	GPR(2)(%rdi), %rdx
	mov	GPR(3)(%rdi), %rbx
	mov	GPR(5)(%rdi), %rbp
	mov	GPR(6)(%rdi), %rsi
	mov	GPR(8)(%rdi), %r8
	mov	GPR(9)(%rdi), %r9
	mov	GPR(10)(%rdi), %r10
	mov	GPR(11)(%rdi), %r11
	mov	GPR(12)(%rdi), %r12
	mov	GPR(13)(%rdi), %r13
	mov	GPR(14)(%rdi), %r14
	mov	GPR(15)(%rdi), %r15
	mov	GPR(7)(%rdi), %rdi

	jz	2f
	vmresume
	jbe	3f
2:	vmlaunch
	jbe	3f

SYM_INNER_LABEL_ALIGN(vmx_exit_point, SYM_L_GLOBAL)
	ENDBR
	push	%rdi
	mov	8(%rsp), %rdi
	mov	%rax, GPR(0)(%rdi)
	mov	%rcx, GPR(1)(%rdi)
	mov	%rdx, GPR(2)(%rdi)
	mov	%rbx, GPR(3)(%rdi)
	mov	%rbp, GPR(5)(%rdi)
	mov	%rsi, GPR(6)(%rdi)
	mov	%r8, GPR(8)(%rdi)
	mov	%r9, GPR(9)(%rdi)
	mov	%r10, GPR(10)(%rdi)
	mov	%r11, GPR(11)(%rdi)
	mov	%r12, GPR(12)(%rdi)
	mov	%r13, GPR(13)(%rdi)
	mov	%r14, GPR(14)(%rdi)
	mov	%r15, GPR(15)(%rdi)
	pop	%rax
	mov	%rax, GPR(7)(%rdi)

	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RETPOLINE

	xor	%eax, %eax
	jmp	4f

3:	mov	$1, %eax

	/* No guest value survives in a register that a mispredicted path could use as an address. */
4:	xor	%ecx, %ecx
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

	add	$8, %rsp
	pop	%rbx
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	pop	%rbp
	RET
SYM_FUNC_END(vmx_switch)
