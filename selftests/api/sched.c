// SPDX-License-Identifier: GPL-2.0-only
/*
 * vCPUs as threads: a halted one sleeps, or polls first if it may; kicks are interrupts only for a vCPU that is in
 * the guest; more vCPUs than CPUs all get on. Everything is counted, not timed: context switches of the vCPU's thread,
 * rescheduling interrupts of the host, rounds of the guests.
 */
#define _GNU_SOURCE
#include <linux/kvm_para.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "smp.h"

#define COUNT	0x42000
#define ISR_AT	(GUEST_CODE + 0x800)
#define VEC	0x45
#define HALTS	40

GUEST(isr, 64, "pushq %rax\n" "movl $0xfee000b0, %eax\n" "incl " STR(COUNT) "\n" "movl $0, (%rax)\n" "popq %rax\n"
	"iretq\n");

FIXTURE(sched) {
	struct guest g;
};

FIXTURE_SETUP(sched)
{
	guest_create(&self->g, GUEST_IRQCHIP);
}

FIXTURE_TEARDOWN(sched)
{
	guest_destroy(&self->g);
}

static void start(struct guest *g, struct guest_blob blob)
{
	guest_start(g, MODE_LONG, blob);
	memcpy(g->mem + ISR_AT, isr_start, isr_end - isr_start);
	guest_set_gate(g, VEC, ISR_AT);
	*(uint32_t *)(g->mem + COUNT) = 0;
}

static uint32_t count(struct guest *g)
{
	return *(volatile uint32_t *)(g->mem + COUNT);
}

/*
 * EBX times: a one-shot timer, and HLT until it comes. 2 ms: slow hosts are to get to the HLT, and in Bochs two idle CPUs
 * take long.
 */
GUEST(halts, 64, "movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n" "movl $0xb, 0x3e0(%rdi)\n"
	"movl $" STR(VEC) ", 0x320(%rdi)\n"
	"1: movl $2000000, 0x380(%rdi)\n"
	"2: cli\n" "movl " STR(COUNT) ", %eax\n" "cmpl %r8d, %eax\n" "jne 3f\n" "sti\n" "hlt\n" "jmp 2b\n"
	"3: sti\n" "movl %eax, %r8d\n" "decl %ebx\n" "jnz 1b\n" G_DONE);

static long voluntary_switches(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

/* How often the thread went to sleep in so many halts. */
static long sleeps(struct guest *g, int n)
{
	struct kvm_regs r;
	long before;

	start(g, BLOB(halts));
	r = vcpu_regs(&g->cpu);
	r.rbx = n;
	vcpu_set_regs(&g->cpu, &r);
	before = voluntary_switches();
	if (guest_run(g) != KVM_EXIT_IO || count(g) < n) {
		guest_dump(g);
		die("the guest did not halt %d times", n);
	}
	return voluntary_switches() - before;
}

static void set_halt_poll(struct guest *g, uint64_t ns)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_HALT_POLL, .args = { ns } };

	MUST(vm_ioctl(g->vm, KVM_ENABLE_CAP, &cap));
}

/* The timer may expire before the HLT, if the host is slow: then there is no halt. */
TEST_F_TIMEOUT(sched, halt_without_polling, 120)
{
	struct guest *g = &self->g;

	set_halt_poll(g, 0);
	EXPECT_LE(HALTS / 2, sleeps(g, HALTS));
}

TEST_F_TIMEOUT(sched, halt_with_polling, 120)
{
	struct guest *g = &self->g;
	long slept = HALTS, i;

	set_halt_poll(g, 1000000000);
	sleeps(g, HALTS / 2);		/* the time to poll grows with the halts */
	/* Whatever else wants the CPU ends the polling: the host must be idle enough for once. */
	for (i = 0; i < 10 && slept >= HALTS / 2; i++)
		slept = sleeps(g, HALTS);
	EXPECT_GT(HALTS / 2, slept);
}

TEST_F_TIMEOUT(sched, guest_forbids_polling, 120)
{
	struct guest *g = &self->g;

	set_halt_poll(g, 1000000000);
	ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_KVM_POLL_CONTROL, 0));
	sleeps(g, HALTS / 2);
	EXPECT_LE(HALTS / 2, sleeps(g, HALTS));
}

static volatile bool hog_stop;

static void *hog_main(void *arg)
{
	pin_to_cpu(0);
	while (!hog_stop)
		;
	return NULL;
}

/* Polling is for an idle CPU: it ends when somebody else wants to run there. */
TEST_F(sched, polling_gives_way)
{
	struct guest *g = &self->g;
	pthread_t hog;

	pin_to_cpu(0);
	set_halt_poll(g, 1000000000);
	sleeps(g, HALTS / 2);
	hog_stop = false;
	ASSERT_EQ(0, pthread_create(&hog, NULL, hog_main, NULL));
	EXPECT_LE(HALTS / 2, sleeps(g, HALTS));
	hog_stop = true;
	pthread_join(hog, NULL);
}

/* Rescheduling interrupts on a CPU, from /proc/interrupts */
static long resched_ipis(int cpu)
{
	FILE *f = fopen("/proc/interrupts", "r");
	char line[4096], *p;
	long n = -1;
	int i;

	if (!f)
		die("no /proc/interrupts");
	while (fgets(line, sizeof(line), f)) {
		p = line + strspn(line, " ");
		if (strncmp(p, "RES:", 4))
			continue;
		for (i = 0, p += 4; i <= cpu; i++)
			n = strtol(p, &p, 10);
	}
	fclose(f);
	return n;
}

