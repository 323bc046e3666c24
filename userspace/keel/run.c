// SPDX-License-Identifier: GPL-2.0-only
/*
 * keel run: one guest, from the command line to its exit status.
 *
 * The main thread parses, builds the machine and then only waits: for the VM's end, for a signal,
 * or for the second that is up between two looks at whether the guest has halted for good. Signals
 * are blocked in every thread and read from a signalfd here, so an orderly end is the only kind
 * that a signal can cause.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine.h"
#include "control.h"
#include "keel.h"
#include "pool.h"

#define HALT_CHECK_MS		1000

static int fail(void)
{
	fprintf(stderr, "keel: %s\n", keel_error());
	return KEEL_END_ERROR;
}

static int signals_open(void)
{
	sigset_t set;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		return keel_fail(errno, "cannot create a signalfd: %s", strerror(errno));
	return fd;
}

static void wait_for_end(struct machine *m, int signal_fd)
{
	struct pollfd fds[2] = {
		{ .fd = keel_vm_end_fd(m->vm), .events = POLLIN },
		{ .fd = signal_fd, .events = POLLIN },
	};
	struct signalfd_siginfo info;

	for (;;) {
		int n = poll(fds, 2, HALT_CHECK_MS);

		if (n == 0)
			keel_vm_check_halted(m->vm);
		if (n <= 0)
			continue;
		if (fds[0].revents)
			return;
		if (read(signal_fd, &info, sizeof(info)) == sizeof(info))
			keel_vm_end(m->vm, 128 + info.ssi_signo, "ended by signal %u (%s)",
				    info.ssi_signo, strsignal(info.ssi_signo));
	}
}

static enum confine_kind confine_kind(const struct options *o)
{
	for (unsigned int i = 0; i < o->nets; i++)
		if (o->net[i].net.kind == KEEL_NET_USER)
			return CONFINE_GUEST_SOCKETS;
	return CONFINE_GUEST;
}

/* All threads are there, and the guest has not begun: the moment to give up what is not needed. */
static int launch(struct machine *m, const struct options *o, struct control *control)
{
	int ret = machine_attach(m);

	keel_vm_pause(m->vm);
	if (!ret)
		ret = keel_vm_start(m->vm);
	if (!ret && control)
		ret = control_start(control);
	if (!ret && !o->no_confine)
		ret = confine(confine_kind(o));
	if (!ret)
		keel_vm_resume(m->vm);
	return ret;
}

static int machine_run(struct machine *m, const struct options *o, struct control *control,
		       int signal_fd)
{
	const char *message;
	int status;

	if (launch(m, o, control))
		keel_vm_end(m->vm, KEEL_END_ERROR, "%s", keel_error());
	else
		wait_for_end(m, signal_fd);
	/* unblocks a vCPU that waits for the console, and gives the terminal back */
	keel_console_stop(m->console);
	status = keel_vm_join(m->vm, &message);
	if (message)
		fprintf(stderr, "keel: %s\n", message);
	if (o->stats)
		keel_vm_stats(m->vm, stderr);
	return status;
}

static int run_once(const struct options *o, bool *again)
{
	struct machine m = { 0 };
	struct control *control = NULL;
	int ret, status, signal_fd;

	ret = o->cgroup ? option_named("--cgroup", cgroup_enter(o->cgroup)) :
	      o->pool ? option_named("--pool", pool_enter(o->pool)) : 0;
	if (!o->no_confine)
		confine_prepare();
	signal_fd = signals_open();
	if (!ret)
		ret = signal_fd < 0 ? signal_fd : machine_create(&m, o);
	if (!ret && o->name)
		ret = control_create(o->name, &m, &control);
	status = ret ? fail() : machine_run(&m, o, control, signal_fd);
	*again = control_reset_wanted(control);
	control_destroy(control);
	machine_destroy(&m);
	return status;
}

/* A guest with a name ---------------------------------------------------------------------- */

/*
 * Waits for the guest's process, whose status is ours; signals that would end us go to it. It gets
 * SIGKILL when we die.
 */
static int child_wait(pid_t pid)
{
	int status = 0, sig;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	while (waitpid(pid, &status, WNOHANG) == 0)
		if (!sigwait(&set, &sig) && sig != SIGCHLD)
			kill(pid, sig);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/*
 * A reset begins with what the user gave: a process that is confined cannot get at it again, so each
 * life of the guest is a child of one that is not, and runs no guest.
 */
static int run_named(const struct options *o)
{
	char path[108], said = 0;
	int status, result[2];
	bool again = false;
	pid_t pid;

	do {
		if (pipe2(result, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
			keel_fail(errno, "cannot start a process: %s", strerror(errno));
			return fail();
		}
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			status = run_once(o, &again);
			if (again && write(result[1], "R", 1) < 0)
				status = KEEL_END_ERROR;
			exit(status);
		}
		close(result[1]);
		status = child_wait(pid);
		said = 0;
		if (read(result[0], &said, 1) < 0)
			said = 0;
		close(result[0]);
		if (status != KEEL_END_ERROR && !control_path(path, sizeof(path), o->name))
			unlink(path);
	} while (said == 'R');
	return status;
}

int keel_run(int argc, char **argv)
{
	struct options o = {
		.vm = { .device = KEEL_DEVICE, .memory = 512 * KEEL_MIB, .cpus = 1 },
	};
	bool again;
	int ret;

	ret = options_parse(argc, argv, &o);
	if (ret)
		return ret < 0 ? fail() : 0;
	return o.name ? run_named(&o) : run_once(&o, &again);
}
