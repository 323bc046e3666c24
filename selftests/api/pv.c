// SPDX-License-Identifier: GPL-2.0-only
/*
 * The client's side of the paravirtual features: their MSRs, what these refuse, CPUID and its enforcement, and the
 * capabilities about HLT and PAUSE (KVM API documentation, sections 4.71, 7.13, 7.19, 8.21 and 8.26; the
 * kernel's Documentation/virt/kvm/x86/msr.rst).
 */
#include <linux/kvm_para.h>
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define NO_SLOT		0x800000000UL	/* no memory there */

FIXTURE(pv) {
	struct guest g;
};

FIXTURE_SETUP(pv)
{
	guest_create(&self->g, GUEST_IRQCHIP);
}

FIXTURE_TEARDOWN(pv)
{
	guest_destroy(&self->g);
}

static uint32_t supported_features(int dev)
{
	struct kvm_cpuid2 *cpuid = supported_cpuid(dev);
	struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, KVM_CPUID_FEATURES, 0);
	uint32_t eax = e ? e->eax : 0;

	free(cpuid);
	return eax;
}

static long enable_cap(int fd, uint32_t cap, uint32_t flags, uint64_t arg)
{
	struct kvm_enable_cap e = { .cap = cap, .flags = flags, .args = { arg } };

	return vm_ioctl(fd, KVM_ENABLE_CAP, &e);
}

TEST_F(pv, features)
{
	const uint32_t always = 1 << KVM_FEATURE_NOP_IO_DELAY | 1 << KVM_FEATURE_PV_EOI | 1 << KVM_FEATURE_PV_UNHALT |
				1 << KVM_FEATURE_PV_SEND_IPI | 1 << KVM_FEATURE_POLL_CONTROL |
				1 << KVM_FEATURE_PV_SCHED_YIELD;
	uint32_t features = supported_features(self->g.dev);

	EXPECT_EQ(always, features & always);
	EXPECT_EQ(vm_cap(self->g.dev, KVM_CAP_STEAL_TIME), features >> KVM_FEATURE_STEAL_TIME & 1);
	/* The flush is asked for in the page of steal time. */
	if (!(features & 1 << KVM_FEATURE_STEAL_TIME))
		EXPECT_EQ(0, features & 1 << KVM_FEATURE_PV_TLB_FLUSH);
	/* These are not there without the client's doing. */
	EXPECT_EQ(0, features & 1 << KVM_FEATURE_MSI_EXT_DEST_ID);
	EXPECT_EQ(0, features & 1 << KVM_FEATURE_HC_MAP_GPA_RANGE);
}

TEST_F(pv, msrs)
{
	static const struct {
		uint32_t index;
		uint64_t good[3], bad[5];	/* 0 ends a list but in first place */
	} cases[] = {
		{ MSR_KVM_PV_EOI_EN, { GUEST_DATA + 1, GUEST_DATA + 4 + 1, NO_SLOT },
		  { GUEST_DATA + 2 + 1, 3, 2, NO_SLOT + 1, ~0UL } },
		{ MSR_KVM_STEAL_TIME, { GUEST_DATA + 1, GUEST_DATA + 64, NO_SLOT + 1 },
		  { GUEST_DATA + 2 + 1, GUEST_DATA + 32 + 1, 0x20, 2, ~0UL } },
		{ MSR_KVM_POLL_CONTROL, { 0, 1 }, { 2, 3, 1UL << 63, ~0UL } },
	};
	struct vcpu *cpu = &self->g.cpu;
	uint64_t v, was;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (cases[i].index == MSR_KVM_STEAL_TIME && !vm_cap(self->g.dev, KVM_CAP_STEAL_TIME))
			continue;
		EXPECT_EQ(1, vcpu_get_msr(cpu, cases[i].index, &v));
		EXPECT_EQ(cases[i].index == MSR_KVM_POLL_CONTROL, v);
		for (j = 0; j < 3 && (!j || cases[i].good[j]); j++) {
			EXPECT_EQ(1, vcpu_set_msr(cpu, cases[i].index, cases[i].good[j])) {
				TH_LOG("MSR %x value %lx", cases[i].index, cases[i].good[j]);
			}
			EXPECT_EQ(1, vcpu_get_msr(cpu, cases[i].index, &v));
			EXPECT_EQ(cases[i].good[j], v);
		}
		was = v;
		for (j = 0; j < 5 && cases[i].bad[j]; j++) {
			EXPECT_EQ(0, vcpu_set_msr(cpu, cases[i].index, cases[i].bad[j])) {
				TH_LOG("MSR %x value %lx", cases[i].index, cases[i].bad[j]);
			}
			EXPECT_EQ(1, vcpu_get_msr(cpu, cases[i].index, &v));
			EXPECT_EQ(was, v);
		}
	}
}

