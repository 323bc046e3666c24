// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest that changes its page tables between exits at one linear address: the hypervisor, which has to read the
 * instruction or to find the device, must see what the CPU sees; and what shadow paging makes of the dirty bit, CR0.WP and
 * EFER.NX.
 */
#include <sys/mman.h>
#include "kselftest_harness.h"
#include "guest.h"

#define TABLE1		GUEST_DATA
#define TABLE2		(GUEST_DATA + PAGE_SIZE)
#define BASE		0x200000UL	/* what the tables map */
#define LINEAR		(BASE + 0x5000)
#define DEVICES		0x80000000UL
#define FLAGS		0x67UL		/* present, writable, user, accessed, dirty */
#define WRITABLE	0x2UL
#define DIRTY		0x40UL
#define NO_EXECUTE	(1UL << 63)

/* rdi into the table entry at rsi, then a call to rbx. */
GUEST(call, 64, "movq %rdi, (%rsi)\n" "invlpg (%rbx)\n" "xorl %eax, %eax\n" "xorl %ecx, %ecx\n"
      "movq %rbx, %r15\n" "call *%r15\n" G_DONE);
/* The same with a read. */
GUEST(load, 64, "movq %rdi, (%rsi)\n" "invlpg (%rbx)\n" "movl (%rbx), %eax\n" G_DONE);
/* A read, then a write. */
GUEST(use, 64, "movl (%rbx), %eax\n" G_SYNC "movl %eax, (%rbx)\n" G_DONE);
/* An entry is changed and CR3 loaded anew: what was read before, and what after, in EDX and EAX. */
GUEST(reload, 64, "movl (%rbx), %edx\n" "movq %rdi, (%rsi)\n" "movq %cr3, %rax\n" "movq %rax, %cr3\n"
      "movl (%rbx), %eax\n" G_DONE);
/* A write without CR0.WP, and one with it. */
GUEST(protect, 64, "movq %cr0, %rcx\n" "andq $~0x10000, %rcx\n" "movq %rcx, %cr0\n" "movl %eax, (%rbx)\n" G_SYNC
      "orq $0x10000, %rcx\n" "movq %rcx, %cr0\n" "movl %eax, (%rbx)\n" G_DONE);

/* The same after writes to another entry: a table that is written often may be treated as a whole. */
GUEST(flood, 64, "movl (%rbx), %edx\n" "movq 8(%rsi), %rax\n" "movq %rax, 8(%rsi)\n" "movq %rax, 8(%rsi)\n"
      "movq %rax, 8(%rsi)\n" "movq %rdi, (%rsi)\n" "movq %cr3, %rax\n" "movq %rax, %cr3\n" "movl (%rbx), %eax\n" G_DONE);
/* The same, but that one byte of the entry is written. */
GUEST(byte, 64, "movl (%rbx), %edx\n" "shrl $8, %edi\n" "movb %dil, 1(%rsi)\n" "movq %cr3, %rax\n" "movq %rax, %cr3\n"
      "movl (%rbx), %eax\n" G_DONE);
/* A page by two ways: a read by one, a write by the other, then a write by the first. */
GUEST(twice, 64, "movl 0x200000(%rbx), %eax\n" "movl %eax, (%rbx)\n" G_SYNC "movl %eax, 0x200000(%rbx)\n" G_DONE);
/* A read with EFER.NX, and one without it. */
GUEST(reserve, 64, "movl (%rbx), %eax\n" G_SYNC "movl $0xc0000080, %ecx\n" "rdmsr\n" "andl $~0x800, %eax\n" "wrmsr\n"
      "movq %cr3, %rax\n" "movq %rax, %cr3\n" "movl (%rbx), %eax\n" G_DONE);
/* The first words of RDI pages from RBX on, summed up. */
GUEST(sum, 64, "xorl %eax, %eax\n" "1: addl (%rbx), %eax\n" "addq $4096, %rbx\n" "decl %edi\n" "jnz 1b\n" G_DONE);

FIXTURE(remap) {
	struct guest g;
};

