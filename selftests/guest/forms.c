// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every row of the emulator's opcode table that has a memory operand, on a device: what such an instruction does there
 * must be what the CPU itself does on the same bytes in memory.
 *
 * The rows are taken from the tables themselves, so none can be forgotten: each is built in its operand sizes, with
 * LOCK or REP where that means something, and run at three places: within a page, over a page's end, and over the
 * end of a page behind which none is present. First three pages of memory are there, and the CPU executes; then the
 * slot goes, the client is the device, and the emulator does. Registers, segments, tables, vectors, what is in the
 * pages and what faults must be equal, but for flags that the manuals leave undefined.
 *
 * Pushes, pops, returns and the like have their stack in the device; strings source and destination.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "kselftest_harness.h"
#include "guest.h"
#undef F_LOCK			/* lockf()'s; the table has its own */
#include "../host/emulate/table.h"

#define DEVICE		0xd0000		/* three pages */
#define DEVICE_PAGES	3
#define DEVICE_SIZE	(DEVICE_PAGES * PAGE_SIZE)
#define ALIAS		0xd3000		/* the second of them again; behind it nothing is present */
#define PT		0x60000
#define AFTER		(GUEST_CODE + 0x100)	/* where branches go */
#define PORT		0x2f0		/* of INS and OUTS */
#define SLOT		5
#define MAX_FORMS	4096
#define RBX_BEFORE	0x13		/* as bit number it is near */

enum place { INSIDE, CROSSING, FAULTING, PLACES };
static const char *const place_name[PLACES] = { "inside", "crossing", "faulting" };

struct form {
	char name[48];
	const struct keel_op *row;
	struct keel_insn insn;
	uint8_t code[24];
	int len;
	bool rep;
	enum guest_mode mode;
};

struct result {
	bool ran;
	int vector;		/* 0: none */
	uint64_t error;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint8_t vectors[16 * 32 + 8 * 16];
	uint64_t memory, port;	/* hashes */
	int accesses;		/* exits for memory */
	uint32_t other_exit;
};

static struct form forms[MAX_FORMS];
static int nr_forms, nr_rows, nr_unbuilt, nr_other_cpu;	/* rows: with a memory operand */
static struct result *expected;
static uint8_t *device;

/* --- the forms */

/* An address is all they take of their operand. */
static bool accesses_nothing(int op)
{
	return op == OP_LEA || op == OP_NOP || op == OP_PREFETCH || op == OP_INVLPG;
}

static bool uses_stack(int op)
{
	return (op >= OP_PUSH && op <= OP_LEAVE) || op == OP_CALL || op == OP_RET || op == OP_CALL_FAR ||
	       op == OP_RET_FAR || op == OP_IRET;
}

static bool has_explicit(const struct keel_op *row, const struct row_path *path)
{
	return ((row->flags & F_MODRM) && path->form != 1 && !(row->flags & (F_REG | F_MOD3))) ||
	       (row->flags & F_MOFFS);
}

static bool wanted(const struct keel_op *row, const struct row_path *path)
{
	if (row->op <= OP_NOEXEC || accesses_nothing(row->op))
		return false;
	/* Refused: a device holds no FPU state. */
	if (row->op == OP_FXSAVE || row->op == OP_FXRSTOR)
		return false;
	return has_explicit(row, path) || (row->flags & F_STR) || row->op == OP_XLAT || uses_stack(row->op);
}

/*
 * Where CPUs differ by vendor (fuzz_gen.c has the same), far pointers that do not reach the code, and what emulated CPUs
 * do not know.
 */
