// SPDX-License-Identifier: GPL-2.0-only
/*
 * Paging: every paging mode x kind of access x permission bit, on small and on large pages, against a walker of the
 * test's own; with nested paging the CPU is tested, with shadow paging Keel. Protection keys are tested on the CPU, and
 * on Keel's own walks of the guest's tables, as the emulator makes them.
 *
 * The guest writes two entries of its tables itself, and then touches the page that they lead to. Its own code, stack
 * and tables are pages of the kernel's but for the code of user mode, so that SMEP and SMAP can be on.
 *
 * SDM 3A, 4.6 and 4.7; APM 2, 5.6.
 */
#include <stdlib.h>
#include <linux/keel.h>
#include "kselftest_harness.h"
#include "guest.h"

#define P	0x1ULL
#define W	0x2ULL
#define U	0x4ULL
#define A	0x20ULL
#define D	0x40ULL
#define PS	0x80ULL
#define NX	(1ULL << 63)

#define TARGET	0x40200000UL		/* linear */
#define PAGE	0x200000UL		/* where it leads */
#define TABLE	0x60000UL		/* of 4 KiB pages, for TARGET */
#define SPLIT	0x61000UL		/* of 4 KiB pages, for the first 2 or 4 MiB */
#define UCODE	0x70000UL		/* user mode's code */

#define KEY		5		/* of the target, in the matrix of protection keys */
#define LEAF_KEY	((uint64_t)KEY << 59)

#define CR4_PSE		(1UL << 4)
#define CR4_SMEP	(1UL << 20)
#define CR4_SMAP	(1UL << 21)
#define FLAGS_AC	(1UL << 18)
#define FLAGS_IOPL	(3UL << 12)

enum access { READ, WRITE, EXEC, NR_ACCESS };

/* What to do with the target at RDI; the target itself holds the same OUT. */
static const uint8_t code[NR_ACCESS][4] = {
	[READ] = { 0x8a, 0x07, 0xe6, PORT_DONE },	/* movb (%rdi), %al; outb %al, $PORT_DONE */
	[WRITE] = { 0x88, 0x07, 0xe6, PORT_DONE },
	[EXEC] = { 0xff, 0xe7 },			/* jmp *%rdi */
};

/*
 * GUEST_DATA holds the leaf and the entry above it, RSI and RDX say where these go, RCX is the code. RBX: user mode's.
 * A pushed frame of IRET takes AC and IOPL from EFLAGS. R8: with protection keys, R9: PKRU.
 */
GUEST(set64, 64,
	"movq " STR(GUEST_DATA) ", %rax\n" "movq %rax, (%rsi)\n"
	"movq " STR(GUEST_DATA) " + 8, %rax\n" "movq %rax, (%rdx)\n" "invlpg (%rdi)\n"
	"testl %r8d, %r8d\n" "jz 2f\n" "movq %rcx, %r10\n" "movl %r9d, %eax\n" "xorl %ecx, %ecx\n" "xorl %edx, %edx\n"
	"wrpkru\n" "movq %r10, %rcx\n"
	"2: testl %ebx, %ebx\n" "jnz 1f\n" "jmp *%rcx\n"
	"1: pushq $" STR(SEL_UDATA) "\n" "pushq $" STR(GUEST_STACK2) "\n" "pushfq\n" "pushq $" STR(SEL_UCODE64) "\n"
	"pushq %rcx\n" "iretq\n");
GUEST(set32, 32,
	"movl " STR(GUEST_DATA) ", %eax\n" "movl %eax, (%esi)\n" "movl " STR(GUEST_DATA) " + 4, %eax\n" "movl %eax, 4(%esi)\n"
	"movl " STR(GUEST_DATA) " + 8, %eax\n" "movl %eax, (%edx)\n"
	"movl " STR(GUEST_DATA) " + 12, %eax\n" "movl %eax, 4(%edx)\n" "invlpg (%edi)\n"
	"testl %ebx, %ebx\n" "jnz 1f\n" "jmp *%ecx\n"
	"1: movl $" STR(SEL_UDATA) ", %eax\n" "movl %eax, %ds\n"
	"pushl $" STR(SEL_UDATA) "\n" "pushl $" STR(GUEST_STACK2) "\n" "pushfl\n" "pushl $" STR(SEL_UCODE32) "\n"
	"pushl %ecx\n" "iret\n");

