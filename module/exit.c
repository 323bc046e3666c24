// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the core does about each kind of exit, whatever vendor reported it.
 *
 * Every handler says whether the instruction is retried (memory faults, interrupts) or stepped over
 * (CPUID, MSR, HLT, I/O, hypercalls). Those that step over find out the length first, so that -EAGAIN
 * (inside the window, code page not resident) leaves nothing half done. KEEL_RESUME, KEEL_TO_USER or
 * -errno; the vCPU is locked, vm->srcu is held.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_para.h>
#include <linux/uaccess.h>

#include "ops.h"
#include "smm.h"
#include "trace.h"

/* The length of the exiting instruction: from the hardware, or from its bytes. */
static int insn_length(struct keel_vcpu *vcpu)
{
	return vcpu->exit.insn_len ?: keel_insn_length(vcpu);
}

/* The end of an instruction of @len bytes: RIP, RF, interrupt shadow, single step. */
static __always_inline void step_over(struct keel_vcpu *vcpu, int len)
{
	struct keel_state *st = &vcpu->st;
	u64 rip = st->rip + len;

	vcpu->st_dirty |= KEEL_ST_RIP;
	/* Only where it has gone past 4 GiB does the mode matter. */
	if (unlikely((rip ^ st->rip) >> 32) && !keel_long_mode64(vcpu))
		rip = (u32)rip;
	st->rip = rip;
	if (unlikely(keel_st(vcpu, KEEL_ST_SHADOW)->int_shadow))
		keel_st_mod(vcpu, KEEL_ST_SHADOW)->int_shadow = 0;
	if (unlikely(st->rflags & (X86_EFLAGS_RF | X86_EFLAGS_TF))) {
		st->rflags &= ~X86_EFLAGS_RF;
		if (st->rflags & X86_EFLAGS_TF)
			keel_inject_debug(vcpu, DR_STEP);
	}
	keel_insn_done(vcpu);
}

/**
 * keel_step_over() - the end of an instruction whose length is known
 * @vcpu: the vCPU, locked
 * @len: bytes
 */
void keel_step_over(struct keel_vcpu *vcpu, int len)
{
	step_over(vcpu, len);
}

/**
 * keel_skip_insn() - step over the exiting instruction
 * @vcpu: the vCPU, locked
 *
 * Return: 0; -EAGAIN inside the window when its bytes cannot be read there; 1 when reading them raised a
 * fault, which is queued; -EINVAL when they are no instruction any more
 */
int keel_skip_insn(struct keel_vcpu *vcpu)
{
	int len = insn_length(vcpu);

	if (len <= 0)
		return len ?: 1;
	step_over(vcpu, len);
	return 0;
}

/* What a handler returns when the length could not be had. */
static int no_length(struct keel_vcpu *vcpu, int err)
{
	if (err == -EAGAIN || err == -EINTR || err == -EFAULT)
		return err;
	if (err >= 0)
		return KEEL_RESUME;	/* the fault of the fetch is queued */
	return keel_exit_emulation_failed(vcpu);
}

/**
 * keel_exit_skip() - an instruction that has no effect in a guest
 * @vcpu: the vCPU, locked
 *
 * Return: KEEL_RESUME, or what kept the length from being known
 */
int keel_exit_skip(struct keel_vcpu *vcpu)
{
	int err = keel_skip_insn(vcpu);

	return err ? no_length(vcpu, err) : KEEL_RESUME;
}

static int gp(struct keel_vcpu *vcpu)
{
	keel_inject_exception_err(vcpu, X86_TRAP_GP, 0);
	return KEEL_RESUME;
}

/**
 * keel_exit_cpuid() - CPUID: answered from the client's table, stepped over; #GP with CPUID faulting
 * @vcpu: the vCPU, locked
 *
 * Return: as keel_exit_skip()
 */
int keel_exit_cpuid(struct keel_vcpu *vcpu)
{
	const u64 *gpr = vcpu->st.gpr;
	struct keel_cpuid_answer a;
	int len;

	if (keel_cpuid_faults(vcpu))
		return gp(vcpu);
	len = insn_length(vcpu);
	if (len <= 0)
		return no_length(vcpu, len);
	a = keel_cpuid_query(vcpu, gpr[KEEL_RAX], gpr[KEEL_RCX]);
	keel_cpuid_give(vcpu, &a);
	step_over(vcpu, len);
	return KEEL_RESUME;
}

