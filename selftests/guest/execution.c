// SPDX-License-Identifier: GPL-2.0-only
/*
 * The same guest run directly by the CPU, interpreted by the emulator, and trapped (each instruction exits and is
 * emulated) must end in the same state: registers, segments, tables, events, memory, and the exits on its way.
 *
 * One of the programs is Popek and Goldberg's theorem for x86: the 17 instructions that are sensitive but not
 * privileged (Robin and Irvine, "Analysis of the Intel Pentium's Ability to Support a Secure Virtual Machine
 * Monitor", section 3), in the kernel and in a program, in 16, 32 and 64-bit code.
 */
#include <stdlib.h>
#include <unistd.h>
#include <linux/keel.h>
#include "kselftest_harness.h"
#include "guest.h"

#define DATA_OFFSET	0x100		/* RSI points there, in the data segment of the mode */
#define MAX_EXITS	64
#define SEEN		(GUEST_DATA2 + 0x10000)	/* bytes: the memory that these guests know of */

static const struct {
	unsigned int flag;
	const char *name;
} ways[] = { { 0, "direct" }, { GUEST_INTERPRETED, "interpreted" }, { GUEST_TRAPPED, "trapped" } };

struct outcome {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debug;
	struct kvm_vcpu_events events;
	struct kvm_fpu fpu;
	uint8_t mem[SEEN];
	uint32_t exits[MAX_EXITS];
	int nr_exits;
	struct keel_execution counts;
	bool nested;
};

struct program {
	const char *name;
	struct guest_blob b16, b32, b64;
};

#define PROGRAM(n)	{ #n, BLOB(n##16), BLOB(n##32), BLOB(n##64) }

static bool has_execution(void)
{
	struct keel_execution exec = { .version = KEEL_EXECUTION_VERSION, .size = sizeof(exec) };
	int dev = dev_open(), vm = vm_create(dev);
	bool has = !vm_ioctl(vm, KEEL_SET_EXECUTION, &exec);

	close(vm);
	close(dev);
	return has;
}

/* The program itself as a user of that kernel; ports are the kernel's, so its last OUT is a #GP. */
static void to_user(struct guest *g, struct kvm_regs *r)
{
	struct kvm_sregs s = vcpu_sregs(&g->cpu);
	int sel = g->mode == MODE_LONG ? SEL_UCODE64 : SEL_UCODE32;

	s.cs.selector = sel;
	s.ss.selector = s.ds.selector = s.es.selector = s.fs.selector = s.gs.selector = SEL_UDATA;
	s.cs.dpl = s.ss.dpl = s.ds.dpl = s.es.dpl = s.fs.dpl = s.gs.dpl = 3;
	/* QEMU's TCG ends with "invalid tss type" when a 32-bit guest changes stacks by a busy TSS. */
	if (host_is_amd())
		s.tr.type = 9;
	vcpu_set_sregs(&g->cpu, &s);
	r->rsp = GUEST_STACK2;
}

/* A far pointer to 0x40 in the blob, for the far branches through memory. */
static void plant_pointer(struct guest *g, int cpl)
{
	uint8_t *p = g->mem + GUEST_DATA + DATA_OFFSET;
	uint16_t sel = SEL_CODE16;

	if (guest_mode_bits(g->mode) == 16) {
		if (g->mode == MODE_REAL)
			sel = GUEST_CODE >> 4;
		*(uint16_t *)p = 0x40;
		memcpy(p + 2, &sel, 2);
		return;
	}
	sel = g->mode == MODE_LONG ? (cpl ? SEL_UCODE64 : SEL_CODE64) : cpl ? SEL_UCODE32 : SEL_CODE32;
	*(uint32_t *)p = GUEST_CODE + 0x40;
	memcpy(p + 4, &sel, 2);
}