static bool odd(const struct form *f)
{
	const struct keel_op *row = f->row;
	bool far = row->op == OP_JMP_FAR_IND || row->op == OP_CALL_FAR_IND || row->op == OP_LOAD_FAR_PTR;

	if (far && f->insn.op_size == 8)
		return true;
	if (f->insn.op_size == 2 && (far || row->op == OP_CALL_FAR || row->op == OP_RET_FAR || row->op == OP_IRET ||
				     row->op == OP_RET || row->op == OP_CALL || row->op == OP_CALL_IND ||
				     row->op == OP_JMP_IND))
		return row->op != OP_LOAD_FAR_PTR;
	/* Bochs: 66 with these, and IRET by 32 bits in 64-bit code; of selectors it moves 16 bits, as some CPUs do. */
	if (in_testhost("vmx") &&
	    (((row->op == OP_ENTER || row->op == OP_LEAVE) && f->insn.op_size == 2) ||
	     (row->op == OP_IRET && f->insn.op_size == 4 && f->mode == MODE_LONG) ||
	     ((row->op == OP_PUSH_SREG || row->op == OP_POP_SREG) && f->insn.op_size != 2)))
		return true;
	/* QEMU's TCG overlooks REX.W. */
	if (row->op == OP_MOVBE && (f->insn.prefixes & KEEL_PFX_OPSIZE) && f->insn.op_size == 8 && in_testhost("svm"))
		return true;
	return (f->insn.prefixes & KEEL_PFX_OPSIZE) && f->mode == MODE_LONG && row->src == O_E32;
}

enum { PLAIN, OPSIZE, REX_W, LOCK, REP, VEX_L, VEX_W, VEX_WL, KINDS };

static int put(struct form *f, const struct row_path *path, int kind)
{
	static const uint8_t mandatory[] = { 0, 0x66, 0xf3, 0xf2 };
	uint8_t *p = f->code;

	if (path->vex) {
		*p++ = 0xc4;
		*p++ = 0xe0 | path->map;
		*p++ = (kind == VEX_W || kind == VEX_WL ? 0x80 : 0) | 0x78 |
		       (kind == VEX_L || kind == VEX_WL ? 4 : 0) | (path->prefix > 0 ? path->prefix : 0);
	} else {
		if (kind == LOCK)
			*p++ = 0xf0;
		if (kind == REP)
			*p++ = 0xf3;
		if (kind == OPSIZE)
			*p++ = 0x66;
		if (path->prefix > 0)
			*p++ = mandatory[path->prefix];
		if (kind == REX_W)
			*p++ = 0x48;
		if (path->map != KEEL_MAP_ONE)
			*p++ = 0x0f;
		if (path->map == KEEL_MAP_0F38)
			*p++ = 0x38;
		if (path->map == KEEL_MAP_0F3A)
			*p++ = 0x3a;
	}
	*p++ = path->opcode;
	if (f->row->flags & F_MODRM)
		*p++ = (path->reg >= 0 ? path->reg : 3) << 3 | 6;	/* RBX, (RSI) */
	return p - f->code;
}

static bool kind_fits(const struct keel_op *row, const struct row_path *path, int kind, enum guest_mode mode)
{
	/* QEMU's TCG does not mind 256 bits where there is no such thing. */
	if (path->vex)
		return kind == PLAIN || kind == VEX_W || (kind > REP && row->op == OP_VMOV);
	switch (kind) {
	case PLAIN:
		return true;
	case OPSIZE:
		return path->prefix < 0 && !(row->flags & (F_BYTE | F_F64));
	case REX_W:
		return mode == MODE_LONG && !(row->flags & F_BYTE);
	case LOCK:
		return (row->flags & F_LOCK) && (row->dst == O_E || row->op == OP_CMPXCHG8B);
	case REP:
		return row->flags & F_STR;
	default:
		return false;
	}
}

/* Immediates: a count, a bit, or what the instruction needs to come to our code. */
static void put_immediate(struct form *f)
{
	uint32_t after = AFTER;
	uint8_t *imm = f->code + f->insn.length - f->insn.imm_size;
	uint16_t sel = SEL_CODE32;

	if (f->row->op == OP_CALL_FAR) {
		memcpy(f->code + f->insn.length - 6, &after, 4);
		memcpy(f->code + f->insn.length - 2, &sel, 2);
	} else if (f->row->op != OP_CALL && f->insn.imm_size) {
		*imm = 5;
	}
}

