// SPDX-License-Identifier: GPL-2.0-only
/*
 * The vCPU's registers from the client's side: reset values, round trips, and refusals that change nothing
 * (KVM API documentation, sections 4.11 to 4.14, 4.33, 4.34, 4.42 to 4.45; reset values: SDM volume 3, 10.1.1).
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "vmtest.h"
#include "x86.h"

FIXTURE(regs) {
	int dev, vm;
	struct vcpu cpu;
};

FIXTURE_SETUP(regs)
{
	self->dev = dev_open();
	self->vm = vm_create(self->dev);
	vcpu_create(&self->cpu, self->dev, self->vm, 0);
}

FIXTURE_TEARDOWN(regs)
{
	vcpu_close(&self->cpu);
	close(self->vm);
	close(self->dev);
}

TEST_F(regs, reset_state)
{
	struct kvm_regs r = vcpu_regs(&self->cpu);
	struct kvm_sregs s = vcpu_sregs(&self->cpu);
	struct kvm_debugregs d;
	struct kvm_fpu f;

	EXPECT_EQ(0xfff0, r.rip);
	EXPECT_EQ(2, r.rflags);
	EXPECT_EQ(0x600, r.rdx);
	EXPECT_EQ(0, r.rax | r.rbx | r.rcx | r.rsp | r.rbp | r.rsi | r.rdi | r.r8 | r.r15);
	EXPECT_EQ(0x60000010, s.cr0);
	EXPECT_EQ(0, s.cr2 | s.cr3 | s.cr4 | s.cr8 | s.efer);
	EXPECT_EQ(0xf000, s.cs.selector);
	EXPECT_EQ(0xffff0000, s.cs.base);
	EXPECT_EQ(0xffff, s.cs.limit);
	/* In-tree KVM has the accessed bit set on VMX and clear on SVM, and a 16-bit busy TSS on SVM. */
	EXPECT_EQ(11, s.cs.type | 1);
	EXPECT_EQ(1, s.cs.present);
	EXPECT_EQ(1, s.cs.s);
	EXPECT_EQ(0, s.cs.l | s.cs.db | s.cs.g | s.cs.unusable);
	EXPECT_EQ(0, s.ss.selector);
	EXPECT_EQ(0, s.ss.base);
	EXPECT_EQ(0xffff, s.ss.limit);
	EXPECT_EQ(3, s.ss.type | 1);
	EXPECT_EQ(1, s.ss.present);
	EXPECT_EQ(3, s.gs.type | 1);
	EXPECT_EQ(11, s.tr.type | 8);
	EXPECT_EQ(2, s.ldt.type);
	EXPECT_EQ(0xffff, s.gdt.limit);
	EXPECT_EQ(0, s.gdt.base);
	EXPECT_EQ(0xffff, s.idt.limit);
	EXPECT_EQ(0, s.idt.base);
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_DEBUGREGS, &d));
	EXPECT_EQ(0xffff0ff0, d.dr6);
	EXPECT_EQ(0x400, d.dr7);
	EXPECT_EQ(0, d.db[0] | d.db[1] | d.db[2] | d.db[3]);
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_FPU, &f));
	EXPECT_EQ(0x37f, f.fcw);
	EXPECT_EQ(0, f.fsw);
}

TEST_F(regs, general_round_trip)
{
	struct kvm_regs a, b;
	uint64_t *p = (uint64_t *)&a;
	int i;

	/* 18 registers: RAX to R15, RIP, RFLAGS */
	for (i = 0; i < 17; i++)
		p[i] = 0x1122334455667700ULL + i;
	a.rflags = X86_EFLAGS_CF | X86_EFLAGS_ZF | X86_EFLAGS_IF;
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_REGS, &a));
	b = vcpu_regs(&self->cpu);
	/* Bit 1 of RFLAGS is always one. */
	a.rflags |= X86_EFLAGS_FIXED;
	EXPECT_EQ(0, memcmp(&a, &b, sizeof(a)));
	EXPECT_EQ(a.rflags, b.rflags);
	EXPECT_EQ(a.rip, b.rip);
}

