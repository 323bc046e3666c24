// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every ioctl that takes a pointer is given ones that cannot be read or written: EFAULT, the vCPU's registers
 * unchanged, and the VM good for use afterwards. A row an ioctl; KVM_CHECK_EXTENSION decides for those that are
 * optional.
 */
#include <sys/mman.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

enum which { VM, VCPU };

#define ROW(fd, req, ...)	{ #req, fd, req, __VA_ARGS__ }

static const struct row {
	const char *name;
	enum which fd;
	unsigned long req;
	int cap;		/* 0: required */
	bool writes;		/* the kernel writes back: read-only memory is EFAULT too */
} rows[] = {
	ROW(VM, KVM_SET_USER_MEMORY_REGION, 0, false),
	ROW(VM, KVM_IRQ_LINE, 0, false),
	ROW(VM, KVM_IRQ_LINE_STATUS, KVM_CAP_IRQ_INJECT_STATUS, true),
	ROW(VM, KVM_GET_IRQCHIP, 0, true),
	ROW(VM, KVM_SET_IRQCHIP, 0, false),
	ROW(VM, KVM_CREATE_PIT2, 0, false),
	ROW(VM, KVM_GET_PIT2, KVM_CAP_PIT_STATE2, true),
	ROW(VM, KVM_SET_PIT2, KVM_CAP_PIT_STATE2, false),
	ROW(VM, KVM_GET_CLOCK, KVM_CAP_ADJUST_CLOCK, true),
	ROW(VM, KVM_SET_CLOCK, KVM_CAP_ADJUST_CLOCK, false),
	ROW(VM, KVM_IRQFD, KVM_CAP_IRQFD, false),
	ROW(VM, KVM_IOEVENTFD, KVM_CAP_IOEVENTFD, false),
	ROW(VM, KVM_SIGNAL_MSI, KVM_CAP_SIGNAL_MSI, false),
	ROW(VM, KVM_SET_GSI_ROUTING, KVM_CAP_IRQ_ROUTING, false),
	ROW(VM, KVM_GET_DIRTY_LOG, -1, false),
	ROW(VM, KVM_X86_SET_MSR_FILTER, KVM_CAP_X86_MSR_FILTER, false),
	ROW(VM, KVM_ENABLE_CAP, KVM_CAP_ENABLE_CAP_VM, false),
	ROW(VM, KVM_CREATE_DEVICE, KVM_CAP_DEVICE_CTRL, false),
	ROW(VCPU, KVM_GET_REGS, 0, true),
	ROW(VCPU, KVM_SET_REGS, 0, false),
	ROW(VCPU, KVM_GET_SREGS, 0, true),
	ROW(VCPU, KVM_SET_SREGS, 0, false),
	ROW(VCPU, KVM_GET_FPU, 0, true),
	ROW(VCPU, KVM_SET_FPU, 0, false),
	ROW(VCPU, KVM_GET_MSRS, 0, false),
	ROW(VCPU, KVM_SET_MSRS, 0, false),
	ROW(VCPU, KVM_SET_CPUID2, 0, false),
	ROW(VCPU, KVM_GET_CPUID2, 0, true),
	ROW(VCPU, KVM_GET_LAPIC, 0, true),
	ROW(VCPU, KVM_SET_LAPIC, 0, false),
	ROW(VCPU, KVM_GET_MP_STATE, 0, true),
	ROW(VCPU, KVM_SET_MP_STATE, 0, false),
	ROW(VCPU, KVM_GET_VCPU_EVENTS, 0, true),
	ROW(VCPU, KVM_SET_VCPU_EVENTS, 0, false),
	ROW(VCPU, KVM_GET_DEBUGREGS, 0, true),
	ROW(VCPU, KVM_SET_DEBUGREGS, 0, false),
	ROW(VCPU, KVM_GET_XSAVE, 0, true),
	ROW(VCPU, KVM_SET_XSAVE, 0, false),
	ROW(VCPU, KVM_GET_XCRS, 0, true),
	ROW(VCPU, KVM_SET_XCRS, 0, false),
	ROW(VCPU, KVM_INTERRUPT, 0, false),
	ROW(VCPU, KVM_SET_SIGNAL_MASK, 0, false),
	ROW(VCPU, KVM_ENABLE_CAP, KVM_CAP_ENABLE_CAP, false),
	ROW(VCPU, KVM_TRANSLATE, -1, false),
	ROW(VCPU, KVM_SET_GUEST_DEBUG, KVM_CAP_SET_GUEST_DEBUG, false),
	ROW(VCPU, KVM_GET_DEVICE_ATTR, KVM_CAP_VCPU_ATTRIBUTES, false),
	ROW(VCPU, KVM_SET_DEVICE_ATTR, KVM_CAP_VCPU_ATTRIBUTES, false),
	ROW(VCPU, KVM_X86_SETUP_MCE, KVM_CAP_MCE, false),
};

