/* SPDX-License-Identifier: GPL-2.0-only */
/* What a process may still do once its guest runs: see confine.c. */
#ifndef KEEL_CONFINE_H
#define KEEL_CONFINE_H

#include <stdbool.h>

enum confine_kind { CONFINE_GUEST, CONFINE_GUEST_SOCKETS, CONFINE_SWITCH };

/**
 * confine_prepare - namespaces and an empty root of our own, if we can have them
 *
 * Before any thread; the old root is in use until confine(). What cannot be had is done without.
 */
void confine_prepare(void);
/** confine - leave the old root and all system calls but the needed ones, in every thread; for good */
int confine(enum confine_kind kind);

#endif
