// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_GET_MSRS, KVM_SET_MSRS and the CPUID ioctls of a vCPU: round trips, where a list stops, and list sizes
 * (KVM API documentation, sections 4.18, 4.19, 4.46, 4.47).
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

FIXTURE(msrs) {
	int dev, vm;
	struct vcpu cpu;
};

FIXTURE_SETUP(msrs)
{
	self->dev = dev_open();
	self->vm = vm_create(self->dev);
	MUST(vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	vcpu_create(&self->cpu, self->dev, self->vm, 0);
	vcpu_set_supported_cpuid(&self->cpu, self->dev);
}

FIXTURE_TEARDOWN(msrs)
{
	vcpu_close(&self->cpu);
	close(self->vm);
	close(self->dev);
}

TEST_F(msrs, round_trip)
{
	static const struct {
		uint32_t index;
		uint64_t value;
	} cases[] = {
		{ MSR_STAR, 0x0023001000112233 },
		{ MSR_LSTAR, 0xffffffff81234567 },
		{ MSR_CSTAR, 0x00007fffffffffff },
		{ MSR_SFMASK, 0x47700 },
		{ MSR_KERNEL_GS_BASE, 0xffff888012345678 },
		{ MSR_FS_BASE, 0x00007f1234567890 },
		{ MSR_GS_BASE, 0xffff8880aaaa0000 },
		{ MSR_IA32_SYSENTER_CS, 0x10 },
		{ MSR_IA32_SYSENTER_ESP, 0x12345678 },
		{ MSR_IA32_SYSENTER_EIP, 0x87654321 },
		{ MSR_IA32_CR_PAT, 0x0007040600070405 },
		{ MSR_EFER, X86_EFER_SCE | X86_EFER_NX },
		{ MSR_IA32_APICBASE, APIC_DEFAULT_BASE | APICBASE_BSP | APICBASE_ENABLE },
	};
	uint64_t v;
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		EXPECT_EQ(1, vcpu_set_msr(&self->cpu, cases[i].index, cases[i].value)) {
			TH_LOG("MSR %x", cases[i].index);
		}
		EXPECT_EQ(1, vcpu_get_msr(&self->cpu, cases[i].index, &v));
		EXPECT_EQ(cases[i].value, v) {
			TH_LOG("MSR %x", cases[i].index);
		}
	}
	/* The segment bases are the ones of KVM_GET_SREGS. */
	EXPECT_EQ(0x00007f1234567890, vcpu_sregs(&self->cpu).fs.base);
	EXPECT_EQ(0xffff8880aaaa0000, vcpu_sregs(&self->cpu).gs.base);
	EXPECT_EQ(X86_EFER_SCE | X86_EFER_NX, vcpu_sregs(&self->cpu).efer);
}

#define UNSTABLE_TSC	"in-tree KVM stops the guest's TSC between runs when the host's is unstable"

static bool tsc_is_clocksource(void)
{
	char buf[16] = "";
	FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "r");

	if (f) {
		if (!fgets(buf, sizeof(buf), f))
			buf[0] = 0;
		fclose(f);
	}
	return !strncmp(buf, "tsc", 3);
}

TEST_F(msrs, tsc)
{
	uint64_t a, b;

	/* The CPUs' counters need not agree. */
	pin_to_cpu(0);
	ASSERT_EQ(1, vcpu_set_msr(&self->cpu, MSR_IA32_TSC, 1UL << 50));
	ASSERT_EQ(1, vcpu_get_msr(&self->cpu, MSR_IA32_TSC, &a));
	EXPECT_LE(1UL << 50, a);
	EXPECT_LT(a, (1UL << 50) + 100000000000UL);
	if (!tsc_is_clocksource() && strcmp(dev_path(), "/dev/keel"))
		SKIP(return, UNSTABLE_TSC);
	ASSERT_EQ(1, vcpu_get_msr(&self->cpu, MSR_IA32_TSC, &b));
	EXPECT_LT(a, b);
}

