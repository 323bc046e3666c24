// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guests that execute random bytes: in all modes, at both ends of the privileges, on the CPU, stepped, and by the
 * interpreter; half of the pages laced with privileged instructions on random registers (control registers, MSRs,
 * ports, descriptor tables), a quarter with random entries in page tables and descriptor tables. The guest may die of
 * it, and has to say why; KVM_RUN comes back, the VM can be used again, and the kernel has nothing to complain of.
 *
 * usage: random [COUNT [SEED [FIRST]]]
 *	COUNT places to start at, each at least one instruction, from batch FIRST on. Without COUNT a few, and interpreted
 *	ones alone. 'make fuzz-guest' makes a long run. RANDOM_VERBOSE=1 tells each batch before it runs.
 *
 * A batch is a page of bytes and RANDOM_STARTS places to start in it. Every exception and interrupt leads to a handler
 * that goes to the next one; where the guest gets lost, the client sets it there. What a batch does follows from the
 * seed and its number, but for the time at which a timer ends those that spin.
 *
 * QEMU's TCG ends itself now and then when it has to translate 16-bit code of random bytes (in-tree KVM's guests, too):
 * real and 16-bit protected mode are for the interpreter. What else it dies of is in randomness.c.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>
#include "kselftest.h"
#include "randomness.h"

#define DEFAULT_COUNT	5000
#define DEFAULT_SEED	1
#define TICK_US		2000
#define EXITS_A_BATCH	3000
#define BATCHES_A_VM	40

/* The next entry of the table; when there is none, the client's turn. */
GUEST(next16, 16,
	"xorw %ax, %ax\n" "movw %ax, %ss\n" "movw %ax, %ds\n"
	"movw " STR(RANDOM_NEXT) ", %ax\n" "incw " STR(RANDOM_NEXT) "\n"
	"cmpw $" STR(RANDOM_STARTS) ", %ax\n" "jae 9f\n"
	"shlw $5, %ax\n" "addw $" STR(RANDOM_TABLE16) ", %ax\n" "movw %ax, %sp\n"
	"popw %ds\n" "popw %es\n" "popaw\n" "iretw\n"
	"9: outb %al, $" STR(PORT_DONE) "\n" "jmp 9b\n");
GUEST(next32, 32,
	"movl $" STR(SEL_DATA) ", %eax\n" "movl %eax, %ss\n" "movl %eax, %ds\n"
	"movl " STR(RANDOM_NEXT) ", %eax\n" "incl " STR(RANDOM_NEXT) "\n"
	"cmpl $" STR(RANDOM_STARTS) ", %eax\n" "jae 9f\n"
	"shll $8, %eax\n" "addl $" STR(RANDOM_TABLE) ", %eax\n" "movl %eax, %esp\n"
	"popl %fs\n" "popl %es\n" "popal\n" "iretl\n"
	"9: outb %al, $" STR(PORT_DONE) "\n" "jmp 9b\n");
GUEST(next64, 64,
	"movl $" STR(SEL_DATA) ", %eax\n" "movl %eax, %ds\n" "movl %eax, %es\n"
	"movl " STR(RANDOM_NEXT) ", %eax\n" "incl " STR(RANDOM_NEXT) "\n"
	"cmpl $" STR(RANDOM_STARTS) ", %eax\n" "jae 9f\n"
	"shll $8, %eax\n" "addl $" STR(RANDOM_TABLE) ", %eax\n" "movl %eax, %esp\n"
	"popq %rax\n" "popq %rbx\n" "popq %rcx\n" "popq %rdx\n" "popq %rsi\n" "popq %rdi\n" "popq %rbp\n"
	"popq %r8\n" "popq %r9\n" "popq %r10\n" "popq %r11\n" "popq %r12\n" "popq %r13\n" "popq %r14\n" "popq %r15\n"
	"iretq\n"
	"9: outb %al, $" STR(PORT_DONE) "\n" "jmp 9b\n");
