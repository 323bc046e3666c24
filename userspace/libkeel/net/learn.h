/* SPDX-License-Identifier: GPL-2.0-only */
/* The table of a learning switch: see learn.c. */
#ifndef KEEL_LEARN_H
#define KEEL_LEARN_H

#include <stddef.h>
#include <stdint.h>

#define KEEL_LEARN_HEADER	14u	/* of an Ethernet frame */
#define KEEL_LEARN_FLOOD	(-1)
#define KEEL_LEARN_DROP		(-2)

struct keel_learn;
struct keel_learn *keel_learn_create(void);
void keel_learn_destroy(struct keel_learn *learn);
/**
 * keel_learn_frame - where a frame that came in at @port goes
 * @now: seconds of a clock that never goes back
 *
 * A port, KEEL_LEARN_FLOOD (all but @port) or KEEL_LEARN_DROP.
 */
int keel_learn_frame(struct keel_learn *learn, unsigned int port, const uint8_t *frame, size_t size,
		     int64_t now);
/** keel_learn_forget - @port has gone */
void keel_learn_forget(struct keel_learn *learn, unsigned int port);

#endif
