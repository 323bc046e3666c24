// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page table updates by hypercall (uapi/linux/keel.h): what they do, what they refuse, and how many exits 1,000
 * updates cost: trapped (the guest writes its table and executes INVLPG), batched, and with nested paging.
 */
#include <stdlib.h>
#include "kselftest_harness.h"
#include <linux/keel.h>
#include "guest.h"

#define P	0x1ULL
#define W	0x2ULL
#define U	0x4ULL
#define PS	0x80ULL

#define LINEAR	0x40200000UL	/* 512 pages through TABLE */
#define TABLE	0x60000UL
#define LIST	0x70000UL	/* two pages: 512 updates */
#define PAGE_A	0x200000UL
#define PAGE_B	0x201000UL
#define READ_ONLY	0x50000000UL
#define UPDATES	1000

/* R8: number of updates in all, R9: in a list. Each entry of TABLE leads to RAX, and is then used. */
GUEST(trapped, 64,
	"xorl %ecx, %ecx\n"
	"1: movl %ecx, %edx\n" "andl $511, %edx\n" "movq %rax, (%rsi,%rdx,8)\n"
	"movl %edx, %ebx\n" "shll $12, %ebx\n" "addq %rdi, %rbx\n" "invlpg (%rbx)\n" "movb (%rbx), %bl\n"
	"incl %ecx\n" "cmpl %r8d, %ecx\n" "jb 1b\n" G_DONE);

/* RDX: the instruction is VMMCALL (1) or VMCALL. The list at RSI has been made by the test. */
GUEST(batched, 64,
	"movl %edx, %r15d\n"
	"1: movl $" STR(0x4b650001) ", %eax\n" "movq %rsi, %rbx\n" "movl %r9d, %ecx\n"
	"testl %r15d, %r15d\n" "jz 2f\n" "vmmcall\n" "jmp 3f\n" "2: vmcall\n"
	"3: cmpq %r9, %rax\n" "jne 5f\n"
	"xorl %ecx, %ecx\n"
	"4: movl %ecx, %ebx\n" "shll $12, %ebx\n" "addq %rdi, %rbx\n" "movb (%rbx), %bl\n"
	"incl %ecx\n" "cmpl %r9d, %ecx\n" "jb 4b\n"
	"subl %r9d, %r8d\n" "ja 1b\n" G_DONE
	"5: " G_SYNC);

GUEST(call, 64, "testl %edx, %edx\n" "jz 1f\n" "vmmcall\n" "jmp 2f\n" "1: vmcall\n" "2: " G_DONE);

/* What is at RDI, before and after: R12 and R13. */
GUEST(seen, 64, "movzbl (%rdi), %r12d\n" "testl %edx, %edx\n" "jz 1f\n" "vmmcall\n" "jmp 2f\n" "1: vmcall\n"
	"2: movzbl (%rdi), %r13d\n" G_DONE);

static uint64_t exits(struct guest *g)
{
	struct keel_execution counts = { .version = KEEL_EXECUTION_VERSION, .size = sizeof(counts) };

	MUST(vm_ioctl(g->cpu.fd, KEEL_GET_EXECUTION, &counts));
	return counts.entries;
}

static void set_up(struct guest *g, struct guest_blob blob)
{
	struct keel_pt_update *list = (void *)(g->mem + LIST);
	uint64_t *table = (void *)(g->mem + TABLE), i;
	struct kvm_sregs sregs;

	guest_start(g, MODE_LONG, blob);
	*guest_pte(g, LINEAR) = TABLE | P | W | U;
	for (i = 0; i < 512; i++) {
		table[i] = PAGE_A | P | U;
		list[i] = (struct keel_pt_update){ TABLE + i * 8, PAGE_B | P | U };
	}
	sregs = vcpu_sregs(&g->cpu);
	vcpu_set_sregs(&g->cpu, &sregs);	/* says that tables may have changed */
}

static bool offered(struct guest *g)
{
	struct kvm_cpuid2 *cpuid = supported_cpuid(g->dev);
	struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, KEEL_CPUID_FEATURES, 0);
	bool yes = e && e->eax & KEEL_FEATURE_PT_UPDATE;

	free(cpuid);
	return yes;
}

