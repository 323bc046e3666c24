// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest that writes and reads every register of the local APIC, the I/O APIC, the PICs and the PIT at random, on two
 * vCPUs at once, with interrupts, INITs, NMIs and start-up IPIs flying: whatever it does to itself, a second VM works
 * on meanwhile, and the host lives. What the guest does depends on the seed alone, where it gets with it on time, too.
 *
 * From the environment: HOSTILE_SECONDS (30; 15 in Bochs), HOSTILE_SEED.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

#define CPUS		2
#define HANDLER		(GUEST_CODE + 0x1000)
#define GP_HANDLER	(GUEST_CODE + 0x1100)
#define PROGRESS	0x42000		/* a quadword for each vCPU */
#define OWN_SIZE	(HANDLER + 0x1000)	/* what the guest lives by: tables, descriptors, code */

/*
 * R15 is the generator's state (xorshift), R14 where to count. Each round takes bits 3:0 for what to do, bits 15:8 for
 * which register and bits 63:32 for the value. CR8 is left alone: QEMU's TCG (10.0) ends itself when it is written
 * while a virtual interrupt waits (target/i386, write of CR8: cpu_interrupt() without its lock).
 */
GUEST(hostile, 64,
	"0:\n"
	"movq %r15, %rax\n" "shlq $13, %rax\n" "xorq %rax, %r15\n"
	"movq %r15, %rax\n" "shrq $7, %rax\n" "xorq %rax, %r15\n"
	"movq %r15, %rax\n" "shlq $17, %rax\n" "xorq %rax, %r15\n"
	"incq (%r14)\n"
	"movq %r15, %rbx\n" "shrq $32, %rbx\n"		/* value */
	"movl %r15d, %ebp\n" "shrl $8, %ebp\n"		/* register */
	"movl %r15d, %esi\n" "andl $15, %esi\n"
	"cmpl $5, %esi\n" "ja 1f\n"
	/* local APIC, memory-mapped */
	"andl $0x3f, %ebp\n" "shll $4, %ebp\n" "movl $0xfee00000, %edi\n" "movl %ebx, (%rdi, %rbp)\n" "jmp 0b\n"
	"1: cmpl $7, %esi\n" "ja 2f\n"
	/* by MSR: small values, and any */
	"andl $0x3f, %ebp\n" "leal 0x800(%rbp), %ecx\n" "movl %ebx, %eax\n" "xorl %edx, %edx\n"
	"testl $0x10000, %r15d\n" "jz 11f\n" "andl $0x710ff, %eax\n" "11: wrmsr\n" "jmp 0b\n"
	"2: cmpl $8, %esi\n" "ja 3f\n"
	/* the base: its modes, more often back to what makes sense */
	"movl $0x1b, %ecx\n" "xorl %edx, %edx\n" "movl %ebp, %eax\n" "andl $3, %eax\n" "shll $10, %eax\n"
	"orl $0xfee00000, %eax\n" "wrmsr\n" "movl $0xfee00800, %eax\n" "wrmsr\n" "jmp 0b\n"
	"3: cmpl $10, %esi\n" "ja 4f\n"
	/* I/O APIC */
	"movl $0xfec00000, %edi\n" "andl $0x3f, %ebp\n" "movl %ebp, (%rdi)\n" "movl %ebx, 0x10(%rdi)\n"
	"movl 0x10(%rdi), %eax\n" "movl %eax, 0x40(%rdi)\n" "jmp 0b\n"
	"4: cmpl $11, %esi\n" "ja 5f\n"
	/* PICs */
	"movl %ebp, %edx\n" "andl $0x81, %edx\n" "orl $0x20, %edx\n" "movl %ebx, %eax\n" "outb %al, %dx\n" "inb %dx, %al\n"
	"jmp 0b\n"
	"5: cmpl $12, %esi\n" "ja 6f\n"
	/* PIT and its gate, ELCR */
	"movl %ebp, %edx\n" "andl $3, %edx\n" "orl $0x40, %edx\n" "movl %ebx, %eax\n" "outb %al, %dx\n" "inb %dx, %al\n"
	"movl %ebx, %eax\n" "outb %al, $0x61\n" "inb $0x61, %al\n"
	"movl $0x4d0, %edx\n" "movl %ebx, %eax\n" "outb %al, %dx\n" "incl %edx\n" "outb %al, %dx\n" "inb %dx, %al\n"
	"jmp 0b\n"
	"6: cmpl $13, %esi\n" "ja 7f\n"
	/* reads */
	"andl $0x3f, %ebp\n" "movl %ebp, %eax\n" "shll $4, %eax\n" "movl $0xfee00000, %edi\n" "movl (%rdi, %rax), %eax\n"
	"leal 0x800(%rbp), %ecx\n" "rdmsr\n" "jmp 0b\n"
	"7: cmpl $14, %esi\n" "ja 8f\n"
	/* deadline, near or far */
	"rdtsc\n" "andl $0xfffff, %ebx\n" "addl %ebx, %eax\n" "adcl $0, %edx\n" "movl $0x6e0, %ecx\n" "wrmsr\n"
	"jmp 0b\n"
	/* interrupts on, with an APIC that is on */
	"8: movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n" "movl $0, 0x80(%rdi)\n"
	"sti\n" "nop\n" "nop\n" "testl $1, %ebp\n" "jz 0b\n" "cli\n" "jmp 0b\n");
