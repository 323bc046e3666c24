// SPDX-License-Identifier: GPL-2.0-only
/*
 * The local APIC timer against the guest's own time stamp counter: an interrupt never comes before its time, whether
 * the vCPU is busy, asleep, or moved between the host's CPUs. How late it comes is told, and not judged (SDM volume 3,
 * 10.5.4).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define VEC	0x45
#define ISR_AT	(GUEST_CODE + 0x800)
#define COUNT	0x42000
#define DUE	0x42008		/* TSC at which the interrupt is due */
#define EARLIEST 0x42010	/* least and greatest of TSC in the handler less DUE */
#define LATEST	0x42018
#define ROUNDS	30

GUEST(isr, 64,
	"pushq %rax\n" "pushq %rdx\n" "lfence\n" "rdtsc\n" "shlq $32, %rdx\n" "orq %rdx, %rax\n"
	"subq " STR(DUE) ", %rax\n"
	"cmpq " STR(EARLIEST) ", %rax\n" "jge 1f\n" "movq %rax, " STR(EARLIEST) "\n" "1:\n"
	"cmpq " STR(LATEST) ", %rax\n" "jle 2f\n" "movq %rax, " STR(LATEST) "\n" "2:\n"
	"incq " STR(COUNT) "\n" "movl $0xfee000b0, %eax\n" "movl $0, (%rax)\n" "popq %rdx\n" "popq %rax\n" "iretq\n");

/* R8: cycles from arming to due; R9: what arms; EBX: rounds; EBP: whether to HLT. */
#define SETUP	"movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n" "movl $0xb, 0x3e0(%rdi)\n" "xorl %esi, %esi\n"
#define NOW	"rdtsc\n" "shlq $32, %rdx\n" "orq %rdx, %rax\n"
#define WAIT	"2: cli\n" "cmpq %rsi, " STR(COUNT) "\n" "jne 4f\n" \
		"testl %ebp, %ebp\n" "jz 3f\n" "sti\n" "hlt\n" "jmp 2b\n" "3: sti\n" "nop\n" "jmp 2b\n" \
		"4: incl %esi\n" "cmpl %ebx, %esi\n" "jb 1b\n" G_DONE

GUEST(deadline, 64, SETUP "movl $0x40045, 0x320(%rdi)\n"
	"1: " NOW "addq %r8, %rax\n" "movq %rax, " STR(DUE) "\n"
	"movq %rax, %rdx\n" "shrq $32, %rdx\n" "movl $0x6e0, %ecx\n" "wrmsr\n"
	WAIT);
GUEST(one_shot, 64, SETUP "movl $0x45, 0x320(%rdi)\n"
	"1: " NOW "addq %r8, %rax\n" "movq %rax, " STR(DUE) "\n" "movl %r9d, 0x380(%rdi)\n"
	WAIT);
/* A period after another, all from the start: the n-th is due after n of them. */
GUEST(periodic, 64, SETUP "movl $0x20045, 0x320(%rdi)\n" NOW "movq %rax, " STR(DUE) "\n" "movl %r9d, 0x380(%rdi)\n"
	"1: addq %r8, " STR(DUE) "\n"
	"2: cli\n" "cmpq %rsi, " STR(COUNT) "\n" "jne 4f\n"
	"testl %ebp, %ebp\n" "jz 3f\n" "sti\n" "hlt\n" "cli\n" "jmp 2b\n" "3: sti\n" "nop\n" "cli\n" "jmp 2b\n"
	"4: incl %esi\n" "cmpl %ebx, %esi\n" "jb 1b\n" "movl $0, 0x380(%rdi)\n" G_DONE);

static void create(struct guest *g)
{
	struct kvm_cpuid2 *cpuid;

	guest_create(g, GUEST_IRQCHIP);
	cpuid = supported_cpuid(g->dev);
	/* The supported CPUID leaves the bit to the client, which knows of the in-kernel APIC. */
	cpuid_find(cpuid, 1, 0)->ecx |= 1 << 24;
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_CPUID2, cpuid));
	free(cpuid);
}

FIXTURE(timer) {
	uint64_t khz;
};

FIXTURE_SETUP(timer)
{
	struct guest g;

	create(&g);
	self->khz = MUST(vm_ioctl(g.cpu.fd, KVM_GET_TSC_KHZ, 0));
	guest_destroy(&g);
}

FIXTURE_TEARDOWN(timer)
{
}