/*
 * Loads TR before the handler's first turn: QEMU takes an inner stack of a 32-bit TSS only from a guest that has done it
 * itself (Documentation/testhost.rst). The same bytes in 32 and 64 bits.
 */
GUEST(load_tr, 32,
	"movl $" STR(SEL_TSS) ", %eax\n" "ltr %ax\n"
	"movl $" STR(RANDOM_HANDLER) ", %eax\n" "jmp *%eax\n");
#define LOAD_TR		0xe800

static const struct way {
	const char *name;
	unsigned int flags, share;	/* how many of 16 batches */
} ways[] = {
	{ "on the CPU", 0, 10 },
	{ "with interrupt controllers", GUEST_IRQCHIP | GUEST_PIT, 1 },
	{ "stepped", GUEST_TRAPPED, 1 },
	{ "interpreted", GUEST_INTERPRETED, 4 },
};

#define EXIT_REASONS	64

static struct {
	unsigned long starts[ARRAY_SIZE(ways)], modes[NR_MODES];
	unsigned long exits[EXIT_REASONS], late, lost, vms, killed, emulated;
} figures;

static volatile sig_atomic_t ticks;
static bool batch_shown;	/* RANDOM_VERBOSE: each batch is told before it runs */

static void tick(int sig)
{
	ticks++;
}

static void start_ticking(void)
{
	struct sigaction action = { .sa_handler = tick };
	struct itimerval every = { { 0, TICK_US }, { 0, TICK_US } };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

struct batch {
	struct guest *g;
	struct randomness rnd;
	enum guest_mode mode;
	unsigned int cpl;
	bool laced, tables;
	uint32_t next;		/* no start before this one is tried again */
	struct kvm_sregs sregs;	/* as the batch begins */
};

static volatile uint32_t *next_of(struct batch *b)
{
	return (void *)(b->g->mem + RANDOM_NEXT);
}

static void put(struct guest *g, uint64_t at, struct guest_blob blob)
{
	memcpy(g->mem + at, blob.start, blob.end - blob.start);
}

/* An access that waits for its answer would end in the new guest's registers. XSAVE has hundreds, REP any number. */
static void finish_io(struct guest *g)
{
	struct kvm_regs regs;
	int i;

	g->cpu.run->immediate_exit = 1;
	for (i = 0; i < 2000 && vcpu_run(&g->cpu) == 0; i++) {
		regs = vcpu_regs(&g->cpu);
		if (i < 4 || regs.rcx == 1)
			continue;
		regs.rcx = 1;
		vcpu_set_regs(&g->cpu, &regs);
	}
	if (i == 2000)
		fprintf(stderr, "# an access to a device without end, exit reason %u\n", g->cpu.run->exit_reason);
	g->cpu.run->immediate_exit = 0;
	g->cpu.run->exit_reason = KVM_EXIT_UNKNOWN;
}

/* Everything as it was at the start of the batch, but for the starts that have been. */
static bool begin(struct batch *b, bool again)
{
	static const struct kvm_vcpu_events none = { .flags = KVM_VCPUEVENT_VALID_SHADOW };
	static const struct kvm_debugregs debugregs = { .dr6 = 0xffff0ff0, .dr7 = 0x400 };
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct guest *g = b->g;
	struct kvm_regs regs = { .rflags = X86_EFLAGS_FIXED, .rsp = GUEST_STACK };
	struct randomness rnd = b->rnd;
	unsigned int v;

	finish_io(g);
	if (vm_ioctl(g->cpu.fd, KVM_SET_VCPU_EVENTS, &none) || vm_ioctl(g->cpu.fd, KVM_SET_MP_STATE, &mp) ||
	    vm_ioctl(g->cpu.fd, KVM_SET_DEBUGREGS, &debugregs))
		return false;
	memset(g->mem + GUEST_DATA, 0, 0x40000);
	guest_set_mode(g, b->mode);
	for (v = 0; v < 256; v++) {
		guest_set_gate(g, v, RANDOM_HANDLER);
		if (b->mode >= MODE_COMPAT)	/* a stack that is there: IST1 */
			g->mem[GUEST_IDT + v * 16 + 4] = 1;
	}
	if (b->mode != MODE_REAL)
		g->mem[GUEST_GDT + SEL_TSS + 5] &= ~2;		/* not busy */
	put(g, RANDOM_HANDLER, b->mode == MODE_REAL ? BLOB(next16) : b->mode >= MODE_COMPAT ? BLOB(next64) : BLOB(next32));
	put(g, LOAD_TR, BLOB(load_tr));
	random_code(&rnd, g->mem + GUEST_CODE, RANDOM_BYTES, b->laced);
	random_starts(&rnd, g, b->cpl);
	/* A guest that died of its tables gets good ones. */
	if (b->tables && !again)
		random_tables(&rnd, g);
	*next_of(b) = b->next;

	b->sregs = vcpu_sregs(&g->cpu);
	if (b->mode == MODE_REAL) {
		b->sregs.cs.base = b->sregs.cs.selector = 0;
		regs.rip = RANDOM_HANDLER;
	} else {
		b->sregs.cs.base = 0;
		b->sregs.cs.selector = b->mode >= MODE_COMPAT ? SEL_CODE64 : SEL_CODE32;
		b->sregs.cs.limit = 0xffffffff;
		b->sregs.cs.g = 1;
		b->sregs.cs.l = b->mode >= MODE_COMPAT;
		b->sregs.cs.db = !b->sregs.cs.l;
		regs.rip = LOAD_TR;
	}
	return !vm_ioctl(g->cpu.fd, KVM_SET_SREGS, &b->sregs) && !vm_ioctl(g->cpu.fd, KVM_SET_REGS, &regs);
}

/* What a device says. */
static void answer(struct batch *b)
{
	struct kvm_run *run = b->g->cpu.run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	size_t i;

	if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write)
		memcpy(run->mmio.data, &(uint64_t){ random_next(&b->rnd) }, 8);
	else if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
		for (i = 0; i < run->io.size * run->io.count; i++)
			data[i] = random_next(&b->rnd);
}

