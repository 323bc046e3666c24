// SPDX-License-Identifier: GPL-2.0-only
/*
 * The hostile driver of hostile.h. It begins with queues that run, since a device that was never
 * started has little to attack, and has a word of its own for each thing that a guest can do.
 */
#include <errno.h>
#include <linux/virtio_pci.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver.h"
#include "hostile.h"
#include "net/net.h"

#define COMMON(field)	offsetof(struct virtio_pci_common_cfg, field)
#define DISK_SIZE	(256 * 1024)
#define RING		8

const char *const hostile_devices[] = { "blk", "net", "console", "rng", "balloon", "9p", NULL };

struct world {
	struct machine m;
	struct drv d;
	struct keel_vconsole *console;
	struct keel_net *net;
	int server;			/* the 9P server's end */
	const uint8_t *data;
	size_t left;
};

static uint32_t word(struct world *w, unsigned int size)
{
	uint32_t value = 0;

	if (size > w->left)
		size = w->left;
	memcpy(&value, w->data, size);
	w->data += size;
	w->left -= size;
	return value;
}

/* Devices ---------------------------------------------------------------------------------- */

static int net_plug(struct keel_net *net)
{
	(void)net;
	return 0;
}

static void net_send(struct keel_net *net, const struct iovec *iov, unsigned int count)
{
	static uint8_t frame[VNET_FRAME_MAX];

	/* reads all of it, for the sanitizer; what was sent comes back */
	net->receive(net->card, frame, iov_gather(iov, count, frame, sizeof(frame)));
}

static void net_offload(struct keel_net *net, unsigned int flags)
{
	(void)net;
	(void)flags;
}

static void net_destroy(struct keel_net *net)
{
	free(net);
}

static const struct keel_net_ops net_ops = {
	.name = "test", .plug = net_plug, .send = net_send, .offload = net_offload,
	.destroy = net_destroy,
};

static void output(void *opaque, const uint8_t *data, size_t size)
{
	volatile uint8_t sum = 0;

	(void)opaque;
	while (size--)
		sum += *data++;
}

static void ready(void *opaque)
{
	struct world *w = opaque;
	uint8_t bytes[40] = { 1 };

	if (w->console)
		keel_vconsole_input(w->console, bytes, sizeof(bytes));
}

static int blk_create(struct world *w)
{
	struct keel_blk_config config = { .queues = 2, .unthreaded = true, .no_uring = true };
	int ret;

	config.fd = memfd_create("disk", MFD_CLOEXEC);
	if (config.fd < 0 || ftruncate(config.fd, DISK_SIZE))
		abort();
	ret = keel_blk_create(w->m.pci, &config);
	close(config.fd);
	return ret;
}

static int net_create(struct world *w)
{
	w->net = calloc(1, sizeof(*w->net));
	w->net->ops = &net_ops;
	w->net->tap = -1;
	w->net->vnet = word(w, 1) & 1;
	return keel_vnet_create(w->m.pci, w->net, false, true);
}

static int share_create(struct world *w)
{
	struct keel_share_config config = { .path = "/", .tag = "t", .unthreaded = true };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		abort();
	config.server_fd = pair[0];
	w->server = pair[1];
	return keel_share_create(w->m.pci, &config);
}

static int device_create(struct world *w, const char *device)
{
	struct keel_vconsole_config console = {
		.output = output, .ready = ready, .opaque = w, .unthreaded = true,
	};
	struct keel_balloon *balloon;

	if (!strcmp(device, "blk"))
		return blk_create(w);
	if (!strcmp(device, "net"))
		return net_create(w);
	if (!strcmp(device, "console"))
		return keel_vconsole_create(w->m.pci, &console, &w->console);
	if (!strcmp(device, "rng"))
		return keel_rng_create(w->m.pci, true);
	if (!strcmp(device, "balloon"))
		return keel_balloon_create(w->m.pci, true, &balloon);
	return share_create(w);
}

/* Deeds ------------------------------------------------------------------------------------ */

/* Mostly memory that is there, sometimes not, and sometimes its end. */
static uint64_t some_gpa(struct world *w)
{
	uint32_t x = word(w, 2);

	switch (x & 0xf) {
	case 0:
		return (uint64_t)word(w, 4) << 32 | word(w, 4);
	case 1:
		return DRV_MEMORY - (x >> 4);
	case 2:
		return 0x10000 + (x >> 4);	/* the rings */
	default:
		return DRV_DATA + (x >> 4) * 16;
	}
}

