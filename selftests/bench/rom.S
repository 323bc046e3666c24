/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Firmware for QEMU that in 64-bit mode reads from a port and from memory of QEMU's devices again and again, and writes what
 * the shortest of 16 batches of 100 rounds took, in ticks of the TSC, to the debug console: port, memory, both once more.
 * See qemu.sh.
 */
#define CONSOLE		0xe9		/* isa-debugcon: reads as 0xe9 */
#define OFF		0xf4		/* isa-debug-exit */
#define HPET		0xfed00000
#define ROM		0xf0000		/* where its 64 KiB are below 1 MiB */
#define TABLES		0x10000		/* PML4, PDPT, four PDs */

.macro MEASURE op:vararg
	mov	$-1, %edi
	mov	$16, %ebp
8:	mov	$100, %ecx
	rdtsc
	mov	%eax, %ebx
9:	\op
	dec	%ecx
	jnz	9b
	rdtsc
	sub	%ebx, %eax
	cmp	%edi, %eax
	jae	7f
	mov	%eax, %edi
7:	dec	%ebp
	jnz	8b
	call	print
.endm

	.text
	.code16
	.org	0
start:
	cli
	lgdtl	%cs:(gdtr - start)
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$8, $(ROM + protected - start)

	.code32
protected:
	mov	$24, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$0x7000, %esp
	/* 4 GiB, each address its own, in pages of 2 MiB. */
	mov	$TABLES, %edi
	xor	%eax, %eax
	mov	$0x800, %ecx
	rep stosl
	movl	$TABLES + 0x1003, TABLES
	mov	$TABLES + 0x2003, %eax
	mov	$TABLES + 0x1000, %edi
1:	mov	%eax, (%edi)
	add	$8, %edi
	add	$0x1000, %eax
	cmp	$TABLES + 0x6003, %eax
	jne	1b
	mov	$0x83, %eax
	mov	$TABLES + 0x2000, %edi
2:	mov	%eax, (%edi)
	movl	$0, 4(%edi)
	add	$8, %edi
	add	$0x200000, %eax
	jnc	2b
	mov	%cr4, %eax
	or	$0x20, %eax
	mov	%eax, %cr4
	mov	$TABLES, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x100, %eax
	wrmsr
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	ljmp	$16, $(ROM + long_mode - start)

	.code64
long_mode:
	mov	$2, %esi
again:
	MEASURE	in $CONSOLE, %al
	mov	$HPET, %r8d
	MEASURE	mov (%r8), %eax
	dec	%esi
	jnz	again
	out	%al, $OFF
	hlt

/* EDI in decimal, and the end of the line. */
print:
	mov	%edi, %eax
	mov	$10, %ebx
	xor	%ecx, %ecx
1:	xor	%edx, %edx
	div	%ebx
	push	%rdx
	inc	%ecx
	test	%eax, %eax
	jnz	1b
2:	pop	%rax
	add	$'0', %al
	out	%al, $CONSOLE
	dec	%ecx
	jnz	2b
	mov	$'\n', %al
	out	%al, $CONSOLE
	ret

	/* Code of 32 and of 64 bits, data. */
	.balign	8
gdt:	.quad	0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:	.word	. - gdt - 1
	.long	ROM + gdt - start

	.code16
	.org	0xfff0
	ljmp	$0xf000, $0
	.org	0x10000
