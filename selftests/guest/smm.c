// SPDX-License-Identifier: GPL-2.0-only
/*
 * System management mode: the SMI, the memory and the map that the handler sees, RSM, what is blocked meanwhile, and maps
 * that no CPU would load (SDM volume 3, chapter 32; APM volume 2, chapter 10; KVM API documentation, section 4.96).
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define SMBASE		0x30000
#define SMRAM_SIZE	0x10000
#define ENTRY		0x8000
#define SMRAM_SLOT	(1 << 16)
#define ALIAS_SLOT	(1 << 16 | 1)
#define OTHER_SMBASE	0x50000
#define MSR_SMBASE	0x9e
#define MSR_SMI_COUNT	0x34

/* In the map of 64 bits, and of 32, from SMBASE + 0xfe00 */
#define MAP		0xfe00
#define M64_GDT_BASE	0x68
#define M64_EFER	0xd0
#define M64_REVISION	0xfc
#define M64_SMBASE	0x100
#define M64_CR4		0x148
#define M64_CR3		0x150
#define M64_CR0		0x158
#define M64_DR7		0x160
#define M64_DR6		0x168
#define M64_RFLAGS	0x170
#define M64_RIP		0x178
#define M64_RAX		0x1f8
#define M32_SMBASE	0xf8
#define M32_REVISION	0xfc
#define M32_CR4		0x114
#define M32_CS_BASE	0x198
#define M32_DR7		0x1c8
#define M32_EAX		0x1d0
#define M32_EIP		0x1f0
#define M32_CR3		0x1f8
#define M32_CR0		0x1fc

GUEST_ALL(program, G_SYNC "1: " G_SYNC "jmp 1b\n");
GUEST(waits, 64, G_SYNC "sti\n" "hlt\n" G_DONE);
GUEST(resumes, 64, G_SYNC "rsm\n" G_DONE);
/* With an operand size prefix, too: it has none to size. */
GUEST(handler, 16, G_SYNC "rsm\n");
GUEST(handler_prefixed, 16, G_SYNC ".byte 0x66\n" "rsm\n");
GUEST(handler_memory, 16,
      "movl $0x30100, %esi\n" "movl $0x5eed5eed, (%esi)\n"
      "movl $0x41000, %esi\n" "incl (%esi)\n"
      "movl $0xd0000, %esi\n" "movl (%esi), %eax\n"
      G_SYNC "rsm\n");

FIXTURE(smm) {
	struct guest g;
	uint8_t *smram;
};

static void set_slot(struct guest *g, uint32_t slot, uint64_t gpa, uint64_t size, void *hva)
{
	MUST(vm_set_slot(g->vm, slot, 0, gpa, size, hva));
}

static void set_handler(uint8_t *smram, struct guest_blob blob)
{
	memcpy(smram + ENTRY, blob.start, blob.end - blob.start);
}

FIXTURE_SETUP(smm)
{
	struct guest *g = &self->g;

	guest_create(g, 0);
	if (!vm_cap(g->vm, KVM_CAP_X86_SMM))
		SKIP(return, "no system management mode");
	self->smram = mem_alloc(SMRAM_SIZE);
	set_slot(g, SMRAM_SLOT, SMBASE, SMRAM_SIZE, self->smram);
	set_slot(g, ALIAS_SLOT, 0x40000, GUEST_HOLE - 0x40000, g->mem + 0x40000);
	set_handler(self->smram, BLOB(handler));
}

FIXTURE_TEARDOWN(smm)
{
	guest_destroy(&self->g);
	if (self->smram)
		munmap(self->smram, SMRAM_SIZE);
}

static struct kvm_vcpu_events events(struct guest *g)
{
	struct kvm_vcpu_events e;

	MUST(vm_ioctl(g->cpu.fd, KVM_GET_VCPU_EVENTS, &e));
	return e;
}

static void smi(struct guest *g)
{
	MUST(vm_ioctl(g->cpu.fd, KVM_SMI, 0));
}

static uint64_t field64(const uint8_t *smram, unsigned int offset)
{
	uint64_t val;

	memcpy(&val, smram + MAP + offset, sizeof(val));
	return val;
}

static uint32_t field32(const uint8_t *smram, unsigned int offset)
{
	return field64(smram, offset);
}

static bool in_smm(struct guest *g)
{
	return g->cpu.run->flags & KVM_RUN_X86_SMM;
}

