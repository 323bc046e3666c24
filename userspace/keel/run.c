// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel run: one guest, from the command line to its exit status.
 *
 * The main thread parses, builds the machine and then only waits: for the VM's end, for a signal,
 * or for the second that is up between two looks at whether the guest has halted for good. Signals
 * are blocked in every thread and read from a signalfd here, so an orderly end is the only kind
 * that a signal can cause.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "keel.h"
#include "libkeel.h"

#define KERNEL_FILE_MAX		(2 * KEEL_GIB)
#define HALT_CHECK_MS		1000

#define COM1_PORT		0x3f8
#define COM1_IRQ		4
#define RTC_PORT		0x70
#define KBC_PORT		0x60
#define KBC_IRQ			1

struct options {
	struct keel_vm_config vm;
	const char *kernel, *initrd, *append;
	bool stats, no_acpi;
};

struct machine {
	struct keel_vm *vm;
	struct keel_pci *pci;
	struct keel_console *console;
	struct keel_uart *uart;
	struct keel_rtc *rtc;
	struct keel_i8042 *kbc;
	struct keel_sysports *ports;
	struct keel_pm *pm;
};

static const char help[] =
	"usage: keel run --kernel FILE [OPTIONS]\n"
	"\n"
	"Runs a Linux guest. Its first serial port (ttyS0) is this terminal: Ctrl-A x ends the\n"
	"guest, Ctrl-A Ctrl-A (or Ctrl-A a) sends Ctrl-A.\n"
	"\n"
	"  -k, --kernel FILE    bzImage or uncompressed ELF vmlinux for x86-64\n"
	"  -i, --initrd FILE    initial RAM disk\n"
	"  -a, --append TEXT    kernel command line (default: console=ttyS0)\n"
	"  -m, --memory SIZE    memory: a number with K, M, G or T, MiB when bare (default: 512M)\n"
	"  -c, --cpus N         number of virtual CPUs (default: 1)\n"
	"  -d, --device PATH    /dev/keel (default) or /dev/kvm\n"
	"      --no-acpi        only an MP table tells the guest of its CPUs and interrupts\n"
	"      --stats          at the end, say on stderr what left the kernel how often\n"
	"  -h, --help           this text\n"
	"\n"
	"exit status:\n"
	"  S       the guest wrote the byte S to I/O port 0xf4 (outb 0xf4)\n"
	"  0       the guest powered off, asked for a reset or halted for good, or Ctrl-A x\n"
	"  1       bad input, or the host failed\n"
	"  2       the guest shut down by a triple fault\n"
	"  3       the hypervisor could not go on with the guest\n"
	"  128+N   signal N (SIGINT, SIGTERM, SIGHUP) ended the guest\n";

static int fail(void)
{
	fprintf(stderr, "keel: %s\n", keel_error());
	return KEEL_END_ERROR;
}

/* Options ---------------------------------------------------------------------------------- */

static int cpus_parse(const char *text, unsigned int *cpus)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || !n || n > KEEL_MAX_CPUS)
		return keel_fail(EINVAL, "'%s' is no number of CPUs: give 1 to %u with -c", text,
				 KEEL_MAX_CPUS);
	*cpus = n;
	return 0;
}

static int options_bad(char **argv, int opt)
{
	const char *arg = argv[optind - 1];

	if (opt == ':')
		return keel_fail(EINVAL, "option '%s' needs a value: try keel run --help", arg);
	if (optopt && arg[0] == '-' && arg[1] != '-')
		return keel_fail(EINVAL, "unknown option '-%c': try keel run --help", optopt);
	return keel_fail(EINVAL, "unknown or ambiguous option '%s': try keel run --help", arg);
}

