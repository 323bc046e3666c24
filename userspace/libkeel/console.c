// SPDX-License-Identifier: GPL-2.0-only
/*
 * Joins the guest's UART, or its virtio console, to the user: two threads, one for each direction.
 *
 * Output. A guest writes its console a byte at a time. The vCPU thread puts each byte into a ring;
 * the output thread lets a burst gather for OUT_DELAY after its first byte and writes it in one go,
 * or at once when half the ring is full. Nothing is dropped: with the ring full the vCPU waits, as
 * for a slow serial line, until there is room or the console stops.
 *
 * Input. The input thread reads whenever there is something, because the escape (Ctrl-A x) must
 * work even when the guest reads nothing; what the device does not take waits in a buffer until the
 * device says that it is ready. Only a terminal has the escape: piped input goes through unchanged.
 *
 * A second terminal (keel_console_tap) gets what it can take of the same bytes, and may type, too.
 *
 * Locks: con->lock guards the ring, "stopping" and the tap, which the input thread closes. It is never held when the device is called.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "libkeel.h"

#define OUT_SIZE	16384u
#define OUT_DELAY_NS	2000000
#define IN_SIZE		65536u
#define OUT_CHUNK	1024u	/* unit in which progress is seen */
#define STALL_SECONDS	5
#define ESCAPE		0x01	/* Ctrl-A */

struct keel_console {
	int in, out, wake;
	bool tty, raw, escaped;
	void (*quit)(void *opaque, const char *error);
	void *opaque;
	size_t (*input)(void *device, const uint8_t *data, size_t size);
	void *device;
	pthread_t in_thread, out_thread;
	bool in_started, out_started;

	pthread_mutex_t lock;
	pthread_cond_t filled, drained;
	bool stopping, broken, stuck;
	atomic_ulong written;
	int tap;			/* a second terminal, or -1 */
	uint8_t ring[OUT_SIZE];
	unsigned int out_head, out_count;

	uint8_t buf[IN_SIZE];		/* input thread only */
	unsigned int in_head, in_count;
};

int keel_console_create(int in, int out, void (*quit)(void *opaque, const char *error),
			void *opaque, struct keel_console **result)
{
	struct keel_console *con = calloc(1, sizeof(*con));

	if (!con)
		return keel_fail(ENOMEM, "out of memory");
	con->in = in;
	con->out = out;
	con->tap = -1;
	con->quit = quit;
	con->opaque = opaque;
	con->tty = isatty(in);
	/* in the background the terminal is not ours: touching it would stop us */
	if (con->tty && tcgetpgrp(in) != getpgrp())
		con->in = -1;
	con->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (con->wake < 0) {
		int err = errno;

		free(con);
		return keel_fail(err, "cannot create an eventfd: %s", strerror(err));
	}
	pthread_mutex_init(&con->lock, NULL);
	pthread_cond_init(&con->filled, NULL);
	pthread_cond_init(&con->drained, NULL);
	*result = con;
	return 0;
}

/* Output ----------------------------------------------------------------------------------- */

void keel_console_output(void *opaque, uint8_t byte)
{
	struct keel_console *con = opaque;

	pthread_mutex_lock(&con->lock);
	while (con->out_count == OUT_SIZE && !con->stopping && !con->broken)
		pthread_cond_wait(&con->drained, &con->lock);
	if (con->out_count < OUT_SIZE && !con->broken) {
		con->ring[(con->out_head + con->out_count++) % OUT_SIZE] = byte;
		if (con->out_count == 1 || con->out_count == OUT_SIZE / 2)
			pthread_cond_signal(&con->filled);
	}
	pthread_mutex_unlock(&con->lock);
}

void keel_console_write(void *opaque, const uint8_t *data, size_t size)
{
	while (size--)
		keel_console_output(opaque, *data++);
}

static bool write_all(struct keel_console *con, const uint8_t *data, size_t len)
{
	int fd = con->out;

	while (len) {
		ssize_t n = write(fd, data, len < OUT_CHUNK ? len : OUT_CHUNK);

		if (n > 0) {
			data += n;
			len -= n;
			con->written += n;
		} else if (n < 0 && errno == EAGAIN) {
			/* somebody we share it with made it non-blocking */
			poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
		} else if (n < 0 && errno != EINTR) {
			return false;
		}
	}
	return true;
}

