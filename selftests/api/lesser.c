// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ioctls that no other program here is about: the boot processor, the older PIT calls, the machine-check
 * set-up, the TSC's rate, KVM_SET_CPUID, KVM_GET/SET_SREGS2, KVM_GET_XSAVE2, the clock. What each does, and each
 * of its refusals.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "vmtest.h"
#include "x86.h"

#define BAD_POINTER	((void *)16)

FIXTURE(lesser) {
	int dev, vm;
};

FIXTURE_SETUP(lesser)
{
	self->dev = dev_open();
	self->vm = vm_create(self->dev);
}

FIXTURE_TEARDOWN(lesser)
{
	close(self->vm);
	close(self->dev);
}

TEST_F(lesser, emulated_cpuid)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 100 * sizeof(c->entries[0]));

	EXPECT_EQ(-E2BIG, vm_ioctl(self->dev, KVM_GET_EMULATED_CPUID, c));
	c->nent = 100;
	ASSERT_EQ(0, vm_ioctl(self->dev, KVM_GET_EMULATED_CPUID, c));
	EXPECT_LE(1, c->nent);
	EXPECT_GT(100, c->nent);
	EXPECT_EQ(-EFAULT, vm_ioctl(self->dev, KVM_GET_EMULATED_CPUID, BAD_POINTER));
	free(c);
}

/* The boot processor is the one that runs at once; it cannot be chosen once there are vCPUs. */
TEST_F(lesser, boot_cpu)
{
	struct kvm_mp_state mp;
	struct vcpu cpu[2];

	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_SET_BOOT_CPU_ID, 1));
	vcpu_create(&cpu[0], self->dev, self->vm, 0);
	EXPECT_EQ(-EBUSY, vm_ioctl(self->vm, KVM_SET_BOOT_CPU_ID, 0));
	vcpu_create(&cpu[1], self->dev, self->vm, 1);
	ASSERT_EQ(0, vm_ioctl(cpu[0].fd, KVM_GET_MP_STATE, &mp));
	EXPECT_EQ(KVM_MP_STATE_UNINITIALIZED, mp.mp_state);
	ASSERT_EQ(0, vm_ioctl(cpu[1].fd, KVM_GET_MP_STATE, &mp));
	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, mp.mp_state);
	/* Bit 8 of APIC_BASE says which it is. */
	EXPECT_EQ(0, vcpu_sregs(&cpu[0]).apic_base & 0x100);
	EXPECT_EQ(0x100, vcpu_sregs(&cpu[1]).apic_base & 0x100);
	vcpu_close(&cpu[0]);
	vcpu_close(&cpu[1]);
}

TEST_F(lesser, pit)
{
	struct kvm_reinject_control control = { .pit_reinject = 0 };
	struct kvm_pit_state pit = { 0 }, again = { 0 };

	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	EXPECT_EQ(-ENXIO, vm_ioctl(self->vm, KVM_GET_PIT, &pit));
	EXPECT_EQ(-ENXIO, vm_ioctl(self->vm, KVM_SET_PIT, &pit));
	EXPECT_EQ(-ENXIO, vm_ioctl(self->vm, KVM_REINJECT_CONTROL, &control));
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_CREATE_PIT, 0));
	EXPECT_EQ(-EEXIST, vm_ioctl(self->vm, KVM_CREATE_PIT, 0));

	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_GET_PIT, &pit));
	pit.channels[2].count = 0x1234;
	pit.channels[2].mode = 3;
	pit.channels[2].gate = 1;
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_SET_PIT, &pit));
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_GET_PIT, &again));
	EXPECT_EQ(0x1234, again.channels[2].count);
	EXPECT_EQ(3, again.channels[2].mode);
	EXPECT_EQ(-EFAULT, vm_ioctl(self->vm, KVM_GET_PIT, BAD_POINTER));
	EXPECT_EQ(-EFAULT, vm_ioctl(self->vm, KVM_SET_PIT, BAD_POINTER));

	EXPECT_EQ(0, vm_ioctl(self->vm, KVM_REINJECT_CONTROL, &control));
	control.pit_reinject = 1;
	EXPECT_EQ(0, vm_ioctl(self->vm, KVM_REINJECT_CONTROL, &control));
	EXPECT_EQ(-EFAULT, vm_ioctl(self->vm, KVM_REINJECT_CONTROL, BAD_POINTER));
}

