// SPDX-License-Identifier: GPL-2.0-only
/*
 * The VM: device and VM file descriptors, what the host offers, memory slots, the in-kernel
 * interrupt controllers, and the verdict on how the guest ended.
 *
 * Everything optional is asked for with KVM_CHECK_EXTENSION and used only when it is there, in the
 * order the ABI wants: TSS and identity map addresses, irqchip, PIT, then vCPUs. The ioctls are
 * described in the kernel's Documentation/virt/kvm/api.rst.
 *
 * The verdict is given once, under vm->lock, by whoever is first: a vCPU thread, a device, the
 * console or a signal. "ended" and the eventfd then tell all others.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot.h"
#include "internal.h"

static bool is_kvm(const char *device)
{
	return !strcmp(device, "/dev/kvm");
}

static int device_open(struct keel_vm *vm)
{
	const char *dev = vm->device;
	int err, version;

	vm->sys_fd = open(dev, O_RDWR | O_CLOEXEC);
	if (vm->sys_fd < 0) {
		err = errno;
		switch (err) {
		case ENOENT:
		case ENXIO:
		case ENODEV:
			return keel_fail(err, "no %s: %s", dev, is_kvm(dev) ?
					 "load the module (modprobe kvm_amd or kvm_intel)" :
					 "load the module (make load, or insmod keel.ko), or give "
					 "--device /dev/kvm");
		case EACCES:
		case EPERM:
			return keel_fail(err, "no permission to open %s: run as root or join the "
					 "group kvm (usermod -aG kvm USER, and log in again)",
					 dev);
		default:
			return keel_fail(err, "cannot open %s: %s", dev, strerror(err));
		}
	}
	version = ioctl(vm->sys_fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION)
		return keel_fail(ENOTSUP, "%s does not speak the KVM ABI of version %d: give "
				 "--device %s", dev, KVM_API_VERSION, KEEL_DEVICE);
	return 0;
}

static int extension(const struct keel_vm *vm, unsigned int cap)
{
	int ret = ioctl(vm->sys_fd, KVM_CHECK_EXTENSION, cap);

	return ret > 0 ? ret : 0;
}

static int extensions_check(struct keel_vm *vm)
{
	static const struct { unsigned int cap; const char *name; } needed[] = {
		{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
		{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
		{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
		{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
		{ KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING" },
		{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD" },
		{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD" },
	};
	int max = extension(vm, KVM_CAP_MAX_VCPUS), size;

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!extension(vm, needed[i].cap))
			return keel_fail(ENOTSUP, "%s lacks %s: it is too old", vm->device,
					 needed[i].name);
	if (!max)
		max = extension(vm, KVM_CAP_NR_VCPUS);
	if (!max)
		max = 4;	/* what api.rst says for a host that reports neither */
	if (vm->cpus > (unsigned int)max)
		return keel_fail(EINVAL, "%u CPUs are more than the %d that %s allows: give less "
				 "with -c", vm->cpus, max, vm->device);
	size = ioctl(vm->sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run))
		return keel_fail(ENOTSUP, "%s gives a kvm_run page of %d bytes", vm->device, size);
	vm->run_size = size;
	vm->tsc_deadline = extension(vm, KVM_CAP_TSC_DEADLINE_TIMER);
	return 0;
}

static int vm_fd_create(struct keel_vm *vm)
{
	int err;

	do {
		vm->vm_fd = ioctl(vm->sys_fd, KVM_CREATE_VM, 0);
	} while (vm->vm_fd < 0 && errno == EINTR);
	if (vm->vm_fd >= 0)
		return 0;
	err = errno;
	switch (err) {
	case EBUSY:
		return keel_fail(err, "another hypervisor holds the CPU's virtualization: end its "
				 "guests and unload it (%s)", is_kvm(vm->device) ? "rmmod keel" :
				 "modprobe -r kvm_amd kvm_intel");
	case EOPNOTSUPP:
	case ENODEV:
		return keel_fail(err, "the CPU has no usable virtualization: enable AMD-V or VT-x "
				 "in the firmware");
	default:
		return keel_fail(err, "%s: cannot create a VM: %s", vm->device, strerror(err));
	}
}

