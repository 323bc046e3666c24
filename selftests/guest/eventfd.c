// SPDX-License-Identifier: GPL-2.0-only
/*
 * Eventfds and a running guest: writes that signal instead of exiting, writes that wait in the coalesced ring,
 * interrupts by irqfd from a second thread, and the resample loop of a level-triggered line (KVM API documentation,
 * sections 4.59, 4.75, 4.116).
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include "kselftest_harness.h"
#include "guest.h"
#include "evfd.h"

#define COUNT	0x42000
#define ISR_AT	(GUEST_CODE + 0x800)
#define VEC	0x55
#define PORT	0x510
#define MMIO	0xd0000
#define PIO	KVM_IOEVENTFD_FLAG_PIO
#define MATCH	KVM_IOEVENTFD_FLAG_DATAMATCH
#define REMOVE	KVM_IOEVENTFD_FLAG_DEASSIGN

FIXTURE(ev) {
	struct guest g;
	int fd, other;
};

FIXTURE_SETUP(ev)
{
	guest_create(&self->g, GUEST_IRQCHIP);
	self->fd = evfd();
	self->other = evfd();
}

FIXTURE_TEARDOWN(ev)
{
	guest_destroy(&self->g);
	close(self->fd);
	close(self->other);
}

/* ECX writes of each size and of AX = 0x1234 to port and to memory. */
GUEST(writes, 64, "movl $" STR(PORT) ", %edx\n" "movl $" STR(MMIO) ", %edi\n" "movl $100, %ecx\n"
	"1: movl $0x1234, %eax\n" "outb %al, %dx\n" "outw %ax, %dx\n" "outl %eax, %dx\n"
	"movb %al, (%rdi)\n" "movw %ax, (%rdi)\n" "movl %eax, (%rdi)\n" "movq %rax, (%rdi)\n"
	"decl %ecx\n" "jnz 1b\n" G_DONE);

TEST_F(ev, any_length)
{
	struct guest *g = &self->g;

	ASSERT_EQ(0, vm_ioeventfd(g->vm, self->fd, PORT, 0, PIO, 0));
	ASSERT_EQ(0, vm_ioeventfd(g->vm, self->other, MMIO, 0, 0, 0));
	guest_start(g, MODE_LONG, BLOB(writes));
	ASSERT_DONE(g);
	EXPECT_EQ(300, evfd_take(self->fd));
	EXPECT_EQ(400, evfd_take(self->other));
}

TEST_F(ev, each_length)
{
	struct guest *g = &self->g;
	int fds[7], i;

	for (i = 0; i < 7; i++) {
		fds[i] = evfd();
		ASSERT_EQ(0, vm_ioeventfd(g->vm, fds[i], i < 3 ? PORT : MMIO, 1 << (i < 3 ? i : i - 3),
					  i < 3 ? PIO : 0, 0));
	}
	guest_start(g, MODE_LONG, BLOB(writes));
	ASSERT_DONE(g);
	for (i = 0; i < 7; i++) {
		EXPECT_EQ(100, evfd_take(fds[i]));
		close(fds[i]);
	}
}

/* Only the value counts that was asked for, in the length that was written; the rest exits. */
GUEST(match, 64, "movl $" STR(PORT) ", %edx\n" "movl $" STR(MMIO) ", %edi\n"
	"movw $7, %ax\n" "outw %ax, %dx\n" "movw $8, %ax\n" "outw %ax, %dx\n" "movw $7, %ax\n" "outw %ax, %dx\n"
	"movabsq $0x100000007, %rax\n" "movq %rax, (%rdi)\n" "movl %eax, (%rdi)\n" "movq $7, (%rdi)\n"
	G_DONE);