/* In x2APIC mode the client sees the local APIC's id in bits 31:24, or whole once it has asked for that. */
TEST_F(lesser, x2apic_ids)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X2APIC_API, .args = { 1ULL << 40 } };
	struct kvm_lapic_state lapic;
	struct kvm_sregs s;
	struct vcpu cpu;

	ASSERT_EQ(3, vm_cap(self->dev, KVM_CAP_X2APIC_API));
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_ENABLE_CAP, &cap));
	cap.args[0] = 0;
	cap.flags = 1;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_ENABLE_CAP, &cap));
	cap.flags = 0;
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	vcpu_create(&cpu, self->dev, self->vm, 5);
	vcpu_set_supported_cpuid(&cpu, self->dev);
	s = vcpu_sregs(&cpu);
	s.apic_base |= 0xc00;
	vcpu_set_sregs(&cpu, &s);
	ASSERT_EQ(0, vm_ioctl(cpu.fd, KVM_GET_LAPIC, &lapic));
	EXPECT_EQ(5 << 24, *(uint32_t *)&lapic.regs[0x20]);
	cap.args[0] = KVM_X2APIC_API_USE_32BIT_IDS;
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_ENABLE_CAP, &cap));
	ASSERT_EQ(0, vm_ioctl(cpu.fd, KVM_GET_LAPIC, &lapic));
	EXPECT_EQ(5, *(uint32_t *)&lapic.regs[0x20]);
	vcpu_close(&cpu);
}

TEST_F(lesser, clock)
{
	struct kvm_clock_data data = { .clock = 1000000000000ULL }, now = { 0 };

	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_SET_CLOCK, &data));
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_GET_CLOCK, &now));
	EXPECT_LE(data.clock, now.clock);
	EXPECT_GT(data.clock + 60000000000ULL, now.clock);
	data.flags = 1U << 31;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_SET_CLOCK, &data));
	EXPECT_EQ(-EFAULT, vm_ioctl(self->vm, KVM_SET_CLOCK, BAD_POINTER));
	EXPECT_EQ(-EFAULT, vm_ioctl(self->vm, KVM_GET_CLOCK, BAD_POINTER));
}

TEST_F(lesser, machine_check)
{
	struct kvm_x86_mce mce = { .status = 1ULL << 63, .bank = 1 };
	uint64_t cap = 0, setup;
	struct vcpu cpu;

	EXPECT_EQ(-EFAULT, vm_ioctl(self->dev, KVM_X86_GET_MCE_CAP_SUPPORTED, BAD_POINTER));
	ASSERT_EQ(0, vm_ioctl(self->dev, KVM_X86_GET_MCE_CAP_SUPPORTED, &cap));
	vcpu_create(&cpu, self->dev, self->vm, 0);
	setup = 4 | (cap & 0x100);	/* four banks, MCG_CTL if there */
	ASSERT_EQ(0, vm_ioctl(cpu.fd, KVM_X86_SETUP_MCE, &setup));
	setup = 4 | 1ULL << 40;		/* a bit that nobody offers */
	EXPECT_EQ(-EINVAL, vm_ioctl(cpu.fd, KVM_X86_SETUP_MCE, &setup));

	/* Corrected errors are logged in their bank. */
	ASSERT_EQ(0, vm_ioctl(cpu.fd, KVM_X86_SET_MCE, &mce));
	ASSERT_EQ(1, vcpu_get_msr(&cpu, 0x401 + 4, &cap));
	EXPECT_EQ(1ULL << 63, cap);
	mce.status = 0;
	EXPECT_EQ(-EINVAL, vm_ioctl(cpu.fd, KVM_X86_SET_MCE, &mce));
	mce.status = 1ULL << 63;
	mce.bank = 4;
	EXPECT_EQ(-EINVAL, vm_ioctl(cpu.fd, KVM_X86_SET_MCE, &mce));
	vcpu_close(&cpu);
}