static void add_form(const struct keel_op *row, const struct row_path *path, const char *name)
{
	enum guest_mode mode = path->mode64 == 0 || (row->flags & F_NO64) ? MODE_COMPAT : MODE_LONG;
	enum keel_emu_mode emu_mode = mode == MODE_LONG ? KEEL_EMU_PROT64 : KEEL_EMU_PROT32;
	int kind, seen = 0, built = 0;
	struct form *f;

	if (!wanted(row, path))
		return;
	nr_rows++;
	if (!row_on_this_cpu(row, path)) {
		nr_other_cpu++;
		return;
	}
	for (kind = 0; kind < KINDS; kind++) {
		if (!kind_fits(row, path, kind, mode))
			continue;
		if (nr_forms == MAX_FORMS)
			die("too many forms");
		f = &forms[nr_forms];
		memset(f, 0, sizeof(*f));
		f->row = row;
		f->mode = mode;
		f->rep = kind == REP;
		put(f, path, kind);
		if (keel_decode(&f->insn, f->code, 15, emu_mode) || f->insn.op != row || odd(f))
			continue;
		/* the same size once */
		if (kind <= REX_W && !path->vex) {
			if (seen & f->insn.op_size)
				continue;
			seen |= f->insn.op_size;
		}
		put_immediate(f);
		keel_decode(&f->insn, f->code, 15, emu_mode);
		f->len = f->insn.length;
		snprintf(f->name, sizeof(f->name), "%s, %d bytes%s%s", name, f->insn.op_size,
			 kind == LOCK ? ", lock" : kind == REP ? ", rep" : "",
			 kind == VEX_L || kind == VEX_WL ? ", 256 bits" : "");
		nr_forms++;
		built++;
	}
	if (!built) {
		printf("# row %s cannot be built\n", name);
		nr_unbuilt++;
	}
}

/* --- the start */

static bool is_move(const struct form *f)
{
	return f->row->op >= OP_VMOV && f->row->op <= OP_VMOV_MMX;
}

/* Bytes of the operand, about: half of them are beyond a page's end. */
static int operand_size(const struct form *f)
{
	switch (f->row->op) {
	case OP_PUSHA:
	case OP_POPA:
		return 8 * f->insn.op_size;
	case OP_VMOV ... OP_VMOV_MMX:
		return f->row->flags & F_W_MEM4 ? 4 : f->row->flags & F_W_MEM8 ? 8 : f->insn.vex_l ? 32 : 16;
	case OP_CMPXCHG8B:
		return 2 * f->insn.op_size;
	case OP_SGDT ... OP_LIDT:
		return 6;
	case OP_RET_FAR:
	case OP_IRET:
		return 2 * f->insn.op_size;
	}
	if (uses_stack(f->row->op) && !(f->row->flags & F_MODRM))
		return f->mode == MODE_LONG ? 8 : 4;
	if (f->row->dst == O_E8 || f->row->src == O_E8 || (f->row->flags & F_BYTE) || f->row->op == OP_XLAT)
		return 1;
	return f->row->dst == O_E16 || f->row->src == O_E16 ? 2 : f->insn.op_size;
}

static uint64_t operand_at(const struct form *f, enum place place)
{
	switch (place) {
	case INSIDE:
		return DEVICE + 0x40;
	case CROSSING:
		return DEVICE + PAGE_SIZE - operand_size(f) / 2;
	default:
		return ALIAS + PAGE_SIZE - operand_size(f) / 2;
	}
}

