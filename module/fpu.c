// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's x87, SSE, AVX and AVX-512 registers.
 *
 * Each vCPU has an XSAVE area of its own in standard format, which is also the format of
 * KVM_GET_XSAVE. keel_fpu_load() takes the FPU from the kernel (which puts the client's registers
 * away), loads the guest's and, where it differs, the guest's XCR0; keel_fpu_put() reverses it. The
 * components that are moved are those that a guest may enable. What the guest cannot reach (AMX tiles,
 * supervisor states) stays the host's in the registers: XCR0 keeps the guest from it,
 * and IA32_XSS is zero while the guest runs, since XSAVES cannot be intercepted on every CPU.
 *
 * PKRU is not moved with the rest: it is a right to memory, and the host's must be in force for what the core reads of the
 * client's. keel_pkru_load() and keel_pkru_restore() stand around what the vendor enters and serves without that, for a
 * guest that can reach it; in the client's format it is a component like the others.
 *
 * Locks: vcpu->mutex. Between load and put the area is stale, preemption is off, and nothing else
 * may use the FPU. SDM 1, chapter 13; APM 2, 11.5.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/gfp.h>
#include <linux/slab.h>
#include <asm/asm.h>
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>
#include <asm/fpu/xcr.h>
#include <asm/msr-index.h>
#include <asm/special_insns.h>

#include "ops.h"

#define XF_FP		BIT_ULL(0)
#define XF_SSE		BIT_ULL(1)
#define XF_YMM		BIT_ULL(2)
#define XF_YMM_NR	2
#define XF_ZMM_HI_NR	6
#define XF_PKRU		BIT_ULL(KEEL_XF_PKRU_NR)
#define XF_AVX512	(BIT_ULL(5) | BIT_ULL(6) | BIT_ULL(7))
#define XF_FPSSE	(XF_FP | XF_SSE)

#define FCW_INIT	0x37f	/* FNINIT: all exceptions masked, 64-bit precision */
#define MXCSR_INIT	0x1f80
#define FSW_ES		0x80	/* an unmasked exception waits */

/* The fixed part of the XSAVE area, which begins with the FXSAVE area (SDM 1, 10.5.1 and 13.4). */
struct xsave_area {
	u16 fcw, fsw;
	u8 ftw, zero;
	u16 fop;
	u64 fip, fdp;
	u32 mxcsr, mxcsr_mask;
	u8 st[8][16];
	u8 xmm[16][16];
	u8 reserved[48];
	u64 sw_xcr0;		/* bytes that the CPU ignores; the ABI has the host's XCR0 here */
	u8 sw_reserved[40];
	u64 xstate_bv;
	u64 xcomp_bv;
	u8 header_reserved[48];
	u8 extended[];
};

struct keel_fpu {
	struct xsave_area *area;
	bool loaded;		/* the registers hold the guest's state */
};

/* Where a component lies in the standard format, from CPUID 0xd. */
struct component {
	u32 offset, size;
	bool align64;		/* in the compacted format */
};

static struct component components[64] __ro_after_init;
static u64 host_xcr0 __ro_after_init;
static u64 host_xss __ro_after_init;
static u64 state_mask __ro_after_init;	/* components that are moved, without XSAVE: x87 and SSE */
static u64 guest_mask __ro_after_init;	/* those, and PKRU where guests may have it */
static unsigned int area_size __ro_after_init;
static u32 mxcsr_mask __ro_after_init;
static bool use_xsave __ro_after_init;

/* XCR0 as the host kernel has it; 0 without XSAVE. */
u64 keel_fpu_host_xcr0(void)
{
	return host_xcr0;
}

/* XCR0 bits that a guest may be offered; 0 without XSAVE. */
u64 keel_fpu_supported_xcr0(void)
{
	return use_xsave ? guest_mask : 0;
}

/* Bytes of KVM_SET_XSAVE and KVM_GET_XSAVE2, the value of KVM_CAP_XSAVE2. */
unsigned int keel_fpu_size(void)
{
	return max_t(unsigned int, area_size, sizeof(struct kvm_xsave));
}

/**
 * keel_xstate_size() - size of an XSAVE area, in bytes
 * @mask: components in it
 * @compacted: in the format of XSAVEC (SDM 1, 13.4.3)
 */
