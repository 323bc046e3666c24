// SPDX-License-Identifier: GPL-2.0-only
/*
 * CPUID: what Keel offers to clients, and what each vCPU answers to its guest.
 *
 * The supported table is made once, at load, from the CPU's own CPUID: cpuid_table.c names every
 * bit that passes, this file computes the values that are not the host's. The client picks from it
 * with KVM_SET_CPUID2; the guest then sees the client's entries with the few bits patched in that
 * follow guest state (OSXSAVE, the APIC enable bit, the size of the XSAVE area). The patching is
 * done on the way out, never in the stored entries, because a guest may change CR4 without an exit.
 *
 * Locks: the supported table is read-only after load; a vCPU's entries are under vcpu->mutex.
 * SDM 2A, CPUID; APM 3, appendix E.
 */
#include <linux/keel.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/fpu/xcr.h>
#include <asm/kvm_para.h>
#include <asm/msr-index.h>

#include "cpuid.h"
#include "ops.h"

#define VENDOR_WORD(a, b, c, d)	((u32)(a) | (u32)(b) << 8 | (u32)(c) << 16 | (u32)(d) << 24)

static struct kvm_cpuid_entry2 supported[KEEL_MAX_CPUID] __ro_after_init;
static unsigned int nr_supported __ro_after_init;
static u64 host_cr4_bits __ro_after_init;
static u64 cpu_cr4_bits __ro_after_init;
static u64 host_efer_bits __ro_after_init;

/*
 * An entry without the "index matters" flag answers for every index. Subleaves that Keel itself
 * looks up are those of indexed functions, or 0.
 */
static struct kvm_cpuid_entry2 *entry_find(struct kvm_cpuid_entry2 *entries, unsigned int nent,
					   u32 function, u32 index)
{
	unsigned int i;

	for (i = 0; i < nent; i++) {
		struct kvm_cpuid_entry2 *e = &entries[i];

		if (e->function != function)
			continue;
		if (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index)
			return e;
	}
	return NULL;
}

/**
 * keel_cpuid_find() - the entry that the client set, without the bits that follow guest state
 * @vcpu: the vCPU, locked
 * @function: EAX
 * @index: ECX
 *
 * Return: the entry or NULL
 */
const struct kvm_cpuid_entry2 *keel_cpuid_find(struct keel_vcpu *vcpu, u32 function, u32 index)
{
	const struct keel_cpuid *c = &vcpu->cpuid;

	/* Guests look for hypervisors at 256 places, each of them several times. */
	return function > c->highest[function >> 30] ? NULL : entry_find(c->entries, c->nent, function, index);
}

/* Does the supported table have all of @bits in a register of a leaf? */
static bool host_offers(u32 function, enum keel_cpuid_reg reg, u32 bits)
{
	struct kvm_cpuid_entry2 *e = entry_find(supported, nr_supported, function, 0);

	return e && (keel_cpuid_reg(e, reg) & bits) == bits;
}

static void host_leaf(struct kvm_cpuid_entry2 *e, u32 function, u32 index)
{
	memset(e, 0, sizeof(*e));
	e->function = function;
	e->index = index;
	if (keel_cpuid_indexed(function))
		e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	/* Leaves above the CPU's highest are Keel's own: see cpuid_limit(). */
	if ((function & 0xf0000000) == 0x40000000 ||
	    (function >= 0x80000000 && function > cpuid_eax(0x80000000)))
		return;
	cpuid_count(function, index, &e->eax, &e->ebx, &e->ecx, &e->edx);
}

static struct kvm_cpuid_entry2 *table_add(u32 function, u32 index)
{
	struct kvm_cpuid_entry2 *e;

	if (WARN_ON_ONCE(nr_supported == ARRAY_SIZE(supported)))
		return NULL;
	e = &supported[nr_supported++];
	host_leaf(e, function, index);
	keel_cpuid_filter(e);
	return e;
}

/* Leaf 0xd: the XSAVE area of what the guest may enable; no supervisor state, no XFD. */
static void table_add_xstate(struct kvm_cpuid_entry2 *e)
{
	u64 xcr0 = keel_fpu_supported_xcr0();
	unsigned int i;

	e->eax &= xcr0;
	e->edx &= xcr0 >> 32;
	e->ebx = xcr0 ? keel_xstate_size(xcr0, false) : 0;
	e->ecx = e->ebx;
	if (!xcr0)
		return;
	e = table_add(0xd, 1);
	if (e)
		e->ebx = e->eax & BIT(1) ? keel_xstate_size(xcr0, true) : 0;
	for (i = 2; i < 63; i++) {
		if (!(xcr0 & BIT_ULL(i)))
			continue;
		e = table_add(0xd, i);
		if (e && (!e->eax || (e->ecx & 1)))
			nr_supported--;	/* the CPU has no such user state after all */
	}
}

