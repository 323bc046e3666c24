// SPDX-License-Identifier: GPL-2.0-only
/*
 * One vCPU changes page tables and says so by an interrupt, as kernels do; the other uses the pages all the while, and
 * never sees a translation that is no more: neither the page that was there before, nor the right to write. With shadow
 * paging each change is a write to a protected page by one CPU, and the tables that the other walks have to follow.
 *
 * SDM 3A, 4.10.5 (propagation of changes); APM 2, 7.3.1.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define P	0x1UL
#define W	0x2UL
#define U	0x4UL

#define LINEAR	0x40200000		/* eight pages through TABLE */
#define TABLE	0x60000
#define PAGES	0x200000		/* the first eight, and eight behind them for the other turn */
#define OTHER	0x8000
#define SEQ	0x42000			/* odd while a change is under way */
#define CURRENT	0x42008			/* linear address that is being changed */
#define ACKS	0x42010
#define STOP	0x42018
#define CHECKS	0x42020
#define FAULTS	0x42028
#define WANTED	0x42100			/* the page that each linear page leads to */
#define COUNTER	PAGES
#define IPI_VEC	0x45
#define SECOND	(GUEST_CODE + 0x400)
#define HANDLER	(GUEST_CODE + 0x800)
#define ON_PF	(GUEST_CODE + 0xa00)

#define WRMSR(msr, high, low)	"movl $" msr ", %ecx\n" "movl $" high ", %edx\n" "movl $" low ", %eax\n" "wrmsr\n"
#define X2APIC	"movl $0x1b, %ecx\n" "rdmsr\n" "orl $0x400, %eax\n" "wrmsr\n" WRMSR("0x80f", "0", "0x1ff")
/* The other has flushed R8 when this is through. R9 counts. */
#define SHOOT_DOWN(label) \
	"movq %r8, " STR(CURRENT) "\n" "invlpg (%r8)\n" "incq %r9\n" WRMSR("0x830", "1", STR(IPI_VEC)) \
	label ": cmpq %r9, " STR(ACKS) "\n" "jb " label "b\n"

/* EBX rounds. Page R11 of the eight gets the other one of its two pages. */
GUEST(remap, 64,
	X2APIC "sti\n" "xorl %r9d, %r9d\n"
	"1: movl %r9d, %r11d\n" "andl $7, %r11d\n"
	"incq " STR(SEQ) "\n"
	"movq " STR(WANTED) "(,%r11,8), %r10\n" "xorq $" STR(OTHER) ", %r10\n"
	"leaq 7(%r10), %rax\n" "movq %rax, " STR(TABLE) "(,%r11,8)\n"
	"movl %r11d, %r8d\n" "shll $12, %r8d\n" "addq $" STR(LINEAR) ", %r8\n"
	SHOOT_DOWN("2")
	"movq %r10, " STR(WANTED) "(,%r11,8)\n"
	"incq " STR(SEQ) "\n"
	"movq " STR(CHECKS) ", %r10\n"		/* the reader is to have a turn at all pages */
	"3: movq " STR(CHECKS) ", %rax\n" "subq %r10, %rax\n" "cmpq $8, %rax\n" "jae 4f\n"
	"cmpq $0, " STR(STOP) "\n" "je 3b\n"
	"4: cmpq %rbx, %r9\n" "jb 1b\n"
	"movq $1, " STR(STOP) "\n" G_DONE);
/* Each page holds its own address. */
GUEST(reader, 64,
	X2APIC "sti\n" G_SYNC
	"1: cmpq $0, " STR(STOP) "\n" "jne 4f\n"
	"incl %r11d\n" "andl $7, %r11d\n" "movl %r11d, %r8d\n" "shll $12, %r8d\n" "addq $" STR(LINEAR) ", %r8\n"
	"movq " STR(SEQ) ", %rsi\n" "testl $1, %esi\n" "jnz 1b\n"
	"movq (%r8), %r10\n" "movq " STR(WANTED) "(,%r11,8), %r12\n"
	"cmpq %rsi, " STR(SEQ) "\n" "jne 1b\n"
	"incq " STR(CHECKS) "\n"
	"cmpq %r10, %r12\n" "je 1b\n"
	"movq $1, " STR(STOP) "\n" G_SYNC
	"4: " G_DONE);

/* The page is made read-only, looked at for a while by its other address, and made writable. */
GUEST(protect, 64,
	X2APIC "sti\n" "xorl %r9d, %r9d\n" "movl $" STR(LINEAR) ", %r8d\n"
	"1: andq $~2, " STR(TABLE) "\n"
	SHOOT_DOWN("2")
	"movq " STR(COUNTER) ", %r10\n" "movl $500, %r11d\n"
	"3: cmpq %r10, " STR(COUNTER) "\n" "jne 5f\n" "decl %r11d\n" "jnz 3b\n"
	"orq $2, " STR(TABLE) "\n"
	"4: cmpq %r10, " STR(COUNTER) "\n" "je 4b\n"
	"cmpq %rbx, %r9\n" "jb 1b\n"
	"movq $1, " STR(STOP) "\n" G_DONE
	"5: " G_SYNC);
GUEST(writer, 64,
	X2APIC "sti\n" "movl $" STR(LINEAR) ", %r8d\n" G_SYNC
	"1: lock incq (%r8)\n" "cmpq $0, " STR(STOP) "\n" "je 1b\n" G_DONE);
