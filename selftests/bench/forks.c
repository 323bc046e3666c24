// SPDX-License-Identifier: GPL-2.0-only
/*
 * What fork() costs: a small guest that does with its page tables what a kernel does when a process forks, the child
 * writes to some of its pages and ends, and the parent writes to them again.
 *
 *	forks WAY	WAY exits ticks, for each fork; by the ways
 *
 * direct	the guest writes to its tables as it likes: trapped with shadow paging, free with nested paging
 * batched	by hypercall (KEEL_HC_PT_UPDATE): a list for the fork, one for the end of the child, and one for each fault
 *
 * Ticks are of the guest's TSC, which counts the machine's instructions in testhost --icount.
 */
#include <stdio.h>
#include <string.h>
#include <linux/keel.h>
#include "guest.h"

#define NR_PAGES	240		/* of a process */
#define NR_WRITTEN	32		/* by the child, and then by the parent */
#define WARM		10		/* forks, before those that count */
#define FORKS_MEASURED	50

#define LINEAR		0x40200000	/* the process */
#define PARENT_PT	0x60000
#define CHILD_PML4	0x61000
#define CHILD_PDPT	0x62000
#define CHILD_PD	0x63000
#define CHILD_PT	0x64000
#define LIST		0x70000		/* two pages */
#define PAGES		0x200000
#define COPIES		0x300000
#define ON_PF		(GUEST_CODE + 0x800)

/*
 * RAX goes to the entry at RDX. R12D: the hypercall is VMMCALL. R13: the current process's table, R14: the end of the list.
 */
#define DIRECT_SET	"movq %rax, (%rdx)\n"
#define DIRECT_COMMIT
#define DIRECT_FLUSH	"movq %cr3, %rax\n" "movq %rax, %cr3\n"
#define DIRECT_CR3(pml4)	"movl $" STR(pml4) ", %eax\n" "movq %rax, %cr3\n"
/* The copy is to be seen by all: cleared, flushed, set. */
#define DIRECT_COW	"pushq %rax\n" "xorl %eax, %eax\n" "movq %rax, (%rdx)\n" "invlpg (%rbx)\n" "popq %rax\n" DIRECT_SET

#define CALL		"testl %r12d, %r12d\n" "jz 71f\n" "vmmcall\n" "jmp 72f\n" "71: vmcall\n" "72:\n"
#define BATCHED_SET	"movq %rdx, (%r14)\n" "movq %rax, 8(%r14)\n" "addq $16, %r14\n"
#define BATCHED_COMMIT \
	"pushq %rbx\n" "pushq %rcx\n" "movl $" STR(LIST) ", %ebx\n" "movq %r14, %rcx\n" "subq %rbx, %rcx\n" \
	"shrl $4, %ecx\n" "movl $" STR(0x4b650001) ", %eax\n" "movl %ebx, %r14d\n" CALL \
	"cmpq %rcx, %rax\n" "je 73f\n" G_SYNC "73: popq %rcx\n" "popq %rbx\n"
#define BATCHED_FLUSH
#define BATCHED_CR3(pml4)	"movl $" STR(pml4) ", %ebx\n" "movl $" STR(0x4b650002) ", %eax\n" CALL
#define BATCHED_COW	BATCHED_SET

#define ENTRY(way, at, value)	"movl $" STR(at) ", %edx\n" "movl $" value ", %eax\n" way##_SET
#define TABLE(of)		"(" STR(of) " + 7)"

/* ESI forks. */
#define FORKS(way)								\
	"movl $" STR(LIST) ", %r14d\n"						\
	"movl $" STR(PARENT_PT) ", %r13d\n"					\
	"rdtsc\n" "shlq $32, %rdx\n" "orq %rdx, %rax\n" "movq %rax, " STR(GUEST_DATA) "\n"	\
	"1:\n"									\
	ENTRY(way, CHILD_PML4, TABLE(CHILD_PDPT)) ENTRY(way, CHILD_PDPT, TABLE(GUEST_PD))	\
	ENTRY(way, CHILD_PDPT + 8, TABLE(CHILD_PD)) ENTRY(way, CHILD_PD + 8, TABLE(CHILD_PT))	\
	"xorl %ecx, %ecx\n"							\
	"2: leaq " STR(PARENT_PT) "(,%rcx,8), %rdx\n" "movq (%rdx), %rax\n" "andq $~2, %rax\n"	\
	way##_SET "addq $(" STR(CHILD_PT) " - " STR(PARENT_PT) "), %rdx\n" way##_SET		\
	"incl %ecx\n" "cmpl $" STR(NR_PAGES) ", %ecx\n" "jb 2b\n"		\
	way##_COMMIT way##_FLUSH						\
	"movl $" STR(CHILD_PT) ", %r13d\n" way##_CR3(CHILD_PML4)		\
	"movl $" STR(LINEAR) ", %edi\n" "movl $" STR(NR_WRITTEN) ", %ecx\n"	\
	"3: incl (%rdi)\n" "addl $4096, %edi\n" "decl %ecx\n" "jnz 3b\n"	\
	"movl $" STR(NR_WRITTEN) ", %ecx\n"					\
	"4: movl (%rdi), %eax\n" "addl $4096, %edi\n" "decl %ecx\n" "jnz 4b\n"	\
	"movl $" STR(PARENT_PT) ", %r13d\n" way##_CR3(GUEST_PML4)		\
	"xorl %ecx, %ecx\n" "xorl %eax, %eax\n"					\
	"5: leaq " STR(CHILD_PT) "(,%rcx,8), %rdx\n" way##_SET			\
	"incl %ecx\n" "cmpl $" STR(NR_PAGES) ", %ecx\n" "jb 5b\n"		\
	ENTRY(way, CHILD_PD + 8, "0") ENTRY(way, CHILD_PDPT + 8, "0") ENTRY(way, CHILD_PML4, "0")	\
	way##_COMMIT								\
	"movl $" STR(LINEAR) ", %edi\n" "movl $" STR(NR_WRITTEN) ", %ecx\n"	\
	"6: incl (%rdi)\n" "addl $4096, %edi\n" "decl %ecx\n" "jnz 6b\n"	\
	"decl %esi\n" "jnz 1b\n"						\
	"rdtsc\n" "shlq $32, %rdx\n" "orq %rdx, %rax\n" "subq " STR(GUEST_DATA) ", %rax\n"	\
	"movq %rax, " STR(GUEST_DATA) "\n" G_DONE

