// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs a command inside a machine whose only way out is a serial line, and carries its standard
 * streams over that.  The other end is bochs.py.
 *
 * usage: agent LINE TERMINAL COMMAND [ARGUMENT...]     TERMINAL: 1 gives the command a terminal
 *        agent LINE fail TEXT                          only says that the machine is not usable
 *
 * A frame is a letter, the payload's length (two bytes, high one first), the payload.  Out: 'o' and
 * 'e' output, 'r' room for more input, 'c' a line of control (up, exit STATUS, fail TEXT).  In: 'i' input, where
 * none is its end; 'w' the terminal's size, four bytes.  The sender waits for 'r' between two
 * 'i' frames, for the line has no flow control.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define MOST 1024

enum { IN, OUT, ERR, STREAMS };

static int line;
static int ours[STREAMS] = { -1, -1, -1 };	/* our ends of the command's streams */
static bool terminal;

/* Input that the command has not taken yet. */
static unsigned char pending[MOST];
static size_t pending_at, pending_len;

static void die(const char *what)
{
	perror(what);
	exit(125);
}

static void put(const void *data, size_t len)
{
	const char *at = data;

	while (len) {
		ssize_t done = write(line, at, len);

		if (done < 0 && errno != EINTR)
			die("line");
		if (done > 0) {
			at += done;
			len -= done;
		}
	}
}

static void frame(char kind, const void *data, size_t len)
{
	unsigned char header[3] = { kind, len >> 8, len };

	put(header, sizeof(header));
	put(data, len);
}

static void control(const char *verb, const char *about)
{
	char text[256];

	snprintf(text, sizeof(text), "%s %s", verb, about);
	frame('c', text, strlen(text));
}

static void line_open(const char *path)
{
	struct termios raw;

	line = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (line < 0 || tcgetattr(line, &raw))
		die(path);
	cfmakeraw(&raw);
	cfsetspeed(&raw, B115200);
	raw.c_cflag |= CLOCAL | CREAD;
	if (tcsetattr(line, TCSAFLUSH, &raw))
		die(path);
}

static void input_close(void)
{
	if (!terminal && ours[IN] >= 0)
		close(ours[IN]);
	ours[IN] = -1;
}

static void input_drain(void)
{
	ssize_t done;

	if (ours[IN] < 0) {
		pending_len = 0;
		return;
	}
	done = write(ours[IN], pending + pending_at, pending_len);
	if (done < 0) {
		if (errno != EAGAIN && errno != EINTR) {
			input_close();
			pending_len = 0;
		}
		return;
	}
	pending_at += done;
	pending_len -= done;
	if (!pending_len)
		frame('r', NULL, 0);
}

static void received(char kind, const unsigned char *data, size_t len)
{
	struct winsize size = { };

	if (kind == 'i' && !len) {
		input_close();
	} else if (kind == 'i') {
		memcpy(pending, data, len);
		pending_at = 0;
		pending_len = len;
		input_drain();
	} else if (kind == 'w' && len == 4 && terminal) {
		size.ws_row = data[0] << 8 | data[1];
		size.ws_col = data[2] << 8 | data[3];
		ioctl(ours[OUT], TIOCSWINSZ, &size);
	}
}

/* Collects frames from what the line gives, in pieces of any size. */
static void line_read(void)
{
	static unsigned char buffer[3 + MOST];
	static size_t have;
	ssize_t done;
	size_t len;

	done = read(line, buffer + have, sizeof(buffer) - have);
	if (done <= 0)
		return;
	have += done;
	while (have >= 3) {
		len = buffer[1] << 8 | buffer[2];
		if (len > MOST) {
			have = 0;
			return;
		}
		if (have < 3 + len)
			return;
		received(buffer[0], buffer + 3, len);
		have -= 3 + len;
		memmove(buffer, buffer + 3 + len, have);
	}
}

/* False when the stream has ended. */
static bool forward(int stream)
{
	char data[MOST];
	ssize_t got = read(ours[stream], data, sizeof(data));

	if (got < 0 && errno == EINTR)
		return true;
	if (got <= 0) {
		close(ours[stream]);
		ours[stream] = -1;
		return false;
	}
	frame(stream == OUT ? 'o' : 'e', data, got);
	return true;
}

static pid_t start(char **command, const sigset_t *mask)
{
	int streams[STREAMS][2];
	pid_t pid;

	if (terminal) {
		pid = forkpty(&ours[OUT], NULL, NULL, NULL);
		ours[IN] = ours[OUT];
	} else {
		for (int i = 0; i < STREAMS; i++)
			if (pipe2(streams[i], O_CLOEXEC))
				die("pipe");
		pid = fork();
	}
	if (pid < 0)
		die("fork");
	if (!pid) {
		if (!terminal) {
			setsid();
			dup2(streams[IN][0], 0);
			dup2(streams[OUT][1], 1);
			dup2(streams[ERR][1], 2);
		}
		signal(SIGPIPE, SIG_DFL);
		sigprocmask(SIG_SETMASK, mask, NULL);
		execvp(command[0], command);
		die(command[0]);
	}
	if (!terminal) {
		close(streams[IN][0]);
		close(streams[OUT][1]);
		close(streams[ERR][1]);
		ours[IN] = streams[IN][1];
		ours[OUT] = streams[OUT][0];
		ours[ERR] = streams[ERR][0];
	}
	fcntl(ours[IN], F_SETFL, O_NONBLOCK);
	return pid;
}

static volatile sig_atomic_t child_over;

static void on_child(int number)
{
	(void)number;
	child_over = 1;
}

/* Until the command and all that hold its output are gone; the rest is killed with the command. */
static int follow(pid_t pid)
{
	struct pollfd polled[4];
	bool over = false;
	int status = 0;
	sigset_t none;

	sigemptyset(&none);
	while (ours[OUT] >= 0 || ours[ERR] >= 0 || !over) {
		polled[0] = (struct pollfd){ .fd = pending_len ? -1 : line, .events = POLLIN };
		polled[1] = (struct pollfd){ .fd = ours[OUT], .events = POLLIN };
		polled[2] = (struct pollfd){ .fd = ours[ERR], .events = POLLIN };
		polled[3] = (struct pollfd){ .fd = pending_len ? ours[IN] : -1, .events = POLLOUT };
		if (ppoll(polled, 4, NULL, &none) < 0) {
			if (errno != EINTR)
				die("poll");
			for (int i = 0; i < 4; i++)
				polled[i].revents = 0;
		}
		if (child_over) {
			child_over = 0;
			if (waitpid(pid, &status, WNOHANG) == pid) {
				over = true;
				kill(-1, SIGKILL);
			}
		}
		if (polled[0].revents)
			line_read();
		if (polled[3].revents)
			input_drain();
		if (polled[1].revents && !forward(OUT) && terminal)
			ours[IN] = -1;
		if (polled[2].revents)
			forward(ERR);
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_child };
	char text[32];
	sigset_t block, before;
	int status;

	if (argc < 4)
		return 125;
	line_open(argv[1]);
	if (!strcmp(argv[2], "fail")) {
		control("fail", argv[3]);
		tcdrain(line);
		return 0;
	}
	terminal = !strcmp(argv[2], "1");
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&block);
	sigaddset(&block, SIGCHLD);
	sigprocmask(SIG_BLOCK, &block, &before);
	sigaction(SIGCHLD, &action, NULL);
	control("up", "");
	status = follow(start(argv + 3, &before));
	snprintf(text, sizeof(text), "%d", status);
	control("exit", text);
	tcdrain(line);
	return 0;
}
