// SPDX-License-Identifier: GPL-2.0-only
/*
 * The making of small guests; see guest.h for the memory layout. Descriptor formats: SDM volume 3, 3.4.5, 5.8.3
 * and 6.14.1; page tables: SDM volume 3, 4.3 to 4.5.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/keel.h>
#include "guest.h"

#define PTE_P		0x01
#define PTE_RW		0x02
#define PTE_US		0x04
#define PTE_PS		0x80

const char *const guest_mode_name[NR_MODES] = {
	"real", "prot16", "prot32", "page32", "pae", "compat", "long",
};

int guest_mode_bits(enum guest_mode mode)
{
	return mode <= MODE_PROT16 ? 16 : mode == MODE_LONG ? 64 : 32;
}

/* By the flags, or for a whole program by the environment: KEEL_EXECUTION=1 interpreted, 2 trapped. */
static void set_execution(struct guest *g, unsigned int flags)
{
	const char *env = getenv("KEEL_EXECUTION");
	struct keel_execution exec = {
		.version = KEEL_EXECUTION_VERSION,
		.size = sizeof(exec),
		.mode = flags & GUEST_INTERPRETED ? KEEL_EXECUTION_INTERPRETED :
			flags & GUEST_TRAPPED ? KEEL_EXECUTION_TRAPPED : env ? strtoul(env, NULL, 0) : 0,
	};

	if (exec.mode != KEEL_EXECUTION_DIRECT)
		MUST(vm_ioctl(g->vm, KEEL_SET_EXECUTION, &exec));
}

void guest_create(struct guest *g, unsigned int flags)
{
	memset(g, 0, sizeof(*g));
	g->dev = dev_open();
	g->vm = vm_create(g->dev);
	set_execution(g, flags);
	g->mem_size = GUEST_MEM_SIZE;
	g->mem = mem_alloc(g->mem_size);
	/* Only VMX without unrestricted guests needs it; SVM takes it too. */
	if (vm_cap(g->vm, KVM_CAP_SET_TSS_ADDR))
		MUST(vm_ioctl(g->vm, KVM_SET_TSS_ADDR, 0xfffbd000UL));
	if (flags & GUEST_IRQCHIP)
		MUST(vm_ioctl(g->vm, KVM_CREATE_IRQCHIP, 0));
	if (flags & GUEST_SPLIT) {
		struct kvm_enable_cap cap = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = 24 };

		MUST(vm_ioctl(g->vm, KVM_ENABLE_CAP, &cap));
	}
	if (flags & GUEST_PIT) {
		struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

		MUST(vm_ioctl(g->vm, KVM_CREATE_PIT2, &pit));
	}
	MUST(vm_set_slot(g->vm, 0, 0, 0, GUEST_HOLE, g->mem));
	MUST(vm_set_slot(g->vm, 1, 0, GUEST_HIGH, g->mem_size - GUEST_HIGH, g->mem + GUEST_HIGH));
	vcpu_create(&g->cpu, g->dev, g->vm, 0);
	vcpu_set_supported_cpuid(&g->cpu, g->dev);
}

void guest_destroy(struct guest *g)
{
	vcpu_close(&g->cpu);
	close(g->vm);
	close(g->dev);
	munmap(g->mem, g->mem_size);
}

static uint64_t descriptor(uint32_t base, uint32_t limit, uint16_t attr)
{
	/* @attr: bits 0-7 the access byte, 12-15 the flags nibble (G, D, L, AVL) */
	return (limit & 0xffffULL) | (base & 0xffffffULL) << 16 | (uint64_t)(attr & 0xff) << 40 |
	       (uint64_t)(limit >> 16 & 0xf) << 48 | (uint64_t)(attr >> 12 & 0xf) << 52 |
	       (uint64_t)(base >> 24) << 56;
}

void guest_set_descriptor(struct guest *g, uint16_t sel, uint32_t base, uint32_t limit, uint16_t attr)
{
	((uint64_t *)(g->mem + GUEST_GDT))[sel / 8] = descriptor(base, limit, attr);
}

