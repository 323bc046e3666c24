// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device models' cell: a guest that breaks one of them shall find nothing.
 *
 * Before set-up, while there is one thread: no new privileges, a mount namespace (in a user namespace
 * when we are not root), and in it an empty file system with nothing but a copy of /etc/resolv.conf,
 * which libslirp reads. After set-up, with all threads there and no guest's instruction run yet:
 * that file system becomes the root, and a seccomp filter (libseccomp) leaves the calls in the tables
 * below. A call that is not in them ends the process with SIGSYS and a line that names it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "confine.h"
#include "libkeel.h"

static int root_fd = -1;

/* What every kind needs: memory, time, signals, threads that wait and end, and open descriptors. */
static const int base_calls[] = {
	SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(close),
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(fcntl), SCMP_SYS(lseek), SCMP_SYS(fstat),
	SCMP_SYS(newfstatat), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mprotect), SCMP_SYS(mremap),
	SCMP_SYS(brk), SCMP_SYS(madvise), SCMP_SYS(futex), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction), SCMP_SYS(sigaltstack),
	SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(getpid),
	SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(tgkill), SCMP_SYS(sched_yield),
	SCMP_SYS(restart_syscall), SCMP_SYS(getrandom), SCMP_SYS(exit), SCMP_SYS(exit_group),
	SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(membarrier),
	/* sockets that are there */
	SCMP_SYS(accept4), SCMP_SYS(accept), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg),
	SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(shutdown),
};

static const int guest_calls[] = {
	SCMP_SYS(ioctl), SCMP_SYS(pread64), SCMP_SYS(pwrite64), SCMP_SYS(preadv), SCMP_SYS(pwritev),
	SCMP_SYS(preadv2), SCMP_SYS(pwritev2), SCMP_SYS(fsync), SCMP_SYS(fdatasync),
	SCMP_SYS(fallocate), SCMP_SYS(ftruncate), SCMP_SYS(dup), SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl), SCMP_SYS(io_uring_enter), SCMP_SYS(wait4),
	/* of libc: qsort() asks how much memory there is */
	SCMP_SYS(sysinfo),
};

static const int socket_calls[] = {
	SCMP_SYS(socket), SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen),
	SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt),
	SCMP_SYS(stat), SCMP_SYS(select), SCMP_SYS(uname), SCMP_SYS(recvmmsg), SCMP_SYS(sendmmsg),
};

static const int switch_calls[] = {
	SCMP_SYS(openat), SCMP_SYS(flock), SCMP_SYS(unlink), SCMP_SYS(getsockopt),
};

#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

/* Set-up ----------------------------------------------------------------------------------- */

static bool file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* Our own ids stay what they are. */
static bool user_namespace(void)
{
	unsigned int uid = getuid(), gid = getgid();
	char map[64];

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC))
		return false;
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	if (!file_write("/proc/self/uid_map", map))
		return false;
	file_write("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	return file_write("/proc/self/gid_map", map);
}

static void resolv_copy(int root)
{
	char data[8192];
	int from = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC), to;
	ssize_t n;

	if (mkdirat(root, "etc", 0755) < 0 || from < 0)
		goto out;
	to = openat(root, "etc/resolv.conf", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	n = read(from, data, sizeof(data));
	if (to >= 0 && n > 0 && write(to, data, n) != n)
		keel_note("no copy of /etc/resolv.conf: the guest will have no name service");
	if (to >= 0)
		close(to);
out:
	if (from >= 0)
		close(from);
}

void confine_prepare(void)
{
	char dir[] = "/tmp/keel-root.XXXXXX";

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (geteuid() ? !user_namespace() : unshare(CLONE_NEWNS | CLONE_NEWIPC))
		return;
	/* nothing of ours shows outside, but what others mount is still seen */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) || !mkdtemp(dir))
		return;
	if (!mount("keel", dir, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=755"))
		root_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root_fd >= 0)
		resolv_copy(root_fd);
	/* it lives on by its descriptor */
	umount2(dir, MNT_DETACH);
	rmdir(dir);
}

/* For good --------------------------------------------------------------------------------- */

static void violation(int sig, siginfo_t *info, void *context)
{
	char text[64] = "keel: system call 0000 is not allowed: end\r\n";

	(void)context;
	for (int i = 0, n = info->si_syscall; i < 4; i++, n /= 10)
		text[21 - i] = '0' + n % 10;
	keel_term_restore();
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		_exit(128 + sig);
	_exit(128 + sig);
}

static bool allow(scmp_filter_ctx filter, const int *calls, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0))
			return false;
	return true;
}

static bool rules_add(scmp_filter_ctx filter, enum confine_kind kind)
{
	/* a thread may name itself */
	bool ok = allow(filter, base_calls, COUNT(base_calls)) &&
		  !seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				    SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));

	if (kind == CONFINE_SWITCH)
		return ok && allow(filter, switch_calls, COUNT(switch_calls));
	ok = ok && allow(filter, guest_calls, COUNT(guest_calls));
	if (kind == CONFINE_GUEST_SOCKETS)
		ok = ok && allow(filter, socket_calls, COUNT(socket_calls));
	/* in a root that is ours there is nothing to find; else libraries that look get no answer */
	if (kind == CONFINE_GUEST_SOCKETS && root_fd >= 0)
		return ok && !seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
					       SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT,
						       O_RDONLY));
	return ok && !seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0) &&
	       !seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(open), 0);
}

int confine(enum confine_kind kind)
{
	struct sigaction sa = { .sa_sigaction = violation, .sa_flags = SA_SIGINFO };
	scmp_filter_ctx filter;
	int ret;

	sigaction(SIGSYS, &sa, NULL);
	if (root_fd >= 0 && kind != CONFINE_SWITCH) {
		if (fchdir(root_fd) || chroot("."))
			return keel_fail(errno, "cannot leave the file system: %s", strerror(errno));
		close(root_fd);
	}
	filter = seccomp_init(SCMP_ACT_TRAP);
	if (!filter)
		return keel_fail(ENOMEM, "out of memory");
	ret = rules_add(filter, kind) ? 0 : -EINVAL;
	if (!ret)
		ret = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!ret)
		ret = seccomp_load(filter);
	seccomp_release(filter);
	return ret ? keel_fail(-ret, "cannot confine itself to the system calls it needs: %s "
			       "(--no-confine does without)", strerror(-ret)) : 0;
}
