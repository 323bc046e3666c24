// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel loaders: good images land where they should, hostile ones are refused.
 *
 * Images are built in malloc()ed blocks of their exact size, so that the address sanitizer sees
 * the first byte read beyond one. The last tests are a fuzzer with a fixed seed: whatever it makes
 * of an image, a loader either refuses it or leaves a kernel that lies within guest memory.
 */
#include <elf.h>
#include <errno.h>
#include <linux/kvm.h>

#include "boot.h"
#include "tap.h"

#define MEM		(64 * KEEL_MIB)
#define SETUP_SECTS	4
#define SETUP_SIZE	((SETUP_SECTS + 1) * 512)
#define PAYLOAD		0x3000
#define IMAGE		(SETUP_SIZE + PAYLOAD)
#define FUZZ_ROUNDS	20000

static struct keel_memory *memory(uint64_t size)
{
	struct keel_memory *mem;

	if (keel_memory_create(size, &mem)) {
		printf("Bail out! %s\n", keel_error());
		exit(1);
	}
	return mem;
}

static uint8_t *bzimage(void)
{
	uint8_t *image = calloc(1, IMAGE);
	struct setup_header *h = (struct setup_header *)(image + 0x1f1);

	h->setup_sects = SETUP_SECTS;
	h->boot_flag = 0xaa55;
	h->jump = 0x66eb;			/* the header ends at 0x268 */
	memcpy(&h->header, "HdrS", 4);
	h->version = 0x020f;
	h->loadflags = LOADED_HIGH;
	h->initrd_addr_max = 0x7fffffff;
	h->kernel_alignment = 0x200000;
	h->relocatable_kernel = 1;
	h->xloadflags = XLF_KERNEL_64;
	h->cmdline_size = 2047;
	h->pref_address = 0x1000000;
	h->init_size = 0x100000;
	memset(image + SETUP_SIZE, 0xc3, PAYLOAD);
	return image;
}

#define HEADER(image)	((struct setup_header *)((image) + 0x1f1))

/* Changes the good image by @change and loads it into @size bytes of RAM. */
#define BZIMAGE_RESULT(size, change) ({				\
	struct keel_memory *_mem = memory(size);		\
	uint8_t *_image = bzimage();				\
	struct setup_header *h = HEADER(_image);		\
	struct keel_kernel _k;					\
	int _ret;						\
	change;							\
	(void)h;						\
	_ret = keel_load_kernel(_image, IMAGE, _mem, &_k);	\
	free(_image);						\
	keel_memory_destroy(_mem);				\
	_ret;							\
})

static void bzimage_good(void)
{
	struct keel_memory *mem = memory(MEM);
	uint8_t *image = bzimage();
	struct keel_kernel k;

	CHECK_EQ(keel_load_kernel(image, IMAGE, mem, &k), 0);
	CHECK_EQ(k.start, 0x1000000);
	CHECK_EQ(k.end, 0x1100000);
	CHECK_EQ(k.entry, 0x1000200);
	CHECK_EQ(k.initrd_max, 0x7fffffff);
	CHECK_EQ(k.cmdline_max, 2047);
	CHECK(!memcmp(keel_memory_at(mem, k.start, PAYLOAD), image + SETUP_SIZE, PAYLOAD));
	free(image);
	keel_memory_destroy(mem);
}

static void bzimage_moves_when_memory_is_small(void)
{
	struct keel_memory *mem = memory(8 * KEEL_MIB);
	uint8_t *image = bzimage();
	struct keel_kernel k;

	CHECK_EQ(keel_load_kernel(image, IMAGE, mem, &k), 0);
	CHECK_EQ(k.start, 0x200000);
	HEADER(image)->relocatable_kernel = 0;
	CHECK_EQ(keel_load_kernel(image, IMAGE, mem, &k), -ENOMEM);
	HEADER(image)->pref_address = 0x100000;
	CHECK_EQ(keel_load_kernel(image, IMAGE, mem, &k), 0);
	CHECK_EQ(k.start, 0x100000);
	free(image);
	keel_memory_destroy(mem);
}