/*
 * Runs until the guest is through, is lost, or is dead. Gives 0, 1 when it has to be set up again, or the error that
 * the VM does not recover from.
 */
static long run_guest(struct batch *b, unsigned int *exits)
{
	sig_atomic_t seen = ticks;
	uint32_t last = *next_of(b);
	long reason;

	while (++*exits < EXITS_A_BATCH) {
		reason = guest_run(b->g);
		if (reason >= 0 && reason < EXIT_REASONS)
			figures.exits[reason]++;
		if (reason == KVM_EXIT_IO && guest_at_port(b->g, PORT_DONE) && *next_of(b) >= RANDOM_STARTS)
			return 0;
		if (reason == -EINTR || reason == KVM_EXIT_INTR || reason == KVM_EXIT_IO || reason == KVM_EXIT_MMIO) {
			answer(b);
			if (*next_of(b) != last) {
				last = *next_of(b);
				seen = ticks;
			} else if (ticks - seen > 1) {
				figures.late++;
				return 1;
			}
			continue;
		}
		if (reason < 0 && reason != -EAGAIN && reason != -EFAULT)
			return reason;
		return 1;
	}
	return 0;
}

static void pick(struct batch *b)
{
	b->mode = b->rnd.all ? random_below(&b->rnd, NR_MODES) : MODE_PROT32 + random_below(&b->rnd, NR_MODES - MODE_PROT32);
	b->cpl = b->mode >= MODE_PROT32 && !random_below(&b->rnd, 4) ? 3 : 0;
	b->laced = random_below(&b->rnd, 2);
	b->tables = !random_below(&b->rnd, 4);
	b->next = 0;
}