/* Interrupts, and exceptions without error code: one EOI of every two */
GUEST(handler, 64,
	"pushq %rax\n" "testb $1, (%r14)\n" "jz 1f\n" "movl $0xfee000b0, %eax\n" "movl $0, (%rax)\n" "1: popq %rax\n"
	"iretq\n");
/* WRMSR and RDMSR have two bytes. */
GUEST(gp_handler, 64, "addq $2, 8(%rsp)\n" "addq $8, %rsp\n" "iretq\n");

FIXTURE(hostile) {
	struct guest g;
	struct vcpu cpu[CPUS];
	struct kvm_sregs sregs;
	uint8_t own[OWN_SIZE];
};

struct runner {
	struct guest *g;
	struct vcpu *cpu;
	const struct kvm_sregs *sregs;
	const uint8_t *own;
	int id;
	uint64_t seed;
	volatile bool *stop;
	pthread_t thread;
	unsigned long runs, resets;
	long error;
};

/*
 * A start-up IPI may have made the vCPU run zeros in real mode, which add to memory: what the guest lives by is
 * written again, by bytes that are the same for the other vCPU.
 */
static void begin(struct runner *r)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	/* An SMI may have come: there is no memory in SMM. */
	struct kvm_vcpu_events ev = { .flags = KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_NMI_PENDING };
	struct kvm_sregs sregs = *r->sregs;
	struct kvm_regs regs = {
		.rip = GUEST_CODE, .rsp = r->id ? GUEST_STACK2 : GUEST_STACK, .rflags = X86_EFLAGS_FIXED,
		.r14 = PROGRESS + 8 * r->id,
	};

	/* The generator goes on: another state with each start, the same ones with each run of the test. */
	r->seed = r->seed * 6364136223846793005ULL + 1442695040888963407ULL;
	regs.r15 = r->seed | 1;
	if (r->id)
		sregs.apic_base &= ~APICBASE_BSP;
	memcpy(r->g->mem, r->own, OWN_SIZE);
	MUST(vm_ioctl(r->cpu->fd, KVM_SET_VCPU_EVENTS, &ev));
	vcpu_set_sregs(r->cpu, &sregs);
	vcpu_set_regs(r->cpu, &regs);
	MUST(vm_ioctl(r->cpu->fd, KVM_SET_MP_STATE, &mp));
}

/*
 * The vCPU as the guest leaves it may be in real mode at the reset vector, shut down, asleep with interrupts off, or
 * where there is no code: it is set up anew for each of these, and now and then for no reason.
 */
static void *run_hostile(void *arg)
{
	struct runner *r = arg;
	uint64_t last = 0, now;
	struct kvm_mp_state mp;
	int idle = 0;
	long ret;

	begin(r);
	while (!*r->stop) {
		/* The last I/O of a guest that is given up must not end in the new one. */
		r->cpu->run->immediate_exit = 0;
		ret = vcpu_run(r->cpu);
		r->runs++;
		if (ret && ret != -EINTR && ret != -EAGAIN) {
			r->error = ret;
			break;
		}
		now = *(volatile uint64_t *)(r->g->mem + PROGRESS + 8 * r->id);
		MUST(vm_ioctl(r->cpu->fd, KVM_GET_MP_STATE, &mp));
		idle = now == last ? idle + 1 : 0;
		last = now;
		if (ret == -EINTR && idle < 3 && mp.mp_state == KVM_MP_STATE_RUNNABLE)
			continue;
		if (!ret && (r->cpu->run->exit_reason == KVM_EXIT_IO || r->cpu->run->exit_reason == KVM_EXIT_MMIO)) {
			r->cpu->run->immediate_exit = 1;
			vcpu_run(r->cpu);
		}
		begin(r);
		r->resets++;
		idle = 0;
	}
	return NULL;
}

static void on_signal(int sig)
{
	(void)sig;
}