/* Values that are Keel's and not the CPU's. */
static void leaf_compute(struct kvm_cpuid_entry2 *e)
{
	static const u32 signature[3] = {
		VENDOR_WORD('K', 'V', 'M', 'K'), VENDOR_WORD('V', 'M', 'K', 'V'),
		VENDOR_WORD('M', 0, 0, 0),
	};

	switch (e->function) {
	case 0:
		e->eax = min(e->eax, 0x1fU);
		break;
	case 6:
		e->eax = BIT(2);	/* the APIC timer does not stop */
		break;
	case 7:
		if (e->index == 0)
			e->eax = min(e->eax, 2U);
		break;
	case KEEL_CPUID_BASE:
		e->eax = KEEL_CPUID_FEATURES;
		e->ebx = e->ecx = e->edx = VENDOR_WORD('K', 'e', 'e', 'l');
		break;
	case KEEL_CPUID_FEATURES:
		e->eax = KEEL_FEATURE_PT_UPDATE;
		break;
	case 0x40000000:
		e->eax = 0x40000001;
		e->ebx = signature[0];
		e->ecx = signature[1];
		e->edx = signature[2];
		break;
	case 0x40000001:
		e->eax = keel_pv_supported();
		e->ebx = e->ecx = e->edx = 0;
		break;
	case 0x80000000:
		e->eax = min(e->eax, 0x80000021U);
		/*
		 * 0x80000021 tells of a serializing LFENCE, which the kernel may have switched on,
		 * and is offered to each guest whose CPU is new enough for the leaves in between.
		 */
		if (e->eax >= 0x8000001d)
			e->eax = 0x80000021;
		break;
	case 0x80000007:
		e->edx &= boot_cpu_data.x86_power;
		break;
	case 0x80000008:
		/* with nested paging the guest has the CPU's own address width */
		e->eax = (e->eax & 0xff) | max(e->eax >> 8 & 0xff, 48U) << 8;
		break;
	}
}

static void table_add_leaf(u32 function)
{
	struct kvm_cpuid_entry2 *e = table_add(function, 0);
	unsigned int i;
	u32 max;

	if (!e)
		return;
	leaf_compute(e);
	switch (function) {
	case 4:
	case 0x8000001d:	/* caches, up to and including the entry of type "none" */
		for (i = 1; e && (e->eax & 0x1f) && i < 16; i++)
			e = table_add(function, i);
		break;
	case 7:
		max = e->eax;
		for (i = 1; i <= max; i++)
			table_add(function, i);
		break;
	case 0xd:
		table_add_xstate(e);
		break;
	}
}

static void table_add_class(u32 base)
{
	unsigned int first = nr_supported;
	u32 function;

	table_add_leaf(base);
	for (function = base + 1; function <= supported[first].eax; function++)
		table_add_leaf(function);
}

