// SPDX-License-Identifier: GPL-2.0-only
/*
 * GSI routes: which pins of which controllers, or which message, an interrupt of a device becomes;
 * and the ioctls of the interrupt controllers.
 *
 * The table is one immutable object, read under vm->srcu in any context and replaced whole under
 * vm->lock. The numbers and errnos are KVM's (KVM_SET_GSI_ROUTING and its neighbours in the
 * kernel's Documentation/virt/kvm/api.rst); MSI messages as in SDM 3A, 11.11.
 */
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "../keel.h"

/* One way out of a GSI. */
struct keel_route {
	u32 type;		/* KVM_IRQ_ROUTING_IRQCHIP or _MSI */
	union {
		struct {
			u8 chip;	/* enum keel_pin_chip */
			u8 pin;
		};
		struct {
			u32 address_lo;
			u32 address_hi;
			u32 data;
		};
	};
};

struct keel_routes {
	u32 nr_gsi;
	DECLARE_BITMAP(eoi_vectors, 256);	/* of level-triggered messages of the client's I/O APIC */
	s16 gsi[KEEL_NR_CHIPS][KVM_IOAPIC_NUM_PINS];	/* of a pin, -1: none */
	u16 *first;	/* [nr_gsi + 1]: a GSI's routes are first[gsi] up to first[gsi + 1] */
	struct keel_route route[];
};

/* KVM's default: GSI 0 to 15 go to both the PIC pair and the I/O APIC, 16 to 23 to the latter. */
#define DEFAULT_ROUTES	(KEEL_PIC_PINS + KVM_IOAPIC_NUM_PINS)

static bool msi_is_valid(const struct keel_vm *vm, u32 address_hi)
{
	return !vm->irqchip.x2apic_format || !(address_hi & 0xff);
}

/* SDM 3A, 11.11; with 32-bit ids the destination goes on in bits 31:8 of the high address. */
static void msi_message(const struct keel_vm *vm, u32 address_lo, u32 address_hi, u32 data,
			struct keel_irq_msg *msg)
{
	*msg = (struct keel_irq_msg) {
		.dest = address_lo >> 12 & 0xff,
		.logical = address_lo & BIT(2),
		.redir_hint = address_lo & BIT(3),
		.vector = data & 0xff,
		.delivery = data >> 8 & 7,
		.level = data & BIT(15),
		.assert = true,
	};
	if (vm->irqchip.x2apic_format)
		msg->dest |= address_hi & ~0xffU;
}

static int msi_deliver(struct keel_vm *vm, u32 address_lo, u32 address_hi, u32 data)
{
	struct keel_irq_msg msg;

	if (!msi_is_valid(vm, address_hi))
		return -EINVAL;
	msi_message(vm, address_lo, address_hi, data, &msg);
	return keel_lapic_deliver(vm, NULL, &msg);
}

static int route_set(struct keel_vm *vm, const struct keel_route *route, int source, bool level,
		     bool line_status)
{
	if (route->type == KVM_IRQ_ROUTING_MSI) {
		if (!level)
			return -1;
		return msi_deliver(vm, route->address_lo, route->address_hi, route->data);
	}
	if (route->chip == KEEL_CHIP_PIC)
		return keel_pic_set_irq(vm, route->pin, source, level);
	return keel_ioapic_set_irq(vm, route->pin, source, level, line_status);
}

static int set_irq(struct keel_vm *vm, int source, u32 gsi, bool level, bool line_status)
{
	const struct keel_routes *routes;
	int idx, ret = -1, r;
	u32 i;

	idx = srcu_read_lock(&vm->srcu);
	routes = srcu_dereference(vm->irqchip.routes, &vm->srcu);
	if (routes && gsi < routes->nr_gsi) {
		gsi = array_index_nospec(gsi, routes->nr_gsi);
		for (i = routes->first[gsi]; i < routes->first[gsi + 1]; i++) {
			r = route_set(vm, &routes->route[i], source, level, line_status);
			if (r >= 0)
				ret = max(ret, 0) + r;
		}
	}
	srcu_read_unlock(&vm->srcu, idx);
	return ret;
}

/**
 * keel_set_irq() - a source changes its share of a GSI's line; callable from any context
 * @vm: the VM
 * @source: KEEL_IRQ_SOURCE_*
 * @gsi: any number; one without routes is ignored
 * @level: the source's new level
 *
 * Return: number of vCPUs (and PICs) that took an interrupt, 0: coalesced with an earlier one,
 * negative: masked or not delivered
 */
