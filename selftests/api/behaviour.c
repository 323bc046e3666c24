// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a client can switch of a VM's behaviour, and the smaller ways of looking into one: KVM's quirks,
 * PLATFORM_INFO and CPUID faulting, the highest vCPU id, exception payloads, triple faults as events, device
 * attributes, statistics, registers in kvm_run, the clock with its host's time. And each refusal.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "ops.h"

#define MSR_PLATFORM_INFO	0xce
#define MSR_MISC_FEATURES	0x140
#define MSR_MISC_ENABLE		0x1a0
#define MISC_ENABLE_MWAIT	(1u << 18)
#define CPUID_FAULTING		(1ULL << 31)
#define GP			13
#define UD			6

FIXTURE(behaviour) {
	struct guest g;
};

FIXTURE_SETUP(behaviour)
{
	guest_create(&self->g, 0);
}

FIXTURE_TEARDOWN(behaviour)
{
	guest_destroy(&self->g);
}

static long enable(struct guest *g, int cap, uint64_t arg)
{
	struct kvm_enable_cap c = { .cap = cap, .args = { arg } };

	return vm_ioctl(g->vm, KVM_ENABLE_CAP, &c);
}

GUEST(mwait, 64, "xorl %ecx, %ecx\n" "xorl %edx, %edx\n" "movq %rsp, %rax\n" "monitor\n" G_SYNC
	"xorl %eax, %eax\n" "mwait\n" G_DONE);

/* MONITOR does nothing, unless both the guest's CPUID lacks it and the client has switched the quirk off. */
TEST_F(behaviour, quirk_mwait)
{
	struct guest *g = &self->g;
	struct kvm_cpuid2 *cpuid = supported_cpuid(g->dev);
	int monitor;

	for (monitor = 0; monitor < 2; monitor++) {
		if (monitor)
			cpuid_find(cpuid, 1, 0)->ecx |= 1 << 3;
		else
			cpuid_find(cpuid, 1, 0)->ecx &= ~(1 << 3);
		ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_SET_CPUID2, cpuid));
		ASSERT_EQ(0, enable(g, KVM_CAP_DISABLE_QUIRKS2, 0));
		guest_start(g, MODE_LONG, BLOB(mwait));
		ASSERT_PORT(PORT_SYNC, g);
		ASSERT_DONE(g);
		ASSERT_EQ(0, enable(g, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS));
		guest_start(g, MODE_LONG, BLOB(mwait));
		if (monitor) {
			ASSERT_PORT(PORT_SYNC, g);
		} else {
			ASSERT_PORT(PORT_EXC, g);
			EXPECT_EQ(UD, guest_exc(g).vector);
		}
		/* a vCPU that has run keeps its CPUID: a new one */
		guest_destroy(g);
		guest_create(g, 0);
	}
	free(cpuid);
}

GUEST(cpuid1, 64, "movl $1, %eax\n" "xorl %ecx, %ecx\n" "cpuid\n" G_DONE);

TEST_F(behaviour, quirk_misc_enable)
{
	struct guest *g = &self->g;

	vcpu_set_supported_cpuid(&g->cpu, g->dev);
	ASSERT_EQ(0, enable(g, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT));
	ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_MISC_ENABLE, MISC_ENABLE_MWAIT));
	guest_start(g, MODE_LONG, BLOB(cpuid1));
	ASSERT_DONE(g);
	EXPECT_EQ(1 << 3, vcpu_regs(&g->cpu).rcx & 1 << 3);
	ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_MISC_ENABLE, 0));
	guest_start(g, MODE_LONG, BLOB(cpuid1));
	ASSERT_DONE(g);
	EXPECT_EQ(0, vcpu_regs(&g->cpu).rcx & 1 << 3);
}

GUEST(out_7e, 64, "outb %al, $0x7e\n" G_DONE);
GUEST(foreign, 64, ".byte 0x0f, 0x01, 0xc1\n" G_SYNC ".byte 0x0f, 0x01, 0xd9\n" G_DONE);

