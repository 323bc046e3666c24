// SPDX-License-Identifier: GPL-2.0-only
/*
 * Storms: what a host goes through in years, in minutes. Clients killed at any point, signals, CPUs and the module that
 * come and go, memory that runs out, many VMs, many vCPUs. After each the host is as before: nothing in the taint mask, no
 * reference to the module, no thread and no memory that is gone, and a VM works.
 *
 * usage: storm [-n COUNT] [STORM...]	all of them without a name; COUNT in place of each one's own
 *
 * For the emulated test host, as root. KEEL_KO names the module file, KEEL_MODARGS its parameters.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kselftest.h"
#include "health.h"
#include "smp.h"

GUEST(count, 64,
	"sti\n" "1: incq (%rdi)\n" "movl $0x1000, %ecx\n" "2: addl $0x1000, %ebx\n" "andl $0x1fffff, %ebx\n"
	"incl 0x100000(%rbx)\n" "decl %ecx\n" "jnz 2b\n" "xorl %eax, %eax\n" "cpuid\n" "jmp 1b\n");
GUEST(done, 64, G_DONE);
/* All its memory, over and over */
GUEST(touch, 64,
	"1: movl $0x100000, %edi\n" "movl %esi, %ecx\n" "2: movl %ecx, (%rdi)\n" "addl $0x1000, %edi\n" "decl %ecx\n" "jnz 2b\n"
	"jmp 1b\n");

#define PROGRESS	GUEST_DATA	/* a quadword for each vCPU */

static uint64_t rnd_state = 88172645463325252ULL;

static unsigned int below(unsigned int n)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return (rnd_state >> 16) % n;
}

static bool write_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY), ret;

	if (fd < 0)
		return false;
	ret = write(fd, text, strlen(text));
	close(fd);
	return ret == (int)strlen(text);
}

static long read_number(const char *name)
{
	char buf[64] = "";
	int fd = open(name, O_RDONLY);

	if (fd < 0 || read(fd, buf, sizeof(buf) - 1) < 0)
		return -1;
	close(fd);
	return atol(buf);
}

/* A guest with @vcpus that count, each in a thread. The caller's process ends all of it. */
static void start_counting(struct guest *g, struct guest_thread *t, int vcpus, unsigned int flags)
{
	struct kvm_regs regs;
	int i;

	guest_create(g, flags);
	guest_start(g, MODE_LONG, BLOB(count));
	for (i = 0; i < vcpus; i++) {
		if (i)
			guest_thread_create(g, &t[i], i, GUEST_CODE, GUEST_STACK);
		else
			guest_thread_adopt(g, &t[0]);
		regs = vcpu_regs(&t[i].cpu);
		regs.rdi = PROGRESS + 8 * i;
		regs.rbx = 0x1000 * i;
		vcpu_set_regs(&t[i].cpu, &regs);
	}
	for (i = 0; i < vcpus; i++)
		guest_thread_start(&t[i], -1);
}

static uint64_t progress(struct guest *g, int vcpu)
{
	return ((volatile uint64_t *)(g->mem + PROGRESS))[vcpu];
}

static bool all_progress(struct guest *g, int vcpus)
{
	uint64_t before[256];
	int i, tries, left;

	for (i = 0; i < vcpus; i++)
		before[i] = progress(g, i);
	for (tries = 0; tries < 600; tries++) {
		usleep(100000);
		for (left = i = 0; i < vcpus; i++)
			left += progress(g, i) == before[i];
		if (!left)
			return true;
	}
	return false;
}

static void stop_counting(struct guest *g, struct guest_thread *t, int vcpus)
{
	int i;

	for (i = 0; i < vcpus; i++) {
		guest_thread_stop(&t[i]);
		if (i)
			guest_thread_destroy(&t[i]);
	}
	guest_destroy(g);
}

static bool vm_works(void)
{
	struct guest g;
	bool ok;

	guest_create(&g, GUEST_IRQCHIP);
	guest_start(&g, MODE_LONG, BLOB(done));
	ok = guest_run(&g) == KVM_EXIT_IO && guest_at_port(&g, PORT_DONE);
	guest_destroy(&g);
	return ok;
}

/* A client that is doing one thing or another until it is killed. */
static void victim(unsigned int kind)
{
	struct guest_thread t[3];
	struct guest g;
	int i;

	switch (kind) {
	case 0:
		for (;;)
			vm_works();
	case 1:
		start_counting(&g, t, 3, GUEST_IRQCHIP);
		for (;;)
			pause();
	case 2:		/* slots that come and go under a guest */
		start_counting(&g, t, 2, 0);
		for (i = 0;; i++)
			vm_set_slot(g.vm, 2 + i % 4, i & 8 ? KVM_MEM_LOG_DIRTY_PAGES : 0, 0x10000000 + i % 4 * 0x1000000,
				    i & 4 ? 0 : 0x200000, g.mem + 0x200000);
	case 3:		/* memory that is given back under a guest */
		start_counting(&g, t, 2, GUEST_IRQCHIP | GUEST_PIT);
		for (;;)
			madvise(g.mem + GUEST_HIGH, 0x200000, MADV_DONTNEED);
	default:	/* vCPUs that come, and the VM that stays */
		guest_create(&g, GUEST_IRQCHIP);
		for (i = 1;; i++)
			if (vm_ioctl(g.vm, KVM_CREATE_VCPU, i) < 0)
				pause();
	}
}