struct mover {
	pthread_t thread;
	volatile bool stop;
};

static void *move(void *arg)
{
	struct mover *m = arg;
	cpu_set_t set;
	int cpu = 0;

	while (!m->stop) {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		cpu = !cpu;
		if (pthread_setaffinity_np(m->thread, sizeof(set), &set))
			break;
		usleep(300);
	}
	return NULL;
}

enum how { BUSY, ASLEEP, MOVED, HOWS };
static const char *const how_name[HOWS] = { "busy", "asleep", "moved" };

struct result {
	uint64_t count;
	int64_t earliest, latest;	/* ns */
};

/* In a VM of its own: an interrupt that was left over from the last one would come early in the next. */
static struct result measure(uint64_t khz, struct guest_blob blob, uint64_t cycles, uint32_t ticks, enum how how)
{
	struct guest guest, *g = &guest;
	struct mover m = { .thread = pthread_self() };
	struct result res;
	struct kvm_regs r;
	pthread_t t;

	create(g);
	guest_start(g, MODE_LONG, blob);
	memcpy(g->mem + ISR_AT, isr_start, isr_end - isr_start);
	guest_set_gate(g, VEC, ISR_AT);
	*(uint64_t *)(g->mem + COUNT) = 0;
	*(int64_t *)(g->mem + EARLIEST) = INT64_MAX;
	*(int64_t *)(g->mem + LATEST) = INT64_MIN;
	r = vcpu_regs(&g->cpu);
	r.r8 = cycles;
	r.r9 = ticks;
	r.rbx = ROUNDS;
	r.rbp = how != BUSY;
	vcpu_set_regs(&g->cpu, &r);
	if (how == MOVED && pthread_create(&t, NULL, move, &m))
		die("no thread");
	if (guest_run(g) != KVM_EXIT_IO || !guest_at_port(g, PORT_DONE)) {
		guest_dump(g);
		die("the guest did not come to its end");
	}
	if (how == MOVED) {
		m.stop = true;
		pthread_join(t, NULL);
	}
	res.count = *(uint64_t *)(g->mem + COUNT);
	res.earliest = *(int64_t *)(g->mem + EARLIEST) * 1000000.0 / khz;
	res.latest = *(int64_t *)(g->mem + LATEST) * 1000000.0 / khz;
	guest_destroy(g);
	return res;
}

#define REPORT(what, us, how, res)	\
	TH_LOG("%s, %d us, %s: late by %ld to %ld ns", what, us, how_name[how], (res).earliest, (res).latest)

static const int delays[] = { 20, 300, 2000 };	/* us */

TEST_F_TIMEOUT(timer, deadline, 120)
{
	struct result res;
	int i, how;

	for (how = 0; how < HOWS; how++) {
		for (i = 0; i < ARRAY_SIZE(delays); i++) {
			res = measure(self->khz, BLOB(deadline), delays[i] * self->khz / 1000, 0, how);
			REPORT("deadline", delays[i], how, res);
			EXPECT_EQ(ROUNDS, res.count);
			EXPECT_LE(0, res.earliest);
		}
	}
}

/* Counted by another clock, which is steered: as much too early as that can be off, 0.2 % here. */
TEST_F_TIMEOUT(timer, one_shot, 120)
{
	struct result res;
	uint64_t cycles;
	int i, how;

	for (how = 0; how < HOWS; how++) {
		for (i = 0; i < ARRAY_SIZE(delays); i++) {
			cycles = delays[i] * self->khz / 1000;
			res = measure(self->khz, BLOB(one_shot), cycles - cycles / 500, delays[i] * 1000, how);
			REPORT("one shot", delays[i], how, res);
			EXPECT_EQ(ROUNDS, res.count);
			EXPECT_LE(0, res.earliest);
		}
	}
}

TEST_F_TIMEOUT(timer, periodic, 120)
{
	struct result res;
	uint64_t cycles;
	int i, how;

	for (how = 0; how < HOWS; how++) {
		for (i = 1; i < ARRAY_SIZE(delays); i++) {
			cycles = delays[i] * self->khz / 1000;
			res = measure(self->khz, BLOB(periodic), cycles - cycles / 500, delays[i] * 1000, how);
			REPORT("periodic", delays[i], how, res);
			EXPECT_LE(ROUNDS, res.count);
			EXPECT_LE(0, res.earliest);
		}
	}
}

TEST_HARNESS_MAIN
