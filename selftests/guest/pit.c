// SPDX-License-Identifier: GPL-2.0-only
/*
 * The PIT's ticks, counted: with reinjection, as KVM_CREATE_PIT2 leaves it, the guest gets each tick however late it
 * takes them; without it (KVM_REINJECT_CONTROL) one interrupt stands for all that it missed. Also the two flags of
 * the PIT's ABI: KVM_PIT_SPEAKER_DUMMY and KVM_PIT_FLAGS_HPET_LEGACY.
 *
 * How many ticks there have been is computed from the clock, read before and after, so that a slow machine changes
 * the bounds and not the verdict.
 */
#include <unistd.h>
#include "kselftest_harness.h"
#include "ops.h"

#define PERIOD_NS	10000152UL	/* 11932 counts */
#define COUNTS		11932
#define MISSED		30
#define VEC		0x61

enum path { BY_PIC, BY_IOAPIC };

FIXTURE(pit) {
	struct guest g;
	bool keel;
	uint64_t before, after;		/* ns: the count was loaded between these */
};

FIXTURE_VARIANT(pit) {
	enum path path;
};

FIXTURE_VARIANT_ADD(pit, pic) { .path = BY_PIC };
FIXTURE_VARIANT_ADD(pit, ioapic) { .path = BY_IOAPIC };

FIXTURE_SETUP(pit)
{
	guest_create(&self->g, GUEST_IRQCHIP | GUEST_PIT);
	self->keel = dev_is_keel(self->g.dev);
	ops_start(&self->g);
}

FIXTURE_TEARDOWN(pit)
{
	guest_destroy(&self->g);
}

static void mask(struct guest *g, enum path path, bool masked)
{
	if (path == BY_PIC) {
		ops_out(g, 0x21, masked ? 0xff : 0xfe);
		return;
	}
	ops_write(g, IOAPIC_SELECT, 4, 0x10);	/* GSI 0 is pin 0, unless the client makes it another */
	ops_write(g, IOAPIC_WINDOW, 4, VEC | (masked ? 1 << 16 : 0));
}

static void begin(FIXTURE_DATA(pit) *self, enum path path)
{
	static const uint8_t init[] = { 0x20, 4, 1 };
	struct guest *g = &self->g;
	int i;

	if (path == BY_PIC) {
		ops_out(g, 0x20, 0x11);
		for (i = 0; i < 3; i++)
			ops_out(g, 0x21, init[i]);
	} else {
		ops_set_apic(g, APIC_SPIV, SPIV_ENABLE | 0xff);
		ops_set_apic(g, APIC_LVT0, LVT_MASKED);
	}
	mask(g, path, false);
	ops_out(g, 0x43, 0x34);
	ops_out(g, 0x40, COUNTS & 0xff);
	self->before = ns_now();
	ops_out(g, 0x40, COUNTS >> 8);
	self->after = ns_now();
}

/* Takes and ends one interrupt of the PIT: whether there was one. */
static bool take(struct guest *g, enum path path)
{
	int vector = ops_take(g);

	if (vector < 0)
		return false;
	if (vector != (path == BY_PIC ? 0x20 : VEC))
		die("vector %x", vector);
	if (path == BY_PIC)
		ops_out(g, 0x20, 0x20);
	else
		ops_set_apic(g, APIC_EOI, 0);
	return true;
}

/* In-tree KVM sends the PIT's interrupts from a thread of its own: they may take a while. */
static int take_up_to(struct guest *g, enum path path, int limit)
{
	int n = 0, tries;

	for (tries = 0; tries < limit && n < limit; tries++) {
		n += take(g, path);
		usleep(200);
	}
	return n;
}

/* Ticks since the count was loaded: at least, and at most. */
static int least(uint64_t after)
{
	return (ns_now() - after) / PERIOD_NS;
}

static int most(uint64_t before)
{
	return (ns_now() - before) / PERIOD_NS + 1;
}

static void miss(int ticks)
{
	uint64_t end = ns_now() + ticks * PERIOD_NS;

	while (ns_now() < end)
		usleep(1000);
}

/* The guest takes no interrupt for a long while, and then each that it has missed. */
TEST_F(pit, made_up_for)
{
	struct guest *g = &self->g;
	int n = 0, tries, due;

	begin(self, variant->path);
	miss(MISSED);
	due = least(self->after);
	for (tries = 0; tries < 3000 && n < due; tries++) {
		n += take(g, variant->path);
		usleep(100);
	}
	EXPECT_LE(MISSED, due);
	EXPECT_EQ(due, n);
	EXPECT_GE(most(self->before), n);
	/* No more than there were. */
	n += take_up_to(g, variant->path, 50);
	EXPECT_GE(most(self->before), n);
	TH_LOG("%d ticks, %d at least, %d at most", n, least(self->after), most(self->before));
}

