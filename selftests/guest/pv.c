// SPDX-License-Identifier: GPL-2.0-only
/*
 * Paravirtual features as their guests use them: the EOI that needs no exit, steal time with the preempted flag, and
 * the hypercalls that concern other vCPUs (the kernel's Documentation/virt/kvm/x86/msr.rst and hypercalls.rst).
 */
#include <linux/kvm_para.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "evfd.h"
#include "smp.h"

#define COUNT		0x42000		/* interrupts so far */
#define QUIET		0x42008		/* those whose EOI was made by the flag */
#define FLAG_AT_HIGH	0x42010		/* the flag as the handler of VEC_HIGH found it */
#define ISR_AT		(GUEST_CODE + 0x800)
#define ISR_HIGH_AT	(GUEST_CODE + 0x900)
#define AP_AT		(GUEST_CODE + 0x1000)
#define EOI_FLAG	0x50000
#define STEAL		0x51000
#define READY		0x52000		/* written by the second vCPU */
#define GO		0x52008
#define VEC		0x45
#define VEC_HIGH	0x85
#define SPIV_ON		0x1ff

#define APIC_WRITE(reg, value)	"movl $" value ", " #reg "(%rdi)\n"
#define APIC_ENABLE_SW		"movl $0xfee00000, %edi\n" APIC_WRITE(0xf0, "0x1ff")
#define WRMSR(index, value)	"movl $" STR(index) ", %ecx\n" "movl $" STR(value) ", %eax\n" "xorl %edx, %edx\n" \
				"wrmsr\n"
#define HYPERCALL		".byte 0x0f, 0x01, 0xc1\n"

/* As Linux does it: clear the flag if it is set, else write the register. */
#define EOI	"btrl $0, " STR(EOI_FLAG) "\n" "jnc 1f\n" "incl " STR(QUIET) "\n" "jmp 2f\n" \
		"1: movl $0xfee000b0, %eax\n" "movl $0, (%rax)\n" "2:\n"

GUEST(isr_pv, 64, "pushq %rax\n" "incl " STR(COUNT) "\n" EOI "popq %rax\n" "iretq\n");
GUEST(isr_high, 64, "pushq %rax\n" "incl " STR(COUNT) "\n" "movl " STR(EOI_FLAG) ", %eax\n"
	"movl %eax, " STR(FLAG_AT_HIGH) "\n" EOI "popq %rax\n" "iretq\n");
GUEST(isr_stop, 64, "pushq %rax\n" "incl " STR(COUNT) "\n" G_SYNC EOI G_SYNC "popq %rax\n" "iretq\n");

FIXTURE(pv) {
	struct guest g;
};

FIXTURE_SETUP(pv)
{
	guest_create(&self->g, GUEST_IRQCHIP);
}

FIXTURE_TEARDOWN(pv)
{
	guest_destroy(&self->g);
}

static uint32_t word(struct guest *g, uint64_t gpa)
{
	return *(volatile uint32_t *)(g->mem + gpa);
}

static struct kvm_lapic_state lapic(struct vcpu *cpu)
{
	struct kvm_lapic_state l;

	MUST(vm_ioctl(cpu->fd, KVM_GET_LAPIC, &l));
	return l;
}

/* IRR or ISR of a vector */
static bool lapic_bit(struct vcpu *cpu, int reg, int vector)
{
	struct kvm_lapic_state l = lapic(cpu);
	uint32_t v;

	memcpy(&v, l.regs + reg + vector / 32 * 16, 4);
	return v >> (vector & 31) & 1;
}

static void lapic_enable(struct vcpu *cpu)
{
	struct kvm_lapic_state l = lapic(cpu);
	uint32_t spiv = SPIV_ON;

	memcpy(l.regs + APIC_SPIV, &spiv, 4);
	MUST(vm_ioctl(cpu->fd, KVM_SET_LAPIC, &l));
}

static void start(struct guest *g, struct guest_blob blob, struct guest_blob handler)
{
	guest_start(g, MODE_LONG, blob);
	memcpy(g->mem + ISR_AT, handler.start, handler.end - handler.start);
	memcpy(g->mem + ISR_HIGH_AT, isr_high_start, isr_high_end - isr_high_start);
	guest_set_gate(g, VEC, ISR_AT);
	guest_set_gate(g, VEC_HIGH, ISR_HIGH_AT);
	memset(g->mem + COUNT, 0, PAGE_SIZE);
	memset(g->mem + EOI_FLAG, 0, 3 * PAGE_SIZE);
}

