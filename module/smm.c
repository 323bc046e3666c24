// SPDX-License-Identifier: GPL-2.0-only
/*
 * System management mode (SDM 3C, chapter 32; APM 2, chapter 10): the SMI, the map in which the vCPU's state is saved, and
 * RSM, which loads it again.
 *
 * In the mode a vCPU sees memory of its own, KVM's address space 1: slots with a number above 0xffff, whose guest
 * addresses have KEEL_SMM_GPA, and the second of the VM's trees. The CPU knows nothing of it: it runs a guest in real mode
 * like any other, and RSM is undefined to it, so that it exits and is emulated.
 *
 * The map is what KVM and its guests agree upon: that of AMD64 CPUs for a guest that has long mode, that of the P6 for
 * others, whatever the host. Restarts of I/O and of HLT are not offered. What RSM finds is the guest's to write, and is
 * loaded as MOV to the registers would do it: what these refuse shuts the vCPU down.
 *
 * The vCPU is locked, vm->srcu held, and no window open, unless said otherwise.
 */
#include <asm/msr-index.h>
#include <asm/processor-flags.h>

#include "ops.h"
#include "smm.h"

#define MAP_OFFSET	0xfe00		/* from SMBASE */
#define ENTRY_RIP	0x8000
#define RFLAGS_KNOWN	0x3f7fd5ULL
#define REVISION_64	0x00020064
#define REVISION_32	0x00020000
#define NR_USER_SEGS	6

struct seg64 {
	u16 selector, ar;
	u32 limit;
	u64 base;
};

struct map64 {
	struct seg64 seg[NR_USER_SEGS];
	struct seg64 gdt, ldt, idt, tr;
	u8 unused1[0x2b];
	u8 int_shadow;
	u32 unused2;
	u64 efer;
	u8 unused3[0x24];
	u32 revision;
	u32 smbase;
	u8 unused4[0x44];
	u64 cr4, cr3, cr0, dr7, dr6, rflags, rip;
	u64 gpr[KEEL_NR_GPRS];		/* the last first */
} __packed;

static_assert(sizeof(struct map64) == KEEL_SMM_MAP_BYTES);
static_assert(offsetof(struct map64, efer) == 0xd0);
static_assert(offsetof(struct map64, revision) == 0xfc);
static_assert(offsetof(struct map64, cr4) == 0x148);

struct seg32 {
	u32 flags, limit, base;
};

struct dtable32 {
	u32 limit, base;
};

struct map32 {
	u8 unused1[0xf8];
	u32 smbase, revision;
	u8 unused2[0x14];
	u32 cr4;
	u8 int_shadow;
	u8 unused3[0x13];
	struct seg32 high[3];		/* DS, FS, GS */
	u32 unused4;
	struct dtable32 idt;
	struct seg32 tr;
	u32 unused5[2];
	struct dtable32 gdt;
	struct seg32 ldt;
	struct seg32 low[3];		/* ES, CS, SS */
	u32 selector[NR_USER_SEGS];
	u32 ldt_selector, tr_selector;
	u32 dr7, dr6;
	u32 gpr[8];
	u32 eip, eflags, cr3, cr0;
} __packed;

static_assert(sizeof(struct map32) == KEEL_SMM_MAP_BYTES);
static_assert(offsetof(struct map32, cr4) == 0x114);
static_assert(offsetof(struct map32, high) == 0x12c);
static_assert(offsetof(struct map32, gpr) == 0x1d0);

/* Access rights in both maps are those of keel_seg, without a bit for "unusable": that is what is not present. */
static u16 ar_save(const struct keel_seg *seg)
{
	return seg->ar & KEEL_AR_UNUSABLE ? seg->ar & ~KEEL_AR_P : seg->ar;
}

static void seg_load(struct keel_seg *seg, u16 selector, u16 ar, u32 limit, u64 base)
{
	const u32 known = KEEL_AR_TYPE | KEEL_AR_S | 3 << KEEL_AR_DPL_SHIFT | KEEL_AR_P | KEEL_AR_AVL | KEEL_AR_L |
			  KEEL_AR_DB | KEEL_AR_G;

	*seg = (struct keel_seg) {
		.selector = selector, .limit = limit, .base = base,
		.ar = (ar & known) | (ar & KEEL_AR_P ? 0 : KEEL_AR_UNUSABLE),
	};
}