/* One that does not read misses some; the lock is held. */
static void tap_write(struct keel_console *con, const uint8_t *data, size_t len)
{
	if (con->tap >= 0 && send(con->tap, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return;
}

int keel_console_tap(struct keel_console *con, int fd)
{
	bool taken;

	pthread_mutex_lock(&con->lock);
	taken = con->tap < 0 && con->in_started && !con->stopping;
	if (taken)
		con->tap = fd;
	pthread_mutex_unlock(&con->lock);
	if (!taken)
		return keel_fail(EBUSY, "the console is in use by another client");
	keel_console_ready(con);
	return 0;
}

/* Lets a burst gather; entered and left with the lock held and the ring not empty. */
static void gather(struct keel_console *con)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += OUT_DELAY_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	while (!con->stopping && con->out_count < OUT_SIZE / 2)
		if (pthread_cond_timedwait(&con->filled, &con->lock, &until))
			break;
}

static void *output_thread(void *opaque)
{
	struct keel_console *con = opaque;
	uint8_t burst[OUT_SIZE];

	pthread_mutex_lock(&con->lock);
	for (;;) {
		unsigned int n, first;
		bool ok;
		int err;

		while (!con->out_count && !con->stopping)
			pthread_cond_wait(&con->filled, &con->lock);
		if (!con->out_count)
			break;
		gather(con);
		n = con->out_count;
		first = n < OUT_SIZE - con->out_head ? n : OUT_SIZE - con->out_head;
		memcpy(burst, con->ring + con->out_head, first);
		memcpy(burst + first, con->ring, n - first);
		con->out_head = (con->out_head + n) % OUT_SIZE;
		con->out_count -= n;
		pthread_cond_broadcast(&con->drained);
		tap_write(con, burst, n);
		pthread_mutex_unlock(&con->lock);
		ok = write_all(con, burst, n);
		err = errno;
		pthread_mutex_lock(&con->lock);
		if (!ok) {
			pthread_mutex_unlock(&con->lock);
			con->quit(con->opaque, strerror(err));
			pthread_mutex_lock(&con->lock);
			con->broken = true;
			con->out_count = 0;
			pthread_cond_broadcast(&con->drained);
			break;
		}
	}
	pthread_mutex_unlock(&con->lock);
	return NULL;
}

/* Input ------------------------------------------------------------------------------------ */

void keel_console_ready(void *opaque)
{
	struct keel_console *con = opaque;
	uint64_t one = 1;

	/* fails only when it is already readable */
	if (write(con->wake, &one, sizeof(one)) < 0)
		return;
}

static void in_put(struct keel_console *con, uint8_t byte)
{
	/* a terminal's user who types 64 KiB to a deaf guest loses the rest, as on a real line */
	if (con->in_count < IN_SIZE)
		con->buf[(con->in_head + con->in_count++) % IN_SIZE] = byte;
}

/* Returns false once the user asked to quit. */
static bool in_byte(struct keel_console *con, uint8_t byte)
{
	if (!con->tty) {
		in_put(con, byte);
		return true;
	}
	if (!con->escaped) {
		if (byte == ESCAPE)
			con->escaped = true;
		else
			in_put(con, byte);
		return true;
	}
	con->escaped = false;
	switch (byte) {
	case 'x':
	case 'X':
		con->quit(con->opaque, NULL);
		return false;
	case ESCAPE:
	case 'a':
		in_put(con, ESCAPE);
		return true;
	default:
		return true;
	}
}

static void in_deliver(struct keel_console *con)
{
	while (con->in_count) {
		unsigned int n = con->in_count;
		size_t taken;

		if (n > IN_SIZE - con->in_head)
			n = IN_SIZE - con->in_head;
		taken = con->input(con->device, con->buf + con->in_head, n);
		con->in_head = (con->in_head + taken) % IN_SIZE;
		con->in_count -= taken;
		if (taken < n)
			break;
	}
}

static bool stopping(struct keel_console *con)
{
	bool stop;

	pthread_mutex_lock(&con->lock);
	stop = con->stopping;
	pthread_mutex_unlock(&con->lock);
	return stop;
}

static int tap_fd(struct keel_console *con)
{
	int fd;

	pthread_mutex_lock(&con->lock);
	fd = con->tap;
	pthread_mutex_unlock(&con->lock);
	return fd;
}

static void tap_read(struct keel_console *con, int fd)
{
	uint8_t data[512];
	ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);

	if (n > 0) {
		for (ssize_t i = 0; i < n; i++)
			in_put(con, data[i]);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		pthread_mutex_lock(&con->lock);
		con->tap = -1;
		pthread_mutex_unlock(&con->lock);
		close(fd);
	}
}

