// SPDX-License-Identifier: GPL-2.0-only
/*
 * The local APIC's registers (SDM 3A, chapter 11; APM 2, chapter 16): memory-mapped and as x2APIC
 * MSRs, interrupt priority and acceptance, the APIC base, and the client's KVM_GET_LAPIC and
 * KVM_SET_LAPIC.
 *
 * One struct keel_lapic a vCPU. Everything here runs in the vCPU's thread with vcpu->mutex held,
 * with interrupts on or off, but for keel_lapic_takes_extint(), which only reads. No lock: lapic.h
 * says who writes what.
 *
 * The register page has the layout of KVM's ABI: 16 bytes a register, ICR in two halves in both
 * modes, APIC ID in bits 31:24 in xAPIC mode and as a 32-bit number in x2APIC mode.
 */
#include <linux/slab.h>
#include <asm/mce.h>

#include "lapic.h"

#define LAPIC_VERSION		0x14

#define LVT_COMMON		(APIC_LVT_MASKED | APIC_SEND_PENDING | APIC_VECTOR_MASK)
#define LVT_LINT		(LVT_COMMON | APIC_MODE_MASK | APIC_INPUT_POLARITY | \
				 APIC_LVT_REMOTE_IRR | APIC_LVT_LEVEL_TRIGGER)
#define SPIV_BITS		0x3ff
#define SPIV_DIRECTED_EOI	BIT(12)
#define TDCR_BITS		0xb
#define X2APIC_MSR(reg)		(APIC_BASE_MSR + ((reg) >> 4))
#define X2APIC_ICR_RESERVED	(GENMASK_ULL(31, 20) | GENMASK_ULL(17, 16) | BIT_ULL(13))

/* Bits that each local vector table entry has, in register order; the timer's mode comes on top. */
static const u32 lvt_bits[LAPIC_NR_LVT] = {
	LVT_COMMON,			/* timer */
	LVT_COMMON | APIC_MODE_MASK,	/* thermal */
	LVT_COMMON | APIC_MODE_MASK,	/* performance counters */
	LVT_LINT,			/* LINT0 */
	LVT_LINT,			/* LINT1 */
	LVT_COMMON,			/* error */
	LVT_COMMON | APIC_MODE_MASK,	/* CMCI */
};

/* Readable registers, one bit for each 16 bytes. */
#define REG_BIT(reg)		BIT_ULL((reg) >> 4)
#define REG_BITS(reg, n)	(((1ULL << (n)) - 1) << ((reg) >> 4))
#define REGS_READABLE							\
	(REG_BIT(APIC_ID) | REG_BIT(APIC_LVR) | REG_BIT(APIC_TASKPRI) |	\
	 REG_BIT(APIC_PROCPRI) | REG_BIT(APIC_LDR) | REG_BIT(APIC_SPIV) | \
	 REG_BITS(APIC_ISR, 8) | REG_BITS(APIC_TMR, 8) | REG_BITS(APIC_IRR, 8) | \
	 REG_BIT(APIC_ESR) | REG_BIT(APIC_ICR) | REG_BITS(APIC_LVTT, LAPIC_LVT_CMCI) | \
	 REG_BIT(APIC_TMICT) | REG_BIT(APIC_TMCCT) | REG_BIT(APIC_TDCR))
#define REGS_XAPIC_ONLY		(REG_BIT(APIC_ARBPRI) | REG_BIT(APIC_DFR) | REG_BIT(APIC_ICR2))

/* The highest vector in IRR or ISR, -1: none. */
int lapic_highest(const struct keel_lapic *apic, u32 reg)
{
	int word;
	u32 bits;

	/* Mostly there is none, and this is asked at every entry. */
#pragma GCC unroll 8
	for (word = 7; word >= 0; word--) {
		bits = lapic_reg(apic, reg + word * 0x10);
		if (bits)
			return word * 32 + __fls(bits);
	}
	return -1;
}

/* The highest vector in service, -1: none. */
static __always_inline int lapic_in_service(struct keel_lapic *apic)
{
	int vector;

	if (apic->idle)
		return -1;
	vector = lapic_highest(apic, APIC_ISR);
	apic->idle = vector < 0 && !apic->vcpu->virt_intr;
	return vector;
}