static void write_gdt(struct guest *g)
{
	uint64_t *gdt = (void *)(g->mem + GUEST_GDT);
	bool lm = g->mode == MODE_LONG || g->mode == MODE_COMPAT;

	memset(gdt, 0, PAGE_SIZE);
	gdt[SEL_CODE64 / 8] = descriptor(0, 0xfffff, 0xa09b);
	gdt[SEL_DATA / 8] = descriptor(0, 0xfffff, 0xc093);
	gdt[SEL_CODE32 / 8] = descriptor(0, 0xfffff, 0xc09b);
	gdt[SEL_CODE16 / 8] = descriptor(GUEST_CODE, 0xffff, 0x009b);
	gdt[SEL_DATA16 / 8] = descriptor(GUEST_DATA, 0xffff, 0x0093);
	gdt[SEL_UCODE32 / 8] = descriptor(0, 0xfffff, 0xc0fb);
	gdt[SEL_UDATA / 8] = descriptor(0, 0xfffff, 0xc0f3);
	gdt[SEL_UCODE64 / 8] = descriptor(0, 0xfffff, 0xa0fb);
	gdt[SEL_TSS / 8] = descriptor(GUEST_TSS, lm ? 0x67 : 0x6b, 0x008b);
	gdt[SEL_ABSENT / 8] = descriptor(0, 0xfffff, 0xc013);
	gdt[SEL_STACK16 / 8] = descriptor(GUEST_STACK & ~0xffff, 0xffff, 0x0093);
}

static void write_tss(struct guest *g)
{
	uint8_t *tss = g->mem + GUEST_TSS;

	memset(tss, 0, PAGE_SIZE);
	if (g->mode == MODE_LONG || g->mode == MODE_COMPAT) {
		*(uint64_t *)(tss + 4) = GUEST_STACK;		/* RSP0 */
		*(uint64_t *)(tss + 0x24) = GUEST_STACK2;	/* IST1 */
	} else {
		*(uint32_t *)(tss + 4) = GUEST_STACK;		/* ESP0, SS0 */
		*(uint32_t *)(tss + 8) = SEL_DATA;
	}
	*(uint16_t *)(tss + 0x66) = 0x68;	/* no I/O bitmap within the limit */
}

static void write_page_tables(struct guest *g)
{
	uint64_t *pml4 = (void *)(g->mem + GUEST_PML4), *pdpt = (void *)(g->mem + GUEST_PDPT);
	uint64_t *pd = (void *)(g->mem + GUEST_PD), *pae = (void *)(g->mem + GUEST_PAE_PDPT);
	uint32_t *pd32 = (void *)(g->mem + GUEST_PD32);
	uint64_t i;

	memset(pml4, 0, GUEST_STUBS - GUEST_PML4);
	pml4[0] = GUEST_PDPT | PTE_P | PTE_RW | PTE_US;
	for (i = 0; i < 4; i++) {
		pdpt[i] = (GUEST_PD + i * PAGE_SIZE) | PTE_P | PTE_RW | PTE_US;
		pae[i] = (GUEST_PD + i * PAGE_SIZE) | PTE_P;
	}
	for (i = 0; i < 2048; i++)
		pd[i] = i << 21 | PTE_P | PTE_RW | PTE_US | PTE_PS;
	for (i = 0; i < 1024; i++)
		pd32[i] = i << 22 | PTE_P | PTE_RW | PTE_US | PTE_PS;
}

/* Vectors for which the CPU pushes an error code. */
static bool has_error_code(int vector)
{
	return vector == DF_VECTOR || (vector >= TS_VECTOR && vector <= PF_VECTOR) || vector == AC_VECTOR ||
	       vector == 21;
}

void guest_set_gate(struct guest *g, int vector, uint64_t addr)
{
	bool lm = g->mode == MODE_LONG || g->mode == MODE_COMPAT;

	if (g->mode == MODE_REAL) {
		uint16_t *ivt = (void *)(g->mem + vector * 4);

		/* Blobs run with CS = GUEST_CODE >> 4. */
		ivt[0] = addr >= GUEST_CODE ? addr - GUEST_CODE : addr;
		ivt[1] = addr >= GUEST_CODE ? GUEST_CODE >> 4 : 0;
		return;
	}
	if (lm) {
		uint64_t *gate = (void *)(g->mem + GUEST_IDT + vector * 16);

		gate[0] = (addr & 0xffff) | SEL_CODE64 << 16 | 0x8eULL << 40 | (addr >> 16 & 0xffff) << 48;
		gate[1] = addr >> 32;
	} else {
		uint64_t *gate = (void *)(g->mem + GUEST_IDT + vector * 8);

		gate[0] = (addr & 0xffff) | SEL_CODE32 << 16 | 0x8eULL << 40 | (addr >> 16 & 0xffff) << 48;
	}
}