/* A slot that the guest may not write holds no flag. */
TEST_F(pv, eoi_in_a_readonly_slot)
{
	struct guest *g = &self->g;

	if (!vm_cap(g->dev, KVM_CAP_READONLY_MEM))
		SKIP(return, "no read-only slots");
	ASSERT_EQ(0, vm_set_slot(g->vm, 5, KVM_MEM_READONLY, 0x800000, PAGE_SIZE, g->mem));
	EXPECT_EQ(0, vcpu_set_msr(&g->cpu, MSR_KVM_PV_EOI_EN, 0x800001));
	EXPECT_EQ(1, vcpu_set_msr(&g->cpu, MSR_KVM_PV_EOI_EN, 0x800000));
}

TEST_F(pv, msrs_are_listed)
{
	static const uint32_t wanted[] = { MSR_KVM_PV_EOI_EN, MSR_KVM_STEAL_TIME, MSR_KVM_POLL_CONTROL };
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + 1000 * sizeof(list->indices[0]));
	int i, j;

	list->nmsrs = 1000;
	ASSERT_EQ(0, vm_ioctl(self->g.dev, KVM_GET_MSR_INDEX_LIST, list));
	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		for (j = 0; j < list->nmsrs && list->indices[j] != wanted[i]; j++)
			;
		EXPECT_LT(j, list->nmsrs) {
			TH_LOG("MSR %x is not listed", wanted[i]);
		}
	}
	free(list);
}

static void set_features(struct guest *g, uint32_t base, uint32_t eax)
{
	struct kvm_cpuid2 *cpuid = supported_cpuid(g->dev);
	struct kvm_cpuid_entry2 *sig = cpuid_find(cpuid, KVM_CPUID_SIGNATURE, 0);
	struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, KVM_CPUID_FEATURES, 0);

	if (!sig || !e)
		die("no hypervisor leaves");
	sig->function = base;
	sig->eax = base | 1;
	e->function = base | 1;
	e->eax = eax;
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_CPUID2, cpuid));
	free(cpuid);
}

GUEST(call, 64, ".byte 0x0f, 0x01, 0xc1\n" G_DONE);

static int64_t hypercall(struct guest *g, uint64_t nr)
{
	struct kvm_regs r;

	guest_start(g, MODE_LONG, BLOB(call));
	r = vcpu_regs(&g->cpu);
	r.rax = nr;
	vcpu_set_regs(&g->cpu, &r);
	if (guest_run(g) != KVM_EXIT_IO || !guest_at_port(g, PORT_DONE)) {
		guest_dump(g);
		die("the hypercall did not return");
	}
	return vcpu_regs(&g->cpu).rax;
}

TEST_F(pv, enforced_cpuid)
{
	static const struct {
		uint32_t index, feature;
	} msrs[] = {
		{ MSR_KVM_WALL_CLOCK, KVM_FEATURE_CLOCKSOURCE }, { MSR_KVM_SYSTEM_TIME, KVM_FEATURE_CLOCKSOURCE },
		{ MSR_KVM_WALL_CLOCK_NEW, KVM_FEATURE_CLOCKSOURCE2 },
		{ MSR_KVM_SYSTEM_TIME_NEW, KVM_FEATURE_CLOCKSOURCE2 },
		{ MSR_KVM_STEAL_TIME, KVM_FEATURE_STEAL_TIME }, { MSR_KVM_PV_EOI_EN, KVM_FEATURE_PV_EOI },
		{ MSR_KVM_POLL_CONTROL, KVM_FEATURE_POLL_CONTROL },
	};
	struct guest *g = &self->g;
	uint64_t v;
	int i;

	ASSERT_EQ(1, vm_cap(g->dev, KVM_CAP_ENFORCE_PV_FEATURE_CPUID));
	ASSERT_EQ(1, vm_cap(g->dev, KVM_CAP_ENABLE_CAP));
	EXPECT_EQ(-EINVAL, enable_cap(g->cpu.fd, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1, 1));
	EXPECT_EQ(-EINVAL, enable_cap(g->cpu.fd, KVM_CAP_IRQCHIP, 0, 1));
	EXPECT_EQ(-EINVAL, enable_cap(g->vm, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 0, 1));
	/* Nothing is enforced unless asked for. */
	set_features(g, KVM_CPUID_SIGNATURE, 0);
	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		EXPECT_EQ(1, vcpu_set_msr(&g->cpu, msrs[i].index, 0));

	ASSERT_EQ(0, enable_cap(g->cpu.fd, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 0, 1));
	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		EXPECT_EQ(0, vcpu_set_msr(&g->cpu, msrs[i].index, 0)) {
			TH_LOG("MSR %x", msrs[i].index);
		}
		EXPECT_EQ(0, vcpu_get_msr(&g->cpu, msrs[i].index, &v)) {
			TH_LOG("MSR %x", msrs[i].index);
		}
	}
	/* One at a time, the leaves where they usually are or at another place */
	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		set_features(g, i & 1 ? 0x40000100 : KVM_CPUID_SIGNATURE, 1 << msrs[i].feature);
		ASSERT_EQ(0, enable_cap(g->cpu.fd, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 0, 1));
		EXPECT_EQ(1, vcpu_set_msr(&g->cpu, msrs[i].index, 0)) {
			TH_LOG("MSR %x", msrs[i].index);
		}
		EXPECT_EQ(1, vcpu_get_msr(&g->cpu, msrs[i].index, &v));
		EXPECT_EQ(0, vcpu_set_msr(&g->cpu, msrs[(i + 2) % ARRAY_SIZE(msrs)].index, 0));
	}
	/* Hypercalls that are no feature of their own stay. */
	set_features(g, KVM_CPUID_SIGNATURE, 1 << KVM_FEATURE_PV_SCHED_YIELD);
	ASSERT_EQ(0, enable_cap(g->cpu.fd, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 0, 1));
	EXPECT_EQ(0, hypercall(g, KVM_HC_VAPIC_POLL_IRQ));
	EXPECT_EQ(0, hypercall(g, KVM_HC_SCHED_YIELD));
	EXPECT_EQ(-KVM_ENOSYS, hypercall(g, KVM_HC_KICK_CPU));
	EXPECT_EQ(-KVM_ENOSYS, hypercall(g, KVM_HC_SEND_IPI));
	/* And off again */
	ASSERT_EQ(0, enable_cap(g->cpu.fd, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 0, 0));
	EXPECT_EQ(0, hypercall(g, KVM_HC_KICK_CPU));
}