/*
 * Processor priority: the higher class of TPR and of the interrupt in service (SDM 3A, 11.8.3.1).
 */
u32 lapic_update_ppr(struct keel_lapic *apic)
{
	u32 tpr = lapic_reg(apic, APIC_TASKPRI) & 0xff;
	int isr = lapic_in_service(apic);
	u32 in_service = isr < 0 ? 0 : isr & 0xf0;
	u32 ppr = (tpr & 0xf0) >= in_service ? tpr : in_service;

	lapic_set_reg(apic, APIC_PROCPRI, ppr);
	return ppr;
}

static void lapic_set_tpr(struct keel_lapic *apic, u32 tpr)
{
	if (lapic_reg(apic, APIC_TASKPRI) == tpr)
		return;
	lapic_set_reg(apic, APIC_TASKPRI, tpr);
	lapic_update_ppr(apic);
	keel_request(KEEL_REQ_EVENT, apic->vcpu);
}

static int lapic_nr_lvt(const struct keel_lapic *apic)
{
	return apic->vcpu->mcg_cap & MCG_CMCI_P ? LAPIC_NR_LVT : LAPIC_LVT_CMCI;
}

static u32 lapic_lvt_reg(int i)
{
	return i == LAPIC_LVT_CMCI ? APIC_LVTCMCI : APIC_LVTT + i * 0x10;
}

/*
 * The guest may suppress the broadcast of EOIs (SDM 3A, 11.8.5) where the I/O APIC has an EOI
 * register to be used instead.
 */
static u32 lapic_version(const struct keel_lapic *apic)
{
	const struct keel_irqchip *chip = &apic->vcpu->vm->irqchip;
	bool directed = chip->directed_eoi || chip->mode == KEEL_IRQCHIP_SPLIT;
	u32 version = LAPIC_VERSION | (lapic_nr_lvt(apic) - 1) << 16;

	if (directed && keel_guest_has(apic->vcpu, KEEL_F_X2APIC))
		version |= APIC_LVR_DIRECTED_EOI;
	return version;
}

/**
 * keel_lapic_cpuid_changed() - what the guest's CPUID decides of the local APIC; the CPU may read the page itself
 * @vcpu: the vCPU, locked; with or without an in-kernel local APIC
 */
void keel_lapic_cpuid_changed(struct keel_vcpu *vcpu)
{
	if (vcpu->apic)
		lapic_set_reg(vcpu->apic, APIC_LVR, lapic_version(vcpu->apic));
}

/**
 * keel_lapic_mcg_cap_changed() - what MCG_CAP decides of the local APIC: whether there is an LVT entry for CMCIs
 * @vcpu: the vCPU, locked; with or without an in-kernel local APIC
 */
void keel_lapic_mcg_cap_changed(struct keel_vcpu *vcpu)
{
	u32 version;

	if (!vcpu->apic)
		return;
	version = lapic_version(vcpu->apic);
	if (lapic_reg(vcpu->apic, APIC_LVR) == version)
		return;
	lapic_set_reg(vcpu->apic, APIC_LVTCMCI, vcpu->mcg_cap & MCG_CMCI_P ? APIC_LVT_MASKED : 0);
	lapic_set_reg(vcpu->apic, APIC_LVR, version);
}

static u32 lapic_spiv_bits(const struct keel_lapic *apic)
{
	return lapic_version(apic) & APIC_LVR_DIRECTED_EOI ? SPIV_BITS | SPIV_DIRECTED_EOI :
							     SPIV_BITS;
}

/* Is the end of an interrupt with @vector news to an I/O APIC, ours or (split irqchip) the client's? */
bool lapic_eoi_wanted(struct keel_vcpu *vcpu, u8 vector)
{
	if (keel_irqchip_split_mode(&vcpu->vm->irqchip))
		return keel_client_wants_eoi(vcpu, vector);
	return keel_ioapic_handles(vcpu->vm, vector);
}