TEST_F(msrs, tsc_frequency)
{
	long khz = vm_ioctl(self->cpu.fd, KVM_GET_TSC_KHZ, 0);
	uint64_t a, b, t;

	/* An emulator may be as slow as a tenth of a gigahertz, or slower. */
	ASSERT_LT(10000, khz);
	if (!tsc_is_clocksource() && strcmp(dev_path(), "/dev/keel"))
		SKIP(return, UNSTABLE_TSC);
	pin_to_cpu(0);
	/* The counter runs at that rate: 20 ms are that many ticks at least, and not many more. */
	ASSERT_EQ(1, vcpu_get_msr(&self->cpu, MSR_IA32_TSC, &a));
	t = ns_now();
	usleep(20000);
	t = ns_now() - t;
	ASSERT_EQ(1, vcpu_get_msr(&self->cpu, MSR_IA32_TSC, &b));
	EXPECT_LT(t / 1000000 * khz * 9 / 10, b - a);
	EXPECT_LT(b - a, (t / 1000000 + 100) * khz * 11 / 10);
}

TEST_F(msrs, refusals)
{
	static const struct {
		const char *what;
		uint32_t index;
		uint64_t value;
	} bad[] = {
		{ "an MSR that does not exist", MSR_NONEXISTENT, 1 },
		{ "EFER reserved bit 1", MSR_EFER, 2 },
		{ "EFER bit 40", MSR_EFER, 1UL << 40 },
		{ "PAT type 2", MSR_IA32_CR_PAT, 0x02 },
		{ "PAT type 8", MSR_IA32_CR_PAT, 0x08UL << 56 },
		{ "noncanonical LSTAR", MSR_LSTAR, 0x1234567800000000 },
		{ "noncanonical CSTAR", MSR_CSTAR, 0x0100000000000000 },
		{ "noncanonical KERNEL_GS_BASE", MSR_KERNEL_GS_BASE, 0x7fff000000000000 },
		{ "noncanonical FS base", MSR_FS_BASE, 0x7fff000000000000 },
		{ "APIC base reserved bit", MSR_IA32_APICBASE, APIC_DEFAULT_BASE | APICBASE_ENABLE | 2 },
		{ "x2APIC from APIC off", MSR_IA32_APICBASE, APIC_DEFAULT_BASE | APICBASE_X2APIC },
	};
	uint64_t before, after;
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		before = after = 0;
		vcpu_get_msr(&self->cpu, bad[i].index, &before);
		EXPECT_EQ(0, vcpu_set_msr(&self->cpu, bad[i].index, bad[i].value)) {
			TH_LOG("%s", bad[i].what);
		}
		vcpu_get_msr(&self->cpu, bad[i].index, &after);
		EXPECT_EQ(before, after) {
			TH_LOG("%s: it changed", bad[i].what);
		}
	}
	EXPECT_EQ(0, vcpu_get_msr(&self->cpu, MSR_NONEXISTENT, &after));
}

struct msr_list {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[512];
};

/* The value of the ioctl is how many were done; what stands behind the bad one is not touched. */
TEST_F(msrs, list_stops_at_a_bad_one)
{
	struct msr_list l = { .head.nmsrs = 4 };
	uint64_t v;

	l.entries[0] = (struct kvm_msr_entry){ .index = MSR_STAR, .data = 0x1000 };
	l.entries[1] = (struct kvm_msr_entry){ .index = MSR_LSTAR, .data = 0x2000 };
	l.entries[2] = (struct kvm_msr_entry){ .index = MSR_NONEXISTENT, .data = 0x3000 };
	l.entries[3] = (struct kvm_msr_entry){ .index = MSR_CSTAR, .data = 0x4000 };
	EXPECT_EQ(2, vm_ioctl(self->cpu.fd, KVM_SET_MSRS, &l));
	EXPECT_EQ(1, vcpu_get_msr(&self->cpu, MSR_LSTAR, &v));
	EXPECT_EQ(0x2000, v);
	EXPECT_EQ(1, vcpu_get_msr(&self->cpu, MSR_CSTAR, &v));
	EXPECT_EQ(0, v);
	l.entries[0].data = l.entries[1].data = 0;
	EXPECT_EQ(2, vm_ioctl(self->cpu.fd, KVM_GET_MSRS, &l));
	EXPECT_EQ(0x1000, l.entries[0].data);
	EXPECT_EQ(0x2000, l.entries[1].data);
	EXPECT_EQ(0x4000, l.entries[3].data);
}