FIXTURE_SETUP(hostile)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct kvm_cpuid2 *cpuid;
	struct guest *g = &self->g;
	int i;

	sigaction(SIGUSR1, &sa, NULL);
	guest_create(g, GUEST_IRQCHIP | GUEST_PIT);
	cpuid = supported_cpuid(g->dev);
	cpuid_find(cpuid, 1, 0)->ecx |= 1 << 24;
	self->cpu[0] = g->cpu;
	for (i = 1; i < CPUS; i++)
		vcpu_create(&self->cpu[i], g->dev, g->vm, i);
	for (i = 0; i < CPUS; i++)
		MUST(vm_ioctl(self->cpu[i].fd, KVM_SET_CPUID2, cpuid));
	free(cpuid);
	guest_start(g, MODE_LONG, BLOB(hostile));
	memcpy(g->mem + HANDLER, handler_start, handler_end - handler_start);
	memcpy(g->mem + GP_HANDLER, gp_handler_start, gp_handler_end - gp_handler_start);
	for (i = 0; i < 256; i++)
		guest_set_gate(g, i, i == GP_VECTOR ? GP_HANDLER : HANDLER);
	self->sregs = vcpu_sregs(&g->cpu);
	memcpy(self->own, g->mem, OWN_SIZE);
}

FIXTURE_TEARDOWN(hostile)
{
	int i;

	for (i = 1; i < CPUS; i++)
		vcpu_close(&self->cpu[i]);
	guest_destroy(&self->g);
}

/* What a second VM does all the time: a self-IPI and a timer, by vectors of their own. */
#define COUNT	0x43000

GUEST(good, 64,
	"movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n" "movl $0xb, 0x3e0(%rdi)\n" "movl $0x46, 0x320(%rdi)\n"
	"movl $0x40045, 0x300(%rdi)\n" "movl $500000, 0x380(%rdi)\n"
	"1: cli\n" "cmpl $2, " STR(COUNT) "\n" "jae 2f\n" "sti\n" "hlt\n" "jmp 1b\n" "2: " G_DONE);
GUEST(good_handler, 64, "pushq %rax\n" "incl " STR(COUNT) "\n" "movl $0xfee000b0, %eax\n" "movl $0, (%rax)\n"
	"popq %rax\n" "iretq\n");

static unsigned int lost;	/* second VMs, by the emulator */

static bool second_vm_works(void)
{
	struct guest g;
	bool ok;
	long ret;

	guest_create(&g, GUEST_IRQCHIP | GUEST_PIT);
	guest_start(&g, MODE_LONG, BLOB(good));
	memcpy(g.mem + HANDLER, good_handler_start, good_handler_end - good_handler_start);
	guest_set_gate(&g, 0x45, HANDLER);
	guest_set_gate(&g, 0x46, HANDLER);
	ret = guest_run(&g);
	ok = ret == KVM_EXIT_IO && guest_at_port(&g, PORT_DONE);
	if (!ok) {
		fprintf(stderr, "# the second VM: KVM_RUN gives %ld\n", ret);
		guest_dump(&g);
		if (!lost && lost_by_qemu(&g.cpu, ret < 0 ? ret : 0))
			ok = ++lost;
	}
	guest_destroy(&g);
	return ok;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

/* Signals let each thread look, some hundred times a second, at what has become of its vCPU. */
static void *kick(void *arg)
{
	struct runner *r = arg;
	int i;

	while (!*r->stop) {
		for (i = 0; i < CPUS; i++)
			pthread_kill(r[i].thread, SIGUSR1);
		usleep(5000);
	}
	return NULL;
}

TEST_F_TIMEOUT(hostile, random_writes, 300)
{
	uint64_t seconds = number("HOSTILE_SECONDS", in_testhost("vmx") ? 15 : 30), end = ns_now() + seconds * 1000000000;
	uint64_t seed = number("HOSTILE_SEED", 0x4b65656c), progress = 0;
	volatile bool stop = false;
	struct runner r[CPUS] = { 0 };
	unsigned long others = 0;
	pthread_t kicker;
	int i;

	for (i = 0; i < CPUS; i++) {
		r[i].g = &self->g;
		r[i].cpu = &self->cpu[i];
		r[i].sregs = &self->sregs;
		r[i].own = self->own;
		r[i].id = i;
		r[i].seed = seed + i;
		r[i].stop = &stop;
		ASSERT_EQ(0, pthread_create(&r[i].thread, NULL, run_hostile, &r[i]));
	}
	ASSERT_EQ(0, pthread_create(&kicker, NULL, kick, r));
	while (ns_now() < end) {
		EXPECT_TRUE(second_vm_works());
		others++;
	}
	stop = true;
	pthread_join(kicker, NULL);
	for (i = 0; i < CPUS; i++) {
		struct timespec until;

		/* A kick may come between the look at the flag and KVM_RUN. */
		do {
			r[i].cpu->run->immediate_exit = 1;
			pthread_kill(r[i].thread, SIGUSR1);
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_sec++;
		} while (pthread_timedjoin_np(r[i].thread, NULL, &until));
		progress += *(uint64_t *)(self->g.mem + PROGRESS + 8 * i);
		EXPECT_EQ(0, r[i].error);
		TH_LOG("vCPU %d: %lu runs, %lu fresh starts", i, r[i].runs, r[i].resets);
	}
	TH_LOG("seed %lx, %lu rounds; %lu second VMs", seed, progress, others);
	EXPECT_LT(0, progress);
	EXPECT_TRUE(second_vm_works());
}

TEST_HARNESS_MAIN