TEST_F(behaviour, quirks)
{
	struct guest *g = &self->g;
	uint64_t known = vm_cap(g->vm, KVM_CAP_DISABLE_QUIRKS2);

	ASSERT_EQ(KVM_X86_QUIRK_OUT_7E_INC_RIP | KVM_X86_QUIRK_FIX_HYPERCALL_INSN,
		  known & (KVM_X86_QUIRK_OUT_7E_INC_RIP | KVM_X86_QUIRK_FIX_HYPERCALL_INSN));
	EXPECT_EQ(-EINVAL, enable(g, KVM_CAP_DISABLE_QUIRKS2, known | 1ULL << 40));
	EXPECT_EQ(0, enable(g, KVM_CAP_DISABLE_QUIRKS, ~0ULL));	/* the older one takes anything */
	ASSERT_EQ(0, enable(g, KVM_CAP_DISABLE_QUIRKS2, 0));
	guest_start(g, MODE_LONG, BLOB(out_7e));
	ASSERT_PORT(0x7e, g);
	EXPECT_EQ(GUEST_CODE + 2, vcpu_regs(&g->cpu).rip);
	ASSERT_EQ(0, enable(g, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_OUT_7E_INC_RIP));
	guest_start(g, MODE_LONG, BLOB(out_7e));
	ASSERT_PORT(0x7e, g);
	EXPECT_EQ(GUEST_CODE, vcpu_regs(&g->cpu).rip);

	/* One of the two hypercall instructions is the other vendor's. */
	ASSERT_EQ(0, enable(g, KVM_CAP_DISABLE_QUIRKS2, 0));
	guest_start(g, MODE_LONG, BLOB(foreign));
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_DONE(g);
	ASSERT_EQ(0, enable(g, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_FIX_HYPERCALL_INSN));
	guest_start(g, MODE_LONG, BLOB(foreign));
	ASSERT_EQ(KVM_EXIT_IO, guest_run(g));
	if (guest_at_port(g, PORT_SYNC))
		ASSERT_EQ(KVM_EXIT_IO, guest_run(g));
	ASSERT_TRUE(guest_at_port(g, PORT_EXC));
	EXPECT_EQ(UD, guest_exc(g).vector);
}

TEST_F(behaviour, platform_info)
{
	struct guest *g = &self->g;
	uint64_t val;

	ops_start(g);
	EXPECT_EQ(0, ops_rdmsr(g, MSR_PLATFORM_INFO, &val));
	EXPECT_EQ(CPUID_FAULTING, val);
	EXPECT_EQ(GP, ops_wrmsr(g, MSR_PLATFORM_INFO, val));
	ASSERT_EQ(0, enable(g, KVM_CAP_MSR_PLATFORM_INFO, 0));
	EXPECT_EQ(GP, ops_rdmsr(g, MSR_PLATFORM_INFO, &val));
	EXPECT_EQ(1, vcpu_get_msr(&g->cpu, MSR_PLATFORM_INFO, &val));
	ASSERT_EQ(0, enable(g, KVM_CAP_MSR_PLATFORM_INFO, 1));
	EXPECT_EQ(0, ops_rdmsr(g, MSR_PLATFORM_INFO, &val));
	/* What the guest uses cannot be taken from it, nor can it use what is not there. */
	EXPECT_EQ(0, ops_wrmsr(g, MSR_MISC_FEATURES, 1));
	EXPECT_EQ(0, vcpu_set_msr(&g->cpu, MSR_PLATFORM_INFO, 0));
	EXPECT_EQ(GP, ops_wrmsr(g, MSR_MISC_FEATURES, 2));
	EXPECT_EQ(0, ops_wrmsr(g, MSR_MISC_FEATURES, 0));
	EXPECT_EQ(1, vcpu_set_msr(&g->cpu, MSR_PLATFORM_INFO, 0));
	EXPECT_EQ(GP, ops_wrmsr(g, MSR_MISC_FEATURES, 1));
}

GUEST(user_cpuid, 64,
	"pushq $" STR(SEL_UDATA) "\n" "pushq $" STR(GUEST_STACK2) "\n" "pushfq\n"
	"pushq $" STR(SEL_UCODE64) "\n" "pushq $" GUEST_AT(user_cpuid, 1f) "\n" "iretq\n"
	"1: movl $1, %eax\n" "cpuid\n" "ud2\n");

