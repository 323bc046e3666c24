// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel ctl: one command to the control socket of a running guest (control.c), and its answer in words.
 *
 * A file to be written is opened here, with the user's own rights, and its descriptor goes along with
 * the command: the guest's process may not open files.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control.h"
#include "keel.h"

#define DETACH		0x01		/* Ctrl-A, then d */

static const struct {
	const char *name, *argument;	/* argument: its name in the JSON, or NULL */
	const char *what;
} commands[] = {
	{ "status", NULL, "is it running, how much memory has it" },
	{ "pause", NULL, "stop all its CPUs" },
	{ "resume", NULL, "let them run again" },
	{ "powerdown", NULL, "press its power button" },
	{ "reset", NULL, "start it anew, as when it was launched" },
	{ "quit", NULL, "end it at once" },
	{ "balloon", "size", "SIZE: ask it for so much of its memory" },
	{ "stats", NULL, "what it says of its memory" },
	{ "devices", NULL, "list its PCI devices" },
	{ "dump", "file", "FILE: write its memory and registers as an ELF core" },
	{ "console", NULL, "join its console; Ctrl-A d leaves it" },
};

#define COMMANDS	(sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *to)
{
	fprintf(to, "usage: keel ctl NAME COMMAND [ARGUMENT]\n\n"
		"NAME is that of keel run --name. Commands:\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].what);
}

static int control_connect(const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int ret = control_path(addr.sun_path, sizeof(addr.sun_path), name), fd;

	if (ret)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	if (fd >= 0)
		close(fd);
	return keel_fail(errno, "no guest '%s': %s: %s", name, addr.sun_path, strerror(errno));
}

static int command_send(int fd, struct json_object *command, int file)
{
	const char *text = json_object_to_json_string_ext(command, JSON_C_TO_STRING_PLAIN);
	struct iovec iov[] = {
		{ .iov_base = (char *)text, .iov_len = strlen(text) },
		{ .iov_base = "\n", .iov_len = 1 },
	};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} space = { 0 };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };

	if (file >= 0) {
		struct cmsghdr *head = &space.align;

		message.msg_control = space.bytes;
		message.msg_controllen = sizeof(space.bytes);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(head), &file, sizeof(file));
	}
	if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0)
		return keel_fail(errno, "the guest does not listen: %s", strerror(errno));
	return 0;
}

/* Byte by byte: what follows the line may be the console's. */
static struct json_object *answer_read(int fd)
{
	char line[16 * CONTROL_LINE_MAX];
	struct json_object *answer;
	size_t used = 0;

	while (used < sizeof(line) - 1 && read(fd, line + used, 1) == 1 && line[used] != '\n')
		used++;
	line[used] = '\0';
	answer = json_tokener_parse(line);
	if (!answer)
		keel_fail(EPIPE, "the guest gave no answer: it may have ended");
	return answer;
}

static void answer_print(struct json_object *answer)
{
	json_object_object_foreach(answer, key, value) {
		if (!strcmp(key, "ok"))
			continue;
		if (json_object_is_type(value, json_type_array)) {
			for (size_t i = 0; i < json_object_array_length(value); i++)
				printf("%s\n", json_object_get_string(
				       json_object_array_get_idx(value, i)));
		} else if (json_object_is_type(value, json_type_object)) {
			answer_print(value);
		} else {
			printf("%s: %s\n", key, json_object_get_string(value));
		}
	}
}

static void console_join(int fd)
{
	struct pollfd fds[2] = {
		{ .fd = fd, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN },
	};
	bool escaped = false, terminal = isatty(STDIN_FILENO);
	char data[4096];
	ssize_t n;

	if (terminal && keel_term_raw(STDIN_FILENO))
		terminal = false;
	while (poll(fds, 2, -1) >= 0) {
		if (fds[0].revents) {
			n = read(fd, data, sizeof(data));
			if (n <= 0 || write(STDOUT_FILENO, data, n) < 0)
				break;
		}
		if (!fds[1].revents)
			continue;
		n = read(STDIN_FILENO, data, sizeof(data));
		if (n <= 0 && terminal)
			break;
		if (n <= 0)
			fds[1].fd = -1;		/* the rest of the output is wanted, too */
		for (ssize_t i = 0; i < n; i++) {
			if (terminal && escaped && data[i] == 'd')
				goto out;
			escaped = !escaped && data[i] == DETACH;
			if ((!terminal || !escaped) && send(fd, data + i, 1, MSG_NOSIGNAL) < 0)
				goto out;
		}
	}
out:
	keel_term_restore();
}

static int command_run(const char *name, size_t which, const char *argument)
{
	struct json_object *command = json_object_new_object(), *answer = NULL, *ok, *error;
	int fd = control_connect(name), file = -1, ret = fd < 0 ? fd : 0;

	json_object_object_add(command, "command", json_object_new_string(commands[which].name));
	if (argument)
		json_object_object_add(command, commands[which].argument,
				       json_object_new_string(argument));
	if (!ret && !strcmp(commands[which].name, "dump")) {
		file = open(argument, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (file < 0)
			ret = keel_fail(errno, "%s: %s", argument, strerror(errno));
	}
	if (!ret)
		ret = command_send(fd, command, file);
	if (!ret)
		answer = answer_read(fd);
	if (!ret && !answer)
		ret = -EPIPE;
	if (!ret && !(json_object_object_get_ex(answer, "ok", &ok) && json_object_get_boolean(ok)))
		ret = keel_fail(EIO, "%s", json_object_object_get_ex(answer, "error", &error) ?
				json_object_get_string(error) : "the guest did not say why not");
	if (!ret)
		answer_print(answer);
	if (!ret && !strcmp(commands[which].name, "console"))
		console_join(fd);
	json_object_put(command);
	json_object_put(answer);
	if (file >= 0)
		close(file);
	if (fd >= 0)
		close(fd);
	return ret;
}

int keel_ctl(int argc, char **argv)
{
	size_t which = 0;
	int ret;

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		usage(stdout);
		return 0;
	}
	while (argc >= 3 && which < COMMANDS && strcmp(argv[2], commands[which].name))
		which++;
	if (argc < 3)
		ret = keel_fail(EINVAL, "give a name and a command: try keel ctl --help");
	else if (which == COMMANDS)
		ret = keel_fail(EINVAL, "no command '%s': try keel ctl --help", argv[2]);
	else if (argc != (commands[which].argument ? 4 : 3))
		ret = keel_fail(EINVAL, "%s takes %s: try keel ctl --help", argv[2],
				commands[which].argument ? "one argument" : "no argument");
	else
		ret = command_run(argv[1], which, argc == 4 ? argv[3] : NULL);
	if (ret)
		fprintf(stderr, "keel: %s\n", keel_error());
	return ret ? 1 : 0;
}
