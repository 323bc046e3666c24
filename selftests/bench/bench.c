// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an exit costs: small guests that do one thing again and again, and read their own TSC around it.
 *
 *	bench [FIGURE...]	a line each: figure, first measurement, its repeat; -1: not offered here
 *	bench --list		the figures
 *	bench --rounds		... and where in the guest a round begins
 *	bench --steps FIGURE...	for each: says where in the guest a round begins, waits for a line, and runs
 *
 * Meant for machines whose TSC counts instructions (testhost --icount, Bochs), where results repeat; elsewhere they
 * are ticks. The client is this program: nothing but KVM_RUN. The same binary runs on any device (KEEL_DEVICE).
 *
 * A guest makes BATCHES batches of LOOPS rounds (of fewer where a round is 2 MiB of memory). The shortest batch
 * counts, since a tick of the host falls into some, and the cost of an empty round is taken off.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <x86intrin.h>
#include "evfd.h"
#include "footprint.h"
#include "guest.h"
#include "interrupts.h"
#include "ipi.h"
#include "loads.h"
#include "pieces.h"

#define BATCHES		16
#define LOOPS		100
#define VECTOR		0x40
#define HUGE_LOOPS	2
#define HUGE_AT		0x10000000
#define HUGE_PAGE	0x200000UL
#define PORT_KERNEL	0x21		/* the PIC's mask */
#define PORT_EVENT	0x510

/*
 * RBX: TSC at the beginning of the batch; RDI: where its length goes; ESI: rounds left; EBP: batches left. What is
 * measured may use RAX, RCX, RDX and from R8 on. R15 counts interrupts.
 */
#define LOOP_OF(rounds, before, op)						\
	before									\
	"mov $" STR(GUEST_DATA) ", %edi\n"					\
	"mov $" STR(BATCHES) ", %ebp\n"						\
	"8: mov $" STR(rounds) ", %esi\n"					\
	TSC "mov %rax, %r14\n"							\
	"9:\n" op								\
	"dec %esi\n" "jnz 9b\n"							\
	TSC "sub %r14, %rax\n" "mov %rax, (%rdi)\n" "add $8, %rdi\n"		\
	"dec %ebp\n" "jnz 8b\n"							\
	G_DONE
#define LOOP(before, op)	LOOP_OF(LOOPS, before, op)

/* A handler stands in front, behind a jump of five bytes. This one ends the interrupt. */
#define OVER	".byte 0xe9\n" ".long 7f - 5f\n" "5: .fill 11, 1, 0x90\n"
#define HANDLER	OVER \
		"push %rax\n" "push %rcx\n" "push %rdx\n" "inc %r15\n" WRMSR("0x80b", "0", "0") \
		"pop %rdx\n" "pop %rcx\n" "pop %rax\n" "iretq\n" "7:\n"
#define HANDLER_AT	(GUEST_CODE + 16)
/* Until the interrupt has come. */
#define AWAIT	"6: cmp %r15, %r13\n" "je 6b\n"

GUEST(b_empty, 64, LOOP("", ""));
GUEST(b_cpuid, 64, LOOP("", "push %rbx\n" "xor %eax, %eax\n" "xor %ecx, %ecx\n" "cpuid\n" "pop %rbx\n"));
GUEST(b_vmcall, 64, LOOP("", "mov $999, %eax\n" "vmcall\n"));
GUEST(b_vmmcall, 64, LOOP("", "mov $999, %eax\n" "vmmcall\n"));
GUEST(b_rdmsr, 64, LOOP("", "mov $0x3b, %ecx\n" "rdmsr\n"));
GUEST(b_wrmsr, 64, LOOP("", WRMSR("0x3b", "0", "0")));
GUEST(b_eoi, 64, LOOP(X2APIC, WRMSR("0x80b", "0", "0")));
GUEST(b_xeoi, 64, LOOP("mov $0xfee000b0, %r8d\n", "movl $0, (%r8)\n"));
GUEST(b_tpr, 64, LOOP(X2APIC, WRMSR("0x808", "0", "0")));
GUEST(b_cr8, 64, LOOP(X2APIC, "xor %eax, %eax\n" "mov %rax, %cr8\n"));
GUEST(b_deadline, 64, LOOP(X2APIC WRMSR("0x832", "0", "0x40040"), WRMSR("0x6e0", "0x7fffffff", "0")));
GUEST(b_deadline_now, 64,
      LOOP(HANDLER X2APIC WRMSR("0x832", "0", "0x40040") "sti\n", "mov %r15, %r13\n" WRMSR("0x6e0", "0", "1") AWAIT));
