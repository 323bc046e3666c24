// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two vCPUs in two threads that wake each other by IPIs, some thousand times: out of HLT and out of a busy loop, in
 * xAPIC and in x2APIC mode, and while one of the threads is moved between the host's CPUs. None may get lost, and
 * none may come twice.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define PINGS		0x42000		/* counted by vCPU 1, pongs by vCPU 0 */
#define PONGS		0x42100
#define PING_VEC	0x45
#define PONG_VEC	0x46
#define HANDLERS	(GUEST_CODE + 0x800)
#define SECOND		(GUEST_CODE + 0x400)
#define ROUNDS		2000
#define BUSY_ROUNDS	200		/* a turn of the host's scheduler each, if it has them on one CPU */

/* Handlers at fixed places. EBX is the number of rounds; EBP says whether to HLT. */
#define IDLE(label)	"testl %ebp, %ebp\n" "jz " label "f\n" "sti\n" "hlt\n" "cli\n" label ":\n" "sti\n" "nop\n" "cli\n"

GUEST(xapic_first, 64,
	"movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n" "xorl %esi, %esi\n"
	"1: incl %esi\n" "movl $0x01000000, 0x310(%rdi)\n" "movl $" STR(PING_VEC) ", 0x300(%rdi)\n"
	"2: cmpl %esi, " STR(PONGS) "\n" "jae 4f\n" IDLE("3") "jmp 2b\n"
	"4: cmpl %ebx, %esi\n" "jb 1b\n" G_DONE);
GUEST(xapic_second, 64,
	"movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n" G_SYNC
	"1: cmpl %ebx, " STR(PINGS) "\n" "jae 4f\n" IDLE("3") "jmp 1b\n"
	"4: " G_DONE);
GUEST(xapic_handlers, 64,
	"pushq %rax\n" "movl $0xfee00000, %eax\n" "incl " STR(PINGS) "\n"
	"movl $0, 0x310(%rax)\n" "movl $" STR(PONG_VEC) ", 0x300(%rax)\n" "movl $0, 0xb0(%rax)\n" "popq %rax\n" "iretq\n"
	".org xapic_handlers_start + 0x80\n"
	"pushq %rax\n" "movl $0xfee00000, %eax\n" "incl " STR(PONGS) "\n" "movl $0, 0xb0(%rax)\n" "popq %rax\n" "iretq\n");

#define WRMSR(msr, high, low)	"movl $" msr ", %ecx\n" "movl $" high ", %edx\n" "movl $" low ", %eax\n" "wrmsr\n"
#define X2APIC	"movl $0x1b, %ecx\n" "rdmsr\n" "orl $0x400, %eax\n" "wrmsr\n" WRMSR("0x80f", "0", "0x1ff")
#define SAVE	"pushq %rax\n" "pushq %rcx\n" "pushq %rdx\n"
#define RESTORE	"popq %rdx\n" "popq %rcx\n" "popq %rax\n" "iretq\n"

GUEST(x2apic_first, 64,
	X2APIC "xorl %esi, %esi\n"
	"1: incl %esi\n" WRMSR("0x830", "1", STR(PING_VEC))
	"2: cmpl %esi, " STR(PONGS) "\n" "jae 4f\n" IDLE("3") "jmp 2b\n"
	"4: cmpl %ebx, %esi\n" "jb 1b\n" G_DONE);
GUEST(x2apic_second, 64,
	X2APIC G_SYNC
	"1: cmpl %ebx, " STR(PINGS) "\n" "jae 4f\n" IDLE("3") "jmp 1b\n"
	"4: " G_DONE);
GUEST(x2apic_handlers, 64,
	SAVE "incl " STR(PINGS) "\n" WRMSR("0x830", "0", STR(PONG_VEC)) WRMSR("0x80b", "0", "0") RESTORE
	".org x2apic_handlers_start + 0x80\n"
	SAVE "incl " STR(PONGS) "\n" WRMSR("0x80b", "0", "0") RESTORE);

FIXTURE(pingpong) {
	struct guest g;
	struct vcpu second;
};

FIXTURE_VARIANT(pingpong) {
	struct guest_blob first, second, handlers;
	bool sleep, move;
};

#define XAPIC_BLOBS	.first = { xapic_first_start, xapic_first_end }, \
			.second = { xapic_second_start, xapic_second_end }, \
			.handlers = { xapic_handlers_start, xapic_handlers_end }
#define X2APIC_BLOBS	.first = { x2apic_first_start, x2apic_first_end }, \
			.second = { x2apic_second_start, x2apic_second_end }, \
			.handlers = { x2apic_handlers_start, x2apic_handlers_end }

