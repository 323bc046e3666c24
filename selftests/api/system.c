// SPDX-License-Identifier: GPL-2.0-only
/*
 * The system file descriptor: API version, capabilities, the argument checks of each ioctl, and the lists that
 * need no VM (KVM API documentation, sections 4.1 to 4.5, 4.46).
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/keel.h>
#include "kselftest_harness.h"
#include "vmtest.h"
#include "x86.h"

FIXTURE(sys) {
	int dev;
};

FIXTURE_SETUP(sys)
{
	self->dev = dev_open();
}

FIXTURE_TEARDOWN(sys)
{
	close(self->dev);
}

TEST_F(sys, api_version)
{
	ASSERT_EQ(12, vm_ioctl(self->dev, KVM_GET_API_VERSION, 0));
	EXPECT_EQ(-EINVAL, vm_ioctl(self->dev, KVM_GET_API_VERSION, 1));
	EXPECT_EQ(-EINVAL, vm_ioctl(self->dev, KVM_GET_API_VERSION, 1UL << 40));
}

/*
 * Keel answers ENOTTY on every file descriptor, as the ioctl layer has it. In-tree KVM says EINVAL on the device and
 * on a vCPU; clients take either.
 */
TEST_F(sys, unknown_ioctl)
{
	int vm = vm_create(self->dev);
	struct vcpu cpu;
	char buf[256] = { 0 };
	int unknown = !strstr(dev_path(), "kvm") ? -ENOTTY : -EINVAL;

	vcpu_create(&cpu, self->dev, vm, 0);
	EXPECT_EQ(unknown, vm_ioctl(self->dev, _IO(KVMIO, 0x7f), 0));
	EXPECT_EQ(unknown, vm_ioctl(self->dev, _IOW(KVMIO, 0x7f, char[64]), buf));
	EXPECT_EQ(unknown, vm_ioctl(self->dev, _IO('!', 0x00), 0));
	EXPECT_EQ(-ENOTTY, vm_ioctl(vm, _IO(KVMIO, 0x7f), 0));
	EXPECT_EQ(-ENOTTY, vm_ioctl(vm, _IOR(KVMIO, 0x7f, char[64]), buf));
	EXPECT_EQ(-ENOTTY, vm_ioctl(vm, _IO('!', 0x41), 0));
	EXPECT_EQ(unknown, vm_ioctl(cpu.fd, _IO(KVMIO, 0x7f), 0));
	EXPECT_EQ(unknown, vm_ioctl(cpu.fd, _IO('!', 0x80), 0));
	/* Right number, wrong file descriptor. */
	EXPECT_EQ(unknown, vm_ioctl(self->dev, KVM_RUN, 0));
	EXPECT_EQ(unknown, vm_ioctl(self->dev, KVM_CREATE_VCPU, 0));
	EXPECT_EQ(-ENOTTY, vm_ioctl(vm, KVM_RUN, 0));
	EXPECT_EQ(-ENOTTY, vm_ioctl(vm, KVM_CREATE_VM, 0));
	EXPECT_EQ(unknown, vm_ioctl(cpu.fd, KVM_CREATE_VCPU, 1));
	EXPECT_EQ(unknown, vm_ioctl(cpu.fd, KVM_GET_API_VERSION, 0));
	vcpu_close(&cpu);
	close(vm);
}

/* Keel's own: which extension is in use. */
TEST_F(sys, info)
{
	struct keel_info info = { .version = KEEL_INFO_VERSION, .size = sizeof(info) };

	if (strstr(dev_path(), "kvm"))
		SKIP(return, "in-tree KVM has no KEEL_GET_INFO");
	ASSERT_EQ(0, vm_ioctl(self->dev, KEEL_GET_INFO, &info));
	EXPECT_EQ(host_is_amd() ? KEEL_BACKEND_SVM : KEEL_BACKEND_VMX, info.backend);
	EXPECT_LE(2, info.nr_tags);
	info.version = 2;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->dev, KEEL_GET_INFO, &info));
	info.version = KEEL_INFO_VERSION;
	info.size--;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->dev, KEEL_GET_INFO, &info));
	info.size++;
	info.reserved[4] = 1;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->dev, KEEL_GET_INFO, &info));
	EXPECT_EQ(-EFAULT, vm_ioctl(self->dev, KEEL_GET_INFO, (void *)16));
}

