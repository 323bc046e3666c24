// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's memory, from /proc; see health.h.
 * The slabs' lines: name, objects in use, objects, size, objects a slab, pages a slab, and at their end the slabs.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "health.h"
#include "vmtest.h"

static char *read_file(const char *name)
{
	static char buf[262144];
	int fd = open(name, O_RDONLY), n = 0, ret;

	if (fd < 0)
		die("no %s", name);
	while ((ret = read(fd, buf + n, sizeof(buf) - 1 - n)) > 0)
		n += ret;
	close(fd);
	buf[n] = 0;
	return buf;
}

static long field(const char *buf, const char *name)
{
	const char *p = strstr(buf, name);

	if (!p)
		die("no %s in /proc/meminfo", name);
	return atol(p + strlen(name));
}

/* Free pages, with those in the per-CPU lists, which /proc/meminfo does not count as free. */
static long free_pages(void)
{
	static const char *const lines[] = { "pages free", " count:" };
	char *zones = read_file("/proc/zoneinfo"), *p;
	long sum = 0;
	int i;

	for (i = 0; i < 2; i++) {
		for (p = zones; (p = strstr(p, lines[i])); p++)
			sum += atol(p + strlen(lines[i]));
	}
	return sum;
}

static void tell(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		die("cannot write %s", name);
	close(fd);
}

/* Each CPU keeps slabs of its own of each cache, with objects that count as used, and each node empty ones. */
static void shrink_slabs(void)
{
	DIR *dir = opendir("/sys/kernel/slab");
	const struct dirent *entry;
	char name[300];

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "/sys/kernel/slab/%s/shrink", entry->d_name);
		tell(name, "1");
	}
	if (dir)
		closedir(dir);
}

struct meminfo host_meminfo(void)
{
	struct meminfo m;
	const char *buf;
	long free;

	/* What waits for a grace period or in a cache is not lost. */
	usleep(500000);
	tell("/proc/sys/vm/drop_caches", "3");
	shrink_slabs();
	free = free_pages();
	buf = read_file("/proc/meminfo");
	m.kernel = field(buf, "MemTotal:") - free * (PAGE_SIZE / 1024) - field(buf, "\nBuffers:") -
		   field(buf, "\nCached:") - field(buf, "\nAnonPages:") - field(buf, "\nSReclaimable:");
	m.slab = field(buf, "\nSUnreclaim:");
	m.percpu = field(buf, "\nPercpu:");
	m.vmalloc = field(buf, "\nVmallocUsed:");
	m.stacks = field(buf, "\nKernelStack:");
	return m;
}

void host_slabs(struct slabs *s)
{
	long active, pages, slabs;
	char *line, *rest;

	s->n = 0;
	for (line = strtok_r(read_file("/proc/slabinfo"), "\n", &rest); line && s->n < MAX_SLABS;
	     line = strtok_r(NULL, "\n", &rest)) {
		struct slab_cache *c = &s->cache[s->n];

		if (sscanf(line, "%31s %ld %*d %*d %*d %ld : tunables %*d %*d %*d : slabdata %*d %ld", c->name, &active, &pages,
			   &slabs) != 4)
			continue;
		c->active = active;
		c->kib = slabs * pages * (PAGE_SIZE / 1024);
		s->n++;
	}
}

void host_slabs_print_grown(const struct slabs *before, long kib)
{
	static struct slabs now;
	int i, j;

	host_slabs(&now);
	for (i = 0; i < now.n; i++) {
		const struct slab_cache *c = &now.cache[i], *old = NULL;

		for (j = 0; j < before->n; j++)
			if (!strcmp(before->cache[j].name, c->name))
				old = &before->cache[j];
		if (c->kib - (old ? old->kib : 0) < kib)
			continue;
		printf("# slab %s: %ld KiB more, %ld objects\n", c->name, c->kib - (old ? old->kib : 0),
		       c->active - (old ? old->active : 0));
	}
}

long host_taint(void)
{
	return atol(read_file("/proc/sys/kernel/tainted"));
}
