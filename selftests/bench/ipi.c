// SPDX-License-Identifier: GPL-2.0-only
/*
 * IPIs to a vCPU that sleeps in HLT: the first one sends it, and sleeps itself until the second has answered in the same
 * way. Both have their threads on one CPU, so all that happens is one after the other. And to one that runs on another
 * CPU: what it takes the sender.
 */
#include <unistd.h>
#include "guest.h"
#include "ipi.h"
#include "pieces.h"
#include "smp.h"

#define BATCHES		16
#define ROUNDS		100
#define PING		0x41
#define PONG		0x42
#define STACK		0x3e000

#define SEND(to, vector)	WRMSR("0x830", STR(to), STR(vector))
#define END_OF_INTERRUPT	WRMSR("0x80b", "0", "0")

/* Where the second vCPU begins, and the two handlers, stand at the front, behind a jump. R15 counts answers. */
GUEST(pingpong, 64,
	".byte 0xe9\n" ".long 7f - 5f\n" "5: .fill 3, 1, 0x90\n"
	".quad " GUEST_AT(pingpong, 2f) ", " GUEST_AT(pingpong, 3f) ", " GUEST_AT(pingpong, 4f) "\n"
	"2: " X2APIC G_SYNC "1: sti\n" "hlt\n" "jmp 1b\n"
	"3: " END_OF_INTERRUPT SEND(0, PONG) "iretq\n"
	"4: push %rax\n" "push %rcx\n" "push %rdx\n" "inc %r15\n" END_OF_INTERRUPT
	"pop %rdx\n" "pop %rcx\n" "pop %rax\n" "iretq\n"
	"7: " X2APIC G_SYNC
	"mov $" STR(GUEST_DATA) ", %edi\n" "mov $" STR(BATCHES) ", %ebp\n"
	"8: mov $" STR(ROUNDS) ", %esi\n" TSC "mov %rax, %r14\n"
	"9: mov %r15, %r13\n" SEND(1, PING)
	"6: cli\n" "cmp %r15, %r13\n" "jne 1f\n" "sti\n" "hlt\n" "jmp 6b\n"
	"1: dec %esi\n" "jnz 9b\n"
	TSC "sub %r14, %rax\n" "mov %rax, (%rdi)\n" "add $8, %rdi\n"
	"dec %ebp\n" "jnz 8b\n" G_DONE);

/*
 * The second one counts in memory what it has got, behind its EOI: from then on it does not leave the guest. R14 sums up the
 * ticks of the writes to the ICR, and, in the first batch, of nothing.
 */
#define COUNT		0x3f000
#define COUNT_AT	STR(COUNT)

GUEST(to_running, 64,
	".byte 0xe9\n" ".long 7f - 5f\n" "5: .fill 3, 1, 0x90\n"
	".quad " GUEST_AT(to_running, 2f) ", " GUEST_AT(to_running, 3f) "\n"
	"2: " X2APIC G_SYNC "sti\n" "incq " COUNT_AT "\n" "1: jmp 1b\n"
	"3: push %rax\n" "push %rcx\n" "push %rdx\n" END_OF_INTERRUPT "incq " COUNT_AT "\n"
	"pop %rdx\n" "pop %rcx\n" "pop %rax\n" "iretq\n"
	"7: " X2APIC G_SYNC "sti\n"
	"mov $" STR(GUEST_DATA) ", %edi\n" "mov $" STR(BATCHES) ", %ebp\n"
	"mov $" STR(ROUNDS) ", %esi\n" "xor %r14d, %r14d\n"
	"9: " TSC "mov %rax, %r9\n" TSC "sub %r9, %rax\n" "add %rax, %r14\n" "dec %esi\n" "jnz 9b\n"
	"mov %r14, (%rdi)\n" "add $8, %rdi\n"
	"8: mov $" STR(ROUNDS) ", %esi\n" "xor %r14d, %r14d\n"
	"9: mov " COUNT_AT ", %r13\n" TSC "mov %rax, %r9\n" SEND(1, PING) TSC "sub %r9, %rax\n" "add %rax, %r14\n"
	"6: cmp %r13, " COUNT_AT "\n" "je 6b\n" "dec %esi\n" "jnz 9b\n"
	"mov %r14, (%rdi)\n" "add $8, %rdi\n" "dec %ebp\n" "jnz 8b\n" G_DONE);

static void expect(long exit)
{
	if (exit != KVM_EXIT_IO)
		die("ipi: exit %ld", exit);
}

/* Both have come as far as their first exit, and the second one goes on. */
static void begin(struct guest *g, struct guest_thread *second, int host_cpu)
{
	guest_thread_start(second, host_cpu);
	expect(guest_thread_join(second));
	expect(guest_run(g));
	guest_thread_start(second, host_cpu);
}

static uint64_t shortest(const uint64_t *batch)
{
	uint64_t least = batch[0];
	int i;

	for (i = 1; i < BATCHES; i++)
		if (batch[i] < least)
			least = batch[i];
	return least;
}

double ipi_running(void)
{
	const uint64_t *at = (const void *)(to_running_start + 8);
	struct guest_thread second;
	const uint64_t *batch;
	struct guest g;
	double ticks;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return -1;
	guest_create(&g, GUEST_IRQCHIP);
	guest_start(&g, MODE_LONG, BLOB(to_running));
	guest_set_gate(&g, PING, at[1]);
	guest_thread_create(&g, &second, 1, at[0], STACK);
	begin(&g, &second, 1);
	/* In Bochs nobody takes the CPU from a guest with interrupts off. */
	while (!*(volatile uint64_t *)(g.mem + COUNT))
		usleep(1000);
	expect(guest_run(&g));
	guest_thread_stop(&second);
	batch = (const void *)(g.mem + GUEST_DATA);
	ticks = shortest(batch + 1) - batch[0];
	guest_thread_destroy(&second);
	guest_destroy(&g);
	return ticks / ROUNDS;
}

double ipi_asleep(void)
{
	const uint64_t *at = (const void *)(pingpong_start + 8);
	struct guest_thread second;
	uint64_t least;
	struct guest g;

	guest_create(&g, GUEST_IRQCHIP);
	guest_start(&g, MODE_LONG, BLOB(pingpong));
	guest_set_gate(&g, PING, at[1]);
	guest_set_gate(&g, PONG, at[2]);
	guest_thread_create(&g, &second, 1, at[0], STACK);
	begin(&g, &second, 0);
	expect(guest_run(&g));
	guest_thread_stop(&second);
	least = shortest((const void *)(g.mem + GUEST_DATA));
	guest_thread_destroy(&second);
	guest_destroy(&g);
	return least / (2.0 * ROUNDS);
}