u32 keel_xstate_size(u64 mask, bool compacted)
{
	u32 size = sizeof(struct xsave_area);

	/* Components 0 and 1 are at its beginning; bit 63 is none. */
	for (mask &= ~(BIT_ULL(63) | 3); mask; mask &= mask - 1) {
		const struct component *c = &components[__ffs64(mask)];

		if (compacted)
			size = (c->align64 ? ALIGN(size, 64) : size) + c->size;
		else
			size = max(size, c->offset + c->size);
	}
	return size;
}

/* MXCSR bits that this CPU has: FXSAVE says so, zero means the oldest set (SDM 1, 11.6.6). */
static void mxcsr_mask_probe(void)
{
	static u8 buf[512] __aligned(64);
	struct xsave_area *area = (void *)buf;

	kernel_fpu_begin_mask(0);
	asm volatile("fxsave64 %0" : "=m" (buf));
	kernel_fpu_end();
	mxcsr_mask = area->mxcsr_mask ?: 0xffbf;
}

/**
 * keel_fpu_module_init() - find out what the host's FPU state looks like
 *
 * Return: 0, or -EIO when the CPU's XSAVE layout makes no sense
 */
int keel_fpu_module_init(void)
{
	unsigned int i;
	u32 eax, ebx, ecx, edx;

	BUILD_BUG_ON(offsetof(struct xsave_area, xmm) != 160);
	BUILD_BUG_ON(offsetof(struct xsave_area, xstate_bv) != 512);
	BUILD_BUG_ON(sizeof(struct xsave_area) != 576);

	mxcsr_mask_probe();
	use_xsave = boot_cpu_has(X86_FEATURE_XSAVE) && boot_cpu_has(X86_FEATURE_OSXSAVE);
	state_mask = guest_mask = XF_FPSSE;
	area_size = sizeof(struct xsave_area);
	if (!use_xsave)
		return 0;

	host_xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
	if (boot_cpu_has(X86_FEATURE_XSAVES) && keel_rdmsr_safe(MSR_IA32_XSS, &host_xss))
		host_xss = 0;
	for (i = 2; i < 63; i++) {
		if (!(host_xcr0 & BIT_ULL(i)))
			continue;
		cpuid_count(0xd, i, &eax, &ebx, &ecx, &edx);
		components[i].offset = ebx;
		components[i].size = eax;
		components[i].align64 = ecx & BIT(1);
	}
	state_mask = host_xcr0 & (XF_FPSSE | XF_YMM | XF_AVX512);
	if ((state_mask & XF_AVX512) != XF_AVX512)
		state_mask &= ~XF_AVX512;
	guest_mask = state_mask;
	if (keel_pku_offered())
		guest_mask |= host_xcr0 & XF_PKRU;
	area_size = keel_xstate_size(guest_mask, false);
	if ((state_mask & XF_FPSSE) != XF_FPSSE || area_size > 8 * PAGE_SIZE) {
		pr_err("XCR0 %#llx with an XSAVE area of %u bytes: not a CPU that Keel knows\n",
		       host_xcr0, area_size);
		return -EIO;
	}
	return 0;
}

static void area_reset(struct xsave_area *area)
{
	memset(area, 0, area_size);
	area->fcw = FCW_INIT;
	/* read even when xstate_bv says that SSE is in its initial state */
	area->mxcsr = MXCSR_INIT;
}

/**
 * keel_fpu_create() - give a vCPU its state, as after power-up
 * @vcpu: the vCPU that is being made
 *
 * Return: 0 or -ENOMEM
 */
int keel_fpu_create(struct keel_vcpu *vcpu)
{
	struct keel_fpu *fpu = kzalloc(sizeof(*fpu), GFP_KERNEL_ACCOUNT);

	if (!fpu)
		return -ENOMEM;
	fpu->area = alloc_pages_exact(area_size, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!fpu->area) {
		kfree(fpu);
		return -ENOMEM;
	}
	area_reset(fpu->area);
	vcpu->fpu = fpu;
	return 0;
}

void keel_fpu_destroy(struct keel_vcpu *vcpu)
{
	if (!vcpu->fpu)
		return;
	free_pages_exact(vcpu->fpu->area, area_size);
	kfree(vcpu->fpu);
	vcpu->fpu = NULL;
}

