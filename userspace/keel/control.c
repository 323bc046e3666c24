// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control socket of a guest: a JSON object a line goes in, and one comes out.
 *
 *   {"command": "balloon", "size": "256M"}      {"ok": true}
 *   {"command": "balloon", "size": "much"}      {"ok": false, "error": "'much' is no size: ..."}
 *
 * The socket lies in a directory of the user's own, which is all the permission there is. One thread
 * serves a handful of clients, in turn; a file to be written is opened by the client and comes with
 * the command (SCM_RIGHTS), since this process may not open files any more. "console" turns its
 * connection into the console's second terminal. The socket's name is removed by run.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control.h"

#define CLIENTS_MAX	8

struct client {
	int fd, passed;			/* passed: a descriptor that came, or -1 */
	size_t used;
	char line[CONTROL_LINE_MAX];
};

struct control {
	struct machine *m;
	int listener, stop[2];
	bool started, reset;
	pthread_t thread;
	struct client client[CLIENTS_MAX];
};

/* What one command works with. */
struct request {
	struct control *control;
	struct client *client;
	struct json_object *in, *out;
};

static const char *argument(const struct request *r, const char *name)
{
	struct json_object *value;

	if (json_object_object_get_ex(r->in, name, &value) &&
	    json_object_is_type(value, json_type_string))
		return json_object_get_string(value);
	keel_fail(EINVAL, "the command wants a string '%s'", name);
	return NULL;
}

/* Commands: 0, or a negative errno with keel_error() --------------------------------------- */

static int cmd_status(struct request *r)
{
	struct keel_memory *mem = keel_vm_memory(r->control->m->vm);

	json_object_object_add(r->out, "state", json_object_new_string(
			       keel_vm_paused(r->control->m->vm) ? "paused" : "running"));
	json_object_object_add(r->out, "exits", json_object_new_int64(
			       keel_vm_exits(r->control->m->vm)));
	json_object_object_add(r->out, "pid", json_object_new_int64(getpid()));
	json_object_object_add(r->out, "memory", json_object_new_int64(
			       keel_memory_low(mem) + keel_memory_high(mem)));
	return 0;
}

static int cmd_pause(struct request *r)
{
	keel_vm_pause(r->control->m->vm);
	return 0;
}

static int cmd_resume(struct request *r)
{
	keel_vm_resume(r->control->m->vm);
	return 0;
}

static int cmd_powerdown(struct request *r)
{
	if (keel_pm_button(r->control->m->pm))
		return 0;
	return keel_fail(EAGAIN, "the guest does not listen to its power button (yet)");
}

static int cmd_reset(struct request *r)
{
	r->control->reset = true;
	keel_vm_end(r->control->m->vm, KEEL_END_GUEST, NULL);
	return 0;
}

static int cmd_quit(struct request *r)
{
	keel_vm_end(r->control->m->vm, KEEL_END_GUEST, "ended by keel ctl");
	return 0;
}

static int balloon_there(const struct machine *m)
{
	return m->balloon ? 0 : keel_fail(ENODEV, "the guest has no balloon: start it with --balloon");
}

static int cmd_balloon(struct request *r)
{
	struct machine *m = r->control->m;
	const char *text = argument(r, "size");
	uint64_t size;
	int ret = text ? balloon_there(m) : -EINVAL;

	if (!ret)
		ret = keel_parse_size(text, &size);
	return ret ? ret : keel_balloon_set(m->balloon, size);
}

static void stat_add(void *opaque, const char *name, uint64_t value)
{
	json_object_object_add(opaque, name, json_object_new_int64(value));
}

static int cmd_stats(struct request *r)
{
	struct json_object *stats = json_object_new_object();
	int ret = balloon_there(r->control->m);

	json_object_object_add(r->out, "stats", stats);
	if (!ret)
		keel_balloon_stats(r->control->m->balloon, stat_add, stats);
	return ret;
}

static void device_add(void *opaque, const char *text)
{
	json_object_array_add(opaque, json_object_new_string(text));
}

static int cmd_devices(struct request *r)
{
	struct json_object *list = json_object_new_array();

	json_object_object_add(r->out, "devices", list);
	keel_pci_list(r->control->m->pci, device_add, list);
	return 0;
}