TEST_F(ev, datamatch)
{
	struct guest *g = &self->g;
	int never = evfd();

	ASSERT_EQ(0, vm_ioeventfd(g->vm, self->fd, PORT, 2, PIO | MATCH, 7));
	/* More bits than the access has. */
	ASSERT_EQ(0, vm_ioeventfd(g->vm, never, PORT, 2, PIO | MATCH, 0x10008));
	ASSERT_EQ(0, vm_ioeventfd(g->vm, self->other, MMIO, 8, MATCH, 0x100000007));
	guest_start(g, MODE_LONG, BLOB(match));
	ASSERT_RUN(KVM_EXIT_IO, g);
	EXPECT_EQ(PORT, g->cpu.run->io.port);
	EXPECT_EQ(8, *(uint16_t *)((char *)g->cpu.run + g->cpu.run->io.data_offset));
	EXPECT_EQ(1, evfd_take(self->fd));
	ASSERT_RUN(KVM_EXIT_MMIO, g);
	EXPECT_EQ(4, g->cpu.run->mmio.len);
	EXPECT_EQ(1, evfd_take(self->fd));
	EXPECT_EQ(1, evfd_take(self->other));
	ASSERT_RUN(KVM_EXIT_MMIO, g);
	EXPECT_EQ(8, g->cpu.run->mmio.len);
	ASSERT_DONE(g);
	EXPECT_EQ(0, evfd_take(self->fd));
	EXPECT_EQ(0, evfd_take(self->other));
	EXPECT_EQ(0, evfd_take(never));
	close(never);
}

/* A thread that waits for the eventfd on the vCPU's own CPU, and goes first: it is woken by each write, not by a tick. */
#define WRITES	200

GUEST(wakes, 64, "movl $" STR(PORT) ", %edx\n" "movl $" STR(WRITES) ", %ecx\n"
	"1: outb %al, %dx\n" "decl %ecx\n" "jnz 1b\n" G_DONE);

struct waiter {
	int fd;
	pthread_barrier_t ready;
};

static void *count_wakes(void *arg)
{
	const struct sched_param first = { .sched_priority = 1 };
	struct waiter *w = arg;
	int fd = w->fd, err = pthread_setschedparam(pthread_self(), SCHED_FIFO, &first);
	long wakes = 0, signals = 0;
	uint64_t n;

	pthread_barrier_wait(&w->ready);
	if (err)
		return (void *)-1L;
	while (signals < WRITES && read(fd, &n, sizeof(n)) == sizeof(n)) {
		wakes++;
		signals += n;
	}
	return (void *)wakes;
}

TEST_F(ev, waiter_beside_the_vcpu)
{
	struct waiter w = { .fd = eventfd(0, EFD_CLOEXEC) };
	struct guest *g = &self->g;
	cpu_set_t all, one;
	pthread_t waiter;
	void *wakes;

	ASSERT_LE(0, w.fd);
	ASSERT_EQ(0, pthread_barrier_init(&w.ready, NULL, 2));
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(all), &all));
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	ASSERT_EQ(0, vm_ioeventfd(g->vm, w.fd, PORT, 1, PIO, 0));
	guest_start(g, MODE_LONG, BLOB(wakes));
	ASSERT_EQ(0, pthread_create(&waiter, NULL, count_wakes, &w));
	/* It goes first, so it waits for the eventfd before this thread goes on. */
	pthread_barrier_wait(&w.ready);
	ASSERT_DONE(g);
	ASSERT_EQ(0, pthread_join(waiter, &wakes));
	EXPECT_EQ(WRITES, (long)wakes);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(all), &all));
	close(w.fd);
}

/* A neighbour, a read and a string are no exact writes, or several. */
GUEST(near, 64, "movl $" STR(PORT) ", %edx\n" "movl $" STR(MMIO) ", %edi\n"
	"inl %dx, %eax\n" "incl %edx\n" "outb %al, %dx\n" "decl %edx\n" "movl (%rdi), %eax\n" "movl %eax, 1(%rdi)\n"
	"movl $" STR(GUEST_DATA) ", %esi\n" "movl $5, %ecx\n" "cld\n" "rep outsb\n" G_DONE);

TEST_F(ev, exact_address)
{
	struct guest *g = &self->g;

	ASSERT_EQ(0, vm_ioeventfd(g->vm, self->fd, PORT, 0, PIO, 0));
	ASSERT_EQ(0, vm_ioeventfd(g->vm, self->other, MMIO, 0, 0, 0));
	guest_start(g, MODE_LONG, BLOB(near));
	ASSERT_RUN(KVM_EXIT_IO, g);
	EXPECT_EQ(KVM_EXIT_IO_IN, g->cpu.run->io.direction);
	ASSERT_RUN(KVM_EXIT_IO, g);
	EXPECT_EQ(PORT + 1, g->cpu.run->io.port);
	ASSERT_RUN(KVM_EXIT_MMIO, g);
	EXPECT_EQ(0, g->cpu.run->mmio.is_write);
	ASSERT_RUN(KVM_EXIT_MMIO, g);
	EXPECT_EQ(MMIO + 1, g->cpu.run->mmio.phys_addr);
	EXPECT_EQ(0, evfd_take(self->fd));
	ASSERT_DONE(g);
	EXPECT_EQ(5, evfd_take(self->fd));
	EXPECT_EQ(0, evfd_take(self->other));
}

