/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * More vCPUs for the small guests of guest.h, each with a thread of its own that ends at the first exit to the
 * client.
 */
#ifndef SELFTESTS_SMP_H
#define SELFTESTS_SMP_H

#include <pthread.h>
#include "guest.h"

struct guest_thread {
	struct vcpu cpu;
	pthread_t thread;
	int host_cpu;		/* -1: any; else modulo the number there are */
	volatile long ret;	/* of KVM_RUN; the exit is in cpu.run */
	volatile bool stop;
};

/* A vCPU that is ready to run @blob's code from @entry (an address) in the mode of @g, with its own stack. */
void guest_thread_create(struct guest *g, struct guest_thread *t, int id, uint64_t entry, uint64_t stack);
void guest_thread_destroy(struct guest_thread *t);
/* Drives @t's vCPU, which may be the guest's first: guest_thread_adopt(). */
void guest_thread_adopt(struct guest *g, struct guest_thread *t);
void guest_thread_start(struct guest_thread *t, int host_cpu);
/* Waits for the exit; with @stop set, makes KVM_RUN return. The exit reason or -errno. */
long guest_thread_join(struct guest_thread *t);
void guest_thread_stop(struct guest_thread *t);

#endif