/**
 * keel_halted() - the vCPU has executed HLT
 * @vcpu: the vCPU, locked
 *
 * Return: KEEL_RESUME (run.c sees mp_state), or KEEL_TO_USER without an in-kernel local APIC
 */
int keel_halted(struct keel_vcpu *vcpu)
{
	if (vcpu->apic) {
		vcpu->mp_state = KVM_MP_STATE_HALTED;
		return KEEL_RESUME;
	}
	vcpu->run->exit_reason = KVM_EXIT_HLT;
	return KEEL_TO_USER;
}

/**
 * keel_exit_hlt() - HLT: stepped over; the thread sleeps, or the client decides
 * @vcpu: the vCPU, locked
 *
 * Return: KEEL_RESUME (run.c sees mp_state), or KEEL_TO_USER without an in-kernel local APIC
 */
int keel_exit_hlt(struct keel_vcpu *vcpu)
{
	int err = keel_skip_insn(vcpu);

	if (err)
		return no_length(vcpu, err);
	return keel_halted(vcpu);
}

/* The client has decided about an MSR. */
static int complete_msr(struct keel_vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	u64 val = READ_ONCE(run->msr.data);

	if (READ_ONCE(run->msr.error))
		return gp(vcpu);
	if (vcpu->pio.in) {
		vcpu->st.gpr[KEEL_RAX] = (u32)val;
		vcpu->st.gpr[KEEL_RDX] = val >> 32;
	}
	step_over(vcpu, vcpu->pio.insn_len);
	return KEEL_RESUME;
}

/**
 * keel_exit_mwait() - MONITOR or MWAIT: nothing to wait for, stepped over; #UD if the client will have it so
 * @vcpu: the vCPU, locked
 *
 * Return: as keel_exit_skip()
 */
int keel_exit_mwait(struct keel_vcpu *vcpu)
{
	return keel_mwait_undefined(vcpu) ? keel_exit_undefined(vcpu) : keel_exit_skip(vcpu);
}

/* An access that the filter or the MSR table refuses: to the client if it asked for it, else #GP. */
static int msr_refused(struct keel_vcpu *vcpu, u64 val, bool write, int err, int len)
{
	if (!keel_msr_to_client(vcpu, vcpu->st.gpr[KEEL_RCX], val, write, err))
		return gp(vcpu);
	vcpu->pio.in = !write;
	vcpu->pio.insn_len = len;
	vcpu->complete = complete_msr;
	return KEEL_TO_USER;
}

/**
 * keel_exit_rdmsr() - RDMSR: stepped over, or #GP(0)
 * @vcpu: the vCPU, locked
 *
 * Return: as keel_exit_skip()
 */
int keel_exit_rdmsr(struct keel_vcpu *vcpu)
{
	struct keel_state *st = &vcpu->st;
	int len = insn_length(vcpu);
	u64 val;
	int err;

	if (len <= 0)
		return no_length(vcpu, len);
	err = keel_guest_msr(vcpu, st->gpr[KEEL_RCX], &val, false);
	if (unlikely(err))
		return msr_refused(vcpu, 0, false, err, len);
	st->gpr[KEEL_RAX] = (u32)val;
	st->gpr[KEEL_RDX] = val >> 32;
	step_over(vcpu, len);
	return KEEL_RESUME;
}

/**
 * keel_exit_wrmsr() - WRMSR: stepped over, or #GP(0)
 * @vcpu: the vCPU, locked
 *
 * Return: as keel_exit_skip()
 */
int keel_exit_wrmsr(struct keel_vcpu *vcpu)
{
	struct keel_state *st = &vcpu->st;
	u64 val = (u32)st->gpr[KEEL_RAX] | st->gpr[KEEL_RDX] << 32;
	int len = insn_length(vcpu);
	int err;

	if (len <= 0)
		return no_length(vcpu, len);
	err = keel_guest_msr(vcpu, st->gpr[KEEL_RCX], &val, true);
	if (err)
		return msr_refused(vcpu, val, true, err, len);
	step_over(vcpu, len);
	return KEEL_RESUME;
}

