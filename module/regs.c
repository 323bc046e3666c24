// SPDX-License-Identifier: GPL-2.0-only
/*
 * The client's view of a vCPU's registers: the ioctls that get and set them in bulk.
 *
 * One table names each ioctl with the size of its structure and its function; the dispatcher copies
 * in and out, the functions see kernel memory only. A set function checks everything first: it
 * either does all or, with -EINVAL, nothing. events.c has the ioctls about events and run state.
 *
 * Locks: vcpu->mutex and vm->srcu are held by the caller, and no window is open.
 * SDM 3A, chapter 2; APM 2, chapter 3; formats are those of linux/kvm.h.
 */
#include <linux/kvm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/processor-flags.h>

#include "ops.h"
#include "regs.h"
#include "smm.h"

static long regs_get(struct keel_vcpu *vcpu, void *buf)
{
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_RIP);
	struct kvm_regs *r = buf;

	*r = (struct kvm_regs) {
		.rax = st->gpr[KEEL_RAX], .rbx = st->gpr[KEEL_RBX],
		.rcx = st->gpr[KEEL_RCX], .rdx = st->gpr[KEEL_RDX],
		.rsi = st->gpr[KEEL_RSI], .rdi = st->gpr[KEEL_RDI],
		.rsp = st->gpr[KEEL_RSP], .rbp = st->gpr[KEEL_RBP],
		.r8 = st->gpr[KEEL_R8], .r9 = st->gpr[KEEL_R9],
		.r10 = st->gpr[KEEL_R10], .r11 = st->gpr[KEEL_R11],
		.r12 = st->gpr[KEEL_R12], .r13 = st->gpr[KEEL_R13],
		.r14 = st->gpr[KEEL_R14], .r15 = st->gpr[KEEL_R15],
		.rip = st->rip, .rflags = st->rflags,
	};
	return 0;
}

/* A pending exception belonged to the instruction that the old RIP pointed at: it is dropped. */
static long regs_set(struct keel_vcpu *vcpu, void *buf)
{
	struct keel_state *st = keel_st_mod(vcpu, KEEL_ST_RIP);
	const struct kvm_regs *r = buf;
	const u64 gpr[KEEL_NR_GPRS] = {
		[KEEL_RAX] = r->rax, [KEEL_RBX] = r->rbx, [KEEL_RCX] = r->rcx, [KEEL_RDX] = r->rdx,
		[KEEL_RSI] = r->rsi, [KEEL_RDI] = r->rdi, [KEEL_RSP] = r->rsp, [KEEL_RBP] = r->rbp,
		[KEEL_R8] = r->r8, [KEEL_R9] = r->r9, [KEEL_R10] = r->r10, [KEEL_R11] = r->r11,
		[KEEL_R12] = r->r12, [KEEL_R13] = r->r13, [KEEL_R14] = r->r14, [KEEL_R15] = r->r15,
	};

	memcpy(st->gpr, gpr, sizeof(gpr));
	st->rip = r->rip;
	st->rflags = r->rflags | X86_EFLAGS_FIXED;
	vcpu->ev.exc.pending = false;
	keel_request(KEEL_REQ_EVENT, vcpu);
	return 0;
}

static struct kvm_segment seg_get(const struct keel_seg *seg)
{
	return (struct kvm_segment) {
		.base = seg->base,
		.limit = seg->limit,
		.selector = seg->selector,
		.type = seg->ar & KEEL_AR_TYPE,
		.present = !!(seg->ar & KEEL_AR_P),
		.dpl = seg->ar >> KEEL_AR_DPL_SHIFT & 3,
		.db = !!(seg->ar & KEEL_AR_DB),
		.s = !!(seg->ar & KEEL_AR_S),
		.l = !!(seg->ar & KEEL_AR_L),
		.g = !!(seg->ar & KEEL_AR_G),
		.avl = !!(seg->ar & KEEL_AR_AVL),
		.unusable = !!(seg->ar & KEEL_AR_UNUSABLE),
	};
}

