// SPDX-License-Identifier: GPL-2.0-only
/*
 * A hostile client: every ioctl of every descriptor with generated arguments, from several threads, while vCPUs run
 * and descriptors come and go. Nothing is expected of the answers: the kernel must not complain, which the test host
 * looks for, every thread must come to its end, and afterwards a VM must work as ever.
 *
 * usage: fuzz [CALLS [SEED]]     a short run with a fixed seed by default; 'make abi-fuzz' makes a long one
 *
 * An argument is a valid structure with a few bits of it changed, one that is random altogether, a pointer that leads
 * nowhere, or a number. KVM_RUN is called with a timer running, so that no guest keeps a thread.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <linux/keel.h>
#include "kselftest.h"
#include "guest.h"

#define THREADS		4
#define SLOTS		8		/* of each kind of descriptor */
#define MEM_SIZE	0x200000UL
#define DEFAULT_CALLS	20000
#define DEFAULT_SEED	1

enum kind { DEVICE, VM, VCPU, NR_KINDS };

static const struct call {
	enum kind kind;
	unsigned long req;
	bool number;		/* its argument is no pointer */
} calls[] = {
	{ DEVICE, KVM_GET_API_VERSION, true }, { DEVICE, KVM_CREATE_VM, true }, { DEVICE, KVM_CHECK_EXTENSION, true },
	{ DEVICE, KVM_GET_VCPU_MMAP_SIZE, true }, { DEVICE, KVM_GET_SUPPORTED_CPUID }, { DEVICE, KVM_GET_EMULATED_CPUID },
	{ DEVICE, KVM_GET_MSR_INDEX_LIST }, { DEVICE, KVM_GET_MSR_FEATURE_INDEX_LIST }, { DEVICE, KVM_GET_MSRS },
	{ DEVICE, KVM_X86_GET_MCE_CAP_SUPPORTED }, { DEVICE, KVM_GET_DEVICE_ATTR }, { DEVICE, KVM_HAS_DEVICE_ATTR },
	{ DEVICE, KEEL_GET_INFO },
	{ VM, KVM_CREATE_VCPU, true }, { VM, KVM_CHECK_EXTENSION, true }, { VM, KVM_ENABLE_CAP },
	{ VM, KVM_SET_USER_MEMORY_REGION }, { VM, KVM_GET_DIRTY_LOG }, { VM, KVM_CLEAR_DIRTY_LOG },
	{ VM, KVM_RESET_DIRTY_RINGS, true }, { VM, KVM_SET_TSS_ADDR, true }, { VM, KVM_SET_IDENTITY_MAP_ADDR },
	{ VM, KVM_SET_BOOT_CPU_ID, true }, { VM, KVM_GET_CLOCK }, { VM, KVM_SET_CLOCK }, { VM, KVM_CREATE_IRQCHIP, true },
	{ VM, KVM_GET_IRQCHIP }, { VM, KVM_SET_IRQCHIP }, { VM, KVM_CREATE_PIT, true },
	{ VM, KVM_CREATE_PIT2 }, { VM, KVM_GET_PIT2 },
	{ VM, KVM_SET_PIT2 }, { VM, KVM_GET_PIT }, { VM, KVM_SET_PIT }, { VM, KVM_REINJECT_CONTROL },
	{ VM, KVM_IRQ_LINE }, { VM, KVM_IRQ_LINE_STATUS }, { VM, KVM_SET_GSI_ROUTING }, { VM, KVM_SIGNAL_MSI },
	{ VM, KVM_IRQFD }, { VM, KVM_IOEVENTFD }, { VM, KVM_REGISTER_COALESCED_MMIO },
	{ VM, KVM_UNREGISTER_COALESCED_MMIO }, { VM, KVM_X86_SET_MSR_FILTER }, { VM, KVM_SET_NR_MMU_PAGES, true },
	{ VM, KVM_GET_NR_MMU_PAGES, true }, { VM, KVM_GET_STATS_FD, true }, { VM, KEEL_SET_EXECUTION },
	{ VM, KVM_CREATE_DEVICE }, { VM, KVM_SET_TSC_KHZ, true }, { VM, KVM_SET_PMU_EVENT_FILTER },
	{ VCPU, KVM_RUN, true }, { VCPU, KVM_RUN, true }, { VCPU, KVM_RUN, true }, { VCPU, KVM_RUN, true },
	{ VCPU, KVM_GET_REGS }, { VCPU, KVM_SET_REGS }, { VCPU, KVM_GET_SREGS }, { VCPU, KVM_SET_SREGS },
	{ VCPU, KVM_GET_SREGS2 }, { VCPU, KVM_SET_SREGS2 }, { VCPU, KVM_GET_FPU }, { VCPU, KVM_SET_FPU },
	{ VCPU, KVM_GET_XSAVE }, { VCPU, KVM_GET_XSAVE2 }, { VCPU, KVM_SET_XSAVE }, { VCPU, KVM_GET_XCRS },
	{ VCPU, KVM_SET_XCRS }, { VCPU, KVM_GET_MSRS }, { VCPU, KVM_SET_MSRS }, { VCPU, KVM_SET_CPUID },
	{ VCPU, KVM_SET_CPUID2 }, { VCPU, KVM_GET_CPUID2 }, { VCPU, KVM_GET_LAPIC }, { VCPU, KVM_SET_LAPIC },
	{ VCPU, KVM_SET_VAPIC_ADDR }, { VCPU, KVM_GET_MP_STATE }, { VCPU, KVM_SET_MP_STATE },
	{ VCPU, KVM_GET_VCPU_EVENTS }, { VCPU, KVM_SET_VCPU_EVENTS }, { VCPU, KVM_GET_DEBUGREGS },
	{ VCPU, KVM_SET_DEBUGREGS }, { VCPU, KVM_SET_GUEST_DEBUG }, { VCPU, KVM_TRANSLATE }, { VCPU, KVM_INTERRUPT },
	{ VCPU, KVM_NMI, true }, { VCPU, KVM_GET_TSC_KHZ, true }, { VCPU, KVM_SET_TSC_KHZ, true },
	{ VCPU, KVM_KVMCLOCK_CTRL, true }, { VCPU, KVM_X86_SETUP_MCE }, { VCPU, KVM_X86_SET_MCE },
	{ VCPU, KVM_ENABLE_CAP }, { VCPU, KVM_SET_SIGNAL_MASK }, { VCPU, KVM_HAS_DEVICE_ATTR },
	{ VCPU, KVM_GET_DEVICE_ATTR }, { VCPU, KVM_SET_DEVICE_ATTR }, { VCPU, KVM_GET_STATS_FD, true },
	{ VCPU, KEEL_GET_EXECUTION }, { VCPU, KVM_SMI, true }, { VCPU, KVM_GET_NESTED_STATE },
};

