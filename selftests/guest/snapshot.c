// SPDX-License-Identifier: GPL-2.0-only
/*
 * A snapshot as Firecracker and kvmtool's like take one: everything that there is a GET for, each MSR of the index list
 * included, put into a new VM in Firecracker's order. What is read back is what was put there, and the guest finds
 * its registers as it left them. guest/irqstate has what interrupts in flight add to that.
 */
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define MAX_MSRS	256
#define SEEN_SIZE	96

/* RBX: the XCR0 that is wanted */
GUEST(seen, 64,
	"mov %rbx, %rax\n" "xor %edx, %edx\n" "xor %ecx, %ecx\n" "xsetbv\n"
	"fninit\n" "fldpi\n"
	"movq %rsp, %xmm15\n" "punpcklqdq %xmm15, %xmm15\n"
	"mov $0x12345678, %eax\n" "mov %rax, %dr0\n" "mov %rax, %cr2\n"
	"mov $" STR(MSR_KERNEL_GS_BASE) ", %ecx\n" "mov $0xffff8000, %edx\n" "wrmsr\n"
	"mov $" STR(MSR_LSTAR) ", %ecx\n" "mov $0x87654321, %eax\n" "wrmsr\n"
	"mov $" STR(GUEST_DATA) ", %edi\n" "call 1f\n"
	G_SYNC
	"mov $" STR(GUEST_DATA2) ", %edi\n" "call 1f\n"
	G_DONE
	"1: movdqu %xmm15, (%rdi)\n" "fld %st(0)\n" "fstpt 16(%rdi)\n"
	"mov %dr0, %rax\n" "mov %rax, 32(%rdi)\n"
	"mov %cr2, %rax\n" "mov %rax, 40(%rdi)\n"
	"mov %cr4, %rax\n" "mov %rax, 48(%rdi)\n"
	"xor %ecx, %ecx\n" "xgetbv\n" "mov %eax, 56(%rdi)\n"
	"mov $" STR(MSR_KERNEL_GS_BASE) ", %ecx\n" "rdmsr\n" "mov %eax, 64(%rdi)\n" "mov %edx, 68(%rdi)\n"
	"mov $" STR(MSR_LSTAR) ", %ecx\n" "rdmsr\n" "mov %eax, 72(%rdi)\n" "mov %edx, 76(%rdi)\n"
	"mov %r15, 80(%rdi)\n" "ret\n");

struct msr_state {
	struct kvm_msrs head;
	struct kvm_msr_entry entries[MAX_MSRS];
};

struct snapshot {
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct msr_state msrs;
	struct kvm_vcpu_events events;
	struct kvm_irqchip chip[3];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
};

FIXTURE(snapshot) {
	struct guest g;
	struct snapshot first, second;
	uint8_t *mem;
};

FIXTURE_SETUP(snapshot)
{
	guest_create(&self->g, GUEST_IRQCHIP | GUEST_PIT);
	vcpu_set_supported_cpuid(&self->g.cpu, self->g.dev);
	self->mem = malloc(self->g.mem_size);
	if (!self->mem)
		die("out of memory");
}

FIXTURE_TEARDOWN(snapshot)
{
	guest_destroy(&self->g);
	free(self->mem);
}

/* All of the index list that this vCPU has. */
static void save_msrs(struct guest *g, struct msr_state *to)
{
	struct {
		struct kvm_msr_list head;
		uint32_t indices[MAX_MSRS];
	} list = { .head.nmsrs = MAX_MSRS };
	struct kvm_msr_entry *entry = to->entries;
	unsigned int i;

	MUST(vm_ioctl(g->dev, KVM_GET_MSR_INDEX_LIST, &list));
	for (i = 0; i < list.head.nmsrs; i++) {
		entry->index = list.indices[i];
		if (vcpu_get_msr(&g->cpu, entry->index, (void *)&entry->data) == 1)
			entry++;
	}
	to->head.nmsrs = entry - to->entries;
}

static void save(struct guest *g, struct snapshot *s)
{
	int i;

	memset(s, 0, sizeof(*s));
	MUST(vm_ioctl(g->cpu.fd, KVM_GET_MP_STATE, &s->mp));
	MUST(vm_ioctl(g->cpu.fd, KVM_GET_REGS, &s->regs));
	MUST(vm_ioctl(g->cpu.fd, KVM_GET_SREGS, &s->sregs));
	MUST(vm_ioctl(g->cpu.fd, KVM_GET_XSAVE, &s->xsave));
	MUST(vm_ioctl(g->cpu.fd, KVM_GET_XCRS, &s->xcrs));
	MUST(vm_ioctl(g->cpu.fd, KVM_GET_DEBUGREGS, &s->debug));
	MUST(vm_ioctl(g->cpu.fd, KVM_GET_LAPIC, &s->lapic));
	save_msrs(g, &s->msrs);
	MUST(vm_ioctl(g->cpu.fd, KVM_GET_VCPU_EVENTS, &s->events));
	MUST(vm_ioctl(g->vm, KVM_GET_PIT2, &s->pit));
	MUST(vm_ioctl(g->vm, KVM_GET_CLOCK, &s->clock));
	for (i = 0; i < 3; i++) {
		s->chip[i].chip_id = i;
		MUST(vm_ioctl(g->vm, KVM_GET_IRQCHIP, &s->chip[i]));
	}
}

