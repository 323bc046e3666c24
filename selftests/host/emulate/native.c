// SPDX-License-Identifier: GPL-2.0-only
/*
 * See native.h. Registers are loaded from fixed variables at the very end of the way in, so that
 * the tested instruction starts with exactly the wanted state; RSP points into the sandbox by then,
 * which is why signals come on their own stack.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include "native.h"

#define AVX_STATE_OFFSET	576	/* in the frame's XSAVE area, standard format */
#define USER_CS			0x33
#define USER32_CS		0x23
#define USER_DS			0x2b

/* Used by the assembly below. */
__attribute__((used)) u64 native_gpr[16];
__attribute__((used)) u64 native_rflags;
__attribute__((used)) u64 native_host_rsp;
__attribute__((used)) u8 native_vec[16][32] __attribute__((aligned(32)));
__attribute__((used)) u64 native_use_avx;
__attribute__((used)) struct {
	u32 offset;
	u16 selector;
} __attribute__((packed, aligned(16))) native_target;

void native_enter(void);
void native_leave(void);

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
"native_leave:\n"
"	cld\n"
"	popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx\n"
"	ret\n"
);

static struct native_state *run_state;
static struct native_end *run_end;

static const int greg_of[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

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
	g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffLL) | USER_CS;
}

bool native_has_avx(void)
{
	return __builtin_cpu_supports("avx");
}

static bool map_at(unsigned long addr, size_t len, int prot)
{
	return mmap((void *)addr, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		    -1, 0) == (void *)addr;
}

bool native_init(void)
{
	static const int signals[] = { SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGTRAP };
	static u8 alt[256 * 1024];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) };
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
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
	/* 64-bit code does not need them, compatibility mode does */
	asm volatile("mov %0, %%ds; mov %0, %%es" : : "r" (USER_DS));
	return true;
}

void native_fill(const u8 *bytes)
{
	memcpy((void *)SANDBOX_RAM, bytes, SANDBOX_RO - SANDBOX_RAM);
}

const u8 *native_memory(void)
{
	return (const u8 *)SANDBOX_RAM;
}

void native_run(const u8 *code, unsigned int len, unsigned int bits, struct native_state *state,
		struct native_end *end)
{
	memcpy((void *)CODE_START, code, len);
	memcpy(native_gpr, state->gpr, sizeof(native_gpr));
	memcpy(native_vec, state->vec, sizeof(native_vec));
	native_rflags = state->rflags;
	native_target.offset = CODE_START;
	native_target.selector = bits == 32 ? USER32_CS : USER_CS;
	run_end = end;
	run_state = state;
	native_enter();
	memset((void *)CODE_START, 0xcc, len);
}
