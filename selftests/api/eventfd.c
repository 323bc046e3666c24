// SPDX-License-Identifier: GPL-2.0-only
/*
 * irqfds, ioeventfds, coalesced zones and the split irqchip from the client's side: what is refused and how, what
 * an irqfd does to the controllers, and who may close what first (KVM API documentation, sections 4.59, 4.75,
 * 4.116, 7.5).
 */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"
#include "evfd.h"

#define RESAMPLE	KVM_IRQFD_FLAG_RESAMPLE
#define DEASSIGN	KVM_IRQFD_FLAG_DEASSIGN

FIXTURE(ev) {
	int dev, vm, fd, other;
};

FIXTURE_SETUP(ev)
{
	self->dev = dev_open();
	self->vm = vm_create(self->dev);
	self->fd = evfd();
	self->other = evfd();
}

FIXTURE_TEARDOWN(ev)
{
	close(self->vm);
	close(self->fd);
	close(self->other);
	close(self->dev);
}

static void make_irqchip(int vm)
{
	MUST(vm_ioctl(vm, KVM_CREATE_IRQCHIP, 0));
}

static long split(int vm, uint64_t pins)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = pins };

	return vm_ioctl(vm, KVM_ENABLE_CAP, &cap);
}

static uint32_t ioapic_irr(int vm)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	MUST(vm_ioctl(vm, KVM_GET_IRQCHIP, &chip));
	return chip.chip.ioapic.irr;
}

static uint8_t pic_irr(int vm)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };

	MUST(vm_ioctl(vm, KVM_GET_IRQCHIP, &chip));
	return chip.chip.pic.irr;
}

/* Pins are raised by a worker: in a moment. */
#define EVENTUALLY(cond) do {				\
	int tries_;					\
							\
	for (tries_ = 0; tries_ < 5000 && !(cond); tries_++)	\
		usleep(1000);				\
	EXPECT_TRUE(cond);				\
} while (0)

TEST_F(ev, capabilities)
{
	EXPECT_EQ(1, vm_cap(self->dev, KVM_CAP_IRQFD));
	EXPECT_EQ(1, vm_cap(self->dev, KVM_CAP_IRQFD_RESAMPLE));
	EXPECT_EQ(1, vm_cap(self->dev, KVM_CAP_IOEVENTFD));
	EXPECT_EQ(1, vm_cap(self->dev, KVM_CAP_IOEVENTFD_NO_LENGTH));
	EXPECT_EQ(1, vm_cap(self->dev, KVM_CAP_IOEVENTFD_ANY_LENGTH));
	EXPECT_EQ(2, vm_cap(self->dev, KVM_CAP_COALESCED_MMIO));
	EXPECT_EQ(1, vm_cap(self->dev, KVM_CAP_COALESCED_PIO));
	EXPECT_EQ(1, vm_cap(self->dev, KVM_CAP_SPLIT_IRQCHIP));
	EXPECT_LE(3 * PAGE_SIZE, vm_ioctl(self->dev, KVM_GET_VCPU_MMAP_SIZE, 0));
}

TEST_F(ev, irqfd_refusals)
{
	int null = open("/dev/null", O_RDWR);

	EXPECT_EQ(-EFAULT, vm_ioctl(self->vm, KVM_IRQFD, BAD_PTR));
	/* Without a controller nothing can be assigned, whatever else is wrong. */
	EXPECT_EQ(-EINVAL, vm_irqfd(self->vm, self->fd, 5, 0, 0));
	EXPECT_EQ(-EINVAL, vm_irqfd(self->vm, -1, 5, 0, 0));
	EXPECT_EQ(0, vm_irqfd(self->vm, self->fd, 5, DEASSIGN, 0));
	make_irqchip(self->vm);
	EXPECT_EQ(-EINVAL, vm_irqfd(self->vm, self->fd, 5, 1 << 2, 0));
	EXPECT_EQ(-EINVAL, vm_irqfd(self->vm, self->fd, 5, 1U << 31 | DEASSIGN, 0));
	EXPECT_EQ(-EBADF, vm_irqfd(self->vm, -1, 5, 0, 0));
	EXPECT_EQ(-EINVAL, vm_irqfd(self->vm, null, 5, 0, 0));
	EXPECT_EQ(-EBADF, vm_irqfd(self->vm, self->fd, 5, RESAMPLE, -1));
	EXPECT_EQ(-EINVAL, vm_irqfd(self->vm, self->fd, 5, RESAMPLE, null));
	EXPECT_EQ(-EBADF, vm_irqfd(self->vm, -1, 5, DEASSIGN, 0));
	EXPECT_EQ(-EINVAL, vm_irqfd(self->vm, null, 5, DEASSIGN, 0));
	EXPECT_EQ(0, vm_irqfd(self->vm, self->fd, 5, 0, 0));
	EXPECT_EQ(-EBUSY, vm_irqfd(self->vm, self->fd, 5, 0, 0));
	EXPECT_EQ(-EBUSY, vm_irqfd(self->vm, self->fd, 6, 0, 0));
	EXPECT_EQ(-EBUSY, vm_irqfd(self->vm, self->fd, 6, RESAMPLE, self->other));
	/* Not assigned to that GSI: nothing to do, and still in use. */
	EXPECT_EQ(0, vm_irqfd(self->vm, self->fd, 6, DEASSIGN, 0));
	EXPECT_EQ(-EBUSY, vm_irqfd(self->vm, self->fd, 6, 0, 0));
	EXPECT_EQ(0, vm_irqfd(self->vm, self->fd, 5, DEASSIGN, 0));
	EXPECT_EQ(0, vm_irqfd(self->vm, self->fd, 5, DEASSIGN, 0));
	EXPECT_EQ(0, vm_irqfd(self->vm, self->fd, 6, RESAMPLE, self->other));
	/* A GSI without routes is none the worse. */
	EXPECT_EQ(0, vm_irqfd(self->vm, self->other, 0xffffffff, 0, 0));
	evfd_signal(self->other);
	close(null);
}

