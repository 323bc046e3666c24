// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION: each refusal, and what the guest sees after a slot was made, moved, deleted or
 * made read-only (KVM API documentation, section 4.35).
 */
#include <sys/mman.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define MB	0x100000UL

FIXTURE(slots) {
	int dev, vm;
	char *mem;
};

FIXTURE_SETUP(slots)
{
	self->dev = dev_open();
	self->vm = vm_create(self->dev);
	self->mem = mem_alloc(4 * MB);
}

FIXTURE_TEARDOWN(slots)
{
	close(self->vm);
	close(self->dev);
	munmap(self->mem, 4 * MB);
}

static const struct refusal {
	const char *what;
	uint32_t slot, flags;
	uint64_t gpa, size, hva;	/* hva is relative to the test's memory unless abs_hva */
	bool abs_hva;
	int err;
} refusals[] = {
	{ "gpa not page aligned", 1, 0, 4 * MB + 1, PAGE_SIZE, 0, false, EINVAL },
	{ "gpa 512 bytes off", 1, 0, 4 * MB + 512, PAGE_SIZE, 0, false, EINVAL },
	{ "size not page aligned", 1, 0, 4 * MB, PAGE_SIZE + 1, 0, false, EINVAL },
	{ "size below a page", 1, 0, 4 * MB, 2048, 0, false, EINVAL },
	{ "hva not page aligned", 1, 0, 4 * MB, PAGE_SIZE, 1, false, EINVAL },
	{ "hva 8 bytes off", 1, 0, 4 * MB, PAGE_SIZE, 8, false, EINVAL },
	{ "hva of the kernel", 1, 0, 4 * MB, PAGE_SIZE, 0xffff888000000000, true, EINVAL },
	{ "hva not canonical", 1, 0, 4 * MB, PAGE_SIZE, 0x8000000000000000, true, EINVAL },
	{ "hva that wraps", 1, 0, 4 * MB, 2 * PAGE_SIZE, 0xfffffffffffff000, true, EINVAL },
	{ "hva that runs into the kernel's half", 1, 0, 4 * MB, 1ULL << 47, 1ULL << 47, true, EINVAL },
	{ "gpa that wraps", 1, 0, 0xfffffffffffff000, 2 * PAGE_SIZE, 0, false, EINVAL },
	{ "gpa that ends at zero", 1, 0, 0xfffffffffffff000, PAGE_SIZE, 0, false, EINVAL },
	{ "gpa beyond the physical address width", 1, 0, 1ULL << 52, PAGE_SIZE, 0, false, EINVAL },
	{ "size beyond what a slot can hold", 1, 0, 4 * MB, 1ULL << 43, 0, true, EINVAL },
	{ "address space 65535", 0xffff0001, 0, 4 * MB, PAGE_SIZE, 0, false, EINVAL },
	{ "slot number 65535", 0xffff, 0, 4 * MB, PAGE_SIZE, 0, false, EINVAL },
	{ "unknown flag 8", 1, 1 << 3, 4 * MB, PAGE_SIZE, 0, false, EINVAL },
	{ "unknown flag 31", 1, 1u << 31, 4 * MB, PAGE_SIZE, 0, false, EINVAL },
	{ "unknown flag on delete", 0, 1u << 31, 0, 0, 0, false, EINVAL },
	{ "delete of a slot that is not there", 1, 0, 4 * MB, 0, 0, false, EINVAL },
	{ "the same pages again", 1, 0, 0, MB, 0, false, EEXIST },
	{ "overlap of the first page", 1, 0, 0, PAGE_SIZE, 2 * MB, false, EEXIST },
	{ "overlap of the last page", 1, 0, MB - PAGE_SIZE, 2 * PAGE_SIZE, 0, false, EEXIST },
	{ "a slot around it", 1, 0, 0, 2 * MB, 0, false, EEXIST },
	{ "an existing slot made larger", 0, 0, 0, 2 * MB, 0, false, EINVAL },
	{ "an existing slot made smaller", 0, 0, 0, MB / 2, 0, false, EINVAL },
	{ "an existing slot's hva changed", 0, 0, 0, MB, PAGE_SIZE, false, EINVAL },
	{ "an existing slot made read-only", 0, KVM_MEM_READONLY, 0, MB, 0, false, EINVAL },
	{ "moved and resized", 0, 0, MB, 2 * MB, 0, false, EINVAL },
	{ "moved onto another", 0, 0, 8 * MB, MB, 0, false, EEXIST },
	{ "moved beyond the physical address width", 0, 0, 1ULL << 52, MB, 0, false, EINVAL },
	{ "a read-only slot made writable", 3, 0, 16 * MB, PAGE_SIZE, 3 * MB, false, EINVAL },
};

