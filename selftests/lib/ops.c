// SPDX-License-Identifier: GPL-2.0-only
/*
 * Single accesses by a guest; see ops.h. Each has its code in 16 bytes of its own.
 */
#include <stdio.h>
#include "ops.h"

enum { RDMSR, WRMSR, READ1, READ2, READ4, READ8, WRITE1, WRITE2, WRITE4, WRITE8, IN, OUT, TAKE, CR8 };

#define AT(n)	".org ops_start_code_start + 16 * " #n ", 0xf4\n"

GUEST(ops_start_code, 64,
	AT(0) "rdmsr\n" G_DONE
	AT(1) "wrmsr\n" G_DONE
	AT(2) "movb (%rdi), %al\n" G_DONE
	AT(3) "movw (%rdi), %ax\n" G_DONE
	AT(4) "movl (%rdi), %eax\n" G_DONE
	AT(5) "movq (%rdi), %rax\n" G_DONE
	AT(6) "movb %al, (%rdi)\n" G_DONE
	AT(7) "movw %ax, (%rdi)\n" G_DONE
	AT(8) "movl %eax, (%rdi)\n" G_DONE
	AT(9) "movq %rax, (%rdi)\n" G_DONE
	AT(10) "inb %dx, %al\n" G_DONE
	AT(11) "outb %al, %dx\n" G_DONE
	AT(12) "sti\n" "nop\n" "nop\n" "cli\n" G_DONE
	AT(13) "movq %rax, %cr8\n" G_DONE);

void ops_start(struct guest *g)
{
	guest_start(g, MODE_LONG, BLOB(ops_start_code));
}

/* Returns -1 when the code came to its end, else the vector. */
static int run(struct guest *g, int op, struct kvm_regs *r)
{
	int vector = -1;

	/* What the client's device has been given is over before the registers change. */
	vcpu_complete_io(&g->cpu);
	r->rip = GUEST_CODE + 16 * op;
	r->rsp = GUEST_STACK;
	r->rflags = X86_EFLAGS_FIXED;
	vcpu_set_regs(&g->cpu, r);
	if (guest_run(g) != KVM_EXIT_IO) {
		guest_dump(g);
		die("operation %d: no exit at its end", op);
	}
	if (guest_at_port(g, PORT_EXC))
		vector = guest_exc(g).vector;
	else if (!guest_at_port(g, PORT_DONE))
		die("operation %d: the access to port %x has left the kernel", op, g->cpu.run->io.port);
	*r = vcpu_regs(&g->cpu);
	return vector;
}

static int plain(struct guest *g, int op, struct kvm_regs *r)
{
	int vector = run(g, op, r);

	return vector < 0 ? 0 : vector;
}

int ops_rdmsr(struct guest *g, uint32_t msr, uint64_t *val)
{
	struct kvm_regs r = { .rcx = msr };
	int vector = plain(g, RDMSR, &r);

	*val = (r.rax & 0xffffffff) | r.rdx << 32;
	return vector;
}

int ops_wrmsr(struct guest *g, uint32_t msr, uint64_t val)
{
	struct kvm_regs r = { .rcx = msr, .rax = val & 0xffffffff, .rdx = val >> 32 };

	return plain(g, WRMSR, &r);
}

static int width(int size)
{
	return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3;
}

int ops_read(struct guest *g, uint64_t gpa, int size, uint64_t *val)
{
	struct kvm_regs r = { .rdi = gpa };
	int vector = plain(g, READ1 + width(size), &r);

	*val = r.rax;
	return vector;
}

int ops_write(struct guest *g, uint64_t gpa, int size, uint64_t val)
{
	struct kvm_regs r = { .rdi = gpa, .rax = val };

	return plain(g, WRITE1 + width(size), &r);
}

uint8_t ops_in(struct guest *g, uint16_t port)
{
	struct kvm_regs r = { .rdx = port };

	plain(g, IN, &r);
	return r.rax;
}

void ops_out(struct guest *g, uint16_t port, uint8_t val)
{
	struct kvm_regs r = { .rdx = port, .rax = val };

	plain(g, OUT, &r);
}

int ops_take(struct guest *g)
{
	struct kvm_regs r = { 0 };

	return run(g, TAKE, &r);
}

void ops_iret(struct guest *g)
{
	if (guest_run(g) != KVM_EXIT_IO || !guest_at_port(g, PORT_DONE))
		die("the handler did not return");
}

int ops_cr8(struct guest *g, uint64_t cr8)
{
	struct kvm_regs r = { .rax = cr8 };

	return plain(g, CR8, &r);
}

uint32_t ops_apic(struct guest *g, uint32_t reg)
{
	uint64_t val;

	if (ops_read(g, APIC_DEFAULT_BASE + reg, 4, &val))
		die("a read of local APIC register %x faulted", reg);
	return val;
}

void ops_set_apic(struct guest *g, uint32_t reg, uint32_t val)
{
	if (ops_write(g, APIC_DEFAULT_BASE + reg, 4, val))
		die("a write of local APIC register %x faulted", reg);
}
