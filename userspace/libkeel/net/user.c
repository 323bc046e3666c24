// SPDX-License-Identifier: GPL-2.0-only
/*
 * A network without privileges: libslirp's TCP/IP stack, which speaks to the world by this user's
 * sockets. The guest is 10.0.2.15 by DHCP, the host 10.0.2.2, name service 10.0.2.3.
 *
 * All of libslirp runs on one thread, which polls what it asks for. The card hands frames over by a
 * ring of fixed size under net->lock; when that is full frames are dropped, as on a wire.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"
#include "net.h"

#define FRAMES		256u
#define POLL_MAX	1024u

struct timer {
	SlirpTimerCb fn;
	void *arg;
	int64_t when;			/* in ms; -1: not running */
	struct timer *next;
};

struct frame {
	size_t size;
	uint8_t data[FRAME_MAX];
};

struct user {
	struct keel_net net;
	Slirp *slirp;
	unsigned int forwards;
	struct timer *timers;
	struct pollfd fds[POLL_MAX];
	unsigned int fd_count;
	int wake;
	bool started;
	pthread_t thread;

	pthread_mutex_t lock;
	bool stopping;
	unsigned int head, count;
	struct frame ring[FRAMES];
};

/* What libslirp asks of us ----------------------------------------------------------------- */

static ssize_t send_packet(const void *data, size_t size, void *opaque)
{
	struct user *user = opaque;

	if (!user->net.receive(user->net.card, data, size))
		user->net.dropped++;
	return size;
}

static void guest_error(const char *text, void *opaque)
{
	(void)opaque;
	keel_note("network: %s", text);
}

