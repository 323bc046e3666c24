/* SPDX-License-Identifier: GPL-2.0-only */
/* Queues that the kernel's vhost drivers serve: see vhost.c. */
#ifndef KEEL_VHOST_H
#define KEEL_VHOST_H

#include "virtio.h"

struct keel_vhost;

/** keel_vhost_open - @path is /dev/vhost-net or its like; NULL, with keel_error(), without it */
struct keel_vhost *keel_vhost_open(const char *path, struct keel_memory *memory);
void keel_vhost_close(struct keel_vhost *vhost);

/**
 * keel_vhost_start - hand the first @count queues over; on the device's loop
 *
 * False when the driver took features that this vhost lacks, or it refuses: nothing has changed.
 */
bool keel_vhost_start(struct keel_vhost *vhost, struct virtio *dev, unsigned int count);
/** keel_vhost_stop - take them back, where their device is reset; on the device's loop */
void keel_vhost_stop(struct keel_vhost *vhost);

int keel_vhost_ioctl(struct keel_vhost *vhost, unsigned long request, void *arg);

#endif
