// SPDX-License-Identifier: GPL-2.0-only
/*
 * See native.h. Registers are loaded from fixed variables at the very end of the way in, so that
 * the tested instruction starts with exactly the wanted state; RSP points into the sandbox by then,
 * which is why signals come on their own stack. FS is the C library's: the first thing the handler
 * does is to give it back.
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include "native.h"

#define AVX_STATE_OFFSET	576	/* in the frame's XSAVE area, standard format */
#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE		2
#endif

/* Used by the assembly below. */
__attribute__((used)) u64 native_gpr[16];
__attribute__((used)) u64 native_rflags;
__attribute__((used)) u64 native_host_rsp;
__attribute__((used)) u64 native_host_fs_base;
__attribute__((used)) u64 native_fs_base, native_gs_base;
__attribute__((used)) u16 native_sel[8];
__attribute__((used)) u8 native_vec[16][32] __attribute__((aligned(32)));
__attribute__((used)) u8 native_mm[8][8] __attribute__((aligned(8)));
__attribute__((used)) u64 native_use_avx;
__attribute__((used)) u64 native_use_fsgsbase;
__attribute__((used)) struct {
	u32 offset;
	u16 selector;
} __attribute__((packed, aligned(16))) native_target;

void native_enter(void);
void native_leave(void);
void native_signal(int sig, siginfo_t *info, void *context);

asm(
"	.text\n"
"native_enter:\n"
"	pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"
"	movq %rsp, native_host_rsp(%rip)\n"
"	leaq native_vec(%rip), %rax\n"
"	cmpq $0, native_use_avx(%rip)\n"
"	je 1f\n"
"	.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
"	vmovdqa 32*\\n(%rax), %ymm\\n\n"
"	.endr\n"
"	jmp 2f\n"
"1:\n"
"	.irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
"	movdqa 32*\\n(%rax), %xmm\\n\n"
"	.endr\n"
"2:\n"
"	leaq native_mm(%rip), %rax\n"
"	.irp n,0,1,2,3,4,5,6,7\n"
"	movq 8*\\n(%rax), %mm\\n\n"
"	.endr\n"
"	leaq native_sel(%rip), %rax\n"
"	movw (%rax), %es\n"
"	movw 4(%rax), %ss\n"
"	movw 6(%rax), %ds\n"
"	movw 8(%rax), %fs\n"
"	movw 10(%rax), %gs\n"
"	cmpw $0x33, 2(%rax)\n"
"	jne 3f\n"
"	cmpq $0, native_use_fsgsbase(%rip)\n"
"	je 3f\n"
"	movq native_fs_base(%rip), %rax\n"
"	wrfsbase %rax\n"
"	movq native_gs_base(%rip), %rax\n"
"	wrgsbase %rax\n"
"3:\n"
"	pushq native_rflags(%rip)\n"
"	popfq\n"
"	movq native_gpr+0x00(%rip), %rax\n"
"	movq native_gpr+0x08(%rip), %rcx\n"
"	movq native_gpr+0x10(%rip), %rdx\n"
"	movq native_gpr+0x18(%rip), %rbx\n"
"	movq native_gpr+0x20(%rip), %rsp\n"
"	movq native_gpr+0x28(%rip), %rbp\n"
"	movq native_gpr+0x30(%rip), %rsi\n"
"	movq native_gpr+0x38(%rip), %rdi\n"
"	movq native_gpr+0x40(%rip), %r8\n"
"	movq native_gpr+0x48(%rip), %r9\n"
"	movq native_gpr+0x50(%rip), %r10\n"
"	movq native_gpr+0x58(%rip), %r11\n"
"	movq native_gpr+0x60(%rip), %r12\n"
"	movq native_gpr+0x68(%rip), %r13\n"
"	movq native_gpr+0x70(%rip), %r14\n"
"	movq native_gpr+0x78(%rip), %r15\n"
"	ljmp *native_target(%rip)\n"
/* The handler's way back. */
"native_leave:\n"
"	cld\n"
"	emms\n"
"	popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx\n"
"	ret\n"
/* Alignment checks off, the segments as they were seen, FS restored; then C. */
"native_signal:\n"
"	pushfq\n"
"	andq $~0x40000, (%rsp)\n"
"	popfq\n"
"	leaq native_sel(%rip), %rax\n"
"	movw %es, (%rax)\n"
"	movw %ds, 6(%rax)\n"
"	movw %fs, 8(%rax)\n"
"	movw %gs, 10(%rax)\n"
"	movl $0x2b, %eax\n"
"	movl %eax, %ds\n"
"	movl %eax, %es\n"
"	xorl %eax, %eax\n"
"	cmpq $0, native_use_fsgsbase(%rip)\n"
"	je 1f\n"
"	rdfsbase %rax\n"
"	movq %rax, native_fs_base(%rip)\n"
"	rdgsbase %rax\n"
"	movq %rax, native_gs_base(%rip)\n"
"	xorl %eax, %eax\n"
"	movl %eax, %fs\n"
"	movl %eax, %gs\n"
"	movq native_host_fs_base(%rip), %rax\n"
"	wrfsbase %rax\n"
"	jmp on_signal\n"
"1:	movl %eax, %fs\n"
"	movl %eax, %gs\n"
"	pushq %rdi; pushq %rsi; pushq %rdx\n"
"	movl $0x1002, %edi\n"		/* ARCH_SET_FS */
"	movq native_host_fs_base(%rip), %rsi\n"
"	movl $158, %eax\n"		/* arch_prctl */
"	syscall\n"
"	popq %rdx; popq %rsi; popq %rdi\n"
"	jmp on_signal\n"
);