static void bzimage_hostile_fields(void)
{
	CHECK_EQ(BZIMAGE_RESULT(MEM, ), 0);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->boot_flag = 0), -ENOEXEC);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->header = 0), -ENOEXEC);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->version = 0x020b), -ENOEXEC);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->loadflags = 0), -ENOEXEC);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->xloadflags = 0), -ENOEXEC);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->jump = 0x10eb), -ENOEXEC);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->setup_sects = 255), -ENOEXEC);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->setup_sects = 0), 0);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->init_size = 0xffffffff), -ENOMEM);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->init_size = 0), 0);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->kernel_alignment = 0), -ENOEXEC);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->kernel_alignment = 0x300000), -ENOEXEC);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->kernel_alignment = 0x80000000), -ENOEXEC);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->kernel_alignment = 0x40000000), -ENOMEM);
	/* relocatable: an impossible preference is overruled */
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->pref_address = UINT64_MAX & ~0x1fffffULL), 0);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->pref_address = 0), 0);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->relocatable_kernel = 0; h->pref_address = 0), -ENOMEM);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->relocatable_kernel = 0; h->pref_address = UINT64_MAX),
		 -ENOMEM);
	CHECK_EQ(BZIMAGE_RESULT(MEM, h->relocatable_kernel = 0; h->pref_address = MEM - 0x1000),
		 -ENOMEM);
}

static void bzimage_cut_short(void)
{
	static const size_t sizes[] = { 0, 1, 0x1f1, 0x200, 0x206, 0x210, 0x263, 0x267, 0x268,
					SETUP_SIZE - 1, SETUP_SIZE, SETUP_SIZE + 0x200 };
	struct keel_memory *mem = memory(MEM);
	uint8_t *good = bzimage();
	struct keel_kernel k;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint8_t *image = malloc(sizes[i] ? sizes[i] : 1);

		memcpy(image, good, sizes[i]);
		/* a header that claims to end beyond the file, where there is room to claim it */
		if (sizes[i] > 0x201)
			image[0x201] = 0xff;
		CHECK_EQ(keel_load_kernel(image, sizes[i], mem, &k), -ENOEXEC);
		CHECK_EQ(keel_load_bzimage(image, sizes[i], mem, &k), -ENOEXEC);
		free(image);
	}
	free(good);
	keel_memory_destroy(mem);
}

/* ELF -------------------------------------------------------------------------------------- */

#define ELF_DATA	0x1000
#define ELF_IMAGE	(ELF_DATA + 0x2000)

static uint8_t *elf(void)
{
	uint8_t *image = calloc(1, ELF_IMAGE);
	Elf64_Ehdr *eh = (Elf64_Ehdr *)image;
	Elf64_Phdr *ph = (Elf64_Phdr *)(image + sizeof(*eh));

	memcpy(eh->e_ident, ELFMAG, SELFMAG);
	eh->e_ident[EI_CLASS] = ELFCLASS64;
	eh->e_ident[EI_DATA] = ELFDATA2LSB;
	eh->e_type = ET_EXEC;
	eh->e_machine = EM_X86_64;
	eh->e_entry = 0x1000010;
	eh->e_phoff = sizeof(*eh);
	eh->e_phentsize = sizeof(*ph);
	eh->e_phnum = 2;
	ph[0] = (Elf64_Phdr) { .p_type = PT_LOAD, .p_offset = ELF_DATA, .p_filesz = 0x1000,
			       .p_memsz = 0x3000, .p_paddr = 0x1000000,
			       .p_vaddr = 0xffffffff81000000 };
	ph[1] = (Elf64_Phdr) { .p_type = PT_LOAD, .p_offset = ELF_DATA + 0x1000,
			       .p_filesz = 0x1000, .p_memsz = 0x1000, .p_paddr = 0x2000000,
			       .p_vaddr = 0xffffffff82000000 };
	memset(image + ELF_DATA, 0xc3, 0x2000);
	return image;
}

