// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel side of the emulator: guest memory, devices and registers behind struct keel_emu_ops.
 *
 * An access that the client must complete ends keel_emulate() with an exit; when the client comes back,
 * the instruction is executed again and the accesses that are done already are answered from a record,
 * in the same order. So a device sees each access once, and the guest's registers change only at the
 * end. The vCPU is locked, vm->srcu is held, the window is closed.
 */
#include <linux/slab.h>

#include "ops.h"
#include "smm.h"

#define OPCODE_WRMSR	0x30	/* behind 0F */
#define OPCODE_RDMSR	0x32
#define OPCODE_RSM	0xaa

#define MAX_RECORDS	16	/* device fragments of 8 bytes in one instruction (MOVS of 32 bytes twice: 8) */

struct record {
	unsigned int access;	/* keel_emu.access_nr */
	u8 offset, len;		/* of the fragment in that access */
	u8 data[8];
};

struct keel_emul {
	struct keel_emu emu;
	struct keel_vcpu *vcpu;
	struct record records[MAX_RECORDS];
	int nr_records;
	bool pio_done;		/* the string port access is complete ... */
	unsigned int pio_count;	/* ... with that many elements, ... */
	u8 pio_buf[KEEL_EMU_PIO_MAX];	/* ... which were read */
	u8 pio_size;
	bool pio_in;
	bool msr_done;		/* the client has decided about the MSR */
	bool halted;		/* the instruction was HLT */
	bool resumes;		/* the instruction was RSM, ... */
	u8 smm_map[KEEL_SMM_MAP_BYTES];	/* ... which is to load this */
	bool tpr_dropped;	/* CR8 was lowered, and the client has the APIC */
	int (*again)(struct keel_vcpu *vcpu);	/* what an access for the client has interrupted */
	struct keel_emu_event event;	/* delivery: the event ... */
	struct keel_emu_task task;	/* ... or the task switch ... */
	u8 insn_len;			/* ... that this instruction caused */
	int err;		/* -errno for the client, when a callback met one */
};

static struct keel_vcpu *to_vcpu(struct keel_emu *emu)
{
	return ((struct keel_emul *)emu->priv)->vcpu;
}

static struct keel_emul *to_emul(struct keel_emu *emu)
{
	return emu->priv;
}

/* Memory */

static int page_fault(struct keel_emu *emu, const struct keel_fault *fault)
{
	keel_emu_fault(emu, fault->vector, fault->has_error, fault->error);
	emu->fault.cr2 = fault->address;
	return KEEL_EMU_FAULT;
}

static int translate(struct keel_emu *emu, u64 la, unsigned int acc, gpa_t *gpa)
{
	struct keel_fault fault;
	u32 access = 0;
	int r;

	if (acc & KEEL_EMU_ACC_WRITE)
		access |= KEEL_ACC_WRITE;
	if (acc & KEEL_EMU_ACC_FETCH)
		access |= KEEL_ACC_EXEC;
	if (acc & KEEL_EMU_ACC_SYSTEM)
		access |= KEEL_ACC_IMPLICIT;
	else if (emu->cpl == 3)
		access |= KEEL_ACC_USER;
	r = keel_gva_to_gpa(to_vcpu(emu), la, access, gpa, &fault, false);
	if (!r)
		return KEEL_EMU_OK;
	if (r == -EFAULT)
		return page_fault(emu, &fault);
	to_emul(emu)->err = r == -EAGAIN ? 0 : r;
	return KEEL_EMU_UNHANDLEABLE;
}

static bool is_ram(struct keel_vcpu *vcpu, gpa_t gpa, bool write)
{
	bool writable;

	return keel_gfn_to_hva(vcpu->vm, gpa >> PAGE_SHIFT, &writable) != KEEL_BAD_HVA && (!write || writable);
}

/*
 * Other slots since the last look: an access fails where there was memory at that look, and is a device now, or memory
 * elsewhere. @slots is only compared.
 */
static bool slots_changed(struct keel_vcpu *vcpu, const void **slots)
{
	const void *before = *slots;

	*slots = rcu_access_pointer(vcpu->vm->slots);
	return *slots != before;
}

static struct record *find_record(struct keel_emul *e, unsigned int offset)
{
	int i;

	for (i = 0; i < e->nr_records; i++)
		if (e->records[i].access == e->emu.access_nr && e->records[i].offset == offset)
			return &e->records[i];
	return NULL;
}