int keel_set_irq(struct keel_vm *vm, int source, u32 gsi, bool level)
{
	return set_irq(vm, source, gsi, level, false);
}

/**
 * keel_send_msi_route() - send the message of a GSI that is nothing but one message
 * @vm: the VM
 * @gsi: any number
 *
 * For callers that must not take the lock of a controller.
 *
 * Return: as keel_set_irq(); -EWOULDBLOCK when the GSI has other routes
 */
int keel_send_msi_route(struct keel_vm *vm, u32 gsi)
{
	const struct keel_routes *routes;
	const struct keel_route *route;
	int idx, ret = -1;
	u32 n;

	idx = srcu_read_lock(&vm->srcu);
	routes = srcu_dereference(vm->irqchip.routes, &vm->srcu);
	if (routes && gsi < routes->nr_gsi) {
		gsi = array_index_nospec(gsi, routes->nr_gsi);
		n = routes->first[gsi + 1] - routes->first[gsi];
		route = &routes->route[routes->first[gsi]];
		if (n == 1 && route->type == KVM_IRQ_ROUTING_MSI)
			ret = msi_deliver(vm, route->address_lo, route->address_hi, route->data);
		else if (n)
			ret = -EWOULDBLOCK;
	}
	srcu_read_unlock(&vm->srcu, idx);
	return ret;
}

/**
 * keel_client_wants_eoi() - split irqchip: does the client's I/O APIC await the end of @vector?
 * @vcpu: the vCPU that ends it
 * @vector: which
 *
 * Return: true if one of its pins has a level-triggered message with this vector for this vCPU
 */
bool keel_client_wants_eoi(struct keel_vcpu *vcpu, u8 vector)
{
	struct keel_vm *vm = vcpu->vm;
	const struct keel_routes *routes;
	const struct keel_route *route;
	struct keel_irq_msg msg;
	bool wants = false;
	u32 i, end;
	int idx;

	idx = srcu_read_lock(&vm->srcu);
	routes = srcu_dereference(vm->irqchip.routes, &vm->srcu);
	if (routes && test_bit(vector, routes->eoi_vectors)) {
		end = routes->first[min(routes->nr_gsi, vm->irqchip.nr_client_pins)];
		for (i = 0; i < end && !wants; i++) {
			route = &routes->route[i];
			if (route->type != KVM_IRQ_ROUTING_MSI)
				continue;
			msi_message(vm, route->address_lo, route->address_hi, route->data, &msg);
			wants = msg.level && msg.vector == vector && keel_lapic_addressed(vcpu, &msg);
		}
	}
	srcu_read_unlock(&vm->srcu, idx);
	return wants;
}

static int pin_gsi(struct keel_vm *vm, enum keel_pin_chip chip, unsigned int pin)
{
	const struct keel_routes *routes;
	int idx, gsi = -1;

	idx = srcu_read_lock(&vm->srcu);
	routes = srcu_dereference(vm->irqchip.routes, &vm->srcu);
	if (routes)
		gsi = routes->gsi[chip][pin];
	srcu_read_unlock(&vm->srcu, idx);
	return gsi;
}

/**
 * keel_irq_acked() - the guest has ended an interrupt of a pin: tell the device behind it
 * @vm: the VM
 * @chip: controller
 * @pin: of the pair or the I/O APIC; no lock of a controller is held
 */
void keel_irq_acked(struct keel_vm *vm, enum keel_pin_chip chip, unsigned int pin)
{
	int gsi = pin_gsi(vm, chip, pin);

	if (gsi < 0)
		return;
	if (gsi == 0)
		keel_pit_acked(vm);
	keel_irqfd_acked(vm, gsi);
}

/**
 * keel_irq_unmasked() - the guest has unmasked a pin: tell the device behind it
 * @vm: the VM
 * @chip: controller
 * @pin: of the pair or the I/O APIC; no lock of a controller is held
 */
void keel_irq_unmasked(struct keel_vm *vm, enum keel_pin_chip chip, unsigned int pin)
{
	if (pin_gsi(vm, chip, pin) == 0)
		keel_pit_unmasked(vm);
}

/* Translates one entry of the client; the pins named have to exist in this VM. */
static int route_parse(struct keel_vm *vm, const struct kvm_irq_routing_entry *e,
		       struct keel_route *route)
{
	u32 pin = e->u.irqchip.pin;

