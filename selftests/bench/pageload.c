// SPDX-License-Identifier: GPL-2.0-only
/*
 * In a Linux guest, for bench-paging: writes to each page of so much memory, again and again, and looks whether it still
 * holds what it should. Says how many pages the guest itself has swapped meanwhile.
 *
 *	pageload MIB ROUNDS keep|free	free: the memory is given back after each round; it says so after a while
 *
 * It begins with a line of input, and goes on with one after it has said that memory is free.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE	4096UL
#define PAUSE	5	/* seconds; free pages are reported two seconds after they became so */

static long vmstat(const char *name)
{
	FILE *f = fopen("/proc/vmstat", "r");
	char found[64];
	long value;

	while (f && fscanf(f, "%63s %ld", found, &value) == 2) {
		if (strcmp(found, name))
			continue;
		fclose(f);
		return value;
	}
	exit(1);
}

static char *get(unsigned long size)
{
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		exit(1);
	madvise(memory, size, MADV_NOHUGEPAGE);
	return memory;
}

int main(int argc, char **argv)
{
	unsigned long size = argc == 4 ? strtoul(argv[1], NULL, 10) << 20 : 0, i, round, want;
	unsigned long rounds = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
	char line[8], *memory = NULL;
	long out, in;

	if (!size)
		return 1;
	puts("ready");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 1;
	out = vmstat("pswpout");
	in = vmstat("pswpin");
	for (round = 0; round < rounds; round++) {
		if (!memory)
			memory = get(size);
		for (i = 0; i < size; i += PAGE) {
			want = round && *argv[3] == 'k' ? i + round : 0;
			if (*(unsigned long *)(memory + i) != want) {
				printf("page %lx holds %lx\n", i / PAGE, *(unsigned long *)(memory + i));
				return 1;
			}
			*(unsigned long *)(memory + i) = i + round + 1;
		}
		if (*argv[3] == 'f') {
			munmap(memory, size);
			memory = NULL;
			sleep(PAUSE);
			puts("freed");
			fflush(stdout);
			if (!fgets(line, sizeof(line), stdin))
				return 1;
		}
	}
	printf("guest %ld %ld\n", vmstat("pswpout") - out, vmstat("pswpin") - in);
	fflush(stdout);
	return 0;
}