struct config {
	enum guest_mode mode;
	bool large;
	bool wp, smep, smap, ac, nx;
	bool keys;
	unsigned int rights;	/* of the key: 1 no access, 2 no write */
	bool tcg;	/* QEMU's TCG walks the guest's tables */
};

struct attempt {
	uint64_t leaf, upper;
	enum access access;
	bool user;
};

#define NO_FAULT	(-1)

/* The walker: the error code, or NO_FAULT. */
static int expected(const struct config *c, const struct attempt *a)
{
	uint64_t all = c->large ? a->leaf : a->leaf & a->upper, no_exec = c->large ? a->leaf : a->leaf | a->upper;
	int error = (a->access == WRITE ? 2 : 0) | (a->user ? 4 : 0);
	bool write = all & W, user = all & U, ok, key;

	if (a->access == EXEC && (c->nx || c->smep))
		error |= 0x10;
	/* From the top down: what is not present ends the walk, and so does what is reserved. */
	if (!c->large && !(a->upper & P))
		return error;
	if (!c->large && !c->nx && (a->upper & NX))
		return error | 9;
	if (!(a->leaf & P))
		return error;
	if (!c->nx && (a->leaf & NX))
		return error | 9;

	switch (a->access) {
	case EXEC:
		ok = !(no_exec & NX) && (a->user ? user : !(user && c->smep));
		break;
	case WRITE:
		ok = a->user ? user && write : write || !c->wp;
		break;
	default:
		ok = !a->user || user;
	}
	if (a->access != EXEC && !a->user && user && c->smap && !c->ac)
		ok = false;
	key = c->keys && a->access != EXEC && user &&
	      ((c->rights & 1) || ((c->rights & 2) && a->access == WRITE && (a->user || c->wp)));
	if (key) {
		ok = false;
		error |= 0x20;
	}
	return ok ? NO_FAULT : error | 1;
}

static int entry_size(const struct config *c)
{
	return c->mode == MODE_PAGE32 ? 4 : 8;
}

static uint64_t get_entry(struct guest *g, const struct config *c, uint64_t gpa)
{
	return entry_size(c) == 4 ? *(uint32_t *)(g->mem + gpa) : *(uint64_t *)(g->mem + gpa);
}

static void set_entry(struct guest *g, const struct config *c, uint64_t gpa, uint64_t val)
{
	memcpy(g->mem + gpa, &val, entry_size(c));
}

/* The entry of TARGET in the directory, where a table hangs or a large page is. */
static uint64_t directory_entry(const struct config *c)
{
	if (c->mode == MODE_PAGE32)
		return GUEST_PD32 + (TARGET >> 22) * 4;
	return GUEST_PD + (TARGET >> 21) * 8;
}

static uint64_t table_entry(const struct config *c)
{
	return TABLE + (TARGET >> 12) % (4096 / entry_size(c)) * entry_size(c);
}

static void set_up(struct guest *g, const struct config *c)
{
	uint64_t i, n = 4096 / entry_size(c);
	struct kvm_sregs s;

	guest_start(g, c->mode, c->mode == MODE_LONG ? BLOB(set64) : BLOB(set32));
	for (i = 0; i < n; i++)
		set_entry(g, c, SPLIT + i * entry_size(c), i << 12 | P | W |
			  (i == UCODE >> 12 || i == (GUEST_STACK2 - 1) >> 12 ? U : 0));
	set_entry(g, c, c->mode == MODE_PAGE32 ? GUEST_PD32 : GUEST_PD, SPLIT | P | W | U);
	memset(g->mem + TABLE, 0, 4096);
	for (i = 0; i < NR_ACCESS; i++)
		memcpy(g->mem + UCODE + i * 16, code[i], 4);
	for (i = 0; i < NR_ACCESS; i++)
		memcpy(g->mem + GUEST_CODE + 0x800 + i * 16, code[i], 4);
	s = vcpu_sregs(&g->cpu);
	s.cr0 = c->wp ? s.cr0 | X86_CR0_WP : s.cr0 & ~X86_CR0_WP;
	s.cr4 |= CR4_PSE | (c->smep ? CR4_SMEP : 0) | (c->smap ? CR4_SMAP : 0) | (c->keys ? X86_CR4_PKE : 0);
	s.efer = c->nx ? s.efer | X86_EFER_NX : s.efer & ~X86_EFER_NX;
	if (host_is_amd())
		s.tr.type = c->mode == MODE_LONG ? 0xb : 9;
	vcpu_set_sregs(&g->cpu, &s);
}