GUEST(eoi_loop, 64, APIC_ENABLE_SW WRMSR(MSR_KVM_PV_EOI_EN, EOI_FLAG + 1)
	"movl $20, %ebx\n" "sti\n"
	"3: " APIC_WRITE(0x300, "0x40045") "nop\n" "nop\n" "decl %ebx\n" "jnz 3b\n" G_DONE);

/* An interrupt of the host may take the flag back at any moment: most, not all, of the EOIs are quiet. */
TEST_F(pv, eoi_needs_no_exit)
{
	struct guest *g = &self->g;

	start(g, BLOB(eoi_loop), BLOB(isr_pv));
	ASSERT_DONE(g);
	EXPECT_EQ(20, word(g, COUNT));
	EXPECT_LE(10, word(g, QUIET));
	EXPECT_EQ(0, word(g, EOI_FLAG));
	EXPECT_FALSE(lapic_bit(&g->cpu, APIC_ISR, VEC));
}

#define QUIET_LATE	0x42018		/* quiet EOIs after which ISR was read */
#define STILL_THERE	0x42020		/* of these: the vector was still in service */

/* Whether the flag was set, in EBX, which is what the handlers below count by. */
#define EOI_AND(write)	"pushq %rax\n" "pushq %rbx\n" "pushq %rcx\n" "pushq %rdx\n" "xorl %ebx, %ebx\n" \
			"btrl $0, " STR(EOI_FLAG) "\n" "jnc 1f\n" "incl %ebx\n" "jmp 2f\n" "1: " write "2:\n"
#define LOOK		"addl %ebx, " STR(QUIET_LATE) "\n" "testl %ebx, %ebx\n" "jz 3f\n" \
			"btl $5, %eax\n" "jnc 3f\n" "incl " STR(STILL_THERE) "\n" "3:\n" \
			"incl " STR(COUNT) "\n" "popq %rdx\n" "popq %rcx\n" "popq %rbx\n" "popq %rax\n" "iretq\n"

GUEST(isr_look, 64, EOI_AND("movl $0xfee000b0, %eax\n" "movl $0, (%rax)\n")
	"movl $0xfee00120, %eax\n" "movl (%rax), %eax\n" LOOK);
GUEST(isr_look_x2, 64, EOI_AND("movl $0x80b, %ecx\n" "xorl %eax, %eax\n" "xorl %edx, %edx\n" "wrmsr\n")
	"movl $0x812, %ecx\n" "rdmsr\n" LOOK);
GUEST(eoi_look, 64, APIC_ENABLE_SW WRMSR(MSR_KVM_PV_EOI_EN, EOI_FLAG + 1)
	"movl $20, %ebx\n" "sti\n" "3: " APIC_WRITE(0x300, "0x40045") "nop\n" "nop\n" "decl %ebx\n" "jnz 3b\n" G_DONE);
GUEST(eoi_look_x2, 64, WRMSR(0x1b, 0xfee00d00) WRMSR(0x80f, 0x1ff) WRMSR(MSR_KVM_PV_EOI_EN, EOI_FLAG + 1)
	"movl $20, %ebx\n" "sti\n" "3: " WRMSR(0x830, 0x40045) "nop\n" "nop\n" "decl %ebx\n" "jnz 3b\n" G_DONE);

/* An EOI that was made by the flag shows in ISR, also where the CPU itself reads the registers. */
TEST_F(pv, eoi_shows_in_service_register)
{
	static const struct {
		struct guest_blob code, handler;
	} modes[] = {
		{ { eoi_look_start, eoi_look_end }, { isr_look_start, isr_look_end } },
		{ { eoi_look_x2_start, eoi_look_x2_end }, { isr_look_x2_start, isr_look_x2_end } },
	};
	struct guest *g = &self->g;
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		start(g, modes[i].code, modes[i].handler);
		ASSERT_DONE(g);
		EXPECT_EQ(20, word(g, COUNT));
		EXPECT_LE(10, word(g, QUIET_LATE));
		EXPECT_EQ(0, word(g, STILL_THERE));
		EXPECT_FALSE(lapic_bit(&g->cpu, APIC_ISR, VEC));
	}
}

/* Interrupts that have touched all pages: no fault of the next one takes the flag back before the handler looks. */
#define WARM_UP(vector)	"sti\n" APIC_WRITE(0x300, "0x40000 + " vector) "nop\n" "nop\n" "cli\n"