/* In the guest a refusal is #GP. */
GUEST(wrmsr, 64, "movq %rbx, %rcx\n" "movl %r8d, %eax\n" "movq %r8, %rdx\n" "shrq $32, %rdx\n" "wrmsr\n" G_DONE);

TEST_F(pv, refused_in_the_guest)
{
	static const struct {
		uint32_t index;
		uint64_t value;
		bool good;
	} cases[] = {
		{ MSR_KVM_PV_EOI_EN, GUEST_DATA + 1, true }, { MSR_KVM_PV_EOI_EN, GUEST_DATA + 3, false },
		{ MSR_KVM_PV_EOI_EN, NO_SLOT + 1, false }, { MSR_KVM_STEAL_TIME, GUEST_DATA + 3, false },
		{ MSR_KVM_POLL_CONTROL, 0, true }, { MSR_KVM_POLL_CONTROL, 2, false },
	};
	struct guest *g = &self->g;
	struct kvm_regs r;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		guest_start(g, MODE_LONG, BLOB(wrmsr));
		r = vcpu_regs(&g->cpu);
		r.rbx = cases[i].index;
		r.r8 = cases[i].value;
		vcpu_set_regs(&g->cpu, &r);
		ASSERT_PORT(cases[i].good ? PORT_DONE : PORT_EXC, g);
		if (!cases[i].good)
			EXPECT_EQ(GP_VECTOR, guest_exc(g).vector);
	}
}

/* INIT takes the features from the guest: their pages are another's by then. */
TEST_F(pv, init_switches_off)
{
	struct kvm_lapic_state l;
	struct guest *g = &self->g;
	struct kvm_mp_state mp;
	struct vcpu cpu;
	uint64_t v;

	GUEST(init, 64, "movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n"
		"movl $0x01000000, 0x310(%rdi)\n" "movl $0x4500, 0x300(%rdi)\n" G_DONE);
	vcpu_create(&cpu, g->dev, g->vm, 1);
	vcpu_set_supported_cpuid(&cpu, g->dev);
	MUST(vm_ioctl(cpu.fd, KVM_GET_LAPIC, &l));
	MUST(vm_ioctl(cpu.fd, KVM_SET_LAPIC, &l));
	ASSERT_EQ(1, vcpu_set_msr(&cpu, MSR_KVM_PV_EOI_EN, GUEST_DATA + 1));
	ASSERT_EQ(1, vcpu_set_msr(&cpu, MSR_KVM_POLL_CONTROL, 0));
	if (vm_cap(g->dev, KVM_CAP_STEAL_TIME))
		ASSERT_EQ(1, vcpu_set_msr(&cpu, MSR_KVM_STEAL_TIME, GUEST_DATA + 1));
	guest_start(g, MODE_LONG, BLOB(init));
	ASSERT_DONE(g);
	MUST(vm_ioctl(cpu.fd, KVM_GET_MP_STATE, &mp));
	EXPECT_EQ(KVM_MP_STATE_INIT_RECEIVED, mp.mp_state);
	ASSERT_EQ(1, vcpu_get_msr(&cpu, MSR_KVM_PV_EOI_EN, &v));
	EXPECT_EQ(0, v);
	ASSERT_EQ(1, vcpu_get_msr(&cpu, MSR_KVM_STEAL_TIME, &v));
	EXPECT_EQ(0, v);
	ASSERT_EQ(1, vcpu_get_msr(&cpu, MSR_KVM_POLL_CONTROL, &v));
	EXPECT_EQ(0, v);
	vcpu_close(&cpu);
}