/* The interrupt with @vector has ended: whoever sent it may want to know. */
void lapic_eoi_notify(struct keel_lapic *apic, u8 vector)
{
	struct keel_vm *vm = apic->vcpu->vm;
	bool level = lapic_test_vec(apic, APIC_TMR, vector);

	if (!lapic_eoi_wanted(apic->vcpu, vector)) {
		/* nobody asked */
	} else if (keel_irqchip_split_mode(&vm->irqchip)) {
		apic->vcpu->eoi_vector = vector;
		keel_request(KEEL_REQ_EOI_EXIT, apic->vcpu);
	} else if (!(level && (lapic_reg(apic, APIC_SPIV) & SPIV_DIRECTED_EOI))) {
		keel_ioapic_eoi(vm, vector, level);
	}
	if (keel_lapic_pending(apic->vcpu) >= 0)
		keel_request(KEEL_REQ_EVENT, apic->vcpu);
}

/* An EOI without an interrupt in service has no effect. */
static void lapic_eoi(struct keel_lapic *apic)
{
	int vector = lapic_in_service(apic);

	if (vector < 0)
		return;
	__clear_bit(vector % 32, lapic_vec_word(apic, APIC_ISR, vector));
	apic->idle = !apic->vcpu->virt_intr && lapic_highest(apic, APIC_ISR) < 0;
	lapic_virt_update(apic);
	lapic_eoi_notify(apic, vector);
}

static noinline int lapic_end(struct keel_lapic *apic)
{
	lapic_eoi(apic);
	return 0;
}

/**
 * keel_lapic_eoi_is_quiet() - would the EOI of the interrupt in service change nothing but that?
 * @vcpu: the vCPU, locked, with an in-kernel local APIC; interrupts may be off
 *
 * Return: false if another interrupt waits for it, or the controller or the client that sent it
 */
bool keel_lapic_eoi_is_quiet(struct keel_vcpu *vcpu)
{
	struct keel_lapic *apic = vcpu->apic;
	int vector = lapic_in_service(apic);

	if (vector < 0 || lapic_highest(apic, APIC_IRR) >= 0 || lapic_test_vec(apic, APIC_TMR, vector))
		return false;
	return !lapic_eoi_wanted(vcpu, vector);
}

/**
 * keel_lapic_eoi() - end of interrupt, as if the register were written
 * @vcpu: the vCPU, locked, with an in-kernel local APIC; interrupts may be off
 */
void keel_lapic_eoi(struct keel_vcpu *vcpu)
{
	lapic_eoi(vcpu->apic);
}

/* Keeps count of the local APICs that the PIT serves as NMI watchdog. */
static void lapic_track_lint0(struct keel_lapic *apic)
{
	u32 lvt0 = lapic_reg(apic, APIC_LVT0);
	bool nmi = (lvt0 & (APIC_MODE_MASK | APIC_LVT_MASKED)) == APIC_DM_NMI;

	if (apic->lint0_nmi == nmi)
		return;
	WRITE_ONCE(apic->lint0_nmi, nmi);
	if (nmi)
		atomic_inc(&apic->vcpu->vm->irqchip.lint0_nmi);
	else
		atomic_dec(&apic->vcpu->vm->irqchip.lint0_nmi);
}

static u32 lapic_lvt_bits(const struct keel_lapic *apic, u32 reg)
{
	u32 bits = lvt_bits[reg == APIC_LVTCMCI ? LAPIC_LVT_CMCI : (reg - APIC_LVTT) >> 4];

	return reg == APIC_LVTT ? bits | lapic_timer_mode_mask(apic) : bits;
}

static void lapic_write_lvt(struct keel_lapic *apic, u32 reg, u32 val)
{
	if (!lapic_sw_enabled(apic))
		val |= APIC_LVT_MASKED;
	lapic_set_reg(apic, reg, val & lapic_lvt_bits(apic, reg));
	if (reg == APIC_LVTT)
		lapic_timer_set_mode(apic);
	else if (reg == APIC_LVT0)
		lapic_track_lint0(apic);
}

/*
 * While the APIC is disabled by software, all of the local vector table is masked (SDM 3A,
 * 11.4.7.2).
 */
static void lapic_write_spiv(struct keel_lapic *apic, u32 val)
{
	u32 reg;
	int i;

	lapic_set_reg(apic, APIC_SPIV, val & lapic_spiv_bits(apic));
	if (val & APIC_SPIV_APIC_ENABLED)
		return;
	for (i = 0; i < lapic_nr_lvt(apic); i++) {
		reg = lapic_lvt_reg(i);
		lapic_write_lvt(apic, reg, lapic_reg(apic, reg));
	}
	atomic_set(&apic->timer.pending, 0);
}