static struct seg64 seg64_save(const struct keel_seg *seg)
{
	return (struct seg64) { seg->selector, ar_save(seg), seg->limit, seg->base };
}

static void seg64_load(struct keel_seg *seg, const struct seg64 *from)
{
	seg_load(seg, from->selector, from->ar, from->limit, from->base);
}

static struct seg32 seg32_save(const struct keel_seg *seg)
{
	return (struct seg32) { ar_save(seg) << 8, seg->limit, seg->base };
}

static void seg32_load(struct keel_seg *seg, u16 selector, const struct seg32 *from)
{
	seg_load(seg, selector, from->flags >> 8, from->limit, from->base);
}

static struct seg32 *seg32_of(struct map32 *m, int i)
{
	return i < KEEL_DS ? &m->low[i] : &m->high[i - KEEL_DS];
}

static void save64(struct keel_vcpu *vcpu, struct map64 *m)
{
	const struct keel_state *st = &vcpu->st;
	int i;

	for (i = 0; i < NR_USER_SEGS; i++)
		m->seg[i] = seg64_save(&st->seg[i]);
	m->gdt = (struct seg64) { .limit = st->gdt.limit, .base = st->gdt.base };
	m->idt = (struct seg64) { .limit = st->idt.limit, .base = st->idt.base };
	m->ldt = seg64_save(&st->seg[KEEL_LDTR]);
	m->tr = seg64_save(&st->seg[KEEL_TR]);
	m->int_shadow = st->int_shadow;
	m->efer = st->efer;
	m->revision = REVISION_64;
	m->smbase = vcpu->smbase;
	m->cr4 = st->cr4;
	m->cr3 = st->cr3;
	m->cr0 = st->cr0;
	m->dr7 = st->dr7;
	m->dr6 = st->dr6;
	m->rflags = st->rflags;
	m->rip = st->rip;
	for (i = 0; i < KEEL_NR_GPRS; i++)
		m->gpr[KEEL_NR_GPRS - 1 - i] = st->gpr[i];
}

static void save32(struct keel_vcpu *vcpu, struct map32 *m)
{
	const struct keel_state *st = &vcpu->st;
	int i;

	for (i = 0; i < NR_USER_SEGS; i++) {
		*seg32_of(m, i) = seg32_save(&st->seg[i]);
		m->selector[i] = st->seg[i].selector;
	}
	m->gdt = (struct dtable32) { st->gdt.limit, st->gdt.base };
	m->idt = (struct dtable32) { st->idt.limit, st->idt.base };
	m->ldt = seg32_save(&st->seg[KEEL_LDTR]);
	m->ldt_selector = st->seg[KEEL_LDTR].selector;
	m->tr = seg32_save(&st->seg[KEEL_TR]);
	m->tr_selector = st->seg[KEEL_TR].selector;
	m->int_shadow = st->int_shadow;
	m->revision = REVISION_32;
	m->smbase = vcpu->smbase;
	m->cr4 = st->cr4;
	m->cr3 = st->cr3;
	m->cr0 = st->cr0;
	m->dr7 = st->dr7;
	m->dr6 = st->dr6;
	m->eflags = st->rflags;
	m->eip = st->rip;
	for (i = 0; i < ARRAY_SIZE(m->gpr); i++)
		m->gpr[i] = st->gpr[i];
}

/* Flat, so that all of memory is reached in real mode (APM 2, 10.3.3). */
static void enter_segments(struct keel_vcpu *vcpu)
{
	struct keel_state *st = &vcpu->st;
	int i;

	for (i = 0; i < NR_USER_SEGS; i++)
		st->seg[i] = (struct keel_seg) {
			.limit = ~0u,
			.ar = KEEL_AR_G | KEEL_AR_P | KEEL_AR_S | 3,
		};
	st->seg[KEEL_CS].base = vcpu->smbase;
	st->seg[KEEL_CS].selector = vcpu->smbase >> 4;
	st->cpl = 0;
}

/**
 * keel_smm_switch() - enter or leave the mode: the memory that the vCPU sees, and what is blocked
 * @vcpu: the vCPU, locked
 * @in: into it
 *
 * The registers are as before.
 */
void keel_smm_switch(struct keel_vcpu *vcpu, bool in)
{
	if (vcpu->smm.in == in)
		return;
	vcpu->smm.in = in;
	vcpu->smm.inside_nmi = false;
	keel_mmu_use(vcpu, in);
	keel_request(KEEL_REQ_EVENT, vcpu);
}

