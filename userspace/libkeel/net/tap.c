// SPDX-License-Identifier: GPL-2.0-only
/*
 * A tap device of the host's, with offloads; if asked for, a port of a bridge.
 *
 * The tap is made by the tun driver and set up through rtnetlink (libnl-route), and ends with its
 * descriptor. A bridge that was not there is made, and removed at the end if it has no other port.
 * One thread reads frames; the card writes its own. Where vhost-net serves the card, the descriptor
 * is the kernel's and no thread is started.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "loop.h"
#include "net.h"

struct tap {
	struct keel_net net;
	char name[IFNAMSIZ], bridge[IFNAMSIZ];
	int bridge_index;
	bool made_bridge, lent;
	struct nl_sock *nl;
	struct keel_loop *loop;
	struct keel_watch readable;
	uint8_t frame[VNET_FRAME_MAX];
};

static int nl_fail(const struct tap *tap, const char *what, int err)
{
	return keel_fail(err == -NLE_PERM ? EPERM : EIO, "--net tap: cannot %s %s: %s%s", what,
			 tap->name, nl_geterror(err),
			 err == -NLE_PERM ? " (that wants CAP_NET_ADMIN)" : "");
}

/* Change flags or master of the link @name. */
static int link_change(struct tap *tap, const char *name, const char *master)
{
	struct rtnl_link *link = NULL, *change = rtnl_link_alloc();
	int err = change ? rtnl_link_get_kernel(tap->nl, 0, name, &link) : -NLE_NOMEM;

	if (err >= 0) {
		rtnl_link_set_flags(change, IFF_UP);
		if (master)
			rtnl_link_set_master(change, if_nametoindex(master));
		err = rtnl_link_change(tap->nl, link, change, 0);
	}
	rtnl_link_put(link);
	rtnl_link_put(change);
	return err;
}

static int bridge_make(struct tap *tap)
{
	struct rtnl_link *link = NULL;
	int err;

	if (rtnl_link_get_kernel(tap->nl, 0, tap->bridge, &link) >= 0) {
		err = rtnl_link_is_bridge(link) ? 0 : -NLE_OBJ_MISMATCH;
		rtnl_link_put(link);
		return err;
	}
	link = rtnl_link_bridge_alloc();
	if (!link)
		return -NLE_NOMEM;
	rtnl_link_set_name(link, tap->bridge);
	err = rtnl_link_add(tap->nl, link, NLM_F_CREATE | NLM_F_EXCL);
	rtnl_link_put(link);
	tap->made_bridge = err >= 0;
	tap->bridge_index = if_nametoindex(tap->bridge);
	return err < 0 ? err : link_change(tap, tap->bridge, NULL);
}

/* Ports of a bridge are the links whose master it is. */
static void bridge_remove(struct tap *tap)
{
	int index = tap->bridge_index, ports = 0;
	struct nl_cache *cache;
	struct rtnl_link *link;

	if (rtnl_link_alloc_cache(tap->nl, AF_UNSPEC, &cache) < 0)
		return;
	for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o))
		ports += rtnl_link_get_master((struct rtnl_link *)o) == index;
	nl_cache_free(cache);
	link = rtnl_link_alloc();
	if (!ports && link) {
		rtnl_link_set_ifindex(link, index);
		rtnl_link_delete(tap->nl, link);
	}
	rtnl_link_put(link);
}

static int tap_open(struct tap *tap, const struct keel_net_config *config)
{
	struct ifreq request = {
		.ifr_flags = IFF_TAP | IFF_NO_PI | (config->plain ? 0 : IFF_VNET_HDR),
	};
	int header = VNET_HEADER, err;

	tap->net.tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (tap->net.tap < 0)
		return keel_fail(errno, "--net tap: cannot open /dev/net/tun: %s", strerror(errno));
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s",
		 config->ifname ? config->ifname : "keel%d");
	if (ioctl(tap->net.tap, TUNSETIFF, &request) < 0 ||
	    (!config->plain && (ioctl(tap->net.tap, TUNSETVNETHDRSZ, &header) < 0 ||
				ioctl(tap->net.tap, TUNSETOFFLOAD, 0) < 0))) {
		err = errno;
		return keel_fail(err, "--net tap: cannot make a tap device%s%s: %s%s",
				 config->ifname ? " " : "", config->ifname ? config->ifname : "",
				 strerror(err), err == EPERM ? " (that wants CAP_NET_ADMIN)" : "");
	}
	snprintf(tap->name, sizeof(tap->name), "%.15s", request.ifr_name);
	return 0;
}