TEST_F(slots, refusals)
{
	int i;

	ASSERT_EQ(0, vm_set_slot(self->vm, 0, 0, 0, MB, self->mem));
	ASSERT_EQ(0, vm_set_slot(self->vm, 2, 0, 8 * MB, MB, self->mem + MB));
	ASSERT_EQ(0, vm_set_slot(self->vm, 3, KVM_MEM_READONLY, 16 * MB, PAGE_SIZE, self->mem + 3 * MB));
	for (i = 0; i < ARRAY_SIZE(refusals); i++) {
		const struct refusal *r = &refusals[i];
		char *hva = (char *)r->hva + (r->abs_hva ? 0 : (uintptr_t)self->mem);

		EXPECT_EQ(-r->err, vm_set_slot(self->vm, r->slot, r->flags, r->gpa, r->size, hva)) {
			TH_LOG("%s", r->what);
		}
	}
	EXPECT_EQ(-EFAULT, vm_ioctl(self->vm, KVM_SET_USER_MEMORY_REGION, BAD_PTR));
	/* The first address space that there is not; the second one is system management mode's. */
	i = vm_cap(self->vm, KVM_CAP_MULTI_ADDRESS_SPACE);
	EXPECT_EQ(-EINVAL, vm_set_slot(self->vm, (i ? i : 1) << 16, 0, 4 * MB, PAGE_SIZE, self->mem));
	/* None of them changed anything: the old slots are there, and slot 1 is not. */
	EXPECT_EQ(0, vm_set_slot(self->vm, 0, 0, 0, MB, self->mem));
	EXPECT_EQ(-EEXIST, vm_set_slot(self->vm, 1, 0, 8 * MB, MB, self->mem + MB));
	EXPECT_EQ(-EINVAL, vm_set_slot(self->vm, 1, 0, 4 * MB, 0, self->mem));
	EXPECT_EQ(0, vm_set_slot(self->vm, 3, KVM_MEM_READONLY, 16 * MB, 0, self->mem + 3 * MB));
}

TEST_F(slots, slot_numbers)
{
	uint32_t max = vm_cap(self->dev, KVM_CAP_NR_MEMSLOTS);

	EXPECT_EQ(0, vm_set_slot(self->vm, max - 1, 0, 0, PAGE_SIZE, self->mem));
	EXPECT_EQ(0, vm_set_slot(self->vm, max - 1, 0, 0, 0, self->mem));
	/* KVM keeps three more for itself. */
	EXPECT_EQ(-EINVAL, vm_set_slot(self->vm, max + 3, 0, 0, PAGE_SIZE, self->mem));
}

/* Slots may touch, may share host memory, and may have no host memory behind them yet. */
TEST_F(slots, accepted)
{
	EXPECT_EQ(0, vm_set_slot(self->vm, 0, 0, 0, MB, self->mem));
	EXPECT_EQ(0, vm_set_slot(self->vm, 1, 0, MB, MB, self->mem + MB));
	EXPECT_EQ(0, vm_set_slot(self->vm, 2, 0, 16 * MB, MB, self->mem));
	EXPECT_EQ(0, vm_set_slot(self->vm, 3, 0, 1UL << 32, MB, self->mem));
	EXPECT_EQ(0, vm_set_slot(self->vm, 4, 0, 2UL << 32, MB, (void *)0x10000));
	/* Again and the same: nothing to do. */
	EXPECT_EQ(0, vm_set_slot(self->vm, 0, 0, 0, MB, self->mem));
	/* Size zero deletes, whatever the addresses say, if they are well formed. */
	EXPECT_EQ(0, vm_set_slot(self->vm, 0, 0, 99 * MB, 0, NULL));
	EXPECT_EQ(-EINVAL, vm_set_slot(self->vm, 0, 0, 0, 0, NULL));
	EXPECT_EQ(0, vm_set_slot(self->vm, 0, 0, 0, MB, self->mem + 2 * MB));
	/* A move, also by less than its own size. */
	EXPECT_EQ(0, vm_set_slot(self->vm, 2, 0, 16 * MB + PAGE_SIZE, MB, self->mem));
	EXPECT_EQ(0, vm_set_slot(self->vm, 2, 0, 32 * MB, MB, self->mem));
	EXPECT_EQ(0, vm_set_slot(self->vm, 5, 0, 16 * MB, MB, self->mem));
}