TEST_F(msrs, list_sizes)
{
	struct msr_list *l = mem_alloc(sizeof(*l));
	uint32_t i;

	for (i = 0; i < 512; i++)
		l->entries[i].index = MSR_STAR;
	EXPECT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_MSRS, l));
	l->head.nmsrs = 255;
	EXPECT_EQ(255, vm_ioctl(self->cpu.fd, KVM_GET_MSRS, l));
	EXPECT_EQ(255, vm_ioctl(self->cpu.fd, KVM_SET_MSRS, l));
	l->head.nmsrs = 256;
	EXPECT_EQ(-E2BIG, vm_ioctl(self->cpu.fd, KVM_GET_MSRS, l));
	EXPECT_EQ(-E2BIG, vm_ioctl(self->cpu.fd, KVM_SET_MSRS, l));
	l->head.nmsrs = 0xffffffff;
	EXPECT_EQ(-E2BIG, vm_ioctl(self->cpu.fd, KVM_GET_MSRS, l));
	EXPECT_EQ(-E2BIG, vm_ioctl(self->cpu.fd, KVM_SET_MSRS, l));
}

/* What the index list names can be read, and what was read can be written back. */
TEST_F(msrs, index_list_works)
{
	struct {
		struct kvm_msr_list head;
		uint32_t indices[512];
	} list = { .head.nmsrs = 512 };
	uint64_t v;
	uint32_t i;

	ASSERT_EQ(0, vm_ioctl(self->dev, KVM_GET_MSR_INDEX_LIST, &list));
	for (i = 0; i < list.head.nmsrs; i++) {
		EXPECT_EQ(1, vcpu_get_msr(&self->cpu, list.head.indices[i], &v)) {
			TH_LOG("MSR %x cannot be read", list.head.indices[i]);
		}
		EXPECT_EQ(1, vcpu_set_msr(&self->cpu, list.head.indices[i], v)) {
			TH_LOG("MSR %x does not take its own value %lx", list.head.indices[i], v);
		}
	}
}

static struct kvm_cpuid2 *cpuid_alloc(uint32_t nent)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + (nent + 1) * sizeof(c->entries[0]));

	if (!c)
		die("out of memory");
	c->nent = nent;
	return c;
}

TEST_F(msrs, cpuid_round_trip)
{
	struct kvm_cpuid2 *a = supported_cpuid(self->dev), *b = cpuid_alloc(a->nent);
	struct kvm_cpuid_entry2 *e, *f;
	uint32_t i;

	e = cpuid_find(a, 1, 0);
	ASSERT_NE(NULL, e);
	e->eax = 0x00a20f12;
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_CPUID2, a));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_CPUID2, b));
	EXPECT_EQ(a->nent, b->nent);
	for (i = 0; i < a->nent; i++) {
		e = &a->entries[i];
		f = &b->entries[i];
		EXPECT_EQ(e->function, f->function);
		EXPECT_EQ(e->index, f->index);
		EXPECT_EQ(e->eax, f->eax);
		/* Some bits follow the vCPU's state: XSAVE sizes, OSXSAVE, the APIC bit, PKU. */
		if (e->function == 1 || e->function == 7 || e->function == 13)
			continue;
		EXPECT_EQ(e->ebx, f->ebx);
		EXPECT_EQ(e->ecx, f->ecx);
		EXPECT_EQ(e->edx, f->edx);
	}
	free(a);
	free(b);
}