static struct kvm_segment segment(int n, int type)
{
	return (struct kvm_segment) {
		.base = 0x1000 * n, .limit = 0xfff + n, .selector = 8 * n, .type = type, .present = 1, .s = 1,
	};
}

TEST_F(regs, system_round_trip)
{
	struct kvm_sregs a = vcpu_sregs(&self->cpu), b;

	a.cs = segment(1, 11);
	a.cs.db = 1;
	a.ds = segment(2, 3);
	a.es = segment(3, 3);
	a.fs = segment(4, 3);
	a.gs = segment(5, 3);
	a.ss = segment(6, 3);
	a.ss.avl = 1;
	a.ds.limit = 0xffffffff;
	a.ds.g = 1;
	a.tr = segment(7, 11);
	a.tr.s = 0;
	a.ldt = segment(8, 2);
	a.ldt.s = 0;
	a.gdt.base = 0x12345000;
	a.gdt.limit = 0x127;
	a.idt.base = 0x54321000;
	a.idt.limit = 0x7ff;
	a.cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP;
	a.cr2 = 0xfedcba9876543210;
	a.cr3 = 0x7000;
	a.cr4 = X86_CR4_PSE | X86_CR4_DE | X86_CR4_OSFXSR;
	a.cr8 = 5;
	a.interrupt_bitmap[1] = 1ULL << 5;	/* vector 69 */
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_SREGS, &a));
	b = vcpu_sregs(&self->cpu);
	EXPECT_EQ(0, memcmp(&a.cs, &b.cs, sizeof(a.cs)));
	EXPECT_EQ(0, memcmp(&a.ds, &b.ds, sizeof(a.ds)));
	EXPECT_EQ(0, memcmp(&a.es, &b.es, sizeof(a.es)));
	EXPECT_EQ(0, memcmp(&a.fs, &b.fs, sizeof(a.fs)));
	EXPECT_EQ(0, memcmp(&a.gs, &b.gs, sizeof(a.gs)));
	EXPECT_EQ(0, memcmp(&a.ss, &b.ss, sizeof(a.ss)));
	EXPECT_EQ(0, memcmp(&a.tr, &b.tr, sizeof(a.tr)));
	EXPECT_EQ(0, memcmp(&a.ldt, &b.ldt, sizeof(a.ldt)));
	EXPECT_EQ(a.gdt.base, b.gdt.base);
	EXPECT_EQ(a.gdt.limit, b.gdt.limit);
	EXPECT_EQ(a.idt.base, b.idt.base);
	EXPECT_EQ(a.idt.limit, b.idt.limit);
	EXPECT_EQ(a.cr0, b.cr0);
	EXPECT_EQ(a.cr2, b.cr2);
	EXPECT_EQ(a.cr3, b.cr3);
	EXPECT_EQ(a.cr4, b.cr4);
	EXPECT_EQ(a.cr8, b.cr8);
	EXPECT_EQ(a.efer, b.efer);
	EXPECT_EQ(0, memcmp(a.interrupt_bitmap, b.interrupt_bitmap, sizeof(a.interrupt_bitmap)));
}

TEST_F(regs, unusable_segment)
{
	struct kvm_sregs a = vcpu_sregs(&self->cpu), b;

	a.cr0 |= X86_CR0_PE;
	a.fs.present = 0;
	a.fs.unusable = 1;
	a.ldt.present = 0;
	a.ldt.unusable = 1;
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_SREGS, &a));
	b = vcpu_sregs(&self->cpu);
	EXPECT_EQ(1, b.fs.unusable);
	EXPECT_EQ(0, b.fs.present);
	EXPECT_EQ(1, b.ldt.unusable);
	EXPECT_EQ(0, b.gs.unusable);
}

