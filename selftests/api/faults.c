// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each ioctl with each of its allocations and copies from and to the client failed in turn: by /proc/thread-self/fail-nth
 * the kernel fails the first, the second and so on, until a call has fewer than that. A call in which one failed answers
 * ENOMEM or EFAULT, or has done without; then the same call succeeds, and a guest runs. What is leaked is for kmemleak
 * to tell.
 *
 * Needs a kernel with CONFIG_FAULT_INJECTION (make check DEBUG=1).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/keel.h>
#include "kselftest_harness.h"
#include "guest.h"

#define MOST_FAULTS	400

GUEST(after, 64,
	"movl $0x100000, %edi\n" "movl $0x200, %ecx\n" "1: movl %ecx, (%rdi)\n" "addl $0x1000, %edi\n" "decl %ecx\n" "jnz 1b\n"
	G_DONE);

static int fail_fd = -1;

static bool knob(const char *name, const char *value)
{
	int fd = open(name, O_WRONLY);
	bool ok = fd >= 0 && write(fd, value, strlen(value)) > 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

static bool set_up(void)
{
	static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
	char name[80];
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		snprintf(name, sizeof(name), "/sys/kernel/debug/%s/verbose", kinds[i]);
		if (!knob(name, "0"))
			return false;
		/* Else nothing fails that may wait, which is everything; the usercopy has no such knob. */
		snprintf(name, sizeof(name), "/sys/kernel/debug/%s/ignore-gfp-wait", kinds[i]);
		knob(name, "N");
	}
	knob("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
	knob("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	fail_fd = open("/proc/thread-self/fail-nth", O_RDWR);
	return fail_fd >= 0;
}

static void arm(int nth)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", nth);

	if (pwrite(fail_fd, text, n, 0) != n)
		die("fail-nth");
}

/* True when the fault has been; what has not been may hit the calls in here, too. */
static bool disarm(void)
{
	char text[16] = "";
	bool been = pread(fail_fd, text, sizeof(text) - 1, 0) > 0 && !atoi(text);

	while (pwrite(fail_fd, "0", 1, 0) != 1)
		;
	return been;
}

struct thing {
	struct guest g;
	int irq_fd, io_fd;
	struct kvm_cpuid2 *cpuid;
	uint8_t buf[16384];
};

static long call_open(struct thing *t)
{
	int fd = open(dev_path(), O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? -errno : 0;
}

static long call_create_vm(struct thing *t)
{
	long fd = vm_ioctl(t->g.dev, KVM_CREATE_VM, 0);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

static long call_create_vcpu(struct thing *t)
{
	static int id = 1;
	long fd = vm_ioctl(t->g.vm, KVM_CREATE_VCPU, id);

	if (fd >= 0) {
		id = id % 200 + 1;
		close(fd);
	}
	return fd == -EEXIST ? 0 : fd < 0 ? fd : 0;
}

/* All in one VM of its own: each of these can be had once. */
static long call_controllers(struct thing *t)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	long vm = vm_ioctl(t->g.dev, KVM_CREATE_VM, 0), ret, fd;

	if (vm < 0)
		return vm;
	ret = vm_ioctl(vm, KVM_CREATE_IRQCHIP, 0);
	if (!ret)
		ret = vm_ioctl(vm, KVM_CREATE_PIT2, &pit);
	fd = ret ? ret : vm_ioctl(vm, KVM_CREATE_VCPU, 0);
	if (fd >= 0)
		close(fd);
	close(vm);
	return fd < 0 ? fd : 0;
}

static long call_split(struct thing *t)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = 24 };
	struct kvm_enable_cap ring = { .cap = KVM_CAP_DIRTY_LOG_RING, .args[0] = 65536 };
	long vm = vm_ioctl(t->g.dev, KVM_CREATE_VM, 0), ret, fd;

	if (vm < 0)
		return vm;
	ret = vm_ioctl(vm, KVM_ENABLE_CAP, &cap);
	if (!ret)
		ret = vm_ioctl(vm, KVM_ENABLE_CAP, &ring);
	fd = ret ? ret : vm_ioctl(vm, KVM_CREATE_VCPU, 0);
	if (fd >= 0)
		close(fd);
	close(vm);
	return fd < 0 ? fd : 0;
}

static long slot(struct thing *t, uint32_t flags, uint64_t gpa, uint64_t size)
{
	return vm_set_slot(t->g.vm, 7, flags, gpa, size, t->g.mem + GUEST_HIGH);
}