/* The VM's own file is closed and the eventfd as well: what the guest writes still signals, to nobody. */
TEST_F(ev, ioeventfd_outlives_files)
{
	struct guest *g = &self->g;

	ASSERT_EQ(0, vm_ioeventfd(g->vm, self->fd, PORT, 0, PIO, 0));
	ASSERT_EQ(0, vm_ioeventfd(g->vm, self->other, MMIO, 0, 0, 0));
	guest_start(g, MODE_LONG, BLOB(writes));
	close(g->vm);
	close(self->other);
	ASSERT_DONE(g);
	EXPECT_EQ(300, evfd_take(self->fd));
	g->vm = self->other = -1;
}

/* Deassigned while the guest writes: each write is either counted or seen. */
GUEST(forever, 64, "sti\n" "movl $" STR(PORT) ", %edx\n" "1: outl %eax, %dx\n" "incl " STR(COUNT) "\n" "jmp 1b\n");

static void *remove_thread(void *arg)
{
	struct guest *g = arg;
	volatile uint32_t *count = (uint32_t *)(g->mem + COUNT);

	while (*count < 1000)
		;
	return (void *)vm_ioeventfd(g->vm, *(int *)(g->mem + COUNT + 8), PORT, 4, PIO | REMOVE, 0);
}

TEST_F(ev, deassign_under_way)
{
	struct guest *g = &self->g;
	pthread_t thread;
	void *ret;

	ASSERT_EQ(0, vm_ioeventfd(g->vm, self->fd, PORT, 4, PIO, 0));
	guest_start(g, MODE_LONG, BLOB(forever));
	*(uint32_t *)(g->mem + COUNT) = 0;
	*(int *)(g->mem + COUNT + 8) = self->fd;
	ASSERT_EQ(0, pthread_create(&thread, NULL, remove_thread, g));
	ASSERT_RUN(KVM_EXIT_IO, g);
	EXPECT_EQ(PORT, g->cpu.run->io.port);
	pthread_join(thread, &ret);
	EXPECT_EQ(NULL, ret);
	EXPECT_EQ(*(uint32_t *)(g->mem + COUNT), evfd_take(self->fd));
}

/*
 * Interrupts. The handler counts, ends the interrupt and writes to the port whose eventfd the signalling thread waits
 * for, so that none is merged with the next.
 */
#define EOI	"movl $0xfee000b0, %eax\n" "movl $0, (%rax)\n"
GUEST(isr_ack, 64, "pushq %rax\n" "pushq %rdx\n" "incl " STR(COUNT) "\n" EOI
	"movl $" STR(PORT) ", %edx\n" "outb %al, %dx\n" "popq %rdx\n" "popq %rax\n" "iretq\n");
GUEST(isr_eoi, 64, "pushq %rax\n" "incl " STR(COUNT) "\n" EOI "popq %rax\n" "iretq\n");
/* RBX: how many. R12: halt in between. */
#define WAIT_LOOP	"1: cli\n" "cmpl " STR(COUNT) ", %ebx\n" "jbe 3f\n" "testl %r12d, %r12d\n" "jz 2f\n" \
	"sti\n" "hlt\n" "jmp 1b\n" "2: sti\n" "pause\n" "jmp 1b\n" "3: cli\n"
GUEST(take, 64, "movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n" G_SYNC WAIT_LOOP G_DONE);

static void start(struct guest *g, struct guest_blob blob, struct guest_blob handler, uint32_t n, bool halt)
{
	struct kvm_regs r;

	guest_start(g, MODE_LONG, blob);
	memcpy(g->mem + ISR_AT, handler.start, handler.end - handler.start);
	guest_set_gate(g, VEC, ISR_AT);
	*(uint32_t *)(g->mem + COUNT) = 0;
	r = vcpu_regs(&g->cpu);
	r.rbx = n;
	r.r12 = halt;
	vcpu_set_regs(&g->cpu, &r);
}