FIXTURE_SETUP(remap)
{
	struct guest *g = &self->g;
	int i;

	guest_create(g, 0);
	guest_start(g, MODE_LONG, BLOB(call));
	for (i = 0; i < 512; i++) {
		((uint64_t *)(g->mem + TABLE1))[i] = (BASE + i * PAGE_SIZE) | FLAGS;
		((uint64_t *)(g->mem + TABLE2))[i] = (BASE + (i ^ 1) * PAGE_SIZE) | FLAGS;
	}
	*guest_pte(g, BASE) = TABLE1 | FLAGS;
	/* CPUID with one prefix, with none, with two; all return. What follows ends the guest. */
	memset(g->mem + BASE, 0xf4, 512 * PAGE_SIZE);
	memcpy(g->mem + BASE + 0x4000, "\x2e\x0f\xa2\xc3", 4);
	memcpy(g->mem + BASE + 0x5000, "\x0f\xa2\xc3", 3);
	memcpy(g->mem + BASE + 0x6000, "\x2e\x66\x0f\xa2\xc3", 5);
}

FIXTURE_TEARDOWN(remap)
{
	guest_destroy(&self->g);
}

static void begin(struct guest *g, uint64_t entry_at, uint64_t entry)
{
	struct kvm_regs r = { .rip = GUEST_CODE, .rsp = GUEST_STACK, .rflags = 2 };

	r.rdi = entry;
	r.rsi = entry_at;
	r.rbx = LINEAR;
	vcpu_set_regs(&g->cpu, &r);
}

static uint64_t leaf_at(void)
{
	return TABLE1 + (LINEAR - BASE) / PAGE_SIZE * 8;
}

static uint64_t directory_at(void)
{
	return GUEST_PD + BASE / 0x200000 * 8;
}

#define ASSERT_CALL(at, entry) do {			\
	begin(&self->g, at, entry);			\
	ASSERT_DONE(&self->g);				\
} while (0)

/* The last entry is another. */
TEST_F(remap, code_leaf)
{
	int i;

	for (i = 0; i < 4; i++) {
		ASSERT_CALL(leaf_at(), (BASE + 0x4000 + i % 3 * PAGE_SIZE) | FLAGS);
		ASSERT_CALL(leaf_at(), (BASE + 0x4000 + i % 3 * PAGE_SIZE) | FLAGS);
	}
}

/* One further up is. */
TEST_F(remap, code_table)
{
	int i;

	for (i = 0; i < 4; i++)
		ASSERT_CALL(directory_at(), (i & 1 ? TABLE2 : TABLE1) | FLAGS);
}

/* The tables stay, and the client puts other memory below them. */
TEST_F(remap, code_slot)
{
	struct guest *g = &self->g;
	uint8_t *other = mem_alloc(GUEST_MEM_SIZE);
	int i;

	for (i = 0; i < 3; i++)
		ASSERT_CALL(leaf_at(), (BASE + 0x6000) | FLAGS);
	memcpy(other, g->mem, GUEST_HOLE);
	memcpy(other + GUEST_HIGH, g->mem + GUEST_HIGH, GUEST_MEM_SIZE - GUEST_HIGH);
	memcpy(other + BASE + 0x6000, "\x0f\xa2\xc3\xf4\xf4", 5);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, vm_set_slot(g->vm, i, 0, 0, 0, NULL));
		ASSERT_EQ(0, vm_set_slot(g->vm, i, 0, i ? GUEST_HIGH : 0, i ? GUEST_MEM_SIZE - GUEST_HIGH : GUEST_HOLE,
					 other + (i ? GUEST_HIGH : 0)));
	}
	ASSERT_CALL(leaf_at(), (BASE + 0x6000) | FLAGS);
}

