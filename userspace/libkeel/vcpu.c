// SPDX-License-Identifier: GPL-2.0-only
/*
 * The vCPU: its file descriptor, its first state, and the thread that runs it.
 *
 * The thread calls KVM_RUN and carries out what the kernel cannot: port and MMIO accesses go to the
 * bus, everything else ends the VM with a sentence of its own. Kicks are immediate_exit plus a
 * signal; the thread clears immediate_exit before it looks at the flags, so that a kick between the
 * look and the next KVM_RUN makes that return at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define RFLAGS_IF	(1ULL << 9)

/* Local APIC registers, and LVT modes (SDM vol 3, 11.5.1) */
#define APIC_LVT_LINT0	0x350
#define APIC_LVT_LINT1	0x360
#define LVT_EXTINT	0x700
#define LVT_NMI		0x400

static const char *const exit_names[KEEL_EXIT_REASONS] = {
	[KVM_EXIT_UNKNOWN] = "UNKNOWN",
	[KVM_EXIT_EXCEPTION] = "EXCEPTION",
	[KVM_EXIT_IO] = "IO",
	[KVM_EXIT_HYPERCALL] = "HYPERCALL",
	[KVM_EXIT_DEBUG] = "DEBUG",
	[KVM_EXIT_HLT] = "HLT",
	[KVM_EXIT_MMIO] = "MMIO",
	[KVM_EXIT_IRQ_WINDOW_OPEN] = "IRQ_WINDOW_OPEN",
	[KVM_EXIT_SHUTDOWN] = "SHUTDOWN",
	[KVM_EXIT_FAIL_ENTRY] = "FAIL_ENTRY",
	[KVM_EXIT_INTR] = "INTR",
	[KVM_EXIT_SET_TPR] = "SET_TPR",
	[KVM_EXIT_TPR_ACCESS] = "TPR_ACCESS",
	[KVM_EXIT_NMI] = "NMI",
	[KVM_EXIT_INTERNAL_ERROR] = "INTERNAL_ERROR",
	[KVM_EXIT_SYSTEM_EVENT] = "SYSTEM_EVENT",
	[KVM_EXIT_IOAPIC_EOI] = "IOAPIC_EOI",
	[KVM_EXIT_X86_RDMSR] = "X86_RDMSR",
	[KVM_EXIT_X86_WRMSR] = "X86_WRMSR",
};

const char *keel_exit_name(unsigned int reason)
{
	return reason < KEEL_EXIT_REASONS && exit_names[reason] ? exit_names[reason] : "other";
}

/* Creation --------------------------------------------------------------------------------- */

static int vcpu_ioctl(struct keel_vcpu *vcpu, unsigned long request, void *arg, const char *name)
{
	int err;

	if (ioctl(vcpu->fd, request, arg) >= 0)
		return 0;
	err = errno;
	return keel_fail(err, "%s: vCPU %u: %s failed: %s", vcpu->vm->device, vcpu->id, name,
			 strerror(err));
}

/* As firmware leaves it: the PIC's output on LINT0 of the boot CPU, NMI on LINT1 of all. */
static int lapic_init(struct keel_vcpu *vcpu)
{
	struct kvm_lapic_state state;
	uint32_t lvt;
	int ret;

	ret = vcpu_ioctl(vcpu, KVM_GET_LAPIC, &state, "KVM_GET_LAPIC");
	if (ret)
		return ret;
	if (vcpu->id == 0) {
		lvt = LVT_EXTINT;
		memcpy(state.regs + APIC_LVT_LINT0, &lvt, sizeof(lvt));
	}
	lvt = LVT_NMI;
	memcpy(state.regs + APIC_LVT_LINT1, &lvt, sizeof(lvt));
	return vcpu_ioctl(vcpu, KVM_SET_LAPIC, &state, "KVM_SET_LAPIC");
}