TEST_F(ev, irqfd_pulses_a_pin)
{
	make_irqchip(self->vm);
	ASSERT_EQ(0, vm_irqfd(self->vm, self->fd, 3, 0, 0));
	EXPECT_EQ(0, pic_irr(self->vm));
	evfd_signal(self->fd);
	/* An edge: the request stays, the line does not. */
	EVENTUALLY(pic_irr(self->vm) & 1 << 3);
	EVENTUALLY(!(ioapic_irr(self->vm) & 1 << 3));
	EXPECT_EQ(0, evfd_take(self->fd));
	ASSERT_EQ(0, vm_irqfd(self->vm, self->fd, 3, DEASSIGN, 0));
	evfd_signal(self->fd);
	EXPECT_EQ(1, evfd_take(self->fd));
}

TEST_F(ev, irqfd_sees_earlier_signals)
{
	make_irqchip(self->vm);
	evfd_signal(self->fd);
	ASSERT_EQ(0, vm_irqfd(self->vm, self->fd, 4, 0, 0));
	EVENTUALLY(pic_irr(self->vm) & 1 << 4);
}

TEST_F(ev, irqfd_follows_routes)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} r = {
		.head.nr = 1,
		.entry = { .gsi = 30, .type = KVM_IRQ_ROUTING_IRQCHIP,
			   .u.irqchip = { .irqchip = KVM_IRQCHIP_PIC_MASTER, .pin = 6 } },
	};

	make_irqchip(self->vm);
	ASSERT_EQ(0, vm_irqfd(self->vm, self->fd, 30, 0, 0));
	evfd_signal(self->fd);
	ASSERT_EQ(0, vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &r));
	evfd_signal(self->fd);
	EVENTUALLY(pic_irr(self->vm) & 1 << 6);
}

TEST_F(ev, irqfd_resample_holds_the_line)
{
	make_irqchip(self->vm);
	ASSERT_EQ(0, vm_irqfd(self->vm, self->fd, 20, RESAMPLE, self->other));
	evfd_signal(self->fd);
	EVENTUALLY(ioapic_irr(self->vm) & 1 << 20);
	usleep(10000);
	EXPECT_EQ(1 << 20, ioapic_irr(self->vm) & 1 << 20);
	EXPECT_EQ(0, evfd_take(self->other));
	/* The last one that leaves lowers it. */
	ASSERT_EQ(0, vm_irqfd(self->vm, self->fd, 20, DEASSIGN, 0));
	EXPECT_EQ(0, ioapic_irr(self->vm) & 1 << 20);
}

/* Two devices on one line: the line is their own until the guest acknowledges, then both are told. */
TEST_F(ev, irqfd_resample_is_shared)
{
	int fd2 = evfd(), other2 = evfd();
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };

	make_irqchip(self->vm);
	ASSERT_EQ(0, vm_irqfd(self->vm, self->fd, 5, RESAMPLE, self->other));
	ASSERT_EQ(0, vm_irqfd(self->vm, fd2, 5, RESAMPLE, other2));
	evfd_signal(fd2);
	EVENTUALLY(ioapic_irr(self->vm) & 1 << 5);
	ASSERT_EQ(0, vm_irqfd(self->vm, fd2, 5, DEASSIGN, 0));
	EXPECT_EQ(1 << 5, ioapic_irr(self->vm) & 1 << 5);
	ASSERT_EQ(0, vm_irqfd(self->vm, self->fd, 5, DEASSIGN, 0));
	EXPECT_EQ(0, ioapic_irr(self->vm) & 1 << 5);
	EXPECT_EQ(0, vm_ioctl(self->vm, KVM_GET_IRQCHIP, &chip));
	close(fd2);
	close(other2);
}