/* What is undefined, or where an emulated CPU is known to differ, is made equal. */
static void normalize(struct outcome *o, enum guest_mode mode)
{
	uint64_t *pdpt = (void *)(o->mem + GUEST_PAE_PDPT);
	struct kvm_segment *seg = &o->sregs.cs;
	int i;

	/* Of a segment that cannot be used no instruction sees the rights, but for the privilege level in SS. */
	for (i = 0; i < 8; i++)
		if (seg[i].unusable || !seg[i].present)
			seg[i].type = seg[i].present = seg[i].db = seg[i].s = seg[i].l = seg[i].g = seg[i].avl = 0;
	/* In real mode VT-x shows code as data that is executed (SDM 3C, 27.3.1.2). */
	if (mode == MODE_REAL && o->sregs.cs.type == 3)
		o->sregs.cs.type = 0xb;
	o->sregs.tr.type |= 2;		/* AMD-V may show it as not busy */
	/* QEMU's TCG sets an accessed bit in the directory pointers, where it is reserved. */
	for (i = 0; i < 4 && mode == MODE_PAE; i++)
		pdpt[i] &= ~0x20UL;
	/* what the last exception was */
	if (!o->events.exception.injected && !o->events.exception.pending) {
		memset(&o->events.exception, 0, sizeof(o->events.exception));
		o->events.exception_has_payload = 0;
		o->events.exception_payload = 0;
	}
}

/* A data segment in ES, and where in it the program works. */
struct segment_case {
	uint8_t type;		/* SDM 3A, 3.4.5.1 */
	uint32_t limit;
	uint8_t db;
	uint32_t offset;
};

static void use_segment(struct guest *g, struct kvm_regs *r, const struct segment_case *c)
{
	struct kvm_sregs s = vcpu_sregs(&g->cpu);

	s.es.base = GUEST_DATA;
	s.es.type = c->type;
	s.es.limit = c->limit;
	s.es.g = c->limit > 0xfffff;
	s.es.db = c->db;
	vcpu_set_sregs(&g->cpu, &s);
	r->rdi = c->offset;
}

/* As operating systems do: until then a hypervisor may hide that the host has it set, and emulate reads of CR4. */
static void enable_machine_checks(struct guest *g)
{
	struct kvm_sregs s = vcpu_sregs(&g->cpu);

	s.cr4 |= X86_CR4_MCE;
	vcpu_set_sregs(&g->cpu, &s);
}

static void run_way(struct outcome *o, unsigned int flag, enum guest_mode mode, const struct program *p, int cpl,
		    const struct segment_case *segment)
{
	int bits = guest_mode_bits(mode);
	struct kvm_regs r;
	struct guest g;
	long reason;

	memset(o, 0, sizeof(*o));
	guest_create(&g, flag);
	guest_start(&g, mode, bits == 16 ? p->b16 : bits == 32 ? p->b32 : p->b64);
	enable_machine_checks(&g);
	r = vcpu_regs(&g.cpu);
	r.rsi = DATA_OFFSET + (bits == 16 ? 0 : GUEST_DATA);
	r.rdi = r.rsi + 0x200;
	if (cpl)
		to_user(&g, &r);
	if (segment)
		use_segment(&g, &r, segment);
	vcpu_set_regs(&g.cpu, &r);
	plant_pointer(&g, cpl);
	do {
		reason = guest_run(&g);
		o->exits[o->nr_exits++] = reason == KVM_EXIT_IO ? reason << 16 | g.cpu.run->io.port : reason;
	} while (o->nr_exits < MAX_EXITS && guest_at_port(&g, PORT_SYNC));
	o->regs = vcpu_regs(&g.cpu);
	o->sregs = vcpu_sregs(&g.cpu);
	MUST(vm_ioctl(g.cpu.fd, KVM_GET_DEBUGREGS, &o->debug));
	MUST(vm_ioctl(g.cpu.fd, KVM_GET_VCPU_EVENTS, &o->events));
	MUST(vm_ioctl(g.cpu.fd, KVM_GET_FPU, &o->fpu));
	memcpy(o->mem, g.mem, SEEN);
	o->nested = nested_paging(g.dev);
	o->counts.version = KEEL_EXECUTION_VERSION;
	o->counts.size = sizeof(o->counts);
	MUST(vm_ioctl(g.cpu.fd, KEEL_GET_EXECUTION, &o->counts));
	guest_destroy(&g);
	normalize(o, mode);
}

