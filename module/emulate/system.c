// SPDX-License-Identifier: GPL-2.0-only
/*
 * System instructions: control and debug registers, MSRs, CPUID, time stamps, caches, descriptor
 * table registers, halting, interrupt flag, hypercalls.
 *
 * Privilege by CPL alone (#GP) is in the table where nothing comes before it; here are the
 * conditions that depend on CR4, IOPL or operands. What a register's value means, and whether a bit
 * may be set, is for the callbacks.
 *
 * SDM vol 3 chapters 2 and 6.8.3, vol 2 (the instructions); APM vol 2 chapters 3 and 8, vol 3.
 */
#include "internal.h"

#define MSR_TSC			0x10
#define MSR_FS_BASE		0xc0000100
#define MSR_GS_BASE		0xc0000101
#define MSR_KERNEL_GS_BASE	0xc0000102
#define MSR_TSC_AUX		0xc0000103
#define DR6_BD			0x2000
#define DR7_GD			0x2000

static int exec_cr(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int nr = insn->reg;

	if (nr != 0 && nr != 2 && nr != 3 && nr != 4 && nr != 8)
		return fault_ud(emu);
	if (emu->cpl)
		return fault_gp(emu, 0);
	if (insn->op->op == OP_MOV_TO_CR)
		return emu->ops->set_cr(emu, nr, gpr_read(emu, insn->rm, insn->op_size));
	gpr_write(emu, insn->rm, insn->op_size, emu->ops->get_cr(emu, nr));
	return KEEL_EMU_OK;
}

static int exec_dr(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int nr = insn->reg;
	u64 dr7;

	if (nr > 7)
		return fault_ud(emu);
	if (emu->cpl)
		return fault_gp(emu, 0);
	if (nr == 4 || nr == 5) {
		if (emu->ops->get_cr(emu, 4) & CR4_DE)
			return fault_ud(emu);
		nr += 2;
	}
	dr7 = emu->ops->get_dr(emu, 7);
	if (dr7 & DR7_GD) {
		/* #DB clears GD on its way into the handler (SDM vol 3 17.2.4). */
		emu->ops->set_dr(emu, 6, emu->ops->get_dr(emu, 6) | DR6_BD);
		emu->ops->set_dr(emu, 7, dr7 & ~(u64)DR7_GD);
		return keel_emu_fault(emu, VEC_DB, false, 0);
	}
	if (insn->op->op == OP_MOV_TO_DR)
		return emu->ops->set_dr(emu, nr, gpr_read(emu, insn->rm, insn->op_size));
	gpr_write(emu, insn->rm, insn->op_size, emu->ops->get_dr(emu, nr));
	return KEEL_EMU_OK;
}

static void write_edx_eax(struct keel_emu *emu, u64 val)
{
	emu->gpr[KEEL_RAX] = (u32)val;
	emu->gpr[KEEL_RDX] = val >> 32;
}

static u64 read_edx_eax(const struct keel_emu *emu)
{
	return (u32)emu->gpr[KEEL_RAX] | emu->gpr[KEEL_RDX] << 32;
}

static int exec_rdmsr(struct keel_emu *emu)
{
	u64 val = 0;
	int ret = emu->ops->get_msr(emu, emu->gpr[KEEL_RCX], &val);

	if (!ret)
		write_edx_eax(emu, val);
	return ret;
}

static int exec_rdtsc(struct keel_emu *emu, bool with_aux)
{
	u64 tsc = 0, aux = 0;
	int ret;

	if (emu->cpl && (emu->ops->get_cr(emu, 4) & CR4_TSD))
		return fault_gp(emu, 0);
	ret = emu->ops->get_msr(emu, MSR_TSC, &tsc);
	if (!ret && with_aux)
		ret = emu->ops->get_msr(emu, MSR_TSC_AUX, &aux);
	if (ret)
		return ret;
	write_edx_eax(emu, tsc);
	if (with_aux)
		emu->gpr[KEEL_RCX] = (u32)aux;
	return KEEL_EMU_OK;
}

static int exec_rdpid(struct keel_emu *emu)
{
	u64 aux = 0;
	int ret = emu->ops->get_msr(emu, MSR_TSC_AUX, &aux);

	if (!ret)
		gpr_write(emu, emu->insn.rm, emu->mode == KEEL_EMU_PROT64 ? 8 : 4, aux);
	return ret;
}

