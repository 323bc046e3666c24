/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An event loop: one thread that waits for file descriptors and runs the work of others in between.
 *
 * A device model that is moved by eventfds does all its work on one loop, and so needs few locks: a
 * vCPU thread that must change such a device (a reset) has that done by keel_loop_call().
 */
#ifndef KEEL_LOOP_H
#define KEEL_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct keel_loop;

/* A descriptor that a loop watches; the caller's, from keel_loop_add() to keel_loop_remove(). */
struct keel_watch {
	int fd;
	void (*ready)(void *opaque);
	void *opaque;
};

/**
 * keel_loop_create - a loop
 * @name: of its thread, at most 15 characters; NULL for a loop without one, which runs its calls in
 *	  the caller's thread and its watches in keel_loop_poll()
 */
int keel_loop_create(const char *name, struct keel_loop **out);
/** keel_loop_destroy - ends the thread; no watch is called any more */
void keel_loop_destroy(struct keel_loop *loop);

/** keel_loop_add - call @watch->ready on the loop while its descriptor is readable */
int keel_loop_add(struct keel_loop *loop, struct keel_watch *watch);
/** keel_loop_remove - on the loop's own thread; @watch is not called any more */
void keel_loop_remove(struct keel_loop *loop, struct keel_watch *watch);

/** keel_loop_call - run @call on the loop and return when it has; from any thread */
void keel_loop_call(struct keel_loop *loop, void (*call)(void *arg), void *arg);

/** keel_loop_poll - of a loop without a thread: run what is ready; false when nothing was */
bool keel_loop_poll(struct keel_loop *loop);

/** keel_eventfd - a non-blocking eventfd, or a negative errno with keel_error() */
int keel_eventfd(void);
void keel_eventfd_signal(int fd);
/** keel_eventfd_clear - true when it was signalled */
bool keel_eventfd_clear(int fd);

#endif