/* The client has completed the newest record. */
static int complete_mmio(struct keel_vcpu *vcpu)
{
	struct keel_emul *e = vcpu->emul;
	struct record *rec = &e->records[e->nr_records - 1];

	if (!vcpu->run->mmio.is_write)
		memcpy(rec->data, vcpu->run->mmio.data, rec->len);
	return keel_emulate_again(vcpu);
}

/* One device access, in fragments of up to 8 bytes, each recorded once it is done. */
static int device_access(struct keel_emu *emu, gpa_t own_gpa, void *buf, unsigned int len, bool write)
{
	gpa_t gpa = own_gpa & ~KEEL_SMM_GPA;
	struct keel_vcpu *vcpu = to_vcpu(emu);
	struct keel_emul *e = to_emul(emu);
	unsigned int offset, n;
	struct record *rec;

	for (offset = 0; offset < len; offset += n) {
		n = min(len - offset, 8u);
		rec = find_record(e, offset);
		if (!rec) {
			if (e->nr_records == MAX_RECORDS)
				return KEEL_EMU_UNHANDLEABLE;
			rec = &e->records[e->nr_records++];
			rec->access = emu->access_nr;
			rec->offset = offset;
			rec->len = n;
			if (write)
				memcpy(rec->data, buf + offset, n);
			if (keel_mmio_device(vcpu, gpa + offset, n, rec->data, write)) {
				keel_mmio_to_client(vcpu, gpa + offset, n, write ? rec->data : NULL);
				vcpu->complete = complete_mmio;
				return KEEL_EMU_IO;
			}
		}
		if (!write)
			memcpy(buf + offset, rec->data, n);
	}
	return KEEL_EMU_OK;
}

static int op_read(struct keel_emu *emu, u64 la, void *buf, unsigned int len, unsigned int acc)
{
	const void *slots = rcu_access_pointer(to_vcpu(emu)->vm->slots);
	gpa_t gpa;
	int r = translate(emu, la, acc, &gpa);

	if (r)
		return r;
	do {
		if (!is_ram(to_vcpu(emu), gpa, false))
			/* Code cannot be fetched from a device. */
			return acc & KEEL_EMU_ACC_FETCH ? KEEL_EMU_UNHANDLEABLE :
							  device_access(emu, gpa, buf, len, false);
		r = keel_guest_read(to_vcpu(emu)->vm, gpa, buf, len);
	} while (r && slots_changed(to_vcpu(emu), &slots));
	to_emul(emu)->err = r;
	return r ? KEEL_EMU_UNHANDLEABLE : KEEL_EMU_OK;
}

static int op_write(struct keel_emu *emu, u64 la, const void *buf, unsigned int len, unsigned int acc)
{
	const void *slots = rcu_access_pointer(to_vcpu(emu)->vm->slots);
	gpa_t gpa;
	int r = translate(emu, la, acc | KEEL_EMU_ACC_WRITE, &gpa);

	if (r)
		return r;
	do {
		if (!is_ram(to_vcpu(emu), gpa, true))
			return device_access(emu, gpa, (void *)buf, len, true);
		r = keel_guest_write(to_vcpu(emu), gpa, buf, len);
	} while (r && slots_changed(to_vcpu(emu), &slots));
	if (keel_shadowing)
		keel_shadow_written(to_vcpu(emu)->vm, gpa, len);
	to_emul(emu)->err = r;
	return r ? KEEL_EMU_UNHANDLEABLE : KEEL_EMU_OK;
}

static int op_cmpxchg(struct keel_emu *emu, u64 la, void *old, const void *new, unsigned int len)
{
	const void *slots = rcu_access_pointer(to_vcpu(emu)->vm->slots);
	gpa_t gpa;
	int r = translate(emu, la, KEEL_EMU_ACC_WRITE, &gpa);

	if (r)
		return r;
	do {
		if (!is_ram(to_vcpu(emu), gpa, true))
			return device_access(emu, gpa, (void *)new, len, true);
		r = keel_guest_cmpxchg(to_vcpu(emu), gpa, old, new, len);
		/* A split lock that would trap in the host: as across two pages, a write is the best there is. */
		if (r == -EINVAL)
			r = keel_guest_write(to_vcpu(emu), gpa, new, len);
	} while (r == -EFAULT && slots_changed(to_vcpu(emu), &slots));
	if (keel_shadowing)
		keel_shadow_written(to_vcpu(emu)->vm, gpa, len);
	if (r < 0) {
		to_emul(emu)->err = r == -EFAULT ? r : 0;
		return KEEL_EMU_UNHANDLEABLE;
	}
	return KEEL_EMU_OK;
}