static int exec_rdpmc(struct keel_emu *emu)
{
	u64 val = 0;
	int ret;

	if (emu->cpl && !(emu->ops->get_cr(emu, 4) & CR4_PCE))
		return fault_gp(emu, 0);
	ret = emu->ops->system(emu, KEEL_SYS_RDPMC, (u32)emu->gpr[KEEL_RCX], &val);
	if (!ret)
		write_edx_eax(emu, val);
	return ret;
}

static int exec_xcr(struct keel_emu *emu)
{
	u32 nr = emu->gpr[KEEL_RCX];
	u64 val = 0;
	int ret;

	if (!(emu->ops->get_cr(emu, 4) & CR4_OSXSAVE))
		return fault_ud(emu);
	if (emu->insn.op->op == OP_XSETBV) {
		val = read_edx_eax(emu);
		return emu->ops->system(emu, KEEL_SYS_XSETBV, nr, &val);
	}
	ret = emu->ops->system(emu, KEEL_SYS_XGETBV, nr, &val);
	if (!ret)
		write_edx_eax(emu, val);
	return ret;
}

static int exec_pkru(struct keel_emu *emu)
{
	u64 val = 0;
	int ret;

	if (!(emu->ops->get_cr(emu, 4) & CR4_PKE))
		return fault_ud(emu);
	if ((u32)emu->gpr[KEEL_RCX])
		return fault_gp(emu, 0);
	if (emu->insn.op->op == OP_WRPKRU) {
		if ((u32)emu->gpr[KEEL_RDX])
			return fault_gp(emu, 0);
		return emu->ops->system(emu, KEEL_SYS_WRPKRU, (u32)emu->gpr[KEEL_RAX], NULL);
	}
	ret = emu->ops->system(emu, KEEL_SYS_RDPKRU, 0, &val);
	if (!ret)
		write_edx_eax(emu, val);
	return ret;
}

static int exec_cpuid(struct keel_emu *emu)
{
	u32 regs[4] = {
		emu->gpr[KEEL_RAX], emu->gpr[KEEL_RBX], emu->gpr[KEEL_RCX], emu->gpr[KEEL_RDX],
	};
	int ret = emu->ops->cpuid(emu, regs);

	if (ret)
		return ret;
	emu->gpr[KEEL_RAX] = regs[0];
	emu->gpr[KEEL_RBX] = regs[1];
	emu->gpr[KEEL_RCX] = regs[2];
	emu->gpr[KEEL_RDX] = regs[3];
	return KEEL_EMU_OK;
}

/* User mode without the I/O privilege gets VIF, with CR4.VME or CR4.PVI (SDM vol 3 20.3, 20.4). */
static int exec_interrupt_flag(struct keel_emu *emu)
{
	u64 virtual_if = emu->mode == KEEL_EMU_VM86 ? CR4_VME : CR4_PVI;
	bool sti = emu->insn.op->op == OP_STI;

	if (emu->mode != KEEL_EMU_REAL && emu->cpl > iopl(emu)) {
		if (emu->cpl != 3 || !(emu->ops->get_cr(emu, 4) & virtual_if))
			return fault_gp(emu, 0);
		if (sti && (emu->rflags & FL_VIP))
			return fault_gp(emu, 0);
		flag_set(emu, FL_VIF, sti);
		return KEEL_EMU_OK;
	}
	if (sti && !(emu->rflags & FL_IF))
		emu->shadow = KEEL_SHADOW_STI;
	flag_set(emu, FL_IF, sti);
	return KEEL_EMU_OK;
}

static bool umip_forbids(struct keel_emu *emu)
{
	return emu->cpl && (emu->ops->get_cr(emu, 4) & CR4_UMIP);
}

static int exec_smsw(struct keel_emu *emu)
{
	u64 cr0 = emu->ops->get_cr(emu, 0);

	if (umip_forbids(emu))
		return fault_gp(emu, 0);
	if (emu->insn.mod != 3)
		return keel_mem_write(emu, emu->insn.seg, keel_mem_ea(emu), &cr0, 2, 0);
	gpr_write(emu, emu->insn.rm, emu->insn.op_size, cr0);
	return KEEL_EMU_OK;
}