static const char *storm_kill(long count)
{
	static char figures[100];
	long i, early = 0;
	int status;
	pid_t pid;

	for (i = 0; i < count; i++) {
		pid = fork();
		if (!pid)
			victim(i % 5);
		usleep(below(30000));
		kill(pid, SIGKILL);
		if (waitpid(pid, &status, 0) != pid)
			return NULL;
		early += !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL;
		if (!((i + 1) % 100))
			fprintf(stderr, "# %ld clients killed\n", i + 1);
	}
	snprintf(figures, sizeof(figures), "%ld clients killed, %ld of them too late", count, early);
	return early ? NULL : figures;
}

static void nothing(int sig)
{
}

static const char *storm_signals(long count)
{
	static char figures[100];
	struct guest_thread t[2];
	struct guest g;
	uint64_t before;
	long i;

	start_counting(&g, t, 2, GUEST_IRQCHIP);
	before = progress(&g, 0);
	for (i = 0; i < count; i++) {
		pthread_kill(t[i & 1].thread, SIGUSR1);
		if (!below(8))
			usleep(below(300));
	}
	if (!all_progress(&g, 2))
		return NULL;
	snprintf(figures, sizeof(figures), "%ld signals to two threads in KVM_RUN, the guest's first vCPU counted %lu", count,
		 progress(&g, 0) - before);
	stop_counting(&g, t, 2);
	return figures;
}

#define CPU1	"/sys/devices/system/cpu/cpu1/online"

static const char *storm_hotplug(long count)
{
	static char figures[100];
	struct guest_thread t[2][2];
	struct guest g[2];
	long i;

	if (access(CPU1, W_OK))
		return "";
	start_counting(&g[0], t[0], 2, GUEST_IRQCHIP);
	start_counting(&g[1], t[1], 2, 0);
	for (i = 0; i < count; i++) {
		if (!write_file(CPU1, "0") || (!(i % 8) && !(all_progress(&g[0], 2) && all_progress(&g[1], 2))))
			return NULL;
		if (!write_file(CPU1, "1") || (!(i % 8) && !(all_progress(&g[0], 2) && all_progress(&g[1], 2))))
			return NULL;
	}
	for (i = 0; i < 2; i++)
		stop_counting(&g[i], t[i], 2);
	snprintf(figures, sizeof(figures), "CPU 1 went and came %ld times under two guests with two vCPUs each", count);
	return figures;
}

/* Tries to open the device and to run a guest, whether or not there is one; says how often it did. */
static void opener(int out)
{
	struct kvm_userspace_memory_region slot = { .memory_size = 0x1000 };
	long done[2] = { 0 };
	int dev, vm, cpu;

	signal(SIGTERM, nothing);
	slot.userspace_addr = (uintptr_t)mem_alloc(0x1000);
	while (getppid() != 1) {
		dev = open("/dev/keel", O_RDWR | O_CLOEXEC);
		if (dev < 0) {
			usleep(100);
			continue;
		}
		done[0]++;
		vm = ioctl(dev, KVM_CREATE_VM, 0);
		cpu = vm < 0 ? -1 : ioctl(vm, KVM_CREATE_VCPU, 0);
		if (cpu >= 0 && !ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot)) {
			done[1]++;
			/* Real mode at the reset vector, where there is nothing: it ends at once. */
			ioctl(cpu, KVM_RUN, 0);
		}
		if (write(out, done, sizeof(done)) != sizeof(done))
			_exit(1);
		done[0] = done[1] = 0;
		close(cpu);
		close(vm);
		close(dev);
		/* So that the module is free now and then. */
		usleep(below(40000));
	}
	_exit(0);
}

#define OPENERS	4