static void write_idt(struct guest *g)
{
	static const uint8_t end16[] = { 0xe6, PORT_EXC, 0x83, 0xc4, 0x02, 0xcf };
	static const uint8_t end32[] = { 0xe6, PORT_EXC, 0x83, 0xc4, 0x08, 0xcf };
	static const uint8_t end64[] = { 0xe6, PORT_EXC, 0x48, 0x83, 0xc4, 0x10, 0x48, 0xcf };
	uint8_t *common = g->mem + GUEST_STUBS + 256 * 16;
	int v;

	memset(g->mem + GUEST_IDT, 0, PAGE_SIZE);
	for (v = 0; v < 256; v++) {
		uint8_t *p = g->mem + GUEST_STUBS + v * 16;

		if (g->mode == MODE_REAL) {
			*p++ = 0x68;		/* push imm16 */
			*(uint16_t *)p = v;
			p += 2;
			*p++ = 0xe9;		/* jmp rel16 */
			*(uint16_t *)p = common - (p + 2);
		} else {
			if (!has_error_code(v)) {
				*p++ = 0x6a;	/* push imm8 */
				*p++ = 0;
			}
			*p++ = 0x68;		/* push imm32 */
			*(uint32_t *)p = v;
			p += 4;
			*p++ = 0xe9;		/* jmp rel32 */
			*(uint32_t *)p = common - (p + 4);
		}
		guest_set_gate(g, v, GUEST_STUBS + v * 16);
	}
	if (g->mode == MODE_REAL)
		memcpy(common, end16, sizeof(end16));
	else if (g->mode == MODE_LONG || g->mode == MODE_COMPAT)
		memcpy(common, end64, sizeof(end64));
	else
		memcpy(common, end32, sizeof(end32));
}

static void set_seg(struct kvm_segment *seg, uint16_t sel, uint32_t base, uint32_t limit, int type, int db, int l)
{
	memset(seg, 0, sizeof(*seg));
	seg->selector = sel;
	seg->base = base;
	seg->limit = limit;
	seg->type = type;
	seg->present = 1;
	seg->s = 1;
	seg->dpl = sel & 3;
	seg->db = db;
	seg->l = l;
	seg->g = limit > 0xfffff;
}

static void set_data_segs(struct kvm_sregs *s, uint16_t sel, uint32_t base, uint32_t limit, int db)
{
	set_seg(&s->ds, sel, base, limit, 3, db, 0);
	s->es = s->fs = s->gs = s->ds;
}

static void set_segments(struct kvm_sregs *s, enum guest_mode mode)
{
	switch (mode) {
	case MODE_REAL:
		set_seg(&s->cs, GUEST_CODE >> 4, GUEST_CODE, 0xffff, 11, 0, 0);
		set_data_segs(s, GUEST_DATA >> 4, GUEST_DATA, 0xffff, 0);
		set_seg(&s->ss, GUEST_STACK >> 16 << 12, GUEST_STACK & ~0xffff, 0xffff, 3, 0, 0);
		s->cs.dpl = s->ds.dpl = s->es.dpl = s->fs.dpl = s->gs.dpl = s->ss.dpl = 0;
		break;
	case MODE_PROT16:
		set_seg(&s->cs, SEL_CODE16, GUEST_CODE, 0xffff, 11, 0, 0);
		set_data_segs(s, SEL_DATA16, GUEST_DATA, 0xffff, 0);
		set_seg(&s->ss, SEL_STACK16, GUEST_STACK & ~0xffff, 0xffff, 3, 0, 0);
		break;
	case MODE_LONG:
		set_seg(&s->cs, SEL_CODE64, 0, 0xffffffff, 11, 0, 1);
		set_data_segs(s, SEL_DATA, 0, 0xffffffff, 1);
		set_seg(&s->ss, SEL_DATA, 0, 0xffffffff, 3, 1, 0);
		break;
	default:
		set_seg(&s->cs, SEL_CODE32, 0, 0xffffffff, 11, 1, 0);
		set_data_segs(s, SEL_DATA, 0, 0xffffffff, 1);
		set_seg(&s->ss, SEL_DATA, 0, 0xffffffff, 3, 1, 0);
	}
}