/* Registers that nobody else has. */
static struct kvm_regs odd_registers(struct guest *g)
{
	struct kvm_regs r = vcpu_regs(&g->cpu);
	uint64_t ones = g->mode == MODE_LONG ? 0x0101010100000000ULL : 0;

	r.rax = ones | 0xa0a0a0a0;
	r.rbx = ones | 0xb0b0b0b0;
	r.rsi = ones | 0x51515151;
	r.rbp = ones | 0x0bbbb0bb;
	if (g->mode == MODE_LONG)
		r.r15 = 0x1515151515151515ULL;
	r.rflags |= X86_EFLAGS_CF | X86_EFLAGS_DF;
	vcpu_set_regs(&g->cpu, &r);
	return r;
}

/* QEMU's TCG sets a reserved bit in page-directory pointers, which in-tree KVM then does not load. */
static bool pae_is_lost(struct guest *g)
{
	return in_testhost("svm") && !dev_is_keel(g->dev);
}

static void expect_map(struct __test_metadata *_metadata, const uint8_t *smram, const struct kvm_regs *r,
		       const struct kvm_sregs *s)
{
	EXPECT_EQ(0x20064, field32(smram, M64_REVISION));
	EXPECT_EQ(SMBASE, field32(smram, M64_SMBASE));
	EXPECT_EQ(r->rip, field64(smram, M64_RIP));
	EXPECT_EQ(r->rax, field64(smram, M64_RAX));
	EXPECT_EQ(r->rflags, field64(smram, M64_RFLAGS));
	EXPECT_EQ(s->cr0, field64(smram, M64_CR0));
	EXPECT_EQ(s->cr3, field64(smram, M64_CR3));
	EXPECT_EQ(s->cr4, field64(smram, M64_CR4));
	EXPECT_EQ(s->efer, field64(smram, M64_EFER));
	EXPECT_EQ(s->gdt.base, field64(smram, M64_GDT_BASE));
}

/* From every mode, into the handler and back to the very same state. */
TEST_F(smm, round_trip)
{
	static const struct guest_blob blobs[] = { BLOB(handler), BLOB(handler_prefixed) };
	struct guest *g = &self->g;
	struct kvm_sregs before, in, after;
	struct kvm_regs regs, now;
	struct kvm_debugregs d;
	struct kvm_vcpu_events e;
	uint64_t count, taken = 0;
	int mode;

	for (mode = 0; mode < NR_MODES; mode++) {
		if (mode == MODE_PAE && pae_is_lost(g))
			continue;
		guest_start(g, mode, BLOB_FOR(mode, program));
		set_handler(self->smram, blobs[mode % 2]);
		ASSERT_PORT(PORT_SYNC, g);
		vcpu_complete_io(&g->cpu);
		before = vcpu_sregs(&g->cpu);
		regs = odd_registers(g);
		MUST(vm_ioctl(g->cpu.fd, KVM_GET_DEBUGREGS, &d));
		d.dr7 = 0x701;
		d.db[0] = 0x123450;
		MUST(vm_ioctl(g->cpu.fd, KVM_SET_DEBUGREGS, &d));
		smi(g);
		EXPECT_EQ(1, events(g).smi.pending);
		EXPECT_FALSE(in_smm(g));

		ASSERT_PORT(PORT_SYNC, g);
		EXPECT_TRUE(in_smm(g)) {
			TH_LOG("%s", guest_mode_name[mode]);
		}
		in = vcpu_sregs(&g->cpu);
		EXPECT_EQ(SMBASE, in.cs.base);
		EXPECT_EQ(SMBASE >> 4, in.cs.selector);
		EXPECT_EQ(0, in.ss.base);
		EXPECT_EQ(0xffffffff, in.ds.limit);
		EXPECT_EQ(0, in.cr0 & (X86_CR0_PE | X86_CR0_PG | X86_CR0_EM | X86_CR0_TS));
		EXPECT_EQ(0, in.cr4);
		EXPECT_EQ(0, in.efer);
		EXPECT_EQ(0, in.idt.limit);
		EXPECT_EQ(2, vcpu_regs(&g->cpu).rflags);
		MUST(vm_ioctl(g->cpu.fd, KVM_GET_DEBUGREGS, &d));
		EXPECT_EQ(0x400, d.dr7);
		e = events(g);
		EXPECT_EQ(1, e.smi.smm);
		EXPECT_EQ(0, e.smi.pending);
		EXPECT_EQ(0, e.smi.smm_inside_nmi);
		EXPECT_EQ(1, e.nmi.masked);
		expect_map(_metadata, self->smram, &regs, &before);

		ASSERT_PORT(PORT_SYNC, g);
		vcpu_complete_io(&g->cpu);
		EXPECT_FALSE(in_smm(g));
		after = vcpu_sregs(&g->cpu);
		EXPECT_EQ(0, memcmp(&before, &after, sizeof(after))) {
			TH_LOG("%s", guest_mode_name[mode]);
		}
		now = vcpu_regs(&g->cpu);
		EXPECT_EQ(regs.rip + 2, now.rip);
		now.rip = regs.rip;
		EXPECT_EQ(0, memcmp(&regs, &now, sizeof(now))) {
			TH_LOG("%s", guest_mode_name[mode]);
		}
		MUST(vm_ioctl(g->cpu.fd, KVM_GET_DEBUGREGS, &d));
		EXPECT_EQ(0x701, d.dr7);
		EXPECT_EQ(0x123450, d.db[0]);
		e = events(g);
		EXPECT_EQ(0, e.smi.smm);
		EXPECT_EQ(0, e.nmi.masked);
		EXPECT_EQ(1, vcpu_get_msr(&g->cpu, MSR_SMI_COUNT, &count));
		EXPECT_EQ(++taken, count);
		d.dr7 = 0x400;
		MUST(vm_ioctl(g->cpu.fd, KVM_SET_DEBUGREGS, &d));
	}
}