/* Loads PE, MP, EM, TS; cannot clear PE. */
static int exec_lmsw(struct keel_emu *emu)
{
	u64 cr0 = emu->ops->get_cr(emu, 0);
	struct operand src;
	int ret;

	ret = keel_operand_locate(emu, O_E16, &src);
	if (!ret)
		ret = keel_operand_read(emu, &src, 0);
	if (ret)
		return ret;
	return emu->ops->set_cr(emu, 0, (cr0 & ~0xeULL) | (src.val & 0xf));
}

static int exec_store_dtr(struct keel_emu *emu, bool idt)
{
	unsigned int base_size = emu->mode == KEEL_EMU_PROT64 ? 8 : 4;
	u8 buf[10];
	u64 base;
	u16 limit;

	if (umip_forbids(emu))
		return fault_gp(emu, 0);
	emu->ops->get_dtr(emu, idt, &base, &limit);
	memcpy(buf, &limit, 2);
	memcpy(buf + 2, &base, base_size);
	return keel_mem_write(emu, emu->insn.seg, keel_mem_ea(emu), buf, 2 + base_size,
			      ACC_UNALIGNED);
}

static int exec_load_dtr(struct keel_emu *emu, bool idt)
{
	unsigned int base_size = emu->mode == KEEL_EMU_PROT64 ? 8 : 4;
	u64 base = 0;
	u16 limit;
	u8 buf[10];
	int ret;

	ret = keel_mem_read(emu, emu->insn.seg, keel_mem_ea(emu), buf, 2 + base_size,
			    ACC_UNALIGNED);
	if (ret)
		return ret;
	memcpy(&limit, buf, 2);
	memcpy(&base, buf + 2, base_size);
	if (emu->insn.op_size == 2)
		base &= 0xffffff;
	if (!keel_is_canonical(emu, base))
		return fault_gp(emu, 0);
	emu->ops->set_dtr(emu, idt, base, limit);
	return KEEL_EMU_OK;
}

static int exec_fsgsbase(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;
	unsigned int op = insn->op->op;
	bool fs = op == OP_RDFSBASE || op == OP_WRFSBASE;
	enum keel_sreg sreg = fs ? KEEL_FS : KEEL_GS;
	struct keel_emu_seg seg;
	u64 base;

	if (!(emu->ops->get_cr(emu, 4) & CR4_FSGSBASE))
		return fault_ud(emu);
	emu->ops->get_seg(emu, sreg, &seg);
	if (op == OP_RDFSBASE || op == OP_RDGSBASE) {
		gpr_write(emu, insn->rm, insn->op_size, seg.base);
		return KEEL_EMU_OK;
	}
	base = gpr_read(emu, insn->rm, insn->op_size);
	if (!keel_is_canonical(emu, base))
		return fault_gp(emu, 0);
	return emu->ops->set_msr(emu, fs ? MSR_FS_BASE : MSR_GS_BASE, base);
}

static int exec_swapgs(struct keel_emu *emu)
{
	struct keel_emu_seg gs;
	u64 other = 0;
	int ret;

	emu->ops->get_seg(emu, KEEL_GS, &gs);
	ret = emu->ops->get_msr(emu, MSR_KERNEL_GS_BASE, &other);
	if (!ret)
		ret = emu->ops->set_msr(emu, MSR_KERNEL_GS_BASE, gs.base);
	if (ret)
		return ret;
	gs.base = other;
	emu->ops->set_seg(emu, KEEL_GS, &gs);
	return KEEL_EMU_OK;
}

/* Linear address that an instruction names without accessing it. */
static u64 named_linear(struct keel_emu *emu, u64 ea)
{
	struct keel_emu_seg seg;

	if (emu->mode == KEEL_EMU_PROT64 && emu->insn.seg != KEEL_FS && emu->insn.seg != KEEL_GS)
		return ea;
	emu->ops->get_seg(emu, emu->insn.seg, &seg);
	return emu->mode == KEEL_EMU_PROT64 ? seg.base + ea : (u32)(seg.base + ea);
}

static int exec_invlpg(struct keel_emu *emu)
{
	u64 la = named_linear(emu, keel_mem_ea(emu));

	if (!keel_is_canonical(emu, la))
		return KEEL_EMU_OK;
	return emu->ops->system(emu, KEEL_SYS_INVLPG, la, NULL);
}