/**
 * keel_exit_apic_eoi() - a store to the local APIC's EOI register: stepped over
 * @vcpu: the vCPU, locked, with an in-kernel local APIC
 *
 * Return: as keel_exit_skip()
 */
int keel_exit_apic_eoi(struct keel_vcpu *vcpu)
{
	int len = insn_length(vcpu);

	if (len <= 0)
		return no_length(vcpu, len);
	keel_lapic_eoi(vcpu);
	step_over(vcpu, len);
	return KEEL_RESUME;
}

/**
 * keel_exit_xsetbv() - XSETBV: stepped over, or #GP(0)
 * @vcpu: the vCPU, locked
 *
 * Return: as keel_exit_skip()
 */
int keel_exit_xsetbv(struct keel_vcpu *vcpu)
{
	struct keel_state *st = keel_st(vcpu, KEEL_ST_CS);
	int len = insn_length(vcpu);

	if (len <= 0)
		return no_length(vcpu, len);
	if (st->cpl || (u32)st->gpr[KEEL_RCX] ||
	    keel_set_xcr0(vcpu, (u32)st->gpr[KEEL_RAX] | st->gpr[KEEL_RDX] << 32))
		return gp(vcpu);
	step_over(vcpu, len);
	return KEEL_RESUME;
}

/**
 * keel_hypercall() - what a hypercall does and answers
 * @vcpu: the vCPU, locked
 * @gpr: its general registers
 * @result: the result for RAX
 *
 * Return: 0, or -EAGAIN inside the window
 */
int keel_hypercall(struct keel_vcpu *vcpu, const u64 *gpr, u64 *result)
{
	bool user = keel_st(vcpu, KEEL_ST_CR | KEEL_ST_CODE)->cpl;
	bool wide = keel_long_mode64(vcpu);
	struct keel_hypercall hc = {
		.nr = wide ? gpr[KEEL_RAX] : (u32)gpr[KEEL_RAX],
		.gpr = gpr,
		.wide = wide,
		.ret = -KVM_EPERM,
	};

	if (!user && keel_pv_hypercall(vcpu, &hc))
		return -EAGAIN;
	*result = hc.wide ? (u64)hc.ret : (u32)hc.ret;
	return 0;
}

/**
 * keel_exit_hypercall() - VMCALL or VMMCALL: result in RAX, stepped over
 * @vcpu: the vCPU, locked
 *
 * Return: as keel_exit_skip()
 */
int keel_exit_hypercall(struct keel_vcpu *vcpu)
{
	int len = insn_length(vcpu);
	u64 result;

	if (len <= 0)
		return no_length(vcpu, len);
	if (keel_hypercall(vcpu, vcpu->st.gpr, &result))
		return -EAGAIN;
	vcpu->st.gpr[KEEL_RAX] = result;
	step_over(vcpu, len);
	return KEEL_RESUME;
}

/**
 * keel_exit_ud() - #UD: RSM is emulated, the other vendor's hypercall instruction rewritten, the rest is the guest's
 * @vcpu: the vCPU, locked
 *
 * Return: KEEL_RESUME (the instruction is retried or #UD raised), or as keel_emulate_rsm()
 */
int keel_exit_ud(struct keel_vcpu *vcpu)
{
	static const u8 vmcall[3] = { 0x0f, 0x01, 0xc1 }, vmmcall[3] = { 0x0f, 0x01, 0xd9 };
	struct keel_fault fault;
	const u8 *native = keel_ops->hypercall;
	u8 bytes[3];
	u64 linear = keel_linear_rip(vcpu);
	gpa_t gpa;
	int r;

	if (unlikely(vcpu->smm.in)) {
		r = keel_emulate_rsm(vcpu);
		if (r != -ENOENT)
			return r;
	}
	if (keel_quirk(vcpu, KVM_X86_QUIRK_FIX_HYPERCALL_INSN) &&
	    keel_gva_fetch(vcpu, linear, bytes, 3, &fault, false) == 3 && memcmp(bytes, native, 3) &&
	    (!memcmp(bytes, vmcall, 3) || !memcmp(bytes, vmmcall, 3)) && (linear & ~PAGE_MASK) <= PAGE_SIZE - 3 &&
	    !keel_gva_to_gpa(vcpu, linear, KEEL_ACC_EXEC, &gpa, &fault, false) &&
	    !keel_guest_write(vcpu, gpa, native, 3))
		return KEEL_RESUME;
	keel_inject_exception(vcpu, X86_TRAP_UD);
	return KEEL_RESUME;
}