static void seg_set(struct keel_seg *seg, const struct kvm_segment *k)
{
	*seg = (struct keel_seg) {
		.base = k->base,
		.limit = k->limit,
		.selector = k->selector,
		.ar = (k->type & KEEL_AR_TYPE) | (k->dpl & 3) << KEEL_AR_DPL_SHIFT |
		      (k->s & 1 ? KEEL_AR_S : 0) | (k->present & 1 ? KEEL_AR_P : 0) |
		      (k->avl & 1 ? KEEL_AR_AVL : 0) | (k->l & 1 ? KEEL_AR_L : 0) |
		      (k->db & 1 ? KEEL_AR_DB : 0) | (k->g & 1 ? KEEL_AR_G : 0) |
		      (k->unusable ? KEEL_AR_UNUSABLE : 0),
	};
}

/* All but the last member, which KVM_GET_SREGS and KVM_GET_SREGS2 have different. */
static void sregs_get_common(struct keel_vcpu *vcpu, struct kvm_sregs *s)
{
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_SEG | KEEL_ST_DT | KEEL_ST_CR);

	s->cs = seg_get(&st->seg[KEEL_CS]);
	s->ds = seg_get(&st->seg[KEEL_DS]);
	s->es = seg_get(&st->seg[KEEL_ES]);
	s->fs = seg_get(&st->seg[KEEL_FS]);
	s->gs = seg_get(&st->seg[KEEL_GS]);
	s->ss = seg_get(&st->seg[KEEL_SS]);
	s->tr = seg_get(&st->seg[KEEL_TR]);
	s->ldt = seg_get(&st->seg[KEEL_LDTR]);
	s->gdt.base = st->gdt.base;
	s->gdt.limit = st->gdt.limit;
	s->idt.base = st->idt.base;
	s->idt.limit = st->idt.limit;
	s->cr0 = st->cr0;
	s->cr2 = st->cr2;
	s->cr3 = st->cr3;
	s->cr4 = st->cr4;
	s->cr8 = keel_get_cr8(vcpu);
	s->efer = st->efer;
	s->apic_base = keel_lapic_get_base(vcpu);
}

static long sregs_get(struct keel_vcpu *vcpu, void *buf)
{
	struct kvm_sregs *s = buf;

	sregs_get_common(vcpu, s);
	if (vcpu->ev.intr.injected && !vcpu->ev.intr.soft)
		__set_bit(vcpu->ev.intr.nr, (unsigned long *)s->interrupt_bitmap);
	return 0;
}

/*
 * What cannot be a state of a CPU. EFER is not held against the guest's CPUID, which may come
 * later, but against what the hardware can do.
 */
static bool sregs_valid(struct keel_vcpu *vcpu, const struct kvm_sregs *s)
{
	if ((s->efer & EFER_LME) && (s->cr0 & X86_CR0_PG)) {
		if (!(s->cr4 & X86_CR4_PAE) || !(s->efer & EFER_LMA))
			return false;
		if (s->cr3 >> vcpu->cpuid.maxphyaddr)
			return false;
	} else if ((s->efer & EFER_LMA) || s->cs.l) {
		return false;
	}
	return !(s->efer & ~keel_host_efer_bits()) && keel_valid_cr4(vcpu, s->cr4) &&
	       keel_valid_cr0(s->cr0);
}

/* Clients that know no KVM_SET_MP_STATE reset the bootstrap processor by its registers alone. */
static void wake_after_reset(struct keel_vcpu *vcpu)
{
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_RIP);

	if (vcpu->id == vcpu->vm->bsp_id && st->rip == 0xfff0 && !(st->cr0 & X86_CR0_PE) &&
	    st->seg[KEEL_CS].selector == 0xf000 && st->seg[KEEL_CS].base == 0xffff0000)
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
}

static long sregs_set_common(struct keel_vcpu *vcpu, const struct kvm_sregs *s)
{
	struct keel_state *st;

	if (!sregs_valid(vcpu, s))
		return -EINVAL;
	if (keel_lapic_set_base(vcpu, s->apic_base, true))
		return -EINVAL;

	st = keel_st_mod(vcpu, KEEL_ST_SEG | KEEL_ST_DT | KEEL_ST_CR);
	vcpu->pio.moved |= st->seg[KEEL_CS].base != s->cs.base;
	seg_set(&st->seg[KEEL_CS], &s->cs);
	seg_set(&st->seg[KEEL_DS], &s->ds);
	seg_set(&st->seg[KEEL_ES], &s->es);
	seg_set(&st->seg[KEEL_FS], &s->fs);
	seg_set(&st->seg[KEEL_GS], &s->gs);
	seg_set(&st->seg[KEEL_SS], &s->ss);
	seg_set(&st->seg[KEEL_TR], &s->tr);
	seg_set(&st->seg[KEEL_LDTR], &s->ldt);
	st->cpl = s->ss.dpl & 3;
	st->gdt.base = s->gdt.base;
	st->gdt.limit = s->gdt.limit;
	st->idt.base = s->idt.base;
	st->idt.limit = s->idt.limit;
	st->cr0 = s->cr0;
	st->cr2 = s->cr2;
	st->cr3 = s->cr3;
	st->cr4 = s->cr4;
	st->efer = s->efer;
	if (!(s->cr8 & ~0xfULL))
		keel_put_cr8(vcpu, s->cr8);
	wake_after_reset(vcpu);
	keel_load_pdptes(vcpu);
	keel_request(KEEL_REQ_TLB_FLUSH, vcpu);
	keel_paging_changed(vcpu);
	if (keel_shadowing)
		keel_shadow_forget(vcpu->vm);
	keel_request(KEEL_REQ_EVENT, vcpu);
	return 0;
}