static uint32_t some_size(struct world *w)
{
	uint32_t x = word(w, 1);

	return x < 0xf0 ? x * 4 : x < 0xf8 ? (x & 7) * 4096 : word(w, 4);
}

static void desc_write(struct world *w)
{
	unsigned int q = word(w, 1) % (w->d.queues ? w->d.queues : 1), at = word(w, 1) % RING;
	uint64_t gpa = some_gpa(w);
	uint32_t size = some_size(w);
	uint8_t flags = word(w, 1);

	drv_desc(&w->d, q)[at] = (struct vring_desc) {
		.addr = gpa, .len = size, .flags = flags & 7,
		.next = flags & 0x80 ? word(w, 2) : (at + 1) % RING,
	};
}

static void offer(struct world *w)
{
	unsigned int q = word(w, 1) % (w->d.queues ? w->d.queues : 1);
	struct vring_avail *avail = drv_avail(&w->d, q);
	uint8_t head = word(w, 1);

	avail->ring[avail->idx % RING] = head & 0x80 ? word(w, 2) : head % RING;
	avail->idx += head == 0xff ? word(w, 2) : 1;
	drv_kick(&w->d, q);
	drv_poll(&w->d);
}

static void data_write(struct world *w)
{
	uint64_t at = DRV_DATA + (word(w, 2) & 0xfff) * 4;
	uint32_t n = word(w, 1) % 64;
	uint8_t *to = drv_at(&w->d, at);

	while (n--)
		*to++ = word(w, 1);
}

/* A whole request in the form that block drivers give it: header, data, status. */
static void block_request(struct world *w)
{
	uint32_t type = word(w, 1), sector = word(w, 2), size = some_size(w);
	uint32_t *header = drv_at(&w->d, DRV_DATA);
	bool in = word(w, 1) & 1;
	struct drv_buf bufs[] = {
		{ DRV_DATA, 16, false }, { DRV_DATA + 0x1000, size, in }, { DRV_DATA + 0x100, 1, true },
	};

	header[0] = type & 0x80 ? word(w, 4) : type % 16;
	header[2] = sector;
	header[3] = 0;
	if (w->d.size[0] == RING)
		drv_do(&w->d, 0, bufs, 3);
}

static void answer_9p(struct world *w)
{
	uint8_t request[64], reply[16] = { 11, 0, 0, 0, 7 };
	ssize_t n = w->server >= 0 ? recv(w->server, request, sizeof(request), MSG_DONTWAIT) : 0;

	if (n >= 7) {
		memcpy(reply + 5, request + 5, 2);
		if (send(w->server, reply, 11, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			return;
	}
}

static void deed(struct world *w)
{
	switch (word(w, 1) % 11) {
	case 0: case 1:
		desc_write(w);
		break;
	case 2: case 3:
		offer(w);
		break;
	case 4:
		data_write(w);
		break;
	case 5:
		drv_write(&w->d, word(w, 1) % sizeof(struct virtio_pci_common_cfg), word(w, 4), 4);
		drv_poll(&w->d);
		break;
	case 6:
		drv_write(&w->d, 0x2000 + word(w, 1), word(w, 4), 1);
		break;
	case 7:
		drv_start(&w->d, 0, RING);
		break;
	case 8:
		block_request(w);
		break;
	case 9:
		answer_9p(w);
		break;
	default:
		drv_read(&w->d, word(w, 2) & 0x3fff, 1 << (word(w, 1) & 3));
		ready(w);
		break;
	}
}

void hostile_run(const char *device, const uint8_t *data, size_t size)
{
	struct world w = { .data = data, .left = size, .server = -1 };

	drv_machine(&w.m);
	if (device_create(&w, device))
		abort();
	drv_find(&w.d, &w.m, 1);
	if (!drv_start(&w.d, 0, RING))
		abort();
	while (w.left)
		deed(&w);
	/* nothing that a guest did outlives a reset */
	if (w.server >= 0)
		shutdown(w.server, SHUT_RDWR);
	drv_write(&w.d, COMMON(device_status), 0, 1);
	if (drv_status(&w.d) || !drv_start(&w.d, 0, RING))
		abort();
	drv_machine_end(&w.m);
	if (w.server >= 0)
		close(w.server);
}
