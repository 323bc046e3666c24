// SPDX-License-Identifier: GPL-2.0-only
/*
 * The in-kernel interrupt controllers and the PIT from the client's side: when they can be made, what their
 * state ioctls take and give, and what is refused without them (KVM API documentation, sections 4.24 to 4.27,
 * 4.63, 4.71, 4.72).
 */
#include <sys/mman.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "vmtest.h"
#include "x86.h"

FIXTURE(chip) {
	int dev, vm;
};

FIXTURE_SETUP(chip)
{
	self->dev = dev_open();
	self->vm = vm_create(self->dev);
}

FIXTURE_TEARDOWN(chip)
{
	close(self->vm);
	close(self->dev);
}

TEST_F(chip, create_once)
{
	EXPECT_EQ(0, vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	EXPECT_EQ(-EEXIST, vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
}

TEST_F(chip, create_after_vcpu)
{
	struct vcpu cpu;

	vcpu_create(&cpu, self->dev, self->vm, 0);
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	vcpu_close(&cpu);
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
}

TEST_F(chip, nothing_without_it)
{
	struct kvm_irq_level line = { .irq = 3, .level = 1 };
	struct kvm_irqchip irqchip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	struct kvm_pit_state2 pit = { 0 };

	EXPECT_EQ(-ENXIO, vm_ioctl(self->vm, KVM_IRQ_LINE, &line));
	EXPECT_EQ(-ENXIO, vm_ioctl(self->vm, KVM_IRQ_LINE_STATUS, &line));
	EXPECT_EQ(-ENXIO, vm_ioctl(self->vm, KVM_GET_IRQCHIP, &irqchip));
	EXPECT_EQ(-ENXIO, vm_ioctl(self->vm, KVM_SET_IRQCHIP, &irqchip));
	EXPECT_EQ(-ENXIO, vm_ioctl(self->vm, KVM_GET_PIT2, &pit));
	EXPECT_EQ(-ENXIO, vm_ioctl(self->vm, KVM_SET_PIT2, &pit));
}

TEST_F(chip, irq_line)
{
	struct kvm_irq_level line = { .irq = 3, .level = 1 };
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };

	MUST(vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_IRQ_LINE, &line));
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_GET_IRQCHIP, &chip));
	EXPECT_EQ(1 << 3, chip.chip.pic.irr & 1 << 3);
	line.level = 0;
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_IRQ_LINE, &line));
	/* Pins 8 to 15 are the second PIC's. */
	line.irq = 12;
	line.level = 1;
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_IRQ_LINE, &line));
	chip.chip_id = KVM_IRQCHIP_PIC_SLAVE;
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_GET_IRQCHIP, &chip));
	EXPECT_EQ(1 << 4, chip.chip.pic.irr & 1 << 4);
	/* Pins 16 to 23 are the I/O APIC's alone. */
	line.irq = 20;
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_IRQ_LINE, &line));
	chip.chip_id = KVM_IRQCHIP_IOAPIC;
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_GET_IRQCHIP, &chip));
	EXPECT_EQ(1 << 20, chip.chip.ioapic.irr & 1 << 20);
	line.irq = 24;
	EXPECT_EQ(0, vm_ioctl(self->vm, KVM_IRQ_LINE, &line));
	line.irq = 0xffffffff;
	EXPECT_EQ(0, vm_ioctl(self->vm, KVM_IRQ_LINE, &line));
}

TEST_F(chip, irqchip_state)
{
	struct kvm_irqchip a = { 0 }, b = { 0 };
	int i;

	MUST(vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	for (i = KVM_IRQCHIP_PIC_MASTER; i <= KVM_IRQCHIP_PIC_SLAVE; i++) {
		a.chip_id = i;
		ASSERT_EQ(0, vm_ioctl(self->vm, KVM_GET_IRQCHIP, &a));
		a.chip.pic.imr = 0xfb;
		a.chip.pic.irq_base = 0x30 + 8 * i;
		a.chip.pic.elcr = i ? 0x08 : 0x20;	/* two of the lines that can be level triggered */
		a.chip.pic.auto_eoi = 1;
		ASSERT_EQ(0, vm_ioctl(self->vm, KVM_SET_IRQCHIP, &a));
		b.chip_id = i;
		ASSERT_EQ(0, vm_ioctl(self->vm, KVM_GET_IRQCHIP, &b));
		EXPECT_EQ(0, memcmp(&a.chip.pic, &b.chip.pic, sizeof(a.chip.pic)));
	}
	a.chip_id = KVM_IRQCHIP_IOAPIC;
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_GET_IRQCHIP, &a));
	EXPECT_EQ(0xfec00000, a.chip.ioapic.base_address);
	for (i = 0; i < KVM_IOAPIC_NUM_PINS; i++) {
		/* All masked at first. */
		EXPECT_EQ(1 << 16, a.chip.ioapic.redirtbl[i].bits & 1 << 16);
	}
	a.chip.ioapic.id = 5;
	a.chip.ioapic.redirtbl[4].bits = 0x0100000000010934;
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_SET_IRQCHIP, &a));
	b.chip_id = KVM_IRQCHIP_IOAPIC;
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_GET_IRQCHIP, &b));
	EXPECT_EQ(5, b.chip.ioapic.id);
	EXPECT_EQ(0x0100000000010934, b.chip.ioapic.redirtbl[4].bits);
	a.chip_id = 3;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_GET_IRQCHIP, &a));
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_SET_IRQCHIP, &a));
	a.chip_id = 0xffffffff;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_GET_IRQCHIP, &a));
}

