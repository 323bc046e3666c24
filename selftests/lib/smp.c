// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guests with several vCPUs, a thread each; see smp.h.
 */
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "smp.h"

static void ignore(int sig)
{
}

void guest_thread_create(struct guest *g, struct guest_thread *t, int id, uint64_t entry, uint64_t stack)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_regs r = { .rip = entry, .rsp = stack, .rflags = X86_EFLAGS_FIXED };
	struct kvm_sregs s;
	uint64_t base;

	memset(t, 0, sizeof(*t));
	vcpu_create(&t->cpu, g->dev, g->vm, id);
	vcpu_set_supported_cpuid(&t->cpu, g->dev);
	base = vcpu_sregs(&t->cpu).apic_base;
	s = vcpu_sregs(&g->cpu);
	s.apic_base = base;
	vcpu_set_sregs(&t->cpu, &s);
	vcpu_set_regs(&t->cpu, &r);
	if (vm_cap(g->vm, KVM_CAP_MP_STATE))
		MUST(vm_ioctl(t->cpu.fd, KVM_SET_MP_STATE, &mp));
}

void guest_thread_destroy(struct guest_thread *t)
{
	vcpu_close(&t->cpu);
}

void guest_thread_adopt(struct guest *g, struct guest_thread *t)
{
	memset(t, 0, sizeof(*t));
	t->cpu = g->cpu;
}

static void *thread_main(void *arg)
{
	struct guest_thread *t = arg;

	if (t->host_cpu >= 0)
		pin_to_cpu(t->host_cpu);
	do {
		t->ret = vcpu_run(&t->cpu);
	} while (t->ret == -EINTR && !t->stop);
	return NULL;
}

void guest_thread_start(struct guest_thread *t, int host_cpu)
{
	struct sigaction act = { .sa_handler = ignore };
	int err;

	sigaction(SIGUSR1, &act, NULL);
	t->host_cpu = host_cpu < 0 ? -1 : host_cpu % sysconf(_SC_NPROCESSORS_ONLN);
	t->stop = false;
	err = pthread_create(&t->thread, NULL, thread_main, t);
	if (err)
		die("pthread_create: %s", strerror(err));
}

long guest_thread_join(struct guest_thread *t)
{
	pthread_join(t->thread, NULL);
	return t->ret ? t->ret : t->cpu.run->exit_reason;
}

/* The signal may come before KVM_RUN: immediate_exit is seen by the next. */
void guest_thread_stop(struct guest_thread *t)
{
	t->stop = true;
	t->cpu.run->immediate_exit = 1;
	pthread_kill(t->thread, SIGUSR1);
	pthread_join(t->thread, NULL);
	t->cpu.run->immediate_exit = 0;
}