void guest_set_mode(struct guest *g, enum guest_mode mode)
{
	bool lm = mode == MODE_LONG || mode == MODE_COMPAT;
	struct kvm_sregs s;

	/* An I/O instruction that waits for its end would end in the new guest's registers. */
	if (g->cpu.run->exit_reason == KVM_EXIT_IO || g->cpu.run->exit_reason == KVM_EXIT_MMIO)
		vcpu_complete_io(&g->cpu);
	g->cpu.run->exit_reason = KVM_EXIT_UNKNOWN;
	s = vcpu_sregs(&g->cpu);
	g->mode = mode;
	memset(g->mem, 0, PAGE_SIZE);
	write_gdt(g);
	write_tss(g);
	write_page_tables(g);
	write_idt(g);
	set_segments(&s, mode);

	s.cr0 = X86_CR0_ET | X86_CR0_NE | X86_CR0_MP;
	s.cr2 = s.cr3 = s.cr4 = s.cr8 = s.efer = 0;
	s.gdt.base = GUEST_GDT;
	s.gdt.limit = 0xfff;
	s.idt.base = mode == MODE_REAL ? 0 : GUEST_IDT;
	s.idt.limit = mode == MODE_REAL ? 0x3ff : lm ? 0xfff : 0x7ff;
	if (mode != MODE_REAL) {
		s.cr0 |= X86_CR0_PE | X86_CR0_WP;
		s.tr = (struct kvm_segment) {
			.selector = SEL_TSS, .base = GUEST_TSS, .limit = lm ? 0x67 : 0x6b, .type = 11, .present = 1,
		};
	}
	s.cr4 = X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
	if (mode == MODE_PAGE32) {
		s.cr4 |= X86_CR4_PSE;
		s.cr3 = GUEST_PD32;
	} else if (mode == MODE_PAE) {
		s.cr4 |= X86_CR4_PAE;
		s.cr3 = GUEST_PAE_PDPT;
	} else if (lm) {
		s.cr4 |= X86_CR4_PAE;
		s.cr3 = GUEST_PML4;
		s.efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NX | X86_EFER_SCE;
	}
	if (s.cr3)
		s.cr0 |= X86_CR0_PG;
	vcpu_set_sregs(&g->cpu, &s);
}

void guest_reset_regs(struct guest *g)
{
	int bits = guest_mode_bits(g->mode);
	struct kvm_regs r = {
		.rip = bits == 16 ? 0 : GUEST_CODE,
		.rsp = bits == 16 ? GUEST_STACK & 0xffff : GUEST_STACK,
		.rflags = X86_EFLAGS_FIXED,
	};

	vcpu_set_regs(&g->cpu, &r);
}

void guest_load_bytes(struct guest *g, const void *code, size_t len)
{
	if (len > 0x10000)
		die("a blob of %zu bytes", len);
	memset(g->mem + GUEST_CODE, 0xf4, 0x10000);
	memcpy(g->mem + GUEST_CODE, code, len);
}

void guest_load(struct guest *g, struct guest_blob blob)
{
	guest_load_bytes(g, blob.start, blob.end - blob.start);
}

void guest_start(struct guest *g, enum guest_mode mode, struct guest_blob blob)
{
	guest_set_mode(g, mode);
	guest_load(g, blob);
	guest_reset_regs(g);
}

long guest_run(struct guest *g)
{
	long ret;

	g->cpu.run->exit_reason = KVM_EXIT_UNKNOWN;
	ret = vcpu_run(&g->cpu);
	return ret ? ret : g->cpu.run->exit_reason;
}

long guest_run_mmio(struct guest *g, uint8_t *page)
{
	struct kvm_run *run = g->cpu.run;
	int n;

	for (n = 0; n < 1000; n++) {
		long ret = guest_run(g);
		uint64_t offset = run->mmio.phys_addr - GUEST_MMIO;

		if (ret != KVM_EXIT_MMIO)
			return ret;
		if (offset + run->mmio.len > PAGE_SIZE)
			die("an access to device address %llx", run->mmio.phys_addr);
		if (run->mmio.is_write)
			memcpy(page + offset, run->mmio.data, run->mmio.len);
		else
			memcpy(run->mmio.data, page + offset, run->mmio.len);
	}
	die("device accesses without end");
}