GUEST(b_self_ipi, 64, LOOP(HANDLER X2APIC "sti\n", "mov %r15, %r13\n" WRMSR("0x83f", "0", STR(VECTOR)) AWAIT));
GUEST(b_hlt, 64, LOOP(HANDLER X2APIC, "cli\n" WRMSR("0x83f", "0", STR(VECTOR)) "sti\n" "hlt\n"));
GUEST(b_pio, 64, LOOP("", "in $" STR(PORT_KERNEL) ", %al\n"));
GUEST(b_pio_user, 64, LOOP("", "in $" STR(PORT_SYNC) ", %al\n"));
GUEST(b_mmio_user, 64, LOOP("", "mov " STR(GUEST_MMIO) ", %eax\n"));
GUEST(b_event, 64, LOOP("mov $" STR(PORT_EVENT) ", %edx\n" "mov %edx, %r12d\n", "mov %r12d, %edx\n" "out %al, %dx\n"));
GUEST(b_irqfd, 64, LOOP(HANDLER X2APIC "mov $" STR(PORT_EVENT) ", %r12d\n" "sti\n",
	"mov %r15, %r13\n" "mov %r12d, %edx\n" "out %al, %dx\n" AWAIT));
/* With CR4.MCE set, as in any guest that is an operating system. */
#define MCE_ON	"mov %cr4, %rax\n" "or $0x40, %eax\n" "mov %rax, %cr4\n"
GUEST(b_wp, 64, LOOP(MCE_ON, "mov %cr0, %rax\n" "xor $0x10000, %rax\n" "mov %rax, %cr0\n"));
GUEST(b_pge, 64, LOOP(MCE_ON, "mov %cr4, %rax\n" "xor $0x80, %rax\n" "mov %rax, %cr4\n"));
GUEST(b_pause, 64, LOOP("", "pause\n"));
GUEST(b_ud, 64, LOOP(OVER "addq $2, (%rsp)\n" "iretq\n" "7:\n", "ud2\n"));
/* A page of its own each round, from GUEST_HIGH on, which the client has touched. */
GUEST(b_fault, 64, LOOP("mov $" STR(GUEST_HIGH) ", %r8d\n", "mov (%r8), %al\n" "add $4096, %r8\n"));

GUEST(b_fault_write, 64, LOOP("mov $" STR(GUEST_HIGH) ", %r8d\n", "mov %al, (%r8)\n" "add $4096, %r8\n"));
/* 2 MiB apart. */
GUEST(b_fault_huge, 64, LOOP_OF(HUGE_LOOPS, "mov $" STR(HUGE_AT) ", %r8d\n", "mov (%r8), %al\n" "add $0x200000, %r8\n"));
/* All of it is written to before the client switches logging on. */
GUEST(b_dirty, 64, LOOP("mov $" STR(GUEST_HIGH) ", %r8d\n" "mov $" STR(BATCHES) " * " STR(LOOPS) ", %ecx\n"
	"1: movb $0, (%r8)\n" "add $4096, %r8\n" "loop 1b\n" G_SYNC "mov $" STR(GUEST_HIGH) ", %r8d\n",
	"mov %al, (%r8)\n" "add $4096, %r8\n"));
GUEST(b_invlpg, 64, LOOP("mov " STR(GUEST_HIGH) ", %eax\n", "invlpg " STR(GUEST_HIGH) "\n"));

#define PAGES_SIZE	((size_t)BATCHES * LOOPS * PAGE_SIZE)

#define VENDOR		1	/* SVM and VT-x have two instructions for it: the second blob is AMD's */
#define IRQCHIP		2
#define ON_UD		4	/* the handler is that of #UD, else of VECTOR */
#define DEADLINE	8
#define RESIDENT	16	/* a page a round, which the client has touched */
#define FRESH		32	/* which it has not */
#define HUGE		64	/* 2 MiB a round, of the host's huge pages */
#define SAVE		128	/* no guest: all of a vCPU's state is read */
#define RESTORE		256	/* and written */
#define IRQFD		512	/* the port's eventfd raises an interrupt */
#define GSI		30