static int op_probe(struct keel_emu *emu, u64 la, unsigned int len, unsigned int acc)
{
	gpa_t gpa;
	int r = translate(emu, la, acc, &gpa);

	if (r)
		return r;
	return is_ram(to_vcpu(emu), gpa, acc & KEEL_EMU_ACC_WRITE) ? KEEL_EMU_OK : KEEL_EMU_IO;
}

static void op_commit(struct keel_emu *emu)
{
	to_emul(emu)->nr_records = 0;
	to_emul(emu)->pio_done = false;
}

/* Ports */

static int complete_pio(struct keel_vcpu *vcpu)
{
	struct keel_emul *e = vcpu->emul;

	e->pio_done = true;
	if (e->pio_in)
		memcpy(e->pio_buf, vcpu->pio_data, e->pio_size * e->pio_count);
	return keel_emulate_again(vcpu);
}

/* Up to *@count elements by in-kernel devices; the number done. */
static unsigned int kernel_pio(struct keel_vcpu *vcpu, u16 port, void *buf, unsigned int size,
			       unsigned int count, bool in)
{
	unsigned int i;
	int r;

	for (i = 0; i < count; i++, buf += size) {
		r = in ? keel_io_read(vcpu, KEEL_PIO_BUS, port, size, buf) :
			 keel_io_write(vcpu, KEEL_PIO_BUS, port, size, buf);
		if (r)
			break;
	}
	return i;
}

static int pio(struct keel_emu *emu, u16 port, void *buf, unsigned int size, unsigned int *count, bool in)
{
	struct keel_vcpu *vcpu = to_vcpu(emu);
	struct keel_emul *e = to_emul(emu);
	struct kvm_run *run = vcpu->run;
	unsigned int n;

	if (e->pio_done) {
		*count = e->pio_count;
		if (in)
			memcpy(buf, e->pio_buf, size * *count);
		return KEEL_EMU_OK;
	}
	e->pio_in = in;
	e->pio_size = size;
	n = kernel_pio(vcpu, port, buf, size, *count, in);
	if (n) {
		/* Recorded as well: INS to a device is executed again once the client has the data. */
		*count = n;
		e->pio_count = n;
		e->pio_done = true;
		if (in)
			memcpy(e->pio_buf, buf, size * n);
		return KEEL_EMU_OK;
	}
	e->pio_count = *count;
	if (in)
		memset(vcpu->pio_data, 0, size * *count);
	else
		memcpy(vcpu->pio_data, buf, size * *count);
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = size;
	run->io.port = port;
	run->io.count = *count;
	run->io.data_offset = KVM_PIO_PAGE_OFFSET * PAGE_SIZE;
	vcpu->complete = complete_pio;
	return KEEL_EMU_IO;
}

static int op_pio_in(struct keel_emu *emu, u16 port, void *buf, unsigned int size, unsigned int *count)
{
	return pio(emu, port, buf, size, count, true);
}

static int op_pio_out(struct keel_emu *emu, u16 port, const void *buf, unsigned int size, unsigned int *count)
{
	return pio(emu, port, (void *)buf, size, count, false);
}

/* Segments and tables */

static void op_get_seg(struct keel_emu *emu, enum keel_sreg sreg, struct keel_emu_seg *out)
{
	const struct keel_seg *seg = &keel_st(to_vcpu(emu), KEEL_ST_SEG)->seg[sreg];

	*out = (struct keel_emu_seg) {
		.base = seg->base,
		.limit = seg->limit,
		.selector = seg->selector,
		.type = seg->ar & KEEL_AR_TYPE,
		.s = !!(seg->ar & KEEL_AR_S),
		.dpl = seg->ar >> KEEL_AR_DPL_SHIFT & 3,
		.present = !!(seg->ar & KEEL_AR_P),
		.avl = !!(seg->ar & KEEL_AR_AVL),
		.l = !!(seg->ar & KEEL_AR_L),
		.db = !!(seg->ar & KEEL_AR_DB),
		.g = !!(seg->ar & KEEL_AR_G),
		.unusable = !!(seg->ar & KEEL_AR_UNUSABLE),
	};
}

static void op_set_seg(struct keel_emu *emu, enum keel_sreg sreg, const struct keel_emu_seg *in)
{
	struct keel_state *st = keel_st_mod(to_vcpu(emu), KEEL_ST_SEG);
	struct keel_seg *seg = &st->seg[sreg];

	seg->base = in->base;
	seg->limit = in->limit;
	seg->selector = in->selector;
	seg->ar = in->type | (in->s ? KEEL_AR_S : 0) | in->dpl << KEEL_AR_DPL_SHIFT |
		  (in->present ? KEEL_AR_P : 0) | (in->avl ? KEEL_AR_AVL : 0) | (in->l ? KEEL_AR_L : 0) |
		  (in->db ? KEEL_AR_DB : 0) | (in->g ? KEEL_AR_G : 0) | (in->unusable ? KEEL_AR_UNUSABLE : 0);
	if (sreg == KEEL_SS)
		st->cpl = in->dpl;
}