static void start(struct guest *g, const struct config *c, const struct attempt *a)
{
	uint64_t leaf_gpa = c->large ? directory_entry(c) : table_entry(c), spare = TABLE + 0xff0;
	uint64_t *data = (uint64_t *)(g->mem + GUEST_DATA);
	struct kvm_regs r = { 0 };

	/* A page of 4 MiB begins 2 MiB before the target. */
	data[0] = a->leaf | (c->keys ? LEAF_KEY : 0) | (c->large ? PS : 0) | (c->large && c->mode == MODE_PAGE32 ? 0 : PAGE);
	data[1] = c->large ? 0 : a->upper | TABLE;
	r.rip = GUEST_CODE;
	r.rsp = GUEST_STACK;
	r.rflags = X86_EFLAGS_FIXED | FLAGS_IOPL | (c->ac ? FLAGS_AC : 0);
	r.rdi = TARGET;
	r.rsi = leaf_gpa;
	r.rdx = c->large ? spare : directory_entry(c);
	r.rcx = (a->user ? UCODE : GUEST_CODE + 0x800) + a->access * 16;
	r.rbx = a->user;
	r.r8 = c->keys;
	r.r9 = c->rights << 2 * KEY;
	vcpu_set_regs(&g->cpu, &r);
}

static void try(struct __test_metadata *_metadata, struct guest *g, const struct config *c, const struct attempt *a,
		const struct kvm_sregs *home)
{
	uint64_t leaf_gpa = c->large ? directory_entry(c) : table_entry(c), leaf;
	int want = expected(c, a), got;

	memcpy(g->mem + PAGE, code[READ] + 2, 2);
	start(g, c, a);
	ASSERT_EQ(KVM_EXIT_IO, guest_run(g)) {
		TH_LOG("mode %s large %d leaf %llx upper %llx access %d user %d", guest_mode_name[c->mode], c->large,
		       (unsigned long long)a->leaf, (unsigned long long)a->upper, a->access, a->user);
		guest_dump(g);
	}
	got = NO_FAULT;
	if (guest_at_port(g, PORT_EXC)) {
		struct guest_exc e = guest_exc(g);

		ASSERT_EQ(PF_VECTOR, e.vector);
		ASSERT_EQ(TARGET, vcpu_sregs(&g->cpu).cr2);
		got = e.error;
		/* QEMU's TCG leaves the present bit out of reserved-bit faults. */
		if (c->tcg && got & 8)
			got |= 1;
	} else {
		ASSERT_TRUE(guest_at_port(g, PORT_DONE));
	}
	leaf = get_entry(g, c, leaf_gpa);
	ASSERT_EQ(want, got) {
		TH_LOG("%s%s: WP %d SMEP %d SMAP %d AC %d NX %d key's rights %d: leaf %llx upper %llx access %d user %d",
		       guest_mode_name[c->mode], c->large ? ", large" : "", c->wp, c->smep, c->smap, c->ac, c->nx, c->rights,
		       (unsigned long long)a->leaf, (unsigned long long)a->upper, a->access, a->user);
	}
	if (want == NO_FAULT) {
		ASSERT_EQ(A | (a->access == WRITE ? D : 0), leaf & (A | D));
	} else {
		ASSERT_EQ(0, leaf & D);
	}
	vcpu_complete_io(&g->cpu);
	if (a->user)
		vcpu_set_sregs(&g->cpu, home);	/* back in the kernel */
}

static void all_bits(struct __test_metadata *_metadata, struct guest *g, const struct config *c)
{
	unsigned int nr_leaf = c->mode == MODE_PAGE32 ? 8 : 16, nr_upper = c->large ? 1 : nr_leaf, i, j;
	struct kvm_sregs home;
	struct attempt a;

	set_up(g, c);
	home = vcpu_sregs(&g->cpu);
	for (i = 0; i < nr_leaf; i++) {
		for (j = 0; j < nr_upper; j++) {
			/* Entries that are not present are few enough. */
			if (!(i & 1) && (i != 6 || j != 7))
				continue;
			if (!(j & 1) && !c->large && (j != 6 || i != 7))
				continue;
			/* Above, a bit at a time is enough. */
			if (!c->large && (j == 1 || j == 11 || j == 13))
				continue;
			a.leaf = (i & 7) | (i & 8 ? NX : 0);
			a.upper = (j & 7) | (j & 8 ? NX : 0);
			for (a.access = READ; a.access < NR_ACCESS; a.access++) {
				a.user = false;
				try(_metadata, g, c, &a, &home);
				a.user = true;
				try(_metadata, g, c, &a, &home);
			}
		}
	}
}