static uint32_t count(struct guest *g)
{
	return *(volatile uint32_t *)(g->mem + COUNT);
}

static void set_pin(struct guest *g, int pin, uint64_t entry)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	MUST(vm_ioctl(g->vm, KVM_GET_IRQCHIP, &chip));
	chip.chip.ioapic.redirtbl[pin].bits = entry;
	MUST(vm_ioctl(g->vm, KVM_SET_IRQCHIP, &chip));
}

struct signaller {
	int fd, ack;
	uint32_t n, sent;
};

static bool wait_for(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 60000) == 1 && evfd_take(fd) == 1;
}

static void *signal_thread(void *arg)
{
	struct signaller *s = arg;

	for (s->sent = 0; s->sent < s->n; s->sent++) {
		evfd_signal(s->fd);
		if (!wait_for(s->ack))
			die("interrupt %u of %u was not acknowledged", s->sent, s->n);
	}
	return NULL;
}

static void ping_pong(struct __test_metadata *_metadata, struct guest *g, int fd, int ack, uint32_t n, bool halt)
{
	struct signaller s = { .fd = fd, .ack = ack, .n = n };
	pthread_t thread;

	start(g, BLOB(take), BLOB(isr_ack), n, halt);
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_EQ(0, pthread_create(&thread, NULL, signal_thread, &s));
	ASSERT_DONE(g);
	pthread_join(thread, NULL);
	EXPECT_EQ(n, s.sent);
	EXPECT_EQ(n, count(g));
	EXPECT_EQ(0, evfd_take(fd));
}

TEST_F(ev, irqfd_message)
{
	struct guest *g = &self->g;

	ASSERT_EQ(0, vm_route_msi(g->vm, 30, VEC));
	ASSERT_EQ(0, vm_irqfd(g->vm, self->fd, 30, 0, 0));
	ASSERT_EQ(0, vm_ioeventfd(g->vm, self->other, PORT, 1, PIO, 0));
	ping_pong(_metadata, g, self->fd, self->other, 500, false);
	ping_pong(_metadata, g, self->fd, self->other, 500, true);
}

TEST_F(ev, irqfd_pin)
{
	struct guest *g = &self->g;

	set_pin(g, 20, VEC);
	ASSERT_EQ(0, vm_irqfd(g->vm, self->fd, 20, 0, 0));
	ASSERT_EQ(0, vm_ioeventfd(g->vm, self->other, PORT, 1, PIO, 0));
	ping_pong(_metadata, g, self->fd, self->other, 200, false);
	ping_pong(_metadata, g, self->fd, self->other, 200, true);
}

/* One eventfd at both ends: the guest's write comes back as an interrupt, and nobody else is there. */
GUEST(loop, 64, "movl $0xfee00000, %edi\n" "movl $0x1ff, 0xf0(%rdi)\n" "movl $" STR(PORT) ", %edx\n"
	"sti\n" "1: movl " STR(COUNT) ", %ecx\n" "outb %al, %dx\n"
	"2: pause\n" "cmpl " STR(COUNT) ", %ecx\n" "je 2b\n" "cmpl " STR(COUNT) ", %ebx\n" "ja 1b\n" "cli\n" G_DONE);

TEST_F(ev, ioeventfd_to_irqfd)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} r = {
		.head.nr = 1,
		.entry = { .gsi = 31, .type = KVM_IRQ_ROUTING_IRQCHIP,
			   .u.irqchip = { .irqchip = KVM_IRQCHIP_IOAPIC, .pin = 20 } },
	};
	struct guest *g = &self->g;

	ASSERT_EQ(0, vm_route_msi(g->vm, 30, VEC));
	ASSERT_EQ(0, vm_irqfd(g->vm, self->fd, 30, 0, 0));
	ASSERT_EQ(0, vm_ioeventfd(g->vm, self->fd, PORT, 1, PIO, 0));
	start(g, BLOB(loop), BLOB(isr_eoi), 300, false);
	ASSERT_DONE(g);
	EXPECT_EQ(300, count(g));
	/* By way of the worker, and of the I/O APIC. */
	ASSERT_EQ(0, vm_irqfd(g->vm, self->fd, 30, KVM_IRQFD_FLAG_DEASSIGN, 0));
	set_pin(g, 20, VEC);
	ASSERT_EQ(0, vm_ioctl(g->vm, KVM_SET_GSI_ROUTING, &r));
	ASSERT_EQ(0, vm_irqfd(g->vm, self->fd, 31, 0, 0));
	start(g, BLOB(loop), BLOB(isr_eoi), 100, false);
	ASSERT_DONE(g);
	EXPECT_EQ(100, count(g));
}

