// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel switch: a learning layer-2 switch between the guests of one user.
 *
 * A port is a connection to a Unix socket of packets, and a packet is a frame; net/learn.c knows what
 * goes where. "keel run --net switch=NAME" starts one with a listening socket as its standard input
 * when there is none, and it ends when its last port has gone. Frames for a port that does not read
 * are dropped, as on a wire, so no guest can hold up another.
 *
 * One thread, no locks. Confined to sockets that it has, before the first frame.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <fcntl.h>
#include <unistd.h>

#include "../libkeel/net/learn.h"
#include "confine.h"
#include "keel.h"
#include "libkeel.h"

#define PORTS_MAX	64
#define FRAME_MAX	1514
#define FIRST_WAIT_MS	10000

struct ether_switch {
	struct pollfd fd[1 + PORTS_MAX];	/* the listener, then ports; -1: free */
	struct keel_learn *learn;
	char path[108], lock[116];
	bool had_port;
};

static int64_t seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void port_send(struct ether_switch *sw, unsigned int port, const void *frame, size_t size)
{
	if (sw->fd[1 + port].fd >= 0 &&
	    send(sw->fd[1 + port].fd, frame, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
}

static void port_serve(struct ether_switch *sw, unsigned int port)
{
	uint8_t frame[FRAME_MAX];
	ssize_t n = recv(sw->fd[1 + port].fd, frame, sizeof(frame), MSG_DONTWAIT | MSG_TRUNC);
	int to;

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		close(sw->fd[1 + port].fd);
		sw->fd[1 + port].fd = -1;
		keel_learn_forget(sw->learn, port);
		return;
	}
	if (n < 0 || n > FRAME_MAX)
		return;
	to = keel_learn_frame(sw->learn, port, frame, n, seconds());
	if (to >= 0)
		port_send(sw, to, frame, n);
	for (unsigned int i = 0; to == KEEL_LEARN_FLOOD && i < PORTS_MAX; i++)
		if (i != port)
			port_send(sw, i, frame, n);
}

static void port_accept(struct ether_switch *sw)
{
	int fd = accept4(sw->fd[0].fd, NULL, NULL, SOCK_CLOEXEC);

	for (unsigned int i = 0; fd >= 0 && i < PORTS_MAX; i++) {
		if (sw->fd[1 + i].fd < 0) {
			sw->fd[1 + i] = (struct pollfd) { .fd = fd, .events = POLLIN };
			sw->had_port = true;
			return;
		}
	}
	if (fd >= 0)
		close(fd);
}

static bool any_port(const struct ether_switch *sw)
{
	for (unsigned int i = 0; i < PORTS_MAX; i++)
		if (sw->fd[1 + i].fd >= 0)
			return true;
	return false;
}

/*
 * True when nobody can come any more. Guests connect under the lock, and find no socket once it is
 * removed under it.
 */
static bool leave(struct ether_switch *sw)
{
	int lock = open(sw->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	bool nobody;

	if (lock >= 0 && flock(lock, LOCK_EX))
		return true;
	nobody = poll(&sw->fd[0], 1, 0) <= 0;
	if (nobody)
		unlink(sw->path);
	if (lock >= 0)
		close(lock);
	return nobody;
}

static void serve(struct ether_switch *sw)
{
	for (;;) {
		int n = poll(sw->fd, 1 + PORTS_MAX, any_port(sw) ? -1 : FIRST_WAIT_MS);

		if (n < 0 && errno != EINTR)
			return;
		for (unsigned int i = 0; n > 0 && i < PORTS_MAX; i++)
			if (sw->fd[1 + i].fd >= 0 && sw->fd[1 + i].revents)
				port_serve(sw, i);
		if (n > 0 && sw->fd[0].revents)
			port_accept(sw);
		if (!any_port(sw) && (sw->had_port || !n) && leave(sw))
			return;
	}
}

int keel_switch(int argc, char **argv)
{
	struct ether_switch sw = { .fd[0] = { .fd = STDIN_FILENO, .events = POLLIN } };
	char name[64];
	int type = 0;
	socklen_t size = sizeof(type);

	if (argc != 3 || strcmp(argv[1], "--listening")) {
		fprintf(argc == 2 && !strcmp(argv[1], "--help") ? stdout : stderr,
			"usage: keel switch --listening NAME <SOCKET\n\n"
			"The switch of --net switch=NAME: keel run starts it by itself.\n");
		return argc == 2 && !strcmp(argv[1], "--help") ? 0 : 1;
	}
	snprintf(name, sizeof(name), "switch-%s", argv[2]);
	if (getsockopt(STDIN_FILENO, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_SEQPACKET) {
		fprintf(stderr, "keel: standard input is no listening socket\n");
		return 1;
	}
	sw.learn = keel_learn_create();
	if (!sw.learn || keel_runtime_path(sw.path, sizeof(sw.path), name)) {
		fprintf(stderr, "keel: %s\n", keel_error());
		return 1;
	}
	snprintf(sw.lock, sizeof(sw.lock), "%s.lock", sw.path);
	for (unsigned int i = 0; i < PORTS_MAX; i++)
		sw.fd[1 + i].fd = -1;
	if (confine(CONFINE_SWITCH))
		return 1;
	serve(&sw);
	keel_learn_destroy(sw.learn);
	return 0;
}
