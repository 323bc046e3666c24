// SPDX-License-Identifier: GPL-2.0-only
/*
 * System management mode from the client's side: KVM_SMI, the second address space of slots, and the fields of
 * KVM_SET_VCPU_EVENTS (KVM API documentation, sections 4.32, 4.35 and 4.96); what is refused. guest/smm has the guest's.
 */
#include <sys/mman.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "vmtest.h"
#include "x86.h"

#define MSR_SMBASE	0x9e
#define MSR_SMI_COUNT	0x34
#define AS1		(1U << 16)

FIXTURE(smm) {
	int dev, vm;
	struct vcpu cpu;
	bool offered;
};

FIXTURE_SETUP(smm)
{
	self->dev = dev_open();
	self->vm = vm_create(self->dev);
	MUST(vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	vcpu_create(&self->cpu, self->dev, self->vm, 0);
	vcpu_set_supported_cpuid(&self->cpu, self->dev);
	self->offered = vm_cap(self->vm, KVM_CAP_X86_SMM);
}

FIXTURE_TEARDOWN(smm)
{
	vcpu_close(&self->cpu);
	close(self->vm);
	close(self->dev);
}

static long set_smi(struct vcpu *cpu, uint8_t smm, uint8_t pending, uint8_t inside_nmi)
{
	struct kvm_vcpu_events e = {
		.flags = KVM_VCPUEVENT_VALID_SMM,
		.smi = { .smm = smm, .pending = pending, .smm_inside_nmi = inside_nmi },
	};

	return vm_ioctl(cpu->fd, KVM_SET_VCPU_EVENTS, &e);
}

static struct kvm_vcpu_events events(struct vcpu *cpu)
{
	struct kvm_vcpu_events e;

	MUST(vm_ioctl(cpu->fd, KVM_GET_VCPU_EVENTS, &e));
	return e;
}

/* With shadow paging there is none of it. */
TEST_F(smm, capabilities)
{
	EXPECT_EQ(nested_paging(self->dev) || !dev_is_keel(self->dev), self->offered);
	EXPECT_EQ(1 + self->offered, vm_cap(self->vm, KVM_CAP_MULTI_ADDRESS_SPACE));
	EXPECT_EQ(self->offered ? 0 : -ENOTTY, vm_ioctl(self->cpu.fd, KVM_SMI, 0));
	EXPECT_EQ(-ENOTTY, vm_ioctl(self->vm, KVM_SMI, 0));
	if (!self->offered)
		EXPECT_EQ(-EINVAL, set_smi(&self->cpu, 1, 0, 0));
}

TEST_F(smm, slots)
{
	uint8_t *mem = mem_alloc(4 * PAGE_SIZE);

	EXPECT_EQ(0, vm_set_slot(self->vm, 3, 0, 0x10000, 2 * PAGE_SIZE, mem));
	EXPECT_EQ(-EINVAL, vm_set_slot(self->vm, 2 * AS1 | 3, 0, 0x10000, PAGE_SIZE, mem));
	EXPECT_EQ(-EINVAL, vm_set_slot(self->vm, 0xffff0003, 0, 0x10000, PAGE_SIZE, mem));
	EXPECT_EQ(-EINVAL, vm_set_slot(self->vm, AS1 | 0xffff, 0, 0x10000, PAGE_SIZE, mem));
	if (!self->offered) {
		EXPECT_EQ(-EINVAL, vm_set_slot(self->vm, AS1 | 3, 0, 0x10000, PAGE_SIZE, mem));
		return;
	}
	/* The same number and the same place, in the other space. */
	EXPECT_EQ(-EINVAL, vm_set_slot(self->vm, AS1 | 3, 0, 0x10000, 0, NULL));
	EXPECT_EQ(0, vm_set_slot(self->vm, AS1 | 3, 0, 0x10000, PAGE_SIZE, mem + 2 * PAGE_SIZE));
	EXPECT_EQ(-EEXIST, vm_set_slot(self->vm, AS1 | 4, 0, 0x10000, PAGE_SIZE, mem));
	EXPECT_EQ(0, vm_set_slot(self->vm, AS1 | 3, 0, 0x20000, PAGE_SIZE, mem + 2 * PAGE_SIZE));
	EXPECT_EQ(0, vm_set_slot(self->vm, AS1 | 4, KVM_MEM_READONLY, 0x10000, PAGE_SIZE, mem));
	EXPECT_EQ(-EINVAL, vm_set_slot(self->vm, AS1 | 5, 0, 1ULL << 62, PAGE_SIZE, mem));
	EXPECT_EQ(0, vm_set_slot(self->vm, 3, 0, 0x10000, 0, NULL));
	EXPECT_EQ(-EEXIST, vm_set_slot(self->vm, AS1 | 5, 0, 0x20000, PAGE_SIZE, mem));
	EXPECT_EQ(0, vm_set_slot(self->vm, AS1 | 3, 0, 0x20000, 0, NULL));
	EXPECT_EQ(-EINVAL, vm_set_slot(self->vm, AS1 | 3, 0, 0x20000, 0, NULL));
	munmap(mem, 4 * PAGE_SIZE);
}

TEST_F(smm, events)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_INIT_RECEIVED };
	struct kvm_vcpu_events e;

	if (!self->offered)
		SKIP(return, "no system management mode");
	EXPECT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SMI, 0));
	e = events(&self->cpu);
	EXPECT_EQ(1, e.smi.pending);
	EXPECT_EQ(0, e.smi.smm);
	EXPECT_NE(0, e.flags & KVM_VCPUEVENT_VALID_SMM);
	EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_MP_STATE, &mp));
	EXPECT_EQ(0, set_smi(&self->cpu, 0, 0, 1));
	EXPECT_EQ(0, events(&self->cpu).smi.pending);
	EXPECT_EQ(0, events(&self->cpu).smi.smm_inside_nmi);

	EXPECT_EQ(0, set_smi(&self->cpu, 1, 1, 1));
	e = events(&self->cpu);
	EXPECT_EQ(1, e.smi.smm);
	EXPECT_EQ(1, e.smi.pending);
	EXPECT_EQ(1, e.smi.smm_inside_nmi);
	EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_MP_STATE, &mp));
	mp.mp_state = KVM_MP_STATE_SIPI_RECEIVED;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_MP_STATE, &mp));
	/* Without the flag nothing of it changes. */
	memset(&e, 0, sizeof(e));
	EXPECT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_VCPU_EVENTS, &e));
	EXPECT_EQ(1, events(&self->cpu).smi.smm);
	EXPECT_EQ(0, set_smi(&self->cpu, 0, 0, 0));
	EXPECT_EQ(0, events(&self->cpu).smi.smm);

	mp.mp_state = KVM_MP_STATE_INIT_RECEIVED;
	EXPECT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_MP_STATE, &mp));
	EXPECT_EQ(-EINVAL, set_smi(&self->cpu, 1, 0, 0));
	EXPECT_EQ(-EINVAL, set_smi(&self->cpu, 0, 1, 0));
	EXPECT_EQ(0, set_smi(&self->cpu, 0, 0, 0));
}

TEST_F(smm, msrs)
{
	uint64_t val;

	EXPECT_EQ(1, vcpu_get_msr(&self->cpu, MSR_SMBASE, &val));
	EXPECT_EQ(0x30000, val);
	EXPECT_EQ(1, vcpu_set_msr(&self->cpu, MSR_SMBASE, 0x7fff0000));
	EXPECT_EQ(1, vcpu_get_msr(&self->cpu, MSR_SMBASE, &val));
	EXPECT_EQ(0x7fff0000, val);
	EXPECT_EQ(1, vcpu_set_msr(&self->cpu, MSR_SMI_COUNT, 77));
	EXPECT_EQ(1, vcpu_get_msr(&self->cpu, MSR_SMI_COUNT, &val));
	EXPECT_EQ(77, val);
}

TEST_HARNESS_MAIN