/* Returns 1 when there is nothing left to do. */
static int options_parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "kernel", required_argument, NULL, 'k' },
		{ "initrd", required_argument, NULL, 'i' },
		{ "append", required_argument, NULL, 'a' },
		{ "memory", required_argument, NULL, 'm' },
		{ "cpus", required_argument, NULL, 'c' },
		{ "device", required_argument, NULL, 'd' },
		{ "no-acpi", no_argument, NULL, 'n' },
		{ "stats", no_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int opt, ret = 0;

	opterr = 0;
	while (!ret && (opt = getopt_long(argc, argv, ":k:i:a:m:c:d:h", longs, NULL)) != -1) {
		switch (opt) {
		case 'k':
			o->kernel = optarg;
			break;
		case 'i':
			o->initrd = optarg;
			break;
		case 'a':
			o->append = optarg;
			break;
		case 'm':
			ret = keel_parse_size(optarg, &o->vm.memory);
			break;
		case 'c':
			ret = cpus_parse(optarg, &o->vm.cpus);
			break;
		case 'd':
			o->vm.device = optarg;
			break;
		case 'n':
			o->no_acpi = true;
			break;
		case 's':
			o->stats = true;
			break;
		case 'h':
			fputs(help, stdout);
			return 1;
		default:
			ret = options_bad(argv, opt);
			break;
		}
	}
	if (!ret && optind < argc)
		ret = keel_fail(EINVAL, "unexpected argument '%s': try keel run --help",
				argv[optind]);
	if (!ret && !o->kernel)
		ret = keel_fail(EINVAL, "no kernel given: add --kernel FILE");
	return ret;
}

/* Machine ---------------------------------------------------------------------------------- */

static void guest_reset(void *opaque, const char *how)
{
	struct machine *m = opaque;

	keel_vm_end(m->vm, KEEL_END_GUEST, "the guest asked for a reset (%s)", how);
}

static void guest_off(void *opaque)
{
	struct machine *m = opaque;

	keel_vm_end(m->vm, KEEL_END_GUEST, "the guest powered off");
}

static void guest_exit(void *opaque, unsigned int status)
{
	struct machine *m = opaque;

	keel_vm_end(m->vm, status, NULL);
}

static void console_quit(void *opaque, const char *error)
{
	struct machine *m = opaque;

	if (error)
		keel_vm_end(m->vm, KEEL_END_ERROR, "cannot write the guest's output: %s", error);
	else
		keel_vm_end(m->vm, KEEL_END_GUEST, "ended by Ctrl-A x");
}

static int devices_create(struct machine *m)
{
	struct keel_power power = {
		.reset = guest_reset, .off = guest_off, .exit = guest_exit, .opaque = m,
	};
	struct keel_bus *bus = keel_vm_bus(m->vm);
	struct keel_irq kbc_irq = keel_vm_irq(m->vm, KBC_IRQ);
	struct keel_uart_config uart = {
		.irq = keel_vm_irq(m->vm, COM1_IRQ),
		.output = keel_console_output,
		.ready = keel_console_ready,
	};
	struct keel_irq sci = keel_vm_irq(m->vm, KEEL_PM_IRQ);
	struct keel_irq pci_irq[2] = {
		keel_vm_irq(m->vm, KEEL_PCI_IRQ_EVEN), keel_vm_irq(m->vm, KEEL_PCI_IRQ_ODD),
	};
	int ret;

	ret = keel_pci_create(bus, keel_vm_memory(m->vm), keel_vm_host(m->vm), pci_irq, &m->pci);
	if (ret)
		return ret;
	ret = keel_console_create(STDIN_FILENO, STDOUT_FILENO, console_quit, m, &m->console);
	if (ret)
		return ret;
	uart.opaque = m->console;
	ret = keel_uart_create(&uart, &m->uart);
	if (!ret)
		ret = keel_rtc_create(keel_vm_memory(m->vm), NULL, NULL, &m->rtc);
	if (!ret)
		ret = keel_i8042_create(&kbc_irq, &power, &m->kbc);
	if (!ret)
		ret = keel_sysports_create(bus, m->pci, &power, &m->ports);
	if (!ret)
		ret = keel_pm_create(&sci, &power, &m->pm);
	if (!ret)
		ret = keel_bus_add(bus, KEEL_PIO, KEEL_PM_PORT, KEEL_PM_PORTS, &keel_pm_ops, m->pm);
	if (!ret)
		ret = keel_bus_add(bus, KEEL_PIO, COM1_PORT, KEEL_UART_PORTS, &keel_uart_ops,
				   m->uart);
	if (!ret)
		ret = keel_bus_add(bus, KEEL_PIO, RTC_PORT, KEEL_RTC_PORTS, &keel_rtc_ops, m->rtc);
	if (!ret)
		ret = keel_bus_add(bus, KEEL_PIO, KBC_PORT, KEEL_I8042_PORTS, &keel_i8042_ops,
				   m->kbc);
	return ret;
}