	route->type = e->type;
	switch (e->type) {
	case KVM_IRQ_ROUTING_MSI:
		if ((e->flags & ~KVM_MSI_VALID_DEVID) || !msi_is_valid(vm, e->u.msi.address_hi))
			return -EINVAL;
		route->address_lo = e->u.msi.address_lo;
		route->address_hi = e->u.msi.address_hi;
		route->data = e->u.msi.data;
		return 0;
	case KVM_IRQ_ROUTING_IRQCHIP:
		if (e->flags || vm->irqchip.mode == KEEL_IRQCHIP_SPLIT)
			return -EINVAL;
		break;
	default:
		return -EINVAL;
	}

	switch (e->u.irqchip.irqchip) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		if (pin >= KEEL_PIC_PINS / 2)
			return -EINVAL;
		route->chip = KEEL_CHIP_PIC;
		route->pin = pin + (e->u.irqchip.irqchip == KVM_IRQCHIP_PIC_SLAVE ? 8 : 0);
		return 0;
	case KVM_IRQCHIP_IOAPIC:
		if (pin >= KVM_IOAPIC_NUM_PINS)
			return -EINVAL;
		route->chip = KEEL_CHIP_IOAPIC;
		route->pin = pin;
		return 0;
	default:
		return -EINVAL;
	}
}

/* A GSI has one message, or one pin at each of the three chips (the PIC pair is two). */
static bool route_conflicts(const struct keel_route *a, const struct keel_route *b)
{
	if (a->type != KVM_IRQ_ROUTING_IRQCHIP || b->type != KVM_IRQ_ROUTING_IRQCHIP)
		return true;
	return a->chip == b->chip && (a->chip == KEEL_CHIP_IOAPIC || a->pin / 8 == b->pin / 8);
}

static int routes_add(struct keel_vm *vm, struct keel_routes *routes, u16 *used,
		      const struct kvm_irq_routing_entry *e)
{
	struct keel_route *group = &routes->route[routes->first[e->gsi]];
	struct keel_route *route = &group[used[e->gsi]];
	int i, ret;

	ret = route_parse(vm, e, route);
	if (ret)
		return ret;
	for (i = 0; i < used[e->gsi]; i++)
		if (route_conflicts(&group[i], route))
			return -EINVAL;
	used[e->gsi]++;
	if (route->type == KVM_IRQ_ROUTING_IRQCHIP)
		routes->gsi[route->chip][route->pin] = e->gsi;
	else if (e->gsi < vm->irqchip.nr_client_pins && (route->data & BIT(15)))
		__set_bit(route->data & 0xff, routes->eoi_vectors);
	return 0;
}

static void routes_free(struct keel_routes *routes)
{
	if (!routes)
		return;
	kvfree(routes->first);
	kvfree(routes);
}

/* Makes a table of @nr entries; an ERR_PTR() when one of them is wrong or there is no memory. */
static struct keel_routes *routes_build(struct keel_vm *vm,
					const struct kvm_irq_routing_entry *entries, u32 nr)
{
	struct keel_routes *routes;
	u32 i, nr_gsi = 1;
	int ret = -ENOMEM;
	u16 *used;

	for (i = 0; i < nr; i++) {
		if (entries[i].gsi >= KEEL_MAX_IRQ_ROUTES)
			return ERR_PTR(-EINVAL);
		nr_gsi = max(nr_gsi, entries[i].gsi + 1);
	}
	routes = kvzalloc(struct_size(routes, route, nr), GFP_KERNEL_ACCOUNT);
	used = kvcalloc(nr_gsi, sizeof(*used), GFP_KERNEL_ACCOUNT);
	if (!routes || !used)
		goto fail;
	routes->first = kvcalloc(nr_gsi + 1, sizeof(*routes->first), GFP_KERNEL_ACCOUNT);
	if (!routes->first)
		goto fail;

	routes->nr_gsi = nr_gsi;
	memset(routes->gsi, 0xff, sizeof(routes->gsi));
	for (i = 0; i < nr; i++)
		routes->first[entries[i].gsi + 1]++;
	for (i = 0; i < nr_gsi; i++)
		routes->first[i + 1] += routes->first[i];
	for (i = 0; i < nr; i++) {
		ret = routes_add(vm, routes, used, &entries[i]);
		if (ret)
			goto fail;
	}
	kvfree(used);
	return routes;

fail:
	kvfree(used);
	routes_free(routes);
	return ERR_PTR(ret);
}