#define ELF_RESULT(change) ({						\
	struct keel_memory *_mem = memory(MEM);				\
	uint8_t *_image = elf();					\
	Elf64_Ehdr *eh = (Elf64_Ehdr *)_image;				\
	Elf64_Phdr *ph = (Elf64_Phdr *)(_image + sizeof(*eh));		\
	struct keel_kernel _k;						\
	int _ret;							\
	change;								\
	(void)ph;							\
	_ret = keel_load_kernel(_image, ELF_IMAGE, _mem, &_k);		\
	free(_image);							\
	keel_memory_destroy(_mem);					\
	_ret;								\
})

static void elf_good(void)
{
	struct keel_memory *mem = memory(MEM);
	uint8_t *image = elf(), *at = keel_memory_at(mem, 0x1000000, 0x3000);
	struct keel_kernel k;

	memset(at, 0xee, 0x3000);
	CHECK_EQ(keel_load_kernel(image, ELF_IMAGE, mem, &k), 0);
	CHECK_EQ(k.start, 0x1000000);
	CHECK_EQ(k.end, 0x2001000);
	CHECK_EQ(k.entry, 0x1000010);
	CHECK_EQ(at[0xfff], 0xc3);
	CHECK_EQ(at[0x1000], 0);
	CHECK_EQ(at[0x2fff], 0);
	/* the entry as a virtual address means the same place */
	((Elf64_Ehdr *)image)->e_entry = 0xffffffff82000020;
	CHECK_EQ(keel_load_kernel(image, ELF_IMAGE, mem, &k), 0);
	CHECK_EQ(k.entry, 0x2000020);
	free(image);
	keel_memory_destroy(mem);
}

static void elf_hostile_fields(void)
{
	CHECK_EQ(ELF_RESULT(), 0);
	CHECK_EQ(ELF_RESULT(eh->e_ident[EI_CLASS] = ELFCLASS32), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(eh->e_ident[EI_DATA] = ELFDATA2MSB), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(eh->e_machine = EM_386), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(eh->e_type = ET_REL), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(eh->e_phnum = 0), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(eh->e_phnum = 0xffff), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(eh->e_phentsize = 1), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(eh->e_phoff = UINT64_MAX), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(eh->e_phoff = ELF_IMAGE - 8), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(eh->e_entry = 0x5000000), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(ph[0].p_filesz = 0x4000), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(ph[0].p_filesz = ph[0].p_memsz = UINT64_MAX), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(ph[0].p_offset = UINT64_MAX), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(ph[0].p_offset = ELF_IMAGE - 0xfff), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(ph[0].p_memsz = UINT64_MAX), -ENOMEM);
	CHECK_EQ(ELF_RESULT(ph[0].p_memsz = MEM), -ENOMEM);
	CHECK_EQ(ELF_RESULT(ph[0].p_paddr = 0), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(ph[0].p_paddr = UINT64_MAX), -ENOEXEC);
	CHECK_EQ(ELF_RESULT(ph[0].p_paddr = MEM), -ENOMEM);
	CHECK_EQ(ELF_RESULT(ph[0].p_type = ph[1].p_type = PT_NOTE), -ENOEXEC);
}

static void not_a_kernel(void)
{
	struct keel_memory *mem = memory(MEM);
	struct keel_kernel k;
	char text[8192];

	memset(text, 'x', sizeof(text));
	CHECK_EQ(keel_load_kernel(text, sizeof(text), mem, &k), -ENOEXEC);
	CHECK(strstr(keel_error(), "not a Linux kernel"));
	CHECK_EQ(keel_load_kernel("\177ELF", 4, mem, &k), -ENOEXEC);
	keel_memory_destroy(mem);
}

/* What Linux is given ---------------------------------------------------------------------- */

static int boot(struct keel_memory *mem, const struct keel_kernel *k, const void *initrd,
		size_t size, const char *cmdline)
{
	return keel_boot_linux(mem, k, &(struct keel_boot) {
		.initrd = initrd, .initrd_size = size, .cmdline = cmdline,
		.cpus = 1, .timer_pin = 2,
	});
}

