// SPDX-License-Identifier: GPL-2.0-only
/*
 * Builds a guest's machine from the options of keel run, and takes it apart.
 *
 * The order is that of the PCI slots, so that a guest's devices have the same names each time:
 * disks, networks, shares, then the small ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"

#define KERNEL_FILE_MAX		(2 * KEEL_GIB)
#define FIRMWARE_FILE_MAX	(16 * KEEL_MIB)

#define COM1_PORT		0x3f8
#define COM1_IRQ		4
#define RTC_PORT		0x70
#define KBC_PORT		0x60
#define KBC_IRQ			1

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

/* The board -------------------------------------------------------------------------------- */

static int board_claim(struct machine *m)
{
	struct keel_bus *bus = keel_vm_bus(m->vm);
	const struct {
		uint64_t port, count;
		const struct keel_bus_ops *ops;
		void *dev;
	} claims[] = {
		{ KEEL_PM_PORT, KEEL_PM_PORTS, &keel_pm_ops, m->pm },
		{ COM1_PORT, KEEL_UART_PORTS, &keel_uart_ops, m->uart },
		{ RTC_PORT, KEEL_RTC_PORTS, &keel_rtc_ops, m->rtc },
		{ KBC_PORT, KEEL_I8042_PORTS, &keel_i8042_ops, m->kbc },
	};
	int ret = 0;

	for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]) && !ret; i++)
		ret = keel_bus_add(bus, KEEL_PIO, claims[i].port, claims[i].count, claims[i].ops,
				   claims[i].dev);
	return ret;
}

static int board_create(struct machine *m)
{
	struct keel_power power = {
		.reset = guest_reset, .off = guest_off, .exit = guest_exit, .opaque = m,
	};
	struct keel_bus *bus = keel_vm_bus(m->vm);
	struct keel_irq kbc_irq = keel_vm_irq(m->vm, KBC_IRQ);
	struct keel_irq sci = keel_vm_irq(m->vm, KEEL_PM_IRQ);
	struct keel_irq pci_irq[2] = {
		keel_vm_irq(m->vm, KEEL_PCI_IRQ_EVEN), keel_vm_irq(m->vm, KEEL_PCI_IRQ_ODD),
	};
	struct keel_uart_config uart = {
		.irq = keel_vm_irq(m->vm, COM1_IRQ),
		.output = keel_console_output,
		.ready = keel_console_ready,
	};
	int ret;

	ret = keel_console_create(STDIN_FILENO, STDOUT_FILENO, console_quit, m, &m->console);
	if (ret)
		return ret;
	uart.opaque = m->console;
	ret = keel_uart_create(&uart, &m->uart);
	if (!ret)
		ret = keel_pci_create(bus, keel_vm_memory(m->vm), keel_vm_host(m->vm), pci_irq,
				      &m->pci);
	if (!ret)
		ret = keel_rtc_create(keel_vm_memory(m->vm), NULL, NULL, &m->rtc);
	if (!ret)
		ret = keel_i8042_create(&kbc_irq, &power, &m->kbc);
	if (!ret)
		ret = keel_sysports_create(bus, m->pci, &power, &m->ports);
	if (!ret)
		ret = keel_pm_create(&sci, &power, &m->pm);
	return ret ? ret : board_claim(m);
}

/* PCI devices ------------------------------------------------------------------------------ */

/* A file without a name in $TMPDIR or /var/tmp: it ends with its last descriptor. */
static int scratch_create(uint64_t size)
{
	const char *dir = getenv("TMPDIR");
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/keel-disk.XXXXXX", dir && *dir ? dir : "/var/tmp");
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return keel_fail(errno, "--disk auto: cannot make %s: %s", path, strerror(errno));
	unlink(path);
	if (ftruncate(fd, size) < 0) {
		int err = errno;

		close(fd);
		return keel_fail(err, "--disk auto: no disk of %llu MiB: %s",
				 (unsigned long long)(size / KEEL_MIB), strerror(err));
	}
	return fd;
}