/* The first difference of two outcomes, or NULL. */
static const char *difference(const struct outcome *a, const struct outcome *b)
{
	static char text[160];
	unsigned int i;

	if (a->nr_exits != b->nr_exits || memcmp(a->exits, b->exits, sizeof(a->exits))) {
		snprintf(text, sizeof(text), "exits: %d, last %#x; %d, last %#x", a->nr_exits,
			 a->exits[a->nr_exits - 1], b->nr_exits, b->exits[b->nr_exits - 1]);
		return text;
	}
	for (i = 0; i < sizeof(a->regs) / 8; i++)
		if (((uint64_t *)&a->regs)[i] != ((uint64_t *)&b->regs)[i]) {
			snprintf(text, sizeof(text), "word %u of kvm_regs: %llx, %llx", i,
				 ((unsigned long long *)&a->regs)[i], ((unsigned long long *)&b->regs)[i]);
			return text;
		}
	for (i = 0; i < sizeof(a->sregs); i++)
		if (((uint8_t *)&a->sregs)[i] != ((uint8_t *)&b->sregs)[i]) {
			snprintf(text, sizeof(text), "byte %u of kvm_sregs: %x, %x", i, ((uint8_t *)&a->sregs)[i],
				 ((uint8_t *)&b->sregs)[i]);
			return text;
		}
	if (memcmp(&a->debug, &b->debug, sizeof(a->debug)))
		return "kvm_debugregs";
	for (i = 0; i < sizeof(a->events); i++)
		if (((uint8_t *)&a->events)[i] != ((uint8_t *)&b->events)[i]) {
			snprintf(text, sizeof(text), "byte %u of kvm_vcpu_events: %x, %x", i, ((uint8_t *)&a->events)[i],
				 ((uint8_t *)&b->events)[i]);
			return text;
		}
	if (memcmp(a->fpu.xmm, b->fpu.xmm, sizeof(a->fpu.xmm)))
		return "vector registers";
	/* The MMX part: not every emulated CPU sets the exponents. */
	for (i = 0; i < 8; i++)
		if (memcmp(a->fpu.fpr[i], b->fpu.fpr[i], 8))
			return "MMX registers";
	if (!memcmp(a->mem, b->mem, SEEN))
		return NULL;
	for (i = 0; a->mem[i] == b->mem[i]; i++)
		;
	snprintf(text, sizeof(text), "memory at %#x: %x, %x", i, a->mem[i], b->mem[i]);
	return text;
}

static void compare(struct __test_metadata *_metadata, enum guest_mode mode, const struct program *p, int cpl)
{
	static struct outcome o[3];
	const char *diff;
	int i;

	for (i = 0; i < 3; i++) {
		run_way(&o[i], ways[i].flag, mode, p, cpl, NULL);
		EXPECT_EQ(i, o[i].counts.mode);
		diff = i ? difference(&o[0], &o[i]) : NULL;
		EXPECT_EQ(NULL, diff) {
			TH_LOG("%s, %s, privilege level %d, direct and %s: %s", p->name, guest_mode_name[mode], cpl,
			       ways[i].name, diff);
		}
	}
	/* ... and they did run in those ways. */
	EXPECT_LT(0, o[0].counts.entries);
	/* With shadow paging the emulator has the control registers, too. */
	EXPECT_GE(o[0].nested ? 1 : o[1].counts.emulated, o[0].counts.emulated);
	EXPECT_EQ(0, o[1].counts.entries);
	EXPECT_LT(0, o[1].counts.emulated);
	EXPECT_EQ(o[1].counts.emulated, o[2].counts.emulated);
	EXPECT_LE(o[2].counts.emulated, o[2].counts.entries);
}

/* Limits of segments: the emulator against a CPU that checks them */