static int64_t clock_ns(void *opaque)
{
	struct timespec now;

	(void)opaque;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void *timer_new(SlirpTimerCb fn, void *arg, void *opaque)
{
	struct user *user = opaque;
	struct timer *timer = calloc(1, sizeof(*timer));

	if (!timer)
		abort();
	*timer = (struct timer) { .fn = fn, .arg = arg, .when = -1, .next = user->timers };
	user->timers = timer;
	return timer;
}

static void timer_free(void *timer, void *opaque)
{
	struct user *user = opaque;
	struct timer **at = &user->timers;

	while (*at && *at != timer)
		at = &(*at)->next;
	if (*at)
		*at = (*at)->next;
	free(timer);
}

static void timer_mod(void *timer, int64_t when_ms, void *opaque)
{
	(void)opaque;
	((struct timer *)timer)->when = when_ms;
}

static void poll_fd(int fd, void *opaque)
{
	(void)fd;
	(void)opaque;
}

static void notify(void *opaque)
{
	keel_eventfd_signal(((struct user *)opaque)->wake);
}

static const SlirpCb callbacks = {
	.send_packet = send_packet, .guest_error = guest_error, .clock_get_ns = clock_ns,
	.timer_new = timer_new, .timer_free = timer_free, .timer_mod = timer_mod,
	.register_poll_fd = poll_fd, .unregister_poll_fd = poll_fd, .notify = notify,
};

/* The thread ------------------------------------------------------------------------------- */

static int poll_add(int fd, int events, void *opaque)
{
	struct user *user = opaque;
	struct pollfd *p = &user->fds[user->fd_count];

	if (user->fd_count == POLL_MAX)
		return -1;
	*p = (struct pollfd) { .fd = fd };
	p->events |= events & SLIRP_POLL_IN ? POLLIN : 0;
	p->events |= events & SLIRP_POLL_OUT ? POLLOUT : 0;
	p->events |= events & SLIRP_POLL_PRI ? POLLPRI : 0;
	return user->fd_count++;
}

static int poll_result(int index, void *opaque)
{
	struct user *user = opaque;
	int events = 0, seen;

	if (index < 0 || (unsigned int)index >= user->fd_count)
		return 0;
	seen = user->fds[index].revents;
	events |= seen & POLLIN ? SLIRP_POLL_IN : 0;
	events |= seen & POLLOUT ? SLIRP_POLL_OUT : 0;
	events |= seen & POLLPRI ? SLIRP_POLL_PRI : 0;
	events |= seen & POLLERR ? SLIRP_POLL_ERR : 0;
	events |= seen & POLLHUP ? SLIRP_POLL_HUP : 0;
	return events;
}

/* Runs what is due; returns the time to the next, at most @limit ms. */
static uint32_t timers_run(struct user *user, uint32_t limit)
{
	int64_t now = clock_ns(NULL) / 1000000;

	for (struct timer *t = user->timers, *next; t; t = next) {
		next = t->next;
		if (t->when < 0)
			continue;
		if (t->when <= now) {
			t->when = -1;
			t->fn(t->arg);
		}
		if (t->when >= 0 && t->when - now < limit)
			limit = t->when > now ? t->when - now : 0;
	}
	return limit;
}

/* The card's frames; false when it is over. */
static bool frames_take(struct user *user)
{
	struct frame frame;
	bool stopping;

	for (;;) {
		pthread_mutex_lock(&user->lock);
		stopping = user->stopping;
		frame.size = 0;
		if (user->count) {
			frame = user->ring[user->head];
			user->head = (user->head + 1) % FRAMES;
			user->count--;
		}
		pthread_mutex_unlock(&user->lock);
		if (stopping || !frame.size)
			return !stopping;
		slirp_input(user->slirp, frame.data, frame.size);
	}
}

static void *user_thread(void *opaque)
{
	struct user *user = opaque;
	uint32_t timeout;
	int ready;

	while (frames_take(user)) {
		user->fds[0] = (struct pollfd) { .fd = user->wake, .events = POLLIN };
		user->fd_count = 1;
		timeout = 1000;
		slirp_pollfds_fill(user->slirp, &timeout, poll_add, user);
		timeout = timers_run(user, timeout);
		ready = poll(user->fds, user->fd_count, timeout);
		keel_eventfd_clear(user->wake);
		slirp_pollfds_poll(user->slirp, ready < 0, poll_result, user);
		timers_run(user, 0);
	}
	return NULL;
}

static void user_send(struct keel_net *net, const struct iovec *iov, unsigned int count)
{
	struct user *user = (struct user *)net;
	bool first = false;

	pthread_mutex_lock(&user->lock);
	if (user->count < FRAMES) {
		struct frame *f = &user->ring[(user->head + user->count) % FRAMES];

		f->size = iov_gather(iov, count, f->data, sizeof(f->data));
		if (f->size)
			first = !user->count++;
	}
	pthread_mutex_unlock(&user->lock);
	if (first)
		keel_eventfd_signal(user->wake);
}

/* Life ------------------------------------------------------------------------------------- */

static int user_plug(struct keel_net *net)
{
	struct user *user = (struct user *)net;
	int err = pthread_create(&user->thread, NULL, user_thread, user);

	if (err)
		return keel_fail(err, "cannot start a thread: %s", strerror(err));
	pthread_setname_np(user->thread, "net-user");
	user->started = true;
	return 0;
}

static void user_destroy(struct keel_net *net)
{
	struct user *user = (struct user *)net;

	if (user->started) {
		pthread_mutex_lock(&user->lock);
		user->stopping = true;
		pthread_mutex_unlock(&user->lock);
		keel_eventfd_signal(user->wake);
		pthread_join(user->thread, NULL);
	}
	if (user->slirp)
		slirp_cleanup(user->slirp);
	while (user->timers)
		timer_free(user->timers, user);
	if (user->wake >= 0)
		close(user->wake);
	pthread_mutex_destroy(&user->lock);
	free(user);
}

static void user_describe(struct keel_net *net, char *text, size_t size)
{
	snprintf(text, size, "user, %u forwards", ((struct user *)net)->forwards);
}

static const struct keel_net_ops ops = {
	.name = "user", .plug = user_plug, .send = user_send, .describe = user_describe,
	.destroy = user_destroy,
};

static struct in_addr address(const char *text)
{
	struct in_addr a;

	inet_aton(text, &a);
	return a;
}

static int forward_add(struct user *user, const struct keel_forward *f)
{
	struct in_addr host = { .s_addr = f->host };

	if (!slirp_add_hostfwd(user->slirp, f->udp, host, f->host_port, address("10.0.2.15"),
			       f->guest_port))
		return 0;
	return keel_fail(errno, "--net user: cannot listen on port %u for a forward: %s",
			 f->host_port, strerror(errno));
}

int keel_net_user(const struct keel_net_config *config, struct keel_net **out)
{
	SlirpConfig slirp = {
		.version = 1, .in_enabled = true, .restricted = config->restricted,
		.vnetwork = address("10.0.2.0"), .vnetmask = address("255.255.255.0"),
		.vhost = address("10.0.2.2"), .vdhcp_start = address("10.0.2.15"),
		.vnameserver = address("10.0.2.3"), .vhostname = "guest",
	};
	struct user *user = calloc(1, sizeof(*user));
	int ret;

	if (!user)
		return keel_fail(ENOMEM, "out of memory");
	user->net.ops = &ops;
	user->net.tap = -1;
	pthread_mutex_init(&user->lock, NULL);
	user->wake = keel_eventfd();
	user->slirp = slirp_new(&slirp, &callbacks, user);
	ret = user->wake < 0 ? user->wake : 0;
	if (!user->slirp)
		ret = keel_fail(ENOMEM, "cannot start libslirp");
	for (unsigned int i = 0; i < config->forwards && !ret; i++)
		ret = forward_add(user, &config->forward[i]);
	if (ret) {
		user_destroy(&user->net);
		return ret;
	}
	user->forwards = config->forwards;
	*out = &user->net;
	return 0;
}