static void op_get_dtr(struct keel_emu *emu, bool idt, u64 *base, u16 *limit)
{
	const struct keel_state *st = keel_st(to_vcpu(emu), KEEL_ST_DT);
	const struct keel_dtable *dt = idt ? &st->idt : &st->gdt;

	*base = dt->base;
	*limit = dt->limit;
}

static void op_set_dtr(struct keel_emu *emu, bool idt, u64 base, u16 limit)
{
	struct keel_state *st = keel_st_mod(to_vcpu(emu), KEEL_ST_DT);

	*(idt ? &st->idt : &st->gdt) = (struct keel_dtable) { base, limit };
}

/* Control, debug and model-specific registers */

static u64 op_get_cr(struct keel_emu *emu, unsigned int nr)
{
	const struct keel_state *st = keel_st(to_vcpu(emu), KEEL_ST_CR);

	switch (nr) {
	case 0:
		return st->cr0;
	case 2:
		return st->cr2;
	case 3:
		return st->cr3;
	case 4:
		return st->cr4;
	default:
		return keel_get_cr8(to_vcpu(emu));
	}
}

static int gp_if(struct keel_emu *emu, int err)
{
	return err ? keel_emu_fault(emu, X86_TRAP_GP, true, 0) : KEEL_EMU_OK;
}

static int op_set_cr(struct keel_emu *emu, unsigned int nr, u64 val)
{
	struct keel_vcpu *vcpu = to_vcpu(emu);

	switch (nr) {
	case 0:
		return gp_if(emu, keel_set_cr0(vcpu, val));
	case 2:
		keel_st_mod(vcpu, KEEL_ST_CR)->cr2 = val;
		return KEEL_EMU_OK;
	case 3:
		return gp_if(emu, keel_set_cr3(vcpu, val));
	case 4:
		return gp_if(emu, keel_set_cr4(vcpu, val));
	default:
		if (val & ~0xfULL)
			return gp_if(emu, -EINVAL);
		if (!vcpu->apic && val < vcpu->cr8)
			to_emul(emu)->tpr_dropped = true;
		keel_put_cr8(vcpu, val);
		keel_request(KEEL_REQ_EVENT, vcpu);
		return KEEL_EMU_OK;
	}
}

static u64 op_get_dr(struct keel_emu *emu, unsigned int nr)
{
	return keel_get_dr(to_vcpu(emu), nr);
}

static int op_set_dr(struct keel_emu *emu, unsigned int nr, u64 val)
{
	return gp_if(emu, keel_set_dr(to_vcpu(emu), nr, val));
}

/* Where the client has breakpoints of its own, the guest's do not count, as in the CPU. */
static bool client_watches(const struct keel_vcpu *vcpu)
{
	return vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP;
}

static u64 op_get_watch(struct keel_emu *emu, unsigned int nr)
{
	const struct keel_vcpu *vcpu = to_vcpu(emu);

	if (!client_watches(vcpu))
		return op_get_dr(emu, nr);
	return nr == 7 ? vcpu->debug_dr7 : vcpu->debug_dr[nr];
}

/* RDMSR and WRMSR: what is refused may be the client's to decide, who is asked once. */
static int guest_msr(struct keel_emu *emu, u32 msr, u64 *val, bool write)
{
	struct keel_vcpu *vcpu = to_vcpu(emu);
	struct keel_emul *e = to_emul(emu);
	int err;

	if (e->msr_done) {
		e->msr_done = false;
		if (!write)
			*val = READ_ONCE(vcpu->run->msr.data);
		return gp_if(emu, READ_ONCE(vcpu->run->msr.error) ? -EINVAL : 0);
	}
	err = keel_guest_msr(vcpu, msr, val, write);
	if (!err || !keel_msr_to_client(vcpu, msr, *val, write, err))
		return gp_if(emu, err);
	e->msr_done = true;
	vcpu->complete = keel_emulate_again;
	return KEEL_EMU_IO;
}

static bool is_insn(const struct keel_emu *emu, u8 opcode)
{
	return emu->insn.map == KEEL_MAP_0F && emu->insn.opcode == opcode;
}