/**
 * keel_fpu_reset() - RESET or INIT; INIT leaves the FPU and XCR0 alone (SDM 3A, table 9-1)
 * @vcpu: the vCPU, locked, outside the window
 * @init: INIT
 */
void keel_fpu_reset(struct keel_vcpu *vcpu, bool init)
{
	if (init)
		return;
	area_reset(vcpu->fpu->area);
	vcpu->st.xcr0 = XF_FP;
	vcpu->st.pkru = 0;
}

/* On AMD, a restore keeps the last x87 pointers unless an exception is pending: clear them. */
static void x87_pointers_clear(void)
{
	static const u32 zero;

	if (boot_cpu_has_bug(X86_BUG_FXSAVE_LEAK))
		asm volatile("fnclex\n\temms\n\tfildl %0" : : "m" (zero));
}

static int area_load(const struct xsave_area *area)
{
	int err = 0;

	x87_pointers_clear();
	if (use_xsave)
		asm volatile("1: xrstor64 %1\n2:\n"
			     _ASM_EXTABLE_TYPE_REG(1b, 2b, EX_TYPE_EFAULT_REG, %0)
			     : "+r" (err)
			     : "m" (*area), "a" ((u32)state_mask), "d" ((u32)(state_mask >> 32))
			     : "memory");
	else
		asm volatile("1: fxrstor64 %1\n2:\n"
			     _ASM_EXTABLE_TYPE_REG(1b, 2b, EX_TYPE_EFAULT_REG, %0)
			     : "+r" (err) : "m" (*area) : "memory");
	return err;
}

static void area_save(struct xsave_area *area)
{
	if (use_xsave) {
		asm volatile("xsave64 %0"
			     : "+m" (*area)
			     : "a" ((u32)state_mask), "d" ((u32)(state_mask >> 32))
			     : "memory");
	} else {
		asm volatile("fxsave64 %0" : "+m" (*area) : : "memory");
		area->xstate_bv = XF_FPSSE;
	}
}

/**
 * keel_fpu_load() - put the guest's state into the registers
 * @vcpu: the vCPU, locked; interrupts on, no window open
 *
 * Preemption is off when it returns, until keel_fpu_put().
 */
void keel_fpu_load(struct keel_vcpu *vcpu)
{
	struct keel_fpu *fpu = vcpu->fpu;

	kernel_fpu_begin_mask(0);
	if (host_xss)
		keel_wrmsr(MSR_IA32_XSS, 0);
	if (area_load(fpu->area)) {
		/* What comes from a client is validated: a bug. The guest starts over. */
		WARN_ONCE(1, "keel: guest FPU state could not be restored");
		area_reset(fpu->area);
		area_load(fpu->area);
	}
	fpu->loaded = true;
	if (use_xsave && vcpu->st.xcr0 != host_xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, vcpu->st.xcr0);
}

/**
 * keel_fpu_put() - save the guest's state and give the FPU back to the kernel
 * @vcpu: the vCPU, locked; interrupts on, the window is closed
 */
void keel_fpu_put(struct keel_vcpu *vcpu)
{
	struct keel_fpu *fpu = vcpu->fpu;

	if (use_xsave && vcpu->st.xcr0 != host_xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, host_xcr0);
	area_save(fpu->area);
	fpu->loaded = false;
	if (host_xss)
		keel_wrmsr(MSR_IA32_XSS, host_xss);
	kernel_fpu_end();
}

/**
 * keel_fpu_set_xcr0() - change the guest's XCR0, in the CPU too if the guest's state is loaded
 * @vcpu: the vCPU, locked
 * @xcr0: a value that keel_set_xcr0() has checked
 */
void keel_fpu_set_xcr0(struct keel_vcpu *vcpu, u64 xcr0)
{
	vcpu->st.xcr0 = xcr0;
	if (use_xsave && vcpu->fpu->loaded)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, xcr0);
}

/**
 * keel_pkru_load() - the guest's PKRU, for an entry
 * @vcpu: the vCPU, inside its window; keel_pkru_used() says that the guest can reach it
 */