GUEST(segment_read16, 16, "movl %es:(%di), %eax\n" G_DONE);
GUEST(segment_read32, 32, "movl %es:(%edi), %eax\n" G_DONE);
GUEST(segment_write16, 16, "movw $0x55aa, %es:(%di)\n" G_DONE);
GUEST(segment_write32, 32, "movw $0x55aa, %es:(%edi)\n" G_DONE);
GUEST(segment_string16, 16, "cld\n" "mov $4, %cx\n" "rep stosw\n" G_DONE);
GUEST(segment_string32, 32, "cld\n" "mov $4, %ecx\n" "rep stosw\n" G_DONE);

#define SEGMENT(n)	{ #n, BLOB(n##16), BLOB(n##32), { NULL, NULL } }
#define DATA_RO		1
#define DATA_RW		3
#define DOWN_RO		5
#define DOWN_RW		7

TEST(segment_limits)
{
	static const struct program accesses[] = {
		SEGMENT(segment_read), SEGMENT(segment_write), SEGMENT(segment_string),
	};
	static const struct segment_case cases[] = {
		{ DATA_RW, 0x1ff, 1, 0x1fc }, { DATA_RW, 0x1ff, 1, 0x1fd }, { DATA_RW, 0x1ff, 1, 0x1ff },
		{ DATA_RW, 0x1ff, 1, 0x200 }, { DATA_RO, 0x1ff, 1, 0x100 }, { DATA_RW, 0x1ff, 0, 0x1fa },
		{ DOWN_RW, 0x1ff, 1, 0x1ff }, { DOWN_RW, 0x1ff, 1, 0x200 }, { DOWN_RO, 0x1ff, 1, 0x200 },
		{ DOWN_RW, 0x1ff, 0, 0xfffc }, { DOWN_RW, 0x1ff, 0, 0xfffe }, { DOWN_RW, 0x1ff, 0, 0xffff },
	};
	static struct outcome o[3];
	static const enum guest_mode modes[] = { MODE_PROT16, MODE_PROT32 };
	const char *diff;
	size_t m, a, c;
	int i;

	if (!has_execution())
		SKIP(return, "needs Keel");
	if (host_is_amd())
		SKIP(return, "this CPU (QEMU's TCG) does not check limits");
	for (m = 0; m < ARRAY_SIZE(modes); m++)
		for (a = 0; a < ARRAY_SIZE(accesses); a++)
			for (c = 0; c < ARRAY_SIZE(cases); c++)
				for (i = 0; i < 3; i++) {
					run_way(&o[i], ways[i].flag, modes[m], &accesses[a], 0, &cases[c]);
					diff = i ? difference(&o[0], &o[i]) : NULL;
					EXPECT_EQ(NULL, diff)
						TH_LOG("%s, %s, case %zu, direct and %s: %s", accesses[a].name,
						       guest_mode_name[modes[m]], c, ways[i].name, diff);
				}
}

/* Small programs */

GUEST_ALL(arithmetic,
	"movl $0x12345678, %eax\n" "movl $100, %ecx\n" "xorl %ebx, %ebx\n"
	"1: addl %eax, %ebx\n" "adcl $0x1234, %ebx\n" "roll $7, %eax\n" "xorl %ebx, %eax\n" "imull $77, %eax, %eax\n"
	"movl %eax, (%esi)\n" "sbbl %ecx, (%esi)\n" "shldl $5, %eax, %ebx\n" "bsrl %ebx, %edx\n" "btsl %edx, %eax\n"
	"movl $7, %ebp\n" "xorl %edx, %edx\n" "divl %ebp\n" "setc %dl\n" "cmovol %edx, %ebx\n"
	"loop 1b\n" "cpuid\n" G_DONE);

GUEST_ALL(strings,
	"cld\n" "movb $0x5a, %al\n" "movl $0x123, %ecx\n" "movl %edi, %edx\n" "rep stosb\n"
	"movl %edx, %edi\n" "movl $0x40, %ecx\n" "xchgl %esi, %edi\n" "rep movsl\n"
	"std\n" "movl %edx, %edi\n" "addl $0x122, %edi\n" "movb $0x5b, %al\n" "movl $0x40, %ecx\n" "repne scasb\n"
	"cld\n" "movl %edx, %edi\n" "movl %edx, %esi\n" "incl %esi\n" "movl $0x100, %ecx\n" "repe cmpsb\n" G_DONE);