int keel_vcpu_create(struct keel_vm *vm, unsigned int id, struct keel_vcpu *vcpu)
{
	int err;

	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, (unsigned long)id);
	if (vcpu->fd < 0) {
		err = errno;
		return keel_fail(err, "%s: cannot create vCPU %u: %s", vm->device, id,
				 strerror(err));
	}
	vcpu->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		err = errno;
		vcpu->run = NULL;
		return keel_fail(err, "%s: vCPU %u: cannot map kvm_run: %s", vm->device, id,
				 strerror(err));
	}
	err = keel_cpuid_set(vm, vcpu);
	if (!err)
		err = lapic_init(vcpu);
	return err;
}

void keel_vcpu_destroy(struct keel_vcpu *vcpu)
{
	if (vcpu->run)
		munmap(vcpu->run, vcpu->vm->run_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
}

int keel_vm_boot(struct keel_vm *vm, const struct keel_kernel *kernel)
{
	struct keel_vcpu *vcpu = &vm->vcpu[0];
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	int ret;

	ret = vcpu_ioctl(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
	if (ret)
		return ret;
	keel_boot_regs(kernel, &sregs, &regs);
	ret = vcpu_ioctl(vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
	if (!ret)
		ret = vcpu_ioctl(vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
	return ret;
}

/* Exits ------------------------------------------------------------------------------------ */

static void exit_io(struct keel_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size)
		keel_bus_access(vcpu->vm->bus, KEEL_PIO, run->io.port, data, run->io.size,
				run->io.direction == KVM_EXIT_IO_OUT);
}

/* Where the guest stood, on stderr, for the exits that are somebody's bug. */
static void registers_print(struct keel_vcpu *vcpu)
{
	struct kvm_sregs s;
	struct kvm_regs r;

	if (ioctl(vcpu->fd, KVM_GET_REGS, &r) < 0 || ioctl(vcpu->fd, KVM_GET_SREGS, &s) < 0)
		return;
	/* "\r\n": the terminal may still be raw, and then a line feed alone makes stairs */
	fprintf(stderr,
		"\r\nkeel: vCPU %u: rip %016llx rsp %016llx rflags %08llx\r\n"
		"  rax %016llx rbx %016llx rcx %016llx rdx %016llx\r\n"
		"  rsi %016llx rdi %016llx rbp %016llx cs %04x base %llx\r\n"
		"  r8  %016llx r9  %016llx r10 %016llx r11 %016llx\r\n"
		"  r12 %016llx r13 %016llx r14 %016llx r15 %016llx\r\n"
		"  cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx efer %llx\r\n",
		vcpu->id, r.rip, r.rsp, r.rflags, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp,
		s.cs.selector, s.cs.base, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15,
		s.cr0, s.cr2, s.cr3, s.cr4, s.efer);
}

static void exit_internal_error(struct keel_vcpu *vcpu)
{
	static const char *const names[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "emulation failed",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "simultaneous exceptions",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "exit during event delivery",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "unexpected exit reason",
	};
	struct kvm_run *run = vcpu->run;
	uint32_t sub = run->internal.suberror, n = run->internal.ndata;
	char words[16 * 19 + 1] = "";
	size_t used = 0;

	if (n > 16)
		n = 16;
	for (uint32_t i = 0; i < n; i++)
		used += snprintf(words + used, sizeof(words) - used, " %llx",
				 (unsigned long long)run->internal.data[i]);
	registers_print(vcpu);
	keel_vm_end(vcpu->vm, KEEL_END_KILLED, "internal error %u (%s) on vCPU %u%s%s", sub,
		    sub < sizeof(names) / sizeof(names[0]) && names[sub] ? names[sub] : "unknown",
		    vcpu->id, n ? ", data" : "", words);
}

/* Carries out one exit; the VM's verdict tells whether there will be another. */
static void exit_handle(struct keel_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct keel_vm *vm = vcpu->vm;

	if (run->exit_reason < KEEL_EXIT_REASONS)
		vcpu->exits[run->exit_reason]++;
	vcpu->exit_count++;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		exit_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		keel_bus_access(vm->bus, KEEL_MMIO, run->mmio.phys_addr, run->mmio.data,
				run->mmio.len, run->mmio.is_write);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_SET_TPR:
	case KVM_EXIT_IOAPIC_EOI:
		break;
	case KVM_EXIT_HLT:
		/* only without an in-kernel irqchip, and then nothing could wake it */
		keel_vm_end(vm, KEEL_END_GUEST, "the guest halted");
		break;
	case KVM_EXIT_SHUTDOWN:
		keel_vm_end(vm, KEEL_END_SHUTDOWN, "the guest shut down on vCPU %u (triple fault)",
			    vcpu->id);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		keel_vm_end(vm, run->system_event.type == KVM_SYSTEM_EVENT_CRASH ?
				KEEL_END_SHUTDOWN : KEEL_END_GUEST,
			    "the guest asked for system event %u", run->system_event.type);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		registers_print(vcpu);
		keel_vm_end(vm, KEEL_END_KILLED, "the CPU refused to enter the guest on vCPU %u, "
			    "reason 0x%llx", vcpu->id,
			    (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		exit_internal_error(vcpu);
		break;
	default:
		registers_print(vcpu);
		keel_vm_end(vm, KEEL_END_KILLED, "vCPU %u: exit reason %u (%s) is not expected",
			    vcpu->id, run->exit_reason, keel_exit_name(run->exit_reason));
		break;
	}
}

/* The thread ------------------------------------------------------------------------------- */

/* Can anything but a reset, NMI or another vCPU make this one run? */
static bool vcpu_dead(struct keel_vcpu *vcpu)
{
	struct kvm_mp_state state;
	struct kvm_regs regs;

	if (ioctl(vcpu->fd, KVM_GET_MP_STATE, &state) < 0)
		return false;
	if (state.mp_state == KVM_MP_STATE_UNINITIALIZED ||
	    state.mp_state == KVM_MP_STATE_INIT_RECEIVED)
		return true;
	if (state.mp_state != KVM_MP_STATE_HALTED)
		return false;
	return ioctl(vcpu->fd, KVM_GET_REGS, &regs) >= 0 && !(regs.rflags & RFLAGS_IF);
}

static void kicked(struct keel_vcpu *vcpu)
{
	unsigned int check;

	vcpu->run->immediate_exit = 0;
	atomic_signal_fence(memory_order_seq_cst);
	check = vcpu->vm->check;
	if (check != vcpu->check_done) {
		vcpu->check_dead = vcpu_dead(vcpu);
		vcpu->check_done = check;
	}
}

static void park(struct keel_vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->parked++;
	pthread_cond_broadcast(&vm->parked_changed);
	while (vm->paused && !vm->ended)
		pthread_cond_wait(&vm->parked_changed, &vm->lock);
	vm->parked--;
	pthread_mutex_unlock(&vm->lock);
}

static void *vcpu_thread(void *opaque)
{
	struct keel_vcpu *vcpu = opaque;
	struct keel_vm *vm = vcpu->vm;
	char name[16];
	sigset_t kick;

	snprintf(name, sizeof(name), "vcpu %u", vcpu->id);
	pthread_setname_np(pthread_self(), name);
	sigemptyset(&kick);
	sigaddset(&kick, KEEL_KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	while (!vm->ended) {
		if (vm->paused) {
			park(vm);
			continue;
		}
		if (ioctl(vcpu->fd, KVM_RUN, 0) >= 0) {
			exit_handle(vcpu);
		} else if (errno != EINTR && errno != EAGAIN) {
			keel_vm_end(vm, KEEL_END_ERROR, "%s: KVM_RUN failed on vCPU %u: %s",
				    vm->device, vcpu->id, strerror(errno));
		}
		if (vcpu->run->immediate_exit)
			kicked(vcpu);
	}
	return NULL;
}

int keel_vcpu_start(struct keel_vcpu *vcpu)
{
	int err = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);

	if (err)
		return keel_fail(err, "cannot start the thread of vCPU %u: %s", vcpu->id,
				 strerror(err));
	vcpu->started = true;
	return 0;
}

void keel_vcpu_kick(struct keel_vcpu *vcpu)
{
	if (!vcpu->started)
		return;
	vcpu->run->immediate_exit = 1;
	pthread_kill(vcpu->thread, KEEL_KICK_SIGNAL);
}