void keel_pkru_load(struct keel_vcpu *vcpu)
{
	vcpu->host.pkru = rdpkru();
	if (vcpu->st.pkru != vcpu->host.pkru)
		wrpkru(vcpu->st.pkru);
}

/**
 * keel_pkru_restore() - the host's PKRU, after the exit
 * @vcpu: the vCPU, as it was for keel_pkru_load()
 */
void keel_pkru_restore(struct keel_vcpu *vcpu)
{
	vcpu->st.pkru = rdpkru();
	if (vcpu->st.pkru != vcpu->host.pkru)
		wrpkru(vcpu->host.pkru);
}

/* A component that xstate_bv leaves out is in its initial state; write that down and mark it. */
static void area_materialize(struct xsave_area *area, u64 mask)
{
	u64 missing = mask & ~area->xstate_bv;

	if (missing & XF_FP) {
		memset(area, 0, offsetof(struct xsave_area, mxcsr));
		memset(area->st, 0, sizeof(area->st));
		area->fcw = FCW_INIT;
	}
	if (missing & XF_SSE)
		memset(area->xmm, 0, sizeof(area->xmm));
	if (missing & XF_YMM)
		memset((void *)area + components[XF_YMM_NR].offset, 0, components[XF_YMM_NR].size);
	area->xstate_bv |= mask;
}

/**
 * keel_fpu_get_legacy() - KVM_GET_FPU
 * @vcpu: the vCPU, locked, outside the window
 * @fpu: filled, all of it
 */
void keel_fpu_get_legacy(struct keel_vcpu *vcpu, struct kvm_fpu *fpu)
{
	struct xsave_area *area = vcpu->fpu->area;

	area_materialize(area, XF_FPSSE);
	memset(fpu, 0, sizeof(*fpu));
	memcpy(fpu->fpr, area->st, sizeof(fpu->fpr));
	fpu->fcw = area->fcw;
	fpu->fsw = area->fsw;
	fpu->ftwx = area->ftw;
	fpu->last_opcode = area->fop;
	fpu->last_ip = area->fip;
	fpu->last_dp = area->fdp;
	memcpy(fpu->xmm, area->xmm, sizeof(fpu->xmm));
	fpu->mxcsr = area->mxcsr;
}

/**
 * keel_fpu_set_legacy() - KVM_SET_FPU
 * @vcpu: the vCPU, locked, outside the window
 * @fpu: the client's; mxcsr is ignored as in KVM, whose clients leave it zero
 *
 * Return: 0
 */
int keel_fpu_set_legacy(struct keel_vcpu *vcpu, const struct kvm_fpu *fpu)
{
	struct xsave_area *area = vcpu->fpu->area;

	area_materialize(area, XF_FPSSE);
	memcpy(area->st, fpu->fpr, sizeof(area->st));
	area->fcw = fpu->fcw;
	area->fsw = fpu->fsw;
	area->ftw = fpu->ftwx;
	area->fop = fpu->last_opcode;
	area->fip = fpu->last_ip;
	area->fdp = fpu->last_dp;
	memcpy(area->xmm, fpu->xmm, sizeof(area->xmm));
	return 0;
}

/* FXSAVE stores the area up to here. */
#define FX_BYTES	offsetof(struct xsave_area, reserved)

/**
 * keel_fpu_get_fx() - the x87 and SSE registers as FXSAVE64 stores them
 * @vcpu: the vCPU, locked, outside the window
 * @fx: KEEL_EMU_FX_BYTES
 */
void keel_fpu_get_fx(struct keel_vcpu *vcpu, void *fx)
{
	struct xsave_area *area = vcpu->fpu->area;

	BUILD_BUG_ON(FX_BYTES != KEEL_EMU_FX_BYTES);
	area_materialize(area, XF_FPSSE);
	memcpy(fx, area, FX_BYTES);
	((struct xsave_area *)fx)->mxcsr_mask = mxcsr_mask;
}

/**
 * keel_fpu_set_fx() - the x87 and SSE registers as FXRSTOR64 loads them
 * @vcpu: the vCPU, locked, outside the window
 * @fx: KEEL_EMU_FX_BYTES
 *
 * Return: 0, or -EINVAL for a reserved bit in MXCSR
 */