GUEST_ALL(stack,
	"push $0x77\n" "call 2f\n" "pushf\n" "push $0x11\n" "movl %esp, %ebp\n" "enter $0x20, $3\n" "leave\n" "jmp 3f\n"
	"2: incl %ebx\n" "ret $2\n" "3: xorl %eax, %eax\n" "cmpl $0, %ebx\n" "jg 4f\n" "ud2\n" "4:\n" G_DONE);

/* Software interrupts through the tables and back, with the client in between. */
GUEST_ALL(interrupts,
	"movl $3, %ebx\n" "1: int $0x21\n" "int3\n" "decl %ebx\n" "jnz 1b\n" G_SYNC G_DONE);

GUEST_ALL(divide_error, "xorl %ecx, %ecx\n" "movl %ecx, (%esi)\n" "divl (%esi)\n" G_DONE);

GUEST_ALL(locked,
	"movl $0x10, %ecx\n" "movl $0x55, (%esi)\n"
	"1: lock xaddl %ecx, (%esi)\n" "lock incl (%esi)\n" "lock btsl $30, (%esi)\n" "movl (%esi), %eax\n"
	"lock cmpxchgl %ecx, (%esi)\n" "xchgl %ebx, (%esi)\n" "movl (%esi), %eax\n" "movl 4(%esi), %edx\n"
	"lock cmpxchg8b (%esi)\n" G_DONE);

GUEST_ALL(vector,
	"movl $0x01020304, (%esi)\n" "movl $0x05060708, 4(%esi)\n" "movl $0x090a0b0c, 8(%esi)\n"
	"movups (%esi), %xmm1\n" "movaps %xmm1, %xmm2\n" "movlps %xmm2, 0x13(%esi)\n" "movd %xmm1, %eax\n"
	"movq (%esi), %mm3\n" "movq %mm3, 0x20(%esi)\n" "movnti %eax, 0x30(%esi)\n" G_DONE);

/* The FPU's state goes to memory, is changed there, comes back, and goes again. */
GUEST_ALL(fpu_state,
	"movl $0x01020304, (%esi)\n" "movups (%esi), %xmm1\n"
	"fxsave 0x100(%esi)\n" "movl $0x1fa0, 0x118(%esi)\n" "movl $0x5a5b5c5d, 0x1b4(%esi)\n"
	"movl $0x77, 0x130(%esi)\n" "fxrstor 0x100(%esi)\n" "fxsave 0x400(%esi)\n" G_DONE);

/* The way up and down: control registers, tables, far branches, in one program that begins in real mode. */
GUEST(system_16, 16,
	"lgdtl %cs:(9f - system_16_start)\n"
	"movl %cr0, %eax\n" "orl $1, %eax\n" "movl %eax, %cr0\n"
	"ljmpl $" STR(SEL_CODE32) ", $" GUEST_AT(system_16, 1f) "\n"
	".code32\n"
	"1: movl $" STR(SEL_DATA) ", %eax\n" "movl %eax, %ds\n" "movl %eax, %es\n" "movl %eax, %ss\n"
	"movl $" STR(GUEST_STACK) ", %esp\n"
	"movl %cr4, %eax\n" "orl $0x20, %eax\n" "movl %eax, %cr4\n"
	"movl $" STR(GUEST_PML4) ", %eax\n" "movl %eax, %cr3\n"
	"movl $" STR(MSR_EFER) ", %ecx\n" "rdmsr\n" "orl $0x100, %eax\n" "wrmsr\n"
	"movl %cr0, %eax\n" "orl $0x80000000, %eax\n" "movl %eax, %cr0\n"
	"ljmpl $" STR(SEL_CODE64) ", $" GUEST_AT(system_16, 2f) "\n"
	".code64\n"
	"2: movabsq $0x1122334455667788, %rbx\n" "pushq %rbx\n" "lidtq 8f - system_16_start + " STR(GUEST_CODE) "\n"
	"movl $" STR(SEL_TSS) ", %eax\n" "andb $0xfd, " STR(GUEST_GDT) " + " STR(SEL_TSS) " + 5\n" "ltr %ax\n"
	"pushq $" STR(SEL_CODE32) "\n" "pushq $" GUEST_AT(system_16, 3f) "\n" "lretq\n"
	".code32\n"
	"3: movl %cr0, %eax\n" "andl $0x7fffffff, %eax\n" "movl %eax, %cr0\n" "movl %ebx, 0x41000\n"
	G_DONE
	"8: .word 0xfff\n .quad " STR(GUEST_IDT) "\n"
	"9: .word 0xfff\n .long " STR(GUEST_GDT) "\n");