/**
 * keel_exit_debug() - #DB or #BP that the CPU raised: to the debugging client, or into the guest
 * @vcpu: the vCPU, locked
 * @dr6: the conditions, active high
 * @vector: X86_TRAP_DB or X86_TRAP_BP
 *
 * Return: KEEL_RESUME or KEEL_TO_USER
 */
int keel_exit_debug(struct keel_vcpu *vcpu, u64 dr6, u8 vector)
{
	struct kvm_run *run = vcpu->run;
	u32 wanted = vector == X86_TRAP_BP ? KVM_GUESTDBG_USE_SW_BP :
		     KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP;
	const struct keel_state *st;

	if (!(vcpu->guest_debug & KVM_GUESTDBG_ENABLE) || !(vcpu->guest_debug & wanted)) {
		if (vector == X86_TRAP_BP)
			keel_inject_exception(vcpu, X86_TRAP_BP);
		else
			keel_inject_debug(vcpu, dr6);
		return KEEL_RESUME;
	}
	st = keel_st(vcpu, KEEL_ST_RIP | KEEL_ST_CS | KEEL_ST_DR);
	run->exit_reason = KVM_EXIT_DEBUG;
	run->debug.arch.exception = vector;
	run->debug.arch.pc = st->seg[KEEL_CS].base + st->rip;
	run->debug.arch.dr6 = vector == X86_TRAP_DB ? dr6 | DR6_RESERVED : 0;
	run->debug.arch.dr7 = vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP ? vcpu->debug_dr7 : st->dr7;
	return KEEL_TO_USER;
}

/**
 * keel_exit_exception() - an exception that exited instead of being delivered, #DB excepted
 * @vcpu: the vCPU, locked
 * @vector: X86_TRAP_*
 * @error: its error code; #AC alone of those that exit has one
 *
 * Return: KEEL_RESUME or KEEL_TO_USER
 */
int keel_exit_exception(struct keel_vcpu *vcpu, u8 vector, u32 error)
{
	switch (vector) {
	case X86_TRAP_BP:
		return keel_exit_debug(vcpu, 0, X86_TRAP_BP);
	case X86_TRAP_UD:
		return keel_exit_ud(vcpu);
	case X86_TRAP_AC:
		keel_inject_exception_err(vcpu, X86_TRAP_AC, error);
		return KEEL_RESUME;
	case X86_TRAP_MC:
		return KEEL_RESUME;	/* the host's: window_close() has handed it over */
	default:
		return keel_exit_kill(vcpu, "exception exit that nobody asked for", vector);
	}
}

/**
 * keel_exit_rdpmc() - RDPMC: no counter is offered, #GP(0)
 * @vcpu: the vCPU, locked
 *
 * Return: KEEL_RESUME
 */
int keel_exit_rdpmc(struct keel_vcpu *vcpu)
{
	return gp(vcpu);
}

/**
 * keel_exit_undefined() - an instruction that no guest of Keel has: #UD
 * @vcpu: the vCPU, locked
 *
 * Return: KEEL_RESUME
 */
int keel_exit_undefined(struct keel_vcpu *vcpu)
{
	keel_inject_exception(vcpu, X86_TRAP_UD);
	return KEEL_RESUME;
}

static bool rip_unmoved(struct keel_vcpu *vcpu)
{
	return keel_st(vcpu, KEEL_ST_RIP)->rip == vcpu->pio.rip && !vcpu->pio.moved;
}

/* The client is done: the instruction ends, unless the client has moved RIP itself. */
static int complete_pio(struct keel_vcpu *vcpu)
{
	if (!rip_unmoved(vcpu))
		return KEEL_RESUME;
	if (vcpu->pio.in) {
		u32 val = 0;

		memcpy(&val, vcpu->pio_data, vcpu->pio.size);
		keel_in_result(vcpu, val, vcpu->pio.size);
	}
	step_over(vcpu, vcpu->pio.insn_len);
	return KEEL_RESUME;
}