/* The CR4 bits that come with a feature (SDM 3A, 2.5; APM 2, 3.1.3), and whether a guest may have them. */
static const struct {
	u64 bit;
	u32 function, index;
	enum keel_cpuid_reg reg;
	u32 feature;
	bool offered;
} cr4_features[] = {
	{ X86_CR4_OSXSAVE,	1, 0, KEEL_CPUID_ECX, BIT(26), true },
	{ X86_CR4_PCIDE,	1, 0, KEEL_CPUID_ECX, BIT(17), true },
	{ X86_CR4_FSGSBASE,	7, 0, KEEL_CPUID_EBX, BIT(0), true },
	{ X86_CR4_SMEP,		7, 0, KEEL_CPUID_EBX, BIT(7), true },
	{ X86_CR4_SMAP,		7, 0, KEEL_CPUID_EBX, BIT(20), true },
	{ X86_CR4_UMIP,		7, 0, KEEL_CPUID_ECX, BIT(2), true },
	{ X86_CR4_PKE,		7, 0, KEEL_CPUID_ECX, BIT(3), true },
	{ X86_CR4_LA57,		7, 0, KEEL_CPUID_ECX, BIT(16), true },
	{ X86_CR4_VMXE,		1, 0, KEEL_CPUID_ECX, BIT(5) },
	{ X86_CR4_SMXE,		1, 0, KEEL_CPUID_ECX, BIT(6) },
	{ BIT_ULL(19),		7, 0, KEEL_CPUID_ECX, BIT(23) },	/* KL */
	{ BIT_ULL(23),		7, 0, KEEL_CPUID_ECX, BIT(7) },		/* CET, of shadow stacks */
	{ BIT_ULL(23),		7, 0, KEEL_CPUID_EDX, BIT(20) },	/* ... of indirect branches */
	{ BIT_ULL(25),		7, 0, KEEL_CPUID_EDX, BIT(5) },		/* UINTR */
	{ BIT_ULL(27),		7, 1, KEEL_CPUID_EAX, BIT(6) },		/* LASS */
	{ BIT_ULL(28),		7, 1, KEEL_CPUID_EAX, BIT(26) },	/* LAM_SUP */
	{ BIT_ULL(32),		7, 1, KEEL_CPUID_EAX, BIT(17) },	/* FRED */
};

#define CR4_ALWAYS	(X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE | \
			 X86_CR4_MCE | X86_CR4_PGE | X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT)

static void cr4_bits_compute(void)
{
	struct kvm_cpuid_entry2 e;
	unsigned int i;
	u32 highest;

	host_leaf(&e, 0, 0);
	highest = e.eax;
	host_cr4_bits = cpu_cr4_bits = CR4_ALWAYS;
	for (i = 0; i < ARRAY_SIZE(cr4_features); i++) {
		u32 function = cr4_features[i].function, index = cr4_features[i].index;

		if (cr4_features[i].offered && host_offers(function, cr4_features[i].reg, cr4_features[i].feature))
			host_cr4_bits |= cr4_features[i].bit;
		if (highest < function)
			continue;
		host_leaf(&e, function, 0);
		/* The last subleaf of leaf 7. */
		if (index && e.eax < index)
			continue;
		host_leaf(&e, function, index);
		if (keel_cpuid_reg(&e, cr4_features[i].reg) & cr4_features[i].feature)
			cpu_cr4_bits |= cr4_features[i].bit;
	}
}

/* CR4 and EFER bits that the hardware can give to a guest; the guest's CPUID narrows them. */
static void host_bits_compute(void)
{
	cr4_bits_compute();
	host_efer_bits = EFER_SCE | EFER_LME | EFER_LMA;
	if (host_offers(0x80000001, KEEL_CPUID_EDX, BIT(20)))
		host_efer_bits |= EFER_NX;
	if (host_offers(0x80000001, KEEL_CPUID_EDX, BIT(25)))
		host_efer_bits |= EFER_FFXSR;
}

/**
 * keel_cpuid_module_init() - make the supported table
 *
 * Call it after keel_ops is set and keel_fpu_module_init() has run.
 */
void keel_cpuid_module_init(void)
{
	/* every CPUID of the table on one CPU: APIC ids and cache sharing differ between CPUs */
	preempt_disable();
	nr_supported = 0;
	table_add_class(0);
	table_add_class(0x80000000);
	table_add_class(0x40000000);
	if (keel_shadowing)
		table_add_class(KEEL_CPUID_BASE);
	preempt_enable();
	host_bits_compute();
}

/* EFER bits that SET_SREGS and the client's MSR writes may set, whatever the guest's CPUID says. */
u64 keel_host_efer_bits(void)
{
	return host_efer_bits;
}

/* KVM_GET_EMULATED_CPUID checks the padding of its input, KVM_GET_SUPPORTED_CPUID does not. */
static bool padding_clean(struct kvm_cpuid_entry2 __user *entries, unsigned int n)
{
	u32 pad[3];

	while (n--) {
		if (copy_from_user(pad, entries++->padding, sizeof(pad)) || pad[0] || pad[1] ||
		    pad[2])
			return false;
	}
	return true;
}

/**
 * keel_cpuid_supported() - KVM_GET_SUPPORTED_CPUID and KVM_GET_EMULATED_CPUID
 * @ucpuid: the client's array; nent is the room in it, then the number of entries
 * @emulated: the second one: leaves that only the emulator provides, of which there are none
 *
 * Return: 0, -E2BIG when there is not room enough, -EINVAL, -EFAULT
 */