static long sregs_set(struct keel_vcpu *vcpu, void *buf)
{
	const struct kvm_sregs *s = buf;
	unsigned int vector;
	long r = sregs_set_common(vcpu, s);

	if (r)
		return r;
	vector = find_first_bit((const unsigned long *)s->interrupt_bitmap, KVM_NR_INTERRUPTS);
	if (vector < KVM_NR_INTERRUPTS) {
		vcpu->ev.intr.injected = true;
		vcpu->ev.intr.soft = false;
		vcpu->ev.intr.nr = vector;
	}
	return 0;
}

static long sregs2_get(struct keel_vcpu *vcpu, void *buf)
{
	struct kvm_sregs2 *s = buf;

	sregs_get_common(vcpu, buf);
	s->flags = 0;
	if (keel_pae_paging(s->cr0, s->cr4, s->efer)) {
		if (keel_shadowing || keel_ops->keeps_pdptes)
			memcpy(s->pdptrs, vcpu->st.pdpte, sizeof(s->pdptrs));
		else if (keel_guest_read(vcpu->vm, keel_own_gpa(vcpu, s->cr3 & 0xffffffe0), s->pdptrs, sizeof(s->pdptrs)))
			return 0;
		s->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
	}
	return 0;
}

static long sregs2_set(struct keel_vcpu *vcpu, void *buf)
{
	const struct kvm_sregs2 *s = buf;
	long r;

	if (s->flags & ~(u64)KVM_SREGS2_FLAGS_PDPTRS_VALID)
		return -EINVAL;
	if ((s->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) && !keel_pae_paging(s->cr0, s->cr4, s->efer))
		return -EINVAL;
	r = sregs_set_common(vcpu, buf);
	if (!r && (s->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID))
		memcpy(vcpu->st.pdpte, s->pdptrs, sizeof(s->pdptrs));
	return r;
}

static long fpu_get(struct keel_vcpu *vcpu, void *buf)
{
	keel_fpu_get_legacy(vcpu, buf);
	return 0;
}

static long fpu_set(struct keel_vcpu *vcpu, void *buf)
{
	return keel_fpu_set_legacy(vcpu, buf);
}

static long xsave_get(struct keel_vcpu *vcpu, void *buf)
{
	if (keel_fpu_size() > sizeof(struct kvm_xsave))
		return -EINVAL;
	keel_fpu_get_xsave(vcpu, buf, sizeof(struct kvm_xsave));
	return 0;
}

static long xsave2_get(struct keel_vcpu *vcpu, void *buf)
{
	keel_fpu_get_xsave(vcpu, buf, keel_fpu_size());
	return 0;
}

static long xsave_set(struct keel_vcpu *vcpu, void *buf)
{
	return keel_fpu_set_xsave(vcpu, buf, keel_fpu_size());
}

static long xcrs_get(struct keel_vcpu *vcpu, void *buf)
{
	struct kvm_xcrs *x = buf;

	if (!keel_fpu_host_xcr0())
		return 0;
	x->nr_xcrs = 1;
	x->xcrs[0].xcr = 0;
	x->xcrs[0].value = vcpu->st.xcr0;
	return 0;
}

static long xcrs_set(struct keel_vcpu *vcpu, void *buf)
{
	const struct kvm_xcrs *x = buf;
	u32 i;

	if (!keel_fpu_host_xcr0() || x->nr_xcrs > KVM_MAX_XCRS || x->flags)
		return -EINVAL;
	for (i = 0; i < x->nr_xcrs; i++)
		if (x->xcrs[i].xcr == 0)
			return keel_set_xcr0(vcpu, x->xcrs[i].value);
	return 0;
}