static uint64_t measure(struct __test_metadata *_metadata, struct guest *g, struct guest_blob blob)
{
	struct kvm_regs r;
	uint64_t before;

	set_up(g, blob);
	r = vcpu_regs(&g->cpu);
	r.rax = PAGE_B | P | U;
	r.rsi = blob.start == batched_start ? LIST : TABLE;
	r.rdi = LINEAR;
	r.rdx = host_is_amd();
	r.r8 = UPDATES;
	r.r9 = 500;
	vcpu_set_regs(&g->cpu, &r);
	before = exits(g);
	ASSERT_EQ(KVM_EXIT_IO, guest_run(g)) {
		guest_dump(g);
	}
	EXPECT_TRUE(guest_at_port(g, PORT_DONE)) {
		TH_LOG("result %lld", (long long)vcpu_regs(&g->cpu).rax);
	}
	return exits(g) - before;
}

TEST(counts)
{
	uint64_t trap, batch = 0;
	struct guest g;

	guest_create(&g, 0);
	if (!dev_is_keel(g.dev))
		SKIP(return, "in-tree KVM does not count exits");
	trap = measure(_metadata, &g, BLOB(trapped));
	if (!offered(&g)) {
		TH_LOG("%d updates, each used: nested %llu exits", UPDATES, (unsigned long long)trap);
		EXPECT_TRUE(nested_paging(g.dev));
		EXPECT_GT(100, trap);
	} else {
		batch = measure(_metadata, &g, BLOB(batched));
		TH_LOG("%d updates, each used: trapped %llu exits, batched %llu", UPDATES, (unsigned long long)trap,
		       (unsigned long long)batch);
		EXPECT_FALSE(nested_paging(g.dev));
		EXPECT_LT(2 * UPDATES, trap);
		EXPECT_GT(UPDATES + 100, batch);
	}
	guest_destroy(&g);
}

static int64_t hypercall(struct __test_metadata *_metadata, struct guest *g, uint64_t nr, uint64_t a, uint64_t b)
{
	struct kvm_regs r = vcpu_regs(&g->cpu);

	r.rip = GUEST_CODE;
	r.rax = nr;
	r.rbx = a;
	r.rcx = b;
	r.rdx = host_is_amd();
	vcpu_set_regs(&g->cpu, &r);
	ASSERT_EQ(KVM_EXIT_IO, guest_run(g));
	vcpu_complete_io(&g->cpu);
	return vcpu_regs(&g->cpu).rax;
}