TEST_F(pit, given_up)
{
	struct kvm_reinject_control control = { .pit_reinject = 0 };
	struct guest *g = &self->g;
	uint64_t from;
	int n;

	MUST(vm_ioctl(g->vm, KVM_REINJECT_CONTROL, &control));
	begin(self, variant->path);
	miss(MISSED);
	from = ns_now();
	n = take_up_to(g, variant->path, MISSED);
	EXPECT_LE(1, n);
	EXPECT_GE(1 + most(from), n);
	TH_LOG("%d ticks, %d at most", n, 1 + most(from));

	/* On again: what is missed counts from then on. */
	control.pit_reinject = 1;
	from = ns_now();
	MUST(vm_ioctl(g->vm, KVM_REINJECT_CONTROL, &control));
	self->after = ns_now();
	miss(MISSED);
	n = 0;
	for (int tries = 0; tries < 3000 && n < least(self->after); tries++) {
		n += take(g, variant->path);
		usleep(100);
	}
	EXPECT_LE(MISSED, n);
	/* One from before may have waited in the controller. */
	EXPECT_GE(1 + most(from), n);
	TH_LOG("%d ticks, %d at least, %d at most", n, least(self->after), 1 + most(from));
}

/* A guest that masks the line does not want what comes meanwhile. */
TEST_F(pit, masked)
{
	struct guest *g = &self->g;
	uint64_t from;
	int n;

	begin(self, variant->path);
	mask(g, variant->path, true);
	miss(MISSED);
	from = ns_now();
	mask(g, variant->path, false);
	n = take_up_to(g, variant->path, MISSED);
	EXPECT_LE(1, n);
	EXPECT_GE(1 + most(from), n);
	TH_LOG("%d ticks, %d at most", n, 1 + most(from));
}

/* A count that is loaded anew begins with nothing to make up for. */
TEST_F(pit, loaded_anew)
{
	struct guest *g = &self->g;
	int n;

	begin(self, variant->path);
	miss(MISSED);
	begin(self, variant->path);
	n = take_up_to(g, variant->path, MISSED);
	EXPECT_GE(1 + most(self->before), n);
	TH_LOG("%d ticks, %d at most", n, 1 + most(self->before));
}

/* The client's HPET has the line: no tick until the flag goes, and from then on the count goes its round. */
TEST_F(pit, hpet_legacy)
{
	struct kvm_pit_state2 state;
	struct guest *g = &self->g;

	MUST(vm_ioctl(g->vm, KVM_GET_PIT2, &state));
	EXPECT_EQ(0, state.flags);
	state.flags = KVM_PIT_FLAGS_HPET_LEGACY;
	MUST(vm_ioctl(g->vm, KVM_SET_PIT2, &state));
	begin(self, variant->path);
	miss(MISSED / 3);
	EXPECT_EQ(0, take_up_to(g, variant->path, 10));
	MUST(vm_ioctl(g->vm, KVM_GET_PIT2, &state));
	EXPECT_EQ(KVM_PIT_FLAGS_HPET_LEGACY, state.flags);
	state.flags = 0;
	MUST(vm_ioctl(g->vm, KVM_SET_PIT2, &state));
	miss(MISSED / 3);
	EXPECT_LT(0, take_up_to(g, variant->path, 10));
}

/* Port 0x61 is the kernel's with KVM_PIT_SPEAKER_DUMMY only. */
TEST(speaker_port)
{
	struct kvm_pit_config config = { .flags = 0 };
	struct kvm_regs r = { .rip = GUEST_CODE, .rflags = X86_EFLAGS_FIXED };
	static const uint8_t read_port[] = { 0xe4, 0x61, 0xe6, PORT_DONE };	/* in $0x61, %al; out %al, $PORT_DONE */
	struct guest g;

	guest_create(&g, GUEST_IRQCHIP);
	MUST(vm_ioctl(g.vm, KVM_CREATE_PIT2, &config));
	guest_set_mode(&g, MODE_LONG);
	guest_load_bytes(&g, read_port, sizeof(read_port));
	vcpu_set_regs(&g.cpu, &r);
	ASSERT_EQ(KVM_EXIT_IO, guest_run(&g));
	EXPECT_EQ(0x61, g.cpu.run->io.port);
	EXPECT_EQ(KVM_EXIT_IO_IN, g.cpu.run->io.direction);
	*((uint8_t *)g.cpu.run + g.cpu.run->io.data_offset) = 0x5a;
	ASSERT_EQ(KVM_EXIT_IO, guest_run(&g));
	EXPECT_TRUE(guest_at_port(&g, PORT_DONE));
	EXPECT_EQ(0x5a, vcpu_regs(&g.cpu).rax & 0xff);
	guest_destroy(&g);

	guest_create(&g, GUEST_IRQCHIP | GUEST_PIT);
	guest_set_mode(&g, MODE_LONG);
	guest_load_bytes(&g, read_port, sizeof(read_port));
	vcpu_set_regs(&g.cpu, &r);
	ASSERT_EQ(KVM_EXIT_IO, guest_run(&g));
	EXPECT_TRUE(guest_at_port(&g, PORT_DONE));
	guest_destroy(&g);
}

TEST_HARNESS_MAIN
