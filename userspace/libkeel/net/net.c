// SPDX-License-Identifier: GPL-2.0-only
/* The choice of a network backend, and what all of them share: the card's address. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "net.h"

int keel_net_create(const struct keel_net_config *config, struct keel_net **out)
{
	static int (*const create[])(const struct keel_net_config *, struct keel_net **) = {
		[KEEL_NET_USER] = keel_net_user, [KEEL_NET_TAP] = keel_net_tap,
		[KEEL_NET_SWITCH] = keel_net_switch,
	};
	static const uint8_t none[6];
	int ret = create[config->kind](config, out);

	if (ret)
		return ret;
	memcpy((*out)->mac, config->mac, sizeof((*out)->mac));
	if (!memcmp(config->mac, none, sizeof(none))) {
		/* the prefix that everybody's virtual machines have; the rest is this guest's own */
		memcpy((*out)->mac, (uint8_t[]){ 0x52, 0x54, 0x00 }, 3);
		if (getrandom((*out)->mac + 3, 3, 0) != 3)
			return keel_fail(errno, "no random numbers: %s", strerror(errno));
	}
	return 0;
}

int keel_net_plug(struct keel_net *net, bool (*receive)(void *card, const void *frame, size_t size),
		  void *card)
{
	net->receive = receive;
	net->card = card;
	return net->ops->plug(net);
}

void keel_net_destroy(struct keel_net *net)
{
	if (net)
		net->ops->destroy(net);
}

const uint8_t *keel_net_mac(const struct keel_net *net)
{
	return net->mac;
}