static void *input_thread(void *opaque)
{
	struct keel_console *con = opaque;
	uint8_t data[4096];
	uint64_t count;

	while (!stopping(con)) {
		bool room = con->tty || con->in_count + sizeof(data) <= IN_SIZE;
		struct pollfd fds[3] = {
			{ .fd = con->wake, .events = POLLIN },
			{ .fd = room ? con->in : -1, .events = POLLIN },
			{ .fd = tap_fd(con), .events = POLLIN },
		};
		ssize_t n;

		if (poll(fds, 3, -1) < 0)
			continue;
		if (fds[0].revents && read(con->wake, &count, sizeof(count)) < 0)
			continue;
		if (fds[1].revents) {
			n = read(con->in, data, sizeof(data));
			/* end of input, or none at all (a closed descriptor): never ask again */
			if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
				con->in = -1;
			for (ssize_t i = 0; i < n; i++)
				if (!in_byte(con, data[i]))
					return NULL;
		}
		if (fds[2].revents)
			tap_read(con, fds[2].fd);
		in_deliver(con);
	}
	return NULL;
}

/* Life ------------------------------------------------------------------------------------- */

int keel_console_attach(struct keel_console *con,
			size_t (*input)(void *device, const uint8_t *data, size_t size),
			void *device)
{
	int err;

	con->input = input;
	con->device = device;
	if (con->tty && con->in >= 0) {
		err = keel_term_raw(con->in);
		if (err)
			return err;
		con->raw = true;
	}
	err = pthread_create(&con->out_thread, NULL, output_thread, con);
	if (!err) {
		con->out_started = true;
		err = pthread_create(&con->in_thread, NULL, input_thread, con);
		con->in_started = !err;
	}
	if (err) {
		keel_console_stop(con);
		return keel_fail(err, "cannot start a console thread: %s", strerror(err));
	}
	return 0;
}

void keel_console_stop(struct keel_console *con)
{
	unsigned long before;
	struct timespec until;

	pthread_mutex_lock(&con->lock);
	con->stopping = true;
	pthread_cond_broadcast(&con->filled);
	pthread_cond_broadcast(&con->drained);
	pthread_mutex_unlock(&con->lock);
	keel_console_ready(con);
	if (con->in_started)
		pthread_join(con->in_thread, NULL);
	con->in_started = false;
	/* a slow reader gets everything; one that takes nothing (a stopped terminal) ends it */
	while (con->out_started && !con->stuck) {
		before = con->written;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += STALL_SECONDS;
		if (!pthread_timedjoin_np(con->out_thread, NULL, &until))
			con->out_started = false;
		else
			con->stuck = con->written == before;
	}
	if (con->raw)
		keel_term_restore();
	con->raw = false;
}

void keel_console_destroy(struct keel_console *con)
{
	if (!con)
		return;
	keel_console_stop(con);
	/* an output thread stuck in write() uses all of this until the process ends */
	if (con->out_started)
		return;
	if (con->tap >= 0)
		close(con->tap);
	close(con->wake);
	pthread_cond_destroy(&con->filled);
	pthread_cond_destroy(&con->drained);
	pthread_mutex_destroy(&con->lock);
	free(con);
}