static long debugregs_get(struct keel_vcpu *vcpu, void *buf)
{
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_DR);
	struct kvm_debugregs *d = buf;

	memcpy(d->db, st->dr, sizeof(d->db));
	d->dr6 = st->dr6;
	d->dr7 = st->dr7;
	return 0;
}

static long debugregs_set(struct keel_vcpu *vcpu, void *buf)
{
	const struct kvm_debugregs *d = buf;
	struct keel_state *st;

	if (d->flags || d->dr6 >> 32 || d->dr7 >> 32)
		return -EINVAL;
	st = keel_st_mod(vcpu, KEEL_ST_DR);
	memcpy(st->dr, d->db, sizeof(st->dr));
	st->dr6 = d->dr6;
	st->dr7 = d->dr7;
	return 0;
}

static long lapic_get(struct keel_vcpu *vcpu, void *buf)
{
	return keel_lapic_get_state(vcpu, buf);
}

static long lapic_set(struct keel_vcpu *vcpu, void *buf)
{
	return keel_lapic_set_state(vcpu, buf);
}

static long translate(struct keel_vcpu *vcpu, void *buf)
{
	struct kvm_translation *t = buf;
	struct keel_fault fault;
	gpa_t gpa = KEEL_BAD_GPA;

	t->valid = !keel_gva_to_gpa(vcpu, t->linear_address, 0, &gpa, &fault, false);
	t->physical_address = t->valid ? gpa & ~KEEL_SMM_GPA : KEEL_BAD_GPA;
	t->writeable = 1;
	t->usermode = 0;
	return 0;
}

static long setup_mce(struct keel_vcpu *vcpu, void *buf)
{
	return keel_setup_mce(vcpu, *(u64 *)buf);
}

static long set_mce(struct keel_vcpu *vcpu, void *buf)
{
	return keel_set_mce(vcpu, buf);
}

static long enable_cap(struct keel_vcpu *vcpu, void *buf)
{
	const struct kvm_enable_cap *cap = buf;

	if (cap->flags || cap->cap != KVM_CAP_ENFORCE_PV_FEATURE_CPUID)
		return -EINVAL;
	keel_pv_set_enforce(vcpu, cap->args[0]);
	return 0;
}

#define XSAVE_SIZE	(~0u)	/* keel_fpu_size(), known at load */

static const struct {
	unsigned int cmd;
	u32 in, out;		/* bytes copied from and to the client */
	bool apic;		/* -EINVAL without an in-kernel local APIC */
	long (*fn)(struct keel_vcpu *vcpu, void *buf);
} state_ioctls[] = {
	{ KVM_GET_REGS, 0, sizeof(struct kvm_regs), false, regs_get },
	{ KVM_SET_REGS, sizeof(struct kvm_regs), 0, false, regs_set },
	{ KVM_GET_SREGS, 0, sizeof(struct kvm_sregs), false, sregs_get },
	{ KVM_SET_SREGS, sizeof(struct kvm_sregs), 0, false, sregs_set },
	{ KVM_GET_SREGS2, 0, sizeof(struct kvm_sregs2), false, sregs2_get },
	{ KVM_SET_SREGS2, sizeof(struct kvm_sregs2), 0, false, sregs2_set },
	{ KVM_GET_FPU, 0, sizeof(struct kvm_fpu), false, fpu_get },
	{ KVM_SET_FPU, sizeof(struct kvm_fpu), 0, false, fpu_set },
	{ KVM_GET_XSAVE, 0, sizeof(struct kvm_xsave), false, xsave_get },
	{ KVM_GET_XSAVE2, 0, XSAVE_SIZE, false, xsave2_get },
	{ KVM_SET_XSAVE, XSAVE_SIZE, 0, false, xsave_set },
	{ KVM_GET_XCRS, 0, sizeof(struct kvm_xcrs), false, xcrs_get },
	{ KVM_SET_XCRS, sizeof(struct kvm_xcrs), 0, false, xcrs_set },
	{ KVM_GET_DEBUGREGS, 0, sizeof(struct kvm_debugregs), false, debugregs_get },
	{ KVM_SET_DEBUGREGS, sizeof(struct kvm_debugregs), 0, false, debugregs_set },
	{ KVM_GET_LAPIC, 0, sizeof(struct kvm_lapic_state), true, lapic_get },
	{ KVM_SET_LAPIC, sizeof(struct kvm_lapic_state), 0, true, lapic_set },
	{ KVM_TRANSLATE, sizeof(struct kvm_translation), sizeof(struct kvm_translation), false,
	  translate },
	{ KVM_X86_SETUP_MCE, sizeof(u64), 0, false, setup_mce },
	{ KVM_X86_SET_MCE, sizeof(struct kvm_x86_mce), 0, false, set_mce },
	{ KVM_ENABLE_CAP, sizeof(struct kvm_enable_cap), 0, false, enable_cap },
	{ KVM_GET_VCPU_EVENTS, 0, sizeof(struct kvm_vcpu_events), false, keel_events_get },
	{ KVM_SET_VCPU_EVENTS, sizeof(struct kvm_vcpu_events), 0, false, keel_events_set },
	{ KVM_GET_MP_STATE, 0, sizeof(struct kvm_mp_state), false, keel_mp_state_get },
	{ KVM_SET_MP_STATE, sizeof(struct kvm_mp_state), 0, false, keel_mp_state_set },
	{ KVM_INTERRUPT, sizeof(struct kvm_interrupt), 0, false, keel_client_interrupt },
	{ KVM_SET_VAPIC_ADDR, sizeof(struct kvm_vapic_addr), 0, true, keel_vapic_addr_set },
	{ KVM_SET_GUEST_DEBUG, sizeof(struct kvm_guest_debug), 0, false, keel_guest_debug_set },
};