TEST_F(sys, unknown_capability)
{
	int vm = vm_create(self->dev);

	EXPECT_EQ(0, vm_ioctl(self->dev, KVM_CHECK_EXTENSION, 0x7fffffff));
	EXPECT_EQ(0, vm_ioctl(self->dev, KVM_CHECK_EXTENSION, 100000));
	EXPECT_EQ(0, vm_ioctl(self->dev, KVM_CHECK_EXTENSION, -1L));
	EXPECT_EQ(0, vm_ioctl(vm, KVM_CHECK_EXTENSION, 100000));
	/* Another architecture's. */
	EXPECT_EQ(0, vm_ioctl(self->dev, KVM_CHECK_EXTENSION, KVM_CAP_S390_PSW));
	EXPECT_EQ(0, vm_ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_PPC_SMT));
	close(vm);
}

/* What QEMU, kvmtool, Firecracker and our own client ask for before they start a guest; none of these is optional. */
TEST_F(sys, required_capabilities)
{
	static const struct {
		const char *name;
		int cap;
	} required[] = {
#define CAP(x)	{ #x, KVM_CAP_##x }
		CAP(IRQCHIP), CAP(HLT), CAP(USER_MEMORY), CAP(SET_TSS_ADDR), CAP(EXT_CPUID), CAP(NR_VCPUS),
		CAP(NR_MEMSLOTS), CAP(PIT2), CAP(MP_STATE), CAP(DESTROY_MEMORY_REGION_WORKS),
		CAP(JOIN_MEMORY_REGIONS_WORKS), CAP(VCPU_EVENTS), CAP(DEBUGREGS), CAP(XSAVE), CAP(XCRS),
		CAP(MAX_VCPUS), CAP(MAX_VCPU_ID), CAP(IMMEDIATE_EXIT), CAP(CHECK_EXTENSION_VM), CAP(GET_TSC_KHZ),
		CAP(TSC_DEADLINE_TIMER), CAP(READONLY_MEM), CAP(PIT_STATE2), CAP(SYNC_MMU), CAP(NOP_IO_DELAY),
		CAP(SET_IDENTITY_MAP_ADDR), CAP(INTERNAL_ERROR_DATA), CAP(IOEVENTFD), CAP(IOEVENTFD_NO_LENGTH),
		CAP(IOEVENTFD_ANY_LENGTH), CAP(IRQFD), CAP(IRQFD_RESAMPLE), CAP(EXT_EMUL_CPUID), CAP(IRQ_ROUTING),
		CAP(SIGNAL_MSI), CAP(X86_ROBUST_SINGLESTEP), CAP(SET_GUEST_DEBUG), CAP(MCE), CAP(ADJUST_CLOCK),
		CAP(REINJECT_CONTROL), CAP(COALESCED_MMIO), CAP(COALESCED_PIO), CAP(IRQ_INJECT_STATUS),
		CAP(KVMCLOCK_CTRL), CAP(SET_BOOT_CPU_ID), CAP(USER_NMI), CAP(SPLIT_IRQCHIP), CAP(X2APIC_API),
		CAP(GET_MSR_FEATURES), CAP(X86_USER_SPACE_MSR), CAP(X86_MSR_FILTER), CAP(EXCEPTION_PAYLOAD),
		CAP(ENABLE_CAP), CAP(ENABLE_CAP_VM), CAP(VCPU_ATTRIBUTES), CAP(SYS_ATTRIBUTES), CAP(SREGS2),
		CAP(XSAVE2), CAP(BINARY_STATS_FD), CAP(SYNC_REGS), CAP(X86_DISABLE_EXITS), CAP(HALT_POLL),
#undef CAP
	};
	int vm = vm_create(self->dev), i;

	for (i = 0; i < ARRAY_SIZE(required); i++) {
		EXPECT_LT(0, vm_ioctl(self->dev, KVM_CHECK_EXTENSION, required[i].cap)) {
			TH_LOG("KVM_CAP_%s is missing", required[i].name);
		}
		EXPECT_EQ(vm_ioctl(self->dev, KVM_CHECK_EXTENSION, required[i].cap),
			  vm_ioctl(vm, KVM_CHECK_EXTENSION, required[i].cap)) {
			TH_LOG("KVM_CAP_%s differs on a VM", required[i].name);
		}
	}
	EXPECT_LE(32, vm_cap(self->dev, KVM_CAP_NR_MEMSLOTS));
	EXPECT_LE(vm_cap(self->dev, KVM_CAP_NR_VCPUS), vm_cap(self->dev, KVM_CAP_MAX_VCPUS));
	EXPECT_LE(vm_cap(self->dev, KVM_CAP_MAX_VCPUS), vm_cap(self->dev, KVM_CAP_MAX_VCPU_ID));
	close(vm);
}