static struct keel_kernel loaded(struct keel_memory *mem)
{
	struct keel_kernel k;
	uint8_t *image = bzimage();

	CHECK_EQ(keel_load_kernel(image, IMAGE, mem, &k), 0);
	free(image);
	return k;
}

static void boot_params_filled(void)
{
	struct keel_memory *mem = memory(MEM);
	struct keel_kernel k = loaded(mem);
	const struct boot_params *bp = keel_memory_at(mem, BOOT_PARAMS, sizeof(*bp));

	CHECK_EQ(boot(mem, &k, "initrd", 6, "a=1 b=2"), 0);
	CHECK_EQ(bp->sentinel, 0);
	CHECK_EQ(bp->hdr.version, 0x020f);
	CHECK_EQ(bp->hdr.type_of_loader, 0xff);
	CHECK_EQ(bp->hdr.ramdisk_size, 6);
	CHECK_EQ(bp->hdr.ramdisk_image, MEM - KEEL_PAGE_SIZE);
	CHECK(!memcmp(keel_memory_at(mem, bp->hdr.ramdisk_image, 6), "initrd", 6));
	CHECK(!strcmp(keel_memory_at(mem, bp->hdr.cmd_line_ptr, 8), "a=1 b=2"));
	CHECK_EQ(bp->e820_entries, 5);
	keel_memory_destroy(mem);
}

static void initrd_placement(void)
{
	struct keel_memory *mem = memory(MEM);
	struct keel_kernel k = loaded(mem);
	const struct boot_params *bp = keel_memory_at(mem, BOOT_PARAMS, sizeof(*bp));
	void *initrd = calloc(1, MEM);

	/* as high as allowed: its last byte is at initrd_max or below */
	k.initrd_max = 0x2000fff;
	CHECK_EQ(boot(mem, &k, initrd, 0x1000, NULL), 0);
	CHECK_EQ(bp->hdr.ramdisk_image, 0x2000000);
	CHECK_EQ(boot(mem, &k, initrd, 0x1001, NULL), 0);
	CHECK_EQ(bp->hdr.ramdisk_image, 0x1fff000);
	/* down to the kernel's end and no further */
	CHECK_EQ(boot(mem, &k, initrd, 0x2001000 - k.end, NULL), 0);
	CHECK_EQ(bp->hdr.ramdisk_image, k.end);
	CHECK_EQ(boot(mem, &k, initrd, 0x2001001 - k.end, NULL), -ENOMEM);
	CHECK_EQ(boot(mem, &k, initrd, MEM, NULL), -ENOMEM);
	k.initrd_max = 0;
	CHECK_EQ(boot(mem, &k, initrd, 1, NULL), -ENOMEM);
	free(initrd);
	keel_memory_destroy(mem);
}

static void cmdline_limit(void)
{
	struct keel_memory *mem = memory(MEM);
	struct keel_kernel k = loaded(mem);
	char *text = malloc(BOOT_CMDLINE_ROOM + 2);

	memset(text, 'a', BOOT_CMDLINE_ROOM + 1);
	text[BOOT_CMDLINE_ROOM + 1] = '\0';
	/* a header may promise more than there is room for */
	k.cmdline_max = UINT32_MAX;
	CHECK_EQ(boot(mem, &k, NULL, 0, text), -E2BIG);
	text[BOOT_CMDLINE_ROOM - 1] = '\0';
	CHECK_EQ(boot(mem, &k, NULL, 0, text), 0);
	k.cmdline_max = 2047;
	text[2048] = '\0';
	CHECK_EQ(boot(mem, &k, NULL, 0, text), -E2BIG);
	text[2047] = '\0';
	CHECK_EQ(boot(mem, &k, NULL, 0, text), 0);
	free(text);
	keel_memory_destroy(mem);
}