/* A level-triggered line: each end of interrupt is told, and the device asks for service again. */
static void resample(struct __test_metadata *_metadata, struct guest *g, int fd, int other, uint32_t n)
{
	struct signaller s = { .fd = fd, .ack = other, .n = n };
	pthread_t thread;

	start(g, BLOB(take), BLOB(isr_eoi), n, true);
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_EQ(0, pthread_create(&thread, NULL, signal_thread, &s));
	ASSERT_DONE(g);
	pthread_join(thread, NULL);
	EXPECT_EQ(n, count(g));
	EXPECT_EQ(0, evfd_take(other));
}

TEST_F(ev, resample_loop)
{
	struct guest *g = &self->g;

	set_pin(g, 20, VEC | 1 << 15);
	ASSERT_EQ(0, vm_irqfd(g->vm, self->fd, 20, KVM_IRQFD_FLAG_RESAMPLE, self->other));
	resample(_metadata, g, self->fd, self->other, 200);
}

/* The same by the PIC, in virtual wire mode; GSI 5 goes to both controllers. */
#define OUTB(value, port)	"movb $" value ", %al\n" "outb %al, $" port "\n"
GUEST(take_pic, 64, OUTB("0x11", "0x20") OUTB("0x50", "0x21") OUTB("0x04", "0x21") OUTB("0x01", "0x21")
	OUTB("0xdf", "0x21") "movw $0x4d0, %dx\n" "movb $0x20, %al\n" "outb %al, %dx\n" G_SYNC WAIT_LOOP
	G_DONE);
GUEST(isr_pic, 64, "pushq %rax\n" "incl " STR(COUNT) "\n" OUTB("0x20", "0x20") "popq %rax\n" "iretq\n");

TEST_F(ev, resample_pic)
{
	struct guest *g = &self->g;
	struct signaller s = { .fd = self->fd, .ack = self->other, .n = 100 };
	pthread_t thread;

	ASSERT_EQ(0, vm_irqfd(g->vm, self->fd, 5, KVM_IRQFD_FLAG_RESAMPLE, self->other));
	start(g, BLOB(take_pic), BLOB(isr_pic), s.n, true);
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_EQ(0, pthread_create(&thread, NULL, signal_thread, &s));
	ASSERT_DONE(g);
	pthread_join(thread, NULL);
	EXPECT_EQ(s.n, count(g));
}

/* Stops between the interrupt and its end. */
GUEST(isr_stop, 64, "pushq %rax\n" "incl " STR(COUNT) "\n" G_SYNC EOI "popq %rax\n" "iretq\n");

/* Both eventfds of a line are told, and a line that the client holds too stays high. */
TEST_F(ev, resample_shared)
{
	struct kvm_irq_level line = { .irq = 20, .level = 1 };
	struct guest *g = &self->g;
	int fd2 = evfd(), other2 = evfd();

	set_pin(g, 20, VEC | 1 << 15);
	ASSERT_EQ(0, vm_irqfd(g->vm, self->fd, 20, KVM_IRQFD_FLAG_RESAMPLE, self->other));
	ASSERT_EQ(0, vm_irqfd(g->vm, fd2, 20, KVM_IRQFD_FLAG_RESAMPLE, other2));
	start(g, BLOB(take), BLOB(isr_eoi), 1, true);
	ASSERT_PORT(PORT_SYNC, g);
	evfd_signal(self->fd);
	ASSERT_DONE(g);
	EXPECT_EQ(1, evfd_take(self->other));
	EXPECT_EQ(1, evfd_take(other2));
	/* The client's share of the line is not lowered by the end of the interrupt. */
	start(g, BLOB(take), BLOB(isr_stop), 2, true);
	ASSERT_PORT(PORT_SYNC, g);
	MUST(vm_ioctl(g->vm, KVM_IRQ_LINE, &line));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, evfd_take(self->other));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(2, count(g));
	EXPECT_EQ(1, evfd_take(self->other));
	EXPECT_EQ(1, evfd_take(other2));
	line.level = 0;
	MUST(vm_ioctl(g->vm, KVM_IRQ_LINE, &line));
	ASSERT_DONE(g);
	EXPECT_EQ(2, count(g));
	EXPECT_EQ(1, evfd_take(self->other));
	close(fd2);
	close(other2);
}