static int cmd_dump(struct request *r)
{
	struct keel_vm *vm = r->control->m->vm;
	bool was_paused = keel_vm_paused(vm);
	int ret;

	if (r->client->passed < 0)
		return keel_fail(EINVAL, "the command wants a file with it (SCM_RIGHTS)");
	if (!was_paused)
		keel_vm_pause(vm);
	ret = keel_vm_core(vm, r->client->passed);
	if (!was_paused)
		keel_vm_resume(vm);
	return ret;
}

static int cmd_console(struct request *r)
{
	int fd = dup(r->client->fd), ret;

	if (fd < 0)
		return keel_fail(errno, "no descriptor left: %s", strerror(errno));
	ret = keel_console_tap(r->control->m->console, fd);
	if (ret)
		close(fd);
	return ret;
}

static const struct {
	const char *name;
	int (*run)(struct request *r);
	bool hands_over;		/* the connection is no more ours */
} commands[] = {
	{ "status", cmd_status, false }, { "pause", cmd_pause, false },
	{ "resume", cmd_resume, false }, { "powerdown", cmd_powerdown, false },
	{ "reset", cmd_reset, false }, { "quit", cmd_quit, false },
	{ "balloon", cmd_balloon, false }, { "stats", cmd_stats, false },
	{ "devices", cmd_devices, false }, { "dump", cmd_dump, false },
	{ "console", cmd_console, true },
};

/* Clients ---------------------------------------------------------------------------------- */

static void client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	if (c->passed >= 0)
		close(c->passed);
	c->fd = c->passed = -1;
	c->used = 0;
}

static bool answer(struct client *c, struct json_object *out)
{
	const char *text = json_object_to_json_string_ext(out, JSON_C_TO_STRING_PLAIN);
	struct iovec iov[] = {
		{ .iov_base = (char *)text, .iov_len = strlen(text) },
		{ .iov_base = "\n", .iov_len = 1 },
	};
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };

	/* a client that does not read its answers has no use for them */
	return sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/* Returns whether the connection stays. */
static bool line_run(struct control *control, struct client *c, const char *line)
{
	struct request r = { .control = control, .client = c, .in = json_tokener_parse(line) };
	bool hands_over = false, stays;
	const char *name;
	int ret;

	r.out = json_object_new_object();
	name = json_object_is_type(r.in, json_type_object) ? argument(&r, "command") : NULL;
	ret = name ? keel_fail(EINVAL, "no command '%s'", name) : -EINVAL;
	if (!json_object_is_type(r.in, json_type_object))
		keel_fail(EINVAL, "not a JSON object");
	for (size_t i = 0; name && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(name, commands[i].name))
			continue;
		hands_over = commands[i].hands_over;
		if (hands_over) {
			/* what comes on the line next is the console's: the answer goes first */
			json_object_object_add(r.out, "ok", json_object_new_boolean(true));
			answer(c, r.out);
		}
		ret = commands[i].run(&r);
	}
	stays = !hands_over;
	if (!hands_over) {
		json_object_object_add(r.out, "ok", json_object_new_boolean(!ret));
		if (ret)
			json_object_object_add(r.out, "error", json_object_new_string(keel_error()));
		stays = answer(c, r.out);
	}
	json_object_put(r.in);
	json_object_put(r.out);
	if (c->passed >= 0)
		close(c->passed);
	c->passed = -1;
	return stays;
}

static ssize_t client_receive(struct client *c)
{
	struct iovec iov = { .iov_base = c->line + c->used, .iov_len = sizeof(c->line) - 1 - c->used };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} space;
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space.bytes,
		.msg_controllen = sizeof(space.bytes),
	};
	ssize_t n = recvmsg(c->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;

	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
		if (c->passed >= 0)
			close(c->passed);
		memcpy(&c->passed, CMSG_DATA(head), sizeof(int));
	}
	return n;
}