/* Goes on meanwhile; in-tree KVM has two of Hyper-V's. */
static bool is_clock(uint32_t msr)
{
	return msr == MSR_IA32_TSC || msr == 0x40000010 || msr == 0x40000020;
}

/* How many MSRs were taken. */
static unsigned int restore(struct guest *g, struct snapshot *s)
{
	struct kvm_clock_data clock = { .clock = s->clock.clock };
	unsigned int msrs;
	int i;

	MUST(vm_ioctl(g->cpu.fd, KVM_SET_MP_STATE, &s->mp));
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_REGS, &s->regs));
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_SREGS, &s->sregs));
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_XSAVE, &s->xsave));
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_XCRS, &s->xcrs));
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_DEBUGREGS, &s->debug));
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_LAPIC, &s->lapic));
	msrs = MUST(vm_ioctl(g->cpu.fd, KVM_SET_MSRS, &s->msrs));
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_VCPU_EVENTS, &s->events));
	MUST(vm_ioctl(g->vm, KVM_SET_PIT2, &s->pit));
	MUST(vm_ioctl(g->vm, KVM_SET_CLOCK, &clock));
	for (i = 0; i < 3; i++)
		MUST(vm_ioctl(g->vm, KVM_SET_IRQCHIP, &s->chip[i]));
	return msrs;
}

TEST_F(snapshot, whole)
{
	struct guest *g = &self->g;
	struct snapshot *a = &self->first, *b = &self->second;
	struct kvm_cpuid2 *cpuid = supported_cpuid(g->dev);
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	unsigned int i;

	guest_start(g, MODE_LONG, BLOB(seen));
	sregs = vcpu_sregs(&g->cpu);
	sregs.cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXSAVE;
	vcpu_set_sregs(&g->cpu, &sregs);
	regs = vcpu_regs(&g->cpu);
	regs.rbx = cpuid_find(cpuid, 0xd, 0)->eax & 7;
	regs.r15 = 0x1515151515151515;
	vcpu_set_regs(&g->cpu, &regs);
	free(cpuid);
	/* One that is near what a new VM has would be taken for an attempt to synchronize vCPUs. */
	ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_IA32_TSC, 1ULL << 42));
	ASSERT_PORT(PORT_SYNC, g);
	vcpu_complete_io(&g->cpu);
	save(g, a);
	memcpy(self->mem, g->mem, g->mem_size);

	guest_destroy(g);
	guest_create(g, GUEST_IRQCHIP | GUEST_PIT);
	vcpu_set_supported_cpuid(&g->cpu, g->dev);
	memcpy(g->mem, self->mem, g->mem_size);
	i = restore(g, a);
	ASSERT_EQ(a->msrs.head.nmsrs, i) {
		TH_LOG("MSR %x is not taken", a->msrs.entries[i].index);
	}
	save(g, b);
#define SAME(field)	EXPECT_EQ(0, memcmp(&a->field, &b->field, sizeof(a->field)))
	SAME(mp);
	SAME(regs);
	SAME(sregs);
	SAME(xsave);
	SAME(xcrs);
	SAME(debug);
	SAME(lapic);
	SAME(events);
	SAME(chip);
	EXPECT_EQ(a->pit.channels[2].mode, b->pit.channels[2].mode);
	EXPECT_EQ(a->pit.channels[2].count, b->pit.channels[2].count);
	EXPECT_LE(a->clock.clock, b->clock.clock);
	ASSERT_EQ(a->msrs.head.nmsrs, b->msrs.head.nmsrs);
	for (i = 0; i < a->msrs.head.nmsrs; i++) {
		struct kvm_msr_entry *was = &a->msrs.entries[i], *is = &b->msrs.entries[i];

		ASSERT_EQ(was->index, is->index);
		if (is_clock(is->index)) {
			EXPECT_LE(was->data, is->data);
			continue;
		}
		EXPECT_EQ(was->data, is->data) {
			TH_LOG("MSR %x", is->index);
		}
	}

	g->mode = MODE_LONG;
	ASSERT_DONE(g);
	EXPECT_EQ(0, memcmp(g->mem + GUEST_DATA, g->mem + GUEST_DATA2, SEEN_SIZE));
	EXPECT_EQ(0x12345678, *(uint64_t *)(g->mem + GUEST_DATA2 + 32));
	EXPECT_EQ(0xffff800012345678, *(uint64_t *)(g->mem + GUEST_DATA2 + 64));
}

TEST_HARNESS_MAIN