GUEST(load, 64, "1: movq (%rsi), %rax\n" G_SYNC "jmp 1b\n");

static uint64_t load_word(struct __test_metadata *_metadata, struct guest *g)
{
	ASSERT_PORT(PORT_SYNC, g);
	return vcpu_regs(&g->cpu).rax;
}

#define TEST_GPA	0x800000UL

/* The guest sees each change at once: no translation of the old slot is left. */
TEST(guest_sees_changes)
{
	struct kvm_regs regs;
	struct guest g;
	uint64_t *mem = mem_alloc(2 * MB);
	int i;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(load));
	mem[0] = 0x1111;
	mem[MB / 8] = 0x2222;
	ASSERT_EQ(0, vm_set_slot(g.vm, 5, 0, TEST_GPA, MB, mem));
	regs = vcpu_regs(&g.cpu);
	regs.rsi = TEST_GPA;
	vcpu_set_regs(&g.cpu, &regs);
	EXPECT_EQ(0x1111, load_word(_metadata, &g));

	/* Deleted: the access is MMIO. */
	ASSERT_EQ(0, vm_set_slot(g.vm, 5, 0, TEST_GPA, 0, mem));
	ASSERT_RUN(KVM_EXIT_MMIO, &g);
	EXPECT_EQ(TEST_GPA, g.cpu.run->mmio.phys_addr);
	EXPECT_EQ(8, g.cpu.run->mmio.len);
	EXPECT_EQ(0, g.cpu.run->mmio.is_write);
	for (i = 0; i < 8; i++)
		g.cpu.run->mmio.data[i] = 0x33;
	EXPECT_EQ(0x3333333333333333, load_word(_metadata, &g));

	/* Other memory in the same place. */
	ASSERT_EQ(0, vm_set_slot(g.vm, 5, 0, TEST_GPA, MB, mem + MB / 8));
	EXPECT_EQ(0x2222, load_word(_metadata, &g));

	/* Moved away, and back. */
	ASSERT_EQ(0, vm_set_slot(g.vm, 5, 0, 2 * TEST_GPA, MB, mem + MB / 8));
	ASSERT_RUN(KVM_EXIT_MMIO, &g);
	memset(g.cpu.run->mmio.data, 0x44, 8);
	EXPECT_EQ(0x4444444444444444, load_word(_metadata, &g));
	ASSERT_EQ(0, vm_set_slot(g.vm, 5, 0, TEST_GPA, MB, mem + MB / 8));
	EXPECT_EQ(0x2222, load_word(_metadata, &g));
	guest_destroy(&g);
}