/* Gives how many starts there were; negative when the VM is of no use any more. */
static long run_batch(struct guest *g, struct batch *b)
{
	unsigned int exits = 0, tries = 0;
	uint32_t at;
	long ret = 1;

	b->g = g;
	pick(b);
	if (batch_shown)
		fprintf(stderr, ", %s, CPL %u%s%s\n", guest_mode_name[b->mode], b->cpl, b->laced ? ", laced" : "",
			b->tables ? ", tables" : "");
	while (b->next < RANDOM_STARTS && ret > 0 && exits < EXITS_A_BATCH) {
		if (!begin(b, tries++))
			return -EIO;
		ret = run_guest(b, &exits);
		if (ret < 0)
			return ret;
		/* What the guest has written there is not to be trusted. */
		at = *next_of(b);
		if (at <= b->next || at > RANDOM_STARTS + 1) {
			figures.lost++;
			at = b->next + 1;
		}
		b->next = at < RANDOM_STARTS ? at : RANDOM_STARTS;
	}
	figures.modes[b->mode] += b->next;
	return b->next;
}

static unsigned int pick_way(struct randomness *r, bool interpreted)
{
	unsigned int n = random_below(r, 16), way = 0;

	if (interpreted)
		return ARRAY_SIZE(ways) - 1;
	while (n >= ways[way].share)
		n -= ways[way++].share;
	return way;
}

/* The indices that the kernel lists, and the local APIC's. */
static void find_msrs(struct randomness *r, int dev)
{
	static uint32_t all[512];
	struct { struct kvm_msr_list list; uint32_t indices[480]; } list = { .list.nmsrs = 480 };
	unsigned int i, n = 0;

	MUST(vm_ioctl(dev, KVM_GET_MSR_INDEX_LIST, &list));
	for (i = 0; i < list.list.nmsrs; i++)
		all[n++] = list.list.indices[i];
	all[n++] = MSR_IA32_APICBASE;
	all[n++] = MSR_IA32_TSC_DEADLINE;
	all[n++] = 0x800;
	all[n++] = 0x830;
	all[n++] = 0x48;
	all[n++] = 0x49;
	all[n++] = 0xc0010114;
	all[n++] = 0xc0010117;
	r->msrs = all;
	r->nr_msrs = n;
}

/* Instructions that the module says it has emulated for a vCPU */
static uint64_t emulated(struct guest *g)
{
	int fd = MUST(vm_ioctl(g->cpu.fd, KVM_GET_STATS_FD, 0));
	struct kvm_stats_header h;
	uint64_t value = 0;
	uint32_t i;

	if (pread(fd, &h, sizeof(h), 0) != sizeof(h))
		die("no statistics");
	for (i = 0; i < h.num_desc; i++) {
		char buf[sizeof(struct kvm_stats_desc) + 64] = "";
		struct kvm_stats_desc *desc = (void *)buf;
		size_t size = sizeof(*desc) + h.name_size;

		if (size < sizeof(buf) && pread(fd, buf, size, h.desc_offset + i * size) == (ssize_t)size &&
		    !strcmp(desc->name, "insn_emulation") &&
		    pread(fd, &value, sizeof(value), h.data_offset + desc->offset) != sizeof(value))
			die("no count of instructions");
	}
	close(fd);
	return value;
}

static struct {
	struct guest g;
	bool there;
	unsigned int batches;
} vms[ARRAY_SIZE(ways)];

static void end_vm(unsigned int way)
{
	figures.emulated += emulated(&vms[way].g);
	guest_destroy(&vms[way].g);
}

/* The timer is for KVM_RUN alone: whatever else sleeps may be interrupted, too. */
static void let_tick(bool on)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(on ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL);
}

static struct guest *vm_for(unsigned int way)
{
	if (vms[way].there && vms[way].batches++ < BATCHES_A_VM)
		return &vms[way].g;
	if (vms[way].there)
		end_vm(way);
	guest_create(&vms[way].g, ways[way].flags);
	vms[way].there = true;
	vms[way].batches = 0;
	figures.vms++;
	return &vms[way].g;
}