/**
 * keel_exit_io() - IN or OUT: to an in-kernel device or the client, stepped over; strings are emulated
 * @vcpu: the vCPU, locked
 * @port: the port
 * @size: 1, 2 or 4 bytes
 * @in: IN or INS
 * @string: INS or OUTS
 *
 * Return: KEEL_RESUME, KEEL_TO_USER, or what kept the length from being known
 */
int keel_exit_io(struct keel_vcpu *vcpu, u16 port, u8 size, bool in, bool string)
{
	struct kvm_run *run = vcpu->run;
	u32 val = vcpu->st.gpr[KEEL_RAX];
	bool searched = vcpu->pio.searched;
	int len;

	vcpu->pio.searched = false;
	if (string)
		return keel_exit_emulate(vcpu);
	len = insn_length(vcpu);
	if (len <= 0)
		return no_length(vcpu, len);
	if (!searched && keel_port_access(vcpu, port, size, in, false)) {
		step_over(vcpu, len);
		return KEEL_RESUME;
	}
	vcpu->pio.in = in;
	vcpu->pio.size = size;
	vcpu->pio.insn_len = len;
	vcpu->pio.moved = false;
	vcpu->pio.rip = vcpu->st.rip;
	memset(vcpu->pio_data, 0, sizeof(val));
	if (!in)
		memcpy(vcpu->pio_data, &val, size);
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = size;
	run->io.port = port;
	run->io.count = 1;
	run->io.data_offset = KVM_PIO_PAGE_OFFSET * PAGE_SIZE;
	/* Firmware that resets by port 0x7e expects RIP behind the OUT already. */
	if (!in && port == 0x7e && keel_quirk(vcpu, KVM_X86_QUIRK_OUT_7E_INC_RIP))
		step_over(vcpu, len);
	else
		vcpu->complete = complete_pio;
	return KEEL_TO_USER;
}

/* There is a slot, but the client has nothing there, or not so that it may be accessed in this way: EFAULT says where. */
static int memory_fault(struct keel_vcpu *vcpu, u64 gpa)
{
	vcpu->run->exit_reason = KVM_EXIT_MEMORY_FAULT;
	*keel_memory_fault(vcpu->run) = (struct keel_memory_fault) {
		.gpa = gpa & PAGE_MASK,
		.size = PAGE_SIZE,
	};
	return -EFAULT;
}

/* What is to be done about an access that met no mapping; @r is what the MMU says. */
static int memory_result(struct keel_vcpu *vcpu, u64 gpa, u32 access, int r)
{
	if (r == KEEL_MMU_RETRY)
		return KEEL_RESUME;
	if (r == -EFAULT)
		return memory_fault(vcpu, gpa);
	if (r != KEEL_MMU_EMULATE)
		return r;
	/* With shadow paging it may also be a write to one of the guest's page tables. */
	if (!keel_shadowing || !keel_slot_find(vcpu->vm, gpa >> PAGE_SHIFT))
		vcpu->exit.reason = KEEL_REASON_MMIO;
	/* An event whose delivery touches a device cannot be emulated: KVM gives it to the client. */
	if (keel_delivering(vcpu)) {
		const u64 data[] = { 0, 0, gpa };

		if (keel_shadowing && keel_shadow_unprotect(vcpu))
			return KEEL_RESUME;
		return keel_internal_error(vcpu, KVM_INTERNAL_ERROR_DELIVERY_EV, data, ARRAY_SIZE(data));
	}
	if (!keel_shadowing) {
		r = keel_mmio_move(vcpu, gpa, access);
		if (r != -ENOENT)
			return r;
	}
	return keel_emulate(vcpu);
}

