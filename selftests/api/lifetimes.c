// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who keeps what alive: the vCPU's file descriptor keeps its VM, the VM keeps nothing of the device's, a VM
 * belongs to the address space that made it, and vCPU ids are checked (KVM API documentation, sections 3 and
 * 4.7).
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"

GUEST(out_hlt, 32, "movl $0x1234, %eax\n" "outl %eax, $0x80\n" "hlt\n");

static void expect_out(struct __test_metadata *_metadata, struct guest *g)
{
	ASSERT_EQ(KVM_EXIT_IO, guest_run(g)) {
		guest_dump(g);
	}
	EXPECT_EQ(0x80, g->cpu.run->io.port);
	EXPECT_EQ(0x1234, *(uint32_t *)((char *)g->cpu.run + g->cpu.run->io.data_offset));
}

TEST(vcpu_keeps_vm)
{
	struct guest g;

	guest_create(&g, 0);
	guest_start(&g, MODE_PROT32, BLOB(out_hlt));
	close(g.vm);
	close(g.dev);
	expect_out(_metadata, &g);
	ASSERT_EQ(KVM_EXIT_HLT, guest_run(&g));
	vcpu_close(&g.cpu);
}

TEST(vm_outlives_device)
{
	struct guest g;
	struct vcpu second;

	guest_create(&g, 0);
	guest_start(&g, MODE_PROT32, BLOB(out_hlt));
	close(g.dev);
	expect_out(_metadata, &g);
	g.dev = dev_open();
	vcpu_create(&second, g.dev, g.vm, 1);
	vcpu_close(&second);
	guest_destroy(&g);
}

/* The mapping of the run page alone keeps the page, after all file descriptors are gone. */
TEST(mapping_outlives_fds)
{
	struct guest g;
	struct kvm_run *run;

	guest_create(&g, 0);
	guest_start(&g, MODE_PROT32, BLOB(out_hlt));
	expect_out(_metadata, &g);
	run = g.cpu.run;
	close(g.cpu.fd);
	close(g.vm);
	close(g.dev);
	EXPECT_EQ(KVM_EXIT_IO, run->exit_reason);
	run->io.port = 0x55;
	EXPECT_EQ(0x55, run->io.port);
	munmap(run, g.cpu.run_size);
}

/* A closed vCPU's id is still taken: the VM has it until the VM itself goes. */
TEST(vcpu_id_stays_taken)
{
	int dev = dev_open(), vm = vm_create(dev);
	struct vcpu cpu;

	vcpu_create(&cpu, dev, vm, 0);
	EXPECT_EQ(-EEXIST, vm_ioctl(vm, KVM_CREATE_VCPU, 0));
	vcpu_close(&cpu);
	EXPECT_EQ(-EEXIST, vm_ioctl(vm, KVM_CREATE_VCPU, 0));
	vcpu_create(&cpu, dev, vm, 1);
	vcpu_close(&cpu);
	close(vm);
	close(dev);
}

TEST(vcpu_id_limits)
{
	int dev = dev_open(), vm = vm_create(dev);
	long max_id = vm_cap(dev, KVM_CAP_MAX_VCPU_ID), fd;

	EXPECT_EQ(-EINVAL, vm_ioctl(vm, KVM_CREATE_VCPU, max_id));
	EXPECT_EQ(-EINVAL, vm_ioctl(vm, KVM_CREATE_VCPU, max_id + 1));
	EXPECT_EQ(-EINVAL, vm_ioctl(vm, KVM_CREATE_VCPU, 0xffffffffUL));
	fd = vm_ioctl(vm, KVM_CREATE_VCPU, max_id - 1);
	EXPECT_LE(0, fd);
	close(fd);
	close(vm);
	close(dev);
}

/* Ids beyond MAX_VCPUS count towards the number of vCPUs as any other. */
TEST(too_many_vcpus)
{
	int dev = dev_open(), vm = vm_create(dev), i;
	int max = vm_cap(dev, KVM_CAP_MAX_VCPUS);

	if (max > 256) {
		close(vm);
		close(dev);
		SKIP(return, "%d vCPUs take too long to make", max);
	}
	for (i = 0; i < max; i++)
		close(MUST(vm_ioctl(vm, KVM_CREATE_VCPU, i)));
	EXPECT_EQ(-EINVAL, vm_ioctl(vm, KVM_CREATE_VCPU, max));
	close(vm);
	close(dev);
}