/* Another directory, and with it other tables, by CR3. */
TEST_F(remap, code_root)
{
	struct guest *g = &self->g;
	struct kvm_sregs s = vcpu_sregs(&g->cpu);
	uint64_t root = s.cr3;
	int i;

	/* The second root and all below it: 0x50000 on. */
	memcpy(g->mem + GUEST_DATA2, g->mem + GUEST_PML4, PAGE_SIZE);
	memcpy(g->mem + GUEST_DATA2 + PAGE_SIZE, g->mem + GUEST_PDPT, PAGE_SIZE);
	memcpy(g->mem + GUEST_DATA2 + 2 * PAGE_SIZE, g->mem + GUEST_PD, PAGE_SIZE);
	*(uint64_t *)(g->mem + GUEST_DATA2) = (GUEST_DATA2 + PAGE_SIZE) | FLAGS;
	*(uint64_t *)(g->mem + GUEST_DATA2 + PAGE_SIZE) = (GUEST_DATA2 + 2 * PAGE_SIZE) | FLAGS;
	*(uint64_t *)(g->mem + GUEST_DATA2 + 2 * PAGE_SIZE + BASE / 0x200000 * 8) = TABLE2 | FLAGS;
	for (i = 0; i < 4; i++) {
		s.cr3 = i & 1 ? GUEST_DATA2 : root;
		vcpu_set_sregs(&g->cpu, &s);
		ASSERT_CALL(leaf_at(), LINEAR | FLAGS);
	}
}

/* A device's page, which the emulator finds. */
TEST_F(remap, device)
{
	struct guest *g = &self->g;
	struct kvm_run *run = g->cpu.run;
	int i;

	guest_load_bytes(g, load_start, load_end - load_start);
	for (i = 0; i < 4; i++) {
		begin(g, leaf_at(), (DEVICES + (i & 2) * PAGE_SIZE) | FLAGS);
		ASSERT_EQ(KVM_EXIT_MMIO, guest_run(g));
		EXPECT_EQ(DEVICES + (i & 2) * PAGE_SIZE, run->mmio.phys_addr);
		*(uint32_t *)run->mmio.data = 0x1000 + i;
		ASSERT_DONE(g);
		EXPECT_EQ(0x1000 + i, vcpu_regs(&g->cpu).rax);
	}
}

/* A page that is read first is dirty when it is written, and not before. */
TEST_F(remap, dirty_bit)
{
	struct guest *g = &self->g;
	uint64_t *entry = (uint64_t *)(g->mem + leaf_at());

	guest_load_bytes(g, use_start, use_end - use_start);
	*entry &= ~DIRTY;
	begin(g, 0, 0);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, *entry & DIRTY);
	ASSERT_DONE(g);
	EXPECT_EQ(DIRTY, *entry & DIRTY);
}

/* Without INVLPG; of the hypervisor's copy of the table nothing may be left, in whichever way it is written. */
TEST_F(remap, reload)
{
	const struct guest_blob ways[] = { BLOB(reload), BLOB(flood), BLOB(byte) };
	struct guest *g = &self->g;
	unsigned int i;

	*(uint32_t *)(g->mem + BASE + 0x5000) = 0x55;
	*(uint32_t *)(g->mem + BASE + 0x6000) = 0x66;
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		bool odd = i & 1;

		guest_load_bytes(g, ways[i].start, ways[i].end - ways[i].start);
		begin(g, leaf_at(), (BASE + (odd ? 0x5000 : 0x6000)) | FLAGS);
		ASSERT_DONE(g);
		EXPECT_EQ(odd ? 0x66 : 0x55, vcpu_regs(&g->cpu).rdx);
		EXPECT_EQ(odd ? 0x55 : 0x66, vcpu_regs(&g->cpu).rax);
	}
}

/* The error code of the page fault at @address that the guest runs into behind its sync. */
static unsigned int fault_error(struct __test_metadata *_metadata, struct guest *g, uint64_t address)
{
	struct guest_exc e;

	begin(g, 0, 0);
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_PORT(PORT_EXC, g);
	e = guest_exc(g);
	EXPECT_EQ(PF_VECTOR, e.vector);
	EXPECT_EQ(address, vcpu_sregs(&g->cpu).cr2);
	return e.error;
}