static const struct {
	const char *what;
	uint64_t cr0, cr3, cr4, efer;
	int cs_l;
	uint64_t apic_base;
} bad_sregs[] = {
	{ "paging without protection", X86_CR0_PG | X86_CR0_ET, 0, 0, 0, 0, 0 },
	{ "NW without CD", X86_CR0_ET | X86_CR0_NW, 0, 0, 0, 0, 0 },
	{ "CR0 above 32 bits", X86_CR0_ET | 1UL << 32, 0, 0, 0, 0, 0 },
	{ "CR4 reserved bit 31", X86_CR0_ET, 0, 1UL << 31, 0, 0, 0 },
	{ "CR4 reserved bit 63", X86_CR0_ET, 0, 1UL << 63, 0, 0, 0 },
	{ "long mode without PAE", X86_CR0_PG | X86_CR0_PE, 0, 0, X86_EFER_LME | X86_EFER_LMA, 0, 0 },
	{ "LME and paging without LMA", X86_CR0_PG | X86_CR0_PE, 0, X86_CR4_PAE, X86_EFER_LME, 0, 0 },
	{ "LMA without LME", X86_CR0_PG | X86_CR0_PE, 0, X86_CR4_PAE, X86_EFER_LMA, 0, 0 },
	{ "LMA without paging", X86_CR0_PE, 0, X86_CR4_PAE, X86_EFER_LME | X86_EFER_LMA, 0, 0 },
	{ "64-bit code segment in protected mode", X86_CR0_PE, 0, 0, 0, 1, 0 },
	{ "CR3 beyond the physical address width", X86_CR0_PG | X86_CR0_PE, 1UL << 62, X86_CR4_PAE,
	  X86_EFER_LME | X86_EFER_LMA, 1, 0 },
	{ "APIC base with a reserved bit", X86_CR0_ET, 0, 0, 0, 0, APIC_DEFAULT_BASE | APICBASE_ENABLE | 1 },
	{ "APIC base beyond the address width", X86_CR0_ET, 0, 0, 0, 0, 1UL << 60 | APICBASE_ENABLE },
	{ "x2APIC without APIC", X86_CR0_ET, 0, 0, 0, 0, APIC_DEFAULT_BASE | APICBASE_X2APIC },
};

TEST_F(regs, bad_system_registers)
{
	struct kvm_sregs before, s, after;
	int i;

	vcpu_set_supported_cpuid(&self->cpu, self->dev);
	before = vcpu_sregs(&self->cpu);
	for (i = 0; i < ARRAY_SIZE(bad_sregs); i++) {
		s = before;
		s.cr0 = bad_sregs[i].cr0;
		s.cr2 = 0x1234;
		s.cr3 = bad_sregs[i].cr3;
		s.cr4 = bad_sregs[i].cr4;
		s.efer = bad_sregs[i].efer;
		s.cs.l = bad_sregs[i].cs_l;
		s.gdt.base = 0x9000;
		s.ds.base = 0x9000;
		if (bad_sregs[i].apic_base)
			s.apic_base = bad_sregs[i].apic_base;
		EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_SREGS, &s)) {
			TH_LOG("%s", bad_sregs[i].what);
		}
		after = vcpu_sregs(&self->cpu);
		EXPECT_EQ(0, memcmp(&before, &after, sizeof(after))) {
			TH_LOG("%s: state changed", bad_sregs[i].what);
		}
	}
}