static bool wanted(struct guest *g, const struct row *r)
{
	/* -1: no capability says it; in-tree KVM has it, others answer as for any unknown ioctl. */
	if (r->cap == -1)
		return vm_ioctl(r->fd == VM ? g->vm : g->cpu.fd, r->req, BAD_PTR) != (r->fd == VM ? -ENOTTY : -EINVAL);
	return !r->cap || vm_cap(g->vm, r->cap);
}

static void check(struct __test_metadata *_metadata, struct guest *g, void *ptr, bool only_writes, const char *what)
{
	struct kvm_regs before = vcpu_regs(&g->cpu), after;
	int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!wanted(g, &rows[i]) || (only_writes && !rows[i].writes))
			continue;
		EXPECT_EQ(-EFAULT, vm_ioctl(rows[i].fd == VM ? g->vm : g->cpu.fd, rows[i].req, ptr)) {
			TH_LOG("%s, %s", rows[i].name, what);
		}
		after = vcpu_regs(&g->cpu);
		EXPECT_EQ(0, memcmp(&before, &after, sizeof(after))) {
			TH_LOG("%s, %s: registers changed", rows[i].name, what);
		}
	}
}

GUEST(hlt, 64, "hlt\n");

TEST(bad_pointers)
{
	struct guest g;
	char *unmapped, *edge;

	guest_create(&g, GUEST_IRQCHIP | GUEST_PIT);
	guest_start(&g, MODE_LONG, BLOB(hlt));
	check(_metadata, &g, BAD_PTR, false, "kernel address");
	check(_metadata, &g, (void *)(1UL << 62), false, "noncanonical address");
	unmapped = mem_alloc(2 * PAGE_SIZE);
	munmap(unmapped + PAGE_SIZE, PAGE_SIZE);
	check(_metadata, &g, unmapped + PAGE_SIZE, false, "unmapped page");
	/* One byte is there, no structure is. */
	edge = unmapped + PAGE_SIZE - 1;
	check(_metadata, &g, edge, false, "end of a mapping");
	munmap(unmapped, PAGE_SIZE);
	guest_destroy(&g);
}

TEST(read_only_pointers)
{
	struct guest g;
	void *rdonly;
	int i;

	guest_create(&g, GUEST_IRQCHIP | GUEST_PIT);
	rdonly = mmap(NULL, 0x10000, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, rdonly);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!rows[i].writes || !wanted(&g, &rows[i]) || rows[i].req == KVM_GET_CPUID2)
			continue;
		EXPECT_EQ(-EFAULT, vm_ioctl(rows[i].fd == VM ? g.vm : g.cpu.fd, rows[i].req, rdonly)) {
			TH_LOG("%s", rows[i].name);
		}
	}
	/* With room for no entry it would be E2BIG. */
	ASSERT_EQ(0, mprotect(rdonly, 0x10000, PROT_READ | PROT_WRITE));
	((struct kvm_cpuid2 *)rdonly)->nent = 256;
	ASSERT_EQ(0, mprotect(rdonly, 0x10000, PROT_READ));
	EXPECT_EQ(-EFAULT, vm_ioctl(g.cpu.fd, KVM_GET_CPUID2, rdonly));
	EXPECT_EQ(-EFAULT, vm_ioctl(g.dev, KVM_GET_SUPPORTED_CPUID, rdonly));
	guest_destroy(&g);
}

/* The lists whose head is readable and whose entries are not. */
TEST(bad_list_entries)
{
	struct guest g;
	char *p;
	uint32_t *head;

	guest_create(&g, GUEST_IRQCHIP);
	p = mem_alloc(2 * PAGE_SIZE);
	munmap(p + PAGE_SIZE, PAGE_SIZE);
	head = (uint32_t *)(p + PAGE_SIZE - 8);
	head[0] = 4;
	head[1] = 0;
	EXPECT_EQ(-EFAULT, vm_ioctl(g.cpu.fd, KVM_SET_CPUID2, head));
	EXPECT_EQ(-EFAULT, vm_ioctl(g.cpu.fd, KVM_SET_MSRS, head));
	EXPECT_EQ(-EFAULT, vm_ioctl(g.cpu.fd, KVM_GET_MSRS, head));
	head[0] = 200;
	EXPECT_EQ(-EFAULT, vm_ioctl(g.cpu.fd, KVM_GET_CPUID2, head));
	EXPECT_EQ(-EFAULT, vm_ioctl(g.dev, KVM_GET_SUPPORTED_CPUID, head));
	((uint32_t *)(p + PAGE_SIZE - 4))[0] = 512;
	EXPECT_EQ(-EFAULT, vm_ioctl(g.dev, KVM_GET_MSR_INDEX_LIST, p + PAGE_SIZE - 4));
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