static int op_get_msr(struct keel_emu *emu, u32 msr, u64 *val)
{
	if (is_insn(emu, OPCODE_RDMSR))
		return guest_msr(emu, msr, val, false);
	return gp_if(emu, keel_msr_get(to_vcpu(emu), msr, val, false));
}

static int op_set_msr(struct keel_emu *emu, u32 msr, u64 val)
{
	if (is_insn(emu, OPCODE_WRMSR))
		return guest_msr(emu, msr, &val, true);
	return gp_if(emu, keel_msr_set(to_vcpu(emu), msr, val, false));
}

static int op_cpuid(struct keel_emu *emu, u32 regs[4])
{
	struct keel_cpuid_answer a;

	if (keel_cpuid_faults(to_vcpu(emu)))
		return gp_if(emu, -EINVAL);
	a = keel_cpuid_query(to_vcpu(emu), regs[0], regs[2]);
	regs[0] = a.eax;
	regs[1] = a.ebx;
	regs[2] = a.ecx;
	regs[3] = a.edx;
	return KEEL_EMU_OK;
}

/* Vector registers: 16 or 32 bytes of XMM and YMM, 8 of MMX. The emulator has checked that they may be used. */
static int op_get_vec(struct keel_emu *emu, unsigned int nr, void *buf, unsigned int len)
{
	if (len == 8)
		return keel_fpu_mmx(to_vcpu(emu), nr, buf, false) ?
		       keel_emu_fault(emu, X86_TRAP_MF, false, 0) : KEEL_EMU_OK;
	keel_fpu_read_vec(to_vcpu(emu), nr, buf, len);
	return KEEL_EMU_OK;
}

static int op_set_vec(struct keel_emu *emu, unsigned int nr, const void *buf, unsigned int len, bool zero_upper)
{
	if (len == 8)
		return keel_fpu_mmx(to_vcpu(emu), nr, (u8 *)buf, true) ?
		       keel_emu_fault(emu, X86_TRAP_MF, false, 0) : KEEL_EMU_OK;
	keel_fpu_write_vec(to_vcpu(emu), nr, buf, len, zero_upper);
	return KEEL_EMU_OK;
}

static void op_get_fx(struct keel_emu *emu, void *area)
{
	keel_fpu_get_fx(to_vcpu(emu), area);
}

static int op_set_fx(struct keel_emu *emu, const void *area)
{
	return gp_if(emu, keel_fpu_set_fx(to_vcpu(emu), area));
}

static int op_system(struct keel_emu *emu, enum keel_emu_system what, u64 arg, u64 *result)
{
	struct keel_vcpu *vcpu = to_vcpu(emu);

	switch (what) {
	case KEEL_SYS_INVD:
	case KEEL_SYS_WBINVD:
	case KEEL_SYS_PAUSE:
		return KEEL_EMU_OK;
	case KEEL_SYS_MONITOR:
	case KEEL_SYS_MWAIT:
		return keel_mwait_undefined(vcpu) ? keel_emu_fault(emu, X86_TRAP_UD, false, 0) : KEEL_EMU_OK;
	case KEEL_SYS_INVLPG:
		if (keel_shadowing)
			keel_shadow_invlpg(vcpu, arg);
		else
			keel_request(KEEL_REQ_TLB_FLUSH, vcpu);
		return KEEL_EMU_OK;
	case KEEL_SYS_XGETBV:
		if (arg)
			return gp_if(emu, -EINVAL);
		*result = vcpu->st.xcr0;
		return KEEL_EMU_OK;
	case KEEL_SYS_XSETBV:
		return gp_if(emu, arg ? -EINVAL : keel_set_xcr0(vcpu, *result));
	case KEEL_SYS_RDPKRU:
		*result = vcpu->st.pkru;
		return KEEL_EMU_OK;
	case KEEL_SYS_WRPKRU:
		vcpu->st.pkru = arg;
		return KEEL_EMU_OK;
	case KEEL_SYS_RDPMC:
		return gp_if(emu, -EINVAL);
	case KEEL_SYS_IRET:
		if (vcpu->ev.nmi.masked) {
			vcpu->ev.nmi.masked = false;
			keel_ops->vcpu_set_nmi_masked(vcpu, false);
		}
		return KEEL_EMU_OK;
	case KEEL_SYS_HLT:
		to_emul(emu)->halted = true;
		return KEEL_EMU_OK;
	case KEEL_SYS_RSM:
		if (!vcpu->smm.in)
			return keel_emu_fault(emu, X86_TRAP_UD, false, 0);
		if (keel_smm_map_read(vcpu, to_emul(emu)->smm_map))
			return KEEL_EMU_UNHANDLEABLE;
		to_emul(emu)->resumes = true;
		return KEEL_EMU_OK;
	case KEEL_SYS_HYPERCALL:
		keel_hypercall(vcpu, emu->gpr, result);
		return KEEL_EMU_OK;
	default:
		return KEEL_EMU_UNHANDLEABLE;
	}
}