int keel_fpu_set_fx(struct keel_vcpu *vcpu, const void *fx)
{
	struct xsave_area *area = vcpu->fpu->area;

	if (((const struct xsave_area *)fx)->mxcsr & ~mxcsr_mask)
		return -EINVAL;
	area_materialize(area, XF_FPSSE);
	memcpy(area, fx, FX_BYTES);
	area->zero = 0;
	return 0;
}

/**
 * keel_fpu_get_xsave() - KVM_GET_XSAVE and KVM_GET_XSAVE2
 * @vcpu: the vCPU, locked, outside the window
 * @buf: filled, all of it; components that the guest's CPUID does not have are left out
 * @size: of @buf, in bytes, at least the fixed part of an XSAVE area
 */
void keel_fpu_get_xsave(struct keel_vcpu *vcpu, void *buf, unsigned int size)
{
	const struct xsave_area *area = vcpu->fpu->area;
	u64 bv = area->xstate_bv & (vcpu->cpuid.xcr0_valid | XF_FPSSE);
	const struct component *pkru = &components[KEEL_XF_PKRU_NR];
	struct xsave_area *out = buf;
	unsigned int i;

	memset(buf, 0, size);
	out->fcw = FCW_INIT;
	out->mxcsr = MXCSR_INIT;
	out->mxcsr_mask = mxcsr_mask;
	if (bv & XF_FP) {
		memcpy(out, area, offsetof(struct xsave_area, mxcsr));
		memcpy(out->st, area->st, sizeof(out->st));
	}
	if (bv & (XF_SSE | XF_YMM))
		out->mxcsr = area->mxcsr;
	if (bv & XF_SSE)
		memcpy(out->xmm, area->xmm, sizeof(out->xmm));
	out->sw_xcr0 = host_xcr0;
	/* without XSAVE all is there, and a host with it can restore this */
	out->xstate_bv = use_xsave ? bv : XF_FPSSE;
	for (i = 2; i < 63; i++) {
		const struct component *c = &components[i];

		if ((bv & BIT_ULL(i)) && c->offset + c->size <= size)
			memcpy(buf + c->offset, (const void *)area + c->offset, c->size);
	}
	if ((vcpu->cpuid.xcr0_valid & XF_PKRU) && pkru->offset + sizeof(u32) <= size) {
		memcpy(buf + pkru->offset, &vcpu->st.pkru, sizeof(u32));
		out->xstate_bv |= XF_PKRU;
	}
}

/**
 * keel_fpu_set_xsave() - KVM_SET_XSAVE
 * @vcpu: the vCPU, locked, outside the window
 * @buf: keel_fpu_size() bytes from the client
 * @size: of @buf
 *
 * A component that is not there gets its initial value, but for PKRU, which keeps its own, as in KVM.
 *
 * Return: 0, or -EINVAL without any change: unknown components, compacted format, reserved bits in
 * the header or in MXCSR
 */
int keel_fpu_set_xsave(struct keel_vcpu *vcpu, const void *buf, unsigned int size)
{
	struct xsave_area *area = vcpu->fpu->area;
	const struct xsave_area *in = buf;
	u64 bv;
	unsigned int i;

	if (size < area_size)
		return -EINVAL;
	bv = in->xstate_bv;
	if (bv & ~guest_mask)
		return -EINVAL;
	if (use_xsave &&
	    (in->xcomp_bv || memchr_inv(in->header_reserved, 0, sizeof(in->header_reserved))))
		return -EINVAL;
	if (!use_xsave)
		bv = XF_FPSSE;
	if ((bv & (XF_FPSSE | XF_YMM)) && (in->mxcsr & ~mxcsr_mask))
		return -EINVAL;

	area_reset(area);
	if (bv & XF_FP) {
		memcpy(area, in, offsetof(struct xsave_area, mxcsr));
		memcpy(area->st, in->st, sizeof(area->st));
	}
	if (bv & (XF_SSE | XF_YMM))
		area->mxcsr = in->mxcsr;
	if (bv & XF_SSE)
		memcpy(area->xmm, in->xmm, sizeof(area->xmm));
	if (bv & XF_PKRU)
		memcpy(&vcpu->st.pkru, buf + components[KEEL_XF_PKRU_NR].offset, sizeof(u32));
	bv &= state_mask;
	for (i = 2; i < 63; i++) {
		const struct component *c = &components[i];

		if (bv & BIT_ULL(i))
			memcpy((void *)area + c->offset, buf + c->offset, c->size);
	}
	area->xstate_bv = bv;
	return 0;
}