static void machine_destroy(struct machine *m)
{
	/* the console first: its threads call the UART */
	keel_console_destroy(m->console);
	keel_pci_destroy(m->pci);
	keel_uart_destroy(m->uart);
	keel_rtc_destroy(m->rtc);
	keel_i8042_destroy(m->kbc);
	keel_sysports_destroy(m->ports);
	keel_pm_destroy(m->pm);
	keel_vm_destroy(m->vm);
}

static int files_load(struct machine *m, const struct options *o)
{
	struct keel_boot boot = {
		.cmdline = o->append ? o->append : "console=ttyS0",
		.cpus = o->vm.cpus,
		.timer_pin = keel_vm_timer_pin(m->vm),
		.acpi = !o->no_acpi,
	};
	struct keel_memory *mem = keel_vm_memory(m->vm);
	struct keel_kernel kernel;
	size_t size = 0;
	void *data;
	int ret;

	ret = keel_file_load(o->kernel, KERNEL_FILE_MAX, &data, &size);
	if (ret)
		return ret;
	ret = keel_load_kernel(data, size, mem, &kernel);
	free(data);
	data = NULL;
	if (!ret && o->initrd)
		ret = keel_file_load(o->initrd, o->vm.memory, &data, &boot.initrd_size);
	boot.initrd = data;
	if (!ret)
		ret = keel_boot_linux(mem, &kernel, &boot);
	free(data);
	return ret ? ret : keel_vm_boot(m->vm, &kernel);
}

/* Running ---------------------------------------------------------------------------------- */

static int signals_open(void)
{
	sigset_t set;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		return keel_fail(errno, "cannot create a signalfd: %s", strerror(errno));
	return fd;
}

static void wait_for_end(struct machine *m, int signal_fd)
{
	struct pollfd fds[2] = {
		{ .fd = keel_vm_end_fd(m->vm), .events = POLLIN },
		{ .fd = signal_fd, .events = POLLIN },
	};
	struct signalfd_siginfo info;

	for (;;) {
		int n = poll(fds, 2, HALT_CHECK_MS);

		if (n == 0)
			keel_vm_check_halted(m->vm);
		if (n <= 0)
			continue;
		if (fds[0].revents)
			return;
		if (read(signal_fd, &info, sizeof(info)) == sizeof(info))
			keel_vm_end(m->vm, 128 + info.ssi_signo, "ended by signal %u (%s)",
				    info.ssi_signo, strsignal(info.ssi_signo));
	}
}

static int machine_run(struct machine *m, const struct options *o, int signal_fd)
{
	const char *message;
	int status, ret;

	ret = keel_console_attach(m->console, m->uart);
	if (!ret)
		ret = keel_vm_start(m->vm);
	if (ret)
		keel_vm_end(m->vm, KEEL_END_ERROR, "%s", keel_error());
	else
		wait_for_end(m, signal_fd);
	/* unblocks a vCPU that waits for the console, and gives the terminal back */
	keel_console_stop(m->console);
	status = keel_vm_join(m->vm, &message);
	if (message)
		fprintf(stderr, "keel: %s\n", message);
	if (o->stats)
		keel_vm_stats(m->vm, stderr);
	return status;
}

int keel_run(int argc, char **argv)
{
	struct options o = {
		.vm = { .device = KEEL_DEVICE, .memory = 512 * KEEL_MIB, .cpus = 1 },
	};
	struct machine m = { 0 };
	int ret, status, signal_fd;

	ret = options_parse(argc, argv, &o);
	if (ret)
		return ret < 0 ? fail() : 0;
	signal_fd = signals_open();
	ret = signal_fd < 0 ? signal_fd : keel_vm_create(&o.vm, &m.vm);
	if (!ret)
		ret = devices_create(&m);
	if (!ret)
		ret = files_load(&m, &o);
	status = ret ? fail() : machine_run(&m, &o, signal_fd);
	machine_destroy(&m);
	return status;
}
