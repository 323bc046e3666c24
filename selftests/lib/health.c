// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host's memory, from /proc; see health.h.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "health.h"
#include "vmtest.h"

static char *read_file(const char *name)
{
	static char buf[65536];
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

struct meminfo host_meminfo(void)
{
	struct meminfo m;
	const char *buf;
	long free;
	int fd;

	/* What waits for a grace period or in a cache is not lost. */
	fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	if (fd >= 0) {
		if (write(fd, "3", 1) != 1)
			die("cannot drop caches");
		close(fd);
	}
	usleep(500000);
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

long host_taint(void)
{
	return atol(read_file("/proc/sys/kernel/tainted"));
}
