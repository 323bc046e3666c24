/* SPDX-License-Identifier: GPL-2.0-only */
/* The control socket of a running guest: control.c serves it, ctl.c speaks to it. */
#ifndef KEEL_CONTROL_H
#define KEEL_CONTROL_H

#include "machine.h"

#define CONTROL_LINE_MAX	4096

struct control;

/** control_create - listen as @name; nothing is served before control_start() */
int control_create(const char *name, struct machine *m, struct control **out);
int control_start(struct control *control);
void control_destroy(struct control *control);
/** control_reset_wanted - somebody asked for a reset, which is why the VM has ended */
bool control_reset_wanted(const struct control *control);

/** control_path - where the socket of the guest @name is */
int control_path(char *path, size_t size, const char *name);

#endif