/* What is at the operand, where the instruction wants something that makes sense. */
static int operand_value(const struct form *f, uint64_t v[5])
{
	int size = f->insn.op_size;
	uint16_t code = f->mode == MODE_LONG ? SEL_CODE64 : SEL_CODE32;

	switch (f->row->op) {
	case OP_DIV:
	case OP_IDIV:
		v[0] = 0x3b3b3b3b3b3b3b3b;
		return size;
	case OP_CMPXCHG:
		v[0] = 0x1034;			/* RAX */
		return size;
	case OP_CMPXCHG8B:
		v[0] = 0x1034;
		v[1] = 0;
		return size;
	case OP_BOUND:
		v[0] = 0;
		v[1] = 0x7fff;
		return size;
	case OP_MOV_TO_SREG:
	case OP_POP_SREG:
	case OP_LAR:
	case OP_LSL:
	case OP_VERR:
	case OP_VERW:
		v[0] = SEL_DATA;
		return 8;
	case OP_LLDT:
		v[0] = 0;
		return 2;
	case OP_LTR:
		v[0] = SEL_TSS;
		return 2;
	case OP_LMSW:
		v[0] = 3;
		return 2;
	case OP_LOAD_FAR_PTR:
		v[0] = 0x4321;
		v[1] = SEL_DATA;
		return size;
	case OP_LGDT:
	case OP_LIDT:
		v[0] = 0xfff | (uint64_t)(f->row->op == OP_LGDT ? GUEST_GDT : GUEST_IDT) << 16;
		v[1] = 0;
		return 8;
	case OP_POPF:
		v[0] = 2 | X86_EFLAGS_CF;
		return 8;
	case OP_RET:
	case OP_JMP_IND:
	case OP_CALL_IND:
		v[0] = AFTER;
		return f->mode == MODE_LONG ? 8 : 4;
	case OP_JMP_FAR_IND:
	case OP_CALL_FAR_IND:
	case OP_RET_FAR:
	case OP_IRET:
		v[0] = AFTER;
		v[1] = code;
		v[2] = X86_EFLAGS_FIXED;
		v[3] = GUEST_STACK;
		v[4] = SEL_DATA;
		return size;
	}
	return 0;
}

static void fill_device(const struct form *f, enum place place)
{
	uint64_t v[5] = { 0 }, at = operand_at(f, place) - (place == FAULTING ? ALIAS - PAGE_SIZE : DEVICE);
	int i, size = operand_value(f, v);

	for (i = 0; i < DEVICE_SIZE; i++)
		device[i] = 0x31 + 37 * i + (i >> 8);
	for (i = 0; i < 5 && size; i++)
		if (at + (i + 1) * size <= DEVICE_SIZE)
			memcpy(device + at + i * size, &v[i], size);
}

static void fill_vectors(struct guest *g)
{
	struct kvm_xsave x;
	int i;

	MUST(vm_ioctl(g->cpu.fd, KVM_GET_XSAVE, &x));
	for (i = 0; i < 256; i++) {
		((uint8_t *)x.region)[160 + i] = 3 * i + 1;
		((uint8_t *)x.region)[576 + i] = 5 * i + 2;
	}
	for (i = 0; i < 128; i++)
		((uint8_t *)x.region)[32 + i] = i % 16 < 8 ? 7 * i : i % 16 < 10 ? 0xff : 0;
	*(uint64_t *)((uint8_t *)x.region + 512) |= XFEATURE_FP | XFEATURE_SSE |
						   (__builtin_cpu_supports("avx") ? XFEATURE_YMM : 0);
	MUST(vm_ioctl(g->cpu.fd, KVM_SET_XSAVE, &x));
}

static void read_vectors(struct guest *g, struct result *r)
{
	struct kvm_xsave x;
	uint64_t bv;
	int i;

	MUST(vm_ioctl(g->cpu.fd, KVM_GET_XSAVE, &x));
	bv = *(uint64_t *)((uint8_t *)x.region + 512);
	memset(r->vectors, 0, sizeof(r->vectors));
	if (bv & XFEATURE_SSE)
		memcpy(r->vectors, (uint8_t *)x.region + 160, 256);
	if (bv & XFEATURE_YMM)
		memcpy(r->vectors + 256, (uint8_t *)x.region + 576, 256);
	/* Not every emulated CPU sets the exponents of MMX registers. */
	for (i = 0; i < 8 && (bv & XFEATURE_FP); i++)
		memcpy(r->vectors + 512 + 16 * i, (uint8_t *)x.region + 32 + 16 * i, 8);
}