static long state_ioctl_copy(struct keel_vcpu *vcpu, unsigned int i, void __user *arg)
{
	u32 in = state_ioctls[i].in == XSAVE_SIZE ? keel_fpu_size() : state_ioctls[i].in;
	u32 out = state_ioctls[i].out == XSAVE_SIZE ? keel_fpu_size() : state_ioctls[i].out;
	void *buf;
	long r;

	if (state_ioctls[i].apic && !vcpu->apic)
		return -EINVAL;
	buf = kvzalloc(max(in, out), GFP_KERNEL_ACCOUNT);
	if (!buf)
		return -ENOMEM;
	r = -EFAULT;
	if (in && copy_from_user(buf, arg, in))
		goto out;
	r = state_ioctls[i].fn(vcpu, buf);
	if (!r && out && copy_to_user(arg, buf, out))
		r = -EFAULT;
out:
	kvfree(buf);
	return r;
}

/**
 * keel_vcpu_state() - as the ioctl of that name, with its structure in kernel memory
 * @vcpu: the vCPU, locked; vm->srcu is held
 * @cmd: the ioctl, one of those with a structure
 * @buf: the structure
 *
 * Return: what the ioctl returns; -ENOTTY: not one of these
 */
long keel_vcpu_state(struct keel_vcpu *vcpu, unsigned int cmd, void *buf)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(state_ioctls); i++)
		if (state_ioctls[i].cmd == cmd)
			return state_ioctls[i].fn(vcpu, buf);
	return -ENOTTY;
}

/**
 * keel_vcpu_state_ioctl() - the vCPU ioctls that get and set state
 * @vcpu: the vCPU, locked; vm->srcu is held
 * @cmd: the ioctl
 * @arg: its argument
 *
 * Return: 0 or what the ioctl returns, -errno; -ENOTTY: not one of these
 */
long keel_vcpu_state_ioctl(struct keel_vcpu *vcpu, unsigned int cmd, void __user *arg)
{
	unsigned int i;

	switch (cmd) {
	case KVM_NMI:
		keel_inject_nmi(vcpu);
		return 0;
	case KVM_SMI:
		return keel_smi(vcpu);
	case KVM_SET_TSC_KHZ:
		return keel_set_tsc_khz(vcpu, (u32)(unsigned long)arg);
	case KVM_GET_TSC_KHZ:
		return keel_get_tsc_khz(vcpu);
	case KVM_KVMCLOCK_CTRL:
		return keel_clock_stopped(vcpu);
	}
	for (i = 0; i < ARRAY_SIZE(state_ioctls); i++)
		if (state_ioctls[i].cmd == cmd)
			return state_ioctl_copy(vcpu, i, arg);
	return -ENOTTY;
}