/* The host's own changes of the mapping reach the guest too: munmap, a new mapping, MADV_DONTNEED. */
TEST(guest_sees_host_mappings)
{
	struct kvm_regs regs;
	struct guest g;
	uint64_t *mem = mem_alloc(MB);

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(load));
	mem[0] = 0x5555;
	ASSERT_EQ(0, vm_set_slot(g.vm, 5, 0, TEST_GPA, MB, mem));
	regs = vcpu_regs(&g.cpu);
	regs.rsi = TEST_GPA;
	vcpu_set_regs(&g.cpu, &regs);
	EXPECT_EQ(0x5555, load_word(_metadata, &g));
	ASSERT_EQ(0, madvise(mem, MB, MADV_DONTNEED));
	EXPECT_EQ(0, load_word(_metadata, &g));
	mem[0] = 0x6666;
	EXPECT_EQ(0x6666, load_word(_metadata, &g));
	ASSERT_EQ(mem, mmap(mem, MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EXPECT_EQ(0, load_word(_metadata, &g));
	mem[0] = 0x7777;
	/* Nothing there: KVM_RUN fails with EFAULT, and the guest can go on when memory is back. */
	ASSERT_EQ(0, munmap(mem, MB));
	EXPECT_EQ(-EFAULT, guest_run(&g));
	ASSERT_EQ(mem, mmap(mem, MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	mem[0] = 0x8888;
	EXPECT_EQ(0x8888, load_word(_metadata, &g));
	guest_destroy(&g);
}

GUEST(store, 64,
	"1: movq (%rsi), %rbx\n"
	"movq %rax, (%rsi)\n"
	"movq (%rsi), %rdx\n"
	"incq %rax\n"
	G_SYNC
	"jmp 1b\n");

/* Reads of a read-only slot are memory, writes are MMIO exits and leave the memory as it was. */
TEST(read_only_slot)
{
	struct kvm_regs regs;
	struct guest g;
	uint64_t *mem = mem_alloc(MB);
	int i;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(store));
	mem[0] = 0x9999;
	ASSERT_EQ(0, vm_set_slot(g.vm, 5, KVM_MEM_READONLY, TEST_GPA, MB, mem));
	regs = vcpu_regs(&g.cpu);
	regs.rsi = TEST_GPA;
	regs.rax = 0xabcd;
	vcpu_set_regs(&g.cpu, &regs);
	for (i = 0; i < 2; i++) {
		ASSERT_RUN(KVM_EXIT_MMIO, &g);
		EXPECT_EQ(1, g.cpu.run->mmio.is_write);
		EXPECT_EQ(TEST_GPA, g.cpu.run->mmio.phys_addr);
		EXPECT_EQ(8, g.cpu.run->mmio.len);
		EXPECT_EQ(0xabcd + i, *(uint64_t *)g.cpu.run->mmio.data);
		ASSERT_PORT(PORT_SYNC, &g);
		regs = vcpu_regs(&g.cpu);
		EXPECT_EQ(0x9999, regs.rbx);
		EXPECT_EQ(0x9999, regs.rdx);
		EXPECT_EQ(0x9999, mem[0]);
	}
	/* Deleted and made again as an ordinary one: writes land. */
	ASSERT_EQ(0, vm_set_slot(g.vm, 5, 0, TEST_GPA, 0, mem));
	ASSERT_EQ(0, vm_set_slot(g.vm, 5, 0, TEST_GPA, MB, mem));
	ASSERT_PORT(PORT_SYNC, &g);
	regs = vcpu_regs(&g.cpu);
	EXPECT_EQ(0x9999, regs.rbx);
	EXPECT_EQ(0xabcf, regs.rdx);
	EXPECT_EQ(0xabcf, mem[0]);
	guest_destroy(&g);
}

/* Memory that the client itself may only read: guest writes fail with EFAULT, reads work. */
TEST(host_read_only_mapping)
{
	struct kvm_regs regs;
	struct guest g;
	uint64_t *mem = mem_alloc(MB);

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(store));
	mem[0] = 0x1357;
	ASSERT_EQ(0, mprotect(mem, MB, PROT_READ));
	ASSERT_EQ(0, vm_set_slot(g.vm, 5, 0, TEST_GPA, MB, mem));
	regs = vcpu_regs(&g.cpu);
	regs.rsi = TEST_GPA;
	vcpu_set_regs(&g.cpu, &regs);
	EXPECT_EQ(-EFAULT, guest_run(&g));
	regs = vcpu_regs(&g.cpu);
	EXPECT_EQ(0x1357, regs.rbx);
	ASSERT_EQ(0, mprotect(mem, MB, PROT_READ | PROT_WRITE));
	ASSERT_PORT(PORT_SYNC, &g);
	EXPECT_EQ(0, mem[0]);
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