/* Pages and devices that are at hand: nothing sleeps. */
static int memory_in_window(struct keel_vcpu *vcpu, u64 gpa, u32 access)
{
	int r;

	if (unlikely(vcpu->vm->execution == KEEL_EXECUTION_TRAPPED))
		return -EAGAIN;
	r = vcpu->exit.fault_known ? vcpu->exit.fault : keel_mmu_fault_resident(vcpu, gpa, access);
	vcpu->exit.fault_known = false;
	if (r == -EAGAIN)
		return r;
	if (r == KEEL_MMU_EMULATE) {
		r = keel_delivering(vcpu) ? -ENOENT : keel_mmio_move(vcpu, gpa, access);
		if (r == -ENOENT)
			return -EAGAIN;
		vcpu->exit.reason = KEEL_REASON_MMIO;
		trace_keel_fault(vcpu->id, gpa, access, KEEL_MMU_EMULATE);
		return r;
	}
	trace_keel_fault(vcpu->id, gpa, access, r);
	return KEEL_RESUME;
}

/**
 * keel_exit_memory() - a fault in the nested tables: map the page and retry, or emulate the access
 * @vcpu: the vCPU, locked
 * @gpa: guest physical address
 * @access: KEEL_ACC_*
 *
 * Return: KEEL_RESUME, KEEL_TO_USER or -errno; -EAGAIN inside the window when it takes more than a page or a device that is at hand
 */
int keel_exit_memory(struct keel_vcpu *vcpu, u64 gpa, u32 access)
{
	int r;

	if (vcpu->in_window)
		return memory_in_window(vcpu, gpa, access);
	if (unlikely(vcpu->vm->execution == KEEL_EXECUTION_TRAPPED))
		return keel_interpret_trapped(vcpu);
	r = keel_mmu_fault(vcpu, gpa, access);
	trace_keel_fault(vcpu->id, gpa, access, r);
	return memory_result(vcpu, gpa, access, r);
}

/**
 * keel_exit_page_fault() - #PF with shadow paging: the guest's own, or as keel_exit_memory()
 * @vcpu: the vCPU, locked, outside the window
 * @gva: linear address
 * @error: the error code
 *
 * Return: KEEL_RESUME, KEEL_TO_USER or -errno
 */
int keel_exit_page_fault(struct keel_vcpu *vcpu, u64 gva, u32 error)
{
	gpa_t gpa = 0;
	int r;

	if (unlikely(vcpu->vm->execution == KEEL_EXECUTION_TRAPPED))
		return keel_interpret_trapped(vcpu);
	r = keel_shadow_fault(vcpu, gva, error & (KEEL_ACC_WRITE | KEEL_ACC_USER | KEEL_ACC_EXEC), &gpa);
	trace_keel_fault(vcpu->id, gpa, error, r);
	return memory_result(vcpu, gpa, error, r);
}

/**
 * keel_exit_emulate() - an exiting instruction that the emulator carries out
 * @vcpu: the vCPU, locked, outside the window
 *
 * Return: KEEL_RESUME, KEEL_TO_USER or -errno
 */
int keel_exit_emulate(struct keel_vcpu *vcpu)
{
	return keel_emulate(vcpu);
}

/* Did the program ask for the task switch? Then the old task goes on behind that instruction. */
static bool task_switch_by_insn(const struct keel_task_switch *ts)
{
	return ts->reason != KEEL_TASK_GATE || keel_event_by_insn(ts->event_type, ts->vector);
}

/**
 * keel_exit_task_switch() - a hardware task switch: by the emulator
 * @vcpu: the vCPU, locked, outside the window
 * @ts: what the vendor decoded
 *
 * Return: KEEL_RESUME, KEEL_TO_USER or -errno
 */
int keel_exit_task_switch(struct keel_vcpu *vcpu, const struct keel_task_switch *ts)
{
	int len = 0;

	if (task_switch_by_insn(ts)) {
		len = ts->insn_len ?: keel_insn_length(vcpu);
		if (len <= 0)
			return no_length(vcpu, len);
	}
	return keel_emul_task_switch(vcpu, ts, len);
}

/**
 * keel_exit_shutdown() - triple fault
 * @vcpu: the vCPU, locked
 *
 * Return: KEEL_TO_USER
 */
int keel_exit_shutdown(struct keel_vcpu *vcpu)
{
	vcpu->run->exit_reason = KVM_EXIT_SHUTDOWN;
	return KEEL_TO_USER;
}