static void lapic_write_icr(struct keel_lapic *apic, u32 low, u32 high)
{
	low &= ~APIC_ICR_BUSY;
	lapic_set_reg(apic, APIC_ICR, low);
	lapic_set_reg(apic, APIC_ICR2, high);
	lapic_send_ipi(apic, low, high);
}

/* Registers that both modes write alike; false when @reg is none of them. */
static bool lapic_write_common(struct keel_lapic *apic, u32 reg, u32 val)
{
	switch (reg) {
	case APIC_TASKPRI:
		lapic_set_tpr(apic, val & 0xff);
		return true;
	case APIC_EOI:
		lapic_eoi(apic);
		return true;
	case APIC_SPIV:
		lapic_write_spiv(apic, val);
		return true;
	case APIC_ESR:
		/* A write moves the errors since the last one into view. */
		lapic_set_reg(apic, APIC_ESR, atomic_xchg(&apic->errors, 0));
		return true;
	case APIC_LVTT:
	case APIC_LVTTHMR:
	case APIC_LVTPC:
	case APIC_LVT0:
	case APIC_LVT1:
	case APIC_LVTERR:
		lapic_write_lvt(apic, reg, val);
		return true;
	case APIC_LVTCMCI:
		if (lapic_nr_lvt(apic) <= LAPIC_LVT_CMCI)
			return false;
		lapic_write_lvt(apic, reg, val);
		return true;
	case APIC_TMICT:
		lapic_timer_set_count(apic, val);
		return true;
	case APIC_TDCR:
		lapic_timer_set_divide(apic, val);
		return true;
	default:
		return false;
	}
}

void lapic_write_xapic(struct keel_lapic *apic, u32 reg, u32 val)
{
	switch (reg) {
	case APIC_ID:
		lapic_set_reg(apic, APIC_ID, val & 0xff000000);
		break;
	case APIC_LDR:
		lapic_set_reg(apic, APIC_LDR, val & APIC_LDR_MASK);
		break;
	case APIC_DFR:
		lapic_set_reg(apic, APIC_DFR, val | 0x0fffffff);
		break;
	case APIC_ICR:
		lapic_write_icr(apic, val, lapic_reg(apic, APIC_ICR2));
		break;
	case APIC_ICR2:
		lapic_set_reg(apic, APIC_ICR2, val & 0xff000000);
		break;
	case APIC_LVR:
	case APIC_ARBPRI:
	case APIC_PROCPRI:
	case APIC_RRR:
	case APIC_TMCCT:
	case APIC_ISR ... APIC_IRR + 0x70:
		break;			/* read-only */
	default:
		if (!lapic_write_common(apic, reg, val))
			lapic_error(apic, APIC_ESR_ILLREGA);
	}
}

static bool lapic_readable(const struct keel_lapic *apic, u32 reg)
{
	u64 regs = REGS_READABLE | (lapic_x2apic(apic) ? 0 : REGS_XAPIC_ONLY);

	if (lapic_nr_lvt(apic) > LAPIC_LVT_CMCI)
		regs |= REG_BIT(APIC_LVTCMCI);
	return reg < KVM_APIC_REG_SIZE && (regs & REG_BIT(reg));
}

/* A register that lapic_readable() allows. */
static u32 lapic_read(struct keel_lapic *apic, u32 reg)
{
	switch (reg) {
	case APIC_ARBPRI:
		return 0;
	case APIC_TMCCT:
		return lapic_timer_count(apic);
	case APIC_PROCPRI:
		return lapic_update_ppr(apic);
	default:
		return lapic_reg(apic, reg);
	}
}

/**
 * keel_lapic_mmio() - a memory access that may be to the vCPU's own local APIC (SDM 3A, 11.4.1)
 * @vcpu: the vCPU, locked
 * @gpa: first byte
 * @len: bytes
 * @data: what to write, or where the result goes
 * @write: direction
 *
 * Registers are written by aligned 32-bit accesses; others are ignored. Reads may be narrower.
 * Where the page belongs to an APIC that is disabled or in x2APIC mode it reads as ones, as in KVM.
 *
 * Return: 0, or -EOPNOTSUPP when there is no local APIC at @gpa
 */
