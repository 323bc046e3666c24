// SPDX-License-Identifier: GPL-2.0-only
/*
 * The event loop of loop.h: epoll, and a list of calls.
 *
 * One event is taken from epoll at a time: what its handler removes can then not be in a batch that
 * is still to be handled. Level-triggered, so nothing is lost by it, and epoll takes turns.
 *
 * Locks: loop->lock guards the list of calls and "stopping". It is never held when a watch or a call
 * runs.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "libkeel.h"
#include "loop.h"

struct call {
	void (*fn)(void *arg);
	void *arg;
	bool done;
	struct call *next;
};

struct keel_loop {
	int epoll;
	struct keel_watch wake;
	bool threaded, stopping;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t done;
	struct call *calls;
};

int keel_eventfd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	return fd >= 0 ? fd : keel_fail(errno, "cannot create an eventfd: %s", strerror(errno));
}

void keel_eventfd_signal(int fd)
{
	uint64_t one = 1;

	/* fails only when the counter is full, and then it is signalled */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

bool keel_eventfd_clear(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count);
}

static void calls_run(void *opaque)
{
	struct keel_loop *loop = opaque;

	keel_eventfd_clear(loop->wake.fd);
	pthread_mutex_lock(&loop->lock);
	while (loop->calls) {
		struct call *call = loop->calls;

		loop->calls = call->next;
		pthread_mutex_unlock(&loop->lock);
		call->fn(call->arg);
		pthread_mutex_lock(&loop->lock);
		call->done = true;
		pthread_cond_broadcast(&loop->done);
	}
	pthread_mutex_unlock(&loop->lock);
}

static bool step(struct keel_loop *loop, int timeout)
{
	struct epoll_event event;
	struct keel_watch *watch;

	if (epoll_wait(loop->epoll, &event, 1, timeout) != 1)
		return false;
	watch = event.data.ptr;
	watch->ready(watch->opaque);
	return true;
}

static void *loop_thread(void *opaque)
{
	struct keel_loop *loop = opaque;
	bool stopping = false;

	while (!stopping) {
		step(loop, -1);
		pthread_mutex_lock(&loop->lock);
		stopping = loop->stopping && !loop->calls;
		pthread_mutex_unlock(&loop->lock);
	}
	return NULL;
}

int keel_loop_create(const char *name, struct keel_loop **out)
{
	struct keel_loop *loop = calloc(1, sizeof(*loop));
	int err;

	if (!loop)
		return keel_fail(ENOMEM, "out of memory");
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->done, NULL);
	loop->wake = (struct keel_watch) { .ready = calls_run, .opaque = loop };
	loop->wake.fd = keel_eventfd();
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	err = loop->epoll < 0 ? keel_fail(errno, "cannot create an epoll instance: %s",
					  strerror(errno)) : 0;
	if (!err)
		err = loop->wake.fd < 0 ? loop->wake.fd : keel_loop_add(loop, &loop->wake);
	if (!err && name) {
		err = -pthread_create(&loop->thread, NULL, loop_thread, loop);
		if (err)
			keel_fail(-err, "cannot start a thread: %s", strerror(-err));
		loop->threaded = !err;
		if (!err)
			pthread_setname_np(loop->thread, name);
	}
	if (err) {
		keel_loop_destroy(loop);
		return err;
	}
	*out = loop;
	return 0;
}

void keel_loop_destroy(struct keel_loop *loop)
{
	if (!loop)
		return;
	if (loop->threaded) {
		pthread_mutex_lock(&loop->lock);
		loop->stopping = true;
		pthread_mutex_unlock(&loop->lock);
		keel_eventfd_signal(loop->wake.fd);
		pthread_join(loop->thread, NULL);
	}
	if (loop->epoll >= 0)
		close(loop->epoll);
	if (loop->wake.fd >= 0)
		close(loop->wake.fd);
	pthread_cond_destroy(&loop->done);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

int keel_loop_add(struct keel_loop *loop, struct keel_watch *watch)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = watch };

	if (!epoll_ctl(loop->epoll, EPOLL_CTL_ADD, watch->fd, &event))
		return 0;
	return keel_fail(errno, "cannot watch a descriptor: %s", strerror(errno));
}

void keel_loop_remove(struct keel_loop *loop, struct keel_watch *watch)
{
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
}

void keel_loop_call(struct keel_loop *loop, void (*fn)(void *arg), void *arg)
{
	struct call call = { .fn = fn, .arg = arg }, **at;

	if (!loop->threaded || pthread_equal(pthread_self(), loop->thread)) {
		fn(arg);
		return;
	}
	pthread_mutex_lock(&loop->lock);
	for (at = &loop->calls; *at; at = &(*at)->next)
		;
	*at = &call;
	keel_eventfd_signal(loop->wake.fd);
	while (!call.done)
		pthread_cond_wait(&loop->done, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
}

bool keel_loop_poll(struct keel_loop *loop)
{
	bool any = false;

	/* bounded: a watch that stays readable must not hold the caller for ever */
	for (int i = 0; i < 64 && step(loop, 0); i++)
		any = true;
	return any;
}