TEST_F(chip, pit)
{
	struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct kvm_pit_state2 a, b;

	MUST(vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	memset(&a, 0xff, sizeof(a));
	EXPECT_EQ(-ENXIO, vm_ioctl(self->vm, KVM_GET_PIT2, &a));
	EXPECT_EQ(0, vm_ioctl(self->vm, KVM_CREATE_PIT2, &config));
	EXPECT_EQ(-EEXIST, vm_ioctl(self->vm, KVM_CREATE_PIT2, &config));
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_GET_PIT2, &a));
	/* Reset: no mode yet, and the largest count, which is written as 0 and kept as 0x10000. */
	EXPECT_EQ(0xff, a.channels[0].mode);
	EXPECT_EQ(0x10000, a.channels[0].count);
	EXPECT_EQ(1, a.channels[0].gate);
	EXPECT_EQ(0, a.channels[2].gate);
	a.channels[2].count = 0x1234;
	a.channels[2].mode = 0;
	a.channels[1].count = 0x4321;
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_SET_PIT2, &a));
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_GET_PIT2, &b));
	EXPECT_EQ(0x1234, b.channels[2].count);
	EXPECT_EQ(0, b.channels[2].mode);
	EXPECT_EQ(0x4321, b.channels[1].count);
	EXPECT_EQ(a.flags, b.flags);
}

TEST_F(chip, routing)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[2];
	} r = { .head.nr = 1 };

	/* How many GSIs there can be: clients number theirs by it. */
	EXPECT_EQ(4096, vm_cap(self->dev, KVM_CAP_IRQ_ROUTING));
	r.entries[0].gsi = 5;
	r.entries[0].type = KVM_IRQ_ROUTING_IRQCHIP;
	r.entries[0].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
	r.entries[0].u.irqchip.pin = 5;
	MUST(vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	EXPECT_EQ(0, vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &r));
	r.head.flags = 1;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &r));
	r.head.flags = 0;
	r.entries[0].u.irqchip.pin = 24;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &r));
	r.entries[0].u.irqchip.pin = 5;
	r.entries[0].u.irqchip.irqchip = 9;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &r));
	r.entries[0].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
	r.entries[0].type = 99;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &r));
	r.entries[0].type = KVM_IRQ_ROUTING_IRQCHIP;
	r.entries[0].gsi = 0xffffffff;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &r));
	r.head.nr = 0xffffffff;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &r));
	EXPECT_EQ(-EFAULT, vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, BAD_PTR));
}

TEST_F(chip, tss_and_identity_addresses)
{
	uint64_t addr = 0xfffbc000;
	struct vcpu cpu;

	EXPECT_EQ(0, vm_ioctl(self->vm, KVM_SET_TSS_ADDR, 0xfffbd000UL));
	if (vm_cap(self->dev, KVM_CAP_SET_IDENTITY_MAP_ADDR)) {
		EXPECT_EQ(0, vm_ioctl(self->vm, KVM_SET_IDENTITY_MAP_ADDR, &addr));
		EXPECT_EQ(-EFAULT, vm_ioctl(self->vm, KVM_SET_IDENTITY_MAP_ADDR, BAD_PTR));
		vcpu_create(&cpu, self->dev, self->vm, 0);
		EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_SET_IDENTITY_MAP_ADDR, &addr));
		vcpu_close(&cpu);
	}
	/* Three pages that would wrap. */
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_SET_TSS_ADDR, 0xffffe000UL));
}

TEST_HARNESS_MAIN