TEST_F(behaviour, cpuid_faulting)
{
	struct guest *g = &self->g;
	int faults;

	for (faults = 0; faults < 2; faults++) {
		guest_start(g, MODE_LONG, BLOB(user_cpuid));
		*guest_pte(g, 0) |= 4;
		*(uint64_t *)(g->mem + GUEST_PML4) |= 4;
		*(uint64_t *)(g->mem + GUEST_PDPT) |= 4;
		ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_MISC_FEATURES, faults));
		ASSERT_PORT(PORT_EXC, g);
		EXPECT_EQ(faults ? GP : UD, guest_exc(g).vector);
		/* not for the kernel */
		guest_start(g, MODE_LONG, BLOB(cpuid1));
		ASSERT_DONE(g);
	}
}

TEST_F(behaviour, max_vcpu_id)
{
	struct guest empty = { .vm = vm_create(self->g.dev) };
	int most = vm_cap(empty.vm, KVM_CAP_MAX_VCPU_ID);

	EXPECT_EQ(-EINVAL, enable(&empty, KVM_CAP_MAX_VCPU_ID, most + 1));
	ASSERT_EQ(0, enable(&empty, KVM_CAP_MAX_VCPU_ID, 3));
	EXPECT_EQ(0, enable(&empty, KVM_CAP_MAX_VCPU_ID, 3));
	EXPECT_EQ(-EINVAL, enable(&empty, KVM_CAP_MAX_VCPU_ID, 4));
	EXPECT_EQ(-EINVAL, vm_ioctl(empty.vm, KVM_CREATE_VCPU, 3));
	EXPECT_LE(0, vm_ioctl(empty.vm, KVM_CREATE_VCPU, 2));
	close(empty.vm);
	/* The first vCPU fixes it. */
	EXPECT_EQ(-EINVAL, enable(&self->g, KVM_CAP_MAX_VCPU_ID, 3));
}

TEST_F(behaviour, mmu_pages)
{
	EXPECT_EQ(-EINVAL, vm_ioctl(self->g.vm, KVM_SET_NR_MMU_PAGES, 63));
	EXPECT_EQ(0, vm_ioctl(self->g.vm, KVM_SET_NR_MMU_PAGES, 100));
	EXPECT_EQ(100, vm_ioctl(self->g.vm, KVM_GET_NR_MMU_PAGES, 0));
}

/* With payloads, a pending exception and one in delivery are two things, and the payload is seen and set. */
TEST_F(behaviour, exception_payload)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events e = { .flags = KVM_VCPUEVENT_VALID_PAYLOAD };

	guest_start(g, MODE_LONG, BLOB(cpuid1));
	EXPECT_EQ(-EINVAL, vm_ioctl(g->cpu.fd, KVM_SET_VCPU_EVENTS, &e));
	ASSERT_EQ(0, enable(g, KVM_CAP_EXCEPTION_PAYLOAD, 1));
	e.exception.pending = 1;
	e.exception.nr = 14;
	e.exception.has_error_code = 1;
	e.exception_has_payload = 1;
	e.exception_payload = 0x123456;
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_SET_VCPU_EVENTS, &e));
	memset(&e, 0, sizeof(e));
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_NE(0, e.flags & KVM_VCPUEVENT_VALID_PAYLOAD);
	EXPECT_EQ(1, e.exception.pending);
	EXPECT_EQ(0, e.exception.injected);
	EXPECT_EQ(1, e.exception_has_payload);
	EXPECT_EQ(0x123456, e.exception_payload);
	EXPECT_NE(0x123456, vcpu_sregs(&g->cpu).cr2);	/* not before its delivery */
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(14, guest_exc(g).vector);
	EXPECT_EQ(0x123456, vcpu_sregs(&g->cpu).cr2);
}

