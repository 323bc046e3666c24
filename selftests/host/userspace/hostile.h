/* SPDX-License-Identifier: GPL-2.0-only */
/* A hostile driver, whose deeds are read from a string of bytes: for the fuzzer, and for tests. */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <stddef.h>
#include <stdint.h>

extern const char *const hostile_devices[];	/* ends with NULL */

/* Plugs in the device, does what the bytes say, and sees that a reset makes it whole. */
void hostile_run(const char *device, const uint8_t *data, size_t size);

#endif
