// SPDX-License-Identifier: GPL-2.0-only
/*
 * Nothing of one guest is ever seen by another or by the host: x87, SSE, AVX and PKRU state, XCR0, the syscall,
 * segment base and TSC_AUX MSRs, and the debug registers, with two guests in turn on one thread, with two guests
 * in two threads on one CPU, and with the host's own values around KVM_RUN.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

/* In the guest's memory. */
#define XSAVE_IN	0x41000
#define XSAVE_OUT	0x43000
#define MSRS_IN		0x45000		/* index, 0, value */
#define MSRS_OUT	0x45800
#define DRS_IN		0x46000		/* DR0 to DR3, DR7 */
#define DRS_OUT		0x46100		/* and XCR0 */

/*
 * R12: delay between loading and reading back, R13: number of MSRs, R14: XCR0. PORT_SYNC after all is loaded,
 * PORT_DONE after all was read back.
 */
GUEST(worker, 64,
	"movq %cr4, %rax\n" "orl $0x40000, %eax\n" "orl %r15d, %eax\n" "movq %rax, %cr4\n"
	"xorl %ecx, %ecx\n" "movl %r14d, %eax\n" "movq %r14, %rdx\n" "shrq $32, %rdx\n" "xsetbv\n"
	"1:\n"
	"movq %r13, %rbx\n" "movl $" STR(MSRS_IN) ", %esi\n"
	"2: movl (%rsi), %ecx\n" "movl 8(%rsi), %eax\n" "movl 12(%rsi), %edx\n" "wrmsr\n" "addq $16, %rsi\n"
	"decq %rbx\n" "jnz 2b\n"
	"movl $" STR(DRS_IN) ", %esi\n"
	"movq (%rsi), %rax\n" "movq %rax, %dr0\n" "movq 8(%rsi), %rax\n" "movq %rax, %dr1\n"
	"movq 16(%rsi), %rax\n" "movq %rax, %dr2\n" "movq 24(%rsi), %rax\n" "movq %rax, %dr3\n"
	"movq 32(%rsi), %rax\n" "movq %rax, %dr7\n"
	"movl %r14d, %eax\n" "movq %r14, %rdx\n" "shrq $32, %rdx\n" "xrstor64 " STR(XSAVE_IN) "\n"
	G_SYNC
	"movq %r12, %rcx\n" "3: subq $1, %rcx\n" "ja 3b\n"
	"movl %r14d, %eax\n" "movq %r14, %rdx\n" "shrq $32, %rdx\n" "xsave64 " STR(XSAVE_OUT) "\n"
	"movq %r13, %rbx\n" "movl $" STR(MSRS_IN) ", %esi\n" "movl $" STR(MSRS_OUT) ", %edi\n"
	"4: movl (%rsi), %ecx\n" "rdmsr\n" "movl %eax, (%rdi)\n" "movl %edx, 4(%rdi)\n" "addq $16, %rsi\n"
	"addq $8, %rdi\n" "decq %rbx\n" "jnz 4b\n"
	"movl $" STR(DRS_OUT) ", %edi\n"
	"movq %dr0, %rax\n" "movq %rax, (%rdi)\n" "movq %dr1, %rax\n" "movq %rax, 8(%rdi)\n"
	"movq %dr2, %rax\n" "movq %rax, 16(%rdi)\n" "movq %dr3, %rax\n" "movq %rax, 24(%rdi)\n"
	"movq %dr7, %rax\n" "movq %rax, 32(%rdi)\n"
	"xorl %ecx, %ecx\n" "xgetbv\n" "movl %eax, 40(%rdi)\n" "movl %edx, 44(%rdi)\n"
	G_DONE
	"jmp 1b\n");

struct worker {
	struct guest g;
	uint64_t xcr0;
	uint32_t nr_msrs;
	uint32_t ymm_offset, pkru_offset;
	uint64_t seed;
};