static int fds[NR_KINDS][SLOTS];	/* read and replaced by all threads without a lock: that is the point */
static struct kvm_run *runs[SLOTS];
static size_t run_size;
static uint8_t *mem;
static long budget;

static __thread uint64_t state;

static uint64_t rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 0x2545f4914f6cdd1dULL;
}

static unsigned int below(unsigned int n)
{
	return rnd() % n;
}

static uint64_t number(void)
{
	static const uint64_t edges[] = {
		0, 1, 2, 3, 7, 8, 64, 255, 256, 4095, 4096, 0xfee00000, 0xfffff000, 0x100000000, 1ULL << 40,
		1ULL << 52, 1ULL << 63, ~0ULL, ~0ULL - 4095, 0xc0000080, 0x40000000, 0x4b564d01,
	};

	switch (below(4)) {
	case 0:
		return rnd();
	case 1:
		return below(300);
	default:
		return edges[below(ARRAY_SIZE(edges))] ^ (below(4) ? 0 : 1ULL << below(64));
	}
}

/* Descriptors of any kind stand in a table; what is replaced is closed, whoever may be using it. */
static void keep(enum kind kind, int fd)
{
	int slot = below(SLOTS), old;

	old = __atomic_exchange_n(&fds[kind][slot], fd, __ATOMIC_SEQ_CST);
	if (old > 2)
		close(old);
}