/* Another address space gets EIO for the VM and the vCPU, and the owner is not disturbed. */
TEST(other_mm)
{
	struct guest g;
	int status;
	pid_t pid;

	guest_create(&g, 0);
	guest_start(&g, MODE_PROT32, BLOB(out_hlt));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct kvm_regs regs;
		int bad = 0;

		bad |= vm_ioctl(g.cpu.fd, KVM_RUN, 0) != -EIO;
		bad |= (vm_ioctl(g.cpu.fd, KVM_GET_REGS, &regs) != -EIO) << 1;
		bad |= (vm_ioctl(g.cpu.fd, KVM_GET_REGS, BAD_PTR) != -EIO) << 2;
		bad |= (vm_ioctl(g.vm, KVM_CREATE_VCPU, 1) != -EIO) << 3;
		bad |= (vm_set_slot(g.vm, 0, 0, 0, 0, NULL) != -EIO) << 4;
		bad |= (vm_ioctl(g.vm, _IO(KVMIO, 0x7f), 0) != -EIO) << 5;
		bad |= (vm_ioctl(g.cpu.fd, _IO('!', 0x7f), 0) != -EIO) << 6;
		_exit(bad);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	expect_out(_metadata, &g);
	guest_destroy(&g);
}

/* A child that inherits the descriptors keeps the VM object after its owner dies, and can end it. */
TEST(owner_dies_first)
{
	int pipefd[2], status;
	pid_t owner;
	char c;

	ASSERT_EQ(0, pipe(pipefd));
	owner = fork();
	ASSERT_LE(0, owner);
	if (!owner) {
		struct guest g;
		struct kvm_regs regs;

		close(pipefd[0]);
		guest_create(&g, 0);
		guest_start(&g, MODE_PROT32, BLOB(out_hlt));
		if (!fork()) {
			while (getppid() == owner || getppid() == 0)
				usleep(1000);
			/* The owner's address space is gone by now, or on its way. */
			usleep(20000);
			c = vm_ioctl(g.cpu.fd, KVM_GET_REGS, &regs) == -EIO &&
			    vm_ioctl(g.cpu.fd, KVM_RUN, 0) == -EIO;
			close(g.cpu.fd);
			close(g.vm);
			if (write(pipefd[1], &c, 1) != 1)
				_exit(1);
			_exit(0);
		}
		_exit(0);
	}
	close(pipefd[1]);
	ASSERT_EQ(owner, waitpid(owner, &status, 0));
	EXPECT_EQ(1, read(pipefd[0], &c, 1));
	EXPECT_EQ(1, c);
}

/* All descriptors are close-on-exec. */
TEST(cloexec)
{
	int dev = dev_open(), vm = vm_create(dev);
	int cpu = MUST(vm_ioctl(vm, KVM_CREATE_VCPU, 0));

	EXPECT_EQ(FD_CLOEXEC, fcntl(vm, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(cpu, F_GETFD));
	close(cpu);
	close(vm);
	close(dev);
}

TEST(run_page_mapping)
{
	int dev = dev_open(), vm = vm_create(dev);
	long size = MUST(vm_ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0));
	int fd = MUST(vm_ioctl(vm, KVM_CREATE_VCPU, 0));
	struct kvm_run *a, *b;

	a = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, a);
	b = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, b);
	/* The same memory, zero at first. */
	EXPECT_EQ(0, a->exit_reason);
	a->immediate_exit = 1;
	EXPECT_EQ(1, b->immediate_exit);
	/* KVM_RUN works with no mapping at all. */
	EXPECT_EQ(0, munmap(a, size));
	EXPECT_EQ(-EINTR, vm_ioctl(fd, KVM_RUN, 0));
	EXPECT_EQ(0, munmap(b, PAGE_SIZE));
	EXPECT_EQ(-EINTR, vm_ioctl(fd, KVM_RUN, 0));
	EXPECT_EQ(-EINVAL, vm_ioctl(fd, KVM_RUN, 1));
	close(fd);
	close(vm);
	close(dev);
}

/* Beyond the mapping's end there is no page: a touch is SIGBUS, never memory of the kernel. */
TEST_SIGNAL(run_page_beyond_end, SIGBUS)
{
	int dev = dev_open(), vm = vm_create(dev);
	long size = MUST(vm_ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0));
	int fd = MUST(vm_ioctl(vm, KVM_CREATE_VCPU, 0));
	char *p = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, fd, size + 16 * PAGE_SIZE);

	ASSERT_NE(MAP_FAILED, p);
	TH_LOG("read %d", *(volatile char *)p);
}

TEST_SIGNAL(run_page_far_beyond_end, SIGBUS)
{
	int dev = dev_open(), vm = vm_create(dev);
	int fd = MUST(vm_ioctl(vm, KVM_CREATE_VCPU, 0));
	char *p = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 1L << 40);

	ASSERT_NE(MAP_FAILED, p);
	TH_LOG("read %d", *(volatile char *)p);
}

TEST_HARNESS_MAIN