static void set_registers(struct guest *g, const struct form *f, enum place place)
{
	uint64_t at = operand_at(f, place);
	struct kvm_regs r = {
		.rip = GUEST_CODE, .rsp = GUEST_STACK, .rflags = X86_EFLAGS_FIXED, .rax = 0x1034, .rcx = 5,
		.rbx = RBX_BEFORE, .rsi = at, .rdi = at, .rbp = 0x7777,
	};

	if (f->row->op == OP_XLAT) {
		r.rbx = at;
		r.rax = 0;
	} else if (f->row->flags & F_STR) {
		if (place != FAULTING)
			r.rdi += PAGE_SIZE;
		if (f->rep)
			r.rcx = 3;
		r.rdx = PORT;
	} else if (f->row->op == OP_LEAVE) {
		r.rbp = at;
	} else if (uses_stack(f->row->op) && !(f->row->flags & F_MODRM)) {
		r.rsp = at;
		/* what goes down from the place instead of up */
		if (f->row->op == OP_PUSH || f->row->op == OP_PUSHA || f->row->op == OP_PUSHF ||
		    f->row->op == OP_PUSH_SREG || f->row->op == OP_ENTER || f->row->op == OP_CALL)
			r.rsp += operand_size(f);
		if (f->row->op == OP_CALL_FAR)
			r.rsp += 8;
	}
	vcpu_set_regs(&g->cpu, &r);
}

/* --- the run */

static uint64_t hash(uint64_t h, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	uint64_t word;

	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&word, p, 8);
		h = (h ^ word) * 0x9e3779b97f4a7c15;
		h ^= h >> 29;
	}
	while (len--)
		h = (h ^ *p++) * 0x100000001b3;
	return h;
}

/* The client as the device: true when the guest is to go on. */
static bool serve(struct guest *g, struct result *res)
{
	struct kvm_run *run = g->cpu.run;
	uint64_t at = run->mmio.phys_addr - DEVICE;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	int i;

	if (run->exit_reason == KVM_EXIT_MMIO && at + run->mmio.len <= DEVICE_SIZE) {
		res->accesses++;
		if (run->mmio.is_write)
			memcpy(device + at, run->mmio.data, run->mmio.len);
		else
			memcpy(run->mmio.data, device + at, run->mmio.len);
		return true;
	}
	if (run->exit_reason == KVM_EXIT_IO && run->io.port == PORT) {
		/* Of a REP more than one may come at a time. */
		for (i = 0; i < run->io.size * run->io.count; i++)
			if (run->io.direction == KVM_EXIT_IO_OUT)
				res->port = hash(res->port, data + i, 1);
			else
				data[i] = 0x5a;
		return true;
	}
	return false;
}

static void run_form(struct guest *g, const struct form *f, enum place place, const struct kvm_sregs *sregs,
		     struct result *res)
{
	uint64_t at = operand_at(f, place);
	int n;

	memset(res, 0, sizeof(*res));
	memset(g->mem + GUEST_CODE, 0xf4, 64);
	memcpy(g->mem + GUEST_CODE, f->code, f->len);
	if (f->row->flags & F_MOFFS)
		memcpy(g->mem + GUEST_CODE + f->len - f->insn.addr_size, &at, f->insn.addr_size);
	memcpy(g->mem + GUEST_CODE + f->len, (uint8_t[]){ 0xe6, PORT_DONE }, 2);
	memset(g->mem + GUEST_STACK - 64, 0, 64);
	g->mem[GUEST_GDT + SEL_TSS + 5] = 0x89;
	fill_device(f, place);
	vcpu_set_sregs(&g->cpu, sregs);
	set_registers(g, f, place);
	if (is_move(f))
		fill_vectors(g);
	for (n = 0; n < 100; n++) {
		guest_run(g);
		if (!serve(g, res))
			break;
	}
	res->ran = true;
	if (guest_at_port(g, PORT_EXC)) {
		struct guest_exc e = guest_exc(g);

		res->vector = e.vector;
		res->error = e.error;
	} else if (!guest_at_port(g, PORT_DONE)) {
		res->other_exit = g->cpu.run->exit_reason;
	}
	vcpu_complete_io(&g->cpu);
	res->regs = vcpu_regs(&g->cpu);
	res->sregs = vcpu_sregs(&g->cpu);
	if (is_move(f))
		read_vectors(g, res);
	res->memory = hash(0, device, DEVICE_SIZE);
	g->cpu.run->exit_reason = KVM_EXIT_UNKNOWN;
}