TEST_F(behaviour, triple_fault_event)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events e = { .flags = KVM_VCPUEVENT_VALID_TRIPLE_FAULT };

	guest_start(g, MODE_LONG, BLOB(cpuid1));
	EXPECT_EQ(-EINVAL, vm_ioctl(g->cpu.fd, KVM_SET_VCPU_EVENTS, &e));
	ASSERT_EQ(0, enable(g, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1));
	e.triple_fault.pending = 1;
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_SET_VCPU_EVENTS, &e));
	memset(&e, 0, sizeof(e));
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_VCPU_EVENTS, &e));
	EXPECT_NE(0, e.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT);
	EXPECT_EQ(1, e.triple_fault.pending);
	ASSERT_RUN(KVM_EXIT_SHUTDOWN, g);
}

TEST_F(behaviour, device_attributes)
{
	struct guest *g = &self->g;
	uint64_t val = ~0ULL, tsc[2];
	struct kvm_device_attr attr = { .addr = (uintptr_t)&val };

	/* the device's: the XSAVE features that guests may have */
	EXPECT_EQ(0, vm_ioctl(g->dev, KVM_HAS_DEVICE_ATTR, &attr));
	ASSERT_EQ(0, vm_ioctl(g->dev, KVM_GET_DEVICE_ATTR, &attr));
	EXPECT_EQ(3, val & 3);
	attr.group = 1;
	EXPECT_EQ(-ENXIO, vm_ioctl(g->dev, KVM_HAS_DEVICE_ATTR, &attr));
	attr.group = 0;
	attr.attr = 1;
	EXPECT_EQ(-ENXIO, vm_ioctl(g->dev, KVM_GET_DEVICE_ATTR, &attr));
	EXPECT_EQ(-EFAULT, vm_ioctl(g->dev, KVM_GET_DEVICE_ATTR, BAD_PTR));
	attr.attr = 0;
	attr.addr = (uintptr_t)BAD_PTR;
	EXPECT_EQ(-EFAULT, vm_ioctl(g->dev, KVM_GET_DEVICE_ATTR, &attr));

	/* a vCPU's: the offset of its TSC */
	attr.addr = (uintptr_t)&val;
	attr.group = 1;
	EXPECT_EQ(-ENXIO, vm_ioctl(g->cpu.fd, KVM_HAS_DEVICE_ATTR, &attr));
	attr.group = KVM_VCPU_TSC_CTRL;
	attr.attr = KVM_VCPU_TSC_OFFSET + 1;
	EXPECT_EQ(-ENXIO, vm_ioctl(g->cpu.fd, KVM_GET_DEVICE_ATTR, &attr));
	EXPECT_EQ(-ENXIO, vm_ioctl(g->cpu.fd, KVM_SET_DEVICE_ATTR, &attr));
	attr.attr = KVM_VCPU_TSC_OFFSET;
	EXPECT_EQ(0, vm_ioctl(g->cpu.fd, KVM_HAS_DEVICE_ATTR, &attr));
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_GET_DEVICE_ATTR, &attr));
	ASSERT_EQ(1, vcpu_get_msr(&g->cpu, 0x10, &tsc[0]));
	val += 1ULL << 60;
	ASSERT_EQ(0, vm_ioctl(g->cpu.fd, KVM_SET_DEVICE_ATTR, &attr));
	ASSERT_EQ(1, vcpu_get_msr(&g->cpu, 0x10, &tsc[1]));
	EXPECT_EQ(1ULL << 60, (tsc[1] - tsc[0]) & ~((1ULL << 50) - 1));
	attr.addr = (uintptr_t)BAD_PTR;
	EXPECT_EQ(-EFAULT, vm_ioctl(g->cpu.fd, KVM_GET_DEVICE_ATTR, &attr));
	EXPECT_EQ(-EFAULT, vm_ioctl(g->cpu.fd, KVM_SET_DEVICE_ATTR, &attr));
	EXPECT_EQ(-EFAULT, vm_ioctl(g->cpu.fd, KVM_HAS_DEVICE_ATTR, BAD_PTR));
}

