// SPDX-License-Identifier: GPL-2.0-only
/*
 * Device, VM and vCPU helpers of the selftests; see vmtest.h.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <linux/keel.h>
#include "vmtest.h"

void die_at(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "# %s:%d: ", file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	_exit(1);
}

long must_at(const char *file, int line, const char *what, long ret)
{
	if (ret < 0)
		die_at(file, line, "%s: %s", what, strerror(-ret));
	return ret;
}

/*
 * In place of alarm() (common.mk), with which the harness ends a test that takes too long: on a host that takes many times as
 * long for everything KEEL_PATIENCE says how many.
 */
unsigned int __real_alarm(unsigned int seconds);
unsigned int __wrap_alarm(unsigned int seconds);

unsigned int __wrap_alarm(unsigned int seconds)
{
	const char *patience = getenv("KEEL_PATIENCE");

	return __real_alarm(patience ? seconds * atoi(patience) : seconds);
}

long ioctl_errno(int fd, unsigned long req, unsigned long arg)
{
	long ret = ioctl(fd, req, arg);

	return ret < 0 ? -errno : ret;
}

const char *dev_path(void)
{
	const char *path = getenv("KEEL_DEVICE");

	return path && *path ? path : "/dev/keel";
}

int dev_open(void)
{
	int fd = open(dev_path(), O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("cannot open %s: %s (is the module loaded?)", dev_path(), strerror(errno));
	return fd;
}

int vm_create(int dev)
{
	return MUST(vm_ioctl(dev, KVM_CREATE_VM, 0));
}

int vm_cap(int fd, int cap)
{
	return MUST(vm_ioctl(fd, KVM_CHECK_EXTENSION, cap));
}

void vcpu_create(struct vcpu *cpu, int dev, int vm, int id)
{
	cpu->fd = MUST(vm_ioctl(vm, KVM_CREATE_VCPU, id));
	cpu->run_size = MUST(vm_ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0));
	cpu->run = mmap(NULL, cpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
	if (cpu->run == MAP_FAILED)
		die("mmap of the run page: %s", strerror(errno));
}

void vcpu_close(struct vcpu *cpu)
{
	munmap(cpu->run, cpu->run_size);
	close(cpu->fd);
	cpu->run = NULL;
	cpu->fd = -1;
}

void *mem_alloc(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		die("mmap of %zu bytes: %s", size, strerror(errno));
	return p;
}

int vm_set_slot(int vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *hva)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};

	return vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

long vcpu_run(struct vcpu *cpu)
{
	return vm_ioctl(cpu->fd, KVM_RUN, 0);
}

void vcpu_complete_io(struct vcpu *cpu)
{
	long ret;

	cpu->run->immediate_exit = 1;
	ret = vcpu_run(cpu);
	cpu->run->immediate_exit = 0;
	if (ret != -EINTR)
		die("KVM_RUN with immediate_exit gave %ld, not -EINTR", ret);
}

struct kvm_regs vcpu_regs(struct vcpu *cpu)
{
	struct kvm_regs regs;

	MUST(vm_ioctl(cpu->fd, KVM_GET_REGS, &regs));
	return regs;
}

void vcpu_set_regs(struct vcpu *cpu, const struct kvm_regs *regs)
{
	MUST(vm_ioctl(cpu->fd, KVM_SET_REGS, regs));
}

struct kvm_sregs vcpu_sregs(struct vcpu *cpu)
{
	struct kvm_sregs sregs;

	MUST(vm_ioctl(cpu->fd, KVM_GET_SREGS, &sregs));
	return sregs;
}

void vcpu_set_sregs(struct vcpu *cpu, const struct kvm_sregs *sregs)
{
	MUST(vm_ioctl(cpu->fd, KVM_SET_SREGS, sregs));
}

static long msr_io(struct vcpu *cpu, unsigned long req, uint32_t index, uint64_t *data)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = {
		.head.nmsrs = 1,
		.entry = { .index = index, .data = *data },
	};
	long ret = vm_ioctl(cpu->fd, req, &msrs);

	*data = msrs.entry.data;
	return ret;
}

long vcpu_get_msr(struct vcpu *cpu, uint32_t index, uint64_t *data)
{
	*data = 0;
	return msr_io(cpu, KVM_GET_MSRS, index, data);
}

long vcpu_set_msr(struct vcpu *cpu, uint32_t index, uint64_t data)
{
	return msr_io(cpu, KVM_SET_MSRS, index, &data);
}

struct kvm_cpuid2 *supported_cpuid(int dev)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID_ENTRIES * sizeof(cpuid->entries[0]));

	if (!cpuid)
		die("out of memory");
	cpuid->nent = MAX_CPUID_ENTRIES;
	MUST(vm_ioctl(dev, KVM_GET_SUPPORTED_CPUID, cpuid));
	return cpuid;
}

struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
	uint32_t i;

	for (i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == function &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index))
			return e;
	}
	return NULL;
}

void vcpu_set_supported_cpuid(struct vcpu *cpu, int dev)
{
	struct kvm_cpuid2 *cpuid = supported_cpuid(dev);

	MUST(vm_ioctl(cpu->fd, KVM_SET_CPUID2, cpuid));
	free(cpuid);
}

long long stat_value(int fd, const char *name)
{
	struct kvm_stats_header h;
	char buf[sizeof(struct kvm_stats_desc) + 256];
	struct kvm_stats_desc *d = (void *)buf;
	uint64_t val;
	unsigned int i;

	MUST(pread(fd, &h, sizeof(h), 0));
	for (i = 0; i < h.num_desc; i++) {
		size_t size = sizeof(*d) + h.name_size;

		if (pread(fd, buf, size, h.desc_offset + i * size) != (ssize_t)size)
			return -1;
		if (strcmp(d->name, name))
			continue;
		return pread(fd, &val, sizeof(val), h.data_offset + d->offset) == sizeof(val) ? (long long)val : -1;
	}
	return -1;
}

bool dev_is_keel(int dev)
{
	struct keel_info info = { .version = KEEL_INFO_VERSION, .size = sizeof(info) };

	return !vm_ioctl(dev, KEEL_GET_INFO, &info);
}

bool host_is_amd(void)
{
	unsigned int a, b, c, d;

	__cpuid(0, a, b, c, d);
	return b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
}

/* A parameter of in-tree KVM's that is N. */
static bool kvm_param_off(const char *path)
{
	FILE *f = fopen(path, "r");
	bool off = f && fgetc(f) == 'N';

	if (f)
		fclose(f);
	return off;
}

bool nested_paging(int dev)
{
	struct keel_info info = { .version = KEEL_INFO_VERSION, .size = sizeof(info) };

	if (!vm_ioctl(dev, KEEL_GET_INFO, &info))
		return info.features & KEEL_INFO_NESTED_PAGING;
	return !kvm_param_off("/sys/module/kvm_amd/parameters/npt") &&
	       !kvm_param_off("/sys/module/kvm_intel/parameters/ept");
}

bool in_testhost(const char *name)
{
	const char *host = getenv("KEEL_TESTHOST");

	return host && !strcmp(host, name);
}

bool lost_by_qemu(struct vcpu *cpu, long ret)
{
	return in_testhost("svm") && !ret &&
	       (cpu->run->exit_reason == KVM_EXIT_SHUTDOWN || vcpu_regs(cpu).rip >> 63);
}

void pin_to_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("cannot run on CPU %d: %s", cpu, strerror(errno));
}

uint64_t ns_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}
