/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Interrupt controllers and timers: local APIC, I/O APIC, PIC pair, PIT, and the GSI routes between
 * them.
 *
 * Devices call routing.c with a GSI; it calls one controller; a controller sets vCPU requests and
 * kicks. Everything here that is not a create, destroy, state or ioctl function works with
 * interrupts off and in hardirq context. Locks: PIC, I/O APIC and PIT have one raw spinlock each;
 * the I/O APIC's and the PIC's are never held while the other, or the PIT's, is taken.
 */
#ifndef KEEL_IRQCHIP_H
#define KEEL_IRQCHIP_H

#include <linux/atomic.h>
#include <linux/kvm.h>
#include <linux/types.h>

struct keel_vm;
struct keel_vcpu;
struct keel_pic;
struct keel_ioapic;
struct keel_pit;
struct keel_routes;

enum keel_irqchip_mode { KEEL_IRQCHIP_NONE, KEEL_IRQCHIP_KERNEL, KEEL_IRQCHIP_SPLIT };

struct keel_irqchip {
	enum keel_irqchip_mode mode;	/* set once, under vm->lock, before any vCPU exists */
	struct keel_pic *pic;
	struct keel_ioapic *ioapic;
	struct keel_pit *pit;		/* published with release once complete */
	struct keel_routes __rcu *routes;	/* vm->srcu; written under vm->lock */
	u32 nr_client_pins;		/* split: the first GSIs are the pins of the client's I/O APIC */
	atomic_t lint0_nmi;		/* local APICs with LINT0 in NMI mode: the NMI watchdog */
	/* KVM_CAP_X2APIC_API */
	bool x2apic_format;		/* 32-bit ids in KVM_GET_LAPIC, KVM_SET_LAPIC and MSIs */
	bool directed_eoi;	/* the I/O APIC has an EOI register */
	bool x2apic_no_broadcast_quirk;	/* 0xff from a device is no broadcast to x2APICs */
};

/* An interrupt message on the APIC bus. */
struct keel_irq_msg {
	u32 dest;
	u32 delivery;		/* 0 fixed, 1 lowest, 2 SMI, 4 NMI, 5 INIT, 6 SIPI, 7 ExtINT */
	u8 vector;
	bool logical;		/* destination mode */
	bool level;		/* trigger mode */
	bool assert;
	u8 shorthand;		/* 0 none, 1 self, 2 all, 3 all but self */
	bool redir_hint;	/* MSI */
};

/* lapic.c */
int keel_lapic_create(struct keel_vcpu *vcpu);
void keel_lapic_destroy(struct keel_vcpu *vcpu);
void keel_lapic_reset(struct keel_vcpu *vcpu, bool init);
void keel_lapic_cpuid_changed(struct keel_vcpu *vcpu);
void keel_lapic_mcg_cap_changed(struct keel_vcpu *vcpu);
int keel_lapic_mmio(struct keel_vcpu *vcpu, u64 gpa, unsigned int len, void *data, bool write);
int keel_lapic_msr_get(struct keel_vcpu *vcpu, u32 msr, u64 *val);
int keel_lapic_msr_set(struct keel_vcpu *vcpu, u32 msr, u64 val);
u64 keel_lapic_get_base(struct keel_vcpu *vcpu);
int keel_lapic_set_base(struct keel_vcpu *vcpu, u64 val, bool host);
u64 keel_lapic_get_cr8(struct keel_vcpu *vcpu);
void keel_lapic_set_cr8(struct keel_vcpu *vcpu, u64 cr8);
int keel_lapic_get_state(struct keel_vcpu *vcpu, struct kvm_lapic_state *state);
int keel_lapic_set_state(struct keel_vcpu *vcpu, const struct kvm_lapic_state *state);
int keel_lapic_pending(struct keel_vcpu *vcpu);
int keel_lapic_highest_irr(struct keel_vcpu *vcpu);
void keel_lapic_ack(struct keel_vcpu *vcpu, u8 vector);
bool keel_lapic_takes_extint(struct keel_vcpu *vcpu);
bool keel_lapic_eoi_is_quiet(struct keel_vcpu *vcpu);
void keel_lapic_eoi(struct keel_vcpu *vcpu);

/* lapic_virt.c */
int keel_lapic_virt_create(struct keel_vcpu *vcpu);
void keel_lapic_set_virt_intr(struct keel_vcpu *vcpu, bool on);
u64 keel_lapic_regs_pa(struct keel_vcpu *vcpu);
void keel_lapic_written(struct keel_vcpu *vcpu, u32 reg);
void keel_lapic_eoi_done(struct keel_vcpu *vcpu, u8 vector);
void keel_lapic_eoi_vectors(struct keel_vcpu *vcpu, u64 exits[4]);
int keel_lapic_in_service(struct keel_vcpu *vcpu);
bool keel_xapic_at_default(const struct keel_vcpu *vcpu);

/* lapic_timer.c */
u64 keel_lapic_get_deadline(struct keel_vcpu *vcpu);
void keel_lapic_set_deadline(struct keel_vcpu *vcpu, u64 tsc);
void keel_lapic_tsc_changed(struct keel_vcpu *vcpu);
void keel_lapic_inject_timer(struct keel_vcpu *vcpu);
void keel_lapic_timer_fired(struct keel_vcpu *vcpu);
void keel_lapic_timer_to_host(struct keel_vcpu *vcpu);
void keel_lapic_move_timer(struct keel_vcpu *vcpu);
extern unsigned int keel_min_timer_period_us;