static struct native_state *run_state;
static struct native_end *run_end;

static const int greg_of[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

/* CS, GS, FS and SS share a word of the frame. */
#define FRAME_CS(g)	((u16)(g)[REG_CSGSFS])
#define FRAME_SS(g)	((u16)((g)[REG_CSGSFS] >> 48))

__attribute__((used))
static void on_signal(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;
	unsigned int i;

	(void)info;
	if (!run_state) {
		signal(sig, SIG_DFL);
		return;
	}
	for (i = 0; i < 16; i++) {
		run_state->gpr[i] = g[greg_of[i]];
		memcpy(run_state->vec[i], &uc->uc_mcontext.fpregs->_xmm[i], 16);
		if (native_use_avx)
			memcpy(run_state->vec[i] + 16, (u8 *)uc->uc_mcontext.fpregs +
			       AVX_STATE_OFFSET + 16 * i, 16);
	}
	for (i = 0; i < 8; i++)
		memcpy(run_state->mm[i], &uc->uc_mcontext.fpregs->_st[i], 8);
	memcpy(run_state->sel, native_sel, sizeof(native_sel));
	run_state->sel[KEEL_CS] = FRAME_CS(g);
	run_state->sel[KEEL_SS] = FRAME_SS(g);
	run_state->fs_base = native_fs_base;
	run_state->gs_base = native_gs_base;
	run_state->rip = g[REG_RIP];
	run_state->rflags = g[REG_EFL];
	run_end->vector = g[REG_TRAPNO];
	run_end->error = g[REG_ERR];
	run_end->cr2 = g[REG_CR2];
	if (run_end->vector == 3)
		run_state->rip--;
	run_state = NULL;

	g[REG_RIP] = (greg_t)(unsigned long)native_leave;
	g[REG_RSP] = native_host_rsp;
	g[REG_EFL] = 0x202;
	g[REG_CSGSFS] = USER_CS | (greg_t)((u64)USER_DS << 48);
}

bool native_has_avx(void)
{
	return __builtin_cpu_supports("avx");
}

bool native_has_fsgsbase(void)
{
	return getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
}

static bool map_at(unsigned long addr, size_t len, int prot)
{
	return mmap((void *)addr, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		    -1, 0) == (void *)addr;
}

#define CONTENTS_DATA	0
#define CONTENTS_DOWN	1
#define CONTENTS_CODE	2
#define CONTENTS_CONF	3

static const struct user_desc ldt[LDT_NR] = {
	[LDT_CODE16] = { .base_addr = CODE16_BASE, .limit = 0x8fff, .contents = CONTENTS_CODE },
	[LDT_DATA16] = { .base_addr = SANDBOX, .limit = 0xffff },
	[LDT_DATA32] = { .base_addr = SANDBOX, .limit = 0x27ff, .seg_32bit = 1 },
	[LDT_DOWN32] = { .base_addr = SANDBOX, .limit = 0x1fff, .seg_32bit = 1,
			 .contents = CONTENTS_DOWN },
	[LDT_DOWN16] = { .base_addr = SANDBOX, .limit = 0x17ff, .contents = CONTENTS_DOWN },
	[LDT_READONLY] = { .limit = 0xfffff, .limit_in_pages = 1, .seg_32bit = 1,
			   .read_exec_only = 1 },
	[LDT_EXECONLY] = { .limit = 0xfffff, .limit_in_pages = 1, .seg_32bit = 1,
			   .contents = CONTENTS_CODE, .read_exec_only = 1 },
	[LDT_CODE32] = { .limit = 0xfffff, .limit_in_pages = 1, .seg_32bit = 1,
			 .contents = CONTENTS_CODE },
	[LDT_ABSENT] = { .limit = 0xfffff, .limit_in_pages = 1, .seg_32bit = 1,
			 .seg_not_present = 1 },
	[LDT_FLAT] = { .limit = 0xfffff, .limit_in_pages = 1, .seg_32bit = 1, .useable = 1 },
	[LDT_CONFORMING] = { .limit = 0xfffff, .limit_in_pages = 1, .seg_32bit = 1,
			     .contents = CONTENTS_CONF, .seg_not_present = 1 },
};

/* Linux sets the accessed bit of all. */
u64 native_descriptor(enum native_ldt nr)
{
	const struct user_desc *d = &ldt[nr];
	u64 type = 1 | !d->read_exec_only << 1 | d->contents << 2;

	return (d->limit & 0xffff) | (u64)(d->base_addr & 0xffffff) << 16 |
	       (type | 0x70) << 40 | (u64)!d->seg_not_present << 47 |
	       (u64)(d->limit >> 16) << 48 | (u64)d->useable << 52 | (u64)d->seg_32bit << 54 |
	       (u64)d->limit_in_pages << 55 | (u64)(d->base_addr >> 24) << 56;
}

static bool make_ldt(void)
{
	struct user_desc d;
	unsigned int i;

	for (i = 0; i < LDT_NR; i++) {
		d = ldt[i];
		d.entry_number = i;
		if (syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)))
			return false;
	}
	return true;
}