static void without_long_mode(struct guest *g)
{
	struct kvm_cpuid2 *cpuid = supported_cpuid(g->dev);

	cpuid_find(cpuid, 0x80000001, 0)->edx &= ~(1U << 29);
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_CPUID2, cpuid));
	free(cpuid);
}

/* A guest whose CPUID has no long mode has the map of the P6. */
TEST_F(smm, map_of_32_bits)
{
	struct guest *g = &self->g;
	struct kvm_sregs before, after;
	struct kvm_regs regs;
	int mode;

	without_long_mode(g);
	for (mode = MODE_REAL; mode <= MODE_PAE; mode++) {
		if (mode == MODE_PAE && pae_is_lost(g))
			continue;
		guest_start(g, mode, BLOB_FOR(mode, program));
		ASSERT_PORT(PORT_SYNC, g);
		vcpu_complete_io(&g->cpu);
		before = vcpu_sregs(&g->cpu);
		regs = odd_registers(g);
		smi(g);
		ASSERT_PORT(PORT_SYNC, g);
		EXPECT_TRUE(in_smm(g));
		EXPECT_EQ(0x20000, field32(self->smram, M32_REVISION));
		EXPECT_EQ(SMBASE, field32(self->smram, M32_SMBASE));
		EXPECT_EQ(regs.rip, field32(self->smram, M32_EIP));
		EXPECT_EQ((uint32_t)regs.rax, field32(self->smram, M32_EAX));
		EXPECT_EQ(before.cr0, field32(self->smram, M32_CR0));
		EXPECT_EQ(before.cr3, field32(self->smram, M32_CR3));
		EXPECT_EQ(before.cr4, field32(self->smram, M32_CR4));
		EXPECT_EQ(before.cs.base, field32(self->smram, M32_CS_BASE));
		ASSERT_PORT(PORT_SYNC, g);
		EXPECT_FALSE(in_smm(g));
		after = vcpu_sregs(&g->cpu);
		EXPECT_EQ(0, memcmp(&before, &after, sizeof(after))) {
			TH_LOG("%s", guest_mode_name[mode]);
		}
	}
}