static const struct keel_emu_ops emul_ops = {
	.read = op_read,
	.write = op_write,
	.compare_exchange = op_cmpxchg,
	.probe = op_probe,
	.commit = op_commit,
	.pio_in = op_pio_in,
	.pio_out = op_pio_out,
	.get_seg = op_get_seg,
	.set_seg = op_set_seg,
	.get_dtr = op_get_dtr,
	.set_dtr = op_set_dtr,
	.get_cr = op_get_cr,
	.set_cr = op_set_cr,
	.get_dr = op_get_dr,
	.set_dr = op_set_dr,
	.get_watch = op_get_watch,
	.get_msr = op_get_msr,
	.set_msr = op_set_msr,
	.cpuid = op_cpuid,
	.get_vec = op_get_vec,
	.set_vec = op_set_vec,
	.get_fx = op_get_fx,
	.set_fx = op_set_fx,
	.system = op_system,
};

/**
 * keel_emul_create() - the emulator context of a vCPU
 * @vcpu: the vCPU
 *
 * Return: 0 or -ENOMEM
 */
int keel_emul_create(struct keel_vcpu *vcpu)
{
	struct keel_emul *e = kzalloc(sizeof(*e), GFP_KERNEL_ACCOUNT);

	if (!e)
		return -ENOMEM;
	e->vcpu = vcpu;
	e->emu.ops = &emul_ops;
	e->emu.priv = e;
	vcpu->emul = e;
	return 0;
}

void keel_emul_destroy(struct keel_vcpu *vcpu)
{
	kfree(vcpu->emul);
	vcpu->emul = NULL;
}

/**
 * keel_emul_mode() - how the CPU reads instructions now
 * @vcpu: the vCPU, locked
 *
 * Return: the mode (SDM 3A, 3.4.5; APM 2, 4.8)
 */
enum keel_emu_mode keel_emul_mode(struct keel_vcpu *vcpu)
{
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_RIP | KEEL_ST_CR | KEEL_ST_CS);
	u32 ar = st->seg[KEEL_CS].ar;

	if (!(st->cr0 & X86_CR0_PE))
		return KEEL_EMU_REAL;
	if (st->rflags & X86_EFLAGS_VM)
		return KEEL_EMU_VM86;
	if ((st->efer & EFER_LMA) && (ar & KEEL_AR_L))
		return KEEL_EMU_PROT64;
	return ar & KEEL_AR_DB ? KEEL_EMU_PROT32 : KEEL_EMU_PROT16;
}

static void load_registers(struct keel_vcpu *vcpu)
{
	struct keel_emu *emu = &vcpu->emul->emu;
	const struct keel_state *st = keel_st(vcpu, KEEL_ST_RIP | KEEL_ST_SEG);

	memcpy(emu->gpr, st->gpr, sizeof(emu->gpr));
	emu->rip = st->rip;
	emu->rflags = st->rflags;
	emu->cpl = st->cpl;
	emu->mode = keel_emul_mode(vcpu);
}

static void store_registers(struct keel_vcpu *vcpu)
{
	const struct keel_emu *emu = &vcpu->emul->emu;
	struct keel_state *st = keel_st_mod(vcpu, KEEL_ST_RIP);

	memcpy(st->gpr, emu->gpr, sizeof(st->gpr));
	st->rip = emu->rip;
	st->rflags = emu->rflags;
	if (keel_st(vcpu, KEEL_ST_SHADOW)->int_shadow != emu->shadow)
		keel_st_mod(vcpu, KEEL_ST_SHADOW)->int_shadow = emu->shadow;
	keel_request(KEEL_REQ_EVENT, vcpu);
}

/* A REP instruction that stops half-way has finished some iterations: their registers and flags stay. */
static void store_iterations(struct keel_vcpu *vcpu)
{
	struct keel_state *st = keel_st_mod(vcpu, KEEL_ST_RIP);

	memcpy(st->gpr, vcpu->emul->emu.gpr, sizeof(st->gpr));
	st->rflags = vcpu->emul->emu.rflags;
}

static void drop_records(struct keel_emul *e)
{
	e->nr_records = 0;
	e->pio_done = false;
	e->msr_done = false;
}

