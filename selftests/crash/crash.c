// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest on each CPU, and then the host ends: by a panic, by a fault inside a window (crash_test), or because another
 * kernel is started (kexec). The kernel that comes next says what it found: see run. Or it sleeps, and the guests go on
 * when it wakes.
 *
 * usage: crash panic|fault|kexec KERNEL INITRAMFS CMDLINE
 *        crash suspend STATE...
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/kvm.h>
#include <linux/reboot.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COUNT_AT	0x800
#define CODE_AT		0x1000
#define MOST_CPUS	16

/* Waits in the guest, but for an exit now and then: the CPU is to be there when it is stopped. */
static const unsigned char code[] = {
	0x66, 0xff, 0x06, COUNT_AT & 0xff, COUNT_AT >> 8,	/* incl COUNT_AT */
	0x66, 0xb9, 0x00, 0x00, 0x10, 0x00,	/* mov $0x100000, %ecx */
	0x67, 0xe2, 0xfd,			/* 1: loop 1b */
	0x66, 0x31, 0xc0, 0x0f, 0xa2,		/* xor %eax, %eax; cpuid */
	0xeb, 0xeb,				/* jmp the start */
};

static char *memory[MOST_CPUS];

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "CPU %d", cpu);
}

static int must(int r, const char *what)
{
	if (r < 0)
		err(1, "%s", what);
	return r;
}

static void *guest(void *arg)
{
	int dev = must(open("/dev/keel", O_RDWR), "/dev/keel"), vm, vcpu, cpu = (long)arg;
	struct kvm_userspace_memory_region slot = { .memory_size = 0x2000 };
	/* Bochs ends no guest for an interrupt of the host that has its own switched off. */
	struct kvm_regs regs = { .rip = CODE_AT, .rflags = 0x202 };
	struct kvm_sregs sregs;

	pin(cpu);
	memcpy(memory[cpu] + CODE_AT, code, sizeof(code));
	slot.userspace_addr = (unsigned long)memory[cpu];
	vm = must(ioctl(dev, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
	vcpu = must(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	must(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	must(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	must(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
	/* The freezer interrupts it. */
	while (ioctl(vcpu, KVM_RUN, 0) < 0 && errno == EINTR)
		;
	/* A kexec stops the guests first. */
	if (errno != EIO)
		err(1, "KVM_RUN on CPU %d", cpu);
	pause();
	return NULL;
}

static void load(const char *kernel, const char *initramfs, const char *cmdline, unsigned long flags)
{
	int k = must(open(kernel, O_RDONLY), kernel), i = must(open(initramfs, O_RDONLY), initramfs);

	must(syscall(SYS_kexec_file_load, k, i, strlen(cmdline) + 1, cmdline, flags), "kexec_file_load");
}

static uint32_t count(int cpu)
{
	return *(volatile uint32_t *)(memory[cpu] + COUNT_AT);
}

static void start_guests(long cpus)
{
	pthread_t thread;
	long cpu;

	for (cpu = 0; cpu < cpus; cpu++) {
		memory[cpu] = mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (memory[cpu] == MAP_FAILED)
			err(1, "mmap");
		if (pthread_create(&thread, NULL, guest, (void *)cpu))
			err(1, "a thread");
	}
}

/* A guest that does not run for ten seconds has stopped. */
static void wait_for_guests(long cpus)
{
	uint32_t before;
	long cpu;
	int i;

	for (cpu = 0; cpu < cpus; cpu++) {
		before = count(cpu);
		for (i = 0; i < 1000 && count(cpu) == before; i++)
			usleep(10000);
		if (count(cpu) == before)
			errx(1, "the guest on CPU %ld does not run", cpu);
	}
}

static void write_to(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY), path);

	must(write(fd, text, strlen(text)), path);
	close(fd);
}

int main(int argc, char **argv)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (argc >= 3 && cpus <= MOST_CPUS && !strcmp(argv[1], "suspend")) {
		start_guests(cpus);
		for (argv += 2; *argv; argv++) {
			wait_for_guests(cpus);
			write_to("/sys/power/state", *argv);
			wait_for_guests(cpus);
			printf("guests go on after %s\n", *argv);
		}
		return 0;
	}
	if (argc != 5 || cpus > MOST_CPUS)
		errx(2, "usage: crash panic|fault|kexec KERNEL INITRAMFS CMDLINE, or suspend STATE...");
	load(argv[2], argv[3], argv[4], strcmp(argv[1], "kexec") ? KEXEC_FILE_ON_CRASH : 0);
	/* Another kernel can start the other CPUs only from the first. */
	pin(0);
	start_guests(cpus);
	/* With crash_test the host's end comes by itself. */
	sleep(strcmp(argv[1], "fault") ? 1 : 60);
	if (!strcmp(argv[1], "kexec"))
		must(syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL), "reboot");
	if (!strcmp(argv[1], "panic"))
		write_to("/proc/sysrq-trigger", "c");
	errx(1, "the host did not end");
}