static long call_slot(struct thing *t)
{
	long ret = slot(t, 0, 0x40000000, 0x200000);

	if (!ret)
		ret = slot(t, KVM_MEM_LOG_DIRTY_PAGES, 0x40000000, 0x200000);
	if (!ret)
		ret = slot(t, KVM_MEM_LOG_DIRTY_PAGES, 0x50000000, 0x200000);
	return ret ? ret : slot(t, 0, 0, 0);
}

static long call_dirty(struct thing *t)
{
	struct kvm_dirty_log log = { .slot = 7, .dirty_bitmap = t->buf };
	long ret = slot(t, KVM_MEM_LOG_DIRTY_PAGES, 0x40000000, 0x200000);

	return ret ? ret : vm_ioctl(t->g.vm, KVM_GET_DIRTY_LOG, &log);
}

static long call_supported_cpuid(struct thing *t)
{
	struct kvm_cpuid2 *cpuid = (void *)t->buf;

	cpuid->nent = MAX_CPUID_ENTRIES;
	return vm_ioctl(t->g.dev, KVM_GET_SUPPORTED_CPUID, cpuid);
}

static long call_cpuid(struct thing *t)
{
	struct kvm_cpuid2 *cpuid = (void *)t->buf;
	long ret = vm_ioctl(t->g.cpu.fd, KVM_SET_CPUID2, t->cpuid);

	cpuid->nent = MAX_CPUID_ENTRIES;
	return ret ? ret : vm_ioctl(t->g.cpu.fd, KVM_GET_CPUID2, cpuid);
}

static long call_routing(struct thing *t)
{
	struct { struct kvm_irq_routing r; struct kvm_irq_routing_entry e[2]; } table = {
		.r.nr = 2,
		.e[0] = { .gsi = 3, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { KVM_IRQCHIP_IOAPIC, 3 } },
		.e[1] = { .gsi = 40, .type = KVM_IRQ_ROUTING_MSI, .u.msi = { 0xfee00000, 0, 0x41 } },
	};

	return vm_ioctl(t->g.vm, KVM_SET_GSI_ROUTING, &table);
}

static long call_irqfd(struct thing *t)
{
	struct kvm_irqfd on = { .fd = t->irq_fd, .gsi = 5 }, off = on;
	long ret = vm_ioctl(t->g.vm, KVM_IRQFD, &on);

	off.flags = KVM_IRQFD_FLAG_DEASSIGN;
	if (ret && ret != -EBUSY)
		return ret;
	return vm_ioctl(t->g.vm, KVM_IRQFD, &off);
}

static long call_ioeventfd(struct thing *t)
{
	struct kvm_ioeventfd on = { .addr = 0x500, .len = 2, .fd = t->io_fd, .flags = KVM_IOEVENTFD_FLAG_PIO }, off = on;
	long ret = vm_ioctl(t->g.vm, KVM_IOEVENTFD, &on);

	off.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	if (ret && ret != -EEXIST)
		return ret;
	return vm_ioctl(t->g.vm, KVM_IOEVENTFD, &off);
}

static long call_coalesced(struct thing *t)
{
	struct kvm_coalesced_mmio_zone zone = { .addr = 0x60000000, .size = 0x1000 };
	long ret = vm_ioctl(t->g.vm, KVM_REGISTER_COALESCED_MMIO, &zone);

	return ret ? ret : vm_ioctl(t->g.vm, KVM_UNREGISTER_COALESCED_MMIO, &zone);
}

static long call_msr_filter(struct thing *t)
{
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges[0] = { .flags = KVM_MSR_FILTER_READ, .nmsrs = 64, .base = 0x10000, .bitmap = t->buf },
		.ranges[1] = { .flags = KVM_MSR_FILTER_WRITE, .nmsrs = 8, .base = 0x20000, .bitmap = t->buf },
	};

	return vm_ioctl(t->g.vm, KVM_X86_SET_MSR_FILTER, &filter);
}

static long call_msrs(struct thing *t)
{
	struct { struct kvm_msrs m; struct kvm_msr_entry e[2]; } msrs = {
		.m.nmsrs = 2, .e[0].index = MSR_IA32_TSC, .e[1].index = MSR_STAR,
	};
	long ret = vm_ioctl(t->g.cpu.fd, KVM_GET_MSRS, &msrs);

	if (ret == 2)
		ret = vm_ioctl(t->g.cpu.fd, KVM_SET_MSRS, &msrs);
	return ret < 0 ? ret : 0;
}