static const uint32_t msrs[] = {
	MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK, MSR_KERNEL_GS_BASE, MSR_FS_BASE, MSR_GS_BASE,
	MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP, MSR_TSC_AUX,
};

static uint64_t next(struct worker *w)
{
	w->seed = w->seed * 6364136223846793005UL + 1442695040888963407UL;
	return w->seed >> 16;
}

/* Returns false without XSAVE: there is little to test then. */
static bool worker_create(struct worker *w, uint64_t seed, uint64_t xfeatures, uint64_t delay)
{
	struct kvm_cpuid2 *cpuid;
	struct kvm_cpuid_entry2 *e;
	struct kvm_regs r;

	memset(w, 0, sizeof(*w));
	w->seed = seed;
	guest_create(&w->g, 0);
	cpuid = supported_cpuid(w->g.dev);
	e = cpuid_find(cpuid, 1, 0);
	if (!(e->ecx & 1 << 26)) {
		free(cpuid);
		return false;
	}
	e = cpuid_find(cpuid, 13, 0);
	w->xcr0 = (e->eax | (uint64_t)e->edx << 32) & xfeatures;
	if (w->xcr0 & XFEATURE_YMM)
		w->ymm_offset = cpuid_find(cpuid, 13, 2)->ebx;
	if (w->xcr0 & XFEATURE_PKRU)
		w->pkru_offset = cpuid_find(cpuid, 13, 9)->ebx;
	/* TSC_AUX is there with RDTSCP. */
	w->nr_msrs = ARRAY_SIZE(msrs) - !(cpuid_find(cpuid, 0x80000001, 0)->edx & 1 << 27);
	free(cpuid);
	guest_start(&w->g, MODE_LONG, BLOB(worker));
	r = vcpu_regs(&w->g.cpu);
	r.r12 = delay;
	r.r13 = w->nr_msrs;
	r.r14 = w->xcr0;
	/* CR4.PKE, without which PKRU is not the guest's to use */
	r.r15 = w->xcr0 & XFEATURE_PKRU ? X86_CR4_PKE : 0;
	vcpu_set_regs(&w->g.cpu, &r);
	return true;
}

static uint64_t *guest_words(struct worker *w, uint64_t gpa)
{
	return (uint64_t *)(w->g.mem + gpa);
}

static void fill(struct worker *w)
{
	uint8_t *x = w->g.mem + XSAVE_IN;
	uint64_t *m = guest_words(w, MSRS_IN), *d = guest_words(w, DRS_IN);
	uint64_t v;
	int i;

	memset(x, 0, 0x1000);
	*(uint16_t *)x = 0x37f & ~(next(w) & 0xc00);	/* x87 control: rounding */
	*(uint32_t *)(x + 24) = 0x1f80 | (next(w) & 0x6000);	/* MXCSR: rounding */
	x[4] = 0xff;					/* all x87 registers in use */
	for (i = 0; i < 8; i++) {
		/* Normal numbers, which come back bit for bit. */
		*(uint64_t *)(x + 32 + 16 * i) = next(w) | 1UL << 63;
		*(uint16_t *)(x + 40 + 16 * i) = 0x3fff + (next(w) & 0xff);
	}
	for (i = 0; i < 32; i++)
		*(uint64_t *)(x + 160 + 8 * i) = next(w);
	for (i = 0; w->ymm_offset && i < 32; i++)
		*(uint64_t *)(x + w->ymm_offset + 8 * i) = next(w);
	if (w->pkru_offset)	/* keys 1 to 15: the guest's pages have key 0 */
		*(uint32_t *)(x + w->pkru_offset) = next(w) & ~3U;
	*(uint64_t *)(x + 512) = w->xcr0;
	memset(w->g.mem + XSAVE_OUT, 0, 0x1000);
	for (i = 0; i < w->nr_msrs; i++) {
		v = next(w);
		switch (msrs[i]) {
		case MSR_IA32_SYSENTER_CS:
		case MSR_IA32_SYSENTER_ESP:
		case MSR_IA32_SYSENTER_EIP:
		case MSR_SFMASK:
		case MSR_TSC_AUX:
			v &= 0xffff;
			break;
		case MSR_STAR:
			v &= 0xffffffff00000000;
			break;
		default:	/* canonical */
			v &= 0x00007fffffffffff;
			if (v & 1)
				v |= 0xffff800000000000;
		}
		m[2 * i] = msrs[i];
		m[2 * i + 1] = v;
	}
	for (i = 0; i < 4; i++)
		d[i] = next(w) & 0x00007ffffffffff8;
	/* Breakpoints where nothing runs, on in half of the rounds. */
	d[4] = next(w) & 1 ? 0x4ff : 0x400;
	memset(w->g.mem + MSRS_OUT, 0, 0x800);
	memset(w->g.mem + DRS_OUT, 0, 0x100);
}