TEST_F(regs, fpu_round_trip)
{
	struct kvm_fpu a, b;
	int i, j;

	memset(&a, 0, sizeof(a));
	a.fcw = 0x27f;
	a.fsw = 0x1800;
	a.ftwx = 0x7f;
	a.last_opcode = 0x123;
	a.last_ip = 0x12345678;
	a.last_dp = 0x87654321;
	for (i = 0; i < 8; i++)
		for (j = 0; j < 10; j++)
			a.fpr[i][j] = 16 * i + j;
	for (i = 0; i < 16; i++)
		for (j = 0; j < 16; j++)
			a.xmm[i][j] = 255 - 16 * i - j;
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_FPU, &a));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_FPU, &b));
	EXPECT_EQ(a.fcw, b.fcw);
	EXPECT_EQ(a.fsw, b.fsw);
	EXPECT_EQ(a.ftwx, b.ftwx);
	EXPECT_EQ(a.last_opcode, b.last_opcode);
	EXPECT_EQ(a.last_ip, b.last_ip);
	EXPECT_EQ(a.last_dp, b.last_dp);
	EXPECT_EQ(0, memcmp(a.fpr, b.fpr, sizeof(a.fpr)));
	EXPECT_EQ(0, memcmp(a.xmm, b.xmm, sizeof(a.xmm)));
}

/* Offsets in the standard XSAVE format: MXCSR 24, XMM 160, header 512, AVX state where CPUID says. */
#define XSAVE_MXCSR	24
#define XSAVE_XMM	160
#define XSAVE_HEADER	512

FIXTURE(xsave) {
	int dev, vm;
	struct vcpu cpu;
	bool have;
	uint64_t xcr0;
	uint32_t ymm_offset;
	union {
		struct kvm_xsave x;
		uint8_t b[sizeof(struct kvm_xsave)];
		uint64_t q[sizeof(struct kvm_xsave) / 8];
	} area, back;
};

FIXTURE_SETUP(xsave)
{
	struct kvm_cpuid2 *cpuid;
	struct kvm_cpuid_entry2 *e;

	self->dev = dev_open();
	self->vm = vm_create(self->dev);
	vcpu_create(&self->cpu, self->dev, self->vm, 0);
	cpuid = supported_cpuid(self->dev);
	MUST(vm_ioctl(self->cpu.fd, KVM_SET_CPUID2, cpuid));
	e = cpuid_find(cpuid, 1, 0);
	self->have = e && (e->ecx & 1 << 26);
	e = cpuid_find(cpuid, 13, 0);
	if (e)
		self->xcr0 = e->eax | (uint64_t)e->edx << 32;
	e = cpuid_find(cpuid, 13, 2);
	if (e)
		self->ymm_offset = e->ebx;
	free(cpuid);
	if (self->have)
		MUST(vm_ioctl(self->cpu.fd, KVM_GET_XSAVE, &self->area));
}

FIXTURE_TEARDOWN(xsave)
{
	vcpu_close(&self->cpu);
	close(self->vm);
	close(self->dev);
}

TEST_F(xsave, round_trip)
{
	int i;

	if (!self->have)
		SKIP(return, "no XSAVE");
	for (i = 0; i < 256; i++)
		self->area.b[XSAVE_XMM + i] = i;
	*(uint32_t *)&self->area.b[XSAVE_MXCSR] = 0x1fa0;
	self->area.q[XSAVE_HEADER / 8] = XFEATURE_FP | XFEATURE_SSE;
	if (self->xcr0 & XFEATURE_YMM) {
		ASSERT_EQ(576, self->ymm_offset);
		self->area.q[XSAVE_HEADER / 8] |= XFEATURE_YMM;
		for (i = 0; i < 256; i++)
			self->area.b[self->ymm_offset + i] = ~i;
	}
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_XSAVE, &self->area));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_XSAVE, &self->back));
	EXPECT_EQ(0, memcmp(self->area.b + XSAVE_XMM, self->back.b + XSAVE_XMM, 256));
	EXPECT_EQ(0x1fa0, *(uint32_t *)&self->back.b[XSAVE_MXCSR]);
	EXPECT_EQ(self->area.q[XSAVE_HEADER / 8], self->back.q[XSAVE_HEADER / 8] & 7);
	if (self->xcr0 & XFEATURE_YMM)
		EXPECT_EQ(0, memcmp(self->area.b + 576, self->back.b + 576, 256));
}