/**
 * keel_set_gsi_routing() - KVM_SET_GSI_ROUTING: replace all routes
 * @vm: the VM, no lock held
 * @routing: from the client
 *
 * Return: 0; -EFAULT; -ENOMEM; -EINVAL without an in-kernel controller, for too many entries,
 * flags, GSIs, types or pins that do not exist, or two entries that exclude each other
 */
int keel_set_gsi_routing(struct keel_vm *vm, const struct kvm_irq_routing __user *routing)
{
	struct kvm_irq_routing_entry *entries = NULL;
	struct keel_routes *routes, *old;
	struct kvm_irq_routing head;

	if (copy_from_user(&head, routing, sizeof(head)))
		return -EFAULT;
	if (smp_load_acquire(&vm->irqchip.mode) == KEEL_IRQCHIP_NONE)
		return -EINVAL;
	if (head.nr > KEEL_MAX_IRQ_ROUTES || head.flags)
		return -EINVAL;
	if (head.nr) {
		entries = vmemdup_user(routing->entries, array_size(sizeof(*entries), head.nr));
		if (IS_ERR(entries))
			return PTR_ERR(entries);
	}
	routes = routes_build(vm, entries, head.nr);
	kvfree(entries);
	if (IS_ERR(routes))
		return PTR_ERR(routes);

	mutex_lock(&vm->lock);
	old = rcu_dereference_protected(vm->irqchip.routes, lockdep_is_held(&vm->lock));
	rcu_assign_pointer(vm->irqchip.routes, routes);
	mutex_unlock(&vm->lock);
	synchronize_srcu_expedited(&vm->srcu);
	routes_free(old);
	return 0;
}

static struct keel_routes *routes_build_default(struct keel_vm *vm)
{
	struct kvm_irq_routing_entry *entries;
	struct keel_routes *routes;
	u32 gsi, n = 0;

	entries = kcalloc(DEFAULT_ROUTES, sizeof(*entries), GFP_KERNEL_ACCOUNT);
	if (!entries)
		return ERR_PTR(-ENOMEM);
	for (gsi = 0; gsi < KVM_IOAPIC_NUM_PINS; gsi++) {
		entries[n].gsi = gsi;
		entries[n].type = KVM_IRQ_ROUTING_IRQCHIP;
		entries[n].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		entries[n++].u.irqchip.pin = gsi;
		if (gsi >= KEEL_PIC_PINS)
			continue;
		entries[n].gsi = gsi;
		entries[n].type = KVM_IRQ_ROUTING_IRQCHIP;
		entries[n].u.irqchip.irqchip = gsi / 8;	/* KVM_IRQCHIP_PIC_MASTER, _SLAVE */
		entries[n++].u.irqchip.pin = gsi % 8;
	}
	routes = routes_build(vm, entries, n);
	kfree(entries);
	return routes;
}

/**
 * keel_irqchip_create() - KVM_CREATE_IRQCHIP: PIC pair, I/O APIC, and local APICs for vCPUs to come
 * @vm: the VM, vm->lock held
 *
 * Return: 0; -EEXIST when the VM has controllers; -EINVAL when it has vCPUs; -ENOMEM
 */
int keel_irqchip_create(struct keel_vm *vm)
{
	struct keel_routes *routes;
	int ret;

	lockdep_assert_held(&vm->lock);
	if (vm->irqchip.mode != KEEL_IRQCHIP_NONE)
		return -EEXIST;
	if (vm->nr_created)
		return -EINVAL;

	routes = routes_build_default(vm);
	if (IS_ERR(routes))
		return PTR_ERR(routes);
	ret = keel_pic_create(vm);
	if (ret)
		goto free_routes;
	ret = keel_ioapic_create(vm);
	if (ret)
		goto destroy_pic;
	rcu_assign_pointer(vm->irqchip.routes, routes);
	smp_store_release(&vm->irqchip.mode, KEEL_IRQCHIP_KERNEL);
	return 0;

destroy_pic:
	keel_pic_destroy(vm);
free_routes:
	routes_free(routes);
	return ret;
}

/**
 * keel_irqchip_split() - KVM_CAP_SPLIT_IRQCHIP: local APICs for vCPUs to come, all else is the client's
 * @vm: the VM, no lock held
 * @nr_pins: GSIs that are the pins of the client's I/O APIC
 *
 * Return: 0; -EINVAL for too many pins; -EEXIST when the VM has controllers or vCPUs; -ENOMEM
 */