int keel_lapic_mmio(struct keel_vcpu *vcpu, u64 gpa, unsigned int len, void *data, bool write)
{
	struct keel_lapic *apic = vcpu->apic;
	u64 base = vcpu->apic_base & MSR_IA32_APICBASE_BASE;
	u32 offset, val;

	if (!apic || gpa < base || gpa - base >= PAGE_SIZE)
		return -EOPNOTSUPP;
	offset = gpa - base;

	if (!lapic_hw_enabled(apic) || lapic_x2apic(apic)) {
		if (!write)
			memset(data, 0xff, len);
		return 0;
	}
	if (write) {
		if (len == 4 && !(offset & 0xf)) {
			memcpy(&val, data, 4);
			lapic_write_xapic(apic, offset, val);
		}
		return 0;
	}

	memset(data, 0, len);
	if ((offset & 0xf) + len > 4)
		return 0;
	if (!lapic_readable(apic, offset & ~0xf)) {
		lapic_error(apic, APIC_ESR_ILLREGA);
		return 0;
	}
	val = lapic_read(apic, offset & ~0xf);
	memcpy(data, (u8 *)&val + (offset & 0xf), len);
	return 0;
}

/**
 * keel_lapic_msr_get() - read an x2APIC register (SDM 3A, 11.12.1.2)
 * @vcpu: the vCPU, locked
 * @msr: 0x800 to 0x8ff
 * @val: result
 *
 * Return: 0, or -EINVAL: #GP
 */
int keel_lapic_msr_get(struct keel_vcpu *vcpu, u32 msr, u64 *val)
{
	struct keel_lapic *apic = vcpu->apic;
	u32 reg = (msr - APIC_BASE_MSR) << 4;

	if (!apic || !lapic_x2apic(apic) || !lapic_readable(apic, reg))
		return -EINVAL;
	*val = lapic_read(apic, reg);
	if (reg == APIC_ICR)
		*val |= (u64)lapic_reg(apic, APIC_ICR2) << 32;
	return 0;
}

/* Bits that may be written to @reg in x2APIC mode; 0 also for registers that take nothing but 0. */
static u32 lapic_x2apic_bits(const struct keel_lapic *apic, u32 reg)
{
	switch (reg) {
	case APIC_SELF_IPI:
		return 0xff;
	case APIC_SPIV:
		return lapic_spiv_bits(apic);
	case APIC_LVTCMCI:
	case APIC_LVTT ... APIC_LVTERR:
		return lapic_lvt_bits(apic, reg);
	case APIC_TMICT:
		return ~0U;
	case APIC_TDCR:
		return TDCR_BITS;
	default:
		return 0;
	}
}

/* The others of the registers that keel_lapic_msr_set() writes. */
static noinline int lapic_write_x2apic(struct keel_lapic *apic, u32 reg, u64 val)
{
	if (reg == APIC_TASKPRI && !(val & ~0xffULL)) {
		lapic_set_tpr(apic, val);
		return 0;
	}
	if (val & ~(u64)lapic_x2apic_bits(apic, reg))
		return -EINVAL;
	if (reg == APIC_SELF_IPI) {
		lapic_send_self(apic, val);
		return 0;
	}
	return lapic_write_common(apic, reg, val) ? 0 : -EINVAL;
}

/**
 * keel_lapic_msr_set() - write an x2APIC register (SDM 3A, 11.12.1.2 and 11.12.1.3)
 * @vcpu: the vCPU, locked
 * @msr: 0x800 to 0x8ff
 * @val: value
 *
 * Return: 0, or -EINVAL: #GP, for a read-only or absent register or a reserved bit
 */
int keel_lapic_msr_set(struct keel_vcpu *vcpu, u32 msr, u64 val)
{
	struct keel_lapic *apic = vcpu->apic;

	if (!apic || !lapic_x2apic(apic))
		return -EINVAL;
	/* Those that are written all the time. */
	if (msr == X2APIC_MSR(APIC_EOI)) {
		if (val)
			return -EINVAL;
		return apic->idle ? 0 : lapic_end(apic);
	}
	if (msr == X2APIC_MSR(APIC_ICR)) {
		if (val & X2APIC_ICR_RESERVED)
			return -EINVAL;
		lapic_send_x2apic(apic, val);
		return 0;
	}
	return lapic_write_x2apic(apic, (msr - APIC_BASE_MSR) << 4, val);
}