TEST_F(behaviour, statistics)
{
	struct guest *g = &self->g;
	int vm = vm_ioctl(g->vm, KVM_GET_STATS_FD, 0), cpu = vm_ioctl(g->cpu.fd, KVM_GET_STATS_FD, 0);
	struct kvm_stats_header h;
	char id[48];

	ASSERT_LE(0, vm);
	ASSERT_LE(0, cpu);
	guest_start(g, MODE_LONG, BLOB(cpuid1));
	ASSERT_DONE(g);
	EXPECT_LE(1, stat_value(cpu, "exits"));
	EXPECT_LE(nested_paging(g->dev), stat_value(cpu, "pf_taken"));
	EXPECT_EQ(-1, stat_value(cpu, "no such counter"));
	ASSERT_EQ(sizeof(h), read(vm, &h, sizeof(h)));
	ASSERT_EQ(sizeof(id), pread(vm, id, sizeof(id), h.id_offset));
	EXPECT_EQ(0, strncmp(id, "kvm-", 4));
	EXPECT_EQ(0, pread(vm, id, sizeof(id), 1 << 20));
	EXPECT_EQ(-1, write(vm, id, sizeof(id)));
	EXPECT_EQ(-1, pread(cpu, BAD_PTR, 8, 0));
	EXPECT_EQ(EFAULT, errno);
	close(vm);
	/* It outlives the VM's own descriptors. */
	guest_destroy(g);
	EXPECT_LE(1, stat_value(cpu, "exits"));
	close(cpu);
	guest_create(g, 0);
}

TEST_F(behaviour, sync_regs)
{
	struct guest *g = &self->g;
	struct kvm_run *run = g->cpu.run;
	struct kvm_sync_regs *s = &run->s.regs;

	ASSERT_EQ(KVM_SYNC_X86_VALID_FIELDS, vm_cap(g->vm, KVM_CAP_SYNC_REGS));
	guest_start(g, MODE_LONG, BLOB(cpuid1));
	run->kvm_valid_regs = 1 << 20;
	EXPECT_EQ(-EINVAL, vcpu_run(&g->cpu));
	run->kvm_valid_regs = 0;
	run->kvm_dirty_regs = 1 << 20;
	EXPECT_EQ(-EINVAL, vcpu_run(&g->cpu));
	run->kvm_dirty_regs = 0;

	run->kvm_valid_regs = KVM_SYNC_X86_VALID_FIELDS;
	ASSERT_DONE(g);
	vcpu_complete_io(&g->cpu);
	EXPECT_EQ(vcpu_sregs(&g->cpu).cr3, s->sregs.cr3);
	EXPECT_NE(0, s->events.flags);
	/* From the start again, by way of kvm_run alone. */
	s->regs.rip = GUEST_CODE;
	s->regs.rbp = 0xabcd;
	run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	ASSERT_DONE(g);
	EXPECT_EQ(0, run->kvm_dirty_regs);
	EXPECT_EQ(0xabcd, s->regs.rbp);
	EXPECT_EQ(0xabcd, vcpu_regs(&g->cpu).rbp);
	/* What the ioctl refuses is refused here. */
	s->sregs.cr4 = ~0ULL;
	run->kvm_dirty_regs = KVM_SYNC_X86_SREGS;
	EXPECT_EQ(-EINVAL, vcpu_run(&g->cpu));
	run->kvm_dirty_regs = 0;
	run->kvm_valid_regs = 0;
}