int keel_cpuid_supported(struct kvm_cpuid2 __user *ucpuid, bool emulated)
{
	static const struct kvm_cpuid_entry2 nothing;
	const struct kvm_cpuid_entry2 *from = emulated ? &nothing : supported;
	unsigned int n = emulated ? 1 : nr_supported;
	u32 room;

	if (get_user(room, &ucpuid->nent))
		return -EFAULT;
	if (room < 1)
		return -E2BIG;
	room = min_t(u32, room, KEEL_MAX_CPUID);
	if (emulated && !padding_clean(ucpuid->entries, room))
		return -EINVAL;
	if (room < n)
		return -E2BIG;
	if (copy_to_user(ucpuid->entries, from, n * sizeof(*from)) || put_user(n, &ucpuid->nent))
		return -EFAULT;
	return 0;
}

static void bit_assign(u32 *reg, u32 bit, bool on)
{
	*reg = on ? *reg | bit : *reg & ~bit;
}

/* Without the quirk, MISC_ENABLE says whether there are MONITOR and MWAIT (SDM 4, table 2-2). */
static bool misc_enable_decides(const struct keel_vcpu *vcpu)
{
	return !keel_quirk(vcpu, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT);
}

/**
 * keel_cpuid_faults() - has the guest reserved CPUID for its kernel (CPUID faulting)?
 * @vcpu: the vCPU, locked
 */
bool keel_cpuid_faults(struct keel_vcpu *vcpu)
{
	return (vcpu->misc_features & MSR_MISC_FEATURES_ENABLES_CPUID_FAULT) && keel_st(vcpu, KEEL_ST_CODE)->cpl;
}

/**
 * keel_mwait_undefined() - are MONITOR and MWAIT #UD?
 * @vcpu: the vCPU, locked
 *
 * Return: false unless the client has switched off that they never are
 */
bool keel_mwait_undefined(const struct keel_vcpu *vcpu)
{
	if (keel_quirk(vcpu, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS))
		return false;
	return misc_enable_decides(vcpu) ? !(vcpu->misc_enable & MSR_IA32_MISC_ENABLE_MWAIT) :
		!keel_guest_has(vcpu, KEEL_F_MWAIT);
}

/* What entry_patch() has a say in. */
static bool follows_state(const struct keel_vcpu *vcpu, u32 function)
{
	return function == 1 || function == 7 || function == 0xd || (vcpu->pv.leaf && function == vcpu->pv.leaf);
}

/* Puts into a copy of an entry what follows the guest's state. Callable with interrupts off. */
static void entry_patch(struct keel_vcpu *vcpu, struct kvm_cpuid_entry2 *e)
{
	/* Who halts without an exit cannot be kicked. */
	if (e->function == vcpu->pv.leaf && vcpu->pv.leaf &&
	    (vcpu->vm->disabled_exits & KVM_X86_DISABLE_EXITS_HLT))
		e->eax &= ~BIT(KVM_FEATURE_PV_UNHALT);
	switch (e->function) {
	case 1:
		if (host_cr4_bits & X86_CR4_OSXSAVE)
			bit_assign(&e->ecx, BIT(27),
				   keel_st(vcpu, KEEL_ST_CR)->cr4 & X86_CR4_OSXSAVE);
		if (misc_enable_decides(vcpu))
			bit_assign(&e->ecx, BIT(3), vcpu->misc_enable & MSR_IA32_MISC_ENABLE_MWAIT);
		bit_assign(&e->edx, BIT(9), keel_lapic_get_base(vcpu) & MSR_IA32_APICBASE_ENABLE);
		break;
	case 7:
		if (e->index == 0)
			bit_assign(&e->ecx, BIT(4), keel_st(vcpu, KEEL_ST_CR)->cr4 & X86_CR4_PKE);
		break;
	case 0xd:
		if (e->index == 0)
			e->ebx = keel_xstate_size(vcpu->st.xcr0, false);
		else if (e->index == 1 && (e->eax & (BIT(1) | BIT(3))))
			e->ebx = keel_xstate_size(vcpu->st.xcr0, true);
		break;
	}
}

static bool entry_equal(const struct kvm_cpuid_entry2 *a, const struct kvm_cpuid_entry2 *b)
{
	return a->function == b->function && a->index == b->index && a->flags == b->flags &&
	       a->eax == b->eax && a->ebx == b->ebx && a->ecx == b->ecx && a->edx == b->edx;
}