static const struct program programs[] = {
	PROGRAM(arithmetic), PROGRAM(strings), PROGRAM(stack), PROGRAM(interrupts), PROGRAM(divide_error),
	PROGRAM(locked), PROGRAM(vector), PROGRAM(fpu_state),
};

/* The theorem's instructions */

GUEST_ALL(sgdt, "sgdt (%esi)\n" G_DONE);
GUEST_ALL(sidt, "sidt (%esi)\n" G_DONE);
GUEST_ALL(sldt, "sldt (%esi)\n" "sldt %eax\n" G_DONE);
GUEST_ALL(smsw, "smsw (%esi)\n" "smsw %eax\n" G_DONE);
GUEST_ALL(str, "str (%esi)\n" "str %eax\n" G_DONE);
GUEST_ALL(pushf, "stc\n" "std\n" "pushf\n" "cld\n" G_DONE);
GUEST_ALL(popf, "push $0x2ad7\n" "popf\n" "pushf\n" G_DONE);
GUEST_ALL(lar, "movl $" STR(SEL_DATA) ", %ecx\n" "lar %ecx, %eax\n" "setz %bl\n"
	  "movl $" STR(SEL_UCODE32) ", %ecx\n" "lar %ecx, %edx\n" "movl $" STR(SEL_TSS) ", (%esi)\n" "lar (%esi), %ebp\n"
	  /* bits 19 to 16 are undefined */
	  "andl $0xf0ff00, %eax\n" "andl $0xf0ff00, %edx\n" "andl $0xf0ff00, %ebp\n"
	  G_DONE);
GUEST_ALL(lsl, "movl $" STR(SEL_DATA) ", %ecx\n" "lsl %ecx, %eax\n" "setz %bl\n"
	  "movl $" STR(SEL_DATA16) ", %ecx\n" "lsl %ecx, %edx\n" "movl $" STR(SEL_UDATA) ", (%esi)\n" "lsl (%esi), %ebp\n"
	  G_DONE);
GUEST_ALL(verr, "movl $" STR(SEL_CODE32) ", %ecx\n" "verr %cx\n" "setz %al\n" "movl $" STR(SEL_UDATA) ", %ecx\n"
	  "verr %cx\n" "setz %ah\n" G_DONE);
GUEST_ALL(verw, "movl $" STR(SEL_CODE32) ", %ecx\n" "verw %cx\n" "setz %al\n" "movl $" STR(SEL_UDATA) ", %ecx\n"
	  "verw %cx\n" "setz %ah\n" G_DONE);
GUEST_ALL(pop_sreg, "push $" STR(SEL_UDATA) "\n" "pop %fs\n" "push $" STR(SEL_DATA) "\n" "pop %gs\n" G_DONE);
GUEST_ALL(push_sreg, "push %fs\n" "push %gs\n" G_DONE);
GUEST_ALL(call_far, "8: lcall *(%esi)\n" G_DONE ".skip 0x40 - (. - 8b), 0x90\n" "incl %eax\n" G_DONE);
GUEST_ALL(jmp_far, "8: ljmp *(%esi)\n" G_DONE ".skip 0x40 - (. - 8b), 0x90\n" "incl %eax\n" G_DONE);
GUEST_ALL(int_n, "int $0x21\n" G_DONE);
GUEST_ALL(mov_sreg, "movl %ds, %eax\n" "movl %ss, %ecx\n" "mov %cs, (%esi)\n" "movl $" STR(SEL_UDATA) ", %edx\n"
	  "movl %edx, %es\n" G_DONE);