/* The eventfd's last reference goes: so does the irqfd, by itself. */
TEST_F(ev, irqfd_ends_with_its_eventfd)
{
	int i, fd;

	make_irqchip(self->vm);
	for (i = 0; i < 50; i++) {
		fd = evfd();
		ASSERT_EQ(0, vm_irqfd(self->vm, fd, 20, i & 1 ? RESAMPLE : 0, self->other));
		evfd_signal(fd);
		close(fd);
	}
	EVENTUALLY(!(ioapic_irr(self->vm) & 1 << 20));
}

/* The VM's file goes first, while a vCPU keeps the VM: its irqfds let go of their eventfds. */
TEST_F(ev, irqfd_ends_with_its_vm)
{
	struct vcpu cpu;

	make_irqchip(self->vm);
	vcpu_create(&cpu, self->dev, self->vm, 0);
	ASSERT_EQ(0, vm_irqfd(self->vm, self->fd, 20, RESAMPLE, self->other));
	evfd_signal(self->fd);
	close(self->vm);
	evfd_take(self->fd);
	evfd_signal(self->fd);
	evfd_signal(self->fd);
	EXPECT_EQ(2, evfd_take(self->fd));
	vcpu_close(&cpu);
	self->vm = vm_create(self->dev);
	make_irqchip(self->vm);
	EXPECT_EQ(0, vm_irqfd(self->vm, self->fd, 20, RESAMPLE, self->other));
}

static volatile bool stop;

static void *signal_thread(void *arg)
{
	int *fds = arg;

	while (!stop) {
		eventfd_write(fds[0], 1);
		eventfd_write(fds[1], 1);
	}
	return NULL;
}

/* Assigned, deassigned and torn down under fire; of interest to the kernel's checks. */
TEST_F(ev, irqfd_churn)
{
	int fds[2] = { self->fd, self->other }, i, vm;
	pthread_t thread;

	stop = false;
	ASSERT_EQ(0, pthread_create(&thread, NULL, signal_thread, fds));
	for (i = 0; i < 40; i++) {
		vm = vm_create(self->dev);
		make_irqchip(vm);
		EXPECT_EQ(0, vm_irqfd(vm, fds[0], 4, 0, 0));
		EXPECT_EQ(0, vm_irqfd(vm, fds[1], 24, 0, 0));
		EXPECT_EQ(0, vm_route_msi(vm, 24, 0x55));
		if (i & 1)
			EXPECT_EQ(0, vm_irqfd(vm, fds[0], 4, DEASSIGN, 0));
		if (i & 2)
			EXPECT_EQ(0, vm_irqfd(vm, fds[1], 24, DEASSIGN, 0));
		close(vm);
	}
	stop = true;
	pthread_join(thread, NULL);
}

/* More eventfds on one line than anyone has: all or none of them, and all go. */
TEST_F(ev, irqfd_many)
{
	enum { N = 600 };
	int fds[N], i, n = 0;
	long ret;

	make_irqchip(self->vm);
	for (i = 0; i < N; i++) {
		fds[i] = evfd();
		ret = vm_irqfd(self->vm, fds[i], 20, RESAMPLE, self->other);
		if (ret) {
			EXPECT_EQ(-ENOSPC, ret);
			EXPECT_LE(512, n);
		} else {
			n++;
		}
	}
	for (i = 0; i < N; i++)
		close(fds[i]);
	for (i = 0; i < 5000 && (ret = vm_irqfd(self->vm, self->fd, 20, RESAMPLE, self->other)) == -ENOSPC; i++)
		usleep(1000);
	EXPECT_EQ(0, ret);
}

#define PIO	KVM_IOEVENTFD_FLAG_PIO
#define MATCH	KVM_IOEVENTFD_FLAG_DATAMATCH
#define REMOVE	KVM_IOEVENTFD_FLAG_DEASSIGN