/**
 * keel_lapic_get_base() - IA32_APIC_BASE
 * @vcpu: the vCPU, locked; with or without an in-kernel local APIC
 */
u64 keel_lapic_get_base(struct keel_vcpu *vcpu)
{
	return vcpu->apic_base;
}

static void lapic_write_base(struct keel_vcpu *vcpu, u64 val)
{
	struct keel_lapic *apic = vcpu->apic;
	u64 changed = vcpu->apic_base ^ val;

	/* A mode is entered with its own form of the id; x2APIC mode also fixes the logical id. */
	if (apic && (changed & (MSR_IA32_APICBASE_ENABLE | X2APIC_ENABLE))) {
		if (val & X2APIC_ENABLE) {
			lapic_set_reg(apic, APIC_ID, vcpu->id);
			lapic_set_reg(apic, APIC_LDR, lapic_x2apic_ldr(vcpu->id));
		} else if (val & MSR_IA32_APICBASE_ENABLE) {
			lapic_set_reg(apic, APIC_ID, vcpu->id << 24);
		}
	}
	WRITE_ONCE(vcpu->apic_base, val);
	vcpu->eoi_gpa = ~0ULL;
	if (apic && lapic_hw_enabled(apic) && !lapic_x2apic(apic))
		vcpu->eoi_gpa = (val & MSR_IA32_APICBASE_BASE) + APIC_EOI;
	if (changed & MSR_IA32_APICBASE_ENABLE)
		keel_cpuid_refresh(vcpu);
	lapic_virt_mode(vcpu);
	keel_request(KEEL_REQ_EVENT, vcpu);
}

/**
 * keel_lapic_set_base() - write IA32_APIC_BASE (SDM 3A, 11.4.4 and 11.12.5)
 * @vcpu: the vCPU, locked; with or without an in-kernel local APIC
 * @val: value
 * @host: by the client, which may change between any two valid modes
 *
 * Return: 0, or -EINVAL (#GP) for a reserved bit, a mode that does not exist or a forbidden
 * transition
 */
int keel_lapic_set_base(struct keel_vcpu *vcpu, u64 val, bool host)
{
	u64 old = vcpu->apic_base;
	u64 valid = GENMASK_ULL((vcpu->cpuid.maxphyaddr ?: 36) - 1, 12) | MSR_IA32_APICBASE_ENABLE |
		    MSR_IA32_APICBASE_BSP;
	bool x2apic = val & X2APIC_ENABLE;

	if (keel_guest_has(vcpu, KEEL_F_X2APIC))
		valid |= X2APIC_ENABLE;
	if ((val & ~valid) || (x2apic && !(val & MSR_IA32_APICBASE_ENABLE)))
		return -EINVAL;
	if (!host) {
		/* Out of x2APIC mode only by way of disabled, into it only from xAPIC mode. */
		if ((old & X2APIC_ENABLE) && !x2apic && (val & MSR_IA32_APICBASE_ENABLE))
			return -EINVAL;
		if (!(old & MSR_IA32_APICBASE_ENABLE) && x2apic)
			return -EINVAL;
	}
	lapic_write_base(vcpu, val);
	return 0;
}

/**
 * keel_lapic_get_cr8() - the task priority as CR8 shows it: bits 7:4 of TPR
 * @vcpu: the vCPU, locked
 */
u64 keel_lapic_get_cr8(struct keel_vcpu *vcpu)
{
	if (!vcpu->apic)
		return vcpu->cr8;
	return (lapic_reg(vcpu->apic, APIC_TASKPRI) & 0xf0) >> 4;
}

/**
 * keel_lapic_set_cr8() - set the task priority class; the subclass becomes 0
 * @vcpu: the vCPU, locked
 * @cr8: 0 to 15; the caller has checked reserved bits
 */
void keel_lapic_set_cr8(struct keel_vcpu *vcpu, u64 cr8)
{
	if (!vcpu->apic)
		vcpu->cr8 = cr8;
	else
		lapic_set_tpr(vcpu->apic, (cr8 & 0xf) << 4);
}

/**
 * keel_lapic_highest_irr() - the highest requested vector, whatever its priority
 * @vcpu: the vCPU, locked
 *
 * Return: the vector, or -1
 */