TEST_F(pv, halt_poll_cap)
{
	ASSERT_EQ(1, vm_cap(self->g.vm, KVM_CAP_HALT_POLL));
	EXPECT_EQ(0, enable_cap(self->g.vm, KVM_CAP_HALT_POLL, 0, 0));
	EXPECT_EQ(0, enable_cap(self->g.vm, KVM_CAP_HALT_POLL, 0, 0xffffffff));
	EXPECT_EQ(-EINVAL, enable_cap(self->g.vm, KVM_CAP_HALT_POLL, 0, 0x100000000));
	EXPECT_EQ(-EINVAL, enable_cap(self->g.vm, KVM_CAP_HALT_POLL, 1, 0));
}

/* HLT that does not exit: the guest stops there until an interrupt of the host or its own, and goes on. */
GUEST(hlt, 64, "movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n" "movl $0xb, 0x3e0(%rdi)\n"
	"movl $0x45, 0x320(%rdi)\n" "movl $1000000, 0x380(%rdi)\n"
	"1: cmpl $0, 0x42000\n" "jne 2f\n" "sti\n" "hlt\n" "jmp 1b\n" "2:\n" G_DONE);
GUEST(isr, 64, "incl 0x42000\n" "movl $0, 0xb0(%rdi)\n" "iretq\n");

TEST(disable_exits)
{
	int dev = dev_open(), vm = vm_create(dev), caps;
	struct kvm_cpuid2 *cpuid;
	struct guest g;

	caps = vm_cap(vm, KVM_CAP_X86_DISABLE_EXITS);
	EXPECT_EQ(KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE,
		  caps & (KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE));
	EXPECT_EQ(-EINVAL, enable_cap(vm, KVM_CAP_X86_DISABLE_EXITS, 0, 1 << 31));
	EXPECT_EQ(-EINVAL, enable_cap(vm, KVM_CAP_X86_DISABLE_EXITS, 1, KVM_X86_DISABLE_EXITS_PAUSE));
	EXPECT_EQ(0, enable_cap(vm, KVM_CAP_X86_DISABLE_EXITS, 0, KVM_X86_DISABLE_EXITS_PAUSE));
	EXPECT_EQ(0, enable_cap(vm, KVM_CAP_X86_DISABLE_EXITS, 0, KVM_X86_DISABLE_EXITS_HLT));
	close(vm);

	memset(&g, 0, sizeof(g));
	g.dev = dev;
	g.vm = vm_create(dev);
	ASSERT_EQ(0, enable_cap(g.vm, KVM_CAP_X86_DISABLE_EXITS, 0, caps));
	MUST(vm_ioctl(g.vm, KVM_SET_TSS_ADDR, 0xfffbd000UL));
	MUST(vm_ioctl(g.vm, KVM_CREATE_IRQCHIP, 0));
	g.mem_size = GUEST_MEM_SIZE;
	g.mem = mem_alloc(g.mem_size);
	MUST(vm_set_slot(g.vm, 0, 0, 0, GUEST_HOLE, g.mem));
	vcpu_create(&g.cpu, dev, g.vm, 0);
	/* In-tree KVM learns by the first where the features are, and takes one away with the second. */
	vcpu_set_supported_cpuid(&g.cpu, dev);
	vcpu_set_supported_cpuid(&g.cpu, dev);
	guest_start(&g, MODE_LONG, BLOB(hlt));
	memcpy(g.mem + 0x10800, isr_start, isr_end - isr_start);
	guest_set_gate(&g, 0x45, 0x10800);
	ASSERT_DONE(&g);
	EXPECT_EQ(1, *(uint32_t *)(g.mem + 0x42000));
	/* A vCPU that halts by itself could not be kicked. */
	cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID_ENTRIES * sizeof(cpuid->entries[0]));
	cpuid->nent = MAX_CPUID_ENTRIES;
	MUST(vm_ioctl(g.cpu.fd, KVM_GET_CPUID2, cpuid));
	EXPECT_EQ(0, cpuid_find(cpuid, KVM_CPUID_FEATURES, 0)->eax & 1 << KVM_FEATURE_PV_UNHALT);
	free(cpuid);
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