TEST_F(lesser, sregs2)
{
	struct kvm_sregs2 s, again;
	struct vcpu cpu;

	ASSERT_EQ(1, vm_cap(self->dev, KVM_CAP_SREGS2));
	vcpu_create(&cpu, self->dev, self->vm, 0);
	ASSERT_EQ(0, vm_ioctl(cpu.fd, KVM_GET_SREGS2, &s));
	EXPECT_EQ(0, s.flags);
	s.cr2 = 0x123456;
	s.ds.base = 0x1000;
	ASSERT_EQ(0, vm_ioctl(cpu.fd, KVM_SET_SREGS2, &s));
	ASSERT_EQ(0, vm_ioctl(cpu.fd, KVM_GET_SREGS2, &again));
	EXPECT_EQ(0x123456, again.cr2);
	EXPECT_EQ(0x1000, again.ds.base);
	s.flags = 2;
	EXPECT_EQ(-EINVAL, vm_ioctl(cpu.fd, KVM_SET_SREGS2, &s));
	s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;	/* not in PAE mode */
	EXPECT_EQ(-EINVAL, vm_ioctl(cpu.fd, KVM_SET_SREGS2, &s));
	s.flags = 0;
	s.cr4 = 1ULL << 31;
	EXPECT_EQ(-EINVAL, vm_ioctl(cpu.fd, KVM_SET_SREGS2, &s));
	EXPECT_EQ(-EFAULT, vm_ioctl(cpu.fd, KVM_GET_SREGS2, BAD_POINTER));
	EXPECT_EQ(-EFAULT, vm_ioctl(cpu.fd, KVM_SET_SREGS2, BAD_POINTER));
	vcpu_close(&cpu);
}

TEST_F(lesser, xsave2)
{
	int size = vm_cap(self->vm, KVM_CAP_XSAVE2);
	uint32_t *buf;
	struct vcpu cpu;

	ASSERT_LE(4096, size);
	buf = calloc(1, size + 4096);
	buf[size / 4] = 0xdeadbeef;
	vcpu_create(&cpu, self->dev, self->vm, 0);
	ASSERT_EQ(0, vm_ioctl(cpu.fd, KVM_GET_XSAVE2, buf));
	EXPECT_EQ(0xdeadbeef, buf[size / 4]);
	EXPECT_EQ(0x1f80, buf[6]);	/* MXCSR */
	buf[40] = 0x12345678;		/* XMM0 */
	buf[128] |= 2;			/* SSE in XSTATE_BV */
	ASSERT_EQ(0, vm_ioctl(cpu.fd, KVM_SET_XSAVE, buf));
	memset(buf, 0, size);
	ASSERT_EQ(0, vm_ioctl(cpu.fd, KVM_GET_XSAVE2, buf));
	EXPECT_EQ(0x12345678, buf[40]);
	EXPECT_EQ(-EFAULT, vm_ioctl(cpu.fd, KVM_GET_XSAVE2, BAD_POINTER));
	vcpu_close(&cpu);
	free(buf);
}

TEST_F(lesser, old_cpuid)
{
	struct kvm_cpuid2 *now = calloc(1, sizeof(*now) + 10 * sizeof(now->entries[0]));
	struct kvm_cpuid *c = calloc(1, sizeof(*c) + 300 * sizeof(c->entries[0]));
	struct vcpu cpu;

	vcpu_create(&cpu, self->dev, self->vm, 0);
	c->nent = 2;
	c->entries[0] = (struct kvm_cpuid_entry){ .function = 0, .eax = 1, .ebx = 0x11111111 };
	c->entries[1] = (struct kvm_cpuid_entry){ .function = 1, .eax = 0x22222222 };
	ASSERT_EQ(0, vm_ioctl(cpu.fd, KVM_SET_CPUID, c));
	now->nent = 10;
	ASSERT_EQ(0, vm_ioctl(cpu.fd, KVM_GET_CPUID2, now));
	EXPECT_EQ(0x11111111, now->entries[0].ebx);
	EXPECT_EQ(0x22222222, now->entries[1].eax);
	c->nent = 257;
	EXPECT_EQ(-E2BIG, vm_ioctl(cpu.fd, KVM_SET_CPUID, c));
	EXPECT_EQ(-EFAULT, vm_ioctl(cpu.fd, KVM_SET_CPUID, BAD_POINTER));
	vcpu_close(&cpu);
	free(now);
	free(c);
}