static int disk_create(struct machine *m, const struct disk_option *option)
{
	struct keel_blk_config blk = option->blk;
	int ret;

	if (!option->scratch)
		return keel_blk_create(m->pci, &blk);
	blk.fd = scratch_create(option->scratch);
	if (blk.fd < 0)
		return blk.fd;
	ret = keel_blk_create(m->pci, &blk);
	close(blk.fd);
	return ret;
}

static int net_create(struct machine *m, const struct net_option *option)
{
	struct keel_net_config config = option->net;
	struct keel_net *net;
	int ret;

	config.plain = option->model == MODEL_PCNET;
	ret = keel_net_create(&config, &net);
	if (ret)
		return ret;
	if (option->model == MODEL_PCNET)
		return keel_pcnet_create(m->pci, net);
	return keel_vnet_create(m->pci, net, !option->no_vhost, false);
}

static int vconsole_create(struct machine *m)
{
	struct keel_vconsole_config config = {
		.output = keel_console_write, .ready = keel_console_ready, .opaque = m->console,
	};

	return keel_vconsole_create(m->pci, &config, &m->vconsole);
}

static int devices_create(struct machine *m, const struct options *o)
{
	int ret = 0;

	for (unsigned int i = 0; i < o->disks && !ret; i++)
		ret = disk_create(m, &o->disk[i]);
	for (unsigned int i = 0; i < o->nets && !ret; i++)
		ret = net_create(m, &o->net[i]);
	for (unsigned int i = 0; i < o->shares && !ret; i++)
		ret = keel_share_create(m->pci, &o->share[i].share);
	if (!ret && o->virtio_console)
		ret = vconsole_create(m);
	if (!ret && o->rng)
		ret = keel_rng_create(m->pci, false);
	if (!ret && o->balloon)
		ret = keel_balloon_create(m->pci, false, &m->balloon);
	if (!ret && o->vsock)
		ret = keel_vsock_create(m->pci, o->vsock);
	return ret;
}

/* The kernel ------------------------------------------------------------------------------- */

static int kernel_load(struct machine *m, const struct options *o)
{
	struct keel_boot boot = {
		.cmdline = o->append ? o->append :
			   o->virtio_console ? "console=hvc0" : "console=ttyS0",
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

static int firmware_load(struct machine *m, const char *path)
{
	size_t size = 0;
	void *data;
	int ret = keel_file_load(path, FIRMWARE_FILE_MAX, &data, &size);

	if (ret)
		return ret;
	ret = keel_vm_firmware(m->vm, data, size);
	free(data);
	return ret;
}

int machine_create(struct machine *m, const struct options *o)
{
	int ret = keel_vm_create(&o->vm, &m->vm);

	if (!ret && o->prealloc)
		ret = keel_memory_populate(keel_vm_memory(m->vm));
	if (!ret)
		ret = board_create(m);
	if (!ret)
		ret = devices_create(m, o);
	if (!ret)
		ret = o->firmware ? firmware_load(m, o->firmware) : kernel_load(m, o);
	return ret;
}

static size_t uart_input(void *device, const uint8_t *data, size_t size)
{
	return keel_uart_input(device, data, size);
}

static size_t vconsole_input(void *device, const uint8_t *data, size_t size)
{
	return keel_vconsole_input(device, data, size);
}

int machine_attach(struct machine *m)
{
	if (m->vconsole)
		return keel_console_attach(m->console, vconsole_input, m->vconsole);
	return keel_console_attach(m->console, uart_input, m->uart);
}

void machine_destroy(struct machine *m)
{
	/* the bus first, whose devices write to the console; then the console, which calls the UART */
	if (m->console)
		keel_console_stop(m->console);
	keel_pci_destroy(m->pci);
	keel_console_destroy(m->console);
	keel_uart_destroy(m->uart);
	keel_rtc_destroy(m->rtc);
	keel_i8042_destroy(m->kbc);
	keel_sysports_destroy(m->ports);
	keel_pm_destroy(m->pm);
	keel_vm_destroy(m->vm);
}