/* lapic_ipi.c */
void keel_lapic_cmci(struct keel_vcpu *vcpu);
bool keel_lapic_addressed(struct keel_vcpu *vcpu, const struct keel_irq_msg *msg);
int keel_lapic_deliver(struct keel_vm *vm, struct keel_vcpu *source,
		       const struct keel_irq_msg *msg);
int keel_lapic_send_bitmap(struct keel_vcpu *source, u32 min, const u64 ids[2],
			   const struct keel_irq_msg *msg);
struct keel_vcpu *keel_lapic_by_id(struct keel_vm *vm, u32 id);
void keel_lapic_watchdog(struct keel_vm *vm);
bool keel_lapic_vector_in_use(struct keel_vcpu *vcpu, const struct keel_irq_msg *msg);
bool keel_lapic_has_init_sipi(struct keel_vcpu *vcpu);
bool keel_lapic_has_events(const struct keel_vcpu *vcpu);
void keel_lapic_accept_events(struct keel_vcpu *vcpu);
void keel_lapic_set_sipi_vector(struct keel_vcpu *vcpu, u8 vector);
void keel_lapic_post_sipi(struct keel_vcpu *vcpu);
bool keel_lapic_latched_init(const struct keel_vcpu *vcpu);
void keel_lapic_latch_init(struct keel_vcpu *vcpu, bool latch);

/* ioapic.c */
int keel_ioapic_create(struct keel_vm *vm);
void keel_ioapic_destroy(struct keel_vm *vm);
int keel_ioapic_set_irq(struct keel_vm *vm, int pin, int source, bool level, bool line_status);
void keel_ioapic_eoi(struct keel_vm *vm, u8 vector, bool level);
bool keel_ioapic_handles(struct keel_vm *vm, u8 vector);
void keel_ioapic_get_state(struct keel_vm *vm, struct kvm_ioapic_state *state);
void keel_ioapic_set_state(struct keel_vm *vm, const struct kvm_ioapic_state *state);

/* pic.c */
int keel_pic_create(struct keel_vm *vm);
void keel_pic_destroy(struct keel_vm *vm);
int keel_pic_set_irq(struct keel_vm *vm, int pin, int source, bool level);
bool keel_pic_output(struct keel_vm *vm);
int keel_pic_ack(struct keel_vm *vm);
void keel_pic_get_state(struct keel_vm *vm, int chip, struct kvm_pic_state *state);
void keel_pic_set_state(struct keel_vm *vm, int chip, const struct kvm_pic_state *state);

/* pit.c */
int keel_pit_create(struct keel_vm *vm, u32 flags);
void keel_pit_destroy(struct keel_vm *vm);
void keel_pit_get_state(struct keel_vm *vm, struct kvm_pit_state2 *state);
void keel_pit_set_state(struct keel_vm *vm, const struct kvm_pit_state2 *state);
void keel_pit_set_legacy(struct keel_vm *vm, const struct kvm_pit_state *state);
void keel_pit_set_reinject(struct keel_vm *vm, bool reinject);
void keel_pit_acked(struct keel_vm *vm);
void keel_pit_unmasked(struct keel_vm *vm);

/* routing.c */
#define KEEL_IRQ_SOURCE_CLIENT	0
#define KEEL_IRQ_SOURCE_PIT	1
#define KEEL_IRQ_SOURCE_RESAMPLE	2	/* irqfds that are told of the acknowledgement */
#define KEEL_MAX_IRQ_ROUTES	4096	/* entries, and GSIs; KVM_CAP_IRQ_ROUTING */
#define KEEL_PIC_PINS		16	/* of the pair */

/* Controllers with pins, as the notifications below name them. */
enum keel_pin_chip { KEEL_CHIP_PIC, KEEL_CHIP_IOAPIC, KEEL_NR_CHIPS };

int keel_irqchip_create(struct keel_vm *vm);
void keel_irqchip_destroy(struct keel_vm *vm);
int keel_irqchip_split(struct keel_vm *vm, u64 nr_pins);
int keel_irqchip_enable_x2apic_api(struct keel_vm *vm, u64 flags);
int keel_set_irq(struct keel_vm *vm, int source, u32 gsi, bool level);
int keel_send_msi_route(struct keel_vm *vm, u32 gsi);
bool keel_client_wants_eoi(struct keel_vcpu *vcpu, u8 vector);
int keel_set_gsi_routing(struct keel_vm *vm, const struct kvm_irq_routing __user *routing);
int keel_signal_msi(struct keel_vm *vm, const struct kvm_msi *msi);
void keel_irq_acked(struct keel_vm *vm, enum keel_pin_chip chip, unsigned int pin);
void keel_irq_unmasked(struct keel_vm *vm, enum keel_pin_chip chip, unsigned int pin);
long keel_irqchip_ioctl(struct keel_vm *vm, unsigned int cmd, void __user *arg);

/* The level of a wired-or line after @source has changed its share of it. */
static inline bool keel_line_level(u8 *line, int source, bool level)
{
	if (level)
		*line |= 1 << source;
	else
		*line &= ~(1 << source);
	return *line;
}

static inline bool keel_irqchip_in_kernel(const struct keel_irqchip *chip)
{
	return chip->mode == KEEL_IRQCHIP_KERNEL;
}

static inline bool keel_irqchip_split_mode(const struct keel_irqchip *chip)
{
	return chip->mode == KEEL_IRQCHIP_SPLIT;
}

#endif /* KEEL_IRQCHIP_H */
