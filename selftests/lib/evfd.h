/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Eventfds with a VM: KVM_IRQFD, KVM_IOEVENTFD, coalesced zones and GSI routes in one line each. The ioctls' results
 * are returned as vm_ioctl() has them.
 */
#ifndef SELFTESTS_EVFD_H
#define SELFTESTS_EVFD_H

#include <sys/eventfd.h>
#include <unistd.h>
#include "vmtest.h"

static inline int evfd(void)
{
	return MUST(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

/* Adds one. */
static inline void evfd_signal(int fd)
{
	MUST(eventfd_write(fd, 1));
}

/* The count, which is 0 afterwards. */
static inline uint64_t evfd_take(int fd)
{
	eventfd_t n;

	return eventfd_read(fd, &n) ? 0 : n;
}

static inline long vm_irqfd(int vm, int fd, uint32_t gsi, uint32_t flags, int resamplefd)
{
	struct kvm_irqfd args = { .fd = fd, .gsi = gsi, .flags = flags, .resamplefd = resamplefd };

	return vm_ioctl(vm, KVM_IRQFD, &args);
}

static inline long vm_ioeventfd(int vm, int fd, uint64_t addr, uint32_t len, uint32_t flags, uint64_t value)
{
	struct kvm_ioeventfd args = { .fd = fd, .addr = addr, .len = len, .flags = flags, .datamatch = value };

	return vm_ioctl(vm, KVM_IOEVENTFD, &args);
}

static inline long vm_zone(int vm, bool add, uint64_t addr, uint32_t size, uint32_t pio)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = addr, .size = size, .pio = pio };

	return vm_ioctl(vm, add ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO, &zone);
}

/* One GSI with one message to local APIC 0, all other routes gone. */
static inline long vm_route_msi(int vm, uint32_t gsi, uint32_t data)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} r = {
		.head.nr = 1,
		.entry = { .gsi = gsi, .type = KVM_IRQ_ROUTING_MSI,
			   .u.msi = { .address_lo = 0xfee00000, .data = data } },
	};

	return vm_ioctl(vm, KVM_SET_GSI_ROUTING, &r);
}

#endif