GUEST(eoi_both, 64, APIC_ENABLE_SW WRMSR(MSR_KVM_PV_EOI_EN, EOI_FLAG + 1)
	WARM_UP("0x45") WARM_UP("0x85") G_SYNC
	APIC_WRITE(0x300, "0x40045") APIC_WRITE(0x300, "0x40085") "sti\n" "nop\n" "nop\n" "nop\n" G_DONE);

/* While another interrupt waits, the EOI has to be seen at once. */
TEST_F(pv, no_flag_while_another_waits)
{
	struct guest *g = &self->g;

	start(g, BLOB(eoi_both), BLOB(isr_pv));
	ASSERT_PORT(PORT_SYNC, g);
	*(uint32_t *)(g->mem + FLAG_AT_HIGH) = 0x55;
	ASSERT_DONE(g);
	EXPECT_EQ(4, word(g, COUNT));
	EXPECT_EQ(0, word(g, FLAG_AT_HIGH));
	EXPECT_FALSE(lapic_bit(&g->cpu, APIC_ISR, VEC));
	EXPECT_FALSE(lapic_bit(&g->cpu, APIC_ISR, VEC_HIGH));
}

/* Redirection entry of pin 20: level, VEC_HIGH. The handler finds the flag clear: the I/O APIC waits for its EOI. */
GUEST(eoi_level, 64, APIC_ENABLE_SW WRMSR(MSR_KVM_PV_EOI_EN, EOI_FLAG + 1)
	"movl $0xfec00000, %esi\n" "movl $0x39, (%rsi)\n" "movl $0, 0x10(%rsi)\n"
	"movl $0x38, (%rsi)\n" "movl $0x8085, 0x10(%rsi)\n" WARM_UP("0x85")
	G_SYNC "sti\n" "nop\n" "nop\n" G_DONE);

TEST_F(pv, no_flag_for_level_interrupts)
{
	struct kvm_irq_level line = { .irq = 20, .level = 1 };
	struct guest *g = &self->g;
	uint32_t quiet;

	start(g, BLOB(eoi_level), BLOB(isr_pv));
	ASSERT_PORT(PORT_SYNC, g);
	quiet = word(g, QUIET);
	*(uint32_t *)(g->mem + FLAG_AT_HIGH) = 0x55;
	MUST(vm_ioctl(g->vm, KVM_IRQ_LINE, &line));
	line.level = 0;
	MUST(vm_ioctl(g->vm, KVM_IRQ_LINE, &line));
	ASSERT_DONE(g);
	EXPECT_EQ(2, word(g, COUNT));
	EXPECT_EQ(quiet, word(g, QUIET));
	EXPECT_EQ(0, word(g, FLAG_AT_HIGH));
	EXPECT_FALSE(lapic_bit(&g->cpu, APIC_ISR, VEC_HIGH));
}

/* With the I/O APIC at the client: the vector is that of a level-triggered pin, so the client hears of each EOI. */
GUEST(eoi_split, 64, APIC_ENABLE_SW WRMSR(MSR_KVM_PV_EOI_EN, EOI_FLAG + 1)
	WARM_UP("0x45") WARM_UP("0x45") WARM_UP("0x45") G_DONE);

TEST(no_flag_for_the_client)
{
	struct guest g;
	int i;

	guest_create(&g, GUEST_SPLIT);
	ASSERT_EQ(0, vm_route_msi(g.vm, 23, VEC | 1 << 15));
	start(&g, BLOB(eoi_split), BLOB(isr_pv));
	for (i = 1; i <= 3; i++) {
		ASSERT_RUN(KVM_EXIT_IOAPIC_EOI, &g);
		EXPECT_EQ(VEC, g.cpu.run->eoi.vector);
		EXPECT_EQ(i, word(&g, COUNT));
		EXPECT_EQ(0, word(&g, QUIET));
	}
	ASSERT_DONE(&g);
	guest_destroy(&g);
}

GUEST(eoi_save, 64, APIC_ENABLE_SW WRMSR(MSR_KVM_PV_EOI_EN, EOI_FLAG + 1)
	APIC_WRITE(0x300, "0x40045") "sti\n" "nop\n" "nop\n" G_SYNC
	APIC_WRITE(0x300, "0x40045") "nop\n" "nop\n" G_DONE);