/* The part of a component of 32-byte registers (YMM_Hi128: 16 bytes, ZMM_Hi256: 32) that @reg has. */
static u8 *extended_part(struct xsave_area *area, unsigned int component, unsigned int reg)
{
	return (u8 *)area + components[component].offset + reg * (components[component].size / 16);
}

/**
 * keel_fpu_read_vec() - the low bytes of a vector register, for the emulator
 * @vcpu: the vCPU, locked, outside the window
 * @reg: 0 to 15
 * @val: filled
 * @len: 16, or 32 when the guest's XCR0 has AVX
 */
void keel_fpu_read_vec(struct keel_vcpu *vcpu, unsigned int reg, u8 *val, unsigned int len)
{
	struct xsave_area *area = vcpu->fpu->area;

	memset(val, 0, len);
	if (area->xstate_bv & XF_SSE)
		memcpy(val, area->xmm[reg & 15], 16);
	if (len > 16 && (area->xstate_bv & XF_YMM))
		memcpy(val + 16, extended_part(area, XF_YMM_NR, reg & 15), 16);
}

/**
 * keel_fpu_write_vec() - the low bytes of a vector register, from the emulator
 * @vcpu: the vCPU, locked, outside the window
 * @reg: 0 to 15
 * @val: the new value
 * @len: 16, or 32 when the guest's XCR0 has AVX
 * @zero_upper: clear the bits above, to the end of the longest register; else they stay
 */
void keel_fpu_write_vec(struct keel_vcpu *vcpu, unsigned int reg, const u8 *val, unsigned int len,
			bool zero_upper)
{
	struct xsave_area *area = vcpu->fpu->area;

	reg &= 15;
	area_materialize(area, XF_SSE);
	memcpy(area->xmm[reg], val, 16);
	if (len > 16) {
		area_materialize(area, XF_YMM);
		memcpy(extended_part(area, XF_YMM_NR, reg), val + 16, 16);
	} else if (zero_upper && (area->xstate_bv & XF_YMM)) {
		memset(extended_part(area, XF_YMM_NR, reg), 0, 16);
	}
	if (zero_upper && (area->xstate_bv & BIT_ULL(XF_ZMM_HI_NR)))
		memset(extended_part(area, XF_ZMM_HI_NR, reg), 0, 32);
}

/*
 * Any MMX instruction: the top of the stack becomes 0 and all registers valid (SDM 1, 9.5.1). With the top at 0,
 * MMi is ST(i), so the registers are rotated into that order.
 */
static void mmx_enter(struct xsave_area *area)
{
	unsigned int top, i;
	u8 st[8][16];

	top = area->fsw >> 11 & 7;
	memcpy(st, area->st, sizeof(st));
	for (i = 0; top && i < 8; i++)
		memcpy(area->st[(top + i) & 7], st[i], 16);
	area->fsw &= ~(7 << 11);
	area->ftw = 0xff;
}

/**
 * keel_fpu_mmx() - read or write an MMX register, for the emulator
 * @vcpu: the vCPU, locked, outside the window
 * @reg: 0 to 7
 * @val: the value, in or out
 * @write: write it
 *
 * A read changes nothing, since the instruction may still fault; so a store, on its own, does not mark the
 * registers valid as a CPU would.
 *
 * Return: 0, or -EIO with an x87 exception pending: the instruction raises #MF instead
 */
int keel_fpu_mmx(struct keel_vcpu *vcpu, unsigned int reg, u8 val[8], bool write)
{
	struct xsave_area *area = vcpu->fpu->area;

	area_materialize(area, XF_FP);
	if (area->fsw & FSW_ES)
		return -EIO;
	if (!write) {
		memcpy(val, area->st[(reg - (area->fsw >> 11)) & 7], 8);
		return 0;
	}
	mmx_enter(area);
	memcpy(area->st[reg & 7], val, 8);
	memset(area->st[reg & 7] + 8, 0xff, 2);
	return 0;
}