/* Far returns and IRET, to 0x40 in the blob */
GUEST(ret_far16, 16, "8: push $" STR(GUEST_CODE) " >> 4\n" "push $0x40\n" "lret\n" G_DONE
      ".skip 0x40 - (. - 8b), 0x90\n" "incl %eax\n" G_DONE);
GUEST(ret_far32, 32, "8: push $" STR(SEL_CODE32) "\n" "push $" STR(GUEST_CODE) " + 0x40\n" "lret\n" G_DONE
      ".skip 0x40 - (. - 8b), 0x90\n" "incl %eax\n" G_DONE);
GUEST(ret_far64, 64, "8: push $" STR(SEL_CODE64) "\n" "push $" STR(GUEST_CODE) " + 0x40\n" "lretq\n" G_DONE
      ".skip 0x40 - (. - 8b), 0x90\n" "incl %eax\n" G_DONE);
GUEST(iret16, 16, "8: push $0x2ad7\n" "push $" STR(GUEST_CODE) " >> 4\n" "push $0x40\n" "iret\n" G_DONE
      ".skip 0x40 - (. - 8b), 0x90\n" "incl %eax\n" G_DONE);
GUEST(iret32, 32, "8: push $0x2ad7\n" "push $" STR(SEL_CODE32) "\n" "push $" STR(GUEST_CODE) " + 0x40\n" "iret\n"
      G_DONE ".skip 0x40 - (. - 8b), 0x90\n" "incl %eax\n" G_DONE);
GUEST(iret64, 64, "8: push $" STR(SEL_DATA) "\n" "push $" STR(GUEST_STACK) "\n" "push $0x2ad7\n"
      "push $" STR(SEL_CODE64) "\n" "push $" STR(GUEST_CODE) " + 0x40\n" "iretq\n" G_DONE
      ".skip 0x40 - (. - 8b), 0x90\n" "incl %eax\n" G_DONE);

static const struct program sensitive[] = {
	PROGRAM(sgdt), PROGRAM(sidt), PROGRAM(sldt), PROGRAM(smsw), PROGRAM(str), PROGRAM(pushf), PROGRAM(popf),
	PROGRAM(lar), PROGRAM(lsl), PROGRAM(verr), PROGRAM(verw), PROGRAM(pop_sreg), PROGRAM(push_sreg),
	PROGRAM(call_far), PROGRAM(jmp_far), PROGRAM(int_n), PROGRAM(ret_far), PROGRAM(iret), PROGRAM(mov_sreg),
};

FIXTURE(execution) {
};

FIXTURE_VARIANT(execution) {
	enum guest_mode mode;
};

FIXTURE_VARIANT_ADD(execution, real) { .mode = MODE_REAL };
FIXTURE_VARIANT_ADD(execution, prot32) { .mode = MODE_PROT32 };
FIXTURE_VARIANT_ADD(execution, page32) { .mode = MODE_PAGE32 };
FIXTURE_VARIANT_ADD(execution, pae) { .mode = MODE_PAE };
FIXTURE_VARIANT_ADD(execution, long64) { .mode = MODE_LONG };

FIXTURE_SETUP(execution)
{
	if (!has_execution())
		SKIP(return, "no KEEL_SET_EXECUTION");
}

FIXTURE_TEARDOWN(execution)
{
}

TEST_F_TIMEOUT(execution, programs, 240)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(programs); i++)
		compare(_metadata, variant->mode, &programs[i], 0);
}

TEST_F_TIMEOUT(execution, sensitive_instructions, 240)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sensitive); i++) {
		compare(_metadata, variant->mode, &sensitive[i], 0);
		if (variant->mode != MODE_REAL)
			compare(_metadata, variant->mode, &sensitive[i], 3);
	}
}

TEST(mode_changes)
{
	static const struct program p = { "mode changes", BLOB(system_16), BLOB(system_16), BLOB(system_16) };

	if (!has_execution())
		SKIP(return, "no KEEL_SET_EXECUTION");
	compare(_metadata, MODE_REAL, &p, 0);
}

TEST_HARNESS_MAIN
