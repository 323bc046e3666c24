// SPDX-License-Identifier: GPL-2.0-only
/*
 * The user's terminal in raw mode, and back.
 *
 * Raw mode must end with the process whichever way it goes: keel_term_restore() is called on the
 * orderly path, by atexit(), and by handlers of the signals that mean a crash, so it uses only
 * functions that signal(7) lists as safe. SIGKILL and SIGSTOP cannot be helped. Output
 * post-processing stays on: our own messages need it, and to the guest's "\r\n" it does no harm.
 *
 * One terminal a process, hence file-scope state; "active" is the only thing a handler reads first.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "libkeel.h"

static struct termios saved;
static int saved_fd = -1;
static volatile sig_atomic_t active;

void keel_term_restore(void)
{
	if (!active)
		return;
	active = 0;
	/* not TCSADRAIN: output that a stopped terminal holds must not hold us */
	tcsetattr(saved_fd, TCSANOW, &saved);
}

static void crash(int sig)
{
	keel_term_restore();
	/* SA_RESETHAND has put the default action back: let it happen */
	raise(sig);
}

static void handlers_install(void)
{
	static const int crashes[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGQUIT, SIGSYS };
	struct sigaction sa = { .sa_handler = crash, .sa_flags = SA_RESETHAND };

	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		sigaction(crashes[i], &sa, NULL);
	atexit(keel_term_restore);
}

int keel_term_raw(int fd)
{
	static bool installed;
	struct termios raw;
	int err;

	if (tcgetattr(fd, &saved) < 0) {
		err = errno;
		return keel_fail(err, "cannot read the terminal's settings: %s", strerror(err));
	}
	saved_fd = fd;
	if (!installed) {
		installed = true;
		handlers_install();
	}
	raw = saved;
	raw.c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	raw.c_lflag &= ~(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
	raw.c_cflag &= ~(CSIZE | PARENB);
	raw.c_cflag |= CS8;
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	active = 1;
	if (tcsetattr(fd, TCSANOW, &raw) < 0) {
		err = errno;
		active = 0;
		return keel_fail(err, "cannot put the terminal into raw mode: %s", strerror(err));
	}
	return 0;
}