/* A vCPU that has run keeps its CPUID; the same again is accepted: CPU hotplug does that. */
static int entries_unchanged(struct keel_vcpu *vcpu, const struct kvm_cpuid_entry2 *entries,
			     unsigned int nent)
{
	unsigned int i;

	if (nent != vcpu->cpuid.nent)
		return -EINVAL;
	for (i = 0; i < nent; i++) {
		struct kvm_cpuid_entry2 a = entries[i], b = vcpu->cpuid.entries[i];

		entry_patch(vcpu, &a);
		entry_patch(vcpu, &b);
		if (!entry_equal(&a, &b))
			return -EINVAL;
	}
	return 0;
}

/* Where searches begin and end. */
static void entries_index(struct keel_cpuid *c)
{
	struct kvm_cpuid_entry2 *basic = entry_find(c->entries, c->nent, 0, 0);
	unsigned int i;

	memset(c->highest, 0, sizeof(c->highest));
	for (i = 0; i < c->nent; i++)
		c->highest[c->entries[i].function >> 30] = max(c->highest[c->entries[i].function >> 30],
								c->entries[i].function);
	c->last_basic = 0;
	while (basic && c->last_basic < c->nent && c->entries[c->last_basic].function != basic->eax)
		c->last_basic++;
}

/* Takes @entries over on success, frees them otherwise. */
static int entries_set(struct keel_vcpu *vcpu, struct kvm_cpuid_entry2 *entries, unsigned int nent)
{
	struct kvm_cpuid_entry2 *e;
	int err;

	if (vcpu->cpu != -1) {
		err = entries_unchanged(vcpu, entries, nent);
		kvfree(entries);
		return err;
	}
	e = entry_find(entries, nent, 0x80000008, 0);
	if (e) {
		u8 bits = e->eax >> 8;

		if (bits != 0 && bits != 48 && bits != 57) {
			kvfree(entries);
			return -EINVAL;
		}
	}
	kvfree(vcpu->cpuid.entries);
	vcpu->cpuid.entries = entries;
	vcpu->cpuid.nent = nent;
	entries_index(&vcpu->cpuid);
	keel_cpuid_forget(vcpu);
	keel_cpuid_refresh(vcpu);
	keel_ops->vcpu_update(vcpu, KEEL_UPDATE_INTERCEPTS);
	return 0;
}

/**
 * keel_cpuid_set() - KVM_SET_CPUID2
 * @vcpu: the vCPU, locked
 * @ucpuid: the client's array
 *
 * Return: 0, -E2BIG, -ENOMEM, -EFAULT, -EINVAL (also: the vCPU has run and this differs)
 */
int keel_cpuid_set(struct keel_vcpu *vcpu, struct kvm_cpuid2 __user *ucpuid)
{
	struct kvm_cpuid_entry2 *entries = NULL;
	u32 nent;

	if (get_user(nent, &ucpuid->nent))
		return -EFAULT;
	if (nent > KEEL_MAX_CPUID)
		return -E2BIG;
	if (nent) {
		entries = kvcalloc(nent, sizeof(*entries), GFP_KERNEL_ACCOUNT);
		if (!entries)
			return -ENOMEM;
		if (copy_from_user(entries, ucpuid->entries, nent * sizeof(*entries))) {
			kvfree(entries);
			return -EFAULT;
		}
	}
	return entries_set(vcpu, entries, nent);
}

/**
 * keel_cpuid_set1() - KVM_SET_CPUID, which knows no subleaves
 * @vcpu: the vCPU, locked
 * @ucpuid: the client's array
 *
 * Return: as keel_cpuid_set()
 */
int keel_cpuid_set1(struct keel_vcpu *vcpu, struct kvm_cpuid __user *ucpuid)
{
	struct kvm_cpuid_entry2 *entries = NULL;
	struct kvm_cpuid_entry old;
	u32 nent, i;

	if (get_user(nent, &ucpuid->nent))
		return -EFAULT;
	if (nent > KEEL_MAX_CPUID)
		return -E2BIG;
	if (nent) {
		entries = kvcalloc(nent, sizeof(*entries), GFP_KERNEL_ACCOUNT);
		if (!entries)
			return -ENOMEM;
	}
	for (i = 0; i < nent; i++) {
		if (copy_from_user(&old, &ucpuid->entries[i], sizeof(old))) {
			kvfree(entries);
			return -EFAULT;
		}
		entries[i] = (struct kvm_cpuid_entry2) {
			.function = old.function,
			.eax = old.eax, .ebx = old.ebx, .ecx = old.ecx, .edx = old.edx,
		};
	}
	return entries_set(vcpu, entries, nent);
}