static const char *error_name(u32 suberror)
{
	switch (suberror) {
	case KVM_INTERNAL_ERROR_EMULATION:
		return "an instruction that is not emulated";
	case KVM_INTERNAL_ERROR_DELIVERY_EV:
		return "an event whose delivery touches a device";
	case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
		return "an exit that cannot be";
	default:
		return "internal error";
	}
}

/**
 * keel_internal_error() - tell the client that the vCPU cannot go on
 * @vcpu: the vCPU, locked
 * @suberror: KVM_INTERNAL_ERROR_*
 * @data: words for the client, may be NULL
 * @ndata: how many, up to 16
 *
 * Return: KEEL_TO_USER
 */
int keel_internal_error(struct keel_vcpu *vcpu, u32 suberror, const u64 *data, u32 ndata)
{
	struct kvm_run *run = vcpu->run;
	u32 i;

	vcpu->error = error_name(suberror);
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = suberror;
	run->internal.ndata = ndata;
	for (i = 0; i < ndata; i++)
		run->internal.data[i] = data[i];
	return KEEL_TO_USER;
}

/* The exit for an instruction that is not emulated, with its bytes if they can be had. */
static int emulation_failure(struct keel_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct keel_fault fault;
	u8 bytes[15];
	int n;

	vcpu->error = error_name(KVM_INTERNAL_ERROR_EMULATION);
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.flags = 0;
	run->emulation_failure.ndata = 1;
	n = keel_gva_fetch(vcpu, keel_linear_rip(vcpu), bytes, sizeof(bytes), &fault, vcpu->in_window);
	if (n <= 0)
		return KEEL_TO_USER;
	run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
	run->emulation_failure.ndata = 3;
	run->emulation_failure.insn_size = n;
	memset(run->emulation_failure.insn_bytes, 0x90, sizeof(bytes));
	memcpy(run->emulation_failure.insn_bytes, bytes, n);
	return KEEL_TO_USER;
}

/**
 * keel_exit_emulation_failed() - the instruction at RIP is beyond the emulator
 * @vcpu: the vCPU, locked
 *
 * The guest gets #UD: a program must not be able to stop its VM. From the guest's kernel, the client
 * learns of it as well; with KVM_CAP_EXIT_ON_EMULATION_FAILURE it learns of each, and nothing is
 * raised. With shadow paging the CPU can execute what merely writes to a page table.
 *
 * Return: KEEL_RESUME or KEEL_TO_USER
 */
int keel_exit_emulation_failed(struct keel_vcpu *vcpu)
{
	if (keel_shadowing && keel_shadow_unprotect(vcpu))
		return KEEL_RESUME;
	if (vcpu->vm->exit_on_emulation_error)
		return emulation_failure(vcpu);
	keel_inject_exception(vcpu, X86_TRAP_UD);
	return keel_st(vcpu, KEEL_ST_CODE)->cpl ? KEEL_RESUME : emulation_failure(vcpu);
}

/**
 * keel_exit_kill() - an exit that cannot be: the VM ends, with the reason
 * @vcpu: the vCPU, locked
 * @reason: constant string for the log
 * @code: the vendor's exit code
 *
 * Return: KEEL_TO_USER
 */
int keel_exit_kill(struct keel_vcpu *vcpu, const char *reason, u64 code)
{
	const u64 data[] = { code, vcpu->cpu };

	pr_info_ratelimited("vcpu %u: %s: %#llx\n", vcpu->id, reason, code);
	keel_vm_kill(vcpu->vm, reason);
	return keel_internal_error(vcpu, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, data, ARRAY_SIZE(data));
}

/**
 * keel_exit_fail_entry() - the hardware refused the guest's state
 * @vcpu: the vCPU, locked
 * @reason: the vendor's code
 *
 * Return: KEEL_TO_USER
 */
int keel_exit_fail_entry(struct keel_vcpu *vcpu, u64 reason)
{
	static DEFINE_RATELIMIT_STATE(rs, 5 * HZ, 2);

	if (__ratelimit(&rs))
		keel_ops->vcpu_dump(vcpu);
	vcpu->error = "the CPU refused the guest's state";
	vcpu->run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	vcpu->run->fail_entry.hardware_entry_failure_reason = reason;
	vcpu->run->fail_entry.cpu = vcpu->cpu;
	return KEEL_TO_USER;
}
