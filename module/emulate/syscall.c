// SPDX-License-Identifier: GPL-2.0-only
/*
 * SYSCALL, SYSRET, SYSENTER and SYSEXIT. Segments are loaded with fixed values, no descriptor is
 * read.
 *
 * The vendors differ: Intel has SYSCALL and SYSRET in 64-bit mode only, AMD has SYSENTER and
 * SYSEXIT outside long mode only. Who made the guest's CPU is asked of CPUID.
 *
 * SDM vol 2 (the instructions), vol 3 5.8.7 and 5.8.8; APM vol 2 chapter 6.1, vol 3.
 */
#include "descriptor.h"

#define MSR_SYSENTER_CS		0x174
#define MSR_SYSENTER_ESP	0x175
#define MSR_SYSENTER_EIP	0x176
#define MSR_STAR		0xc0000081
#define MSR_LSTAR		0xc0000082
#define MSR_CSTAR		0xc0000083
#define MSR_SFMASK		0xc0000084

bool keel_is_amd(struct keel_emu *emu)
{
	u32 regs[4] = {};

	emu->ops->cpuid(emu, regs);
	return regs[1] == 0x68747541 || regs[1] == 0x6f677948;	/* "Auth", "Hygo" */
}

/* Flat segments: @selector for CS, the next one for SS */
static void load_flat(struct keel_emu *emu, u16 cs_selector, u16 ss_selector, u8 cpl, bool code64)
{
	struct keel_emu_seg seg = {
		.selector = cs_selector | cpl, .limit = 0xffffffff, .type = 0xb, .s = 1,
		.dpl = cpl, .present = 1, .l = code64, .db = !code64, .g = 1,
	};

	emu->ops->set_seg(emu, KEEL_CS, &seg);
	emu->cpl = cpl;
	emu->mode = keel_mode_of(emu, &seg);
	seg.selector = ss_selector | cpl;
	seg.type = 3;
	seg.l = 0;
	seg.db = 1;
	emu->ops->set_seg(emu, KEEL_SS, &seg);
}

static int read_msrs(struct keel_emu *emu, const u32 *msrs, u64 *vals, unsigned int n)
{
	unsigned int i;
	int ret;

	for (i = 0; i < n; i++) {
		ret = emu->ops->get_msr(emu, msrs[i], &vals[i]);
		if (ret)
			return ret;
	}
	return KEEL_EMU_OK;
}

/* May SYSCALL or SYSRET be used here? Otherwise #UD. */
static bool syscall_enabled(struct keel_emu *emu, bool *wide)
{
	u64 efer = 0;

	*wide = keel_long_mode(emu);
	if (emu->ops->get_msr(emu, MSR_EFER, &efer) || !(efer & EFER_SCE))
		return false;
	if (!mode_is_protected(emu))
		return false;
	return emu->mode == KEEL_EMU_PROT64 || keel_is_amd(emu);
}

static int exec_syscall(struct keel_emu *emu)
{
	bool wide, code64 = emu->mode == KEEL_EMU_PROT64;
	const u32 msrs[] = { MSR_STAR, code64 ? MSR_LSTAR : MSR_CSTAR, MSR_SFMASK };
	u64 vals[ARRAY_SIZE(msrs)];
	u16 selector;
	int ret;

	if (!syscall_enabled(emu, &wide))
		return fault_ud(emu);
	ret = read_msrs(emu, msrs, vals, wide ? ARRAY_SIZE(msrs) : 1);
	if (ret)
		return ret;
	selector = (vals[0] >> 32) & 0xfffc;
	emu->rflags &= ~FL_RF;
	if (wide) {
		emu->gpr[KEEL_RCX] = emu->next_rip;
		emu->gpr[KEEL_R11] = emu->rflags;
		emu->next_rip = vals[1];
		emu->rflags = (emu->rflags & ~vals[2]) | FL_FIXED;
	} else {
		emu->gpr[KEEL_RCX] = emu->next_rip;
		emu->next_rip = (u32)vals[0];
		emu->rflags &= ~(FL_VM | FL_IF);
	}
	load_flat(emu, selector, selector + 8, 0, wide);
	emu->trap_late = true;
	return KEEL_EMU_OK;
}