TEST_F(sys, create_vm_type)
{
	EXPECT_EQ(-EINVAL, vm_ioctl(self->dev, KVM_CREATE_VM, 0x7fffffff));
	EXPECT_EQ(-EINVAL, vm_ioctl(self->dev, KVM_CREATE_VM, -1L));
	EXPECT_EQ(-EINVAL, vm_ioctl(self->dev, KVM_CREATE_VM, 1UL << 63));
}

TEST_F(sys, vcpu_mmap_size)
{
	long size = vm_ioctl(self->dev, KVM_GET_VCPU_MMAP_SIZE, 0);

	/* The run page and the page of PIO data. */
	ASSERT_LE(2 * PAGE_SIZE, size);
	EXPECT_EQ(0, size % PAGE_SIZE);
	EXPECT_LE(sizeof(struct kvm_run), size);
	EXPECT_EQ(-EINVAL, vm_ioctl(self->dev, KVM_GET_VCPU_MMAP_SIZE, 1));
}

TEST_F(sys, bad_pointers)
{
	static const unsigned long reqs[] = {
		KVM_GET_MSR_INDEX_LIST, KVM_GET_SUPPORTED_CPUID, KVM_GET_MSR_FEATURE_INDEX_LIST,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(reqs); i++) {
		EXPECT_EQ(-EFAULT, vm_ioctl(self->dev, reqs[i], BAD_PTR)) {
			TH_LOG("request %lx", reqs[i]);
		}
		EXPECT_EQ(-EFAULT, vm_ioctl(self->dev, reqs[i], 0)) {
			TH_LOG("request %lx, NULL", reqs[i]);
		}
	}
}

/* The device cannot be mapped, read or written. */
TEST_F(sys, only_ioctls)
{
	char c = 0;

	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, self->dev, 0));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-1, read(self->dev, &c, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, write(self->dev, &c, 1));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(sys, device_node)
{
	struct stat st;

	ASSERT_EQ(0, fstat(self->dev, &st));
	EXPECT_TRUE(S_ISCHR(st.st_mode));
	/* In-tree KVM leaves its mode to udev, which need not run in a test host. */
	if (strcmp(dev_path(), "/dev/keel"))
		SKIP(return, "%s has the mode that udev gave it", dev_path());
	EXPECT_EQ(0660, st.st_mode & 07777);
}