FIXTURE_VARIANT_ADD(pingpong, xapic_sleep) { XAPIC_BLOBS, .sleep = true };
FIXTURE_VARIANT_ADD(pingpong, xapic_busy) { XAPIC_BLOBS };
FIXTURE_VARIANT_ADD(pingpong, x2apic_sleep) { X2APIC_BLOBS, .sleep = true };
FIXTURE_VARIANT_ADD(pingpong, x2apic_busy) { X2APIC_BLOBS };
FIXTURE_VARIANT_ADD(pingpong, moved) { X2APIC_BLOBS, .sleep = true, .move = true };

FIXTURE_SETUP(pingpong)
{
	guest_create(&self->g, GUEST_IRQCHIP);
	vcpu_create(&self->second, self->g.dev, self->g.vm, 1);
	vcpu_set_supported_cpuid(&self->second, self->g.dev);
}

FIXTURE_TEARDOWN(pingpong)
{
	vcpu_close(&self->second);
	guest_destroy(&self->g);
}

static void put(struct guest *g, uint64_t gpa, struct guest_blob blob)
{
	memcpy(g->mem + gpa, blob.start, blob.end - blob.start);
}

/* The second vCPU in the mode of the first, at its own code and stack. */
static void second_start(struct guest *g, struct vcpu *cpu, bool sleep)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_sregs s = vcpu_sregs(&g->cpu);
	struct kvm_regs r = vcpu_regs(&g->cpu);

	s.apic_base &= ~APICBASE_BSP;
	vcpu_set_sregs(cpu, &s);
	r.rip = SECOND;
	r.rsp = GUEST_STACK2;
	r.rbx = sleep ? ROUNDS : BUSY_ROUNDS;
	r.rbp = sleep;
	vcpu_set_regs(cpu, &r);
	MUST(vm_ioctl(cpu->fd, KVM_SET_MP_STATE, &mp));
}

static void *run_second(void *arg)
{
	struct vcpu *cpu = arg;

	return (void *)vcpu_run(cpu);
}

struct mover {
	pthread_t thread;
	volatile bool stop;
	int moves;
};

static void *move(void *arg)
{
	struct mover *m = arg;
	cpu_set_t set;

	while (!m->stop) {
		CPU_ZERO(&set);
		CPU_SET(m->moves++ % 2, &set);
		if (pthread_setaffinity_np(m->thread, sizeof(set), &set))
			break;
		usleep(500);
	}
	return NULL;
}

TEST_F_TIMEOUT(pingpong, rounds, 120)
{
	int rounds = variant->sleep ? ROUNDS : BUSY_ROUNDS;
	volatile uint32_t *pings, *pongs;
	struct guest *g = &self->g;
	struct mover m = { .thread = pthread_self() };
	struct kvm_regs r;
	pthread_t t, mt;
	void *ret;

	guest_start(g, MODE_LONG, variant->first);
	put(g, SECOND, variant->second);
	put(g, HANDLERS, variant->handlers);
	guest_set_gate(g, PING_VEC, HANDLERS);
	guest_set_gate(g, PONG_VEC, HANDLERS + 0x80);
	second_start(g, &self->second, variant->sleep);
	r = vcpu_regs(&g->cpu);
	r.rbx = rounds;
	r.rbp = variant->sleep;
	vcpu_set_regs(&g->cpu, &r);
	pings = (void *)(g->mem + PINGS);
	pongs = (void *)(g->mem + PONGS);

	/* Not before the second one's APIC is on: what comes earlier is lost. */
	ASSERT_EQ(0, vcpu_run(&self->second));
	ASSERT_EQ(PORT_SYNC, self->second.run->io.port);
	ASSERT_EQ(0, pthread_create(&t, NULL, run_second, &self->second));
	if (variant->move)
		ASSERT_EQ(0, pthread_create(&mt, NULL, move, &m));
	ASSERT_DONE(g);
	pthread_join(t, &ret);
	if (variant->move) {
		m.stop = true;
		pthread_join(mt, NULL);
		TH_LOG("%d moves", m.moves);
	}
	EXPECT_EQ(0, (long)ret);
	EXPECT_EQ(KVM_EXIT_IO, self->second.run->exit_reason);
	EXPECT_EQ(PORT_DONE, self->second.run->io.port);
	EXPECT_EQ(rounds, *pings);
	EXPECT_EQ(rounds, *pongs);
}

TEST_HARNESS_MAIN