/* Of a table that two entries lead to, one of which allows no writes. */
TEST_F(remap, two_ways)
{
	struct guest *g = &self->g;

	guest_load_bytes(g, twice_start, twice_end - twice_start);
	*guest_pte(g, BASE + 0x200000) = TABLE1 | (FLAGS & ~WRITABLE);
	EXPECT_EQ(3, fault_error(_metadata, g, LINEAR + 0x200000));
}

/* What the guest's kernel could write to without CR0.WP it cannot with it. */
TEST_F(remap, write_protect)
{
	struct guest *g = &self->g;

	guest_load_bytes(g, protect_start, protect_end - protect_start);
	*(uint64_t *)(g->mem + leaf_at()) &= ~WRITABLE;
	EXPECT_EQ(3, fault_error(_metadata, g, LINEAR));
}

/* With EFER.NX a page may be data alone; without it the bit that says so is reserved. */
TEST_F(remap, no_execute_off)
{
	struct guest *g = &self->g;

	guest_load_bytes(g, reserve_start, reserve_end - reserve_start);
	*(uint64_t *)(g->mem + leaf_at()) |= NO_EXECUTE;
	/* QEMU's TCG leaves the present bit out. */
	EXPECT_EQ(9, fault_error(_metadata, g, LINEAR) | 1);
}

/*
 * With shadow paging a fault maps pages beside its own, of one large page of the guest's: an exit serves many, and more
 * each time where the guest reads on behind them. Each is the right one, and goes when the host takes it.
 */
TEST_F(remap, ahead)
{
	enum { PAGES = 256, GIVEN_BACK = 21 };
	struct guest *g = &self->g;
	int fd = vm_ioctl(g->cpu.fd, KVM_GET_STATS_FD, 0), i;
	long long faults;
	struct kvm_regs r;

	guest_load_bytes(g, sum_start, sum_end - sum_start);
	*guest_pte(g, BASE) = BASE | FLAGS | 0x80;
	for (i = 0; i < PAGES; i++)
		*(uint32_t *)(g->mem + BASE + i * PAGE_SIZE) = 1 << (i % 16);
	faults = stat_value(fd, "pf_exclusive");
	for (i = 0; i < 2; i++) {
		begin(g, 0, PAGES);
		r = vcpu_regs(&g->cpu);
		r.rbx = BASE;
		vcpu_set_regs(&g->cpu, &r);
		ASSERT_DONE(g);
		EXPECT_EQ(PAGES / 16 * 0xffff - i * (1 << GIVEN_BACK % 16), vcpu_regs(&g->cpu).rax);
		if (!i && faults >= 0 && !nested_paging(g->dev))
			/* 8, 16, 32, 64, 64, 64 and the rest; and those of code and stack. */
			EXPECT_GE(7 + 4, stat_value(fd, "pf_exclusive") - faults);
		ASSERT_EQ(0, madvise(g->mem + BASE + GIVEN_BACK * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED));
	}
	close(fd);
}

GUEST(in_page_0, 16, "movw 0x3ff8, %bx\n" G_DONE);

/* The first page of all, with others behind it: it follows none, though a vCPU that has mapped nothing could think so. */
TEST_F(remap, ahead_from_0)
{
	struct guest *g = &self->g;
	struct kvm_sregs s;
	struct kvm_regs r;

	guest_start(g, MODE_REAL, BLOB(in_page_0));
	memcpy(g->mem + 0x800, in_page_0_start, in_page_0_end - in_page_0_start);
	memset(g->mem + PAGE_SIZE, 0x5a, 127 * PAGE_SIZE);
	r = vcpu_regs(&g->cpu);
	r.rip = 0x800;
	vcpu_set_regs(&g->cpu, &r);
	s = vcpu_sregs(&g->cpu);
	s.cs.selector = s.cs.base = 0;
	vcpu_set_sregs(&g->cpu, &s);
	ASSERT_DONE(g);
	EXPECT_EQ(0x5a5a, vcpu_regs(&g->cpu).rbx & 0xffff);
}

TEST_HARNESS_MAIN