/* The second guest goes on where the first stood: in the handler, before its EOI. */
static void move_guest(struct guest *from, struct guest *to)
{
	struct kvm_lapic_state l = lapic(&from->cpu);
	struct kvm_regs r;
	struct kvm_sregs s;
	uint64_t msr;

	vcpu_complete_io(&from->cpu);
	r = vcpu_regs(&from->cpu);
	s = vcpu_sregs(&from->cpu);
	MUST(vcpu_get_msr(&from->cpu, MSR_KVM_PV_EOI_EN, &msr));
	memcpy(to->mem, from->mem, from->mem_size);
	vcpu_set_sregs(&to->cpu, &s);
	vcpu_set_regs(&to->cpu, &r);
	MUST(vm_ioctl(to->cpu.fd, KVM_SET_LAPIC, &l));
	if (vcpu_set_msr(&to->cpu, MSR_KVM_PV_EOI_EN, msr) != 1)
		die("PV EOI %lx is refused", msr);
	to->mode = from->mode;
}

TEST_F(pv, eoi_state_can_be_moved)
{
	struct guest *g = &self->g, g2;

	start(g, BLOB(eoi_save), BLOB(isr_stop));
	ASSERT_PORT(PORT_SYNC, g);
	/* No flag stands while the guest does not run. */
	EXPECT_EQ(0, word(g, EOI_FLAG));
	EXPECT_TRUE(lapic_bit(&g->cpu, APIC_ISR, VEC));
	guest_create(&g2, GUEST_IRQCHIP);
	move_guest(g, &g2);
	ASSERT_PORT(PORT_SYNC, &g2);
	EXPECT_FALSE(lapic_bit(&g2.cpu, APIC_ISR, VEC));
	ASSERT_PORT(PORT_SYNC, &g2);
	/* And the feature is on: the next interrupt comes and ends. */
	ASSERT_PORT(PORT_SYNC, &g2);
	EXPECT_EQ(2, word(&g2, COUNT));
	ASSERT_PORT(PORT_SYNC, &g2);
	ASSERT_DONE(&g2);
	EXPECT_FALSE(lapic_bit(&g2.cpu, APIC_ISR, VEC));
	guest_destroy(&g2);
}

/* The page with the flag goes away while the feature is on: the guest goes on. */
GUEST(eoi_gone, 64, APIC_ENABLE_SW WRMSR(MSR_KVM_PV_EOI_EN, 0x800001) G_SYNC
	"movl $5, %ebx\n" "sti\n" "3: " APIC_WRITE(0x300, "0x40045") "nop\n" "nop\n" "decl %ebx\n" "jnz 3b\n" G_DONE);

TEST_F(pv, eoi_page_goes)
{
	struct guest *g = &self->g;
	void *page = mem_alloc(PAGE_SIZE);

	ASSERT_EQ(0, vm_set_slot(g->vm, 5, 0, 0x800000, PAGE_SIZE, page));
	start(g, BLOB(eoi_gone), BLOB(isr_pv));
	ASSERT_PORT(PORT_SYNC, g);
	ASSERT_EQ(0, vm_set_slot(g->vm, 5, 0, 0x800000, 0, page));
	ASSERT_DONE(g);
	EXPECT_EQ(5, word(g, COUNT));
	EXPECT_EQ(0, word(g, QUIET));
	EXPECT_FALSE(lapic_bit(&g->cpu, APIC_ISR, VEC));
}

static volatile struct kvm_steal_time *steal(struct guest *g)
{
	return (void *)(g->mem + STEAL);
}

GUEST(steal_on, 64, WRMSR(MSR_KVM_STEAL_TIME, STEAL + 1) "nop\n" G_SYNC "nop\n" G_DONE);