static void send_msi(struct guest *g)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = VEC };

	MUST(vm_ioctl(g->vm, KVM_SIGNAL_MSI, &msi));
}

GUEST(spin, 64, "movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n" G_SYNC "sti\n" "1: pause\n" "jmp 1b\n");

#define KICKS	200

TEST_F(sched, kicks)
{
	struct guest *g = &self->g;
	struct guest_thread t;
	long before, sent;
	int i;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "one CPU");
	pin_to_cpu(1);
	start(g, BLOB(spin));
	ASSERT_PORT(PORT_SYNC, g);
	pin_to_cpu(0);

	/* The vCPU is not in KVM_RUN: it will look before it enters. */
	before = resched_ipis(1);
	for (i = 0; i < KICKS; i++) {
		send_msi(g);
		usleep(500);	/* an IPI for each, if there were any */
	}
	sent = resched_ipis(1) - before;
	EXPECT_GT(KICKS / 2, sent);

	guest_thread_adopt(g, &t);
	guest_thread_start(&t, 1);
	while (!count(g))
		sched_yield();
	before = resched_ipis(1);
	for (i = 0; i < KICKS; i++) {
		uint32_t seen = count(g);

		send_msi(g);
		while (count(g) == seen)
			sched_yield();
	}
	sent = resched_ipis(1) - before;
	/* It is in the guest nearly always. */
	EXPECT_LE(KICKS / 2, sent);
	guest_thread_stop(&t);
}

#define NR_VCPUS	6
#define COUNTERS	0x48000

/*
 * Guests that spin do it with interrupts on: Bochs does not interrupt them otherwise. EBX: index. Counts for ever; every
 * round exits and spins a little with PAUSE.
 */
GUEST(counter, 64, "leal " STR(COUNTERS) "(,%rbx,8), %esi\n" "sti\n"
	"1: xorl %eax, %eax\n" "xorl %ecx, %ecx\n" "cpuid\n" "movl $20, %ecx\n" "2: pause\n" "loop 2b\n"
	"incq (%rsi)\n" "jmp 1b\n");

static uint64_t rounds(struct guest *g, int i)
{
	return ((volatile uint64_t *)(g->mem + COUNTERS))[i];
}

/* Nobody starves: when the first has made its rounds, none is far behind. */
TEST_F(sched, more_vcpus_than_cpus)
{
	struct guest *g = &self->g;
	struct guest_thread t[NR_VCPUS];
	uint64_t most = 0, least;
	struct kvm_regs r;
	int i;

	start(g, BLOB(counter));
	for (i = 0; i < NR_VCPUS; i++) {
		if (i)
			guest_thread_create(g, &t[i], i, GUEST_CODE, GUEST_STACK2 - i * 0x1000);
		else
			guest_thread_adopt(g, &t[i]);
		r = vcpu_regs(&t[i].cpu);
		r.rbx = i;
		vcpu_set_regs(&t[i].cpu, &r);
	}
	for (i = 0; i < NR_VCPUS; i++)
		guest_thread_start(&t[i], i % 2);
	while (most < 3000) {
		usleep(10000);
		for (i = 0; i < NR_VCPUS; i++)
			if (rounds(g, i) > most)
				most = rounds(g, i);
	}
	for (i = 0; i < NR_VCPUS; i++)
		guest_thread_stop(&t[i]);
	for (least = most, i = 0; i < NR_VCPUS; i++)
		if (rounds(g, i) < least)
			least = rounds(g, i);
	EXPECT_LT(most / 20, least) {
		for (i = 0; i < NR_VCPUS; i++)
			TH_LOG("vCPU %d: %lu rounds", i, rounds(g, i));
	}
	for (i = 1; i < NR_VCPUS; i++)
		guest_thread_destroy(&t[i]);
}

/* A lock goes round by turns among more vCPUs than CPUs; who waits spins with PAUSE, as kernels do. */
GUEST(turns, 64, "sti\n" "movl $30, %r9d\n"
	"1: cmpl %ebx, " STR(COUNTERS) "\n" "je 2f\n" "pause\n" "jmp 1b\n"
	"2: leal 1(%rbx), %eax\n" "cmpl $4, %eax\n" "jne 3f\n" "xorl %eax, %eax\n"
	"3: movl %eax, " STR(COUNTERS) "\n" "decl %r9d\n" "jnz 1b\n" G_DONE);

TEST_F(sched, spinning_in_turns)
{
	struct guest *g = &self->g;
	struct guest_thread t[4];
	struct kvm_regs r;
	int i;

	start(g, BLOB(turns));
	*(uint32_t *)(g->mem + COUNTERS) = 0;
	for (i = 0; i < 4; i++) {
		if (i)
			guest_thread_create(g, &t[i], i, GUEST_CODE, GUEST_STACK2 - i * 0x1000);
		else
			guest_thread_adopt(g, &t[i]);
		r = vcpu_regs(&t[i].cpu);
		r.rbx = i;
		vcpu_set_regs(&t[i].cpu, &r);
	}
	for (i = 0; i < 4; i++)
		guest_thread_start(&t[i], i % 2);
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(KVM_EXIT_IO, guest_thread_join(&t[i]));
		EXPECT_EQ(0, vcpu_regs(&t[i].cpu).r9);
	}
	for (i = 1; i < 4; i++)
		guest_thread_destroy(&t[i]);
}

TEST_HARNESS_MAIN