GUEST(on_pf, 64, "incq " STR(FAULTS) "\n" "addq $8, %rsp\n" "iretq\n");

GUEST(on_ipi, 64,
	"pushq %rax\n" "pushq %rcx\n" "pushq %rdx\n"
	"movq " STR(CURRENT) ", %rax\n" "invlpg (%rax)\n" "incq " STR(ACKS) "\n" WRMSR("0x80b", "0", "0")
	"popq %rdx\n" "popq %rcx\n" "popq %rax\n" "iretq\n");

FIXTURE(tlbsync) {
	struct guest g;
	struct vcpu second;
};

FIXTURE_SETUP(tlbsync)
{
	guest_create(&self->g, GUEST_IRQCHIP);
	vcpu_create(&self->second, self->g.dev, self->g.vm, 1);
	vcpu_set_supported_cpuid(&self->second, self->g.dev);
}

FIXTURE_TEARDOWN(tlbsync)
{
	vcpu_close(&self->second);
	guest_destroy(&self->g);
}

static void put(struct guest *g, uint64_t gpa, struct guest_blob blob)
{
	memcpy(g->mem + gpa, blob.start, blob.end - blob.start);
}

static uint64_t word(struct guest *g, uint64_t gpa)
{
	return *(volatile uint64_t *)(g->mem + gpa);
}

static void *run_second(void *arg)
{
	struct vcpu *cpu = arg;
	long ret;

	do
		ret = vcpu_run(cpu);
	while (ret == -EINTR);
	return (void *)ret;
}

static unsigned int rounds(void)
{
	/* On one CPU each round is some turns of the host's scheduler. */
	return sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 400 : 40;
}

static void set_up(struct guest *g, struct vcpu *cpu, struct guest_blob first, struct guest_blob second)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_sregs s;
	struct kvm_regs r;
	uint64_t i;

	guest_start(g, MODE_LONG, first);
	put(g, SECOND, second);
	put(g, HANDLER, BLOB(on_ipi));
	put(g, ON_PF, BLOB(on_pf));
	guest_set_gate(g, IPI_VEC, HANDLER);
	guest_set_gate(g, PF_VECTOR, ON_PF);
	*guest_pte(g, LINEAR) = TABLE | P | W | U;
	for (i = 0; i < 8; i++) {
		*(uint64_t *)(g->mem + TABLE + i * 8) = (PAGES + i * PAGE_SIZE) | P | W | U;
		*(uint64_t *)(g->mem + WANTED + i * 8) = PAGES + i * PAGE_SIZE;
	}
	for (i = PAGES; i < PAGES + 2 * OTHER; i += PAGE_SIZE)
		*(uint64_t *)(g->mem + i) = i;
	s = vcpu_sregs(&g->cpu);
	s.cr0 |= X86_CR0_WP;
	vcpu_set_sregs(&g->cpu, &s);
	s.apic_base &= ~APICBASE_BSP;
	vcpu_set_sregs(cpu, &s);
	r = vcpu_regs(&g->cpu);
	r.rbx = rounds();
	vcpu_set_regs(&g->cpu, &r);
	r.rip = SECOND;
	r.rsp = GUEST_STACK2;
	vcpu_set_regs(cpu, &r);
	MUST(vm_ioctl(cpu->fd, KVM_SET_MP_STATE, &mp));
}

static void run_both(struct __test_metadata *_metadata, struct guest *g, struct vcpu *second)
{
	pthread_t thread;
	struct kvm_regs r;
	long reason;
	void *ret;

	/* Not before the second one's APIC is on. */
	ASSERT_EQ(0, vcpu_run(second));
	ASSERT_EQ(PORT_SYNC, second->run->io.port);
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_second, second));
	do
		reason = guest_run(g);
	while (reason == -EINTR);
	EXPECT_TRUE(reason == KVM_EXIT_IO && guest_at_port(g, PORT_DONE)) {
		guest_dump(g);
	}
	*(volatile uint64_t *)(g->mem + STOP) = 1;
	pthread_join(thread, &ret);
	EXPECT_EQ(0, (long)ret);
	EXPECT_EQ(KVM_EXIT_IO, second->run->exit_reason);
	EXPECT_EQ(PORT_DONE, second->run->io.port) {
		r = vcpu_regs(second);
		TH_LOG("page %lld: holds %llx, not %llx", r.r11, r.r10, r.r12);
	}
	EXPECT_LE(rounds(), word(g, ACKS));
}

TEST_F_TIMEOUT(tlbsync, remap, 180)
{
	set_up(&self->g, &self->second, BLOB(remap), BLOB(reader));
	run_both(_metadata, &self->g, &self->second);
	EXPECT_LE(8 * rounds(), word(&self->g, CHECKS));
	TH_LOG("%llu reads while nothing changed", (unsigned long long)word(&self->g, CHECKS));
}

TEST_F_TIMEOUT(tlbsync, protect, 180)
{
	set_up(&self->g, &self->second, BLOB(protect), BLOB(writer));
	run_both(_metadata, &self->g, &self->second);
	EXPECT_LT(0, word(&self->g, FAULTS));
	TH_LOG("%llu faults", (unsigned long long)word(&self->g, FAULTS));
}

TEST_HARNESS_MAIN