TEST_F(pv, steal_time_page)
{
	struct guest *g = &self->g;
	uint64_t before;

	if (!vm_cap(g->dev, KVM_CAP_STEAL_TIME))
		SKIP(return, "the host does not count waiting threads");
	start(g, BLOB(steal_on), BLOB(isr_pv));
	steal(g)->version = 7;
	steal(g)->steal = 1000;
	steal(g)->preempted = KVM_VCPU_PREEMPTED | KVM_VCPU_FLUSH_TLB;
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_LT(7, steal(g)->version);
	EXPECT_EQ(0, steal(g)->version & 1);
	EXPECT_LE(1000, steal(g)->steal);
	EXPECT_EQ(0, steal(g)->preempted);
	EXPECT_EQ(0, steal(g)->flags);
	before = steal(g)->steal;
	ASSERT_DONE(g);
	EXPECT_LE(before, steal(g)->steal);
	EXPECT_EQ(0, steal(g)->version & 1);
	/* An absent page is the guest's loss alone. */
	ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_KVM_STEAL_TIME, 0x3f000000000001));
	start(g, BLOB(steal_on), BLOB(isr_pv));
	ASSERT_EQ(1, vcpu_set_msr(&g->cpu, MSR_KVM_STEAL_TIME, 0x800001));
	ASSERT_PORT(PORT_SYNC, g);
	EXPECT_EQ(0, steal(g)->version & 1);
}

static volatile bool hog_stop;

static void *hog_main(void *arg)
{
	pin_to_cpu(0);
	while (!hog_stop)
		;
	return NULL;
}

/* Until it has been told of stolen time */
GUEST(steal_wait, 64, WRMSR(MSR_KVM_STEAL_TIME, STEAL + 1) "sti\n"
	"1: cmpl $0, " STR(READY) "\n" "jne 2f\n" "pause\n" "jmp 1b\n" "2:\n" G_DONE);

/* Another thread wants the vCPU's CPU: the guest's page says so while the vCPU waits, and counts how long. */
TEST_F(pv, preempted_flag)
{
	struct guest *g = &self->g;
	struct guest_thread t;
	uint8_t seen, flush;
	pthread_t hog;
	int i;

	if (!vm_cap(g->dev, KVM_CAP_STEAL_TIME))
		SKIP(return, "the host does not count waiting threads");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "one CPU");
	pin_to_cpu(1);
	start(g, BLOB(steal_wait), BLOB(isr_pv));
	hog_stop = false;
	ASSERT_EQ(0, pthread_create(&hog, NULL, hog_main, NULL));
	guest_thread_adopt(g, &t);
	guest_thread_start(&t, 0);
	for (i = 0; i < 5; i++) {
		while (!(steal(g)->preempted & KVM_VCPU_PREEMPTED))
			sched_yield();
		/* The protocol of a remote flush; it may come back meanwhile. */
		seen = KVM_VCPU_PREEMPTED;
		flush = KVM_VCPU_PREEMPTED | KVM_VCPU_FLUSH_TLB;
		__atomic_compare_exchange_n(&steal(g)->preempted, &seen, flush, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
		while (steal(g)->preempted)
			sched_yield();
	}
	*(volatile uint32_t *)(g->mem + READY) = 1;
	EXPECT_EQ(KVM_EXIT_IO, guest_thread_join(&t));
	hog_stop = true;
	pthread_join(hog, NULL);
	EXPECT_LT(0, steal(g)->steal);
	EXPECT_EQ(0, steal(g)->version & 1);
	/* Out of KVM_RUN it is not preempted: it does not want to run. */
	EXPECT_EQ(0, steal(g)->preempted);
}

GUEST(call, 64, HYPERCALL G_DONE);
GUEST(call32, 32, HYPERCALL G_DONE);

static int64_t hypercall(struct guest *g, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
	struct kvm_regs r;

	if (g->mode == MODE_LONG)
		guest_start(g, g->mode, BLOB(call));
	else
		guest_start(g, g->mode, BLOB(call32));
	r = vcpu_regs(&g->cpu);
	r.rax = nr;
	r.rbx = a0;
	r.rcx = a1;
	r.rdx = a2;
	r.rsi = a3;
	vcpu_set_regs(&g->cpu, &r);
	if (guest_run(g) != KVM_EXIT_IO || !guest_at_port(g, PORT_DONE)) {
		guest_dump(g);
		die("the hypercall did not return");
	}
	return vcpu_regs(&g->cpu).rax;
}