int keel_irqchip_split(struct keel_vm *vm, u64 nr_pins)
{
	struct keel_routes *routes;
	int ret = -EEXIST;

	if (nr_pins > KEEL_MAX_IRQ_ROUTES)
		return -EINVAL;
	mutex_lock(&vm->lock);
	if (vm->irqchip.mode == KEEL_IRQCHIP_NONE && !vm->nr_created) {
		routes = routes_build(vm, NULL, 0);
		ret = PTR_ERR_OR_ZERO(routes);
		if (!ret) {
			vm->irqchip.nr_client_pins = nr_pins;
			rcu_assign_pointer(vm->irqchip.routes, routes);
			smp_store_release(&vm->irqchip.mode, KEEL_IRQCHIP_SPLIT);
		}
	}
	mutex_unlock(&vm->lock);
	return ret;
}

/**
 * keel_irqchip_destroy() - free all controllers of a VM, except the local APICs
 * @vm: the VM, which nobody uses any more
 *
 * Comes before its vCPUs are freed: the PIT and the I/O APIC deliver to them from hrtimers and work
 * items, and these are stopped here.
 */
void keel_irqchip_destroy(struct keel_vm *vm)
{
	keel_pit_destroy(vm);
	keel_ioapic_destroy(vm);
	keel_pic_destroy(vm);
	routes_free(rcu_replace_pointer(vm->irqchip.routes, NULL, true));
}

/**
 * keel_irqchip_enable_x2apic_api() - KVM_ENABLE_CAP of KVM_CAP_X2APIC_API
 * @vm: the VM
 * @flags: KVM_X2APIC_API_*; what was enabled stays so
 *
 * Return: 0, or -EINVAL for unknown flags
 */
int keel_irqchip_enable_x2apic_api(struct keel_vm *vm, u64 flags)
{
	if (flags & ~(u64)(KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK))
		return -EINVAL;
	if (flags & KVM_X2APIC_API_USE_32BIT_IDS)
		vm->irqchip.x2apic_format = true;
	if (flags & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)
		vm->irqchip.x2apic_no_broadcast_quirk = true;
	return 0;
}

/**
 * keel_signal_msi() - KVM_SIGNAL_MSI
 * @vm: the VM
 * @msi: from the client
 *
 * Return: number of vCPUs that took it, 0 or -1: none; -EINVAL without an in-kernel local APIC, for
 * unknown flags, or for an address that is not valid with 32-bit ids
 */
int keel_signal_msi(struct keel_vm *vm, const struct kvm_msi *msi)
{
	if (READ_ONCE(vm->irqchip.mode) == KEEL_IRQCHIP_NONE || (msi->flags & ~KVM_MSI_VALID_DEVID))
		return -EINVAL;
	return msi_deliver(vm, msi->address_lo, msi->address_hi, msi->data);
}

static long ioctl_create_pit(struct keel_vm *vm, u32 flags)
{
	long ret = -EEXIST;

	mutex_lock(&vm->lock);
	if (!vm->irqchip.pit)
		ret = keel_pit_create(vm, flags);
	mutex_unlock(&vm->lock);
	return ret;
}

static long ioctl_irqchip_state(struct keel_vm *vm, bool set, struct kvm_irqchip __user *arg)
{
	struct kvm_irqchip *chip;
	long ret = 0;

	chip = memdup_user(arg, sizeof(*chip));
	if (IS_ERR(chip))
		return PTR_ERR(chip);
	if (smp_load_acquire(&vm->irqchip.mode) != KEEL_IRQCHIP_KERNEL) {
		kfree(chip);
		return -ENXIO;
	}

	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:	/* 0 and 1, as the PIC numbers its chips */
	case KVM_IRQCHIP_PIC_SLAVE:
		if (set)
			keel_pic_set_state(vm, chip->chip_id, &chip->chip.pic);
		else
			keel_pic_get_state(vm, chip->chip_id, &chip->chip.pic);
		break;
	case KVM_IRQCHIP_IOAPIC:
		if (set)
			keel_ioapic_set_state(vm, &chip->chip.ioapic);
		else
			keel_ioapic_get_state(vm, &chip->chip.ioapic);
		break;
	default:
		ret = -EINVAL;
	}
	if (!ret && !set && copy_to_user(arg, chip, sizeof(*chip)))
		ret = -EFAULT;
	kfree(chip);
	return ret;
}