TEST_F(sys, supported_cpuid)
{
	struct kvm_cpuid2 *cpuid = supported_cpuid(self->dev), *small;
	struct kvm_cpuid_entry2 *e;
	uint32_t nent = cpuid->nent, i, j;

	ASSERT_LT(4, nent);
	e = cpuid_find(cpuid, 0, 0);
	ASSERT_NE(NULL, e);
	EXPECT_LE(1, e->eax);
	e = cpuid_find(cpuid, 1, 0);
	ASSERT_NE(NULL, e);
	/* FPU, TSC, MSR, CX8, CMOV, FXSR, SSE, SSE2: every 64-bit CPU has them */
	EXPECT_EQ(0x07008131, e->edx & 0x07008131);
	/* CPUID does not tell a guest that it can make guests of its own. */
	EXPECT_EQ(0, e->ecx & (1u << 5) & (host_is_amd() ? ~0u : 0));
	e = cpuid_find(cpuid, 0x80000001, 0);
	ASSERT_NE(NULL, e);
	EXPECT_NE(0, e->edx & (1u << 29));
	e = cpuid_find(cpuid, 0x40000000, 0);
	ASSERT_NE(NULL, e);
	EXPECT_EQ(0, memcmp("KVMKVMKVM\0\0\0", &e->ebx, 4));
	for (i = 0; i < nent; i++) {
		EXPECT_EQ(0, cpuid->entries[i].padding[0]);
		for (j = 0; j < i; j++) {
			EXPECT_FALSE(cpuid->entries[i].function == cpuid->entries[j].function &&
				     cpuid->entries[i].index == cpuid->entries[j].index) {
				TH_LOG("leaf %x.%x twice", cpuid->entries[i].function, cpuid->entries[i].index);
			}
		}
	}

	/* An exact fit is enough; one less is E2BIG. */
	small = calloc(1, sizeof(*small) + (nent + 1) * sizeof(small->entries[0]));
	ASSERT_NE(NULL, small);
	small->nent = nent;
	EXPECT_EQ(0, vm_ioctl(self->dev, KVM_GET_SUPPORTED_CPUID, small));
	EXPECT_EQ(nent, small->nent);
	memset(small->entries, 0x55, (nent + 1) * sizeof(small->entries[0]));
	small->nent = nent - 1;
	EXPECT_EQ(-E2BIG, vm_ioctl(self->dev, KVM_GET_SUPPORTED_CPUID, small));
	EXPECT_EQ(nent - 1, small->nent);
	EXPECT_EQ(0x55555555, small->entries[0].function);
	small->nent = 0;
	EXPECT_EQ(-E2BIG, vm_ioctl(self->dev, KVM_GET_SUPPORTED_CPUID, small));
	free(small);
	free(cpuid);
}

TEST_F(sys, msr_index_list)
{
	struct {
		struct kvm_msr_list head;
		uint32_t indices[512];
	} list = { .head.nmsrs = 0 };
	static const uint32_t required[] = {
		MSR_IA32_TSC, MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP, MSR_STAR,
		MSR_LSTAR, MSR_CSTAR, MSR_SFMASK, MSR_KERNEL_GS_BASE, MSR_IA32_CR_PAT,
	};
	uint32_t i, j, n;

	ASSERT_EQ(-E2BIG, vm_ioctl(self->dev, KVM_GET_MSR_INDEX_LIST, &list));
	n = list.head.nmsrs;
	ASSERT_LT(ARRAY_SIZE(required), n);
	ASSERT_LT(n, ARRAY_SIZE(list.indices));
	list.head.nmsrs = n - 1;
	ASSERT_EQ(-E2BIG, vm_ioctl(self->dev, KVM_GET_MSR_INDEX_LIST, &list));
	EXPECT_EQ(n, list.head.nmsrs);
	list.head.nmsrs = ARRAY_SIZE(list.indices);
	ASSERT_EQ(0, vm_ioctl(self->dev, KVM_GET_MSR_INDEX_LIST, &list));
	EXPECT_EQ(n, list.head.nmsrs);
	for (i = 0; i < ARRAY_SIZE(required); i++) {
		for (j = 0; j < n && list.head.indices[j] != required[i]; j++)
			;
		EXPECT_LT(j, n) {
			TH_LOG("MSR %x is not in the list", required[i]);
		}
	}
}

TEST_HARNESS_MAIN