/* Some of what a structure of the ioctl would hold, so that not all of it ends at the first check. */
static void plausible(const struct call *c, int fd, uint8_t *arg)
{
	struct kvm_userspace_memory_region *region = (void *)arg;
	struct kvm_msrs *msrs = (void *)arg;
	struct kvm_enable_cap *cap = (void *)arg;
	struct kvm_irqfd *irqfd = (void *)arg;
	struct kvm_msr_filter *filter = (void *)arg;

	switch (c->req) {
	case KVM_SET_USER_MEMORY_REGION:
		region->slot = below(4);
		region->flags = below(4);
		region->guest_phys_addr = below(2) ? 0 : below(64) * PAGE_SIZE;
		region->memory_size = below(3) ? MEM_SIZE : below(64) * PAGE_SIZE;
		region->userspace_addr = (uintptr_t)mem;
		break;
	case KVM_GET_MSRS:
	case KVM_SET_MSRS:
		msrs->nmsrs = below(8);
		for (unsigned int i = 0; i < msrs->nmsrs; i++)
			msrs->entries[i].index = number();
		break;
	case KVM_ENABLE_CAP:
		cap->cap = below(240);
		cap->flags = 0;
		cap->args[0] = number();
		break;
	case KVM_IRQFD:
	case KVM_IOEVENTFD:
		irqfd->fd = fds[below(NR_KINDS)][below(SLOTS)];
		break;
	case KVM_X86_SET_MSR_FILTER:
		memset(filter, 0, sizeof(*filter));
		filter->ranges[0] = (struct kvm_msr_filter_range) {
			.flags = 1 + below(3), .nmsrs = below(64), .base = number(), .bitmap = mem,
		};
		break;
	case KVM_SET_REGS:
		ioctl(fd, KVM_GET_REGS, arg);
		break;
	case KVM_SET_SREGS:
		ioctl(fd, KVM_GET_SREGS, arg);
		break;
	case KVM_SET_VCPU_EVENTS:
		ioctl(fd, KVM_GET_VCPU_EVENTS, arg);
		break;
	case KVM_SET_LAPIC:
		ioctl(fd, KVM_GET_LAPIC, arg);
		break;
	case KVM_SET_XSAVE:
		ioctl(fd, KVM_GET_XSAVE, arg);
		break;
	case KVM_SET_CPUID2:
		*(uint32_t *)arg = 100;
		ioctl(fds[DEVICE][0], KVM_GET_SUPPORTED_CPUID, arg);
		break;
	case KVM_SET_IRQCHIP:
	case KVM_GET_IRQCHIP:
		*(uint32_t *)arg = below(4);
		break;
	case KVM_SET_SIGNAL_MASK:
		memset(arg, 0, 16);	/* our timer's signal has to come through */
		*(uint32_t *)arg = 8;
		break;
	}
}

/* What is a limit of ours and no test: vCPUs that nobody can start again, signals that do not come. */
static bool spared(const struct call *c, const uint8_t *arg)
{
	return c->req == KVM_SET_SIGNAL_MASK && *(uint64_t *)(arg + 4);
}

/*
 * QEMU's TCG (10.0) loads the host's CR0 at a #VMEXIT while EFER and CR4 are still the guest's: when these have LME and
 * not PAE, and the guest has no paging, it leaves paging off, and the host is gone.
 */
static bool ends_qemu(const struct kvm_sregs *s)
{
	return (s->efer & X86_EFER_LME) && !(s->cr0 & X86_CR0_PG) && !(s->cr4 & X86_CR4_PAE);
}

static void step_around_qemu(struct kvm_run *run, int fd)
{
	struct kvm_sregs sregs;

	if (run && ends_qemu(&run->s.regs.sregs))
		run->s.regs.sregs.cr4 |= X86_CR4_PAE;
	if (!ioctl(fd, KVM_GET_SREGS, &sregs) && ends_qemu(&sregs)) {
		sregs.cr4 |= X86_CR4_PAE;
		ioctl(fd, KVM_SET_SREGS, &sregs);
	}
}

static void run_vcpu(int slot, int fd)
{
	struct kvm_run *run = __atomic_load_n(&runs[slot], __ATOMIC_SEQ_CST);
	struct itimerspec soon = { .it_value.tv_nsec = 2000000 };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
	timer_t timer;

	event._sigev_un._tid = syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer))
		return;
	soon.it_interval = soon.it_value;
	timer_settime(timer, 0, &soon, NULL);
	if (run && !below(4)) {
		run->kvm_valid_regs = below(16);
		run->kvm_dirty_regs = below(16);
		run->request_interrupt_window = below(2);
		run->cr8 = below(20);
		run->immediate_exit = !below(8);
	}
	if (in_testhost("svm"))
		step_around_qemu(run, fd);
	ioctl(fd, KVM_RUN, 0);
	timer_delete(timer);
}