/**
 * keel_smm_reset() - RESET or INIT
 * @vcpu: the vCPU, locked or not yet visible
 */
void keel_smm_reset(struct keel_vcpu *vcpu)
{
	keel_smm_switch(vcpu, false);
	vcpu->smm.pending = false;
	vcpu->smm.count = 0;
}

/**
 * keel_smm_enter() - take the SMI that is due
 * @vcpu: the vCPU, locked; keel_smi_due()
 *
 * A map that has no memory is lost, as it would be on a bus.
 */
void keel_smm_enter(struct keel_vcpu *vcpu)
{
	struct keel_state *st = keel_st_mod(vcpu, KEEL_ST_ALL);
	union {
		struct map64 m64;
		struct map32 m32;
	} map = { };

	if (keel_guest_has(vcpu, KEEL_F_LM))
		save64(vcpu, &map.m64);
	else
		save32(vcpu, &map.m32);
	vcpu->smm.pending = false;
	vcpu->smm.count++;
	keel_smm_switch(vcpu, true);
	keel_guest_write(vcpu, keel_own_gpa(vcpu, vcpu->smbase + MAP_OFFSET), &map, sizeof(map));
	if (vcpu->ev.nmi.masked)
		vcpu->smm.inside_nmi = true;
	vcpu->ev.nmi.masked = true;
	keel_ops->vcpu_set_nmi_masked(vcpu, true);

	st->rip = ENTRY_RIP;
	st->rflags = X86_EFLAGS_FIXED;
	st->int_shadow = 0;
	st->cr0 &= ~(u64)(X86_CR0_PE | X86_CR0_EM | X86_CR0_TS | X86_CR0_PG);
	st->cr4 = 0;
	st->efer = 0;
	st->dr7 = KEEL_DR7_FIXED;
	st->idt = (struct keel_dtable) { };
	enter_segments(vcpu);
}

/**
 * keel_smi() - KVM_SMI
 * @vcpu: the vCPU, locked
 *
 * Return: 0 or -ENOTTY (the mode is not offered)
 */
long keel_smi(struct keel_vcpu *vcpu)
{
	if (!keel_smm_offered())
		return -ENOTTY;
	vcpu->smm.pending = true;
	keel_request(KEEL_REQ_EVENT, vcpu);
	return 0;
}

/**
 * keel_smi_pending() - does an SMI wait, be it the client's or another CPU's?
 * @vcpu: the vCPU, locked, in its own thread; interrupts may be off
 *
 * Return: vcpu->smm.pending, brought up to date
 */
bool keel_smi_pending(struct keel_vcpu *vcpu)
{
	if (keel_check_request(KEEL_REQ_SMI, vcpu))
		vcpu->smm.pending = true;
	return vcpu->smm.pending;
}

/**
 * keel_smm_map_read() - what RSM is to load
 * @vcpu: the vCPU, locked
 * @map: KEEL_SMM_MAP_BYTES
 *
 * Return: 0 or -EFAULT (no memory there)
 */
int keel_smm_map_read(struct keel_vcpu *vcpu, void *map)
{
	return keel_guest_read(vcpu->vm, keel_own_gpa(vcpu, vcpu->smbase + MAP_OFFSET), map, KEEL_SMM_MAP_BYTES);
}

/* Real mode, from which all others can be reached. */
static void to_real_mode(struct keel_vcpu *vcpu)
{
	struct keel_state *st = keel_st_mod(vcpu, KEEL_ST_ALL);

	st->cr0 &= ~(u64)(X86_CR0_PE | X86_CR0_PG);
	st->cr4 = 0;
	st->efer = 0;
	st->int_shadow = 0;
	st->seg[KEEL_CS] = (struct keel_seg) { .limit = ~0u, .ar = KEEL_AR_G | KEEL_AR_P | KEEL_AR_S | 0xb };
	keel_guest_flush(vcpu);
}