static int tap_configure(struct tap *tap)
{
	int err;

	tap->nl = nl_socket_alloc();
	err = tap->nl ? nl_connect(tap->nl, NETLINK_ROUTE) : -NLE_NOMEM;
	if (err < 0)
		return nl_fail(tap, "talk to the kernel about", err);
	if (*tap->bridge) {
		err = bridge_make(tap);
		if (err < 0)
			return nl_fail(tap, "make the bridge of", err);
	}
	err = link_change(tap, tap->name, *tap->bridge ? tap->bridge : NULL);
	return err < 0 ? nl_fail(tap, "set up", err) : 0;
}

/* Frames ----------------------------------------------------------------------------------- */

static void tap_readable(void *opaque)
{
	struct tap *tap = opaque;
	ssize_t n = read(tap->net.tap, tap->frame, sizeof(tap->frame));

	if (n > 0 && !tap->net.receive(tap->net.card, tap->frame, n))
		tap->net.dropped++;
}

static void tap_send(struct keel_net *net, const struct iovec *iov, unsigned int count)
{
	/* the kernel checks the header; a full queue drops, as a wire does */
	if (writev(net->tap, iov, count) < 0)
		return;
}

static void tap_offload(struct keel_net *net, unsigned int tun_flags)
{
	ioctl(net->tap, TUNSETOFFLOAD, tun_flags);
}

static void lend_call(void *opaque)
{
	struct tap *tap = opaque;

	if (tap->lent)
		keel_loop_remove(tap->loop, &tap->readable);
	else
		keel_loop_add(tap->loop, &tap->readable);
}

static void tap_lend(struct keel_net *net, bool lent)
{
	struct tap *tap = (struct tap *)net;

	tap->lent = lent;
	keel_loop_call(tap->loop, lend_call, tap);
}

static int tap_plug(struct keel_net *net)
{
	struct tap *tap = (struct tap *)net;
	int ret = keel_loop_create("net-tap", &tap->loop);

	tap->readable = (struct keel_watch) { .fd = net->tap, .ready = tap_readable, .opaque = tap };
	return ret ? ret : keel_loop_add(tap->loop, &tap->readable);
}

static void tap_destroy(struct keel_net *net)
{
	struct tap *tap = (struct tap *)net;

	keel_loop_destroy(tap->loop);
	if (net->tap >= 0)
		close(net->tap);
	if (tap->made_bridge)
		bridge_remove(tap);
	nl_socket_free(tap->nl);
	free(tap);
}

static void tap_describe(struct keel_net *net, char *text, size_t size)
{
	struct tap *tap = (struct tap *)net;

	snprintf(text, size, "tap %s%s%s", tap->name, *tap->bridge ? " in bridge " : "", tap->bridge);
}

static const struct keel_net_ops ops = {
	.name = "tap", .plug = tap_plug, .send = tap_send, .offload = tap_offload,
	.lend = tap_lend, .describe = tap_describe, .destroy = tap_destroy,
};

int keel_net_tap(const struct keel_net_config *config, struct keel_net **out)
{
	struct tap *tap = calloc(1, sizeof(*tap));
	int ret;

	if (!tap)
		return keel_fail(ENOMEM, "out of memory");
	tap->net.ops = &ops;
	tap->net.vnet = !config->plain;
	tap->net.tap = -1;
	if (config->bridge)
		snprintf(tap->bridge, sizeof(tap->bridge), "%s", config->bridge);
	ret = tap_open(tap, config);
	if (!ret)
		ret = tap_configure(tap);
	if (ret) {
		tap_destroy(&tap->net);
		return ret;
	}
	*out = &tap->net;
	return 0;
}
