/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What runs on this host: the client's side of the kernel's generic netlink family "keel".
 *
 * Errors as in libkeel.h. Times are in ns. What each number means is said in <linux/keel.h>, where the attributes
 * of the same names are.
 */
#ifndef LIBKEEL_VIEW_H
#define LIBKEEL_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/keel.h>

#define KEEL_VIEW_NAME		32
#define KEEL_VIEW_REASON	64

struct keel_vm_view {
	uint64_t id;
	uint32_t uid, pid, vcpus, tsc_khz;
	uint64_t memory, resident;	/* bytes */
	uint64_t uptime;
	char name[KEEL_VIEW_NAME];
	char dead[KEEL_VIEW_REASON];	/* why it was killed; empty: it was not */
};

struct keel_exit_view {
	uint64_t count, ticks;
	uint64_t hist[KEEL_COST_BUCKETS];
};

struct keel_vcpu_view {
	uint64_t vm;			/* keel_vm_view.id */
	uint32_t id, tid, state, tsc_khz;	/* tid 0: it never ran */
	char error[KEEL_VIEW_REASON];	/* why it cannot go on; empty: it can */
	uint64_t guest, kernel, user, off, steal;
	struct keel_exit_view exits[KEEL_NR_REASONS];
};

struct keel_event_view {
	uint64_t seq, when;
	uint32_t event;			/* enum keel_vm_event */
	int vcpu;			/* -1: of the VM */
	struct keel_vm_view vm;		/* id, uid, pid and name */
	char reason[KEEL_VIEW_REASON];
};

struct keel_view;

/**
 * keel_view_open - reach the kernel's netlink family
 * @out: for keel_view_close()
 *
 * -ENOENT when the module is not loaded.
 */
int keel_view_open(struct keel_view **out);
void keel_view_close(struct keel_view *view);

/**
 * keel_view_vms - all VMs that the caller may see, in the order in which they were made
 * @vms: an array for free()
 * @count: of its elements
 */
int keel_view_vms(struct keel_view *view, struct keel_vm_view **vms, size_t *count);

/**
 * keel_view_vcpus - the vCPUs of one VM, or of all of them VM by VM
 * @vm: its id; 0: all
 * @vcpus: an array for free()
 * @count: of its elements
 */
int keel_view_vcpus(struct keel_view *view, uint64_t vm, struct keel_vcpu_view **vcpus, size_t *count);

/**
 * keel_view_watch - events from now on
 *
 * Returns a descriptor that is readable when keel_view_events() may have something to tell.
 */
int keel_view_watch(struct keel_view *view);

/**
 * keel_view_events - tell the events since the last call, or since keel_view_watch()
 * @tell: called for each
 * @lost: how many could not be kept for us, by the kernel's count of everybody's
 */
int keel_view_events(struct keel_view *view, void (*tell)(void *opaque, const struct keel_event_view *event),
		     void *opaque, uint64_t *lost);

/** keel_reason_name - the name of a KEEL_REASON_*; "unknown" for what is newer than this program */
const char *keel_reason_name(unsigned int reason);

#endif