static int exec_sysret(struct keel_emu *emu)
{
	const u64 image = FL_STATUS | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_AC | FL_VIF |
			  FL_VIP | FL_ID;
	bool wide, to64 = emu->insn.op_size == 8;
	u64 star, target = emu->gpr[KEEL_RCX];
	u16 selector;
	int ret;

	if (!syscall_enabled(emu, &wide))
		return fault_ud(emu);
	if (emu->cpl)
		return fault_gp(emu, 0);
	ret = emu->ops->get_msr(emu, MSR_STAR, &star);
	if (ret)
		return ret;
	/* AMD's SYSRET goes there and faults on the fetch: a state that no entry could load. */
	if (to64 && !keel_is_canonical(emu, target))
		return fault_gp(emu, 0);
	selector = (star >> 48) & 0xfffc;
	emu->next_rip = to64 ? target : (u32)target;
	if (wide)
		emu->rflags = (emu->gpr[KEEL_R11] & image) | FL_FIXED;
	else
		emu->rflags |= FL_IF;
	load_flat(emu, to64 ? selector + 16 : selector, selector + 8, 3, to64);
	emu->trap_late = true;
	return KEEL_EMU_OK;
}

static int exec_sysenter(struct keel_emu *emu)
{
	static const u32 msrs[] = { MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP };
	bool wide = keel_long_mode(emu);
	u64 vals[ARRAY_SIZE(msrs)];
	u16 selector;
	int ret;

	if (wide && keel_is_amd(emu))
		return fault_ud(emu);
	if (emu->mode == KEEL_EMU_REAL)
		return fault_gp(emu, 0);
	ret = read_msrs(emu, msrs, vals, ARRAY_SIZE(msrs));
	if (ret)
		return ret;
	selector = vals[0] & 0xfffc;
	if (!selector)
		return fault_gp(emu, 0);
	emu->rflags &= ~(FL_VM | FL_IF);
	load_flat(emu, selector, selector + 8, 0, wide);
	emu->gpr[KEEL_RSP] = wide ? vals[1] : (u32)vals[1];
	emu->next_rip = wide ? vals[2] : (u32)vals[2];
	return KEEL_EMU_OK;
}

static int exec_sysexit(struct keel_emu *emu)
{
	u64 cs, rip = emu->gpr[KEEL_RDX], rsp = emu->gpr[KEEL_RCX];
	bool to64 = emu->insn.op_size == 8;
	u16 selector;
	int ret;

	if (keel_long_mode(emu) && keel_is_amd(emu))
		return fault_ud(emu);
	if (emu->mode == KEEL_EMU_REAL || emu->cpl)
		return fault_gp(emu, 0);
	ret = emu->ops->get_msr(emu, MSR_SYSENTER_CS, &cs);
	if (ret)
		return ret;
	selector = cs & 0xfffc;
	if (!selector)
		return fault_gp(emu, 0);
	if (to64 && (!keel_is_canonical(emu, rip) || !keel_is_canonical(emu, rsp)))
		return fault_gp(emu, 0);
	load_flat(emu, selector + (to64 ? 32 : 16), selector + (to64 ? 40 : 24), 3, to64);
	emu->gpr[KEEL_RSP] = to64 ? rsp : (u32)rsp;
	emu->next_rip = to64 ? rip : (u32)rip;
	return KEEL_EMU_OK;
}

int keel_exec_syscall(struct keel_emu *emu)
{
	switch (emu->insn.op->op) {
	case OP_SYSCALL:
		return exec_syscall(emu);
	case OP_SYSRET:
		return exec_sysret(emu);
	case OP_SYSENTER:
		return exec_sysenter(emu);
	case OP_SYSEXIT:
		return exec_sysexit(emu);
	}
	return KEEL_EMU_UNHANDLEABLE;
}