/* The handler's memory is its own; a device has the same address for both. */
TEST_F(smm, memory)
{
	struct guest *g = &self->g;
	uint32_t *own = (uint32_t *)(self->smram + 0x100);
	uint32_t *normal = (uint32_t *)(g->mem + 0x30100);
	uint32_t *shared = (uint32_t *)(g->mem + 0x41000);
	struct kvm_run *run = g->cpu.run;
	int i;

	set_handler(self->smram, BLOB(handler_memory));
	guest_start(g, MODE_LONG, BLOB(program64));
	ASSERT_PORT(PORT_SYNC, g);
	for (i = 1; i <= 3; i++) {
		*normal = 0x1234;
		*own = 0;
		smi(g);
		ASSERT_RUN(KVM_EXIT_MMIO, g);
		EXPECT_EQ(0xd0000, run->mmio.phys_addr);
		EXPECT_EQ(4, run->mmio.len);
		ASSERT_PORT(PORT_SYNC, g);
		EXPECT_TRUE(in_smm(g));
		EXPECT_EQ(0x5eed5eed, *own);
		EXPECT_EQ(0x1234, *normal);
		EXPECT_EQ(i, *shared);
		ASSERT_PORT(PORT_SYNC, g);
		EXPECT_FALSE(in_smm(g));
	}
	/* What is not there for the handler is a device to it. */
	set_slot(g, ALIAS_SLOT, 0x40000, 0, NULL);
	smi(g);
	ASSERT_RUN(KVM_EXIT_MMIO, g);
	EXPECT_EQ(0x41000, run->mmio.phys_addr);
}

/* Who logs the mode's memory sees what an SMI writes there, and nothing of the other's at the same address. */
TEST_F(smm, dirty_log)
{
	struct guest *g = &self->g;
	uint64_t bits = 0;
	struct kvm_dirty_log log = { .slot = SMRAM_SLOT, .dirty_bitmap = &bits };

	guest_start(g, MODE_LONG, BLOB(program64));
	ASSERT_PORT(PORT_SYNC, g);
	MUST(vm_set_slot(g->vm, SMRAM_SLOT, KVM_MEM_LOG_DIRTY_PAGES, SMBASE, SMRAM_SIZE, self->smram));
	smi(g);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, vm_ioctl(g->vm, KVM_GET_DIRTY_LOG, &log));
	/* In-tree KVM maps the handler's page writable when it is fetched. */
	EXPECT_EQ(1ULL << (MAP >> 12), bits & ~(1ULL << (ENTRY >> 12)));
	EXPECT_EQ(0, vm_ioctl(g->vm, KVM_GET_DIRTY_LOG, &log));
	EXPECT_EQ(0, bits);
	log.slot = 1 << 16 | 7;
	EXPECT_EQ(-ENOENT, vm_ioctl(g->vm, KVM_GET_DIRTY_LOG, &log));
	log.slot = 2 << 16;
	EXPECT_EQ(-EINVAL, vm_ioctl(g->vm, KVM_GET_DIRTY_LOG, &log));
}

TEST_F(smm, second_smi_waits)
{
	struct guest *g = &self->g;
	uint64_t count;

	guest_start(g, MODE_LONG, BLOB(program64));
	ASSERT_PORT(PORT_SYNC, g);
	smi(g);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_TRUE(in_smm(g));
	smi(g);
	EXPECT_EQ(1, events(g).smi.pending);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_TRUE(in_smm(g));
	EXPECT_EQ(0, events(g).smi.pending);
	EXPECT_EQ(1, vcpu_get_msr(&g->cpu, MSR_SMI_COUNT, &count));
	EXPECT_EQ(2, count);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_FALSE(in_smm(g));
}

/* An NMI waits for RSM, and if it was one that the SMI interrupted, for IRET. */
TEST_F(smm, nmi)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events e;

	guest_start(g, MODE_LONG, BLOB(program64));
	ASSERT_PORT(PORT_SYNC, g);
	smi(g);
	ASSERT_PORT(PORT_SYNC, g);
	MUST(vm_ioctl(g->cpu.fd, KVM_NMI, 0));
	EXPECT_EQ(1, events(g).nmi.pending);
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_FALSE(in_smm(g));
	EXPECT_EQ(NMI_VECTOR, guest_exc(g).vector);
	ASSERT_PORT(PORT_SYNC, g);

	memset(&e, 0, sizeof(e));
	e.nmi.masked = 1;
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_VCPU_EVENTS, &e));
	smi(g);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_TRUE(in_smm(g));
	EXPECT_EQ(1, events(g).smi.smm_inside_nmi);
	MUST(vm_ioctl(g->cpu.fd, KVM_NMI, 0));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_FALSE(in_smm(g));
	EXPECT_EQ(1, events(g).nmi.masked);
	EXPECT_EQ(0, events(g).smi.smm_inside_nmi);
}