TEST_F(pv, send_ipi)
{
	const int ids[] = { 1, 5, 70, 127 };
	struct guest *g = &self->g;
	struct guest_thread t[ARRAY_SIZE(ids)];
	struct kvm_vcpu_events ev;
	int i;

	guest_set_mode(g, MODE_LONG);
	lapic_enable(&g->cpu);
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		guest_thread_create(g, &t[i], ids[i], GUEST_CODE, GUEST_STACK2);
		lapic_enable(&t[i].cpu);
	}
	/* 64-bit code: two words of 64 ids. Absent ones do not count. */
	EXPECT_EQ(2, hypercall(g, KVM_HC_SEND_IPI, 0x6, 1 << 6, 0, 0x31));
	EXPECT_TRUE(lapic_bit(&t[0].cpu, APIC_IRR, 0x31));
	EXPECT_FALSE(lapic_bit(&t[1].cpu, APIC_IRR, 0x31));
	EXPECT_TRUE(lapic_bit(&t[2].cpu, APIC_IRR, 0x31));
	EXPECT_FALSE(lapic_bit(&t[3].cpu, APIC_IRR, 0x31));
	EXPECT_FALSE(lapic_bit(&g->cpu, APIC_IRR, 0x31));
	/* The lowest id may be any; the sender may be among them. */
	EXPECT_EQ(1, hypercall(g, KVM_HC_SEND_IPI, 0, 1UL << (127 - 7 - 64), 7, 0x32));
	EXPECT_TRUE(lapic_bit(&t[3].cpu, APIC_IRR, 0x32));
	EXPECT_EQ(3, hypercall(g, KVM_HC_SEND_IPI, 0x23, 0, 0, 0x33));
	EXPECT_TRUE(lapic_bit(&g->cpu, APIC_IRR, 0x33));
	EXPECT_TRUE(lapic_bit(&t[0].cpu, APIC_IRR, 0x33));
	EXPECT_TRUE(lapic_bit(&t[1].cpu, APIC_IRR, 0x33));
	EXPECT_EQ(0, hypercall(g, KVM_HC_SEND_IPI, ~0UL, ~0UL, 1000, 0x34));
	EXPECT_EQ(0, hypercall(g, KVM_HC_SEND_IPI, 0, 0, 0, 0x34));
	/* NMI */
	EXPECT_EQ(1, hypercall(g, KVM_HC_SEND_IPI, 0x20, 0, 0, 0x400));
	MUST(vm_ioctl(t[1].cpu.fd, KVM_GET_VCPU_EVENTS, &ev));
	EXPECT_EQ(1, ev.nmi.pending);
	/* A destination mode or shorthand would contradict the bitmap. */
	EXPECT_EQ(-KVM_EINVAL, hypercall(g, KVM_HC_SEND_IPI, 1, 0, 0, 0x835));
	EXPECT_EQ(-KVM_EINVAL, hypercall(g, KVM_HC_SEND_IPI, 1, 0, 0, 0x40035));
	EXPECT_EQ(-KVM_EINVAL, hypercall(g, KVM_HC_SEND_IPI, 1, 0, 0, 0xc0035));
	EXPECT_FALSE(lapic_bit(&g->cpu, APIC_IRR, 0x35));

	/* 32-bit code: two words of 32 */
	guest_set_mode(g, MODE_PROT32);
	EXPECT_EQ(1, hypercall(g, KVM_HC_SEND_IPI, 0, 1 << (70 - 60 + 21), 60 - 21 - 32, 0x36));
	EXPECT_TRUE(lapic_bit(&t[2].cpu, APIC_IRR, 0x36));
	EXPECT_EQ((uint32_t)-KVM_EINVAL, hypercall(g, KVM_HC_SEND_IPI, 1, 0, 0, 0x835));
	for (i = 0; i < ARRAY_SIZE(ids); i++)
		guest_thread_destroy(&t[i]);
}