/* Coalesced writes */

static struct kvm_coalesced_mmio_ring *ring_of(struct guest *g)
{
	return (void *)((char *)g->cpu.run + vm_cap(g->vm, KVM_CAP_COALESCED_MMIO) * PAGE_SIZE);
}

#define RING_MAX	((PAGE_SIZE - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio))

GUEST(gather, 64, "movl $" STR(MMIO) ", %edi\n" "movl $" STR(PORT) ", %edx\n"
	"movabsq $0x1122334455667788, %rax\n" "movq %rax, 8(%rdi)\n" "movw %ax, 0x7fe(%rdi)\n" "outl %eax, %dx\n"
	G_SYNC "movw %ax, 0x7ff(%rdi)\n" "outl %eax, %dx\n" G_DONE);

TEST_F(ev, coalesced)
{
	struct kvm_coalesced_mmio_ring *ring = ring_of(&self->g);
	struct guest *g = &self->g;
	uint64_t data;

	ASSERT_EQ(0, vm_zone(g->vm, true, MMIO, 0x800, 0));
	ASSERT_EQ(0, vm_zone(g->vm, true, PORT, 4, 1));
	guest_start(g, MODE_LONG, BLOB(gather));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, ring->first);
	ASSERT_EQ(3, ring->last);
	EXPECT_EQ(MMIO + 8, ring->coalesced_mmio[0].phys_addr);
	EXPECT_EQ(8, ring->coalesced_mmio[0].len);
	EXPECT_EQ(0, ring->coalesced_mmio[0].pio);
	memcpy(&data, ring->coalesced_mmio[0].data, 8);
	EXPECT_EQ(0x1122334455667788, data);
	EXPECT_EQ(MMIO + 0x7fe, ring->coalesced_mmio[1].phys_addr);
	EXPECT_EQ(2, ring->coalesced_mmio[1].len);
	EXPECT_EQ(PORT, ring->coalesced_mmio[2].phys_addr);
	EXPECT_EQ(4, ring->coalesced_mmio[2].len);
	EXPECT_EQ(1, ring->coalesced_mmio[2].pio);
	/* Half outside; and the ports are no zone any more, by a part of it that is named. */
	ASSERT_EQ(0, vm_zone(g->vm, false, PORT + 1, 1, 1));
	ASSERT_RUN(KVM_EXIT_MMIO, g);
	ASSERT_RUN(KVM_EXIT_IO, g);
	EXPECT_EQ(PORT, g->cpu.run->io.port);
	ASSERT_DONE(g);
	EXPECT_EQ(3, ring->last);
}

#define LONG_MMIO	0xe0000000
#define FAR_MMIO	0x40ffc
#define FAR_PORT	512

GUEST(gather_far, 64,
	"movl $" STR(LONG_MMIO) ", %edi\n" "movl %ebx, 0x2ffc(%rdi)\n" "movl %ebx, " STR(FAR_MMIO) "(%rdi)\n"
	"movl $" STR(PORT) " + 23, %edx\n" "outb %al, %dx\n"
	"movl $" STR(PORT) " + " STR(FAR_PORT) ", %edx\n" "outb %al, %dx\n" G_DONE);