TEST(checks)
{
	static const struct {
		uint64_t gpa, value;
		int64_t result;
	} one[] = {
		{ TABLE, PAGE_B | P | W | U, 1 },
		{ TABLE + 8, 0, 1 },
		{ TABLE + 4, 0, 0 },			/* misaligned */
		{ 0x10000000, 0, 0 },			/* no memory there */
		{ READ_ONLY, 0, 0 },
		{ TABLE, 0x10000000 | P, 0 },		/* leads to none */
		{ TABLE, TABLE | P | U, 1 },		/* a page table may be read ... */
		{ TABLE, TABLE | P | W, 0 },		/* ... and not written */
		{ TABLE, GUEST_PML4 | P | W, 0 },
		{ GUEST_PD + 8, 0x0 | P | W | PS, 0 },	/* the first 2 MiB have page tables */
		{ GUEST_PD + 8, 0x200000 | P | W | PS, 1 },
		{ GUEST_PD + 8, 0x400000 | P | PS, 0 },	/* beyond the memory */
		{ GUEST_PDPT + 16, 0 | P | PS, 0 },	/* 1 GiB */
	};
	struct keel_pt_update *list;
	struct kvm_sregs s;
	struct kvm_regs r;
	struct guest g;
	unsigned int i;

	guest_create(&g, 0);
	if (!dev_is_keel(g.dev))
		SKIP(return, "Keel's own");
	if (!offered(&g)) {
		guest_start(&g, MODE_LONG, BLOB(call));
		EXPECT_EQ(-1000, hypercall(_metadata, &g, KEEL_HC_PT_UPDATE, LIST, 1));
		EXPECT_EQ(-1000, hypercall(_metadata, &g, KEEL_HC_SET_CR3, GUEST_PML4, 0));
		guest_destroy(&g);
		return;
	}
	/* So that the table is in use as one. */
	set_up(&g, BLOB(trapped));
	r = vcpu_regs(&g.cpu);
	r.rax = PAGE_A | P | U;
	r.rsi = TABLE;
	r.rdi = LINEAR;
	r.r8 = 1;
	vcpu_set_regs(&g.cpu, &r);
	ASSERT_DONE(&g);
	vcpu_complete_io(&g.cpu);
	guest_load(&g, BLOB(call));
	list = (void *)(g.mem + LIST);
	ASSERT_EQ(0, vm_set_slot(g.vm, 5, KVM_MEM_READONLY, READ_ONLY, PAGE_SIZE, g.mem + PAGE_A));
	for (i = 0; i < ARRAY_SIZE(one); i++) {
		list[0] = (struct keel_pt_update){ one[i].gpa, one[i].value };
		EXPECT_EQ(one[i].result, hypercall(_metadata, &g, KEEL_HC_PT_UPDATE, LIST, 1)) {
			TH_LOG("update %u", i);
		}
		if (one[i].result) {
			EXPECT_EQ(one[i].value, *(uint64_t *)(g.mem + one[i].gpa));
		}
	}
	/* A list ends with what is refused. */
	list[0] = (struct keel_pt_update){ TABLE, 0 };
	list[1] = (struct keel_pt_update){ TABLE + 4, 0 };
	list[2] = (struct keel_pt_update){ TABLE + 16, 0x5000 };
	EXPECT_EQ(1, hypercall(_metadata, &g, KEEL_HC_PT_UPDATE, LIST, 3));
	EXPECT_NE(0x5000, *(uint64_t *)(g.mem + TABLE + 16));
	EXPECT_EQ(-22, hypercall(_metadata, &g, KEEL_HC_PT_UPDATE, LIST, 0));
	EXPECT_EQ(-22, hypercall(_metadata, &g, KEEL_HC_PT_UPDATE, LIST, KEEL_PT_UPDATE_MAX + 1));
	EXPECT_EQ(-22, hypercall(_metadata, &g, KEEL_HC_PT_UPDATE, LIST + 4, 1));
	EXPECT_EQ(-14, hypercall(_metadata, &g, KEEL_HC_PT_UPDATE, 0x10000000, 1));

	memcpy(g.mem + 0x80000, g.mem + GUEST_PML4, 4096);
	EXPECT_EQ(0, hypercall(_metadata, &g, KEEL_HC_SET_CR3, 0x80000, 0));
	s = vcpu_sregs(&g.cpu);
	EXPECT_EQ(0x80000, s.cr3);
	EXPECT_EQ(-22, hypercall(_metadata, &g, KEEL_HC_SET_CR3, 0x10000000, 0));
	EXPECT_EQ(-22, hypercall(_metadata, &g, KEEL_HC_SET_CR3, 1ULL << 62, 0));
	guest_destroy(&g);
}

/* The page that an entry led to was in use: the next access goes where the update says. */
TEST(seen)
{
	struct keel_pt_update *list;
	struct kvm_regs r;
	struct guest g;

	guest_create(&g, 0);
	if (!dev_is_keel(g.dev) || !offered(&g))
		SKIP(return, "needs updates by hypercall");
	set_up(&g, BLOB(seen));
	list = (void *)(g.mem + LIST);
	list[0] = (struct keel_pt_update){ TABLE, PAGE_B | P | U };
	g.mem[PAGE_A] = 0xa1;
	g.mem[PAGE_B] = 0xb2;
	r = vcpu_regs(&g.cpu);
	r.rdi = LINEAR;
	vcpu_set_regs(&g.cpu, &r);
	EXPECT_EQ(1, hypercall(_metadata, &g, KEEL_HC_PT_UPDATE, LIST, 1));
	r = vcpu_regs(&g.cpu);
	EXPECT_EQ(0xa1, r.r12);
	EXPECT_EQ(0xb2, r.r13);
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