static int exec_monitor(struct keel_emu *emu)
{
	u64 ea = emu->gpr[KEEL_RAX] & size_mask(emu->insn.addr_size);
	u64 la;
	int ret;

	if (emu->cpl)
		return fault_ud(emu);
	if (emu->insn.op->op == OP_MWAIT)
		return emu->ops->system(emu, KEEL_SYS_MWAIT, (u32)emu->gpr[KEEL_RAX], NULL);
	if ((u32)emu->gpr[KEEL_RCX])
		return fault_gp(emu, 0);
	ret = keel_mem_linear(emu, emu->insn.seg, ea, 1, 0, &la);
	if (ret)
		return ret;
	ret = keel_la_probe(emu, la, 1, 0);
	if (ret && ret != KEEL_EMU_IO)
		return ret;
	return emu->ops->system(emu, KEEL_SYS_MONITOR, la, NULL);
}

static int exec_smap_flag(struct keel_emu *emu)
{
	if (emu->cpl)
		return fault_ud(emu);
	flag_set(emu, FL_AC, emu->insn.op->op == OP_STAC);
	return KEEL_EMU_OK;
}

static int exec_hypercall(struct keel_emu *emu)
{
	u64 result = 0;
	int ret = emu->ops->system(emu, KEEL_SYS_HYPERCALL, 0, &result);

	if (!ret)
		emu->gpr[KEEL_RAX] = result;
	return ret;
}

int keel_exec_system(struct keel_emu *emu)
{
	const struct keel_insn *insn = &emu->insn;

	switch (insn->op->op) {
	case OP_CLI:
	case OP_STI:
		return exec_interrupt_flag(emu);
	case OP_HLT:
		return emu->ops->system(emu, KEEL_SYS_HLT, 0, NULL);
	case OP_RSM:
		return emu->ops->system(emu, KEEL_SYS_RSM, 0, NULL);
	case OP_PAUSE:
		return emu->ops->system(emu, KEEL_SYS_PAUSE, 0, NULL);
	case OP_CLTS:
		return emu->ops->set_cr(emu, 0, emu->ops->get_cr(emu, 0) & ~CR0_TS);
	case OP_LMSW:
		return exec_lmsw(emu);
	case OP_SMSW:
		return exec_smsw(emu);
	case OP_MOV_FROM_CR:
	case OP_MOV_TO_CR:
		return exec_cr(emu);
	case OP_MOV_FROM_DR:
	case OP_MOV_TO_DR:
		return exec_dr(emu);
	case OP_CPUID:
		return exec_cpuid(emu);
	case OP_RDMSR:
		return exec_rdmsr(emu);
	case OP_WRMSR:
		return emu->ops->set_msr(emu, emu->gpr[KEEL_RCX], read_edx_eax(emu));
	case OP_RDTSC:
		return exec_rdtsc(emu, false);
	case OP_RDTSCP:
		return exec_rdtsc(emu, true);
	case OP_RDPMC:
		return exec_rdpmc(emu);
	case OP_RDPID:
		return exec_rdpid(emu);
	case OP_XGETBV:
	case OP_XSETBV:
		return exec_xcr(emu);
	case OP_RDPKRU:
	case OP_WRPKRU:
		return exec_pkru(emu);
	case OP_INVD:
		return emu->ops->system(emu, KEEL_SYS_INVD, 0, NULL);
	case OP_WBINVD:
		return emu->ops->system(emu, KEEL_SYS_WBINVD, 0, NULL);
	case OP_INVLPG:
		return exec_invlpg(emu);
	case OP_MONITOR:
	case OP_MWAIT:
		return exec_monitor(emu);
	case OP_HYPERCALL:
		return exec_hypercall(emu);
	case OP_SWAPGS:
		return exec_swapgs(emu);
	case OP_CLAC:
	case OP_STAC:
		return exec_smap_flag(emu);
	case OP_RDFSBASE:
	case OP_RDGSBASE:
	case OP_WRFSBASE:
	case OP_WRGSBASE:
		return exec_fsgsbase(emu);
	case OP_SGDT:
		return exec_store_dtr(emu, false);
	case OP_SIDT:
		return exec_store_dtr(emu, true);
	case OP_LGDT:
		return exec_load_dtr(emu, false);
	case OP_LIDT:
		return exec_load_dtr(emu, true);
	}
	return KEEL_EMU_UNHANDLEABLE;
}