static const char *storm_module(long count)
{
	const char *ko = getenv("KEEL_KO"), *args = getenv("KEEL_MODARGS");
	static char figures[100];
	long i, busy = 0, opened = 0, ran = 0, done[2];
	pid_t pid[OPENERS];
	int fds[2], fd;

	if (!ko)
		return "";
	if (pipe2(fds, O_NONBLOCK))
		return NULL;
	fcntl(fds[1], F_SETFL, 0);
	for (i = 0; i < OPENERS; i++) {
		pid[i] = fork();
		below(2);
		if (!pid[i])
			opener(fds[1]);
	}
	fd = open(ko, O_RDONLY);
	for (i = 0; i < count; ) {
		while (read(fds[0], done, sizeof(done)) == sizeof(done)) {
			opened += done[0];
			ran += done[1];
		}
		if (syscall(SYS_delete_module, "keel", O_NONBLOCK)) {
			busy++;
			usleep(below(1000));
			continue;
		}
		if (syscall(SYS_finit_module, fd, args ? args : "", 0))
			return NULL;
		i++;
		usleep(below(20000));
	}
	for (i = 0; i < OPENERS; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	close(fd);
	close(fds[0]);
	close(fds[1]);
	snprintf(figures, sizeof(figures), "%ld times unloaded and loaded, %ld times refused; opened %ld times, %ld vCPUs ran",
		 count, busy, opened, ran);
	return opened && ran ? figures : NULL;
}

#define GROUP		"/run/storm-cgroup"
#define OOM_MEMORY	0x10000000UL

/* A VM with four times the memory that its group may have */
static void oom_client(void)
{
	char pid[20];
	struct kvm_regs regs;
	struct guest g;

	snprintf(pid, sizeof(pid), "%d", getpid());
	if (!write_file(GROUP "/storm/cgroup.procs", pid))
		_exit(1);
	guest_create(&g, GUEST_IRQCHIP);
	MUST(vm_set_slot(g.vm, 1, 0, GUEST_HIGH, 0, NULL));
	MUST(vm_set_slot(g.vm, 1, 0, GUEST_HIGH, OOM_MEMORY, mem_alloc(OOM_MEMORY)));
	guest_start(&g, MODE_LONG, BLOB(touch));
	regs = vcpu_regs(&g.cpu);
	regs.rsi = OOM_MEMORY / PAGE_SIZE;
	vcpu_set_regs(&g.cpu, &regs);
	guest_run(&g);
	_exit(2);
}

static const char *storm_oom(long count)
{
	static char figures[100];
	int status;
	pid_t pid;
	long i;

	mkdir(GROUP, 0755);
	if (mount("none", GROUP, "cgroup2", 0, NULL) || !write_file(GROUP "/cgroup.subtree_control", "+memory") ||
	    mkdir(GROUP "/storm", 0755))
		return "";
	if (!write_file(GROUP "/storm/memory.max", "67108864"))
		return NULL;
	/* The OOM killer shows a call trace each time, which the test host would take for a complaint. */
	write_file("/sys/module/printk/parameters/ignore_loglevel", "N");
	klogctl(8, NULL, 1);
	for (i = 0; i < count; i++) {
		pid = fork();
		if (!pid)
			oom_client();
		if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			break;
	}
	klogctl(8, NULL, 7);
	write_file("/sys/module/printk/parameters/ignore_loglevel", "Y");
	rmdir(GROUP "/storm");
	umount(GROUP);
	snprintf(figures, sizeof(figures), "%ld guests of 256 MiB in a group of 64 MiB, all killed", count);
	return i == count ? figures : NULL;
}

static const char *storm_many(long count)
{
	struct guest *g = calloc(count, sizeof(*g));
	static char figures[100];
	long i, ran = 0, round;

	for (i = 0; i < count; i++) {
		guest_create(&g[i], i & 1 ? GUEST_IRQCHIP | GUEST_PIT : 0);
		guest_start(&g[i], MODE_LONG, BLOB(done));
	}
	for (round = 0; round < 3; round++)
		for (i = 0; i < count; i++) {
			guest_start(&g[i], MODE_LONG, BLOB(done));
			ran += guest_run(&g[i]) == KVM_EXIT_IO && guest_at_port(&g[i], PORT_DONE);
		}
	for (i = 0; i < count; i++)
		guest_destroy(&g[i]);
	free(g);
	snprintf(figures, sizeof(figures), "%ld VMs at once, %ld runs", count, ran);
	return ran == 3 * count ? figures : NULL;
}

static const char *storm_vcpus(long count)
{
	static struct guest_thread t[256];
	static char figures[100];
	uint64_t least = ~0ULL, most = 0;
	struct guest g;
	int i, round;

	start_counting(&g, t, count, GUEST_IRQCHIP);
	for (round = 0; round < 5; round++)
		if (!all_progress(&g, count))
			return NULL;
	for (i = 0; i < count; i++) {
		least = progress(&g, i) < least ? progress(&g, i) : least;
		most = progress(&g, i) > most ? progress(&g, i) : most;
	}
	stop_counting(&g, t, count);
	snprintf(figures, sizeof(figures), "%ld vCPUs on %ld CPUs, the slowest counted %lu, the fastest %lu", count,
		 sysconf(_SC_NPROCESSORS_ONLN), least, most);
	return figures;
}

/* The first step of a suspend: all threads stop, and go on. The emulated host's root file system does not survive more. */
static const char *storm_freezer(long count)
{
	static char figures[100];
	struct guest_thread t[2];
	struct guest g;
	long i;

	if (!write_file("/sys/power/pm_test", "freezer"))
		return "";
	start_counting(&g, t, 2, GUEST_IRQCHIP);
	for (i = 0; i < count; i++)
		if (!write_file("/sys/power/state", "freeze") || !all_progress(&g, 2))
			return NULL;
	stop_counting(&g, t, 2);
	write_file("/sys/power/pm_test", "none");
	snprintf(figures, sizeof(figures), "%ld times suspended as far as the freezer", count);
	return figures;
}

static const struct storm {
	const char *name;
	const char *(*run)(long count);	/* figures; "" it cannot be done here; NULL: failed */
	long count;
} storms[] = {
	{ "kill", storm_kill, 1000 },
	{ "signals", storm_signals, 100000 },
	{ "hotplug", storm_hotplug, 50 },
	{ "module", storm_module, 100 },
	{ "oom", storm_oom, 20 },
	{ "many", storm_many, 200 },
	{ "vcpus", storm_vcpus, 64 },
	{ "freezer", storm_freezer, 3 },
};

/*
 * What may be missing after a storm, KiB. What caches keep is given back before it is measured (health.c); the kernel's own
 * work goes on. A leak of one page in every VM of a storm with 200 is 800.
 */
#define LOST_KERNEL	4096
#define LOST_SLAB	256
#define LOST_PERCPU	64
#define LOST_VMALLOC	256
#define LOST_STACKS	64	/* four threads: the kernel's own workers come and go */

/* The caches that have grown are named, from a size that matters. */
#define SHOWN_SLAB	40

static struct slabs slabs_before;

static bool healthy(const struct meminfo *before, long taint)
{
	struct meminfo m, lost;
	int tries;
	long refs;

	if (host_taint() != taint)
		ksft_print_msg("the kernel's taint mask was %lx and is %lx\n", taint, host_taint());
	for (tries = 0; tries < 6; tries++) {
		m = host_meminfo();
		lost = (struct meminfo) {
			m.kernel - before->kernel, m.slab - before->slab, m.percpu - before->percpu,
			m.vmalloc - before->vmalloc, m.stacks - before->stacks,
		};
		refs = read_number("/sys/module/keel/refcnt");
		if (lost.kernel < LOST_KERNEL && lost.slab < LOST_SLAB && lost.percpu < LOST_PERCPU &&
		    lost.vmalloc < LOST_VMALLOC && lost.stacks < LOST_STACKS && refs <= 0)
			break;
	}
	ksft_print_msg("missing KiB: kernel %ld slab %ld percpu %ld vmalloc %ld stacks %ld; module's references %ld\n", lost.kernel,
		       lost.slab, lost.percpu, lost.vmalloc, lost.stacks, refs);
	host_slabs_print_grown(&slabs_before, SHOWN_SLAB);
	return tries < 6 && host_taint() == taint && waitpid(-1, NULL, WNOHANG) < 0 && vm_works();
}

static void weather(const struct storm *s, long count)
{
	struct meminfo before;
	uint64_t start;
	const char *figures;
	long taint;
	bool ok;

	/* What a first time takes for good. */
	s->run(s == &storms[0] ? 20 : count / 10 + 2);
	before = host_meminfo();
	host_slabs(&slabs_before);
	taint = host_taint();
	start = ns_now();
	figures = s->run(count);
	ok = figures && *figures && healthy(&before, taint);
	/* What a cache has kept is not missing a second time. */
	if (figures && *figures && !ok) {
		before = host_meminfo();
		host_slabs(&slabs_before);
		figures = s->run(count);
		ok = figures && healthy(&before, taint);
	}
	if (figures && !*figures)
		ksft_test_result_skip("%s: not on this host\n", s->name);
	else if (!figures)
		ksft_test_result_fail("%s: it did not hold\n", s->name);
	else
		ksft_test_result(ok, "%s: %s, in %lu s\n", s->name, figures, (ns_now() - start) / 1000000000);
}

int main(int argc, char **argv)
{
	long count = 0;
	int i, n, named = 1;

	if (argc > 2 && !strcmp(argv[1], "-n")) {
		count = atol(argv[2]);
		named = 3;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	ksft_set_plan(named < argc ? argc - named : ARRAY_SIZE(storms));
	for (i = 0; i < ARRAY_SIZE(storms); i++) {
		for (n = named; n < argc && strcmp(argv[n], storms[i].name); n++)
			;
		if (n < argc || named >= argc)
			weather(&storms[i], count ? count : storms[i].count);
	}
	ksft_finished();
}