/* Of zones the last bytes count as the first do, however long they are; what is far behind them is not taken for them. */
TEST_F(ev, coalesced_long)
{
	struct kvm_coalesced_mmio_ring *ring = ring_of(&self->g);
	struct guest *g = &self->g;

	ASSERT_EQ(0, vm_zone(g->vm, true, LONG_MMIO, 0x3000, 0));
	ASSERT_EQ(0, vm_zone(g->vm, true, PORT, 24, 1));
	guest_start(g, MODE_LONG, BLOB(gather_far));
	ASSERT_RUN(KVM_EXIT_MMIO, g);
	EXPECT_EQ(LONG_MMIO + FAR_MMIO, g->cpu.run->mmio.phys_addr);
	ASSERT_RUN(KVM_EXIT_IO, g);
	EXPECT_EQ(PORT + FAR_PORT, g->cpu.run->io.port);
	ASSERT_DONE(g);
	ASSERT_EQ(2, ring->last);
	EXPECT_EQ(LONG_MMIO + 0x2ffc, ring->coalesced_mmio[0].phys_addr);
	EXPECT_EQ(PORT + 23, ring->coalesced_mmio[1].phys_addr);

	ASSERT_EQ(0, vm_zone(g->vm, false, LONG_MMIO, 0x3000, 0));
	ASSERT_EQ(0, vm_zone(g->vm, true, LONG_MMIO, 0x41000, 0));
	ASSERT_EQ(0, vm_zone(g->vm, true, PORT, FAR_PORT + 1, 1));
	guest_start(g, MODE_LONG, BLOB(gather_far));
	ASSERT_DONE(g);
	EXPECT_EQ(6, ring->last);
	EXPECT_EQ(LONG_MMIO + FAR_MMIO, ring->coalesced_mmio[3].phys_addr);

	ASSERT_EQ(0, vm_zone(g->vm, true, LONG_MMIO, 0x3000, 0));
	ASSERT_EQ(0, vm_zone(g->vm, false, LONG_MMIO, 0x41000, 0));
	guest_start(g, MODE_LONG, BLOB(gather_far));
	ASSERT_RUN(KVM_EXIT_MMIO, g);
	ASSERT_DONE(g);
	EXPECT_EQ(9, ring->last);
}

/* RBX counts up, so that the order is seen. */
GUEST(gather_many, 64, "sti\n" "movl $" STR(MMIO) ", %edi\n" "1: movl %ebx, (%rdi)\n" "incl %ebx\n" "jmp 1b\n");

TEST_F(ev, coalesced_wraps)
{
	struct kvm_coalesced_mmio_ring *ring = ring_of(&self->g);
	struct guest *g = &self->g;
	uint32_t expected = 0, value, n, rounds;

	ASSERT_EQ(0, vm_zone(g->vm, true, MMIO, 4, 0));
	guest_start(g, MODE_LONG, BLOB(gather_many));
	for (rounds = 0; rounds < 5; rounds++) {
		/* Full: the write is the client's, after those in the ring. */
		ASSERT_RUN(KVM_EXIT_MMIO, g);
		for (n = 0; ring->first != ring->last; n++) {
			memcpy(&value, ring->coalesced_mmio[ring->first].data, 4);
			ASSERT_EQ(expected++, value);
			ring->first = (ring->first + 1) % RING_MAX;
		}
		/* KVM up to 6.9 calls some rings full that are half empty. */
		EXPECT_LE(RING_MAX / 2, n);
		memcpy(&value, g->cpu.run->mmio.data, 4);
		ASSERT_EQ(expected++, value);
	}
}

/* Whatever the client writes there, the kernel stays within the page. */
TEST_F(ev, coalesced_bad_indexes)
{
	static const uint32_t bad[] = { RING_MAX, RING_MAX + 1, 0x7fffffff, 0x80000000, 0xffffffff };
	struct kvm_coalesced_mmio_ring *ring = ring_of(&self->g);
	struct guest *g = &self->g;
	int i;

	ASSERT_EQ(0, vm_zone(g->vm, true, MMIO, 4, 0));
	guest_start(g, MODE_LONG, BLOB(gather_many));
	for (i = 0; i < 5; i++) {
		memset(ring, 0, PAGE_SIZE);
		ring->last = bad[i];
		ASSERT_RUN(KVM_EXIT_MMIO, g);
		EXPECT_EQ(bad[i], ring->last);
	}
	/* Any "first" is only compared: the ring may fill up or go round, and ends when the other thread says so. */
	ring->last = 0;
	ring->first = 1;
	ASSERT_RUN(KVM_EXIT_MMIO, g);
}

TEST_HARNESS_MAIN