/* Walks the boot page tables as the CPU would. */
static uint64_t walk(const struct keel_memory *mem, uint64_t cr3, uint64_t va)
{
	uint64_t table = cr3, entry = 0;

	for (int shift = 39; shift >= 21; shift -= 9) {
		memcpy(&entry, keel_memory_at(mem, table + (va >> shift & 511) * 8, 8), 8);
		if (!(entry & 1))
			return UINT64_MAX;
		table = entry & 0xffffffffff000;
	}
	return entry & 0x80 ? table + (va & 0x1fffff) : UINT64_MAX;
}

static void boot_state(void)
{
	struct keel_memory *mem = memory(MEM);
	struct keel_kernel k = loaded(mem);
	struct kvm_sregs sregs = { 0 };
	struct kvm_regs regs;
	uint64_t descriptor;

	CHECK_EQ(boot(mem, &k, NULL, 0, NULL), 0);
	keel_boot_regs(&k, &sregs, &regs);
	CHECK_EQ(regs.rip, k.entry);
	CHECK_EQ(regs.rsi, BOOT_PARAMS);
	CHECK_EQ(regs.rflags, 2);
	CHECK_EQ(sregs.efer, 0x500);
	CHECK_EQ(sregs.cr0 & 0x80000001, 0x80000001);
	CHECK_EQ(sregs.cs.l, 1);
	CHECK_EQ(sregs.cs.db, 0);
	for (uint64_t va = 0; va < 4 * KEEL_GIB; va += 2 * KEEL_MIB - 1)
		CHECK_EQ(walk(mem, sregs.cr3, va), va);
	memcpy(&descriptor, keel_memory_at(mem, sregs.gdt.base + sregs.cs.selector, 8), 8);
	CHECK_EQ(descriptor >> 53 & 1, sregs.cs.l);
	CHECK_EQ(descriptor >> 40 & 0xf, sregs.cs.type);
	keel_memory_destroy(mem);
}

/* Fuzzing ---------------------------------------------------------------------------------- */

static uint64_t random64(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

static void mutate(uint8_t *at, size_t len)
{
	static const uint64_t edge[] = { 0, 1, 0xff, 0xffff, 0x7fffffff, 0xffffffff, 0x100000,
					 MEM, MEM - 1, INT64_MAX, UINT64_MAX, UINT64_MAX - 0xfff };
	unsigned int changes = 1 + random64() % 4;

	while (changes--) {
		uint64_t value = random64() % 2 ? random64() : edge[random64() % 12];
		size_t width = 1 << random64() % 4;

		memcpy(at + random64() % (len - 8), &value, width);
	}
}

static void fuzz(uint8_t *(*make)(void), size_t size, size_t from, size_t len)
{
	struct keel_memory *mem = memory(MEM);
	unsigned int good = 0, bad = 0;

	for (int i = 0; i < FUZZ_ROUNDS; i++) {
		uint8_t *image = make();
		struct keel_kernel k;

		mutate(image + from, len);
		if (keel_load_kernel(image, size, mem, &k)) {
			bad++;
		} else {
			good++;
			CHECK(k.start >= BOOT_KERNEL_MIN && k.start < k.end && k.end <= MEM);
			CHECK(k.entry >= k.start && k.entry < k.end);
			boot(mem, &k, "x", 1, "quiet");
		}
		free(image);
	}
	printf("# %u refused, %u loaded\n", bad, good);
	CHECK(good > 0);
	CHECK(bad > 0);
	keel_memory_destroy(mem);
}

static void fuzz_bzimage(void)
{
	fuzz(bzimage, IMAGE, 0x1f1, 0x80);
}

static void fuzz_elf(void)
{
	fuzz(elf, ELF_IMAGE, 4, sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr) - 4);
}

TESTS(TEST(bzimage_good), TEST(bzimage_moves_when_memory_is_small), TEST(bzimage_hostile_fields),
      TEST(bzimage_cut_short), TEST(elf_good), TEST(elf_hostile_fields), TEST(not_a_kernel),
      TEST(boot_params_filled), TEST(initrd_placement), TEST(cmdline_limit), TEST(boot_state),
      TEST(fuzz_bzimage), TEST(fuzz_elf));