/* A write to a page that is shared: the child gets a copy, the parent may have it. */
#define FAULT(way)								\
	"pushq %rax\n" "pushq %rbx\n" "pushq %rcx\n" "pushq %rdx\n" "pushq %rsi\n" "pushq %rdi\n"	\
	"movq %cr2, %rbx\n" "movl %ebx, %ecx\n" "subl $" STR(LINEAR) ", %ecx\n" "shrl $12, %ecx\n"	\
	"leaq (%r13,%rcx,8), %rdx\n" "movq (%rdx), %rax\n"			\
	"cmpl $" STR(PARENT_PT) ", %r13d\n" "jne 1f\n"				\
	"orl $2, %eax\n" way##_SET way##_COMMIT "jmp 2f\n"			\
	"1: movl %ecx, %edi\n" "shll $12, %edi\n" "addl $" STR(COPIES) ", %edi\n"	\
	"leaq 7(%rdi), %rax\n" "movq %rbx, %rsi\n" "movl $512, %ecx\n" "rep movsq\n"	\
	way##_COW way##_COMMIT							\
	"2: popq %rdi\n" "popq %rsi\n" "popq %rdx\n" "popq %rcx\n" "popq %rbx\n" "popq %rax\n"	\
	"addq $8, %rsp\n" "iretq\n"

GUEST(direct, 64, FORKS(DIRECT));
GUEST(direct_fault, 64, FAULT(DIRECT));
GUEST(batched, 64, FORKS(BATCHED));
GUEST(batched_fault, 64, FAULT(BATCHED));

struct cost {
	double exits, ticks;
};

static uint64_t entries(struct guest *g)
{
	struct keel_execution counts = { .version = KEEL_EXECUTION_VERSION, .size = sizeof(counts) };

	MUST(vm_ioctl(g->cpu.fd, KEEL_GET_EXECUTION, &counts));
	return counts.entries;
}

/* From the blob's start to its end. */
static void go(struct guest *g, unsigned int forks)
{
	struct kvm_regs r = vcpu_regs(&g->cpu);

	r.rip = GUEST_CODE;
	r.rsi = forks;
	r.r12 = host_is_amd();
	vcpu_set_regs(&g->cpu, &r);
	if (guest_run(g) != KVM_EXIT_IO || !guest_at_port(g, PORT_DONE)) {
		guest_dump(g);
		die("the guest did not come to its end");
	}
	vcpu_complete_io(&g->cpu);
}

static struct cost run(struct guest_blob main, struct guest_blob fault)
{
	struct cost cost;
	struct guest g;
	uint64_t i, before;
	uint32_t sum;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, main);
	memcpy(g.mem + ON_PF, fault.start, fault.end - fault.start);
	guest_set_gate(&g, PF_VECTOR, ON_PF);
	*guest_pte(&g, LINEAR) = PARENT_PT + 7;
	for (i = 0; i < NR_PAGES; i++)
		*(uint64_t *)(g.mem + PARENT_PT + i * 8) = PAGES + i * PAGE_SIZE + 7;
	go(&g, WARM);
	before = entries(&g);
	go(&g, FORKS_MEASURED);
	sum = *(uint32_t *)(g.mem + PAGES);
	if (sum != WARM + FORKS_MEASURED)
		die("the parent's page holds %u", sum);
	cost.exits = (double)(entries(&g) - before) / FORKS_MEASURED;
	cost.ticks = (double)*(uint64_t *)(g.mem + GUEST_DATA) / FORKS_MEASURED;
	guest_destroy(&g);
	return cost;
}

int main(int argc, char **argv)
{
	bool batch = argc == 2 && !strcmp(argv[1], "batched");
	struct guest_blob main = batch ? BLOB(batched) : BLOB(direct);
	struct guest_blob fault = batch ? BLOB(batched_fault) : BLOB(direct_fault);
	struct cost cost;

	if (argc != 2 || (!batch && strcmp(argv[1], "direct"))) {
		fprintf(stderr, "usage: forks direct|batched\n");
		return 2;
	}
	pin_to_cpu(0);
	cost = run(main, fault);
	printf("%s %.1f %.0f\n", argv[1], cost.exits, cost.ticks);
	return 0;
}