TEST_F(ev, ioeventfd_refusals)
{
	int null = open("/dev/null", O_RDWR), vm = self->vm, fd = self->fd;

	EXPECT_EQ(-EFAULT, vm_ioctl(vm, KVM_IOEVENTFD, BAD_PTR));
	EXPECT_EQ(-EINVAL, vm_ioeventfd(vm, fd, 0x1000, 3, 0, 0));
	EXPECT_EQ(-EINVAL, vm_ioeventfd(vm, fd, 0x1000, 16, 0, 0));
	EXPECT_EQ(-EINVAL, vm_ioeventfd(vm, fd, 0x1000, 0x10000, 0, 0));
	EXPECT_EQ(-EINVAL, vm_ioeventfd(vm, fd, ~0ULL, 2, 0, 0));
	EXPECT_EQ(-EINVAL, vm_ioeventfd(vm, fd, 0x1000, 4, 1 << 5, 0));
	EXPECT_EQ(-EINVAL, vm_ioeventfd(vm, fd, 0x1000, 0, MATCH, 0));
	EXPECT_EQ(-EBADF, vm_ioeventfd(vm, -1, 0x1000, 4, 0, 0));
	EXPECT_EQ(-EINVAL, vm_ioeventfd(vm, null, 0x1000, 4, 0, 0));
	EXPECT_EQ(-EBADF, vm_ioeventfd(vm, -1, 0x1000, 4, REMOVE, 0));
	EXPECT_EQ(-EINVAL, vm_ioeventfd(vm, null, 0x1000, 4, REMOVE, 0));
	EXPECT_EQ(-ENOENT, vm_ioeventfd(vm, fd, 0x1000, 4, REMOVE, 0));
	close(null);
}

TEST_F(ev, ioeventfd_collisions)
{
	int vm = self->vm, fd = self->fd, other = self->other;

	ASSERT_EQ(0, vm_ioeventfd(vm, fd, 0x1000, 4, MATCH, 7));
	EXPECT_EQ(-EEXIST, vm_ioeventfd(vm, fd, 0x1000, 4, MATCH, 7));
	EXPECT_EQ(-EEXIST, vm_ioeventfd(vm, other, 0x1000, 4, MATCH, 7));
	EXPECT_EQ(-EEXIST, vm_ioeventfd(vm, other, 0x1000, 4, 0, 0));
	EXPECT_EQ(-EEXIST, vm_ioeventfd(vm, other, 0x1000, 0, 0, 0));
	EXPECT_EQ(0, vm_ioeventfd(vm, fd, 0x1000, 4, MATCH, 8));
	EXPECT_EQ(0, vm_ioeventfd(vm, fd, 0x1000, 2, MATCH, 7));
	EXPECT_EQ(0, vm_ioeventfd(vm, fd, 0x1000, 1, 0, 0));
	EXPECT_EQ(-EEXIST, vm_ioeventfd(vm, fd, 0x1000, 1, MATCH, 1));
	EXPECT_EQ(0, vm_ioeventfd(vm, fd, 0x1001, 1, MATCH, 1));
	EXPECT_EQ(0, vm_ioeventfd(vm, fd, 0x1000, 4, MATCH | PIO, 7));
	EXPECT_EQ(0, vm_ioeventfd(vm, fd, 0x2000, 0, 0, 0));
	EXPECT_EQ(-EEXIST, vm_ioeventfd(vm, fd, 0x2000, 8, MATCH, 1));
	/* Removed only by all that it was made with. */
	EXPECT_EQ(-ENOENT, vm_ioeventfd(vm, other, 0x1000, 4, MATCH | REMOVE, 7));
	EXPECT_EQ(-ENOENT, vm_ioeventfd(vm, fd, 0x1000, 4, MATCH | REMOVE, 9));
	EXPECT_EQ(-ENOENT, vm_ioeventfd(vm, fd, 0x1000, 4, REMOVE, 7));
	EXPECT_EQ(-ENOENT, vm_ioeventfd(vm, fd, 0x1000, 8, MATCH | REMOVE, 7));
	EXPECT_EQ(-ENOENT, vm_ioeventfd(vm, fd, 0x1000, 260, REMOVE, 0));
	EXPECT_EQ(0, vm_ioeventfd(vm, fd, 0x1000, 4, MATCH | REMOVE, 7));
	EXPECT_EQ(-ENOENT, vm_ioeventfd(vm, fd, 0x1000, 4, MATCH | REMOVE, 7));
	EXPECT_EQ(0, vm_ioeventfd(vm, other, 0x1000, 4, MATCH, 7));
	EXPECT_EQ(0, vm_ioeventfd(vm, fd, 0x1000, 4, MATCH | PIO | REMOVE, 7));
	EXPECT_EQ(0, vm_ioeventfd(vm, fd, 0x2000, 0, REMOVE, 0));
	EXPECT_EQ(0, vm_ioeventfd(vm, fd, 0x2000, 8, MATCH, 1));
}