/* What is undefined goes. */
static void normalize(const struct form *f, struct result *r)
{
	u64 gpr[KEEL_NR_GPRS] = { [KEEL_RCX] = f->rep ? 3 : 5 };
	struct kvm_segment *seg = &r->sregs.cs;
	int i;

	r->regs.rflags &= ~(undefined_flags(&f->insn, gpr) | X86_EFLAGS_RF);
	if (f->row->op == OP_LAR)
		r->regs.rbx &= ~0xf0000UL;
	for (i = 0; i < 8; i++)
		if (seg[i].unusable || !seg[i].present)
			seg[i].type = seg[i].present = seg[i].db = seg[i].s = seg[i].l = seg[i].g = seg[i].avl = 0;
	r->sregs.tr.type |= 2;		/* AMD-V may show it as not busy */
	if (!r->sregs.ldt.selector)
		memset(&r->sregs.ldt, 0, sizeof(r->sregs.ldt));
	if (r->vector != PF_VECTOR)
		r->sregs.cr2 = 0;
	/* QEMU's TCG faults with the read of an access that writes as well; Bochs with ARPL's write, that may not come. */
	else if (in_testhost("svm") || f->row->op == OP_ARPL)
		r->error &= ~2UL;
}

/* Emulated CPUs store these in parts, and fault after the first. */
static bool may_tear(const struct form *f, enum place place)
{
	if (place != FAULTING)
		return false;
	return f->row->op == OP_SGDT || f->row->op == OP_SIDT || (f->insn.vex_l && in_testhost("svm"));
}

static const char *difference(const struct form *f, enum place place, const struct result *cpu, const struct result *dev)
{
	static char text[160];
	struct result a = *cpu, b = *dev;
	unsigned int i;

	normalize(f, &a);
	normalize(f, &b);
	if (a.vector != b.vector || a.error != b.error || a.other_exit != b.other_exit) {
		snprintf(text, sizeof(text), "ends: vector %d error %lx exit %u; vector %d error %lx exit %u", a.vector,
			 a.error, a.other_exit, b.vector, b.error, b.other_exit);
		return text;
	}
	for (i = 0; i < sizeof(a.regs) / 8; i++)
		if (((uint64_t *)&a.regs)[i] != ((uint64_t *)&b.regs)[i]) {
			snprintf(text, sizeof(text), "word %u of kvm_regs: %lx, %lx", i, ((uint64_t *)&a.regs)[i],
				 ((uint64_t *)&b.regs)[i]);
			return text;
		}
	for (i = 0; i < sizeof(a.sregs); i++)
		if (((uint8_t *)&a.sregs)[i] != ((uint8_t *)&b.sregs)[i]) {
			snprintf(text, sizeof(text), "byte %u of kvm_sregs: %x, %x", i, ((uint8_t *)&a.sregs)[i],
				 ((uint8_t *)&b.sregs)[i]);
			return text;
		}
	for (i = 0; i < sizeof(a.vectors); i++)
		if (a.vectors[i] != b.vectors[i]) {
			snprintf(text, sizeof(text), "byte %u of the vectors: %x, %x", i, a.vectors[i], b.vectors[i]);
			return text;
		}
	if (a.memory != b.memory && !may_tear(f, place))
		return "what is in the pages";
	return a.port != b.port ? "what went to the port" : NULL;
}

/* Is there something to try at that place? */
static bool has_place(const struct form *f, enum place place)
{
	if (place == INSIDE)
		return true;
	/* QEMU's TCG has half of these done when they fault. */
	if (place == FAULTING && (f->row->op == OP_PUSHA || f->row->op == OP_POPA) && in_testhost("svm"))
		return false;
	return operand_size(f) > 1;
}

