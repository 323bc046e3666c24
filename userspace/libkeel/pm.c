// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fixed ACPI power management registers (ACPI specification 6.4, 4.8.3): PM1 status, enable and
 * control, 16 bits each, at the ports that acpi.c names in the FADT.
 *
 * Of the events there is the power button: keel_pm_button() sets its status bit, and the SCI is high
 * while that and its enable bit are set. There is no timer and no global lock; the enable register
 * keeps what it is given. In the control register SCI_EN is always set:
 * this machine was never in legacy mode. SLP_EN with the type of S5 powers the machine off; other
 * sleep types, which the DSDT does not name, are ignored.
 *
 * pm->lock guards the registers and the level of the SCI.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "libkeel.h"

#define PM1_STATUS	0
#define POWER_BUTTON	0x0100
#define PM1_ENABLE	2

/* PM1 control */
#define SCI_EN		0x0001
#define SLP_TYPE_SHIFT	10
#define SLP_TYPE	0x1c00
#define SLP_EN		0x2000		/* reads as 0 */
#define CONTROL_KEPT	(0x0006 | SLP_TYPE)
#define ENABLE_KEPT	0x4721		/* of the events that the specification has */

struct keel_pm {
	struct keel_irq sci;
	struct keel_power power;
	pthread_mutex_t lock;
	uint16_t status, enable, control;
};

static uint64_t pm_read(void *dev, uint64_t offset, unsigned int size)
{
	struct keel_pm *pm = dev;
	uint64_t all;

	pthread_mutex_lock(&pm->lock);
	all = pm->status | (uint64_t)pm->enable << (8 * PM1_ENABLE) |
	      (uint64_t)(pm->control | SCI_EN) << (8 * KEEL_PM_CONTROL);
	pthread_mutex_unlock(&pm->lock);
	return all >> (8 * offset) & ((1ULL << (8 * size)) - 1);
}

/* @mask has the bits of the register that are written, at their places. */
static uint16_t merge(uint16_t old, uint16_t value, uint16_t mask)
{
	return (old & ~mask) | (value & mask);
}

/* Returns whether the machine is to be off. */
static bool control_write(struct keel_pm *pm, uint16_t value, uint16_t mask)
{
	uint16_t control = merge(pm->control, value, mask);

	pm->control = control & CONTROL_KEPT;
	return value & mask & SLP_EN && (control & SLP_TYPE) >> SLP_TYPE_SHIFT == KEEL_PM_S5;
}

static void sci_update(struct keel_pm *pm)
{
	keel_irq_set(&pm->sci, pm->status & pm->enable);
}

static void pm_write(void *dev, uint64_t offset, uint64_t value, unsigned int size)
{
	uint64_t mask = ((1ULL << (8 * size)) - 1) << (8 * offset);
	struct keel_pm *pm = dev;
	bool off = false;

	value <<= 8 * offset;
	pthread_mutex_lock(&pm->lock);
	pm->status &= ~(value & mask & 0xffff);		/* a 1 clears */
	if (mask >> (8 * PM1_ENABLE) & 0xffff)
		pm->enable = merge(pm->enable, value >> (8 * PM1_ENABLE),
				   mask >> (8 * PM1_ENABLE)) & ENABLE_KEPT;
	if (mask >> (8 * KEEL_PM_CONTROL) & 0xffff)
		off = control_write(pm, value >> (8 * KEEL_PM_CONTROL),
				    mask >> (8 * KEEL_PM_CONTROL));
	sci_update(pm);
	pthread_mutex_unlock(&pm->lock);
	if (off)
		pm->power.off(pm->power.opaque);
}

bool keel_pm_button(struct keel_pm *pm)
{
	bool listens;

	pthread_mutex_lock(&pm->lock);
	pm->status |= POWER_BUTTON;
	listens = pm->enable & POWER_BUTTON;
	sci_update(pm);
	pthread_mutex_unlock(&pm->lock);
	return listens;
}

const struct keel_bus_ops keel_pm_ops = {
	.name = "acpi-pm",
	.width = 4,
	.read = pm_read,
	.write = pm_write,
};

int keel_pm_create(const struct keel_irq *sci, const struct keel_power *power,
		   struct keel_pm **out)
{
	struct keel_pm *pm = calloc(1, sizeof(*pm));

	if (!pm)
		return keel_fail(ENOMEM, "out of memory");
	pm->sci = *sci;
	pm->power = *power;
	pthread_mutex_init(&pm->lock, NULL);
	*out = pm;
	return 0;
}

void keel_pm_destroy(struct keel_pm *pm)
{
	if (pm)
		pthread_mutex_destroy(&pm->lock);
	free(pm);
}