bool native_init(void)
{
	static const int signals[] = { SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGTRAP };
	static u8 alt[256 * 1024];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };
	struct sigaction sa = {
		.sa_sigaction = native_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK,
	};
	unsigned int i;

	if (!map_at(SANDBOX_RAM, SANDBOX_BYTES, PROT_READ | PROT_WRITE) ||
	    !map_at(CODE_PAGE, 4096, PROT_READ | PROT_WRITE | PROT_EXEC))
		return false;
	memset((void *)SANDBOX_RAM, 0, SANDBOX_BYTES);
	memset((void *)CODE_PAGE, 0xcc, 4096);
	if (mprotect((void *)SANDBOX_RO, 4096, PROT_READ) || sigaltstack(&ss, NULL))
		return false;
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (sigaction(signals[i], &sa, NULL))
			return false;
	native_use_avx = native_has_avx();
	native_use_fsgsbase = native_has_fsgsbase();
	if (syscall(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, &native_host_fs_base))
		return false;
	return make_ldt();
}

void native_fill(const u8 *bytes)
{
	memcpy((void *)SANDBOX_RAM, bytes, SANDBOX_RO - SANDBOX_RAM);
}

const u8 *native_memory(void)
{
	return (const u8 *)SANDBOX_RAM;
}

void native_run(const u8 *code, unsigned int len, struct native_state *state,
		struct native_end *end)
{
	memcpy((void *)CODE_START, code, len);
	memcpy(native_gpr, state->gpr, sizeof(native_gpr));
	memcpy(native_vec, state->vec, sizeof(native_vec));
	memcpy(native_mm, state->mm, sizeof(native_mm));
	memcpy(native_sel, state->sel, sizeof(native_sel));
	native_rflags = state->rflags;
	native_fs_base = state->fs_base;
	native_gs_base = state->gs_base;
	native_target.offset = state->rip;
	native_target.selector = state->sel[KEEL_CS];
	run_end = end;
	run_state = state;
	native_enter();
	memset((void *)CODE_START, 0xcc, len);
}