static const struct figure {
	const char *name;
	struct guest_blob blob, amd;
	unsigned int flags;
	double (*other)(void);	/* no guest of these */
} figures[] = {
#define ROW(name, blob, flags)	{ name, { blob##_start, blob##_end }, { NULL, NULL }, flags }
	ROW("cpuid", b_cpuid, 0),
	{ "hypercall", { b_vmcall_start, b_vmcall_end }, { b_vmmcall_start, b_vmmcall_end }, VENDOR },
	ROW("rdmsr", b_rdmsr, 0),
	ROW("wrmsr", b_wrmsr, 0),
	ROW("x2apic_eoi", b_eoi, IRQCHIP),
	ROW("xapic_eoi", b_xeoi, IRQCHIP),
	ROW("x2apic_tpr", b_tpr, IRQCHIP),
	ROW("cr8_write", b_cr8, IRQCHIP),
	ROW("tsc_deadline", b_deadline, IRQCHIP | DEADLINE),
	ROW("tsc_deadline_now", b_deadline_now, IRQCHIP | DEADLINE),
	ROW("self_ipi", b_self_ipi, IRQCHIP),
	ROW("hlt_pending", b_hlt, IRQCHIP),
	ROW("pio_kernel", b_pio, IRQCHIP),
	ROW("pio_client", b_pio_user, 0),
	ROW("mmio_client", b_mmio_user, 0),
	ROW("ioeventfd", b_event, 0),
	ROW("irqfd", b_irqfd, IRQCHIP | IRQFD),
	ROW("cr0_wp", b_wp, 0),
	ROW("cr4_pge", b_pge, 0),
	ROW("pause", b_pause, 0),
	ROW("ud", b_ud, ON_UD),
	ROW("fault_resident", b_fault, RESIDENT),
	ROW("fault_fresh", b_fault_write, FRESH),
	ROW("fault_2m", b_fault_huge, HUGE),
	ROW("dirty_write", b_dirty, RESIDENT),
	ROW("invlpg", b_invlpg, 0),
	ROW("state_save", b_empty, IRQCHIP | SAVE),
	ROW("state_restore", b_empty, IRQCHIP | RESTORE),
	{ .name = "external_interrupt", .other = external_interrupt },
	{ .name = "ipi_asleep", .other = ipi_asleep, .blob = BLOB(pingpong) },
	{ .name = "ipi_running", .other = ipi_running },
	{ .name = "load_compute", .other = load_compute },
	{ .name = "load_syscall", .other = load_syscall },
	{ .name = "load_io", .other = load_io },
	{ .name = "vm_lifetime", .other = vm_lifetime },
	{ .name = "vm_memory", .other = vm_memory },
	{ .name = "vcpu_memory", .other = vcpu_memory },
	{ .name = "mapped_memory", .other = mapped_memory },
};

/* The guest is told of the timer only if the client offers it. */
static void offer_deadline(struct guest *g)
{
	struct kvm_cpuid2 *cpuid = supported_cpuid(g->dev);
	struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 1, 0);

	e->ecx |= 1 << 24;
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_CPUID2, cpuid));
	free(cpuid);
}

/* Of MSRs, those of system calls and paging, which both sides have. */
static const uint32_t msr_index[] = { 0x174, 0x175, 0x176, 0x277, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084 };
#define NR_MSRS		(sizeof(msr_index) / sizeof(*msr_index))

struct state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
	struct kvm_lapic_state lapic;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[NR_MSRS];
	} msrs;
};

/* In the order in which it may be restored. */
static const struct {
	unsigned long get, set;
	size_t offset;
} parts[] = {
#define PART(name, member)	{ KVM_GET_##name, KVM_SET_##name, offsetof(struct state, member) }
	PART(SREGS, sregs), PART(REGS, regs), PART(XCRS, xcrs), PART(XSAVE, xsave), PART(DEBUGREGS, debugregs),
	PART(MP_STATE, mp_state), PART(LAPIC, lapic), PART(MSRS, msrs), PART(VCPU_EVENTS, events),
};

static void transfer(int vcpu, struct state *s, bool back)
{
	size_t i;

	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		MUST(vm_ioctl(vcpu, back ? parts[i].set : parts[i].get, (char *)s + parts[i].offset));
}

/* Ticks of the client's, for all of a vCPU's state. */
static double state(struct guest *g, bool back)
{
	struct state s = { .msrs.head.nmsrs = NR_MSRS };
	uint64_t begin, least = ~0ULL;
	size_t i;

	for (i = 0; i < NR_MSRS; i++)
		s.msrs.entry[i].index = msr_index[i];
	transfer(g->cpu.fd, &s, false);
	for (i = 0; i < BATCHES; i++) {
		begin = __rdtsc();
		transfer(g->cpu.fd, &s, back);
		begin = __rdtsc() - begin;
		if (begin < least)
			least = begin;
	}
	return least;
}

/* Runs until the guest is done; its shortest batch, in ticks a round. */
static double run(struct guest *g, uint8_t *logged, int rounds)
{
	const uint64_t *batch = (void *)(g->mem + GUEST_DATA);
	uint64_t least = ~0ULL;
	int i;

	for (;;) {
		long exit = guest_run(g);

		if (exit != KVM_EXIT_IO && exit != KVM_EXIT_MMIO) {
			guest_dump(g);
			die("exit %ld", exit);
		}
		if (guest_at_port(g, PORT_DONE))
			break;
		if (logged)
			MUST(vm_set_slot(g->vm, 1, KVM_MEM_LOG_DIRTY_PAGES, GUEST_HIGH, PAGES_SIZE, logged));
	}
	for (i = 0; i < BATCHES; i++)
		if (batch[i] < least)
			least = batch[i];
	return (double)least / rounds;
}

