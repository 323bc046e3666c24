/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The boot sector of the Bochs machine's disk.  It loads the extents that the disk's second sector
 * lists to their places in memory, puts the BIOS's memory map into the boot parameters, and enters
 * an uncompressed kernel by the 64-bit boot protocol (Documentation/arch/x86/boot.rst).  A stock
 * bzImage would spend half a minute of emulation unpacking itself.
 *
 * bochs.py writes the disk: the table, and page tables and boot parameters among the extents.
 */
#define TABLE		0x9000	/* the second sector: entry point, then {dest, lba, sectors}... 0 */
#define E820		0x8000	/* what the BIOS says, before it is copied */
#define BOOT_PARAMS	0x10000
#define PAGE_TABLES	0x11000
#define E820_ENTRIES	0x1e8
#define E820_TABLE	0x2d0
#define E820_SIZE	20
#define E820_MAX	128

#define ATA_DATA	0x1f0
#define ATA_COUNT	0x1f2
#define ATA_LBA0	0x1f3
#define ATA_LBA1	0x1f4
#define ATA_LBA2	0x1f5
#define ATA_DEVICE	0x1f6
#define ATA_COMMAND	0x1f7
#define ATA_CONTROL	0x3f6
#define ATA_READ_EXT	0x24
#define ATA_MOST	0x8000	/* sectors a command */

	.code16
	.globl start
start:
	cli
	cld
	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw $0x7c00, %sp
	movw $E820, %di
	xorl %ebx, %ebx
	xorl %ebp, %ebp
1:	movl $0xe820, %eax
	movl $E820_SIZE, %ecx
	movl $0x534d4150, %edx
	int $0x15
	jc 2f
	addw $E820_SIZE, %di
	incl %ebp
	cmpl $E820_MAX, %ebp
	jae 2f
	testl %ebx, %ebx
	jnz 1b
2:	cli
	inb $0x92, %al
	orb $2, %al
	outb %al, $0x92
	lgdtl gdt_pointer
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $0x8, $protected

	.code32
protected:
	movl $0x18, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl $0x7c00, %esp
	movw $ATA_CONTROL, %dx
	movb $2, %al			/* no interrupts */
	outb %al, %dx

	movl $TABLE, %edi
	movl $1, %ebx
	movl $1, %ecx
	call read
	movl $TABLE + 8, %esi
1:	movl (%esi), %edi
	movl 4(%esi), %ebx
	movl 8(%esi), %ecx
	addl $12, %esi
	jecxz 2f
	call read
	jmp 1b

2:	movl %ebp, %eax
	movb %al, BOOT_PARAMS + E820_ENTRIES
	imull $E820_SIZE, %eax, %ecx
	movl $E820, %esi
	movl $BOOT_PARAMS + E820_TABLE, %edi
	rep movsb

	movl %cr4, %eax
	orl $0x20, %eax			/* PAE */
	movl %eax, %cr4
	movl $PAGE_TABLES, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x100, %eax		/* EFER.LME */
	wrmsr
	movl %cr0, %eax
	orl $0x80000000, %eax
	movl %eax, %cr0
	ljmpl $0x10, $long_mode

/* Read %ecx sectors from block %ebx on to %edi. */
read:
	movl %ecx, %eax
	cmpl $ATA_MOST, %eax
	jbe 1f
	movl $ATA_MOST, %eax
1:	pushl %ecx
	pushl %eax
	movl %eax, %ecx
	movw $ATA_DEVICE, %dx
	movb $0xe0, %al
	outb %al, %dx
	/* Each register takes the high byte, then the low one. */
	movw $ATA_COUNT, %dx
	movb %ch, %al
	outb %al, %dx
	movb %cl, %al
	outb %al, %dx
	movl %ebx, %eax
	shrl $24, %eax
	movw $ATA_LBA0, %dx
	outb %al, %dx
	movb %bl, %al
	outb %al, %dx
	xorl %eax, %eax
	incl %edx
	outb %al, %dx
	movb %bh, %al
	outb %al, %dx
	incl %edx
	xorl %eax, %eax
	outb %al, %dx
	movl %ebx, %eax
	shrl $16, %eax
	outb %al, %dx
	movw $ATA_COMMAND, %dx
	movb $ATA_READ_EXT, %al
	outb %al, %dx
	addl %ecx, %ebx
2:	movw $ATA_COMMAND, %dx
3:	inb %dx, %al
	testb $0x80, %al
	jnz 3b
	testb $0x08, %al
	jz 3b
	pushl %ecx
	movl $128, %ecx
	movw $ATA_DATA, %dx
	rep insl
	popl %ecx
	loop 2b
	popl %eax
	popl %ecx
	subl %eax, %ecx
	jnz read
	ret

	.code64
long_mode:
	movl $BOOT_PARAMS, %esi
	movq TABLE, %rax
	jmp *%rax

	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9a000000ffff	/* 0x08: 32-bit code */
	.quad 0x00af9a000000ffff	/* 0x10: 64-bit code */
	.quad 0x00cf92000000ffff	/* 0x18: data */
gdt_pointer:
	.word . - gdt - 1
	.long gdt

	.org 510
	.word 0xaa55
