// SPDX-License-Identifier: GPL-2.0-only
/*
 * What CPUID tells the guest: all that KVM_GET_SUPPORTED_CPUID offers, with the leaves that speak
 * of the vCPU's place in the machine written anew.
 *
 * The guest's CPUs are single-threaded cores of one package, and APIC ids are vCPU numbers. The
 * leaves are described in SDM vol 2, CPUID, and APM vol 3, appendix E.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "internal.h"

#define ENTRIES_MAX		4096u

#define LEAF1_ECX_TSC_DEADLINE	(1u << 24)
#define LEAF1_ECX_HYPERVISOR	(1u << 31)
#define LEAF1_EDX_HTT		(1u << 28)
#define EXT1_ECX_CMP_LEGACY	(1u << 1)

#define TOPOLOGY_NONE		0u
#define TOPOLOGY_SMT		1u
#define TOPOLOGY_CORE		2u

static unsigned int log2_up(unsigned int n)
{
	unsigned int bits = 0;

	while ((1u << bits) < n)
		bits++;
	return bits;
}

static void set_bits(uint32_t *reg, uint32_t bits, bool on)
{
	*reg = on ? *reg | bits : *reg & ~bits;
}

/* Replaces bits @hi to @lo of @reg. */
static void set_field(uint32_t *reg, unsigned int hi, unsigned int lo, uint32_t value)
{
	uint32_t mask = (uint32_t)((2ULL << hi) - (1ULL << lo));

	*reg = (*reg & ~mask) | (value << lo & mask);
}

/*
 * Leaves 0xb and 0x1f: one thread a core, then all cores of the package, then the end of the list.
 * The host offers any number of subleaves, often only the first: ours replace them.
 */
static void topology_set(struct kvm_cpuid2 *cpuid, uint32_t leaf, unsigned int id,
			 unsigned int cpus)
{
	const struct kvm_cpuid_entry2 ours[] = {
		{ .eax = 0, .ebx = 1, .ecx = TOPOLOGY_SMT << 8 | 0 },
		{ .eax = log2_up(cpus), .ebx = cpus, .ecx = TOPOLOGY_CORE << 8 | 1 },
		{ .ecx = TOPOLOGY_NONE << 8 | 2 },
	};
	uint32_t kept = 0;

	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function != leaf)
			cpuid->entries[kept++] = cpuid->entries[i];
	if (kept == cpuid->nent)
		return;
	for (uint32_t i = 0; i < 3; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[kept++];

		*e = ours[i];
		e->function = leaf;
		e->index = i;
		e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		e->edx = id;
	}
	cpuid->nent = kept;
}

/* Caches of level 1 and 2 are a core's own, the others are shared by the package. */
static void cache_fix(struct kvm_cpuid_entry2 *e, unsigned int cpus)
{
	unsigned int level = e->eax >> 5 & 7;

	set_field(&e->eax, 25, 14, level > 2 ? (1u << log2_up(cpus)) - 1 : 0);
}

static void entry_fix(const struct keel_vm *vm, struct kvm_cpuid_entry2 *e, unsigned int id)
{
	unsigned int cpus = vm->cpus, shift = log2_up(cpus);

	switch (e->function) {
	case 0x1:
		set_field(&e->ebx, 31, 24, id);
		set_field(&e->ebx, 23, 16, shift < 8 ? 1u << shift : 255);
		set_bits(&e->edx, LEAF1_EDX_HTT, cpus > 1);
		set_bits(&e->ecx, LEAF1_ECX_HYPERVISOR, true);
		set_bits(&e->ecx, LEAF1_ECX_TSC_DEADLINE, vm->tsc_deadline);
		break;
	case 0x4:
		if (e->eax & 0x1f) {
			cache_fix(e, cpus);
			set_field(&e->eax, 31, 26, shift < 6 ? (1u << shift) - 1 : 63);
		}
		break;
	case 0x80000001:
		set_bits(&e->ecx, EXT1_ECX_CMP_LEGACY, cpus > 1 && e->ecx & EXT1_ECX_CMP_LEGACY);
		break;
	case 0x80000008:
		/* on Intel reserved, and reported as 0 */
		if (e->ecx) {
			set_field(&e->ecx, 7, 0, cpus - 1);
			set_field(&e->ecx, 15, 12, shift);
		}
		break;
	case 0x8000001d:
		if (e->eax & 0x1f)
			set_field(&e->eax, 25, 14, (e->eax >> 5 & 7) > 2 ? cpus - 1 : 0);
		break;
	case 0x8000001e:
		e->eax = id;
		set_field(&e->ebx, 15, 0, id);	/* core number, one thread */
		set_field(&e->ecx, 10, 0, 0);	/* node 0 of one */
		break;
	default:
		break;
	}
}

static struct kvm_cpuid2 *supported(const struct keel_vm *vm)
{
	for (unsigned int n = 128; n <= ENTRIES_MAX; n *= 2) {
		/* room for the subleaves that topology_set() adds */
		struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) +
						     (n + 6) * sizeof(cpuid->entries[0]));

		if (!cpuid)
			return NULL;
		cpuid->nent = n;
		if (ioctl(vm->sys_fd, KVM_GET_SUPPORTED_CPUID, cpuid) >= 0)
			return cpuid;
		free(cpuid);
		if (errno != E2BIG)
			return NULL;
	}
	return NULL;
}

int keel_cpuid_set(struct keel_vm *vm, struct keel_vcpu *vcpu)
{
	struct kvm_cpuid2 *cpuid;
	int ret, err;

	errno = ENOMEM;
	cpuid = supported(vm);
	err = errno;
	if (!cpuid)
		return keel_fail(err, "%s: KVM_GET_SUPPORTED_CPUID failed: %s", vm->device,
				 strerror(err));
	for (uint32_t i = 0; i < cpuid->nent; i++)
		entry_fix(vm, &cpuid->entries[i], vcpu->id);
	topology_set(cpuid, 0xb, vcpu->id, vm->cpus);
	topology_set(cpuid, 0x1f, vcpu->id, vm->cpus);
	ret = ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid);
	err = errno;
	free(cpuid);
	if (ret < 0)
		return keel_fail(err, "%s: vCPU %u: KVM_SET_CPUID2 failed: %s", vm->device,
				 vcpu->id, strerror(err));
	return 0;
}