static void client_serve(struct control *control, struct client *c)
{
	ssize_t n = client_receive(c);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_close(c);
		return;
	}
	c->used += n;
	c->line[c->used] = '\0';
	while ((end = memchr(c->line, '\n', c->used))) {
		*end = '\0';
		if (!line_run(control, c, c->line)) {
			client_close(c);
			return;
		}
		c->used -= end + 1 - c->line;
		memmove(c->line, end + 1, c->used + 1);
	}
	if (c->used == sizeof(c->line) - 1)
		client_close(c);
}

static void client_accept(struct control *control)
{
	int fd = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC);

	for (unsigned int i = 0; fd >= 0 && i < CLIENTS_MAX; i++) {
		if (control->client[i].fd < 0) {
			control->client[i].fd = fd;
			return;
		}
	}
	if (fd >= 0)
		close(fd);
}

static void *control_thread(void *opaque)
{
	struct control *control = opaque;
	struct pollfd fds[2 + CLIENTS_MAX];

	for (;;) {
		fds[0] = (struct pollfd) { .fd = control->stop[0], .events = POLLIN };
		fds[1] = (struct pollfd) { .fd = control->listener, .events = POLLIN };
		for (unsigned int i = 0; i < CLIENTS_MAX; i++)
			fds[2 + i] = (struct pollfd) {
				.fd = control->client[i].fd, .events = POLLIN,
			};
		if (poll(fds, 2 + CLIENTS_MAX, -1) < 0)
			continue;
		if (fds[0].revents)
			return NULL;
		for (unsigned int i = 0; i < CLIENTS_MAX; i++)
			if (fds[2 + i].revents)
				client_serve(control, &control->client[i]);
		if (fds[1].revents)
			client_accept(control);
	}
}

/* Life ------------------------------------------------------------------------------------- */

int control_path(char *path, size_t size, const char *name)
{
	char file[64];

	snprintf(file, sizeof(file), "guest-%s", name);
	return keel_runtime_path(path, size, file);
}

static int listener_open(struct control *control, const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int ret = control_path(addr.sun_path, sizeof(addr.sun_path), name), probe;

	if (ret)
		return ret;
	control->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ret = probe >= 0 && !connect(probe, (struct sockaddr *)&addr, sizeof(addr));
	if (probe >= 0)
		close(probe);
	if (ret)
		return keel_fail(EEXIST, "--name %s: another guest has this name", name);
	/* what a guest left that was killed */
	unlink(addr.sun_path);
	if (control->listener < 0 ||
	    bind(control->listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(control->listener, CLIENTS_MAX) < 0)
		return keel_fail(errno, "--name %s: cannot listen at %s: %s", name, addr.sun_path,
				 strerror(errno));
	return 0;
}

int control_create(const char *name, struct machine *m, struct control **out)
{
	struct control *control = calloc(1, sizeof(*control));
	int ret;

	if (!control)
		return keel_fail(ENOMEM, "out of memory");
	control->m = m;
	control->listener = -1;
	control->stop[0] = control->stop[1] = -1;
	for (unsigned int i = 0; i < CLIENTS_MAX; i++)
		control->client[i].fd = control->client[i].passed = -1;
	ret = pipe2(control->stop, O_CLOEXEC) < 0 ?
	      keel_fail(errno, "cannot make a pipe: %s", strerror(errno)) : 0;
	if (!ret)
		ret = listener_open(control, name);
	if (ret) {
		control_destroy(control);
		return ret;
	}
	*out = control;
	return 0;
}

int control_start(struct control *control)
{
	int err = pthread_create(&control->thread, NULL, control_thread, control);

	if (err)
		return keel_fail(err, "cannot start a thread: %s", strerror(err));
	pthread_setname_np(control->thread, "control");
	control->started = true;
	return 0;
}

void control_destroy(struct control *control)
{
	if (!control)
		return;
	if (control->stop[1] >= 0)
		close(control->stop[1]);
	if (control->started)
		pthread_join(control->thread, NULL);
	for (unsigned int i = 0; i < CLIENTS_MAX; i++)
		client_close(&control->client[i]);
	if (control->listener >= 0)
		close(control->listener);
	if (control->stop[0] >= 0)
		close(control->stop[0]);
	free(control);
}

bool control_reset_wanted(const struct control *control)
{
	return control && control->reset;
}
