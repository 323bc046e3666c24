// SPDX-License-Identifier: GPL-2.0-only
/*
 * A port of a soft switch: a Unix socket of packets to a "keel switch" process (../../keel/switch.c),
 * which is started by the first guest that names it and ends with the last.
 *
 * The socket lies in a directory that only this user can enter: $XDG_RUNTIME_DIR/keel, or
 * /tmp/keel-UID. One packet is one frame.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "loop.h"
#include "net.h"

extern char **environ;

struct port {
	struct keel_net net;
	char name[32];
	int fd;
	bool gone;
	struct keel_loop *loop;
	struct keel_watch readable;
	uint8_t frame[FRAME_MAX];
};

int keel_runtime_path(char *path, size_t size, const char *name)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	char dir[96];
	struct stat st;

	if (run && *run == '/')
		snprintf(dir, sizeof(dir), "%s/keel", run);
	else
		snprintf(dir, sizeof(dir), "/tmp/keel-%u", getuid());
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return keel_fail(errno, "cannot make %s: %s", dir, strerror(errno));
	/* in /tmp somebody else may have been first */
	if (lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != getuid() || st.st_mode & 077)
		return keel_fail(EPERM, "%s is not a directory of this user's alone", dir);
	if (strchr(name, '/') || !*name || *name == '.')
		return keel_fail(EINVAL, "'%s' is no name: it must have no slash", name);
	if (snprintf(path, size, "%s/%s", dir, name) >= (int)size)
		return keel_fail(ENAMETOOLONG, "%s/%s is too long for a socket", dir, name);
	return 0;
}

static int try_connect(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0 || !connect(fd, (const struct sockaddr *)addr, sizeof(*addr)))
		return fd < 0 ? -errno : fd;
	err = errno;
	close(fd);
	return -err;
}

/* A listening socket at @addr, handed to "keel switch" as its standard input. */
static int switch_start(const struct port *port, const struct sockaddr_un *addr)
{
	char *const argv[] = { "keel", "switch", "--listening", (char *)port->name, NULL };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), err;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	pid_t pid;

	unlink(addr->sun_path);
	if (fd < 0 || bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) || listen(fd, 16)) {
		err = errno;
		if (fd >= 0)
			close(fd);
		return keel_fail(err, "--net switch=%s: cannot listen at %s: %s", port->name,
				 addr->sun_path, strerror(err));
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd, STDIN_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID);
	err = posix_spawn(&pid, "/proc/self/exe", &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	close(fd);
	return err ? keel_fail(err, "--net switch=%s: cannot start it: %s", port->name,
			       strerror(err)) : 0;
}

static int switch_connect(struct port *port)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char lock_path[sizeof(addr.sun_path) + 8];
	char name[48];
	int ret, lock;

	snprintf(name, sizeof(name), "switch-%s", port->name);
	ret = keel_runtime_path(addr.sun_path, sizeof(addr.sun_path), name);
	if (ret)
		return ret;
	/* two guests may come at once, and a switch may be about to end: one of us at a time */
	snprintf(lock_path, sizeof(lock_path), "%s.lock", addr.sun_path);
	lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock < 0 || flock(lock, LOCK_EX))
		ret = keel_fail(errno, "--net switch=%s: cannot lock %s: %s", port->name, lock_path,
				strerror(errno));
	if (!ret)
		ret = port->fd = try_connect(&addr);
	if (ret == -ECONNREFUSED || ret == -ENOENT) {
		ret = switch_start(port, &addr);
		if (!ret)
			ret = port->fd = try_connect(&addr);
	}
	if (lock >= 0)
		close(lock);
	if (port->fd < 0 && (ret == -ECONNREFUSED || ret == -ENOENT || ret == -EACCES))
		return keel_fail(-ret, "--net switch=%s: cannot reach %s: %s", port->name,
				 addr.sun_path, strerror(-ret));
	return ret < 0 ? ret : 0;
}

static void port_readable(void *opaque)
{
	struct port *port = opaque;
	ssize_t n = recv(port->fd, port->frame, sizeof(port->frame), MSG_DONTWAIT);

	if (n > 0) {
		if (!port->net.receive(port->net.card, port->frame, n))
			port->net.dropped++;
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		port->gone = true;
		keel_loop_remove(port->loop, &port->readable);
		keel_note("--net switch=%s: the switch has gone", port->name);
	}
}

static void port_send(struct keel_net *net, const struct iovec *iov, unsigned int count)
{
	struct port *port = (struct port *)net;
	struct msghdr message = { .msg_iov = (struct iovec *)iov, .msg_iovlen = count };

	/* a switch that is behind drops */
	if (sendmsg(port->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
}

static int port_plug(struct keel_net *net)
{
	struct port *port = (struct port *)net;
	int ret = keel_loop_create("net-switch", &port->loop);

	port->readable = (struct keel_watch) {
		.fd = port->fd, .ready = port_readable, .opaque = port,
	};
	return ret ? ret : keel_loop_add(port->loop, &port->readable);
}

static void port_destroy(struct keel_net *net)
{
	struct port *port = (struct port *)net;

	keel_loop_destroy(port->loop);
	if (port->fd >= 0)
		close(port->fd);
	free(port);
}

static void port_describe(struct keel_net *net, char *text, size_t size)
{
	struct port *port = (struct port *)net;

	snprintf(text, size, "switch %s%s", port->name, port->gone ? " (gone)" : "");
}

static const struct keel_net_ops ops = {
	.name = "switch", .plug = port_plug, .send = port_send, .describe = port_describe,
	.destroy = port_destroy,
};

int keel_net_switch(const struct keel_net_config *config, struct keel_net **out)
{
	struct port *port = calloc(1, sizeof(*port));
	int ret;

	if (!port)
		return keel_fail(ENOMEM, "out of memory");
	port->net.ops = &ops;
	port->net.tap = -1;
	port->fd = -1;
	snprintf(port->name, sizeof(port->name), "%s", config->switch_name);
	ret = switch_connect(port);
	if (ret) {
		port_destroy(&port->net);
		return ret;
	}
	*out = &port->net;
	return 0;
}