TEST_F(ev, zone_refusals)
{
	int vm = self->vm, i;

	EXPECT_EQ(-EFAULT, vm_ioctl(vm, KVM_REGISTER_COALESCED_MMIO, BAD_PTR));
	EXPECT_EQ(-EFAULT, vm_ioctl(vm, KVM_UNREGISTER_COALESCED_MMIO, BAD_PTR));
	EXPECT_EQ(-EINVAL, vm_zone(vm, true, 0xd0000, 0x1000, 2));
	EXPECT_EQ(-EINVAL, vm_zone(vm, false, 0xd0000, 0x1000, 2));
	EXPECT_EQ(0, vm_zone(vm, false, 0xd0000, 0x1000, 0));
	EXPECT_EQ(0, vm_zone(vm, true, 0xd0000, 0x1000, 0));
	EXPECT_EQ(0, vm_zone(vm, true, 0xd0000, 0x1000, 0));
	EXPECT_EQ(0, vm_zone(vm, true, 0x80, 1, 1));
	EXPECT_EQ(0, vm_zone(vm, true, ~0ULL - 1, 0xffffffff, 0));
	for (i = 3; i < 1000; i++)
		if (vm_zone(vm, true, 0x100000000 + i * 0x1000, 0x1000, 0))
			break;
	EXPECT_EQ(1000, i);
	EXPECT_EQ(-ENOSPC, vm_zone(vm, true, 0xd0000, 0x1000, 0));
	EXPECT_EQ(0, vm_zone(vm, false, 0xd0000, 0x1000, 0));
	EXPECT_EQ(0, vm_zone(vm, true, 0xd0000, 0x1000, 0));
}

TEST_F(ev, split_refusals)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	struct kvm_irq_level line = { .irq = 3, .level = 1 };
	struct kvm_interrupt irq = { .irq = 0x20 };
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} r = { .head.nr = 1, .entry = { .gsi = 5, .type = KVM_IRQ_ROUTING_IRQCHIP } };
	struct vcpu cpu;

	EXPECT_EQ(-EINVAL, split(self->vm, 4097));
	EXPECT_EQ(-EINVAL, split(self->vm, ~0ULL));
	ASSERT_EQ(0, split(self->vm, 4096));
	EXPECT_EQ(-EEXIST, split(self->vm, 24));
	EXPECT_EQ(-EINVAL, split(self->vm, 4097));
	EXPECT_EQ(-EEXIST, vm_ioctl(self->vm, KVM_CREATE_IRQCHIP, 0));
	/* There are no pins, but there are GSIs. */
	EXPECT_EQ(-ENXIO, vm_ioctl(self->vm, KVM_GET_IRQCHIP, &chip));
	EXPECT_EQ(-ENXIO, vm_ioctl(self->vm, KVM_SET_IRQCHIP, &chip));
	EXPECT_EQ(-EINVAL, vm_ioctl(self->vm, KVM_SET_GSI_ROUTING, &r));
	EXPECT_EQ(0, vm_ioctl(self->vm, KVM_IRQ_LINE, &line));
	EXPECT_EQ(0, vm_ioctl(self->vm, KVM_IRQ_LINE_STATUS, &line));
	EXPECT_EQ(-1, (int)line.status);
	EXPECT_EQ(-EINVAL, vm_irqfd(self->vm, self->fd, 5, RESAMPLE, self->other));
	EXPECT_EQ(0, vm_irqfd(self->vm, self->fd, 5, 0, 0));
	EXPECT_EQ(0, vm_route_msi(self->vm, 4095, 0x30));
	EXPECT_EQ(-EINVAL, vm_route_msi(self->vm, 4096, 0x30));

	vcpu_create(&cpu, self->dev, self->vm, 0);
	EXPECT_EQ(0, vm_ioctl(cpu.fd, KVM_INTERRUPT, &irq));
	EXPECT_EQ(-EEXIST, vm_ioctl(cpu.fd, KVM_INTERRUPT, &irq));
	irq.irq = 256;
	EXPECT_EQ(-EINVAL, vm_ioctl(cpu.fd, KVM_INTERRUPT, &irq));
	vcpu_close(&cpu);
}

TEST_F(ev, split_comes_first)
{
	struct vcpu cpu;
	int vm;

	vcpu_create(&cpu, self->dev, self->vm, 0);
	EXPECT_EQ(-EEXIST, split(self->vm, 24));
	vcpu_close(&cpu);
	vm = vm_create(self->dev);
	make_irqchip(vm);
	EXPECT_EQ(-EEXIST, split(vm, 24));
	close(vm);
}

TEST_HARNESS_MAIN