/* A CPU with three pages of memory at DEVICE, or (without @slot) with none; the faults have a stack of their own. */
static void setup(struct guest *g, enum guest_mode mode, bool slot, struct kvm_sregs *sregs)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0] = { .value = XFEATURE_FP | XFEATURE_SSE | XFEATURE_YMM } };
	static const uint8_t out[] = { 0xe6, PORT_DONE };
	uint64_t *pte = NULL;
	int i;

	guest_create(g, 0);
	if (slot)
		MUST(vm_set_slot(g->vm, SLOT, 0, DEVICE, DEVICE_SIZE, device));
	guest_set_mode(g, mode);
	guest_load_bytes(g, "", 0);
	memcpy(g->mem + AFTER, out, sizeof(out));
	guest_split_2m(g, 0, PT);
	pte = (uint64_t *)(g->mem + PT);
	pte[ALIAS >> 12] = (DEVICE + PAGE_SIZE) | (pte[0] & 0xfff);
	pte[(ALIAS >> 12) + 1] = 0;
	for (i = 8; i <= 14; i++)
		g->mem[GUEST_IDT + 16 * i + 4] = 1;
	*(uint64_t *)(g->mem + GUEST_TSS + 0x24) = GUEST_STACK2;
	*sregs = vcpu_sregs(&g->cpu);
	if (__builtin_cpu_supports("avx")) {
		sregs->cr4 |= X86_CR4_OSXSAVE;
		vcpu_set_sregs(&g->cpu, sregs);
		MUST(vm_ioctl(g->cpu.fd, KVM_SET_XCRS, &xcrs));
	}
}

FIXTURE(forms) {
};

FIXTURE_VARIANT(forms) {
	enum guest_mode mode;
};

FIXTURE_VARIANT_ADD(forms, long64) { .mode = MODE_LONG };
FIXTURE_VARIANT_ADD(forms, compat) { .mode = MODE_COMPAT };

FIXTURE_SETUP(forms)
{
	int dev = dev_open();
	bool keel = dev_is_keel(dev);

	close(dev);
	if (!keel)
		SKIP(return, "in-tree KVM's emulator has fewer instructions");
	for_each_row(add_form);
	expected = calloc(MAX_FORMS * PLACES, sizeof(*expected));
	device = mem_alloc(DEVICE_SIZE);
}

FIXTURE_TEARDOWN(forms)
{
	free(expected);
}

TEST_F_TIMEOUT(forms, on_a_device, 600)
{
	int i, tried = 0, accesses = 0, bad = 0, rows = 0;
	const struct keel_op *last = NULL;
	struct kvm_sregs sregs;
	struct result res, *want;
	const char *diff;
	struct guest g;
	enum place p;

	EXPECT_EQ(0, nr_unbuilt);
	setup(&g, variant->mode, true, &sregs);
	for (i = 0; i < nr_forms; i++)
		for (p = 0; p < PLACES && forms[i].mode == variant->mode; p++)
			if (has_place(&forms[i], p))
				run_form(&g, &forms[i], p, &sregs, &expected[i * PLACES + p]);
	guest_destroy(&g);

	setup(&g, variant->mode, false, &sregs);
	for (i = 0; i < nr_forms; i++) {
		if (forms[i].mode != variant->mode)
			continue;
		for (p = 0; p < PLACES; p++) {
			if (!has_place(&forms[i], p))
				continue;
			want = &expected[i * PLACES + p];
			run_form(&g, &forms[i], p, &sregs, &res);
			diff = difference(&forms[i], p, want, &res);
			if (diff && bad++ < 70)
				TH_LOG("%s, %s: %s", forms[i].name, place_name[p], diff);
			/* Whatever else: the device was asked, unless the CPU knows no such instruction. */
			if (p == INSIDE && !res.accesses && forms[i].row->op != OP_CLFLUSH &&
			    want->vector != UD_VECTOR && bad++ < 50)
				TH_LOG("%s: no access to the device", forms[i].name);
			tried++;
			accesses += res.accesses;
		}
		rows += forms[i].row != last;
		last = forms[i].row;
	}
	guest_destroy(&g);
	TH_LOG("%d rows of %d (%d not on this CPU), %d trials, %d accesses, %d different", rows, nr_rows, nr_other_cpu,
	       tried, accesses, bad);
	EXPECT_EQ(0, bad);
	EXPECT_LT(0, rows);
}

TEST_HARNESS_MAIN