bool guest_at_port(struct guest *g, uint16_t port)
{
	struct kvm_run *run = g->cpu.run;

	return run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT && run->io.port == port &&
	       run->io.size == 1 && run->io.count == 1;
}

struct guest_exc guest_exc(struct guest *g)
{
	struct kvm_regs r = vcpu_regs(&g->cpu);
	struct kvm_sregs s = vcpu_sregs(&g->cpu);
	struct guest_exc e = { 0 };
	uint8_t *sp;
	int i;

	if (!guest_at_port(g, PORT_EXC)) {
		guest_dump(g);
		die("the guest is not at an exception");
	}
	if (g->mode == MODE_REAL) {
		sp = g->mem + s.ss.base + (r.rsp & 0xffff);
		e.vector = *(uint16_t *)sp;
		e.rip = *(uint16_t *)(sp + 2);
		e.cs = *(uint16_t *)(sp + 4);
		e.rflags = *(uint16_t *)(sp + 6);
		e.rsp = r.rsp + 8;
		return e;
	}
	sp = g->mem + r.rsp;
	if (g->mode == MODE_LONG || g->mode == MODE_COMPAT) {
		memcpy(&e, sp, sizeof(e));
		return e;
	}
	for (i = 0; i < 7; i++)
		((uint64_t *)&e)[i] = ((uint32_t *)sp)[i];
	if (!(e.cs & 3)) {	/* no stack switch: the CPU pushed no stack pointer */
		e.rsp = r.rsp + 5 * 4;
		e.ss = s.ss.selector;
	}
	return e;
}

void guest_dump(struct guest *g)
{
	struct kvm_run *run = g->cpu.run;
	struct kvm_regs r;
	struct kvm_sregs s;
	uint64_t lin;
	int i;

	if (vm_ioctl(g->cpu.fd, KVM_GET_REGS, &r) || vm_ioctl(g->cpu.fd, KVM_GET_SREGS, &s))
		return;
	fprintf(stderr, "# %s: exit reason %u", guest_mode_name[g->mode], run->exit_reason);
	if (run->exit_reason == KVM_EXIT_IO)
		fprintf(stderr, ", port %x size %u count %u %s", run->io.port, run->io.size, run->io.count,
			run->io.direction ? "out" : "in");
	if (run->exit_reason == KVM_EXIT_MMIO)
		fprintf(stderr, ", gpa %llx len %u write %u", run->mmio.phys_addr, run->mmio.len, run->mmio.is_write);
	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		fprintf(stderr, ", suberror %u", run->internal.suberror);
	fprintf(stderr, "\n# rip %llx rsp %llx rflags %llx rax %llx rbx %llx rcx %llx rdx %llx rsi %llx rdi %llx\n",
		r.rip, r.rsp, r.rflags, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi);
	fprintf(stderr, "# cs %x base %llx cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx apic_base %llx\n", s.cs.selector,
		s.cs.base, s.cr0, s.cr2, s.cr3, s.cr4, s.efer, s.apic_base);
	lin = s.cs.base + r.rip;
	if (lin < g->mem_size - 16) {
		fprintf(stderr, "# bytes at rip:");
		for (i = 0; i < 16; i++)
			fprintf(stderr, " %02x", g->mem[lin + i]);
		fputc('\n', stderr);
	}
	if (guest_at_port(g, PORT_EXC)) {
		struct guest_exc e = guest_exc(g);

		fprintf(stderr, "# exception %lu error %lx rip %lx cs %lx rflags %lx\n", e.vector, e.error, e.rip, e.cs,
			e.rflags);
	}
}

uint64_t *guest_pte(struct guest *g, uint64_t gpa)
{
	return (uint64_t *)(g->mem + GUEST_PD) + (gpa >> 21);
}

/* Replaces a 2 MiB leaf by a page table at @table that maps the same range. */
void guest_split_2m(struct guest *g, uint64_t gpa, uint64_t table)
{
	uint64_t *pd = guest_pte(g, gpa), *pt = (void *)(g->mem + table), i;

	for (i = 0; i < 512; i++)
		pt[i] = (gpa & ~0x1fffffUL) | i << 12 | PTE_P | PTE_RW | PTE_US;
	*pd = table | PTE_P | PTE_RW | PTE_US;
}
