// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel does for devices of ours (struct keel_host): routes from GSIs to pins and messages,
 * irqfds and ioeventfds.
 *
 * KVM_SET_GSI_ROUTING replaces the whole table, so a copy is kept here: first the pins of the PIC and
 * the I/O APIC, then a message for each GSI that a device has asked for. A device only asks for what
 * the ABI has had for ten years; a host that refuses it ends the VM.
 *
 * Locks: routes->lock guards the table.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "internal.h"

#define PIC_PINS	16
#define IOAPIC_PINS	24
#define CASCADE_IRQ	2
#define TIMER_PIN	2
#define PIN_ENTRIES	(PIC_PINS + IOAPIC_PINS)
#define MESSAGES_MAX	2048

struct keel_routes {
	struct keel_vm *vm;
	struct keel_host host;
	pthread_mutex_t lock;
	unsigned int pins, messages;
	struct kvm_irq_routing table;
	struct kvm_irq_routing_entry entry[PIN_ENTRIES + MESSAGES_MAX];
};

_Static_assert(offsetof(struct keel_routes, entry) ==
	       offsetof(struct keel_routes, table) + sizeof(struct kvm_irq_routing),
	       "entries follow their header");

static int table_set(struct keel_routes *routes)
{
	struct keel_vm *vm = routes->vm;

	routes->table.nr = routes->pins + routes->messages;
	if (ioctl(vm->vm_fd, KVM_SET_GSI_ROUTING, &routes->table) >= 0)
		return 0;
	return keel_fail(errno, "%s: KVM_SET_GSI_ROUTING failed: %s", vm->device, strerror(errno));
}

/*
 * By default KVM takes an interrupt's number for its pin on the PIC and on the I/O APIC alike. On a
 * PC the timer has pin 2 of the I/O APIC, and the PIC cascade has none: guests rely on the former.
 */
static void pins_fill(struct keel_routes *routes)
{
	unsigned int n = 0;

	for (unsigned int gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		if (gsi < PIC_PINS)
			routes->entry[n++] = (struct kvm_irq_routing_entry) {
				.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
				.u.irqchip.irqchip = gsi < PIC_PINS / 2 ? KVM_IRQCHIP_PIC_MASTER :
									  KVM_IRQCHIP_PIC_SLAVE,
				.u.irqchip.pin = gsi % (PIC_PINS / 2),
			};
		if (gsi != CASCADE_IRQ)
			routes->entry[n++] = (struct kvm_irq_routing_entry) {
				.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
				.u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC,
				.u.irqchip.pin = gsi ? gsi : TIMER_PIN,
			};
	}
	routes->pins = n;
}

static int gsi_alloc(void *opaque)
{
	struct keel_routes *routes = opaque;
	int gsi = -1;

	pthread_mutex_lock(&routes->lock);
	if (routes->messages < MESSAGES_MAX) {
		gsi = IOAPIC_PINS + routes->messages;
		routes->entry[routes->pins + routes->messages++] = (struct kvm_irq_routing_entry) {
			.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI,
		};
	}
	pthread_mutex_unlock(&routes->lock);
	return gsi;
}

static void msi_route(void *opaque, int gsi, uint64_t address, uint32_t data)
{
	struct keel_routes *routes = opaque;
	struct kvm_irq_routing_entry *e = &routes->entry[routes->pins + gsi - IOAPIC_PINS];

	pthread_mutex_lock(&routes->lock);
	e->u.msi.address_lo = address;
	e->u.msi.address_hi = address >> 32;
	e->u.msi.data = data;
	if (table_set(routes))
		keel_vm_end(routes->vm, KEEL_END_ERROR, "%s", keel_error());
	pthread_mutex_unlock(&routes->lock);
}

static void irqfd(void *opaque, int fd, int gsi, bool attach)
{
	struct keel_routes *routes = opaque;
	struct kvm_irqfd arg = {
		.fd = fd, .gsi = gsi, .flags = attach ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	if (ioctl(routes->vm->vm_fd, KVM_IRQFD, &arg) < 0 && attach)
		keel_vm_end(routes->vm, KEEL_END_ERROR, "%s: KVM_IRQFD failed: %s",
			    routes->vm->device, strerror(errno));
}

static int ioeventfd(void *opaque, bool io, uint64_t address, unsigned int size, int fd,
		     bool attach)
{
	struct keel_routes *routes = opaque;
	struct kvm_ioeventfd arg = {
		.addr = address, .len = size, .fd = fd,
		.flags = (attach ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN) |
			 (io ? KVM_IOEVENTFD_FLAG_PIO : 0),
	};

	return ioctl(routes->vm->vm_fd, KVM_IOEVENTFD, &arg) < 0 ? -errno : 0;
}

int keel_routes_create(struct keel_vm *vm, struct keel_routes **out)
{
	struct keel_routes *routes = calloc(1, sizeof(*routes));

	if (!routes)
		return keel_fail(ENOMEM, "out of memory");
	routes->vm = vm;
	routes->host = (struct keel_host) {
		.gsi_alloc = gsi_alloc, .msi_route = msi_route, .irqfd = irqfd,
		.ioeventfd = ioeventfd, .opaque = routes,
	};
	pthread_mutex_init(&routes->lock, NULL);
	pins_fill(routes);
	*out = routes;
	return table_set(routes);
}

void keel_routes_destroy(struct keel_routes *routes)
{
	if (!routes)
		return;
	pthread_mutex_destroy(&routes->lock);
	free(routes);
}

const struct keel_host *keel_vm_host(struct keel_vm *vm)
{
	return &vm->routes->host;
}

unsigned int keel_vm_timer_pin(const struct keel_vm *vm)
{
	return vm->routes ? TIMER_PIN : 0;
}
