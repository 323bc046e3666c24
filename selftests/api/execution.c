// SPDX-License-Identifier: GPL-2.0-only
/*
 * KEEL_SET_EXECUTION and KEEL_GET_EXECUTION: what they refuse, and that a vCPU's mode is its VM's. What the modes do
 * is guest/execution's.
 */
#include <unistd.h>
#include <linux/keel.h>
#include "kselftest_harness.h"
#include "vmtest.h"

FIXTURE(execution) {
	int dev, vm;
	struct vcpu cpu;
	struct keel_execution exec;
};

FIXTURE_SETUP(execution)
{
	self->dev = dev_open();
	self->vm = vm_create(self->dev);
	self->exec = (struct keel_execution) { .version = KEEL_EXECUTION_VERSION, .size = sizeof(self->exec) };
	if (vm_ioctl(self->vm, KEEL_SET_EXECUTION, &self->exec))
		SKIP(return, "no KEEL_SET_EXECUTION");
}

FIXTURE_TEARDOWN(execution)
{
	close(self->vm);
	close(self->dev);
}

/* One field at a time; @req on @fd must refuse it. */
static void refuses(struct __test_metadata *_metadata, int fd, unsigned long req)
{
	const struct keel_execution good = { .version = KEEL_EXECUTION_VERSION, .size = sizeof(good) };
	struct keel_execution exec;
	unsigned int i;

	exec = good;
	exec.version++;
	EXPECT_EQ(-EINVAL, vm_ioctl(fd, req, &exec));
	exec.version = 0;
	EXPECT_EQ(-EINVAL, vm_ioctl(fd, req, &exec));
	exec = good;
	exec.size--;
	EXPECT_EQ(-EINVAL, vm_ioctl(fd, req, &exec));
	exec = good;
	exec.flags = 1;
	EXPECT_EQ(-EINVAL, vm_ioctl(fd, req, &exec));
	exec = good;
	exec.mode = KEEL_EXECUTION_TRAPPED + 1;
	EXPECT_EQ(-EINVAL, vm_ioctl(fd, req, &exec));
	exec = good;
	exec.emulated = 1;
	EXPECT_EQ(-EINVAL, vm_ioctl(fd, req, &exec));
	exec = good;
	exec.entries = 1;
	EXPECT_EQ(-EINVAL, vm_ioctl(fd, req, &exec));
	for (i = 0; i < sizeof(exec.reserved) / sizeof(exec.reserved[0]); i++) {
		exec = good;
		exec.reserved[i] = 1ULL << 63;
		EXPECT_EQ(-EINVAL, vm_ioctl(fd, req, &exec));
	}
	EXPECT_EQ(-EFAULT, vm_ioctl(fd, req, BAD_PTR));
	EXPECT_EQ(-EFAULT, vm_ioctl(fd, req, NULL));
}

TEST_F(execution, refusals)
{
	struct keel_info info = { .version = KEEL_INFO_VERSION, .size = sizeof(info) };

	ASSERT_EQ(0, vm_ioctl(self->dev, KEEL_GET_INFO, &info));
	EXPECT_NE(0, info.features & KEEL_INFO_EXECUTION);
	refuses(_metadata, self->vm, KEEL_SET_EXECUTION);
	EXPECT_EQ(-ENOTTY, vm_ioctl(self->dev, KEEL_SET_EXECUTION, &self->exec));
	EXPECT_EQ(-ENOTTY, vm_ioctl(self->vm, KEEL_GET_EXECUTION, &self->exec));
}

TEST_F(execution, fixed_by_the_first_vcpu)
{
	unsigned int mode;

	for (mode = KEEL_EXECUTION_DIRECT; mode <= KEEL_EXECUTION_TRAPPED; mode++) {
		self->exec.mode = mode;
		EXPECT_EQ(0, vm_ioctl(self->vm, KEEL_SET_EXECUTION, &self->exec));
	}
	vcpu_create(&self->cpu, self->dev, self->vm, 0);
	EXPECT_EQ(-EBUSY, vm_ioctl(self->vm, KEEL_SET_EXECUTION, &self->exec));
	EXPECT_EQ(-ENOTTY, vm_ioctl(self->cpu.fd, KEEL_SET_EXECUTION, &self->exec));
	refuses(_metadata, self->cpu.fd, KEEL_GET_EXECUTION);
	self->exec.mode = KEEL_EXECUTION_TRAPPED;
	EXPECT_EQ(-EINVAL, vm_ioctl(self->cpu.fd, KEEL_GET_EXECUTION, &self->exec));
	self->exec.mode = 0;
	ASSERT_EQ(0, vm_ioctl(self->cpu.fd, KEEL_GET_EXECUTION, &self->exec));
	EXPECT_EQ(KEEL_EXECUTION_TRAPPED, self->exec.mode);
	EXPECT_EQ(0, self->exec.emulated);
	EXPECT_EQ(0, self->exec.entries);
	vcpu_close(&self->cpu);
}

TEST_HARNESS_MAIN
