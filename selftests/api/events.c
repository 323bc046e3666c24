// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_GET/SET_VCPU_EVENTS, KVM_GET/SET_MP_STATE, KVM_GET/SET_LAPIC and KVM_INTERRUPT, KVM_NMI from the client's
 * side (KVM API documentation, sections 4.16, 4.31, 4.32, 4.38, 4.39, 4.57, 4.58).
 */
#include <unistd.h>
#include "kselftest_harness.h"
#include "vmtest.h"
#include "x86.h"

FIXTURE(events) {
	int dev, vm;
	struct vcpu cpu;
};

FIXTURE_VARIANT(events) {
	bool irqchip;
};

FIXTURE_VARIANT_ADD(events, bare) { .irqchip = false };
FIXTURE_VARIANT_ADD(events, irqchip) { .irqchip = true };

FIXTURE_SETUP(events)
{
	self->dev = dev_open();
	self->vm = vm_create(self->dev);
	if (variant->irqchip)
		MUST(vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	vcpu_create(&self->cpu, self->dev, self->vm, 0);
	vcpu_set_supported_cpuid(&self->cpu, self->dev);
}

FIXTURE_TEARDOWN(events)
{
	vcpu_close(&self->cpu);
	close(self->vm);
	close(self->dev);
}

TEST_F(events, reset_state)
{
	struct kvm_vcpu_events e;

	memset(&e, 0xff, sizeof(e));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_EQ(0, e.exception.injected);
	EXPECT_EQ(0, e.exception.pending);
	EXPECT_EQ(0, e.interrupt.injected);
	EXPECT_EQ(0, e.interrupt.soft);
	EXPECT_EQ(0, e.interrupt.shadow);
	EXPECT_EQ(0, e.nmi.injected);
	EXPECT_EQ(0, e.nmi.pending);
	EXPECT_EQ(0, e.nmi.masked);
	EXPECT_EQ(0, e.nmi.pad);
	EXPECT_EQ(0, e.sipi_vector);
	EXPECT_EQ(0, e.smi.smm);
	EXPECT_EQ(0, e.exception_has_payload);
	EXPECT_EQ(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
		  e.flags & (KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW));
	EXPECT_EQ(0, e.flags & KVM_VCPUEVENT_VALID_PAYLOAD);
}

TEST_F(events, round_trip)
{
	struct kvm_vcpu_events a = {
		.exception = { .injected = 1, .nr = GP_VECTOR, .has_error_code = 1, .error_code = 0x1234 },
	}, b;

	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_VCPU_EVENTS, &a));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_VCPU_EVENTS, &b));
	EXPECT_EQ(1, b.exception.injected);
	EXPECT_EQ(GP_VECTOR, b.exception.nr);
	EXPECT_EQ(1, b.exception.has_error_code);
	EXPECT_EQ(0x1234, b.exception.error_code);

	memset(&a, 0, sizeof(a));
	a.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	a.interrupt.injected = 1;
	a.interrupt.nr = 0x71;
	a.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	a.nmi.pending = 1;
	a.nmi.masked = 1;
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_VCPU_EVENTS, &a));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_VCPU_EVENTS, &b));
	EXPECT_EQ(0, b.exception.injected);
	EXPECT_EQ(1, b.interrupt.injected);
	EXPECT_EQ(0x71, b.interrupt.nr);
	EXPECT_EQ(1, b.nmi.pending);
	EXPECT_EQ(1, b.nmi.masked);
	EXPECT_EQ(0, b.nmi.injected);
	/* SVM has one shadow bit for both kinds. */
	EXPECT_NE(0, b.interrupt.shadow & KVM_X86_SHADOW_INT_STI);
	/* Without the valid flags those two fields keep what they had. */
	memset(&a, 0, sizeof(a));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_VCPU_EVENTS, &a));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_VCPU_EVENTS, &b));
	EXPECT_EQ(0, b.interrupt.injected);
	EXPECT_EQ(1, b.nmi.pending);
	EXPECT_EQ(0, b.nmi.masked);
	EXPECT_NE(0, b.interrupt.shadow);
}

TEST_F(events, refusals)
{
	static const struct {
		const char *what;
		uint32_t flags;
		uint8_t injected, nr;
	} bad[] = {
		{ "unknown flag", 1 << 30, 0, 0 },
		{ "unknown flag 31", 1u << 31, 0, 0 },
		{ "payload without the capability", KVM_VCPUEVENT_VALID_PAYLOAD, 0, 0 },
		{ "triple fault without the capability", 0x20, 0, 0 },
		{ "exception 32", 0, 1, 32 },
		{ "exception 255", 0, 1, 255 },
		{ "NMI as an exception", 0, 1, NMI_VECTOR },
	};
	struct kvm_vcpu_events e, before, after;
	int i;

	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_VCPU_EVENTS, &before));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(&e, 0, sizeof(e));
		e.flags = bad[i].flags;
		e.exception.injected = bad[i].injected;
		e.exception.nr = bad[i].nr;
		EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_VCPU_EVENTS, &e)) {
			TH_LOG("%s", bad[i].what);
		}
		ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_VCPU_EVENTS, &after));
		EXPECT_EQ(0, memcmp(&before, &after, sizeof(after))) {
			TH_LOG("%s: state changed", bad[i].what);
		}
	}
}