/* In the order in which software has to do it; CR4.PCIDE can be set in long mode only, and with no PCID yet. */
static int load_crs(struct keel_vcpu *vcpu, u64 cr0, u64 cr3, u64 cr4)
{
	u64 pcid = cr4 & X86_CR4_PCIDE ? cr3 & 0xfff : 0;
	int err;

	err = keel_set_cr3(vcpu, cr3 & ~pcid);
	if (!err)
		err = keel_set_cr4(vcpu, cr4 & ~X86_CR4_PCIDE);
	if (!err)
		err = keel_set_cr0(vcpu, cr0);
	if (!err && (cr4 & X86_CR4_PCIDE))
		err = keel_set_cr4(vcpu, cr4);
	if (!err && pcid)
		err = keel_set_cr3(vcpu, cr3);
	return err;
}

static void load_rest(struct keel_vcpu *vcpu, u64 rip, u64 rflags, u8 int_shadow)
{
	struct keel_state *st = &vcpu->st;

	st->rip = rip;
	st->rflags = (rflags & RFLAGS_KNOWN) | X86_EFLAGS_FIXED;
	st->int_shadow = int_shadow & (KEEL_SHADOW_STI | KEEL_SHADOW_MOV_SS);
	st->cpl = st->seg[KEEL_SS].ar >> KEEL_AR_DPL_SHIFT & 3;
}

static int load64(struct keel_vcpu *vcpu, const struct map64 *m)
{
	struct keel_state *st = &vcpu->st;
	int i, err;

	vcpu->smbase = m->smbase;
	for (i = 0; i < KEEL_NR_GPRS; i++)
		st->gpr[i] = m->gpr[KEEL_NR_GPRS - 1 - i];
	err = keel_set_dr(vcpu, 6, m->dr6);
	if (!err)
		err = keel_set_dr(vcpu, 7, m->dr7);
	if (!err)
		err = keel_set_efer(vcpu, m->efer & ~(u64)EFER_LMA);
	if (!err)
		err = load_crs(vcpu, m->cr0, m->cr3, m->cr4);
	if (err)
		return err;
	st->gdt = (struct keel_dtable) { m->gdt.base, m->gdt.limit };
	st->idt = (struct keel_dtable) { m->idt.base, m->idt.limit };
	for (i = 0; i < NR_USER_SEGS; i++)
		seg64_load(&st->seg[i], &m->seg[i]);
	seg64_load(&st->seg[KEEL_LDTR], &m->ldt);
	seg64_load(&st->seg[KEEL_TR], &m->tr);
	load_rest(vcpu, m->rip, m->rflags, m->int_shadow);
	return 0;
}

static int load32(struct keel_vcpu *vcpu, const struct map32 *m)
{
	struct keel_state *st = &vcpu->st;
	int i, err;

	vcpu->smbase = m->smbase;
	for (i = 0; i < ARRAY_SIZE(m->gpr); i++)
		st->gpr[i] = m->gpr[i];
	err = keel_set_dr(vcpu, 6, m->dr6);
	if (!err)
		err = keel_set_dr(vcpu, 7, m->dr7);
	if (!err)
		err = load_crs(vcpu, m->cr0, m->cr3, m->cr4);
	if (err)
		return err;
	st->gdt = (struct keel_dtable) { m->gdt.base, m->gdt.limit };
	st->idt = (struct keel_dtable) { m->idt.base, m->idt.limit };
	for (i = 0; i < NR_USER_SEGS; i++)
		seg32_load(&st->seg[i], m->selector[i], seg32_of((struct map32 *)m, i));
	seg32_load(&st->seg[KEEL_LDTR], m->ldt_selector, &m->ldt);
	seg32_load(&st->seg[KEEL_TR], m->tr_selector, &m->tr);
	load_rest(vcpu, m->eip, m->eflags, m->int_shadow);
	return 0;
}

/**
 * keel_smm_leave() - RSM
 * @vcpu: the vCPU, locked, in the mode
 * @map: what keel_smm_map_read() read
 *
 * A map that no CPU would load shuts the vCPU down, outside the mode.
 *
 * Return: KEEL_RESUME
 */
int keel_smm_leave(struct keel_vcpu *vcpu, const void *map)
{
	if (!vcpu->smm.inside_nmi) {
		vcpu->ev.nmi.masked = false;
		keel_ops->vcpu_set_nmi_masked(vcpu, false);
	}
	keel_smm_switch(vcpu, false);
	to_real_mode(vcpu);
	if (keel_guest_has(vcpu, KEEL_F_LM) ? load64(vcpu, map) : load32(vcpu, map))
		vcpu->ev.triple_fault = true;
	return KEEL_RESUME;
}
