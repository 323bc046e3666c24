/* SPDX-License-Identifier: GPL-2.0-only */
/* A guest's machine: the VM with all its devices, as the options of keel run want it. */
#ifndef KEEL_MACHINE_H
#define KEEL_MACHINE_H

#include "options.h"

struct machine {
	struct keel_vm *vm;
	struct keel_pci *pci;
	struct keel_console *console;
	struct keel_uart *uart;
	struct keel_vconsole *vconsole;
	struct keel_balloon *balloon;
	struct keel_rtc *rtc;
	struct keel_i8042 *kbc;
	struct keel_sysports *ports;
	struct keel_pm *pm;
};

/** machine_create - VM, devices and kernel; on failure machine_destroy() takes what there is */
int machine_create(struct machine *m, const struct options *o);
void machine_destroy(struct machine *m);
/** machine_attach - let the console's bytes move */
int machine_attach(struct machine *m);

#endif