static int check(struct worker *w, const char *who)
{
	uint8_t *in = w->g.mem + XSAVE_IN, *out = w->g.mem + XSAVE_OUT;
	uint64_t *m = guest_words(w, MSRS_IN), *mo = guest_words(w, MSRS_OUT);
	uint64_t *d = guest_words(w, DRS_IN), *dn = guest_words(w, DRS_OUT);
	int i, bad = 0;

#define CHECK(cond, ...) do {					\
	if (!(cond)) {						\
		bad++;						\
		fprintf(stderr, "# %s: ", who);			\
		fprintf(stderr, __VA_ARGS__);			\
	}							\
} while (0)
	CHECK(*(uint16_t *)in == *(uint16_t *)out, "x87 control word %x, was %x\n", *(uint16_t *)out, *(uint16_t *)in);
	CHECK(*(uint32_t *)(in + 24) == *(uint32_t *)(out + 24), "MXCSR %x, was %x\n", *(uint32_t *)(out + 24),
	      *(uint32_t *)(in + 24));
	for (i = 0; i < 8; i++)
		CHECK(!memcmp(in + 32 + 16 * i, out + 32 + 16 * i, 10), "st(%d) differs\n", i);
	for (i = 0; i < 16; i++)
		CHECK(!memcmp(in + 160 + 16 * i, out + 160 + 16 * i, 16), "xmm%d differs\n", i);
	for (i = 0; w->ymm_offset && i < 16; i++)
		CHECK(!memcmp(in + w->ymm_offset + 16 * i, out + w->ymm_offset + 16 * i, 16), "ymm%d differs\n", i);
	if (w->pkru_offset)
		CHECK(*(uint32_t *)(in + w->pkru_offset) == *(uint32_t *)(out + w->pkru_offset), "PKRU %x, was %x\n",
		      *(uint32_t *)(out + w->pkru_offset), *(uint32_t *)(in + w->pkru_offset));
	for (i = 0; i < w->nr_msrs; i++)
		CHECK(m[2 * i + 1] == mo[i], "MSR %lx is %lx, was %lx\n", m[2 * i], mo[i], m[2 * i + 1]);
	for (i = 0; i < 5; i++)
		CHECK(d[i] == dn[i], "DR%d is %lx, was %lx\n", i < 4 ? i : 7, dn[i], d[i]);
	CHECK(dn[5] == w->xcr0, "XCR0 is %lx, was %lx\n", dn[5], w->xcr0);
#undef CHECK
	return bad;
}

static bool run_to(struct worker *w, int port)
{
	if (guest_run(&w->g) == KVM_EXIT_IO && guest_at_port(&w->g, port))
		return true;
	guest_dump(&w->g);
	return false;
}

/* Two guests in turn on one thread, one of them without AVX. */
TEST(two_guests_one_thread)
{
	struct worker a, b;
	int i;

	if (!worker_create(&a, 1, ~0UL, 1))
		SKIP(return, "no XSAVE");
	worker_create(&b, 2, XFEATURE_FP | XFEATURE_SSE, 1);
	for (i = 0; i < 100; i++) {
		fill(&a);
		ASSERT_TRUE(run_to(&a, PORT_SYNC));
		fill(&b);
		ASSERT_TRUE(run_to(&b, PORT_SYNC));
		ASSERT_TRUE(run_to(&a, PORT_DONE));
		ASSERT_EQ(0, check(&a, "first guest"));
		ASSERT_TRUE(run_to(&b, PORT_DONE));
		ASSERT_EQ(0, check(&b, "second guest"));
	}
	guest_destroy(&a.g);
	guest_destroy(&b.g);
}