/**
 * keel_cpuid_get() - KVM_GET_CPUID2
 * @vcpu: the vCPU, locked
 * @ucpuid: the client's array; nent is the room in it, then the number of entries
 *
 * Return: 0, -E2BIG, -EFAULT
 */
int keel_cpuid_get(struct keel_vcpu *vcpu, struct kvm_cpuid2 __user *ucpuid)
{
	unsigned int i, nent = vcpu->cpuid.nent;
	u32 room;

	if (get_user(room, &ucpuid->nent))
		return -EFAULT;
	if (room < nent)
		return -E2BIG;
	for (i = 0; i < nent; i++) {
		struct kvm_cpuid_entry2 e = vcpu->cpuid.entries[i];

		entry_patch(vcpu, &e);
		if (copy_to_user(&ucpuid->entries[i], &e, sizeof(e)))
			return -EFAULT;
	}
	return put_user(nent, &ucpuid->nent) ? -EFAULT : 0;
}

/*
 * A leaf that is above its class's highest, or whose class does not exist, answers on Intel as the
 * highest basic leaf with the same ECX; on AMD with zeros. Hypervisor leaves come in classes of
 * 256.
 */
static const struct kvm_cpuid_entry2 *beyond_the_end(struct keel_vcpu *vcpu, u32 *function,
						     u32 index)
{
	const struct kvm_cpuid_entry2 *basic = keel_cpuid_find(vcpu, 0, 0);
	const struct keel_cpuid *c = &vcpu->cpuid;
	const struct kvm_cpuid_entry2 *class;
	u32 base;

	if (!basic || keel_guest_has(vcpu, KEEL_F_AMD))
		return NULL;
	if ((*function & 0xf0000000) == 0x40000000)
		base = *function & 0xffffff00;
	else if (*function >= 0xc0000000)
		base = 0xc0000000;
	else
		base = *function & 0x80000000;
	/* What was looked for in vain begins no class. */
	class = base == *function && !index ? NULL : keel_cpuid_find(vcpu, base, 0);
	if (class && *function <= class->eax)
		return NULL;
	*function = basic->eax;
	return entry_find(c->entries + c->last_basic, c->nent - c->last_basic, basic->eax, index);
}

/* Of an index, what counts: for any of them the first entry of its function answers, if that has none. */
static u32 index_mask(struct keel_vcpu *vcpu, const struct kvm_cpuid_entry2 *found)
{
	const struct kvm_cpuid_entry2 *e = vcpu->cpuid.entries;

	if (!found || (found->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX))
		return ~0U;
	while (e->function != found->function)
		e++;
	return e == found ? 0 : ~0U;
}

/* What the client's entries, or the lack of one, come to. */
static struct keel_cpuid_answer answer_find(struct keel_vcpu *vcpu, u32 function, u32 index, bool *lasts)
{
	const struct kvm_cpuid_entry2 *found = keel_cpuid_find(vcpu, function, index);
	struct kvm_cpuid_entry2 e = {};
	u32 asked = function;

	/* With CPUID faulting it depends on who asks. */
	*lasts = found && !follows_state(vcpu, function) && !vcpu->misc_features;
	if (!found)
		found = beyond_the_end(vcpu, &function, index);
	if (found) {
		e = *found;
		entry_patch(vcpu, &e);
	} else if (function == 0xb || function == 0x1f) {
		/* undefined levels still show the level in CL and the x2APIC id in EDX */
		found = keel_cpuid_find(vcpu, function, 1);
		if (found) {
			e.ecx = index & 0xff;
			e.edx = found->edx;
		}
	}
	return (struct keel_cpuid_answer) {
		.function = asked, .index = index, .mask = index_mask(vcpu, found),
		.eax = e.eax, .ebx = e.ebx, .ecx = e.ecx, .edx = e.edx,
	};
}

/**
 * keel_cpuid_query() - the guest's CPUID instruction; callable with interrupts off
 * @vcpu: the vCPU, locked
 * @function: EAX
 * @index: ECX
 *
 * Return: the answer, kept for keel_cpuid_ready() if it will be the same the next time
 */