/* KVM_SET_FPU leaves MXCSR alone: its field in struct kvm_fpu was never filled by in-tree KVM. */
TEST_F(xsave, fpu_without_mxcsr)
{
	struct kvm_fpu fpu;

	if (!self->have)
		SKIP(return, "no XSAVE");
	EXPECT_EQ(0x1f80, *(uint32_t *)&self->area.b[XSAVE_MXCSR]);
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_FPU, &fpu));
	fpu.mxcsr = 0;
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_FPU, &fpu));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_XSAVE, &self->back));
	EXPECT_EQ(0x1f80, *(uint32_t *)&self->back.b[XSAVE_MXCSR]);
}

/* A feature whose bit is clear in the header is in its initial state, whatever its bytes say. */
TEST_F(xsave, init_state)
{
	int i;

	if (!self->have || !(self->xcr0 & XFEATURE_YMM))
		SKIP(return, "no AVX");
	memset(self->area.b + self->ymm_offset, 0x77, 256);
	self->area.q[XSAVE_HEADER / 8] = XFEATURE_FP | XFEATURE_SSE;
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_XSAVE, &self->area));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_XSAVE, &self->back));
	for (i = 0; i < 256; i++) {
		ASSERT_EQ(0, self->back.b[self->ymm_offset + i]);
	}
}

TEST_F(xsave, refusals)
{
	static const struct {
		const char *what;
		unsigned int offset;
		uint64_t bits;
	} bad[] = {
		{ "unknown feature 62", XSAVE_HEADER, 1UL << 62 },
		{ "feature 63", XSAVE_HEADER, 1UL << 63 },
		{ "compacted format", XSAVE_HEADER + 8, 1UL << 63 },
		{ "XCOMP_BV garbage", XSAVE_HEADER + 8, 3 },
		{ "reserved header word", XSAVE_HEADER + 16, 1 },
		{ "last reserved header word", XSAVE_HEADER + 56, 1UL << 63 },
		{ "MXCSR reserved bits", XSAVE_MXCSR, 0xffff0000 },
	};
	int i;

	if (!self->have)
		SKIP(return, "no XSAVE");
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t saved = self->area.q[bad[i].offset / 8];

		/* MXCSR counts only if the header names SSE state. */
		self->area.q[XSAVE_HEADER / 8] |= XFEATURE_FP | XFEATURE_SSE;
		self->area.q[bad[i].offset / 8] |= bad[i].bits;
		memset(self->area.b + XSAVE_XMM, 0x5a, 16);
		EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_XSAVE, &self->area)) {
			TH_LOG("%s", bad[i].what);
		}
		ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_XSAVE, &self->back));
		EXPECT_EQ(0, self->back.b[XSAVE_XMM]) {
			TH_LOG("%s: state changed", bad[i].what);
		}
		self->area.q[bad[i].offset / 8] = saved;
	}
}

