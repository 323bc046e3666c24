/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The local APIC's own structure, shared by lapic.c, lapic_timer.c and lapic_ipi.c.
 *
 * The register page is written by the vCPU's thread only, except IRR and TMR, which any CPU changes
 * with atomic bit operations. Other CPUs read ID, LDR, DFR, SPIV and the LVTs when they deliver.
 */
#ifndef KEEL_LAPIC_H
#define KEEL_LAPIC_H

#include <linux/hrtimer.h>
#include <asm/apicdef.h>
#include <asm/msr-index.h>

#include "../keel.h"

/* One APIC timer tick is one nanosecond of the host's monotonic clock, undivided. */
#define LAPIC_NR_LVT		7	/* timer, thermal, performance, LINT0, LINT1, error, CMCI */
#define LAPIC_LVT_CMCI		6	/* the last one, which is there where MCG_CAP says so */
#define LAPIC_SHORTHAND		0xc0000
#define LAPIC_X2APIC_BROADCAST	0xffffffffU
#define LAPIC_XAPIC_BROADCAST	0xffU

/* Delivery modes as struct keel_irq_msg has them. */
#define LAPIC_DM(mode)		((mode) >> 8)

/* Bits of struct keel_lapic.events. */
#define LAPIC_EV_INIT		0
#define LAPIC_EV_SIPI		1

/*
 * All but @pending is written by the vCPU's thread while the hrtimer is idle, or by the callback
 * for the periodic timer's next @target.
 */
struct keel_lapic_timer {
	struct hrtimer timer;
	u32 mode;		/* bits 18:17 of LVTT */
	u32 divide;
	u64 period;		/* ns; 0: stopped */
	ktime_t target;		/* expiry of one-shot and periodic */
	u64 deadline;		/* guest TSC; 0: disarmed */
	atomic_t pending;	/* expired, interrupt not yet raised */
	bool started;		/* the hrtimer, since it was last stopped; keel_vcpu.cpu_deadline does without it */
};

struct keel_lapic {
	struct keel_vcpu *vcpu;
	void *regs;		/* one page, laid out as the guest sees it */
	unsigned long events;	/* atomic bits, LAPIC_EV_* */
	u8 sipi_vector;		/* valid once LAPIC_EV_SIPI is seen */
	atomic_t nmis;		/* NMIs not yet handed to the vCPU's thread: 0 to 2 */
	atomic_t errors;	/* what the next write to ESR shows there */
	bool lint0_nmi;		/* counted in keel_irqchip.lint0_nmi */
	bool idle;		/* nothing is in service, unless the CPU does without us; false: look */
	struct keel_lapic_timer timer;
};

static inline u32 lapic_reg(const struct keel_lapic *apic, u32 reg)
{
	return READ_ONCE(*(u32 *)(apic->regs + reg));
}

static inline void lapic_set_reg(struct keel_lapic *apic, u32 reg, u32 val)
{
	WRITE_ONCE(*(u32 *)(apic->regs + reg), val);
}

/* The 32-bit word of a 256-bit register (IRR, ISR, TMR) with @vector; its bit is @vector mod 32. */
static inline unsigned long *lapic_vec_word(const struct keel_lapic *apic, u32 reg, u8 vector)
{
	return apic->regs + reg + (vector & 0xe0UL) / 2;
}

static inline bool lapic_test_vec(const struct keel_lapic *apic, u32 reg, u8 vector)
{
	return test_bit(vector % 32, lapic_vec_word(apic, reg, vector));
}

static inline void lapic_clear_vec(struct keel_lapic *apic, u32 reg, u8 vector)
{
	clear_bit(vector % 32, lapic_vec_word(apic, reg, vector));
}

static inline void lapic_set_vec(struct keel_lapic *apic, u32 reg, u8 vector)
{
	set_bit(vector % 32, lapic_vec_word(apic, reg, vector));
}

static inline u64 lapic_base(const struct keel_lapic *apic)
{
	return READ_ONCE(apic->vcpu->apic_base);
}

static inline bool lapic_hw_enabled(const struct keel_lapic *apic)
{
	return lapic_base(apic) & MSR_IA32_APICBASE_ENABLE;
}

static inline bool lapic_x2apic(const struct keel_lapic *apic)
{
	return (lapic_base(apic) & (MSR_IA32_APICBASE_ENABLE | X2APIC_ENABLE)) ==
	       (MSR_IA32_APICBASE_ENABLE | X2APIC_ENABLE);
}

static inline bool lapic_sw_enabled(const struct keel_lapic *apic)
{
	return lapic_reg(apic, APIC_SPIV) & APIC_SPIV_APIC_ENABLED;
}

static inline u32 lapic_x2apic_ldr(u32 id)
{
	return (id >> 4) << 16 | 1U << (id & 0xf);
}

/* lapic.c */
void lapic_write_xapic(struct keel_lapic *apic, u32 reg, u32 val);
int lapic_highest(const struct keel_lapic *apic, u32 reg);
bool lapic_eoi_wanted(struct keel_vcpu *vcpu, u8 vector);
void lapic_eoi_notify(struct keel_lapic *apic, u8 vector);
u32 lapic_update_ppr(struct keel_lapic *apic);

/* lapic_virt.c */
void lapic_virt_update(struct keel_lapic *apic);
void lapic_virt_mode(struct keel_vcpu *vcpu);

/* lapic_ipi.c */
int lapic_local_deliver(struct keel_lapic *apic, u32 lvt);
void lapic_error(struct keel_lapic *apic, u32 bits);
void lapic_send_ipi(struct keel_lapic *apic, u32 low, u32 high);
void lapic_send_x2apic(struct keel_lapic *apic, u64 val);
void lapic_send_self(struct keel_lapic *apic, u8 vector);

/* lapic_timer.c */
void lapic_timer_init(struct keel_lapic *apic);
void lapic_timer_stop(struct keel_lapic *apic);
void lapic_timer_set_mode(struct keel_lapic *apic);
void lapic_timer_set_count(struct keel_lapic *apic, u32 count);
void lapic_timer_set_divide(struct keel_lapic *apic, u32 val);
void lapic_timer_restore(struct keel_lapic *apic);
u32 lapic_timer_count(const struct keel_lapic *apic);
u32 lapic_timer_mode_mask(const struct keel_lapic *apic);

#endif /* KEEL_LAPIC_H */
