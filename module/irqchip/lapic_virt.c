// SPDX-License-Identifier: GPL-2.0-only
/*
 * The local APIC's side of APIC virtualization by the CPU (SDM 3C, chapter 30).
 *
 * The register page of struct keel_lapic has the layout of a virtual-APIC page, so the CPU works on it directly: it
 * reads registers and, with virtual-interrupt delivery, moves vectors from IRR to ISR and ends them. The
 * vendor says which (keel_vcpu.virt_intr, virt_apic_page); what it leaves to software comes here.
 *
 * vm->apic_page is mapped at the address that local APICs have after a reset. As soon as one vCPU's is
 * elsewhere, off, or in x2APIC mode, that mapping would be wrong for that vCPU: it goes for good, and accesses
 * are emulated.
 */
#include <linux/gfp.h>

#include "lapic.h"
#include "../ops.h"

/* The vCPU's thread changed what is in service. */
void lapic_virt_update(struct keel_lapic *apic)
{
	if (apic->vcpu->virt_intr)
		keel_ops->vcpu_update(apic->vcpu, KEEL_UPDATE_APIC);
}

/**
 * keel_xapic_at_default() - is the local APIC in xAPIC mode, and where it is after a reset?
 * @vcpu: the vCPU, locked
 *
 * Return: true, or false: off, in x2APIC mode or elsewhere
 */
bool keel_xapic_at_default(const struct keel_vcpu *vcpu)
{
	return (vcpu->apic_base & (MSR_IA32_APICBASE_BASE | MSR_IA32_APICBASE_ENABLE | X2APIC_ENABLE)) ==
	       (APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE);
}

/* IA32_APIC_BASE changed. */
void lapic_virt_mode(struct keel_vcpu *vcpu)
{
	struct keel_vm *vm = vcpu->vm;

	if (!vcpu->apic)
		return;
	if (vm->apic_page && !vm->apic_page_off && !keel_xapic_at_default(vcpu)) {
		WRITE_ONCE(vm->apic_page_off, true);
		keel_request(KEEL_REQ_APIC_PAGE, vcpu);
	}
	keel_ops->vcpu_update(vcpu, KEEL_UPDATE_APIC);
}

/**
 * keel_lapic_virt_create() - the vendor wants vm->apic_page
 * @vcpu: a new vCPU
 *
 * Return: 0 or -ENOMEM
 */
int keel_lapic_virt_create(struct keel_vcpu *vcpu)
{
	void *page;

	if (READ_ONCE(vcpu->vm->apic_page))
		return 0;
	page = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!page)
		return -ENOMEM;
	if (cmpxchg(&vcpu->vm->apic_page, NULL, page))
		free_page((unsigned long)page);
	return 0;
}

/**
 * keel_lapic_set_virt_intr() - the CPU takes interrupts from the register page itself from now on, or no longer
 * @vcpu: the vCPU, locked; interrupts may be off
 * @on: it does
 */
void keel_lapic_set_virt_intr(struct keel_vcpu *vcpu, bool on)
{
	vcpu->virt_intr = on;
	if (on && vcpu->apic)
		vcpu->apic->idle = false;
}

/**
 * keel_lapic_regs_pa() - the register page
 * @vcpu: a vCPU with an in-kernel local APIC
 *
 * Return: its physical address
 */
u64 keel_lapic_regs_pa(struct keel_vcpu *vcpu)
{
	return __pa(vcpu->apic->regs);
}

/**
 * keel_lapic_written() - the CPU has written a register of the page, and its effects are ours
 * @vcpu: the vCPU, locked
 * @reg: offset of the register
 */
void keel_lapic_written(struct keel_vcpu *vcpu, u32 reg)
{
	lapic_write_xapic(vcpu->apic, reg, lapic_reg(vcpu->apic, reg));
}

/**
 * keel_lapic_eoi_done() - the CPU has ended an interrupt whose sender is to be told
 * @vcpu: the vCPU, locked
 * @vector: which
 */
void keel_lapic_eoi_done(struct keel_vcpu *vcpu, u8 vector)
{
	lapic_eoi_notify(vcpu->apic, vector);
}

/**
 * keel_lapic_eoi_vectors() - whose end must exit, of the vectors requested or in service
 * @vcpu: the vCPU, locked
 * @exits: one bit a vector
 */
void keel_lapic_eoi_vectors(struct keel_vcpu *vcpu, u64 exits[4])
{
	const struct keel_lapic *apic = vcpu->apic;
	int word, bit, vector;
	unsigned long bits;

	memset(exits, 0, 4 * sizeof(u64));
	for (word = 0; word < 8; word++) {
		bits = lapic_reg(apic, APIC_IRR + word * 0x10) | lapic_reg(apic, APIC_ISR + word * 0x10);
		for_each_set_bit(bit, &bits, 32) {
			vector = word * 32 + bit;
			if (lapic_eoi_wanted(vcpu, vector))
				exits[vector / 64] |= BIT_ULL(vector % 64);
		}
	}
}

/**
 * keel_lapic_in_service() - the highest vector in service
 * @vcpu: the vCPU, locked, with an in-kernel local APIC
 *
 * Return: the vector, or -1
 */
int keel_lapic_in_service(struct keel_vcpu *vcpu)
{
	return lapic_highest(vcpu->apic, APIC_ISR);
}