struct keel_cpuid_answer keel_cpuid_query(struct keel_vcpu *vcpu, u32 function, u32 index)
{
	bool lasts;
	struct keel_cpuid_answer answer = answer_find(vcpu, function, index, &lasts);

	if (lasts)
		*keel_cpuid_slot(vcpu, function) = answer;
	return answer;
}

/**
 * keel_cpuid_answer_now() - answer the guest's CPUID instruction behind a world switch (hot.h)
 * @vcpu: the vCPU, inside its window
 *
 * Return: false: CPUID may have to fault; nothing has happened
 */
bool keel_cpuid_answer_now(struct keel_vcpu *vcpu)
{
	const u64 *gpr = vcpu->st.gpr;
	struct keel_cpuid_answer a;

	if (vcpu->misc_features)
		return false;
	a = keel_cpuid_query(vcpu, gpr[KEEL_RAX], gpr[KEEL_RCX]);
	keel_cpuid_give(vcpu, &a);
	return true;
}

/**
 * keel_cpuid_forget() - what the answers depend on has changed
 * @vcpu: the vCPU, locked or not yet visible
 */
void keel_cpuid_forget(struct keel_vcpu *vcpu)
{
	u32 i;

	/* A function whose slot is another one is never asked for here. */
	for (i = 0; i < KEEL_CPUID_ANSWERS; i++)
		vcpu->cpuid.answers[i] = (struct keel_cpuid_answer){ .function = i + 1 };
}

/* One feature that the core looks up often: where the guest's CPUID has it. */
static const struct {
	u64 feature;
	u32 function;
	enum keel_cpuid_reg reg;
	u32 bits;		/* any of them */
	bool hardware;		/* counts only if the supported table has the bit too */
} features[] = {
	{ KEEL_F_X2APIC,	1,		KEEL_CPUID_ECX, BIT(21) },
	{ KEEL_F_TSC_DEADLINE,	1,		KEEL_CPUID_ECX, BIT(24) },
	{ KEEL_F_XSAVE,		1,		KEEL_CPUID_ECX, BIT(26), true },
	{ KEEL_F_MWAIT,		1,		KEEL_CPUID_ECX, BIT(3) },
	{ KEEL_F_PCID,		1,		KEEL_CPUID_ECX, BIT(17), true },
	{ KEEL_F_MCE,		1,		KEEL_CPUID_EDX, BIT(7) },
	{ KEEL_F_MTRR,		1,		KEEL_CPUID_EDX, BIT(12) },
	{ KEEL_F_PAT,		1,		KEEL_CPUID_EDX, BIT(16) },
	{ KEEL_F_TSC_ADJUST,	7,		KEEL_CPUID_EBX, BIT(1) },
	{ KEEL_F_RDPID,		7,		KEEL_CPUID_ECX, BIT(22), true },
	{ KEEL_F_SPEC_CTRL,	7,		KEEL_CPUID_EDX, BIT(26) | BIT(27) | BIT(31), true },
	{ KEEL_F_SPEC_CTRL,	0x80000008,	KEEL_CPUID_EBX, BIT(14) | BIT(15) | BIT(24), true },
	{ KEEL_F_IBPB,		7,		KEEL_CPUID_EDX, BIT(26), true },
	{ KEEL_F_IBPB,		0x80000008,	KEEL_CPUID_EBX, BIT(12), true },
	{ KEEL_F_LM,		0x80000001,	KEEL_CPUID_EDX, BIT(29) },
	{ KEEL_F_NX,		0x80000001,	KEEL_CPUID_EDX, BIT(20) },
	{ KEEL_F_GBPAGES,	0x80000001,	KEEL_CPUID_EDX, BIT(26) },
	{ KEEL_F_RDTSCP,	0x80000001,	KEEL_CPUID_EDX, BIT(27), true },
	{ KEEL_F_ARCH_CAP,	7,		KEEL_CPUID_EDX, BIT(29) },
	{ KEEL_F_FLUSH_L1D,	7,		KEEL_CPUID_EDX, BIT(28), true },
};

/* EFER bits that a guest may set only if its CPUID has the feature. */
static const struct {
	u64 bit;
	u32 function;
	enum keel_cpuid_reg reg;
	u32 feature;
} efer_features[] = {
	{ EFER_LME | EFER_LMA,	0x80000001,	KEEL_CPUID_EDX, BIT(29) },
	{ EFER_NX,		0x80000001,	KEEL_CPUID_EDX, BIT(20) },
	{ EFER_FFXSR,		0x80000001,	KEEL_CPUID_EDX, BIT(25) },
};