TEST_F(events, mp_state)
{
	static const uint32_t states[] = {
		KVM_MP_STATE_HALTED, KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_INIT_RECEIVED,
	};
	struct kvm_mp_state mp = { .mp_state = 77 };
	int i;

	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_MP_STATE, &mp));
	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, mp.mp_state);
	EXPECT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_MP_STATE, &mp));
	for (i = 0; i < ARRAY_SIZE(states); i++) {
		mp.mp_state = states[i];
		/* Only an in-kernel local APIC could wake such a vCPU. */
		EXPECT_EQ(variant->irqchip ? 0 : -EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_MP_STATE, &mp)) {
			TH_LOG("state %u", states[i]);
		}
		ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_MP_STATE, &mp));
		EXPECT_EQ(variant->irqchip ? states[i] : KVM_MP_STATE_RUNNABLE, mp.mp_state);
	}
	mp.mp_state = 99;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_MP_STATE, &mp));
	mp.mp_state = KVM_MP_STATE_STOPPED;	/* s390's and arm's */
	EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_MP_STATE, &mp));
}

/* The first vCPU is the boot processor and runs; the next one waits for INIT and SIPI. */
TEST_F(events, second_vcpu)
{
	struct kvm_mp_state mp = { .mp_state = 77 };
	struct vcpu ap;

	vcpu_create(&ap, self->dev, self->vm, 1);
	ASSERT_EQ(0, vm_ioctl(ap.fd, KVM_GET_MP_STATE, &mp));
	EXPECT_EQ(variant->irqchip ? KVM_MP_STATE_UNINITIALIZED : KVM_MP_STATE_RUNNABLE, mp.mp_state);
	if (variant->irqchip) {
		EXPECT_EQ(APIC_DEFAULT_BASE | APICBASE_ENABLE, vcpu_sregs(&ap).apic_base);
		EXPECT_EQ(APIC_DEFAULT_BASE | APICBASE_ENABLE | APICBASE_BSP, vcpu_sregs(&self->cpu).apic_base);
	}
	vcpu_close(&ap);
}

static uint32_t lapic_reg(struct kvm_lapic_state *l, int reg)
{
	uint32_t v;

	memcpy(&v, l->regs + reg, 4);
	return v;
}

TEST_F(events, lapic)
{
	struct kvm_lapic_state a, b;
	uint32_t v;

	if (!variant->irqchip) {
		EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_GET_LAPIC, &a));
		memset(&a, 0, sizeof(a));
		EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_LAPIC, &a));
		return;
	}
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_LAPIC, &a));
	EXPECT_EQ(0, lapic_reg(&a, APIC_ID));
	EXPECT_EQ(0x14, lapic_reg(&a, APIC_LVR) & 0xff);
	EXPECT_EQ(0xff, lapic_reg(&a, APIC_SPIV));
	EXPECT_EQ(0xffffffff, lapic_reg(&a, APIC_DFR));
	EXPECT_EQ(0x10000, lapic_reg(&a, APIC_LVTT));
	/* The boot processor's LINT0 is set for the PIC in virtual wire mode. */
	EXPECT_EQ(0x700, lapic_reg(&a, APIC_LVT0));
	v = 0x1ff;
	memcpy(a.regs + APIC_SPIV, &v, 4);
	v = 0x20;
	memcpy(a.regs + APIC_TPR, &v, 4);
	v = 0x200ec;
	memcpy(a.regs + APIC_LVTT, &v, 4);
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_LAPIC, &a));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_LAPIC, &b));
	EXPECT_EQ(0x1ff, lapic_reg(&b, APIC_SPIV));
	EXPECT_EQ(0x20, lapic_reg(&b, APIC_TPR));
	EXPECT_EQ(0x200ec, lapic_reg(&b, APIC_LVTT));
	EXPECT_EQ(2, vcpu_sregs(&self->cpu).cr8);
}

TEST_F(events, interrupt_ioctl)
{
	struct kvm_interrupt irq = { .irq = 0x40 };
	struct kvm_vcpu_events e;

	/* The in-kernel PIC is the only source of external interrupts if there is one. */
	EXPECT_EQ(variant->irqchip ? -ENXIO : 0, vm_ioctl(self->cpu.fd, KVM_INTERRUPT, &irq));
	irq.irq = 256;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_INTERRUPT, &irq));
	irq.irq = 0xffffffff;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_INTERRUPT, &irq));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_EQ(!variant->irqchip, e.interrupt.injected);
	if (!variant->irqchip)
		EXPECT_EQ(0x40, e.interrupt.nr);
}

TEST_F(events, nmi_ioctl)
{
	struct kvm_vcpu_events e;

	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_NMI, 0));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_EQ(1, e.nmi.pending);
}

TEST_HARNESS_MAIN