TEST_F(behaviour, clock_of_the_host)
{
	struct guest *g = &self->g;
	struct kvm_clock_data a = { 0 }, b = { 0 };

	if (!(vm_cap(g->vm, KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_REALTIME))
		SKIP(return, "no KVM_CLOCK_REALTIME");
	ASSERT_EQ(0, vm_ioctl(g->vm, KVM_GET_CLOCK, &a));
	if (!(a.flags & KVM_CLOCK_REALTIME))
		SKIP(return, "in-tree KVM tells the time of day only where the host's clock is the TSC");
	EXPECT_NE(0, a.host_tsc);
	/* A day on the way is a day for the guest; time does not go back. */
	a.realtime -= 86400000000000ULL;
	ASSERT_EQ(0, vm_ioctl(g->vm, KVM_SET_CLOCK, &a));
	ASSERT_EQ(0, vm_ioctl(g->vm, KVM_GET_CLOCK, &b));
	EXPECT_LE(a.clock + 86400000000000ULL, b.clock);
	b.realtime += 2 * 86400000000000ULL;
	ASSERT_EQ(0, vm_ioctl(g->vm, KVM_SET_CLOCK, &b));
	ASSERT_EQ(0, vm_ioctl(g->vm, KVM_GET_CLOCK, &a));
	EXPECT_LE(b.clock, a.clock);
	a.flags = 1 << 20;
	EXPECT_EQ(-EINVAL, vm_ioctl(g->vm, KVM_SET_CLOCK, &a));
}

/* Documentation/abi.rst lists what Keel does not serve. */
TEST_F(behaviour, not_served)
{
	static const int caps[] = {
		KVM_CAP_TSC_CONTROL, KVM_CAP_VM_TSC_CONTROL, KVM_CAP_NESTED_STATE, KVM_CAP_HYPERV, KVM_CAP_HYPERV_SYNIC, KVM_CAP_HYPERV_SYNIC2,
		KVM_CAP_HYPERV_VP_INDEX, KVM_CAP_HYPERV_TLBFLUSH, KVM_CAP_HYPERV_SEND_IPI, KVM_CAP_HYPERV_CPUID,
		KVM_CAP_HYPERV_DIRECT_TLBFLUSH, KVM_CAP_HYPERV_ENFORCE_CPUID, KVM_CAP_XEN_HVM,
		KVM_CAP_PMU_EVENT_FILTER, KVM_CAP_PMU_CAPABILITY, KVM_CAP_X86_BUS_LOCK_EXIT,
		KVM_CAP_X86_NOTIFY_VMEXIT, KVM_CAP_SGX_ATTRIBUTE, KVM_CAP_EXIT_HYPERCALL,
		KVM_CAP_VM_DISABLE_NX_HUGE_PAGES, KVM_CAP_SMALLER_MAXPHYADDR, KVM_CAP_VAPIC, KVM_CAP_ASYNC_PF,
		KVM_CAP_PTP_KVM, KVM_CAP_VM_COPY_ENC_CONTEXT_FROM, KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM,
	};
	static const unsigned long of_vm[] = {
		KVM_SET_MEMORY_REGION, KVM_SET_MEMORY_ALIAS, KVM_SET_TSC_KHZ, KVM_CREATE_DEVICE,
		KVM_MEMORY_ENCRYPT_OP, KVM_HYPERV_EVENTFD, KVM_XEN_HVM_CONFIG, KVM_XEN_HVM_SET_ATTR,
		KVM_SET_PMU_EVENT_FILTER, KVM_MEMORY_ENCRYPT_REG_REGION, KVM_MEMORY_ENCRYPT_UNREG_REGION,
		KVM_XEN_HVM_GET_ATTR, KVM_XEN_HVM_EVTCHN_SEND,
	};
	static const unsigned long of_vcpu[] = {
		KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE, KVM_GET_SUPPORTED_HV_CPUID,
		KVM_XEN_VCPU_SET_ATTR, KVM_XEN_VCPU_GET_ATTR, KVM_DEBUG_GUEST, KVM_GET_ONE_REG, KVM_SET_ONE_REG,
	};
	struct guest *g = &self->g;
	int i;

	if (!dev_is_keel(g->dev))
		SKIP(return, "in-tree KVM serves some of it");
	for (i = 0; i < ARRAY_SIZE(caps); i++)
		EXPECT_EQ(0, vm_cap(g->vm, caps[i])) {
			TH_LOG("capability %d", caps[i]);
		}
	for (i = 0; i < ARRAY_SIZE(of_vm); i++)
		EXPECT_EQ(-ENOTTY, vm_ioctl(g->vm, of_vm[i], 0)) {
			TH_LOG("ioctl %d of a VM", i);
		}
	for (i = 0; i < ARRAY_SIZE(of_vcpu); i++)
		EXPECT_EQ(-ENOTTY, vm_ioctl(g->cpu.fd, of_vcpu[i], 0)) {
			TH_LOG("ioctl %d of a vCPU", i);
		}
}

TEST_HARNESS_MAIN