TEST_F(lesser, tsc_rate)
{
	struct vcpu cpu;
	long khz;

	vcpu_create(&cpu, self->dev, self->vm, 0);
	khz = vm_ioctl(cpu.fd, KVM_GET_TSC_KHZ, 0);
	ASSERT_LT(0, khz);
	EXPECT_EQ(0, vm_ioctl(cpu.fd, KVM_SET_TSC_KHZ, khz));
	EXPECT_EQ(0, vm_ioctl(cpu.fd, KVM_SET_TSC_KHZ, 0));
	EXPECT_EQ(khz, vm_ioctl(cpu.fd, KVM_GET_TSC_KHZ, 0));
	/* Slower than the host needs TSC scaling: in-tree KVM has it where the CPU has, told or not. */
	if (!strstr(dev_path(), "kvm")) {
		EXPECT_EQ(-EINVAL, vm_ioctl(cpu.fd, KVM_SET_TSC_KHZ, khz / 2));
		EXPECT_EQ(khz, vm_ioctl(cpu.fd, KVM_GET_TSC_KHZ, 0));
	}
	vcpu_close(&cpu);
}

/* Nothing but "none" is to be had, and clients that reset a local APIC say so. */
TEST_F(lesser, vapic_address)
{
	struct kvm_vapic_addr addr = { 0 };
	struct vcpu cpu;

	vcpu_create(&cpu, self->dev, self->vm, 0);
	EXPECT_EQ(-EINVAL, vm_ioctl(cpu.fd, KVM_SET_VAPIC_ADDR, &addr));
	vcpu_close(&cpu);
	close(self->vm);
	self->vm = vm_create(self->dev);
	MUST(vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	vcpu_create(&cpu, self->dev, self->vm, 0);
	EXPECT_EQ(0, vm_ioctl(cpu.fd, KVM_SET_VAPIC_ADDR, &addr));
	/* No memory there at all. */
	addr.vapic_addr = 0x1000;
	EXPECT_EQ(-EINVAL, vm_ioctl(cpu.fd, KVM_SET_VAPIC_ADDR, &addr));
	EXPECT_EQ(-EFAULT, vm_ioctl(cpu.fd, KVM_SET_VAPIC_ADDR, BAD_POINTER));
	vcpu_close(&cpu);
}

/* Only a guest that uses kvmclock can be told that it was stopped. */
TEST_F(lesser, clock_stopped)
{
	void *mem = mem_alloc(0x10000);
	struct vcpu cpu;

	ASSERT_EQ(0, vm_set_slot(self->vm, 0, 0, 0, 0x10000, mem));
	vcpu_create(&cpu, self->dev, self->vm, 0);
	vcpu_set_supported_cpuid(&cpu, self->dev);
	EXPECT_EQ(-EINVAL, vm_ioctl(cpu.fd, KVM_KVMCLOCK_CTRL, 0));
	ASSERT_EQ(1, vcpu_set_msr(&cpu, 0x4b564d01, 0x1001));
	EXPECT_EQ(0, vm_ioctl(cpu.fd, KVM_KVMCLOCK_CTRL, 0));
	ASSERT_EQ(1, vcpu_set_msr(&cpu, 0x4b564d01, 0));
	EXPECT_EQ(-EINVAL, vm_ioctl(cpu.fd, KVM_KVMCLOCK_CTRL, 0));
	vcpu_close(&cpu);
}

TEST_HARNESS_MAIN