int keel_lapic_highest_irr(struct keel_vcpu *vcpu)
{
	return vcpu->apic ? lapic_highest(vcpu->apic, APIC_IRR) : -1;
}

/**
 * keel_lapic_pending() - the vector that the processor would be given now (SDM 3A, 11.8.3)
 * @vcpu: the vCPU, locked
 *
 * Return: the vector, or -1 when none is above the processor priority
 */
int keel_lapic_pending(struct keel_vcpu *vcpu)
{
	struct keel_lapic *apic = vcpu->apic;
	int irr;

	if (!apic || !lapic_hw_enabled(apic))
		return -1;
	irr = lapic_highest(apic, APIC_IRR);
	if (irr < 0 || (irr & 0xf0) <= (lapic_update_ppr(apic) & 0xf0))
		return -1;
	return irr;
}

/**
 * keel_lapic_ack() - the processor takes @vector: from requested to in service
 * @vcpu: the vCPU, locked
 * @vector: from keel_lapic_pending()
 */
void keel_lapic_ack(struct keel_vcpu *vcpu, u8 vector)
{
	struct keel_lapic *apic = vcpu->apic;

	lapic_clear_vec(apic, APIC_IRR, vector);
	__set_bit(vector % 32, lapic_vec_word(apic, APIC_ISR, vector));
	apic->idle = false;
	lapic_update_ppr(apic);
	lapic_virt_update(apic);
	vcpu->pv.eoi_wanted = true;
}

/**
 * keel_lapic_takes_extint() - does this processor listen to the PIC's output line?
 * @vcpu: the vCPU; callable from any thread
 *
 * Return: true with LINT0 in ExtINT mode and unmasked, or with the local APIC disabled (SDM 3A,
 * 11.4.3: LINT0 then is the INTR pin)
 */
bool keel_lapic_takes_extint(struct keel_vcpu *vcpu)
{
	struct keel_lapic *apic = vcpu->apic;
	u32 lvt0;

	if (!apic)
		return false;
	if (!lapic_hw_enabled(apic))
		return true;
	lvt0 = lapic_reg(apic, APIC_LVT0);
	return (lvt0 & (APIC_LVT_MASKED | APIC_MODE_MASK)) == APIC_DM_EXTINT;
}

/**
 * keel_lapic_get_state() - KVM_GET_LAPIC
 * @vcpu: the vCPU, locked
 * @state: result; x2APIC ids are in bits 31:24 unless the client chose KVM_X2APIC_API_USE_32BIT_IDS
 *
 * Return: 0, or -EINVAL without an in-kernel local APIC
 */
int keel_lapic_get_state(struct keel_vcpu *vcpu, struct kvm_lapic_state *state)
{
	struct keel_lapic *apic = vcpu->apic;

	if (!apic)
		return -EINVAL;
	/* A timer that has expired would not be seen again: its interrupt counts as raised. */
	if (keel_check_request(KEEL_REQ_TIMER, vcpu))
		keel_lapic_inject_timer(vcpu);
	memcpy(state->regs, apic->regs, sizeof(state->regs));
	*(u32 *)(state->regs + APIC_TMCCT) = lapic_timer_count(apic);
	if (lapic_x2apic(apic) && !vcpu->vm->irqchip.x2apic_format)
		*(u32 *)(state->regs + APIC_ID) <<= 24;
	return 0;
}

/**
 * keel_lapic_set_state() - KVM_SET_LAPIC
 * @vcpu: the vCPU, locked
 * @state: registers as keel_lapic_get_state() gives them; the timer continues from TMCCT
 *
 * Return: 0, or -EINVAL without an in-kernel local APIC or for a wrong 32-bit x2APIC id
 */