static void inject_fault(struct keel_vcpu *vcpu)
{
	const struct keel_emu_fault *f = &vcpu->emul->emu.fault;
	const struct keel_fault fault = {
		.vector = f->vector,
		.has_error = f->has_error,
		.error = f->error,
		.address = f->cr2,
	};

	keel_inject_fault(vcpu, &fault);
}

/* Debug conditions that emulation met: the guest's #DB, but breakpoints of the client's are the client's. */
static int debug_trap(struct keel_vcpu *vcpu, u64 dr6)
{
	u64 hits = client_watches(vcpu) ? dr6 & DR_TRAP_BITS : 0;

	if (dr6 & ~hits)
		keel_inject_debug(vcpu, dr6 & ~hits);
	return hits ? keel_exit_debug(vcpu, hits, X86_TRAP_DB) : KEEL_RESUME;
}

/* What keel_decode() or execute returned, as an exit handler's return value. */
static int finish(struct keel_vcpu *vcpu, int status)
{
	struct keel_emul *e = vcpu->emul;
	struct keel_emu *emu = &e->emu;

	if (status == KEEL_EMU_IO) {
		store_iterations(vcpu);
		return KEEL_TO_USER;
	}
	drop_records(e);
	switch (status) {
	case KEEL_EMU_OK:
		store_registers(vcpu);
		vcpu->nr_emulated++;
		if (e->resumes) {
			e->resumes = false;
			return keel_smm_leave(vcpu, e->smm_map);
		}
		keel_insn_done(vcpu);
		if (unlikely(emu->db_trap) && debug_trap(vcpu, emu->db_trap) == KEEL_TO_USER)
			return KEEL_TO_USER;
		if (e->tpr_dropped) {
			e->tpr_dropped = false;
			vcpu->run->exit_reason = KVM_EXIT_SET_TPR;
			return KEEL_TO_USER;
		}
		if (e->halted) {
			e->halted = false;
			return keel_halted(vcpu);
		}
		return KEEL_RESUME;
	case KEEL_EMU_FAULT:
		/* After a task switch the fault is the new task's. */
		if (emu->switched)
			store_registers(vcpu);
		else
			store_iterations(vcpu);
		inject_fault(vcpu);
		return KEEL_RESUME;
	default:
		if (e->err)
			return e->err;
		return keel_exit_emulation_failed(vcpu);
	}
}

/**
 * keel_emulate_again() - carry on with an instruction whose access the client has completed
 * @vcpu: the vCPU, locked
 *
 * Return: KEEL_RESUME, KEEL_TO_USER or -errno
 */
int keel_emulate_again(struct keel_vcpu *vcpu)
{
	int srcu = srcu_read_lock(&vcpu->vm->srcu);
	int r;

	vcpu->look = true;
	vcpu->emul->err = 0;
	load_registers(vcpu);
	r = vcpu->emul->again(vcpu);
	srcu_read_unlock(&vcpu->vm->srcu, srcu);
	return r;
}

static int execute(struct keel_vcpu *vcpu)
{
	return finish(vcpu, keel_emu_execute(&vcpu->emul->emu));
}

/**
 * keel_emulate() - emulate the instruction at RIP
 * @vcpu: the vCPU, locked
 *
 * Return: KEEL_RESUME (done, or a fault queued), KEEL_TO_USER (an access for the client, or an
 * instruction beyond the emulator) or -errno
 */
int keel_emulate(struct keel_vcpu *vcpu)
{
	struct keel_emul *e = vcpu->emul;
	int status;

	e->err = 0;
	drop_records(e);
	load_registers(vcpu);
	status = KEEL_EMU_NEED_BYTES;
	if (vcpu->exit.nr_bytes)
		status = keel_decode(&e->emu.insn, vcpu->exit.bytes, vcpu->exit.nr_bytes, e->emu.mode);
	if (status)
		status = keel_emu_fetch(&e->emu);
	if (status)
		return finish(vcpu, status);
	e->again = execute;
	return execute(vcpu);
}

/**
 * keel_emulate_rsm() - an instruction that is undefined to the CPU: RSM in system management mode
 * @vcpu: the vCPU, locked, outside the window
 *
 * Return: as keel_emulate(), or -ENOENT: it is another instruction
 */
int keel_emulate_rsm(struct keel_vcpu *vcpu)
{
	struct keel_emul *e = vcpu->emul;

	e->err = 0;
	drop_records(e);
	load_registers(vcpu);
	if (keel_emu_fetch(&e->emu) || !is_insn(&e->emu, OPCODE_RSM))
		return -ENOENT;
	e->again = execute;
	return execute(vcpu);
}

