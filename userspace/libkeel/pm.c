// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fixed ACPI power management registers (ACPI specification 6.4, 4.8.3): PM1 status, enable and
 * control, 16 bits each, at the ports that acpi.c names in the FADT.
 *
 * There are no buttons, no timer and no global lock, so no status bit is ever set and the SCI never
 * raised; the enable register keeps what it is given. In the control register SCI_EN is always set:
 * this machine was never in legacy mode. SLP_EN with the type of S5 powers the machine off; other
 * sleep types, which the DSDT does not name, are ignored.
 *
 * No locks: the two words kept are independent, and atomic.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "libkeel.h"

#define PM1_STATUS	0
#define PM1_ENABLE	2

/* PM1 control */
#define SCI_EN		0x0001
#define SLP_TYPE_SHIFT	10
#define SLP_TYPE	0x1c00
#define SLP_EN		0x2000		/* reads as 0 */
#define CONTROL_KEPT	(0x0006 | SLP_TYPE)
#define ENABLE_KEPT	0x4721		/* of the events that the specification has */

struct keel_pm {
	struct keel_power power;
	atomic_ushort enable, control;
};

static uint64_t pm_read(void *dev, uint64_t offset, unsigned int size)
{
	struct keel_pm *pm = dev;
	uint64_t all = (uint64_t)pm->enable << (8 * PM1_ENABLE) |
		       (uint64_t)(pm->control | SCI_EN) << (8 * KEEL_PM_CONTROL);

	return all >> (8 * offset) & ((1ULL << (8 * size)) - 1);
}

/* @mask has the bits of the register that are written, at their places. */
static uint16_t merge(uint16_t old, uint16_t value, uint16_t mask)
{
	return (old & ~mask) | (value & mask);
}

static void control_write(struct keel_pm *pm, uint16_t value, uint16_t mask)
{
	uint16_t control = merge(pm->control, value, mask);

	pm->control = control & CONTROL_KEPT;
	if (value & mask & SLP_EN && (control & SLP_TYPE) >> SLP_TYPE_SHIFT == KEEL_PM_S5)
		pm->power.off(pm->power.opaque);
}

static void pm_write(void *dev, uint64_t offset, uint64_t value, unsigned int size)
{
	uint64_t mask = ((1ULL << (8 * size)) - 1) << (8 * offset);
	struct keel_pm *pm = dev;

	value <<= 8 * offset;
	if (mask >> (8 * PM1_ENABLE) & 0xffff)
		pm->enable = merge(pm->enable, value >> (8 * PM1_ENABLE),
				   mask >> (8 * PM1_ENABLE)) & ENABLE_KEPT;
	if (mask >> (8 * KEEL_PM_CONTROL) & 0xffff)
		control_write(pm, value >> (8 * KEEL_PM_CONTROL), mask >> (8 * KEEL_PM_CONTROL));
}

const struct keel_bus_ops keel_pm_ops = {
	.name = "acpi-pm",
	.width = 4,
	.read = pm_read,
	.write = pm_write,
};

int keel_pm_create(const struct keel_power *power, struct keel_pm **out)
{
	struct keel_pm *pm = calloc(1, sizeof(*pm));

	if (!pm)
		return keel_fail(ENOMEM, "out of memory");
	pm->power = *power;
	*out = pm;
	return 0;
}

void keel_pm_destroy(struct keel_pm *pm)
{
	free(pm);
}
