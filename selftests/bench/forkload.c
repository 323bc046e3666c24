// SPDX-License-Identifier: GPL-2.0-only
/*
 * In a Linux guest: forks children that write to some of their memory and end, one after the other, and says by how much
 * the time stamp counter went on meanwhile. Before and after it waits for a line of input.
 *
 *	forkload FORKS
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#define PAGE	4096
#define PAGES	240
#define WRITTEN	32

static void touch(volatile char *memory)
{
	for (int i = 0; i < WRITTEN; i++)
		memory[i * PAGE]++;
}

int main(int argc, char **argv)
{
	unsigned long forks = argc > 1 ? strtoul(argv[1], NULL, 10) : 0, i;
	unsigned long long start;
	char line[8], *memory;

	memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE))
		return 1;
	memset(memory, 1, PAGES * PAGE);
	printf("ready\n");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 1;
	start = __rdtsc();
	for (i = 0; i < forks; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return 1;
		touch(memory);
		if (!pid)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
	printf("%lu forks, %llu ticks\n", forks, __rdtsc() - start);
	fflush(stdout);
	return !fgets(line, sizeof(line), stdin);
}