/* An exception that is on its way in is delivered first, and the handler returns to its handler. */
TEST_F(smm, after_a_delivery)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events e = { .exception = { .injected = 1, .nr = UD_VECTOR } };

	guest_start(g, MODE_LONG, BLOB(program64));
	ASSERT_PORT(PORT_SYNC, g);
	vcpu_complete_io(&g->cpu);
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_VCPU_EVENTS, &e));
	smi(g);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_TRUE(in_smm(g));
	EXPECT_LE(GUEST_STUBS, field64(self->smram, M64_RIP));
	EXPECT_GT(GUEST_CODE, field64(self->smram, M64_RIP));
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_FALSE(in_smm(g));
	EXPECT_EQ(UD_VECTOR, guest_exc(g).vector);
}

/* A handler may move its memory for the next time. */
TEST_F(smm, relocation)
{
	struct guest *g = &self->g;
	uint32_t base = OTHER_SMBASE;
	uint64_t val;

	guest_start(g, MODE_LONG, BLOB(program64));
	ASSERT_PORT(PORT_SYNC, g);
	smi(g);
	ASSERT_PORT(PORT_SYNC, g);
	memcpy(self->smram + MAP + M64_SMBASE, &base, sizeof(base));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(1, vcpu_get_msr(&g->cpu, MSR_SMBASE, &val));
	EXPECT_EQ(OTHER_SMBASE, val);
	set_handler(g->mem + OTHER_SMBASE, BLOB(handler));
	smi(g);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_TRUE(in_smm(g));
	EXPECT_EQ(OTHER_SMBASE, vcpu_sregs(&g->cpu).cs.base);
	EXPECT_EQ(OTHER_SMBASE, field32(g->mem + OTHER_SMBASE, M64_SMBASE));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_FALSE(in_smm(g));
}

/* Elsewhere RSM is undefined. */
TEST_F(smm, rsm_outside)
{
	struct guest *g = &self->g;

	guest_start(g, MODE_LONG, BLOB(resumes));
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_PORT(PORT_EXC, g);
	EXPECT_EQ(UD_VECTOR, guest_exc(g).vector);
	EXPECT_EQ(GUEST_CODE + 2, guest_exc(g).rip);
}

/* Maps that a CPU does not load: the vCPU shuts down, outside the mode, and the VM goes on. */
TEST_F(smm, bad_maps)
{
	static const struct {
		const char *what;
		unsigned int offset;
		uint64_t set, clear;
		bool lower_half;	/* is all that in-tree KVM looks at */
	} bad[] = {
		{ "CR0.PG without PE", M64_CR0, X86_CR0_PG, X86_CR0_PE },
		{ "CR0, upper half", M64_CR0, 1ULL << 40, 0, true },
		{ "CR0.NW without CD", M64_CR0, X86_CR0_NW, X86_CR0_CD },
		{ "CR3 beyond physical addresses", M64_CR3, 1ULL << 60, 0 },
		{ "CR4, upper half", M64_CR4, 1ULL << 50, 0, true },
		{ "CR4.PAE clear in long mode", M64_CR4, 0, X86_CR4_PAE },
		{ "EFER, reserved", M64_EFER, 1ULL << 50, 0 },
		{ "DR6, upper half", M64_DR6, 1ULL << 33, 0 },
		{ "DR7, upper half", M64_DR7, 1ULL << 33, 0 },
	};
	struct guest *g = &self->g;
	uint64_t val;
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		if (bad[i].lower_half && !dev_is_keel(g->dev))
			continue;
		guest_start(g, MODE_LONG, BLOB(program64));
		ASSERT_PORT(PORT_SYNC, g);
		smi(g);
		ASSERT_PORT(PORT_SYNC, g);
		val = (field64(self->smram, bad[i].offset) | bad[i].set) & ~bad[i].clear;
		memcpy(self->smram + MAP + bad[i].offset, &val, sizeof(val));
		EXPECT_EQ(KVM_EXIT_SHUTDOWN, guest_run(g)) {
			TH_LOG("%s", bad[i].what);
		}
		EXPECT_FALSE(in_smm(g));
		EXPECT_EQ(0, events(g).smi.smm);
	}
	guest_start(g, MODE_LONG, BLOB(program64));
	ASSERT_PORT(PORT_SYNC, g);
}

static void interrupt_run(int signal)
{
}