TEST_F(msrs, cpuid_sizes)
{
	struct kvm_cpuid2 *a = supported_cpuid(self->dev), *b;
	uint32_t n = a->nent;

	b = cpuid_alloc(2 * MAX_CPUID_ENTRIES);
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_CPUID2, a));
	b->nent = n - 1;
	EXPECT_EQ(-E2BIG, vm_ioctl(self->cpu.fd, KVM_GET_CPUID2, b));
	b->nent = n;
	EXPECT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_CPUID2, b));
	b->nent = 2 * MAX_CPUID_ENTRIES;
	EXPECT_EQ(-E2BIG, vm_ioctl(self->cpu.fd, KVM_SET_CPUID2, b));
	b->nent = 0xffffffff;
	EXPECT_EQ(-E2BIG, vm_ioctl(self->cpu.fd, KVM_SET_CPUID2, b));
	/* None of them changed the table. */
	b->nent = n;
	EXPECT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_CPUID2, b));
	EXPECT_EQ(n, b->nent);
	/* An empty table is a table. */
	b->nent = 0;
	EXPECT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_CPUID2, b));
	EXPECT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_CPUID2, b));
	EXPECT_EQ(0, b->nent);
	free(a);
	free(b);
}

GUEST(hlt_loop, 64, "1: " G_SYNC "jmp 1b\n");

/* After the first run CPUID is fixed: the same again is allowed, a change is not. */
TEST(cpuid_after_run)
{
	struct guest g;
	struct kvm_cpuid2 *c;

	guest_create(&g, 0);
	guest_start(&g, MODE_LONG, BLOB(hlt_loop));
	ASSERT_PORT(PORT_SYNC, &g);
	/* Older kernels do not write nent back: an exact fit means the same to all. */
	c = supported_cpuid(g.dev);
	ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_GET_CPUID2, c));
	EXPECT_EQ(0, vm_ioctl(g.cpu.fd, KVM_SET_CPUID2, c));
	cpuid_find(c, 0, 0)->ebx ^= 1;
	EXPECT_EQ(-EINVAL, vm_ioctl(g.cpu.fd, KVM_SET_CPUID2, c));
	ASSERT_PORT(PORT_SYNC, &g);
	free(c);
	guest_destroy(&g);
}

GUEST(cpuid, 64, "cpuid\n" G_DONE);

/* What the client says is what the guest sees, and a leaf that is not there is what the CPU model says. */
TEST(guest_sees_cpuid)
{
	struct guest g;
	struct kvm_cpuid2 *c;
	struct kvm_regs r;
	static const struct {
		uint32_t function, index;
		uint32_t eax, ebx, ecx, edx;
	} want[] = {
		{ 0, 0, 2, 0x68747541, 0x444d4163, 0x69746e65 },
		{ 2, 0, 0x22, 0x33, 0x44, 0x55 },
		{ 0x80000000, 0, 0x80000008, 1, 2, 3 },
		{ 0x80000002, 0, 0x6c65656b, 5, 6, 7 },
		{ 0x80000008, 0, 0x3028, 0, 0, 0 },
		{ 0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d },
	};
	int i;

	guest_create(&g, 0);
	c = cpuid_alloc(ARRAY_SIZE(want));
	for (i = 0; i < ARRAY_SIZE(want); i++) {
		c->entries[i] = (struct kvm_cpuid_entry2) {
			.function = want[i].function, .index = want[i].index, .eax = want[i].eax,
			.ebx = want[i].ebx, .ecx = want[i].ecx, .edx = want[i].edx,
		};
	}
	guest_start(&g, MODE_LONG, BLOB(cpuid));
	ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_SET_CPUID2, c));
	for (i = 0; i < ARRAY_SIZE(want); i++) {
		guest_reset_regs(&g);
		r = vcpu_regs(&g.cpu);
		r.rax = want[i].function;
		r.rcx = want[i].index;
		vcpu_set_regs(&g.cpu, &r);
		ASSERT_DONE(&g);
		r = vcpu_regs(&g.cpu);
		EXPECT_EQ(want[i].eax, r.rax);
		EXPECT_EQ(want[i].ebx, r.rbx);
		EXPECT_EQ(want[i].ecx, r.rcx);
		EXPECT_EQ(want[i].edx, r.rdx);
	}
	/* Beyond the last leaf of an AMD CPU's range all four are zero. */
	guest_reset_regs(&g);
	r = vcpu_regs(&g.cpu);
	r.rax = 0x8000001f;
	r.rbx = r.rdx = ~0UL;
	vcpu_set_regs(&g.cpu, &r);
	ASSERT_DONE(&g);
	r = vcpu_regs(&g.cpu);
	EXPECT_EQ(0, r.rax | r.rbx | r.rcx | r.rdx);
	free(c);
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