static void call_one(void)
{
	static __thread uint8_t arg[65536];
	const struct call *c = &calls[below(ARRAY_SIZE(calls))];
	int slot = below(SLOTS), fd = fds[below(32) ? c->kind : below(NR_KINDS)][slot];
	unsigned int i, style = below(16);
	long r;

	if (c->req == KVM_RUN) {
		run_vcpu(slot, fd);
		return;
	}
	if (c->number) {
		r = ioctl(fd, c->req, c->req == KVM_CREATE_VM && below(8) ? 0 :
			  c->req == KVM_CREATE_VCPU && below(4) ? below(4) : number());
	} else if (style == 0) {
		r = ioctl(fd, c->req, number());
	} else {
		if (style < 4)
			for (i = 0; i < 512; i++)
				((uint64_t *)arg)[i] = rnd();
		else if (style < 8)
			memset(arg, 0, 4096);
		plausible(c, fd, arg);
		for (i = below(4); style < 12 && i; i--)
			arg[below(below(2) ? 64 : 1024)] ^= 1 << below(8);
		if (spared(c, arg))
			return;
		r = ioctl(fd, c->req, arg);
	}
	if (r > 2 && c->req == KVM_CREATE_VM) {
		keep(VM, r);
	} else if (r > 2 && c->req == KVM_CREATE_VCPU) {
		keep(VCPU, r);
		if (!below(4)) {
			void *map = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, r, 0);

			if (map != MAP_FAILED)
				map = __atomic_exchange_n(&runs[below(SLOTS)], map, __ATOMIC_SEQ_CST);
			/* The old one stays mapped: another thread may be at it. */
		}
	} else if (r > 2 && c->req == KVM_GET_STATS_FD) {
		pread(r, arg, below(4096), below(2048));
		close(r);
	}
}

static void *worker(void *seed)
{
	state = (uintptr_t)seed;
	while (__atomic_sub_fetch(&budget, 1, __ATOMIC_RELAXED) >= 0)
		call_one();
	return NULL;
}

static void nothing(int sig)
{
}

/* Until there are others, each slot has one that works. */
static void begin(int dev)
{
	int i;

	run_size = MUST(vm_ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0));
	for (i = 0; i < SLOTS; i++) {
		fds[DEVICE][i] = dup(dev);
		fds[VM][i] = vm_create(dev);
		vm_set_slot(fds[VM][i], 0, 0, 0, MEM_SIZE, mem);
		if (i & 1)
			vm_ioctl(fds[VM][i], KVM_CREATE_IRQCHIP, 0);
		fds[VCPU][i] = MUST(vm_ioctl(fds[VM][i], KVM_CREATE_VCPU, 0));
		runs[i] = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[VCPU][i], 0);
		if (runs[i] == MAP_FAILED)
			die("mmap of a vCPU");
	}
}

GUEST(after, 64, G_DONE);

int main(int argc, char **argv)
{
	long total = argc > 1 ? atol(argv[1]) : DEFAULT_CALLS;
	unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 0) : DEFAULT_SEED;
	struct sigaction action = { .sa_handler = nothing };
	pthread_t threads[THREADS];
	struct guest g;
	int i, kind, dev;

	ksft_print_header();
	ksft_set_plan(1);
	sigaction(SIGUSR1, &action, NULL);
	mem = mem_alloc(MEM_SIZE);
	memset(mem, 0xf4, MEM_SIZE / 2);	/* HLT; the rest is zeroes: ADD */
	dev = dev_open();
	begin(dev);
	budget = total;
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, worker, (void *)(seed * THREADS + i + 1)))
			die("no thread");
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (kind = 0; kind < NR_KINDS; kind++)
		for (i = 0; i < SLOTS; i++)
			close(fds[kind][i]);
	guest_create(&g, GUEST_IRQCHIP);
	guest_start(&g, MODE_LONG, BLOB(after));
	if (guest_run(&g) == KVM_EXIT_IO && guest_at_port(&g, PORT_DONE))
		ksft_test_result_pass("%ld calls with seed %lu, and a VM works afterwards\n", total, seed);
	else
		ksft_test_result_fail("no VM works after %ld calls with seed %lu\n", total, seed);
	ksft_finished();
}
