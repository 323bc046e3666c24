// SPDX-License-Identifier: GPL-2.0-only
/*
 * For reclaim.sh: guests that verify and rewrite every page of their memory while the host takes it away.
 *
 *	memhog GUESTS MIB ROUNDS [mergeable] [discard] [huge] [blind] [aging]
 *
 * Each page holds the number of the round and, unless it is to be merged, its own. A round adds one, in the guest; then
 * the client, unless it is blind, looks at all pages. Ends with 0 when all guests came through all rounds and every
 * page held what it should; with aging, also only if the host swapped what the guest left alone, and nothing else.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "guest.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

#define MB		0x100000UL
#define SLOT		5
#define GPA		0x40000000UL
#define PORT_BAD	0xd2
#define MAX_GUESTS	8

/*
 * rdi pages from rsi on. The first and the last word of each hold rbx, and r8 more in each page than in the one
 * before: makes them one more. What holds something else: the other port.
 */
GUEST(round, 64,
      "sti\n"
      "1: mov %rsi, %rax\n"
      "mov %rdi, %rcx\n"
      "mov %rbx, %rdx\n"
      "2: lea 1(%rdx), %r9\n"
      "mov (%rax), %r10\n"
      "cmp %rdx, %r10\n"
      "jne 3f\n"
      "mov 4088(%rax), %r10\n"
      "cmp %rdx, %r10\n"
      "jne 3f\n"
      "mov %r9, (%rax)\n"
      "mov %r9, 4088(%rax)\n"
      "add $4096, %rax\n"
      "add %r8, %rdx\n"
      "dec %rcx\n"
      "jnz 2b\n"
      "inc %rbx\n"
      G_SYNC
      "jmp 1b\n"
      "3: outb %al, $" STR(PORT_BAD) "\n"
      "jmp 3b\n");

struct hog {
	struct guest g;
	uint8_t *mem;
	size_t size;
	unsigned long rounds;
	uint64_t step;			/* what a page holds more than the one before */
	bool discard;
	bool blind;			/* only the guest looks */
	bool aging;
};

static uint64_t wanted(const struct hog *h, size_t offset, unsigned long round)
{
	return round + offset / PAGE_SIZE * h->step;
}

static void fill(struct hog *h, size_t from, unsigned long round)
{
	size_t i;

	for (i = from; i < h->size; i += PAGE_SIZE) {
		*(uint64_t *)(h->mem + i) = wanted(h, i, round);
		*(uint64_t *)(h->mem + i + PAGE_SIZE - 8) = wanted(h, i, round);
	}
}

static bool holds(struct hog *h, unsigned long round)
{
	size_t i;

	for (i = 0; i < h->size; i += PAGE_SIZE) {
		uint64_t want = wanted(h, i, round);

		if (*(uint64_t *)(h->mem + i) != want || *(uint64_t *)(h->mem + i + PAGE_SIZE - 8) != want) {
			fprintf(stderr, "# offset %zx holds %lx, not %lx\n", i, *(uint64_t *)(h->mem + i), want);
			return false;
		}
	}
	return true;
}

static size_t pages_in_swap(const struct hog *h)
{
	int fd = MUST(open("/proc/self/pagemap", O_RDONLY));
	size_t i, n = 0;
	uint64_t entry;

	for (i = 0; i < h->size; i += PAGE_SIZE) {
		if (pread(fd, &entry, sizeof(entry), ((uintptr_t)h->mem + i) / PAGE_SIZE * 8) != sizeof(entry))
			die("the page map cannot be read");
		n += entry >> 62 & 1;
	}
	close(fd);
	return n;
}

/*
 * The host is to swap all pages. It spares those that were used since it asked last: after a round all of them, and none
 * when it asks again. That the client has looked at them, too, MADV_PAGEOUT forgets by itself.
 */
static bool ages(struct hog *h)
{
	size_t pages = h->size / PAGE_SIZE, first, second;

	MUST(madvise(h->mem, h->size, MADV_PAGEOUT));
	first = pages_in_swap(h);
	MUST(madvise(h->mem, h->size, MADV_PAGEOUT));
	second = pages_in_swap(h);
	fprintf(stderr, "# of %zu pages %zu swapped after use, %zu after none\n", pages, first, second);
	return first < pages / 4 && second > pages / 4 * 3;
}

static bool one_round(struct hog *h, unsigned long round)
{
	size_t half = h->size / 2;
	struct kvm_regs r;
	long ret;

	do
		ret = guest_run(&h->g);
	while (ret == -EINTR);
	if (ret != KVM_EXIT_IO || !guest_at_port(&h->g, PORT_SYNC)) {
		r = vcpu_regs(&h->g.cpu);
		fprintf(stderr, "# exit %ld: gpa %llx holds %llx, not %llx\n", ret, r.rax, r.r10, r.rdx);
		return false;
	}
	if (!h->blind && !holds(h, round))
		return false;
	if (h->aging && !ages(h))
		return false;
	if (h->discard) {
		/* The guest must find the new pages, not those that it knew. */
		if (madvise(h->mem + half, h->size - half, MADV_DONTNEED))
			return false;
		fill(h, half, round);
	}
	return true;
}

static bool hog_run(struct hog *h, int advice, bool mergeable)
{
	struct kvm_regs r = {
		.rip = GUEST_CODE, .rflags = 2, .rsp = GUEST_STACK, .rdi = h->size / PAGE_SIZE, .rsi = GPA, .r8 = h->step,
	};
	unsigned long i;
	bool good = true;

	h->mem = mem_alloc(h->size);
	madvise(h->mem, h->size, advice);
	if (mergeable)
		madvise(h->mem, h->size, MADV_MERGEABLE);
	fill(h, 0, 0);
	guest_create(&h->g, 0);
	MUST(vm_set_slot(h->g.vm, SLOT, 0, GPA, h->size, h->mem));
	guest_start(&h->g, MODE_LONG, BLOB(round));
	vcpu_set_regs(&h->g.cpu, &r);
	for (i = 1; good && i <= h->rounds; i++)
		good = one_round(h, i);
	return good;
}

int main(int argc, char **argv)
{
	int i, status, n = argc > 3 ? atoi(argv[1]) : 0, advice = MADV_NOHUGEPAGE;
	bool good = true, mergeable = false;
	struct hog h = { .step = 1UL << 32 };

	if (n < 1 || n > MAX_GUESTS) {
		fprintf(stderr, "usage: memhog GUESTS MIB ROUNDS [mergeable] [discard] [huge] [blind] [aging]\n");
		return 2;
	}
	h.size = atoi(argv[2]) * MB;
	h.rounds = atoi(argv[3]);
	for (i = 4; i < argc; i++) {
		mergeable |= !strcmp(argv[i], "mergeable");
		h.blind |= !strcmp(argv[i], "blind");
		h.aging |= !strcmp(argv[i], "aging");
		h.discard |= !strcmp(argv[i], "discard");
		if (!strcmp(argv[i], "huge"))
			advice = MADV_HUGEPAGE;
	}
	if (mergeable)
		h.step = 0;
	/* A process each, or one guest's faults would wait for the invalidations that another's cause. */
	for (i = 0; i < n; i++)
		if (!MUST(fork()))
			_exit(!hog_run(&h, advice, mergeable));
	for (i = 0; i < n; i++)
		good &= wait(&status) > 0 && !status;
	return !good;
}