static void *worker_thread(void *arg)
{
	struct worker *w = arg;
	char name[32];
	long bad = 0;
	int i;

	snprintf(name, sizeof(name), "guest %lu", w->seed);
	for (i = 0; i < 40 && !bad; i++) {
		fill(w);
		if (!run_to(w, PORT_SYNC) || !run_to(w, PORT_DONE))
			return (void *)1000;
		bad = check(w, name);
	}
	return (void *)bad;
}

/* Three guests in three threads on one CPU, each preempted within the guest. */
TEST(guests_in_threads_on_one_cpu)
{
	struct worker w[3];
	pthread_t t[3];
	void *ret;
	int i;

	pin_to_cpu(0);
	for (i = 0; i < 3; i++) {
		if (!worker_create(&w[i], i + 1, i == 1 ? XFEATURE_FP | XFEATURE_SSE : ~0UL, 1000000))
			SKIP(return, "no XSAVE");
	}
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, pthread_create(&t[i], NULL, worker_thread, &w[i]));
	}
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, pthread_join(t[i], &ret));
		EXPECT_EQ(0, (long)ret);
	}
}

/* KVM_RUN with all vector registers set before it and read after it; nothing in between but the system call. */
struct host_regs {
	uint8_t vec[16][32];
};

#define EACH_VEC(op)							\
	op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define LOAD_YMM(n)	"vmovdqu " #n "*32(%[in]), %%ymm" #n "\n"
#define STORE_YMM(n)	"vmovdqu %%ymm" #n ", " #n "*32(%[out])\n"
#define LOAD_XMM(n)	"movdqu " #n "*32(%[in]), %%xmm" #n "\n"
#define STORE_XMM(n)	"movdqu %%xmm" #n ", " #n "*32(%[out])\n"
#define CLOBBERS	"rcx", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", \
			"xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

__attribute__((target("avx")))
static long run_with_ymm(int fd, const struct host_regs *in, struct host_regs *out)
{
	long ret = __NR_ioctl;

	asm volatile(EACH_VEC(LOAD_YMM) "syscall\n" EACH_VEC(STORE_YMM)
		     : "+a" (ret)
		     : [in] "r" (in->vec), [out] "r" (out->vec), "D" ((long)fd), "S" ((long)KVM_RUN), "d" (0L)
		     : CLOBBERS);
	return ret;
}

static long run_with_xmm(int fd, const struct host_regs *in, struct host_regs *out)
{
	long ret = __NR_ioctl;

	asm volatile(EACH_VEC(LOAD_XMM) "syscall\n" EACH_VEC(STORE_XMM)
		     : "+a" (ret)
		     : [in] "r" (in->vec), [out] "r" (out->vec), "D" ((long)fd), "S" ((long)KVM_RUN), "d" (0L)
		     : CLOBBERS);
	return ret;
}

static uint64_t xgetbv0(void)
{
	uint32_t a, d;

	asm volatile("xgetbv" : "=a" (a), "=d" (d) : "c" (0));
	return a | (uint64_t)d << 32;
}

static void wrpkru(uint32_t val)
{
	asm volatile(".byte 0x0f, 0x01, 0xef" :: "a" (val), "c" (0), "d" (0));
}

static uint32_t rdpkru(void)
{
	uint32_t val;

	asm volatile(".byte 0x0f, 0x01, 0xee" : "=a" (val) : "c" (0) : "rdx");
	return val;
}

#define NO_KEY_BUT_0	0x55555554U	/* with which Linux begins a program */