/**
 * keel_emulate_first() - emulate the instruction at RIP, of which no CPU has seen anything yet
 * @vcpu: the vCPU, locked
 *
 * So breakpoints on the instruction itself are still to be looked for.
 *
 * Return: as keel_emulate()
 */
int keel_emulate_first(struct keel_vcpu *vcpu)
{
	struct keel_emu *emu = &vcpu->emul->emu;

	if (unlikely(op_get_watch(emu, 7) & 0xff)) {
		load_registers(vcpu);
		if (keel_emu_code_breakpoint(emu))
			return debug_trap(vcpu, emu->db_trap);
	}
	return keel_emulate(vcpu);
}

/* The same for an event: it is gone once it was delivered, or lost to a fault of its delivery. */
static int finish_event(struct keel_vcpu *vcpu, int status)
{
	struct keel_emul *e = vcpu->emul;

	if (status == KEEL_EMU_IO)
		return KEEL_TO_USER;
	drop_records(e);
	switch (status) {
	case KEEL_EMU_OK:
		if (vcpu->ev.nmi.injected) {
			vcpu->ev.nmi.masked = true;
			keel_ops->vcpu_set_nmi_masked(vcpu, true);
		}
		keel_event_taken(vcpu);
		store_registers(vcpu);
		return e->emu.db_trap ? debug_trap(vcpu, e->emu.db_trap) : KEEL_RESUME;
	case KEEL_EMU_FAULT:
		if (e->emu.switched) {
			keel_event_taken(vcpu);
			store_registers(vcpu);
		}
		/* An exception that is still there makes a double fault of it. */
		vcpu->ev.intr.injected = false;
		vcpu->ev.nmi.injected = false;
		inject_fault(vcpu);
		return KEEL_RESUME;
	default:
		if (e->err)
			return e->err;
		return keel_internal_error(vcpu, KVM_INTERNAL_ERROR_EMULATION, NULL, 0);
	}
}

static int deliver(struct keel_vcpu *vcpu)
{
	struct keel_emul *e = vcpu->emul;

	return finish_event(vcpu, keel_emu_deliver(&e->emu, &e->event));
}

/**
 * keel_emul_deliver() - an interrupt or exception by the emulator, not by the CPU
 * @vcpu: the vCPU, locked, outside the window; the event is one of vcpu->ev that is "injected"
 * @type: KEEL_EV_*
 * @vector: its vector
 * @has_error: an error code goes with it
 * @error: the error code
 *
 * Return: KEEL_RESUME (delivered, or a fault queued), KEEL_TO_USER or -errno
 */
int keel_emul_deliver(struct keel_vcpu *vcpu, u8 type, u8 vector, bool has_error, u32 error)
{
	struct keel_emul *e = vcpu->emul;

	e->err = 0;
	drop_records(e);
	load_registers(vcpu);
	e->event = (struct keel_emu_event) {
		.type = type, .vector = vector, .has_error = has_error, .error = error,
	};
	e->again = deliver;
	return deliver(vcpu);
}

static int task_switch(struct keel_vcpu *vcpu)
{
	struct keel_emul *e = vcpu->emul;
	int r;

	e->emu.rip += e->insn_len;
	r = keel_emu_task_switch(&e->emu, &e->task);
	if (!r && e->task.reason == KEEL_TASK_IRET)
		op_system(&e->emu, KEEL_SYS_IRET, 0, NULL);
	if (!r && e->insn_len)
		keel_insn_done(vcpu);
	return finish_event(vcpu, r);
}

/**
 * keel_emul_task_switch() - a task switch that the CPU has begun
 * @vcpu: the vCPU, locked, outside the window
 * @ts: what the vendor decoded
 * @insn_len: bytes of the instruction that caused it, 0: none did
 *
 * Return: KEEL_RESUME (done, or a fault queued), KEEL_TO_USER or -errno
 */
int keel_emul_task_switch(struct keel_vcpu *vcpu, const struct keel_task_switch *ts, u8 insn_len)
{
	struct keel_emul *e = vcpu->emul;

	e->err = 0;
	drop_records(e);
	load_registers(vcpu);
	e->insn_len = insn_len;
	e->task = (struct keel_emu_task) {
		.selector = ts->selector,
		.reason = ts->reason,
		.ext = ts->reason == KEEL_TASK_GATE && !insn_len,
		.check_gate = ts->reason == KEEL_TASK_GATE && insn_len &&
			      ts->event_type != KEEL_EMU_EV_PRIV_EXC,
		.vector = ts->vector,
		.has_error = ts->has_error,
		.error = ts->error,
	};
	e->again = task_switch;
	return task_switch(vcpu);
}
