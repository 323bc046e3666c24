/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the hypervisor half of libkeel (vm.c, vcpu.c, cpuid.c) shares and no client sees.
 *
 * Locks: vm->lock guards the verdict and who is parked. Flags that cross threads are C11 atomics: a vCPU
 * thread reads them after each return of KVM_RUN, and whoever sets one kicks the thread
 * (immediate_exit, then KEEL_KICK_SIGNAL), which closes the window before the next KVM_RUN.
 */
#ifndef KEEL_INTERNAL_H
#define KEEL_INTERNAL_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "libkeel.h"

#define KEEL_KICK_SIGNAL	SIGUSR1
#define KEEL_EXIT_REASONS	48

struct keel_vcpu {
	struct keel_vm *vm;
	unsigned int id;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool started;
	atomic_uint check_done;		/* last halt check answered */
	atomic_bool check_dead;		/* its answer: only a reset could wake this vCPU */
	uint64_t exits[KEEL_EXIT_REASONS];
	atomic_ulong exit_count;
};

struct keel_vm {
	const char *device;
	int sys_fd, vm_fd, end_fd;
	size_t run_size;
	unsigned int cpus, started;	/* vCPUs, and those with a thread */
	struct keel_routes *routes;
	bool tsc_deadline;
	struct keel_memory *memory;
	void *firmware;
	size_t firmware_size;
	struct keel_bus *bus;
	struct keel_vcpu *vcpu;

	atomic_bool ended, paused;
	pthread_mutex_t lock;
	pthread_cond_t parked_changed;	/* with the lock: paused, ended or parked has changed */
	unsigned int parked;		/* under the lock: vCPU threads that wait for the end of a pause */
	int status;
	bool has_message;
	char message[256];

	atomic_uint check;		/* number of the current halt check */
	unsigned int dead_rounds;	/* main thread only */
	unsigned long dead_exits;
	bool asked_all;			/* in the last round */
	unsigned int witness;		/* a vCPU that was alive when last asked */
};

int keel_slot_set(struct keel_vm *vm, uint32_t slot, uint64_t gpa, void *host, uint64_t size,
		  bool readonly);

int keel_vcpu_create(struct keel_vm *vm, unsigned int id, struct keel_vcpu *vcpu);
void keel_vcpu_destroy(struct keel_vcpu *vcpu);
int keel_vcpu_start(struct keel_vcpu *vcpu);
void keel_vcpu_kick(struct keel_vcpu *vcpu);
const char *keel_exit_name(unsigned int reason);

int keel_routes_create(struct keel_vm *vm, struct keel_routes **out);
void keel_routes_destroy(struct keel_routes *routes);

int keel_cpuid_set(struct keel_vm *vm, struct keel_vcpu *vcpu);

void *keel_memory_host(const struct keel_memory *mem);
void keel_bus_stats(struct keel_bus *bus, FILE *to);

uint64_t keel_pci_port_read(struct keel_pci *pci, uint64_t offset, unsigned int size);
void keel_pci_port_write(struct keel_pci *pci, uint64_t offset, uint64_t value, unsigned int size);
/* The ISA interrupt that the pin of a slot's device ends at. */
unsigned int keel_pci_irq(unsigned int slot);

#endif