/* Behind the guest's own memory, which becomes smaller. */
static uint8_t *small_pages(struct guest *g, bool touched)
{
	uint8_t *more = mem_alloc(PAGES_SIZE);

	madvise(more, PAGES_SIZE, MADV_NOHUGEPAGE);
	if (touched)
		memset(more, 1, PAGES_SIZE);
	MUST(vm_set_slot(g->vm, 1, 0, GUEST_HIGH, 0, NULL));
	MUST(vm_set_slot(g->vm, 1, 0, GUEST_HIGH, PAGES_SIZE, more));
	return more;
}

static void huge_pages(struct guest *g)
{
	size_t size = BATCHES * HUGE_LOOPS * HUGE_PAGE;
	uint8_t *more = mem_alloc(size + HUGE_PAGE);

	more = (void *)(((uintptr_t)more + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
	MUST(madvise(more, size, MADV_HUGEPAGE));
	memset(more, 1, size);
	MUST(vm_set_slot(g->vm, 2, 0, HUGE_AT, size, more));
}

static double measure(struct guest_blob blob, unsigned int flags)
{
	struct guest g;
	uint8_t *pages = NULL;
	double ticks;
	int event = -1;

	guest_create(&g, flags & IRQCHIP ? GUEST_IRQCHIP : 0);
	if (flags & DEADLINE)
		offer_deadline(&g);
	if (blob.start == b_event_start || flags & IRQFD) {
		event = evfd();
		MUST(vm_ioeventfd(g.vm, event, PORT_EVENT, 1, KVM_IOEVENTFD_FLAG_PIO, 0));
	}
	if (flags & IRQFD) {
		MUST(vm_route_msi(g.vm, GSI, VECTOR));
		MUST(vm_irqfd(g.vm, event, GSI, 0, -1));
	}
	if (flags & (RESIDENT | FRESH))
		pages = small_pages(&g, flags & RESIDENT);
	if (flags & HUGE)
		huge_pages(&g);
	guest_start(&g, MODE_LONG, blob);
	guest_set_gate(&g, flags & ON_UD ? UD_VECTOR : VECTOR, HANDLER_AT);
	if (flags & (SAVE | RESTORE))
		ticks = state(&g, flags & RESTORE);
	else
		ticks = run(&g, blob.start == b_dirty_start ? pages : NULL, flags & HUGE ? HUGE_LOOPS : LOOPS);
	if (event >= 0)
		close(event);
	guest_destroy(&g);
	return ticks;
}

/* Where the first round begins: behind "mov %rax, %r14". */
static uint64_t round_begin(struct guest_blob blob)
{
	const char *at = memmem(blob.start, blob.end - blob.start, "\x49\x89\xc6", 3);

	return at ? GUEST_CODE + (at + 3 - blob.start) : 0;
}

static void steps(const struct figure *f, struct guest_blob blob)
{
	char line[16];

	printf("%s %#lx\n", f->name, round_begin(blob));
	if (!fgets(line, sizeof(line), stdin))
		return;
	if (f->other)
		f->other();
	else
		measure(blob, f->flags);
}

static bool wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc < 2;
}

int main(int argc, char **argv)
{
	double empty, less;
	bool stepped;
	size_t i;
	int dev;

	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
			puts(figures[i].name);
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "--rounds")) {
		for (i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
			printf("%s %#lx\n", figures[i].name, figures[i].blob.start ? round_begin(figures[i].blob) : 0);
		return 0;
	}
	pin_to_cpu(0);
	setlinebuf(stdout);
	dev = dev_open();
	stepped = argc > 1 && !strcmp(argv[1], "--steps");
	/* Its rounds begin where those of others do. */
	empty = stepped ? 0 : measure(BLOB(b_empty), 0);
	for (i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
		const struct figure *f = &figures[i];
		struct guest_blob blob = (f->flags & VENDOR) && host_is_amd() ? f->amd : f->blob;

		if (!wanted(f->name, argc, argv))
			continue;
		if ((f->flags & DEADLINE) && !vm_cap(dev, KVM_CAP_TSC_DEADLINE_TIMER)) {
			printf("%s -1 -1\n", f->name);
			continue;
		}
		if (stepped) {
			steps(f, blob);
			continue;
		}
		if (f->other) {
			f->other();	/* what the kernel makes once and keeps */
			printf("%s %.0f", f->name, f->other());
			printf(" %.0f\n", f->other());
			continue;
		}
		less = f->flags & (SAVE | RESTORE) ? 0 : empty;
		printf("%s %.2f", f->name, measure(blob, f->flags) - less);
		printf(" %.2f\n", measure(blob, f->flags) - less);
	}
	return 0;
}