TEST_F(pv, hypercall_refusals)
{
	struct guest *g = &self->g;
	struct kvm_sregs s;
	struct kvm_regs r;

	guest_set_mode(g, MODE_LONG);
	EXPECT_EQ(0, hypercall(g, KVM_HC_VAPIC_POLL_IRQ, 0, 0, 0, 0));
	EXPECT_EQ(-KVM_ENOSYS, hypercall(g, 0, 0, 0, 0, 0));
	EXPECT_EQ(-KVM_ENOSYS, hypercall(g, KVM_HC_MMU_OP, 0, 0, 0, 0));
	EXPECT_EQ(-KVM_ENOSYS, hypercall(g, KVM_HC_FEATURES, 0, 0, 0, 0));
	EXPECT_EQ(-KVM_ENOSYS, hypercall(g, KVM_HC_MAP_GPA_RANGE, 0, 1, 0, 0));
	EXPECT_EQ(-KVM_ENOSYS, hypercall(g, 0x12345, 0, 0, 0, 0));
	EXPECT_EQ(-KVM_ENOSYS, hypercall(g, 0x100000000 | KVM_HC_VAPIC_POLL_IRQ, 0, 0, 0, 0));
	/* Whom they name need not exist. */
	EXPECT_EQ(0, hypercall(g, KVM_HC_SCHED_YIELD, 0, 0, 0, 0));
	EXPECT_EQ(0, hypercall(g, KVM_HC_SCHED_YIELD, 77, 0, 0, 0));
	EXPECT_EQ(0, hypercall(g, KVM_HC_SCHED_YIELD, ~0UL, 0, 0, 0));
	EXPECT_EQ(0, hypercall(g, KVM_HC_KICK_CPU, 0, 77, 0, 0));
	EXPECT_EQ(0, hypercall(g, KVM_HC_KICK_CPU, 0, ~0UL, 0, 0));

	/* User mode */
	guest_start(g, MODE_LONG, BLOB(call));
	/* The CPU's own instruction: in-tree KVM does not rewrite that of the other vendor here. */
	g->mem[GUEST_CODE + 2] = host_is_amd() ? 0xd9 : 0xc1;
	s = vcpu_sregs(&g->cpu);
	s.cs.selector = SEL_UCODE64;
	s.cs.dpl = 3;
	s.ss.selector = s.ds.selector = SEL_UDATA;
	s.ss.dpl = s.ds.dpl = 3;
	vcpu_set_sregs(&g->cpu, &s);
	r = vcpu_regs(&g->cpu);
	r.rax = KVM_HC_VAPIC_POLL_IRQ;
	r.rflags |= 3 << 12;		/* may use ports */
	vcpu_set_regs(&g->cpu, &r);
	ASSERT_DONE(g);
	EXPECT_EQ(-KVM_EPERM, vcpu_regs(&g->cpu).rax);

	guest_set_mode(g, MODE_PROT32);
	EXPECT_EQ(0, hypercall(g, 0xffffffff00000000 | KVM_HC_VAPIC_POLL_IRQ, 0, 0, 0, 0));
	EXPECT_EQ((uint32_t)-KVM_ENOSYS, hypercall(g, 0x12345, 0, 0, 0, 0));
}

/* Refused with EOPNOTSUPP where the host's clock is not the TSC; then the arguments are not looked at. */
TEST_F(pv, clock_pairing)
{
	struct guest *g = &self->g;
	struct kvm_clock_pairing pair;
	uint64_t before, after;
	struct timespec ts;
	int64_t ret;

	guest_set_mode(g, MODE_LONG);
	EXPECT_EQ(-KVM_EOPNOTSUPP, hypercall(g, KVM_HC_CLOCK_PAIRING, GUEST_DATA, 1, 0, 0));
	MUST(vcpu_get_msr(&g->cpu, MSR_IA32_TSC, &before));
	memset(g->mem + GUEST_DATA, 0xff, sizeof(pair));
	ret = hypercall(g, KVM_HC_CLOCK_PAIRING, GUEST_DATA, KVM_CLOCK_PAIRING_WALLCLOCK, 0, 0);
	MUST(vcpu_get_msr(&g->cpu, MSR_IA32_TSC, &after));
	if (ret == -KVM_EOPNOTSUPP)
		SKIP(return, "the host's clock is not the TSC");
	ASSERT_EQ(0, ret);
	memcpy(&pair, g->mem + GUEST_DATA, sizeof(pair));
	clock_gettime(CLOCK_REALTIME, &ts);
	EXPECT_LE(pair.sec, ts.tv_sec);
	EXPECT_LT(ts.tv_sec - 30, pair.sec);
	EXPECT_LT((uint64_t)pair.nsec, 1000000000UL);
	EXPECT_LE(before, pair.tsc);
	EXPECT_LE(pair.tsc, after);
	EXPECT_EQ(0, pair.flags);
	EXPECT_EQ(0, pair.pad[0] | pair.pad[8]);
	EXPECT_EQ(-KVM_EFAULT, hypercall(g, KVM_HC_CLOCK_PAIRING, 0x3f000000000, 0, 0, 0));
}

/* The second vCPU: says that it comes, halts with interrupts off, says that it is back. */
GUEST(halt_ap, 64, "movl $1, " STR(READY) "\n" "hlt\n" "movl $2, " STR(READY) "\n" G_DONE);