static void matrix(struct __test_metadata *_metadata, enum guest_mode mode, bool large)
{
	struct config c = { .mode = mode, .large = large };
	unsigned int i, count = 0;
	struct kvm_cpuid_entry2 *leaf7;
	struct kvm_cpuid2 *cpuid;
	bool has_smep, has_smap;
	struct guest g;

	guest_create(&g, 0);
	cpuid = supported_cpuid(g.dev);
	leaf7 = cpuid_find(cpuid, 7, 0);
	has_smep = leaf7 && leaf7->ebx & 1 << 7;
	has_smap = leaf7 && leaf7->ebx & 1 << 20;
	free(cpuid);
	c.tcg = in_testhost("svm") && nested_paging(g.dev);
	for (i = 0; i < 32; i++) {
		c.wp = i & 1;
		c.smep = i & 2;
		c.smap = i & 4;
		c.ac = i & 8;
		c.nx = i & 16;
		if (c.ac && !c.smap)
			continue;
		if (c.nx && mode == MODE_PAGE32)
			continue;
		if ((c.smep && !has_smep) || (c.smap && !has_smap))
			continue;
		all_bits(_metadata, &g, &c);
		count++;
	}
	EXPECT_LE(2, count);
	guest_destroy(&g);
}

FIXTURE(paging)
{
};

FIXTURE_VARIANT(paging)
{
	enum guest_mode mode;
	bool large;
};

#define VARIANT(name, mode_, large_) \
	FIXTURE_VARIANT_ADD(paging, name) { .mode = mode_, .large = large_ }
VARIANT(bits32, MODE_PAGE32, false);
VARIANT(bits32_large, MODE_PAGE32, true);
VARIANT(pae, MODE_PAE, false);
VARIANT(pae_large, MODE_PAE, true);
VARIANT(long_mode, MODE_LONG, false);
VARIANT(long_mode_large, MODE_LONG, true);

FIXTURE_SETUP(paging)
{
}

FIXTURE_TEARDOWN(paging)
{
}

TEST_F_TIMEOUT(paging, matrix, 600)
{
	matrix(_metadata, variant->mode, variant->large);
}

/* Protection keys are long mode's; who has them has all the rest. */
static void all_keys(struct __test_metadata *_metadata, bool large, unsigned int flags)
{
	struct config c = { .mode = MODE_LONG, .large = large, .smep = true, .nx = true, .keys = true };
	struct kvm_cpuid_entry2 *leaf7;
	struct kvm_cpuid2 *cpuid;
	struct guest g;
	unsigned int i;
	bool has;

	guest_create(&g, flags);
	cpuid = supported_cpuid(g.dev);
	leaf7 = cpuid_find(cpuid, 7, 0);
	has = leaf7 && leaf7->ecx & 1 << 3;
	free(cpuid);
	if (!has) {
		guest_destroy(&g);
		SKIP(return, "no protection keys");
	}
	c.tcg = in_testhost("svm") && !(flags & GUEST_INTERPRETED);
	for (i = 0; i < 32; i++) {
		c.wp = i & 1;
		c.smap = i & 2;
		c.ac = i & 4;
		c.rights = i >> 3;
		if (c.ac && !c.smap)
			continue;
		all_bits(_metadata, &g, &c);
	}
	guest_destroy(&g);
}

TEST(keys)
{
	all_keys(_metadata, false, 0);
	all_keys(_metadata, true, 0);
}

/* What the emulator accesses, Keel has translated. */
TEST(keys_in_walks)
{
	struct keel_execution exec = { .version = KEEL_EXECUTION_VERSION, .size = sizeof(exec) };
	int dev = dev_open(), vm = vm_create(dev);
	bool has = !vm_ioctl(vm, KEEL_SET_EXECUTION, &exec);

	close(vm);
	close(dev);
	if (!has)
		SKIP(return, "no interpreted execution here");
	all_keys(_metadata, false, GUEST_INTERPRETED);
	all_keys(_metadata, true, GUEST_INTERPRETED);
}

TEST_HARNESS_MAIN