/* Random maps: any end is one, but KVM_RUN comes back and the vCPU can be set up again. */
TEST_F(smm, random_maps)
{
	struct kvm_vcpu_events none = {
		.flags = KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
	};
	struct sigaction action = { .sa_handler = interrupt_run };
	struct guest *g = &self->g;
	unsigned int seed = 4711;
	int i, k;

	if (in_testhost("vmx") || in_testhost("svm-nrip"))
		SKIP(return, "Bochs: a guest that spins with interrupts off is left for no interrupt");
	sigaction(SIGALRM, &action, NULL);
	for (i = 0; i < 40; i++) {
		guest_start(g, MODE_LONG, BLOB(program64));
		ASSERT_PORT(PORT_SYNC, g);
		smi(g);
		ASSERT_PORT(PORT_SYNC, g);
		for (k = 0; k < 1 + i; k++)
			self->smram[MAP + rand_r(&seed) % 512] = rand_r(&seed);
		ualarm(300000, 0);
		guest_run(g);
		ualarm(0, 0);
		vcpu_complete_io(&g->cpu);
		MUST(vm_ioctl(g->cpu.fd, KVM_SET_VCPU_EVENTS, &none));
		EXPECT_EQ(1, vcpu_set_msr(&g->cpu, MSR_SMBASE, SMBASE));
	}
}

/* No memory for the map, nor for the handler: nothing is executed, and the client is told. */
TEST_F(smm, no_memory)
{
	struct guest *g = &self->g;

	guest_start(g, MODE_LONG, BLOB(program64));
	ASSERT_PORT(PORT_SYNC, g);
	set_slot(g, SMRAM_SLOT, SMBASE, 0, NULL);
	smi(g);
	ASSERT_RUN(KVM_EXIT_INTERNAL_ERROR, g);
	EXPECT_EQ(KVM_INTERNAL_ERROR_EMULATION, g->cpu.run->internal.suberror);
	EXPECT_TRUE(in_smm(g));
}

FIXTURE(smm_apic) {
	struct guest g;
	uint8_t *smram;
};

FIXTURE_SETUP(smm_apic)
{
	struct guest *g = &self->g;

	guest_create(g, GUEST_IRQCHIP);
	if (!vm_cap(g->vm, KVM_CAP_X86_SMM))
		SKIP(return, "no system management mode");
	self->smram = mem_alloc(SMRAM_SIZE);
	set_slot(g, SMRAM_SLOT, SMBASE, SMRAM_SIZE, self->smram);
	set_handler(self->smram, BLOB(handler));
}

FIXTURE_TEARDOWN(smm_apic)
{
	guest_destroy(&self->g);
	if (self->smram)
		munmap(self->smram, SMRAM_SIZE);
}

/* An SMI ends HLT. */
TEST_F(smm_apic, halted)
{
	struct guest *g = &self->g;
	struct kvm_mp_state mp;

	guest_start(g, MODE_LONG, BLOB(waits));
	ASSERT_PORT(PORT_SYNC, g);
	mp.mp_state = KVM_MP_STATE_HALTED;
	vcpu_complete_io(&g->cpu);
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_MP_STATE, &mp));
	smi(g);
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_TRUE(in_smm(g));
}

GUEST(sends_smi, 64,
      "movl $0xfee00000, %edi\n"
      "movl $0x44200, 0x300(%rdi)\n"	/* to itself, SMI */
      G_SYNC "jmp .\n");

/* The delivery mode of that name. */
TEST_F(smm_apic, by_message)
{
	struct guest *g = &self->g;

	guest_start(g, MODE_LONG, BLOB(sends_smi));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_TRUE(in_smm(g));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_FALSE(in_smm(g));
}

/* INIT waits for RSM. */
TEST_F(smm_apic, latched_init)
{
	struct guest *g = &self->g;
	struct kvm_vcpu_events e;

	guest_start(g, MODE_LONG, BLOB(program64));
	ASSERT_PORT(PORT_SYNC, g);
	smi(g);
	ASSERT_PORT(PORT_SYNC, g);
	e = events(g);
	e.smi.latched_init = 1;
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_VCPU_EVENTS, &e));
	EXPECT_EQ(1, events(g).smi.latched_init);
	EXPECT_EQ(1, events(g).smi.smm);
	/* The reset vector has no memory. */
	ASSERT_RUN(KVM_EXIT_INTERNAL_ERROR, g);
	EXPECT_FALSE(in_smm(g));
	EXPECT_EQ(0, events(g).smi.latched_init);
	EXPECT_EQ(0xfff0, vcpu_regs(&g->cpu).rip);
	EXPECT_EQ(0xffff0000, vcpu_sregs(&g->cpu).cs.base);
}

TEST_HARNESS_MAIN