TEST_F(pv, kick_ends_halt)
{
	struct guest *g = &self->g;
	struct kvm_mp_state mp;
	struct guest_thread t;
	int i;

	guest_set_mode(g, MODE_LONG);
	guest_thread_create(g, &t, 1, AP_AT, GUEST_STACK2);
	/* In-tree KVM does not find the ids of vCPUs before some local APIC has changed. */
	lapic_enable(&t.cpu);
	for (i = 0; i < 3; i++) {
		struct kvm_regs r = { .rip = AP_AT, .rsp = GUEST_STACK2, .rflags = X86_EFLAGS_FIXED };

		*(volatile uint32_t *)(g->mem + READY) = 0;
		if (i)
			vcpu_complete_io(&t.cpu);
		vcpu_set_regs(&t.cpu, &r);
		guest_load(g, BLOB(call));
		memcpy(g->mem + AP_AT, halt_ap_start, halt_ap_end - halt_ap_start);
		/* The first time before it halts, the second while it is about to, the third when it sleeps. */
		if (i) {
			guest_thread_start(&t, -1);
			while (!word(g, READY))
				sched_yield();
			if (i == 2)
				usleep(50000);
		}
		{
			struct kvm_regs r0;

			guest_reset_regs(g);
			r0 = vcpu_regs(&g->cpu);
			r0.rax = KVM_HC_KICK_CPU;
			r0.rcx = 1;
			vcpu_set_regs(&g->cpu, &r0);
			ASSERT_DONE(g);
			EXPECT_EQ(0, vcpu_regs(&g->cpu).rax);
		}
		if (!i)
			guest_thread_start(&t, -1);
		EXPECT_EQ(KVM_EXIT_IO, guest_thread_join(&t));
		EXPECT_EQ(2, word(g, READY));
		vcpu_complete_io(&g->cpu);
	}
	/* Saved while a kick waits, a halted vCPU is runnable: the kick is no state of its own. */
	vcpu_complete_io(&t.cpu);
	mp.mp_state = KVM_MP_STATE_HALTED;
	MUST(vm_ioctl(t.cpu.fd, KVM_SET_MP_STATE, &mp));
	MUST(vm_ioctl(t.cpu.fd, KVM_GET_MP_STATE, &mp));
	EXPECT_EQ(KVM_MP_STATE_HALTED, mp.mp_state);
	EXPECT_EQ(0, hypercall(g, KVM_HC_KICK_CPU, 0, 1, 0, 0));
	MUST(vm_ioctl(t.cpu.fd, KVM_GET_MP_STATE, &mp));
	EXPECT_EQ(KVM_MP_STATE_RUNNABLE, mp.mp_state);
	guest_thread_destroy(&t);
}

/*
 * Two vCPUs on one CPU hand a word to and fro; each waits by giving its CPU to the other. EBX: calls made, R8: rounds.
 */
#define PING(mine, other)						\
	"movl $100, %r8d\n" "xorl %r9d, %r9d\n"				\
	"1: cmpl $" #mine ", " STR(READY) "\n" "je 2f\n"		\
	"movl $11, %eax\n" "movl $" #other ", %ebx\n" HYPERCALL "incl %r9d\n" "jmp 1b\n"	\
	"2: movl $" #other ", " STR(READY) "\n" "decl %r8d\n" "jnz 1b\n" G_DONE

GUEST(ping, 64, PING(0, 1));
GUEST(pong, 64, PING(1, 0));

TEST_F(pv, sched_yield)
{
	struct guest *g = &self->g;
	struct guest_thread t[2];
	unsigned long calls;

	start(g, BLOB(ping), BLOB(isr_pv));
	memcpy(g->mem + AP_AT, pong_start, pong_end - pong_start);
	guest_thread_adopt(g, &t[0]);
	guest_thread_create(g, &t[1], 1, AP_AT, GUEST_STACK2);
	lapic_enable(&t[1].cpu);
	guest_thread_start(&t[0], 0);
	guest_thread_start(&t[1], 0);
	EXPECT_EQ(KVM_EXIT_IO, guest_thread_join(&t[0]));
	EXPECT_EQ(KVM_EXIT_IO, guest_thread_join(&t[1]));
	/* Some 5 a round; without the yields it would be all that fit into the other's time slices. */
	calls = vcpu_regs(&t[0].cpu).r9 + vcpu_regs(&t[1].cpu).r9;
	EXPECT_GT(5000, calls);
	guest_thread_destroy(&t[1]);
}

TEST_HARNESS_MAIN