static long call_msr_list(struct thing *t)
{
	struct kvm_msr_list *list = (void *)t->buf;

	list->nmsrs = 1000;
	return vm_ioctl(t->g.dev, KVM_GET_MSR_INDEX_LIST, list);
}

static long call_stats(struct thing *t)
{
	long fd = vm_ioctl(t->g.vm, KVM_GET_STATS_FD, 0), cpu, n;

	if (fd < 0)
		return fd;
	n = pread(fd, t->buf, 512, 0) < 0 ? -errno : 0;
	close(fd);
	cpu = n ? n : vm_ioctl(t->g.cpu.fd, KVM_GET_STATS_FD, 0);
	if (cpu >= 0)
		close(cpu);
	return cpu < 0 ? cpu : 0;
}

static long call_execution(struct thing *t)
{
	struct keel_execution exec = {
		.version = KEEL_EXECUTION_VERSION, .size = sizeof(exec), .mode = KEEL_EXECUTION_INTERPRETED,
	};
	long vm = vm_ioctl(t->g.dev, KVM_CREATE_VM, 0), ret;

	if (vm < 0)
		return vm;
	ret = vm_ioctl(vm, KEEL_SET_EXECUTION, &exec);
	close(vm);
	return ret;
}

static long call_map(struct thing *t)
{
	void *p = mmap(NULL, t->g.cpu.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, t->g.cpu.fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, t->g.cpu.run_size);
	return 0;
}

#define STATE(name, req)							\
	static long call_##name(struct thing *t)				\
	{									\
		return vm_ioctl(t->g.cpu.fd, req, t->buf);			\
	}
#define GET_SET(name, get, set)							\
	static long call_##name(struct thing *t)				\
	{									\
		long ret = vm_ioctl(t->g.cpu.fd, get, t->buf);			\
		return ret ? ret : vm_ioctl(t->g.cpu.fd, set, t->buf);		\
	}
GET_SET(regs, KVM_GET_REGS, KVM_SET_REGS)
GET_SET(sregs, KVM_GET_SREGS, KVM_SET_SREGS)
GET_SET(sregs2, KVM_GET_SREGS2, KVM_SET_SREGS2)
GET_SET(fpu, KVM_GET_FPU, KVM_SET_FPU)
GET_SET(xsave, KVM_GET_XSAVE, KVM_SET_XSAVE)
GET_SET(xcrs, KVM_GET_XCRS, KVM_SET_XCRS)
GET_SET(lapic, KVM_GET_LAPIC, KVM_SET_LAPIC)
GET_SET(mp_state, KVM_GET_MP_STATE, KVM_SET_MP_STATE)
GET_SET(events, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS)
GET_SET(debugregs, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS)
STATE(translate, KVM_TRANSLATE)

static long vm_get_set(struct thing *t, unsigned long get, unsigned long set)
{
	long ret = vm_ioctl(t->g.vm, get, t->buf);

	return ret ? ret : vm_ioctl(t->g.vm, set, t->buf);
}

static long call_clock(struct thing *t)
{
	memset(t->buf, 0, 64);
	return vm_get_set(t, KVM_GET_CLOCK, KVM_SET_CLOCK);
}

static long call_irqchip(struct thing *t)
{
	memset(t->buf, 0, 8);
	return vm_get_set(t, KVM_GET_IRQCHIP, KVM_SET_IRQCHIP);
}

static long call_pit(struct thing *t)
{
	return vm_get_set(t, KVM_GET_PIT2, KVM_SET_PIT2);
}

