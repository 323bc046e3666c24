/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * libkeel: what a virtual machine monitor on /dev/keel (or /dev/kvm) is made of.
 *
 * This header is the only one a client includes. It has four parts: errors; guest memory and the
 * boot loaders, which are pure and touch no hypervisor; the bus and the interrupt line, the one
 * interface through which devices are reached and reach out; and the VM itself. Structs are opaque
 * unless their members are documented here.
 *
 * Every function that can fail returns 0 or a negative errno, with a sentence for the user in
 * keel_error(). Guest physical addresses are "gpa", and sizes are bytes.
 */
#ifndef LIBKEEL_H
#define LIBKEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define KEEL_DEVICE		"/dev/keel"

#define KEEL_MIB		(1ULL << 20)
#define KEEL_GIB		(1ULL << 30)
#define KEEL_PAGE_SIZE		4096ULL

/* Errors ----------------------------------------------------------------------------------- */

/**
 * keel_fail - record why a function fails
 * @err: positive errno
 * @fmt: one sentence for the user, without a newline: what is wrong and what to do
 *
 * The text is kept per thread until the next failure. Returns -@err.
 */
int keel_fail(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** keel_error - the sentence of this thread's last failure; never NULL */
const char *keel_error(void);

/**
 * keel_note - tell the user of something that is no failure of ours, on stderr
 *
 * The guest may be the cause, again and again: after a few dozen there are no more.
 */
void keel_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Guest memory ----------------------------------------------------------------------------- */

/* RAM fills [0, KEEL_LOW_MAX) first; the rest begins at 4 GiB and leaves the hole for devices. */
#define KEEL_LOW_MAX		(3 * KEEL_GIB)
#define KEEL_HIGH_BASE		(4 * KEEL_GIB)

struct keel_memory;

/**
 * keel_memory_create - reserve guest RAM
 * @size: bytes, a multiple of 4 KiB
 * @out: the memory, zeroed, backed by the host only as it is touched
 *
 * -EINVAL for a size that is no multiple of 4 KiB or below KEEL_MEMORY_MIN, -ENOMEM for more
 * than the host has.
 */
int keel_memory_create(uint64_t size, struct keel_memory **out);

/**
 * keel_memory_populate - have the host back all of it now
 * @mem: the memory
 *
 * -ENOMEM when the host has not so much, -EINVAL before Linux 5.14, or what else it says.
 */
int keel_memory_populate(struct keel_memory *mem);
void keel_memory_destroy(struct keel_memory *mem);

#define KEEL_MEMORY_MIN		(2 * KEEL_MIB)

/** keel_memory_at - host address of [@gpa, @gpa + @len), NULL unless all of it is RAM */
void *keel_memory_at(const struct keel_memory *mem, uint64_t gpa, uint64_t len);

/** keel_memory_low - end of the RAM below 4 GiB */
uint64_t keel_memory_low(const struct keel_memory *mem);
/** keel_memory_high - bytes of RAM that begin at KEEL_HIGH_BASE, or 0 */
uint64_t keel_memory_high(const struct keel_memory *mem);

/** keel_parse_size - "512", "512M", "2G" (K, M, G, T; MiB when bare) to bytes; -EINVAL, -ERANGE */
int keel_parse_size(const char *text, uint64_t *bytes);

/* Boot loaders ----------------------------------------------------------------------------- */

/* Where a loaded kernel lies and how it wants to be started. */
struct keel_kernel {
	uint64_t entry;		/* gpa of the 64-bit entry */
	uint64_t start, end;	/* gpa range that the kernel needs for itself until it runs */
	uint64_t initrd_max;	/* highest gpa that an initrd byte may have */
	uint32_t cmdline_max;	/* longest command line, without its NUL */
	uint8_t header[0x80];	/* the image's setup header, from offset 0x1f1 on */
	uint32_t header_len;
};

/**
 * keel_load_kernel - place a Linux kernel in guest memory
 * @image: contents of a bzImage or of an uncompressed ELF64 vmlinux; nothing in it is trusted
 * @size: its length
 *
 * -ENOEXEC for anything else or for a kernel that has no 64-bit entry, -ENOMEM when it does not
 * fit into memory.
 */
int keel_load_kernel(const void *image, size_t size, struct keel_memory *mem,
		     struct keel_kernel *out);
int keel_load_bzimage(const void *image, size_t size, struct keel_memory *mem,
		      struct keel_kernel *out);
int keel_load_elf(const void *image, size_t size, struct keel_memory *mem,
		  struct keel_kernel *out);

struct keel_boot {
	const void *initrd;		/* contents, or NULL */
	size_t initrd_size;
	const char *cmdline;		/* or NULL for an empty one */
	unsigned int cpus;
	unsigned int timer_pin;		/* of the I/O APIC: keel_vm_timer_pin() */
	bool acpi;			/* ACPI tables beside the MP table */
};

/**
 * keel_boot_linux - write what Linux expects to find at its 64-bit entry
 *
 * Boot parameters with memory map, command line and initrd; page tables, GDT, BIOS data area, MP
 * table and ACPI tables. -ENOMEM when the initrd does not fit, -E2BIG for a command line too long.
 */
int keel_boot_linux(struct keel_memory *mem, const struct keel_kernel *kernel,
		    const struct keel_boot *boot);

struct kvm_sregs;
struct kvm_regs;
/** keel_boot_regs - registers of the 64-bit boot protocol, over what the vCPU has after reset */
void keel_boot_regs(const struct keel_kernel *kernel, struct kvm_sregs *sregs,
		    struct kvm_regs *regs);

struct boot_e820_entry;
/** keel_e820_build - the memory map; returns the number of entries written, at most @max */
unsigned int keel_e820_build(const struct keel_memory *mem, struct boot_e820_entry *map,
			     unsigned int max);

/* The MP table needs an 8-bit APIC id for each vCPU and one for the I/O APIC. */
#define KEEL_MAX_CPUS		254
int keel_mptable_write(struct keel_memory *mem, unsigned int cpus, unsigned int timer_pin);

/**
 * keel_acpi_write - the ACPI tables of a machine with a PCI bus and the devices that keel_pm_ops,
 *		     keel_uart_ops, keel_i8042_ops and keel_rtc_ops are for, at their usual ports
 * @rsdp: where the first of them lies
 */
int keel_acpi_write(struct keel_memory *mem, unsigned int cpus, unsigned int timer_pin,
		    uint64_t *rsdp);

/** keel_file_load - read a whole file into malloc()ed memory; -EFBIG beyond @limit bytes */
int keel_file_load(const char *path, uint64_t limit, void **data, size_t *size);

/* Bus and interrupts ----------------------------------------------------------------------- */

enum keel_space { KEEL_PIO, KEEL_MMIO, KEEL_SPACES };

/*
 * A device's registers. Offsets count from the region's base. An access wider than @width, or one
 * that leaves the region, reaches the device as single bytes. vCPU threads call in parallel: the
 * device takes its own lock.
 */
struct keel_bus_ops {
	const char *name;
	unsigned int width;
	uint64_t (*read)(void *dev, uint64_t offset, unsigned int size);
	void (*write)(void *dev, uint64_t offset, uint64_t value, unsigned int size);
};

struct keel_bus;
int keel_bus_create(struct keel_bus **out);
void keel_bus_destroy(struct keel_bus *bus);

/** keel_bus_add - claim [@base, @base + @size); before the vCPUs run; -EEXIST on overlap */
int keel_bus_add(struct keel_bus *bus, enum keel_space space, uint64_t base, uint64_t size,
		 const struct keel_bus_ops *ops, void *dev);

/**
 * keel_bus_access - one access of 1 to 8 bytes at @addr
 * @data: little-endian, as it stands in the kvm_run page
 *
 * Addresses that nobody claims read as all ones and ignore writes.
 */
void keel_bus_access(struct keel_bus *bus, enum keel_space space, uint64_t addr, void *data,
		     unsigned int size, bool write);

/* An interrupt line, as the device that drives it sees it. A zeroed one leads nowhere. */
struct keel_irq {
	void (*set)(void *controller, unsigned int line, bool level);
	void *controller;
	unsigned int line;
};

static inline void keel_irq_set(const struct keel_irq *irq, bool level)
{
	if (irq->set)
		irq->set(irq->controller, irq->line, level);
}

/*
 * What the hypervisor does for devices that are moved by eventfds. Not being able to do it ends the
 * VM; only an ioeventfd may fail, with a negative errno, and then the device sees the accesses itself.
 */
struct keel_host {
	/* signal @fd for writes of @size bytes to port or memory @address, in place of an exit */
	int (*ioeventfd)(void *opaque, bool io, uint64_t address, unsigned int size, int fd,
			 bool attach);
	/* a GSI for messages, or a negative number when there are too many */
	int (*gsi_alloc)(void *opaque);
	void (*msi_route)(void *opaque, int gsi, uint64_t address, uint32_t data);
	/* raise @gsi whenever @fd is signalled */
	void (*irqfd)(void *opaque, int fd, int gsi, bool attach);
	void *opaque;
};

/* PCI -------------------------------------------------------------------------------------- */

/* Where the devices' registers may be: windows of the memory and of the port space. */
#define KEEL_PCI_MEM		0xc0000000u
#define KEEL_PCI_MEM_SIZE	0x3ec00000u
#define KEEL_PCI_IO		0xc000u
#define KEEL_PCI_IO_SIZE	0x4000u

#define KEEL_PCI_IRQ_EVEN	10	/* of devices in even slots */
#define KEEL_PCI_IRQ_ODD	11

struct keel_pci;
/**
 * keel_pci_create - a PCI bus with nothing but its host bridge; before the vCPUs run
 * @bus: gets the windows; ports 0xcf8 to 0xcff are keel_sysports_create()'s
 * @irq: the lines of KEEL_PCI_IRQ_EVEN and KEEL_PCI_IRQ_ODD
 */
int keel_pci_create(struct keel_bus *bus, struct keel_memory *memory, const struct keel_host *host,
		    const struct keel_irq irq[2], struct keel_pci **out);
/** keel_pci_destroy - with all devices; no vCPU runs any more */
void keel_pci_destroy(struct keel_pci *pci);
/** keel_pci_list - a line of text for each device */
void keel_pci_list(struct keel_pci *pci, void (*line)(void *opaque, const char *text),
		   void *opaque);

/* Devices ---------------------------------------------------------------------------------- */

struct keel_uart;
struct keel_uart_config {
	struct keel_irq irq;
	/* a byte left the transmitter; may block; no lock held */
	void (*output)(void *opaque, uint8_t byte);
	/* the receiver has room after keel_uart_input() took too little; lock held */
	void (*ready)(void *opaque);
	void *opaque;
};
int keel_uart_create(const struct keel_uart_config *config, struct keel_uart **out);
void keel_uart_destroy(struct keel_uart *uart);
/** keel_uart_input - offer received bytes; returns how many the receiver took */
size_t keel_uart_input(struct keel_uart *uart, const uint8_t *data, size_t len);
extern const struct keel_bus_ops keel_uart_ops;
#define KEEL_UART_PORTS		8

struct keel_rtc;
/* @now fills in the time of day in nanoseconds since 1970; NULL means the host's clock, in UTC. */
int keel_rtc_create(const struct keel_memory *mem, uint64_t (*now)(void *opaque), void *opaque,
		    struct keel_rtc **out);
void keel_rtc_destroy(struct keel_rtc *rtc);
extern const struct keel_bus_ops keel_rtc_ops;
#define KEEL_RTC_PORTS		2

/* How a device tells that the guest asked the machine to end. */
struct keel_power {
	void (*reset)(void *opaque, const char *how);
	void (*off)(void *opaque);
	void (*exit)(void *opaque, unsigned int status);
	void *opaque;
};

struct keel_i8042;
int keel_i8042_create(const struct keel_irq *irq, const struct keel_power *power,
		      struct keel_i8042 **out);
void keel_i8042_destroy(struct keel_i8042 *kbc);
extern const struct keel_bus_ops keel_i8042_ops;
#define KEEL_I8042_PORTS	5

/**
 * keel_sysports_create - exit port 0xf4, reset ports 0x92 and 0xcf9, the silent POST port, and the
 *			  configuration ports of @pci, which may be NULL
 */
struct keel_sysports;
int keel_sysports_create(struct keel_bus *bus, struct keel_pci *pci,
			 const struct keel_power *power, struct keel_sysports **out);
void keel_sysports_destroy(struct keel_sysports *ports);

#define KEEL_PORT_EXIT		0xf4
#define KEEL_PORT_RESET		0xcf9
#define KEEL_RESET_VALUE	0x06	/* resets all */

/* The ACPI power management registers: PM1 events, then PM1 control. */
struct keel_pm;
/** keel_pm_create - @sci: the line of KEEL_PM_IRQ */
int keel_pm_create(const struct keel_irq *sci, const struct keel_power *power,
		   struct keel_pm **out);
/** keel_pm_button - press the power button; false when the guest does not listen to it */
bool keel_pm_button(struct keel_pm *pm);
void keel_pm_destroy(struct keel_pm *pm);
extern const struct keel_bus_ops keel_pm_ops;
#define KEEL_PM_PORT		0x600
#define KEEL_PM_CONTROL		4	/* offset of PM1 control */
#define KEEL_PM_PORTS		6
#define KEEL_PM_IRQ		9
#define KEEL_PM_S5		5	/* the sleep type that powers off */

/* PCI devices: each is the bus's from its creation on. "unthreaded" is for tests. ---------- */

enum keel_cache { KEEL_CACHE_WRITEBACK, KEEL_CACHE_WRITETHROUGH, KEEL_CACHE_NONE };

struct keel_blk_config {
	const char *path;		/* image or block device; NULL: fd, which is duplicated */
	int fd;
	enum keel_cache cache;		/* of what the host may lose; see virtio/blk.c */
	bool readonly;
	unsigned int queues;		/* 1 to 8 */
	char serial[21];
	bool unthreaded, no_uring;
};
int keel_blk_create(struct keel_pci *pci, const struct keel_blk_config *config);

int keel_rng_create(struct keel_pci *pci, bool unthreaded);

struct keel_balloon;
int keel_balloon_create(struct keel_pci *pci, bool unthreaded, struct keel_balloon **out);
/** keel_balloon_set - ask the guest for @bytes of its memory; -EINVAL for all of it or more */
int keel_balloon_set(struct keel_balloon *balloon, uint64_t bytes);
/** keel_balloon_size - bytes that the guest says it has given */
uint64_t keel_balloon_size(struct keel_balloon *balloon);
/** keel_balloon_stats - what the guest said last of its memory; asks for new numbers */
void keel_balloon_stats(struct keel_balloon *balloon,
			void (*stat)(void *opaque, const char *name, uint64_t value), void *opaque);

struct keel_vconsole;
struct keel_vconsole_config {
	/* the guest wrote; may block */
	void (*output)(void *opaque, const uint8_t *data, size_t size);
	/* there may be room again after keel_vconsole_input() took too little */
	void (*ready)(void *opaque);
	void *opaque;
	bool unthreaded;
};
int keel_vconsole_create(struct keel_pci *pci, const struct keel_vconsole_config *config,
			 struct keel_vconsole **out);
/** keel_vconsole_input - offer received bytes; returns how many the driver had room for */
size_t keel_vconsole_input(struct keel_vconsole *con, const uint8_t *data, size_t size);

/** keel_vsock_create - @cid: the guest's address, from 3 on */
int keel_vsock_create(struct keel_pci *pci, uint32_t cid);

struct keel_share_config {
	const char *path, *tag;		/* the directory, and the guest's name for it */
	bool readonly;
	int server_fd;			/* a 9P server that is there already; -1: start diod */
	bool unthreaded;
};
int keel_share_create(struct keel_pci *pci, const struct keel_share_config *config);

/* Networks --------------------------------------------------------------------------------- */

enum keel_net_kind { KEEL_NET_USER, KEEL_NET_TAP, KEEL_NET_SWITCH };

#define KEEL_FORWARDS_MAX	16

struct keel_forward {
	bool udp;
	uint32_t host;			/* address to listen at, in network order */
	uint16_t host_port, guest_port;
};

struct keel_net_config {
	enum keel_net_kind kind;
	uint8_t mac[6];			/* zeroes: a random one */
	bool plain;			/* tap: no offloads, for a card that has none */
	bool restricted;		/* user: the guest reaches nothing but the host's answers */
	unsigned int forwards;
	struct keel_forward forward[KEEL_FORWARDS_MAX];
	const char *ifname, *bridge;	/* tap: names, or NULL */
	const char *switch_name;
};

struct keel_net;
int keel_net_create(const struct keel_net_config *config, struct keel_net **out);
void keel_net_destroy(struct keel_net *net);
const uint8_t *keel_net_mac(const struct keel_net *net);

/**
 * keel_vnet_create - a virtio network card, plugged into @net, which it takes over even if it fails
 * @vhost: let the kernel do the work where it can
 */
int keel_vnet_create(struct keel_pci *pci, struct keel_net *net, bool vhost, bool unthreaded);

/** keel_pcnet_create - AMD's PCnet-PCI II, plugged into @net, which it takes over even if it fails */
int keel_pcnet_create(struct keel_pci *pci, struct keel_net *net);

/** keel_runtime_path - where a socket of this user's lies, in a directory of its own */
int keel_runtime_path(char *path, size_t size, const char *name);

/* Console ---------------------------------------------------------------------------------- */

struct keel_console;
/**
 * keel_console_create - join a device of the guest's to two file descriptors
 * @in: read when it has data; a terminal is put into raw mode, with Ctrl-A as its escape
 * @out: written by a thread of its own, at most a few milliseconds after the guest wrote
 * @quit: called from a console thread, with NULL when the user types Ctrl-A x, or with what keeps
 *        @out from being written
 */
int keel_console_create(int in, int out, void (*quit)(void *opaque, const char *error),
			void *opaque, struct keel_console **con);
/**
 * keel_console_attach - start to move bytes; the console outlives the device's last access
 * @input: offers received bytes to @device; returns how many it took, and then
 *	   keel_console_ready() comes when there is room again
 */
int keel_console_attach(struct keel_console *con,
			size_t (*input)(void *device, const uint8_t *data, size_t size),
			void *device);
/**
 * keel_console_tap - join another terminal to the console: it sees what comes from now on
 * @fd: a socket, taken over; closed when its other end has gone. -EBUSY while there is one
 */
int keel_console_tap(struct keel_console *con, int fd);
/** keel_console_stop - unblock the guest, flush while the reader takes it, restore the terminal */
void keel_console_stop(struct keel_console *con);
void keel_console_destroy(struct keel_console *con);
/* The devices' side of the console: any of them may write to it. */
void keel_console_output(void *con, uint8_t byte);
void keel_console_write(void *con, const uint8_t *data, size_t size);
void keel_console_ready(void *con);

/** keel_term_raw - raw mode on terminal @fd, taken back at every way out of the process */
int keel_term_raw(int fd);
void keel_term_restore(void);

/* The virtual machine ---------------------------------------------------------------------- */

struct keel_vm;
struct keel_vm_config {
	const char *device;	/* KEEL_DEVICE or /dev/kvm */
	uint64_t memory;	/* bytes */
	unsigned int cpus;
};

int keel_vm_create(const struct keel_vm_config *config, struct keel_vm **out);
/** keel_vm_destroy - after keel_vm_join(), or when it was never started */
void keel_vm_destroy(struct keel_vm *vm);

struct keel_memory *keel_vm_memory(struct keel_vm *vm);
struct keel_bus *keel_vm_bus(struct keel_vm *vm);
struct keel_irq keel_vm_irq(struct keel_vm *vm, unsigned int gsi);
const struct keel_host *keel_vm_host(struct keel_vm *vm);
/** keel_vm_timer_pin - pin of the I/O APIC that the PIT's interrupt arrives at */
unsigned int keel_vm_timer_pin(const struct keel_vm *vm);

/** keel_vm_boot - set the boot vCPU's registers to @kernel's entry */
int keel_vm_boot(struct keel_vm *vm, const struct keel_kernel *kernel);

/**
 * keel_vm_firmware - map a PC's firmware, where the boot vCPU begins if there is no keel_vm_boot()
 * @image: contents; -EINVAL unless it has 64, 128 or 256 KiB
 */
int keel_vm_firmware(struct keel_vm *vm, const void *image, size_t size);

/* Why a VM ended, and the exit status of `keel run` that stands for it. */
enum keel_end {
	KEEL_END_GUEST = 0,	/* reset, halt, or the user's Ctrl-A x */
	KEEL_END_ERROR = 1,	/* bad input, or the host failed */
	KEEL_END_SHUTDOWN = 2,	/* triple fault */
	KEEL_END_KILLED = 3,	/* the hypervisor could not go on with the guest */
};

/**
 * keel_vm_end - end the VM; from any thread; the first call wins
 * @status: exit status, an enum keel_end or the guest's own
 * @fmt: message for the user, or NULL for none
 */
void keel_vm_end(struct keel_vm *vm, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/** keel_vm_end_fd - polls readable once the VM has ended */
int keel_vm_end_fd(const struct keel_vm *vm);

/** keel_vm_start - a thread for each vCPU; after keel_vm_pause() they wait for keel_vm_resume() */
int keel_vm_start(struct keel_vm *vm);
/** keel_vm_pause - returns when no vCPU runs; not on a vCPU's thread, and by one thread at a time */
void keel_vm_pause(struct keel_vm *vm);
void keel_vm_resume(struct keel_vm *vm);
bool keel_vm_paused(const struct keel_vm *vm);
/**
 * keel_vm_core - write the paused guest as an ELF core file, sparse where memory is zero
 *
 * A segment for each range of RAM, at its gpa, and a note with the registers of each vCPU.
 */
int keel_vm_core(struct keel_vm *vm, int fd);
/** keel_vm_check_halted - call about once a second: ends a guest that nothing can wake again */
void keel_vm_check_halted(struct keel_vm *vm);
/** keel_vm_join - wait until every vCPU thread is gone; returns the status, *@message or NULL */
int keel_vm_join(struct keel_vm *vm, const char **message);
/** keel_vm_exits - how often any vCPU left the kernel */
unsigned long keel_vm_exits(struct keel_vm *vm);
/** keel_vm_stats - exits to userspace by reason and by device */
void keel_vm_stats(struct keel_vm *vm, FILE *to);

#endif
