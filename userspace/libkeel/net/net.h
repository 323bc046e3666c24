/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a network card meets what it is plugged into: one backend a file (user.c, tap.c, switch.c).
 *
 * Frames go both ways without a checksum at their ends. With "vnet" a frame has a struct
 * virtio_net_hdr_mrg_rxbuf in front, and may be as long as offloads make it.
 */
#ifndef KEEL_NET_H
#define KEEL_NET_H

#include <sys/uio.h>

#include "libkeel.h"

#define FRAME_MAX	1514u		/* without offloads */
#define VNET_HEADER	12u
#define VNET_FRAME_MAX	(65550u + VNET_HEADER)

struct keel_net_ops {
	const char *name;
	/* receive is set: frames may come until destroy() returns */
	int (*plug)(struct keel_net *net);
	/* a frame from the guest; copies it, and drops it rather than wait */
	void (*send)(struct keel_net *net, const struct iovec *iov, unsigned int count);
	/* offloads that the guest takes, as TUN_F_ bits; only with vnet */
	void (*offload)(struct keel_net *net, unsigned int tun_flags);
	/* the kernel reads and writes the tap now, or no longer; only with one */
	void (*lend)(struct keel_net *net, bool lent);
	void (*describe)(struct keel_net *net, char *text, size_t size);
	void (*destroy)(struct keel_net *net);
};

struct keel_net {
	const struct keel_net_ops *ops;
	uint8_t mac[6];			/* of the guest's card */
	bool vnet;
	int tap;			/* for vhost; else -1 */
	/* a frame for the guest, on a thread of the backend's; false when the card has no room */
	bool (*receive)(void *card, const void *frame, size_t size);
	void *card;
	unsigned long dropped;		/* of the backend's thread */
};

/** keel_net_plug - the card is there: frames come until keel_net_destroy() returns */
int keel_net_plug(struct keel_net *net, bool (*receive)(void *card, const void *frame, size_t size),
		  void *card);

/* What a backend's file gives the others. */
int keel_net_user(const struct keel_net_config *config, struct keel_net **out);
int keel_net_tap(const struct keel_net_config *config, struct keel_net **out);
int keel_net_switch(const struct keel_net_config *config, struct keel_net **out);

static inline size_t iov_gather(const struct iovec *iov, unsigned int count, void *data, size_t room)
{
	size_t done = 0;

	for (unsigned int i = 0; i < count && done < room; i++) {
		size_t n = iov[i].iov_len < room - done ? iov[i].iov_len : room - done;

		__builtin_memcpy((char *)data + done, iov[i].iov_base, n);
		done += n;
	}
	return done;
}

#endif