static void one_batch(const struct randomness *base, unsigned long seed, unsigned long number, bool interpreted)
{
	struct batch b = { .rnd = *base };
	unsigned int way, i;
	struct guest *g;
	long got;

	b.rnd.state = (seed + 1) * 0x9e3779b97f4a7c15ULL ^ (number + 1) * 0xbf58476d1ce4e5b9ULL;
	for (i = 0; i < 8; i++)
		random_next(&b.rnd);
	way = pick_way(&b.rnd, interpreted);
	b.rnd.all = ways[way].flags & GUEST_INTERPRETED;
	if (batch_shown)
		fprintf(stderr, "# batch %lu, %s", number, ways[way].name);
	let_tick(false);
	g = vm_for(way);
	let_tick(true);
	got = run_batch(g, &b);
	if (got < 0) {
		printf("# batch %lu (%s, %s): KVM_RUN gives %s\n", number, ways[way].name, guest_mode_name[b.mode],
		       strerror(-got));
		figures.killed++;
		figures.starts[way] += b.next;
		vms[way].batches = BATCHES_A_VM;
	} else {
		figures.starts[way] += got;
	}
}

static unsigned long all_starts(void)
{
	unsigned long sum = 0;
	unsigned int way;

	for (way = 0; way < ARRAY_SIZE(ways); way++)
		sum += figures.starts[way];
	return sum;
}

static void print_figures(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ways); i++)
		printf("# %s: %lu starts\n", ways[i].name, figures.starts[i]);
	for (i = 0; i < NR_MODES; i++)
		printf("# mode %s: %lu starts\n", guest_mode_name[i], figures.modes[i]);
	for (i = 0; i < EXIT_REASONS; i++)
		if (figures.exits[i])
			printf("# exit reason %u: %lu times\n", i, figures.exits[i]);
	printf("# %lu instructions emulated\n", figures.emulated);
	printf("# %lu VMs, %lu of them ended by an error; %lu times stopped for spinning, %lu times lost count\n", figures.vms,
	       figures.killed, figures.late, figures.lost);
}

/* What scripts/fuzz-guest adds up, whatever becomes of the emulator. */
static void say_so_far(unsigned long next)
{
	fprintf(stderr, "# so far %lu starts, %lu instructions emulated, next is batch %lu\n", all_starts(), figures.emulated, next);
}

GUEST(after, 64, G_DONE);

int main(int argc, char **argv)
{
	unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : DEFAULT_COUNT, number = 0;
	unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 0) : DEFAULT_SEED, said = 0;
	struct randomness rnd = { 0 };
	struct guest g;
	unsigned int i;

	ksft_print_header();
	ksft_set_plan(1);
	setvbuf(stdout, NULL, _IOLBF, 0);
	guest_create(&g, GUEST_IRQCHIP);
	find_msrs(&rnd, g.dev);
	start_ticking();
	batch_shown = getenv("RANDOM_VERBOSE");
	if (argc > 3)
		number = strtoul(argv[3], NULL, 0);
	while (all_starts() < count) {
		if (argc > 1 && ns_now() - said > 10000000000UL) {
			said = ns_now();
			say_so_far(number);
		}
		one_batch(&rnd, seed, number++, argc < 2);
	}
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	for (i = 0; i < ARRAY_SIZE(ways); i++)
		if (vms[i].there)
			end_vm(i);
	if (argc > 1)
		say_so_far(number);
	print_figures();
	guest_start(&g, MODE_LONG, BLOB(after));
	if (guest_run(&g) == KVM_EXIT_IO && guest_at_port(&g, PORT_DONE))
		ksft_test_result_pass("%lu starts with seed %lu, and a VM works afterwards\n", all_starts(), seed);
	else
		ksft_test_result_fail("no VM works after %lu starts with seed %lu\n", all_starts(), seed);
	guest_destroy(&g);
	ksft_finished();
}