int keel_lapic_set_state(struct keel_vcpu *vcpu, const struct kvm_lapic_state *state)
{
	struct keel_lapic *apic = vcpu->apic;
	u32 reg;
	int i;

	if (!apic)
		return -EINVAL;
	if (lapic_x2apic(apic) && vcpu->vm->irqchip.x2apic_format &&
	    *(u32 *)(state->regs + APIC_ID) != vcpu->id)
		return -EINVAL;

	memcpy(apic->regs, state->regs, sizeof(state->regs));
	apic->idle = false;
	lapic_set_reg(apic, APIC_LVR, lapic_version(apic));
	if (lapic_x2apic(apic)) {
		/* Both are read-only in x2APIC mode. */
		lapic_set_reg(apic, APIC_ID, vcpu->id);
		lapic_set_reg(apic, APIC_LDR, lapic_x2apic_ldr(vcpu->id));
	}
	for (i = 0; i < lapic_nr_lvt(apic); i++) {
		reg = lapic_lvt_reg(i);
		lapic_set_reg(apic, reg, lapic_reg(apic, reg) & lapic_lvt_bits(apic, reg));
	}
	lapic_track_lint0(apic);
	lapic_timer_restore(apic);
	lapic_update_ppr(apic);
	keel_request(KEEL_REQ_EVENT, vcpu);
	return 0;
}

/**
 * keel_lapic_reset() - the local APIC after power-up or INIT (SDM 3A, 11.4.7.1 and 11.4.7.3)
 * @vcpu: the vCPU, locked; with or without an in-kernel local APIC
 * @init: by INIT, which keeps the APIC base and with it x2APIC mode, and the APIC id
 */
void keel_lapic_reset(struct keel_vcpu *vcpu, bool init)
{
	struct keel_lapic *apic = vcpu->apic;
	bool bsp = vcpu->id == vcpu->vm->bsp_id;
	u32 reg;
	int i;

	if (!init) {
		vcpu->cr8 = 0;
		lapic_write_base(vcpu, APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE |
				       (bsp ? MSR_IA32_APICBASE_BSP : 0));
	}
	if (!apic)
		return;

	if (!init)
		lapic_set_reg(apic, APIC_ID, vcpu->id << 24);
	for (reg = APIC_LVR; reg < KVM_APIC_REG_SIZE; reg += 0x10)
		lapic_set_reg(apic, reg, 0);
	lapic_set_reg(apic, APIC_LVR, lapic_version(apic));
	lapic_set_reg(apic, APIC_DFR, APIC_DFR_FLAT);
	lapic_set_reg(apic, APIC_SPIV, 0xff);
	for (i = 0; i < lapic_nr_lvt(apic); i++)
		lapic_set_reg(apic, lapic_lvt_reg(i), APIC_LVT_MASKED);
	/* Virtual wire mode without a BIOS that sets it up, as KVM has it. */
	if (bsp && keel_quirk(vcpu, KVM_X86_QUIRK_LINT0_REENABLED))
		lapic_set_reg(apic, APIC_LVT0, APIC_DM_EXTINT);
	if (lapic_x2apic(apic))
		lapic_set_reg(apic, APIC_LDR, lapic_x2apic_ldr(vcpu->id));
	atomic_set(&apic->errors, 0);
	atomic_set(&apic->nmis, 0);
	lapic_track_lint0(apic);
	lapic_timer_stop(apic);
}

/**
 * keel_lapic_create() - give @vcpu a local APIC, if the VM has an in-kernel interrupt controller
 * @vcpu: the vCPU, not yet visible to others; keel_lapic_reset() follows
 *
 * Return: 0 or -ENOMEM
 */
int keel_lapic_create(struct keel_vcpu *vcpu)
{
	struct keel_lapic *apic;

	if (vcpu->vm->irqchip.mode == KEEL_IRQCHIP_NONE)
		return 0;
	apic = kzalloc(sizeof(*apic), GFP_KERNEL_ACCOUNT);
	if (!apic)
		return -ENOMEM;
	apic->regs = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!apic->regs) {
		kfree(apic);
		return -ENOMEM;
	}
	apic->vcpu = vcpu;
	lapic_timer_init(apic);
	vcpu->apic = apic;
	return 0;
}

/**
 * keel_lapic_destroy() - free the local APIC of a vCPU that no interrupt can reach any more
 * @vcpu: the vCPU; with or without an in-kernel local APIC
 */
void keel_lapic_destroy(struct keel_vcpu *vcpu)
{
	struct keel_lapic *apic = vcpu->apic;

	if (!apic)
		return;
	vcpu->apic = NULL;
	hrtimer_cancel(&apic->timer.timer);
	if (apic->lint0_nmi)
		atomic_dec(&vcpu->vm->irqchip.lint0_nmi);
	free_page((unsigned long)apic->regs);
	kfree(apic);
}