TEST(host_keeps_its_own)
{
	struct host_regs in, out;
	struct worker w;
	uint64_t gs, gs_after, xcr0;
	uint32_t aux, mxcsr = 0x7fa0, mxcsr_after;
	uint16_t fcw = 0xb7f, fcw_after;
	bool avx, pku, rdtscp;
	unsigned int cpu, i, j;
	long ret;

	pin_to_cpu(0);
	if (!worker_create(&w, 7, ~0UL, 1000))
		SKIP(return, "no XSAVE");
	__builtin_cpu_init();
	xcr0 = xgetbv0();
	avx = __builtin_cpu_supports("avx") && (xcr0 & XFEATURE_YMM);
	pku = xcr0 & XFEATURE_PKRU;
	rdtscp = w.nr_msrs == ARRAY_SIZE(msrs);
	gs = 0x123456789000;
	ASSERT_EQ(0, syscall(SYS_arch_prctl, ARCH_SET_GS, gs));
	asm volatile("ldmxcsr %0" :: "m" (mxcsr));
	asm volatile("fldcw %0" :: "m" (fcw));
	if (pku)
		wrpkru(NO_KEY_BUT_0);
	for (i = 0; i < 60; i++) {
		memset(&in, 0x10 + i, sizeof(in));
		in.vec[5][3] = i * 3;
		memset(&out, 0, sizeof(out));
		if (!(i & 1))
			fill(&w);
		ret = avx ? run_with_ymm(w.g.cpu.fd, &in, &out) : run_with_xmm(w.g.cpu.fd, &in, &out);
		ASSERT_EQ(0, ret);
		ASSERT_TRUE(guest_at_port(&w.g, i & 1 ? PORT_DONE : PORT_SYNC));
		if (i & 1)
			ASSERT_EQ(0, check(&w, "guest"));
		for (j = 0; j < 16; j++) {
			EXPECT_EQ(0, memcmp(in.vec[j], out.vec[j], avx ? 32 : 16)) {
				TH_LOG("host's vector register %u", j);
			}
		}
		asm volatile("stmxcsr %0" : "=m" (mxcsr_after));
		asm volatile("fnstcw %0" : "=m" (fcw_after));
		EXPECT_EQ(mxcsr, mxcsr_after);
		EXPECT_EQ(fcw, fcw_after);
		EXPECT_EQ(xcr0, xgetbv0());
		if (pku)
			EXPECT_EQ(NO_KEY_BUT_0, rdpkru());
		ASSERT_EQ(0, syscall(SYS_arch_prctl, ARCH_GET_GS, &gs_after));
		EXPECT_EQ(gs, gs_after);
		if (rdtscp) {
			/* The kernel keeps the CPU's number there, for getcpu() without a system call. */
			asm volatile("rdtscp" : "=c" (aux) :: "rax", "rdx");
			ASSERT_EQ(0, syscall(SYS_getcpu, &cpu, NULL, NULL));
			EXPECT_EQ(cpu, aux & 0xfff);
		}
	}
	mxcsr = 0x1f80;
	asm volatile("ldmxcsr %0" :: "m" (mxcsr));
	asm volatile("fninit");
	guest_destroy(&w.g);
}

/* R12: PKRU to be written. CPUID's bits 3 and 4 in R13, PKRU as found in R14, as left in R15; then a turn without keys. */
GUEST(pkru, 64,
	"1: movq %cr4, %rax\n" "orl $0x400000, %eax\n" "movq %rax, %cr4\n"
	"movl $7, %eax\n" "xorl %ecx, %ecx\n" "cpuid\n" "movl %ecx, %r13d\n"
	"xorl %ecx, %ecx\n" "rdpkru\n" "movl %eax, %r14d\n" G_SYNC
	"movl %r12d, %eax\n" "xorl %edx, %edx\n" "wrpkru\n" G_SYNC
	"xorl %ecx, %ecx\n" "rdpkru\n" "movl %eax, %r15d\n" G_DONE
	"movq %cr4, %rax\n" "andl $~0x400000, %eax\n" "movq %rax, %cr4\n"
	"movl $7, %eax\n" "xorl %ecx, %ecx\n" "cpuid\n" "movl %ecx, %r13d\n" G_DONE
	"jmp 1b\n");