static int vm_ioctl(struct keel_vm *vm, unsigned long request, void *arg, const char *name)
{
	int err;

	if (ioctl(vm->vm_fd, request, arg) >= 0)
		return 0;
	err = errno;
	return keel_fail(err, "%s: %s failed: %s", vm->device, name, strerror(err));
}

static int platform_create(struct keel_vm *vm)
{
	uint64_t identity = BOOT_KVM_IDENTITY_MAP;
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	int ret = 0;

	if (extension(vm, KVM_CAP_SET_IDENTITY_MAP_ADDR))
		ret = vm_ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity,
			       "KVM_SET_IDENTITY_MAP_ADDR");
	if (!ret && extension(vm, KVM_CAP_SET_TSS_ADDR))
		ret = vm_ioctl(vm, KVM_SET_TSS_ADDR, (void *)(uintptr_t)BOOT_KVM_TSS,
			       "KVM_SET_TSS_ADDR");
	if (!ret)
		ret = vm_ioctl(vm, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
	if (!ret)
		ret = keel_routes_create(vm, &vm->routes);
	if (!ret && extension(vm, KVM_CAP_PIT2))
		ret = vm_ioctl(vm, KVM_CREATE_PIT2, &pit, "KVM_CREATE_PIT2");
	return ret;
}

int keel_slot_set(struct keel_vm *vm, uint32_t slot, uint64_t gpa, void *host, uint64_t size,
		  bool readonly)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};

	if (readonly && extension(vm, KVM_CAP_READONLY_MEM))
		region.flags = KVM_MEM_READONLY;

	return size ? vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region,
			       "KVM_SET_USER_MEMORY_REGION") : 0;
}

static int memory_map(struct keel_vm *vm, uint64_t size)
{
	uint8_t *host;
	uint64_t low;
	int ret;

	ret = keel_memory_create(size, &vm->memory);
	if (ret)
		return ret;
	host = keel_memory_host(vm->memory);
	low = keel_memory_low(vm->memory);
	ret = keel_slot_set(vm, 0, 0, host, low, false);
	if (!ret)
		ret = keel_slot_set(vm, 1, KEEL_HIGH_BASE, host + low, keel_memory_high(vm->memory),
				    false);
	return ret;
}

static int vcpus_create(struct keel_vm *vm)
{
	int ret;

	vm->vcpu = calloc(vm->cpus, sizeof(*vm->vcpu));
	if (!vm->vcpu)
		return keel_fail(ENOMEM, "out of memory");
	for (unsigned int i = 0; i < vm->cpus; i++)
		vm->vcpu[i].fd = -1;
	for (unsigned int i = 0; i < vm->cpus; i++) {
		ret = keel_vcpu_create(vm, i, &vm->vcpu[i]);
		if (ret)
			return ret;
	}
	return 0;
}

int keel_vm_create(const struct keel_vm_config *config, struct keel_vm **out)
{
	struct keel_vm *vm;
	int ret;

	if (!config->cpus || config->cpus > KEEL_MAX_CPUS)
		return keel_fail(EINVAL, "a guest has 1 to %u CPUs", KEEL_MAX_CPUS);
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return keel_fail(ENOMEM, "out of memory");
	vm->device = config->device;
	vm->cpus = config->cpus;
	vm->sys_fd = vm->vm_fd = -1;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->parked_changed, NULL);
	vm->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->end_fd < 0)
		ret = keel_fail(errno, "cannot create an eventfd: %s", strerror(errno));
	else
		ret = device_open(vm);
	if (!ret)
		ret = extensions_check(vm);
	if (!ret)
		ret = vm_fd_create(vm);
	if (!ret)
		ret = platform_create(vm);
	if (!ret)
		ret = memory_map(vm, config->memory);
	if (!ret)
		ret = keel_bus_create(&vm->bus);
	if (!ret)
		ret = vcpus_create(vm);
	if (ret) {
		keel_vm_destroy(vm);
		return ret;
	}
	*out = vm;
	return 0;
}