/* PKRU is a component like others, but that it stays as it is when the header leaves it out. */
TEST_F(xsave, pkru)
{
	const uint64_t all = XFEATURE_FP | XFEATURE_SSE | XFEATURE_PKRU;
	uint32_t offset = XSAVE_HEADER + 64;
	struct kvm_cpuid2 *cpuid;

	if (!self->have)
		SKIP(return, "no XSAVE");
	cpuid = supported_cpuid(self->dev);
	if (self->xcr0 & XFEATURE_PKRU) {
		ASSERT_EQ(8, cpuid_find(cpuid, 13, 9)->eax);
		offset = cpuid_find(cpuid, 13, 9)->ebx;
	}
	self->area.q[XSAVE_HEADER / 8] |= all;
	*(uint32_t *)&self->area.b[offset] = 0x12345670;
	if (!(self->xcr0 & XFEATURE_PKRU)) {
		EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_XSAVE, &self->area));
		free(cpuid);
		SKIP(return, "no protection keys");
	}
	EXPECT_EQ(0, *(uint32_t *)&self->back.b[offset]);
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_XSAVE, &self->area));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_XSAVE, &self->back));
	EXPECT_EQ(0x12345670, *(uint32_t *)&self->back.b[offset]);
	EXPECT_EQ(all, self->back.q[XSAVE_HEADER / 8] & all);

	self->area.q[XSAVE_HEADER / 8] &= ~XFEATURE_PKRU;
	*(uint32_t *)&self->area.b[offset] = 0x40;
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_XSAVE, &self->area));
	memset(&self->back, 0, sizeof(self->back));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_XSAVE, &self->back));
	/* In-tree KVM leaves it out now, until the vCPU has run. */
	if (self->back.q[XSAVE_HEADER / 8] & XFEATURE_PKRU)
		EXPECT_EQ(0x12345670, *(uint32_t *)&self->back.b[offset]);

	/* Not for a guest whose CPUID does not have it. */
	cpuid_find(cpuid, 13, 0)->eax &= ~XFEATURE_PKRU;
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_CPUID2, cpuid));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_XSAVE, &self->back));
	EXPECT_EQ(0, self->back.q[XSAVE_HEADER / 8] & XFEATURE_PKRU);
	free(cpuid);
}

TEST_F(xsave, xcr0)
{
	struct kvm_xcrs x, back;
	static const uint64_t bad[] = {
		0,			/* x87 must be on */
		XFEATURE_SSE,
		XFEATURE_FP | XFEATURE_YMM,	/* AVX needs SSE */
		XFEATURE_FP | 1UL << 62,
		~0UL,
	};
	int i;

	if (!self->have)
		SKIP(return, "no XSAVE");
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_XCRS, &x));
	EXPECT_EQ(1, x.nr_xcrs);
	EXPECT_EQ(0, x.flags);
	EXPECT_EQ(0, x.xcrs[0].xcr);
	EXPECT_EQ(XFEATURE_FP, x.xcrs[0].value);
	x.xcrs[0].value = self->xcr0;
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_XCRS, &x));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		x.xcrs[0].value = bad[i];
		EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_XCRS, &x)) {
			TH_LOG("XCR0 %lx", bad[i]);
		}
	}
	x.xcrs[0].value = XFEATURE_FP;
	x.nr_xcrs = KVM_MAX_XCRS + 1;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_XCRS, &x));
	x.nr_xcrs = 1;
	x.flags = 1;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_XCRS, &x));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_XCRS, &back));
	EXPECT_EQ(self->xcr0, back.xcrs[0].value);
	/* Registers that are not XCR0 are passed over. */
	x.flags = 0;
	x.xcrs[0].xcr = 1;
	EXPECT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_XCRS, &x));
	x.nr_xcrs = 0;
	EXPECT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_XCRS, &x));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_XCRS, &back));
	EXPECT_EQ(self->xcr0, back.xcrs[0].value);
}

TEST_F(regs, debug_registers)
{
	struct kvm_debugregs a, b;

	memset(&a, 0, sizeof(a));
	a.db[0] = 0x1111;
	a.db[1] = 0x2222;
	a.db[2] = 0x3333;
	a.db[3] = 0xffffffff80004444;
	a.dr6 = 0xffff0ff1;
	a.dr7 = 0x455;
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_SET_DEBUGREGS, &a));
	memset(&b, 0xff, sizeof(b));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_DEBUGREGS, &b));
	EXPECT_EQ(0, memcmp(&a, &b, sizeof(a)));
	b.flags = 1;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_DEBUGREGS, &b));
	b = a;
	b.db[0] = 0;
	b.dr6 = 1UL << 32;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_DEBUGREGS, &b));
	b.dr6 = a.dr6;
	b.dr7 = 1UL << 32;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KVM_SET_DEBUGREGS, &b));
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KVM_GET_DEBUGREGS, &b));
	EXPECT_EQ(0, memcmp(&a, &b, sizeof(a)));
}

TEST_HARNESS_MAIN