/* A guest that uses keys, but not XSAVE for them: the client's PKRU is not to be seen by it, nor its by the client. */
TEST(pkru_without_xsave)
{
	uint32_t last = 0, val, offset, area[1024];
	struct kvm_cpuid2 *cpuid;
	struct kvm_regs r;
	struct guest g;
	int i, j;

	guest_create(&g, 0);
	cpuid = supported_cpuid(g.dev);
	if (!(cpuid_find(cpuid, 7, 0)->ecx & 1 << 3))
		SKIP(return, "no protection keys");
	offset = cpuid_find(cpuid, 13, 9)->ebx;
	free(cpuid);
	guest_start(&g, MODE_LONG, BLOB(pkru));
	for (i = 0; i < 40; i++) {
		val = i * 0x1234568 & ~3U;
		for (j = 0; j < 4; j++) {
			/* Every other turn they have the same. */
			wrpkru(i & 1 ? val : NO_KEY_BUT_0 - 4 * j);
			r = vcpu_regs(&g.cpu);
			r.r12 = val;
			vcpu_set_regs(&g.cpu, &r);
			ASSERT_EQ(KVM_EXIT_IO, guest_run(&g));
			ASSERT_TRUE(guest_at_port(&g, j < 2 ? PORT_SYNC : PORT_DONE));
			EXPECT_EQ(i & 1 ? val : NO_KEY_BUT_0 - 4 * j, rdpkru());
			ASSERT_EQ(0, vm_ioctl(g.cpu.fd, KVM_GET_XSAVE, area));
			EXPECT_EQ(j ? val : last, area[offset / 4]);
			r = vcpu_regs(&g.cpu);
			EXPECT_EQ(j == 3 ? 8 : 0x18, r.r13 & 0x18);
			if (!j)
				EXPECT_EQ(last, r.r14);
			if (j == 2)
				EXPECT_EQ(val, r.r15);
		}
		last = val;
	}
	wrpkru(NO_KEY_BUT_0);
	guest_destroy(&g);
}

static volatile uint64_t watched;

/* A hardware breakpoint of the host's own thread works around and after a guest with its own breakpoints. */
TEST(host_breakpoint)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT, .size = sizeof(attr), .bp_type = HW_BREAKPOINT_W,
		.bp_addr = (uintptr_t)&watched, .bp_len = HW_BREAKPOINT_LEN_8, .exclude_kernel = 1, .exclude_hv = 1,
	};
	struct worker w;
	uint64_t hits;
	int fd, i;

	if (!worker_create(&w, 9, ~0UL, 1000))
		SKIP(return, "no XSAVE");
	fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
	if (fd < 0)
		SKIP(return, "no perf breakpoints: %s", strerror(errno));
	watched = 1;
	ASSERT_EQ(8, read(fd, &hits, 8));
	if (hits != 1)
		SKIP(return, "breakpoints do not count here");
	for (i = 2; i < 20; i++) {
		fill(&w);
		/* The guest's breakpoints are at the host's address too, and on. */
		guest_words(&w, DRS_IN)[0] = (uintptr_t)&watched;
		guest_words(&w, DRS_IN)[4] = 0x4ff;
		ASSERT_TRUE(run_to(&w, PORT_SYNC));
		watched = i;
		ASSERT_EQ(8, read(fd, &hits, 8));
		EXPECT_EQ(i, hits);
		ASSERT_TRUE(run_to(&w, PORT_DONE));
		ASSERT_EQ(0, check(&w, "guest"));
	}
	close(fd);
	/* Off: a write traps no more, in the host nor by what the guest has left on. */
	watched = 99;
	guest_destroy(&w.g);
}

TEST_HARNESS_MAIN