static const struct call {
	const char *name;
	long (*call)(struct thing *t);
} calls[] = {
	{ "open", call_open }, { "KVM_CREATE_VM", call_create_vm }, { "KVM_CREATE_VCPU", call_create_vcpu },
	{ "KVM_CREATE_IRQCHIP and PIT2", call_controllers }, { "split irqchip and dirty ring", call_split },
	{ "KVM_SET_USER_MEMORY_REGION", call_slot }, { "KVM_GET_DIRTY_LOG", call_dirty },
	{ "KVM_GET_SUPPORTED_CPUID", call_supported_cpuid }, { "KVM_SET_CPUID2", call_cpuid },
	{ "KVM_SET_GSI_ROUTING", call_routing }, { "KVM_IRQFD", call_irqfd }, { "KVM_IOEVENTFD", call_ioeventfd },
	{ "coalesced MMIO", call_coalesced }, { "KVM_X86_SET_MSR_FILTER", call_msr_filter }, { "MSRs", call_msrs },
	{ "KVM_GET_MSR_INDEX_LIST", call_msr_list }, { "KVM_GET_STATS_FD", call_stats },
	{ "KEEL_SET_EXECUTION", call_execution }, { "mmap", call_map },
	{ "REGS", call_regs }, { "SREGS", call_sregs }, { "SREGS2", call_sregs2 }, { "FPU", call_fpu },
	{ "XSAVE", call_xsave }, { "XCRS", call_xcrs }, { "LAPIC", call_lapic }, { "MP_STATE", call_mp_state },
	{ "VCPU_EVENTS", call_events }, { "DEBUGREGS", call_debugregs }, { "KVM_TRANSLATE", call_translate },
	{ "CLOCK", call_clock }, { "IRQCHIP", call_irqchip }, { "PIT2", call_pit },
};

FIXTURE(faults) {
	struct thing *t;
};

FIXTURE_SETUP(faults)
{
	struct thing *t = calloc(1, sizeof(*t));

	if (!set_up())
		SKIP(return, "no fault injection in this kernel");
	self->t = t;
	guest_create(&t->g, GUEST_IRQCHIP | GUEST_PIT);
	guest_start(&t->g, MODE_LONG, BLOB(after));
	t->irq_fd = eventfd(0, 0);
	t->io_fd = eventfd(0, 0);
	t->cpuid = supported_cpuid(t->g.dev);
}

FIXTURE_TEARDOWN(faults)
{
	if (!self->t)
		return;
	guest_destroy(&self->t->g);
	close(self->t->irq_fd);
	close(self->t->io_fd);
}

static bool clean(long ret)
{
	return ret >= 0 || ret == -ENOMEM || ret == -EFAULT;
}

/* How many faults there were in it */
static int fail_each(struct __test_metadata *_metadata, struct thing *t, const struct call *c)
{
	bool been = true;
	long ret;
	int n;

	for (n = 1; been && n < MOST_FAULTS; n++) {
		memset(t->buf, 0, sizeof(t->buf));
		arm(n);
		ret = c->call(t);
		been = disarm();
		EXPECT_TRUE(been ? clean(ret) : ret == 0) {
			TH_LOG("%s, fault %d: %s", c->name, n, strerror(-ret));
		}
		if (!been || !ret)
			continue;
		memset(t->buf, 0, sizeof(t->buf));
		EXPECT_EQ(0, c->call(t)) {
			TH_LOG("%s again after fault %d", c->name, n);
		}
	}
	EXPECT_FALSE(been);
	return n - 2;
}

TEST_F_TIMEOUT(faults, every_ioctl, 600)
{
	int i, n, sum = 0;

	if (!self->t)
		return;		/* skipped */
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		n = fail_each(_metadata, self->t, &calls[i]);
		sum += n;
		TH_LOG("%s: %d faults", calls[i].name, n);
	}
	TH_LOG("%d faults in %zu calls", sum, ARRAY_SIZE(calls));
	EXPECT_LT(200, sum);
	guest_start(&self->t->g, MODE_LONG, BLOB(after));
	ASSERT_DONE(&self->t->g);
}

/* The guest's own pages: found, or KVM_RUN says what failed and may be called again. */
TEST_F_TIMEOUT(faults, run, 600)
{
	struct thing *t = self->t;
	bool been = true;
	long ret;
	int n;

	if (!t)
		return;		/* skipped */
	for (n = 1; been && n < 4000; n += 1 + n / 16) {
		/* Fresh memory, and nothing mapped to it. */
		madvise(t->g.mem + GUEST_HIGH, t->g.mem_size - GUEST_HIGH, MADV_DONTNEED);
		guest_start(&t->g, MODE_LONG, BLOB(after));
		arm(n);
		ret = guest_run(&t->g);
		been = disarm();
		EXPECT_TRUE(clean(ret)) {
			TH_LOG("fault %d: %s", n, strerror(-ret));
		}
		if (ret < 0)
			ret = guest_run(&t->g);
		EXPECT_EQ(KVM_EXIT_IO, ret);
		EXPECT_TRUE(guest_at_port(&t->g, PORT_DONE));
	}
	TH_LOG("faults up to number %d", n);
	EXPECT_FALSE(been);
}

TEST_HARNESS_MAIN