static u32 guest_bits(struct keel_vcpu *vcpu, u32 function, enum keel_cpuid_reg reg)
{
	const struct kvm_cpuid_entry2 *e = keel_cpuid_find(vcpu, function, 0);

	return e ? keel_cpuid_reg(e, reg) : 0;
}

/* The twelve letters are in EBX, EDX, ECX, in that order. */
static bool vendor_is(const struct kvm_cpuid_entry2 *e, const char *name)
{
	return !memcmp(&e->ebx, name, 4) && !memcmp(&e->edx, name + 4, 4) &&
	       !memcmp(&e->ecx, name + 8, 4);
}

static bool vendor_is_amd(const struct kvm_cpuid_entry2 *e)
{
	return vendor_is(e, "AuthenticAMD") || vendor_is(e, "HygonGenuine");
}

/* The hypervisor leaves of KVM stand at one of 256 places (the kernel's Documentation/virt/kvm/x86/cpuid.rst). */
static const struct kvm_cpuid_entry2 *pv_leaf(struct keel_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *e;
	u32 base;

	for (base = 0x40000000; base < 0x40010000; base += 0x100) {
		e = keel_cpuid_find(vcpu, base, 0);
		if (e && e->ebx == VENDOR_WORD('K', 'V', 'M', 'K') &&
		    e->ecx == VENDOR_WORD('V', 'M', 'K', 'V') && e->edx == VENDOR_WORD('M', 0, 0, 0))
			return keel_cpuid_find(vcpu, base | KVM_CPUID_FEATURES, 0);
	}
	return NULL;
}

/**
 * keel_cpuid_refresh() - work out what the guest's CPUID means for the core
 * @vcpu: the vCPU, locked; its entries are set, or none are yet
 *
 * Before the first KVM_SET_CPUID2 every CR4 bit that the hardware can give is allowed: clients set
 * registers and CPUID in either order.
 */
void keel_cpuid_refresh(struct keel_vcpu *vcpu)
{
	struct keel_cpuid *c = &vcpu->cpuid;
	const struct kvm_cpuid_entry2 *e;
	unsigned int i;

	c->features = 0;
	for (i = 0; i < ARRAY_SIZE(features); i++) {
		u32 bits = guest_bits(vcpu, features[i].function, features[i].reg);

		bits &= features[i].bits;

		if (features[i].hardware) {
			e = entry_find(supported, nr_supported, features[i].function, 0);
			bits &= e ? keel_cpuid_reg(e, features[i].reg) : 0;
		}
		if (bits)
			c->features |= features[i].feature;
	}
	e = keel_cpuid_find(vcpu, 0, 0);
	if (e && vendor_is_amd(e))
		c->features |= KEEL_F_AMD;
	e = pv_leaf(vcpu);
	vcpu->pv.leaf = e ? e->function : 0;
	vcpu->pv.features = e ? e->eax : 0;

	c->cr4_valid = host_cr4_bits;
	c->efer_valid = host_efer_bits;
	for (i = 0; c->nent && i < ARRAY_SIZE(cr4_features); i++)
		if (!(guest_bits(vcpu, cr4_features[i].function, cr4_features[i].reg) & cr4_features[i].feature))
			c->cr4_valid &= ~cr4_features[i].bit;
	for (i = 0; c->nent && i < ARRAY_SIZE(efer_features); i++)
		if (!(guest_bits(vcpu, efer_features[i].function, efer_features[i].reg) & efer_features[i].feature))
			c->efer_valid &= ~efer_features[i].bit;
	c->cr4_all = c->cr4_valid == cpu_cr4_bits;

	e = keel_cpuid_find(vcpu, 0xd, 0);
	c->xcr0_valid = e ? ((u64)e->edx << 32 | e->eax) & keel_fpu_supported_xcr0() : 0;

	c->maxphyaddr = 36;
	e = keel_cpuid_find(vcpu, 0x80000000, 0);
	if (e && e->eax >= 0x80000008) {
		e = keel_cpuid_find(vcpu, 0x80000008, 0);
		if (e)
			/* the architecture's limit */
			c->maxphyaddr = min(e->eax & 0xff, 52U);
	}
	keel_lapic_cpuid_changed(vcpu);
}