static long ioctl_get_pit(struct keel_vm *vm, bool legacy, void __user *arg)
{
	struct kvm_pit_state2 state;
	size_t size = legacy ? sizeof(struct kvm_pit_state) : sizeof(state);

	/* KVM_GET_PIT's argument goes both ways; KVM reads it first. */
	if (legacy && copy_from_user(&state, arg, size))
		return -EFAULT;
	if (!smp_load_acquire(&vm->irqchip.pit))
		return -ENXIO;
	keel_pit_get_state(vm, &state);
	return copy_to_user(arg, &state, size) ? -EFAULT : 0;
}

static long ioctl_set_pit(struct keel_vm *vm, bool legacy, const void __user *arg)
{
	union {
		struct kvm_pit_state v1;
		struct kvm_pit_state2 v2;
	} state;

	if (copy_from_user(&state, arg, legacy ? sizeof(state.v1) : sizeof(state.v2)))
		return -EFAULT;
	if (!smp_load_acquire(&vm->irqchip.pit))
		return -ENXIO;
	if (legacy)
		keel_pit_set_legacy(vm, &state.v1);
	else
		keel_pit_set_state(vm, &state.v2);
	return 0;
}

static long ioctl_irq_line(struct keel_vm *vm, bool status, struct kvm_irq_level __user *arg)
{
	struct kvm_irq_level line;

	if (copy_from_user(&line, arg, sizeof(line)))
		return -EFAULT;
	if (smp_load_acquire(&vm->irqchip.mode) == KEEL_IRQCHIP_NONE)
		return -ENXIO;
	line.status = set_irq(vm, KEEL_IRQ_SOURCE_CLIENT, line.irq, line.level, status);
	if (status && copy_to_user(arg, &line, sizeof(line)))
		return -EFAULT;
	return 0;
}

/**
 * keel_irqchip_ioctl() - the VM's ioctls that concern interrupt controllers
 * @vm: the VM, no lock held
 * @cmd: ioctl number
 * @arg: its argument
 *
 * Return: as KVM's ioctl; -ENOTTY when @cmd is none of these
 */
long keel_irqchip_ioctl(struct keel_vm *vm, unsigned int cmd, void __user *arg)
{
	union {
		struct kvm_pit_config pit;
		struct kvm_reinject_control reinject;
		struct kvm_msi msi;
	} u;
	long ret;

	switch (cmd) {
	case KVM_CREATE_IRQCHIP:
		mutex_lock(&vm->lock);
		ret = keel_irqchip_create(vm);
		mutex_unlock(&vm->lock);
		return ret;
	case KVM_CREATE_PIT:
		return ioctl_create_pit(vm, KVM_PIT_SPEAKER_DUMMY);
	case KVM_CREATE_PIT2:
		if (copy_from_user(&u.pit, arg, sizeof(u.pit)))
			return -EFAULT;
		return ioctl_create_pit(vm, u.pit.flags);
	case KVM_GET_PIT:
	case KVM_GET_PIT2:
		return ioctl_get_pit(vm, cmd == KVM_GET_PIT, arg);
	case KVM_SET_PIT:
	case KVM_SET_PIT2:
		return ioctl_set_pit(vm, cmd == KVM_SET_PIT, arg);
	case KVM_REINJECT_CONTROL:
		if (copy_from_user(&u.reinject, arg, sizeof(u.reinject)))
			return -EFAULT;
		if (!smp_load_acquire(&vm->irqchip.pit))
			return -ENXIO;
		keel_pit_set_reinject(vm, u.reinject.pit_reinject);
		return 0;
	case KVM_GET_IRQCHIP:
	case KVM_SET_IRQCHIP:
		return ioctl_irqchip_state(vm, cmd == KVM_SET_IRQCHIP, arg);
	case KVM_IRQ_LINE:
	case KVM_IRQ_LINE_STATUS:
		return ioctl_irq_line(vm, cmd == KVM_IRQ_LINE_STATUS, arg);
	case KVM_SET_GSI_ROUTING:
		return keel_set_gsi_routing(vm, arg);
	case KVM_SIGNAL_MSI:
		if (copy_from_user(&u.msi, arg, sizeof(u.msi)))
			return -EFAULT;
		return keel_signal_msi(vm, &u.msi);
	default:
		return -ENOTTY;
	}
}
