// SPDX-License-Identifier: GPL-2.0-only
/*
 * A load of TLB shootdowns that notices a stale translation. Runs in a guest, as:
 *
 *	shootdown THREADS ROUNDS
 *
 * Each thread owns a slot, a page at a fixed address, and all threads read all slots all the time.
 *
 * replace: the owner writes a new generation number to a fresh page, moves that page to the slot,
 * and publishes the number. Who has seen the number and then reads an older one from the slot still
 * goes by the old translation. (While the page moves, readers wait in their fault for the kernel.)
 *
 * protect: the others count up a word in the slot; the owner makes the page read-only, and from then
 * on the word must stand still. A writer that faults waits until the page is writable again.
 *
 * unmap: the slot goes away altogether for a moment; whoever reads it then must fault.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_THREADS	64
#define PAGE		4096UL
/* Where the kernel places nothing of its own accord: it would take the hole that a slot leaves. */
#define SLOT_BASE	0x100000000UL
#define SLOT_STRIDE	0x10000UL

struct page {
	volatile uint64_t generation;
	atomic_ullong word;
};

struct slot {
	struct page *page;
	atomic_ullong generation;	/* published: the slot has this one or a later one */
	atomic_ullong gone;		/* odd while the slot is unmapped for sure */
};

static struct slot slots[MAX_THREADS];
static unsigned int threads;
static unsigned long rounds;
static atomic_bool stop;
static atomic_ulong stale, faults;
static atomic_uint owners;
static __thread sigjmp_buf fault_jump;
static __thread volatile bool may_fault;

static void die(const char *what)
{
	perror(what);
	_exit(2);
}

static void on_fault(int sig)
{
	(void)sig;
	if (!may_fault) {
		static const char text[] = "shootdown: a fault where none may be\n";

		if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
			_exit(3);
		_exit(2);
	}
	atomic_fetch_add(&faults, 1);
	siglongjmp(fault_jump, 1);
}

static void complain(const char *what, unsigned int slot, uint64_t seen, uint64_t wanted)
{
	if (atomic_fetch_add(&stale, 1) < 10)
		printf("stale: %s, slot %u: %llu, not %llu\n", what, slot, (unsigned long long)seen,
		       (unsigned long long)wanted);
}

static void *fresh(unsigned long address)
{
	void *p = mmap((void *)address, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | (address ? MAP_FIXED : 0), -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static void replace(struct slot *s, uint64_t generation)
{
	struct page *new = fresh(0);

	new->generation = generation;
	if (mremap(new, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, s->page) != s->page)
		die("mremap");
	atomic_store(&s->generation, generation);
}

static void protect(struct slot *s, unsigned int n)
{
	uint64_t before, after;

	if (mprotect(s->page, PAGE, PROT_READ))
		die("mprotect");
	before = atomic_load(&s->page->word);
	for (int i = 0; i < 200; i++)
		__asm__ volatile("pause");
	sched_yield();
	after = atomic_load(&s->page->word);
	if (before != after)
		complain("written while read-only", n, after, before);
	if (mprotect(s->page, PAGE, PROT_READ | PROT_WRITE))
		die("mprotect");
}

static void unmap(struct slot *s, uint64_t generation)
{
	if (munmap(s->page, PAGE))
		die("munmap");
	atomic_fetch_add(&s->gone, 1);
	for (int i = 0; i < 200; i++)
		__asm__ volatile("pause");
	atomic_fetch_add(&s->gone, 1);
	replace(s, generation);
}

/* One look at a slot, which may be gone: then a fault brings us back here. */
static void look(unsigned int n, bool write)
{
	struct slot *s = &slots[n];
	uint64_t wanted, seen, gone;

	may_fault = true;
	if (sigsetjmp(fault_jump, 1)) {
		may_fault = false;
		sched_yield();
		return;
	}
	gone = atomic_load(&s->gone);
	wanted = atomic_load(&s->generation);
	seen = s->page->generation;
	if (gone % 2 && atomic_load(&s->gone) == gone)
		complain("read while unmapped", n, seen, wanted);
	if (seen < wanted)
		complain("old page", n, seen, wanted);
	if (write)
		atomic_fetch_add(&s->page->word, 1);
	may_fault = false;
}

static void *owner(void *arg)
{
	unsigned int n = (uintptr_t)arg;
	struct slot *s = &slots[n];

	for (unsigned long r = 1; r <= rounds; r++) {
		switch (r % 3) {
		case 0:
			replace(s, r);
			break;
		case 1:
			protect(s, n);
			break;
		case 2:
			unmap(s, r);
			break;
		}
		for (unsigned int i = 0; i < 2 * threads; i++)
			look((n + i) % threads, i % threads);
	}
	if (atomic_fetch_sub(&owners, 1) == 1)
		atomic_store(&stop, true);
	while (!atomic_load(&stop))
		for (unsigned int i = 0; i < threads; i++)
			look(i, true);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };
	pthread_t ids[MAX_THREADS];

	threads = argc > 1 ? atoi(argv[1]) : 4;
	rounds = argc > 2 ? atol(argv[2]) : 1000;
	if (!threads || threads > MAX_THREADS)
		return 2;
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	atomic_store(&owners, threads);
	for (unsigned int i = 0; i < threads; i++)
		slots[i].page = fresh(SLOT_BASE + i * SLOT_STRIDE);
	for (unsigned int i = 0; i < threads; i++)
		if (pthread_create(&ids[i], NULL, owner, (void *)(uintptr_t)i))
			die("pthread_create");
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	printf("%u threads, %lu rounds, %lu stale\n", threads, rounds, atomic_load(&stale));
	fprintf(stderr, "%lu faults\n", atomic_load(&faults));
	return atomic_load(&stale) ? 1 : 0;
}
