// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guests whose instructions are known by number, so that the machine's time stamp counter, where it counts instructions,
 * says how many others there were. Not the shortest of many batches counts here, but all of a long one. They have
 * interrupts on, though none comes: in Bochs the host's end no entry of a guest that has them off.
 */
#include "guest.h"
#include "loads.h"
#include "pieces.h"

#define PORT_KERNEL	0x21		/* the PIC's mask */

#define BEGIN	TSC "mov %rax, %r14\n"
#define END	TSC "sub %r14, %rax\n" "mov %rax, " STR(GUEST_DATA) "\n"

#define COMPUTE_ROUNDS	2000000
#define COMPUTE_ROUND	4
GUEST(compute, 64,
	"mov $" STR(COMPUTE_ROUNDS) ", %ecx\n" "sti\n" BEGIN
	"1: imul $3, %ebx, %ebx\n" "add %ecx, %ebx\n"
	"dec %ecx\n" "jnz 1b\n"
	END G_DONE);

/* User code at 3, the kernel's entry at 2: STAR has the selectors of the library's GDT. */
#define SYSCALL_ROUNDS	400000
#define SYSCALL_ROUND	11
GUEST(systemcall, 64,
	"mov $0xc0000080, %ecx\n" "rdmsr\n" "or $1, %eax\n" "wrmsr\n"
	"mov $0xc0000081, %ecx\n" "mov $0x00330008, %edx\n" "xor %eax, %eax\n" "wrmsr\n"
	"mov $0xc0000082, %ecx\n" "mov $" GUEST_AT(systemcall, 2f) ", %eax\n" "xor %edx, %edx\n" "wrmsr\n"
	"mov $0xc0000084, %ecx\n" "xor %eax, %eax\n" "wrmsr\n"
	"mov $" GUEST_AT(systemcall, 3f) ", %ecx\n" "mov $0x202, %r11d\n" "sysretq\n"
	"2: test %eax, %eax\n" "jnz 4f\n"
	"push %rbx\n" "push %rbp\n" "pop %rbp\n" "pop %rbx\n" "sysretq\n"
	"3: mov $" STR(SYSCALL_ROUNDS) ", %esi\n" BEGIN
	"1: mov $0, %eax\n" "syscall\n" "dec %esi\n" "jnz 1b\n"
	END "mov $1, %eax\n" "syscall\n"
	"4: " G_DONE);

#define IO_ROUNDS	4000
#define IO_INNER	124
#define IO_ROUND	(4 + 4 * IO_INNER)
GUEST(input, 64,
	"mov $" STR(IO_ROUNDS) ", %esi\n" "sti\n" BEGIN
	"1: mov $" STR(IO_INNER) ", %ecx\n"
	"2: imul $3, %ebx, %ebx\n" "add %ecx, %ebx\n" "dec %ecx\n" "jnz 2b\n"
	"in $" STR(PORT_KERNEL) ", %al\n" "dec %esi\n" "jnz 1b\n"
	END G_DONE);

static double load(struct guest_blob blob, double instructions)
{
	struct guest g;
	uint64_t ticks;

	guest_create(&g, GUEST_IRQCHIP);
	/* The host makes pages at other times. */
	memset(g.mem, 0, g.mem_size);
	guest_start(&g, MODE_LONG, blob);
	if (guest_run(&g) != KVM_EXIT_IO || !guest_at_port(&g, PORT_DONE)) {
		guest_dump(&g);
		die("a load did not end");
	}
	ticks = *(uint64_t *)(g.mem + GUEST_DATA);
	guest_destroy(&g);
	return ticks * 1000.0 / instructions;
}

double load_compute(void)
{
	return load(BLOB(compute), (double)COMPUTE_ROUNDS * COMPUTE_ROUND);
}

double load_syscall(void)
{
	return load(BLOB(systemcall), (double)SYSCALL_ROUNDS * SYSCALL_ROUND);
}

double load_io(void)
{
	return load(BLOB(input), (double)IO_ROUNDS * IO_ROUND);
}