void keel_vm_destroy(struct keel_vm *vm)
{
	if (!vm)
		return;
	for (unsigned int i = 0; vm->vcpu && i < vm->cpus; i++)
		keel_vcpu_destroy(&vm->vcpu[i]);
	free(vm->vcpu);
	keel_bus_destroy(vm->bus);
	keel_routes_destroy(vm->routes);
	if (vm->vm_fd >= 0)
		close(vm->vm_fd);
	if (vm->sys_fd >= 0)
		close(vm->sys_fd);
	if (vm->end_fd >= 0)
		close(vm->end_fd);
	keel_memory_destroy(vm->memory);
	if (vm->firmware)
		munmap(vm->firmware, vm->firmware_size);
	pthread_cond_destroy(&vm->parked_changed);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

struct keel_memory *keel_vm_memory(struct keel_vm *vm)
{
	return vm->memory;
}

struct keel_bus *keel_vm_bus(struct keel_vm *vm)
{
	return vm->bus;
}

/* Interrupts ------------------------------------------------------------------------------- */

static void gsi_set(void *controller, unsigned int gsi, bool level)
{
	struct keel_vm *vm = controller;
	struct kvm_irq_level irq = { .irq = gsi, .level = level };

	if (ioctl(vm->vm_fd, KVM_IRQ_LINE, &irq) < 0)
		keel_vm_end(vm, KEEL_END_ERROR, "%s: KVM_IRQ_LINE for interrupt %u failed: %s",
			    vm->device, gsi, strerror(errno));
}

struct keel_irq keel_vm_irq(struct keel_vm *vm, unsigned int gsi)
{
	return (struct keel_irq) { .set = gsi_set, .controller = vm, .line = gsi };
}

/* Running and ending ----------------------------------------------------------------------- */

/* KVM_RUN returns with EINTR for a signal that has a handler; there is nothing more to do. */
static void kick_handler(int sig)
{
	(void)sig;
}

int keel_vm_start(struct keel_vm *vm)
{
	struct sigaction sa = { .sa_handler = kick_handler, .sa_flags = SA_RESTART };
	int ret = 0;

	sigaction(KEEL_KICK_SIGNAL, &sa, NULL);
	for (unsigned int i = 0; i < vm->cpus && !ret; i++) {
		ret = keel_vcpu_start(&vm->vcpu[i]);
		vm->started += !ret;
	}
	return ret;
}

void keel_vm_end(struct keel_vm *vm, int status, const char *fmt, ...)
{
	uint64_t one = 1;
	va_list args;

	pthread_mutex_lock(&vm->lock);
	if (!vm->ended) {
		vm->status = status;
		vm->has_message = fmt;
		if (fmt) {
			va_start(args, fmt);
			vsnprintf(vm->message, sizeof(vm->message), fmt, args);
			va_end(args);
		}
		vm->ended = true;
		/* the counter is 0, so this cannot block */
		if (write(vm->end_fd, &one, sizeof(one)) < 0)
			abort();
		pthread_cond_broadcast(&vm->parked_changed);
	}
	pthread_mutex_unlock(&vm->lock);
}

void keel_vm_pause(struct keel_vm *vm)
{
	vm->paused = true;
	for (unsigned int i = 0; i < vm->cpus; i++)
		keel_vcpu_kick(&vm->vcpu[i]);
	pthread_mutex_lock(&vm->lock);
	while (vm->parked < vm->started && !vm->ended)
		pthread_cond_wait(&vm->parked_changed, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
}

void keel_vm_resume(struct keel_vm *vm)
{
	/* else a guest that looks at its clock finds that it was locked up; hosts without it need not */
	for (unsigned int i = 0; i < vm->cpus; i++)
		(void)ioctl(vm->vcpu[i].fd, KVM_KVMCLOCK_CTRL, 0);
	pthread_mutex_lock(&vm->lock);
	vm->paused = false;
	pthread_cond_broadcast(&vm->parked_changed);
	pthread_mutex_unlock(&vm->lock);
}

static unsigned long total_exits(struct keel_vm *vm)
{
	unsigned long sum = 0;

	for (unsigned int i = 0; i < vm->cpus; i++)
		sum += vm->vcpu[i].exit_count;
	return sum;
}

unsigned long keel_vm_exits(struct keel_vm *vm)
{
	return total_exits(vm);
}

bool keel_vm_paused(const struct keel_vm *vm)
{
	return vm->paused;
}

int keel_vm_end_fd(const struct keel_vm *vm)
{
	return vm->end_fd;
}

int keel_vm_join(struct keel_vm *vm, const char **message)
{
	struct timespec until;

	for (unsigned int i = 0; i < vm->cpus; i++) {
		struct keel_vcpu *vcpu = &vm->vcpu[i];

		/* one kick suffices; more are for a host that lost one, rather than a hang */
		while (vcpu->started) {
			keel_vcpu_kick(vcpu);
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_sec++;
			if (!pthread_timedjoin_np(vcpu->thread, NULL, &until))
				vcpu->started = false;
		}
	}
	*message = vm->has_message ? vm->message : NULL;
	return vm->status;
}

static bool answered_dead(const struct keel_vm *vm, unsigned int i)
{
	return vm->vcpu[i].check_done == vm->check && vm->vcpu[i].check_dead;
}

/* A vCPU that is not known to be dead, beginning with the last that was found; vm->cpus: none. */
static unsigned int witness_find(struct keel_vm *vm)
{
	for (unsigned int n = 0; n < vm->cpus; n++) {
		unsigned int i = (vm->witness + n) % vm->cpus;

		if (!answered_dead(vm, i))
			return i;
	}
	return vm->cpus;
}

/*
 * A guest without a power-off way halts with interrupts off, and sleeps in the kernel for ever. So
 * while nothing exits to userspace, vCPUs are asked now and then whether they can still wake up.
 * One that can is enough, so the others are let sleep: a vCPU that is offline costs nothing. When
 * none is left all are asked. Two rounds must agree, with no exit between: one vCPU's answer may be
 * older than another's act.
 */
void keel_vm_check_halted(struct keel_vm *vm)
{
	unsigned long exits = total_exits(vm);
	bool quiet = exits == vm->dead_exits && !vm->paused;
	unsigned int alive = vm->check ? witness_find(vm) : vm->witness;

	vm->dead_exits = exits;
	vm->dead_rounds = quiet && vm->asked_all && alive == vm->cpus ? vm->dead_rounds + 1 : 0;
	if (vm->dead_rounds == 2) {
		keel_vm_end(vm, KEEL_END_GUEST, "the guest halted");
		return;
	}
	vm->asked_all = false;
	if (!quiet)
		return;
	vm->check++;
	if (alive < vm->cpus && vm->vcpu[alive].check_done == vm->check - 1 &&
	    !vm->vcpu[alive].check_dead) {
		vm->witness = alive;
		keel_vcpu_kick(&vm->vcpu[alive]);
		return;
	}
	vm->asked_all = true;
	for (unsigned int i = 0; i < vm->cpus; i++)
		keel_vcpu_kick(&vm->vcpu[i]);
}

void keel_vm_stats(struct keel_vm *vm, FILE *to)
{
	fprintf(to, "keel: exits to userspace\n");
	for (unsigned int reason = 0; reason < KEEL_EXIT_REASONS; reason++) {
		uint64_t sum = 0;

		for (unsigned int i = 0; i < vm->cpus; i++)
			sum += vm->vcpu[i].exits[reason];
		if (sum)
			fprintf(to, "  %-24s %10llu\n", keel_exit_name(reason),
				(unsigned long long)sum);
	}
	keel_bus_stats(vm->bus, to);
}
